//! What every core of the process reads, and the few counts that are process-wide.

use super::lists::Lists;
use crate::config::Config;
use crate::member::Summary;
use crate::peers::{STRANGERS_DIALLED_MAX, STRANGERS_MAX, UNNAMED_MAX};
use crate::pipeline::Fatal;
use crate::rt::background::TASKS_MAX;
use crate::rt::clock::Clock;
use crate::rt::probe;
use crate::rt::storage::FsStorage;
use crate::types::Now;
use crate::zab::Duty;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Descriptors that clients can't have: segments, snapshots, rings, directories.
const DESCRIPTORS_KEPT: u64 = 64;
/// Further ones for each shard: its ring, its bell, and as many to spare.
const DESCRIPTORS_PER_SHARD: u64 = 4;

/// Further ones for each member of an ensemble: connections both ways on both ports, dials.
const DESCRIPTORS_PER_MEMBER: u64 = 8;

/// What Apache's server traces without being told otherwise; nothing is traced here.
const TRACE_MASK: i64 = 306;

/// How many connections the process may have with `files` open files at most. At least
/// half of them, however few there are.
fn connections_max(files: u64, shards: u16, members: usize) -> u64 {
    let mut kept = DESCRIPTORS_KEPT + DESCRIPTORS_PER_SHARD * u64::from(shards);
    if members > 0 {
        let others = UNNAMED_MAX + STRANGERS_MAX + STRANGERS_DIALLED_MAX;
        kept += others as u64 + DESCRIPTORS_PER_MEMBER * members as u64;
    }
    files.saturating_sub(kept).max(files / 2)
}

/// Four-letter words of one address that may be there at once, of all for which there are places: each may stay until
/// its answer is read, and somebody else must be able to ask meanwhile.
pub const WORDS_PER_ADDRESS: u32 = TASKS_MAX as u32 / 4;

const _: () = assert!(2 * WORDS_PER_ADDRESS < TASKS_MAX as u32);

/// How many of something each address has; an address without any takes no memory. Held for a look-up only.
#[derive(Debug, Default)]
struct PerAddress(Mutex<BTreeMap<IpAddr, u32>>);

impl PerAddress {
    /// Counts one more, unless there are `max`.
    fn take(&self, ip: IpAddr, max: u32) -> bool {
        let mut counts = self.counts();
        let count = counts.get(&ip).copied().unwrap_or(0);
        let fits = count < max;
        if fits {
            counts.insert(ip, count + 1);
        }
        fits
    }

    /// One that was counted has gone.
    fn give_back(&self, ip: IpAddr) {
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&ip);
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<IpAddr, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As what a server serves clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is all of its ensemble.
    Standalone,
    /// It looks for a leader, and serves nobody.
    Looking,
    /// Of its ensemble.
    Leader,
    /// Of its ensemble.
    Follower,
    /// Of its ensemble.
    Observer,
}

impl Mode {
    const ALL: [Mode; 5] = [
        Mode::Standalone,
        Mode::Looking,
        Mode::Leader,
        Mode::Follower,
        Mode::Observer,
    ];

    /// In a member of an ensemble.
    pub fn of_member(duty: Option<Duty>) -> Mode {
        match duty {
            None => Mode::Looking,
            Some(Duty::Leader(_)) => Mode::Leader,
            Some(Duty::Follower) => Mode::Follower,
            Some(Duty::Observer) => Mode::Observer,
        }
    }

    /// As four-letter words name it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Looking => "looking",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
        }
    }
}

/// The configuration, the directories, the clock and the counts that all cores of the process share.
pub struct Process {
    /// What the operator chose.
    pub config: Config,
    /// What start-up found.
    pub summary: Summary,
    /// Snapshots.
    pub data: FsStorage,
    /// Log segments.
    pub log: FsStorage,
    /// All clocks; one origin for all cores.
    pub clock: Clock,
    /// Four-letter words said since the start or `srst`; they count as packets.
    pub words: AtomicU64,
    /// Packets in which they were answered.
    pub answers: AtomicU64,
    /// What `stmk` has set.
    pub trace_mask: AtomicI64,
    /// The port that is listened on.
    pub client_port: u16,
    /// Those that list connections or sessions.
    pub lists: Lists,
    on_fatal: fn(&Fatal) -> !,
    /// As what it serves, as [`Mode`].
    mode: AtomicU8,
    stopping: AtomicBool,
    /// Open connections of each address.
    per_address: PerAddress,
    /// Four-letter words of each address that are not at their end.
    saying: PerAddress,
    connections: AtomicU32,
    connections_max: u64,
}

impl Process {
    /// For so many shards, in an ensemble of so many members (0: alone); `on_fatal` ends the process.
    pub fn new(
        config: Config,
        client_port: u16,
        (shards, members): (u16, usize),
        summary: Summary,
        (data, log): (FsStorage, FsStorage),
        clock: Clock,
        on_fatal: fn(&Fatal) -> !,
    ) -> Process {
        let files = probe::open_files();
        Process {
            config,
            summary,
            data,
            log,
            clock,
            words: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            trace_mask: AtomicI64::new(TRACE_MASK),
            client_port,
            lists: Lists::default(),
            on_fatal,
            mode: AtomicU8::new(match members {
                0 => Mode::Standalone,
                _ => Mode::Looking,
            } as u8),
            stopping: AtomicBool::new(false),
            per_address: PerAddress::default(),
            saying: PerAddress::default(),
            connections: AtomicU32::new(0),
            connections_max: connections_max(files, shards, members),
        }
    }

    /// Now.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Time between two looks at the timers of a data core: shorter than a gap that counts as a pause
    /// (`constants::pause_ms`).
    pub fn tick_ms(&self) -> u64 {
        (self.config.tick_time_ms / 4).clamp(5, 50)
    }

    /// Ends the process if there is an error.
    pub fn check<T>(&self, outcome: Result<T, Fatal>) -> T {
        outcome.unwrap_or_else(|fatal| (self.on_fatal)(&fatal))
    }

    /// Whether one more connection of this address is within the limits; counts it if so.
    pub fn admit(&self, ip: IpAddr) -> bool {
        let max = match self.config.max_client_connections {
            0 => u32::MAX,
            max => max,
        };
        let room = u64::from(self.connections.load(Relaxed)) < self.connections_max;
        let admitted = room && self.per_address.take(ip, max);
        if admitted {
            self.connections.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// Whether one more four-letter word of this address is within its share; counts it if so.
    pub fn admit_word(&self, ip: IpAddr) -> bool {
        self.saying.take(ip, WORDS_PER_ADDRESS)
    }

    /// A counted four-letter word is at its end.
    pub fn leave_word(&self, ip: IpAddr) {
        self.saying.give_back(ip);
    }

    /// A counted connection has ended.
    pub fn leave(&self, ip: IpAddr) {
        self.leave_address(ip);
        self.leave_process();
    }

    /// A counted connection counts for its address no more; [`Process::leave_process`] follows.
    pub fn leave_address(&self, ip: IpAddr) {
        self.per_address.give_back(ip);
    }

    /// The descriptor of a counted connection is closed.
    pub fn leave_process(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Connections, four-letter words included.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// Whether the server is draining.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// As what it serves.
    pub fn mode(&self) -> Mode {
        Mode::ALL[usize::from(self.mode.load(Relaxed))]
    }

    /// The member of an ensemble serves as this from here on.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Relaxed);
    }

    /// Whether requests are answered.
    pub fn is_serving(&self) -> bool {
        !self.is_stopping() && self.mode() != Mode::Looking
    }

    /// No more input is taken from now on.
    pub fn begin_stopping(&self) {
        self.stopping.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_the_places_for_words_and_leaves_the_others_theirs() {
        let saying = PerAddress::default();
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let take = |ip| {
            (0..TASKS_MAX)
                .filter(|_| saying.take(ip, WORDS_PER_ADDRESS))
                .count()
        };
        assert_eq!(take(one), WORDS_PER_ADDRESS as usize);
        assert_eq!(take(other), WORDS_PER_ADDRESS as usize);
        saying.give_back(one);
        assert_eq!((take(one), take(other)), (1, 0));
        for ip in [one, other] {
            (0..WORDS_PER_ADDRESS).for_each(|_| saying.give_back(ip));
        }
        assert!(saying.counts().is_empty());
    }

    #[test]
    fn every_shard_keeps_its_descriptors_from_clients() {
        for (files, shards, members, due) in [
            (1024, 0, 0, 960),
            (1024, 2, 0, 952),
            (1024, 16, 0, 896),
            (1024, 64, 0, 704),
            (100, 0, 0, 50),
            (65_536, 0, 3, 65_536 - 64 - 544 - 24),
            (1024, 0, 3, 512),
        ] {
            let max = connections_max(files, shards, members);
            assert_eq!(max, due, "{files} {shards} {members}");
        }
    }
}
