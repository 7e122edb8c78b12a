//! The commit core and its links to the replicas.

use super::board::Board;
use super::link::{Batch, Link, LinkCounters, RingLimits};
use crate::commit::Commit;
use crate::lane::{Down, Up};
use crate::log::snapshot_file::Written;
use crate::log::storage::Storage;
use crate::pipeline::Fatal;
use crate::txn::Entry;
use crate::types::{Now, ShardId, Zxid};
use std::sync::Arc;

/// A part of the log to read, on a thread that may block, with `snap::read_log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// For whom.
    pub shard: ShardId,
    /// What the replica has.
    pub after: Zxid,
    /// The last transaction to read; everything up to it is durable.
    pub upto: Zxid,
}

/// See the module.
pub struct Core<S: Storage> {
    /// Order, log, the tree that transactions are validated against.
    pub commit: Commit<S>,
    links: Vec<Link>,
    board: Arc<Board>,
    /// One catch-up at a time.
    catching_up: bool,
}

impl<S: Storage> Core<S> {
    /// Around what start-up has recovered, for replicas that begin there too.
    pub fn new(commit: Commit<S>, limits: RingLimits, board: Arc<Board>, shards: u16) -> Core<S> {
        let zxid = commit.tree.last_zxid();
        let link = |n| Link::new(ShardId(n), limits, zxid);
        Core {
            links: (0..shards).map(link).collect(),
            commit,
            board,
            catching_up: false,
        }
    }

    /// Applies what is committed and puts it, with all notices, into one batch for every replica.
    /// `observe` sees each of them, a transaction after the tree has applied it.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn turn(&mut self, now: Now, observe: &mut impl FnMut(&Down)) -> Result<(), Fatal> {
        let before = self.commit.tree.last_zxid();
        let mut entries = Vec::new();
        while let Some((down, _)) = self.commit.poll_down(now)? {
            observe(&down);
            entries.push(down);
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.board.raise_committed(self.commit.tree.last_zxid());
        let batch = Batch::new(entries);
        for (shard, link) in (0..).map(ShardId).zip(&mut self.links) {
            link.offer(&batch, before, self.board.taken(shard));
        }
        Ok(())
    }

    /// Takes what a replica asks for.
    ///
    /// # Errors
    /// As [`Core::turn`].
    pub fn request(&mut self, up: Up, now: Now) -> Result<(), Fatal> {
        self.commit.request(up, now)
    }

    /// The next batch for a replica: all of them must be handed over, in order.
    pub fn poll_batch(&mut self, shard: ShardId) -> Option<Arc<Batch>> {
        self.links[usize::from(shard.0)].poll()
    }

    /// A part of the log that a detached replica needs, one at a time.
    pub fn poll_catch_up(&mut self) -> Option<CatchUp> {
        if self.catching_up {
            return None;
        }
        let upto = self.commit.tree.last_zxid();
        for (shard, link) in (0..).map(ShardId).zip(&mut self.links) {
            if let Some((after, upto)) = link.begin_catch_up(upto, self.board.taken(shard)) {
                self.catching_up = true;
                return Some(CatchUp { shard, after, upto });
            }
        }
        None
    }

    /// It was read, from its beginning; it may end early.
    pub fn caught_up(&mut self, order: CatchUp, log: Vec<Arc<Entry>>) {
        self.catching_up = false;
        self.links[usize::from(order.shard.0)].caught_up(log);
    }

    /// As [`Commit::snapshot_made`]; the log behind what a detached replica has is kept.
    pub fn snapshot_made(&mut self, made: Option<&Written>, unneeded: Option<Zxid>) -> Vec<String> {
        let detached = self.links.iter().filter(|link| !link.is_attached());
        let floor = detached.map(Link::given_to).min();
        let unneeded = unneeded.map(|zxid| floor.map_or(zxid, |floor| floor.min(zxid)));
        self.commit.snapshot_made(made, unneeded)
    }

    /// What each replica has applied, and how often it was detached and came back.
    pub fn shards(&self) -> impl Iterator<Item = (Zxid, LinkCounters)> + '_ {
        let shards = (0..).map(ShardId).zip(&self.links);
        shards.map(|(shard, link)| (self.board.seen(shard), link.counters()))
    }

    /// Whether every replica gets what is committed as it comes.
    pub fn all_attached(&self) -> bool {
        self.links.iter().all(Link::is_attached)
    }
}
