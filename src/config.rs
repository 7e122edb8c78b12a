//! `zoo.cfg` and the properties that go with it (client.md §9): text in, resolved values out.
//! Nothing here looks at the machine; what the environment says is an argument.

use crate::constants::{JUTE_MAXBUFFER, SEGMENT_BYTES, SEGMENT_BYTES_MIN};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More serving cores than this have never been tried.
const SHARDS_MAX: u16 = 64;

/// What the server runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Snapshots.
    pub data_dir: PathBuf,
    /// Log segments.
    pub data_log_dir: PathBuf,
    /// Where clients connect.
    pub client_address: SocketAddr,
    /// ms.
    pub tick_time_ms: u64,
    /// ms.
    pub session_timeout_min_ms: i32,
    /// ms.
    pub session_timeout_max_ms: i32,
    /// Connections per address; 0 = no limit.
    pub max_client_connections: u32,
    /// `clientPortListenBacklog`; −1 = the system's.
    pub backlog: i32,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// Snapshots that a purge keeps.
    pub snap_retain: usize,
    /// Whether older snapshots and log segments are removed.
    pub purge: bool,
    /// Preallocated size of a log segment, bytes.
    pub segment_bytes: u64,
    /// `jute.maxbuffer`, bytes.
    pub jute_maxbuffer: usize,
    /// Which four-letter words are answered.
    pub four_letter_words: Whitelist,
    /// `shards`: serving cores; `None`: by the machine; 0 = inline.
    pub shards: Option<u16>,
    /// `pin`: whether cores are pinned; `None`: only if this process may use a part of the machine.
    pub pin: Option<bool>,
    /// `ringkeeper.allowVolatileLog`: a log on tmpfs or NFS is accepted.
    pub allow_volatile_log: bool,
}

/// `4lw.commands.whitelist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whitelist {
    /// `*`.
    All,
    /// These; `srvr` always.
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

/// A configuration and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The values.
    pub config: Config,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Why a configuration can't be used. The operator corrects it; exit code 2, or 34 for ensembles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value is none.
    #[error("{place}: {key}={value} is not {expected}; correct the value")]
    Value {
        /// Line of the file, or where else it came from.
        place: String,
        /// Key.
        key: String,
        /// As given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A key that must be there is not.
    #[error("{0} is not set; add it to the configuration")]
    Missing(&'static str),
    /// Keys contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// Two or more voters.
    #[error(
        "the configuration names {0} servers, and this version runs one server alone: keep one \
         server line, or use Apache ZooKeeper for the ensemble until ours can form one"
    )]
    Ensemble(usize),
}

/// Keys of Apache's server that are read and change nothing here yet, and why.
const NO_EFFECT: [(&str, &str); 21] = [
    ("initLimit", "it belongs to ensembles"),
    ("syncLimit", "it belongs to ensembles"),
    ("connectToLearnerMasterLimit", "it belongs to ensembles"),
    ("electionAlg", "it belongs to ensembles"),
    ("peerType", "it belongs to ensembles"),
    ("standaloneEnabled", "it belongs to ensembles"),
    ("reconfigEnabled", "reconfiguration comes with ensembles"),
    ("dynamicConfigFile", "reconfiguration comes with ensembles"),
    ("quorumListenOnAllIPs", "it belongs to ensembles"),
    ("syncEnabled", "it belongs to observers"),
    ("localSessionsEnabled", "all sessions are global"),
    ("localSessionsUpgradingEnabled", "all sessions are global"),
    (
        "secureClientPort",
        "TLS is not there yet: clients can't connect to this port",
    ),
    ("secureClientPortAddress", "TLS is not there yet"),
    ("serverCnxnFactory", "there is one way to serve connections"),
    ("admin.enableServer", "the AdminServer is not there yet"),
    ("admin.serverPort", "the AdminServer is not there yet"),
    (
        "metricsProvider.className",
        "metrics are in the four-letter word mntr only",
    ),
    (
        "metricsProvider.httpPort",
        "metrics are in the four-letter word mntr only",
    ),
    ("forceSync", "every acknowledged write is synced"),
    ("extendedTypesEnabled", "TTL nodes are not there yet"),
];

/// Keys that are honoured.
const HONOURED: [&str; 18] = [
    "dataDir",
    "dataLogDir",
    "clientPort",
    "clientPortAddress",
    "clientPortListenBacklog",
    "tickTime",
    "minSessionTimeout",
    "maxSessionTimeout",
    "maxClientCnxns",
    "snapCount",
    "autopurge.snapRetainCount",
    "autopurge.purgeInterval",
    "4lw.commands.whitelist",
    "preAllocSize",
    "jute.maxbuffer",
    "shards",
    "pin",
    "ringkeeper.allowVolatileLog",
];

/// A key's value and where it stands.
type Values = BTreeMap<String, (String, String)>;

/// Splits a Java properties file: `=`, `:` or blank behind the key, `#` and `!` comments, backslash
/// continuation and escapes, last duplicate wins. (key, value, line number) in file order.
pub fn parse_properties(text: &str) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, first)) = lines.next() {
        let mut logical = first.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, more)) => logical += more.trim_start(),
                None => break,
            }
        }
        let (key, value) = split_property(&logical);
        found.push((unescape(key), unescape(value).trim().to_owned(), number + 1));
    }
    found
}

/// An odd number of backslashes at the end.
fn continues(line: &str) -> bool {
    line.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1
}

fn split_property(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == '=' || c == ':' || c.is_whitespace() {
            let value = line[at..].trim_start();
            let value = value.strip_prefix(['=', ':']).unwrap_or(value);
            return (&line[..at], value.trim_start());
        }
    }
    (line, "")
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16)
                    .ok()
                    .and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// A configuration file, with `-D` properties that the file overrides.
///
/// # Errors
/// [`ConfigError`].
pub fn from_file(text: &str, properties: &[(String, String)]) -> Result<Resolved, ConfigError> {
    let mut values = from_properties(properties);
    for (key, value, line) in parse_properties(text) {
        values.insert(plain(&key).to_owned(), (value, format!("line {line}")));
    }
    let data_dir = values
        .get("dataDir")
        .ok_or(ConfigError::Missing("dataDir"))?
        .0
        .clone();
    let mut config = apache_defaults(PathBuf::from(data_dir));
    let mut reader = Reader {
        values,
        warnings: Vec::new(),
    };
    if reader.values.contains_key("clientPortAddress") && !reader.values.contains_key("clientPort")
    {
        return Err(ConfigError::Contradiction(
            "clientPortAddress is set and clientPort is not; set both".into(),
        ));
    }
    if !reader.values.contains_key("clientPort") {
        return Err(ConfigError::Missing("clientPort"));
    }
    reader.fill(&mut config)?;
    Ok(Resolved {
        config,
        warnings: reader.warnings,
    })
}

/// The form `<port> <dataDir> [tickTime] [maxClientCnxns]`; without the last there is no limit.
///
/// # Errors
/// [`ConfigError`].
pub fn from_positions(
    positions: &[String],
    properties: &[(String, String)],
) -> Result<Resolved, ConfigError> {
    let mut values = from_properties(properties);
    for (key, value) in ["clientPort", "dataDir", "tickTime", "maxClientCnxns"]
        .iter()
        .zip(positions)
    {
        values.insert(
            (*key).to_owned(),
            (value.clone(), "command line".to_owned()),
        );
    }
    let data_dir = positions.get(1).ok_or(ConfigError::Missing("dataDir"))?;
    let mut config = Config {
        max_client_connections: 0,
        ..apache_defaults(data_dir.into())
    };
    let mut reader = Reader {
        values,
        warnings: Vec::new(),
    };
    reader.fill(&mut config)?;
    Ok(Resolved {
        config,
        warnings: reader.warnings,
    })
}

/// No configuration at all: a server to try things with.
///
/// # Errors
/// [`ConfigError`], for a `-D` property.
pub fn embedded(
    state_dir: &Path,
    properties: &[(String, String)],
) -> Result<Resolved, ConfigError> {
    let mut config = Config {
        client_address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 2181),
        tick_time_ms: 2000,
        max_client_connections: 0,
        four_letter_words: Whitelist::All,
        ..apache_defaults(state_dir.join("ringkeeper"))
    };
    let mut reader = Reader {
        values: from_properties(properties),
        warnings: Vec::new(),
    };
    reader.fill(&mut config)?;
    Ok(Resolved {
        config,
        warnings: reader.warnings,
    })
}

fn from_properties(properties: &[(String, String)]) -> Values {
    let named = |(key, value): &(String, String)| {
        (
            plain(key).to_owned(),
            (value.clone(), "command line".to_owned()),
        )
    };
    properties.iter().map(named).collect()
}

/// `zookeeper.snapCount` and `snapCount` are the same key.
fn plain(key: &str) -> &str {
    key.strip_prefix("zookeeper.").unwrap_or(key)
}

fn apache_defaults(data_dir: PathBuf) -> Config {
    Config {
        data_log_dir: data_dir.clone(),
        data_dir,
        client_address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 2181),
        tick_time_ms: 3000,
        session_timeout_min_ms: -1,
        session_timeout_max_ms: -1,
        max_client_connections: 60,
        backlog: -1,
        snap_count: 100_000,
        snap_retain: 3,
        purge: true,
        segment_bytes: SEGMENT_BYTES,
        jute_maxbuffer: JUTE_MAXBUFFER,
        four_letter_words: Whitelist::Words(Vec::new()),
        shards: None,
        pin: None,
        allow_volatile_log: false,
    }
}

struct Reader {
    values: Values,
    warnings: Vec<String>,
}

impl Reader {
    /// Takes over every key that is set, then checks what belongs together.
    fn fill(&mut self, config: &mut Config) -> Result<(), ConfigError> {
        self.check_servers()?;
        if let Some((value, _)) = self.values.get("dataDir") {
            config.data_dir = value.into();
            config.data_log_dir = value.into();
        }
        if let Some((value, _)) = self.values.get("dataLogDir") {
            config.data_log_dir = value.into();
        }
        self.address(config)?;
        self.number(
            "tickTime",
            "a number of milliseconds above 0",
            1,
            &mut config.tick_time_ms,
        )?;
        self.number(
            "clientPortListenBacklog",
            "a number",
            -1,
            &mut config.backlog,
        )?;
        self.number(
            "maxClientCnxns",
            "a number",
            0,
            &mut config.max_client_connections,
        )?;
        self.number("snapCount", "a number above 1", 2, &mut config.snap_count)?;
        self.number(
            "autopurge.snapRetainCount",
            "a number",
            0,
            &mut config.snap_retain,
        )?;
        if config.snap_retain < 3 {
            self.warnings
                .push("autopurge.snapRetainCount is below 3, 3 snapshots are kept".into());
            config.snap_retain = 3;
        }
        let mut purge_interval = 1u32;
        self.number(
            "autopurge.purgeInterval",
            "a number of hours",
            0,
            &mut purge_interval,
        )?;
        config.purge = purge_interval > 0;
        self.number(
            "jute.maxbuffer",
            "a number of bytes above 1023",
            1024,
            &mut config.jute_maxbuffer,
        )?;
        let mut kib = config.segment_bytes >> 10;
        self.number(
            "preAllocSize",
            "a number of KiB above 63",
            SEGMENT_BYTES_MIN >> 10,
            &mut kib,
        )?;
        config.segment_bytes = (kib << 10).max(segment_bytes_min(config.jute_maxbuffer));
        self.boolean(
            "ringkeeper.allowVolatileLog",
            &mut config.allow_volatile_log,
        )?;
        if self.values.contains_key("shards") {
            let mut shards = 0;
            self.number("shards", "a number from 0 to 64", 0u16, &mut shards)?;
            if shards > SHARDS_MAX {
                return Err(self.value_error("shards", "a number from 0 to 64"));
            }
            config.shards = Some(shards);
        }
        if self.values.contains_key("pin") {
            let mut pin = false;
            self.boolean("pin", &mut pin)?;
            config.pin = Some(pin);
        }
        self.whitelist(config);
        self.session_timeouts(config)?;
        self.warn_about_the_rest();
        Ok(())
    }

    fn value_error(&self, key: &str, expected: &'static str) -> ConfigError {
        let (value, place) = self.values.get(key).cloned().unwrap_or_default();
        ConfigError::Value {
            place,
            key: key.to_owned(),
            value,
            expected,
        }
    }

    fn number<T: std::str::FromStr + PartialOrd>(
        &self,
        key: &str,
        expected: &'static str,
        least: T,
        target: &mut T,
    ) -> Result<(), ConfigError> {
        if let Some((value, _)) = self.values.get(key) {
            let parsed = value.parse().ok().filter(|n| *n >= least);
            *target = parsed.ok_or_else(|| self.value_error(key, expected))?;
        }
        Ok(())
    }

    fn boolean(&self, key: &str, target: &mut bool) -> Result<(), ConfigError> {
        if let Some((value, _)) = self.values.get(key) {
            *target = match value.to_ascii_lowercase().as_str() {
                "true" => true,
                "false" => false,
                _ => return Err(self.value_error(key, "true or false")),
            };
        }
        Ok(())
    }

    fn address(&self, config: &mut Config) -> Result<(), ConfigError> {
        let mut port = config.client_address.port();
        self.number("clientPort", "a port from 0 to 65535", 0, &mut port)?;
        let mut ip = config.client_address.ip();
        if let Some((value, _)) = self.values.get("clientPortAddress") {
            ip = match value.as_str() {
                "localhost" => Ipv4Addr::LOCALHOST.into(),
                text => text.parse::<IpAddr>().map_err(|_| {
                    self.value_error("clientPortAddress", "an address (names are not resolved)")
                })?,
            };
        }
        config.client_address = SocketAddr::new(ip, port);
        Ok(())
    }

    fn whitelist(&self, config: &mut Config) {
        if let Some((value, _)) = self.values.get("4lw.commands.whitelist") {
            let words: Vec<String> = value.split(',').map(|w| w.trim().to_owned()).collect();
            config.four_letter_words = match words.iter().any(|w| w == "*") {
                true => Whitelist::All,
                false => Whitelist::Words(words),
            };
        }
    }

    fn session_timeouts(&self, config: &mut Config) -> Result<(), ConfigError> {
        let ticks =
            |n: u64| i32::try_from(config.tick_time_ms.saturating_mul(n)).unwrap_or(i32::MAX);
        let (mut min, mut max) = (-1, -1);
        self.number(
            "minSessionTimeout",
            "a number of milliseconds",
            -1,
            &mut min,
        )?;
        self.number(
            "maxSessionTimeout",
            "a number of milliseconds",
            -1,
            &mut max,
        )?;
        config.session_timeout_min_ms = if min == -1 { ticks(2) } else { min };
        config.session_timeout_max_ms = if max == -1 { ticks(20) } else { max };
        if config.session_timeout_min_ms > config.session_timeout_max_ms {
            return Err(ConfigError::Contradiction(format!(
                "minSessionTimeout ({}) is above maxSessionTimeout ({}); correct one of them",
                config.session_timeout_min_ms, config.session_timeout_max_ms
            )));
        }
        Ok(())
    }

    /// One server line is a standalone server, as with Apache; more are an ensemble.
    fn check_servers(&mut self) -> Result<(), ConfigError> {
        let servers = self
            .values
            .keys()
            .filter(|key| key.starts_with("server."))
            .count();
        match servers {
            0 => Ok(()),
            1 => {
                self.warnings
                    .push("one server line: it is ignored, the server runs alone".into());
                Ok(())
            }
            n => Err(ConfigError::Ensemble(n)),
        }
    }

    fn warn_about_the_rest(&mut self) {
        for (key, (_, place)) in &self.values {
            if HONOURED.contains(&key.as_str()) || key.starts_with("server.") {
                continue;
            }
            let known = NO_EFFECT.iter().find(|(name, _)| name == key);
            self.warnings.push(match known {
                Some((_, why)) => format!("{place}: {key} is accepted and has no effect: {why}"),
                None => match nearest(key) {
                    Some(near) => format!("{place}: {key} is not known here; did you mean {near}?"),
                    None => format!("{place}: {key} is not known here and has no effect"),
                },
            });
        }
    }
}

/// Twice the largest record that a client's frame can become, rounded up.
fn segment_bytes_min(jute_maxbuffer: usize) -> u64 {
    (4 * jute_maxbuffer as u64 + (64 << 10)).next_multiple_of(4096)
}

/// The known key with the smallest edit distance, if it is small.
fn nearest(key: &str) -> Option<&'static str> {
    let names = HONOURED
        .iter()
        .copied()
        .chain(NO_EFFECT.iter().map(|(name, _)| *name));
    let (distance, name) = names.map(|name| (edit_distance(key, name), name)).min()?;
    (distance <= 3 && distance * 3 <= key.len()).then_some(name)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(text: &str) -> Result<Resolved, ConfigError> {
        from_file(text, &[])
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
                    clientPortListenBacklog=128\njute.maxbuffer=1048576\nringkeeper.allowVolatileLog=TRUE\nshards=3\npin=false\n";
        let Resolved { config, warnings } = file(text).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
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
        assert!(config.allow_volatile_log);
        assert_eq!((config.shards, config.pin), (Some(3), Some(false)));
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
        let config = file.unwrap().config;
        assert_eq!(
            (config.snap_count, config.tick_time_ms),
            (5, 9),
            "the file overrides"
        );
        let positions = ["2183", "/p", "1000"].map(String::from);
        let config = from_positions(&positions, &[]).unwrap().config;
        assert_eq!(
            (config.client_address.port(), config.max_client_connections),
            (2183, 0)
        );
        let config = embedded(Path::new("/state"), &[set("clientPort", "0")])
            .unwrap()
            .config;
        assert_eq!(config.data_dir, Path::new("/state/ringkeeper"));
        assert_eq!(config.client_address.to_string(), "127.0.0.1:0");
        assert!(config.four_letter_words.allows("cons"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).*") {
            parse_properties(&text);
            let _ = file(&text);
        }

        #[test]
        fn what_is_escaped_is_read(key in "[a-z.]{1,9}", value in "[a-z0-9/,*]{0,20}") {
            let text = format!("  {key} = {}\n", value.replace('/', "\\/"));
            prop_assert_eq!(parse_properties(&text), vec![(key, value, 1)]);
        }
    }
}
