//! What the cores say of themselves when they are asked: plain values. The text of the four-letter
//! words is made from them in `words`.

use crate::log::LogCounters;
use crate::log::storage::Storage;
use crate::member::Member;
use crate::pipeline;
use crate::placement::{FeedCounters, Orderer, SyncCounters};
use crate::shard::{ConnStats, Latency, Shard, ShardStats, Watched};
use crate::stages::Stages;
use crate::tree::Tree;
use crate::types::{SessionId, Tick, Zxid};
use core::ops::Range;
use std::sync::Arc;

/// What a tree holds, in numbers.
#[derive(Clone, Copy, Debug)]
pub struct TreeReport {
    /// The last transaction applied.
    pub zxid: Zxid,
    /// Znodes, the root counted as Apache's server does.
    pub znodes: usize,
    /// Ephemeral znodes.
    pub ephemerals: usize,
    /// Bytes of paths and data, roughly.
    pub data_bytes: u64,
    /// Memory that the tree takes, bytes.
    pub bytes: u64,
    /// Live sessions.
    pub sessions: usize,
}

/// A session and the paths of its ephemerals.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// Paths of its ephemerals. The tree's own: a path may be as long as a frame.
    pub ephemerals: Vec<Arc<str>>,
}

/// What a core that serves says.
#[derive(Debug)]
pub struct ServingReport {
    /// Its open connections, if they were asked for.
    pub connections: Vec<ConnStats>,
    /// Counters of the shard.
    pub stats: ShardStats,
    /// The stages that end at the client.
    pub stages: Stages,
    /// Its tree.
    pub tree: TreeReport,
    /// Sessions, if they were asked for.
    pub sessions: Vec<SessionReport>,
    /// What its connections watch in the data table, if that was asked for.
    pub watched: Vec<Watched>,
    /// Digests of the tree, if they were asked for.
    pub digests: Vec<(Zxid, u64)>,
}

impl ServingReport {
    /// Of a shard and its tree, without connections and sessions.
    pub fn of(shard: &Shard, tree: &Tree) -> ServingReport {
        ServingReport {
            connections: Vec::new(),
            stats: shard.stats(),
            stages: shard.stages().clone(),
            tree: TreeReport {
                zxid: tree.last_zxid(),
                znodes: tree.node_count(),
                ephemerals: tree.ephemeral_count(),
                data_bytes: tree.approximate_data_size(),
                bytes: tree.bytes() as u64,
                sessions: tree.sessions().len(),
            },
            sessions: Vec::new(),
            watched: Vec::new(),
            digests: Vec::new(),
        }
    }
}

/// Goes on with the list of what connections watch, from the first slot of a range on, by at least `max`
/// watches if there are so many. The slots that are left.
pub fn describe_watches(
    shard: &Shard,
    mut slots: Range<usize>,
    list: &mut Vec<Watched>,
    max: usize,
) -> Range<usize> {
    let mut described = 0;
    while described < max
        && let Some(slot) = slots.next()
    {
        described += 1;
        if let Some(watched) = shard.watched_at(slot) {
            described += watched.paths.as_ref().map_or(0, Vec::len);
            list.push(watched);
        }
    }
    slots
}

/// Goes on with the list of the moments at which sessions expire, by at most `max`. False at the end.
/// What changes meanwhile may be in the list as it was or as it is.
pub fn describe_deadlines<S: Storage>(
    member: &Member<S>,
    last: &mut Option<SessionId>,
    list: &mut Vec<(SessionId, Tick)>,
    max: usize,
) -> bool {
    let mut looked = 0;
    for (session, _) in member.tree.sessions_after(*last).take(max) {
        looked += 1;
        *last = Some(session);
        let deadline = member.pipeline.deadline(session);
        list.extend(deadline.map(|deadline| (session, deadline)));
    }
    looked == max
}

/// Goes on with the list of the sessions of a tree and their ephemerals, by at most `max` sessions and
/// paths together. False at the end. What changes meanwhile may be in the list as it was or as it is.
pub fn describe_sessions(tree: &Tree, list: &mut Vec<SessionReport>, max: usize) -> bool {
    let mut left = max;
    if let Some(last) = list.last_mut() {
        left -= describe_ephemerals(tree, last, left);
    }
    while left > 0 {
        let last = list.last().map(|report| report.session);
        let Some((session, _)) = tree.sessions_after(last).next() else {
            return false;
        };
        let mut report = SessionReport {
            session,
            ephemerals: Vec::new(),
        };
        left -= 1;
        left -= describe_ephemerals(tree, &mut report, left);
        list.push(report);
    }
    true
}

/// Adds at most `max` paths; says how many.
fn describe_ephemerals(tree: &Tree, report: &mut SessionReport, max: usize) -> usize {
    let before = report.ephemerals.len();
    let last = report.ephemerals.last().cloned();
    let more = tree.ephemerals_after(report.session, last.as_deref());
    report.ephemerals.extend(more.take(max).cloned());
    report.ephemerals.len() - before
}

/// What the core that orders says.
#[derive(Debug)]
pub struct OrderingReport {
    /// Of the pipeline.
    pub counters: pipeline::Counters,
    /// Of the log.
    pub log: LogCounters,
    /// Where its syncs ran, and how often one waited for more requests.
    pub syncs: SyncCounters,
    /// Segments of the log.
    pub segments: usize,
    /// The disk had no room for the next segment.
    pub full: bool,
    /// Attempts of background work that met a shortage, and are made again.
    pub shortages: u64,
    /// Snapshots made out of memory, because the files could not give one.
    pub snapshots_saved: u64,
    /// The stages up to applied.
    pub stages: Stages,
    /// The last committed transaction.
    pub committed: Zxid,
    /// Of each shard: what it has applied, and how often it was detached and came back.
    pub shards: Vec<(Zxid, FeedCounters)>,
    /// When each session expires, by its id, if that was asked for.
    pub deadlines: Vec<(SessionId, Tick)>,
}

impl OrderingReport {
    /// Of a member.
    pub fn of<S: Storage>(member: &Member<S>, syncs: SyncCounters) -> OrderingReport {
        let log = member.pipeline.log();
        OrderingReport {
            counters: member.pipeline.counters(),
            log: log.counters(),
            syncs,
            segments: log.segments(),
            full: log.is_full(),
            shortages: member.shortages(),
            snapshots_saved: member.snapshots_saved(),
            stages: member.pipeline.stages().clone(),
            committed: member.tree.last_zxid(),
            shards: Vec::new(),
            deadlines: Vec::new(),
        }
    }

    /// Of a member with shards.
    pub fn with_shards<S: Storage>(orderer: &Orderer<S>, syncs: SyncCounters) -> OrderingReport {
        OrderingReport {
            shards: orderer.shards().collect(),
            ..OrderingReport::of(&orderer.member, syncs)
        }
    }
}

/// What all cores said.
#[derive(Debug, Default)]
pub struct Report {
    /// Of every core that serves and answered in time.
    pub serving: Vec<ServingReport>,
    /// Of the core that orders.
    pub ordering: Option<OrderingReport>,
}

impl Report {
    /// The newest tree that a core has shown; `None` if no core has answered.
    pub fn tree(&self) -> Option<&TreeReport> {
        let trees = self.serving.iter().map(|part| &part.tree);
        trees.max_by_key(|tree| tree.zxid)
    }

    /// Connections of all cores.
    pub fn connections(&self) -> impl Iterator<Item = &ConnStats> {
        self.serving.iter().flat_map(|part| &part.connections)
    }

    /// Sessions of the newest tree.
    pub fn sessions(&self) -> &[SessionReport] {
        let newest = self.serving.iter().max_by_key(|part| part.tree.zxid);
        newest.map_or(&[], |part| &part.sessions)
    }

    /// What connections of all cores watch in the data table.
    pub fn watched(&self) -> impl Iterator<Item = &Watched> {
        self.serving.iter().flat_map(|part| &part.watched)
    }

    /// Digests of the newest tree.
    pub fn digests(&self) -> &[(Zxid, u64)] {
        let newest = self.serving.iter().max_by_key(|part| part.tree.zxid);
        newest.map_or(&[], |part| &part.digests)
    }

    /// Latencies of all replies.
    pub fn latency(&self) -> Latency {
        let mut latency = Latency::default();
        for part in &self.serving {
            latency.merge(&part.stats.latency);
        }
        latency
    }

    /// A counter, summed over the shards.
    pub fn sum(&self, of: impl Fn(&ShardStats) -> u64) -> u64 {
        self.serving.iter().map(|part| of(&part.stats)).sum()
    }

    /// All stages.
    pub fn stages(&self) -> Stages {
        let mut stages = Stages::default();
        let serving = self.serving.iter().map(|part| &part.stages);
        let ordering = self.ordering.iter().map(|part| &part.stages);
        serving.chain(ordering).for_each(|part| stages.merge(part));
        stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{Acl, CreateTxn, Entry, Txn, TxnHeader};
    use crate::types::{OpCode, WallMs};

    fn apply(tree: &mut Tree, session: i64, op: OpCode, txn: Txn) {
        tree.apply(&Entry {
            header: TxnHeader {
                session: SessionId(session),
                cxid: 0,
                zxid: tree.last_zxid().next(),
                time: WallMs(0),
                op,
            },
            txn,
            digest: None,
        });
    }

    #[test]
    fn sessions_are_described_in_pieces_of_any_size() {
        let mut tree = Tree::new();
        for (session, ephemerals) in [(1, 0), (2, 3), (3, 1), (9, 0)] {
            let timeout_ms = 1000;
            let open = Txn::CreateSession { timeout_ms };
            apply(&mut tree, session, OpCode::CREATE_SESSION, open);
            for n in 0..ephemerals {
                let create = CreateTxn {
                    path: format!("/{session}-{n}").into(),
                    data: None,
                    acl: [Acl::world(Acl::ALL)].into(),
                    ephemeral: true,
                    parent_cversion: -1,
                    ttl_ms: 0,
                };
                apply(&mut tree, session, OpCode::CREATE, Txn::Create(create));
            }
        }
        let described = |max| {
            let (mut list, mut pieces) = (Vec::new(), 1);
            while describe_sessions(&tree, &mut list, max) {
                pieces += 1;
            }
            let line = |of: SessionReport| (of.session.0, of.ephemerals);
            (list.into_iter().map(line).collect::<Vec<_>>(), pieces)
        };
        let paths = |of: &[&str]| of.iter().map(|&path| path.into()).collect();
        let due: Vec<(i64, Vec<Arc<str>>)> = vec![
            (1, vec![]),
            (2, paths(&["/2-0", "/2-1", "/2-2"])),
            (3, paths(&["/3-0"])),
            (9, vec![]),
        ];
        for (max, pieces) in [(1, 9), (2, 5), (3, 3), (8, 2), (9, 1)] {
            assert_eq!(described(max), (due.clone(), pieces), "{max}");
        }
    }
}
