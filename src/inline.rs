//! The inline placement: one pipeline and one shard over one tree, as one pure object.
//!
//! The server drives it from an executor, the simulator from its event queue; neither decides
//! anything. What goes in: bytes, ticks, completions. What comes out, by the `poll_` methods: syncs
//! to make, files to prepare, snapshots to write, bytes to hand over.
//!
//! The order inside a turn is what keeps the promises of design.md §2:
//!
//! 1. committed transactions are applied one by one: tree, pipeline (digest, overlay), then shard
//!    (events, the origin's reply, the reads that it frees);
//! 2. what the shard asks for goes to the pipeline, which appends it to the log;
//! 3. only then a sync begins, for everything appended so far.
//!
//! Completions and ticks are fed before client bytes by the drivers.

use crate::lane::{Committed, Down};
use crate::log::storage::Storage;
use crate::pipeline::{Fatal, Pipeline};
use crate::shard::Shard;
use crate::snap;
use crate::tree::{Applied, Tree};
use crate::types::{Now, Zxid};

/// One tree, and the two state machines around it.
pub struct Inline<S: Storage> {
    /// What both read and only the turn changes.
    pub tree: Tree,
    /// Order, log, owners.
    pub pipeline: Pipeline<S>,
    /// Connections, watches.
    pub shard: Shard,
    /// When the next snapshot is due.
    pub snapshots: snap::Schedule,
}

impl<S: Storage> Inline<S> {
    /// Moves everything that can move without waiting for a completion. `observe` sees each
    /// transaction right after the tree has applied it.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn turn(
        &mut self,
        now: Now,
        observe: &mut impl FnMut(&Committed, &Applied),
    ) -> Result<(), Fatal> {
        loop {
            let mut moved = false;
            while let Some(down) = self.pipeline.poll_down() {
                moved = true;
                match down {
                    Down::Txn(txn) => self.apply(&txn, now, observe)?,
                    Down::Notice(_, notice) => self.shard.notice(&self.tree, notice, now),
                }
            }
            while let Some(up) = self.shard.poll_up(now) {
                moved = true;
                self.pipeline.request(&self.tree, up, now)?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn apply(
        &mut self,
        txn: &Committed,
        now: Now,
        observe: &mut impl FnMut(&Committed, &Applied),
    ) -> Result<(), Fatal> {
        let applied = self.tree.apply(&txn.entry);
        self.pipeline.applied(&self.tree, txn, now)?;
        observe(txn, &applied);
        self.shard.committed(&self.tree, txn, &applied, now);
        Ok(())
    }

    /// Timers of both machines; sessions expire here.
    ///
    /// # Errors
    /// As [`Inline::turn`].
    pub fn tick(&mut self, now: Now) -> Result<(), Fatal> {
        self.shard.tick(&self.tree, now);
        self.pipeline.tick(&self.tree, now)
    }

    /// The zxid of a snapshot that should be made now: everything up to it is applied and durable.
    pub fn poll_snapshot(&mut self) -> Option<Zxid> {
        let cursors = self.pipeline.cursors();
        self.snapshots.poll(cursors.applied, self.pipeline.log())
    }
}
