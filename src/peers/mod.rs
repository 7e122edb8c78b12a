//! The connections of one member to the others: what lies between its part in the protocol, [`Peer`], and the sockets of
//! both ports. Bytes in, bytes out; the sockets are the driver's, and the part is its owner's.
//!
//! ```text
//!  sockets ─ accepted, received, dialled, closed ─► Peers ─ Tell: hello, notification, packet ──► owner, its Peer
//!  sockets ◄─ Dial, Listen, Close; output ───────── Peers ◄─ does: Dial, Notify, Send, Close ──── owner, its Peer
//!  jobs    ◄─ Read, SnapshotBytes ───────────────── Peers ◄─ send_snapshot, piece, snapshot_taken ─ owner
//! ```
//!
//! The driver tells of one event of a socket. Then its owner does what [`Peers::poll`] gives until that gives nothing,
//! and hands to [`Peers::does`] what its [`Peer`] wants, unless [`Peers::is_behind`], before it polls again: so that is
//! done in its order, all of it before the part is told the next thing, also where one piece of input holds many messages. Then it sends: for each
//! of [`Peers::next_output`], what [`Peers::output`] gives. A socket that is readable is read as far as
//! [`Peers::room`] says; the rest stays in the kernel.
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
//! **A snapshot for a learner** is read in pieces, beside the core: the next is asked for when less than [`PIECE`]
//! bytes wait to be taken by the socket. What else a learner is sent before it gets what everybody gets, its owner
//! hands over in pieces of its own, the next when [`Told::Taken`] says that the socket has all of the last.

mod bounds;
mod buffer;
mod connection;
mod dial;
mod effect;
mod snapshot;
mod told;

#[cfg(test)]
pub(crate) mod played;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod wired;

pub use bounds::*;
pub use effect::{Closed, PeersEffect, Piece, Port};
pub use snapshot::{NATIVE_HEAD, SnapshotError, native_head};
pub use told::{Told, Wanted};

use crate::proto::Frame;
use crate::proto::peer::packet::{Packet, Split, split};
use crate::proto::peer::{Address, Hello, Notification, ToLeader, ToLearner, notification};
use crate::types::{ServerId, Tick};
use crate::zab::{Effect, LinkId, Patience, RoleId};
use connection::{Connection, Receiving, Sending, Stage};
use core::net::IpAddr;
use dial::{Dial, Purpose};
use snapshot::Scan;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use told::Telling;

#[cfg(doc)]
use crate::zab::Peer;

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
    /// Learners that may be sent more of their snapshot.
    streams: BTreeSet<LinkId>,
    /// What the owner is told next.
    told: VecDeque<Telling>,
    /// Of what the owner is told: so many bytes at the front of a connection's input.
    taking: Option<(LinkId, usize)>,
    out: VecDeque<Todo>,
}

/// As [`PeersEffect`], without what is told.
#[derive(Debug)]
enum Todo {
    Dial(LinkId, Address),
    Listen(bool),
    Close(LinkId, Option<Closed>),
    Read(LinkId),
    Over(LinkId),
    SnapshotBytes(LinkId, Vec<u8>, bool),
    Tell(Telling),
}

/// What was found at the beginning of a connection's input.
enum Read {
    /// A message, to be told.
    Whole(Telling),
    /// One that means nothing.
    Nothing,
    Partial,
}

impl Peers {
    /// A process starts, without connections.
    pub fn new(me: ServerId, patience: Patience, network: Network) -> Peers {
        let own = network.servers.get(&me);
        let own = own.map_or(&[][..], |addresses| &addresses.election[..]);
        Peers {
            hello: first_message(me, own, network.is_multi_address),
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
            taking: None,
            out: VecDeque::new(),
        }
    }

    /// When [`Peers::tick`] is wanted next, and [`Peer::tick`] no later.
    pub fn deadline(&self, now: Tick) -> Tick {
        now.after((self.patience.ping_ms / 4).max(1))
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Tick) -> Option<PeersEffect<'_>> {
        Some(match self.next(now)? {
            Todo::Dial(link, to) => PeersEffect::Dial { link, to },
            Todo::Listen(listens) => PeersEffect::Listen(listens),
            Todo::Close(link, why) => PeersEffect::Close(link, why),
            Todo::Read(link) => PeersEffect::Read(link),
            Todo::Over(link) => PeersEffect::Over(link),
            Todo::SnapshotBytes(link, bytes, is_last) => PeersEffect::SnapshotBytes {
                link,
                bytes,
                is_last,
            },
            Todo::Tell(telling) => PeersEffect::Tell(self.told(telling)),
        })
    }

    /// Whether the next thing to do follows from what was done last: it comes before what the member's part wants next.
    pub fn is_behind(&self) -> bool {
        !self.out.is_empty()
    }

    fn next(&mut self, now: Tick) -> Option<Todo> {
        if let Some((link, bytes)) = self.taking.take() {
            self.take(link, bytes);
        }
        loop {
            if let Some(todo) = self.out.pop_front() {
                return Some(todo);
            }
            if let Some(told) = self.told.pop_front() {
                return Some(Todo::Tell(told));
            }
            if let Some(link) = self.readable.pop_first() {
                if let Some(told) = self.read(link, now) {
                    return Some(Todo::Tell(told));
                }
            } else {
                let link = self.streams.pop_first()?;
                self.go_on(link);
            }
        }
    }

    /// Input that is told lies at the front of its connection's, and was looked at there.
    fn told(&self, telling: Telling) -> Told<'_> {
        const SEEN: &str = "it was whole";
        match telling {
            Telling::Plain(told) => told,
            Telling::Notification(link) => match notification::split(self.input(link)) {
                Frame::Whole(payload, _) => {
                    Told::Notified(link, Notification::decode(payload).expect(SEEN))
                }
                _ => unreachable!("{SEEN}"),
            },
            Telling::OfLearner(link) => {
                let (packet, _) = self.packet(link).expect(SEEN).expect(SEEN);
                Told::FromLearner(link, ToLeader::decode(&packet).expect(SEEN))
            }
            Telling::OfLeader(link) => {
                let (packet, _) = self.packet(link).expect(SEEN).expect(SEEN);
                Told::FromLeader(link, ToLearner::decode(&packet).expect(SEEN))
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
    pub fn dialled(&mut self, link: LinkId) {
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
                self.tell(Told::Dialled(to, link));
            }
            Purpose::Leader(role) => {
                let stage = Stage::Leader { snapshot: None };
                self.connections
                    .insert(link, Connection::new(Port::Quorum, stage));
                self.tell(Told::LeaderDialled(role, link));
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
    pub fn closed(&mut self, link: LinkId) {
        if self.forget(link).is_some() {
            self.tell(Told::Closed(link));
        }
    }

    /// Time passes, behind [`Peer::tick`]. After a pause of the process, what has come meanwhile is told first.
    pub fn tick(&mut self, now: Tick) {
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

    /// What a connection is to send next; nothing: there is nothing. Then [`Peers::sent`]. `fill`: appends what the
    /// member has for it.
    pub fn output(&mut self, link: LinkId, fill: impl FnOnce(Wanted, &mut Vec<u8>)) -> &[u8] {
        let Some(connection) = self.connections.get_mut(&link) else {
            return &[];
        };
        if connection.output.is_empty() {
            let out = connection.output.end();
            match &mut connection.stage {
                Stage::Talking { has_news, .. } if *has_news => {
                    *has_news = false;
                    fill(Wanted::Notification, out);
                }
                Stage::Learner { sending: None, .. } => fill(Wanted::Packets(PIECE), out),
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
        let is_empty = connection.output.is_empty();
        connection.is_blocked = !is_empty;
        if connection.is_blocked {
            connection.stuck.get_or_insert(now);
        }
        let (is_owed, is_any) = (connection.is_owed, bytes > 0);
        match &connection.stage {
            Stage::Closing { .. } if is_empty => self.finish(link, None),
            Stage::Learner { sending: None, .. } if is_owed && is_empty => {
                connection.is_owed = false;
                self.tell(Told::Taken(link));
            }
            Stage::Learner { .. } if is_owed && is_any => {
                self.streams.insert(link);
                self.tell(Told::Streaming(link));
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

    /// What is about connections of what the member's part wants; what is not comes back.
    pub fn does(&mut self, effect: Effect, now: Tick) -> Option<Effect> {
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
                self.out.push_back(Todo::Listen(listens));
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
                return Some(Effect::ReadSnapshot { link, zxid });
            }
            other => return Some(other),
        }
        None
    }

    /// Leader: a snapshot is sent to a learner, behind what was to be sent before; its pieces are asked for.
    pub fn send_snapshot(&mut self, link: LinkId) {
        if let Some(connection) = self.connections.get_mut(&link)
            && let Stage::Learner { sending, .. } = &mut connection.stage
        {
            *sending = Some(Sending { is_asked: false });
            connection.is_owed = true;
            self.streams.insert(link);
        }
    }

    /// What [`PeersEffect::Read`] has asked for.
    pub fn piece(&mut self, link: LinkId, piece: Piece) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        let Stage::Learner { sending, .. } = &mut connection.stage else {
            return;
        };
        if sending.take_if(|sending| sending.is_asked).is_none() {
            return;
        }
        match piece {
            Piece::Snapshot { bytes, is_last } if is_last || !bytes.is_empty() => {
                connection.output.push(&bytes);
                *sending = (!is_last).then_some(Sending { is_asked: false });
                let is_taken = is_last && connection.output.is_empty();
                if is_taken {
                    connection.is_owed = false;
                    self.tell(Told::Taken(link));
                }
                match is_last {
                    true => self.out.push_back(Todo::Over(link)),
                    false => drop(self.streams.insert(link)),
                }
            }
            _ => self.end(link, Closed::Lost),
        }
    }

    /// The owner has kept what [`PeersEffect::SnapshotBytes`] gave.
    pub fn snapshot_taken(&mut self, link: LinkId) {
        let connection = self.connections.get_mut(&link);
        let Some(Stage::Leader { snapshot }) = connection.map(|connection| &mut connection.stage)
        else {
            return;
        };
        let Some(receiving) = snapshot.as_mut().filter(|receiving| receiving.is_out) else {
            return;
        };
        receiving.is_out = false;
        if receiving.is_whole {
            *snapshot = None;
        }
        self.readable.insert(link);
        // The own disk is never timed.
        self.tell(Told::Heard(link));
    }

    /// The owner can't use what this connection has brought.
    pub fn refuse(&mut self, link: LinkId) {
        if self.connections.contains_key(&link) {
            self.end(link, Closed::Refused);
        }
    }

    /// Takes no more of a connection, or goes on.
    pub fn hold(&mut self, link: LinkId, is_held: bool) {
        if let Some(connection) = self.connections.get_mut(&link)
            && connection.is_held != is_held
        {
            connection.is_held = is_held;
            self.readable.insert(link);
        }
    }

    fn tell(&mut self, told: Told<'static>) {
        self.told.push_back(Telling::Plain(told));
    }

    // Dials.

    fn dial(&mut self, to: ServerId, announced: Vec<Address>, now: Tick) {
        let purpose = Purpose::Election(to);
        let strangers = self.dials.values().filter(|dial| match dial.purpose {
            Purpose::Election(to) => self.is_stranger(to),
            Purpose::Leader(_) => false,
        });
        if self.is_stranger(to) && strangers.count() >= STRANGERS_DIALLED_MAX {
            self.tell(Told::DialFailed(to));
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
            self.out.push_back(Todo::Close(link, None));
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
                self.out.push_back(Todo::Dial(link, to));
            }
            None => self.tell(match dial.purpose {
                Purpose::Election(to) => Told::DialFailed(to),
                Purpose::Leader(role) => Told::LeaderDialFailed(role),
            }),
        }
    }

    fn give_up(&mut self, link: LinkId, now: Tick) {
        if let Some(dial) = self.dials.remove(&link) {
            let why = Some(Closed::NoAnswer);
            self.out.push_back(Todo::Close(link, why));
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
            self.out.push_back(Todo::Over(link));
        }
        Some(connection)
    }

    /// The same, and the socket is to be closed.
    fn finish(&mut self, link: LinkId, why: Option<Closed>) {
        if self.forget(link).is_some() {
            self.out.push_back(Todo::Close(link, why));
        }
    }

    /// Ends a connection of which the member's part does not know that it ends.
    fn end(&mut self, link: LinkId, why: Closed) {
        self.finish(link, Some(why));
        self.tell(Told::Closed(link));
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
        connection.is_owed |= matches!(connection.stage, Stage::Learner { .. });
    }

    // What has come.

    /// One message, if there is a whole one.
    fn read(&mut self, link: LinkId, now: Tick) -> Option<Telling> {
        let connection = self.connections.get(&link)?;
        if connection.is_held {
            return None;
        }
        let outcome = match (&connection.stage, connection.port) {
            (Stage::Closing { .. }, _) => return None,
            (Stage::Unnamed { .. }, Port::Election) => self.read_hello(link),
            (Stage::Unnamed { .. }, Port::Quorum) => self.read_introduction(link),
            (Stage::Talking { .. }, _) => self.read_notification(link),
            (Stage::Learner { .. }, _) => self.read_of_learner(link),
            (Stage::Leader { snapshot: Some(_) }, _) => self.read_snapshot(link),
            (Stage::Leader { snapshot: None }, _) => self.read_of_leader(link),
        };
        let told = match outcome {
            Ok(Read::Whole(told)) => Some(told),
            Ok(Read::Nothing) => None,
            Ok(Read::Partial) => {
                self.wait_for_more(link, now);
                return None;
            }
            Err(why) => {
                self.end(link, why);
                return None;
            }
        };
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.partial = None;
            self.readable.insert(link);
        }
        told
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

    #[cfg(test)]
    pub(crate) fn unsent(&self, link: LinkId) -> usize {
        let connection = self.connections.get(&link);
        connection.map_or(0, |connection| connection.output.len())
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

    fn read_hello(&mut self, link: LinkId) -> Result<Read, Closed> {
        let Some((hello, used)) = Hello::split(self.input(link))? else {
            return Ok(Read::Partial);
        };
        self.name(link, hello.sid, |is_stranger| Stage::Talking {
            is_stranger,
            has_news: false,
        })?;
        self.take(link, used);
        Ok(Read::Whole(Telling::Plain(Told::Accepted(link, hello))))
    }

    /// The packet itself is looked at again when the member's part knows of the connection.
    fn read_introduction(&mut self, link: LinkId) -> Result<Read, Closed> {
        let sid = match split(self.input(link), INTRODUCTION_MAX)? {
            Split::Partial { .. } => return Ok(Read::Partial),
            Split::Whole(packet, _) => match ToLeader::decode(&packet)? {
                ToLeader::Info { info, .. } => info.sid,
                other => return Err(Closed::NotIntroduced(other.kind())),
            },
        };
        self.name(link, sid, |is_stranger| Stage::Learner {
            is_stranger,
            sending: None,
        })?;
        Ok(Read::Whole(Telling::Plain(Told::LearnerConnected(link))))
    }

    /// One that can't be read is skipped (I-23).
    fn read_notification(&mut self, link: LinkId) -> Result<Read, Closed> {
        match notification::split(self.input(link)) {
            Frame::Partial => Ok(Read::Partial),
            Frame::Oversized => Err(Closed::Frame),
            Frame::Whole(payload, used) => {
                let is_one = Notification::decode(payload).is_ok();
                self.taking = Some((link, used));
                if !is_one {
                    self.taking = None;
                    self.take(link, used);
                    return Ok(Read::Nothing);
                }
                Ok(Read::Whole(Telling::Notification(link)))
            }
        }
    }

    /// The packet at the front of a connection's input, and how long it is.
    fn packet(&self, link: LinkId) -> Result<Option<(Packet<'_>, usize)>, Closed> {
        match split(self.input(link), self.network.packet_max)? {
            Split::Partial { .. } => Ok(None),
            Split::Whole(packet, used) => Ok(Some((packet, used))),
        }
    }

    fn read_of_learner(&mut self, link: LinkId) -> Result<Read, Closed> {
        let Some((packet, used)) = self.packet(link)? else {
            return Ok(Read::Partial);
        };
        ToLeader::decode(&packet)?;
        self.taking = Some((link, used));
        Ok(Read::Whole(Telling::OfLearner(link)))
    }

    fn read_of_leader(&mut self, link: LinkId) -> Result<Read, Closed> {
        let Some((packet, used)) = self.packet(link)? else {
            if !self.input(link).is_empty() {
                self.tell(Told::Heard(link));
            }
            return Ok(Read::Partial);
        };
        ToLearner::decode(&packet)?;
        self.taking = Some((link, used));
        Ok(Read::Whole(Telling::OfLeader(link)))
    }

    /// The next bytes of a snapshot, if the owner has none.
    fn read_snapshot(&mut self, link: LinkId) -> Result<Read, Closed> {
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
        let bytes = Todo::SnapshotBytes(link, bytes, end.is_some());
        self.out.push_back(bytes);
        self.tell(Told::Heard(link));
        Ok(Read::Partial)
    }

    // What a learner is sent first.

    /// Asks for the next piece of a snapshot when little waits to be sent.
    fn go_on(&mut self, link: LinkId) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return;
        };
        if let Stage::Learner {
            sending: Some(sending),
            ..
        } = &mut connection.stage
            && !sending.is_asked
            && connection.output.len() < PIECE
        {
            sending.is_asked = true;
            self.out.push_back(Todo::Read(link));
        }
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
