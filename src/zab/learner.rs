//! A learner as its leader sees it.

use crate::types::ServerId;

/// Who is at the other end of a learner's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Learner {
    /// Who it says it is.
    pub sid: ServerId,
    /// It gets INFORM in place of PROPOSAL and COMMIT, acknowledges nothing and never counts.
    pub is_observer: bool,
    /// Its history is whole. A member that was wiped or has lost something has forgotten what it has promised and
    /// acknowledged; it helps no leader to become active, and counts only for one that is active without it.
    pub is_whole: bool,
}
