//! Results that survive an interruption: a file of one JSON document per line, to which each turn is
//! appended as it ends.
//!
//! The first line holds the facts that all figures rest on; every other line is a [`Record`]. A line that
//! was cut off by an interruption is dropped when the journal is opened again. Of two records of the same
//! server in the same row and pair the later one counts.

use crate::failure::{Context, Failure};
use crate::outcome::{self, Outcome, Warning};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The journal's name in its directory.
const NAME: &str = "raw.jsonl";

/// A remark about a run that matters to whoever reads its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// What sort of remark: `client`, `late`, `noise`, `stolen`, `tail` or `debug`.
    pub kind: String,
    /// Which of two remarks of a kind is worse: the one with the greater number.
    pub badness: f64,
    /// For people.
    pub text: String,
}

impl Note {
    /// A warning that is about the machine or the generator rather than about the server.
    pub fn of(warning: &Warning) -> Option<Note> {
        let (kind, badness) = match warning {
            Warning::DebugBuild => ("debug", 1.0),
            Warning::ClientSaturated(share) => ("client", *share),
            Warning::LateSends(us) => ("late", *us),
            Warning::NoisyNeighbour(share) => ("noise", *share),
            Warning::Stolen(share) => ("stolen", *share),
            Warning::ShortTail(count) => ("tail", -(*count as f64)),
            _ => return None,
        };
        Some(Note {
            kind: kind.to_owned(),
            badness,
            text: warning.to_string(),
        })
    }
}

/// Values by name.
pub type Figures = BTreeMap<String, f64>;

/// Values under names that the program knows.
pub fn named<'a>(figures: impl IntoIterator<Item = (&'a str, f64)>) -> Figures {
    let figures = figures.into_iter();
    figures
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Pair, row and server of a turn.
pub type Place<'a> = (usize, &'a str, &'a str);

/// One turn of one server in one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// From 1.
    pub pair: usize,
    /// What was run.
    pub row: String,
    /// Who served.
    pub server: String,
    /// By name; empty if the run ended without figures.
    pub figures: Figures,
    /// About the machine and the generator.
    pub notes: Vec<Note>,
    /// Why the run is no success, in sentences.
    pub failures: Vec<String>,
    /// Everything else that is known of the run.
    pub raw: Value,
}

impl Record {
    /// A run with figures and nothing else to say of it.
    pub fn new((pair, row, server): Place, figures: Figures) -> Record {
        Record {
            pair,
            row: row.to_owned(),
            server: server.to_owned(),
            figures,
            notes: Vec::new(),
            failures: Vec::new(),
            raw: Value::Null,
        }
    }

    /// A run without figures.
    pub fn failed(pair: usize, row: &str, server: &str, why: String) -> Record {
        Record {
            failures: vec![why],
            ..Record::new((pair, row, server), Figures::new())
        }
    }

    /// A run of the load generator; its figures are for the caller to choose.
    pub fn of(place: Place, outcome: &Outcome, figures: Figures) -> Record {
        let failures = outcome.warnings.iter().filter(|w| w.is_failure());
        Record {
            notes: outcome.warnings.iter().filter_map(Note::of).collect(),
            failures: failures.map(Warning::to_string).collect(),
            raw: outcome.json(),
            ..Record::new(place, figures)
        }
    }

    /// A figure, if the run has it.
    pub fn value(&self, figure: &str) -> Option<f64> {
        self.figures.get(figure).copied()
    }

    /// A figure for people: a dash if the run does not have it.
    pub fn told(&self, figure: &str) -> String {
        outcome::told(self.value(figure))
    }

    /// Whether it has a note of the kind.
    pub fn has_note(&self, kind: &str) -> bool {
        self.notes.iter().any(|note| note.kind == kind)
    }

    /// Whether somebody else was busy on the machine meanwhile.
    pub fn is_noisy(&self) -> bool {
        self.has_note("noise") || self.has_note("stolen")
    }

    fn json(&self) -> Value {
        let notes: Vec<Value> = self
            .notes
            .iter()
            .map(|note| json!({"kind": note.kind, "badness": note.badness, "text": note.text}))
            .collect();
        json!({
            "pair": self.pair, "row": self.row, "server": self.server, "figures": self.figures,
            "notes": notes, "failures": self.failures, "raw": self.raw,
        })
    }

    fn parse(value: &Value) -> Option<Record> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let figures: &Map<String, Value> = value["figures"].as_object()?;
        let notes = value["notes"].as_array()?.iter().map(|note| {
            Some(Note {
                kind: text(&note["kind"])?,
                badness: note["badness"].as_f64()?,
                text: text(&note["text"])?,
            })
        });
        Some(Record {
            pair: usize::try_from(value["pair"].as_u64()?).ok()?,
            row: text(&value["row"])?,
            server: text(&value["server"])?,
            figures: figures
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
                .collect(),
            notes: notes.collect::<Option<_>>()?,
            failures: value["failures"]
                .as_array()?
                .iter()
                .map(text)
                .collect::<Option<_>>()?,
            raw: value["raw"].clone(),
        })
    }
}

/// All records of a comparison, in the order in which they were taken.
#[derive(Clone, Debug, Default)]
pub struct Records(pub Vec<Record>);

impl Records {
    /// The record of a server in a row and pair.
    pub fn find(&self, pair: usize, row: &str, server: &str) -> Option<&Record> {
        let wanted =
            |record: &&Record| record.pair == pair && record.row == row && record.server == server;
        self.0.iter().rfind(wanted)
    }

    /// A figure of a server in a row and pair, if there is one.
    pub fn value(&self, (pair, row, server): Place, figure: &str) -> Option<f64> {
        self.find(pair, row, server)?.value(figure)
    }

    /// The records that count, of every pair.
    pub fn of<'a>(&'a self, row: &'a str, server: &'a str) -> impl Iterator<Item = &'a Record> {
        (1..=self.pairs()).filter_map(move |pair| self.find(pair, row, server))
    }

    /// A figure of a server in a row, of every pair that has it.
    pub fn values(&self, row: &str, server: &str, figure: &str) -> Vec<f64> {
        let records = self.of(row, server);
        records.filter_map(|record| record.value(figure)).collect()
    }

    /// The same of two servers, of every pair in which both have it.
    pub fn paired(&self, row: &str, servers: (&str, &str), figure: &str) -> Vec<(f64, f64)> {
        let value = |pair, server| self.value((pair, row, server), figure);
        (1..=self.pairs())
            .filter_map(|pair| Option::zip(value(pair, servers.0), value(pair, servers.1)))
            .collect()
    }

    /// The number of the last pair.
    pub fn pairs(&self) -> usize {
        self.0.iter().map(|record| record.pair).max().unwrap_or(0)
    }

    /// The rows' names in the order in which they came first.
    pub fn rows(&self) -> Vec<&str> {
        let mut rows: Vec<&str> = Vec::new();
        for record in &self.0 {
            if !rows.contains(&record.row.as_str()) {
                rows.push(&record.row);
            }
        }
        rows
    }

    /// What was wrong with runs of a row, in sentences.
    pub fn failures(&self, row: &str) -> Vec<String> {
        let of_row = |record: &&Record| record.row == row;
        let counts = |record: &&Record| {
            let found = self.find(record.pair, &record.row, &record.server);
            found.is_some_and(|found| std::ptr::eq(found, *record))
        };
        let sentences = |record: &Record| {
            let (pair, server) = (record.pair, record.server.clone());
            let told = |why: &String| format!("pair {pair}, {server}: {why}");
            record.failures.iter().map(told).collect::<Vec<_>>()
        };
        let of_row = self.0.iter().filter(of_row);
        of_row.filter(counts).flat_map(sentences).collect()
    }

    /// The worst note of each kind, with the number of runs that have one of the kind.
    pub fn warnings(&self) -> Vec<String> {
        let mut kinds: BTreeMap<&str, (usize, &Note)> = BTreeMap::new();
        for note in self.0.iter().flat_map(|record| &record.notes) {
            let (count, worst) = kinds.entry(&note.kind).or_insert((0, note));
            *count += 1;
            if note.badness > worst.badness {
                *worst = note;
            }
        }
        let total = self.0.len();
        kinds
            .into_values()
            .map(|(count, worst)| format!("in {count} of {total} runs, at worst: {}", worst.text))
            .collect()
    }
}

/// The file.
pub struct Journal {
    /// Where it is.
    pub dir: PathBuf,
    /// What all figures rest on.
    pub facts: Value,
    /// What it holds.
    pub records: Records,
    file: File,
}

impl Journal {
    /// Begins one in a directory that does not exist yet.
    pub fn create(dir: &Path, facts: Value) -> Result<Journal, Failure> {
        let path = dir.join(NAME);
        let what = || format!("writing {}", path.display());
        fs::create_dir_all(dir).context(what)?;
        let mut file = File::create_new(&path).context(what)?;
        writeln!(file, "{}", json!({"facts": facts})).context(what)?;
        Ok(Journal {
            dir: dir.to_owned(),
            facts,
            records: Records::default(),
            file,
        })
    }

    /// Opens one that was interrupted. It must rest on the same facts, besides the date: figures of other
    /// binaries or settings are not to be mixed.
    pub fn resume(dir: &Path, facts: &Value) -> Result<Journal, Failure> {
        let path = dir.join(NAME);
        let what = || format!("reading {}", path.display());
        let text = fs::read_to_string(&path).context(what)?;
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let broken = || Failure::Usage(format!("{} is no journal of rkbench", path.display()));
        let mut lines = whole.lines().map(|line| {
            let parsed: Result<Value, _> = serde_json::from_str(line);
            parsed.map_err(|_| broken())
        });
        let old = lines.next().ok_or_else(broken)??["facts"].take();
        if let Some(name) = difference(&old, facts) {
            return Err(Failure::Usage(format!(
                "{} was measured with another {name}: begin anew, without --resume",
                dir.display()
            )));
        }
        let mut records = Vec::new();
        for line in lines {
            records.push(Record::parse(&line?).ok_or_else(broken)?);
        }
        let file = OpenOptions::new().append(true).open(&path).context(what)?;
        file.set_len(whole.len() as u64).context(what)?;
        Ok(Journal {
            dir: dir.to_owned(),
            facts: old,
            records: Records(records),
            file,
        })
    }

    /// Appends a record.
    pub fn append(&mut self, record: Record) -> Result<(), Failure> {
        let what = || format!("writing {}", self.dir.join(NAME).display());
        writeln!(self.file, "{}", record.json()).context(what)?;
        self.records.0.push(record);
        Ok(())
    }

    /// Whether all these servers have had their turn.
    pub fn has(&self, pair: usize, row: &str, servers: &[&str]) -> bool {
        let taken = |server: &&str| self.records.find(pair, row, server).is_some();
        servers.iter().all(taken)
    }

    /// Writes a report beside the journal, as text and as JSON.
    pub fn report(&self, name: &str, text: &str, document: &Value) -> Result<(), Failure> {
        let what = || format!("writing to {}", self.dir.display());
        let pretty = serde_json::to_string_pretty(document)
            .map_err(std::io::Error::from)
            .context(what)?;
        fs::write(self.dir.join(format!("{name}.json")), pretty + "\n").context(what)?;
        fs::write(self.dir.join(format!("{name}.md")), text).context(what)
    }
}

/// The first fact that differs.
fn difference<'a>(old: &'a Value, new: &'a Value) -> Option<&'a str> {
    let (old, new) = (old.as_object()?, new.as_object()?);
    let mut names = old.keys().chain(new.keys()).filter(|name| *name != "date");
    let differs = |name: &&String| old.get(*name) != new.get(*name);
    names.find(differs).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pair: usize, server: &str, p50: f64) -> Record {
        Record {
            notes: vec![Note {
                kind: "noise".into(),
                badness: 0.1 * pair as f64,
                text: format!("noise of pair {pair}"),
            }],
            raw: json!({"any": "thing"}),
            ..Record::new((pair, "set-1x1", server), named([("p50_us", p50)]))
        }
    }

    /// A directory that does not exist yet and is removed at the end.
    struct Fresh(PathBuf);

    impl Fresh {
        fn new(name: &str) -> Fresh {
            let name = format!("rkbench-journal-{name}-{}", std::process::id());
            Fresh(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Fresh {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_interrupted_journal_keeps_what_was_finished() {
        let dir = Fresh::new("interrupted");
        let facts = |day: &str| json!({"date": day, "ours": "a"});
        let mut journal = Journal::create(&dir.0, facts("1")).unwrap();
        journal.append(record(1, "ours", 10.0)).unwrap();
        journal.append(record(1, "apache", 20.0)).unwrap();
        let whole = fs::read(dir.0.join(NAME)).unwrap();
        journal.append(record(2, "ours", 30.0)).unwrap();
        let longer = fs::read(dir.0.join(NAME)).unwrap();
        drop(journal);
        for cut in whole.len()..longer.len() {
            fs::write(dir.0.join(NAME), &longer[..cut]).unwrap();
            let mut journal = Journal::resume(&dir.0, &facts("2")).unwrap();
            assert_eq!(journal.facts, facts("1"));
            assert!(journal.has(1, "set-1x1", &["ours", "apache"]));
            assert!(!journal.has(2, "set-1x1", &["ours"]), "cut at {cut}");
            journal.append(record(2, "ours", 31.0)).unwrap();
            drop(journal);
            let journal = Journal::resume(&dir.0, &facts("2")).unwrap();
            assert_eq!(
                journal.records.values("set-1x1", "ours", "p50_us"),
                [10.0, 31.0]
            );
            assert_eq!(journal.records.0[1], record(1, "apache", 20.0));
        }
    }

    #[test]
    fn figures_of_other_binaries_are_not_mixed() {
        let dir = Fresh::new("facts");
        Journal::create(&dir.0, json!({"date": "1", "ours": "a"})).unwrap();
        for facts in [json!({"ours": "b"}), json!({"ours": "a", "parent": "c"})] {
            let refused = Journal::resume(&dir.0, &facts).err().unwrap().to_string();
            assert!(refused.contains("measured with another"), "{refused}");
        }
        assert!(Journal::create(&dir.0, json!({})).is_err(), "it is there");
    }

    #[test]
    fn the_later_record_of_a_turn_counts() {
        let mut records = Records(vec![
            record(1, "ours", 1.0),
            record(1, "apache", 2.0),
            record(2, "ours", 3.0),
        ]);
        records.0[0].failures.push("cut off".into());
        assert_eq!(records.failures("set-1x1"), ["pair 1, ours: cut off"]);
        records.0.push(record(1, "ours", 4.0));
        assert_eq!(records.failures("set-1x1"), [""; 0]);
        assert_eq!(records.values("set-1x1", "ours", "p50_us"), [4.0, 3.0]);
        let pairs = records.paired("set-1x1", ("ours", "apache"), "p50_us");
        assert_eq!(pairs, [(4.0, 2.0)], "pair 2 has one of them only");
        assert_eq!(records.rows(), ["set-1x1"]);
        assert_eq!(
            records.warnings(),
            ["in 4 of 4 runs, at worst: noise of pair 2"]
        );
    }
}
