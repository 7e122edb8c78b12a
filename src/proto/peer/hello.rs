//! What a server that dials an election port says first; nothing comes back (docs/peer-protocol.md §1.2):
//!
//! ```text
//! 3.4                        sid i64                                       not negative
//! since 3.5                  −65536 i64 ‖ sid i64 ‖ len i32 ‖ address      V1
//! 3.6, with multi-address    −65535 i64 ‖ sid i64 ‖ len i32 ‖ addresses    V2, joined by |
//!
//! address = host:port, an IPv6 host in brackets                            1 ≤ len ≤ 2048
//! ```
//!
//! The address is where the sender listens for elections. It is used once, to dial back when ours is the larger id.

use crate::txn::jute::{Put, Reader};
use crate::types::ServerId;
use core::net::IpAddr;
use std::fmt;

const V1: i64 = -65_536;
const V2: i64 = -65_535;
/// The longest text of addresses, bytes.
pub const ADDRESSES_MAX: usize = 2048;
/// Bytes before that text.
const HEAD: usize = 8 + 8 + 4;

/// A host as the configuration writes it, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: Box<str>,
    port: u16,
}

impl Address {
    /// None for a host that a peer could not read: empty, or with a character that separates addresses.
    pub fn new(host: &str, port: u16) -> Option<Address> {
        let is_ip = host.parse::<IpAddr>().is_ok();
        let is_readable = !host.is_empty() && (is_ip || !host.contains(['|', ':', '[', ']']));
        is_readable.then(|| Address {
            host: host.into(),
            port,
        })
    }

    /// Without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// 0.0.0.0 or ::, in any form: nobody can be dialled there (known failure 2164).
    pub fn is_wildcard(&self) -> bool {
        self.host
            .parse()
            .is_ok_and(|ip: IpAddr| ip.is_unspecified())
    }

    fn parse(text: &str) -> Option<Address> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:")?,
            None => text.split_once(':')?,
        };
        Address::new(host, port.parse().ok()?)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Who dials, and where it can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The dialler. `i64::MAX` is an observer without an id of its own.
    pub sid: ServerId,
    /// Without wildcards; none from 3.4.
    pub addresses: Vec<Address>,
}

/// Why the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// A negative number that is neither V1 nor V2.
    #[error("protocol version {0} is not known")]
    Version(i64),
    /// A length of addresses outside of 1 to [`ADDRESSES_MAX`].
    #[error("{0} bytes of addresses")]
    Length(i32),
    /// A text that is no list of addresses.
    #[error("the addresses can't be read")]
    Addresses,
    /// A sid below 0 in V1 or V2: such ids are ours to give.
    #[error("server {0} can't be a member")]
    Sid(ServerId),
}

impl Hello {
    /// Splits it off the beginning of a connection's input, with how many bytes it took; `None`: more are needed.
    pub fn split(input: &[u8]) -> Result<Option<(Hello, usize)>, HelloError> {
        let mut r = Reader::new(input);
        let Ok(first) = r.i64() else {
            return Ok(None);
        };
        match first {
            0.. => {
                let hello = Hello {
                    sid: ServerId(first),
                    addresses: Vec::new(),
                };
                return Ok(Some((hello, 8)));
            }
            V1 | V2 => {}
            version => return Err(HelloError::Version(version)),
        }
        let (Ok(sid), Ok(len)) = (r.i64().map(ServerId), r.i32()) else {
            return Ok(None);
        };
        if sid.0 < 0 {
            return Err(HelloError::Sid(sid));
        }
        let bytes = match usize::try_from(len) {
            Ok(bytes @ 1..=ADDRESSES_MAX) => bytes,
            _ => return Err(HelloError::Length(len)),
        };
        let Some(text) = r.rest().get(..bytes) else {
            return Ok(None);
        };
        let hello = Hello {
            sid,
            addresses: addresses(text).ok_or(HelloError::Addresses)?,
        };
        Ok(Some((hello, HEAD + bytes)))
    }

    /// The bytes, to be sent in one write, because Apache reads the addresses with one call. V1 holds one address
    /// and is read by all members since 3.5; V2, where `is_multi`, by those since 3.6 (known failure 3720).
    ///
    /// `None` without an address, with a wildcard among them, or if they are too long.
    pub fn encode(sid: ServerId, addresses: &[Address], is_multi: bool) -> Option<Vec<u8>> {
        let announced = if is_multi {
            addresses
        } else {
            addresses.get(..1)?
        };
        let texts: Vec<String> = announced.iter().map(Address::to_string).collect();
        let text = texts.join("|");
        let has_wildcard = announced.iter().any(Address::is_wildcard);
        if has_wildcard || !(1..=ADDRESSES_MAX).contains(&text.len()) {
            return None;
        }
        let mut out = Vec::with_capacity(HEAD + text.len());
        out.put_i64(if is_multi { V2 } else { V1 });
        out.put_i64(sid.0);
        out.put_str(&text);
        Some(out)
    }
}

/// As Apache does: any number of addresses in V1 too, separators at the end ignored, wildcards left out.
fn addresses(text: &[u8]) -> Option<Vec<Address>> {
    let text = std::str::from_utf8(text).ok()?.trim_end_matches('|');
    let mut found = Vec::new();
    for text in text.split_terminator('|') {
        let address = Address::parse(text)?;
        if !address.is_wildcard() {
            found.push(address);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::hex;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bytes(version: i64, sid: i64, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_i64(version);
        out.put_i64(sid);
        out.put_str(text);
        out
    }

    fn split(bytes: &[u8]) -> Result<Vec<String>, HelloError> {
        let (hello, used) = Hello::split(bytes)?.expect("whole");
        assert_eq!(used, bytes.len());
        Ok(hello.addresses.iter().map(Address::to_string).collect())
    }

    #[test]
    fn every_form_that_apache_reads_is_read() {
        let (hello, used) = Hello::split(&hex("0000000000000003 ff")).unwrap().unwrap();
        assert_eq!(
            (hello.sid, hello.addresses.len(), used),
            (ServerId(3), 0, 8)
        );
        for version in [V1, V2] {
            for (text, due) in [
                ("h:1", &["h:1"][..]),
                (
                    "zk-1.example:3888|10.0.0.1:3888",
                    &["zk-1.example:3888", "10.0.0.1:3888"],
                ),
                ("[2001:db8::1]:3888", &["[2001:db8::1]:3888"]),
                ("h:1|", &["h:1"]),
                ("|", &[]),
                // Wildcards, however they are written.
                ("0.0.0.0:1|h:2", &["h:2"]),
                ("[::]:1|[0:0:0:0:0:0:0:0]:2", &[]),
            ] {
                assert_eq!(split(&bytes(version, 7, text)).unwrap(), due, "{text}");
            }
        }
    }

    #[test]
    fn what_apache_refuses_is_refused() {
        for text in [
            "h", "h:", ":1", "h:x", "h:65536", "h:-1", "h:1:2", "h:1||h:2", "::1:5", "[::1]",
            "[::1]:", "[::1", "h:1|[",
        ] {
            assert_eq!(
                split(&bytes(V1, 7, text)),
                Err(HelloError::Addresses),
                "{text}"
            );
        }
        let not_utf8 = hex("ffffffffffff0000 0000000000000007 00000004 ff3a3131");
        assert_eq!(split(&not_utf8), Err(HelloError::Addresses));
        for version in [-1, -65_534, -65_537, i64::MIN] {
            let refused = Hello::split(&version.to_be_bytes());
            assert_eq!(refused, Err(HelloError::Version(version)));
        }
        assert_eq!(
            split(&bytes(V1, -1, "h:1")),
            Err(HelloError::Sid(ServerId(-1)))
        );
    }

    #[test]
    fn a_length_is_judged_before_its_bytes_are_there() {
        for (len, due) in [
            ("00000000", Err(HelloError::Length(0))),
            ("ffffffff", Err(HelloError::Length(-1))),
            ("00000801", Err(HelloError::Length(2049))),
            ("7fffffff", Err(HelloError::Length(i32::MAX))),
            ("00000800", Ok(None)),
        ] {
            let head = hex(&format!("ffffffffffff0000 0000000000000007 {len}"));
            assert_eq!(Hello::split(&head), due, "{len}");
        }
        let whole = bytes(V2, 7, "h:1|g:2");
        for len in 0..whole.len() {
            assert_eq!(Hello::split(&whole[..len]), Ok(None), "{len} bytes");
        }
    }

    // Known failure 2164: a peer with a larger id dials what was announced.
    #[test]
    fn no_wildcard_is_announced_and_nothing_that_is_too_long() {
        let address = |host: &str| Address::new(host, 1).unwrap();
        let one = |host: &str| Hello::encode(ServerId(1), &[address(host)], false);
        assert!(one("h").is_some());
        assert_eq!(one("0.0.0.0"), None);
        assert_eq!(one("::"), None);
        assert_eq!(Hello::encode(ServerId(1), &[], true), None);
        assert_eq!(Hello::encode(ServerId(1), &[], false), None);
        assert!(one(&"h".repeat(ADDRESSES_MAX - 2)).is_some());
        assert_eq!(one(&"h".repeat(ADDRESSES_MAX - 1)), None);
        let two = [address("h"), address("0.0.0.0")];
        assert!(Hello::encode(ServerId(1), &two, false).is_some());
        assert_eq!(Hello::encode(ServerId(1), &two, true), None);
        for host in ["", "a|b", "a:1", "[::1]"] {
            assert_eq!(Address::new(host, 1), None, "{host}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read(sid in 0..=i64::MAX, hosts in vec(("[a-z][a-z0-9.-]{0,20}|fe80::[1-9]", any::<u16>()), 1..5), is_multi in any::<bool>(), behind in any::<Vec<u8>>()) {
            let addresses: Vec<Address> = hosts.iter().map(|(host, port)| Address::new(host, *port).unwrap()).collect();
            let mut sent = Hello::encode(ServerId(sid), &addresses, is_multi).unwrap();
            let len = sent.len();
            sent.extend(behind);
            let (hello, used) = Hello::split(&sent).unwrap().unwrap();
            prop_assert_eq!(used, len);
            prop_assert_eq!(hello.sid, ServerId(sid));
            let due = if is_multi { &addresses[..] } else { &addresses[..1] };
            prop_assert_eq!(hello.addresses, due);
        }

        #[test]
        fn no_bytes_panic(version in prop_oneof![Just(V1), Just(V2), any::<i64>()], rest in any::<Vec<u8>>(), text in ".{0,40}", len in any::<bool>()) {
            let mut input = version.to_be_bytes().to_vec();
            if len {
                input.put_i64(1);
                input.put_str(&text);
            }
            input.extend(rest);
            if let Ok(Some((_, used))) = Hello::split(&input) {
                prop_assert!(used <= input.len());
            }
        }
    }
}
