//! A snapshot out of memory: the walk over the tree that the member serves from, in slices between
//! requests, and the jobs that write what it gives.

use super::jobs::{Job, Save};
use crate::budget::Budget;
use crate::snapshot::{Order, Walked};
use crate::tree::{Tree, WalkedNode};
use crate::types::Zxid;
use std::collections::BTreeSet;

/// Places of the tree that are looked at in a slice.
const SLICE: u32 = 256;
/// Clients may change nodes of so many bytes between two slices, if no more memory is given: with less, a
/// walk over a tree that is written to would seldom end.
pub(super) const CHANGED_BYTES_MIN: usize = 1 << 20;

/// A walk that is under way.
#[derive(Debug)]
pub(super) struct Saving {
    zxid: Zxid,
    /// What has been written; `None`: a job has it.
    walked: Option<Walked>,
    batch: Vec<WalkedNode>,
    /// Bytes of the batch.
    bytes: usize,
    /// From so many on the batch is full: another one is being written meanwhile.
    bytes_max: usize,
    is_through: bool,
}

impl Saving {
    /// Begins a walk; two batches take so many bytes of memory, and two slices, and as many bytes again
    /// are kept of what is changed between two slices.
    pub(super) fn begin(tree: &mut Tree, memory: usize) -> Saving {
        let start = tree.begin_walk(memory.max(CHANGED_BYTES_MIN));
        Saving {
            zxid: start.last_zxid,
            walked: Some(Walked::new(start)),
            batch: Vec::new(),
            bytes: 0,
            bytes_max: memory / 2,
            is_through: false,
        }
    }

    /// Whether [`Saving::advance`] would do anything.
    pub(super) fn has_work(&self) -> bool {
        !self.is_through && self.bytes <= self.bytes_max
    }

    /// Takes one slice.
    pub(super) fn advance(&mut self, tree: &mut Tree, budget: &mut Budget) {
        if !self.has_work() || budget.is_spent() {
            return;
        }
        let Some(nodes) = tree.walk_slice(SLICE) else {
            self.is_through = true;
            return;
        };
        budget.spend_steps(SLICE as usize + nodes.len());
        self.bytes += nodes.iter().map(WalkedNode::memory).sum::<usize>();
        self.batch.extend(nodes);
    }

    /// The next job, if there is a batch and no other is being written. Where the tree has given up the
    /// walk, the job removes what was written.
    pub(super) fn poll(
        &mut self,
        tree: &Tree,
        order: Order,
        purge: Option<usize>,
        verified: &BTreeSet<Zxid>,
    ) -> Option<Job> {
        let is_given_up = tree.is_walk_given_up();
        if self.has_work() && !is_given_up {
            return None;
        }
        let walked = self.walked.take()?;
        let nodes = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let order = Order {
            zxid: self.zxid,
            ..order
        };
        Some(Job::Save(Box::new(Save {
            walked,
            nodes,
            order,
            is_last: self.is_through,
            is_given_up,
            purge,
            verified: verified.clone(),
        })))
    }

    /// A batch was written, and was not the last one.
    pub(super) fn written(&mut self, walked: Walked) {
        self.walked = Some(walked);
    }
}
