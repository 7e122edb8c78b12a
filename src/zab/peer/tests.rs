use super::*;
use crate::proto::peer::packet::PacketType;
use crate::proto::peer::{LearnerInfo, Vote};
use crate::types::{Epoch, Position, Round, VoteEpoch};
use crate::zab::quorum::tests::majority_of;
use fastrand::Rng;
use proptest::prelude::*;

const PATIENCE: Patience = Patience {
    init_ms: 100,
    sync_ms: 50,
    ping_ms: 10,
};
const START: Tick = Tick(1000);
const LATER: Tick = Tick(1400);
/// What is durable at server 1, which the tests are about.
const HISTORY: Zxid = Zxid::new(4, 7);
const ACCEPTED: u32 = 6;
/// Its connections: election ports of 2 and 3, a learner, the leader, a new one.
const TWO: LinkId = LinkId(2);
const THREE: LinkId = LinkId(3);
const LEARNER: LinkId = LinkId(4);
const LEADER: LinkId = LinkId(5);
const NEW: LinkId = LinkId(6);

fn epochs(accepted: u32, current: u32) -> Epochs {
    Epochs {
        accepted: Epoch(accepted),
        current: Epoch(current),
        is_whole: true,
    }
}

fn record(accepted: u32, current: u32) -> Durable<Epochs> {
    Durable::played(epochs(accepted, current))
}

fn log(position: u64, zxid: Zxid) -> Durable<LogEnd> {
    let position = Position(position);
    Durable::played(LogEnd { position, zxid })
}

fn history(epoch: u32, zxid: Zxid) -> Durable<Adoption> {
    let position = Position(20);
    Durable::played(Adoption {
        epoch: Epoch(epoch),
        end: LogEnd { position, zxid },
    })
}

fn settings() -> Settings {
    Settings {
        candidate: Candidate {
            sid: ServerId(1),
            is_observer: false,
            finalize_ms: 20,
        },
        patience: PATIENCE,
        pair: Pair::of(majority_of(1..=3)),
        observers: BTreeSet::from([ServerId(9)]),
        config: Arc::from(&b"version=0"[..]),
    }
}

fn hello(sid: i64) -> Hello {
    Hello {
        sid: ServerId(sid),
        addresses: Vec::new(),
    }
}

fn proposes(leader: i64, epoch: i64, zxid: Zxid, round: i64) -> Notification<'static> {
    Notification {
        state: PeerState::Looking,
        vote: Vote {
            epoch: VoteEpoch(epoch),
            zxid,
            leader: ServerId(leader),
        },
        round: Round(round),
        format: 2,
        config: None,
    }
}

fn info(sid: i64) -> ToLeader<'static> {
    ToLeader::Info {
        is_observer: false,
        accepted: Epoch(5),
        info: LearnerInfo {
            sid: ServerId(sid),
            config_version: None,
            capabilities: None,
        },
    }
}

fn entry(zxid: Zxid) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[12..20].copy_from_slice(&zxid.0.to_be_bytes());
    bytes
}

/// The states of the table, with what they need to be in them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Looking,
    Discovering,
    Leading,
    Dialling,
    Introduced,
    Synchronised,
    Following,
    Ending,
}

const ALL: [At; 8] = [
    At::Looking,
    At::Discovering,
    At::Leading,
    At::Dialling,
    At::Introduced,
    At::Synchronised,
    At::Following,
    At::Ending,
];

fn looking() -> Peer {
    let beginning = Beginning {
        record: record(ACCEPTED, 4),
        end: log(10, HISTORY),
        nothing: Offer::FRESH,
        committed: HISTORY,
    };
    let mut peer = Peer::begin(settings(), beginning, START);
    peer.accepted(TWO, hello(2), START);
    peer.accepted(THREE, hello(3), START);
    peer
}

/// Both others vote for this one; server 2 has introduced itself, and the own promise is on its way.
fn discovering() -> Peer {
    let mut peer = looking();
    for link in [TWO, THREE] {
        peer.notified(link, &proposes(1, 4, HISTORY, 1), START);
    }
    peer.learner_connected(LEARNER, START);
    peer.from_learner(LEARNER, &info(2), START);
    peer
}

fn synchronising() -> Peer {
    let mut peer = discovering();
    peer.recorded(record(7, 4), START);
    let current = Some(Epoch(4));
    let promise = ToLeader::AckEpoch {
        last: HISTORY,
        current,
    };
    peer.from_learner(LEARNER, &promise, START);
    peer
}

/// It leads, and serves.
fn leading() -> Peer {
    let mut peer = synchronising();
    peer.adopted(&history(7, HISTORY), START);
    peer.recorded(record(7, 7), START);
    assert_eq!(peer.attach(LEARNER, HISTORY, START), Ok(()));
    peer.fetch(LEARNER, 1 << 20, START, &mut Vec::new());
    peer.from_learner(LEARNER, &ToLeader::Ack(Zxid::new(7, 0)), START);
    peer
}

fn dialling() -> Peer {
    let mut peer = looking();
    for link in [TWO, THREE] {
        peer.notified(link, &proposes(3, 5, Zxid::new(5, 1), 1), START);
    }
    peer
}

fn introduced() -> Peer {
    let mut peer = dialling();
    peer.leader_dialled(RoleId(1), LEADER, START);
    peer
}

fn synchronised() -> Peer {
    let mut peer = introduced();
    let packet = ToLearner::LeaderInfo {
        epoch: Epoch(ACCEPTED),
        capabilities: None,
    };
    peer.from_leader(LEADER, &packet, START);
    peer
}

/// It has the first proposal of its leader, and has not applied its history.
fn following() -> Peer {
    let mut peer = synchronised();
    let end = Zxid::new(5, 1);
    let entry_of = entry(end);
    let proposal = ToLearner::Proposal {
        zxid: end,
        entry: &entry_of,
    };
    let new_leader = ToLearner::NewLeader {
        zxid: Zxid::new(ACCEPTED, 0),
        config: None,
    };
    for packet in [
        ToLearner::Diff(end),
        proposal,
        ToLearner::Commit(end),
        new_leader,
    ] {
        peer.from_leader(LEADER, &packet, START);
    }
    peer.adopted(&history(ACCEPTED, end), START);
    peer.recorded(record(ACCEPTED, ACCEPTED), START);
    peer.from_leader(LEADER, &ToLearner::UpToDate, START);
    let zxid = Zxid::new(ACCEPTED, 1);
    let entry = &entry(zxid);
    peer.from_leader(LEADER, &ToLearner::Proposal { zxid, entry }, START);
    peer
}

fn ending() -> Peer {
    let mut peer = introduced();
    peer.closed(LEADER, START);
    peer
}

fn at(state: At) -> Peer {
    let mut peer = match state {
        At::Looking => looking(),
        At::Discovering => discovering(),
        At::Leading => synchronising(),
        At::Dialling => dialling(),
        At::Introduced => introduced(),
        At::Synchronised => synchronised(),
        At::Following => following(),
        At::Ending => ending(),
    };
    effects(&mut peer);
    peer
}

fn effects(peer: &mut Peer) -> Vec<Effect> {
    std::iter::from_fn(|| peer.poll()).collect()
}

/// What a cell of the table says.
fn words(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Notify(_) => "says",
        Effect::Close(..) => "closes",
        Effect::Send(..) => "sends",
        Effect::Record { .. } => "records",
        Effect::Serve(..) => "serves",
        Effect::Left(..) => "ends",
        other => panic!("{other:?}"),
    };
    // The end of a role is one thing.
    if effects
        .iter()
        .any(|effect| matches!(effect, Effect::Left(..)))
    {
        assert!(matches!(effects.last(), Some(Effect::Flush(RoleId(1)))));
        return "ends".into();
    }
    let mut words: Vec<_> = effects.iter().map(word).collect();
    words.dedup();
    match words.is_empty() {
        true => "–".into(),
        false => words.join(" "),
    }
}

type Event = fn(&mut Peer);

/// The table at the head of the module: what comes, and what is done in each state.
const TABLE: &[(&str, Event, [&str; 8])] = &[
    (
        "a connection of an election port comes",
        |peer| peer.accepted(NEW, hello(2), START),
        ["closes says"; 8],
    ),
    ("it goes", |peer| peer.closed(TWO, START), ["–"; 8]),
    (
        "it fails",
        |peer| peer.dial_failed(ServerId(2), START),
        ["–"; 8],
    ),
    (
        "a notification",
        |peer| peer.notified(TWO, &proposes(2, 1, Zxid::ZERO, 0), START),
        ["says", "says", "says", "says", "says", "says", "says", "–"],
    ),
    (
        "a notification of nobody's connection",
        |peer| peer.notified(NEW, &proposes(2, 1, Zxid::ZERO, 0), START),
        ["–"; 8],
    ),
    (
        "a learner connects",
        |peer| peer.learner_connected(NEW, START),
        [
            "closes", "–", "–", "closes", "closes", "closes", "closes", "closes",
        ],
    ),
    (
        "a packet of a learner, out of place",
        |peer| {
            let packet = ToLeader::Revalidate {
                session: SessionId(1),
                timeout_ms: 1,
            };
            peer.from_learner(LEARNER, &packet, START);
        },
        ["–", "closes", "closes", "–", "–", "–", "–", "–"],
    ),
    (
        "a packet of no learner",
        |peer| {
            peer.from_learner(NEW, &info(3), START);
        },
        ["–"; 8],
    ),
    (
        "a learner's connection is gone",
        |peer| peer.closed(LEARNER, START),
        ["–"; 8],
    ),
    (
        "the leader is connected, for this role",
        |peer| peer.leader_dialled(RoleId(1), NEW, START),
        [
            "closes", "closes", "closes", "sends", "closes", "closes", "closes", "closes",
        ],
    ),
    (
        "the same, for an earlier role",
        |peer| peer.leader_dialled(RoleId(0), NEW, START),
        ["closes"; 8],
    ),
    (
        "a dial to the leader has failed, for this role",
        |peer| {
            let was = peer.deadline();
            peer.leader_dial_failed(RoleId(1), START);
            let is_dialling = matches!(&peer.state, State::Learning(learn) if matches!(learn.stage, Stage::Dialling(_)));
            assert_eq!(peer.deadline() != was, is_dialling);
        },
        ["–"; 8],
    ),
    (
        "the same, for an earlier role",
        |peer| {
            let was = peer.deadline();
            peer.leader_dial_failed(RoleId(0), START);
            assert_eq!(peer.deadline(), was);
        },
        ["–"; 8],
    ),
    (
        "a packet of the leader",
        |peer| {
            peer.from_leader(
                LEADER,
                &ToLearner::LeaderInfo {
                    epoch: Epoch(7),
                    capabilities: None,
                },
                START,
            )
        },
        ["–", "–", "–", "–", "records", "ends", "ends", "–"],
    ),
    (
        "a packet of no leader",
        |peer| peer.from_leader(NEW, &ToLearner::UpToDate, START),
        ["–"; 8],
    ),
    (
        "the leader's connection is gone",
        |peer| peer.closed(LEADER, START),
        ["–", "–", "–", "–", "ends", "ends", "ends", "–"],
    ),
    (
        "a snapshot is received that nobody waits for",
        |peer| peer.snapshot_received(LEADER, START),
        ["–"; 8],
    ),
    (
        "the record is durable",
        |peer| peer.recorded(record(7, 4), START),
        ["–", "sends", "–", "–", "–", "–", "–", "–"],
    ),
    (
        "a synchronisation is durable",
        |peer| peer.adopted(&history(7, HISTORY), START),
        ["–", "–", "records", "–", "–", "–", "–", "–"],
    ),
    (
        "the log is durable",
        |peer| peer.durable(&log(30, Zxid::new(ACCEPTED, 1)), START),
        ["–", "–", "–", "–", "–", "–", "sends", "–"],
    ),
    (
        "applied",
        |peer| peer.applied(Zxid::new(5, 1), START),
        ["–", "–", "–", "–", "–", "–", "serves", "–"],
    ),
    (
        "the log is flushed, for this role",
        |peer| peer.flushed(RoleId(1), log(30, HISTORY), START),
        ["–", "–", "–", "–", "–", "–", "–", "says"],
    ),
    (
        "the same, for an earlier role",
        |peer| peer.flushed(RoleId(0), log(30, HISTORY), START),
        ["–"; 8],
    ),
    (
        "time passes",
        |peer| peer.tick(LATER),
        ["says", "–", "ends", "ends", "ends", "ends", "ends", "–"],
    ),
    (
        "the driver can't go on",
        |peer| peer.leave(RoleId(1), Leave::NoBase(PacketType::TRUNC), START),
        ["–", "ends", "ends", "ends", "ends", "ends", "ends", "–"],
    ),
    (
        "the same, in an earlier role",
        |peer| peer.leave(RoleId(0), Leave::NoBase(PacketType::TRUNC), START),
        ["–", "–", "–", "–", "–", "–", "–", "–"],
    ),
];

#[test]
fn what_happens_with_each_event_in_each_state() {
    for (what, event, due) in TABLE {
        for (state, due) in ALL.into_iter().zip(due) {
            let mut peer = at(state);
            // It was never in a role, and the others are in their first.
            let is_first = state == At::Looking && what.contains("can't go on");
            if is_first {
                continue;
            }
            event(&mut peer);
            let done = effects(&mut peer);
            assert_eq!(&words(&done), due, "{what}, {state:?}: {done:?}");
        }
    }
}

#[test]
fn the_states_are_what_they_are_called() {
    use PeerState::*;
    let due = [
        Looking, Leading, Leading, Following, Following, Following, Following, Looking,
    ];
    for (state, due) in ALL.into_iter().zip(due) {
        assert_eq!(at(state).doing(), due, "{state:?}");
    }
}

// I-20.
#[test]
fn a_role_ends_in_one_order() {
    let mut leader = leading();
    let before = effects(&mut leader);
    let serve = Effect::Serve(RoleId(1), Duty::Leader(Epoch(7)));
    assert_eq!(before.last(), Some(&serve));
    leader.leave(RoleId(1), Leave::NotHeard, START);
    let due = [
        Effect::StopServing(RoleId(1)),
        Effect::Left(RoleId(1), Leave::NotHeard),
        Effect::Listen(false),
        Effect::Close(LEARNER, None),
        Effect::Flush(RoleId(1)),
    ];
    assert_eq!(effects(&mut leader), due);
    let mut follower = at(At::Following);
    follower.applied(Zxid::new(5, 1), START);
    let serve = Effect::Serve(RoleId(1), Duty::Follower);
    assert_eq!(effects(&mut follower), [serve]);
    follower.closed(LEADER, START);
    let due = [
        Effect::StopServing(RoleId(1)),
        Effect::Left(RoleId(1), Leave::Lost),
        Effect::Close(LEADER, None),
        Effect::Flush(RoleId(1)),
    ];
    assert_eq!(effects(&mut follower), due);
}

#[test]
fn a_member_votes_again_when_its_log_its_record_and_its_tree_have_come_to_rest() {
    let flush: Event = |peer| peer.flushed(RoleId(1), log(30, Zxid::new(5, 1)), START);
    let record: Event = |peer| peer.recorded(record(7, 6), START);
    let apply: Event = |peer| peer.applied(Zxid::new(5, 1), START);
    for events in [
        [flush, record, apply],
        [flush, apply, record],
        [record, flush, apply],
        [record, apply, flush],
        [apply, flush, record],
        [apply, record, flush],
    ] {
        let mut peer = at(At::Following);
        // Something of the record is on its way when the role ends.
        peer.write(|epochs| epochs.accepted = Epoch(7), None);
        peer.closed(LEADER, START);
        effects(&mut peer);
        for (n, event) in events.into_iter().enumerate() {
            assert_eq!(peer.election.round(), Round(1));
            event(&mut peer);
            assert_eq!(effects(&mut peer).is_empty(), n < 2);
        }
        let mut bytes = Vec::new();
        assert!(peer.notification(TWO, &mut bytes));
        let n = Notification::decode(&bytes[4..]).unwrap();
        let vote = Vote {
            epoch: VoteEpoch(6),
            zxid: Zxid::new(5, 1),
            leader: ServerId(1),
        };
        assert_eq!(
            (n.state, n.vote, n.round),
            (PeerState::Looking, vote, Round(2))
        );
    }
}

// A quorum of others may hold the history while the own record is still being written.
#[test]
fn a_leader_that_serves_names_its_epoch_whatever_its_record_says_yet() {
    let mut peer = synchronising();
    peer.learner_connected(NEW, START);
    peer.from_learner(NEW, &info(3), START);
    let current = Some(Epoch(4));
    let promise = ToLeader::AckEpoch {
        last: HISTORY,
        current,
    };
    peer.from_learner(NEW, &promise, START);
    for link in [LEARNER, NEW] {
        assert_eq!(peer.attach(link, HISTORY, START), Ok(()));
        peer.fetch(link, 1 << 20, START, &mut Vec::new());
        peer.from_learner(link, &ToLeader::Ack(Zxid::new(7, 0)), START);
    }
    let serve = Effect::Serve(RoleId(1), Duty::Leader(Epoch(7)));
    assert_eq!(effects(&mut peer).last(), Some(&serve));
    peer.notified(TWO, &proposes(2, 1, Zxid::ZERO, 0), START);
    let mut bytes = Vec::new();
    assert!(peer.notification(TWO, &mut bytes));
    let n = Notification::decode(&bytes[4..]).unwrap();
    assert_eq!((n.state, n.vote.epoch), (PeerState::Leading, VoteEpoch(7)));
}

#[test]
fn a_leader_that_does_not_listen_is_dialled_a_few_times_with_pauses() {
    let mut peer = at(At::Dialling);
    let mut now = START;
    let mut pauses = Vec::new();
    for dial in 1..=LEADER_DIALS {
        let before = now;
        peer.leader_dial_failed(RoleId(1), now);
        // Told twice it counts once.
        if dial == 1 {
            peer.leader_dial_failed(RoleId(1), now);
        }
        if dial == LEADER_DIALS {
            break;
        }
        let Some(again) = peer.deadline() else {
            panic!("a pause");
        };
        // A small initLimit would end it before.
        peer.state = match peer.state {
            State::Learning(mut learn) => {
                learn.until = again.after(1);
                State::Learning(learn)
            }
            other => other,
        };
        peer.tick(again);
        let (role, leader) = (RoleId(1), ServerId(3));
        assert_eq!(effects(&mut peer), [Effect::DialLeader { role, leader }]);
        now = again;
        pauses.push(now.0 - before.0);
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 100, 100, 100, 100, 100]);
    let ends = [
        Effect::Left(RoleId(1), Leave::Unreachable(ServerId(3))),
        Effect::Flush(RoleId(1)),
    ];
    assert_eq!(effects(&mut peer), ends);
}

#[test]
fn connections_of_learners_are_bounded() {
    let mut peer = at(At::Discovering);
    for link in 0..LEARNERS_MAX as u64 {
        peer.learner_connected(LinkId(100 + link), START);
    }
    let last = LinkId(99 + LEARNERS_MAX as u64);
    let too_many = Effect::Close(last, Some(Dropped::TooMany));
    assert_eq!(effects(&mut peer), [too_many]);
    let State::Leading(lead) = &peer.state else {
        panic!("it leads");
    };
    assert_eq!(lead.links.len(), LEARNERS_MAX);
}

#[test]
fn a_new_configuration_ends_a_discovery_and_is_taken_over_behind_one() {
    let pair = || Pair::of(crate::zab::Quorum::majority(Zxid(9), (1..=5).map(ServerId)).unwrap());
    let configure = |peer: &mut Peer| {
        peer.configure(pair(), BTreeSet::new(), Arc::from(&b"version=9"[..]), START);
        effects(peer)
    };
    let done = configure(&mut at(At::Discovering));
    assert!(done.contains(&Effect::Left(RoleId(1), Leave::Reconfigured)));
    let mut leader = leading();
    effects(&mut leader);
    assert_eq!(configure(&mut leader), []);
    // A learner that knows it may come.
    leader.learner_connected(NEW, START);
    let version = Some(Zxid(9));
    let ToLeader::Info {
        is_observer,
        accepted,
        info,
    } = info(4)
    else {
        unreachable!()
    };
    let info = LearnerInfo {
        config_version: version,
        ..info
    };
    leader.from_learner(
        NEW,
        &ToLeader::Info {
            is_observer,
            accepted,
            info,
        },
        START,
    );
    assert!(matches!(effects(&mut leader)[..], [Effect::Send(NEW, _)]));
}

/// A driver that keeps its side, and peers that send anything.
struct Any {
    rng: Rng,
    peer: Peer,
    now: Tick,
    writing: Vec<Epochs>,
    roles: u64,
    end: Zxid,
    position: u64,
    adopting: Option<Epoch>,
    listens: bool,
}

impl Any {
    fn zxid(&mut self) -> Zxid {
        match self.rng.u8(0..6) {
            0 => Zxid(-1),
            1 => Zxid(self.rng.i64(..)),
            2 => self.end,
            3 => Zxid(self.end.0.saturating_add(1)),
            _ => Zxid::new(self.rng.u32(4..9), self.rng.u32(0..4)),
        }
    }

    fn link(&mut self) -> LinkId {
        LinkId(self.rng.u64(1..9))
    }

    fn any_packet(&mut self) -> ToLeader<'static> {
        let zxid = self.zxid();
        match self.rng.u8(0..7) {
            0 | 1 => info(self.rng.i64(0..5)),
            2 => ToLeader::AckEpoch {
                last: zxid,
                current: self.rng.bool().then_some(Epoch(self.rng.u32(3..6))),
            },
            3 => ToLeader::Ack(zxid),
            4 => ToLeader::Ack(Zxid::new(self.rng.u32(6..9), 0)),
            5 => ToLeader::Revalidate {
                session: SessionId(1),
                timeout_ms: 1,
            },
            _ => ToLeader::Other(PacketType(99)),
        }
    }

    fn leader_sends(&mut self, link: LinkId) {
        let zxid = self.zxid();
        let bytes = &entry(zxid);
        let leader = ServerId(2);
        let packet = match self.rng.u8(0..14) {
            0 | 1 => ToLearner::LeaderInfo {
                epoch: Epoch(self.rng.u32(5..8)),
                capabilities: None,
            },
            2 | 3 => ToLearner::Diff(zxid),
            4 => ToLearner::Trunc(zxid),
            5 => ToLearner::Snap(zxid),
            6 => ToLearner::Proposal { zxid, entry: bytes },
            7 => ToLearner::Commit(zxid),
            8 => ToLearner::CommitAndActivate { zxid, leader },
            9 => ToLearner::Inform { zxid, entry: bytes },
            10 | 11 => ToLearner::NewLeader {
                zxid: Zxid::new(self.rng.u32(5..8), 0),
                config: None,
            },
            12 => ToLearner::UpToDate,
            _ => ToLearner::Ping(zxid),
        };
        self.peer.from_leader(link, &packet, self.now);
    }

    fn work(&mut self) {
        while let Some(effect) = self.peer.poll() {
            match effect {
                Effect::Record { epochs, .. } => self.writing.push(epochs),
                Effect::Open(Base::Log(zxid) | Base::Snapshot(zxid)) => self.end = zxid,
                Effect::Append { zxid, .. } => self.end = zxid,
                Effect::Adopt(epoch) => self.adopting = Some(epoch),
                Effect::Listen(listens) => self.listens = listens,
                Effect::Flush(role) => self.roles = role.0,
                _ => {}
            }
            self.position += 1;
        }
    }

    fn step(&mut self) {
        let (link, now) = (self.link(), self.now);
        match self.rng.u8(0..16) {
            0 => self.peer.accepted(link, hello(self.rng.i64(0..5)), now),
            1 => self.peer.closed(link, now),
            2 | 3 => {
                let zxid = self.zxid();
                let mut n = proposes(
                    self.rng.i64(0..4),
                    self.rng.i64(-1..6),
                    zxid,
                    self.rng.i64(0..9),
                );
                n.state = PeerState::of(self.rng.i32(0..4)).unwrap();
                self.peer.notified(link, &n, now);
            }
            4 => self.peer.learner_connected(link, now),
            5 | 6 => {
                let packet = self.any_packet();
                self.peer.from_learner(link, &packet, now);
            }
            7 => {
                let role = RoleId(self.rng.u64(0..20));
                self.peer.leader_dialled(role, link, now);
            }
            8 => {
                let role = self.peer.role;
                self.peer.leader_dialled(role, link, now);
            }
            9 | 10 => self.leader_sends(self.peer.leader().unwrap_or(link)),
            11 => {
                if let Some(epochs) = self.writing.pop() {
                    self.peer.recorded(Durable::played(epochs), now);
                }
            }
            12 => {
                if let Some(epoch) = self.adopting.take() {
                    let end = LogEnd {
                        position: Position(self.position),
                        zxid: self.end,
                    };
                    self.peer
                        .adopted(&Durable::played(Adoption { epoch, end }), now);
                }
                self.peer.snapshot_received(link, now);
            }
            13 => {
                let end = log(self.position, self.end);
                self.peer.durable(&end, now);
                self.peer.flushed(RoleId(self.roles), end, now);
            }
            14 => self.peer.applied(self.end, now),
            _ => {
                self.now = self.now.after(self.rng.u64(0..30));
                self.peer.tick(self.now);
            }
        }
        self.work();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_peers_send_a_member_goes_on(seed in any::<u64>()) {
        let mut any = Any {
            rng: Rng::with_seed(seed),
            peer: looking(),
            now: START,
            writing: Vec::new(),
            roles: 0,
            end: HISTORY,
            position: 30,
            adopting: None,
            listens: false,
        };
        for _ in 0..1000 {
            any.step();
            prop_assert_eq!(any.listens, any.peer.doing() == PeerState::Leading);
            prop_assert!(any.writing.len() <= 1, "one record at a time");
        }
    }
}
