//! How sessions end: closeSession asked for by a client, expiry, and what precedes a closeSession
//! whose list of ephemerals would be too long.
//!
//! The list of a closeSession must stay below `jute.maxbuffer` (who replays the log reads no longer ones), and applying it is
//! one step of every core, so it has a bound in paths too. If the list might pass one of them, the
//! session is marked closing at once, so that it can't grow any more; when everything that was
//! prepared before is applied, the tree knows the list, and as long as what is left of it is too
//! long, bounded multis delete ephemerals from its front. They belong to the server: session 0, xid
//! 0, no origin, the rights of a super user (closeSession does not ask the ACLs either), and draw on
//! the reserve. Several are in flight at once, [`DELETES_IN_FLIGHT_MAX`] of all sessions together,
//! and sessions take turns. What somebody else has deleted meanwhile, or deleted and created anew, is
//! left out, whether that is applied or only ordered. After a crash in between, the session lives on,
//! with fewer ephemerals, until it is closed or expires again: its client had asked for the end, or
//! was not heard of.

use super::asked::Asked;
use super::size::ListSize;
use super::slow_close::SlowClose;
use super::{Common, Fatal, Ordering, Step, size};
use crate::log::storage::Storage;
use crate::log::{Need, Room};
use crate::messages::{Origin, Stamps};
use crate::tree::{SessionState, Tree};
use crate::txn::{AuthId, WriteRequest};
use crate::types::{Generation, SessionId, Xid, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// Sessions that are due and looked at in one turn at most. The next turn goes on: whoever comes and goes faster than
/// so many in a tick must not put off the end of others, nor gather sessions without end.
const EXPIRIES_PER_TURN: usize = 64;
/// Bytes of their paths, so that the transaction fits a record.
const DELETE_BYTES_PER_TXN: usize = 256 << 10;
/// Transactions with such deletes that are not applied, all sessions together: with one sync they
/// are about as much work as one long closeSession.
pub(in crate::pipeline) const DELETES_IN_FLIGHT_MAX: usize = 4;
/// Steps of slow closes that one event makes at most.
const STEPS_PER_EVENT: usize = 4;

/// What became of a look at a slow close.
enum CloseStep {
    /// Something was ordered, or it waits for an apply: the others' turn.
    Taken,
    /// It waits for room in the log, or for deletes in flight: it goes on as the first.
    NoRoom,
    /// Its closeSession is ordered.
    Closed,
}

/// A stretch of a list, for one transaction.
#[derive(Default)]
struct Deletes {
    /// What is to be deleted.
    paths: Vec<WriteRequest>,
    /// The whole stretch, what others have deleted included.
    passed: ListSize,
    /// Its last path; `None`: the list has ended.
    last: Option<Arc<str>>,
}

impl Ordering {
    /// Expires sessions that are due, if there is room in the log, however many transactions are in
    /// flight and requests wait: load holds up no expiry, and a session expires once. One of which a
    /// request waits, a re-attach for instance, was heard of; and whose client waits for the answer to its
    /// ConnectRequest can't say anything before, however long the disk hangs. While requests wait for a spare
    /// segment, nothing is prepared.
    pub(super) fn expire<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
    ) -> Result<(), Fatal> {
        let now = step.now.tick;
        self.expiry_due = false;
        for looked in 0.. {
            if looked == EXPIRIES_PER_TURN || step.budget.is_spent() {
                self.expiry_due = true;
                break;
            }
            let Some(session) = self.due(common, now) else {
                break;
            };
            step.budget.spend_steps(1);
            let applied = common.journal.cursors().applied;
            let is_unanswered = common.attachments.is_unanswered(session, applied)
                || self.sessions.is_unanswered(session, applied);
            if is_unanswered || self.intake.has_sent(session) {
                self.sessions.heard(session, now);
                continue;
            }
            let bytes = self.close_bytes(step.tree, session);
            if common.journal.room_for(Need::Reserve, bytes) != Room::Yes {
                break;
            }
            common.counters.expired += 1;
            self.close(common, step, session, Xid(0), None, Stamps::default())?;
        }
        Ok(())
    }

    /// Upper bound of the list of a closeSession prepared now.
    fn close_list(&self, tree: &Tree, session: SessionId) -> ListSize {
        let (paths, bytes) = tree.ephemeral_size(session);
        ListSize::of(paths, bytes).plus(self.sessions.list_in_flight(session))
    }

    /// Whether a closeSession may carry such a list.
    fn is_short(&self, list: ListSize) -> bool {
        list.paths <= self.config.close_paths_max
            && size::ENTRY_FIXED + list.bytes <= self.config.close_bytes_max
    }

    /// What the log must have room for when a session closes, bytes: its closeSession, or the first
    /// of the transactions before that.
    pub(super) fn close_bytes(&self, tree: &Tree, session: SessionId) -> usize {
        let bytes = size::ENTRY_FIXED + self.close_list(tree, session).bytes;
        bytes.min(self.config.close_bytes_max)
    }

    /// Marks a session closing, and orders its closeSession, now or after deletes. There is room.
    pub(super) fn close<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        session: SessionId,
        xid: Xid,
        origin: Option<Origin>,
        stamps: Stamps,
    ) -> Result<(), Fatal> {
        self.sessions.mark_closing(session);
        let close = SlowClose {
            session,
            xid,
            origin,
            stamps,
            after: common.journal.cursors().prepared,
            left: None,
            deleted_to: None,
            behind: VecDeque::new(),
        };
        if !self.is_short(self.close_list(step.tree, session)) {
            self.closes.queue.push_back(close);
            return Ok(());
        }
        self.order_close(common, step, &close)
    }

    fn order_close<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        close: &SlowClose,
    ) -> Result<(), Fatal> {
        let asked = Asked {
            session: close.session,
            // It is this one that closes it.
            state: SessionState::Live,
            xid: close.xid,
            request: &WriteRequest::CloseSession,
            credentials: &[],
            origin: close.origin,
            generation: Generation(0),
            stamps: close.stamps,
        };
        self.order(common, step, asked)?;
        let mut said = Vec::new();
        common.attachments.dead(close.session, &mut said);
        self.say(common, said);
        Ok(())
    }

    /// The next steps of slow closes that need not wait for an apply or for room.
    pub(super) fn work_on_slow_closes<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
    ) -> Result<(), Fatal> {
        let applied = common.journal.cursors().applied;
        let in_flight = &mut self.closes.deletes_in_flight;
        while in_flight.front().is_some_and(|&z| z <= applied) {
            in_flight.pop_front();
        }
        for _ in 0..STEPS_PER_EVENT {
            let Some(mut close) = self.closes.queue.pop_front() else {
                break;
            };
            match self.go_on_closing(common, step, &mut close)? {
                CloseStep::Taken => self.closes.queue.push_back(close),
                CloseStep::NoRoom => {
                    self.closes.queue.push_front(close);
                    break;
                }
                CloseStep::Closed => {
                    // They came before everything of the session that still waits.
                    for up in close.behind.into_iter().rev() {
                        self.intake.push_front(up);
                    }
                }
            }
        }
        Ok(())
    }

    fn go_on_closing<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        close: &mut SlowClose,
    ) -> Result<CloseStep, Fatal> {
        if step.budget.is_spent() {
            self.closes.is_due = true;
            return Ok(CloseStep::NoRoom);
        }
        if close.after > common.journal.cursors().applied {
            return Ok(CloseStep::Taken);
        }
        let left = *close.left.get_or_insert_with(|| {
            let (paths, bytes) = step.tree.ephemeral_size(close.session);
            ListSize::of(paths, bytes)
        });
        if self.is_short(left) {
            let bytes = size::ENTRY_FIXED + left.bytes;
            if common.journal.room_for(Need::Reserve, bytes) != Room::Yes {
                return Ok(CloseStep::NoRoom);
            }
            self.order_close(common, step, close)?;
            return Ok(CloseStep::Closed);
        }
        let Deletes {
            paths,
            passed,
            last,
        } = self.deletes(step.tree, close);
        if !paths.is_empty() {
            let request = WriteRequest::Multi(paths);
            let bytes = size::entry_bytes_max(&request, &[]);
            if self.closes.deletes_in_flight.len() >= DELETES_IN_FLIGHT_MAX
                || common.journal.room_for(Need::Reserve, bytes) != Room::Yes
            {
                return Ok(CloseStep::NoRoom);
            }
            let zxid = self.order_deletes(common, step, &request)?;
            self.closes.deletes_in_flight.push_back(zxid);
        }
        // Nothing passed: the list has ended, whatever was counted for what others have deleted.
        close.left = Some(match last {
            Some(_) => left.minus(passed).unwrap_or_default(),
            None => ListSize::default(),
        });
        close.deleted_to = last.or(close.deleted_to.take());
        Ok(CloseStep::Taken)
    }

    /// The next ephemerals to delete, from where the last deletes ended.
    fn deletes(&self, tree: &Tree, close: &SlowClose) -> Deletes {
        let mut next = Deletes::default();
        for path in tree.ephemerals_after(close.session, close.deleted_to.as_deref()) {
            let passed = next.passed.plus(ListSize::of(1, path.len()));
            // The first one always: its record fits, as its create's did.
            let fits = passed.paths <= self.config.close_deletes_max
                && passed.bytes <= DELETE_BYTES_PER_TXN;
            if !fits && next.last.is_some() {
                break;
            }
            (next.passed, next.last) = (passed, Some(path.clone()));
            if self.overlay.is_still_owned(path, close.session) {
                next.paths.push(WriteRequest::Delete {
                    path: path.clone(),
                    version: -1,
                });
            }
        }
        next
    }

    fn order_deletes<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        request: &WriteRequest,
    ) -> Result<Zxid, Fatal> {
        common.counters.deletes_ahead += 1;
        let server = AuthId {
            scheme: "super".into(),
            id: "".into(),
        };
        let credentials = [server];
        self.order(common, step, Asked::by_the_server(request, &credentials))
    }
}
