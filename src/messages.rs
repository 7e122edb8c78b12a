//! What passes between shards and the pipeline.
//!
//! Requests go up, committed transactions and notices come down. Placement decides how (inline:
//! two queues in one thread; with shards: a ring each way), this module decides only what.

use crate::txn::{Credentials, Entry, WriteRequest};
use crate::types::{ConnId, Generation, SessionId, ShardId, Tick, Xid, Zxid};
use std::sync::Arc;

/// Where a request came from; the ring entry of its outcome carries it back. Replies are matched
/// by this, never by xid, because clients use xids again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Shard that owns the connection.
    pub shard: ShardId,
    /// Connection of that shard.
    pub conn: ConnId,
    /// Counts the connection's FIFO entries.
    pub sequence: u64,
}

/// Microseconds at which a write passed each stage; 0 = not yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// Bytes taken from the socket.
    pub received: u64,
    /// Validated, and in the log's buffer: it has its place in the order.
    pub ordered: u64,
    /// Covered by a local sync.
    pub synced: u64,
    /// Committed.
    pub committed: u64,
}

/// From a shard to the pipeline.
#[derive(Clone, Debug)]
pub enum ShardRequest {
    /// A write of an attached connection, closeSession included.
    Write {
        /// Where the outcome goes.
        origin: Origin,
        /// The connection's session.
        session: SessionId,
        /// The attachment under which it was received; stale ones are refused.
        generation: Generation,
        /// Goes into the transaction header.
        xid: Xid,
        /// What to do.
        request: WriteRequest,
        /// Who asks.
        credentials: Credentials,
        /// `received` is set.
        stamps: Stamps,
    },
    /// A connection wants a new session. Its outcome is the committed createSession transaction.
    NewSession {
        /// The connection; `sequence` is 0.
        origin: Origin,
        /// Negotiated, ms.
        timeout_ms: i32,
        /// `received` is set.
        stamps: Stamps,
    },
    /// A connection presents a session whose password was right. The outcome is a notice:
    /// Attached, Dead or Close.
    Reattach {
        /// The connection; `sequence` is 0.
        origin: Origin,
        /// The session.
        session: SessionId,
        /// Newly negotiated, ms.
        timeout_ms: i32,
    },
    /// A sync of an attached connection, at a member of an ensemble: all that came before it on the connection is
    /// answered. The outcome is [`Notice::Synced`].
    Sync {
        /// Where the outcome goes.
        origin: Origin,
        /// The connection's session.
        session: SessionId,
    },
    /// Answer to [`Notice::Detach`]: nothing of that attachment executes any more.
    Released {
        /// Who confirms.
        shard: ShardId,
        /// The session.
        session: SessionId,
        /// The attachment that has ended.
        generation: Generation,
    },
    /// Sessions heard of since the last batch. Everything received up to `watermark` is reported.
    Touched {
        /// Who reports.
        shard: ShardId,
        /// No session of this shard expires before its deadline is at or below this.
        watermark: Tick,
        /// When the report was made: all of them were heard of by then.
        made: Tick,
        /// Without duplicates.
        sessions: Vec<SessionId>,
    },
    /// Answer to [`Notice::Suspend`]: nothing that comes behind this is of before.
    Suspended {
        /// Who confirms.
        shard: ShardId,
    },
}

impl ShardRequest {
    /// Who sends it.
    pub fn shard(&self) -> ShardId {
        match *self {
            ShardRequest::Write { origin, .. }
            | ShardRequest::NewSession { origin, .. }
            | ShardRequest::Reattach { origin, .. }
            | ShardRequest::Sync { origin, .. } => origin.shard,
            ShardRequest::Released { shard, .. }
            | ShardRequest::Touched { shard, .. }
            | ShardRequest::Suspended { shard } => shard,
        }
    }
}

/// From the pipeline to the shards, in one order.
#[derive(Clone, Debug)]
pub enum ToShards {
    /// For all shards.
    Txn(Committed),
    /// For one shard.
    Notice(ShardId, Notice),
}

impl ToShards {
    /// How much work it is for whoever takes it: [`Txn::steps`](crate::txn::Txn::steps), or one step.
    pub fn steps(&self) -> usize {
        match self {
            ToShards::Txn(txn) => txn.entry.txn.steps(),
            ToShards::Notice(..) => 1,
        }
    }
}

/// A committed transaction.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The request that it answers; `None` for the server's own (expiry).
    pub origin: Option<Origin>,
    /// The transaction.
    pub entry: Arc<Entry>,
    /// Attachment that a createSession opens (its first); 0 otherwise.
    pub generation: Generation,
    /// For the stage histograms.
    pub stamps: Stamps,
}

/// What a shard is told outside the transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The write took no zxid: disk or memory full. Answer SYSTEMERROR with the last applied zxid.
    Refused(Origin),
    /// The session is attached to the connection: send the ConnectResponse, serve.
    Attached {
        /// The connection.
        origin: Origin,
        /// The session.
        session: SessionId,
        /// This attachment.
        generation: Generation,
        /// Negotiated, ms.
        timeout_ms: i32,
        /// The state that must have been applied before the response leaves.
        committed: Zxid,
    },
    /// The session does not exist or is closing: send the dead-session response, then close.
    Dead(Origin),
    /// What was committed anywhere when the sync came has been told: answer it.
    Synced(Origin),
    /// Close the connection without a reply (stale attachment, old shard silent, another member has the session).
    Close(ConnId),
    /// Drop the session's attachment and its connection, then answer [`ShardRequest::Released`], also if
    /// there is none.
    Detach {
        /// The session.
        session: SessionId,
        /// The attachment to end.
        generation: Generation,
    },
    /// This member has lost its part in its ensemble: end every connection, and forget what they were owed, for it never
    /// comes; then answer [`ShardRequest::Suspended`]. What is committed goes on coming.
    Suspend,
}
