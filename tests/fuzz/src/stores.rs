//! Small stores, made once, and what is known of each: the state behind every transaction, and which of its
//! bytes show how far it went.

use super::damage::reseal;
use super::memory::Memory;
use ringkeeper::log::inspect::{self, Seen};
use ringkeeper::log::record::{self, Kind};
use ringkeeper::log::snapshot_file;
use ringkeeper::log::storage::Storage;
use ringkeeper::log::witness::{self, Accepting};
use ringkeeper::log::{Identities, Log, LogConfig, Need, Room, Witness, segment};
use ringkeeper::snapshot::{self, Order};
use ringkeeper::tree::Tree;
use ringkeeper::txn::record::Payload;
use ringkeeper::txn::{Acl, CreateTxn, Entry, Txn, TxnDigest, TxnHeader};
use ringkeeper::types::{ErrorCode, OpCode, Position, SessionId, Tick, WallMs, Zxid};
use std::collections::BTreeMap;
use std::ops::Range;

/// Of every store: room for a few records and the seals of a roll.
pub const CONFIG: LogConfig = LogConfig {
    segment_bytes: 32 << 10,
};
/// Bytes of memory for the changes of a merge: less than there are, so that runs are written.
pub const MEMORY: usize = 2 << 10;
/// Transactions of a store that is long enough for snapshots.
const MANY: i64 = 24;

/// Names and contents of a directory.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A store on disk.
#[derive(Clone, Default)]
pub struct Copy {
    pub data: Files,
    pub log: Files,
}

/// A store, and what is known of it.
pub struct Store {
    pub files: Copy,
    /// As they were some transactions before.
    pub older: Copy,
    /// The state behind each transaction, from none on.
    pub trees: Vec<Tree>,
    pub entries: Vec<Entry>,
    pub vouchers: Vec<Voucher>,
    /// What a loss that was accepted before has left, behind all of the entries.
    accepted: Option<Tree>,
}

/// Bytes that show, as long as they are what they were, that the store went as far as a transaction.
pub struct Voucher {
    pub is_in_log: bool,
    pub file: String,
    /// All of them count.
    pub ranges: Vec<Range<usize>>,
    pub zxid: Zxid,
}

/// Fresh identities; a store's first one is its id.
pub fn identities(store: u128) -> Identities {
    let mut last = store;
    Box::new(move || {
        last += 1;
        last
    })
}

/// The stores that are damaged.
pub fn all() -> Vec<Store> {
    vec![
        short(),
        whole(),
        purged(),
        restarted(),
        of_format_1(),
        accepting(),
    ]
}

/// One that is none of [`all`].
pub fn foreign() -> Store {
    let mut writer = Writer::new(900);
    (1..=MANY).for_each(|_| {
        let path = format!("/foreign{}", writer.entries.len());
        writer.create(OpCode::CREATE, &path, 300, false);
    });
    writer.snapshot();
    writer.finish(true)
}

/// A log alone.
fn short() -> Store {
    let mut writer = Writer::new(100);
    (0..9).for_each(|nth| writer.step(nth));
    writer.seal();
    writer.finish(false)
}

/// Two snapshots, the whole log, and a clean stop.
fn whole() -> Store {
    let mut writer = Writer::new(200);
    for nth in 0..MANY {
        writer.step(nth);
        if nth % 9 == 7 {
            writer.snapshot();
        }
    }
    writer.finish(true)
}

/// One snapshot and what follows it; the rest was removed.
fn purged() -> Store {
    let mut writer = Writer::new(300);
    for nth in 0..MANY {
        writer.step(nth);
        if nth % 10 == 9 {
            writer.snapshot();
            writer.purge();
        }
        if nth == 21 {
            writer.renew();
        }
    }
    writer.finish(false)
}

/// A segment for each start.
fn restarted() -> Store {
    let mut writer = Writer::new(400);
    for nth in 0..MANY {
        writer.step(nth);
        match nth {
            5 | 11 | 18 => writer = writer.restart(nth == 11),
            14 => writer.snapshot(),
            _ => {}
        }
    }
    writer.finish(false)
}

/// The fixture: what a server before format 2 has left.
fn of_format_1() -> Store {
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let name = "log.0000000000000000";
    let mut segment = include_bytes!("../../fixtures/store-v1/log.0000000000000000").to_vec();
    // Its own was 4 MiB long, nearly all of them zeroes.
    let bytes = CONFIG.segment_bytes;
    segment[40..48].copy_from_slice(&bytes.to_le_bytes());
    segment.resize(bytes as usize, 0);
    reseal(name, &mut segment);
    let log = Files::from([(name.to_owned(), segment)]);
    let data = Files::from([
        file(
            "snap.000000000000000b",
            include_bytes!("../../fixtures/store-v1/snap.000000000000000b"),
        ),
        file(
            "snap.0000000000000017",
            include_bytes!("../../fixtures/store-v1/snap.0000000000000017"),
        ),
    ]);
    let files = Copy { data, log };
    let (mut entries, log) = (Vec::new(), Memory::of(&files.log));
    let none = Memory::default();
    let all = snapshot::recover(&none, &log, &mut |entry| entries.push(entry.clone()));
    drop(all.expect("the log is whole"));
    Store::new(files.clone(), files, entries)
}

/// When a loss is accepted.
pub const LATER: WallMs = WallMs(1_800_000_000_000);

/// The operator's command was cut off.
fn accepting() -> Store {
    let mut store = purged();
    let (data, log) = (Memory::of(&store.files.data), Memory::of(&store.files.log));
    let Ok(witness::Found::Witness(newest, _)) = witness::find(&data, &log) else {
        panic!("a whole witness");
    };
    let begin = Position(1 << 20);
    let accepting = Accepting {
        kept: Zxid(22),
        behind: Zxid::new(1, 0),
        cut: newest.newest,
        begin,
    };
    witness::write(&data, &log, &newest.accepting(accepting)).expect("no fault");
    let spent = SessionId::of(
        SessionId::STANDALONE,
        SessionId::number_at(LATER) + (1 << 28),
    );
    let kept = raised(&store.trees[22], accepting.behind, spent);
    snapshot::write(&data, &kept, newest.store).expect("no fault");
    let (data, log) = (data.files(), log.files());
    store.files = Copy { data, log };
    // Nothing but the command goes on with it.
    store.vouchers.clear();
    store.accepted = Some(kept);
    store
}

/// The same state at a later zxid, with a session that has come and gone.
pub fn raised(tree: &Tree, zxid: Zxid, session: SessionId) -> Tree {
    let mut tree = tree.clone();
    let create = Txn::CreateSession { timeout_ms: 1 };
    let close = Txn::CloseSession { paths: None };
    tree.apply(&entry(zxid, session, OpCode::CREATE_SESSION, create));
    tree.apply(&entry(zxid, session, OpCode::CLOSE_SESSION, close));
    tree
}

/// A transaction without a digest.
pub fn entry(zxid: Zxid, session: SessionId, op: OpCode, txn: Txn) -> Entry {
    let header = TxnHeader {
        session,
        cxid: 3,
        zxid,
        time: WallMs(1_700_000_000_000 + zxid.0),
        op,
    };
    Entry {
        header,
        txn,
        digest: None,
    }
}

/// The transaction with the digest of the tree that it makes of this one, and that tree.
pub fn sealed(mut entry: Entry, tree: &Tree) -> (Entry, Tree) {
    let mut behind = tree.clone();
    behind.apply(&entry);
    entry.digest = Some(TxnDigest {
        version: TxnDigest::VERSION,
        tree: behind.digest(),
    });
    (entry, behind)
}

/// Appends a transaction, and makes it durable.
pub fn append(log: &mut Log<Memory>, storage: &Memory, entry: &Entry) {
    let payload = Payload::of(entry);
    append_bytes(log, storage, entry.header.zxid, payload.len(), |out| {
        payload.write_into(out)
    });
}

/// The same, of any payload.
pub fn append_bytes(
    log: &mut Log<Memory>,
    storage: &Memory,
    zxid: Zxid,
    len: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    while log.room_for(Need::Growing, len) == Room::Wait {
        let order = log.poll_spare().expect("a spare is wanted");
        let made = log.spare_made(order.fulfil(storage));
        made.expect("no fault");
    }
    let appended = log.append_in_place(zxid, len, write);
    appended.expect("there is room");
    let ticket = log.begin_sync().expect("something to sync");
    log.synced(ticket.run()).expect("no fault");
}

/// Writes a store.
struct Writer {
    data: Memory,
    directory: Memory,
    log: Log<Memory>,
    witness: Witness,
    tree: Tree,
    entries: Vec<Entry>,
    older: Copy,
    now: Tick,
}

impl Writer {
    fn new(store: u128) -> Writer {
        let (data, log) = (Memory::default(), Memory::default());
        Writer::open(data, log, identities(store))
    }

    fn open(data: Memory, directory: Memory, identities: Identities) -> Writer {
        let recovered = snapshot::recover(&data, &directory, &mut |_| {});
        let recovered = recovered.expect("a whole store");
        let opened = recovered.open(&data, &directory, CONFIG, identities);
        let (tree, log, witness) = opened.expect("no fault");
        Writer {
            data,
            directory,
            log,
            witness,
            tree,
            entries: Vec::new(),
            older: Copy::default(),
            now: Tick(0),
        }
    }

    /// One of a story's transactions.
    fn step(&mut self, nth: i64) {
        let (one, two) = (SessionId::of(1, 5), SessionId::of(1, 6));
        match nth {
            0 => self.session(one),
            1 => self.create(OpCode::CREATE, "/a", 700, false),
            2 => self.create(OpCode::CREATE2, "/a/e", 3, true),
            4 => self.multi(),
            5 => {
                let (path, acl) = ("/a".into(), [Acl::world(Acl::READ)].into());
                let set = Txn::SetAcl {
                    path,
                    acl,
                    version: 1,
                };
                self.enter(one, OpCode::SET_ACL, set);
            }
            6 => self.session(two),
            7 => {
                let code = ErrorCode::NO_NODE;
                self.enter(two, OpCode::ERROR, Txn::Error { code });
            }
            8 => {
                let path = "/m".into();
                self.enter(two, OpCode::DELETE, Txn::Delete { path });
            }
            10 => {
                let paths = Some(vec!["/a/e".into()]);
                self.enter(one, OpCode::CLOSE_SESSION, Txn::CloseSession { paths });
            }
            13 => self.create(OpCode::CREATE_CONTAINER, "/box", 0, false),
            16 => self.create(OpCode::CREATE_TTL, "/ttl", 40, false),
            nth => {
                let data = Some(vec![nth as u8; 900 + 300 * (nth as usize % 3)].into());
                let (path, version) = ("/a".into(), nth as i32);
                let set = Txn::SetData {
                    path,
                    data,
                    version,
                };
                self.enter(two, OpCode::SET_DATA, set);
            }
        }
        if nth % 6 == 3 {
            self.seal();
        }
        if nth == 12 {
            self.older = self.files();
        }
    }

    fn session(&mut self, session: SessionId) {
        let timeout_ms = 4000;
        self.enter(
            session,
            OpCode::CREATE_SESSION,
            Txn::CreateSession { timeout_ms },
        );
    }

    fn create(&mut self, op: OpCode, path: &str, bytes: usize, ephemeral: bool) {
        let create = self.creation(path, bytes, ephemeral);
        self.enter(SessionId::of(1, 5), op, Txn::Create(create));
    }

    fn creation(&self, path: &str, bytes: usize, ephemeral: bool) -> CreateTxn {
        CreateTxn {
            path: path.into(),
            data: Some(vec![b'x'; bytes].into()),
            acl: [Acl::world(Acl::ALL)].into(),
            ephemeral,
            parent_cversion: self.entries.len() as i32 + 1,
            ttl_ms: if path == "/ttl" { 1000 } else { 0 },
        }
    }

    fn multi(&mut self) {
        let create = (OpCode::CREATE, Txn::Create(self.creation("/m", 10, false)));
        let check = (
            OpCode::CHECK,
            Txn::Check {
                path: "/a".into(),
                version: 1,
            },
        );
        let ops = Txn::Multi(vec![create, check]);
        self.enter(SessionId::of(1, 5), OpCode::MULTI, ops);
    }

    fn enter(&mut self, session: SessionId, op: OpCode, txn: Txn) {
        let zxid = self.tree.last_zxid().next();
        let (entry, tree) = sealed(entry(zxid, session, op, txn), &self.tree);
        append(&mut self.log, &self.directory, &entry);
        self.tree = tree;
        self.entries.push(entry);
    }

    /// Nobody writes for a while.
    fn seal(&mut self) {
        for _ in 0..2 {
            self.now = self.now.after(10_000);
            self.log.tick(self.now).expect("no fault");
        }
        if let Some(ticket) = self.log.begin_sync() {
            self.log.synced(ticket.run()).expect("no fault");
        }
    }

    fn snapshot(&mut self) {
        let order = order(self.tree.last_zxid(), &self.witness);
        let made = snapshot::make(&self.data, &self.directory, order, &self.tree.facts());
        let made = made.expect("a log that fits");
        assert_eq!(made.written.root, snapshot::root(&self.tree));
        self.renew();
    }

    fn renew(&mut self) {
        let (end, newest) = (self.log.durable_end(), self.log.newest());
        self.witness = self.witness.renewed(end, newest);
        witness::write(&self.data, &self.directory, &self.witness).expect("no fault");
    }

    /// One snapshot and the segments that it needs stay.
    fn purge(&mut self) {
        let zxid = self.tree.last_zxid();
        for older in snapshot_file::list(&self.data).expect("no fault") {
            if older < zxid {
                let removed = self.data.remove(&snapshot_file::name(older));
                removed.expect("it is listed");
            }
        }
        for name in self.log.retire(zxid) {
            self.directory.remove(&name).expect("it is retired");
        }
    }

    fn restart(mut self, is_clean: bool) -> Writer {
        if is_clean {
            self.log.close().expect("no fault");
        }
        let store = 400 + 10 * self.entries.len() as u128;
        let again = Writer::open(self.data, self.directory, identities(store));
        Writer {
            entries: std::mem::take(&mut self.entries),
            older: self.older,
            ..again
        }
    }

    fn files(&self) -> Copy {
        Copy {
            data: self.data.files(),
            log: self.directory.files(),
        }
    }

    fn finish(self, is_clean: bool) -> Store {
        let (data, directory) = (self.data.clone(), self.directory.clone());
        if is_clean {
            let closing = self.log.close().expect("no fault");
            let last = self.witness.renewed(closing.end, closing.newest).closed();
            witness::write(&data, &directory, &last).expect("no fault");
        }
        let (data, log) = (data.files(), directory.files());
        Store::new(Copy { data, log }, self.older, self.entries)
    }
}

/// A snapshot of this state.
pub fn order(zxid: Zxid, witness: &Witness) -> Order {
    Order {
        zxid,
        store: witness.store,
        room_needed: 0,
        memory: MEMORY,
    }
}

impl Store {
    fn new(files: Copy, older: Copy, entries: Vec<Entry>) -> Store {
        let mut trees = vec![Tree::new()];
        for entry in &entries {
            let mut tree = trees[trees.len() - 1].clone();
            tree.apply(entry);
            trees.push(tree);
        }
        let store = Store {
            vouchers: vouchers(&files),
            accepted: None,
            files,
            older,
            trees,
            entries,
        };
        store.holds_what_it_says();
        store
    }

    /// The state at a zxid, if there was one.
    pub fn state(&self, zxid: Zxid) -> Option<&Tree> {
        let accepted = self
            .accepted
            .as_ref()
            .filter(|tree| tree.last_zxid() == zxid);
        accepted.or_else(|| self.trees.get(usize::try_from(zxid.0).ok()?))
    }

    /// Nothing is damaged yet.
    fn holds_what_it_says(&self) {
        let (data, log) = (Memory::of(&self.files.data), Memory::of(&self.files.log));
        let found = snapshot::recover(&data, &log, &mut |_| {});
        let tree = found.expect("a whole store").tree;
        assert_eq!(tree.last_zxid().0 as usize, self.entries.len());
        let due = self.state(tree.last_zxid()).map(snapshot::root);
        assert_eq!(Some(snapshot::root(&tree)), due);
        let last = self.vouchers.iter().map(|voucher| voucher.zxid).max();
        assert!(last > Some(Zxid::ZERO), "nothing shows how far it went");
    }
}

fn vouchers(files: &Copy) -> Vec<Voucher> {
    let mut all = Vec::new();
    for (is_in_log, files) in [(false, &files.data), (true, &files.log)] {
        let memory = Memory::of(files);
        for (name, bytes) in files
            .iter()
            .filter(|(name, _)| name.starts_with("witness."))
        {
            assert!(!bytes.is_empty());
            let mut sink = |at: u64, seen: Seen<'_>| {
                if let Seen::Witness(witness) = seen {
                    let at = at as usize;
                    all.push(Voucher {
                        is_in_log,
                        file: name.clone(),
                        ranges: vec![at..at + 4096],
                        zxid: witness.durable.zxid,
                    });
                }
            };
            inspect::witness(&memory, name, &mut sink).expect("it is there");
        }
        for zxid in snapshot_file::list(&memory).expect("no fault") {
            let file = snapshot_file::name(zxid);
            let ranges = vec![0..files[&file].len()];
            all.push(Voucher {
                is_in_log,
                file,
                ranges,
                zxid,
            });
        }
    }
    all.extend(records(&files.log));
    all
}

/// Each record says what was durable before it.
fn records(log: &Files) -> Vec<Voucher> {
    let memory = Memory::of(log);
    let bases: Vec<Position> = log
        .keys()
        .filter_map(|name| segment::parse_name(name))
        .collect();
    let (mut ends, mut found) = (Vec::new(), Vec::new());
    for (nth, base) in bases.iter().enumerate() {
        let name = segment::name(*base);
        let next = bases.get(nth + 1).copied();
        let mut sink = |at: u64, seen: Seen<'_>| {
            if let Seen::Record { record, .. } = seen {
                if record.kind == Kind::Txn {
                    ends.push((record.end(), record.zxid));
                }
                let at = at as usize;
                let bytes = at..at + record::HEADER + record.payload.len();
                found.push((name.clone(), bytes, record.durable_to));
            }
        };
        inspect::segment(&memory, &name, next, &mut sink).expect("it is there");
    }
    let voucher = |(file, bytes, durable_to): (String, Range<usize>, Position)| {
        let before = ends.iter().filter(|(end, _)| *end <= durable_to);
        Voucher {
            is_in_log: true,
            file,
            ranges: vec![0..segment::HEADER_BLOCK, bytes],
            zxid: before.map(|(_, zxid)| *zxid).max().unwrap_or(Zxid::ZERO),
        }
    };
    found.into_iter().map(voucher).collect()
}
