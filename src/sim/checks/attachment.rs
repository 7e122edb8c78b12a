//! A session that was answered on one connection has left all earlier ones.

use crate::txn::Entry;
use crate::types::SessionId;
use std::collections::BTreeMap;

#[derive(Default)]
pub(in crate::sim) struct Attachment {
    /// The connection that was last answered for each session.
    connection: BTreeMap<SessionId, usize>,
    /// The first xid that was used there.
    first_xid: BTreeMap<SessionId, i32>,
    /// The same for answers of this turn: what was applied in it may be older.
    answered: Vec<(SessionId, i32)>,
}

impl Attachment {
    /// A connection was told that it holds a session.
    pub(in crate::sim) fn attached(
        &mut self,
        session: SessionId,
        connection: usize,
        first_xid: i32,
    ) {
        self.connection.insert(session, connection);
        self.answered.push((session, first_xid));
    }

    /// A core's turn is over, and what was applied in it was observed.
    pub(in crate::sim) fn turn_is_over(&mut self) {
        self.first_xid.extend(self.answered.drain(..));
    }

    /// Nothing of a connection is answered after its session has answered another one's
    /// ConnectRequest.
    pub(in crate::sim) fn answers(
        &self,
        session: SessionId,
        connection: usize,
    ) -> Result<(), String> {
        match self.connection.get(&session) {
            Some(&newer) if newer > connection => Err(format!(
                "connection {connection} was answered after its session {session} had moved to {newer}"
            )),
            _ => Ok(()),
        }
    }

    /// No transaction comes from a connection that its session has left.
    pub(super) fn observe(&self, entry: &Entry) -> Result<(), String> {
        let (session, cxid) = (entry.header.session, entry.header.cxid);
        let left = |first: &i32| cxid > 0 && cxid < *first;
        if self.first_xid.get(&session).is_some_and(left) {
            return Err(format!(
                "{} ({:?}, cxid {cxid}) came from a connection that its session had left",
                entry.header.zxid, entry.txn
            ));
        }
        Ok(())
    }
}
