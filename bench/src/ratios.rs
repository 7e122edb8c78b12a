//! Paired figures of two servers become ratios with their spread, and a table.

use crate::journal::{Figures, Record, Records, named};
use crate::outcome::{Outcome, figure, told};
use serde_json::{Value, json};

/// Fewer pairs than this show no spread.
pub const PAIRS_MIN: usize = 7;
/// Less than this from 1 is no difference.
const DIFFERENCE_MIN: f64 = 0.02;

/// A figure that servers are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Operations per second.
    Rate,
    /// Latency; in an open loop each less the generator's own lag. So are the next two.
    P50,
    /// Latency.
    P99,
    /// Latency.
    P999,
    /// Latency of an open loop from when requests were due, with the generator's lag in it.
    DueP50,
    /// The same.
    DueP99,
    /// How late the generator was.
    LagP50,
    /// The same.
    LagP99,
    /// The server's CPU per operation.
    Cpu,
    /// Most memory during the row.
    Memory,
    /// Syncs of the log per acknowledged transaction.
    Syncs,
    /// Flushes that the log's device made, for anybody, per acknowledged transaction.
    Flushes,
}

impl Metric {
    /// In the order of the table.
    pub const ALL: [Metric; 12] = [
        Metric::Rate,
        Metric::P50,
        Metric::P99,
        Metric::P999,
        Metric::DueP50,
        Metric::DueP99,
        Metric::LagP50,
        Metric::LagP99,
        Metric::Cpu,
        Metric::Memory,
        Metric::Syncs,
        Metric::Flushes,
    ];

    /// With its unit.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Rate => "op/s",
            Metric::P50 => "p50 µs",
            Metric::P99 => "p99 µs",
            Metric::P999 => "p99.9 µs",
            Metric::DueP50 => "p50 µs with the generator's lag",
            Metric::DueP99 => "p99 µs with the generator's lag",
            Metric::LagP50 => "the generator's lag, p50 µs",
            Metric::LagP99 => "the generator's lag, p99 µs",
            Metric::Cpu => "server CPU µs/op",
            Metric::Memory => "peak RSS MiB",
            Metric::Syncs => "syncs/transaction",
            Metric::Flushes => "device flushes/transaction",
        }
    }

    /// Its name in records.
    pub fn key(self) -> &'static str {
        match self {
            Metric::Rate => "ops_per_s",
            Metric::P50 => "p50_us",
            Metric::P99 => "p99_us",
            Metric::P999 => "p99.9_us",
            Metric::DueP50 => "p50_us_from_due",
            Metric::DueP99 => "p99_us_from_due",
            Metric::LagP50 => "send_lag_p50_us",
            Metric::LagP99 => "send_lag_p99_us",
            Metric::Cpu => "server_cpu_us_per_op",
            Metric::Memory => "server_peak_rss_mib",
            Metric::Syncs => "syncs_per_transaction",
            Metric::Flushes => "flushes_per_transaction",
        }
    }

    fn more_is_better(self) -> bool {
        self == Metric::Rate
    }

    /// Whether it says something about the generator only.
    fn is_generators(self) -> bool {
        matches!(self, Metric::LagP50 | Metric::LagP99)
    }

    /// Whether the load generator was the limit of this figure in a run.
    pub fn is_limited_in(self, record: &Record) -> bool {
        use Metric::{DueP50, DueP99, P50, P99, P999, Rate};
        match self {
            DueP50 | DueP99 => record.has_note("client") || record.has_note("late"),
            Rate | P50 | P99 | P999 => record.has_note("client"),
            _ => false,
        }
    }

    /// All figures of a run; those of the log are known to the caller, as far as the server and the device
    /// tell.
    pub fn figures(outcome: &Outcome, syncs: Option<f64>, flushes: Option<f64>) -> Figures {
        let (open, due) = (outcome.open, outcome.latency);
        let latency = open.map_or(due, |open| open.less_lag);
        let figures = Metric::ALL.into_iter().filter_map(|metric| {
            let value = match metric {
                Metric::Rate => Some(outcome.rate),
                Metric::P50 => Some(latency.p50),
                Metric::P99 => Some(latency.p99),
                Metric::P999 => Some(latency.p999),
                Metric::DueP50 => open.map(|_| due.p50),
                Metric::DueP99 => open.map(|_| due.p99),
                Metric::LagP50 => open.map(|open| open.lag.p50),
                Metric::LagP99 => open.map(|open| open.lag.p99),
                Metric::Cpu => outcome.servers.map(|s| s.cpu_us_per_op),
                Metric::Memory => outcome.servers.map(|s| s.memory.peak_kib as f64 / 1024.0),
                Metric::Syncs => syncs,
                Metric::Flushes => flushes,
            };
            Some((metric.key(), value?))
        });
        named(figures)
    }
}

/// Several values of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; between the two middle ones of an even number.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread { median, low, high })
    }

    /// For people.
    pub fn text(self) -> String {
        format!(
            "{} ({}–{})",
            figure(self.median),
            figure(self.low),
            figure(self.high)
        )
    }

    /// For people: a dash without values.
    pub fn told(spread: Option<Spread>) -> String {
        spread.map_or("—".into(), Spread::text)
    }

    /// For files.
    pub fn json(self) -> Value {
        json!({"median": self.median, "low": self.low, "high": self.high})
    }
}

/// The spread of each of a server's figures in a row, for files.
pub fn spreads(records: &Records, row: &str, server: &str, figures: &[&str]) -> Value {
    let spread = |figure: &&str| {
        let spread = Spread::of(records.values(row, server, figure));
        ((*figure).to_owned(), json!(spread.map(Spread::json)))
    };
    Value::Object(figures.iter().map(spread).collect())
}

/// What the pairs of a row say about a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every pair is better for us.
    Ahead,
    /// Every pair is worse.
    Behind,
    /// Some are, some are not, or the difference is too small to speak of.
    Level,
    /// There are fewer pairs than a spread needs.
    TooFewPairs,
    /// The load generator was the limit.
    ClientLimited,
    /// It is no figure of the servers.
    NoComparison,
}

impl Verdict {
    fn of(metric: Metric, ratio: Spread, pairs: usize, client_limited: bool) -> Verdict {
        if metric.is_generators() {
            return Verdict::NoComparison;
        }
        if client_limited {
            return Verdict::ClientLimited;
        }
        if pairs < PAIRS_MIN {
            return Verdict::TooFewPairs;
        }
        if (ratio.median - 1.0).abs() < DIFFERENCE_MIN {
            return Verdict::Level;
        }
        let (better, worse) = match metric.more_is_better() {
            true => (ratio.low > 1.0, ratio.high < 1.0),
            false => (ratio.high < 1.0, ratio.low > 1.0),
        };
        match (better, worse) {
            (true, _) => Verdict::Ahead,
            (_, true) => Verdict::Behind,
            _ => Verdict::Level,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Verdict::Ahead => "ahead",
            Verdict::Behind => "BEHIND",
            Verdict::Level => "level",
            Verdict::TooFewPairs => "none: too few pairs",
            Verdict::ClientLimited => "none: the client was the limit",
            Verdict::NoComparison => "—",
        }
    }
}

/// A metric of a row, ours beside the other's.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// Which.
    pub metric: Metric,
    /// Of ours.
    pub ours: Spread,
    /// Of the other.
    pub other: Spread,
    /// Ours by the other's, pair by pair.
    pub ratio: Spread,
    /// What that says.
    pub verdict: Verdict,
}

impl Compared {
    /// All metrics that both have in a row.
    pub fn all(records: &Records, row: &str, other: &str) -> Vec<Compared> {
        let limited = |metric: Metric| {
            let mut ours = records.of(row, "ours");
            ours.any(|record| metric.is_limited_in(record))
        };
        let compared = Metric::ALL.into_iter().filter_map(|metric| {
            let values = records.paired(row, ("ours", other), metric.key());
            let ratio = Spread::of(values.iter().map(|(ours, other)| ours / other))?;
            Some(Compared {
                metric,
                ours: Spread::of(values.iter().map(|(ours, _)| *ours))?,
                other: Spread::of(values.iter().map(|(_, other)| *other))?,
                ratio,
                verdict: Verdict::of(metric, ratio, values.len(), limited(metric)),
            })
        });
        compared.collect()
    }

    fn json(&self) -> Value {
        json!({
            "ours": self.ours.json(), "other": self.other.json(), "ratio": self.ratio.json(),
            "verdict": self.verdict.name(),
        })
    }
}

/// How many of the runs of ours and another shared the machine with somebody else, as a remark.
fn noise(records: &Records, row: &str, other: &str) -> String {
    let runs = || records.of(row, "ours").chain(records.of(row, other));
    match runs().filter(|run| run.is_noisy()).count() {
        0 => String::new(),
        count => format!(", {count} of {} runs noisy", runs().count()),
    }
}

/// The table in Markdown; rows in the order in which they were run, won or lost. The stubs have a column
/// each, with the median of what was measured of them.
pub fn table(records: &Records, rows: &[&str], other: &str) -> String {
    let mut text = format!(
        "| row | figure | ours | {other} | ours / {other}: median (lowest–highest) | stub | \
         stub with sync | verdict |\n|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let noisy = noise(records, row, other);
        for compared in Compared::all(records, row, other) {
            let stub = |server| {
                let values = records.values(row, server, compared.metric.key());
                told(Spread::of(values).map(|spread| spread.median))
            };
            text += &format!(
                "| {row} | {} | {} | {} | {} | {} | {} | {}{noisy} |\n",
                compared.metric.name(),
                figure(compared.ours.median),
                figure(compared.other.median),
                compared.ratio.text(),
                stub("stub"),
                stub("stub-sync"),
                compared.verdict.name(),
            );
        }
    }
    text
}

/// The table for files.
pub fn json(records: &Records, rows: &[&str], other: &str) -> Value {
    let rows = rows.iter().map(|row| {
        let compared = Compared::all(records, row, other);
        let metrics = compared
            .iter()
            .map(|compared| (compared.metric.key().to_owned(), compared.json()));
        let metrics: serde_json::Map<String, Value> = metrics.collect();
        json!({"row": row, "against": other, "metrics": metrics})
    });
    rows.collect()
}

/// What is worse than the other's beyond the spread: every pair says so.
pub fn behind(records: &Records, rows: &[&str], other: &str) -> Vec<String> {
    let of_row = |row: &&str| {
        let compared = Compared::all(records, row, other).into_iter();
        let behind = compared.filter(|compared| compared.verdict == Verdict::Behind);
        let told = |c: Compared| format!("{row}, {}: {}", c.metric.name(), c.ratio.text());
        behind.map(told).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Note;

    #[test]
    fn spreads_have_a_middle() {
        let spread =
            |values: &[f64]| Spread::of(values.iter().copied()).map(|s| (s.low, s.median, s.high));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(spread(&[f64::NAN]), None);
    }

    #[test]
    fn a_verdict_needs_every_pair() {
        let ratio = |low: f64, high: f64| Spread {
            median: (low + high) / 2.0,
            low,
            high,
        };
        use Metric::{Cpu, LagP99, P99, Rate};
        use Verdict::{Ahead, Behind, ClientLimited, Level, NoComparison, TooFewPairs};
        let rows = [
            (Rate, ratio(1.1, 1.2), 7, false, Ahead),
            (Rate, ratio(0.8, 0.9), 7, false, Behind),
            (Rate, ratio(0.9, 1.2), 7, false, Level),
            (Rate, ratio(1.001, 1.01), 7, false, Level),
            (Rate, ratio(1.1, 1.2), 6, false, TooFewPairs),
            (P99, ratio(0.8, 0.9), 7, false, Ahead),
            (P99, ratio(1.1, 1.2), 7, false, Behind),
            (P99, ratio(0.8, 0.9), 7, true, ClientLimited),
            (Cpu, ratio(0.8, 0.9), 7, false, Ahead),
            (LagP99, ratio(0.1, 0.2), 7, false, NoComparison),
        ];
        for (metric, ratio, pairs, limited, verdict) in rows {
            let found = Verdict::of(metric, ratio, pairs, limited);
            assert_eq!(found, verdict, "{metric:?} {ratio:?}");
        }
    }

    /// Seven pairs of a row in which ours takes `ours` and the parent `parent` times the pair's own p99.
    fn pairs(row: &str, ours: f64, parent: f64) -> Vec<Record> {
        let record = |pair: usize, server: &str, factor: f64| {
            let figures = named([("p99_us", factor * (pair as f64 + 5.0))]);
            Record::new((pair, row, server), figures)
        };
        (1..=7)
            .flat_map(|pair| [record(pair, "ours", ours), record(pair, "parent", parent)])
            .collect()
    }

    #[test]
    fn a_row_is_worse_than_the_parents_only_if_every_pair_is() {
        let mut records = Records([pairs("a", 1.1, 1.0), pairs("b", 1.01, 1.0)].concat());
        let rows = ["a", "b"];
        let worse = behind(&records, &rows, "parent");
        assert_eq!(worse, ["a, p99 µs: 1.10 (1.10–1.10)"]);
        assert!(table(&records, &rows, "parent").contains("| a | p99 µs | 9.90 | 9.00 |"));
        let lucky = records.0.iter_mut().find(|record| record.server == "ours");
        lucky.unwrap().figures.insert("p99_us".into(), 1.0);
        assert_eq!(behind(&records, &rows, "parent"), [""; 0]);
    }

    #[test]
    fn the_generators_limits_void_what_depends_on_them() {
        let noted = |kind: &str| Record {
            notes: vec![Note {
                kind: kind.into(),
                badness: 1.0,
                text: String::new(),
            }],
            ..Record::failed(1, "a", "ours", String::new())
        };
        let (busy, late) = (noted("client"), noted("late"));
        assert!(Metric::P99.is_limited_in(&busy) && Metric::DueP99.is_limited_in(&busy));
        assert!(!Metric::Cpu.is_limited_in(&busy));
        assert!(!Metric::P99.is_limited_in(&late), "the lag is subtracted");
        assert!(Metric::DueP99.is_limited_in(&late));
    }
}
