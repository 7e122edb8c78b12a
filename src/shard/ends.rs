//! The connections of a shard that have ended, for whoever drives it.

use super::endings::{EndCounts, Why};
use super::stats::ClientAddress;
use crate::types::{ConnId, SessionId};
use std::collections::VecDeque;

/// Ends that are kept until the driver asks for them. Of more, the oldest are counted only.
const ENDS_KEPT: usize = 1024;

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The connection.
    pub conn: ConnId,
    /// The other end.
    pub peer: ClientAddress,
    /// Its session, once the connect response had been made.
    pub session: Option<SessionId>,
    /// The reason.
    pub why: Why,
}

/// The ends of the connections of a shard.
#[derive(Debug, Default)]
pub(super) struct Ends {
    counts: EndCounts,
    /// Not told yet, the latest last.
    untold: VecDeque<End>,
}

impl Ends {
    /// A connection ends, for the first time.
    pub(super) fn note(&mut self, end: End) {
        self.counts.count(end.why);
        if self.untold.len() == ENDS_KEPT {
            self.untold.pop_front();
        }
        self.untold.push_back(end);
    }

    /// The oldest one that was not told.
    pub(super) fn poll(&mut self) -> Option<End> {
        self.untold.pop_front()
    }

    pub(super) fn counts(&self) -> EndCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(slot: u32, why: Why) -> End {
        End {
            conn: ConnId {
                slot,
                generation: 0,
            },
            peer: ClientAddress {
                address: "127.0.0.1".into(),
                port: 1,
            },
            session: None,
            why,
        }
    }

    #[test]
    fn of_ends_that_nobody_asks_for_the_last_ones_are_kept_and_all_are_counted() {
        let mut ends = Ends::default();
        for slot in 0..=ENDS_KEPT as u32 {
            ends.note(end(slot, Why::Idle));
        }
        ends.note(end(7, Why::Asked));
        let told: Vec<End> = std::iter::from_fn(|| ends.poll()).collect();
        assert_eq!(told.len(), ENDS_KEPT);
        assert_eq!(told.first(), Some(&end(2, Why::Idle)));
        assert_eq!(told.last(), Some(&end(7, Why::Asked)));
        let counts = ends.counts();
        assert_eq!(counts.of(Why::Idle), ENDS_KEPT as u64 + 1);
        assert_eq!(counts.total(), ENDS_KEPT as u64 + 2);
    }
}
