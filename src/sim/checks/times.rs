//! A transaction carries the wall clock of the moment at which it was ordered; one of a multi, that of the moment
//! at which its validation began.

use super::super::base::WALL;
use crate::messages::Stamps;
use crate::txn::{Entry, Txn};
use crate::types::Zxid;

#[derive(Default)]
pub(in crate::sim) struct Times {
    /// From when on the wall clock was off by so many ms, µs.
    steps: Vec<(u64, i64)>,
    /// What the core that orders had applied when a turn ended, µs.
    applied: Vec<(u64, Zxid)>,
}

impl Times {
    /// A turn begins, with the clock off by so many ms.
    pub(in crate::sim) fn turn(&mut self, now_us: u64, off_ms: i64) {
        let before = self.steps.last().map_or(0, |(_, off_ms)| *off_ms);
        if before != off_ms {
            self.steps.push((now_us, off_ms));
        }
    }

    /// A turn of the core that orders ends.
    pub(in crate::sim) fn turn_ended(&mut self, now_us: u64, applied: Zxid) {
        if self.applied.last().is_none_or(|(_, last)| *last < applied) {
            self.applied.push((now_us, applied));
        }
    }

    /// Nothing is under way after a start.
    pub(super) fn recovered(&mut self) {
        self.applied.clear();
    }

    /// What was applied, at least, when a request was looked at.
    pub(super) fn applied_before(&self, stamps: &Stamps) -> Zxid {
        let from = began(stamps);
        let turns = self.applied.partition_point(|(us, _)| *us < from);
        let last = self.applied[..turns].last();
        last.map_or(Zxid::ZERO, |(_, applied)| *applied)
    }

    /// A transaction was ordered.
    pub(super) fn observe(&self, entry: &Entry, stamps: &Stamps) -> Result<(), String> {
        let (time, ordered) = (entry.header.time.0, stamps.ordered);
        let due = self.wall(ordered);
        if time == due {
            return Ok(());
        }
        let is_multi = matches!(entry.txn, Txn::Multi(_)) && stamps.received > 0;
        match is_multi && self.showed(time, began(stamps), ordered) {
            true => Ok(()),
            false => Err(format!(
                "{} {:?} has the time {time}, and was ordered at {due}",
                entry.header.zxid, entry.txn
            )),
        }
    }

    /// Whether the wall clock showed that time at some moment from one to another.
    fn showed(&self, time: i64, from: u64, to: u64) -> bool {
        let steps = self.steps.iter().map(|(us, _)| *us);
        let steps = steps.filter(|us| (from + 1..=to).contains(us));
        // Between two steps the clock runs.
        let begins = std::iter::once(from).chain(steps.clone());
        let ends = steps.map(|us| us - 1).chain([to]);
        let mut runs = begins.zip(ends);
        runs.any(|(begin, end)| (self.wall(begin)..=self.wall(end)).contains(&time))
    }

    fn wall(&self, us: u64) -> i64 {
        let steps = self.steps.partition_point(|(from, _)| *from <= us);
        let off_ms = self.steps[..steps].last().map_or(0, |(_, off_ms)| *off_ms);
        WALL + (us / 1000) as i64 + off_ms
    }
}

/// When a request was received, or when the server had the idea, µs.
fn began(stamps: &Stamps) -> u64 {
    match stamps.received {
        0 => stamps.ordered,
        received => received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::TxnHeader;
    use crate::types::{OpCode, SessionId, WallMs};

    #[test]
    fn the_time_is_that_of_the_order_and_of_a_multi_that_of_its_beginning() {
        let mut times = Times::default();
        times.turn(1_000, 0);
        times.turn(6_000, -100);
        for (txn, received, time, due) in [
            (Txn::Multi(Vec::new()), 2_000, 8 - 100, true),
            (Txn::Multi(Vec::new()), 2_000, 4, true),
            (Txn::Multi(Vec::new()), 2_000, 1, false),
            (Txn::Multi(Vec::new()), 7_000, 4, false),
            (Txn::Multi(Vec::new()), 0, 7 - 100, false),
            (Txn::Delete { path: "/a".into() }, 2_000, 8 - 100, true),
            (Txn::Delete { path: "/a".into() }, 2_000, 4, false),
        ] {
            let header = TxnHeader {
                session: SessionId(1),
                cxid: 1,
                zxid: Zxid(1),
                time: WallMs(WALL + time),
                op: OpCode::MULTI,
            };
            let entry = Entry {
                header,
                txn,
                digest: None,
            };
            let stamps = Stamps {
                received,
                ordered: 8_500,
                ..Stamps::default()
            };
            let done = times.observe(&entry, &stamps);
            assert_eq!(done.is_ok(), due, "{time} {received}");
        }
    }
}
