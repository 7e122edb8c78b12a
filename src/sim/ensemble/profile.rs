//! What a seed is like: sizes, rates, and which kinds of faults it has at all.

use super::kinds::Kind;
use crate::sim::config::size;
use crate::types::{ServerId, Zxid};
use crate::zab::Patience;
use fastrand::Rng;

/// How long members wait for each other.
pub(super) const PATIENCE: Patience = Patience {
    init_ms: 600,
    sync_ms: 300,
    ping_ms: 30,
};

#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) voters: Vec<ServerId>,
    pub(super) observers: Vec<ServerId>,
    /// What all begin with.
    pub(super) start: Zxid,
    pub(super) has_two_disks: bool,
    /// Longest time that bytes are on their way, µs.
    pub(super) delay_us: u64,
    /// Longest time that a write or sync takes, µs.
    pub(super) disk_us: u64,
    /// Longest time that a job takes, µs.
    pub(super) job_us: u64,
    /// Longest pause of a client between two writes, µs.
    pub(super) write_us: u64,
    /// Longest time between two faults, µs.
    pub(super) fault_us: u64,
    /// How long a member that has died stays down at most, µs.
    pub(super) down_us: u64,
    /// Most bytes that are read of a connection at once.
    pub(super) read_max: usize,
    /// Most bytes of a node's data.
    pub(super) data_max: usize,
    pub(super) segment_bytes: u64,
    pub(super) snapshot_records: u64,
    /// Kinds of faults, as often as they come.
    pub(super) faults: Vec<Kind>,
    /// Of 100 steps of synchronisations, those in which something goes wrong.
    pub(super) strikes: u32,
    /// Of 100 dials, those of which something is odd.
    pub(super) odd_dials: u32,
    /// How long the faults last, µs.
    pub(super) busy_us: u64,
}

impl Profile {
    pub(super) fn draw(rng: &mut Rng, members: u8) -> Profile {
        let members = match members {
            0 => *rng
                .choice(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 6, 7])
                .expect("not empty"),
            members => members,
        };
        let observers = match rng.u32(0..4) {
            0 => rng.u8(0..=2).min(members - 1),
            _ => 0,
        };
        let sids: Vec<ServerId> = (1..=i64::from(members)).map(ServerId).collect();
        let (observers, voters) = sids.split_at(usize::from(observers));
        let mut faults = Vec::new();
        for kind in Kind::ALL {
            if rng.bool() {
                faults.extend(std::iter::repeat_n(kind, rng.usize(1..6)));
            }
        }
        Profile {
            voters: voters.to_vec(),
            observers: observers.to_vec(),
            start: match rng.u32(0..8) {
                0 => Zxid::new(rng.u32(0..9), Zxid::COUNTER_MAX - rng.u32(1..150)),
                _ => Zxid::ZERO,
            },
            has_two_disks: rng.bool(),
            delay_us: *rng.choice(&[300, 1_000, 5_000, 20_000]).expect("not empty"),
            disk_us: *rng.choice(&[200, 1_000, 5_000, 40_000]).expect("not empty"),
            job_us: *rng.choice(&[1_000, 10_000, 100_000]).expect("not empty"),
            write_us: *rng.choice(&[2_000, 10_000, 60_000]).expect("not empty"),
            fault_us: *rng
                .choice(&[60_000, 200_000, 600_000, 1_500_000])
                .expect("not empty"),
            down_us: *rng
                .choice(&[20_000, 300_000, 1_500_000])
                .expect("not empty"),
            read_max: size(rng, 1 << 16).max(8),
            data_max: size(rng, 1 << 11),
            segment_bytes: *rng.choice(&[64 << 10, 128 << 10]).expect("not empty"),
            snapshot_records: u64::from(rng.u32(10..150)),
            faults,
            strikes: *rng.choice(&[0, 3, 15]).expect("not empty"),
            odd_dials: *rng.choice(&[0, 5, 30]).expect("not empty"),
            busy_us: rng.u64(1_000_000..5_000_000),
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.observers.iter().chain(&self.voters).copied()
    }

    /// So many members may lack what they had, and those that are left make every quorum that there can be.
    pub(super) fn may_lack(&self) -> usize {
        self.voters.len().saturating_sub(1) / 2
    }
}
