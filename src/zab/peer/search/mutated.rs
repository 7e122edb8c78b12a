//! Any bytes to a member in any state: transcripts of whole runs, with bytes flipped, cut, repeated, exchanged and put
//! in the places of lengths, told to a member as it was at that moment. Its driver keeps its side. What comes of it is
//! the end of a connection or of a role, or nothing; and what the member keeps grows with what it was sent, not with
//! what that says of itself.

use super::disk::{Disk, Op};
use super::every_effect::Run;
use super::state::{Input, Member, State};
use crate::log::Durable;
use crate::proto::Frame;
use crate::proto::peer::packet::{PACKET_MIN, PacketType, Split, split};
use crate::proto::peer::{Hello, Notification, PeerState, ToLeader, ToLearner, notification};
use crate::types::{Tick, Zxid};
use crate::zab::links::LinkId;
use crate::zab::peer::ensemble::disk::{Txn, end, txn, upto};
use crate::zab::peer::learn::Stage;
use crate::zab::peer::{Effect, Peer, RoleId, State as Doing};
use crate::zab::sync::Base;
use crate::zab::verdict::Leave;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

const TRANSCRIPTS: usize = 10_000;
/// Of what comes next to a member.
const HEARD: usize = 12;
/// Bytes of data in one packet, at most.
const MAX: usize = 1024;
/// What a member keeps for each byte that it was sent, and beside that when it changes its role, in bytes.
const KEPT: usize = 64;
const KEPT_MORE: usize = 8192;

/// How much there is to hash: what a member holds, collections with all that is in them.
#[derive(Default)]
struct Weight(usize);

impl Hasher for Weight {
    fn finish(&self) -> u64 {
        self.0 as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

fn weight(peer: &Peer) -> usize {
    let mut weight = Weight::default();
    peer.hash(&mut weight);
    weight.0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

fn at(peer: &Peer) -> At {
    match &peer.state {
        Doing::Looking(_) => At::Looking,
        Doing::Leading(lead) if lead.broadcast.is_none() => At::Discovering,
        Doing::Leading(_) => At::Leading,
        Doing::Learning(learn) => match learn.stage {
            Stage::Dialling(_) => At::Dialling,
            Stage::Introduced(..) => At::Introduced,
            Stage::Synchronised(..) => At::Synchronised,
            Stage::Following(..) => At::Following,
        },
        Doing::Ending(_) => At::Ending,
    }
}

/// How often something came of a transcript.
#[derive(Debug, Default)]
struct Came {
    /// Bytes that can't be read.
    unreadable: usize,
    /// The member has closed a connection.
    closed: usize,
    /// Its role has ended.
    left: usize,
    /// Neither.
    nothing: usize,
}

/// A member and its driver.
struct Host {
    rng: Rng,
    peer: Peer,
    disk: Disk,
    now: Tick,
    listens: bool,
    came: BTreeMap<LinkId, Vec<u8>>,
    gone: BTreeSet<LinkId>,
    snapshot: Option<(LinkId, Zxid)>,
    received: Vec<Txn>,
    flush: Option<RoleId>,
    /// The log could not do what the role wants.
    is_refused: bool,
    has_closed: bool,
    has_left: bool,
    is_unreadable: bool,
}

impl Host {
    fn new(member: &Member, now: Tick, rng: Rng) -> Option<Host> {
        let peer = member.peer.clone()?;
        Some(Host {
            rng,
            listens: peer.doing() == PeerState::Leading,
            peer,
            disk: member.disk.clone(),
            now,
            came: BTreeMap::new(),
            gone: BTreeSet::new(),
            snapshot: member.snapshot,
            received: Vec::new(),
            flush: None,
            is_refused: false,
            has_closed: false,
            has_left: false,
            is_unreadable: false,
        })
    }

    fn work(&mut self) {
        while let Some(effect) = self.peer.poll() {
            self.do_effect(effect);
        }
        let is_leading = self.peer.doing() == PeerState::Leading;
        assert_eq!(self.listens, is_leading);
    }

    fn do_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Listen(listens) => self.listens = listens,
            Effect::Close(link, _) => {
                self.gone.insert(link);
                self.has_closed = true;
            }
            Effect::ReadSnapshot { link, zxid } => self.snapshot = Some((link, zxid)),
            Effect::Record { epochs, .. } => {
                let writing = self.disk.writing.replace(epochs);
                assert_eq!(writing, None, "one record at a time");
            }
            Effect::Open(base) => {
                let (kept, due) = match base {
                    Base::Log(zxid) => (upto(&self.disk.logged.history, zxid).to_vec(), zxid),
                    Base::Snapshot(zxid) => (std::mem::take(&mut self.received), zxid),
                };
                self.is_refused = end(&kept) != due;
                match self.is_refused {
                    true => {
                        let why = Leave::NoBase(PacketType::TRUNC);
                        self.peer.leave(self.peer.role, why, self.now);
                    }
                    false => self.disk.push(Op::Open(kept)),
                }
            }
            Effect::Append { zxid, entry } if !self.is_refused => {
                self.disk.push(Op::Entry(txn(zxid, &entry)));
            }
            Effect::Adopt(epoch) if !self.is_refused => self.disk.push(Op::Close(epoch)),
            Effect::Commit(decided) => {
                assert!(decided.zxid() >= self.disk.committed, "it goes back");
                assert!(decided.zxid() <= end(&self.disk.logged.history));
                self.disk.committed = decided.zxid();
            }
            Effect::Synchronise { link, .. } => {
                let leading = self.peer.leading();
                let base = leading.map(|leading| leading.committed());
                if let Some(base) = base {
                    assert_eq!(self.peer.attach(link, base, self.now), Ok(()));
                }
            }
            Effect::Left(..) => self.has_left = true,
            Effect::Flush(role) => {
                self.snapshot = None;
                self.flush = Some(role);
            }
            _ => {}
        }
    }

    /// What was begun comes to its end, now or later.
    fn settle(&mut self) {
        self.work();
        if self.rng.bool() {
            let (adoption, log) = (self.disk.sync(), self.disk.log_end());
            if let Some(adoption) = &adoption {
                self.peer.adopted(adoption, self.now);
            }
            self.peer.durable(&log, self.now);
            self.work();
        }
        if self.rng.bool()
            && let Some(record) = self.disk.write()
        {
            self.peer.recorded(Durable::played(record), self.now);
            self.work();
        }
        if self.rng.bool() {
            self.peer.applied(self.disk.committed, self.now);
            self.work();
        }
        if self.rng.bool()
            && let Some(role) = self.flush.take()
        {
            self.disk.flush();
            self.is_refused = false;
            let log = self.disk.log_end();
            self.peer.flushed(role, log, self.now);
            self.work();
        }
        if let Doing::Leading(lead) = &self.peer.state {
            for link in lead.links.clone() {
                self.peer.fetch(link, MAX, self.now, &mut Vec::new());
            }
        }
        if self.rng.u8(0..16) == 0 {
            self.now = self.now.after(self.rng.u64(0..500));
            self.peer.tick(self.now);
            self.work();
        }
    }

    /// The connection can't be read any further, or is gone.
    fn close(&mut self, link: LinkId) {
        self.gone.insert(link);
        self.came.remove(&link);
        self.peer.closed(link, self.now);
        self.work();
    }

    fn hears(&mut self, heard: &Input) {
        let now = self.now;
        match heard {
            Input::Dialled(to, link) => self.peer.dialled(*to, *link, now),
            Input::Leader(link) => self.peer.leader_dialled(self.peer.role, *link, now),
            Input::Learner(link) => self.peer.learner_connected(*link, now),
            Input::Closed(link) => self.close(*link),
            Input::Hello(link, bytes) => match Hello::split(bytes) {
                Ok(Some((hello, _))) => self.peer.accepted(*link, hello, now),
                Ok(None) => {}
                Err(_) => {
                    self.is_unreadable = true;
                    self.close(*link);
                }
            },
            Input::Notification(link, bytes)
            | Input::FromLeader(link, bytes)
            | Input::FromLearner(link, bytes) => {
                if !self.gone.contains(link) {
                    self.came.entry(*link).or_default().extend_from_slice(bytes);
                    while self.read(*link, heard) {
                        self.work();
                    }
                }
            }
        }
        self.settle();
    }

    /// One message, if there is a whole one.
    fn read(&mut self, link: LinkId, heard: &Input) -> bool {
        let Some(bytes) = self.came.get(&link).cloned() else {
            return false;
        };
        let used = match heard {
            Input::Notification(..) => self.notification(link, &bytes),
            Input::FromLeader(..) if self.is_snapshot(link) => self.snapshot(&bytes),
            _ => match split(&bytes, MAX) {
                Ok(Split::Whole(packet, used)) => {
                    let now = self.now;
                    let is_read = if let Input::FromLeader(..) = heard {
                        let packet = ToLearner::decode(&packet);
                        packet.map(|packet| self.peer.from_leader(link, &packet, now))
                    } else {
                        let packet = ToLeader::decode(&packet);
                        packet.map(|packet| {
                            let _ = self.peer.from_learner(link, &packet, now);
                        })
                    };
                    is_read.ok().map(|()| used)
                }
                Ok(Split::Partial { at_least }) => {
                    let is_bounded = bytes.len() < at_least && at_least <= PACKET_MIN + 2 * MAX;
                    assert!(is_bounded, "{at_least} are asked for");
                    self.peer.heard(link, self.now);
                    return false;
                }
                Err(_) => None,
            },
        };
        match (used, self.came.get_mut(&link)) {
            (Some(0), _) | (_, None) => false,
            (Some(used), Some(came)) => {
                came.drain(..used);
                true
            }
            (None, _) => {
                self.is_unreadable = true;
                self.close(link);
                false
            }
        }
    }

    /// So many bytes are used; `None`: the connection ends.
    fn notification(&mut self, link: LinkId, bytes: &[u8]) -> Option<usize> {
        match notification::split(bytes) {
            Frame::Partial => Some(0),
            Frame::Oversized => None,
            Frame::Whole(payload, used) => {
                match Notification::decode(payload) {
                    Ok(said) => self.peer.notified(link, &said, self.now),
                    Err(_) => self.is_unreadable = true,
                }
                Some(used)
            }
        }
    }

    fn is_snapshot(&self, link: LinkId) -> bool {
        self.snapshot.is_some_and(|(of, _)| of == link)
    }

    /// The model's snapshots have no bytes of their own that could be wrong: all that has come is one.
    fn snapshot(&mut self, bytes: &[u8]) -> Option<usize> {
        let (link, zxid) = self.snapshot.take()?;
        let number = |at: &[u8]| at.try_into().map(i64::from_be_bytes).unwrap_or_default();
        let txns = bytes.chunks_exact(16);
        let txns = txns.map(|txn| (Zxid(number(&txn[..8])), number(&txn[8..])));
        self.received = txns.collect();
        if end(&self.received) != zxid || !self.received.is_sorted() {
            return None;
        }
        self.peer.snapshot_received(link, self.now);
        Some(bytes.len())
    }
}

/// Bytes that are not what was sent.
fn mutate(heard: &mut Vec<Input>, rng: &mut Rng) {
    let n = rng.usize(0..heard.len());
    match rng.u8(0..10) {
        0 => {
            let again = heard[n].clone();
            heard.insert(rng.usize(0..=heard.len()), again);
        }
        1 => {
            let other = rng.usize(0..heard.len());
            heard.swap(n, other);
        }
        2 => drop(heard.remove(n)),
        kind => {
            let (Input::Hello(_, bytes)
            | Input::Notification(_, bytes)
            | Input::FromLeader(_, bytes)
            | Input::FromLearner(_, bytes)) = &mut heard[n]
            else {
                return;
            };
            let mut changed = bytes.to_vec();
            change(&mut changed, kind, rng);
            *bytes = changed.into();
        }
    }
    if heard.is_empty() {
        heard.push(Input::Closed(LinkId(0)));
    }
}

/// What stands in the place of a number.
const NUMBERS: &[i64] = &[
    -2,
    -1,
    0,
    1,
    2,
    3,
    7,
    20,
    28,
    40,
    254,
    1023,
    1024,
    1025,
    1 << 19,
    (1 << 19) + 1,
    0x7fff_ffff,
    0x8000_0000,
    i64::MAX,
    i64::MIN,
];

fn change(bytes: &mut Vec<u8>, kind: u8, rng: &mut Rng) {
    let place = rng.usize(0..bytes.len().max(1));
    match kind {
        3 => {
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << rng.u8(0..8);
            }
        }
        4 => bytes.truncate(place),
        5 => {
            let piece = bytes[place..].to_vec();
            bytes.extend(piece);
        }
        6 => {
            let some = std::iter::repeat_with(|| rng.u8(..)).take(place % 40);
            let some: Vec<u8> = some.collect();
            bytes.splice(place..place, some);
        }
        // A type, a length or a half of a zxid.
        7 | 8 => {
            let number = *rng.choice(NUMBERS).unwrap_or(&0) as i32;
            let at = [0, 0, 4, 8, 12, 12, 16, place / 4 * 4][rng.usize(0..8)];
            let small = rng.i32(0..22);
            let number = if at == 0 && kind == 7 { small } else { number };
            put(bytes, at, &number.to_be_bytes());
        }
        _ => {
            let number = *rng.choice(NUMBERS).unwrap_or(&0);
            put(
                bytes,
                [4, 4, 12, place][rng.usize(0..4)],
                &number.to_be_bytes(),
            );
        }
    }
}

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + number.len()) {
        place.copy_from_slice(number);
    }
}

/// A run, at each of its steps, and what is heard from there on.
fn recorded() -> Vec<(State, Vec<(usize, Input)>)> {
    let mut all = Vec::new();
    for mut run in Run::all() {
        run.state.transcript = Some(Vec::new());
        let mut states = Vec::new();
        while let Some(step) = run.next() {
            let before = run.state.transcript.as_ref().map_or(0, Vec::len);
            let mut state = run.state.clone();
            state.transcript = None;
            states.push((state, before));
            run.state.take(step);
        }
        let transcript = run.state.transcript.unwrap_or_default();
        let heard = |from: usize| {
            let next = transcript[from..].iter().take(3 * HEARD);
            next.cloned().collect()
        };
        all.extend(states.into_iter().map(|(state, from)| (state, heard(from))));
    }
    all
}

#[test]
fn ten_thousand_mutated_transcripts_end_connections_or_roles_and_nothing_else() {
    let recorded = recorded();
    let mut rng = Rng::with_seed(16);
    let mut came = Came::default();
    let mut states: BTreeMap<At, usize> = BTreeMap::new();
    let mut done = 0;
    while done < TRANSCRIPTS {
        let (state, next) = &recorded[rng.usize(0..recorded.len())];
        let n = rng.usize(0..3);
        let heard = next
            .iter()
            .filter(|(of, _)| *of == n)
            .map(|(_, heard)| heard);
        let mut heard: Vec<Input> = heard.take(HEARD).cloned().collect();
        let host = Host::new(&state.members[n], state.now(n), rng.fork());
        let Some(mut host) = host.filter(|_| !heard.is_empty()) else {
            continue;
        };
        for _ in 0..rng.usize(1..4) {
            mutate(&mut heard, &mut rng);
        }
        *states.entry(at(&host.peer)).or_default() += 1;
        let (before, mut sent) = (weight(&host.peer), 0);
        for heard in &heard {
            if let Input::Hello(_, bytes)
            | Input::Notification(_, bytes)
            | Input::FromLeader(_, bytes)
            | Input::FromLearner(_, bytes) = heard
            {
                sent += bytes.len();
            }
            host.hears(heard);
        }
        let kept = weight(&host.peer);
        assert!(
            kept <= before + KEPT * sent + KEPT_MORE,
            "{kept} of {sent}, {before} before"
        );
        done += 1;
        came.unreadable += usize::from(host.is_unreadable);
        came.left += usize::from(host.has_left);
        came.closed += usize::from(host.has_closed);
        let is_any = host.is_unreadable || host.has_left || host.has_closed;
        came.nothing += usize::from(!is_any);
    }
    println!("{states:?}, {came:?}");
    assert!(
        states.len() >= 7 && states.values().all(|n| *n >= 20),
        "{states:?}"
    );
    let Came {
        unreadable,
        closed,
        left,
        nothing,
    } = came;
    assert!(
        [unreadable, closed, left, nothing]
            .iter()
            .all(|n| *n >= 500),
        "{came:?}"
    );
}
