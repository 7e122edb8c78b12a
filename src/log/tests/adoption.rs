//! Members take over histories on a simulated disk: what a crash leaves, wherever it comes, and what is refused.

use super::*;
use crate::log::fence::{Base, Fence};
use crate::log::record::{HEADER, Kind, Record};
use crate::sim::disk::SimFile;
use crate::types::Epoch;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::io;

/// The transactions that count, each with a byte that says who has written it.
type History = Vec<(Zxid, u8)>;

const OLD: u8 = 1;
const NEW: u8 = 2;
const ALL: Stretch = Stretch {
    upto: Zxid(i64::MAX),
    bytes: u64::MAX,
};

fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn known(after: Zxid, witness: Option<Witness>) -> Known {
    Known { after, witness }
}

/// What counts behind `after`, or behind where the history begins.
fn read(disk: &SimStorage, runs: &Runs, after: Zxid) -> Result<History, RecoveryError> {
    let mut found = Vec::new();
    let after = match runs.contains(after) {
        true => after,
        false => runs.origin().expect("where it begins"),
    };
    Cursor::new(after).read(disk, runs, ALL, |record| {
        let tag = *record.payload.first().expect("a tag");
        assert!(record.payload.iter().all(|byte| *byte == tag));
        found.push((record.zxid, tag));
        Ok::<(), RecoveryError>(())
    })?;
    Ok(found)
}

struct Begun {
    log: Log<SimStorage>,
    history: History,
    committed: Zxid,
}

fn begin(disk: &SimStorage, seed: u128, known: &Known) -> Result<Begun, RecoveryError> {
    let scan = Scan::of_member(disk, known)?;
    let history = read(disk, scan.history().unwrap(), known.after)?;
    let committed = scan.committed_to();
    let log = scan.open(CONFIG, identities(seed), STORE, Zxid::ZERO)?;
    Ok(Begun {
        log,
        history,
        committed,
    })
}

/// The same, of a log of which nothing is known but what it says itself.
fn begin_all(disk: &SimStorage, seed: u128) -> Begun {
    begin(disk, seed, &Known::default()).unwrap()
}

/// Asks for room until there is some.
fn make_room(log: &mut Log<SimStorage>, disk: &SimStorage, len: usize) -> io::Result<()> {
    while log.room_for(Need::Growing, len) == Room::Wait {
        match log.poll_spare() {
            Some(order) => log.spare_made(order.fulfil(disk))?,
            // So many segments gather.
            None => sync_all(log)?,
        }
    }
    Ok(())
}

fn add(
    log: &mut Log<SimStorage>,
    disk: &SimStorage,
    zxid: Zxid,
    tag: u8,
    len: usize,
) -> io::Result<()> {
    make_room(log, disk, len)?;
    log.append(zxid, &vec![tag; len]).map(drop)
}

fn sync_all(log: &mut Log<SimStorage>) -> io::Result<()> {
    if let Some(ticket) = log.begin_sync() {
        log.synced(ticket.run())?;
    }
    Ok(())
}

fn failed(error: AdoptionError) -> io::Error {
    match error {
        AdoptionError::Failed(error) => error,
        AdoptionError::Refused(refusal) => panic!("{refusal}"),
    }
}

/// Opens and closes a bracket of this epoch at the end of the history.
fn reign(log: &mut Log<SimStorage>, disk: &SimStorage, epoch: u32) -> io::Result<()> {
    make_room(log, disk, 2 * FENCE)?;
    let end = log.end().zxid;
    log.open_bracket(Epoch(epoch), Base::Log(end))
        .map_err(failed)?;
    log.close_adoption(Epoch(epoch)).map_err(failed)
}

const FENCE: usize = Log::<SimStorage>::FENCE;

/// (1, 1) to (1, `n`), all durable, committed up to (1, 3).
fn member(n: u32, len: usize) -> (SimStorage, Log<SimStorage>) {
    let disk = SimStorage::new(64 << 20);
    let mut log = begin_all(&disk, 1).log;
    reign(&mut log, &disk, 1).unwrap();
    for counter in 1..=n {
        add(&mut log, &disk, z(1, counter), OLD, len).unwrap();
    }
    log.committed(z(1, 3));
    sync_all(&mut log).unwrap();
    assert!(log.poll_adoption().is_some());
    // A seal says so.
    log.tick(Tick(0)).unwrap();
    log.tick(Tick(200)).unwrap();
    sync_all(&mut log).unwrap();
    (disk, log)
}

fn histories(n: u32, base: Zxid, is_snapshot: bool, follows: &[Zxid]) -> (History, History) {
    let old: History = (1..=n).map(|counter| (z(1, counter), OLD)).collect();
    let kept = |(zxid, _): &&(Zxid, u8)| *zxid <= base && !is_snapshot;
    let mut new: History = old.iter().filter(kept).copied().collect();
    new.extend(follows.iter().map(|zxid| (*zxid, NEW)));
    (old, new)
}

// A crash, wherever it comes.

/// A synchronisation: what it continues, what follows, and how large each of that is.
#[derive(Clone, Debug)]
struct Case {
    base: Base,
    follows: Vec<Zxid>,
    len: usize,
    /// A sync is made behind each so many transactions.
    sync_each: usize,
}

/// Behind the old history of (1, 1) to (1, 6).
fn cases() -> Vec<Case> {
    let case = |base, follows: &[Zxid], len, sync_each| Case {
        base,
        follows: follows.to_vec(),
        len,
        sync_each,
    };
    let long: Vec<Zxid> = (4..40).map(|counter| z(1, counter)).collect();
    vec![
        case(Base::Log(z(1, 6)), &[], 0, 9),
        case(Base::Log(z(1, 6)), &[z(1, 7), z(2, 1)], 700, 1),
        case(Base::Log(z(1, 3)), &[], 0, 9),
        case(Base::Log(z(1, 4)), &[z(1, 5), z(1, 6), z(1, 7)], 3000, 9),
        case(Base::Log(z(1, 3)), &long, 3000, 7),
        case(Base::Snap(z(1, 2)), &[z(1, 3), z(1, 4), z(2, 1)], 700, 2),
        case(Base::Snap(z(2, 9)), &[], 0, 9),
        case(Base::Snap(z(2, 9)), &[z(3, 1)], 700, 9),
    ]
}

/// What was done before the crash.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// Everything before the synchronisation is durable.
    begun: bool,
    proven: bool,
    /// A transaction of the new epoch is durable, too.
    went_on: bool,
}

fn synchronise(
    disk: &SimStorage,
    log: &mut Log<SimStorage>,
    case: &Case,
    done: &mut Done,
) -> io::Result<()> {
    done.begun = true;
    make_room(log, disk, FENCE)?;
    log.open_bracket(Epoch(4), case.base).map_err(failed)?;
    for (nth, zxid) in (1..).zip(&case.follows) {
        add(log, disk, *zxid, NEW, case.len.max(1))?;
        if nth % case.sync_each == 0 {
            sync_all(log)?;
            assert!(log.poll_adoption().is_none(), "it is open");
        }
    }
    make_room(log, disk, FENCE)?;
    log.close_adoption(Epoch(4)).map_err(failed)?;
    assert!(log.poll_adoption().is_none(), "it is not durable");
    sync_all(log)?;
    let proof = log.poll_adoption().expect("it is durable");
    assert_eq!((proof.epoch(), proof.zxid()), (Epoch(4), log.end().zxid));
    assert_eq!(proof.history(), log.proof().history());
    assert!(log.poll_adoption().is_none(), "once");
    done.proven = true;
    add(log, disk, z(4, 1), NEW, 100)?;
    sync_all(log)?;
    done.went_on = true;
    Ok(())
}

#[test]
fn a_crash_at_every_effect_of_a_synchronisation_leaves_the_old_history_or_the_new_one() {
    let mut outcomes = BTreeMap::new();
    for (nth, case) in cases().into_iter().enumerate() {
        let (disk, mut log) = member(6, 700);
        let begins = disk.effects();
        synchronise(&disk, &mut log, &case, &mut Done::default()).unwrap();
        let effects = disk.effects() - begins;
        for effect in 0..=effects {
            for seed in 0..12 {
                let end = crashed(&case, effect, seed);
                *outcomes.entry((nth, end)).or_insert(0) += 1;
            }
        }
    }
    // Old, new, and new with the proof: each of them in each case.
    for nth in 0..cases().len() {
        for end in 0..3 {
            assert!(
                outcomes.contains_key(&(nth, end)),
                "{nth} {end}: {outcomes:?}"
            );
        }
    }
}

/// 0: the old history is found; 1: the new one; 2: that, and it was proven.
fn crashed(case: &Case, effect: u64, seed: u64) -> u8 {
    let (disk, mut log) = member(6, 700);
    let mut rng = Rng::with_seed(seed);
    let witness = Witness::first(STORE, Position(0)).renewed(log.durable_end(), log.newest());
    disk.crash_at(Some(disk.effects() + effect));
    let mut done = Done::default();
    let is_done = synchronise(&disk, &mut log, case, &mut done).is_ok();
    let proven = log.durable_end();
    assert_eq!(is_done, done.went_on);
    let newest = log.newest();
    drop(log);
    disk.crash_at(None);
    disk.restart(&mut rng, !seed.is_multiple_of(3));
    // Whoever has the proof has written the record with it, and the witness goes along.
    let witness = match done.proven {
        true => witness.renewed(proven, newest.min(proven.position)),
        false => witness,
    };
    let (old, mut new) = histories(
        6,
        case.base.zxid(),
        matches!(case.base, Base::Snap(_)),
        &case.follows,
    );
    let known = known(Zxid::ZERO, Some(witness));
    // The start is cut off, too, now and then.
    if seed % 4 == 3 {
        disk.crash_at(Some(disk.effects() + rng.u64(0..8)));
        let _ = begin(&disk, 40, &known);
        disk.crash_at(None);
        disk.restart(&mut rng, true);
    }
    let context = format!("{case:?} effect {effect} seed {seed}");
    let begun = begin(&disk, 50, &known).unwrap_or_else(|e| panic!("{context}: {e}"));
    assert!(begun.committed >= z(1, 3), "{context}");
    let found = begun.history;
    let mut log = begun.log;
    let went_on = found.last() == Some(&(z(4, 1), NEW));
    if went_on {
        new.push((z(4, 1), NEW));
    }
    let is_new = found == new && (old != new || went_on || epoch_of(&log) == Some(Epoch(4)));
    assert!(is_new || found == old, "{context}: {found:?}");
    assert!(is_new || !done.proven, "{context}: it was proven");
    assert!(went_on || !done.went_on, "{context}: it was durable");
    // What was found stays, and the member goes on behind it.
    let end = log.end().zxid;
    assert_eq!(end, found.last().map_or(case.base.zxid(), |last| last.0));
    assert_eq!(log.proof().zxid(), end);
    reign(&mut log, &disk, 5).unwrap();
    add(&mut log, &disk, z(5, 1), NEW, 100).unwrap();
    sync_all(&mut log).unwrap();
    drop(log);
    disk.restart(&mut rng, true);
    let mut expected = found;
    expected.push((z(5, 1), NEW));
    assert_eq!(begin_all(&disk, 60).history, expected, "{context}");
    match (is_new, done.proven) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    }
}

/// Of the last synchronisation that the log has read closed.
fn epoch_of(log: &Log<SimStorage>) -> Option<Epoch> {
    log.history().unwrap().epoch()
}

// Random lives.

/// What a member's log should hold: the history behind each step of its life, and which of them is durable.
struct Life {
    rng: Rng,
    disk: SimStorage,
    log: Log<SimStorage>,
    /// Histories, the last one that of now.
    steps: Vec<History>,
    /// At which position the log was then.
    ends: Vec<Position>,
    aside: Option<(Epoch, Base, History)>,
    epoch: u32,
    /// A bracket of that epoch was closed last.
    reigns: bool,
    committed: Zxid,
    /// What a snapshot holds.
    after: Zxid,
    tag: u8,
    seen: [u32; 6],
}

impl Life {
    fn new(seed: u64) -> Life {
        let disk = SimStorage::new(256 << 20);
        let log = begin_all(&disk, 1).log;
        Life {
            rng: Rng::with_seed(seed),
            ends: vec![log.end().position],
            disk,
            log,
            steps: vec![Vec::new()],
            aside: None,
            epoch: 0,
            reigns: false,
            committed: Zxid::ZERO,
            after: Zxid::ZERO,
            tag: 0,
            seen: [0; 6],
        }
    }

    fn history(&self) -> &History {
        self.steps.last().unwrap()
    }

    fn end(&self) -> Zxid {
        self.history().last().map_or(self.after, |last| last.0)
    }

    fn step(&mut self, history: History) {
        self.steps.push(history);
        self.ends.push(self.log.end().position);
    }

    fn act(&mut self) -> io::Result<()> {
        let len = [1, 100, 3000, 9000][self.rng.usize(0..4)];
        match (self.rng.u8(0..20), self.aside.take()) {
            (0..10, Some((epoch, base, mut aside))) => {
                let after = aside.last().map_or(base.zxid(), |last| last.0);
                let zxid = match self.rng.u8(0..8) {
                    0 if after.epoch() < epoch.0 => z(after.epoch() + 1, 1),
                    _ => Zxid(after.0 + 1),
                };
                add(&mut self.log, &self.disk, zxid, self.tag, len)?;
                aside.push((zxid, self.tag));
                self.aside = Some((epoch, base, aside));
                let history = self.history().clone();
                self.step(history);
            }
            (10..13, Some((epoch, base, aside))) => {
                let end = aside.last().map_or(base.zxid(), |last| last.0);
                if end < self.committed {
                    self.aside = Some((epoch, base, aside));
                    return Ok(());
                }
                make_room(&mut self.log, &self.disk, FENCE)?;
                self.log.close_adoption(epoch).map_err(failed)?;
                let mut history = self.history().clone();
                match base {
                    Base::Log(base) => history.retain(|(zxid, _)| *zxid <= base),
                    Base::Snap(_) => history.clear(),
                }
                history.extend(aside);
                self.seen[0] += 1;
                self.reigns = true;
                self.step(history);
                if let Base::Snap(base) = base {
                    // It takes the place of the other ones.
                    sync_all(&mut self.log)?;
                    self.after = base;
                    self.seen[1] += 1;
                }
            }
            (13, Some(_)) => {
                make_room(&mut self.log, &self.disk, FENCE)?;
                self.log.void_adoption()?;
                self.seen[2] += 1;
                let history = self.history().clone();
                self.step(history);
            }
            (0..12, None) if self.reigns => {
                let zxid = match self.end().epoch() < self.epoch {
                    true => z(self.epoch, 1),
                    false => Zxid(self.end().0 + 1),
                };
                add(&mut self.log, &self.disk, zxid, self.tag, len)?;
                let mut history = self.history().clone();
                history.push((zxid, self.tag));
                self.step(history);
            }
            (0..15, None) => self.open()?,
            (_, aside) => {
                self.aside = aside;
                match self.rng.u8(0..8) {
                    0..4 => sync_all(&mut self.log)?,
                    4..6 => self.commit(),
                    6 => self.log.tick(Tick(self.rng.u64(0..1000)))?,
                    _ => self.snapshot()?,
                }
            }
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        self.epoch =
            self.end().epoch().max(self.epoch) + self.rng.u32(0..2).max(u32::from(self.epoch == 0));
        self.tag = self.tag.wrapping_add(1);
        let held = self.history().iter().map(|last| last.0);
        let held: Vec<Zxid> = held
            .chain([self.after])
            .filter(|held| *held >= self.committed)
            .collect();
        let base = match self.rng.u8(0..8) {
            0 => Base::Snap(Zxid(
                self.committed.0.max(self.end().0) + self.rng.i64(0..3),
            )),
            1..4 => Base::Log(held[self.rng.usize(0..held.len())]),
            _ => Base::Log(self.end()),
        };
        make_room(&mut self.log, &self.disk, FENCE)?;
        let epoch = Epoch(self.epoch.max(base.zxid().epoch()));
        self.log.open_bracket(epoch, base).map_err(failed)?;
        (self.epoch, self.reigns) = (epoch.0, false);
        self.aside = Some((epoch, base, Vec::new()));
        let history = self.history().clone();
        self.step(history);
        Ok(())
    }

    /// A part of what is durable is committed.
    fn commit(&mut self) {
        let durable = self.log.proof();
        if self.aside.is_some() || durable.history() != self.log.history_id() {
            return;
        }
        let may = |(zxid, _): &&(Zxid, u8)| *zxid <= durable.zxid() && *zxid > self.committed;
        let may: Vec<Zxid> = self
            .history()
            .iter()
            .filter(may)
            .map(|last| last.0)
            .collect();
        if let Some(zxid) = may.get(self.rng.usize(0..may.len().max(1))) {
            self.committed = *zxid;
            self.log.committed(*zxid);
        }
    }

    /// Of something that is committed; what is before it goes.
    fn snapshot(&mut self) -> io::Result<()> {
        if self.committed > self.after {
            self.after = self.committed;
            for name in self.log.retire(self.after) {
                self.disk.remove(&name)?;
            }
            self.seen[3] += 1;
        }
        Ok(())
    }

    fn crash(&mut self, context: &str) {
        let durable = self.log.durable();
        let power_cut = self.rng.u8(0..3) > 0;
        let mut rng = self.rng.fork();
        self.disk.crash_at(None);
        self.disk.restart(&mut rng, power_cut);
        let seed = u128::from(self.rng.u64(..));
        let known = known(self.after, None);
        let begun = begin(&self.disk, seed, &known).unwrap_or_else(|e| panic!("{context}: {e}"));
        let behind = |history: &History| -> History {
            let after = |last: &&(Zxid, u8)| last.0 > self.after;
            history.iter().filter(after).copied().collect()
        };
        // Something that was there, behind what was durable.
        let is_it = |nth: &usize| behind(&self.steps[*nth]) == behind(&begun.history);
        let least = self
            .ends
            .iter()
            .rposition(|end| *end <= durable)
            .unwrap_or(0);
        let found = (least..self.steps.len()).find(is_it);
        let Some(found) = found else {
            let due = behind(&self.steps[least]);
            panic!("{context}: {:?}, due {due:?} or later", begun.history);
        };
        self.seen[4] += u32::from(found > least);
        self.seen[5] += u32::from(self.aside.is_some());
        let committed = self.committed.max(self.after);
        assert!(begun.committed <= committed, "{context}");
        let history = behind(&begun.history);
        let runs = begun.log.history().unwrap();
        match runs.contains(self.after) {
            true => assert!(begun.committed >= self.after, "{context}"),
            // A snapshot whose bracket was closed, and nobody has heard of it.
            false => self.after = runs.origin().unwrap(),
        }
        self.log = begun.log;
        (self.committed, self.aside) = (begun.committed, None);
        self.epoch = self.epoch.max(1);
        self.steps = vec![history];
        self.ends = vec![self.log.end().position];
        // Nothing is appended but behind another synchronisation.
        self.open().unwrap();
    }
}

#[test]
fn a_member_that_crashes_at_any_moment_holds_a_history_that_it_had_and_none_before_what_was_durable()
 {
    let mut seen = [0; 6];
    for seed in 0..150 {
        let mut life = Life::new(seed);
        for crash in 0..6 {
            let effects = life.rng.u64(1..60);
            life.disk.crash_at(Some(life.disk.effects() + effects));
            while life.act().is_ok() {}
            assert!(life.disk.crashed());
            life.crash(&format!("seed {seed} crash {crash}"));
        }
        for (sum, seen) in seen.iter_mut().zip(life.seen) {
            *sum += seen;
        }
    }
    assert!(seen.iter().all(|seen| *seen >= 30), "{seen:?}");
}

// What is told, and what is refused.

#[test]
fn what_is_durable_within_an_open_bracket_is_told_of_the_old_history_and_proves_nothing_afterwards()
{
    let (disk, mut log) = member(6, 100);
    let before = log.proof();
    assert_eq!(before.zxid(), z(1, 6));
    make_room(&mut log, &disk, 4000).unwrap();
    log.open_bracket(Epoch(2), Base::Log(z(1, 4))).unwrap();
    for zxid in [z(1, 5), z(1, 6), z(1, 7)] {
        add(&mut log, &disk, zxid, NEW, 100).unwrap();
        let within = sync(&mut log);
        assert_eq!(
            (within.zxid(), within.history()),
            (z(1, 6), before.history())
        );
        assert_eq!(log.end().zxid, z(1, 6));
    }
    // A sync that began before the bracket was closed does not cover it.
    add(&mut log, &disk, z(2, 1), NEW, 100).unwrap();
    let ticket = log.begin_sync().unwrap();
    log.close_adoption(Epoch(2)).unwrap();
    assert_eq!(log.end().zxid, z(2, 1));
    let within = log.synced(ticket.run()).unwrap();
    assert_eq!(
        (within.zxid(), within.history()),
        (z(1, 6), before.history())
    );
    assert!(log.poll_adoption().is_none());
    let after = sync(&mut log);
    let proof = log.poll_adoption().unwrap();
    assert_eq!((after.zxid(), proof.zxid()), (z(2, 1), z(2, 1)));
    assert_eq!(
        (after.position(), after.history()),
        (proof.position(), proof.history())
    );
    assert!(before.history() < proof.history() && before.position() < proof.position());
}

#[test]
fn a_closed_bracket_without_a_transaction_is_vouched_for_by_a_seal_too() {
    let (_, mut log) = member(6, 100);
    log.tick(Tick(0)).unwrap();
    log.tick(Tick(200)).unwrap();
    sync_all(&mut log).unwrap();
    let seals = log.counters().seals;
    log.open_bracket(Epoch(2), Base::Log(z(1, 6))).unwrap();
    log.close_adoption(Epoch(2)).unwrap();
    sync_all(&mut log).unwrap();
    log.tick(Tick(300)).unwrap();
    log.tick(Tick(500)).unwrap();
    assert_eq!(log.counters().seals, seals + 1);
}

#[test]
fn what_would_lose_something_is_refused_by_its_name_and_changes_nothing() {
    let (disk, mut log) = member(6, 100);
    let before = log.history().unwrap().clone();
    let refused = |result: Result<(), AdoptionError>| match result {
        Err(AdoptionError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let forgets = |end| Contradiction::Forgets {
        end,
        committed: z(1, 3),
    };
    let cut = log.open_bracket(Epoch(2), Base::Log(z(1, 2)));
    assert_eq!(refused(cut), forgets(z(1, 2)));
    let elsewhere = log.open_bracket(Epoch(2), Base::Log(z(1, 9)));
    assert_eq!(refused(elsewhere), Contradiction::NoBase(z(1, 9)));
    let back = log.open_bracket(Epoch(0), Base::Log(z(1, 6)));
    let old = Contradiction::OldEpoch {
        epoch: Epoch(0),
        last: Epoch(1),
    };
    assert_eq!(refused(back), old);
    assert_eq!(
        refused(log.close_adoption(Epoch(2))),
        Contradiction::NotOpen
    );
    assert_eq!(log.history(), Some(&before));
    log.open_bracket(Epoch(2), Base::Snap(z(1, 1))).unwrap();
    let nested = log.open_bracket(Epoch(2), Base::Log(z(1, 6)));
    assert_eq!(refused(nested), Contradiction::Nested);
    add(&mut log, &disk, z(1, 2), NEW, 100).unwrap();
    assert_eq!(refused(log.close_adoption(Epoch(2))), forgets(z(1, 2)));
    // It can still be brought further, or be given up.
    add(&mut log, &disk, z(1, 3), NEW, 100).unwrap();
    log.void_adoption().unwrap();
    log.void_adoption().unwrap();
    sync_all(&mut log).unwrap();
    let again = begin_all(&disk, 9).history;
    assert_eq!(again, histories(6, z(1, 6), false, &[]).0);
}

/// Adds what is next until one more fence would begin another segment.
fn fill_segment(log: &mut Log<SimStorage>, disk: &SimStorage, mut next: Zxid) {
    let rolls = log.counters().rolls;
    // Three seals follow whatever is appended.
    let kept = 3 * (4096 + 2 * HEADER);
    let left = |log: &Log<SimStorage>| {
        let used = (log.end().position.0 - log.newest().0) as usize + HEADER_BLOCK;
        SEGMENT as usize - used - kept
    };
    while left(log) >= HEADER + FENCE {
        let len = left(log).saturating_sub(3 * HEADER).clamp(1, 4000);
        add(log, disk, next, NEW, len).unwrap();
        next = Zxid(next.0 + 1);
    }
    assert_eq!(log.counters().rolls, rolls);
}

#[test]
fn what_is_refused_where_a_segment_ends_begins_no_other_one_which_a_seal_would_begin() {
    let (disk, mut log) = member(6, 100);
    // Older than the bracket, and durable within it: a seal is due.
    add(&mut log, &disk, z(1, 7), OLD, 100).unwrap();
    let ticket = log.begin_sync().unwrap();
    make_room(&mut log, &disk, SEGMENT as usize).unwrap();
    log.open_bracket(Epoch(2), Base::Snap(z(0, 1))).unwrap();
    fill_segment(&mut log, &disk, z(0, 2));
    let rolls = log.counters().rolls;
    let refused = |result| matches!(result, Err(AdoptionError::Refused(_)));
    assert!(refused(log.close_adoption(Epoch(2))));
    assert!(refused(log.open_bracket(Epoch(2), Base::Log(z(1, 7)))));
    log.synced(ticket.run()).unwrap();
    log.tick(Tick(1000)).unwrap();
    log.tick(Tick(2000)).unwrap();
    assert_eq!(log.counters().rolls, rolls);
    log.void_adoption().unwrap();
    assert_eq!(log.counters().rolls, rolls + 1);
    log.committed(z(1, 7));
    sync_all(&mut log).unwrap();
    drop(log);
    let begun = begin(&disk, 9, &known(z(1, 7), None)).unwrap();
    assert_eq!((begun.log.end().zxid, begun.history), (z(1, 7), vec![]));
}

#[test]
fn where_nothing_is_open_nothing_is_given_up_and_no_segment_begun() {
    let (disk, mut log) = member(6, 100);
    reign(&mut log, &disk, 2).unwrap();
    make_room(&mut log, &disk, SEGMENT as usize).unwrap();
    fill_segment(&mut log, &disk, z(2, 1));
    let before = (log.end(), log.counters());
    log.void_adoption().unwrap();
    assert_eq!((log.end(), log.counters()), before);
}

#[test]
fn a_gap_is_an_error_and_the_log_goes_on() {
    let (disk, mut log) = member(6, 100);
    let gap = |log: &mut Log<SimStorage>, zxid| {
        let error = log.append(zxid, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let inner = error.into_inner().unwrap();
        *inner.downcast::<Contradiction>().unwrap()
    };
    let after = z(1, 6);
    for zxid in [z(1, 8), z(2, 1), z(1, 6)] {
        assert_eq!(gap(&mut log, zxid), Contradiction::Gap { after, zxid });
    }
    reign(&mut log, &disk, 3).unwrap();
    for zxid in [z(1, 7), z(2, 1), z(3, 2), z(4, 1)] {
        assert_eq!(gap(&mut log, zxid), Contradiction::Gap { after, zxid });
    }
    add(&mut log, &disk, z(3, 1), NEW, 100).unwrap();
    sync_all(&mut log).unwrap();
    assert_eq!(begin_all(&disk, 9).log.end().zxid, z(3, 1));
}

#[test]
fn committed_is_what_was_told_and_a_restart_knows_of_it_what_a_record_says() {
    let (disk, mut log) = member(6, 100);
    log.committed(z(1, 5));
    drop(log);
    let begun = begin_all(&disk, 9);
    assert_eq!((begun.committed, begun.log.end().zxid), (z(1, 3), z(1, 6)));
    log = begun.log;
    log.committed(z(1, 4));
    reign(&mut log, &disk, 2).unwrap();
    add(&mut log, &disk, z(2, 1), NEW, 100).unwrap();
    sync_all(&mut log).unwrap();
    assert_eq!(begin_all(&disk, 19).committed, z(1, 4));
    // A snapshot shows that what it holds was committed.
    let begun = begin(&disk, 29, &known(z(1, 5), None)).unwrap();
    assert_eq!(begun.committed, z(1, 5));
    assert_eq!(begun.history, [(z(1, 6), OLD), (z(2, 1), NEW)]);
    drop(begun);
    assert_eq!(
        begin_all(&disk, 39).committed,
        z(1, 5),
        "the seal of that start says so"
    );
}

#[test]
fn a_reader_finds_its_place_again_behind_an_adoption_that_keeps_it_and_is_told_of_one_that_does_not()
 {
    let (disk, mut log) = member(6, 3000);
    let piece = |log: &Log<SimStorage>, cursor: &mut Cursor, bytes| {
        let mut found = Vec::new();
        let upto = log.durable_end().zxid;
        let stretch = Stretch { upto, bytes };
        cursor.read(&disk, log.history().unwrap(), stretch, |record| {
            found.push((record.zxid, record.payload[0]));
            Ok::<(), RecoveryError>(())
        })?;
        Ok::<_, RecoveryError>(found)
    };
    let (mut first, mut second) = (Cursor::new(Zxid::ZERO), Cursor::new(Zxid::ZERO));
    let found = piece(&log, &mut first, 9000).unwrap();
    assert_eq!(found, [(z(1, 1), OLD), (z(1, 2), OLD), (z(1, 3), OLD)]);
    assert_eq!(piece(&log, &mut second, u64::MAX).unwrap().len(), 6);
    make_room(&mut log, &disk, 4000).unwrap();
    log.open_bracket(Epoch(2), Base::Log(z(1, 4))).unwrap();
    add(&mut log, &disk, z(1, 5), NEW, 3000).unwrap();
    sync_all(&mut log).unwrap();
    let found = piece(&log, &mut first, 1).unwrap();
    assert_eq!(found, [(z(1, 4), OLD)], "one at least");
    log.close_adoption(Epoch(2)).unwrap();
    sync_all(&mut log).unwrap();
    add(&mut log, &disk, z(2, 1), NEW, 3000).unwrap();
    sync_all(&mut log).unwrap();
    let found = piece(&log, &mut first, u64::MAX).unwrap();
    assert_eq!(found, [(z(1, 5), NEW), (z(2, 1), NEW)]);
    assert_eq!(first.after(), z(2, 1));
    let replaced = piece(&log, &mut second, u64::MAX);
    assert!(
        matches!(replaced, Err(RecoveryError::Replaced { zxid }) if zxid == z(1, 6)),
        "{replaced:?}"
    );
}

// What is found.

/// Puts records behind the end of the log, as nobody writes them.
fn put(disk: &SimStorage, records: &[(Kind, Zxid, Zxid, Vec<u8>)]) {
    let end = Scan::of_member(disk, &Known::default())
        .unwrap()
        .end()
        .unwrap();
    let name = segments(disk).pop().unwrap();
    let file: SimFile = disk.open(&name).unwrap();
    let block = file.view(4096).unwrap().to_vec();
    let header = segment::SegmentHeader::decode(&block).unwrap();
    let (mut bytes, mut position) = (Vec::new(), end.position);
    for (kind, zxid, committed_to, payload) in records {
        Record {
            kind: *kind,
            zxid: *zxid,
            position,
            durable_to: Position(0),
            committed_to: *committed_to,
            payload,
        }
        .encode_into(header.identity, &mut bytes);
        position = end.position.plus(bytes.len() as u64);
    }
    file.write_at(header.offset(end.position), &bytes).unwrap();
}

#[test]
fn case_q4_fences_and_transactions_that_contradict_each_other_are_refused() {
    let fence = |fence: Fence| (Kind::Fence, z(1, 6), z(1, 3), fence.encode().to_vec());
    let open = |zxid| {
        let (epoch, base) = (Epoch(2), Base::Log(zxid));
        fence(Fence::Opened { epoch, base })
    };
    let closed = |epoch| {
        fence(Fence::Closed {
            epoch: Epoch(epoch),
        })
    };
    let txn = |kind, zxid, committed| (kind, zxid, committed, vec![NEW; 9]);
    let rows = [
        (
            vec![open(z(1, 6)), open(z(1, 6))],
            "a synchronisation within another one",
        ),
        (
            vec![closed(2)],
            "the end of a synchronisation without its beginning",
        ),
        (
            vec![open(z(1, 6)), closed(3)],
            "the end of another synchronisation",
        ),
        (
            vec![
                open(z(1, 6)),
                closed(2),
                open(z(1, 6)),
                closed(2),
                open(z(2, 1)),
            ],
            "a synchronisation that continues what is not there",
        ),
        (
            vec![open(z(1, 2))],
            "a synchronisation that drops what is committed",
        ),
        (
            vec![txn(Kind::Txn, z(1, 8), z(1, 3))],
            "a transaction out of order",
        ),
        (
            vec![open(z(1, 6)), txn(Kind::Adopted, z(1, 8), z(1, 3))],
            "a transaction out of order",
        ),
        (
            vec![txn(Kind::Adopted, z(1, 7), z(1, 3))],
            "a transaction on the wrong side of a fence",
        ),
        (
            vec![open(z(1, 6)), txn(Kind::Txn, z(1, 7), z(1, 3))],
            "a transaction on the wrong side of a fence",
        ),
        (
            vec![txn(Kind::Txn, z(1, 7), z(1, 9))],
            "a record that knows of more than is there",
        ),
        (
            vec![(Kind::Fence, z(1, 6), z(1, 3), vec![9; 16])],
            "a fence that is none",
        ),
    ];
    for (records, due) in rows {
        let (disk, _) = member(6, 100);
        put(&disk, &records);
        match Scan::of_member(&disk, &Known::default()).map(drop) {
            Err(RecoveryError::Corrupt { what, .. }) => assert_eq!(what, due),
            other => panic!("{due}: {other:?}"),
        }
    }
}

/// (1, 1) to (1, 6), cut to (1, 4) by epoch 2, then (2, 1) and (2, 2), each in a page of its own, and a seal behind all.
/// Where the closing fence is.
fn cut_and_sealed() -> (SimStorage, Position, Witness) {
    let (disk, mut log) = member(6, 100);
    log.open_bracket(Epoch(2), Base::Log(z(1, 4))).unwrap();
    let fence = log.end().position;
    log.close_adoption(Epoch(2)).unwrap();
    for counter in 1..=2 {
        add(&mut log, &disk, z(2, counter), NEW, 5000).unwrap();
    }
    sync_all(&mut log).unwrap();
    let witness = Witness::first(STORE, Position(0)).renewed(log.durable_end(), log.newest());
    log.tick(Tick(0)).unwrap();
    log.tick(Tick(200)).unwrap();
    sync_all(&mut log).unwrap();
    (disk, fence, witness)
}

fn spoil(disk: &SimStorage, at: Position) {
    let name = segments(disk).remove(0);
    disk.spoil(&name, offset(at) as usize + 20, &[0xff; 4]);
}

#[test]
fn cases_m_a_damaged_fence_is_passed_over_only_where_the_snapshot_covers_what_follows() {
    let (disk, fence, _) = cut_and_sealed();
    let whole = Scan::of_member(&disk, &Known::default()).unwrap();
    assert_eq!(whole.end().unwrap().zxid, z(2, 2));
    spoil(&disk, fence);
    for after in [Zxid::ZERO, z(1, 4)] {
        let refused = Scan::of_member(&disk, &known(after, None)).map(drop);
        assert!(
            matches!(refused, Err(RecoveryError::Corrupt { .. })),
            "{after}: {refused:?}"
        );
    }
    for after in [z(2, 1), z(2, 2)] {
        let scan = Scan::of_member(&disk, &known(after, None)).unwrap();
        assert_eq!(
            (scan.end().unwrap().zxid, scan.rotten().len()),
            (z(2, 2), 1)
        );
        let found = read(&disk, scan.history().unwrap(), after).unwrap();
        let due = if after == z(2, 1) {
            vec![(z(2, 2), NEW)]
        } else {
            vec![]
        };
        assert_eq!(found, due);
    }
}

#[test]
fn case_l_a_members_log_that_ends_before_its_witness_is_lost_though_no_transaction_is() {
    let (disk, mut log) = member(6, 100);
    log.open_bracket(Epoch(2), Base::Log(z(1, 4))).unwrap();
    let fence = log.end().position;
    log.close_adoption(Epoch(2)).unwrap();
    sync_all(&mut log).unwrap();
    let witness = Witness::first(STORE, Position(0)).renewed(log.durable_end(), log.newest());
    drop(log);
    let whole = Scan::of_member(&disk, &known(Zxid::ZERO, Some(witness))).unwrap();
    assert_eq!(whole.end().unwrap().zxid, z(1, 4));
    spoil(&disk, fence);
    // The old history is longer than what the witness names.
    let lost = Scan::of_member(&disk, &known(Zxid::ZERO, Some(witness))).map(drop);
    assert!(matches!(lost, Err(RecoveryError::Lost { .. })), "{lost:?}");
}

#[test]
fn a_standalone_server_refuses_a_log_with_a_bracket_by_name_wherever_it_reads() {
    let (disk, mut log) = member(6, 100);
    make_room(&mut log, &disk, 4000).unwrap();
    log.open_bracket(Epoch(2), Base::Log(z(1, 6))).unwrap();
    for counter in 7..60 {
        add(&mut log, &disk, z(1, counter), NEW, 3000).unwrap();
    }
    sync_all(&mut log).unwrap();
    assert!(segments(&disk).len() > 2);
    let names = segments(&disk);
    for (kept, name) in names.iter().enumerate() {
        let refused = open(&disk, 9).map(drop);
        assert!(
            matches!(refused, Err(RecoveryError::Member { .. })),
            "{kept}: {refused:?}"
        );
        let part = Part {
            after: Zxid::ZERO,
            upto: z(1, 59),
            bytes: u64::MAX,
            mapped_to: None,
        };
        let refused = read_part(&disk, part, |_| Ok::<(), RecoveryError>(()));
        assert!(
            matches!(refused, Err(RecoveryError::Member { .. })),
            "{kept}: {refused:?}"
        );
        disk.remove(name).unwrap();
    }
}

#[test]
fn a_log_that_is_read_from_within_a_bracket_tells_what_counts_behind_the_snapshot() {
    // Each end of the bracket: closed, open at the crash, given up.
    for end in 0..3 {
        let (disk, mut log) = member(6, 3000);
        make_room(&mut log, &disk, 4000).unwrap();
        log.committed(z(1, 6));
        log.open_bracket(Epoch(2), Base::Log(z(1, 6))).unwrap();
        for counter in 7..60 {
            add(&mut log, &disk, z(1, counter), NEW, 3000).unwrap();
        }
        make_room(&mut log, &disk, FENCE).unwrap();
        match end {
            0 => log.close_adoption(Epoch(2)).unwrap(),
            1 => {}
            _ => log.void_adoption().unwrap(),
        }
        sync_all(&mut log).unwrap();
        // The segment in which the bracket opens holds (1, 7) and more.
        let after = match end {
            0 => z(1, 30),
            _ => z(1, 6),
        };
        if end == 0 {
            log.committed(after);
        }
        log.retire(after);
        drop(log);
        disk.remove(&segments(&disk)[0]).unwrap();
        drop(begin(&disk, 9, &known(after, None)).unwrap());
        let begun = begin(&disk, 19, &known(after, None)).unwrap();
        let due: History = match end {
            0 => (31..60).map(|counter| (z(1, counter), NEW)).collect(),
            _ => Vec::new(),
        };
        assert_eq!(begun.history, due, "{end}");
        assert_eq!(
            begun.log.end().zxid,
            due.last().map_or(after, |last| last.0)
        );
    }
}

#[test]
fn void_brackets_do_not_come_to_more_with_each_start() {
    let (disk, mut log) = member(6, 100);
    log.open_bracket(Epoch(2), Base::Log(z(1, 4))).unwrap();
    add(&mut log, &disk, z(1, 5), NEW, 100).unwrap();
    sync_all(&mut log).unwrap();
    drop(log);
    let mut counts = Vec::new();
    for seed in 10..14 {
        let begun = begin_all(&disk, seed);
        assert_eq!(begun.history, histories(6, z(1, 6), false, &[]).0);
        assert!(!begun.log.history().unwrap().is_open());
        counts.push(segments(&disk).len());
    }
    // The one in which the void fence stands is kept, the one behind it is replaced.
    assert_eq!(counts, [2, 3, 3, 3]);
}

// Leases.

/// A log of several segments, all of it durable.
fn long(disk: &SimStorage, log: &mut Log<SimStorage>, from: u32, upto: u32) {
    for counter in from..=upto {
        add(log, disk, z(1, counter), OLD, 3000).unwrap();
        if counter % 10 == 0 {
            sync_all(log).unwrap();
        }
    }
    sync_all(log).unwrap();
}

#[test]
fn what_a_lease_is_held_of_is_neither_removed_nor_written_over_and_goes_with_the_lease() {
    let (disk, mut log) = member(6, 3000);
    long(&disk, &mut log, 7, 60);
    let lease = log.lease(z(1, 20)).unwrap();
    let mut cursor = Cursor::new(z(1, 20));
    let history = log.history().unwrap().clone();
    log.committed(z(1, 60));
    for zxid in [z(1, 10), z(1, 59), z(1, 60)] {
        for name in log.retire(zxid) {
            disk.remove(&name).unwrap();
        }
    }
    // Retired segments are used again.
    long(&disk, &mut log, 61, 300);
    log.retire(z(1, 300));
    let stretch = Stretch {
        upto: z(1, 60),
        bytes: u64::MAX,
    };
    let mut found = 0;
    let read = cursor.read(&disk, &history, stretch, |_| {
        found += 1;
        Ok::<(), RecoveryError>(())
    });
    read.unwrap();
    assert_eq!(found, 40);
    let segments = log.segments();
    drop(lease);
    for name in log.retire(z(1, 300)) {
        disk.remove(&name).unwrap();
    }
    assert!(log.segments() < segments);
    assert!(log.lease(z(1, 20)).is_none(), "it is gone");
    assert!(log.lease(z(1, 300)).is_some());
    let mut cursor = Cursor::new(z(1, 20));
    let read = cursor.read(&disk, &history, stretch, |_| Ok::<(), RecoveryError>(()));
    assert!(
        matches!(read, Err(RecoveryError::Replaced { .. })),
        "{read:?}"
    );
}

#[test]
fn a_start_gives_no_lease_of_what_is_gone_or_was_not_read() {
    let (disk, mut log) = member(6, 3000);
    long(&disk, &mut log, 7, 60);
    log.committed(z(1, 60));
    log.retire(z(1, 40));
    assert!(log.lease(z(1, 20)).is_none());
    drop(log);
    disk.remove(&segments(&disk)[0]).unwrap();
    for after in [z(1, 40), z(1, 60)] {
        let mut log = begin(&disk, 9, &known(after, None)).unwrap().log;
        assert!(log.lease(z(1, 5)).is_none(), "{after}");
        assert!(log.lease(after).is_some(), "{after}");
        for counter in 1..60 {
            let is_there = log.history().unwrap().contains(z(1, counter));
            let lease = log.lease(z(1, counter));
            assert_eq!(lease.is_some(), is_there, "{after} {counter}");
        }
    }
}

#[test]
fn leases_are_bounded_in_number_and_those_that_ended_do_not_count() {
    let (_, mut log) = member(6, 100);
    let mut held: Vec<Lease> = (0..LEASES_MAX).filter_map(|_| log.lease(z(1, 1))).collect();
    assert_eq!(held.len(), LEASES_MAX);
    assert!(log.lease(z(1, 1)).is_none());
    held.pop();
    held.extend(log.lease(z(1, 1)));
    assert_eq!(held.len(), LEASES_MAX);
}
