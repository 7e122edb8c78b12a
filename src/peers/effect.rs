//! What the driver of the sockets, and the owner of the member, must do.

use super::snapshot::SnapshotError;
use crate::proto::peer::Address;
use crate::proto::peer::hello::HelloError;
use crate::proto::peer::learner::{Forwarded, PeerError};
use crate::proto::peer::packet::{PacketError, PacketType};
use crate::types::{OpCode, SessionId, Zxid};
use crate::zab::{Dropped, Effect, Learner, LinkId};

/// One of the two ports that a member listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Where all members talk about who leads.
    Election,
    /// Where a leader is found by its learners.
    Quorum,
}

/// One thing to do, in order, each before the next event is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeersEffect {
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
    /// What is not about sockets, as [`zab::Effect`](Effect) says.
    Member(Effect),
    /// A learner has passed a request of a client on.
    Request(LinkId, Request),
    /// A client has come to a learner with this session; for [`Peer::revalidated`](crate::zab::Peer::revalidated).
    Revalidate {
        /// The learner's.
        link: LinkId,
        /// Which.
        session: SessionId,
        /// Negotiated, ms.
        timeout_ms: i32,
    },
    /// Sessions that a learner has heard of, and their timeouts, ms.
    Touched(LinkId, Vec<(SessionId, i32)>),

    // A learner is synchronised.
    /// Decide what it is sent ([`decide`](crate::zab::decide)), then [`Peers::synchronise`](super::Peers::synchronise).
    Synchronise {
        /// Its connection.
        link: LinkId,
        /// Who.
        learner: Learner,
        /// What is durable there; below 0: nothing to go on from.
        last: Zxid,
    },
    /// Read the next piece beside the core, then [`Peers::piece`](super::Peers::piece). One is under way for each
    /// learner.
    Read(LinkId, Source),
    /// No more is read for this learner, or kept from the leader of this connection.
    Over(LinkId),

    // This member is synchronised.
    /// Keep the snapshot of this state beside what is there; its bytes follow.
    Snapshot(LinkId, Zxid),
    /// The next bytes; then [`Peers::snapshot_taken`](super::Peers::snapshot_taken), for the last ones when all of it
    /// is durable. Nothing is received before that.
    SnapshotBytes {
        /// The leader's connection.
        link: LinkId,
        /// In the form of docs/peer-protocol.md §2.8; only the lengths were looked at.
        bytes: Vec<u8>,
        /// All of it is there.
        is_last: bool,
    },
}

/// From where a learner's next piece comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The snapshot that was chosen, from where the last piece ended.
    Snapshot,
    /// The log.
    Log {
        /// Behind this transaction.
        after: Zxid,
        /// Up to this one at most, which is committed.
        upto: Zxid,
    },
}

/// What was read for a learner: about [`STREAM_PIECE`](super::STREAM_PIECE) bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Of the snapshot.
    Snapshot {
        /// In the form of docs/peer-protocol.md §2.8.
        bytes: Vec<u8>,
        /// The log comes next.
        is_last: bool,
    },
    /// Of the log: committed transactions as they are stored, in order, at least one.
    Log(Vec<(Zxid, Vec<u8>)>),
    /// It can't be read any more. The learner comes again.
    Lost,
}

/// A client's request that was passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's.
    pub session: SessionId,
    /// By which the learner knows the transaction again.
    pub cxid: i32,
    /// What to do.
    pub op: OpCode,
    /// As the client sent it.
    pub body: Vec<u8>,
    /// Scheme and id of each identity; `None` but for createSession and closeSession is a mistake of the learner's.
    pub ids: Option<Vec<Id>>,
}

/// Scheme and id, as they were sent.
pub type Id = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Request {
    pub(super) fn of(request: &Forwarded<'_>) -> Request {
        let owned = |text: Option<&[u8]>| text.map(<[u8]>::to_vec);
        let ids = request.ids.map(|ids| {
            let ids = ids.iter();
            ids.map(|(scheme, id)| (owned(scheme), owned(id))).collect()
        });
        Request {
            session: request.session,
            cxid: request.cxid,
            op: request.op,
            body: request.body.to_vec(),
            ids,
        }
    }
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
