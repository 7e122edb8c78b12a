//! What clients can have seen: the state of each reply of which the kernel has all bytes. A client may get
//! them behind the death of the process still; of a reply that was cut, it can make nothing.

use super::super::truth::Truth;
use crate::types::{SessionId, Zxid};
use std::collections::BTreeMap;

/// Length of a frame, and the beginning of it that says which state it shows, bytes.
const PREFIX: usize = 4;
const HEAD: usize = PREFIX + 16;

/// A frame on its way into the kernel.
#[derive(Default)]
struct Frame {
    head: Vec<u8>,
    /// Bytes of it that the kernel has.
    taken: usize,
    /// The connection has been answered: this is not the ConnectResponse.
    is_reply: bool,
}

impl Frame {
    /// How long it is, once that is known, bytes.
    fn len(&self) -> Option<usize> {
        let len = self.head.first_chunk::<PREFIX>()?;
        Some(PREFIX + u32::from_be_bytes(*len) as usize)
    }

    /// Takes the beginning of `bytes`, up to its own end, and returns the rest.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let until = self.len().unwrap_or(PREFIX);
        let (own, rest) = bytes.split_at(bytes.len().min(until - self.taken));
        let head = own.len().min(HEAD.saturating_sub(self.taken));
        self.head.extend(&own[..head]);
        self.taken += own.len();
        rest
    }

    fn is_whole(&self) -> bool {
        self.len() == Some(self.taken)
    }
}

#[derive(Default)]
pub(in crate::sim) struct Shown {
    /// By connection.
    frames: BTreeMap<usize, Frame>,
    newest: Zxid,
    /// Sessions that were granted, and whose createSession was not looked up.
    granted: Vec<SessionId>,
}

impl Shown {
    /// The kernel has these bytes for a client.
    pub(in crate::sim) fn handed_over(&mut self, connection: usize, mut bytes: &[u8]) {
        let frame = self.frames.entry(connection).or_default();
        while !bytes.is_empty() {
            bytes = frame.take(bytes);
            if !frame.is_whole() {
                continue;
            }
            let is_reply = std::mem::replace(&mut frame.is_reply, true);
            // Behind the length: xid and zxid, or version, timeout and session.
            match (is_reply, frame.head.get(8..16), frame.head.get(12..20)) {
                (true, Some(zxid), _) => self.newest = self.newest.max(Zxid(number(zxid))),
                (false, _, Some(session)) => self.granted.push(SessionId(number(session))),
                _ => {}
            }
            frame.head.clear();
            frame.taken = 0;
        }
    }

    /// The newest transaction of which a client can know.
    pub(super) fn newest(&mut self, truth: &Truth) -> Zxid {
        for session in self.granted.drain(..) {
            let made = truth.session(session).map(|(made, _)| made);
            self.newest = self.newest.max(made.unwrap_or_default());
        }
        self.newest
    }

    /// The member came back with everything that was shown, or with what the operator has left of it.
    pub(super) fn recovered(&mut self) {
        *self = Shown::default();
    }
}

fn number(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(zxid: i64) -> Vec<u8> {
        let mut bytes = 20_i32.to_be_bytes().to_vec();
        bytes.extend(7_i32.to_be_bytes());
        bytes.extend(zxid.to_be_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn a_reply_is_shown_when_its_last_byte_is_handed_over() {
        let truth = Truth::new(Zxid::ZERO);
        let mut shown = Shown::default();
        shown.handed_over(3, &[0, 0, 0, 2, 1, 1]);
        let bytes = [reply(5), reply(9)].concat();
        for (n, byte) in (1..).zip(&bytes) {
            shown.handed_over(3, &[*byte]);
            let due = [0, 5, 9][n / reply(0).len()];
            assert_eq!(shown.newest(&truth), Zxid(due), "{n}");
        }
        // What another connection has begun is not the end of this one's.
        shown.handed_over(4, &reply(11)[..23]);
        shown.handed_over(3, &reply(10));
        assert_eq!(shown.newest(&truth), Zxid(10));
    }
}
