//! With what a server goes into an election.

use crate::log::{Durable, LogEnd};
use crate::proto::peer::Vote;
use crate::types::{Epoch, ServerId, VoteEpoch, Zxid};
use crate::zab::tally::Pair;

/// The last wait of an election, ms: quorums propose the same, and somebody better may still come (Apache's value).
pub const FINALIZE_MS: u64 = 200;
/// The same where all voters are known to be ours: none of them takes longer to answer on a network that serves.
pub const FINALIZE_OURS_MS: u64 = 20;

const _: () = assert!(FINALIZE_OURS_MS <= FINALIZE_MS);

/// What a server has to offer in an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offer(pub(super) History);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum History {
    Whole { epoch: Epoch, zxid: Zxid },
    Fresh,
    Maimed,
}

impl Offer {
    /// What is durable of the history of `epoch`, and no more: not what is logged, not what is applied (I-4). Other
    /// ends of the log than a durable one do not fit:
    ///
    /// ```compile_fail
    /// let logged = ringkeeper::log::LogEnd::default();
    /// ringkeeper::zab::Offer::of(ringkeeper::types::Epoch(1), &logged);
    /// ```
    pub fn of(epoch: Epoch, end: &Durable<LogEnd>) -> Offer {
        Offer(History::Whole {
            epoch,
            zxid: end.zxid(),
        })
    }

    /// Nothing at all: a new server, or one whose disks were wiped. Nobody can tell, so it counts nobody and is not
    /// counted, until all voters are found to be as empty as it is, or a leader that is active without it has
    /// synchronised it.
    pub const FRESH: Offer = Offer(History::Fresh);

    /// Something that was durable is missing: as [`Offer::FRESH`], but others must not take the ensemble for a new
    /// one, so it never looks empty.
    pub const MAIMED: Offer = Offer(History::Maimed);

    /// currentEpoch and the end of a history that is whole.
    pub(in crate::zab) fn whole(self) -> Option<(Epoch, Zxid)> {
        match self.0 {
            History::Whole { epoch, zxid } => Some((epoch, zxid)),
            History::Fresh | History::Maimed => None,
        }
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// This server.
    pub sid: ServerId,
    /// It is configured to follow without a vote.
    pub is_observer: bool,
    /// The last wait: [`FINALIZE_MS`], or [`FINALIZE_OURS_MS`] where every voter is known to be ours.
    pub finalize_ms: u64,
}

impl Candidate {
    /// What it proposes first.
    pub(super) fn vote(&self, offer: Offer, pair: &Pair) -> Vote {
        if self.is_observer {
            return Vote::NOBODY;
        }
        let (epoch, zxid) = match offer.0 {
            History::Whole { epoch, zxid } => (i64::from(epoch.0), zxid),
            History::Fresh => (0, Vote::NO_HISTORY),
            History::Maimed => (1, Vote::NO_HISTORY),
        };
        let votes = pair.committed().is_voter(self.sid);
        Vote {
            epoch: VoteEpoch(epoch),
            zxid,
            leader: if votes { self.sid } else { Vote::NOBODY.leader },
        }
    }
}
