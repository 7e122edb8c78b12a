//! Proof that something is on disk.

use crate::types::{Position, Zxid};

/// A value that is durable. Only the log makes one, out of a sync that succeeded; whoever
/// acknowledges, votes or promises asks for it, so that the wrong order does not compile:
///
/// ```compile_fail
/// let end = ringkeeper::log::LogEnd {
///     position: ringkeeper::types::Position(1),
///     zxid: ringkeeper::types::Zxid(1),
/// };
/// let forged = ringkeeper::log::Durable(end);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable<T>(T);

/// An end of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// Behind the last record.
    pub position: Position,
    /// Of the last transaction.
    pub zxid: Zxid,
}

impl<T> Durable<T> {
    pub(super) fn mint(value: T) -> Durable<T> {
        Durable(value)
    }
}

impl Durable<LogEnd> {
    /// Every record below is durable.
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Every transaction up to here is durable.
    pub fn zxid(&self) -> Zxid {
        self.0.zxid
    }
}
