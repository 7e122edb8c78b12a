//! Decisions while one configuration is replaced by another (docs/peer-protocol.md §1.9, I-17, I-19).
//!
//! From the proposal of a reconfiguration to its commit two configurations are live, and every decision (an
//! election, an epoch, a history, a commit, going on as leader) needs a quorum of each. There is no decision by one
//! configuration alone anywhere: all take a [`Pair`] and count with a [`Tally`], which names what it counts for.

use super::quorum::{Acks, Quorum};
use crate::types::{ServerId, Zxid};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The committed configuration, and the last seen one while that is newer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    committed: Arc<Quorum>,
    last_seen: Option<Arc<Quorum>>,
}

impl Pair {
    /// No reconfiguration is under way.
    pub fn of(committed: Quorum) -> Pair {
        Pair {
            committed: Arc::new(committed),
            last_seen: None,
        }
    }

    /// Both. A last seen configuration that is not newer than the committed one is the committed one, or was
    /// given up, and has no say. Where reconfiguration is off all versions are 0, and it never has.
    pub fn new(committed: Arc<Quorum>, last_seen: Arc<Quorum>) -> Pair {
        let is_newer = last_seen.version() > committed.version();
        Pair {
            committed,
            last_seen: is_newer.then_some(last_seen),
        }
    }

    /// The committed configuration.
    pub fn committed(&self) -> &Quorum {
        &self.committed
    }

    fn live(&self) -> impl Iterator<Item = &Arc<Quorum>> {
        [&self.committed].into_iter().chain(&self.last_seen)
    }

    /// Whether a server votes now or will when the reconfiguration is committed.
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.live().any(|quorum| quorum.is_voter(server))
    }

    /// Who votes now or next, in order.
    pub fn voters(&self) -> BTreeSet<ServerId> {
        self.live()
            .flat_map(|quorum| quorum.voters())
            .copied()
            .collect()
    }

    /// In the committed configuration; without weight a server is never elected.
    pub fn weight(&self, server: ServerId) -> u64 {
        self.committed.weight(server)
    }

    /// Versions of both.
    pub fn versions(&self) -> (Zxid, Option<Zxid>) {
        let last_seen = self.last_seen.as_ref();
        (
            self.committed.version(),
            last_seen.map(|quorum| quorum.version()),
        )
    }
}

/// Who has acknowledged one thing, counted for the configurations that were live when it was proposed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tally {
    pair: Pair,
    committed: Acks,
    last_seen: Acks,
}

impl Tally {
    /// Nobody has.
    pub fn of(pair: &Pair) -> Tally {
        Tally {
            pair: pair.clone(),
            committed: Acks::default(),
            last_seen: Acks::default(),
        }
    }

    /// Counts a server for each configuration in which it votes; false if it votes in none: an observer, a follower
    /// without a vote, a stranger. It makes no difference how it is connected.
    pub fn ack(&mut self, server: ServerId) -> bool {
        let in_committed = self.pair.committed.ack(&mut self.committed, server);
        let last_seen = self.pair.last_seen.as_ref();
        let in_last_seen = last_seen.is_some_and(|quorum| quorum.ack(&mut self.last_seen, server));
        in_committed || in_last_seen
    }

    /// Whether a quorum of each configuration has acknowledged.
    pub fn is_decided(&self) -> bool {
        let last_seen = self.pair.last_seen.as_ref();
        self.pair.committed.is_quorum(&self.committed)
            && last_seen.is_none_or(|quorum| quorum.is_quorum(&self.last_seen))
    }

    /// What it counts for.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }
}

#[cfg(test)]
mod tests {
    use super::super::quorum::tests::{any_quorum, sids};
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    fn quorum(version: i64, ids: impl IntoIterator<Item = i64>) -> Arc<Quorum> {
        Arc::new(Quorum::majority(Zxid(version), sids(ids)).unwrap())
    }

    fn decides(pair: &Pair, ids: impl IntoIterator<Item = i64>) -> bool {
        let mut tally = Tally::of(pair);
        for id in ids {
            tally.ack(ServerId(id));
        }
        tally.is_decided()
    }

    #[test]
    fn while_two_configurations_are_live_each_needs_its_own_quorum() {
        let pair = Pair::new(quorum(0, 1..=3), quorum(7, 3..=7));
        assert_eq!(pair.versions(), (Zxid(0), Some(Zxid(7))));
        assert!(pair.voters().into_iter().eq(sids(1..=7)));
        assert!(!decides(&pair, [1, 2, 3]), "the new one has one of five");
        assert!(!decides(&pair, [4, 5, 6, 7]), "the old one has nobody");
        assert!(decides(&pair, [2, 3, 4, 5]), "server 3 counts in both");
    }

    #[test]
    fn a_last_seen_configuration_that_is_not_newer_has_no_say() {
        for version in [0, 6, 7] {
            let pair = Pair::new(quorum(7, 1..=3), quorum(version, 4..=6));
            assert_eq!(pair, Pair::of((*quorum(7, 1..=3)).clone()), "{version}");
            assert!(!pair.is_voter(ServerId(4)));
        }
    }

    // Plan, rule 14; known failure 2959: observers once completed quorums.
    #[test]
    fn nobody_counts_but_voters_of_that_configuration() {
        let pair = Pair::new(quorum(0, 1..=3), quorum(7, [1, 2, 3, 8]));
        let mut tally = Tally::of(&pair);
        assert!(tally.ack(ServerId(8)), "a voter of the next one");
        for stranger in [0, 4, 9, -1, i64::MIN, i64::MAX] {
            assert!(!tally.ack(ServerId(stranger)), "{stranger}");
        }
        assert!(tally.ack(ServerId(1)));
        assert!(
            !tally.is_decided(),
            "8 is no voter of the first, 1 alone is no quorum"
        );
        assert!(tally.ack(ServerId(1)), "again");
        assert!(!tally.is_decided(), "a voter counts once");
        assert!(tally.ack(ServerId(2)));
        assert!(tally.is_decided());
    }

    #[test]
    fn a_tally_names_the_configurations_that_it_counts_for() {
        let old = Pair::of((*quorum(0, 1..=3)).clone());
        let new = Pair::of((*quorum(7, 1..=3)).clone());
        assert_ne!(Tally::of(&old), Tally::of(&new));
        assert_eq!(Tally::of(&new).pair().versions(), (Zxid(7), None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        // What was decided before, between and after is known to each later decision.
        #[test]
        fn a_decision_of_a_pair_meets_each_decision_of_either(
            old in any_quorum(),
            next in btree_set(1..=9i64, 1..=6),
            a in btree_set(1..=12i64, 4..=12),
            b in btree_set(1..=12i64, 2..=12),
        ) {
            let next = Arc::new(Quorum::majority(Zxid(2), next.into_iter().map(ServerId)).unwrap());
            let both = Pair::new(Arc::new(old.clone()), next.clone());
            if !decides(&both, a.iter().copied()) {
                return Ok(());
            }
            for alone in [Pair::of(old), Pair::of((*next).clone())] {
                if decides(&alone, b.iter().copied()) {
                    prop_assert!(a.intersection(&b).any(|id| alone.is_voter(ServerId(*id))));
                }
            }
        }

        #[test]
        fn acknowledgements_add_up_in_any_order(pair in any_quorum().prop_map(Pair::of), mut ids in btree_set(1..=12i64, 0..=12).prop_map(Vec::from_iter).prop_shuffle()) {
            let mut tally = Tally::of(&pair);
            let mut was_decided = false;
            for id in &ids {
                tally.ack(ServerId(*id));
                prop_assert!(tally.is_decided() || !was_decided, "taken back");
                was_decided = tally.is_decided();
            }
            ids.sort();
            prop_assert_eq!(decides(&pair, ids), was_decided);
        }
    }
}
