//! Addresses of clients, as Java's server writes them.

use std::net::IpAddr;

/// The text of an address as the `ip` scheme shows it: IPv6 in eight groups, none left out.
pub fn java_text(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let groups: Vec<String> = ip.segments().iter().map(|g| format!("{g:x}")).collect();
            groups.join(":")
        }
    }
}

/// An address and a port.
pub fn endpoint(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_does() {
        assert_eq!(java_text("127.0.0.1".parse().unwrap()), "127.0.0.1");
        assert_eq!(java_text("::1".parse().unwrap()), "0:0:0:0:0:0:0:1");
        assert_eq!(java_text("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1");
        assert_eq!(endpoint("10.0.0.1", 7), "10.0.0.1:7");
        assert_eq!(endpoint("0:0:0:0:0:0:0:1", 7), "[0:0:0:0:0:0:0:1]:7");
    }
}
