//! What a server says in an election (docs/peer-protocol.md §1.4).

use crate::types::{ServerId, VoteEpoch, Zxid};

/// Whom a server proposes as leader, and why: that server's history. Votes are ordered by what the proposed leader
/// has adopted, then by how much of it is durable there, then by its id; all numbers are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// currentEpoch of the proposed leader.
    pub epoch: VoteEpoch,
    /// Its last durable transaction.
    pub zxid: Zxid,
    /// The proposed leader.
    pub leader: ServerId,
}

impl Vote {
    /// In place of a zxid from a server whose directory is empty although it should not be: it counts in no election
    /// and counts nobody.
    pub const NO_HISTORY: Zxid = Zxid(-1);
    /// From a server that is no voter and proposes nobody.
    pub const NOBODY: Vote = Vote {
        epoch: VoteEpoch(i64::MIN),
        zxid: Zxid(i64::MIN),
        leader: ServerId(i64::MIN),
    };
}

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerState {
    /// It has no leader.
    Looking,
    /// It follows one, with a vote.
    Following,
    /// It leads.
    Leading,
    /// It follows one, without a vote.
    Observing,
}

impl PeerState {
    /// As the wire has it.
    pub const fn number(self) -> i32 {
        match self {
            PeerState::Looking => 0,
            PeerState::Following => 1,
            PeerState::Leading => 2,
            PeerState::Observing => 3,
        }
    }

    /// From the wire.
    pub const fn of(number: i32) -> Option<PeerState> {
        match number {
            0 => Some(PeerState::Looking),
            1 => Some(PeerState::Following),
            2 => Some(PeerState::Leading),
            3 => Some(PeerState::Observing),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_ordered_by_epoch_then_zxid_then_server_and_signed() {
        let vote = |epoch, zxid, leader| Vote {
            epoch: VoteEpoch(epoch),
            zxid: Zxid(zxid),
            leader: ServerId(leader),
        };
        let rising = [
            Vote::NOBODY,
            vote(-1, 9, 9),
            vote(0, -1, 3),
            vote(0, 0, 1),
            vote(0, 0, 2),
            vote(0, 5, 1),
            vote(1, 0, 1),
            vote(1, 1 << 32, 1),
            vote(2, 0, -4),
        ];
        assert!(rising.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn states_have_apaches_numbers() {
        for number in -1..=4 {
            assert_eq!(
                PeerState::of(number).map(PeerState::number),
                (0..4).contains(&number).then_some(number)
            );
        }
    }
}
