//! The client protocol on the wire: framing, handshake, requests, replies, events
//! (docs/protocol.md §1), and beside it the one between servers (`peer`). Bytes in, values out, and back; no state.

pub mod first_bytes;
pub mod forwarded;
pub mod peer;
pub mod reply;
pub mod request;
pub mod session;
pub mod watch_lists;

pub use forwarded::{decode_forwarded, encode_forwarded};
pub use request::{ConnectRequest, ReadRequest, Request, WatchMode, WatchType};
pub use watch_lists::{WatchCursor, WatchList, WatchLists};

use crate::constants::JUTE_MAXBUFFER;

/// What stands at the beginning of a connection's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// More bytes are needed.
    Partial,
    /// A length outside `0..=max`: close (docs/protocol.md §1.1).
    Oversized,
    /// One payload, and how many bytes of input it took.
    Whole(&'a [u8], usize),
}

/// Splits the first frame off; the length is checked before the payload is there.
pub fn split_frame(input: &[u8], max: usize) -> Frame<'_> {
    let Some((head, rest)) = input.split_first_chunk::<4>() else {
        return Frame::Partial;
    };
    let Ok(len) = usize::try_from(i32::from_be_bytes(*head)) else {
        return Frame::Oversized;
    };
    match rest.get(..len) {
        _ if len > max => Frame::Oversized,
        Some(payload) => Frame::Whole(payload, 4 + len),
        None => Frame::Partial,
    }
}

/// Default of the largest frame.
pub const FRAME_MAX: usize = JUTE_MAXBUFFER;
