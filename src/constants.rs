//! Limits, and the assertions that prove them against each other.

/// Default of `jute.maxbuffer`, bytes; the bound itself is accepted (docs/protocol.md §1.1).
pub const JUTE_MAXBUFFER: usize = 0xf_ffff;
/// Largest `jute.maxbuffer` that is accepted, bytes: lengths of frames and entries are 32-bit.
pub const JUTE_MAXBUFFER_LIMIT: usize = 512 << 20;
/// How much larger than `jute.maxbuffer` a transaction may be (docs/protocol.md §7.4).
pub const JUTE_EXTRASIZE: usize = JUTE_MAXBUFFER;
/// The largest serialised entry that the log accepts, bytes.
pub const ENTRY_MAX: usize = JUTE_MAXBUFFER + JUTE_EXTRASIZE;
/// Preallocated size of a log segment unless `preAllocSize` says otherwise, bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// The smallest segment accepted from `preAllocSize`, bytes.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// A connection's unsent output above which it is not read until drained, bytes.
pub const OUTPUT_MAX: usize = 4 << 20;
/// Requests in flight between the shards and the pipeline (`globalOutstandingLimit`).
pub const OUTSTANDING_MAX: usize = 1000;
/// Requests of all connections received and not answered: default of `ringkeeper.requestBytesMax`,
/// bytes.
pub const REQUEST_BYTES_MAX: usize = 128 << 20;
/// Replies and events of all connections not yet sent: default of `ringkeeper.outputBytesMax`,
/// bytes.
pub const OUTPUT_BYTES_MAX: usize = 256 << 20;
/// Watches of all connections: default of `ringkeeper.watchBytesMax`, bytes of memory.
pub const WATCH_BYTES_MAX: usize = 512 << 20;
/// The default of `ringkeeper.memoryMax`: this part of what the machine or the cgroup has, percent.
pub const MEMORY_PERCENT: u64 = 80;
/// Log kept for a shard that is held still, since it was detached: default of
/// `ringkeeper.detachedLogBytes`.
pub const DETACHED_LOG_BYTES: u64 = 1 << 30;
/// Identities of one connection, its address among them: default of `ringkeeper.identitiesMax`.
pub const IDENTITIES_MAX: usize = 1000;
/// Bytes of one identity's scheme and id, on average over the most identities that a connection may
/// have.
pub const IDENTITY_BYTES: usize = 256;
/// Entries of one ACL list: default of `ringkeeper.aclEntriesMax`.
pub const ACL_ENTRIES_MAX: usize = 4096;
/// A seal follows the last acknowledged batch after this long, ms.
pub const SEAL_DELAY_MS: u64 = 100;
/// A connection that has not completed its handshake is closed after this long, ms
/// (docs/protocol.md §5.2).
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;

/// The shortest gap between two events of a core that can be a pause of the process, ms: where tickTime is
/// short, cores look at their timers every 5 ms.
const PAUSE_MS_MIN: u64 = 20;

/// What one connection may hold of requests, and of output, whatever the others hold, bytes.
pub const CONNECTION_SHARE: usize = 64 << 10;
/// The least that the bound of one reply may be, bytes; it is four times `jute.maxbuffer` where
/// that is more, so that the reply of every write fits.
pub const REPLY_BYTES_MAX: usize = 16 << 20;
/// Steps of one multiRead: entries compared, children listed.
pub const READ_STEPS_MAX: usize = 1 << 18;
/// Requests of one connection between two writes that are both under way: they execute in one
/// step when the outcome of the first comes.
pub const READS_AHEAD_MAX: usize = 64;

const _: () = assert!(REPLY_BYTES_MAX >= 4 * JUTE_MAXBUFFER);
const _: () = assert!(OUTPUT_BYTES_MAX > 2 * REPLY_BYTES_MAX);
const _: () = assert!(REQUEST_BYTES_MAX > 16 * JUTE_MAXBUFFER);
const _: () = assert!(OUTPUT_MAX > CONNECTION_SHARE);
const _: () = assert!(SEGMENT_BYTES >= 2 * (ENTRY_MAX as u64 + 4096));
const _: () = assert!(OUTPUT_MAX > JUTE_MAXBUFFER);
const _: () = assert!(JUTE_MAXBUFFER <= JUTE_MAXBUFFER_LIMIT);
const _: () = assert!(2 * JUTE_MAXBUFFER_LIMIT < i32::MAX as usize);
const _: () = assert!(REQUEST_BYTES_MAX >= request_bytes_least(JUTE_MAXBUFFER));
const _: () = assert!(OUTPUT_BYTES_MAX >= output_bytes_least(JUTE_MAXBUFFER));
// The scheme `auth` becomes an entry for each identity.
const _: () = assert!(ACL_ENTRIES_MAX >= IDENTITIES_MAX);

/// A longer gap than this between two events of a core is a pause of the process, or of the machine, ms.
pub fn pause_ms(tick_time_ms: u64) -> u64 {
    (tick_time_ms / 2).max(PAUSE_MS_MIN)
}

/// Smallest `ringkeeper.requestBytesMax` beside a `jute.maxbuffer`, bytes: one connection that sends
/// the largest request leaves room for the largest of another.
pub const fn request_bytes_least(jute_maxbuffer: usize) -> usize {
    2 * jute_maxbuffer
}

/// Smallest `ringkeeper.outputBytesMax` beside a `jute.maxbuffer`, bytes: one connection with a full
/// output, or with the largest node in it, leaves room for the same of another.
pub const fn output_bytes_least(jute_maxbuffer: usize) -> usize {
    if jute_maxbuffer > OUTPUT_MAX {
        2 * jute_maxbuffer
    } else {
        2 * OUTPUT_MAX
    }
}
