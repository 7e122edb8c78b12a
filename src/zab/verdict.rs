//! What the protocol between a leader and its learners ends with. What a peer sends can end its connection or a
//! role; there is no third.

use crate::log::Contradiction;
use crate::proto::peer::packet::PacketType;
use crate::types::{Epoch, ServerId, Zxid};

/// Why a role ends. The member looks for a leader again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Leave {
    /// Leader: this server has no history that it could bring to others.
    #[error("a server without its history can't lead")]
    NoHistory,
    /// Leader: in time no quorum has come.
    #[error("no quorum of voters has introduced itself in time")]
    NotIntroduced,
    /// Leader: in time no quorum has promised the epoch.
    #[error("no quorum of voters has promised epoch {0} in time")]
    NotPromised(Epoch),
    /// Leader: in time no quorum has taken over its history.
    #[error("no quorum of voters has acknowledged the history of epoch {0} in time")]
    NotAcknowledged(Epoch),
    /// Leader: no quorum is left of voters that are not ahead of it. One of those is to lead.
    #[error("server {0} has a newer history, and without it there is no quorum")]
    Behind(ServerId),
    /// Leader: it is not heard by a quorum any more.
    #[error("no quorum of voters was heard of in time")]
    NotHeard,
    /// Leader: the counter of zxids is at its end; the next leader begins another.
    #[error("the zxids of epoch {0} are used up")]
    UsedUp(Epoch),
    /// Learner: a packet that the leader must not send here.
    #[error("{0:?} is out of place")]
    Unexpected(PacketType),
    /// Learner: it has promised to follow no such old leader.
    #[error("the leader has epoch {offered}, and {accepted} is promised")]
    OldEpoch {
        /// The leader's.
        offered: Epoch,
        /// Durable here.
        accepted: Epoch,
    },
    /// Learner: DIFF, or TRUNC to a place that it never was at.
    #[error("{0:?} has no base here")]
    NoBase(PacketType),
    /// Learner: a transaction does not follow the one before it (I-13, I-15).
    #[error("transaction {zxid} does not follow {after}")]
    Gap {
        /// The last one.
        after: Zxid,
        /// The one that came.
        zxid: Zxid,
    },
    /// Learner: what is committed is not the oldest transaction that waits for it (I-14).
    #[error("a commit of {0} is out of order")]
    Commit(Zxid),
    /// Learner: the leader's history lacks what this member knows to be committed. Somebody should look.
    #[error("the leader's history ends at {end}, and {committed} is committed")]
    Forgets {
        /// Of the leader's history.
        end: Zxid,
        /// Known here.
        committed: Zxid,
    },
    /// Learner: more came before UPTODATE than it keeps.
    #[error(
        "more than {} bytes wait for the end of a synchronisation",
        super::bounds::PENDING_BYTES_MAX
    )]
    TooMuch,
    /// Learner: a transaction of the leader can't be decoded, or is longer than a segment of the log.
    #[error("transaction {0} of the leader can't be used")]
    Unusable(Zxid),
    /// Learner: the own log does not take the leader's history.
    #[error("the leader's history contradicts the log: {0}")]
    Contradicts(Contradiction),
    /// Learner: a record does not hold the leader's configuration.
    #[error("the leader's configuration is longer than a record holds: {0} bytes")]
    LongConfiguration(usize),
    /// Learner: nothing was heard of the leader for so long.
    #[error("the leader was not heard of in time")]
    Silent,
    /// Learner: the leader could not be connected to.
    #[error("server {0}, which was elected, can't be connected to")]
    Unreachable(ServerId),
    /// Learner: the connection to the leader is gone.
    #[error("the connection to the leader is gone")]
    Lost,
    /// Leader: the configuration has changed before a quorum had promised the epoch.
    #[error("the configuration has changed before there was an epoch")]
    Reconfigured,
}

#[cfg(test)]
impl Leave {
    /// Where nobody lies, only a fault of ours brings it about.
    pub(super) fn is_a_fault(self) -> bool {
        matches!(
            self,
            Leave::Gap { .. }
                | Leave::Commit(_)
                | Leave::Unexpected(_)
                | Leave::Forgets { .. }
                | Leave::Unusable(_)
                | Leave::Contradicts(_)
        )
    }
}

/// Why a leader closes a learner's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Dropped {
    /// A packet that a learner must not send here.
    #[error("{0:?} is out of place")]
    Unexpected(PacketType),
    /// It calls itself what its leader is called.
    #[error("the learner has the leader's id")]
    OwnId,
    /// The same server has come again.
    #[error("the server has another connection")]
    Replaced,
    /// As many as there may be.
    #[error("too many learners")]
    TooMany,
    /// Its configuration is newer than the leader's.
    #[error("the learner has a newer configuration, {0}")]
    Configuration(Zxid),
    /// There is no epoch above the one that it has promised.
    #[error("the learner has promised epoch {0}, and there is none above it")]
    LastEpoch(Epoch),
    /// Its history is ahead of the leader's.
    #[error("the learner is ahead of the leader, with {zxid} in epoch {epoch}")]
    Ahead {
        /// The learner's currentEpoch.
        epoch: Epoch,
        /// What is durable there.
        zxid: Zxid,
    },
    /// Nothing was heard of it for so long.
    #[error("the learner was not heard of in time")]
    Silent,
    /// It has not acknowledged a transaction for so long (docs/peer-protocol.md §2.12).
    #[error("the learner has not acknowledged {0} in time")]
    Unacknowledged(Zxid),
    /// More waits to be sent to it than a learner that keeps up ever has (T16).
    #[error("the learner takes too little of what is sent to it")]
    Slow,
    /// It acknowledges what was not sent to it.
    #[error("an acknowledgement of {0}, which was not sent")]
    NotSent(Zxid),
    /// It answers a ping that was not sent to it.
    #[error("an answer to a ping of {0}, which was not sent")]
    NotAsked(Zxid),
    /// It asks for more than is answered at a time.
    #[error("the learner asks for too much at a time")]
    TooManyAsked,
}

#[cfg(test)]
impl Dropped {
    /// As [`Leave::is_a_fault`].
    pub(super) fn is_a_fault(self) -> bool {
        !matches!(
            self,
            Dropped::Ahead { .. }
                | Dropped::Replaced
                | Dropped::Silent
                | Dropped::Unacknowledged(_)
        )
    }
}

/// How long is waited, in the caller's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Patience {
    /// Until a step of discovery or synchronisation is done, ms: tickTime · initLimit.
    pub init_ms: u64,
    /// For a sign of life, ms: tickTime · syncLimit.
    pub sync_ms: u64,
    /// Between two pings, ms: half of tickTime.
    pub ping_ms: u64,
}
