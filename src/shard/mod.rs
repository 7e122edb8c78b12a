//! Connections, their sessions and their watches, over one replica of the tree.
//!
//! Bytes, committed transactions, notices and rounds in; bytes and requests for the pipeline out.
//! No clock, no sockets; the tree is an argument. What this module promises, and where:
//!
//! | Promise | Decided in |
//! |---|---|
//! | a read sees the session's own earlier writes, and waits for nothing else | [`ShardState::advance`] |
//! | a read does not see the session's own later writes | `keeps_order`, `execute_between_writes` |
//! | replies leave in the order of the requests | one FIFO per connection, [`ShardState::advance`] |
//! | an event leaves before any reply that reflects its transaction | [`Shard::deliver`] |
//! | the events of a transaction, however many, are no longer than others can wait for a turn | `delivery` |
//! | no change falls between a read and its watch | `reads` |
//! | nothing of an old connection executes after the new ConnectResponse | [`Shard::notice`], Detach |
//! | frames behind the ConnectRequest are kept, and executed after the response | `may_take_frame` |
//! | nobody executes more than a budget before the others' turn comes | [`Shard::advance`], `slices` |
//! | a member that has lost its part shows nothing more, and owes nothing | [`Shard::notice`], Suspend |
//! | memory is bounded | [`Shard::may_read`] and `settle` (requests), `has_output_room` and `end_idle_reader` (output), `watches` |
//!
//! How a driver uses it: [`Shard::accept`]; it reads at most [`Shard::may_read`] bytes and gives
//! them to [`Shard::receive_within`]; connections of [`Shard::poll_ready`] go to the end of its
//! queue, and when their turn comes [`Shard::advance`] goes on with them. For every
//! [`Shard::poll_dirty`] whose last output the kernel has taken whole, [`Shard::fetch_output`];
//! [`Shard::sent`] for every number of bytes that the kernel takes. When the output says so the
//! socket is closed; when the peer or the socket ended the connection, [`Shard::closed`]. Once a
//! turn [`Shard::reap`] and [`Shard::poll_end`]; when [`Shard::round_is_due`], [`Shard::report`] until the round has ended.

mod attachments;
mod auth;
mod config;
mod connection;
mod credits;
mod delivery;
mod endings;
mod ends;
mod execute;
mod handshake;
mod intake;
mod liveness;
mod memory;
mod reads;
mod recount;
mod recursive;
mod replies;
mod slab;
mod slices;
mod state;
mod stats;
mod watches;

#[cfg(test)]
mod tests;

pub use auth::AuthRules;
pub use config::ShardConfig;
pub use endings::{EndCounts, Why};
pub use ends::End;
pub use liveness::Rounds;
pub use memory::Amounts;
pub use recount::Held;
pub use stats::{
    ClientAddress, ConnStats, Latency, SessionStats, ShardStats, WATCHES_LISTED_MAX, Watched,
};
pub use watches::WatchCounts;

use self::state::ShardState;
use crate::budget::Budget;
use crate::messages::{Committed, Notice, Origin, ShardRequest};
use crate::stages::Stages;
use crate::tree::{Applied, OpResult, Tree};
use crate::types::{ConnId, Now, SessionId, Tick, Zxid};
use connection::{Attachment, Connection, Phase, Silence, Timing};
use core::ops::Range;
use delivery::Delivery;
use endings::Ending;
use liveness::Round;
use slab::Slab;
use std::sync::Arc;

/// What a connection has for its driver.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Whole frames, in order.
    pub bytes: Vec<u8>,
    /// Close the socket when everything that was ever fetched is written. Nothing more comes.
    pub close: bool,
    /// With `close`: do not wait for what was fetched and is not written. The shard has forgotten
    /// the connection.
    pub reset: bool,
}

/// The connections of one core, with their sessions and watches.
#[derive(Debug)]
pub struct Shard {
    conns: Slab,
    core: ShardState,
    /// Of the last transaction, while its events are not all delivered.
    delivery: Option<Delivery>,
}

impl Shard {
    /// Without connections.
    pub fn new(config: ShardConfig) -> Shard {
        assert!(config.session_timeout_min_ms <= config.session_timeout_max_ms);
        assert!(config.tick_time_ms > 0 && config.frame_max > 0 && config.fifo_max > 0);
        Shard {
            conns: Slab::default(),
            core: ShardState::new(config),
            delivery: None,
        }
    }

    /// A connection whose first bytes are not a four-letter word.
    pub fn accept(&mut self, peer: ClientAddress, now: Now) -> ConnId {
        let rules = &self.core.config.auth;
        let credentials = rules.initial(&peer.address);
        let is_admitted = rules.admit(&credentials);
        self.core.open += 1;
        let resets = self.core.resets;
        self.conns
            .insert(|id| Connection::new(id, peer, (credentials, is_admitted), resets, now))
    }

    /// Appends bytes to the connection's input and executes what may run within `budget`. What is
    /// left over is given by [`Shard::poll_ready`].
    pub fn receive_within(
        &mut self,
        tree: &Tree,
        conn: ConnId,
        bytes: &[u8],
        budget: &mut Budget,
        now: Now,
    ) {
        self.take_in(tree, conn, bytes, budget, now);
        self.distribute();
    }

    /// Goes on with a connection that had more to do ([`Shard::poll_ready`]), within `budget`.
    pub fn advance(&mut self, tree: &Tree, conn: ConnId, budget: &mut Budget, now: Now) {
        self.go_on(tree, conn, budget, now);
        self.distribute();
    }

    /// A connection that can go on: its budget was spent, an outcome came, a credit, memory or room
    /// in the output became free, the replica reached a state, or bytes may be read again. Each is
    /// given once until something new happens to it; the driver puts it at the end of its queue.
    /// After [`Shard::receive_within`] and [`Shard::advance`] the driver looks at
    /// [`Shard::may_read`] by itself.
    pub fn poll_ready(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.core.ready.pop_front() {
            if let Some(c) = self.conns.get_mut(conn) {
                c.ready = false;
                if !c.ended() {
                    return Some(conn);
                }
            }
        }
        None
    }

    /// Connections, those that have ended and are not forgotten included.
    pub fn held(&self) -> usize {
        self.conns.all().count()
    }

    /// Whether the shard has the connection, an ended one included.
    pub fn has(&self, conn: ConnId) -> bool {
        self.conns.get(conn).is_some()
    }

    /// How many bytes of the connection the driver may read from the socket now; 0: leave them in
    /// the kernel.
    pub fn may_read(&self, conn: ConnId) -> usize {
        self.conns.get(conn).map_or(0, |c| self.core.may_read(c))
    }

    /// How many bytes of a frame that the connection has begun are still to come, as far as its length is known.
    pub fn lacks(&self, conn: ConnId) -> usize {
        let frame_max = self.core.config.frame_max;
        let lacks = |c: &Connection| c.input.lacks(frame_max);
        self.conns.get(conn).map_or(0, lacks)
    }

    /// Bytes of the connection wait in the kernel and are not read now, because [`Shard::may_read`] is 0
    /// or others have their turn: its session is alive, and it is not the one that others wait for.
    pub fn heard(&mut self, conn: ConnId) {
        let Some(c) = self.conns.get_mut(conn) else {
            return;
        };
        c.quiet = Silence::default();
        c.bytes_wait = true;
        if let Some(session) = c.lives_by_its_bytes() {
            self.core.liveness.touch(c, session);
        }
    }

    /// Whether bytes that lie in the socket of a connection which is about to be closed are a sign of life, to be
    /// told with [`Shard::heard`]: nobody looks at them later.
    pub fn lives_by_its_bytes(&self, conn: ConnId) -> bool {
        let c = self.conns.get(conn);
        c.is_some_and(|c| c.lives_by_its_bytes().is_some())
    }

    /// The driver has looked again: what [`Shard::heard`] was told of was all read before.
    pub fn nothing_waits(&mut self, conn: ConnId) {
        if let Some(c) = self.conns.get_mut(conn) {
            c.bytes_wait = false;
        }
    }

    /// Output of a connection for its driver: here the time of a reply ends. Called only when the
    /// kernel has taken everything of the last one, or when [`Shard::is_discarded`]. Executes
    /// nothing. Nothing when the connection is gone. What comes next goes into `spare`, an empty
    /// buffer that the connection keeps.
    pub fn fetch_output(&mut self, conn: ConnId, spare: Vec<u8>, now: Now) -> Output {
        let Some(c) = self.conns.get_mut(conn) else {
            return Output::default();
        };
        for timing in c.unsent.drain(..) {
            self.core.record(timing, now);
        }
        c.release_timings();
        let output = Output {
            bytes: c.fetch(spare),
            close: c.ended(),
            reset: c.phase == Phase::Ended { discard: true },
        };
        c.told_to_close = output.close;
        if output.close && c.fetched == 0 {
            self.conns.remove(conn);
        }
        output
    }

    /// The kernel has taken `bytes` of what was fetched. With the last of them, a connection that
    /// is to be closed is forgotten.
    pub fn sent(&mut self, conn: ConnId, bytes: usize) {
        self.take_sent(conn, bytes);
        self.distribute();
    }

    /// The other end takes what the kernel holds for it, though the kernel takes no more of it yet: about so
    /// many bytes, and not none.
    pub fn progressed(&mut self, conn: ConnId, bytes: usize) {
        if let Some(c) = self.conns.get_mut(conn) {
            self.core.output_moved(c, bytes);
        }
    }

    /// Work that belongs to nobody's turn any more (watches of ended connections), within
    /// `budget`; true if there is more.
    pub fn reap(&mut self, budget: &mut Budget) -> bool {
        while !budget.is_spent() {
            budget.spend_steps(1);
            if !self.core.watches.reap() {
                return false;
            }
        }
        true
    }

    /// Whether a round over all connections (timeouts, report of touched sessions) is due. The
    /// driver first makes sure that everything which lay in any socket at the watermark was read
    /// once (or [`Shard::heard`]), then calls [`Shard::report`].
    pub fn round_is_due(&self, now: Now) -> bool {
        self.core.liveness.is_due(now)
    }

    /// Goes on with the round over all connections, at least by one: timeouts, then a report of the
    /// sessions heard of, also when there are none, because the watermark must move; but none while
    /// the last report waits to be taken with [`Shard::poll_request`]. False when
    /// `budget` is spent before the round has ended; then the driver calls again, with the same
    /// `watermark`, when the others have had their turns.
    ///
    /// A watermark says only that what lay in a socket at that moment is known: to say it later is
    /// always right. So it goes up with the last sessions, behind all the others; what is heard while
    /// they go up is for the next report.
    pub fn report(&mut self, watermark: Tick, budget: &mut Budget, now: Now) -> bool {
        let round = match self.core.liveness.take_round(now) {
            Round::Looking { slot, idle } => self.look_round(slot, idle, watermark, budget, now),
            reporting @ Round::Reporting(_) => Some(reporting),
        };
        let round = match round {
            Some(Round::Reporting(sessions)) if !budget.is_spent() => {
                self.report_sessions(sessions, watermark, budget, now)
            }
            other => other,
        };
        self.distribute();
        let ended = round.is_none();
        if let Some(round) = round {
            self.core.liveness.keep_round(round);
        }
        ended
    }

    /// How far the rounds have come.
    pub fn rounds(&self) -> Rounds {
        self.core.liveness.rounds()
    }

    /// Looks at connections from a slot on. `None`: the round has ended without a report.
    fn look_round(
        &mut self,
        mut slot: usize,
        mut idle: Vec<(u64, ConnId)>,
        watermark: Tick,
        budget: &mut Budget,
        now: Now,
    ) -> Option<Round> {
        /// Of one connection: it is rarely in the processor's cache.
        const STEPS: usize = 4;
        if slot == 0 {
            self.core.late_bytes = 0;
        }
        while slot < self.conns.slots() {
            budget.spend_steps(1);
            if let Some(c) = self.conns.at_mut(slot) {
                budget.spend_steps(STEPS);
                self.core.housekeep(c, watermark, now);
                if self.core.is_idle_reader(c) {
                    idle.push((c.undrained.rounds, c.id));
                }
            }
            slot += 1;
            if budget.is_spent() && slot < self.conns.slots() {
                return Some(Round::Looking { slot, idle });
            }
        }
        idle.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        self.core.idle_readers = idle.into_iter().map(|(_, conn)| conn).collect();
        let touched = self.core.liveness.take_touched(now)?;
        Some(Round::Reporting(touched.into_iter()))
    }

    /// Reports the next sessions; with the last ones, the watermark.
    fn report_sessions(
        &mut self,
        mut sessions: std::vec::IntoIter<SessionId>,
        watermark: Tick,
        budget: &mut Budget,
        now: Now,
    ) -> Option<Round> {
        /// Of one session: the pipeline changes two ordered sets for it.
        const STEPS: usize = 32;
        let mut some = Vec::new();
        for session in sessions.by_ref() {
            some.push(session);
            budget.spend_steps(STEPS);
            if budget.is_spent() {
                break;
            }
        }
        let ended = sessions.len() == 0;
        let watermark_up = ended.then_some(watermark);
        self.core.liveness.report_waits(watermark_up);
        self.core.up.push_back(ShardRequest::Touched {
            shard: self.core.config.id,
            watermark: watermark_up.unwrap_or(Tick(0)),
            made: now.tick,
            sessions: some,
        });
        (!ended).then_some(Round::Reporting(sessions))
    }

    /// The socket is closed. What the connection has sent and has been handed up is still executed,
    /// its replies are lost (docs/protocol.md §5.3).
    pub fn closed(&mut self, conn: ConnId, _now: Now) {
        if let Some(c) = self.conns.get_mut(conn) {
            self.core.end(c, Ending::Discard, Why::Gone);
            self.conns.remove(conn);
            self.distribute();
        }
    }

    /// A transaction that the driver has just applied to `tree`, and nothing after it. [`Shard::deliver`] follows, until
    /// it has ended, before the next transaction or notice.
    ///
    /// The order of the steps is the promise of docs/protocol.md §4.5: events before replies, replies and
    /// the reads that they free before the next transaction.
    pub fn committed(&mut self, tree: &Tree, txn: Committed, applied: Applied) {
        assert!(self.delivery.is_none(), "one transaction at a time");
        assert_eq!(tree.last_zxid(), applied.zxid, "one transaction at a time");
        self.core.raise_committed(applied.zxid);
        if applied.result == OpResult::CloseSession && txn.origin.is_none() {
            self.end_attachment(applied.session, Why::SessionExpired);
        }
        self.delivery = Some(Delivery::of(txn, applied));
    }

    /// Goes on with the events of the last transaction within `budget`, at least by one; behind the last of them
    /// comes the reply to whoever has asked for it.
    pub fn deliver(&mut self, tree: &Tree, budget: &mut Budget, now: Now) {
        let Some(mut delivery) = self.delivery.take() else {
            return;
        };
        if !delivery.go_on(&mut self.conns, &mut self.core, budget) {
            self.delivery = Some(delivery);
            self.distribute();
            return;
        }
        let Delivery { txn, applied, .. } = &delivery;
        if let Some(origin) = txn.origin.filter(|o| o.shard == self.core.config.id) {
            self.complete(tree, origin, txn, applied, now);
        }
        if applied.result == OpResult::CloseSession {
            self.end_attachment(applied.session, Why::SessionClosed);
        }
        self.wake_waiters(tree);
        self.distribute();
    }

    /// Whether there are events of the last transaction that are not delivered: nothing is executed for clients.
    pub fn is_delivering(&self) -> bool {
        self.delivery.is_some()
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
                    self.core.grant(c, attachment, committed, tree);
                    self.core.wake(c);
                    self.core.note_reading(c);
                }
            }
            Notice::Dead(origin) => {
                if let Some(c) = self.conns.get_mut(origin.conn) {
                    self.core.answer_dead(c);
                }
            }
            Notice::Synced(origin) => {
                if let Some(c) = self.conns.get_mut(origin.conn).filter(|c| !c.ended()) {
                    self.core.synced(c, origin.sequence, tree);
                    self.core.wake(c);
                    self.core.note_reading(c);
                }
            }
            Notice::Close(conn) => {
                // For a stale write this is its outcome; the others have theirs coming.
                self.core.outcome(self.conns.get_mut(conn), conn);
                if let Some(c) = self.conns.get_mut(conn) {
                    self.core.end(c, Ending::SessionGone, Why::NotItsSession);
                }
            }
            Notice::Detach {
                session,
                generation,
            } => {
                // First the connection ends, with all that it has not executed; then the pipeline
                // may let the new one in.
                if let Some(old) = self.core.attachments.until(session, generation) {
                    let c = self
                        .conns
                        .get_mut(old)
                        .expect("an attachment has a connection");
                    self.core.end(c, Ending::SessionGone, Why::SessionMoved);
                }
                self.core.released(session, generation);
            }
            Notice::Suspend => self.suspend(),
        }
        self.distribute();
    }

    /// Every connection ends without a further byte; what they have asked for gets no outcome any more.
    fn suspend(&mut self) {
        for slot in 0..self.conns.slots() {
            if let Some(c) = self.conns.at_mut(slot) {
                self.core.end(c, Ending::SessionGone, Why::NoLeader);
            }
        }
        self.core.suspended();
    }

    /// The newest transaction that is committed, in case the replica is behind it. Handshakes and
    /// sync go by it. Only ever raised; transactions raise it by themselves.
    pub fn raise_committed(&mut self, committed: Zxid) {
        self.core.raise_committed(committed);
    }

    /// The next request for the pipeline.
    pub fn poll_request(&mut self, _now: Now) -> Option<ShardRequest> {
        let up = self.core.up.pop_front();
        if let Some(ShardRequest::Touched { .. }) = up {
            self.core.liveness.report_taken();
        }
        up
    }

    /// A connection that has output, or has to be closed. Each is given once until something new
    /// happens to it.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.core.dirty.pop_front() {
            if let Some(c) = self.conns.get_mut(conn) {
                c.offer(self.core.config.output_max);
                return Some(conn);
            }
        }
        None
    }

    /// The next connection that has ended, and why. The last 1,024 are kept; all are counted
    /// ([`ShardStats::ends`]).
    pub fn poll_end(&mut self) -> Option<End> {
        self.core.ends.poll()
    }

    /// Whether a connection has ended and nothing more is to be written: the driver need not wait
    /// for what it has taken.
    pub fn is_discarded(&self, conn: ConnId) -> bool {
        let discarded = Phase::Ended { discard: true };
        self.conns.get(conn).is_some_and(|c| c.phase == discarded)
    }

    /// One entry per connection that is not closing, in order of slot.
    pub fn connections(&self) -> impl Iterator<Item = ConnStats> {
        self.connections_in(0..self.slots())
    }

    /// Those of [`Shard::connections`] whose slots are in a range.
    pub fn connections_in(&self, slots: Range<usize>) -> impl Iterator<Item = ConnStats> {
        let open = slots.filter_map(|slot| self.conns.at(slot).filter(|c| !c.ended()));
        open.map(|c| c.stats(self.core.may_read(c) > 0, self.core.resets))
    }

    /// What the connection in a slot watches in the data table, if there is one and it watches anything.
    ///
    /// Steps: a pointer for each path, which are at most [`WATCHES_LISTED_MAX`]. Nothing is compared: whoever makes a
    /// text of it sorts, elsewhere.
    pub fn watched_at(&self, slot: usize) -> Option<Watched> {
        let c = self.conns.at(slot).filter(|c| !c.ended())?;
        let paths = self.core.watches.data_paths(c.id)?;
        let listed = (paths.len() <= WATCHES_LISTED_MAX).then(|| {
            // Java prints it so.
            let text = |path: &Option<Arc<str>>| path.clone().unwrap_or_else(|| "null".into());
            paths.iter().map(text).collect()
        });
        Some(Watched {
            session: c.attachment().map_or(SessionId::NONE, |own| own.session),
            paths: listed,
        })
    }

    /// Slots of connections, the free ones included.
    pub fn slots(&self) -> usize {
        self.conns.slots()
    }

    /// Sums over the shard.
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            received: self.core.totals.received,
            sent: self.core.totals.sent,
            latency: self.core.totals.latency,
            outstanding: self.core.queued,
            in_flight: self.core.credits.in_flight(),
            connections: self.core.open,
            watches: self.core.watches.counts(),
            request_bytes: self.core.requests.held(),
            output_bytes: self.core.outputs.held(),
            watch_bytes: self.core.watches.bytes(),
            ends: self.core.ends.counts(),
        }
    }

    /// Room set aside in the output for replies that are not there yet, bytes.
    #[cfg(test)]
    fn promised_output(&self) -> usize {
        self.core.outputs.promised()
    }

    /// Of writes the stage from applied to replied and the whole, and of reads the whole. The
    /// rest is the pipeline's.
    pub fn stages(&self) -> &Stages {
        &self.core.stages
    }

    /// Requests executed since the last reset for connections that had no write under way.
    pub fn served_others(&self) -> u64 {
        self.core.totals.others
    }

    /// Whether [`Shard::poll_request`] has one.
    pub fn has_requests(&self) -> bool {
        !self.core.up.is_empty()
    }

    /// `srst`.
    pub fn reset_stats(&mut self) {
        self.core.totals = Default::default();
        self.core.stages.reset();
    }

    /// `crst`, in one step however many connections there are.
    pub fn reset_connection_stats(&mut self) {
        self.core.resets.one_more();
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
                self.core.wake(c);
                self.core.note_reading(c);
            }
            return;
        }
        self.core
            .outcome(self.conns.get_mut(origin.conn), origin.conn);
        if let Some(c) = self.conns.get_mut(origin.conn).filter(|c| !c.ended()) {
            self.core.answer_write(c, origin, applied, timing, now);
            self.after_outcome(tree, origin.conn, now);
        }
    }

    /// A write of a connection has been answered: what must not see its next write executes, the
    /// rest is ready.
    fn after_outcome(&mut self, tree: &Tree, conn: ConnId, now: Now) {
        if let Some(c) = self.conns.get_mut(conn) {
            self.core.execute_between_writes(c, tree, now);
            self.core.wake(c);
            self.core.settle(c);
            self.core.note_reading(c);
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
            self.core.end(c, Ending::Flush, Why::NoSession);
        } else {
            self.core.answer_refused(c, origin, tree, now);
            self.after_outcome(tree, origin.conn, now);
        }
    }

    /// Closes the connection of a session that exists no more, without a further byte.
    fn end_attachment(&mut self, session: SessionId, why: Why) {
        if let Some(conn) = self.core.attachments.get(session) {
            let c = self
                .conns
                .get_mut(conn)
                .expect("an attachment has a connection");
            self.core.end(c, Ending::SessionGone, why);
        }
    }

    /// Connections that waited for the replica to reach a state can go on.
    fn wake_waiters(&mut self, tree: &Tree) {
        while let Some(conn) = self.core.next_waiter(tree.last_zxid()) {
            if let Some(c) = self.conns.get_mut(conn).filter(|c| !c.ended()) {
                self.core.establish(c);
                self.core.wake(c);
                self.core.note_reading(c);
            }
        }
    }

    fn take_in(&mut self, tree: &Tree, conn: ConnId, bytes: &[u8], budget: &mut Budget, now: Now) {
        let Some(c) = self.conns.get_mut(conn) else {
            return;
        };
        if c.ended() || c.deaf {
            return;
        }
        c.quiet = Silence::default();
        c.bytes_wait = false;
        c.filling
            .moved(bytes.len(), self.core.config.connection_share);
        c.received_at = now.micros;
        c.input.push(bytes);
        match self.delivery {
            None => self.core.advance(c, tree, budget, now),
            // It would execute before the events of the state that it sees.
            Some(_) => self
                .core
                .advance(c, tree, &mut Budget::NOTHING.clone(), now),
        }
        // A request that takes long to come is no silence.
        if let Phase::Attached(attachment) = c.phase
            && !c.input.is_empty()
        {
            self.core.liveness.touch(c, attachment.session);
        }
    }

    fn go_on(&mut self, tree: &Tree, conn: ConnId, budget: &mut Budget, now: Now) {
        assert!(
            !self.is_delivering(),
            "events come before what reflects them"
        );
        if let Some(c) = self.conns.get_mut(conn).filter(|c| !c.ended()) {
            self.core.advance(c, tree, budget, now);
        }
    }

    fn take_sent(&mut self, conn: ConnId, bytes: usize) {
        let Some(c) = self.conns.get_mut(conn) else {
            return;
        };
        let was_full = self.core.is_full(c);
        if bytes > 0 {
            self.core.output_moved(c, bytes);
        }
        c.sent(bytes);
        self.core.output_left(c, was_full);
        self.core.settle(c);
        self.core.note_reading(c);
        if c.told_to_close && c.backlog() == 0 {
            self.conns.remove(conn);
        }
    }

    /// Gives what has become free to those who wait for it, in order; and ends those who hold
    /// output that others need.
    fn distribute(&mut self) {
        while self.core.outputs.is_over() && self.end_idle_reader() {}
        while let Some(conn) = self.core.credits.next() {
            if let Some(c) = self.conns.get_mut(conn) {
                self.core.credits.give(c);
                self.core.mark_ready(c);
            }
        }
        while let Some(&conn) = self.core.memory_queue.front() {
            if let Some(c) = self.conns.get_mut(conn) {
                if !self.core.grant_memory(c) {
                    break;
                }
                c.waits_for_memory = false;
                self.core.note_reading(c);
            }
            self.core.memory_queue.pop_front();
        }
        while let Some(&conn) = self.core.output_queue.front() {
            if let Some(c) = self.conns.get_mut(conn)
                && let Some(bytes) = c.waits_for_output
            {
                let held = c.output_bytes();
                if !self.core.outputs.has_room(held, held + bytes, held == 0) {
                    if self.end_idle_reader() {
                        continue;
                    }
                    break;
                }
                c.waits_for_output = None;
                c.promised = bytes.max(1);
                self.core.outputs.promise(c.promised);
                self.core.wake(c);
            }
            self.core.output_queue.pop_front();
        }
    }

    /// Ends the connection that holds more than its share of output and whose kernel has taken
    /// nothing of it for the longest, for at least one round. False if there is none.
    fn end_idle_reader(&mut self) -> bool {
        while let Some(conn) = self.core.idle_readers.pop_front() {
            if let Some(c) = self.conns.get_mut(conn)
                && self.core.is_idle_reader(c)
            {
                self.core.end(c, Ending::Discard, Why::NoRoomForOutput);
                return true;
            }
        }
        false
    }
}
