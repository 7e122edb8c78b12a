//! Which connection serves a session.

use super::connection::{Attachment, Connection, Phase};
use crate::types::{ConnId, DetHashMap, Generation, SessionId};

/// The sessions that this shard serves, from the grant on.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    by_session: DetHashMap<SessionId, (Generation, ConnId)>,
}

impl Attachments {
    /// A session is a connection's from now on.
    pub(super) fn insert(&mut self, attachment: Attachment, conn: ConnId) {
        let serves = (attachment.generation, conn);
        let before = self.by_session.insert(attachment.session, serves);
        assert!(before.is_none(), "the old connection was detached first");
    }

    /// The connection that serves a session.
    pub(super) fn get(&self, session: SessionId) -> Option<ConnId> {
        self.by_session.get(&session).map(|&(_, conn)| conn)
    }

    /// The connection that serves a session, if its attachment is not newer than `generation`.
    pub(super) fn until(&self, session: SessionId, generation: Generation) -> Option<ConnId> {
        let &(current, conn) = self.by_session.get(&session)?;
        (current <= generation).then_some(conn)
    }

    /// A connection serves its session no more.
    pub(super) fn forget(&mut self, c: &Connection) {
        let attachment = match c.phase {
            Phase::Attached(attachment) => Some(attachment),
            Phase::Connecting(connecting) => connecting.granted,
            Phase::Fresh | Phase::Ended { .. } => None,
        };
        if let Some(Attachment { session, .. }) = attachment
            && self.get(session) == Some(c.id)
        {
            self.by_session.remove(&session);
        }
    }

    /// Sessions that are served.
    pub(super) fn len(&self) -> usize {
        self.by_session.len()
    }
}
