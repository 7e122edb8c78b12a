//! One member and its machine: disks, process, clock, and what it must not lose.

use super::profile::{PATIENCE, Profile};
use crate::log::storage::Storage;
use crate::log::{LogConfig, Receiving, Standing};
use crate::member::{Member, MemberConfig, SeatConfig};
use crate::pipeline::{PipelineConfig, ReaperConfig, RingBounds};
use crate::sim::disk::SimStorage;
use crate::snapshot;
use crate::tree::{Rules, Tree};
use crate::txn::{Entry, Txn, TxnHeader};
use crate::types::{Epoch, ErrorCode, Generation, OpCode, ServerId, SessionId, WallMs, Zxid};
use crate::zab::{Candidate, LinkId, Pair, Quorum, Settings};
use fastrand::Rng;
use std::collections::BTreeMap;

/// Room on a device, bytes.
pub(super) const DISK: u64 = 256 << 20;
/// Wall clock at virtual time 0, ms.
pub(super) const WALL: i64 = 1_790_000_000_000;
/// After so many writes of a record both slots of both files are whole again.
const RECORDS_FOR_LOSS: u32 = 3;

/// A snapshot that comes from a leader.
pub(super) struct Reading {
    pub(super) link: LinkId,
    /// Bytes that are to come; `None`: how many it are, too.
    pub(super) left: Option<u64>,
    pub(super) receiving: Receiving<SimStorage>,
}

/// What a member's record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) accepted: Epoch,
    pub(super) current: Epoch,
    pub(super) is_whole: bool,
}

impl Promise {
    /// As it is to be written.
    pub(super) fn of(member: &mut Member<SimStorage>) -> Promise {
        let record = member.keeper().member().expect("a member's record");
        Promise {
            accepted: record.accepted(),
            current: record.current(),
            is_whole: record.standing() == Standing::Whole,
        }
    }

    /// Whether something is taken back of what was said before.
    pub(super) fn breaks(&self, before: &Promise) -> bool {
        let is_less = self.accepted < before.accepted || self.current < before.current;
        is_less || before.is_whole && !self.is_whole
    }
}

/// How a member ends that does not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    Kill,
    PowerCut,
}

pub(super) struct Node {
    pub(super) sid: ServerId,
    /// Of snapshots, and of the log: the same where there is one disk.
    pub(super) data: SimStorage,
    pub(super) log: SimStorage,
    /// `None`: it is down.
    pub(super) member: Option<Box<Member<SimStorage>>>,
    /// Counts its processes.
    pub(super) life: u64,
    pub(super) listens: bool,
    pub(super) serves: bool,
    pub(super) reading: Option<Reading>,
    pub(super) is_founding: bool,
    /// Nothing of it happens before, µs.
    pub(super) paused_until: u64,
    /// Its disks take so much longer until then, µs.
    pub(super) slow_until: u64,
    /// Of its wall clock, ms.
    pub(super) wall_offset: i64,
    /// A call has failed that was told to, since the start.
    pub(super) is_hurt: bool,
    /// How it ends when its disks do.
    pub(super) death: Death,
    /// It has no power.
    pub(super) is_dark: bool,
    /// The last that was applied in this life.
    pub(super) last: Zxid,
    /// What it held durably of what is committed.
    pub(super) held: Zxid,
    /// What it has promised durably.
    pub(super) promise: Promise,
    /// Writes of its record since one of the files was lost.
    pub(super) records: u32,
    /// Connections are to be asked for what they have to say.
    pub(super) is_pump_due: bool,
    // Its client.
    pub(super) session: Option<(SessionId, Generation)>,
    pub(super) sequence: u64,
    /// Writes without an outcome: by sequence, which.
    pub(super) asked: BTreeMap<u64, i32>,
    /// Ends of roles that its shard has not confirmed.
    pub(super) unconfirmed: u32,
}

impl Node {
    pub(super) fn new(sid: ServerId, profile: &Profile) -> Node {
        let log = SimStorage::new(DISK);
        Node {
            sid,
            data: match profile.has_two_disks {
                true => log.beside(DISK),
                false => log.clone(),
            },
            log,
            member: None,
            life: 0,
            listens: false,
            serves: false,
            reading: None,
            is_founding: true,
            paused_until: 0,
            slow_until: 0,
            wall_offset: 0,
            is_hurt: false,
            death: Death::Kill,
            is_dark: false,
            last: profile.start,
            held: profile.start,
            promise: Promise::default(),
            records: 0,
            is_pump_due: false,
            session: None,
            sequence: 0,
            asked: BTreeMap::new(),
            unconfirmed: 0,
        }
    }

    pub(super) fn disks(&self) -> Vec<SimStorage> {
        match self.data.is(&self.log) {
            true => vec![self.log.clone()],
            false => vec![self.data.clone(), self.log.clone()],
        }
    }

    /// Whether calls have failed that were told to, up to now.
    pub(super) fn look_for_failures(&mut self) -> bool {
        let failed = |disk: &SimStorage| !disk.take_failed().is_empty();
        self.is_hurt |= self.disks().iter().map(failed).fold(false, |a, b| a | b);
        self.is_hurt
    }

    /// Everything is gone.
    pub(super) fn wipe(&mut self, profile: &Profile) {
        let (life, sequence) = (self.life, self.sequence);
        let (sid, wall_offset) = (self.sid, self.wall_offset);
        *self = Node {
            life,
            sequence,
            wall_offset,
            is_founding: false,
            last: Zxid::ZERO,
            held: Zxid::ZERO,
            ..Node::new(sid, profile)
        };
    }

    /// One of the two files of its record is lost, both of its slots. False: the other one may not know everything.
    pub(super) fn lose_record_copy(&mut self, rng: &mut Rng) -> bool {
        let (disk, name) = match rng.bool() {
            true => (&self.data, "witness.data"),
            false => (&self.log, "witness.log"),
        };
        let content = disk
            .content(name)
            .filter(|_| self.records >= RECORDS_FOR_LOSS);
        let Some(content) = content else {
            return false;
        };
        disk.spoil(name, 0, &vec![0x5a; content.len()]);
        self.records = 0;
        true
    }

    pub(super) fn standing(&self) -> Option<Standing> {
        self.member.as_ref().and_then(|member| member.standing())
    }
}

/// A disk as the operator finds it: empty, or with a snapshot shortly before the end of an epoch.
pub(super) fn first_tree(start: Zxid) -> Tree {
    let mut tree = Tree::new();
    if start > Zxid::ZERO {
        tree.apply(&Entry {
            header: TxnHeader {
                session: SessionId::NONE,
                cxid: 0,
                zxid: start,
                time: WallMs(WALL),
                op: OpCode::ERROR,
            },
            txn: Txn::Error {
                code: ErrorCode::NO_NODE,
            },
            digest: None,
        });
    }
    tree
}

/// Puts the state there that all begin with.
pub(super) fn prepare<S: Storage>(data: &S, log: &S, profile: &Profile, sid: ServerId) {
    if profile.start == Zxid::ZERO {
        return;
    }
    let mut identity = sid.0 as u128;
    let identities = Box::new(move || {
        identity += 1 << 64;
        identity
    });
    let config = LogConfig {
        segment_bytes: profile.segment_bytes,
    };
    snapshot::create_store(data, log, &first_tree(profile.start), config, identities)
        .expect("an empty disk takes a store");
}

pub(super) fn seat_config(profile: &Profile, sid: ServerId, is_founding: bool) -> SeatConfig {
    let voters = Quorum::majority(Zxid::ZERO, profile.voters.iter().copied());
    let settings = Settings {
        candidate: Candidate {
            sid,
            is_observer: profile.observers.contains(&sid),
            finalize_ms: 20,
        },
        patience: PATIENCE,
        pair: Pair::of(voters.expect("there are voters")),
        observers: profile.observers.iter().copied().collect(),
        config: Vec::from(b"version=0").into(),
    };
    SeatConfig {
        settings,
        is_founding,
    }
}

pub(super) fn member_config(profile: &Profile, sid: ServerId, rng: &mut Rng) -> MemberConfig {
    let ring = RingBounds {
        ring_bytes: rng.u64(1..20_000),
        piece_bytes: rng.u64(1..4_000),
    };
    let records = profile.snapshot_records;
    MemberConfig {
        pipeline: PipelineConfig {
            tick_time_ms: 100,
            creator: sid.0 as u8,
            ring,
            reaper: ReaperConfig::default(),
            ..PipelineConfig::new(Rules {
                extended_types: true,
                ..Rules::default()
            })
        },
        log: LogConfig {
            segment_bytes: profile.segment_bytes,
        },
        snapshot_records: rng.u64(records / 2..=records),
        snapshots_kept: Some(rng.usize(1..4)),
        snapshot_memory: 4 << 10,
    }
}
