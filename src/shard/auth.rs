//! The auth operation (docs/protocol.md §6.3, §6.5): which identity a scheme's data gives.

use crate::constants::IDENTITY_BYTES;
use crate::tree;
use crate::txn::{AuthId, Credentials};

/// The provider refuses, or there is none, or there are too many identities (Apache has no bound):
/// −115, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AuthFailed;

/// What every connection starts with.
pub(super) fn initial(address: &str) -> Credentials {
    vec![ip(address)].into()
}

/// The credentials after one auth request: at most `identities_max`, with [`IDENTITY_BYTES`] for each
/// on average. Identities are a set: adding one twice is no change.
///
/// Steps: the identities there are.
pub(super) fn add(
    credentials: &Credentials,
    address: &str,
    scheme: Option<&str>,
    data: Option<&[u8]>,
    identities_max: usize,
) -> Result<Credentials, AuthFailed> {
    let id = match (scheme, data) {
        (Some("digest"), Some(data)) => digest(data),
        (Some("ip"), _) => ip(address),
        _ => return Err(AuthFailed),
    };
    let Err(place) = credentials.binary_search(&id) else {
        return Ok(credentials.clone());
    };
    let bytes: usize = credentials.iter().chain([&id]).map(weight).sum();
    if credentials.len() >= identities_max || bytes > identities_max.saturating_mul(IDENTITY_BYTES)
    {
        return Err(AuthFailed);
    }
    let (before, behind) = credentials.split_at(place);
    Ok(before.iter().chain([&id]).chain(behind).cloned().collect())
}

fn weight(id: &AuthId) -> usize {
    id.scheme.len() + id.id.len()
}

fn ip(address: &str) -> AuthId {
    AuthId {
        scheme: "ip".into(),
        id: address.into(),
    }
}

fn digest(data: &[u8]) -> AuthId {
    AuthId {
        scheme: "digest".into(),
        id: tree::digest_id(data).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_the_one_of_the_specification() {
        assert_eq!(&*digest(b"bob:pw").id, "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=");
        assert!(digest(b"nocolon").id.starts_with("nocolon:"));
    }

    #[test]
    fn identities_are_a_set() {
        let first = initial("10.0.0.1");
        let second = add(&first, "10.0.0.1", Some("digest"), Some(b"bob:pw"), 3).unwrap();
        assert_eq!(second.len(), 2);
        assert_eq!(
            add(&second, "10.0.0.1", Some("digest"), Some(b"bob:pw"), 3),
            Ok(second.clone())
        );
        assert_eq!(
            add(&second, "10.0.0.1", Some("ip"), None, 3),
            Ok(second.clone())
        );
        for (scheme, data) in [
            (None, Some(&b"x"[..])),
            (Some("world"), Some(b"anyone")),
            (Some("sasl"), Some(b"x")),
            (Some("digest"), None),
        ] {
            assert_eq!(add(&second, "10.0.0.1", scheme, data, 3), Err(AuthFailed));
        }
    }

    #[test]
    fn identities_are_kept_sorted() {
        let mut ids = initial("10.0.0.1");
        for user in [&b"m:x"[..], b"a:x", b"z:x", b"b:x"] {
            ids = add(&ids, "10.0.0.1", Some("digest"), Some(user), 10).unwrap();
        }
        assert_eq!(ids.len(), 5);
        assert!(ids.is_sorted());
    }

    #[test]
    fn identities_have_a_bound_in_bytes() {
        let mut ids = initial("10.0.0.1");
        let user = |name: u8, len: usize| [vec![name; len], b":x".to_vec()].concat();
        let long = user(b'l', 10 * IDENTITY_BYTES);
        let one = add(&ids, "10.0.0.1", Some("digest"), Some(&long), 10);
        assert_eq!(one, Err(AuthFailed), "one that is as long as ten may be");
        for name in b'a'..b'e' {
            let half = user(name, 2 * IDENTITY_BYTES);
            ids = add(&ids, "10.0.0.1", Some("digest"), Some(&half), 10).unwrap();
        }
        let fifth = user(b'e', 2 * IDENTITY_BYTES);
        let more = add(&ids, "10.0.0.1", Some("digest"), Some(&fifth), 10);
        assert_eq!(more, Err(AuthFailed));
        assert!(add(&ids, "10.0.0.1", Some("digest"), Some(b"e:x"), 10).is_ok());
    }

    #[test]
    fn identities_have_a_bound() {
        let mut ids = initial("10.0.0.1");
        for user in [&b"a:x"[..], b"b:x"] {
            ids = add(&ids, "10.0.0.1", Some("digest"), Some(user), 3).unwrap();
        }
        let again = add(&ids, "10.0.0.1", Some("digest"), Some(b"a:x"), 3);
        assert_eq!(again, Ok(ids.clone()));
        let more = add(&ids, "10.0.0.1", Some("digest"), Some(b"c:x"), 3);
        assert_eq!(more, Err(AuthFailed));
    }
}
