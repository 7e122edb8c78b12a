//! What the driver of the sockets, and the owner of the member, must do.

use super::snapshot::SnapshotError;
use super::told::Told;
use crate::proto::peer::Address;
use crate::proto::peer::hello::HelloError;
use crate::proto::peer::learner::PeerError;
use crate::proto::peer::packet::{PacketError, PacketType};
use crate::zab::{Dropped, LinkId};

/// One of the two ports that a member listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Where all members talk about who leads.
    Election,
    /// Where a leader is found by its learners.
    Quorum,
}

/// One thing to do, in order, each before the next event is told.
#[derive(Clone, Debug, PartialEq)]
pub enum PeersEffect<'a> {
    // Sockets.
    /// Connect, then [`Peers::dialled`](super::Peers::dialled) or [`Peers::dial_failed`](super::Peers::dial_failed).
    Dial {
        /// What the connection is called.
        link: LinkId,
        /// Where; a name is looked up for each dial.
        to: Address,
    },
    /// Take connections on the quorum port, or none any more.
    Listen(bool),
    /// Close the socket, or give the dial up. Nobody asks for it again.
    Close(LinkId, Option<Closed>),

    // The member.
    /// Its part hears of this, and what it wants is done before the next is asked for.
    Tell(Told<'a>),

    // A snapshot goes to a learner.
    /// Read the next piece beside the core, then [`Peers::piece`](super::Peers::piece). One is under way for each
    /// learner.
    Read(LinkId),
    /// No more is read for this learner, or kept from the leader of this connection.
    Over(LinkId),

    // A snapshot comes from the leader.
    /// The next bytes of the one that was to be read; then
    /// [`Peers::snapshot_taken`](super::Peers::snapshot_taken), for the last ones when all of it is durable. Nothing is
    /// received before that.
    SnapshotBytes {
        /// The leader's connection.
        link: LinkId,
        /// In a form of docs/peer-protocol.md §2.8; only the lengths were looked at.
        bytes: Vec<u8>,
        /// All of it is there.
        is_last: bool,
    },
}

/// What was read for a learner: about [`STREAM_PIECE`](super::STREAM_PIECE) bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Of the snapshot.
    Snapshot {
        /// In a form of docs/peer-protocol.md §2.8.
        bytes: Vec<u8>,
        /// There are no more.
        is_last: bool,
    },
    /// It can't be read any more. The learner comes again.
    Lost,
}

/// Why a connection was ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The leader has no use for it.
    #[error(transparent)]
    Dropped(#[from] Dropped),
    /// Its first message can't be read.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// A packet can't be split off.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A packet's data can't be read.
    #[error(transparent)]
    Data(#[from] PeerError),
    /// What follows a SNAP is none.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A frame of an election port.
    #[error("a frame is empty or too long")]
    Frame,
    /// Its first packet is no introduction.
    #[error("{0:?} comes before an introduction")]
    NotIntroduced(PacketType),
    /// It has not said who it is.
    #[error("it has not said in time who it is")]
    Unnamed,
    /// As many as there may be.
    #[error("too many connections have not said who they are")]
    TooManyUnnamed,
    /// As many as there may be.
    #[error("too many servers that no configuration names are connected")]
    TooManyStrangers,
    /// Their unparsed bytes.
    #[error("servers that no configuration names have sent too much at a time")]
    TooMuchOfStrangers,
    /// A message has begun and does not end.
    #[error("a message was not whole in time")]
    Unfinished,
    /// Nothing that is sent is taken.
    #[error("nothing of what is sent to it was taken in time")]
    Stuck,
    /// What waits to be sent.
    #[error("it takes too little of what is sent to it")]
    Slow,
    /// What it is synchronised with can't be read any more.
    #[error("what it is synchronised with is not there any more")]
    Lost,
    /// A snapshot, or an entry, that this member can't use.
    #[error("what it has sent can't be used")]
    Refused,
    /// A dial was not decided.
    #[error("it could not be connected to in time")]
    NoAnswer,
    /// The port is closed, or the role has ended.
    #[error("nobody listens any more")]
    NotListening,
}
