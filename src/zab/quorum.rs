//! Which sets of voters decide (docs/peer-protocol.md §1.9). Any two quorums of one configuration have a voter in
//! common: everything that a quorum has acknowledged is known to somebody in each later quorum.
//!
//! | Rule | A set of voters is a quorum when |
//! |---|---|
//! | majority | it has more than half of the voters |
//! | groups | it wins more than half of the groups that have any weight; a group is won with more than half of its weight |
//!
//! Half is rounded down, as Apache does; "more than" makes two quorums meet for odd and even numbers alike.

use crate::types::{ServerId, Zxid};
use std::collections::{BTreeMap, BTreeSet};

/// Voters of one configuration. Ids of servers end at 254 in practice, where they share a byte of session ids.
pub const VOTERS_MAX: usize = 256;

/// A configuration, seen as what it needs to decide.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    version: Zxid,
    /// In order; an acknowledgement is a bit at the voter's place.
    voters: Vec<ServerId>,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Rule {
    Majority,
    Groups {
        /// Of each voter: the index of its group, and its weight.
        seats: Vec<(usize, u64)>,
        /// Of each group: the weight of all its servers, also of those that do not vote.
        totals: Vec<u64>,
    },
}

/// Why a configuration can decide nothing, or not in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// No voters at all, or groups without any weight: there would be no quorum.
    #[error("the configuration has no voter with any weight")]
    NoVoters,
    /// More than [`VOTERS_MAX`].
    #[error("the configuration has more than {VOTERS_MAX} voters")]
    TooManyVoters,
    /// A voter that is in no group.
    #[error("server {0} is in no group")]
    NoGroup(ServerId),
    /// A server that is in two groups.
    #[error("server {0} is in more than one group")]
    TwoGroups(ServerId),
    /// A server in a group that is no voter and has no weight: Apache's server does not start with it.
    #[error("server {0} is in a group, but it is no voter and has no weight")]
    Stranger(ServerId),
}

/// Which voters of one [`Quorum`] have acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Acks([u64; VOTERS_MAX / 64]);

impl Acks {
    fn set(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn has(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    fn count(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }
}

impl Quorum {
    /// More than half of the voters decide. `version` is the zxid of the reconfiguration, 0 where there was none.
    pub fn majority(
        version: Zxid,
        voters: impl IntoIterator<Item = ServerId>,
    ) -> Result<Quorum, QuorumError> {
        Ok(Quorum {
            version,
            voters: in_order(voters)?,
            rule: Rule::Majority,
        })
    }

    /// Groups decide (`group.G`, `weight.S`). A voter without a weight has 1; one with 0 is asked and adds nothing.
    pub fn groups(
        version: Zxid,
        voters: impl IntoIterator<Item = ServerId>,
        groups: &[Vec<ServerId>],
        weights: &BTreeMap<ServerId, u32>,
    ) -> Result<Quorum, QuorumError> {
        let voters = in_order(voters)?;
        let mut totals = vec![0; groups.len()];
        let mut seats = BTreeMap::new();
        for (group, servers) in groups.iter().enumerate() {
            for server in servers {
                let weight = match weights.get(server) {
                    Some(weight) => u64::from(*weight),
                    None if voters.binary_search(server).is_ok() => 1,
                    None => return Err(QuorumError::Stranger(*server)),
                };
                if seats.insert(*server, (group, weight)).is_some() {
                    return Err(QuorumError::TwoGroups(*server));
                }
                totals[group] += weight;
            }
        }
        let seat = |voter| {
            seats
                .get(voter)
                .copied()
                .ok_or(QuorumError::NoGroup(*voter))
        };
        let seats = voters.iter().map(seat).collect::<Result<Vec<_>, _>>()?;
        let quorum = Quorum {
            version,
            voters,
            rule: Rule::Groups { seats, totals },
        };
        // All voters together must be able to decide, or nothing ever would.
        if quorum.is_quorum(&quorum.acks_of(|_| true)) {
            Ok(quorum)
        } else {
            Err(QuorumError::NoVoters)
        }
    }

    /// The zxid of the reconfiguration that made it.
    pub fn version(&self) -> Zxid {
        self.version
    }

    /// All voters, in order.
    pub fn voters(&self) -> &[ServerId] {
        &self.voters
    }

    /// Whether a server votes here.
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.voters.binary_search(&server).is_ok()
    }

    /// Without weight a server is never elected. Where majorities decide everybody has 1, strangers too, as Apache
    /// has it; where groups decide strangers have 0 (Apache's election thread ends with an exception there).
    pub fn weight(&self, server: ServerId) -> u64 {
        match (&self.rule, self.voters.binary_search(&server)) {
            (Rule::Majority, _) => 1,
            (Rule::Groups { seats, .. }, Ok(place)) => seats[place].1,
            (Rule::Groups { .. }, Err(_)) => 0,
        }
    }

    /// Notes an acknowledgement; false if the server does not vote here (I-17).
    pub(super) fn ack(&self, acks: &mut Acks, server: ServerId) -> bool {
        match self.voters.binary_search(&server) {
            Ok(place) => {
                acks.set(place);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether those who have acknowledged decide.
    pub(super) fn is_quorum(&self, acks: &Acks) -> bool {
        match &self.rule {
            Rule::Majority => acks.count() > self.voters.len() / 2,
            Rule::Groups { seats, totals } => {
                let mut won = vec![0; totals.len()];
                for (place, (group, weight)) in seats.iter().enumerate() {
                    if acks.has(place) {
                        won[*group] += weight;
                    }
                }
                let with_weight = totals.iter().filter(|total| **total > 0).count();
                let is_won = |(won, total): (&u64, &u64)| *won > total / 2;
                let groups_won = won.iter().zip(totals).filter(|group| is_won(*group));
                groups_won.count() > with_weight / 2
            }
        }
    }

    fn acks_of(&self, has_acknowledged: impl Fn(ServerId) -> bool) -> Acks {
        let mut acks = Acks::default();
        for (place, voter) in self.voters.iter().enumerate() {
            if has_acknowledged(*voter) {
                acks.set(place);
            }
        }
        acks
    }
}

fn in_order(voters: impl IntoIterator<Item = ServerId>) -> Result<Vec<ServerId>, QuorumError> {
    let voters: Vec<ServerId> = voters
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    match voters.len() {
        0 => Err(QuorumError::NoVoters),
        n if n > VOTERS_MAX => Err(QuorumError::TooManyVoters),
        _ => Ok(voters),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    pub(crate) fn sids(ids: impl IntoIterator<Item = i64>) -> Vec<ServerId> {
        ids.into_iter().map(ServerId).collect()
    }

    pub(crate) fn majority_of(ids: impl IntoIterator<Item = i64>) -> Quorum {
        Quorum::majority(Zxid::ZERO, sids(ids)).unwrap()
    }

    /// Voters 1 to n, majorities or groups with any weights, now and then with an observer in a group.
    pub(crate) fn any_quorum() -> impl Strategy<Value = Quorum> {
        let majorities = btree_set(1..=12i64, 1..=7).prop_map(|voters| {
            Quorum::majority(Zxid(1), voters.into_iter().map(ServerId)).unwrap()
        });
        let seats = vec((0..4usize, 0..4u32, any::<bool>()), 1..=9);
        let groups = seats.prop_filter_map("without any weight", |seats| {
            let mut groups = vec![Vec::new(); 4];
            let (mut voters, mut weights) = (Vec::new(), BTreeMap::new());
            for (sid, (group, weight, votes)) in (1..).map(ServerId).zip(seats) {
                groups[group].push(sid);
                weights.insert(sid, weight);
                // Most vote.
                if votes || weight != 1 {
                    voters.push(sid);
                }
            }
            Quorum::groups(Zxid(1), voters, &groups, &weights).ok()
        });
        prop_oneof![1 => majorities, 2 => groups]
    }

    fn decides(quorum: &Quorum, ids: &BTreeSet<i64>) -> bool {
        quorum.is_quorum(&quorum.acks_of(|voter| ids.contains(&voter.0)))
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, least) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4), (256, 129)] {
            let quorum = majority_of(1..=voters);
            assert!(decides(&quorum, &(1..=least).collect()), "{voters}");
            assert!(!decides(&quorum, &(1..least).collect()), "{voters}");
        }
    }

    #[test]
    fn groups_are_won_by_weight_and_a_majority_of_groups_decides() {
        let groups = [sids(1..=3), sids(4..=6), sids(7..=9), sids([10])];
        // Server 3 outweighs its group, 9 adds nothing, and the group of server 10 does not count.
        let weights = [(3, 3), (9, 0), (10, 0)].map(|(sid, weight)| (ServerId(sid), weight));
        let quorum =
            Quorum::groups(Zxid(5), sids(1..=10), &groups, &BTreeMap::from(weights)).unwrap();
        for (ids, due) in [
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10][..], true),
            (&[3, 4, 5], true),
            (&[3, 7, 8], true),
            (&[4, 5, 7, 8], true),
            (&[1, 2, 4, 5], false),
            (&[3, 7, 9], false),
            (&[3, 10, 4], false),
            (&[1, 2, 3], false),
            (&[], false),
        ] {
            assert_eq!(
                decides(&quorum, &ids.iter().copied().collect()),
                due,
                "{ids:?}"
            );
        }
        let weights = [1, 3, 9, 11].map(|sid| quorum.weight(ServerId(sid)));
        assert_eq!(weights, [1, 3, 0, 0]);
        assert_eq!(majority_of(1..=3).weight(ServerId(11)), 1);
    }

    #[test]
    fn a_configuration_that_could_never_decide_or_in_two_ways_is_refused() {
        let groups = |voters: &[i64], groups: &[&[i64]], weights: &[(i64, u32)]| {
            let groups: Vec<_> = groups.iter().map(|ids| sids(ids.iter().copied())).collect();
            let weights = weights
                .iter()
                .map(|(sid, weight)| (ServerId(*sid), *weight));
            Quorum::groups(
                Zxid::ZERO,
                sids(voters.iter().copied()),
                &groups,
                &weights.collect(),
            )
            .map(|_| ())
        };
        use QuorumError::*;
        for (outcome, due) in [
            (groups(&[1, 2], &[&[1]], &[]), Err(NoGroup(ServerId(2)))),
            (
                groups(&[1, 2], &[&[1, 2], &[2]], &[]),
                Err(TwoGroups(ServerId(2))),
            ),
            (groups(&[1], &[&[1, 1]], &[]), Err(TwoGroups(ServerId(1)))),
            (groups(&[1], &[&[1, 2]], &[]), Err(Stranger(ServerId(2)))),
            (groups(&[1], &[&[1, 2]], &[(2, 0)]), Ok(())),
            // What the observer weighs can't be won.
            (groups(&[1], &[&[1, 2]], &[(2, 1)]), Err(NoVoters)),
            (
                groups(&[1, 2], &[&[1], &[2]], &[(1, 0), (2, 0)]),
                Err(NoVoters),
            ),
            (groups(&[], &[], &[]), Err(NoVoters)),
            (groups(&[1], &[&[1]], &[(1, u32::MAX)]), Ok(())),
        ] {
            assert_eq!(outcome, due);
        }
        assert_eq!(Quorum::majority(Zxid::ZERO, []), Err(NoVoters));
        let most = (0..=VOTERS_MAX as i64).map(ServerId);
        assert_eq!(Quorum::majority(Zxid::ZERO, most), Err(TooManyVoters));
    }

    fn any_set() -> impl Strategy<Value = BTreeSet<i64>> {
        btree_set(1..=12i64, 2..=12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn two_quorums_have_a_voter_in_common(quorum in any_quorum(), a in any_set(), b in any_set()) {
            if decides(&quorum, &a) && decides(&quorum, &b) {
                prop_assert!(a.intersection(&b).any(|sid| quorum.is_voter(ServerId(*sid))));
            }
        }

        #[test]
        fn what_decides_decides_with_more(quorum in any_quorum(), a in any_set(), b in any_set()) {
            if decides(&quorum, &a) {
                prop_assert!(decides(&quorum, &a.union(&b).copied().collect()));
            }
            prop_assert!(!decides(&quorum, &BTreeSet::new()));
        }

        #[test]
        fn a_set_and_what_it_leaves_out_never_both_decide(quorum in any_quorum(), a in any_set()) {
            let rest = (1..=12).filter(|sid| !a.contains(sid)).collect();
            prop_assert!(!(decides(&quorum, &a) && decides(&quorum, &rest)));
        }

        #[test]
        fn only_voters_and_only_weight_count(quorum in any_quorum(), a in any_set()) {
            let counted = |sid: &i64| quorum.is_voter(ServerId(*sid)) && quorum.weight(ServerId(*sid)) > 0;
            let voters = a.iter().copied().filter(counted).collect();
            prop_assert_eq!(decides(&quorum, &a), decides(&quorum, &voters));
        }
    }
}
