//! What a leader's servers have on disk, and what that decides (docs/peer-protocol.md I-5, I-6).
//!
//! A server acknowledges a transaction when it and all before it are durable there. One zxid for each server is
//! therefore enough, and what a quorum has behind some zxid it has up to that zxid too: nothing is decided before its
//! predecessor. A standalone server is a quorum of one, which has decided what its own disk has.

use super::quorum::Quorum;
use super::tally::{Pair, Tally};
use crate::log::{Durable, LogEnd};
use crate::types::{ServerId, Zxid};

/// The only voter of a standalone server. Nobody else ever sees the number.
const ALONE: ServerId = ServerId(0);

/// Everything up to a zxid is decided for ever. Only a set of acknowledgements makes one; a transaction becomes visible
/// by it and by nothing else, so that the wrong order does not compile:
///
/// ```compile_fail
/// let forged = ringkeeper::zab::Decided(ringkeeper::types::Zxid(1));
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Decided(Zxid);

impl Decided {
    /// Everything up to here.
    pub fn zxid(&self) -> Zxid {
        self.0
    }
}

/// The acknowledgements of what one leader proposes, while the same configurations are live.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AckSet {
    own: ServerId,
    pair: Pair,
    /// Up to where each voter has everything, the furthest first. A voter that has acknowledged nothing is not there.
    acked: Vec<(Zxid, ServerId)>,
    decided: Zxid,
}

impl AckSet {
    /// Of a leader `own`, whose history up to `decided` is decided.
    pub fn new(own: ServerId, pair: Pair, decided: Zxid) -> AckSet {
        AckSet {
            own,
            pair,
            acked: Vec::new(),
            decided,
        }
    }

    /// Of a standalone server.
    pub fn alone(decided: Zxid) -> AckSet {
        let one = Quorum::majority(Zxid::ZERO, [ALONE]).expect("one voter is a quorum");
        AckSet::new(ALONE, Pair::of(one), decided)
    }

    /// The leader's own log is durable. It counts if the leader votes.
    pub fn own(&mut self, durable: &Durable<LogEnd>) -> Option<Decided> {
        self.ack(self.own, durable.zxid())
    }

    /// A server has everything up to a zxid, which was proposed. A decision, if more is decided by that; servers that
    /// vote in no live configuration count for nothing.
    pub fn ack(&mut self, server: ServerId, zxid: Zxid) -> Option<Decided> {
        if !self.pair.is_voter(server) {
            return None;
        }
        if let Some(at) = self.acked.iter().position(|(_, of)| *of == server) {
            if zxid <= self.acked[at].0 {
                return None;
            }
            self.acked.remove(at);
        }
        let at = self.acked.partition_point(|(of, _)| *of >= zxid);
        self.acked.insert(at, (zxid, server));
        let zxid = self.reached().filter(|zxid| *zxid > self.decided)?;
        self.decided = zxid;
        Some(Decided(zxid))
    }

    /// The last zxid that a quorum of each live configuration has.
    fn reached(&self) -> Option<Zxid> {
        let mut tally = Tally::of(&self.pair);
        let reached = self.acked.iter().find(|(_, server)| {
            tally.ack(*server);
            tally.is_decided()
        });
        reached.map(|(zxid, _)| *zxid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::quorum::tests::{any_quorum, majority_of};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn ack(set: &mut AckSet, server: i64, zxid: i64) -> Option<i64> {
        let decided = set.ack(ServerId(server), Zxid(zxid));
        decided.map(|decided| decided.zxid().0)
    }

    #[test]
    fn alone_what_is_acknowledged_is_decided_once() {
        let mut set = AckSet::alone(Zxid(7));
        for (zxid, decided) in [
            (7, None),
            (8, Some(8)),
            (8, None),
            (12, Some(12)),
            (9, None),
        ] {
            assert_eq!(ack(&mut set, ALONE.0, zxid), decided, "{zxid}");
        }
    }

    #[test]
    fn of_three_the_second_furthest_decides_and_the_leaders_own_is_one_of_them() {
        let mut set = AckSet::new(ServerId(1), Pair::of(majority_of(1..=3)), Zxid(10));
        for (server, zxid, decided) in [
            (1, 20, None),
            (2, 10, None),
            (2, 15, Some(15)),
            // Both followers are ahead of the leader's disk.
            (3, 30, Some(20)),
            (2, 25, Some(25)),
            (1, 21, None),
            (2, 24, None),
        ] {
            assert_eq!(ack(&mut set, server, zxid), decided, "{server} {zxid}");
        }
    }

    #[test]
    fn observers_and_strangers_decide_nothing() {
        let mut set = AckSet::new(ServerId(1), Pair::of(majority_of(1..=3)), Zxid(0));
        for stranger in [-1, 0, 4, i64::MAX] {
            assert_eq!(ack(&mut set, stranger, 5), None, "{stranger}");
        }
        assert_eq!(ack(&mut set, 2, 5), None, "one of three");
        assert!(set.acked.len() == 1, "and none of the others is kept");
        // A leader that has no vote of its own.
        let mut set = AckSet::new(ServerId(9), Pair::of(majority_of([2])), Zxid(0));
        assert_eq!(ack(&mut set, 9, 5), None);
        assert_eq!(ack(&mut set, 2, 5), Some(5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        // The same as a tally for each transaction, in which whoever acknowledges one has acknowledged all before.
        #[test]
        fn the_last_zxid_is_decided_that_a_tally_of_its_own_decides(
            old in any_quorum(),
            next in any_quorum(),
            acks in vec((1..=12i64, 1..=6i64), 1..60),
        ) {
            let next = Quorum::majority(Zxid(2), next.voters().iter().copied()).unwrap();
            let pair = Pair::new(Arc::new(old), Arc::new(next));
            let mut set = AckSet::new(ServerId(1), pair.clone(), Zxid(0));
            let mut tallies: BTreeMap<i64, Tally> = (1..=6).map(|z| (z, Tally::of(&pair))).collect();
            let mut decided = 0;
            for (server, zxid) in acks {
                let told = ack(&mut set, server, zxid);
                for (_, tally) in tallies.range_mut(..=zxid) {
                    tally.ack(ServerId(server));
                }
                let by_tallies = tallies.iter().take_while(|(_, tally)| tally.is_decided()).last();
                let last = by_tallies.map_or(0, |(zxid, _)| *zxid);
                prop_assert_eq!(told, (last > decided).then_some(last));
                decided = last;
            }
        }
    }
}
