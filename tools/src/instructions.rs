//! `rk instructions`: a fixed amount of work on a member without faults, for callgrind to count.

use ringkeeper::sim::instructions::{self, Kind};
use std::process::ExitCode;

/// Arguments of `rk instructions`.
#[derive(clap::Args)]
pub struct Args {
    /// What is done.
    #[arg(value_enum)]
    operation: Operation,
    /// How often; rounded up to 256.
    #[arg(long, default_value_t = 8192)]
    operations: usize,
    /// Serving shards of the member; 0 = inline.
    #[arg(long, default_value_t = 0)]
    shards: u16,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Operation {
    /// getData.
    Get,
    /// setData of 100 bytes.
    Set,
}

pub fn run(args: &Args) -> ExitCode {
    let kind = match args.operation {
        Operation::Get => Kind::Get,
        Operation::Set => Kind::Set,
    };
    match instructions::work(args.shards, kind, args.operations) {
        Ok(bytes) => {
            println!("{bytes} bytes of replies");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
