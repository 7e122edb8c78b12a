//! The syncs of the log, at the core that orders: [`Syncs`] decides, and here the kernel is asked.

use super::process::Process;
use crate::log::{SyncTask, SyncTicket};
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

/// A sync that the kernel makes beside the core.
struct Beside {
    ticket: SyncTicket<FsStorage>,
    /// Tasks of the ticket that are done.
    done: usize,
}

impl Beside {
    /// Begins the next task; false when all are done.
    fn begin_next(&self, ring: &mut Ring) -> bool {
        let storage = self.ticket.storage();
        match self.ticket.tasks().nth(self.done) {
            None => return false,
            Some(SyncTask::File(file)) => ring.begin_sync(file, self.ticket.is_small(FEW_BYTES)),
            Some(SyncTask::Name(name)) => ring.begin_rename(storage, &name.spare, &name.segment),
            Some(SyncTask::Directory) => ring.begin_directory_sync(storage),
        }
        true
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
        let beside = Beside { ticket, done: 0 };
        assert!(beside.begin_next(ring), "a ticket has a file");
        self.beside = Some(beside);
        Ok(Driven::Nothing)
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
        beside.done += 1;
        if result.is_ok() && beside.begin_next(ring) {
            self.beside = Some(beside);
            return Ok(());
        }
        self.group.ended(now);
        member.synced(beside.ticket.done(beside.done, result), now)
    }
}
