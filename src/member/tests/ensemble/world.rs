//! The members, their disks, and who drives them.

use super::super::*;
use super::clients::{Clients, What};
use super::links::{ACCEPTOR, DIALLER, Dial, Port, Wire};
use crate::log::received::Receiving;
use crate::log::snapshot_file::{self, SnapshotError};
use crate::pipeline::{ReaperConfig, RingBounds};
use crate::proto::Frame;
use crate::proto::peer::notification;
use crate::proto::peer::packet::{Split, split};
use crate::proto::peer::{Address, Hello, Notification, PeerState, ToLeader, ToLearner};
use crate::txn::{AuthId, CreateRequest, RawAcl, Txn, WriteRequest};
use crate::types::{OpCode, ServerId, SessionId, Zxid};
use crate::zab::{Candidate, Effect, LinkId, Pair, Patience, Peer, Quorum, Settings};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};

const MAX: usize = 1 << 20;
const PATIENCE: Patience = Patience {
    // A whole synchronisation, 2 MB by such connections, fits in it: who is never done begins again for ever.
    init_ms: 3000,
    sync_ms: 300,
    ping_ms: 30,
};
/// Within so many ms of calm all hold one history.
const CALM_MS: u64 = 20_000;
const TICK_MS: u64 = 10;

#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub breaks: f64,
    pub crashes: f64,
    pub wipes: f64,
    pub partitions: f64,
    /// A disk has no room for a while.
    pub full: f64,
    /// A disk syncs nothing for a while.
    pub slow: f64,
    /// A crash takes what was not synced along, and may come in the middle of a write.
    pub power: bool,
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
    committed >= 500,
    leaders >= 30,
    diffs >= 40,
    truncs >= 3,
    snaps >= 5,
    installed >= 3,
    read_back >= 20,
    ahead_of_disk >= 20,
    crashes >= 20,
    torn >= 3,
    wiped >= 2,
    filled >= 5,
    stalled >= 50,
    left >= 40,
}

/// What was begun and has not come back.
enum Work {
    Sync(SyncTicket<SimStorage>),
    Record(WitnessTicket),
    Job(Job),
}

struct Node {
    disk: SimStorage,
    /// `None`: it is down.
    member: Option<Box<Member<SimStorage>>>,
    life: u64,
    listens: bool,
    serves: bool,
    work: Vec<Work>,
    /// A snapshot is read from this connection.
    reads: Option<(LinkId, Zxid)>,
    session: Option<(SessionId, Generation)>,
    sequence: u64,
    /// The last that was applied.
    last: Zxid,
    is_founding: bool,
}

/// Digest behind each transaction that anybody has applied.
struct Truth {
    digests: BTreeMap<Zxid, u64>,
    /// What is decided, and was not seen one by one.
    between: Vec<(Zxid, Zxid)>,
}

impl Deref for Truth {
    type Target = BTreeMap<Zxid, u64>;

    fn deref(&self) -> &BTreeMap<Zxid, u64> {
        &self.digests
    }
}

impl DerefMut for Truth {
    fn deref_mut(&mut self) -> &mut BTreeMap<Zxid, u64> {
        &mut self.digests
    }
}

pub struct World {
    rng: Rng,
    now: Tick,
    faults: Faults,
    pair: Pair,
    nodes: BTreeMap<ServerId, Node>,
    wires: Vec<Wire>,
    dials: Vec<Dial>,
    isolated: Option<ServerId>,
    /// Their syncs do not come back.
    held: BTreeSet<ServerId>,
    next: u64,
    /// Clients do something by themselves.
    pub acts: bool,
    truth: Truth,
    pub clients: Clients,
    pub seen: Seen,
}

impl World {
    pub fn new(seed: u64, voters: i64, faults: Faults) -> World {
        let node = |_| Node {
            disk: SimStorage::new(256 << 20),
            member: None,
            life: 0,
            listens: false,
            serves: false,
            work: Vec::new(),
            reads: None,
            session: None,
            sequence: 0,
            last: Zxid::ZERO,
            is_founding: true,
        };
        World {
            rng: Rng::with_seed(seed),
            now: Tick(0),
            faults,
            pair: Pair::of(Quorum::majority(Zxid::ZERO, (1..=voters).map(ServerId)).unwrap()),
            nodes: (1..=voters).map(|sid| (ServerId(sid), node(sid))).collect(),
            wires: Vec::new(),
            dials: Vec::new(),
            isolated: None,
            held: BTreeSet::new(),
            next: 0,
            acts: false,
            truth: Truth {
                digests: BTreeMap::from([(Zxid::ZERO, crate::tree::Tree::new().digest())]),
                between: Vec::new(),
            },
            clients: Clients::default(),
            seen: Seen::default(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn now(&self) -> Now {
        Now {
            tick: self.now,
            micros: self.now.0 * 1000,
            wall: WallMs(1_000_000 + self.now.0 as i64),
        }
    }

    fn node(&mut self, sid: ServerId) -> &mut Node {
        self.nodes.get_mut(&sid).unwrap()
    }

    fn sids(&self) -> Vec<ServerId> {
        self.nodes.keys().copied().collect()
    }

    fn any(&mut self) -> ServerId {
        let n = self.rng.usize(0..self.nodes.len());
        *self.nodes.keys().nth(n).unwrap()
    }

    fn chance(&mut self, of: f64) -> bool {
        self.rng.f64() < of
    }

    fn is_up(&self, sid: ServerId) -> bool {
        self.nodes[&sid].member.is_some()
    }

    /// Whether any member has a session in its tree.
    pub fn has_session(&self, session: SessionId) -> bool {
        let mut up = self.nodes.values().filter_map(|node| node.member.as_ref());
        up.any(|member| member.tree.session_timeout(session).is_some())
    }

    pub fn sequence(&self) -> usize {
        self.truth.len() - 1
    }

    // Processes.

    pub fn start_all(&mut self) {
        self.sids().into_iter().for_each(|sid| self.start(sid));
    }

    fn start(&mut self, sid: ServerId) {
        // An operator makes room first.
        self.fill_disk(sid, false);
        let (now, life) = (self.now(), self.number());
        let settings = Settings {
            candidate: Candidate {
                sid,
                is_observer: false,
                finalize_ms: 20,
            },
            patience: PATIENCE,
            pair: self.pair.clone(),
            observers: Default::default(),
            config: Vec::from(b"version=0").into(),
        };
        let bounds = RingBounds {
            ring_bytes: self.rng.u64(1..20_000),
            piece_bytes: self.rng.u64(1..4_000),
        };
        let config = MemberConfig {
            pipeline: PipelineConfig {
                tick_time_ms: 100,
                creator: sid.0 as u8,
                ring: bounds,
                reaper: ReaperConfig::default(),
                ..PipelineConfig::new(Rules {
                    extended_types: true,
                    ..Rules::default()
                })
            },
            log: LogConfig {
                segment_bytes: SEGMENT,
            },
            snapshot_records: self.rng.u64(20..200),
            snapshots_kept: Some(self.rng.usize(1..4)),
            snapshot_memory: 4 << 10,
        };
        let node = self.nodes.get_mut(&sid).unwrap();
        let mut identity: u128 = (u128::from(life) << 64) + u128::from(sid.0 as u64);
        let identities = Box::new(move || {
            identity += 1 << 32;
            identity
        });
        let seat = SeatConfig {
            settings,
            is_founding: std::mem::take(&mut node.is_founding),
        };
        let rebuild = &mut Rebuilding::new(|_| {});
        let dirs = (&node.disk, &node.disk);
        let (member, _) = Member::join(config, seat, dirs, identities, now, rebuild)
            .unwrap_or_else(|e| panic!("{sid} does not start: {e}"));
        let (last, digest) = (member.tree.last_zxid(), member.tree.digest());
        node.member = Some(Box::new(member));
        node.life = life;
        node.last = last;
        let newest = *self.truth.keys().next_back().unwrap();
        if last > newest {
            // It was decided, and nobody has come to apply it yet: what lies between is known when somebody does.
            self.truth.between.push((newest, last));
            self.truth.insert(last, digest);
        }
        assert_eq!(
            self.truth.get(&last),
            Some(&digest),
            "{sid} starts at {last}"
        );
        self.drive(sid);
    }

    fn crash(&mut self, sid: ServerId) {
        let (mut rng, power) = (self.rng.fork(), self.faults.power);
        let node = self.node(sid);
        if node.member.take().is_none() {
            return;
        }
        node.work.clear();
        node.disk.crash_at(None);
        node.disk.restart(&mut rng, power);
        (node.listens, node.serves) = (false, false);
        (node.reads, node.session) = (None, None);
        self.clients.end_all(sid);
        for wire in &mut self.wires {
            if let Some(end) = wire.ends.iter_mut().find(|end| end.sid == sid) {
                end.is_closed = true;
                wire.is_broken = true;
            }
        }
        self.seen.crashes += 1;
    }

    pub fn kill(&mut self, sid: ServerId) {
        self.crash(sid);
    }

    pub fn wipe(&mut self, sid: ServerId) {
        assert!(!self.is_up(sid));
        self.node(sid).disk = SimStorage::new(256 << 20);
        self.node(sid).last = Zxid::ZERO;
        self.seen.wiped += 1;
    }

    /// Whether a member may forget everything: the others are whole, and have everything.
    fn may_be_wiped(&self, sid: ServerId) -> bool {
        let last = *self.truth.keys().next_back().unwrap();
        let mut others = self.nodes.iter().filter(|(of, _)| **of != sid);
        others.all(|(other, node)| node.last == last && self.is_whole(*other))
    }

    pub fn is_whole(&self, sid: ServerId) -> bool {
        let member = self.nodes[&sid].member.as_ref();
        let standing = member.and_then(|member| member.standing());
        standing == Some(crate::log::Standing::Whole)
    }

    pub fn isolate(&mut self, sid: Option<ServerId>) {
        self.isolated = sid;
        for wire in &mut self.wires {
            wire.is_broken |= wire.ends.iter().any(|end| Some(end.sid) == sid);
        }
    }

    pub fn hold_syncs(&mut self, sid: ServerId, is_held: bool) {
        match is_held {
            true => self.held.insert(sid),
            false => self.held.remove(&sid),
        };
    }

    /// The disk has no room, or has some again.
    pub fn fill_disk(&mut self, sid: ServerId, is_full: bool) {
        let disk = &self.node(sid).disk;
        disk.set_capacity(if is_full { disk.used() } else { 256 << 20 });
    }

    pub fn takes_packets(&self, sid: ServerId) -> bool {
        let member = self.nodes[&sid].member.as_ref();
        member.is_some_and(|member| member.takes_packets())
    }

    pub fn leader(&self) -> Option<ServerId> {
        let leads = |sid: &&ServerId| {
            let node = &self.nodes[*sid];
            let peer = node.member.as_ref().and_then(|member| member.peer());
            node.serves && peer.is_some_and(|peer| peer.doing() == PeerState::Leading)
        };
        let mut leaders = self.nodes.keys().filter(leads);
        let newest = |sid: &&ServerId| {
            let peer = self.nodes[*sid].member.as_ref().unwrap().peer();
            peer.unwrap().leading().unwrap().next()
        };
        let all: Vec<&ServerId> = leaders.by_ref().collect();
        all.into_iter().max_by_key(newest).copied()
    }

    pub fn follower(&self) -> Option<ServerId> {
        let leader = self.leader()?;
        let mut up = self.nodes.keys().filter(|sid| self.is_up(**sid));
        up.find(|sid| **sid != leader).copied()
    }

    // Clients.

    pub fn write(&mut self) {
        if let Some(leader) = self.leader() {
            self.write_at(leader);
        }
    }

    pub fn write_at(&mut self, sid: ServerId) {
        let (now, number, bytes) = (self.now(), self.number(), self.rng.usize(0..1200));
        let node = self.node(sid);
        let Some(member) = &mut node.member else {
            return;
        };
        node.sequence += 1;
        let origin = Origin {
            shard: ShardId(0),
            conn: ConnId {
                slot: 0,
                generation: 0,
            },
            sequence: node.sequence,
        };
        let asked = match node.session {
            None => ShardRequest::NewSession {
                origin,
                timeout_ms: 1 << 30,
                stamps: Stamps::default(),
            },
            Some((session, generation)) => ShardRequest::Write {
                origin,
                session,
                generation,
                xid: Xid(1),
                request: WriteRequest::Create(CreateRequest {
                    op: OpCode::CREATE,
                    path: format!("/n{number}").into(),
                    data: Some(vec![7; bytes].into()),
                    acl: Some(vec![RawAcl {
                        perms: 31,
                        scheme: Some("world".into()),
                        id: Some("anyone".into()),
                    }]),
                    flags: 0,
                    ttl_ms: 0,
                }),
                credentials: Arc::from([AuthId {
                    scheme: "super".into(),
                    id: "".into(),
                }]),
                stamps: Stamps::default(),
            },
        };
        let mut budget = Budget::UNLIMITED;
        member.request(asked, &mut budget, now).unwrap();
        self.drive(sid);
    }

    // The driver.

    /// Tells a member something.
    fn tell<R>(&mut self, sid: ServerId, what: impl FnOnce(&mut Peer, Tick) -> R) -> Option<R> {
        let now = self.now();
        let member = self.node(sid).member.as_mut()?;
        let told = member.tell_peer(now, |peer| what(peer, now.tick)).unwrap();
        self.drive(sid);
        told
    }

    /// A turn of a member: what is committed is applied, and what it wants is done.
    pub fn drive(&mut self, sid: ServerId) {
        loop {
            let now = self.now();
            let World {
                nodes,
                truth,
                seen,
                clients,
                ..
            } = self;
            let node = nodes.get_mut(&sid).unwrap();
            let Some(member) = &mut node.member else {
                return;
            };
            let mut budget = Budget::UNLIMITED;
            member.advance(&mut budget, now).unwrap();
            let before = member.tree.last_zxid();
            if before != node.last {
                // The tree is a leader's.
                assert_eq!(
                    truth.get(&before),
                    Some(&member.tree.digest()),
                    "{sid} {before}"
                );
                node.last = before;
                seen.installed += 1;
            }
            let mut told = Vec::new();
            let hear = |tree: &Tree, down: ToShards, _| told.push((down, tree.digest()));
            let is_any = member.tell(&mut budget, now, hear).unwrap().is_some();
            let is_ahead = {
                let cursors = member.pipeline.cursors();
                cursors.applied > cursors.durable
            };
            seen.ahead_of_disk += usize::from(is_ahead && is_any);
            let mut answers = Vec::new();
            for (down, digest) in told {
                heard(node, (&mut *truth, &mut *clients), seen, sid, &down, digest);
                let peer = node.member.as_ref().and_then(|member| member.peer());
                let leads = peer.is_some_and(|peer| peer.doing() == PeerState::Leading);
                answers.extend(clients.told(sid, &down, node.last, leads));
            }
            let mut moved = is_any;
            for answer in answers {
                let member = self.node(sid).member.as_mut().unwrap();
                member.request(answer, &mut budget, now).unwrap();
            }
            while let Some(effect) = self.node(sid).member.as_mut().and_then(|m| m.poll_seat()) {
                moved = true;
                self.do_effect(sid, effect);
            }
            if !moved {
                break;
            }
        }
        let pipeline = &self.nodes[&sid].member.as_ref().unwrap().pipeline;
        assert_eq!(pipeline.counted(), pipeline.recounted(), "{sid}");
        self.begin_work(sid);
    }

    fn begin_work(&mut self, sid: ServerId) {
        let is_held = self.held.contains(&sid);
        let node = self.node(sid);
        let Some(member) = &mut node.member else {
            return;
        };
        let mut work = Vec::new();
        if !is_held {
            work.extend(member.poll_sync().map(Work::Sync));
        }
        work.extend(member.poll_record().map(Work::Record));
        work.extend(std::iter::from_fn(|| member.poll_job()).map(Work::Job));
        node.work.extend(work);
    }

    /// Something that was begun comes back, or the power fails in the middle of it.
    fn finish(&mut self, sid: ServerId, n: usize) {
        let now = self.now();
        let is_cut = self.faults.power && self.faults.crashes > 0.0 && self.rng.u16(0..400) == 0;
        let within = self.rng.u64(0..6);
        let node = self.node(sid);
        let disk = node.disk.clone();
        if is_cut {
            disk.crash_at(Some(disk.effects() + within));
        }
        let work = node.work.remove(n);
        let Some(member) = &mut node.member else {
            return;
        };
        let mut is_read_back = false;
        match work {
            Work::Sync(ticket) => {
                let outcome = ticket.run();
                if !disk.crashed() {
                    member.synced(outcome, now).unwrap();
                }
            }
            Work::Record(ticket) => {
                let outcome = ticket.run(&disk, &disk);
                if !disk.crashed() {
                    member.record_written(outcome, now).unwrap();
                }
            }
            Work::Job(job) => {
                let done = job.run(&disk, &disk);
                if !disk.crashed() {
                    is_read_back = matches!(&done, Done::OfMember(MemberDone::ReadBack { .. }));
                    member.job_done(done).unwrap();
                }
            }
        }
        self.seen.read_back += usize::from(is_read_back);
        if disk.crashed() {
            self.seen.torn += 1;
            self.crash(sid);
            return;
        }
        disk.crash_at(None);
        self.drive(sid);
    }

    fn do_effect(&mut self, sid: ServerId, effect: SeatEffect) {
        match effect {
            SeatEffect::SendSnapshot { link, zxid } => {
                let mut body = Vec::new();
                let disk = self.node(sid).disk.clone();
                let take = |chunk: &[u8]| {
                    body.extend_from_slice(chunk);
                    Ok::<(), SnapshotError>(())
                };
                snapshot_file::read(&disk, zxid, None, take).unwrap();
                let length = (body.len() as u64).to_be_bytes();
                self.send(sid, link, &[&length[..], &body].concat());
            }
            SeatEffect::Peer(effect) => self.do_peer(sid, effect),
        }
    }

    fn do_peer(&mut self, sid: ServerId, effect: Effect) {
        match effect {
            Effect::Dial { to, .. } => self.dial(sid, to, None),
            Effect::DialLeader { role, leader } => self.dial(sid, leader, Some(role)),
            Effect::SayHello(link) => {
                let address = Address::new("10.0.0.1", 3888).unwrap();
                let hello = Hello::encode(sid, &[address], false).unwrap();
                self.send(sid, link, &hello);
            }
            Effect::Notify(link) => {
                if let Some((wire, at)) = self.wire_of(sid, link) {
                    wire.ends[at].wants_to_say = true;
                }
            }
            Effect::Listen(listens) => self.node(sid).listens = listens,
            Effect::Send(link, bytes) => self.send(sid, link, &bytes),
            Effect::Close(link, _) => {
                if let Some((wire, at)) = self.wire_of(sid, link) {
                    wire.ends[at].is_closed = true;
                }
                let node = self.node(sid);
                node.reads.take_if(|(reads, _)| *reads == link);
                let now = self.now();
                let member = self.node(sid).member.as_mut().unwrap();
                member.link_closed(link, now).unwrap();
            }
            Effect::ReadSnapshot { link, zxid } => self.node(sid).reads = Some((link, zxid)),
            Effect::Serve(..) => {
                let node = self.node(sid);
                node.serves = true;
                let peer = node.member.as_ref().unwrap().peer().unwrap();
                let leads = peer.doing() == PeerState::Leading;
                self.seen.leaders += usize::from(leads);
            }
            Effect::StopServing(_) => {
                // The shard confirms when it is told.
                let node = self.node(sid);
                (node.serves, node.session) = (false, None);
            }
            Effect::Left(..) => self.seen.left += 1,
            other => panic!("{other:?}"),
        }
    }

    fn dial(&mut self, from: ServerId, to: ServerId, role: Option<crate::zab::RoleId>) {
        let life = self.nodes[&from].life;
        self.dials.push(Dial {
            from,
            life,
            to,
            role,
        });
    }

    fn connect(&mut self, n: usize) {
        let Dial {
            from,
            life,
            to,
            role,
        } = self.dials.swap_remove(n);
        if self.nodes[&from].life != life || !self.is_up(from) {
            return;
        }
        let is_cut = [from, to].iter().any(|sid| self.isolated == Some(*sid));
        let target = &self.nodes[&to];
        let is_there = target.member.is_some() && (role.is_none() || target.listens);
        if !is_there || is_cut {
            self.tell(from, |peer, now| match role {
                None => peer.dial_failed(to, now),
                Some(role) => peer.leader_dial_failed(role, now),
            });
            return;
        }
        let [mine, theirs] = [(); 2].map(|()| LinkId(self.number()));
        let port = match role {
            None => Port::Election,
            Some(_) => Port::Quorum,
        };
        self.wires.push(Wire::new(port, (from, mine), (to, theirs)));
        if let Some(role) = role {
            self.tell(to, |peer, now| peer.learner_connected(theirs, now));
            self.tell(from, |peer, now| peer.leader_dialled(role, mine, now));
        } else {
            self.tell(from, |peer, now| peer.dialled(to, mine, now));
        }
    }

    fn wire_of(&mut self, sid: ServerId, link: LinkId) -> Option<(&mut Wire, usize)> {
        let mut wires = self.wires.iter_mut();
        wires.find_map(|wire| wire.end_of(sid, link).map(|at| (wire, at)))
    }

    fn send(&mut self, sid: ServerId, link: LinkId, bytes: &[u8]) {
        if let Some((wire, at)) = self.wire_of(sid, link) {
            wire.send(at, bytes);
        }
    }

    // Bytes arrive.

    fn arrive(&mut self, n: usize, at: usize, bytes: usize) {
        let Some(wire) = self.wires.get_mut(n) else {
            return;
        };
        let (sid, link) = (wire.ends[at].sid, wire.ends[at].link);
        let reads = self.nodes[&sid].member.as_ref();
        let takes = wire.port == Port::Election || reads.is_some_and(|m| m.takes_packets());
        self.seen.stalled += usize::from(!takes && !wire.ends[at].is_closed);
        if wire.ends[at].is_closed || !takes || wire.is_broken {
            return;
        }
        let end = &mut wire.ends[at];
        let bytes = bytes.min(end.coming.len());
        let some: Vec<u8> = end.coming.drain(..bytes).collect();
        end.has.extend(some);
        while self.read(sid, link) {}
    }

    /// One message, if there is a whole one.
    fn read(&mut self, sid: ServerId, link: LinkId) -> bool {
        let Some((wire, at)) = self.wire_of(sid, link) else {
            return false;
        };
        let (port, bytes) = (wire.port, wire.ends[at].has.clone());
        if wire.ends[at].is_closed || bytes.is_empty() {
            return false;
        }
        let is_greeted = wire.ends[at].is_greeted;
        match (port, at) {
            (Port::Election, ACCEPTOR) if !is_greeted => {
                let Some((hello, used)) = Hello::split(&bytes).unwrap() else {
                    return false;
                };
                wire.ends[at].is_greeted = true;
                wire.ends[at].has.drain(..used);
                self.tell(sid, |peer, now| peer.accepted(link, hello, now));
                true
            }
            (Port::Election, _) => {
                let Frame::Whole(payload, used) = notification::split(&bytes) else {
                    return false;
                };
                wire.ends[at].has.drain(..used);
                let n = Notification::decode(payload).unwrap();
                self.tell(sid, |peer, now| peer.notified(link, &n, now));
                true
            }
            (Port::Quorum, _) if self.is_snapshot(sid, link) => self.snapshot(sid, link, &bytes),
            (Port::Quorum, _) => self.packet(sid, link, at, &bytes),
        }
    }

    fn packet(&mut self, sid: ServerId, link: LinkId, at: usize, bytes: &[u8]) -> bool {
        let Split::Whole(packet, used) = split(bytes, MAX).unwrap() else {
            self.tell(sid, |peer, now| peer.heard(link, now));
            return false;
        };
        if let Some((wire, at)) = self.wire_of(sid, link) {
            wire.ends[at].has.drain(..used);
        }
        if at == DIALLER {
            let packet = ToLearner::decode(&packet).unwrap();
            match packet {
                ToLearner::Diff(_) => self.seen.diffs += 1,
                ToLearner::Trunc(_) => self.seen.truncs += 1,
                ToLearner::Snap(_) => self.seen.snaps += 1,
                _ => {}
            }
            let now = self.now();
            if let Some(member) = &mut self.node(sid).member {
                member.from_leader(link, &packet, now).unwrap();
            }
            self.drive(sid);
            return true;
        }
        let (now, packet) = (self.now(), ToLeader::decode(&packet).unwrap());
        if let Some(member) = &mut self.node(sid).member {
            member.from_learner(link, &packet, now).unwrap();
        }
        self.drive(sid);
        true
    }

    fn is_snapshot(&self, sid: ServerId, link: LinkId) -> bool {
        self.nodes[&sid].reads.is_some_and(|(of, _)| of == link)
    }

    fn snapshot(&mut self, sid: ServerId, link: LinkId, bytes: &[u8]) -> bool {
        let length = bytes.first_chunk().copied().map(u64::from_be_bytes);
        let Some(body) = length.and_then(|length| bytes[8..].get(..length as usize)) else {
            self.tell(sid, |peer, now| peer.heard(link, now));
            return false;
        };
        let used = 8 + body.len();
        let now = self.now();
        let node = self.node(sid);
        let (_, zxid) = node.reads.take().unwrap();
        let member = node.member.as_mut().unwrap();
        let keep = || {
            let mut receiving = Receiving::create(&node.disk, zxid, member.store())?;
            receiving.push(body)?;
            receiving.finish()
        };
        match keep() {
            Ok((received, _)) => member.snapshot_received(link, received, now).unwrap(),
            // Without room for it nothing is gone on with.
            Err(_) => {
                member.link_closed(link, now).unwrap();
                if let Some((wire, at)) = self.wire_of(sid, link) {
                    wire.ends[at].is_closed = true;
                }
                self.drive(sid);
                return false;
            }
        }
        if let Some((wire, at)) = self.wire_of(sid, link) {
            wire.ends[at].has.drain(..used);
        }
        self.drive(sid);
        true
    }

    /// A connection takes what its end has to say.
    fn say(&mut self, n: usize, at: usize, max: usize) {
        let now = self.now();
        let Some(wire) = self.wires.get_mut(n) else {
            return;
        };
        let port = wire.port;
        let end = &mut wire.ends[at];
        let says = match port {
            Port::Quorum => at == ACCEPTOR,
            Port::Election => std::mem::take(&mut end.wants_to_say),
        };
        let (sid, link, is_closed) = (end.sid, end.link, end.is_closed);
        if is_closed || !says || !self.is_up(sid) {
            return;
        }
        let mut bytes = Vec::new();
        self.tell(sid, |peer, tick| match port {
            Port::Quorum => peer.fetch(link, max, tick, &mut bytes),
            Port::Election => drop(peer.notification(link, &mut bytes)),
        });
        self.send(sid, link, &bytes);
        if port == Port::Quorum
            && let Some(member) = &mut self.node(sid).member
        {
            member.taken(link, now).unwrap();
            self.drive(sid);
        }
    }

    fn hears_of_the_end(&mut self, n: usize, at: usize) {
        let now = self.now();
        let Some(wire) = self.wires.get_mut(n) else {
            return;
        };
        if wire.is_over(at) {
            let end = &mut wire.ends[at];
            end.is_closed = true;
            let (sid, link) = (end.sid, end.link);
            let node = self.node(sid);
            node.reads.take_if(|(reads, _)| *reads == link);
            if let Some(member) = &mut node.member {
                member.link_closed(link, now).unwrap();
                self.drive(sid);
            }
        }
    }

    // What happens.

    fn fail(&mut self) {
        let faults = self.faults;
        if self.chance(faults.breaks) {
            let n = self.rng.usize(0..self.wires.len().max(1));
            if let Some(wire) = self.wires.get_mut(n) {
                wire.is_broken = true;
            }
        }
        if self.chance(faults.crashes) {
            let sid = self.any();
            self.crash(sid);
        }
        if self.chance(faults.wipes) {
            let sid = self.any();
            if self.may_be_wiped(sid) {
                self.crash(sid);
                self.wipe(sid);
            }
        }
        if self.chance(faults.partitions) {
            let sid = self.any();
            self.isolate(Some(sid));
        }
        if self.chance(0.003) {
            self.isolate(None);
        }
        if self.chance(faults.full) {
            let sid = self.any();
            self.fill_disk(sid, true);
            self.seen.filled += 1;
        }
        if self.chance(0.003) {
            let sid = self.any();
            self.fill_disk(sid, false);
        }
        if self.chance(faults.slow) {
            let sid = self.any();
            self.hold_syncs(sid, true);
        }
        if self.chance(0.01) {
            let sid = self.any();
            self.hold_syncs(sid, false);
        }
    }

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now = self.now.after(1);
        self.fail();
        for sid in self.sids() {
            if !self.is_up(sid) {
                let is_due = self.rng.u8(0..100) == 0;
                if is_due && (self.faults.crashes > 0.0 || self.faults.wipes > 0.0) {
                    self.start(sid);
                }
                continue;
            }
            if self.now.0.is_multiple_of(TICK_MS) {
                self.tick(sid);
            }
            let works = self.nodes[&sid].work.len();
            if works > 0 && self.rng.bool() {
                let n = self.rng.usize(0..works);
                self.finish(sid, n);
            }
        }
        while !self.dials.is_empty() && self.rng.bool() {
            let n = self.rng.usize(0..self.dials.len());
            self.connect(n);
        }
        for n in 0..self.wires.len() {
            for at in [DIALLER, ACCEPTOR] {
                let bytes = self.rng.usize(1..4000);
                match self.rng.u8(0..4) {
                    0 => self.say(n, at, bytes),
                    1 => self.hears_of_the_end(n, at),
                    _ => self.arrive(n, at, bytes),
                }
            }
        }
        self.wires
            .retain(|wire| !wire.ends.iter().all(|end| end.is_closed));
        if self.acts && !self.clients.all.is_empty() && self.rng.u8(0..3) == 0 {
            self.client_acts();
        }
        if self.faults.breaks + self.faults.crashes > 0.0 && self.rng.u8(0..4) == 0 {
            let leaders = self.sids().into_iter().filter(|sid| {
                let peer = self.nodes[sid].member.as_ref().and_then(|m| m.peer());
                self.nodes[sid].serves
                    && peer.is_some_and(|peer| peer.doing() == PeerState::Leading)
            });
            for leader in leaders.collect::<Vec<_>>() {
                self.write_at(leader);
            }
        }
    }

    fn tick(&mut self, sid: ServerId) {
        let now = self.now();
        if let Some(member) = &mut self.node(sid).member {
            member.pipeline.accepted_until(now.tick, now.tick);
            member.tick_seat(now).unwrap();
            member.tick(now).unwrap();
        }
        self.drive(sid);
        if self.now.0.is_multiple_of(5 * TICK_MS) {
            self.report(sid);
        }
    }

    /// The shard of a member reports whom it has heard of.
    fn report(&mut self, sid: ServerId) {
        let (now, sessions) = (self.now, self.clients.heard(sid));
        self.ask(
            sid,
            ShardRequest::Touched {
                shard: ShardId(0),
                watermark: now,
                made: now,
                sessions,
            },
        );
    }

    fn ask(&mut self, sid: ServerId, up: ShardRequest) {
        let (now, mut budget) = (self.now(), Budget::UNLIMITED);
        if let Some(member) = &mut self.node(sid).member {
            member.request(up, &mut budget, now).unwrap();
        }
        self.drive(sid);
    }

    /// A client comes to a member, if that is up.
    pub fn come(&mut self, client: usize, sid: ServerId) {
        self.clients.leave(client);
        if !self.is_up(sid) {
            return;
        }
        let (last, now) = (self.nodes[&sid].last, self.now);
        if let Some(up) = self.clients.connect(client, sid, last, now) {
            self.ask(sid, up);
        }
    }

    /// A client asks for something, if it may.
    pub fn ask_for(&mut self, client: usize, what: impl FnOnce(u64) -> What) {
        let bytes = self.rng.usize(0..1200);
        if let Some((sid, up)) = self.clients.ask(client, what, bytes) {
            self.ask(sid, up);
        }
    }

    /// Some client does something.
    fn client_acts(&mut self) {
        let id = self.rng.usize(0..self.clients.all.len());
        let is_late = self.clients.has_waited_too_long(id, self.now);
        if self.clients.all[id].at.is_none() || is_late || self.rng.u8(0..60) == 0 {
            let sid = self.any();
            return self.come(id, sid);
        }
        let (kind, ephemeral) = (self.rng.u8(0..100), self.rng.u8(0..4) == 0);
        self.ask_for(id, |n| match kind {
            0 => What::Close,
            1..10 => What::Sync(Zxid::ZERO),
            10..20 => What::Multi { n },
            _ => What::Create { n, ephemeral },
        });
    }

    /// Runs until so.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&World) -> bool) {
        let end = self.now.after(CALM_MS);
        while !is_so(self) {
            assert!(self.now < end, "never {what}:\n{}", self.standing());
            self.step();
        }
    }

    pub fn end_faults(&mut self) {
        self.acts = false;
        self.faults = Faults::default();
        self.isolate(None);
        self.held.clear();
        for sid in self.sids() {
            self.fill_disk(sid, false);
        }
    }

    fn is_settled(&self) -> bool {
        let last = *self.truth.keys().next_back().unwrap();
        let holds_all = |node: &Node| {
            node.member.as_ref().is_some_and(|member| {
                let cursors = member.pipeline.cursors();
                let is_level = cursors.applied == last && cursors.durable == last;
                node.serves && is_level && cursors.prepared == last
            })
        };
        self.leader().is_some() && self.nodes.values().all(holds_all)
    }

    /// Everybody is up, and in time all hold one history, to which a write is added.
    pub fn calm(&mut self) {
        for sid in self.sids() {
            if !self.is_up(sid) {
                self.start(sid);
            }
        }
        let until = self.now.after(CALM_MS);
        let (mut has_written, mut since) = (0, self.now);
        while has_written < 2 || !self.is_settled() || self.now < since.after(60) {
            assert!(
                self.now < until,
                "nothing comes to an end:\n{}",
                self.standing()
            );
            self.step();
            if has_written < 2 && self.is_settled() {
                self.write();
                has_written += 1;
            }
            if !self.is_settled() {
                since = self.now;
            }
        }
        let digests = self.nodes.values().map(|node| {
            let tree = &node.member.as_ref().unwrap().tree;
            (tree.last_zxid(), tree.digest(), snapshot::root(tree))
        });
        let digests: Vec<_> = digests.collect();
        assert!(
            digests.windows(2).all(|two| two[0] == two[1]),
            "{digests:?}"
        );
        self.clients.check_history();
        let tree = &self
            .nodes
            .values()
            .next()
            .unwrap()
            .member
            .as_ref()
            .unwrap()
            .tree;
        self.clients.check_tree(tree);
    }

    fn standing(&self) -> String {
        let one = |(sid, node): (&ServerId, &Node)| {
            let member = node.member.as_ref();
            let doing = member.and_then(|m| m.peer()).map(|peer| peer.doing());
            let cursors = member.map(|member| member.pipeline.cursors());
            let works = node.work.len();
            format!(
                "{sid}: {doing:?}, serves {}, {cursors:?}, {works} under way\n",
                node.serves
            )
        };
        let nodes: String = self.nodes.iter().map(one).collect();
        format!(
            "{nodes}{:?} at {:?}, {} wires",
            self.seen,
            self.now,
            self.wires.len()
        )
    }
}

/// What a member tells its shards.
fn heard(
    node: &mut Node,
    (truth, clients): (&mut Truth, &mut Clients),
    seen: &mut Seen,
    sid: ServerId,
    down: &ToShards,
    digest: u64,
) {
    let ToShards::Txn(txn) = down else {
        return;
    };
    let header = txn.entry.header;
    let next = truth.range(node.last..).nth(1);
    let next = next.filter(|(zxid, _)| {
        let is_new = |(from, to): &(Zxid, Zxid)| *from < header.zxid && header.zxid < *to;
        **zxid <= header.zxid || !truth.between.iter().any(is_new)
    });
    match next {
        Some((zxid, known)) => {
            assert_eq!(
                (*zxid, *known),
                (header.zxid, digest),
                "{sid} applies another history"
            );
        }
        None => {
            assert!(header.zxid.can_follow(node.last), "{sid}: a gap");
            truth.insert(header.zxid, digest);
            clients.is_new(header.zxid, &txn.entry.txn);
            seen.committed += 1;
        }
    }
    node.last = header.zxid;
    let is_session = matches!(txn.entry.txn, Txn::CreateSession { .. });
    let is_driver = txn.origin.is_some_and(|origin| origin.conn.slot == 0);
    if is_driver && is_session && node.serves {
        node.session = Some((header.session, txn.generation));
    }
}
