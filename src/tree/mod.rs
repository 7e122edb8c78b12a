//! The state machine: znodes, ACLs, ephemerals, the replicated session table, digest.
//!
//! `prepare` validates a request against the tree overlaid with pending changes and makes the
//! transaction; `apply` is total and idempotent; reads never change anything. The inline placement
//! has one tree, which the driver passes to pipeline and shard as an argument.

mod apply;
mod node;
mod prepare;
mod read;

pub use prepare::{Overlay, PrepareContext, Prepared, Rules, SessionState};

pub use crate::txn::Stat;

use crate::txn::Acl;
use crate::types::{ErrorCode, OpCode, SessionId, Zxid};
use std::sync::Arc;

/// Outcome of one operation, for its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The create family.
    Create {
        /// Type of the transaction: decides whether the Stat is sent (client.md §1.6).
        op: OpCode,
        /// Final path.
        path: Arc<str>,
        /// Of the new node.
        stat: Stat,
    },
    /// delete, deleteContainer.
    Delete,
    /// setData.
    SetData(Stat),
    /// setACL.
    SetAcl(Stat),
    /// check.
    Check,
    /// createSession.
    CreateSession {
        /// ms.
        timeout_ms: i32,
    },
    /// closeSession.
    CloseSession,
    /// multi, one per operation; a failed one has `Error` everywhere (code 0 before the failing
    /// operation, −2 after it).
    Multi(Vec<OpResult>),
    /// Failed.
    Error(ErrorCode),
}

/// One change of one node, for the watches (client.md §4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened to the node.
    pub kind: ChangeKind,
    /// The node.
    pub path: Arc<str>,
    /// Created: the ACL in the transaction; deleted and changed: the node's before the change.
    pub acl: Arc<[Acl]>,
    /// Created and deleted: the parent's ACL, for the event of type 4.
    pub parent_acl: Option<Arc<[Acl]>>,
}

/// Kind of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Event 1 on the node, 4 on the parent.
    Created,
    /// Event 2 on the node, 4 on the parent.
    Deleted,
    /// Event 3 on the node.
    DataChanged,
}

/// What applying one transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The transaction's.
    pub zxid: Zxid,
    /// The transaction's session.
    pub session: SessionId,
    /// For the reply.
    pub result: OpResult,
    /// In the order in which events go out.
    pub changes: Vec<Change>,
}
