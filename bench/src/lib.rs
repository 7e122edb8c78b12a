//! `rkbench`: a load generator for every server that speaks ZooKeeper's protocol, the floors that
//! the machine sets, and a comparison with Apache's server in one run.
//!
//! A run is planned ([`plan`]), prepared over a blocking connection ([`control`]), driven by worker
//! threads that own their connections ([`load`], [`storm`], [`watch`] over [`conn`] and [`wire`]),
//! and told as an [`outcome`]. [`floor`] and [`compare`] are made of runs; [`fairness`] sets [`hostile`]
//! clients beside a [`bystander`]; [`snapshot`] and [`restart`] measure on a [`store`] that is filled with
//! [`content`]. All of these but [`floor`] are a [`measurement`] in pairs of turns, which [`subjects`] take
//! and a [`journal`] keeps, from which [`ratios`] and [`goals`] are told.
//!
//! Nothing of the server is used here, its encoder least of all: a mistake in it must not be
//! mirrored by the instrument that measures it.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(missing_docs, unsafe_code)]

pub mod bystander;
pub mod cli;
pub mod compare;
pub mod conn;
pub mod content;
pub mod control;
pub mod failure;
pub mod fairness;
pub mod first;
pub mod floor;
pub mod goals;
pub mod hostile;
pub mod journal;
pub mod load;
pub mod machine;
pub mod measurement;
pub mod outcome;
pub mod plan;
pub mod procfs;
pub mod progress;
pub mod ratios;
pub mod repository;
pub mod restart;
pub mod rows;
pub mod run;
pub mod segment;
pub mod servers;
pub mod snapshot;
pub mod store;
pub mod storm;
pub mod stub;
pub mod subjects;
pub mod sys;
pub mod tally;
pub mod watch;
pub mod wire;
pub mod workers;
