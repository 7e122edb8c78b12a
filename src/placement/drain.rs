//! How the cores of a process stop together: start, serve, drain. Inline, one core has both parts.
//!
//! | Stage | Ends when | At most |
//! |---|---|---|
//! | serving | a stop was asked for: no core takes input any more | – |
//! | handing up | every shard has handed up what its clients had asked for | the patience |
//! | deciding | all of it is durable, sessions that are taken from one shard for another are released, and every outcome was given to the shards | the patience |
//! | syncing | the sync that is under way has ended, no other one begins, and what is committed is applied | – |
//! | flushing | *the barrier*: nothing is committed any more. Every shard has applied what it was given and has handed its last replies to the kernel | the patience |
//! | ended | the driver seals the log | – |
//!
//! A shard that is held still costs the patience once for each of two stages, and does not keep the log
//! from being sealed: after the first one nobody waits for what it was not given, or has not released.

use super::ordering::OrderingCore;
use super::serving::ServingCore;
use crate::log::storage::Storage;
use crate::types::Tick;
use core::sync::atomic::Ordering::{Acquire, Release};
use core::sync::atomic::{AtomicBool, AtomicUsize};

/// What the cores of a process tell each other while they stop. Only ever grows.
#[derive(Debug)]
pub struct Drain {
    shards: usize,
    asked: AtomicBool,
    handed_up: AtomicUsize,
    decided: AtomicBool,
    flushed: AtomicUsize,
}

impl Drain {
    /// For so many shards on cores of their own.
    pub fn new(shards: u16) -> Drain {
        Drain {
            shards: usize::from(shards),
            asked: AtomicBool::new(false),
            handed_up: AtomicUsize::new(0),
            decided: AtomicBool::new(false),
            flushed: AtomicUsize::new(0),
        }
    }

    /// Whether no core may take input any more.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Acquire)
    }

    /// Whether everything that will ever be committed is committed.
    pub fn is_decided(&self) -> bool {
        self.decided.load(Acquire)
    }

    fn all_handed_up(&self) -> bool {
        self.handed_up.load(Acquire) == self.shards
    }

    fn all_flushed(&self) -> bool {
        self.flushed.load(Acquire) == self.shards
    }
}

/// The part of a core that serves beside one that orders.
#[derive(Debug, Default)]
pub struct ShardDrain {
    handed_up: bool,
}

/// What a serving core's driver does after a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStep {
    /// The core that orders should look.
    pub wake_ordering: bool,
    /// That was the last turn.
    pub ended: bool,
}

impl ShardDrain {
    /// Before a turn: stops the input if a stop was asked for.
    pub fn before_turn<S: Storage>(&self, drain: &Drain, core: &mut ServingCore<S>) {
        if drain.is_asked() {
            core.stop();
        }
    }

    /// After a turn; `again`: there is more to do at once.
    pub fn after_turn<S: Storage>(
        &mut self,
        drain: &Drain,
        core: &ServingCore<S>,
        again: bool,
    ) -> ShardStep {
        let mut step = ShardStep::default();
        if !self.handed_up && core.has_handed_up() {
            self.handed_up = true;
            step.wake_ordering = true;
            drain.handed_up.fetch_add(1, Release);
        }
        // What was given before the decision is seen behind it.
        if drain.is_decided() && !again && !core.has_mail() {
            step.wake_ordering = true;
            step.ended = true;
            drain.flushed.fetch_add(1, Release);
        }
        step
    }
}

/// How far the core that orders has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    HandingUp,
    Deciding,
    Syncing,
    Flushing,
    Ended,
}

/// What the core that orders knows after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainFacts {
    /// The operator wants the process to stop.
    pub asked: bool,
    /// Everything that was taken has its outcome, or waits for a shard to release a session.
    pub idle: bool,
    /// No shard has to release a session for another one, and every outcome was given to the shard that
    /// it is for.
    pub given: bool,
    /// A sync is under way, or what it has committed is not applied yet.
    pub syncing: bool,
}

impl DrainFacts {
    /// Of a core that orders and serves; `again`: there is more to do at once.
    pub fn inline<S: Storage>(
        core: &ServingCore<S>,
        again: bool,
        syncing: bool,
        asked: bool,
    ) -> DrainFacts {
        DrainFacts {
            asked,
            idle: core.served.is_idle() && !again,
            given: true,
            syncing: syncing || core.served.has_committed(),
        }
    }

    /// Of a core that orders for others; `again` as above.
    pub fn ordering<S: Storage>(
        core: &OrderingCore<S>,
        again: bool,
        syncing: bool,
        asked: bool,
    ) -> DrainFacts {
        DrainFacts {
            asked,
            idle: core.is_idle() && !again,
            given: core.has_given_all(),
            syncing: syncing || core.orderer.member.pipeline.has_messages(),
        }
    }
}

/// What the driver of the core that orders does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// It goes on.
    Stay,
    /// A stage has ended: it wakes the shards and makes another turn at once. `input_ends`: nobody
    /// may connect any more, and a core that serves takes no input.
    Next {
        /// The first stage has ended.
        input_ends: bool,
    },
    /// It makes no other turn, and seals the log.
    Seal,
}

/// The part of the core that orders.
#[derive(Debug)]
pub struct OrderingDrain {
    stage: Stage,
    patience_ms: u64,
    since: Tick,
    /// Stages that ended because the patience did.
    overdue: u32,
}

impl OrderingDrain {
    /// A stage waits for at most `patience_ms`.
    pub fn new(patience_ms: u64) -> OrderingDrain {
        OrderingDrain {
            stage: Stage::Serving,
            patience_ms,
            since: Tick(0),
            overdue: 0,
        }
    }

    /// Whether a sync may begin: not once the last one is waited for.
    pub fn may_sync(&self) -> bool {
        self.stage <= Stage::Deciding
    }

    /// Stages that ended because the patience did.
    pub fn overdue(&self) -> u32 {
        self.overdue
    }

    /// After a turn, with what was true at its end. One stage ends at most: what another core has
    /// said since the turn is looked at in the next one.
    pub fn after_turn(&mut self, drain: &Drain, facts: DrainFacts, now: Tick) -> DrainStep {
        // Whoever has not handed up may be held still: its ring, its feed and the sessions that it is
        // to release are not waited for.
        let given = facts.given || self.overdue > 0;
        let done = match self.stage {
            Stage::Serving => facts.asked,
            Stage::HandingUp => drain.all_handed_up(),
            Stage::Deciding => facts.idle && given,
            Stage::Syncing => !facts.syncing,
            Stage::Flushing => drain.all_flushed(),
            Stage::Ended => return DrainStep::Seal,
        };
        let waits_for_ever = matches!(self.stage, Stage::Serving | Stage::Syncing);
        let overdue = !waits_for_ever && now >= self.since.after(self.patience_ms);
        if !done && !overdue {
            return DrainStep::Stay;
        }
        self.overdue += u32::from(!done);
        self.since = now;
        let input_ends = self.stage == Stage::Serving;
        self.stage = match self.stage {
            Stage::Serving => {
                drain.asked.store(true, Release);
                Stage::HandingUp
            }
            Stage::HandingUp => Stage::Deciding,
            Stage::Deciding => Stage::Syncing,
            Stage::Syncing => {
                drain.decided.store(true, Release);
                Stage::Flushing
            }
            Stage::Flushing | Stage::Ended => {
                self.stage = Stage::Ended;
                return DrainStep::Seal;
            }
        };
        DrainStep::Next { input_ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE_MS: u64 = 100;
    const QUIET: DrainFacts = DrainFacts {
        asked: true,
        idle: true,
        given: true,
        syncing: false,
    };
    const NEXT: DrainStep = DrainStep::Next { input_ends: false };
    const INPUT_ENDS: DrainStep = DrainStep::Next { input_ends: true };

    /// The steps of a core that orders, at moments given in ms.
    struct Ordering {
        drain: Drain,
        own: OrderingDrain,
    }

    impl Ordering {
        fn with_shards(shards: u16) -> Ordering {
            Ordering {
                drain: Drain::new(shards),
                own: OrderingDrain::new(PATIENCE_MS),
            }
        }

        fn step(&mut self, facts: DrainFacts, ms: u64) -> DrainStep {
            self.own.after_turn(&self.drain, facts, Tick(ms))
        }
    }

    #[test]
    fn nothing_happens_before_a_stop_is_asked_for() {
        let mut ordering = Ordering::with_shards(0);
        let not_asked = DrainFacts {
            asked: false,
            ..QUIET
        };
        assert_eq!(ordering.step(not_asked, 1_000_000), DrainStep::Stay);
        assert!(ordering.own.may_sync() && !ordering.drain.is_asked());
    }

    #[test]
    fn an_idle_core_without_shards_needs_a_turn_for_each_stage() {
        let mut ordering = Ordering::with_shards(0);
        let steps = [INPUT_ENDS, NEXT, NEXT, NEXT, DrainStep::Seal];
        for step in steps {
            assert_eq!(ordering.step(QUIET, 0), step);
        }
        assert_eq!(ordering.own.overdue(), 0);
    }

    #[test]
    fn every_shard_is_waited_for() {
        let mut ordering = Ordering::with_shards(2);
        assert_eq!(ordering.step(QUIET, 0), INPUT_ENDS);
        for _ in 0..2 {
            assert_eq!(ordering.step(QUIET, 1), DrainStep::Stay);
            ordering.drain.handed_up.fetch_add(1, Release);
        }
        assert_eq!(ordering.step(QUIET, 2), NEXT);
        assert_eq!(ordering.step(QUIET, 2), NEXT);
        assert!(!ordering.drain.is_decided());
        assert_eq!(ordering.step(QUIET, 2), NEXT);
        assert!(ordering.drain.is_decided());
        for _ in 0..2 {
            assert_eq!(ordering.step(QUIET, 3), DrainStep::Stay);
            ordering.drain.flushed.fetch_add(1, Release);
        }
        assert_eq!(ordering.step(QUIET, 4), DrainStep::Seal);
    }

    #[test]
    fn a_sync_is_waited_for_without_end_and_none_begins_behind_it() {
        let mut ordering = Ordering::with_shards(0);
        let hanging = DrainFacts {
            idle: false,
            syncing: true,
            ..QUIET
        };
        assert_eq!(ordering.step(hanging, 0), INPUT_ENDS);
        assert_eq!(ordering.step(hanging, 0), NEXT);
        assert_eq!(ordering.step(hanging, PATIENCE_MS - 1), DrainStep::Stay);
        assert!(ordering.own.may_sync());
        assert_eq!(ordering.step(hanging, PATIENCE_MS), NEXT);
        assert!(!ordering.own.may_sync());
        assert_eq!(ordering.step(hanging, 1_000_000), DrainStep::Stay);
        assert!(!ordering.drain.is_decided());
        assert_eq!(ordering.step(QUIET, 1_000_001), NEXT);
        assert!(ordering.drain.is_decided());
        assert_eq!(ordering.own.overdue(), 1);
    }

    #[test]
    fn a_shard_that_is_held_still_costs_the_patience_twice() {
        let mut ordering = Ordering::with_shards(1);
        let not_given = DrainFacts {
            given: false,
            ..QUIET
        };
        assert_eq!(ordering.step(not_given, 0), INPUT_ENDS);
        assert_eq!(ordering.step(not_given, 99), DrainStep::Stay);
        assert_eq!(ordering.step(not_given, 100), NEXT);
        assert_eq!(
            ordering.step(not_given, 100),
            NEXT,
            "its feed is not waited for"
        );
        assert_eq!(ordering.step(not_given, 100), NEXT);
        assert_eq!(ordering.step(not_given, 199), DrainStep::Stay);
        assert_eq!(ordering.step(not_given, 200), DrainStep::Seal);
        assert_eq!(ordering.own.overdue(), 2);
    }

    #[test]
    fn what_was_not_given_to_a_shard_is_waited_for() {
        let mut ordering = Ordering::with_shards(0);
        let not_given = DrainFacts {
            given: false,
            ..QUIET
        };
        assert_eq!(ordering.step(not_given, 0), INPUT_ENDS);
        assert_eq!(ordering.step(not_given, 0), NEXT);
        assert_eq!(ordering.step(not_given, 99), DrainStep::Stay);
        assert_eq!(ordering.step(QUIET, 99), NEXT);
    }
}
