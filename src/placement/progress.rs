//! What the cores of a process know of each other.

use super::atomic::Ordering::{Relaxed, SeqCst};
use super::atomic::{AtomicBool, AtomicI64, AtomicU64};
use crate::types::{ShardId, Zxid};

/// A cache line of its own (two: adjacent lines are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct CacheLine<T>(T);

/// How far a replica has come. Written by it alone.
#[derive(Debug, Default)]
struct ReplicaProgress {
    seen: AtomicI64,
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// What a replica has taken since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Transactions and notices.
    pub entries: u64,
    /// Their bytes in memory, roughly.
    pub bytes: u64,
}

/// Numbers that only ever grow, and a wish of the core that orders. Nothing else is shared and changes.
#[derive(Debug)]
pub struct Progress {
    committed: CacheLine<AtomicI64>,
    answered: CacheLine<AtomicI64>,
    /// The core that orders waits until replicas have taken more.
    awaited: CacheLine<AtomicBool>,
    shards: Box<[CacheLine<ReplicaProgress>]>,
}

impl Progress {
    /// For `shards` replicas that have all reached `zxid`.
    pub fn new(shards: usize, zxid: Zxid) -> Progress {
        let progress = || {
            let line = CacheLine::<ReplicaProgress>::default();
            line.0.seen.store(zxid.0, SeqCst);
            line
        };
        Progress {
            committed: CacheLine(AtomicI64::new(zxid.0)),
            answered: CacheLine(AtomicI64::new(zxid.0)),
            awaited: CacheLine::default(),
            shards: (0..shards).map(|_| progress()).collect(),
        }
    }

    /// The last transaction that is committed.
    pub fn committed(&self) -> Zxid {
        Zxid(self.committed.0.load(SeqCst))
    }

    /// Said by the ordering core before any replica can know of it.
    pub fn raise_committed(&self, zxid: Zxid) {
        self.committed.0.store(zxid.0, SeqCst);
    }

    /// The newest state that anything has been shown of.
    pub fn answered(&self) -> Zxid {
        Zxid(self.answered.0.load(SeqCst))
    }

    /// Said before bytes that show this state are handed to the kernel.
    pub fn raise_answered(&self, zxid: Zxid) {
        if self.answered() < zxid {
            self.answered.0.fetch_max(zxid.0, SeqCst);
        }
    }

    /// Said by the core that orders before it looks, the last time before it sleeps, at what replicas have taken.
    pub(super) fn await_replicas(&self, awaited: bool) {
        if self.awaited.0.load(Relaxed) != awaited {
            self.awaited.0.store(awaited, SeqCst);
        }
    }

    /// A replica has taken a batch. Whether the core that orders waits for that, and is to be woken.
    pub fn took(&self, shard: ShardId, seen: Zxid, entries: u64, bytes: u64) -> bool {
        let CacheLine(progress) = &self.shards[usize::from(shard.0)];
        progress.seen.store(seen.0, SeqCst);
        // One writer: a plain addition.
        let add = |to: &AtomicU64, n: u64| to.store(to.load(Relaxed) + n, SeqCst);
        add(&progress.bytes, bytes);
        add(&progress.entries, entries);
        self.awaited.0.load(SeqCst)
    }

    /// How far a replica has come.
    pub fn seen(&self, shard: ShardId) -> Zxid {
        Zxid(self.shards[usize::from(shard.0)].0.seen.load(SeqCst))
    }

    /// What a replica has taken.
    pub fn taken(&self, shard: ShardId) -> Taken {
        let CacheLine(progress) = &self.shards[usize::from(shard.0)];
        Taken {
            entries: progress.entries.load(SeqCst),
            bytes: progress.bytes.load(SeqCst),
        }
    }
}
