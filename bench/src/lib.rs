//! `rkbench`: a load generator for every server that speaks ZooKeeper's protocol, the floors that
//! the machine sets, and a comparison with Apache's server in one run.
//!
//! A run is planned ([`plan`]), prepared over a blocking connection ([`control`]), driven by worker
//! threads that own their connections ([`load`], [`storm`], [`watch`] over [`conn`] and [`wire`]),
//! and told as an [`outcome`]. [`floor`] and [`compare`] are made of runs.
//!
//! Nothing of the server is used here, its encoder least of all: a mistake in it must not be
//! mirrored by the instrument that measures it.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs, unsafe_code)]

pub mod cli;
pub mod compare;
pub mod conn;
pub mod control;
pub mod failure;
pub mod floor;
pub mod load;
pub mod machine;
pub mod outcome;
pub mod plan;
pub mod procfs;
pub mod ratios;
pub mod run;
pub mod servers;
pub mod storm;
pub mod stub;
pub mod sys;
pub mod tally;
pub mod watch;
pub mod wire;
