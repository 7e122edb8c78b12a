//! What is asked of `rk sim`, and how its seeds are run: on all cores, until one fails.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Arguments of `rk sim`.
#[derive(clap::Args)]
pub struct Args {
    /// Run this many seeds, from --from on.
    #[arg(long, default_value_t = 600, conflicts_with = "seed")]
    pub seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// Replay one seed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print the hash of each seed's event log.
    #[arg(long)]
    pub hash: bool,
    /// For each seed: record the effects of a short run without faults, then run it again with a
    /// crash after each one of them.
    #[arg(long)]
    pub every_effect: bool,
    /// Crash at this effect of the short run (what a failing --every-effect prints).
    #[arg(long)]
    pub crash_at: Option<u64>,
    /// Print the counters as a line of JSON, and what each operation was answered as another.
    #[arg(long)]
    pub json: bool,
    /// Serving shards of the member; 0 = inline.
    #[arg(long, default_value_t = 0)]
    pub shards: u16,
    /// Take away the premise that a sector which is written in a power cut holds old or new bytes.
    #[arg(long)]
    pub tears_destroy: bool,
    /// Ensembles of so many members, in place of a server that stands alone; 0: each seed decides.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=7),
        conflicts_with_all = ["shards", "every_effect", "crash_at", "tears_destroy"])]
    pub members: Option<u8>,
    /// Threads; 0 = one for each core.
    #[arg(long, default_value_t = 0)]
    pub jobs: usize,
}

/// A thread that panics is the last one that runs a seed.
struct StopsAll<'a>(&'a AtomicBool);

impl Drop for StopsAll<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }
}

/// Runs all seeds that are asked for, on all cores, until one fails: whether none did, how many were asked for, and how
/// long it took. `replay`: the command that replays what a thread is running, for the panic hook.
pub fn each_seed(
    args: &Args,
    replay: impl Fn() -> Option<String> + Send + Sync + 'static,
    one: impl Fn(u64) -> bool + Sync,
) -> (bool, u64, Duration) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        if let Some(command) = replay() {
            eprintln!("replay: {command}");
        }
    }));
    let seeds: Vec<u64> = match args.seed {
        Some(seed) => vec![seed],
        None => (args.from..args.from + args.seeds).collect(),
    };
    let jobs = match args.jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let _stops = StopsAll(&stop);
                while !stop.load(Relaxed) {
                    let Some(&seed) = seeds.get(next.fetch_add(1, Relaxed) as usize) else {
                        break;
                    };
                    if !one(seed) {
                        stop.store(true, Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| progress(&next, &stop, seeds.len() as u64));
    });
    (!stop.load(Relaxed), seeds.len() as u64, began.elapsed())
}

fn progress(next: &AtomicU64, stop: &AtomicBool, seeds: u64) {
    let mut said = Instant::now();
    while next.load(Relaxed) < seeds && !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            eprintln!("{} of {seeds} seeds", next.load(Relaxed));
        }
    }
}
