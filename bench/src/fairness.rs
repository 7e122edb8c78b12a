//! What one client can do to the others: hostile clients send as fast as they can, and a session that does
//! nothing but ping is measured meanwhile, beside Apache's server in the same run.
//!
//! The hostile clients and the bystanders run on the last CPU, the servers are free. Each turn is appended
//! to a journal as it ends, as in a comparison.

use crate::bystander::{Bystanders, Fate, QUIET_TIMEOUT_MS, Survival};
use crate::control::Control;
use crate::failure::Failure;
use crate::hostile::{self, Attack, Harm};
use crate::journal::{Figures, Journal, Note, Record, Records, named};
use crate::measurement::{self, Measurement, Output, Turns};
use crate::outcome::{self, LAG_US_MAX, OTHERS_MAX, Warning, figure};
use crate::ratios::{self, Spread};
use crate::servers::Server;
use crate::subjects::{APACHE, Against, Subjects, SubjectsArgs};
use crate::{machine, plan, procfs, repository, rows, store};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A ping's median is at most this, µs.
const P50_US_MAX: f64 = 5_000.0;
/// 99 of 100 pings take at most this, µs.
const P99_US_MAX: f64 = 25_000.0;
/// Below this nobody asks whether Apache's server is faster, µs.
const UNDISPUTED_US: f64 = 1_000.0;
/// Before the bystanders begin, the attack has been going on for so long.
const WARMUP: Duration = Duration::from_millis(500);

/// The arguments of the measurement of fairness.
#[derive(Args)]
pub struct FairnessArgs {
    #[command(flatten)]
    subjects: SubjectsArgs,
    /// Our server runs once on each of these numbers of shards.
    #[arg(long, value_delimiter = ',', default_value = "0,2", value_name = "N")]
    shards: Vec<usize>,
    /// How often each server takes each row.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pairs: usize,
    /// What the hostile clients send.
    #[arg(long, value_delimiter = ',', default_value = "ping,get,set,multi")]
    attacks: Vec<Attack>,
    /// How many hostile clients there are.
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_name = "N")]
    hostile: Vec<usize>,
    /// Pings per second of the session that is measured.
    #[arg(long, default_value_t = 200.0, value_name = "N")]
    rate: f64,
    /// What is measured of each row, s.
    #[arg(long, default_value = "10", value_parser = plan::seconds)]
    seconds: Duration,
    /// How long each server is warmed up at its start, s: a JVM compiles as it goes.
    #[arg(long, default_value = "15", value_parser = plan::seconds)]
    prewarm: Duration,
    /// Leave the clients free instead of keeping them on the last CPU.
    #[arg(long)]
    unpinned: bool,
    #[command(flatten)]
    output: Output,
}

/// What is done to a server.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    attack: Attack,
    clients: usize,
}

/// Arguments, resolved.
struct Trial<'a> {
    args: &'a FairnessArgs,
    cases: Vec<Case>,
    subjects: Subjects<'a>,
    pin: Option<usize>,
    dir: PathBuf,
}

/// Measures, prints, and writes everything to a directory of its own.
pub fn main(args: &FairnessArgs) -> Result<bool, Failure> {
    measurement::take(&Trial::prepare(args)?, args.pairs, &args.output)
}

impl<'a> Trial<'a> {
    fn prepare(args: &'a FairnessArgs) -> Result<Trial<'a>, Failure> {
        let no = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
        if args.pairs == 0 || args.hostile.contains(&0) || args.seconds.is_zero() {
            return no("--pairs, --hostile and --seconds are more than 0");
        }
        if !(args.rate.is_finite() && (1.0..=10_000.0).contains(&args.rate)) {
            return no("--rate is 1 to 10000");
        }
        let case = |(&attack, &clients): (&Attack, &usize)| Case {
            name: format!("{}-{clients}", attack.name()),
            attack,
            clients,
        };
        let with_each = |attack| args.hostile.iter().map(move |clients| (attack, clients));
        Ok(Trial {
            args,
            cases: args.attacks.iter().flat_map(with_each).map(case).collect(),
            subjects: Subjects::prepare(&args.subjects, &args.shards)?,
            pin: machine::default_pin().filter(|_| !args.unpinned),
            dir: repository::scratch(args.output.dir.as_deref())?,
        })
    }

    /// The cases of a pair that not every server has been through.
    fn open(&self, journal: &Journal, pair: usize) -> Vec<&Case> {
        let names: Vec<&str> = self.subjects.names.iter().map(String::as_str).collect();
        let open = |case: &&Case| !journal.has(pair, &case.name, &names);
        self.cases.iter().filter(open).collect()
    }

    /// Starts a server in a directory that does not exist yet, and warms it up.
    fn start(&self, name: &str, scratch: &Path) -> Result<Server, Failure> {
        let mut dir = scratch.join(name);
        while dir.exists() {
            dir.as_mut_os_string().push("-again");
        }
        let server = self.subjects.begin(name, &dir)?.serving()?;
        rows::warm_up(&server, self.args.prewarm, self.pin)?;
        Ok(server)
    }

    /// One case on one server.
    fn turn(&self, pair: usize, case: &Case, server: &Server) -> Result<Record, Failure> {
        let parent = format!("/rkbench-fair-{}-{pair}-{}", std::process::id(), case.name);
        let node = format!("{parent}/node");
        let mut control = Control::open(server.address)?;
        control.create([parent.clone()], b"")?;
        control.create([node.clone()], &vec![b'd'; case.attack.node_bytes()])?;
        control.close();
        procfs::forget_peak(server.pid());
        let begun = Instant::now();
        let now_ns = || begun.elapsed().as_nanos() as u64;
        let pids = [server.pid()];
        let before = procfs::sample(now_ns(), &pids);
        let (fate, harm) = self.endure(case, server, &node)?;
        let after = procfs::sample(now_ns(), &pids);
        let mut control = Control::open(server.address)?;
        control.delete([node, parent])?;
        control.close();

        let servers_us = Option::zip(before.servers_us, after.servers_us)
            .map_or(0, |(before, after)| after.saturating_sub(before));
        let others = procfs::others(&before, &after, servers_us);
        let noise = (others > OTHERS_MAX).then_some(Warning::NoisyNeighbour(others));
        let late = (fate.lag.p99 > LAG_US_MAX).then_some(Warning::LateSends(fate.lag.p99));
        let seconds = (after.at_ns - before.at_ns) as f64 / 1e9;
        let peak_kib = procfs::memory(&pids).map(|memory| memory.peak_kib);
        Ok(Record {
            notes: noise.iter().chain(&late).filter_map(Note::of).collect(),
            raw: json!({
                "latency_us": fate.latency.json(), "latency_us_from_due": fate.due.json(),
                "send_lag_us": fate.lag.json(), "seconds": seconds, "others_share": others,
                "bystander_ran_first": fate.ran_first, "quiet": format!("{:?}", fate.quiet),
            }),
            ..Record::new(
                (pair, &case.name, &server.name),
                figures(&fate, harm, seconds, peak_kib),
            )
        })
    }

    /// The attack, with the bystanders in it.
    fn endure(&self, case: &Case, server: &Server, node: &str) -> Result<(Fate, Harm), Failure> {
        let bystanders = Bystanders::open(server.address, self.args.rate)?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let attackers: Vec<_> = (0..case.clients)
                .map(|_| {
                    scope.spawn(|| {
                        machine::pin(self.pin)?;
                        hostile::attack(server.address, case.attack, node, &stop)
                    })
                })
                .collect();
            let bystanders = scope.spawn(|| {
                machine::pin(self.pin)?;
                bystanders.run(WARMUP, self.args.seconds, &stop)
            });
            let lost = || Failure::Protocol("a client's thread panicked".into());
            let fate = bystanders.join().unwrap_or_else(|_| Err(lost()));
            stop.store(true, Ordering::Relaxed);
            let mut harm = Harm::default();
            for attacker in attackers {
                harm = harm.plus(attacker.join().unwrap_or_else(|_| Err(lost()))?);
            }
            Ok((fate?, harm))
        })
    }
}

/// Names of the figures.
mod key {
    pub const P50: &str = "p50_us";
    pub const P99: &str = "p99_us";
    pub const MAX: &str = "max_us";
    pub const DUE_P99: &str = "p99_us_from_due";
    pub const LAG_P99: &str = "send_lag_p99_us";
    pub const UNANSWERED: &str = "unanswered";
    pub const PINGER_CUT: &str = "pinger_cut";
    pub const QUIET_CUT: &str = "quiet_cut";
    pub const EXPIRED: &str = "expired";
    pub const HOSTILE: &str = "hostile_per_s";
    pub const REFUSED: &str = "hostile_refused";
    pub const CUT: &str = "hostile_cut";
    pub const PEAK: &str = "server_peak_rss_mib";
}

fn figures(fate: &Fate, harm: Harm, seconds: f64, peak_kib: Option<u64>) -> Figures {
    let yes = |is: bool| f64::from(u8::from(is));
    let figures = [
        (key::P50, fate.latency.p50),
        (key::P99, fate.latency.p99),
        (key::MAX, fate.latency.max),
        (key::DUE_P99, fate.due.p99),
        (key::LAG_P99, fate.lag.p99),
        (key::UNANSWERED, fate.unanswered as f64),
        (key::PINGER_CUT, yes(fate.pinger_cut)),
        (key::QUIET_CUT, yes(fate.quiet == Survival::Cut)),
        (key::EXPIRED, yes(fate.quiet == Survival::Expired)),
        (key::HOSTILE, harm.answered as f64 / seconds),
        (key::REFUSED, harm.refused as f64),
        (key::CUT, harm.cut as f64),
    ];
    let peak = peak_kib.map(|kib| (key::PEAK, kib as f64 / 1024.0));
    named(figures.into_iter().chain(peak))
}

/// A turn in a few words.
fn told(record: &Record) -> String {
    format!(
        "ping p50 {} µs, p99 {} µs, max {} µs; {} hostile answers/s",
        record.told(key::P50),
        record.told(key::P99),
        record.told(key::MAX),
        record.told(key::HOSTILE)
    )
}

/// What a server's pairs in a case come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Measured {
    /// Median over the pairs, µs.
    p50: f64,
    /// Median over the pairs, µs.
    p99: f64,
    /// Pings without an answer, sessions that expired or lost their connection, runs without figures.
    victims: f64,
}

impl Measured {
    fn of(records: &Records, case: &str, server: &str) -> Option<Measured> {
        let values = |name| records.values(case, server, name);
        let median = |name| Some(Spread::of(values(name))?.median);
        let victims = [
            key::UNANSWERED,
            key::PINGER_CUT,
            key::QUIET_CUT,
            key::EXPIRED,
        ];
        let failed = records.of(case, server).filter(|r| !r.failures.is_empty());
        Some(Measured {
            p50: median(key::P50)?,
            p99: median(key::P99)?,
            victims: victims.into_iter().flat_map(values).sum::<f64>() + failed.count() as f64,
        })
    }
}

/// What is not as it should be; nothing if the server is fair.
fn faults(ours: Measured, apache: Option<Measured>) -> Vec<&'static str> {
    let behind = |ours: f64, apache: Option<f64>| {
        ours > UNDISPUTED_US && apache.is_some_and(|apache| ours >= apache)
    };
    let rows = [
        (
            ours.victims > 0.0,
            "others lost their session, connection or answers",
        ),
        (ours.p50 > P50_US_MAX, "p50 above 5 ms"),
        (ours.p99 > P99_US_MAX, "p99 above 25 ms"),
        (
            behind(ours.p50, apache.map(|a| a.p50)),
            "p50 behind Apache's",
        ),
        (
            behind(ours.p99, apache.map(|a| a.p99)),
            "p99 behind Apache's",
        ),
    ];
    let faults = rows.into_iter().filter(|(is, _)| *is);
    faults.map(|(_, sentence)| sentence).collect()
}

impl Trial<'_> {
    fn verdict(&self, records: &Records, case: &str, server: &str) -> String {
        if server == APACHE {
            return "—".into();
        }
        let Some(ours) = Measured::of(records, case, server) else {
            return "none: not measured".into();
        };
        let apache = Measured::of(records, case, APACHE);
        if apache.is_none() && self.args.subjects.against == Against::Apache {
            return "none: Apache's was not measured".into();
        }
        match faults(ours, apache).as_slice() {
            [] => "fair".into(),
            faults => format!("UNFAIR: {}", faults.join(", ")),
        }
    }

    fn line(&self, records: &Records, case: &str, server: &str) -> String {
        let spread = |name| Spread::of(records.values(case, server, name));
        let range = |name| Spread::told(spread(name));
        let median = |name| outcome::told(spread(name).map(|s| s.median));
        let longest = outcome::told(spread(key::MAX).map(|s| s.high));
        let sum = |name| figure(records.values(case, server, name).iter().sum());
        format!(
            "| {case} | {server} | {} | {} | {longest} | {} | {} | {} | {} | {} | {} | {} |\n",
            range(key::P50),
            range(key::P99),
            median(key::LAG_P99),
            sum(key::UNANSWERED),
            sum(key::EXPIRED),
            median(key::HOSTILE),
            sum(key::CUT),
            median(key::PEAK),
            self.verdict(records, case, server),
        )
    }
}

impl Measurement for Trial<'_> {
    const NAME: &'static str = "fairness";
    const PREFIX: &'static str = "fairness-";

    fn facts(&self) -> Result<Value, Failure> {
        let args = self.args;
        let own = json!({
            "pings_per_s": args.rate,
            "seconds": args.seconds.as_secs_f64(),
            "prewarm": args.prewarm.as_secs_f64(),
            "pinned": self.pin.is_some(),
        });
        let ours = &args.subjects.ours;
        measurement::facts(ours, &self.dir, [self.subjects.facts()?, own])
    }

    fn left(&self, journal: &Journal, pair: usize) -> usize {
        self.open(journal, pair).len() * self.subjects.names.len()
    }

    fn pair(&self, pair: usize, turns: &mut Turns) -> Result<(), Failure> {
        let open = self.open(&turns.journal, pair);
        if open.is_empty() {
            return Ok(());
        }
        let scratch = self.dir.join(format!("fair-{}-{pair}", std::process::id()));
        eprintln!("pair {pair}: starting the servers");
        let start = |name: &String| self.start(name, &scratch);
        let servers: Result<Vec<_>, _> = self.subjects.names.iter().map(start).collect();
        let mut servers = measurement::in_order(pair, servers?);
        for case in open {
            for server in &mut servers {
                let place = (pair, case.name.as_str(), server.name.as_str());
                turns.take(place, || self.turn(pair, case, server), told)?;
                if Control::open(server.address).map(Control::close).is_err() {
                    eprintln!("{}: does not answer any more, starting anew", server.name);
                    *server = self.start(&server.name.clone(), &scratch)?;
                }
            }
        }
        eprintln!("pair {pair}: stopping");
        drop(servers);
        store::remove(&scratch)
    }

    fn tables(&self, records: &Records) -> String {
        let mut text = String::from(
            "| hostile clients | server | ping p50 µs: median (lowest–highest) | p99 µs | longest µs \
             | the generator's lag p99 µs | unanswered | expired | hostile answers/s | hostile cut \
             | peak RSS MiB | verdict |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for case in &self.cases {
            for server in &self.subjects.names {
                text += &self.line(records, &case.name, server);
            }
        }
        text
    }

    fn failures(&self, records: &Records) -> Vec<String> {
        let of_case = |case: &Case| records.failures(&case.name);
        self.cases.iter().flat_map(of_case).collect()
    }

    fn warnings(&self, _: &Records) -> Vec<String> {
        let is_short = self.args.seconds < Duration::from_millis(2 * QUIET_TIMEOUT_MS as u64);
        let warning = || {
            format!(
                "whether a session of {} s expires shows only in longer runs: take 8 s or more with \
                 --seconds",
                QUIET_TIMEOUT_MS / 1000
            )
        };
        is_short.then(warning).into_iter().collect()
    }

    fn json(&self, records: &Records) -> Value {
        let of_server = |case: &str, server: &str| {
            let keys = [key::P50, key::P99, key::MAX, key::HOSTILE, key::PEAK];
            json!({
                "row": case, "server": server,
                "figures": ratios::spreads(records, case, server, &keys),
                "verdict": self.verdict(records, case, server),
            })
        };
        let of_case = |case: &Case| {
            let servers = self.subjects.names.iter();
            let rows = servers.map(|server| of_server(&case.name, server));
            rows.collect::<Vec<_>>()
        };
        let rows: Vec<Value> = self.cases.iter().flat_map(of_case).collect();
        json!({"rows": rows, "warnings": records.warnings()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        fairness: FairnessArgs,
    }

    fn measured(p50: f64, p99: f64) -> Measured {
        Measured {
            p50,
            p99,
            victims: 0.0,
        }
    }

    #[test]
    fn fair_is_quick_and_ahead_of_apache_or_beyond_dispute() {
        let apache = Some(measured(900.0, 8_000.0));
        let none: [&str; 0] = [];
        assert_eq!(faults(measured(400.0, 7_000.0), apache), none);
        assert_eq!(faults(measured(950.0, 990.0), apache), none, "below 1 ms");
        assert_eq!(faults(measured(4_999.0, 24_999.0), None), none);
        assert_eq!(
            faults(measured(1_001.0, 8_000.0), apache),
            ["p50 behind Apache's", "p99 behind Apache's"]
        );
        assert_eq!(
            faults(measured(5_001.0, 25_001.0), Some(measured(1e6, 1e6))),
            ["p50 above 5 ms", "p99 above 25 ms"]
        );
        let mut cruel = measured(1.0, 1.0);
        cruel.victims = 1.0;
        assert_eq!(faults(cruel, apache).len(), 1);
    }

    fn fate(quiet: Survival) -> Fate {
        Fate {
            latency: Default::default(),
            due: Default::default(),
            lag: Default::default(),
            unanswered: 0,
            pinger_cut: false,
            quiet,
            ran_first: true,
        }
    }

    #[test]
    fn an_expired_session_makes_a_server_unfair_in_whatever_pair_it_was() {
        let record = |pair, quiet| {
            let figures = figures(&fate(quiet), Harm::default(), 1.0, None);
            Record::new((pair, "ping-1", "ours-0"), figures)
        };
        let line = Line::parse_from(["fairness", "--against", "none", "--dir", "/tmp"]);
        let trial = Trial::prepare(&line.fairness).unwrap();
        let verdict =
            |records: &[Record]| trial.verdict(&Records(records.to_vec()), "ping-1", "ours-0");
        let [fine, cut, expired] =
            [Survival::Lives, Survival::Cut, Survival::Expired].map(|quiet| record(2, quiet));
        let first = record(1, Survival::Lives);
        assert_eq!(verdict(&[first.clone(), fine]), "fair");
        assert!(verdict(&[first.clone(), expired]).starts_with("UNFAIR: others lost"));
        assert!(verdict(&[first.clone(), cut]).starts_with("UNFAIR"));
        let failed = Record::failed(2, "ping-1", "ours-0", "stalled".into());
        assert!(verdict(&[first, failed]).starts_with("UNFAIR"));
        assert_eq!(verdict(&[]), "none: not measured");
    }

    #[test]
    fn every_attack_is_made_by_every_number_of_clients() {
        let line = Line::parse_from(["fairness", "--against", "none", "--dir", "/tmp"]);
        let trial = Trial::prepare(&line.fairness).unwrap();
        let names: Vec<&str> = trial.cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[..3], ["ping-1", "ping-4", "get-1MB-1"]);
        assert_eq!(trial.subjects.names, ["ours-0", "ours-2"]);
    }
}
