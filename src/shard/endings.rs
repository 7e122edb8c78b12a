//! How and why the server ends connections: each end that it decides has a reason, which is counted.

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// When its output is written.
    Flush,
    /// At once, without a further byte.
    Discard,
    /// As `Discard`, because its session has ended or is another connection's: what it sends is no sign of life.
    SessionGone,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The other end or the kernel has ended it, or it has not said what it is: the server did not decide.
    Gone,
    /// The client has asked for the end of its session, and was answered.
    Asked,
    /// No ConnectRequest, or no session for it, in time.
    HandshakeTooLate,
    /// The first frame is no ConnectRequest.
    NoHandshake,
    /// The client has seen a newer state than is committed here.
    SeenLater,
    /// The session that the client presents is not there, or the password is not its own.
    SessionDead,
    /// No session could be made: the log has no room for one.
    NoSession,
    /// The ordering core has not let it in, or does not obey it: its session has ended, has moved to another
    /// connection, or was not let go by one.
    NotItsSession,
    /// Its session is another connection's now.
    SessionMoved,
    /// Its session was closed by a request of another connection.
    SessionClosed,
    /// Its session has expired.
    SessionExpired,
    /// Nothing has moved in either direction for longer than the session's timeout, and no request waits.
    Idle,
    /// Nothing of its output was taken for longer than the session's timeout.
    TakesNothing,
    /// A frame's length is negative, or beyond `jute.maxbuffer`.
    FrameLength,
    /// A frame without the header of a request.
    Malformed,
    /// A request of a type that there is not.
    UnknownRequest,
    /// An auth that has failed.
    AuthFailed,
    /// A request without an identity of a scheme that is required.
    NotAdmitted,
    /// There is no memory for its watch.
    NoRoomForWatch,
    /// It holds output that others need, and has taken nothing of it for the longest.
    NoRoomForOutput,
    /// What could not wait was more than its output may hold in excess.
    OutputInExcess,
    /// A transaction has more events than all output may hold, and this output is longer than a share.
    EventsInExcess,
    /// It holds memory for requests that others wait for, and neither sends what that is for nor takes the replies.
    HoldsMemory,
    /// This member has lost its part in its ensemble: it serves nobody until it has another one.
    NoLeader,
}

impl Why {
    /// All, with the names under which they are counted.
    pub const ALL: [(Why, &'static str); 24] = [
        (Why::Gone, "gone"),
        (Why::Asked, "asked"),
        (Why::HandshakeTooLate, "handshake_too_late"),
        (Why::NoHandshake, "no_handshake"),
        (Why::SeenLater, "seen_later"),
        (Why::SessionDead, "session_dead"),
        (Why::NoSession, "no_session"),
        (Why::NotItsSession, "not_its_session"),
        (Why::SessionMoved, "session_moved"),
        (Why::SessionClosed, "session_closed"),
        (Why::SessionExpired, "session_expired"),
        (Why::Idle, "idle"),
        (Why::TakesNothing, "takes_nothing"),
        (Why::FrameLength, "frame_length"),
        (Why::Malformed, "malformed"),
        (Why::UnknownRequest, "unknown_request"),
        (Why::AuthFailed, "auth_failed"),
        (Why::NotAdmitted, "not_admitted"),
        (Why::NoRoomForWatch, "no_room_for_watch"),
        (Why::NoRoomForOutput, "no_room_for_output"),
        (Why::OutputInExcess, "output_in_excess"),
        (Why::EventsInExcess, "events_in_excess"),
        (Why::HoldsMemory, "holds_memory"),
        (Why::NoLeader, "no_leader"),
    ];

    /// The name under which it is counted.
    pub fn name(self) -> &'static str {
        Why::ALL[self as usize].1
    }
}

/// How many connections have ended, by reason, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndCounts([u64; Why::ALL.len()]);

impl EndCounts {
    /// One more has ended.
    pub fn count(&mut self, why: Why) {
        self.0[why as usize] += 1;
    }

    /// Those that have ended for one reason.
    pub fn of(&self, why: Why) -> u64 {
        self.0[why as usize]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason by its name.
    pub fn each(self) -> impl Iterator<Item = (&'static str, u64)> {
        Why::ALL
            .into_iter()
            .map(move |(why, name)| (name, self.of(why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_in_its_place_under_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for (n, (why, name)) in Why::ALL.into_iter().enumerate() {
            assert_eq!((why as usize, why.name()), (n, name));
            assert!(names.insert(name), "{name}");
        }
    }
}
