use super::offer::History;
use super::*;
use crate::zab::quorum::Quorum;
use crate::zab::quorum::tests::{majority_of, sids};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const START: Tick = Tick(1000);

pub(super) fn whole(epoch: u32, counter: u32) -> Offer {
    Offer(History::Whole {
        epoch: Epoch(epoch),
        zxid: Zxid::new(epoch, counter),
    })
}

pub(super) fn candidate(sid: i64) -> Candidate {
    Candidate {
        sid: ServerId(sid),
        is_observer: false,
        finalize_ms: FINALIZE_MS,
    }
}

fn vote(leader: i64, epoch: u32, counter: u32) -> Vote {
    Vote {
        epoch: VoteEpoch(i64::from(epoch)),
        zxid: Zxid::new(epoch, counter),
        leader: ServerId(leader),
    }
}

fn says(state: PeerState, vote: Vote, round: i64) -> Notification<'static> {
    Notification {
        state,
        vote,
        round: Round(round),
        format: FORMAT,
        config: None,
    }
}

fn proposes(vote: Vote, round: i64) -> Notification<'static> {
    says(Looking, vote, round)
}

fn voters(n: i64) -> Pair {
    Pair::of(majority_of(1..=n))
}

use PeerState::{Following, Leading, Looking, Observing};

/// One server among others that only the test plays.
struct Server {
    election: Election,
    pair: Pair,
    now: Tick,
}

impl Server {
    fn new(candidate: Candidate, offer: Offer, pair: Pair) -> Server {
        Server {
            election: Election::begin(candidate, offer, &pair, START),
            pair,
            now: START,
        }
    }

    /// Server 2 of so many voters, with (1, 5) behind it.
    fn second_of(n: i64) -> Server {
        let mut server = Server::new(candidate(2), whole(1, 5), voters(n));
        server.sent();
        server
    }

    fn hears(&mut self, from: i64, n: Notification<'_>) -> Option<Outcome> {
        self.election
            .heard(ServerId(from), &n, &self.pair, self.now)
    }

    fn after(&mut self, ms: u64) -> Option<Outcome> {
        self.now = self.now.after(ms);
        self.election.tick(&self.pair, self.now)
    }

    fn sent(&mut self) -> Vec<Said> {
        std::iter::from_fn(|| self.election.poll_send()).collect()
    }

    /// To whom, if all get the same.
    fn sent_to(&mut self, state: PeerState, vote: Vote, round: i64) -> Vec<i64> {
        let sent = self.sent();
        let due = |said: &Said| (said.state, said.vote, said.round) == (state, vote, Round(round));
        assert!(sent.iter().all(due), "{sent:?}");
        sent.iter().map(|said| said.to.0).collect()
    }
}

#[track_caller]
fn is_elected(outcome: Option<Outcome>, state: PeerState, leader: i64, supporters: &[i64]) {
    let Some(Outcome::Elected(elected)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        (elected.state, elected.vote.leader),
        (state, ServerId(leader))
    );
    let due: BTreeSet<_> = sids(supporters.iter().copied()).into_iter().collect();
    assert_eq!(elected.supporters, due);
}

// The tables.

#[test]
fn what_happens_to_a_notification_in_each_case() {
    for from_voter in [false, true] {
        for theirs in [Looking, Following, Leading, Observing] {
            for is_behind in [false, true] {
                for is_looking in [false, true] {
                    let they_look = theirs == Looking;
                    let due = match (from_voter, is_looking) {
                        (true, true) if they_look && is_behind => (true, Answer::Proposal),
                        (true, true) => (true, Answer::None),
                        (true, false) if they_look => (false, Answer::Settled),
                        (false, true) if they_look => (false, Answer::Later),
                        (false, false) if they_look => (false, Answer::SettledWithOwnRound),
                        // Trap T3: an answer to somebody who has settled could be answered again.
                        (_, false) | (false, _) => (false, Answer::None),
                    };
                    let reception = reception(from_voter, theirs, is_behind, is_looking);
                    assert_eq!((reception.is_counted, reception.answer), due, "{theirs:?}");
                }
            }
        }
    }
}

// Traps T1 and T2.
#[test]
fn a_foreign_configuration_is_adopted_where_that_is_on_and_begins_anew_for_other_members_only() {
    for is_on in [false, true] {
        for is_looking in [false, true] {
            for (theirs, is_newer) in [(6, false), (7, false), (8, true)] {
                for has_same_members in [false, true] {
                    let due = match (is_on && is_looking && is_newer, has_same_members) {
                        (false, _) => Foreign::Ignored,
                        (true, true) => Foreign::Adopted,
                        (true, false) => Foreign::AdoptedAnew,
                    };
                    let (theirs, ours) = (Zxid(theirs), Zxid(7));
                    let foreign =
                        foreign_configuration(is_on, is_looking, theirs, ours, has_same_members);
                    assert_eq!(foreign, due);
                }
            }
        }
    }
}

#[test]
fn each_kind_of_server_proposes_what_it_is_and_has() {
    let observer = Candidate {
        is_observer: true,
        ..candidate(2)
    };
    let nobody = |epoch, counter| Vote {
        leader: ServerId(i64::MIN),
        ..vote(0, epoch, counter)
    };
    let without_history = |epoch| Vote {
        epoch: VoteEpoch(epoch),
        zxid: Zxid(-1),
        leader: ServerId(2),
    };
    for (candidate, offer, due) in [
        (candidate(2), whole(1, 5), vote(2, 1, 5)),
        (candidate(2), whole(0, 0), vote(2, 0, 0)),
        (candidate(2), Offer::FRESH, without_history(0)),
        (candidate(2), Offer::MAIMED, without_history(1)),
        (candidate(9), whole(1, 5), nobody(1, 5)),
        (observer, whole(1, 5), Vote::NOBODY),
    ] {
        let mut server = Server::new(candidate, offer, voters(3));
        let others: Vec<i64> = (1..=3).filter(|sid| *sid != candidate.sid.0).collect();
        assert_eq!(server.sent_to(Looking, due, 1), others, "{offer:?}");
    }
}

// Rounds and proposals.

#[test]
fn a_better_proposal_of_the_same_round_is_adopted_and_told_and_another_is_only_counted() {
    for (proposal, is_better) in [
        (vote(3, 1, 5), true),
        (vote(1, 1, 6), true),
        (vote(1, 2, 0), true),
        (vote(1, 1, 5), false),
        (vote(2, 1, 5), false),
        (vote(4, 1, 4), false),
        (vote(5, 0, 900), false),
    ] {
        let mut server = Server::second_of(5);
        assert_eq!(server.hears(4, proposes(proposal, 1)), None);
        let due: &[i64] = if is_better { &[1, 3, 4, 5] } else { &[] };
        assert_eq!(server.sent_to(Looking, proposal, 1), due, "{proposal:?}");
    }
}

#[test]
fn a_higher_round_is_joined_with_the_better_of_its_proposal_and_the_own_offer() {
    for (proposal, due) in [
        (vote(3, 1, 5), vote(3, 1, 5)),
        (vote(1, 1, 4), vote(2, 1, 5)),
    ] {
        let mut server = Server::second_of(5);
        // What was adopted in the old round is forgotten.
        server.hears(3, proposes(vote(3, 7, 7), 1));
        server.sent();
        assert_eq!(server.hears(1, proposes(proposal, 4)), None);
        assert_eq!(server.election.round(), Round(4));
        assert_eq!(server.sent_to(Looking, due, 4), [1, 3, 4, 5]);
    }
}

#[test]
fn votes_of_another_round_are_never_counted_together() {
    let mut server = Server::second_of(5);
    server.hears(1, proposes(vote(2, 1, 5), 1));
    server.hears(3, proposes(vote(1, 1, 4), 2));
    server.hears(4, proposes(vote(2, 1, 5), 1));
    assert_eq!(server.after(FINALIZE_MS), None, "2 alone in round 2");
    server.hears(1, proposes(vote(2, 1, 5), 2));
    server.hears(4, proposes(vote(2, 1, 5), 2));
    is_elected(server.after(FINALIZE_MS), Leading, 2, &[1, 2, 4]);
}

#[test]
fn a_lower_round_is_answered_with_the_proposal_and_not_counted() {
    let mut server = Server::second_of(3);
    server.hears(3, proposes(vote(3, 0, 1), 6));
    server.sent();
    assert_eq!(server.hears(1, proposes(vote(1, 9, 9), 5)), None);
    assert_eq!(server.sent_to(Looking, vote(2, 1, 5), 6), [1]);
    assert_eq!(server.after(FINALIZE_MS), None);
}

#[test]
fn a_proposal_is_repeated_after_twice_as_long_each_time_up_to_two_seconds() {
    let mut server = Server::second_of(3);
    for wait in [200, 400, 800, 1600, 2000, 2000] {
        assert_eq!(server.election.deadline(), Some(server.now.after(wait)));
        assert_eq!(server.after(wait - 1), None);
        assert_eq!(server.sent(), []);
        assert_eq!(server.after(1), None);
        assert_eq!(server.sent_to(Looking, vote(2, 1, 5), 1), [1, 3]);
    }
}

// I-20: it has left whom it has settled on, and what it may offer waits for its disk.
#[test]
fn between_a_role_and_the_next_election_a_server_says_nothing() {
    let mut server = Server::second_of(3);
    for from in [1, 3] {
        server.hears(from, proposes(vote(2, 1, 5), 1));
    }
    assert_eq!(server.election.state(), Leading);
    server.election.leave();
    server.sent();
    assert_eq!(server.hears(1, proposes(vote(1, 9, 9), 7)), None);
    assert_eq!(server.hears(4, proposes(Vote::NOBODY, 7)), None);
    let pair = server.pair.clone();
    server.election.connected(ServerId(3), &pair);
    server.election.synchronised(Epoch(7));
    assert_eq!(server.after(5000), None);
    assert_eq!(server.election.deadline(), None);
    assert_eq!(server.sent(), []);
    server.election.again(whole(1, 6), &pair, server.now);
    let to = server.sent_to(Looking, vote(2, 1, 6), 2);
    assert_eq!(to, [1, 3], "in a round of its own");
}

#[test]
fn rounds_that_a_peer_made_up_end_nothing() {
    let mut server = Server::second_of(3);
    server.hears(1, proposes(vote(1, 0, 0), i64::MAX));
    server.hears(1, proposes(vote(1, 0, 0), i64::MIN));
    server.election.again(whole(1, 5), &server.pair, START);
    assert_eq!(server.election.round(), Round(i64::MAX));
    assert_eq!(server.hears(1, proposes(vote(2, 1, 5), i64::MAX)), None);
    is_elected(server.after(FINALIZE_MS), Leading, 2, &[1, 2]);
}

// Who counts.

// Trap T4, I-17, I-23.
#[test]
fn neither_votes_of_strangers_nor_votes_for_them_count() {
    let mut server = Server::second_of(3);
    for from in [1, 3] {
        assert_eq!(server.hears(from, proposes(vote(9, 9, 9), 1)), None);
        assert_eq!(server.hears(from, says(Leading, vote(9, 9, 9), 1)), None);
    }
    for from in [4, 9, -1, i64::MIN] {
        assert_eq!(server.hears(from, proposes(vote(2, 1, 5), 1)), None);
        assert_eq!(server.hears(from, says(Leading, vote(3, 1, 5), 1)), None);
        assert_eq!(server.hears(from, says(Following, vote(3, 1, 5), 1)), None);
    }
    // Somebody with the own id: a mistake of configuration.
    assert_eq!(server.hears(2, proposes(vote(3, 9, 9), 8)), None);
    assert_eq!(server.hears(2, proposes(vote(3, 9, 9), 0)), None);
    assert_eq!(server.after(FINALIZE_MS), None);
    assert_eq!(server.sent_to(Looking, vote(2, 1, 5), 1), [1, 3]);
    assert_eq!(server.election.round(), Round(1));
}

// Plan, rule 12, in the election; I-27.
#[test]
fn a_server_without_history_counts_nobody_and_is_counted_nowhere() {
    for offer in [Offer::FRESH, Offer::MAIMED] {
        let mut wiped = Server::new(candidate(3), offer, voters(3));
        let [first, ..] = wiped.sent()[..] else {
            panic!("it says what it is");
        };
        // To others it is nobody, whatever else it says.
        let mut server = Server::second_of(3);
        assert_eq!(server.hears(3, first.notification(b"")), None);
        assert_eq!(
            server.hears(
                3,
                proposes(
                    Vote {
                        zxid: Zxid(-1),
                        ..vote(2, 1, 5)
                    },
                    1
                )
            ),
            None
        );
        assert_eq!(server.after(FINALIZE_MS), None);
        // Not even if it has adopted more than the others before it lost what it had.
        let mut server = Server::new(candidate(2), whole(0, 5), voters(3));
        server.sent();
        server.hears(3, first.notification(b""));
        assert_eq!(server.sent(), []);
        // And others are nobody to it while they look.
        for leader in [2, 3] {
            for from in [1, 2] {
                assert_eq!(wiped.hears(from, proposes(vote(leader, 1, 5), 1)), None);
            }
            assert_eq!(wiped.sent(), [], "it adopts nothing");
            assert_eq!(
                wiped.election.deadline(),
                Some(START.after(200)),
                "nor waits for a quorum"
            );
        }
        assert_eq!(wiped.election.state(), Looking);
        // It does not lead because others say so.
        for from in [1, 2] {
            assert_eq!(wiped.hears(from, says(Following, vote(3, 1, 5), 1)), None);
        }
        // It follows who leads without it.
        assert_eq!(wiped.hears(1, says(Following, vote(2, 1, 5), 7)), None);
        is_elected(
            wiped.hears(2, says(Leading, vote(2, 1, 5), 7)),
            Following,
            2,
            &[1, 2],
        );
    }
}

// Plan, rule 13.
#[test]
fn an_ensemble_is_new_when_all_voters_say_that_they_are_empty_and_not_before() {
    let empty = |leader| Vote {
        zxid: Zxid(-1),
        ..vote(leader, 0, 0)
    };
    let fresh = || {
        let mut server = Server::new(candidate(2), Offer::FRESH, voters(3));
        server.sent();
        server
    };
    // One that is empty and one that has been told to begin: both have nothing.
    let mut server = fresh();
    server.hears(1, proposes(empty(1), 1));
    assert_eq!(
        server.after(10 * FINALIZE_MS),
        None,
        "a quorum is not enough"
    );
    server.hears(3, proposes(vote(3, 0, 0), 1));
    assert_eq!(
        server.after(FINALIZE_MS - 1),
        None,
        "one of them may have said so before it had settled"
    );
    assert_eq!(server.after(1), Some(Outcome::AllEmpty));
    // The newest word counts.
    for newer in [
        proposes(vote(3, 0, 1), 1),
        proposes(vote(3, 1, 0), 1),
        says(Following, vote(1, 0, 0), 1),
        says(Leading, vote(3, 0, 0), 1),
        proposes(
            Vote {
                zxid: Zxid(-1),
                ..vote(3, 1, 0)
            },
            1,
        ),
    ] {
        let mut server = fresh();
        server.hears(1, proposes(empty(1), 1));
        server.hears(3, proposes(empty(3), 1));
        server.hears(3, newer);
        assert_eq!(server.after(FINALIZE_MS), None, "{newer:?}");
        server.hears(3, proposes(empty(3), 1));
        assert_eq!(server.after(FINALIZE_MS), Some(Outcome::AllEmpty));
    }
    // Who knows that it has lost something never begins anew.
    let mut maimed = Server::new(candidate(2), Offer::MAIMED, voters(3));
    maimed.hears(1, proposes(empty(1), 1));
    maimed.hears(3, proposes(empty(3), 1));
    assert_eq!(maimed.after(FINALIZE_MS), None);
    // Voters of the next configuration have a say.
    let next = Arc::new(Quorum::majority(Zxid(1), sids(1..=4)).unwrap());
    let mut server = fresh();
    server.pair = Pair::new(Arc::new(majority_of(1..=3)), next);
    server.hears(1, proposes(empty(1), 1));
    server.hears(3, proposes(empty(3), 1));
    assert_eq!(server.after(FINALIZE_MS), None);
    server.hears(4, proposes(empty(4), 1));
    assert_eq!(server.after(FINALIZE_MS), Some(Outcome::AllEmpty));
}

#[test]
fn who_has_no_weight_is_never_elected_and_still_follows() {
    let groups = [sids(1..=4)];
    let weights = BTreeMap::from([(ServerId(4), 0)]);
    let pair = Pair::of(Quorum::groups(Zxid::ZERO, sids(1..=4), &groups, &weights).unwrap());
    let mut server = Server::new(candidate(2), whole(1, 5), pair.clone());
    server.sent();
    server.hears(4, proposes(vote(4, 9, 9), 1));
    assert_eq!(server.sent(), [], "the best history is no reason");
    server.hears(1, proposes(vote(2, 1, 5), 1));
    is_elected(server.after(FINALIZE_MS), Leading, 2, &[1, 2]);
    let mut light = Server::new(candidate(4), whole(9, 9), pair);
    light.hears(1, proposes(vote(2, 1, 5), 1));
    light.hears(2, proposes(vote(2, 1, 5), 1));
    assert_eq!(light.after(FINALIZE_MS), None);
    light.hears(1, says(Following, vote(2, 1, 5), 1));
    is_elected(
        light.hears(2, says(Leading, vote(2, 1, 5), 1)),
        Following,
        2,
        &[1, 2],
    );
}

// I-19, trap T7.
#[test]
fn while_two_configurations_are_live_a_leader_needs_quorums_of_both() {
    let committed = Arc::new(majority_of(1..=3));
    let next = Arc::new(Quorum::majority(Zxid(1), sids(3..=7)).unwrap());
    let both = Pair::new(committed, next);
    let mut server = Server::new(candidate(3), whole(1, 5), both.clone());
    let vote_for_3 = proposes(vote(3, 1, 5), 1);
    server.hears(2, vote_for_3);
    server.hears(4, vote_for_3);
    assert_eq!(
        server.after(FINALIZE_MS),
        None,
        "two of three, and two of five"
    );
    server.hears(5, vote_for_3);
    is_elected(server.after(FINALIZE_MS), Leading, 3, &[2, 3, 4, 5]);
    // The pair of the moment decides: here the reconfiguration is seen after the votes.
    let mut server = Server::second_of(3);
    server.hears(3, proposes(vote(2, 1, 5), 1));
    server.pair = both;
    assert_eq!(server.after(FINALIZE_MS), None);
}

// The last wait.

#[test]
fn where_somebody_is_missing_the_last_wait_is_kept() {
    let mut server = Server::second_of(3);
    assert_eq!(server.hears(1, proposes(vote(2, 1, 5), 1)), None);
    assert_eq!(
        server.election.deadline(),
        Some(server.now.after(FINALIZE_MS))
    );
    assert_eq!(server.after(FINALIZE_MS - 1), None);
    is_elected(server.after(1), Leading, 2, &[1, 2]);
    assert_eq!(server.election.deadline(), None);
}

#[test]
fn where_every_voter_was_heard_or_is_out_of_reach_nobody_waits() {
    let mut server = Server::second_of(3);
    assert_eq!(server.hears(1, proposes(vote(1, 1, 5), 1)), None);
    assert_eq!(server.hears(3, proposes(vote(2, 1, 4), 1)), None);
    // What 1 proposes is not what is elected; it has nothing better.
    is_elected(
        server.hears(3, proposes(vote(2, 1, 5), 1)),
        Leading,
        2,
        &[2, 3],
    );

    let mut server = Server::second_of(3);
    server.hears(1, proposes(vote(2, 1, 5), 1));
    is_elected(
        server
            .election
            .unreachable(ServerId(3), &server.pair, server.now),
        Leading,
        2,
        &[1, 2],
    );

    // Out of reach before there was a quorum; and who was heard since is not.
    let mut server = Server::second_of(5);
    for gone in [3, 4, 99] {
        let outcome = server
            .election
            .unreachable(ServerId(gone), &server.pair, server.now);
        assert_eq!(outcome, None);
    }
    server.hears(4, proposes(vote(2, 1, 5), 0));
    server.hears(1, proposes(vote(2, 1, 5), 1));
    assert_eq!(
        server.hears(5, proposes(vote(2, 1, 5), 1)),
        None,
        "4 may still say more"
    );
    is_elected(
        server.hears(4, proposes(vote(2, 1, 5), 1)),
        Leading,
        2,
        &[1, 2, 4, 5],
    );

    let mut server = Server::second_of(3);
    server
        .election
        .unreachable(ServerId(3), &server.pair, server.now);
    server.election.connected(ServerId(3), &server.pair);
    assert_eq!(
        server.hears(1, proposes(vote(2, 1, 5), 1)),
        None,
        "3 has come up"
    );
    is_elected(server.after(FINALIZE_MS), Leading, 2, &[1, 2]);

    // A server without history has nothing better to say.
    let mut server = Server::second_of(3);
    server.hears(
        3,
        proposes(
            Vote {
                zxid: Zxid(-1),
                ..vote(3, 0, 0)
            },
            1,
        ),
    );
    is_elected(
        server.hears(1, proposes(vote(2, 1, 5), 1)),
        Leading,
        2,
        &[1, 2],
    );
}

#[test]
fn who_was_heard_in_an_older_round_may_say_more_in_this_one() {
    let mut server = Server::second_of(3);
    server.hears(3, proposes(vote(1, 1, 4), 1));
    assert_eq!(server.hears(1, proposes(vote(2, 1, 5), 4)), None);
    is_elected(server.after(FINALIZE_MS), Leading, 2, &[1, 2]);
}

#[test]
fn a_better_proposal_that_has_quorums_at_once_is_waited_for_as_long() {
    let weights = [(1, 3), (2, 3), (4, 3)].map(|(sid, weight)| (ServerId(sid), weight));
    let weights = BTreeMap::from(weights);
    let quorum = Quorum::groups(Zxid::ZERO, sids(1..=5), &[sids(1..=5)], &weights).unwrap();
    let mut server = Server::new(candidate(2), whole(1, 5), Pair::of(quorum));
    server.hears(1, proposes(vote(2, 1, 5), 1));
    assert_eq!(server.after(FINALIZE_MS - 1), None);
    server.hears(4, proposes(vote(4, 1, 5), 1));
    assert_eq!(
        server.after(FINALIZE_MS - 1),
        None,
        "3 and 5 may know better still"
    );
    is_elected(server.after(1), Following, 4, &[2, 4]);
}

#[test]
fn a_better_proposal_ends_the_last_wait_and_nothing_else_changes_it() {
    let waiting = || {
        let mut server = Server::second_of(5);
        server.hears(1, proposes(vote(2, 1, 5), 1));
        server.hears(3, proposes(vote(2, 1, 5), 1));
        assert_eq!(server.after(FINALIZE_MS - 1), None);
        server.sent();
        server
    };
    // Worse, of a lower round, of a higher round and no better: the wait goes on, and is not prolonged.
    for n in [
        proposes(vote(4, 1, 4), 1),
        proposes(vote(4, 9, 9), 0),
        proposes(vote(4, 1, 4), 9),
        says(Following, vote(4, 9, 9), 9),
        says(Observing, vote(4, 9, 9), 9),
    ] {
        let mut server = waiting();
        assert_eq!(server.hears(4, n), None);
        is_elected(server.after(1), Leading, 2, &[1, 2, 3]);
    }
    for (n, round) in [
        (proposes(vote(4, 1, 6), 1), 1),
        (proposes(vote(4, 1, 6), 9), 9),
    ] {
        let mut server = waiting();
        assert_eq!(server.hears(4, n), None);
        assert_eq!(server.after(FINALIZE_MS), None, "{n:?}");
        let sent = server.sent();
        let told = sent
            .iter()
            .take(4)
            .all(|said| (said.vote, said.round) == (vote(4, 1, 6), Round(round)));
        assert!(told, "{sent:?}");
    }
}

#[test]
fn a_voter_that_is_alone_settles_with_the_first_tick() {
    let mut server = Server::new(candidate(1), whole(3, 4), voters(1));
    assert_eq!(server.sent(), []);
    assert_eq!(server.election.deadline(), Some(START));
    is_elected(server.after(0), Leading, 1, &[1]);
    let mut fresh = Server::new(candidate(1), Offer::FRESH, voters(1));
    assert_eq!(fresh.after(0), None);
    assert_eq!(fresh.after(FINALIZE_MS), Some(Outcome::AllEmpty));
}

// Ensembles that have settled.

// I-23.
#[test]
fn a_leader_is_followed_only_when_it_says_itself_that_it_leads() {
    for round in [1, 8] {
        let mut server = Server::second_of(5);
        for from in [1, 3, 4] {
            assert_eq!(
                server.hears(from, says(Following, vote(5, 1, 9), round)),
                None
            );
        }
        // A majority may follow somebody who is dead, or who does not know yet.
        assert_eq!(server.hears(5, says(Following, vote(5, 1, 9), round)), None);
        if round > 1 {
            assert_eq!(server.hears(5, proposes(vote(5, 1, 9), 1)), None);
        }
        let outcome = server.hears(5, says(Leading, vote(5, 1, 9), round));
        is_elected(outcome, Following, 5, &[1, 3, 4, 5]);
        assert_eq!(server.election.state(), Following);
        assert_eq!(server.election.round(), Round(round));
    }
    let mut server = Server::second_of(5);
    server.hears(5, says(Leading, vote(5, 1, 9), 8));
    server.hears(4, says(Following, vote(5, 1, 9), 8));
    let outcome = server.hears(4, says(Following, vote(5, 1, 9), 8));
    assert_eq!(outcome, None, "two of five");
}

// Known failures 1732, 1805 and 1818.
#[test]
fn members_that_joined_at_different_times_agree_by_leader_and_epoch() {
    let settled = |state, epoch: i64, zxid: i64, round, format| Notification {
        format,
        ..says(
            state,
            Vote {
                epoch: VoteEpoch(epoch),
                zxid: Zxid(zxid),
                leader: ServerId(5),
            },
            round,
        )
    };
    for (second, due) in [
        (settled(Following, 4, 77, 3, 2), true),
        (settled(Following, 3, 77, 3, 2), false),
        // A member that sends no format sends the epoch of its election.
        (settled(Following, 3, 77, 3, 0), true),
        (settled(Following, 4, 77, 3, 1), true),
    ] {
        let mut server = Server::second_of(3);
        server.pair = Pair::of(majority_of([2, 4, 5]));
        assert_eq!(server.hears(4, second), None);
        let outcome = server.hears(5, settled(Leading, 4, 1 << 34, 9, 2));
        assert_eq!(outcome.is_some(), due, "{second:?}");
    }
    // In the own round the leader decides, whatever epoch each has come to.
    let mut server = Server::second_of(3);
    server.hears(1, settled(Following, 1, 5, 1, 2));
    server.pair = Pair::of(majority_of([1, 2, 5]));
    server.hears(1, settled(Following, 1, 5, 1, 2));
    is_elected(
        server.hears(5, settled(Leading, 2, 5, 1, 2)),
        Following,
        5,
        &[1, 5],
    );
}

#[test]
fn a_leader_that_has_restarted_does_not_lead_on_the_word_of_others() {
    let mut server = Server::second_of(3);
    for from in [1, 3] {
        assert_eq!(server.hears(from, says(Following, vote(2, 1, 5), 8)), None);
    }
    // In the round in which it has voted it does: they were faster than it was.
    let mut server = Server::second_of(5);
    for from in [1, 3] {
        server.hears(from, proposes(vote(5, 1, 6), 1));
    }
    for from in [1, 3] {
        assert_eq!(server.hears(from, says(Following, vote(2, 1, 5), 1)), None);
    }
    is_elected(
        server.hears(4, says(Following, vote(2, 1, 5), 1)),
        Leading,
        2,
        &[1, 3, 4],
    );
}

#[test]
fn the_round_never_goes_back_and_answers_name_the_leaders() {
    let mut server = Server::second_of(3);
    server.hears(1, proposes(vote(1, 1, 4), 9));
    server.hears(1, says(Following, vote(3, 1, 9), 4));
    is_elected(
        server.hears(3, says(Leading, vote(3, 1, 9), 4)),
        Following,
        3,
        &[1, 3],
    );
    server.sent();
    assert_eq!(server.election.round(), Round(9));
    // Trap T5: voters are told the round in which it was settled, strangers the own one.
    server.hears(1, proposes(vote(1, 1, 4), 10));
    assert_eq!(server.sent_to(Following, vote(3, 1, 9), 4), [1]);
    server.hears(7, proposes(Vote::NOBODY, 10));
    assert_eq!(server.sent_to(Following, vote(3, 1, 9), 9), [7]);
    // Trap T3.
    server.hears(1, says(Leading, vote(1, 1, 4), 10));
    server.hears(7, says(Observing, vote(1, 1, 4), 10));
    assert_eq!(server.sent(), []);
    // Once the leader is active all of its followers say the same epoch.
    server.election.synchronised(Epoch(2));
    server.hears(1, proposes(vote(1, 1, 4), 10));
    let due = Vote {
        epoch: VoteEpoch(2),
        ..vote(3, 1, 9)
    };
    assert_eq!(server.sent_to(Following, due, 4), [1]);
    server.election.designated(ServerId(1));
    server.hears(1, proposes(vote(1, 1, 4), 10));
    let due = Vote {
        leader: ServerId(1),
        ..due
    };
    assert_eq!(server.sent_to(Following, due, 4), [1]);
    server.election.again(whole(2, 1), &server.pair, server.now);
    assert_eq!(server.sent_to(Looking, vote(2, 2, 1), 10), [1, 3]);
}

#[test]
fn an_observer_follows_who_is_settled_on_and_never_leads() {
    let observer = |sid| Candidate {
        is_observer: true,
        ..candidate(sid)
    };
    let mut server = Server::new(observer(9), whole(5, 5), voters(3));
    assert_eq!(server.sent_to(Looking, Vote::NOBODY, 1), [1, 2, 3]);
    server.hears(2, says(Following, vote(3, 1, 5), 6));
    is_elected(
        server.hears(3, says(Leading, vote(3, 1, 5), 6)),
        Observing,
        3,
        &[2, 3],
    );
    // One that is a voter by mistake of a configuration.
    let mut server = Server::new(observer(2), whole(5, 5), voters(3));
    server.hears(1, says(Following, vote(2, 1, 5), 1));
    assert_eq!(server.hears(3, says(Following, vote(2, 1, 5), 1)), None);
    for from in [1, 3] {
        assert_eq!(server.hears(from, proposes(vote(2, 1, 6), 1)), None);
    }
    assert_eq!(server.after(FINALIZE_MS), None);
    assert!(
        server.election.deadline() > Some(server.now),
        "it does not wait for what has passed"
    );
}

#[test]
fn strangers_who_ask_while_there_is_no_leader_are_told_when_there_is_one() {
    let mut server = Server::second_of(3);
    for sid in (100..).take(ASKERS_MAX + 10) {
        server.hears(sid, proposes(Vote::NOBODY, 3));
    }
    server.hears(100, proposes(Vote::NOBODY, 4));
    assert_eq!(server.sent(), [], "not the leader that it has just left");
    server.hears(1, proposes(vote(2, 1, 5), 1));
    is_elected(server.after(FINALIZE_MS), Leading, 2, &[1, 2]);
    let told = server.sent_to(Leading, vote(2, 1, 5), 1);
    assert!(told.into_iter().eq((100..).take(ASKERS_MAX)));
    server.election.again(whole(1, 5), &server.pair, server.now);
    server.sent();
    server.hears(1, proposes(vote(2, 1, 5), 2));
    is_elected(server.after(FINALIZE_MS), Leading, 2, &[1, 2]);
    assert_eq!(server.sent(), [], "once");
}

// The other half of rule 13: a server that was wiped hears nothing from before.
#[test]
fn a_new_connection_begins_with_what_is_true_now() {
    let mut server = Server::second_of(3);
    server.election.connected(ServerId(1), &server.pair);
    assert_eq!(server.sent_to(Looking, vote(2, 1, 5), 1), [1]);
    server.election.connected(ServerId(9), &server.pair);
    assert_eq!(server.sent(), []);
    server.hears(1, says(Following, vote(3, 1, 9), 4));
    server.hears(3, says(Leading, vote(3, 1, 9), 4));
    server.sent();
    for (to, round) in [(1, 4), (9, 1)] {
        let round = if to == 9 {
            server.election.round().0
        } else {
            round
        };
        server.election.connected(ServerId(to), &server.pair);
        assert_eq!(server.sent_to(Following, vote(3, 1, 9), round), [to]);
    }
}

#[test]
fn who_is_told_of_a_settled_leader_by_its_own_question_is_answered() {
    // The question that completes the quorum is the sender's vote: the sender must hear what came of it.
    let mut server = Server::second_of(3);
    server.hears(3, proposes(vote(3, 0, 0), 5));
    server.hears(3, proposes(vote(2, 1, 5), 5));
    server.sent();
    server.after(FINALIZE_MS);
    assert_eq!(server.election.state(), Leading);
    server.hears(1, proposes(vote(1, 0, 0), 1));
    assert_eq!(server.sent_to(Leading, vote(2, 1, 5), 5), [1]);
}

fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0..6i64, 1 => Just(-1), 1 => Just(i64::MIN), 1 => Just(i64::MAX), 1 => any::<i64>()]
}

fn any_notification() -> impl Strategy<Value = Notification<'static>> {
    let numbers = (any_number(), any_number(), any_number(), any_number());
    (0..4i32, numbers, 0..4i32).prop_map(|(state, (leader, zxid, epoch, round), format)| {
        Notification {
            state: PeerState::of(state).unwrap(),
            vote: Vote {
                epoch: VoteEpoch(epoch),
                zxid: Zxid(zxid),
                leader: ServerId(leader),
            },
            round: Round(round),
            format,
            config: None,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    // Plan, rule 32; I-23: no message can stop the election.
    #[test]
    fn whatever_others_say_nothing_panics_and_the_majority_still_elects(
        offer in prop_oneof![Just(whole(1, 5)), Just(Offer::FRESH), Just(Offer::MAIMED)],
        is_observer in any::<bool>(),
        steps in proptest::collection::vec((any_number(), any_notification(), 0..300u64, 0..12u8), 0..60),
    ) {
        let candidate = Candidate { is_observer, ..candidate(2) };
        let mut server = Server::new(candidate, offer, voters(3));
        for (from, n, ms, other) in steps {
            let outcome = server.hears(from, n);
            match other {
                0 => server.election.connected(ServerId(from), &server.pair),
                1 => { server.election.unreachable(ServerId(from), &server.pair, server.now); }
                2 => server.election.synchronised(Epoch(7)),
                3 => server.election.again(offer, &server.pair, server.now),
                _ => {}
            }
            prop_assert!(server.sent().len() <= 2 * 3 + ASKERS_MAX);
            if let Some(Outcome::Elected(elected)) = outcome {
                let may_lead = offer == whole(1, 5) && !is_observer;
                prop_assert!(elected.state != Leading || may_lead);
                prop_assert!(elected.supporters.len() >= 2);
            }
            server.after(ms);
        }
        server.election.again(offer, &server.pair, server.now);
        server.hears(1, says(Following, vote(3, 1, 9), 2));
        let outcome = server.hears(3, says(Leading, vote(3, 1, 9), 2));
        let state = if is_observer { Observing } else { Following };
        is_elected(outcome, state, 3, &[1, 3]);
    }
}
