//! What is kept count of, and the same counted anew from what is under way: between two calls the
//! two are equal, or something was given back twice, or never.

use super::{Common, Ordering, size};
use crate::log::storage::Storage;

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Requests without an outcome.
    pub outstanding: usize,
    /// Deadlines of sessions that are not closing.
    pub deadlines: usize,
    /// Connections that wait for a session which another one holds.
    pub waiters: usize,
    /// Requests of sessions that have no place in the order yet.
    pub unordered: usize,
    /// Ephemerals that transactions in flight add to the lists of closeSessions.
    pub list_in_flight: usize,
    /// Paths that are pending in the overlay, and those of them that will be ephemerals.
    pub pending: (usize, usize),
}

impl Ordering {
    /// What is under way, as it is kept step by step.
    pub(in crate::pipeline) fn counted<S: Storage>(&self, common: &Common<S>) -> UnderWay {
        UnderWay {
            outstanding: common.outcomes.outstanding(),
            deadlines: self.sessions.deadlines(),
            waiters: common.attachments.waiters(),
            unordered: self.intake.sent(),
            list_in_flight: self.sessions.lists_in_flight().paths,
            pending: self.overlay.counted(),
        }
    }

    /// The same, from everything that is under way.
    pub(in crate::pipeline) fn recounted<S: Storage>(&self, common: &Common<S>) -> UnderWay {
        let asked = (common.journal.in_flight())
            .filter(|(slot, is_told)| !is_told && slot.origin.is_some());
        let listed = common.journal.in_flight().map(|(slot, _)| &slot.entry);
        let listed = listed.filter(|entry| self.sessions.is_known(entry.header.session));
        let waiters = common.attachments.waiters_recounted();
        UnderWay {
            outstanding: self.owed()
                + self.closes.owed()
                + asked.count()
                + common.outcomes.held()
                + common.syncs.len()
                + waiters,
            deadlines: self.sessions.deadlines_recounted(),
            waiters,
            unordered: self.intake.sent_recounted(),
            list_in_flight: listed.map(|entry| size::list_size(&entry.txn).paths).sum(),
            pending: self.overlay.recounted(),
        }
    }
}
