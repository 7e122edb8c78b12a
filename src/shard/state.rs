//! What the connections of a shard share, and how a connection ends.

use super::attachments::Attachments;
use super::config::ShardConfig;
use super::connection::{Connection, Filling, Next, Phase, Silence, Step, TIMINGS_MAX, Timing};
use super::credits::Credits;
use super::endings::{Ending, Why};
use super::ends::{End, Ends};
use super::liveness::{Fate, Liveness};
use super::memory::Pool;
use super::stats::{Latency, Resets};
use super::watches::Watches;
use crate::messages::{ShardRequest, Stamps};
use crate::stages::{Stage, Stages};
use crate::types::{ConnId, Generation, Now, SessionId, Tick, Zxid};
use std::collections::{BTreeSet, VecDeque};

/// The longest pause between two tries of a sender that meets a full receive buffer, ms: TCP_RTO_MAX of Linux.
const SENDER_PAUSE_MS_MAX: u64 = 120_000;
/// A client may stand still with memory for which others wait for one part in so many of its session's timeout. It
/// need not be heard of before a third of that, and whoever stands still for less keeps its session: so it keeps its
/// connection too, without which the session would expire.
const STANDSTILL_PARTS: u64 = 4;

/// Since the last reset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) latency: Latency,
    /// Requests executed for connections without a write under way.
    pub(super) others: u64,
}

/// Everything of a shard but its connections.
#[derive(Debug)]
pub(super) struct ShardState {
    pub(super) config: ShardConfig,
    pub(super) watches: Watches,
    /// For the pipeline. Bounded by the credits, plus one per connection, and one report.
    pub(super) up: VecDeque<ShardRequest>,
    /// Connections whose output the driver must look at, each once.
    pub(super) dirty: VecDeque<ConnId>,
    /// Connections that can go on, each once.
    pub(super) ready: VecDeque<ConnId>,
    pub(super) credits: Credits,
    pub(super) attachments: Attachments,
    pub(super) liveness: Liveness,
    /// Bytes received and not answered.
    pub(super) requests: Pool,
    /// Connections whose input waits for memory, each once, the longest waiting first.
    pub(super) memory_queue: VecDeque<ConnId>,
    /// Granted to connections that are late with it, as far as this round has seen, bytes.
    pub(super) late_bytes: usize,
    /// Bytes of output that no kernel has taken.
    pub(super) outputs: Pool,
    /// Connections whose next reply waits for room in the output, each once, the longest waiting
    /// first.
    pub(super) output_queue: VecDeque<ConnId>,
    /// Connections with unsent output that made no progress in the last round, the longest first.
    pub(super) idle_readers: VecDeque<ConnId>,
    pub(super) totals: Totals,
    /// `crst`.
    pub(super) resets: Resets,
    /// Those that have, and why.
    pub(super) ends: Ends,
    /// Connections that have not ended.
    pub(super) open: usize,
    /// Requests in their FIFOs.
    pub(super) queued: usize,
    /// Replies and totals; the pipeline has what is before.
    pub(super) stages: Stages,
    /// Connections that wait until the replica has reached a state.
    pub(super) waiters: BTreeSet<(Zxid, ConnId)>,
    /// The newest transaction that is committed.
    pub(super) committed: Zxid,
}

impl ShardState {
    pub(super) fn new(config: ShardConfig) -> ShardState {
        ShardState {
            watches: Watches::new(config.watch_bytes_max),
            up: VecDeque::new(),
            dirty: VecDeque::new(),
            ready: VecDeque::new(),
            credits: Credits::new(config.in_flight_max),
            attachments: Attachments::default(),
            liveness: Liveness::new(
                config.tick_time_ms,
                config.handshake_timeout_ms,
                config.session_timeout_max_ms,
            ),
            requests: Pool::new(config.request_bytes_max, config.connection_share),
            memory_queue: VecDeque::new(),
            late_bytes: 0,
            outputs: Pool::new(config.output_bytes_max, config.connection_share),
            output_queue: VecDeque::new(),
            idle_readers: VecDeque::new(),
            totals: Totals::default(),
            resets: Resets::default(),
            ends: Ends::default(),
            open: 0,
            queued: 0,
            stages: Stages::default(),
            waiters: BTreeSet::new(),
            committed: Zxid::ZERO,
            config,
        }
    }

    /// Tells the driver to look at a connection's output.
    pub(super) fn mark_dirty(&mut self, c: &mut Connection) {
        if !c.dirty {
            c.dirty = true;
            self.dirty.push_back(c.id);
        }
    }

    /// Tells the driver that a connection can go on.
    pub(super) fn mark_ready(&mut self, c: &mut Connection) {
        if !c.ready && !c.ended() {
            c.ready = true;
            self.ready.push_back(c.id);
        }
    }

    /// Something that a connection may have waited for has come.
    pub(super) fn wake(&mut self, c: &mut Connection) {
        if c.has_requests() {
            self.mark_ready(c);
        }
    }

    /// The time of a reply ends when the driver takes it. Of replies without number that nobody takes, the times
    /// would take more memory than the replies: those beyond [`TIMINGS_MAX`] end at once.
    pub(super) fn keep_time(&mut self, c: &mut Connection, timing: Timing, now: Now) {
        match c.unsent.len() < TIMINGS_MAX {
            true => c.unsent.push(timing),
            false => self.record(timing, now),
        }
    }

    /// Counts frames that have been appended to the output.
    pub(super) fn appended(&mut self, c: &mut Connection, frames: u64) {
        c.counters.since(self.resets).sent += frames;
        self.totals.sent += frames;
        c.account_output();
        self.count_output(c);
        self.mark_dirty(c);
        if c.excess > self.config.output_excess_max {
            self.end(c, Ending::Discard, Why::OutputInExcess);
        }
    }

    /// Brings the pool of outputs up to date.
    pub(super) fn count_output(&mut self, c: &mut Connection) {
        let bytes = c.output_bytes();
        self.outputs.change(c.counted.1, bytes);
        c.counted.1 = bytes;
    }

    /// Brings the pool of requests, and their number, up to date.
    pub(super) fn count_requests(&mut self, c: &mut Connection) {
        let bytes = c.request_bytes();
        self.requests.change(c.counted.0, bytes);
        c.counted.0 = bytes;
        self.queued = self.queued - c.counted_requests + c.fifo.len();
        c.counted_requests = c.fifo.len();
    }

    /// What a connection's output holds has left it: its requests may go on if it was full.
    pub(super) fn output_left(&mut self, c: &mut Connection, was_full: bool) {
        self.count_output(c);
        if was_full && !self.is_full(c) {
            self.wake(c);
        }
    }

    /// The other end takes what a connection's output holds.
    pub(super) fn output_moved(&self, c: &mut Connection, bytes: usize) {
        (c.quiet, c.undrained) = Default::default();
        if self.is_full(c) {
            c.filling.moved(bytes, self.config.connection_share);
        }
    }

    /// Whether a connection's reads wait because the kernel does not take its output: one with a large reply
    /// waits for all but a share of it.
    pub(super) fn is_full(&self, c: &Connection) -> bool {
        let full = match c.is_next_large {
            true => self.config.connection_share.min(self.config.output_max),
            false => self.config.output_max,
        };
        c.backlog() > full
    }

    /// Whether what a connection has sent waits because the kernel does not take its output, and not for the
    /// outcome of a write.
    fn is_held_up(&self, c: &Connection) -> bool {
        let writes = c
            .fifo
            .front()
            .is_some_and(|head| matches!(head.step, Step::Write));
        self.is_full(c) && !writes
    }

    /// Whether a connection holds output that others may need, and the kernel has taken nothing of it
    /// for at least one round: the first one counted may have begun just after the last byte.
    pub(super) fn is_idle_reader(&self, c: &Connection) -> bool {
        c.undrained.rounds > 1 && c.backlog() > self.config.connection_share
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
        match c.filter(|c| !c.ended()) {
            Some(c) => self.credits.outcome(c),
            None => {
                if let Some(bytes) = self.credits.orphan_outcome(conn) {
                    self.requests.change(bytes, 0);
                }
            }
        }
    }

    /// Confirms a Suspend: no connection is left, and no outcome of a write comes any more.
    pub(super) fn suspended(&mut self) {
        let bytes = self.credits.forget_outcomes();
        self.requests.change(bytes, 0);
        let shard = self.config.id;
        self.up.push_back(ShardRequest::Suspended { shard });
    }

    /// Ends a connection: nothing of it executes any more but what has been handed up. Its
    /// session lives on until it expires or is closed. The first reason is the one that counts.
    pub(super) fn end(&mut self, c: &mut Connection, ending: Ending, why: Why) {
        let discard = ending != Ending::Flush;
        self.mark_dirty(c);
        if discard {
            c.take_output();
            c.unsent = Vec::new();
            // The driver drops what it has fetched.
            c.sent(usize::MAX);
            self.count_output(c);
        }
        c.left_behind = match ending {
            Ending::Flush => c.left_behind,
            Ending::Discard => c.lives_by_its_bytes(),
            Ending::SessionGone => None,
        };
        if c.ended() {
            if discard {
                c.phase = Phase::Ended { discard };
            }
            return;
        }
        self.open -= 1;
        self.ends.note(End {
            conn: c.id,
            peer: c.peer.clone(),
            session: c.attachment().map(|own| own.session),
            why,
        });
        self.attachments.forget(c);
        self.watches.abandon(c.id);
        self.credits.give_back(c);
        self.drop_promise(c);
        self.disown_requests(c);
        c.undrained = Silence::default();
        c.phase = Phase::Ended { discard };
    }

    /// The requests of a connection are dropped, but for the writes under way.
    fn disown_requests(&mut self, c: &mut Connection) {
        let writes = c.unanswered_writes;
        let bytes = c.drop_requests();
        self.count_requests(c);
        if writes > 0 {
            self.requests.change(0, bytes);
            self.credits.orphan(c.id, writes, bytes);
        }
    }

    /// Room that was set aside for a reply is not needed any more.
    pub(super) fn drop_promise(&mut self, c: &mut Connection) {
        self.outputs.keep_promise(std::mem::take(&mut c.promised));
        c.waits_for_output = None;
    }

    /// One round over one connection, for everything that lay in its socket at `watermark`.
    pub(super) fn housekeep(&mut self, c: &mut Connection, watermark: Tick, now: Now) {
        let waits = c.bytes_wait || !c.input.is_empty();
        let held_back = waits && self.may_read(c) == 0;
        match self.liveness.round(c, held_back, watermark, now) {
            Fate::Stays => {}
            Fate::IsHeldBack(session) => self.liveness.touch(c, session),
            Fate::Ends(why) => self.end(c, Ending::Discard, why),
        }
        self.take_back_memory(c);
    }

    /// Memory for requests is for those who wait for it. Who was given some for a frame and does not
    /// send the frame, so that nothing of it waits in the kernel, ends, and so does who holds some while its
    /// output is full and takes less than a share of the replies, or stays full for long: a byte now and then
    /// would hold the memory for days. Each has for a share [`STANDSTILL_PARTS`] of its timeout, and at least
    /// [`Filling::PATIENCE_MIN`] rounds. Who was not read before has as long to go on, but all those together
    /// keep no more than half of the memory from those who wait. What was set aside and is not about to be
    /// used is taken back, unless more of the frame than a share has come: without it the frame would be
    /// held, and wait for itself.
    fn take_back_memory(&mut self, c: &mut Connection) {
        if self.memory_queue.is_empty() {
            c.filling.is_well();
            return;
        }
        let share = self.config.connection_share;
        if c.request_bytes() > share && self.is_idle_reader(c) {
            self.end(c, Ending::Discard, Why::HoldsMemory);
            return;
        }
        let unused = match c.input.peek(self.config.frame_max) {
            Next::Whole(_) => false,
            Next::Partial(Some(len)) if len > share => self.is_full(c) && c.input.len() <= share,
            Next::Empty | Next::Partial(_) | Next::Bad => true,
        };
        if c.grant.is_some() && unused {
            c.grant = None;
            self.settle(c);
        }
        let is_sending = c.grant.is_some() && !c.bytes_wait && self.may_read(c) > 0;
        if c.request_bytes() > share && self.is_held_up(c) {
            c.filling.is_full();
        } else if c.waits_for_memory {
            c.filling.is_held();
        } else if is_sending {
            c.filling.is_read();
        } else {
            c.filling.is_well();
        }
        let patience = self.patience(c);
        if c.filling.is_late(patience) {
            self.late_bytes += c.request_bytes();
            let rounds_max = patience + self.liveness.rounds_in(SENDER_PAUSE_MS_MAX);
            let is_overdue =
                c.filling.is_overdue(patience) || c.filling.is_overdue_behind(rounds_max);
            if is_overdue || self.requests.is_most(self.late_bytes) {
                self.end(c, Ending::Discard, Why::HoldsMemory);
            }
        }
    }

    /// Rounds in which a client that holds memory for which others wait may move less than a share.
    fn patience(&self, c: &Connection) -> u64 {
        let timeout_ms = c.attachment().map_or(0, |own| own.timeout_ms);
        let standstill = u64::try_from(timeout_ms).unwrap_or(0) / STANDSTILL_PARTS;
        let rounds = self.liveness.rounds_in(standstill);
        rounds.max(Filling::PATIENCE_MIN)
    }

    /// How many bytes of a connection may be read.
    pub(super) fn may_read(&self, c: &Connection) -> usize {
        if c.ended() || c.deaf || self.is_full(c) {
            return 0;
        }
        match c.input.peek(self.config.frame_max) {
            Next::Whole(_) | Next::Bad => 0,
            Next::Empty | Next::Partial(_) => {
                let granted = c.grant.map_or(0, |grant| grant.input_max);
                let granted = granted.saturating_sub(c.input.len());
                self.room_in_share(c).max(granted)
            }
        }
    }

    /// How many bytes the input may take within the connection's share.
    pub(super) fn room_in_share(&self, c: &Connection) -> usize {
        let used = c.fifo_weight + c.input.len();
        self.config.connection_share.saturating_sub(used)
    }

    /// The driver looks again at a connection that it may read again.
    pub(super) fn note_reading(&mut self, c: &mut Connection) {
        let reading = self.may_read(c) > 0;
        if reading && !c.reading {
            self.mark_ready(c);
        }
        c.reading = reading;
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
