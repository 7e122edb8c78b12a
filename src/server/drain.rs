//! How the cores of a process stop together. Each step waits for the one before:
//!
//! 1. no core takes input any more ([`Process::begin_stopping`](super::process::Process));
//! 2. every shard has handed up what its clients had asked for: `handed_up`;
//! 3. the ordering core has made all of it durable and given every outcome away: `decided`;
//! 4. every shard has applied that and handed its last replies to the kernel: `flushed`;
//! 5. the log is sealed.
//!
//! Each step has a patience of its own: a shard that is held still does not keep the log from being
//! sealed.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// The barrier between the cores of a process.
#[derive(Debug)]
pub struct Drain {
    shards: usize,
    handed_up: AtomicUsize,
    decided: AtomicBool,
    flushed: AtomicUsize,
}

impl Drain {
    /// For so many shards.
    pub fn new(shards: u16) -> Drain {
        Drain {
            shards: usize::from(shards),
            handed_up: AtomicUsize::new(0),
            decided: AtomicBool::new(false),
            flushed: AtomicUsize::new(0),
        }
    }

    /// A shard has handed up all that it had.
    pub fn shard_handed_up(&self) {
        self.handed_up.fetch_add(1, Release);
    }

    /// Whether every shard has.
    pub fn all_handed_up(&self) -> bool {
        self.handed_up.load(Acquire) == self.shards
    }

    /// The ordering core gives nothing more away.
    pub fn decide(&self) {
        self.decided.store(true, Release);
    }

    /// Whether everything that will ever be committed was given to the shards.
    pub fn is_decided(&self) -> bool {
        self.decided.load(Acquire)
    }

    /// A shard has shown its clients all that it was given.
    pub fn shard_flushed(&self) {
        self.flushed.fetch_add(1, Release);
    }

    /// Whether every shard has.
    pub fn all_flushed(&self) -> bool {
        self.flushed.load(Acquire) == self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_is_waited_for() {
        let drain = Drain::new(2);
        drain.shard_handed_up();
        assert!(!drain.all_handed_up());
        drain.shard_handed_up();
        assert!(drain.all_handed_up() && !drain.is_decided() && !drain.all_flushed());
        drain.decide();
        drain.shard_flushed();
        drain.shard_flushed();
        assert!(drain.is_decided() && drain.all_flushed());
        let alone = Drain::new(0);
        assert!(alone.all_handed_up() && alone.all_flushed());
    }
}
