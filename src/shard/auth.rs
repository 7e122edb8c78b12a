//! The auth operation (docs/protocol.md §6.3, §6.5): which identity a scheme's data gives.

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

/// The credentials after one auth request, at most `identities_max`. Identities are a set: adding
/// one twice is no change.
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
    if credentials.contains(&id) {
        return Ok(credentials.clone());
    }
    if credentials.len() >= identities_max {
        return Err(AuthFailed);
    }
    Ok(credentials.iter().cloned().chain([id]).collect())
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
    fn identities_are_a_set_in_order() {
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
