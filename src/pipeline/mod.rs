//! The one place that orders writes: prepare, log, commit, and who owns which session.
//!
//! Events in (`request`, `tick`, `synced`, `spare_made`, `applied`), effects out (`poll_message`,
//! `poll_sync`, `poll_spare`). No clock, no randomness, no I/O but through the log's seam. It is made of parts, of
//! which none knows the ones that come later in this list:
//!
//! | Part | Who has it | What it holds |
//! |---|---|---|
//! | `journal` | every member | the log, what in it is not applied, and the cursors over both |
//! | `outcomes` | every member | what the shards are told, in which order |
//! | `attachments` | every member | which of its shards serves which session |
//! | `arrivals` | every member | how far is known what lay in its sockets |
//! | `ordering` | who orders | what a request is validated against, the sessions and when they expire, what waits for its place |
//!
//! A step of `ordering` works on the parts that every member has (`Common`); what commits a transaction comes from
//! neither of them, but from a `Decided`. A standalone server is a quorum of one: it orders, and what its own
//! sync has made durable is decided.
//!
//! To the shards there is one order: a notice takes its place behind all transactions that were prepared
//! before it. Therefore a connection's outcomes come in the order of its requests, a re-attached
//! client reads everything that its old connection wrote, a Detach is behind the Attached that it
//! takes back, and nobody is told "dead" before the closeSession is durable.

mod arrivals;
mod attachments;
mod common;
mod config;
mod counters;
mod fatal;
mod journal;
mod ordering;
mod outcomes;
mod ring;
mod step;

#[cfg(test)]
mod tests;

pub use config::PipelineConfig;
pub use counters::Counters;
pub use fatal::Fatal;
pub use ordering::{ReaperConfig, TreeMemory, UnderWay};
pub use ring::Cursors;

use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::log::{Log, SpareJob, SpareResult, SyncOutcome, SyncTicket};
use crate::messages::{Committed, ShardRequest, ToShards};
use crate::stages::Stages;
use crate::tree::{OverQuota, Tree};
use crate::types::{Now, SessionId, ShardId, Tick};
use crate::zab::Decided;
use common::Common;
use ordering::Ordering;
use step::Step;

/// Orders requests: validates them, gives each its place in the log, and says what is committed.
pub struct Pipeline<S: Storage> {
    common: Common<S>,
    ordering: Ordering,
}

impl<S: Storage> Pipeline<S> {
    /// Starts over a recovered tree. `log` has nothing beyond `tree.last_zxid()`. Every session
    /// gets its full timeout.
    pub fn new(config: PipelineConfig, log: Log<S>, tree: &Tree, now: Now) -> Pipeline<S> {
        Pipeline {
            common: Common::new(&config, log, tree),
            ordering: Ordering::new(config, tree, now),
        }
    }

    /// Clients can connect from now on: every session's timeout begins here, however long the start
    /// has taken (docs/protocol.md §5.2).
    pub fn begin_serving(&mut self, now: Now) {
        self.ordering.begin_serving(&mut self.common, now);
    }

    /// Every connection that waited in a listening socket at `until` has been handed to a shard; it
    /// is `now`, a clock reading taken after the last hand-over. A session that nobody serves
    /// expires only when its deadline is at or below such an `until`, and every shard has raised
    /// its watermark after `now`. Whoever accepts calls this at every tick.
    pub fn accepted_until(&mut self, until: Tick, now: Tick) {
        self.common.arrivals.accepted(until, now);
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
        let mut step = Step { tree, budget, now };
        self.ordering.request(&mut self.common, &mut step, up)
    }

    /// Goes on with what waits, within `budget`. Once a turn, before what shards ask for.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn advance(&mut self, tree: &Tree, budget: &mut Budget, now: Now) -> Result<(), Fatal> {
        let mut step = Step { tree, budget, now };
        self.ordering.advance(&mut self.common, &mut step)
    }

    /// No core takes input any more: to have sent nothing is no silence from here on, and no session expires.
    pub fn stop_expiring(&mut self) {
        self.ordering.stop_expiring();
    }

    /// Whether [`Pipeline::advance`] would do anything.
    pub fn has_work(&self) -> bool {
        self.ordering.has_work()
    }

    /// Timers: seals and patience; waiting requests and expiry are due, and containers and TTL nodes may be.
    /// Every tick, before client intake.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn tick(&mut self, now: Now) -> Result<(), Fatal> {
        self.ordering.tick(&mut self.common, now)
    }

    /// A sync that [`Pipeline::poll_sync`] asked for has ended. What is decided by that is committed.
    ///
    /// # Errors
    /// [`Fatal::Log`]: the sync failed.
    pub fn synced(&mut self, outcome: SyncOutcome, now: Now) -> Result<(), Fatal> {
        self.ordering.see_clock(&mut self.common, now);
        let durable = self.common.journal.synced(outcome, now.micros)?;
        self.commit(&Decided::alone(&durable), now);
        Ok(())
    }

    /// Everything up to there is committed: the shards are told, and of what waited behind it.
    fn commit(&mut self, decided: &Decided, now: Now) {
        self.common.journal.decided(decided);
        while let Some(slot) = self.common.journal.commit(decided, now.micros) {
            let zxid = slot.zxid();
            self.common.outcomes.commit(slot);
            self.ordering.release(&mut self.common, zxid);
        }
    }

    /// The spare segment that [`Pipeline::poll_spare`] asked for is there, or could not be made.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn spare_made(&mut self, result: SpareResult<S>) -> Result<(), Fatal> {
        self.common.journal.spare_made(result)?;
        self.ordering.there_may_be_room();
        Ok(())
    }

    /// The tree has applied a committed transaction, and nothing after it.
    ///
    /// # Errors
    /// [`Fatal::DigestMismatch`].
    pub fn applied(&mut self, tree: &Tree, txn: &Committed, now: Now) -> Result<(), Fatal> {
        let zxid = txn.entry.header.zxid;
        let entry = self.common.applied(tree, zxid, now)?;
        self.ordering.applied(&entry, now);
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
        self.ordering.sessions().len()
    }

    /// Requests that wait for room in the log or for the next turn.
    pub fn waiting(&self) -> usize {
        self.ordering.waiting()
    }

    /// The limit of a quota that a request has exceeded since the last one, the last of several: for the operator,
    /// one in half a tickTime, however often this is called.
    pub fn take_over_quota(&mut self) -> Option<OverQuota> {
        self.ordering.take_over_quota()
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
        self.ordering.sessions().deadline_of(session)
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
        self.ordering.sessions().closing()
    }

    /// What is under way, as it is kept count of step by step.
    pub fn counted(&self) -> UnderWay {
        self.ordering.counted(&self.common)
    }

    /// The same, from everything that is under way.
    pub fn recounted(&self) -> UnderWay {
        self.ordering.recounted(&self.common)
    }

    /// Nothing is under way but re-attaches that wait for another shard: what a drain waits for, with
    /// [`Pipeline::outstanding`].
    pub fn is_idle(&self) -> bool {
        self.ordering.is_idle()
            && self.common.journal.uncommitted() == 0
            && !self.common.outcomes.has_messages()
    }
}
