//! Who the clients are, and what that allows them: the model's own idea of docs/protocol.md §6.

use crate::txn::Acl;
use core::net::IpAddr;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What clients say of themselves, and the identity that this gives. The third one is a wrong password; behind it
/// follow nothing at all, which is not null, and what is no UTF-8.
pub(super) const USERS: [(&[u8], &str); 5] = [
    (b"ann:1", "ann:/z4T+iO8KvuCdw3Y3chpp6R6RTg="),
    (b"bob:2", "bob:PCGRUm8WFBmVOxjVyjYw7YBN8J8="),
    (b"ann:3", "ann:w3DOTezc+b00ScqUbgq6XL3+CeY="),
    (b"", ":2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
    (b"\xff:4", "\u{fffd}:GGoOSvcZMnrRflr80j5gdZp1E/4="),
];

/// The same for the super user.
pub(super) const SUPER: (&[u8], &str) = (b"super:root", "super:zUZ0bpqYS7FucDXsnUgxOWTto1s=");

/// As its credential shows it.
pub(super) const V6: &str = "2001:db8:0:0:0:0:0:7";

/// Where a client seems to be; strangers are nowhere in particular.
pub(super) fn address(client: Option<usize>) -> &'static str {
    match client {
        Some(client) if client % 4 == 3 => V6,
        Some(client) if client % 2 == 1 => "10.1.2.3",
        _ => "127.0.0.1",
    }
}

/// The identities of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    address: &'static str,
    /// `user:hash`, sorted as the server sorts them.
    digests: BTreeSet<&'static str>,
}

/// What auth leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Who {
    /// Of a new connection.
    pub(super) fn at(address: &'static str) -> Who {
        Who {
            address,
            digests: BTreeSet::new(),
        }
    }

    fn is_super(&self) -> bool {
        self.digests.contains(SUPER.1)
    }

    /// Whether it has an identity beside its address.
    pub(super) fn is_authenticated(&self) -> bool {
        !self.digests.is_empty()
    }

    /// How many there are; super is one beside its digest.
    fn count(&self) -> usize {
        1 + self.digests.len() + usize::from(self.is_super())
    }

    /// After auth, where a connection has at most so many. Null is refused as a scheme, and as what scheme digest is
    /// given; scheme ip takes anything.
    pub(super) fn auth(
        &self,
        scheme: Option<&str>,
        data: Option<&[u8]>,
        most: usize,
    ) -> Result<Who, Refused> {
        let mut known = USERS.iter().chain([&SUPER]);
        let id = match (scheme, data) {
            (Some("ip"), _) => return Ok(self.clone()),
            (Some("digest"), Some(data)) => known.find(|user| user.0 == data),
            _ => None,
        };
        let (_, id) = id.ok_or(Refused)?;
        let mut then = self.clone();
        then.digests.insert(id);
        let is_new = then.digests.len() > self.digests.len();
        match is_new && then.count() > most {
            true => Err(Refused),
            false => Ok(then),
        }
    }

    /// Whether a list allows one of the permissions (§6.2).
    pub(super) fn may(&self, perms: i32, acl: &[Acl]) -> bool {
        let grants = |entry: &Acl| entry.perms & perms != 0 && self.is(entry);
        acl.is_empty() || self.is_super() || acl.iter().any(grants)
    }

    fn is(&self, entry: &Acl) -> bool {
        match &*entry.scheme {
            "world" => &*entry.id == "anyone",
            "digest" => self.digests.contains(&*entry.id),
            "ip" => is_within(self.address, &entry.id),
            _ => false,
        }
    }

    /// What whoAmI tells: schemes and users, sorted.
    pub(super) fn shown(&self) -> Vec<(&str, &str)> {
        let digests = self.digests.iter();
        let user = |id: &&'static str| ("digest", id.split(':').next().unwrap_or_default());
        let mut shown: Vec<_> = digests.map(user).collect();
        shown.push(("ip", self.address));
        if self.is_super() {
            shown.push(("super", ""));
        }
        shown.sort_unstable();
        shown
    }

    /// The list that is stored where this one is sent (§6.4); `None`: it is invalid.
    pub(super) fn stored(&self, sent: &[Acl]) -> Option<Arc<[Acl]>> {
        let mut distinct: Vec<&Acl> = Vec::new();
        for entry in sent {
            let is_valid = match &*entry.scheme {
                "world" => &*entry.id == "anyone",
                "digest" => entry.id.matches(':').count() == 1,
                "ip" | "auth" => true,
                _ => false,
            };
            if !is_valid || &*entry.scheme == "auth" && self.digests.is_empty() {
                return None;
            }
            if !distinct.contains(&entry) {
                distinct.push(entry);
            }
        }
        let mut stored = Vec::new();
        for entry in distinct {
            match &*entry.scheme {
                "auth" => stored.extend(self.digests.iter().map(|id| Acl {
                    perms: entry.perms,
                    scheme: "digest".into(),
                    id: (*id).into(),
                })),
                _ => stored.push(entry.clone()),
            }
        }
        (!stored.is_empty()).then(|| stored.into())
    }

    /// What is seen of a list (§6.6).
    pub(super) fn sees(&self, acl: &[Acl]) -> Vec<Acl> {
        let masked = |entry: &Acl| match &*entry.scheme {
            "digest" if !self.may(Acl::ADMIN, acl) => {
                let user = entry.id.split(':').next().unwrap_or_default();
                Acl {
                    id: format!("{user}:x").into(),
                    ..entry.clone()
                }
            }
            _ => entry.clone(),
        };
        acl.iter().map(masked).collect()
    }
}

/// Whether an address is in `address/bits`.
fn is_within(address: &str, range: &str) -> bool {
    let (network, bits) = range.split_once('/').unwrap_or((range, ""));
    let bits_of = |text: &str| -> Option<String> {
        Some(match text.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => format!("4:{:032b}", u32::from(address)),
            IpAddr::V6(address) => format!("6:{:0128b}", u128::from(address)),
        })
    };
    let (Some(address), Some(network)) = (bits_of(address), bits_of(network)) else {
        return false;
    };
    let common = bits.parse().map_or(network.len(), |bits: usize| 2 + bits);
    address.get(..common) == network.get(..common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl {
            perms,
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    #[test]
    fn identities_are_those_of_the_specification() {
        for (said, id) in USERS.into_iter().chain([SUPER]) {
            assert_eq!(crate::tree::digest_id(said), id);
        }
    }

    #[test]
    fn who_may_do_what() {
        let nobody = Who::at("10.1.2.3");
        let ann = nobody.auth(Some("digest"), Some(b"ann:1"), 9).unwrap();
        let guesses = nobody.auth(Some("digest"), Some(b"ann:3"), 9).unwrap();
        let root = nobody.auth(Some("digest"), Some(b"super:root"), 9).unwrap();
        let closed = [entry(31, "digest", USERS[0].1), entry(1, "world", "anyone")];
        for (who, reads, writes) in [
            (&nobody, true, false),
            (&ann, true, true),
            (&guesses, true, false),
            (&root, true, true),
        ] {
            assert_eq!(who.may(Acl::READ, &closed), reads);
            assert_eq!(who.may(Acl::WRITE, &closed), writes);
        }
        for (range, due) in [
            ("10.1.0.0/16", true),
            ("10.1.2.3", true),
            ("127.0.0.1", false),
            ("0.0.0.0/0", true),
            ("::/0", false),
        ] {
            assert_eq!(nobody.may(1, &[entry(1, "ip", range)]), due, "{range}");
        }
        let far = Who::at(V6);
        for (range, due) in [
            ("2001:db8::7", true),
            ("2001:db8::7/128", true),
            ("2001:db8::6", false),
            ("2001:db8::6/127", true),
            ("2001::/16", true),
            ("0.0.0.0/0", false),
        ] {
            assert_eq!(far.may(1, &[entry(1, "ip", range)]), due, "{range}");
        }
        assert_eq!(&*ann.sees(&closed)[0].id, USERS[0].1);
        assert_eq!(&*nobody.sees(&closed)[0].id, "ann:x");
    }

    #[test]
    fn identities_are_counted_and_auth_stands_for_those_that_are_authenticated() {
        let nobody = Who::at("127.0.0.1");
        assert_eq!(nobody.auth(Some("world"), Some(b"anyone"), 9), Err(Refused));
        assert_eq!(nobody.auth(None, Some(b"ann:1"), 9), Err(Refused));
        assert_eq!(nobody.auth(Some("digest"), None, 9), Err(Refused));
        assert_eq!(nobody.auth(Some("ip"), None, 9).as_ref(), Ok(&nobody));
        let empty = nobody.auth(Some("digest"), Some(b""), 9).unwrap();
        assert_eq!(empty.shown(), [("digest", ""), ("ip", "127.0.0.1")]);
        assert_eq!(nobody.auth(Some("digest"), Some(b"ann:1"), 1), Err(Refused));
        assert_eq!(
            nobody.auth(Some("digest"), Some(b"super:root"), 2),
            Err(Refused)
        );
        let ann = nobody.auth(Some("digest"), Some(b"ann:1"), 2).unwrap();
        assert_eq!(
            ann.auth(Some("digest"), Some(b"ann:1"), 1).as_ref(),
            Ok(&ann)
        );
        let both = ann.auth(Some("digest"), Some(b"bob:2"), 3).unwrap();
        let auth = [entry(31, "auth", ""), entry(31, "auth", "")];
        assert_eq!(nobody.stored(&auth), None);
        assert_eq!(nobody.stored(&[]), None);
        assert_eq!(nobody.stored(&[entry(31, "nobody", "x")]), None);
        let stored = both.stored(&auth).unwrap();
        let due = [
            entry(31, "digest", USERS[0].1),
            entry(31, "digest", USERS[1].1),
        ];
        assert_eq!(*stored, due);
        assert_eq!(both.shown().len(), 3);
    }
}
