//! What the pipeline keeps count of, and the same counted anew from what is under way: between two calls the
//! two are equal, or something was given back twice, or never.

use super::owners::OwnersCount;
use super::{Pipeline, size};
use crate::log::storage::Storage;

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Requests without an outcome.
    pub outstanding: usize,
    /// What sessions hold beside their entries in the owner table.
    pub owners: OwnersCount,
    /// Paths that are pending in the overlay, and those of them that will be ephemerals.
    pub pending: (usize, usize),
}

impl<S: Storage> Pipeline<S> {
    /// What is under way, as it is kept step by step.
    pub fn counted(&self) -> UnderWay {
        UnderWay {
            outstanding: self.outcomes.outstanding(),
            owners: self.owners.counted(),
            pending: self.overlay.counted(),
        }
    }

    /// The same, from everything that is under way.
    pub fn recounted(&self) -> UnderWay {
        let in_flight = self.journal.in_flight();
        let asked = in_flight.filter(|(slot, is_committed)| !is_committed && slot.origin.is_some());
        let closes = self.slow_closes.iter();
        let closes = closes.map(|close| usize::from(close.origin.is_some()) + close.behind.len());
        let listed = self.journal.in_flight().map(|(slot, _)| {
            let entry = &slot.entry;
            (entry.header.session, size::list_size(&entry.txn))
        });
        let owners = self.owners.recounted(listed);
        UnderWay {
            outstanding: self.waiting()
                + asked.count()
                + self.outcomes.held()
                + closes.sum::<usize>()
                + owners.waiters,
            owners,
            pending: self.overlay.recounted(),
        }
    }
}
