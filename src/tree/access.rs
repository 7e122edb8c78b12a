//! Who may do what (docs/protocol.md §6).

use crate::txn::{Acl, AuthId, RawAcl, jute};
use crate::types::{DetHashMap, DetHashSet};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use core::cell::OnceCell;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use sha1::{Digest, Sha1};
use sha2::{Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};
use std::sync::Arc;

/// Default of the entries of one access control list. Far more than fit a list that somebody
/// maintains, and few enough that a check of each of them is short.
pub const ACL_ENTRIES_MAX: usize = 4096;

/// Answers that the checks of one multi remember. When there are so many, no more are added: a multi that
/// goes round over more lists still finds these.
pub(super) const ANSWERS_MAX: usize = 1024;

/// Bytes of an id for one step: whoever compares or stores an id may have to look at all of it.
const ID_PER_STEP: usize = 512;

/// The longest id of scheme ip, bytes. Apache takes zeroes before a number without end, and reads them again for every
/// check; an address of IPv6 with its bits has 43 characters at most.
const ADDRESS_MAX: usize = 64;

/// Whether a list grants at least one bit of `perm` to one of the identities, which are sorted
/// (docs/protocol.md §6.2).
///
/// Steps: at most twice [`steps`] of the list, each with a search among the identities; nothing that grows with
/// the identities alone.
pub(super) fn allow(acl: &[Acl], perm: i32, who: &[AuthId]) -> bool {
    let granting = || acl.iter().filter(|entry| entry.perms & perm != 0);
    if acl.is_empty() || granting().any(is_anyone) || !of_scheme(who, "super").is_empty() {
        return true;
    }
    let who = Identities::new(who);
    granting().any(|entry| who.match_entry(entry))
}

/// Steps to compare, or to store, an id of so many bytes.
pub(super) fn id_steps(len: usize) -> usize {
    1 + len / ID_PER_STEP
}

/// Steps to compare all entries of a list.
pub(super) fn steps(acl: &[Acl]) -> usize {
    acl.iter().map(|entry| id_steps(entry.id.len())).sum()
}

/// Whether the first entry of a list lets everybody in.
pub(super) fn is_open(acl: &[Acl], perm: i32) -> bool {
    let first = acl.first();
    first.is_some_and(|first| is_anyone(first) && first.perms & perm != 0)
}

/// What a check for `perm` may cost, in steps.
pub(super) fn compared(acl: &[Acl], perm: i32) -> usize {
    match is_open(acl, perm) {
        true => 1,
        false => steps(acl),
    }
}

/// What [`allow`] has said, and of which list.
type Answer = (Arc<[Acl]>, bool);

/// The checks of one request, all for the same identities, and what they have cost.
///
/// Answers are remembered, so that a multi of many operations on nodes with one list compares that list
/// once for each permission. Each answer holds its list: while it is remembered, no other list can
/// have its address. A list of one entry is not remembered.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// By the address of the list and the permission; at most [`ANSWERS_MAX`].
    answers: DetHashMap<(usize, i32), Answer>,
    /// Of entries compared and normalised, and what was added, since they were last taken.
    steps: usize,
}

impl Checks {
    /// [`allow`] for a caller who is the same in each call.
    pub(super) fn allow(&mut self, acl: &Arc<[Acl]>, perm: i32, who: &[AuthId]) -> bool {
        let key = (acl.as_ptr().addr(), perm);
        if acl.len() > 1
            && let Some((_, answer)) = self.answers.get(&key)
        {
            return *answer;
        }
        let answer = allow(acl, perm, who);
        self.spend(compared(acl, perm));
        if acl.len() > 1 && self.answers.len() < ANSWERS_MAX {
            self.answers.insert(key, (Arc::clone(acl), answer));
        }
        answer
    }

    /// [`normalise`].
    pub(super) fn normalise(
        &mut self,
        acl: Option<&[RawAcl]>,
        who: &[AuthId],
        entries_max: usize,
    ) -> Option<Arc<[Acl]>> {
        let sent = acl.unwrap_or_default().iter().take(entries_max);
        let id = |entry: &RawAcl| entry.id.as_ref().map_or(0, |id| id.len());
        self.spend(sent.map(|entry| id_steps(id(entry))).sum());
        let list = normalise(acl, who, entries_max)?;
        self.spend(steps(&list));
        Some(list)
    }

    /// Something beside the entries was looked at.
    pub(super) fn add_steps(&mut self, steps: usize) {
        self.steps += steps;
    }

    /// The first step of a list is in the step of the operation.
    fn spend(&mut self, steps: usize) {
        self.steps += steps.saturating_sub(1);
    }

    /// Steps since the last call: entries compared, sent and stored, each list without its first step, and what was
    /// added.
    pub(super) fn take_steps(&mut self) -> usize {
        std::mem::take(&mut self.steps)
    }
}

pub(super) fn is_anyone(entry: &Acl) -> bool {
    &*entry.scheme == "world" && &*entry.id == "anyone"
}

/// The identities of one scheme. `who` is sorted.
fn of_scheme<'a>(who: &'a [AuthId], scheme: &str) -> &'a [AuthId] {
    debug_assert!(who.is_sorted(), "identities are searched");
    let from = who.partition_point(|id| &*id.scheme < scheme);
    let len = who[from..].partition_point(|id| &*id.scheme == scheme);
    &who[from..from + len]
}

/// The identities of one check: found without comparing each with each entry, and addresses
/// parsed once.
struct Identities<'a> {
    /// Sorted.
    ids: &'a [AuthId],
    addresses: OnceCell<Vec<IpAddr>>,
}

impl<'a> Identities<'a> {
    fn new(ids: &'a [AuthId]) -> Identities<'a> {
        Identities {
            ids,
            addresses: OnceCell::new(),
        }
    }

    fn addresses(&self) -> &[IpAddr] {
        self.addresses.get_or_init(|| {
            let ids = of_scheme(self.ids, "ip").iter();
            ids.filter_map(|id| id.id.parse().ok()).collect()
        })
    }

    fn match_entry(&self, entry: &Acl) -> bool {
        if &*entry.scheme == "ip" {
            let addresses = self.addresses();
            return !addresses.is_empty()
                && ip_range(&entry.id)
                    .is_some_and(|range| addresses.iter().any(|a| is_within(*a, range)));
        }
        let wanted = (&*entry.scheme, &*entry.id);
        let place = |id: &AuthId| (&*id.scheme, &*id.id).cmp(&wanted);
        self.ids.binary_search_by(place).is_ok()
    }
}

/// What scheme digest makes identities with: `DigestAuthenticationProvider.digestAlg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-1.
    #[default]
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA-512/224.
    Sha512_224,
    /// SHA-512/256.
    Sha512_256,
}

impl DigestAlgorithm {
    /// The identity that auth(`digest`, `user:password`) gives (docs/protocol.md §6.3): the user, and the
    /// Base64 of the hash over the whole. Without a colon the text is its own user.
    pub fn id(self, auth: &[u8]) -> String {
        let text = jute::text(auth);
        let user = text.split(':').next().unwrap_or_default();
        format!("{user}:{}", self.hash(text.as_bytes()))
    }

    /// In Base64.
    fn hash(self, bytes: &[u8]) -> String {
        match self {
            DigestAlgorithm::Sha1 => STANDARD.encode(Sha1::digest(bytes)),
            DigestAlgorithm::Sha224 => STANDARD.encode(Sha224::digest(bytes)),
            DigestAlgorithm::Sha256 => STANDARD.encode(Sha256::digest(bytes)),
            DigestAlgorithm::Sha384 => STANDARD.encode(Sha384::digest(bytes)),
            DigestAlgorithm::Sha512 => STANDARD.encode(Sha512::digest(bytes)),
            DigestAlgorithm::Sha512_224 => STANDARD.encode(Sha512_224::digest(bytes)),
            DigestAlgorithm::Sha512_256 => STANDARD.encode(Sha512_256::digest(bytes)),
        }
    }
}

/// [`DigestAlgorithm::id`] with the algorithm that holds where nothing is configured.
pub fn digest_id(auth: &[u8]) -> String {
    DigestAlgorithm::default().id(auth)
}

/// Address and number of leading bits of `address[/bits]`, as Apache reads them: every number is what
/// Java's `Integer.parseInt` takes, with a sign and leading zeroes. But of at most [`ADDRESS_MAX`] bytes.
pub(super) fn ip_range(text: &str) -> Option<(IpAddr, u32)> {
    if text.len() > ADDRESS_MAX {
        return None;
    }
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<i32>().ok()?)),
        None => (text, None),
    };
    let address = match address.contains(':') {
        true => IpAddr::V6(v6_address(address)?),
        false => IpAddr::V4(v4_address(address)?),
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(width), |bits| u32::try_from(bits).ok())?;
    (bits <= width).then_some((address, bits))
}

fn v4_address(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        let part: i32 = parts.next()?.parse().ok()?;
        *byte = u8::try_from(part).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(bytes))
}

/// Eight segments, or fewer around one `::`.
fn v6_address(text: &str) -> Option<Ipv6Addr> {
    let segments = |text: &str| -> Option<Vec<u16>> {
        let all = text.split(':').take(9);
        all.map(v6_segment).collect()
    };
    let mut address = [0; 8];
    match text.split_once("::") {
        None => address = segments(text)?.try_into().ok()?,
        Some((_, below)) if below.contains("::") => return None,
        Some((above, below)) => {
            let some = |text: &str| match text {
                "" => Some(Vec::new()),
                text => segments(text),
            };
            let (above, below) = (some(above)?, some(below)?);
            if above.len() + below.len() >= address.len() {
                return None;
            }
            address[..above.len()].copy_from_slice(&above);
            address[8 - below.len()..].copy_from_slice(&below);
        }
    }
    Some(Ipv6Addr::from(address))
}

/// Up to four characters, a sign among them; of a negative number the low 16 bits.
fn v6_segment(text: &str) -> Option<u16> {
    let number = i32::from_str_radix(text, 16).ok();
    number.filter(|_| text.len() <= 4).map(|n| n as u16)
}

/// Whether an address is of the range's family and shares its leading bits.
fn is_within(client: IpAddr, (address, bits): (IpAddr, u32)) -> bool {
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
        // Colons at the end do not count.
        "digest" => id.trim_end_matches(':').matches(':').count() == 1,
        _ => false,
    }
}

/// Normalises a list of at most `entries_max` entries, as sent and as it results
/// (docs/protocol.md §6.4). `None`: −114.
///
/// Steps: at most the entries sent, and those that result or one list of identities more than there may be.
pub(super) fn normalise(
    acl: Option<&[RawAcl]>,
    who: &[AuthId],
    entries_max: usize,
) -> Option<Arc<[Acl]>> {
    let acl = acl.filter(|acl| !acl.is_empty() && acl.len() <= entries_max)?;
    let sent = distinct(acl)?;
    if !sent.iter().any(is_auth) {
        return Some(sent.into());
    }
    // Neither the automatic ip identity nor super counts as authenticated. What the expansion makes twice
    // stays: only what was sent is looked at for duplicates.
    let authenticated = || who.iter().filter(|id| &*id.scheme == "digest");
    authenticated().next()?;
    let mut list = Vec::new();
    for entry in sent {
        if is_auth(&entry) {
            let ids = authenticated().take(entries_max + 1);
            list.extend(ids.map(|id| Acl {
                perms: entry.perms,
                scheme: id.scheme.clone(),
                id: id.id.clone(),
            }));
        } else {
            list.push(entry);
        }
        if list.len() > entries_max {
            return None;
        }
    }
    Some(list.into())
}

fn is_auth(entry: &Acl) -> bool {
    &*entry.scheme == "auth"
}

/// The entries that were sent, each once, if all of them are valid.
fn distinct(acl: &[RawAcl]) -> Option<Vec<Acl>> {
    let mut list = Distinct::default();
    for raw in acl {
        let scheme = raw.scheme.clone()?;
        let id = match &raw.id {
            None if &*scheme == "auth" => Arc::default(),
            Some(id) if &*scheme == "auth" || is_valid_id(&scheme, id) => id.clone(),
            _ => return None,
        };
        let perms = raw.perms;
        list.push(Acl { perms, scheme, id });
    }
    Some(list.entries)
}

/// Entries among which an equal one is looked for one by one.
const FEW_MAX: usize = 8;

/// Entries in the order in which they came, each once.
#[derive(Default)]
struct Distinct {
    entries: Vec<Acl>,
    /// The same; empty as long as they are few.
    seen: DetHashSet<Acl>,
}

impl Distinct {
    fn push(&mut self, entry: Acl) {
        if self.is_new(&entry) {
            self.entries.push(entry);
        }
    }

    fn is_new(&mut self, entry: &Acl) -> bool {
        if self.entries.len() < FEW_MAX {
            return !self.entries.contains(entry);
        }
        if self.seen.is_empty() {
            self.seen.extend(self.entries.iter().cloned());
        }
        self.seen.insert(entry.clone())
    }
}

/// What a caller without ADMIN sees of a list (docs/protocol.md §6.6).
pub(super) fn mask(acl: &[Acl]) -> Vec<Acl> {
    let masked = |entry: &Acl| match &*entry.scheme {
        "digest" => Acl {
            id: mask_lines(&entry.id).into(),
            ..entry.clone()
        },
        _ => entry.clone(),
    };
    acl.iter().map(masked).collect()
}

/// An id with `:x` in place of the first colon of each line and what follows it there: no hash has a second line, but
/// a client may have written one.
fn mask_lines(id: &str) -> String {
    let is_end = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut masked = String::with_capacity(id.len());
    for line in id.split_inclusive(is_end) {
        let text = line.strip_suffix(is_end).unwrap_or(line);
        match text.split_once(':') {
            Some((user, _)) => masked.extend([user, ":x"]),
            None => masked.push_str(text),
        }
        masked.push_str(&line[text.len()..]);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        for (algorithm, due) in [
            (DigestAlgorithm::Sha1, "ikIaKsbtGweaHnb/jKn7OHqbunM="),
            (
                DigestAlgorithm::Sha224,
                "V2mvd2ffOcs02HpVY83ycSg9kqz4jTlMn1ET9Q==",
            ),
            (
                DigestAlgorithm::Sha256,
                "lXdkgIa9O1CDDWAryQ0pe9wUYi2LkG6M7Uocn/Vyn2g=",
            ),
            (
                DigestAlgorithm::Sha384,
                "Pd/l06QeLk9MqD36VccOX0Fw1tgKhSdAl0mKINCHnwpI9R17BoWbdxukNC3K47Q1",
            ),
            (
                DigestAlgorithm::Sha512,
                "jQFpfQMlS0Fkelz3cdxBlcfmOOApGvKAjybCSpc/oHQD7ouOUKaAFXPlHr/2XpjmwJ0yssqB0Mh7gRRVqmyALQ==",
            ),
            (
                DigestAlgorithm::Sha512_224,
                "cqvSV2UbZ2q5COXLGv28T5tsr77x6AK7tzbGZg==",
            ),
            (
                DigestAlgorithm::Sha512_256,
                "A9N1joy8pAxXpZyuKoYHmry5YD7X6ES6VJn8WVyn8xY=",
            ),
        ] {
            assert_eq!(algorithm.id(b"bob:pw"), format!("bob:{due}"));
        }
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
            let list = [Acl {
                perms: Acl::READ,
                scheme: "ip".into(),
                id: range.into(),
            }];
            let granted = allow(&list, Acl::READ, &[id("ip", client)]);
            assert_eq!(granted, due, "{client} {range}");
        }
        assert!(!is_valid_id("ip", "1.2.3.4/33") && !is_valid_id("ip", "host"));
    }

    /// Rows 1 and 2 of the comparison with Apache: its numbers are Java's, and IPv6 has no dotted tail.
    #[test]
    fn addresses_are_read_as_apache_reads_them() {
        for (text, due) in [
            ("127.0.0.01", Some(("127.0.0.1", 32))),
            ("010.001.002.003", Some(("10.1.2.3", 32))),
            ("+1.2.3.-0/-0", Some(("1.2.3.0", 0))),
            ("1.2.3.4/+008", Some(("1.2.3.4", 8))),
            ("0000000127.0.0.1", Some(("127.0.0.1", 32))),
            ("1.2.3", None),
            ("1.2.3.", None),
            ("1.2.3.4.", None),
            ("1.2.3.4.5", None),
            ("1.2.3.256", None),
            ("1.2.3.-1", None),
            ("1.2.3. 4", None),
            ("1.2.3.4/", None),
            ("1.2.3.4/-1", None),
            ("1.2.3.4/8/8", None),
            ("99999999999.2.3.4", None),
            ("1234", None),
            ("", None),
            ("::", Some(("::", 128))),
            ("::1", Some(("::1", 128))),
            ("1::", Some(("1::", 128))),
            ("1::2/0064", Some(("1::2", 64))),
            ("0:0:0:0:0:0:0:1", Some(("::1", 128))),
            ("1:2:3:4:5:6::7", Some(("1:2:3:4:5:6:0:7", 128))),
            ("::+1", Some(("::1", 128))),
            ("::-1", Some(("::ffff", 128))),
            ("::-fff", Some(("::f001", 128))),
            ("FE80::Ab", Some(("fe80::ab", 128))),
            ("::ffff:127.0.0.1", None),
            ("1:2:3:4:5:6:7::8", None),
            ("1:2:3:4:5:6:7", None),
            ("1:2:3:4:5:6:7:8:9", None),
            ("1::2::3", None),
            (":::", None),
            (":1::2", None),
            ("::00001", None),
            ("::-ffff", None),
            ("::1/129", None),
            ("fe80::1%eth0", None),
            // Of 64 bytes, and of more.
            (
                "0000000000000000000000000000000000000000000000000000000010.0.0.1",
                Some(("10.0.0.1", 32)),
            ),
            (
                "10.0.0.1/0000000000000000000000000000000000000000000000000000008",
                Some(("10.0.0.1", 8)),
            ),
            (
                "00000000000000000000000000000000000000000000000000000000010.0.0.1",
                None,
            ),
            (
                "10.0.0.1/00000000000000000000000000000000000000000000000000000008",
                None,
            ),
        ] {
            let due = due.map(|(address, bits)| (address.parse().unwrap(), bits));
            assert_eq!(ip_range(text), due, "{text:?}");
            assert_eq!(is_valid_id("ip", text), due.is_some(), "{text:?}");
        }
        let padded = normal(Some(&[raw("ip", "127.0.0.01")]), &[]).unwrap();
        assert_eq!(&*padded[0].id, "127.0.0.01", "as it was sent");
        assert!(allow(&padded, Acl::READ, &[id("ip", "127.0.0.1")]));
        assert!(!allow(&padded, Acl::READ, &[id("ip", "127.0.0.2")]));
    }

    proptest! {
        /// What Rust reads as an address Apache reads as the same one, unless it has a dotted tail.
        #[test]
        fn usual_addresses_are_what_they_were(bits in any::<u128>(), v4 in any::<bool>(), zeroes in 0..8u32) {
            let bits = if zeroes < 4 { bits } else { bits & (u128::MAX << (16 * zeroes)) };
            let address = match v4 {
                true => IpAddr::V4((bits as u32).into()),
                false => IpAddr::V6(bits.into()),
            };
            let text = address.to_string();
            let width = if v4 { 32 } else { 128 };
            let due = (v4 || !text.contains('.')).then_some((address, width));
            prop_assert_eq!(ip_range(&text), due);
        }

        #[test]
        fn no_address_panics(text in "[0-9a-f:./+-]{0,24}|\\PC{0,12}") {
            let _ = ip_range(&text);
        }
    }

    fn normal(acl: Option<&[RawAcl]>, who: &[AuthId]) -> Option<Arc<[Acl]>> {
        normalise(acl, who, ACL_ENTRIES_MAX)
    }

    #[test]
    fn lists_are_normalised() {
        let who = [id("ip", "127.0.0.1"), id("digest", "u:h")];
        assert_eq!(normal(None, &who), None);
        assert_eq!(normal(Some(&[]), &who), None);
        let twice = normal(
            Some(&[raw("world", "anyone"), raw("world", "anyone")]),
            &who,
        )
        .unwrap();
        assert_eq!(twice.len(), 1);
        let auth = normal(Some(&[raw("auth", "ignored")]), &who).unwrap();
        assert_eq!(
            &*auth,
            &[Acl {
                perms: 31,
                scheme: "digest".into(),
                id: "u:h".into()
            }]
        );
        assert_eq!(normal(Some(&[raw("auth", "")]), &who[..1]), None);
        for (scheme, bad) in [
            ("world", "x"),
            ("digest", "ab"),
            ("digest", "a:b:c"),
            ("digest", "a:"),
            ("digest", "a::"),
            ("digest", ":"),
            ("digest", "a::b"),
            ("digest", ""),
            ("sasl", "u"),
            ("super", ""),
        ] {
            assert_eq!(
                normal(Some(&[raw(scheme, bad)]), &who),
                None,
                "{scheme}:{bad}"
            );
        }
        // Colons at the end do not count, as where Java splits at them; they are stored.
        for valid in [":b", "u:h:", "u:h:::"] {
            let list = normal(Some(&[raw("digest", valid)]), &who).unwrap();
            assert_eq!(&*list[0].id, valid);
        }
        let null = RawAcl {
            perms: 31,
            scheme: Some("world".into()),
            id: None,
        };
        assert_eq!(normal(Some(&[null]), &who), None);
    }

    /// Row 4 of the comparison with Apache: duplicates go before `auth` becomes what it stands for.
    #[test]
    fn what_auth_makes_twice_is_kept_twice() {
        let who = [id("digest", "u:h"), id("digest", "v:h"), id("ip", "::1")];
        let ids = |acl: &[RawAcl]| -> Vec<String> {
            let list = normal(Some(acl), &who).unwrap();
            list.iter().map(|entry| entry.id.to_string()).collect()
        };
        let (auth, same) = (raw("auth", ""), raw("digest", "v:h"));
        assert_eq!(ids(&[auth.clone(), same.clone()]), ["u:h", "v:h", "v:h"]);
        assert_eq!(ids(&[same.clone(), auth.clone()]), ["v:h", "u:h", "v:h"]);
        assert_eq!(ids(&[auth.clone(), auth.clone()]), ["u:h", "v:h"]);
        // Another id makes another entry, although it says nothing.
        assert_eq!(
            ids(&[auth.clone(), raw("auth", "x")]),
            ["u:h", "v:h", "u:h", "v:h"]
        );
        assert_eq!(ids(&[same.clone(), same]), ["v:h"]);
        let null = RawAcl { id: None, ..auth };
        assert_eq!(ids(&[null]), ["u:h", "v:h"]);
    }

    #[test]
    fn entries_keep_their_order_and_come_once_whether_they_are_few_or_many() {
        for many in [1, 2, FEW_MAX - 1, FEW_MAX, FEW_MAX + 1, 3 * FEW_MAX] {
            let once: Vec<RawAcl> = (0..many)
                .map(|i| raw("digest", &format!("u:{i}")))
                .collect();
            let list = normal(Some(&[&once[..], &once[..]].concat()), &[]).unwrap();
            let due: Vec<String> = (0..many).map(|i| format!("u:{i}")).collect();
            let found: Vec<&str> = list.iter().map(|entry| &*entry.id).collect();
            assert_eq!(found, due);
        }
    }

    #[test]
    fn a_list_has_a_bound_as_sent_and_as_it_results() {
        let digests = |n: usize| -> Vec<RawAcl> {
            (0..n).map(|i| raw("digest", &format!("u:{i}"))).collect()
        };
        let len = |acl: &[RawAcl], who: &[AuthId]| normalise(Some(acl), who, 100).map(|l| l.len());
        assert_eq!(len(&digests(100), &[]), Some(100));
        assert_eq!(len(&digests(101), &[]), None);
        assert_eq!(len(&vec![raw("world", "anyone"); 101], &[]), None);
        // auth stands for each identity: 60 of them twice are beyond the bound.
        let who: Vec<AuthId> = (0..60).map(|i| id("digest", &format!("v:{i}"))).collect();
        let auth = |perms: i32| RawAcl {
            perms,
            ..raw("auth", "")
        };
        assert_eq!(len(&[auth(31)], &who), Some(60));
        assert_eq!(len(&vec![auth(31); 100], &who), Some(60));
        assert_eq!(len(&[auth(31), auth(1)], &who), None);
    }

    #[test]
    fn few_and_many_identities_are_matched_alike() {
        let list: Vec<Acl> = (0..50)
            .map(|i| Acl {
                perms: Acl::READ,
                scheme: "digest".into(),
                id: format!("u:{i}").into(),
            })
            .collect();
        for many in [1, 8, 9, 1000] {
            let mut who: Vec<AuthId> = (0..many - 1)
                .map(|i| id("digest", &format!("v:{i}")))
                .collect();
            who.sort();
            assert!(!allow(&list, Acl::READ, &who), "{many}");
            who.push(id("digest", "u:49"));
            who.sort();
            assert!(allow(&list, Acl::READ, &who), "{many}");
            assert!(!allow(&list, Acl::WRITE, &who), "{many}");
        }
    }

    /// Two entries, the second for the user.
    fn list_for(user: &str) -> Arc<[Acl]> {
        let entry = |id: &str| Acl {
            perms: Acl::ALL,
            scheme: "digest".into(),
            id: id.into(),
        };
        Arc::from([entry("stranger:h"), entry(user)])
    }

    #[test]
    fn an_answer_is_never_that_of_a_list_which_has_been_freed() {
        let mut checks = Checks::default();
        let who = [id("digest", "u:h")];
        for nth in 0..2 * ANSWERS_MAX {
            let mine = nth % 3 == 0;
            // Freed at the end of the round, unless somebody holds it: the next one may lie there.
            let list = list_for(if mine { "u:h" } else { "v:h" });
            for _ in 0..2 {
                assert_eq!(checks.allow(&list, Acl::READ, &who), mine, "{nth}");
            }
        }
    }

    #[test]
    fn answers_have_a_bound_and_lists_beyond_it_are_compared_each_time() {
        let mut checks = Checks::default();
        let lists: Vec<_> = (0..ANSWERS_MAX + 5).map(|_| list_for("u:h")).collect();
        for due in [ANSWERS_MAX + 5, 5, 5] {
            for list in &lists {
                assert!(checks.allow(list, Acl::READ, &[id("digest", "u:h")]));
            }
            assert_eq!(checks.take_steps(), due, "one for each of two entries");
            assert_eq!(checks.answers.len(), ANSWERS_MAX);
        }
    }

    #[test]
    fn answers_are_those_of_one_permission() {
        let mut checks = Checks::default();
        let list: Arc<[Acl]> = Arc::from([Acl::world(Acl::READ), Acl::world(Acl::CREATE)]);
        for _ in 0..2 {
            assert!(checks.allow(&list, Acl::READ, &[]));
            assert!(!checks.allow(&list, Acl::WRITE, &[]));
        }
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
    }

    #[test]
    fn what_follows_a_colon_is_masked_in_each_line_of_a_digest() {
        for (sent, due) in [
            ("u:h", "u:x"),
            ("u:h:", "u:x"),
            (":h", ":x"),
            ("u:h\nz", "u:x\nz"),
            ("u\nv:h", "u\nv:x"),
            ("u:\r\nz:", "u:x\r\nz:x"),
            ("u:h\u{85}\u{2028}z\u{2029}", "u:x\u{85}\u{2028}z\u{2029}"),
            ("u:h\u{b}z", "u:x"),
        ] {
            let entry = |scheme: &str| Acl {
                perms: Acl::ALL,
                scheme: scheme.into(),
                id: sent.into(),
            };
            let seen = mask(&[entry("digest"), entry("world")]);
            assert_eq!((&*seen[0].id, &*seen[1].id), (due, sent));
        }
    }
}
