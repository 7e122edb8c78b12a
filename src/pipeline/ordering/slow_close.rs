//! The sessions whose end takes several transactions.

use super::size::ListSize;
use super::wanted::Wanted;
use crate::messages::{Origin, Stamps};
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
    pub(super) behind: VecDeque<Wanted>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct SlowCloses {
    /// They are worked on in turn.
    pub(super) queue: VecDeque<SlowClose>,
    /// Some may be able to go on: something was applied, or a tick came.
    pub(super) is_due: bool,
    /// Transactions that delete ephemerals ahead of a closeSession and are not applied.
    pub(super) deletes_in_flight: VecDeque<Zxid>,
}

impl SlowCloses {
    /// Something was applied, or a tick came.
    pub(super) fn wake(&mut self) {
        self.is_due = !self.queue.is_empty();
    }

    /// The one of this session.
    pub(super) fn of(&mut self, session: SessionId) -> Option<&mut SlowClose> {
        self.queue.iter_mut().find(|close| close.session == session)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Requests of this member's shards that wait for them, their own included.
    pub(super) fn owed(&self) -> usize {
        let behind = |close: &SlowClose| close.behind.iter().filter(|up| up.is_owed()).count();
        let requests = |close: &SlowClose| usize::from(close.origin.is_some()) + behind(close);
        self.queue.iter().map(requests).sum()
    }
}
