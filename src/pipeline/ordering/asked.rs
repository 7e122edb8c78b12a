//! What a transaction is asked for with, by a client or by the server itself.

use super::wanted::{Wanted, Write};
use crate::messages::{Origin, Stamps};
use crate::tree::{MultiPreparation, PrepareContext, Rules, SessionState};
use crate::txn::{AuthId, WriteRequest};
use crate::types::{Generation, SessionId, WallMs, Xid, Zxid};

/// A request, and whose it is.
pub(super) struct Asked<'a> {
    pub(super) session: SessionId,
    pub(super) state: SessionState,
    pub(super) xid: Xid,
    pub(super) request: &'a WriteRequest,
    pub(super) credentials: &'a [AuthId],
    pub(super) origin: Option<Origin>,
    /// Of the attachment that a createSession opens; 0 otherwise.
    pub(super) generation: Generation,
    pub(super) stamps: Stamps,
}

impl<'a> Asked<'a> {
    /// A write, of a session in this state.
    pub(super) fn of(write: &Write<'a>, state: SessionState) -> Asked<'a> {
        Asked {
            session: write.session,
            state,
            xid: write.xid,
            request: write.request,
            credentials: write.credentials,
            origin: write.asker.origin(),
            generation: Generation(0),
            stamps: write.stamps,
        }
    }

    /// What the server itself asks for: no session's, and nobody waits for it.
    pub(super) fn by_the_server(request: &'a WriteRequest, credentials: &'a [AuthId]) -> Asked<'a> {
        Asked {
            session: SessionId::NONE,
            state: SessionState::Live,
            xid: Xid(0),
            request,
            credentials,
            origin: None,
            generation: Generation(0),
            stamps: Stamps::default(),
        }
    }

    /// What the transaction is prepared with, at its place in the order.
    pub(super) fn context(&self, zxid: Zxid, time: WallMs, rules: &'a Rules) -> PrepareContext<'a> {
        PrepareContext {
            zxid,
            time,
            session: self.session,
            cxid: self.xid.0,
            session_state: self.state,
            credentials: self.credentials,
            rules,
        }
    }
}

/// A multi that is being validated, with the request that asks for it.
#[derive(Debug)]
pub(super) struct Preparing {
    /// A write that asks for a multi.
    pub(super) up: Wanted,
    pub(super) state: SessionState,
    /// When it began: the time of the whole transaction.
    pub(super) time: WallMs,
    pub(super) multi: MultiPreparation,
}
