//! What follows when a call on the file seam fails: the one table, which every caller asks.
//!
//! What an error says, and nothing else, decides between the columns ([`Failure::of`]):
//!
//! | Failure | Errors of Linux | Comes back by itself |
//! |---|---|---|
//! | full | ENOSPC, EDQUOT | when somebody makes room |
//! | scarce | EMFILE, ENFILE, ENOMEM | when others give back what they hold |
//! | missing | ENOENT | no: somebody has tidied up |
//! | denied | EACCES, EPERM, EROFS | no |
//! | broken | EIO, and everything else; a witness that is another store's | no |
//!
//! While the server runs:
//!
//! | Call | Calls of the seam | full | scarce | missing | denied | broken |
//! |---|---|---|---|---|---|---|
//! | `Append` | `write_at` of records and headers into a segment | ends | ends | ends | ends | ends |
//! | `SyncSegment` | `sync` of a segment | ends | ends | ends | ends | ends |
//! | `NameSegment` | `rename` of a spare that was begun | ends | ends | ends | ends | ends |
//! | `SyncNames` | `sync_dir` of the log's directory, for whatever reason | ends | ends | ends | ends | ends |
//! | `CreateSpare` | `create`, `room` | later | later | ends | ends | ends |
//! | `SyncSpare` | `sync` of a file that nobody has used | anew | ends | ends | ends | ends |
//! | `TakeRetired` | `open`, `len`, `rename`, `remove` of a retired segment | later | later | done | ends | ends |
//! | `RemoveSegment` | `remove` of segments, oldest first | later | later | done | ends | ends |
//! | `WriteWitness` | `open`, `create`, `write_at`, `sync`, `sync_dir` | later | later | ends | ends | ends |
//! | `ReadForShard` | `list`, `open`, `len`, `read_at`, `view` of the log | later | later | ends | ends | ends |
//! | `MeasureRoom` | `room`, before a snapshot | later | later | later | later | later |
//! | `ReadForSnapshot` | `list`, `open`, `len`, `read_at` of the log | later | later | later | later | later |
//! | `WriteSnapshot` | `create`, `write_at`, `sync`, `rename`, `sync_dir` | anew | anew | anew | anew | anew |
//! | `PurgeSnapshot` | `list`, `remove`, `sync_dir` | later | later | done | later | later |
//!
//! While the server starts, and for `ReadSnapshot` while one is made, too:
//!
//! | Call | Calls of the seam | full | scarce | missing | denied | broken |
//! |---|---|---|---|---|---|---|
//! | `ReadSnapshot` | `open`, `len`, `read_at` of a snapshot | ends | ends | older | older | older |
//! | `ReadLog` | `list`, `open`, `len`, `read_at` of the log | ends | ends | ends | ends | ends |
//! | `Begin` | whatever is written, named, removed or synced before clients are served | ends | ends | ends | ends | ends |
//! | `Trim` | `truncate` of what a closed segment does not use | ignored | ignored | ignored | ignored | ignored |
//!
//! *Later*: nothing has changed, and the same is tried again, a spare after `RETRY_MS` of the log, a
//! snapshot and a purge after that of the schedule, the rest from the next tick on. *Anew*: the file is
//! thrown away, and the next try makes another one, all of whose pages are written anew; a second sync of
//! the same pages would prove nothing, because after a failed one the kernel takes them for clean. *Done*:
//! what was to go is gone. *Older*: an older snapshot, and more of the log. *Ignored*: it costs room. *Ends*: the
//! process ends, or does not start, with the exit code and the sentence of [`Failure::ending`]; making a
//! snapshot, whatever would end a start is tried again later. A sector of the log that can't be read is
//! judged by the recovery table, with file and byte. Where a start without a snapshot that may not be opened
//! would be refused for a loss, that is what it is refused for: nothing is lost before somebody has looked.
//!
//! `SyncNames` ends the process because a directory is shared by all: what else that sync should have made
//! durable, a segment's name among it, somebody else may already count as durable. Only a snapshot's name
//! is exempt: it is taken back, so that no purge counts it, and the log that it would have replaced stays.
//!
//! `WriteWitness` also writes what a member of an ensemble promises. It promises nothing before both files are durable:
//! *later* means that it keeps silent until the next try has succeeded (`keeper`).
//!
//! On a file system that overwrites in place, `Append` can't meet a full disk, because a segment is
//! allocated when it is made. A copy-on-write file system allocates for each write anew: there a
//! spare is made only while there is room to write each segment that may be written before the next
//! spare is made ([`super::storage::Storage::overwrites_in_place`]), so that the disk counts as full before a
//! transaction takes its zxid. Who else writes to that disk can still take the room away from an append: then
//! the process ends, and says that the disk is full.

use std::io;

/// ENOMEM, ENFILE and EMFILE of Linux: this module sees no C library.
const SCARCE: [i32; 3] = [12, 23, 24];

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No room on the device, or of the quota.
    Full,
    /// No memory, or no descriptor of the process or of the machine.
    Scarce,
    /// There is no such file.
    Missing,
    /// No right, or a file system that is mounted read-only.
    Denied,
    /// The device has failed, or something that is not understood.
    Broken,
}

impl Failure {
    /// Of an error of the operating system.
    pub fn of(error: &io::Error) -> Failure {
        use io::ErrorKind as Is;
        match (error.kind(), error.raw_os_error()) {
            (Is::StorageFull | Is::QuotaExceeded, _) => Failure::Full,
            (_, Some(code)) if SCARCE.contains(&code) => Failure::Scarce,
            (Is::OutOfMemory, _) => Failure::Scarce,
            (Is::NotFound, _) => Failure::Missing,
            (Is::PermissionDenied | Is::ReadOnlyFilesystem, _) => Failure::Denied,
            _ => Failure::Broken,
        }
    }

    /// What an operator can do about it where it ends the process.
    pub fn ending(self) -> &'static str {
        match self {
            Failure::Full => "make room below dataLogDir, then start again",
            Failure::Scarce => {
                "give the process more memory or descriptors (ulimit -n), then start again"
            }
            Failure::Missing | Failure::Denied => {
                "look whether the directories are there, mounted and writable, then start again"
            }
            Failure::Broken => {
                "look at the kernel log for errors of the device below dataLogDir, then start again"
            }
        }
    }
}

/// What was to be done. The table says with which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Write records or a header into a segment.
    Append,
    /// Make them durable.
    SyncSegment,
    /// Give a segment its name.
    NameSegment,
    /// Make names in the log's directory durable.
    SyncNames,
    /// Make a spare of a new file.
    CreateSpare,
    /// Make durable a spare that nobody has used.
    SyncSpare,
    /// Make a spare of a retired segment.
    TakeRetired,
    /// Remove segments that nobody needs.
    RemoveSegment,
    /// Write the witness down.
    WriteWitness,
    /// Read the log for a shard that catches up.
    ReadForShard,
    /// Ask for the free room before a snapshot.
    MeasureRoom,
    /// Read the log for a snapshot.
    ReadForSnapshot,
    /// Write a snapshot.
    WriteSnapshot,
    /// Remove snapshots that nobody needs.
    PurgeSnapshot,
    /// Read a snapshot.
    ReadSnapshot,
    /// Read the log at a start.
    ReadLog,
    /// Write, name, remove or sync whatever a start does.
    Begin,
    /// Give back what a closed segment does not use.
    Trim,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The process ends, or does not start.
    Ends,
    /// The same is tried again.
    Later,
    /// What was begun is thrown away, and made anew later.
    Anew,
    /// There is nothing left to do.
    Done,
    /// An older file is read.
    Older,
    /// Nothing.
    Ignored,
}

/// What follows when `call` fails with `error`.
pub fn verdict(call: Call, error: &io::Error) -> Verdict {
    use Failure::{Broken, Denied, Full, Missing, Scarce};
    match (call, Failure::of(error)) {
        (Call::Append | Call::SyncSegment | Call::NameSegment | Call::SyncNames, _) => {
            Verdict::Ends
        }
        (Call::SyncSpare, Full) => Verdict::Anew,
        (Call::SyncSpare, _) => Verdict::Ends,
        (Call::TakeRetired | Call::RemoveSegment, Missing) => Verdict::Done,
        (Call::CreateSpare | Call::TakeRetired | Call::RemoveSegment, Full | Scarce) => {
            Verdict::Later
        }
        (Call::WriteWitness | Call::ReadForShard, Full | Scarce) => Verdict::Later,
        (
            Call::CreateSpare
            | Call::TakeRetired
            | Call::RemoveSegment
            | Call::WriteWitness
            | Call::ReadForShard,
            _,
        ) => Verdict::Ends,
        (Call::PurgeSnapshot, Missing) => Verdict::Done,
        (Call::MeasureRoom | Call::ReadForSnapshot | Call::PurgeSnapshot, _) => Verdict::Later,
        (Call::WriteSnapshot, _) => Verdict::Anew,
        (Call::ReadSnapshot, Full | Scarce) => Verdict::Ends,
        (Call::ReadSnapshot, Missing | Denied | Broken) => Verdict::Older,
        (Call::ReadLog | Call::Begin, _) => Verdict::Ends,
        (Call::Trim, _) => Verdict::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Call::*;
    use Failure::*;
    use Verdict::*;

    /// Errors of Linux, as their numbers.
    const ERRORS: [(Failure, &[i32]); 5] = [
        // ENOSPC, EDQUOT.
        (Full, &[28, 122]),
        // ENOMEM, ENFILE, EMFILE.
        (Scarce, &[12, 23, 24]),
        // ENOENT.
        (Missing, &[2]),
        // EPERM, EACCES, EROFS.
        (Denied, &[1, 13, 30]),
        // EIO, EBADF, ENXIO, EFBIG, ESTALE.
        (Broken, &[5, 9, 6, 27, 116]),
    ];

    #[test]
    fn an_error_says_what_it_says_by_its_number() {
        for (failure, codes) in ERRORS {
            for &code in codes {
                let error = io::Error::from_raw_os_error(code);
                assert_eq!(Failure::of(&error), failure, "{code}");
            }
        }
        let unnumbered = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Failure::of(&unnumbered), Full);
        assert_eq!(Failure::of(&io::Error::other("what")), Broken);
    }

    /// Verdicts on full, scarce, missing, denied, broken.
    const TABLE: [(Call, [Verdict; 5]); 18] = [
        (Append, [Ends, Ends, Ends, Ends, Ends]),
        (SyncSegment, [Ends, Ends, Ends, Ends, Ends]),
        (NameSegment, [Ends, Ends, Ends, Ends, Ends]),
        (SyncNames, [Ends, Ends, Ends, Ends, Ends]),
        (CreateSpare, [Later, Later, Ends, Ends, Ends]),
        (SyncSpare, [Anew, Ends, Ends, Ends, Ends]),
        (TakeRetired, [Later, Later, Done, Ends, Ends]),
        (RemoveSegment, [Later, Later, Done, Ends, Ends]),
        (WriteWitness, [Later, Later, Ends, Ends, Ends]),
        (ReadForShard, [Later, Later, Ends, Ends, Ends]),
        (MeasureRoom, [Later, Later, Later, Later, Later]),
        (ReadForSnapshot, [Later, Later, Later, Later, Later]),
        (WriteSnapshot, [Anew, Anew, Anew, Anew, Anew]),
        (PurgeSnapshot, [Later, Later, Done, Later, Later]),
        (ReadSnapshot, [Ends, Ends, Older, Older, Older]),
        (ReadLog, [Ends, Ends, Ends, Ends, Ends]),
        (Begin, [Ends, Ends, Ends, Ends, Ends]),
        (Trim, [Ignored, Ignored, Ignored, Ignored, Ignored]),
    ];

    #[test]
    fn the_table_of_failing_calls_row_by_row() {
        for (call, expected) in TABLE {
            for ((failure, codes), expected) in ERRORS.iter().zip(expected) {
                for &code in *codes {
                    let error = io::Error::from_raw_os_error(code);
                    assert_eq!(
                        verdict(call, &error),
                        expected,
                        "{call:?} {failure:?} {code}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_documentation_of_the_table_is_the_table() {
        let text = include_str!("verdict.rs");
        let cell = |verdict| match verdict {
            Ends => "ends",
            Later => "later",
            Anew => "anew",
            Done => "done",
            Older => "older",
            Ignored => "ignored",
        };
        for (call, verdicts) in TABLE {
            let cells = verdicts.map(cell);
            let (begin, end) = (
                format!("//! | `{call:?}` |"),
                format!(" {} |", cells.join(" | ")),
            );
            let is_row = |line: &str| line.starts_with(&begin) && line.ends_with(&end);
            assert!(text.lines().any(is_row), "{begin} …{end}");
        }
    }
}
