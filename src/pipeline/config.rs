//! What the operator may choose of the pipeline.

use super::journal::RingBounds;
use super::ordering::{ReaperConfig, TreeMemory};
use crate::constants::{ENTRY_MAX, JUTE_MAXBUFFER};
use crate::tree::Rules;
use crate::types::SessionId;

/// Paths in the list of one closeSession.
const CLOSE_PATHS_MAX: usize = 1000;

/// Requests that a member has passed on to its leader and that have no outcome. The others wait.
const UNDER_WAY_MAX: usize = 4096;

/// Nodes that one transaction deletes ahead of a closeSession.
const DELETES_PER_TXN: usize = 256;

/// What the operator may choose.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// tickTime, ms: the width of an expiry bucket, and how long a re-attach waits for the old
    /// shard.
    pub tick_time_ms: u64,
    /// A closeSession whose list would make its entry longer than this is preceded by deletes
    /// (`jute.maxbuffer`).
    pub close_bytes_max: usize,
    /// So is one whose list would have more paths than this: applying it is one step of every core.
    pub close_paths_max: usize,
    /// Nodes that one transaction deletes ahead of a closeSession.
    pub close_deletes_max: usize,
    /// Largest serialised entry; the log's segments hold two of them at least.
    pub entry_bytes_max: usize,
    /// In the top byte of the ids of sessions that are opened here.
    pub creator: u8,
    /// Requests that this member, when it follows, passes on before one has its outcome.
    pub passed_on_max: usize,
    /// Of what is not applied.
    pub ring: RingBounds,
    /// Serving shards; 1 in the inline placement.
    pub shards: u16,
    /// For `prepare`.
    pub rules: Rules,
    /// Of the trees.
    pub memory: TreeMemory,
    /// Of containers and TTL nodes.
    pub reaper: ReaperConfig,
}

impl PipelineConfig {
    /// Apache's defaults.
    pub fn new(rules: Rules) -> PipelineConfig {
        PipelineConfig {
            tick_time_ms: 2000,
            close_bytes_max: JUTE_MAXBUFFER,
            close_paths_max: CLOSE_PATHS_MAX,
            close_deletes_max: DELETES_PER_TXN,
            entry_bytes_max: ENTRY_MAX,
            creator: SessionId::STANDALONE,
            passed_on_max: UNDER_WAY_MAX,
            ring: RingBounds::default(),
            shards: 1,
            rules,
            memory: TreeMemory::UNLIMITED,
            reaper: ReaperConfig::default(),
        }
    }
}
