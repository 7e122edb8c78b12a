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

/// What the summary of a row shows.
const SUMMARY: [Metric; 3] = [Metric::Cpu, Metric::P50, Metric::P99];

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

/// What a row is judged by first, and whether any of it is worse beyond the spread: a line for each row.
pub fn summary(records: &Records, rows: &[&str], other: &str) -> String {
    let names = SUMMARY.map(Metric::name).join(" | ");
    let mut text = format!("| row | {names} | worse beyond the spread |\n|---|---|---|---|---|\n");
    for row in rows {
        let compared = Compared::all(records, row, other);
        let found = SUMMARY.map(|metric| compared.iter().find(|c| c.metric == metric));
        let ratios = found.map(|compared| Spread::told(compared.map(|c| c.ratio)));
        let (worse, noisy) = (worse(&found), noise(records, row, other));
        text += &format!("| {row} | {} | {worse}{noisy} |\n", ratios.join(" | "));
    }
    text
}

/// Which of a row's figures are worse beyond the spread, and which have no verdict.
fn worse(compared: &[Option<&Compared>]) -> String {
    let Some(compared) = compared.iter().copied().collect::<Option<Vec<_>>>() else {
        return "none: not measured".to_owned();
    };
    let of = |verdict: Verdict| {
        let of_it = compared.iter().filter(|c| c.verdict == verdict);
        let names: Vec<&str> = of_it.map(|c| c.metric.name()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if of(Verdict::TooFewPairs).is_some() {
        return Verdict::TooFewPairs.name().to_owned();
    }
    let worse = of(Verdict::Behind).map_or("no".to_owned(), |names| format!("WORSE: {names}"));
    match of(Verdict::ClientLimited) {
        Some(names) => format!("{worse}; {names} {}", Verdict::ClientLimited.name()),
        None => worse,
    }
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

    /// Of one figure of a row, ours and the parent's, in so many pairs; the pair's own figure grows with it.
    fn taken(pairs: usize, row: &str, (ours, parent): (f64, f64), key: &str) -> Vec<Record> {
        let record = |pair: usize, server: &str, factor: f64| {
            Record::new((pair, row, server), named([(key, factor * pair as f64)]))
        };
        let both = |pair| [record(pair, "ours", ours), record(pair, "parent", parent)];
        (1..=pairs).flat_map(both).collect()
    }

    #[test]
    fn a_row_is_worse_than_the_parents_only_if_every_pair_is() {
        let (a, b) = ((1.1, 1.0), (1.01, 1.0));
        let mut records =
            Records([taken(7, "a", a, "p99_us"), taken(7, "b", b, "p99_us")].concat());
        let rows = ["a", "b"];
        let worse = behind(&records, &rows, "parent");
        assert_eq!(worse, ["a, p99 µs: 1.10 (1.10–1.10)"]);
        assert!(table(&records, &rows, "parent").contains("| a | p99 µs | 4.40 | 4.00 |"));
        let lucky = records.0.iter_mut().find(|record| record.server == "ours");
        lucky.unwrap().figures.insert("p99_us".into(), 0.9);
        assert_eq!(behind(&records, &rows, "parent"), [""; 0]);
    }

    /// Joins the figures of those records that are of the same turn.
    fn joined(parts: &[Vec<Record>]) -> Records {
        let mut turns = parts[0].clone();
        for part in &parts[1..] {
            for (turn, other) in turns.iter_mut().zip(part) {
                turn.figures.extend(other.figures.clone());
            }
        }
        Records(turns)
    }

    #[test]
    fn the_summary_says_of_each_row_what_is_worse_beyond_the_spread() {
        let row = |pairs, cpu: f64, p99: f64| {
            joined(&[
                taken(pairs, "a", (cpu, 1.0), "server_cpu_us_per_op"),
                taken(pairs, "a", (0.9, 1.0), "p50_us"),
                taken(pairs, "a", (p99, 1.0), "p99_us"),
            ])
        };
        let line = |records: &Records| {
            let text = summary(records, &["a"], "parent");
            text.lines().last().unwrap().to_owned()
        };
        let p50 = "0.900 (0.900–0.900)";
        assert_eq!(
            line(&row(7, 0.8, 1.01)),
            format!("| a | 0.800 (0.800–0.800) | {p50} | 1.01 (1.01–1.01) | no |")
        );
        assert_eq!(
            line(&row(7, 1.1, 1.2)),
            format!(
                "| a | 1.10 (1.10–1.10) | {p50} | 1.20 (1.20–1.20) | WORSE: server CPU µs/op, p99 µs |"
            )
        );
        assert!(line(&row(6, 1.1, 1.2)).ends_with("| none: too few pairs |"));
        let mut limited = row(7, 1.1, 1.2);
        limited.0[0].notes.push(Note {
            kind: "client".into(),
            badness: 1.0,
            text: String::new(),
        });
        let told = line(&limited);
        let client = "p50 µs, p99 µs none: the client was the limit";
        assert!(
            told.ends_with(&format!("| WORSE: server CPU µs/op; {client} |")),
            "{told}"
        );
        let mut lucky = row(7, 1.1, 1.0);
        lucky.0[0]
            .figures
            .insert("server_cpu_us_per_op".into(), 0.9);
        assert!(line(&lucky).ends_with("| no |"), "{}", line(&lucky));
        let unknown = Records(taken(7, "a", (1.0, 1.0), "p50_us"));
        assert!(line(&unknown).ends_with("| — | 1.00 (1.00–1.00) | — | none: not measured |"));
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
