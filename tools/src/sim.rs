//! `rk sim`: runs seeds on all cores, stops at the first broken promise and says how to replay it.

mod ensemble;

use ringkeeper::sim::{Counters, Options, Outcome, run as run_seed};
use ringkeeper::types::{ErrorCode, OpCode};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Arguments of `rk sim`.
#[derive(clap::Args)]
pub struct Args {
    /// Run this many seeds, from --from on.
    #[arg(long, default_value_t = 600, conflicts_with = "seed")]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Replay one seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the hash of each seed's event log.
    #[arg(long)]
    hash: bool,
    /// For each seed: record the effects of a short run without faults, then run it again with a
    /// crash after each one of them.
    #[arg(long)]
    every_effect: bool,
    /// Crash at this effect of the short run (what a failing --every-effect prints).
    #[arg(long)]
    crash_at: Option<u64>,
    /// Print the counters as a line of JSON, and what each operation was answered as another.
    #[arg(long)]
    json: bool,
    /// Serving shards of the member; 0 = inline.
    #[arg(long, default_value_t = 0)]
    shards: u16,
    /// Take away the premise that a sector which is written in a power cut holds old or new bytes.
    #[arg(long)]
    tears_destroy: bool,
    /// Ensembles of so many members, in place of a server that stands alone; 0: each seed decides.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=7),
        conflicts_with_all = ["shards", "every_effect", "crash_at", "tears_destroy"])]
    members: Option<u8>,
    /// Threads; 0 = one for each core.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
}

thread_local! {
    /// What this thread is running, for the panic hook.
    static RUNNING: Cell<Option<Options>> = const { Cell::new(None) };
}

fn replay_command(options: &Options) -> String {
    let mut command = format!("rk sim --seed {}", options.seed);
    if options.shards > 0 {
        command += &format!(" --shards {}", options.shards);
    }
    if options.tears_destroy {
        command += " --tears-destroy";
    }
    if options.short {
        command += " --every-effect";
    }
    if let Some(at) = options.crash_at {
        command += &format!(" --crash-at {at}");
    }
    command
}

fn guarded(options: Options) -> Outcome {
    RUNNING.set(Some(options));
    let outcome = run_seed(options);
    RUNNING.set(None);
    outcome
}

/// What all threads add up.
#[derive(Default)]
struct Totals {
    runs: u64,
    virtual_ms: u64,
    counters: BTreeMap<&'static str, u64>,
    /// By operation and code.
    outcomes: BTreeMap<(OpCode, ErrorCode), u64>,
    /// Events by type.
    told: BTreeMap<i32, u64>,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.virtual_ms += outcome.virtual_ms;
        let counted = named(&outcome.counters).into_iter();
        let ends = outcome.counters.ends;
        let named = counted.chain(outcome.counters.faults.named());
        for (name, value) in named.chain(ends.each()) {
            *self.counters.entry(name).or_default() += value;
        }
        for (outcome, times) in &outcome.outcomes {
            *self.outcomes.entry(*outcome).or_default() += times;
        }
        for (event, times) in &outcome.told {
            *self.told.entry(*event).or_default() += times;
        }
    }

    /// What each operation was answered, and how often.
    fn by_operation(&self) -> Vec<(&'static str, Vec<(&'static str, u64)>)> {
        let mut rows: Vec<(&str, Vec<(&str, u64)>)> = Vec::new();
        for ((op, code), times) in &self.outcomes {
            let op = op.name().unwrap_or("unknown");
            let cell = (code.name().unwrap_or("unknown"), *times);
            match rows.last_mut().filter(|(last, _)| *last == op) {
                Some((_, cells)) => cells.push(cell),
                None => rows.push((op, vec![cell])),
            }
        }
        let names = ["created", "deleted", "dataChanged", "childrenChanged"];
        let event = |(event, times): (&i32, &u64)| {
            let name = names.get((*event - 1) as usize);
            (*name.unwrap_or(&"unknown"), *times)
        };
        rows.push(("events", self.told.iter().map(event).collect()));
        rows
    }
}

fn named(c: &Counters) -> [(&'static str, u64); 44] {
    [
        ("power_cuts", c.power_cuts),
        ("kills", c.kills),
        ("crashes_in_recovery", c.crashes_in_recovery),
        ("clock_steps", c.clock_steps),
        ("full_disks", c.full_disks),
        ("refused", c.refused),
        ("rollovers", c.rollovers),
        ("disconnects", c.disconnects),
        ("steals", c.steals),
        ("stalls", c.stalls),
        ("detached", c.detached),
        ("rejoined", c.rejoined),
        ("pauses", c.pauses),
        ("exhausted", c.exhausted),
        ("writes_cut", c.writes_cut),
        ("writes_refused", c.writes_refused),
        ("completions_lost", c.completions_lost),
        ("resets", c.resets),
        ("words", c.words),
        ("intruders", c.intruders),
        ("slow_readers", c.slow_readers),
        ("syncs_here", c.syncs_here),
        ("syncs_beside", c.syncs_beside),
        ("writes_beside", c.writes_beside),
        ("stops", c.stops),
        ("drains", c.drains),
        ("drains_overdue", c.drains_overdue),
        ("expiries", c.expiries),
        ("reaped", c.reaped),
        ("stale_requests", c.stale_requests),
        ("frames_too_long", c.frames_too_long),
        ("snapshots", c.snapshots),
        ("replies", c.replies),
        ("events", c.events),
        ("txns", c.txns),
        ("sectors_lost", c.disk.sectors_lost),
        ("sectors_reordered", c.disk.sectors_reordered),
        ("sectors_torn", c.disk.sectors_torn),
        ("names_lost", c.disk.names_lost),
        ("sync_errors", c.disk.sync_errors),
        ("creates_refused", c.disk.full),
        ("reads_failed", c.disk.reads_failed),
        ("writes_behind_a_sync", c.disk.writes_behind_a_sync),
        ("tears_destroyed", c.disk.sectors_destroyed),
    ]
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    if let Some(members) = args.members {
        return ensemble::run(args, members);
    }
    let totals = Mutex::new(Totals::default());
    let say = || RUNNING.get().map(|options| replay_command(&options));
    let (passed, seeds, took) = each_seed(args, say, |seed| one_seed(args, seed, &totals));
    let mut totals = totals.into_inner().expect("no thread panicked");
    if !args.tears_destroy {
        totals
            .counters
            .retain(|name, _| !name.starts_with("tears_"));
    }
    report(args, &totals, seeds, took);
    match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
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
fn each_seed(
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

/// False: a promise was broken.
fn one_seed(args: &Args, seed: u64, totals: &Mutex<Totals>) -> bool {
    let options = |crash_at, short| Options {
        seed,
        crash_at,
        short,
        shards: args.shards,
        tears_destroy: args.tears_destroy,
    };
    if !args.every_effect {
        return checked(args, options(None, false), totals).is_some();
    }
    if let Some(at) = args.crash_at {
        return checked(args, options(Some(at), true), totals).is_some();
    }
    let Some(effects) = checked(args, options(None, true), totals) else {
        return false;
    };
    (0..effects).all(|at| checked(args, options(Some(at), true), totals).is_some())
}

/// Runs once; the number of effects, or `None` for a broken promise.
fn checked(args: &Args, options: Options, totals: &Mutex<Totals>) -> Option<u64> {
    let outcome = guarded(options);
    totals.lock().expect("no thread panicked").add(&outcome);
    if args.hash {
        println!("{} {}", options.seed, outcome.hash);
    }
    if let Some(violation) = &outcome.violation {
        println!("seed {}: {violation}", options.seed);
        println!("replay: {}", replay_command(&options));
        return None;
    }
    Some(outcome.effects)
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

fn joined(cells: &[(&str, u64)], quote: &str, between: &str) -> String {
    let cells = cells.iter();
    let cells = cells.map(|(name, times)| format!("{quote}{name}{quote}{between}{times}"));
    cells.collect::<Vec<_>>().join(", ")
}

fn report(args: &Args, totals: &Totals, seeds: u64, took: Duration) {
    let list: Vec<String> = totals
        .counters
        .iter()
        .map(|(n, v)| format!("{n} {v}"))
        .collect();
    if args.json {
        let fields: Vec<String> = totals
            .counters
            .iter()
            .map(|(n, v)| format!("\"{n}\": {v}"))
            .collect();
        let rows: Vec<String> = totals
            .by_operation()
            .iter()
            .map(|(op, cells)| format!("\"{op}\": {{{}}}", joined(cells, "\"", ": ")))
            .collect();
        println!("{{\"runs\": {}, {}}}", totals.runs, fields.join(", "));
        println!("{{\"outcomes\": {{{}}}}}", rows.join(", "));
    } else {
        println!("{}", list.join(", "));
        for (op, cells) in totals.by_operation() {
            println!("{op}: {}", joined(&cells, "", " "));
        }
    }
    println!(
        "{seeds} seeds, {} runs, {:.0} simulated s in {:.1} s ({:.0} runs/s)",
        totals.runs,
        totals.virtual_ms as f64 / 1000.0,
        took.as_secs_f64(),
        totals.runs as f64 / took.as_secs_f64()
    );
}
