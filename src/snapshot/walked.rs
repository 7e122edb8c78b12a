//! A snapshot out of memory, for a server that holds the right state and whose files can't give one any
//! more: the log behind the last snapshot, or all snapshots, have rotted.
//!
//! Who serves walks over its tree in slices (`tree::walk`), and hands batches of nodes to jobs, one after
//! the other: each batch becomes a sorted run, and the last job merges the runs. So memory is taken for two
//! batches, one that is gathered and one that is written, and nobody waits for anybody but the walk for
//! the disk.

use super::error::SnapError;
use super::merge::{Order, require_room, write_walked};
use super::runs::{RunParts, Runs};
use crate::log::snapshot_file::Written;
use crate::log::storage::Storage;
use crate::tree::{Patch, WalkStart, WalkedNode, session_key};

/// What has been written of a walk; goes from job to job.
#[derive(Debug)]
pub struct Walked {
    start: WalkStart,
    parts: RunParts,
}

impl Walked {
    /// Nothing yet.
    pub fn new(start: WalkStart) -> Walked {
        let parts = RunParts::default();
        Walked { start, parts }
    }

    /// Writes a batch, if there is room for the snapshot beside it. Blocks.
    ///
    /// # Errors
    /// [`SnapError`]; nothing is left.
    pub fn add<S: Storage>(
        self,
        data: &S,
        mut nodes: Vec<WalkedNode>,
        order: Order,
    ) -> Result<Walked, SnapError> {
        let mut runs = Runs::resume(data, self.parts)?;
        require_room(data, order)?;
        nodes.sort_unstable_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        runs.add(nodes.into_iter().map(WalkedNode::into_patch))?;
        let parts = runs.into_parts();
        Ok(Walked { parts, ..self })
    }

    /// Leaves nothing, and says why.
    pub fn give_up<S: Storage>(self, data: &S) -> SnapError {
        match Runs::resume(data, self.parts) {
            Ok(_removed) => SnapError::Overtaken,
            Err(error) => error.into(),
        }
    }

    /// Makes the snapshot of all batches. Blocks for long.
    ///
    /// # Errors
    /// [`SnapError`]; nothing is left.
    pub fn finish<S: Storage>(self, data: &S, order: Order) -> Result<Written, SnapError> {
        let runs = Runs::resume(data, self.parts)?;
        let sessions = self.start.sessions.iter().map(|&(id, timeout_ms)| {
            let patch = Patch::Session(Some(timeout_ms));
            (session_key(id).into(), patch)
        });
        let merged = runs.merged(sessions.collect())?;
        write_walked(data, order, self.start, merged)
    }
}
