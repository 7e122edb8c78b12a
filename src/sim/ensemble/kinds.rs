//! Kinds of faults, and what ends again.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Kill,
    KillAtEffect,
    PowerCut,
    PowerCutAtEffect,
    Blackout,
    Pause,
    Wipe,
    LoseRecordCopy,
    Full,
    Slow,
    Failing,
    Clock,
    Break,
    Isolate,
    OneWay,
    Pair,
    Split,
}

impl Kind {
    pub(super) const ALL: [Kind; 17] = [
        Kind::Kill,
        Kind::KillAtEffect,
        Kind::PowerCut,
        Kind::PowerCutAtEffect,
        Kind::Blackout,
        Kind::Pause,
        Kind::Wipe,
        Kind::LoseRecordCopy,
        Kind::Full,
        Kind::Slow,
        Kind::Failing,
        Kind::Clock,
        Kind::Break,
        Kind::Isolate,
        Kind::OneWay,
        Kind::Pair,
        Kind::Split,
    ];

    /// Whether what is being written may be torn.
    pub(super) fn cuts_power(self) -> bool {
        matches!(
            self,
            Kind::PowerCut | Kind::PowerCutAtEffect | Kind::Blackout
        )
    }
}

/// What ends again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mend {
    Room,
    Calls,
    /// All partitions.
    Network,
}
