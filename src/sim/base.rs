//! What every part of a run uses: the seed's random numbers, virtual time with its events, the disk,
//! the transcript and the counters.

use super::client::Heard;
use super::disk::{SeamCall, SimStorage};
use super::outcome::{Counters, Fault, Options};
use super::transcript::Transcript;
use crate::log::SyncTicket;
use crate::member::Job;
use crate::pipeline::ReaperConfig;
use crate::types::{ErrorCode, Now, OpCode, Tick, WallMs};
use std::collections::{BTreeMap, BTreeSet};

/// tickTime of the simulated member, ms: small, so that sessions expire within a seed.
pub(super) const TICK_MS: u64 = 100;
/// Size of a segment of the log, bytes.
pub(super) const SEGMENT: u64 = 64 << 10;
/// Size of the disk, bytes.
pub(super) const DISK: u64 = 64 << 20;
/// Wall clock at virtual time 0, ms.
pub(super) const WALL: i64 = 1_790_000_000_000;

/// One seed in so many has lists without end.
const LISTS_ONE_IN: u32 = 40;

/// Longest time that a spare segment takes, µs: shorter than writes take to fill one.
const SPARE_US: u64 = 30_000;

/// What happens at a moment.
pub(super) enum Event {
    /// A core looks at its kernel and makes a turn.
    Turn(u16),
    /// What a sync beside the cores is for is written; the sync ends so much later, µs.
    Write {
        ticket: SyncTicket<SimStorage>,
        then_us: u64,
    },
    /// A sync ends. `here`: the core that orders has made it itself.
    Sync {
        ticket: SyncTicket<SimStorage>,
        here: bool,
        /// What it covers: [`SimStorage::sync_begins`]. `None`: writes and syncs, file by file, are made now.
        began: Option<u64>,
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
    /// The wall clock is set to a moment, and again after so many µs, until then.
    Clock {
        wall_ms: i64,
        every_us: u64,
        until_us: u64,
    },
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
            Event::Turn(_) | Event::Write { .. } | Event::Sync { .. } | Event::Job(_) | Event::Stop
        )
    }
}

/// What a seed is like from its beginning to the calm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profile {
    /// Bytes of the disk.
    pub(super) capacity: u64,
    /// What is written over takes new room.
    pub(super) copies_on_write: bool,
    /// Log and snapshots are on two disks.
    pub(super) has_two_disks: bool,
    /// Longest time that a snapshot takes, µs.
    pub(super) snapshot_us: u64,
    /// Longest time that a spare segment takes, µs.
    pub(super) spare_us: u64,
    /// The process dies every few ms, and nothing else happens.
    pub(super) is_restless: bool,
    /// How containers and TTL nodes are deleted.
    pub(super) reaper: ReaperConfig,
    /// Clients set quotas.
    pub(super) has_quotas: bool,
    /// Their hard limits refuse.
    pub(super) enforces_quotas: bool,
    /// Nothing fails, there is room for everything, and turns are short: one client lists what the others change all
    /// the time, and everybody is answered soon.
    pub(super) has_lister: bool,
    /// There are more different access control lists than a snapshot numbers.
    pub(super) has_many_lists: bool,
    /// Nobody may ask for anything without an identity of scheme digest.
    pub(super) must_authenticate: bool,
}

impl Profile {
    /// Whether writes may have to wait for spares.
    pub(super) fn has_slow_spares(&self) -> bool {
        self.spare_us > SPARE_US
    }

    fn draw(rng: &mut fastrand::Rng, options: &Options) -> Profile {
        let plain = Profile {
            capacity: DISK,
            has_two_disks: rng.bool(),
            snapshot_us: 50_000,
            spare_us: SPARE_US,
            is_restless: false,
            reaper: ReaperConfig {
                check_interval_ms: rng.u64(10..300),
                // One every 100 ms, up to as many as there are.
                per_minute_max: [600, 6_000, 60_000, u64::MAX][rng.usize(0..4)],
                never_used_ms: [0, 0, 50, 500][rng.usize(0..4)],
            },
            has_quotas: rng.u32(0..4) == 0,
            enforces_quotas: rng.bool(),
            copies_on_write: rng.u32(0..6) == 0,
            has_lister: !options.short && rng.u32(0..20) == 0,
            has_many_lists: !options.short && rng.u32(0..LISTS_ONE_IN) == 0,
            must_authenticate: !options.short && rng.u32(0..12) == 0,
        };
        match rng.u32(0..32) {
            _ if options.short || plain.has_lister => Profile {
                has_many_lists: false,
                ..plain
            },
            _ if plain.has_many_lists => plain,
            0 => Profile {
                is_restless: true,
                snapshot_us: 3_000,
                spare_us: 1_000,
                ..plain
            },
            1..5 => Profile {
                capacity: rng.u64(6..24) * SEGMENT,
                copies_on_write: false,
                ..plain
            },
            5..12 => Profile {
                snapshot_us: 3_000_000,
                ..plain
            },
            // Writes use up a segment faster.
            12..17 => Profile {
                spare_us: 20 * SPARE_US,
                ..plain
            },
            _ => plain,
        }
    }
}

/// Work beside the cores for which others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Awaited {
    /// Without a spare nothing is written.
    Spare,
    /// What is read for a shard is read behind it.
    Removal,
    /// The shard is detached until then.
    Read,
}

/// Calls that fail until a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailsForLong {
    pub(super) calls: &'static [SeamCall],
    pub(super) code: i32,
    pub(super) until_us: u64,
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
    /// Of the log.
    pub(super) disk: SimStorage,
    /// Of the snapshots; the same, or another one.
    pub(super) data: SimStorage,
    pub(super) profile: Profile,
    pub(super) transcript: Transcript,
    pub(super) counters: Counters,
    /// How often each operation was answered what.
    pub(super) outcomes: BTreeMap<(OpCode, ErrorCode), u64>,
    /// How often each event came.
    pub(super) told: BTreeMap<i32, u64>,
    /// Identities that a connection may have, in the process that runs.
    pub(super) identities_max: usize,
    /// The longest frame that it takes, bytes.
    pub(super) frame_max: usize,
    /// What the watches of a shard may take, bytes.
    pub(super) watch_bytes_max: usize,
    /// For how long the next shard that reads of a handshake is held still behind that, µs.
    pub(super) holds_next: Option<u64>,
    /// A core has read of a handshake since this was last looked at.
    pub(super) has_read_handshake: bool,

    /// The last fault is over.
    pub(super) calm: bool,
    /// The disk has less room than it will have.
    pub(super) is_filled: bool,
    /// Work of the process of which the last piece met a shortage, and which is tried again.
    pub(super) short: BTreeSet<Awaited>,
    /// Writes that were refused.
    pub(super) refusals: u64,
    /// Calls that fail again and again.
    pub(super) failing: Option<FailsForLong>,
    /// The next sync of the log fails.
    pub(super) next_sync_fails: bool,
    /// A call has failed after which the process must end, or may.
    pub(super) may_die: bool,
    /// Sectors destroyed before the last start that succeeded.
    pub(super) destroyed: u64,
    /// The seed ends here, and nothing is wrong.
    pub(super) is_over: bool,
    /// The process has little time, and many connect: who comes back waits in the listen backlog.
    pub(super) crowded: bool,
}

impl Base {
    pub(super) fn new(mut rng: fastrand::Rng, options: Options) -> Base {
        let profile = Profile::draw(&mut rng, &options);
        let disk = SimStorage::new(profile.capacity);
        let data = match profile.has_two_disks {
            true => disk.beside(profile.capacity),
            false => disk.clone(),
        };
        for disk in [&disk, &data] {
            disk.set_copies_on_write(profile.copies_on_write);
            disk.tears_destroy(options.tears_destroy);
        }
        let mut counters = Counters::default();
        for (is_so, fault) in [
            (profile.has_two_disks, Fault::TwoDisks),
            (profile.is_restless, Fault::Restless),
            (profile.capacity < DISK, Fault::SmallDisk),
            (profile.snapshot_us > 1_000_000, Fault::SlowSnapshots),
            (profile.has_slow_spares(), Fault::SlowSpares),
        ] {
            if is_so {
                counters.faults.count(fault);
            }
        }
        Base {
            rng,
            options,
            now_us: 0,
            wall_offset: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            incarnation: 0,
            disk,
            data,
            profile,
            transcript: Transcript::new(),
            counters,
            outcomes: BTreeMap::new(),
            told: BTreeMap::new(),
            identities_max: 0,
            frame_max: 0,
            watch_bytes_max: 0,
            holds_next: None,
            has_read_handshake: false,
            calm: false,
            is_filled: false,
            short: BTreeSet::new(),
            refusals: 0,
            failing: None,
            next_sync_fails: false,
            may_die: false,
            destroyed: 0,
            is_over: false,
            crowded: false,
        }
    }

    pub(super) fn now(&self) -> Now {
        self.ago(0)
    }

    /// So many microseconds before now, by clocks that nobody has set since.
    pub(super) fn ago(&self, us: u64) -> Now {
        let micros = self.now_us - us;
        let ms = micros / 1000;
        Now {
            tick: Tick(ms),
            micros,
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

    /// Counts what a client was told.
    pub(super) fn heard(&mut self, heard: &Heard) {
        for outcome in &heard.outcomes {
            *self.outcomes.entry(*outcome).or_default() += 1;
        }
        for event in &heard.told {
            *self.told.entry(*event).or_default() += 1;
        }
    }

    pub(super) fn note(&mut self, what: &[u8]) {
        self.transcript.note(self.now_us, what);
    }

    /// Whether a call has failed since this was last asked of which a process dies.
    pub(super) fn may_die(&mut self) -> bool {
        std::mem::take(&mut self.may_die)
    }

    /// Sectors that hold something that was never written.
    pub(super) fn sectors_destroyed(&self) -> u64 {
        self.disks()
            .map(|disk| disk.faults().sectors_destroyed)
            .sum()
    }

    /// Whether the death before this start may have taken along what was durable.
    pub(super) fn was_torn_apart(&self) -> bool {
        self.sectors_destroyed() > self.destroyed
    }

    /// It has: the seed ends here, where clients know more than the server, or nobody serves them.
    pub(super) fn ends_by_a_tear(&mut self, outcome: Fault) -> Result<(), String> {
        self.counters.faults.count(outcome);
        self.is_over = true;
        Err("what was durable was destroyed".to_owned())
    }

    /// How long the process is gone, µs.
    pub(super) fn restart_delay(&mut self) -> u64 {
        match self.profile.is_restless && !self.calm {
            true => self.rng.u64(200..2_000),
            false => self.rng.u64(2_000..300_000),
        }
    }

    /// Whether the disk may be full: it was filled, or the store itself fills it.
    pub(super) fn lacks_room(&self) -> bool {
        self.is_filled || !self.calm && self.profile.capacity < DISK
    }

    /// Each disk of the machine.
    pub(super) fn disks(&self) -> impl Iterator<Item = &SimStorage> {
        let data = self.profile.has_two_disks.then_some(&self.data);
        [&self.disk].into_iter().chain(data)
    }

    /// The power is back, or only the process died.
    pub(super) fn disks_restart(&mut self, power_cut: bool) {
        // A disk that has its own supply, or loses it alone.
        let differs = self.profile.has_two_disks && self.rng.u32(0..8) == 0;
        if differs {
            self.counters.faults.count(Fault::OneDiskLoses);
        }
        self.disk.restart(&mut self.rng, power_cut);
        if self.profile.has_two_disks {
            self.data.restart(&mut self.rng, power_cut != differs);
        }
    }
}
