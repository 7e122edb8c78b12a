//! The pipeline over the real tree and the real log, on the simulated disk.

mod learning;
mod quota;
mod reaping;
mod roles;

use super::outcomes::PENDING_MAX;
use super::*;
use crate::log::{LogConfig, Scan, StoreId};
use crate::messages::{Notice, Origin, Stamps};
use crate::sim::disk::SimStorage;
use crate::stages::Stage;
use crate::tree::{DigestMismatch, Rules};
use crate::txn::{CreateRequest, Entry, RawAcl, Txn, TxnHeader, WriteRequest};
use crate::types::{ConnId, ErrorCode, Generation, OpCode, WallMs, Xid, Zxid};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const TICK_TIME: u64 = 1000;
const LOOKS: usize = ordering::LOOKED_UP_MAX;
const SEGMENT: u64 = 64 << 10;
const S0: ShardId = ShardId(0);
const S1: ShardId = ShardId(1);

/// A pipeline with its driver, and all that has come down, in words.
struct World {
    disk: SimStorage,
    pipeline: Pipeline<SimStorage>,
    tree: Tree,
    now: Now,
    said: Vec<String>,
    sessions: Vec<SessionId>,
    generations: BTreeMap<SessionId, Generation>,
    sequence: u64,
}

fn recover(disk: &SimStorage, tree: &Tree) -> Log<SimStorage> {
    recover_with(disk, tree, SEGMENT)
}

fn recover_with(disk: &SimStorage, tree: &Tree, segment_bytes: u64) -> Log<SimStorage> {
    let mut identity = 0;
    let next = Box::new(move || {
        identity += 1;
        identity
    });
    let config = LogConfig { segment_bytes };
    let scan = Scan::new(disk).unwrap();
    scan.open(config, next, StoreId(1), tree.last_zxid())
        .unwrap()
}

fn config() -> PipelineConfig {
    PipelineConfig {
        tick_time_ms: TICK_TIME,
        ..PipelineConfig::new(Rules::default())
    }
}

fn ordering(w: &mut World) -> &mut Ordering {
    w.pipeline.role.ordering_mut().expect("it orders")
}

/// A tree whose last zxid is `last`.
fn tree_at(last: Zxid) -> Tree {
    let mut tree = Tree::new();
    if last > Zxid::ZERO {
        let header = TxnHeader {
            session: SessionId::NONE,
            cxid: 0,
            zxid: last,
            time: WallMs(0),
            op: OpCode::ERROR,
        };
        tree.apply(&Entry {
            header,
            txn: Txn::Error {
                code: ErrorCode::NO_NODE,
            },
            digest: None,
        });
    }
    tree
}

fn conn(slot: u32) -> ConnId {
    ConnId {
        slot,
        generation: 1,
    }
}

fn create(path: &str, ephemeral: bool, bytes: usize) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op: OpCode::CREATE,
        path: path.into(),
        data: Some(vec![7; bytes].into()),
        acl: Some(vec![RawAcl {
            perms: 31,
            scheme: Some("world".into()),
            id: Some("anyone".into()),
        }]),
        flags: i32::from(ephemeral),
        ttl_ms: 0,
    })
}

impl World {
    fn new() -> World {
        World::with(config(), Zxid::ZERO)
    }

    fn with(config: PipelineConfig, last: Zxid) -> World {
        World::with_segments(config, last, SEGMENT)
    }

    fn with_segments(config: PipelineConfig, last: Zxid, segment_bytes: u64) -> World {
        let disk = SimStorage::new(64 << 20);
        let tree = tree_at(last);
        let log = recover_with(&disk, &tree, segment_bytes);
        let now = Now {
            wall: WallMs(1_000_000),
            ..Now::default()
        };
        World {
            pipeline: Pipeline::new(config, log, &tree, now),
            disk,
            tree,
            now,
            said: Vec::new(),
            sessions: Vec::new(),
            generations: BTreeMap::new(),
            sequence: 0,
        }
    }

    fn up(&mut self, up: ShardRequest) {
        let mut budget = Budget::UNLIMITED;
        self.pipeline
            .request(&self.tree, up, &mut budget, self.now)
            .unwrap();
        self.pump();
    }

    fn origin(&mut self, shard: ShardId, slot: u32, sequence: u64) -> Origin {
        Origin {
            shard,
            conn: conn(slot),
            sequence,
        }
    }

    fn connect(&mut self, shard: ShardId, slot: u32, timeout_ms: i32) {
        let origin = self.origin(shard, slot, 0);
        let stamps = Stamps::default();
        self.up(ShardRequest::NewSession {
            origin,
            timeout_ms,
            stamps,
        });
    }

    /// A session of connection `slot` on shard 0, ready; what was said of it is dropped.
    fn session(&mut self, slot: u32, timeout_ms: i32) -> SessionId {
        self.connect(S0, slot, timeout_ms);
        self.settle();
        self.said.clear();
        *self.sessions.last().unwrap()
    }

    fn reattach(&mut self, shard: ShardId, slot: u32, session: SessionId, timeout_ms: i32) {
        let origin = self.origin(shard, slot, 0);
        self.up(ShardRequest::Reattach {
            origin,
            session,
            timeout_ms,
        });
    }

    fn asked(
        &mut self,
        generation: u64,
        slot: u32,
        session: SessionId,
        request: WriteRequest,
    ) -> ShardRequest {
        self.sequence += 1;
        ShardRequest::Write {
            origin: self.origin(S0, slot, self.sequence),
            session,
            generation: Generation(generation),
            xid: Xid(1),
            request,
            credentials: Arc::from(Vec::new()),
            stamps: Stamps::default(),
        }
    }

    fn write_as(&mut self, generation: u64, slot: u32, session: SessionId, request: WriteRequest) {
        let up = self.asked(generation, slot, session, request);
        self.up(up);
    }

    /// A request of which no more is ordered than `steps` allow.
    fn up_within(&mut self, steps: u32, up: ShardRequest) {
        let mut budget = Budget::steps(steps);
        self.pipeline
            .request(&self.tree, up, &mut budget, self.now)
            .unwrap();
    }

    /// Orders what waits, no more than `steps` allow.
    fn advance_within(&mut self, steps: u32) {
        let mut budget = Budget::steps(steps);
        self.pipeline
            .advance(&self.tree, &mut budget, self.now)
            .unwrap();
    }

    /// A multi of connection 1 that creates `/m0` to `/m9`, of which the first three are prepared.
    fn begin_multi(&mut self, session: SessionId, last: WriteRequest) {
        let creates = (0..9).map(|n| create(&format!("/m{n}"), false, 1));
        let request = WriteRequest::Multi(creates.chain([last]).collect());
        let up = self.asked(1, 1, session, request);
        let prepared = self.pipeline.cursors().prepared;
        self.up_within(4, up);
        assert_eq!(self.pipeline.cursors().prepared, prepared);
        assert!(self.pipeline.has_work() && !self.pipeline.is_idle());
    }

    fn write(&mut self, slot: u32, session: SessionId, request: WriteRequest) {
        self.write_as(1, slot, session, request);
    }

    fn released(&mut self, shard: ShardId, session: SessionId, generation: u64) {
        self.up(ShardRequest::Released {
            shard,
            session,
            generation: Generation(generation),
        });
    }

    fn touched(&mut self, shard: ShardId, watermark: u64, sessions: &[SessionId]) {
        self.up(ShardRequest::Touched {
            shard,
            watermark: Tick(watermark),
            made: Tick(watermark),
            sessions: sessions.to_vec(),
        });
    }

    /// The clock goes on to `tick`, with looks at the timers, close enough for no pause.
    fn tick(&mut self, tick: u64) {
        while self.now.tick.0 + TICK_TIME / 2 < tick {
            self.pause_until(self.now.tick.0 + TICK_TIME / 2);
        }
        self.pause_until(tick);
    }

    /// The clock goes on to `tick`, and only then the process: one look at the timers.
    fn pause_until(&mut self, tick: u64) {
        self.now.tick = Tick(tick);
        self.now.micros = tick * 1000;
        self.pipeline.tick(self.now).unwrap();
        self.pump();
    }

    /// All connections that waited up to now were handed to the shards.
    fn accepted(&mut self) {
        self.pipeline.accepted_until(self.now.tick, self.now.tick);
    }

    /// Orders what waits.
    fn advance(&mut self) {
        let mut budget = Budget::UNLIMITED;
        self.pipeline
            .advance(&self.tree, &mut budget, self.now)
            .unwrap();
    }

    /// Orders what waits, and applies what is committed.
    fn pump(&mut self) {
        self.advance();
        while self.apply() {
            self.advance();
        }
    }

    /// Applies the next transaction that is committed, or takes the next notice.
    fn apply(&mut self) -> bool {
        let Some(down) = self.pipeline.poll_message() else {
            return false;
        };
        let words = self.words(&down);
        self.said.push(words);
        if let ToShards::Txn(txn) = down {
            self.tree.apply(&txn.entry);
            self.pipeline.applied(&self.tree, &txn, self.now).unwrap();
        }
        true
    }

    fn words(&mut self, down: &ToShards) -> String {
        match down {
            ToShards::Txn(txn) => {
                let TxnHeader {
                    zxid, session, op, ..
                } = txn.entry.header;
                if op == OpCode::CREATE_SESSION {
                    self.sessions.push(session);
                    self.generations.insert(session, txn.generation);
                }
                let what = match &txn.entry.txn {
                    Txn::Error { code } => format!("{code:?}"),
                    _ => op.name().unwrap().to_owned(),
                };
                let whom = match txn.origin {
                    Some(o) => format!("{}.{}", o.conn.slot, o.sequence),
                    None => "nobody".into(),
                };
                format!("{zxid} {what} to {whom}")
            }
            ToShards::Notice(shard, notice) => {
                let what = match notice {
                    Notice::Refused(o) => format!("refused {}.{}", o.conn.slot, o.sequence),
                    Notice::Attached {
                        origin,
                        generation,
                        timeout_ms,
                        committed,
                        ..
                    } => format!(
                        "attached {} generation {generation} {timeout_ms} ms at {committed}",
                        origin.conn.slot
                    ),
                    Notice::Dead(o) => format!("dead {}", o.conn.slot),
                    Notice::Close(c) => format!("close {}", c.slot),
                    Notice::Detach { generation, .. } => format!("detach {generation}"),
                    Notice::Synced(o) => format!("synced {}.{}", o.conn.slot, o.sequence),
                    Notice::Suspend => "suspend".into(),
                };
                format!("s{shard}: {what}")
            }
        }
    }

    fn sync(&mut self) -> bool {
        let Some(ticket) = self.pipeline.poll_sync() else {
            return false;
        };
        self.pipeline.synced(ticket.run(), self.now).unwrap();
        self.pump();
        true
    }

    fn spare(&mut self) -> bool {
        let Some(order) = self.pipeline.poll_spare() else {
            return false;
        };
        let made = order.fulfil(&self.disk);
        self.pipeline.spare_made(made).unwrap();
        self.pump();
        true
    }

    fn settle(&mut self) {
        while self.spare() || self.sync() {}
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }
}

#[test]
fn nothing_overtakes_a_multi_that_is_prepared_in_slices() {
    let mut w = World::new();
    let (s, t) = (w.session(1, 60_000), w.session(2, 60_000));
    w.begin_multi(s, create("/m9", false, 1));
    let later = w.asked(1, 2, t, create("/m3", false, 1));
    w.up_within(1000, later);
    let origin = w.origin(S1, 3, 0);
    w.up_within(
        1000,
        ShardRequest::Reattach {
            origin,
            session: s,
            timeout_ms: 60_000,
        },
    );
    let (origin, stamps) = (w.origin(S1, 4, 0), Stamps::default());
    w.up_within(
        1000,
        ShardRequest::NewSession {
            origin,
            timeout_ms: 5000,
            stamps,
        },
    );
    assert_eq!(w.pipeline.waiting(), 4);
    let prepared = |w: &World| w.pipeline.cursors().prepared;
    let before = prepared(&w);
    for (steps, due) in [(3, 0), (3, 0), (1, 1), (1, 2), (1, 2), (1, 3)] {
        w.advance_within(steps);
        assert_eq!(prepared(&w).0 - before.0, due);
    }
    w.settle();
    let said = w.take();
    let expected = [
        "0x3 multi to 1.1",
        "0x4 NODEEXISTS(-110) to 2.2",
        "s0: detach 1",
        "0x5 createSession to 4.0",
    ];
    assert_eq!(said, expected);
}

#[test]
fn what_was_ordered_before_a_multi_is_applied_while_the_multi_is_prepared() {
    for last in [create("/m9", false, 1), create("/none/x", false, 1)] {
        let mut w = World::new();
        let (s, t) = (w.session(1, 60_000), w.session(2, 60_000));
        let earlier = w.asked(1, 2, t, create("/m", false, 1));
        w.up_within(1, earlier);
        let again = w.asked(1, 2, t, create("/m4", false, 1));
        w.up_within(1, again);
        let gone = WriteRequest::Delete {
            path: "/m4".into(),
            version: -1,
        };
        let gone = w.asked(1, 2, t, gone);
        w.up_within(1, gone);
        w.begin_multi(s, last);
        w.advance_within(3);
        let ticket = w.pipeline.poll_sync().unwrap();
        w.pipeline.synced(ticket.run(), w.now).unwrap();
        for steps in [1, 1, 1] {
            assert!(w.apply());
            w.advance_within(steps);
        }
        assert!(!w.apply());
        // The digest is compared when the multi is applied.
        w.advance();
        w.settle();
        assert!(w.pipeline.is_idle());
        assert_eq!(w.take().len(), 4);
    }
}

/// `/l0`, `/l1` and so on, each with a list of its own of `entries`, the last of which lets everybody in.
fn nodes_with_long_lists(w: &mut World, session: SessionId, nodes: usize, entries: usize) {
    for node in 0..nodes {
        let mut request = create(&format!("/l{node}"), false, 1);
        let WriteRequest::Create(CreateRequest { acl: Some(acl), .. }) = &mut request else {
            unreachable!("a create with a list");
        };
        for n in 1..entries {
            let stranger = RawAcl {
                perms: 31,
                scheme: Some("digest".into()),
                id: Some(format!("u{n}:{node}").into()),
            };
            acl.insert(0, stranger);
        }
        w.write(1, session, request);
        w.settle();
    }
    w.take();
}

#[test]
fn a_multi_over_long_lists_has_a_slice_for_each_list_and_others_are_served_in_between() {
    let mut w = World::new();
    let (s, t) = (w.session(1, 60_000), w.session(2, 60_000));
    nodes_with_long_lists(&mut w, s, 10, 100);
    let earlier = w.asked(1, 2, t, create("/earlier", false, 1));
    w.up_within(1, earlier);
    let check = |n: usize| WriteRequest::Check {
        path: Some(format!("/l{}", n % 10).into()),
        version: -1,
    };
    let up = w.asked(1, 1, s, WriteRequest::Multi((0..30).map(check).collect()));
    w.up_within(2, up);
    let mut slices = 1;
    while w.pipeline.waiting() > 0 {
        w.advance_within(50);
        slices += 1;
        if slices == 2 {
            // What was ordered before goes on.
            let ticket = w.pipeline.poll_sync().unwrap();
            w.pipeline.synced(ticket.run(), w.now).unwrap();
            assert!(w.apply());
        }
    }
    // Ten with a list each, and the 20 operations whose answers are known.
    assert_eq!(slices, 11);
    w.settle();
    assert_eq!(w.take().len(), 2);
}

#[test]
fn a_session_that_is_due_expires_behind_the_multi_that_is_being_prepared() {
    let mut w = World::new();
    let (s, _) = (w.session(1, 60_000), w.session(2, 1000));
    w.begin_multi(s, create("/m9", false, 1));
    for half in 1..=6 {
        w.now.tick = Tick(half * TICK_TIME / 2);
        w.pipeline.tick(w.now).unwrap();
    }
    w.up_within(
        1,
        ShardRequest::Touched {
            shard: S0,
            watermark: Tick(3000),
            made: Tick(3000),
            sessions: Vec::new(),
        },
    );
    w.pipeline.tick(w.now).unwrap();
    w.advance_within(6);
    let prepared = w.pipeline.cursors().prepared;
    assert_eq!(w.pipeline.counters().expired, 0);
    // The last operation, then the closeSession.
    w.advance_within(2);
    assert_eq!(w.pipeline.cursors().prepared, prepared.next().next());
    assert_eq!(w.pipeline.counters().expired, 1);
    w.settle();
    let expected = ["0x3 multi to 1.1", "0x4 closeSession to nobody"];
    assert_eq!(w.take(), expected);
}

#[test]
fn nothing_is_said_before_the_sync_and_then_all_in_order() {
    let mut w = World::new();
    let s = w.session(1, 5000);
    w.write(1, s, create("/a", false, 1));
    let ticket = w.pipeline.poll_sync().unwrap();
    w.write(1, s, create("/a", false, 1));
    w.write(1, s, create("/b", false, 1));
    assert!(w.pipeline.poll_sync().is_none(), "one sync at a time");
    w.tick(10);
    assert_eq!(w.take(), [""; 0]);
    let c = w.pipeline.cursors();
    assert_eq!((c.prepared, c.logged), (Zxid(4), Zxid(4)));
    assert_eq!(
        (c.durable, c.committed, c.applied),
        (Zxid(1), Zxid(1), Zxid(1))
    );
    assert_eq!(w.pipeline.outstanding(), 3);

    // The first sync covers only what was appended before it began.
    w.pipeline.synced(ticket.run(), w.now).unwrap();
    w.pump();
    assert_eq!(w.take(), ["0x2 create to 1.1"]);
    w.sync();
    assert_eq!(
        w.take(),
        ["0x3 NODEEXISTS(-110) to 1.2", "0x4 create to 1.3"]
    );
    assert_eq!(w.pipeline.outstanding(), 0);
    assert!(w.pipeline.is_idle());
}

#[test]
fn a_failed_sync_is_fatal_and_says_nothing() {
    let mut w = World::new();
    w.connect(S0, 1, 5000);
    let ticket = w.pipeline.poll_sync().unwrap();
    w.disk.fail_next_sync();
    let fatal = w.pipeline.synced(ticket.run(), w.now).unwrap_err();
    assert!(matches!(fatal, Fatal::Log(_)));
    assert!(w.pipeline.poll_message().is_none());
}

#[test]
fn a_tree_that_differs_from_what_was_prepared_is_fatal() {
    let mut w = World::new();
    let s = w.session(1, 5000);
    w.write(1, s, create("/a", false, 1));
    let ticket = w.pipeline.poll_sync().unwrap();
    w.pipeline.synced(ticket.run(), w.now).unwrap();
    let Some(ToShards::Txn(txn)) = w.pipeline.poll_message() else {
        panic!("committed");
    };
    // The tree "forgets" to apply it.
    let fatal = w.pipeline.applied(&w.tree, &txn, w.now).unwrap_err();
    assert!(matches!(
        fatal,
        Fatal::DigestMismatch(DigestMismatch { zxid: Zxid(2), .. })
    ));
}

#[test]
fn the_counter_rolls_over_into_the_next_epoch() {
    let mut w = World::with(config(), Zxid::new(4, 0xffff_fffd));
    w.connect(S0, 1, 5000);
    w.connect(S0, 2, 5000);
    w.settle();
    let expected = [
        "0x4fffffffe createSession to 1.0",
        "0x500000001 createSession to 2.0",
    ];
    assert_eq!(w.take(), expected);
}

#[test]
fn an_unknown_or_closing_session_gets_an_error_transaction() {
    let mut w = World::new();
    let s = w.session(1, 5000);
    w.write(1, SessionId(77), create("/a", false, 1));
    w.write(1, SessionId(77), WriteRequest::CloseSession);
    w.write(1, s, WriteRequest::CloseSession);
    w.write(1, s, create("/b", false, 1));
    w.write(1, s, WriteRequest::CloseSession);
    w.settle();
    let expected = [
        "0x2 SESSIONEXPIRED(-112) to 1.1",
        "0x3 SESSIONEXPIRED(-112) to 1.2",
        "0x4 closeSession to 1.3",
        "0x5 SESSIONEXPIRED(-112) to 1.4",
        "0x6 SESSIONEXPIRED(-112) to 1.5",
    ];
    assert_eq!(w.take(), expected);
    assert_eq!(w.pipeline.session_count(), 0);
}

#[test]
fn a_reattach_revokes_the_old_attachment_and_waits_for_its_shard_and_its_writes() {
    let mut w = World::new();
    let s = w.session(1, 5000);
    w.write(1, s, create("/a", false, 1));
    w.reattach(S1, 2, s, 7000);
    // From here on the old connection is stale, though its shard has not answered.
    w.write(1, s, create("/b", false, 1));
    w.released(S0, s, 1);
    assert_eq!(w.take(), [""; 0], "behind the write of the old connection");
    w.settle();
    let expected = [
        "0x2 create to 1.1",
        "s0: detach 1",
        "s0: close 1",
        "s1: attached 2 generation 2 7000 ms at 0x2",
    ];
    assert_eq!(w.take(), expected);
    assert!(w.tree.stat("/b").is_none());
    w.write_as(2, 2, s, create("/c", false, 1));
    w.settle();
    assert_eq!(w.take(), ["0x3 create to 2.3"]);
    assert_eq!(w.pipeline.outstanding(), 0);
}

#[test]
fn a_silent_old_shard_closes_the_new_connection_and_never_says_dead() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    w.reattach(S1, 2, s, 60_000);
    assert_eq!(w.take(), ["s0: detach 1"]);
    w.tick(TICK_TIME - 1);
    assert_eq!(w.take(), [""; 0]);
    w.tick(TICK_TIME);
    assert_eq!(w.take(), ["s1: close 2"]);
    // The next one waits for the same release; a confirmation of something else is none.
    w.reattach(S1, 3, s, 60_000);
    w.released(S1, s, 1);
    w.released(S0, s, 2);
    assert_eq!(w.take(), [""; 0]);
    w.released(S0, s, 1);
    assert_eq!(w.take(), ["s1: attached 3 generation 2 60000 ms at 0x1"]);
    assert_eq!(w.pipeline.outstanding(), 0);
}

#[test]
fn of_two_reattaches_the_newest_wins() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    w.reattach(S1, 2, s, 60_000);
    w.reattach(S1, 3, s, 60_000);
    assert_eq!(w.take(), ["s0: detach 1", "s1: close 2"]);
    w.released(S0, s, 1);
    assert_eq!(w.take(), ["s1: attached 3 generation 2 60000 ms at 0x1"]);
    w.tick(10 * TICK_TIME);
    assert_eq!(w.take(), [""; 0], "no timer of the loser is left");
    // Released while nobody waits: the next one is attached at once.
    w.reattach(S0, 4, s, 60_000);
    w.tick(20 * TICK_TIME);
    w.released(S1, s, 2);
    w.take();
    w.reattach(S0, 5, s, 60_000);
    assert_eq!(w.take(), ["s0: attached 5 generation 4 60000 ms at 0x1"]);
}

#[test]
fn an_unknown_closing_or_uncommitted_session_is_dead() {
    let mut w = World::new();
    w.connect(S0, 1, 100);
    let session = SessionId((1 << 56) | (1_000_000 << 16));
    w.reattach(S1, 2, session, 5000);
    w.reattach(S1, 3, SessionId(99), 5000);
    w.settle();
    assert_eq!(w.sessions, [session]);
    assert_eq!(w.take()[1..], ["s1: dead 2", "s1: dead 3"]);
    // Nobody is told "dead" before that is durable; who waits already learns it too.
    w.tick(10);
    w.reattach(S1, 4, session, 100);
    w.tick(1000);
    w.touched(S0, 1000, &[]);
    w.tick(1001);
    w.reattach(S1, 5, session, 5000);
    assert_eq!(w.take(), ["s0: detach 1"]);
    w.settle();
    let expected = ["0x2 closeSession to nobody", "s1: dead 4", "s1: dead 5"];
    assert_eq!(w.take(), expected);
}

#[test]
fn no_expiry_before_the_deadline_nor_before_the_watermark() {
    let mut w = World::new();
    let a = w.session(1, 2500);
    // Buckets of 1000: heard of at 0, due at 3000.
    assert_eq!(w.pipeline.deadline(a), Some(Tick(3000)));
    w.tick(2999);
    w.touched(S0, 2999, &[]);
    w.tick(2999);
    assert_eq!(w.pipeline.counters().expired, 0);
    // The clock has passed the deadline, the shard's reports have not.
    w.tick(6000);
    assert_eq!(w.pipeline.counters().expired, 0);
    // The late report holds a touch: the deadline counts from the watermark.
    w.touched(S0, 2999, &[a]);
    w.touched(S0, 5999, &[]);
    w.tick(6001);
    assert_eq!(w.pipeline.counters().expired, 0);
    w.touched(S0, 6000, &[]);
    w.tick(6002);
    assert_eq!(w.pipeline.deadline(a), None, "a session that closes");
    w.settle();
    assert_eq!(w.take(), ["0x2 closeSession to nobody"]);
    assert_eq!(w.pipeline.counters().expired, 1);
    w.pipeline.reset_stats();
    assert_eq!(w.pipeline.counters(), Default::default());
    assert_eq!(w.pipeline.stages().summary(Stage::Queue).count, 0);
}

#[test]
fn a_reattach_changes_the_timeout() {
    let mut w = World::new();
    let s = w.session(1, 20_000);
    w.reattach(S0, 2, s, 2000);
    w.released(S0, s, 1);
    w.tick(1);
    w.tick(3000);
    w.touched(S0, 3000, &[]);
    w.tick(3000);
    w.settle();
    assert_eq!(w.take().last().unwrap(), "0x2 closeSession to nobody");
}

#[test]
fn a_late_report_of_another_shard_brings_no_deadline_forward() {
    let mut w = World::new();
    let s = w.session(1, 2500);
    w.tick(2500);
    w.reattach(S1, 2, s, 2500);
    w.released(S0, s, 1);
    // Attached at 2500: due at 6000. The old shard's last batch is from before that.
    w.touched(S0, 2400, &[s]);
    w.tick(5999);
    w.touched(S1, 5999, &[]);
    w.tick(5999);
    assert_eq!(w.pipeline.counters().expired, 0);
}

#[test]
fn a_restart_gives_full_timeouts_and_fresh_ids_though_the_clock_was_set_back() {
    let mut w = World::new();
    w.session(1, 2500);
    w.session(2, 2500);
    w.write(2, w.sessions[1], WriteRequest::CloseSession);
    w.settle();
    let log = recover(&w.disk, &w.tree);
    w.now = Now {
        tick: Tick(10),
        micros: 0,
        wall: WallMs(5),
    };
    w.pipeline = Pipeline::new(config(), log, &w.tree, w.now);
    w.session(3, 60_000);
    let ids = w.sessions.clone();
    assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
    // Nobody serves the first session: it expires when no socket can hold its client's handshake.
    w.tick(2999);
    assert_eq!(w.pipeline.counters().expired, 0);
    w.tick(3000);
    w.accepted();
    w.tick(3001);
    w.touched(S0, 3001, &[]);
    w.tick(3002);
    w.settle();
    assert_eq!(w.take(), ["0x5 closeSession to nobody"]);
}

#[test]
fn a_restored_session_waits_for_the_listening_socket_and_for_every_shard() {
    let two = PipelineConfig {
        shards: 2,
        ..config()
    };
    let mut w = World::with(two.clone(), Zxid::ZERO);
    w.session(1, 2500);
    let log = recover(&w.disk, &w.tree);
    w.pipeline = Pipeline::new(two, log, &w.tree, w.now);
    let expired = |w: &mut World| {
        w.tick(w.now.tick.0 + 1);
        w.pipeline.counters().expired
    };
    w.tick(9000);
    w.touched(S0, 9000, &[]);
    w.touched(S1, 9000, &[]);
    assert_eq!(expired(&mut w), 0, "its connection may not be accepted yet");
    w.accepted();
    assert_eq!(expired(&mut w), 0, "its handshake may wait in either shard");
    w.touched(S0, 9002, &[]);
    assert_eq!(
        expired(&mut w),
        0,
        "its handshake may wait in the other shard"
    );
    w.touched(S1, 9003, &[]);
    assert_eq!(expired(&mut w), 1);
}

#[test]
fn a_handshake_that_waited_through_a_pause_finds_its_session() {
    for restored in [false, true] {
        let mut w = World::new();
        let s = w.session(1, 2500);
        if restored {
            let log = recover(&w.disk, &w.tree);
            w.pipeline = Pipeline::new(config(), log, &w.tree, w.now);
        }
        w.accepted();
        w.touched(S0, 0, &[]);
        w.tick(100);
        // The process stands still; the client connects anew, which nobody sees yet.
        w.pause_until(9000);
        w.touched(S0, 9000, &[]);
        w.tick(9001);
        assert_eq!(w.pipeline.counters().expired, 0, "restored: {restored}");
        w.reattach(S0, 2, s, 2500);
        w.released(S0, s, 1);
        w.accepted();
        w.tick(9100);
        w.touched(S0, 9100, &[]);
        w.tick(9101);
        let attached = w.take().iter().any(|words| words.contains("attached 2"));
        assert!(attached, "restored: {restored}");
        // And when it falls silent, it expires as any other.
        w.tick(13_000);
        w.touched(S0, 13_000, &[]);
        w.tick(13_001);
        assert_eq!(w.pipeline.counters().expired, 1, "restored: {restored}");
    }
}

#[test]
fn a_handshake_behind_what_its_shard_sent_during_a_pause_finds_its_session() {
    let mut w = World::new();
    let s = w.session(1, 2500);
    w.tick(100);
    // The core that orders stands still, the shards go on; the client connects anew.
    w.pause_until(9000);
    w.accepted();
    w.touched(S1, 9001, &[]);
    // What the shard has sent comes bit by bit: for longer than anybody waits for one that is stuck.
    for report in 1..=9 {
        w.tick(9000 + 700 * report);
        w.touched(S0, 1000 * report, &[]);
    }
    assert_eq!(w.pipeline.counters().expired, 0);
    w.reattach(S0, 2, s, 2500);
    w.released(S0, s, 1);
    let attached = w.take().iter().any(|words| words.contains("attached 2"));
    assert!(attached);
    // One that sends nothing is not waited for.
    w.tick(20_000);
    w.touched(S0, 20_000, &[]);
    w.tick(20_001);
    assert_eq!(w.pipeline.counters().expired, 1);
}

#[test]
fn after_a_pause_a_shard_that_is_behind_with_its_report_is_waited_for_whatever_it_sends() {
    let two_shards = PipelineConfig {
        shards: 2,
        ..config()
    };
    let mut w = World::with(two_shards, Zxid::ZERO);
    let writer = w.session(1, 60_000);
    w.connect(S1, 2, 2500);
    w.settle();
    w.tick(100);
    w.pause_until(9000);
    w.accepted();
    w.touched(S1, 9001, &[]);
    // The report is behind writes, and a re-attachment of the other session may be, too.
    for write in 1..=9 {
        w.tick(9000 + 700 * write);
        w.write(1, writer, create(&format!("/n{write}"), false, 1));
        w.settle();
    }
    assert_eq!(w.pipeline.counters().expired, 0);
    w.tick(9000 + 700 * 9 + 2 * TICK_TIME);
    assert_eq!(w.pipeline.counters().expired, 1, "it sends nothing");
}

#[test]
fn the_time_between_two_timers_is_no_pause_however_short_a_tick_time_is() {
    for tick_time_ms in [1, 4, 8] {
        let config = PipelineConfig {
            tick_time_ms,
            ..config()
        };
        let mut w = World::with(config, Zxid::ZERO);
        w.session(1, 100);
        for now in (5..200).step_by(5) {
            w.pause_until(now);
            w.touched(S0, now - 5, &[]);
        }
        assert_eq!(w.pipeline.counters().expired, 1, "{tick_time_ms}");
    }
}

#[test]
fn a_slow_start_costs_nobody_its_timeout() {
    let mut w = World::new();
    let session = w.session(1, 2500);
    w.now.tick = Tick(50_000);
    w.pipeline.begin_serving(w.now);
    w.tick(52_499);
    w.touched(S0, 52_499, &[]);
    w.tick(52_499);
    assert_eq!(w.pipeline.counters().expired, 0);
    w.tick(53_000);
    w.touched(S0, 53_000, &[]);
    w.tick(53_000);
    w.settle();
    assert_eq!(w.pipeline.counters().expired, 1, "{session}");
}

#[test]
fn a_full_disk_refuses_growth_serves_sessions_and_recovers() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    let full = w.disk.used();
    w.disk.set_capacity(full);
    // Uses up the segment and the spare, until no further spare can be made.
    let mut n = 0;
    while w.pipeline.counters().refused == 0 {
        n += 1;
        assert!(n < 100);
        w.write(1, s, create(&format!("/n{n}"), true, 8000));
        w.settle();
    }
    assert_eq!(w.take().last().unwrap(), &format!("s0: refused 1.{n}"));
    let prepared = w.pipeline.cursors().prepared;
    assert_eq!(prepared, Zxid(n as i64), "the refused one took no zxid");
    assert!(w.pipeline.log().is_full());

    w.write(
        1,
        s,
        WriteRequest::Delete {
            path: "/n1".into(),
            version: -1,
        },
    );
    w.connect(S0, 2, 5000);
    w.write(1, s, WriteRequest::CloseSession);
    w.settle();
    let words = w.take();
    assert!(words[0].contains("delete"), "{words:?}");
    assert!(words[1].contains("createSession"), "{words:?}");
    assert!(words[2].contains("closeSession"), "{words:?}");

    // Room again: after the log has asked for it, growth goes on.
    w.disk.set_capacity(full + 10 * SEGMENT);
    let s = w.sessions[1];
    w.tick(10);
    w.tick(2000);
    w.settle();
    w.write(2, s, create("/again", false, 8000));
    w.settle();
    assert!(w.take().last().unwrap().contains("create to 2."));
}

#[test]
fn at_the_bound_of_memory_what_takes_none_goes_on() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    let set = |path: &str, bytes: usize| WriteRequest::SetData {
        path: Some(path.into()),
        data: Some(vec![7; bytes].into()),
        version: -1,
    };
    let delete = |path: &str| WriteRequest::Delete {
        path: path.into(),
        version: -1,
    };
    for n in 0..6 {
        w.write(1, s, create(&format!("/n{n}"), n == 0, 8000));
    }
    w.write(1, s, set("/n1", 8000));
    w.settle();
    ordering(&mut w).config.memory = TreeMemory {
        bytes_max: w.tree.bytes() as u64,
        replicas: 0,
    };
    let many = WriteRequest::Multi(vec![set("/n1", 10); LOOKS + 1]);
    let writes = [
        (set("/n1", 8000), "ordered"),
        (set("/n1", 8001), "refused"),
        (set("/n2", 8000), "refused"), // its first change takes a record of its own
        (set("/n2", 4000), "ordered"),
        (set("/none", 0), "refused"),
        (
            WriteRequest::Multi(vec![delete("/n3"), set("/n1", 7000)]),
            "ordered",
        ),
        (
            WriteRequest::Multi(vec![delete("/n4"), create("/n5/new", false, 0)]),
            "refused",
        ),
        (many, "refused"),
        (
            WriteRequest::Multi(vec![delete("/n4"); LOOKS + 1]),
            "ordered",
        ),
        (WriteRequest::Multi(Vec::new()), "ordered"),
        (WriteRequest::CloseSession, "ordered"),
    ];
    let most = w.tree.bytes();
    for (nth, (write, due)) in writes.into_iter().enumerate() {
        // The bound stays as far away as it was.
        ordering(&mut w).config.memory.bytes_max = w.tree.bytes() as u64;
        let refused = w.pipeline.counters().refused;
        w.write(1, s, write);
        w.settle();
        let found = match w.pipeline.counters().refused > refused {
            true => "refused",
            false => "ordered",
        };
        assert_eq!(found, due, "{nth}");
        assert!(w.tree.bytes() <= most, "{nth}");
    }
}

#[test]
fn who_makes_room_by_deleting_small_nodes_may_create_again() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    let multi = |ops: Vec<WriteRequest>| WriteRequest::Multi(ops);
    let paths: Vec<String> = (0..5000).map(|n| format!("/n{n}")).collect();
    for some in paths.chunks(500) {
        let creates = some.iter().map(|path| create(path, false, 0));
        w.write(1, s, multi(creates.collect()));
        w.settle();
    }
    ordering(&mut w).config.memory = TreeMemory {
        bytes_max: w.tree.bytes() as u64,
        replicas: 0,
    };
    w.write(1, s, create("/new", false, 0));
    w.settle();
    assert_eq!(w.pipeline.counters().refused, 1);
    for some in paths.chunks(500) {
        let deletes = some.iter().map(|path| WriteRequest::Delete {
            path: path.as_str().into(),
            version: -1,
        });
        w.write(1, s, multi(deletes.collect()));
        w.settle();
    }
    w.write(1, s, create("/new", false, 0));
    w.settle();
    assert_eq!(w.pipeline.counters().refused, 1, "there is room again");
}

#[test]
fn at_the_bound_of_memory_growing_writes_are_refused_and_nothing_else_until_there_is_room() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    let create = |w: &mut World, n: usize| {
        w.write(1, s, create(&format!("/n{n}"), false, 8000));
        w.settle();
        w.take().last().unwrap().contains("create to")
    };
    assert!((0..10).all(|n| create(&mut w, n)));
    ordering(&mut w).config.memory = TreeMemory {
        bytes_max: w.tree.bytes() as u64 + 20_000,
        replicas: 0,
    };
    let made = (10..).take_while(|n| create(&mut w, *n)).count();
    assert!((2..4).contains(&made), "{made} of 8,000 bytes in 20,000");
    let refused = Zxid(1 + (10 + made) as i64);
    assert_eq!(w.pipeline.cursors().prepared, refused, "it took no zxid");
    w.connect(S0, 2, 5000);
    for path in ["/n0", "/n1"] {
        let (path, version) = (path.into(), -1);
        w.write(1, s, WriteRequest::Delete { path, version });
    }
    w.settle();
    let words = w.take();
    assert!(
        words.iter().any(|word| word.contains("createSession")),
        "{words:?}"
    );
    assert!(create(&mut w, 100), "there is room again");

    let shared = TreeMemory {
        bytes_max: w.tree.bytes() as u64 + 20_000,
        replicas: 3,
    };
    assert!(!shared.is_full(&w.tree), "replicas share the payloads");
    let replicas = 1000;
    assert!(TreeMemory { replicas, ..shared }.is_full(&w.tree));
}

#[test]
fn places_that_deletes_have_left_are_used_at_the_bound_of_memory() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    let create = |w: &mut World, name: &str, bytes: usize| {
        w.write(1, s, create(&format!("/{name}"), false, bytes));
        w.settle();
        w.take().last().unwrap().contains("create to")
    };
    assert!((0..4000).all(|n| create(&mut w, &format!("a{n}"), 0)));
    ordering(&mut w).config.memory.bytes_max = w.tree.bytes() as u64;
    assert!(!create(&mut w, "b", 0));
    let deleted = |n: &usize| n % 4 != 3;
    for n in (0..4000).filter(deleted) {
        let (path, version) = (format!("/a{n}").into(), -1);
        w.write(1, s, WriteRequest::Delete { path, version });
        w.settle();
    }
    let max = w.tree.bytes() as u64;
    ordering(&mut w).config.memory.bytes_max = max;
    let made = (0..4000).take_while(|n| create(&mut w, &format!("c{n}"), 0));
    assert!(made.count() > 1500);
    for n in (0..4000).filter(deleted) {
        let (path, version) = (format!("/c{n}").into(), -1);
        w.write(1, s, WriteRequest::Delete { path, version });
        w.settle();
    }
    let large = (0..4000).take_while(|n| create(&mut w, &format!("d{n}"), 500));
    assert!(large.count() < 100, "places for nodes are none for data");
    assert!(w.tree.bytes() as u64 <= max + max / 16 + 1000);
}

#[test]
fn replicas_share_the_payloads_and_take_all_the_rest_of_a_tree() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    for n in 0..50 {
        w.write(1, s, create(&format!("/{n:0200}"), false, 1));
        w.settle();
    }
    let found = w.tree.footprint();
    let (one, payloads) = (found.total() as u64, found.payloads as u64);
    assert!(one > 2 * payloads, "{found:?}");
    let is_full = |bytes_max| {
        let replicas = 3;
        let memory = TreeMemory {
            bytes_max,
            replicas,
        };
        memory.is_full(&w.tree)
    };
    let all = 4 * one - 3 * payloads;
    assert!(is_full(all) && !is_full(all + 1), "{found:?}");
}

#[test]
fn who_deletes_for_ever_on_a_full_disk_keeps_no_session_from_closing_or_expiring() {
    let mut w = World::new();
    let (s, mute) = (w.session(1, 60_000), w.session(2, 5_000));
    w.write(2, mute, create("/mute", true, 0));
    // As long a list as fits a quarter of the segment.
    ephemerals(&mut w, 1, s, "e", 900);
    w.disk.set_capacity(w.disk.used());
    while w.pipeline.counters().refused == 0 {
        w.write(1, s, create("/more", true, 8000));
        let gone = WriteRequest::Delete {
            path: "/more".into(),
            version: -1,
        };
        w.write(1, s, gone);
        w.settle();
    }
    let deletes = |w: &mut World, path: &str| {
        let refused = w.pipeline.counters().refused;
        for n in 0.. {
            assert!(n < 10_000, "the log is without end");
            let delete = WriteRequest::Delete {
                path: path.into(),
                version: -1,
            };
            w.write(1, s, delete);
            w.settle();
            if w.pipeline.counters().refused > refused {
                return n;
            }
        }
        unreachable!("the loop has no end of its own")
    };
    let failing = deletes(&mut w, "/none");
    assert!(failing > 0, "at first they use the reserve");
    assert_eq!(deletes(&mut w, "/e00000"), 0, "and then nobody's do");
    w.take();

    w.connect(S0, 3, 5_000);
    w.tick(6_000);
    w.touched(S0, 6_000, &[s]);
    w.tick(6_000);
    w.write(1, s, WriteRequest::CloseSession);
    w.settle();
    let words = w.take();
    let opened = words.iter().any(|word| word.contains("createSession to 3"));
    let expired = words
        .iter()
        .any(|word| word.contains("closeSession to nobody"));
    let closed = words.iter().any(|word| word.contains("closeSession to 1."));
    assert!(opened && expired && closed, "{words:?}");
    assert_eq!(w.tree.ephemeral_count(), 0);
}

#[test]
fn requests_wait_for_a_spare_in_order_and_nothing_overtakes() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    // No spare is made while the segment and the one after it fill.
    let order = loop {
        w.write(1, s, create(&format!("/n{}", w.sequence), false, 8000));
        w.sync();
        if let Some(order) = w.pipeline.poll_spare() {
            while w.pipeline.waiting() == 0 {
                w.write(1, s, create(&format!("/n{}", w.sequence), false, 8000));
                w.sync();
            }
            break order;
        }
    };
    w.take();
    let first = w.sequence;
    // Small enough to fit, and entitled to the reserve: they wait all the same.
    w.write(1, s, create("/small", false, 1));
    w.connect(S0, 2, 5000);
    w.reattach(S1, 3, s, 60_000);
    w.write(1, s, create("/stale", false, 1));
    w.tick(50_000);
    w.sync();
    assert_eq!((w.take().len(), w.pipeline.waiting()), (0, 5));
    let made = order.fulfil(&w.disk);
    w.pipeline.spare_made(made).unwrap();
    w.advance();
    w.sync();
    let words: Vec<String> = w.take();
    assert!(
        words[0].ends_with(&format!(" create to 1.{first}")),
        "{words:?}"
    );
    assert!(
        words[1].ends_with(&format!(" create to 1.{}", first + 1)),
        "{words:?}"
    );
    assert!(words[2].ends_with(" createSession to 2.0"), "{words:?}");
    assert_eq!(words[3..], ["s0: detach 1", "s0: close 1"]);
}

#[test]
fn a_close_with_too_long_a_list_is_preceded_by_deletes() {
    let config = PipelineConfig {
        close_bytes_max: ordering::ENTRY_FIXED + 100 * 10,
        ..config()
    };
    let mut w = World::with(config, Zxid::ZERO);
    let s = w.session(1, 60_000);
    let other = w.session(2, 60_000);
    for i in 0..1000 {
        // Half of them are still in flight when the close comes: 4 + 6 bytes of list each.
        w.write(1, s, create(&format!("/e{i:04}"), true, 0));
        if i == 500 {
            w.settle();
        }
        if i % 100 == 0 {
            w.spare();
        }
    }
    w.write(2, other, create("/kept", true, 0));
    w.write(1, s, WriteRequest::CloseSession);
    let close = w.sequence;
    w.write(1, s, create("/late", true, 0));
    w.reattach(S1, 3, s, 60_000);
    // Somebody deletes what the server is about to delete.
    w.write(
        2,
        other,
        WriteRequest::Delete {
            path: "/e0001".into(),
            version: -1,
        },
    );
    w.settle();
    for tick in 1..20 {
        w.tick(tick);
        w.settle();
    }
    let words = w.take();
    let behind: Vec<&String> = words.iter().skip_while(|w| !w.contains("multi")).collect();
    let multis = words
        .iter()
        .filter(|w| w.contains("multi to nobody"))
        .count();
    assert!((4..=6).contains(&multis), "{behind:?}");
    let tail = &behind[behind.len() - 3..];
    assert!(
        tail[0].ends_with(&format!("closeSession to 1.{close}")),
        "{tail:?}"
    );
    assert!(
        tail[1].ends_with(&format!("SESSIONEXPIRED(-112) to 1.{}", close + 1)),
        "{tail:?}"
    );
    assert_eq!(tail[2], "s1: dead 3");
    assert_eq!(w.tree.ephemeral_count(), 1);
    assert!(w.pipeline.is_idle());
    assert_eq!(w.pipeline.outstanding(), 0);
}

/// Pipelines the creation of ephemerals `/<name>0000` and on, and applies them.
fn ephemerals(w: &mut World, slot: u32, session: SessionId, name: &str, n: usize) {
    for i in 0..n {
        w.write(slot, session, create(&format!("/{name}{i:05}"), true, 0));
        if i % 100 == 0 {
            w.settle();
        }
    }
    w.settle();
    w.take();
}

#[test]
fn more_paths_than_one_step_may_take_are_deleted_ahead_several_transactions_in_flight() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    ephemerals(&mut w, 1, s, "e", 5000);
    w.write(1, s, WriteRequest::CloseSession);
    w.tick(1);
    let mut syncs = 0;
    while w.pipeline.session_count() > 0 {
        let before = w.tree.ephemeral_count();
        w.spare();
        w.sync();
        syncs += 1;
        let deleted = before - w.tree.ephemeral_count();
        // Four transactions, and the closeSession.
        assert!(deleted <= 1024 + 1000, "{deleted} with one sync");
    }
    let words = w.take();
    let multis = words.iter().filter(|w| w.contains("multi to nobody"));
    // 4,000 ahead, 256 in each; the last 1,000 at most with the session.
    assert_eq!(multis.count(), 16);
    assert!(words.last().unwrap().contains("closeSession to 1."));
    assert_eq!(w.pipeline.counters().deletes_ahead, 16);
    assert!(syncs <= 7, "{syncs} syncs for 17 transactions");
    assert!(w.pipeline.is_idle());
}

#[test]
fn deletes_ahead_of_a_close_never_exceed_what_may_be_in_flight() {
    let mut w = World::new();
    let s = w.session(1, 60_000);
    ephemerals(&mut w, 1, s, "e", 4000);
    w.write(1, s, WriteRequest::CloseSession);
    for tick in 1..50 {
        w.tick(tick);
    }
    let cursors = w.pipeline.cursors();
    let in_flight = cursors.prepared.0 - cursors.applied.0;
    assert_eq!(in_flight, ordering::DELETES_IN_FLIGHT_MAX as i64);
}

#[test]
fn long_closes_of_several_sessions_progress_in_turn() {
    let config = PipelineConfig {
        close_paths_max: 10,
        ..config()
    };
    let mut w = World::with(config, Zxid::ZERO);
    let sessions: Vec<_> = (1..=3).map(|slot| w.session(slot, 60_000)).collect();
    for (slot, session) in (1..).zip(&sessions) {
        let name = ["a", "b", "c"][slot as usize - 1];
        // The last one is short.
        ephemerals(
            &mut w,
            slot,
            *session,
            name,
            if slot == 3 { 300 } else { 2000 },
        );
    }
    for (slot, session) in (1..).zip(&sessions) {
        w.write(slot, *session, WriteRequest::CloseSession);
    }
    let mut closed_at = None;
    for round in 0..100 {
        w.tick(w.now.tick.0 + 1);
        w.spare();
        w.sync();
        let words = w.take();
        if words.iter().any(|w| w.contains("closeSession to 3.")) {
            closed_at = Some((round, w.tree.ephemeral_count()));
            break;
        }
    }
    let (_, left) = closed_at.expect("the short one is closed");
    assert!(left > 1000, "before the long ones: {left} are left of them");
    for _ in 0..20 {
        w.tick(w.now.tick.0 + 1);
        w.settle();
    }
    assert_eq!(
        (w.tree.ephemeral_count(), w.pipeline.session_count()),
        (0, 0)
    );
}

#[test]
fn deletes_ahead_spare_a_node_that_somebody_else_has_created_anew() {
    let config = PipelineConfig {
        close_paths_max: 1,
        ..config()
    };
    let mut w = World::with(config, Zxid::ZERO);
    let s = w.session(1, 60_000);
    let other = w.session(2, 60_000);
    ephemerals(&mut w, 1, s, "e", 5);
    w.write(1, s, WriteRequest::CloseSession);
    // Ordered, and not applied when the deletes are.
    let path = "/e00002";
    w.write(
        2,
        other,
        WriteRequest::Delete {
            path: path.into(),
            version: -1,
        },
    );
    w.write(2, other, create(path, true, 0));
    for tick in 1..5 {
        w.tick(tick);
        w.settle();
    }
    assert_eq!(w.tree.ephemerals(other).count(), 1);
    assert_eq!(w.tree.ephemeral_count(), 1);
    assert_eq!(w.pipeline.session_count(), 1);
}

#[test]
fn a_session_that_ends_takes_nothing_along_that_others_have_created_anew() {
    const PATH: &str = "/e00002";
    let delete = || WriteRequest::Delete {
        path: PATH.into(),
        version: -1,
    };
    let in_one = |ephemeral| WriteRequest::Multi(vec![delete(), create(PATH, ephemeral, 0)]);
    // What somebody else asks for, and whether a node is left.
    let cases = [
        (vec![], false),
        (vec![delete()], false),
        (vec![delete(), create(PATH, true, 0)], true),
        (vec![delete(), create(PATH, false, 0)], true),
        (vec![in_one(true)], true),
        (vec![in_one(false)], true),
        (vec![in_one(true), delete()], false),
        (vec![in_one(false), in_one(true)], true),
    ];
    // In one transaction, and in several. The requests come before the session is marked as closing, or behind
    // that; none of them is applied then.
    for (paths_max, expires, behind) in [
        (100, false, false),
        (100, true, false),
        (1, false, false),
        (1, false, true),
        (1, true, true),
        (4, false, true),
    ] {
        for (asked, is_left) in &cases {
            let config = PipelineConfig {
                close_paths_max: paths_max,
                ..config()
            };
            let mut w = World::with(config, Zxid::ZERO);
            let s = w.session(1, 100);
            let other = w.session(2, 60_000);
            ephemerals(&mut w, 1, s, "e", 5);
            let ask = |w: &mut World| {
                for request in asked {
                    w.write(2, other, request.clone());
                }
            };
            if !behind {
                ask(&mut w);
            }
            match expires {
                true => {
                    w.tick(1000);
                    w.touched(S0, 1000, &[]);
                    w.tick(1001);
                    assert_eq!(w.pipeline.counters().expired, 1);
                }
                false => w.write(1, s, WriteRequest::CloseSession),
            }
            if behind {
                ask(&mut w);
            }
            for _ in 0..10 {
                w.settle();
                w.tick(w.now.tick.0 + 1);
                assert_eq!(w.pipeline.counted(), w.pipeline.recounted());
            }
            let case = format!("{paths_max} {expires} {behind} {asked:?}");
            assert_eq!(w.pipeline.session_count(), 1, "{case}");
            assert_eq!(w.tree.ephemerals(s).count(), 0, "{case}");
            assert_eq!(w.tree.stat(PATH).is_some(), *is_left, "{case}");
            assert!(w.tree.stat("/e00001").is_none(), "{case}");
        }
    }
}

#[test]
fn who_waits_for_a_session_that_closes_slowly_is_told_dead_behind_its_close_session() {
    let config = PipelineConfig {
        close_paths_max: 1,
        ..config()
    };
    let mut w = World::with(config, Zxid::ZERO);
    // Shorter than a tickTime, so that it can expire while somebody waits for the old shard.
    let s = w.session(1, 100);
    let other = w.session(3, 60_000);
    ephemerals(&mut w, 1, s, "e", 3);
    w.tick(10);
    w.reattach(S1, 2, s, 100);
    w.write(3, other, create("/in-flight", false, 0));
    w.tick(1000);
    w.touched(S0, 1000, &[]);
    w.tick(1001);
    assert_eq!(w.pipeline.counters().expired, 1);
    w.take();
    w.released(S0, s, 1);
    let early = w.take();
    assert!(early.is_empty(), "{early:?}");
    for tick in 1002..1010 {
        w.tick(tick);
        w.settle();
    }
    let words = w.take();
    let at = |what: &str| words.iter().position(|w| w.contains(what)).unwrap();
    assert!(at("closeSession to nobody") < at("s1: dead 2"), "{words:?}");
    assert_eq!(w.pipeline.outstanding(), 0);
}

#[test]
fn load_holds_up_no_expiry() {
    // What gathers while a sync is under way is bounded in segments: in those of the other tests, so many requests
    // would wait for room.
    let mut w = World::with_segments(config(), Zxid::ZERO, 16 * SEGMENT);
    let silent = w.session(1, 100);
    let busy = w.session(2, 60_000);
    for i in 0..3000 {
        w.write(2, busy, create(&format!("/n{i}"), false, 0));
        w.spare();
    }
    assert!(w.pipeline.cursors().prepared.0 - w.pipeline.cursors().committed.0 >= 3000);
    w.tick(1000);
    w.touched(S0, 1000, &[]);
    w.tick(1001);
    assert_eq!(w.pipeline.counters().expired, 1, "{silent}");
    // Not beside requests that wait for room: one of them may be the session's.
    let other = w.session(3, 100);
    while w.pipeline.waiting() == 0 {
        w.write(2, busy, create(&format!("/m{}", w.sequence), false, 8000));
    }
    w.reattach(S0, 4, other, 100);
    w.tick(9000);
    w.touched(S0, 9000, &[]);
    w.tick(9001);
    assert_eq!(w.pipeline.counters().expired, 1);
}

#[test]
fn the_expiries_of_one_turn_are_bounded_and_the_next_turn_goes_on() {
    let mut w = World::new();
    for slot in 0..100 {
        w.connect(S0, slot, 100);
    }
    w.settle();
    w.tick(1000);
    w.touched(S0, 1000, &[]);
    w.now.tick = Tick(1001);
    w.pipeline.tick(w.now).unwrap();
    w.advance();
    assert_eq!(w.pipeline.counters().expired, 64);
    assert!(w.pipeline.has_work());
    w.advance();
    assert_eq!(w.pipeline.counters().expired, 100);
    w.advance();
    assert!(!w.pipeline.has_work());
}

#[test]
fn whose_deadline_is_earlier_expires_first_whichever_shard_has_the_session() {
    let config = PipelineConfig {
        shards: 2,
        ..config()
    };
    let mut w = World::with(config, Zxid::ZERO);
    w.connect(S1, 1, 100);
    w.settle();
    let early = *w.sessions.last().unwrap();
    w.tick(1000);
    for slot in 2..100 {
        w.connect(S0, slot, 100);
    }
    w.settle();
    w.tick(3000);
    for shard in [S0, S1] {
        w.touched(shard, 3000, &[]);
    }
    w.now.tick = Tick(3001);
    w.pipeline.tick(w.now).unwrap();
    w.advance();
    assert!(w.pipeline.closing().any(|session| session == early));
}

/// Turns of so many steps until nothing is to be done.
fn turns_until_rest(w: &mut World, steps: u32) -> usize {
    let mut turns = 0;
    while w.pipeline.has_work() {
        w.advance_within(steps);
        turns += 1;
        assert!(turns < 10_000, "it never rests");
    }
    turns
}

#[test]
fn while_the_disk_hangs_those_who_wait_for_a_handshake_cost_a_step_each_when_they_are_due() {
    let mut w = World::with_segments(config(), Zxid::ZERO, 64 * SEGMENT);
    for slot in 1..=3000 {
        w.connect(S0, slot, 100);
    }
    w.tick(1000);
    w.touched(S0, 1000, &[]);
    w.now.tick = Tick(1001);
    w.pipeline.tick(w.now).unwrap();
    assert!(turns_until_rest(&mut w, 1024) <= 3000 / 32);
    assert_eq!(w.pipeline.counters().expired, 0);
}

#[test]
fn requests_that_wait_have_their_turn_beside_many_who_expire() {
    let mut w = World::with_segments(config(), Zxid::ZERO, 64 * SEGMENT);
    let writer = w.session(0, 60_000);
    for slot in 1..=300 {
        w.connect(S0, slot, 100);
    }
    w.settle();
    w.tick(1000);
    w.touched(S0, 1000, &[]);
    w.begin_multi(writer, create("/m9", false, 1));
    for n in 0..3000 {
        let more = w.asked(1, 1, writer, create(&format!("/x{n}"), false, 1));
        w.up_within(1, more);
    }
    assert_eq!(w.pipeline.waiting(), 3001);
    w.now.tick = Tick(1001);
    w.pipeline.tick(w.now).unwrap();
    for _ in 0..3 {
        let before = w.pipeline.waiting();
        w.advance_within(1024);
        assert!(w.pipeline.waiting() < before);
        assert_eq!(w.pipeline.counted(), w.pipeline.recounted());
    }
    assert!(turns_until_rest(&mut w, 1024) < 10);
    assert_eq!(w.pipeline.counters().expired, 300);
}

#[test]
fn who_waits_for_an_old_shard_is_patient_from_the_moment_at_which_that_was_told() {
    let mut w = World::new();
    let (s, other) = (w.session(1, 60_000), w.session(2, 60_000));
    w.write(2, other, create("/in-flight", false, 0));
    w.reattach(S1, 3, s, 60_000);
    // The disk hangs until the waiter's patience would have ended.
    w.tick(TICK_TIME - 1);
    w.settle();
    assert_eq!(w.take(), ["0x3 create to 2.1", "s0: detach 1"]);
    w.tick(2 * TICK_TIME - 2);
    assert!(
        w.take().is_empty(),
        "the old shard has had less than its time"
    );
    w.tick(2 * TICK_TIME - 1);
    assert_eq!(w.take(), ["s1: close 3"]);
    assert_eq!(w.pipeline.counted(), w.pipeline.recounted());
}

#[test]
fn sessions_expire_although_requests_wait_in_every_turn_and_one_that_asks_does_not() {
    let mut w = World::new();
    let writer = w.session(1, 60_000);
    let (quiet, asks) = (w.session(2, 100), w.session(3, 100));
    w.tick(1000);
    w.touched(S0, 1000, &[]);
    w.begin_multi(writer, create("/m9", false, 1));
    let origin = w.origin(S1, 4, 0);
    w.up_within(
        1,
        ShardRequest::Reattach {
            origin,
            session: asks,
            timeout_ms: 100,
        },
    );
    w.now.tick = Tick(1001);
    w.pipeline.tick(w.now).unwrap();
    for n in 0..20 {
        for n in [2 * n, 2 * n + 1] {
            let more = w.asked(1, 1, writer, create(&format!("/x{n}"), false, 1));
            w.up_within(1, more);
        }
        w.advance_within(2);
        assert!(w.pipeline.waiting() > 0);
    }
    assert_eq!(w.pipeline.closing().collect::<Vec<_>>(), [quiet]);
    assert_eq!(w.pipeline.counters().expired, 1);
}

#[test]
fn while_the_disk_hangs_nobody_expires_who_waits_for_the_answer_to_a_handshake() {
    let mut w = World::new();
    let (quiet, back) = (w.session(1, 2000), w.session(2, 2000));
    let held = w.session(5, 2000);
    // From here on the disk hangs.
    w.connect(S0, 4, 2000);
    // Its shard is told behind the disk only.
    w.reattach(S1, 6, held, 2000);
    w.reattach(S0, 3, back, 2000);
    w.released(S0, back, 1);
    let mut expired = BTreeSet::new();
    for tick in (500..10_000).step_by(500) {
        w.tick(tick);
        w.touched(S0, tick, &[]);
        expired.extend(w.pipeline.closing());
    }
    assert_eq!(expired, [quiet].into());
    let opened = *w.sessions.last().unwrap();
    w.settle();
    let words = w.take().join(", ");
    assert_eq!(w.pipeline.counters().given_up, 0);
    for session in [back, held, opened] {
        let deadline = w.pipeline.deadline(session).expect("it lives");
        assert!(deadline > w.now.tick, "{session}: {deadline:?}, {words}");
    }
}

#[test]
fn ephemerals_in_flight_count_for_the_length_of_the_list() {
    let config = PipelineConfig {
        close_bytes_max: ordering::ENTRY_FIXED + 100 * 10,
        ..config()
    };
    let mut w = World::with(config, Zxid::ZERO);
    let s = w.session(1, 60_000);
    for i in 0..101 {
        w.write(1, s, create(&format!("/e{i:04}"), true, 0));
    }
    w.write(1, s, WriteRequest::CloseSession);
    w.settle();
    w.tick(1);
    w.settle();
    let words = w.take();
    let ends = &words[words.len() - 2..];
    assert!(ends[0].ends_with("multi to nobody"), "{ends:?}");
    assert!(ends[1].ends_with("closeSession to 1.102"), "{ends:?}");
    assert_eq!(w.tree.ephemeral_count(), 0);
}

#[test]
fn a_storm_of_handshakes_is_turned_away_before_it_fills_the_memory() {
    let mut w = World::new();
    let mut closed = 0;
    // The disk hangs: no sync, no spare. All of these wait.
    for slot in 0..PENDING_MAX as u32 + 10 {
        w.connect(S0, slot, 5000);
        closed += w.take().len();
    }
    assert_eq!(w.pipeline.outstanding(), PENDING_MAX);
    assert_eq!(w.pipeline.counters().given_up, 10);
    assert_eq!(closed, 10, "said at once, not behind what is in flight");
}

#[test]
fn a_storm_of_reattachments_that_are_answered_behind_what_is_in_flight_has_the_same_bound() {
    let mut w = World::new();
    w.connect(S0, 0, 5000);
    // The disk hangs, so that nobody is told yet that there is no such session.
    for slot in 1..PENDING_MAX as u32 + 10 {
        w.reattach(S0, slot, SessionId(77), 5000);
    }
    assert_eq!(w.pipeline.outstanding(), PENDING_MAX);
    assert_eq!(w.pipeline.common.outcomes.held(), PENDING_MAX - 1);
    assert_eq!(w.pipeline.counters().given_up, 10);
}

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Write(u8, u8),
    Recreate(u8, u8),
    Close(u8),
    Reattach(u8),
    Sync,
    Spare,
    Time(u16, i32),
    Touch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Connect),
        8 => any::<(u8, u8)>().prop_map(|(c, k)| Step::Write(c, k)),
        2 => any::<(u8, u8)>().prop_map(|(c, k)| Step::Recreate(c, k)),
        1 => any::<u8>().prop_map(Step::Close),
        2 => any::<u8>().prop_map(Step::Reattach),
        4 => Just(Step::Sync),
        1 => Just(Step::Spare),
        2 => (0u16..1500, any::<i32>()).prop_map(|(t, w)| Step::Time(t, w)),
        2 => Just(Step::Touch),
    ]
}

/// A model of the shards: what each connection was granted, and what it waits for.
#[derive(Default)]
struct Clients {
    granted: BTreeMap<u32, (SessionId, Generation)>,
    /// Origins without an outcome, oldest first, of each connection.
    pending: BTreeMap<u32, VecDeque<u64>>,
    closed: BTreeSet<u32>,
    next: u32,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever interleaves: zxids come down without a gap, every connection's outcomes come once
    /// and in the order of its requests, a transaction only of an attachment that was current,
    /// session ids are unique. What ends takes nothing along that is not its own, and what is kept count of is
    /// what is under way.
    #[test]
    fn one_order_one_outcome(
        steps in proptest::collection::vec(step(), 1..150),
        close_paths_max in 1..4usize,
    ) {
        let config = PipelineConfig { close_paths_max, ..config() };
        let mut w = World::with(config, Zxid::ZERO);
        let mut clients = Clients::default();
        let mut last = Zxid::ZERO;
        let mut ids = BTreeSet::new();
        for (sequence, step) in (1u64..).zip(steps.into_iter().chain([Step::Sync])) {
            run(&mut w, &mut clients, step, sequence);
            prop_assert_eq!(w.pipeline.counted(), w.pipeline.recounted());
            listen(&mut w, &mut clients, &mut last, &mut ids)?;
            prop_assert_eq!(w.pipeline.counted(), w.pipeline.recounted());
        }
        // Quiet: everybody who has asked has an answer.
        for _ in 0..5 {
            while spare_unheard(&mut w) || sync_unheard(&mut w) || listen(&mut w, &mut clients, &mut last, &mut ids)? {}
            w.now.tick = w.now.tick.after(TICK_TIME + 1);
            w.pipeline.tick(w.now).unwrap();
            w.advance();
        }
        while sync_unheard(&mut w) || listen(&mut w, &mut clients, &mut last, &mut ids)? {}
        prop_assert_eq!(w.pipeline.outstanding(), 0);
        for (slot, pending) in &clients.pending {
            prop_assert!(pending.is_empty() || clients.closed.contains(slot), "{slot}: {pending:?}");
        }
    }
}

/// Applies and hears what has come down; whether there was anything.
fn listen(
    w: &mut World,
    clients: &mut Clients,
    last: &mut Zxid,
    ids: &mut BTreeSet<SessionId>,
) -> Result<bool, TestCaseError> {
    let mut any = false;
    while let Some(down) = w.pipeline.poll_message() {
        any = true;
        if let ToShards::Txn(txn) = &down {
            let header = txn.entry.header;
            prop_assert_eq!(header.zxid, last.next());
            prop_assert!(header.zxid <= w.pipeline.cursors().durable);
            *last = header.zxid;
            takes_its_own(w, &txn.entry)?;
            w.tree.apply(&txn.entry);
            w.pipeline.applied(&w.tree, txn, w.now).unwrap();
            if header.op == OpCode::CREATE_SESSION {
                prop_assert!(ids.insert(header.session));
            }
        }
        hear(w, clients, down)?;
    }
    Ok(any)
}

/// Of what a session that ends takes along, each node is an ephemeral of its own.
fn takes_its_own(w: &World, entry: &Entry) -> Result<(), TestCaseError> {
    let owner = |path: &str| {
        w.tree
            .stat(path)
            .map(|stat| SessionId(stat.ephemeral_owner))
    };
    match &entry.txn {
        Txn::CloseSession { paths } => {
            for path in paths.iter().flatten() {
                prop_assert_eq!(owner(path), Some(entry.header.session), "{}", path);
            }
        }
        Txn::Multi(deletes) if entry.header.session == SessionId::NONE => {
            let closing: BTreeSet<SessionId> = w.pipeline.closing().collect();
            for (_, txn) in deletes {
                let Txn::Delete { path } = txn else {
                    prop_assert!(false, "{:?}", txn);
                    continue;
                };
                let owner = owner(path);
                prop_assert!(owner.is_some_and(|own| closing.contains(&own)), "{}", path);
            }
        }
        _ => {}
    }
    Ok(())
}

fn spare_unheard(w: &mut World) -> bool {
    let Some(order) = w.pipeline.poll_spare() else {
        return false;
    };
    let made = order.fulfil(&w.disk);
    w.pipeline.spare_made(made).unwrap();
    w.advance();
    true
}

fn sync_unheard(w: &mut World) -> bool {
    let Some(ticket) = w.pipeline.poll_sync() else {
        return false;
    };
    w.pipeline.synced(ticket.run(), w.now).unwrap();
    true
}

fn pick<T: Copy>(of: impl ExactSizeIterator<Item = T>, choice: u8) -> Option<T> {
    let n = of.len();
    (n > 0).then(|| of.into_iter().nth(choice as usize % n).unwrap())
}

fn run(w: &mut World, clients: &mut Clients, step: Step, sequence: u64) {
    let at = |slot: u32, sequence| Origin {
        shard: ShardId((slot % 3) as u16),
        conn: conn(slot),
        sequence,
    };
    let up = match step {
        Step::Connect => {
            clients.next += 1;
            clients
                .pending
                .entry(clients.next)
                .or_default()
                .push_back(0);
            ShardRequest::NewSession {
                origin: at(clients.next, 0),
                timeout_ms: 1500,
                stamps: Stamps::default(),
            }
        }
        Step::Reattach(choice) => {
            let Some(session) = pick(clients.granted.values().map(|g| g.0), choice) else {
                return;
            };
            clients.next += 1;
            clients
                .pending
                .entry(clients.next)
                .or_default()
                .push_back(0);
            ShardRequest::Reattach {
                origin: at(clients.next, 0),
                session,
                timeout_ms: 2500,
            }
        }
        Step::Write(choice, _) | Step::Recreate(choice, _) | Step::Close(choice) => {
            let granted = clients.granted.iter().map(|(slot, g)| (*slot, *g));
            let Some((slot, (session, generation))) =
                pick(granted.collect::<Vec<_>>().into_iter(), choice)
            else {
                return;
            };
            clients.pending.entry(slot).or_default().push_back(sequence);
            ShardRequest::Write {
                origin: at(slot, sequence),
                session,
                generation,
                xid: Xid(1),
                request: match step {
                    Step::Write(_, k) => {
                        create(&format!("/k{}", k % 32), k > 128, usize::from(k) * 40)
                    }
                    Step::Recreate(_, k) => {
                        let path = format!("/k{}", k % 32);
                        let delete = WriteRequest::Delete {
                            path: path.as_str().into(),
                            version: -1,
                        };
                        WriteRequest::Multi(vec![delete, create(&path, k > 64, 0)])
                    }
                    _ => WriteRequest::CloseSession,
                },
                credentials: Arc::from(Vec::new()),
                stamps: Stamps::default(),
            }
        }
        Step::Sync => {
            sync_unheard(w);
            return;
        }
        Step::Spare => {
            spare_unheard(w);
            return;
        }
        Step::Time(ms, wall) => {
            w.now.tick = w.now.tick.after(u64::from(ms));
            w.now.wall = WallMs(i64::from(wall));
            w.pipeline.tick(w.now).unwrap();
            w.advance();
            return;
        }
        Step::Touch => {
            let sessions: Vec<_> = clients.granted.values().map(|g| g.0).take(2).collect();
            for shard in 0..3 {
                let touched = ShardRequest::Touched {
                    shard: ShardId(shard),
                    watermark: w.now.tick,
                    made: w.now.tick,
                    sessions: sessions.clone(),
                };
                w.pipeline
                    .request(&w.tree, touched, &mut Budget::UNLIMITED.clone(), w.now)
                    .unwrap();
            }
            return;
        }
    };
    w.pipeline
        .request(&w.tree, up, &mut Budget::UNLIMITED.clone(), w.now)
        .unwrap();
}

fn hear(w: &mut World, clients: &mut Clients, down: ToShards) -> Result<(), TestCaseError> {
    let outcome = |clients: &mut Clients, origin: Origin| {
        let slot = origin.conn.slot;
        if !clients.closed.contains(&slot) {
            let first = clients.pending.get_mut(&slot).and_then(VecDeque::pop_front);
            prop_assert_eq!(first, Some(origin.sequence), "connection {}", slot);
        }
        Ok(())
    };
    match down {
        ToShards::Txn(txn) => {
            let Some(origin) = txn.origin else {
                return Ok(());
            };
            outcome(clients, origin)?;
            if txn.entry.header.op == OpCode::CREATE_SESSION {
                let grant = (txn.entry.header.session, txn.generation);
                clients.granted.insert(origin.conn.slot, grant);
            }
        }
        ToShards::Notice(_, Notice::Refused(origin) | Notice::Dead(origin)) => {
            outcome(clients, origin)?;
        }
        ToShards::Notice(
            _,
            Notice::Attached {
                origin,
                session,
                generation,
                ..
            },
        ) => {
            outcome(clients, origin)?;
            let elsewhere = clients
                .granted
                .iter()
                .any(|(slot, g)| g.0 == session && !clients.closed.contains(slot));
            prop_assert!(!elsewhere, "two attachments of {session} at once");
            clients
                .granted
                .insert(origin.conn.slot, (session, generation));
        }
        ToShards::Notice(_, Notice::Close(conn)) => {
            clients.closed.insert(conn.slot);
        }
        ToShards::Notice(
            shard,
            Notice::Detach {
                session,
                generation,
            },
        ) => {
            let old = clients
                .granted
                .iter()
                .find(|(_, g)| **g == (session, generation));
            let slot = *old.expect("granted before it is taken back").0;
            clients.closed.insert(slot);
            // Every third shard is silent for ever.
            if shard != ShardId(2) {
                let released = ShardRequest::Released {
                    shard,
                    session,
                    generation,
                };
                w.pipeline
                    .request(&w.tree, released, &mut Budget::UNLIMITED.clone(), w.now)
                    .unwrap();
            }
        }
        ToShards::Notice(_, Notice::Synced(_) | Notice::Suspend) => unreachable!("it stands alone"),
    }
    Ok(())
}
