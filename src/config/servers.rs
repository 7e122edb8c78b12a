//! A line that names a server: `server.N=host:port:port[:role][;[address:]port[;[address:]port]]`
//! (docs/protocol.md §9); several `host:port:port[:role]` may stand there, with `|` between them.

use super::host::Host;
use crate::peers::Addresses;
use crate::proto::peer::Address;
use core::net::{Ipv4Addr, SocketAddr};
use std::fmt;

/// Whether a key names a server: `server.` and a number.
pub(super) fn is_server(key: &str) -> bool {
    let number = key.strip_prefix("server.");
    number.is_some_and(|number| number.parse::<i64>().is_ok())
}

/// What stands behind the first semicolon of a line: where clients connect without TLS.
pub(super) fn client_part(line: &str) -> Option<&str> {
    let part = line.split(';').nth(1)?.trim();
    (!part.is_empty()).then_some(part)
}

/// `[address:]port`; all addresses without the first. And the name of the address's interface, if it has one.
pub(super) fn client_address(part: &str) -> Option<(SocketAddr, Option<String>)> {
    match part.rsplit_once(':') {
        Some((host, port)) => Some(Host::read(host)?.at(port.parse().ok()?)),
        None => {
            let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), part.parse().ok()?);
            Some((everywhere, None))
        }
    }
}

/// What a line says, as Apache's server reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub addresses: Addresses,
    pub is_observer: bool,
    /// Where clients connect, without TLS and with it.
    clients: [Option<Address>; 2],
}

const FORM: &str = "host:port:port[:role][;[address:]port[;[address:]port]]";

impl Server {
    /// Or what the line is not.
    pub fn read(line: &str) -> Result<Server, &'static str> {
        let mut parts = line.split(';');
        let mut server = Server {
            addresses: Addresses::default(),
            is_observer: false,
            clients: [None, None],
        };
        let mut role = None;
        for address in parts.next().unwrap_or_default().split('|') {
            let said = server.add(address.trim())?;
            if said.is_some() && role.is_some() && said != role {
                return Err("a line with one role for all addresses");
            }
            role = role.or(said);
        }
        server.is_observer = role.unwrap_or_default();
        for client in &mut server.clients {
            let part = parts.next().unwrap_or_default().trim();
            if !part.is_empty() {
                *client = Some(client_part_of(part).ok_or(FORM)?);
            }
        }
        Ok(server)
    }

    /// One address, and whether it says that the server is an observer.
    fn add(&mut self, text: &str) -> Result<Option<bool>, &'static str> {
        let parts = host_and_ports(text).ok_or(FORM)?;
        let (host, quorum, election, role) = match parts[..] {
            [host, quorum, election] => (host, quorum, election, None),
            [host, quorum, election, role] => (host, quorum, election, Some(role)),
            _ => return Err(FORM),
        };
        let at = |port: &str| Address::new(host, port.parse().ok()?);
        let (quorum, election) = (at(quorum).ok_or(FORM)?, at(election).ok_or(FORM)?);
        if quorum.port() == election.port() {
            return Err("a line with two ports that differ");
        }
        self.addresses.quorum.push(quorum);
        self.addresses.election.push(election);
        let role = role.map(|role| role.trim().to_ascii_lowercase());
        match role.as_deref() {
            None => Ok(None),
            Some("observer") => Ok(Some(true)),
            Some("participant") => Ok(Some(false)),
            Some(_) => Err("a line with the role participant or observer"),
        }
    }
}

fn client_part_of(part: &str) -> Option<Address> {
    match host_and_ports(part)?[..] {
        [port] => Address::new("0.0.0.0", port.parse().ok()?),
        [host, port] => Address::new(host, port.parse().ok()?),
        _ => None,
    }
}

/// Parts between colons, of which the first may be an address of IPv6 in brackets. As Java splits: empty parts at the
/// end are none.
fn host_and_ports(text: &str) -> Option<Vec<&str>> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => {
            let (host, rest) = text.split_once(']')?;
            (Some(host), rest.strip_prefix(':')?)
        }
        None => (None, text),
    };
    let mut parts: Vec<&str> = host.into_iter().chain(rest.split(':')).collect();
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    Some(parts)
}

/// As Apache's server writes it.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Addresses { quorum, election } = &self.addresses;
        let mut addresses: Vec<(&str, String)> = quorum
            .iter()
            .zip(election)
            .map(|(quorum, election)| (quorum.host(), format!("{quorum}:{}", election.port())))
            .collect();
        addresses.sort();
        let addresses: Vec<String> = addresses.into_iter().map(|(_, text)| text).collect();
        let role = match self.is_observer {
            true => "observer",
            false => "participant",
        };
        write!(f, "{}:{role}", addresses.join("|"))?;
        match &self.clients {
            [None, None] => Ok(()),
            [Some(plain), None] => write!(f, ";{plain}"),
            [None, Some(secure)] => write!(f, ";;{secure}"),
            [Some(plain), Some(secure)] => write!(f, ";{plain};{secure}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Resolved, from_file};

    fn file(text: &str) -> Result<Resolved, ConfigError> {
        from_file(&format!("dataDir=/d\n{text}"), &[]).accepted()
    }

    #[test]
    fn a_single_line_says_where_clients_connect() {
        for (text, address) in [
            ("server.1=localhost:2888:3888;2181", "0.0.0.0:2181"),
            (
                "server.7=a:1:2:participant;127.0.0.1:12181",
                "127.0.0.1:12181",
            ),
            ("server.1=a:1:2|b:1:2; [::1]:5 ", "[::1]:5"),
            ("server.1=a:1:2;[::1%3]:5", "[::1%3]:5"),
            ("server.1=a:1:2;[fe80::1%lo]:5", "[fe80::1%lo]:5"),
            ("server.1=a:1:2;localhost:6;", "127.0.0.1:6"),
            ("server.1=a:1:2;2182\nclientPort=2181", "0.0.0.0:2181"),
            ("server.1=a:1:2\nclientPort=2181", "0.0.0.0:2181"),
        ] {
            let Resolved { config, warnings } = file(text).unwrap();
            assert_eq!(config.client_endpoint(), address, "{text}");
            let said = &warnings[0];
            assert!(said.contains("is the only server line"), "{text}: {said}");
            let differs = text.contains("2182\n");
            assert_eq!(said.contains("another client address"), differs, "{said}");
        }
        for (text, due) in [
            (
                "server.1=a:1:2;b:3",
                "line 2: server.1=a:1:2;b:3 is not a line whose client part",
            ),
            ("server.1=a:1:2;70000", "is not a line whose client part"),
            (
                "server.1=a:1:2;[::1%]:3",
                "line 2: server.1=a:1:2;[::1%]:3 is not a line whose client part",
            ),
            ("server.1=a:1:2", "clientPort is not set"),
            ("server.1=a:1:2;", "clientPort is not set"),
        ] {
            let said = file(text).unwrap_err().to_string();
            assert!(said.contains(due), "{text}: {said}");
        }
    }

    #[test]
    fn every_key_that_asks_for_an_ensemble_is_named_with_its_line() {
        let text = "dataDir=/d\nstandaloneEnabled=false\nserver.1=a:1:2;5\nserver.2=b:1:2;5\n";
        let reading = from_file(text, &[]);
        let places = reading
            .seats()
            .iter()
            .map(|seat| (&seat.place[..], &seat.key[..]));
        let due = [
            ("line 3", "server.1"),
            ("line 4", "server.2"),
            ("line 2", "standaloneEnabled"),
        ];
        assert!(places.eq(due), "{:?}", reading.seats());
        let said = reading.accepted().unwrap_err().to_string();
        let start = "the configuration names 2 servers (line 3: server.1, line 4: server.2, line 2: \
                     standaloneEnabled), and this is for a server that runs alone";
        assert!(said.starts_with(start), "{said}");
        for (more, due) in [
            ("dynamicConfigFile=/c/zoo.cfg.dynamic", 1),
            ("standaloneEnabled=FALSE\nclientPort=1", 1),
            (
                "standaloneEnabled=true\ndynamicConfigFile=\nserver.1=a:1:2;5",
                0,
            ),
            // Not a number: a property of clients.
            ("clientPort=1\nserver.realm=R\nserver.principal=P", 0),
        ] {
            let reading = from_file(&format!("dataDir=/d\n{more}"), &[]);
            assert_eq!(reading.seats().len(), due, "{more}");
            assert!(reading.outcome().is_ok(), "{more}: {:?}", reading.outcome());
        }
    }
}
