//! How servers of an ensemble agree (docs/peer-protocol.md §1–2): pure state machines, events in and effects out.
//! Packets are decoded, ticks and configurations are arguments; nothing here knows a socket, a file, a clock, a
//! client or a tree.
//!
//! | Module | What |
//! |---|---|
//! | [`quorum`] | which sets of voters decide |
//! | [`tally`] | who has acknowledged, while one configuration or two are live |
//! | [`acks`] | what is decided, by what each server has on disk |
//! | [`election`] | who leads |
//! | [`links`] | which connection of two election ports lives |

pub mod acks;
pub mod election;
pub mod links;
pub mod quorum;
pub mod tally;

pub use acks::{AckSet, Decided};
pub use election::{Candidate, Elected, Election, Offer, Outcome, Said};
pub use links::{LinkEffect, LinkId, Links};
pub use quorum::{Quorum, QuorumError};
pub use tally::{Pair, Tally};
