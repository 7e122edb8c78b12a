//! Write requests after decoding and before validation: what `tree::prepare` takes.
//! A request whose body can't be decoded is answered −5 by the shard and takes no zxid (docs/protocol.md
//! §10.1).

use super::Data;
use crate::types::OpCode;
use std::sync::Arc;

/// An ACL entry as a client sent it; a missing scheme or id is −114 in `prepare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAcl {
    /// Permission bits.
    pub perms: i32,
    /// Scheme, or null.
    pub scheme: Option<Arc<str>>,
    /// Id, or null.
    pub id: Option<Arc<str>>,
}

/// Any request of the create family (docs/protocol.md §1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// CREATE, CREATE2, CREATE_CONTAINER or CREATE_TTL.
    pub op: OpCode,
    /// Path as asked for.
    pub path: Arc<str>,
    /// Payload.
    pub data: Data,
    /// `None` is a null vector, which equals an empty one (−114).
    pub acl: Option<Vec<RawAcl>>,
    /// Create mode (docs/protocol.md §1.5).
    pub flags: i32,
    /// CREATE_TTL only, ms.
    pub ttl_ms: i64,
}

/// A request that the pipeline orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteRequest {
    /// The create family.
    Create(CreateRequest),
    /// delete.
    Delete {
        /// Node.
        path: Arc<str>,
        /// Expected data version, −1 = any.
        version: i32,
    },
    /// setData.
    SetData {
        /// Node; null is −8.
        path: Option<Arc<str>>,
        /// New payload.
        data: Data,
        /// Expected version, −1 = any.
        version: i32,
    },
    /// setACL.
    SetAcl {
        /// Node; null is −8.
        path: Option<Arc<str>>,
        /// New list; `None` is a null vector.
        acl: Option<Vec<RawAcl>>,
        /// Expected aversion, −1 = any.
        version: i32,
    },
    /// check; inside multi only.
    Check {
        /// Node; null is −8.
        path: Option<Arc<str>>,
        /// Expected version, −1 = any.
        version: i32,
    },
    /// reconfig, which a standalone server refuses whatever it asks for.
    Reconfig,
    /// multi of Create, Delete, SetData, Check; may be empty.
    Multi(Vec<WriteRequest>),
    /// Made by the pipeline for a new connection.
    CreateSession {
        /// Negotiated timeout, ms.
        timeout_ms: i32,
    },
    /// Asked for by a client, or by expiry.
    CloseSession,
}
