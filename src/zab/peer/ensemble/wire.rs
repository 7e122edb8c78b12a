//! Connections: bytes both ways, of which any part arrives at any time, and which break at any byte.

use crate::types::ServerId;
use crate::zab::links::LinkId;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Election,
    Quorum,
}

/// Which end: who has dialled, or who has accepted.
pub const DIALLER: usize = 0;
pub const ACCEPTOR: usize = 1;

#[derive(Debug)]
pub struct Wire {
    pub port: Port,
    pub ends: [Terminal; 2],
    /// Nothing arrives any more.
    pub is_broken: bool,
}

#[derive(Debug)]
pub struct Terminal {
    pub sid: ServerId,
    pub link: LinkId,
    /// On the way to this end.
    pub coming: VecDeque<u8>,
    /// Arrived, and not yet a whole message.
    pub has: Vec<u8>,
    /// This end has closed it, or was told that it is gone.
    pub is_closed: bool,
    /// Something was to be said, when there is room.
    pub wants_to_say: bool,
    /// Election port, acceptor: the first message has come.
    pub is_greeted: bool,
}

impl Terminal {
    fn new(sid: ServerId, link: LinkId) -> Terminal {
        Terminal {
            sid,
            link,
            coming: VecDeque::new(),
            has: Vec::new(),
            is_closed: false,
            wants_to_say: false,
            is_greeted: false,
        }
    }
}

impl Wire {
    pub fn new(port: Port, dialler: (ServerId, LinkId), acceptor: (ServerId, LinkId)) -> Wire {
        let ends = [dialler, acceptor].map(|(sid, link)| Terminal::new(sid, link));
        Wire {
            port,
            ends,
            is_broken: false,
        }
    }

    pub fn end_of(&self, link: LinkId) -> Option<usize> {
        self.ends.iter().position(|end| end.link == link)
    }

    /// What one end sends.
    pub fn send(&mut self, from: usize, bytes: &[u8]) {
        if !self.ends[from].is_closed {
            self.ends[1 - from].coming.extend(bytes);
        }
    }

    /// Bytes arrive at an end.
    pub fn carry(&mut self, to: usize, n: usize) {
        if !self.is_broken {
            let end = &mut self.ends[to];
            let n = n.min(end.coming.len());
            end.has.extend(end.coming.drain(..n));
        }
    }

    /// Whether an end is to hear that the other one is gone: behind what that one has sent.
    pub fn is_over(&self, at: usize) -> bool {
        let is_gone = self.ends[1 - at].is_closed && self.ends[at].coming.is_empty();
        !self.ends[at].is_closed && (self.is_broken || is_gone)
    }
}
