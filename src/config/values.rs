//! What a configuration comes to, and what holds for a key that is not set.

use super::host::shown;
use crate::constants::{
    ACL_ENTRIES_MAX, DETACHED_LOG_BYTES, IDENTITIES_MAX, JUTE_MAXBUFFER, MEMORY_PERCENT,
    OUTPUT_BYTES_MAX, OUTSTANDING_MAX, REQUEST_BYTES_MAX, SEGMENT_BYTES, WATCH_BYTES_MAX,
};
use core::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Snapshots that a purge keeps at least, as with Apache.
pub(super) const SNAPSHOTS_LEAST: usize = 3;

/// What the server runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `dataDir`: the directory of snapshots.
    pub data_dir: PathBuf,
    /// `dataLogDir`: the directory of log segments.
    pub data_log_dir: PathBuf,
    /// `clientPort` and `clientPortAddress`: where clients connect.
    pub client_address: SocketAddr,
    /// The interface of that address, where it is given by name and not by number.
    pub client_interface: Option<String>,
    /// `tickTime`: the unit of session timeouts, ms.
    pub tick_time_ms: u64,
    /// `minSessionTimeout`: the shortest timeout that a session gets, ms.
    pub session_timeout_min_ms: i32,
    /// `maxSessionTimeout`: the longest timeout that a session gets, ms.
    pub session_timeout_max_ms: i32,
    /// `maxClientCnxns`: connections per address; 0 = no limit.
    pub max_client_connections: u32,
    /// `clientPortListenBacklog`: connections that the kernel queues; −1 = the system's number.
    pub backlog: i32,
    /// `globalOutstandingLimit`: requests of all connections without an outcome.
    pub outstanding_max: usize,
    /// `snapCount`: transactions between snapshots.
    pub snap_count: u64,
    /// `autopurge.snapRetainCount`: snapshots that a purge keeps.
    pub snap_retain: usize,
    /// `autopurge.purgeInterval` above 0: older snapshots and log segments are removed.
    pub purge: bool,
    /// `preAllocSize`: preallocated size of a log segment, bytes (the key is in KiB).
    pub segment_bytes: u64,
    /// `jute.maxbuffer`: the largest frame, bytes.
    pub jute_maxbuffer: usize,
    /// `4lw.commands.whitelist`: which four-letter words are answered.
    pub four_letter_words: Whitelist,
    /// `readonlymode.enabled`: `isro` is answered whatever the whitelist says. Alone, a server never has
    /// reason to serve readers only.
    pub read_only_mode: bool,
    /// `extendedTypesEnabled`: TTL nodes can be created.
    pub extended_types: bool,
    /// `znode.container.checkIntervalMs`: how often containers and TTL nodes are looked at, ms.
    pub container_check_ms: u64,
    /// `znode.container.maxPerMinute`: how many of them are deleted in a minute.
    pub containers_per_minute: u64,
    /// `znode.container.maxNeverUsedIntervalMs`: containers that have never had a child go when they are older,
    /// ms; 0: they stay.
    pub container_never_used_ms: i64,
    /// `shards`: serving cores; `None`: by the machine; 0 = one core does everything.
    pub shards: Option<u16>,
    /// `pin`: whether cores are pinned; `None`: only if this process may use a part of the machine.
    pub pin: Option<bool>,
    /// `ringkeeper.ring`: which features of io_uring are used.
    pub ring: RingFeatures,
    /// `ringkeeper.inlineSync`: whether the ordering core syncs the log itself.
    pub inline_sync: InlineSync,
    /// `ringkeeper.requestBytesMax`: requests of all connections received and not answered, bytes.
    pub request_bytes_max: usize,
    /// `ringkeeper.outputBytesMax`: replies and events of all connections not yet sent, bytes.
    pub output_bytes_max: usize,
    /// `ringkeeper.watchBytesMax`: memory of the watches of all connections, bytes.
    pub watch_bytes_max: usize,
    /// `ringkeeper.memoryMax`: memory of the process, bytes; `None`: by the machine.
    pub memory_max: Option<u64>,
    /// `ringkeeper.detachedLogBytes`: log kept for a shard that is held still, bytes.
    pub detached_log_bytes: u64,
    /// `ringkeeper.identitiesMax`: identities of one connection, its address among them.
    pub identities_max: usize,
    /// `ringkeeper.aclEntriesMax`: entries of one ACL list.
    pub acl_entries_max: usize,
    /// `DigestAuthenticationProvider.digestAlg`: what digests are made with.
    pub digest_algorithm: DigestAlgorithm,
    /// `DigestAuthenticationProvider.superDigest`: the digest of the super user.
    pub super_digest: Option<String>,
    /// `skipACL`: permissions are not asked for.
    pub skip_acl: bool,
    /// `enforce.auth.schemes` where `enforce.auth.enabled` is true, else empty: clients without an identity of
    /// one of them are turned away.
    pub required_schemes: Vec<String>,
    /// `enforceQuota`: hard limits of quotas are enforced.
    pub enforce_quota: bool,
    /// `reconfigEnabled`: which error answers reconfig.
    pub reconfig_enabled: bool,
    /// `ringkeeper.allowVolatileLog`: a log on tmpfs or NFS is accepted.
    pub allow_volatile_log: bool,
}

impl Config {
    /// Whether a four-letter word is answered.
    pub fn answers(&self, word: &str) -> bool {
        self.four_letter_words.allows(word) || word == "isro" && self.read_only_mode
    }

    /// Memory that the process may take where there are so many bytes of it.
    pub fn memory_max(&self, there: u64) -> u64 {
        self.memory_max.unwrap_or(there / 100 * MEMORY_PERCENT)
    }
}

/// `ringkeeper.ring`: which features of io_uring are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFeatures {
    /// Those that the kernel is found to have.
    Auto,
    /// None that is newer than Linux 5.15.
    Plain,
}

/// `ringkeeper.inlineSync`: whether the ordering core syncs the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InlineSync {
    /// When nobody else would wait for the sync.
    Auto,
    /// Every sync.
    Always,
    /// No sync: each runs beside the core.
    Never,
}

/// `DigestAuthenticationProvider.digestAlg`: what digests are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA-512/224.
    Sha512_224,
    /// SHA-512/256.
    Sha512_256,
}

/// `4lw.commands.whitelist`: which four-letter words are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whitelist {
    /// All (`*`).
    All,
    /// The words named, and `srvr` always.
    Words(Vec<String>),
}

impl Whitelist {
    /// Whether a word is answered.
    pub fn allows(&self, word: &str) -> bool {
        match self {
            Whitelist::All => true,
            Whitelist::Words(words) => word == "srvr" || words.iter().any(|w| w == word),
        }
    }
}

impl Config {
    /// Where clients connect, as the configuration says it.
    pub fn client_endpoint(&self) -> String {
        shown(self.client_address, self.client_interface.as_deref())
    }
}

/// What Apache's server does without a key, in a file that names a data directory.
pub(super) fn apache_defaults(data_dir: PathBuf) -> Config {
    Config {
        data_log_dir: data_dir.clone(),
        data_dir,
        client_address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 2181),
        client_interface: None,
        tick_time_ms: 3000,
        session_timeout_min_ms: -1,
        session_timeout_max_ms: -1,
        max_client_connections: 60,
        backlog: -1,
        outstanding_max: OUTSTANDING_MAX,
        snap_count: 100_000,
        snap_retain: SNAPSHOTS_LEAST,
        purge: true,
        segment_bytes: SEGMENT_BYTES,
        jute_maxbuffer: JUTE_MAXBUFFER,
        four_letter_words: Whitelist::Words(Vec::new()),
        read_only_mode: false,
        extended_types: false,
        container_check_ms: 60_000,
        containers_per_minute: 10_000,
        container_never_used_ms: 0,
        shards: None,
        pin: None,
        ring: RingFeatures::Auto,
        inline_sync: InlineSync::Auto,
        request_bytes_max: REQUEST_BYTES_MAX,
        output_bytes_max: OUTPUT_BYTES_MAX,
        watch_bytes_max: WATCH_BYTES_MAX,
        memory_max: None,
        detached_log_bytes: DETACHED_LOG_BYTES,
        identities_max: IDENTITIES_MAX,
        acl_entries_max: ACL_ENTRIES_MAX,
        digest_algorithm: DigestAlgorithm::Sha1,
        super_digest: None,
        skip_acl: false,
        required_schemes: Vec::new(),
        enforce_quota: false,
        reconfig_enabled: false,
        allow_volatile_log: false,
    }
}
