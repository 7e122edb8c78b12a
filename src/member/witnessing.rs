//! When the witness of the store is renewed.

use crate::log::storage::Storage;
use crate::log::witness::RENEWAL_MS;
use crate::log::{Log, StoreId, Witness};
use crate::types::Tick;

/// Renews the witness while the log grows; one write is under way at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witnessing {
    last: Witness,
    /// When `last` was written, or the write after it was tried; `None`: the next tick says when.
    since: Option<Tick>,
    is_due: bool,
}

impl Witnessing {
    /// `last` is on disk.
    pub(super) fn new(last: Witness) -> Witnessing {
        Witnessing {
            last,
            since: None,
            is_due: false,
        }
    }

    pub(super) fn store(&self) -> StoreId {
        self.last.store
    }

    /// The last one written.
    pub(super) fn last(&self) -> &Witness {
        &self.last
    }

    /// Timers.
    pub(super) fn tick(&mut self, now: Tick) {
        let since = *self.since.get_or_insert(now);
        if now >= since.after(RENEWAL_MS) {
            self.renew_soon();
        }
    }

    /// What is durable by then is written down at the next occasion.
    pub(super) fn renew_soon(&mut self) {
        self.is_due = true;
    }

    /// What to write, if it is due and the log has grown.
    pub(super) fn poll<S: Storage>(&mut self, log: &Log<S>) -> Option<Witness> {
        let durable = log.durable_end();
        let has_rolled = log.newest() != self.last.newest && log.newest() <= durable.position;
        let has_grown = durable.zxid > self.last.durable.zxid;
        if !(has_rolled || self.is_due && has_grown) {
            return None;
        }
        let newest = log.newest().min(durable.position);
        Some(self.last.renewed(durable, newest))
    }

    /// It was written, or found no room.
    pub(super) fn written(&mut self, witness: Witness, is_durable: bool) {
        if is_durable {
            self.last = witness;
        } else {
            // One of the files may have it: no other one gets its number.
            (self.last.newest, self.last.sequence) = (witness.newest, witness.sequence);
        }
        (self.is_due, self.since) = (false, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogEnd;
    use crate::types::Position;

    #[test]
    fn no_other_witness_gets_the_number_of_one_that_found_no_room() {
        let mut witnessing = Witnessing::new(Witness::first(StoreId(7), Position(0)));
        let failed = witnessing.last().renewed(LogEnd::default(), Position(9));
        witnessing.written(failed, false);
        let next = witnessing.last().renewed(LogEnd::default(), Position(9));
        assert!(next.sequence > failed.sequence);
    }
}
