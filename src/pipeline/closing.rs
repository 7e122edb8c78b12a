//! How sessions end: closeSession asked for by a client, expiry, and what precedes a closeSession
//! whose list of ephemerals would be too long.
//!
//! The list of a closeSession must stay below `jute.maxbuffer` (peer.md I-22). If it might not,
//! the session is marked closing at once, so that it can't grow any more; when everything that
//! was prepared before is applied, the list is known, and as long as it is too long, bounded
//! multis delete ephemerals from its front, one at a time. They belong to the server: session 0,
//! xid 0, no origin, the rights of a super user (closeSession does not ask the ACLs either), and
//! draw on the reserve. A multi fails if somebody else deletes one of its nodes in the same
//! moment; that delete was ordered before, so the next list does not hold the node any more.
//! After a crash in between, the session lives on, with fewer ephemerals, until it is closed or
//! expires again: its client had asked for the end, or was not heard of.

use super::*;

/// Sessions that expire in one tick at most: a step on a data core stays short.
const EXPIRIES_PER_TICK: usize = 64;
/// Nodes that one transaction deletes ahead of a closeSession.
const DELETES_PER_TXN: usize = 256;
/// Bytes of their paths, so that the transaction fits a record.
const DELETE_BYTES_PER_TXN: usize = 256 << 10;

/// A closeSession that waits for its list to become short enough.
#[derive(Debug)]
pub(super) struct SlowClose {
    pub(super) session: SessionId,
    xid: Xid,
    origin: Option<Origin>,
    stamps: Stamps,
    /// Only when this is applied does the tree know the session's ephemerals.
    after: Zxid,
    /// What came for the session meanwhile; it follows the closeSession.
    pub(super) behind: VecDeque<ShardRequest>,
}

impl<S: Storage> Pipeline<S> {
    /// Expires sessions that are due, if there is room for it. While requests wait, nothing is
    /// prepared: one of them may be the session's.
    pub(super) fn expire(&mut self, tree: &Tree, now: Now) -> Result<(), Fatal> {
        for _ in 0..EXPIRIES_PER_TICK {
            if !self.intake.is_empty() || self.ring.uncommitted() > self.config.outstanding_max {
                break;
            }
            let Some(session) = self.owners.due(now.tick) else {
                break;
            };
            let bytes = self
                .close_bytes(tree, session)
                .min(self.config.close_bytes_max);
            if self.log.room_for(Need::Reserve, bytes) != Room::Yes {
                break;
            }
            self.counters.expired += 1;
            self.close(tree, session, Xid(0), None, Stamps::default(), now)?;
        }
        Ok(())
    }

    /// Upper bound of the entry of a closeSession prepared now, bytes.
    pub(super) fn close_bytes(&self, tree: &Tree, session: SessionId) -> usize {
        let applied: usize = tree
            .ephemerals(session)
            .map(|path| size::path_bytes(path))
            .sum();
        size::ENTRY_FIXED + applied + self.owners.in_flight_list_bytes(session)
    }

    /// Marks a session closing, and orders its closeSession, now or after deletes. There is room.
    pub(super) fn close(
        &mut self,
        tree: &Tree,
        session: SessionId,
        xid: Xid,
        origin: Option<Origin>,
        stamps: Stamps,
        now: Now,
    ) -> Result<(), Fatal> {
        self.owners.mark_closing(session);
        let close = SlowClose {
            session,
            xid,
            origin,
            stamps,
            after: self.ring.cursors().prepared,
            behind: VecDeque::new(),
        };
        if self.close_bytes(tree, session) > self.config.close_bytes_max {
            self.slow_closes.push_back(close);
            return Ok(());
        }
        self.order_close(tree, &close, now)
    }

    fn order_close(&mut self, tree: &Tree, close: &SlowClose, now: Now) -> Result<(), Fatal> {
        let asked = Asked {
            session: close.session,
            // It is this one that closes it.
            state: SessionState::Live,
            xid: close.xid,
            request: &WriteRequest::CloseSession,
            credentials: &[],
            origin: close.origin,
            generation: Generation(0),
            stamps: close.stamps,
        };
        self.order(tree, asked, now)?;
        let mut said = Vec::new();
        self.owners.dead(close.session, &mut said);
        self.say(said);
        Ok(())
    }

    /// The next step of the oldest slow close, if it need not wait for an apply or for room.
    pub(super) fn work_on_slow_closes(&mut self, tree: &Tree, now: Now) -> Result<(), Fatal> {
        while let Some(close) = self.slow_closes.front() {
            let session = close.session;
            if close.after > self.ring.cursors().applied || !self.intake.is_empty() {
                return Ok(());
            }
            let bytes = self.close_bytes(tree, session);
            let fits = bytes <= self.config.close_bytes_max;
            let request = if fits {
                WriteRequest::CloseSession
            } else {
                deletes(tree, session)
            };
            let bytes = if fits {
                bytes
            } else {
                size::entry_bytes_max(&request, &[])
            };
            if self.log.room_for(Need::Reserve, bytes) != Room::Yes {
                return Ok(());
            }
            if fits {
                let close = self.slow_closes.pop_front().expect("just seen");
                self.order_close(tree, &close, now)?;
                self.intake.extend(close.behind);
                self.drain(tree, now)?;
            } else {
                let after = self.order_deletes(tree, &request, now)?;
                self.slow_closes.front_mut().expect("just seen").after = after;
            }
        }
        Ok(())
    }

    fn order_deletes(
        &mut self,
        tree: &Tree,
        request: &WriteRequest,
        now: Now,
    ) -> Result<Zxid, Fatal> {
        self.counters.deletes_ahead += 1;
        let server = AuthId {
            scheme: "super".into(),
            id: "".into(),
        };
        let asked = Asked {
            session: SessionId::NONE,
            state: SessionState::Live,
            xid: Xid(0),
            request,
            credentials: &[server],
            origin: None,
            generation: Generation(0),
            stamps: Stamps::default(),
        };
        self.order(tree, asked, now)
    }
}

fn deletes(tree: &Tree, session: SessionId) -> WriteRequest {
    let mut bytes = 0;
    let paths = tree
        .ephemerals(session)
        .take(DELETES_PER_TXN)
        .take_while(|path| {
            // The first one always: its record fits, as its create's did.
            let first = bytes == 0;
            bytes += size::path_bytes(path);
            first || bytes <= DELETE_BYTES_PER_TXN
        });
    WriteRequest::Multi(
        paths
            .map(|path| WriteRequest::Delete {
                path: Arc::from(&**path),
                version: -1,
            })
            .collect(),
    )
}
