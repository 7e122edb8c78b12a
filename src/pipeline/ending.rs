//! What the bytes of another member, or the own disk, put an end to.

use super::fatal::Fatal;
use crate::zab::Leave;

/// An end of something. What a peer has sent ends a role at most, never the process.
#[derive(Debug)]
pub enum Ending {
    /// The role: the member looks for a leader again.
    Role(Leave),
    /// The process, at once.
    Process(Fatal),
}

impl From<Fatal> for Ending {
    fn from(fatal: Fatal) -> Ending {
        Ending::Process(fatal)
    }
}
