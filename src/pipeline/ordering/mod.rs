//! What only who orders has: the sessions and when they expire, what is ordered and not applied, and which request
//! is next.
//!
//! A request is validated against the tree and everything ordered before it, takes the next zxid and is appended to
//! the journal; so is what the server asks for itself: the end of sessions (`closing`), the deletes of nodes that are
//! due (`reaping`). [`Ordering::request`] and [`Ordering::advance`] are the only places that order anything, each
//! within a budget of steps: an operation of a transaction, 512 bytes of its data, an entry of an access control list
//! that is compared, some names on the way to a deep quota, a path of a closeSession, a message of a shard.
//!
//! What becomes of a transaction behind its append is not known here, but that it is applied; nor is who decides over
//! it: no sync, no acknowledgement, no other server.

mod admission;
mod asked;
mod closing;
mod learners;
mod memory;
mod owners;
mod passed_on;
mod preparing;
mod reaper;
mod reaping;
mod recount;
mod sessions;
mod size;
mod slow_close;
mod waiting;
mod wanted;

pub use memory::TreeMemory;
pub use reaper::ReaperConfig;
pub use recount::UnderWay;
pub(in crate::pipeline) use size::entry_bytes_max;

#[cfg(test)]
pub(super) use {
    closing::DELETES_IN_FLIGHT_MAX, learners::UNORDERED_BYTES_MAX, memory::LOOKED_UP_MAX,
    reaper::REAPED_IN_FLIGHT_MAX, reaping::LOOKS_PER_TURN, size::ENTRY_FIXED,
};

use super::common::{Common, Proposal};
use super::config::PipelineConfig;
use super::fatal::Fatal;
use super::outcomes::Said;
use super::step::Step;
use crate::log::storage::Storage;
use crate::messages::Notice;
use crate::tree::{OverQuota, Overlay, Prepared, Tree};
use crate::txn::{Entry, Txn, TxnHeader};
use crate::types::{ErrorCode, Now, OpCode, Tick, Zxid};
use asked::{Asked, Preparing};
use learners::Learners;
use reaper::Reaper;
use sessions::{Holder, Sessions};
use slow_close::SlowCloses;
use waiting::Waiting;

/// Gives each request its place in the order.
pub(super) struct Ordering {
    pub(super) config: PipelineConfig,
    /// What is ordered and not applied, as changes of the tree.
    overlay: Overlay,
    sessions: Sessions,
    /// Members that follow this one.
    learners: Learners,
    /// A multi whose budget was spent before all of it was prepared. Whatever takes a zxid waits for it.
    preparing: Option<Preparing>,
    /// Requests that wait for room in the log or for the next turn. Bounded by what the shards may have
    /// under way.
    intake: Waiting,
    /// The head of `intake` waits for room in the log: tried again at a tick, and with a spare segment.
    waits_for_room: bool,
    /// Sessions may be due to expire: a tick came, or the last look at them ended before they did.
    expiry_due: bool,
    /// No core takes input any more, so nobody expires.
    is_stopping: bool,
    closes: SlowCloses,
    /// Deletes containers and TTL nodes.
    reaper: Reaper,
    /// Until then no quota that is exceeded is told of.
    quota_told_until: Tick,
    /// Of the last event.
    clock: Tick,
}

impl Ordering {
    /// Over a recovered tree. Every session gets its full timeout (docs/protocol.md §5.2).
    pub(super) fn new(config: PipelineConfig, tree: &Tree, now: Now) -> Ordering {
        assert!(
            config.close_bytes_max <= config.entry_bytes_max,
            "a closeSession fits a record"
        );
        assert!(config.close_bytes_max > size::ENTRY_FIXED);
        let mut sessions = Sessions::new(config.tick_time_ms);
        for (session, timeout_ms) in tree.sessions() {
            sessions.insert(session, Holder::Nobody, timeout_ms, Zxid::ZERO, now.tick);
        }
        Ordering {
            overlay: Overlay::new(tree),
            sessions,
            learners: Learners::default(),
            preparing: None,
            intake: Waiting::default(),
            waits_for_room: false,
            expiry_due: false,
            is_stopping: false,
            closes: SlowCloses::default(),
            reaper: Reaper::new(config.reaper),
            quota_told_until: Tick(0),
            clock: now.tick,
            config,
        }
    }

    /// Clients can connect from now on: every session's timeout begins here, however long the start
    /// has taken (docs/protocol.md §5.2).
    pub(super) fn begin_serving<S: Storage>(&mut self, common: &mut Common<S>, now: Now) {
        self.see_clock(common, now);
        self.sessions.hear_all(now.tick);
    }

    /// An event comes at `now`.
    pub(super) fn see_clock<S: Storage>(&mut self, common: &mut Common<S>, now: Now) {
        self.clock = now.tick;
        common.arrivals.see_clock(now.tick);
    }

    /// Goes on with what waits, within the budget: the multi that is half prepared, sessions that expire,
    /// those that close in several transactions, a slice of the containers and TTL nodes that are due, then
    /// requests, oldest first. Once a turn, before what shards ask for. Requests come last because they may
    /// never end; what comes before them is bounded for each tick, each apply and each turn.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn advance<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
    ) -> Result<(), Fatal> {
        let (mut may_expire, mut may_reap) = (true, true);
        while self.has_work() && !step.budget.is_spent() {
            if let Some(half) = self.preparing.take() {
                self.go_on_preparing(common, step, half)?;
            } else if may_expire && self.expiry_due {
                may_expire = false;
                self.expire(common, step)?;
            } else if std::mem::take(&mut self.closes.is_due) {
                self.work_on_slow_closes(common, step)?;
            } else if may_reap && self.reaper.has_work() {
                may_reap = false;
                self.reap(common, step)?;
            } else if let Some(up) = self.intake.pop_front() {
                step.budget.spend_steps(1);
                self.take_in(common, step, up)?;
            } else {
                // The rest of the pass, and of those who are due to expire, is for the next turn.
                break;
            }
        }
        Ok(())
    }

    /// Whether [`Ordering::advance`] would do anything.
    pub(super) fn has_work(&self) -> bool {
        let waits = !self.intake.is_empty() || self.closes.is_due || self.expiry_due;
        let due = waits || self.reaper.has_work();
        self.preparing.is_some() || (due && !self.waits_for_room)
    }

    /// Timers: seals and patience; waiting requests and expiry are due, and containers and TTL nodes may be.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn tick<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        now: Now,
    ) -> Result<(), Fatal> {
        self.see_clock(common, now);
        if self.preparing.is_none() {
            // A seal would take the room that was found for the multi; its record says the same.
            common.journal.tick(now.tick)?;
        }
        let mut said = Vec::new();
        let told = common.journal.cursors().told;
        (common.attachments).give_up(told, now.tick, &mut said);
        common.counters.given_up += said.len() as u64;
        self.say(common, said);
        self.waits_for_room = false;
        self.closes.wake();
        self.expiry_due = !self.is_stopping;
        self.reaper.tick(common.journal.cursors().applied, now);
        Ok(())
    }

    /// The log may have room for what waits for it.
    pub(super) fn there_may_be_room(&mut self) {
        self.waits_for_room = false;
    }

    /// No core takes input any more: to have sent nothing is no silence from here on, and no session expires.
    pub(super) fn stop_expiring(&mut self) {
        (self.is_stopping, self.expiry_due) = (true, false);
    }

    /// The tree has applied a transaction, and nothing after it: what follows is validated against that.
    pub(super) fn applied(&mut self, entry: &Entry, now: Now) {
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
        self.closes.wake();
    }

    /// The sessions, for inspection.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Requests that wait for room in the log or for the next turn.
    pub(super) fn waiting(&self) -> usize {
        self.intake.len() + usize::from(self.preparing.is_some())
    }

    /// Those of them that this member's shards have sent.
    fn owed(&self) -> usize {
        let half = self.preparing.as_ref();
        self.intake.owed() + usize::from(half.is_some_and(|half| half.up.is_owed()))
    }

    /// Nothing waits to be ordered.
    pub(super) fn is_idle(&self) -> bool {
        self.preparing.is_none() && self.intake.is_empty() && self.closes.is_empty()
    }

    /// The limit of a quota that a request has exceeded since the last one, the last of several: one in half a
    /// tickTime, however often this is called.
    pub(super) fn take_over_quota(&mut self) -> Option<OverQuota> {
        if self.clock < self.quota_told_until {
            return None;
        }
        let over = self.overlay.take_over_quota()?;
        self.quota_told_until = self.clock.after(self.config.tick_time_ms / 2);
        Some(over)
    }

    /// Prepares and appends: the only place that takes a zxid for a request that is validated.
    fn order<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        asked: Asked<'_>,
    ) -> Result<Zxid, Fatal> {
        let zxid = common.journal.next_zxid();
        let context = asked.context(zxid, step.now.wall, &self.config.rules);
        let overlay = &mut self.overlay;
        let prepared = overlay.prepare(step.tree, &context, asked.request, step.budget);
        self.append_prepared(common, prepared, &asked, step.now)
    }

    fn append_prepared<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        prepared: Prepared,
        asked: &Asked<'_>,
        now: Now,
    ) -> Result<Zxid, Fatal> {
        let Prepared { entry, error } = prepared;
        common.counters.errors += u64::from(error.is_some());
        let list = size::list_size(&entry.txn);
        if list.paths > 0 {
            self.sessions.list_grows(asked.session, list);
        }
        append(common, entry, asked, now)
    }

    /// Puts notices behind everything prepared so far.
    fn say<S: Storage>(&mut self, common: &mut Common<S>, said: Vec<Said>) {
        let cursors = common.journal.cursors();
        common.outcomes.say(cursors.prepared, said);
        self.release(common, cursors.told);
    }

    /// What was said behind transactions that are committed now goes to the shards.
    pub(super) fn release<S: Storage>(&mut self, common: &mut Common<S>, committed: Zxid) {
        let Common {
            outcomes,
            attachments,
            counters,
            ..
        } = common;
        outcomes.release(committed, |told| match *told {
            Notice::Attached { session, .. } => {
                counters.reattached += 1;
                // The client begins to count when it gets the answer.
                self.sessions.heard(session, self.clock);
            }
            Notice::Detach { session, .. } => attachments.told(session, self.clock),
            Notice::Refused(_) | Notice::Dead(_) | Notice::Close(_) => {}
            Notice::Synced(_) | Notice::Suspend => {}
        });
    }
}

/// A transaction for what must not, or can't, be validated.
fn order_error<S: Storage>(
    common: &mut Common<S>,
    asked: &Asked<'_>,
    code: ErrorCode,
    now: Now,
) -> Result<Zxid, Fatal> {
    common.counters.errors += 1;
    let header = TxnHeader {
        session: asked.session,
        cxid: asked.xid.0,
        zxid: common.journal.next_zxid(),
        time: now.wall,
        op: OpCode::ERROR,
    };
    let entry = Entry {
        header,
        txn: Txn::Error { code },
        digest: None,
    };
    append(common, entry, asked, now)
}

fn append<S: Storage>(
    common: &mut Common<S>,
    entry: Entry,
    asked: &Asked<'_>,
    now: Now,
) -> Result<Zxid, Fatal> {
    let (origin, generation) = (asked.origin, asked.generation);
    if let Some(proposals) = &mut common.proposals {
        proposals.push_back(Proposal {
            zxid: entry.header.zxid,
            entry: entry.encode(),
        });
    }
    let zxid = (common.journal).append(entry, origin, generation, asked.stamps, now.micros)?;
    common.counters.ordered += 1;
    Ok(zxid)
}
