//! Connections between members: bytes both ways, some of which arrive at a time.

use crate::types::ServerId;
use crate::zab::{LinkId, RoleId};
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
pub struct End {
    pub sid: ServerId,
    pub link: LinkId,
    /// On the way to this end.
    pub coming: VecDeque<u8>,
    /// Arrived, and not yet a whole message.
    pub has: Vec<u8>,
    pub is_closed: bool,
    pub wants_to_say: bool,
    pub is_greeted: bool,
}

#[derive(Debug)]
pub struct Wire {
    pub port: Port,
    pub ends: [End; 2],
    pub is_broken: bool,
}

impl Wire {
    pub fn new(port: Port, dialler: (ServerId, LinkId), acceptor: (ServerId, LinkId)) -> Wire {
        let end = |(sid, link)| End {
            sid,
            link,
            coming: VecDeque::new(),
            has: Vec::new(),
            is_closed: false,
            wants_to_say: false,
            is_greeted: false,
        };
        Wire {
            port,
            ends: [dialler, acceptor].map(end),
            is_broken: false,
        }
    }

    pub fn end_of(&self, sid: ServerId, link: LinkId) -> Option<usize> {
        let is_it = |end: &End| end.sid == sid && end.link == link;
        self.ends.iter().position(is_it)
    }

    pub fn send(&mut self, from: usize, bytes: &[u8]) {
        if !self.ends[from].is_closed {
            self.ends[1 - from].coming.extend(bytes);
        }
    }

    /// Whether this end is to hear that the other one is gone.
    pub fn is_over(&self, at: usize) -> bool {
        let is_gone = self.ends[1 - at].is_closed && self.ends[at].coming.is_empty();
        !self.ends[at].is_closed && (self.is_broken || is_gone)
    }
}

/// A dial that has no outcome yet.
#[derive(Debug)]
pub struct Dial {
    pub from: ServerId,
    /// Of the process.
    pub life: u64,
    pub to: ServerId,
    /// On the quorum port.
    pub role: Option<RoleId>,
}
