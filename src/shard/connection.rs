//! One connection: unparsed input, the FIFO of requests, unsent output, and what it counts.
//! Decides nothing about other connections; [`super::Shard`] does.

use super::endings::Why;
use super::slices::{Draft, SetWatches};
use super::stats::{ClientAddress, ConnStats, Counted, Resets, SessionStats};
use crate::constants::CONNECTION_SHARE;
use crate::messages::Stamps;
use crate::proto::{Frame, ReadRequest, split_frame};
use crate::txn::Credentials;
use crate::types::{ConnId, ErrorCode, Generation, Now, OpCode, SessionId, Tick, Xid, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No whole ConnectRequest yet.
    Fresh,
    /// The pipeline has been asked for a session; frames behind the ConnectRequest wait.
    Connecting(Connecting),
    /// Serves its session.
    Attached(Attachment),
    /// Only what is left of the output matters. The driver closes the socket when that is
    /// written, or at once, and then calls `closed`.
    Ended {
        /// Nothing more may leave.
        discard: bool,
    },
}

/// A handshake that waits for the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connecting {
    /// Negotiated, ms.
    pub(super) timeout_ms: i32,
    /// The request had the readOnly byte, so the response has it too.
    pub(super) with_read_only: bool,
    /// When the ConnectRequest came, µs.
    pub(super) received: u64,
    /// Granted, but the replica must reach the state first that the grant is based on.
    pub(super) granted: Option<Attachment>,
}

/// A session served by a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    /// Negotiated by this connection, ms.
    pub(super) timeout_ms: i32,
}

/// One entry of the FIFO.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) xid: Xid,
    pub(super) op: OpCode,
    /// When its bytes came, µs.
    pub(super) received: u64,
    /// Bytes in memory, roughly: this entry, and the request wherever it is.
    pub(super) weight: usize,
    /// What its execution was expected to cost when it was parsed behind another request.
    pub(super) ahead: usize,
    pub(super) step: Step,
}

/// What is to be done when a request is at the head of its FIFO.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Wait for the outcome from the pipeline.
    Write,
    /// Execute on the replica.
    Read(ReadRequest),
    /// Register watches on the replica, in slices.
    SetWatches(SetWatches),
    /// Answer.
    Ping,
    /// Wait until the replica has reached what is committed when this gets to the head. A member of an ensemble asks
    /// the pipeline first.
    Sync {
        path: Option<Arc<str>>,
        /// The pipeline is asked.
        is_asked: bool,
        /// Set at the head, or when the pipeline has answered.
        target: Option<Zxid>,
    },
    /// Answer a token of SASL with a null one: there is no provider of SASL.
    Token,
    /// Decided when it was parsed.
    Answer {
        error: ErrorCode,
        /// `None`: last applied.
        zxid: Option<Zxid>,
        /// The connection ends behind it, and why.
        ends: Option<Why>,
    },
}

/// Times of a reply that the driver has not taken, for the histograms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timing {
    /// Of a read: when its request came, µs.
    Read(u64),
    /// Of a write: its stages, and when the replica had applied it, µs.
    Write(Stamps, u64),
}

/// A frame's length is negative or beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadLength;

/// What stands at the beginning of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// Nothing.
    Empty,
    /// Less than a frame, whose whole length is this if it is known, bytes.
    Partial(Option<usize>),
    /// A frame with this payload.
    Whole(&'a [u8]),
    /// A length that is refused.
    Bad,
}

/// A buffer of at most so many bytes, and a queue of at most so many entries, are kept when they are
/// empty.
const KEPT_BYTES: usize = 1 << 10;
const KEPT_ENTRIES: usize = 16;
/// Times of so many replies of a connection wait until the driver takes the replies.
pub(super) const TIMINGS_MAX: usize = 512;
/// Room is made at once for so many times what has come, at most.
const GROWTH: usize = 15;

/// Received bytes that are not parsed yet. Grows with what arrives, and by an announced length only when
/// [`CONNECTION_SHARE`] of it has come: what is beyond that is read only when there is memory for all of the frame, and
/// to grow by doubling copies a large one twice.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.len() >= CONNECTION_SHARE {
            let len = self.bytes.len();
            let rest = self.announced().saturating_sub(len).min(GROWTH * len);
            self.bytes.reserve_exact(rest.max(bytes.len()));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The length of the frame at the beginning, its prefix included. One that is refused is never waited for.
    fn announced(&self) -> usize {
        let prefix = self.bytes.first_chunk();
        prefix.map_or(0, |prefix| u32::from_be_bytes(*prefix) as usize + 4)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Input::default();
    }

    /// Bytes that are not parsed.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The bytes that are not parsed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// What stands at the beginning.
    pub(super) fn peek(&self, frame_max: usize) -> Next<'_> {
        let bytes = self.bytes();
        match split_frame(bytes, frame_max) {
            _ if bytes.is_empty() => Next::Empty,
            Frame::Whole(payload, _) => Next::Whole(payload),
            Frame::Oversized => Next::Bad,
            Frame::Partial => {
                let length = bytes.first_chunk().map(|head| u32::from_be_bytes(*head));
                Next::Partial(length.map(|length| 4 + length as usize))
            }
        }
    }

    /// Bytes that the frame at the beginning still lacks, as far as its length is known.
    pub(super) fn lacks(&self, frame_max: usize) -> usize {
        match self.peek(frame_max) {
            Next::Partial(Some(len)) => len - self.len(),
            Next::Empty | Next::Partial(None) | Next::Whole(_) | Next::Bad => 0,
        }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back the memory of what has been parsed, if that is more than what has not; a small
    /// buffer is used again.
    pub(super) fn release(&mut self) {
        if self.start < self.len() || self.memory() <= KEPT_BYTES {
            return;
        }
        self.bytes = self.bytes().to_vec();
        self.start = 0;
    }

    /// Takes the next whole frame's payload.
    pub(super) fn next(&mut self, frame_max: usize) -> Result<Option<&[u8]>, BadLength> {
        match split_frame(&self.bytes[self.start..], frame_max) {
            Frame::Partial => Ok(None),
            Frame::Oversized => Err(BadLength),
            Frame::Whole(payload, used) => {
                self.start += used;
                Ok(Some(payload))
            }
        }
    }
}

/// What the input may hold beyond the connection's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// Bytes that the input may hold.
    pub(super) input_max: usize,
    /// Bytes set aside: what the request may weigh when it is decoded.
    pub(super) weight: usize,
}

/// How the memory that a connection holds fills, or gets free, as the rounds see it: its client sends what it
/// was granted memory for, or takes the replies that its requests wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filling {
    /// Bytes received, or taken of a full output, since a share of them moved last.
    bytes: usize,
    /// Rounds since then in which the connection waited for memory, and was not read.
    held_rounds: u64,
    /// Rounds since then in which its client might have moved some, while others waited for memory.
    stuck_rounds: u64,
    /// Rounds in a row in which its output was full while others waited for memory that it held.
    full_rounds: u64,
}

impl Filling {
    /// Rounds in which less than a share may move, at least, beside those in which the connection was not read.
    pub(super) const PATIENCE_MIN: u64 = 2;
    /// Rounds in a row in which a full output may keep requests in memory for which others wait, at whatever
    /// pace it is taken: behind it thousands of replies may be waiting.
    const FULL_MAX: u64 = 16;

    /// Bytes have moved. Fewer than a share at a time are no progress: whoever waits for the memory would
    /// wait for ever.
    pub(super) fn moved(&mut self, bytes: usize, share: usize) {
        self.bytes += bytes;
        if self.bytes >= share {
            (self.bytes, self.held_rounds, self.stuck_rounds) = (0, 0, 0);
        }
    }

    /// The shard does not read the connection in this round.
    pub(super) fn is_held(&mut self) {
        self.held_rounds += 1;
        (self.stuck_rounds, self.full_rounds) = (0, 0);
    }

    /// The connection is read, and nothing of it waits in the kernel.
    pub(super) fn is_read(&mut self) {
        self.stuck_rounds += 1;
        self.full_rounds = 0;
    }

    /// The requests that the connection holds wait because its output is full.
    pub(super) fn is_full(&mut self) {
        self.stuck_rounds += 1;
        self.full_rounds += 1;
    }

    /// Nobody else waits for the memory, or what waits in the kernel fills it.
    pub(super) fn is_well(&mut self) {
        (self.stuck_rounds, self.full_rounds) = (0, 0);
    }

    /// Whether a client that was read all the time would have moved a share; it has `patience` rounds for one.
    pub(super) fn is_late(&self, patience: u64) -> bool {
        self.stuck_rounds > patience || self.full_rounds > Self::FULL_MAX
    }

    /// Whether a client that was not read would have moved a share too. A sender that met a full receive
    /// buffer tries again after pauses that double: they are about as long as the receiver has not read.
    pub(super) fn is_overdue(&self, patience: u64) -> bool {
        self.is_overdue_behind(patience + self.held_rounds) || self.full_rounds > Self::FULL_MAX
    }

    /// Whether so many rounds are over in which the client has not moved a share.
    pub(super) fn is_overdue_behind(&self, rounds: u64) -> bool {
        self.stuck_rounds > rounds
    }
}

/// For how long nothing has moved, as the rounds see it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence {
    /// Rounds in which nothing had moved.
    pub(super) rounds: u64,
    /// When the first of them was.
    since: Tick,
}

impl Silence {
    /// A round has seen that nothing moved.
    pub(super) fn count(&mut self, now: Now) {
        if self.rounds == 0 {
            self.since = now.tick;
        }
        self.rounds += 1;
    }

    /// Whether it is known up to `until`, and longer than `timeout_ms`.
    pub(super) fn exceeds(&self, timeout_ms: i32, until: Tick) -> bool {
        let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
        self.rounds > 0 && until > self.since.after(timeout_ms)
    }
}

/// One connection, from the first byte until its socket is closed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) peer: ClientAddress,
    pub(super) phase: Phase,
    pub(super) input: Input,
    /// When the newest bytes came, µs.
    pub(super) received_at: u64,
    /// What follows in the input is not for us: behind closeSession, an unknown operation or a
    /// failed auth.
    pub(super) deaf: bool,
    pub(super) credentials: Credentials,
    /// Whether the operator lets somebody with these credentials ask for anything.
    pub(super) is_admitted: bool,
    pub(super) fifo: VecDeque<Pending>,
    /// Sequence of the FIFO's head. Sequence 0 is the handshake.
    pub(super) first_sequence: u64,
    /// Sum of the weights in the FIFO, bytes.
    pub(super) fifo_weight: usize,
    /// FIFO entries that are no writes.
    pub(super) reads: usize,
    /// Sum of what their execution is expected to cost.
    pub(super) ahead: usize,
    /// The largest of the frames of its writes under way, bytes: how large the data of a node may
    /// have become when a read behind them executes.
    pub(super) largest_write: usize,
    /// Of the replies owed for its writes under way, bytes: at least what their creates add to a list.
    pub(super) owed: usize,
    /// FIFO entries whose outcome the pipeline owes.
    pub(super) unanswered_writes: usize,
    /// sync and setWatches requests in the FIFO: nothing behind one of them is parsed.
    pub(super) barriers: usize,
    /// What is made of the reply to the head, when it is made in slices.
    pub(super) draft: Option<Box<Draft>>,
    pub(super) output: Vec<u8>,
    /// Bytes that the driver has fetched and the kernel has not taken.
    pub(super) fetched: usize,
    /// Bytes that the driver holds: a piece is given back when the kernel has taken all of it.
    pub(super) lent: usize,
    /// The driver has been told to close the socket.
    pub(super) told_to_close: bool,
    /// The driver was offered more output than the bound, and has not fetched it.
    pub(super) offered_full: bool,
    /// Length of the output when it was looked at last.
    accounted: usize,
    /// Bytes appended to a full output that the driver had been offered.
    pub(super) excess: usize,
    /// What the shard's pools count for this connection: bytes of requests, bytes of output.
    pub(super) counted: (usize, usize),
    /// Entries of the FIFO that the shard counts.
    pub(super) counted_requests: usize,
    /// The head is a read with a large reply, for which the output before it is to leave first.
    pub(super) is_next_large: bool,
    /// Room of the shard's output set aside for the read at the head, bytes.
    pub(super) promised: usize,
    /// Its reply at the head waits for room in the shard's output; how many bytes.
    pub(super) waits_for_output: Option<usize>,
    /// What the input may hold beyond the share.
    pub(super) grant: Option<Grant>,
    /// In the shard's list of connections that wait for memory for their input.
    pub(super) waits_for_memory: bool,
    /// How its granted memory fills.
    pub(super) filling: Filling,
    /// Of replies that the driver has not taken, at most [`TIMINGS_MAX`].
    pub(super) unsent: Vec<Timing>,
    /// In the shard's list of connections that the driver must look at.
    pub(super) dirty: bool,
    /// In the shard's list of connections that can go on.
    pub(super) ready: bool,
    /// In the shard's list of connections that wait for credits.
    pub(super) stalled: bool,
    /// Has waited for a credit, and has one that it has not used.
    pub(super) has_credit: bool,
    /// Whether the driver might read when this was looked at last.
    pub(super) reading: bool,
    /// The batch in which its session was touched last.
    pub(super) touched_batch: u64,
    /// Bytes were left in the kernel when the driver looked at the socket last.
    pub(super) bytes_wait: bool,
    /// Its session, when the shard has ended it: what lies in its socket by then is a sign of life.
    pub(super) left_behind: Option<SessionId>,
    /// For the handshake timeout.
    pub(super) accepted: Tick,
    /// Since bytes moved in either direction.
    pub(super) quiet: Silence,
    /// Since the kernel took a byte of the output, while there was some.
    pub(super) undrained: Silence,
    pub(super) counters: Counted,
}

impl Connection {
    pub(super) fn new(
        id: ConnId,
        peer: ClientAddress,
        (credentials, is_admitted): (Credentials, bool),
        resets: Resets,
        now: Now,
    ) -> Connection {
        Connection {
            id,
            peer,
            phase: Phase::Fresh,
            input: Input::default(),
            received_at: now.micros,
            deaf: false,
            credentials,
            is_admitted,
            fifo: VecDeque::new(),
            first_sequence: 1,
            fifo_weight: 0,
            reads: 0,
            ahead: 0,
            largest_write: 0,
            owed: 0,
            unanswered_writes: 0,
            barriers: 0,
            draft: None,
            output: Vec::new(),
            fetched: 0,
            lent: 0,
            told_to_close: false,
            offered_full: false,
            accounted: 0,
            excess: 0,
            counted: (0, 0),
            counted_requests: 0,
            is_next_large: false,
            promised: 0,
            waits_for_output: None,
            grant: None,
            waits_for_memory: false,
            filling: Filling::default(),
            unsent: Vec::new(),
            dirty: false,
            ready: false,
            stalled: false,
            has_credit: false,
            reading: true,
            touched_batch: 0,
            bytes_wait: false,
            left_behind: None,
            accepted: now.tick,
            quiet: Silence::default(),
            undrained: Silence::default(),
            counters: Counted::new(now.wall, resets),
        }
    }

    /// Its session, once the connect response has been made.
    pub(super) fn attachment(&self) -> Option<Attachment> {
        match self.phase {
            Phase::Attached(attachment) => Some(attachment),
            _ => None,
        }
    }

    /// The session of which bytes in its socket are a sign of life.
    pub(super) fn lives_by_its_bytes(&self) -> Option<SessionId> {
        let attached = self.attachment().map(|own| own.session);
        attached.or(self.left_behind)
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Sequence of the next request.
    pub(super) fn next_sequence(&self) -> u64 {
        self.first_sequence + self.fifo.len() as u64
    }

    /// Output that the kernel has not taken, bytes.
    pub(super) fn backlog(&self) -> usize {
        self.output.len() + self.fetched
    }

    /// Output in memory, bytes: more than the backlog while the kernel has taken a part of a piece.
    pub(super) fn output_bytes(&self) -> usize {
        self.output.len() + self.lent
    }

    /// The driver takes the output; further output goes into `spare`, which is empty.
    pub(super) fn fetch(&mut self, spare: Vec<u8>) -> Vec<u8> {
        let bytes = self.exchange_output(spare);
        self.fetched += bytes.len();
        self.lent += bytes.len();
        bytes
    }

    /// The kernel has taken bytes of what the driver holds.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.fetched = self.fetched.saturating_sub(bytes);
        if self.fetched == 0 {
            self.lent = 0;
        }
    }

    /// Gives back the memory of times that were all recorded; a short list is used again.
    pub(super) fn release_timings(&mut self) {
        if self.unsent.is_empty() && self.unsent.capacity() > KEPT_ENTRIES {
            self.unsent = Vec::new();
        }
    }

    /// Gives back memory that holds nothing any more.
    pub(super) fn release(&mut self) {
        self.input.release();
        if self.fifo.is_empty() && self.fifo.capacity() > KEPT_ENTRIES {
            self.fifo = VecDeque::new();
        }
    }

    /// Memory for requests, whether it holds any or not: bytes of input, entries of the queue.
    #[cfg(test)]
    pub(super) fn memory(&self) -> (usize, usize) {
        (self.input.memory(), self.fifo.capacity())
    }

    /// Received and not answered, bytes in memory.
    pub(super) fn request_bytes(&self) -> usize {
        let reserved = self.grant.map_or(0, |grant| grant.weight);
        self.fifo_weight + self.input.len().max(reserved)
    }

    /// Whether there is anything that an advance could execute.
    pub(super) fn has_requests(&self) -> bool {
        !self.fifo.is_empty() || !self.input.is_empty()
    }

    /// Counts what has just been appended. Only what comes on top of a full output that the driver
    /// was offered, and has not fetched, is in excess.
    pub(super) fn account_output(&mut self) {
        if self.offered_full {
            self.excess += self.output.len() - self.accounted;
        }
        self.accounted = self.output.len();
    }

    /// The driver is told to look at this connection.
    pub(super) fn offer(&mut self, output_max: usize) {
        self.dirty = false;
        self.offered_full = self.output.len() > output_max;
    }

    /// Empties the output.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        self.exchange_output(Vec::new())
    }

    fn exchange_output(&mut self, spare: Vec<u8>) -> Vec<u8> {
        (self.accounted, self.excess, self.offered_full) = (0, 0, false);
        std::mem::replace(&mut self.output, spare)
    }

    /// Puts a request at the end of the FIFO.
    pub(super) fn push(&mut self, pending: Pending) {
        self.fifo_weight += pending.weight;
        self.ahead += pending.ahead;
        match pending.step {
            Step::Write => {
                self.unanswered_writes += 1;
                self.largest_write = self.largest_write.max(pending.weight);
                self.owed += pending.ahead;
            }
            Step::Sync { .. } | Step::SetWatches(_) => {
                self.barriers += 1;
                self.reads += 1;
            }
            _ => self.reads += 1,
        }
        self.fifo.push_back(pending);
    }

    /// Takes the head of the FIFO.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let pending = self.fifo.pop_front()?;
        self.is_next_large = false;
        self.first_sequence += 1;
        self.fifo_weight -= pending.weight;
        self.ahead -= pending.ahead;
        match pending.step {
            Step::Write => self.owed -= pending.ahead,
            _ => self.reads -= 1,
        }
        let is_barrier = matches!(pending.step, Step::Sync { .. } | Step::SetWatches(_));
        self.barriers -= usize::from(is_barrier);
        Some(pending)
    }

    /// Drops all requests that are not answered; gives the weight of the writes under way, bytes.
    pub(super) fn drop_requests(&mut self) -> usize {
        let writes = self.fifo.iter().filter(|p| matches!(p.step, Step::Write));
        let weight = writes.map(|write| write.weight).sum();
        self.fifo = VecDeque::new();
        (self.fifo_weight, self.reads, self.ahead, self.barriers) = (0, 0, 0, 0);
        self.draft = None;
        self.is_next_large = false;
        self.unanswered_writes = 0;
        self.owed = 0;
        self.input.clear();
        self.grant = None;
        weight
    }

    /// What the four-letter words show of this connection.
    pub(super) fn stats(&self, reading: bool, resets: Resets) -> ConnStats {
        let counters = self.counters.seen(resets);
        ConnStats {
            conn: self.id,
            peer: self.peer.clone(),
            reading,
            writing: self.backlog() > 0,
            queued: self.fifo.len(),
            received: counters.received,
            sent: counters.sent,
            session: self.attachment().map(|attachment| SessionStats {
                session: attachment.session,
                timeout_ms: attachment.timeout_ms,
            }),
            last_op: counters.last_op,
            established: counters.established,
            last_xid: counters.last_xid,
            last_zxid: counters.last_zxid,
            last_response_ms: counters.last_response_ms,
            last_latency_ms: counters.last_latency_ms,
            latency: counters.latency,
            heard: Tick(self.received_at / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let stream = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01z";
        for chunk in 1..stream.len() {
            let mut input = Input::default();
            let mut frames = Vec::new();
            for bytes in stream.chunks(chunk) {
                input.push(bytes);
                while let Some(frame) = input.next(3).unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(
                frames,
                [b"abc".to_vec(), vec![], b"z".to_vec()],
                "chunks of {chunk}"
            );
            assert!(input.is_empty());
        }
    }

    #[test]
    fn rounds_before_a_connection_was_held_count_for_nothing() {
        const PATIENCE: u64 = Filling::PATIENCE_MIN;
        let mut filling = Filling::default();
        (0..=PATIENCE).for_each(|_| filling.is_read());
        assert!(filling.is_late(PATIENCE) && filling.is_overdue(PATIENCE));
        filling.is_held();
        assert!(!filling.is_late(PATIENCE) && !filling.is_overdue(PATIENCE));
        (0..PATIENCE).for_each(|_| filling.is_read());
        assert!(!filling.is_late(PATIENCE));
        filling.is_read();
        assert!(filling.is_late(PATIENCE) && !filling.is_overdue(PATIENCE));
        filling.is_read();
        assert!(filling.is_overdue(PATIENCE), "it was held for one round");
    }

    #[test]
    fn the_limit_itself_is_accepted_and_nothing_is_allocated_for_an_announced_length() {
        let length = |n: i32| {
            let mut input = Input::default();
            input.push(&n.to_be_bytes());
            input.next(1000).map(|frame| frame.map(<[u8]>::len))
        };
        assert_eq!(length(1000), Ok(None));
        assert_eq!(length(0), Ok(Some(0)));
        for bad in [1001, i32::MAX, -1, i32::MIN] {
            assert_eq!(length(bad), Err(BadLength), "{bad}");
        }
        let mut input = Input::default();
        input.push(&1_000_000i32.to_be_bytes());
        assert_eq!(input.next(1_000_000), Ok(None));
        assert!(input.bytes.capacity() < 1000);
    }

    #[test]
    fn a_large_frame_grows_at_once_when_a_share_of_it_has_come_and_a_wrong_length_does_little() {
        for (announced, due) in [(1_000_000, 1_000_004), (u32::MAX, 16 * CONNECTION_SHARE)] {
            let mut input = Input::default();
            input.push(&announced.to_be_bytes());
            input.push(&[7; CONNECTION_SHARE - 4]);
            assert!(
                input.bytes.capacity() <= 2 * CONNECTION_SHARE,
                "{announced}"
            );
            input.push(&[7; 1000]);
            assert!(
                (due..due + 4096).contains(&input.bytes.capacity()),
                "{announced}"
            );
        }
    }
}
