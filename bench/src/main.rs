//! The entry point: parse, run, say how it went.

use clap::Parser;

fn main() -> std::process::ExitCode {
    rkbench::cli::main(rkbench::cli::Cli::parse())
}
