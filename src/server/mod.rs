//! The server: command line, start-up checks, data cores, background work, four-letter words.

mod address;
mod background;
mod cli;
mod connection;
mod disk;
mod environment;
pub mod exit;
mod lists;
mod loss;
mod mailbox;
mod names;
mod order;
pub mod peers;
pub mod preflight;
mod process;
mod rebuild;
mod report;
mod run;
mod serve;
mod texts;
mod transport;
mod words;

pub use cli::main;
pub use preflight::Ready;
pub use run::{RunError, run};
