//! Why a log is refused. The letters are those of the table in `recover`.

use super::record;
use crate::types::{ServerId, Zxid};
use std::io;

/// Why the log can't be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Cases E, F, H, I, K, N.
    #[error(
        "the log is corrupt: {what} in {file} at byte {offset}; transactions behind {intact} are lost \
         or can't be trusted, so the server does not start: restore the file from a backup, or see with \
         `ringkeeper accept-loss` what a start without them costs; nothing was changed"
    )]
    Corrupt {
        /// Name of the file.
        file: String,
        /// Offset in the file, bytes.
        offset: u64,
        /// What was found.
        what: &'static str,
        /// The last transaction that is known to be good.
        intact: Zxid,
    },
    /// Case O.
    #[error(
        "{file} can't be read at byte {offset} ({source}); transactions behind {intact} may be lost, \
         so the server does not start: restore the file from a backup, or see with `ringkeeper \
         accept-loss` what a start without them costs; nothing was changed"
    )]
    Unreadable {
        /// Name of the file.
        file: String,
        /// Offset in the file, bytes.
        offset: u64,
        /// The device's error.
        source: io::Error,
        /// The last transaction that is known to be good.
        intact: Zxid,
    },
    /// Case L.
    #[error(
        "the log {}, and {by} shows that it went as far as {known}: what lies between is lost, so the \
         server does not start; look whether dataLogDir is mounted and the right one, or restore it \
         from a backup, or see with `ringkeeper accept-loss` what a start without it costs; nothing was \
         changed",
        end.as_ref().map_or("is not there".to_owned(), |(zxid, (file, offset))| {
            format!("ends at {zxid}, in {file} at byte {offset}")
        })
    )]
    Lost {
        /// The last transaction in the log, and where it ends: file, byte.
        end: Option<(Zxid, (String, u64))>,
        /// The last one that there was.
        known: Zxid,
        /// What shows it.
        by: String,
    },
    /// Case J.
    #[error(
        "{file} has log format {format}, this server reads up to {}: start the newer version",
        record::FORMAT
    )]
    Newer {
        /// Name of the file.
        file: String,
        /// What it says.
        format: u32,
    },
    /// Case P.
    #[error(
        "{file} does not belong to {whose}: look whether dataDir and dataLogDir are the right ones, and \
         mounted, or see with `ringkeeper accept-loss` what a start without it costs; nothing was changed"
    )]
    Foreign {
        /// Name of the file.
        file: String,
        /// Whose it should be.
        whose: &'static str,
    },
    /// Case Q.
    #[error(
        "{file} is of a member of an ensemble, as it says at byte {offset}, and that history is not this \
         server's alone to go on with: start it with its ensemble's configuration; to begin a standalone \
         server, name an empty dataDir and dataLogDir; nothing was changed"
    )]
    Member {
        /// Name of the file.
        file: String,
        /// Offset in the file, bytes.
        offset: u64,
    },
    /// The store of another member of the ensemble.
    #[error(
        "{file} is of server {sid} of an ensemble, as it says at byte {offset}, and this is server {own}: \
         correct myid, or name this server's own dataDir and dataLogDir; nothing was changed"
    )]
    OtherMember {
        /// Name of the file.
        file: String,
        /// Offset in the file, bytes.
        offset: u64,
        /// Whose the store is.
        sid: ServerId,
        /// Who was started.
        own: ServerId,
    },
    /// There is a store, and nothing that says how far its log went.
    #[error(
        "{file} is there, and neither of {names} can be read: what the log has lost can't be known; \
         restore one of them from a backup, or see with `ringkeeper accept-loss` what a start without \
         them costs; nothing was changed"
    )]
    NoWitness {
        /// Name of a file that shows that there was a store.
        file: String,
        /// Names of the files that are wanted.
        names: String,
    },
    /// The operator's command has begun to change the store, and has not come to its end.
    #[error(
        "the loss of what lies behind {kept} was being accepted, and that was cut off: run `ringkeeper \
         accept-loss --last-zxid {kept}` again, with the same configuration"
    )]
    Accepting {
        /// The last transaction that stays.
        kept: Zxid,
    },
    /// A reader asks for what follows a transaction that is not in the member's history, or not any more, or behind
    /// which the log does not hold all of it any more.
    #[error("what follows {zxid} can't be read: the log does not hold it, or not any more")]
    Replaced {
        /// The transaction.
        zxid: Zxid,
    },
    /// The operating system failed.
    #[error("the log can't be read: {0}")]
    Io(#[from] io::Error),
}

impl RecoveryError {
    /// Whether something of the store is lost, so that only a backup helps, or who gives it up.
    pub fn is_loss(&self) -> bool {
        match self {
            RecoveryError::Corrupt { .. }
            | RecoveryError::Unreadable { .. }
            | RecoveryError::Lost { .. }
            | RecoveryError::Foreign { .. }
            | RecoveryError::NoWitness { .. }
            | RecoveryError::Accepting { .. } => true,
            RecoveryError::Newer { .. }
            | RecoveryError::Member { .. }
            | RecoveryError::OtherMember { .. }
            | RecoveryError::Replaced { .. }
            | RecoveryError::Io(_) => false,
        }
    }
}
