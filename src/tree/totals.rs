//! The totals of quotas (docs/protocol.md §7), kept in the nodes `zookeeper_stats`, and what they limit.
//!
//! The data of such a node is changed here, without a transaction of its own and without a change of its Stat,
//! whenever a transaction changes something below the path of the quota: only below the deepest registered path,
//! as Apache has it. It does not count in the digest. A snapshot holds what transactions have made of it, and the
//! totals are counted again when one is read.
//!
//! Where nobody has set a quota none of this costs more than a look at an empty table. Where there is one, a
//! change costs a walk down its own path, and a text of at most [`TEXT_MAX`](super::quota::TEXT_MAX) bytes that is
//! read and written.

use super::Tree;
use super::quota::{LIMITS, OverQuota, QUOTAS, STATS, Track, path_of};
use std::sync::Arc;

impl Tree {
    /// Totals below a path, with the node itself; none if there is no node.
    fn totals(&self, path: &str) -> Track {
        let found = self.nodes.get(if path.is_empty() { "/" } else { path });
        let (nodes, bytes) = found.map_or((0, 0), |node| node.totals());
        let mut track = Track::default();
        track.0.insert("count".into(), i64::from(nodes));
        track.0.insert("bytes".into(), bytes as i64);
        track
    }

    fn track(&self, path: &str, name: &str) -> Option<Option<Track>> {
        let node = self.nodes.get(&format!("{QUOTAS}{path}/{name}"))?;
        Some(Track::parse(node.data()))
    }

    /// Counts the totals of a quota again, if it has a node for them.
    fn recount_quota(&mut self, path: &str) {
        let text = self.totals(path).text();
        self.set_totals(path, &text);
    }

    /// Changes the data of a node and nothing else.
    fn set_totals(&mut self, path: &str, text: &str) {
        let node = format!("{QUOTAS}{path}/{STATS}");
        if let Some(id) = self.nodes.find(&node) {
            let data = Some(text.as_bytes().into());
            self.nodes.set_data(id, &node, data, |_| {});
        }
    }

    /// A node has been created, with so many bytes of data.
    pub(super) fn quota_created(&mut self, path: &str, bytes: usize) {
        if let Some(of) = path_of(path, LIMITS) {
            self.quotas.add(of);
        }
        if let Some(of) = path_of(path, STATS) {
            self.recount_quota(of);
        }
        self.account(path, 1, bytes as i64);
    }

    /// A node has been deleted that had so many bytes of data.
    pub(super) fn quota_deleted(&mut self, path: &str, bytes: usize) {
        if let Some(of) = path_of(path, LIMITS) {
            self.quotas.remove(of);
        }
        self.account(path, -1, -(bytes as i64));
    }

    /// Adds to the totals of the quota that a path is under. Totals that can't be read are counted again.
    pub(super) fn account(&mut self, path: &str, nodes: i64, bytes: i64) {
        if self.quotas.is_empty() || (nodes, bytes) == (0, 0) {
            return;
        }
        let Some(quota) = self.quotas.over(path).cloned() else {
            return;
        };
        let Some(track) = self.track(&quota, STATS) else {
            return;
        };
        let track = match track {
            Some(mut track) => {
                track.add("count", nodes);
                track.add("bytes", bytes);
                track
            }
            None => self.totals(&quota),
        };
        self.set_totals(&quota, &track.text());
    }

    /// A node of a snapshot has been added.
    pub(super) fn quota_found(&mut self, path: &str) {
        if let Some(of) = path_of(path, LIMITS) {
            self.quotas.add(of);
        }
    }

    /// A snapshot has been read: its totals are those of the last transaction that wrote them.
    pub(super) fn recount_quotas(&mut self) {
        for path in self.quotas.all() {
            self.recount_quota(&path);
        }
    }

    /// Whether so many more nodes and bytes fit the limits of the quota that a path is under. Limits that can't
    /// be read limit nothing, and nothing is limited without a node for the totals. A hard limit stands in for
    /// a soft one.
    pub(super) fn check_quota(&self, path: &str, nodes: i64, bytes: i64) -> Option<OverQuota> {
        let quota = self.quotas.over(path)?;
        let limits = self.track(quota, LIMITS).flatten()?;
        let totals = self.track(quota, STATS)?;
        let totals = totals.unwrap_or_else(|| self.totals(quota));
        let mut over = None;
        for (what, hard, change) in [
            ("count", "countHardLimit", nodes),
            ("bytes", "byteHardLimit", bytes),
        ] {
            let (soft, hard) = (limits.get(what), limits.get(hard));
            let is_hard = hard > -1;
            let limit = if is_hard { hard } else { soft };
            let then = totals.get(what).wrapping_add(change);
            if change == 0 || limit <= -1 || then <= limit {
                continue;
            }
            over = Some(OverQuota {
                path: Arc::clone(quota),
                what,
                then,
                limit,
                is_hard,
            });
            if is_hard {
                break;
            }
        }
        over
    }
}
