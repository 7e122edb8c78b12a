//! What the cores say of themselves when they are asked: plain values. The text of the four-letter
//! words is made from them in `words`.

use crate::log::LogCounters;
use crate::log::storage::Storage;
use crate::member::Member;
use crate::pipeline;
use crate::placement::{FeedCounters, Orderer, SyncCounters};
use crate::shard::{ConnStats, Latency, Shard, ShardStats};
use crate::stages::Stages;
use crate::tree::Tree;
use crate::types::{SessionId, Zxid};

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
    /// Live sessions.
    pub sessions: usize,
}

/// A session and the paths of its ephemerals.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// Negotiated, ms.
    pub timeout_ms: i32,
    /// Paths of its ephemerals.
    pub ephemerals: Vec<String>,
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
                sessions: tree.sessions().len(),
            },
            sessions: Vec::new(),
        }
    }
}

/// The sessions of a tree with their ephemerals.
pub fn sessions_of(tree: &Tree) -> Vec<SessionReport> {
    let report = |(session, timeout_ms)| SessionReport {
        session,
        timeout_ms,
        ephemerals: tree
            .ephemerals(session)
            .map(|path| path.to_string())
            .collect(),
    };
    tree.sessions().map(report).collect()
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
    /// The stages up to applied.
    pub stages: Stages,
    /// The last committed transaction.
    pub committed: Zxid,
    /// Of each shard: what it has applied, and how often it was detached and came back.
    pub shards: Vec<(Zxid, FeedCounters)>,
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
            stages: member.pipeline.stages().clone(),
            committed: member.tree.last_zxid(),
            shards: Vec::new(),
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
