//! Who may do what (client.md §6).

use crate::txn::{Acl, AuthId, RawAcl};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use core::net::IpAddr;
use sha1::{Digest, Sha1};
use std::sync::Arc;

/// Whether a list grants at least one bit of `perm` to one of the identities (client.md §6.2).
pub fn allow(acl: &[Acl], perm: i32, who: &[AuthId]) -> bool {
    acl.is_empty()
        || who.iter().any(|id| &*id.scheme == "super")
        || acl
            .iter()
            .filter(|entry| entry.perms & perm != 0)
            .any(|entry| matches(entry, who))
}

fn matches(entry: &Acl, who: &[AuthId]) -> bool {
    if &*entry.scheme == "world" && &*entry.id == "anyone" {
        return true;
    }
    who.iter()
        .filter(|id| id.scheme == entry.scheme)
        .any(|id| match &*entry.scheme {
            "ip" => ip_matches(&id.id, &entry.id),
            _ => id.id == entry.id,
        })
}

/// The identity that auth(`digest`, `user:password`) gives (client.md §6.3): the user, and the
/// Base64 of the SHA-1 over the whole. Without a colon the text is its own user.
pub fn digest_id(auth: &[u8]) -> String {
    let text = String::from_utf8_lossy(auth);
    let user = text.split(':').next().unwrap_or_default();
    format!("{user}:{}", STANDARD.encode(Sha1::digest(text.as_bytes())))
}

/// Address and number of leading bits of `address[/bits]`.
fn ip_range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    (bits <= width).then_some((address, bits))
}

fn ip_matches(client: &str, range: &str) -> bool {
    let (Ok(client), Some((address, bits))) = (client.parse::<IpAddr>(), ip_range(range)) else {
        return false;
    };
    let same = |a: u128, b: u128, width: u32| bits == 0 || (a ^ b) >> (width - bits) == 0;
    match (client, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

/// Whether the id of an ACL entry is valid for its scheme; unregistered schemes have no valid id.
fn is_valid_id(scheme: &str, id: &str) -> bool {
    match scheme {
        "world" => id == "anyone",
        "ip" => ip_range(id).is_some(),
        "digest" => match id.split_once(':') {
            Some((_, hash)) => !hash.is_empty() && !hash.contains(':'),
            None => false,
        },
        _ => false,
    }
}

/// Normalises a list (client.md §6.4). `None`: −114.
pub(super) fn normalise(acl: Option<&[RawAcl]>, who: &[AuthId]) -> Option<Arc<[Acl]>> {
    let mut list: Vec<Acl> = Vec::new();
    let mut push = |entry: Acl| {
        if !list.contains(&entry) {
            list.push(entry);
        }
    };
    for raw in acl.filter(|acl| !acl.is_empty())? {
        let scheme = raw.scheme.as_ref()?;
        if &**scheme == "auth" {
            // The automatic ip identity and super do not count as authenticated.
            let mut ids = who.iter().filter(|id| &*id.scheme == "digest").peekable();
            ids.peek()?;
            for id in ids {
                push(Acl {
                    perms: raw.perms,
                    scheme: id.scheme.clone(),
                    id: id.id.clone(),
                });
            }
            continue;
        }
        let id = raw.id.as_ref().filter(|id| is_valid_id(scheme, id))?;
        push(Acl {
            perms: raw.perms,
            scheme: scheme.clone(),
            id: id.clone(),
        });
    }
    Some(list.into())
}

/// What a caller without ADMIN sees of a list (client.md §6.6).
pub(super) fn mask(acl: &[Acl]) -> Vec<Acl> {
    let masked = |entry: &Acl| match &*entry.scheme {
        "digest" => {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(scheme: &str, id: &str) -> AuthId {
        AuthId {
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    fn raw(scheme: &str, id: &str) -> RawAcl {
        RawAcl {
            perms: 31,
            scheme: Some(scheme.into()),
            id: Some(id.into()),
        }
    }

    #[test]
    fn golden_digest() {
        assert_eq!(digest_id(b"bob:pw"), "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=");
        assert!(digest_id(b"alone").starts_with("alone:"));
    }

    #[test]
    fn ip_ranges_match_by_family_and_mask() {
        for (client, range, due) in [
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("1.2.3.4", "9.9.9.9/0", true),
            ("0:0:0:0:0:0:0:1", "::1", true),
            ("::1", "0.0.0.1", false),
            ("fe80::1", "fe80::/10", true),
        ] {
            assert_eq!(ip_matches(client, range), due, "{client} {range}");
        }
        assert!(!is_valid_id("ip", "1.2.3.4/33") && !is_valid_id("ip", "host"));
    }

    #[test]
    fn lists_are_normalised() {
        let who = [id("ip", "127.0.0.1"), id("digest", "u:h")];
        assert_eq!(normalise(None, &who), None);
        assert_eq!(normalise(Some(&[]), &who), None);
        let twice = normalise(
            Some(&[raw("world", "anyone"), raw("world", "anyone")]),
            &who,
        )
        .unwrap();
        assert_eq!(twice.len(), 1);
        let auth = normalise(Some(&[raw("auth", "ignored")]), &who).unwrap();
        assert_eq!(
            &*auth,
            &[Acl {
                perms: 31,
                scheme: "digest".into(),
                id: "u:h".into()
            }]
        );
        assert_eq!(normalise(Some(&[raw("auth", "")]), &who[..1]), None);
        for (scheme, bad) in [
            ("world", "x"),
            ("digest", "ab"),
            ("digest", "a:b:c"),
            ("digest", "a:"),
            ("sasl", "u"),
            ("super", ""),
        ] {
            assert_eq!(
                normalise(Some(&[raw(scheme, bad)]), &who),
                None,
                "{scheme}:{bad}"
            );
        }
        assert!(normalise(Some(&[raw("digest", ":b")]), &who).is_some());
        let null = RawAcl {
            perms: 31,
            scheme: Some("world".into()),
            id: None,
        };
        assert_eq!(normalise(Some(&[null]), &who), None);
    }

    #[test]
    fn one_common_bit_is_enough_and_super_passes() {
        let list = [Acl {
            perms: Acl::READ,
            scheme: "digest".into(),
            id: "u:h".into(),
        }];
        assert!(allow(&list, Acl::READ | Acl::ADMIN, &[id("digest", "u:h")]));
        assert!(!allow(&list, Acl::WRITE, &[id("digest", "u:h")]));
        assert!(!allow(&list, Acl::READ, &[id("digest", "v:h")]));
        assert!(allow(&list, Acl::WRITE, &[id("super", "")]));
        assert!(allow(&[], Acl::WRITE, &[]));
        assert_eq!(&*mask(&list)[0].id, "u:x");
    }
}
