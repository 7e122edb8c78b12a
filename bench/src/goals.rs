//! What each row is held against, and whether it keeps to it.
//!
//! A goal bounds the quotient of a figure of ours and a figure of something that was measured in the same
//! pair: Apache's server, the stub, or the machine's floors. The median of the pairs decides.

use crate::journal::Records;
use crate::outcome::figure;
use crate::ratios::{Metric, PAIRS_MIN, Spread};
use serde_json::{Value, json};

/// The row of the records that holds the floors.
pub const FLOORS: &str = "floors";
/// Floors are measured under these names.
pub const FLOOR_SYNC: &str = "sync";
/// Floors are measured under these names.
pub const FLOOR_ECHO: &str = "echo";

/// What ours is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The same figure of the same row of Apache's server.
    Apache,
    /// That of the stub that does not sync.
    Stub,
    /// That of the stub that syncs.
    StubSync,
    /// The same percentile of write and fdatasync, plus that of an echo on loopback.
    Floors,
}

impl Reference {
    fn name(self) -> &'static str {
        match self {
            Reference::Apache => "Apache",
            Reference::Stub => "stub without sync",
            Reference::StubSync => "stub with sync",
            Reference::Floors => "fdatasync + echo",
        }
    }

    /// The rows and servers whose runs it is made of.
    fn sources(self, row: &str) -> Vec<(&str, &'static str)> {
        match self {
            Reference::Apache => vec![(row, "apache")],
            Reference::Stub => vec![(row, "stub")],
            Reference::StubSync => vec![(row, "stub-sync")],
            Reference::Floors => vec![(FLOORS, FLOOR_SYNC), (FLOORS, FLOOR_ECHO)],
        }
    }

    /// Ours and the reference's, of every pair that has both; the figures of several sources add up.
    fn pairs(self, records: &Records, row: &str, metric: Metric) -> Vec<(f64, f64)> {
        let sources = self.sources(row);
        let of_pair = |pair| {
            let value =
                |&(row, server): &(&str, &str)| records.value((pair, row, server), metric.key());
            let sum: f64 = sources.iter().map(value).sum::<Option<f64>>()?;
            Some((value(&(row, "ours"))?, sum))
        };
        (1..=records.pairs()).filter_map(of_pair).collect()
    }

    /// How many of the runs, ours and the reference's, shared the machine with somebody else.
    fn noisy(self, records: &Records, row: &str) -> usize {
        let mut sources = self.sources(row);
        sources.push((row, "ours"));
        let runs = sources
            .iter()
            .flat_map(|&(row, server)| records.of(row, server));
        runs.filter(|run| run.is_noisy()).count()
    }
}

/// A bound.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Which row.
    pub row: &'static str,
    /// Which figure of it.
    pub metric: Metric,
    /// Against what.
    pub reference: Reference,
    /// Ours is at most so many times the reference.
    pub at_most: f64,
}

const fn goal(row: &'static str, metric: Metric, at_most: f64, reference: Reference) -> Goal {
    Goal {
        row,
        metric,
        reference,
        at_most,
    }
}

/// All goals.
pub const GOALS: [Goal; 9] = [
    goal("set-1x1", Metric::P50, 1.15, Reference::Floors),
    goal("set-1x1", Metric::P99, 1.5, Reference::Floors),
    goal("set-1x1", Metric::Cpu, 0.4, Reference::Apache),
    goal("set-64-open-2000", Metric::P99, 0.5, Reference::Apache),
    goal("set-64-open-2000", Metric::Cpu, 0.5, Reference::Apache),
    goal("get-256x1", Metric::Cpu, 1.25, Reference::Stub),
    goal("mix-64x1", Metric::Cpu, 1.25, Reference::StubSync),
    goal("mix-64x1", Metric::P99, 0.5, Reference::Apache),
    goal("set-64x1", Metric::Cpu, 1.0 / 3.0, Reference::Apache),
];

/// Whether a row has a goal with this reference: its pairs then need the reference's figures.
pub fn needs(row: &str, reference: Reference) -> bool {
    GOALS
        .iter()
        .any(|goal| goal.row == row && goal.reference == reference)
}

/// What the pairs say about a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The median keeps to the bound, in so many of the pairs.
    Met(usize),
    /// It does not, but so many of the pairs do.
    Missed(usize),
    /// The pairs are too few for a claim.
    TooFewPairs,
    /// The load generator was the limit.
    ClientLimited,
}

impl Verdict {
    fn of(quotients: &[f64], at_most: f64, client_limited: bool) -> Verdict {
        if client_limited {
            return Verdict::ClientLimited;
        }
        let Some(spread) = Spread::of(quotients.iter().copied()) else {
            return Verdict::TooFewPairs;
        };
        let kept = quotients.iter().filter(|&&q| q <= at_most).count();
        match (quotients.len() < PAIRS_MIN, spread.median <= at_most) {
            (true, _) => Verdict::TooFewPairs,
            (_, true) => Verdict::Met(kept),
            (_, false) => Verdict::Missed(kept),
        }
    }

    fn text(self, pairs: usize) -> String {
        match self {
            Verdict::Met(kept) => format!("met, in {kept} of {pairs} pairs"),
            Verdict::Missed(kept) => format!("MISSED, kept in {kept} of {pairs} pairs"),
            Verdict::TooFewPairs => format!("none: {pairs} pairs are too few"),
            Verdict::ClientLimited => "none: the client was the limit".to_owned(),
        }
    }
}

/// A goal with the figures that it is judged by.
pub struct Judged {
    /// Which.
    pub goal: Goal,
    /// Ours, the reference, and their quotients; `None` if nothing was measured.
    spreads: Option<[Spread; 3]>,
    pairs: usize,
    noisy: usize,
    /// What that says.
    pub verdict: Verdict,
}

impl Judged {
    fn of(goal: Goal, records: &Records) -> Judged {
        let pairs = goal.reference.pairs(records, goal.row, goal.metric);
        let quotients: Vec<f64> = pairs.iter().map(|(ours, other)| ours / other).collect();
        let limited = records
            .of(goal.row, "ours")
            .any(|record| goal.metric.is_limited_in(record));
        let spreads = [
            Spread::of(pairs.iter().map(|pair| pair.0)),
            Spread::of(pairs.iter().map(|pair| pair.1)),
            Spread::of(quotients.iter().copied()),
        ];
        Judged {
            goal,
            spreads: match spreads {
                [Some(ours), Some(other), Some(quotient)] => Some([ours, other, quotient]),
                _ => None,
            },
            pairs: pairs.len(),
            noisy: goal.reference.noisy(records, goal.row),
            verdict: Verdict::of(&quotients, goal.at_most, limited),
        }
    }
}

/// Judges the goals of these rows.
pub fn judge(records: &Records, rows: &[&str]) -> Vec<Judged> {
    let of_rows = |goal: &&Goal| rows.contains(&goal.row);
    let goals = GOALS.iter().filter(of_rows);
    goals.map(|goal| Judged::of(*goal, records)).collect()
}

/// For people, in Markdown.
pub fn table(judged: &[Judged]) -> String {
    let mut text = String::from(
        "| row | figure | ours | held against | its figure | ours by it: median (lowest–highest) \
         | at most | verdict |\n|---|---|---|---|---|---|---|---|\n",
    );
    for judged in judged {
        let goal = judged.goal;
        let noisy = match judged.noisy {
            0 => String::new(),
            count => format!(", {count} runs noisy"),
        };
        let [ours, other, quotient] = match judged.spreads {
            Some([ours, other, quotient]) => {
                [figure(ours.median), figure(other.median), quotient.text()]
            }
            None => ["—".into(), "—".into(), "—".into()],
        };
        text += &format!(
            "| {} | {} | {ours} | {} | {other} | {quotient} | {} | {}{noisy} |\n",
            goal.row,
            goal.metric.name(),
            goal.reference.name(),
            figure(goal.at_most),
            judged.verdict.text(judged.pairs),
        );
    }
    text
}

/// For files.
pub fn json(judged: &[Judged]) -> Value {
    let goals = judged.iter().map(|judged| {
        let goal = judged.goal;
        let spread = |at: usize| judged.spreads.map(|spreads| spreads[at].json());
        json!({
            "row": goal.row, "figure": goal.metric.key(), "against": goal.reference.name(),
            "at_most": goal.at_most, "ours": spread(0), "other": spread(1), "quotient": spread(2),
            "pairs": judged.pairs, "noisy_runs": judged.noisy, "verdict": judged.verdict.text(judged.pairs),
        })
    });
    goals.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Note, Record, named};
    use crate::rows::USUAL;
    use std::collections::BTreeMap;

    #[test]
    fn the_median_decides_about_a_goal() {
        let rows: [(&[f64], bool, Verdict); 6] = [
            (&[0.3, 0.3, 0.3, 0.4, 0.5, 0.5, 0.5], false, Verdict::Met(4)),
            (&[0.4; 7], false, Verdict::Met(7)),
            (
                &[0.3, 0.3, 0.3, 0.41, 0.5, 0.5, 0.5],
                false,
                Verdict::Missed(3),
            ),
            (&[0.1; 6], false, Verdict::TooFewPairs),
            (&[], false, Verdict::TooFewPairs),
            (&[0.1; 7], true, Verdict::ClientLimited),
        ];
        for (quotients, limited, verdict) in rows {
            assert_eq!(
                Verdict::of(quotients, 0.4, limited),
                verdict,
                "{quotients:?}"
            );
        }
    }

    fn record(pair: usize, row: &str, server: &str, figures: &[(Metric, f64)]) -> Record {
        let figures = figures.iter().map(|&(m, value)| (m.key(), value));
        Record::new((pair, row, server), named(figures))
    }

    #[test]
    fn a_lone_write_is_held_against_both_floors_of_its_pair() {
        let mut records = Records::default();
        for pair in 1..=7 {
            // The machine is twice as slow in every other pair: the floors follow it.
            let slow = 1.0 + (pair % 2) as f64;
            let p50 = |us: f64| [(Metric::P50, us * slow), (Metric::P99, 2.0 * us * slow)];
            records
                .0
                .push(record(pair, FLOORS, FLOOR_SYNC, &p50(140.0)));
            records.0.push(record(pair, FLOORS, FLOOR_ECHO, &p50(60.0)));
            records.0.push(record(pair, "set-1x1", "ours", &p50(228.0)));
        }
        let judged = judge(&records, &["set-1x1"]);
        let verdicts: Vec<Verdict> = judged.iter().map(|judged| judged.verdict).collect();
        // Apache's server was not measured.
        let expected = [Verdict::Met(7), Verdict::Met(7), Verdict::TooFewPairs];
        assert_eq!(verdicts, expected);
        assert!(table(&judged).contains(
            "| set-1x1 | p50 µs | 456 | fdatasync + echo | 400 | 1.14 (1.14–1.14) | 1.15 | met"
        ));
        records.0[0].notes.push(Note {
            kind: "noise".into(),
            badness: 0.5,
            text: String::new(),
        });
        let told = table(&judge(&records, &["set-1x1"]));
        assert!(
            told.contains("met, in 7 of 7 pairs, 1 runs noisy |"),
            "{told}"
        );
        records
            .0
            .retain(|record| record.pair > 1 || record.row != FLOORS);
        let judged = judge(&records, &["set-1x1"]);
        assert_eq!(judged[0].verdict, Verdict::TooFewPairs);
    }

    #[test]
    fn every_goal_is_about_a_row_and_a_figure_that_is_measured() {
        let keys: BTreeMap<&str, Metric> = Metric::ALL.map(|m| (m.key(), m)).into();
        assert_eq!(keys.len(), Metric::ALL.len(), "keys are distinct");
        for goal in GOALS {
            let rows: Vec<&str> = USUAL.iter().map(|task| task.name).collect();
            assert!(rows.contains(&goal.row), "{}", goal.row);
            assert!(goal.at_most > 0.0);
        }
        assert!(needs("mix-64x1", Reference::StubSync) && !needs("mix-64x1", Reference::Stub));
    }
}
