//! The server: command line, start-up checks, the executor, the edge, four-letter words.

mod cli;
mod edge;
pub mod exit;
pub mod fourletter;
mod front;
mod jobs;
pub mod preflight;
mod process;
mod run;
mod shards;

pub use cli::main;
pub use run::{Ready, RunError, run};
