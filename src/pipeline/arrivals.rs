//! How far the pipeline knows everything that has arrived at the process's sockets.
//!
//! A session may expire only if its client was silent, and bytes that wait in a socket are not
//! silence. Where they can wait, and who says that they are through:
//!
//! | Bytes wait | They are through when |
//! |---|---|
//! | in the socket of an accepted connection, or between a shard and the pipeline | the shard's watermark has passed their arrival |
//! | in a connection that is not accepted yet, or that no shard has taken yet | the connection was handed to a shard, and after that every shard has raised its watermark |
//!
//! The first row is enough for a session that a shard serves. A session that nobody serves (after a
//! restart) may be asked for in any socket, so both rows count. After a pause of the process the
//! client of any session may have connected anew, so both rows count for every session. A shard that is
//! stuck must not keep all sessions alive: one that has sent nothing for [`PATIENCE_TICKS`] is not
//! waited for, nor, for longer than that, is a hand-over. A shard that is behind is waited for: what it
//! sent during the pause is worked off first.

use crate::constants::pause_ms;
use crate::types::{ShardId, Tick};
use std::collections::BTreeMap;

/// tickTimes in which sessions wait after a pause for a hand-over, and for a shard since it last sent
/// something.
const PATIENCE_TICKS: u64 = 2;

/// Connections that were handed to the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HandOver {
    /// All that waited to be accepted at this moment.
    until: Tick,
    /// When the last of them was handed over.
    at: Tick,
}

/// A pause has ended, and not everything that arrived meanwhile is known.
#[derive(Debug)]
struct Resumed {
    /// When the process went on.
    at: Tick,
    /// When everybody who waited then had been handed over.
    handed_over: Option<Tick>,
    /// When each shard sent something, where that was later.
    sent: BTreeMap<ShardId, Tick>,
}

/// Watermarks of the shards and of the listening socket.
#[derive(Debug)]
pub(super) struct Arrivals {
    shards: u16,
    tick_time_ms: u64,
    watermarks: BTreeMap<ShardId, Tick>,
    /// Everything that arrived anywhere up to here is known.
    everything: Tick,
    /// Handed over, and not every shard has reported since.
    handed_over: Option<HandOver>,
    /// The newest one behind that.
    newest: Option<HandOver>,
    /// Of the last event, for pauses.
    clock: Option<Tick>,
    /// The last pause, while sessions wait because of it.
    resumed: Option<Resumed>,
}

impl Arrivals {
    /// For shards 0 to `shards` − 1, none of which has reported. `tick_time_ms` is tickTime.
    pub(super) fn new(shards: u16, tick_time_ms: u64) -> Arrivals {
        assert!(shards > 0, "somebody serves");
        Arrivals {
            shards,
            tick_time_ms,
            watermarks: BTreeMap::new(),
            everything: Tick(0),
            handed_over: None,
            newest: None,
            clock: None,
            resumed: None,
        }
    }

    /// Something happens at `now`; a long gap since the last event ([`pause_ms`]) is a pause.
    pub(super) fn see_clock(&mut self, now: Tick) {
        let last = self.clock.replace(now).unwrap_or(now);
        if now > last.after(pause_ms(self.tick_time_ms)) {
            self.resumed = Some(Resumed {
                at: now,
                handed_over: None,
                sent: BTreeMap::new(),
            });
        }
    }

    /// A shard has sent something, whatever it is; the clock was seen.
    pub(super) fn sent(&mut self, shard: ShardId) {
        if let (Some(resumed), Some(now)) = (&mut self.resumed, self.clock) {
            resumed.sent.insert(shard, now);
        }
    }

    /// A shard has reported everything that it received up to `watermark`.
    pub(super) fn reported(&mut self, shard: ShardId, watermark: Tick) {
        let known = self.watermarks.entry(shard).or_default();
        *known = watermark.max(*known);
        self.confirm();
    }

    /// Every connection that waited to be accepted at `until` has been handed to a shard; it is
    /// `now`.
    pub(super) fn accepted(&mut self, until: Tick, now: Tick) {
        let until = until.min(now);
        self.newest = Some(HandOver { until, at: now });
        if let Some(resumed) = &mut self.resumed
            && until >= resumed.at
        {
            resumed.handed_over.get_or_insert(now);
        }
        self.confirm();
    }

    fn confirm(&mut self) {
        self.handed_over = self.handed_over.or_else(|| self.newest.take());
        // A report of the same millisecond may be from before the hand-over.
        if let Some(HandOver { until, at }) = self.handed_over
            && self.slowest() > at
        {
            self.everything = self.everything.max(until);
            self.handed_over = self.newest.take();
        }
    }

    /// The watermark that every shard has reached.
    fn slowest(&self) -> Tick {
        let reached = |n| self.watermarks.get(&ShardId(n)).copied();
        let reached = (0..self.shards).map(|n| reached(n).unwrap_or_default());
        reached.min().unwrap_or_default()
    }

    /// A session that nobody serves is known to be silent up to here.
    pub(super) fn everywhere(&self) -> Tick {
        self.everything
    }

    /// A session that this shard serves is known to be silent up to here.
    pub(super) fn at_shards(&self) -> impl Iterator<Item = (ShardId, Tick)> + '_ {
        self.watermarks.iter().map(|(&shard, &tick)| (shard, tick))
    }

    /// The same, of one shard.
    pub(super) fn at_shard(&self, shard: ShardId) -> Tick {
        self.watermarks.get(&shard).copied().unwrap_or_default()
    }

    /// Whether no session may expire at `now`, because of a pause after which not everything that
    /// arrived meanwhile is known.
    pub(super) fn is_resuming(&mut self, now: Tick) -> bool {
        let patience = PATIENCE_TICKS * self.tick_time_ms;
        let Some(Resumed {
            at,
            handed_over,
            sent,
        }) = &self.resumed
        else {
            return false;
        };
        let waits = match handed_over {
            None => now < at.after(patience),
            Some(handed_over) => (0..self.shards).map(ShardId).any(|shard| {
                // A report of the same millisecond may be from before the hand-over.
                let is_behind = self
                    .watermarks
                    .get(&shard)
                    .is_none_or(|known| known <= handed_over);
                let last = sent.get(&shard).unwrap_or(at);
                is_behind && now < last.after(patience)
            }),
        };
        if !waits {
            self.resumed = None;
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S0: ShardId = ShardId(0);
    const S1: ShardId = ShardId(1);

    #[test]
    fn everything_is_known_when_every_shard_has_reported_after_the_hand_over() {
        let mut arrivals = Arrivals::new(2, 1000);
        arrivals.accepted(Tick(90), Tick(100));
        for (shard, watermark, known) in [
            (S0, 100, 0), // perhaps from before the hand-over
            (S0, 500, 0),
            (S1, 100, 0),
            (S1, 101, 90),
        ] {
            arrivals.reported(shard, Tick(watermark));
            assert_eq!(arrivals.everywhere(), Tick(known), "{shard} {watermark}");
        }
    }

    #[test]
    fn hand_overs_that_follow_each_other_faster_than_reports_are_confirmed_too() {
        let mut arrivals = Arrivals::new(1, 1000);
        let mut confirmed = Vec::new();
        for tick in 1..=100 {
            arrivals.accepted(Tick(tick), Tick(tick));
            if tick % 10 == 0 {
                arrivals.reported(S0, Tick(tick));
                confirmed.push(arrivals.everywhere().0);
            }
        }
        // One round of reports behind, or two.
        assert!(confirmed.is_sorted());
        assert!(arrivals.everywhere() >= Tick(80), "{confirmed:?}");
        assert!(arrivals.everywhere() < Tick(100), "{confirmed:?}");
    }

    #[test]
    fn after_a_pause_everybody_waits_for_the_reports_but_not_for_ever() {
        let resumed = || {
            let mut arrivals = Arrivals::new(1, 1000);
            arrivals.see_clock(Tick(10));
            arrivals.see_clock(Tick(510));
            assert!(!arrivals.is_resuming(Tick(510)), "half a tickTime is none");
            arrivals.see_clock(Tick(9000));
            arrivals.reported(S0, Tick(9000));
            assert!(arrivals.is_resuming(Tick(9000)));
            arrivals
        };
        let mut arrivals = resumed();
        arrivals.accepted(Tick(9000), Tick(9010));
        assert!(arrivals.is_resuming(Tick(9010)));
        arrivals.reported(S0, Tick(9020));
        assert!(!arrivals.is_resuming(Tick(9020)));
        let mut arrivals = resumed();
        assert!(arrivals.is_resuming(Tick(10_999)));
        assert!(!arrivals.is_resuming(Tick(11_000)));
    }

    #[test]
    fn after_a_pause_the_first_hand_over_of_those_who_waited_then_counts_and_no_other() {
        let mut arrivals = Arrivals::new(1, 1000);
        arrivals.see_clock(Tick(10));
        arrivals.see_clock(Tick(9000));
        // Those who had come before the pause, and what the shard sent behind that.
        arrivals.accepted(Tick(8999), Tick(9010));
        arrivals.reported(S0, Tick(9020));
        assert!(arrivals.is_resuming(Tick(9020)), "others came meanwhile");
        for moment in [9030, 9040, 9050] {
            arrivals.accepted(Tick(moment), Tick(moment));
        }
        arrivals.reported(S0, Tick(9031));
        assert!(
            !arrivals.is_resuming(Tick(9050)),
            "others come all the time"
        );
    }

    #[test]
    fn after_a_pause_a_shard_that_is_behind_is_waited_for_and_one_that_is_stuck_is_not() {
        let mut arrivals = Arrivals::new(2, 1000);
        arrivals.see_clock(Tick(10));
        arrivals.see_clock(Tick(9000));
        arrivals.accepted(Tick(9000), Tick(9010));
        // One of them sends what was not taken during the pause; the other one nothing.
        for n in 1..20 {
            arrivals.see_clock(Tick(9000 + 450 * n));
            arrivals.sent(S0);
            arrivals.reported(S0, Tick(450 * n));
            assert!(arrivals.is_resuming(Tick(9000 + 450 * n)), "{n}");
        }
        arrivals.reported(S0, Tick(9010));
        assert!(arrivals.is_resuming(Tick(17_600)), "perhaps of before");
        arrivals.reported(S0, Tick(9011));
        assert!(!arrivals.is_resuming(Tick(17_600)));
        assert_eq!(arrivals.everywhere(), Tick(0), "the other one");
        // Who fell silent while it was behind is as stuck as one that never sent anything.
        let mut arrivals = Arrivals::new(1, 1000);
        arrivals.see_clock(Tick(10));
        arrivals.see_clock(Tick(9000));
        arrivals.accepted(Tick(9000), Tick(9010));
        arrivals.see_clock(Tick(9400));
        arrivals.sent(S0);
        assert!(arrivals.is_resuming(Tick(11_399)));
        assert!(!arrivals.is_resuming(Tick(11_400)));
    }
}
