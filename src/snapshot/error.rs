//! Why a state can't be recovered, or no snapshot be made, or the log not be read.

use crate::log::snapshot_file::SnapshotError;
use crate::log::verdict::{Call, Verdict, verdict};
use crate::log::{RecoveryError, StoreId};
use crate::tree::{BodyError, Contradiction, DigestMismatch};
use crate::txn::record::RecordError;
use crate::types::Zxid;
use std::io;

/// Why no tree could be recovered, or no snapshot made.
#[derive(Debug, thiserror::Error)]
pub enum SnapError {
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// The file is damaged, or can't be read or written.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The file is whole, its content is not.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A record passes its checksum and is none.
    #[error(
        "the log's record of {zxid} can't be read: {source}; report this, and restore a backup"
    )]
    Record {
        /// The transaction.
        zxid: Zxid,
        /// Why.
        source: RecordError,
    },
    /// Transactions between the snapshot and the log are missing.
    #[error(
        "transactions are missing: the newest readable snapshot ends at {snapshot}, the log goes on \
         at {log}; restore the missing snapshot or log files from a backup, or see with `ringkeeper \
         accept-loss` what a start without them costs"
    )]
    Gap {
        /// Where the snapshot ends.
        snapshot: Zxid,
        /// Where the log begins.
        log: Zxid,
    },
    /// Replay made another tree than there was.
    #[error("{0}: keep the data directory, report this, and restore a backup")]
    Digest(#[from] DigestMismatch),
    /// The transactions can't be merged with the snapshot before them.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// A store can't be given a zxid that was never used.
    #[error(
        "zxids up to {0} were used, and behind them there is no epoch in which a store that has lost some \
         could go on: restore a backup; nothing was changed"
    )]
    LastEpoch(Zxid),
    /// A loss is to be given up, and nobody can say of which store.
    #[error(
        "{} is of store {}, and {} of store {}: which of the two is meant can't be known, so nothing of \
         either is given up; name the dataDir and the dataLogDir of one store, or move the files of the other \
         one elsewhere, and run the command again; nothing was changed",
        .0[0].place(), .0[0].store, .0[1].place(), .0[1].store
    )]
    TwoStores(Box<[Named; 2]>),
    /// The log does not reach the zxid that a snapshot was asked for.
    #[error("the log ends at {0}, before the snapshot that was asked for")]
    Short(Zxid),
    /// A snapshot would fill the disk.
    #[error("{free} bytes are free below dataDir, {needed} are wanted before a snapshot is begun")]
    NoRoom {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// The disk takes what is in memory more slowly than clients change it.
    #[error(
        "what is in memory was changed faster than dataDir took it, and is not kept twice: look whether \
         the device below dataDir is slow or hangs"
    )]
    Overtaken,
}

/// A file, and the store that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The store.
    pub store: StoreId,
    /// `dataDir` or `dataLogDir`.
    pub directory: &'static str,
    /// Name of the file.
    pub file: String,
}

impl Named {
    fn place(&self) -> String {
        format!("{} in {}", self.file, self.directory)
    }
}

impl SnapError {
    /// Whether somebody can give up what is missing.
    pub fn is_loss(&self) -> bool {
        match self {
            SnapError::Log(refusal) => refusal.is_loss(),
            SnapError::Gap { .. } => true,
            _ => false,
        }
    }

    /// Whether the files that a snapshot is made of can't give one, however often it is tried.
    pub fn is_rot(&self) -> bool {
        match self {
            SnapError::NoRoom { .. }
            | SnapError::Overtaken
            | SnapError::Io(_)
            | SnapError::Log(RecoveryError::Io(_)) => false,
            SnapError::File(SnapshotError::Io(error)) => {
                verdict(Call::ReadSnapshot, error) == Verdict::Older
            }
            _ => true,
        }
    }
}

/// Why a part of the log of a running server can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// A file of the log is damaged, or can't be read.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// A record passes its checksum and is none.
    #[error("the log's record of {zxid} can't be read: {source}")]
    Record {
        /// The transaction.
        zxid: Zxid,
        /// Why.
        source: RecordError,
    },
    /// The segment with the next transaction is not there any more.
    #[error("the transactions between {after} and {found} are not in the log any more")]
    Gap {
        /// The last transaction read, or the one before the first.
        after: Zxid,
        /// The next one that the log holds.
        found: Zxid,
    },
    /// What was known to be durable is not in the log.
    #[error("the log ends at {last}, {upto} was durable")]
    Short {
        /// The last transaction in the log, or the one before the part that was asked for.
        last: Zxid,
        /// What was asked for.
        upto: Zxid,
    },
}

impl ReadLogError {
    /// Why there was no room to read it, where it is tried again.
    pub fn shortage(&self) -> Option<&io::Error> {
        match self {
            ReadLogError::Log(RecoveryError::Io(error)) => {
                (verdict(Call::ReadForShard, error) == Verdict::Later).then_some(error)
            }
            _ => None,
        }
    }
}
