//! What waits for its place in the order, and who asks for it.

use super::super::between::Forwarded;
use crate::messages::{Origin, ShardRequest, Stamps};
use crate::txn::{AuthId, WriteRequest};
use crate::types::{Generation, SessionId, Xid};
use crate::zab::LinkId;

/// Something to be ordered, or to be answered behind what is.
#[derive(Debug)]
pub(super) enum Wanted {
    /// A shard of this member asks. It is owed an outcome.
    Shard(ShardRequest),
    /// Another member asks for a client. It knows the outcome by its number, among the transactions.
    Learner(Forwarded),
    /// A client has come to another member with this session.
    Revalidate {
        link: LinkId,
        session: SessionId,
        timeout_ms: i32,
    },
}

/// Who asks for a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Shard(Origin, Generation),
    Learner(LinkId),
}

impl Asker {
    /// Where the outcome goes, if it goes anywhere here.
    pub(super) fn origin(self) -> Option<Origin> {
        match self {
            Asker::Shard(origin, _) => Some(origin),
            Asker::Learner(_) => None,
        }
    }
}

/// A write, whoever asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a> {
    pub(super) asker: Asker,
    pub(super) session: SessionId,
    pub(super) xid: Xid,
    pub(super) request: &'a WriteRequest,
    pub(super) credentials: &'a [AuthId],
    pub(super) stamps: Stamps,
}

impl Wanted {
    /// The write that it is, if it is one that can be read.
    pub(super) fn write(&self) -> Option<Write<'_>> {
        match self {
            Wanted::Shard(ShardRequest::Write {
                origin,
                session,
                generation,
                xid,
                request,
                credentials,
                stamps,
            }) => Some(Write {
                asker: Asker::Shard(*origin, *generation),
                session: *session,
                xid: *xid,
                request,
                credentials,
                stamps: *stamps,
            }),
            Wanted::Learner(forwarded) => Some(Write {
                asker: Asker::Learner(forwarded.link),
                session: forwarded.session,
                xid: forwarded.number,
                request: forwarded.request.as_ref()?,
                credentials: &forwarded.credentials,
                stamps: Stamps::default(),
            }),
            _ => None,
        }
    }

    /// The session whose client has sent it.
    pub(super) fn sender(&self) -> Option<SessionId> {
        match *self {
            Wanted::Shard(
                ShardRequest::Write { session, .. } | ShardRequest::Reattach { session, .. },
            )
            | Wanted::Revalidate { session, .. } => Some(session),
            Wanted::Learner(ref forwarded) => Some(forwarded.session),
            _ => None,
        }
    }

    /// Whether a shard of this member is owed an outcome.
    pub(super) fn is_owed(&self) -> bool {
        matches!(self, Wanted::Shard(_))
    }
}
