//! When containers and TTL nodes are looked at, and at what pace those that are due are deleted.

use crate::tree::{Due, ReapCursor};
use crate::types::{Now, Tick, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// Deletes that are ordered and not applied at most, however many may be ordered in a minute: a disk that
/// hangs gathers no more.
pub(in crate::pipeline) const REAPED_IN_FLIGHT_MAX: usize = 128;
/// What a tick that comes late may make up for, µs: longer than a tick of a healthy process.
const MADE_UP_FOR_US: u64 = 100_000;
const MINUTE_US: u64 = 60_000_000;

/// What the operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaperConfig {
    /// `znode.container.checkIntervalMs`: from the beginning of a pass to that of the next one.
    pub check_interval_ms: u64,
    /// `znode.container.maxPerMinute`: deletes.
    pub per_minute_max: u64,
    /// `znode.container.maxNeverUsedIntervalMs`: a container that has never had a child goes when it is older;
    /// 0: it stays.
    pub never_used_ms: i64,
}

impl Default for ReaperConfig {
    /// Apache's.
    fn default() -> ReaperConfig {
        ReaperConfig {
            check_interval_ms: 60_000,
            per_minute_max: 10_000,
            never_used_ms: 0,
        }
    }
}

/// A pass that is under way.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) due: Due,
    pub(super) cursor: ReapCursor,
    /// The next one to delete, for which it is too early.
    pub(super) found: Option<Arc<str>>,
}

/// When a pass begins, and how fast it goes.
#[derive(Debug)]
pub(super) struct Reaper {
    config: ReaperConfig,
    /// The next pass begins at this tick; `None`: no tick came yet.
    next_pass: Option<Tick>,
    pub(super) pass: Option<Pass>,
    /// The last tick, µs.
    now_us: u64,
    /// From then on the next delete may be ordered, µs.
    next_delete_us: u64,
    /// There was no room in the log: a later tick tries again.
    pub(super) lacks_room: bool,
    /// Deletes that are not applied.
    in_flight: VecDeque<Zxid>,
}

impl Reaper {
    pub(super) fn new(config: ReaperConfig) -> Reaper {
        Reaper {
            config,
            next_pass: None,
            pass: None,
            now_us: 0,
            next_delete_us: 0,
            lacks_room: false,
            in_flight: VecDeque::new(),
        }
    }

    /// Timers. A pass looks at the state after `applied`. One that takes longer than the interval is followed by
    /// the next one at once.
    pub(super) fn tick(&mut self, applied: Zxid, now: Now) {
        self.now_us = now.tick.0.saturating_mul(1000);
        self.lacks_room = false;
        let interval_ms = self.config.check_interval_ms;
        let next = *(self.next_pass).get_or_insert(now.tick.after(interval_ms));
        if self.pass.is_none() && now.tick >= next {
            self.next_pass = Some(next.after(interval_ms).max(now.tick));
            // Nothing is made up for that nobody was late with.
            self.next_delete_us = self.next_delete_us.max(self.now_us);
            self.pass = Some(Pass {
                due: Due {
                    zxid: applied,
                    wall: now.wall,
                    never_used_ms: self.config.never_used_ms,
                },
                cursor: ReapCursor::default(),
                found: None,
            });
        }
    }

    /// Whether there is something to look at, or to delete.
    pub(super) fn has_work(&self) -> bool {
        let finds = |pass: &Pass| pass.found.is_none() || self.may_delete();
        self.pass.as_ref().is_some_and(finds)
    }

    /// Whether the next delete may be ordered.
    pub(super) fn may_delete(&self) -> bool {
        self.next_delete_us <= self.now_us
            && self.in_flight.len() < REAPED_IN_FLIGHT_MAX
            && !self.lacks_room
    }

    /// A delete has been ordered.
    pub(super) fn ordered(&mut self, zxid: Zxid) {
        self.in_flight.push_back(zxid);
        let pace_us = MINUTE_US / self.config.per_minute_max.max(1);
        let from = self.now_us.saturating_sub(MADE_UP_FOR_US);
        self.next_delete_us = self.next_delete_us.max(from) + pace_us;
    }

    /// The tree has applied everything up to here.
    pub(super) fn applied(&mut self, zxid: Zxid) {
        while self.in_flight.front().is_some_and(|first| *first <= zxid) {
            self.in_flight.pop_front();
        }
    }
}
