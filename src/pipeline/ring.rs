//! The transactions in flight and the cursors over them.
//!
//! ```text
//!   applied  ≤  committed            acked ≤ durable  ≤  logged  ≤  prepared
//!      │            │                          │            │           │
//!  ────┴────────────┴──────────────────────────┴────────────┴───────────┴──► zxid
//!      └─ slots of the ring: from here on ──────────────────────────────┘
//! ```
//!
//! Standalone, committed is durable and nothing is acked to anybody; a slot is appended in the
//! same step as it is prepared. A slot can only be committed by a [`Decided`], which takes a
//! [`Durable`] of a quorum; that only the log makes, out of a sync that has succeeded: nothing can be
//! answered before.

use crate::log::{Durable, LogEnd};
use crate::messages::{Origin, Stamps};
use crate::txn::Entry;
use crate::types::{Generation, Position, Zxid};
use crate::zab::Decided;
use std::collections::VecDeque;
use std::sync::Arc;

/// A transaction between prepare and apply.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The end of its record in the log.
    pub(super) end: Position,
    pub(super) entry: Arc<Entry>,
    pub(super) origin: Option<Origin>,
    pub(super) generation: Generation,
    pub(super) stamps: Stamps,
}

impl Slot {
    pub(super) fn zxid(&self) -> Zxid {
        self.entry.header.zxid
    }
}

/// How far each stage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursors {
    /// The last zxid taken.
    pub prepared: Zxid,
    /// The last one whose record is in the log.
    pub logged: Zxid,
    /// The last one covered by a sync.
    pub durable: Zxid,
    /// The last one confirmed to a leader; standalone nobody asks, and it follows `durable`.
    pub acked: Zxid,
    /// The last one that may be shown.
    pub committed: Zxid,
    /// The last one in the pipeline's tree.
    pub applied: Zxid,
}

impl Cursors {
    fn check(&self) {
        assert!(self.applied <= self.committed, "{self:?}");
        assert!(self.acked <= self.durable, "{self:?}");
        assert!(self.durable <= self.logged, "{self:?}");
        assert!(self.logged <= self.prepared, "{self:?}");
        // Commit may overtake the own sync in an ensemble only.
        assert!(self.committed <= self.durable, "{self:?}");
    }
}

/// Transactions between prepare and apply, and how far each stage has come.
#[derive(Debug)]
pub(super) struct Ring {
    /// Not applied yet, in order of zxid and of position.
    slots: VecDeque<Slot>,
    /// How many slots at the front are durable.
    durable: usize,
    /// How many slots at the front are committed.
    committed: usize,
    cursors: Cursors,
}

impl Ring {
    /// Everything up to `applied` is in the tree and durable.
    pub(super) fn new(applied: Zxid) -> Ring {
        Ring {
            slots: VecDeque::new(),
            durable: 0,
            committed: 0,
            cursors: Cursors {
                prepared: applied,
                logged: applied,
                durable: applied,
                acked: applied,
                committed: applied,
                applied,
            },
        }
    }

    pub(super) fn cursors(&self) -> Cursors {
        self.cursors
    }

    /// The zxid of the next transaction.
    pub(super) fn next_zxid(&self) -> Zxid {
        self.cursors.prepared.next()
    }

    /// Transactions that are not committed.
    pub(super) fn uncommitted(&self) -> usize {
        self.slots.len() - self.committed
    }

    /// Every transaction that is not applied, in order, and whether it is committed.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Slot, bool)> {
        let slots = self.slots.iter().enumerate();
        slots.map(|(n, slot)| (slot, n < self.committed))
    }

    /// A transaction has been prepared and appended.
    pub(super) fn push(&mut self, slot: Slot) {
        assert_eq!(slot.zxid(), self.next_zxid(), "zxids have no gaps");
        assert!(self.slots.back().is_none_or(|last| last.end < slot.end));
        self.cursors.prepared = slot.zxid();
        self.cursors.logged = slot.zxid();
        self.cursors.check();
        self.slots.push_back(slot);
    }

    /// A sync has made transactions durable.
    pub(super) fn synced(&mut self, durable: &Durable<LogEnd>, micros: u64) {
        while let Some(slot) = self.slots.get_mut(self.durable)
            && slot.end <= durable.position()
        {
            slot.stamps.synced = micros;
            self.durable += 1;
            self.cursors.durable = slot.zxid();
            self.cursors.acked = slot.zxid();
        }
        self.cursors.check();
    }

    /// The next transaction that is decided, and thereby committed.
    pub(super) fn commit(&mut self, decided: &Decided, micros: u64) -> Option<&Slot> {
        let slot = self
            .slots
            .get_mut(self.committed)
            .filter(|slot| slot.zxid() <= decided.zxid())?;
        slot.stamps.committed = micros;
        self.committed += 1;
        self.cursors.committed = slot.zxid();
        self.cursors.check();
        Some(slot)
    }

    /// The tree has applied a transaction; it must be the oldest one.
    pub(super) fn applied(&mut self, zxid: Zxid) -> Slot {
        assert!(self.committed > 0, "applied before it was committed");
        let slot = self.slots.pop_front().expect("a committed slot");
        assert_eq!(slot.zxid(), zxid, "applied in order");
        self.committed -= 1;
        self.durable -= 1;
        self.cursors.applied = zxid;
        self.cursors.check();
        slot
    }
}
