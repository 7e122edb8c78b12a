//! Exit codes: the one table. Apache's 0 to 14 keep their meaning, ours begin at 20; a unit test
//! compares the table in `docs/exit-codes.md` with this one.

use crate::config::ConfigError;
use crate::log::RecoveryError;
use crate::log::snapshot_file::SnapshotError;
use crate::log::verdict::Failure;
use crate::pipeline::Fatal;
use crate::snapshot::SnapError;
use crate::tree::BodyError;
use std::fmt::Display;
use std::io::{self, Write};

/// One sentence on stderr. Whether anybody reads it changes nothing, the exit code least of all: the
/// standard macro would panic if stderr is a closed pipe or a file on a full disk.
pub(super) fn complain(sentence: &dyn Display) {
    let _ = writeln!(io::stderr(), "{sentence}");
}

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was asked to.
    Ok = 0,
    /// Something that has no code of its own.
    Unexpected = 1,
    /// Command line or configuration.
    Config = 2,
    /// The client port is in use.
    PortInUse = 20,
    /// A directory can't be written.
    NotWritable = 21,
    /// Too little lockable memory.
    LockedMemory = 22,
    /// Another process has the directory.
    Locked = 23,
    /// Apache's data, and none of ours.
    ApacheData = 24,
    /// io_uring can't be used.
    NoUring = 25,
    /// The log would be on tmpfs or a network filesystem.
    VolatileLog = 26,
    /// The wall clock is implausible.
    Clock = 27,
    /// Log or snapshot corrupt.
    Corrupt = 28,
    /// A write or sync of the log failed.
    LogFailed = 29,
    /// No room for a log segment at start.
    DiskFull = 30,
    /// Files of a newer version.
    NewerFormat = 31,
    /// Applying gave another tree than preparing promised.
    Digest = 32,
    /// A mapped file can't be read.
    MappedFile = 33,
    /// The configuration asks for an ensemble.
    Ensemble = 34,
    /// The client address can't be listened on.
    CannotListen = 35,
    /// The configuration promises security that is not there.
    Insecure = 36,
    /// A loss was shown, and nobody has accepted it.
    LossShown = 37,
    /// A loss was accepted under another zxid than the one at which the store would end.
    OtherLoss = 38,
    /// The store of a member of an ensemble, or of another member.
    Member = 39,
    /// A shard woke after the log that it had missed was given up.
    Forgotten = 40,
}

impl Exit {
    /// All, in order of their numbers.
    pub const ALL: [Exit; 24] = [
        Exit::Ok,
        Exit::Unexpected,
        Exit::Config,
        Exit::PortInUse,
        Exit::NotWritable,
        Exit::LockedMemory,
        Exit::Locked,
        Exit::ApacheData,
        Exit::NoUring,
        Exit::VolatileLog,
        Exit::Clock,
        Exit::Corrupt,
        Exit::LogFailed,
        Exit::DiskFull,
        Exit::NewerFormat,
        Exit::Digest,
        Exit::MappedFile,
        Exit::Ensemble,
        Exit::CannotListen,
        Exit::Insecure,
        Exit::LossShown,
        Exit::OtherLoss,
        Exit::Member,
        Exit::Forgotten,
    ];

    /// The first of two failures: `self`, or `next` if `self` is none.
    pub fn or(self, next: Exit) -> Exit {
        match self {
            Exit::Ok => next,
            failed => failed,
        }
    }

    /// For the operating system.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// (what happened, what to do), as in the documentation.
    pub const fn explanation(self) -> (&'static str, &'static str) {
        match self {
            Exit::Ok => ("asked to stop", "nothing"),
            Exit::Unexpected => (
                "something without a code of its own",
                "read the message; report it",
            ),
            Exit::Config => (
                "the command line or the configuration is wrong",
                "correct the line that the message names",
            ),
            Exit::PortInUse => (
                "the client port is in use",
                "stop the other server, or set another clientPort",
            ),
            Exit::NotWritable => (
                "a data directory can't be made or written",
                "give the user that runs the server the right to write there, or set another dataDir",
            ),
            Exit::LockedMemory => (
                "too little memory may be locked for io_uring",
                "raise the limit: `ulimit -l 8192`, LimitMEMLOCK=infinity in a unit, --ulimit memlock=-1 in a container",
            ),
            Exit::Locked => (
                "another process uses the same directory",
                "stop it, or set another dataDir",
            ),
            Exit::ApacheData => (
                "the directory holds Apache ZooKeeper's data, and none of ours",
                "set another dataDir; importing comes with a later version, so keep Apache's server for this data until then",
            ),
            Exit::NoUring => (
                "io_uring can't be used",
                "allow it: kernel.io_uring_disabled=0, or a seccomp profile that permits io_uring_setup, io_uring_enter and io_uring_register",
            ),
            Exit::VolatileLog => (
                "the log or the snapshots would be on a filesystem that forgets or that another machine serves",
                "set dataLogDir and dataDir to a local disk, or accept the loss with -Dringkeeper.allowVolatileLog=true",
            ),
            Exit::Clock => (
                "the wall clock is implausible",
                "set the clock, then start again",
            ),
            Exit::Corrupt => (
                "the log or all snapshots are corrupt, or parts are missing",
                "restore the file that the message names from a backup, or see with `ringkeeper accept-loss` what a start without it costs; nothing has been changed",
            ),
            Exit::LogFailed => (
                "a write or sync of the log failed",
                "look at the kernel log for errors of the device; what was acknowledged is durable, a start recovers it",
            ),
            Exit::DiskFull => (
                "there is no room for a log segment",
                "make room below dataLogDir; two segments (preAllocSize) are needed",
            ),
            Exit::NewerFormat => (
                "the files were written by a newer version",
                "start that version",
            ),
            Exit::Digest => (
                "the tree differs from what a transaction promised",
                "keep the data directory, check the memory of the machine, report it",
            ),
            Exit::MappedFile => (
                "a data file can't be read any more",
                "look at the kernel log for errors of the device, then start again",
            ),
            Exit::Ensemble => (
                "the configuration asks for an ensemble, and the command is for a server that runs alone",
                "give the command the configuration of a server that runs alone",
            ),
            Exit::CannotListen => (
                "the client address can't be listened on",
                "correct clientPortAddress, or take a port above 1023",
            ),
            Exit::Insecure => (
                "the configuration promises security that this version does not have",
                "remove the key that the message names if the server may run without, or keep Apache ZooKeeper; `ringkeeper check` lists every such key",
            ),
            Exit::LossShown => (
                "`ringkeeper accept-loss` has shown what is lost, and has changed nothing",
                "restore a backup if there is one; else run the command that it names",
            ),
            Exit::OtherLoss => (
                "`ringkeeper accept-loss` was given another --last-zxid than the one at which the store would end",
                "read again what is lost: the store is not the one that was looked at; nothing has been changed",
            ),
            Exit::Member => (
                "the data is that of a member of an ensemble, or of another member",
                "start it with its ensemble's configuration and its own myid; for a standalone server name an empty dataDir and dataLogDir",
            ),
            Exit::Forgotten => (
                "a serving shard was held still for so long that the log that it missed is given up",
                "look what stopped its thread, or raise ringkeeper.detachedLogBytes; start again: nothing acknowledged is lost",
            ),
        }
    }
}

impl From<&ConfigError> for Exit {
    fn from(error: &ConfigError) -> Exit {
        match error {
            ConfigError::Ensemble(_) => Exit::Ensemble,
            ConfigError::Insecure(_) => Exit::Insecure,
            _ => Exit::Config,
        }
    }
}

impl From<&Fatal> for Exit {
    fn from(error: &Fatal) -> Exit {
        match error {
            Fatal::Log(e) => of_io(e),
            Fatal::NotOurs(refusal) => of_refusal(refusal),
            Fatal::History(_) | Fatal::Shard(_) => Exit::Unexpected,
            Fatal::Forgotten { .. } => Exit::Forgotten,
            Fatal::DigestMismatch(_) => Exit::Digest,
        }
    }
}

pub(super) fn of_snap(error: &SnapError) -> Exit {
    match error {
        SnapError::Log(refusal) => of_refusal(refusal),
        SnapError::File(SnapshotError::Newer { .. }) | SnapError::Body(BodyError::Newer(_)) => {
            Exit::NewerFormat
        }
        SnapError::File(SnapshotError::Denied { .. }) => Exit::NotWritable,
        SnapError::File(SnapshotError::Io(e)) | SnapError::Io(e) => of_io(e),
        SnapError::Digest { .. } => Exit::Digest,
        _ => Exit::Corrupt,
    }
}

fn of_refusal(refusal: &RecoveryError) -> Exit {
    match refusal {
        RecoveryError::Newer { .. } => Exit::NewerFormat,
        RecoveryError::Member { .. } | RecoveryError::OtherMember { .. } => Exit::Member,
        RecoveryError::Io(e) => of_io(e),
        _ => Exit::Corrupt,
    }
}

pub(super) fn of_io(error: &io::Error) -> Exit {
    let inner = error.get_ref();
    if let Some(refusal) = inner.and_then(|inner| inner.downcast_ref::<RecoveryError>()) {
        return of_refusal(refusal);
    }
    match Failure::of(error) {
        Failure::Full => Exit::DiskFull,
        Failure::Denied => Exit::NotWritable,
        Failure::Scarce | Failure::Missing | Failure::Broken => Exit::LogFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_can_not_be_written_says_by_its_code_whether_room_a_right_or_the_device_is_missing()
     {
        // ENOSPC, EDQUOT, EROFS, EACCES, EMFILE, EIO.
        let rows = [
            (28, Exit::DiskFull, "make room"),
            (122, Exit::DiskFull, "make room"),
            (30, Exit::NotWritable, "mounted and writable"),
            (13, Exit::NotWritable, "mounted and writable"),
            (24, Exit::LogFailed, "descriptors"),
            (5, Exit::LogFailed, "errors of the device"),
        ];
        for (code, exit, advice) in rows {
            let fatal = Fatal::Log(io::Error::from_raw_os_error(code));
            assert_eq!(Exit::from(&fatal), exit, "{code}");
            assert!(fatal.to_string().contains(advice), "{fatal}");
        }
    }

    #[test]
    fn a_file_of_another_store_is_no_failure_of_the_device() {
        let foreign = || {
            io::Error::other(RecoveryError::Foreign {
                file: "witness.log".into(),
                whose: "the store that is written",
            })
        };
        let fatal = Fatal::from(foreign());
        assert_eq!(Exit::from(&fatal), Exit::Corrupt);
        assert_eq!(of_io(&foreign()), Exit::Corrupt);
        assert_eq!(of_snap(&SnapError::Io(foreign())), Exit::Corrupt);
        let said = fatal.to_string();
        assert!(
            said.contains("witness.log does not belong to the store"),
            "{said}"
        );
        assert!(!said.contains("device"), "{said}");
    }

    #[test]
    fn the_documentation_has_this_table() {
        let doc = include_str!("../../docs/exit-codes.md");
        for exit in Exit::ALL {
            let (what, action) = exit.explanation();
            let row = format!("| {} | {what} | {action} |", exit.code());
            assert!(doc.contains(&row), "docs/exit-codes.md lacks: {row}");
        }
        let rows = doc
            .lines()
            .filter(|l| l.starts_with("| ") && l.as_bytes()[2].is_ascii_digit());
        assert_eq!(
            rows.count(),
            Exit::ALL.len() + 2,
            "130 and 143 stand there too"
        );
    }
}
