//! How a leader gets its epoch (docs/peer-protocol.md §2.4–2.5). A quorum of voters promises it to nobody else, and
//! none of those has a newer history.
//!
//! ```text
//! learner                               leader
//! FOLLOWERINFO(accepted) ─────────────► gathering: until a quorum has come, the leader among them
//!                                       epoch = the highest accepted + 1; promised here, durably
//!                        ◄───────────── LEADERINFO(epoch)
//! promised here, durably
//! ACKEPOCH(last, current) ────────────► offered: until a quorum has promised
//!                                       established: synchronisation begins, of those who come later too
//! ```
//!
//! What is said of an epoch is said of what is durable: both sides are driven on by a [`Durable`](crate::log::Durable) record only.

mod introduction;
mod leader;

#[cfg(test)]
mod tests;

pub use introduction::{Introduction, IntroductionEffect, Newcomer};
pub use leader::{Discovery, DiscoveryEffect};
