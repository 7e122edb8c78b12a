//! How long a restart takes and what a large tree costs in memory, beside Apache's server in the same run.
//!
//! Both stores are filled once with the same znodes, a transaction each, so that each server makes snapshots as it
//! does in operation. Each turn copies one, empties the page cache, starts the server and asks for the data of a
//! znode until it is answered. Then memory: ours at rest, Apache's after a full collection of its heap.

use crate::content::{self, Filling};
use crate::failure::{Context, Failure};
use crate::first;
use crate::journal::{Journal, Record, Records, named};
use crate::measurement::{self, Measurement, Output, Turns};
use crate::outcome::{figure, told};
use crate::plan;
use crate::procfs;
use crate::ratios::{self, PAIRS_MIN, Spread};
use crate::repository;
use crate::servers::{self, Server};
use crate::store::{self, Store};
use crate::subjects::{self, APACHE, Against, Subjects, SubjectsArgs};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Ours by Apache's: until the first answer.
const RESTART_RATIO_MAX: f64 = 1.0 / 8.0;
/// Ours, inline, by Apache's after a full collection: resident memory.
const MEMORY_RATIO_MAX: f64 = 0.3;
/// Fewer pairs than this are not held against the bounds.
const JUDGED_PAIRS_MIN: usize = 5;
/// Collections before a heap is looked at: the second one finds what the first has made unreachable.
const COLLECTIONS: usize = 2;

/// The arguments of the measurement of restarts.
#[derive(Args)]
pub struct RestartArgs {
    #[command(flatten)]
    subjects: SubjectsArgs,
    /// Our server is started once on each of these numbers of shards.
    #[arg(long, value_delimiter = ',', default_value = "0", value_name = "N")]
    shards: Vec<usize>,
    /// Znodes of 100 bytes of data.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    znodes: usize,
    /// How often each server is started.
    #[arg(long, default_value_t = PAIRS_MIN, value_name = "N")]
    pairs: usize,
    /// How long a server is left alone before its memory is looked at, s.
    #[arg(long, default_value = "5", value_parser = plan::seconds)]
    rest: Duration,
    /// The tool of the same JDK that has a heap collected.
    #[arg(long, default_value = "jcmd", value_name = "PATH")]
    jcmd: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Measures, prints, and writes everything to a directory of its own.
pub fn main(args: &RestartArgs) -> Result<bool, Failure> {
    measurement::take(&Trial::prepare(args)?, args.pairs, &args.output)
}

/// Arguments, resolved.
struct Trial<'a> {
    args: &'a RestartArgs,
    row: String,
    subjects: Subjects<'a>,
    dir: PathBuf,
    ours: Store,
    apache: Option<Store>,
}

/// Names of the figures.
mod key {
    pub const RESTART: &str = "first_answer_ms";
    pub const RSS: &str = "rss_mib";
    pub const ANON: &str = "anonymous_mib";
    pub const HEAP: &str = "heap_used_mib";
    pub const COLD: &str = "cold";
}

impl<'a> Trial<'a> {
    fn prepare(args: &'a RestartArgs) -> Result<Trial<'a>, Failure> {
        if args.pairs == 0 || args.znodes == 0 || args.shards.is_empty() {
            let sentence = "--pairs and --znodes are more than 0, --shards names one at least";
            return Err(Failure::Usage(sentence.into()));
        }
        let dir = repository::scratch(args.output.dir.as_deref())?;
        let subjects = Subjects::prepare(&args.subjects, &args.shards)?;
        let filled = |kept: &str, name: &str| {
            let kept = dir.join(format!("filled-{}-{kept}", args.znodes));
            Store::kept(&kept, |dir| {
                fill(args.znodes, || subjects.begin(name, dir)?.serving())
            })
        };
        let content = servers::content(&args.subjects.ours)?;
        let ours = filled(&content, &subjects::name(0))?;
        let against = args.subjects.against == Against::Apache;
        let apache = against.then(|| filled(APACHE, APACHE)).transpose()?;
        Ok(Trial {
            args,
            row: format!("restart-{}", args.znodes),
            subjects,
            dir,
            ours,
            apache,
        })
    }

    /// The servers that have not had their turn in a pair, in its order.
    fn open(&self, journal: &Journal, pair: usize) -> Vec<&str> {
        let names = self.subjects.names.iter().map(String::as_str);
        let open = names.filter(|name| !journal.has(pair, &self.row, &[name]));
        measurement::in_order(pair, open.collect())
    }

    /// One start of one server.
    fn turn(&self, pair: usize, name: &str) -> Result<Record, Failure> {
        let scratch = self.dir.join(format!("restart-{}", std::process::id()));
        store::remove(&scratch)?;
        let store = self.apache.as_ref().filter(|_| name == APACHE);
        store.unwrap_or(&self.ours).copy_to(&scratch)?;
        let cold = store::forget_files();
        let mut server = self.subjects.begin(name, &scratch)?;
        let (address, begun) = (server.address, server.begun);
        let number = self.args.znodes - 1;
        let data = first::answer(address, &content::path(number), || server.is_alive())?;
        let restart = begun.elapsed();
        if data != content::data(number, 0) {
            let sentence = "the znode that was asked for has other data";
            return Err(Failure::Protocol(sentence.into()));
        }
        thread::sleep(self.args.rest);
        let heap = (name == APACHE).then(|| heap_after_collection(&self.args.jcmd, server.pid()));
        let heap_kib = heap.transpose()?;
        let memory = procfs::memory(&[server.pid()]).ok_or_else(|| server.failure())?;
        server.stop();
        store::remove(&scratch)?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        let figures = [
            (key::RESTART, restart.as_secs_f64() * 1e3),
            (key::RSS, mib(memory.rss_kib)),
            (key::ANON, mib(memory.anon_kib)),
            (key::COLD, f64::from(u8::from(cold))),
        ];
        let heap = heap_kib.map(|kib| (key::HEAP, mib(kib)));
        let figures = named(figures.into_iter().chain(heap));
        Ok(Record::new((pair, &self.row, name), figures))
    }
}

/// Fills a server that is started for it, and ends it in order.
fn fill(znodes: usize, start: impl FnOnce() -> Result<Server, Failure>) -> Result<Value, Failure> {
    let server = start()?;
    eprintln!("filling {} with {znodes} znodes, once", server.name);
    content::fill(server.address, znodes, Filling::Singly)?;
    server.stop();
    Ok(json!({"znodes": znodes, "data_bytes": content::DATA_BYTES}))
}

/// Has a JVM collect its whole heap; KiB of it that are used then.
fn heap_after_collection(jcmd: &Path, pid: u32) -> Result<u64, Failure> {
    let ask = |what: &str| {
        let output = Command::new(jcmd).args([&pid.to_string(), what]).output();
        let output = output.context(|| {
            format!(
                "starting {}, which is part of a JDK and not of a JRE; give --jcmd",
                jcmd.display()
            )
        })?;
        Ok::<_, Failure>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for _ in 0..COLLECTIONS {
        ask("GC.run")?;
    }
    let said = ask("GC.heap_info")?;
    heap_used_kib(&said).ok_or_else(|| {
        Failure::Protocol(format!(
            "GC.heap_info says nothing of a heap: {}",
            said.trim()
        ))
    })
}

/// The sum over the parts of a heap; metaspace is none.
fn heap_used_kib(said: &str) -> Option<u64> {
    let used = said.lines().filter_map(|line| {
        let (_, behind) = line.split_once(" total ")?;
        let (_, used) = behind.split_once("used ")?;
        let digits: String = used.chars().take_while(char::is_ascii_digit).collect();
        let scale = match used[digits.len()..].chars().next()? {
            'K' => 1,
            'M' => 1024,
            _ => return None,
        };
        Some(digits.parse::<u64>().ok()? * scale)
    });
    used.reduce(|sum, part| sum + part)
}

/// A turn in a few words.
fn in_words(record: &Record) -> String {
    format!(
        "first answer after {} ms, {} MiB resident",
        record.told(key::RESTART),
        record.told(key::RSS)
    )
}

/// What N shards cost: the value at none of the line through those with shards, and its slope; `None` with
/// fewer than two of them.
fn law(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let sharded: Vec<_> = points.iter().filter(|(shards, _)| *shards > 0.0).collect();
    let count = sharded.len() as f64;
    let mean =
        |of: fn(&(f64, f64)) -> f64| sharded.iter().map(|point| of(point)).sum::<f64>() / count;
    let (n, value) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = sharded.iter().map(|point| (point.0 - n).powi(2)).sum();
    let slope = sharded
        .iter()
        .map(|point| (point.0 - n) * (point.1 - value))
        .sum::<f64>()
        / spread;
    (spread > 0.0).then_some((value - slope * n, slope))
}

/// What ours is by Apache's, the bound if there is one, and what that says.
struct Judged {
    what: &'static str,
    ratio: Option<Spread>,
    at_most: Option<f64>,
    verdict: &'static str,
}

impl Trial<'_> {
    /// What one of ours is held against.
    fn judged(&self, records: &Records, name: &str) -> [Judged; 3] {
        let judge = |what, (ours, apache), at_most: Option<f64>| {
            let value = |pair, server, figure| records.value((pair, &self.row, server), figure);
            let of_pair = |pair| Some(value(pair, name, ours)? / value(pair, APACHE, apache)?);
            let ratio = Spread::of((1..=records.pairs()).filter_map(of_pair));
            let enough = records.pairs() >= JUDGED_PAIRS_MIN;
            Judged {
                what,
                ratio,
                at_most,
                verdict: Option::zip(ratio, at_most).map_or("—", |(ratio, at_most)| {
                    measurement::verdict(enough.then_some(ratio.median <= at_most))
                }),
            }
        };
        let (restart, memory) = ((key::RESTART, key::RESTART), (key::RSS, key::RSS));
        let inline_max = (name == subjects::name(0)).then_some(MEMORY_RATIO_MAX);
        let heap = "resident memory by the heap that Apache's uses";
        [
            judge("until the first answer", restart, Some(RESTART_RATIO_MAX)),
            judge("resident memory", memory, inline_max),
            judge(heap, (key::RSS, key::HEAP), None),
        ]
    }

    /// The laws of what shards cost: bytes of anonymous memory per znode, and milliseconds until the first
    /// answer.
    fn laws(&self, records: &Records) -> [Option<(f64, f64)>; 2] {
        let bytes_per_znode = 1_048_576.0 / self.args.znodes as f64;
        [(key::ANON, bytes_per_znode), (key::RESTART, 1.0)].map(|(figure, unit)| {
            let of = |&shards: &usize| {
                let values = records.values(&self.row, &subjects::name(shards), figure);
                Some((shards as f64, Spread::of(values)?.median * unit))
            };
            let points: Vec<_> = self.args.shards.iter().filter_map(of).collect();
            law(&points)
        })
    }

    /// Ours beside Apache's.
    fn judged_table(&self, records: &Records) -> String {
        let mut text = String::from(
            "\n| server | figure | ours / apache: median (lowest–highest) | at most | |\n|---|---|---|---|---|\n",
        );
        for name in self.subjects.names.iter().filter(|name| *name != APACHE) {
            for judged in self.judged(records, name) {
                text += &format!(
                    "| {name} | {} | {} | {} | {} |\n",
                    judged.what,
                    Spread::told(judged.ratio),
                    told(judged.at_most),
                    judged.verdict,
                );
            }
        }
        text
    }
}

impl Measurement for Trial<'_> {
    const NAME: &'static str = "restart";
    const PREFIX: &'static str = "restart-";

    fn facts(&self) -> Result<Value, Failure> {
        let own = json!({"store": self.ours.facts, "rest": self.args.rest.as_secs_f64()});
        let ours = &self.args.subjects.ours;
        measurement::facts(ours, &self.dir, [self.subjects.facts()?, own])
    }

    fn left(&self, journal: &Journal, pair: usize) -> usize {
        self.open(journal, pair).len()
    }

    fn pair(&self, pair: usize, turns: &mut Turns) -> Result<(), Failure> {
        for name in self.open(&turns.journal, pair) {
            turns.take((pair, &self.row, name), || self.turn(pair, name), in_words)?;
        }
        Ok(())
    }

    fn tables(&self, records: &Records) -> String {
        let mut text = String::from(
            "| server | first answer ms | resident MiB | anonymous MiB | heap used MiB | B resident per znode |\n\
             |---|---|---|---|---|---|\n",
        );
        for name in &self.subjects.names {
            let spread = |figure| Spread::of(records.values(&self.row, name, figure));
            let range = |figure| Spread::told(spread(figure));
            let each =
                spread(key::RSS).map(|rss| rss.median * 1_048_576.0 / self.args.znodes as f64);
            text += &format!(
                "| {name} | {} | {} | {} | {} | {} |\n",
                range(key::RESTART),
                range(key::RSS),
                range(key::ANON),
                range(key::HEAP),
                told(each),
            );
        }
        if self.apache.is_some() {
            text += &self.judged_table(records);
        }
        let what = [
            "bytes of anonymous memory per znode",
            "ms until the first answer",
        ];
        for (law, what) in self.laws(records).into_iter().zip(what) {
            if let Some((base, slope)) = law {
                let sign = if slope < 0.0 { '−' } else { '+' };
                let (base, slope) = (figure(base), figure(slope.abs()));
                text += &format!("\nwith N shards: {base} {sign} {slope} N {what}\n");
            }
        }
        text
    }

    fn failures(&self, records: &Records) -> Vec<String> {
        records.failures(&self.row)
    }

    fn warnings(&self, records: &Records) -> Vec<String> {
        let is_warm = |name: &String| records.values(&self.row, name, key::COLD).contains(&0.0);
        let warning =
            "the page cache could not be emptied, which is root's: these starts were warm";
        let warm = self.subjects.names.iter().any(is_warm);
        warm.then(|| warning.to_owned()).into_iter().collect()
    }

    fn json(&self, records: &Records) -> Value {
        let of_server = |name: &String| {
            let keys = [key::RESTART, key::RSS, key::ANON, key::HEAP];
            let figures = ratios::spreads(records, &self.row, name, &keys);
            let judged = self.judged(records, name).into_iter();
            let judged = judged.filter(|_| name != APACHE).map(|judged| {
                json!({
                    "what": judged.what, "ratio": judged.ratio.map(Spread::json),
                    "at_most": judged.at_most, "verdict": judged.verdict,
                })
            });
            json!({"server": name, "figures": figures, "judged": judged.collect::<Vec<_>>()})
        };
        let laws = self.laws(records);
        let [bytes, first_answer] =
            laws.map(|law| law.map(|(base, slope)| json!({"base": base, "per_shard": slope})));
        json!({
            "servers": self.subjects.names.iter().map(of_server).collect::<Vec<_>>(),
            "anonymous_bytes_per_znode": bytes, "first_answer_ms": first_answer,
            "failures": records.failures(&self.row), "warnings": records.warnings(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_used_heap_is_summed_over_its_parts_and_metaspace_is_none() {
        let g1 = "4711:\n garbage-first heap   total 1054720K, used 467456K [0x80000000, 0x100000000)\n  \
                  region size 1024K, 2 young (2048K), 0 survivors (0K)\n Metaspace       used 23000K, \
                  committed 23400K, reserved 1114112K\n  class space    used 2500K, committed 2700K\n";
        assert_eq!(heap_used_kib(g1), Some(467_456));
        let serial = " def new generation   total 157248K, used 5600K [0x1, 0x2, 0x3)\n  eden space 139776K,   4% used\n \
                      tenured generation   total 349568K, used 300M [0x1, 0x2, 0x3)\n   the space 349568K,   0% used\n";
        assert_eq!(heap_used_kib(serial), Some(5_600 + (300 << 10)));
        assert_eq!(
            heap_used_kib("4711:\ncom.sun.tools.attach.AttachNotSupportedException"),
            None
        );
    }

    #[test]
    fn the_law_is_the_line_through_those_with_shards() {
        let (base, slope) = law(&[(0.0, 300.0), (1.0, 480.0), (2.0, 630.0), (3.0, 780.0)]).unwrap();
        assert!((base - 330.0).abs() < 1e-9 && (slope - 150.0).abs() < 1e-9);
        assert_eq!(law(&[(0.0, 300.0), (2.0, 630.0)]), None);
        assert_eq!(law(&[]), None);
    }

    fn trial(args: &RestartArgs) -> Trial<'_> {
        let store = |_: ()| Store {
            dir: PathBuf::new(),
            facts: Value::Null,
        };
        Trial {
            args,
            row: "restart".into(),
            subjects: Subjects::new(&args.subjects, &args.shards, PathBuf::new()),
            dir: PathBuf::new(),
            ours: store(()),
            apache: (args.subjects.against == Against::Apache).then(|| store(())),
        }
    }

    fn args() -> RestartArgs {
        parsed(&["restart", "--shards", "0,2"])
    }

    fn parsed(line: &[&str]) -> RestartArgs {
        use clap::Parser;

        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            restart: RestartArgs,
        }
        Line::parse_from(line).restart
    }

    fn records(pairs: usize, ours_ms: f64, ours_mib: f64) -> Records {
        let one = |pair, server: &str, figures: &[(&str, f64)]| {
            Record::new((pair, "restart", server), named(figures.iter().copied()))
        };
        let all = |pair| {
            let apache = [
                (key::RESTART, 8_000.0),
                (key::RSS, 1_000.0),
                (key::HEAP, 450.0),
            ];
            let ours = [(key::RESTART, ours_ms), (key::RSS, ours_mib)];
            [
                one(pair, "apache", &apache),
                one(pair, "ours-0", &ours),
                one(pair, "ours-2", &ours),
            ]
        };
        Records((1..=pairs).flat_map(all).collect())
    }

    #[test]
    fn bounds_are_held_against_apache_in_the_same_pair_and_memory_inline_only() {
        let args = args();
        let trial = trial(&args);
        let verdicts = |records: &Records, name| {
            let judged = trial.judged(records, name);
            judged.map(|judged| judged.verdict)
        };
        assert_eq!(
            verdicts(&records(5, 1_000.0, 300.0), "ours-0"),
            ["met", "met", "—"]
        );
        assert_eq!(
            verdicts(&records(5, 1_001.0, 301.0), "ours-0"),
            ["**missed**", "**missed**", "—"]
        );
        assert_eq!(
            verdicts(&records(5, 1_000.0, 900.0), "ours-2"),
            ["met", "—", "—"]
        );
        assert_eq!(
            verdicts(&records(4, 1.0, 1.0), "ours-0")[..2],
            ["none: too few pairs"; 2]
        );
        assert_eq!(verdicts(&Records::default(), "ours-0"), ["—"; 3]);
    }

    #[test]
    fn ours_alone_show_what_each_shard_costs_in_memory_and_in_time() {
        let mut line = vec!["restart", "--against", "none", "--shards", "0,1,2"];
        line.extend(["--znodes", "1048576"]);
        let args = parsed(&line);
        let trial = trial(&args);
        assert_eq!(trial.subjects.names, ["ours-0", "ours-1", "ours-2"]);
        let turn = |(server, ms, mib): (&str, f64, f64)| {
            let figures = named([(key::RESTART, ms), (key::ANON, mib)]);
            Record::new((1, "restart", server), figures)
        };
        let turns = [
            ("ours-0", 900.0, 300.0),
            ("ours-1", 1_000.0, 480.0),
            ("ours-2", 1_200.0, 630.0),
        ];
        let mut records = Records(turns.map(turn).to_vec());
        let text = trial.tables(&records);
        assert!(!text.contains("apache"), "{text}");
        for law in [
            "330 + 150 N bytes of anonymous memory per znode",
            "800 + 200 N ms until the first answer",
        ] {
            assert!(
                text.contains(&format!("\nwith N shards: {law}\n")),
                "{text}"
            );
        }
        let last = records.0.last_mut().unwrap();
        last.figures.insert(key::RESTART.into(), 750.0);
        let text = trial.tables(&records);
        assert!(text.contains("1,250 − 250 N ms"), "{text}");
        records.0.pop();
        assert!(!trial.tables(&records).contains("with N shards"));
    }

    #[test]
    fn pairs_alternate_and_who_has_had_a_turn_has_no_other() {
        let args = args();
        let trial = trial(&args);
        let dir = std::env::temp_dir().join(format!("rkbench-restart-{}", std::process::id()));
        let mut journal = Journal::create(&dir, json!({})).unwrap();
        assert_eq!(trial.open(&journal, 1), ["apache", "ours-0", "ours-2"]);
        assert_eq!(trial.open(&journal, 2), ["ours-2", "ours-0", "apache"]);
        let taken = Record::failed(2, "restart", "ours-0", String::new());
        journal.append(taken).unwrap();
        assert_eq!(trial.open(&journal, 2), ["ours-2", "apache"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
