//! What the pipeline keeps count of, and the same counted anew from what is under way: between two calls the
//! two are equal, or something was given back twice, or never.

use super::{Pipeline, size};
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
    /// Ephemerals that transactions in flight add to the lists of closeSessions.
    pub list_in_flight: usize,
    /// Paths that are pending in the overlay, and those of them that will be ephemerals.
    pub pending: (usize, usize),
}

impl<S: Storage> Pipeline<S> {
    /// What is under way, as it is kept step by step.
    pub fn counted(&self) -> UnderWay {
        UnderWay {
            outstanding: self.common.outcomes.outstanding(),
            deadlines: self.sessions.deadlines(),
            waiters: self.common.attachments.waiters(),
            list_in_flight: self.sessions.lists_in_flight().paths,
            pending: self.overlay.counted(),
        }
    }

    /// The same, from everything that is under way.
    pub fn recounted(&self) -> UnderWay {
        let journal = &self.common.journal;
        let asked = (journal.in_flight())
            .filter(|(slot, is_committed)| !is_committed && slot.origin.is_some());
        let closes = self.slow_closes.iter();
        let closes = closes.map(|close| usize::from(close.origin.is_some()) + close.behind.len());
        let listed = journal.in_flight().map(|(slot, _)| &slot.entry);
        let listed = listed.filter(|entry| self.sessions.is_known(entry.header.session));
        let waiters = self.common.attachments.waiters_recounted();
        UnderWay {
            outstanding: self.waiting()
                + asked.count()
                + self.common.outcomes.held()
                + closes.sum::<usize>()
                + waiters,
            deadlines: self.sessions.deadlines_recounted(),
            waiters,
            list_in_flight: listed.map(|entry| size::list_size(&entry.txn).paths).sum(),
            pending: self.overlay.recounted(),
        }
    }
}
