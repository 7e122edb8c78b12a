//! Connections between the election ports (docs/peer-protocol.md §1.1–1.3): one for each pair of servers, both ways,
//! and it is the one that the larger id has dialled.
//!
//! | # | What happens | What is done |
//! |---|---|---|
//! | 1 | a message for a server with a connection | it takes the place of one that has not been sent |
//! | 2 | the same, without a connection | it waits; the server is dialled, unless it is being dialled |
//! | 3 | the same, for a stranger without a connection | it is dropped: nobody knows where to dial |
//! | 4 | a dial to a smaller id comes up | hello; it is the connection, an older one closes |
//! | 5 | a dial to a larger id comes up | hello, then it closes: the other server dials back |
//! | 6 | a dial fails | who has no connection is out of reach |
//! | 7 | hello from a larger id | it is the connection, an older one closes |
//! | 8 | hello from a smaller id | it closes, an older one too; the sender is dialled back |
//! | 9 | the same, while that server is being dialled | it closes; one connection is on its way already |
//! | 10 | hello from the own id | it closes: a mistake of configuration (Apache lets it hang) |
//! | 11 | hello from an observer without an id | it is given a negative one; then row 8 |
//! | 12 | hello from a smaller id that can't be dialled back | it closes |
//! | 13 | hello from a stranger beyond [`PEERS_MAX`] | it closes |
//! | 14 | a connection closes | nothing, until there is a message |
//!
//! On a new connection the election says what it would say now ([`Election::connected`](super::Election::connected)).
//! Apache sends the last message again, which may be older than the receiver's life.

use super::election::Said;
use crate::proto::peer::{Address, Hello};
use crate::types::ServerId;
use std::collections::{BTreeMap, VecDeque};

/// Servers that are remembered at a time: every voter twice over, and observers.
pub const PEERS_MAX: usize = 1024;
/// What an observer without an id calls itself.
const ANONYMOUS: ServerId = ServerId(i64::MAX);

const _: () = assert!(PEERS_MAX >= 2 * super::quorum::VOTERS_MAX);

/// A connection, as the driver numbers it; a number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkEffect {
    /// Connect, then tell [`Links::dialled`] or [`Links::dial_failed`].
    Dial {
        /// To whom.
        to: ServerId,
        /// Where it says that it listens; where that is empty, the configuration knows.
        announced: Vec<Address>,
    },
    /// Send the own [`Hello`], in one write.
    SayHello(LinkId),
    /// Close, behind what was to be sent before.
    Close(LinkId),
    /// For [`Election::connected`](super::Election::connected).
    Connected(ServerId),
    /// For [`Election::unreachable`](super::Election::unreachable).
    Unreachable(ServerId),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    link: Option<LinkId>,
    is_being_dialled: bool,
    /// The newest message, until a connection takes it: only the newest vote of a server means anything.
    message: Option<Said>,
}

impl Peer {
    fn is_forgotten(&self) -> bool {
        self.link.is_none() && !self.is_being_dialled && self.message.is_none()
    }
}

/// A server's connections to the election ports of the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Links {
    me: ServerId,
    peers: BTreeMap<ServerId, Peer>,
    /// The last id that was given to an observer without one.
    last_given: ServerId,
    out: VecDeque<LinkEffect>,
}

impl Links {
    /// No connections.
    pub fn new(me: ServerId) -> Links {
        Links {
            me,
            peers: BTreeMap::new(),
            last_given: ServerId(0),
            out: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<LinkEffect> {
        self.out.pop_front()
    }

    /// Whose connection it is; `None` for one that is none, or not any more.
    pub fn peer(&self, link: LinkId) -> Option<ServerId> {
        let mut peers = self.peers.iter();
        peers.find_map(|(sid, peer)| (peer.link == Some(link)).then_some(*sid))
    }

    /// The connection to a server.
    pub fn link(&self, to: ServerId) -> Option<LinkId> {
        self.peers.get(&to)?.link
    }

    /// What a connection with room is to send next.
    pub fn take(&mut self, link: LinkId) -> Option<Said> {
        let sid = self.peer(link)?;
        self.peers.get_mut(&sid)?.message.take()
    }

    /// Rows 1 to 3. `is_member`: the configuration knows where to dial.
    pub fn send(&mut self, said: Said, is_member: bool) {
        let to = said.to;
        if to == self.me {
            return;
        }
        let peer = self.peers.entry(to).or_default();
        peer.message = Some(said);
        if peer.link.is_some() || peer.is_being_dialled {
            return;
        }
        if is_member {
            self.dial(to, Vec::new());
        } else {
            self.peers.remove(&to);
        }
    }

    /// Rows 4 and 5.
    pub fn dialled(&mut self, to: ServerId, link: LinkId) {
        let Some(peer) = self.peers.get_mut(&to).filter(|peer| peer.is_being_dialled) else {
            self.out.push_back(LinkEffect::Close(link));
            return;
        };
        peer.is_being_dialled = false;
        self.out.push_back(LinkEffect::SayHello(link));
        if to < self.me {
            self.establish(to, link);
        } else {
            self.out.push_back(LinkEffect::Close(link));
        }
    }

    /// Row 6.
    pub fn dial_failed(&mut self, to: ServerId) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.is_being_dialled = false;
            if peer.link.is_none() {
                self.out.push_back(LinkEffect::Unreachable(to));
            }
        }
    }

    /// Rows 7 to 13: a connection that somebody has dialled has said its hello. `is_member`: the configuration knows
    /// where to dial that id.
    pub fn accepted(&mut self, link: LinkId, hello: Hello, is_member: bool) {
        let from = match hello.sid {
            ANONYMOUS => self.give_id(),
            sid => sid,
        };
        let is_known = self.peers.contains_key(&from);
        let has_room = is_member || is_known || self.peers.len() < PEERS_MAX;
        if from == self.me || !has_room {
            self.out.push_back(LinkEffect::Close(link));
        } else if from > self.me {
            self.establish(from, link);
        } else {
            self.out.push_back(LinkEffect::Close(link));
            if self
                .peers
                .get(&from)
                .is_some_and(|peer| peer.is_being_dialled)
            {
                return;
            }
            // Its sender has no connection, or it would not dial.
            self.hang_up(from);
            if is_member || !hello.addresses.is_empty() {
                self.dial(from, hello.addresses);
            } else {
                self.peers.remove(&from);
            }
        }
    }

    /// Row 14: closed by the other side, or broken.
    pub fn closed(&mut self, link: LinkId) {
        if let Some(sid) = self.peer(link) {
            let peer = self.peers.entry(sid).or_default();
            peer.link = None;
            // Nobody will ever dial an id that was given here.
            if peer.is_forgotten() || sid.0 < 0 && !peer.is_being_dialled {
                self.peers.remove(&sid);
            }
        }
    }

    fn dial(&mut self, to: ServerId, announced: Vec<Address>) {
        self.peers.entry(to).or_default().is_being_dialled = true;
        self.out.push_back(LinkEffect::Dial { to, announced });
    }

    fn establish(&mut self, with: ServerId, link: LinkId) {
        self.hang_up(with);
        self.peers.entry(with).or_default().link = Some(link);
        self.out.push_back(LinkEffect::Connected(with));
    }

    fn hang_up(&mut self, with: ServerId) {
        let link = self.peers.get_mut(&with).and_then(|peer| peer.link.take());
        self.out.extend(link.map(LinkEffect::Close));
    }

    fn give_id(&mut self) -> ServerId {
        // As many as there are: none comes twice while it is in use.
        self.last_given = ServerId(self.last_given.0.checked_sub(1).unwrap_or(-1));
        self.last_given
    }
}

#[cfg(test)]
mod tests;
