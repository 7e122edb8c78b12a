//! The auth operation (client.md §6.3, §6.5): which identity a scheme's data gives.

use crate::tree;
use crate::txn::{AuthId, Credentials};

/// The provider refuses, or there is none: −115, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AuthFailed;

/// What every connection starts with.
pub(super) fn initial(address: &str) -> Credentials {
    vec![ip(address)].into()
}

/// The credentials after one auth request. Identities are a set: adding one twice is no change.
pub(super) fn add(
    credentials: &Credentials,
    address: &str,
    scheme: Option<&str>,
    data: Option<&[u8]>,
) -> Result<Credentials, AuthFailed> {
    let id = match (scheme, data) {
        (Some("digest"), Some(data)) => digest(data),
        (Some("ip"), _) => ip(address),
        _ => return Err(AuthFailed),
    };
    if credentials.contains(&id) {
        return Ok(credentials.clone());
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
        let second = add(&first, "10.0.0.1", Some("digest"), Some(b"bob:pw")).unwrap();
        assert_eq!(second.len(), 2);
        assert_eq!(
            add(&second, "10.0.0.1", Some("digest"), Some(b"bob:pw")),
            Ok(second.clone())
        );
        assert_eq!(
            add(&second, "10.0.0.1", Some("ip"), None),
            Ok(second.clone())
        );
        for (scheme, data) in [
            (None, Some(&b"x"[..])),
            (Some("world"), Some(b"anyone")),
            (Some("sasl"), Some(b"x")),
            (Some("digest"), None),
        ] {
            assert_eq!(add(&second, "10.0.0.1", scheme, data), Err(AuthFailed));
        }
    }
}
