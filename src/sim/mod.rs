//! The simulator: the production modules in one thread, on virtual time and a virtual disk.
//! A seed decides everything; a failure prints the command that replays it.
//!
//! | File | What |
//! |---|---|
//! | `outcome` | what is to be run, and what came of it |
//! | `base` | random numbers, virtual time, events |
//! | `transcript` | hash of the event log |
//! | `disk` | the medium and its fault model |
//! | `damage` | what happens to files behind the server's back |
//! | `op`, `draw` | requests, and how they are drawn |
//! | `ends` | a connection that the server ends has given it the reason that the server names |
//! | `identity` | who clients are, and what access control lists allow them |
//! | `truth` | order of transactions, a model of the tree at every zxid |
//! | `order` | how it takes the next transaction |
//! | `draft` | what a request must become in the state before it |
//! | `quota` | totals and hard limits of quotas |
//! | `client` | one client: what it has asked, and what it can check by itself |
//! | `wire`, `replies` | bytes of requests and replies; replies against the truth |
//! | `catch_up`, `lasting` | its watches: what a setWatches did; persistent and recursive ones |
//! | `checks` | the promises that are checked |
//! | `config` | how a member is set up, with small bounds |
//! | `machine` | a member in either placement |
//! | `lists` | access control lists without end |
//! | `names` | the paths that clients use, and which of all are legal |
//! | `network` | connections, bytes on their way, the server's kernel |
//! | `sockets` | what a core that serves sees of it |
//! | `cores` | what one core learns before its turn |
//! | `host` | starts, turns, background jobs and deaths of the process |
//! | `operations` | what the clients do |
//! | `failing` | calls that fail |
//! | `loss` | what is lost is given up |
//! | `faults` | what goes wrong, and when |
//! | `world` | whose event it is, the life of a run |
//! | `ensemble/` | ensembles of whole members: the same for many of them, with links between them |
//! | `instructions` | a fixed amount of work without faults, for counting instructions |

mod base;
mod catch_up;
mod checks;
pub mod client;
mod config;
mod cores;
mod damage;
pub mod disk;
mod draft;
mod draw;
mod ends;
pub mod ensemble;
mod failing;
mod faults;
mod host;
mod identity;
pub mod instructions;
mod lasting;
mod lists;
mod loss;
mod machine;
mod names;
mod network;
pub mod op;
mod operations;
mod order;
mod outcome;
mod quota;
mod replies;
mod sockets;
mod stop;
mod transcript;
pub mod truth;
mod wire;
mod world;

pub use outcome::{Counters, Fault, FaultCounts, Options, Outcome};
pub use world::run;
