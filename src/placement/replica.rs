//! One shard over a tree of its own.

use super::feed::Batch;
use super::progress::Progress;
use crate::messages::{ShardRequest, ToShards};
use crate::pipeline::Fatal;
use crate::shard::{ClientAddress, Output, Shard, ShardConfig};
use crate::tree::Tree;
use crate::types::{ConnId, Now, ShardId, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// What came from the network and waits until this replica has reached what was answered.
#[derive(Debug)]
enum Input {
    Bytes(ConnId, Vec<u8>),
    Closed(ConnId),
}

/// See the module.
#[derive(Debug)]
pub struct Replica {
    id: ShardId,
    tree: Tree,
    shard: Shard,
    progress: Arc<Progress>,
    /// At most one read of each connection, and its end.
    inbox: VecDeque<Input>,
}

impl Replica {
    /// `tree` is where the commit core began.
    pub fn new(config: ShardConfig, tree: Tree, progress: Arc<Progress>) -> Replica {
        Replica {
            id: config.id,
            tree,
            shard: Shard::new(config),
            progress,
            inbox: VecDeque::new(),
        }
    }

    /// Applies a batch, transaction by transaction.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once.
    pub fn take(&mut self, batch: &Batch, now: Now) -> Result<(), Fatal> {
        for down in &batch.entries {
            match down {
                ToShards::Txn(txn) => {
                    let zxid = txn.entry.header.zxid;
                    assert_eq!(
                        zxid,
                        self.tree.last_zxid().next(),
                        "no transaction is missing"
                    );
                    let applied = self.tree.apply(&txn.entry);
                    self.tree.verify(&txn.entry)?;
                    self.shard.committed(&self.tree, txn, &applied, now);
                }
                ToShards::Notice(shard, notice) if *shard == self.id => {
                    self.shard.notice(&self.tree, notice.clone(), now);
                }
                ToShards::Notice(..) => {}
            }
        }
        let seen = self.tree.last_zxid();
        self.progress
            .took(self.id, seen, batch.entries.len() as u64, batch.bytes);
        Ok(())
    }

    /// A connection whose first bytes are not a four-letter word.
    pub fn accept(&mut self, peer: ClientAddress, now: Now) -> ConnId {
        self.shard.accept(peer, now)
    }

    /// Bytes from a client. They are executed when this replica has reached everything that any
    /// replica had answered when they came.
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8], now: Now) {
        if self.inbox.is_empty() && self.may_execute() {
            self.shard.receive(&self.tree, conn, bytes, now);
        } else {
            self.inbox.push_back(Input::Bytes(conn, bytes.to_vec()));
        }
    }

    /// The socket is closed.
    pub fn closed(&mut self, conn: ConnId, now: Now) {
        if self.inbox.is_empty() {
            self.shard.closed(conn, now);
        } else {
            self.inbox.push_back(Input::Closed(conn));
        }
    }

    /// Executes what waited. Call after batches were taken.
    pub fn turn(&mut self, now: Now) {
        if self.inbox.is_empty() || !self.may_execute() {
            return;
        }
        for input in std::mem::take(&mut self.inbox) {
            match input {
                Input::Bytes(conn, bytes) => self.shard.receive(&self.tree, conn, &bytes, now),
                Input::Closed(conn) => self.shard.closed(conn, now),
            }
        }
    }

    /// Timers. Bytes that wait are not heard of yet, so nothing is reported while there are any.
    pub fn tick(&mut self, now: Now) {
        if self.inbox.is_empty() {
            self.shard.tick(&self.tree, now);
        }
    }

    /// Whether this replica may show its state: it is not older than what was shown. True is good
    /// for whatever came in before the call.
    pub fn may_execute(&mut self) -> bool {
        let answered = self.progress.answered();
        self.shard.raise_committed(self.progress.committed());
        self.tree.last_zxid() >= answered
    }

    /// The next request for the commit core.
    pub fn poll_request(&mut self, now: Now) -> Option<ShardRequest> {
        self.shard.poll_request(now)
    }

    /// As [`Shard::poll_dirty`].
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        self.shard.poll_dirty()
    }

    /// As [`Shard::take_output`]; no other replica shows an older state from here on.
    pub fn take_output(&mut self, conn: ConnId, now: Now) -> Output {
        let output = self.shard.take_output(&self.tree, conn, now);
        if !output.bytes.is_empty() {
            self.progress.raise_answered(self.tree.last_zxid());
        }
        output
    }

    /// Before anything else than output shows this replica's state.
    pub fn publish_shown(&self) -> Zxid {
        self.progress.raise_answered(self.tree.last_zxid());
        self.tree.last_zxid()
    }

    /// Whether the driver should read.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        self.inbox.is_empty() && self.shard.wants_input(conn)
    }

    /// Whether anything waits for a batch.
    pub fn is_behind(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Which shard it is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// To look at.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// To look at, and to reset counters.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }
}
