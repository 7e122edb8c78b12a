//! A start is refused only where something is lost that nobody can do without, and always there.
//!
//! | After damage | Demanded of the next start |
//! |---|---|
//! | everything that was shown can still be read, and what was damaged is not needed | it starts |
//! | everything that was shown can still be read, and what was damaged stands where something needed could have stood: a seal, a header, what follows the newest snapshot | it starts with everything, or refuses |
//! | a snapshot was damaged or is gone, nothing but snapshots ever was, and another one that is kept is whole (`kept`) | it starts with everything, whatever can still be read |
//! | everything that was shown can still be read, but a snapshot was damaged or is gone, and rot that it covered has stayed | it starts with everything, or refuses |
//! | the same, but bytes have changed before a part of it, and nothing vouches for that part: a torn batch looks no different | nothing: no damage of this kind is done |
//! | something that was shown can't be read any more, and what vouches for it can | it refuses |
//! | the same, and nothing else vouches for it | nothing: no damage of this kind is done |
//! | files of two stores, or of one without a witness | it refuses; unless a file of two stores could not be opened or read at that start: then it starts with everything, or refuses, and so does each start after it until one has read them; who has started so may end when the witness is to be written |
//!
//! Without the premise of `disk`, that a torn sector holds old or new bytes, a power cut may take along what
//! stood in the sector that was being written: the end of the log, where a batch begins right behind the last
//! record, in the same sector. Then a start may refuse, or lack acknowledged transactions at the end; what it
//! has is still a state that there was, without a gap. Seeds end there.
//!
//! A start that refuses has changed nothing. The operator restores what was damaged, and the next one starts; or
//! has no backup, and gives it up (`loss`).

use super::super::damage::{Damage, Store};
use super::super::disk::SimStorage;
use super::super::outcome::{Counters, Fault};
use super::kept::Kept;
use crate::log::StoreId;
use crate::txn::Entry;
use crate::types::Zxid;
use std::collections::VecDeque;
use std::sync::Arc;

/// After this long a durable batch is covered by a durable seal, µs: the seal's delay, a tick, the
/// slowest sync before it and its own.
pub(in crate::sim) const COVERED_AFTER_US: u64 = 500_000;

#[derive(Default)]
pub(in crate::sim) struct Rot {
    /// When the newest transactions were applied, µs.
    applied_at: VecDeque<(u64, Zxid)>,
    /// A later record or a seal covers everything up to here: rot there must be noticed, unless it takes them too.
    covered: Zxid,
    /// The witness or a snapshot shows that the log went as far.
    witnessed: Zxid,
    /// Until when the core that seals was held still, µs.
    held_until: u64,
    /// It stops, and seals nothing before its end.
    stops: bool,
    /// When the process died something was not sealed yet: what covers the records before that may stand in one
    /// page with them.
    is_open: bool,
    /// Whose files they are.
    store: Option<StoreId>,
    /// Where the history begins.
    start: Zxid,
    /// Snapshots that can take the place of newer ones.
    pub(in crate::sim) kept: Kept,
    /// What no start has seen yet.
    damage: Option<Damage>,
    /// Something was damaged, and may have stayed so.
    is_left: bool,
    /// Something else than a snapshot.
    is_log_left: bool,
}

/// What to make of a start that was refused.
pub(in crate::sim) enum Refusal {
    /// It had one.
    Reasoned,
    /// It had none.
    Groundless,
}

impl Rot {
    /// Of a history that begins behind `start`.
    pub(super) fn new(start: Zxid) -> Rot {
        Rot {
            start,
            kept: Kept::new(start),
            ..Rot::default()
        }
    }

    /// Recovery covers what it has read, and the witness says so.
    pub(super) fn recovered(&mut self, recovered: Zxid) {
        (self.covered, self.witnessed) = (recovered, recovered);
        self.is_open = false;
        self.applied_at.clear();
    }

    pub(super) fn applied(&mut self, zxid: Zxid, now_us: u64) {
        self.applied_at.push_back((now_us, zxid));
    }

    /// A witness was written, or a snapshot.
    pub(in crate::sim) fn witnessed(&mut self, zxid: Zxid) {
        self.witnessed = self.witnessed.max(zxid);
    }

    /// Whose files they are.
    pub(in crate::sim) fn of_store(&mut self, store: StoreId) {
        self.store = Some(store);
    }

    /// The core that seals is held still.
    pub(in crate::sim) fn held(&mut self, now_us: u64, until_us: u64) {
        self.seal(now_us);
        self.held_until = until_us.max(self.held_until);
    }

    /// The process was asked to stop.
    pub(in crate::sim) fn stops(&mut self, now_us: u64) {
        self.seal(now_us);
        self.stops = true;
    }

    /// What had the time to be sealed is covered.
    fn seal(&mut self, now_us: u64) {
        while !self.stops
            && let Some(&(at, zxid)) = self.applied_at.front()
            && at.max(self.held_until) + COVERED_AFTER_US < now_us
        {
            self.covered = zxid;
            self.applied_at.pop_front();
        }
    }

    /// The process is gone, and whoever is dead seals nothing.
    pub(in crate::sim) fn died(&mut self, now_us: u64) {
        self.seal(now_us);
        self.is_open |= !self.applied_at.is_empty();
        self.applied_at.clear();
        self.stops = false;
    }

    /// Whether everything that was applied had the time to be sealed.
    pub(in crate::sim) fn is_idle(&mut self, now_us: u64) -> bool {
        self.seal(now_us);
        self.applied_at.is_empty()
    }

    /// Idleness has covered everything.
    pub(in crate::sim) fn stopped(&mut self, last: Zxid) {
        self.covered = last;
        self.is_open = false;
    }

    /// A clean stop has written down where the log ends.
    pub(in crate::sim) fn closed(&mut self, last: Zxid) {
        (self.covered, self.witnessed) = (last, last);
        self.is_open = false;
    }

    /// Whether something was ever damaged, and may be so still.
    pub(in crate::sim) fn is_damaged(&self) -> bool {
        self.is_left || self.damage.is_some()
    }

    /// Whether nothing but snapshots was ever damaged, and may be so still.
    pub(in crate::sim) fn has_a_sound_log(&self) -> bool {
        !self.is_log_left && self.damage.is_none()
    }

    fn store<'a>(
        &self,
        (data, log): (&'a SimStorage, &'a SimStorage),
        shown: Zxid,
    ) -> Option<Store<'a>> {
        Some(Store {
            data,
            log,
            id: self.store?,
            start: self.start,
            known: shown.max(self.covered),
            covered: self.covered,
            witnessed: self.witnessed,
            is_open: self.is_open || !self.applied_at.is_empty(),
        })
    }

    /// Damages something, if there is a store. `shown`: the newest transaction that a client can know.
    pub(in crate::sim) fn strike(
        &mut self,
        disks: (&SimStorage, &SimStorage),
        shown: Zxid,
        is_running: bool,
        rng: &mut fastrand::Rng,
        counters: &mut Counters,
    ) -> Result<(), String> {
        if self.damage.is_some() || disks.0.crashed() {
            return Ok(());
        }
        let Some(store) = self.store(disks, shown) else {
            return Ok(());
        };
        if !self.is_left && store.is_lost() {
            return Err(format!(
                "{shown} was shown, and is not there before any rot"
            ));
        }
        if let Some((faults, damage)) = store.strike(is_running, rng) {
            faults
                .iter()
                .for_each(|fault| counters.faults.count(*fault));
            self.damage = Some(damage);
        }
        Ok(())
    }

    /// What the files hold, if a start that is refused must leave them so.
    pub(in crate::sim) fn image(
        &self,
        disks: (&SimStorage, &SimStorage),
    ) -> Option<Vec<(String, Option<Vec<u8>>)>> {
        self.damage.as_ref()?;
        Some(self.store(disks, Zxid::ZERO)?.image())
    }

    /// The start was refused: whether there was a reason.
    pub(in crate::sim) fn refused(
        &mut self,
        disks: (&SimStorage, &SimStorage),
        shown: Zxid,
        counters: &mut Counters,
    ) -> Refusal {
        let store = self.store(disks, shown);
        let is_lost = store.as_ref().is_some_and(Store::is_lost);
        let Some(damage) = &self.damage else {
            return Refusal::Groundless;
        };
        let whole = store.map_or(Vec::new(), |store| store.snapshots());
        if !self.is_log_left && damage.snapshot().is_some() && self.kept.has_one_of(&whole) {
            return Refusal::Groundless;
        }
        // What rotted before and was not needed is needed again.
        let is_doubtful = damage.is_doubtful || self.is_left && damage.uncovers();
        if !(is_lost || damage.is_odd || is_doubtful) {
            return Refusal::Groundless;
        }
        let noticed = match is_lost || damage.is_odd {
            true => Fault::Refused,
            false => Fault::RefusedInDoubt,
        };
        counters.faults.count(noticed);
        Refusal::Reasoned
    }

    /// Whether one directory is another store's, so that nobody but the operator knows which store is meant.
    pub(in crate::sim) fn is_of_two_stores(&self) -> bool {
        let damage = self.damage.as_ref();
        damage.is_some_and(|damage| damage.is_of_two_stores)
    }

    /// The operator restores what was damaged.
    pub(in crate::sim) fn mend(&mut self) {
        if let Some(damage) = self.damage.take() {
            damage.mend();
        }
    }

    /// The operator has given up what was lost, and what was damaged stays so; the witness says that the store
    /// goes on behind `behind`.
    pub(super) fn gives_up(&mut self, behind: Zxid) {
        self.kept.gives_up();
        self.damage = None;
        (self.is_left, self.is_log_left) = (true, true);
        (self.covered, self.witnessed) = (behind, behind);
    }

    /// What stays when a loss is accepted: at least this, and at most that.
    pub(in crate::sim) fn stays(&self, disks: (&SimStorage, &SimStorage)) -> (Zxid, Zxid) {
        let store = self.store(disks, Zxid::ZERO).expect("it is refused");
        (store.whole_to(), store.reach().max(Zxid::ZERO))
    }

    /// The transactions behind `after`, up to `upto`, as they stand in the log.
    pub(in crate::sim) fn entries(
        &self,
        disks: (&SimStorage, &SimStorage),
        after: Zxid,
        upto: Zxid,
    ) -> Vec<Arc<Entry>> {
        let store = self.store(disks, Zxid::ZERO).expect("it is refused");
        store.entries(after, upto)
    }

    /// What was damaged, for messages.
    pub(in crate::sim) fn what(&self) -> &str {
        self.damage
            .as_ref()
            .map_or("nothing", |damage| &damage.what)
    }

    /// A start has looked at the directories. `is_blind`: a file could not be opened or read, and what can't be read
    /// does not show whose it is. The start must still find everything that is covered. What it writes into the files
    /// may leave nothing of the other store, or half: a later start that can read them may refuse.
    pub(in crate::sim) fn looked(&mut self, is_blind: bool) {
        if let Some(damage) = &mut self.damage {
            damage.is_blind = is_blind && damage.is_of_two_stores;
            damage.is_odd &= !damage.is_blind;
        }
    }

    /// The member has started, with everything up to `recovered`.
    pub(in crate::sim) fn started(
        &mut self,
        recovered: Zxid,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let Some(mut damage) = self.damage.take() else {
            return Ok(());
        };
        let what = &damage.what;
        if damage.is_odd {
            return Err(format!("started in spite of {what}"));
        }
        if recovered < self.covered {
            let covered = self.covered;
            return Err(format!(
                "started at {recovered}, {covered} was covered: {what}"
            ));
        }
        counters.faults.count(Fault::StartedDamaged);
        self.is_left = true;
        match damage.snapshot() {
            Some(zxid) => self.kept.lost(zxid),
            None => self.is_log_left = true,
        }
        if damage.is_blind {
            (damage.was_run_on, damage.is_doubtful) = (true, true);
            self.damage = Some(damage);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::storage::Storage;
    use crate::log::{LogConfig, witness};
    use crate::snapshot;
    use crate::tree::Tree;

    const WITNESS: &str = "witness.data";

    /// A store on two disks, of which dataDir is another store's now.
    fn of_two_stores() -> (Rot, SimStorage, SimStorage) {
        for seed in 0.. {
            let (data, log) = (SimStorage::new(1 << 24), SimStorage::new(1 << 24));
            let config = LogConfig {
                segment_bytes: 64 << 10,
            };
            let identities = Box::new(|| 7_u128);
            snapshot::create_store(&data, &log, &Tree::new(), config, identities).unwrap();
            let own = witness::find(&data, &log).unwrap();
            let witness::Found::Witness(own, None) = own else {
                panic!("{own:?}");
            };
            let mut rot = Rot::new(Zxid::ZERO);
            rot.of_store(own.store);
            let mut rng = fastrand::Rng::with_seed(seed);
            let counters = &mut Counters::default();
            rot.strike((&data, &log), Zxid::ZERO, false, &mut rng, counters)
                .unwrap();
            if rot.what() == "DirectoryForeign: dataDir" {
                return (rot, data, log);
            }
        }
        unreachable!()
    }

    fn is_reasoned(rot: &mut Rot, data: &SimStorage, log: &SimStorage) -> bool {
        let counters = &mut Counters::default();
        matches!(
            rot.refused((data, log), Zxid::ZERO, counters),
            Refusal::Reasoned
        )
    }

    #[test]
    fn who_started_blind_on_files_of_two_stores_may_be_refused_later_until_a_start_has_read_them() {
        let counters = &mut Counters::default();
        let (mut rot, ..) = of_two_stores();
        rot.looked(false);
        assert!(rot.started(Zxid::ZERO, counters).is_err(), "it can see");

        let (mut rot, data, log) = of_two_stores();
        rot.looked(true);
        rot.started(Zxid::ZERO, counters).unwrap();
        assert!(is_reasoned(&mut rot, &data, &log));
        assert!(rot.is_of_two_stores());
        rot.looked(false);
        rot.started(Zxid::ZERO, counters).unwrap();
        assert!(!is_reasoned(&mut rot, &data, &log));
    }

    #[test]
    fn the_right_directory_comes_back_beside_what_was_written_into_the_wrong_one() {
        let (mut rot, data, log) = of_two_stores();
        let foreign = data.content(WITNESS);
        rot.looked(true);
        rot.started(Zxid::ZERO, &mut Counters::default()).unwrap();
        data.create("snap.0000000000000123", 10).unwrap();
        rot.mend();
        assert_ne!(data.content(WITNESS), foreign);
        assert!(data.content("snap.0000000000000123").is_some());
        let found = witness::find(&data, &log);
        assert!(matches!(found, Ok(witness::Found::Witness(_, None))));
    }
}
