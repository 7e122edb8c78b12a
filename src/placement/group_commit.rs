//! When a sync that could begin should rather wait for a moment, and where it runs.
//!
//! **When.** Clients that wait for each answer come back together: a sync answers a handful of them,
//! the first to ask again finds the disk idle, and if its sync begins at once all the others wait for
//! that one and for their own. So after a sync that answered several, the driver looks at the
//! sockets again, without sleeping, while looks bring more of them, for as long as the sync took at
//! most, and not longer than [`GAP_US`] after somebody came. There is no timer, and a lone client
//! never waits.
//!
//! **Where.** A sync on the core that orders costs no wake-up of another thread and back, and
//! holds up everything else on that core. With [`SyncPolicy::Auto`] it runs there if all of these
//! hold, and beside it otherwise:
//!
//! | Condition | Because |
//! |---|---|
//! | no input waits that the last look at the sockets brought | it would wait for the sync |
//! | for [`QUIET_US`] nothing was executed for a connection that has no write in the batch | a read, or a ping, that comes now would wait for the sync; at most one such request waits in [`QUIET_US`] |
//! | each of the last [`FAST_SYNCS`] syncs took less than [`FAST_US`] | a slow device holds everybody up for long |
//! | no sync of the last [`SLOW_FOR_US`] took [`SLOW_US`] or more | a device that stalled once stalls again |
//!
//! A core that orders and serves no sockets has nobody who waits but those of the batch: the first
//! two conditions do not concern it.

/// With more than these answered, handing out the answers fills the time of the next sync anyway.
const ANSWERED_MAX: u64 = 48;
/// Looks in a row that bring nobody, at most, whatever the clock says.
const LOOKS_MAX: u32 = 64;
/// Without anybody for this long, µs, those who are missing do something else.
const GAP_US: u64 = 40;
/// Others were served so recently, µs, that more of them are to be expected.
const QUIET_US: u64 = 5_000;
/// A sync of this many µs may hold up the core.
const FAST_US: u64 = 500;
/// So many syncs in a row must have been fast.
const FAST_SYNCS: u32 = 8;
/// A sync of this many µs is a stall.
const SLOW_US: u64 = 1_000;
/// After a stall syncs run beside the core for this long, µs.
const SLOW_FOR_US: u64 = 100_000;

const _: () = assert!(FAST_US < SLOW_US && SLOW_US < SLOW_FOR_US);

/// Where a sync runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPlace {
    /// On the core that orders, which does nothing else meanwhile.
    Here,
    /// On another thread; the core goes on.
    Beside,
}

/// What the operator may choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// On the core if nobody else would wait for it.
    #[default]
    Auto,
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
    /// Looks for which a sync waited.
    pub looks: u64,
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
    /// Syncs in a row that were fast.
    fast: u32,
    /// When the last stall ended.
    stalled: Option<u64>,
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
            // Nothing is known of the device; the first slow sync tells.
            fast: FAST_SYNCS,
            stalled: None,
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

    /// Where the sync runs that begins now. `input_waits`: the last look at the sockets brought
    /// input that was not executed yet.
    pub fn place(&self, input_waits: bool, now: u64) -> SyncPlace {
        let within = |since: Option<u64>, us| since.is_some_and(|since| now < since + us);
        let nobody_waits = !input_waits && !within(self.others, QUIET_US);
        let is_fast = self.fast >= FAST_SYNCS && !within(self.stalled, SLOW_FOR_US);
        match self.policy {
            SyncPolicy::Always => SyncPlace::Here,
            SyncPolicy::Never => SyncPlace::Beside,
            SyncPolicy::Auto if is_fast && (nobody_waits || !self.serves) => SyncPlace::Here,
            SyncPolicy::Auto => SyncPlace::Beside,
        }
    }

    /// A sync begins for everything in the log.
    pub fn began(&mut self, place: SyncPlace, records: u64, now: u64) {
        match place {
            SyncPlace::Here => self.counters.here += 1,
            SyncPlace::Beside => self.counters.beside += 1,
        }
        self.batch = records - self.begun;
        (self.begun, self.began) = (records, now);
        self.expected = 0;
    }

    /// The sync has ended.
    pub fn ended(&mut self, now: u64) {
        let took = now.saturating_sub(self.began);
        self.fast = if took < FAST_US {
            self.fast.saturating_add(1)
        } else {
            0
        };
        if took >= SLOW_US {
            self.stalled = Some(now);
        }
        self.expected = if self.batch <= ANSWERED_MAX {
            self.batch
        } else {
            0
        };
        self.until = now + took;
        (self.empty, self.came) = (0, now);
    }

    /// How often what was decided.
    pub fn counters(&self) -> SyncCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a sync of 200 µs for `batch` records.
    fn after_a_sync(batch: u64) -> GroupCommit {
        let mut commit = GroupCommit::new(SyncPolicy::Auto, true);
        assert!(!commit.waits(batch, 0));
        commit.began(SyncPlace::Here, batch, 0);
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
        let mut commit = after_a_sync(20);
        for (nth, at) in (210..400).step_by(30).enumerate() {
            assert!(commit.waits(21 + nth as u64, at), "{at}");
        }
        assert!(!commit.waits(30, 400));
        let mut commit = after_a_sync(ANSWERED_MAX + 1);
        assert!(!commit.waits(ANSWERED_MAX + 2, 210));
    }

    /// Syncs that took so many µs, one after the other, and the end of the last one.
    fn with_syncs(policy: SyncPolicy, serves: bool, took: &[u64]) -> (GroupCommit, u64) {
        let mut commit = GroupCommit::new(policy, serves);
        let mut now = 1_000_000;
        for (records, took) in (1..).zip(took) {
            commit.began(SyncPlace::Beside, records, now);
            now += took;
            commit.ended(now);
        }
        (commit, now)
    }

    #[test]
    fn where_a_sync_runs_is_a_table() {
        use SyncPlace::{Beside, Here};
        use SyncPolicy::{Always, Auto, Never};
        let fast = [100; 8];
        let one_slow = [500, 100, 100, 100, 100, 100, 100, 100];
        let slow_and_eight = [999, 100, 100, 100, 100, 100, 100, 100, 100];
        let stall = [1000, 100, 100, 100, 100, 100, 100, 100, 100];
        // What the last syncs took; how long ago others were served; whether input waits; µs since
        // the last sync; where it runs if the core serves sockets, and if it does not.
        type Row<'a> = (&'a [u64], Option<u64>, bool, u64, SyncPlace, SyncPlace);
        let rows: [Row<'_>; 14] = [
            (&[], None, false, 0, Here, Here),
            (&fast, None, false, 0, Here, Here),
            (&fast, None, true, 0, Beside, Here),
            (&fast, Some(0), false, 0, Beside, Here),
            (&fast, Some(4_999), false, 5_000, Beside, Here),
            (&fast, Some(5_000), false, 5_000, Here, Here),
            (&fast, Some(5_000), true, 5_000, Beside, Here),
            (&one_slow, None, false, 0, Beside, Beside),
            (&one_slow, None, false, 1_000_000, Beside, Beside),
            (&slow_and_eight, None, false, 0, Here, Here),
            (&stall, None, false, 0, Beside, Beside),
            (&stall, None, false, 99_199, Beside, Beside),
            (&stall, None, false, 99_200, Here, Here),
            (&stall, Some(0), false, 99_200, Beside, Here),
        ];
        for (nth, (took, others, input_waits, later, serving, ordering)) in rows.iter().enumerate()
        {
            for (policy, serves, due) in [
                (Auto, true, *serving),
                (Auto, false, *ordering),
                (Always, true, Here),
                (Always, false, Here),
                (Never, true, Beside),
                (Never, false, Beside),
            ] {
                let (mut commit, end) = with_syncs(policy, serves, took);
                let now = end + later;
                if let Some(ago) = others {
                    commit.served_others(now - ago);
                }
                let place = commit.place(*input_waits, now);
                assert_eq!(place, due, "row {nth}, {policy:?}, serves: {serves}");
            }
        }
    }

    /// Reads every 4 ms and a write every ms: no read finds the core in a sync. Without the reads
    /// every sync is on the core.
    #[test]
    fn a_mixed_load_never_syncs_on_the_core_and_a_writer_alone_always_does() {
        for (reads, here) in [(true, 0), (false, 1_000)] {
            let mut commit = GroupCommit::new(SyncPolicy::Auto, true);
            for ms in 0..1_000 {
                let now = ms * 1_000;
                if reads && ms % 4 == 0 {
                    commit.served_others(now);
                }
                assert!(!commit.waits(ms + 1, now));
                let place = commit.place(false, now);
                commit.began(place, ms + 1, now);
                commit.ended(now + 150);
            }
            let SyncCounters {
                here: n, beside, ..
            } = commit.counters();
            assert_eq!((n, beside), (here, 1_000 - here));
        }
    }
}
