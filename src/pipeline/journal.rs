//! A member's journal: its log, and the transactions in it that are not applied yet.
//!
//! Every member has one, whatever its role: a transaction is appended, made durable by a sync, committed by a
//! [`Decided`] and applied, in the order of its zxid ([`Cursors`]). Where the transaction comes from, who decides
//! over it, who waits for it and what it changes is not known here: a slot carries its origin and nobody looks at it.
//!
//! | It comes | As | And goes |
//! |---|---|---|
//! | from who orders here | an entry ([`Journal::append`]) | to the log and the ring |
//! | from a leader | bytes ([`Journal::accept`]) | the same; within a synchronisation to the log alone |
//! | from a start, an adoption, a tree that is slow | records of the log | back into the ring, in pieces ([`Journal::read_back`]) |

use super::ending::Ending;
use super::fatal::Fatal;
use super::lag::ReadBack;
use super::ring::{Adopted, Cursors, Ring};
use super::slot::Slot;
use crate::log::storage::Storage;
use crate::log::{
    Adoption, AdoptionError, Cursor, Durable, Lease, Log, LogEnd, Need, Received, Room, Runs,
    SpareJob, SpareResult, Stretch, SyncOutcome, SyncTicket,
};
use crate::messages::{Origin, Stamps};
use crate::stages::{Stage, Stages};
use crate::txn::Entry;
use crate::txn::record::Payload;
use crate::types::{Epoch, Generation, Tick, Zxid};
use crate::zab::{Base, Decided, Leave};
use std::io;
use std::sync::Arc;

/// How much of a member's log is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingBounds {
    /// Records of so many bytes are slots; what a learner receives beyond waits on disk.
    pub ring_bytes: u64,
    /// So many bytes of records at most are read back at a time, or one that is longer.
    pub piece_bytes: u64,
}

impl Default for RingBounds {
    fn default() -> RingBounds {
        RingBounds {
            ring_bytes: RING_BYTES,
            piece_bytes: PIECE_BYTES,
        }
    }
}

/// As much as a leader has on its way without a decision.
const RING_BYTES: u64 = 16 << 20;
/// Applied in some tens of milliseconds.
const PIECE_BYTES: u64 = 1 << 20;

/// A part of the lag to read, where blocking is allowed.
#[derive(Debug)]
pub struct LagOrder {
    /// Behind what.
    pub cursor: Cursor,
    /// The history that counts.
    pub history: Runs,
    /// How far.
    pub stretch: Stretch,
    /// Nothing of it goes meanwhile.
    pub lease: Lease,
}

/// The log and the ring over it.
pub(super) struct Journal<S: Storage> {
    log: Log<S>,
    ring: Ring,
    bounds: RingBounds,
    /// What the synchronisation that is open continues.
    open: Option<Base>,
    /// Nothing is ordered for now: whom it is proposed to has no room.
    is_held: bool,
    /// How long transactions took from one cursor to the next.
    stages: Stages,
}

impl<S: Storage> Journal<S> {
    /// Everything in `log` up to `applied` is in the tree, and committed. A member's may go on behind that.
    pub(super) fn new(log: Log<S>, applied: Zxid, bounds: RingBounds) -> Journal<S> {
        let end = log.end().zxid;
        assert!(
            end == applied || log.history().is_some() && end > applied,
            "recovery has applied the whole log of a standalone server"
        );
        Journal {
            log,
            ring: Ring::new(applied, end),
            bounds,
            open: None,
            is_held: false,
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
        match self.is_held {
            true => Room::Wait,
            false => self.log.room_for(need, bytes),
        }
    }

    /// Whether so many bytes that come from a leader, or a fence, can be appended: they may take all that there is.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.log.room_for(Need::Reserve, bytes) == Room::Yes
    }

    /// Whether nothing is ordered for now.
    pub(super) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
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
        self.ring.synced(&durable, self.log.history_id(), micros);
        Ok(durable)
    }

    /// Everything up to there is committed, and the log says so from now on.
    pub(super) fn decided(&mut self, decided: &Decided) {
        self.log.committed(decided.zxid());
        self.ring.decided(decided);
    }

    /// Whether [`Journal::tell`] has one.
    pub(super) fn can_tell(&self) -> bool {
        self.ring.can_tell()
    }

    /// The next transaction that is committed and was not told; it is told now.
    pub(super) fn tell(&mut self, micros: u64) -> Option<&mut Slot> {
        self.ring.tell(micros)
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

    /// Transactions that were not told: not committed, as long as there is no lag.
    pub(super) fn untold(&self) -> usize {
        self.ring.untold()
    }

    /// Every transaction in memory that is not applied, in order, and whether it was told.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = (&Slot, bool)> {
        self.ring.all()
    }

    /// Nobody waits for what was not told any more.
    pub(super) fn disown(&mut self) {
        self.ring.disown();
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

    // What a leader sends.

    /// Appends a transaction as its leader has serialised it, for which there is room.
    ///
    /// # Errors
    /// [`Ending::Role`]: it is none, or has no place here. [`Ending::Process`]: the log can't be written.
    pub(super) fn accept(&mut self, zxid: Zxid, bytes: &[u8], micros: u64) -> Result<(), Ending> {
        let unusable = Ending::Role(Leave::Unusable(zxid));
        let Ok(entry) = Entry::decode(bytes) else {
            return Err(unusable);
        };
        if entry.header.zxid != zxid {
            return Err(unusable);
        }
        let payload = Payload::verbatim(&entry, bytes);
        let write = |out: &mut Vec<u8>| payload.write_into(out);
        let end = match self.log.append_in_place(zxid, payload.len(), write) {
            Ok(end) => end,
            // It is longer than a segment, or contradicts the history: nothing of it is there.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(unusable),
            Err(error) => return Err(Ending::Process(error.into())),
        };
        if self.open.is_some() {
            return Ok(());
        }
        self.ring.bound(self.bounds.ring_bytes);
        self.ring.push(Slot {
            end,
            entry: Arc::new(entry),
            origin: None,
            generation: Generation(0),
            stamps: Stamps {
                ordered: micros,
                ..Stamps::default()
            },
        });
        Ok(())
    }

    /// A synchronisation begins: what is accepted next continues the history behind `base`, or the snapshot, and counts
    /// when it is closed. There is room for a fence.
    ///
    /// # Errors
    /// As [`Journal::accept`].
    pub(super) fn open_adoption(
        &mut self,
        epoch: Epoch,
        base: Zxid,
        snapshot: Option<&Received>,
    ) -> Result<(), Ending> {
        match snapshot {
            Some(snapshot) => self.log.open_adoption_of(epoch, snapshot),
            None => self.log.open_adoption(epoch, base),
        }
        .map_err(refused)?;
        self.open = Some(match snapshot {
            Some(snapshot) => Base::Snapshot(snapshot.zxid()),
            None => Base::Log(base),
        });
        Ok(())
    }

    /// The synchronisation ends. It counts from the sync on that covers this. There is room for a fence.
    ///
    /// # Errors
    /// As [`Journal::accept`].
    pub(super) fn close_adoption(&mut self, epoch: Epoch) -> Result<(), Ending> {
        self.log.close_adoption(epoch).map_err(refused)?;
        let base = self.open.take().expect("what is closed was opened");
        let end = self.log.end().zxid;
        self.ring.adopt(Adopted { epoch, base, end });
        Ok(())
    }

    /// The synchronisation that is open is given up, if there is one. There is room for a fence.
    ///
    /// # Errors
    /// [`Fatal::Log`].
    pub(super) fn void_adoption(&mut self) -> Result<(), Fatal> {
        self.open = None;
        Ok(self.log.void_adoption()?)
    }

    /// A synchronisation is open.
    pub(super) fn is_adopting(&self) -> bool {
        self.open.is_some()
    }

    /// The proof of the synchronisation that was closed last, once it is durable.
    pub(super) fn poll_adoption(&mut self) -> Option<Durable<Adoption>> {
        self.log.poll_adoption()
    }

    /// The proof of what is durable, once that is everything which was appended.
    pub(super) fn flushed(&self) -> Option<Durable<LogEnd>> {
        let is_flushed = self.log.unsynced_bytes() == 0;
        is_flushed.then(|| self.log.proof())
    }

    // What is on disk alone.

    /// Whether something has its place in the order, and is on disk alone.
    pub(super) fn has_lag(&self) -> bool {
        self.ring.has_lag()
    }

    /// A part of the lag to read, one at a time. `None`: there is none, no room for it, or the log can't be leased now.
    pub(super) fn poll_lag(&mut self) -> Option<LagOrder> {
        let (lag, upto) = self.ring.poll_lag(self.bounds.ring_bytes.div_ceil(2))?;
        let history = self.log.history()?.clone();
        let lease = self.log.lease(lag.after())?;
        Some(LagOrder {
            cursor: lag.begin()?,
            history,
            stretch: Stretch {
                upto,
                bytes: self.bounds.piece_bytes,
            },
            lease,
        })
    }

    /// It was read.
    pub(super) fn read_back(&mut self, read: ReadBack) {
        self.ring.read_back(read);
    }

    /// It could not be, and is asked for again.
    pub(super) fn not_read_back(&mut self, after: Zxid) {
        self.ring.not_read_back(after);
    }

    /// The snapshot that the tree is to be made of.
    pub(super) fn awaited(&self) -> Option<Zxid> {
        self.ring.awaited()
    }

    /// Whether the tree is behind a snapshot that the history continues.
    pub(super) fn is_awaiting(&self) -> bool {
        self.ring.is_awaiting()
    }

    /// The tree is that of this snapshot.
    pub(super) fn installed(&mut self, zxid: Zxid) {
        self.ring.installed(zxid);
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

/// A synchronisation that the log does not take.
fn refused(error: AdoptionError) -> Ending {
    match error {
        AdoptionError::Refused(why) => Ending::Role(Leave::Contradicts(why)),
        AdoptionError::Failed(error) => Ending::Process(error.into()),
    }
}

#[cfg(test)]
mod tests;
