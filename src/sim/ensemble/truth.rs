//! What holds of an ensemble as a whole: one sequence of committed transactions, one leader of an epoch, one state behind
//! each transaction. It grows, and nothing is ever taken back.

use crate::log::snapshot_file::{self, SnapshotError};
use crate::sim::disk::SimStorage;
use crate::txn::Entry;
use crate::types::{Epoch, ServerId, Zxid};
use std::collections::BTreeMap;

/// One transaction that somebody has applied.
struct Step {
    zxid: Zxid,
    /// Of its bytes.
    entry: [u8; 32],
    /// Of the tree behind it; `None`: nobody has said.
    digest: Option<u64>,
}

pub(super) struct Truth {
    steps: Vec<Step>,
    places: BTreeMap<Zxid, usize>,
    leaders: BTreeMap<Epoch, ServerId>,
    /// Bodies of snapshots.
    bodies: BTreeMap<Zxid, [u8; 32]>,
}

/// Of the bytes of a transaction.
pub(super) fn hash(entry: &Entry) -> [u8; 32] {
    *blake3::hash(&entry.encode()).as_bytes()
}

impl Truth {
    /// All begin there.
    pub(super) fn new(start: Zxid, digest: u64) -> Truth {
        let first = Step {
            zxid: start,
            entry: [0; 32],
            digest: Some(digest),
        };
        Truth {
            steps: vec![first],
            places: BTreeMap::from([(start, 0)]),
            leaders: BTreeMap::new(),
            bodies: BTreeMap::new(),
        }
    }

    /// The last one that anybody has applied.
    pub(super) fn last(&self) -> Zxid {
        self.steps.last().expect("there is a first one").zxid
    }

    /// The last one of the sequence that is not behind that one.
    pub(super) fn upto(&self, zxid: Zxid) -> Zxid {
        let place = self.places.range(..=zxid).next_back();
        place.map_or(Zxid::ZERO, |(zxid, _)| *zxid)
    }

    /// Somebody whose last one was `last` applies that one. Whether it is new to all.
    pub(super) fn applies(
        &mut self,
        last: Zxid,
        zxid: Zxid,
        entry: [u8; 32],
    ) -> Result<bool, String> {
        let Some(&place) = self.places.get(&last) else {
            return Err(format!("applies {zxid} behind {last}, which is none"));
        };
        match self.steps.get(place + 1) {
            Some(step) if (step.zxid, step.entry) == (zxid, entry) => Ok(false),
            Some(step) => Err(format!(
                "applies {zxid} behind {last}, where {} was committed{}",
                step.zxid,
                match step.zxid == zxid {
                    true => " with other bytes",
                    false => "",
                }
            )),
            None if !zxid.can_follow(last) => {
                Err(format!("applies {zxid} behind {last}: there is a gap"))
            }
            None => {
                self.places.insert(zxid, self.steps.len());
                self.steps.push(Step {
                    zxid,
                    entry,
                    digest: None,
                });
                Ok(true)
            }
        }
    }

    /// Somebody's tree is in that state.
    pub(super) fn is_at(&mut self, zxid: Zxid, digest: u64) -> Result<(), String> {
        if zxid == Zxid::ZERO {
            // It was wiped, or has just begun.
            return Ok(());
        }
        let Some(&place) = self.places.get(&zxid) else {
            return Err(format!("is at {zxid}, which nobody has committed"));
        };
        match *self.steps[place].digest.get_or_insert(digest) {
            known if known == digest => Ok(()),
            known => Err(format!(
                "has digest {digest:x} at {zxid}, others have {known:x}"
            )),
        }
    }

    /// Somebody leads that epoch.
    pub(super) fn leads(&mut self, epoch: Epoch, sid: ServerId) -> Result<(), String> {
        match self.leaders.insert(epoch, sid) {
            None => Ok(()),
            Some(other) => Err(format!("leads epoch {epoch}, which {other} has led")),
        }
    }

    /// Compares a snapshot with those of others of the same state. Damage is somebody else's matter.
    pub(super) fn compare(&mut self, data: &SimStorage, zxid: Zxid) -> Result<bool, String> {
        let mut hash = blake3::Hasher::new();
        let take = |chunk: &[u8]| {
            hash.update(chunk);
            Ok::<(), SnapshotError>(())
        };
        if snapshot_file::read(data, zxid, None, take).is_err() {
            return Ok(false);
        }
        let body = *hash.finalize().as_bytes();
        if zxid > Zxid::ZERO && !self.places.contains_key(&zxid) {
            return Err(format!(
                "has a snapshot of {zxid}, which nobody has committed"
            ));
        }
        self.has_body(zxid, body).map(|()| true)
    }

    /// Somebody has that state.
    pub(super) fn has_body(&mut self, zxid: Zxid, body: [u8; 32]) -> Result<(), String> {
        match *self.bodies.entry(zxid).or_insert(body) == body {
            true => Ok(()),
            false => Err(format!("has another state of {zxid} than others")),
        }
    }
}
