//! The totals of quotas (docs/protocol.md §7), kept in the nodes `zookeeper_stats`, and what they limit.
//!
//! They change, without a transaction of their own and without a change of a Stat, whenever a transaction changes
//! something below the path of the quota: only below the deepest registered path, as Apache has it. So they depend on
//! all transactions before, and not on the tree alone: a snapshot holds them as they are in its state
//! ([`Facts`]), and whoever reads it goes on from there. They do not count in the digest.
//!
//! Where nobody has set a quota none of this costs more than a look at an empty table. Where there is one, a
//! change costs a walk down its own path and two sums; a text is written when somebody looks at it, or when it gets
//! another length.

use super::Tree;
use super::quota::{LIMITS, Limits, OverQuota, QUOTAS, STATS, Totals, path_of};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known in memory of one state, for a snapshot of it that is made of files: what no transaction tells, and
/// what must come out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// How many nodes there are, the root once; `None`: nobody has counted.
    pub nodes: Option<usize>,
    totals: Vec<(Arc<str>, Totals)>,
}

impl Facts {
    /// The text of each node of totals that can be read, by its path.
    pub(crate) fn texts(self) -> BTreeMap<Box<str>, Box<[u8]>> {
        let all = self.totals.into_iter();
        let text = |(path, totals): (Arc<str>, Totals)| {
            let text = totals.text().into_bytes();
            (node(&path).into(), text.into())
        };
        all.map(text).collect()
    }
}

/// The node with the totals of a path.
fn node(path: &str) -> String {
    format!("{QUOTAS}{path}/{STATS}")
}

impl Tree {
    /// What a snapshot of this state needs that is made of files.
    ///
    /// Steps: the quotas.
    pub fn facts(&self) -> Facts {
        Facts {
            nodes: Some(self.nodes.len()),
            totals: self.quotas.all_totals(),
        }
    }

    /// Counts the totals of a path, with the node itself, and writes them into their node; none if there is no node.
    fn count_again(&mut self, path: &str) {
        let found = self.nodes.get(if path.is_empty() { "/" } else { path });
        let (nodes, bytes) = found.map_or((0, 0), |node| node.totals());
        self.set_totals(path, &Totals::new(i64::from(nodes), bytes as i64));
    }

    /// Changes the data of a node of totals and nothing else.
    fn set_totals(&mut self, path: &str, totals: &Totals) {
        let node = node(path);
        if let Some(id) = self.nodes.find(&node) {
            let text = totals.text();
            self.quotas.track(path, Some(text.as_bytes()));
            let data = Some(text.as_bytes().into());
            self.nodes.set_data(id, &node, data, |_| {});
        }
    }

    /// Writes every text that nobody has looked at into its node.
    ///
    /// Steps: the quotas.
    pub(super) fn write_totals(&mut self) {
        for path in self.quotas.stale() {
            if let Some(Some(totals)) = self.quotas.totals(&path) {
                let totals = totals.clone();
                self.set_totals(&path, &totals);
            }
        }
    }

    /// A node has been created, with this data.
    pub(super) fn quota_created(&mut self, path: &str, data: Option<&[u8]>) {
        if let Some(of) = path_of(path, LIMITS) {
            self.quotas.limit(of, data);
        }
        if let Some(of) = path_of(path, STATS) {
            self.quotas.track(of, data);
            self.count_again(of);
        }
        self.account(path, 1, data.map_or(0, <[u8]>::len) as i64);
    }

    /// The data of a node has been replaced by this, which is so much longer.
    pub(super) fn quota_set(&mut self, path: &str, data: Option<&[u8]>, longer: i64) {
        if let Some(of) = path_of(path, LIMITS) {
            self.quotas.limit_again(of, data);
        }
        if let Some(of) = path_of(path, STATS) {
            self.quotas.track(of, data);
        }
        self.account(path, 0, longer);
    }

    /// A node has been deleted that had so many bytes of data.
    pub(super) fn quota_deleted(&mut self, path: &str, bytes: usize) {
        if let Some(of) = path_of(path, LIMITS) {
            self.quotas.unlimit(of);
        }
        if let Some(of) = path_of(path, STATS) {
            self.quotas.untrack(of);
        }
        self.account(path, -1, -(bytes as i64));
    }

    /// Adds to the totals of the quota that a path is under. Totals that can't be read are counted again.
    fn account(&mut self, path: &str, nodes: i64, bytes: i64) {
        if (nodes, bytes) == (0, 0) {
            return;
        }
        let Some(quota) = self.quotas.over(path).cloned() else {
            return;
        };
        match self.quotas.totals(&quota) {
            None => {}
            Some(None) => self.count_again(&quota),
            Some(Some(_)) => {
                let has_other_length = self.quotas.count(&quota, nodes, bytes);
                // A walk gives what the nodes hold.
                if (has_other_length || self.nodes.walk.is_some())
                    && let Some(Some(totals)) = self.quotas.totals(&quota)
                {
                    let totals = totals.clone();
                    self.set_totals(&quota, &totals);
                }
            }
        }
    }

    /// A node of a snapshot has been added.
    pub(super) fn quota_found(&mut self, path: &str, data: Option<&[u8]>) {
        if let Some(of) = path_of(path, LIMITS) {
            self.quotas.limit(of, data);
        }
        if let Some(of) = path_of(path, STATS) {
            self.quotas.track(of, data);
        }
    }

    /// Whether so many more nodes and bytes fit the limits of the quota that a path is under. Limits that can't
    /// be read limit nothing, and nothing is limited without a node for the totals. A hard limit stands in for
    /// a soft one.
    ///
    /// Steps: the names of the path, as far as quotas go down.
    pub(super) fn check_quota(&self, path: &str, nodes: i64, bytes: i64) -> Option<OverQuota> {
        let quota = self.quotas.over(path)?;
        let limits = self.quotas.limits(quota)?;
        let (count_now, bytes_now) = match self.quotas.totals(quota)? {
            Some(totals) => (totals.count, totals.bytes),
            None => {
                let found = self.nodes.get(quota);
                let (nodes, bytes) = found.map_or((0, 0), |node| node.totals());
                (i64::from(nodes), bytes as i64)
            }
        };
        let Limits {
            count,
            bytes: soft_bytes,
            count_hard,
            bytes_hard,
        } = limits;
        let mut over = None;
        for (what, soft, hard, now, change) in [
            ("count", count, count_hard, count_now, nodes),
            ("bytes", soft_bytes, bytes_hard, bytes_now, bytes),
        ] {
            let is_hard = hard > -1;
            let limit = if is_hard { hard } else { soft };
            let then = now.wrapping_add(change);
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
