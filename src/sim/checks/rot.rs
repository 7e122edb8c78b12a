//! A bit that rots in a record behind which a durable one lies must be noticed at the start.

use super::super::disk::SimStorage;
use crate::log::Scan;
use crate::log::record::HEADER;
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
    /// A flipped bit: file, offset, bit.
    flipped: Option<(String, usize, u32)>,
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
        let scan = Scan::new(disk).map_err(|e| format!("before any rot: {e}"))?;
        let covered: Vec<_> = scan
            .transactions(Zxid::ZERO)
            .filter(|record| record.zxid <= self.covered)
            .collect();
        if covered.is_empty() {
            return Ok(());
        }
        let chosen = match rng.bool() {
            true => covered.len() - 1,
            false => rng.usize(0..covered.len()),
        };
        let record = &covered[chosen];
        let (name, begin) = scan.place(record).expect("it was read from there");
        let within = rng.usize(0..HEADER + record.payload.len());
        let (name, offset, bit) = (name.to_owned(), begin as usize + within, rng.u32(0..8));
        disk.flip(&name, offset, bit);
        self.flipped = Some((name, offset, bit));
        Ok(())
    }

    /// The start was refused: if a bit has rotted, the operator restores its file from a backup.
    pub(in crate::sim) fn mend(&mut self, disk: &SimStorage) -> bool {
        let Some((name, offset, bit)) = self.flipped.take() else {
            return false;
        };
        disk.flip(&name, offset, bit);
        true
    }

    /// The member has started.
    pub(in crate::sim) fn started(&mut self) -> Result<(), String> {
        match self.flipped.take() {
            None => Ok(()),
            Some((name, offset, bit)) => Err(format!(
                "started although bit {bit} of byte {offset} in {name} had rotted"
            )),
        }
    }
}
