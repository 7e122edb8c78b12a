//! Apache's server and ours on the same machine in the same run, beside the parent commit's, the stubs
//! and the floors: for every pair all start in fresh directories, are warmed up, and take each row in
//! turn.
//!
//! Every turn is appended to a journal as it ends; a comparison that was interrupted goes on with the
//! first row of the first pair that not everybody has taken.

use crate::failure::Failure;
use crate::floor::{self, Floor, PAGE_BYTES};
use crate::goals::{self, FLOOR_ECHO, FLOOR_SYNC, FLOORS, Reference};
use crate::journal::{Journal, Note, Record, Records, named};
use crate::measurement::{self, Measurement, Output, Turns};
use crate::outcome::{OTHERS_MAX, Warning};
use crate::ratios::{self, Metric, PAIRS_MIN, Spread};
use crate::rows::{self, Task};
use crate::servers::{self, Server};
use crate::subjects::{APACHE, ApacheArgs};
use crate::{machine, plan, procfs, repository, run, store};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whom we are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Against {
    /// Apache ZooKeeper 3.9.5.
    Apache,
}

/// The comparison's arguments.
#[derive(Args)]
pub struct CompareArgs {
    /// The other server.
    #[arg(long, default_value = "apache")]
    against: Against,
    /// Our server's binary.
    #[arg(long, value_name = "PATH", default_value = "target/release/ringkeeper")]
    ours: PathBuf,
    /// The binary of the parent commit, to be no worse than.
    #[arg(long, value_name = "PATH")]
    parent: Option<PathBuf>,
    /// Shards of ours and the parent (as they choose).
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// How often each server takes each row.
    #[arg(long, default_value_t = PAIRS_MIN, value_name = "N")]
    pairs: usize,
    /// `all`, or names as in `set-64x1,connect-16`.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    rows: Vec<String>,
    /// What is measured of each row, s.
    #[arg(long, default_value = "5", value_parser = plan::seconds)]
    seconds: Duration,
    /// What goes before it, s.
    #[arg(long, default_value = "1", value_parser = plan::seconds)]
    warmup: Duration,
    /// How long each server is warmed up at its start, s: a JVM compiles as it goes.
    #[arg(long, default_value = "15", value_parser = plan::seconds)]
    prewarm: Duration,
    #[command(flatten)]
    apache: ApacheArgs,
    /// Leave the generator free instead of keeping it on the last CPU.
    #[arg(long)]
    unpinned: bool,
    #[command(flatten)]
    output: Output,
}

/// Arguments, resolved.
struct Comparison<'a> {
    args: &'a CompareArgs,
    tasks: Vec<&'static Task>,
    pin: Option<usize>,
    home: PathBuf,
    dir: PathBuf,
}

/// Compares, prints, and writes everything to a directory of its own.
pub fn main(args: &CompareArgs) -> Result<bool, Failure> {
    measurement::take(&Comparison::prepare(args)?, args.pairs, &args.output)
}

impl<'a> Comparison<'a> {
    fn prepare(args: &'a CompareArgs) -> Result<Comparison<'a>, Failure> {
        let Against::Apache = args.against;
        if args.pairs == 0 {
            return Err(Failure::Usage("--pairs is at least 1".into()));
        }
        Ok(Comparison {
            args,
            tasks: rows::chosen(&args.rows)?,
            pin: machine::default_pin().filter(|_| !args.unpinned),
            home: args.apache.home()?,
            dir: repository::scratch(args.output.dir.as_deref())?,
        })
    }

    /// Who takes a row in a pair. The stubs set a ceiling for every row in the first pair; rows with a goal
    /// that names one of them need it in every pair.
    fn takers(&self, task: &Task, pair: usize) -> Vec<&'static str> {
        let stub = |reference| pair == 1 || goals::needs(task.name, reference);
        let mut takers = vec![APACHE, "ours"];
        if self.args.parent.is_some() {
            takers.push("parent");
        }
        if stub(Reference::Stub) {
            takers.push("stub");
        }
        if task.writes() && stub(Reference::StubSync) {
            takers.push("stub-sync");
        }
        measurement::in_order(pair, takers)
    }

    /// Rows of a pair that not everybody has taken yet.
    fn open(&self, journal: &Journal, pair: usize) -> Vec<&'static Task> {
        let open = |task: &&&Task| !journal.has(pair, task.name, &self.takers(task, pair));
        self.tasks.iter().filter(open).copied().collect()
    }

    fn start(&self, scratch: &Path) -> Result<Vec<Server>, Failure> {
        let args = self.args;
        let at = |name: &str| scratch.join(name);
        let shards = args.shards.map(|shards| format!("shards={shards}\n"));
        let shards = shards.unwrap_or_default();
        let ours = |name, binary| Server::begin_ours(name, binary, &shards, &at(name))?.serving();
        let apache = Server::begin_apache(&args.apache.java, &self.home, &at(APACHE))?;
        let mut servers = vec![apache.serving()?, ours("ours", &args.ours)?];
        if let Some(parent) = &args.parent {
            servers.push(ours("parent", parent)?);
        }
        for server in &servers {
            rows::warm_up(server, args.prewarm, self.pin)?;
        }
        servers.push(Server::stub(100, None)?);
        servers.push(Server::stub(100, Some(&at("stub-sync")))?);
        Ok(servers)
    }

    fn floors(&self, pair: usize, turns: &mut Turns) -> Result<(), Failure> {
        let measured = self.args.seconds;
        let told = |name, floor: Floor| (floor.text(), [floor_record(pair, name, &floor)]);
        turns.keep(
            &format!("pair {pair} write {PAGE_BYTES} B + fdatasync"),
            || {
                let sync = floor::syncing(&self.dir, PAGE_BYTES, measured)?;
                Ok(told(FLOOR_SYNC, sync))
            },
        )?;
        turns.keep(&format!("pair {pair} echo on loopback"), || {
            Ok(told(FLOOR_ECHO, floor::echoing(measured, self.pin)?))
        })
    }

    fn take(&self, pair: usize, task: &Task, server: &Server) -> Result<Record, Failure> {
        let mut plan = task.plan(server);
        plan.measured = self.args.seconds;
        plan.warmup = self.args.warmup;
        plan.pin = self.pin;
        procfs::forget_peak(server.pid());
        let counts = || (server.syncs(), procfs::device_flushes(&self.dir));
        let before = counts();
        let outcome = run::run(&plan)?;
        let after = counts();
        let per_transaction = |before: Option<u64>, after: Option<u64>| {
            let (before, after) = Option::zip(before, after).filter(|_| task.writes())?;
            let count = after.saturating_sub(before) as f64;
            Some(count / outcome.transactions.max(1) as f64)
        };
        let has_log = before.0.is_some();
        let syncs = per_transaction(before.0, after.0);
        let flushes = per_transaction(before.1, after.1).filter(|_| has_log);
        let figures = Metric::figures(&outcome, syncs, flushes);
        let place = (pair, task.name, server.name.as_str());
        Ok(Record::of(place, &outcome, figures))
    }

    /// Whether a path says that what it leads to was built for debugging.
    fn debugs(&self) -> bool {
        let mut parts = self.args.ours.components();
        parts.any(|part| part.as_os_str() == "debug")
    }
}

/// The rows that were run, without the floors.
fn rows_of(records: &Records) -> Vec<&str> {
    let rows = records.rows().into_iter();
    rows.filter(|row| *row != FLOORS).collect()
}

/// A turn in a few words.
fn told(record: &Record) -> String {
    let of = |metric: Metric| record.told(metric.key());
    format!(
        "{} op/s, p50 {} µs, p99 {} µs, {} µs CPU/op",
        of(Metric::Rate),
        of(Metric::P50),
        of(Metric::P99),
        of(Metric::Cpu)
    )
}

fn floor_record(pair: usize, name: &str, floor: &Floor) -> Record {
    let figures = [
        (Metric::Rate, floor.rate),
        (Metric::P50, floor.latency.p50),
        (Metric::P99, floor.latency.p99),
        (Metric::P999, floor.latency.p999),
    ];
    let figures = named(figures.map(|(metric, value)| (metric.key(), value)));
    let noise = (floor.others > OTHERS_MAX).then_some(Warning::NoisyNeighbour(floor.others));
    Record {
        notes: noise.iter().filter_map(Note::of).collect(),
        raw: floor.json(),
        ..Record::new((pair, FLOORS, name), figures)
    }
}

impl Measurement for Comparison<'_> {
    const NAME: &'static str = "compare";
    const PREFIX: &'static str = "";

    fn facts(&self) -> Result<Value, Failure> {
        let args = self.args;
        let parent = args.parent.as_deref().map(servers::identity).transpose()?;
        let own = json!({
            "parent": parent,
            "shards": args.shards,
            "seconds": args.seconds.as_secs_f64(),
            "warmup": args.warmup.as_secs_f64(),
            "prewarm": args.prewarm.as_secs_f64(),
            "pinned": self.pin.is_some(),
        });
        measurement::facts(&args.ours, &self.dir, [args.apache.facts(true)?, own])
    }

    /// The floors' turns are among them.
    fn left(&self, journal: &Journal, pair: usize) -> usize {
        let open = self.open(journal, pair);
        let servers: usize = open.iter().map(|task| self.takers(task, pair).len()).sum();
        servers + if open.is_empty() { 0 } else { 2 }
    }

    fn pair(&self, pair: usize, turns: &mut Turns) -> Result<(), Failure> {
        let open = self.open(&turns.journal, pair);
        if open.is_empty() {
            return Ok(());
        }
        let scratch = self.dir.join(format!("pair-{}-{pair}", std::process::id()));
        eprintln!("pair {pair}: starting the servers");
        let servers = self.start(&scratch)?;
        self.floors(pair, turns)?;
        for task in open {
            for name in self.takers(task, pair) {
                if let Some(server) = servers.iter().find(|server| server.name == name) {
                    let turn = || self.take(pair, task, server);
                    turns.take((pair, task.name, name), turn, told)?;
                }
            }
        }
        eprintln!("pair {pair}: stopping");
        drop(servers);
        // After a failure they stay: the servers' output tells why.
        store::remove(&scratch)
    }

    fn tables(&self, records: &Records) -> String {
        let rows = &rows_of(records);
        let mut text = String::from("## Goals\n\n");
        text += &goals::table(&goals::judge(records, rows));
        if self.args.parent.is_some() {
            text += "\n## Beside the parent commit\n\n";
            text += &match ratios::behind(records, rows, "parent").as_slice() {
                [] if records.pairs() < PAIRS_MIN => "No verdict: too few pairs.\n".to_owned(),
                [] => "No row is worse than the parent's beyond the spread.\n".to_owned(),
                worse => format!("WORSE in every pair:\n\n- {}\n", worse.join("\n- ")),
            };
            text += &format!("\n{}", ratios::table(records, rows, "parent"));
        }
        text += "\n## Beside Apache's server\n\n";
        text += &ratios::table(records, rows, APACHE);
        text += &format!("\n## Floors\n\n{}", floors(records));
        text
    }

    fn failures(&self, records: &Records) -> Vec<String> {
        let of_row = |row: &str| {
            let failures = records.failures(row).into_iter();
            let told = failures.map(|why| format!("{row}, {why}"));
            told.collect::<Vec<_>>()
        };
        rows_of(records).into_iter().flat_map(of_row).collect()
    }

    fn warnings(&self, records: &Records) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.debugs() {
            warnings.push(
                "our server looks like a debug build: build it with --release and compare again"
                    .to_owned(),
            );
        }
        if records.pairs() < PAIRS_MIN {
            warnings.push(format!(
                "{} pairs show little of the spread: take at least {PAIRS_MIN} with --pairs before \
                 a ratio is claimed",
                records.pairs()
            ));
        }
        warnings
    }

    fn json(&self, records: &Records) -> Value {
        let rows = &rows_of(records);
        let parent = self.args.parent.as_ref().map(|_| {
            json!({
                "behind": ratios::behind(records, rows, "parent"),
                "rows": ratios::json(records, rows, "parent"),
            })
        });
        let warnings = [self.warnings(records), records.warnings()].concat();
        json!({
            "goals": goals::json(&goals::judge(records, rows)),
            "parent": parent,
            "rows": ratios::json(records, rows, APACHE),
            "failures": self.failures(records),
            "warnings": warnings,
        })
    }
}

/// The floors over all pairs.
fn floors(records: &Records) -> String {
    let line = |what: &str, server| {
        let spread = |metric: Metric| {
            let values = records.values(FLOORS, server, metric.key());
            Spread::told(Spread::of(values))
        };
        let (p50, p99) = (spread(Metric::P50), spread(Metric::P99));
        format!("- {what}: p50 {p50} µs, p99 {p99} µs\n")
    };
    let sync = format!("write {PAGE_BYTES} B + fdatasync");
    line(&sync, FLOOR_SYNC) + &line("echo 100 B on loopback", FLOOR_ECHO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        compare: CompareArgs,
    }

    fn comparison(args: &CompareArgs) -> Comparison<'_> {
        Comparison {
            args,
            tasks: rows::chosen(&args.rows).unwrap(),
            pin: None,
            home: PathBuf::new(),
            dir: PathBuf::new(),
        }
    }

    #[test]
    fn pairs_alternate_and_references_are_taken_where_goals_need_them() {
        let line = Line::parse_from(["compare", "--parent", "old"]);
        let comparison = comparison(&line.compare);
        let takers = |name: &str, pair| {
            let names = [name.to_owned()];
            comparison.takers(rows::chosen(&names).unwrap()[0], pair)
        };
        let (first, second) = (takers("set-8x1", 1), takers("set-8x1", 2));
        assert_eq!(first, ["apache", "ours", "parent", "stub", "stub-sync"]);
        assert_eq!(second, ["parent", "ours", "apache"]);
        assert_eq!(takers("get-256x1", 3), ["apache", "ours", "parent", "stub"]);
        assert_eq!(
            takers("mix-64x1", 2),
            ["stub-sync", "parent", "ours", "apache"]
        );
    }

    #[test]
    fn a_resumed_comparison_takes_only_what_is_missing() {
        let line = Line::parse_from(["compare", "--pairs", "2", "--rows", "get-1x1,get-64x1"]);
        let comparison = comparison(&line.compare);
        let dir = std::env::temp_dir().join(format!("rkbench-compare-{}", std::process::id()));
        let mut journal = Journal::create(&dir, json!({})).unwrap();
        let left = |journal: &Journal| [1, 2].map(|pair| comparison.left(journal, pair));
        // Two rows: three turns each in the first pair, two in the second; the floors twice a pair.
        assert_eq!(left(&journal), [6 + 2, 4 + 2]);
        let mut take = |pair, row: &str, server: &str| {
            let record = Record::failed(pair, row, server, String::new());
            journal.append(record).unwrap();
        };
        for (row, server) in [
            ("get-1x1", "apache"),
            ("get-1x1", "ours"),
            ("get-1x1", "stub"),
        ] {
            take(1, row, server);
        }
        take(1, "get-64x1", "apache");
        let open: Vec<&str> = comparison
            .open(&journal, 1)
            .iter()
            .map(|t| t.name)
            .collect();
        assert_eq!(open, ["get-64x1"], "the row that not everybody has taken");
        assert_eq!(left(&journal), [3 + 2, 4 + 2]);
        store::remove(&dir).unwrap();
    }
}
