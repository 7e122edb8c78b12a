//! The totals of quotas (docs/protocol.md §7), kept in the nodes `zookeeper_stats`, and what they limit.
//!
//! They change, without a transaction of their own and without a change of a Stat, whenever a transaction changes
//! something below the path of the quota: only below the deepest registered path, as Apache has it. So they depend on
//! all transactions before, and not on the tree alone: a snapshot holds them as they are in its state
//! ([`Facts`]), and whoever reads it goes on from there. They do not count in the digest.
//!
//! Where nobody has set a quota none of this costs more than a look at an empty table. Where there is one, a
//! change costs a walk down its own path and two sums; a text is written when somebody looks at it, or when it gets
//! another length. What that costs beyond the step of the operation is counted ([`Tree::take_quota_steps`]).

use super::Tree;
use super::quota::{Added, LIMITS, Limits, OverQuota, Pages, QUOTAS, STATS, path_of};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known in memory of one state, for a snapshot of it: what no transaction tells, and what must come out.
#[derive(Clone, Debug)]
pub struct Facts {
    /// How many nodes there are, the root once.
    pub nodes: usize,
    totals: Pages,
}

impl Facts {
    /// The text of each node of totals that was not set by a client, by its path.
    ///
    /// Steps: the quotas.
    pub(crate) fn texts(&self) -> BTreeMap<Box<str>, Box<[u8]>> {
        let all = self.totals.texts();
        let text = |(path, text): (&str, String)| (node(path).into(), text.into_bytes().into());
        all.map(text).collect()
    }
}

/// The node with the totals of a path.
fn node(path: &str) -> String {
    format!("{QUOTAS}{path}/{STATS}")
}

impl Tree {
    /// What a snapshot of this state needs beside the nodes.
    ///
    /// Steps: one for each 64 quotas, and one for each 64 of which some are changed as long as this is held.
    pub fn facts(&self) -> Facts {
        Facts {
            nodes: self.nodes.len(),
            totals: self.quotas.all_totals(),
        }
    }

    /// What was spent on quotas since the last call, beyond a step for each operation.
    pub fn take_quota_steps(&mut self) -> usize {
        self.quotas.take_steps()
    }

    /// Counts the totals of a path, with the node itself, if there is a node for them.
    fn count_again(&mut self, path: &str) {
        let (nodes, bytes) = self.count(path);
        self.quotas.replace(path, nodes, bytes);
        self.write_totals(path);
    }

    /// Nodes at and below a path, and bytes of their data.
    fn count(&self, path: &str) -> (i64, i64) {
        let found = self.nodes.get(if path.is_empty() { "/" } else { path });
        let (nodes, bytes) = found.map_or((0, 0), |node| node.totals());
        (i64::from(nodes), bytes as i64)
    }

    /// Gives a node of totals the text of them, and changes nothing else of it.
    fn write_totals(&mut self, path: &str) {
        let node = node(path);
        if let Some(id) = self.nodes.find(&node)
            && let Some(text) = self.quotas.write(path)
        {
            self.quotas.spend(1);
            self.nodes.set_data(id, &node, Some(text), |_| {});
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

    /// Adds to the totals of the quota that a path is under. Totals that can't be read are counted again.
    pub(super) fn account(&mut self, path: &str, nodes: i64, bytes: i64) {
        let over = self.quotas.over(path);
        let (quota, steps) = (over.quota.cloned(), over.steps);
        self.quotas.spend(steps);
        let Some(quota) = quota else {
            return;
        };
        match self.quotas.add_to(&quota, nodes, bytes) {
            Added::Done => {}
            Added::OtherLength => self.write_totals(&quota),
            Added::Unreadable => self.count_again(&quota),
        }
    }

    /// A snapshot of which the totals are as clients have set them has been read.
    pub(super) fn count_all_again(&mut self) {
        for path in self.quotas.registered() {
            self.count_again(&path);
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

    /// Whether so many more nodes and bytes fit the limits of the quota that a path is under, and what it has cost
    /// to find out. Limits that can't be read limit nothing, and nothing is limited without a node for the totals. A
    /// hard limit stands in for a soft one.
    pub(super) fn check_quota(
        &self,
        path: &str,
        nodes: i64,
        bytes: i64,
    ) -> (Option<OverQuota>, usize) {
        let over = self.quotas.over(path);
        let exceeded = over
            .quota
            .and_then(|quota| self.exceeded(quota, nodes, bytes));
        (exceeded, over.steps)
    }

    fn exceeded(&self, quota: &Arc<str>, nodes: i64, bytes: i64) -> Option<OverQuota> {
        let limits = self.quotas.limits(quota)?;
        let (count_now, bytes_now) = match self.quotas.totals(quota)? {
            Some(totals) => (totals.count, totals.bytes),
            None => self.count(quota),
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
