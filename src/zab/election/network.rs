//! Elections of whole ensembles: 3 or 5 members over a network that loses, delays and reorders, with members that
//! crash and come back. What a role does is played: a leader that a quorum follows takes an epoch and brings its
//! followers to its history; one that it does not, and a follower whose leader does not lead, look again.

use super::looking::REPEAT_MS;
use super::offer::History;
use super::tests::{candidate, whole};
use super::*;
use crate::proto::Frame;
use crate::proto::peer::notification;
use crate::zab::quorum::tests::majority_of;
use crate::zab::tally::Tally;
use fastrand::Rng;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A leader is given up after this long without a quorum of followers, ms.
const LEADER_PATIENCE_MS: u64 = 1000;
/// A leader is given up by a follower that does not find it leading, ms.
const FOLLOWER_PATIENCE_MS: u64 = 500;
/// What the network brings, at most, after all faults have ended, ms.
const CALM_MS: u64 = 10_000;

/// What may go wrong.
#[derive(Clone, Copy, Debug)]
struct Faults {
    loss: f64,
    delay_ms: u64,
    /// For each millisecond; as often a member comes back.
    crash: f64,
    /// Who sends to a member that is down is told so.
    refused: f64,
}

const NONE: Faults = Faults {
    loss: 0.0,
    delay_ms: 15,
    crash: 0.0,
    refused: 0.0,
};

struct Member {
    /// What is durable.
    offer: Offer,
    /// None: it is down.
    election: Option<Election>,
    following: Option<(Elected, Tick)>,
}

struct Ensemble {
    rng: Rng,
    now: Tick,
    pair: Pair,
    finalize_ms: u64,
    faults: Faults,
    members: BTreeMap<ServerId, Member>,
    /// By arrival; the count makes the order of what arrives together random.
    mail: BTreeMap<(Tick, u64), (ServerId, ServerId, Vec<u8>)>,
    /// Everything that was ever said: who, what it was doing, what it proposed, in which round.
    said: BTreeSet<(ServerId, PeerState, Vote, Round)>,
    /// What was decided in the round of those who decided, by those who still know it.
    decisions: BTreeMap<Round, BTreeMap<ServerId, ServerId>>,
    elections: usize,
}

impl Ensemble {
    fn new(seed: u64, n: i64, finalize_ms: u64, faults: Faults) -> Ensemble {
        let mut rng = Rng::with_seed(seed);
        let mut members = BTreeMap::new();
        for sid in 1..=n {
            let offer = whole(rng.u32(0..3), rng.u32(0..3));
            let member = Member {
                offer,
                election: None,
                following: None,
            };
            members.insert(ServerId(sid), member);
        }
        Ensemble {
            rng,
            now: Tick(0),
            pair: Pair::of(majority_of(1..=n)),
            finalize_ms,
            faults,
            members,
            mail: BTreeMap::new(),
            said: BTreeSet::new(),
            decisions: BTreeMap::new(),
            elections: 0,
        }
    }

    fn sids(&self) -> Vec<ServerId> {
        self.members.keys().copied().collect()
    }

    fn member(&mut self, sid: ServerId) -> &mut Member {
        self.members.get_mut(&sid).unwrap()
    }

    fn candidate(&self, sid: ServerId) -> Candidate {
        Candidate {
            finalize_ms: self.finalize_ms,
            ..candidate(sid.0)
        }
    }

    fn start(&mut self, sid: ServerId) {
        let offer = self.members[&sid].offer;
        let election = Election::begin(self.candidate(sid), offer, &self.pair, self.now);
        self.member(sid).election = Some(election);
        self.send(sid);
        // Connections come up.
        for other in self.sids().into_iter().filter(|other| *other != sid) {
            let pair = self.pair.clone();
            if let Some(election) = &mut self.member(other).election {
                election.connected(sid, &pair);
                self.send(other);
            }
        }
    }

    fn crash(&mut self, sid: ServerId) {
        self.member(sid).election = None;
        self.member(sid).following = None;
        for decided in self.decisions.values_mut() {
            decided.remove(&sid);
        }
    }

    fn look_again(&mut self, sid: ServerId) {
        let (pair, now) = (self.pair.clone(), self.now);
        let member = self.member(sid);
        member.following = None;
        let offer = member.offer;
        let election = member.election.as_mut().unwrap();
        election.again(offer, &pair, now);
        self.send(sid);
    }

    /// Gives what a member has to say to the network.
    fn send(&mut self, from: ServerId) {
        while let Some(said) = self.member(from).election.as_mut().unwrap().poll_send() {
            let offer = self
                .candidate(from)
                .vote(self.members[&from].offer, &self.pair);
            let looks = said.state == PeerState::Looking;
            assert!(
                !looks || said.vote >= offer,
                "less than its own history: {said:?}"
            );
            assert_ne!(said.to, from);
            self.said.insert((from, said.state, said.vote, said.round));
            let is_down = self.members[&said.to].election.is_none();
            if is_down && self.rng.f64() < self.faults.refused {
                let (pair, now) = (self.pair.clone(), self.now);
                let election = self.member(from).election.as_mut().unwrap();
                let outcome = election.unreachable(said.to, &pair, now);
                self.settle(from, outcome);
            } else if self.rng.f64() >= self.faults.loss {
                let mut frame = Vec::new();
                assert!(said.notification(b"version=0").encode_into(&mut frame));
                let at = self.now.after(self.rng.u64(1..=self.faults.delay_ms));
                let key = (at, self.rng.u64(..));
                self.mail.insert(key, (from, said.to, frame));
            }
        }
    }

    fn settle(&mut self, sid: ServerId, outcome: Option<Outcome>) {
        let Some(outcome) = outcome else { return };
        let Outcome::Elected(elected) = outcome else {
            panic!("nobody is empty");
        };
        self.elections += 1;
        self.is_founded(sid, &elected);
        let round = self.members[&sid].election.as_ref().unwrap().round();
        if elected.round == round {
            let decided = self.decisions.entry(round).or_default();
            let before = decided.insert(sid, elected.vote.leader);
            assert_eq!(before, None, "{sid} decides again in round {round}");
            self.one_leader_in(round);
        }
        let now = self.now;
        self.member(sid).following = Some((elected, now));
    }

    /// A quorum has said what was heard, and the leader of others that it leads.
    fn is_founded(&self, sid: ServerId, elected: &Elected) {
        let Elected {
            state,
            vote,
            round,
            supporters,
        } = elected;
        let mut tally = Tally::of(&self.pair);
        for supporter in supporters {
            tally.ack(*supporter);
            let proposed = (*supporter, PeerState::Looking, *vote, *round);
            let follows = self.said.iter().any(|(who, state, theirs, _)| {
                who == supporter && *state != PeerState::Looking && theirs.leader == vote.leader
            });
            let is_own = *supporter == sid;
            assert!(
                is_own || follows || self.said.contains(&proposed),
                "{supporter} has not said it: {elected:?}"
            );
        }
        assert!(tally.is_decided(), "{elected:?}");
        let leads = *state == PeerState::Leading;
        assert_eq!(leads, vote.leader == sid);
        let by_proposals = supporters.contains(&sid);
        let claims = |(who, state, ..): &(ServerId, PeerState, Vote, Round)| {
            *who == vote.leader && *state == PeerState::Leading
        };
        assert!(
            leads || by_proposals || self.said.iter().any(claims),
            "{elected:?}"
        );
    }

    /// In one round quorums have decided for one leader at most.
    fn one_leader_in(&self, round: Round) {
        let decided = &self.decisions[&round];
        let leaders: BTreeSet<_> = decided.values().copied().collect();
        let is_elected = |leader: &&ServerId| {
            let mut tally = Tally::of(&self.pair);
            for (sid, _) in decided.iter().filter(|(_, theirs)| theirs == leader) {
                tally.ack(*sid);
            }
            tally.is_decided()
        };
        assert!(
            leaders.iter().filter(is_elected).count() <= 1,
            "{round}: {decided:?}"
        );
    }

    /// One millisecond.
    fn step(&mut self) {
        self.now = self.now.after(1);
        while let Some(entry) = self
            .mail
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let (from, to, frame) = entry.remove();
            let (pair, now) = (self.pair.clone(), self.now);
            let Some(election) = self.member(to).election.as_mut() else {
                continue;
            };
            let Frame::Whole(payload, _) = notification::split(&frame) else {
                panic!("a frame");
            };
            let n = Notification::decode(payload).unwrap();
            let outcome = election.heard(from, &n, &pair, now);
            self.settle(to, outcome);
            self.send(to);
        }
        for sid in self.sids() {
            let (pair, now) = (self.pair.clone(), self.now);
            let crashes = self.rng.f64() < self.faults.crash;
            let comes_back = crashes || self.faults.crash == 0.0;
            match &mut self.member(sid).election {
                None if comes_back => self.start(sid),
                None => {}
                Some(_) if crashes => self.crash(sid),
                Some(election) => {
                    let is_due = election.deadline().is_some_and(|due| due <= now);
                    if is_due {
                        let outcome = election.tick(&pair, now);
                        self.settle(sid, outcome);
                        self.send(sid);
                    }
                    self.play(sid);
                }
            }
        }
    }

    /// Who says that it follows, and itself.
    fn followers(&self, leader: ServerId) -> Vec<ServerId> {
        let follows = |(_, member): &(&ServerId, &Member)| {
            let following = member.following.as_ref();
            following.is_some_and(|(elected, _)| elected.vote.leader == leader)
        };
        self.members
            .iter()
            .filter(follows)
            .map(|(sid, _)| *sid)
            .collect()
    }

    /// The role.
    fn play(&mut self, sid: ServerId) {
        let Some((elected, since)) = self.members[&sid].following.clone() else {
            return;
        };
        let leader = elected.vote.leader;
        let followers = self.followers(leader);
        let leads = followers.contains(&leader);
        let mut tally = Tally::of(&self.pair);
        followers.iter().for_each(|follower| {
            tally.ack(*follower);
        });
        if sid != leader {
            if !leads && since.after(FOLLOWER_PATIENCE_MS) <= self.now {
                self.look_again(sid);
            }
        } else if !tally.is_decided() {
            if since.after(LEADER_PATIENCE_MS) <= self.now {
                self.look_again(sid);
            }
        } else if self.rng.f64() < 0.02 {
            self.activate(leader, &followers);
        }
    }

    /// The leader takes an epoch above all others, orders something, and its followers have it too.
    fn activate(&mut self, leader: ServerId, followers: &[ServerId]) {
        let epoch = |offer: &Offer| match offer.0 {
            History::Whole { epoch, .. } => epoch.0,
            History::Fresh | History::Maimed => 0,
        };
        let last = self
            .members
            .values()
            .map(|member| epoch(&member.offer))
            .max();
        let epoch = last.unwrap_or(0) + 1;
        let counter = self.rng.u32(0..5);
        for follower in followers {
            let behind = u32::from(*follower != leader && self.rng.bool());
            let member = self.member(*follower);
            member.offer = whole(epoch, counter.saturating_sub(behind));
            member.election.as_mut().unwrap().synchronised(Epoch(epoch));
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.step();
        }
    }

    /// The leader that all have settled on, itself included.
    fn agreed(&self) -> Option<ServerId> {
        let mut leaders = self.members.values().map(|member| {
            let (elected, _) = member.following.as_ref()?;
            Some(elected.vote.leader)
        });
        let first = leaders.next()??;
        leaders.all(|leader| leader == Some(first)).then_some(first)
    }

    fn runs_until_all_agree(&mut self, ms: u64) -> ServerId {
        let until = self.now.after(ms);
        loop {
            if let Some(leader) = self.agreed() {
                return leader;
            }
            assert!(self.now < until, "no agreement after {ms} ms");
            self.step();
        }
    }
}

fn any_faults() -> impl Strategy<Value = Faults> {
    (0..4u8, 0..4u8, 0..3u8).prop_map(|(loss, delay, crash)| Faults {
        loss: [0.0, 0.05, 0.3, 0.7][usize::from(loss)],
        delay_ms: [5, 50, 300, 1500][usize::from(delay)],
        crash: [0.0, 0.0005, 0.005][usize::from(crash)],
        refused: 0.5,
    })
}

fn any_finalize() -> impl Strategy<Value = u64> {
    prop_oneof![Just(FINALIZE_MS), Just(FINALIZE_OURS_MS)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn whatever_is_lost_an_elected_leader_has_quorums_and_all_agree_when_it_is_calm(
        seed in any::<u64>(), n in prop_oneof![Just(3i64), Just(5)], finalize_ms in any_finalize(), faults in any_faults(),
    ) {
        let mut ensemble = Ensemble::new(seed, n, finalize_ms, faults);
        for sid in ensemble.sids() {
            ensemble.start(sid);
        }
        ensemble.run(5000);
        // What is on its way still comes.
        ensemble.faults = NONE;
        let leader = ensemble.runs_until_all_agree(CALM_MS);
        ensemble.run(2 * LEADER_PATIENCE_MS);
        prop_assert_eq!(ensemble.agreed(), Some(leader), "nobody has a reason to leave");
    }

    #[test]
    fn with_all_up_and_nothing_lost_the_best_history_leads_at_once(
        seed in any::<u64>(), n in prop_oneof![Just(3i64), Just(5)],
    ) {
        let mut ensemble = Ensemble::new(seed, n, FINALIZE_MS, NONE);
        let due = ensemble.members.iter().map(|(sid, member)| ensemble.candidate(*sid).vote(member.offer, &ensemble.pair)).max();
        for sid in ensemble.sids() {
            ensemble.start(sid);
            let ms = ensemble.rng.u64(0..10);
            // Who has not been started yet is not reached.
            ensemble.faults.crash = f64::MIN_POSITIVE;
            ensemble.run(ms);
        }
        let leader = ensemble.runs_until_all_agree(FINALIZE_MS + REPEAT_MS + 200);
        prop_assert_eq!(Some(leader), due.map(|vote| vote.leader));
        prop_assert_eq!(ensemble.elections, n as usize, "each has settled once");
    }
}
