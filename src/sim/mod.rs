//! The simulator: the production modules in one thread, on virtual time and a virtual disk.
//! A seed decides everything; a failure prints the command that replays it.

pub mod client;
pub mod disk;
pub mod truth;
