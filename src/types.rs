//! The newtypes that cross module borders. No bare integer does.

use std::fmt;

/// A hash map whose hasher is the same in every process, so that a simulation replays.
/// Iteration order is not part of any output all the same: sort what becomes visible.
pub type DetHashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;
/// The set that goes with [`DetHashMap`].
pub type DetHashSet<K> = hashbrown::HashSet<K, foldhash::fast::FixedState>;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

/// Transaction id: epoch in the high 32 bits, counter in the low 32 (peer.md §0.2).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before any transaction.
    pub const ZERO: Zxid = Zxid(0);
    /// The last counter value in use; the next zxid opens the next epoch (design.md §2).
    pub const COUNTER_MAX: u32 = 0xffff_fffe;

    /// Joins an epoch and a counter.
    pub const fn new(epoch: u32, counter: u32) -> Zxid {
        Zxid(((epoch as i64) << 32) | counter as i64)
    }

    /// High half.
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Low half.
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The zxid that follows this one: counter 0xfffffffe is followed by (epoch + 1, 1).
    pub const fn next(self) -> Zxid {
        if self.counter() >= Self::COUNTER_MAX {
            Zxid::new(self.epoch() + 1, 1)
        } else {
            Zxid(self.0 + 1)
        }
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Session id (client.md §5.1). Never 0 and never `i64::MIN` for a live session.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl SessionId {
    /// "No session".
    pub const NONE: SessionId = SessionId(0);
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

newtype! {
    /// A client's request id, echoed in the reply (client.md §1.4).
    Xid(i32)
}
newtype! {
    /// One millisecond of monotonic time since the process (or the simulation) began.
    Tick(u64)
}
newtype! {
    /// Wall clock, milliseconds since 1970; may go back, nothing depends on its order.
    WallMs(i64)
}
newtype! {
    /// Logical offset in the log, bytes; only grows, and is not a file offset (design.md §4).
    Position(u64)
}
newtype! {
    /// A serving shard of this process, counted from 0.
    ShardId(u16)
}
newtype! {
    /// Counts the attachments of one session; each re-attach adds one (design.md §2).
    Generation(u64)
}

impl Tick {
    /// This tick plus a number of milliseconds.
    pub const fn after(self, ms: u64) -> Tick {
        Tick(self.0 + ms)
    }
}

impl Position {
    /// This position plus a number of bytes.
    pub const fn plus(self, bytes: u64) -> Position {
        Position(self.0 + bytes)
    }
}

/// A connection of one shard: a slot that is used again, and how often it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index in the shard's table.
    pub slot: u32,
    /// Counts the connections that have used the slot.
    pub generation: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zxid_rolls_over_into_the_next_epoch() {
        assert_eq!(Zxid::ZERO.next(), Zxid(1));
        assert_eq!(Zxid::new(0, 0xffff_fffd).next(), Zxid::new(0, 0xffff_fffe));
        assert_eq!(Zxid::new(0, 0xffff_fffe).next(), Zxid::new(1, 1));
        assert_eq!(Zxid::new(6, 0xffff_ffff).next(), Zxid::new(7, 1));
    }
}
