//! The one place that orders writes: prepare, log, commit, and who owns which session.
//!
//! Events in (`request`, `tick`, `synced`, `spare_made`, `applied`), effects out (`poll_message`,
//! `poll_sync`, `poll_spare`). `request` and `advance` are the only places that order anything, each within
//! a budget of steps: an operation of a transaction, 512 bytes of its data, an entry of an access control list
//! that is compared, some names on the way to a deep quota, a path of a closeSession, a message of a shard. No
//! clock, no randomness, no I/O but through the log's seam.
//!
//! What happens to a request, first match wins:
//!
//! | Case | zxid | Outcome |
//! |---|---|---|
//! | new session or re-attach while `PENDING_MAX` requests have no outcome | none | `Notice::Close` |
//! | others wait for room in the log, or a multi is half prepared | – | waits behind them: nothing overtakes |
//! | write, the session's attachment is another | none | `Notice::Close` |
//! | write, its closeSession waits for deletes that make its list shorter | – | waits for it |
//! | write, session closing or unknown | one | error transaction −112 |
//! | write whose transaction could pass `entry_bytes_max` | one | error transaction −5 |
//! | no room in the log, even after waiting for a spare segment | none | `Notice::Refused` |
//! | write, new session | one | committed transaction |
//! | re-attach, session unknown or closing | none | `Notice::Dead` |
//! | re-attach, nobody holds the session | none | `Notice::Attached` |
//! | re-attach, somebody holds it | none | `Notice::Detach` to the old shard; then, when that confirms, `Attached`; when it is silent for a tickTime, or a newer one comes, `Close` |
//!
//! ToShards there is one order: a notice takes its place behind all transactions that were prepared
//! before it. Therefore a connection's outcomes come in the order of its requests, a re-attached
//! client reads everything that its old connection wrote, a Detach is behind the Attached that it
//! takes back, and nobody is told "dead" before the closeSession is durable.

mod arrivals;
mod attachments;
mod closing;
mod common;
mod config;
mod counters;
mod fatal;
mod ids;
mod journal;
mod memory;
mod outcomes;
mod owners;
mod preparing;
mod reaper;
mod reaping;
mod recount;
mod ring;
mod sessions;
mod size;
mod slow_close;

#[cfg(test)]
mod tests;

pub use config::PipelineConfig;
pub use counters::Counters;
pub use fatal::Fatal;
pub use memory::TreeMemory;
pub use reaper::ReaperConfig;
pub use recount::UnderWay;
pub use ring::Cursors;

use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::log::{Log, Need, Room, SpareJob, SpareResult, SyncOutcome, SyncTicket};
use crate::messages::{Committed, Notice, Origin, ShardRequest, Stamps, ToShards};
use crate::stages::Stages;
use crate::tree::{
    MultiPreparation, OverQuota, Overlay, PrepareContext, Prepared, Rules, SessionState, Tree,
};
use crate::txn::{AuthId, Entry, Txn, TxnHeader, WriteRequest};
use crate::types::{
    ErrorCode, Generation, Now, OpCode, SessionId, ShardId, Tick, WallMs, Xid, Zxid,
};
use crate::zab::Decided;
use attachments::Claim;
use common::Common;
use ids::{CREATOR, SessionIds};
use outcomes::Said;
use owners::Standing;
use reaper::Reaper;
use sessions::Sessions;
use slow_close::SlowClose;
use std::collections::VecDeque;
use std::sync::Arc;

/// A transaction's own part of what [`Pipeline::order`] needs.
struct Asked<'a> {
    session: SessionId,
    state: SessionState,
    xid: Xid,
    request: &'a WriteRequest,
    credentials: &'a [AuthId],
    origin: Option<Origin>,
    generation: Generation,
    stamps: Stamps,
}

impl<'a> Asked<'a> {
    /// What the transaction is prepared with, at its place in the order.
    fn context(&self, zxid: Zxid, time: WallMs, rules: &'a Rules) -> PrepareContext<'a> {
        PrepareContext {
            zxid,
            time,
            session: self.session,
            cxid: self.xid.0,
            session_state: self.state,
            credentials: self.credentials,
            rules,
        }
    }
}

/// A multi that is being validated, with the request that asks for it.
#[derive(Debug)]
struct Preparing {
    /// A write that asks for a multi.
    up: ShardRequest,
    state: SessionState,
    /// When it began: the time of the whole transaction.
    time: WallMs,
    multi: MultiPreparation,
}

/// What became of a request that was looked at.
enum Admitted {
    /// It has its place in the order, or its notice.
    Done,
    /// There will be room when a spare segment is made: give it again then.
    Wait(ShardRequest),
}

/// Orders requests: validates them, gives each its place in the log, and says what is committed.
pub struct Pipeline<S: Storage> {
    config: PipelineConfig,
    common: Common<S>,
    overlay: Overlay,
    sessions: Sessions,
    ids: SessionIds,
    /// A multi whose budget was spent before all of it was prepared. Whatever takes a zxid waits for it.
    preparing: Option<Preparing>,
    /// Requests that wait for room in the log or for the next turn, oldest first. Bounded by what the
    /// shards may have under way.
    intake: VecDeque<ShardRequest>,
    /// The head of `intake` waits for room in the log: tried again at a tick, and with a spare segment.
    waits_for_room: bool,
    /// Sessions may be due to expire: a tick came, or the last look at them ended with the budget.
    expiry_due: bool,
    /// No core takes input any more, so nobody expires.
    is_stopping: bool,
    /// Slow closes may be able to go on: something was applied, or a tick came.
    slow_closes_due: bool,
    /// closeSessions that wait until their list is short enough; they are worked on in turn.
    slow_closes: VecDeque<SlowClose>,
    /// Transactions that delete ephemerals ahead of a closeSession and are not applied.
    deletes_in_flight: VecDeque<Zxid>,
    /// Deletes containers and TTL nodes.
    reaper: Reaper,
    /// Until then no quota that is exceeded is told of.
    quota_told_until: Tick,
    /// Of the last event.
    clock: Tick,
}

impl<S: Storage> Pipeline<S> {
    /// Starts over a recovered tree. `log` has nothing beyond `tree.last_zxid()`. Every session
    /// gets its full timeout.
    pub fn new(config: PipelineConfig, log: Log<S>, tree: &Tree, now: Now) -> Pipeline<S> {
        assert!(
            config.close_bytes_max <= config.entry_bytes_max,
            "a closeSession fits a record"
        );
        assert!(config.close_bytes_max > size::ENTRY_FIXED);
        let mut sessions = Sessions::new(config.tick_time_ms);
        for (session, timeout_ms) in tree.sessions() {
            sessions.insert(session, None, timeout_ms, Zxid::ZERO, now.tick);
        }
        Pipeline {
            common: Common::new(&config, log, tree),
            overlay: Overlay::new(tree),
            sessions,
            ids: SessionIds::new(),
            preparing: None,
            intake: VecDeque::new(),
            waits_for_room: false,
            expiry_due: false,
            is_stopping: false,
            slow_closes_due: false,
            slow_closes: VecDeque::new(),
            deletes_in_flight: VecDeque::new(),
            reaper: Reaper::new(config.reaper),
            quota_told_until: Tick(0),
            clock: now.tick,
            config,
        }
    }

    /// Clients can connect from now on: every session's timeout begins here, however long the start
    /// has taken (docs/protocol.md §5.2).
    pub fn begin_serving(&mut self, now: Now) {
        self.see_clock(now);
        self.sessions.hear_all(now.tick);
    }

    /// Every connection that waited in a listening socket at `until` has been handed to a shard; it
    /// is `now`, a clock reading taken after the last hand-over. A session that nobody serves
    /// expires only when its deadline is at or below such an `until`, and every shard has raised
    /// its watermark after `now`. Whoever accepts calls this at every tick.
    pub fn accepted_until(&mut self, until: Tick, now: Tick) {
        self.common.arrivals.accepted(until, now);
    }

    fn see_clock(&mut self, now: Now) {
        self.clock = now.tick;
        self.common.arrivals.see_clock(now.tick);
    }

    /// Takes what a shard sends. It is ordered at once, however little of `budget` is left, unless
    /// requests wait before it; but a multi only as far as `budget` allows.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn request(
        &mut self,
        tree: &Tree,
        up: ShardRequest,
        budget: &mut Budget,
        now: Now,
    ) -> Result<(), Fatal> {
        self.see_clock(now);
        self.common.arrivals.sent(up.shard());
        budget.spend_steps(1);
        match up {
            ShardRequest::Touched {
                shard,
                watermark,
                made,
                sessions,
            } => {
                // The clocks of two cores are read at different moments.
                let (watermark, made) = (watermark.min(now.tick), made.min(now.tick));
                self.touched(shard, watermark, made, &sessions);
                Ok(())
            }
            // Never behind waiting requests: those of the attachment that ended came before its
            // re-attach, so they are through, or after it, so they are stale.
            ShardRequest::Released {
                shard,
                session,
                generation,
            } => {
                self.released(shard, session, generation, now.tick);
                Ok(())
            }
            ShardRequest::NewSession { origin, .. } | ShardRequest::Reattach { origin, .. }
                if self.common.outcomes.is_full() =>
            {
                self.common.counters.given_up += 1;
                let close = Notice::Close(origin.conn);
                self.common.outcomes.turn_away(origin.shard, close);
                Ok(())
            }
            up => {
                self.common.outcomes.owe();
                if self.preparing.is_some() || !self.intake.is_empty() {
                    self.intake.push_back(up);
                    return Ok(());
                }
                self.take_in(tree, up, budget, now)
            }
        }
    }

    /// Goes on with what waits, within `budget`: the multi that is half prepared, sessions that expire,
    /// those that close in several transactions, a slice of the containers and TTL nodes that are due, then
    /// requests, oldest first. Once a turn, before what shards ask for. Requests come last because they may
    /// never end; what comes before them is bounded for each tick, each apply and each turn.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn advance(&mut self, tree: &Tree, budget: &mut Budget, now: Now) -> Result<(), Fatal> {
        let mut may_reap = true;
        while self.has_work() && !budget.is_spent() {
            if let Some(half) = self.preparing.take() {
                self.go_on_preparing(tree, half, budget, now)?;
            } else if self.expiry_due {
                self.expire(tree, budget, now)?;
            } else if std::mem::take(&mut self.slow_closes_due) {
                self.work_on_slow_closes(tree, budget, now)?;
            } else if may_reap && self.reaper.has_work() {
                may_reap = false;
                self.reap(tree, budget, now)?;
            } else if let Some(up) = self.intake.pop_front() {
                budget.spend_steps(1);
                self.take_in(tree, up, budget, now)?;
            } else {
                // The rest of the pass is for the next turn.
                break;
            }
        }
        Ok(())
    }

    /// No core takes input any more: to have sent nothing is no silence from here on, and no session expires.
    pub fn stop_expiring(&mut self) {
        (self.is_stopping, self.expiry_due) = (true, false);
    }

    /// Whether [`Pipeline::advance`] would do anything.
    pub fn has_work(&self) -> bool {
        let waits = !self.intake.is_empty() || self.slow_closes_due || self.expiry_due;
        let due = waits || self.reaper.has_work();
        self.preparing.is_some() || (due && !self.waits_for_room)
    }

    /// Timers: seals and patience; waiting requests and expiry are due, and containers and TTL nodes may be.
    /// Every tick, before client intake.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn tick(&mut self, now: Now) -> Result<(), Fatal> {
        self.see_clock(now);
        if self.preparing.is_none() {
            // A seal would take the room that was found for the multi; its record says the same.
            self.common.journal.tick(now.tick)?;
        }
        let mut said = Vec::new();
        self.common.attachments.give_up(now.tick, &mut said);
        self.common.counters.given_up += said.len() as u64;
        self.say(said);
        self.waits_for_room = false;
        self.slow_closes_due = !self.slow_closes.is_empty();
        self.expiry_due = !self.is_stopping;
        self.reaper.tick(self.common.journal.cursors().applied, now);
        Ok(())
    }

    /// A sync that [`Pipeline::poll_sync`] asked for has ended. What is decided by that is committed.
    ///
    /// # Errors
    /// [`Fatal::Log`]: the sync failed.
    pub fn synced(&mut self, outcome: SyncOutcome, now: Now) -> Result<(), Fatal> {
        self.see_clock(now);
        let durable = self.common.journal.synced(outcome, now.micros)?;
        let decided = Decided::alone(&durable);
        while let Some(slot) = self.common.journal.commit(&decided, now.micros) {
            let zxid = slot.zxid();
            self.common.outcomes.commit(slot);
            self.release(zxid);
        }
        Ok(())
    }

    /// The spare segment that [`Pipeline::poll_spare`] asked for is there, or could not be made.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn spare_made(&mut self, result: SpareResult<S>) -> Result<(), Fatal> {
        self.common.journal.spare_made(result)?;
        self.waits_for_room = false;
        Ok(())
    }

    /// The tree has applied a committed transaction, and nothing after it.
    ///
    /// # Errors
    /// [`Fatal::DigestMismatch`].
    pub fn applied(&mut self, tree: &Tree, txn: &Committed, now: Now) -> Result<(), Fatal> {
        let entry = self.common.applied(tree, txn.entry.header.zxid, now)?;
        let header = entry.header;
        self.overlay.forget(header.zxid);
        self.reaper.applied(header.zxid);
        let list = size::list_size(&entry.txn);
        if list.paths > 0 {
            self.sessions.list_is_applied(header.session, list);
        }
        match entry.txn {
            // The client begins to count when it gets the answer.
            Txn::CreateSession { .. } => self.sessions.heard(header.session, now.tick),
            Txn::CloseSession { .. } => self.sessions.remove(header.session),
            _ => {}
        }
        self.slow_closes_due |= !self.slow_closes.is_empty();
        Ok(())
    }

    /// A sync to make, at most one at a time.
    pub fn poll_sync(&mut self) -> Option<SyncTicket<S>> {
        self.common.journal.poll_sync()
    }

    /// A segment to prepare, on a thread that may block.
    pub fn poll_spare(&mut self) -> Option<SpareJob> {
        self.common.journal.poll_spare()
    }

    /// Whether [`Pipeline::poll_message`] has something.
    pub fn has_messages(&self) -> bool {
        self.common.outcomes.has_messages()
    }

    /// What the shards get to know, in one order. A transaction must be applied, and reported to
    /// [`Pipeline::applied`], before the next one is.
    pub fn poll_message(&mut self) -> Option<ToShards> {
        self.common.outcomes.poll()
    }

    /// How far each stage has come.
    pub fn cursors(&self) -> Cursors {
        self.common.journal.cursors()
    }

    /// For snapshots, purge and inspection.
    pub fn log(&self) -> &Log<S> {
        self.common.journal.log()
    }

    /// For purge and the drain at the end.
    pub fn log_mut(&mut self) -> &mut Log<S> {
        self.common.journal.log_mut()
    }

    /// For the seal at the end.
    pub fn into_log(self) -> Log<S> {
        self.common.journal.into_log()
    }

    /// Requests without an outcome (`zk_outstanding_requests`).
    pub fn outstanding(&self) -> usize {
        self.common.outcomes.outstanding()
    }

    /// Sessions, closing ones included.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Requests that wait for room in the log or for the next turn.
    pub fn waiting(&self) -> usize {
        self.intake.len() + usize::from(self.preparing.is_some())
    }

    /// The limit of a quota that a request has exceeded since the last one, the last of several: for the operator,
    /// one in half a tickTime, however often this is called.
    pub fn take_over_quota(&mut self) -> Option<OverQuota> {
        if self.clock < self.quota_told_until {
            return None;
        }
        let over = self.overlay.take_over_quota()?;
        self.quota_told_until = self.clock.after(self.config.tick_time_ms / 2);
        Some(over)
    }

    /// For `mntr`.
    pub fn counters(&self) -> Counters {
        self.common.counters
    }

    /// Begins to count anew, but for the log's own counters, by which snapshots are due.
    pub fn reset_stats(&mut self) {
        self.common.counters = Counters::default();
        self.common.journal.reset_stages();
    }

    /// When a session expires if nothing more is heard of it; `None` if there is none, or it is closing.
    pub fn deadline(&self, session: SessionId) -> Option<Tick> {
        self.sessions.deadline_of(session)
    }

    /// The stages up to applied.
    pub fn stages(&self) -> &Stages {
        self.common.journal.stages()
    }

    /// Up to where everything that arrived is known: in any socket, the listening ones included, and in
    /// the sockets of each shard that has reported.
    pub fn known_arrivals(&self) -> (Tick, impl Iterator<Item = (ShardId, Tick)> + '_) {
        let arrivals = &self.common.arrivals;
        (arrivals.everywhere(), arrivals.at_shards())
    }

    /// Sessions whose end is decided and has not been applied.
    pub fn closing(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.closing()
    }

    /// Nothing is under way but re-attaches that wait for another shard: what a drain waits for, with
    /// [`Pipeline::outstanding`].
    pub fn is_idle(&self) -> bool {
        self.preparing.is_none()
            && self.intake.is_empty()
            && self.slow_closes.is_empty()
            && self.common.journal.uncommitted() == 0
            && !self.common.outcomes.has_messages()
    }

    /// Orders the oldest request that has no place in the order, or keeps it until there is room: no
    /// request overtakes another.
    fn take_in(
        &mut self,
        tree: &Tree,
        up: ShardRequest,
        budget: &mut Budget,
        now: Now,
    ) -> Result<(), Fatal> {
        if let Admitted::Wait(up) = self.admit(tree, up, budget, now)? {
            self.intake.push_front(up);
            self.waits_for_room = true;
        }
        Ok(())
    }

    fn admit(
        &mut self,
        tree: &Tree,
        up: ShardRequest,
        budget: &mut Budget,
        now: Now,
    ) -> Result<Admitted, Fatal> {
        match up {
            ShardRequest::Write { .. } => self.admit_write(tree, up, budget, now),
            ShardRequest::NewSession {
                origin,
                timeout_ms,
                stamps,
            } => match self
                .common
                .journal
                .room_for(Need::Reserve, size::ENTRY_FIXED)
            {
                Room::Wait => Ok(Admitted::Wait(up)),
                Room::Full => Ok(self.refuse(origin)),
                Room::Yes => self.new_session(tree, origin, timeout_ms, stamps, budget, now),
            },
            ShardRequest::Reattach {
                origin,
                session,
                timeout_ms,
            } => {
                if let Some(close) = self.slow_closes.iter_mut().find(|c| c.session == session) {
                    close.behind.push_back(up);
                    return Ok(Admitted::Done);
                }
                let claim = Claim { origin, timeout_ms };
                self.reattach(claim, session, now.tick);
                Ok(Admitted::Done)
            }
            ShardRequest::Released { .. } | ShardRequest::Touched { .. } => {
                unreachable!("these never wait")
            }
        }
    }

    fn admit_write(
        &mut self,
        tree: &Tree,
        up: ShardRequest,
        budget: &mut Budget,
        now: Now,
    ) -> Result<Admitted, Fatal> {
        let ShardRequest::Write {
            origin,
            session,
            generation,
            xid,
            ref request,
            ref credentials,
            stamps,
        } = up
        else {
            unreachable!("the caller looked");
        };
        let standing = self.standing(session, generation);
        let state = match standing {
            Standing::Stale => {
                self.common.counters.stale += 1;
                self.say(vec![(origin.shard, Notice::Close(origin.conn))]);
                return Ok(Admitted::Done);
            }
            Standing::Current => SessionState::Live,
            Standing::Closing | Standing::Unknown => SessionState::Closing,
        };
        if let Some(close) = self.slow_closes.iter_mut().find(|c| c.session == session) {
            close.behind.push_back(up);
            return Ok(Admitted::Done);
        }
        let mut bytes = size::entry_bytes_max(request, credentials);
        let is_close = matches!(request, WriteRequest::CloseSession);
        let failed = match standing {
            Standing::Current if bytes > self.config.entry_bytes_max => {
                Some(ErrorCode::MARSHALLING)
            }
            Standing::Current => None,
            // `prepare` knows no failing closeSession.
            _ if is_close || bytes > self.config.entry_bytes_max => {
                Some(ErrorCode::SESSION_EXPIRED)
            }
            _ => None,
        };
        if is_close && failed.is_none() {
            bytes = self.close_bytes(tree, session);
        }
        let need = need(state, request);
        if need == Need::Growing
            && self.config.memory.is_full(tree)
            && memory::may_grow(tree, request)
        {
            return Ok(self.refuse(origin));
        }
        match self.common.journal.room_for(need, bytes) {
            Room::Wait => return Ok(Admitted::Wait(up)),
            Room::Full => return Ok(self.refuse(origin)),
            Room::Yes => {}
        }
        if is_close && failed.is_none() {
            self.close(tree, session, xid, Some(origin), stamps, budget, now)?;
            return Ok(Admitted::Done);
        }
        if failed.is_none()
            && let WriteRequest::Multi(ops) = request
        {
            let multi = self.overlay.begin_multi(ops.len());
            let half = Preparing {
                up,
                state,
                time: now.wall,
                multi,
            };
            self.go_on_preparing(tree, half, budget, now)?;
            return Ok(Admitted::Done);
        }
        let asked = Asked {
            session,
            state,
            xid,
            request,
            credentials,
            origin: Some(origin),
            generation: Generation(0),
            stamps,
        };
        match failed {
            Some(code) => self.order_error(asked, code, now)?,
            None => self.order(tree, asked, budget, now)?,
        };
        Ok(Admitted::Done)
    }

    fn new_session(
        &mut self,
        tree: &Tree,
        origin: Origin,
        timeout_ms: i32,
        stamps: Stamps,
        budget: &mut Budget,
        now: Now,
    ) -> Result<Admitted, Fatal> {
        let is_used = |id| self.sessions.is_known(id);
        let high_water = tree.session_high_water(CREATOR);
        let session = (self.ids).allocate(high_water, now.wall, is_used);
        let zxid = self.common.journal.next_zxid();
        let generation = self.open(session, origin, timeout_ms, zxid, now.tick);
        let asked = Asked {
            session,
            state: SessionState::Live,
            xid: Xid(0),
            request: &WriteRequest::CreateSession { timeout_ms },
            credentials: &[],
            origin: Some(origin),
            generation,
            stamps,
        };
        self.order(tree, asked, budget, now)?;
        Ok(Admitted::Done)
    }

    fn refuse(&mut self, origin: Origin) -> Admitted {
        self.common.counters.refused += 1;
        self.say(vec![(origin.shard, Notice::Refused(origin))]);
        Admitted::Done
    }

    /// Prepares and appends: the only place that takes a zxid for a request that is validated.
    fn order(
        &mut self,
        tree: &Tree,
        asked: Asked<'_>,
        budget: &mut Budget,
        now: Now,
    ) -> Result<Zxid, Fatal> {
        let context = asked.context(
            self.common.journal.next_zxid(),
            now.wall,
            &self.config.rules,
        );
        let overlay = &mut self.overlay;
        let prepared = overlay.prepare(tree, &context, asked.request, budget);
        self.append_prepared(prepared, &asked, now)
    }

    fn append_prepared(
        &mut self,
        prepared: Prepared,
        asked: &Asked<'_>,
        now: Now,
    ) -> Result<Zxid, Fatal> {
        let Prepared { entry, error } = prepared;
        self.common.counters.errors += u64::from(error.is_some());
        let list = size::list_size(&entry.txn);
        if list.paths > 0 {
            self.sessions.list_grows(asked.session, list);
        }
        self.append(entry, asked, now)
    }

    /// A transaction for what must not, or can't, be validated.
    fn order_error(&mut self, asked: Asked<'_>, code: ErrorCode, now: Now) -> Result<Zxid, Fatal> {
        self.common.counters.errors += 1;
        let header = TxnHeader {
            session: asked.session,
            cxid: asked.xid.0,
            zxid: self.common.journal.next_zxid(),
            time: now.wall,
            op: OpCode::ERROR,
        };
        let entry = Entry {
            header,
            txn: Txn::Error { code },
            digest: None,
        };
        self.append(entry, &asked, now)
    }

    fn append(&mut self, entry: Entry, asked: &Asked<'_>, now: Now) -> Result<Zxid, Fatal> {
        let (origin, generation) = (asked.origin, asked.generation);
        let zxid =
            (self.common.journal).append(entry, origin, generation, asked.stamps, now.micros)?;
        self.common.counters.ordered += 1;
        Ok(zxid)
    }

    /// Puts notices behind everything prepared so far.
    fn say(&mut self, said: Vec<Said>) {
        let cursors = self.common.journal.cursors();
        self.common.outcomes.say(cursors.prepared, said);
        self.release(cursors.committed);
    }

    /// What was said behind transactions that are committed now goes to the shards.
    fn release(&mut self, committed: Zxid) {
        self.common.outcomes.release(committed, |session| {
            self.common.counters.reattached += 1;
            // The client begins to count when it gets the answer.
            self.sessions.heard(session, self.clock);
        });
    }
}

/// How a client's write counts when the disk is full. What a session that is closing asks for becomes an
/// error transaction.
fn need(state: SessionState, request: &WriteRequest) -> Need {
    match (state, request) {
        (SessionState::Closing, _) | (_, WriteRequest::Delete { .. }) => Need::Shrinking,
        (_, WriteRequest::CreateSession { .. } | WriteRequest::CloseSession) => Need::Reserve,
        _ => Need::Growing,
    }
}
