//! The simulator: the production modules in one thread, on virtual time and a virtual disk.
//! A seed decides everything; a failure prints the command that replays it.
//!
//! | File | What |
//! |---|---|
//! | `disk` | the medium and its fault model |
//! | `op` | requests, and how they are drawn |
//! | `client` | one client: what it has asked, and what a client can check by itself |
//! | `truth` | order of transactions, a model of the tree at every zxid |
//! | `instructions` | a fixed amount of work without faults, for counting instructions |
//! | `world` | events, faults, the promises that are checked |

pub mod client;
pub mod disk;
pub mod instructions;
mod machine;
pub mod op;
pub mod truth;
pub mod world;

pub use world::{Counters, Options, Outcome, run};
