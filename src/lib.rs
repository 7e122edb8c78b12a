//! Ringkeeper: a coordination server that every Apache ZooKeeper client can use unchanged.
//!
//! Everything but `rt` and `server` is pure: it takes events and gives effects, sees neither
//! clock, randomness, files nor sockets, and is driven alike by the server and by `sim`.
//! `ARCHITECTURE.md` has the map.

#![deny(missing_docs)]
#![cfg_attr(not(feature = "server"), forbid(unsafe_code))]
// Tests may read files and start threads; what ships is held to clippy.toml in the build without tests.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod budget;
pub mod config;
pub mod constants;
pub mod log;
pub mod member;
pub mod messages;
pub mod peers;
pub mod pipeline;
pub mod placement;
pub mod proto;
#[cfg(feature = "server")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod rt;
#[cfg(feature = "server")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod server;
pub mod shard;
pub mod sim;
pub mod snapshot;
pub mod stages;
pub mod tree;
pub mod txn;
pub mod types;
pub mod zab;
