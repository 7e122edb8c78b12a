//! The transactions in flight and the cursors over them.
//!
//! ```text
//!   applied  ≤  committed  ≤  logged  ≤  prepared            durable  ≤  logged
//!
//!   applied                                                             prepared
//!  ────┬────────────────────────┬─────────────────────┬────────────────────┬──► zxid
//!      └─ slots, the oldest ────┘└─ lag: on disk only ┘└─ newest slots ────┘
//!      └─ told ─┘
//! ```
//!
//! **Who is ahead of whom.** A slot can only be committed by a [`Decided`], which takes a [`Durable`] of a quorum; that
//! only the log makes, out of a sync that has succeeded: nothing can be answered before. Standalone, what is durable
//! here is decided. In an ensemble others may decide before the own sync has ended: committed overtakes durable, and a
//! slot may be told, applied and gone before it is durable here.
//!
//! **Told** is what was handed out to be applied: the slots that are committed, in order, up to the lag.
//!
//! **The lag** is what has a place in the order and no slot: what a start has found behind its tree, what an adoption
//! has brought, what did not fit the memory of a learner whose tree is slow. It is read back from the log in pieces,
//! as far as it is committed and durable, and as long as there is any, what is new waits behind it ([`Lag`]).
//!
//! **An adoption** replaces what nobody has committed: everything beyond `applied` is the log's then, and lag.

use super::lag::{Lag, ReadBack};
use super::slot::Slot;
use crate::log::{Durable, HistoryId, LogEnd};
use crate::types::{Epoch, Zxid};
use crate::zab::{Base, Decided};
use std::collections::VecDeque;

/// How far each stage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursors {
    /// The last zxid taken.
    pub prepared: Zxid,
    /// The last one whose record is in the log.
    pub logged: Zxid,
    /// The last one covered by a sync, of the history that counts.
    pub durable: Zxid,
    /// The last one that is decided for ever.
    pub committed: Zxid,
    /// The last one that was handed out to be applied and shown; behind a lag, less than what is committed.
    pub told: Zxid,
    /// The last one in the pipeline's tree.
    pub applied: Zxid,
}

impl Cursors {
    fn check(&self) {
        assert!(self.applied <= self.told, "{self:?}");
        assert!(self.told <= self.committed, "{self:?}");
        assert!(self.committed <= self.logged, "{self:?}");
        assert!(self.durable <= self.logged, "{self:?}");
        assert!(self.logged <= self.prepared, "{self:?}");
    }
}

/// What an adoption has made of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adopted {
    /// Of the leader whose history it is.
    pub(super) epoch: Epoch,
    /// What it continues.
    pub(super) base: Base,
    /// The last transaction.
    pub(super) end: Zxid,
}

/// Transactions between prepare and apply, and how far each stage has come.
#[derive(Debug)]
pub(super) struct Ring {
    /// Not applied yet, in order of zxid and of position.
    slots: VecDeque<Slot>,
    /// How many slots at the front are durable.
    durable: usize,
    /// How many slots at the front were told.
    told: usize,
    /// Behind the slots.
    lag: Option<Box<Lag>>,
    /// The tree is to be that of this snapshot before anything is read back.
    awaited: Option<Zxid>,
    /// Zxids are those of this leader; `None`: a standalone server's.
    epoch: Option<Epoch>,
    cursors: Cursors,
}

impl Ring {
    /// Everything up to `applied` is in the tree, committed and durable; the log goes on to `logged`, all of it durable.
    pub(super) fn new(applied: Zxid, logged: Zxid) -> Ring {
        let lag = (logged > applied).then(|| Box::new(Lag::new(applied, logged)));
        Ring {
            slots: VecDeque::new(),
            durable: 0,
            told: 0,
            lag,
            awaited: None,
            epoch: None,
            cursors: Cursors {
                prepared: logged,
                logged,
                durable: logged,
                committed: applied,
                told: applied,
                applied,
            },
        }
    }

    pub(super) fn cursors(&self) -> Cursors {
        self.cursors
    }

    /// The zxid of the next transaction that is ordered here.
    pub(super) fn next_zxid(&self) -> Zxid {
        let last = self.cursors.prepared;
        match self.epoch {
            Some(epoch) if epoch.0 > last.epoch() => Zxid::new(epoch.0, 1),
            _ => last.next(),
        }
    }

    /// Transactions in memory that were not told.
    pub(super) fn untold(&self) -> usize {
        let newest = self.lag.as_ref().map_or(0, |lag| lag.newest().len());
        self.slots.len() - self.told + newest
    }

    /// Every transaction that is not applied and in memory, in order, and whether it was told.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Slot, bool)> {
        let slots = self.slots.iter().enumerate();
        let slots = slots.map(|(n, slot)| (slot, n < self.told));
        let newest = self.lag.iter().flat_map(|lag| lag.newest());
        slots.chain(newest.map(|slot| (slot, false)))
    }

    /// Nobody waits for what was not told any more.
    pub(super) fn disown(&mut self) {
        let newest = self.lag.iter_mut().flat_map(|lag| lag.newest_mut());
        for slot in self.slots.iter_mut().skip(self.told).chain(newest) {
            slot.origin = None;
        }
    }

    /// A transaction has been prepared, or received, and appended.
    pub(super) fn push(&mut self, slot: Slot) {
        let last = self.cursors.prepared;
        assert!(slot.zxid().can_follow(last), "{last} and {slot:?}");
        self.cursors.prepared = slot.zxid();
        self.cursors.logged = slot.zxid();
        self.cursors.check();
        match &mut self.lag {
            None => {
                assert!(self.slots.back().is_none_or(|last| last.end < slot.end));
                self.slots.push_back(slot);
            }
            Some(lag) => lag.push(slot),
        }
    }

    /// What is pushed next waits on disk if the slots are records of so many bytes or more, and no more than as many
    /// wait in memory behind a lag.
    pub(super) fn bound(&mut self, bytes_max: u64) {
        let last = self.cursors.prepared;
        let is_full = self.bytes() >= bytes_max;
        match &mut self.lag {
            None if is_full => self.lag = Some(Box::new(Lag::new(last, last))),
            None => {}
            Some(lag) => lag.bound(bytes_max),
        }
    }

    /// Bytes of the log that the slots stand in.
    fn bytes(&self) -> u64 {
        let (first, last) = (self.slots.front(), self.slots.back());
        let bytes = first
            .zip(last)
            .map(|(first, last)| last.end.0 - first.end.0);
        bytes.unwrap_or(0)
    }

    /// A sync has made transactions durable. What it says of a history that was replaced since is no proof any more.
    pub(super) fn synced(&mut self, proof: &Durable<LogEnd>, history: HistoryId, micros: u64) {
        while let Some(slot) = self.slots.get_mut(self.durable)
            && slot.end <= proof.position()
        {
            slot.stamps.synced = micros;
            self.durable += 1;
        }
        if proof.history() == history {
            self.cursors.durable = proof.zxid();
        }
        self.cursors.check();
    }

    /// Everything up to there is committed.
    pub(super) fn decided(&mut self, decided: &Decided) {
        self.cursors.committed = self.cursors.committed.max(decided.zxid());
        self.cursors.check();
    }

    /// Whether [`Ring::tell`] has one.
    pub(super) fn can_tell(&self) -> bool {
        let Cursors {
            told, committed, ..
        } = self.cursors;
        told < committed && self.slots.len() > self.told
    }

    /// The next transaction that is committed and was not told; it is told now.
    pub(super) fn tell(&mut self, micros: u64) -> Option<&mut Slot> {
        let slot = self
            .slots
            .get_mut(self.told)
            .filter(|slot| slot.zxid() <= self.cursors.committed)?;
        slot.stamps.committed = micros;
        if slot.stamps.synced == 0 {
            // Others were faster than the own disk: no time was spent on waiting for it.
            slot.stamps.synced = micros;
        }
        self.told += 1;
        self.cursors.told = slot.zxid();
        Some(slot)
    }

    /// The tree has applied a transaction; it must be the oldest one.
    pub(super) fn applied(&mut self, zxid: Zxid) -> Slot {
        assert!(self.told > 0, "applied before it was told");
        let slot = self.slots.pop_front().expect("a slot that was told");
        assert_eq!(slot.zxid(), zxid, "applied in order");
        self.told -= 1;
        // It may be committed by others, and not durable here.
        self.durable = self.durable.saturating_sub(1);
        self.cursors.applied = zxid;
        self.cursors.check();
        self.close_lag();
        slot
    }

    /// Whether there is a lag.
    pub(super) fn has_lag(&self) -> bool {
        self.lag.is_some()
    }

    /// What of the lag may be read now, if the slots are records of less than so many bytes: what is committed, and on
    /// disk for sure.
    pub(super) fn poll_lag(&mut self, bytes_max: u64) -> Option<(&mut Lag, Zxid)> {
        if self.awaited.is_some() || self.bytes() >= bytes_max {
            return None;
        }
        let upto = self.cursors.committed.min(self.cursors.durable);
        let lag = self.lag.as_deref_mut()?;
        let upto = upto.min(lag.upto());
        (upto > lag.after()).then_some((lag, upto))
    }

    /// The next part of the lag has been read.
    pub(super) fn read_back(&mut self, read: ReadBack) {
        let Some(lag) = &mut self.lag else {
            return;
        };
        for slot in lag.take(read) {
            assert!(self.slots.back().is_none_or(|last| last.end < slot.end));
            self.slots.push_back(slot);
        }
        // What is read is durable, and so is all before it.
        self.durable = self.slots.len();
        self.close_lag();
    }

    /// It could not be read.
    pub(super) fn not_read_back(&mut self, after: Zxid) {
        if let Some(lag) = &mut self.lag {
            lag.failed(after);
        }
    }

    /// Nothing is left of the lag if all of it is read: what was behind it follows.
    fn close_lag(&mut self) {
        let is_awaiting = self.awaited.is_some();
        if let Some(lag) = self.lag.take_if(|lag| lag.is_empty() && !is_awaiting) {
            self.slots.extend(lag.into_newest());
        }
    }

    /// The history has changed: what was not applied is on disk.
    ///
    /// # Panics
    /// Something of it was committed, or told.
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        let Adopted { epoch, base, end } = adopted;
        let applied = self.cursors.applied;
        assert!(end >= self.cursors.committed, "{adopted:?}: {self:?}");
        assert!(self.told == 0, "told, and taken back: {self:?}");
        let (Base::Log(kept) | Base::Snapshot(kept)) = base;
        if let Base::Snapshot(zxid) = base {
            // Whoever has applied more than the snapshot holds needs nothing of it.
            self.awaited = Some(zxid).filter(|zxid| *zxid > applied);
        }
        let from = self.awaited.unwrap_or(applied);
        self.slots.clear();
        self.durable = 0;
        // Before the tree is the snapshot's, what follows waits even where nothing lies between.
        let has_lag = end > from || self.awaited.is_some();
        self.lag = has_lag.then(|| Box::new(Lag::new(from, end)));
        self.epoch = Some(epoch);
        self.cursors.prepared = end;
        self.cursors.logged = end;
        self.cursors.durable = self.cursors.durable.min(kept);
        self.cursors.check();
    }

    /// The snapshot that the tree is to be made of, once that is committed.
    pub(super) fn awaited(&self) -> Option<Zxid> {
        self.awaited
            .filter(|zxid| *zxid <= self.cursors.committed.min(self.cursors.durable))
    }

    /// Whether the tree is behind a snapshot that the history continues.
    pub(super) fn is_awaiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// The tree is that of this snapshot.
    pub(super) fn installed(&mut self, zxid: Zxid) {
        assert_eq!(self.awaited.take(), Some(zxid), "it was waited for");
        self.cursors.told = zxid;
        self.cursors.applied = zxid;
        self.cursors.check();
        self.close_lag();
    }
}

#[cfg(test)]
mod tests;
