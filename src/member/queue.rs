//! Where a job is run.

/// Jobs of one queue run one after the other; queues run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobQueue {
    /// What writes wait for: never behind anything slow, and on the log's device alone.
    Spares,
    /// On both devices.
    Witnesses,
    /// May take minutes; to be run at a low priority.
    Snapshots,
    /// What a detached replica waits for.
    Reads,
}
