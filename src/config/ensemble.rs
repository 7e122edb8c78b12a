//! An ensemble as the configuration describes it: its members and which sets of them decide, which of them this server
//! is, where to listen and to dial, and how long others are waited for. What Apache's server accepts is accepted
//! (`QuorumPeerConfig`, `QuorumPeer.QuorumServer`, both 3.9), but for ids beyond one byte, which session ids hold.
//!
//! The members are named by the lines of `zoo.cfg`, or of the file that `dynamicConfigFile` names, never of both.
//! `myid` and that file are read by the caller.

use super::properties::{Value, Values};
use super::servers::{Server, client_address, client_part, is_server};
use super::values::Config;
use super::{keys, properties};
use crate::peers::{Addresses, Network};
use crate::proto::peer::Address;
use crate::types::{ServerId, Zxid};
use crate::zab::election::{Candidate, FINALIZE_MS};
use crate::zab::{Pair, Patience, Quorum, Settings};
use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The largest id of a server: one more is the mark of nodes with a TTL.
const ID_MAX: i64 = 254;
/// `cnxTimeout` where it is not set, ms.
const DIAL_MS: u64 = 5000;
/// `electionPortBindRetry` where it is not set.
const BIND_ATTEMPTS: u32 = 3;
/// The only way to elect that Apache's server has left.
const FAST_LEADER_ELECTION: &str = "3";

/// The keys that are read here, or what they begin with.
const HONOURED: [&str; 10] = [
    "initLimit ",
    "syncLimit ",
    "electionAlg ",
    "peerType ",
    "group.",
    "weight.",
    "quorumListenOnAllIPs ",
    "multiAddress.enabled ",
    "cnxTimeout ",
    "electionPortBindRetry ",
];

/// What the configuration names and does not hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// Content of `myid` in `dataDir`.
    pub my_id: Option<&'a str>,
    /// Content of the file that `dynamicConfigFile` names.
    pub dynamic: Option<&'a str>,
}

/// What a member of an ensemble starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensemble {
    /// Who takes part, and with whom.
    pub settings: Settings,
    /// Where the others are.
    pub network: Network,
    /// Where this server listens.
    pub listens: Addresses,
    /// How often binding a port is tried, a second apart; 0: for ever.
    pub bind_attempts: u32,
    /// Where its own line says that clients connect, and the name of the address's interface.
    pub clients: Option<(SocketAddr, Option<String>)>,
    /// What is to be said about it.
    pub warnings: Vec<String>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Wrong {
    Value {
        place: String,
        key: String,
        value: String,
        expected: &'static str,
    },
    Missing(&'static str),
    Contradiction(String),
}

impl Ensemble {
    /// In one line.
    pub fn describe(&self) -> String {
        let Settings {
            candidate,
            patience,
            pair,
            observers,
            ..
        } = &self.settings;
        let role = match candidate.is_observer {
            true => "an observer",
            false => "a voter",
        };
        let list = |addresses: &[Address]| {
            let texts = addresses.iter().map(Address::to_string);
            texts.collect::<Vec<_>>().join(" and ")
        };
        format!(
            "this is server {}, {role} beside {} voters and {} observers in all; it listens for elections on {}, for \
             learners on {}; it waits {} ms for others to join and {} ms for a sign of life",
            candidate.sid,
            pair.voters().len(),
            observers.len(),
            list(&self.listens.election),
            list(&self.listens.quorum),
            patience.init_ms,
            patience.sync_ms,
        )
    }
}

/// A warning of a server alone, as it is for a member: what belongs to ensembles has an effect, or is not there yet.
pub(super) fn in_an_ensemble(warning: String) -> Option<String> {
    let Some(head) = warning.strip_suffix(keys::ENSEMBLE) else {
        return Some(warning);
    };
    let honoured = HONOURED
        .iter()
        .any(|key| head.contains(&format!(": {key}")));
    (!honoured).then(|| format!("{head}this version does not use it"))
}

/// The file that names the members, if `zoo.cfg` does not.
pub(super) fn dynamic_file(values: &Values) -> Option<&str> {
    let file = &values.get("dynamicConfigFile")?.text;
    (!file.is_empty()).then_some(file)
}

/// Puts it together.
pub(super) fn read(
    values: &Values,
    config: &Config,
    around: &Surroundings<'_>,
) -> Result<Ensemble, Wrong> {
    let mut warnings = Vec::new();
    let lines = lines(values, around)?;
    let is_multi_address = values
        .get("multiAddress.enabled")
        .is_some_and(|value| keys::is_true(&value.text));
    let members = members(&lines, is_multi_address)?;
    let quorum = quorum(&lines, &members)?;
    judge(values, &quorum, &members, &mut warnings)?;
    let me = my_id(around.my_id)?;
    let Some(own) = members.get(&me) else {
        return Err(Wrong::Contradiction(format!(
            "myid says that this is server {me}, and no server.{me} is there; correct one of them"
        )));
    };
    election_algorithm(values)?;
    judge_role(values, own, &mut warnings)?;
    let observers = members.iter().filter(|(_, server)| server.is_observer);
    let settings = Settings {
        candidate: Candidate {
            sid: me,
            is_observer: own.is_observer,
            finalize_ms: FINALIZE_MS,
        },
        patience: Patience {
            init_ms: ticks(values, "initLimit", config)?,
            sync_ms: ticks(values, "syncLimit", config)?,
            ping_ms: (config.tick_time_ms / 2).max(1),
        },
        pair: Pair::of(quorum),
        observers: observers.map(|(sid, _)| *sid).collect(),
        config: text(&members, &lines).into_bytes().into(),
    };
    let clients = clients(values, &lines, me, config)?;
    let listens = listens(values, own)?;
    let bind_attempts = bind_attempts(values, &mut warnings);
    let dial_ms = dial_ms(values)?;
    let servers = members.into_iter();
    let servers = servers
        .map(|(sid, server)| (sid, server.addresses))
        .collect();
    Ok(Ensemble {
        settings,
        network: Network {
            servers,
            is_multi_address,
            dial_ms,
            // Apache's extra size is as large where it is not set.
            packet_max: 2 * config.jute_maxbuffer,
        },
        listens,
        bind_attempts,
        clients,
        warnings,
    })
}

/// The lines that name members, groups and weights, and the version of the configuration.
fn lines(values: &Values, around: &Surroundings<'_>) -> Result<Values, Wrong> {
    let is_membership =
        |key: &str| is_server(key) || key.starts_with("group.") || key.starts_with("weight.");
    let own = values.iter().filter(|(key, _)| is_membership(key));
    let own: Values = own
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let Some(file) = dynamic_file(values) else {
        return Ok(own);
    };
    if let Some((key, Value { place, .. })) = own.first_key_value() {
        return Err(Wrong::Contradiction(format!(
            "{place}: {key} must be in the file that dynamicConfigFile names"
        )));
    }
    let Some(text) = around.dynamic else {
        return Err(Wrong::Contradiction(format!(
            "{file}, which dynamicConfigFile names, can't be read"
        )));
    };
    let mut found = Values::new();
    for (key, text, line) in properties::parse(text) {
        let place = format!("{file}, line {line}");
        if !is_membership(&key) {
            return Err(Wrong::Contradiction(format!(
                "{place}: {key} has no place in a file of members"
            )));
        }
        found.insert(key, Value { text, place });
    }
    // The version stands behind the last dot of the file's name.
    let version = file.rsplit_once('.').map(|(_, version)| version);
    if let Some(version) = version.filter(|text| i64::from_str_radix(text, 16).is_ok()) {
        let value = Value {
            text: version.to_owned(),
            place: file.to_owned(),
        };
        found.insert("version".to_owned(), value);
    }
    Ok(found)
}

fn wrong(key: &str, value: &Value, expected: &'static str) -> Wrong {
    Wrong::Value {
        place: value.place.clone(),
        key: key.to_owned(),
        value: value.text.clone(),
        expected,
    }
}

/// The number behind the dot of a key.
fn id_of(key: &str, value: &Value) -> Result<ServerId, Wrong> {
    let number = key
        .split_once('.')
        .and_then(|(_, number)| number.parse().ok());
    let id = number.filter(|id| (0..=ID_MAX).contains(id)).map(ServerId);
    id.ok_or_else(|| wrong(key, value, "of a server with an id of 0 to 254"))
}

fn members(lines: &Values, is_multi_address: bool) -> Result<BTreeMap<ServerId, Server>, Wrong> {
    let mut members = BTreeMap::new();
    for (key, value) in lines.iter().filter(|(key, _)| is_server(key)) {
        let server = Server::read(&value.text).map_err(|expected| wrong(key, value, expected))?;
        if server.addresses.quorum.len() > 1 && !is_multi_address {
            let expected = "a line with one address, or beside multiAddress.enabled=true";
            return Err(wrong(key, value, expected));
        }
        members.insert(id_of(key, value)?, server);
    }
    Ok(members)
}

fn quorum(lines: &Values, members: &BTreeMap<ServerId, Server>) -> Result<Quorum, Wrong> {
    let version = lines.get("version").map_or(0, |value| {
        i64::from_str_radix(&value.text, 16).unwrap_or_default()
    });
    let version = Zxid(version);
    let voters = members.iter().filter(|(_, server)| !server.is_observer);
    let voters = voters.map(|(sid, _)| *sid);
    let mut groups = Vec::new();
    for (key, value) in lines.iter().filter(|(key, _)| key.starts_with("group.")) {
        let servers = value
            .text
            .split(':')
            .map(|text| text.trim().parse().map(ServerId));
        let servers = servers.collect::<Result<Vec<_>, _>>();
        groups.push(
            servers
                .map_err(|_| wrong(key, value, "a list of servers' ids, with : between them"))?,
        );
    }
    let mut weights = BTreeMap::new();
    for (key, value) in lines.iter().filter(|(key, _)| key.starts_with("weight.")) {
        let weight = value.text.parse().ok();
        let weight = weight.ok_or_else(|| wrong(key, value, "a number"))?;
        weights.insert(id_of(key, value)?, weight);
    }
    let quorum = match groups.is_empty() && weights.is_empty() {
        true => Quorum::majority(version, voters),
        false => Quorum::groups(version, voters, &groups, &weights),
    };
    quorum.map_err(|error| {
        Wrong::Contradiction(format!("{error}; correct the lines of the ensemble"))
    })
}

fn judge(
    values: &Values,
    quorum: &Quorum,
    members: &BTreeMap<ServerId, Server>,
    warnings: &mut Vec<String>,
) -> Result<(), Wrong> {
    let may_be_alone = values
        .get("standaloneEnabled")
        .is_none_or(|value| !keys::is_false(&value.text));
    match quorum.voters().len() {
        1 if may_be_alone && members.len() > 1 => {
            return Err(Wrong::Contradiction(
                "the configuration names observers and one voter; set standaloneEnabled=false, or name more voters"
                    .to_owned(),
            ));
        }
        voters @ 1..=2 => warnings.push(format!(
            "no failure of a voter is survived by {voters}: three are needed at least"
        )),
        voters if voters % 2 == 0 => warnings.push(format!(
            "{voters} voters survive no more failures than {}",
            voters - 1
        )),
        _ => {}
    }
    Ok(())
}

/// Its first line, as Apache's server reads it; blanks around the number are no fault here.
fn my_id(text: Option<&str>) -> Result<ServerId, Wrong> {
    let Some(text) = text else {
        return Err(Wrong::Contradiction(
            "there is no file myid in dataDir: it holds the number of this server".to_owned(),
        ));
    };
    let first = text.lines().next().unwrap_or_default();
    let id = first.trim().parse().ok();
    id.map(ServerId).ok_or_else(|| {
        Wrong::Contradiction(format!(
            "myid in dataDir begins with {first:?}, which is no number"
        ))
    })
}

fn election_algorithm(values: &Values) -> Result<(), Wrong> {
    match values.get("electionAlg") {
        Some(value) if value.text != FAST_LEADER_ELECTION => {
            Err(wrong("electionAlg", value, "3, the only one there is"))
        }
        _ => Ok(()),
    }
}

/// The line of the server counts, not `peerType`.
fn judge_role(values: &Values, own: &Server, warnings: &mut Vec<String>) -> Result<(), Wrong> {
    let Some(value) = values.get("peerType") else {
        return Ok(());
    };
    let is_observer = match &value.text.to_ascii_lowercase()[..] {
        "observer" => true,
        "participant" => false,
        _ => return Err(wrong("peerType", value, "observer or participant")),
    };
    if is_observer != own.is_observer {
        let Value { text, place } = value;
        warnings.push(format!(
            "{place}: peerType={text} is not what this server's own line says, which counts"
        ));
    }
    Ok(())
}

/// A number of ticks, in ms.
fn ticks(values: &Values, key: &'static str, config: &Config) -> Result<u64, Wrong> {
    let Some(value) = values.get(key) else {
        return Err(Wrong::Missing(key));
    };
    let ticks = value.text.parse::<u32>().ok().filter(|ticks| *ticks > 0);
    let ticks = ticks.ok_or_else(|| wrong(key, value, "a number of ticks above 0"))?;
    Ok(config.tick_time_ms.saturating_mul(u64::from(ticks)))
}

fn dial_ms(values: &Values) -> Result<u64, Wrong> {
    let Some(value) = values.get("cnxTimeout") else {
        return Ok(DIAL_MS);
    };
    let ms = value.text.parse::<u32>().ok().filter(|ms| *ms > 0);
    let ms = ms.ok_or_else(|| wrong("cnxTimeout", value, "a number of milliseconds above 0"))?;
    Ok(u64::from(ms))
}

/// As Apache's server does, with what is no number it goes on as if nothing were said.
fn bind_attempts(values: &Values, warnings: &mut Vec<String>) -> u32 {
    let Some(Value { text, place }) = values.get("electionPortBindRetry") else {
        return BIND_ATTEMPTS;
    };
    text.parse().unwrap_or_else(|_| {
        warnings.push(format!(
            "{place}: electionPortBindRetry={text} is no number of attempts, {BIND_ATTEMPTS} are made"
        ));
        BIND_ATTEMPTS
    })
}

/// At its own addresses, or at every address of the machine.
fn listens(values: &Values, own: &Server) -> Result<Addresses, Wrong> {
    let key = "quorumListenOnAllIPs";
    let everywhere = match values.get(key) {
        None => false,
        Some(value) if keys::is_true(&value.text) => true,
        Some(value) if keys::is_false(&value.text) => false,
        Some(value) => return Err(wrong(key, value, "true or false")),
    };
    let at = |address: &Address| match everywhere {
        true => Address::new("0.0.0.0", address.port()),
        false => Some(address.clone()),
    };
    let all = |addresses: &[Address]| addresses.iter().filter_map(at).collect();
    Ok(Addresses {
        quorum: all(&own.addresses.quorum),
        election: all(&own.addresses.election),
    })
}

/// Where the own line says that clients connect; `clientPort` must not say anything else.
fn clients(
    values: &Values,
    lines: &Values,
    me: ServerId,
    config: &Config,
) -> Result<Option<(SocketAddr, Option<String>)>, Wrong> {
    let mut own = lines
        .iter()
        .filter(|(key, value)| is_server(key) && id_of(key, value).is_ok_and(|sid| sid == me));
    let Some((key, value)) = own.next() else {
        return Ok(None);
    };
    let Some(part) = client_part(&value.text) else {
        return Ok(None);
    };
    let expected = "a line whose client part is [address:]port (names are not resolved)";
    let said = client_address(part).ok_or_else(|| wrong(key, value, expected))?;
    let set = config.client_address;
    let is_same = said == (set, config.client_interface.clone());
    let is_wider = set.ip().is_unspecified() && set.port() == said.0.port();
    if values.contains_key("clientPort") && !is_same && !is_wider {
        return Err(Wrong::Contradiction(format!(
            "{}: {key} names another client address ({part}) than clientPort; correct one of them",
            value.place
        )));
    }
    Ok(Some(said))
}

/// The text that servers send each other (docs/peer-protocol.md §1.4): what Apache's server makes of the same lines.
fn text(members: &BTreeMap<ServerId, Server>, lines: &Values) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    for (sid, server) in members {
        let _ = writeln!(text, "server.{sid}={server}");
    }
    for (key, Value { text: value, .. }) in
        lines.iter().filter(|(key, _)| key.starts_with("group."))
    {
        let _ = writeln!(text, "{key}={value}");
    }
    let has_groups = lines.keys().any(|key| key.starts_with("group."));
    let weights = members
        .iter()
        .filter(|(_, server)| has_groups && !server.is_observer);
    for (sid, _) in weights {
        let weight = lines.get(&format!("weight.{sid}"));
        let weight = weight.map_or("1", |value| &value.text);
        let _ = writeln!(text, "weight.{sid}={weight}");
    }
    let version = lines.get("version").map_or("0", |value| &value.text);
    let _ = write!(text, "version={version}");
    text
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, from_file};
    use super::*;

    const THREE: &str = "server.1=127.0.0.1:2881:3881;2181\nserver.2=127.0.0.1:2882:3882:participant;2182\n\
                         server.3=zk3.example:2883:3883:observer;10.0.0.3:2183\n";
    const LIMITS: &str = "dataDir=/d\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n";

    fn read_with(text: &str, around: Surroundings<'_>) -> Result<Ensemble, ConfigError> {
        from_file(text, &[]).ensemble(&around)
    }

    fn read(text: &str) -> Result<Ensemble, ConfigError> {
        let around = Surroundings {
            my_id: Some("2\n"),
            dynamic: None,
        };
        read_with(&format!("{LIMITS}{text}"), around)
    }

    fn texts(addresses: &[Address]) -> Vec<String> {
        addresses.iter().map(Address::to_string).collect()
    }

    #[test]
    fn the_lines_say_who_takes_part_and_where() {
        let three = format!("{THREE}server.4=10.0.0.4:2888:3888\n");
        let ensemble = read(&three).unwrap();
        let Settings {
            candidate,
            patience,
            pair,
            observers,
            config,
        } = &ensemble.settings;
        assert_eq!((candidate.sid, candidate.is_observer), (ServerId(2), false));
        assert_eq!(candidate.finalize_ms, 200);
        let due = Patience {
            init_ms: 20_000,
            sync_ms: 10_000,
            ping_ms: 1000,
        };
        assert_eq!(*patience, due);
        assert_eq!(pair.committed().voters(), [1, 2, 4].map(ServerId));
        assert!(observers.iter().eq(&[ServerId(3)]));
        let due = "server.1=127.0.0.1:2881:3881:participant;0.0.0.0:2181\n\
                   server.2=127.0.0.1:2882:3882:participant;0.0.0.0:2182\n\
                   server.3=zk3.example:2883:3883:observer;10.0.0.3:2183\n\
                   server.4=10.0.0.4:2888:3888:participant\nversion=0";
        assert_eq!(std::str::from_utf8(config).unwrap(), due);
        let third = &ensemble.network.servers[&ServerId(3)];
        assert_eq!(texts(&third.quorum), ["zk3.example:2883"]);
        assert_eq!(texts(&third.election), ["zk3.example:3883"]);
        assert_eq!(
            (ensemble.network.dial_ms, ensemble.bind_attempts),
            (5000, 3)
        );
        assert_eq!(ensemble.network.packet_max, 2 * 0xf_ffff);
        assert_eq!(texts(&ensemble.listens.election), ["127.0.0.1:3882"]);
        assert_eq!(ensemble.clients.unwrap().0.to_string(), "0.0.0.0:2182");
        assert_eq!(ensemble.warnings, [""; 0]);
        let said = read(&three).unwrap().describe();
        assert!(
            said.starts_with("this is server 2, a voter beside 3 voters and 1 observers"),
            "{said}"
        );
    }

    #[test]
    fn a_member_is_told_of_no_key_that_it_reads_that_it_has_no_effect() {
        let lines = "server.1=a:1:2;5\nserver.2=b:1:2;127.0.0.1:6\nserver.3=c:1:2;5\nleaderServes=no\nnetty.x=1\n";
        let around = Surroundings {
            my_id: Some("2"),
            dynamic: None,
        };
        let member = from_file(&format!("{LIMITS}{lines}"), &[]).member(&around);
        let (resolved, ensemble) = member.unwrap();
        assert_eq!(ensemble.settings.candidate.sid, ServerId(2));
        assert_eq!(resolved.config.client_address.to_string(), "127.0.0.1:6");
        let said = resolved.warnings.join("\n");
        assert!(
            !said.contains("Limit") && !said.contains("it belongs"),
            "{said}"
        );
        assert!(
            said.contains(
                "leaderServes is accepted and has no effect: this version does not use it"
            )
        );
        let missing = from_file(
            &format!("{LIMITS}{}", lines.replace(";127.0.0.1:6", "")),
            &[],
        );
        let said = missing.member(&around).unwrap_err().to_string();
        assert!(said.starts_with("clientPort is not set"), "{said}");
    }

    // The text of three voters in a notification of Apache's server is 177 bytes long.
    #[test]
    fn golden_the_text_is_as_long_as_apaches() {
        let lines = "server.1=127.0.0.1:2881:3881:participant;127.0.0.1:2181\n\
                     server.2=127.0.0.1:2882:3882:participant;127.0.0.1:2182\n\
                     server.3=127.0.0.1:2883:3883:participant;127.0.0.1:2183\n";
        let config = read(lines).unwrap().settings.config;
        assert_eq!(config.len(), 177);
    }

    #[test]
    fn other_keys_have_apaches_meaning() {
        let ensemble = read(&format!(
            "{THREE}server.4=[::1]:1:2|h:3:4\nmultiAddress.enabled=true\nquorumListenOnAllIPs=TRUE\ncnxTimeout=700\n\
             electionPortBindRetry=0\nelectionAlg=3\npeerType=observer\nzookeeper.electionPortBindRetry=0\n"
        ))
        .unwrap();
        assert_eq!(texts(&ensemble.listens.quorum), ["0.0.0.0:2882"]);
        assert_eq!(texts(&ensemble.listens.election), ["0.0.0.0:3882"]);
        assert_eq!((ensemble.network.dial_ms, ensemble.bind_attempts), (700, 0));
        assert!(ensemble.network.is_multi_address);
        let fourth = &ensemble.network.servers[&ServerId(4)];
        assert_eq!(texts(&fourth.election), ["[::1]:2", "h:4"]);
        assert_eq!(ensemble.warnings.len(), 1);
        assert!(ensemble.warnings[0].contains("peerType=observer is not what"));
        for (text, due) in [
            ("electionPortBindRetry=often\n", "is no number of attempts"),
            ("server.5=e:1:2\n", "no failure of a voter"),
        ] {
            let text = match text.starts_with("server") {
                true => format!(
                    "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2:observer\n{}",
                    "clientPort=1\n"
                ),
                false => format!("{THREE}server.4=d:1:2\n{text}"),
            };
            let warnings = read(&text).unwrap().warnings;
            assert!(
                warnings.iter().any(|said| said.contains(due)),
                "{warnings:?}"
            );
        }
    }

    #[test]
    fn groups_and_weights_decide() {
        let voters = "server.1=a:1:2;1\nserver.2=b:1:2;1\nserver.3=c:1:2;1\n";
        let of = |more: &str| read(&format!("{voters}{more}"));
        let ensemble = of("group.1=1:2\ngroup.2=3\nweight.2=3\n").unwrap();
        let committed = ensemble.settings.pair.committed();
        assert_eq!(
            (committed.weight(ServerId(2)), committed.weight(ServerId(1))),
            (3, 1)
        );
        let text = String::from_utf8(ensemble.settings.config.to_vec()).unwrap();
        assert!(
            text.ends_with("group.1=1:2\ngroup.2=3\nweight.1=1\nweight.2=3\nweight.3=1\nversion=0"),
            "{text}"
        );
        for (more, due) in [
            ("group.1=1:2\n", "server 3 is in no group"),
            ("weight.1=2\n", "in no group"),
            (
                "group.1=1:2:3\ngroup.2=3\n",
                "server 3 is in more than one group",
            ),
            ("group.1=1:x\n", "is not a list of servers' ids"),
            ("group.1=1:2:3\nweight.1=-1\n", "is not a number"),
        ] {
            let said = of(more).unwrap_err().to_string();
            assert!(said.contains(due), "{more}: {said}");
        }
    }

    #[test]
    fn what_apache_refuses_is_refused() {
        for (text, due) in [
            ("server.2=h\n", "is not host:port:port"),
            ("server.2=h:1\n", "is not host:port:port"),
            ("server.2=h:1:2:participant:3\n", "is not host:port:port"),
            ("server.2=h:1:x\n", "is not host:port:port"),
            ("server.2=h:1:65536\n", "is not host:port:port"),
            ("server.2=h:1:1\n", "with two ports that differ"),
            (
                "server.2=h:1:2:voter\n",
                "with the role participant or observer",
            ),
            ("server.2=h:1:2|g:1:2\n", "with one address"),
            ("server.255=h:1:2\n", "with an id of 0 to 254"),
            ("electionAlg=1\n", "electionAlg=1 is not 3"),
            ("peerType=voter\n", "is not observer or participant"),
            ("quorumListenOnAllIPs=yes\n", "is not true or false"),
            ("initLimit=0\n", "is not a number of ticks above 0"),
            ("cnxTimeout=0\n", "is not a number of milliseconds"),
            (
                "clientPort=99\n",
                "another client address (2182) than clientPort",
            ),
        ] {
            let said = read(&format!("{THREE}server.4=d:1:2\n{text}"))
                .unwrap_err()
                .to_string();
            assert!(said.contains(due), "{text}: {said}");
        }
        let roles = "server.1=h:1:2|g:1:2:observer\nserver.2=a:1:2;1\nserver.3=b:1:2\nmultiAddress.enabled=true\n";
        assert!(
            read(roles).is_ok(),
            "one address may leave the role to the other"
        );
        let roles = roles.replace("h:1:2|", "h:1:2:participant|");
        let said = read(&roles).unwrap_err().to_string();
        assert!(said.contains("with one role for all addresses"), "{said}");
        for (lines, due) in [
            (
                "server.1=a:1:2:observer\nserver.2=b:1:2:observer;1\n",
                "no voter with any weight",
            ),
            (
                "server.1=a:1:2:observer\nserver.2=b:1:2;1\n",
                "names observers and one voter",
            ),
            ("server.1=a:1:2;1\nserver.3=b:1:2\n", "no server.2 is there"),
        ] {
            let said = read(lines).unwrap_err().to_string();
            assert!(said.contains(due), "{lines}: {said}");
        }
        let without = |missing: &str| {
            let limits: String = LIMITS
                .lines()
                .filter(|line| !line.starts_with(missing))
                .map(|line| format!("{line}\n"))
                .collect();
            let around = Surroundings {
                my_id: Some("1"),
                dynamic: None,
            };
            read_with(&format!("{limits}{THREE}"), around)
                .unwrap_err()
                .to_string()
        };
        assert!(without("initLimit").starts_with("initLimit is not set"));
        assert!(without("syncLimit").starts_with("syncLimit is not set"));
        for (my_id, due) in [
            (None, "no file myid"),
            (Some("two"), "which is no number"),
            (Some(""), "no number"),
        ] {
            let around = Surroundings {
                my_id,
                dynamic: None,
            };
            let said = read_with(&format!("{LIMITS}{THREE}"), around)
                .unwrap_err()
                .to_string();
            assert!(said.contains(due), "{said}");
        }
    }

    #[test]
    fn the_members_may_stand_in_a_file_of_their_own() {
        let file = "dynamicConfigFile=/c/zoo.cfg.dynamic.100000000\n";
        let of = |more: &str, dynamic| {
            let around = Surroundings {
                my_id: Some(" 3 \nrest"),
                dynamic,
            };
            read_with(&format!("{LIMITS}{file}{more}"), around)
        };
        let voters = THREE.replace(":observer", "");
        let ensemble = of("", Some(&voters)).unwrap();
        assert_eq!(ensemble.settings.candidate.sid, ServerId(3));
        assert_eq!(
            ensemble.settings.pair.committed().version(),
            Zxid::new(1, 0)
        );
        assert!(ensemble.settings.config.ends_with(b"version=100000000"));
        for (more, dynamic, due) in [
            (
                "",
                None,
                "/c/zoo.cfg.dynamic.100000000, which dynamicConfigFile names, can't be read",
            ),
            (
                "server.1=a:1:2\n",
                Some(THREE),
                "must be in the file that dynamicConfigFile names",
            ),
            (
                "",
                Some("server.1=a:1:2\ntickTime=1\n"),
                "line 2: tickTime has no place in a file of members",
            ),
            (
                "",
                Some("server.1=a:1:2\nversion=1\n"),
                "line 2: version has no place",
            ),
        ] {
            let said = of(more, dynamic).unwrap_err().to_string();
            assert!(said.contains(due), "{said}");
        }
    }
}
