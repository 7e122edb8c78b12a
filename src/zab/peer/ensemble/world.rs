//! The driver of each member, and what lies between them.

use super::disk::{Disk, Txn, end, entry, txn, upto};
use super::wire::{ACCEPTOR, DIALLER, Wire};
use crate::log::Durable;
use crate::peers::wired::{Part, Source, Wired, WiredEffect};
use crate::peers::{Addresses, Closed, Network, Piece, Port};
use crate::proto::Frame;
use crate::proto::peer::learner::Forwarded;
use crate::proto::peer::packet::{Split, split};
use crate::proto::peer::{
    Address, Hello, Notification, PeerState, ToLeader, ToLearner, Vote, notification,
};
use crate::types::{Epoch, OpCode, ServerId, SessionId, Tick, VoteEpoch, Zxid};
use crate::zab::election::{Candidate, FINALIZE_OURS_MS, Offer};
use crate::zab::follow::SyncId;
use crate::zab::links::LinkId;
use crate::zab::peer::{Beginning, Duty, Effect, Peer, RoleId, Settings};
use crate::zab::quorum::tests::majority_of;
use crate::zab::sync::{Base, History, Opening, decide};
use crate::zab::tally::Pair;
use crate::zab::verdict::{Dropped, Leave, Patience};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const MAX: usize = 1 << 20;
const PATIENCE: Patience = Patience {
    init_ms: 400,
    sync_ms: 200,
    ping_ms: 25,
};
/// A dial is given up after so many ms.
const DIAL_MS: u64 = 1000;
/// The port on which a server listens for learners; elections have another.
const QUORUM: u16 = 2888;
/// Within so many ms of calm somebody leads and all follow.
const CALM_MS: u64 = 6000;
/// And nobody leaves for so long.
const STABLE_MS: u64 = 250;
const _: () = assert!(STABLE_MS > PATIENCE.sync_ms);

/// Nobody has that much; a rumour says so.
const RUMOUR: Zxid = Zxid::new(1 << 20, 1);

/// For each step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub breaks: f64,
    pub crashes: f64,
    pub wipes: f64,
    /// One direction between two members brings nothing for a while.
    pub silences: f64,
    pub pauses: f64,
    /// A member hears votes that nobody has given: safety does not rest on whom an election brings up.
    pub rumours: f64,
}

macro_rules! seen {
    ($($name:ident >= $least:literal,)*) => {
        /// How often something happened.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Seen {
            $(pub $name: usize,)*
        }

        impl Seen {
            pub fn add(&mut self, other: &Seen) {
                $(self.$name += other.$name;)*
            }

            /// What happened less often than it must.
            pub fn too_rare(&self) -> Vec<(&'static str, usize)> {
                let all = [$((stringify!($name), self.$name, $least),)*];
                let rare = all.into_iter().filter(|(_, n, least)| n < least);
                rare.map(|(name, n, _)| (name, n)).collect()
            }
        }
    };
}

seen! {
    calmed >= 18,
    active >= 40,
    committed >= 500,
    diffs >= 100,
    truncs >= 4,
    snaps >= 20,
    synced >= 300,
    ahead >= 1,
    made_whole >= 10,
    founded >= 4,
    left >= 100,
    late_dials >= 1,
    refused_dials >= 100,
    ahead_of_disk >= 300,
    misled >= 40,
    isolated >= 10,
}

/// What is read beside a member.
enum Job {
    /// How a learner is synchronised, from what is durable there.
    Decide(LinkId, Zxid),
    Read(LinkId, Source),
}

impl Job {
    fn link(&self) -> LinkId {
        match self {
            Job::Decide(link, _) | Job::Read(link, _) => *link,
        }
    }
}

/// What a member is told when all that was to be done is done.
enum Later {
    SyncOf(LinkId),
    Revalidated(LinkId, SessionId),
}

/// A snapshot on its way to a member.
struct Coming {
    link: LinkId,
    zxid: Zxid,
    bytes: Vec<u8>,
    /// The member has taken all bytes so far.
    is_taken: bool,
    is_whole: bool,
}

struct Dial {
    from: ServerId,
    /// Of the process.
    life: u64,
    link: LinkId,
    to: ServerId,
    port: Port,
    is_slow: bool,
}

struct Member {
    disk: Disk,
    is_observer: bool,
    /// None: it is down.
    peers: Option<Box<Wired>>,
    life: u64,
    nothing: Offer,
    applied: Zxid,
    listens: bool,
    serving: Option<RoleId>,
    /// What a role has committed before it serves.
    to_apply: Zxid,
    flush: Option<RoleId>,
    jobs: VecDeque<Job>,
    later: VecDeque<Later>,
    /// Snapshots for learners, and how far they are sent.
    sending: BTreeMap<LinkId, (Vec<u8>, usize)>,
    coming: Option<Coming>,
    received: Vec<Txn>,
    syncs: BTreeMap<u64, usize>,
    is_paused: bool,
}

pub struct World {
    rng: Rng,
    now: Tick,
    steps: u64,
    pair: Pair,
    faults: Faults,
    members: BTreeMap<ServerId, Member>,
    wires: BTreeMap<u64, Wire>,
    dials: Vec<Dial>,
    mute: BTreeSet<(ServerId, ServerId)>,
    /// Who does not hear of the end of its connections, as long as anything is silent.
    isolated: Option<ServerId>,
    next: u64,
    /// Everything that anybody has committed.
    sequence: Vec<Txn>,
    active: BTreeMap<Epoch, ServerId>,
    /// What was proposed next when the leader heard of a session.
    asked: BTreeMap<SessionId, Zxid>,
    pub seen: Seen,
    left: Vec<(Tick, ServerId, Leave)>,
}

fn listens_at(sid: ServerId) -> (ServerId, Addresses) {
    let at = |port| Address::new(&format!("h{sid}"), port).into_iter().collect();
    let addresses = Addresses {
        quorum: at(QUORUM),
        election: at(3888),
    };
    (sid, addresses)
}

/// One node holds all of it (docs/peer-protocol.md §2.8).
fn snapshot(history: &[Txn]) -> Vec<u8> {
    let mut data = Vec::new();
    for (zxid, tag) in history {
        data.extend(zxid.0.to_be_bytes());
        data.extend(tag.to_be_bytes());
    }
    let mut bytes = vec![0; 12];
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes.extend([0; 68]);
    bytes.extend(b"\0\0\0\x01/\0\0\0\x0aBenWasHere");
    bytes
}

fn restored(bytes: &[u8]) -> Vec<Txn> {
    let data = &bytes[16..bytes.len() - (68 + 5 + 14)];
    let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().unwrap());
    let txn = |bytes: &[u8]| (Zxid(number(&bytes[..8])), number(&bytes[8..]));
    data.chunks(16).map(txn).collect()
}

impl World {
    /// `is_new`: nobody has anything, and all must find out that the ensemble is new.
    pub fn new(seed: u64, voters: i64, observers: i64, is_new: bool, faults: Faults) -> World {
        let member = |sid| Member {
            disk: match is_new {
                true => Disk::default(),
                false => Disk::whole(),
            },
            is_observer: sid > voters,
            peers: None,
            life: 0,
            nothing: Offer::FRESH,
            applied: Zxid::ZERO,
            listens: false,
            serving: None,
            to_apply: Zxid::ZERO,
            flush: None,
            jobs: VecDeque::new(),
            later: VecDeque::new(),
            sending: BTreeMap::new(),
            coming: None,
            received: Vec::new(),
            syncs: BTreeMap::new(),
            is_paused: false,
        };
        World {
            rng: Rng::with_seed(seed),
            now: Tick(0),
            steps: 0,
            pair: Pair::of(majority_of(1..=voters)),
            faults,
            members: (1..=voters + observers)
                .map(|sid| (ServerId(sid), member(sid)))
                .collect(),
            wires: BTreeMap::new(),
            dials: Vec::new(),
            mute: BTreeSet::new(),
            isolated: None,
            next: 0,
            sequence: Vec::new(),
            active: BTreeMap::new(),
            asked: BTreeMap::new(),
            seen: Seen::default(),
            left: Vec::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn member(&mut self, sid: ServerId) -> &mut Member {
        self.members.get_mut(&sid).unwrap()
    }

    fn sids(&self) -> Vec<ServerId> {
        self.members.keys().copied().collect()
    }

    fn any_member(&mut self) -> ServerId {
        let n = self.rng.usize(0..self.members.len());
        *self.members.keys().nth(n).unwrap()
    }

    fn chance(&mut self, of: f64) -> bool {
        self.rng.f64() < of
    }

    // Processes.

    fn start(&mut self, sid: ServerId) {
        let (now, life) = (self.now, self.number());
        let settings = Settings {
            candidate: Candidate {
                sid,
                is_observer: self.members[&sid].is_observer,
                finalize_ms: FINALIZE_OURS_MS,
            },
            patience: PATIENCE,
            pair: self.pair.clone(),
            observers: self.sids().into_iter().collect(),
            config: Vec::from(b"version=0").into(),
        };
        let network = Network {
            servers: self.sids().into_iter().map(listens_at).collect(),
            is_multi_address: false,
            dial_ms: DIAL_MS,
            packet_max: MAX,
        };
        let member = self.member(sid);
        let beginning = Beginning {
            record: Durable::played(member.disk.record),
            end: member.disk.log_end(),
            nothing: member.nothing,
            committed: member.disk.committed,
        };
        member.life = life;
        member.applied = member.disk.committed;
        let peers = Wired::begin(settings, network, beginning, now);
        member.peers = Some(Box::new(peers));
        self.work(sid);
    }

    /// Whether a member may forget everything: fewer than half of the voters have. Sometimes it may where that leaves
    /// no quorum, if somebody has everything that was committed: there is no leader then, and nothing is lost.
    fn may_be_wiped(&mut self, sid: ServerId) -> bool {
        let voters = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_observer);
        let others = voters.filter(|(of, member)| **of != sid && member.disk.record.is_whole);
        let others: Vec<&Disk> = others.map(|(_, member)| &member.disk).collect();
        let has_all = |disk: &&Disk| {
            disk.record.current > Epoch(0) && disk.durable().starts_with(&self.sequence)
        };
        let is_safe = !self.sequence.is_empty() && others.iter().any(has_all);
        2 * others.len() > self.pair.voters().len() || is_safe && self.rng.u8(0..3) == 0
    }

    fn crash(&mut self, sid: ServerId, is_wiped: bool) {
        let mut rng = self.rng.fork();
        let is_wiped = is_wiped && (self.members[&sid].is_observer || self.may_be_wiped(sid));
        let member = self.member(sid);
        member.disk.crash(&mut rng);
        if is_wiped {
            member.disk = Disk::default();
            // A member that has lost something may know it, or not.
            member.nothing = if rng.bool() {
                Offer::FRESH
            } else {
                Offer::MAIMED
            };
        }
        member.peers = None;
        member.listens = false;
        member.is_paused = false;
        member.serving = None;
        member.flush = None;
        member.jobs.clear();
        member.later.clear();
        member.sending.clear();
        member.coming = None;
        member.syncs.clear();
        for wire in self.wires.values_mut() {
            for at in [DIALLER, ACCEPTOR] {
                if wire.ends[at].sid == sid {
                    wire.is_broken = true;
                    wire.ends[at].is_closed = true;
                }
            }
        }
        self.wires
            .retain(|_, wire| !wire.ends.iter().all(|end| end.is_closed));
    }

    fn is_up(&self, sid: ServerId) -> bool {
        let member = &self.members[&sid];
        member.peers.is_some() && !member.is_paused
    }

    /// Tells a member something, and does what it wants.
    fn tell<R>(&mut self, sid: ServerId, what: impl FnOnce(&mut Peer, Tick) -> R) -> Option<R> {
        self.tell_peers(sid, |peers, now| what(&mut peers.peer, now))
    }

    /// The same, of its connections.
    fn tell_peers<R>(
        &mut self,
        sid: ServerId,
        what: impl FnOnce(&mut Wired, Tick) -> R,
    ) -> Option<R> {
        let now = self.now;
        let told = what(self.member(sid).peers.as_mut()?, now);
        self.work(sid);
        Some(told)
    }

    fn peer(&self, sid: ServerId) -> Option<&Peer> {
        let peers = self.members[&sid].peers.as_ref();
        peers.map(|peers| &peers.peer)
    }

    // What is checked.

    /// All that this member holds up to here is committed.
    fn commits(&mut self, sid: ServerId, zxid: Zxid) {
        let member = self.members.get_mut(&sid).unwrap();
        let history = upto(member.disk.history(), zxid);
        assert_eq!(end(history), zxid, "{sid} commits what it does not have");
        let common = history.len().min(self.sequence.len());
        assert_eq!(
            history[..common],
            self.sequence[..common],
            "{sid} commits another history"
        );
        self.seen.committed += history.len() - common;
        self.sequence.extend_from_slice(&history[common..]);
        self.seen.ahead_of_disk += usize::from(zxid > end(member.disk.durable()));
        assert!(member.disk.committed <= zxid, "{sid} goes back");
        assert!(member.flush.is_none(), "{sid} commits behind its role");
        member.disk.committed = zxid;
        if member.serving.is_none() {
            member.to_apply = zxid;
        }
    }

    fn serves(&mut self, sid: ServerId, role: RoleId, duty: Duty) {
        let member = self.members.get_mut(&sid).unwrap();
        assert_eq!(member.serving, None, "{sid} serves twice");
        assert!(member.applied >= member.to_apply, "{sid} serves too early");
        member.serving = Some(role);
        let Duty::Leader(epoch) = duty else {
            return;
        };
        let history = member.disk.committed;
        assert_eq!(history, end(member.disk.history()));
        assert_eq!(epoch, member.disk.record.accepted);
        let other = self.active.insert(epoch, sid);
        assert_eq!(other, None, "{sid} leads in epoch {epoch} too");
        let due = end(&self.sequence);
        assert!(history >= due, "{sid} leads without {due:?}");
        self.seen.active += 1;
    }

    /// A role begins, or is dialled for again: what the last one has committed is applied.
    fn is_at_rest(&self, sid: ServerId) {
        let member = &self.members[&sid];
        assert!(member.flush.is_none() && member.serving.is_none());
        assert_eq!(
            member.applied, member.disk.committed,
            "{sid} has not applied"
        );
    }

    /// What a member says of itself is durable there.
    fn is_true(&self, sid: ServerId, n: &Notification<'_>) {
        let disk = &self.members[&sid].disk;
        if n.vote.zxid == RUMOUR {
            return;
        }
        if n.state == PeerState::Looking && n.vote.leader == sid && n.vote.zxid >= Zxid::ZERO {
            assert!(disk.record.is_whole, "{sid} has no history: {n:?}");
            assert!(n.vote.zxid <= end(disk.durable()), "{sid} votes: {n:?}");
            assert!(
                n.vote.epoch.0 <= i64::from(disk.record.current.0),
                "{sid} votes: {n:?}"
            );
        }
    }

    fn said_to_leader(&mut self, sid: ServerId, packet: &ToLeader<'_>) {
        let disk = &self.members[&sid].disk;
        let (record, durable) = (disk.record, end(disk.durable()));
        match *packet {
            ToLeader::Info { accepted, .. } => assert_eq!(accepted, record.accepted, "{sid}"),
            ToLeader::AckEpoch { last, current } => {
                assert!(last <= durable, "{sid} offers {last:?} and has {durable:?}");
                // Who has no history has no epoch of one.
                let of = if record.is_whole {
                    record.current
                } else {
                    Epoch(0)
                };
                assert!(current.is_none_or(|current| current == of), "{sid}");
            }
            ToLeader::Ack(zxid) if zxid.counter() == 0 => {
                assert_eq!(zxid.epoch(), record.current.0, "{sid}");
            }
            ToLeader::Ack(zxid) => {
                assert!(
                    zxid <= durable,
                    "{sid} acknowledges {zxid:?}, has {durable:?}"
                );
                assert!(record.is_whole, "{sid} has forgotten what it acknowledged");
            }
            ToLeader::Ping { .. } => assert!(record.accepted == record.current, "{sid}"),
            _ => {}
        }
    }

    fn said_to_learner(&self, sid: ServerId, packet: &ToLearner<'_>) {
        let record = self.members[&sid].disk.record;
        if let ToLearner::LeaderInfo { epoch, .. } = packet {
            assert_eq!(
                *epoch, record.accepted,
                "{sid} offers what it has not promised"
            );
        }
    }

    /// What leaves, whole messages: hello and notifications, or packets. What a leader says behind the first one may be
    /// bytes of a snapshot.
    fn is_honest(
        &mut self,
        sid: ServerId,
        port: Port,
        at: usize,
        is_first: bool,
        mut bytes: &[u8],
    ) {
        if port == Port::Election {
            if is_first && at == DIALLER {
                let hello = Hello::split(bytes).unwrap();
                bytes = hello.map_or(bytes, |(_, used)| &bytes[used..]);
            }
            while let Frame::Whole(payload, used) = notification::split(bytes) {
                self.is_true(sid, &Notification::decode(payload).unwrap());
                bytes = &bytes[used..];
            }
            assert!(bytes.is_empty(), "whole messages");
            return;
        }
        while let Ok(Split::Whole(packet, used)) = split(bytes, MAX) {
            if at == ACCEPTOR {
                if let Ok(packet) = ToLearner::decode(&packet) {
                    self.said_to_learner(sid, &packet);
                }
                return;
            }
            self.said_to_leader(sid, &ToLeader::decode(&packet).unwrap());
            bytes = &bytes[used..];
        }
        assert!(bytes.is_empty() || at == ACCEPTOR, "whole packets");
    }

    /// Nobody lies here.
    fn may_leave(&mut self, sid: ServerId, why: Leave) {
        assert!(!why.is_a_fault(), "{sid}: {why:?}");
        self.seen.left += 1;
        self.left.push((self.now, sid, why));
    }

    /// Nor sends what can't be read.
    fn may_close(&mut self, why: Closed) {
        match why {
            Closed::Dropped(why) => {
                assert!(!why.is_a_fault(), "nobody lies: {why:?}");
                self.seen.ahead += usize::from(matches!(why, Dropped::Ahead { .. }));
            }
            Closed::Unnamed
            | Closed::Unfinished
            | Closed::Stuck
            | Closed::NoAnswer
            | Closed::NotListening => {}
            _ => panic!("nobody lies: {why:?}"),
        }
    }

    // The driver.

    fn work(&mut self, sid: ServerId) {
        loop {
            let now = self.now;
            while let Some(effect) = self
                .member(sid)
                .peers
                .as_mut()
                .and_then(|peers| peers.poll(now))
            {
                self.do_peers(sid, effect);
            }
            let Some(later) = self.member(sid).later.pop_front() else {
                return;
            };
            let asked = self.peer(sid).and_then(Peer::leading);
            let next = asked.and_then(|leading| leading.next());
            let peers = self.member(sid).peers.as_mut().unwrap();
            match later {
                Later::SyncOf(link) => peers.peer.sync_of(link, now),
                Later::Revalidated(link, session) => {
                    peers.peer.revalidated(link, session, true, now);
                    self.asked.extend(next.map(|next| (session, next)));
                }
            }
        }
    }

    fn do_peers(&mut self, sid: ServerId, effect: WiredEffect) {
        match effect {
            WiredEffect::Dial { link, to } => self.dial(sid, link, &to),
            WiredEffect::Listen(listens) => {
                if listens {
                    self.is_at_rest(sid);
                }
                self.member(sid).listens = listens;
            }
            WiredEffect::Close(link, why) => {
                if let Some(why) = why {
                    self.may_close(why);
                }
                self.close(sid, link);
            }
            WiredEffect::Member(effect) => self.do_effect(sid, effect),
            WiredEffect::Request(link, op) => {
                assert_eq!(op, OpCode::SYNC);
                self.member(sid).later.push_back(Later::SyncOf(link));
            }
            WiredEffect::Revalidate(link, session) => {
                let later = Later::Revalidated(link, session);
                self.member(sid).later.push_back(later);
            }
            WiredEffect::Synchronise(link, learner, last) => {
                assert!(learner.is_whole == (last >= Zxid::ZERO));
                self.member(sid).jobs.push_back(Job::Decide(link, last));
            }
            WiredEffect::Read(link, source) => {
                self.member(sid).jobs.push_back(Job::Read(link, source));
            }
            WiredEffect::Over(link) => {
                let member = self.member(sid);
                member.jobs.retain(|job| job.link() != link);
                member.sending.remove(&link);
                member.coming.take_if(|coming| coming.link == link);
            }
            WiredEffect::Snapshot(link, zxid) => {
                self.member(sid).coming = Some(Coming {
                    link,
                    zxid,
                    bytes: Vec::new(),
                    is_taken: true,
                    is_whole: false,
                });
            }
            WiredEffect::SnapshotBytes {
                link,
                bytes,
                is_last,
            } => {
                let member = self.member(sid);
                let coming = member.coming.as_mut().filter(|coming| coming.link == link);
                let coming = coming.expect("a snapshot that was announced");
                assert!(std::mem::take(&mut coming.is_taken), "one piece at a time");
                coming.bytes.extend(bytes);
                coming.is_whole = is_last;
                if is_last {
                    let received = restored(&coming.bytes);
                    assert_eq!(end(&received), coming.zxid);
                    member.received = received;
                }
            }
        }
    }

    fn do_effect(&mut self, sid: ServerId, effect: Effect) {
        let is_ended = self.members[&sid].flush.is_some();
        let disk = &mut self.member(sid).disk;
        match effect {
            Effect::Record { epochs, .. } => {
                assert!(!is_ended && disk.writing.is_none(), "two records at a time");
                if epochs.current > disk.record.current {
                    let adopted = disk.adoption().map(|adoption| adoption.epoch());
                    assert_eq!(
                        adopted,
                        Some(epochs.current),
                        "{sid}: of no durable history"
                    );
                }
                let becomes_whole = epochs.is_whole && !disk.record.is_whole;
                disk.writing = Some(epochs);
                let is_new = epochs.current == Epoch(0);
                self.seen.founded += usize::from(becomes_whole && is_new);
                self.seen.made_whole += usize::from(becomes_whole && !is_new);
            }
            Effect::Open(base) => {
                assert!(!is_ended);
                let base = match base {
                    Base::Log(zxid) => {
                        let kept = upto(disk.history(), zxid).to_vec();
                        assert_eq!(end(&kept), zxid, "{sid} was never there");
                        kept
                    }
                    Base::Snapshot(zxid) => {
                        let received = std::mem::take(&mut self.member(sid).received);
                        assert_eq!(end(&received), zxid);
                        received
                    }
                };
                self.member(sid).disk.open(base);
            }
            Effect::Append { zxid, entry } => {
                assert!(!is_ended);
                disk.append(txn(zxid, &entry));
            }
            Effect::Adopt(epoch) => {
                assert!(!is_ended);
                disk.close(epoch);
            }
            Effect::Commit(decided) => self.commits(sid, decided.zxid()),
            Effect::Activate(..) => unreachable!(),
            Effect::Serve(role, duty) => self.serves(sid, role, duty),
            Effect::Synced(sync) => self.synced(sid, sync),
            Effect::Revalidated { session, .. } => {
                let next = self.asked.remove(&session).unwrap();
                let committed = self.members[&sid].disk.committed;
                assert!(
                    committed.0 + 1 >= next.0 || next.counter() == 1,
                    "{session} overtakes"
                );
            }
            Effect::StopServing(role) => {
                assert!(!is_ended);
                assert_eq!(self.member(sid).serving.take(), Some(role), "{sid}");
            }
            Effect::Left(_, why) => {
                assert!(!is_ended && self.members[&sid].serving.is_none());
                self.may_leave(sid, why);
            }
            Effect::Flush(role) => {
                let links = self.wires.values().filter(|wire| wire.port == Port::Quorum);
                let mut ends = links.flat_map(|wire| &wire.ends);
                let is_open = ends.any(|end| end.sid == sid && !end.is_closed);
                assert!(!is_open, "{sid} has left, and not its connections");
                let member = self.member(sid);
                assert!(!member.listens);
                assert!(member.jobs.is_empty() && member.sending.is_empty());
                assert!(member.coming.is_none());
                member.syncs.clear();
                member.flush = Some(role);
            }
            other => panic!("{other:?} is about connections"),
        }
    }

    fn dial(&mut self, from: ServerId, link: LinkId, to: &Address) {
        let to_sid = ServerId(to.host()[1..].parse().unwrap());
        let port = match to.port() {
            QUORUM => Port::Quorum,
            _ => Port::Election,
        };
        if port == Port::Quorum {
            self.is_at_rest(from);
        }
        let life = self.members[&from].life;
        let is_slow = self.rng.u8(0..20) == 0;
        self.dials.push(Dial {
            from,
            life,
            link,
            to: to_sid,
            port,
            is_slow,
        });
    }

    /// The outcome of a dial, whenever it comes.
    fn connect(&mut self, n: usize) {
        let Dial {
            from, to, is_slow, ..
        } = self.dials[n];
        let is_silent = self.mute.contains(&(from, to)) || self.mute.contains(&(to, from));
        // It takes as long as a connection may.
        if (is_silent || is_slow) && self.rng.u8(..) > 0 {
            return;
        }
        let Dial {
            life,
            link: mine,
            port,
            ..
        } = self.dials.swap_remove(n);
        if self.members[&from].life != life || self.members[&from].peers.is_none() {
            return;
        }
        let (now, address) = (self.now, [10, 0, 0, from.0 as u8].into());
        let theirs = match &mut self.member(to).peers {
            Some(peers) if !is_silent => peers.peers.accepted(port, address, now),
            _ => None,
        };
        let Some(theirs) = theirs else {
            self.seen.refused_dials += 1;
            self.tell_peers(from, |peers, now| peers.peers.dial_failed(mine, now));
            return;
        };
        self.work(to);
        let id = self.number();
        self.wires
            .insert(id, Wire::new(port, (from, mine), (to, theirs)));
        self.tell_peers(from, |peers, _| peers.peers.dialled(mine));
        let leader = self.peer(from).and_then(Peer::leader);
        let is_late = port == Port::Quorum && leader != Some(mine);
        self.seen.late_dials += usize::from(is_late);
    }

    fn wire_of(&mut self, sid: ServerId, link: LinkId) -> Option<(&mut Wire, usize)> {
        self.wires
            .values_mut()
            .find_map(|wire| wire.end_of(sid, link).map(|at| (wire, at)))
    }

    fn close(&mut self, sid: ServerId, link: LinkId) {
        self.dials
            .retain(|dial| (dial.from, dial.link) != (sid, link));
        if let Some((wire, at)) = self.wire_of(sid, link) {
            wire.ends[at].is_closed = true;
        }
    }

    fn synchronise(&mut self, sid: ServerId, link: LinkId, last: Zxid) {
        let committed = self.peer(sid).unwrap().leading().unwrap().committed();
        let txns = upto(self.members[&sid].disk.history(), committed).to_vec();
        // Sometimes the log reaches not that far back.
        let purged = match self.rng.u8(0..4) {
            0 => self.rng.usize(0..=txns.len()),
            _ => 0,
        };
        let mut history = History::new(end(&txns[..purged]));
        txns.iter().for_each(|(zxid, _)| history.extend(*zxid));
        let opening = decide(last, &history, false);
        let kept = &txns[..self.rng.usize(purged..=txns.len())];
        let base = match opening {
            Opening::Diff { base } => {
                self.seen.diffs += 1;
                base
            }
            Opening::Trunc { base } => {
                self.seen.truncs += 1;
                base
            }
            Opening::Snap => {
                self.seen.snaps += 1;
                let member = self.member(sid);
                member.sending.insert(link, (snapshot(kept), 0));
                end(kept)
            }
        };
        let end = history.end();
        self.tell_peers(sid, |peers, now| {
            peers.synchronise(link, opening, end, base, now)
        });
    }

    /// A piece of what a learner is synchronised with.
    fn stream(&mut self, sid: ServerId) {
        let pieces = self.rng.usize(1..5);
        let member = self.member(sid);
        let (link, piece) = match member.jobs.pop_front() {
            None => return,
            Some(Job::Decide(link, last)) => return self.synchronise(sid, link, last),
            Some(Job::Read(link, Source::Snapshot)) => {
                let (bytes, sent) = member.sending.get_mut(&link).unwrap();
                let until = (*sent + 300 * pieces).min(bytes.len());
                let piece = Part::Snapshot(Piece::Snapshot {
                    bytes: bytes[*sent..until].to_vec(),
                    is_last: until == bytes.len(),
                });
                *sent = until;
                (link, piece)
            }
            Some(Job::Read(link, Source::Log(after, until))) => {
                let txns = upto(member.disk.history(), until).iter();
                let txns = txns.skip_while(|(zxid, _)| *zxid <= after).take(pieces);
                (
                    link,
                    Part::Log(txns.map(|txn| (txn.0, entry(*txn))).collect()),
                )
            }
        };
        self.tell_peers(sid, |peers, now| peers.piece(link, piece, now));
    }

    /// What has come of a snapshot is kept.
    fn take_snapshot(&mut self, sid: ServerId) {
        let coming = self.member(sid).coming.as_mut();
        if let Some(coming) = coming.filter(|coming| !coming.is_taken) {
            let link = coming.link;
            coming.is_taken = true;
            let member = self.member(sid);
            let is_whole = member.coming.take_if(|coming| coming.is_whole).is_some();
            self.tell_peers(sid, |peers, now| peers.snapshot_taken(link, is_whole, now));
        }
    }

    fn propose(&mut self, sid: ServerId) -> bool {
        let tag = self.number() as i64;
        let member = self.member(sid);
        let Some(peers) = member.peers.as_ref().filter(|_| member.serving.is_some()) else {
            return false;
        };
        let leading = peers.peer.leading();
        let Some(zxid) = leading.and_then(|leading| leading.next()) else {
            return false;
        };
        self.tell(sid, |peer, now| {
            peer.propose(zxid, &entry((zxid, tag)), now)
        });
        self.member(sid).disk.append((zxid, tag));
        true
    }

    fn sync_at(&mut self, sid: ServerId) {
        let (number, due) = (self.number(), self.sequence.len());
        if self.members[&sid].serving.is_none() {
            return;
        }
        self.member(sid).syncs.insert(number, due);
        let taken = self.tell(sid, |peer, now| peer.sync(SyncId(number), now));
        assert_eq!(taken, Some(true), "who serves takes syncs");
        if self.peer(sid).and_then(Peer::leader).is_some() {
            let session = SessionId(number as i64);
            let taken = self.tell(sid, |peer, now| {
                peer.touch(session, 1000) && peer.revalidate(session, 1000, now)
            });
            assert_eq!(taken, Some(true));
            let request = Forwarded {
                session,
                cxid: 1,
                op: OpCode::SYNC,
                body: b"",
                ids: None,
            };
            let request = ToLeader::Request(request);
            let is_passed_on = self.tell_peers(sid, |peers, now| peers.pass_on(&request, now));
            assert_eq!(is_passed_on, Some(true));
        }
    }

    fn synced(&mut self, sid: ServerId, sync: SyncId) {
        let due = self.member(sid).syncs.remove(&sync.0).unwrap();
        let committed = self.members[&sid].disk.committed;
        assert!(end(&self.sequence[..due]) <= committed, "a sync of {sid}");
        self.seen.synced += 1;
    }

    // Bytes arrive.

    fn arrive(&mut self, id: u64, at: usize, n: usize) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let (from, to) = (wire.ends[1 - at].sid, wire.ends[at].sid);
        if self.mute.contains(&(from, to)) || !self.is_up(to) {
            return;
        }
        let link = self.wires[&id].ends[at].link;
        let peers = self.members[&to].peers.as_ref();
        let room = peers.map_or(0, |peers| peers.peers.room(link));
        let wire = self.wires.get_mut(&id).unwrap();
        let bytes = wire.carry(at, n.min(room));
        if !bytes.is_empty() {
            self.tell_peers(to, |peers, _| peers.peers.received(link, &bytes));
        }
    }

    /// A connection takes what its end has to say.
    fn say(&mut self, id: u64, at: usize, max: usize) {
        let Some(wire) = self.wires.get(&id) else {
            return;
        };
        let (port, end) = (wire.port, &wire.ends[at]);
        let (sid, link, checked) = (end.sid, end.link, end.checked);
        let is_first = !end.has_begun;
        if end.is_closed || !self.is_up(sid) {
            return;
        }
        let now = self.now;
        let peers = self.member(sid).peers.as_mut().unwrap();
        peers.peers.writable(link);
        let bytes = peers.output(link, now).to_vec();
        self.is_honest(sid, port, at, is_first, &bytes[checked..]);
        let n = max.min(bytes.len());
        let wire = self.wires.get_mut(&id).unwrap();
        wire.ends[at].has_begun |= !bytes.is_empty();
        wire.send(at, &bytes[..n]);
        wire.ends[at].checked = bytes.len() - n;
        self.tell_peers(sid, |peers, now| peers.peers.sent(link, n, now));
    }

    fn hears_of_the_end(&mut self, id: u64, at: usize) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let sid = wire.ends[at].sid;
        let is_over = wire.is_over(at);
        let is_told = self.isolated != Some(sid) || self.mute.is_empty();
        if is_over && is_told && self.is_up(sid) {
            let wire = self.wires.get_mut(&id).unwrap();
            wire.ends[at].is_closed = true;
            let link = wire.ends[at].link;
            self.tell_peers(sid, |peers, _| peers.peers.closed(link));
        }
        if let Some(wire) = self.wires.get(&id)
            && wire.ends.iter().all(|end| end.is_closed)
            && (wire.is_broken || self.rng.u8(0..4) == 0)
        {
            self.wires.remove(&id);
        }
    }

    // What becomes durable and is applied.

    fn durable(&mut self, sid: ServerId) {
        let mut rng = self.rng.fork();
        let member = self.member(sid);
        member.disk.sync(&mut rng);
        let (log, adoption) = (member.disk.log_end(), member.disk.adoption());
        self.tell(sid, |peer, now| {
            if let Some(adoption) = &adoption {
                peer.adopted(adoption, now);
            }
            peer.durable(&log, now);
        });
    }

    fn recorded(&mut self, sid: ServerId) {
        let disk = &mut self.member(sid).disk;
        if let Some(record) = disk.writing.take() {
            disk.write(record);
            self.tell(sid, |peer, now| peer.recorded(Durable::played(record), now));
        }
    }

    fn flushed(&mut self, sid: ServerId) {
        let member = self.member(sid);
        if let Some(role) = member.flush.take() {
            member.disk.flush();
            let end = member.disk.log_end();
            self.tell(sid, |peer, now| peer.flushed(role, end, now));
        }
    }

    fn apply(&mut self, sid: ServerId) {
        let member = self.member(sid);
        if member.applied < member.disk.committed {
            member.applied = member.disk.committed;
            let applied = member.applied;
            self.tell(sid, |peer, now| peer.applied(applied, now));
        }
    }

    // What happens.

    fn fail(&mut self) {
        let faults = self.faults;
        if self.chance(faults.breaks) {
            let n = self.rng.usize(0..self.wires.len().max(1));
            if let Some(wire) = self.wires.values_mut().nth(n) {
                wire.is_broken = true;
            }
        }
        if self.chance(faults.crashes) {
            let sid = self.any_member();
            self.crash(sid, false);
        }
        if self.chance(faults.wipes) {
            let sid = self.any_member();
            self.crash(sid, true);
        }
        if self.chance(faults.silences) {
            let pair = (self.any_member(), self.any_member());
            self.mute.insert(pair);
        }
        if self.chance(faults.silences / 4.0) {
            let sid = self.any_member();
            self.isolate(sid);
        }
        if self.chance(0.004) {
            self.mute.pop_first();
        }
        if self.chance(faults.rumours) {
            self.rumour();
        }
        if self.chance(faults.pauses) {
            let sid = self.any_member();
            self.member(sid).is_paused = true;
        }
        if self.chance(0.005) {
            let sid = self.any_member();
            self.member(sid).is_paused = false;
        }
    }

    /// All others seem to vote for somebody, or to have settled on it. While members find out that they are new it
    /// would rightly keep them from it, for ever.
    fn rumour(&mut self) {
        if !self.is_majority_whole() {
            return;
        }
        let (sid, leader) = (self.any_member(), self.any_member());
        let Some(peer) = self.peer(sid) else {
            return;
        };
        if self.members[&leader].is_observer || peer.doing() != PeerState::Looking {
            return;
        }
        let (round, is_settled) = (peer.election.round(), self.rng.bool());
        let wires = self
            .wires
            .values()
            .filter(|wire| wire.port == Port::Election);
        let ends = wires.flat_map(|wire| [&wire.ends, &wire.ends].into_iter().zip(0..2));
        let ends = ends.filter(|(ends, at)| ends[*at].sid == sid && !ends[*at].is_closed);
        let from: Vec<_> = ends
            .map(|(ends, at)| (ends[at].link, ends[1 - at].sid))
            .collect();
        for (link, from) in from {
            let n = Notification {
                state: match (is_settled, from == leader) {
                    (false, _) => PeerState::Looking,
                    (true, true) => PeerState::Leading,
                    (true, false) => PeerState::Following,
                },
                vote: Vote {
                    epoch: VoteEpoch(i64::from(RUMOUR.epoch())),
                    zxid: RUMOUR,
                    leader,
                },
                round,
                format: 2,
                config: None,
            };
            self.tell(sid, |peer, now| peer.notified(link, &n, now));
        }
        let peer = self.peer(sid);
        let is_believed = peer.is_some_and(|peer| peer.doing() != PeerState::Looking);
        self.seen.misled += usize::from(is_believed);
    }

    /// A member is cut off, and is not told: the others go on without it.
    fn isolate(&mut self, sid: ServerId) {
        for other in self.sids() {
            self.mute.extend([(sid, other), (other, sid)]);
        }
        let is_its = |wire: &&mut Wire| wire.ends.iter().any(|end| end.sid == sid);
        for wire in self.wires.values_mut().filter(is_its) {
            wire.is_broken = true;
        }
        self.isolated = Some(sid);
        self.seen.isolated += 1;
    }

    fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(2) {
            self.now = self.now.after(1);
        }
        self.fail();
        for _ in 0..4 {
            let n = self.rng.usize(0..self.wires.len().max(1));
            let Some(id) = self.wires.keys().nth(n).copied() else {
                break;
            };
            let (at, n) = (self.rng.usize(0..2), self.rng.usize(1..300));
            match self.rng.u8(0..12) {
                0 => self.hears_of_the_end(id, at),
                1..5 => self.say(id, at, 4 * n),
                _ => self.arrive(id, at, n),
            }
        }
        if self.rng.u8(0..4) == 0 && !self.dials.is_empty() {
            let n = self.rng.usize(0..self.dials.len());
            if self.is_up(self.dials[n].from) {
                self.connect(n);
            }
        }
        let sid = self.any_member();
        if self.members[&sid].peers.is_none() {
            if self.rng.u8(0..20) == 0 {
                self.start(sid);
            }
            return;
        }
        if !self.is_up(sid) {
            return;
        }
        self.stream(sid);
        self.take_snapshot(sid);
        match self.rng.u8(0..9) {
            0..2 => self.durable(sid),
            2 => self.recorded(sid),
            3 => self.flushed(sid),
            4 => self.apply(sid),
            5 => drop(self.propose(sid)),
            6 if self.rng.u8(0..4) == 0 => self.sync_at(sid),
            _ => drop(self.tell_peers(sid, Wired::tick)),
        }
    }

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    /// One ms in which everything that can go on does.
    fn calm_ms(&mut self) {
        self.now = self.now.after(1);
        while !self.dials.is_empty() {
            self.connect(0);
        }
        for sid in self.sids() {
            self.durable(sid);
            self.recorded(sid);
            self.flushed(sid);
            self.apply(sid);
            self.stream(sid);
            self.take_snapshot(sid);
            self.tell_peers(sid, Wired::tick);
        }
        for id in self.wires.keys().copied().collect::<Vec<_>>() {
            for at in [DIALLER, ACCEPTOR] {
                self.say(id, at, 400);
                self.arrive(id, at, 400);
                self.hears_of_the_end(id, at);
            }
        }
    }

    fn is_majority_whole(&self) -> bool {
        let voters = self.members.values().filter(|member| !member.is_observer);
        let whole = voters.filter(|member| member.disk.record.is_whole);
        2 * whole.count() > self.pair.voters().len()
    }

    /// Whether a leader can come about at all.
    fn can_begin(&self) -> bool {
        let mut voters = self.members.values().filter(|member| !member.is_observer);
        let is_empty = |member: &Member| {
            let disk = &member.disk;
            end(disk.history()) == Zxid::ZERO && disk.record.current == Epoch(0)
        };
        self.is_majority_whole() || voters.all(is_empty)
    }

    fn leader(&self) -> Option<ServerId> {
        let leads = |member: &Member| {
            let peers = member.peers.as_ref();
            member.serving.is_some() && peers.is_some_and(|peers| peers.peer.leading().is_some())
        };
        let mut leaders = self.members.iter().filter(|(_, member)| leads(member));
        let leader = leaders.next().map(|(sid, _)| *sid);
        leader.filter(|_| leaders.next().is_none())
    }

    /// Everybody serves, is whole, and has all that is committed.
    fn is_settled(&self) -> bool {
        self.members.values().all(|member| {
            let disk = &member.disk;
            let has_all = disk.committed == end(&self.sequence) && disk.history() == self.sequence;
            member.serving.is_some() && disk.record.is_whole && has_all
        })
    }

    /// All faults cease, and it is not said who is to lead.
    pub fn calm(&mut self) {
        self.faults = Faults::default();
        self.mute.clear();
        for sid in self.sids() {
            self.member(sid).is_paused = false;
            if self.members[&sid].peers.is_none() {
                self.start(sid);
            }
        }
        if !self.can_begin() {
            return;
        }
        let until = self.now.after(CALM_MS);
        let mut proposed = None;
        // What the faults have done is felt for as long as patience lasts.
        let (mut since, mut left) = (self.now, self.seen.left);
        while self.now < since.after(STABLE_MS) {
            assert!(
                self.now < until,
                "nothing comes to an end:\n{}",
                self.report()
            );
            self.calm_ms();
            let leader = self.leader();
            if let Some(leader) = leader.filter(|_| proposed != leader)
                && self.propose(leader)
            {
                proposed = Some(leader);
                since = self.now;
            }
            if proposed.is_none()
                || proposed != leader
                || left != self.seen.left
                || !self.is_settled()
            {
                (since, left) = (self.now, self.seen.left);
            }
        }
        self.seen.calmed += 1;
    }

    fn report(&self) -> String {
        let one = |(sid, member): (&ServerId, &Member)| {
            let disk = &member.disk;
            let doing = member.peers.as_ref().map(|peers| peers.peer.doing());
            format!(
                "{sid}: {doing:?}, serves {:?}, committed {:?}, applied {:?}, log {:?}, durable {:?}, {:?}\n",
                member.serving,
                disk.committed,
                member.applied,
                end(disk.history()),
                end(disk.durable()),
                disk.record,
            )
        };
        let members: String = self.members.iter().map(one).collect();
        let last = self.left.iter().rev().take(9).collect::<Vec<_>>();
        format!(
            "{members}{:?} at {:?}\nleft last: {last:?}",
            self.seen, self.now
        )
    }
}
