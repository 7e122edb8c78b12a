//! The server: start-up, the executor, the edge, four-letter words.

mod edge;
pub mod fourletter;
mod run;
mod state;

pub use run::{Ready, run};
