//! The newtypes that cross module borders. No bare integer does.

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::OnceLock;

/// A hash map whose hasher is the same for the whole process: fixed unless [`set_hash_seed`] was
/// called, so that a simulation replays. Iteration order is not part of any output all the same:
/// sort what becomes visible.
pub type DetHashMap<K, V> = hashbrown::HashMap<K, V, HashState>;
/// The set that goes with [`DetHashMap`].
pub type DetHashSet<K> = hashbrown::HashSet<K, HashState>;

/// The seed of every hasher of the process.
static HASH_SEED: OnceLock<(u64, SharedSeed)> = OnceLock::new();

/// Chooses the seed of all hash maps of this process. A server calls it with random bits before
/// anything else, so that no client can compute names that collide; a simulation never calls it.
///
/// Gives false, and changes nothing, when a hash map was made already or a seed was chosen before.
pub fn set_hash_seed(seed: u64) -> bool {
    HASH_SEED.set(seeds(seed)).is_ok()
}

fn seeds(seed: u64) -> (u64, SharedSeed) {
    (!seed.rotate_left(32), SharedSeed::from_u64(seed))
}

/// Builds the hashers of [`DetHashMap`]; all of one process agree.
#[derive(Clone, Debug)]
pub struct HashState {
    own: u64,
    shared: &'static SharedSeed,
}

impl Default for HashState {
    fn default() -> HashState {
        let (own, shared) = HASH_SEED.get_or_init(|| seeds(0));
        HashState { own: *own, shared }
    }
}

impl BuildHasher for HashState {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> FoldHasher<'static> {
        FoldHasher::with_seed(self.own, self.shared)
    }
}

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

/// Transaction id: epoch in the high 32 bits, counter in the low 32.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before any transaction.
    pub const ZERO: Zxid = Zxid(0);
    /// The largest epoch: above it zxids would be negative.
    pub const EPOCH_MAX: u32 = i32::MAX as u32;
    /// The last counter value in use; the next zxid opens the next epoch.
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

    /// Whether it is the next one of the same epoch.
    pub const fn is_next_of(self, last: Zxid) -> bool {
        self.epoch() == last.epoch() && last.counter() < Self::COUNTER_MAX && self.0 == last.0 + 1
    }

    /// Whether it can stand behind `last` in the history of an ensemble: the next of its epoch, or the first of a
    /// later one.
    pub const fn can_follow(self, last: Zxid) -> bool {
        self.is_next_of(last) || self.epoch() > last.epoch() && self.counter() == 1
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

/// Session id (docs/protocol.md §5.1). Never 0 and never `i64::MIN` for a live session.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

impl SessionId {
    /// "No session".
    pub const NONE: SessionId = SessionId(0);
    /// The largest number that a creator can give to one of its sessions.
    pub const NUMBER_MAX: i64 = (1 << 56) - 1;

    /// The creator of the sessions of a server that stands alone.
    pub const STANDALONE: u8 = 1;

    /// The first number that a clock gives: the low 40 bits of its milliseconds, above 16 bits for a count.
    pub const fn number_at(wall: WallMs) -> i64 {
        (wall.0 & 0xff_ffff_ffff) << 16
    }

    /// The id with which a server, its number in the top byte, numbers one of its sessions: the low 56 bits.
    pub const fn of(creator: u8, number: i64) -> SessionId {
        SessionId((creator as i64) << 56 | number & SessionId::NUMBER_MAX)
    }

    /// The server that made the id.
    pub const fn creator(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// What the creator numbered the session.
    pub const fn number(self) -> i64 {
        self.0 & SessionId::NUMBER_MAX
    }
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
    /// A client's request id, echoed in the reply (docs/protocol.md §1.4).
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
    /// Logical offset in the log, bytes; only grows, and is not a file offset.
    Position(u64)
}
newtype! {
    /// The reign of a leader: the high half of the zxids that it gives.
    Epoch(u32)
}
newtype! {
    /// A member of an ensemble (`sid`, docs/peer-protocol.md §0.2). A peer may send any number; only those that a
    /// configuration names count.
    ServerId(i64)
}
newtype! {
    /// Counts the elections of one process (docs/peer-protocol.md §1.6); epochs are something else.
    Round(i64)
}
newtype! {
    /// The currentEpoch of the server that a vote proposes, as peers send it (docs/peer-protocol.md §1.4): an
    /// [`Epoch`], or the lowest number of all from a server that proposes nobody.
    VoteEpoch(i64)
}
newtype! {
    /// A serving shard of this process, counted from 0.
    ShardId(u16)
}
newtype! {
    /// Counts the attachments of one session; each re-attach adds one.
    Generation(u64)
}

/// The three clocks, as an argument: pure code never asks for the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, for timers and sessions.
    pub tick: Tick,
    /// Monotonic microseconds since the same origin, for latency only.
    pub micros: u64,
    /// Wall clock, for the times inside transactions and for fresh session ids.
    pub wall: WallMs,
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$cdoc:meta])* $c:ident = $v:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i32);

        impl $name {
            $($(#[$cdoc])* pub const $c: $name = $name($v);)*

            /// The name in the specification, or `None` for a number it does not have.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($v => Some($text),)*
                    _ => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{name}({})", self.0),
                    None => write!(f, concat!(stringify!($name), "({})"), self.0),
                }
            }
        }
    };
}

codes! {
    /// Error code of a reply (docs/protocol.md §2.1). Only codes listed there are ever sent.
    ErrorCode {
        /// Success.
        OK = 0, "OK";
        /// A growing write refused because disk or memory is full; no zxid consumed.
        SYSTEM_ERROR = -1, "SYSTEMERROR";
        /// multi: operations after the failing one.
        RUNTIME_INCONSISTENCY = -2, "RUNTIMEINCONSISTENCY";
        /// The request's body can't be parsed.
        MARSHALLING = -5, "MARSHALLINGERROR";
        /// Unknown operation, or one that is switched off.
        UNIMPLEMENTED = -6, "UNIMPLEMENTED";
        /// Bad path, flags or TTL.
        BAD_ARGUMENTS = -8, "BADARGUMENTS";
        /// The node does not exist.
        NO_NODE = -101, "NONODE";
        /// Permission missing.
        NO_AUTH = -102, "NOAUTH";
        /// Version mismatch.
        BAD_VERSION = -103, "BADVERSION";
        /// The parent is an ephemeral node.
        NO_CHILDREN_FOR_EPHEMERALS = -108, "NOCHILDRENFOREPHEMERALS";
        /// The node exists.
        NODE_EXISTS = -110, "NODEEXISTS";
        /// The node has children.
        NOT_EMPTY = -111, "NOTEMPTY";
        /// The session is closing or unknown.
        SESSION_EXPIRED = -112, "SESSIONEXPIRED";
        /// Empty or malformed ACL list.
        INVALID_ACL = -114, "INVALIDACL";
        /// Authentication failed; the connection closes.
        AUTH_FAILED = -115, "AUTHFAILED";
        /// Another member of the ensemble has the session; its connection here closes without a reply.
        SESSION_MOVED = -118, "SESSIONMOVED";
        /// checkWatches or removeWatches: there is no such watch.
        NO_WATCHER = -121, "NOWATCHER";
        /// reconfig while it is switched off.
        RECONFIG_DISABLED = -123, "RECONFIGDISABLED";
        /// The client has not authenticated as it must; the connection closes.
        SESSION_CLOSED_REQUIRE_SASL_AUTH = -124, "SESSIONCLOSEDREQUIRESASLAUTH";
        /// More nodes or bytes than a quota allows.
        QUOTA_EXCEEDED = -125, "QUOTAEXCEEDED";
    }
}

codes! {
    /// Operation code of a request and type of a transaction (docs/protocol.md §1.5).
    OpCode {
        /// create, answers the path.
        CREATE = 1, "create";
        /// delete.
        DELETE = 2, "delete";
        /// exists.
        EXISTS = 3, "exists";
        /// getData.
        GET_DATA = 4, "getData";
        /// setData.
        SET_DATA = 5, "setData";
        /// getACL.
        GET_ACL = 6, "getACL";
        /// setACL.
        SET_ACL = 7, "setACL";
        /// getChildren, names only.
        GET_CHILDREN = 8, "getChildren";
        /// sync.
        SYNC = 9, "sync";
        /// ping.
        PING = 11, "ping";
        /// getChildren with Stat.
        GET_CHILDREN2 = 12, "getChildren2";
        /// check; inside multi only.
        CHECK = 13, "check";
        /// multi.
        MULTI = 14, "multi";
        /// create, answers path and Stat.
        CREATE2 = 15, "create2";
        /// reconfig.
        RECONFIG = 16, "reconfig";
        /// checkWatches.
        CHECK_WATCHES = 17, "checkWatches";
        /// removeWatches.
        REMOVE_WATCHES = 18, "removeWatches";
        /// createContainer.
        CREATE_CONTAINER = 19, "createContainer";
        /// deleteContainer, internal.
        DELETE_CONTAINER = 20, "deleteContainer";
        /// createTTL.
        CREATE_TTL = 21, "createTTL";
        /// multiRead.
        MULTI_READ = 22, "multiRead";
        /// auth.
        AUTH = 100, "auth";
        /// setWatches.
        SET_WATCHES = 101, "setWatches";
        /// sasl.
        SASL = 102, "sasl";
        /// getEphemerals.
        GET_EPHEMERALS = 103, "getEphemerals";
        /// getAllChildrenNumber.
        GET_ALL_CHILDREN_NUMBER = 104, "getAllChildrenNumber";
        /// whoAmI.
        WHO_AM_I = 107, "whoAmI";
        /// setWatches, with persistent and recursive ones.
        SET_WATCHES2 = 105, "setWatches2";
        /// addWatch.
        ADD_WATCH = 106, "addWatch";
        /// createSession, internal.
        CREATE_SESSION = -10, "createSession";
        /// closeSession.
        CLOSE_SESSION = -11, "closeSession";
        /// Transaction of a failed write.
        ERROR = -1, "error";
    }
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
    fn a_seed_changes_every_hash_and_is_chosen_before_the_first_map_only() {
        let state = |seed| -> HashState {
            let (own, shared): &'static (u64, SharedSeed) = Box::leak(Box::new(seeds(seed)));
            HashState { own: *own, shared }
        };
        for text in [
            "",
            "/a",
            "/zookeeper/quota",
            "a path of more than sixteen bytes",
        ] {
            assert_eq!(state(1).hash_one(text), state(1).hash_one(text));
            assert_ne!(state(1).hash_one(text), state(2).hash_one(text), "{text}");
        }
        let before = HashState::default().hash_one("/a");
        assert!(!set_hash_seed(7), "a map is there");
        assert_eq!(HashState::default().hash_one("/a"), before);
    }

    #[test]
    fn zxid_rolls_over_into_the_next_epoch() {
        assert_eq!(Zxid::ZERO.next(), Zxid(1));
        assert_eq!(Zxid::new(0, 0xffff_fffd).next(), Zxid::new(0, 0xffff_fffe));
        assert_eq!(Zxid::new(0, 0xffff_fffe).next(), Zxid::new(1, 1));
        assert_eq!(Zxid::new(6, 0xffff_ffff).next(), Zxid::new(7, 1));
    }
}
