//! When the trees have grown so large that writes which may grow them are refused.

use crate::tree::Tree;
use crate::txn::{Data, WriteRequest};

/// Nodes that are looked up to say whether a multi may grow the tree.
pub(in crate::pipeline) const LOOKED_UP_MAX: usize = 1024;
/// What the first change of a node may take, bytes: its stat is no longer the one that it was created with.
const FIRST_CHANGE: usize = 128;

/// A tree is hollow if one in so many of its bytes, or more, is a free place of a node. Memory of places is given
/// back by the chunk, when no place of the chunk has a node: after deletes here and there a tree takes what it took,
/// and would refuse for ever nodes for which it has places.
const HOLLOW: u64 = 4;
/// Hollow trees may go beyond the bound by one in so many of its bytes.
const BEYOND: u64 = 16;

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
    pub(in crate::pipeline) fn is_full(&self, tree: &Tree) -> bool {
        let one = tree.bytes() as u64;
        let unshared = one.saturating_sub(tree.payload_bytes() as u64);
        let all = one.saturating_add(self.replicas.saturating_mul(unshared));
        let is_hollow = tree.spare_bytes() as u64 >= one / HOLLOW;
        let beyond = if is_hollow {
            self.bytes_max / BEYOND
        } else {
            0
        };
        all >= self.bytes_max.saturating_add(beyond)
    }
}

/// Whether a write may take memory that the trees do not have already. Deletes give some back, and data that
/// is replaced by data that is no longer takes none; of those in a multi, the first [`LOOKED_UP_MAX`] are
/// looked at. What is ordered and not applied counts where it makes data longer: it was counted when it was
/// ordered.
pub(super) fn may_grow(tree: &Tree, request: &WriteRequest) -> bool {
    grows(tree, request, &mut LOOKED_UP_MAX.clone())
}

fn grows(tree: &Tree, request: &WriteRequest, looks: &mut usize) -> bool {
    match request {
        WriteRequest::Create(_) | WriteRequest::SetAcl { .. } => true,
        WriteRequest::SetData { path, data, .. } => {
            if *looks == 0 {
                return true;
            }
            *looks -= 1;
            let path = path.as_deref();
            path.is_none_or(|path| grows_data(tree, path, data))
        }
        WriteRequest::Multi(ops) => ops.iter().any(|op| grows(tree, op, looks)),
        WriteRequest::Delete { .. }
        | WriteRequest::Check { .. }
        | WriteRequest::Reconfig
        | WriteRequest::CreateSession { .. }
        | WriteRequest::CloseSession => false,
    }
}

fn grows_data(tree: &Tree, path: &str, data: &Data) -> bool {
    let Some(stat) = tree.stat(path) else {
        // It may be there when everything before is applied.
        return true;
    };
    let first_change = match stat.version {
        0 => FIRST_CHANGE,
        _ => 0,
    };
    let before = usize::try_from(stat.data_length).unwrap_or(0);
    data.as_ref().map_or(0, |data| data.len()) + first_change > before
}
