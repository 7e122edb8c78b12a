//! The log: records, segments, recovery, snapshot files. Payloads are opaque bytes with a zxid.
//!
//! | File | What |
//! |---|---|
//! | `storage` | the seam to files |
//! | `pieces` | reading a file without mapping it |
//! | `record`, `segment` | layouts |
//! | `writer` | appending, batched syncs, rolls, seals, the full disk |
//! | `recover` | the table of what may be found, and what is done |
//! | `snapshot_file` | the container of a snapshot |
//! | `durable` | proof that something is on disk |

mod durable;
mod pieces;
pub mod record;
pub mod recover;
pub mod segment;
pub mod snapshot_file;
pub mod storage;
mod writer;

#[cfg(test)]
mod tests;

pub use durable::{Durable, LogEnd};
pub use recover::{Part, RecoveryError, Scan, read_part};
pub use writer::{
    Identities, Log, LogConfig, LogCounters, Need, Room, SpareJob, SpareResult, SyncOutcome,
    SyncTask, SyncTicket,
};
