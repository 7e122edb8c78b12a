//! How a learner is brought to its leader's history (docs/peer-protocol.md §2.6–2.9): what the leader decides to send
//! ([`decide`]), and what the learner does with it ([`Stream`]).

mod decision;
mod stream;

#[cfg(test)]
mod tests;

pub use decision::{Cut, History, Opening, decide};
pub use stream::{Base, Stream, StreamEffect, StreamEvent};
