//! What the connections of a shard share, and every step that concerns one connection at a time.

use super::connection::{Attachment, Connecting, Connection, Pending, Phase, Step, Timing};
use super::handshake::{self, Verdict};
use super::reads::Reader;
use super::replies;
use super::stats::{Latency, op_name};
use super::watches::Watches;
use super::{ShardConfig, auth};
use crate::messages::{Origin, ShardRequest, Stamps};
use crate::proto::reply::{self, ReplyHeader};
use crate::proto::request::RequestHeader;
use crate::proto::{ConnectRequest, Request};
use crate::stages::{Stage, Stages};
use crate::tree::{Applied, Tree};
use crate::txn::WriteRequest;
use crate::txn::jute::Put;
use crate::types::{
    ConnId, DetHashMap, ErrorCode, Generation, Now, OpCode, SessionId, Tick, Xid, Zxid,
};
use std::collections::{BTreeSet, VecDeque};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// When its output is written.
    Flush,
    /// At once, without a further byte.
    Discard,
}

/// Since the last reset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) latency: Latency,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ShardState {
    pub(super) config: ShardConfig,
    pub(super) watches: Watches,
    /// For the pipeline. Bounded by the credits, plus one per connection.
    pub(super) up: VecDeque<ShardRequest>,
    /// Connections that the driver must look at, each once.
    pub(super) dirty: VecDeque<ConnId>,
    /// Connections whose next frame waits for credits, each once.
    pub(super) stalled: VecDeque<ConnId>,
    /// Writes without an outcome, also those of connections that are gone.
    pub(super) in_flight: usize,
    pub(super) totals: Totals,
    /// Replies and totals; the pipeline has what is before.
    pub(super) stages: Stages,
    /// Which connection serves a session, from the grant on.
    attachments: DetHashMap<SessionId, (Generation, ConnId)>,
    /// Writes without an outcome of connections that are gone.
    orphans: DetHashMap<ConnId, usize>,
    /// Connections that wait until the replica has reached a state.
    waiters: BTreeSet<(Zxid, ConnId)>,
    committed: Zxid,
    /// Sessions heard of since the last batch, each once.
    touched: Vec<SessionId>,
    batch: u64,
    pub(super) next_round: Tick,
    last_tick: Tick,
    /// The last round was put off.
    put_off: bool,
}

/// Tells the driver to look at a connection.
pub(super) fn mark_dirty(dirty: &mut VecDeque<ConnId>, c: &mut Connection) {
    if !c.dirty {
        c.dirty = true;
        dirty.push_back(c.id);
    }
}

impl ShardState {
    pub(super) fn new(config: ShardConfig) -> ShardState {
        ShardState {
            config,
            watches: Watches::default(),
            up: VecDeque::new(),
            dirty: VecDeque::new(),
            stalled: VecDeque::new(),
            in_flight: 0,
            totals: Totals::default(),
            stages: Stages::default(),
            attachments: DetHashMap::default(),
            orphans: DetHashMap::default(),
            waiters: BTreeSet::new(),
            committed: Zxid::ZERO,
            touched: Vec::new(),
            batch: 1,
            next_round: Tick(0),
            last_tick: Tick(0),
            put_off: false,
        }
    }

    /// Executes and answers what is ready at the head of the FIFO, parses what may be parsed, and
    /// so on until nothing moves.
    pub(super) fn advance(&mut self, c: &mut Connection, tree: &Tree, now: Now) {
        self.drain(c, tree, now);
        while self.may_parse(c) {
            let Ok(frame) = c.input.next(self.config.frame_max) else {
                self.end(c, Ending::Flush);
                break;
            };
            let Some(frame) = frame else { break };
            c.counters.received += 1;
            self.totals.received += 1;
            match c.phase {
                Phase::Fresh => match ConnectRequest::decode(frame) {
                    Some(request) => self.connect(c, request, tree),
                    None => self.end(c, Ending::Discard),
                },
                Phase::Attached(attachment) => match Request::decode(frame) {
                    Some((header, request)) => self.enqueue(c, attachment, header, request),
                    None => self.end(c, Ending::Flush),
                },
                Phase::Connecting(_) | Phase::Ended { .. } => unreachable!("not parsed now"),
            }
            self.drain(c, tree, now);
        }
        self.note_reading(c);
    }

    /// Whether the next frame may be taken from the input. The only place that holds a connection
    /// back; whatever it waits for calls [`ShardState::advance`] when it comes.
    fn may_parse(&mut self, c: &mut Connection) -> bool {
        if c.deaf || c.input.is_empty() || !self.has_room(c) {
            return false;
        }
        // Everybody may have one request under way, so that no connection starves.
        let credit = self.in_flight < self.config.in_flight_max || c.fifo.is_empty();
        if !credit && !c.stalled {
            c.stalled = true;
            self.stalled.push_back(c.id);
        }
        credit
    }

    fn has_room(&self, c: &Connection) -> bool {
        match c.phase {
            Phase::Connecting(_) | Phase::Ended { .. } => false,
            // A sync that waits for the replica must not be overtaken by a write of its own
            // session, or a read between the two would see that write.
            Phase::Fresh | Phase::Attached(_) => {
                c.output.len() <= self.config.output_max
                    && c.fifo.len() < self.config.fifo_max
                    && c.syncs == 0
            }
        }
    }

    /// What is left over in the input waits for us, not for the client.
    pub(super) fn wants_input(&self, c: &Connection) -> bool {
        let credit = self.in_flight < self.config.in_flight_max || c.fifo.is_empty();
        let moving = self.has_room(c) && credit;
        let full = c.output.len() > self.config.output_max;
        !c.ended() && !c.deaf && !full && (moving || c.input.is_empty())
    }

    /// The driver looks again at a connection that it may read again.
    fn note_reading(&mut self, c: &mut Connection) {
        let reading = self.wants_input(c);
        if reading && !c.reading {
            mark_dirty(&mut self.dirty, c);
        }
        c.reading = reading;
    }

    /// Works off the FIFO from its head, in order.
    ///
    /// A write at the head waits for its outcome: what is behind it, reads included, was sent
    /// after it and must see it. A read that gets to the head executes at once, whatever writes
    /// of other sessions are under way. When the output is full it waits, unless a later write of
    /// this session is under way: it must not see that one.
    fn drain(&mut self, c: &mut Connection, tree: &Tree, now: Now) {
        while let Some(head) = c.fifo.front_mut() {
            match &mut head.step {
                Step::Write => return,
                Step::Sync { target, .. } => {
                    let target = *target.get_or_insert(self.committed.max(tree.last_zxid()));
                    if tree.last_zxid() < target {
                        self.waiters.insert((target, c.id));
                        return;
                    }
                }
                Step::Read(_) | Step::Ping | Step::Answer { .. } => {}
            }
            if c.output.len() > self.config.output_max && c.unanswered_writes == 0 {
                return;
            }
            let pending = c.pop().expect("there is a head");
            self.answer(c, pending, tree, now);
        }
    }

    /// A parsed request takes its place in the FIFO.
    fn enqueue(
        &mut self,
        c: &mut Connection,
        attachment: Attachment,
        header: RequestHeader,
        request: Request,
    ) {
        let RequestHeader { xid, op } = header;
        if !matches!(request, Request::Auth { .. }) {
            self.touch(c, attachment.session);
        }
        let step = match request {
            Request::Write(request) => self.hand_up(c, attachment, xid, request),
            Request::Read(read) => Step::Read(read),
            Request::Ping => Step::Ping,
            Request::Sync(path) => {
                c.syncs += 1;
                Step::Sync { path, target: None }
            }
            Request::Auth { scheme, auth } => self.authenticate(c, scheme.as_deref(), auth),
            Request::Malformed => Step::Answer {
                error: ErrorCode::MARSHALLING,
                zxid: None,
                close: false,
            },
            Request::Unknown => {
                c.deaf = true;
                Step::Answer {
                    error: ErrorCode::UNIMPLEMENTED,
                    zxid: Some(Zxid(-1)),
                    close: true,
                }
            }
        };
        c.fifo.push_back(Pending {
            xid,
            op,
            received: c.received_at,
            credentials: c.credentials.clone(),
            step,
        });
    }

    fn hand_up(
        &mut self,
        c: &mut Connection,
        attachment: Attachment,
        xid: Xid,
        request: WriteRequest,
    ) -> Step {
        if request == WriteRequest::CloseSession {
            c.deaf = true;
        }
        c.unanswered_writes += 1;
        self.in_flight += 1;
        self.up.push_back(ShardRequest::Write {
            origin: Origin {
                shard: self.config.id,
                conn: c.id,
                sequence: c.next_sequence(),
            },
            session: attachment.session,
            generation: attachment.generation,
            xid,
            request,
            credentials: c.credentials.clone(),
            stamps: Stamps {
                received: c.received_at,
                ..Stamps::default()
            },
        });
        Step::Write
    }

    /// The credentials change here, in stream order; the reply waits for its turn.
    fn authenticate(
        &mut self,
        c: &mut Connection,
        scheme: Option<&str>,
        data: Option<Vec<u8>>,
    ) -> Step {
        let added = auth::add(&c.credentials, &c.peer.address, scheme, data.as_deref());
        let error = match added {
            Ok(credentials) => {
                c.credentials = credentials;
                ErrorCode::OK
            }
            Err(auth::AuthFailed) => {
                c.deaf = true;
                ErrorCode::AUTH_FAILED
            }
        };
        Step::Answer {
            error,
            zxid: Some(Zxid::ZERO),
            close: error != ErrorCode::OK,
        }
    }

    /// Answers a request that is at the head and is no write.
    fn answer(&mut self, c: &mut Connection, pending: Pending, tree: &Tree, now: Now) {
        let mut header = ReplyHeader {
            xid: pending.xid,
            zxid: tree.last_zxid(),
            err: ErrorCode::OK,
        };
        let mut events = 0;
        let mut then_close = false;
        match &pending.step {
            Step::Write => unreachable!("answered by its outcome"),
            Step::Read(read) => {
                let mut reader = Reader {
                    tree,
                    watches: &mut self.watches,
                    conn: c.id,
                    credentials: &pending.credentials,
                    xid: pending.xid,
                    out: &mut c.output,
                };
                (header.err, events) = reader.execute(read);
            }
            Step::Ping => {
                header.xid = Xid(-2);
                reply::header_only(&mut c.output, header);
            }
            Step::Sync { path, .. } => {
                reply::with_body(&mut c.output, header, |out| {
                    out.put_buf(path.as_deref().map(str::as_bytes));
                });
            }
            Step::Answer { error, zxid, close } => {
                header.err = *error;
                header.zxid = zxid.unwrap_or(header.zxid);
                then_close = *close;
                reply::header_only(&mut c.output, header);
            }
        }
        let read = matches!(pending.step, Step::Read(_));
        let timing = read.then_some(Timing::Read(pending.received));
        self.replied(c, &pending, header, timing, 1 + events, now);
        if then_close {
            self.end(c, Ending::Flush);
        }
    }

    /// Answers the write at the head with its outcome.
    pub(super) fn answer_write(
        &mut self,
        c: &mut Connection,
        origin: Origin,
        applied: &Applied,
        timing: Timing,
        now: Now,
    ) {
        let pending = take_write(c, origin);
        let header = ReplyHeader {
            xid: pending.xid,
            zxid: applied.zxid,
            err: replies::header_error(&applied.result),
        };
        reply::with_body(&mut c.output, header, |out| {
            replies::put_outcome(out, &applied.result);
        });
        self.replied(c, &pending, header, Some(timing), 1, now);
        if pending.op == OpCode::CLOSE_SESSION {
            self.end(c, Ending::Flush);
        }
    }

    /// Answers the write at the head that took no zxid (client.md §2.1).
    pub(super) fn answer_refused(
        &mut self,
        c: &mut Connection,
        origin: Origin,
        tree: &Tree,
        now: Now,
    ) {
        let pending = take_write(c, origin);
        let header = ReplyHeader {
            xid: pending.xid,
            zxid: tree.last_zxid(),
            err: ErrorCode::SYSTEM_ERROR,
        };
        reply::header_only(&mut c.output, header);
        self.replied(c, &pending, header, None, 1, now);
        if pending.op == OpCode::CLOSE_SESSION {
            self.end(c, Ending::Flush);
        }
    }

    /// Counts a reply whose bytes are in the output, and ends a connection that does not take
    /// them.
    fn replied(
        &mut self,
        c: &mut Connection,
        pending: &Pending,
        header: ReplyHeader,
        timing: Option<Timing>,
        frames: u64,
        now: Now,
    ) {
        if pending.op != OpCode::AUTH {
            let write = matches!(pending.step, Step::Write);
            let op = op_name(pending.op, header.err, write);
            let ms = c
                .counters
                .replied(op, pending.xid, header.zxid, pending.received, now);
            self.totals.latency.add(ms);
        }
        self.sent(c, timing, frames);
        if c.excess > self.config.output_excess_max {
            self.end(c, Ending::Discard);
        }
    }

    fn sent(&mut self, c: &mut Connection, timing: Option<Timing>, frames: u64) {
        c.counters.sent += frames;
        self.totals.sent += frames;
        c.unsent.extend(timing);
        c.account_output(self.config.output_max);
        mark_dirty(&mut self.dirty, c);
    }

    fn connect(&mut self, c: &mut Connection, request: ConnectRequest, tree: &Tree) {
        let connecting = Connecting {
            timeout_ms: request.timeout_ms.clamp(
                self.config.session_timeout_min_ms,
                self.config.session_timeout_max_ms,
            ),
            with_read_only: request.read_only.is_some(),
            received: c.received_at,
            granted: None,
        };
        c.phase = Phase::Connecting(connecting);
        let origin = Origin {
            shard: self.config.id,
            conn: c.id,
            sequence: 0,
        };
        match handshake::judge(&request, self.committed.max(tree.last_zxid())) {
            Verdict::CloseSilently => self.end(c, Ending::Discard),
            Verdict::Dead => self.answer_dead(c),
            Verdict::Open => self.up.push_back(ShardRequest::NewSession {
                origin,
                timeout_ms: connecting.timeout_ms,
                stamps: Stamps {
                    received: c.received_at,
                    ..Stamps::default()
                },
            }),
            Verdict::Reattach => self.up.push_back(ShardRequest::Reattach {
                origin,
                session: request.session,
                timeout_ms: connecting.timeout_ms,
            }),
        }
    }

    /// The session of a connecting client does not exist.
    pub(super) fn answer_dead(&mut self, c: &mut Connection) {
        let Phase::Connecting(connecting) = c.phase else {
            return;
        };
        reply::dead_session(&mut c.output, connecting.with_read_only);
        self.sent(c, None, 1);
        self.end(c, Ending::Flush);
    }

    /// The createSession of a connecting client has been applied.
    pub(super) fn open(
        &mut self,
        c: &mut Connection,
        attachment: Attachment,
        zxid: Zxid,
        timing: Timing,
        tree: &Tree,
        now: Now,
    ) {
        let Phase::Connecting(connecting) = c.phase else {
            return;
        };
        c.unsent.push(timing);
        let op = op_name(OpCode::CREATE_SESSION, ErrorCode::OK, true);
        let ms = c
            .counters
            .replied(op, Xid(0), zxid, connecting.received, now);
        self.totals.latency.add(ms);
        self.grant(c, attachment, zxid, tree, now);
    }

    /// The session is this connection's. The response leaves when the replica has reached
    /// `committed`.
    pub(super) fn grant(
        &mut self,
        c: &mut Connection,
        attachment: Attachment,
        committed: Zxid,
        tree: &Tree,
        now: Now,
    ) {
        let Phase::Connecting(mut connecting) = c.phase else {
            return;
        };
        let serves = (attachment.generation, c.id);
        let before = self.attachments.insert(attachment.session, serves);
        assert!(before.is_none(), "the old connection was detached first");
        if committed > tree.last_zxid() {
            connecting.granted = Some(attachment);
            c.phase = Phase::Connecting(connecting);
            self.waiters.insert((committed, c.id));
        } else {
            self.establish(c, connecting, attachment);
            self.advance(c, tree, now);
        }
    }

    fn establish(&mut self, c: &mut Connection, connecting: Connecting, attachment: Attachment) {
        let Attachment {
            session,
            timeout_ms,
            ..
        } = attachment;
        reply::connected(
            &mut c.output,
            session,
            timeout_ms,
            connecting.with_read_only,
        );
        self.sent(c, None, 1);
        c.phase = Phase::Attached(attachment);
        // The client begins to count now, however long this shard was behind.
        self.touch(c, session);
    }

    /// Goes on with a connection that waited for the replica.
    pub(super) fn resume(&mut self, c: &mut Connection, tree: &Tree, now: Now) {
        if let Phase::Connecting(connecting) = c.phase
            && let Some(attachment) = connecting.granted
        {
            self.establish(c, connecting, attachment);
        }
        self.advance(c, tree, now);
    }

    /// The next connection that waited for a state that the replica has reached.
    pub(super) fn next_waiter(&mut self, reached: Zxid) -> Option<ConnId> {
        let &(zxid, conn) = self.waiters.first()?;
        if zxid > reached {
            return None;
        }
        self.waiters.pop_first();
        Some(conn)
    }

    pub(super) fn raise_committed(&mut self, committed: Zxid) {
        self.committed = self.committed.max(committed);
    }

    /// The connection that serves a session.
    pub(super) fn attached(&self, session: SessionId) -> Option<ConnId> {
        self.attachments.get(&session).map(|&(_, conn)| conn)
    }

    /// The same, if its attachment is not newer than `generation`.
    pub(super) fn attached_until(
        &self,
        session: SessionId,
        generation: Generation,
    ) -> Option<ConnId> {
        let &(current, conn) = self.attachments.get(&session)?;
        (current <= generation).then_some(conn)
    }

    /// Confirms a Detach, also of an attachment that was gone.
    pub(super) fn released(&mut self, session: SessionId, generation: Generation) {
        self.up.push_back(ShardRequest::Released {
            shard: self.config.id,
            session,
            generation,
        });
    }

    /// A write has its outcome, and gives its credit back.
    pub(super) fn outcome(&mut self, c: Option<&mut Connection>, conn: ConnId) {
        let owed = match c.filter(|c| !c.ended()) {
            Some(c) => Some(&mut c.unanswered_writes),
            None => self.orphans.get_mut(&conn),
        };
        let Some(owed) = owed.filter(|owed| **owed > 0) else {
            return;
        };
        *owed -= 1;
        self.in_flight -= 1;
        if self.orphans.get(&conn) == Some(&0) {
            self.orphans.remove(&conn);
        }
    }

    /// Ends a connection: nothing of it executes any more but what has been handed up. Its
    /// session lives on until it expires or is closed.
    pub(super) fn end(&mut self, c: &mut Connection, ending: Ending) {
        let discard = ending == Ending::Discard;
        mark_dirty(&mut self.dirty, c);
        if discard {
            c.take_output();
            c.unsent = Vec::new();
        }
        if c.ended() {
            if discard {
                c.phase = Phase::Ended { discard };
            }
            return;
        }
        self.forget_attachment(c);
        self.watches.forget(c.id);
        if c.unanswered_writes > 0 {
            self.orphans.insert(c.id, c.unanswered_writes);
            c.unanswered_writes = 0;
        }
        c.fifo = VecDeque::new();
        c.syncs = 0;
        c.input.clear();
        c.undrained_rounds = 0;
        c.phase = Phase::Ended { discard };
    }

    fn forget_attachment(&mut self, c: &Connection) {
        let attachment = match c.phase {
            Phase::Attached(attachment) => Some(attachment),
            Phase::Connecting(connecting) => connecting.granted,
            Phase::Fresh | Phase::Ended { .. } => None,
        };
        if let Some(Attachment { session, .. }) = attachment
            && self.attached(session) == Some(c.id)
        {
            self.attachments.remove(&session);
        }
    }

    fn touch(&mut self, c: &mut Connection, session: SessionId) {
        if c.touched_batch != self.batch {
            c.touched_batch = self.batch;
            self.touched.push(session);
        }
    }

    /// Whether timeouts are to be looked at and touches to be reported.
    ///
    /// After a pause of the whole process the pings of all clients are still in their sockets:
    /// a watermark now would expire everybody. So the round waits for one intake, but not longer.
    pub(super) fn round_is_due(&mut self, now: Now) -> bool {
        let half = (self.config.tick_time_ms / 2).max(1);
        let paused = now.tick.0 - self.last_tick.0 > half;
        self.last_tick = now.tick;
        if now.tick < self.next_round {
            return false;
        }
        if paused && !self.put_off {
            self.put_off = true;
            return false;
        }
        self.put_off = false;
        self.next_round = now.tick.after(half);
        true
    }

    /// One round over one connection.
    pub(super) fn housekeep(&mut self, c: &mut Connection, now: Now) {
        let half = (self.config.tick_time_ms / 2).max(1);
        let patience = |timeout_ms: i32| u64::try_from(timeout_ms).unwrap_or(0) / half + 1;
        let waited = now.tick.0 - c.accepted.0;
        let handshake_over = waited > self.config.handshake_timeout_ms;
        c.quiet_rounds += 1;
        c.undrained_rounds = if c.output.is_empty() {
            0
        } else {
            c.undrained_rounds + 1
        };
        match c.phase {
            Phase::Fresh | Phase::Connecting(_) if handshake_over => self.end(c, Ending::Discard),
            Phase::Fresh | Phase::Connecting(_) => {}
            Phase::Attached(attachment) => {
                // Whole requests wait in the input because we hold it back: that is no silence.
                if !c.input.is_empty() && !self.wants_input(c) {
                    self.touch(c, attachment.session);
                }
                let limit = patience(attachment.timeout_ms);
                let idle = c.fifo.is_empty() && c.quiet_rounds > limit;
                if idle || c.undrained_rounds > limit {
                    self.end(c, Ending::Discard);
                }
            }
            Phase::Ended { .. } => {
                if c.undrained_rounds > patience(self.config.session_timeout_max_ms) {
                    self.end(c, Ending::Discard);
                }
            }
        }
    }

    /// Hands the touched sessions up, also when there are none: the watermark must move.
    pub(super) fn report_touched(&mut self, now: Now) {
        self.batch += 1;
        self.up.push_back(ShardRequest::Touched {
            shard: self.config.id,
            watermark: now.tick,
            sessions: std::mem::take(&mut self.touched),
        });
    }

    /// A reply has been taken by the driver. The stages up to applied are the pipeline's.
    pub(super) fn record(&mut self, timing: Timing, now: Now) {
        match timing {
            Timing::Read(received) => self.stages.record(Stage::Read, received, now.micros),
            Timing::Write(Stamps { received, .. }, applied) => {
                self.stages.record(Stage::Reply, applied, now.micros);
                self.stages.record(Stage::Write, received, now.micros);
            }
        }
    }
}

/// Outcomes come in the order of the requests, and everything before a write has been answered
/// when its outcome comes: so it is for the head.
fn take_write(c: &mut Connection, origin: Origin) -> Pending {
    assert_eq!(
        c.first_sequence, origin.sequence,
        "an outcome that is not for the head"
    );
    let pending = c.pop().expect("the head is there");
    assert!(
        matches!(pending.step, Step::Write),
        "an outcome for what is no write"
    );
    pending
}
