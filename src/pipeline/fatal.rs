//! What stops the whole process.

use crate::log::RecoveryError;
use crate::log::verdict::Failure;
use crate::tree::DigestMismatch;
use crate::types::{ShardId, Zxid};
use std::io;

/// The process ends at once; nothing may be sent any more. What is in the log decides at the next
/// start.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// After a failed write or sync nothing is known about the log's file: no retry.
    #[error(
        "the transaction log can't be written or synced ({0}): {advice}; what was acknowledged is \
         durable",
        advice = advice(.0)
    )]
    Log(#[source] io::Error),
    /// A file of the store is another's, or a newer server's.
    #[error("the log can't go on: {0}")]
    NotOurs(#[source] RecoveryError),
    /// What is committed can't be read, or what a leader has sent can't be kept.
    #[error(
        "what the ensemble has decided can't be read or kept here: {0}; look at the device below dataDir and \
         dataLogDir, then start again: what was acknowledged is durable"
    )]
    History(String),
    /// A shard can't serve or catch up: its clients would wait for ever.
    #[error("a serving shard can't go on: {0}; start again, and report this if it comes back")]
    Shard(String),
    /// A shard was held still for longer than the log is kept for it: what it missed is gone.
    #[error(
        "shard {shard} was held still for so long that the log behind {after}, which it needs, is given \
         up: look what stopped its thread (a debugger, a signal, a page that could not be read), or raise \
         ringkeeper.detachedLogBytes; start again, nothing acknowledged is lost"
    )]
    Forgotten {
        /// The shard.
        shard: ShardId,
        /// What it has.
        after: Zxid,
    },
    /// Applying made another tree than preparing had promised.
    #[error("{0}: memory or program fault; keep the data directory and report this")]
    DigestMismatch(#[from] DigestMismatch),
}

impl From<io::Error> for Fatal {
    fn from(error: io::Error) -> Fatal {
        match error.downcast::<RecoveryError>() {
            Ok(refusal) => Fatal::NotOurs(refusal),
            Err(error) => Fatal::Log(error),
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    Failure::of(error).ending()
}
