//! The command line: arguments as they were given become plans, plans are run, results printed.

use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::plan::{self, DATA_BYTES, NODES_MAX, OPEN_OUTSTANDING_MAX, Pace, Plan, Workload};
use crate::run;
use crate::{compare, fairness, floor, restart, snapshot, stub};
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  rkbench run set -c 64                         set 100 B, 64 connections with 1 outstanding each
  rkbench run get -c 16 -w 64 --pid 4711        a window of 64, and the server's CPU per operation
  rkbench run set -c 64 --rate 2000             open loop: latency from when a request was due
  rkbench run watch -c 10000                    fan-out to 10,000 watchers
  rkbench floor --dir /var/tmp                  what this machine allows at best
  rkbench compare --against apache --ours target/release/ringkeeper --parent OLD_BINARY
  rkbench compare --against parent --parent OLD_BINARY   writes only, without Apache's server
  rkbench compare --ours target/release/ringkeeper --resume bench/runs/INTERRUPTED
  rkbench fairness --against apache --ours target/release/ringkeeper --shards 0,2
  rkbench snapshot --znodes 5000000 --seconds 90   what a snapshot costs an open loop of writes
  rkbench restart --znodes 1000000 --shards 0,1,2  cold starts and memory, beside Apache's server
  rkbench restart --against none --shards 0,1,2    what each shard costs in memory and in time

Exit codes: 0 everything was done, 1 something failed or was missing, 2 wrong arguments.";

/// Measures servers that speak ZooKeeper's protocol.
#[derive(Parser)]
#[command(name = "rkbench", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a workload against a server.
    Run(RunArgs),
    /// Measures what the machine allows: a server that does nothing, syncing, echoing.
    Floor(floor::FloorArgs),
    /// Runs ours and Apache's server, or the parent commit's, in turn and prints the ratios.
    Compare(compare::CompareArgs),
    /// Measures what hostile clients can do to others, on ours and on Apache's server.
    Fairness(fairness::FairnessArgs),
    /// Measures what a snapshot of a large tree costs those who write meanwhile.
    Snapshot(snapshot::SnapshotArgs),
    /// Measures restarts and memory with a large tree, on ours and on Apache's server.
    Restart(restart::RestartArgs),
    /// The server that does nothing, in the foreground.
    Stub(stub::StubArgs),
}

#[derive(Args)]
struct RunArgs {
    /// What the load consists of.
    workload: Workload,
    /// Servers; connections are spread over them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "127.0.0.1:2181",
        value_name = "HOST:PORT"
    )]
    target: Vec<String>,
    /// Connections; with `watch` the watchers.
    #[arg(short = 'c', long, default_value_t = 1, value_name = "N")]
    connections: usize,
    /// Requests outstanding per connection (1; in an open loop at most 1024).
    #[arg(short = 'w', long, value_name = "N")]
    window: Option<usize>,
    /// Open loop: requests per second over all connections.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Bytes of data per node.
    #[arg(long, default_value_t = DATA_BYTES, value_name = "BYTES")]
    size: usize,
    /// Nodes that get, set, multi and mix are spread over (as many as connections, up to 1024).
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// What is measured, s.
    #[arg(long, default_value = "5", value_parser = plan::seconds)]
    seconds: Duration,
    /// What goes before it, s.
    #[arg(long, default_value = "1", value_parser = plan::seconds)]
    warmup: Duration,
    /// Threads that generate load.
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
    /// CPU of the first thread; the others take the following ones.
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
    /// The servers' processes, for CPU and memory.
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    pid: Vec<u32>,
    /// Path that everything is put below.
    #[arg(
        long,
        default_value = "",
        value_name = "PATH",
        hide_default_value = true
    )]
    chroot: String,
    /// One line of JSON in place of the table.
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    fn plan(&self) -> Result<Plan, Failure> {
        let pace = match (self.rate, self.window) {
            (None, window) => Pace::Closed {
                window: window.unwrap_or(1),
            },
            (Some(rate), window) => Pace::Open {
                rate,
                outstanding_max: window.unwrap_or(OPEN_OUTSTANDING_MAX),
            },
        };
        let plan = Plan {
            workload: self.workload,
            targets: self
                .target
                .iter()
                .map(|target| plan::resolve(target))
                .collect::<Result<_, _>>()?,
            connections: self.connections,
            pace,
            data_bytes: self.size,
            nodes: self.nodes.unwrap_or(self.connections.min(NODES_MAX)),
            measured: self.seconds,
            warmup: self.warmup,
            threads: self.threads,
            pin: self.pin,
            pids: self.pid.clone(),
            chroot: self.chroot.clone(),
            progress: true,
        };
        plan.check()?;
        Ok(plan)
    }
}

/// Prints a run's result as it was asked for.
fn tell(outcome: &Outcome, json: bool) {
    if json {
        println!("{}", outcome.json());
    } else {
        print!("{}", outcome.text());
    }
}

/// Runs the command; says what went wrong.
pub fn main(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Run(args) => args.plan().and_then(|plan| run::run(&plan)).map(|outcome| {
            tell(&outcome, args.json);
            outcome.is_success()
        }),
        Command::Floor(args) => floor::main(&args),
        Command::Compare(args) => compare::main(&args),
        Command::Fairness(args) => fairness::main(&args),
        Command::Snapshot(args) => snapshot::main(&args),
        Command::Restart(args) => restart::main(&args),
        Command::Stub(args) => stub::main(&args).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("rkbench: {e}");
            ExitCode::from(if matches!(e, Failure::Usage(_) | Failure::Target(_)) {
                2
            } else {
                1
            })
        }
    }
}
