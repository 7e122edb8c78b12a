//! What every part of a run uses: the seed's random numbers, virtual time with its events, the disk,
//! the transcript and the counters.

use super::disk::SimStorage;
use super::outcome::{Counters, Options};
use super::transcript::Transcript;
use crate::log::SyncTicket;
use crate::member::Job;
use crate::types::{Now, Tick, WallMs};
use std::collections::BTreeMap;

/// tickTime of the simulated member, ms: small, so that sessions expire within a seed.
pub(super) const TICK_MS: u64 = 100;
/// Size of the disk, bytes.
pub(super) const DISK: u64 = 64 << 20;
/// Wall clock at virtual time 0, ms.
pub(super) const WALL: i64 = 1_790_000_000_000;

/// What happens at a moment.
pub(super) enum Event {
    /// A core looks at its kernel and makes a turn.
    Turn(u16),
    /// A sync ends. `here`: the core that orders has made it itself.
    Sync {
        ticket: SyncTicket<SimStorage>,
        here: bool,
    },
    /// Background work ends.
    Job(Job),
    ToServer {
        connection: usize,
        bytes: Vec<u8>,
    },
    /// The client learns that there is room at the server.
    Window {
        connection: usize,
    },
    ToClient {
        connection: usize,
    },
    ClosedByClient {
        connection: usize,
        reset: bool,
    },
    Step {
        client: usize,
    },
    Fault,
    /// The operator asks the process to stop.
    Stop,
    Room,
    Restart,
}

impl Event {
    /// Events inside the process die with it.
    fn is_members(&self) -> bool {
        matches!(
            self,
            Event::Turn(_) | Event::Sync { .. } | Event::Job(_) | Event::Stop
        )
    }
}

pub(super) struct Base {
    pub(super) rng: fastrand::Rng,
    pub(super) options: Options,
    pub(super) now_us: u64,
    /// How far the wall clock was set, ms.
    pub(super) wall_offset: i64,
    queue: BTreeMap<(u64, u64), (u32, Event)>,
    sequence: u64,
    /// Counts the processes.
    pub(super) incarnation: u32,
    pub(super) disk: SimStorage,
    pub(super) transcript: Transcript,
    pub(super) counters: Counters,
    /// The last fault is over.
    pub(super) calm: bool,
    /// The disk was full once, or the process was short of descriptors or memory.
    pub(super) was_full: bool,
    /// Background work is short of descriptors or memory until then.
    pub(super) short_until: u64,
    /// The process has little time, and many connect: who comes back waits in the listen backlog.
    pub(super) crowded: bool,
}

impl Base {
    pub(super) fn new(rng: fastrand::Rng, options: Options) -> Base {
        Base {
            rng,
            options,
            now_us: 0,
            wall_offset: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            incarnation: 0,
            disk: SimStorage::new(DISK),
            transcript: Transcript::new(),
            counters: Counters::default(),
            calm: false,
            was_full: false,
            short_until: 0,
            crowded: false,
        }
    }

    pub(super) fn now(&self) -> Now {
        let ms = self.now_us / 1000;
        Now {
            tick: Tick(ms),
            micros: self.now_us,
            wall: WallMs(WALL + ms as i64 + self.wall_offset),
        }
    }

    pub(super) fn at(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert(
            (self.now_us + delay_us, self.sequence),
            (self.incarnation, event),
        );
    }

    /// At a moment, or now if it is past.
    pub(super) fn at_time(&mut self, at_us: u64, event: Event) {
        self.at(at_us.saturating_sub(self.now_us), event);
    }

    /// The next event until `end_us`; then it is that late.
    pub(super) fn next_event(&mut self, end_us: u64) -> Option<Event> {
        loop {
            match self.queue.first_key_value() {
                Some((&(at, _), _)) if at <= end_us => {}
                _ => {
                    self.now_us = end_us;
                    return None;
                }
            }
            let ((at, _), (incarnation, event)) = self.queue.pop_first().expect("not empty");
            self.now_us = at;
            if !event.is_members() || incarnation == self.incarnation {
                return Some(event);
            }
        }
    }

    pub(super) fn note(&mut self, what: &[u8]) {
        self.transcript.note(self.now_us, what);
    }

    /// Whether a sync has failed since this was last asked: an error that a process must die of.
    pub(super) fn sync_has_failed(&mut self) -> bool {
        let failed = self.disk.faults().sync_errors;
        std::mem::replace(&mut self.counters.disk.sync_errors, failed) < failed
    }
}
