//! Connections, their sessions and their watches, over one replica of the tree.
//!
//! Bytes, committed transactions, notices and ticks in; bytes and requests for the pipeline out.
//! No clock, no sockets; the tree is an argument. What this module promises, and where:
//!
//! | Promise (design.md §2, client.md) | Decided in |
//! |---|---|
//! | a read sees the session's own earlier writes, and waits for nothing else | [`ShardState::drain`] |
//! | replies leave in the order of the requests | one FIFO per connection, [`ShardState::drain`] |
//! | an event leaves before any reply that reflects its transaction | [`Shard::committed`] |
//! | no change falls between a read and its watch | `reads` |
//! | nothing of an old connection executes after the new ConnectResponse | [`Shard::notice`], Detach |
//! | frames behind the ConnectRequest are kept, and executed after the response | [`ShardState::may_parse`] |
//! | memory is bounded | [`ShardState::may_parse`] (input, FIFO, credits), [`ShardState::drain`] (output) |
//!
//! How a driver uses it: `accept`, then `receive` whatever was read while [`Shard::wants_input`];
//! after each turn, for every [`Shard::poll_dirty`], [`Shard::take_output`], write it, and look at
//! `wants_input` again. While a write is under way it leaves the output in the shard, and takes it
//! afterwards: that is what bounds it. When the output says so the socket is closed; when the peer
//! or the socket ended the connection, [`Shard::closed`].

mod auth;
mod connection;
mod handshake;
mod reads;
mod replies;
mod slab;
mod state;
mod stats;
mod watches;

#[cfg(test)]
mod tests;

pub use stats::{ClientAddress, ConnStats, Latency, SessionStats, ShardStats};
pub use watches::WatchCounts;

use self::state::{Ending, ShardState};
use crate::constants;
use crate::messages::{Committed, Notice, Origin, ShardRequest};
use crate::proto::reply::{self, EventType};
use crate::stages::Stages;
use crate::tree::{self, Applied, OpResult, Tree};
use crate::txn::Acl;
use crate::types::{ConnId, Now, SessionId, ShardId, Zxid};
use connection::{Attachment, Connection, Phase, Timing};
use slab::Slab;

/// What the operator may choose, and what follows from it.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which shard this is.
    pub id: ShardId,
    /// tickTime, ms: touches are reported, and timeouts looked at, every half of it.
    pub tick_time_ms: u64,
    /// Lower bound of negotiated timeouts, ms.
    pub session_timeout_min_ms: i32,
    /// Upper bound of negotiated timeouts, ms.
    pub session_timeout_max_ms: i32,
    /// `jute.maxbuffer`, bytes; the bound itself is accepted.
    pub frame_max: usize,
    /// Writes of this shard without an outcome: this shard's part of `globalOutstandingLimit`.
    /// Beyond it a connection that has none of them may still hand up one.
    pub in_flight_max: usize,
    /// Unanswered requests of one connection.
    pub fifo_max: usize,
    /// Unsent output above which a connection is not read and its reads wait, bytes.
    pub output_max: usize,
    /// What may be appended to a full output before the connection is closed, bytes. Only what
    /// can't wait is: events, outcomes, and reads that were sent between two writes that are
    /// already under way, because a read must not see its session's later write.
    pub output_excess_max: usize,
    /// How long a handshake may take, ms.
    pub handshake_timeout_ms: u64,
}

impl ShardConfig {
    /// Apache's defaults.
    pub fn new(id: ShardId) -> ShardConfig {
        ShardConfig {
            id,
            tick_time_ms: 2000,
            session_timeout_min_ms: 4000,
            session_timeout_max_ms: 40_000,
            frame_max: constants::JUTE_MAXBUFFER,
            in_flight_max: constants::OUTSTANDING_MAX,
            fifo_max: constants::OUTSTANDING_MAX,
            output_max: constants::OUTPUT_MAX,
            output_excess_max: 4 * constants::OUTPUT_MAX,
            handshake_timeout_ms: constants::HANDSHAKE_TIMEOUT_MS,
        }
    }
}

/// What a connection has for its driver.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Whole frames, in order.
    pub bytes: Vec<u8>,
    /// Close the socket when everything that was ever taken is written. The shard has forgotten
    /// the connection.
    pub close: bool,
    /// With `close`: do not wait for what was taken and is not written.
    pub reset: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    conns: Slab,
    core: ShardState,
}

impl Shard {
    /// Without connections.
    pub fn new(config: ShardConfig) -> Shard {
        assert!(config.session_timeout_min_ms <= config.session_timeout_max_ms);
        assert!(config.tick_time_ms > 0 && config.frame_max > 0 && config.fifo_max > 0);
        Shard {
            conns: Slab::default(),
            core: ShardState::new(config),
        }
    }

    /// A connection whose first bytes are not a four-letter word.
    pub fn accept(&mut self, peer: ClientAddress, now: Now) -> ConnId {
        let credentials = auth::initial(&peer.address);
        self.conns
            .insert(|id| Connection::new(id, peer, credentials, now))
    }

    /// Bytes from the client. Keeps the part of a frame; executes every whole one that may run.
    pub fn receive(&mut self, tree: &Tree, conn: ConnId, bytes: &[u8], now: Now) {
        let Some(c) = self.conns.get_mut(conn) else {
            return;
        };
        if c.ended() || c.deaf {
            return;
        }
        c.quiet_rounds = 0;
        c.received_at = now.micros;
        c.input.push(bytes);
        self.core.advance(c, tree, now);
    }

    /// The socket is closed. What the connection has sent is still executed, its replies are lost
    /// (client.md §5.3).
    pub fn closed(&mut self, conn: ConnId, _now: Now) {
        if let Some(c) = self.conns.get_mut(conn) {
            self.core.end(c, Ending::Discard);
            self.conns.remove(conn);
        }
    }

    /// A transaction that the driver has just applied to `tree`, and nothing after it.
    ///
    /// The order of the steps is the promise of client.md §4.5: events before replies, replies and
    /// the reads that they free before the next transaction.
    pub fn committed(&mut self, tree: &Tree, txn: &Committed, applied: &Applied, now: Now) {
        assert_eq!(tree.last_zxid(), applied.zxid, "one transaction at a time");
        self.core.raise_committed(applied.zxid);
        let ends_session = applied.result == OpResult::CloseSession;
        if ends_session && txn.origin.is_none() {
            self.end_attachment(applied.session);
        }
        self.deliver_events(applied);
        if let Some(origin) = txn.origin.filter(|o| o.shard == self.core.config.id) {
            self.complete(tree, origin, txn, applied, now);
        }
        if ends_session {
            self.end_attachment(applied.session);
        }
        self.run_waiters(tree, now);
        self.resume_stalled(tree, now);
    }

    /// What the pipeline says outside the transactions.
    pub fn notice(&mut self, tree: &Tree, notice: Notice, now: Now) {
        match notice {
            Notice::Refused(origin) => self.refused(tree, origin, now),
            Notice::Attached {
                origin,
                session,
                generation,
                timeout_ms,
                committed,
            } => {
                let attachment = Attachment {
                    session,
                    generation,
                    timeout_ms,
                };
                if let Some(c) = self.conns.get_mut(origin.conn) {
                    self.core.grant(c, attachment, committed, tree, now);
                }
            }
            Notice::Dead(origin) => {
                if let Some(c) = self.conns.get_mut(origin.conn) {
                    self.core.answer_dead(c);
                }
            }
            Notice::Close(conn) => {
                // For a stale write this is its outcome; the others have theirs coming.
                self.core.outcome(self.conns.get_mut(conn), conn);
                if let Some(c) = self.conns.get_mut(conn) {
                    self.core.end(c, Ending::Discard);
                }
            }
            Notice::Detach {
                session,
                generation,
            } => {
                // First the connection ends, with all that it has not executed; then the pipeline
                // may let the new one in.
                if let Some(old) = self.core.attached_until(session, generation) {
                    let c = self
                        .conns
                        .get_mut(old)
                        .expect("an attachment has a connection");
                    self.core.end(c, Ending::Discard);
                }
                self.core.released(session, generation);
            }
        }
        self.resume_stalled(tree, now);
    }

    /// The newest transaction that is committed, in case the replica is behind it. Handshakes and
    /// sync go by it. Only ever raised; transactions raise it by themselves.
    pub fn raise_committed(&mut self, committed: Zxid) {
        self.core.raise_committed(committed);
    }

    /// Timers. Call at least every half tickTime, before client intake.
    pub fn tick(&mut self, _tree: &Tree, now: Now) {
        if self.core.round_is_due(now) {
            for c in self.conns.iter_mut() {
                self.core.housekeep(c, now);
            }
            self.core.report_touched(now);
        }
    }

    /// The next request for the pipeline.
    pub fn poll_request(&mut self, _now: Now) -> Option<ShardRequest> {
        self.core.up.pop_front()
    }

    /// A connection that has output, or has to be closed, or may be read again. Each is given once
    /// until something new happens to it.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.core.dirty.pop_front() {
            if let Some(c) = self.conns.get_mut(conn) {
                c.dirty = false;
                return Some(conn);
            }
        }
        None
    }

    /// Takes what a connection has for its driver: here the time of a reply ends. Goes on with
    /// what had to wait for room in the output. Nothing when the connection is gone.
    pub fn take_output(&mut self, tree: &Tree, conn: ConnId, now: Now) -> Output {
        let Some(c) = self.conns.get_mut(conn) else {
            return Output::default();
        };
        for timing in c.unsent.drain(..) {
            self.core.record(timing, now);
        }
        let output = Output {
            bytes: c.take_output(),
            close: c.ended(),
            reset: c.phase == Phase::Ended { discard: true },
        };
        if output.close {
            self.conns.remove(conn);
        } else if !output.bytes.is_empty() {
            c.quiet_rounds = 0;
            c.undrained_rounds = 0;
            self.core.advance(c, tree, now);
        }
        output
    }

    /// Whether a connection has ended and nothing more is to be written: the driver need not wait
    /// for what it has taken.
    pub fn is_discarded(&self, conn: ConnId) -> bool {
        let discarded = Phase::Ended { discard: true };
        self.conns.get(conn).is_some_and(|c| c.phase == discarded)
    }

    /// Whether the driver should read. False while frames wait for the handshake, for credits or
    /// for room in the output, and when the connection is about to close.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        self.conns
            .get(conn)
            .is_some_and(|c| self.core.wants_input(c))
    }

    /// One entry per connection that is not closing, in order of slot.
    pub fn connections(&self) -> impl Iterator<Item = ConnStats> {
        self.conns
            .iter()
            .filter(|c| !c.ended())
            .map(|c| stats::of(c, self.core.wants_input(c)))
    }

    /// Sums over the shard.
    pub fn stats(&self) -> ShardStats {
        let open = self.conns.iter().filter(|c| !c.ended());
        let (connections, outstanding) =
            open.fold((0, 0), |(n, queued), c| (n + 1, queued + c.fifo.len()));
        ShardStats {
            received: self.core.totals.received,
            sent: self.core.totals.sent,
            latency: self.core.totals.latency,
            outstanding,
            in_flight: self.core.in_flight,
            connections,
            watches: self.core.watches.counts(),
        }
    }

    /// Of writes the stage from applied to replied and the whole, and of reads the whole. The
    /// rest is the pipeline's.
    pub fn stages(&self) -> &Stages {
        &self.core.stages
    }

    /// `srst`.
    pub fn reset_stats(&mut self) {
        self.core.totals = Default::default();
        self.core.stages.reset();
    }

    /// `crst`.
    pub fn reset_connection_stats(&mut self) {
        for c in self.conns.iter_mut() {
            c.counters = stats::Counters::after_reset(c.counters.established);
        }
    }

    /// Appends a transaction's events to the connections that watch, each only if it may read
    /// the node (client.md §4.4).
    fn deliver_events(&mut self, applied: &Applied) {
        let Shard { conns, core } = self;
        let mut encoded = Vec::new();
        let mut encoded_for: Option<(EventType, &str)> = None;
        let mut overfull = Vec::new();
        for change in &applied.changes {
            core.watches.trigger(change, |conn, event| {
                let c = conns.get_mut(conn).expect("who watches is there");
                let readable = event
                    .acl
                    .is_none_or(|acl| tree::allow(acl, Acl::READ, &c.credentials));
                if !readable {
                    return;
                }
                if encoded_for != Some((event.kind, event.path)) {
                    encoded_for = Some((event.kind, event.path));
                    encoded.clear();
                    reply::event(&mut encoded, event.kind, applied.zxid, event.path);
                }
                c.output.extend_from_slice(&encoded);
                c.counters.sent += 1;
                core.totals.sent += 1;
                state::mark_dirty(&mut core.dirty, c);
                c.account_output(core.config.output_max);
                if c.excess > core.config.output_excess_max {
                    overfull.push(conn);
                }
            });
        }
        for conn in overfull {
            let c = conns.get_mut(conn).expect("nothing ends meanwhile");
            core.end(c, Ending::Discard);
        }
    }

    /// The outcome of a request of ours.
    fn complete(
        &mut self,
        tree: &Tree,
        origin: Origin,
        txn: &Committed,
        applied: &Applied,
        now: Now,
    ) {
        let timing = Timing::Write(txn.stamps, now.micros);
        if let OpResult::CreateSession { timeout_ms } = applied.result {
            let attachment = Attachment {
                session: applied.session,
                generation: txn.generation,
                timeout_ms,
            };
            if let Some(c) = self.conns.get_mut(origin.conn) {
                self.core
                    .open(c, attachment, applied.zxid, timing, tree, now);
            }
            return;
        }
        self.core
            .outcome(self.conns.get_mut(origin.conn), origin.conn);
        if let Some(c) = self.conns.get_mut(origin.conn).filter(|c| !c.ended()) {
            self.core.answer_write(c, origin, applied, timing, now);
            self.core.advance(c, tree, now);
        }
    }

    fn refused(&mut self, tree: &Tree, origin: Origin, now: Now) {
        if origin.sequence > 0 {
            self.core
                .outcome(self.conns.get_mut(origin.conn), origin.conn);
        }
        let Some(c) = self.conns.get_mut(origin.conn).filter(|c| !c.ended()) else {
            return;
        };
        if origin.sequence == 0 {
            // No session could be made: the client tries again, here or elsewhere.
            self.core.end(c, Ending::Flush);
        } else {
            self.core.answer_refused(c, origin, tree, now);
            self.core.advance(c, tree, now);
        }
    }

    /// Closes the connection of a session that exists no more, without a further byte.
    fn end_attachment(&mut self, session: SessionId) {
        if let Some(conn) = self.core.attached(session) {
            let c = self
                .conns
                .get_mut(conn)
                .expect("an attachment has a connection");
            self.core.end(c, Ending::Discard);
        }
    }

    /// Goes on with connections that waited for the replica to reach a state.
    fn run_waiters(&mut self, tree: &Tree, now: Now) {
        while let Some(conn) = self.core.next_waiter(tree.last_zxid()) {
            if let Some(c) = self.conns.get_mut(conn).filter(|c| !c.ended()) {
                self.core.resume(c, tree, now);
            }
        }
    }

    /// Goes on with connections that waited for credits, each once, the longest waiting first.
    fn resume_stalled(&mut self, tree: &Tree, now: Now) {
        for _ in 0..self.core.stalled.len() {
            if self.core.in_flight >= self.core.config.in_flight_max {
                return;
            }
            let conn = self.core.stalled.pop_front().expect("counted");
            if let Some(c) = self.conns.get_mut(conn) {
                c.stalled = false;
                self.core.advance(c, tree, now);
            }
        }
    }
}
