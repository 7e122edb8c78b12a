//! One transaction as Apache serialises it (peer.md §3.1–3.2):
//!
//! ```text
//! entry     = TxnHeader ‖ body ‖ [ TxnDigest ]
//! TxnHeader = clientId i64 ‖ cxid i32 ‖ zxid i64 ‖ time i64 ‖ type i32     32 bytes
//! TxnDigest = version i32 ‖ treeDigest i64                                 12 bytes
//! ```

use super::{Acl, Data};
use crate::types::{ErrorCode, OpCode, SessionId, WallMs, Zxid};
use std::sync::Arc;

/// Header of every transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// Session that asked for it; 0 for the server's own.
    pub session: SessionId,
    /// The request's xid.
    pub cxid: i32,
    /// Its place in the order.
    pub zxid: Zxid,
    /// Wall clock of the server that ordered it.
    pub time: WallMs,
    /// Type of the body.
    pub op: OpCode,
}

/// Body of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txn {
    /// Types 1, 15, 19, 21.
    Create(CreateTxn),
    /// Types 2 and 20.
    Delete {
        /// Node to delete.
        path: Arc<str>,
    },
    /// Types 5 and 16.
    SetData {
        /// Node to change.
        path: Arc<str>,
        /// New payload.
        data: Data,
        /// The *new* version.
        version: i32,
    },
    /// Type 7.
    SetAcl {
        /// Node to change.
        path: Arc<str>,
        /// New list, normalised.
        acl: Arc<[Acl]>,
        /// The *new* aversion.
        version: i32,
    },
    /// Type 13, inside multi only.
    Check {
        /// Node that was checked.
        path: Arc<str>,
        /// Version that was asked for.
        version: i32,
    },
    /// Type −10.
    CreateSession {
        /// Negotiated timeout, ms.
        timeout_ms: i32,
    },
    /// Type −11. `None`: the list is absent (3.5, or switched off).
    CloseSession {
        /// The session's ephemerals.
        paths: Option<Vec<Arc<str>>>,
    },
    /// Type −1: a write that failed.
    Error {
        /// Why.
        code: ErrorCode,
    },
    /// Type 14: (type, body) of each operation.
    Multi(Vec<(OpCode, Txn)>),
}

/// Body of the create family. The owner of the node follows from here (peer.md §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTxn {
    /// Final path, sequence suffix included.
    pub path: Arc<str>,
    /// Payload.
    pub data: Data,
    /// Normalised list.
    pub acl: Arc<[Acl]>,
    /// Types 1 and 15: owned by the header's session.
    pub ephemeral: bool,
    /// The parent's stored cversion after this create; −1 in very old logs.
    pub parent_cversion: i32,
    /// Type 21: time to live, ms.
    pub ttl_ms: i64,
}

/// Digest of the whole tree after a transaction (peer.md §3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnDigest {
    /// 2 today; compared only when equal.
    pub version: i32,
    /// Wrapping sum of the nodes' digests.
    pub tree: u64,
}

/// A whole transaction, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Header.
    pub header: TxnHeader,
    /// Body.
    pub txn: Txn,
    /// Absent for the error transaction of a failed single operation, and in old logs.
    pub digest: Option<TxnDigest>,
}
