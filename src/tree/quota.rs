//! Quotas (docs/protocol.md §7): which paths have one, and what the text of their nodes says.
//!
//! A quota on the path P is made of two ordinary nodes, `/zookeeper/quota` + P + `/zookeeper_limits` and
//! `/zookeeper_stats`. The first one registers P while it is there; `totals` keeps the second one.

use crate::types::DetHashMap;
use core::fmt::{self, Write};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const QUOTAS: &str = "/zookeeper/quota";
pub(super) const LIMITS: &str = "zookeeper_limits";
pub(super) const STATS: &str = "zookeeper_stats";

/// Bytes of a text of limits or totals that is read; a longer one is taken for one that is malformed. Each
/// change below the path reads the text as a part of its one step, and anybody may write it; two totals and two limits
/// need half of this.
pub(super) const TEXT_MAX: usize = 256;

/// What a name takes on the way to a quota, beside its bytes: an entry in the table, and one in the list of its
/// parent.
const NAME: usize = 256;

/// The path whose quota the node `name` belongs to: empty for the root, or beginning with a slash.
pub(super) fn path_of<'p>(node: &'p str, name: &str) -> Option<&'p str> {
    let path = node.strip_prefix(QUOTAS)?.strip_suffix(name)?;
    let path = path.strip_suffix('/')?;
    (path.is_empty() || path.starts_with('/')).then_some(path)
}

/// The names of a path; Apache leaves out those that are blank.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let names = path.split('/');
    names.filter(|name| name.contains(|c: char| c > ' '))
}

/// A name on the way to a registered path.
#[derive(Clone, Debug, Default)]
struct Name {
    parent: u32,
    name: Box<str>,
    /// Of a registered path: the path.
    quota: Option<Arc<str>>,
    below: BTreeMap<Box<str>, u32>,
}

/// The root of the names.
const TOP: u32 = 0;

/// The registered paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Quotas {
    /// With [`TOP`], unless it is empty.
    names: DetHashMap<u32, Name>,
    /// The number of the next name.
    next: u32,
    bytes: usize,
}

impl Quotas {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Registers a path; the root can't be.
    ///
    /// Steps: its names.
    pub(super) fn add(&mut self, path: &str) {
        if names(path).next().is_none() {
            return;
        }
        if self.names.is_empty() {
            self.names.insert(TOP, Name::default());
            self.next = TOP + 1;
        }
        let mut at = TOP;
        for name in names(path) {
            let found = self.name(at).below.get(name).copied();
            at = found.unwrap_or_else(|| self.add_name(at, name));
        }
        let path: String = names(path).flat_map(|name| ["/", name]).collect();
        self.bytes += path.len();
        let before = self.name_mut(at).quota.replace(path.into());
        self.bytes -= before.map_or(0, |path| path.len());
    }

    fn add_name(&mut self, parent: u32, name: &str) -> u32 {
        // A number is used again only when all others were: there are fewer names than nodes.
        while self.names.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let at = self.next;
        self.next = self.next.wrapping_add(1);
        self.bytes += NAME + 2 * name.len();
        self.name_mut(parent).below.insert(name.into(), at);
        let name = Name {
            parent,
            name: name.into(),
            ..Name::default()
        };
        self.names.insert(at, name);
        at
    }

    /// Takes a path away, with the names that lead to no other.
    ///
    /// Steps: its names.
    pub(super) fn remove(&mut self, path: &str) {
        let Some(mut at) = self.find(path) else {
            return;
        };
        let path = self.name_mut(at).quota.take();
        self.bytes -= path.map_or(0, |path| path.len());
        while at != TOP && self.name(at).quota.is_none() && self.name(at).below.is_empty() {
            let Name { parent, name, .. } = self.names.remove(&at).expect("a name");
            self.name_mut(parent).below.remove(&name);
            self.bytes -= NAME + 2 * name.len();
            at = parent;
        }
        if self.name(TOP).below.is_empty() {
            self.names = DetHashMap::default();
        }
    }

    fn find(&self, path: &str) -> Option<u32> {
        let mut at = TOP;
        for name in names(path) {
            at = *self.names.get(&at)?.below.get(name)?;
        }
        Some(at).filter(|at| *at != TOP)
    }

    /// The deepest registered path at or above a path.
    ///
    /// Steps: the names of the path, as far as quotas go down.
    pub(super) fn over(&self, path: &str) -> Option<&Arc<str>> {
        let (mut at, mut deepest) = (self.names.get(&TOP)?, None);
        for name in names(path) {
            let Some(below) = at.below.get(name) else {
                break;
            };
            at = self.name(*below);
            deepest = at.quota.as_ref().or(deepest);
        }
        deepest
    }

    fn name(&self, at: u32) -> &Name {
        self.names.get(&at).expect("a name")
    }

    fn name_mut(&mut self, at: u32) -> &mut Name {
        self.names.get_mut(&at).expect("a name")
    }

    /// All registered paths, sorted.
    pub(super) fn all(&self) -> Vec<Arc<str>> {
        let paths = self.names.values().filter_map(|name| name.quota.clone());
        let mut paths: Vec<Arc<str>> = paths.collect();
        paths.sort();
        paths
    }
}

/// A text of limits or totals: numbers by name, as `count=4,bytes=5=;byteHardLimit=10;countHardLimit=10`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Track(pub(super) BTreeMap<String, i64>);

impl Track {
    /// What a text says; `None` if it is malformed or null, or too long. Java's `split` drops what is empty at the end.
    pub(super) fn parse(text: Option<&[u8]>) -> Option<Track> {
        let text = text.filter(|text| text.len() <= TEXT_MAX)?;
        let text = String::from_utf8_lossy(text);
        let is_comma = |c: char| matches!(c, ',' | ';');
        let text = text.trim_end_matches(is_comma);
        let mut track = Track::default();
        // What is before a comma at the beginning is a pair without a name.
        let (first, rest) = text.split_once(is_comma).unwrap_or((text, ""));
        let rest = rest.split(is_comma).filter(|pair| !pair.is_empty());
        for pair in std::iter::once(first).chain(rest) {
            if text.is_empty() {
                break;
            }
            let mut parts = pair.trim_end_matches('=').split('=');
            let (name, value) = (parts.next()?, parts.next()?);
            let value = match value {
                "" => -1,
                value => value.parse().ok()?,
            };
            track.0.insert(name.to_owned(), value);
        }
        Some(track)
    }

    /// −1 where the text does not say.
    pub(super) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(-1)
    }

    pub(super) fn add(&mut self, name: &str, change: i64) {
        let value = self.get(name).wrapping_add(change);
        self.0.insert(name.to_owned(), value);
    }

    /// The two totals first, and what older servers can't read behind a further `=`.
    pub(super) fn text(&self) -> String {
        let mut text = format!("count={},bytes={}", self.get("count"), self.get("bytes"));
        let is_total = |name: &&String| matches!(name.as_str(), "count" | "bytes");
        let others = self.0.iter().filter(|(name, _)| !is_total(name));
        for (nth, (name, value)) in others.enumerate() {
            let mark = if nth == 0 { "=" } else { "" };
            write!(text, "{mark};{name}={value}").expect("a string takes all");
        }
        text
    }
}

/// A limit that a request exceeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverQuota {
    /// The path that has the quota.
    pub path: Arc<str>,
    /// What is counted.
    pub what: &'static str,
    /// What the total would be.
    pub then: i64,
    /// What it may be.
    pub limit: i64,
    /// Whether the request is refused.
    pub is_hard: bool,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OverQuota {
            path,
            what,
            then,
            limit,
            is_hard,
        } = self;
        let kind = if *is_hard { "hard" } else { "soft" };
        write!(
            f,
            "the quota of {path} is exceeded: {what} {then}, {kind} limit {limit}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn parse(text: &str) -> Option<Vec<(String, i64)>> {
        Some(Track::parse(Some(text.as_bytes()))?.0.into_iter().collect())
    }

    /// What Java's parser makes of a text: read off `StatsTrack` of 3.9.5.
    #[test]
    fn texts_are_read_as_apache_reads_them() {
        for (text, due) in [
            ("", Some(&[][..])),
            (",;,", Some(&[])),
            ("count=4,bytes=5", Some(&[("bytes", 5), ("count", 4)])),
            (
                "count=4,bytes=5=;byteHardLimit=7;countHardLimit=-1",
                Some(&[
                    ("byteHardLimit", 7),
                    ("bytes", 5),
                    ("count", 4),
                    ("countHardLimit", -1),
                ]),
            ),
            ("count=1;;,count=2,", Some(&[("count", 2)])),
            ("count==1", Some(&[("count", -1)])),
            ("count=+3=4", Some(&[("count", 3)])),
            ("=5", Some(&[("", 5)])),
            ("count=", None),
            ("count", None),
            ("=", None),
            (",count=1", None),
            ("count=x", None),
            ("count= 1", None),
            ("count=9223372036854775808", None),
        ] {
            let due = due.map(|due| {
                let owned = due.iter().map(|(name, value)| ((*name).to_owned(), *value));
                owned.collect::<Vec<_>>()
            });
            assert_eq!(parse(text), due, "{text:?}");
        }
        assert_eq!(Track::parse(None), None);
    }

    #[test]
    fn texts_are_written_with_the_totals_first() {
        for (text, due) in [
            ("", "count=-1,bytes=-1"),
            ("bytes=5,count=4", "count=4,bytes=5"),
            ("z=1;a=2;count=3", "count=3,bytes=-1=;a=2;z=1"),
        ] {
            let written = Track::parse(Some(text.as_bytes())).unwrap().text();
            assert_eq!(written, due);
            assert!(parse(&written).is_some());
        }
    }

    #[test]
    fn a_text_that_is_read_has_a_bound() {
        let text = |len: usize| format!("{}=1", "k".repeat(len - 2));
        assert!(parse(&text(TEXT_MAX)).is_some());
        assert!(parse(&text(TEXT_MAX + 1)).is_none());
    }

    #[test]
    fn nodes_of_quotas_are_those_below_the_quota_node() {
        for (node, due) in [
            ("/zookeeper/quota/a/zookeeper_limits", Some("/a")),
            ("/zookeeper/quota/a/b/zookeeper_limits", Some("/a/b")),
            ("/zookeeper/quota/zookeeper_limits", Some("")),
            ("/zookeeper/quotas/zookeeper_limits", None),
            ("/zookeeper/zookeeper_limits", None),
            ("/zookeeper/quota/a/x-zookeeper_limits", None),
            ("/zookeeper/quota/a/zookeeper_limits/b", None),
            ("/zookeeper/quota/a/zookeeper_stats", None),
            ("/a/zookeeper_limits", None),
        ] {
            assert_eq!(path_of(node, LIMITS), due, "{node}");
        }
    }

    fn any_path() -> impl Strategy<Value = String> {
        let name = proptest::sample::select(vec!["a", "b", "ab", " "]);
        let names = proptest::collection::vec(name, 0..4);
        names.prop_map(|names| names.iter().flat_map(|name| ["/", name]).collect())
    }

    proptest! {
        #[test]
        fn the_deepest_of_all_registered_paths_counts(
            steps in proptest::collection::vec((any_path(), any::<bool>()), 0..20),
            probes in proptest::collection::vec(any_path(), 1..8),
        ) {
            let (mut quotas, mut model) = (Quotas::default(), BTreeSet::new());
            for (path, add) in steps {
                let names: Vec<String> = names(&path).map(str::to_owned).collect();
                if add && !names.is_empty() {
                    model.insert(names);
                } else if !add {
                    model.remove(&names);
                }
                match add {
                    true => quotas.add(&path),
                    false => quotas.remove(&path),
                }
                for probe in &probes {
                    let own: Vec<String> = super::names(probe).map(str::to_owned).collect();
                    let above = model.iter().filter(|path| own.starts_with(path));
                    let due = above.max_by_key(|path| path.len());
                    let due = due.map(|names| format!("/{}", names.join("/")));
                    prop_assert_eq!(quotas.over(probe).map(|path| path.to_string()), due);
                }
                prop_assert_eq!(quotas.is_empty(), model.is_empty());
                prop_assert_eq!(quotas.bytes() == 0, model.is_empty());
                prop_assert_eq!(quotas.all().len(), model.len());
            }
        }

        #[test]
        fn no_text_panics(text in "[a-z0-9=,;+-]{0,30}|\\PC{0,12}") {
            if let Some(mut track) = Track::parse(Some(text.as_bytes())) {
                track.add("count", 1);
                let again = Track::parse(Some(track.text().as_bytes()));
                prop_assert_eq!(again.map(|again| again.get("count")), Some(track.get("count")));
            }
        }
    }
}
