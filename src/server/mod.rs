//! The server: command line, start-up checks, the executor, the edge, four-letter words.

mod cli;
mod edge;
pub mod exit;
pub mod fourletter;
pub mod preflight;
mod run;
mod state;

pub use cli::main;
pub use run::{Ready, RunError, run};
