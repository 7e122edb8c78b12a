//! The journal over the real log, on the simulated disk.

use super::*;
use crate::log::{Contradiction, Known, LogConfig, Scan, StoreId};
use crate::sim::disk::SimStorage;
use crate::snapshot;
use crate::txn::{Txn, TxnHeader};
use crate::types::{OpCode, SessionId, WallMs};

const SEGMENT: u64 = 64 << 10;
const SMALL: RingBounds = RingBounds {
    ring_bytes: 4 << 10,
    piece_bytes: 1 << 10,
};

struct World {
    disk: SimStorage,
    journal: Journal<SimStorage>,
}

fn open(disk: &SimStorage, applied: Zxid) -> Journal<SimStorage> {
    let mut identity = disk.effects().into();
    let next = Box::new(move || {
        identity += 1;
        identity
    });
    let config = LogConfig {
        segment_bytes: SEGMENT,
    };
    let known = Known {
        after: applied,
        witness: None,
    };
    let scan = Scan::of_member(disk, &known).unwrap();
    let log = scan.open(config, next, StoreId(1), applied).unwrap();
    Journal::new(log, applied, SMALL)
}

fn entry(zxid: Zxid, bytes: usize) -> Vec<u8> {
    let header = TxnHeader {
        session: SessionId(1),
        cxid: 0,
        zxid,
        time: WallMs(1),
        op: OpCode::SET_DATA,
    };
    let txn = Txn::SetData {
        path: "/a".into(),
        data: Some(vec![7; bytes].into()),
        version: 1,
    };
    Entry {
        header,
        txn,
        digest: None,
    }
    .encode()
}

impl World {
    fn new() -> World {
        let disk = SimStorage::new(64 << 20);
        World {
            journal: open(&disk, Zxid::ZERO),
            disk,
        }
    }

    fn make_room(&mut self) {
        while let Some(order) = self.journal.poll_spare() {
            let made = order.fulfil(&self.disk);
            self.journal.spare_made(made).unwrap();
        }
    }

    fn accept(&mut self, zxid: Zxid) {
        self.make_room();
        self.journal.accept(zxid, &entry(zxid, 200), 1).unwrap();
    }

    fn sync(&mut self) {
        while let Some(ticket) = self.journal.poll_sync() {
            self.journal.synced(ticket.run(), 1).unwrap();
        }
    }

    /// The history goes on behind `base`, in this epoch.
    fn adopt(&mut self, epoch: u32, base: Zxid, with: &[Zxid]) {
        self.make_room();
        let epoch = Epoch(epoch);
        self.journal.open_adoption(epoch, base, None).unwrap();
        with.iter().for_each(|zxid| self.accept(*zxid));
        self.journal.close_adoption(epoch).unwrap();
    }

    fn decide(&mut self, zxid: Zxid) {
        let end = LogEnd {
            position: Default::default(),
            zxid,
        };
        let decided = Decided::alone(&Durable::played(end));
        self.journal.decided(&decided);
    }

    fn read_back(&mut self) -> bool {
        let Some(order) = self.journal.poll_lag() else {
            return false;
        };
        let LagOrder {
            mut cursor,
            history,
            stretch,
            ..
        } = order;
        let after = cursor.after();
        let entries = snapshot::read_history(&self.disk, &mut cursor, &history, stretch).unwrap();
        self.journal.read_back(ReadBack {
            after,
            cursor,
            entries,
        });
        true
    }

    /// Everything that is committed, as it comes to the tree.
    fn apply_all(&mut self) -> Vec<Zxid> {
        let mut applied = Vec::new();
        loop {
            while self.journal.tell(1).is_some() {}
            let told = self.journal.cursors().told;
            let next = self.journal.in_flight().next().map(|(slot, _)| slot.zxid());
            match next.filter(|zxid| *zxid <= told) {
                Some(zxid) => {
                    self.journal.applied(zxid, 1);
                    applied.push(zxid);
                }
                None if self.read_back() => {}
                None => return applied,
            }
        }
    }
}

fn range(epoch: u32, counters: std::ops::RangeInclusive<u32>) -> Vec<Zxid> {
    counters.map(|counter| Zxid::new(epoch, counter)).collect()
}

#[test]
fn a_long_synchronisation_stays_on_disk_until_it_is_decided_and_is_applied_behind_that() {
    let mut w = World::new();
    w.adopt(1, Zxid::ZERO, &range(1, 1..=300));
    w.sync();
    assert!(w.journal.poll_adoption().is_some());
    assert_eq!(w.journal.in_flight().count(), 0, "none of it is in memory");
    // The leader proposes while the lag is there.
    range(1, 301..=308).iter().for_each(|zxid| w.accept(*zxid));
    assert!(w.journal.poll_lag().is_none(), "nobody has decided it");
    w.decide(Zxid::new(1, 305));
    let applied = w.apply_all();
    assert_eq!(
        applied.last(),
        Some(&Zxid::new(1, 305)),
        "{:?}",
        w.journal.cursors()
    );
    assert_eq!(applied, range(1, 1..=305));
    assert_eq!(w.journal.cursors().durable, Zxid::new(1, 300));
    w.sync();
    w.decide(Zxid::new(1, 308));
    assert_eq!(w.apply_all(), range(1, 306..=308));
}

#[test]
fn what_a_start_has_not_applied_stays_on_disk_until_it_is_decided() {
    let mut w = World::new();
    w.adopt(1, Zxid::ZERO, &range(1, 1..=100));
    w.sync();
    w.decide(Zxid::new(1, 40));
    w.accept(Zxid::new(1, 101));
    w.sync();
    let journal = open(&w.disk, Zxid::new(1, 40));
    w.journal = journal;
    let cursors = w.journal.cursors();
    assert_eq!(cursors.applied, Zxid::new(1, 40));
    assert_eq!(cursors.durable, Zxid::new(1, 101));
    assert!(w.journal.poll_lag().is_none());
    // Another leader takes the rest back.
    w.adopt(3, Zxid::new(1, 60), &[Zxid::new(2, 1)]);
    w.sync();
    w.decide(Zxid::new(2, 1));
    let mut due = range(1, 41..=60);
    due.push(Zxid::new(2, 1));
    assert_eq!(w.apply_all(), due);
    assert_eq!(w.journal.next_zxid(), Zxid::new(3, 1));
}

#[test]
fn a_tree_that_is_slow_costs_no_more_memory_than_the_bounds_and_loses_nothing() {
    let mut w = World::new();
    w.adopt(1, Zxid::ZERO, &[]);
    w.sync();
    let mut held = 0;
    for zxid in range(1, 1..=300) {
        w.accept(zxid);
        w.sync();
        w.decide(zxid);
        while w.journal.tell(1).is_some() {}
        held = held.max(w.journal.in_flight().count());
    }
    // Records of some 330 bytes.
    assert!((12..30).contains(&held), "{held}");
    assert!(w.journal.has_lag());
    assert_eq!(w.apply_all(), range(1, 1..=300));
    assert!(!w.journal.has_lag());
}

#[test]
fn what_a_leader_sends_and_is_no_transaction_ends_the_role_and_leaves_nothing() {
    let mut w = World::new();
    w.adopt(1, Zxid::ZERO, &[]);
    w.accept(Zxid::new(1, 1));
    w.make_room();
    let next = Zxid::new(1, 2);
    let sound = entry(next, 20);
    let mut unknown = sound.clone();
    unknown[28..32].copy_from_slice(&99i32.to_be_bytes());
    let before = w.journal.log().end();
    for (zxid, bytes) in [
        (next, sound[..40].to_vec()),
        (next, Vec::new()),
        (next, unknown),
        (next, entry(Zxid::new(1, 3), 20)),
        (next, entry(next, SEGMENT as usize)),
        (Zxid::new(1, 3), entry(Zxid::new(1, 3), 20)),
        (Zxid::new(2, 1), entry(Zxid::new(2, 1), 20)),
        (Zxid::new(1, 1), entry(Zxid::new(1, 1), 20)),
    ] {
        let refused = w.journal.accept(zxid, &bytes, 1).unwrap_err();
        assert!(
            matches!(refused, Ending::Role(Leave::Unusable(of)) if of == zxid),
            "{refused:?}"
        );
    }
    assert_eq!(w.journal.log().end(), before);
    w.journal.accept(next, &sound, 1).unwrap();
    // Any bytes: no panic.
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..2000 {
        let mut bytes = entry(Zxid::new(1, 3), 20);
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
        }
        bytes.truncate(rng.usize(..=bytes.len()));
        if w.journal.accept(Zxid::new(1, 3), &bytes, 1).is_ok() {
            w = World::new();
            w.adopt(1, Zxid::ZERO, &range(1, 1..=2));
        }
        w.make_room();
    }
}

#[test]
fn a_history_that_contradicts_the_log_ends_the_role() {
    let mut w = World::new();
    w.adopt(4, Zxid::ZERO, &range(3, 1..=5));
    w.sync();
    w.decide(Zxid::new(3, 4));
    w.make_room();
    for (epoch, base) in [(5, (3, 3)), (5, (3, 9)), (2, (3, 5))] {
        let base = Zxid::new(base.0, base.1);
        let refused = w.journal.open_adoption(Epoch(epoch), base, None);
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, Ending::Role(Leave::Contradicts(_))),
            "{refused:?}"
        );
        assert!(!w.journal.is_adopting());
    }
    w.journal
        .open_adoption(Epoch(5), Zxid::new(3, 5), None)
        .unwrap();
    let other = w.journal.close_adoption(Epoch(6)).unwrap_err();
    let Ending::Role(Leave::Contradicts(Contradiction::OtherEpoch { .. })) = other else {
        panic!("{other:?}");
    };
    w.journal.void_adoption().unwrap();
    assert!(!w.journal.is_adopting());
    assert_eq!(w.journal.cursors().prepared, Zxid::new(3, 5));
}
