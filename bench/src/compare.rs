//! Apache's server and ours on the same machine in the same run: for every pair both start in fresh
//! directories, are warmed up, and take each row in turn, A B A B.

use crate::cli::seconds;
use crate::failure::{Context, Failure};
use crate::floor::{self, Floor};
use crate::machine;
use crate::outcome::Warning;
use crate::plan::{OPEN_OUTSTANDING_MAX, Pace, Plan, Workload};
use crate::procfs;
use crate::ratios::{self, PAIRS_MIN, Row, Run};
use crate::run;
use crate::servers::{JVM_FLAGS, Kind, Server};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The script that fetches Apache's jars, below the repository.
const FETCH: &str = "bench/fetch-apache";
/// Where it puts them.
const APACHE_HOME: &str = "tests/.work/apache-3.9.5";

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
    /// How often each server takes each row.
    #[arg(long, default_value_t = PAIRS_MIN, value_name = "N")]
    pairs: usize,
    /// `all`, or names as in `set-64x1,connect-16`.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    rows: Vec<String>,
    /// What is measured of each row, s.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// What goes before it, s.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// How long each server is warmed up at its start, s: a JVM compiles as it goes.
    #[arg(long, default_value_t = 15.0)]
    prewarm: f64,
    /// Where the servers' directories are made (tests/.work/bench of the repository).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A directory with Apache's jars, or a binary distribution; fetched unless given.
    #[arg(long, value_name = "DIR")]
    apache_home: Option<PathBuf>,
    /// The Java that runs Apache's server.
    #[arg(long, default_value = "java", value_name = "PATH")]
    java: PathBuf,
    /// Where results go (bench/runs of the repository).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the generator free instead of keeping it on the last CPU.
    #[arg(long)]
    unpinned: bool,
    /// Results as one line of JSON in place of the table.
    #[arg(long)]
    json: bool,
}

/// A row of the comparison.
struct Task {
    name: &'static str,
    workload: Workload,
    connections: usize,
    pace: Pace,
}

const fn closed(name: &'static str, workload: Workload, connections: usize, window: usize) -> Task {
    Task {
        name,
        workload,
        connections,
        pace: Pace::Closed { window },
    }
}

/// All rows.
const TASKS: [Task; 14] = [
    closed("set-1x1", Workload::Set, 1, 1),
    closed("get-1x1", Workload::Get, 1, 1),
    closed("set-8x1", Workload::Set, 8, 1),
    closed("set-64x1", Workload::Set, 64, 1),
    closed("set-256x1", Workload::Set, 256, 1),
    closed("get-64x1", Workload::Get, 64, 1),
    closed("get-256x1", Workload::Get, 256, 1),
    closed("mix-64x1", Workload::Mix, 64, 1),
    closed("get-16x64", Workload::Get, 16, 64),
    closed("set-16x64", Workload::Set, 16, 64),
    Task {
        name: "set-64-open-2000",
        workload: Workload::Set,
        connections: 64,
        pace: Pace::Open {
            rate: 2000.0,
            outstanding_max: OPEN_OUTSTANDING_MAX,
        },
    },
    closed("connect-16", Workload::Connect, 16, 1),
    closed("watch-1000", Workload::Watch, 1_000, 1),
    closed("watch-10000", Workload::Watch, 10_000, 1),
];

/// What a server sees before anything is measured, and each one's share of that time.
const PREWARM: [(Workload, usize, usize, f64); 4] = [
    (Workload::Mix, 16, 64, 0.4),
    (Workload::Set, 64, 1, 0.3),
    (Workload::Get, 64, 1, 0.2),
    (Workload::Connect, 16, 1, 0.1),
];

impl Task {
    fn writes(&self) -> bool {
        self.workload.writes() || self.workload == Workload::Connect
    }
}

/// Arguments, resolved.
struct Comparison<'a> {
    args: &'a CompareArgs,
    tasks: Vec<&'static Task>,
    measured: Duration,
    warmup: Duration,
    prewarm: Duration,
    pin: Option<usize>,
    home: PathBuf,
    dir: PathBuf,
    out: PathBuf,
}

/// Compares, prints, and writes everything to a directory of its own.
pub fn main(args: &CompareArgs) -> Result<bool, Failure> {
    let comparison = Comparison::prepare(args)?;
    let mut facts = comparison.facts()?;
    let brief = Duration::from_secs(2);
    let sync = floor::syncing(&comparison.dir, 4096, brief)?;
    let echo = floor::echoing(brief, comparison.pin)?;
    facts["sync_4096"] = sync.json();
    facts["echo"] = echo.json();
    let mut rows: Vec<Row> = comparison
        .tasks
        .iter()
        .map(|task| Row {
            name: task.name.to_owned(),
            pairs: Vec::new(),
            stub: None,
            failures: Vec::new(),
        })
        .collect();
    for pair in 1..=args.pairs {
        comparison.pair(pair, &mut rows)?;
        // After each pair, so that an interrupted comparison is not lost.
        comparison.write(&facts, &rows, (&sync, &echo))?;
    }
    let warnings = comparison.warnings(&rows);
    if args.json {
        println!("{}", document(&facts, &rows, &warnings));
    } else {
        print!("{}", report(&rows, &warnings, (&sync, &echo)));
        println!("\nraw results: {}", comparison.out.display());
    }
    Ok(rows.iter().all(|row| row.failures.is_empty()))
}

impl<'a> Comparison<'a> {
    fn prepare(args: &'a CompareArgs) -> Result<Comparison<'a>, Failure> {
        let Against::Apache = args.against;
        if args.pairs == 0 {
            return Err(Failure::Usage("--pairs is at least 1".into()));
        }
        if !args.ours.is_file() {
            return Err(Failure::Usage(format!(
                "{} is no file; build it with `cargo build --release --bin ringkeeper`, or name \
                 another with --ours",
                args.ours.display()
            )));
        }
        let tasks = chosen(&args.rows)?;
        let root = repository();
        let below = |given: &Option<PathBuf>, path: &str, flag: &str| {
            given
                .clone()
                .or_else(|| root.as_ref().map(|root| root.join(path)))
                .ok_or_else(|| {
                    Failure::Usage(format!(
                        "not called from within the repository: give {flag}"
                    ))
                })
        };
        let home = match &args.apache_home {
            Some(home) => home.clone(),
            None => fetch(root.as_deref())?,
        };
        let dir = below(&args.dir, "tests/.work/bench", "--dir")?;
        fs::create_dir_all(&dir).context(|| format!("making {}", dir.display()))?;
        let runs = below(&args.out, "bench/runs", "--out")?;
        Ok(Comparison {
            args,
            tasks,
            measured: seconds(args.seconds, "--seconds")?,
            warmup: seconds(args.warmup, "--warmup")?,
            prewarm: seconds(args.prewarm, "--prewarm")?,
            pin: if args.unpinned {
                None
            } else {
                machine::default_pin()
            },
            home,
            dir,
            out: fresh(&runs),
        })
    }

    /// What the figures rest on.
    fn facts(&self) -> Result<Value, Failure> {
        let version = |program: &Path, flag: &str| {
            let output = Command::new(program)
                .arg(flag)
                .output()
                .context(|| format!("starting {}", program.display()))?;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            Ok(text.lines().next().unwrap_or_default().to_owned())
        };
        Ok(json!({
            "date": today(),
            "rkbench": env!("CARGO_PKG_VERSION"),
            "ours": version(&self.args.ours, "--version")?,
            "apache": "3.9.5",
            "java": version(&self.args.java, "-version")?,
            "jvm_flags": JVM_FLAGS,
            "zoo_cfg": crate::servers::zoo_cfg(Path::new("DATA"), 2181),
            "machine": machine::facts(&self.dir),
            "pairs": self.args.pairs,
            "seconds": self.args.seconds,
            "warmup": self.args.warmup,
            "prewarm": self.args.prewarm,
            "pinned": self.pin.is_some(),
        }))
    }

    /// One pair: both servers from their start to their end.
    fn pair(&self, pair: usize, rows: &mut [Row]) -> Result<(), Failure> {
        let scratch = self.dir.join(format!("pair-{}-{pair}", std::process::id()));
        let at = |name: &str| scratch.join(name);
        eprintln!("pair {pair}: starting both servers");
        let apache = Server::apache(&self.args.java, &self.home, &at("apache"))?;
        let ours = Server::ours(&self.args.ours, &at("ours"))?;
        let stub = (pair == 1).then(|| Server::stub(100)).transpose()?;
        for server in [&apache, &ours] {
            self.warm_up(server)?;
        }
        for (task, row) in self.tasks.iter().zip(rows) {
            let mut turn = |server: &Server| {
                eprint!("pair {pair} {} {}: ", task.name, server.kind.name());
                match self.take(task, server) {
                    Ok(run) => {
                        eprintln!(
                            "{:.0} op/s, p99 {:.0} µs",
                            run.outcome.rate, run.outcome.latency.p99
                        );
                        if !run.outcome.is_success() {
                            row.failures.extend(shortcomings(pair, server.kind, &run));
                        }
                        Some(run)
                    }
                    Err(e) => {
                        eprintln!("{e}");
                        row.failures
                            .push(format!("pair {pair}, {}: {e}", server.kind.name()));
                        None
                    }
                }
            };
            let (theirs, own) = (turn(&apache), turn(&ours));
            let ceiling = stub.as_ref().and_then(&mut turn);
            row.pairs.extend(Option::zip(theirs, own));
            row.stub = row.stub.take().or(ceiling);
        }
        eprintln!("pair {pair}: stopping");
        drop((apache, ours, stub));
        // After a failure they stay: the servers' output tells why.
        fs::remove_dir_all(&scratch).context(|| format!("removing {}", scratch.display()))
    }

    fn warm_up(&self, server: &Server) -> Result<(), Failure> {
        if self.prewarm.is_zero() {
            return Ok(());
        }
        eprintln!("{}: warming up", server.kind.name());
        for (workload, connections, window, share) in PREWARM {
            let mut plan = Plan::new(workload, server.address, connections, window);
            plan.warmup = Duration::ZERO;
            plan.measured = self.prewarm.mul_f64(share);
            plan.pin = self.pin;
            run::run(&plan)?;
        }
        Ok(())
    }

    fn take(&self, task: &Task, server: &Server) -> Result<Run, Failure> {
        let mut plan = Plan::new(task.workload, server.address, task.connections, 1);
        plan.pace = task.pace;
        plan.measured = self.measured;
        plan.warmup = self.warmup;
        plan.pin = self.pin;
        plan.pids = vec![server.pid()];
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
        Ok(Run {
            syncs_per_transaction: per_transaction(before.0, after.0),
            flushes_per_transaction: per_transaction(before.1, after.1).filter(|_| has_log),
            outcome,
        })
    }

    /// What applies to the whole of it, each kind once.
    fn warnings(&self, rows: &[Row]) -> Vec<String> {
        let mut warnings = Vec::new();
        if self
            .args
            .ours
            .components()
            .any(|c| c.as_os_str() == "debug")
        {
            warnings.push(
                "our server looks like a debug build: build it with --release and compare again"
                    .to_owned(),
            );
        }
        if self.args.pairs < PAIRS_MIN {
            warnings.push(format!(
                "{} pairs show little of the spread: take at least {PAIRS_MIN} with --pairs before \
                 a ratio is claimed",
                self.args.pairs
            ));
        }
        let mut total = 0;
        // The worst of each kind that is about the machine or the generator, with its number.
        let mut kinds: BTreeMap<&'static str, (usize, f64, &Warning)> = BTreeMap::new();
        for run in rows
            .iter()
            .flat_map(|row| &row.pairs)
            .flat_map(|(a, b)| [a, b])
        {
            total += 1;
            for warning in &run.outcome.warnings {
                let (kind, badness) = match warning {
                    Warning::DebugBuild => ("debug", 1.0),
                    Warning::ClientSaturated(share) => ("client", *share),
                    Warning::LateSends(us) => ("late", *us),
                    Warning::NoisyNeighbour(share) => ("noise", *share),
                    Warning::Stolen(share) => ("stolen", *share),
                    Warning::ShortTail(count) => ("tail", -(*count as f64)),
                    _ => continue,
                };
                let worst = kinds.entry(kind).or_insert((0, badness, warning));
                worst.0 += 1;
                if badness > worst.1 {
                    (worst.1, worst.2) = (badness, warning);
                }
            }
        }
        for (count, _, warning) in kinds.into_values() {
            warnings.push(format!("in {count} of {total} runs, at worst: {warning}"));
        }
        warnings
    }

    fn write(&self, facts: &Value, rows: &[Row], floors: (&Floor, &Floor)) -> Result<(), Failure> {
        let warnings = self.warnings(rows);
        let what = || format!("writing to {}", self.out.display());
        fs::create_dir_all(&self.out).context(what)?;
        let text = serde_json::to_string_pretty(&document(facts, rows, &warnings))
            .map_err(std::io::Error::from)
            .context(what)?;
        fs::write(self.out.join("compare.json"), text + "\n").context(what)?;
        fs::write(self.out.join("compare.md"), report(rows, &warnings, floors)).context(what)
    }
}

fn document(facts: &Value, rows: &[Row], warnings: &[String]) -> Value {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    json!({"facts": facts, "rows": rows, "warnings": warnings})
}

fn report(rows: &[Row], warnings: &[String], (sync, echo): (&Floor, &Floor)) -> String {
    let mut text = ratios::table(rows);
    text += &format!("\nwrite 4096 B + fdatasync: {}\n", sync.text());
    text += &format!("echo 100 B on loopback: {}\n", echo.text());
    for warning in warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}

/// A run that went through, but not all of it.
fn shortcomings(pair: usize, kind: Kind, run: &Run) -> Vec<String> {
    run.outcome
        .warnings
        .iter()
        .filter(|warning| warning.is_failure())
        .map(|warning| format!("pair {pair}, {}: {warning}", kind.name()))
        .collect()
}

/// The rows that were asked for, in our order.
fn chosen(names: &[String]) -> Result<Vec<&'static Task>, Failure> {
    let known = || TASKS.iter().map(|task| task.name);
    if let Some(unknown) = names
        .iter()
        .find(|name| *name != "all" && !known().any(|known| known == *name))
    {
        let known: Vec<&str> = known().collect();
        return Err(Failure::Usage(format!(
            "there is no row {unknown}; --rows takes all or some of {}",
            known.join(",")
        )));
    }
    let wanted = |task: &&Task| names.iter().any(|name| name == "all" || name == task.name);
    Ok(TASKS.iter().filter(wanted).collect())
}

/// The repository that we are in, or that this program was built in.
fn repository() -> Option<PathBuf> {
    let upwards = |from: PathBuf| {
        from.ancestors()
            .find(|dir| dir.join(FETCH).is_file())
            .map(Path::to_owned)
    };
    [std::env::current_dir(), std::env::current_exe()]
        .into_iter()
        .filter_map(Result::ok)
        .find_map(upwards)
}

/// Lets the script fetch Apache's jars, or see that they are there.
fn fetch(root: Option<&Path>) -> Result<PathBuf, Failure> {
    let root = root.ok_or_else(|| {
        Failure::Usage("not called from within the repository: give --apache-home".into())
    })?;
    let home = root.join(APACHE_HOME);
    let status = Command::new("python3")
        .arg(root.join(FETCH))
        .arg(&home)
        .stdout(std::process::Stdio::null())
        .status()
        .context(|| format!("starting {FETCH}"))?;
    match status.success() {
        true => Ok(home),
        false => Err(Failure::Usage(format!(
            "{FETCH} has failed, as it says above; or give --apache-home"
        ))),
    }
}

/// A directory for results that does not exist yet: the day, and a name that says nothing of whose
/// machine it is.
fn fresh(runs: &Path) -> PathBuf {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = machine::cpus().len();
    let name = format!("{}-{cpus}cpu-linux{}", today(), machine::version(&release));
    let mut dir = runs.join(&name);
    let mut number = 1;
    while dir.exists() {
        number += 1;
        dir = runs.join(format!("{name}-{number}"));
    }
    dir
}

/// The day in UTC, as 2026-01-31.
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let (year, month, day) = civil(since.map_or(0, |since| since.as_secs() / 86_400));
    format!("{year}-{month:02}-{day:02}")
}

/// The date that lies so many days behind 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name() {
        let names = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
        assert_eq!(chosen(&names("all")).unwrap().len(), TASKS.len());
        let two = chosen(&names("connect-16,set-1x1")).unwrap();
        assert_eq!(
            two.iter().map(|t| t.name).collect::<Vec<_>>(),
            ["set-1x1", "connect-16"]
        );
        assert!(chosen(&names("set-2x2")).is_err());
    }

    #[test]
    fn days_are_dates() {
        let rows = [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_453, (2025, 12, 31)),
        ];
        for (days, date) in rows {
            assert_eq!(civil(days), date, "{days}");
        }
    }

    #[test]
    fn every_row_is_a_plan_that_makes_sense() {
        for task in &TASKS {
            let mut plan = Plan::new(
                task.workload,
                "127.0.0.1:1".parse().unwrap(),
                task.connections,
                1,
            );
            plan.pace = task.pace;
            plan.check().unwrap();
        }
        let shares: f64 = PREWARM.iter().map(|row| row.3).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }
}
