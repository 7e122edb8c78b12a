//! What is to be run, and what came of it.

use super::disk::DiskFaults;
use crate::shard::EndCounts;
use crate::types::{ErrorCode, OpCode};
use std::collections::BTreeMap;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Crash once, when the disk has counted this many effects; no other faults are injected.
    pub crash_at: Option<u64>,
    /// A short run without random faults, for a crash after every effect.
    pub short: bool,
    /// Serving shards; 0 = inline.
    pub shards: u16,
    /// A sector that is torn by a power cut may hold anything afterwards.
    pub tears_destroy: bool,
}

/// A fault of files and disks, or a premise under which others come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A bit that rotted.
    RotOfBit,
    /// A sector that rotted.
    RotOfSector,
    /// A page that rotted.
    RotOfPage,
    /// A sector that can't be read any more.
    Unreadable,
    /// Of these: in a transaction.
    RotInRecord,
    /// Of these: in a seal.
    RotInSeal,
    /// Of these: in the header of a segment.
    RotInHeader,
    /// Of these: in a snapshot.
    RotInSnapshot,
    /// Of these: in the witness.
    RotInWitness,
    /// Of these: in the log where nobody needs it.
    RotNotNeeded,
    /// Of these: in a running process.
    WhileRunning,
    /// A segment that is not there any more.
    SegmentMissing,
    /// A segment that is shorter than it was.
    SegmentCut,
    /// A segment of another store.
    SegmentForeign,
    /// A snapshot that is not there any more.
    SnapshotMissing,
    /// A snapshot that is shorter than it was.
    SnapshotCut,
    /// One of the two files of the witness is not there any more.
    WitnessMissing,
    /// One of them is shorter than it was.
    WitnessCut,
    /// Both are not there any more.
    WitnessesMissing,
    /// A directory that is not mounted.
    DirectoryMissing,
    /// A directory of another store.
    DirectoryForeign,
    /// Starts refused because of damage that costs something.
    Refused,
    /// Starts refused although nothing was lost, where something could have been.
    RefusedInDoubt,
    /// Losses that an operator has accepted.
    LossAccepted,
    /// The same, begun and cut off by a crash or by a call that failed.
    LossCutOff,
    /// Losses that nobody can accept, because the directories are of two stores.
    LossOfTwoStores,
    /// Starts in spite of damage, with everything.
    StartedDamaged,
    /// A call that failed: list.
    FailedList,
    /// A call that failed: create.
    FailedCreate,
    /// A call that failed: open.
    FailedOpen,
    /// A call that failed: rename.
    FailedRename,
    /// A call that failed: remove.
    FailedRemove,
    /// A call that failed: the sync of a directory.
    FailedSyncDir,
    /// A call that failed: the question for free room.
    FailedRoom,
    /// A call that failed: the length of a file.
    FailedLen,
    /// A call that failed: write.
    FailedWrite,
    /// A call that failed: read.
    FailedRead,
    /// A call that failed: map.
    FailedView,
    /// A call that failed: truncate.
    FailedTruncate,
    /// A call that failed: the sync of a file.
    FailedSync,
    /// It failed with ENOSPC.
    NoSpace,
    /// It failed with EDQUOT.
    NoQuota,
    /// It failed with EMFILE.
    NoDescriptor,
    /// It failed with ENFILE.
    NoFile,
    /// It failed with ENOMEM.
    NoMemory,
    /// It failed with EIO.
    NoInput,
    /// A time in which calls fail again and again.
    FailsForLong,
    /// Starts that failed because a call did.
    StartFailed,
    /// Seeds in which the store itself fills the disk, and no room comes back.
    SmallDisk,
    /// Seeds with log and snapshots on two disks.
    TwoDisks,
    /// Deaths after which one of two disks has kept what was not synced, and the other has not.
    OneDiskLoses,
    /// Seeds with snapshots that take seconds.
    SlowSnapshots,
    /// Seeds with spare segments that take long to make.
    SlowSpares,
    /// Seeds with restarts by the hundred.
    Restless,
    /// Starts but the first.
    Restart,
    /// Of a copy of the store: starts without its newest snapshots.
    WithoutNewest,
    /// Without the premise of old or new bytes: deaths after which a start lacked what was acknowledged.
    TearLost,
    /// The same: starts that were refused.
    TearRefused,
}

impl Fault {
    /// All, with the names under which they are counted.
    pub const ALL: [(Fault, &'static str); 58] = [
        (Fault::RotOfBit, "rot_of_bit"),
        (Fault::RotOfSector, "rot_of_sector"),
        (Fault::RotOfPage, "rot_of_page"),
        (Fault::Unreadable, "sector_unreadable"),
        (Fault::RotInRecord, "rot_in_record"),
        (Fault::RotInSeal, "rot_in_seal"),
        (Fault::RotInHeader, "rot_in_header"),
        (Fault::RotInSnapshot, "rot_in_snapshot"),
        (Fault::RotInWitness, "rot_in_witness"),
        (Fault::RotNotNeeded, "rot_not_needed"),
        (Fault::WhileRunning, "rot_while_running"),
        (Fault::SegmentMissing, "segment_missing"),
        (Fault::SegmentCut, "segment_cut"),
        (Fault::SegmentForeign, "segment_foreign"),
        (Fault::SnapshotMissing, "snapshot_missing"),
        (Fault::SnapshotCut, "snapshot_cut"),
        (Fault::WitnessMissing, "witness_missing"),
        (Fault::WitnessCut, "witness_cut"),
        (Fault::WitnessesMissing, "witnesses_missing"),
        (Fault::DirectoryMissing, "directory_missing"),
        (Fault::DirectoryForeign, "directory_foreign"),
        (Fault::Refused, "starts_refused"),
        (Fault::RefusedInDoubt, "starts_refused_in_doubt"),
        (Fault::LossAccepted, "losses_accepted"),
        (Fault::LossCutOff, "losses_cut_off"),
        (Fault::LossOfTwoStores, "losses_of_two_stores"),
        (Fault::StartedDamaged, "starts_with_damage"),
        (Fault::FailedList, "list_failed"),
        (Fault::FailedCreate, "create_failed"),
        (Fault::FailedOpen, "open_failed"),
        (Fault::FailedRename, "rename_failed"),
        (Fault::FailedRemove, "remove_failed"),
        (Fault::FailedSyncDir, "sync_dir_failed"),
        (Fault::FailedRoom, "room_failed"),
        (Fault::FailedLen, "len_failed"),
        (Fault::FailedWrite, "write_failed"),
        (Fault::FailedRead, "read_failed"),
        (Fault::FailedView, "view_failed"),
        (Fault::FailedTruncate, "truncate_failed"),
        (Fault::FailedSync, "sync_failed"),
        (Fault::NoSpace, "enospc"),
        (Fault::NoQuota, "edquot"),
        (Fault::NoDescriptor, "emfile"),
        (Fault::NoFile, "enfile"),
        (Fault::NoMemory, "enomem"),
        (Fault::NoInput, "eio"),
        (Fault::FailsForLong, "fails_for_long"),
        (Fault::StartFailed, "starts_failed"),
        (Fault::SmallDisk, "small_disks"),
        (Fault::TwoDisks, "two_disks"),
        (Fault::OneDiskLoses, "one_disk_loses"),
        (Fault::SlowSnapshots, "slow_snapshots"),
        (Fault::SlowSpares, "slow_spares"),
        (Fault::Restless, "restless"),
        (Fault::Restart, "restarts"),
        (Fault::WithoutNewest, "starts_without_newest"),
        (Fault::TearLost, "tears_lost"),
        (Fault::TearRefused, "tears_refused"),
    ];
}

/// How often each fault came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl Default for FaultCounts {
    fn default() -> FaultCounts {
        FaultCounts([0; Fault::ALL.len()])
    }
}

impl FaultCounts {
    /// One more.
    pub fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// How often that one came.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// With their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counted = |&(fault, name): &(Fault, &'static str)| (name, self.0[fault as usize]);
        Fault::ALL.iter().map(counted)
    }
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Crashes that lost the page cache.
    pub power_cuts: u64,
    /// Crashes of the process alone.
    pub kills: u64,
    /// Crashes while recovering.
    pub crashes_in_recovery: u64,
    /// The wall clock was set back.
    pub clock_steps: u64,
    /// The disk was full for a while.
    pub full_disks: u64,
    /// Writes refused because of a full disk or a shortage.
    pub refused: u64,
    /// Seeds whose zxid counter rolled over.
    pub rollovers: u64,
    /// Connections cut by the network.
    pub disconnects: u64,
    /// Sessions re-attached while their old connection was open.
    pub steals: u64,
    /// Requests sent on a connection whose session has moved.
    pub stale_requests: u64,
    /// Frames of clients that were longer than the server takes.
    pub frames_too_long: u64,
    /// Shards held still.
    pub stalls: u64,
    /// Shards that fell too far behind and were detached.
    pub detached: u64,
    /// Shards that caught up from the log and came back.
    pub rejoined: u64,
    /// Sessions that expired.
    pub expiries: u64,
    /// Containers and TTL nodes that were due and were deleted.
    pub reaped: u64,
    /// All cores were held at once.
    pub pauses: u64,
    /// Connections that could not be accepted because no descriptor was left.
    pub exhausted: u64,
    /// Times that completions of a core's kernel were lost.
    pub completions_lost: u64,
    /// Writes of which the kernel took a part.
    pub writes_cut: u64,
    /// Writes of which the kernel took nothing.
    pub writes_refused: u64,
    /// Connections that the client reset.
    pub resets: u64,
    /// Connections that presented a session with a wrong password.
    pub intruders: u64,
    /// Connections that the server has ended, by reason.
    pub ends: EndCounts,
    /// Clients that began to read slowly.
    pub slow_readers: u64,
    /// Connections that said a four-letter word.
    pub words: u64,
    /// Syncs that ran on the core that orders.
    pub syncs_here: u64,
    /// Syncs that ran beside it.
    pub syncs_beside: u64,
    /// Of these, syncs whose records were written beside it, too.
    pub writes_beside: u64,
    /// The process was asked to stop.
    pub stops: u64,
    /// Drains that came to their end: the log was sealed.
    pub drains: u64,
    /// Stages of them that ended because the patience did.
    pub drains_overdue: u64,
    /// Snapshots made.
    pub snapshots: u64,
    /// Replies checked.
    pub replies: u64,
    /// Watch events checked.
    pub events: u64,
    /// Transactions applied.
    pub txns: u64,
    /// What the disks did.
    pub disk: DiskFaults,
    /// What happened to files and calls.
    pub faults: FaultCounts,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Hash over all events of the run.
    pub hash: String,
    /// Effects counted by the disk.
    pub effects: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// What happened.
    pub counters: Counters,
    /// How often each operation was answered what, those inside multis too.
    pub outcomes: BTreeMap<(OpCode, ErrorCode), u64>,
    /// How often each event came, by its type.
    pub told: BTreeMap<i32, u64>,
    /// The first promise that was broken.
    pub violation: Option<String>,
}
