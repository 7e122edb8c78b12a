//! Proof that something is on disk.

use crate::types::{Epoch, Position, Zxid};

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
///
/// It can't be copied either: one that is kept aside would still prove what a change of history has taken back.
///
/// ```compile_fail
/// use ringkeeper::log::{Durable, Epochs};
/// fn kept(record: &Durable<Epochs>) -> Durable<Epochs> {
///     *record
/// }
/// ```
/// ```compile_fail
/// use ringkeeper::log::{Durable, Epochs};
/// fn kept(record: &Durable<Epochs>) -> Durable<Epochs> {
///     record.clone()
/// }
/// ```
/// One that tells of a log says of which of its histories, by a number that each adoption raises ([`HistoryId`]): what
/// was durable before says nothing about what is there since.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Durable<T>(T, HistoryId);

/// Counts the histories that a log has had since it was opened. Numbers of two processes are not compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryId(pub u32);

/// An end of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogEnd {
    /// Behind the last record.
    pub position: Position,
    /// Of the last transaction.
    pub zxid: Zxid,
}

/// What a member of an ensemble has promised and adopted, as its record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epochs {
    /// No leader of an older epoch is followed (acceptedEpoch).
    pub accepted: Epoch,
    /// Of the leader whose history is held (currentEpoch).
    pub current: Epoch,
    /// This member has forgotten nothing that it promised or acknowledged.
    pub is_whole: bool,
}

/// A synchronisation that is closed: what it brought has taken the place of what lay behind its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Adoption {
    /// Of the leader whose history it is.
    pub epoch: Epoch,
    /// Of that history, and of the log behind the record that closes it.
    pub end: LogEnd,
}

impl<T> Durable<T> {
    pub(super) fn mint(value: T) -> Durable<T> {
        Durable(value, HistoryId::default())
    }

    /// About one of the histories of a log.
    pub(super) fn of_history(value: T, history: HistoryId) -> Durable<T> {
        Durable(value, history)
    }

    /// For tests that play a disk.
    #[cfg(test)]
    pub(crate) fn played(value: T) -> Durable<T> {
        Durable(value, HistoryId::default())
    }
}

impl Durable<Epochs> {
    /// No promise to an older epoch is ever given again.
    pub fn accepted(&self) -> Epoch {
        self.0.accepted
    }

    /// The history of this epoch's leader is held.
    pub fn current(&self) -> Epoch {
        self.0.current
    }

    /// Nothing is forgotten.
    pub fn is_whole(&self) -> bool {
        self.0.is_whole
    }
}

impl Durable<Adoption> {
    /// Of the leader whose history is held.
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// Of that history.
    pub fn zxid(&self) -> Zxid {
        self.0.end.zxid
    }

    /// What was made durable at an earlier place of the log proves nothing about this history.
    pub fn position(&self) -> Position {
        self.0.end.position
    }

    /// The number of this history.
    pub fn history(&self) -> HistoryId {
        self.1
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

    /// Which history it is about. With that of an adoption it is about the adopted one; with an earlier one it proves
    /// nothing any more.
    pub fn history(&self) -> HistoryId {
        self.1
    }
}
