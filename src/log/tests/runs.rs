//! The history of a member's log against a list of transactions that is kept by hand.

use super::*;
use crate::log::fence::{Base, Fence};
use crate::log::record::{Kind, Record};
use crate::types::Epoch;
use fastrand::Rng;

type Placed = Vec<(Zxid, Position)>;

/// The same, one transaction at a time.
#[derive(Clone, Debug, Default)]
struct Naive {
    history: Placed,
    open: Option<(Epoch, Base, Placed)>,
    closed: Option<Epoch>,
    committed: Zxid,
    /// What comes before the first transaction.
    origin: Zxid,
}

impl Naive {
    fn end(&self) -> Zxid {
        self.history.last().map_or(self.origin, |(zxid, _)| *zxid)
    }

    fn is_held(&self, zxid: Zxid) -> bool {
        zxid == self.origin || self.history.iter().any(|(held, _)| *held == zxid)
    }

    /// What may come next, all of it.
    fn next(&self) -> Vec<Zxid> {
        let within_epoch = |after: Zxid| Zxid::new(after.epoch(), after.counter() + 1);
        match (&self.open, self.closed) {
            (Some((epoch, base, aside)), _) => {
                let after = aside.last().map_or(base.zxid(), |(zxid, _)| *zxid);
                let later = after.epoch() + 1..=epoch.0;
                let firsts = later.map(|epoch| Zxid::new(epoch, 1));
                firsts.chain([within_epoch(after)]).collect()
            }
            (None, None) => vec![self.end().next()],
            (None, Some(epoch)) if epoch.0 > self.end().epoch() => vec![Zxid::new(epoch.0, 1)],
            (None, Some(_)) => vec![within_epoch(self.end())],
        }
    }

    /// Whether it is taken.
    fn take(&mut self, position: Position, kind: Kind, zxid: Zxid, fence: Option<Fence>) -> bool {
        match (fence, &mut self.open) {
            (None, Some((.., aside))) if kind == Kind::Adopted => aside.push((zxid, position)),
            (None, None) if kind == Kind::Txn => self.history.push((zxid, position)),
            (None, _) => return false,
            (Some(Fence::Opened { epoch, base }), None) => {
                let zxid = base.zxid();
                let goes_on = match base {
                    Base::Log(_) => self.is_held(zxid) && zxid >= self.committed,
                    Base::Snap(_) => true,
                };
                if !goes_on || Some(epoch) < self.closed || epoch.0 < zxid.epoch() {
                    return false;
                }
                self.open = Some((epoch, base, Vec::new()));
            }
            (Some(Fence::Closed { epoch }), Some((own, base, aside))) => {
                let end = aside.last().map_or(base.zxid(), |(zxid, _)| *zxid);
                if epoch != *own || end < self.committed {
                    return false;
                }
                match *base {
                    Base::Log(base) => self.history.retain(|(zxid, _)| *zxid <= base),
                    Base::Snap(base) => {
                        self.history.clear();
                        self.origin = base;
                    }
                }
                self.history.append(aside);
                (self.open, self.closed) = (None, Some(epoch));
            }
            (Some(Fence::Void { epoch }), Some((own, ..))) if epoch == *own => self.open = None,
            (Some(_), _) => return false,
        }
        true
    }
}

/// The runs, one transaction at a time.
fn spelled(runs: &Runs) -> Vec<Zxid> {
    let each = |run: &Run| {
        assert_eq!(run.first.epoch(), run.last.epoch(), "a run is of one epoch");
        (run.first.0..=run.last.0).map(Zxid).collect::<Vec<_>>()
    };
    runs.runs().iter().flat_map(each).collect()
}

fn compare(runs: &Runs, naive: &Naive, rng: &mut Rng) {
    let zxids: Vec<Zxid> = naive.history.iter().map(|(zxid, _)| *zxid).collect();
    assert_eq!(spelled(runs), zxids);
    assert_eq!(
        (runs.end(), runs.committed()),
        (naive.end(), naive.committed)
    );
    assert_eq!(runs.is_open(), naive.open.is_some());
    for run in runs.runs() {
        assert!(naive.history.contains(&(run.first, run.position)));
        let within = |(zxid, _): &&(Zxid, Position)| run.first <= *zxid && *zxid <= run.last;
        let places: Vec<u64> = naive.history.iter().filter(within).map(|p| p.1.0).collect();
        assert!(
            places.windows(2).all(|two| two[0] + 64 == two[1]),
            "one piece of the log"
        );
    }
    for _ in 0..4 {
        let zxid = Zxid::new(rng.u32(0..6), rng.u32(0..12));
        assert_eq!(runs.contains(zxid), naive.is_held(zxid), "{zxid}");
        let behind = zxids.iter().find(|held| **held > zxid).copied();
        if naive.is_held(zxid) {
            assert_eq!(runs.first_behind(zxid), behind, "{zxid}");
        }
    }
}

/// Something that often fits, and often does not.
fn any_fence(naive: &Naive, rng: &mut Rng) -> Fence {
    let open = naive.open.as_ref().map(|(epoch, ..)| *epoch);
    let near = open.or(naive.closed).unwrap_or_default().0;
    let epoch = match open {
        Some(open) if rng.u8(0..8) > 0 => open,
        _ => Epoch((near + rng.u32(0..3)).saturating_sub(u32::from(rng.u8(0..6) == 0))),
    };
    let held = naive.history.iter().map(|(zxid, _)| *zxid);
    let held: Vec<Zxid> = held.chain([naive.origin]).collect();
    match rng.u8(0..6) {
        0..2 => {
            let zxid = match rng.u8(0..6) {
                0 => Zxid::new(rng.u32(0..6), rng.u32(0..12)),
                1..3 => naive.end(),
                _ => held[rng.usize(0..held.len())],
            };
            let base = match rng.u8(0..5) {
                0 => Base::Snap(Zxid(zxid.0 + rng.i64(0..3))),
                _ => Base::Log(zxid),
            };
            Fence::Opened { epoch, base }
        }
        2..5 => Fence::Closed { epoch },
        _ => Fence::Void { epoch },
    }
}

#[derive(Default)]
struct Counts {
    closed: usize,
    void: usize,
    refused: usize,
    cut: usize,
}

fn life(seed: u64, counts: &mut Counts) {
    let mut rng = Rng::with_seed(seed);
    let (mut runs, mut naive) = (Runs::default(), Naive::default());
    runs.anchor(Zxid::ZERO);
    let mut taken = 0;
    for _ in 0..120 {
        let position = Position(taken * 64);
        let mut fence = None;
        let (mut kind, mut zxid) = (Kind::Fence, naive.end());
        if rng.u8(0..3) > 0 {
            let due = naive.next();
            let is_within = naive.open.is_some() != (rng.u8(0..20) == 0);
            kind = if is_within { Kind::Adopted } else { Kind::Txn };
            zxid = due[rng.usize(0..due.len())];
            if rng.u8(0..10) == 0 {
                zxid = Zxid::new(rng.u32(0..6), rng.u32(0..12));
            }
        } else {
            fence = Some(any_fence(&naive, &mut rng));
        }
        let payload = fence.map(|fence| fence.encode().to_vec());
        let committed_to = match rng.u8(0..12) {
            0 => naive.end(),
            _ => naive.committed,
        };
        let record = Record {
            kind,
            zxid,
            position,
            durable_to: Position(0),
            committed_to,
            payload: &payload.unwrap_or_default(),
        };
        let mut next = Naive {
            committed: committed_to,
            ..naive.clone()
        };
        let fits = fence.is_some() || naive.next().contains(&zxid);
        let is_taken = fits && next.take(position, kind, zxid, fence);
        let before = runs.clone();
        let read = runs.read(&record);
        assert_eq!(
            read.is_ok(),
            is_taken,
            "seed {seed}: {record:?}: {read:?} {naive:?}"
        );
        if is_taken {
            counts.closed += usize::from(matches!(fence, Some(Fence::Closed { .. })));
            counts.void += usize::from(matches!(fence, Some(Fence::Void { .. })));
            counts.cut += usize::from(next.history.len() < naive.history.len());
            naive = next;
            taken += 1;
        } else {
            counts.refused += 1;
            assert_eq!(runs, before, "seed {seed}: what is refused changes nothing");
        }
        compare(&runs, &naive, &mut rng);
    }
}

#[test]
fn runs_are_the_history_that_a_list_of_transactions_tells() {
    let mut counts = Counts::default();
    for seed in 0..2000 {
        life(seed, &mut counts);
    }
    let Counts {
        closed,
        void,
        refused,
        cut,
    } = counts;
    assert!(
        closed > 2000 && void > 500 && refused > 5000 && cut > 500,
        "{closed} {void} {refused} {cut}"
    );
}

#[test]
fn what_no_member_writes_is_refused_by_its_name() {
    let (one, two) = (Epoch(1), Epoch(2));
    let z = |epoch, counter| Zxid::new(epoch, counter);
    let mut runs = Runs::default();
    runs.anchor(Zxid::ZERO);
    assert_eq!(runs.close(one), Err(Contradiction::NotOpen));
    assert_eq!(runs.void(one), Err(Contradiction::NotOpen));
    runs.open(one, Base::Log(Zxid::ZERO)).unwrap();
    let nested = runs.open(one, Base::Log(Zxid::ZERO));
    assert_eq!(nested, Err(Contradiction::Nested));
    let other = Contradiction::OtherEpoch {
        open: one,
        found: two,
    };
    assert_eq!(runs.close(two), Err(other));
    runs.close(one).unwrap();
    for counter in 1..=5 {
        assert_eq!(runs.place(z(1, counter)), Ok(Kind::Txn));
        runs.appended(z(1, counter), Position(counter.into()));
    }
    let gap = |zxid| Contradiction::Gap {
        after: z(1, 5),
        zxid,
    };
    // A new epoch begins behind a bracket of its own.
    for zxid in [z(2, 1), z(1, 7), z(1, 5), z(0, 6)] {
        assert_eq!(runs.place(zxid), Err(gap(zxid)));
    }
    runs.commit(z(1, 3));
    let forgets = |end| Contradiction::Forgets {
        end,
        committed: z(1, 3),
    };
    let cut = runs.open(two, Base::Log(z(1, 2)));
    assert_eq!(cut, Err(forgets(z(1, 2))));
    let elsewhere = runs.open(two, Base::Log(z(1, 6)));
    assert_eq!(elsewhere, Err(Contradiction::NoBase(z(1, 6))));
    runs.open(two, Base::Snap(z(1, 2))).unwrap();
    assert_eq!(runs.close(two), Err(forgets(z(1, 2))));
    runs.appended(z(1, 3), Position(100));
    runs.close(two).unwrap();
    assert_eq!((runs.origin(), runs.end()), (Some(z(1, 2)), z(1, 3)));
    let old = Contradiction::OldEpoch {
        epoch: one,
        last: two,
    };
    assert_eq!(runs.open(one, Base::Log(z(1, 3))), Err(old));
    assert_eq!(
        runs.place(z(1, 4)).map_err(|_| ()),
        Err(()),
        "epoch 1 is over"
    );
    assert_eq!(runs.place(z(2, 1)), Ok(Kind::Txn));
}

#[test]
fn what_is_not_in_the_log_any_more_is_forgotten_and_the_rest_stays() {
    let mut runs = Runs::default();
    runs.anchor(Zxid::ZERO);
    let mut position = 0;
    for epoch in 1..=4 {
        let end = runs.end();
        runs.open(Epoch(epoch), Base::Log(end)).unwrap();
        runs.close(Epoch(epoch)).unwrap();
        for counter in 1..=3 {
            position += 64;
            runs.appended(Zxid::new(epoch, counter), Position(position));
        }
    }
    let whole = runs.clone();
    runs.forget_before(Position(64));
    assert_eq!(runs, whole);
    // The second run goes on behind this place.
    runs.forget_before(Position(300));
    assert_eq!(runs.runs(), &whole.runs()[1..]);
    assert_eq!(runs.origin(), Some(Zxid::new(1, 3)));
    runs.forget_before(Position(u64::MAX));
    assert_eq!(runs.runs(), &whole.runs()[3..]);
    assert_eq!(runs.end(), whole.end());
}
