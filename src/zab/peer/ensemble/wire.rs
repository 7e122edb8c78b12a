//! Connections: bytes both ways, of which any part arrives at any time, and which break at any byte.

use crate::peers::Port;
use crate::types::ServerId;
use crate::zab::links::LinkId;
use std::collections::VecDeque;

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
    /// This end has closed it, or was told that it is gone.
    pub is_closed: bool,
    /// It has said something.
    pub has_begun: bool,
    /// Of what this end has to say and has not said, so much was looked at.
    pub checked: usize,
}

impl Terminal {
    fn new(sid: ServerId, link: LinkId) -> Terminal {
        Terminal {
            sid,
            link,
            coming: VecDeque::new(),
            is_closed: false,
            has_begun: false,
            checked: 0,
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

    /// The end that a server calls so. Each of its processes begins to number anew.
    pub fn end_of(&self, sid: ServerId, link: LinkId) -> Option<usize> {
        let mut ends = self.ends.iter();
        ends.position(|end| (end.sid, end.link) == (sid, link) && !end.is_closed)
    }

    /// What one end sends.
    pub fn send(&mut self, from: usize, bytes: &[u8]) {
        if !self.ends[from].is_closed {
            self.ends[1 - from].coming.extend(bytes);
        }
    }

    /// Bytes arrive at an end.
    pub fn carry(&mut self, to: usize, n: usize) -> Vec<u8> {
        let end = &mut self.ends[to];
        let n = match self.is_broken || end.is_closed {
            true => 0,
            false => n.min(end.coming.len()),
        };
        end.coming.drain(..n).collect()
    }

    /// Whether an end is to hear that the other one is gone: behind what that one has sent.
    pub fn is_over(&self, at: usize) -> bool {
        let is_gone = self.ends[1 - at].is_closed && self.ends[at].coming.is_empty();
        !self.ends[at].is_closed && (self.is_broken || is_gone)
    }
}
