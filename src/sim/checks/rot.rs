//! A bit that rots in a record behind which a durable one lies must be noticed at the start, if the
//! newest snapshot does not cover the record.

use super::super::disk::SimStorage;
use crate::log::record::HEADER;
use crate::log::{Known, RecoveryError, Scan};
use crate::types::Zxid;
use std::collections::VecDeque;

/// After this long a durable batch is covered by a durable seal, µs: the seal's delay, a tick, the
/// slowest sync before it and its own.
pub(in crate::sim) const COVERED_AFTER_US: u64 = 500_000;

#[derive(Default)]
pub(in crate::sim) struct Rot {
    /// When the newest transactions were applied, µs.
    applied_at: VecDeque<(u64, Zxid)>,
    /// A later record or a seal covers everything up to here: rot there must be noticed.
    covered: Zxid,
    /// Until when the core that seals was held still, µs.
    held_until: u64,
    /// It stops, and seals nothing before its end.
    stops: bool,
    /// A flipped bit: file, offset, bit, and the transaction in whose record it is.
    flipped: Option<(String, usize, u32, Zxid)>,
    /// A bit that nobody needs stays flipped.
    is_left: bool,
}

impl Rot {
    /// Recovery covers what it has read.
    pub(super) fn recovered(&mut self, recovered: Zxid) {
        self.covered = recovered;
        self.applied_at.clear();
    }

    pub(super) fn applied(&mut self, zxid: Zxid, now_us: u64) {
        self.applied_at.push_back((now_us, zxid));
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
        self.applied_at.clear();
        self.stops = false;
    }

    /// Whether everything that was applied had the time to be sealed.
    pub(in crate::sim) fn is_idle(&mut self, now_us: u64) -> bool {
        self.seal(now_us);
        self.applied_at.is_empty()
    }

    /// A clean stop, or idleness, has covered everything.
    pub(in crate::sim) fn stopped(&mut self, last: Zxid) {
        self.covered = last;
    }

    /// Flips a bit in a record that a later one covers, now and then the newest of these.
    pub(in crate::sim) fn flip(
        &mut self,
        disk: &SimStorage,
        rng: &mut fastrand::Rng,
    ) -> Result<(), String> {
        if self.flipped.is_some() || disk.crashed() {
            return Ok(());
        }
        let mut covered = Vec::new();
        let scan = Scan::read(disk, &Known::default(), |record| {
            if record.zxid <= self.covered {
                covered.push((record.zxid, record.position, record.payload.len()));
            }
            Ok::<(), RecoveryError>(())
        });
        let scan = match scan {
            Ok(scan) => scan,
            Err(_) if self.is_left => return Ok(()),
            Err(e) => return Err(format!("before any rot: {e}")),
        };
        if covered.is_empty() {
            return Ok(());
        }
        let chosen = match rng.bool() {
            true => covered.len() - 1,
            false => rng.usize(0..covered.len()),
        };
        let (zxid, position, payload) = covered[chosen];
        let (name, begin) = scan.place(position).expect("it was read from there");
        let within = rng.usize(0..HEADER + payload);
        let (name, offset, bit) = (name.to_owned(), begin as usize + within, rng.u32(0..8));
        disk.flip(&name, offset, bit);
        self.flipped = Some((name, offset, bit, zxid));
        Ok(())
    }

    /// The start was refused: if a bit has rotted, the operator restores its file from a backup.
    pub(in crate::sim) fn mend(&mut self, disk: &SimStorage) -> bool {
        let Some((name, offset, bit, _)) = self.flipped.take() else {
            return false;
        };
        disk.flip(&name, offset, bit);
        true
    }

    /// The member has started from this snapshot.
    pub(in crate::sim) fn started(&mut self, snapshot: Option<Zxid>) -> Result<(), String> {
        match self.flipped.take() {
            None => Ok(()),
            Some((.., zxid)) if Some(zxid) <= snapshot => {
                self.is_left = true;
                Ok(())
            }
            Some((name, offset, bit, zxid)) => Err(format!(
                "started although bit {bit} of byte {offset} in {name} had rotted, in {zxid}"
            )),
        }
    }
}
