//! One election of one server, from its first proposal to what it settles on (docs/peer-protocol.md §1.6–1.8).
//!
//! ```text
//!              quorums propose the same          all voters heard, or the wait is over
//!   gathering ─────────────────────────► waiting ──────────────────────────────────────► settled
//!       ▲  │                                │                                              ▲
//!       │  └────────────────────────────────┼── quorums have settled on one that leads ────┤
//!       └──── a better proposal ────────────┘                                              │
//!                                                 (both states) ───────────────────────────┘
//! ```
//!
//! A proposal of another server, in the same round, is counted; a better one is adopted. One of a higher round makes
//! this server join that round, and forget what it counted; one of a lower round is answered. While waiting, a higher
//! round is joined for a better proposal only: the server that it comes from hears soon enough what was settled.

use super::offer::{Candidate, FINALIZE_MS, History, Offer};
use super::outcome::{Elected, Outcome};
use crate::proto::peer::{Notification, PeerState, Vote};
use crate::types::{Round, ServerId, Tick, VoteEpoch, Zxid};
use crate::zab::tally::{Pair, Tally};
use std::collections::{BTreeMap, BTreeSet};

/// A proposal is repeated after this long, ms; each time after twice as long.
pub(super) const REPEAT_MS: u64 = 200;
/// At most, ms.
pub(super) const REPEAT_MS_MAX: u64 = 2000;

const _: () = assert!(FINALIZE_MS <= REPEAT_MS && REPEAT_MS <= REPEAT_MS_MAX);

/// What was heard of one voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ballot {
    state: PeerState,
    vote: Vote,
    round: Round,
    /// Whether the sender's format is newer than the one without a number; not looked at while it looks.
    has_format: bool,
}

impl Ballot {
    /// Whether two voters mean the same. Those who look must agree in everything. Those who have settled agree in
    /// leader and epoch, because each knows its leader's history and round as of when it joined (known failures 1732
    /// and 1805); and in the leader alone if one of them sends no format, because it sends an old epoch (1818).
    fn agrees(&self, other: &Ballot) -> bool {
        let looks = |ballot: &Ballot| ballot.state == PeerState::Looking;
        if looks(self) || looks(other) {
            return self.vote == other.vote && self.round == other.round;
        }
        let is_old = self.has_format != other.has_format;
        let (mine, theirs) = (self.vote, other.vote);
        mine.leader == theirs.leader && (mine.epoch == theirs.epoch || is_old)
    }
}

type Ballots = BTreeMap<ServerId, Ballot>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Looking {
    candidate: Candidate,
    offer: Offer,
    /// What it proposed first.
    mine: Vote,
    proposal: Vote,
    round: Round,
    /// Votes of this round, the own one included.
    votes: Ballots,
    /// Votes of voters that have settled, in any round.
    settled: Ballots,
    /// Voters that say themselves that they have no history.
    without_history: BTreeSet<ServerId>,
    /// Voters whose newest vote is that of an empty server.
    empty: BTreeSet<ServerId>,
    unreachable: BTreeSet<ServerId>,
    /// When the proposal is repeated, and how long after that again.
    repeat: Tick,
    interval_ms: u64,
    /// Quorums propose the same: until when somebody better is waited for.
    finalize: Option<Tick>,
    /// Every voter is empty: until when one that is not is waited for.
    all_empty: Option<Tick>,
    /// To whom the proposal is to be sent.
    send: Option<BTreeSet<ServerId>>,
}

impl Looking {
    pub(super) fn new(
        candidate: Candidate,
        offer: Offer,
        round: Round,
        pair: &Pair,
        now: Tick,
    ) -> Looking {
        let mine = candidate.vote(offer, pair);
        let mut looking = Looking {
            candidate,
            offer,
            mine,
            proposal: mine,
            round,
            votes: Ballots::new(),
            settled: Ballots::new(),
            without_history: BTreeSet::new(),
            empty: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            repeat: now.after(REPEAT_MS),
            interval_ms: REPEAT_MS,
            finalize: None,
            all_empty: None,
            send: None,
        };
        looking.propose(mine, pair);
        // For a voter that is alone.
        looking.weigh(pair, now);
        looking.look_for_anybody(pair, now);
        looking
    }

    pub(super) fn proposal(&self) -> Vote {
        self.proposal
    }

    pub(super) fn round(&self) -> Round {
        self.round
    }

    pub(super) fn poll_send(&mut self) -> Option<BTreeSet<ServerId>> {
        self.send.take()
    }

    pub(super) fn deadline(&self) -> Tick {
        let waits = [self.finalize, self.all_empty];
        waits.into_iter().flatten().fold(self.repeat, Tick::min)
    }

    pub(super) fn tick(&mut self, pair: &Pair, now: Tick) -> Option<Outcome> {
        if self.finalize.take_if(|until| *until <= now).is_some() {
            let elected = self.elect(pair);
            if elected.is_some() {
                return elected;
            }
        }
        if self.all_empty.take_if(|until| *until <= now).is_some() {
            return Some(Outcome::AllEmpty);
        }
        if self.repeat <= now {
            self.interval_ms = (2 * self.interval_ms).min(REPEAT_MS_MAX);
            self.repeat = now.after(self.interval_ms);
            self.send_to_all(pair);
        }
        None
    }

    pub(super) fn unreachable(&mut self, who: ServerId, pair: &Pair, now: Tick) -> Option<Outcome> {
        if pair.is_voter(who) {
            self.unreachable.insert(who);
        }
        self.finalize?;
        self.weigh(pair, now)
    }

    pub(super) fn reachable(&mut self, who: ServerId) {
        self.unreachable.remove(&who);
    }

    /// A voter's notification.
    pub(super) fn count(
        &mut self,
        from: ServerId,
        n: &Notification<'_>,
        pair: &Pair,
        now: Tick,
    ) -> Option<Outcome> {
        self.reachable(from);
        self.note_history(from, n);
        if self.look_for_anybody(pair, now) {
            return None;
        }
        // A quorum may hold a vote for a server that has none: it is no candidate.
        if !pair.is_voter(n.vote.leader) {
            return None;
        }
        match n.state {
            PeerState::Looking => self.count_proposal(from, n, pair, now),
            PeerState::Following | PeerState::Leading => self.count_settled(from, n, pair),
            PeerState::Observing => None,
        }
    }

    fn note_history(&mut self, from: ServerId, n: &Notification<'_>) {
        let looks = n.state == PeerState::Looking;
        let has_none = n.vote.zxid == Vote::NO_HISTORY;
        mark(&mut self.without_history, from, looks && has_none);
        // A proposal is never below what its sender has itself: one of nothing says that it has nothing.
        let is_empty = n.vote.zxid <= Zxid::ZERO && n.vote.epoch <= VoteEpoch(0);
        mark(&mut self.empty, from, looks && is_empty);
    }

    /// For an empty server: whether every other voter is empty too, and has been for as long as one that has settled
    /// takes to say so.
    fn look_for_anybody(&mut self, pair: &Pair, now: Tick) -> bool {
        let me = self.candidate.sid;
        let is_fresh = self.offer.0 == History::Fresh && self.mine.leader == me;
        let is_empty = |voter: &ServerId| *voter == me || self.empty.contains(voter);
        let all = is_fresh && pair.voters().iter().all(is_empty);
        self.all_empty = match all {
            true => self.all_empty.or(Some(now.after(FINALIZE_MS))),
            false => None,
        };
        all
    }

    fn count_proposal(
        &mut self,
        from: ServerId,
        n: &Notification<'_>,
        pair: &Pair,
        now: Tick,
    ) -> Option<Outcome> {
        if !self.has_history() || n.vote.zxid == Vote::NO_HISTORY {
            return None;
        }
        if n.round < self.round {
            return None;
        }
        if n.round > self.round {
            if self.finalize.is_some() && !is_better(n.vote, self.proposal, pair) {
                return None;
            }
            self.round = n.round;
            self.votes.clear();
            let better = is_better(n.vote, self.mine, pair);
            self.propose(if better { n.vote } else { self.mine }, pair);
        } else if is_better(n.vote, self.proposal, pair) {
            self.propose(n.vote, pair);
        }
        self.votes.insert(
            from,
            Ballot {
                state: PeerState::Looking,
                vote: n.vote,
                round: n.round,
                has_format: false,
            },
        );
        self.weigh(pair, now)
    }

    fn count_settled(
        &mut self,
        from: ServerId,
        n: &Notification<'_>,
        pair: &Pair,
    ) -> Option<Outcome> {
        let ballot = Ballot {
            state: n.state,
            vote: n.vote,
            round: n.round,
            has_format: n.format > 0,
        };
        if n.round == self.round {
            // Votes of one round agree by leader: whatever epoch they had when it began.
            let stored = Ballot {
                has_format: false,
                ..ballot
            };
            self.votes.insert(from, stored);
            if let Some(elected) = self.join(&self.votes, &ballot, pair) {
                return Some(Outcome::Elected(elected));
            }
        }
        self.settled.insert(from, ballot);
        self.join(&self.settled, &ballot, pair)
            .map(Outcome::Elected)
    }

    /// Follows a leader that quorums have settled on, if it says itself that it leads (I-23). This server takes the
    /// lead on the word of others in the round only in which it has voted, and never without a history.
    fn join(&self, ballots: &Ballots, ballot: &Ballot, pair: &Pair) -> Option<Elected> {
        let leader = ballot.vote.leader;
        let (tally, supporters) = support(ballots, ballot, pair);
        let may = match leader == self.candidate.sid {
            true => ballot.round == self.round && self.may_lead(),
            false => {
                let own = ballots.get(&leader);
                own.is_some_and(|own| own.state == PeerState::Leading)
            }
        };
        (may && tally.is_decided()).then(|| Elected {
            state: self.state_under(leader),
            vote: ballot.vote,
            round: ballot.round,
            supporters,
        })
    }

    fn has_history(&self) -> bool {
        self.mine.zxid != Vote::NO_HISTORY
    }

    fn may_lead(&self) -> bool {
        self.has_history() && !self.candidate.is_observer
    }

    /// Proposes somebody, to all.
    fn propose(&mut self, vote: Vote, pair: &Pair) {
        let me = self.candidate.sid;
        self.proposal = vote;
        self.finalize = None;
        if self.has_history() && pair.is_voter(me) && pair.is_voter(vote.leader) {
            let own = Ballot {
                state: PeerState::Looking,
                vote,
                round: self.round,
                has_format: false,
            };
            self.votes.insert(me, own);
        }
        self.send_to_all(pair);
    }

    fn send_to_all(&mut self, pair: &Pair) {
        let mut to = pair.voters();
        to.remove(&self.candidate.sid);
        self.send = Some(to);
    }

    /// Whether quorums propose what this server proposes, and whether anybody is left who could say better.
    fn weigh(&mut self, pair: &Pair, now: Tick) -> Option<Outcome> {
        let (tally, _) = support(&self.votes, &self.proposed(), pair);
        if !tally.is_decided() {
            self.finalize = None;
            return None;
        }
        let until = now.after(self.candidate.finalize_ms);
        let until = *self.finalize.get_or_insert(until);
        let is_heard = |voter: &ServerId| {
            let sets = [&self.without_history, &self.unreachable];
            self.votes.contains_key(voter) || sets.iter().any(|set| set.contains(voter))
        };
        if pair.voters().iter().all(is_heard) {
            // A voter that is alone settles with the first tick.
            self.finalize = Some(until.min(now));
            return self.elect(pair);
        }
        None
    }

    fn elect(&self, pair: &Pair) -> Option<Outcome> {
        let (tally, supporters) = support(&self.votes, &self.proposed(), pair);
        let leader = self.proposal.leader;
        let may = leader != self.candidate.sid || self.may_lead();
        // The configuration may have changed since there was a quorum.
        (may && tally.is_decided()).then(|| {
            Outcome::Elected(Elected {
                state: self.state_under(leader),
                vote: self.proposal,
                round: self.round,
                supporters,
            })
        })
    }

    fn proposed(&self) -> Ballot {
        Ballot {
            state: PeerState::Looking,
            vote: self.proposal,
            round: self.round,
            has_format: false,
        }
    }

    fn state_under(&self, leader: ServerId) -> PeerState {
        match (leader == self.candidate.sid, self.candidate.is_observer) {
            (true, _) => PeerState::Leading,
            (false, true) => PeerState::Observing,
            (false, false) => PeerState::Following,
        }
    }
}

fn mark(set: &mut BTreeSet<ServerId>, who: ServerId, is_so: bool) {
    if is_so {
        set.insert(who);
    } else {
        set.remove(&who);
    }
}

/// Only a server with weight is ever elected (docs/peer-protocol.md §1.7).
fn is_better(new: Vote, old: Vote, pair: &Pair) -> bool {
    pair.weight(new.leader) > 0 && new > old
}

/// Who agrees with a ballot.
fn support(ballots: &Ballots, ballot: &Ballot, pair: &Pair) -> (Tally, BTreeSet<ServerId>) {
    let mut tally = Tally::of(pair);
    let agree = ballots.iter().filter(|(_, other)| ballot.agrees(other));
    let supporters = agree.map(|(from, _)| *from).filter(|from| tally.ack(*from));
    let supporters = supporters.collect();
    (tally, supporters)
}
