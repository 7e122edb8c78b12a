//! An address to listen on, in the forms that Java's server takes: one of IPv6 may stand in brackets, and may name the
//! interface that it belongs to behind a `%`, by number or by name. Link-local addresses need one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Most bytes of an interface's name, as Linux has it.
const NAME_MAX: usize = 15;
/// The largest number of an interface, as Linux has it.
const NUMBER_MAX: u32 = i32::MAX as u32;

/// An address, and its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    ip: IpAddr,
    /// The number of the interface; 0: none.
    number: u32,
    /// The name of the interface.
    name: Option<String>,
}

impl Host {
    /// `None`: it is no address. Names are not resolved, but for `localhost`.
    pub(super) fn read(text: &str) -> Option<Host> {
        let of = |ip| Host {
            ip,
            number: 0,
            name: None,
        };
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let (ip, scope) = match bare.unwrap_or(text).split_once('%') {
            Some((ip, scope)) => (ip, Some(scope)),
            None => (bare.unwrap_or(text), None),
        };
        if text == "localhost" {
            return Some(of(Ipv4Addr::LOCALHOST.into()));
        }
        match (ip.parse::<Ipv6Addr>(), scope) {
            (Ok(ip), Some(scope)) => Host::scoped(ip, scope),
            (Ok(ip), None) => Some(of(ip.to_canonical())),
            (Err(_), _) => text.parse().ok().map(|ip: Ipv4Addr| of(ip.into())),
        }
    }

    fn scoped(ip: Ipv6Addr, scope: &str) -> Option<Host> {
        let is_number = scope.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = scope.len() <= NAME_MAX && !scope.contains(['/', ':', '\0', ' ', '\t']);
        if scope.is_empty() || !(is_number || is_name) || ip.to_ipv4_mapped().is_some() {
            return None;
        }
        let number = match is_number {
            true => scope.parse().ok().filter(|number| *number <= NUMBER_MAX)?,
            false => 0,
        };
        Some(Host {
            ip: ip.into(),
            number,
            name: (!is_number).then(|| scope.to_owned()),
        })
    }

    /// A port there, and the name of the interface if that has to be looked up.
    pub(super) fn at(self, port: u16) -> (SocketAddr, Option<String>) {
        let address = match self.ip {
            IpAddr::V4(_) => SocketAddr::new(self.ip, port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.number).into(),
        };
        (address, self.name)
    }
}

/// An address with the interface's name, if it has one.
pub(super) fn shown(address: SocketAddr, interface: Option<&str>) -> String {
    match (address, interface) {
        (SocketAddr::V6(address), Some(name)) => {
            format!("[{}%{name}]:{}", address.ip(), address.port())
        }
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_may_name_its_interface() {
        for (text, due) in [
            ("127.0.0.1", Some("127.0.0.1:7")),
            ("localhost", Some("127.0.0.1:7")),
            ("::1", Some("[::1]:7")),
            ("[::1]", Some("[::1]:7")),
            ("::ffff:10.0.0.1", Some("10.0.0.1:7")),
            ("fe80::1%4", Some("[fe80::1%4]:7")),
            ("[fe80::1%4]", Some("[fe80::1%4]:7")),
            ("fe80::1%eth0", Some("[fe80::1%eth0]:7")),
            ("[::1%lo]", Some("[::1%lo]:7")),
            ("fe80::1%br-0.7", Some("[fe80::1%br-0.7]:7")),
            ("fe80::1%", None),
            ("::1%2147483647", Some("[::1%2147483647]:7")),
            ("::1%2147483648", None),
            ("::1%4294967296", None),
            ("::ffff:10.0.0.1%lo", None),
            ("fe80::1%sixteen-letters!", None),
            ("fe80::1%../x", None),
            ("127.0.0.1%lo", None),
            ("[127.0.0.1]", None),
            ("localhost%lo", None),
            ("nowhere", None),
            ("[::1", None),
            ("%lo", None),
            ("", None),
        ] {
            let read = Host::read(text).map(|host| {
                let (address, interface) = host.at(7);
                shown(address, interface.as_deref())
            });
            assert_eq!(read.as_deref(), due, "{text}");
        }
    }
}
