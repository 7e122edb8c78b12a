//! Who may hand up a write: the writes of a shard without an outcome are bounded, and those who
//! wait for one of the bound's credits get it in order.

use super::connection::Connection;
use crate::types::{ConnId, DetHashMap};
use std::collections::VecDeque;

/// Writes without an outcome, and those who wait to have one.
#[derive(Debug)]
pub(super) struct Credits {
    max: usize,
    /// Writes without an outcome, also those of connections that are gone.
    in_flight: usize,
    /// Given to connections that waited, and not used yet.
    given: usize,
    /// Connections whose next frame waits for a credit, each once, the longest waiting first.
    stalled: VecDeque<ConnId>,
    /// Writes without an outcome of connections that are gone, and their bytes.
    orphans: DetHashMap<ConnId, (usize, usize)>,
}

impl Credits {
    pub(super) fn new(max: usize) -> Credits {
        Credits {
            max,
            in_flight: 0,
            given: 0,
            stalled: VecDeque::new(),
            orphans: DetHashMap::default(),
        }
    }

    /// Writes without an outcome.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Given to connections that waited, and not used yet.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    /// Connections whose next frame waits for a credit, and some that are gone.
    pub(super) fn stalled(&self) -> &VecDeque<ConnId> {
        &self.stalled
    }

    /// Of each connection that is gone: writes without an outcome, and their bytes.
    pub(super) fn orphans(&self) -> impl Iterator<Item = (usize, usize)> {
        self.orphans.values().copied()
    }

    fn is_free(&self) -> bool {
        self.in_flight + self.given < self.max
    }

    /// Whether a connection may hand up a write. If not, it waits, and [`Credits::give`] names it.
    ///
    /// Everybody may have one request under way, so that no connection starves; a credit that
    /// becomes free is for who waits, before who has just used one.
    pub(super) fn may_hand_up(&mut self, c: &mut Connection) -> bool {
        if c.has_credit || c.fifo.is_empty() || (self.is_free() && self.stalled.is_empty()) {
            return true;
        }
        if !c.stalled {
            c.stalled = true;
            self.stalled.push_back(c.id);
        }
        false
    }

    /// A connection hands up a write.
    pub(super) fn take(&mut self, c: &mut Connection) {
        self.give_back(c);
        self.in_flight += 1;
    }

    /// A connection does not use the credit that it waited for.
    pub(super) fn give_back(&mut self, c: &mut Connection) {
        if std::mem::take(&mut c.has_credit) {
            self.given -= 1;
        }
    }

    /// The connection for which a credit is free now, if any waits.
    pub(super) fn next(&mut self) -> Option<ConnId> {
        if self.is_free() {
            self.stalled.pop_front()
        } else {
            None
        }
    }

    /// The connection that [`Credits::next`] named gets the credit.
    pub(super) fn give(&mut self, c: &mut Connection) {
        c.stalled = false;
        if !c.ended() && !c.has_credit {
            c.has_credit = true;
            self.given += 1;
        }
    }

    /// A connection ends; its writes under way, of `bytes` in memory, still owe their outcome.
    pub(super) fn orphan(&mut self, conn: ConnId, writes: usize, bytes: usize) {
        if writes > 0 {
            self.orphans.insert(conn, (writes, bytes));
        }
    }

    /// A write of a connection that serves has its outcome.
    pub(super) fn outcome(&mut self, c: &mut Connection) {
        if c.unanswered_writes > 0 {
            c.unanswered_writes -= 1;
            self.in_flight -= 1;
        }
        if c.unanswered_writes == 0 {
            c.largest_write = 0;
        }
    }

    /// No outcome comes any more, and no connection is left. Gives the bytes that their writes held.
    pub(super) fn forget_outcomes(&mut self) -> usize {
        let (writes, bytes) =
            (self.orphans.drain()).fold((0, 0), |sum, (_, of)| (sum.0 + of.0, sum.1 + of.1));
        assert_eq!(self.in_flight, writes, "all connections are gone");
        self.in_flight = 0;
        bytes
    }

    /// A write of a connection that is gone has its outcome. With the last one, gives the bytes
    /// that they held.
    pub(super) fn orphan_outcome(&mut self, conn: ConnId) -> Option<usize> {
        let (writes, bytes) = self.orphans.get_mut(&conn)?;
        *writes -= 1;
        self.in_flight -= 1;
        let bytes = (*writes == 0).then_some(*bytes)?;
        self.orphans.remove(&conn);
        Some(bytes)
    }
}
