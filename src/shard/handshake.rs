//! The connect handshake (docs/protocol.md §1.3): its decisions, and its steps.

use super::connection::{Attachment, Connecting, Connection, Phase, Timing};
use super::endings::{Ending, Why};
use super::state::ShardState;
use super::stats::op_name;
use crate::messages::{Origin, ShardRequest, Stamps};
use crate::proto::session::is_password;
use crate::proto::{ConnectRequest, reply};
use crate::tree::Tree;
use crate::types::{ErrorCode, Now, OpCode, SessionId, Xid, Zxid};

/// What a ConnectRequest leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client has seen a newer state than this member has: it must try another one.
    CloseSilently,
    /// Wrong password: the session itself is not disturbed.
    Dead,
    /// A new session.
    Open,
    /// Ask the owner table.
    Reattach,
}

/// `committed`: the newest state that this member may show.
pub(super) fn judge(request: &ConnectRequest, committed: Zxid) -> Verdict {
    if request.last_zxid_seen > committed {
        Verdict::CloseSilently
    } else if request.session == SessionId::NONE {
        Verdict::Open
    } else if !is_password(request.session, &request.password) {
        Verdict::Dead
    } else {
        Verdict::Reattach
    }
}

impl ShardState {
    /// The first frame of a connection.
    pub(super) fn connect(&mut self, c: &mut Connection, request: ConnectRequest, tree: &Tree) {
        let connecting = Connecting {
            timeout_ms: request.timeout_ms.clamp(
                self.config.session_timeout_min_ms,
                self.config.session_timeout_max_ms,
            ),
            with_read_only: request.read_only.is_some(),
            received: c.received_at,
            granted: None,
        };
        c.phase = Phase::Connecting(connecting);
        let origin = Origin {
            shard: self.config.id,
            conn: c.id,
            sequence: 0,
        };
        match judge(&request, self.committed.max(tree.last_zxid())) {
            Verdict::CloseSilently => self.end(c, Ending::Discard, Why::SeenLater),
            Verdict::Dead => self.answer_dead(c),
            Verdict::Open => self.up.push_back(ShardRequest::NewSession {
                origin,
                timeout_ms: connecting.timeout_ms,
                stamps: Stamps {
                    received: c.received_at,
                    ..Stamps::default()
                },
            }),
            Verdict::Reattach => self.up.push_back(ShardRequest::Reattach {
                origin,
                session: request.session,
                timeout_ms: connecting.timeout_ms,
            }),
        }
    }

    /// The session of a connecting client does not exist.
    pub(super) fn answer_dead(&mut self, c: &mut Connection) {
        let Phase::Connecting(connecting) = c.phase else {
            return;
        };
        reply::dead_session(&mut c.output, connecting.with_read_only);
        self.appended(c, 1);
        self.end(c, Ending::Flush, Why::SessionDead);
    }

    /// The createSession of a connecting client has been applied.
    pub(super) fn open(
        &mut self,
        c: &mut Connection,
        attachment: Attachment,
        zxid: Zxid,
        timing: Timing,
        tree: &Tree,
        now: Now,
    ) {
        let Phase::Connecting(connecting) = c.phase else {
            return;
        };
        self.keep_time(c, timing, now);
        let op = op_name(OpCode::CREATE_SESSION, ErrorCode::OK, true);
        let ms = c
            .counters
            .since(self.resets)
            .replied(op, Xid(0), zxid, connecting.received, now);
        self.totals.latency.add(ms);
        self.grant(c, attachment, zxid, tree);
    }

    /// The session is this connection's. The response leaves when the replica has reached
    /// `committed`.
    pub(super) fn grant(
        &mut self,
        c: &mut Connection,
        attachment: Attachment,
        committed: Zxid,
        tree: &Tree,
    ) {
        let Phase::Connecting(mut connecting) = c.phase else {
            return;
        };
        self.attachments.insert(attachment, c.id);
        connecting.granted = Some(attachment);
        c.phase = Phase::Connecting(connecting);
        if committed > tree.last_zxid() {
            self.waiters.insert((committed, c.id));
        } else {
            self.establish(c);
        }
    }

    /// Sends the response of a connection that has been granted its session, if that is what it
    /// waited for.
    pub(super) fn establish(&mut self, c: &mut Connection) {
        let Phase::Connecting(connecting) = c.phase else {
            return;
        };
        let Some(attachment) = connecting.granted else {
            return;
        };
        reply::connected(
            &mut c.output,
            attachment.session,
            attachment.timeout_ms,
            connecting.with_read_only,
        );
        self.appended(c, 1);
        c.phase = Phase::Attached(attachment);
        // The client begins to count now, however long this shard was behind.
        self.liveness.touch(c, attachment.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::session::password;

    #[test]
    fn verdicts_in_their_order() {
        let id = SessionId(0x0100_000d_6217_0000);
        let right = password(id).to_vec();
        let table = [
            (6, SessionId::NONE, vec![], Verdict::CloseSilently),
            (6, id, vec![0; 16], Verdict::CloseSilently),
            (5, SessionId::NONE, vec![1; 3], Verdict::Open),
            (5, id, vec![0; 16], Verdict::Dead),
            (5, id, vec![], Verdict::Dead),
            (5, id, right, Verdict::Reattach),
        ];
        for (seen, session, password, expected) in table {
            let request = ConnectRequest {
                last_zxid_seen: Zxid(seen),
                timeout_ms: 1,
                session,
                password,
                read_only: None,
            };
            assert_eq!(judge(&request, Zxid(5)), expected, "{request:?}");
        }
    }
}
