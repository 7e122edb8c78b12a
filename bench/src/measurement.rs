//! What all measurements in pairs have in common: each turn is kept in a journal as it ends, reports are
//! written after each pair, and a measurement that was interrupted goes on with the turns that are missing.

use crate::failure::Failure;
use crate::journal::{Journal, Place, Record, Records};
use crate::progress::Progress;
use crate::{machine, repository, servers};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where a measurement works, and what becomes of its results.
#[derive(Args)]
pub struct Output {
    /// Where the servers' directories are made (tests/.work/bench of the repository).
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where results go, in a directory of their own (bench/runs of the repository).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The directory of an interrupted measurement, to go on with it.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    resume: Option<PathBuf>,
    /// Results as one line of JSON in place of the tables.
    #[arg(long)]
    json: bool,
}

/// A measurement in pairs.
pub trait Measurement {
    /// What the reports are called.
    const NAME: &'static str;
    /// What the names of directories with results begin with.
    const PREFIX: &'static str;

    /// What the figures rest on.
    fn facts(&self) -> Result<Value, Failure>;

    /// How many turns of a pair have not been taken yet.
    fn left(&self, journal: &Journal, pair: usize) -> usize;

    /// Takes the turns of a pair that have not been taken yet.
    fn pair(&self, pair: usize, turns: &mut Turns) -> Result<(), Failure>;

    /// The tables in Markdown.
    fn tables(&self, records: &Records) -> String;

    /// What was wrong with the runs, in sentences.
    fn failures(&self, records: &Records) -> Vec<String>;

    /// What should be known of this measurement before a figure is believed, besides the notes of the runs.
    fn warnings(&self, records: &Records) -> Vec<String>;

    /// What the report for programs holds besides facts and number of pairs: an object.
    fn json(&self, records: &Records) -> Value;
}

/// Measures, prints, and writes everything to a directory of its own; whether there was no failure.
pub fn take<M: Measurement>(
    measurement: &M,
    pairs: usize,
    output: &Output,
) -> Result<bool, Failure> {
    let facts = measurement.facts()?;
    let journal = match &output.resume {
        Some(dir) => Journal::resume(dir, &facts)?,
        None => {
            let dir = repository::fresh_results(output.out.as_deref(), M::PREFIX)?;
            Journal::create(&dir, facts)?
        }
    };
    eprintln!("results: {}", journal.dir.display());
    let left = (1..=pairs).map(|pair| measurement.left(&journal, pair));
    let progress = Progress::new(left.sum());
    let mut turns = Turns { journal, progress };
    for pair in 1..=pairs {
        measurement.pair(pair, &mut turns)?;
        let journal = &turns.journal;
        let text = text(measurement, &journal.records);
        journal.report(M::NAME, &text, &document(measurement, journal))?;
    }
    let journal = turns.journal;
    if output.json {
        println!("{}", document(measurement, &journal));
    } else {
        print!("{}", text(measurement, &journal.records));
        println!("\nraw results: {}", journal.dir.display());
    }
    Ok(measurement.failures(&journal.records).is_empty())
}

/// The report for people.
fn text<M: Measurement>(measurement: &M, records: &Records) -> String {
    let mut text = measurement.tables(records);
    for failure in measurement.failures(records) {
        text += &format!("\nfailed: {failure}\n");
    }
    let warnings = measurement.warnings(records);
    for warning in warnings.into_iter().chain(records.warnings()) {
        text += &format!("\nwarning: {warning}\n");
    }
    text
}

/// The report for programs.
fn document<M: Measurement>(measurement: &M, journal: &Journal) -> Value {
    let records = &journal.records;
    let head = json!({"facts": journal.facts, "pairs": records.pairs()});
    joined([head, measurement.json(records)])
}

/// The entries of all objects in one.
fn joined(objects: impl IntoIterator<Item = Value>) -> Value {
    let entries = objects.into_iter().filter_map(|object| match object {
        Value::Object(entries) => Some(entries),
        _ => None,
    });
    Value::Object(entries.flatten().collect())
}

/// What the figures of every measurement rest on: our binary, the servers' configuration and the machine,
/// with the entries of `own` objects. `dir` is where data goes.
pub fn facts<const N: usize>(ours: &Path, dir: &Path, own: [Value; N]) -> Result<Value, Failure> {
    let common = json!({
        "date": repository::today(),
        "rkbench": env!("CARGO_PKG_VERSION"),
        "ours": servers::identity(ours)?,
        "zoo_cfg": servers::zoo_cfg(Path::new("DATA"), 2181),
        "machine": machine::facts(dir),
    });
    Ok(joined([common].into_iter().chain(own)))
}

/// The turns of a measurement, as they are taken.
pub struct Turns {
    /// What they have brought.
    pub journal: Journal,
    progress: Progress,
}

impl Turns {
    /// Takes a turn of one server. A turn that fails is kept as a record of that; `told` says in a few words
    /// what came of another one.
    pub fn take(
        &mut self,
        (pair, row, server): Place,
        turn: impl FnOnce() -> Result<Record, Failure>,
        told: impl FnOnce(&Record) -> String,
    ) -> Result<(), Failure> {
        self.keep(&format!("pair {pair} {row} {server}"), || {
            let failed = |e: Failure| Record::failed(pair, row, server, e.to_string());
            let record = turn().unwrap_or_else(failed);
            Ok((told(&record), [record]))
        })
    }

    /// Takes a turn under a name, which returns its records, and in a few words what came of it.
    pub fn keep<const N: usize>(
        &mut self,
        name: &str,
        turn: impl FnOnce() -> Result<(String, [Record; N]), Failure>,
    ) -> Result<(), Failure> {
        self.progress.begin(name);
        let (told, records) = turn()?;
        let mut failures = records.iter().flat_map(|record| &record.failures);
        self.progress.end(failures.next().unwrap_or(&told));
        let mut records = records.into_iter();
        records.try_for_each(|record| self.journal.append(record))
    }
}

/// Those who take turns in a pair, in the pair's order. Whoever comes behind a heavy turn may inherit
/// something of it: in every other pair that is somebody else.
pub fn in_order<T>(pair: usize, mut takers: Vec<T>) -> Vec<T> {
    if pair.is_multiple_of(2) {
        takers.reverse();
    }
    takers
}

/// Whether a bound was kept to; `None` if too few pairs say so.
pub fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "none: too few pairs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::named;
    use std::fs;

    /// One server, which fails in its second pair.
    struct Failing;

    impl Measurement for Failing {
        const NAME: &'static str = "failing";
        const PREFIX: &'static str = "failing-";

        fn facts(&self) -> Result<Value, Failure> {
            Ok(json!({"ours": "a"}))
        }

        fn left(&self, journal: &Journal, pair: usize) -> usize {
            usize::from(!journal.has(pair, "row", &["ours"]))
        }

        fn pair(&self, pair: usize, turns: &mut Turns) -> Result<(), Failure> {
            let place = (pair, "row", "ours");
            let turn = || match pair {
                2 => Err(Failure::Stalled(7)),
                _ => Ok(Record::new(place, named([("p50_us", 1.0)]))),
            };
            match self.left(&turns.journal, pair) {
                0 => Ok(()),
                _ => turns.take(place, turn, |record| record.told("p50_us")),
            }
        }

        fn tables(&self, records: &Records) -> String {
            format!("{:?}\n", records.values("row", "ours", "p50_us"))
        }

        fn failures(&self, records: &Records) -> Vec<String> {
            records.failures("row")
        }

        fn warnings(&self, _: &Records) -> Vec<String> {
            vec!["warm".to_owned()]
        }

        fn json(&self, _: &Records) -> Value {
            json!({"own": 5})
        }
    }

    #[test]
    fn an_interrupted_measurement_takes_only_the_turns_that_are_missing() {
        let out = std::env::temp_dir().join(format!("rkbench-take-{}", std::process::id()));
        let mut output = Output {
            dir: None,
            out: Some(out.clone()),
            resume: None,
            json: false,
        };
        assert!(take(&Failing, 1, &output).unwrap());
        let dir = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
        output.resume = Some(dir.clone());
        assert!(!take(&Failing, 3, &output).unwrap(), "pair 2 fails");
        let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(
            text("raw.jsonl").lines().count(),
            1 + 3,
            "facts, a turn a pair"
        );
        let failed = format!("failed: pair 2, ours: {}", Failure::Stalled(7));
        let told = format!("[1.0, 1.0]\n\n{failed}\n\nwarning: warm\n");
        assert_eq!(text("failing.md"), told);
        let document: Value = serde_json::from_str(&text("failing.json")).unwrap();
        let facts = json!({"ours": "a"});
        assert_eq!(document, json!({"facts": facts, "pairs": 3, "own": 5}));
        fs::remove_dir_all(&out).unwrap();
    }
}
