//! What servers of an ensemble send each other (docs/peer-protocol.md §1–2, §9.3): bytes to values and back, byte
//! for byte what Apache's servers send, no state.
//!
//! | Port | First | Then |
//! |---|---|---|
//! | election | [`Hello`](hello::Hello), from who dials only | frames with a [`Notification`] each |
//! | quorum | – | [`Packet`](packet::Packet)s, read as [`ToLeader`] or [`ToLearner`]; raw bytes behind a SNAP |
//!
//! Nothing that a peer sends can end the process: decoders return errors, which end the connection or skip the
//! message. Values borrow from the input. A length is compared with the reader's bound before its bytes are there,
//! and nothing is allocated by a length alone.

pub mod hello;
pub mod learner;
pub mod notification;
pub mod packet;
pub mod vote;

#[cfg(test)]
mod golden;

pub use hello::{Address, Hello};
pub use learner::{LearnerInfo, ToLeader, ToLearner};
pub use notification::Notification;
pub use vote::{PeerState, Vote};
