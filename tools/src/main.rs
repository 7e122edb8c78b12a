//! `rk`: the operator's tool: the simulator, an ensemble to try, what stands in a store's files, and what an operation costs.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod cluster;
mod inspect;
mod instructions;
mod sim;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

// The server's, so that what `rk instructions` counts is what the server takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Operator's tool of Ringkeeper.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  rk sim --seeds 600\n  rk sim --seed 42 --hash\n  rk inspect /var/lib/zookeeper\n  rk cluster up"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server's own modules on a simulated machine, seed by seed.
    Sim(sim::Args),
    /// Starts, ends and asks the members of an ensemble on this machine.
    Cluster(cluster::Args),
    /// Prints what stands in segments, snapshots and the witness; changes nothing.
    Inspect(inspect::Args),
    /// Does a fixed amount of work, for callgrind to count (see bench/instructions).
    Instructions(instructions::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Sim(args) => sim::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Instructions(args) => instructions::run(&args),
    }
}
