//! Paired figures of two servers become ratios with their spread, and a table.

use crate::outcome::{Outcome, figure};
use serde_json::{Value, json};

/// Fewer pairs than this show no spread.
pub const PAIRS_MIN: usize = 5;
/// Less than this from 1 is no difference.
const DIFFERENCE_MIN: f64 = 0.02;

/// A figure that servers are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Operations per second.
    Rate,
    /// Latency.
    P50,
    /// Latency.
    P99,
    /// Latency.
    P999,
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
    pub const ALL: [Metric; 8] = [
        Metric::Rate,
        Metric::P50,
        Metric::P99,
        Metric::P999,
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
            Metric::Cpu => "server CPU µs/op",
            Metric::Memory => "peak RSS MiB",
            Metric::Syncs => "syncs/transaction",
            Metric::Flushes => "device flushes/transaction",
        }
    }

    fn more_is_better(self) -> bool {
        self == Metric::Rate
    }

    /// Whether the load generator's own limit shows in it.
    fn depends_on_client(self) -> bool {
        matches!(
            self,
            Metric::Rate | Metric::P50 | Metric::P99 | Metric::P999
        )
    }
}

/// One run of one server in one row.
#[derive(Clone, Debug)]
pub struct Run {
    /// What came of it.
    pub outcome: Outcome,
    /// Where the server tells and the row writes.
    pub syncs_per_transaction: Option<f64>,
    /// Where the device tells and the row writes.
    pub flushes_per_transaction: Option<f64>,
}

impl Run {
    fn value(&self, metric: Metric) -> Option<f64> {
        let o = &self.outcome;
        match metric {
            Metric::Rate => Some(o.rate),
            Metric::P50 => Some(o.latency.p50),
            Metric::P99 => Some(o.latency.p99),
            Metric::P999 => Some(o.latency.p999),
            Metric::Cpu => o.servers.map(|s| s.cpu_us_per_op),
            Metric::Memory => o.servers.map(|s| s.memory.peak_kib as f64 / 1024.0),
            Metric::Syncs => self.syncs_per_transaction,
            Metric::Flushes => self.flushes_per_transaction,
        }
    }

    /// For files.
    pub fn json(&self) -> Value {
        json!({
            "outcome": self.outcome.json(),
            "syncs_per_transaction": self.syncs_per_transaction,
            "flushes_per_transaction": self.flushes_per_transaction,
        })
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

    fn text(self) -> String {
        format!(
            "{} ({}–{})",
            figure(self.median),
            figure(self.low),
            figure(self.high)
        )
    }
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
}

impl Verdict {
    fn of(metric: Metric, ratio: Spread, pairs: usize, client_limited: bool) -> Verdict {
        if client_limited && metric.depends_on_client() {
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
        }
    }
}

/// A row's runs: `pairs` in their order, Apache's first.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was run.
    pub name: String,
    /// Apache's run and ours.
    pub pairs: Vec<(Run, Run)>,
    /// The stub's, once.
    pub stub: Option<Run>,
    /// Runs that ended without figures, in sentences.
    pub failures: Vec<String>,
}

impl Row {
    /// Metric by metric: the other's values, ours, ratio of each pair, and what that says.
    fn compared(&self) -> Vec<(Metric, Spread, Spread, Spread, Verdict)> {
        let limited = self
            .pairs
            .iter()
            .any(|(_, ours)| ours.outcome.client_saturated());
        Metric::ALL
            .into_iter()
            .filter_map(|metric| {
                let values: Vec<(f64, f64)> = self
                    .pairs
                    .iter()
                    .filter_map(|(apache, ours)| {
                        Option::zip(apache.value(metric), ours.value(metric))
                    })
                    .collect();
                let apache = Spread::of(values.iter().map(|v| v.0))?;
                let ours = Spread::of(values.iter().map(|v| v.1))?;
                let ratio = Spread::of(values.iter().map(|v| v.1 / v.0))?;
                let verdict = Verdict::of(metric, ratio, values.len(), limited);
                Some((metric, apache, ours, ratio, verdict))
            })
            .collect()
    }

    /// How many of the runs shared the machine with somebody else.
    fn noisy_runs(&self) -> usize {
        let runs = self.pairs.iter().flat_map(|(apache, ours)| [apache, ours]);
        runs.filter(|run| run.outcome.is_noisy()).count()
    }

    /// For files.
    pub fn json(&self) -> Value {
        let pairs: Vec<Value> = self
            .pairs
            .iter()
            .map(|(apache, ours)| json!({"apache": apache.json(), "ours": ours.json()}))
            .collect();
        let ratios: serde_json::Map<String, Value> = self
            .compared()
            .into_iter()
            .map(|(metric, _, _, ratio, verdict)| {
                let value = json!({
                    "median": ratio.median, "low": ratio.low, "high": ratio.high,
                    "verdict": verdict.name(),
                });
                (metric.name().to_owned(), value)
            })
            .collect();
        json!({
            "row": self.name, "ratios": ratios, "noisy_runs": self.noisy_runs(), "pairs": pairs,
            "stub": self.stub.as_ref().map(Run::json), "failures": self.failures,
        })
    }
}

/// The table in Markdown; rows in the order in which they were run, won or lost.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| row | figure | ours | Apache | ours / Apache: median (lowest–highest) | stub | verdict |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let noisy = match row.noisy_runs() {
            0 => String::new(),
            count => format!(", {count} of {} runs noisy", 2 * row.pairs.len()),
        };
        for (metric, apache, ours, ratio, verdict) in row.compared() {
            let stub = row.stub.as_ref().and_then(|run| run.value(metric));
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {}{noisy} |\n",
                row.name,
                metric.name(),
                figure(ours.median),
                figure(apache.median),
                ratio.text(),
                stub.map_or("—".into(), figure),
                verdict.name(),
            );
        }
        for failure in &row.failures {
            text += &format!("| {} | {failure} | | | | | |\n", row.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let rows = [
            (Metric::Rate, ratio(1.1, 1.2), 5, false, Verdict::Ahead),
            (Metric::Rate, ratio(0.8, 0.9), 5, false, Verdict::Behind),
            (Metric::Rate, ratio(0.9, 1.2), 5, false, Verdict::Level),
            (Metric::Rate, ratio(1.001, 1.01), 5, false, Verdict::Level),
            (
                Metric::Rate,
                ratio(1.1, 1.2),
                4,
                false,
                Verdict::TooFewPairs,
            ),
            (Metric::P99, ratio(0.8, 0.9), 5, false, Verdict::Ahead),
            (Metric::P99, ratio(1.1, 1.2), 5, false, Verdict::Behind),
            (
                Metric::P99,
                ratio(0.8, 0.9),
                5,
                true,
                Verdict::ClientLimited,
            ),
            (Metric::Cpu, ratio(0.8, 0.9), 5, true, Verdict::Ahead),
        ];
        for (metric, ratio, pairs, limited, verdict) in rows {
            let found = Verdict::of(metric, ratio, pairs, limited);
            assert_eq!(found, verdict, "{metric:?} {ratio:?}");
        }
    }
}
