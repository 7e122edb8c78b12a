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
use crate::log::snapshot_file::Written;
use crate::log::storage::Storage;
use crate::log::{Identities, LogConfig, SpareResult, SyncOutcome};
use crate::pipeline::{Fatal, Pipeline, PipelineConfig};
use crate::shard::{Shard, ShardConfig};
use crate::snap::{self, Recovered, Schedule, SnapError};
use crate::tree::{Applied, Tree};
use crate::txn::Entry;
use crate::types::{Now, Zxid};
use std::io;

/// What the operator may choose.
#[derive(Clone, Debug)]
pub struct InlineConfig {
    /// Of the pipeline.
    pub pipeline: PipelineConfig,
    /// Of the shard.
    pub shard: ShardConfig,
    /// Of the log.
    pub log: LogConfig,
    /// `snapCount`: transactions between snapshots, at least.
    pub snapshot_records: u64,
}

/// What start-up found, for its summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last transaction.
    pub zxid: Zxid,
    /// The snapshot that was read.
    pub snapshot: Option<Zxid>,
    /// Newer snapshots that could not be read, and why.
    pub unreadable: Vec<String>,
    /// Transactions replayed from the log.
    pub replayed: u64,
    /// A batch that had not been acknowledged was torn off the log's end.
    pub torn: bool,
    /// Live sessions.
    pub sessions: usize,
}

/// Why the state could not be recovered.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing was changed; the operator decides.
    #[error(transparent)]
    Unreadable(#[from] SnapError),
    /// The log can't be opened for writing.
    #[error("the log can't be begun: {0}")]
    Io(#[from] io::Error),
}

/// One tree, and the two state machines around it.
pub struct Inline<S: Storage> {
    /// What both read and only the turn changes.
    pub tree: Tree,
    /// Order, log, owners.
    pub pipeline: Pipeline<S>,
    /// Connections, watches.
    pub shard: Shard,
    snapshots: Schedule,
    snapshot_records: u64,
}

impl<S: Storage> Inline<S> {
    /// Recovers the state and begins to write. `observe` sees each transaction that is replayed.
    /// Blocks.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: InlineConfig,
        data: &S,
        log: &S,
        identities: Identities,
        now: Now,
        observe: &mut dyn FnMut(&Entry),
    ) -> Result<(Inline<S>, Summary), StartError> {
        let recovered = snap::recover(data, log, observe)?;
        let Recovered {
            snapshot, replayed, ..
        } = recovered;
        let summary = Summary {
            zxid: recovered.tree.last_zxid(),
            snapshot: snapshot.map(|(zxid, _)| zxid),
            unreadable: recovered.unreadable.clone(),
            replayed,
            torn: recovered.scan.is_torn(),
            sessions: recovered.tree.sessions().len(),
        };
        let (tree, log) = recovered.open(config.log, identities)?;
        let last_bytes = snapshot.map_or(0, |(_, bytes)| bytes);
        let inline = Inline {
            pipeline: Pipeline::new(config.pipeline, log, &tree, now),
            shard: Shard::new(config.shard),
            snapshots: Schedule::new(config.snapshot_records, last_bytes, replayed),
            snapshot_records: config.snapshot_records,
            tree,
        };
        Ok((inline, summary))
    }

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

    /// A sync that `pipeline.poll_sync` asked for has ended.
    ///
    /// # Errors
    /// As [`Inline::turn`].
    pub fn synced(&mut self, outcome: SyncOutcome, now: Now) -> Result<(), Fatal> {
        self.pipeline.synced(outcome, now)
    }

    /// A spare that `pipeline.poll_spare` asked for is there, or could not be made.
    ///
    /// # Errors
    /// As [`Inline::turn`].
    pub fn spare_made(&mut self, result: SpareResult<S>, now: Now) -> Result<(), Fatal> {
        self.pipeline.spare_made(&self.tree, result, now)
    }

    /// The zxid of a snapshot that should be made now: everything up to it is applied and durable.
    pub fn poll_snapshot(&mut self) -> Option<Zxid> {
        let counters = self.pipeline.log().counters();
        let zxid = self.pipeline.cursors().applied;
        self.snapshots
            .is_due(counters.records, counters.bytes)
            .then_some(zxid)
    }

    /// The snapshot was made, and older ones were purged so that the log is not needed up to
    /// `unneeded`; or it could not be made, and is tried again later. The names of segments to
    /// remove, oldest first, on the thread that makes the spares.
    pub fn snapshot_made(&mut self, made: Option<&Written>, unneeded: Option<Zxid>) -> Vec<String> {
        self.snapshots
            .made(self.snapshot_records, made.map(|written| written.bytes));
        unneeded.map_or(Vec::new(), |zxid| self.pipeline.log_mut().retire(zxid))
    }

    /// The end of a clean stop: nothing is under way any more; seals the log. Blocks.
    ///
    /// # Errors
    /// Nothing is known about the log's last bytes.
    pub fn close(self) -> io::Result<()> {
        self.pipeline.into_log().close()
    }
}
