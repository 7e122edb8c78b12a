//! Ensembles: whole members with their disks, connections that carry bytes, clients, faults, and what must hold of all
//! of it together. A seed decides everything.
//!
//! | File | What |
//! |---|---|
//! | `outcome` | what is to be run, what came of it, what is counted |
//! | `profile` | what a seed is like: sizes, rates, kinds of faults |
//! | `event` | what happens at a moment |
//! | `wire` | connections, and the bytes on their way |
//! | `node` | a member and its machine |
//! | `world` | the life of a run: starts and deaths, whose event it is, the calm at the end |
//! | `turns` | a member's turn: what it applies, what it wants, its work on the disk |
//! | `network` | dials, bytes, ends of connections |
//! | `clients` | what is asked for, and what was promised for it |
//! | `kinds`, `faults` | what goes wrong, and when |
//! | `truth` | one sequence, one leader of an epoch, one state |
//!
//! **What is checked at every step.** All members apply one sequence, byte for byte, which only grows: so whatever one
//! member has applied and answered is what every other one applies. Behind each transaction trees have one digest, and
//! snapshots one body. An epoch has one leader. A member that starts again holds what it held durably of what is
//! committed, has the epochs that it has promised, and counts if it did. Nothing but a failed call ends a process.
//! At the end, when nothing fails any more, within a time there is one leader, all hold all, and writes succeed.
//!
//! **What is not done to them**, because no majority survives it: more members lack what they had (wiped, and not
//! synchronised since) than may be missing from a quorum; both files of a record, or one of them twice in a row, are
//! lost. Disks go back to nothing that they were before.

mod clients;
mod event;
mod faults;
mod kinds;
mod network;
mod node;
mod outcome;
mod profile;
mod truth;
mod turns;
mod wire;
mod world;

pub use outcome::{Counts, EnsembleOptions, EnsembleOutcome};
pub use world::run;
