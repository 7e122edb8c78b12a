//! What a walk over the nodes keeps, and what it gives.

use super::stored::NodeStat;
use crate::txn::{Acl, Data};
use crate::types::DetHashSet;
use std::sync::Arc;

/// A node as it was when the walk began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedNode {
    /// Where it is.
    pub path: Arc<str>,
    /// `None` is null. Shared with the tree.
    pub data: Data,
    /// Shared with the tree.
    pub acl: Arc<[Acl]>,
    pub(super) stored: NodeStat,
}

/// How far a walk has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    /// The place that comes next.
    pub(super) next: u32,
    /// Behind the last place that there was when the walk began.
    pub(super) end: u32,
    /// Places from `next` on whose node was taken before its turn or has been created since.
    pub(super) settled: DetHashSet<u32>,
    /// What was taken since the last slice.
    pub(super) taken: Vec<WalkedNode>,
    /// Bytes of that.
    pub(super) taken_bytes: usize,
    /// Most of them.
    pub(super) taken_bytes_max: usize,
    /// They have come to more: nothing is kept any more, and nothing is given.
    pub(super) is_given_up: bool,
}

impl Walk {
    /// Whether a place still has its turn, and the node there must be looked at now. From then on it has not.
    pub(super) fn settle(&mut self, id: u32) -> bool {
        (self.next..self.end).contains(&id) && self.settled.insert(id)
    }

    /// Keeps a node that is about to be changed.
    pub(super) fn take(&mut self, node: WalkedNode) {
        self.taken_bytes += node.memory();
        self.taken.push(node);
        if self.taken_bytes > self.taken_bytes_max {
            *self = Walk {
                is_given_up: true,
                ..Walk::default()
            };
        }
    }
}
