//! Where the time of a request goes: one HdrHistogram per stage, microseconds.
//!
//! The stages of a write follow each other without a gap, so they sum to its total:
//!
//! ```text
//!  received ─queue─► ordered ─sync─► synced ─commit─► committed ─apply─► applied ─reply─► replied
//! ```
//!
//! Every moment is the clock reading of the turn in which it came to pass. Taking a request over,
//! validating it and putting it into the log's buffer happen within one turn, so they have no stages
//! of their own: the differences would always be 0. What a request can wait for before it is ordered
//! (its shard's turn, the ring to the core that orders, room in the log) is all in `queue`.
//!
//! Each core records into its own; a reader merges.

use hdrhistogram::Histogram;

/// Longest time told apart, µs; longer ones count as this.
const MAX_US: u64 = 60_000_000;

/// A stretch of a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// From the socket until it has its place in the log's buffer.
    Queue,
    /// Waited for the local sync.
    Sync,
    /// Waited for the quorum.
    Commit,
    /// Applied to the tree.
    Apply,
    /// Reply handed to the kernel.
    Reply,
    /// Of a write, all of the above.
    Write,
    /// Of a read, from socket to kernel.
    Read,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Stage; 7] = [
        Stage::Queue,
        Stage::Sync,
        Stage::Commit,
        Stage::Apply,
        Stage::Reply,
        Stage::Write,
        Stage::Read,
    ];

    /// In keys of `mntr`.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Queue => "queue",
            Stage::Sync => "sync",
            Stage::Commit => "commit",
            Stage::Apply => "apply",
            Stage::Reply => "reply",
            Stage::Write => "write",
            Stage::Read => "read",
        }
    }
}

/// What is shown of one stage, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests.
    pub count: u64,
    /// Of all requests together, as the histogram's buckets have them.
    pub sum: u64,
    /// Shortest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

/// One histogram per stage, about 100 KiB together.
///
/// Requests of one batch spend equal times in most stages: a run of equal times is counted beside the
/// histogram, and goes into it as one when the time changes.
#[derive(Clone, Debug)]
pub struct Stages {
    histograms: Vec<Histogram<u64>>,
    runs: [Run; Stage::ALL.len()],
}

/// `n` requests that took `us` each.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    us: u64,
    n: u64,
}

impl Run {
    fn put_into(self, histogram: &mut Histogram<u64>) {
        if self.n > 0 {
            histogram.saturating_record_n(self.us, self.n);
        }
    }
}

impl Default for Stages {
    fn default() -> Stages {
        let empty = || Histogram::new_with_bounds(1, MAX_US, 2).expect("the bounds are valid");
        Stages {
            histograms: Stage::ALL.iter().map(|_| empty()).collect(),
            runs: Default::default(),
        }
    }
}

impl Stages {
    /// Counts one request that spent the time from `from` to `to` (µs) in a stage.
    pub fn record(&mut self, stage: Stage, from: u64, to: u64) {
        let us = to.saturating_sub(from);
        let run = &mut self.runs[stage as usize];
        if run.us == us {
            run.n += 1;
        } else {
            std::mem::replace(run, Run { us, n: 1 }).put_into(&mut self.histograms[stage as usize]);
        }
    }

    /// Adds what another core recorded.
    pub fn merge(&mut self, other: &Stages) {
        let theirs = other.histograms.iter().zip(&other.runs);
        for (mine, (theirs, run)) in self.histograms.iter_mut().zip(theirs) {
            mine.add(theirs).expect("all have the same bounds");
            run.put_into(mine);
        }
    }

    /// What to show of a stage.
    pub fn summary(&self, stage: Stage) -> Summary {
        let mut histogram = self.histograms[stage as usize].clone();
        self.runs[stage as usize].put_into(&mut histogram);
        let at = |quantile| histogram.value_at_quantile(quantile);
        Summary {
            count: histogram.len(),
            sum: (histogram.mean() * histogram.len() as f64).round() as u64,
            min: histogram.min(),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.histograms.iter_mut().for_each(Histogram::reset);
        self.runs = Default::default();
    }

    /// One line per stage: name, count, p50, p99, p99.9, max.
    pub fn dump(&self) -> String {
        let mut text =
            String::from("stage      count        p50 µs     p99 µs   p99.9 µs     max µs\n");
        for stage in Stage::ALL {
            let Summary {
                count,
                p50,
                p99,
                p999,
                max,
                ..
            } = self.summary(stage);
            let name = stage.name();
            text += &format!("{name:8} {count:9} {p50:10} {p99:10} {p999:10} {max:10}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_merged_and_the_stages_sum_to_the_total() {
        let (mut one, mut other) = (Stages::default(), Stages::default());
        let stamps = [10, 27, 127, 127, 130, 140];
        for (stage, span) in Stage::ALL.iter().zip(stamps.windows(2)) {
            one.record(*stage, span[0], span[1]);
        }
        one.record(Stage::Write, 10, 140);
        let spans = Stage::ALL[..5]
            .iter()
            .map(|s| one.summary(*s).max)
            .sum::<u64>();
        assert_eq!(spans, one.summary(Stage::Write).max);
        other.record(Stage::Sync, 5, 5_000_000_000);
        one.merge(&other);
        let sync = one.summary(Stage::Sync);
        assert_eq!(sync.count, 2);
        assert!(sync.max >= MAX_US && sync.p50 >= 100);
        assert!(one.dump().contains("sync             2"));
        one.reset();
        assert_eq!(one.summary(Stage::Sync), Summary::default());
    }

    #[test]
    fn equal_times_count_each() {
        let mut one = Stages::default();
        for us in [7, 7, 7, 0, 0, 7] {
            one.record(Stage::Read, 100, 100 + us);
        }
        let mut both = one.clone();
        both.merge(&one);
        for (stages, times) in [(&one, 1), (&both, 2)] {
            let Summary {
                count,
                sum,
                min,
                p50,
                p95,
                max,
                ..
            } = stages.summary(Stage::Read);
            assert_eq!((count, p50, p95, max), (6 * times, 7, 7, 7));
            assert_eq!((sum, min), (4 * 7 * times, 0));
        }
    }
}
