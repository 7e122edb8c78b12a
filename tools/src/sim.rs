//! `rk sim`: runs seeds on all cores, stops at the first broken promise and says how to replay it.

mod ensemble;
mod seeds;

pub use seeds::Args;

use ringkeeper::sim::{Counters, Options, Outcome, run as run_seed};
use ringkeeper::types::{ErrorCode, OpCode};
use seeds::each_seed;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

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
