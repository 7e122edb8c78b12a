//! Quotas in the model (docs/protocol.md §7): the totals that each change moves, and what hard limits refuse.

use super::draft::Draft;
use super::truth::{Node, Truth};
use crate::txn::{Data, Txn};
use crate::types::{ErrorCode, Zxid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// Transactions that may be ordered and not applied, where nothing is known of it.
const UNDER_WAY_MAX: i64 = 300;

/// The node of a quota.
fn node_of(path: &str, name: &str) -> String {
    format!("/zookeeper/quota{path}/{name}")
}

/// The path whose quota has a node of that name there.
fn of_node<'p>(node: &'p str, name: &str) -> Option<&'p str> {
    let path = node.strip_prefix("/zookeeper/quota")?.strip_suffix(name)?;
    path.strip_suffix('/').filter(|path| !path.is_empty())
}

/// Whether that is a node with totals.
pub(super) fn has_totals(path: &str) -> bool {
    of_node(path, STATS).is_some()
}

/// The deepest path at or above one that has limits.
fn deepest(path: &str, is_there: impl Fn(&str) -> bool) -> Option<&str> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    let mut above: Vec<&str> = ends.map(|at| &path[..at]).collect();
    above.push(path);
    let limited = |path: &&&str| path.len() > 1 && is_there(&node_of(path, LIMITS));
    above.iter().rev().find(limited).copied()
}

/// What a text of limits or totals says; `None`: it can't be read.
fn read(data: &Data) -> Option<BTreeMap<String, i64>> {
    let text = std::str::from_utf8(data.as_deref()?).ok()?;
    let pairs = text.split([',', ';']).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let mut parts = pair.split('=');
            let (name, number) = (parts.next()?, parts.next()?);
            Some((name.to_owned(), number.parse().ok()?))
        })
        .collect()
}

fn written(numbers: &BTreeMap<String, i64>) -> Data {
    let of = |name: &str| numbers.get(name).copied().unwrap_or(-1);
    let mut text = format!("count={},bytes={}", of("count"), of("bytes"));
    let others = numbers
        .iter()
        .filter(|(name, _)| !["count", "bytes"].contains(&&***name));
    for (n, (name, number)) in others.enumerate() {
        text += if n == 0 { "=" } else { "" };
        text += &format!(";{name}={number}");
    }
    Some(text.as_bytes().into())
}

fn totals<'n>(nodes: impl Iterator<Item = &'n Node>) -> BTreeMap<String, i64> {
    let mut totals = BTreeMap::from([("count".to_owned(), 0), ("bytes".to_owned(), 0)]);
    for node in nodes {
        *totals.entry("count".into()).or_default() += 1;
        *totals.entry("bytes".into()).or_default() += super::draft::bytes(&node.data);
    }
    totals
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    let rest = path.strip_prefix(top);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Draft<'_> {
    /// A node was made: if it has totals, they are counted.
    pub(super) fn count_new(&mut self, path: &Arc<str>) {
        if let Some(of) = of_node(path, STATS) {
            let data = written(&self.totals(of));
            self.set_totals(path, data);
        }
    }

    /// Nodes and bytes come or go: the deepest quota has them in its totals. Their text is written anew also where
    /// nothing is added to them.
    pub(super) fn account(&mut self, path: &str, (nodes, bytes): (i64, i64)) {
        if !self.has_quotas() {
            return;
        }
        let is_there = |path: &str| self.get(path).is_some();
        let Some(of) = deepest(path, is_there) else {
            return;
        };
        let stats = node_of(of, STATS);
        let Some(node) = self.get(&stats) else { return };
        let numbers = match read(&node.data) {
            Some(mut numbers) => {
                for (name, change) in [("count", nodes), ("bytes", bytes)] {
                    *numbers.entry(name.to_owned()).or_insert(-1) += change;
                }
                numbers
            }
            None => self.totals(of),
        };
        self.set_totals(&stats.into(), written(&numbers));
    }

    /// Whether there are totals of quotas, or were.
    fn has_quotas(&self) -> bool {
        let mut made = self.effects.nodes.keys();
        self.truth.has_quotas || made.any(|path| has_totals(path))
    }

    fn set_totals(&mut self, path: &Arc<str>, data: Data) {
        let node = self.get(path).expect("it was looked up").clone();
        self.put(path, Some(Node { data, ..node }));
    }

    fn totals(&self, of: &str) -> BTreeMap<String, i64> {
        let known = self.truth.paths().map(|(path, _)| path);
        let paths: BTreeSet<&Arc<str>> = known.chain(self.effects.nodes.keys()).collect();
        let below = paths.into_iter().filter(|path| is_at_or_below(path, of));
        totals(below.filter_map(|path| self.get(path)))
    }

    /// Whether a hard limit refuses so much more. The totals are those of what was applied when the request was
    /// looked at, so that `done` decides where that makes a difference.
    pub(super) fn is_over(&self, path: &str, more: (i64, i64), done: &Txn) -> bool {
        let code = ErrorCode::QUOTA_EXCEEDED;
        let was_refused = *done == Txn::Error { code };
        if !self.truth.enforces_quotas || !self.has_quotas() {
            return false;
        }
        if self.truth.is_replaying {
            return was_refused;
        }
        let before = Zxid(self.header.zxid.0 - 1);
        let from = self.truth.applied.max(Zxid(before.0 - UNDER_WAY_MAX));
        let mut states = self.truth.states(from, before);
        match states.any(|state| self.truth.exceeds(state, path, more) == was_refused) {
            true => was_refused,
            false => !was_refused,
        }
    }
}

impl Truth {
    /// Whether so many more nodes and bytes would pass a hard limit in that state.
    fn exceeds(&self, at: Zxid, path: &str, (nodes, bytes): (i64, i64)) -> bool {
        let node = |path: &str| self.node_at(path, at);
        let Some(of) = deepest(path, |path| node(path).is_some()) else {
            return false;
        };
        let limits = node(&node_of(of, LIMITS)).and_then(|node| read(&node.data));
        let stats = node(&node_of(of, STATS));
        let (Some(limits), Some(stats)) = (limits, stats) else {
            return false;
        };
        let now = read(&stats.data).unwrap_or_else(|| self.totals_at(of, at));
        [
            ("count", "countHardLimit", nodes),
            ("bytes", "byteHardLimit", bytes),
        ]
        .into_iter()
        .any(|(what, hard, more)| {
            let limit = limits.get(hard).copied().unwrap_or(-1);
            let then = now.get(what).copied().unwrap_or(-1) + more;
            more != 0 && limit > -1 && then > limit
        })
    }

    fn totals_at(&self, of: &str, at: Zxid) -> BTreeMap<String, i64> {
        totals(self.at_and_below(of, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_quota_at_or_above_a_path_counts() {
        let there = |limited: &'static [&str]| {
            move |path: &str| limited.iter().any(|of| path == node_of(of, LIMITS))
        };
        for (path, limited, due) in [
            ("/a/b/c", &["/a", "/a/b"][..], Some("/a/b")),
            ("/a/b", &["/a/b"], Some("/a/b")),
            ("/a", &["/a/b"], None),
            ("/ab", &["/a"], None),
            ("/a/bc", &["/a/b", "/a"], Some("/a")),
            ("/", &["/a"], None),
        ] {
            assert_eq!(deepest(path, there(limited)), due, "{path}");
        }
    }

    #[test]
    fn texts_are_read_and_written() {
        let data = |text: &str| -> Data { Some(text.as_bytes().into()) };
        let text = "count=2,bytes=70=;kept=5";
        let numbers = read(&data(text)).unwrap();
        assert_eq!(numbers.len(), 3);
        assert_eq!(written(&numbers), data(text));
        assert_eq!(read(&data("nonsense")), None);
        assert_eq!(read(&None), None);
        assert_eq!(written(&BTreeMap::new()), data("count=-1,bytes=-1"));
    }
}
