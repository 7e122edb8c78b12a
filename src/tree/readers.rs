//! Who may read which node, for the events of one transaction (docs/protocol.md §4.4).
//!
//! Many connections can watch a node, and its list can be long. [`Readers`] goes through a list once,
//! and looks up the identities of each connection in what it has found: the work is the sum of the
//! entries and of the identities, not their product.

use super::access::{allow, id_steps, ip_range, is_anyone, is_open, steps};
use crate::txn::{Acl, AuthId, Credentials};
use crate::types::{DetHashMap, DetHashSet};
use core::net::IpAddr;
use hashbrown::Equivalent;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The checks for READ that one transaction's events need, and what they have cost.
///
/// Lists are told apart by their address, and held, so that no other list can have it meanwhile: by the answers,
/// which outlive the events that they were asked for. So are the identities of a connection. There is at most one
/// answer for each event.
#[derive(Debug, Default)]
pub struct Readers {
    lists: DetHashMap<usize, Grants>,
    answers: DetHashMap<(usize, usize), Answer>,
    /// Of entries and identities compared, without the first of a list: that one is in the step of the event.
    steps: usize,
}

/// What was asked about, and whether the list grants it.
type Answer = (Arc<[Acl]>, Credentials, bool);

impl Readers {
    /// Whether a list grants READ to one of the identities, as [`allow`] says.
    ///
    /// Steps: for each list at most once those of its entries; for each list and `who` at most those of the entries
    /// or of the identities, whichever are fewer, and for an address a search in each width of range.
    pub fn allow(&mut self, acl: &Arc<[Acl]>, who: &Credentials) -> bool {
        let is_short = acl.len() <= 1 && steps(acl) <= 1;
        if is_short || is_open(acl, Acl::READ) {
            return allow(acl, Acl::READ, who);
        }
        let key = (acl.as_ptr().addr(), who.as_ptr().addr());
        if let Some((.., answer)) = self.answers.get(&key) {
            return *answer;
        }
        let answer = if acl.len() <= who.len() {
            self.steps += steps(acl) - 1;
            allow(acl, Acl::READ, who)
        } else {
            let grants = self.lists.entry(key.0).or_insert_with(|| {
                self.steps += steps(acl) - 1;
                Grants::new(acl)
            });
            let identities = who.iter().map(|id| id_steps(id.id.len()));
            self.steps += identities.sum::<usize>() + grants.widths.len();
            grants.has(who)
        };
        let held = (Arc::clone(acl), Arc::clone(who), answer);
        self.answers.insert(key, held);
        answer
    }

    /// Steps of all calls.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Answers that are kept.
    pub fn answers(&self) -> usize {
        self.answers.len()
    }
}

/// Whom one list grants READ, to be looked up.
#[derive(Debug, Default)]
struct Grants {
    /// Everybody.
    anyone: bool,
    /// Scheme and id of each entry that is no range of addresses.
    ids: DetHashSet<(Arc<str>, Arc<str>)>,
    ranges: DetHashSet<Prefix>,
    /// The leading bits of the ranges, with the family; IPv4 has 33 of them and IPv6 129.
    widths: BTreeSet<(bool, u32)>,
}

/// The leading bits of an address, as a number; how many there are; and whether it is IPv6.
type Prefix = (bool, u32, u128);

impl Grants {
    /// Steps: the entries.
    fn new(acl: &[Acl]) -> Grants {
        let mut grants = Grants::default();
        for entry in acl.iter().filter(|entry| entry.perms & Acl::READ != 0) {
            grants.anyone |= is_anyone(entry);
            if &*entry.scheme != "ip" {
                grants.ids.insert((entry.scheme.clone(), entry.id.clone()));
            } else if let Some((address, bits)) = ip_range(&entry.id) {
                grants.widths.insert((address.is_ipv6(), bits));
                grants.ranges.insert(prefix(address, bits));
            }
        }
        grants
    }

    /// Steps: the identities, and for each address the widths of the ranges.
    fn has(&self, who: &[AuthId]) -> bool {
        self.anyone
            || who.iter().any(|id| match &*id.scheme {
                "super" => true,
                "ip" => id.id.parse().is_ok_and(|address| self.covers(address)),
                scheme => self.ids.contains(&Asked(scheme, &id.id)),
            })
    }

    fn covers(&self, address: IpAddr) -> bool {
        let family = address.is_ipv6();
        let mut widths = self.widths.range((family, 0)..=(family, 128));
        widths.any(|&(_, bits)| self.ranges.contains(&prefix(address, bits)))
    }
}

/// Scheme and id of an entry, to be looked up.
#[derive(Hash)]
struct Asked<'a>(&'a str, &'a str);

impl Equivalent<(Arc<str>, Arc<str>)> for Asked<'_> {
    fn equivalent(&self, (scheme, id): &(Arc<str>, Arc<str>)) -> bool {
        (self.0, self.1) == (&**scheme, &**id)
    }
}

/// `bits` is at most the width of the address.
fn prefix(address: IpAddr, bits: u32) -> Prefix {
    let (number, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let leading = number.checked_shr(width - bits).unwrap_or(0);
    (address.is_ipv6(), bits, leading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    const ENTRIES: &[&str] = &["digest", "digest", "ip", "ip", "world", "super", "x"];
    const IDENTITIES: &[&str] = &["digest", "digest", "digest", "ip", "ip", "super"];
    const ADDRESSES: &[&str] = &["10.1.2.3", "10.1.9.3", "0.0.0.1", "::1", "fe80::1", "odd"];
    const RANGES: &[&str] = &["/0", "/8", "/16", "/24", "/32", "/64", "/128", "/x", ""];

    fn of(scheme: &str, user: u8, address: &str, range: &str) -> (Arc<str>, Arc<str>) {
        let id = match scheme {
            "ip" => format!("{address}{range}"),
            "world" if user == 0 => "anyone".to_owned(),
            _ => format!("u:{user}"),
        };
        (scheme.into(), id.into())
    }

    fn any_entry() -> impl Strategy<Value = Acl> {
        let ip = (select(ADDRESSES), select(RANGES));
        let parts = (select(ENTRIES), 0u8..40, ip, 0..4);
        parts.prop_map(|(scheme, user, (address, range), perms)| {
            let (scheme, id) = of(scheme, user, address, range);
            Acl { perms, scheme, id }
        })
    }

    fn any_identities() -> impl Strategy<Value = Credentials> {
        let parts = (select(IDENTITIES), 0u8..40, select(ADDRESSES));
        let one = parts.prop_map(|(scheme, user, address)| {
            let (scheme, id) = of(scheme, user, address, "");
            AuthId { scheme, id }
        });
        proptest::collection::btree_set(one, 0..6).prop_map(|ids| ids.into_iter().collect())
    }

    proptest! {
        #[test]
        fn events_are_for_those_whom_a_read_is_for(
            lists in proptest::collection::vec(proptest::collection::vec(any_entry(), 0..12), 1..4),
            callers in proptest::collection::vec(any_identities(), 1..6),
        ) {
            let lists: Vec<Arc<[Acl]>> = lists.into_iter().map(Arc::from).collect();
            let mut readers = Readers::default();
            for who in callers.iter().chain(&callers) {
                for acl in &lists {
                    let due = allow(acl, Acl::READ, who);
                    prop_assert_eq!(readers.allow(acl, who), due, "{:?} {:?}", acl, who);
                }
            }
            prop_assert!(readers.answers.len() <= lists.len() * callers.len());
        }
    }

    /// `entries` users from the first on, each with READ.
    fn list(first: usize, entries: usize) -> Arc<[Acl]> {
        let entry = |n| Acl {
            perms: Acl::READ,
            scheme: "digest".into(),
            id: format!("u{n}:h").into(),
        };
        (first..first + entries).map(entry).collect()
    }

    /// So many users, none of whom is in a list.
    fn strangers(many: usize) -> Credentials {
        let one = |n| AuthId {
            scheme: "digest".into(),
            id: format!("v{n:04}:h").into(),
        };
        (0..many).map(one).collect()
    }

    #[test]
    fn steps_are_the_entries_of_each_list_once_and_the_identities_of_each_caller() {
        let lists = [list(0, 1_000), list(5, 1_000)];
        let callers: Vec<Credentials> = (0..50).map(|_| strangers(64)).collect();
        let mut readers = Readers::default();
        // Nothing is added by the second round.
        for _ in 0..2 {
            for (who, acl) in callers
                .iter()
                .flat_map(|who| lists.iter().map(move |acl| (who, acl)))
            {
                assert!(!readers.allow(acl, who));
            }
            assert_eq!(readers.steps(), 2 * 999 + 2 * 50 * 64);
        }
    }

    #[test]
    fn a_list_shorter_than_the_identities_costs_its_entries() {
        let (acl, who) = (list(0, 3), strangers(900));
        let mut readers = Readers::default();
        assert!(!readers.allow(&acl, &who));
        assert_eq!(readers.steps(), 2);
    }

    #[test]
    fn long_ids_cost_a_step_for_each_512_bytes_of_each_list_and_of_each_caller() {
        let long = |user: &str, n: usize| format!("{user}{n}{}:h", "x".repeat(8 << 9));
        let one = |n| Acl {
            id: long("u", n).into(),
            ..list(0, 1)[0].clone()
        };
        let of = |n| AuthId {
            scheme: "digest".into(),
            id: long("v", n).into(),
        };
        // A list of one entry; as many entries as identities; more.
        for (entries, due) in [(1, 8), (2, 17), (3, 26 + 18)] {
            let acl: Arc<[Acl]> = (0..entries).map(one).collect();
            let who: Credentials = (0..2).map(of).collect();
            let mut readers = Readers::default();
            for _ in 0..2 {
                assert!(!readers.allow(&acl, &who));
                assert_eq!(readers.steps(), due);
            }
        }
    }

    #[test]
    fn an_open_list_costs_nothing_beside_the_event() {
        let open: Arc<[Acl]> = [Acl::world(Acl::ALL)].into();
        let mut readers = Readers::default();
        assert!(readers.allow(&open, &strangers(3)));
        assert_eq!((readers.steps(), readers.answers.len()), (0, 0));
    }

    #[test]
    fn an_address_is_looked_up_once_for_each_width_of_range() {
        let entry = |n: u32| Acl {
            perms: Acl::READ,
            scheme: "ip".into(),
            id: format!("10.0.{}.{}/{}", n >> 8, n & 255, 31 + n % 2).into(),
        };
        let acl: Arc<[Acl]> = (0..4_096).map(entry).collect();
        let who: Credentials = [AuthId {
            scheme: "ip".into(),
            id: "10.1.0.0".into(),
        }]
        .into();
        let mut readers = Readers::default();
        assert!(!readers.allow(&acl, &who));
        assert_eq!(readers.steps(), 4_095 + 1 + 2);
    }
}
