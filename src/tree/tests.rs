//! The tree against the golden transactions, the rows of the specification, and itself.

mod quota;

use super::*;
use crate::budget::Budget;
use crate::txn::golden::entries;
use crate::txn::{AuthId, CreateRequest, Data, Entry, RawAcl, Txn, WriteRequest};
use crate::types::WallMs;
use proptest::prelude::*;

fn anyone() -> Option<Vec<RawAcl>> {
    acl("world", "anyone", 31)
}

fn acl(scheme: &str, id: &str, perms: i32) -> Option<Vec<RawAcl>> {
    Some(vec![RawAcl {
        perms,
        scheme: Some(scheme.into()),
        id: Some(id.into()),
    }])
}

fn create(path: &str, flags: i32, acl: Option<Vec<RawAcl>>) -> WriteRequest {
    let data: Data = Some(path.as_bytes().into());
    let op = OpCode::CREATE;
    WriteRequest::Create(CreateRequest {
        op,
        path: path.into(),
        data,
        acl,
        flags,
        ttl_ms: 0,
    })
}

fn delete(path: &str, version: i32) -> WriteRequest {
    WriteRequest::Delete {
        path: path.into(),
        version,
    }
}

fn set(path: &str, version: i32) -> WriteRequest {
    WriteRequest::SetData {
        path: Some(path.into()),
        data: Some((*b"new").into()),
        version,
    }
}

fn set_acl(path: &str, acl: Option<Vec<RawAcl>>, version: i32) -> WriteRequest {
    WriteRequest::SetAcl {
        path: Some(path.into()),
        acl,
        version,
    }
}

fn check(path: &str, version: i32) -> WriteRequest {
    WriteRequest::Check {
        path: Some(path.into()),
        version,
    }
}

/// A tree and an overlay over it; `apply_all` decides how far apply lags behind prepare.
struct Machine {
    tree: Tree,
    overlay: Overlay,
    next: Zxid,
    waiting: Vec<Entry>,
    who: Vec<AuthId>,
    state: SessionState,
    rules: Rules,
}

impl Machine {
    fn new() -> Machine {
        let tree = Tree::new();
        Machine {
            overlay: Overlay::new(&tree),
            tree,
            next: Zxid(1),
            waiting: vec![],
            who: vec![AuthId {
                scheme: "ip".into(),
                id: "127.0.0.1".into(),
            }],
            state: SessionState::Live,
            rules: Rules::default(),
        }
    }

    fn prepare_as(&mut self, session: i64, request: &WriteRequest) -> Prepared {
        let context = PrepareContext {
            zxid: self.next,
            time: WallMs(1000 + self.next.0),
            session: SessionId(session),
            cxid: 7,
            session_state: self.state,
            credentials: &self.who,
            rules: &self.rules,
        };
        self.next = self.next.next();
        let mut budget = Budget::UNLIMITED;
        let prepared = (self.overlay).prepare(&self.tree, &context, request, &mut budget);
        self.waiting.push(prepared.entry.clone());
        prepared
    }

    /// As [`Machine::prepare_as`], a multi within as many budgets as it takes; in between, as many
    /// transactions are applied as `between` says.
    fn prepare_in_slices(
        &mut self,
        session: i64,
        request: &WriteRequest,
        between: &[(u32, usize)],
    ) -> Prepared {
        let WriteRequest::Multi(ops) = request else {
            return self.prepare_as(session, request);
        };
        let mut multi = self.overlay.begin_multi(ops.len());
        let mut between = between.iter().cycle();
        loop {
            let context = PrepareContext {
                zxid: self.next,
                time: WallMs(1000 + self.next.0),
                session: SessionId(session),
                cxid: 7,
                session_state: self.state,
                credentials: &self.who,
                rules: &self.rules,
            };
            let &(steps, applied) = between.next().expect("a cycle");
            let (tree, overlay) = (&self.tree, &mut self.overlay);
            let mut budget = Budget::steps(steps);
            if overlay.prepare_multi(tree, &context, ops, &mut multi, &mut budget) {
                self.next = self.next.next();
                let prepared = overlay.finish_multi(&context, multi);
                self.waiting.push(prepared.entry.clone());
                return prepared;
            }
            assert!(budget.is_spent(), "only the budget stops it");
            self.apply(applied);
        }
    }

    fn apply_all(&mut self) -> Vec<Applied> {
        self.apply(usize::MAX)
    }

    /// Applies so many of those that wait.
    fn apply(&mut self, most: usize) -> Vec<Applied> {
        let most = most.min(self.waiting.len());
        let applied = self.waiting.drain(..most).map(|entry| {
            let applied = self.tree.apply(&entry);
            if let Some(digest) = entry.digest {
                assert_eq!(digest.tree, self.tree.digest(), "{entry:?}");
            }
            self.overlay.forget(applied.zxid);
            applied
        });
        applied.collect()
    }

    fn run(&mut self, request: &WriteRequest) -> Result<Applied, ErrorCode> {
        let error = self.prepare_as(1, request).error;
        let applied = self.apply_all().pop().expect("one was waiting");
        error.map_or(Ok(applied), Err)
    }

    fn error(&mut self, request: &WriteRequest) -> i32 {
        self.run(request).err().unwrap_or(ErrorCode::OK).0
    }

    /// Deletes a container or TTL node as the server itself does; false if it is not due.
    fn reap(&mut self, path: &str, due: &Due) -> bool {
        let context = PrepareContext {
            zxid: self.next,
            time: WallMs(1000 + self.next.0),
            session: SessionId::NONE,
            cxid: 0,
            session_state: SessionState::Live,
            credentials: &[],
            rules: &self.rules,
        };
        let path = path.into();
        let prepared = (self.overlay).prepare_reaping(&self.tree, &context, &path, due);
        let Some(Prepared { entry, error }) = prepared else {
            return false;
        };
        assert_eq!(error, None);
        assert_eq!(entry.header.op, OpCode::DELETE_CONTAINER);
        assert_eq!(entry.txn, Txn::Delete { path });
        self.next = self.next.next();
        self.waiting.push(entry);
        true
    }

    /// What is due in the tree.
    fn due(&self, due: &Due) -> Vec<String> {
        let (mut cursor, mut found) = (ReapCursor::default(), Vec::new());
        let mut budget = Budget::UNLIMITED;
        while let Look::Due(path) = self.tree.look_for_due(&mut cursor, due, &mut budget) {
            found.push(path);
        }
        found.sort();
        found
    }
}

/// A create of any kind.
fn special(op: OpCode, path: &str, flags: i32, ttl_ms: i64) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op,
        path: path.into(),
        data: Some(path.as_bytes().into()),
        acl: anyone(),
        flags,
        ttl_ms,
    })
}

fn container(path: &str) -> WriteRequest {
    special(OpCode::CREATE_CONTAINER, path, 4, 0)
}

fn with_ttl(path: &str, ttl_ms: i64) -> WriteRequest {
    special(OpCode::CREATE_TTL, path, 5, ttl_ms)
}

#[test]
fn golden_transactions_give_the_golden_digests() {
    let mut tree = Tree::new();
    assert_eq!(tree.digest(), 0x51C6_D660);
    for (nth, bytes) in entries().iter().enumerate() {
        let entry = Entry::decode(bytes).unwrap();
        tree.apply(&entry);
        if let Some(digest) = entry.digest {
            assert_eq!(tree.digest(), digest.tree, "after entry {:#x}", nth + 1);
        }
        assert_eq!(tree.digest(), tree.nodes.recount());
    }
    assert_eq!(tree.last_zxid(), Zxid::new(1, 0x12));
    assert_eq!(tree.session_count_for_test(), 2);
}

impl Tree {
    fn session_count_for_test(&self) -> usize {
        self.sessions().len()
    }
}

#[test]
fn a_fresh_tree_is_what_the_reference_shows() {
    let tree = Tree::new();
    assert_eq!(tree.node_count(), 5);
    let rows = [
        ("/", -1, 1, 0),
        ("/zookeeper", -2, 2, 0),
        ("/zookeeper/quota", 0, 0, 0),
        ("/zookeeper/config", 0, 0, -1),
    ];
    for (path, cversion, children, aversion) in rows {
        let stat = tree.stat(path).unwrap();
        assert_eq!(
            (stat.cversion, stat.num_children, stat.aversion),
            (cversion, children, aversion),
            "{path}"
        );
        assert_eq!(tree.get_data(path, &[]).unwrap().0, Some(&[][..]));
    }
    assert_eq!(tree.stat(""), tree.stat("/"));
}

#[test]
fn the_size_of_the_data_counts_characters_of_paths_and_bytes_of_data() {
    let mut machine = Machine::new();
    let before = machine.tree.approximate_data_size();
    machine.run(&create("/é€", 0, anyone())).unwrap();
    assert_eq!(machine.tree.approximate_data_size() - before, 3 + 6);
    machine.run(&delete("/é€", -1)).unwrap();
    assert_eq!(machine.tree.approximate_data_size(), before);
}

/// Each row of docs/protocol.md §2.5 with two faults at once: the earlier one is answered.
#[test]
fn the_first_failing_check_wins() {
    let mut m = Machine::new();
    let closed = || acl("digest", "u:h", 31);
    for request in [
        create("/a", 0, anyone()),
        create("/a/b", 0, anyone()),
        create("/a/b/c", 0, anyone()),
        create("/a/b/c/d", 0, anyone()),
        create("/e", 1, anyone()),
        create("/shut", 0, acl("world", "anyone", Acl::READ)),
    ] {
        assert_eq!(m.error(&request), 0, "{request:?}");
    }
    let none = || Some(vec![]);
    for (request, due) in [
        // create
        (create("nope", 7, none()), -8),
        (create("nope", 5, none()), -6),
        (create("nope", 0, none()), -8),
        (create("/x\0", 0, none()), -8),
        (create("/missing/x", 0, none()), -114),
        (create("/missing/./x/", 0, anyone()), -101),
        (create("/shut/.", 0, anyone()), -102),
        (create("/a/.", 0, anyone()), -8),
        (create("/a/", 0, anyone()), -8),
        (create("/a/b", 0, anyone()), -110),
        (create("/e/x", 0, anyone()), -108),
        (create("/e/x", 0, none()), -114),
        // delete
        (delete("nope", -1), -8),
        (delete("/zookeeper", -1), -8),
        (delete("/missing/x", 5), -101),
        (delete("/shut/x", 5), -102),
        (delete("/x", 5), -101),
        (delete("/a", 5), -103),
        (delete("/a", -2), -103),
        (delete("/a", 0), -111),
        // setData, setACL
        (set("/a/", 5), -8),
        (set("/missing", 5), -101),
        (set("/shut", 5), -102),
        (set("/zookeeper/config", -1), -102),
        (set("/a", 5), -103),
        (set_acl("/a/", none(), 5), -8),
        (set_acl("/missing", none(), 5), -114),
        (set_acl("/missing", anyone(), 5), -101),
        (set_acl("/shut", anyone(), 5), -102),
        (set_acl("/a", anyone(), 5), -103),
    ] {
        assert_eq!(m.error(&request), due, "{request:?}");
    }
    for (op, due) in [
        (check("/a/", 5), -8),
        (check("/missing", 5), -101),
        (check("/a", 5), -103),
    ] {
        let failed = m.run(&WriteRequest::Multi(vec![op.clone()])).unwrap_err();
        assert_eq!(failed.0, due, "{op:?}");
    }
    assert_eq!(m.error(&set_acl("/a/b", closed(), 0)), 0);
    assert_eq!(
        m.run(&WriteRequest::Multi(vec![check("/a/b", 9)]))
            .unwrap_err()
            .0,
        -102
    );
    m.state = SessionState::Closing;
    assert_eq!(m.error(&create("nope", 7, none())), -8);
    assert_eq!(m.error(&create("nope", 0, none())), -112);
    assert_eq!(m.error(&delete("nope", -1)), -112);
    assert_eq!(m.error(&set("nope", -1)), -112);
    assert_eq!(m.error(&set_acl("nope", none(), -1)), -112);
}

/// The tables of docs/protocol.md §1.5, and §3.6.
#[test]
fn the_kind_of_a_node_follows_from_operation_flags_and_ttl() {
    const MAX: i64 = (1 << 40) - 1;
    let (plain, container, ttl) = (Ok(0), Ok(i64::MIN), |ms: i64| Ok((0xff << 56) | ms));
    let (create, create2) = (OpCode::CREATE, OpCode::CREATE2);
    let (create_container, create_ttl) = (OpCode::CREATE_CONTAINER, OpCode::CREATE_TTL);
    // The stored owner, or the error, while extended types are off, and while they are on.
    for (op, flags, ttl_ms, off, on) in [
        (create, 4, 0, plain, plain),
        (create2, 4, 0, plain, plain),
        (create, 5, 0, Err(-6), Err(-8)),
        (create2, 6, 0, Err(-6), Err(-8)),
        (create, -1, 0, Err(-8), Err(-8)),
        (create_container, 0, 0, container, container),
        (create_container, 1, 0, container, container),
        (create_container, 2, 0, container, container),
        (create_container, 3, 0, container, container),
        (create_container, 4, 0, container, container),
        (create_container, 5, 0, Err(-6), Err(-8)),
        (create_container, 7, 0, Err(-8), Err(-8)),
        (create_ttl, 5, 1, Err(-6), ttl(1)),
        (create_ttl, 6, MAX, Err(-6), ttl(MAX)),
        (create_ttl, 5, 0, Err(-6), Err(-8)),
        (create_ttl, 6, -1, Err(-6), Err(-8)),
        (create_ttl, 5, MAX + 1, Err(-6), Err(-8)),
        (create_ttl, 0, 5, Err(-8), Err(-8)),
        (create_ttl, 4, 0, Err(-8), Err(-8)),
        (create_ttl, 7, 5, Err(-8), Err(-8)),
        // What Apache logs and can't apply (docs/protocol.md §1.5).
        (create_ttl, 0, -1, Err(-8), Err(-8)),
        (create_ttl, 3, -1, Err(-8), Err(-8)),
        (create_ttl, 4, i64::MIN, Err(-8), Err(-8)),
    ] {
        for (extended_types, due) in [(false, off), (true, on)] {
            let mut m = Machine::new();
            m.rules.extended_types = extended_types;
            let request = special(op, "/n", flags, ttl_ms);
            let done = m.run(&request).map(|applied| applied.result);
            let found = match done {
                Err(code) => Err(code.0),
                Ok(OpResult::Create {
                    op: kind,
                    path,
                    stat,
                }) => {
                    assert_eq!((kind, stat.ephemeral_owner), (op, 0));
                    let sequential = matches!(flags, 2 | 3 | 6);
                    let name = if sequential { "/n0000000000" } else { "/n" };
                    assert_eq!(&*path, name);
                    Ok(m.tree.nodes.get(name).unwrap().stored().owner)
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(found, due, "{op:?} {flags} {ttl_ms} {extended_types}");
        }
    }
}

#[test]
fn containers_and_ttl_nodes_have_children_and_data_and_in_a_multi_each_its_own_result() {
    let mut m = Machine::new();
    m.rules.extended_types = true;
    let multi = WriteRequest::Multi(vec![
        container("/c"),
        with_ttl("/c/t", 7),
        create("/c/t/e", 1, anyone()),
        special(OpCode::CREATE_TTL, "/c/t/s-", 6, 7),
        set("/c", 0),
    ]);
    let OpResult::Multi(results) = m.run(&multi).unwrap().result else {
        panic!()
    };
    let ops = results.iter().filter_map(|result| match result {
        OpResult::Create { op, .. } => Some(*op),
        _ => None,
    });
    let due = [
        OpCode::CREATE_CONTAINER,
        OpCode::CREATE_TTL,
        OpCode::CREATE,
        OpCode::CREATE_TTL,
    ];
    assert_eq!(ops.collect::<Vec<_>>(), due);
    assert_eq!(m.tree.stat("/c/t").unwrap().num_children, 2);
    assert_eq!(m.tree.reaped_count(), 3);
    // Flags 0 to 3 are not as in Apache, which makes plain nodes of them (docs/protocol.md §10.2).
    for (flags, due) in [(0, -8), (3, -8), (5, 0), (7, -8)] {
        let one = WriteRequest::Multi(vec![special(OpCode::CREATE_TTL, "/x", flags, 5)]);
        assert_eq!(m.error(&one), due, "{flags}");
    }
    let none = WriteRequest::Create(CreateRequest {
        op: OpCode::CREATE_TTL,
        path: "/y".into(),
        data: None,
        acl: None,
        flags: 5,
        ttl_ms: 5,
    });
    assert_eq!(m.error(&WriteRequest::Multi(vec![none])), -114);
}

#[test]
fn a_container_goes_when_its_last_child_has_gone_and_a_ttl_node_when_its_time_has() {
    let mut m = Machine::new();
    m.rules.extended_types = true;
    let all = [
        container("/c"),
        container("/c/d"),
        container("/never"),
        with_ttl("/t", 500),
        with_ttl("/u", 500),
        create("/u/x", 0, anyone()),
        create("/plain", 0, anyone()),
        create("/e", 1, anyone()),
        create("/c/d/x", 0, anyone()),
    ];
    for request in &all {
        assert_eq!(m.error(request), 0);
    }
    let at = |m: &Machine, wall: i64| Due {
        zxid: m.tree.last_zxid(),
        wall: WallMs(wall),
        never_used_ms: 0,
    };
    // `/t` is made at 1004.
    assert_eq!(m.due(&at(&m, 1504)), [""; 0]);
    assert_eq!(m.due(&at(&m, 1505)), ["/t"]);
    let never_used = Due {
        never_used_ms: 100,
        ..at(&m, 1104)
    };
    assert_eq!(m.due(&never_used), ["/never"]);
    assert_eq!(m.error(&delete("/c/d/x", -1)), 0);
    assert_eq!(m.error(&delete("/u/x", -1)), 0);
    let look = at(&m, 5000);
    assert_eq!(m.due(&look), ["/c/d", "/t", "/u"]);

    // What is ordered and not applied counts: a child, a renewal, another node in its place.
    m.prepare_as(1, &create("/c/d/y", 0, anyone()));
    m.prepare_as(1, &delete("/u", -1));
    m.prepare_as(1, &create("/u", 0, anyone()));
    m.prepare_as(1, &delete("/t", -1));
    m.prepare_as(1, &with_ttl("/t", 6));
    assert_eq!(m.due(&look), ["/c/d", "/t", "/u"], "in the tree");
    for path in [
        "/c/d",
        "/t",
        "/u",
        "/missing",
        "/",
        "/zookeeper",
        "/plain",
        "/e",
    ] {
        assert!(!m.reap(path, &look), "{path}");
    }
    m.prepare_as(1, &delete("/c/d/y", -1));
    assert!(!m.reap("/c/d", &look), "it was empty once, and is again");
    m.apply_all();
    let look = at(&m, 5000);
    assert_eq!(m.due(&look), ["/c/d", "/t"]);
    assert!(m.reap("/t", &look) && m.reap("/c/d", &look));
    assert!(!m.reap("/t", &look), "it is going");
    assert!(!m.reap("/c", &look), "it has lost its last child only now");
    m.apply_all();
    assert_eq!((m.tree.stat("/t"), m.tree.stat("/c/d")), (None, None));
    let parent = m.tree.stat("/c").unwrap();
    assert_eq!((parent.cversion, parent.num_children), (2, 0));
    let look = at(&m, 5000);
    assert_eq!(m.due(&look), ["/c"]);
    assert!(m.reap("/c", &look));
    m.apply_all();
    assert_eq!(m.tree.reaped_count(), 1);
    // Behind it everything begins anew, the numbers of its children too.
    assert_eq!(m.error(&container("/c")), 0);
    assert_eq!(m.error(&create("/c/s-", 2, anyone())), 0);
    assert!(m.tree.stat("/c/s-0000000000").is_some());
    assert_eq!(m.due(&at(&m, 5000)), [""; 0]);
    assert_eq!(m.tree.nodes.recount(), m.tree.digest());
}

#[test]
fn a_renewed_ttl_node_stays() {
    let mut m = Machine::new();
    m.rules.extended_types = true;
    assert_eq!(m.error(&with_ttl("/t", 1)), 0);
    let look = Due {
        zxid: Zxid(100),
        wall: WallMs(1003),
        never_used_ms: 0,
    };
    assert_eq!(m.due(&look), ["/t"]);
    m.prepare_as(1, &set("/t", -1));
    assert!(!m.reap("/t", &look), "renewed, though it is not applied");
    m.apply_all();
    assert_eq!(m.due(&look), [""; 0]);
}

#[test]
fn containers_are_looked_at_within_a_budget_and_each_once() {
    let mut m = Machine::new();
    for n in 0..100 {
        assert_eq!(m.error(&container(&format!("/{n}"))), 0);
        if n % 10 == 0 {
            assert_eq!(m.error(&create(&format!("/{n}/x"), 0, anyone())), 0);
            assert_eq!(m.error(&delete(&format!("/{n}/x"), -1)), 0);
        }
    }
    let due = Due {
        zxid: m.tree.last_zxid(),
        wall: WallMs(0),
        never_used_ms: 0,
    };
    let (mut cursor, mut found, mut slices) = (ReapCursor::default(), 0, 1);
    let mut budget = Budget::steps(7);
    loop {
        match m.tree.look_for_due(&mut cursor, &due, &mut budget) {
            Look::Due(_) => found += 1,
            Look::Later => {
                assert!(budget.is_spent());
                (budget, slices) = (Budget::steps(7), slices + 1);
            }
            Look::End => break,
        }
    }
    assert_eq!((found, slices), (10, 100usize.div_ceil(7)));
}

#[test]
fn sequence_numbers_count_every_create_and_never_go_back() {
    let mut m = Machine::new();
    let path = |m: &mut Machine, request| match m.run(&request).unwrap().result {
        OpResult::Create { path, .. } => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(&*path(&mut m, create("/s-", 2, anyone())), "/s-0000000000");
    assert_eq!(m.error(&create("/plain", 0, anyone())), 0);
    assert_eq!(m.error(&delete("/s-0000000000", -1)), 0);
    assert_eq!(m.error(&create("/plain", 0, anyone())), -110);
    assert_eq!(&*path(&mut m, create("/s-", 2, anyone())), "/s-0000000002");
    assert_eq!(
        &*path(&mut m, create("/plain/", 2, anyone())),
        "/plain/0000000000"
    );
    let failed = WriteRequest::Multi(vec![
        create("/s-", 2, anyone()),
        create("/none/x", 0, anyone()),
    ]);
    assert_eq!(m.run(&failed).unwrap_err(), ErrorCode::NO_NODE);
    let twice = WriteRequest::Multi(vec![create("/s-", 2, anyone()), create("/s-", 2, anyone())]);
    let OpResult::Multi(made) = m.run(&twice).unwrap().result else {
        panic!()
    };
    let names: Vec<_> = made
        .iter()
        .map(|r| match r {
            OpResult::Create { path, .. } => &**path,
            _ => panic!(),
        })
        .collect();
    assert_eq!(names, ["/s-0000000003", "/s-0000000004"]);
}

/// Apache's tree takes a parent's counter from a transaction only if it is greater than its own, so
/// at 2^31 − 1 the counter, and pzxid with it, stay as they are; plain creates still succeed, and a
/// sequential one gets the last number until its name is taken.
#[test]
fn the_creation_counter_sticks_at_its_end() {
    for pipelined in [false, true] {
        let mut m = Machine::new();
        m.run(&create("/p", 0, anyone())).unwrap();
        let mut last = m.prepare_as(1, &create("/p/last", 0, anyone())).entry;
        let Txn::Create(txn) = &mut last.txn else {
            panic!("a create");
        };
        txn.parent_cversion = i32::MAX;
        m.tree.apply(&last);
        m.waiting.clear();
        m.overlay = Overlay::new(&m.tree);
        let before = m.tree.stat("/p").unwrap();
        let counter = |m: &Machine| m.tree.nodes.get("/p").unwrap().stored().cversion;
        assert_eq!(counter(&m), i32::MAX);
        for (request, due) in [
            (create("/p/next", 0, anyone()), 0),
            (create("/p/s-", 2, anyone()), 0),
            (create("/p/s-", 2, anyone()), -110),
            (delete("/p/last", -1), 0),
            (create("/p/last", 0, anyone()), 0),
        ] {
            let error = m.prepare_as(1, &request).error;
            assert_eq!(error.map_or(0, |code| code.0), due, "{request:?}");
            if !pipelined {
                m.apply_all(); // compares the digests
            }
        }
        m.apply_all();
        let after = m.tree.stat("/p").unwrap();
        assert_eq!((counter(&m), after.num_children), (i32::MAX, 3));
        assert!(after.pzxid > before.pzxid, "by the delete");
        assert!(m.tree.stat("/p/s-2147483647").is_some());
    }
}

#[test]
fn a_failed_multi_leaves_nothing_anywhere() {
    let mut m = Machine::new();
    m.run(&create("/a", 0, anyone())).unwrap();
    let before = (m.tree.stat("/"), m.tree.digest(), m.overlay.digest());
    let ops = vec![
        create("/a/x", 0, anyone()),
        set("/a", -1),
        delete("/a", -1),
        create("/b", 0, anyone()),
    ];
    let prepared = m.prepare_as(1, &WriteRequest::Multi(ops));
    assert_eq!(prepared.error, Some(ErrorCode::NOT_EMPTY));
    assert_eq!(m.overlay.digest(), before.2);
    assert!(m.overlay.is_empty());
    let applied = m.apply_all().pop().unwrap();
    let codes = [0, 0, -111, -2].map(|c| OpResult::Error(ErrorCode(c)));
    assert_eq!(applied.result, OpResult::Multi(codes.to_vec()));
    assert_eq!(applied.changes, vec![]);
    assert_eq!((m.tree.stat("/"), m.tree.digest()), (before.0, before.1));
}

/// `n` entries that let everybody do what `perms` say, the last of them.
fn long_acl(n: usize, perms: i32) -> Option<Vec<RawAcl>> {
    let strangers = (1..n).map(|i| acl("digest", &format!("stranger{i}:h"), 31));
    let list = strangers.chain([acl("world", "anyone", perms)]);
    Some(list.flatten().flatten().collect())
}

/// Whether the budget has so many steps left, no more and no less.
fn is_left(budget: &Budget, steps: usize) -> bool {
    budget.has_steps(steps) && !budget.has_steps(steps + 1)
}

#[test]
fn a_multi_of_many_checks_on_one_list_compares_it_once() {
    let mut m = Machine::new();
    m.run(&create("/long", 0, long_acl(1000, Acl::ALL)))
        .unwrap();
    let checks = vec![check("/long", -1); 5000];
    let mut multi = m.overlay.begin_multi(checks.len());
    let context = PrepareContext {
        zxid: m.next,
        time: WallMs(0),
        session: SessionId(1),
        cxid: 7,
        session_state: m.state,
        credentials: &m.who,
        rules: &m.rules,
    };
    let mut budget = Budget::steps(10_000);
    let done = (m.overlay).prepare_multi(&m.tree, &context, &checks, &mut multi, &mut budget);
    assert!(done && m.overlay.finish_multi(&context, multi).error.is_none());
    // The first entry is in the step of its operation.
    assert!(is_left(&budget, 10_000 - 5000 - 999), "{budget:?}");
}

#[test]
fn a_request_pays_for_the_entries_that_it_has_compared_and_those_that_it_brings() {
    let mut m = Machine::new();
    m.run(&create("/long", 0, long_acl(1000, Acl::ALL)))
        .unwrap();
    m.run(&create("/shut", 0, long_acl(500, Acl::READ)))
        .unwrap();
    m.run(&create("/open", 0, anyone())).unwrap();
    for (request, due) in [
        (set("/open", -1), 1),
        (set("/long", -1), 1000),
        (set("/shut", -1), 500),
        (delete("/long/none", -1), 1000),
        // Compared, sent and stored.
        (create("/long/below", 0, long_acl(10, Acl::ALL)), 1018),
        (set_acl("/open", long_acl(10, Acl::ALL), -1), 19),
    ] {
        let context = PrepareContext {
            zxid: m.next,
            time: WallMs(0),
            session: SessionId(1),
            cxid: 7,
            session_state: m.state,
            credentials: &m.who,
            rules: &m.rules,
        };
        let mut budget = Budget::steps(10_000);
        (m.overlay).prepare(&m.tree, &context, &request, &mut budget);
        assert!(is_left(&budget, 10_000 - due), "{budget:?} of {request:?}");
        m.next = m.next.next();
    }
}

/// A list of a few entries can be as long as a frame, and `auth` makes one of a few bytes as long as the identities.
#[test]
fn a_long_id_costs_a_step_for_each_512_bytes_where_it_is_compared_sent_and_stored() {
    let mut m = Machine::new();
    let long = format!("{}:h", "u".repeat(99 << 9));
    m.run(&create("/own", 0, acl("digest", &long, Acl::ALL)))
        .unwrap();
    for path in ["/open", "/auth"] {
        m.run(&create(path, 0, anyone())).unwrap();
    }
    assert_eq!(m.tree.size("/own").acl, 100);
    assert_eq!(m.tree.size("/open").acl, 1);
    for name in ["u", "v"] {
        let id = format!("{}:h", name.repeat(99 << 9));
        m.who.push(AuthId {
            scheme: "digest".into(),
            id: id.into(),
        });
    }
    m.who.sort();
    for (request, due) in [
        (set("/own", -1), 100),
        (set("/open", -1), 1),
        // Sent and stored.
        (set_acl("/open", acl("digest", &long, 31), -1), 1 + 99 + 99),
        (set_acl("/auth", acl("auth", "", 31), -1), 1 + 199),
    ] {
        let context = PrepareContext {
            zxid: m.next,
            time: WallMs(0),
            session: SessionId(1),
            cxid: 7,
            session_state: m.state,
            credentials: &m.who,
            rules: &m.rules,
        };
        let mut budget = Budget::steps(10_000);
        let prepared = (m.overlay).prepare(&m.tree, &context, &request, &mut budget);
        assert_eq!(prepared.error, None);
        assert!(is_left(&budget, 10_000 - due), "{budget:?} {due}");
        m.next = m.next.next();
    }
}

#[test]
fn closing_a_session_takes_its_pending_ephemerals_along() {
    let mut m = Machine::new();
    m.prepare_as(9, &WriteRequest::CreateSession { timeout_ms: 100 });
    for path in ["/p", "/q", "/r"] {
        m.prepare_as(9, &create(path, 1, anyone()));
    }
    m.apply_all();
    m.prepare_as(9, &create("/s", 1, anyone()));
    m.prepare_as(8, &delete("/q", -1));
    m.prepare_as(8, &set("/r", -1));
    let close = m.prepare_as(9, &WriteRequest::CloseSession).entry;
    let listed: Vec<Arc<str>> = ["/p", "/r", "/s"].map(Arc::from).to_vec();
    assert_eq!(
        close.txn,
        Txn::CloseSession {
            paths: Some(listed)
        }
    );
    let applied = m.apply_all().pop().unwrap();
    assert_eq!(applied.changes.len(), 3);
    assert!(
        applied
            .changes
            .iter()
            .all(|c| c.kind == ChangeKind::Deleted)
    );
    assert_eq!((m.tree.ephemeral_count(), m.tree.sessions().len()), (0, 0));
    assert_eq!(m.tree.session_high_water(0), Some(SessionId(9)));
}

#[test]
fn a_close_takes_along_what_is_its_sessions_own_behind_all_that_is_ordered() {
    let gone = || delete("/e", -1);
    let made = |flags| create("/e", flags, anyone());
    let multi = |ops: &[WriteRequest]| WriteRequest::Multi(ops.to_vec());
    // What is ordered behind the create of session 9's ephemeral, by whom, and who has the node afterwards: a
    // session, or 0 where it stays whoever goes.
    let (ephemeral, plain) = (made(1), made(0));
    type Ordered = (i64, WriteRequest);
    let cases: &[(&[Ordered], Option<i64>)] = &[
        (&[], Some(9)),
        (&[(8, set("/e", -1))], Some(9)),
        (&[(8, gone())], None),
        (&[(8, gone()), (8, ephemeral.clone())], Some(8)),
        (&[(8, gone()), (8, plain.clone())], Some(0)),
        (&[(9, gone()), (9, plain.clone())], Some(0)),
        (&[(9, gone()), (9, ephemeral.clone())], Some(9)),
        (
            &[
                (8, gone()),
                (8, ephemeral.clone()),
                (9, gone()),
                (9, ephemeral.clone()),
            ],
            Some(9),
        ),
        (&[(8, multi(&[gone(), ephemeral.clone()]))], Some(8)),
        (&[(8, multi(&[gone(), plain.clone()]))], Some(0)),
        (&[(8, multi(&[gone(), plain.clone(), gone()]))], None),
        // It fails, and leaves everything as it was.
        (&[(8, multi(&[gone(), plain.clone(), plain]))], Some(9)),
    ];
    for ((ordered, owner), is_applied) in cases.iter().flat_map(|c| [(c, false), (c, true)]) {
        let mut m = Machine::new();
        for session in [8, 9] {
            m.prepare_as(session, &WriteRequest::CreateSession { timeout_ms: 100 });
        }
        m.prepare_as(9, &ephemeral);
        m.prepare_as(9, &create("/own", 1, anyone()));
        if is_applied {
            m.apply_all();
        }
        for (session, request) in *ordered {
            m.prepare_as(*session, request);
            assert_eq!(m.overlay.counted(), m.overlay.recounted());
        }
        let close = m.prepare_as(9, &WriteRequest::CloseSession).entry;
        let is_own = *owner == Some(9);
        let listed = is_own.then(|| "/e".into()).into_iter();
        let paths = Some(listed.chain(["/own".into()]).collect());
        assert_eq!(close.txn, Txn::CloseSession { paths }, "{ordered:?}");
        m.apply_all();
        let left = m.tree.stat("/e").map(|stat| stat.ephemeral_owner);
        assert_eq!(left, owner.filter(|_| !is_own), "{ordered:?}");
        assert_eq!(m.overlay.counted(), (0, 0));
    }
}

#[test]
fn the_list_of_a_close_is_found_without_what_others_have_pending() {
    let mut m = Machine::new();
    for n in 0..500 {
        m.prepare_as(8, &create(&format!("/other{n}"), n % 2, anyone()));
    }
    m.prepare_as(9, &create("/own", 1, anyone()));
    m.prepare_as(9, &set("/own", -1));
    let due = BTreeMap::from([(SessionId(8), 250), (SessionId(9), 1)]);
    assert_eq!(m.overlay.pending_ephemerals(), due);
    let close = m.prepare_as(9, &WriteRequest::CloseSession).entry;
    let listed = Some(vec![Arc::from("/own")]);
    assert_eq!(close.txn, Txn::CloseSession { paths: listed });
    let due = BTreeMap::from([(SessionId(8), 250)]);
    assert_eq!(m.overlay.pending_ephemerals(), due);
}

#[test]
fn stat_and_acl_changes_are_those_of_the_table() {
    let mut m = Machine::new();
    m.who.push(AuthId {
        scheme: "digest".into(),
        id: "u:h".into(),
    });
    m.who.sort();
    m.run(&create("/a", 0, acl("auth", "", 31))).unwrap();
    let before = m.tree.stat("/a").unwrap();
    m.run(&set("/a", 0)).unwrap();
    m.run(&set_acl(
        "/a",
        acl("digest", "u:h", Acl::READ | Acl::ADMIN),
        0,
    ))
    .unwrap();
    let after = m.tree.stat("/a").unwrap();
    assert_eq!(
        (after.version, after.aversion, after.czxid),
        (1, 1, before.czxid)
    );
    assert_eq!(
        (after.mzxid, after.data_length, after.pzxid),
        (Zxid(2), 3, before.pzxid)
    );
    let stranger = [AuthId {
        scheme: "ip".into(),
        id: "127.0.0.1".into(),
    }];
    assert_eq!(m.tree.get_data("/a", &stranger), Err(ErrorCode::NO_AUTH));
    assert_eq!(m.tree.exists("/a", &stranger), Err(ErrorCode::NO_AUTH));
    assert_eq!(&*m.tree.get_acl("/a", &m.who).unwrap().0[0].id, "u:h");
    m.run(&set_acl("/a", acl("world", "anyone", Acl::READ), 1))
        .unwrap();
    assert_eq!(m.error(&set_acl("/a", anyone(), -1)), -102);
}

#[test]
fn golden_body_v1() {
    let mut tree = Tree::new();
    for bytes in &entries()[..14] {
        tree.apply(&Entry::decode(bytes).unwrap());
    }
    let first = include_bytes!("../../tests/fixtures/snap/v1-body.bin");
    let found = read(first, first.len()).unwrap();
    // Version 1 has one high water, whoever made the id.
    let highest = SessionId(0x0400_0010_e3a7_0000);
    assert_eq!(
        found.session_high_water.ids().collect::<Vec<_>>(),
        [highest]
    );
    assert_eq!(tree.session_high_water(4), Some(highest));
    tree.session_high_water = found.session_high_water.clone();
    assert_eq!(body(&found), body(&tree));
}

#[test]
fn golden_body_v3_and_v2_that_is_read_as_well() {
    let mut tree = Tree::new();
    let sessions = [(1, 5, 4000), (200, 1, 6000), (200, 9, 8000)];
    for (nth, (creator, number, timeout_ms)) in sessions.into_iter().enumerate() {
        let header = crate::txn::TxnHeader {
            session: SessionId::of(creator, number),
            cxid: 0,
            zxid: Zxid(nth as i64 + 5),
            time: WallMs(0),
            op: OpCode::CREATE_SESSION,
        };
        let (txn, digest) = (Txn::CreateSession { timeout_ms }, None);
        tree.apply(&Entry {
            header,
            txn,
            digest,
        });
    }
    tree.sessions.remove(&SessionId::of(200, 9));
    let zeros = |bytes: usize| "00".repeat(bytes);
    let parts = [
        "0000000000000007",
        // The highest id of each creator.
        "00000002 0100000000000005 c800000000000009",
        // Sessions: an id with its highest bit set is negative.
        "01 c800000000000001 00001770",
        "01 0100000000000005 00000fa0",
        "00",
        "00000001 2f",
        "00000000",
        "00000000 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65",
        &zeros(60),
        "0000000a 2f7a6f6f6b6565706572",
        "00000000",
        "00000000",
        &zeros(60),
        "00000011 2f7a6f6f6b65657065722f636f6e666967",
        "00000000",
        "00000001 00000001 00000001 00000005 776f726c64 00000006 616e796f6e65",
        &zeros(48),
        "ffffffff",
        &zeros(8),
        "00000010 2f7a6f6f6b65657065722f71756f7461",
        "00000000",
        "00000000",
        &zeros(60),
        // No more nodes; how many there were; the digest.
        "ffffffff",
        "0000000000000004",
        "0000000051c6d660",
    ];
    let golden = |version: i32| {
        let parts = format!("{version:08x}{}", parts.concat());
        crate::txn::golden::hex(&parts.replace(' ', ""))
    };
    assert_eq!(body(&tree), golden(3));
    for version in [2, 3] {
        assert_eq!(body(&read(&golden(version), 7).unwrap()), golden(3));
    }
    let newer = read(&golden(4), 7);
    assert!(matches!(newer, Err(BodyError::Newer(4))), "{newer:?}");
}

#[test]
fn a_walk_bounds_what_is_changed_between_two_slices_and_not_all_of_it() {
    let mut m = Machine::new();
    for n in 0..100 {
        m.run(&create(&format!("/n{n:02}"), 0, anyone())).unwrap();
    }
    let due = all_nodes(&m.tree);
    m.tree.begin_walk(1000);
    let mut found = Vec::new();
    // Nodes that have their turn last are changed first.
    for n in (0..100).rev() {
        m.run(&set(&format!("/n{n:02}"), -1)).unwrap();
        found.extend(m.tree.walk_slice(1).expect("it is not given up"));
    }
    while let Some(slice) = m.tree.walk_slice(1) {
        found.extend(slice);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(found, due);
}

fn body(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.write_body::<()>(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .unwrap();
    bytes
}

/// Sorted by path.
fn all_nodes(tree: &Tree) -> Vec<WalkedNode> {
    let mut nodes = Vec::new();
    let Ok(()) = tree.nodes.in_order(|path, node| {
        nodes.push(WalkedNode {
            path: std::str::from_utf8(path).unwrap().into(),
            data: node.data().map(Arc::from),
            acl: node.acl().clone(),
            stored: node.stored(),
        });
        Ok::<(), std::convert::Infallible>(())
    });
    nodes
}

fn read(bytes: &[u8], cut: usize) -> Result<Tree, BodyError> {
    let mut reader = BodyReader::default();
    for piece in bytes.chunks(cut.max(1)) {
        reader.push(piece)?;
    }
    reader.finish()
}

/// Field by field, of whatever a body has.
fn is_the_same(again: &Tree, tree: &Tree) {
    assert_eq!(all_nodes(again), all_nodes(tree));
    assert!(again.sessions().eq(tree.sessions()));
    assert_eq!(again.ephemeral_count(), tree.ephemeral_count());
    for (session, _) in tree.sessions() {
        let own = tree.ephemerals(session);
        assert!(again.ephemerals(session).eq(own), "of {session}");
    }
    let highest = |tree: &Tree| tree.session_high_water(0);
    assert_eq!(highest(again), highest(tree));
    assert_eq!(again.last_zxid(), tree.last_zxid());
    assert_eq!(again.digest(), tree.digest());
}

#[test]
fn a_body_has_the_data_and_the_list_of_every_node_those_of_the_root_and_of_reserved_ones_too() {
    let mut m = Machine::new();
    let paths = ["/zookeeper/quota", "/zookeeper", "/a/b", "/a", "/"];
    for path in ["/a", "/a/b"] {
        m.run(&create(path, 0, anyone())).unwrap();
    }
    for (nth, path) in paths.into_iter().enumerate() {
        for _ in 0..=nth {
            m.run(&set(path, -1)).unwrap();
        }
        let list = long_acl(1 + nth, Acl::READ | Acl::WRITE);
        m.run(&set_acl(path, list, -1)).unwrap();
    }
    let again = read(&body(&m.tree), 7).unwrap();
    is_the_same(&again, &m.tree);
    for (nth, path) in paths.into_iter().enumerate() {
        let (list, stat) = again.get_acl(path, &m.who).unwrap();
        let counts = (list.len(), stat.version, stat.aversion);
        assert_eq!(counts, (1 + nth, 1 + nth as i32, 1), "{path}");
    }
}

// Who decodes the list would write another than who copies it.
#[test]
fn a_body_with_a_list_that_is_no_text_is_refused() {
    let mut bytes = body(&Tree::new());
    assert!(read(&bytes, 1).is_ok());
    let at = bytes.windows(6).position(|part| part == b"anyone");
    bytes[at.unwrap()] = 0xff;
    let refused = read(&bytes, 1).map(drop);
    assert!(matches!(
        refused,
        Err(BodyError::Content("an ACL is no text"))
    ));
}

/// Requests of two sessions over few paths, so that they meet.
fn requests() -> impl Strategy<Value = Vec<(i64, WriteRequest, bool)>> {
    // The last ones do not fit a node, in whole or with their names.
    let path = prop_oneof![
        2 => "/[ab]",
        2 => "/[ab]/[cd]",
        2 => "/[ab]/[cd]/e",
        1 => "/[ab]/[cd]/of-16-characters",
        1 => "/[ab]/a-name-of-32-characters-in-all(/f)?",
    ];
    let single = prop_oneof![
        4 => (path.clone(), 0..4i32).prop_map(|(p, f)| create(&p, f, anyone())),
        1 => path.clone().prop_map(|p| container(&p)),
        1 => (path.clone(), 1..9i64).prop_map(|(p, ttl_ms)| with_ttl(&p, ttl_ms)),
        2 => (path.clone(), -1..2i32).prop_map(|(p, v)| delete(&p, v)),
        2 => (path.clone(), -1..2i32).prop_map(|(p, v)| set(&p, v)),
        1 => (path, -1..2i32).prop_map(|(p, v)| set_acl(&p, anyone(), v)),
    ];
    // Those that are there from the beginning.
    let oldest =
        prop_oneof![2 => Just("/"), 1 => Just("/zookeeper"), 1 => Just("/zookeeper/quota")];
    let lists = 1..4usize;
    let of_oldest = prop_oneof![
        1 => (oldest.clone(), -1..2i32).prop_map(|(p, v)| set(p, v)),
        1 => (oldest, lists, -1..2i32).prop_map(|(p, n, v)| set_acl(p, long_acl(n, Acl::ALL), v)),
    ];
    let single = prop_oneof![12 => single, 1 => of_oldest];
    let nested = single.clone().prop_filter("not in a multi", |r| {
        !matches!(r, WriteRequest::SetAcl { .. })
    });
    let request = prop_oneof![
        8 => single,
        2 => proptest::collection::vec(nested.clone(), 0..4).prop_map(WriteRequest::Multi),
        1 => proptest::collection::vec(nested, 0..20).prop_map(WriteRequest::Multi),
        1 => Just(WriteRequest::CloseSession),
    ];
    proptest::collection::vec((1..3i64, request, any::<bool>()), 1..60)
}

proptest! {
    #[test]
    fn apply_may_lag_behind_prepare(requests in requests()) {
        let (mut steps, mut leaps) = (Machine::new(), Machine::new());
        for (session, request, apply_now) in &requests {
            let one = steps.prepare_as(*session, request);
            steps.apply_all();
            let other = leaps.prepare_as(*session, request);
            prop_assert_eq!(one, other);
            if *apply_now {
                leaps.apply_all();
            }
        }
        leaps.apply_all();
        prop_assert_eq!(steps.tree.nodes.recount(), steps.tree.digest());
        prop_assert!(leaps.overlay.is_empty());
        prop_assert_eq!(body(&steps.tree), body(&leaps.tree));
    }

    #[test]
    fn a_multi_prepared_in_slices_is_the_one_prepared_at_once(
        requests in requests(),
        between in proptest::collection::vec((1..4u32, 0..3usize), 1..20),
    ) {
        let (mut whole, mut sliced) = (Machine::new(), Machine::new());
        for (session, request, apply_now) in &requests {
            let one = whole.prepare_as(*session, request);
            prop_assert_eq!(one, sliced.prepare_in_slices(*session, request, &between));
            prop_assert_eq!(whole.overlay.digest(), sliced.overlay.digest());
            if *apply_now {
                // What was applied in between makes no difference to what is known.
                whole.apply(whole.waiting.len() - sliced.waiting.len());
                prop_assert_eq!(whole.overlay.pending_paths(), sliced.overlay.pending_paths());
                sliced.apply(2);
            }
        }
        whole.apply_all();
        sliced.apply_all();
        prop_assert!(sliced.overlay.is_empty());
        prop_assert_eq!(body(&whole.tree), body(&sliced.tree));
    }

    #[test]
    fn what_a_session_owns_is_what_a_walk_over_all_that_is_pending_finds(
        requests in requests(),
        between in proptest::collection::vec((1..4u32, 0..3usize), 1..20),
    ) {
        let mut m = Machine::new();
        for (session, request, apply_now) in &requests {
            m.prepare_in_slices(*session, request, &between);
            if *apply_now {
                m.apply(2);
            }
            for session in 1..3 {
                let [owned, model] = m.overlay.owned_and_model(&m.tree, SessionId(session));
                prop_assert_eq!(owned, model, "session {} after {:?}", session, request);
            }
            prop_assert_eq!(m.overlay.counted(), m.overlay.recounted());
        }
        m.apply_all();
        prop_assert_eq!(m.overlay.pending_ephemerals(), BTreeMap::new());
    }

    /// The lists of `/0`, `/1` and so on have 1, 10, 19 entries and so on; some give READ only.
    #[test]
    fn steps_of_a_multi_are_its_operations_and_each_list_once_for_each_permission(
        ops in proptest::collection::vec((0..8usize, any::<bool>()), 1..60),
        slice in 1..100u32,
    ) {
        let mut m = Machine::new();
        let entries = |node: usize| 1 + 9 * node;
        let may_write = |node: usize| node != 7;
        for node in 0..8 {
            let perms = if may_write(node) { Acl::ALL } else { Acl::READ };
            m.run(&create(&format!("/{node}"), 0, long_acl(entries(node), perms))).unwrap();
        }
        let request = |&(node, write): &(usize, bool)| match write {
            true => set(&format!("/{node}"), -1),
            false => check(&format!("/{node}"), -1),
        };
        let requests: Vec<_> = ops.iter().map(request).collect();
        let denied = ops.iter().position(|&(node, write)| write && !may_write(node));
        let looked_at = &ops[..denied.map_or(ops.len(), |at| at + 1)];
        let lists: BTreeSet<(usize, bool)> = looked_at.iter().copied().collect();
        let undone = looked_at.iter().filter(|(_, write)| *write).count();
        let due = looked_at.len()
            + lists.iter().map(|(node, _)| entries(*node) - 1).sum::<usize>()
            + denied.map_or(0, |_| undone - 1);

        let context = PrepareContext {
            zxid: m.next,
            time: WallMs(0),
            session: SessionId(1),
            cxid: 7,
            session_state: m.state,
            credentials: &m.who,
            rules: &m.rules,
        };
        let mut multi = m.overlay.begin_multi(ops.len());
        let mut allowed = Budget::steps(1_000_000);
        loop {
            let mut budget = Budget::steps(slice);
            let (tree, overlay) = (&m.tree, &mut m.overlay);
            let done = overlay.prepare_multi(tree, &context, &requests, &mut multi, &mut budget);
            allowed.spend_part(Budget::steps(slice), budget);
            prop_assert!(done || budget.is_spent());
            // One operation more than fits, with one list.
            let mut owed = Budget::steps(slice + entries(7) as u32);
            owed.spend_part(Budget::steps(slice), budget);
            prop_assert!(owed.has_steps(0), "{budget:?}");
            if done {
                break;
            }
        }
        let error = m.overlay.finish_multi(&context, multi).error;
        prop_assert_eq!(error, denied.map(|_| ErrorCode::NO_AUTH));
        prop_assert!(is_left(&allowed, 1_000_000 - due), "{:?} {}", allowed, due);
    }

    #[test]
    fn a_log_replayed_over_a_later_state_converges(requests in requests(), from in 0..60usize) {
        let mut m = Machine::new();
        let mut log = Vec::new();
        for (session, request, _) in &requests {
            log.push(m.prepare_as(*session, request).entry);
            m.apply_all();
        }
        let due = body(&m.tree);
        for entry in log.iter().skip(from) {
            m.tree.apply(entry);
        }
        prop_assert_eq!(m.tree.nodes.recount(), m.tree.digest());
        prop_assert_eq!(body(&m.tree), due);
    }

    #[test]
    fn the_bytes_kept_up_are_those_counted_node_by_node(requests in requests()) {
        let mut m = Machine::new();
        prop_assert_eq!(m.tree.bytes(), m.tree.footprint().total());
        for (session, request, _) in &requests {
            m.prepare_as(*session, request);
            m.apply_all();
            prop_assert_eq!(m.tree.bytes(), m.tree.footprint().total());
        }
        let again = read(&body(&m.tree), 300).unwrap();
        prop_assert_eq!(again.bytes(), again.footprint().total());
        for tree in [&m.tree, &again] {
            prop_assert_eq!(tree.payload_bytes(), tree.footprint().payloads);
        }
    }

    /// In the tree that was kept up, and in one that was read from a snapshot.
    #[test]
    fn the_list_of_containers_and_ttl_nodes_is_what_a_walk_finds(requests in requests()) {
        let mut m = Machine::new();
        m.rules.extended_types = true;
        let listed = |tree: &Tree| {
            let ids = tree.nodes.reaped.iter();
            let mut paths: Vec<String> = ids.map(|&id| tree.nodes.path(id)).collect();
            paths.sort();
            paths
        };
        for (session, request, reaps) in &requests {
            m.prepare_as(*session, request);
            m.apply_all();
            if *reaps {
                let due = Due {
                    zxid: m.tree.last_zxid(),
                    wall: WallMs(1000 + m.next.0),
                    never_used_ms: 5,
                };
                for path in m.due(&due) {
                    prop_assert!(m.reap(&path, &due));
                    m.apply_all();
                }
            }
            let walked = all_nodes(&m.tree).into_iter();
            let due: Vec<String> = walked
                .filter(|node| stored::is_reaped(node.stored.owner))
                .map(|node| node.path.to_string())
                .collect();
            prop_assert_eq!(listed(&m.tree), due);
            prop_assert_eq!(m.tree.bytes(), m.tree.footprint().total());
        }
        prop_assert_eq!(m.tree.nodes.recount(), m.tree.digest());
        let again = read(&body(&m.tree), 300).unwrap();
        prop_assert_eq!(listed(&again), listed(&m.tree));
        prop_assert_eq!(again.bytes(), again.footprint().total());
    }

    #[test]
    fn a_walk_gives_each_node_as_it_was_whatever_is_applied_meanwhile(
        before in requests(),
        meanwhile in requests(),
        slices in proptest::collection::vec((0..3usize, 0..4u32), 1..60),
    ) {
        let mut m = Machine::new();
        for (session, request, _) in &before {
            m.prepare_as(*session, request);
        }
        m.apply_all();
        let due = all_nodes(&m.tree);
        let start = m.tree.begin_walk(usize::MAX);
        prop_assert_eq!(start.facts.nodes, due.len());
        prop_assert_eq!((start.last_zxid, start.digest), (m.tree.last_zxid(), m.tree.digest()));
        prop_assert_eq!(start.sessions, m.tree.sessions().collect::<Vec<_>>());
        let (mut found, mut changed) = (Vec::new(), 0);
        let mut requests = meanwhile.iter();
        for (applied, places) in slices {
            for (session, request, _) in requests.by_ref().take(applied) {
                m.prepare_as(*session, request);
                for applied in m.apply_all() {
                    // A node and its parent; or a node of which only the list was changed.
                    changed += 2 * applied.changes.len() + 1;
                }
            }
            let kept = m.tree.walk_keeps();
            prop_assert!(kept <= 2 * changed, "{} for {} changes", kept, changed);
            found.extend(m.tree.walk_slice(places).into_iter().flatten());
        }
        while let Some(slice) = m.tree.walk_slice(1) {
            found.extend(slice);
        }
        prop_assert_eq!((m.tree.walk_slice(1), m.tree.walk_keeps()), (None, 0));
        found.sort_by(|a, b| a.path.cmp(&b.path));
        prop_assert_eq!(found, due);
    }

    #[test]
    fn a_body_is_read_back_however_it_is_cut(requests in requests(), cut in 1..300usize) {
        let mut m = Machine::new();
        for (session, request, _) in &requests {
            m.prepare_as(*session, request);
        }
        m.apply_all();
        let bytes = body(&m.tree);
        let again = read(&bytes, cut).unwrap();
        prop_assert_eq!(body(&again), bytes);
        is_the_same(&again, &m.tree);
    }

    #[test]
    fn no_body_panics(requests in requests(), at in any::<prop::sample::Index>(), bit in 0..8u32, cut in 1..300usize) {
        let mut m = Machine::new();
        for (session, request, _) in &requests {
            m.prepare_as(*session, request);
        }
        m.apply_all();
        let mut bytes = body(&m.tree);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = read(&bytes, cut);
        let _ = read(&bytes[..at], cut);
    }
}
