//! The connections of one member to the others: what lies between [`Peer`] and the sockets of both ports. Bytes in,
//! bytes out; the sockets are the driver's.
//!
//! ```text
//!  sockets ─ accepted, received, dialled, closed ─► Peers ─ hello, notification, packet ─► Peer
//!  sockets ◄─ Dial, Listen, Close; output ───────── Peers ◄─ Dial, SayHello, Notify, Send, Close ─ Peer
//!  owner   ◄─ Member, Request, Synchronise, Read ── Peers ◄─ everything else ──────────────────── Peer
//! ```
//!
//! The driver tells one event, then does what [`Peers::poll`] gives until that gives nothing; so [`Peer`]'s effects are
//! done in their order, all of them before it is told the next event, also where one piece of input holds many
//! messages. Then it sends: for each of [`Peers::next_output`], what [`Peers::output`] gives. A socket that is readable
//! is read as far as [`Peers::room`] says; the rest stays in the kernel.
//!
//! | Port | Who | First | Then |
//! |---|---|---|---|
//! | election | dialler | hello | notifications both ways |
//! | election | acceptor | – | the same |
//! | quorum | learner, who dials | introduction | packets both ways |
//! | quorum | leader | – | packets; behind a SNAP the bytes of a snapshot |
//!
//! **What ends a connection** is told to [`Peer`] as the end of that connection, and never more. A peer's bytes end its
//! own; so do bytes that it does not take. On the election port a message that has begun must be whole, and output must
//! be taken from, within syncLimit; on the quorum port the roles have their own deadlines (docs/peer-protocol.md
//! §2.12), and output must be taken from within initLimit and syncLimit. Who has connected says who it is within
//! syncLimit (election) or initLimit (quorum).
//!
//! **Strangers hold out no member.** Nobody proves who it is yet: ids are believed. But those who have not said who they
//! are share [`UNNAMED_MAX`] places, of which the address that has the most gives one up for a newcomer, and servers
//! that no configuration names share [`STRANGERS_MAX`], [`STRANGERS_INPUT_MAX`] and [`STRANGERS_DIALLED_MAX`]. Members
//! have room beside that.
//!
//! **A learner's stream** (what it is sent before it gets what everybody gets) is read in pieces, beside the core: the
//! next is asked for when less than [`PIECE`] bytes wait to be taken by the socket. When what is left is in the leader's
//! memory, the learner is attached ([`Peer::attach`]), and what waits for it counts there.

mod bounds;
mod buffer;
mod connection;
mod dial;
mod effect;
mod snapshot;

#[cfg(test)]
pub(crate) mod played;
#[cfg(test)]
mod tests;

pub use bounds::*;
pub use effect::{Closed, Id, PeersEffect, Piece, Port, Request, Source};
pub use snapshot::SnapshotError;

use crate::proto::Frame;
use crate::proto::peer::packet::{Split, split};
use crate::proto::peer::{Address, Hello, Notification, ToLeader, ToLearner, notification};
use crate::types::{ServerId, Tick, Zxid};
use crate::zab::{
    Beginning, Effect, Heard, LinkId, NotYet, Opening, Patience, Peer, RoleId, Settings,
};
use connection::{Connection, Receiving, Stage, Stream, Supply};
use core::net::IpAddr;
use dial::{Dial, Purpose};
use snapshot::Scan;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

/// Where a server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// For its learners.
    pub quorum: Vec<Address>,
    /// For elections, each beside the one for learners.
    pub election: Vec<Address>,
}

/// The network as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Every member, this one included.
    pub servers: BTreeMap<ServerId, Addresses>,
    /// All own addresses are announced, which members before 3.6 can't read (`multiAddress.enabled`).
    pub is_multi_address: bool,
    /// For one dial, ms (`cnxTimeout`).
    pub dial_ms: u64,
    /// Data of a packet, and all its identities together, bytes: `jute.maxbuffer` and its extra size.
    pub packet_max: usize,
}

/// A member's connections, around its part in the ensemble.
#[derive(Debug)]
pub struct Peers {
    peer: Peer,
    network: Network,
    patience: Patience,
    /// What is said first on an election port.
    hello: Box<[u8]>,
    listens: bool,
    connections: BTreeMap<LinkId, Connection>,
    /// Those that have not said who they are, and from where they come.
    unnamed: BTreeMap<LinkId, IpAddr>,
    dials: BTreeMap<LinkId, Dial>,
    /// The last number that was given.
    last: u64,
    /// With input that was not looked at.
    readable: BTreeSet<LinkId>,
    /// Learners that may be sent more of their stream.
    streams: BTreeSet<LinkId>,
    /// What [`Peer`] is told behind its effects.
    told: VecDeque<Told>,
    out: VecDeque<PeersEffect>,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    DialFailed(Purpose),
    Closed(LinkId),
}

/// What was found at the beginning of a connection's input.
enum Read {
    Whole,
    Partial,
}

impl Peers {
    /// A process starts, without connections.
    pub fn begin(settings: Settings, network: Network, beginning: Beginning, now: Tick) -> Peers {
        let (me, patience) = (settings.candidate.sid, settings.patience);
        let own = network.servers.get(&me);
        let own = own.map_or(&[][..], |addresses| &addresses.election[..]);
        Peers {
            hello: first_message(me, own, network.is_multi_address),
            peer: Peer::begin(settings, beginning, now),
            network,
            patience,
            listens: false,
            connections: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            dials: BTreeMap::new(),
            last: 0,
            readable: BTreeSet::new(),
            streams: BTreeSet::new(),
            told: VecDeque::new(),
            out: VecDeque::new(),
        }
    }

    /// The member's part.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The same, to be told what becomes durable, is applied and is asked for. Nothing about connections.
    pub fn peer_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }

    /// When [`Peers::tick`] is wanted next.
    pub fn deadline(&self, now: Tick) -> Tick {
        let often = now.after((self.patience.ping_ms / 4).max(1));
        self.peer.deadline().map_or(often, |due| due.min(often))
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Tick) -> Option<PeersEffect> {
        loop {
            if let Some(effect) = self.out.pop_front() {
                return Some(effect);
            }
            if let Some(effect) = self.peer.poll() {
                if let Some(effect) = self.do_effect(effect, now) {
                    self.out.push_back(effect);
                }
            } else if let Some(told) = self.told.pop_front() {
                self.tell(told, now);
            } else if let Some(link) = self.readable.pop_first() {
                self.read(link, now);
            } else {
                let link = self.streams.pop_first()?;
                self.go_on(link, now);
            }
        }
    }

    // Events of sockets.

    /// Somebody has connected. `None`: the socket is closed.
    pub fn accepted(&mut self, port: Port, from: IpAddr, now: Tick) -> Option<LinkId> {
        if port == Port::Quorum && !self.listens {
            return None;
        }
        let until = now.after(match port {
            Port::Election => self.patience.sync_ms,
            Port::Quorum => self.patience.init_ms,
        });
        let link = self.number();
        let connection = Connection::new(port, Stage::Unnamed { until });
        self.connections.insert(link, connection);
        self.unnamed.insert(link, from);
        if self.unnamed.len() > UNNAMED_MAX {
            self.make_room();
        }
        self.connections.contains_key(&link).then_some(link)
    }

    /// A dial has come up.
    pub fn dialled(&mut self, link: LinkId, now: Tick) {
        let Some(dial) = self.dials.remove(&link) else {
            return;
        };
        match dial.purpose {
            Purpose::Election(to) => {
                let stage = Stage::Talking {
                    is_stranger: self.is_stranger(to),
                    has_news: false,
                };
                self.connections
                    .insert(link, Connection::new(Port::Election, stage));
                self.peer.dialled(to, link, now);
            }
            Purpose::Leader(role) => {
                let stage = Stage::Leader { snapshot: None };
                self.connections
                    .insert(link, Connection::new(Port::Quorum, stage));
                self.peer.leader_dialled(role, link, now);
            }
        }
    }

    /// A dial has failed.
    pub fn dial_failed(&mut self, link: LinkId, now: Tick) {
        if let Some(dial) = self.dials.remove(&link) {
            self.dial_next(dial, now);
        }
    }

    /// How many bytes of a connection are received next at most. 0: none, and its socket is asked again behind the
    /// next event.
    pub fn room(&self, link: LinkId) -> usize {
        self.connections.get(&link).map_or(0, Connection::room)
    }

    /// Bytes have come, at most [`Peers::room`].
    pub fn received(&mut self, link: LinkId, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&link)
            && connection.room() > 0
        {
            connection.input.push(bytes);
            self.readable.insert(link);
        }
    }

    /// A connection is gone: the other side has closed it, or it is broken. Its socket is closed.
    pub fn closed(&mut self, link: LinkId, now: Tick) {
        if self.forget(link).is_some() {
            self.peer.closed(link, now);
        }
    }

    /// Time passes. After a pause of the process, what has come meanwhile is told first.
    pub fn tick(&mut self, now: Tick) {
        self.peer.tick(now);
        let late = self.dials.iter().filter(|(_, dial)| now >= dial.until);
        for link in late.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.give_up(link, now);
        }
        let late = self.connections.iter().filter_map(|(link, connection)| {
            let why = self.is_late(connection, now)?;
            Some((*link, why))
        });
        for (link, why) in late.collect::<Vec<_>>() {
            self.end(link, why);
        }
    }

    // What is sent.

    /// The first connection behind `last` that may have something to send.
    pub fn next_output(&self, last: Option<LinkId>) -> Option<LinkId> {
        let behind = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut connections = self.connections.range((behind, Bound::Unbounded));
        connections
            .find(|(_, connection)| connection.may_send())
            .map(|(link, _)| *link)
    }

    /// What a connection is to send next; nothing: there is nothing. Then [`Peers::sent`].
    pub fn output(&mut self, link: LinkId, now: Tick) -> &[u8] {
        let Some(connection) = self.connections.get_mut(&link) else {
            return &[];
        };
        if connection.output.is_empty() {
            let out = connection.output.end();
            match &mut connection.stage {
                Stage::Talking { has_news, .. } if *has_news => {
                    *has_news = false;
                    self.peer.notification(link, out);
                }
                Stage::Learner { stream: None, .. } => self.peer.fetch(link, PIECE, now, out),
                _ => {}
            }
        }
        connection.output.bytes()
    }

    /// The socket has taken so many bytes. Fewer than there were: it takes no more before [`Peers::writable`].
    pub fn sent(&mut self, link: LinkId, bytes: usize, now: Tick) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        connection.output.take(bytes);
        if bytes > 0 {
            connection.stuck = None;
        }
        connection.is_blocked = !connection.output.is_empty();
        if connection.is_blocked {
            connection.stuck.get_or_insert(now);
        }
        let is_empty = connection.output.is_empty();
        match &connection.stage {
            Stage::Closing { .. } if is_empty => self.finish(link, None),
            Stage::Learner {
                stream: Some(_), ..
            } if bytes > 0 => {
                self.streams.insert(link);
                self.peer.streaming(link, now);
            }
            _ => {}
        }
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self, link: LinkId) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.is_blocked = false;
        }
    }

    // What the owner of the member says.

    /// How a learner is synchronised. `end`: of the leader's committed history; `base`: of the snapshot, or what the
    /// learner keeps.
    pub fn synchronise(&mut self, link: LinkId, opening: Opening, end: Zxid, base: Zxid) {
        let Some(stream) = self.stream(link) else {
            return;
        };
        stream.base = base;
        stream.from = match opening {
            Opening::Snap => Supply::Snapshot,
            Opening::Diff { .. } | Opening::Trunc { .. } => Supply::Log,
        };
        if let Some(connection) = self.connections.get_mut(&link) {
            let out = connection.output.end();
            opening.packet(end, base).encode_into(out);
            self.streams.insert(link);
        }
    }

    /// What was read for a learner.
    pub fn piece(&mut self, link: LinkId, piece: Piece) {
        let committed = self.peer.leading().map(|leading| leading.committed());
        let Some(stream) = self.stream(link).filter(|stream| stream.is_asked) else {
            return;
        };
        stream.is_asked = false;
        let mut out = Vec::new();
        let is_good = match piece {
            Piece::Snapshot { bytes, is_last } if stream.from == Supply::Snapshot => {
                out = bytes;
                if is_last {
                    stream.from = Supply::Log;
                }
                is_last || !out.is_empty()
            }
            Piece::Log(entries) if stream.from == Supply::Log => {
                for (zxid, entry) in &entries {
                    let (zxid, entry) = (*zxid, &entry[..]);
                    if !zxid.can_follow(stream.base) || Some(zxid) > committed {
                        break;
                    }
                    ToLearner::Proposal { zxid, entry }.encode_into(&mut out);
                    ToLearner::Commit(zxid).encode_into(&mut out);
                    stream.base = zxid;
                }
                !out.is_empty()
            }
            _ => false,
        };
        if !is_good {
            return self.end(link, Closed::Lost);
        }
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.output.push(&out);
            self.streams.insert(link);
        }
    }

    /// The owner has kept what [`PeersEffect::SnapshotBytes`] gave.
    pub fn snapshot_taken(&mut self, link: LinkId, now: Tick) {
        let connection = self.connections.get_mut(&link);
        let Some(Stage::Leader { snapshot }) = connection.map(|connection| &mut connection.stage)
        else {
            return;
        };
        let Some(receiving) = snapshot.as_mut().filter(|receiving| receiving.is_out) else {
            return;
        };
        receiving.is_out = false;
        self.readable.insert(link);
        if receiving.is_whole {
            *snapshot = None;
            self.peer.snapshot_received(link, now);
        } else {
            // The own disk is never timed.
            self.peer.heard(link, now);
        }
    }

    /// The owner can't use what this connection has brought.
    pub fn refuse(&mut self, link: LinkId) {
        if self.connections.contains_key(&link) {
            self.end(link, Closed::Refused);
        }
    }

    /// Learner: passes something on to the leader. False: there is none.
    pub fn pass_on(&mut self, packet: &ToLeader<'_>) -> bool {
        let Some(link) = self.peer.leader() else {
            return false;
        };
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        self.send(link, &bytes);
        true
    }

    /// Leader: takes no more of a learner, or goes on.
    pub fn hold(&mut self, link: LinkId, is_held: bool) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.is_held = is_held;
            self.readable.insert(link);
        }
    }

    // Effects of the member's part.

    fn do_effect(&mut self, effect: Effect, now: Tick) -> Option<PeersEffect> {
        match effect {
            Effect::Dial { to, announced } => self.dial(to, announced, now),
            Effect::DialLeader { role, leader } => self.dial_leader(role, leader, now),
            Effect::SayHello(link) => {
                let hello = self.hello.clone();
                self.send(link, &hello);
            }
            Effect::Notify(link) => {
                if let Some(connection) = self.connections.get_mut(&link)
                    && let Stage::Talking { has_news, .. } = &mut connection.stage
                {
                    *has_news = true;
                }
            }
            Effect::Listen(listens) => {
                self.listens = listens;
                self.turn_away();
                return Some(PeersEffect::Listen(listens));
            }
            Effect::Send(link, bytes) => self.send(link, &bytes),
            Effect::Close(link, why) => self.hang_up(link, why.map(Closed::Dropped), now),
            Effect::ReadSnapshot { link, zxid } => {
                let connection = self.connections.get_mut(&link)?;
                connection.stage = Stage::Leader {
                    snapshot: Some(Receiving {
                        scan: Scan::new(self.network.packet_max),
                        is_out: false,
                        is_whole: false,
                    }),
                };
                return Some(PeersEffect::Snapshot(link, zxid));
            }
            Effect::Synchronise {
                link,
                learner,
                last,
            } => {
                if let Stage::Learner { stream, .. } = &mut self.connections.get_mut(&link)?.stage {
                    *stream = Some(Stream {
                        from: Supply::Undecided,
                        base: last,
                        is_asked: false,
                    });
                }
                return Some(PeersEffect::Synchronise {
                    link,
                    learner,
                    last,
                });
            }
            other => return Some(PeersEffect::Member(other)),
        }
        None
    }

    fn tell(&mut self, told: Told, now: Tick) {
        match told {
            Told::DialFailed(Purpose::Election(to)) => self.peer.dial_failed(to, now),
            Told::DialFailed(Purpose::Leader(role)) => self.peer.leader_dial_failed(role, now),
            Told::Closed(link) => self.peer.closed(link, now),
        }
    }

    // Dials.

    fn dial(&mut self, to: ServerId, announced: Vec<Address>, now: Tick) {
        let purpose = Purpose::Election(to);
        let strangers = self.dials.values().filter(|dial| match dial.purpose {
            Purpose::Election(to) => self.is_stranger(to),
            Purpose::Leader(_) => false,
        });
        if self.is_stranger(to) && strangers.count() >= STRANGERS_DIALLED_MAX {
            self.told.push_back(Told::DialFailed(purpose));
            return;
        }
        let configured = self.network.servers.get(&to);
        let configured = configured.map_or(&[][..], |addresses| &addresses.election[..]);
        let dial = Dial::new(purpose, announced, configured, self.network.dial_ms);
        self.dial_next(dial, now);
    }

    /// What was dialled for an earlier role is given up.
    fn dial_leader(&mut self, role: RoleId, leader: ServerId, now: Tick) {
        let is_older = |dial: &Dial| matches!(dial.purpose, Purpose::Leader(_));
        let older = self.dials.iter().filter(|(_, dial)| is_older(dial));
        for link in older.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.dials.remove(&link);
            self.out.push_back(PeersEffect::Close(link, None));
        }
        let configured = self.network.servers.get(&leader);
        let configured = configured.map_or(&[][..], |addresses| &addresses.quorum[..]);
        let purpose = Purpose::Leader(role);
        let dial = Dial::new(purpose, Vec::new(), configured, self.network.dial_ms);
        self.dial_next(dial, now);
    }

    fn dial_next(&mut self, mut dial: Dial, now: Tick) {
        match dial.next(now) {
            Some(to) => {
                let link = self.number();
                self.dials.insert(link, dial);
                self.out.push_back(PeersEffect::Dial { link, to });
            }
            None => self.told.push_back(Told::DialFailed(dial.purpose)),
        }
    }

    fn give_up(&mut self, link: LinkId, now: Tick) {
        if let Some(dial) = self.dials.remove(&link) {
            self.out
                .push_back(PeersEffect::Close(link, Some(Closed::NoAnswer)));
            self.dial_next(dial, now);
        }
    }

    // Connections begin and end.

    fn number(&mut self) -> LinkId {
        self.last += 1;
        LinkId(self.last)
    }

    fn is_stranger(&self, server: ServerId) -> bool {
        !self.network.servers.contains_key(&server)
    }

    /// Of the address with the most connections that have not said who they are, the oldest ends.
    fn make_room(&mut self) {
        let mut crowds: BTreeMap<IpAddr, (usize, LinkId)> = BTreeMap::new();
        for (link, from) in &self.unnamed {
            crowds.entry(*from).or_insert((0, *link)).0 += 1;
        }
        let largest = crowds
            .into_values()
            .max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)));
        if let Some((_, oldest)) = largest {
            self.end(oldest, Closed::TooManyUnnamed);
        }
    }

    /// Who has come to the quorum port and has not said who it is.
    fn turn_away(&mut self) {
        if self.listens {
            return;
        }
        let is_its = |link: &&LinkId| {
            let connection = self.connections.get(link);
            connection.is_some_and(|connection| connection.port == Port::Quorum)
        };
        for link in self
            .unnamed
            .keys()
            .filter(is_its)
            .copied()
            .collect::<Vec<_>>()
        {
            self.end(link, Closed::NotListening);
        }
    }

    fn is_late(&self, connection: &Connection, now: Tick) -> Option<Closed> {
        let Patience {
            init_ms, sync_ms, ..
        } = self.patience;
        let (patience_ms, is_election) = match connection.port {
            Port::Election => (sync_ms, true),
            Port::Quorum => (init_ms + sync_ms, false),
        };
        let is_over =
            |since: Option<Tick>| since.is_some_and(|since| now >= since.after(patience_ms));
        match &connection.stage {
            Stage::Unnamed { until } if now >= *until => Some(Closed::Unnamed),
            Stage::Closing { until } if now >= *until => Some(Closed::Stuck),
            Stage::Closing { .. } => None,
            _ if is_over(connection.stuck) => Some(Closed::Stuck),
            _ if is_election && is_over(connection.partial) => Some(Closed::Unfinished),
            _ => None,
        }
    }

    /// It is no connection any more, and its socket may be closed.
    fn forget(&mut self, link: LinkId) -> Option<Connection> {
        let connection = self.connections.remove(&link)?;
        self.unnamed.remove(&link);
        self.readable.remove(&link);
        self.streams.remove(&link);
        if connection.has_reader() {
            self.out.push_back(PeersEffect::Over(link));
        }
        Some(connection)
    }

    /// The same, and the socket is to be closed.
    fn finish(&mut self, link: LinkId, why: Option<Closed>) {
        if self.forget(link).is_some() {
            self.out.push_back(PeersEffect::Close(link, why));
        }
    }

    /// Ends a connection of which the member's part does not know that it ends.
    fn end(&mut self, link: LinkId, why: Closed) {
        self.finish(link, Some(why));
        self.told.push_back(Told::Closed(link));
    }

    /// Ends a connection that the member's part has closed: on the election port behind what is to be sent. What a
    /// role has to say ends with it.
    fn hang_up(&mut self, link: LinkId, why: Option<Closed>, now: Tick) {
        let until = now.after(self.patience.sync_ms);
        match self.connections.get_mut(&link) {
            Some(connection)
                if connection.port == Port::Election && !connection.output.is_empty() =>
            {
                connection.stage = Stage::Closing { until };
                connection.input.clear();
            }
            _ => self.finish(link, why),
        }
    }

    /// What is not paced by what the socket takes.
    fn send(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        if connection.output.len() >= UNSENT_MAX {
            return self.end(link, Closed::Slow);
        }
        connection.output.push(bytes);
    }

    // What has come.

    /// One message, if there is a whole one.
    fn read(&mut self, link: LinkId, now: Tick) {
        let Some(connection) = self.connections.get(&link) else {
            return;
        };
        if connection.is_held {
            return;
        }
        let outcome = match (&connection.stage, connection.port) {
            (Stage::Closing { .. }, _) => return,
            (Stage::Unnamed { .. }, Port::Election) => self.read_hello(link, now),
            (Stage::Unnamed { .. }, Port::Quorum) => self.read_introduction(link, now),
            (Stage::Talking { .. }, _) => self.read_notification(link, now),
            (Stage::Learner { .. }, _) => self.read_of_learner(link, now),
            (Stage::Leader { snapshot: Some(_) }, _) => self.read_snapshot(link, now),
            (Stage::Leader { snapshot: None }, _) => self.read_of_leader(link, now),
        };
        match outcome {
            Ok(Read::Whole) => {
                if let Some(connection) = self.connections.get_mut(&link) {
                    connection.partial = None;
                    self.readable.insert(link);
                }
            }
            Ok(Read::Partial) => self.wait_for_more(link, now),
            Err(why) => self.end(link, why),
        }
    }

    fn wait_for_more(&mut self, link: LinkId, now: Tick) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        connection.partial = match connection.input.is_empty() {
            true => None,
            false => connection.partial.or(Some(now)),
        };
        if connection.is_stranger() && !connection.input.is_empty() {
            let strangers = self.connections.values();
            let strangers = strangers.filter(|connection| connection.is_stranger());
            let bytes: usize = strangers.map(|connection| connection.input.len()).sum();
            if bytes > STRANGERS_INPUT_MAX {
                self.end(link, Closed::TooMuchOfStrangers);
            }
        }
    }

    fn input(&self, link: LinkId) -> &[u8] {
        let connection = self.connections.get(&link);
        connection.map_or(&[], |connection| connection.input.bytes())
    }

    /// Takes a message from the front.
    fn take(&mut self, link: LinkId, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.input.take(bytes);
        }
    }

    /// It has said who it is.
    fn name(
        &mut self,
        link: LinkId,
        sid: ServerId,
        stage: impl FnOnce(bool) -> Stage,
    ) -> Result<(), Closed> {
        let is_stranger = self.is_stranger(sid);
        let strangers = self.connections.values();
        let strangers = strangers.filter(|connection| connection.is_stranger());
        if is_stranger && strangers.count() >= STRANGERS_MAX {
            return Err(Closed::TooManyStrangers);
        }
        self.unnamed.remove(&link);
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.stage = stage(is_stranger);
        }
        Ok(())
    }

    fn read_hello(&mut self, link: LinkId, now: Tick) -> Result<Read, Closed> {
        let Some((hello, used)) = Hello::split(self.input(link))? else {
            return Ok(Read::Partial);
        };
        self.name(link, hello.sid, |is_stranger| Stage::Talking {
            is_stranger,
            has_news: false,
        })?;
        self.take(link, used);
        self.peer.accepted(link, hello, now);
        Ok(Read::Whole)
    }

    /// The packet itself is looked at again when the member's part knows of the connection.
    fn read_introduction(&mut self, link: LinkId, now: Tick) -> Result<Read, Closed> {
        let sid = match split(self.input(link), INTRODUCTION_MAX)? {
            Split::Partial { .. } => return Ok(Read::Partial),
            Split::Whole(packet, _) => match ToLeader::decode(&packet)? {
                ToLeader::Info { info, .. } => info.sid,
                other => return Err(Closed::NotIntroduced(other.kind())),
            },
        };
        self.name(link, sid, |is_stranger| Stage::Learner {
            is_stranger,
            stream: None,
        })?;
        self.peer.learner_connected(link, now);
        Ok(Read::Whole)
    }

    /// One that can't be read is skipped (I-23).
    fn read_notification(&mut self, link: LinkId, now: Tick) -> Result<Read, Closed> {
        let Some(connection) = self.connections.get(&link) else {
            return Ok(Read::Partial);
        };
        match notification::split(connection.input.bytes()) {
            Frame::Partial => Ok(Read::Partial),
            Frame::Oversized => Err(Closed::Frame),
            Frame::Whole(payload, used) => {
                if let Ok(notification) = Notification::decode(payload) {
                    self.peer.notified(link, &notification, now);
                }
                self.take(link, used);
                Ok(Read::Whole)
            }
        }
    }

    fn read_of_learner(&mut self, link: LinkId, now: Tick) -> Result<Read, Closed> {
        let Some(connection) = self.connections.get(&link) else {
            return Ok(Read::Partial);
        };
        let input = connection.input.bytes();
        let Split::Whole(packet, used) = split(input, self.network.packet_max)? else {
            return Ok(Read::Partial);
        };
        let heard = match self
            .peer
            .from_learner(link, &ToLeader::decode(&packet)?, now)
        {
            Heard::Nothing => None,
            Heard::Request(request) => Some(PeersEffect::Request(link, Request::of(&request))),
            Heard::Revalidate {
                session,
                timeout_ms,
            } => Some(PeersEffect::Revalidate {
                link,
                session,
                timeout_ms,
            }),
            Heard::Touched { touched, .. } => {
                Some(PeersEffect::Touched(link, touched.iter().collect()))
            }
        };
        self.out.extend(heard);
        self.take(link, used);
        Ok(Read::Whole)
    }

    fn read_of_leader(&mut self, link: LinkId, now: Tick) -> Result<Read, Closed> {
        let Some(connection) = self.connections.get(&link) else {
            return Ok(Read::Partial);
        };
        let input = connection.input.bytes();
        match split(input, self.network.packet_max)? {
            Split::Partial { .. } => {
                if !input.is_empty() {
                    self.peer.heard(link, now);
                }
                Ok(Read::Partial)
            }
            Split::Whole(packet, used) => {
                let packet = ToLearner::decode(&packet)?;
                self.peer.from_leader(link, &packet, now);
                self.take(link, used);
                Ok(Read::Whole)
            }
        }
    }

    /// The next bytes of a snapshot, if the owner has none.
    fn read_snapshot(&mut self, link: LinkId, now: Tick) -> Result<Read, Closed> {
        let Some(Connection {
            stage: Stage::Leader {
                snapshot: Some(receiving),
            },
            input,
            ..
        }) = self.connections.get_mut(&link)
        else {
            return Ok(Read::Partial);
        };
        if receiving.is_out || input.is_empty() {
            return Ok(Read::Partial);
        }
        let end = receiving.scan.follow(input.bytes())?;
        let used = end.unwrap_or(input.len());
        let bytes = input.bytes()[..used].to_vec();
        input.take(used);
        receiving.is_out = true;
        receiving.is_whole = end.is_some();
        self.out.push_back(PeersEffect::SnapshotBytes {
            link,
            bytes,
            is_last: end.is_some(),
        });
        self.peer.heard(link, now);
        Ok(Read::Partial)
    }

    // What a learner is sent first.

    fn stream(&mut self, link: LinkId) -> Option<&mut Stream> {
        match &mut self.connections.get_mut(&link)?.stage {
            Stage::Learner { stream, .. } => stream.as_mut(),
            _ => None,
        }
    }

    /// Asks for the next piece, or attaches the learner, when little waits to be sent.
    fn go_on(&mut self, link: LinkId, now: Tick) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        let is_full = connection.output.len() >= PIECE;
        let Stage::Learner { stream, .. } = &mut connection.stage else {
            return;
        };
        let Some(current) = stream
            .as_mut()
            .filter(|stream| !stream.is_asked && !is_full)
        else {
            return;
        };
        let source = match current.from {
            Supply::Undecided => return,
            Supply::Snapshot => Source::Snapshot,
            Supply::Log => match self.peer.attach(link, current.base, now) {
                Ok(()) => {
                    *stream = None;
                    self.out.push_back(PeersEffect::Over(link));
                    return;
                }
                Err(NotYet(upto)) => Source::Log {
                    after: current.base,
                    upto,
                },
            },
        };
        current.is_asked = true;
        self.out.push_back(PeersEffect::Read(link, source));
    }
}

/// Who this server is and where it can be dialled. A server that knows no address which others could dial says its id
/// alone, as those of 3.4 do; the others dial what their configuration says.
fn first_message(me: ServerId, own: &[Address], is_multi: bool) -> Box<[u8]> {
    let own: Vec<Address> = own
        .iter()
        .filter(|address| !address.is_wildcard())
        .cloned()
        .collect();
    let hello = Hello::encode(me, &own, is_multi);
    hello.unwrap_or_else(|| me.0.to_be_bytes().to_vec()).into()
}
