//! Calls of the seam that fail: which, with what, and of which a process may die.
//!
//! | Work | A shortage (ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM) | EIO |
//! |---|---|---|
//! | a start | it does not start | the same, or an older snapshot |
//! | the acceptance of a loss | it is not accepted yet | the same |
//! | a sync of the log, and the write before it | the process ends | the process ends |
//! | a spare | the process goes on, unless the directory could not be synced | the process may end |
//! | segments removed | the same | the same |
//! | the witness, a read for a shard | the process goes on | the process may end |
//! | a snapshot | the process goes on | the process goes on |

use super::base::{Awaited, Base};
use super::disk::{Failing, SeamCall, SimStorage};
use super::outcome::Fault;
use crate::member::{Done, Job};

// Errors of Linux.
const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// Calls that fail together, and with what.
pub(super) fn draw_calls(rng: &mut fastrand::Rng) -> (&'static [SeamCall], i32) {
    use SeamCall::{Create, Len, List, Open, Read, Remove, Rename, Room, Sync, SyncDir, Truncate};
    use SeamCall::{View, Write};
    const SPACE: [&[SeamCall]; 5] = [
        &[Create, Write, Rename, Sync],
        &[Create],
        &[Write],
        &[Rename],
        &[Sync],
    ];
    const MEANS: [&[SeamCall]; 5] = [
        &[List, Create, Open, Rename, Remove, View],
        &[Open],
        &[Create],
        &[Remove],
        &[View, List],
    ];
    const DEVICE: [&[SeamCall]; 12] = [
        &[Read],
        &[Sync],
        &[SyncDir],
        &[Write],
        &[Create],
        &[Open],
        &[Rename],
        &[Remove],
        &[List],
        &[Len],
        &[Room],
        &[Truncate, View],
    ];
    let code = *rng
        .choice(&[ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM, EIO, EIO, EIO])
        .expect("not empty");
    let calls = match code {
        ENOSPC | EDQUOT => rng.choice(SPACE),
        EIO => rng.choice(DEVICE),
        _ => rng.choice(MEANS),
    };
    (calls.expect("not empty"), code)
}

/// One call that this work makes, and an error that it can have.
fn draw_call(work: Work, rng: &mut fastrand::Rng) -> (&'static [SeamCall], i32) {
    use SeamCall::{Create, List, Open, Remove, Rename, Sync, View, Write};
    const ALL: &[SeamCall] = &SeamCall::ALL;
    let call = *rng.choice(work.calls()).expect("not empty");
    let code = match (call, rng.u32(0..3)) {
        (Create | Write | Rename | Sync, 0) => *rng.choice(&[ENOSPC, EDQUOT]).expect("not empty"),
        (Create | Open | List | Remove | View, 1 | 2) => {
            *rng.choice(&[EMFILE, ENFILE, ENOMEM]).expect("not empty")
        }
        _ => EIO,
    };
    let at = ALL
        .iter()
        .position(|other| *other == call)
        .expect("one of all");
    (&ALL[at..=at], code)
}

/// Notes whether work for which others wait has ended for want of something, and is tried again.
pub(super) fn ended(base: &mut Base, done: &Done<SimStorage>) {
    let (work, is_short) = match done {
        Done::Spare(spare) => (Awaited::Spare, spare.shortage().is_some()),
        Done::Removed { result, .. } => (Awaited::Removal, result.is_err()),
        Done::LogRead(read) => (Awaited::Read, read.entries.is_err()),
        Done::Saved(_) | Done::Snapshot { .. } | Done::Purged(_) | Done::Witness(_) => return,
        Done::OfMember(_) => unreachable!("the server stands alone"),
    };
    match is_short {
        true => base.short.insert(work),
        false => base.short.remove(&work),
    };
}

/// What is done while calls may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Spare,
    Remove,
    Witness,
    Snapshot,
    ReadLog,
    Sync,
    Start,
    Accept,
}

impl Work {
    pub(super) fn of(job: &Job) -> Work {
        match job {
            Job::Spare(_) => Work::Spare,
            Job::Remove(_) => Work::Remove,
            Job::Witness(_) => Work::Witness,
            Job::Snapshot { .. } | Job::Purge { .. } | Job::Save(_) => Work::Snapshot,
            Job::ReadLog(_) => Work::ReadLog,
            Job::OfMember(_) => unreachable!("the server stands alone"),
        }
    }

    /// Calls that it makes; those that it makes seldom, several times.
    fn calls(self) -> &'static [SeamCall] {
        use SeamCall::{Create, Len, List, Open, Read, Remove, Rename, Room, Sync, SyncDir};
        use SeamCall::{Truncate, View, Write};
        match self {
            Work::Spare => &[Create, Open, Len, Rename, Sync, SyncDir],
            Work::Remove => &[Remove, Remove, SyncDir],
            Work::Witness => &[Open, Write, Sync],
            Work::Snapshot => &[
                Room, Room, Remove, List, Open, Len, Read, Create, Write, Sync, Rename, SyncDir,
                Remove,
            ],
            Work::ReadLog => &[
                List, Open, Len, Read, View, View, View, View, View, View, View, View,
            ],
            Work::Sync => &[Write, Sync, Rename, SyncDir],
            Work::Start => &[
                List, Open, Len, Read, Create, Write, Rename, Remove, Sync, SyncDir, Truncate,
                Truncate, Truncate, Truncate, Truncate, Truncate,
            ],
            Work::Accept => &[
                List, Open, Create, Write, Write, Rename, Rename, Rename, Sync, SyncDir, SyncDir,
            ],
        }
    }

    /// One piece of it in so many meets a call that fails.
    fn fails_one_in(self) -> u32 {
        match self {
            Work::Remove => 2,
            Work::ReadLog => 2,
            Work::Snapshot | Work::Accept => 4,
            Work::Witness | Work::Start => 10,
            Work::Spare => 24,
            Work::Sync => 400,
        }
    }

    /// Whether the process may die of it; otherwise the process must survive.
    fn may_end(self, call: SeamCall, code: i32) -> bool {
        let comes_back = code != EIO;
        match (self, call) {
            (Work::Sync | Work::Start, _) => true,
            (Work::Snapshot | Work::Accept, _) => false,
            (Work::Spare | Work::Remove, SeamCall::SyncDir) => true,
            (Work::Spare, SeamCall::Sync) => !matches!(code, ENOSPC | EDQUOT),
            (Work::Spare | Work::Remove | Work::Witness | Work::ReadLog, _) => !comes_back,
        }
    }
}

/// Before a piece of work: what is to fail in it.
pub(super) fn arm(base: &mut Base, work: Work) {
    if base.calm || base.options.short || base.profile.is_restless {
        return;
    }
    let lasting = base
        .failing
        .filter(|failing| base.now_us < failing.until_us);
    let one_in = work.fails_one_in();
    let failing = match lasting {
        Some(lasting) if work != Work::Sync => Failing {
            calls: lasting.calls,
            code: lasting.code,
            after: 0,
            times: u32::MAX,
        },
        _ if work == Work::Sync && std::mem::take(&mut base.next_sync_fails) => Failing {
            calls: &[SeamCall::Sync],
            code: EIO,
            after: 0,
            times: 1,
        },
        _ if base.rng.u32(0..one_in) == 0 => {
            let (calls, code) = draw_call(work, &mut base.rng);
            let after = match (work, base.rng.bool()) {
                (_, false) => 0,
                (Work::Start | Work::Accept, true) => base.rng.u32(0..30),
                (Work::ReadLog, true) => base.rng.u32(0..2),
                (_, true) => base.rng.u32(0..5),
            };
            Failing {
                calls,
                code,
                after,
                times: base.rng.u32(1..3),
            }
        }
        _ => return,
    };
    match base.rng.u32(0..3) {
        0 => base.disk.set_failing(Some(failing)),
        1 => base.data.set_failing(Some(failing)),
        _ => base
            .disks()
            .for_each(|disk| disk.set_failing(Some(failing))),
    }
}

/// Behind it: the calls that have failed.
pub(super) fn disarm(base: &mut Base, work: Work) -> Vec<SeamCall> {
    let mut failed = Vec::new();
    for disk in [&base.disk, &base.data] {
        disk.set_failing(None);
        failed.extend(disk.take_failed());
    }
    for &(call, code) in &failed {
        base.counters.faults.count(of_call(call));
        base.counters.faults.count(of_code(code));
        base.may_die |= work.may_end(call, code);
    }
    failed.into_iter().map(|(call, _)| call).collect()
}

fn of_call(call: SeamCall) -> Fault {
    match call {
        SeamCall::List => Fault::FailedList,
        SeamCall::Create => Fault::FailedCreate,
        SeamCall::Open => Fault::FailedOpen,
        SeamCall::Rename => Fault::FailedRename,
        SeamCall::Remove => Fault::FailedRemove,
        SeamCall::SyncDir => Fault::FailedSyncDir,
        SeamCall::Room => Fault::FailedRoom,
        SeamCall::Len => Fault::FailedLen,
        SeamCall::Write => Fault::FailedWrite,
        SeamCall::Read => Fault::FailedRead,
        SeamCall::View => Fault::FailedView,
        SeamCall::Truncate => Fault::FailedTruncate,
        SeamCall::Sync => Fault::FailedSync,
    }
}

fn of_code(code: i32) -> Fault {
    match code {
        ENOSPC => Fault::NoSpace,
        EDQUOT => Fault::NoQuota,
        EMFILE => Fault::NoDescriptor,
        ENFILE => Fault::NoFile,
        ENOMEM => Fault::NoMemory,
        _ => Fault::NoInput,
    }
}
