//! What a member's part in the protocol is told of its connections.

use crate::proto::peer::{Hello, Notification, ToLeader, ToLearner};
use crate::types::{ServerId, Tick};
use crate::zab::{Heard, LinkId, Peer, RoleId};

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Told<'a> {
    // The election port.
    /// A dial has come up.
    Dialled(ServerId, LinkId),
    /// A dial has failed.
    DialFailed(ServerId),
    /// Somebody who has connected has said who it is.
    Accepted(LinkId, Hello),
    /// A notification has come.
    Notified(LinkId, Notification<'a>),

    // The quorum port.
    /// Somebody has introduced itself as a learner.
    LearnerConnected(LinkId),
    /// A packet of a learner.
    FromLearner(LinkId, ToLeader<'a>),
    /// A learner's connection takes what it was given.
    Streaming(LinkId),
    /// It has taken all of it: what its part has sent, or the snapshot.
    Taken(LinkId),
    /// The dial of this role has come up.
    LeaderDialled(RoleId, LinkId),
    /// It has failed.
    LeaderDialFailed(RoleId),
    /// A packet of the leader.
    FromLeader(LinkId, ToLearner<'a>),
    /// Bytes of the leader that are no packet yet.
    Heard(LinkId),

    /// A connection of either port is gone.
    Closed(LinkId),
}

/// What is told next; what has come lies in its connection's input.
#[derive(Debug)]
pub(super) enum Telling {
    Plain(Told<'static>),
    Notification(LinkId),
    OfLearner(LinkId),
    OfLeader(LinkId),
}

/// What a connection has to send next, for which its member's part is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// [`Peer::notification`].
    Notification,
    /// [`Peer::fetch`], so many bytes.
    Packets(usize),
}

impl<'a> Told<'a> {
    /// Tells it. What of it is for others than the protocol comes back.
    pub fn tell(self, peer: &mut Peer, now: Tick) -> Heard<'a> {
        match self {
            Told::Dialled(to, link) => peer.dialled(to, link, now),
            Told::DialFailed(to) => peer.dial_failed(to, now),
            Told::Accepted(link, hello) => peer.accepted(link, hello, now),
            Told::Notified(link, notification) => peer.notified(link, &notification, now),
            Told::LearnerConnected(link) => peer.learner_connected(link, now),
            Told::FromLearner(link, packet) => return peer.from_learner(link, &packet, now),
            Told::Streaming(link) | Told::Taken(link) => peer.streaming(link, now),
            Told::LeaderDialled(role, link) => peer.leader_dialled(role, link, now),
            Told::LeaderDialFailed(role) => peer.leader_dial_failed(role, now),
            Told::FromLeader(link, packet) => peer.from_leader(link, &packet, now),
            Told::Heard(link) => peer.heard(link, now),
            Told::Closed(link) => peer.closed(link, now),
        }
        Heard::Nothing
    }
}

impl Wanted {
    /// Appends it.
    pub fn fill(self, peer: &mut Peer, link: LinkId, now: Tick, out: &mut Vec<u8>) {
        match self {
            Wanted::Notification => drop(peer.notification(link, out)),
            Wanted::Packets(max) => peer.fetch(link, max, now, out),
        }
    }
}
