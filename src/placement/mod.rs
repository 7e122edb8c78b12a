//! How a member is spread over cores, and what a turn of a core is. Pure: the server drives these objects
//! from its loops, the simulator from its event queue.
//!
//! | File | What |
//! |---|---|
//! | `serving` | a core that serves: the turn, the life of a socket |
//! | `ordering` | a core that orders for shards on other cores: the turn |
//! | `intake`, `outlet`, `sockets` | whose turn it is; what becomes of output; the seam below |
//! | `served` | what a serving core answers from: `inline`, or a `replica` behind a `port`; what it asks goes through `asking` |
//! | `orderer`, `feed`, `progress` | the member, what each replica is to get, what all cores know of each other |
//! | `group_commit`, `syncs` | when a sync begins, and on which core |
//! | `drain` | how the cores stop together |
//!
//! Inline, one core orders and serves. With shards:
//!
//! ```text
//!  shard 0 ──requests──► ┌───────────────┐ ──batches──► shard 0
//!  shard 1 ──requests──► │ ordering core │ ──batches──► shard 1
//!                        └───────────────┘
//!              ▲    Progress: committed, answered, taken    ▲
//!              └───────────── plain atomics ────────────────┘
//! ```
//!
//! What the ordering core says goes to every replica in the same order, in batches that all of them
//! share: one batch for each of its turns. The ordering core never waits for a replica. A replica that
//! has not taken [`RingLimits`] of what it was given is *detached*: it gets nothing more, except what is
//! meant for it alone, which is kept; when it has taken what it has, it is sent the log in between,
//! and goes on where the others are.
//!
//! A member never shows anybody a state older than it has already shown anyone: Apache has one tree
//! in each server, and clients rely on that (docs/protocol.md §5.5). [`Progress`] carries it: a
//! replica raises `answered` before bytes of its state leave it; it loads `answered` after bytes have
//! come in and before they are executed, and executes nothing below it.

mod abreast;
mod asking;
mod drain;
mod feed;
mod group_commit;
mod inline;
mod intake;
mod orderer;
mod ordering;
mod outlet;
mod port;
mod progress;
mod replica;
mod served;
mod serving;
mod sockets;
mod syncs;

/// What cores share: `tests/loom` has others in their place.
mod atomic {
    pub(super) use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
}

#[cfg(test)]
mod tests;

pub use crate::member::CatchUp;
pub use drain::{Drain, DrainFacts, DrainStep, OrderingDrain, ShardDrain, ShardStep};
pub use feed::{Batch, FeedCounters, RingLimits};
pub use group_commit::{FEW_BYTES, GroupCommit, SyncCounters, SyncPlace, SyncPolicy, SyncTimes};
pub use inline::Inline;
pub use intake::Budgets;
pub use orderer::Orderer;
pub use ordering::OrderingCore;
pub use port::{OrderingRings, ReplicaPort, ReplicaRings, rings};
pub use progress::{Progress, Taken};
pub use replica::Replica;
pub use served::Served;
pub use serving::{ServingCore, Turned};
pub use sockets::{Accepted, Read, SocketId, Sockets, Waiting, Wrote};
pub use syncs::{SyncStep, Syncs};
