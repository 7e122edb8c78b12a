//! Containers and TTL nodes: which of them the server deletes, and how they are found.
//!
//! The tree keeps their numbers, in `apply` and where a snapshot is read, so that nobody walks over all nodes
//! for them. Whether one is due depends on the time, and is asked when it is looked at.

use super::Tree;
use super::index::NodeId;
use super::stored::{CONTAINER_OWNER, NodeStat, ttl_ms};
use crate::budget::Budget;
use crate::types::{WallMs, Zxid};

/// What makes a container or a TTL node due (docs/protocol.md §3.5, §3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The state that is looked at: who has had children, or has lost the last one, behind it waits for
    /// another look.
    pub zxid: Zxid,
    /// Wall clock.
    pub wall: WallMs,
    /// A container that has never had a child is due when it is older than this, ms; 0: never.
    pub never_used_ms: i64,
}

impl Due {
    pub(super) fn is(&self, stored: &NodeStat, children: i32) -> bool {
        if children > 0 || stored.pzxid > self.zxid {
            return false;
        }
        // After the clock was set back a node may be younger than nothing.
        let age_ms = self.wall.0.saturating_sub(stored.mtime);
        if stored.owner == CONTAINER_OWNER {
            let is_left_over = self.never_used_ms > 0 && age_ms > self.never_used_ms;
            return stored.cversion > 0 || is_left_over;
        }
        ttl_ms(stored.owner).is_some_and(|ttl_ms| age_ms > ttl_ms)
    }
}

/// Up to where containers and TTL nodes were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReapCursor {
    next: NodeId,
}

/// What a look at them has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The path of the next one that is due.
    Due(String),
    /// The budget is spent.
    Later,
    /// There are no more.
    End,
}

impl Tree {
    /// Containers and TTL nodes.
    pub fn reaped_count(&self) -> usize {
        self.nodes.reaped.len()
    }

    /// Looks at containers and TTL nodes from `cursor` on, in the order of their numbers, each for a step of
    /// `budget`, up to the next one that is due. One that is created meanwhile may be passed over.
    pub fn look_for_due(&self, cursor: &mut ReapCursor, due: &Due, budget: &mut Budget) -> Look {
        for &id in self.nodes.reaped.range(cursor.next..) {
            if budget.is_spent() {
                return Look::Later;
            }
            budget.spend_steps(1);
            cursor.next = id + 1;
            let node = self.nodes.at(id);
            if due.is(&node.stored(), node.child_count()) {
                return Look::Due(self.nodes.path(id));
            }
        }
        Look::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::stored::{TTL_MAX, TTL_OWNER};

    const DUE: Due = Due {
        zxid: Zxid(10),
        wall: WallMs(1000),
        never_used_ms: 0,
    };

    fn stat(owner: i64, mtime: i64, creates: i32) -> NodeStat {
        NodeStat {
            owner,
            mtime,
            cversion: creates,
            ..NodeStat::default()
        }
    }

    #[test]
    fn what_is_due_and_when() {
        let never_used = Due {
            never_used_ms: 300,
            ..DUE
        };
        let ttl = |ms: i64| TTL_OWNER | ms;
        for (nth, (due, owner, mtime, creates, children, expected)) in [
            // A container that has had a child and has none, however old it is.
            (DUE, CONTAINER_OWNER, 1000, 1, 0, true),
            (DUE, CONTAINER_OWNER, 0, 2, 1, false),
            // One that has never had a child: not at all, or when it is older than that.
            (DUE, CONTAINER_OWNER, 0, 0, 0, false),
            (never_used, CONTAINER_OWNER, 699, 0, 0, true),
            (never_used, CONTAINER_OWNER, 700, 0, 0, false),
            (never_used, CONTAINER_OWNER, 1000, 1, 0, true),
            // A TTL node that is older than its TTL and has no children.
            (DUE, ttl(100), 899, 0, 0, true),
            (DUE, ttl(100), 900, 0, 0, false),
            (DUE, ttl(100), 0, 1, 1, false),
            (DUE, ttl(100), 0, 1, 0, true),
            (DUE, ttl(TTL_MAX), 0, 0, 0, false),
            // The clock was set back, as far as there is time.
            (DUE, ttl(1), 5000, 0, 0, false),
            (DUE, ttl(1), i64::MAX, 0, 0, false),
            (DUE, ttl(TTL_MAX), i64::MIN, 0, 0, true),
            // Plain nodes, ephemerals, and what no server makes.
            (never_used, 0, 0, 1, 0, false),
            (never_used, 77, 0, 1, 0, false),
            (never_used, ttl(0), 0, 1, 0, false),
            (never_used, ttl((1 << 40) | 1), 0, 1, 0, false),
        ]
        .into_iter()
        .enumerate()
        {
            let stored = stat(owner, mtime, creates);
            assert_eq!(due.is(&stored, children), expected, "row {nth}");
        }
    }

    #[test]
    fn what_lost_its_last_child_behind_the_state_that_is_looked_at_waits() {
        let mut stored = stat(CONTAINER_OWNER, 0, 3);
        for (pzxid, expected) in [(9, true), (10, true), (11, false)] {
            stored.pzxid = Zxid(pzxid);
            assert_eq!(DUE.is(&stored, 0), expected);
        }
    }
}
