//! Totals of quotas, against Apache's rules on plain maps, on whatever stands between a transaction and a client: a
//! replica that applies it, a log that is replayed, and snapshots of all kinds.

use super::*;
use std::collections::BTreeMap;

const QUOTAS: &str = "/zookeeper/quota";
const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";

/// The tree as a client reads it: paths, their data, and the owners of ephemeral nodes. The rules are those of
/// `DataTree`, `StatsTrack` and `PathTrie` of Apache 3.9.5, for a server that was never started again.
#[derive(Clone)]
struct Model {
    data: BTreeMap<String, Option<String>>,
    owners: BTreeMap<String, SessionId>,
}

/// The names of a path without those that are blank.
fn names(path: &str) -> Vec<&str> {
    let names = path.split('/');
    names.filter(|name| !name.trim().is_empty()).collect()
}

fn size(data: &Option<String>) -> i64 {
    data.as_ref().map_or(0, |text| text.len() as i64)
}

/// `None`: Apache ends where it reads this.
fn numbers(text: &str) -> Option<BTreeMap<&str, i64>> {
    let pairs = text.split([',', ';']).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let mut parts = pair.split('=');
            let name = parts.next()?;
            let number = parts.next()?.parse().ok()?;
            Some((name, number))
        })
        .collect()
}

fn written(numbers: &BTreeMap<&str, i64>) -> String {
    let number = |name| numbers.get(name).copied().unwrap_or(-1);
    let (count, bytes) = (number("count"), number("bytes"));
    let rest = numbers
        .iter()
        .filter(|(name, _)| !["count", "bytes"].contains(name));
    let rest: String = rest
        .map(|(name, number)| format!(";{name}={number}"))
        .collect();
    let mark = if rest.is_empty() { "" } else { "=" };
    format!("count={count},bytes={bytes}{mark}{rest}")
}

impl Model {
    fn new() -> Model {
        let there = ["/", "/zookeeper", QUOTAS, "/zookeeper/config"];
        Model {
            data: there
                .map(|path| (path.to_owned(), Some(String::new())))
                .into(),
            owners: BTreeMap::new(),
        }
    }

    /// The deepest path at or above this one of which a node of limits is there.
    fn quota_over(&self, path: &str) -> Option<String> {
        let limits = self.data.keys().filter_map(|node| {
            let of = node.strip_prefix(QUOTAS)?.strip_suffix(LIMITS)?;
            Some(names(of))
        });
        let own = names(path);
        let above = limits.filter(|of| !of.is_empty() && own.starts_with(of));
        let deepest = above.max_by_key(Vec::len)?;
        Some(deepest.iter().flat_map(|name| ["/", name]).collect())
    }

    fn count(&self, path: &str) -> String {
        let below = format!("{path}/");
        let is_in = |node: &str| node == path || node.starts_with(&below) || path.is_empty();
        let found = self.data.iter().filter(|(node, _)| is_in(node));
        let sizes: Vec<i64> = found.map(|(_, data)| size(data)).collect();
        format!("count={},bytes={}", sizes.len(), sizes.iter().sum::<i64>())
    }

    fn add(&mut self, path: &str, nodes: i64, bytes: i64) {
        let Some(quota) = self.quota_over(path) else {
            return;
        };
        let counted = self.count(&quota);
        let Some(totals) = self.data.get_mut(&format!("{QUOTAS}{quota}{STATS}")) else {
            return;
        };
        let text = totals.clone().unwrap_or_else(|| "null".to_owned());
        // Apache ends where we count again.
        *totals = Some(numbers(&text).map_or(counted, |mut numbers| {
            for (name, more) in [("count", nodes), ("bytes", bytes)] {
                let number = numbers.entry(name).or_insert(-1);
                *number = number.wrapping_add(more);
            }
            written(&numbers)
        }));
    }

    fn delete(&mut self, path: &str) {
        let data = self.data.remove(path).expect("a node that there was");
        self.owners.remove(path);
        self.add(path, -1, -size(&data));
    }

    /// A transaction that has succeeded.
    fn take(&mut self, session: SessionId, request: &WriteRequest) {
        let text = |data: &Option<Arc<[u8]>>| {
            let data = data.as_ref();
            data.map(|data| String::from_utf8(data.to_vec()).expect("a text"))
        };
        match request {
            WriteRequest::Create(create) => {
                let (path, data) = (create.path.to_string(), text(&create.data));
                self.data.insert(path.clone(), data.clone());
                if create.flags == 1 {
                    self.owners.insert(path.clone(), session);
                }
                let of = path
                    .strip_prefix(QUOTAS)
                    .and_then(|node| node.strip_suffix(STATS));
                if let Some(of) = of {
                    let counted = self.count(of);
                    self.data.insert(path.clone(), Some(counted));
                }
                self.add(&path, 1, size(&data));
            }
            WriteRequest::Delete { path, .. } => self.delete(path),
            WriteRequest::SetData { path, data, .. } => {
                let (path, data) = (path.as_deref().expect("a path"), text(data));
                let longer = size(&data) - size(&self.data[path]);
                self.data.insert(path.to_owned(), data);
                self.add(path, 0, longer);
            }
            WriteRequest::Multi(ops) => ops.iter().for_each(|op| self.take(session, op)),
            WriteRequest::CloseSession => {
                let owned = self.owners.iter().filter(|(_, owner)| **owner == session);
                let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
                owned.iter().for_each(|path| self.delete(path));
            }
            other => unreachable!("{other:?} is not among the requests"),
        }
    }

    #[track_caller]
    fn is_what_a_client_reads(&self, tree: &Tree) {
        for (path, due) in &self.data {
            let (data, stat) = tree.get_data(path, &[]).expect("a node of the model");
            let data = data.map(String::from_utf8_lossy);
            assert_eq!(data.as_deref(), due.as_deref(), "{path}");
            assert_eq!(i64::from(stat.data_length), size(due), "{path}");
        }
        assert_eq!(tree.facts().nodes, self.data.len());
        assert_eq!(tree.bytes(), tree.footprint().total());
    }
}

fn create_with(path: &str, data: Option<&str>, flags: i32) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op: OpCode::CREATE,
        path: path.into(),
        data: data.map(|data| data.as_bytes().into()),
        acl: Some(raw_acl(0)),
        flags,
        ttl_ms: 0,
    })
}

/// What happens to a server.
#[derive(Clone, Debug)]
enum Event {
    Request(i64, WriteRequest),
    /// A snapshot of files.
    Merge(usize),
    /// A snapshot out of memory; what is requested while it is made.
    Save(Vec<WriteRequest>),
    /// A start, which reads the newest snapshot and the log behind it.
    Start,
}

/// Quotas inside of quotas, one whose path is registered twice because a name is blank, and one on the quotas
/// themselves.
const PATHS: [&str; 7] = ["/a", "/a/b", "/a/b/c", "/a/ ", "/a/d", "/b", "/zookeeper"];

fn any_single() -> impl Strategy<Value = WriteRequest> {
    let path = proptest::sample::select(PATHS.to_vec());
    let plain = path.clone().prop_map(str::to_owned);
    let of_quota = (path, 0..5usize).prop_map(|(of, name)| {
        let name = ["", LIMITS, LIMITS, STATS, STATS][name];
        format!("{QUOTAS}{of}{name}")
    });
    let of_all = Just(format!("{QUOTAS}{STATS}"));
    let any = prop_oneof![12 => plain, 16 => of_quota, 1 => of_all];
    let texts = [
        Some(""),
        Some("1"),
        Some("12345678"),
        Some("count=5,bytes=7"),
        Some("count=9"),
        Some("x=4;bytes=3"),
        Some("no totals"),
        None,
    ];
    let text = proptest::sample::select(texts.to_vec());
    (any, text, 0..8u32).prop_map(|(path, text, kind)| match kind {
        0..4 => create_with(&path, text, i32::from(kind == 3)),
        4 => delete(&path),
        _ => set(&path, text.map(str::as_bytes)),
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let request = prop_oneof![
        16 => any_single(),
        2 => proptest::collection::vec(any_single(), 1..4).prop_map(WriteRequest::Multi),
        1 => Just(WriteRequest::CloseSession),
    ];
    prop_oneof![
        24 => (1..3i64, request).prop_map(|(session, request)| Event::Request(session, request)),
        1 => prop_oneof![0..600usize, Just(PLENTY)].prop_map(Event::Merge),
        1 => proptest::collection::vec(any_single(), 0..6).prop_map(Event::Save),
        2 => Just(Event::Start),
    ]
}

/// A store, a replica of its tree, and what Apache would show.
struct Server {
    w: World,
    replica: Tree,
    model: Model,
}

impl Server {
    fn new() -> Server {
        let w = World::new(Tree::new());
        Server {
            replica: w.tree.clone(),
            model: Model::new(),
            w,
        }
    }

    fn request(&mut self, session: i64, request: &WriteRequest) {
        let session = SessionId(session);
        let prepared = self.w.request(session, request);
        self.replica.apply(&prepared.entry);
        if prepared.error.is_none() {
            self.model.take(session, request);
        }
    }

    fn merge(&self, memory: usize) {
        // Not made before of the same state.
        if self.w.snapshots().first() != Some(&self.w.tree.last_zxid()) {
            let written = self.w.merge(memory).unwrap();
            assert_eq!(written.root, root(&self.w.tree));
        }
    }

    fn save(&mut self, meanwhile: &[WriteRequest]) {
        if self.w.snapshots().first() == Some(&self.w.tree.last_zxid()) {
            return;
        }
        let (due, order) = (root(&self.w.tree), self.w.order(PLENTY));
        let mut walked = Walked::new(self.w.tree.begin_walk(PLENTY));
        let mut requests = meanwhile.iter();
        while let Some(nodes) = self.w.tree.walk_slice(3) {
            walked = walked.add(&self.w.disk, nodes, order).unwrap();
            if let Some(request) = requests.next() {
                self.request(1, request);
            }
        }
        let written = walked.finish(&self.w.disk, order).unwrap();
        assert_eq!(written.root, due);
    }

    fn start(&mut self) {
        let again = recover(&self.w.disk, &self.w.disk, &mut |_| {}).unwrap();
        assert_eq!(body_of(&again.tree), body_of(&self.w.tree));
        self.w.overlay = Overlay::new(&again.tree);
        self.w.tree = again.tree;
    }

    fn check(&self) {
        self.model.is_what_a_client_reads(&self.w.tree);
        self.model.is_what_a_client_reads(&self.replica);
    }
}

proptest! {
    #[test]
    fn totals_of_quotas_are_apaches_on_each_replica_and_after_each_start(
        events in proptest::collection::vec(any_event(), 0..80),
    ) {
        let mut server = Server::new();
        // So that most of what is asked for can be.
        for path in PATHS {
            for path in [path.to_owned(), format!("{QUOTAS}{path}")] {
                server.request(1, &create_with(&path, Some("12"), 0));
            }
        }
        for event in &events {
            match event {
                Event::Request(session, request) => server.request(*session, request),
                Event::Merge(memory) => server.merge(*memory),
                Event::Save(meanwhile) => server.save(meanwhile),
                Event::Start => server.start(),
            }
            server.check();
        }
        server.start();
        server.merge(PLENTY);
        server.start();
        server.check();
        prop_assert_eq!(body_of(&server.w.tree), body_of(&server.replica));
    }
}

fn limits(of: &str) -> String {
    format!("{QUOTAS}{of}{LIMITS}")
}

fn stats(of: &str) -> String {
    format!("{QUOTAS}{of}{STATS}")
}

/// What totals show depends on all transactions before, and on which quotas there were then.
#[test]
fn totals_of_quotas_are_after_a_start_what_they_were_before_it() {
    let plain = |path: &str, data| create_with(path, Some(data), 0);
    let mut server = Server::new();
    let steps: [&[WriteRequest]; 6] = [
        &[
            plain("/a", "1"),
            plain("/zookeeper/quota/a", ""),
            plain(&limits("/a"), "count=-1,bytes=-1"),
            plain(&stats("/a"), "count=0,bytes=0"),
            plain("/a/b", "12"),
        ],
        // Only the inner one counts from here on.
        &[
            plain("/zookeeper/quota/a/b", ""),
            plain(&limits("/a/b"), ""),
            plain(&stats("/a/b"), ""),
            plain("/a/b/c", "123"),
        ],
        &[set("/a/b/c", Some(b"1234567890")), plain("/a/d", "1")],
        // Nothing counts, then the outer one again, from where it was.
        &[
            delete(&limits("/a/b")),
            delete(&limits("/a")),
            plain("/a/e", "1"),
            plain(&limits("/a"), ""),
            plain("/a/f", "1"),
        ],
        &[
            set(&stats("/a"), Some(b"x=4;bytes=7")),
            // As long as before: the text is written anew all the same.
            set("/a/f", Some(b"2")),
        ],
        &[
            set(&stats("/a"), Some(b"no totals")),
            set(&stats("/a/b"), Some(b"count=9")),
        ],
    ];
    let due = [
        "count=2,bytes=3",
        "count=2,bytes=3",
        "count=3,bytes=4",
        "count=4,bytes=5",
        "count=-1,bytes=7=;x=4",
        "no totals",
    ];
    for (requests, due) in steps.into_iter().zip(due) {
        for request in requests {
            server.request(5, request);
        }
        assert_eq!(server.model.data[&stats("/a")].as_deref(), Some(due));
        server.start();
        server.check();
        server.merge(0);
        server.start();
        server.check();
    }
}

/// It may hold what a client has set at the beginning.
#[test]
fn a_snapshot_whose_body_has_version_2_has_its_totals_counted_again() {
    let mut server = Server::new();
    for (path, data) in [
        ("/a", "1"),
        ("/a/b", "12"),
        ("/zookeeper/quota/a", ""),
        ("/zookeeper/quota/a/b", ""),
    ] {
        server.request(1, &create_with(path, Some(data), 0));
    }
    for of in ["/a", "/a/b"] {
        server.request(1, &create_with(&limits(of), Some(""), 0));
        server.request(1, &create_with(&stats(of), Some(""), 0));
    }
    server.check();
    let mut old = body_of(&server.w.tree);
    assert_eq!(old[..4], 3i32.to_be_bytes());
    old[..4].copy_from_slice(&2i32.to_be_bytes());
    for (counted, at_first) in [
        ("count=2,bytes=3", "count=0,bytes=0"),
        ("count=1,bytes=2", "count=7,bytes=x"),
    ] {
        let found = old
            .windows(counted.len())
            .position(|bytes| bytes == counted.as_bytes());
        let at = found.expect("a text of totals");
        old[at..][..counted.len()].copy_from_slice(at_first.as_bytes());
    }
    let mut file =
        SnapshotWriter::create(&server.w.disk, server.w.tree.last_zxid(), server.w.store).unwrap();
    file.push(&old).unwrap();
    file.finish().unwrap();
    server.start();
    server.check();
    // What is merged with it has the totals of memory.
    server.request(1, &create_with("/a/c", Some("1"), 0));
    server.request(1, &create_with("/a/b/c", Some("1"), 0));
    server.start();
    server.merge(PLENTY);
    server.start();
    server.check();
    let newest = body_in(&server.w.disk, server.w.tree.last_zxid());
    assert_eq!(newest[..4], 3i32.to_be_bytes());
    assert_eq!(newest, body_of(&server.w.tree));
}
