//! `rk sim --members`: seeds of ensembles.

use super::seeds::{Args, each_seed};
use ringkeeper::sim::ensemble::{EnsembleOptions, EnsembleOutcome, run as run_seed};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

thread_local! {
    /// What this thread is running, for the panic hook.
    static RUNNING: Cell<Option<EnsembleOptions>> = const { Cell::new(None) };
}

/// What all threads add up.
#[derive(Default)]
struct Totals {
    runs: u64,
    virtual_ms: u64,
    counts: BTreeMap<&'static str, u64>,
    /// In the order in which they are described.
    names: Vec<&'static str>,
}

impl Totals {
    fn add(&mut self, outcome: &EnsembleOutcome) {
        self.runs += 1;
        self.virtual_ms += outcome.virtual_ms;
        let named = outcome.counts.named();
        self.names = named.iter().map(|(name, _)| *name).collect();
        for (name, times) in named {
            *self.counts.entry(name).or_default() += times;
        }
    }
}

fn replay_command(options: &EnsembleOptions) -> String {
    let EnsembleOptions { seed, members } = options;
    format!("rk sim --members {members} --seed {seed}")
}

pub(super) fn run(args: &Args, members: u8) -> ExitCode {
    let totals = Mutex::new(Totals::default());
    let say = || RUNNING.get().map(|options| replay_command(&options));
    let (passed, seeds, took) = each_seed(args, say, |seed| {
        one_seed(args, EnsembleOptions { seed, members }, &totals)
    });
    report(
        args,
        &totals.into_inner().expect("no thread panicked"),
        seeds,
        took,
    );
    match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// False: a promise was broken.
fn one_seed(args: &Args, options: EnsembleOptions, totals: &Mutex<Totals>) -> bool {
    RUNNING.set(Some(options));
    let outcome = run_seed(options);
    RUNNING.set(None);
    totals.lock().expect("no thread panicked").add(&outcome);
    if args.hash || args.seed.is_some() {
        println!("{} {}", options.seed, outcome.hash);
    }
    if let Some(violation) = &outcome.violation {
        println!("seed {}: {violation}", options.seed);
        println!("replay: {}", replay_command(&options));
    }
    outcome.violation.is_none()
}

fn report(args: &Args, totals: &Totals, seeds: u64, took: Duration) {
    let times = |name: &&&str| totals.counts.get(*name).copied().unwrap_or_default();
    let quote = if args.json { "\"" } else { "" };
    let between = if args.json { ": " } else { " " };
    let cells = totals.names.iter();
    let cells = cells.map(|name| format!("{quote}{name}{quote}{between}{}", times(&name)));
    let list = cells.collect::<Vec<_>>().join(", ");
    match args.json {
        true => println!("{{\"runs\": {}, {list}}}", totals.runs),
        false => println!("{list}"),
    }
    let (runs, took) = (totals.runs, took.as_secs_f64());
    println!(
        "{seeds} seeds, {runs} runs, {:.0} simulated s in {took:.1} s ({:.1} runs/s)",
        totals.virtual_ms as f64 / 1000.0,
        runs as f64 / took,
    );
}
