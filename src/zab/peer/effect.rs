//! What a member's driver must do for its part in the ensemble.

use crate::log::Epochs;
use crate::proto::peer::Address;
use crate::types::{Epoch, ServerId, SessionId, Zxid};
use crate::zab::decided::Decided;
use crate::zab::follow::SyncId;
use crate::zab::learner::Learner;
use crate::zab::links::LinkId;
use crate::zab::sync::Base;
use crate::zab::verdict::{Dropped, Leave};
use std::sync::Arc;

/// Counts the roles of a process. What was begun for an earlier one is known by it, and means nothing any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleId(pub u64);

/// As what a member serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// It orders the transactions of this epoch.
    Leader(Epoch),
    /// It passes writes on.
    Follower,
    /// The same, without a vote.
    Observer,
}

/// One thing to do. They are done in their order, all of them before the next event is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    // Connections. Both ports number theirs in one row.
    /// Election port: connect, then [`Peer::dialled`](super::Peer::dialled) or
    /// [`Peer::dial_failed`](super::Peer::dial_failed).
    Dial {
        /// To whom.
        to: ServerId,
        /// Where it says that it listens; where that is empty, the configuration knows.
        announced: Vec<Address>,
    },
    /// Election port: send the own first message, in one write.
    SayHello(LinkId),
    /// Election port: there is something to say. When the connection takes bytes,
    /// [`Peer::notification`](super::Peer::notification) has what is true by then.
    Notify(LinkId),
    /// Quorum port: connect, then [`Peer::leader_dialled`](super::Peer::leader_dialled) or
    /// [`Peer::leader_dial_failed`](super::Peer::leader_dial_failed).
    DialLeader {
        /// For which role.
        role: RoleId,
        /// To whom.
        leader: ServerId,
    },
    /// Quorum port: take connections, or none any more.
    Listen(bool),
    /// Quorum port: send.
    Send(LinkId, Vec<u8>),
    /// Close, behind what was to be sent before.
    Close(LinkId, Option<Dropped>),
    /// Quorum port: what comes next is the bytes of this snapshot; then
    /// [`Peer::snapshot_received`](super::Peer::snapshot_received).
    ReadSnapshot {
        /// The leader's connection.
        link: LinkId,
        /// Of the snapshot.
        zxid: Zxid,
    },
    /// Quorum port: decide what this learner is sent ([`decide`](crate::zab::decide)), send it, up to what
    /// [`Peer::leading`](super::Peer::leading) has committed at most,
    /// then [`Peer::attach`](super::Peer::attach).
    Synchronise {
        /// Its connection.
        link: LinkId,
        /// Who.
        learner: Learner,
        /// What is durable there; below 0: nothing, or nothing that it would go on from.
        last: Zxid,
    },

    // The disk.
    /// Write the member's record, durably; then [`Peer::recorded`](super::Peer::recorded).
    Record {
        /// What it says from then on.
        epochs: Epochs,
        /// Text of the last seen configuration, where it changes.
        config: Option<Arc<[u8]>>,
    },
    /// Open a synchronisation in the log. Until it is closed nothing that is there is replaced.
    Open(Base),
    /// Append.
    Append {
        /// Of the entry.
        zxid: Zxid,
        /// As it was received.
        entry: Arc<[u8]>,
    },
    /// Close the synchronisation and sync; then [`Peer::adopted`](super::Peer::adopted).
    Adopt(Epoch),

    // The state machine and the clients.
    /// Commit, and apply. What is not durable yet may be applied all the same.
    Commit(Decided),
    /// The configuration of this transaction is committed with it, and names who is to lead.
    Activate(Zxid, ServerId),
    /// Clients are served from here on. What was committed is applied.
    Serve(RoleId, Duty),
    /// A sync of a client of this member is done.
    Synced(SyncId),
    /// What the leader says of a session that has come from another member.
    Revalidated {
        /// Which.
        session: SessionId,
        /// It lives, and is this member's.
        is_valid: bool,
    },

    // The end of a role, in this order.
    /// No request is taken any more, and the connections of clients end.
    StopServing(RoleId),
    /// The role has ended, and why; its connections close next.
    Left(RoleId, Leave),
    /// Make everything that was appended durable; a synchronisation that is open is void. Then
    /// [`Peer::flushed`](super::Peer::flushed).
    Flush(RoleId),
}
