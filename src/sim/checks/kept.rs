//! A snapshot that is kept takes the place of newer ones: it is there and whole, and everything that followed it
//! stands in the log.
//!
//! What must be there follows from what was made, and from how many each process keeps; never from what is found.

use super::super::disk::SimStorage;
use crate::log::snapshot_file::{self, SnapshotError};
use crate::log::storage::Storage;
use crate::snapshot;
use crate::tree::Tree;
use crate::types::Zxid;
use std::collections::BTreeMap;

/// The snapshots that are there before the next one is made.
pub(in crate::sim) struct SnapshotsBefore {
    all: Vec<Zxid>,
    /// Those that are newer than the newest one that can be read: whoever makes the next one finds this out.
    rotten: Vec<Zxid>,
}

impl SnapshotsBefore {
    pub(in crate::sim) fn on(data: &SimStorage) -> SnapshotsBefore {
        let data = data.copy();
        let all = list(&data);
        let is_rotten = |zxid: &&Zxid| {
            let read = snapshot_file::read(&data, **zxid, None, |_| Ok::<(), SnapshotError>(()));
            read.is_err()
        };
        let rotten = all.iter().take_while(is_rotten).copied().collect();
        SnapshotsBefore { all, rotten }
    }
}

/// Newest first.
fn list(data: &SimStorage) -> Vec<Zxid> {
    snapshot_file::list(data).expect("nothing fails on a copy")
}

#[derive(Default)]
pub(in crate::sim) struct Kept {
    /// So many the process keeps that runs.
    most: usize,
    /// Those that must be there (`true`), and those that may be, because making them was cut off: a purge counts
    /// them if they are. Zxid 0 is the beginning of the history, for which no snapshot is needed.
    due: BTreeMap<Zxid, bool>,
}

impl Kept {
    /// Of a store that begins with a snapshot of `start`, or with nothing.
    pub(super) fn new(start: Zxid) -> Kept {
        Kept {
            most: 0,
            due: [(start, true)].into(),
        }
    }

    /// A process starts that keeps so many, older ones until it has made as many.
    pub(in crate::sim) fn keeps(&mut self, most: usize) {
        self.most = most;
    }

    /// A snapshot was made, and older ones were purged.
    pub(in crate::sim) fn made(&mut self, zxid: Zxid) {
        self.due.insert(zxid, true);
        self.purged();
    }

    /// Making one ended before it was known to be durable.
    pub(in crate::sim) fn cut_off(&mut self, zxid: Zxid) {
        self.due.entry(zxid).or_insert(false);
    }

    /// Older ones were purged, or some of them.
    pub(in crate::sim) fn purged(&mut self) {
        while self.due.len() > self.most {
            self.due.pop_first();
        }
    }

    /// It was damaged, and a start has done without it.
    pub(super) fn lost(&mut self, zxid: Zxid) {
        self.due.remove(&zxid);
    }

    /// An operator has given up what was lost.
    pub(super) fn gives_up(&mut self) {
        self.due.clear();
    }

    /// Whether one of those that must be there is whole.
    pub(super) fn has_one_of(&self, whole: &[Zxid]) -> bool {
        let is_there = |due: Zxid| due == Zxid::ZERO || whole.contains(&due);
        self.certain().any(is_there)
    }

    /// One was made, and older ones were purged: what could not be read takes no other's place.
    pub(in crate::sim) fn purged_behind(
        &self,
        made: Zxid,
        before: &SnapshotsBefore,
        data: &SimStorage,
    ) -> Result<(), String> {
        let left = list(&data.copy());
        let is_rotten = |zxid: &&Zxid| **zxid != made && before.rotten.contains(zxid);
        let is_gone = |zxid: &&Zxid| !is_rotten(zxid) && !left.contains(zxid);
        let counted = left.iter().filter(|zxid| !is_rotten(zxid)).count();
        match before.all.iter().find(is_gone) {
            Some(gone) if counted < self.most => Err(format!(
                "snapshot {gone} was purged; of {} that are kept only {counted} could be read",
                self.most
            )),
            _ => Ok(()),
        }
    }

    /// Those that must be there, newest first.
    fn certain(&self) -> impl Iterator<Item = Zxid> {
        let is_certain = |(zxid, certain): (&Zxid, &bool)| certain.then_some(*zxid);
        self.due.iter().rev().filter_map(is_certain)
    }

    /// On copies of the disks: without all that are newer than one of them, a start finds the same tree. Whether
    /// there is one.
    pub(in crate::sim) fn takes_the_place(
        &self,
        (data, log): (&SimStorage, &SimStorage),
        tree: &Tree,
        rng: &mut fastrand::Rng,
    ) -> Result<bool, String> {
        let older: Vec<Zxid> = self.certain().skip(1).collect();
        let Some(&kept) = rng.choice(&older) else {
            return Ok(false);
        };
        let without = data.copy();
        let log = match data.is(log) {
            true => without.clone(),
            false => log.copy(),
        };
        let all = list(&without);
        for newer in all.into_iter().filter(|zxid| *zxid > kept) {
            let name = snapshot_file::name(newer);
            match rng.bool() {
                true => without.remove(&name).expect("it is there"),
                false => without.put(&name, Vec::new()),
            }
        }
        let due = (tree.last_zxid(), snapshot::root(tree));
        let found = snapshot::recover(&without, &log, &mut |_| {});
        match found.map(|found| (found.tree.last_zxid(), snapshot::root(&found.tree))) {
            Ok(found) if found == due => Ok(true),
            Ok((zxid, _)) => Err(format!(
                "without snapshots behind {kept} a start finds {zxid}, and the tree is of {}",
                due.0
            )),
            Err(e) => Err(format!("without snapshots behind {kept} no start: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_due_as_the_process_keeps_and_fewer_only_once_it_has_purged() {
        let mut kept = Kept::new(Zxid::ZERO);
        kept.keeps(2);
        assert!(kept.has_one_of(&[]), "the whole log");
        kept.made(Zxid(10));
        assert!(kept.has_one_of(&[]), "the whole log still");
        kept.made(Zxid(20));
        assert!(!kept.has_one_of(&[Zxid(5)]));
        assert!(kept.has_one_of(&[Zxid(10)]));
        kept.keeps(1);
        assert!(kept.has_one_of(&[Zxid(10)]));
        kept.purged();
        assert!(!kept.has_one_of(&[Zxid(10)]));
        assert!(kept.has_one_of(&[Zxid(20)]));
    }

    #[test]
    fn one_that_was_cut_off_may_take_the_place_of_an_older_one_and_is_no_substitute() {
        let mut kept = Kept::new(Zxid(10));
        kept.keeps(2);
        kept.made(Zxid(20));
        kept.cut_off(Zxid(30));
        assert!(kept.has_one_of(&[Zxid(10)]));
        kept.purged();
        assert!(!kept.has_one_of(&[Zxid(10)]));
        assert!(!kept.has_one_of(&[Zxid(30)]));
        assert!(kept.has_one_of(&[Zxid(20)]));
        kept.made(Zxid(30));
        assert!(kept.has_one_of(&[Zxid(30)]));
    }
}
