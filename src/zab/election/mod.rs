//! Who leads (docs/peer-protocol.md §1.5–1.8): Apache's fast leader election, driven by events.
//!
//! Each server that looks for a leader proposes itself, adopts every better proposal of its round, and settles when
//! quorums propose the same. A settled server tells those who look whom it has settled on. An election is safe
//! whatever it gives: an epoch is led by one server because a quorum promises it to one, not because of what was
//! elected here. What an election must do is to end, and to propose nobody whose history lacks something committed.
//!
//! What happens to a notification, first match wins (`reception`):
//!
//! | From | who is | here | What |
//! |---|---|---|---|
//! | no voter, now or next | looking | settled | answered: what is settled, with the own round |
//! | no voter | looking | looking | answered when this server has settled |
//! | no voter | settled | any | nothing |
//! | voter | looking, in a lower round | looking | counted; answered with the proposal |
//! | voter | any | looking | counted |
//! | voter | looking | settled | answered: what is settled, with the round in which it was |
//! | voter | settled | settled | nothing |
//! | anybody | anything | between a role and the next election | nothing |
//!
//! Apache answers strangers whatever the two are doing. Two servers that take each other for strangers, in the middle
//! of a change of configuration, then answer each other for ever; and what a server that looks answers is the leader
//! that it has just left.
//!
//! Other differences, all on the side of saying more or waiting less: a proposal is repeated every 2 s at the latest
//! (Apache: 60 s); an election ends at once when every voter was heard or can't be reached; a message that is no
//! better never prolongs the last wait; the round never goes back within a process, also where a leader of an older
//! round is followed, so that a server votes once in a round.

mod looking;
mod offer;
mod outcome;

#[cfg(test)]
mod network;
#[cfg(test)]
mod tests;

pub use offer::{Candidate, FINALIZE_MS, FINALIZE_OURS_MS, Offer};
pub use outcome::{Elected, Outcome};

use super::tally::Pair;
use crate::proto::peer::{Notification, PeerState, Vote};
use crate::types::{Epoch, Round, ServerId, Tick, VoteEpoch, Zxid};
use looking::Looking;
use std::collections::{BTreeSet, VecDeque};

/// Strangers that are remembered to be answered.
pub const ASKERS_MAX: usize = 256;
/// Format of the notifications of members since 3.5.
const FORMAT: i32 = 2;

/// A notification to be sent; the driver adds the text of the committed configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Said {
    /// To whom.
    pub to: ServerId,
    /// What this server is doing.
    pub state: PeerState,
    /// What it proposes or has settled on.
    pub vote: Vote,
    /// In which round.
    pub round: Round,
}

impl Said {
    /// As it is sent.
    pub fn notification<'a>(&self, config: &'a [u8]) -> Notification<'a> {
        Notification {
            state: self.state,
            vote: self.vote,
            round: self.round,
            format: FORMAT,
            config: Some(config),
        }
    }
}

/// What is done with a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reception {
    is_counted: bool,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    /// What is proposed now.
    Proposal,
    /// What is settled, with the round in which it was.
    Settled,
    /// What is settled, with the own round.
    SettledWithOwnRound,
    /// The same, when there is something settled.
    Later,
}

/// The table above.
fn reception(from_voter: bool, theirs: PeerState, is_behind: bool, is_looking: bool) -> Reception {
    let they_look = theirs == PeerState::Looking;
    let (is_counted, answer) = match (from_voter, they_look, is_looking) {
        (false, true, false) => (false, Answer::SettledWithOwnRound),
        (false, true, true) => (false, Answer::Later),
        (false, false, _) => (false, Answer::None),
        (true, true, true) if is_behind => (true, Answer::Proposal),
        (true, _, true) => (true, Answer::None),
        (true, true, false) => (false, Answer::Settled),
        (true, false, false) => (false, Answer::None),
    };
    Reception { is_counted, answer }
}

/// What becomes of a configuration that a notification brings (docs/peer-protocol.md §1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Nothing.
    Ignored,
    /// It is committed here from now on.
    Adopted,
    /// The same; members or addresses differ, so the election and its connections begin anew.
    AdoptedAnew,
}

/// Where reconfiguration is off nothing is adopted: Apache's server begins its election anew for each such
/// notification there, for ever. The election is rebuilt, at the price of every connection, for another membership
/// only.
pub fn foreign_configuration(
    is_reconfiguration_on: bool,
    is_looking: bool,
    theirs: Zxid,
    ours: Zxid,
    has_same_members: bool,
) -> Foreign {
    match is_reconfiguration_on && is_looking && theirs > ours {
        false => Foreign::Ignored,
        true if has_same_members => Foreign::Adopted,
        true => Foreign::AdoptedAnew,
    }
}

/// A server's part in elections, for as long as its process runs or its configuration has the same members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    candidate: Candidate,
    /// The last round that was begun or joined.
    round: Round,
    doing: Doing,
    /// Strangers who have asked while there was nothing to answer.
    askers: BTreeSet<ServerId>,
    out: VecDeque<Said>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Looking(Box<Looking>),
    Settled {
        state: PeerState,
        vote: Vote,
        round: Round,
    },
    /// Its role has ended, and what it may offer is not known yet.
    Left,
}

impl Election {
    /// Looks for a leader. What is due at once, for a voter that is alone, comes with the first [`Election::tick`].
    pub fn begin(candidate: Candidate, offer: Offer, pair: &Pair, now: Tick) -> Election {
        let round = Round(1);
        let looking = Looking::new(candidate, offer, round, pair, now);
        let mut election = Election {
            candidate,
            round,
            doing: Doing::Looking(Box::new(looking)),
            askers: BTreeSet::new(),
            out: VecDeque::new(),
        };
        election.gather(None);
        election
    }

    /// Looks again: a role has ended, and all that it logged is durable (I-20).
    pub fn again(&mut self, offer: Offer, pair: &Pair, now: Tick) {
        // A peer can bring any round.
        self.round = Round(self.round.0.saturating_add(1));
        let looking = Looking::new(self.candidate, offer, self.round, pair, now);
        self.doing = Doing::Looking(Box::new(looking));
        self.gather(None);
    }

    /// A role ends. Until this server looks again it says nothing: neither does it follow whom it has settled on, nor
    /// does it know what is durable. Who asks meanwhile asks again.
    pub fn leave(&mut self) {
        self.doing = Doing::Left;
    }

    /// What this server is doing.
    pub fn state(&self) -> PeerState {
        match self.doing {
            Doing::Looking(_) | Doing::Left => PeerState::Looking,
            Doing::Settled { state, .. } => state,
        }
    }

    /// The last round that was begun or joined.
    pub fn round(&self) -> Round {
        self.round
    }

    /// When [`Election::tick`] is to be called; a settled server waits for nothing.
    pub fn deadline(&self) -> Option<Tick> {
        match &self.doing {
            Doing::Looking(looking) => Some(looking.deadline()),
            Doing::Settled { .. } | Doing::Left => None,
        }
    }

    /// A notification has come. `pair` is the one of this moment: voters that a reconfiguration has made or will make
    /// count at once.
    pub fn heard(
        &mut self,
        from: ServerId,
        n: &Notification<'_>,
        pair: &Pair,
        now: Tick,
    ) -> Option<Outcome> {
        if from == self.candidate.sid {
            // Two servers have been given the same id.
            return None;
        }
        let is_behind = n.round < self.round;
        if matches!(self.doing, Doing::Left) {
            return None;
        }
        let is_looking = self.state() == PeerState::Looking;
        let Reception { is_counted, answer } =
            reception(pair.is_voter(from), n.state, is_behind, is_looking);
        let outcome = match &mut self.doing {
            Doing::Looking(looking) if is_counted => looking.count(from, n, pair, now),
            _ => None,
        };
        let outcome = self.gather(outcome);
        self.answer(from, answer);
        outcome
    }

    /// A voter's connection is gone and it could not be dialled: nobody waits for what it might say.
    pub fn unreachable(&mut self, who: ServerId, pair: &Pair, now: Tick) -> Option<Outcome> {
        let outcome = match &mut self.doing {
            Doing::Looking(looking) => looking.unreachable(who, pair, now),
            Doing::Settled { .. } | Doing::Left => None,
        };
        self.gather(outcome)
    }

    /// A connection has come up. What would be said now is said, so that nothing older than the connection is ever
    /// heard on it: a server that was wiped must not be told what others had before (docs/peer-protocol.md §1.3).
    pub fn connected(&mut self, to: ServerId, pair: &Pair) {
        if let Doing::Looking(looking) = &mut self.doing {
            looking.reachable(to);
        }
        let answer = match (&self.doing, pair.is_voter(to)) {
            (Doing::Looking(_), true) => Answer::Proposal,
            (Doing::Looking(_), false) | (Doing::Left, _) => Answer::None,
            (Doing::Settled { .. }, true) => Answer::Settled,
            (Doing::Settled { .. }, false) => Answer::SettledWithOwnRound,
        };
        self.answer(to, answer);
    }

    /// Time passes.
    pub fn tick(&mut self, pair: &Pair, now: Tick) -> Option<Outcome> {
        let outcome = match &mut self.doing {
            Doing::Looking(looking) => looking.tick(pair, now),
            Doing::Settled { .. } | Doing::Left => None,
        };
        self.gather(outcome)
    }

    /// The next notification to be sent.
    pub fn poll_send(&mut self) -> Option<Said> {
        self.out.pop_front()
    }

    /// The leader that was settled on has become active in its epoch. All who follow it say the same epoch, whichever
    /// round they came in: by that those who come later know that they are one ensemble.
    pub fn synchronised(&mut self, epoch: Epoch) {
        if let Doing::Settled { vote, .. } = &mut self.doing {
            vote.epoch = VoteEpoch(i64::from(epoch.0));
        }
    }

    /// A reconfiguration has named another leader.
    pub fn designated(&mut self, leader: ServerId) {
        if let Doing::Settled { vote, .. } = &mut self.doing {
            vote.leader = leader;
        }
    }

    fn answer(&mut self, to: ServerId, answer: Answer) {
        let (state, vote, round) = match (&self.doing, answer) {
            (_, Answer::None) | (Doing::Left, _) => return,
            // Settled by the very notification that is answered: the sender looks, and is told.
            (Doing::Settled { state, vote, round }, Answer::Proposal | Answer::Settled) => {
                (*state, *vote, *round)
            }
            (Doing::Settled { state, vote, .. }, _) => (*state, *vote, self.round),
            (Doing::Looking(looking), Answer::Proposal) => {
                (PeerState::Looking, looking.proposal(), self.round)
            }
            (Doing::Looking(_), _) => {
                if self.askers.len() < ASKERS_MAX {
                    self.askers.insert(to);
                }
                return;
            }
        };
        self.out.push_back(Said {
            to,
            state,
            vote,
            round,
        });
    }

    /// Takes what looking has to say, and settles if it is at its end.
    fn gather(&mut self, outcome: Option<Outcome>) -> Option<Outcome> {
        if let Doing::Looking(looking) = &mut self.doing {
            self.round = self.round.max(looking.round());
            if let Some(to) = looking.poll_send() {
                let (vote, round) = (looking.proposal(), looking.round());
                self.out.extend(to.into_iter().map(|to| Said {
                    to,
                    state: PeerState::Looking,
                    vote,
                    round,
                }));
            }
        }
        if let Some(Outcome::Elected(elected)) = &outcome {
            self.round = self.round.max(elected.round);
            self.doing = Doing::Settled {
                state: elected.state,
                vote: elected.vote,
                round: elected.round,
            };
            for asker in std::mem::take(&mut self.askers) {
                self.answer(asker, Answer::SettledWithOwnRound);
            }
        }
        outcome
    }
}
