//! Apache's server and ours on the same machine in the same run, beside the parent commit's, the stubs
//! and the floors: for every pair all start in fresh directories, are warmed up, and take each row in
//! turn. Or ours and the parent commit's alone, beside the floors: then each turn is a server's first, in a
//! fresh directory, and the other is not there meanwhile.
//!
//! Every turn is appended to a journal as it ends; a comparison that was interrupted goes on with the
//! first row of the first pair that not everybody has taken.

use crate::failure::Failure;
use crate::floor::{self, Floor, PAGE_BYTES};
use crate::goals::{self, FLOOR_ECHO, FLOOR_SYNC, FLOORS, Reference};
use crate::journal::{Journal, Note, Record, Records, named};
use crate::measurement::{self, Measurement, Output, Turns};
use crate::outcome::{OTHERS_MAX, Warning};
use crate::plan::DATA_BYTES;
use crate::ratios::{self, Metric, PAIRS_MIN, Spread};
use crate::rows::{self, Task, group};
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
    /// The binary of `--parent`, and nobody else.
    Parent,
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
    /// The binary of the parent commit, to be no worse than; with `--against parent` it must be given.
    #[arg(long, value_name = "PATH")]
    parent: Option<PathBuf>,
    /// Shards of ours and the parent (as they choose).
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// How often each server takes each row.
    #[arg(long, default_value_t = PAIRS_MIN, value_name = "N")]
    pairs: usize,
    /// `usual`, `writes`, `all`, or names as in `set-64x1,connect-16` (usual; against the parent writes).
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    rows: Vec<String>,
    /// What is measured of each row, s.
    #[arg(long, default_value = "5", value_parser = plan::seconds)]
    seconds: Duration,
    /// What goes before it, s.
    #[arg(long, default_value = "1", value_parser = plan::seconds)]
    warmup: Duration,
    /// How long each server is warmed up at its start, s: a JVM compiles as it goes (15; against the parent
    /// 0, because each turn has a server of its own).
    #[arg(long, value_parser = plan::seconds)]
    prewarm: Option<Duration>,
    #[command(flatten)]
    apache: ApacheArgs,
    /// Leave the generator free instead of keeping it on the last CPU.
    #[arg(long)]
    unpinned: bool,
    #[command(flatten)]
    output: Output,
}

/// What our server is called.
const OURS: &str = "ours";
/// What the parent commit's server is called.
const PARENT: &str = "parent";
/// What the stubs are called.
const STUB: &str = "stub";
const STUB_SYNC: &str = "stub-sync";
/// How long servers are warmed up where one of them is a JVM, unless told.
const PREWARM: Duration = Duration::from_secs(15);

impl CompareArgs {
    fn check(&self) -> Result<(), Failure> {
        let no = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
        match (self.against, &self.parent) {
            _ if self.pairs == 0 => no("--pairs is at least 1"),
            (Against::Parent, None) => no("--against parent takes its binary: give --parent"),
            _ => Ok(()),
        }
    }
}

/// Arguments, resolved.
struct Comparison<'a> {
    args: &'a CompareArgs,
    tasks: Vec<&'static Task>,
    pin: Option<usize>,
    prewarm: Duration,
    /// Apache's jars; `None` against the parent.
    home: Option<PathBuf>,
    dir: PathBuf,
}

/// Compares, prints, and writes everything to a directory of its own.
pub fn main(args: &CompareArgs) -> Result<bool, Failure> {
    measurement::take(&Comparison::prepare(args)?, args.pairs, &args.output)
}

impl<'a> Comparison<'a> {
    fn prepare(args: &'a CompareArgs) -> Result<Comparison<'a>, Failure> {
        args.check()?;
        let home = match args.against {
            Against::Apache => Some(args.apache.home()?),
            Against::Parent => None,
        };
        let dir = repository::scratch(args.output.dir.as_deref())?;
        Comparison::new(args, home, dir)
    }

    /// The same with the jars of `home`, in a directory.
    fn new(
        args: &'a CompareArgs,
        home: Option<PathBuf>,
        dir: PathBuf,
    ) -> Result<Comparison<'a>, Failure> {
        let (group, prewarm) = match args.against {
            Against::Apache => (group::USUAL, PREWARM),
            Against::Parent => (group::WRITES, Duration::ZERO),
        };
        let tasks = match args.rows.as_slice() {
            [] => rows::chosen(&[group.to_owned()]),
            names => rows::chosen(names),
        };
        Ok(Comparison {
            args,
            tasks: tasks?,
            pin: machine::default_pin().filter(|_| !args.unpinned),
            prewarm: args.prewarm.unwrap_or(prewarm),
            home,
            dir,
        })
    }

    /// Who takes a row in a pair. The stubs set a ceiling for every usual row in the first pair; rows with a
    /// goal that names one of them need it in every pair. Against the parent there is nobody else.
    fn takers(&self, task: &Task, pair: usize) -> Vec<&'static str> {
        if self.args.against == Against::Parent {
            return measurement::in_order(pair, vec![OURS, PARENT]);
        }
        let is_first = pair == 1 && task.is_usual();
        let stub = |reference| is_first || goals::needs(task.name, reference);
        let mut takers = vec![APACHE, OURS];
        if self.args.parent.is_some() {
            takers.push(PARENT);
        }
        if stub(Reference::Stub) {
            takers.push(STUB);
        }
        if task.writes() && stub(Reference::StubSync) {
            takers.push(STUB_SYNC);
        }
        measurement::in_order(pair, takers)
    }

    /// Rows of a pair that not everybody has taken yet.
    fn open(&self, journal: &Journal, pair: usize) -> Vec<&'static Task> {
        let open = |task: &&&Task| !journal.has(pair, task.name, &self.takers(task, pair));
        self.tasks.iter().filter(open).copied().collect()
    }

    /// Starts a server by its name in a directory below, and waits until it serves; the stubs, which sync
    /// there or nowhere, do so at once.
    fn start(&self, name: &str, scratch: &Path) -> Result<Server, Failure> {
        let args = self.args;
        let dir = scratch.join(name);
        let shards = args.shards.map(|shards| format!("shards={shards}\n"));
        let ours = |binary| Server::begin_ours(name, binary, &shards.unwrap_or_default(), &dir);
        match (name, &self.home, &args.parent) {
            (STUB, ..) => Server::stub(DATA_BYTES, None),
            (STUB_SYNC, ..) => Server::stub(DATA_BYTES, Some(&dir)),
            (APACHE, Some(home), _) => {
                Server::begin_apache(&args.apache.java, home, &dir)?.serving()
            }
            (PARENT, _, Some(parent)) => ours(parent)?.serving(),
            (OURS, ..) => ours(&args.ours)?.serving(),
            _ => Err(Failure::Usage(format!("there is no server {name} here"))),
        }
    }

    /// Starts all servers that rows are taken with beside Apache's, and warms them up.
    fn start_all(&self, scratch: &Path) -> Result<Vec<Server>, Failure> {
        let parent = self.args.parent.as_ref().map(|_| PARENT);
        let names = [APACHE, OURS].into_iter().chain(parent);
        let servers = names.map(|name| self.start(name, scratch));
        let mut servers: Vec<Server> = servers.collect::<Result<_, _>>()?;
        for server in &servers {
            rows::warm_up(server, self.prewarm, self.pin)?;
        }
        for name in [STUB, STUB_SYNC] {
            servers.push(self.start(name, scratch)?);
        }
        Ok(servers)
    }

    /// Takes rows with servers that live as long as the pair does.
    fn rows_with_lasting_servers(
        &self,
        (pair, scratch): (usize, &Path),
        open: &[&'static Task],
        turns: &mut Turns,
    ) -> Result<(), Failure> {
        eprintln!("pair {pair}: starting the servers");
        let servers = self.start_all(scratch)?;
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
        Ok(())
    }

    /// Takes rows with a server for each turn that is alone on the machine, and finds nothing in its
    /// directory: neither inherits what the rows before have left in tree, log and heap.
    fn rows_with_fresh_servers(
        &self,
        (pair, scratch): (usize, &Path),
        open: &[&'static Task],
        turns: &mut Turns,
    ) -> Result<(), Failure> {
        self.floors(pair, turns)?;
        for task in open {
            for name in self.takers(task, pair) {
                let turn = || {
                    store::remove(scratch)?;
                    let server = self.start(name, scratch)?;
                    rows::warm_up(&server, self.prewarm, self.pin)?;
                    let record = self.take(pair, task, &server)?;
                    server.stop();
                    Ok(record)
                };
                turns.take((pair, task.name, name), turn, told)?;
            }
        }
        Ok(())
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
            "prewarm": self.prewarm.as_secs_f64(),
            "pinned": self.pin.is_some(),
        });
        let apache = match args.against {
            Against::Apache => args.apache.facts(true)?,
            Against::Parent => json!({}),
        };
        measurement::facts(&args.ours, &self.dir, [apache, own])
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
        let place = (pair, scratch.as_path());
        match self.args.against {
            Against::Apache => self.rows_with_lasting_servers(place, &open, turns)?,
            Against::Parent => self.rows_with_fresh_servers(place, &open, turns)?,
        }
        // After a failure they stay: the servers' output tells why.
        store::remove(&scratch)
    }

    fn tables(&self, records: &Records) -> String {
        let rows = &rows_of(records);
        let mut parts = Vec::new();
        let is_beside_apache = self.args.against == Against::Apache;
        if is_beside_apache {
            let goals = goals::table(&goals::judge(records, rows));
            parts.push(format!("## Goals\n\n{goals}"));
        }
        if self.args.parent.is_some() {
            parts.push(beside_the_parent(records, rows));
        }
        if is_beside_apache {
            let table = ratios::table(records, rows, APACHE);
            parts.push(format!("## Beside Apache's server\n\n{table}"));
        }
        parts.push(format!("## Floors\n\n{}", floors(records)));
        parts.join("\n")
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
                "behind": ratios::behind(records, rows, PARENT),
                "rows": ratios::json(records, rows, PARENT),
            })
        });
        let warnings = [self.warnings(records), records.warnings()].concat();
        let mut document = json!({"parent": parent});
        if self.args.against == Against::Apache {
            document["goals"] = goals::json(&goals::judge(records, rows));
            document["rows"] = ratios::json(records, rows, APACHE);
        }
        document["failures"] = json!(self.failures(records));
        document["warnings"] = json!(warnings);
        document
    }
}

/// What is worse than the parent's, a line for each row, and all figures.
fn beside_the_parent(records: &Records, rows: &[&str]) -> String {
    let behind = match ratios::behind(records, rows, PARENT).as_slice() {
        [] if records.pairs() < PAIRS_MIN => "No verdict: too few pairs.\n".to_owned(),
        [] => "No row is worse than the parent's beyond the spread.\n".to_owned(),
        worse => format!("WORSE in every pair:\n\n- {}\n", worse.join("\n- ")),
    };
    let summary = ratios::summary(records, rows, PARENT);
    let table = ratios::table(records, rows, PARENT);
    format!(
        "## Beside the parent commit\n\n{behind}\nOurs / parent, median (lowest–highest):\n\n{summary}\n{table}"
    )
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
        Comparison::new(args, None, PathBuf::new()).unwrap()
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
    fn against_the_parent_it_and_ours_take_the_writes_in_turn_and_nobody_else() {
        let line = Line::parse_from(["compare", "--against", "parent", "--parent", "old"]);
        let comparison = comparison(&line.compare);
        let rows: Vec<&str> = comparison.tasks.iter().map(|task| task.name).collect();
        assert_eq!(
            rows,
            [
                "set-64x1",
                "set-16x64",
                "multi-64x1",
                "set-1k-64x1",
                "create-64x1"
            ]
        );
        for task in &comparison.tasks {
            assert_eq!(comparison.takers(task, 1), ["ours", "parent"]);
            assert_eq!(comparison.takers(task, 2), ["parent", "ours"]);
        }
        assert_eq!(comparison.prewarm, Duration::ZERO);
        let text = comparison.tables(&Records::default());
        assert!(text.starts_with("## Beside the parent commit") && !text.contains("Apache"));
        let document = comparison.json(&Records::default());
        assert!(document.get("goals").is_none() && document["parent"].is_object());
    }

    #[test]
    fn against_the_parent_takes_a_binary_of_it() {
        let check = |line: &[&str]| Line::parse_from(line).compare.check().is_ok();
        assert!(check(&["compare"]));
        assert!(!check(&["compare", "--against", "parent"]));
        assert!(check(&[
            "compare",
            "--against",
            "parent",
            "--parent",
            "old"
        ]));
        assert!(!check(&["compare", "--pairs", "0"]));
    }

    #[test]
    fn writes_that_are_not_usual_are_taken_when_they_are_named_and_not_by_the_stubs() {
        let usual = Line::parse_from(["compare"]);
        let usual = comparison(&usual.compare);
        assert_eq!((usual.tasks.len(), usual.prewarm), (14, PREWARM));
        let line = Line::parse_from(["compare", "--rows", "multi-64x1", "--prewarm", "2"]);
        let named = comparison(&line.compare);
        assert_eq!(named.prewarm, Duration::from_secs(2));
        assert_eq!(named.takers(named.tasks[0], 1), ["apache", "ours"]);
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
