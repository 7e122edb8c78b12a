use super::*;
use crate::log::{Durable, Epochs, LogEnd};
use crate::proto::peer::packet::PacketType;
use crate::proto::peer::{LearnerInfo, ToLeader, ToLearner};
use crate::types::{Epoch, Position, ServerId, Tick, Zxid};
use crate::zab::bounds::LEARNERS_MAX;
use crate::zab::election::Offer;
use crate::zab::learner::Learner;
use crate::zab::links::LinkId;
use crate::zab::quorum::Quorum;
use crate::zab::quorum::tests::{majority_of, sids};
use crate::zab::sync::StreamEffect;
use crate::zab::tally::Pair;
use crate::zab::verdict::{Dropped, Leave, Patience};
use proptest::prelude::*;
use std::sync::Arc;

const PATIENCE: Patience = Patience {
    init_ms: 100,
    sync_ms: 50,
    ping_ms: 10,
};
const START: Tick = Tick(1000);
/// currentEpoch and end of the leader's history.
const OWN: (u32, Zxid) = (4, Zxid::new(4, 7));

fn record(accepted: u32, current: u32) -> Durable<Epochs> {
    Durable::played(Epochs {
        accepted: Epoch(accepted),
        current: Epoch(current),
        is_whole: true,
    })
}

fn offer(epoch: u32, zxid: Zxid) -> Offer {
    let position = Position(1);
    Offer::of(Epoch(epoch), &Durable::played(LogEnd { position, zxid }))
}

fn introduction(sid: i64, accepted: u32) -> ToLeader<'static> {
    ToLeader::Info {
        is_observer: false,
        accepted: Epoch(accepted),
        info: LearnerInfo {
            sid: ServerId(sid),
            config_version: Some(Zxid::ZERO),
            capabilities: None,
        },
    }
}

fn observes(sid: i64, accepted: u32) -> ToLeader<'static> {
    match introduction(sid, accepted) {
        ToLeader::Info { accepted, info, .. } => ToLeader::Info {
            is_observer: true,
            accepted,
            info,
        },
        other => other,
    }
}

fn promises(last: Zxid, current: impl Into<Option<u32>>) -> ToLeader<'static> {
    ToLeader::AckEpoch {
        last,
        current: current.into().map(Epoch),
    }
}

/// Server 1, with acceptedEpoch 6, and the history [`OWN`].
struct Leader {
    discovery: Discovery,
    now: Tick,
}

impl Leader {
    fn of(pair: Pair) -> Leader {
        let (epoch, end) = OWN;
        let me = ServerId(1);
        let discovery = Discovery::begin(
            me,
            offer(epoch, end),
            &record(6, epoch),
            &pair,
            PATIENCE,
            START,
        );
        Leader {
            discovery: discovery.unwrap(),
            now: START,
        }
    }

    fn of_voters(n: i64) -> Leader {
        Leader::of(Pair::of(majority_of(1..=n)))
    }

    /// Each learner's connection has its number.
    fn gets(&mut self, sid: i64, packet: ToLeader<'_>) -> Result<(), Leave> {
        let link = LinkId(sid as u64);
        self.discovery.packet(link, &packet, self.now)
    }

    fn connects(&mut self, sid: i64) {
        self.discovery.connected(LinkId(sid as u64), self.now);
    }

    fn introduced(&mut self, sid: i64, accepted: u32) {
        self.connects(sid);
        self.gets(sid, introduction(sid, accepted)).unwrap();
    }

    fn effects(&mut self) -> Vec<DiscoveryEffect> {
        std::iter::from_fn(|| self.discovery.poll()).collect()
    }

    fn promised(&mut self, accepted: u32) {
        let now = self.now;
        self.discovery.promised(&record(accepted, 4), now);
    }

    fn after(&mut self, ms: u64) -> Result<(), Leave> {
        self.now = self.now.after(ms);
        self.discovery.tick(self.now)
    }

    /// 1 and 2 of three have come, and epoch 9 is offered to 2.
    fn that_has_offered() -> Leader {
        let mut leader = Leader::of_voters(3);
        leader.introduced(2, 8);
        leader.promised(9);
        leader.effects();
        leader
    }
}

fn drop(sid: i64, why: Dropped) -> DiscoveryEffect {
    DiscoveryEffect::Drop(LinkId(sid as u64), why)
}

fn offers(sid: i64, epoch: u32) -> DiscoveryEffect {
    let packet = ToLearner::LeaderInfo {
        epoch: Epoch(epoch),
        capabilities: None,
    };
    DiscoveryEffect::Send(LinkId(sid as u64), packet)
}

fn synchronises(sid: i64, last: Zxid, is_observer: bool) -> DiscoveryEffect {
    DiscoveryEffect::Synchronise {
        link: LinkId(sid as u64),
        learner: Learner {
            sid: ServerId(sid),
            is_observer,
            is_whole: last >= Zxid::ZERO,
        },
        last,
    }
}

const ESTABLISHED: DiscoveryEffect = DiscoveryEffect::Established(Epoch(9));

// The leader.

#[test]
fn an_epoch_is_above_all_that_a_quorum_and_observers_have_accepted() {
    let mut leader = Leader::of_voters(5);
    leader.connects(7);
    leader.gets(7, observes(7, 12)).unwrap();
    leader.introduced(2, 8);
    assert_eq!(
        leader.effects(),
        [],
        "two of five; the observer counts nowhere"
    );
    leader.introduced(3, 2);
    assert_eq!(leader.effects(), [DiscoveryEffect::Promise(Epoch(13))]);
    // It stands, whoever comes now.
    leader.introduced(4, 20);
    leader.promised(12);
    assert_eq!(leader.effects(), [], "another record");
    leader.promised(13);
    let due = [2, 3, 4, 7].map(|sid| offers(sid, 13));
    assert_eq!(
        leader.effects(),
        due,
        "I-1: not before the own promise is durable"
    );
    leader.introduced(5, 0);
    assert_eq!(leader.effects(), [offers(5, 13)], "a latecomer");
}

#[test]
fn a_voter_that_is_alone_promises_to_itself() {
    let mut leader = Leader::of_voters(1);
    assert_eq!(leader.effects(), [DiscoveryEffect::Promise(Epoch(7))]);
    leader.promised(7);
    assert_eq!(leader.effects(), [DiscoveryEffect::Established(Epoch(7))]);
    assert_eq!(leader.discovery.established(), Some(Epoch(7)));
}

#[test]
fn synchronisation_begins_for_all_who_have_promised_when_a_quorum_has_and_later_at_once() {
    let mut leader = Leader::of_voters(5);
    for sid in 2..=4 {
        leader.introduced(sid, 8);
    }
    leader.connects(7);
    leader.gets(7, observes(7, 3)).unwrap();
    leader.promised(9);
    leader.effects();
    leader.gets(7, promises(Zxid::new(3, 1), 3)).unwrap();
    leader.gets(2, promises(Zxid::new(4, 7), 4)).unwrap();
    assert_eq!(leader.effects(), [], "1 and 2 of five");
    leader.gets(3, promises(Zxid::new(3, 9), 3)).unwrap();
    let due = [
        ESTABLISHED,
        synchronises(2, Zxid::new(4, 7), false),
        synchronises(3, Zxid::new(3, 9), false),
        synchronises(7, Zxid::new(3, 1), true),
    ];
    assert_eq!(leader.effects(), due);
    // It has more than the leader, but no quorum does.
    leader.gets(4, promises(Zxid::new(4, 9), 4)).unwrap();
    assert_eq!(leader.effects(), [synchronises(4, Zxid::new(4, 9), false)]);
    assert_eq!(leader.gets(4, ToLeader::Ack(Zxid(1))), Ok(()));
    assert_eq!(leader.effects(), [], "not a concern of discovery any more");
}

#[test]
fn who_does_not_count_is_synchronised_when_others_have_made_a_quorum() {
    for (packet, last) in [
        (promises(Zxid(-1), 0), Zxid(-1)),
        (promises(Zxid::new(4, 7), None), Zxid::new(4, 7)),
        // Not compared either.
        (promises(Zxid::new(5, 7), None), Zxid::new(5, 7)),
    ] {
        let mut leader = Leader::that_has_offered();
        leader.gets(2, packet).unwrap();
        assert_eq!(leader.effects(), []);
        leader.introduced(3, 0);
        leader.gets(3, promises(Zxid::ZERO, 0)).unwrap();
        let due = [
            offers(3, 9),
            ESTABLISHED,
            synchronises(2, last, false),
            synchronises(3, Zxid::ZERO, false),
        ];
        assert_eq!(leader.effects(), due);
    }
    let mut leader = Leader::of_voters(3);
    leader.connects(2);
    leader.gets(2, observes(2, 3)).unwrap();
    assert_eq!(leader.effects(), [], "a voter that observes");
}

#[test]
fn who_is_ahead_of_the_leader_is_dropped_and_without_a_quorum_of_others_the_role_ends() {
    let ahead = |epoch: u32, zxid| Dropped::Ahead {
        epoch: Epoch(epoch),
        zxid,
    };
    for (epoch, zxid, is_ahead) in [
        (4, Zxid::new(4, 7), false),
        (4, Zxid::new(4, 8), true),
        (5, Zxid::new(4, 1), true),
        (3, Zxid::new(4, 9), false),
    ] {
        let mut leader = Leader::of_voters(5);
        (2..=4).for_each(|sid| leader.introduced(sid, 8));
        leader.promised(9);
        leader.effects();
        assert_eq!(leader.gets(2, promises(zxid, epoch)), Ok(()));
        let due = [drop(2, ahead(epoch, zxid))];
        assert_eq!(leader.effects(), &due[..usize::from(is_ahead)]);
        if is_ahead {
            // 1, 4 and 5 may do.
            assert_eq!(leader.gets(3, promises(zxid, epoch)), Ok(()));
            let again = leader.gets(4, promises(zxid, epoch));
            assert_eq!(again, Err(Leave::Behind(ServerId(4))));
        }
    }
    // An observer is no reason to give way.
    let mut leader = Leader::of_voters(1);
    leader.promised(7);
    let mut leader = Leader::that_has_offered();
    leader.connects(7);
    leader.gets(7, observes(7, 0)).unwrap();
    leader.effects();
    let zxid = Zxid::new(4, 8);
    assert_eq!(leader.gets(7, promises(zxid, 4)), Ok(()));
    assert_eq!(leader.effects(), [drop(7, ahead(4, zxid))]);
}

// The table at the head of `leader`.
#[test]
fn what_a_packet_does_in_each_stage() {
    let packets: [ToLeader<'static>; 5] = [
        introduction(2, 8),
        promises(Zxid::new(4, 7), 4),
        ToLeader::Ack(Zxid(1)),
        ToLeader::Revalidate {
            session: crate::types::SessionId(1),
            timeout_ms: 1,
        },
        ToLeader::Other(PacketType(99)),
    ];
    let silent = |leader: &mut Leader| leader.connects(2);
    let waits = |leader: &mut Leader| leader.introduced(2, 3);
    let offered = |leader: &mut Leader| {
        leader.introduced(3, 8);
        leader.introduced(2, 3);
        leader.promised(9);
    };
    type Prepare<'a> = &'a dyn Fn(&mut Leader);
    let stages: [(&str, Prepare<'_>, &str); 3] = [
        ("silent", &silent, "a d d d d"),
        ("introduced", &waits, "d d d d d"),
        ("offered", &offered, "d a d d d"),
    ];
    for (stage, prepare, row) in stages {
        for (packet, due) in packets.iter().zip(row.split(' ')) {
            let mut leader = Leader::of_voters(5);
            prepare(&mut leader);
            leader.effects();
            leader.gets(2, *packet).unwrap();
            let dropped = leader.effects() == [drop(2, Dropped::Unexpected(packet.kind()))];
            assert_eq!(dropped, due == "d", "{:?} {stage}", packet.kind());
        }
    }
}

#[test]
fn an_introduction_that_can_not_be_served_ends_its_connection() {
    let newer = ToLeader::Info {
        is_observer: false,
        accepted: Epoch(0),
        info: LearnerInfo {
            sid: ServerId(2),
            config_version: Some(Zxid(1)),
            capabilities: None,
        },
    };
    let last = Zxid::EPOCH_MAX;
    for (packet, why) in [
        (introduction(1, 0), Dropped::OwnId),
        (newer, Dropped::Configuration(Zxid(1))),
        (introduction(2, last), Dropped::LastEpoch(Epoch(last))),
    ] {
        let mut leader = Leader::of_voters(3);
        leader.connects(2);
        leader.gets(2, packet).unwrap();
        assert_eq!(leader.effects(), [drop(2, why)]);
    }
    let mut leader = Leader::of_voters(5);
    leader.introduced(2, 0);
    leader.connects(20);
    leader.gets(20, introduction(2, 0)).unwrap();
    assert_eq!(leader.effects(), [drop(2, Dropped::Replaced)]);
}

#[test]
fn a_connection_of_a_learner_too_many_closes_at_once() {
    let mut leader = Leader::of_voters(3);
    for sid in 0..LEARNERS_MAX as i64 {
        leader.connects(sid);
    }
    assert_eq!(leader.effects(), []);
    leader.connects(5000);
    assert_eq!(leader.effects(), [drop(5000, Dropped::TooMany)]);
    leader.discovery.closed(LinkId(0));
    leader.connects(5001);
    assert_eq!(leader.effects(), []);
}

#[test]
fn each_step_has_its_time() {
    let mut leader = Leader::of_voters(3);
    assert_eq!(leader.after(99), Ok(()));
    assert_eq!(leader.after(1), Err(Leave::NotIntroduced));
    let mut leader = Leader::of_voters(3);
    leader.introduced(2, 8);
    assert_eq!(leader.after(300), Ok(()), "the own disk takes its time");
    leader.promised(9);
    assert_eq!(leader.after(99), Ok(()));
    assert_eq!(leader.after(1), Err(Leave::NotPromised(Epoch(9))));
    // Who does not say who it is, and who is asked for its promise when others no longer wait for it.
    let mut leader = Leader::that_has_offered();
    leader.connects(3);
    leader.gets(2, promises(OWN.1, 4)).unwrap();
    leader.introduced(4, 0);
    leader.effects();
    leader.after(100).unwrap();
    let due = [drop(3, Dropped::Silent), drop(4, Dropped::Silent)];
    assert_eq!(leader.effects(), due);
}

#[test]
fn while_two_configurations_are_live_an_epoch_needs_quorums_of_both() {
    let quorum = |version, ids: std::ops::RangeInclusive<i64>| {
        Arc::new(Quorum::majority(Zxid(version), sids(ids)).unwrap())
    };
    let mut leader = Leader::of(Pair::new(quorum(0, 1..=3), quorum(7, 3..=5)));
    leader.introduced(2, 0);
    assert_eq!(leader.effects(), []);
    leader.introduced(4, 0);
    leader.introduced(5, 0);
    assert_eq!(leader.effects(), [DiscoveryEffect::Promise(Epoch(7))]);
}

#[test]
fn a_server_without_its_history_leads_nobody() {
    for offer in [Offer::FRESH, Offer::MAIMED] {
        let pair = Pair::of(majority_of(1..=3));
        let outcome = Discovery::begin(ServerId(1), offer, &record(6, 4), &pair, PATIENCE, START);
        assert_eq!(outcome, Err(Leave::NoHistory));
    }
}

// The learner.

fn newcomer() -> Newcomer {
    Newcomer {
        sid: ServerId(2),
        is_observer: false,
        config_version: Zxid::ZERO,
        offer: offer(4, OWN.1),
        committed: Zxid::ZERO,
        wants_snapshot: false,
    }
}

fn begin(who: Newcomer) -> Introduction {
    let (introduction, packet) = Introduction::begin(who, &record(8, 4), PATIENCE, START);
    assert_eq!(packet, self::introduction(2, 8));
    introduction
}

fn leads(epoch: u32) -> ToLearner<'static> {
    ToLearner::LeaderInfo {
        epoch: Epoch(epoch),
        capabilities: None,
    }
}

/// What is sent, if it goes on.
fn sent(effect: Option<IntroductionEffect>) -> Option<ToLeader<'static>> {
    match effect {
        Some(IntroductionEffect::Go(packet, _)) => Some(packet),
        _ => None,
    }
}

#[test]
fn a_promise_is_durable_before_it_is_told() {
    let mut learner = begin(newcomer());
    assert_eq!(
        learner.packet(&ToLearner::Ping(Zxid::ZERO), START),
        Ok(None)
    );
    let effect = learner.packet(&leads(9), START).unwrap();
    assert_eq!(effect, Some(IntroductionEffect::Promise(Epoch(9))));
    assert_eq!(
        learner.promised(&record(8, 4), START),
        None,
        "an older record"
    );
    let effect = learner.promised(&record(9, 4), START);
    assert_eq!(sent(effect), Some(promises(OWN.1, 4)));
}

#[test]
fn a_promise_counts_once_and_one_to_an_older_epoch_is_not_given() {
    let mut learner = begin(newcomer());
    let effect = learner.packet(&leads(8), START).unwrap();
    assert_eq!(sent(effect), Some(promises(OWN.1, None)));
    let outcome = begin(newcomer()).packet(&leads(7), START);
    let due = Leave::OldEpoch {
        offered: Epoch(7),
        accepted: Epoch(8),
    };
    assert_eq!(outcome, Err(due), "plan, rule 31");
}

#[test]
fn a_snapshot_is_asked_for_where_the_word_does_not_count() {
    let who = Newcomer {
        wants_snapshot: true,
        ..newcomer()
    };
    let effect = begin(who).packet(&leads(8), START).unwrap();
    let Some(IntroductionEffect::Go(packet, mut stream)) = effect else {
        panic!("{effect:?}");
    };
    assert_eq!(packet, promises(Zxid(-1), None));
    let diff = stream.clone().packet(&ToLearner::Diff(OWN.1), START);
    assert_eq!(diff, Err(Leave::NoBase(PacketType::DIFF)));
    stream.packet(&ToLearner::Snap(OWN.1), START).unwrap();
    assert_eq!(stream.poll(), Some(StreamEffect::ReadSnapshot(OWN.1)));
    // A leader that is being made hears the truth.
    let mut learner = begin(who);
    learner.packet(&leads(9), START).unwrap();
    let effect = learner.promised(&record(9, 4), START);
    assert_eq!(sent(effect), Some(promises(OWN.1, 4)));
    let wiped = Newcomer {
        offer: Offer::FRESH,
        ..newcomer()
    };
    let mut learner = begin(wiped);
    learner.packet(&leads(9), START).unwrap();
    let effect = learner.promised(&record(9, 4), START);
    assert_eq!(sent(effect), Some(promises(Zxid(-1), 0)));
}

#[test]
fn anything_but_the_epoch_is_out_of_place_and_silence_ends_the_role() {
    for packet in [
        ToLearner::Diff(OWN.1),
        ToLearner::Commit(OWN.1),
        ToLearner::UpToDate,
        ToLearner::Sync,
        ToLearner::Other(PacketType(99)),
    ] {
        let due = Err(Leave::Unexpected(packet.kind()));
        assert_eq!(begin(newcomer()).packet(&packet, START), due);
        let mut learner = begin(newcomer());
        learner.packet(&leads(9), START).unwrap();
        assert_eq!(learner.packet(&packet, START), due, "promising");
    }
    let mut learner = begin(newcomer());
    assert_eq!(learner.tick(START.after(99)), Ok(()));
    assert_eq!(learner.tick(START.after(100)), Err(Leave::Silent));
    learner.packet(&leads(9), START).unwrap();
    assert_eq!(
        learner.tick(START.after(500)),
        Ok(()),
        "the own disk takes its time"
    );
    let again = Err(Leave::Unexpected(PacketType::LEADERINFO));
    assert_eq!(learner.packet(&leads(10), START), again);
}

fn any_packet() -> impl Strategy<Value = ToLeader<'static>> {
    let zxid = || {
        prop_oneof![
            (3..6u32, 0..9u32).prop_map(|(e, n)| Zxid::new(e, n)),
            any::<i64>().prop_map(Zxid)
        ]
    };
    let epoch = || prop_oneof![0..12u32, 0..=Zxid::EPOCH_MAX];
    prop_oneof![
        (0..6i64, epoch()).prop_map(|(sid, accepted)| introduction(sid, accepted)),
        (0..9i64, epoch()).prop_map(|(sid, accepted)| observes(sid, accepted)),
        (zxid(), prop::option::of(epoch())).prop_map(|(last, current)| promises(last, current)),
        zxid().prop_map(ToLeader::Ack),
        any::<i32>().prop_map(|kind| ToLeader::Other(PacketType(kind))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    // No panic, no verdict but those of the table; LEADERINFO only behind the own promise, and one epoch.
    #[test]
    fn any_packets_in_any_order_drop_connections_or_establish_one_epoch(
        steps in prop::collection::vec((0..8i64, any_packet(), 0..20u64, any::<bool>()), 0..80),
    ) {
        let mut leader = Leader::of_voters(5);
        let (mut promised, mut established) = (None, None);
        for (link, packet, ms, is_written) in steps {
            if leader.discovery.packet(LinkId(link as u64), &packet, leader.now).is_err() || leader.after(ms).is_err() {
                return Ok(());
            }
            for effect in leader.effects() {
                match effect {
                    DiscoveryEffect::Promise(epoch) => {
                        prop_assert_eq!(promised, None);
                        promised = Some((epoch, false));
                    }
                    DiscoveryEffect::Send(_, packet) => {
                        let (epoch, is_durable) = promised.unwrap();
                        prop_assert!(is_durable);
                        prop_assert_eq!(packet, leads(epoch.0));
                    }
                    DiscoveryEffect::Established(epoch) => {
                        prop_assert_eq!((promised, established), (Some((epoch, true)), None));
                        established = Some(epoch);
                    }
                    DiscoveryEffect::Synchronise { .. } => prop_assert!(established.is_some()),
                    DiscoveryEffect::Drop(link, _) => leader.discovery.connected(link, leader.now),
                }
            }
            leader.connects(link);
            if let Some((epoch, is_durable)) = promised.as_mut().filter(|_| is_written) {
                *is_durable = true;
                leader.promised(epoch.0);
            }
        }
    }
}
