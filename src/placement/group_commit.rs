//! When a sync that could begin should rather wait for a moment, where it runs, and where what it makes durable
//! is written.
//!
//! **When.** Clients that wait for each answer come back together: a sync answers a number of them,
//! the first to ask again finds the disk idle, and if its sync begins at once all the others wait for
//! that one and for their own. So after a sync that answered several, the driver looks at the
//! sockets again, without sleeping, while looks bring more of them, for as long as the sync took at
//! most, and not longer than [`GAP_US`] after somebody came. There is no timer, and a lone client
//! never waits.
//!
//! **Where.** A sync on the core that orders costs no wake-up of another thread and back, and
//! holds up everything else on that core: requests of others, and the answers, requests and records
//! of the next batch, which a sync beside the core overlaps with. With [`SyncPolicy::Auto`] it runs
//! on the core if all of these hold, and beside it otherwise:
//!
//! | Condition | Because |
//! |---|---|
//! | no input waits that the last look at the sockets brought | it would wait for the sync |
//! | for [`QUIET_US`] nothing was executed for a connection that has no write in the batch | a read, or a ping, that comes now would wait for the sync; at most one such request waits in [`QUIET_US`] |
//! | neither this batch nor the one before it has more than [`FEW_RECORDS`] | handing out their answers and taking in the next requests fills the time of a sync |
//! | the batch has at most [`FEW_BYTES`], and lies in one segment | the device takes as long as the network; a new segment is three operations more |
//! | no sync took [`SLOW_US`] or more (a long one: [`LONG_SLOW_US`]) within [`BACK_OFF`] times what it took, [`BACK_OFF_MAX_US`] at most | a device that stalled once stalls again: the core stands still in stalls for at most one part in `BACK_OFF + 1` of the time |
//!
//! A core that orders and serves no sockets has nobody who waits but those of the batch: the first
//! two conditions do not concern it.
//!
//! A machine without a free processor lets the thread beside the core wait for one, often longer than a
//! sync takes, and everybody who writes waits with it. Where the scheduler gives short slices
//! ([`SyncPolicy::Auto`], `is_prompt`) that is left as it is: reads of others, which a sync on the core would
//! hold up, count for more. Where it does not, what syncs take is averaged for both places. While
//! those beside the core take [`LATE_US`] or more and those on it less than one in [`LATE_PARTS`] of that,
//! the first two conditions do not count, nor the third for what gathered behind a late sync. Each place
//! that is not used is tried now and then: the core as long after the last sync there as a stall asks for,
//! the thread every [`TRIAL_US`]. How long a sync of many bytes or of a new segment takes says nothing of the
//! others, and counts nowhere, unless it is a stall whatever it was for.
//!
//! **Where the records are written.** A write into the page cache takes as long as a copy, and waits in the
//! kernel for as long as it likes while the device is slow: for the journal of the file system, for pages that are
//! on their way to the device, because dirty pages are throttled. The first row that fits:
//!
//! | The sync | The batch | A stall | The write | Because |
//! |---|---|---|---|---|
//! | on the core | any | any | on the core | the sync waits for the device anyway |
//! | beside it | begins a segment, or has more than [`WRITE_BYTES`] | any | beside it | the copy holds up the core; many dirty pages at once are what is throttled |
//! | beside it | small | it backs off from one, as above | beside it | a core that must not wait for the device must not write either |
//! | beside it | small | none | on the core | the device has the pages before the thread wakes up, and the core makes no further turn between write and sync |
//!
//! What was measured stands in `docs/performance.md`; [`LATE_US`], [`LATE_PARTS`], [`TRIAL_US`] and
//! [`AVERAGED`] were chosen, and only their effect was measured.

/// With more than these answered, handing out the answers fills the time of the next sync anyway.
const ANSWERED_MAX: u64 = 96;
/// Looks in a row that bring nobody, at most, whatever the clock says.
const LOOKS_MAX: u32 = 64;
/// Without anybody for this long, µs, those who are missing do something else.
const GAP_US: u64 = 40;
/// Others were served so recently, µs, that more of them are to be expected.
const QUIET_US: u64 = 5_000;
/// Records of a batch whose sync may hold up the core.
const FEW_RECORDS: u64 = 20;
/// Bytes of a batch whose sync, or whose way to the device, may hold up the core.
pub const FEW_BYTES: u64 = 256 << 10;
/// Bytes of a batch that the core may write itself while another thread syncs: more than small records of
/// hundreds of clients come to, and less than one large record.
pub const WRITE_BYTES: u64 = 512 << 10;
/// A sync of this many µs is a stall.
const SLOW_US: u64 = 2_000;
/// A long sync of this many µs is a stall: a disk that takes a second for 64 MiB is slow.
const LONG_SLOW_US: u64 = 1_000_000;
/// After a stall, syncs run beside the core for so many times as long as it took.
const BACK_OFF: u64 = 10;
/// But not longer than this, µs.
const BACK_OFF_MAX_US: u64 = 10_000_000;

/// A sync of this many µs beside the core is late: the device may be slow, or the thread waits.
const LATE_US: u64 = 500;
/// The thread waits if a sync on the core takes less than one in so many parts of one beside it.
const LATE_PARTS: u64 = 2;
/// While the thread waits, one sync in so many µs runs there, to see whether it still does.
const TRIAL_US: u64 = 1_000_000;
/// A sync counts for one part in so many of the average.
const AVERAGED: u64 = 8;

const _: () = assert!(SLOW_US * BACK_OFF < BACK_OFF_MAX_US);
const _: () = assert!(SLOW_US < LONG_SLOW_US && FEW_BYTES <= WRITE_BYTES);

/// Where a sync runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPlace {
    /// On the core that orders, which does nothing else meanwhile.
    Here,
    /// On another thread; the core goes on.
    Beside,
}

/// What the operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// On the core if nobody else would wait for it, or if the thread beside it waits for a processor.
    Auto {
        /// The thread beside it gets a processor soon, because those who have one have it for a short slice
        /// only: it is never said to wait.
        is_prompt: bool,
    },
    /// Always on the core that orders.
    Always,
    /// Never on the core that orders.
    Never,
}

/// How often what was decided, for `mntr` and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounters {
    /// Syncs on the core that orders.
    pub here: u64,
    /// Syncs beside it.
    pub beside: u64,
    /// Of these, syncs whose records were written beside it, too.
    pub written_beside: u64,
    /// Looks for which a sync waited.
    pub looks: u64,
    /// What syncs took since the last reset.
    pub took: SyncTimes,
}

/// What syncs took, from the moment at which one begins to the one at which its core has heard of its end,
/// µs. All 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// Syncs.
    pub count: u64,
    /// All together.
    pub sum_us: u64,
    /// The shortest.
    pub min_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl SyncTimes {
    fn add(&mut self, us: u64) {
        self.min_us = match self.count {
            0 => us,
            _ => self.min_us.min(us),
        };
        self.max_us = self.max_us.max(us);
        self.sum_us += us;
        self.count += 1;
    }
}

/// Decides when a sync begins and where it runs. Counts of records are those of the log since its
/// start; times are µs of one clock.
#[derive(Debug)]
pub struct GroupCommit {
    policy: SyncPolicy,
    /// Whether the core that orders serves sockets too.
    serves: bool,
    /// When the last sync began, and what was in the log then.
    began: u64,
    begun: u64,
    /// Records that it made durable.
    batch: u64,
    /// Of those answered, who have not come back; nobody is waited for after `until`.
    expected: u64,
    until: u64,
    /// The log at the last look.
    seen: u64,
    /// When somebody came, or the last sync ended.
    came: u64,
    /// Looks in a row that brought nobody.
    empty: u32,
    /// When something was executed for a connection that has no write in the batch.
    others: Option<u64>,
    /// Until when syncs run beside the core because of a stall, and because of one on the core.
    backs_off_until: u64,
    stood_until: u64,
    /// Where the sync under way runs.
    place: SyncPlace,
    /// Whether the sync under way is a long one.
    is_long: bool,
    /// What syncs take, µs: on the core, and beside it.
    here: Average,
    beside: Average,
    /// From when on a sync is tried on the core although others wait, and one beside it although the
    /// thread waits.
    try_here: u64,
    try_beside: u64,
    /// The last sync was late, beside the core.
    was_late: bool,
    counters: SyncCounters,
}

impl GroupCommit {
    /// For a core that orders; `serves`: it serves sockets too (the inline placement).
    pub fn new(policy: SyncPolicy, serves: bool) -> GroupCommit {
        GroupCommit {
            policy,
            serves,
            began: 0,
            begun: 0,
            batch: 0,
            expected: 0,
            until: 0,
            seen: 0,
            came: 0,
            empty: 0,
            others: None,
            // Nothing is known of the device; the first stall tells.
            backs_off_until: 0,
            stood_until: 0,
            place: SyncPlace::Here,
            is_long: false,
            here: Average::default(),
            beside: Average::default(),
            try_here: 0,
            try_beside: 0,
            was_late: false,
            counters: SyncCounters::default(),
        }
    }

    /// Something was executed that is not a write, for a connection that has no write without an
    /// outcome: a read, a ping, a handshake.
    pub fn served_others(&mut self, now: u64) {
        self.others = Some(now);
    }

    /// A look at what came in; to be called in every turn. Whether a sync should wait for another
    /// look, which is to be made at once, without sleeping.
    pub fn waits(&mut self, records: u64, now: u64) -> bool {
        let came = records - std::mem::replace(&mut self.seen, records);
        self.expected = self.expected.saturating_sub(came);
        if came > 0 {
            (self.empty, self.came) = (0, now);
        } else {
            self.empty += 1;
        }
        let patient = self.empty < LOOKS_MAX && now < self.came + GAP_US && now < self.until;
        let waits = self.expected > 0 && patient;
        self.counters.looks += u64::from(waits);
        waits
    }

    /// Where the sync of everything in the log runs that begins now. `is_long`: it has more than
    /// [`FEW_BYTES`], or a segment was begun; `input_waits`: the last look at the sockets brought input
    /// that was not executed yet.
    pub fn place(&self, records: u64, is_long: bool, input_waits: bool, now: u64) -> SyncPlace {
        let others = (self.others).is_some_and(|others| now < others + QUIET_US);
        let nobody_waits = !self.serves || (!input_waits && !others);
        let batch = records - self.begun;
        let few = self.batch.max(batch) <= FEW_RECORDS;
        let is_free = nobody_waits && few && now >= self.backs_off_until;
        match self.policy {
            SyncPolicy::Always => SyncPlace::Here,
            SyncPolicy::Never => SyncPlace::Beside,
            SyncPolicy::Auto { .. } if is_long => SyncPlace::Beside,
            SyncPolicy::Auto { is_prompt }
                if is_free || (!is_prompt && self.thread_is_worse(batch, now)) =>
            {
                SyncPlace::Here
            }
            SyncPolicy::Auto { .. } => SyncPlace::Beside,
        }
    }

    /// Whether syncs beside the core are late because the thread waits for a processor, or one is to be tried
    /// on the core to see. What has gathered behind a late one makes a batch large that would be small
    /// otherwise.
    fn thread_is_worse(&self, batch: u64, now: u64) -> bool {
        let is_small = batch <= FEW_RECORDS || self.was_late;
        let is_late = self.beside.micros() >= LATE_US;
        let is_tried = match self.here.0 {
            Some(here) if here * LATE_PARTS < self.beside.micros() => now < self.try_beside,
            _ => now >= self.try_here,
        };
        is_late && is_small && is_tried && now >= self.stood_until
    }

    /// Whether the records of a sync that begins now at `place` are written beside the core. `is_large`: they have
    /// more than [`WRITE_BYTES`], or a segment was begun.
    pub fn writes_beside(&mut self, place: SyncPlace, is_large: bool, now: u64) -> bool {
        let beside = place == SyncPlace::Beside && (is_large || now < self.backs_off_until);
        self.counters.written_beside += u64::from(beside);
        beside
    }

    /// A sync begins for everything in the log; `is_long` as in [`GroupCommit::place`].
    pub fn began(&mut self, place: SyncPlace, records: u64, is_long: bool, now: u64) {
        match place {
            SyncPlace::Here => self.counters.here += 1,
            SyncPlace::Beside => self.counters.beside += 1,
        }
        self.batch = records - self.begun;
        (self.begun, self.began, self.place) = (records, now, place);
        self.is_long = is_long;
        self.expected = 0;
    }

    /// The sync has ended.
    pub fn ended(&mut self, now: u64) {
        let took = now.saturating_sub(self.began);
        self.counters.took.add(took);
        self.judge(took, now);
        self.expected = match self.batch {
            ..=ANSWERED_MAX => self.batch,
            _ => 0,
        };
        self.until = now + took;
        (self.empty, self.came) = (0, now);
    }

    /// What the sync that has ended says of the device, and of the thread. A long one says nothing but that
    /// the device stalled.
    fn judge(&mut self, took: u64, now: u64) {
        let stall = if self.is_long { LONG_SLOW_US } else { SLOW_US };
        let back_off = now + took.saturating_mul(BACK_OFF).min(BACK_OFF_MAX_US);
        if took >= stall {
            self.backs_off_until = self.backs_off_until.max(back_off);
        }
        if self.is_long {
            return;
        }
        let is_late = took >= LATE_US;
        self.was_late = is_late && self.place == SyncPlace::Beside;
        match self.place {
            SyncPlace::Here => {
                self.here.add(took);
                self.try_here = back_off;
                if took >= SLOW_US {
                    self.stood_until = self.stood_until.max(back_off);
                }
            }
            SyncPlace::Beside => {
                let was = self.beside.micros();
                if self.beside.add(took) >= LATE_US && was < LATE_US {
                    self.try_here = self.try_here.max(back_off);
                }
                // A trial goes on as long as it goes well.
                if is_late {
                    self.try_beside = now + TRIAL_US;
                }
            }
        }
    }

    /// How often what was decided.
    pub fn counters(&self) -> SyncCounters {
        self.counters
    }

    /// Forgets what syncs took, for `srst`; nothing is decided by it.
    pub fn reset_times(&mut self) {
        self.counters.took = SyncTimes::default();
    }
}

/// The average of what the last syncs took, µs, each of them one part in [`AVERAGED`] of it. A stall
/// counts as [`SLOW_US`]: one alone says little of the next sync.
#[derive(Clone, Copy, Debug, Default)]
struct Average(Option<u64>);

impl Average {
    fn micros(self) -> u64 {
        self.0.unwrap_or(0)
    }

    /// The average with one more.
    fn add(&mut self, took: u64) -> u64 {
        let took = took.min(SLOW_US);
        let average = self
            .0
            .map_or(took, |average| (average * (AVERAGED - 1) + took) / AVERAGED);
        *self.0.insert(average)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: SyncPolicy = SyncPolicy::Auto { is_prompt: false };

    /// After a sync of 200 µs for `batch` records.
    fn after_a_sync(batch: u64) -> GroupCommit {
        let mut commit = GroupCommit::new(AUTO, true);
        assert!(!commit.waits(batch, 0));
        commit.began(SyncPlace::Here, batch, false, 0);
        commit.ended(200);
        commit
    }

    #[test]
    fn a_lone_client_never_waits() {
        let mut commit = after_a_sync(1);
        assert!(!commit.waits(2, 250));
        assert_eq!(commit.counters().looks, 0);
    }

    #[test]
    fn it_waits_as_long_as_somebody_comes_back() {
        let mut commit = after_a_sync(4);
        assert!(commit.waits(5, 210));
        assert!(commit.waits(7, 230));
        assert!(!commit.waits(8, 240), "all are back");
    }

    #[test]
    fn a_gap_is_enough_and_so_are_looks_while_the_clock_stands_still() {
        let mut commit = after_a_sync(4);
        assert!(commit.waits(5, 210));
        assert!(commit.waits(5, 249));
        assert!(!commit.waits(5, 250));
        let mut commit = after_a_sync(4);
        assert!(commit.waits(5, 210));
        let looks = (0..1000).take_while(|_| commit.waits(5, 210)).count();
        assert_eq!(looks, LOOKS_MAX as usize - 1);
    }

    #[test]
    fn it_waits_as_long_as_the_sync_took_and_not_for_crowds() {
        for batch in [20, ANSWERED_MAX] {
            let mut commit = after_a_sync(batch);
            for (nth, at) in (210..400).step_by(30).enumerate() {
                assert!(commit.waits(batch + 1 + nth as u64, at), "{at}");
            }
            assert!(!commit.waits(batch + 10, 400));
        }
        let mut commit = after_a_sync(ANSWERED_MAX + 1);
        assert!(!commit.waits(ANSWERED_MAX + 2, 210));
    }

    /// A log in which a first sync, of `took` µs, made `batch` records durable, and when it ended.
    fn after_a_batch(
        policy: SyncPolicy,
        serves: bool,
        batch: u64,
        took: u64,
    ) -> (GroupCommit, u64) {
        let mut commit = GroupCommit::new(policy, serves);
        let began = 1_000_000;
        commit.began(SyncPlace::Beside, batch, false, began);
        commit.ended(began + took);
        (commit, began + took)
    }

    #[test]
    fn where_a_sync_runs_is_a_table() {
        use SyncPlace::{Beside, Here};
        use SyncPolicy::{Always, Never};
        const FEW: u64 = FEW_RECORDS;
        // Records of the last batch and of this one; µs that the last sync took, and since it; how
        // long ago others were served; whether input waits; where the sync runs if the core serves
        // sockets, and if it does not.
        type Row = (u64, u64, u64, u64, Option<u64>, bool, SyncPlace, SyncPlace);
        let rows: [Row; 23] = [
            (1, 1, 100, 0, None, false, Here, Here),
            (1, 1, 100, 0, None, true, Beside, Here),
            (1, 1, 100, 0, Some(0), false, Beside, Here),
            (1, 1, 100, 5_000, Some(4_999), false, Beside, Here),
            (1, 1, 100, 5_000, Some(5_000), false, Here, Here),
            (1, 1, 100, 5_000, Some(5_000), true, Beside, Here),
            (FEW, FEW, 100, 0, None, false, Here, Here),
            (FEW, FEW + 1, 100, 0, None, false, Beside, Beside),
            (FEW + 1, 1, 100, 0, None, false, Beside, Beside),
            (FEW + 1, 1, 100, 1_000_000, None, false, Beside, Beside),
            (1, 1, 1_999, 0, None, false, Here, Here),
            (1, 1, 2_000, 0, None, false, Beside, Beside),
            (1, 1, 2_000, 19_999, None, false, Beside, Beside),
            (1, 1, 2_000, 20_000, None, false, Here, Here),
            // It was late: the device is tried.
            (1, 1, 2_000, 20_000, Some(0), false, Here, Here),
            (1, 1, 499, 20_000, Some(0), false, Beside, Here),
            (1, 1, 500, 4_999, Some(0), false, Beside, Here),
            (1, 1, 500, 5_000, Some(0), true, Here, Here),
            (FEW + 1, FEW + 1, 500, 4_999, Some(0), true, Beside, Beside),
            (FEW + 1, FEW + 1, 500, 5_000, Some(0), true, Here, Here),
            (1, 1, 30_000, 299_999, None, false, Beside, Beside),
            (1, 1, 30_000, 300_000, None, false, Here, Here),
            (1, 1, 60_000_000, 10_000_000, None, false, Here, Here),
        ];
        for (nth, row) in rows.into_iter().enumerate() {
            let (last, this, took, later, others, input_waits, serving, ordering) = row;
            for (policy, serves, due) in [
                (AUTO, true, serving),
                (AUTO, false, ordering),
                (Always, true, Here),
                (Always, false, Here),
                (Never, true, Beside),
                (Never, false, Beside),
            ] {
                let (mut commit, end) = after_a_batch(policy, serves, last, took);
                let now = end + later;
                if let Some(ago) = others {
                    commit.served_others(now - ago);
                }
                let place = commit.place(last + this, false, input_waits, now);
                assert_eq!(place, due, "row {nth}, {policy:?}, serves: {serves}");
            }
        }
    }

    /// Reads all the time, and syncs that take so many µs beside the core and on it; how many of a
    /// thousand were made on it.
    fn here_of_a_thousand(is_prompt: bool, beside: u64, here: u64) -> u64 {
        let mut commit = GroupCommit::new(SyncPolicy::Auto { is_prompt }, true);
        let mut now = 1_000_000_000;
        for records in 1..=1_000 {
            commit.served_others(now);
            let place = commit.place(records, false, false, now);
            commit.began(place, records, false, now);
            now += match place {
                SyncPlace::Here => here,
                SyncPlace::Beside => beside,
            };
            commit.ended(now);
        }
        commit.counters().here
    }

    #[test]
    fn syncs_that_wait_for_a_processor_run_on_the_core_although_others_wait() {
        assert_eq!(here_of_a_thousand(false, 100, 60), 0, "the thread is quick");
        assert_eq!(here_of_a_thousand(false, LATE_US - 1, 60), 0);
        let most = here_of_a_thousand(false, 3_000, 60);
        assert!((980..1_000).contains(&most), "{most}");
        // The device is slow: it is tried once for each ten times of what a sync took.
        let few = here_of_a_thousand(false, 3_000, 3_000);
        assert!((80..=100).contains(&few), "{few}");
        // One after five of 600 µs: one part in eleven of the time.
        let few = here_of_a_thousand(false, 600, 300);
        assert!((80..=170).contains(&few), "{few}");
    }

    #[test]
    fn where_slices_are_short_no_read_waits_for_a_sync_because_a_thread_does() {
        assert_eq!(here_of_a_thousand(true, 3_000, 60), 0);
    }

    #[test]
    fn a_long_sync_is_not_waited_for() {
        let (commit, end) = after_a_batch(AUTO, true, 1, 100);
        assert_eq!(commit.place(2, false, false, end), SyncPlace::Here);
        assert_eq!(commit.place(2, true, false, end), SyncPlace::Beside);
        // Nor is one tried.
        let (commit, end) = after_a_batch(AUTO, false, 1, 1_000);
        assert_eq!(
            commit.place(2, true, false, end + 10_000),
            SyncPlace::Beside
        );
    }

    #[test]
    fn a_thread_that_finds_a_processor_again_gets_the_syncs_back() {
        let mut commit = GroupCommit::new(AUTO, true);
        let mut now = 1_000_000_000;
        let mut here = |thread, from, to| {
            let before = commit.counters().here;
            for records in from..to {
                commit.served_others(now);
                let place = commit.place(records, false, false, now);
                commit.began(place, records, false, now);
                now += match place {
                    SyncPlace::Here => 60,
                    SyncPlace::Beside => thread,
                };
                commit.ended(now);
            }
            commit.counters().here - before
        };
        // Three seconds of syncs on the core, and one beside it in each.
        assert!((49_900..50_000).contains(&here(3_000, 0, 50_000)));
        assert!(here(100, 50_000, 70_000) <= TRIAL_US / 60 + 1);
        assert_eq!(here(100, 70_000, 71_000), 0);
    }

    #[test]
    fn where_the_records_are_written_is_a_table() {
        use SyncPlace::{Beside, Here};
        // Where the sync runs; whether the batch is large; µs that the last sync took, and since it; whether the
        // records are written beside the core.
        let rows = [
            (Here, false, 100, 0, false),
            (Here, true, 100, 0, false),
            (Here, false, 60_000_000, 0, false),
            (Beside, true, 100, 0, true),
            (Beside, true, 60_000_000, 60_000_000, true),
            (Beside, false, 100, 0, false),
            (Beside, false, SLOW_US - 1, 0, false),
            (Beside, false, SLOW_US, 0, true),
            (Beside, false, SLOW_US, BACK_OFF * SLOW_US - 1, true),
            (Beside, false, SLOW_US, BACK_OFF * SLOW_US, false),
            (Beside, false, 60_000_000, BACK_OFF_MAX_US - 1, true),
            (Beside, false, 60_000_000, BACK_OFF_MAX_US, false),
        ];
        for (nth, (place, is_large, took, later, due)) in rows.into_iter().enumerate() {
            for policy in [AUTO, SyncPolicy::Always, SyncPolicy::Never] {
                let (mut commit, end) = after_a_batch(policy, true, 1, took);
                let beside = commit.writes_beside(place, is_large, end + later);
                assert_eq!(beside, due, "row {nth}, {policy:?}");
                assert_eq!(commit.counters().written_beside, u64::from(due));
            }
        }
    }

    #[test]
    fn a_long_sync_is_a_stall_only_if_it_would_be_one_whatever_it_was_for() {
        for (took, is_stall) in [(LONG_SLOW_US - 1, false), (LONG_SLOW_US, true)] {
            let mut commit = GroupCommit::new(AUTO, true);
            let began = 1_000_000;
            commit.began(SyncPlace::Beside, 1, true, began);
            let now = began + took;
            commit.ended(now);
            let (place, written) = match is_stall {
                true => (SyncPlace::Beside, true),
                false => (SyncPlace::Here, false),
            };
            assert_eq!(commit.place(2, false, false, now), place);
            assert_eq!(commit.writes_beside(SyncPlace::Beside, false, now), written);
            let later = now + BACK_OFF_MAX_US;
            assert_eq!(commit.place(2, false, false, later), SyncPlace::Here);
        }
    }

    /// Others wait all the time, and the thread is quick: what a long sync takes says nothing of it.
    #[test]
    fn long_syncs_bring_no_short_one_onto_the_core_and_keep_none_away() {
        for others in [true, false] {
            for (thread, every, long) in
                [(400, 1_000, 60_000), (300, 1_000, 3_000), (150, 3, 3_000)]
            {
                let mut commit = GroupCommit::new(AUTO, true);
                let (mut now, mut short) = (1_000_000_000, 0);
                for records in 1..=10_000 {
                    if others {
                        commit.served_others(now);
                    }
                    let is_long = records % every == 0;
                    short += u64::from(!is_long);
                    let place = commit.place(records, is_long, false, now);
                    commit.began(place, records, is_long, now);
                    now += match (is_long, place) {
                        (true, _) => long,
                        (false, SyncPlace::Here) => 60,
                        (false, SyncPlace::Beside) => thread,
                    };
                    commit.ended(now);
                }
                let due = if others { 0 } else { short };
                assert_eq!(commit.counters().here, due, "{thread} {every} {long}");
            }
        }
    }

    #[test]
    fn after_a_stall_on_the_core_syncs_run_beside_it() {
        let (mut commit, mut now) = after_a_batch(AUTO, true, 1, 1_000);
        now += 10_000;
        for (records, took, due) in [(2, 60, SyncPlace::Here), (3, 2_000, SyncPlace::Here)] {
            commit.served_others(now);
            assert_eq!(commit.place(records, false, true, now), due);
            commit.began(due, records, false, now);
            now += took;
            commit.ended(now);
        }
        assert_eq!(commit.place(4, false, false, now), SyncPlace::Beside);
    }

    /// Others wait all the time; the device is quick when it is tried, and slow from then on.
    #[test]
    fn a_device_that_has_become_slow_holds_up_the_core_for_a_bounded_part() {
        let mut commit = GroupCommit::new(AUTO, true);
        let (mut now, mut quick) = (1_000_000_000, true);
        for records in 1..=2_000 {
            commit.served_others(now);
            let place = commit.place(records, false, false, now);
            commit.began(place, records, false, now);
            now += match place {
                SyncPlace::Here if std::mem::take(&mut quick) => 60,
                _ => 1_000,
            };
            commit.ended(now);
        }
        assert!(!quick, "it was tried");
        let here = commit.counters().here;
        assert!(here <= 2_000 / BACK_OFF, "{here}");
    }

    #[test]
    fn a_short_stall_does_not_end_the_back_off_from_a_long_one() {
        let (mut commit, end) = after_a_batch(AUTO, true, 1, 30_000);
        commit.began(SyncPlace::Beside, 2, false, end);
        commit.ended(end + 2_000);
        assert_eq!(
            commit.place(3, false, false, end + 299_999),
            SyncPlace::Beside
        );
        assert_eq!(
            commit.place(3, false, false, end + 300_000),
            SyncPlace::Here
        );
    }

    /// Reads every 4 ms and a write every ms: no read finds the core in a sync. Without the reads
    /// every sync is on the core.
    #[test]
    fn a_mixed_load_never_syncs_on_the_core_and_a_writer_alone_always_does() {
        for (reads, here) in [(true, 0), (false, 1_000)] {
            let mut commit = GroupCommit::new(AUTO, true);
            for ms in 0..1_000 {
                let now = ms * 1_000;
                if reads && ms % 4 == 0 {
                    commit.served_others(now);
                }
                assert!(!commit.waits(ms + 1, now));
                let place = commit.place(ms + 1, false, false, now);
                commit.began(place, ms + 1, false, now);
                commit.ended(now + 150);
            }
            let SyncCounters {
                here: n, beside, ..
            } = commit.counters();
            assert_eq!((n, beside), (here, 1_000 - here));
            let took = SyncTimes {
                count: 1_000,
                sum_us: 150_000,
                min_us: 150,
                max_us: 150,
            };
            assert_eq!(commit.counters().took, took);
            commit.reset_times();
            assert_eq!(commit.counters().took, SyncTimes::default());
            assert_eq!(commit.counters().here, n);
        }
    }

    /// Every sync on the core stalls for 10 ms: at most one part in eleven of the time is spent in
    /// stalls, but for the last one, which may have just ended.
    #[test]
    fn a_core_stands_still_in_stalls_for_a_bounded_part_of_the_time() {
        let mut commit = GroupCommit::new(AUTO, true);
        const STALL: u64 = 10_000;
        let (mut now, mut records, mut stood) = (0, 0, 0);
        while now < 10_000_000 {
            records += 1;
            let place = commit.place(records, false, false, now);
            commit.began(place, records, false, now);
            let took = if place == SyncPlace::Here {
                10_000
            } else {
                100
            };
            stood += if place == SyncPlace::Here { took } else { 0 };
            now += took;
            commit.ended(now);
            now += 500;
        }
        assert!(stood > STALL, "it tries again: {stood} µs");
        assert!(stood <= now / (BACK_OFF + 1) + STALL, "{stood} µs");
    }
}
