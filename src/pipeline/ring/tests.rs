use super::*;
use crate::log::Cursor;
use crate::messages::Stamps;
use crate::txn::{Entry, Txn, TxnHeader};
use crate::types::{ErrorCode, Generation, OpCode, Position, SessionId, WallMs};
use fastrand::Rng;
use proptest::prelude::*;
use std::sync::Arc;

const RECORD: u64 = 100;

fn entry(zxid: Zxid) -> Arc<Entry> {
    Arc::new(Entry {
        header: TxnHeader {
            session: SessionId::NONE,
            cxid: 0,
            zxid,
            time: WallMs(0),
            op: OpCode::ERROR,
        },
        txn: Txn::Error {
            code: ErrorCode::NO_NODE,
        },
        digest: None,
    })
}

fn slot(zxid: Zxid, end: u64) -> Slot {
    Slot {
        end: Position(end),
        entry: entry(zxid),
        origin: None,
        generation: Generation(0),
        stamps: Stamps::default(),
    }
}

fn proof(position: u64, zxid: Zxid) -> Durable<LogEnd> {
    let position = Position(position);
    Durable::played(LogEnd { position, zxid })
}

fn decided(zxid: Zxid) -> Decided {
    Decided::alone(&proof(0, zxid))
}

/// A log in memory, and the ring over it.
struct World {
    ring: Ring,
    /// What the history holds, with the ends of the records.
    log: Vec<(Zxid, Position)>,
    position: u64,
    applied: Vec<Zxid>,
}

impl World {
    fn new() -> World {
        World {
            ring: Ring::new(Zxid::ZERO, Zxid::ZERO),
            log: Vec::new(),
            position: 0,
            applied: Vec::new(),
        }
    }

    fn end(&self) -> Zxid {
        self.log.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid)
    }

    fn push(&mut self) -> Zxid {
        let zxid = self.ring.next_zxid();
        self.position += RECORD;
        self.log.push((zxid, Position(self.position)));
        self.ring.push(slot(zxid, self.position));
        zxid
    }

    fn sync_to(&mut self, zxid: Zxid) {
        let durable = self.log.iter().rev().find(|(known, _)| *known <= zxid);
        if let Some((zxid, position)) = durable {
            let proof = proof(position.0, *zxid);
            self.ring.synced(&proof, HistoryId(0), 7);
        }
    }

    fn tell(&mut self) -> Vec<Zxid> {
        let mut told = Vec::new();
        while let Some(slot) = self.ring.tell(9) {
            told.push(slot.zxid());
        }
        told
    }

    fn apply(&mut self, n: usize) {
        for _ in 0..n.min(self.ring.told) {
            let zxid = self.ring.slots[0].zxid();
            self.ring.applied(zxid);
            self.applied.push(zxid);
        }
    }

    /// Reads a part of the lag of so many transactions, if any may be read.
    fn read_back(&mut self, bytes_max: u64, n: usize) -> bool {
        let Some((lag, upto)) = self.ring.poll_lag(bytes_max) else {
            return false;
        };
        let after = lag.after();
        lag.begin().expect("one at a time");
        let behind = self.log.iter().filter(|(zxid, _)| *zxid > after);
        let read: Vec<_> = behind
            .take_while(|(zxid, _)| *zxid <= upto)
            .take(n)
            .collect();
        let last = read.last().expect("the log holds it").0;
        let entries = read.iter().map(|(zxid, end)| (entry(*zxid), *end));
        let read = ReadBack {
            after,
            cursor: Cursor::new(last),
            entries: entries.collect(),
        };
        self.ring.read_back(read);
        true
    }

    /// A leader's history: the own one up to `base`, and so many transactions of this epoch.
    fn adopt(&mut self, epoch: u32, base: Zxid, n: u32) {
        self.log.retain(|(zxid, _)| *zxid <= base);
        for counter in 1..=n {
            self.position += RECORD;
            let zxid = Zxid::new(epoch, counter);
            self.log.push((zxid, Position(self.position)));
        }
        self.ring.adopt(Adopted {
            epoch: Epoch(epoch + 1),
            base: Base::Log(base),
            end: self.end(),
        });
    }
}

#[test]
fn others_may_decide_before_the_own_sync_and_what_is_gone_by_then_is_counted_once() {
    let mut w = World::new();
    let [first, second, third] = [(); 3].map(|()| w.push());
    w.ring.decided(&decided(second));
    assert_eq!(w.tell(), [first, second]);
    w.apply(1);
    let cursors = w.ring.cursors();
    assert_eq!((cursors.applied, cursors.durable), (first, Zxid::ZERO));
    assert!(cursors.committed > cursors.durable);
    // The sync covers one that is gone, one that was told, and one that nobody has decided.
    w.sync_to(third);
    assert_eq!((w.ring.durable, w.ring.told), (2, 1));
    assert_eq!(w.ring.cursors().durable, third);
    assert!(w.tell().is_empty());
    w.ring.decided(&decided(third));
    assert_eq!(w.tell(), [third]);
    w.apply(2);
    assert_eq!((w.ring.durable, w.ring.told, w.ring.untold()), (0, 0, 0));
    assert_eq!(w.ring.cursors().applied, third);
}

#[test]
fn what_is_told_before_it_is_durable_here_has_not_waited_for_the_own_disk() {
    let mut w = World::new();
    let first = w.push();
    w.ring.decided(&decided(first));
    let stamps = w.ring.tell(9).expect("it is committed").stamps;
    assert_eq!((stamps.synced, stamps.committed), (9, 9));
    w.ring.applied(first);
    let second = w.push();
    w.sync_to(second);
    w.ring.decided(&decided(second));
    let stamps = w.ring.tell(9).expect("it is committed").stamps;
    assert_eq!((stamps.synced, stamps.committed), (7, 9));
}

#[test]
fn the_next_zxid_is_the_first_of_an_epoch_behind_its_adoption() {
    let z = Zxid::new;
    let mut w = World::new();
    assert_eq!([w.push(), w.push()], [z(0, 1), z(0, 2)]);
    w.sync_to(z(0, 2));
    w.adopt(2, z(0, 2), 0);
    assert_eq!(w.ring.next_zxid(), z(3, 1));
    w.ring.decided(&decided(z(0, 2)));
    assert!(w.read_back(1, 9));
    assert_eq!([w.push(), w.push()], [z(3, 1), z(3, 2)]);
    assert_eq!(w.ring.next_zxid(), z(3, 3));
}

#[test]
fn a_standalone_servers_zxids_roll_over_into_the_next_epoch() {
    let last = Zxid::new(4, Zxid::COUNTER_MAX);
    let mut ring = Ring::new(last, last);
    assert_eq!(ring.next_zxid(), Zxid::new(5, 1));
    ring.push(slot(Zxid::new(5, 1), RECORD));
}

#[test]
fn an_adoption_takes_back_what_nobody_has_committed_and_its_history_is_on_disk() {
    let z = Zxid::new;
    let mut w = World::new();
    (0..5).for_each(|_| _ = w.push());
    w.sync_to(z(0, 5));
    w.ring.decided(&decided(z(0, 2)));
    w.tell();
    w.apply(2);
    w.adopt(3, z(0, 3), 2);
    let cursors = w.ring.cursors();
    assert_eq!((cursors.prepared, cursors.durable), (z(3, 2), z(0, 3)));
    assert!(w.ring.all().next().is_none() && w.ring.has_lag());
    // Proof of the history before is none, whatever its place in the log.
    w.ring.synced(&proof(w.position, z(0, 5)), HistoryId(1), 7);
    assert_eq!(w.ring.cursors().durable, z(0, 3));
    assert!(!w.read_back(1, 9), "nobody has decided it");
    w.ring.decided(&decided(z(3, 1)));
    // Not further than what is durable.
    assert!(w.read_back(1, 9));
    assert_eq!(w.tell(), [z(0, 3)]);
    assert!(!w.read_back(1, 9));
    w.sync_to(z(3, 2));
    assert!(w.read_back(1, 9));
    assert_eq!(w.tell(), [z(3, 1)]);
}

#[test]
#[should_panic(expected = "told, and taken back")]
fn what_was_told_is_never_taken_back() {
    let mut w = World::new();
    let first = w.push();
    w.sync_to(first);
    w.ring.decided(&decided(first));
    w.tell();
    w.adopt(3, first, 0);
}

#[test]
fn before_the_tree_is_the_snapshots_nothing_behind_it_is_read() {
    let z = Zxid::new;
    let mut w = World::new();
    let old = w.push();
    w.sync_to(old);
    w.ring.decided(&decided(old));
    w.tell();
    w.apply(1);
    w.log = vec![(z(2, 1), Position(500))];
    w.ring.adopt(Adopted {
        epoch: Epoch(2),
        base: Base::Snapshot(z(1, 90)),
        end: z(2, 1),
    });
    assert_eq!(w.ring.awaited(), None, "nobody has decided it");
    w.sync_to(z(2, 1));
    w.ring.decided(&decided(z(2, 1)));
    assert_eq!(w.ring.awaited(), Some(z(1, 90)));
    assert!(!w.read_back(1, 9));
    w.ring.installed(z(1, 90));
    assert_eq!(w.ring.cursors().applied, z(1, 90));
    assert!(w.read_back(1, 9));
    assert_eq!(w.tell(), [z(2, 1)]);
    w.apply(1);
    // Of one that is behind the tree nothing is needed but what follows.
    w.log.push((z(3, 1), Position(600)));
    w.ring.adopt(Adopted {
        epoch: Epoch(4),
        base: Base::Snapshot(z(1, 95)),
        end: z(3, 1),
    });
    w.sync_to(z(3, 1));
    w.ring.decided(&decided(z(3, 1)));
    assert_eq!(w.ring.awaited(), None);
    assert!(w.read_back(1, 9));
    assert_eq!(w.tell(), [z(3, 1)]);
}

#[test]
fn what_follows_a_snapshot_at_once_waits_for_the_tree_too() {
    let z = Zxid::new;
    let mut w = World::new();
    w.ring.adopt(Adopted {
        epoch: Epoch(2),
        base: Base::Snapshot(z(1, 90)),
        end: z(1, 90),
    });
    w.ring.synced(&proof(0, z(1, 90)), HistoryId(0), 7);
    let next = w.push();
    w.sync_to(next);
    w.ring.decided(&decided(next));
    assert!(!w.ring.can_tell() && w.tell().is_empty());
    assert!(!w.read_back(1, 9));
    w.ring.installed(z(1, 90));
    assert_eq!(w.tell(), [next]);
}

#[test]
fn what_a_slow_tree_leaves_behind_is_bounded_in_memory_and_comes_back_in_order() {
    const BOUND: u64 = 10 * RECORD;
    let mut w = World::new();
    let held = |w: &World| w.ring.all().count();
    for _ in 0..100 {
        w.ring.bound(BOUND);
        let zxid = w.push();
        w.sync_to(zxid);
        w.ring.decided(&decided(zxid));
        w.tell();
        assert!(held(&w) <= 22, "{}", held(&w));
    }
    assert!(w.ring.has_lag());
    // As fast as it is written, the tree comes near and the lag ends.
    let mut rounds = 0;
    while w.ring.has_lag() {
        rounds += 1;
        assert!(rounds < 200, "a lag without an end");
        w.ring.bound(BOUND);
        let zxid = w.push();
        w.sync_to(zxid);
        w.ring.decided(&decided(zxid));
        w.read_back(BOUND / 2, 5);
        w.tell();
        w.apply(2);
        assert!(held(&w) <= 27, "{}", held(&w));
    }
    w.tell();
    w.apply(usize::MAX);
    let order: Vec<Zxid> = w.log.iter().map(|(zxid, _)| *zxid).collect();
    assert_eq!(w.applied, order);
}

#[test]
fn a_part_that_was_read_of_a_lag_that_is_gone_is_nothing() {
    let z = Zxid::new;
    let mut w = World::new();
    (0..3).for_each(|_| _ = w.push());
    w.sync_to(z(0, 3));
    w.adopt(2, z(0, 3), 0);
    w.sync_to(z(0, 3));
    w.ring.decided(&decided(z(0, 3)));
    let (lag, _) = w.ring.poll_lag(1).expect("three");
    let after = lag.after();
    lag.begin().expect("nobody reads");
    w.adopt(4, z(0, 3), 1);
    let stale = ReadBack {
        after,
        cursor: Cursor::new(z(0, 3)),
        entries: vec![(entry(z(0, 1)), Position(RECORD))],
    };
    w.ring.read_back(stale);
    assert!(w.tell().is_empty());
    w.sync_to(z(4, 1));
    w.ring.decided(&decided(z(4, 1)));
    assert!(w.read_back(1, 9));
    assert_eq!(w.tell(), [z(0, 1), z(0, 2), z(0, 3), z(4, 1)]);
}

proptest! {
    /// Leaders come and go, the own disk and the tree are slow, what is decided is decided: everything that is
    /// committed is applied once, in order, whatever was in memory.
    #[test]
    fn what_is_committed_is_applied_once_and_in_order(seed in any::<u64>(), bound in 1..12u64) {
        let mut rng = Rng::with_seed(seed);
        let mut w = World::new();
        let mut epoch = 0;
        let bytes = bound * RECORD;
        for _ in 0..300 {
            let committed = w.ring.cursors().committed;
            match rng.u8(0..12) {
                0..5 => {
                    w.ring.bound(bytes);
                    w.push();
                }
                5 => {
                    let zxids: Vec<Zxid> = w.log.iter().map(|(zxid, _)| *zxid).collect();
                    if let Some(zxid) = rng.choice(&zxids)
                        && *zxid > w.ring.cursors().durable
                    {
                        w.sync_to(*zxid);
                    }
                }
                6 | 7 => {
                    let left = w.log.iter().map(|(zxid, _)| *zxid).filter(|zxid| *zxid > committed);
                    let left: Vec<Zxid> = left.collect();
                    if let Some(zxid) = rng.choice(&left) {
                        w.ring.decided(&decided(*zxid));
                    }
                }
                8 => drop(w.tell()),
                9 => w.apply(rng.usize(0..5)),
                10 => drop(w.read_back(bytes.div_ceil(2), rng.usize(1..4))),
                // A role ends when what is committed is applied.
                _ if w.ring.cursors().applied == committed => {
                    epoch += 2;
                    let kept = w.log.iter().map(|(zxid, _)| *zxid).filter(|zxid| *zxid >= committed);
                    let kept: Vec<Zxid> = kept.collect();
                    let base = rng.choice(&kept).copied().unwrap_or(committed);
                    w.adopt(epoch, base, rng.u32(0..5));
                }
                _ => {}
            }
        }
        w.sync_to(w.end());
        let end = w.end();
        w.ring.decided(&decided(end));
        for _ in 0..500 {
            w.tell();
            w.apply(usize::MAX);
            w.read_back(bytes.div_ceil(2), 2);
        }
        prop_assert_eq!(w.ring.cursors().applied, end);
        let order: Vec<Zxid> = w.log.iter().map(|(zxid, _)| *zxid).collect();
        prop_assert_eq!(w.applied, order);
        prop_assert!(!w.ring.has_lag());
    }
}
