//! A member's journal: its log, and the transactions in it that are not applied yet.
//!
//! Every member has one, whatever its role: a transaction is appended, made durable by a sync, committed by a
//! [`Decided`] and applied, in the order of its zxid ([`Cursors`]). Where the transaction comes from, who decides
//! over it, who waits for it and what it changes is not known here: a slot carries its origin and nobody looks at it.

use super::fatal::Fatal;
use super::ring::{Cursors, Ring, Slot};
use crate::log::storage::Storage;
use crate::log::{
    Durable, Log, LogEnd, Need, Room, SpareJob, SpareResult, SyncOutcome, SyncTicket,
};
use crate::messages::{Origin, Stamps};
use crate::stages::{Stage, Stages};
use crate::txn::Entry;
use crate::txn::record::Payload;
use crate::types::{Generation, Tick, Zxid};
use crate::zab::Decided;
use std::sync::Arc;

/// The log and the ring over it.
pub(super) struct Journal<S: Storage> {
    log: Log<S>,
    ring: Ring,
    /// How long transactions took from one cursor to the next.
    stages: Stages,
}

impl<S: Storage> Journal<S> {
    /// Everything in `log` is applied; `applied` is its last zxid.
    pub(super) fn new(log: Log<S>, applied: Zxid) -> Journal<S> {
        assert_eq!(
            log.end().zxid,
            applied,
            "recovery has applied the whole log"
        );
        Journal {
            log,
            ring: Ring::new(applied),
            stages: Stages::default(),
        }
    }

    /// How far each stage has come.
    pub(super) fn cursors(&self) -> Cursors {
        self.ring.cursors()
    }

    /// The zxid of the next transaction.
    pub(super) fn next_zxid(&self) -> Zxid {
        self.ring.next_zxid()
    }

    /// Whether an entry of so many bytes at most can be appended. It is asked before a zxid is taken.
    pub(super) fn room_for(&self, need: Need, bytes: usize) -> Room {
        self.log.room_for(need, bytes)
    }

    /// Appends a transaction, for which there is room.
    ///
    /// # Errors
    /// [`Fatal::Log`]: it can't be written.
    pub(super) fn append(
        &mut self,
        entry: Entry,
        origin: Option<Origin>,
        generation: Generation,
        mut stamps: Stamps,
        micros: u64,
    ) -> Result<Zxid, Fatal> {
        let zxid = entry.header.zxid;
        stamps.ordered = micros;
        let payload = Payload::of(&entry);
        let write = |out: &mut Vec<u8>| payload.write_into(out);
        let end = self.log.append_in_place(zxid, payload.len(), write)?;
        self.ring.push(Slot {
            end,
            entry: Arc::new(entry),
            origin,
            generation,
            stamps,
        });
        Ok(zxid)
    }

    /// A sync to make, at most one at a time.
    pub(super) fn poll_sync(&mut self) -> Option<SyncTicket<S>> {
        self.log.begin_sync()
    }

    /// That sync has ended. What it proves durable may be acknowledged; it is not committed by that.
    ///
    /// # Errors
    /// [`Fatal::Log`]: the sync failed.
    pub(super) fn synced(
        &mut self,
        outcome: SyncOutcome,
        micros: u64,
    ) -> Result<Durable<LogEnd>, Fatal> {
        let durable = self.log.synced(outcome)?;
        self.ring.synced(&durable, micros);
        Ok(durable)
    }

    /// Everything up to there is committed, and the log says so from now on.
    pub(super) fn decided(&mut self, decided: &Decided) {
        self.log.committed(decided.zxid());
    }

    /// The next transaction that is decided, and thereby committed.
    pub(super) fn commit(&mut self, decided: &Decided, micros: u64) -> Option<&Slot> {
        self.ring.commit(decided, micros)
    }

    /// The tree has applied a transaction; it must be the oldest one.
    pub(super) fn applied(&mut self, zxid: Zxid, micros: u64) -> Slot {
        let slot = self.ring.applied(zxid);
        self.record_stages(&slot.stamps, micros);
        slot
    }

    /// The stages up to applied; requests that no client waits for are left out.
    fn record_stages(&mut self, stamps: &Stamps, applied: u64) {
        if stamps.received == 0 {
            return;
        }
        let spans = [
            (Stage::Queue, stamps.received, stamps.ordered),
            (Stage::Sync, stamps.ordered, stamps.synced),
            (Stage::Commit, stamps.synced, stamps.committed),
            (Stage::Apply, stamps.committed, applied),
        ];
        for (stage, from, to) in spans {
            self.stages.record(stage, from, to);
        }
    }

    /// The log's timers. Not while room that was found is still to be used: a seal takes some.
    ///
    /// # Errors
    /// [`Fatal::Log`]: a seal can't be written.
    pub(super) fn tick(&mut self, now: Tick) -> Result<(), Fatal> {
        Ok(self.log.tick(now)?)
    }

    /// A segment to prepare, on a thread that may block.
    pub(super) fn poll_spare(&mut self) -> Option<SpareJob> {
        self.log.poll_spare()
    }

    /// That segment is there, or could not be made.
    ///
    /// # Errors
    /// [`Fatal`]: the log can't go on.
    pub(super) fn spare_made(&mut self, result: SpareResult<S>) -> Result<(), Fatal> {
        Ok(self.log.spare_made(result)?)
    }

    /// Transactions that are not committed.
    pub(super) fn uncommitted(&self) -> usize {
        self.ring.uncommitted()
    }

    /// Every transaction that is not applied, in order, and whether it is committed.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = (&Slot, bool)> {
        self.ring.all()
    }

    /// For snapshots, purge and inspection.
    pub(super) fn log(&self) -> &Log<S> {
        &self.log
    }

    /// For purge and the drain at the end.
    pub(super) fn log_mut(&mut self) -> &mut Log<S> {
        &mut self.log
    }

    /// For the seal at the end.
    pub(super) fn into_log(self) -> Log<S> {
        self.log
    }

    /// The stages up to applied.
    pub(super) fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Begins to count the stages anew.
    pub(super) fn reset_stages(&mut self) {
        self.stages.reset();
    }
}
