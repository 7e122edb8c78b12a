//! An ensemble at one moment, and what can happen next. A step is a log or a record that becomes durable, a proposal, a
//! patience that ends, a fault, a member that comes back, or, on a [`Slow`] way, a packet that arrives or the end of a
//! connection that is noticed. What follows is done at once: packets leave in order and arrive where the way is fast,
//! elections speak, snapshots are read, transactions are applied, a role's log is flushed.

use super::canon::{Canon, LINKS, Print, TIME};
use super::disk::{Disk, Op};
use crate::log::Durable;
use crate::proto::Frame;
use crate::proto::peer::packet::{Split, split};
use crate::proto::peer::{
    Address, Hello, Notification, PeerState, ToLeader, ToLearner, notification,
};
use crate::types::{Epoch, ServerId, Tick, Zxid};
use crate::zab::broadcast::Heard;
use crate::zab::election::{Candidate, FINALIZE_OURS_MS, Offer};
use crate::zab::links::LinkId;
use crate::zab::peer::ensemble::disk::{Txn, end, entry, txn, upto};
use crate::zab::peer::{Beginning, Duty, Effect, Peer, RoleId, Settings};
use crate::zab::quorum::tests::majority_of;
use crate::zab::sync::{Base, History, Opening, decide};
use crate::zab::tally::Pair;
use crate::zab::verdict::{Dropped, Leave, Patience};
use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

pub const MEMBERS: usize = 3;
/// Of one packet.
pub const MAX: usize = 1 << 20;
pub const PATIENCE: Patience = Patience {
    init_ms: 400,
    sync_ms: 200,
    ping_ms: 25,
};
/// Longer than any deadline is away.
const LATER_MS: u64 = 1 << 40;
pub const DIALLER: usize = 0;
pub const ACCEPTOR: usize = 1;

/// Ways from a member to another on the quorum port, on which packets are late: each arrives whenever it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    None,
    Way(usize, usize),
    All,
}

impl Slow {
    fn is(self, from: usize, to: usize) -> bool {
        match self {
            Slow::None => false,
            Slow::Way(a, b) => (a, b) == (from, to),
            Slow::All => true,
        }
    }
}

/// What may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub proposals: u8,
    pub crashes: u8,
    /// Of the crashes, those that take the disk with them.
    pub wipes: u8,
    /// Patience that ends although something goes on.
    pub timeouts: u8,
}

/// Members are counted from 0; their ids from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first packet that is on its way to this end of a connection.
    Deliver(usize, usize),
    /// This end notices that the other one is gone.
    Notice(usize, usize),
    /// All that was appended is durable.
    Sync(usize),
    /// The record is.
    Record(usize),
    /// Nothing else goes on, and time passes for those who wait for others.
    Patience,
    /// Time passes at one member, although something goes on: everything that it waits for is overdue.
    TimeOut(usize),
    Propose(usize),
    Restart(usize),
    /// Of what was appended so much is on the disk, and the record that was being written or not.
    Crash(usize, usize, bool),
    Wipe(usize),
}

#[derive(Clone, Debug, Hash)]
pub struct Member {
    /// `None`: it is down.
    pub peer: Option<Peer>,
    pub disk: Disk,
    nothing: Offer,
    pub applied: Zxid,
    listens: bool,
    pub serving: Option<RoleId>,
    flush: Option<RoleId>,
    dial: Option<(RoleId, ServerId)>,
    pub snapshot: Option<(LinkId, Zxid)>,
    received: Vec<Txn>,
}

/// A connection of the quorum port.
#[derive(Clone, Debug)]
struct Wire {
    ends: [(usize, LinkId); 2],
    /// On the way to each end, a packet each.
    coming: [VecDeque<Rc<[u8]>>; 2],
    is_closed: [bool; 2],
}

/// What members do for each other at once on the election port.
#[derive(Clone, Copy, Debug)]
enum Talk {
    Dial(usize, ServerId),
    Hello(LinkId),
    Say(LinkId),
    Close(LinkId),
}

/// What comes to a member from the others, as it comes.
#[derive(Clone, Debug)]
pub enum Input {
    /// Election port: its dial has come up.
    Dialled(ServerId, LinkId),
    /// Election port: what a dialler says first.
    Hello(LinkId, Rc<[u8]>),
    /// Election port.
    Notification(LinkId, Rc<[u8]>),
    /// Quorum port: its dial has come up.
    Leader(LinkId),
    /// Quorum port: somebody has dialled.
    Learner(LinkId),
    /// Quorum port.
    FromLeader(LinkId, Rc<[u8]>),
    /// Quorum port.
    FromLearner(LinkId, Rc<[u8]>),
    Closed(LinkId),
}

#[derive(Clone, Debug)]
pub struct State {
    pub members: [Rc<Member>; MEMBERS],
    prints: [Option<Rc<Print>>; MEMBERS],
    now: [u64; MEMBERS],
    wires: Vec<Wire>,
    /// Connections of the election port.
    calls: Vec<[(usize, LinkId); 2]>,
    talks: VecDeque<Talk>,
    next: u64,
    /// Members that have something to do.
    busy: u8,
    /// Everything that anybody has committed.
    pub sequence: Vec<Txn>,
    /// Who has led which epoch.
    active: Vec<(Epoch, usize)>,
    pub left: Budget,
    pub slow: Slow,
    proposed: i64,
    /// A member ends at the effect that brings this to 0, with this much of what it has appended.
    pub fuse: Option<(u32, Rest)>,
    pub effects: u32,
    /// What was heard by whom, where it is asked for.
    pub transcript: Option<Vec<(usize, Input)>>,
}

/// What a crash at an effect leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// What was durable.
    Least,
    /// All that was asked for.
    Most,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, into: &mut H) {
        let prints = self.prints.each_ref().map(|print| print.as_ref().unwrap());
        prints.iter().for_each(|print| print.lanes.hash(into));
        let places =
            |ends: &[(usize, LinkId); 2]| ends.map(|(at, link)| (at, prints[at].place(link)));
        let mut wires: Vec<_> = self
            .wires
            .iter()
            .map(|wire| (places(&wire.ends), wire))
            .collect();
        wires.sort_by_key(|(places, _)| *places);
        for (places, wire) in wires {
            (places, &wire.coming, wire.is_closed).hash(into);
        }
        let mut calls: Vec<_> = self.calls.iter().map(places).collect();
        calls.sort();
        (calls, &self.sequence, &self.active, self.left).hash(into);
    }
}

pub fn sid(member: usize) -> ServerId {
    ServerId(member as i64 + 1)
}

fn place(of: ServerId) -> usize {
    usize::try_from(of.0 - 1).unwrap()
}

impl Member {
    /// Nothing runs.
    fn down(disk: Disk, nothing: Offer) -> Member {
        Member {
            peer: None,
            disk,
            nothing,
            applied: Zxid::ZERO,
            listens: false,
            serving: None,
            flush: None,
            dial: None,
            snapshot: None,
            received: Vec::new(),
        }
    }
}

impl State {
    /// All are down, and have nothing; `is_new`: not even the knowledge that they have forgotten nothing.
    pub fn new(is_new: bool, left: Budget) -> State {
        let disk = match is_new {
            true => Disk::default(),
            false => Disk::whole(),
        };
        let member = Member::down(disk, Offer::FRESH);
        State {
            members: [(); MEMBERS].map(|()| Rc::new(member.clone())),
            prints: [const { None }; MEMBERS],
            now: [TIME; MEMBERS],
            wires: Vec::new(),
            calls: Vec::new(),
            talks: VecDeque::new(),
            next: LINKS,
            busy: 0,
            sequence: Vec::new(),
            active: Vec::new(),
            left,
            slow: Slow::All,
            proposed: 0,
            fuse: None,
            effects: 0,
            transcript: None,
        }
    }

    /// What tells it from others.
    pub fn number(&mut self) -> u128 {
        for (print, member) in self.prints.iter_mut().zip(&self.members) {
            if print.is_none() {
                let mut canon = Canon::new();
                member.hash(&mut canon);
                *print = Some(Rc::new(canon.print()));
            }
        }
        let mut canon = Canon::new();
        self.hash(&mut canon);
        canon.number()
    }

    /// At a member.
    pub fn now(&self, n: usize) -> Tick {
        Tick(self.now[n])
    }

    // What can happen.

    /// What arrives, on ways that are slow or on the others.
    fn arrivals(&self, is_slow: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for (n, wire) in self.wires.iter().enumerate() {
            for at in [DIALLER, ACCEPTOR] {
                let (from, to) = (wire.ends[1 - at].0, wire.ends[at].0);
                if wire.is_closed[at] || self.slow.is(from, to) != is_slow {
                } else if wire.is_closed[1 - at] {
                    steps.push(Step::Notice(n, at));
                } else if !wire.coming[at].is_empty() {
                    steps.push(Step::Deliver(n, at));
                }
            }
        }
        steps
    }

    /// What goes on by itself.
    pub fn progress(&self) -> Vec<Step> {
        let mut steps = self.arrivals(true);
        for (n, member) in self.members.iter().enumerate() {
            if member.peer.is_some() && !member.disk.pending.is_empty() {
                steps.push(Step::Sync(n));
            }
            if member.peer.is_some() && member.disk.writing.is_some() {
                steps.push(Step::Record(n));
            }
        }
        steps
    }

    /// Who waits for others, and would wait for ever if nothing happens; those first who wait least.
    pub fn waiting(&self) -> Vec<usize> {
        let waits = |n: &usize| self.members[*n].peer.is_some() && !self.is_served(*n);
        let mut waiting: Vec<usize> = (0..MEMBERS).filter(waits).collect();
        waiting.sort_by_key(|n| match self.members[*n].peer.as_ref().map(Peer::doing) {
            Some(PeerState::Leading) => 0,
            Some(PeerState::Looking) => 1,
            _ => 2,
        });
        waiting
    }

    /// What goes on when nothing else does.
    pub fn patience(&self) -> Vec<Step> {
        let waits = !self.waiting().is_empty();
        waits.then_some(Step::Patience).into_iter().collect()
    }

    /// It serves, and hears of whom it needs.
    fn is_served(&self, n: usize) -> bool {
        let member = &self.members[n];
        let is_open =
            |wire: &&Wire| wire.is_closed == [false; 2] && wire.ends.iter().any(|(at, _)| *at == n);
        let is_quorum = self.wires.iter().filter(is_open).count() >= MEMBERS / 2;
        member.serving.is_some() && is_quorum
    }

    /// Everybody is up, and nothing goes on by itself.
    pub fn is_at_rest(&self) -> bool {
        let steps = [self.progress(), self.patience(), self.restarts()];
        steps.iter().all(Vec::is_empty)
    }

    pub fn restarts(&self) -> Vec<Step> {
        let members = self.members.iter().enumerate();
        let down = members.filter(|(_, member)| member.peer.is_none());
        down.map(|(n, _)| Step::Restart(n)).collect()
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |member: &Rc<Member>| {
            let peer = member.peer.as_ref();
            member.serving.is_some() && peer.is_some_and(|peer| peer.leading().is_some())
        };
        self.members.iter().position(leads)
    }

    pub fn proposals(&self) -> Vec<Step> {
        let members = self.members.iter().enumerate();
        let leads = |(_, member): &(usize, &Rc<Member>)| {
            let peer = member.peer.as_ref();
            member.serving.is_some() && peer.is_some_and(|peer| peer.leading().is_some())
        };
        let leaders = members.filter(|_| self.left.proposals > 0).filter(leads);
        leaders.map(|(n, _)| Step::Propose(n)).collect()
    }

    /// Everything.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = self.progress();
        if steps.is_empty() {
            steps = self.patience();
        }
        steps.extend(self.restarts());
        steps.extend(self.proposals());
        for (n, member) in self.members.iter().enumerate() {
            if member.peer.is_none() {
                continue;
            }
            if self.left.crashes > 0 {
                for kept in 0..=member.disk.pending.len() {
                    steps.push(Step::Crash(n, kept, false));
                    if member.disk.writing.is_some() {
                        steps.push(Step::Crash(n, kept, true));
                    }
                }
                if self.left.wipes > 0 {
                    steps.push(Step::Wipe(n));
                }
            }
            if self.left.timeouts > 0 {
                steps.push(Step::TimeOut(n));
            }
        }
        steps
    }

    /// It happens, with all that members do for it.
    pub fn take(&mut self, step: Step) {
        self.happens(step);
        while let Some(arrival) = self.arrivals(false).first() {
            self.happens(*arrival);
        }
    }

    fn happens(&mut self, step: Step) {
        match step {
            Step::Deliver(wire, at) => self.deliver(wire, at),
            Step::Notice(wire, at) => {
                let (n, link) = self.wires[wire].ends[at];
                self.wires.remove(wire);
                self.note(n, || Input::Closed(link));
                self.tell(n, |peer, now| peer.closed(link, now));
            }
            Step::Sync(n) => {
                let disk = &mut self.member(n).disk;
                let (adoption, log) = (disk.sync(), disk.log_end());
                self.tell(n, |peer, now| {
                    if let Some(adoption) = &adoption {
                        peer.adopted(adoption, now);
                    }
                    peer.durable(&log, now);
                });
            }
            Step::Record(n) => {
                if let Some(record) = self.member(n).disk.write() {
                    self.tell(n, |peer, now| peer.recorded(Durable::played(record), now));
                }
            }
            Step::Patience => {
                for n in self.waiting() {
                    if self.progress().is_empty() && self.arrivals(false).is_empty() {
                        self.time_out(n);
                        self.work();
                    }
                }
            }
            Step::TimeOut(n) => {
                self.left.timeouts -= 1;
                self.time_out(n);
            }
            Step::Propose(n) => self.propose(n),
            Step::Restart(n) => self.start(n),
            Step::Crash(n, kept, is_written) => {
                self.left.crashes -= 1;
                self.crash(n, kept, is_written);
            }
            Step::Wipe(n) => {
                self.left.crashes -= 1;
                self.left.wipes -= 1;
                self.crash(n, 0, false);
                self.member(n).disk = Disk::default();
            }
        }
        self.work();
        self.is_safe();
    }

    // What is checked.

    /// All that this member holds up to here is committed.
    fn commits(&mut self, n: usize, zxid: Zxid) {
        let disk = &mut Rc::make_mut(&mut self.members[n]).disk;
        let history = upto(&disk.logged.history, zxid);
        assert_eq!(
            end(history),
            zxid,
            "{} commits what it does not have",
            sid(n)
        );
        let common = history.len().min(self.sequence.len());
        let same = history[..common] == self.sequence[..common];
        assert!(same, "{} commits another history than others", sid(n));
        self.sequence.extend_from_slice(&history[common..]);
        assert!(disk.committed <= zxid, "{} goes back", sid(n));
        disk.committed = zxid;
    }

    fn serves(&mut self, n: usize, role: RoleId, duty: Duty) {
        let member = self.member(n);
        assert_eq!(member.serving, None, "{} serves twice", sid(n));
        assert_eq!(
            member.applied,
            member.disk.committed,
            "{} serves too early",
            sid(n)
        );
        member.serving = Some(role);
        let Duty::Leader(epoch) = duty else {
            return;
        };
        let has_all = self.members[n].disk.logged.history == self.sequence;
        assert!(has_all, "{} leads without what is committed", sid(n));
        let other = self.active.iter().find(|(of, _)| *of == epoch);
        assert_eq!(other, None, "{} leads in epoch {epoch} too", sid(n));
        self.active.push((epoch, n));
    }

    /// What is committed is durable wherever a quorum could come about without it, and a currentEpoch stands for a
    /// history that is there.
    fn is_safe(&self) {
        for (n, member) in self.members.iter().enumerate() {
            let adopted = member
                .disk
                .durable
                .adopted
                .map_or(Epoch(0), |(epoch, _)| epoch);
            let current = member.disk.record.current;
            assert!(
                current <= adopted,
                "{} has no history of epoch {current}",
                sid(n)
            );
        }
        let lacks = |member: &&Rc<Member>| {
            let disk = &member.disk;
            disk.record.is_whole && !disk.durable.history.starts_with(&self.sequence)
        };
        let lacking = self.members.iter().filter(lacks).count();
        assert!(
            2 * lacking < MEMBERS,
            "{lacking} lack what is committed: {}",
            self.report()
        );
    }

    /// Nobody lies here.
    fn may_leave(n: usize, why: Leave) {
        assert!(!why.is_a_fault(), "{}: {why:?}", sid(n));
    }

    fn may_drop(n: usize, why: Dropped) {
        assert!(!why.is_a_fault(), "{}: {why:?}", sid(n));
    }

    /// Everybody who is up serves, one leads, and all hold the same, which is committed.
    pub fn is_settled(&self) -> bool {
        let up: Vec<_> = self
            .members
            .iter()
            .filter(|member| member.peer.is_some())
            .collect();
        let holds = |member: &&Rc<Member>| {
            let disk = &member.disk;
            let history = &disk.durable.history;
            let is_all = *history == self.sequence && disk.committed == end(history);
            member.serving.is_some() && disk.record.is_whole && is_all
        };
        let leads = |member: &&&Rc<Member>| {
            let peer = member.peer.as_ref();
            peer.is_some_and(|peer| peer.doing() == PeerState::Leading)
        };
        up.iter().all(holds) && up.iter().filter(leads).count() == 1
    }

    pub fn report(&self) -> String {
        let one = |(n, member): (usize, &Rc<Member>)| {
            let (disk, doing) = (&member.disk, member.peer.as_ref().map(Peer::doing));
            format!(
                "{}: {doing:?}, serves {:?}, committed {:?}, log {:?}, durable {:?}, {:?}\n",
                sid(n),
                member.serving,
                disk.committed,
                disk.logged.history,
                disk.durable.history,
                disk.record,
            )
        };
        let members: String = self.members.iter().enumerate().map(one).collect();
        format!(
            "{members}committed {:?}, active {:?}",
            self.sequence, self.active
        )
    }

    // The drivers.

    fn member(&mut self, n: usize) -> &mut Member {
        self.prints[n] = None;
        Rc::make_mut(&mut self.members[n])
    }

    fn link(&mut self) -> LinkId {
        self.next += 1;
        LinkId(self.next)
    }

    /// Tells a member something.
    fn tell<R>(&mut self, n: usize, what: impl FnOnce(&mut Peer, Tick) -> R) -> Option<R> {
        self.busy |= 1 << n;
        let now = Tick(self.now[n]);
        Some(what(self.member(n).peer.as_mut()?, now))
    }

    fn note(&mut self, n: usize, heard: impl FnOnce() -> Input) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push((n, heard()));
        }
    }

    fn work(&mut self) {
        loop {
            while self.busy != 0 {
                let n = self.busy.trailing_zeros() as usize;
                self.busy &= !(1 << n);
                self.work_of(n);
            }
            if let Some(talk) = self.talks.pop_front() {
                self.talk(talk);
            } else if !self.connect() {
                return;
            }
        }
    }

    fn work_of(&mut self, n: usize) {
        while let Some(effect) = self.member(n).peer.as_mut().and_then(Peer::poll) {
            self.do_effect(n, effect);
            self.effects += 1;
            if let Some((left, rest)) = &mut self.fuse {
                *left -= 1;
                if *left == 0 {
                    let is_all = *rest == Rest::Most;
                    self.fuse = None;
                    let kept = if is_all { usize::MAX } else { 0 };
                    return self.crash(n, kept, is_all);
                }
            }
        }
        let member = self.member(n);
        let committed = member.disk.committed;
        if member.applied < committed && member.peer.is_some() {
            member.applied = committed;
            self.tell(n, |peer, now| peer.applied(committed, now));
        }
        if let Some(role) = self.member(n).flush.take() {
            let disk = &mut self.member(n).disk;
            disk.flush();
            let log = disk.log_end();
            self.tell(n, |peer, now| peer.flushed(role, log, now));
        }
        for wire in 0..self.wires.len() {
            self.fetch(n, wire);
        }
    }

    /// What a leader has for a learner leaves.
    fn fetch(&mut self, n: usize, wire: usize) {
        let Wire {
            ends, is_closed, ..
        } = &self.wires[wire];
        let (at, link) = ends[ACCEPTOR];
        if at != n || is_closed[ACCEPTOR] {
            return;
        }
        loop {
            let mut bytes = Vec::new();
            let now = Tick(self.now[n]);
            if let Some(peer) = &mut self.member(n).peer {
                peer.fetch(link, 1, now, &mut bytes);
            }
            if bytes.is_empty() {
                return;
            }
            self.send(link, &bytes);
        }
    }

    fn do_effect(&mut self, n: usize, effect: Effect) {
        match effect {
            Effect::Dial { to, .. } => self.talks.push_back(Talk::Dial(n, to)),
            Effect::SayHello(link) => self.talks.push_back(Talk::Hello(link)),
            Effect::Notify(link) => self.talks.push_back(Talk::Say(link)),
            Effect::DialLeader { role, leader } => self.member(n).dial = Some((role, leader)),
            Effect::Listen(listens) => self.member(n).listens = listens,
            Effect::Send(link, bytes) => self.send(link, &bytes),
            Effect::Close(link, why) => {
                why.into_iter().for_each(|why| State::may_drop(n, why));
                self.talks.push_back(Talk::Close(link));
                self.hang_up(n, link);
            }
            Effect::ReadSnapshot { link, zxid } => {
                self.member(n).snapshot = Some((link, zxid));
            }
            Effect::Synchronise { link, last, .. } => self.synchronise(n, link, last),
            Effect::Record { epochs, .. } => {
                let writing = self.member(n).disk.writing.replace(epochs);
                assert_eq!(writing, None, "{}: two records at a time", sid(n));
            }
            Effect::Open(base) => {
                let member = self.member(n);
                let base = match base {
                    Base::Log(zxid) => {
                        let kept = upto(&member.disk.logged.history, zxid).to_vec();
                        assert_eq!(end(&kept), zxid, "{} was never there", sid(n));
                        kept
                    }
                    Base::Snapshot(_) => std::mem::take(&mut member.received),
                };
                member.disk.push(Op::Open(base));
            }
            Effect::Append { zxid, entry } => {
                self.member(n).disk.push(Op::Entry(txn(zxid, &entry)));
            }
            Effect::Adopt(epoch) => self.member(n).disk.push(Op::Close(epoch)),
            Effect::Commit(decided) => self.commits(n, decided.zxid()),
            Effect::Serve(role, duty) => self.serves(n, role, duty),
            Effect::Synced(_) | Effect::Revalidated { .. } | Effect::Activate(..) => {}
            Effect::StopServing(_) => self.member(n).serving = None,
            Effect::Left(_, why) => State::may_leave(n, why),
            Effect::Flush(role) => {
                let member = self.member(n);
                member.dial = None;
                member.snapshot = None;
                member.flush = Some(role);
            }
        }
    }

    fn start(&mut self, n: usize) {
        let settings = Settings {
            candidate: Candidate {
                sid: sid(n),
                is_observer: false,
                finalize_ms: FINALIZE_OURS_MS,
            },
            patience: PATIENCE,
            pair: Pair::of(majority_of(1..=MEMBERS as i64)),
            observers: BTreeSet::new(),
            config: Arc::from(&b"v"[..]),
        };
        let now = Tick(self.now[n]);
        let member = self.member(n);
        let beginning = Beginning {
            record: Durable::played(member.disk.record),
            end: member.disk.log_end(),
            nothing: member.nothing,
            committed: member.disk.committed,
        };
        member.applied = member.disk.committed;
        member.peer = Some(Peer::begin(settings, beginning, now));
        self.busy |= 1 << n;
    }

    /// What was on its way from it or to it is lost. Nothing more of it need be tried: who is to get some of it gets it
    /// before the crash.
    fn crash(&mut self, n: usize, kept: usize, is_written: bool) {
        let member = self.member(n);
        member.disk.crash(kept, is_written);
        *member = Member::down(std::mem::take(&mut member.disk), member.nothing);
        let links = self.wires.iter().flat_map(|wire| wire.ends);
        let links: Vec<LinkId> = links
            .filter(|(at, _)| *at == n)
            .map(|(_, link)| link)
            .collect();
        links.into_iter().for_each(|link| self.hang_up(n, link));
        let calls = self.calls.iter().flatten();
        let calls: Vec<LinkId> = calls
            .filter(|(at, _)| *at == n)
            .map(|(_, link)| *link)
            .collect();
        self.talks.extend(calls.into_iter().map(Talk::Close));
    }

    fn time_out(&mut self, n: usize) {
        self.now[n] += LATER_MS;
        self.member(n).dial = None;
        self.tell(n, Peer::tick);
    }

    fn propose(&mut self, n: usize) {
        let next = |peer: &mut Peer, _| peer.leading().and_then(|leading| leading.next());
        let Some(zxid) = self.tell(n, next).flatten() else {
            return;
        };
        self.left.proposals -= 1;
        self.proposed += 1;
        let txn = (zxid, self.proposed);
        self.tell(n, |peer, now| peer.propose(zxid, &entry(txn), now));
        self.member(n).disk.push(Op::Entry(txn));
    }

    // The election port.

    fn call(&self, link: LinkId) -> Option<((usize, LinkId), (usize, LinkId))> {
        self.calls.iter().find_map(|[a, b]| match link {
            _ if a.1 == link => Some((*a, *b)),
            _ if b.1 == link => Some((*b, *a)),
            _ => None,
        })
    }

    fn talk(&mut self, talk: Talk) {
        match talk {
            Talk::Dial(from, to) => {
                if self.members[place(to)].peer.is_some() {
                    let [mine, theirs] = [self.link(), self.link()];
                    self.calls.push([(from, mine), (place(to), theirs)]);
                    self.note(from, || Input::Dialled(to, mine));
                    self.tell(from, |peer, now| peer.dialled(to, mine, now));
                } else {
                    self.tell(from, |peer, now| peer.dial_failed(to, now));
                }
            }
            Talk::Hello(link) => {
                if let Some(((from, _), (to, link))) = self.call(link) {
                    let address = Address::new("10.0.0.1", 3888).unwrap();
                    let hello = Hello::encode(sid(from), &[address], false).unwrap();
                    self.note(to, || Input::Hello(link, Rc::from(&hello[..])));
                    let (hello, _) = Hello::split(&hello).unwrap().unwrap();
                    self.tell(to, |peer, now| peer.accepted(link, hello, now));
                }
            }
            Talk::Say(link) => {
                let Some(((from, _), (to, theirs))) = self.call(link) else {
                    return;
                };
                let mut bytes = Vec::new();
                self.tell(from, |peer, _| peer.notification(link, &mut bytes));
                if let Frame::Whole(payload, _) = notification::split(&bytes) {
                    let said = Notification::decode(payload).unwrap();
                    self.note(to, || Input::Notification(theirs, Rc::from(&bytes[..])));
                    self.tell(to, |peer, now| peer.notified(theirs, &said, now));
                }
            }
            Talk::Close(link) => {
                if let Some((_, (to, theirs))) = self.call(link) {
                    self.calls.retain(|[a, b]| a.1 != link && b.1 != link);
                    self.note(to, || Input::Closed(theirs));
                    self.tell(to, |peer, now| peer.closed(theirs, now));
                }
            }
        }
    }

    // The quorum port.

    /// Who waits for its leader is connected when that one listens.
    fn connect(&mut self) -> bool {
        let dials = self.members.iter().map(|member| member.dial).enumerate();
        let listens = |leader: ServerId| self.members[place(leader)].listens;
        let mut ready = dials.filter_map(|(n, dial)| Some((n, dial?)));
        let Some((n, (role, leader))) = ready.find(|(_, (_, leader))| listens(*leader)) else {
            return false;
        };
        let [mine, theirs] = [self.link(), self.link()];
        self.wires.push(Wire {
            ends: [(n, mine), (place(leader), theirs)],
            coming: [VecDeque::new(), VecDeque::new()],
            is_closed: [false; 2],
        });
        self.member(n).dial = None;
        self.note(place(leader), || Input::Learner(theirs));
        self.note(n, || Input::Leader(mine));
        self.tell(place(leader), |peer, now| {
            peer.learner_connected(theirs, now)
        });
        self.tell(n, |peer, now| peer.leader_dialled(role, mine, now));
        true
    }

    fn send(&mut self, link: LinkId, mut bytes: &[u8]) {
        let end = |wire: &Wire| wire.ends.iter().position(|(_, of)| *of == link);
        let mut wires = self.wires.iter_mut();
        let Some((wire, at)) = wires.find_map(|wire| end(wire).map(|at| (wire, at))) else {
            return;
        };
        if wire.is_closed != [false; 2] {
            return;
        }
        while let Ok(Split::Whole(_, used)) = split(bytes, MAX) {
            wire.coming[1 - at].push_back(Rc::from(&bytes[..used]));
            bytes = &bytes[used..];
        }
        assert!(bytes.is_empty(), "whole packets");
    }

    /// What is on its way is lost: who is to get some of it gets it before.
    fn hang_up(&mut self, n: usize, link: LinkId) {
        for wire in &mut self.wires {
            if let Some(at) = wire.ends.iter().position(|(_, of)| *of == link) {
                assert_eq!(wire.ends[at].0, n, "a connection of another");
                wire.is_closed[at] = true;
                wire.coming = [VecDeque::new(), VecDeque::new()];
            }
        }
        self.wires.retain(|wire| wire.is_closed != [true; 2]);
    }

    fn synchronise(&mut self, n: usize, link: LinkId, last: Zxid) {
        let member = &self.members[n];
        let peer = member.peer.as_ref().unwrap();
        let committed = peer.leading().unwrap().committed();
        let txns = upto(&member.disk.logged.history, committed).to_vec();
        let mut history = History::new(Zxid::ZERO);
        txns.iter().for_each(|(zxid, _)| history.extend(*zxid));
        let opening = decide(last, &history, false);
        let base = match opening {
            Opening::Diff { base } | Opening::Trunc { base } => base,
            Opening::Snap => end(&txns),
        };
        let mut bytes = Vec::new();
        opening.packet(history.end(), base).encode_into(&mut bytes);
        self.send(link, &bytes);
        if opening == Opening::Snap {
            let snapshot = txns.iter().flat_map(|(zxid, tag)| [zxid.0, *tag]);
            let bytes: Vec<u8> = snapshot.flat_map(i64::to_be_bytes).collect();
            let of_link = |wire: &&mut Wire| wire.ends[ACCEPTOR].1 == link;
            if let Some(wire) = self.wires.iter_mut().find(of_link) {
                wire.coming[DIALLER].push_back(bytes.into());
            }
        }
        let mut bytes = Vec::new();
        for txn in txns.iter().filter(|(zxid, _)| *zxid > base) {
            let (zxid, entry) = (txn.0, &entry(*txn));
            ToLearner::Proposal { zxid, entry }.encode_into(&mut bytes);
            ToLearner::Commit(zxid).encode_into(&mut bytes);
        }
        self.send(link, &bytes);
        let attached = self.tell(n, |peer, now| peer.attach(link, end(&txns), now));
        assert_eq!(attached, Some(Ok(())));
    }

    fn deliver(&mut self, wire: usize, at: usize) {
        let (n, link) = self.wires[wire].ends[at];
        let Some(bytes) = self.wires[wire].coming[at].pop_front() else {
            return;
        };
        self.note(n, || match at {
            DIALLER => Input::FromLeader(link, bytes.clone()),
            _ => Input::FromLearner(link, bytes.clone()),
        });
        if at == DIALLER && self.members[n].snapshot.is_some_and(|(of, _)| of == link) {
            let numbers = bytes
                .chunks_exact(8)
                .map(|chunk| i64::from_be_bytes(chunk.try_into().unwrap()));
            let numbers: Vec<i64> = numbers.collect();
            let member = self.member(n);
            member.received = numbers
                .chunks_exact(2)
                .map(|txn| (Zxid(txn[0]), txn[1]))
                .collect();
            member.snapshot = None;
            self.tell(n, |peer, now| peer.snapshot_received(link, now));
            return;
        }
        let Ok(Split::Whole(packet, _)) = split(&bytes, MAX) else {
            panic!("a whole packet");
        };
        if at == DIALLER {
            let packet = ToLearner::decode(&packet).unwrap();
            self.tell(n, |peer, now| peer.from_leader(link, &packet, now));
            return;
        }
        let packet = ToLeader::decode(&packet).unwrap();
        let heard = self.tell(n, |peer, now| peer.from_learner(link, &packet, now));
        if let Some(Heard::Request(_)) = heard {
            // A sync: nothing else is passed on here.
            self.tell(n, |peer, now| peer.sync_of(link, now));
        }
    }
}
