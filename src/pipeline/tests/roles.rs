//! One member through its roles.

use super::*;
use crate::log::Known;

/// What the member's log holds is not applied.
pub(super) fn member(disk: &SimStorage, tree: Tree, config: PipelineConfig) -> World {
    let mut identity = disk.effects().into();
    let next = Box::new(move || {
        identity += 1;
        identity
    });
    let after = tree.last_zxid();
    let known = Known {
        after,
        witness: None,
    };
    let segment_bytes = SEGMENT;
    let scan = Scan::of_member(disk, &known).unwrap();
    let log = scan
        .open(LogConfig { segment_bytes }, next, StoreId(1), after)
        .unwrap();
    World {
        pipeline: Pipeline::of_member(config, log, &tree),
        disk: disk.clone(),
        tree,
        now: Now {
            wall: WallMs(1_000_000),
            ..Now::default()
        },
        said: Vec::new(),
        sessions: Vec::new(),
        generations: BTreeMap::new(),
        sequence: 0,
    }
}

impl World {
    fn new_member(shards: u16) -> World {
        let config = PipelineConfig {
            shards,
            creator: 3,
            ..config()
        };
        let mut w = member(&SimStorage::new(64 << 20), Tree::new(), config);
        w.settle();
        w
    }

    /// The history goes on behind `base`, in this epoch, with these transactions of a leader.
    pub(super) fn adopt(&mut self, epoch: u32, base: Zxid, with: &[Vec<u8>]) {
        let epoch = Epoch(epoch);
        self.pipeline.open_adoption(epoch, base, None).unwrap();
        for entry in with {
            let zxid = Entry::decode(entry).unwrap().header.zxid;
            self.pipeline.accept(zxid, entry, self.now).unwrap();
        }
        self.pipeline.close_adoption(epoch).unwrap();
        self.settle();
        self.pipeline
            .poll_adoption()
            .expect("the adoption is durable");
    }

    pub(super) fn commit(&mut self, zxid: Zxid) {
        let end = LogEnd {
            position: Default::default(),
            zxid,
        };
        let decided = Decided::alone(&Durable::played(end));
        self.pipeline.commit(&decided, self.now);
        self.pump();
        while let Some(order) = self.pipeline.poll_lag() {
            let LagOrder {
                mut cursor,
                history,
                stretch,
                ..
            } = order;
            let after = cursor.after();
            let read = crate::snapshot::read_history(&self.disk, &mut cursor, &history, stretch);
            self.pipeline.read_back(ReadBack {
                after,
                cursor,
                entries: read.unwrap(),
            });
            self.pump();
        }
    }

    pub(super) fn lead(&mut self, epoch: u32) {
        let end = self.pipeline.cursors().prepared;
        self.adopt(epoch, end, &[]);
        self.commit(end);
        self.pipeline.lead(&self.tree, self.now);
    }

    pub(super) fn suspended(&mut self, shard: ShardId) {
        self.up(ShardRequest::Suspended { shard });
    }

    pub(super) fn proposals(&mut self) -> Vec<Proposal> {
        std::iter::from_fn(|| self.pipeline.poll_proposal()).collect()
    }
}

#[test]
fn a_member_that_looks_for_a_leader_turns_everybody_away() {
    let mut w = World::new_member(1);
    w.connect(S0, 1, 10_000);
    w.reattach(S0, 2, SessionId(5), 10_000);
    assert_eq!(w.take(), ["s0: close 1", "s0: close 2"]);
    assert_eq!(w.pipeline.outstanding(), 0);
    w.touched(S0, 500, &[]);
    w.tick(5000);
}

#[test]
fn what_a_leader_orders_is_proposed_and_only_a_decision_commits_it() {
    let mut w = World::new_member(1);
    w.lead(1);
    w.connect(S0, 1, 10_000);
    w.settle();
    assert!(w.take().is_empty(), "its own disk is one of many");
    let proposals = w.proposals();
    let first = Zxid::new(1, 1);
    assert_eq!(proposals.len(), 1);
    assert_eq!(proposals[0].zxid, first);
    let entry = Entry::decode(&proposals[0].entry).unwrap();
    assert_eq!(
        (entry.header.zxid, entry.header.op),
        (first, OpCode::CREATE_SESSION)
    );
    assert_eq!(entry.header.session.creator(), 3, "of this member");
    w.commit(first);
    assert_eq!(w.take().len(), 1);
    assert_eq!(w.pipeline.outstanding(), 0);
}

#[test]
fn a_leader_that_may_not_order_lets_requests_wait() {
    let mut w = World::new_member(1);
    w.lead(1);
    w.pipeline.hold(true);
    w.connect(S0, 1, 10_000);
    assert_eq!((w.pipeline.waiting(), w.proposals().len()), (1, 0));
    w.tick(600);
    assert_eq!(w.proposals().len(), 0);
    w.pipeline.hold(false);
    w.pump();
    assert_eq!((w.pipeline.waiting(), w.proposals().len()), (0, 1));
}

#[test]
fn what_a_role_has_begun_and_nobody_decided_stays_in_the_log_and_owes_nothing() {
    let mut w = World::new_member(1);
    w.lead(1);
    w.connect(S0, 1, 10_000);
    w.commit(Zxid::new(1, 1));
    let s = *w.sessions.last().unwrap();
    w.write(1, s, create("/a", false, 1));
    w.write(1, s, create("/b", true, 1));
    w.settle();
    w.begin_multi(s, create("/m9", false, 1));
    w.take();
    w.pipeline.end_role();
    w.pump();
    assert_eq!(w.take(), ["s0: suspend"]);
    let counted = (w.pipeline.outstanding(), w.pipeline.waiting());
    assert_eq!(counted, (0, 0));
    // What is on its way from the shard is of before.
    w.write(1, s, create("/c", false, 1));
    assert!(w.take().is_empty());
    // Leading again, with the same history: what was appended is everybody's now, and no client's.
    w.lead(2);
    w.write(1, s, create("/d", false, 1));
    assert_eq!(
        w.take(),
        [
            "0x100000002 create to nobody",
            "0x100000003 create to nobody"
        ]
    );
    assert_eq!(w.proposals().len(), 0);
    w.suspended(S0);
    w.reattach(S0, 2, s, 10_000);
    assert_eq!(
        w.take(),
        ["s0: attached 2 generation 1 10000 ms at 0x100000003"]
    );
    w.write_as(1, 2, s, create("/d", false, 1));
    let proposals = w.proposals();
    assert_eq!(proposals[0].zxid, Zxid::new(2, 1));
    w.settle();
    w.commit(Zxid::new(2, 1));
    assert_eq!(w.pipeline.recounted(), w.pipeline.counted());
    assert!(w.pipeline.is_idle());
}

#[test]
fn what_another_leader_takes_back_is_never_applied() {
    let mut w = World::new_member(1);
    w.lead(1);
    w.connect(S0, 1, 10_000);
    w.commit(Zxid::new(1, 1));
    let s = *w.sessions.last().unwrap();
    w.write(1, s, create("/a", false, 1));
    w.settle();
    w.pipeline.end_role();
    w.pump();
    w.take();
    let digest = w.tree.digest();
    let other = Entry {
        header: TxnHeader {
            session: s,
            cxid: 0,
            zxid: Zxid::new(2, 1),
            time: WallMs(1),
            op: OpCode::ERROR,
        },
        txn: Txn::Error {
            code: ErrorCode::NO_NODE,
        },
        digest: None,
    };
    w.adopt(2, Zxid::new(1, 1), &[other.encode()]);
    w.commit(Zxid::new(2, 1));
    assert_eq!(w.tree.last_zxid(), Zxid::new(2, 1));
    assert_eq!(w.tree.digest(), digest);
    w.pipeline.learn(&w.tree);
    let next = Entry {
        header: TxnHeader {
            zxid: Zxid::new(2, 2),
            ..other.header
        },
        ..other
    };
    w.pipeline
        .accept(Zxid::new(2, 2), &next.encode(), w.now)
        .unwrap();
    // Others are faster than the own disk.
    w.commit(Zxid::new(2, 2));
    let cursors = w.pipeline.cursors();
    assert_eq!(
        (cursors.applied, cursors.durable),
        (Zxid::new(2, 2), Zxid::new(2, 1))
    );
    w.settle();
    assert_eq!(w.pipeline.cursors().durable, Zxid::new(2, 2));
}

#[test]
fn a_shard_that_is_held_still_over_two_roles_confirms_both_before_it_is_heard() {
    let mut w = World::new_member(2);
    w.lead(1);
    w.pipeline.end_role();
    w.lead(2);
    w.pipeline.end_role();
    w.lead(3);
    w.pump();
    assert_eq!(w.take().len(), 4);
    w.suspended(S0);
    w.suspended(S0);
    w.suspended(S1);
    for (shard, due) in [(S0, 1), (S1, 0)] {
        w.connect(shard, 1, 10_000);
        assert_eq!(w.proposals().len(), due, "{shard}");
    }
    w.suspended(S1);
    w.connect(S1, 1, 10_000);
    assert_eq!(w.proposals().len(), 1);
}
