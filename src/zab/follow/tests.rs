use super::*;
use crate::proto::peer::packet::{PacketType, Split, split};
use proptest::prelude::*;

const PATIENCE: Patience = Patience {
    init_ms: 100,
    sync_ms: 50,
    ping_ms: 10,
};
const START: Tick = Tick(1000);
const E: u32 = 5;
const HISTORY: Zxid = Zxid::new(4, 7);

fn z(counter: u32) -> Zxid {
    Zxid::new(E, counter)
}

fn entry(zxid: Zxid) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[12..20].copy_from_slice(&zxid.0.to_be_bytes());
    bytes
}

/// A learner that was synchronised up to [`HISTORY`], and has got (5, 1) and (5, 2), of which the first is committed.
fn learner(is_observer: bool) -> Follow {
    let joined = Joined {
        epoch: Epoch(E),
        is_observer,
        is_whole: true,
        position: Position(70),
        history: HISTORY,
        committed: z(1),
        last: z(2),
    };
    Follow::begin(joined, PATIENCE, START)
}

fn effects(follow: &mut Follow) -> Vec<FollowEffect> {
    std::iter::from_fn(|| follow.poll()).collect()
}

fn gets(follow: &mut Follow, packet: ToLearner<'_>) -> Result<Vec<FollowEffect>, Leave> {
    follow.packet(&packet, START)?;
    Ok(effects(follow))
}

fn append(zxid: Zxid) -> FollowEffect {
    let entry = Arc::from(entry(zxid));
    FollowEffect::Append { zxid, entry }
}

fn commit(zxid: Zxid) -> FollowEffect {
    FollowEffect::Commit(Decided::up_to(zxid))
}

fn durable(follow: &mut Follow, position: u64, zxid: Zxid) -> Vec<Zxid> {
    let position = Position(position);
    follow.durable(&Durable::played(LogEnd { position, zxid }));
    let effects = effects(follow);
    assert!(effects.len() <= 1, "one send for one sync");
    effects.iter().flat_map(acks).collect()
}

fn acks(effect: &FollowEffect) -> Vec<Zxid> {
    let FollowEffect::Send(bytes) = effect else {
        panic!("{effect:?}");
    };
    let mut bytes = &bytes[..];
    let mut acks = Vec::new();
    while let Ok(Split::Whole(packet, used)) = split(bytes, 1 << 20) {
        let Ok(ToLeader::Ack(zxid)) = ToLeader::decode(&packet) else {
            panic!("{packet:?}");
        };
        acks.push(zxid);
        bytes = &bytes[used..];
    }
    acks
}

// The table at the head of the module, cell by cell.
#[test]
fn what_happens_to_a_packet() {
    let leader = ServerId(3);
    let session = SessionId(9);
    let (first, third) = (&entry(z(2))[..], &entry(z(3))[..]);
    let proposal = ToLearner::Proposal {
        zxid: z(3),
        entry: third,
    };
    let inform = |zxid, entry| ToLearner::Inform { zxid, entry };
    let ends = |packet: ToLearner<'_>| Err(Leave::Unexpected(packet.kind()));
    let zxid = z(3);
    let and_activate = ToLearner::InformAndActivate {
        zxid,
        leader,
        entry: third,
    };
    for is_observer in [false, true] {
        let learner = || learner(is_observer);
        assert_eq!(gets(&mut learner(), proposal), Ok(vec![append(z(3))]));
        assert_eq!(
            gets(&mut learner(), ToLearner::Commit(z(2))),
            Ok(vec![commit(z(2))])
        );
        let packet = ToLearner::CommitAndActivate { zxid: z(2), leader };
        let due = vec![commit(z(2)), FollowEffect::Activate(z(2), leader)];
        assert_eq!(gets(&mut learner(), packet), Ok(due));
        for packet in [
            ToLearner::LeaderInfo {
                epoch: Epoch(E),
                capabilities: None,
            },
            ToLearner::Diff(z(2)),
            ToLearner::Trunc(z(2)),
            ToLearner::Snap(z(2)),
            ToLearner::UpToDate,
            ToLearner::NewLeader {
                zxid: z(0),
                config: None,
            },
        ] {
            assert_eq!(gets(&mut learner(), packet), ends(packet));
        }
        for packet in [
            ToLearner::Sync,
            ToLearner::Revalidate {
                session,
                is_valid: true,
            },
            ToLearner::Other(PacketType(99)),
        ] {
            assert_eq!(gets(&mut learner(), packet), Ok(vec![]), "for nobody");
        }
    }
    for packet in [inform(z(2), first), and_activate] {
        assert_eq!(gets(&mut learner(false), packet), ends(packet));
    }
    let mut observer = learner(true);
    let outcome = gets(&mut observer.clone(), inform(z(3), third));
    assert_eq!(outcome, Err(Leave::Commit(z(3))), "something older waits");
    gets(&mut observer, ToLearner::Commit(z(2))).unwrap();
    let due = vec![append(z(3)), commit(z(3))];
    assert_eq!(gets(&mut observer.clone(), inform(z(3), third)), Ok(due));
    let due = vec![
        append(z(3)),
        commit(z(3)),
        FollowEffect::Activate(z(3), leader),
    ];
    assert_eq!(gets(&mut observer, and_activate), Ok(due));
}

// I-13, I-15; known failure O1.
#[test]
fn a_proposal_follows_the_last_one_and_a_commit_is_of_the_oldest() {
    for wrong in [z(2), z(4), z(0), Zxid::new(6, 1), Zxid::new(4, 8), Zxid(-1)] {
        let entry = &entry(wrong);
        let packet = ToLearner::Proposal { zxid: wrong, entry };
        let gap = Leave::Gap {
            after: z(2),
            zxid: wrong,
        };
        assert_eq!(gets(&mut learner(false), packet), Err(gap));
    }
    for wrong in [z(1), z(3), z(0), HISTORY, Zxid(-1)] {
        let outcome = gets(&mut learner(false), ToLearner::Commit(wrong));
        assert_eq!(outcome, Err(Leave::Commit(wrong)));
    }
    // The first of the epoch, behind the history.
    let joined = Joined {
        epoch: Epoch(E),
        is_observer: false,
        is_whole: true,
        position: Position(70),
        history: HISTORY,
        committed: HISTORY,
        last: HISTORY,
    };
    let mut follow = Follow::begin(joined, PATIENCE, START);
    let entry = &entry(z(1));
    let packet = ToLearner::Proposal { zxid: z(1), entry };
    assert_eq!(gets(&mut follow, packet), Ok(vec![append(z(1))]));
    assert_eq!(
        gets(&mut follow, ToLearner::Commit(z(1))),
        Ok(vec![commit(z(1))])
    );
    // The last that an epoch has.
    let last = z(Zxid::COUNTER_MAX);
    let mut follow = Follow::begin(Joined { last, ..joined }, PATIENCE, START);
    let zxid = z(u32::MAX);
    let entry = &crate::zab::follow::tests::entry(zxid);
    let outcome = gets(&mut follow, ToLearner::Proposal { zxid, entry });
    assert_eq!(outcome, Err(Leave::Gap { after: last, zxid }));
}

// I-5, N1; plan, rule 4.
#[test]
fn each_proposal_is_acknowledged_once_when_it_is_durable_and_not_by_an_older_proof() {
    let mut follow = learner(false);
    assert_eq!(durable(&mut follow, 69, z(2)), [], "of before the history");
    assert_eq!(durable(&mut follow, 70, HISTORY), []);
    assert_eq!(durable(&mut follow, 80, z(1)), [z(1)], "committed already");
    assert_eq!(durable(&mut follow, 80, z(1)), []);
    for counter in 3..=5 {
        let (zxid, entry) = (z(counter), entry(z(counter)));
        let entry = &entry;
        gets(&mut follow, ToLearner::Proposal { zxid, entry }).unwrap();
    }
    assert_eq!(durable(&mut follow, 90, z(4)), [z(2), z(3), z(4)]);
    assert_eq!(
        durable(&mut follow, 95, z(9)),
        [z(5)],
        "no more than has come"
    );
    assert_eq!(durable(&mut learner(true), 90, z(2)), [], "an observer");
}

#[test]
fn a_ping_is_answered_with_the_sessions_heard_of_since() {
    let mut follow = learner(false);
    let answer = |follow: &mut Follow| -> (Zxid, Vec<(SessionId, i32)>) {
        let effects = gets(follow, ToLearner::Ping(z(2))).unwrap();
        let [FollowEffect::Send(bytes)] = &effects[..] else {
            panic!("{effects:?}");
        };
        let Ok(Split::Whole(packet, _)) = split(bytes, 1 << 20) else {
            panic!("whole");
        };
        assert!(packet.data.is_some(), "T8: never null");
        match ToLeader::decode(&packet) {
            Ok(ToLeader::Ping { zxid, touched }) => (zxid, touched.iter().collect()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answer(&mut follow), (z(2), vec![]));
    for (session, timeout_ms) in [(7, 100), (3, 200), (7, 300)] {
        assert!(follow.touch(SessionId(session), timeout_ms));
    }
    let due = vec![(SessionId(7), 300), (SessionId(3), 200)];
    assert_eq!(answer(&mut follow), (z(2), due));
    assert_eq!(answer(&mut follow), (z(2), vec![]));
    // More than one answer holds: in the order in which they were heard of.
    let n = TOUCHES_PER_PING as i64 + 5;
    (0..n).for_each(|session| assert!(follow.touch(SessionId(n - session), 1)));
    assert_eq!(answer(&mut follow).1.len(), TOUCHES_PER_PING);
    let rest: Vec<i64> = answer(&mut follow)
        .1
        .iter()
        .map(|(session, _)| session.0)
        .collect();
    assert_eq!(rest, [5, 4, 3, 2, 1]);
}

#[test]
fn sessions_that_wait_to_be_reported_are_bounded_and_none_is_lost() {
    let mut follow = learner(false);
    let n = TOUCHED_MAX as i64;
    assert!((0..n).all(|session| follow.touch(SessionId(session), 1)));
    assert!(!follow.touch(SessionId(n), 1));
    assert!(follow.touch(SessionId(5), 2), "known");
    gets(&mut follow, ToLearner::Ping(z(2))).unwrap();
    assert!(follow.touch(SessionId(n), 1));
}

#[test]
fn who_asks_whether_a_session_lives_is_told_and_how_many_may_ask_is_bounded() {
    let mut follow = learner(false);
    let told = |session, is_valid| ToLearner::Revalidate {
        session: SessionId(session),
        is_valid,
    };
    let due = |session, is_valid| FollowEffect::Revalidated {
        session: SessionId(session),
        is_valid,
    };
    assert!((0..REVALIDATIONS_MAX as i64).all(|session| follow.revalidate(SessionId(session), 9)));
    assert!(!follow.revalidate(SessionId(-1), 9));
    assert_eq!(
        effects(&mut follow).len(),
        REVALIDATIONS_MAX,
        "one packet each"
    );
    assert_eq!(gets(&mut follow, told(5, true)), Ok(vec![due(5, true)]));
    assert_eq!(gets(&mut follow, told(5, true)), Ok(vec![]), "once");
    assert!(follow.revalidate(SessionId(0), 9), "twice for one session");
    effects(&mut follow);
    assert_eq!(gets(&mut follow, told(0, true)), Ok(vec![due(0, true)]));
    assert_eq!(gets(&mut follow, told(0, false)), Ok(vec![due(0, false)]));
}

#[test]
fn syncs_end_in_order_and_how_many_may_wait_is_bounded() {
    let mut follow = learner(false);
    assert!((0..SYNCS_MAX as u64).all(|sync| follow.sync(SyncId(sync))));
    assert!(!follow.sync(SyncId(99)));
    let due = |sync| Ok(vec![FollowEffect::Synced(SyncId(sync))]);
    assert_eq!(gets(&mut follow, ToLearner::Sync), due(0));
    assert_eq!(gets(&mut follow, ToLearner::Sync), due(1));
    assert!(follow.sync(SyncId(99)));
}

// Plan, rule 12. An old leader, established and not yet active, a new one whose follower is wiped: the follower came to
// the old one, was whole with its history, and made it the leader of an epoch that there had been.
#[test]
fn who_has_forgotten_what_it_said_says_nothing_that_counts_until_a_quorum_of_others_has() {
    let record = |is_whole| {
        Durable::played(Epochs {
            accepted: Epoch(E),
            current: Epoch(E),
            is_whole,
        })
    };
    for is_observer in [false, true] {
        let joined = Joined {
            epoch: Epoch(E),
            is_observer,
            is_whole: false,
            position: Position(70),
            history: HISTORY,
            committed: z(1),
            last: z(2),
        };
        let mut follow = Follow::begin(joined, PATIENCE, START);
        assert_eq!(effects(&mut follow), [FollowEffect::Sync]);
        assert!(follow.sync(SyncId(4)), "behind the own one");
        assert_eq!(durable(&mut follow, 80, z(1)), []);
        for n in 0..PINGS_MAX as u32 + 9 {
            assert_eq!(gets(&mut follow, ToLearner::Ping(z(n))), Ok(vec![]));
        }
        follow.recorded(&record(true));
        assert_eq!(durable(&mut follow, 80, z(1)), [], "of another role");
        let effects = gets(&mut follow, ToLearner::Sync).unwrap();
        assert_eq!(effects[0], FollowEffect::BecomeWhole);
        assert_eq!(effects.len(), 1 + PINGS_MAX, "the pings of before");
        assert_eq!(gets(&mut follow, ToLearner::Ping(z(9))).unwrap().len(), 1);
        assert_eq!(durable(&mut follow, 85, z(2)), []);
        follow.recorded(&record(false));
        assert_eq!(durable(&mut follow, 85, z(2)), []);
        follow.recorded(&record(true));
        let acknowledged = follow.poll().as_ref().map(acks);
        let due = (!is_observer).then_some(vec![z(1), z(2)]);
        assert_eq!(acknowledged, due);
        let due = Ok(vec![FollowEffect::Synced(SyncId(4))]);
        assert_eq!(gets(&mut follow, ToLearner::Sync), due);
    }
}

#[test]
fn a_leader_that_is_silent_for_too_long_is_left() {
    let mut follow = learner(false);
    assert_eq!(follow.tick(START.after(49)), Ok(()));
    follow
        .packet(&ToLearner::Ping(z(2)), START.after(49))
        .unwrap();
    assert_eq!(follow.tick(START.after(98)), Ok(()));
    assert_eq!(follow.tick(START.after(99)), Err(Leave::Silent));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    // Nothing is committed that was not proposed, nothing acknowledged that was not durable, all in order, once.
    #[test]
    fn any_packets_in_any_order_end_the_role_or_are_one_history(
        is_observer in any::<bool>(),
        steps in prop::collection::vec((0..12u8, prop_oneof![6 => (0..4i64).prop_map(|n| n), 1 => any::<i64>()], 60..100u64), 0..100),
    ) {
        let mut follow = learner(is_observer);
        let (mut appended, mut committed, mut acknowledged) = (z(2), z(1), z(0));
        for (kind, n, position) in steps {
            let behind = |zxid: Zxid| Zxid(zxid.0.wrapping_add(n));
            let (zxid, session) = (behind(appended), SessionId(n));
            let entry = entry(zxid);
            let entry = &entry;
            let mut is_durable = appended;
            let outcome = match kind {
                0..=3 => follow.packet(&ToLearner::Proposal { zxid, entry }, START),
                4..=6 => follow.packet(&ToLearner::Commit(behind(committed)), START),
                7 => follow.packet(&ToLearner::Inform { zxid, entry }, START),
                8 => follow.packet(&ToLearner::Ping(zxid), START),
                9 => follow.packet(&ToLearner::Revalidate { session, is_valid: true }, START),
                10 => { follow.touch(session, 1); follow.revalidate(session, 1); Ok(()) }
                _ => {
                    is_durable = zxid;
                    let position = Position(position);
                    follow.durable(&Durable::played(LogEnd { position, zxid }));
                    Ok(())
                }
            };
            for effect in effects(&mut follow) {
                match effect {
                    FollowEffect::Append { zxid, .. } => {
                        prop_assert_eq!(zxid.0, appended.0 + 1);
                        appended = zxid;
                    }
                    FollowEffect::Commit(decided) => {
                        prop_assert_eq!(decided.zxid().0, committed.0 + 1);
                        committed = decided.zxid();
                        prop_assert!(committed <= appended);
                    }
                    FollowEffect::Send(bytes) if kind == 11 => {
                        prop_assert!(!is_observer && position >= 70);
                        for zxid in acks(&FollowEffect::Send(bytes)) {
                            prop_assert_eq!(zxid.0, acknowledged.0 + 1);
                            acknowledged = zxid;
                        }
                        prop_assert!(acknowledged <= is_durable && acknowledged <= appended);
                    }
                    _ => {}
                }
            }
            if outcome.is_err() {
                break;
            }
        }
    }
}
