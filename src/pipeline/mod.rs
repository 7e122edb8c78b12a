//! The one place that orders writes: prepare, log, commit, and who owns which session.
//!
//! Events in (`request`, `tick`, `synced`, `spare_made`, `applied`), effects out (`poll_message`,
//! `poll_sync`, `poll_spare`). No clock, no randomness, no I/O but through the log's seam. It is made of parts, of
//! which none knows the ones that come later in this list:
//!
//! | Part | Who has it | What it holds |
//! |---|---|---|
//! | `journal` (`ring`, `lag`) | every member | the log, what in it is not applied, and the cursors over both |
//! | `outcomes` | every member | what the shards are told, in which order |
//! | `attachments` | every member | which of its shards serves which session |
//! | `arrivals` | every member | how far is known what lay in its sockets |
//! | `ordering` | who orders | what a request is validated against, the sessions and when they expire, what waits for its place |
//! | `learning` (`claims`) | who follows | what it has passed on, and who waits for the leader's word on a session |
//!
//! `between` has what passes between a member's pipeline and other members; `ids` and `numbers` make what differs from
//! theirs.
//!
//! A step of `ordering` works on the parts that every member has (`Common`); what commits a transaction comes from
//! neither of them, but from a `Decided`. `role` says what of this a member has at the time, and who decides. A standalone
//! server is a quorum of one: it orders, and what its own sync has made durable is decided.
//!
//! To the shards there is one order: a notice takes its place behind all transactions that were prepared
//! before it. Therefore a connection's outcomes come in the order of its requests, a re-attached
//! client reads everything that its old connection wrote, a Detach is behind the Attached that it
//! takes back, and nobody is told "dead" before the closeSession is durable.

mod arrivals;
mod attachments;
mod between;
mod claims;
mod common;
mod config;
mod counters;
mod ending;
mod fatal;
mod ids;
mod journal;
mod lag;
mod learning;
mod numbers;
mod ordering;
mod outcomes;
mod ring;
mod role;
mod slot;
mod step;

#[cfg(test)]
mod tests;

pub use between::{ForPeers, Forwarded, FromPeers};
pub use common::Proposal;
pub use config::PipelineConfig;
pub use counters::Counters;
pub use ending::Ending;
pub use fatal::Fatal;
pub use journal::{LagOrder, RingBounds};
pub use lag::ReadBack;
pub use ordering::{ReaperConfig, TreeMemory, UnderWay};
pub use ring::Cursors;

use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::log::{
    Adoption, Durable, Log, LogEnd, Received, SpareJob, SpareResult, SyncOutcome, SyncTicket,
};
use crate::messages::{Committed, ShardRequest, ToShards};
use crate::stages::Stages;
use crate::tree::{OverQuota, Tree};
use crate::types::{Epoch, Now, SessionId, ShardId, Tick, Zxid};
use crate::zab::{Decided, LinkId};
use common::Common;
use learning::Learning;
use ordering::Ordering;
use role::Role;
use step::Step;

/// Orders requests: validates them, gives each its place in the log, and says what is committed. Of a member that does
/// not order: keeps what its leader sends, and says the same.
pub struct Pipeline<S: Storage> {
    common: Common<S>,
    role: Role,
    config: PipelineConfig,
}

impl<S: Storage> Pipeline<S> {
    /// Of a server that stands alone, over a recovered tree. `log` has nothing beyond `tree.last_zxid()`. Every session
    /// gets its full timeout.
    pub fn new(config: PipelineConfig, log: Log<S>, tree: &Tree, now: Now) -> Pipeline<S> {
        Pipeline {
            common: Common::new(&config, log, tree),
            role: Role::Alone(Box::new(Ordering::new(config.clone(), tree, now))),
            config,
        }
    }

    /// Of a member of an ensemble, which looks for its part in it. What `log` holds beyond `tree.last_zxid()` is not
    /// applied before it is decided.
    pub fn of_member(config: PipelineConfig, log: Log<S>, tree: &Tree) -> Pipeline<S> {
        Pipeline {
            common: Common::new(&config, log, tree),
            role: Role::Looking,
            config,
        }
    }

    /// Clients can connect from now on: every session's timeout begins here, however long the start
    /// has taken (docs/protocol.md §5.2).
    pub fn begin_serving(&mut self, now: Now) {
        if let Some(ordering) = self.role.ordering_mut() {
            ordering.begin_serving(&mut self.common, now);
        }
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
        let is_current = |common: &Common<S>| !common.is_suspended(up.shard());
        match &mut self.role {
            Role::Alone(ordering) => ordering.request(&mut self.common, &mut step, up),
            Role::Leading(ordering) if is_current(&self.common) => {
                ordering.request(&mut self.common, &mut step, up)
            }
            Role::Learning(learning) if is_current(&self.common) => {
                learning.request(&mut self.common, &mut step, up);
                Ok(())
            }
            Role::Leading(_) | Role::Learning(_) | Role::Looking => {
                self.common.turn_away(up, now);
                Ok(())
            }
        }
    }

    /// Goes on with what waits, within `budget`. Once a turn, before what shards ask for.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn advance(&mut self, tree: &Tree, budget: &mut Budget, now: Now) -> Result<(), Fatal> {
        if self.common.journal.can_tell() {
            self.tell(now);
        }
        let mut step = Step { tree, budget, now };
        match &mut self.role {
            Role::Alone(ordering) | Role::Leading(ordering) => {
                ordering.advance(&mut self.common, &mut step)
            }
            Role::Learning(learning) => {
                learning.advance(&mut self.common, &mut step);
                Ok(())
            }
            Role::Looking => Ok(()),
        }
    }

    /// No core takes input any more: to have sent nothing is no silence from here on, and no session expires.
    pub fn stop_expiring(&mut self) {
        if let Some(ordering) = self.role.ordering_mut() {
            ordering.stop_expiring();
        }
    }

    /// Whether [`Pipeline::advance`] would do anything.
    pub fn has_work(&self) -> bool {
        let ordering = self.role.ordering();
        let learning = self.role.learning();
        ordering.is_some_and(Ordering::has_work)
            || learning.is_some_and(Learning::has_work)
            || self.common.journal.can_tell()
    }

    /// Timers: seals and patience; waiting requests and expiry are due, and containers and TTL nodes may be.
    /// Every tick, before client intake.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn tick(&mut self, now: Now) -> Result<(), Fatal> {
        match self.role.ordering_mut() {
            Some(ordering) => ordering.tick(&mut self.common, now),
            None => {
                self.common.arrivals.see_clock(now.tick);
                if let Some(learning) = self.role.learning_mut() {
                    learning.tick(&mut self.common, now.tick);
                }
                self.common.journal.tick(now.tick)
            }
        }
    }

    /// A sync that [`Pipeline::poll_sync`] asked for has ended. At a standalone server what is durable by that is
    /// committed; others decide with who they are.
    ///
    /// # Errors
    /// [`Fatal::Log`]: the sync failed.
    pub fn synced(&mut self, outcome: SyncOutcome, now: Now) -> Result<Durable<LogEnd>, Fatal> {
        match self.role.ordering_mut() {
            Some(ordering) => ordering.see_clock(&mut self.common, now),
            None => self.common.arrivals.see_clock(now.tick),
        }
        let durable = self.common.journal.synced(outcome, now.micros)?;
        if let Role::Alone(_) = self.role {
            self.commit(&Decided::alone(&durable), now);
        }
        Ok(durable)
    }

    /// Everything up to there is committed.
    pub fn commit(&mut self, decided: &Decided, now: Now) {
        self.common.journal.decided(decided);
        self.tell(now);
    }

    /// The shards are told of what is committed, and of what waited behind it.
    fn tell(&mut self, now: Now) {
        loop {
            let Common {
                journal,
                attachments,
                counters,
                outcomes,
                ..
            } = &mut self.common;
            let Some(slot) = journal.tell(now.micros) else {
                return;
            };
            let zxid = slot.zxid();
            match &mut self.role {
                Role::Alone(ordering) | Role::Leading(ordering) => {
                    outcomes.commit(slot);
                    ordering.release(&mut self.common, zxid);
                }
                Role::Learning(learning) => {
                    let said = learning.outcome(attachments, counters, slot);
                    outcomes.commit(slot);
                    learning.told(&mut self.common, said, now.tick);
                }
                Role::Looking => outcomes.commit(slot),
            }
        }
    }

    /// The spare segment that [`Pipeline::poll_spare`] asked for is there, or could not be made.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub fn spare_made(&mut self, result: SpareResult<S>) -> Result<(), Fatal> {
        self.common.journal.spare_made(result)?;
        if let Some(ordering) = self.role.ordering_mut() {
            ordering.there_may_be_room();
        }
        Ok(())
    }

    /// The tree has applied a committed transaction, and nothing after it.
    ///
    /// # Errors
    /// [`Fatal::DigestMismatch`].
    pub fn applied(&mut self, tree: &Tree, txn: &Committed, now: Now) -> Result<(), Fatal> {
        let zxid = txn.entry.header.zxid;
        let entry = self.common.applied(tree, zxid, now)?;
        if let Some(ordering) = self.role.ordering_mut() {
            ordering.applied(&entry, now);
        }
        Ok(())
    }

    // The roles of a member.

    /// This member leads, and everything of its history is applied: it orders from here on. Every session gets its full
    /// timeout.
    ///
    /// # Panics
    /// Something is not applied.
    pub fn lead(&mut self, tree: &Tree, now: Now) {
        self.is_at_rest(tree);
        let cursors = self.common.journal.cursors();
        assert_eq!(
            cursors.applied, cursors.prepared,
            "it has its whole history"
        );
        self.common.begin_role(&self.config, tree, true);
        self.role = Role::Leading(Box::new(Ordering::new(self.config.clone(), tree, now)));
        self.begin_serving(now);
    }

    /// This member follows, and what was committed when it began to is applied.
    pub fn learn(&mut self, tree: &Tree) {
        self.is_at_rest(tree);
        self.common.begin_role(&self.config, tree, false);
        self.common.know_told();
        let PipelineConfig {
            passed_on_max,
            tick_time_ms,
            ..
        } = self.config;
        let learning = Learning::new(passed_on_max, tick_time_ms);
        self.role = Role::Learning(Box::new(learning));
    }

    fn is_at_rest(&self, tree: &Tree) {
        assert!(matches!(self.role, Role::Looking), "one role at a time");
        assert_eq!(tree.last_zxid(), self.common.journal.cursors().applied);
    }

    /// The role has ended. What it has appended stays in the log; nothing else of it stays.
    pub fn end_role(&mut self) {
        self.role = Role::Looking;
        self.common.end_role(&self.config);
    }

    /// Of a leader: whether it may order. While it may not, requests wait.
    pub fn hold(&mut self, is_held: bool) {
        self.common.journal.hold(is_held);
        if let Some(ordering) = self.role.ordering_mut().filter(|_| !is_held) {
            ordering.there_may_be_room();
        }
    }

    /// The next transaction that a leader has ordered, for those who are to hold it too. It is appended here.
    pub fn poll_proposal(&mut self) -> Option<Proposal> {
        self.common.proposals.as_mut()?.pop_front()
    }

    // What passes between members.

    /// The next thing that is wanted of other members.
    pub fn poll_wish(&mut self) -> Option<ForPeers> {
        self.common.wishes.pop_front()
    }

    /// Something that was wanted has come to pass, behind everything that was committed before it.
    pub fn answered(&mut self, answer: FromPeers, now: Now) {
        match (&mut self.role, answer) {
            (Role::Learning(learning), answer) => {
                learning.answered(&mut self.common, answer, now.tick);
            }
            (Role::Leading(ordering), FromPeers::Synced(id)) => {
                ordering.synced(&mut self.common, id);
            }
            _ => {}
        }
    }

    /// Leader: a learner has passed a request on. It is ordered with the next [`Pipeline::advance`].
    pub fn forwarded(&mut self, forwarded: Forwarded, now: Now) {
        if let Role::Leading(ordering) = &mut self.role {
            ordering.forwarded(&mut self.common, forwarded, now);
        }
    }

    /// Leader: a client has come to a learner with this session.
    pub fn revalidate(&mut self, link: LinkId, session: SessionId, timeout_ms: i32, now: Now) {
        if let Role::Leading(ordering) = &mut self.role {
            ordering.revalidate(&mut self.common, (link, session, timeout_ms), now);
        }
    }

    /// Leader: a learner names the sessions that it has heard of, in answer to a ping that was sent at `asked`.
    pub fn touched_there(
        &mut self,
        link: LinkId,
        asked: Tick,
        sessions: impl Iterator<Item = SessionId>,
        now: Now,
    ) {
        if let Role::Leading(ordering) = &mut self.role {
            ordering.touched_there(&mut self.common, (link, asked), sessions, now);
        }
    }

    /// A connection to another member has ended.
    pub fn link_closed(&mut self, link: LinkId, now: Now) {
        if let Role::Leading(ordering) = &mut self.role {
            ordering.gone(link, now);
        }
    }

    /// Learner: a ping of the leader is answered next, with those who are [heard of](Pipeline::poll_heard).
    pub fn is_asked(&mut self, now: Now) {
        if let Role::Learning(learning) = &mut self.role {
            learning.is_asked(&mut self.common, now.tick);
        }
    }

    /// Learner: the next session to name to the leader, with its timeout.
    pub fn poll_heard(&mut self) -> Option<(SessionId, i32)> {
        self.role.learning_mut()?.poll_heard()
    }

    /// Learner: it has to be named again.
    pub fn not_named(&mut self, session: SessionId, timeout_ms: i32) {
        if let Role::Learning(learning) = &mut self.role {
            learning.not_named(session, timeout_ms);
        }
    }

    /// Leader: bytes of what learners have passed on and has no place in the order.
    pub fn unordered_bytes(&self) -> usize {
        let ordering = self.role.ordering();
        ordering.map_or(0, Ordering::unordered_bytes)
    }

    /// Learner: requests that the leader has, and that have no outcome.
    pub fn passed_on(&self) -> usize {
        self.role.learning().map_or(0, Learning::under_way)
    }

    // What a leader sends to this member.

    /// Whether so many bytes that a leader has sent, or a fence, find room in the log now.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.common.journal.has_room(bytes)
    }

    /// Appends a transaction as its leader has serialised it, for which there is room.
    ///
    /// # Errors
    /// [`Ending`].
    pub fn accept(&mut self, zxid: Zxid, entry: &[u8], now: Now) -> Result<(), Ending> {
        self.common.journal.accept(zxid, entry, now.micros)
    }

    /// A synchronisation begins, behind `base` or the snapshot.
    ///
    /// # Errors
    /// [`Ending`].
    pub fn open_adoption(
        &mut self,
        epoch: Epoch,
        base: Zxid,
        snapshot: Option<&Received>,
    ) -> Result<(), Ending> {
        self.common.journal.open_adoption(epoch, base, snapshot)
    }

    /// It ends. Everything that is committed is applied.
    ///
    /// # Errors
    /// [`Ending`].
    pub fn close_adoption(&mut self, epoch: Epoch) -> Result<(), Ending> {
        self.common.journal.close_adoption(epoch)
    }

    /// It is given up, if one is open.
    ///
    /// # Errors
    /// [`Fatal::Log`].
    pub fn void_adoption(&mut self) -> Result<(), Fatal> {
        self.common.journal.void_adoption()
    }

    /// Whether one is open.
    pub fn is_adopting(&self) -> bool {
        self.common.journal.is_adopting()
    }

    /// The proof of the one that was closed last, once it is durable.
    pub fn poll_adoption(&mut self) -> Option<Durable<Adoption>> {
        self.common.journal.poll_adoption()
    }

    /// The proof of what is durable, once that is everything which was appended.
    pub fn flushed(&self) -> Option<Durable<LogEnd>> {
        self.common.journal.flushed()
    }

    /// The snapshot that the tree is to be made of: it is committed, and durable.
    pub fn awaited(&self) -> Option<Zxid> {
        self.common.journal.awaited()
    }

    /// Whether the tree is behind a snapshot that the history continues: no state of the history.
    pub fn is_awaiting(&self) -> bool {
        self.common.journal.is_awaiting()
    }

    /// The tree is that of this snapshot.
    pub fn installed(&mut self, zxid: Zxid) {
        self.common.journal.installed(zxid);
    }

    /// A sync to make, at most one at a time.
    pub fn poll_sync(&mut self) -> Option<SyncTicket<S>> {
        self.common.journal.poll_sync()
    }

    /// A segment to prepare, on a thread that may block.
    pub fn poll_spare(&mut self) -> Option<SpareJob> {
        self.common.journal.poll_spare()
    }

    /// Whether something has its place in the order, and is on disk alone.
    pub fn has_lag(&self) -> bool {
        self.common.journal.has_lag()
    }

    /// A part of what is committed and on disk alone, to read where that may block; one at a time.
    pub fn poll_lag(&mut self) -> Option<LagOrder> {
        self.common.journal.poll_lag()
    }

    /// It was read; the shards are told with the next [`Pipeline::advance`].
    pub fn read_back(&mut self, read: ReadBack) {
        self.common.journal.read_back(read);
    }

    /// It could not be: it is asked for again.
    pub fn not_read_back(&mut self, after: Zxid) {
        self.common.journal.not_read_back(after);
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

    /// Sessions that may expire here, closing ones included.
    pub fn session_count(&self) -> usize {
        self.role
            .ordering()
            .map_or(0, |ordering| ordering.sessions().len())
    }

    /// Requests that wait for room in the log or for the next turn.
    pub fn waiting(&self) -> usize {
        let learning = self.role.learning();
        let ordering = self.role.ordering().map_or(0, Ordering::waiting);
        ordering + learning.map_or(0, Learning::waiting)
    }

    /// The limit of a quota that a request has exceeded since the last one, the last of several: for the operator,
    /// one in half a tickTime, however often this is called.
    pub fn take_over_quota(&mut self) -> Option<OverQuota> {
        self.role.ordering_mut()?.take_over_quota()
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
        self.role.ordering()?.sessions().deadline_of(session)
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
        let ordering = self.role.ordering().into_iter();
        ordering.flat_map(|ordering| ordering.sessions().closing())
    }

    /// What is under way, as it is kept count of step by step.
    pub fn counted(&self) -> UnderWay {
        match &self.role {
            Role::Alone(ordering) | Role::Leading(ordering) => ordering.counted(&self.common),
            Role::Learning(learning) => UnderWay {
                outstanding: self.common.outcomes.outstanding(),
                waiters: self.common.attachments.waiters() + learning.claims(),
                ..UnderWay::default()
            },
            Role::Looking => UnderWay::default(),
        }
    }

    /// The same, from everything that is under way.
    pub fn recounted(&self) -> UnderWay {
        match &self.role {
            Role::Alone(ordering) | Role::Leading(ordering) => ordering.recounted(&self.common),
            Role::Learning(learning) => {
                let attached = self.common.attachments.waiters_recounted();
                let waiters = attached + learning.claims_recounted();
                let requests = learning.waiting() + learning.under_way();
                UnderWay {
                    outstanding: requests + self.common.syncs.len() + waiters,
                    waiters,
                    ..UnderWay::default()
                }
            }
            Role::Looking => UnderWay::default(),
        }
    }

    /// Nothing is under way but re-attaches that wait for another shard: what a drain waits for, with
    /// [`Pipeline::outstanding`].
    pub fn is_idle(&self) -> bool {
        self.role.ordering().is_none_or(Ordering::is_idle)
            && self.common.journal.untold() == 0
            && !self.common.outcomes.has_messages()
    }
}
