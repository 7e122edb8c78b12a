//! Connections between members: bytes that arrive some at a time, in their order.

use crate::types::ServerId;
use crate::zab::LinkId;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Election,
    Quorum,
}

/// Which end: who has dialled, or who has accepted.
pub(super) const DIALLER: usize = 0;
pub(super) const ACCEPTOR: usize = 1;

/// Bytes on their way in one direction, from which on nothing more is fetched for it.
const WINDOW: usize = 64 << 10;

/// Bytes on their way.
#[derive(Debug)]
struct Chunk {
    /// When they arrive, µs.
    at: u64,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) sid: ServerId,
    pub(super) link: LinkId,
    coming: VecDeque<Chunk>,
    coming_bytes: usize,
    /// Arrived, and not yet a whole message.
    pub(super) has: Vec<u8>,
    /// The member knows of it.
    pub(super) is_known: bool,
    pub(super) is_closed: bool,
    /// An arrival is due.
    pub(super) is_expected: bool,
    pub(super) wants_to_say: bool,
    pub(super) is_greeted: bool,
    /// Something was sent that the member was not told to be taken.
    pub(super) is_untaken: bool,
    /// UPTODATE has come.
    pub(super) is_current: bool,
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) port: Port,
    pub(super) ends: [End; 2],
    pub(super) is_broken: bool,
}

impl Wire {
    pub(super) fn new(
        port: Port,
        dialler: (ServerId, LinkId),
        acceptor: (ServerId, LinkId),
    ) -> Wire {
        let end = |(sid, link)| End {
            sid,
            link,
            coming: VecDeque::new(),
            coming_bytes: 0,
            has: Vec::new(),
            is_known: false,
            is_closed: false,
            is_expected: false,
            wants_to_say: false,
            is_greeted: false,
            is_untaken: false,
            is_current: false,
        };
        Wire {
            port,
            ends: [dialler, acceptor].map(end),
            is_broken: false,
        }
    }

    /// Puts bytes on their way to the other end; when they arrive there.
    pub(super) fn send(&mut self, from: usize, bytes: Vec<u8>, at: u64) -> u64 {
        let end = &mut self.ends[1 - from];
        let at = end.coming.back().map_or(at, |last| last.at.max(at));
        end.coming_bytes += bytes.len();
        end.coming.push_back(Chunk { at, bytes });
        at
    }

    /// Whether more may be put on the way from that end.
    pub(super) fn has_room(&self, from: usize) -> bool {
        self.ends[1 - from].coming_bytes + self.ends[1 - from].has.len() < WINDOW
    }

    /// Whether all that was sent to this end has arrived.
    pub(super) fn is_drained(&self, at: usize) -> bool {
        self.ends[at].coming.is_empty()
    }
}

impl End {
    /// When the next bytes arrive.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.coming.front().map(|chunk| chunk.at)
    }

    /// Takes of what has arrived by `now` so many bytes at most.
    pub(super) fn take(&mut self, now: u64, max: usize) {
        let mut left = max;
        while left > 0
            && let Some(chunk) = self.coming.front_mut().filter(|chunk| chunk.at <= now)
        {
            let some = chunk.bytes.len().min(left);
            self.has.extend(chunk.bytes.drain(..some));
            self.coming_bytes -= some;
            left -= some;
            if chunk.bytes.is_empty() {
                self.coming.pop_front();
            }
        }
    }
}
