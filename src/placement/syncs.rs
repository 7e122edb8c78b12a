//! The syncs of the log as the core that orders sees them: one is under way at a time, and the next
//! batch gathers meanwhile. [`GroupCommit`] says when one begins and where it runs; before one runs on a
//! core that serves, the core looks at its sockets once more, because whoever comes during the sync
//! waits for it. What a sync makes durable is written here, before it begins, or left in its ticket to be written
//! where the sync runs.

use super::group_commit::{
    FEW_BYTES, GroupCommit, SyncCounters, SyncPlace, SyncPolicy, WRITE_BYTES,
};
use crate::log::SyncTicket;
use crate::log::storage::Storage;
use crate::member::Member;
use crate::types::Now;

/// What the driver does behind a turn.
pub enum SyncStep<S: Storage> {
    /// Nothing.
    Nothing,
    /// A sync is due, and waits for another look at the sockets, to be made at once.
    LookAgain,
    /// A sync begins. One that runs here holds the core until it has ended. One beside it makes the writes, too,
    /// that its ticket has left ([`SyncTicket::take_unwritten`]).
    Begin(SyncTicket<S>, SyncPlace),
}

/// The syncs of one process.
#[derive(Debug)]
pub struct Syncs {
    group: GroupCommit,
    under_way: bool,
    /// The sockets were looked at since the sync became due.
    looked: bool,
    /// Whether this core has sockets to look at.
    looks: bool,
}

impl Syncs {
    /// Nothing is under way; `serves`: the core that orders serves clients too.
    pub fn new(policy: SyncPolicy, serves: bool) -> Syncs {
        Syncs {
            group: GroupCommit::new(policy, serves),
            under_way: false,
            looked: false,
            looks: serves,
        }
    }

    /// As [`GroupCommit::served_others`].
    pub fn served_others(&mut self, now: Now) {
        self.group.served_others(now.micros);
    }

    /// Whether a sync is under way.
    pub fn is_syncing(&self) -> bool {
        self.under_way
    }

    /// Begins a sync if one is due; `now` is the turn's, `input_waits`: the last look at the sockets
    /// brought input that was not executed yet.
    pub fn begin<S: Storage>(
        &mut self,
        member: &mut Member<S>,
        input_waits: bool,
        now: Now,
    ) -> SyncStep<S> {
        if self.under_way || !member.is_sync_due() {
            return SyncStep::Nothing;
        }
        if self.group.waits(member.records(), now.micros) {
            return SyncStep::LookAgain;
        }
        let (bytes, has_rolled) = (member.unsynced_bytes(), member.has_rolled());
        let is_long = bytes > FEW_BYTES || has_rolled;
        let is_large = bytes > WRITE_BYTES || has_rolled;
        let place = self
            .group
            .place(member.records(), is_long, input_waits, now.micros);
        let looks = self.looks && place == SyncPlace::Here;
        if looks && !std::mem::replace(&mut self.looked, true) {
            return SyncStep::LookAgain;
        }
        self.looked = false;
        let Some(mut ticket) = member.poll_sync() else {
            return SyncStep::Nothing;
        };
        if !self.group.writes_beside(place, is_large, now.micros) {
            ticket.write_now();
        }
        self.group
            .began(place, member.records(), is_long, now.micros);
        self.under_way = true;
        SyncStep::Begin(ticket, place)
    }

    /// The sync that was under way has ended.
    pub fn ended(&mut self, now: Now) {
        self.under_way = false;
        self.group.ended(now.micros);
    }

    /// How often what was decided.
    pub fn counters(&self) -> SyncCounters {
        self.group.counters()
    }

    /// As [`GroupCommit::reset_times`].
    pub fn reset_times(&mut self) {
        self.group.reset_times();
    }
}
