//! What happens at a moment, and in which order.

use super::kinds::{Kind, Mend};
use super::node::Promise;
use crate::log::{SyncTicket, WitnessTicket};
use crate::member::Job;
use crate::sim::disk::SimStorage;
use crate::types::ServerId;
use crate::zab::RoleId;
use std::collections::BTreeMap;

/// What was begun and has not come back.
pub(super) enum Work {
    /// It is written; the sync ends so much later, µs.
    Write(SyncTicket<SimStorage>, u64),
    /// It covers what was written before it began; `None`: written and synced now.
    Sync(SyncTicket<SimStorage>, Option<u64>),
    /// And what it says.
    Record(WitnessTicket, Promise),
    Job(Job),
}

/// A process of a member.
pub(super) type Life = (ServerId, u64);

pub(super) enum Event {
    /// Time passes at a process.
    Tick(Life),
    Work(Life, Work),
    /// Connections are asked for what they have to say.
    Pump(Life),
    /// A process has dialled; on the quorum port for a role.
    Dial(Life, ServerId, Option<RoleId>),
    DialFailed(Life, ServerId, Option<RoleId>),
    /// The end that has dialled a connection knows of it.
    Dialled(Life, u64, Option<RoleId>),
    /// The end that was dialled.
    Accepted(Life, u64),
    /// Bytes arrive at an end of a connection.
    Arrive(u64, usize),
    /// An end of a connection learns that the other one is gone.
    Gone(u64, usize),
    /// A client writes.
    Write,
    /// A shard confirms that nothing of the last role comes any more.
    Confirm(Life),
    Fault,
    /// Something goes wrong with a member.
    Strike(Kind, ServerId),
    Mend(ServerId, Mend),
    Start(ServerId),
}

/// Events by time; those of one moment in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
}

impl Queue {
    pub(super) fn at(&mut self, us: u64, event: Event) {
        self.next += 1;
        self.events.insert((us, self.next), event);
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Event)> {
        let ((us, _), event) = self.events.pop_first()?;
        Some((us, event))
    }
}

impl Event {
    /// Number for the transcript, and whose it is.
    pub(super) fn number(&self) -> (u8, i64) {
        match self {
            Event::Tick((sid, _)) => (0, sid.0),
            Event::Work((sid, _), Work::Write(..)) => (1, sid.0),
            Event::Work((sid, _), Work::Sync(..)) => (2, sid.0),
            Event::Work((sid, _), Work::Record(..)) => (3, sid.0),
            Event::Work((sid, _), Work::Job(_)) => (4, sid.0),
            Event::Pump((sid, _)) => (5, sid.0),
            Event::Dial((sid, _), ..) => (6, sid.0),
            Event::DialFailed((sid, _), ..) => (7, sid.0),
            Event::Dialled((sid, _), ..) => (8, sid.0),
            Event::Accepted((sid, _), _) => (9, sid.0),
            Event::Arrive(wire, at) => (10, (*wire as i64) << 1 | *at as i64),
            Event::Gone(wire, at) => (11, (*wire as i64) << 1 | *at as i64),
            Event::Write => (12, 0),
            Event::Confirm((sid, _)) => (13, sid.0),
            Event::Fault => (14, 0),
            Event::Mend(sid, _) => (15, sid.0),
            Event::Start(sid) => (16, sid.0),
            Event::Strike(kind, sid) => (17, (*kind as i64) << 8 | sid.0),
        }
    }
}
