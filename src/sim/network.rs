//! The network between clients and the member, down to the server's kernel: bytes on their way, listen
//! backlog, receive queues, send buffers, and what the kernel reports of them.
//!
//! Each end of a connection is a bounded queue. What a client sends beyond the server's window waits
//! at the client; what the server writes beyond its send buffer is not taken. Reports are edges, and
//! a core gets one at its next look or, if it is newer than the turn before, at the one after that.

use super::base::{Base, Event};
use crate::placement::SocketId;
use crate::shard::Why;
use crate::types::{SessionId, Zxid};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Where the server's end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the listen backlog.
    Backlog,
    /// Accepted, on its way to a core that serves.
    HandedOver,
    /// At a core that serves.
    Open(u16, SocketId),
    /// Closed by the server, or gone with its process.
    Gone,
}

/// What a client gets to see of a connection, in order.
enum Shown {
    Bytes(Vec<u8>),
    End,
}

/// A request on its way.
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// The server takes it for one.
    pub(super) is_sign_of_life: bool,
}

/// One connection.
pub(super) struct Connection {
    /// Whose it is; `None`: somebody who speaks no ZooKeeper.
    pub(super) client: Option<usize>,
    pub(super) place: Place,
    /// The client still listens.
    pub(super) heard: bool,
    /// The ConnectResponse was handed over.
    pub(super) answered: bool,
    /// It presents a session with a password that is not the session's.
    pub(super) is_intruder: bool,
    /// The client has asked for what ends it, and its session lives on: what was answered is still flushed when
    /// the session is elsewhere.
    pub(super) ends_itself: bool,
    /// Its client has asked for the end of the session.
    pub(super) closes: bool,
    /// Whose connection it is, once it is answered.
    pub(super) session: SessionId,
    /// The session that the ConnectRequest presents, and the timeout that it would get, ms.
    pub(super) asks: Option<(SessionId, i32)>,
    pub(super) first_xid: i32,
    /// The last request was sent when no other one was under way.
    pub(super) lone: bool,
    /// The first bytes that the server sent.
    pub(super) head: Vec<u8>,
    /// When it sent the first one, µs.
    pub(super) answer_began: u64,
    to_server_at: u64,
    to_client_at: u64,
    /// Until when the client reads nothing, µs.
    pub(super) reads_again_at: u64,
    to_client: VecDeque<Shown>,
    /// Received by the kernel and not read.
    received: VecDeque<u8>,
    /// Beyond the window.
    waiting: VecDeque<u8>,
    window: usize,
    /// Offsets in the client's stream.
    sent_to: u64,
    received_to: u64,
    read_to: u64,
    /// Where the frame begins for which the server ends the connection.
    offends_from: u64,
    /// Where the requests end that are not received.
    ends: VecDeque<u64>,
    /// Where frames begin and end that are no sign of life, and are not received.
    mute: VecDeque<(u64, u64)>,
    /// Where the last request ends that is received.
    whole_to: u64,
    /// The client has closed, and everything before that has arrived.
    finished: bool,
    /// The end has arrived, perhaps before bytes that find no room.
    finishing: bool,
    reset: bool,
    /// Written and not received by the client.
    sending: usize,
    send_buffer: usize,
    /// A write took less than it was offered.
    wants_room: bool,
    /// What the model knows of it beside.
    pub(super) known: Known,
}

/// How slowly a client reads.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Until then, µs.
    pub(super) until_us: u64,
    /// Between two pieces, µs.
    pub(super) gap_us: u64,
    /// A piece, bytes.
    pub(super) piece: usize,
}

/// What ends of connections are held against.
#[derive(Default)]
pub(super) struct Known {
    /// The session that its ConnectRequest presents, and the newest state that its client has seen.
    pub(super) presents: Option<(SessionId, Zxid)>,
    /// When a core that serves got it, µs.
    pub(super) opened_us: u64,
    /// When the last bytes came into the receive queue, µs.
    pub(super) came_us: u64,
    /// Some of them were not read when the server closed it.
    pub(super) left_bytes: bool,
    /// When the server has last read bytes, µs.
    pub(super) read_us: u64,
    /// When the kernel has last taken bytes of the server, µs.
    pub(super) taken_us: u64,
    /// Whole frames that came: where each ends, and when that was, µs.
    pub(super) frames: Vec<(u64, u64)>,
    /// What the client has sent that ends the connection.
    pub(super) offence: Option<Why>,
    pub(super) pace: Option<Pace>,
}

impl Connection {
    /// Whether a whole request waits in the kernel.
    pub(super) fn has_request(&self) -> bool {
        self.whole_to > self.read_to
    }

    /// Whether bytes wait in the kernel that the server has reason to read.
    pub(super) fn has_bytes(&self) -> bool {
        !self.received.is_empty() && self.read_to < self.offends_from
    }

    /// So many bytes are received; how many of them are a sign of life.
    fn takes(&mut self, bytes: u64) -> u64 {
        let (from, to) = (self.received_to, self.received_to + bytes);
        self.received_to = to;
        let common = |&(begin, end): &(u64, u64)| end.min(to).saturating_sub(begin.max(from));
        bytes - self.mute.iter().map(common).sum::<u64>()
    }

    /// What ends it is sent behind so many bytes that are about to be sent.
    pub(super) fn offends_behind(&mut self, bytes: u64) {
        self.offends_from = self.offends_from.min(self.sent_to + bytes);
    }

    /// The client, or a reset, has ended it, and nothing waits to be read.
    pub(super) fn is_over(&self) -> bool {
        self.reset || self.finished && self.received.is_empty()
    }

    /// The client, or a reset, has ended it.
    pub(super) fn has_ended(&self) -> bool {
        self.finishing || self.reset
    }

    /// When the first of the frames came that were read whole and not executed, where so many were, µs.
    pub(super) fn parked_since(&self, executed: u64) -> Option<u64> {
        let next = self.known.frames.get(usize::try_from(executed).ok()?);
        let parked = next.filter(|(end, _)| *end <= self.read_to && !self.reset);
        parked.map(|(_, came_us)| *came_us)
    }

    /// Its client reads slowly from now on, behind a send buffer that holds little.
    pub(super) fn reads_slowly(&mut self, pace: Pace, send_buffer: usize) {
        self.known.pace = Some(pace);
        self.send_buffer = self.send_buffer.min(send_buffer);
    }

    /// Whether its client has ever read slowly.
    pub(super) fn was_slow(&self) -> bool {
        self.known.pace.is_some()
    }

    /// Whether its client reads slowly.
    pub(super) fn is_slow(&self, now_us: u64) -> bool {
        self.known.pace.is_some_and(|pace| pace.until_us > now_us)
    }

    /// Whether nothing is in the way of a reply.
    pub(super) fn is_idle(&self) -> bool {
        self.answered && self.sending == 0 && !self.wants_room
    }
}

/// What came into a receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Nothing,
    /// Bytes of a request.
    Part,
    /// The end of a request at least.
    Request,
}

/// A report of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) at_us: u64,
    pub(super) connection: usize,
    pub(super) socket: SocketId,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) ended: bool,
}

/// The kernel's side of one core.
#[derive(Default)]
pub(super) struct Kernel {
    pub(super) edges: Vec<Edge>,
    /// A connection came into the backlog at this moment, µs.
    pub(super) listener: Option<u64>,
    /// By slot.
    sockets: Vec<Option<(SocketId, usize)>>,
    /// Something was reported: whoever waits is woken.
    woken: bool,
    /// Until then it tells the core of nothing, µs: completions were lost, and not every socket is watched again.
    pub(super) behind_until: u64,
    /// The core was told of everything when its last wait ended.
    pub(super) has_told_all: bool,
}

impl Kernel {
    /// Whether the core has to wait for what it would have been told.
    pub(super) fn is_behind(&self, now_us: u64) -> bool {
        now_us < self.behind_until
    }
}

/// All connections of a run, the ended ones too.
pub(super) struct Network {
    pub(super) connections: Vec<Connection>,
    pub(super) backlog: VecDeque<usize>,
    pub(super) kernels: Vec<Kernel>,
    /// The core whose listening socket it is.
    accepting: u16,
    /// Bytes of receive window and send buffer that connections get.
    buffers: RangeInclusive<usize>,
    /// When the server has last read bytes of a client, µs: until then they waited, and nobody expires whose
    /// bytes wait.
    pub(super) last_read_us: u64,
}

impl Network {
    /// For `cores` cores, the last of which accepts.
    pub(super) fn new(cores: u16, buffers: RangeInclusive<usize>) -> Network {
        Network {
            connections: Vec::new(),
            backlog: VecDeque::new(),
            kernels: (0..cores).map(|_| Kernel::default()).collect(),
            accepting: cores - 1,
            buffers,
            last_read_us: 0,
        }
    }

    // ---- the clients' end ----

    /// A connection that comes into the backlog.
    pub(super) fn connect(
        &mut self,
        client: Option<usize>,
        first_xid: i32,
        asks: Option<(SessionId, i32)>,
        base: &mut Base,
    ) -> usize {
        self.connections.push(Connection {
            client,
            place: Place::Backlog,
            heard: true,
            answered: false,
            session: SessionId::NONE,
            asks,
            first_xid,
            lone: false,
            head: Vec::new(),
            answer_began: 0,
            to_server_at: 0,
            to_client_at: 0,
            reads_again_at: 0,
            to_client: VecDeque::new(),
            received: VecDeque::new(),
            waiting: VecDeque::new(),
            window: base.rng.usize(self.buffers.clone()),
            sent_to: 0,
            received_to: 0,
            read_to: 0,
            offends_from: u64::MAX,
            ends: VecDeque::new(),
            mute: VecDeque::new(),
            is_intruder: false,
            ends_itself: false,
            closes: false,
            whole_to: 0,
            finished: false,
            finishing: false,
            reset: false,
            sending: 0,
            send_buffer: base.rng.usize(self.buffers.clone()),
            wants_room: false,
            known: Known {
                opened_us: base.now_us,
                ..Known::default()
            },
        });
        let connection = self.connections.len() - 1;
        self.backlog.push_back(connection);
        let kernel = &mut self.kernels[usize::from(self.accepting)];
        kernel.listener.get_or_insert(base.now_us);
        kernel.woken = true;
        connection
    }

    /// One request of a client, now and then in two parts.
    pub(super) fn send_to_server(&mut self, connection: usize, bytes: Vec<u8>, base: &mut Base) {
        let frame = Frame {
            bytes,
            is_sign_of_life: true,
        };
        self.send_frames(connection, vec![frame], base);
    }

    /// Requests that leave together, now and then in two parts, wherever these end.
    pub(super) fn send_frames(&mut self, connection: usize, frames: Vec<Frame>, base: &mut Base) {
        let of = &mut self.connections[connection];
        let mut bytes = Vec::new();
        for frame in frames {
            let from = of.sent_to;
            of.sent_to += frame.bytes.len() as u64;
            of.ends.push_back(of.sent_to);
            if !frame.is_sign_of_life {
                of.mute.push_back((from, of.sent_to));
            }
            bytes.extend(frame.bytes);
        }
        if bytes.is_empty() {
            return;
        }
        let cut = match base.rng.u32(0..6) {
            0 => base.rng.usize(0..bytes.len()),
            _ => 0,
        };
        for part in [0..cut, cut..bytes.len()] {
            if part.is_empty() {
                continue;
            }
            of.to_server_at = (base.now_us + latency(base)).max(of.to_server_at);
            let bytes = bytes[part].to_vec();
            base.at_time(of.to_server_at, Event::ToServer { connection, bytes });
        }
    }

    /// A frame that is longer than the server takes.
    pub(super) fn send_too_much(&mut self, connection: usize, bytes: Vec<u8>, base: &mut Base) {
        let of = &mut self.connections[connection];
        (of.lone, of.ends_itself) = (false, true);
        of.offends_behind(0);
        of.known.offence.get_or_insert(Why::FrameLength);
        let frame = Frame {
            bytes,
            is_sign_of_life: false,
        };
        self.send_frames(connection, vec![frame], base);
    }

    /// A request that follows the last one on the connection by up to 3 ms.
    pub(super) fn trail_to_server(&mut self, connection: usize, bytes: Vec<u8>, base: &mut Base) {
        let of = &mut self.connections[connection];
        of.lone = false;
        of.sent_to += bytes.len() as u64;
        of.ends.push_back(of.sent_to);
        of.to_server_at = of.to_server_at.max(base.now_us) + base.rng.u64(1..3_000);
        base.at_time(of.to_server_at, Event::ToServer { connection, bytes });
    }

    /// The client hangs up, behind everything that it has sent.
    pub(super) fn close_by_client(&mut self, connection: usize, reset: bool, base: &mut Base) {
        let of = &mut self.connections[connection];
        of.heard = false;
        let at = of.to_server_at.max(base.now_us);
        base.at_time(at + 1, Event::ClosedByClient { connection, reset });
    }

    /// What reaches the client now, if it reads.
    pub(super) fn reach_client(&mut self, connection: usize, base: &mut Base) -> Option<Vec<u8>> {
        let of = &mut self.connections[connection];
        if of.reads_again_at > base.now_us && of.heard {
            base.at_time(of.reads_again_at, Event::ToClient { connection });
            return None;
        }
        let pace = of.known.pace.filter(|pace| pace.until_us > base.now_us);
        match of.to_client.pop_front()? {
            Shown::End => Some(Vec::new()),
            Shown::Bytes(mut bytes) => {
                if let Some(pace) = pace.filter(|_| of.heard) {
                    of.reads_again_at = base.now_us + pace.gap_us;
                    if bytes.len() > pace.piece {
                        let rest = bytes.split_off(pace.piece);
                        of.to_client.push_front(Shown::Bytes(rest));
                        base.at_time(of.reads_again_at, Event::ToClient { connection });
                    }
                }
                of.sending -= bytes.len();
                if std::mem::take(&mut of.wants_room) {
                    self.report(connection, false, true, false, base.now_us);
                }
                Some(bytes)
            }
        }
    }

    /// What the clients of connections that are gone have not read does not reach them.
    pub(super) fn forget_what_is_under_way(&mut self) {
        let gone = |of: &&mut Connection| of.place == Place::Gone;
        for of in self.connections.iter_mut().filter(gone) {
            of.to_client.retain(|shown| matches!(shown, Shown::End));
        }
    }

    // ---- the server's kernel ----

    /// Bytes reach the server.
    pub(super) fn receive(&mut self, connection: usize, bytes: &[u8], now_us: u64) -> Came {
        let of = &mut self.connections[connection];
        if of.place == Place::Gone || of.reset {
            return Came::Nothing;
        }
        of.waiting.extend(bytes);
        self.fill_window(connection, now_us)
    }

    /// Room in the window takes what waits at the client.
    pub(super) fn fill_window(&mut self, connection: usize, now_us: u64) -> Came {
        let of = &mut self.connections[connection];
        if of.place == Place::Gone || of.reset {
            return Came::Nothing;
        }
        let room = of.window.saturating_sub(of.received.len());
        let n = room.min(of.waiting.len());
        of.received.extend(of.waiting.drain(..n));
        if n > 0 {
            of.known.came_us = now_us;
        }
        let mut came = match of.takes(n as u64) {
            0 => Came::Nothing,
            _ => Came::Part,
        };
        while of.ends.front().is_some_and(|end| *end <= of.received_to) {
            of.whole_to = of.ends.pop_front().expect("just seen");
            of.known.frames.push((of.whole_to, now_us));
            match of.mute.front() {
                Some((_, end)) if *end == of.whole_to => drop(of.mute.pop_front()),
                _ => came = Came::Request,
            }
        }
        let ends = of.finishing && of.waiting.is_empty() && !of.finished;
        of.finished |= ends;
        if n > 0 || ends {
            self.report(connection, true, false, ends, now_us);
        }
        came
    }

    /// The client's end of the connection is closed; after a reset what was not read is lost.
    pub(super) fn closed_by_client(&mut self, connection: usize, reset: bool, now_us: u64) {
        let of = &mut self.connections[connection];
        of.reads_again_at = 0;
        if of.place == Place::Gone || of.reset {
            return;
        }
        of.finishing = true;
        if reset {
            of.reset = true;
            of.received.clear();
            of.waiting.clear();
            of.whole_to = of.read_to;
            self.report(connection, true, true, true, now_us);
        } else {
            self.fill_window(connection, now_us);
        }
    }

    fn report(
        &mut self,
        connection: usize,
        readable: bool,
        writable: bool,
        ended: bool,
        now_us: u64,
    ) {
        let Place::Open(core, socket) = self.connections[connection].place else {
            return;
        };
        let kernel = &mut self.kernels[usize::from(core)];
        kernel.woken = true;
        kernel.edges.push(Edge {
            at_us: now_us,
            connection,
            socket,
            readable,
            writable,
            ended,
        });
    }

    /// Whether something was reported to a core since this was asked.
    pub(super) fn wakes(&mut self, core: u16) -> bool {
        std::mem::take(&mut self.kernels[usize::from(core)].woken)
    }

    /// The next connection in the backlog; `Err`: it has gone.
    pub(super) fn accept(&mut self) -> Option<Result<usize, ()>> {
        let connection = self.backlog.pop_front()?;
        let of = &mut self.connections[connection];
        if of.reset {
            of.place = Place::Gone;
            return Some(Err(()));
        }
        of.place = Place::HandedOver;
        Some(Ok(connection))
    }

    /// A core that serves has a connection, which the kernel watches from now on: it reports at once
    /// what is there.
    pub(super) fn open(&mut self, connection: usize, core: u16, socket: SocketId, now_us: u64) {
        let sockets = &mut self.kernels[usize::from(core)].sockets;
        let slot = socket.slot as usize;
        if slot >= sockets.len() {
            sockets.resize(slot + 1, None);
        }
        let before = sockets[slot].replace((socket, connection));
        assert!(before.is_none(), "a slot is empty when it is used again");
        let of = &mut self.connections[connection];
        of.place = Place::Open(core, socket);
        of.known.opened_us = now_us;
        let (readable, ended) = (!of.received.is_empty(), of.finished || of.reset);
        if readable || ended {
            self.report(connection, readable, false, ended, now_us);
        }
    }

    /// The connection that a core knows as `socket`.
    pub(super) fn socket(&self, core: u16, socket: SocketId) -> Option<usize> {
        match self.kernels[usize::from(core)]
            .sockets
            .get(socket.slot as usize)?
        {
            Some((its, connection)) if *its == socket => Some(*connection),
            _ => None,
        }
    }

    /// Sockets of a core that are open.
    pub(super) fn sockets(&self, core: u16) -> usize {
        let sockets = &self.kernels[usize::from(core)].sockets;
        sockets.iter().flatten().count()
    }

    /// Reads up to `buffer`; `None`: the connection has ended.
    pub(super) fn read(
        &mut self,
        connection: usize,
        buffer: &mut [u8],
        base: &mut Base,
    ) -> Option<usize> {
        let of = &mut self.connections[connection];
        if of.reset {
            return None;
        }
        let n = buffer.len().min(of.received.len());
        if n == 0 {
            return (!of.finished).then_some(0);
        }
        for (to, byte) in buffer.iter_mut().zip(of.received.drain(..n)) {
            *to = byte;
        }
        of.read_to += n as u64;
        of.known.read_us = base.now_us;
        if !of.waiting.is_empty() {
            let delay = latency(base);
            base.at(delay, Event::Window { connection });
        }
        Some(n)
    }

    /// Bytes written that the client has not received.
    pub(super) fn unacknowledged(&self, connection: usize) -> usize {
        self.connections[connection].sending
    }

    /// Writes what fits; `None`: the connection is gone.
    pub(super) fn write(
        &mut self,
        connection: usize,
        bytes: &[u8],
        base: &mut Base,
    ) -> Option<usize> {
        let of = &mut self.connections[connection];
        if of.reset {
            return None;
        }
        let room = of.send_buffer.saturating_sub(of.sending);
        let n = room.min(bytes.len());
        of.wants_room = n < bytes.len();
        if n > 0 {
            of.sending += n;
            of.known.taken_us = base.now_us;
            self.show(connection, Shown::Bytes(bytes[..n].to_vec()), base);
        }
        Some(n)
    }

    fn show(&mut self, connection: usize, shown: Shown, base: &mut Base) {
        let of = &mut self.connections[connection];
        let takes = match shown {
            Shown::Bytes(_) => latency(base),
            Shown::End => 0,
        };
        of.to_client_at = (base.now_us + takes).max(of.to_client_at);
        of.to_client.push_back(shown);
        base.at_time(of.to_client_at, Event::ToClient { connection });
    }

    /// The server closes the connection, behind everything that it has written.
    pub(super) fn close(&mut self, connection: usize, base: &mut Base) {
        let of = &mut self.connections[connection];
        if let Place::Open(core, socket) = of.place {
            self.kernels[usize::from(core)].sockets[socket.slot as usize] = None;
        }
        of.place = Place::Gone;
        of.known.left_bytes = !of.received.is_empty();
        of.received.clear();
        of.waiting.clear();
        of.whole_to = of.read_to;
        self.show(connection, Shown::End, base);
    }

    /// The process is gone, and every connection with it.
    pub(super) fn process_died(&mut self, base: &mut Base) {
        for connection in 0..self.connections.len() {
            if self.connections[connection].place != Place::Gone {
                self.close(connection, base);
            }
        }
        self.backlog.clear();
        self.kernels.fill_with(Kernel::default);
    }
}

fn latency(base: &mut Base) -> u64 {
    match base.rng.u32(0..30) {
        0 => base.rng.u64(200..900),
        _ => base.rng.u64(10..120),
    }
}
