//! The decisions of the connect handshake (client.md §1.3).

use crate::proto::ConnectRequest;
use crate::proto::session::is_password;
use crate::types::{SessionId, Zxid};

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
