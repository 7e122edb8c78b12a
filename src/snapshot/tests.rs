//! Merged snapshots against trees that were replayed.

mod held;
mod members;
mod quotas;

use super::*;
use crate::budget::Budget;
use crate::log::inspect::{self, Seen};
use crate::log::storage::Storage;
use crate::log::{Log, Need, Room, segment};
use crate::sim::disk::{Failing, SeamCall, SimStorage};
use crate::tree::{BodyReader, Overlay, PrepareContext, Prepared, Rules, SessionState};
use crate::txn::record::Payload;
use crate::txn::{
    Acl, AuthId, CreateRequest, CreateTxn, RawAcl, Txn, TxnDigest, TxnHeader, WriteRequest,
};
use crate::types::{OpCode, SessionId, WallMs};
use proptest::prelude::*;

const CONFIG: LogConfig = LogConfig {
    segment_bytes: 64 << 10,
};
/// Enough for every history here.
const PLENTY: usize = 1 << 20;

/// A store whose log grows by transactions that were prepared, and the tree behind them.
struct World {
    disk: SimStorage,
    log: Log<SimStorage>,
    store: StoreId,
    tree: Tree,
    overlay: Overlay,
    /// Of all transactions and all snapshots.
    next: Zxid,
}

impl World {
    fn new(tree: Tree) -> World {
        let disk = SimStorage::new(1 << 30);
        let identities = || -> Identities {
            let mut identity = 6;
            Box::new(move || {
                identity += 1;
                identity
            })
        };
        create_store(&disk, &disk, &tree, CONFIG, identities()).unwrap();
        let recovered = recover(&disk, &disk, &mut |_| {}).unwrap();
        let (tree, log, witness) = recovered.open(&disk, &disk, CONFIG, identities()).unwrap();
        World {
            store: witness.store,
            overlay: Overlay::new(&tree),
            next: tree.last_zxid().next(),
            disk,
            log,
            tree,
        }
    }

    fn request(&mut self, session: SessionId, request: &WriteRequest) -> Prepared {
        let who = [AuthId {
            scheme: "ip".into(),
            id: "127.0.0.1".into(),
        }];
        let rules = Rules {
            extended_types: true,
            ..Rules::default()
        };
        let context = PrepareContext {
            zxid: self.next,
            time: WallMs(1000 + self.next.0),
            session,
            cxid: 7,
            session_state: SessionState::Live,
            credentials: &who,
            rules: &rules,
        };
        let mut budget = Budget::UNLIMITED;
        let prepared = (self.overlay).prepare(&self.tree, &context, request, &mut budget);
        self.enter(&prepared.entry);
        self.overlay.forget(prepared.entry.header.zxid);
        self.tree.verify(&prepared.entry).unwrap();
        prepared
    }

    /// A transaction that nobody has checked, with the digest of the tree behind it.
    fn raw(&mut self, session: SessionId, op: OpCode, txn: Txn) {
        let header = TxnHeader {
            session,
            cxid: 7,
            zxid: self.next,
            time: WallMs(1000 + self.next.0),
            op,
        };
        let digest = None;
        let mut entry = Entry {
            header,
            txn,
            digest,
        };
        let mut behind = self.tree.clone();
        behind.apply(&entry);
        entry.digest = Some(TxnDigest {
            version: TxnDigest::VERSION,
            tree: behind.digest(),
        });
        self.enter(&entry);
    }

    fn enter(&mut self, entry: &Entry) {
        let payload = Payload::of(entry);
        while self.log.room_for(Need::Growing, payload.len()) == Room::Wait {
            let order = self.log.poll_spare().expect("a spare is wanted");
            self.log.spare_made(order.fulfil(&self.disk)).unwrap();
        }
        let write = |out: &mut Vec<u8>| payload.write_into(out);
        (self
            .log
            .append_in_place(entry.header.zxid, payload.len(), write))
        .unwrap();
        let ticket = self.log.begin_sync().expect("something to sync");
        self.log.synced(ticket.run()).unwrap();
        self.tree.apply(entry);
        self.next = self.next.next();
    }

    fn dirs(&self) -> (&SimStorage, &SimStorage) {
        (&self.disk, &self.disk)
    }

    fn order(&self, memory: usize) -> Order {
        Order {
            zxid: self.tree.last_zxid(),
            store: self.store,
            room_needed: 0,
            memory,
        }
    }

    fn snapshots(&self) -> Vec<Zxid> {
        snapshot_file::list(&self.disk).unwrap()
    }

    fn merge(&self, memory: usize) -> Result<Written, SnapError> {
        let base = self.snapshots().first().copied();
        merge::merge(
            self.dirs(),
            None,
            base,
            self.order(memory),
            &self.tree.facts(),
        )
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.disk.list().unwrap();
        names.retain(|name| name.starts_with("snap.") || name.starts_with("tmp."));
        names
    }
}

fn body_of(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(()) = tree.write_body(&mut |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<(), std::convert::Infallible>(())
    });
    bytes
}

fn body_in(disk: &SimStorage, zxid: Zxid) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot_file::read(disk, zxid, None, |chunk| {
        bytes.extend_from_slice(chunk);
        Ok::<(), SnapshotError>(())
    })
    .unwrap();
    bytes
}

fn create(op: OpCode, path: &str, flags: i32, perms: i32) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op,
        path: path.into(),
        data: Some(path.as_bytes().into()),
        acl: Some(raw_acl(perms)),
        flags,
        ttl_ms: if flags == 5 { 1000 } else { 0 },
    })
}

fn raw_acl(perms: i32) -> Vec<RawAcl> {
    let entry = |perms, id: &str| RawAcl {
        perms,
        scheme: Some("world".into()),
        id: Some(id.into()),
    };
    let strangers = (0..perms % 3).map(|_| RawAcl {
        scheme: Some("ip".into()),
        ..entry(perms, "127.0.0.1")
    });
    strangers.chain([entry(31, "anyone")]).collect()
}

fn delete(path: &str) -> WriteRequest {
    WriteRequest::Delete {
        path: path.into(),
        version: -1,
    }
}

fn set(path: &str, data: Option<&[u8]>) -> WriteRequest {
    WriteRequest::SetData {
        path: Some(path.into()),
        data: data.map(Arc::from),
        version: -1,
    }
}

/// Paths whose order by bytes is not that of the tree: `/a-` is between `/a` and `/a/b`.
fn paths() -> impl Strategy<Value = String> {
    prop_oneof![
        "/[ab]",
        "/[ab][-0]",
        "/[ab]/[cd]",
        "/[ab]-/[cd]",
        "/[ab]/[cd]!?/e",
    ]
}

fn sessions() -> impl Strategy<Value = SessionId> {
    (prop_oneof![Just(1u8), Just(3), Just(200)], 1..3i64)
        .prop_map(|(creator, number)| SessionId::of(creator, number))
}

/// What clients ask for: mostly few paths, so that they meet.
fn requests() -> impl Strategy<Value = Vec<(SessionId, WriteRequest)>> {
    let plain = (
        prop_oneof![Just(OpCode::CREATE), Just(OpCode::CREATE2)],
        0..4i32,
    );
    let special = prop_oneof![
        Just((OpCode::CREATE_CONTAINER, 4)),
        Just((OpCode::CREATE_TTL, 5)),
    ];
    let kind = prop_oneof![4 => plain, 1 => special];
    let single = prop_oneof![
        6 => (kind, paths(), 1..5i32).prop_map(|((op, flags), p, perms)| create(op, &p, flags, perms)),
        3 => paths().prop_map(|p| delete(&p)),
        2 => (paths(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)))
            .prop_map(|(p, data)| set(&p, data.as_deref())),
    ];
    let request = prop_oneof![
        12 => single.clone(),
        1 => (paths(), 1..5i32).prop_map(|(p, perms)| WriteRequest::SetAcl {
            path: Some(p.into()),
            acl: Some(raw_acl(perms)),
            version: -1,
        }),
        3 => proptest::collection::vec(single, 0..4).prop_map(WriteRequest::Multi),
        1 => Just(WriteRequest::CloseSession),
        1 => (1..5i32).prop_map(|timeout_ms| WriteRequest::CreateSession { timeout_ms }),
    ];
    proptest::collection::vec((sessions(), request), 0..80)
}

/// What a log could hold that nobody has checked.
fn raw_transactions() -> impl Strategy<Value = Vec<(SessionId, OpCode, Txn)>> {
    let acl = |perms| -> Arc<[Acl]> { Arc::from([Acl::world(perms)]) };
    let ops = [
        OpCode::CREATE,
        OpCode::CREATE2,
        OpCode::CREATE_CONTAINER,
        OpCode::CREATE_TTL,
    ];
    let create = (0..4usize, paths(), any::<bool>(), -1..4i32, 1..4i32).prop_map(
        move |(op, path, ephemeral, parent_cversion, perms)| {
            let create = CreateTxn {
                path: path.into(),
                data: None,
                acl: acl(perms),
                ephemeral: ephemeral && op < 2,
                parent_cversion,
                ttl_ms: if op == 3 { 7 } else { 0 },
            };
            (ops[op], Txn::Create(create))
        },
    );
    let change = prop_oneof![
        4 => create,
        2 => paths().prop_map(|path| (OpCode::DELETE, Txn::Delete { path: path.into() })),
        1 => (paths(), 0..3i32).prop_map(|(path, version)| {
            let data = Some(Arc::from(*b"set"));
            (OpCode::SET_DATA, Txn::SetData { path: path.into(), data, version })
        }),
        1 => (paths(), 0..3i32).prop_map(move |(path, version)| {
            let acl = acl(version + 1);
            (OpCode::SET_ACL, Txn::SetAcl { path: path.into(), acl, version })
        }),
    ];
    let txn = prop_oneof![
        10 => change.clone(),
        2 => proptest::collection::vec(change, 0..4).prop_map(|ops| (OpCode::MULTI, Txn::Multi(ops))),
        1 => proptest::option::of(proptest::collection::vec(paths(), 0..3)).prop_map(|paths| {
            let paths = paths.map(|paths| paths.into_iter().map(Arc::from).collect());
            (OpCode::CLOSE_SESSION, Txn::CloseSession { paths })
        }),
        1 => Just((OpCode::CREATE_SESSION, Txn::CreateSession { timeout_ms: 5 })),
    ];
    let one = (sessions(), txn).prop_map(|(session, (op, txn))| (session, op, txn));
    proptest::collection::vec(one, 0..40)
}

proptest! {
    #[test]
    fn a_merged_snapshot_is_to_the_byte_the_one_of_the_replayed_tree(
        requests in requests(),
        cuts in proptest::collection::vec((0..80usize, prop_oneof![0..600usize, Just(PLENTY)]), 1..4),
    ) {
        let mut w = World::new(Tree::new());
        for (nth, (session, request)) in requests.iter().enumerate() {
            w.request(*session, request);
            for (_, memory) in cuts.iter().filter(|(cut, _)| *cut == nth) {
                w.merge(*memory).unwrap();
            }
        }
        let written = w.merge(cuts[0].1).unwrap();
        prop_assert_eq!(body_in(&w.disk, w.tree.last_zxid()), body_of(&w.tree));
        prop_assert_eq!(written.root, root(&w.tree));
        prop_assert!(!w.names().contains(&snapshot_file::SCRATCH.to_owned()));
    }

    #[test]
    fn a_snapshot_out_of_memory_is_of_the_moment_at_which_the_walk_began(
        before in requests(),
        meanwhile in requests(),
        places in 1..5u32,
    ) {
        let mut w = World::new(Tree::new());
        for (session, request) in &before {
            w.request(*session, request);
        }
        let (due, order) = (body_of(&w.tree), w.order(PLENTY));
        let mut walked = Walked::new(w.tree.begin_walk(PLENTY));
        let mut requests = meanwhile.iter();
        while let Some(nodes) = w.tree.walk_slice(places) {
            walked = walked.add(&w.disk, nodes, order).unwrap();
            if let Some((session, request)) = requests.next() {
                w.request(*session, request);
            }
        }
        walked.finish(&w.disk, order).unwrap();
        prop_assert_eq!(body_in(&w.disk, order.zxid), due);
        prop_assert!(!w.names().contains(&snapshot_file::SCRATCH.to_owned()));
        // What follows it in the log is merged with it.
        w.merge(PLENTY).unwrap();
        prop_assert_eq!(body_in(&w.disk, w.tree.last_zxid()), body_of(&w.tree));
    }

    #[test]
    fn what_nobody_has_checked_is_merged_as_it_is_replayed_or_not_at_all(
        before in requests(),
        transactions in raw_transactions(),
        memory in prop_oneof![0..600usize, Just(PLENTY)],
    ) {
        let mut w = World::new(Tree::new());
        for (session, request) in before.iter().take(20) {
            w.request(*session, request);
        }
        w.merge(PLENTY).unwrap();
        for (session, op, txn) in transactions {
            w.raw(session, op, txn);
        }
        let replayed = body_of(&w.tree);
        match w.merge(memory) {
            Ok(_) => prop_assert_eq!(body_in(&w.disk, w.tree.last_zxid()), replayed),
            Err(SnapError::Contradiction(_) | SnapError::Digest(_)) => {}
            Err(e) => prop_assert!(false, "{e}"),
        }
    }
}

/// So many nodes, each with a kibibyte from the second generation on.
fn grow(w: &mut World, nodes: usize, generation: usize) {
    for nth in 0..nodes {
        let path = format!("/{nth:04}");
        let data = vec![generation as u8; 1024];
        match generation {
            0 => w.request(SessionId(1), &create(OpCode::CREATE, &path, 0, 1)),
            _ => w.request(SessionId(1), &set(&path, Some(&data))),
        };
    }
}

#[test]
fn patches_beyond_the_bound_wait_on_disk_and_what_is_on_disk_is_read_in_few_streams() {
    let mut w = World::new(Tree::new());
    for generation in 0..3 {
        grow(&mut w, 100, generation);
    }
    const MEMORY: usize = 4 << 10;
    let one_transaction = 4 << 10;
    let (mut runs, mut changes) = (runs::Runs::new(&w.disk), crate::tree::Changes::default());
    let (mut spills, mut most) = (0, 0);
    merge::each_since(&w.disk, None, (Zxid::ZERO, w.tree.last_zxid()), |entry| {
        changes.add(entry)?;
        assert!(changes.bytes() <= MEMORY + one_transaction);
        if changes.bytes() > MEMORY {
            runs.add(changes.take_patches())?;
            spills += 1;
            most = runs.len().max(most);
            assert_eq!(changes.bytes(), 0);
        }
        Ok(())
    })
    .unwrap();
    assert!(spills > 2 * runs::FAN_IN, "{spills}");
    assert_eq!(most, runs::FAN_IN);
    drop(runs);
    w.merge(MEMORY).unwrap();
    assert_eq!(body_in(&w.disk, w.tree.last_zxid()), body_of(&w.tree));
    assert!(w.merge(CHANGES_BYTES_MAX).is_ok());
}

#[test]
fn runs_are_gone_whatever_ends_the_merge() {
    let mut w = World::new(Tree::new());
    grow(&mut w, 50, 0);
    let before = w.names();
    let mut wrong = w.order(0);
    wrong.zxid = wrong.zxid.next();
    let found = merge::merge(w.dirs(), None, None, wrong, &w.tree.facts());
    assert!(matches!(found, Err(SnapError::Short(_))));
    assert_eq!(w.names(), before);
    // No room for all of the runs.
    w.disk.set_capacity(w.disk.used() + 5000);
    assert!(matches!(w.merge(0), Err(SnapError::Io(_))));
    assert_eq!(w.names(), before);
    // A crash leaves them, and the start removes them.
    w.disk.create(snapshot_file::SCRATCH, 100).unwrap();
    recover(&w.disk, &w.disk, &mut |_| {}).unwrap();
    assert_eq!(w.names(), before);
}

#[test]
fn a_snapshot_that_is_not_the_tree_that_serves_never_gets_its_name() {
    let mut w = World::new(Tree::new());
    grow(&mut w, 5, 0);
    let mut entry = Entry {
        header: TxnHeader {
            session: SessionId(1),
            cxid: 0,
            zxid: w.next,
            time: WallMs(0),
            op: OpCode::SET_DATA,
        },
        txn: Txn::SetData {
            path: "/0001".into(),
            data: None,
            version: 1,
        },
        digest: Some(TxnDigest {
            version: TxnDigest::VERSION,
            tree: 7,
        }),
    };
    w.enter(&entry);
    let before = w.names();
    let found = w.merge(PLENTY);
    assert!(matches!(found, Err(SnapError::Digest(d)) if d.expected == 7));
    assert_eq!(w.names(), before);
    // What the transaction after it says counts.
    entry.header.zxid = w.next;
    let mut behind = w.tree.clone();
    behind.apply(&entry);
    entry.digest = Some(TxnDigest {
        version: TxnDigest::VERSION,
        tree: behind.digest(),
    });
    w.enter(&entry);
    assert!(w.merge(PLENTY).is_ok());
}

#[test]
fn a_damaged_snapshot_is_made_up_for_by_an_older_one_and_the_log() {
    let mut w = World::new(Tree::new());
    for generation in 0..3 {
        grow(&mut w, 30, generation);
        w.merge(PLENTY).unwrap();
    }
    let newest = snapshot_file::name(w.snapshots()[0]);
    grow(&mut w, 30, 3);
    w.disk.spoil(&newest, 20_000, &[2]);
    let made = merge_newest(w.dirs(), None, w.order(PLENTY), &w.tree.facts()).unwrap();
    assert_eq!(made.base, Some(w.snapshots()[2]));
    assert_eq!(body_in(&w.disk, w.tree.last_zxid()), body_of(&w.tree));
}

#[test]
fn a_snapshot_that_can_not_be_read_takes_no_place_among_those_that_are_kept() {
    let mut w = World::new(Tree::new());
    for generation in 0..6 {
        grow(&mut w, 5, generation);
        w.merge(PLENTY).unwrap();
    }
    let all = w.snapshots();
    let purge = |verified: &mut BTreeSet<Zxid>| {
        let purged = purge(&w.disk, w.store, 3, std::mem::take(verified));
        purged.result.unwrap();
        *verified = purged.verified;
        purged.unneeded
    };
    w.disk.spoil(&snapshot_file::name(all[1]), 500, &[2]);
    w.disk.break_sector(&snapshot_file::name(all[2]), 600);
    let mut verified = BTreeSet::from([all[0]]);
    assert_eq!(purge(&mut verified), Some(all[4]));
    assert_eq!(w.snapshots(), all[..5]);
    assert_eq!(verified, BTreeSet::from([all[0], all[3], all[4]]));
    // What was verified is not read again.
    w.disk.spoil(&snapshot_file::name(all[4]), 500, &[2]);
    assert_eq!(purge(&mut verified), Some(all[4]));
}

#[test]
fn each_snapshot_that_is_kept_takes_the_place_of_all_newer_ones() {
    for retain in 1..=3 {
        let mut w = World::new(Tree::new());
        let mut verified = BTreeSet::new();
        for generation in 0..6 {
            // More than a segment, so that the purge gives some up, which are written again.
            grow(&mut w, 120, generation);
            w.merge(PLENTY).unwrap();
            let purged = purge(&w.disk, w.store, retain, verified);
            purged.result.unwrap();
            verified = purged.verified;
            let unneeded = purged.unneeded.into_iter();
            for retired in unneeded.flat_map(|zxid| w.log.retire(zxid)) {
                w.disk.remove(&retired).unwrap();
            }
        }
        grow(&mut w, 120, 6);
        let kept = w.snapshots();
        assert_eq!(kept.len(), retain);
        for (newer, zxid) in kept.iter().enumerate() {
            let copy = w.disk.copy();
            for rotten in &kept[..newer] {
                copy.spoil(&snapshot_file::name(*rotten), 500, &[2]);
            }
            let found = recover(&copy, &copy, &mut |_| {});
            let found = found.unwrap_or_else(|e| panic!("{retain} kept, behind {zxid}: {e}"));
            assert_eq!(found.snapshot.map(|(read, _)| read), Some(*zxid));
            assert_eq!(body_of(&found.tree), body_of(&w.tree));
        }
    }
}

#[test]
fn all_of_the_log_is_needed_while_there_are_fewer_whole_snapshots_than_are_kept() {
    let mut w = World::new(Tree::new());
    for generation in 0..3 {
        grow(&mut w, 5, generation);
        w.merge(PLENTY).unwrap();
    }
    let all = w.snapshots();
    assert_eq!(all.len(), 4);
    let purge = |retain| {
        let purged = purge(&w.disk, w.store, retain, BTreeSet::new());
        purged.result.unwrap();
        purged.unneeded
    };
    assert_eq!(purge(5), None);
    w.disk.spoil(&snapshot_file::name(all[1]), 500, &[2]);
    assert_eq!(purge(4), None, "one of the four is not whole");
    assert_eq!(w.snapshots(), all);
    assert_eq!(purge(3), Some(all[3]));
}

#[test]
fn creates_below_a_node_whose_counter_has_stuck_are_merged() {
    let mut w = World::new(Tree::new());
    for path in ["/a", "/b", "/c"] {
        let create = CreateTxn {
            path: path.into(),
            data: None,
            acl: Arc::from([Acl::world(Acl::ALL)]),
            ephemeral: false,
            parent_cversion: i32::MAX,
            ttl_ms: 0,
        };
        w.raw(SessionId(1), OpCode::CREATE2, Txn::Create(create));
    }
    w.merge(PLENTY).unwrap();
    assert_eq!(body_in(&w.disk, w.tree.last_zxid()), body_of(&w.tree));
}

#[test]
fn a_snapshot_that_can_not_be_removed_keeps_neither_older_ones_nor_the_log() {
    let mut w = World::new(Tree::new());
    for generation in 0..4 {
        grow(&mut w, 5, generation);
        w.merge(PLENTY).unwrap();
    }
    let all = w.snapshots();
    w.disk.set_failing(Some(Failing {
        calls: &[SeamCall::Remove],
        code: 13,
        after: 0,
        times: 1,
    }));
    let purged = purge(&w.disk, w.store, 1, BTreeSet::new());
    assert!(purged.result.is_err());
    assert_eq!(purged.unneeded, Some(all[0]));
    assert_eq!(
        w.snapshots(),
        [all[0], all[1]],
        "but for the one that failed"
    );
}

/// The newest segment and its first transaction; all others are gone.
fn keep_newest_segment(w: &World) -> (String, Zxid) {
    let names = w.disk.list().unwrap();
    let newest = segment::name(w.log.newest());
    for older in names.iter().filter(|name| name.starts_with("log.")) {
        if *older != newest {
            w.disk.remove(older).unwrap();
        }
    }
    let mut first = None;
    let mut sink = |_: u64, seen: Seen<'_>| {
        if let Seen::Record { record, .. } = seen {
            first.get_or_insert(record.zxid);
        }
    };
    inspect::segment(&w.disk, &newest, None, &mut sink).unwrap();
    (newest, first.expect("what did not fit the one before"))
}

#[test]
fn a_part_of_the_log_of_which_nothing_is_left_is_gone_and_one_that_is_damaged_is_not() {
    let mut w = World::new(Tree::new());
    for generation in 0..3 {
        grow(&mut w, 50, generation);
    }
    let (newest, first) = keep_newest_segment(&w);
    let part = |after: i64, mapped_to| Part {
        after: Zxid(first.0 - after),
        upto: Zxid(first.0 - after + 3),
        bytes: u64::MAX,
        mapped_to,
    };
    let base = w.log.newest();
    for durable in [w.log.durable(), base] {
        // What is committed meanwhile stands in the segment that is left, all of it behind the part.
        let gone = read_log(&w.disk, part(4, Some(durable))).unwrap_err();
        assert!(matches!(gone, ReadLogError::Gap { .. }), "{gone}");
    }
    let durable = Some(w.log.durable());
    assert_eq!(read_log(&w.disk, part(1, durable)).unwrap().len(), 3);
    w.disk.spoil(&newest, 4096 + 60, &[2]);
    let damaged = read_log(&w.disk, part(1, durable)).unwrap_err();
    assert!(matches!(damaged, ReadLogError::Short { .. }), "{damaged}");
}

#[test]
fn a_record_that_holds_another_transaction_than_it_says_is_neither_replayed_nor_merged() {
    let mut w = World::new(Tree::new());
    let session = SessionId(1);
    let timeout_ms = 5;
    let header = TxnHeader {
        session,
        cxid: 7,
        zxid: Zxid(w.next.0 + 1),
        time: WallMs(0),
        op: OpCode::CREATE_SESSION,
    };
    let other = Entry {
        header,
        txn: Txn::CreateSession { timeout_ms },
        digest: None,
    };
    let payload = Payload::of(&other);
    let write = |out: &mut Vec<u8>| payload.write_into(out);
    (w.log.append_in_place(w.next, payload.len(), write)).unwrap();
    let ticket = w.log.begin_sync().unwrap();
    w.log.synced(ticket.run()).unwrap();
    let mut order = w.order(PLENTY);
    order.zxid = w.next;
    let refusals = [
        recover(&w.disk, &w.disk, &mut |_| {}).err(),
        make(&w.disk, &w.disk, order, &w.tree.facts()).err(),
    ];
    for refused in refusals {
        let is_said = matches!(refused, Some(SnapError::Record { zxid, .. }) if zxid == w.next);
        assert!(is_said, "{refused:?}");
    }
}

#[test]
fn a_snapshot_whose_body_is_of_another_zxid_than_its_name_is_damaged() {
    let mut w = World::new(Tree::new());
    grow(&mut w, 5, 0);
    let last = w.tree.last_zxid();
    let mut file = SnapshotWriter::create(&w.disk, last, w.store).unwrap();
    file.push(&body_of(&Tree::new())).unwrap();
    file.finish().unwrap();
    let found = recover(&w.disk, &w.disk, &mut |_| {}).unwrap();
    let (snapshot, _) = found.snapshot.unwrap();
    assert_eq!((snapshot, found.tree.last_zxid()), (Zxid::ZERO, last));
    assert_eq!(found.unreadable.len(), 1);
}

#[test]
fn what_a_newer_server_wrote_is_refused_as_newer_although_it_is_damaged_behind() {
    let mut w = World::new(Tree::new());
    grow(&mut w, 5, 0);
    let mut body = body_of(&w.tree);
    body[..4].copy_from_slice(&99i32.to_be_bytes());
    let last = w.tree.last_zxid();
    let mut file = SnapshotWriter::create(&w.disk, last, w.store).unwrap();
    file.push(&body).unwrap();
    file.finish().unwrap();
    let name = snapshot_file::name(last);
    let len = w.disk.content(&name).unwrap().len();
    w.disk.spoil(&name, len - 1, &[1]);
    // Looks at nothing before the body has ended, as a thread may that has no processor.
    struct Late(Rebuilding<fn(&Entry)>, Vec<u8>);
    impl Rebuild for Late {
        fn begin(&mut self) {
            self.0.begin();
            self.1.clear();
        }
        fn body(&mut self, piece: &[u8]) -> Result<(), SnapError> {
            self.1.extend_from_slice(piece);
            Ok(())
        }
        fn body_ends(&mut self) -> Result<Zxid, SnapError> {
            self.0.body(&self.1)?;
            self.0.body_ends()
        }
        fn apply(&mut self, entry: Entry, bytes: usize) -> Result<(), SnapError> {
            self.0.apply(entry, bytes)
        }
        fn tree(&mut self) -> Result<Tree, SnapError> {
            self.0.tree()
        }
    }
    let mut late = Late(Rebuilding::new(|_| {}), Vec::new());
    let refused = recover_with(&w.disk, &w.disk, &mut late).err();
    assert!(refused.as_ref().is_some_and(is_newer), "{refused:?}");
}

#[test]
fn what_the_name_of_a_damaged_snapshot_shows_is_not_missing_without_a_word() {
    let mut w = World::new(Tree::new());
    grow(&mut w, 5, 0);
    w.merge(PLENTY).unwrap();
    let [newest, _] = w.snapshots()[..] else {
        panic!("{:?}", w.snapshots());
    };
    w.disk.spoil(&snapshot_file::name(newest), 10, &[2]);
    let found = recover(&w.disk, &w.disk, &mut |_| {}).unwrap();
    assert_eq!(found.tree.last_zxid(), newest, "the log has it all");
    // Nothing else is left that shows how far the store went.
    let names = w.disk.list().unwrap();
    for gone in names
        .iter()
        .filter(|name| **name != snapshot_file::name(newest))
    {
        w.disk.remove(gone).unwrap();
    }
    let refused = recover(&w.disk, &w.disk, &mut |_| {}).err();
    let is_said = |e: &SnapError| e.is_loss() && e.to_string().contains(&newest.to_string());
    assert!(refused.as_ref().is_some_and(is_said), "{refused:?}");
}

#[test]
fn what_can_not_be_merged_is_left_to_who_has_the_state() {
    let mut w = World::new(Tree::new());
    let session = SessionId(1);
    w.request(session, &create(OpCode::CREATE, "/own", 1, 1));
    w.raw(
        session,
        OpCode::CLOSE_SESSION,
        Txn::CloseSession { paths: None },
    );
    assert_eq!(w.tree.ephemeral_count(), 0);
    let names = w.names();
    let refused = merge_newest(w.dirs(), None, w.order(PLENTY), &w.tree.facts()).unwrap_err();
    assert!(matches!(refused, SnapError::Contradiction(_)), "{refused}");
    assert!(refused.is_rot());
    assert_eq!(w.names(), names);
}

#[test]
fn however_many_runs_there_are_each_patch_is_written_a_few_times() {
    let w = World::new(Tree::new());
    let mut runs = runs::Runs::new(&w.disk);
    let many = 20 * runs::FAN_IN;
    let before = w.disk.used();
    for nth in 0..many {
        let key = crate::tree::session_key(SessionId(nth as i64));
        let patch = crate::tree::Patch::Session(Some(nth as i32));
        runs.add([(key.into(), patch)]).unwrap();
        assert!(runs.len() <= runs::FAN_IN);
    }
    let record = 8 + 4 + 9 + 5;
    let written = (w.disk.used() - before) as usize / record;
    assert!(written <= 4 * many, "{written} for {many}");
    let mut merged = runs.merged(Default::default()).unwrap();
    for nth in 0..many {
        let (_, patch) = merged.next().unwrap().expect("all are there");
        assert_eq!(patch, crate::tree::Patch::Session(Some(nth as i32)));
    }
    assert!(merged.next().unwrap().is_none());
}

#[test]
fn snapshots_on_sectors_that_can_not_be_read_are_as_bad_as_rotten_ones() {
    let mut before = World::new(Tree::new());
    grow(&mut before, 30, 0);
    // The log begins behind its snapshot.
    let mut w = World::new(before.tree);
    grow(&mut w, 30, 1);
    let [only] = w.snapshots()[..] else {
        panic!("{:?}", w.snapshots());
    };
    w.disk.break_sector(&snapshot_file::name(only), 100);
    let error = merge_newest(w.dirs(), None, w.order(PLENTY), &w.tree.facts());
    assert!(matches!(&error, Err(e) if e.is_rot()), "{error:?}");
}

#[test]
fn a_snapshot_whose_body_has_version_1_is_merged_with_what_follows() {
    let old = include_bytes!("../../tests/fixtures/snap/v1-body.bin");
    let mut reader = BodyReader::default();
    reader.push(old).unwrap();
    let mut w = World::new(reader.finish().unwrap());
    let base = w.tree.last_zxid();
    let mut file = SnapshotWriter::create(&w.disk, base, w.store).unwrap();
    file.push(old).unwrap();
    file.finish().unwrap();
    assert_eq!(body_in(&w.disk, base), old);
    for memory in [0, PLENTY] {
        grow(&mut w, 20, 0);
        w.request(
            SessionId::of(1, 5),
            &WriteRequest::CreateSession { timeout_ms: 9 },
        );
        grow(&mut w, 20, 1);
        let made =
            merge::merge(w.dirs(), None, Some(base), w.order(memory), &w.tree.facts()).unwrap();
        assert_eq!(made.root, root(&w.tree));
    }
}

#[test]
fn a_log_of_which_only_seals_are_left_is_refused_without_its_snapshot() {
    let mut before = World::new(Tree::new());
    let timeout_ms = 5_000;
    let open = Txn::CreateSession { timeout_ms };
    before.raw(SessionId(1), OpCode::CREATE_SESSION, open);
    let World {
        disk, log, tree, ..
    } = World::new(before.tree);
    log.close().unwrap();
    assert!(recover(&disk, &disk, &mut |_| {}).is_ok());
    disk.remove(&snapshot_file::name(tree.last_zxid())).unwrap();
    let refused = recover(&disk, &disk, &mut |_| {}).err();
    assert!(
        matches!(refused, Some(SnapError::Gap { .. })),
        "{refused:?}"
    );
}

/// A node of a quota counts in no digest.
#[test]
fn a_snapshot_with_another_number_of_nodes_than_memory_gets_no_name() {
    let mut w = World::new(Tree::new());
    grow(&mut w, 20, 0);
    let mut facts = w.tree.facts();
    facts.nodes += 1;
    let before = w.names();
    let found = merge::merge(w.dirs(), None, None, w.order(PLENTY), &facts);
    assert!(
        matches!(found, Err(SnapError::Contradiction(_))),
        "{found:?}"
    );
    assert_eq!(w.names(), before);
    let order = w.order(PLENTY);
    let mut start = w.tree.begin_walk(PLENTY);
    start.facts.nodes += 1;
    let mut walked = Walked::new(start);
    while let Some(nodes) = w.tree.walk_slice(9) {
        walked = walked.add(&w.disk, nodes, order).unwrap();
    }
    let found = walked.finish(&w.disk, order);
    assert!(
        matches!(found, Err(SnapError::Contradiction(_))),
        "{found:?}"
    );
    assert!(merge::merge(w.dirs(), None, None, w.order(PLENTY), &w.tree.facts()).is_ok());
}
