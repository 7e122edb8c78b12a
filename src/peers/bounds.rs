//! How much is kept for peers at most. What a bound ends is a connection or a dial, never a packet within a stream.

use crate::proto::peer::hello::ADDRESSES_MAX;

/// Connections of both ports that have not said who they are. One more, and of the address that has the most of them
/// the oldest ends.
pub const UNNAMED_MAX: usize = 256;
/// Connections of servers that no configuration names, both ports together. One more ends at once.
pub const STRANGERS_MAX: usize = 256;
/// Unparsed bytes of all who are no members. Whose bytes go beyond ends.
pub const STRANGERS_INPUT_MAX: usize = 16 << 20;
/// The longest first message of an election port: version, id, length, addresses.
pub const HELLO_MAX: usize = 20 + ADDRESSES_MAX;
/// Data of the first packet of a quorum port: 36 bytes today.
pub const INTRODUCTION_MAX: usize = 256;
/// Bytes received from a connection at a time.
pub const READ_MAX: usize = 64 << 10;
/// The same, of a server that no configuration names: all of them cost no more than a few members.
pub const STRANGER_READ_MAX: usize = 4 << 10;
/// Bytes taken from the state machines for a connection at a time, or one packet that is longer.
pub const PIECE: usize = 64 << 10;
/// Bytes of a snapshot, or of entries from the log, that are asked for at a time; a longer entry comes alone.
pub const STREAM_PIECE: usize = 256 << 10;
/// What waits to be sent and is not paced: what a learner tells its leader. Beyond, the connection ends.
pub const UNSENT_MAX: usize = 16 << 20;
/// Addresses at which one server is tried; further ones that it announces are left out.
pub const DIAL_ADDRESSES_MAX: usize = 16;
/// Dials to servers that no configuration names. One more fails at once.
pub const STRANGERS_DIALLED_MAX: usize = 32;
/// The least time for one of several addresses, ms.
pub const DIAL_MS_MIN: u64 = 500;

// A stream that is asked for when so much is left fits beside it.
const _: () = assert!(PIECE + STREAM_PIECE < UNSENT_MAX);
const _: () = assert!(STRANGERS_MAX * STRANGER_READ_MAX <= STRANGERS_INPUT_MAX / 2);
const _: () = assert!(HELLO_MAX <= STRANGER_READ_MAX);
// Strangers and those who have not spoken leave room for every member (zab's bound of learners).
const _: () =
    assert!(STRANGERS_MAX + 2 * crate::zab::quorum::VOTERS_MAX <= crate::zab::LEARNERS_MAX);
