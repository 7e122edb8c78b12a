//! What a worker counts while it runs, and how the counts of several become one.

use crate::procfs::{self, Sample};
use crate::sys;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest latency that is told apart, ns.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Latencies in ns, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("constant bounds that make sense")
}

/// Nanoseconds since the run's beginning.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Now.
    pub fn ns(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// When is measured.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// ns.
    pub begin_ns: u64,
    /// ns.
    pub end_ns: u64,
}

impl Window {
    /// Warm-up and measurement from `now` on.
    pub fn after(now_ns: u64, warmup: Duration, measured: Duration) -> Window {
        let begin_ns = now_ns + warmup.as_nanos() as u64;
        Window {
            begin_ns,
            end_ns: begin_ns + measured.as_nanos() as u64,
        }
    }

    /// Whether an instant belongs to it.
    pub fn contains(self, ns: u64) -> bool {
        (self.begin_ns..self.end_ns).contains(&ns)
    }
}

/// A worker's own figures and those of processes when its window begins.
pub struct Opening {
    sample: Sample,
    cpu_ns: u64,
    waited_ns: u64,
}

impl Opening {
    /// Takes them. Only one worker looks at the servers; the others give no processes.
    pub fn take(pids: Option<&[u32]>, clock: Clock) -> Opening {
        Opening {
            waited_ns: procfs::thread_waited_ns(),
            cpu_ns: sys::thread_cpu_ns(),
            sample: procfs::sample(clock.ns(), pids.unwrap_or_default()),
        }
    }
}

/// One answered request of an open loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// When it was due, on the run's clock.
    pub due_ns: u64,
    /// From then to the answer.
    pub latency_ns: u64,
    /// The generator's own share of that.
    pub lag_ns: u64,
    /// Of the answer; 0 if none came.
    pub zxid: i64,
}

impl Answered {
    /// The latency less the generator's lag.
    pub fn served_ns(&self) -> u64 {
        self.latency_ns.saturating_sub(self.lag_ns)
    }

    /// When the answer came.
    pub fn at_ns(&self) -> u64 {
        self.due_ns + self.latency_ns
    }
}

/// Counts of one worker, or of all.
pub struct Tally {
    /// Of operations that the server's log doesn't see: gets, deliveries.
    pub reads: Histogram<u64>,
    /// Of sets, creates, new sessions.
    pub writes: Histogram<u64>,
    /// Open loop: how much later than they could have been requests were handed to the system.
    pub lag: Histogram<u64>,
    /// Open loop: latencies of all operations, each less its own lag.
    pub less_lag: Histogram<u64>,
    /// Operations that ended well within the window.
    pub completed: u64,
    /// Failed operations by code, whole run.
    pub errors: BTreeMap<i32, u64>,
    /// Transactions that the server has acknowledged, whole run, sessions included.
    pub transactions: u64,
    /// Connections that the server closed, or that broke.
    pub lost_connections: u64,
    /// Requests that were still unanswered at the very end.
    pub unfinished: u64,
    /// Events that a watcher should have got and did not.
    pub missing: u64,
    /// Events that nobody had asked for.
    pub surplus: u64,
    /// The busiest worker's share of its CPU in the window, 0 to 1.
    pub busiest: f64,
    /// The longest that a worker was ready and had no CPU, as a share of the window.
    pub waited: f64,
    /// Each request of an open loop, if that was asked for: as many as its rate and length come to.
    pub answered: Option<Vec<Answered>>,
    /// Process figures at the window's begin and end; the first worker takes them.
    pub samples: Option<(Sample, Sample)>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            reads: histogram(),
            writes: histogram(),
            lag: histogram(),
            less_lag: histogram(),
            completed: 0,
            errors: BTreeMap::new(),
            transactions: 0,
            lost_connections: 0,
            unfinished: 0,
            missing: 0,
            surplus: 0,
            busiest: 0.0,
            waited: 0.0,
            answered: None,
            samples: None,
        }
    }
}

impl Tally {
    /// Counts failures.
    pub fn error(&mut self, code: i32, count: u64) {
        if count > 0 {
            *self.errors.entry(code).or_default() += count;
        }
    }

    /// Keeps a request, if requests are kept.
    pub fn keep(&mut self, answered: Answered) {
        if let Some(kept) = &mut self.answered {
            kept.push(answered);
        }
    }

    /// A worker's window is over: what it used of its time, and the processes' figures.
    pub fn close_window(&mut self, begin: &Opening, pids: Option<&[u32]>, clock: Clock) {
        let end = procfs::sample(clock.ns(), pids.unwrap_or_default());
        let window_ns = (end.at_ns - begin.sample.at_ns).max(1) as f64;
        self.busiest = (sys::thread_cpu_ns() - begin.cpu_ns) as f64 / window_ns;
        let waited_ns = procfs::thread_waited_ns().saturating_sub(begin.waited_ns);
        self.waited = waited_ns as f64 / window_ns;
        self.samples = pids.is_some().then_some((begin.sample, end));
    }

    /// Takes another worker's counts in.
    pub fn merge(&mut self, other: Tally) {
        for (ours, theirs) in [
            (&mut self.reads, &other.reads),
            (&mut self.writes, &other.writes),
            (&mut self.lag, &other.lag),
            (&mut self.less_lag, &other.less_lag),
        ] {
            ours.add(theirs)
                .expect("all histograms have the same bounds");
        }
        for (code, count) in other.errors {
            self.error(code, count);
        }
        if let Some(theirs) = other.answered {
            self.answered.get_or_insert_default().extend(theirs);
        }
        self.completed += other.completed;
        self.transactions += other.transactions;
        self.lost_connections += other.lost_connections;
        self.unfinished += other.unfinished;
        self.missing += other.missing;
        self.surplus += other.surplus;
        self.busiest = self.busiest.max(other.busiest);
        self.waited = self.waited.max(other.waited);
        self.samples = self.samples.or(other.samples);
    }
}
