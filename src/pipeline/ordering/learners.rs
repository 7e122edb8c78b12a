//! The members that follow a leader and have passed something on: how far is known of whom each has heard, and how much
//! of what it has passed on waits.

use crate::types::Tick;
use crate::zab::{LinkId, TOUCHES_PER_PING};
use std::collections::BTreeMap;

/// Requests of one learner that have no place in the order, bytes. Who passes on more loses its connection: it could
/// not be left unread, because what it acknowledges is behind them.
pub(in crate::pipeline) const UNORDERED_BYTES_MAX: usize = 64 << 20;
/// What each counts beside its bytes.
const REQUEST_BYTES: usize = 512;

#[derive(Debug, Default)]
struct Row {
    /// Everybody is named that was heard of there until then.
    known: Tick,
    /// Without a place in the order.
    unordered_bytes: usize,
}

/// Those that have passed something on.
#[derive(Debug, Default)]
pub(super) struct Learners(BTreeMap<LinkId, Row>);

impl Learners {
    /// Until when everybody that was heard of at each is named.
    pub(super) fn known(&self) -> impl Iterator<Item = (LinkId, Tick)> + '_ {
        self.0.iter().map(|(link, row)| (*link, row.known))
    }

    /// Whether this one has passed something on, and is there still.
    pub(super) fn is_there(&self, link: LinkId) -> bool {
        self.0.contains_key(&link)
    }

    /// Bytes of requests that have no place in the order.
    pub(super) fn unordered_bytes(&self) -> usize {
        self.0.values().map(|row| row.unordered_bytes).sum()
    }

    /// A request has come that has no place in the order. False: it is one too many.
    pub(super) fn has_come(&mut self, link: LinkId, bytes: usize) -> bool {
        let row = self.0.entry(link).or_default();
        row.unordered_bytes += bytes + REQUEST_BYTES;
        row.unordered_bytes <= UNORDERED_BYTES_MAX
    }

    /// A request has its place, or needs none any more.
    pub(super) fn is_through(&mut self, link: LinkId, bytes: usize) {
        if let Some(row) = self.0.get_mut(&link) {
            row.unordered_bytes -= bytes + REQUEST_BYTES;
        }
    }

    /// This one has named so many, in answer to a ping; until `known` they are all, if the answer is not full.
    pub(super) fn has_named(&mut self, link: LinkId, named: usize, known: Tick) {
        let row = self.0.entry(link).or_default();
        if named < TOUCHES_PER_PING {
            row.known = row.known.max(known);
        }
    }

    /// It is gone. Whether it was there.
    pub(super) fn remove(&mut self, link: LinkId) -> bool {
        self.0.remove(&link).is_some()
    }
}
