//! The placement with shards: one commit core that orders, N replicas that serve, each on a core of
//! its own.
//!
//! ```text
//!  replica 0 ──requests──► ┌─────────────┐ ──batches──► replica 0
//!  replica 1 ──requests──► │ commit core │ ──batches──► replica 1
//!                          └─────────────┘
//!                ▲    Progress: committed, answered, taken    ▲
//!                └──────────── plain atomics ──────────────┘
//! ```
//!
//! What the commit core says goes to every replica in the same order, in batches that all of them
//! share: one batch for each of its turns. It never waits for a replica. One that has not taken
//! [`RingLimits`] of what it was given is *detached*: it gets nothing more, except what is meant for
//! it alone, which is kept; when it has taken what it has, it is sent the log in between, and goes
//! on where the others are (`feed`).
//!
//! A member never shows anybody a state older than it has already shown anyone (design.md §2). The
//! [`Progress`] carries that: a replica raises `answered` before bytes of that state leave it, and loads
//! it after bytes have come in and before they are executed; it executes nothing below it.

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

#[cfg(test)]
mod tests;

pub use crate::member::CatchUp;
pub use feed::{Batch, FeedCounters, RingLimits};
pub use group_commit::{GroupCommit, SyncCounters, SyncPlace, SyncPolicy};
pub use inline::Inline;
pub use intake::Budgets;
pub use orderer::Orderer;
pub use ordering::OrderingCore;
pub use port::{OrderingRings, ReplicaPort, ReplicaRings, rings};
pub use progress::{Progress, Taken};
pub use replica::Replica;
pub use served::Served;
pub use serving::{ServingCore, Turned};
pub use sockets::{Accepted, Read, SocketId, Sockets, Wrote};
