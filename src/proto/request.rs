//! What a client sends, decoded.

use crate::txn::WriteRequest;
use crate::types::{SessionId, Zxid};
use std::sync::Arc;

/// First frame of a connection (client.md §1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Highest zxid the client saw.
    pub last_zxid_seen: Zxid,
    /// Requested timeout, ms.
    pub timeout_ms: i32,
    /// 0 = new session.
    pub session: SessionId,
    /// 16 bytes, or anything for a new session.
    pub password: Vec<u8>,
    /// `None`: the byte was absent, so the response must not carry it either.
    pub read_only: Option<bool>,
}

/// A request behind its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Goes through the pipeline, closeSession included.
    Write(WriteRequest),
    /// Answered from the replica.
    Read(ReadRequest),
    /// ping.
    Ping,
    /// sync; the path is echoed, null too.
    Sync(Option<Arc<str>>),
    /// auth.
    Auth {
        /// Null fails.
        scheme: Option<Arc<str>>,
        /// Scheme's own data, null allowed.
        auth: Option<Vec<u8>>,
    },
    /// An operation this server does not have: −6 with zxid −1, then close.
    Unknown,
    /// A known operation whose body can't be parsed: −5.
    Malformed,
}

/// Requests that one step on one replica answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRequest {
    /// exists.
    Exists {
        /// Node.
        path: Arc<str>,
        /// Leave a watch.
        watch: bool,
    },
    /// getData.
    GetData {
        /// Node.
        path: Arc<str>,
        /// Leave a watch.
        watch: bool,
    },
    /// getACL.
    GetAcl {
        /// Node.
        path: Arc<str>,
    },
    /// getChildren, getChildren2.
    GetChildren {
        /// Node.
        path: Arc<str>,
        /// Leave a watch.
        watch: bool,
        /// getChildren2: the Stat follows.
        with_stat: bool,
    },
    /// multiRead.
    MultiRead {
        /// GetData and GetChildren only; their watch flags are ignored.
        ops: Vec<ReadRequest>,
        /// A type that is not allowed follows `ops`: −5 with the results so far.
        unsupported: bool,
    },
    /// setWatches.
    SetWatches {
        /// The client's lastZxidSeen.
        relative_zxid: Zxid,
        /// Data watches.
        data: Vec<Arc<str>>,
        /// Exists watches.
        exist: Vec<Arc<str>>,
        /// Child watches.
        child: Vec<Arc<str>>,
    },
}
