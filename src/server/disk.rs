//! The syncs of the log, at the core that orders: [`Syncs`] decides, and here the kernel is asked.

use super::process::Process;
use crate::log::{SyncTask, SyncTicket, Unwritten};
use crate::member::Member;
use crate::pipeline::Fatal;
use crate::placement::{FEW_BYTES, SyncPlace, SyncPolicy, SyncStep, Syncs};
use crate::rt::ring::Ring;
use crate::rt::storage::FsStorage;
use crate::types::Now;
use std::io;

/// What [`Disk::drive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    /// Nothing, or a sync has begun beside the core.
    Nothing,
    /// A sync is due, and waits for another look at the sockets.
    LookAgain,
    /// A sync has ended: there is something to answer.
    Synced,
}

/// A sync that the kernel makes beside the core, with the writes that were left to it.
struct Beside {
    ticket: SyncTicket<FsStorage>,
    /// Tasks of the ticket that are done.
    done: usize,
}

impl Beside {
    /// Begins the next task; false when all are done.
    fn begin_next(&mut self, ring: &mut Ring) -> bool {
        if let Some(Unwritten {
            file,
            offset,
            bytes,
        }) = self.ticket.take_unwritten(self.done)
        {
            ring.begin_write(file, offset, bytes);
            return true;
        }
        let storage = self.ticket.storage();
        match self.ticket.tasks().nth(self.done) {
            None => return false,
            Some(SyncTask::File(file)) => ring.begin_sync(file, self.ticket.is_small(FEW_BYTES)),
            Some(SyncTask::Name(name)) => ring.begin_rename(storage, &name.spare, &name.segment),
            Some(SyncTask::Directory) => ring.begin_directory_sync(storage),
        }
        true
    }

    /// The task that was begun has ended; false if it was the last one, or has failed.
    fn goes_on(&mut self, result: &io::Result<()>, ring: &mut Ring) -> bool {
        if let Some(bytes) = ring.take_written() {
            self.ticket.written(self.done, bytes);
        }
        self.done += 1;
        result.is_ok() && self.begin_next(ring)
    }
}

/// The syncs of one process.
pub struct Disk {
    /// Decides when, and where.
    pub group: Syncs,
    beside: Option<Beside>,
}

impl Disk {
    /// Nothing is under way; `serves`: the core that orders serves clients too.
    pub fn new(policy: SyncPolicy, serves: bool) -> Disk {
        Disk {
            group: Syncs::new(policy, serves),
            beside: None,
        }
    }

    /// Whether a sync is under way.
    pub fn is_syncing(&self) -> bool {
        self.group.is_syncing()
    }

    /// Begins a sync if one is due; `now` is the turn's, `input_waits`: the last look at the sockets
    /// brought input that was not executed yet.
    ///
    /// # Errors
    /// [`Fatal`]: the sync failed, and nothing may be said any more.
    pub fn drive(
        &mut self,
        member: &mut Member<FsStorage>,
        ring: &mut Ring,
        process: &Process,
        input_waits: bool,
        now: Now,
    ) -> Result<Driven, Fatal> {
        let (ticket, place) = match self.group.begin(member, input_waits, now) {
            SyncStep::Nothing => return Ok(Driven::Nothing),
            SyncStep::LookAgain => return Ok(Driven::LookAgain),
            SyncStep::Begin(ticket, place) => (ticket, place),
        };
        if place == SyncPlace::Here {
            let outcome = ticket.run();
            let ended = process.now();
            self.group.ended(ended);
            member.synced(outcome, ended)?;
            return Ok(Driven::Synced);
        }
        let mut beside = Beside { ticket, done: 0 };
        if beside.begin_next(ring) {
            self.beside = Some(beside);
            return Ok(Driven::Nothing);
        }
        // A write has failed.
        self.group.ended(now);
        member.synced(beside.ticket.done(beside.done, Ok(())), now)?;
        Ok(Driven::Synced)
    }

    /// The kernel has done one task of the sync, or has failed to.
    ///
    /// Every error ends the process, also -ECANCELED, which io_uring answers for a sync that it had no
    /// thread to begin: a file system may answer the same of a sync that has failed, and a second one
    /// would then find no dirty page and report success. Nothing acknowledged is lost either way.
    ///
    /// # Errors
    /// As [`Disk::drive`].
    pub fn synced(
        &mut self,
        result: io::Result<()>,
        member: &mut Member<FsStorage>,
        ring: &mut Ring,
        now: Now,
    ) -> Result<(), Fatal> {
        let mut beside = self.beside.take().expect("a sync was begun");
        if beside.goes_on(&result, ring) {
            self.beside = Some(beside);
            return Ok(());
        }
        self.group.ended(now);
        member.synced(beside.ticket.done(beside.done, result), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Known, Log, LogConfig, Need, RecoveryError, Room, Scan, StoreId};
    use crate::rt::bell::Bell;
    use crate::rt::ring::{Features, Happened};
    use crate::types::Zxid;

    fn open(storage: &FsStorage, seed: u128) -> (Log<FsStorage>, Vec<Zxid>) {
        let mut found = Vec::new();
        let scan = Scan::read(storage, &Known::default(), |record| {
            found.push(record.zxid);
            Ok::<(), RecoveryError>(())
        });
        let config = LogConfig {
            segment_bytes: 64 << 10,
        };
        let mut identity = seed;
        let identities = Box::new(move || {
            identity += 1;
            identity
        });
        let log = scan
            .unwrap()
            .open(config, identities, StoreId(7), Zxid::ZERO);
        (log.unwrap(), found)
    }

    /// Appends so much, a segment or two being begun, and has the ring make all of it durable.
    #[test]
    fn the_kernel_makes_the_writes_of_a_ticket_beside_the_core_and_what_they_were_for_is_durable() {
        for features in [Features::Auto, Features::Plain] {
            let dir = tempfile::tempdir().unwrap();
            let storage = FsStorage::open(dir.path()).unwrap();
            let (mut log, _) = open(&storage, 0);
            let mut ring = Ring::new(features, Bell::new().unwrap()).unwrap();
            let mut zxid = 0;
            for records in [1, 5, 20, 18, 1] {
                while let Some(order) = log.poll_spare() {
                    log.spare_made(order.fulfil(&storage)).unwrap();
                }
                for _ in 0..records {
                    zxid += 1;
                    assert_eq!(log.room_for(Need::Growing, 4000), Room::Yes);
                    log.append(Zxid(zxid), &[zxid as u8; 4000]).unwrap();
                }
                let ticket = log.begin_sync().unwrap();
                let mut beside = Beside { ticket, done: 0 };
                assert!(beside.begin_next(&mut ring));
                let result = loop {
                    ring.wait(None, || true);
                    let ended =
                        std::iter::from_fn(|| ring.poll()).find_map(|happened| match happened {
                            Happened::Synced { result } => Some(result),
                            _ => None,
                        });
                    match ended {
                        Some(result) if !beside.goes_on(&result, &mut ring) => break result,
                        _ => {}
                    }
                };
                let outcome = beside.ticket.done(beside.done, result);
                assert_eq!(log.synced(outcome).unwrap().zxid(), Zxid(zxid));
            }
            assert!(log.counters().rolls >= 3);
            drop(log);
            let found = open(&storage, 100).1;
            assert_eq!(found, (1..=zxid).map(Zxid).collect::<Vec<_>>());
        }
    }
}
