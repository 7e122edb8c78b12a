//! The sockets of a member's connections to the others: events for [`Joined`], on the core that orders, with its ring.
//!
//! A turn of that core begins with what has happened, told one thing after the other, what follows from each being done
//! at once, and with time ([`PeerSockets::begin_turn`]); it ends with what is to be sent ([`PeerSockets::end_turn`]).
//! As with clients, the ring says which socket is ready, and bytes that nobody has room for stay in the kernel.
//!
//! | What | Bound |
//! |---|---|
//! | things told in a turn | [`STEPS_PER_TURN`] |
//! | bytes handed to the kernel for one connection in a turn | [`SENT_PER_TURN`], or one packet that is longer |
//! | connections, and what they hold | those of [`peers`](crate::peers) |
//! | names being looked up | `LOOKUPS_MAX` (64); one more can't be dialled |
//!
//! The quorum port is bound from the start, so that a port that is taken is found then, and listened on while the
//! member leads. Behind that it is bound again when the kernel has let go of it.

use super::names::Names;
use crate::log::storage::Storage;
use crate::member::{Joined, Member, Outward, Transfer, Transferred};
use crate::peers::{PIECE, Port, READ_MAX};
use crate::pipeline::Fatal;
use crate::proto::peer::Address;
use crate::rt::bell::Bell;
use crate::rt::net::{self, Accepted, Bound, Listener, Socket};
use crate::rt::ring::{Key, Ring};
use crate::types::{Now, Tick};
use crate::zab::{Duty, Effect, LinkId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Things that are told in one turn: connections accepted, pieces of input, dials decided.
pub const STEPS_PER_TURN: usize = 256;
/// Bytes of one connection that are handed to the kernel in one turn.
pub const SENT_PER_TURN: usize = 4 * PIECE;
/// Connections that the kernel queues on each port.
const BACKLOG: i32 = 128;
/// Between two attempts to bind a port.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// The mark of a peer's key at the ring: slots of clients are smaller.
const PEER: u64 = 1 << 31;
/// Numbers of ports, above those of connections.
const PORTS: u64 = 1 << 54;

/// Where a member listens; both ports may have several addresses.
pub struct Ports {
    /// Listened on as long as the process runs.
    pub election: Vec<Bound>,
    /// Listened on while the member leads.
    pub quorum: Vec<Bound>,
}

/// Binds the addresses of a port, as often as `attempts` says (0: for ever), with a second in between.
///
/// # Errors
/// The operating system's, of the last attempt; a name that can't be looked up.
pub fn bind(addresses: &[Address], attempts: u32) -> io::Result<Vec<Bound>> {
    let mut made = 0;
    loop {
        made += 1;
        match addresses.iter().map(bind_one).collect() {
            Ok(bound) => return Ok(bound),
            Err(error) if attempts != 0 && made >= attempts => return Err(error),
            Err(error) => {
                tracing::warn!("a port for other servers can't be bound, tried again: {error}");
                std::thread::sleep(BIND_PAUSE);
            }
        }
    }
}

fn bind_one(address: &Address) -> io::Result<Bound> {
    let mut found = (address.host(), address.port()).to_socket_addrs()?;
    let first = found.next().ok_or(io::ErrorKind::NotFound)?;
    net::bind(first, BACKLOG)
}

/// A connection, or what is to become one.
enum Held {
    /// Its name is being looked up.
    Named {
        port: u16,
    },
    /// With the addresses of the same name that are left.
    Dialling {
        socket: Socket,
        left: VecDeque<SocketAddr>,
    },
    Open(Socket),
}

/// A port that is listened on.
struct Open {
    listener: Listener,
    port: Port,
    /// A connection may wait.
    is_ready: bool,
}

/// The sockets of one member, and its connections.
pub struct PeerSockets<S: Storage> {
    joined: Joined<S>,
    names: Names,
    patience: Duration,
    held: BTreeMap<LinkId, Held>,
    ports: BTreeMap<Key, Open>,
    /// Numbers of ports that were given.
    ports_opened: u64,
    /// The quorum port's addresses, and those that are bound and not listened on.
    quorum: Vec<SocketAddr>,
    bound: Vec<Bound>,
    listens: bool,
    /// No descriptor or memory was left for a connection that waits.
    is_exhausted: bool,
    /// Accepting and receiving take turns.
    accepts_first: bool,
    /// Connections with bytes in the kernel, or their end, in turn.
    readable: VecDeque<LinkId>,
    is_readable: BTreeSet<LinkId>,
    /// Dials that the kernel has decided.
    decided: VecDeque<LinkId>,
    buffer: Vec<u8>,
    next_tick: Tick,
    /// Since when a tick waits for what has happened before.
    overdue: Option<Tick>,
}

impl<S: Storage> PeerSockets<S> {
    /// Listens for elections from here on. `bell`: of the ring. `patience`: how long an election port's connection
    /// lives without a sign of the other end.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(
        joined: Joined<S>,
        ports: Ports,
        bell: Arc<Bell>,
        patience: Duration,
        ring: &mut Ring,
    ) -> io::Result<PeerSockets<S>> {
        let quorum = ports.quorum.iter().map(Bound::address);
        let mut sockets = PeerSockets {
            joined,
            names: Names::new(bell),
            patience,
            held: BTreeMap::new(),
            ports: BTreeMap::new(),
            ports_opened: 0,
            quorum: quorum.collect::<io::Result<_>>()?,
            bound: ports.quorum,
            listens: false,
            is_exhausted: false,
            accepts_first: false,
            readable: VecDeque::new(),
            is_readable: BTreeSet::new(),
            decided: VecDeque::new(),
            buffer: vec![0; READ_MAX],
            next_tick: Tick(0),
            overdue: None,
        };
        for bound in ports.election {
            sockets.open(Port::Election, bound.listen()?, ring);
        }
        Ok(sockets)
    }

    /// When something is to be done though nothing happens.
    pub fn deadline(&self) -> Tick {
        self.next_tick
    }

    /// What is done beside the core next; then [`PeerSockets::transferred`].
    pub fn poll_transfer(&mut self) -> Option<Transfer<S>> {
        self.joined.poll_transfer()
    }

    /// It was done.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn transferred(
        &mut self,
        done: Transferred<S>,
        member: &mut Member<S>,
        now: Now,
    ) -> Result<(), Fatal> {
        self.joined.transferred(done, member, now)
    }

    /// Tells what has happened, and lets time pass.
    ///
    /// # Errors
    /// As [`PeerSockets::transferred`].
    pub fn begin_turn(
        &mut self,
        member: &mut Member<S>,
        ring: &mut Ring,
        now: Now,
    ) -> Result<(), Fatal> {
        self.work(member, ring, now)?;
        let mut is_all_told = false;
        for _ in 0..STEPS_PER_TURN {
            is_all_told = !self.step(ring, now.tick);
            if is_all_told {
                break;
            }
            self.work(member, ring, now)?;
        }
        if self.is_due(now.tick, is_all_told) {
            self.tick(member, ring, now)?;
            self.work(member, ring, now)?;
        }
        Ok(())
    }

    /// Does what has become to be done, and hands to the kernel what there is to send. True: there is more to do at
    /// once.
    ///
    /// # Errors
    /// As [`PeerSockets::transferred`].
    pub fn end_turn(
        &mut self,
        member: &mut Member<S>,
        ring: &mut Ring,
        now: Now,
    ) -> Result<bool, Fatal> {
        self.work(member, ring, now)?;
        let (mut last, mut has_more) = (None, false);
        while let Some(link) = self.joined.peers.next_output(last) {
            last = Some(link);
            has_more |= self.send(link, member, now)?;
        }
        self.work(member, ring, now)?;
        let due = self.joined.deadline(member, now.tick);
        self.next_tick = self.next_tick.min(due.max(now.tick.after(1)));
        Ok(has_more || self.has_more())
    }

    /// All that is to be done now.
    fn work(&mut self, member: &mut Member<S>, ring: &mut Ring, now: Now) -> Result<(), Fatal> {
        while let Some(outward) = self.joined.poll(member, now)? {
            match outward {
                Outward::Dial { link, to } => self.dial(link, &to, ring, now.tick),
                Outward::Listen(listens) => self.listen(listens, ring),
                Outward::Close(link, why) => {
                    if let Some(why) = why {
                        tracing::debug!("a connection of another server is closed: {why}");
                    }
                    self.close(link, ring);
                }
                Outward::Say(effect) => say(&effect),
                Outward::NotKept(why) => {
                    tracing::warn!("the leader's snapshot can't be kept, tried again: {why}");
                }
            }
        }
        Ok(())
    }

    /// Whether there is nothing that the ring does not tell of: for the last look before it waits.
    pub fn has_mail(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whether a connection waits to be read or accepted: the next turn comes at once.
    fn has_more(&self) -> bool {
        let mut readable = self.readable.iter();
        readable.any(|link| self.joined.peers.room(*link) > 0)
            || !self.decided.is_empty()
            || self.ports.values().any(|port| port.is_ready)
    }

    /// The ring has told of a key. False: it is not one of these.
    pub fn happened(&mut self, key: Key, readable: bool, writable: bool) -> bool {
        if key.0 & PEER == 0 {
            return false;
        }
        if let Some(port) = self.ports.get_mut(&key) {
            port.is_ready |= readable;
            return true;
        }
        let link = link_of(key);
        match self.held.get(&link) {
            Some(Held::Open(_)) => {
                if writable {
                    self.joined.peers.writable(link);
                }
                if readable && self.is_readable.insert(link) {
                    self.readable.push_back(link);
                }
            }
            Some(Held::Dialling { .. }) if writable || readable => self.decided.push_back(link),
            _ => {}
        }
        true
    }

    /// Tells the next thing that has happened; then comes what is to be done. False: nothing has.
    fn step(&mut self, ring: &mut Ring, now: Tick) -> bool {
        if let Some((number, found)) = self.names.take() {
            self.named(LinkId(number), found, ring, now);
        } else if let Some(link) = self.decided.pop_front() {
            self.dial_decided(link, ring, now);
        } else {
            // Who connects without end keeps nobody from being read.
            self.accepts_first = !self.accepts_first;
            return match self.accepts_first {
                true => self.accept(ring, now) || self.receive(ring),
                false => self.receive(ring) || self.accept(ring, now),
            };
        }
        true
    }

    /// Whether time passes now: behind what had happened by then, so that after a pause of the process nobody is given up
    /// whose bytes wait in a socket. `is_all_told`: [`PeerSockets::step`] has nothing more. Where there is always more,
    /// time passes a quarter of the patience later.
    fn is_due(&mut self, now: Tick, is_all_told: bool) -> bool {
        if now < self.next_tick {
            return false;
        }
        let quarter_ms = self.patience.as_millis() as u64 / 4;
        let overdue = *self.overdue.get_or_insert(now);
        is_all_told || now >= overdue.after(quarter_ms)
    }

    fn tick(&mut self, member: &mut Member<S>, ring: &mut Ring, now: Now) -> Result<(), Fatal> {
        self.overdue = None;
        self.try_to_listen(ring);
        if std::mem::take(&mut self.is_exhausted) {
            self.ports
                .values_mut()
                .for_each(|open| open.is_ready = true);
        }
        self.joined.tick(member, now)?;
        let deadline = self.joined.deadline(member, now.tick);
        self.next_tick = deadline.max(now.tick.after(1));
        Ok(())
    }

    /// True: it takes more.
    fn send(&mut self, link: LinkId, member: &mut Member<S>, now: Now) -> Result<bool, Fatal> {
        let mut sent = 0;
        while sent < SENT_PER_TURN {
            let bytes = self.joined.output(link, member, now)?;
            let Some(Held::Open(socket)) = self.held.get(&link) else {
                return Ok(false);
            };
            if bytes.is_empty() {
                return Ok(false);
            }
            // An error is told by what is received next.
            let (n, len) = (socket.send(bytes).unwrap_or(0), bytes.len());
            self.joined.peers.sent(link, n, now.tick);
            if n < len {
                return Ok(false);
            }
            sent += n;
        }
        Ok(true)
    }

    // Ports.

    fn open(&mut self, port: Port, listener: Listener, ring: &mut Ring) {
        self.ports_opened += 1;
        let key = key_of(PORTS + self.ports_opened);
        ring.watch_port(&listener, key);
        let open = Open {
            listener,
            port,
            is_ready: true,
        };
        self.ports.insert(key, open);
    }

    fn listen(&mut self, listens: bool, ring: &mut Ring) {
        self.listens = listens;
        if listens {
            self.try_to_listen(ring);
            return;
        }
        self.ports.retain(|key, open| {
            let stays = open.port != Port::Quorum;
            if !stays {
                ring.forget(*key);
            }
            stays
        });
    }

    /// Binds what the kernel has let go of, and listens on it if the member leads.
    fn try_to_listen(&mut self, ring: &mut Ring) {
        let is_open = self.ports.values().any(|open| open.port == Port::Quorum);
        if is_open {
            return;
        }
        if self.bound.is_empty() {
            let bound = self
                .quorum
                .iter()
                .map(|address| net::bind(*address, BACKLOG));
            match bound.collect::<io::Result<_>>() {
                Ok(bound) => self.bound = bound,
                Err(error) => {
                    return tracing::debug!("the quorum port can't be bound yet: {error}");
                }
            }
        }
        if !self.listens {
            return;
        }
        for bound in std::mem::take(&mut self.bound) {
            match bound.listen() {
                Ok(listener) => self.open(Port::Quorum, listener, ring),
                Err(error) => tracing::warn!("the quorum port can't be listened on: {error}"),
            }
        }
    }

    /// One connection that waits. False: nobody does.
    fn accept(&mut self, ring: &mut Ring, now: Tick) -> bool {
        let mut ports = self.ports.values_mut();
        let Some(open) = ports.find(|open| open.is_ready) else {
            return false;
        };
        match open.listener.accept() {
            Accepted::Connection(socket, peer) => {
                let port = open.port;
                let Some(link) = self.joined.peers.accepted(port, peer.ip(), now) else {
                    socket.reset_on_close();
                    return true;
                };
                self.watch(link, socket, port, ring);
            }
            Accepted::Gone => {}
            Accepted::Nobody => open.is_ready = false,
            Accepted::Exhausted => {
                open.is_ready = false;
                self.is_exhausted = true;
            }
        }
        true
    }

    // Connections.

    fn watch(&mut self, link: LinkId, socket: Socket, port: Port, ring: &mut Ring) {
        if port == Port::Election {
            // Silence is no fault there, so that only the kernel can tell that nobody is left.
            let _ = socket.keep_alive(self.patience);
        }
        ring.watch(&socket, key_of(link.0));
        self.held.insert(link, Held::Open(socket));
    }

    /// What the next readable connection has room for. False: none has.
    fn receive(&mut self, ring: &mut Ring) -> bool {
        for _ in 0..self.readable.len() {
            let Some(link) = self.readable.pop_front() else {
                break;
            };
            let Some(Held::Open(socket)) = self.held.get(&link) else {
                self.is_readable.remove(&link);
                continue;
            };
            let room = self.joined.peers.room(link).min(self.buffer.len());
            if room == 0 {
                self.readable.push_back(link);
                continue;
            }
            let is_over = match socket.receive(&mut self.buffer[..room]) {
                Ok(0) => true,
                Ok(n) => {
                    self.joined.peers.received(link, &self.buffer[..n]);
                    match n == room {
                        true => self.readable.push_back(link),
                        false => drop(self.is_readable.remove(&link)),
                    }
                    false
                }
                Err(error) if is_for_now(&error) => {
                    self.is_readable.remove(&link);
                    false
                }
                Err(_) => true,
            };
            if is_over {
                self.is_readable.remove(&link);
                self.close(link, ring);
                self.joined.peers.closed(link);
            }
            return true;
        }
        false
    }

    fn close(&mut self, link: LinkId, ring: &mut Ring) {
        match self.held.remove(&link) {
            Some(Held::Open(socket) | Held::Dialling { socket, .. }) => {
                ring.forget(key_of(link.0));
                // The ring holds the kernel's file for a moment longer; the other side is told now.
                socket.shutdown();
            }
            Some(Held::Named { .. }) | None => {}
        }
    }

    // Dials.

    fn dial(&mut self, link: LinkId, to: &Address, ring: &mut Ring, now: Tick) {
        if let Ok(ip) = to.host().parse() {
            let only = VecDeque::from([SocketAddr::new(ip, to.port())]);
            return self.dial_next(link, only, ring, now);
        }
        match self.names.look_up(link.0, to.host()) {
            true => {
                let port = to.port();
                self.held.insert(link, Held::Named { port });
            }
            false => self.joined.peers.dial_failed(link, now),
        }
    }

    fn named(&mut self, link: LinkId, found: Vec<IpAddr>, ring: &mut Ring, now: Tick) {
        if let Some(Held::Named { port }) = self.held.get(&link) {
            let port = *port;
            self.held.remove(&link);
            let found = found.into_iter().map(|ip| SocketAddr::new(ip, port));
            self.dial_next(link, found.collect(), ring, now);
        }
    }

    fn dial_next(
        &mut self,
        link: LinkId,
        mut left: VecDeque<SocketAddr>,
        ring: &mut Ring,
        now: Tick,
    ) {
        while let Some(address) = left.pop_front() {
            if let Ok(socket) = Socket::dial(address) {
                ring.watch(&socket, key_of(link.0));
                self.held.insert(link, Held::Dialling { socket, left });
                return;
            }
        }
        self.joined.peers.dial_failed(link, now);
    }

    fn dial_decided(&mut self, link: LinkId, ring: &mut Ring, now: Tick) {
        let Some(Held::Dialling { socket, .. }) = self.held.get(&link) else {
            return;
        };
        match socket.dial_outcome() {
            Ok(()) => {
                if let Some(Held::Dialling { socket, .. }) = self.held.remove(&link) {
                    let _ = socket.keep_alive(self.patience);
                    self.held.insert(link, Held::Open(socket));
                    self.joined.peers.dialled(link);
                    // What has come with it was told before anybody asked.
                    self.is_readable.insert(link);
                    self.readable.push_back(link);
                }
            }
            Err(error) if is_for_now(&error) => {}
            Err(_) => {
                ring.forget(key_of(link.0));
                if let Some(Held::Dialling { left, .. }) = self.held.remove(&link) {
                    self.dial_next(link, left, ring, now);
                }
            }
        }
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// For the operator.
fn say(effect: &Effect) {
    match effect {
        Effect::Serve(_, Duty::Leader(epoch)) => {
            tracing::info!("this server leads, epoch {}", epoch.0);
        }
        Effect::Serve(_, Duty::Follower) => tracing::info!("this server follows"),
        Effect::Serve(_, Duty::Observer) => tracing::info!("this server observes"),
        Effect::Left(_, why) => tracing::info!("this server has no leader any more: {why}"),
        _ => {}
    }
}

/// A number's name at the ring: 55 bits of it, around the mark.
fn key_of(number: u64) -> Key {
    Key(number >> 31 << 32 | PEER | number & (PEER - 1))
}

fn link_of(key: Key) -> LinkId {
    LinkId(key.0 >> 32 << 31 | key.0 & (PEER - 1))
}

#[cfg(test)]
mod tests;
