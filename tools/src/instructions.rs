//! `rk instructions`: a fixed amount of work on a member without faults, for callgrind to count.

use ringkeeper::sim::instructions::{self, Kind, Work};
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
    /// Names in the path of each connection's node.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Data of a node, bytes.
    #[arg(long, default_value_t = 100)]
    data: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Operation {
    /// getData.
    Get,
    /// setData.
    Set,
    /// getChildren of a node with 100 children.
    List,
    /// create below the connection's node.
    Create,
    /// create and delete, by turns.
    CreateDelete,
    /// multi of ten setData.
    Multi,
}

pub fn run(args: &Args) -> ExitCode {
    let kind = match args.operation {
        Operation::Get => Kind::Get,
        Operation::Set => Kind::Set,
        Operation::List => Kind::List,
        Operation::Create => Kind::Create,
        Operation::CreateDelete => Kind::CreateDelete,
        Operation::Multi => Kind::Multi,
    };
    let work = Work {
        shards: args.shards,
        kind,
        operations: args.operations,
        depth: args.depth,
        data: args.data,
    };
    match instructions::work(work) {
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
