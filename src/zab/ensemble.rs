//! Whole ensembles of leaders and learners: whoever is idle may lead or follow whoever leads, several at a time. All
//! packets go through the codec, over connections that break at any byte and of which any may be the next to deliver;
//! what is written becomes durable at any later time, up to any place; members crash, and lose what was not durable,
//! or all. Elections are not played: safety does not rest on them, and here anybody leads at any time, which elections
//! seldom bring about. How a member puts its parts together is played here too; the model in `peer/ensemble/` has neither
//! liberty.
//!
//! What is checked at every step: all members commit one sequence; a leader that becomes active has all of it; one
//! server is active in an epoch; a sync covers what anybody had committed when it came; an answer about a session
//! comes behind what was ordered before it. At the end of each run the faults cease, the best history leads, and
//! everybody comes to hold the same.

use super::*;
use crate::log::{Adoption, Durable, Epochs, LogEnd};
use crate::proto::peer::packet::{Split, split};
use crate::proto::peer::{ToLeader, ToLearner};
use crate::types::{Epoch, OpCode, Position, ServerId, SessionId, Tick, Zxid};
use crate::zab::quorum::tests::majority_of;
use fastrand::Rng;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const MAX: usize = 1 << 20;
const PATIENCE: Patience = Patience {
    init_ms: 600,
    sync_ms: 300,
    ping_ms: 25,
};

/// One transaction; the second number is unlike that of any other.
type Txn = (Zxid, i64);

fn entry((zxid, tag): Txn) -> Vec<u8> {
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(zxid.0.to_be_bytes());
    bytes.extend([0; 12]);
    bytes
}

fn txn(zxid: Zxid, entry: &[u8]) -> Txn {
    (zxid, i64::from_be_bytes(entry[..8].try_into().unwrap()))
}

fn upto(history: &[Txn], end: Zxid) -> Vec<Txn> {
    let within = history.iter().filter(|(zxid, _)| *zxid <= end);
    within.copied().collect()
}

fn end(history: &[Txn]) -> Zxid {
    history.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid)
}

// Disks.

#[derive(Clone, Debug)]
enum Op {
    Open(Vec<Txn>),
    Entry(Txn),
    Close(Epoch),
}

#[derive(Clone, Debug, Default)]
struct Disk {
    ops: Vec<Op>,
    /// So many are durable.
    synced: usize,
    record: Epochs,
    writing: Option<Epochs>,
    committed: Zxid,
    committed_on_disk: Zxid,
}

impl Disk {
    fn whole() -> Disk {
        let mut disk = Disk::default();
        disk.record.is_whole = true;
        disk
    }

    /// What a synchronisation that is not closed has brought does not count.
    fn history_at(&self, ops: usize) -> Vec<Txn> {
        let mut history = Vec::new();
        let mut open: Option<Vec<Txn>> = None;
        for op in &self.ops[..ops] {
            match op {
                Op::Open(base) => open = Some(base.clone()),
                Op::Entry(txn) => open.as_mut().unwrap_or(&mut history).push(*txn),
                Op::Close(_) => history = open.take().unwrap(),
            }
        }
        history
    }

    fn history(&self) -> Vec<Txn> {
        self.history_at(self.ops.len())
    }

    fn log_end(&self) -> Durable<LogEnd> {
        Durable::played(LogEnd {
            position: Position(self.synced as u64),
            zxid: end(&self.history_at(self.synced)),
        })
    }

    /// The newest synchronisation that is durable.
    fn adoption(&self) -> Option<Durable<Adoption>> {
        let at = self.ops[..self.synced]
            .iter()
            .rposition(|op| matches!(op, Op::Close(_)))?;
        let Op::Close(epoch) = self.ops[at] else {
            unreachable!()
        };
        Some(Durable::played(Adoption {
            epoch,
            end: LogEnd {
                position: Position(at as u64 + 1),
                zxid: end(&self.history_at(at + 1)),
            },
        }))
    }

    fn sync_to(&mut self, ops: usize) {
        self.synced = ops;
        let end = end(&self.history_at(ops));
        self.committed_on_disk = self.committed_on_disk.max(self.committed.min(end));
    }

    fn crash(&mut self, rng: &mut Rng) {
        let left = rng.usize(self.synced..=self.ops.len());
        self.ops.truncate(left);
        self.synced = left;
        if let Some(writing) = self.writing.take()
            && rng.bool()
        {
            self.write(writing);
        }
        self.committed = self.committed_on_disk;
    }

    fn write(&mut self, record: Epochs) {
        assert!(record.accepted >= self.record.accepted && record.current >= self.record.current);
        assert!(record.is_whole >= self.record.is_whole);
        self.record = record;
    }

    fn offer(&self) -> Offer {
        match self.record.is_whole {
            true => Offer::of(self.record.current, &self.log_end()),
            false => Offer::FRESH,
        }
    }
}

// Roles.

struct Job {
    link: LinkId,
    base: Zxid,
}

struct Lead {
    discovery: Discovery,
    broadcast: Option<Broadcast>,
    jobs: Vec<Job>,
    syncs: BTreeMap<u64, usize>,
}

enum Part {
    Introduction(Introduction),
    Stream(Box<Stream>),
    Follow(Box<Follow>),
}

struct Learn {
    link: LinkId,
    part: Part,
    /// Of this state; the bytes come raw.
    snapshot: Option<Zxid>,
    received: Vec<Txn>,
    syncs: BTreeMap<u64, usize>,
}

enum Role {
    Down,
    Idle,
    Leading(Box<Lead>),
    Learning(Box<Learn>),
}

struct Member {
    disk: Disk,
    role: Role,
    wants_snapshot: bool,
    is_observer: bool,
}

struct Link {
    learner: ServerId,
    leader: ServerId,
    to_leader: VecDeque<u8>,
    to_learner: VecDeque<u8>,
    leader_has: Vec<u8>,
    learner_has: Vec<u8>,
    /// Nothing is delivered any more.
    is_broken: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// For each step.
    breaks: f64,
    crashes: f64,
    wipes: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    active: usize,
    committed: usize,
    diffs: usize,
    truncs: usize,
    snaps: usize,
    synced: usize,
    ahead: usize,
    recommitted: usize,
    made_whole: usize,
}

struct World {
    rng: Rng,
    now: Tick,
    pair: Pair,
    faults: Faults,
    members: BTreeMap<ServerId, Member>,
    links: BTreeMap<LinkId, Link>,
    next: u64,
    /// Everything that anybody has committed.
    sequence: Vec<Txn>,
    active: BTreeMap<Epoch, ServerId>,
    /// What was proposed when the leader heard of a session.
    asked: BTreeMap<SessionId, Zxid>,
    seen: Seen,
}

impl World {
    fn new(seed: u64, voters: i64, observers: i64, faults: Faults) -> World {
        let member = |sid| Member {
            disk: Disk::whole(),
            role: Role::Idle,
            wants_snapshot: false,
            is_observer: sid > voters,
        };
        World {
            rng: Rng::with_seed(seed),
            now: Tick(0),
            pair: Pair::of(majority_of(1..=voters)),
            faults,
            members: (1..=voters + observers)
                .map(|sid| (ServerId(sid), member(sid)))
                .collect(),
            links: BTreeMap::new(),
            next: 0,
            sequence: Vec::new(),
            active: BTreeMap::new(),
            asked: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn member(&mut self, sid: ServerId) -> &mut Member {
        self.members.get_mut(&sid).unwrap()
    }

    fn any_member(&mut self) -> ServerId {
        let n = self.rng.usize(0..self.members.len());
        *self.members.keys().nth(n).unwrap()
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let n = self.rng.usize(0..self.links.len().max(1));
        self.links.keys().nth(n).copied()
    }

    fn leaders(&self) -> Vec<ServerId> {
        let leads = |(_, member): &(&ServerId, &Member)| matches!(member.role, Role::Leading(_));
        self.members
            .iter()
            .filter(leads)
            .map(|(sid, _)| *sid)
            .collect()
    }

    // What is checked.

    /// All that this member holds up to here is committed.
    fn commits(&mut self, sid: ServerId, zxid: Zxid) {
        let history = self.members[&sid].disk.history();
        let history = upto(&history, zxid);
        assert_eq!(end(&history), zxid, "{sid} commits what it does not have");
        let common = history.len().min(self.sequence.len());
        assert_eq!(
            history[..common],
            self.sequence[..common],
            "{sid} commits another history"
        );
        self.seen.committed += history.len() - common;
        self.seen.recommitted += usize::from(history.len() <= common);
        self.sequence.extend_from_slice(&history[common..]);
        let disk = &mut self.member(sid).disk;
        assert!(disk.committed <= zxid, "{sid} goes back");
        disk.committed = zxid;
    }

    fn activates(&mut self, sid: ServerId, epoch: Epoch, history: Zxid) {
        let other = self.active.insert(epoch, sid);
        assert_eq!(other, None, "two leaders in epoch {epoch}");
        assert!(
            history >= end(&self.sequence),
            "{sid} leads without {:?}",
            end(&self.sequence)
        );
        self.seen.active += 1;
        self.commits(sid, history);
    }

    // Roles begin and end.

    fn lead(&mut self, sid: ServerId) {
        let (pair, now) = (self.pair.clone(), self.now);
        let member = self.member(sid);
        let disk = &member.disk;
        let record = Durable::played(disk.record);
        if member.is_observer {
            return;
        }
        if let Ok(discovery) = Discovery::begin(sid, disk.offer(), &record, &pair, PATIENCE, now) {
            let lead = Lead {
                discovery,
                broadcast: None,
                jobs: Vec::new(),
                syncs: BTreeMap::new(),
            };
            member.role = Role::Leading(Box::new(lead));
            self.do_leader(sid);
        }
    }

    fn follow(&mut self, sid: ServerId, leader: ServerId) {
        let link = LinkId(self.number());
        let now = self.now;
        let member = self.member(sid);
        let who = Newcomer {
            sid,
            is_observer: member.is_observer,
            config_version: Zxid::ZERO,
            offer: member.disk.offer(),
            committed: member.disk.committed,
            wants_snapshot: std::mem::take(&mut member.wants_snapshot),
        };
        let record = Durable::played(member.disk.record);
        let (introduction, packet) = Introduction::begin(who, &record, PATIENCE, now);
        member.role = Role::Learning(Box::new(Learn {
            link,
            part: Part::Introduction(introduction),
            snapshot: None,
            received: Vec::new(),
            syncs: BTreeMap::new(),
        }));
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        self.links.insert(
            link,
            Link {
                learner: sid,
                leader,
                to_leader: bytes.into(),
                to_learner: VecDeque::new(),
                leader_has: Vec::new(),
                learner_has: Vec::new(),
                is_broken: false,
            },
        );
        let Role::Leading(lead) = &mut self.member(leader).role else {
            unreachable!()
        };
        lead.discovery.connected(link, now);
    }

    /// What was appended is made durable, then the member votes again.
    fn leave(&mut self, sid: ServerId, why: Option<Leave>) {
        let member = self.member(sid);
        let ops = member.disk.ops.len();
        member.disk.sync_to(ops);
        if let Some(writing) = member.disk.writing.take() {
            member.disk.write(writing);
        }
        member.role = Role::Idle;
        if let Some(Leave::NoBase(_) | Leave::Forgets { .. } | Leave::TooMuch) = why {
            member.wants_snapshot = true;
        }
        match why {
            Some(Leave::Gap { .. } | Leave::Commit(_) | Leave::Unexpected(_)) => {
                panic!("{sid}: nobody lies: {why:?}")
            }
            Some(Leave::Forgets { .. }) => panic!("{sid}: a leader lacks it: {why:?}"),
            _ => {}
        }
        self.hang_up(sid);
    }

    fn crash(&mut self, sid: ServerId, is_wiped: bool) {
        let mut rng = self.rng.fork();
        let member = self.member(sid);
        member.role = Role::Down;
        member.disk.crash(&mut rng);
        if is_wiped {
            member.disk = Disk::default();
        }
        self.hang_up(sid);
    }

    /// The other ends hear of it at any later time.
    fn hang_up(&mut self, sid: ServerId) {
        for link in self.links.values_mut() {
            link.is_broken |= link.learner == sid || link.leader == sid;
        }
    }

    fn hears_of_the_end(&mut self, link: LinkId) {
        let Some(Link {
            learner, leader, ..
        }) = self.links.remove(&link)
        else {
            return;
        };
        if let Role::Leading(lead) = &mut self.member(leader).role {
            lead.discovery.closed(link);
            if let Some(broadcast) = &mut lead.broadcast {
                broadcast.closed(link);
            }
            lead.jobs.retain(|job| job.link != link);
        }
        if let Role::Learning(learn) = &self.member(learner).role
            && learn.link == link
        {
            self.leave(learner, None);
        }
    }

    // A leader.

    fn tell_learner(&mut self, link: LinkId, packet: &ToLearner<'_>) {
        if let Some(link) = self.links.get_mut(&link) {
            let mut bytes = Vec::new();
            packet.encode_into(&mut bytes);
            link.to_learner.extend(bytes);
        }
    }

    fn leading(&mut self, sid: ServerId) -> Option<&mut Lead> {
        match &mut self.member(sid).role {
            Role::Leading(lead) => Some(lead),
            _ => None,
        }
    }

    fn do_leader(&mut self, sid: ServerId) {
        while let Some(effect) = self.leading(sid).and_then(|lead| lead.discovery.poll()) {
            let now = self.now;
            let pair = self.pair.clone();
            let disk = &mut self.member(sid).disk;
            match effect {
                DiscoveryEffect::Promise(accepted) => {
                    let record = disk.record;
                    disk.writing = Some(Epochs { accepted, ..record });
                }
                DiscoveryEffect::Send(link, packet) => self.tell_learner(link, &packet),
                DiscoveryEffect::Established(epoch) => {
                    let history = end(&disk.history());
                    let broadcast =
                        Broadcast::begin(sid, epoch, history, &pair, b"version=0", PATIENCE, now);
                    self.leading(sid).unwrap().broadcast = Some(broadcast);
                }
                DiscoveryEffect::Synchronise {
                    link,
                    learner,
                    last,
                } => self.synchronise(sid, link, learner, last),
                DiscoveryEffect::Drop(link, why) => {
                    self.seen.ahead += usize::from(matches!(why, Dropped::Ahead { .. }));
                    self.drop(link, why);
                }
            }
        }
        while let Some(effect) = self
            .leading(sid)
            .and_then(|lead| lead.broadcast.as_mut()?.poll())
        {
            let disk = &mut self.member(sid).disk;
            match effect {
                BroadcastEffect::Adopt(epoch) => {
                    let history = disk.history();
                    disk.ops.extend([Op::Open(history), Op::Close(epoch)]);
                }
                BroadcastEffect::Record(current) => {
                    let record = disk.record;
                    disk.writing = Some(Epochs { current, ..record });
                }
                BroadcastEffect::Activate(decided) => {
                    let epoch = disk.record.accepted;
                    self.activates(sid, epoch, decided.zxid());
                    let now = self.now;
                    let lead = self.leading(sid).unwrap();
                    lead.broadcast.as_mut().unwrap().serve(now);
                }
                BroadcastEffect::Commit(decided) => self.commits(sid, decided.zxid()),
                BroadcastEffect::Synced(sync) => {
                    let lead = self.leading(sid).unwrap();
                    let due = lead.syncs.remove(&sync.0).unwrap();
                    let committed = lead.broadcast.as_ref().unwrap().committed();
                    assert!(end(&self.sequence[..due]) <= committed, "a sync of {sid}");
                    self.seen.synced += 1;
                }
                BroadcastEffect::Drop(link, why) => self.drop(link, why),
            }
        }
    }

    fn drop(&mut self, link: LinkId, why: Dropped) {
        assert!(!why.is_a_fault(), "nobody lies: {why:?}");
        if let Some(link) = self.links.get_mut(&link) {
            link.is_broken = true;
        }
    }

    fn synchronise(&mut self, sid: ServerId, link: LinkId, learner: Learner, last: Zxid) {
        let now = self.now;
        let committed = {
            let broadcast = self.leading(sid).unwrap().broadcast.as_mut().unwrap();
            broadcast.admit(link, learner, now);
            broadcast.committed()
        };
        let txns = upto(&self.members[&sid].disk.history(), committed);
        // Sometimes the log reaches not that far back.
        let purged = match self.rng.u8(0..4) {
            0 => self.rng.usize(0..=txns.len()),
            _ => 0,
        };
        let mut history = History::new(end(&txns[..purged]));
        txns.iter().for_each(|(zxid, _)| history.extend(*zxid));
        let opening = decide(last, &history, false);
        let snapshot = self.rng.usize(purged..=txns.len());
        let snapshot = &txns[..snapshot];
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
                end(snapshot)
            }
        };
        let packet = opening.packet(history.end(), base);
        self.tell_learner(link, &packet);
        if opening == Opening::Snap
            && let Some(link) = self.links.get_mut(&link)
        {
            link.to_learner
                .extend((snapshot.len() as u32).to_be_bytes());
            for (zxid, tag) in snapshot {
                link.to_learner.extend(zxid.0.to_be_bytes());
                link.to_learner.extend(tag.to_be_bytes());
            }
        }
        self.leading(sid).unwrap().jobs.push(Job { link, base });
    }

    /// A piece of what a learner is synchronised with, or its end.
    fn stream(&mut self, sid: ServerId) {
        let (now, pieces) = (self.now, self.rng.usize(0..4));
        let history = self.members[&sid].disk.history();
        let Some(lead) = self.leading(sid) else {
            return;
        };
        let Some(mut job) = lead.jobs.pop() else {
            return;
        };
        let broadcast = lead.broadcast.as_mut().unwrap();
        let behind = upto(&history, broadcast.committed());
        let base = job.base;
        let behind = behind.iter().filter(|(zxid, _)| *zxid > base);
        let mut packets = Vec::new();
        for txn in behind.take(pieces) {
            let zxid = txn.0;
            let entry = &entry(*txn);
            ToLearner::Proposal { zxid, entry }.encode_into(&mut packets);
            ToLearner::Commit(zxid).encode_into(&mut packets);
            job.base = zxid;
        }
        broadcast.streaming(job.link, now);
        let link = job.link;
        let is_attached = pieces == 0 && broadcast.attach(job.link, job.base, now).is_ok();
        if !is_attached {
            lead.jobs.insert(0, job);
        }
        if let Some(link) = self.links.get_mut(&link) {
            link.to_learner.extend(packets);
        }
    }

    fn propose(&mut self, sid: ServerId) {
        let tag = self.number() as i64;
        let Some(lead) = self.leading(sid) else {
            return;
        };
        if let Some(broadcast) = lead.broadcast.as_mut().filter(|b| b.is_active()) {
            let txn = (broadcast.next().unwrap(), tag);
            broadcast.propose(txn.0, &entry(txn));
            self.member(sid).disk.ops.push(Op::Entry(txn));
            self.do_leader(sid);
        }
    }

    fn sync_at(&mut self, sid: ServerId) {
        let (number, due, now) = (self.number(), self.sequence.len(), self.now);
        match &mut self.member(sid).role {
            Role::Leading(lead) => {
                if let Some(broadcast) = lead.broadcast.as_mut().filter(|b| b.is_active()) {
                    lead.syncs.insert(number, due);
                    broadcast.sync(Asker::Own(SyncId(number)), now);
                    self.do_leader(sid);
                }
            }
            Role::Learning(learn) => {
                if let Part::Follow(follow) = &mut learn.part {
                    learn.syncs.insert(number, due);
                    assert!(follow.sync(SyncId(number)));
                    let session = SessionId(number as i64);
                    assert!(follow.touch(session, 1000) && follow.revalidate(session, 1000));
                    let link = learn.link;
                    self.pass_sync_on(link, session);
                    self.do_learner(sid);
                }
            }
            _ => {}
        }
    }

    fn pass_sync_on(&mut self, link: LinkId, session: SessionId) {
        let request = crate::proto::peer::learner::Forwarded {
            session,
            cxid: 1,
            op: OpCode::SYNC,
            body: b"",
            ids: None,
        };
        self.tell_leader(link, &ToLeader::Request(request));
    }

    fn leader_hears(&mut self, link: LinkId, packet: &ToLeader<'_>) {
        let (now, leader) = (self.now, self.links[&link].leader);
        let Some(lead) = self.leading(leader) else {
            return;
        };
        let heard = match &mut lead.broadcast {
            Some(broadcast) => broadcast.packet(link, packet, now),
            None => Heard::Nothing,
        };
        let outcome = lead.discovery.packet(link, packet, now);
        if let Err(why) = outcome {
            return self.leave(leader, Some(why));
        }
        if let Some(broadcast) = &mut lead.broadcast {
            match heard {
                Heard::Request(_) => {
                    broadcast.sync(Asker::Learner(link), now);
                }
                Heard::Revalidate { session, .. } => {
                    let next = broadcast.next().unwrap();
                    broadcast.revalidated(link, session, true);
                    self.asked.insert(session, next);
                }
                Heard::Nothing | Heard::Touched { .. } => {}
            }
        }
        self.do_leader(leader);
    }

    // A learner.

    fn tell_leader(&mut self, link: LinkId, packet: &ToLeader<'_>) {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        self.send_to_leader(link, &bytes);
    }

    fn send_to_leader(&mut self, link: LinkId, bytes: &[u8]) {
        if let Some(link) = self.links.get_mut(&link) {
            link.to_leader.extend(bytes);
        }
    }

    fn learning(&mut self, sid: ServerId) -> Option<&mut Learn> {
        match &mut self.member(sid).role {
            Role::Learning(learn) => Some(learn),
            _ => None,
        }
    }

    fn learner_hears(&mut self, link: LinkId, packet: &ToLearner<'_>) {
        let (now, sid) = (self.now, self.links[&link].learner);
        let Some(learn) = self.learning(sid).filter(|learn| learn.link == link) else {
            return;
        };
        let outcome = match &mut learn.part {
            Part::Introduction(introduction) => match introduction.packet(packet, now) {
                Ok(effect) => {
                    if let Some(effect) = effect {
                        self.introduces(sid, effect);
                    }
                    Ok(())
                }
                Err(why) => Err(why),
            },
            Part::Stream(stream) => stream.packet(packet, now),
            Part::Follow(follow) => follow.packet(packet, now),
        };
        match outcome {
            Ok(()) => self.do_learner(sid),
            Err(why) => self.leave(sid, Some(why)),
        }
    }

    fn introduces(&mut self, sid: ServerId, effect: IntroductionEffect) {
        match effect {
            IntroductionEffect::Promise(accepted) => {
                let disk = &mut self.member(sid).disk;
                let record = disk.record;
                disk.writing = Some(Epochs { accepted, ..record });
            }
            IntroductionEffect::Go(packet, stream) => {
                let learn = self.learning(sid).unwrap();
                learn.part = Part::Stream(stream);
                let link = learn.link;
                self.tell_leader(link, &packet);
            }
        }
    }

    fn do_learner(&mut self, sid: ServerId) {
        while let Some(learn) = self.learning(sid) {
            let link = learn.link;
            let effect = match &mut learn.part {
                Part::Introduction(_) => return,
                Part::Follow(follow) => match follow.poll() {
                    Some(effect) => {
                        self.follows(sid, link, effect);
                        continue;
                    }
                    None => return,
                },
                Part::Stream(stream) => stream.poll(),
            };
            let Some(effect) = effect else {
                return;
            };
            let received = std::mem::take(&mut learn.received);
            let disk = &mut self.member(sid).disk;
            match effect {
                StreamEffect::ReadSnapshot(zxid) => {
                    self.learning(sid).unwrap().snapshot = Some(zxid);
                }
                StreamEffect::Open(Base::Log(zxid)) => {
                    let history = upto(&disk.history(), zxid);
                    assert_eq!(end(&history), zxid, "{sid} was never there");
                    disk.ops.push(Op::Open(history));
                }
                StreamEffect::Open(Base::Snapshot(zxid)) => {
                    assert_eq!(end(&received), zxid);
                    disk.ops.push(Op::Open(received));
                }
                StreamEffect::Append { zxid, entry } => disk.ops.push(Op::Entry(txn(zxid, &entry))),
                StreamEffect::Close(epoch) => disk.ops.push(Op::Close(epoch)),
                StreamEffect::Record { epoch, .. } => {
                    let record = disk.record;
                    disk.writing = Some(Epochs {
                        current: epoch,
                        ..record
                    });
                }
                StreamEffect::Send(packet) => self.tell_leader(link, &packet),
                StreamEffect::Commit(decided) => self.commits(sid, decided.zxid()),
                StreamEffect::Activate(..) => unreachable!(),
                StreamEffect::Serve(follow) => {
                    self.learning(sid).unwrap().part = Part::Follow(Box::new(follow));
                }
            }
        }
    }

    fn follows(&mut self, sid: ServerId, link: LinkId, effect: FollowEffect) {
        match effect {
            FollowEffect::Sync => self.pass_sync_on(link, SessionId(0)),
            FollowEffect::BecomeWhole => {
                self.seen.made_whole += 1;
                let disk = &mut self.member(sid).disk;
                let record = disk.record;
                disk.writing = Some(Epochs {
                    is_whole: true,
                    ..record
                });
            }
            FollowEffect::Append { zxid, entry } => {
                let disk = &mut self.member(sid).disk;
                disk.ops.push(Op::Entry(txn(zxid, &entry)));
            }
            FollowEffect::Commit(decided) => self.commits(sid, decided.zxid()),
            FollowEffect::Activate(..) => unreachable!(),
            FollowEffect::Send(bytes) => self.send_to_leader(link, &bytes),
            FollowEffect::Revalidated { session, .. } => {
                let next = self.asked.remove(&session).unwrap();
                let committed = self.members[&sid].disk.committed;
                assert!(
                    committed.0 + 1 >= next.0 || next.counter() == 1,
                    "{session} overtakes"
                );
            }
            FollowEffect::Synced(sync) => {
                let due = self.learning(sid).unwrap().syncs.remove(&sync.0).unwrap();
                let committed = self.members[&sid].disk.committed;
                assert!(end(&self.sequence[..due]) <= committed, "a sync of {sid}");
                self.seen.synced += 1;
            }
        }
    }

    // What happens.

    /// Some bytes come to one end of a connection.
    fn deliver(&mut self, id: LinkId) {
        let (to_leader, n) = (self.rng.bool(), self.rng.usize(1..200));
        let link = self.links.get_mut(&id).unwrap();
        if link.is_broken {
            return;
        }
        if to_leader {
            let n = n.min(link.to_leader.len());
            link.leader_has.extend(link.to_leader.drain(..n));
        } else {
            let n = n.min(link.to_learner.len());
            link.learner_has.extend(link.to_learner.drain(..n));
        }
        while let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_broken) {
            let bytes = match to_leader {
                true => link.leader_has.clone(),
                false => link.learner_has.clone(),
            };
            let learner = link.learner;
            if !to_leader
                && let Some(learn) = self.learning(learner).filter(|learn| learn.link == id)
                && let Some(zxid) = learn.snapshot
            {
                match self.read_snapshot(learner, &bytes, zxid) {
                    Some(used) => drop(self.links.get_mut(&id).unwrap().learner_has.drain(..used)),
                    None => return,
                }
                continue;
            }
            let Ok(Split::Whole(packet, used)) = split(&bytes, MAX) else {
                return;
            };
            let link = self.links.get_mut(&id).unwrap();
            if to_leader {
                link.leader_has.drain(..used);
                self.leader_hears(id, &ToLeader::decode(&packet).unwrap());
            } else {
                link.learner_has.drain(..used);
                self.learner_hears(id, &ToLearner::decode(&packet).unwrap());
            }
        }
    }

    fn read_snapshot(&mut self, sid: ServerId, bytes: &[u8], zxid: Zxid) -> Option<usize> {
        let now = self.now;
        let number = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let count = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let txn = |n: usize| Some((Zxid(number(4 + 16 * n)?), number(12 + 16 * n)?));
        let received: Option<Vec<Txn>> = (0..count).map(txn).collect();
        let received = received?;
        assert_eq!(end(&received), zxid);
        let learn = self.learning(sid).unwrap();
        learn.received = received;
        learn.snapshot = None;
        if let Part::Stream(stream) = &mut learn.part {
            stream.handle(StreamEvent::SnapshotReceived, now).unwrap();
        }
        self.do_learner(sid);
        Some(4 + 16 * count)
    }

    fn fetch(&mut self, id: LinkId) {
        let (now, max) = (self.now, self.rng.usize(1..300));
        let leader = self.links[&id].leader;
        if let Some(broadcast) = self
            .leading(leader)
            .and_then(|lead| lead.broadcast.as_mut())
        {
            let mut bytes = Vec::new();
            broadcast.fetch(id, max, now, &mut bytes);
            self.links.get_mut(&id).unwrap().to_learner.extend(bytes);
        }
    }

    /// A sync has ended.
    fn durable(&mut self, sid: ServerId) {
        let mut rng = self.rng.fork();
        let disk = &mut self.member(sid).disk;
        let ops = rng.usize(disk.synced..=disk.ops.len());
        disk.sync_to(ops);
        let (end, adoption) = (disk.log_end(), disk.adoption());
        match &mut self.member(sid).role {
            Role::Leading(lead) => {
                if let Some(broadcast) = &mut lead.broadcast {
                    adoption
                        .iter()
                        .for_each(|history| broadcast.adopted(history));
                    broadcast.durable(&end);
                }
                self.do_leader(sid);
            }
            Role::Learning(learn) => {
                match &mut learn.part {
                    Part::Introduction(_) => {}
                    Part::Stream(stream) => {
                        adoption.iter().for_each(|history| stream.adopted(history));
                    }
                    Part::Follow(follow) => follow.durable(&end),
                }
                self.do_learner(sid);
            }
            Role::Down | Role::Idle => {}
        }
    }

    /// The member's record is written.
    fn recorded(&mut self, sid: ServerId) {
        let now = self.now;
        let disk = &mut self.member(sid).disk;
        let Some(record) = disk.writing.take() else {
            return;
        };
        disk.write(record);
        let record = Durable::played(record);
        match &mut self.member(sid).role {
            Role::Leading(lead) => {
                lead.discovery.promised(&record, now);
                if let Some(broadcast) = &mut lead.broadcast {
                    broadcast.recorded(&record);
                }
                self.do_leader(sid);
            }
            Role::Learning(learn) => {
                match &mut learn.part {
                    Part::Introduction(introduction) => {
                        if let Some(effect) = introduction.promised(&record, now) {
                            self.introduces(sid, effect);
                        }
                    }
                    Part::Stream(stream) => stream.recorded(&record),
                    Part::Follow(follow) => follow.recorded(&record),
                }
                self.do_learner(sid);
            }
            Role::Down | Role::Idle => {}
        }
    }

    fn tick(&mut self, sid: ServerId) {
        let now = self.now;
        let outcome = match &mut self.member(sid).role {
            Role::Leading(lead) => lead.discovery.tick(now).and_then(|()| {
                let broadcast = lead.broadcast.as_mut();
                broadcast.map_or(Ok(()), |broadcast| broadcast.tick(now))
            }),
            Role::Learning(learn) => match &mut learn.part {
                Part::Introduction(introduction) => introduction.tick(now),
                Part::Stream(stream) => stream.handle(StreamEvent::Tick, now),
                Part::Follow(follow) => follow.tick(now),
            },
            Role::Down | Role::Idle => Ok(()),
        };
        match outcome {
            Ok(()) => self.do_leader(sid),
            Err(why) => self.leave(sid, Some(why)),
        }
    }

    fn step(&mut self) {
        self.now = self.now.after(1);
        let faults = self.faults;
        if self.rng.f64() < faults.breaks
            && let Some(link) = self.any_link()
        {
            self.links.get_mut(&link).unwrap().is_broken = true;
        }
        if self.rng.f64() < faults.crashes {
            let sid = self.any_member();
            self.crash(sid, false);
        }
        if self.rng.f64() < faults.wipes {
            let sid = self.any_member();
            self.crash(sid, true);
        }
        let sid = self.any_member();
        for _ in 0..4 {
            if let Some(link) = self.any_link() {
                match self.rng.u8(0..20) {
                    _ if self.links[&link].is_broken && self.rng.u8(0..10) == 0 => {
                        self.hears_of_the_end(link);
                    }
                    0..5 => self.fetch(link),
                    _ => self.deliver(link),
                }
            }
        }
        self.stream(sid);
        match self.rng.u8(0..6) {
            0 => self.durable(sid),
            1 => self.recorded(sid),
            2 => self.tick(sid),
            3 => self.propose(sid),
            4 if self.rng.u8(0..4) == 0 => self.sync_at(sid),
            _ => self.look(sid),
        }
    }

    /// Who is down comes up; who is idle leads, or follows somebody who leads.
    fn look(&mut self, sid: ServerId) {
        let leaders = self.leaders();
        let leader = self.rng.choice(leaders.iter()).copied();
        let leads = self.rng.u8(0..8) == 0;
        match (&self.members[&sid].role, leader) {
            (Role::Down, _) => self.member(sid).role = Role::Idle,
            (Role::Idle, Some(leader)) if !leads => self.follow(sid, leader),
            (Role::Idle, _) if leads => self.lead(sid),
            _ => {}
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    /// All faults cease, and the best history leads. Whether all that count came to hold what is proposed then.
    fn calm(&mut self) -> bool {
        self.faults = Faults::default();
        for sid in self.members.keys().copied().collect::<Vec<_>>() {
            match self.members[&sid].role {
                Role::Down => self.member(sid).role = Role::Idle,
                _ => self.leave(sid, None),
            }
        }
        self.links.clear();
        let voters = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_observer);
        let best = voters.max_by_key(|(_, member)| member.disk.offer().whole());
        let best = *best.unwrap().0;
        let whole = self
            .members
            .values()
            .filter(|member| !member.is_observer && member.disk.record.is_whole);
        if 2 * whole.count() <= self.pair.voters().len() {
            // More have lost everything than an ensemble survives.
            return false;
        }
        let mut proposed = false;
        for _ in 0..60_000 {
            self.now = self.now.after(1);
            for sid in self.members.keys().copied().collect::<Vec<_>>() {
                let is_idle = matches!(self.members[&sid].role, Role::Idle);
                match self.leaders().first() {
                    Some(leader) if is_idle => self.follow(sid, *leader),
                    None if is_idle && sid == best => self.lead(sid),
                    _ => {}
                }
                self.durable(sid);
                self.recorded(sid);
                self.stream(sid);
                self.tick(sid);
                if !proposed && sid == best {
                    let before = self.members[&sid].disk.ops.len();
                    self.propose(sid);
                    proposed = self.members[&sid].disk.ops.len() > before;
                }
            }
            for link in self.links.keys().copied().collect::<Vec<_>>() {
                if self.links.get(&link).is_some_and(|link| link.is_broken) {
                    self.hears_of_the_end(link);
                } else {
                    self.fetch(link);
                    self.deliver(link);
                }
            }
            let done = |member: &Member| member.disk.committed == end(&self.sequence);
            let has = |member: &Member| member.disk.history() == self.sequence;
            if proposed
                && self
                    .members
                    .values()
                    .all(|member| done(member) && has(member))
            {
                return true;
            }
        }
        panic!("nothing comes to an end: {:?}", self.seen);
    }
}

fn any_faults() -> impl Strategy<Value = Faults> {
    (0..3usize, 0..3usize, 0..3usize).prop_map(|(breaks, crashes, wipes)| Faults {
        breaks: [0.0, 0.002, 0.01][breaks],
        crashes: [0.0, 0.001, 0.004][crashes],
        wipes: [0.0, 0.0, 0.0005][wipes],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_was_decided_survives_whatever_breaks_and_whoever_leads(
        seed in any::<u64>(), voters in prop_oneof![Just(1i64), Just(3), Just(5)], observers in 0..2i64, faults in any_faults(),
    ) {
        let mut world = World::new(seed, voters, observers, faults);
        world.run(6000);
        world.calm();
    }
}

// What a run is worth is what happens in it.
#[test]
fn runs_meet_everything_that_they_are_there_for() {
    let faults = Faults {
        breaks: 0.004,
        crashes: 0.002,
        wipes: 0.0002,
    };
    let mut all = Seen::default();
    for seed in 0..20 {
        let mut world = World::new(seed, 3, 1, faults);
        world.run(6000);
        world.calm();
        let seen = world.seen;
        all.active += seen.active;
        all.committed += seen.committed;
        all.diffs += seen.diffs;
        all.truncs += seen.truncs;
        all.snaps += seen.snaps;
        all.synced += seen.synced;
        all.ahead += seen.ahead;
        all.recommitted += seen.recommitted;
        all.made_whole += seen.made_whole;
    }
    let least = [
        (all.active, 60),
        (all.committed, 400),
        (all.diffs, 100),
        (all.truncs, 10),
        (all.snaps, 25),
        (all.synced, 40),
        (all.ahead, 5),
        (all.made_whole, 5),
    ];
    assert!(least.iter().all(|(n, least)| n >= least), "{all:?}");
}
