//! What passes between a member's pipeline and the other members. Its seat knows how it is packed and sent.

use super::ordering::entry_bytes_max;
use crate::txn::{Credentials, WriteRequest};
use crate::types::{SessionId, Xid};
use crate::zab::{LinkId, SyncId};

/// A request of another member's client, at the leader.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// The connection of that member.
    pub link: LinkId,
    /// Whose it is; of a createSession, the one to make.
    pub session: SessionId,
    /// The member's, by which it knows the transaction again.
    pub number: Xid,
    /// What to do; `None`: it can't be read, and becomes an error.
    pub request: Option<WriteRequest>,
    /// Who asks.
    pub credentials: Credentials,
}

impl Forwarded {
    /// The timeout of the session that it opens, if that is what it asks for.
    pub(super) fn opens(&self) -> Option<i32> {
        match self.request {
            Some(WriteRequest::CreateSession { timeout_ms }) => Some(timeout_ms),
            _ => None,
        }
    }

    /// About so many bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        let request = self.request.as_ref();
        request.map_or(0, |request| request_bytes(request, &self.credentials))
    }
}

/// About so many bytes a request takes, in memory and on its way.
pub(super) fn request_bytes(request: &WriteRequest, credentials: &Credentials) -> usize {
    let who = credentials.iter();
    let who: usize = who.map(|id| 8 + id.scheme.len() + id.id.len()).sum();
    entry_bytes_max(request, &[]) + who
}

/// What a pipeline wants of other members, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForPeers {
    /// A learner's: the leader is to order this.
    Request {
        /// Whose it is.
        session: SessionId,
        /// By which the transaction is known again.
        number: Xid,
        /// What to do.
        request: WriteRequest,
        /// Who asks.
        credentials: Credentials,
    },
    /// A learner's: a client has come with this session.
    Revalidate {
        /// Which.
        session: SessionId,
        /// Negotiated, ms.
        timeout_ms: i32,
    },
    /// A client of this member syncs.
    Sync {
        /// For the answer.
        id: SyncId,
        /// The client's.
        session: SessionId,
    },
    /// A leader's: what a learner has asked of a session.
    Revalidated {
        /// The learner's connection.
        link: LinkId,
        /// Which.
        session: SessionId,
        /// It lives, and is that learner's now.
        is_valid: bool,
    },
    /// A leader's: a learner asks for more than there is room for.
    HangUp(LinkId),
}

/// What has become of something that a pipeline wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromPeers {
    /// Of [`ForPeers::Revalidate`], the answers of one session in their order.
    Revalidated {
        /// Which.
        session: SessionId,
        /// It lives, and is this member's now.
        is_valid: bool,
    },
    /// Of [`ForPeers::Sync`].
    Synced(SyncId),
}
