//! The syncs of the log, at the core that orders: when one begins, and on which thread.
//!
//! One sync is under way at a time, and the next batch gathers meanwhile. Whether it runs on this
//! core or beside it is decided by [`GroupCommit`]; before it runs here the core looks at its sockets
//! once more, because whoever comes during the sync waits for it.

use super::process::Process;
use crate::log::SyncTicket;
use crate::member::Member;
use crate::pipeline::Fatal;
use crate::placement::{GroupCommit, SyncPlace, SyncPolicy};
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
    pub group: GroupCommit,
    beside: Option<Beside>,
    /// The sockets were looked at since the sync became due.
    looked: bool,
    /// Whether this core has sockets to look at.
    looks: bool,
}

impl Disk {
    /// Nothing is under way; `serves`: the core that orders serves clients too.
    pub fn new(policy: SyncPolicy, serves: bool) -> Disk {
        Disk {
            group: GroupCommit::new(policy, serves),
            looks: serves,
            beside: None,
            looked: false,
        }
    }

    /// Whether a sync is under way.
    pub fn is_syncing(&self) -> bool {
        self.beside.is_some()
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
        if self.beside.is_some() || !member.is_sync_due() {
            return Ok(Driven::Nothing);
        }
        if self.group.waits(member.records(), now.micros) {
            return Ok(Driven::LookAgain);
        }
        let place = self.group.place(member.records(), input_waits, now.micros);
        let looks = self.looks && place == SyncPlace::Here;
        if looks && !std::mem::replace(&mut self.looked, true) {
            return Ok(Driven::LookAgain);
        }
        self.looked = false;
        let Some(ticket) = member.poll_sync() else {
            return Ok(Driven::Nothing);
        };
        let first = ticket.files().next().cloned();
        let (SyncPlace::Beside, Some(first)) = (place, first) else {
            self.group
                .began(SyncPlace::Here, member.records(), now.micros);
            let outcome = ticket.run();
            let ended = process.now();
            self.group.ended(ended.micros);
            member.synced(outcome, ended)?;
            return Ok(Driven::Synced);
        };
        self.group
            .began(SyncPlace::Beside, member.records(), now.micros);
        ring.begin_sync(&first);
        self.beside = Some(Beside { ticket, done: 0 });
        Ok(Driven::Nothing)
    }

    /// The kernel has made one file of the sync durable, or has failed to.
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
            ring.begin_sync(&file);
            self.beside = Some(beside);
            return Ok(());
        }
        self.group.ended(now.micros);
        member.synced(beside.ticket.done(result), now)
    }
}
