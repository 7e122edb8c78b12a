//! What is to be run, and what came of it.

use super::disk::DiskFaults;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Crash once, when the disk has counted this many effects; no other faults are injected.
    pub crash_at: Option<u64>,
    /// A short run without random faults, for a crash after every effect.
    pub short: bool,
    /// Serving shards; 0 = inline.
    pub shards: u16,
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Crashes that lost the page cache.
    pub power_cuts: u64,
    /// Crashes of the process alone.
    pub kills: u64,
    /// Crashes while recovering.
    pub crashes_in_recovery: u64,
    /// The wall clock was set back.
    pub clock_steps: u64,
    /// The disk was full for a while.
    pub full_disks: u64,
    /// Background work was short of descriptors or memory for a while.
    pub shortages: u64,
    /// Writes refused because of a full disk or a shortage.
    pub refused: u64,
    /// Seeds whose zxid counter rolled over.
    pub rollovers: u64,
    /// Connections cut by the network.
    pub disconnects: u64,
    /// Sessions re-attached while their old connection was open.
    pub steals: u64,
    /// Requests sent on a connection whose session has moved.
    pub stale_requests: u64,
    /// Bits that rotted in a synced and covered record, and were noticed.
    pub rot_noticed: u64,
    /// Shards held still.
    pub stalls: u64,
    /// Shards that fell too far behind and were detached.
    pub detached: u64,
    /// Shards that caught up from the log and came back.
    pub rejoined: u64,
    /// Sessions that expired.
    pub expiries: u64,
    /// All cores were held at once.
    pub pauses: u64,
    /// Connections that could not be accepted because no descriptor was left.
    pub exhausted: u64,
    /// Writes of which the kernel took a part.
    pub writes_cut: u64,
    /// Writes of which the kernel took nothing.
    pub writes_refused: u64,
    /// Connections that the client reset.
    pub resets: u64,
    /// Connections that said a four-letter word.
    pub words: u64,
    /// Syncs that ran on the core that orders.
    pub syncs_here: u64,
    /// Syncs that ran beside it.
    pub syncs_beside: u64,
    /// The process was asked to stop.
    pub stops: u64,
    /// Drains that came to their end: the log was sealed.
    pub drains: u64,
    /// Stages of them that ended because the patience did.
    pub drains_overdue: u64,
    /// Snapshots made.
    pub snapshots: u64,
    /// Replies checked.
    pub replies: u64,
    /// Watch events checked.
    pub events: u64,
    /// Transactions applied.
    pub txns: u64,
    /// What the disk did.
    pub disk: DiskFaults,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Hash over all events of the run.
    pub hash: String,
    /// Effects counted by the disk.
    pub effects: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// What happened.
    pub counters: Counters,
    /// The first promise that was broken.
    pub violation: Option<String>,
}
