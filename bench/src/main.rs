//! The entry point: parse, run, say how it went.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use clap::Parser;

fn main() -> std::process::ExitCode {
    rkbench::cli::main(rkbench::cli::Cli::parse())
}
