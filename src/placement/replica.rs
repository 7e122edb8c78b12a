//! One shard over a tree of its own.

use super::feed::Batch;
use super::progress::Progress;
use crate::budget::Budget;
use crate::messages::{ShardRequest, ToShards};
use crate::pipeline::Fatal;
use crate::shard::{Shard, ShardConfig};
use crate::tree::Tree;
use crate::types::{Now, ShardId};
use std::sync::Arc;

/// A shard, its own tree, and what it knows of the other cores.
#[derive(Debug)]
pub struct Replica {
    id: ShardId,
    tree: Tree,
    shard: Shard,
    progress: Arc<Progress>,
}

impl Replica {
    /// `tree` is where the ordering core began.
    pub fn new(config: ShardConfig, tree: Tree, progress: Arc<Progress>) -> Replica {
        Replica {
            id: config.id,
            tree,
            shard: Shard::new(config),
            progress,
        }
    }

    /// Applies an entry of a batch: a transaction, or a notice. Nothing of the last one is to be delivered any more;
    /// of this one there may be when `budget` is spent.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once.
    pub fn take(&mut self, down: &ToShards, budget: &mut Budget, now: Now) -> Result<(), Fatal> {
        budget.spend_steps(down.steps());
        match down {
            ToShards::Txn(txn) => {
                let zxid = txn.entry.header.zxid;
                assert_eq!(
                    zxid,
                    self.tree.last_zxid().next(),
                    "no transaction is missing"
                );
                let applied = self.tree.apply(&txn.entry);
                budget.spend_steps(self.tree.take_quota_steps());
                self.tree.verify(&txn.entry)?;
                self.shard.committed(&self.tree, txn.clone(), applied);
                self.deliver(budget, now);
            }
            ToShards::Notice(shard, notice) if *shard == self.id => {
                self.shard.notice(&self.tree, notice.clone(), now);
            }
            ToShards::Notice(..) => {}
        }
        Ok(())
    }

    /// Goes on with the events of the last transaction within `budget`.
    pub fn deliver(&mut self, budget: &mut Budget, now: Now) {
        self.shard.deliver(&self.tree, budget, now);
    }

    /// All entries of a batch were taken. Whether the core that orders waits for that.
    pub fn took(&self, batch: &Batch) -> bool {
        let seen = self.tree.last_zxid();
        self.progress
            .took(self.id, seen, batch.entries.len() as u64, batch.bytes)
    }

    /// Whether clients may be shown this replica's state: it may be shown at all, and its events are out.
    pub fn may_execute(&mut self) -> bool {
        self.may_show() && !self.shard.is_delivering()
    }

    /// Whether this replica may show its state: it is not older than what was shown. True is good
    /// for whatever came in before the call.
    pub fn may_show(&mut self) -> bool {
        let answered = self.progress.answered();
        self.shard.raise_committed(self.progress.committed());
        self.tree.last_zxid() >= answered
    }

    /// The next request for the ordering core.
    pub fn poll_request(&mut self, now: Now) -> Option<ShardRequest> {
        self.shard.poll_request(now)
    }

    /// No replica shows an older state from here on. Call before anything of this state leaves.
    pub fn publish_shown(&self) {
        self.progress.raise_answered(self.tree.last_zxid());
    }

    pub(super) fn parts(&mut self) -> (&mut Shard, &Tree) {
        (&mut self.shard, &self.tree)
    }

    /// Which shard it is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The replica's tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The shard's connections and counters.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }
}
