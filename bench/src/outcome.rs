//! A run's figures, the warnings that belong to them, and how both are shown.

use crate::plan::{Pace, Plan};
use crate::procfs::{self, Memory};
use crate::tally::Tally;
use crate::wire;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fmt;

/// A worker that was busy for more than this share of the window measured itself.
const SATURATED: f64 = 0.9;
/// What others may take of the machine.
pub const OTHERS_MAX: f64 = 0.04;
/// How late requests of an open loop may leave, µs.
pub const LAG_US_MAX: f64 = 1_000.0;
/// Values beyond a percentile, below which it means little.
const TAIL_MIN: u64 = 10;

/// Percentiles, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Values.
    pub count: u64,
    /// Half are below.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// Of a histogram in ns.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Latency {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        }
    }

    /// For files.
    pub fn json(&self) -> Value {
        json!({
            "count": self.count, "p50": tenth(self.p50), "p90": tenth(self.p90),
            "p99": tenth(self.p99), "p99.9": tenth(self.p999), "max": tenth(self.max),
        })
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn thousandth(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What should be known before a figure is believed.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// Of this program.
    DebugBuild,
    /// The generator had no time left.
    ClientSaturated(f64),
    /// Requests of an open loop left late: 99 of 100 were this late or less, µs.
    LateSends(f64),
    /// Somebody else used this share of the machine.
    NoisyNeighbour(f64),
    /// A hypervisor kept this share from us.
    Stolen(f64),
    /// Fewer values than the last percentile needs.
    ShortTail(u64),
    /// Operations that failed.
    Failed(u64),
    /// Connections that were lost.
    Lost(u64),
    /// Requests without an answer.
    Unfinished(u64),
    /// Watch events that did not come.
    Missing(u64),
    /// Watch events that nobody had asked for.
    Surplus(u64),
}

impl Warning {
    /// Whether the run can't be called a success.
    pub fn is_failure(&self) -> bool {
        use Warning::{Failed, Lost, Missing, Surplus, Unfinished};
        matches!(
            self,
            Failed(_) | Lost(_) | Unfinished(_) | Missing(_) | Surplus(_)
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| format!("{:.0} %", share * 100.0);
        match self {
            Warning::DebugBuild => f.write_str(
                "rkbench is a debug build: its own time is in every figure; build with --release",
            ),
            Warning::ClientSaturated(share) => write!(
                f,
                "the load generator was busy {} of the time, so this is its limit rather than the \
                 server's: add --threads, or take fewer connections",
                percent(share)
            ),
            Warning::LateSends(us) => write!(
                f,
                "requests left up to {us:.0} µs (p99) after they were due, which is part of the \
                 latencies but for those less the generator's lag: lower --rate, or add --threads"
            ),
            Warning::NoisyNeighbour(share) => write!(
                f,
                "other processes used {} of the machine: stop them and measure again",
                percent(share)
            ),
            Warning::Stolen(share) => write!(
                f,
                "the hypervisor kept {} of the CPUs back: measure when its host is quiet, and side \
                 by side",
                percent(share)
            ),
            Warning::ShortTail(count) => write!(
                f,
                "{count} operations are too few for p99.9: measure longer with --seconds"
            ),
            Warning::Failed(count) => write!(
                f,
                "{count} operations failed and are in no percentile: see the errors by code"
            ),
            Warning::Lost(count) => write!(
                f,
                "{count} connections were lost: look at the server's log and its connection limit"
            ),
            Warning::Unfinished(count) => write!(
                f,
                "{count} requests were never answered: the server can't keep this rate; lower it"
            ),
            Warning::Missing(count) => write!(
                f,
                "{count} watch events never came: the server lost them, or took longer than the \
                 wait at the end of a round"
            ),
            Warning::Surplus(count) => write!(
                f,
                "{count} watch events came that no watch was set for: a watch fires once"
            ),
        }
    }
}

/// What belongs to the generator in the latencies of an open loop.
#[derive(Clone, Copy, Debug)]
pub struct OpenLoop {
    /// How late requests left for want of the generator's attention.
    pub lag: Latency,
    /// Of all operations, each less its own lag.
    pub less_lag: Latency,
}

impl OpenLoop {
    fn of(tally: &Tally) -> Option<OpenLoop> {
        (!tally.less_lag.is_empty()).then(|| OpenLoop {
            lag: Latency::of(&tally.lag),
            less_lag: Latency::of(&tally.less_lag),
        })
    }
}

/// The servers' side, if their processes are known.
#[derive(Clone, Copy, Debug)]
pub struct Servers {
    /// User + system time per operation, µs.
    pub cpu_us_per_op: f64,
    /// At the end of the run.
    pub memory: Memory,
}

/// A run's result.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was run.
    pub label: String,
    plan: Value,
    /// Operations in the window.
    pub ops: u64,
    /// The window, s.
    pub seconds: f64,
    /// Operations per second.
    pub rate: f64,
    /// Of all operations.
    pub latency: Latency,
    /// Of reads and writes, where there are both.
    by_kind: Option<(Latency, Latency)>,
    /// Of an open loop.
    pub open: Option<OpenLoop>,
    /// Failed operations by code.
    pub errors: Vec<(i32, u64)>,
    /// Acknowledged transactions from the first connection to the last, whatever the window.
    pub transactions: u64,
    /// If their processes were named.
    pub servers: Option<Servers>,
    /// This process's CPU per operation, µs.
    pub client_cpu_us_per_op: f64,
    /// The busiest worker, 0 to 1.
    pub client_busy: f64,
    /// The longest that a worker waited for a CPU, as a share of the window.
    pub client_waited: f64,
    /// Share of the machine that neither servers nor client used; known if the servers are.
    pub others: Option<f64>,
    /// In the order of their weight.
    pub warnings: Vec<Warning>,
}

impl Outcome {
    /// Makes figures of counts.
    pub fn new(plan: &Plan, tally: &Tally, memory: Option<Memory>, transactions: u64) -> Outcome {
        let (begin, end) = tally.samples.unwrap_or_default();
        let seconds = (end.at_ns - begin.at_ns) as f64 / 1e9;
        let ops = tally.completed;
        let per_op = |us: u64| us as f64 / ops.max(1) as f64;
        let own_us = end.own_us - begin.own_us;
        let servers_us = Option::zip(begin.servers_us, end.servers_us)
            .map(|(begin, end)| end.saturating_sub(begin));
        let others = servers_us.map(|servers_us| procfs::others(&begin, &end, servers_us));
        let mut all = tally.reads.clone();
        all.add(&tally.writes).expect("the same bounds");
        let latency = Latency::of(&all);
        let warnings = warnings(tally, others, &latency);
        Outcome {
            label: plan.to_string(),
            plan: describe(plan),
            ops,
            seconds,
            rate: ops as f64 / seconds.max(1e-9),
            latency,
            by_kind: (!tally.reads.is_empty() && !tally.writes.is_empty())
                .then(|| (Latency::of(&tally.reads), Latency::of(&tally.writes))),
            open: OpenLoop::of(tally),
            errors: tally.errors.iter().map(|(&code, &n)| (code, n)).collect(),
            transactions: transactions + tally.transactions,
            servers: Option::zip(servers_us, memory).map(|(us, memory)| Servers {
                cpu_us_per_op: per_op(us),
                memory,
            }),
            client_cpu_us_per_op: per_op(own_us),
            client_busy: tally.busiest,
            client_waited: tally.waited,
            others,
            warnings,
        }
    }

    /// Whether everything that was asked for was done.
    pub fn is_success(&self) -> bool {
        !self.warnings.iter().any(Warning::is_failure)
    }

    /// Whether the client was what limited it.
    pub fn client_saturated(&self) -> bool {
        let limits = |w: &Warning| matches!(w, Warning::ClientSaturated(_) | Warning::LateSends(_));
        self.warnings.iter().any(limits)
    }

    /// Whether somebody else was busy on the machine meanwhile.
    pub fn is_noisy(&self) -> bool {
        let noise = |w: &Warning| matches!(w, Warning::NoisyNeighbour(_) | Warning::Stolen(_));
        self.warnings.iter().any(noise)
    }

    /// Everything, for files and other programs.
    pub fn json(&self) -> Value {
        let errors: serde_json::Map<String, Value> = self
            .errors
            .iter()
            .map(|&(code, count)| (code.to_string(), count.into()))
            .collect();
        let warnings: Vec<String> = self.warnings.iter().map(Warning::to_string).collect();
        json!({
            "run": self.label,
            "plan": self.plan,
            "ops": self.ops,
            "seconds": thousandth(self.seconds),
            "ops_per_s": tenth(self.rate),
            "latency_us": self.latency.json(),
            "latency_us_reads": self.by_kind.map(|(reads, _)| reads.json()),
            "latency_us_writes": self.by_kind.map(|(_, writes)| writes.json()),
            "send_lag_us": self.open.map(|open| open.lag.json()),
            "latency_us_less_send_lag": self.open.map(|open| open.less_lag.json()),
            "errors": errors,
            "transactions": self.transactions,
            "server_cpu_us_per_op": self.servers.map(|s| thousandth(s.cpu_us_per_op)),
            "server_rss_kib": self.servers.map(|s| s.memory.rss_kib),
            "server_peak_rss_kib": self.servers.map(|s| s.memory.peak_kib),
            "client_cpu_us_per_op": thousandth(self.client_cpu_us_per_op),
            "client_busy": thousandth(self.client_busy),
            "client_waited": thousandth(self.client_waited),
            "others_share": self.others.map(thousandth),
            "warnings": warnings,
            "success": self.is_success(),
        })
    }

    /// The table's head.
    pub const HEAD: &str = "run                             op/s   p50 µs   p90 µs   p99 µs  p99.9 µs    max µs  srv CPU µs/op  own CPU µs/op  peak RSS MiB";

    /// The table's row.
    pub fn row(&self) -> String {
        let Latency {
            p50,
            p90,
            p99,
            p999,
            max,
            ..
        } = self.latency;
        let (cpu, peak) = match self.servers {
            Some(s) => (
                figure(s.cpu_us_per_op),
                figure(s.memory.peak_kib as f64 / 1024.0),
            ),
            None => ("—".into(), "—".into()),
        };
        format!(
            "{:<27} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>14} {:>14} {:>13}",
            self.label,
            figure(self.rate),
            figure(p50),
            figure(p90),
            figure(p99),
            figure(p999),
            figure(max),
            cpu,
            figure(self.client_cpu_us_per_op),
            peak,
        )
    }

    /// Table, errors and warnings.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", Outcome::HEAD, self.row());
        let mut part = |name: &str, l: &Latency| {
            text += &format!(
                "{name:<27} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}\n",
                figure(l.count as f64 / self.seconds.max(1e-9)),
                figure(l.p50),
                figure(l.p90),
                figure(l.p99),
                figure(l.p999),
                figure(l.max),
            );
        };
        if let Some((reads, writes)) = &self.by_kind {
            part("  reads", reads);
            part("  writes", writes);
        }
        if let Some(open) = &self.open {
            part("  less the generator's lag", &open.less_lag);
            part("  the generator's lag", &open.lag);
        }
        for &(code, count) in &self.errors {
            text += &format!("error {code} ({}): {count}\n", wire::code_name(code));
        }
        for warning in &self.warnings {
            text += &format!("warning: {warning}\n");
        }
        text
    }
}

/// What should be known of a run; in the order of their weight.
fn warnings(tally: &Tally, others: Option<f64>, latency: &Latency) -> Vec<Warning> {
    let (begin, end) = tally.samples.unwrap_or_default();
    let failed = tally.errors.values().sum();
    let stolen = procfs::share(&begin, &end, end.stolen_us.saturating_sub(begin.stolen_us));
    let lag_us = Latency::of(&tally.lag).p99;
    let others = others.unwrap_or_default();
    let rows = [
        (failed > 0, Warning::Failed(failed)),
        (
            tally.lost_connections > 0,
            Warning::Lost(tally.lost_connections),
        ),
        (tally.unfinished > 0, Warning::Unfinished(tally.unfinished)),
        (tally.missing > 0, Warning::Missing(tally.missing)),
        (tally.surplus > 0, Warning::Surplus(tally.surplus)),
        (cfg!(debug_assertions), Warning::DebugBuild),
        (
            tally.busiest > SATURATED,
            Warning::ClientSaturated(tally.busiest),
        ),
        (lag_us > LAG_US_MAX, Warning::LateSends(lag_us)),
        (others > OTHERS_MAX, Warning::NoisyNeighbour(others)),
        (stolen > OTHERS_MAX, Warning::Stolen(stolen)),
        (
            latency.count / 1000 < TAIL_MIN,
            Warning::ShortTail(latency.count),
        ),
    ];
    let told = rows.into_iter().filter(|(is, _)| *is);
    told.map(|(_, warning)| warning).collect()
}

/// A figure for people: a dash if there is none.
pub fn told(value: Option<f64>) -> String {
    figure(value.unwrap_or(f64::NAN))
}

/// Three digits or more, thousands apart.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "—".into();
    }
    if value > 0.0 && value < 0.1 {
        return format!("{value:.4}");
    }
    if value < 1.0 {
        return format!("{value:.3}");
    }
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The plan without addresses and process ids, which mean nothing elsewhere.
fn describe(plan: &Plan) -> Value {
    let (window, rate) = match plan.pace {
        Pace::Closed { window } => (Some(window), None),
        Pace::Open { rate, .. } => (None, Some(rate)),
    };
    json!({
        "workload": plan.workload.name(),
        "connections": plan.connections,
        "window": window,
        "rate": rate,
        "size": plan.data_bytes,
        "nodes": plan.nodes,
        "seconds": plan.measured.as_secs_f64(),
        "warmup": plan.warmup.as_secs_f64(),
        "threads": plan.threads,
        "pinned": plan.pin.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Workload;
    use crate::procfs::Sample;

    fn plan() -> Plan {
        Plan::new(Workload::Get, "127.0.0.1:1".parse().unwrap(), 1, 1)
    }

    fn tally(values_us: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::default();
        for us in values_us {
            tally.reads.saturating_record(us * 1000);
            tally.completed += 1;
        }
        let sample = |at_ns, cpu| Sample {
            at_ns,
            servers_us: Some(cpu),
            own_us: cpu,
            busy_us: 2 * cpu,
            stolen_us: 0,
        };
        tally.samples = Some((sample(0, 0), sample(2_000_000_000, 1_000_000)));
        tally
    }

    #[test]
    fn figures_follow_from_counts() {
        let outcome = Outcome::new(&plan(), &tally(1..=20_000), None, 0);
        assert!((outcome.rate - 10_000.0).abs() < 1.0);
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.01;
        assert!(near(outcome.latency.p50, 10_000.0), "{:?}", outcome.latency);
        assert!(
            near(outcome.latency.p999, 19_980.0),
            "{:?}",
            outcome.latency
        );
        assert!((outcome.client_cpu_us_per_op - 50.0).abs() < 0.1);
        assert_eq!(outcome.others, Some(0.0));
        assert!(outcome.is_success());
        let json = outcome.json();
        assert_eq!(json["ops"], 20_000);
        assert!(json["plan"].get("target").is_none());
    }

    #[test]
    fn failures_are_no_success_and_warnings_advise() {
        let mut tally = tally(1..=20_000);
        tally.error(-101, 3);
        tally.busiest = 0.95;
        let outcome = Outcome::new(&plan(), &tally, None, 0);
        assert!(!outcome.is_success());
        assert!(outcome.client_saturated());
        assert!(outcome.text().contains("error -101 (no node): 3"));
        assert!(outcome.text().contains("--threads"));
    }

    #[test]
    fn numbers_are_readable() {
        let rows = [
            (0.01234, "0.0123"),
            (0.5, "0.500"),
            (1.234, "1.23"),
            (56.78, "56.8"),
            (789.6, "790"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, text) in rows {
            assert_eq!(figure(value), text);
        }
    }
}
