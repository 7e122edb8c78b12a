//! Whole ensembles of [`Peer`]s: 1, 3 or 5 voters and observers, from their elections on. Nothing of what a member
//! decides is played, nor of what its connections are ([`Peers`](crate::peers::Peers)): bytes of both ports, over
//! sockets that break at any byte, of which any may be the next to deliver, that take any number of bytes, and that
//! stand still in one direction. What is written becomes durable at any later time, up to any place; what learners are
//! synchronised with is read later; what is committed is applied later; outcomes of dials come when their role has
//! ended; members pause, crash and lose what was not durable, or all of it; and some believe in votes that nobody has
//! given.
//!
//! What is checked at every step: all members commit one sequence; a leader that serves has all of it, and is the only
//! one of its epoch; what a member says of itself, on either port, is durable there; a role ends in its order, and
//! begins with a disk that has come to rest; a sync covers what anybody had committed when it came; an answer about a
//! session comes behind what was ordered before it. At the end of each run the faults cease: within a bounded time
//! somebody leads, all that can follow do and come to hold what is proposed then, and nobody leaves again.

pub(super) mod disk;
mod wire;
mod world;

use proptest::prelude::*;
use world::{Faults, Seen, World};

fn any_faults() -> impl Strategy<Value = Faults> {
    let rate = |rates: [f64; 3]| (0..3usize).prop_map(move |n| rates[n]);
    let kinds = (
        rate([0.0, 0.001, 0.005]),
        rate([0.0, 0.0005, 0.002]),
        rate([0.0, 0.0003, 0.001]),
        rate([0.0, 0.001, 0.004]),
        rate([0.0, 0.0005, 0.002]),
        rate([0.0, 0.005, 0.03]),
    );
    kinds.prop_map(
        |(breaks, crashes, wipes, silences, pauses, rumours)| Faults {
            breaks,
            crashes,
            wipes,
            silences,
            pauses,
            rumours,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn whatever_breaks_what_was_decided_survives_and_somebody_leads_when_it_is_calm(
        seed in any::<u64>(), voters in prop_oneof![Just(1i64), Just(3), Just(3), Just(5)],
        observers in 0..2i64, is_new in any::<bool>(), faults in any_faults(),
    ) {
        let mut world = World::new(seed, voters, observers, is_new, faults);
        world.run(STEPS);
        world.calm();
    }
}

const CASES: u32 = 128;
const STEPS: usize = 6000;

// What a run is worth is what happens in it.
#[test]
fn runs_meet_everything_that_they_are_there_for() {
    let faults = Faults {
        breaks: 0.001,
        crashes: 0.0007,
        wipes: 0.0003,
        silences: 0.001,
        pauses: 0.0005,
        rumours: 0.01,
    };
    let mut all = Seen::default();
    for seed in 0..24 {
        let mut world = World::new(seed, 3, 1, seed % 4 == 0, faults);
        world.run(STEPS);
        world.calm();
        all.add(&world.seen);
    }
    let least = all.too_rare();
    assert!(least.is_empty(), "{least:?} of {all:?}");
}
