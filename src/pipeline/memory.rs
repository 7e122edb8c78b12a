//! When the trees have grown so large that writes which may grow them are refused.

use crate::tree::Tree;

/// What the trees of a process may take of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeMemory {
    /// All trees together, bytes.
    pub bytes_max: u64,
    /// Trees beside the one of the core that orders. They share its payloads.
    pub replicas: u64,
}

impl TreeMemory {
    /// As much as there is.
    pub const UNLIMITED: TreeMemory = TreeMemory {
        bytes_max: u64::MAX,
        replicas: 0,
    };

    /// Whether the trees take as much as they may, of which `tree` is one. What is ordered and not applied
    /// is not counted: it comes from requests, which have a bound of their own.
    pub(super) fn is_full(&self, tree: &Tree) -> bool {
        let one = tree.bytes() as u64;
        let unshared = one.saturating_sub(tree.payload_bytes() as u64);
        one.saturating_add(self.replicas.saturating_mul(unshared)) >= self.bytes_max
    }
}
