//! How servers of an ensemble agree (docs/peer-protocol.md §1–2): pure state machines, events in and effects out.
//! Packets are decoded, ticks and configurations are arguments; nothing here knows a socket, a file, a clock, a
//! client or a tree.
//!
//! | Module | What |
//! |---|---|
//! | [`quorum`] | which sets of voters decide |
//! | [`tally`] | who has acknowledged, while one configuration or two are live |
//! | [`election`] | who leads |
//! | [`links`] | which connection of two election ports lives |
//! | [`discovery`] | which epoch a leader leads, at the leader and at a learner |
//! | [`sync`] | how a learner is brought to the leader's history: what is sent, and what is done with it |
//! | [`broadcast`] | a leader with its epoch: transactions, who holds them, pings, confirmed syncs |
//! | [`follow`] | a learner that serves |
//! | [`peer`] | one member: its elections, and the role that comes of each |
//! | `learner`, `bounds`, `decided`, `verdict` | what these share: who a learner is, how much is kept, what is committed, how it ends |

mod bounds;
pub mod broadcast;
mod decided;
pub mod discovery;
pub mod election;
pub mod follow;
mod learner;
pub mod links;
pub mod peer;
pub mod quorum;
pub mod sync;
pub mod tally;
mod verdict;

#[cfg(test)]
mod ensemble;

pub use bounds::*;
pub use broadcast::{Asker, Broadcast, BroadcastEffect, Heard, NotYet};
pub use decided::Decided;
pub use discovery::{Discovery, DiscoveryEffect, Introduction, IntroductionEffect, Newcomer};
pub use election::{Candidate, Elected, Election, Offer, Outcome, Said};
pub use follow::{Follow, FollowEffect, SyncId};
pub use learner::Learner;
pub use links::{LinkEffect, LinkId, Links};
pub use peer::{Beginning, Duty, Effect, Peer, RoleId, Settings};
pub use quorum::{Quorum, QuorumError};
pub use sync::{Base, History, Opening, Stream, StreamEffect, StreamEvent, decide};
pub use tally::{Pair, Tally};
pub use verdict::{Dropped, Leave, Patience};
