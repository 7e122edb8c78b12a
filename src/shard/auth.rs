//! The auth operation (docs/protocol.md §6.3, §6.5): which identity a scheme's data gives.

use crate::constants::IDENTITY_BYTES;
use crate::tree::DigestAlgorithm;
use crate::txn::{AuthId, Credentials};
use std::sync::Arc;

/// What the operator has said about identities (docs/protocol.md §6.2, §6.5, §6.9).
#[derive(Clone, Debug, Default)]
pub struct AuthRules {
    /// `DigestAuthenticationProvider.digestAlg`: what identities of scheme digest are made with.
    pub digest_algorithm: DigestAlgorithm,
    /// `DigestAuthenticationProvider.superDigest`: who has this digest is super.
    pub super_digest: Option<Arc<str>>,
    /// `skipACL`: nothing is refused for a missing permission.
    pub skip_acl: bool,
    /// `enforce.auth.schemes`: whoever has no identity of one of these is turned away; empty turns nobody away.
    pub required_schemes: Arc<[Arc<str>]>,
}

/// The id of the super identity that everybody has while permissions are not asked for. No client can get it
/// otherwise, and none is told of it.
const SKIPS_ACL: &str = "skipACL";

impl AuthRules {
    /// What every connection starts with.
    pub(super) fn initial(&self, address: &str) -> Credentials {
        let skips = AuthId {
            scheme: "super".into(),
            id: SKIPS_ACL.into(),
        };
        let everybody = self.skip_acl.then_some(skips);
        [ip(address)].into_iter().chain(everybody).collect()
    }

    /// Whether a connection with these identities may ask for anything but to be authenticated.
    ///
    /// Steps: the identities.
    pub(super) fn admit(&self, credentials: &[AuthId]) -> bool {
        let required = &self.required_schemes;
        let is_one = |id: &AuthId| required.contains(&id.scheme);
        required.is_empty() || credentials.iter().any(is_one)
    }

    /// The credentials after one auth request: at most `identities_max`, with [`IDENTITY_BYTES`] for each
    /// on average. Identities are a set: adding one twice is no change.
    ///
    /// Steps: the identities there are.
    pub(super) fn add(
        &self,
        credentials: &Credentials,
        address: &str,
        scheme: Option<&str>,
        data: Option<&[u8]>,
        identities_max: usize,
    ) -> Result<Credentials, AuthFailed> {
        let id = match (scheme, data) {
            (Some("digest"), Some(data)) => digest(self.digest_algorithm, data),
            (Some("ip"), _) => ip(address),
            _ => return Err(AuthFailed),
        };
        let is_super = &*id.scheme == "digest" && self.super_digest.as_ref() == Some(&id.id);
        let credentials = with(credentials, id, identities_max)?;
        match is_super {
            true => with(&credentials, superuser(), identities_max),
            false => Ok(credentials),
        }
    }
}

/// The provider refuses, or there is none, or there are too many identities (Apache has no bound):
/// −115, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AuthFailed;

/// Whether a client is told that it has this identity.
pub(super) fn is_shown(id: &AuthId) -> bool {
    &*id.scheme != "super" || &*id.id != SKIPS_ACL
}

fn with(
    credentials: &Credentials,
    id: AuthId,
    identities_max: usize,
) -> Result<Credentials, AuthFailed> {
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

fn superuser() -> AuthId {
    AuthId {
        scheme: "super".into(),
        id: "".into(),
    }
}

fn ip(address: &str) -> AuthId {
    AuthId {
        scheme: "ip".into(),
        id: address.into(),
    }
}

fn digest(algorithm: DigestAlgorithm, data: &[u8]) -> AuthId {
    AuthId {
        scheme: "digest".into(),
        id: algorithm.id(data).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    fn initial(address: &str) -> Credentials {
        AuthRules::default().initial(address)
    }

    fn add(
        credentials: &Credentials,
        address: &str,
        scheme: Option<&str>,
        data: Option<&[u8]>,
        identities_max: usize,
    ) -> Result<Credentials, AuthFailed> {
        let rules = AuthRules::default();
        rules.add(credentials, address, scheme, data, identities_max)
    }

    fn names(credentials: &Credentials) -> Vec<String> {
        let name = |id: &AuthId| format!("{}:{}", id.scheme, id.id);
        credentials.iter().map(name).collect()
    }

    #[test]
    fn who_has_the_super_digest_is_super_beside_what_it_is() {
        let rules = AuthRules {
            super_digest: Some(tree::digest_id(b"super:secret").into()),
            ..AuthRules::default()
        };
        let first = rules.initial("10.0.0.1");
        let of = |data: &[u8], max| rules.add(&first, "10.0.0.1", Some("digest"), Some(data), max);
        let wrong = of(b"super:guess", 9).unwrap();
        assert!(names(&wrong).iter().all(|name| !name.starts_with("super")));
        let right = names(&of(b"super:secret", 9).unwrap());
        assert_eq!(right.len(), 3);
        assert!(right[0].starts_with("digest:super:"));
        assert_eq!(right[1..], ["ip:10.0.0.1", "super:"]);
        // A set, in which it counts.
        let again = of(b"super:secret", 9).unwrap();
        let again = rules.add(&again, "10.0.0.1", Some("digest"), Some(b"super:secret"), 3);
        assert_eq!(names(&again.unwrap()), right);
        assert_eq!(of(b"super:secret", 2), Err(AuthFailed));
    }

    #[test]
    fn where_permissions_are_not_asked_for_everybody_is_super_and_nobody_is_told() {
        let rules = AuthRules {
            skip_acl: true,
            ..AuthRules::default()
        };
        let first = rules.initial("10.0.0.1");
        assert!(first.is_sorted());
        assert!(first.iter().any(|id| &*id.scheme == "super"));
        let shown: Vec<&AuthId> = first.iter().filter(|id| is_shown(id)).collect();
        assert_eq!(shown, [&ip("10.0.0.1")]);
        assert!(is_shown(&superuser()));
    }

    #[test]
    fn who_has_no_identity_of_a_required_scheme_is_not_admitted() {
        let of = |schemes: &[&str]| AuthRules {
            required_schemes: schemes.iter().map(|scheme| Arc::from(*scheme)).collect(),
            ..AuthRules::default()
        };
        let first = initial("10.0.0.1");
        let digest = add(&first, "10.0.0.1", Some("digest"), Some(b"a:b"), 9).unwrap();
        for (schemes, admits_first, admits_digest) in [
            (&[][..], true, true),
            (&["digest"], false, true),
            (&["sasl", "digest"], false, true),
            (&["ip"], true, true),
            (&["sasl"], false, false),
        ] {
            let rules = of(schemes);
            assert_eq!(rules.admit(&first), admits_first, "{schemes:?}");
            assert_eq!(rules.admit(&digest), admits_digest, "{schemes:?}");
        }
    }

    #[test]
    fn digest_is_the_one_of_the_specification() {
        let digest = |data: &[u8]| digest(DigestAlgorithm::Sha1, data);
        assert_eq!(&*digest(b"bob:pw").id, "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=");
        assert!(digest(b"nocolon").id.starts_with("nocolon:"));
    }

    #[test]
    fn the_super_user_is_found_by_the_digest_of_the_configured_algorithm() {
        let rules = |algorithm: DigestAlgorithm| AuthRules {
            digest_algorithm: algorithm,
            super_digest: Some(DigestAlgorithm::Sha256.id(b"super:secret").into()),
            ..AuthRules::default()
        };
        for (algorithm, count) in [(DigestAlgorithm::Sha256, 3), (DigestAlgorithm::Sha1, 2)] {
            let rules = rules(algorithm);
            let first = rules.initial("10.0.0.1");
            let data = Some(&b"super:secret"[..]);
            let ids = rules.add(&first, "10.0.0.1", Some("digest"), data, 9);
            assert_eq!(ids.unwrap().len(), count, "{algorithm:?}");
        }
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
