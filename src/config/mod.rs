//! `zoo.cfg` and the properties that go with it (`docs/protocol.md` §9): text in, resolved values
//! out. What the environment says is an argument.
//!
//! `properties` splits the text, `values` is what comes out, `keys` is the table of every known key,
//! `servers` what a line that names a server says, `ensemble` what several of them are, `host` reads an address, and here the values that are set meet
//! the table. A [`Reading`] keeps the answers apart: the keys that promise security that is not there, those that
//! ask for an ensemble, those that nobody knows, and the values. The server starts with [`Reading::accepted`]
//! only, so that no promise can be passed over.

mod ensemble;
mod host;
mod keys;
mod properties;
mod servers;
mod values;

pub use ensemble::{Ensemble, Surroundings};
pub use keys::{Asks, Effect, KEYS, Key, Promise, Refused};
pub use values::{Config, DigestAlgorithm, InlineSync, RingFeatures, Whitelist};

use crate::constants::{output_bytes_least, request_bytes_least};
use core::fmt;
use core::net::{Ipv4Addr, SocketAddr};
use ensemble::Wrong;
use properties::{Value, Values};
use std::path::Path;
use values::{SNAPSHOTS_LEAST, apache_defaults};

/// A configuration and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The values.
    pub config: Config,
    /// Keys without effect and values that were changed, one line each.
    pub warnings: Vec<String>,
}

/// A key that is set and promises security that is not there. Its text never holds the value, which
/// may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The line of the file, or the property of the command line.
    pub place: String,
    /// The key as it was written, without `zookeeper.`.
    pub key: String,
    /// What it promises.
    pub promise: &'static Promise,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal {
            place,
            key,
            promise: Promise { what, instead },
        } = self;
        write!(
            f,
            "{place}: {key} promises {what}, a promise that this version can't keep: {instead}"
        )
    }
}

/// A key that asks for an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The line of the file, or the property of the command line.
    pub place: String,
    /// The key as it was written, without `zookeeper.`.
    pub key: String,
    /// Completes "the key …".
    pub why: &'static str,
}

/// What is wrong with an ensemble for what only a server does that runs alone.
const ALONE: &str = "this is for a server that runs alone: name the configuration of one";

/// Every seat in one sentence.
fn ensemble(seats: &[Seat]) -> String {
    let servers = seats.iter().filter(|seat| servers::is_server(&seat.key));
    let asks = match servers.count() {
        0 | 1 => "asks for an ensemble".to_owned(),
        n => format!("names {n} servers"),
    };
    let places = seats
        .iter()
        .map(|Seat { place, key, .. }| format!("{place}: {key}"));
    let places: Vec<String> = places.collect();
    format!(
        "the configuration {asks} ({}), and {ALONE}",
        places.join(", ")
    )
}

/// Why a configuration can't be used. The operator corrects it; the exit code is 2, 34 for
/// [`ConfigError::Ensemble`], 36 for [`ConfigError::Insecure`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value is not of the form that its key needs.
    #[error("{place}: {key}={value} is not {expected}; correct the value")]
    Value {
        /// The line of the file, or the property of the command line.
        place: String,
        /// Key.
        key: String,
        /// The value as it was given.
        value: String,
        /// What the value should be.
        expected: &'static str,
    },
    /// A key that must be there is not.
    #[error("{0} is not set; add it to the configuration")]
    Missing(&'static str),
    /// Keys contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// Keys ask for an ensemble: at least one.
    #[error("{}", ensemble(.0))]
    Ensemble(Vec<Seat>),
    /// Keys promise security that is not there: at least one.
    #[error("{}", sentence(.0))]
    Insecure(Vec<Refusal>),
}

impl From<Wrong> for ConfigError {
    fn from(wrong: Wrong) -> ConfigError {
        match wrong {
            Wrong::Value {
                place,
                key,
                value,
                expected,
            } => ConfigError::Value {
                place,
                key,
                value,
                expected,
            },
            Wrong::Missing(what) => ConfigError::Missing(what),
            Wrong::Contradiction(sentence) => ConfigError::Contradiction(sentence),
        }
    }
}

/// The first refusal, and the names of the others.
fn sentence(refusals: &[Refusal]) -> String {
    let Some((first, more)) = refusals.split_first() else {
        return String::new();
    };
    let named: Vec<String> = more
        .iter()
        .map(|refusal| format!("{} ({})", refusal.key, refusal.place))
        .collect();
    match named.is_empty() {
        true => first.to_string(),
        false => format!(
            "{first}; the same holds for {}: `ringkeeper check` explains each",
            named.join(", ")
        ),
    }
}

/// What a configuration says: what can't be granted, what nobody knows, and the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    refusals: Vec<Refusal>,
    seats: Vec<Seat>,
    unknown: Vec<String>,
    values: Values,
    outcome: Result<Resolved, ConfigError>,
}

impl Reading {
    /// Every key that promises security that is not there, by the order of the keys' names.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// Every key that asks for an ensemble, by the order of the keys' names.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Every key that is not known, a sentence each; they are among the warnings of the outcome too.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The values as if there were no refusals and no ensemble: to look at, not to start with.
    ///
    /// # Errors
    /// [`ConfigError`], but for [`ConfigError::Insecure`] and [`ConfigError::Ensemble`].
    pub fn outcome(&self) -> Result<&Resolved, &ConfigError> {
        self.outcome.as_ref()
    }

    /// The file that names the servers of an ensemble, if another does than this one.
    pub fn dynamic_file(&self) -> Option<&Path> {
        ensemble::dynamic_file(&self.values).map(Path::new)
    }

    /// The ensemble that the configuration asks for. A server alone is none, and is not asked about.
    ///
    /// # Errors
    /// [`ConfigError`]: those of [`Reading::outcome`], and what is wrong with the ensemble.
    pub fn ensemble(&self, around: &Surroundings<'_>) -> Result<Ensemble, ConfigError> {
        let config = &self.outcome().map_err(ConfigError::clone)?.config;
        Ok(ensemble::read(&self.values, config, around)?)
    }

    /// What a member of the ensemble may start with that the configuration asks for.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Insecure`] before all others.
    pub fn member(self, around: &Surroundings<'_>) -> Result<(Resolved, Ensemble), ConfigError> {
        if !self.refusals.is_empty() {
            return Err(ConfigError::Insecure(self.refusals));
        }
        let ensemble = self.ensemble(around)?;
        let mut resolved = self.outcome?;
        if !self.values.contains_key("clientPort") {
            let Some((address, interface)) = &ensemble.clients else {
                return Err(ConfigError::Missing("clientPort"));
            };
            resolved.config.client_address = *address;
            resolved.config.client_interface = interface.clone();
        }
        let warnings = resolved.warnings.into_iter();
        resolved.warnings = warnings.filter_map(ensemble::in_an_ensemble).collect();
        resolved.warnings.extend(ensemble.warnings.iter().cloned());
        Ok((resolved, ensemble))
    }

    /// What a server may start with that stands alone.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Insecure`] before all others, then [`ConfigError::Ensemble`].
    pub fn accepted(self) -> Result<Resolved, ConfigError> {
        if !self.refusals.is_empty() {
            return Err(ConfigError::Insecure(self.refusals));
        }
        match self.seats.is_empty() {
            true => self.outcome,
            false => Err(ConfigError::Ensemble(self.seats)),
        }
    }
}

/// A configuration file, with `-D` properties that the file overrides.
pub fn from_file(text: &str, properties: &[(String, String)]) -> Reading {
    let mut values = from_properties(properties);
    for (key, text, line) in properties::parse(text) {
        let place = format!("line {line}");
        values.insert(plain(&key).to_owned(), Value { text, place });
    }
    let complete = || {
        let data_dir = values.get("dataDir");
        let data_dir = data_dir.ok_or(ConfigError::Missing("dataDir"))?;
        match (
            values.contains_key("clientPort"),
            values.contains_key("clientPortAddress"),
        ) {
            (true, _) => Ok(apache_defaults((&data_dir.text).into())),
            (false, true) => Err(ConfigError::Contradiction(
                "clientPortAddress is set and clientPort is not; set both".into(),
            )),
            // A line that names a server may say where its clients connect.
            (false, false) if may_have_client_part(&values) => {
                Ok(apache_defaults((&data_dir.text).into()))
            }
            (false, false) => Err(ConfigError::Missing("clientPort")),
        }
    };
    read(&values, complete())
}

/// The form `<port> <dataDir> [tickTime [maxClientCnxns]]`; without the last there is no limit.
pub fn from_positions(positions: &[String], properties: &[(String, String)]) -> Reading {
    let mut values = from_properties(properties);
    let named = ["clientPort", "dataDir", "tickTime", "maxClientCnxns"];
    for (key, text) in named.iter().zip(positions) {
        let (text, place) = (text.clone(), "command line".to_owned());
        values.insert((*key).to_owned(), Value { text, place });
    }
    let data_dir = match (positions.get(1), positions.get(named.len())) {
        (_, Some(one_more)) => Err(ConfigError::Contradiction(format!(
            "{one_more} is one argument too many: a port, a data directory, tickTime and maxClientCnxns are \
             expected"
        ))),
        (None, None) => Err(ConfigError::Missing("dataDir")),
        (Some(data_dir), None) => Ok(data_dir),
    };
    let defaults = data_dir.map(|data_dir| Config {
        max_client_connections: 0,
        ..apache_defaults(data_dir.into())
    });
    read(&values, defaults)
}

/// No configuration at all: a server to try things with.
pub fn embedded(state_dir: &Path, properties: &[(String, String)]) -> Reading {
    let defaults = Config {
        client_address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 2181),
        tick_time_ms: 2000,
        max_client_connections: 0,
        four_letter_words: Whitelist::All,
        ..apache_defaults(state_dir.join("ringkeeper"))
    };
    read(&from_properties(properties), Ok(defaults))
}

fn from_properties(properties: &[(String, String)]) -> Values {
    let named = |(key, text): &(String, String)| {
        let (text, place) = (text.trim().to_owned(), format!("property -D{key}"));
        (plain(key).to_owned(), Value { text, place })
    };
    properties.iter().map(named).collect()
}

/// A key's name: `zookeeper.snapCount` and `snapCount` are the same key.
fn plain(key: &str) -> &str {
    key.strip_prefix("zookeeper.").unwrap_or(key)
}

/// Whether the value of a property may be printed: of a key that is honoured and no password. Any other changes
/// nothing that a command would have to repeat.
pub fn may_be_shown(property: &str) -> bool {
    let key = keys::find(plain(property));
    key.is_some_and(|key| {
        matches!(key.effect, Effect::Honoured(_)) && key.name != keys::SUPER_DIGEST
    })
}

fn read(values: &Values, defaults: Result<Config, ConfigError>) -> Reading {
    Reading {
        refusals: refusals(values),
        seats: seats(values),
        unknown: unknown(values).collect(),
        values: values.clone(),
        outcome: defaults.and_then(|config| resolve(values, config)),
    }
}

/// The keys that ask for an ensemble: server lines, if there are several, and keys that are about nothing
/// else.
fn seats(values: &Values) -> Vec<Seat> {
    let several = server_lines(values).count() > 1;
    let seat = |(name, value): (&String, &Value)| {
        let why = match keys::find(name)?.effect {
            _ if servers::is_server(name) => several.then_some("names one of several servers")?,
            Effect::Ensemble(asks) if !(asks.is_off)(&value.text) => asks.why,
            _ => return None,
        };
        Some(Seat {
            place: value.place.clone(),
            key: name.clone(),
            why,
        })
    };
    values.iter().filter_map(seat).collect()
}

/// A sentence about each key that is not known.
fn unknown(values: &Values) -> impl Iterator<Item = String> {
    let unknown = values.iter().filter(|(name, _)| keys::find(name).is_none());
    unknown.map(|(name, Value { place, .. })| match keys::nearest(name) {
        Some(near) => format!("{place}: {name} is not known here; did you mean {near}?"),
        None => format!("{place}: {name} is not known here and has no effect"),
    })
}

/// The keys that promise what is not there, unless their value or their switch asks for nothing.
fn refusals(values: &Values) -> Vec<Refusal> {
    let refusal = |(name, value): (&String, &Value)| match keys::find(name)?.effect {
        Effect::Refused(refused) if asks(&refused, value, values) => Some(Refusal {
            place: value.place.clone(),
            key: name.clone(),
            promise: refused.promise,
        }),
        _ => None,
    };
    values.iter().filter_map(refusal).collect()
}

fn asks(refused: &Refused, value: &Value, values: &Values) -> bool {
    let switch = refused.switch.and_then(|switch| values.get(switch));
    !(refused.is_off)(&value.text) && !switch.is_some_and(|value| keys::is_false(&value.text))
}

/// Takes over every key that is honoured and set, then settles what belongs together.
fn resolve(values: &Values, mut config: Config) -> Result<Resolved, ConfigError> {
    let mut warnings = Vec::new();
    for key in KEYS {
        let (Effect::Honoured(set), Some(value)) = (key.effect, values.get(key.name)) else {
            continue;
        };
        set(&mut config, &value.text).ok_or_else(|| ConfigError::Value {
            place: value.place.clone(),
            key: key.name.to_owned(),
            value: value.text.clone(),
            expected: key.form,
        })?;
        if keys::is_taken_for_false(key, &value.text) {
            let Value { text, place } = value;
            let name = key.name;
            warnings.push(format!(
                "{place}: {name}={text} is taken for false, as Apache does"
            ));
        }
    }
    settle_client_address(values, &mut config, &mut warnings)?;
    settle_session_timeouts(&mut config)?;
    settle_digest_algorithm(values, &mut config);
    settle_required_schemes(values, &mut config, &mut warnings)?;
    settle_sizes(values, &mut config, &mut warnings)?;
    if config.skip_acl {
        warnings.push("skipACL=yes: permissions bind nobody".to_owned());
    }
    warn_about_the_rest(values, &mut warnings);
    Ok(Resolved { config, warnings })
}

/// The lines that name servers. One of them is a server that runs alone, as with Apache; more are an ensemble.
fn server_lines(values: &Values) -> impl Iterator<Item = (&String, &Value)> {
    values.iter().filter(|(key, _)| servers::is_server(key))
}

/// Whether a line that names a server may say where clients connect: one of these, or of another file.
fn may_have_client_part(values: &Values) -> bool {
    let mut lines = server_lines(values);
    lines.any(|(_, line)| servers::client_part(&line.text).is_some())
        || values.contains_key("dynamicConfigFile")
}

/// A single server line says where clients connect, unless `clientPort` does; the rest of it is for an
/// ensemble.
fn settle_client_address(
    values: &Values,
    config: &mut Config,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut lines = server_lines(values);
    let (Some((key, line)), None) = (lines.next(), lines.next()) else {
        return Ok(());
    };
    let place = &line.place;
    let alone = format!("{place}: {key} is the only server line, the server runs alone");
    let Some(part) = servers::client_part(&line.text) else {
        warnings.push(alone);
        return Ok(());
    };
    let (told, interface) = servers::client_address(part).ok_or_else(|| ConfigError::Value {
        place: place.clone(),
        key: key.clone(),
        value: line.text.clone(),
        expected: "a line whose client part is [address:]port (names are not resolved)",
    })?;
    let own = config.client_address;
    let is_same = (told, &interface) == (own, &config.client_interface);
    let agree = is_same || told.port() == own.port() && own.ip().is_unspecified();
    let shown = host::shown(told, interface.as_deref());
    if !values.contains_key("clientPort") {
        (config.client_address, config.client_interface) = (told, interface);
        warnings.push(format!("{alone}, for clients at {shown}"));
    } else if agree {
        warnings.push(alone);
    } else {
        warnings.push(format!(
            "{alone}; it names another client address ({shown}) than clientPort, which counts"
        ));
    }
    Ok(())
}

/// Without a key, or with −1, the shortest timeout is 2 ticks and the longest 20.
fn settle_session_timeouts(config: &mut Config) -> Result<(), ConfigError> {
    let tick = config.tick_time_ms;
    let ticks = |n: u64| i32::try_from(tick.saturating_mul(n)).unwrap_or(i32::MAX);
    let (min, max) = (
        &mut config.session_timeout_min_ms,
        &mut config.session_timeout_max_ms,
    );
    if *min == -1 {
        *min = ticks(2);
    }
    if *max == -1 {
        *max = ticks(20);
    }
    match min <= max {
        true => Ok(()),
        false => Err(ConfigError::Contradiction(format!(
            "minSessionTimeout ({min}) is above maxSessionTimeout ({max}); correct one of them"
        ))),
    }
}

/// What digests are made with. The key is found in any case of letters; a name that is none of an algorithm's
/// refuses the start elsewhere.
fn settle_digest_algorithm(values: &Values, config: &mut Config) {
    let mut named = values.iter().filter(|(key, _)| {
        let found = keys::find(key);
        found.is_some_and(|key| key.name == keys::DIGEST_ALGORITHM_KEY)
    });
    let algorithm = named.find_map(|(_, value)| keys::digest_algorithm(&value.text));
    config.digest_algorithm = algorithm.unwrap_or(config.digest_algorithm);
}

/// The schemes of which a client must have an identity. As all keys that promise security, these two are found
/// in any case of letters.
fn settle_required_schemes(
    values: &Values,
    config: &mut Config,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let of = |name: &'static str| {
        let values = values.iter();
        values.filter(move |(key, _)| key.eq_ignore_ascii_case(name))
    };
    let switch = of("enforce.auth.enabled").find(|(_, value)| keys::is_true(&value.text));
    let schemes = of("enforce.auth.schemes").flat_map(|(_, value)| keys::schemes(&value.text));
    let schemes: Vec<String> = schemes.map(str::to_owned).collect();
    match switch {
        Some((key, Value { place, .. })) if schemes.is_empty() => {
            Err(ConfigError::Contradiction(format!(
                "{place}: {key} is true and enforce.auth.schemes names no scheme; name digest, ip or both"
            )))
        }
        Some(_) => {
            if schemes.iter().any(|scheme| scheme == "ip") {
                warnings.push(
                    "enforce.auth.schemes names ip, and every client has an identity of its address: nobody is \
                     turned away"
                        .into(),
                );
            }
            config.required_schemes = schemes;
            Ok(())
        }
        None => {
            if !schemes.is_empty() {
                warnings.push(
                    "enforce.auth.schemes has no effect without enforce.auth.enabled=true: nobody is \
                     turned away"
                        .into(),
                );
            }
            Ok(())
        }
    }
}

/// Holds sizes against each other: a default follows `jute.maxbuffer`, a value that is set and too
/// small is an error.
fn settle_sizes(
    values: &Values,
    config: &mut Config,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    if config.snap_retain < SNAPSHOTS_LEAST {
        let key = "autopurge.snapRetainCount";
        warnings.push(format!(
            "{key} is below {SNAPSHOTS_LEAST}, {SNAPSHOTS_LEAST} snapshots are kept"
        ));
        config.snap_retain = SNAPSHOTS_LEAST;
    }
    let frame = config.jute_maxbuffer;
    config.segment_bytes = config.segment_bytes.max(segment_bytes_min(frame));
    let bounds = [
        (
            "ringkeeper.requestBytesMax",
            &mut config.request_bytes_max,
            request_bytes_least(frame),
        ),
        (
            "ringkeeper.outputBytesMax",
            &mut config.output_bytes_max,
            output_bytes_least(frame),
        ),
    ];
    for (key, bound, least) in bounds {
        match values.get(key) {
            _ if *bound >= least => {}
            Some(Value { place, .. }) => {
                return Err(ConfigError::Contradiction(format!(
                    "{place}: {key} ({bound} bytes) is below {least} bytes, the least beside \
                     jute.maxbuffer={frame}; raise it, or lower jute.maxbuffer"
                )));
            }
            None => {
                warnings.push(format!(
                    "{key} is raised to {least} bytes for jute.maxbuffer={frame}"
                ));
                *bound = least;
            }
        }
    }
    Ok(())
}

/// Twice the largest record that a client's frame can become, rounded up.
fn segment_bytes_min(jute_maxbuffer: usize) -> u64 {
    (4 * jute_maxbuffer as u64 + (64 << 10)).next_multiple_of(4096)
}

fn warn_about_the_rest(values: &Values, warnings: &mut Vec<String>) {
    for (name, Value { place, .. }) in values {
        if let Some(Effect::NoEffect(why)) = keys::find(name).map(|key| key.effect) {
            warnings.push(format!(
                "{place}: {name} is accepted and has no effect: {why}"
            ));
        }
    }
    warnings.extend(unknown(values));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn file(text: &str) -> Result<Resolved, ConfigError> {
        from_file(text, &[]).accepted()
    }

    #[test]
    fn a_sample_file_has_apaches_defaults() {
        let text = "# The number of milliseconds of each tick\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n\
                    dataDir=/tmp/zookeeper\nclientPort=2181\n";
        let Resolved { config, warnings } = file(text).unwrap();
        assert_eq!(config.client_address.to_string(), "0.0.0.0:2181");
        assert_eq!(
            (config.session_timeout_min_ms, config.session_timeout_max_ms),
            (4000, 40_000)
        );
        assert_eq!(
            (
                config.max_client_connections,
                config.purge,
                config.snap_retain
            ),
            (60, true, 3)
        );
        assert_eq!(config.data_log_dir, PathBuf::from("/tmp/zookeeper"));
        assert!(
            config.four_letter_words.allows("srvr") && !config.four_letter_words.allows("ruok")
        );
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("line 3: initLimit is accepted and has no effect"));
    }

    #[test]
    fn every_honoured_key_is_read() {
        let text = "dataDir: /d\ndataLogDir /l\nclientPort = 2182\nclientPortAddress=::1\ntickTime=100\n\
                    minSessionTimeout=300\nmaxSessionTimeout=900\nmaxClientCnxns=7\nsnapCount=9\n\
                    autopurge.snapRetainCount=5\nautopurge.purgeInterval=0\n\
                    zookeeper.4lw.commands.whitelist=stat, ruok\\\n  , mntr\npreAllocSize=8192\n\
                    clientPortListenBacklog=128\njute.maxbuffer=1048576\nringkeeper.allowVolatileLog=TRUE\nshards=3\npin=false\n\
                    globalOutstandingLimit=77\nringkeeper.ring=plain\nringkeeper.inlineSync=never\n\
                    ringkeeper.requestBytesMax=64m\nringkeeper.outputBytesMax=32768k\n\
                    ringkeeper.watchBytesMax=1G\nringkeeper.identitiesMax=5\nringkeeper.aclEntriesMax=6\n\
                    ringkeeper.detachedLogBytes=512m\nringkeeper.memoryMax=4g\nreadonlymode.enabled=true\n\
                    extendedTypesEnabled=True\n\
                    znode.container.checkIntervalMs=700\nznode.container.maxPerMinute=8\n\
                    znode.container.maxNeverUsedIntervalMs=900\n\
                    reconfigEnabled=true\nenforceQuota=true\n\
                    skipACL=yes\nDigestAuthenticationProvider.superDigest=super:h\n";
        for key in KEYS {
            let is_there = text.contains(key.name);
            assert!(
                is_there || !matches!(key.effect, Effect::Honoured(_)),
                "{}",
                key.name
            );
        }
        let Resolved { config, warnings } = file(text).unwrap();
        assert_eq!(warnings, ["skipACL=yes: permissions bind nobody"]);
        assert_eq!(config.client_address.to_string(), "[::1]:2182");
        assert_eq!(
            (config.data_dir.to_str(), config.data_log_dir.to_str()),
            (Some("/d"), Some("/l"))
        );
        assert_eq!(
            (config.session_timeout_min_ms, config.session_timeout_max_ms),
            (300, 900)
        );
        assert_eq!(
            (
                config.max_client_connections,
                config.snap_count,
                config.snap_retain
            ),
            (7, 9, 5)
        );
        assert_eq!(
            (config.purge, config.segment_bytes, config.backlog),
            (false, 8 << 20, 128)
        );
        assert!(
            config.four_letter_words.allows("mntr") && !config.four_letter_words.allows("cons")
        );
        assert!(config.allow_volatile_log && config.extended_types);
        assert_eq!(
            (
                config.container_check_ms,
                config.containers_per_minute,
                config.container_never_used_ms
            ),
            (700, 8, 900)
        );
        assert_eq!((config.shards, config.pin), (Some(3), Some(false)));
        assert_eq!(
            (config.ring, config.inline_sync, config.outstanding_max),
            (RingFeatures::Plain, InlineSync::Never, 77)
        );
        assert_eq!(
            (
                config.request_bytes_max,
                config.output_bytes_max,
                config.watch_bytes_max
            ),
            (64 << 20, 32 << 20, 1 << 30)
        );
        assert_eq!((config.identities_max, config.acl_entries_max), (5, 6));
        assert_eq!(config.detached_log_bytes, 512 << 20);
        assert_eq!(config.memory_max(0), 4 << 30);
        assert!(config.read_only_mode);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let base = "dataDir=/d\nclientPort=1\n";
        for (more, due) in [
            (
                "tickTime=0",
                "line 3: tickTime=0 is not a number of milliseconds above 0",
            ),
            ("tickTime=x", "line 3: tickTime=x is not"),
            ("clientPort=70000", "line 3: clientPort=70000 is not a port"),
            ("clientPortAddress=nowhere", "is not an address"),
            (
                "clientPortAddress=fe80::1%",
                "line 3: clientPortAddress=fe80::1% is not an address",
            ),
            (
                "minSessionTimeout=9\nmaxSessionTimeout=8",
                "is above maxSessionTimeout",
            ),
            ("ringkeeper.allowVolatileLog=yes", "is not true or false"),
            (
                "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2",
                "names 3 servers",
            ),
        ] {
            let said = file(&format!("{base}{more}")).unwrap_err().to_string();
            assert!(said.contains(due), "{more}: {said}");
        }
        assert_eq!(file("clientPort=1"), Err(ConfigError::Missing("dataDir")));
        assert_eq!(file("dataDir=/d"), Err(ConfigError::Missing("clientPort")));
        let near = file(&format!("{base}tickTme=5")).unwrap().warnings;
        assert_eq!(
            near,
            ["line 3: tickTme is not known here; did you mean tickTime?"]
        );
        let reading = from_file(
            &format!("{base}tickTme=5"),
            &[("no.such".into(), "1".into())],
        );
        let unknown = [
            "property -Dno.such: no.such is not known here and has no effect",
            "line 3: tickTme is not known here; did you mean tickTime?",
        ];
        assert_eq!(reading.unknown(), unknown);
        assert_eq!(
            file(&format!("{base}server.1=a:1:2"))
                .unwrap()
                .warnings
                .len(),
            1
        );
    }

    #[test]
    fn properties_positions_and_the_embedded_default() {
        let set = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let file = from_file(
            "dataDir=/d\nclientPort=1\nsnapCount=5",
            &[set("zookeeper.snapCount", "7"), set("tickTime", "9")],
        );
        let config = file.accepted().unwrap().config;
        assert_eq!(
            (config.snap_count, config.tick_time_ms),
            (5, 9),
            "the file overrides"
        );
        let positions = ["2183", "/p", "1000"].map(String::from);
        let config = from_positions(&positions, &[]).accepted().unwrap().config;
        assert_eq!(
            (config.client_address.port(), config.max_client_connections),
            (2183, 0)
        );
        let positions = ["2183", "/p", "1000", "7", "more"].map(String::from);
        let config = from_positions(&positions[..4], &[])
            .accepted()
            .unwrap()
            .config;
        assert_eq!(
            (config.tick_time_ms, config.max_client_connections),
            (1000, 7)
        );
        let said = from_positions(&positions, &[]).accepted().unwrap_err();
        assert!(
            said.to_string()
                .starts_with("more is one argument too many")
        );
        let config = embedded(Path::new("/state"), &[set("clientPort", "0")])
            .accepted()
            .unwrap()
            .config;
        assert_eq!(config.data_dir, Path::new("/state/ringkeeper"));
        assert_eq!(config.client_address.to_string(), "127.0.0.1:0");
        assert!(config.four_letter_words.allows("cons"));
    }

    #[test]
    fn a_promise_of_security_is_refused_with_its_place() {
        let base = "dataDir=/d\nclientPort=1\n";
        let reading = from_file(
            &format!("{base}tickTime=0\nssl.keyStore.password=swordfish\nzookeeper.sslQuorum=true"),
            &[(
                "zookeeper.sessionRequireClientSASLAuth".into(),
                "true".into(),
            )],
        );
        let places: Vec<(&str, &str)> = reading
            .refusals()
            .iter()
            .map(|refusal| (refusal.key.as_str(), refusal.place.as_str()))
            .collect();
        assert_eq!(
            places,
            [
                (
                    "sessionRequireClientSASLAuth",
                    "property -Dzookeeper.sessionRequireClientSASLAuth"
                ),
                ("ssl.keyStore.password", "line 4"),
                ("sslQuorum", "line 5"),
            ]
        );
        assert!(matches!(reading.outcome(), Err(ConfigError::Value { .. })));
        let said = reading.accepted().unwrap_err().to_string();
        assert!(said.contains("promises that clients without authentication are turned away"));
        assert!(said.contains("ssl.keyStore.password (line 4), sslQuorum (line 5)"));
        assert!(
            !said.contains("swordfish") && !said.contains('\n'),
            "{said}"
        );
    }

    #[test]
    fn a_promise_is_kept_apart_from_what_switches_it_off() {
        let refused = |text: &str| {
            let reading = from_file(&format!("dataDir=/d\nclientPort=1\n{text}"), &[]);
            let keys = reading.refusals().iter().map(|refusal| refusal.key.clone());
            keys.collect::<Vec<String>>()
        };
        for (text, due) in [
            ("enforce.auth.schemes=sasl", &["enforce.auth.schemes"][..]),
            ("enforce.auth.schemes=sasl\nenforce.auth.enabled=False", &[]),
            (
                "enforce.auth.schemes=digest, sasl\nenforce.auth.enabled=true",
                &["enforce.auth.schemes"],
            ),
            ("enforce.auth.schemes=x509", &["enforce.auth.schemes"]),
            (
                "enforce.auth.schemes=digest,ip\nenforce.auth.enabled=true",
                &[],
            ),
            ("enforce.auth.enabled=yes", &["enforce.auth.enabled"]),
            (
                "quorum.auth.kerberos.servicePrincipal=a/b",
                &["quorum.auth.kerberos.servicePrincipal"],
            ),
            (
                "quorum.auth.kerberos.servicePrincipal=a/b\nquorum.auth.enableSasl=false",
                &[],
            ),
            (
                "ssl.quorum.keyStore.location=/k",
                &["ssl.quorum.keyStore.location"],
            ),
            ("ssl.quorum.keyStore.location=/k\nsslQuorum=false", &[]),
            // What belongs to clients is not switched off with the servers' part.
            (
                "ssl.keyStore.location=/k\nsslQuorum=false",
                &["ssl.keyStore.location"],
            ),
            ("sslQuorum=true\nsslQuorum=false", &[]),
            ("sslQuorum=no", &["sslQuorum"]),
            ("SSLquorum=true", &["SSLquorum"]),
            ("SSL.keystore.location=/k", &["SSL.keystore.location"]),
            ("server.1=h:1:2;2181", &[]),
            ("server.1=h:1:2;;2281", &["server.1"]),
            ("skipACL=yes\nsuperUser=CN=root", &[]),
        ] {
            assert_eq!(refused(text), due, "{text}");
        }
        assert_eq!(refused("secureClientPort=2281\n").len(), 1);
    }

    #[test]
    fn digests_are_made_with_the_algorithm_that_is_named() {
        let base = "dataDir=/d\nclientPort=1\n";
        let key = "DigestAuthenticationProvider.digestAlg";
        for (text, due) in [
            (String::new(), DigestAlgorithm::Sha1),
            (format!("{key}=sha"), DigestAlgorithm::Sha1),
            (format!("{key}=SHA-256"), DigestAlgorithm::Sha256),
            (
                format!("zookeeper.{key}=sha512/256"),
                DigestAlgorithm::Sha512_256,
            ),
            (
                format!("{}=SHA384", key.to_uppercase()),
                DigestAlgorithm::Sha384,
            ),
        ] {
            let read = from_file(&format!("{base}{text}"), &[]).accepted().unwrap();
            assert_eq!(read.config.digest_algorithm, due, "{text}");
        }
        for name in ["MD5", "SHA3-256", "SHA-257", ""] {
            let read = from_file(&format!("{base}{key}={name}"), &[]).accepted();
            assert!(
                matches!(read, Err(ConfigError::Insecure(_))),
                "{name}: {read:?}"
            );
        }
    }

    #[test]
    fn schemes_are_required_when_both_keys_say_so() {
        let base = "dataDir=/d\nclientPort=1\n";
        let required = |text: &str| {
            file(&format!("{base}{text}"))
                .unwrap()
                .config
                .required_schemes
        };
        for (text, due) in [
            ("", &[][..]),
            (
                "enforce.auth.enabled=false\nenforce.auth.schemes=digest",
                &[],
            ),
            (
                "enforce.auth.enabled=TRUE\nenforce.auth.schemes= digest , ip,",
                &["digest", "ip"],
            ),
            (
                "zookeeper.enforce.auth.enabled=true\nzookeeper.enforce.auth.schemes=ip",
                &["ip"],
            ),
            // A slip of the shift key is not taken for protection that is off.
            (
                "Enforce.Auth.enabled=true\nenforce.auth.Schemes=digest",
                &["digest"],
            ),
        ] {
            assert_eq!(required(text), due, "{text}");
        }
        for text in [
            "enforce.auth.enabled=true",
            "enforce.auth.enabled=true\nenforce.auth.schemes=,",
        ] {
            let said = file(&format!("{base}{text}")).unwrap_err().to_string();
            assert!(said.contains("names no scheme"), "{said}");
        }
        let warned = file(&format!("{base}enforce.auth.schemes=digest")).unwrap();
        assert_eq!(
            (warned.warnings.len(), warned.config.required_schemes.len()),
            (1, 0)
        );
        for (schemes, due) in [("digest", 0), ("digest,ip", 1), ("ip", 1)] {
            let text = format!("{base}enforce.auth.enabled=true\nenforce.auth.schemes={schemes}");
            let said = file(&text).unwrap().warnings;
            assert_eq!(said.len(), due, "{said:?}");
            let open = |line: &String| line.ends_with("nobody is turned away");
            assert!(said.iter().all(open), "{said:?}");
        }
    }

    #[test]
    fn a_switch_that_apache_reads_as_a_property_is_false_when_it_is_not_true_and_that_is_said() {
        let base = "dataDir=/d\nclientPort=1\n";
        for key in [
            "enforceQuota",
            "extendedTypesEnabled",
            "readonlymode.enabled",
        ] {
            for (value, on, said) in [
                ("true", true, false),
                ("TRUE", true, false),
                ("False", false, false),
                ("no", false, true),
                ("yes", false, true),
                ("1", false, true),
                ("", false, true),
            ] {
                let Resolved { config, warnings } = file(&format!("{base}{key}={value}")).unwrap();
                let found = match key {
                    "enforceQuota" => config.enforce_quota,
                    "extendedTypesEnabled" => config.extended_types,
                    _ => config.read_only_mode,
                };
                assert_eq!(found, on, "{key}={value}");
                let due = format!("line 3: {key}={value} is taken for false, as Apache does");
                assert_eq!(warnings, Vec::from_iter(said.then_some(due)));
            }
        }
        // Apache's parser of the file knows this one, and wants one of the two.
        let said = file(&format!("{base}reconfigEnabled=no")).unwrap_err();
        assert!(matches!(said, ConfigError::Value { .. }), "{said}");
    }

    #[test]
    fn sizes_follow_the_largest_frame_or_are_refused() {
        let base = "dataDir=/d\nclientPort=1\n";
        let config = file(base).unwrap().config;
        assert_eq!(
            (
                config.request_bytes_max,
                config.output_bytes_max,
                config.watch_bytes_max
            ),
            (128 << 20, 256 << 20, 512 << 20)
        );
        let Resolved { config, warnings } =
            file(&format!("{base}jute.maxbuffer=0x10000000")).unwrap();
        assert_eq!(
            (
                config.jute_maxbuffer,
                config.request_bytes_max,
                config.output_bytes_max
            ),
            (256 << 20, 512 << 20, 512 << 20)
        );
        assert!(config.segment_bytes >= 4 * (256 << 20));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for (more, due) in [
            (
                "jute.maxbuffer=1m\nringkeeper.requestBytesMax=2097151",
                "line 4: ringkeeper.requestBytesMax (2097151 bytes) is below 2097152 bytes, the \
                 least beside jute.maxbuffer=1048576",
            ),
            (
                "ringkeeper.outputBytesMax=8191k",
                "ringkeeper.outputBytesMax (8387584 bytes) is below 8388608 bytes",
            ),
            (
                "jute.maxbuffer=513m",
                "is not a number of bytes from 1024 to 512m",
            ),
        ] {
            let said = file(&format!("{base}{more}")).unwrap_err().to_string();
            assert!(said.contains(due), "{more}: {said}");
        }
        let least =
            "jute.maxbuffer=1m\nringkeeper.requestBytesMax=2M\nringkeeper.outputBytesMax=8m";
        assert_eq!(
            file(&format!("{base}{least}")).unwrap().warnings,
            Vec::<String>::new()
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).*") {
            let _ = file(&text);
        }

        #[test]
        fn no_value_of_a_known_key_panics(at in 0..KEYS.len(), value in "[0-9a-zA-Zµ.:;-]{0,24}") {
            let name = KEYS[at].name.replace('*', "1");
            let _ = file(&format!("dataDir=/d\nclientPort=1\n{name}={value}"));
        }
    }
}
