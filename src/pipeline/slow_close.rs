//! A session whose end takes several transactions.

use super::size::ListSize;
use crate::messages::{Origin, ShardRequest, Stamps};
use crate::types::{SessionId, Xid, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// A closeSession that waits for its list to become short enough.
#[derive(Debug)]
pub(super) struct SlowClose {
    pub(super) session: SessionId,
    pub(super) xid: Xid,
    pub(super) origin: Option<Origin>,
    pub(super) stamps: Stamps,
    /// Only when this is applied does the tree know the session's ephemerals.
    pub(super) after: Zxid,
    /// Upper bound of the list that is left; known once `after` is applied.
    pub(super) left: Option<ListSize>,
    /// Deletes were ordered up to this path.
    pub(super) deleted_to: Option<Arc<str>>,
    /// What came for the session meanwhile; it follows the closeSession.
    pub(super) behind: VecDeque<ShardRequest>,
}
