//! When a snapshot is due.
//!
//! | Due | Because |
//! |---|---|
//! | the log behind the last snapshot exceeds both `snapCount` transactions and half the bytes of that snapshot | a start replays it, and a snapshot costs what the state is long |
//! | it exceeds both [`LOG_BYTES`] and the bytes of that snapshot | `snapCount` large transactions fill a disk |
//! | the log behind the last snapshot has [`SEGMENTS_MAX`] segments more than its bytes fill | each restart leaves a segment, however little stands in it |
//! | closed segments come to more bytes than is left on the log's disk, and than the snapshots that are kept | it makes segments unneeded, and nothing else may be left that makes room |
//! | at once: a start found damage that costs nothing as long as nothing else is damaged | what is in memory is whole |
//!
//! One that failed is tried again after [`RETRY_MS`], whether or not anything is written meanwhile; after
//! each further failure after twice as long, up to [`RETRY_MS_MAX`]. So are purges ([`Retry`]), which have a row
//! of failures of their own.

use crate::log::LogCounters;
use crate::types::Tick;

/// Segments behind the last snapshot that restarts may have left.
pub(super) const SEGMENTS_MAX: u64 = 8;
/// A log of so many bytes is long enough for a snapshot, however few transactions it holds, unless the last snapshot
/// was longer.
const LOG_BYTES: u64 = 1 << 30;
/// A snapshot that could not be made is tried again after this long, ms.
pub(super) const RETRY_MS: u64 = 10_000;
/// A snapshot that can't be made costs no more than a try in this time, ms.
const RETRY_MS_MAX: u64 = 64 * RETRY_MS;

/// How long a part of the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLength {
    /// Transactions.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
    /// Segments, the one that is written not counted.
    pub segments: u64,
}

impl From<LogCounters> for LogLength {
    fn from(counters: LogCounters) -> LogLength {
        LogLength {
            records: counters.records,
            bytes: counters.bytes,
            segments: counters.rolls,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// It is being made, of the state when the log had grown by this much since the start.
    Making(LogLength),
    /// The last try failed; it is made again at this tick, `None`: the next tick says when.
    Failed(Option<Tick>),
}

/// Decides when a snapshot is made.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    records_min: u64,
    segment_bytes: u64,
    /// Bytes of the last snapshot.
    last_bytes: u64,
    /// Between the last snapshot and `since`.
    behind: LogLength,
    /// Of what was appended since the start, this much is in `behind` or in the last snapshot.
    since: LogLength,
    at_once: bool,
    /// How long the next failure is waited out, ms.
    retry_ms: u64,
    state: State,
}

impl Schedule {
    /// `replayed` stands between the last snapshot, of `last_bytes`, and the start; `at_once`: a
    /// snapshot is due whatever stands there.
    pub fn new(
        records_min: u64,
        segment_bytes: u64,
        last_bytes: u64,
        replayed: LogLength,
        at_once: bool,
    ) -> Schedule {
        Schedule {
            records_min: records_min.max(1),
            segment_bytes,
            last_bytes,
            behind: replayed,
            since: LogLength::default(),
            at_once,
            retry_ms: RETRY_MS,
            state: State::Waiting,
        }
    }

    /// Whether to make one now, when the log has grown by `appended` since the start; the caller makes it
    /// if so. `makes_room`: one of another state than the last makes room that the log's disk lacks.
    pub fn is_due(&mut self, appended: LogLength, makes_room: bool) -> bool {
        let has_grown = self.behind.records + appended.records > self.since.records;
        let is_wanted = self.at_once || self.is_long(appended) || makes_room && has_grown;
        let is_due = self.state == State::Waiting && is_wanted;
        if is_due {
            self.state = State::Making(appended);
        }
        is_due
    }

    fn is_long(&self, appended: LogLength) -> bool {
        let records = self.behind.records + appended.records - self.since.records;
        let bytes = self.behind.bytes + appended.bytes - self.since.bytes;
        let segments = self.behind.segments + appended.segments - self.since.segments;
        let left_by_restarts = segments.saturating_sub(bytes / self.segment_bytes);
        records >= self.records_min && bytes >= self.last_bytes / 2
            || records > 0 && bytes >= LOG_BYTES.max(self.last_bytes)
            || left_by_restarts > SEGMENTS_MAX
    }

    /// Somebody waits for one.
    pub fn hurry(&mut self) {
        self.at_once = true;
    }

    /// It was made, and has so many bytes; `None`: it failed.
    pub fn made(&mut self, bytes: Option<u64>) {
        match (self.state, bytes) {
            (State::Making(appended), Some(bytes)) => {
                (self.behind, self.since) = (LogLength::default(), appended);
                (self.last_bytes, self.at_once) = (bytes, false);
                (self.retry_ms, self.state) = (RETRY_MS, State::Waiting);
            }
            _ => self.state = State::Failed(None),
        }
    }

    /// Timers.
    pub fn tick(&mut self, now: Tick) {
        if let State::Failed(retry_at) = &mut self.state {
            let at = *retry_at.get_or_insert(now.after(self.retry_ms));
            if now >= at {
                self.retry_ms = (2 * self.retry_ms).min(RETRY_MS_MAX);
                self.state = State::Waiting;
            }
        }
    }

    /// What should be free before one is begun, bytes: one that fills the disk takes room from the log
    /// for nothing.
    pub fn room_needed(&self) -> u64 {
        self.last_bytes + self.last_bytes / 8
    }
}

/// When what has failed is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retry {
    /// How long the last failure is waited out, ms; 0: there was none.
    wait_ms: u64,
    /// It is due at this tick, `None`: the next tick says when.
    at: Option<Tick>,
    is_due: bool,
}

impl Retry {
    /// It has failed. Whether that is the first time of a row.
    pub fn failed(&mut self) -> bool {
        let is_first = self.wait_ms == 0;
        *self = Retry {
            wait_ms: (2 * self.wait_ms).clamp(RETRY_MS, RETRY_MS_MAX),
            ..Retry::default()
        };
        is_first
    }

    /// It has not.
    pub fn succeeded(&mut self) {
        *self = Retry::default();
    }

    /// Timers.
    pub fn tick(&mut self, now: Tick) {
        if self.wait_ms > 0 {
            let at = *self.at.get_or_insert(now.after(self.wait_ms));
            self.is_due = now >= at;
        }
    }

    /// Whether to try it now.
    pub fn is_due(&self) -> bool {
        self.is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn length(records: u64, bytes: u64, segments: u64) -> LogLength {
        LogLength {
            records,
            bytes,
            segments,
        }
    }

    fn schedule(last_bytes: u64, replayed: LogLength) -> Schedule {
        Schedule::new(1000, 64 * MIB, last_bytes, replayed, false)
    }

    #[test]
    fn what_was_replayed_counts_in_transactions_and_in_bytes() {
        let last = 8 << 30;
        let mut due = schedule(last, length(30_000_000, last / 2 - MIB, 64));
        assert!(!due.is_due(length(1, 1000, 0), false));
        assert!(due.is_due(length(1000, MIB, 0), false));
        due.made(Some(last));
        assert!(!due.is_due(length(100_000, 100 * MIB, 2), false));
    }

    #[test]
    fn segments_that_restarts_have_left_are_counted_and_full_ones_are_not() {
        assert!(!schedule(0, length(9, 9000, SEGMENTS_MAX)).is_due(LogLength::default(), false));
        assert!(schedule(0, length(9, 9000, SEGMENTS_MAX + 1)).is_due(LogLength::default(), false));
        let full = length(999, 10 * 64 * MIB, 10 + SEGMENTS_MAX);
        assert!(!schedule(0, full).is_due(LogLength::default(), false));
    }

    #[test]
    fn a_log_of_few_large_transactions_is_long_enough_and_a_large_state_waits_for_more() {
        for last in [0, MIB, LOG_BYTES] {
            let mut due = schedule(last, LogLength::default());
            assert!(!due.is_due(length(999, LOG_BYTES - 1, 16), false));
            assert!(due.is_due(length(999, LOG_BYTES, 16), false));
            due.made(Some(last));
            assert!(!due.is_due(length(1998, 2 * LOG_BYTES - 1, 32), false));
        }
        let replayed = length(500, LOG_BYTES, 16);
        assert!(schedule(MIB, replayed).is_due(LogLength::default(), false));
        let large = 3 * LOG_BYTES;
        assert!(!schedule(large, replayed).is_due(length(1, large - LOG_BYTES - 1, 32), false));
        assert!(schedule(large, replayed).is_due(length(1, large - LOG_BYTES, 32), false));
    }

    #[test]
    fn one_that_failed_is_tried_again_on_time_though_nothing_is_written() {
        let mut due = schedule(0, length(1000, MIB, 1));
        assert!(due.is_due(LogLength::default(), false));
        due.made(None);
        for ms in [0, RETRY_MS - 1] {
            due.tick(Tick(ms));
            assert!(!due.is_due(LogLength::default(), false), "{ms}");
        }
        due.tick(Tick(RETRY_MS));
        assert!(due.is_due(LogLength::default(), false));
    }

    #[test]
    fn one_that_always_fails_is_tried_at_growing_distances_up_to_a_bound() {
        let mut due = schedule(0, length(1000, MIB, 1));
        let mut tries = Vec::new();
        for second in 0..4000 {
            due.tick(Tick(1000 * second));
            if due.is_due(LogLength::default(), false) {
                tries.push(second);
                due.made(None);
            }
        }
        let distances: Vec<u64> = tries.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(distances.is_sorted() && tries.len() > 9, "{tries:?}");
        let longest = *distances.last().expect("there were tries");
        assert!((640..650).contains(&longest), "{tries:?}");
    }

    #[test]
    fn what_always_fails_is_said_once_and_tried_at_growing_distances_up_to_a_bound() {
        let (mut retry, mut tries, mut said) = (Retry::default(), Vec::new(), 0);
        for second in 0..4000 {
            retry.tick(Tick(1000 * second));
            if retry.is_due() || second == 0 {
                tries.push(second);
                said += u32::from(retry.failed());
                assert!(!retry.is_due());
            }
        }
        assert_eq!(said, 1);
        let distances: Vec<u64> = tries.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(distances.is_sorted() && tries.len() > 9, "{tries:?}");
        assert!((10..12).contains(&distances[0]), "{tries:?}");
        let longest = *distances.last().expect("there were tries");
        assert!((640..650).contains(&longest), "{tries:?}");
        retry.succeeded();
        retry.tick(Tick(1 << 40));
        assert!(!retry.is_due());
        assert!(retry.failed(), "a row begins");
    }

    #[test]
    fn one_that_was_made_ends_the_growing_distances() {
        let mut due = schedule(0, length(1000, MIB, 1));
        let mut second = 0;
        let mut tries_in = |due: &mut Schedule, seconds: u64, made| {
            let mut tries = 0;
            for _ in 0..seconds {
                second += 1;
                due.tick(Tick(1000 * second));
                if due.is_due(length(second * 1000, second * MIB, 0), false) {
                    tries += 1;
                    due.made(made);
                }
            }
            tries
        };
        let failed = tries_in(&mut due, 2000, None);
        assert!(failed > 5, "{failed}");
        assert!(tries_in(&mut due, 1000, Some(10)) > 0);
        assert_eq!(tries_in(&mut due, 15, None), 2, "the second one after 10 s");
    }

    #[test]
    fn want_of_room_asks_for_one_of_another_state_than_the_last() {
        let mut due = schedule(MIB, LogLength::default());
        assert!(!due.is_due(LogLength::default(), true));
        let [one, two] = [1, 2].map(|records| length(records, 100, 0));
        assert!(!due.is_due(one, false));
        assert!(due.is_due(one, true));
        due.made(Some(MIB));
        assert!(!due.is_due(one, true));
        assert!(due.is_due(two, true));
        due.made(None);
        assert!(!due.is_due(two, true), "not at once again");
    }

    #[test]
    fn after_damage_one_is_made_at_once_and_only_once() {
        let mut due = Schedule::new(1000, MIB, 0, LogLength::default(), true);
        assert!(due.is_due(LogLength::default(), false));
        due.made(Some(10));
        assert!(!due.is_due(LogLength::default(), false));
    }
}
