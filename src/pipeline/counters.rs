//! What the pipeline counts for the operator; nothing is decided by it.

/// What `mntr` shows of the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions ordered, the server's own included.
    pub ordered: u64,
    /// Error transactions among them.
    pub errors: u64,
    /// Requests refused for want of disk space.
    pub refused: u64,
    /// Requests of attachments that had been taken away.
    pub stale: u64,
    /// Sessions expired.
    pub expired: u64,
    /// Sessions handed from one connection to another.
    pub reattached: u64,
    /// Handshakes closed without a reply: the old shard was silent, or there were too many.
    pub given_up: u64,
    /// Transactions that deleted ephemerals ahead of a closeSession.
    pub deletes_ahead: u64,
    /// Containers and TTL nodes deleted because they were due.
    pub reaped: u64,
}
