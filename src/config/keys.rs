//! Every key that is known, in one table: what a value looks like, and what the key does here.
//!
//! A key of Apache's server is *honoured*, or *has no effect* and a warning says why, or *asks for an
//! ensemble*, which ends the start: two servers that each run alone are no ensemble. Or it *promises
//! security* that is not there, which ends the start too: an operator must never believe in a protection
//! that does not exist. A key that only grants or opens (a super user by certificate) promises nothing:
//! without effect the server is stricter than asked. `docs/configure.md` repeats the table, held
//! equal by a test.

use super::host::Host;
use super::values::{Config, DigestAlgorithm, InlineSync, RingFeatures, Whitelist};
use crate::constants::{JUTE_MAXBUFFER_LIMIT, SEGMENT_BYTES_MIN};
use std::str::FromStr;

/// Largest `globalOutstandingLimit` that is accepted: the core keeps a slot for each.
const OUTSTANDING_LIMIT: usize = 100_000;
/// Largest `preAllocSize` that is accepted, KiB: 64 GiB.
const SEGMENT_KIB_LIMIT: u64 = 64 << 20;
/// Smallest `jute.maxbuffer` that is accepted, bytes: handshakes and their replies fit.
const JUTE_MAXBUFFER_MIN: usize = 1024;
/// Most serving cores: more have never been tried.
const SHARDS_LIMIT: u16 = 64;
/// Most identities of a connection, and most entries of an ACL list, that are accepted.
const LIST_LIMIT: usize = 1_000_000;

/// The key whose value is as good as a password.
pub(super) const SUPER_DIGEST: &str = "DigestAuthenticationProvider.superDigest";

/// One key, or all keys with one beginning.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name without `zookeeper.`; a last `*` stands for any rest.
    pub name: &'static str,
    /// Of a key that is honoured: what a value must be. Of one that ends the start: the value that asks for
    /// nothing and is accepted. Else empty, because any value is accepted.
    pub form: &'static str,
    /// What it does.
    pub effect: Effect,
}

/// What a key does.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// The function sets the value; `None` if the text is not of the key's form.
    Honoured(fn(&mut Config, &str) -> Option<()>),
    /// Nothing, for this reason.
    NoEffect(&'static str),
    /// The server does not start, unless the value is off.
    Refused(Refused),
    /// As [`Effect::Refused`], for a key that is about an ensemble.
    Ensemble(Asks),
}

/// A key that asks for an ensemble.
#[derive(Clone, Copy, Debug)]
pub struct Asks {
    /// Completes "the key …".
    pub why: &'static str,
    /// Whether a value asks for nothing.
    pub is_off: fn(&str) -> bool,
}

/// A key that promises security that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// What is promised.
    pub promise: &'static Promise,
    /// Whether a value asks for nothing.
    pub is_off: fn(&str) -> bool,
    /// Another key that, set to `false`, switches the feature off and makes this key harmless.
    pub switch: Option<&'static str>,
}

/// A protection that an operator may count on.
#[derive(Debug, PartialEq, Eq)]
pub struct Promise {
    /// Completes "the key promises …".
    pub what: &'static str,
    /// What the operator can do.
    pub instead: &'static str,
}

const TLS: &Promise = &Promise {
    what: "encrypted connections to clients",
    instead: "remove it and end TLS in a proxy in front of clientPort, or keep Apache ZooKeeper until this \
              server speaks TLS",
};
const QUORUM_TLS: &Promise = &Promise {
    what: "encrypted connections between servers",
    instead: "remove it: a server that runs alone has no such connections",
};
const QUORUM_AUTH: &Promise = &Promise {
    what: "authentication between servers",
    instead: "remove it: a server that runs alone has no such connections",
};
const SASL: &Promise = &Promise {
    what: "authentication by SASL",
    instead: "remove it and protect nodes with digest ACLs, or keep Apache ZooKeeper until this server has \
              SASL",
};
const ENFORCED: &Promise = &Promise {
    what: "that clients without authentication are turned away",
    instead: "remove it and let nobody but trusted clients reach clientPort, or require only the schemes \
              digest and ip, or keep Apache ZooKeeper until this server has the others",
};
const PROVIDER: &Promise = &Promise {
    what: "another authentication provider than the built-in digest and ip",
    instead: "remove it and protect nodes with digest or ip ACLs, or keep Apache ZooKeeper until this \
              server has the provider",
};
const NO_DIGEST: &Promise = &Promise {
    what: "that nobody authenticates with a digest",
    instead: "remove it if digests may be used, or keep Apache ZooKeeper until they can be switched off",
};
const DIGEST_ALGORITHM: &Promise = &Promise {
    what: "digests by another algorithm than SHA1 and those of SHA-2",
    instead: "remove it or set it to one of them if that is good enough, or keep Apache ZooKeeper until this \
              server has the algorithm",
};
const AUDIT: &Promise = &Promise {
    what: "an audit log",
    instead: "remove it if the server may run without, or keep Apache ZooKeeper until this server has one",
};

pub(super) const ENSEMBLE: &str = "it belongs to ensembles";
const LOCAL_SESSIONS: &str = "all sessions are global";
const NO_CLIENT_TLS: &str = "TLS is not there yet";
const NO_SASL: &str = "SASL is not there yet";
const NO_SUPER: &str = "only a digest makes a super user yet: ACLs bind this one";
const NO_ADMIN: &str = "the AdminServer is not there yet: nothing listens";
const NO_METRICS: &str = "metrics are in the four-letter word mntr only";
const NO_JVM: &str = "there is no JVM";
const CLIENTS: &str = "clients read it";
const LOGGING: &str = "the server's log goes to standard error";
const NO_CACHE: &str = "replies are not cached";
const NO_SELECTORS: &str = "there is one way to serve connections";
const WATCHES: &str = "there is one table of watches";
const UNTHROTTLED: &str = "connections are not throttled yet";
const CREDITS: &str = "requests are bounded by globalOutstandingLimit and in bytes";
const GROUPED: &str = "syncs are batched without timers";
const OWN_FORMAT: &str = "the log and the snapshots have a format of their own";
const CREATED: &str = "a directory that is missing or empty begins an empty tree";

const fn honoured(
    name: &'static str,
    form: &'static str,
    set: fn(&mut Config, &str) -> Option<()>,
) -> Key {
    let effect = Effect::Honoured(set);
    Key { name, form, effect }
}

const fn no_effect(name: &'static str, why: &'static str) -> Key {
    let effect = Effect::NoEffect(why);
    let form = "";
    Key { name, form, effect }
}

const fn asks(name: &'static str, Off(form, is_off): Off, why: &'static str) -> Key {
    let effect = Effect::Ensemble(Asks { why, is_off });
    Key { name, form, effect }
}

const fn refused(name: &'static str, off: Off, promise: &'static Promise) -> Key {
    refused_unless(name, off, promise, None)
}

const fn refused_unless(
    name: &'static str,
    Off(form, is_off): Off,
    promise: &'static Promise,
    switch: Option<&'static str>,
) -> Key {
    let effect = Effect::Refused(Refused {
        promise,
        is_off,
        switch,
    });
    Key { name, form, effect }
}

/// The values that ask for nothing, in words and as a predicate.
#[derive(Clone, Copy)]
struct Off(&'static str, fn(&str) -> bool);

const FALSE: Off = Off("`false`", is_false);
/// The scheme's name in the other key decides whether the promise can be kept.
const FALSE_OR_TRUE: Off = Off("`false`, or true beside schemes that are there", |v| {
    boolean(v).is_some()
});
const SCHEMES: Off = Off(
    "an empty value, `digest`, `ip`, or both with a comma",
    |v| schemes(v).all(|scheme| matches!(scheme, "digest" | "ip")),
);
const EMPTY: Off = Off("an empty value", str::is_empty);
const EMPTY_OR_FALSE: Off = Off("an empty value or `false`", |v| v.is_empty() || is_false(v));
const NO_PORT: Off = Off("an empty value or `0`", |v| v.is_empty() || v == "0");
const TRUE: Off = Off("`true`", is_true);
const ALGORITHMS: Off = Off(
    "`SHA1`, `SHA-224`, `SHA-256`, `SHA-384`, `SHA-512`, `SHA-512/224` or `SHA-512/256`",
    |v| digest_algorithm(v).is_some(),
);
const NO_CERTIFICATE: Off = Off("`none`", |v| v.eq_ignore_ascii_case("none"));
const BUILT_IN: Off = Off("Apache's class of the digest or the ip provider", |v| {
    let class = v.strip_prefix("org.apache.zookeeper.server.auth.");
    v.is_empty()
        || matches!(
            class,
            Some("DigestAuthenticationProvider" | "IPAuthenticationProvider")
        )
});
const NO_SECURE_PART: Off = Off("a line without a secure client port", |v| {
    v.split(';')
        .nth(2)
        .is_none_or(|part| part.trim().is_empty())
});

/// Says with which algorithm digests are made; the others promise more than is there.
pub(super) const DIGEST_ALGORITHM_KEY: &str = "DigestAuthenticationProvider.digestAlg";

/// An algorithm by one of the names that Java has for it, in any case of letters.
pub(super) fn digest_algorithm(name: &str) -> Option<DigestAlgorithm> {
    let names = [
        ("SHA1", DigestAlgorithm::Sha1),
        ("SHA-1", DigestAlgorithm::Sha1),
        ("SHA", DigestAlgorithm::Sha1),
        ("SHA-224", DigestAlgorithm::Sha224),
        ("SHA224", DigestAlgorithm::Sha224),
        ("SHA-256", DigestAlgorithm::Sha256),
        ("SHA256", DigestAlgorithm::Sha256),
        ("SHA-384", DigestAlgorithm::Sha384),
        ("SHA384", DigestAlgorithm::Sha384),
        ("SHA-512", DigestAlgorithm::Sha512),
        ("SHA512", DigestAlgorithm::Sha512),
        ("SHA-512/224", DigestAlgorithm::Sha512_224),
        ("SHA512/224", DigestAlgorithm::Sha512_224),
        ("SHA-512/256", DigestAlgorithm::Sha512_256),
        ("SHA512/256", DigestAlgorithm::Sha512_256),
    ];
    one_of(name.to_ascii_uppercase().as_str(), &names)
}

/// The names in a list of schemes.
pub(super) fn schemes(value: &str) -> impl Iterator<Item = &str> {
    let names = value.split(',').map(str::trim);
    names.filter(|name| !name.is_empty())
}

/// As Java's `Boolean.parseBoolean`.
pub(super) fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true")
}

/// Of a key that is honoured: whether the value is neither true nor false and is taken for false, as Apache does
/// with the properties that it reads as it needs them. Those that its parser of `zoo.cfg` knows must be one or the
/// other.
pub(super) fn is_taken_for_false(key: &Key, value: &str) -> bool {
    key.form == SWITCH && boolean(value).is_none()
}

pub(super) fn is_false(value: &str) -> bool {
    value.eq_ignore_ascii_case("false")
}

/// Every key, honoured ones first, in the order in which they are applied (`dataDir` sets where the
/// log goes too, so that `dataLogDir` follows it).
pub const KEYS: &[Key] = &[
    honoured("dataDir", "a path", |c, v| {
        c.data_log_dir = v.into();
        put(&mut c.data_dir, Some(v.into()))
    }),
    honoured("dataLogDir", "a path", |c, v| {
        put(&mut c.data_log_dir, Some(v.into()))
    }),
    honoured("clientPort", "a port from 0 to 65535", |c, v| {
        c.client_address.set_port(number(v, 0, u16::MAX)?);
        Some(())
    }),
    honoured(
        "clientPortAddress",
        "an address (names are not resolved)",
        |c, v| {
            let port = c.client_address.port();
            (c.client_address, c.client_interface) = Host::read(v)?.at(port);
            Some(())
        },
    ),
    honoured("clientPortListenBacklog", "a number from -1", |c, v| {
        put(&mut c.backlog, number(v, -1, i32::MAX))
    }),
    honoured("tickTime", "a number of milliseconds above 0", |c, v| {
        put(&mut c.tick_time_ms, number(v, 1, i32::MAX as u64))
    }),
    honoured(
        "minSessionTimeout",
        "a number of milliseconds, or -1",
        |c, v| put(&mut c.session_timeout_min_ms, number(v, -1, i32::MAX)),
    ),
    honoured(
        "maxSessionTimeout",
        "a number of milliseconds, or -1",
        |c, v| put(&mut c.session_timeout_max_ms, number(v, -1, i32::MAX)),
    ),
    honoured("maxClientCnxns", "a number", |c, v| {
        put(&mut c.max_client_connections, number(v, 0, u32::MAX))
    }),
    honoured(
        "globalOutstandingLimit",
        "a number from 1 to 100000",
        |c, v| put(&mut c.outstanding_max, number(v, 1, OUTSTANDING_LIMIT)),
    ),
    honoured(
        "jute.maxbuffer",
        "a number of bytes from 1024 to 512m",
        |c, v| {
            let bytes =
                bytes(v).filter(|n| (JUTE_MAXBUFFER_MIN..=JUTE_MAXBUFFER_LIMIT).contains(n));
            put(&mut c.jute_maxbuffer, bytes)
        },
    ),
    honoured("snapCount", "a number above 1", |c, v| {
        put(&mut c.snap_count, number(v, 2, u64::MAX))
    }),
    honoured(
        "preAllocSize",
        "a number of KiB from 64 to 67108864",
        |c, v| {
            let kib: u64 = number(v, SEGMENT_BYTES_MIN >> 10, SEGMENT_KIB_LIMIT)?;
            put(&mut c.segment_bytes, Some(kib << 10))
        },
    ),
    honoured("autopurge.snapRetainCount", "a number", |c, v| {
        put(&mut c.snap_retain, number(v, 0, usize::MAX))
    }),
    honoured("autopurge.purgeInterval", "a number of hours", |c, v| {
        put(&mut c.purge, number(v, 0, u32::MAX).map(|hours| hours > 0))
    }),
    honoured(
        "4lw.commands.whitelist",
        "words separated by commas, or `*`",
        |c, v| put(&mut c.four_letter_words, Some(whitelist(v))),
    ),
    honoured("readonlymode.enabled", SWITCH, |c, v| {
        put(&mut c.read_only_mode, Some(is_true(v)))
    }),
    honoured("extendedTypesEnabled", SWITCH, |c, v| {
        put(&mut c.extended_types, Some(is_true(v)))
    }),
    honoured(
        "znode.container.checkIntervalMs",
        "a number of milliseconds above 0",
        |c, v| put(&mut c.container_check_ms, number(v, 1, i32::MAX as u64)),
    ),
    honoured(
        "znode.container.maxPerMinute",
        "a number above 0",
        |c, v| put(&mut c.containers_per_minute, number(v, 1, i32::MAX as u64)),
    ),
    honoured(
        "znode.container.maxNeverUsedIntervalMs",
        "a number of milliseconds",
        |c, v| put(&mut c.container_never_used_ms, number(v, 0, i64::MAX)),
    ),
    honoured("shards", "a number from 0 to 64", |c, v| {
        put(&mut c.shards, Some(Some(number(v, 0, SHARDS_LIMIT)?)))
    }),
    honoured("pin", "true or false", |c, v| {
        put(&mut c.pin, Some(Some(boolean(v)?)))
    }),
    honoured("ringkeeper.ring", "auto or plain", |c, v| {
        let names = [("auto", RingFeatures::Auto), ("plain", RingFeatures::Plain)];
        put(&mut c.ring, one_of(v, &names))
    }),
    honoured("ringkeeper.inlineSync", "auto, always or never", |c, v| {
        let names = [
            ("auto", InlineSync::Auto),
            ("always", InlineSync::Always),
            ("never", InlineSync::Never),
        ];
        put(&mut c.inline_sync, one_of(v, &names))
    }),
    honoured("ringkeeper.requestBytesMax", BYTES, |c, v| {
        put(&mut c.request_bytes_max, bytes(v))
    }),
    honoured("ringkeeper.outputBytesMax", BYTES, |c, v| {
        put(&mut c.output_bytes_max, bytes(v))
    }),
    honoured("ringkeeper.watchBytesMax", BYTES, |c, v| {
        put(&mut c.watch_bytes_max, bytes(v))
    }),
    honoured("ringkeeper.memoryMax", BYTES, |c, v| {
        put(&mut c.memory_max, bytes(v).map(|bytes| Some(bytes as u64)))
    }),
    honoured("ringkeeper.detachedLogBytes", BYTES, |c, v| {
        put(
            &mut c.detached_log_bytes,
            bytes(v).map(|bytes| bytes as u64),
        )
    }),
    honoured(
        "ringkeeper.identitiesMax",
        "a number from 2 to 1000000",
        |c, v| put(&mut c.identities_max, number(v, 2, LIST_LIMIT)),
    ),
    honoured(
        "ringkeeper.aclEntriesMax",
        "a number from 1 to 1000000",
        |c, v| put(&mut c.acl_entries_max, number(v, 1, LIST_LIMIT)),
    ),
    honoured(SUPER_DIGEST, "a name, a colon and a digest", |c, v| {
        put(&mut c.super_digest, Some(Some(v.to_owned())))
    }),
    honoured("skipACL", "yes, or anything else", |c, v| {
        put(&mut c.skip_acl, Some(v == "yes"))
    }),
    honoured("enforceQuota", SWITCH, |c, v| {
        put(&mut c.enforce_quota, Some(is_true(v)))
    }),
    honoured("reconfigEnabled", "true or false", |c, v| {
        put(&mut c.reconfig_enabled, boolean(v))
    }),
    honoured("ringkeeper.allowVolatileLog", "true or false", |c, v| {
        put(&mut c.allow_volatile_log, boolean(v))
    }),
    // Promises of security.
    refused("secureClientPort", NO_PORT, TLS),
    refused("secureClientPortAddress", EMPTY, TLS),
    refused("server.*", NO_SECURE_PART, TLS),
    refused("client.portUnification", FALSE, TLS),
    refused("client.certReload", FALSE, TLS),
    refused("ssl.*", EMPTY_OR_FALSE, TLS),
    refused("ssl.clientAuth", NO_CERTIFICATE, TLS),
    refused("sslQuorum", FALSE, QUORUM_TLS),
    refused("sslQuorumReloadCertFiles", FALSE, QUORUM_TLS),
    refused("portUnification", FALSE, QUORUM_TLS),
    refused_unless(
        "ssl.quorum.*",
        EMPTY_OR_FALSE,
        QUORUM_TLS,
        Some("sslQuorum"),
    ),
    refused("quorum.auth.enableSasl", FALSE, QUORUM_AUTH),
    refused("quorum.auth.serverRequireSasl", FALSE, QUORUM_AUTH),
    refused("quorum.auth.learnerRequireSasl", FALSE, QUORUM_AUTH),
    refused_unless(
        "quorum.auth.*",
        EMPTY,
        QUORUM_AUTH,
        Some("quorum.auth.enableSasl"),
    ),
    refused("sessionRequireClientSASLAuth", FALSE, ENFORCED),
    refused("enforce.auth.enabled", FALSE_OR_TRUE, ENFORCED),
    refused_unless(
        "enforce.auth.schemes",
        SCHEMES,
        ENFORCED,
        Some("enforce.auth.enabled"),
    ),
    refused("authProvider.*", BUILT_IN, PROVIDER),
    refused("java.security.auth.login.config", EMPTY, SASL),
    refused("sasl.serverconfig", EMPTY, SASL),
    refused("requireKerberosConfig", FALSE, SASL),
    refused("DigestAuthenticationProvider.enabled", TRUE, NO_DIGEST),
    refused(DIGEST_ALGORITHM_KEY, ALGORITHMS, DIGEST_ALGORITHM),
    refused("audit.enable", FALSE, AUDIT),
    // Ensembles.
    asks(
        "dynamicConfigFile",
        EMPTY,
        "names a file with the servers of an ensemble",
    ),
    asks(
        "standaloneEnabled",
        TRUE,
        "asks for an ensemble, be it of one server",
    ),
    // Without effect: identities. What only grants or opens.
    no_effect("X509AuthenticationProvider.superUser", NO_SUPER),
    no_effect("SASLAuthenticationProvider.superPassword", NO_SUPER),
    no_effect("superUser", NO_SUPER),
    no_effect("superUser.*", NO_SUPER),
    no_effect("enableEagerACLCheck", ENSEMBLE),
    no_effect("allowSaslFailedClients", NO_SASL),
    no_effect("letAnySaslUserDoX", NO_SASL),
    no_effect(
        "fips-mode",
        "it limits TLS and SASL, which are not there yet; Apache sets it by default",
    ),
    no_effect("kerberos.*", NO_SASL),
    no_effect("security.auth_to_local", NO_SASL),
    no_effect(
        "ensembleAuthName",
        "a client that names an ensemble is turned away",
    ),
    no_effect("IPAuthenticationProvider.usexforwardedfor", NO_ADMIN),
    no_effect("audit.impl.class", "there is no audit log yet"),
    // Connections and requests.
    no_effect(
        "maxCnxns",
        "connections are bounded by the limit of open files",
    ),
    no_effect("connection_throttle_*", UNTHROTTLED),
    no_effect("request_throttle_*", CREDITS),
    no_effect("request_throttler.shutdownTimeout", CREDITS),
    no_effect("request_stale_connection_check", CREDITS),
    no_effect("request_stale_latency_check", CREDITS),
    no_effect("throttled_op_wait_time", CREDITS),
    no_effect(
        "largeRequestThreshold",
        "requests are bounded by ringkeeper.requestBytesMax",
    ),
    no_effect(
        "largeRequestMaxBytes",
        "requests are bounded by ringkeeper.requestBytesMax",
    ),
    no_effect("serverCnxnFactory", NO_SELECTORS),
    no_effect("nio.*", NO_SELECTORS),
    no_effect("netty.*", NO_SELECTORS),
    no_effect("netty.server.outstandingHandshake.limit", NO_CLIENT_TLS),
    no_effect(
        "netty.server.earlyDropSecureConnectionHandshakes",
        NO_CLIENT_TLS,
    ),
    no_effect(
        "clientTcpKeepAlive",
        "a silent client ends with its session's timeout",
    ),
    no_effect("commitProcessor.*", NO_SELECTORS),
    no_effect("intBufferStartingSizeBytes", NO_CACHE),
    no_effect("maxResponseCacheSize", NO_CACHE),
    no_effect("maxGetChildrenResponseCacheSize", NO_CACHE),
    no_effect("watchManagerName", WATCHES),
    no_effect("watcherCleanThreadsNum", WATCHES),
    no_effect("watcherCleanThreshold", WATCHES),
    no_effect("watcherCleanIntervalInSeconds", WATCHES),
    no_effect("maxInProcessingDeadWatchers", WATCHES),
    no_effect("bitHashCacheSize", WATCHES),
    no_effect("localSessionsEnabled", LOCAL_SESSIONS),
    no_effect("localSessionsUpgradingEnabled", LOCAL_SESSIONS),
    // The tree.
    no_effect(
        "emulate353TTLNodes",
        "no store of this server has TTL nodes as Apache 3.5.3 wrote them",
    ),
    no_effect("pathStats.*", "there are no statistics of request paths"),
    // Log and snapshots.
    no_effect("forceSync", "every acknowledged write is synced"),
    no_effect(
        "fsync.warningthresholdms",
        "the times of syncs are in the four-letter word stgs",
    ),
    no_effect("flushDelay", GROUPED),
    no_effect("maxWriteQueuePollTime", GROUPED),
    no_effect("maxBatchSize", GROUPED),
    no_effect(
        "snapSizeLimitInKb",
        "a snapshot is due by snapCount and half the last one's size, or by 1 GiB of log and all of it",
    ),
    no_effect(
        "txnLogSizeLimitInKb",
        "a segment of the log has preAllocSize",
    ),
    no_effect("digest.enabled", "the digest of the tree is always checked"),
    no_effect(
        "closeSessionTxn.enabled",
        "a closeSession always lists its nodes",
    ),
    no_effect(
        "jute.maxbuffer.extrasize",
        "the log and the snapshots hold whatever a request may become",
    ),
    no_effect("serializeLastProcessedZxid.enabled", OWN_FORMAT),
    no_effect("snapshot.compression.method", OWN_FORMAT),
    no_effect("snapshot.trust.empty", OWN_FORMAT),
    no_effect("db.autocreate", CREATED),
    no_effect("datadir.autocreate", CREATED),
    // Ensembles.
    no_effect("initLimit", ENSEMBLE),
    no_effect("syncLimit", ENSEMBLE),
    no_effect("connectToLearnerMasterLimit", ENSEMBLE),
    no_effect("electionAlg", ENSEMBLE),
    no_effect("peerType", ENSEMBLE),
    no_effect("group.*", ENSEMBLE),
    no_effect("weight.*", ENSEMBLE),
    no_effect("oraclePath", ENSEMBLE),
    no_effect("observerMasterPort", ENSEMBLE),
    no_effect("syncEnabled", ENSEMBLE),
    no_effect("quorumListenOnAllIPs", ENSEMBLE),
    no_effect("quorum.cnxn.threads.size", ENSEMBLE),
    no_effect("multiAddress.*", ENSEMBLE),
    no_effect("commitLogCount", ENSEMBLE),
    no_effect("leaderServes", ENSEMBLE),
    no_effect("tcpKeepAlive", ENSEMBLE),
    no_effect("cnxTimeout", ENSEMBLE),
    no_effect("quorumCnxnTimeoutMs", ENSEMBLE),
    no_effect("electionPortBindRetry", ENSEMBLE),
    no_effect("fastleader.*", ENSEMBLE),
    no_effect("leader.*", ENSEMBLE),
    no_effect("learner.*", ENSEMBLE),
    no_effect("leaderConnectDelayDuringRetryMs", ENSEMBLE),
    no_effect("observer.*", ENSEMBLE),
    no_effect("follower.nodelay", ENSEMBLE),
    no_effect("snapshotSizeFactor", ENSEMBLE),
    no_effect("forceSnapshotSync", ENSEMBLE),
    no_effect("observerMaster.sizeLimit", ENSEMBLE),
    no_effect("follower.skipLearnerRequestToNextProcessor", ENSEMBLE),
    no_effect(
        "forward_learner_requests_to_commit_processor_disabled",
        ENSEMBLE,
    ),
    no_effect("messageTracker.*", ENSEMBLE),
    // Operation.
    no_effect("admin.*", NO_ADMIN),
    no_effect("metricsProvider.*", NO_METRICS),
    no_effect("jvm.pause.*", NO_JVM),
    no_effect("com.sun.*", NO_JVM),
    // What clients read, and what a JVM reads.
    no_effect("client.secure", CLIENTS),
    no_effect("clientCnxnSocket", CLIENTS),
    no_effect("disableAutoWatchReset", CLIENTS),
    no_effect("request.timeout", CLIENTS),
    no_effect("sasl.client", CLIENTS),
    no_effect("sasl.client.*", CLIENTS),
    no_effect("sasl.clientconfig", CLIENTS),
    no_effect("server.principal", CLIENTS),
    no_effect("server.realm", CLIENTS),
    no_effect("kinit", CLIENTS),
    no_effect("java.*", NO_JVM),
    no_effect("javax.*", NO_JVM),
    no_effect("jdk.*", NO_JVM),
    no_effect("sun.*", NO_JVM),
    no_effect("file.*", NO_JVM),
    no_effect("user.*", NO_JVM),
    no_effect("log.*", LOGGING),
    no_effect("log4j.*", LOGGING),
    no_effect("log4j2.*", LOGGING),
    no_effect("logback.*", LOGGING),
    no_effect("root.logger", LOGGING),
    no_effect("console.threshold", LOGGING),
    no_effect("jmx.log4j.disable", LOGGING),
    no_effect("test.*", "it is for Apache's own tests"),
    no_effect("testingonly.*", "it is for Apache's own tests"),
];

/// Form of a switch that Apache reads as a property.
const SWITCH: &str = "true, or anything else, which is false";

/// Form of the bounds on memory.
const BYTES: &str = "a number of bytes, as `64m` (k, m, g)";

/// The row of a key: by its exact name, else by the longest beginning. A key that promises security
/// is found in any case of letters, so that a slip of the shift key is not taken for protection.
pub fn find(name: &str) -> Option<&'static Key> {
    let exact = KEYS.iter().find(|key| key.name == name);
    exact
        .or_else(|| by_beginning(name, str::starts_with))
        .or_else(|| {
            let promises = |key: &&Key| matches!(key.effect, Effect::Refused(_));
            let mut rows = KEYS.iter().filter(promises);
            rows.find(|key| key.name.eq_ignore_ascii_case(name))
        })
        .or_else(|| {
            let found = by_beginning(name, starts_with_ignoring_case)?;
            matches!(found.effect, Effect::Refused(_)).then_some(found)
        })
}

fn by_beginning(name: &str, begins: fn(&str, &'static str) -> bool) -> Option<&'static Key> {
    let beginnings = KEYS
        .iter()
        .filter_map(|key| Some((key, key.name.strip_suffix('*')?)));
    let fits = beginnings.filter(|(_, beginning)| begins(name, beginning));
    fits.max_by_key(|(_, beginning)| beginning.len())
        .map(|(key, _)| key)
}

fn starts_with_ignoring_case(name: &str, beginning: &'static str) -> bool {
    let head = name.as_bytes().get(..beginning.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(beginning.as_bytes()))
}

/// The known name with the smallest edit distance to an unknown one, if that is small.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let names = KEYS
        .iter()
        .map(|key| key.name)
        .filter(|known| !known.ends_with('*'));
    let (distance, known) = names
        .map(|known| (edit_distance(name, known), known))
        .min()?;
    (distance <= 3 && distance * 3 <= name.len()).then_some(known)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

fn put<T>(target: &mut T, value: Option<T>) -> Option<()> {
    *target = value?;
    Some(())
}

fn number<T: FromStr + PartialOrd>(text: &str, least: T, most: T) -> Option<T> {
    text.parse().ok().filter(|n| *n >= least && *n <= most)
}

/// A number of bytes above 0 with an optional k, m or g (1,024, 1,024², 1,024³), or hexadecimal
/// behind `0x`, which Java reads too.
fn bytes(text: &str) -> Option<usize> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return usize::from_str_radix(digits, 16).ok().filter(|n| *n > 0);
    }
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let count: usize = number(digits, 1, usize::MAX >> shift)?;
    Some(count << shift)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn one_of<T: Copy>(text: &str, names: &[(&str, T)]) -> Option<T> {
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value)
}

fn whitelist(text: &str) -> Whitelist {
    let words: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
    match words.iter().any(|word| word == "*") {
        true => Whitelist::All,
        false => Whitelist::Words(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, Resolved, embedded, from_file};
    use std::path::Path;

    /// The rows below a heading of `docs/configure.md`, as cells.
    fn documented(heading: &str) -> Vec<Vec<&'static str>> {
        let doc = include_str!("../../docs/configure.md");
        let section = doc.split("\n## ").find(|part| part.starts_with(heading));
        let rows = section
            .expect(heading)
            .lines()
            .filter(|l| l.starts_with("| `"));
        let cells = |row: &'static str| row.trim_matches('|').split('|').map(str::trim).collect();
        rows.map(cells).collect()
    }

    fn assert_rows(heading: &str, due: Vec<Vec<String>>) {
        let found = documented(heading);
        let missing: Vec<String> = due
            .iter()
            .filter(|cells| !found.iter().any(|row| row.starts_with(&as_str(cells))))
            .map(|cells| format!("| {} |", cells.join(" | ")))
            .collect();
        assert!(
            missing.is_empty(),
            "{heading} lacks:\n{}",
            missing.join("\n")
        );
        assert_eq!(
            found.len(),
            due.len(),
            "{heading} has rows that no key stands for"
        );
    }

    fn as_str(cells: &[String]) -> Vec<&str> {
        cells.iter().map(String::as_str).collect()
    }

    #[test]
    fn the_documentation_has_every_key_and_no_other() {
        let (mut honoured, mut refused) = (Vec::new(), Vec::new());
        let (mut ensemble, mut no_effect) = (Vec::new(), Vec::new());
        for Key { name, form, effect } in KEYS {
            let name = format!("`{name}`");
            match effect {
                Effect::Honoured(_) => honoured.push(vec![name, (*form).to_owned()]),
                Effect::Refused(Refused {
                    promise, switch, ..
                }) => {
                    let form = match switch {
                        Some(switch) => format!("{form}, or any beside `{switch}=false`"),
                        None => (*form).to_owned(),
                    };
                    refused.push(vec![name, promise.what.to_owned(), form]);
                }
                Effect::Ensemble(asks) => {
                    ensemble.push(vec![name, asks.why.to_owned(), (*form).to_owned()]);
                }
                Effect::NoEffect(why) => no_effect.push(vec![name, (*why).to_owned()]),
            }
        }
        assert_rows("Keys that are honoured", honoured);
        assert_rows("Keys that promise security", refused);
        assert_rows("Keys that ask for an ensemble", ensemble);
        assert_rows("Keys without effect", no_effect);
    }

    #[test]
    fn a_documented_default_is_what_holds_without_the_key() {
        let base = "dataDir=/d\nclientPort=2181\n";
        let state = Path::new("/s");
        let mut literal = 0;
        for cells in documented("Keys that are honoured") {
            let [name, _, file_default, embedded_default, _] = cells[..] else {
                panic!("{cells:?} has not five cells");
            };
            let name = name.trim_matches('`');
            let with = |value: &str| Some(value.strip_prefix('`')?.strip_suffix('`')?.to_owned());
            if let Some(value) = with(file_default) {
                let set = from_file(&format!("{base}{name}={value}"), &[]).accepted();
                let unset = from_file(base, &[]).accepted();
                assert_eq!(
                    set.unwrap().config,
                    unset.unwrap().config,
                    "{name} with a file"
                );
                literal += 1;
            }
            if let Some(value) = with(embedded_default) {
                let set = embedded(state, &[(name.to_owned(), value)]).accepted();
                let unset = embedded(state, &[]).accepted();
                assert_eq!(
                    set.unwrap().config,
                    unset.unwrap().config,
                    "{name} embedded"
                );
                literal += 1;
            }
        }
        assert!(literal >= 30, "only {literal} defaults were compared");
    }

    #[test]
    fn no_name_stands_twice_and_every_name_finds_its_row() {
        for (at, key) in KEYS.iter().enumerate() {
            let same = KEYS[..at]
                .iter()
                .any(|k| k.name.eq_ignore_ascii_case(key.name));
            assert!(!same, "{} stands twice", key.name);
            let name = key.name.replace('*', "anything");
            assert_eq!(find(&name).map(|k| k.name), Some(key.name));
            let keyed = matches!(key.effect, Effect::Honoured(_)) && key.name.ends_with('*');
            assert!(!keyed, "{}: one value can't come from many keys", key.name);
        }
        assert!(find("nothing.like.it").is_none());
    }

    #[test]
    fn every_promise_refuses_the_start_unless_it_is_switched_off() {
        for key in KEYS {
            let Effect::Refused(Refused {
                promise, switch, ..
            }) = key.effect
            else {
                continue;
            };
            let name = key.name.replace('*', "1");
            let asking = format!("dataDir=/d\nclientPort=1\n{name}=a;b;c\n");
            let said = from_file(&asking, &[]).accepted().unwrap_err();
            let ConfigError::Insecure(refusals) = &said else {
                panic!("{name}: {said}");
            };
            assert_eq!(
                (refusals.len(), refusals[0].promise),
                (1, promise),
                "{name}"
            );
            let row = |name| KEYS.iter().find(|k: &&Key| k.name == name).unwrap();
            if let Some(switch) = switch {
                assert!(matches!(row(switch).effect, Effect::Refused(_)), "{switch}");
            }
            for word in key.form.split('`').skip(1).step_by(2) {
                let off = from_file(&format!("dataDir=/d\nclientPort=1\n{name}={word}\n"), &[]);
                assert!(off.accepted().is_ok(), "{name}={word}");
            }
        }
    }

    #[test]
    fn a_key_without_effect_is_named_with_its_reason() {
        for key in KEYS {
            if let Effect::NoEffect(why) = key.effect {
                let name = key.name.replace('*', "1");
                let Resolved { warnings, .. } =
                    from_file(&format!("dataDir=/d\nclientPort=1\n{name}=true\n"), &[])
                        .accepted()
                        .unwrap();
                let due = format!("line 3: {name} is accepted and has no effect: {why}");
                assert_eq!(warnings, [due]);
            }
        }
    }

    #[test]
    fn numbers_of_bytes_have_suffixes_and_an_end() {
        for (text, due) in [
            ("1", Some(1)),
            ("64k", Some(64 << 10)),
            ("3M", Some(3 << 20)),
            ("2g", Some(2 << 30)),
            ("0x1f", Some(31)),
            ("0", None),
            ("0x0", None),
            ("", None),
            ("m", None),
            ("1t", None),
            ("-1k", None),
            ("1 k", None),
            ("µ", None),
            ("18446744073709551615g", None),
            ("17179869184g", None),
        ] {
            assert_eq!(bytes(text), due, "{text}");
        }
    }
}
