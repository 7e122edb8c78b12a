use super::*;
use crate::log::{Adoption, Durable, Epochs, LogEnd};
use crate::proto::peer::packet::PacketType;
use crate::proto::peer::{ToLeader, ToLearner};
use crate::types::{Epoch, Position, ServerId, SessionId, Tick, Zxid};
use crate::zab::bounds::{ITEM_BYTES, PENDING_BYTES_MAX};
use crate::zab::verdict::{Leave, Patience};
use proptest::prelude::*;
use std::sync::Arc;

// The decision.

/// Epochs 1 (7 transactions), 2 (none) and 4 (5); the log holds what is behind (1, 3).
fn history() -> History {
    let mut history = History::new(Zxid::new(1, 3));
    for end in [
        Zxid::new(1, 7),
        Zxid::new(2, 0),
        Zxid::new(4, 2),
        Zxid::new(4, 5),
    ] {
        history.extend(end);
    }
    history
}

#[test]
fn rows_1_to_5_of_the_decision() {
    let diff = |e, n| Opening::Diff {
        base: Zxid::new(e, n),
    };
    let trunc = |e, n| Opening::Trunc {
        base: Zxid::new(e, n),
    };
    for (row, p, due) in [
        (1, Zxid(-1), Opening::Snap),
        (1, Zxid(i64::MIN), Opening::Snap),
        (2, Zxid::new(4, 5), diff(4, 5)),
        (3, Zxid::new(4, 1), diff(4, 1)),
        (3, Zxid::new(1, 7), diff(1, 7)),
        (3, Zxid::new(1, 3), diff(1, 3)),
        (4, Zxid::new(4, 6), trunc(4, 5)),
        (4, Zxid::new(1, 8), trunc(1, 7)),
        (4, Zxid::new(1, u32::MAX), trunc(1, 7)),
        // The log reaches back to (1, 3) only.
        (5, Zxid::new(1, 2), Opening::Snap),
        (5, Zxid::ZERO, Opening::Snap),
        // Epochs without a transaction here, between others, and above all.
        (5, Zxid::new(2, 1), Opening::Snap),
        (5, Zxid::new(3, 9), Opening::Snap),
        (5, Zxid::new(5, 1), Opening::Snap),
        (5, Zxid::new(0, 4), Opening::Snap),
        // No transaction at all.
        (5, Zxid::new(4, 0), Opening::Snap),
        (5, Zxid::new(5, 0), Opening::Snap),
    ] {
        assert_eq!(decide(p, &history(), false), due, "row {row}: {p}");
        assert_eq!(decide(p, &history(), true), Opening::Snap, "forced: {p}");
    }
}

#[test]
fn the_first_transactions_of_all_are_a_diff_from_nothing() {
    let mut history = History::new(Zxid::ZERO);
    let nothing = Opening::Diff { base: Zxid::ZERO };
    assert_eq!(decide(Zxid::ZERO, &history, false), nothing, "row 2");
    history.extend(Zxid::new(1, 9));
    assert_eq!(decide(Zxid::ZERO, &history, false), nothing, "row 3");
    assert_eq!(decide(Zxid(-1), &history, false), Opening::Snap, "row 1");
    history.purged(Zxid::new(1, 1));
    assert_eq!(decide(Zxid::ZERO, &history, false), Opening::Snap, "row 5");
}

#[test]
fn an_epoch_whose_end_is_behind_a_snapshot_is_not_cut() {
    let mut history = history();
    history.purged(Zxid::new(4, 1));
    assert_eq!(decide(Zxid::new(1, 8), &history, false), Opening::Snap);
    let due = Opening::Trunc {
        base: Zxid::new(4, 5),
    };
    assert_eq!(decide(Zxid::new(4, 6), &history, false), due);
}

#[test]
fn an_opening_is_a_packet() {
    let (end, snapshot) = (Zxid::new(4, 5), Zxid::new(4, 1));
    for (opening, cut, packet) in [
        (
            Opening::Diff { base: Zxid(7) },
            Cut::Diff,
            ToLearner::Diff(end),
        ),
        (
            Opening::Trunc { base: Zxid(7) },
            Cut::Trunc,
            ToLearner::Trunc(Zxid(7)),
        ),
        (Opening::Snap, Cut::Snap, ToLearner::Snap(snapshot)),
    ] {
        assert_eq!(
            (opening.cut(), opening.packet(end, snapshot)),
            (cut, packet)
        );
    }
}

proptest! {
    /// I-13: a base is in both histories, and the log holds what is behind it.
    #[test]
    fn what_is_kept_of_a_learners_history_is_the_leaders(
        theirs in prop::collection::vec((0..4u32, 0..6u32), 0..4), extra in 0..4u32, epoch in 0..5u32, purged in (0..4u32, 0..6u32),
    ) {
        let mut ends: Vec<Zxid> = theirs.iter().map(|(e, n)| Zxid::new(*e, *n)).collect();
        ends.sort();
        ends.dedup_by_key(|end| end.epoch());
        let mut history = History::new(Zxid::ZERO);
        ends.iter().for_each(|end| history.extend(*end));
        history.purged(Zxid::new(purged.0, purged.1));
        let holds = |zxid: Zxid| zxid == Zxid::ZERO || zxid.counter() > 0 && ends.iter().any(|end| end.epoch() == zxid.epoch() && zxid <= *end);
        let p = Zxid::new(epoch, extra);
        match decide(p, &history, false) {
            Opening::Diff { base } => prop_assert!(base == p && holds(base)),
            Opening::Trunc { base } => {
                prop_assert!(base < p && base.epoch() == p.epoch() && holds(base) && !holds(p));
                prop_assert!(!holds(Zxid(base.0 + 1)), "no more is cut than must be");
            }
            Opening::Snap => {}
        }
    }
}

// The stream.

const PATIENCE: Patience = Patience {
    init_ms: 100,
    sync_ms: 50,
    ping_ms: 10,
};
const START: Tick = Tick(1000);
/// The leader's epoch.
const E: u32 = 5;
/// What is durable at the learner.
const OWN: Zxid = Zxid::new(4, 7);

fn z(counter: u32) -> Zxid {
    Zxid::new(E, counter)
}

fn entry(zxid: Zxid) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[12..20].copy_from_slice(&zxid.0.to_be_bytes());
    bytes
}

#[derive(Clone)]
struct Learner(Stream);

impl Learner {
    fn new(is_observer: bool) -> Learner {
        Learner::with(is_observer, Some(OWN), Zxid::new(4, 6))
    }

    fn with(is_observer: bool, own: Option<Zxid>, committed: Zxid) -> Learner {
        Learner(Stream::begin(
            Epoch(E),
            is_observer,
            true,
            own,
            committed,
            PATIENCE,
            START,
        ))
    }

    fn gets(&mut self, packet: ToLearner<'_>) -> Result<(), Leave> {
        self.0.packet(&packet, START)
    }

    #[track_caller]
    fn takes(&mut self, packet: ToLearner<'_>) {
        assert_eq!(self.gets(packet), Ok(()), "{packet:?}");
    }

    fn proposed(&mut self, zxid: Zxid) -> Result<(), Leave> {
        let entry = &entry(zxid);
        self.gets(ToLearner::Proposal { zxid, entry })
    }

    #[track_caller]
    fn pair(&mut self, zxid: Zxid) {
        assert_eq!(self.proposed(zxid), Ok(()), "{zxid}");
        self.takes(ToLearner::Commit(zxid));
    }

    fn effects(&mut self) -> Vec<StreamEffect> {
        std::iter::from_fn(|| self.0.poll()).collect()
    }

    fn adopted(&mut self, epoch: u32, end: Zxid) {
        let end = LogEnd {
            position: Position(77),
            zxid: end,
        };
        let epoch = Epoch(epoch);
        self.0.adopted(&Durable::played(Adoption { epoch, end }));
    }

    fn recorded(&mut self, current: u32) {
        let accepted = Epoch(E);
        let current = Epoch(current);
        self.0.recorded(&Durable::played(Epochs {
            accepted,
            current,
            is_whole: true,
        }));
    }
}

const NEW_LEADER: ToLearner<'static> = ToLearner::NewLeader {
    zxid: Zxid::new(E, 0),
    config: None,
};
const ACK: StreamEffect = StreamEffect::Send(ToLeader::Ack(Zxid::new(E, 0)));

fn append(zxid: Zxid) -> StreamEffect {
    StreamEffect::Append {
        zxid,
        entry: Arc::from(entry(zxid)),
    }
}

fn committed(effects: &[StreamEffect]) -> Vec<Zxid> {
    let zxid = |effect: &StreamEffect| match effect {
        StreamEffect::Commit(decided) => Some(decided.zxid()),
        _ => None,
    };
    effects.iter().filter_map(zxid).collect()
}

/// A learner in each state, in which (5, 1) waits, where something may.
fn states(is_observer: bool) -> Vec<(&'static str, Learner)> {
    let mut states = vec![("base", Learner::new(is_observer))];
    let mut snapshot = Learner::new(is_observer);
    snapshot.takes(ToLearner::Snap(OWN));
    states.push(("snapshot", snapshot));
    let mut learner = Learner::new(is_observer);
    learner.takes(ToLearner::Diff(OWN));
    learner.proposed(z(1)).unwrap();
    states.push(("history", learner.clone()));
    learner.takes(NEW_LEADER);
    states.push(("closing", learner.clone()));
    learner.adopted(E, OWN);
    states.push(("recording", learner.clone()));
    learner.recorded(E);
    states.push(("acknowledged", learner.clone()));
    learner.takes(ToLearner::UpToDate);
    states.push(("serving", learner));
    for (_, learner) in &mut states {
        learner.effects();
    }
    states
}

fn packets(entries: &[Vec<u8>; 2]) -> Vec<ToLearner<'_>> {
    let [first, second] = entries;
    let leader = ServerId(3);
    vec![
        ToLearner::LeaderInfo {
            epoch: Epoch(E),
            capabilities: None,
        },
        ToLearner::Diff(OWN),
        ToLearner::Trunc(OWN),
        ToLearner::Snap(OWN),
        ToLearner::Proposal {
            zxid: z(2),
            entry: second,
        },
        ToLearner::Commit(z(1)),
        ToLearner::CommitAndActivate { zxid: z(1), leader },
        ToLearner::Inform {
            zxid: z(1),
            entry: first,
        },
        ToLearner::InformAndActivate {
            zxid: z(1),
            leader,
            entry: first,
        },
        NEW_LEADER,
        ToLearner::UpToDate,
        ToLearner::Ping(z(1)),
        ToLearner::Revalidate {
            session: SessionId(1),
            is_valid: true,
        },
        ToLearner::Sync,
        ToLearner::Other(PacketType(99)),
    ]
}

// Plan, §2.6: the table at the head of `stream`, cell by cell. The letters: e ends, – nothing, and what happens else.
#[test]
fn what_happens_to_a_packet_in_each_state() {
    let columns = [
        "base",
        "snapshot",
        "history",
        "closing",
        "recording",
        "acknowledged",
        "serving",
    ];
    let table = [
        (PacketType::LEADERINFO, "e e e e e e e"),
        (PacketType::DIFF, "b e e e e e e"),
        (PacketType::TRUNC, "b e e e e e e"),
        (PacketType::SNAP, "b e e e e e e"),
        (PacketType::PROPOSAL, "e e w w w w e"),
        (PacketType::COMMIT, "e e a n n n e"),
        (PacketType::COMMITANDACTIVATE, "e e a n n n e"),
        (PacketType::INFORM, "e e e e e e e"),
        (PacketType::INFORMANDACTIVATE, "e e e e e e e"),
        (PacketType::NEWLEADER, "e e c e e e e"),
        (PacketType::UPTODATE, "e e e e e s e"),
        (PacketType::PING, "- - - - - - -"),
        (PacketType::REVALIDATE, "- - - - - - -"),
        (PacketType::SYNC, "- - - - - - -"),
        (PacketType(99), "e e - - - - e"),
    ];
    let entries = [entry(z(1)), entry(z(2))];
    for (packet, (kind, row)) in packets(&entries).into_iter().zip(table) {
        assert_eq!(packet.kind(), kind);
        let states = states(false);
        assert!(states.iter().map(|(name, _)| *name).eq(columns));
        for ((state, mut learner), due) in states.into_iter().zip(row.split(' ')) {
            let before = learner.clone();
            let outcome = learner.gets(packet);
            let effects = learner.effects();
            let case = format!("{kind:?} in {state}: {outcome:?} {effects:?}");
            match due {
                "e" => assert_eq!(outcome, Err(Leave::Unexpected(kind)), "{case}"),
                "-" => assert!(
                    outcome.is_ok() && effects.is_empty() && learner.0 == before.0,
                    "{case}"
                ),
                "b" => assert!(
                    matches!(
                        effects[..],
                        [StreamEffect::Open(Base::Log(OWN)) | StreamEffect::ReadSnapshot(OWN)]
                    ),
                    "{case}"
                ),
                // Neither logged nor committed.
                "w" | "n" => assert!(
                    outcome.is_ok() && effects.is_empty() && learner.0 != before.0,
                    "{case}"
                ),
                "a" => assert_eq!(effects[0], append(z(1)), "{case}"),
                "c" => assert_eq!(effects, [StreamEffect::Close(Epoch(E))], "{case}"),
                "s" => assert!(
                    matches!(effects.last(), Some(StreamEffect::Serve(_))),
                    "{case}"
                ),
                _ => unreachable!(),
            }
            assert!(due == "s" || committed(&effects).is_empty(), "{case}");
        }
    }
}

#[test]
fn an_observer_is_informed_in_each_state_in_which_a_follower_is_proposed_to() {
    let entry = entry(z(1));
    for (state, mut learner) in states(true) {
        // What waits was committed with its proposal, or is not there.
        let waits = !matches!(state, "base" | "snapshot" | "serving");
        if waits {
            learner.takes(ToLearner::Commit(z(1)));
            learner.effects();
        }
        let zxid = z(if waits { 2 } else { 1 });
        let entry = match waits {
            true => crate::zab::sync::tests::entry(zxid),
            false => entry.clone(),
        };
        let outcome = learner.gets(ToLearner::Inform {
            zxid,
            entry: &entry,
        });
        assert_eq!(outcome.is_ok(), waits, "{state}");
        let effects = learner.effects();
        assert!(committed(&effects).is_empty(), "{state}");
        assert_eq!(effects.len(), usize::from(state == "history"), "{state}");
    }
    let mut learner = Learner::new(true);
    learner.takes(ToLearner::Diff(OWN));
    learner.proposed(z(1)).unwrap();
    let entry = crate::zab::sync::tests::entry(z(2));
    let outcome = learner.gets(ToLearner::Inform {
        zxid: z(2),
        entry: &entry,
    });
    assert_eq!(outcome, Err(Leave::Commit(z(2))), "something older waits");
}

// Plan, rule 1; the known failures 4394 and 3911 are the two ways to get it wrong.
#[test]
fn a_commit_before_uptodate_commits_nothing_and_uptodate_commits_it() {
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Diff(z(1)));
    learner.pair(z(1));
    learner.proposed(z(2)).unwrap();
    learner.proposed(z(3)).unwrap();
    learner.takes(NEW_LEADER);
    let due = [
        StreamEffect::Open(Base::Log(OWN)),
        append(z(1)),
        StreamEffect::Close(Epoch(E)),
    ];
    assert_eq!(learner.effects(), due, "what only waits is not logged");
    learner.takes(ToLearner::Commit(z(2)));
    learner.adopted(E, z(1));
    learner.recorded(E);
    learner.proposed(z(4)).unwrap();
    let record = StreamEffect::Record {
        epoch: Epoch(E),
        config: None,
    };
    assert_eq!(learner.effects(), [record, ACK]);
    learner.takes(ToLearner::UpToDate);
    let mut effects = learner.effects();
    let Some(StreamEffect::Serve(follow)) = effects.pop() else {
        panic!("{effects:?}");
    };
    assert_eq!(follow.committed(), z(2));
    assert_eq!(committed(&effects), [z(1), z(2)]);
    effects.retain(|effect| !matches!(effect, StreamEffect::Commit(_)));
    assert_eq!(effects, [ACK, append(z(2)), append(z(3)), append(z(4))]);
}

// Plan, rule 2; I-2, I-3; known failures 4643 and 4646.
#[test]
fn the_history_is_durable_before_the_epoch_is_and_the_epoch_before_the_acknowledgement() {
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Diff(z(1)));
    learner.pair(z(1));
    learner.takes(ToLearner::NewLeader {
        zxid: z(0),
        config: Some(b"version=0"),
    });
    learner.effects();
    learner.recorded(E);
    assert_eq!(learner.effects(), [], "the record of another time");
    for (epoch, end) in [(E - 1, z(1)), (E, OWN)] {
        learner.adopted(epoch, end);
        assert_eq!(learner.effects(), [], "another history");
    }
    learner.adopted(E, z(1));
    let config = Some(Arc::from(&b"version=0"[..]));
    assert_eq!(
        learner.effects(),
        [StreamEffect::Record {
            epoch: Epoch(E),
            config
        }]
    );
    learner.recorded(E - 1);
    assert_eq!(learner.effects(), []);
    learner.recorded(E);
    assert_eq!(learner.effects(), [ACK]);
    learner.adopted(E, z(1));
    learner.recorded(E);
    assert_eq!(learner.effects(), [], "once");
}

#[test]
fn a_diff_goes_on_from_the_own_end_and_a_cut_from_where_it_is_cut() {
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Diff(z(9)));
    assert_eq!(learner.effects(), [StreamEffect::Open(Base::Log(OWN))]);
    assert_eq!(
        learner.proposed(z(9)),
        Err(Leave::Gap {
            after: OWN,
            zxid: z(9)
        })
    );
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Trunc(Zxid::new(4, 6)));
    assert_eq!(
        learner.effects(),
        [StreamEffect::Open(Base::Log(Zxid::new(4, 6)))]
    );
    learner.pair(Zxid::new(4, 7));
    learner.pair(z(1));
    // Where there is nothing to go on from, or it never was.
    for (own, packet) in [
        (None, ToLearner::Diff(OWN)),
        (None, ToLearner::Trunc(OWN)),
        (Some(OWN), ToLearner::Trunc(Zxid::new(4, 8))),
        (Some(OWN), ToLearner::Trunc(Zxid(-1))),
        (Some(OWN), ToLearner::Snap(Zxid(-1))),
    ] {
        let mut learner = Learner::with(false, own, Zxid::ZERO);
        assert_eq!(learner.gets(packet), Err(Leave::NoBase(packet.kind())));
    }
}

// Plan, rule 11.
#[test]
fn a_history_that_lacks_what_is_known_committed_is_refused() {
    let committed = Zxid::new(4, 6);
    let mut learner = Learner::new(false);
    let end = Zxid::new(4, 5);
    let forgets = Err(Leave::Forgets { end, committed });
    assert_eq!(learner.gets(ToLearner::Trunc(end)), forgets);
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Snap(Zxid::new(4, 4)));
    learner
        .0
        .handle(StreamEvent::SnapshotReceived, START)
        .unwrap();
    learner.pair(end);
    let before = learner.clone();
    assert_eq!(learner.gets(NEW_LEADER), forgets);
    let mut learner = before;
    learner.pair(committed);
    learner.takes(NEW_LEADER);
}

#[test]
fn what_a_snapshot_repeats_is_skipped_and_what_follows_it_is_not() {
    let snapshot = z(3);
    let mut learner = Learner::with(false, None, Zxid::ZERO);
    learner.takes(ToLearner::Snap(snapshot));
    assert_eq!(learner.effects(), [StreamEffect::ReadSnapshot(snapshot)]);
    learner
        .0
        .handle(StreamEvent::SnapshotReceived, START)
        .unwrap();
    assert_eq!(
        learner.effects(),
        [StreamEffect::Open(Base::Snapshot(snapshot))]
    );
    let mut gap = learner.clone();
    assert_eq!(
        gap.proposed(z(5)),
        Err(Leave::Gap {
            after: snapshot,
            zxid: z(5)
        })
    );
    for counter in 2..=4 {
        learner.pair(z(counter));
    }
    assert_eq!(learner.effects(), [append(z(4))]);
    assert_eq!(
        learner.proposed(z(4)),
        Err(Leave::Gap {
            after: z(4),
            zxid: z(4)
        }),
        "O1"
    );
    // Repeated up to its end, or not at all.
    let mut learner = Learner::with(false, None, Zxid::ZERO);
    learner.takes(ToLearner::Snap(snapshot));
    learner
        .0
        .handle(StreamEvent::SnapshotReceived, START)
        .unwrap();
    learner.pair(z(2));
    assert_eq!(
        learner.gets(NEW_LEADER),
        Err(Leave::Gap {
            after: z(2),
            zxid: snapshot
        })
    );
}

// Plan, rule 29; I-13, I-14, I-15.
#[test]
fn transactions_that_do_not_follow_each_other_end_the_role() {
    for (first, second) in [
        (z(1), z(1)),
        (z(1), z(3)),
        (z(1), Zxid::new(E + 1, 1)),
        (z(1), Zxid::new(4, 8)),
        (Zxid::new(4, 8), z(2)),
        (Zxid::new(4, 8), z(0)),
        (Zxid::new(4, 8), Zxid(-1)),
        (Zxid::new(4, 8), Zxid::new(4, 7)),
    ] {
        let mut learner = Learner::new(false);
        learner.takes(ToLearner::Diff(OWN));
        learner.pair(first);
        let gap = Err(Leave::Gap {
            after: first,
            zxid: second,
        });
        assert_eq!(learner.proposed(second), gap, "{first} {second}");
    }
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Diff(OWN));
    learner.proposed(z(1)).unwrap();
    learner.proposed(z(2)).unwrap();
    assert_eq!(
        learner.clone().gets(ToLearner::Commit(z(2))),
        Err(Leave::Commit(z(2)))
    );
    learner.takes(ToLearner::Commit(z(1)));
    assert_eq!(
        learner.clone().gets(ToLearner::Commit(z(1))),
        Err(Leave::Commit(z(1)))
    );
    learner.takes(ToLearner::Commit(z(2)));
    assert_eq!(
        learner.gets(ToLearner::Commit(z(3))),
        Err(Leave::Commit(z(3)))
    );
    // A proposal of an older epoch belongs to the history, or nowhere.
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Diff(OWN));
    learner.proposed(Zxid::new(4, 8)).unwrap();
    let gap = Leave::Gap {
        after: OWN,
        zxid: Zxid::new(4, 8),
    };
    assert_eq!(learner.gets(NEW_LEADER), Err(gap));
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Diff(OWN));
    let other = ToLearner::NewLeader {
        zxid: Zxid::new(E + 1, 0),
        config: None,
    };
    assert_eq!(
        learner.gets(other),
        Err(Leave::Unexpected(PacketType::NEWLEADER))
    );
}

#[test]
fn more_proposals_than_are_kept_before_uptodate_end_the_role() {
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Diff(OWN));
    let long = |zxid| {
        let mut bytes = entry(zxid);
        bytes.resize(PENDING_BYTES_MAX / 4 - ITEM_BYTES, 0);
        bytes
    };
    let mut proposed = |counter| {
        let entry = &long(z(counter));
        learner.gets(ToLearner::Proposal {
            zxid: z(counter),
            entry,
        })
    };
    assert!((1..=4).all(|counter| proposed(counter).is_ok()));
    assert_eq!(proposed(5), Err(Leave::TooMuch));
    // What is committed goes to the log, and makes room.
    learner.takes(ToLearner::Commit(z(1)));
    let entry = &long(z(5));
    learner.takes(ToLearner::Proposal { zxid: z(5), entry });
}

#[test]
fn a_leader_that_is_silent_for_too_long_is_left() {
    let mut learner = Learner::new(false);
    let at = |ms| START.after(ms);
    let mut tick = |event, ms| learner.0.handle(event, at(ms));
    assert_eq!(tick(StreamEvent::Tick, 99), Ok(()));
    assert_eq!(tick(StreamEvent::Heard, 99), Ok(()));
    assert_eq!(tick(StreamEvent::Tick, 198), Ok(()));
    assert_eq!(tick(StreamEvent::Tick, 199), Err(Leave::Silent));
    learner.0.packet(&ToLearner::Ping(z(0)), at(199)).unwrap();
    assert_eq!(learner.0.handle(StreamEvent::Tick, at(298)), Ok(()));
}

#[test]
fn the_configuration_of_a_reconfiguration_is_active_with_its_commit() {
    let leader = ServerId(3);
    let mut learner = Learner::new(false);
    learner.takes(ToLearner::Diff(OWN));
    learner.proposed(z(1)).unwrap();
    learner.proposed(z(2)).unwrap();
    learner.takes(ToLearner::CommitAndActivate { zxid: z(1), leader });
    learner.effects();
    learner.takes(NEW_LEADER);
    learner.takes(ToLearner::CommitAndActivate { zxid: z(2), leader });
    learner.adopted(E, z(1));
    learner.recorded(E);
    learner.effects();
    learner.takes(ToLearner::UpToDate);
    let effects = learner.effects();
    let commit = effects
        .iter()
        .position(|effect| matches!(effect, StreamEffect::Commit(d) if d.zxid() == z(2)));
    let active = effects
        .iter()
        .position(|effect| *effect == StreamEffect::Activate(z(2), leader));
    assert!(commit < active && commit.is_some(), "{effects:?}");
}

// Any packets in any order.

#[derive(Clone, Debug)]
enum Step {
    Packet(u8, Zxid, usize),
    Snapshot,
    Adopted,
    Recorded,
}

fn any_zxid() -> impl Strategy<Value = Zxid> {
    prop_oneof![
        8 => (3..7u32, 0..5u32).prop_map(|(epoch, counter)| Zxid::new(epoch, counter)),
        4 => (0..4i64).prop_map(|n| Zxid(OWN.0 + n)),
        1 => any::<i64>().prop_map(Zxid),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..15u8, any_zxid(), 0..100usize).prop_map(|(kind, zxid, len)| Step::Packet(kind, zxid, len)),
        1 => Just(Step::Snapshot),
        2 => Just(Step::Adopted),
        2 => Just(Step::Recorded),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    // The only verdict is the end of the role; what is committed was logged, in order, and only after UPTODATE.
    #[test]
    fn any_packets_in_any_order_end_the_role_or_are_one_history(
        is_observer in any::<bool>(), own in prop::option::of(Just(OWN)), steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let mut learner = Learner::with(is_observer, own, Zxid::new(4, 6));
        let (mut logged, mut is_closed, mut is_recorded, mut is_serving) = (Zxid::ZERO, false, false, false);
        for step in steps {
            let outcome = match step {
                Step::Packet(kind, zxid, len) => {
                    let mut entry = entry(zxid);
                    entry.resize(32 + len, 0);
                    let entry = &entry;
                    let leader = ServerId(zxid.0);
                    learner.gets(match kind {
                        0 => ToLearner::LeaderInfo { epoch: Epoch(E), capabilities: None },
                        1 => ToLearner::Diff(zxid),
                        2 => ToLearner::Trunc(zxid),
                        3 => ToLearner::Snap(zxid),
                        4..=6 => ToLearner::Proposal { zxid, entry },
                        7..=8 => ToLearner::Commit(zxid),
                        9 => ToLearner::CommitAndActivate { zxid, leader },
                        10 => ToLearner::Inform { zxid, entry },
                        11 => ToLearner::InformAndActivate { zxid, leader, entry },
                        12 => NEW_LEADER,
                        13 => ToLearner::UpToDate,
                        _ => ToLearner::Ping(zxid),
                    })
                }
                Step::Snapshot => learner.0.handle(StreamEvent::SnapshotReceived, START),
                Step::Adopted => { learner.adopted(E, logged); Ok(()) }
                Step::Recorded => { learner.recorded(E); Ok(()) }
            };
            for effect in learner.effects() {
                prop_assert!(!is_serving, "nothing behind the end: {effect:?}");
                match effect {
                    StreamEffect::Open(Base::Log(base) | Base::Snapshot(base)) => logged = base,
                    StreamEffect::Append { zxid, .. } => {
                        prop_assert!(zxid > logged);
                        prop_assert!(!is_closed || is_recorded, "{zxid} between NEWLEADER and UPTODATE");
                        logged = zxid;
                    }
                    StreamEffect::Close(_) => is_closed = true,
                    StreamEffect::Record { .. } => prop_assert!(is_closed),
                    StreamEffect::Send(packet) => {
                        prop_assert_eq!(packet, ToLeader::Ack(z(0)));
                        is_recorded = true;
                    }
                    StreamEffect::Commit(decided) => prop_assert!(is_recorded && decided.zxid() <= logged),
                    StreamEffect::Serve(_) => is_serving = true,
                    StreamEffect::ReadSnapshot(_) | StreamEffect::Activate(..) => {}
                }
            }
            if outcome.is_err() {
                break;
            }
        }
    }
}
