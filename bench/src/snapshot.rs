//! What a snapshot costs those who write meanwhile: an open loop of sets, at first undisturbed, then while our
//! server makes a snapshot of a large tree.
//!
//! A store is made once: filled, one snapshot made of it, then some of its znodes are set again and again until
//! the log is so long that the next snapshot is due by `snapCount` alone. Each pair starts the server on a copy,
//! with a `snapCount` that the open loop itself reaches when the undisturbed half is over. When the snapshot
//! began is known from its name, which is the zxid of its state, and from the zxids of the replies; when it
//! ended, from the moment at which its name was there. The halves are of equal length: the disturbed one lasts
//! until a moment after the snapshot's end, the undisturbed one lies right before it.
//!
//! A hypervisor that gives the processors to somebody else in one half and not in the other one says nothing
//! about snapshots: such a pair is taken again, whatever it brought, and the report says how often.

use crate::content::{self, Filling};
use crate::control::{self, Control};
use crate::failure::Failure;
use crate::journal::{Figures, Journal, Record, Records, named};
use crate::load::{Places, Worker};
use crate::measurement::{self, Measurement, Output, Turns};
use crate::outcome::{Latency, Outcome, figure};
use crate::plan::{self, OPEN_OUTSTANDING_MAX, Pace, Plan, Workload};
use crate::procfs::{self, Memory};
use crate::ratios::{PAIRS_MIN, Spread};
use crate::servers::{self, Server};
use crate::store::{self, Store};
use crate::tally::{self, Answered, Clock, Tally, Window};
use crate::{machine, repository, workers};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// p99 and p99.9 with a snapshot, by those without.
const RATIO_MAX: f64 = 1.5;
/// A reply that takes longer is late.
const LATE_NS: u64 = 20_000_000;
/// Memory that a snapshot may take besides twice what has changed, MiB.
const EXTRA_MIB: f64 = 64.0;
/// What belongs to the disturbed half behind the snapshot's end: removing of older ones, writing back.
const AFTER_NS: u64 = 1_000_000_000;
/// And before its beginning: requests that were due then are answered when it has begun.
const BEFORE_NS: u64 = 50_000_000;
/// A pair in whose halves a hypervisor kept more of the processors is taken again.
const STOLEN_MAX: f64 = 0.01;
/// How often a pair is taken at most; the last time counts in any case.
const TAKES_MAX: usize = 10;
/// Between two looks at memory and files.
const LOOK: Duration = Duration::from_millis(25);
/// The first snapshot of a store takes no longer.
const FIRST_SNAPSHOT: Duration = Duration::from_secs(900);
/// A `snapCount` that is never reached.
const NEVER: u64 = 1 << 40;
/// Transactions beside those of the open loop: sessions, its nodes.
const OTHERS: u64 = 200;
/// The log behind the last snapshot exceeds half of its bytes by so much, tenths of the snapshot.
const LOG_TENTHS: u64 = 6;
/// The undisturbed and the disturbed half, as servers are called in a comparison.
const HALVES: [&str; 2] = ["undisturbed", "snapshot"];

/// The arguments of the measurement of snapshots.
#[derive(Args)]
pub struct SnapshotArgs {
    /// Our server's binary.
    #[arg(long, value_name = "PATH", default_value = "target/release/ringkeeper")]
    ours: PathBuf,
    /// Shards of the server.
    #[arg(long, default_value_t = 0, value_name = "N")]
    shards: usize,
    /// Znodes of 100 bytes of data.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    znodes: usize,
    /// Znodes that are set again behind the last snapshot (a tenth of all).
    #[arg(long, value_name = "N")]
    changed: Option<usize>,
    /// How often there are two halves.
    #[arg(long, default_value_t = PAIRS_MIN, value_name = "N")]
    pairs: usize,
    /// Sets per second.
    #[arg(long, default_value_t = 2000.0, value_name = "N")]
    rate: f64,
    /// Connections.
    #[arg(short = 'c', long, default_value_t = 64, value_name = "N")]
    connections: usize,
    /// What the undisturbed half lasts, and the snapshot at most, s.
    #[arg(long, default_value = "30", value_parser = plan::seconds)]
    seconds: Duration,
    /// What goes before the undisturbed half, s.
    #[arg(long, default_value = "3", value_parser = plan::seconds)]
    warmup: Duration,
    /// Leave the generator free instead of keeping it on the last CPU.
    #[arg(long)]
    unpinned: bool,
    #[command(flatten)]
    output: Output,
}

/// Measures, prints, and writes everything to a directory of its own.
pub fn main(args: &SnapshotArgs) -> Result<bool, Failure> {
    measurement::take(&Trial::prepare(args)?, args.pairs, &args.output)
}

/// Arguments, resolved.
struct Trial<'a> {
    args: &'a SnapshotArgs,
    row: String,
    changed: usize,
    pin: Option<usize>,
    dir: PathBuf,
    store: Store,
}

impl<'a> Trial<'a> {
    fn prepare(args: &'a SnapshotArgs) -> Result<Trial<'a>, Failure> {
        let no = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
        let changed = args.changed.unwrap_or(args.znodes / 10);
        if args.pairs == 0 || args.connections == 0 || args.seconds.is_zero() {
            return no("--pairs, --connections and --seconds are more than 0");
        }
        if !(args.rate.is_finite() && (1.0..=100_000.0).contains(&args.rate)) {
            return no("--rate is 1 to 100000");
        }
        if !(1..=args.znodes).contains(&changed) {
            return no("--changed is 1 to --znodes");
        }
        let dir = repository::scratch(args.output.dir.as_deref())?;
        let content = servers::content(&args.ours)?;
        let kept = dir.join(format!("store-{}-{changed}-{content}", args.znodes));
        let store = Store::kept(&kept, |dir| make_store(args, changed, dir))?;
        Ok(Trial {
            args,
            row: format!("snapshot-{}", args.znodes),
            changed,
            pin: machine::default_pin().filter(|_| !args.unpinned),
            dir,
            store,
        })
    }

    /// Bytes that have changed since the last snapshot when the next one is made.
    fn changed_bytes(&self) -> u64 {
        content::bytes(self.changed) + content::bytes(self.args.connections)
    }

    /// Both records of a pair.
    fn halves(&self, pair: usize) -> [Record; 2] {
        let scratch = self.dir.join(format!("snapshot-{}", std::process::id()));
        let seen = self.run(&scratch);
        let removed = store::remove(&scratch);
        let halves = seen.and_then(|seen| {
            let halves = seen.halves(self.changed_bytes())?;
            removed?;
            Ok((halves, seen))
        });
        match halves {
            Ok((figures, seen)) => {
                let mut records = figures.into_iter().zip(HALVES).map(|(figures, half)| {
                    Record::of((pair, &self.row, half), &seen.outcome, figures)
                });
                [(); 2].map(|()| records.next().expect("two halves"))
            }
            Err(e) => HALVES.map(|half| Record::failed(pair, &self.row, half, e.to_string())),
        }
    }

    /// Starts the server on a copy of the store and drives it until its snapshot is made.
    fn run(&self, scratch: &Path) -> Result<Seen, Failure> {
        let args = self.args;
        store::remove(scratch)?;
        self.store.copy_to(scratch)?;
        let behind = self.store.number("last_zxid")? - self.store.number("base_zxid")?;
        let ahead = args.rate * (args.warmup + args.seconds).as_secs_f64();
        let due = behind.unsigned_abs() + ahead as u64 + OTHERS;
        let before = store::snapshots(scratch);
        store::forget_files();
        let server = Server::begin_ours("ours", &args.ours, &lines(args.shards, due), scratch)?;
        let server = server.serving()?;
        // In operation nothing of the last snapshot is in memory any more.
        let cold = store::forget_files();
        let mut plan = Plan::new(Workload::Set, server.address, args.connections, 1);
        plan.pace = Pace::Open {
            rate: args.rate,
            outstanding_max: OPEN_OUTSTANDING_MAX,
        };
        plan.data_bytes = content::DATA_BYTES;
        plan.warmup = args.warmup;
        // Requests beyond are due before the snapshot begins, and behind its end.
        plan.measured = 2 * args.seconds + Duration::from_secs(3);
        plan.pin = self.pin;
        plan.pids = vec![server.pid()];
        plan.check()?;
        let driven = drive(&plan, &server, scratch, &before)?;
        server.stop();
        let outcome = Outcome::new(
            &plan,
            &driven.tally,
            driven.looks.last().map(|l| l.memory),
            0,
        );
        Ok(Seen {
            answered: driven.tally.answered.unwrap_or_default(),
            looks: driven.looks,
            made: driven.made,
            undisturbed: args.seconds,
            cold,
            outcome,
        })
    }
}

/// Further lines of `zoo.cfg`.
fn lines(shards: usize, snap_count: u64) -> String {
    format!("shards={shards}\nsnapCount={snap_count}\n")
}

/// Fills a store, has one snapshot made of it, and writes so much behind it that the next one is due by
/// `snapCount` alone.
fn make_store(args: &SnapshotArgs, changed: usize, dir: &Path) -> Result<Value, Failure> {
    let start = |snap_count| {
        Server::begin_ours("ours", &args.ours, &lines(args.shards, snap_count), dir)?.serving()
    };
    eprintln!("making a store of {} znodes, once", args.znodes);
    let server = start(NEVER)?;
    content::fill(server.address, args.znodes, Filling::Together)?;
    server.stop();
    let server = start(2)?;
    let (base_zxid, snapshot_bytes) = first_snapshot(dir, &server)?;
    server.stop();
    let server = start(NEVER)?;
    let logged = || {
        let bytes = control::figure_of(server.address, "zk_log_bytes")?;
        bytes.ok_or_else(|| Failure::Protocol("mntr has no zk_log_bytes".into()))
    };
    let mut round = 0;
    while logged()? * 10 < snapshot_bytes * LOG_TENTHS || round == 0 {
        round += 1;
        content::change(server.address, args.znodes, changed, round)?;
    }
    let log_bytes = logged()?;
    let last_zxid = control::last_zxid(server.address)?;
    server.stop();
    Ok(json!({
        "znodes": args.znodes, "changed": changed, "rounds": round, "snapshot_bytes": snapshot_bytes,
        "log_bytes": log_bytes, "base_zxid": base_zxid, "last_zxid": last_zxid,
    }))
}

/// Waits for it; its zxid and its bytes.
fn first_snapshot(dir: &Path, server: &Server) -> Result<(i64, u64), Failure> {
    let begun = Instant::now();
    let mut poked = 0;
    loop {
        if let Some((&zxid, &bytes)) = store::snapshots(dir).last_key_value() {
            return Ok((zxid, bytes));
        }
        if begun.elapsed() > FIRST_SNAPSHOT {
            return Err(server.failure());
        }
        // Sessions are transactions: a few in all, so that one is due whatever the start has counted.
        if poked < 4 {
            Control::open(server.address)?.close();
            poked += 1;
        }
        thread::sleep(LOOK);
    }
}

/// A look at the server's memory, whose peak is that since the look before, and at the machine.
#[derive(Clone, Copy, Debug)]
struct Look {
    at_ns: u64,
    memory: Memory,
    /// Since boot.
    stolen_us: u64,
}

/// A snapshot that has got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    zxid: i64,
    bytes: u64,
    at_ns: u64,
}

struct Driven {
    tally: Tally,
    looks: Vec<Look>,
    made: Option<Made>,
}

/// The open loop, until a moment after the snapshot is made, or until its time is over.
fn drive(
    plan: &Plan,
    server: &Server,
    dir: &Path,
    before: &BTreeMap<i64, u64>,
) -> Result<Driven, Failure> {
    let places = Places {
        parent: "/rkbench-snapshot".to_owned(),
    };
    let mut control = Control::open(server.address)?;
    control.create([places.parent.clone()], b"")?;
    let nodes = (0..plan.nodes).map(|at| places.node(at));
    control.create(nodes, &vec![b'd'; plan.data_bytes])?;
    control.close();
    let streams = control::open(&plan.targets, plan.connections)?;
    let share = streams.into_iter().enumerate().collect::<Vec<_>>();
    let clock = Clock::start();
    let window = Window::after(clock.ns(), plan.warmup, plan.measured);
    let (enough, over) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(server.pid(), dir, before, clock, &enough, &over));
        let done = workers::each_on_a_thread(plan, [share], |number, share| {
            let worker = Worker::new(plan, &places, share, (clock, window), (number, 1))?;
            worker.tracing(enough.clone()).run()
        });
        over.store(true, Ordering::Relaxed);
        let lost = || Failure::Protocol("the thread that looks at the server panicked".into());
        let (looks, made) = watcher.join().map_err(|_| lost())?;
        let done = done?.remove(0);
        let streams = done.streams.into_iter().map(|(stream, _)| stream);
        control::close(streams.collect());
        Ok(Driven {
            tally: done.tally,
            looks,
            made,
        })
    })
}

/// Looks at the server's memory and its files until the load is over; says when there is enough of it.
fn watch(
    pid: u32,
    dir: &Path,
    before: &BTreeMap<i64, u64>,
    clock: Clock,
    enough: &AtomicBool,
    over: &AtomicBool,
) -> (Vec<Look>, Option<Made>) {
    let (mut looks, mut made) = (Vec::new(), None);
    procfs::forget_peak(pid);
    while !over.load(Ordering::Relaxed) {
        if let Some(memory) = procfs::memory(&[pid]) {
            procfs::forget_peak(pid);
            let at_ns = clock.ns();
            looks.push(Look {
                at_ns,
                memory,
                stolen_us: procfs::stolen_us(),
            });
        }
        if made.is_none() {
            let new = store::snapshots(dir).into_iter();
            made = new
                .filter(|(zxid, _)| !before.contains_key(zxid))
                .map(|(zxid, bytes)| Made {
                    zxid,
                    bytes,
                    at_ns: clock.ns(),
                })
                .next();
        }
        let ended = made.is_some_and(|made: Made| clock.ns() > made.at_ns + AFTER_NS);
        enough.store(ended, Ordering::Relaxed);
        thread::sleep(LOOK);
    }
    (looks, made)
}

/// All that a pair has brought.
struct Seen {
    answered: Vec<Answered>,
    looks: Vec<Look>,
    made: Option<Made>,
    /// What the undisturbed half may have.
    undisturbed: Duration,
    cold: bool,
    outcome: Outcome,
}

/// Names of the figures.
mod key {
    pub const P50: &str = "p50_us";
    pub const P99: &str = "p99_us";
    pub const P999: &str = "p99.9_us";
    pub const MAX: &str = "max_us";
    pub const LATE: &str = "replies_later_than_20_ms";
    pub const COUNT: &str = "replies";
    pub const RSS: &str = "peak_rss_mib";
    pub const ANON: &str = "anonymous_mib";
    pub const EXTRA: &str = "extra_rss_mib";
    pub const EXTRA_ANON: &str = "extra_anonymous_mib";
    pub const ALLOWED: &str = "allowed_extra_mib";
    pub const CHANGED: &str = "changed_mib";
    pub const SECONDS: &str = "snapshot_s";
    pub const BYTES: &str = "snapshot_mib";
    pub const COLD: &str = "cold";
    pub const STOLEN: &str = "stolen_share";
}

impl Seen {
    /// Figures of both halves.
    fn halves(&self, changed_bytes: u64) -> Result<[Figures; 2], Failure> {
        let told = |sentence: String| Failure::Usage(sentence);
        let made = self.made.ok_or_else(|| {
            told(format!(
                "no snapshot was made within {} s: take more with --seconds",
                self.undisturbed.as_secs_f64()
            ))
        })?;
        let began_ns = began(&self.answered, made.zxid)
            .ok_or_else(|| told("the snapshot was made of a state before the load".to_owned()))?;
        let middle_ns = began_ns.saturating_sub(BEFORE_NS);
        let length_ns = made.at_ns + AFTER_NS - middle_ns;
        let first_ns = self.answered.iter().map(|answered| answered.due_ns).min();
        if middle_ns.checked_sub(length_ns) < first_ns {
            return Err(told(format!(
                "the snapshot took {:.1} s, longer than the undisturbed half: take more with --seconds",
                length_ns as f64 / 1e9
            )));
        }
        let windows = [middle_ns - length_ns, middle_ns].map(|begin_ns| Window {
            begin_ns,
            end_ns: begin_ns + length_ns,
        });
        let [mut quiet, mut disturbed] = windows.map(|window| self.half(window));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let more = |name| disturbed[name] - quiet[name];
        let (extra, extra_anon) = (more(key::RSS), more(key::ANON));
        for half in [&mut quiet, &mut disturbed] {
            half.insert(key::COLD.into(), f64::from(u8::from(self.cold)));
        }
        let of_snapshot = [
            (key::EXTRA, extra),
            (key::EXTRA_ANON, extra_anon),
            (key::CHANGED, mib(changed_bytes)),
            (key::ALLOWED, EXTRA_MIB + 2.0 * mib(changed_bytes)),
            (key::SECONDS, (made.at_ns - began_ns) as f64 / 1e9),
            (key::BYTES, mib(made.bytes)),
        ];
        disturbed.extend(named(of_snapshot));
        Ok([quiet, disturbed])
    }

    fn half(&self, window: Window) -> Figures {
        let mut latencies = tally::histogram();
        let mut late = 0;
        for answered in self.answered.iter().filter(|a| window.contains(a.due_ns)) {
            let served_ns = answered.served_ns();
            latencies.saturating_record(served_ns.max(1));
            late += u64::from(served_ns > LATE_NS);
        }
        let latency = Latency::of(&latencies);
        let looks = || self.looks.iter().filter(|look| window.contains(look.at_ns));
        let stolen = |look: &Look| procfs::Sample {
            at_ns: look.at_ns,
            stolen_us: look.stolen_us,
            ..procfs::Sample::default()
        };
        let ends = Option::zip(looks().next().map(stolen), looks().next_back().map(stolen));
        let stolen = ends.map_or(0.0, |(begin, end)| {
            procfs::share(&begin, &end, end.stolen_us.saturating_sub(begin.stolen_us))
        });
        let most = |of: fn(&Memory) -> u64| {
            let kib = looks().map(|look| of(&look.memory)).max().unwrap_or(0);
            kib as f64 / 1024.0
        };
        named([
            (key::P50, latency.p50),
            (key::P99, latency.p99),
            (key::P999, latency.p999),
            (key::MAX, latency.max),
            (key::LATE, late as f64),
            (key::COUNT, latency.count as f64),
            (key::RSS, most(|memory| memory.peak_kib)),
            (key::ANON, most(|memory| memory.anon_kib)),
            (key::STOLEN, stolen),
        ])
    }
}

/// When the first answer came whose state the snapshot holds, or a later one.
fn began(answered: &[Answered], zxid: i64) -> Option<u64> {
    let of_it = answered.iter().filter(|answered| answered.zxid >= zxid);
    let began = of_it.map(Answered::at_ns).min()?;
    // Before it there must be others, or the load has not seen its beginning.
    let earlier = |answered: &Answered| answered.zxid != 0 && answered.zxid < zxid;
    answered.iter().any(earlier).then_some(began)
}

/// Whether a hypervisor had no part in what the halves brought.
fn is_undisputed(halves: &[Record; 2]) -> bool {
    let stolen = |half: &Record| half.value(key::STOLEN).unwrap_or(0.0);
    halves.iter().all(|half| stolen(half) <= STOLEN_MAX)
}

/// How often pairs were taken again, and what the hypervisor kept in those.
fn taken_again(records: &Records, row: &str) -> Option<String> {
    let all = |half| {
        records
            .0
            .iter()
            .filter(move |r| r.row == row && r.server == half)
    };
    let again = all(HALVES[0]).count() - records.of(row, HALVES[0]).count();
    let most = |half| {
        all(half)
            .filter_map(|r| r.value(key::STOLEN))
            .fold(0.0, f64::max)
    };
    let late = |half| all(half).filter_map(|r| r.value(key::LATE)).sum::<f64>();
    let late_of_all = HALVES.map(late).map(figure);
    let percent = HALVES.map(|half| figure(100.0 * most(half)));
    (again > 0).then(|| {
        format!(
            "pairs taken again: {again}, because the hypervisor kept more than {} % of the processors in \
             one of its halves (at most {} % in an undisturbed one, {} % in one with a snapshot); with those, \
             {} replies were late in undisturbed halves, {} in those with a snapshot",
            figure(100.0 * STOLEN_MAX),
            percent[0],
            percent[1],
            late_of_all[0],
            late_of_all[1],
        )
    })
}

/// A pair in a few words.
fn told([undisturbed, disturbed]: &[Record; 2]) -> String {
    format!(
        "p99 {} and {} µs, late {} and {}, stolen {} and {}, {} s, {} MiB more",
        undisturbed.told(key::P99),
        disturbed.told(key::P99),
        undisturbed.told(key::LATE),
        disturbed.told(key::LATE),
        undisturbed.told(key::STOLEN),
        disturbed.told(key::STOLEN),
        disturbed.told(key::SECONDS),
        disturbed.told(key::EXTRA),
    )
}

/// A bound, and what was measured.
struct Judged {
    what: &'static str,
    measured: String,
    at_most: String,
    met: Option<bool>,
}

/// What the issue of snapshots asks for, pair by pair.
fn judge(records: &Records, row: &str) -> Vec<Judged> {
    let paired = |name| records.paired(row, (HALVES[1], HALVES[0]), name);
    let enough = paired(key::P99).len() >= PAIRS_MIN;
    let ratio = |what, name| {
        let spread = Spread::of(paired(name).iter().map(|(with, without)| with / without));
        Judged {
            what,
            measured: Spread::told(spread),
            at_most: figure(RATIO_MAX),
            met: spread.filter(|_| enough).map(|s| s.median <= RATIO_MAX),
        }
    };
    let late = paired(key::LATE);
    let more = late.iter().filter(|(with, without)| with > without).count();
    let sum = |of: fn(&(f64, f64)) -> f64| {
        figure(late.iter().map(of).fold(0.0, |sum, value| sum + value))
    };
    let values = |name| records.values(row, HALVES[1], name);
    let over = values(key::EXTRA).into_iter().zip(values(key::ALLOWED));
    let over = Spread::of(over.map(|(extra, allowed)| extra - allowed));
    vec![
        ratio("p99, with a snapshot by without", key::P99),
        ratio("p99.9, with a snapshot by without", key::P999),
        Judged {
            what: "replies later than 20 ms",
            measured: format!(
                "{} with, {} without; more in {more} of {} pairs",
                sum(|pair| pair.0),
                sum(|pair| pair.1),
                late.len()
            ),
            at_most: "no more in any pair".into(),
            met: enough.then_some(more == 0),
        },
        Judged {
            what: "memory, MiB more",
            measured: Spread::told(Spread::of(values(key::EXTRA))),
            at_most: Spread::told(Spread::of(values(key::ALLOWED))),
            met: over.filter(|_| enough).map(|over| over.high <= 0.0),
        },
    ]
}

impl Measurement for Trial<'_> {
    const NAME: &'static str = "snapshot";
    const PREFIX: &'static str = "snapshot-";

    fn facts(&self) -> Result<Value, Failure> {
        let args = self.args;
        let own = json!({
            "shards": args.shards,
            "store": self.store.facts,
            "rate": args.rate,
            "connections": args.connections,
            "seconds": args.seconds.as_secs_f64(),
            "warmup": args.warmup.as_secs_f64(),
            "pinned": self.pin.is_some(),
        });
        measurement::facts(&args.ours, &self.dir, [own])
    }

    fn left(&self, journal: &Journal, pair: usize) -> usize {
        usize::from(!journal.has(pair, &self.row, &HALVES))
    }

    fn pair(&self, pair: usize, turns: &mut Turns) -> Result<(), Failure> {
        if self.left(&turns.journal, pair) == 0 {
            return Ok(());
        }
        let mut is_undisputed = false;
        for _ in 0..TAKES_MAX {
            if is_undisputed {
                break;
            }
            turns.keep(&format!("pair {pair} {}", self.row), || {
                let halves = self.halves(pair);
                is_undisputed = self::is_undisputed(&halves);
                Ok((told(&halves), halves))
            })?;
        }
        Ok(())
    }

    fn tables(&self, records: &Records) -> String {
        let row = &self.row;
        let mut text = String::from("| figure | measured | at most | |\n|---|---|---|---|\n");
        for judged in judge(records, row) {
            let verdict = measurement::verdict(judged.met);
            let [measured, at_most] = [judged.measured, judged.at_most];
            text += &format!("| {} | {measured} | {at_most} | {verdict} |\n", judged.what);
        }
        text += "\n| pair | half | replies | p50 µs | p99 µs | p99.9 µs | longest µs | later than 20 ms | \
                 peak RSS MiB | anonymous MiB | MiB more | anonymous MiB more | changed MiB | snapshot s | \
                 snapshot MiB | stolen |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
        for pair in 1..=records.pairs() {
            for half in HALVES {
                let found = records.find(pair, row, half);
                let of = |name: &str| found.map_or("—".into(), |record| record.told(name));
                let columns = [
                    key::COUNT,
                    key::P50,
                    key::P99,
                    key::P999,
                    key::MAX,
                    key::LATE,
                    key::RSS,
                    key::ANON,
                    key::EXTRA,
                    key::EXTRA_ANON,
                    key::CHANGED,
                    key::SECONDS,
                    key::BYTES,
                    key::STOLEN,
                ];
                let columns = columns.map(of).join(" | ");
                text += &format!("| {pair} | {half} | {columns} |\n");
            }
        }
        text
    }

    fn failures(&self, records: &Records) -> Vec<String> {
        records.failures(&self.row)
    }

    fn warnings(&self, records: &Records) -> Vec<String> {
        let values = |name| records.values(&self.row, HALVES[1], name);
        let mut warnings = Vec::from_iter(taken_again(records, &self.row));
        if values(key::COLD).contains(&0.0) {
            let sentence =
                "the page cache could not be emptied, which is root's: snapshots read from memory";
            warnings.push(sentence.to_owned());
        }
        if let Some(least) = Spread::of(values(key::COUNT))
            && least.low < 10_000.0
        {
            warnings.push(format!(
                "{} replies in a half are few for p99.9: take a greater --rate or more znodes",
                figure(least.low)
            ));
        }
        warnings
    }

    fn json(&self, records: &Records) -> Value {
        let judged: Vec<Value> = judge(records, &self.row)
            .into_iter()
            .map(|judged| {
                json!({
                    "what": judged.what, "measured": judged.measured, "at_most": judged.at_most,
                    "verdict": measurement::verdict(judged.met),
                })
            })
            .collect();
        json!({
            "judged": judged,
            "failures": records.failures(&self.row), "warnings": records.warnings(),
            "taken_again": taken_again(records, &self.row),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ratios::PAIRS_MIN;

    const MS: u64 = 1_000_000;

    /// 1,000 sets a second for ten seconds, each answered after 1 ms and 0.2 ms of the generator's; from the
    /// 6,000th on for two seconds one in ten takes 30 ms. The zxid is the number of the set from 1.
    fn answered() -> Vec<Answered> {
        let one = |number: u64| {
            let slow = (6_000..8_000).contains(&number) && number.is_multiple_of(10);
            Answered {
                due_ns: number * MS,
                latency_ns: if slow { 30 * MS } else { MS } + MS / 5,
                lag_ns: MS / 5,
                zxid: number as i64 + 1,
            }
        };
        (0..10_000).map(one).collect()
    }

    fn seen(made: Option<Made>) -> Seen {
        let look = |number: u64| {
            let mib = if (240..320).contains(&number) {
                150
            } else {
                100
            };
            let memory = Memory {
                rss_kib: 1,
                anon_kib: mib << 9,
                peak_kib: mib << 10,
            };
            // A tenth of one CPU, in the disturbed half only.
            Look {
                at_ns: number * 25 * MS,
                memory,
                stolen_us: number.saturating_sub(240) * 2_500,
            }
        };
        let plan = Plan::new(Workload::Set, "127.0.0.1:1".parse().unwrap(), 1, 1);
        Seen {
            answered: answered(),
            looks: (0..400).map(look).collect(),
            made,
            undisturbed: Duration::from_secs(5),
            cold: true,
            outcome: Outcome::new(&plan, &Tally::default(), None, 0),
        }
    }

    fn made(zxid: i64, at_ms: u64) -> Option<Made> {
        Some(Made {
            zxid,
            bytes: 200 << 20,
            at_ns: at_ms * MS,
        })
    }

    #[test]
    fn the_halves_are_of_one_length_and_the_disturbed_one_has_what_the_snapshot_did() {
        let [quiet, disturbed] = seen(made(6_001, 8_000)).halves(8 << 20).unwrap();
        assert!((quiet[key::COUNT] - disturbed[key::COUNT]).abs() <= 1.0);
        assert_eq!((quiet[key::LATE], disturbed[key::LATE]), (0.0, 200.0));
        assert!(
            (quiet[key::P99] - 1_000.0).abs() < 5.0,
            "less the generator's lag"
        );
        assert!((disturbed[key::P99] - 30_000.0).abs() < 100.0);
        assert_eq!(
            (disturbed[key::EXTRA], disturbed[key::EXTRA_ANON]),
            (50.0, 25.0)
        );
        assert_eq!(disturbed[key::ALLOWED], 64.0 + 16.0);
        assert!(
            (disturbed[key::SECONDS] - 2.0).abs() < 0.01,
            "{disturbed:?}"
        );
    }

    #[test]
    fn a_pair_of_which_the_hypervisor_took_its_part_is_taken_again_and_that_is_told() {
        let halves = |pair, stolen: [f64; 2]| {
            let both = HALVES.into_iter().zip(stolen);
            let records = both.map(|(half, share)| {
                let figures = named([(key::STOLEN, share), (key::LATE, 3.0)]);
                Record::new((pair, "s", half), figures)
            });
            <[Record; 2]>::try_from(Vec::from_iter(records)).unwrap()
        };
        let cpus = thread::available_parallelism().unwrap().get() as f64;
        let seen = seen(made(6_001, 8_000)).halves(0).unwrap();
        assert_eq!(seen[0][key::STOLEN], 0.0);
        assert!(
            (seen[1][key::STOLEN] - 0.1 / cpus).abs() < 0.001,
            "{seen:?}"
        );
        assert!(is_undisputed(&halves(1, [STOLEN_MAX, STOLEN_MAX])));
        assert!(!is_undisputed(&halves(1, [0.0, 0.02])) && !is_undisputed(&halves(1, [0.02, 0.0])));
        let once = Records(Vec::from(halves(1, [0.0, 0.0])));
        assert_eq!(taken_again(&once, "s"), None);
        let twice = [halves(1, [0.0, 0.25]), halves(1, [0.0, 0.0])].concat();
        let told = taken_again(&Records(twice), "s").unwrap();
        assert!(
            told.starts_with("pairs taken again: 1,") && told.contains("25.0 % in one with"),
            "{told}"
        );
        assert!(
            told.contains("6.00 replies were late in undisturbed halves, 6.00 in"),
            "{told}"
        );
    }

    #[test]
    fn a_snapshot_that_lasts_too_long_or_does_not_come_is_no_figure() {
        for (made, why) in [
            (None, "no snapshot"),
            (made(2_001, 8_000), "longer than the undisturbed half"),
            (made(1, 3_000), "before the load"),
        ] {
            let failed = seen(made).halves(0).err().unwrap().to_string();
            assert!(failed.contains(why), "{failed}");
        }
    }

    fn records(pairs: usize, late: fn(usize) -> f64, p99: f64, extra: f64) -> Records {
        let names = [key::P99, key::P999, key::LATE, key::EXTRA, key::ALLOWED];
        let both = |pair| {
            let undisturbed = [100.0, 200.0, 1.0, 0.0, 0.0];
            let disturbed = [p99, 200.0, late(pair), extra, 80.0];
            [(HALVES[0], undisturbed), (HALVES[1], disturbed)].map(|(half, values)| {
                Record::new((pair, "s", half), named(names.into_iter().zip(values)))
            })
        };
        Records((1..=pairs).flat_map(both).collect())
    }

    #[test]
    fn each_bound_is_judged_by_itself() {
        let verdicts = |records: &Records| {
            let judged = judge(records, "s");
            judged.iter().map(|judged| judged.met).collect::<Vec<_>>()
        };
        let fine = records(PAIRS_MIN, |_| 1.0, 150.0, 80.0);
        assert_eq!(verdicts(&fine), [Some(true); 4]);
        assert_eq!(
            verdicts(&records(PAIRS_MIN - 1, |_| 1.0, 1.0, 1.0)),
            [None; 4]
        );
        let once = records(
            PAIRS_MIN,
            |pair| if pair == 3 { 2.0 } else { 0.0 },
            150.0,
            80.0,
        );
        assert_eq!(verdicts(&once)[2], Some(false), "more in one pair");
        assert_eq!(
            verdicts(&records(PAIRS_MIN, |_| 1.0, 151.0, 80.0))[0],
            Some(false)
        );
        assert_eq!(
            verdicts(&records(PAIRS_MIN, |_| 1.0, 150.0, 80.1))[3],
            Some(false)
        );
    }
}
