//! The log: records, segments, recovery, snapshot files. Payloads are opaque bytes with a zxid.
//!
//! | File | What |
//! |---|---|
//! | `storage` | the seam to files |
//! | `pieces` | reading a file without mapping it |
//! | `appender` | appending to a file that is not the log, at an even pace |
//! | `record`, `fence`, `segment` | layouts |
//! | `runs` | which records of a member's log are its history |
//! | `writer` | appending, batched syncs, rolls, seals, the full disk; `writer/adoption`: how a member takes over a history |
//! | `cursor`, `lease` | reading the history of a member, and keeping what is read |
//! | `error` | why a log is refused |
//! | `recover` | the table of what may be found, and what is done |
//! | `snapshot_file` | the container of a snapshot |
//! | `received` | a snapshot that a leader sends, until it is one of the member's own |
//! | `witness` | who a store is, and how far its log went |
//! | `member_record` | what a member of an ensemble promises, in the slots of the witness |
//! | `standing` | what of that is found at a start, as a table |
//! | `keeper` | the one who writes the witness while a server runs |
//! | `inspect` | what stands in a file, for an operator who looks |
//! | `durable` | proof that something is on disk |
//! | `verdict` | what follows when a call fails |

mod appender;
mod cursor;
mod durable;
mod error;
pub mod fence;
pub mod inspect;
mod keeper;
mod lease;
mod member_record;
mod pieces;
pub mod received;
pub mod record;
pub mod recover;
mod runs;
pub mod segment;
pub mod snapshot_file;
pub mod standing;
pub mod storage;
pub mod verdict;
pub mod witness;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use appender::Appender;
pub use cursor::{Cursor, Stretch};
pub use durable::{Adoption, Durable, Epochs, HistoryId, LogEnd};
pub use error::RecoveryError;
pub use keeper::{Keeper, WitnessOutcome, WitnessTicket, Written};
pub use lease::{LEASES_MAX, Lease};
pub use member_record::{CONFIGURATION_BYTES_MAX, ConfigurationTooLong, MemberRecord, Standing};
pub(crate) use pieces::Pieces;
pub use received::{Received, Receiving};
pub use record::StoreId;
pub use recover::{Known, Part, Scan, read_part};
pub use runs::{Contradiction, Run, Runs};
pub use witness::Witness;
pub use writer::{
    AdoptionError, Closing, Identities, Log, LogConfig, LogCounters, Need, Room, SpareJob,
    SpareResult, SyncOutcome, SyncTask, SyncTicket, Unwritten,
};
