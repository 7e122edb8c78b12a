//! The syncs of the log, at the core that orders: [`Syncs`] decides, and here the kernel is asked.

use super::process::Process;
use crate::log::SyncTicket;
use crate::member::Member;
use crate::pipeline::Fatal;
use crate::placement::{FEW_BYTES, SyncPlace, SyncPolicy, SyncStep, Syncs};
use crate::rt::ring::Ring;
use crate::rt::storage::{FsFile, FsStorage};
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
    ticket: SyncTicket<FsFile>,
    /// Files of the ticket that are done.
    done: usize,
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
        let first = ticket.files().next().cloned();
        let (SyncPlace::Beside, Some(first)) = (place, first) else {
            let outcome = ticket.run();
            let ended = process.now();
            self.group.ended(ended);
            member.synced(outcome, ended)?;
            return Ok(Driven::Synced);
        };
        ring.begin_sync(&first, ticket.bytes() <= FEW_BYTES);
        self.beside = Some(Beside { ticket, done: 0 });
        Ok(Driven::Nothing)
    }

    /// The kernel has made one file of the sync durable, or has failed to.
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
        let next = beside.ticket.files().nth(beside.done).cloned();
        if let (Ok(()), Some(file)) = (&result, next) {
            ring.begin_sync(&file, beside.ticket.bytes() <= FEW_BYTES);
            self.beside = Some(beside);
            return Ok(());
        }
        self.group.ended(now);
        member.synced(beside.ticket.done(beside.done, result), now)
    }
}
