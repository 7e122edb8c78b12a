use super::*;
use crate::proto::peer::LearnerInfo;
use crate::proto::peer::packet::{Packet, PacketType, Split, split};
use crate::zab::bounds::ITEM_BYTES;
use crate::zab::quorum::Quorum;
use crate::zab::quorum::tests::{majority_of, sids};
use proptest::prelude::*;

const PATIENCE: Patience = Patience {
    init_ms: 100,
    sync_ms: 50,
    ping_ms: 10,
};
const START: Tick = Tick(1000);
const E: u32 = 5;
const HISTORY: Zxid = Zxid::new(4, 7);
const NEW_LEADER: Zxid = Zxid::new(E, 0);

fn z(counter: u32) -> Zxid {
    Zxid::new(E, counter)
}

fn entry(zxid: Zxid) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[12..20].copy_from_slice(&zxid.0.to_be_bytes());
    bytes
}

fn epochs(current: u32) -> Durable<Epochs> {
    Durable::played(Epochs {
        accepted: Epoch(E),
        current: Epoch(current),
        is_whole: true,
    })
}

fn adoption(epoch: u32, zxid: Zxid) -> Durable<Adoption> {
    let position = Position(70);
    Durable::played(Adoption {
        epoch: Epoch(epoch),
        end: LogEnd { position, zxid },
    })
}

fn log_end(position: u64, zxid: Zxid) -> Durable<LogEnd> {
    let position = Position(position);
    Durable::played(LogEnd { position, zxid })
}

/// Server 1; each learner's connection has its number.
struct Leader {
    broadcast: Broadcast,
    now: Tick,
}

impl Leader {
    fn of(pair: Pair) -> Leader {
        let (me, epoch) = (ServerId(1), Epoch(E));
        let broadcast = Broadcast::begin(me, epoch, HISTORY, &pair, b"version=0", PATIENCE, START);
        Leader {
            broadcast,
            now: START,
        }
    }

    fn of_voters(n: i64) -> Leader {
        Leader::of(Pair::of(majority_of(1..=n)))
    }

    /// Active, of so many voters, all of whom follow.
    fn active(n: i64) -> Leader {
        let mut leader = Leader::of_voters(n);
        leader.holds_own();
        (2..=n).for_each(|sid| leader.joins(sid, false));
        leader.broadcast.serve(START);
        assert!(leader.broadcast.is_active());
        leader.effects();
        (2..=n).for_each(|sid| drop(leader.sent(sid)));
        leader
    }

    fn holds_own(&mut self) {
        self.broadcast.adopted(&adoption(E, HISTORY));
        self.broadcast.recorded(&epochs(E));
    }

    fn admits(&mut self, sid: i64, is_observer: bool, is_whole: bool) {
        let learner = Learner {
            sid: ServerId(sid),
            is_observer,
            is_whole,
        };
        self.broadcast.admit(link(sid), learner, self.now);
    }

    /// Holds the history.
    fn joins(&mut self, sid: i64, is_observer: bool) {
        self.admits(sid, is_observer, true);
        let base = self.broadcast.committed();
        self.broadcast.attach(link(sid), base, self.now).unwrap();
        self.sent(sid);
        self.acks(sid, NEW_LEADER);
    }

    fn gets(&mut self, sid: i64, packet: ToLeader<'static>) -> Heard<'static> {
        self.broadcast.packet(link(sid), &packet, self.now)
    }

    fn acks(&mut self, sid: i64, zxid: Zxid) {
        assert_eq!(self.gets(sid, ToLeader::Ack(zxid)), Heard::Nothing);
    }

    fn pongs(&mut self, sid: i64, zxid: Zxid) -> Heard<'static> {
        let touched = Touched::of(b"").unwrap();
        self.gets(sid, ToLeader::Ping { zxid, touched })
    }

    fn proposes(&mut self, n: u32) {
        for _ in 0..n {
            let zxid = self.broadcast.next().unwrap();
            self.broadcast.propose(zxid, &entry(zxid));
        }
    }

    fn effects(&mut self) -> Vec<BroadcastEffect> {
        std::iter::from_fn(|| self.broadcast.poll()).collect()
    }

    /// All that waits for a learner: types and zxids.
    fn sent(&mut self, sid: i64) -> Vec<(PacketType, Zxid)> {
        let mut bytes = Vec::new();
        self.broadcast
            .fetch(link(sid), usize::MAX, self.now, &mut bytes);
        let mut rest = &bytes[..];
        let mut sent = Vec::new();
        while let Ok(Split::Whole(packet, used)) = split(rest, 64 << 20) {
            assert!(ToLearner::decode(&packet).is_ok());
            let Packet { kind, zxid, .. } = packet;
            sent.push((kind, zxid));
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
        sent
    }

    fn after(&mut self, ms: u64) -> Result<(), Leave> {
        self.now = self.now.after(ms);
        self.broadcast.tick(self.now)
    }
}

fn link(sid: i64) -> LinkId {
    LinkId(sid as u64)
}

fn dropped(sid: i64, why: Dropped) -> BroadcastEffect {
    BroadcastEffect::Drop(link(sid), why)
}

fn commit(zxid: Zxid) -> BroadcastEffect {
    BroadcastEffect::Commit(Decided::up_to(zxid))
}

const NO_ZXID: Zxid = Zxid(-1);

use PacketType as T;

// Activation.

#[test]
fn a_history_is_decided_by_a_quorum_that_holds_it_and_served_when_it_is_applied() {
    let mut leader = Leader::of_voters(5);
    let activate = BroadcastEffect::Activate(Decided::up_to(HISTORY));
    assert_eq!(leader.effects(), [BroadcastEffect::Adopt(Epoch(E))]);
    leader.broadcast.recorded(&epochs(E));
    leader.broadcast.adopted(&adoption(E - 1, HISTORY));
    leader.broadcast.adopted(&adoption(E, z(1)));
    assert_eq!(leader.effects(), [], "another record, other histories");
    leader.joins(2, false);
    leader.joins(3, false);
    assert_eq!(leader.effects(), [], "2 and 3 of five, not yet the leader");
    leader.broadcast.adopted(&adoption(E, HISTORY));
    assert_eq!(leader.effects(), [BroadcastEffect::Record(Epoch(E))]);
    leader.broadcast.recorded(&epochs(E - 1));
    assert_eq!(leader.effects(), []);
    leader.broadcast.recorded(&epochs(E));
    assert_eq!(leader.effects(), [activate]);
    assert_eq!(leader.sent(2), [], "I-6: nobody serves yet");
    leader.broadcast.serve(START);
    assert_eq!(leader.sent(2), [(T::UPTODATE, NO_ZXID)]);
    leader.joins(4, false);
    assert_eq!(leader.sent(4), [(T::UPTODATE, NO_ZXID)], "a latecomer");
    leader.acks(4, NEW_LEADER);
    assert_eq!((leader.sent(4), leader.effects()), (vec![], vec![]));
}

// Plan, rules 12 and 14; known failure 2959.
#[test]
fn who_makes_no_leader_active_is_an_observer_a_stranger_or_without_its_history() {
    for (sid, is_observer, is_whole) in [(2, true, true), (9, false, true), (2, false, false)] {
        let mut leader = Leader::of_voters(3);
        leader.holds_own();
        leader.effects();
        leader.admits(sid, is_observer, is_whole);
        leader.broadcast.attach(link(sid), HISTORY, START).unwrap();
        leader.sent(sid);
        leader.acks(sid, NEW_LEADER);
        assert_eq!(leader.effects(), [], "{sid}");
        leader.joins(3, false);
        assert_eq!(leader.effects().len(), 1);
        leader.broadcast.serve(START);
        assert_eq!(leader.sent(sid), [(T::UPTODATE, NO_ZXID)]);
        // For a leader that is active without it, a voter counts.
        leader.proposes(1);
        leader.sent(sid);
        leader.broadcast.durable(&log_end(80, z(1)));
        leader.acks(sid, z(1));
        let counts = sid == 2 && !is_observer;
        assert_eq!(leader.effects().len(), usize::from(counts), "{sid}");
    }
}

#[test]
fn without_a_quorum_that_holds_the_history_in_time_the_role_ends() {
    let mut leader = Leader::of_voters(3);
    leader.holds_own();
    assert_eq!(leader.after(99), Ok(()));
    assert_eq!(leader.after(1), Err(Leave::NotAcknowledged(Epoch(E))));
}

// Attaching.

// Plan, rule 16; I-13.
#[test]
fn who_is_attached_gets_what_is_committed_what_is_proposed_and_then_what_everybody_gets() {
    let mut leader = Leader::active(3);
    leader.proposes(4);
    leader.broadcast.durable(&log_end(80, z(2)));
    leader.sent(2);
    leader.acks(2, z(2));
    assert_eq!(leader.effects(), [commit(z(2))]);
    leader.admits(4, false, true);
    leader.admits(5, true, true);
    leader.proposes(1);
    assert_eq!(leader.sent(4), [], "not attached");
    leader.broadcast.attach(link(4), z(1), START).unwrap();
    leader.broadcast.attach(link(5), z(1), START).unwrap();
    leader.proposes(1);
    leader.broadcast.durable(&log_end(80, z(3)));
    leader.sent(2);
    leader.acks(2, z(3));
    let both = [(T::PROPOSAL, z(2)), (T::COMMIT, z(2))];
    let waiting = [3, 4, 5].map(|n| (T::PROPOSAL, z(n)));
    let live = [(T::PROPOSAL, z(6)), (T::COMMIT, z(3))];
    let new_leader = [(T::NEWLEADER, NEW_LEADER)];
    assert_eq!(
        leader.sent(4),
        [&both[..], &waiting, &new_leader, &live].concat()
    );
    let live = [(T::INFORM, z(3))];
    assert_eq!(leader.sent(5), [&both[..], &new_leader, &live].concat());
}

#[test]
fn the_tail_is_bounded_and_who_is_behind_it_reads_on_from_the_log() {
    let mut leader = Leader::active(1);
    let long = |zxid| {
        let mut bytes = entry(zxid);
        bytes.resize(TAIL_BYTES_MAX / 3, 0);
        bytes
    };
    for counter in 1..=4 {
        leader.broadcast.propose(z(counter), &long(z(counter)));
        leader.broadcast.durable(&log_end(80, z(counter)));
    }
    leader.admits(4, false, true);
    for base in [HISTORY, z(1)] {
        assert_eq!(
            leader.broadcast.attach(link(4), base, START),
            Err(NotYet(z(2)))
        );
    }
    assert_eq!(leader.broadcast.attach(link(4), z(2), START), Ok(()));
    assert_eq!(leader.sent(4)[0], (T::PROPOSAL, z(3)));
}

#[test]
fn a_server_that_comes_again_has_to_acknowledge_again() {
    let mut leader = Leader::active(3);
    leader.proposes(1);
    leader.sent(2);
    leader.acks(2, z(1));
    leader
        .broadcast
        .admit(link(20), leader.broadcast.learners[&link(2)].learner, START);
    assert_eq!(leader.effects(), [dropped(2, Dropped::Replaced)]);
    leader.broadcast.durable(&log_end(80, z(1)));
    assert_eq!(leader.effects(), [], "what it had may be cut");
    leader.broadcast.attach(link(20), HISTORY, START).unwrap();
    leader.sent(20);
    leader.acks(20, NEW_LEADER);
    assert_eq!(leader.effects(), []);
    leader.acks(20, z(1));
    assert_eq!(leader.effects(), [commit(z(1))]);
}

#[test]
fn a_learner_too_many_closes_at_once() {
    let mut leader = Leader::active(1);
    (0..LEARNERS_MAX as i64).for_each(|sid| leader.admits(sid + 2, true, true));
    assert_eq!(leader.effects(), []);
    leader.admits(5000, true, true);
    assert_eq!(leader.effects(), [dropped(5000, Dropped::TooMany)]);
}

// Commits.

// Plan, rule 15; I-6.
#[test]
fn transactions_commit_in_order_each_by_a_quorum_that_holds_it() {
    let mut leader = Leader::active(5);
    leader.proposes(3);
    (2..=5).for_each(|sid| drop(leader.sent(sid)));
    leader.acks(2, z(3));
    leader.acks(3, z(1));
    assert_eq!(leader.effects(), [], "2 of five");
    leader.acks(4, z(2));
    assert_eq!(leader.effects(), [commit(z(1))]);
    leader.broadcast.durable(&log_end(69, z(3)));
    assert_eq!(leader.effects(), [], "of before the history");
    leader.broadcast.durable(&log_end(80, z(3)));
    assert_eq!(leader.effects(), [commit(z(2))]);
    assert_eq!(leader.sent(5), [(T::COMMIT, z(1)), (T::COMMIT, z(2))]);
    leader.acks(5, z(3));
    assert_eq!(leader.effects(), [commit(z(3))], "without 3 and 4");
    assert_eq!(leader.broadcast.committed(), z(3));
}

#[test]
fn followers_may_commit_ahead_of_the_leaders_own_disk() {
    let mut leader = Leader::active(3);
    leader.proposes(1);
    for sid in [2, 3] {
        leader.sent(sid);
        leader.acks(sid, z(1));
    }
    assert_eq!(leader.effects(), [commit(z(1))]);
}

// I-19: what was proposed under two configurations is decided by both.
#[test]
fn a_proposal_is_decided_by_the_configurations_under_which_it_was_made() {
    let quorum = |version, ids| Arc::new(Quorum::majority(Zxid(version), sids(ids)).unwrap());
    let (old, new) = (quorum(0, vec![1, 2, 3]), quorum(7, vec![4, 5]));
    let mut leader = Leader::active(3);
    leader.joins(4, false);
    leader.joins(5, false);
    leader.proposes(1);
    leader.broadcast.configure(&Pair::new(old, new));
    leader.proposes(1);
    leader.broadcast.durable(&log_end(80, z(2)));
    (2..=5).for_each(|sid| drop(leader.sent(sid)));
    leader.acks(2, z(2));
    assert_eq!(leader.effects(), [commit(z(1))]);
    leader.acks(4, z(2));
    assert_eq!(leader.effects(), []);
    leader.acks(5, z(2));
    assert_eq!(leader.effects(), [commit(z(2))]);
}

// The table at the head of the module.

#[test]
fn what_a_packet_does_in_each_stage() {
    let info = ToLeader::Info {
        is_observer: false,
        accepted: Epoch(1),
        info: LearnerInfo {
            sid: ServerId(2),
            config_version: None,
            capabilities: None,
        },
    };
    let session = SessionId(1);
    let touched = Touched::of(b"").unwrap();
    let request = Forwarded {
        session,
        cxid: 1,
        op: crate::types::OpCode::CREATE,
        body: b"",
        ids: None,
    };
    let revalidate = ToLeader::Revalidate {
        session,
        timeout_ms: 1,
    };
    let promise = ToLeader::AckEpoch {
        last: HISTORY,
        current: None,
    };
    let not_sent = |zxid| Some(Dropped::NotSent(zxid));
    let unexpected = |kind| Some(Dropped::Unexpected(kind));
    let d = Dropped::NotAsked(z(9));
    // Streaming, attached, offered, acknowledged, up to date.
    let table = [
        (
            ToLeader::Ack(NEW_LEADER),
            [not_sent(NEW_LEADER), not_sent(NEW_LEADER), None, None, None],
        ),
        (ToLeader::Ack(HISTORY), [None; 5]),
        (ToLeader::Ack(z(9)), [not_sent(z(9)); 5]),
        (ToLeader::Ack(Zxid::new(E + 1, 1)), [None; 5]),
        (ToLeader::Ack(Zxid(-1)), [None; 5]),
        (
            ToLeader::Ping {
                zxid: z(9),
                touched,
            },
            [None, None, None, None, Some(d)],
        ),
        (ToLeader::Other(PacketType(99)), [None; 5]),
        (info, [unexpected(T::FOLLOWERINFO); 5]),
        (promise, [unexpected(T::ACKEPOCH); 5]),
        (
            ToLeader::Request(request),
            [
                unexpected(T::REQUEST),
                unexpected(T::REQUEST),
                unexpected(T::REQUEST),
                unexpected(T::REQUEST),
                None,
            ],
        ),
        (
            revalidate,
            [
                unexpected(T::REVALIDATE),
                unexpected(T::REVALIDATE),
                unexpected(T::REVALIDATE),
                unexpected(T::REVALIDATE),
                None,
            ],
        ),
    ];
    for (packet, row) in table {
        for (stage, due) in row.into_iter().enumerate() {
            let mut leader = Leader::of_voters(5);
            leader.admits(2, false, true);
            if stage >= 1 {
                leader.broadcast.attach(link(2), HISTORY, START).unwrap();
            }
            if stage >= 2 {
                leader.sent(2);
            }
            if stage >= 3 {
                leader.acks(2, NEW_LEADER);
            }
            if stage >= 4 {
                leader.holds_own();
                leader.joins(3, false);
                leader.broadcast.serve(START);
            }
            leader.effects();
            let heard = leader.gets(2, packet);
            let due: Vec<_> = due.map(|why| dropped(2, why)).into_iter().collect();
            assert_eq!(
                leader.effects(),
                due,
                "{:?} in stage {stage}",
                packet.kind()
            );
            let is_handed_on = matches!(heard, Heard::Request(_) | Heard::Revalidate { .. });
            let is_meant = matches!(packet, ToLeader::Request(_) | ToLeader::Revalidate { .. });
            assert_eq!(is_handed_on, is_meant && stage == 4);
        }
    }
}

// Bounds.

// Known failure T16; plan, rule 26.
#[test]
fn a_learner_that_takes_too_little_loses_its_connection_and_the_others_nothing() {
    let mut leader = Leader::active(3);
    let mut n = 0;
    let long = |zxid| {
        let mut bytes = entry(zxid);
        bytes.resize(1 << 20, 0);
        bytes
    };
    let effects = loop {
        n += 1;
        leader.broadcast.propose(z(n), &long(z(n)));
        leader.sent(2);
        leader.acks(2, z(n));
        leader.broadcast.durable(&log_end(80, z(n)));
        let effects = leader.effects();
        if effects != [commit(z(n))] {
            break effects;
        }
        assert!(n < 64);
    };
    assert_eq!(effects, [dropped(3, Dropped::Slow), commit(z(n))]);
    assert!(n as usize * (1 << 20) <= QUEUE_BYTES_MAX + (2 << 20));
    leader.proposes(1);
    assert_eq!(leader.sent(2).last(), Some(&(T::PROPOSAL, z(n + 1))));
}

#[test]
fn what_has_no_decision_is_bounded() {
    let mut leader = Leader::active(3);
    let mut n = 0;
    while leader.broadcast.has_room() {
        n += 1;
        let mut bytes = entry(z(n));
        bytes.resize((1 << 20) - ITEM_BYTES, 0);
        leader.broadcast.propose(z(n), &bytes);
    }
    assert!(n as usize <= 1 + (PROPOSED_BYTES_MAX >> 20));
    leader.sent(2);
    leader.acks(2, z(n));
    leader.broadcast.durable(&log_end(80, z(1)));
    assert!(leader.broadcast.has_room());
}

#[test]
fn syncs_that_wait_are_bounded_and_one_too_many_of_a_learner_ends_its_connection() {
    let mut leader = Leader::active(3);
    let now = leader.now;
    for n in 0..HELD_MAX as u64 {
        assert!(leader.broadcast.sync(Asker::Own(SyncId(n)), now));
        assert!(leader.broadcast.sync(Asker::Learner(link(2)), now));
    }
    assert!(!leader.broadcast.sync(Asker::Own(SyncId(0)), now));
    assert_eq!(leader.effects(), []);
    leader.broadcast.revalidated(link(2), SessionId(1), true);
    assert_eq!(leader.effects(), [dropped(2, Dropped::TooManyAsked)]);
}

#[test]
fn a_learner_that_answers_no_ping_is_not_asked_for_ever() {
    let mut leader = Leader::active(3);
    for _ in 0..PINGS_MAX + 5 {
        leader.broadcast.ping_all(START);
    }
    assert_eq!(leader.sent(2).len(), PINGS_MAX);
    leader.pongs(2, HISTORY);
    leader.broadcast.ping_all(START);
    assert_eq!(leader.sent(2).len(), 1);
}

// Liveness.

#[test]
fn a_learner_that_is_not_heard_of_is_dropped_and_a_leader_without_a_quorum_ends() {
    let mut leader = Leader::active(3);
    leader.after(30).unwrap();
    assert_eq!(leader.sent(2), [(T::PING, HISTORY)]);
    assert_eq!(
        leader.pongs(2, HISTORY),
        Heard::Touched {
            touched: Touched::of(b"").unwrap(),
            asked: START.after(30),
        }
    );
    leader.after(20).unwrap();
    assert_eq!(leader.effects(), [dropped(3, Dropped::Silent)]);
    leader.after(29).unwrap();
    assert_eq!(leader.effects(), []);
    leader.after(1).unwrap();
    assert_eq!(leader.effects(), [dropped(2, Dropped::Silent)]);
    assert_eq!(leader.after(9), Ok(()), "somebody may be coming back");
    let mut back = Leader {
        broadcast: leader.broadcast.clone(),
        now: leader.now,
    };
    back.admits(2, false, true);
    assert_eq!(back.after(100), Ok(()));
    assert_eq!(leader.after(1), Err(Leave::NotHeard));
}

#[test]
fn an_observer_keeps_no_leader() {
    let mut leader = Leader::active(3);
    leader.joins(4, true);
    leader.broadcast.closed(link(2));
    leader.broadcast.closed(link(3));
    leader.after(1).unwrap();
    assert_eq!(leader.after(10), Err(Leave::NotHeard));
}

// T17.
#[test]
fn a_learner_that_answers_pings_and_acknowledges_nothing_is_dropped() {
    let mut leader = Leader::active(3);
    leader.proposes(2);
    leader.sent(2);
    leader.acks(2, z(1));
    for _ in 0..4 {
        leader.after(10).unwrap();
        leader.sent(2);
        leader.pongs(2, z(2));
    }
    assert_eq!(leader.effects(), []);
    leader.after(10).unwrap();
    let effects = leader.effects();
    assert_eq!(effects[0], dropped(2, Dropped::Unacknowledged(z(2))));
}

#[test]
fn the_last_zxids_of_an_epoch_end_the_role_when_nothing_is_on_its_way() {
    let mut leader = Leader::active(1);
    leader.broadcast.proposed = z(RESIGN_AT);
    leader.broadcast.committed = z(RESIGN_AT);
    assert_eq!(leader.after(1), Err(Leave::UsedUp(Epoch(E))));
    let mut leader = Leader::active(1);
    leader.broadcast.proposed = z(RESIGN_AT - 1);
    leader.proposes(1);
    assert_eq!(leader.after(1), Ok(()), "something is");
    leader.broadcast.proposed = z(Zxid::COUNTER_MAX);
    assert_eq!(leader.broadcast.next(), None);
    assert_eq!(leader.after(1), Err(Leave::UsedUp(Epoch(E))));
}

// Confirmed syncs and what waits behind commits.

// Plan, rule 23; R9.
#[test]
fn a_sync_waits_for_what_was_proposed_and_for_a_quorum_that_was_asked_since() {
    let mut leader = Leader::active(5);
    let done = BroadcastEffect::Synced(SyncId(1));
    // Asked before the sync has come.
    leader.after(10).unwrap();
    leader.broadcast.sync(Asker::Own(SyncId(1)), leader.now);
    for sid in 2..=5 {
        assert_eq!(
            leader.sent(sid),
            [(T::PING, HISTORY)],
            "one round at a time"
        );
    }
    (2..=5).for_each(|sid| assert_ne!(leader.pongs(sid, HISTORY), Heard::Nothing));
    assert_eq!(leader.effects(), [], "they may have said so before it came");
    leader.sent(2);
    leader.pongs(2, HISTORY);
    assert_eq!(leader.effects(), [], "2 of five");
    assert_eq!(leader.sent(3), [(T::PING, HISTORY)]);
    leader.pongs(3, HISTORY);
    assert_eq!(leader.effects(), [done]);
    // What is proposed and has no decision.
    leader.proposes(1);
    leader.broadcast.sync(Asker::Own(SyncId(2)), leader.now);
    leader.broadcast.sync(Asker::Learner(link(2)), leader.now);
    for sid in 2..=4 {
        let sent = leader.sent(sid);
        sent.iter()
            .filter(|(kind, _)| *kind == T::PING)
            .for_each(|(_, zxid)| {
                leader.pongs(sid, *zxid);
            });
    }
    for sid in 2..=4 {
        let sent = leader.sent(sid);
        sent.iter()
            .filter(|(kind, _)| *kind == T::PING)
            .for_each(|(_, zxid)| {
                leader.pongs(sid, *zxid);
            });
    }
    assert_eq!(leader.effects(), []);
    (2..=4).for_each(|sid| leader.acks(sid, z(1)));
    assert_eq!(
        leader.effects(),
        [commit(z(1)), BroadcastEffect::Synced(SyncId(2))]
    );
    assert_eq!(leader.sent(2), [(T::COMMIT, z(1)), (T::SYNC, Zxid::ZERO)]);
}

#[test]
fn a_leader_that_is_alone_confirms_its_syncs_itself() {
    let mut leader = Leader::active(1);
    leader.broadcast.sync(Asker::Own(SyncId(1)), START);
    assert_eq!(leader.effects(), [BroadcastEffect::Synced(SyncId(1))]);
}

// Plan, rule 21.
#[test]
fn whether_a_session_lives_is_told_behind_everything_that_was_ordered_before() {
    let mut leader = Leader::active(3);
    leader.proposes(2);
    leader.broadcast.revalidated(link(2), SessionId(7), true);
    leader.proposes(1);
    leader.sent(2);
    leader.broadcast.durable(&log_end(80, z(3)));
    leader.acks(2, z(1));
    assert_eq!(leader.sent(2), [(T::COMMIT, z(1))]);
    leader.acks(2, z(2));
    let due = [(T::COMMIT, z(2)), (T::REVALIDATE, NO_ZXID)];
    assert_eq!(leader.sent(2), due);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    // No panic; verdicts on connections only; commits in order, and only of what a quorum was sent.
    #[test]
    fn any_packets_in_any_order_drop_connections_or_commit_in_order(
        steps in prop::collection::vec((0..12u8, 2..7i64, prop_oneof![8 => (4..6u32, 0..9u32).prop_map(|(e, n)| Zxid::new(e, n)), 1 => any::<i64>().prop_map(Zxid)]), 0..150),
    ) {
        let mut leader = Leader::of_voters(3);
        let (mut last, mut syncs) = (HISTORY, 0);
        for (kind, sid, zxid) in steps {
            match kind {
                0 => leader.admits(sid, sid == 5, sid != 6),
                1 => leader.broadcast.attach(link(sid), leader.broadcast.committed(), leader.now).unwrap(),
                2 => drop(leader.sent(sid)),
                3 => leader.acks(sid, NEW_LEADER),
                4 | 5 => leader.acks(sid, zxid),
                6 => assert!(!matches!(leader.pongs(sid, zxid), Heard::Request(_))),
                7 => assert_eq!(leader.gets(sid, ToLeader::Other(PacketType(zxid.0 as i32))), Heard::Nothing),
                8 if leader.broadcast.is_active() => leader.proposes(1),
                8 => { leader.holds_own(); leader.broadcast.serve(leader.now); }
                9 => leader.broadcast.durable(&log_end(zxid.0 as u64 % 99, zxid)),
                10 => { syncs += 1; leader.broadcast.sync(Asker::Learner(link(sid)), leader.now); leader.broadcast.sync(Asker::Own(SyncId(syncs)), leader.now); }
                _ => if leader.after(3).is_err() { return Ok(()); }
            }
            for effect in leader.effects() {
                if let BroadcastEffect::Commit(decided) = effect {
                    prop_assert!(decided.zxid() > last && decided.zxid() <= leader.broadcast.proposed);
                    last = decided.zxid();
                }
            }
        }
    }
}
