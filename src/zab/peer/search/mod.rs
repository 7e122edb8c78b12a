//! Every order in which things can happen to three members, within bounds: logs and records become durable, packets
//! arrive, connections end, a leader proposes, members crash and come back. The members are [`Peer`](super::Peer)s,
//! whole, from their elections on; sockets and disks are the model's.

mod canon;
mod disk;
mod every_effect;
mod mutated;
mod state;

use crate::types::DetHashSet;
use state::{Budget, Slow, State, Step};

/// A member that has looked for a leader so often is not followed any further.
const ROUNDS: i64 = 8;
/// What is beyond the change from the first epoch to the second is not looked at.
const LAST_EPOCH: u32 = 2;
const WAYS: [Slow; 7] = [
    Slow::None,
    Slow::Way(2, 0),
    Slow::Way(2, 1),
    Slow::Way(0, 2),
    Slow::Way(1, 2),
    Slow::Way(0, 1),
    Slow::Way(1, 0),
];

/// Each state but the first, by the step that has led to it, and the place of the one before.
type Trail = Vec<(Step, usize)>;

fn steps_to(trail: &Trail, mut place: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while place > 0 {
        let (step, before) = trail[place - 1];
        steps.push(step);
        place = before;
    }
    steps.reverse();
    steps
}

/// Says how a step was come to that fails.
struct Witness<'a> {
    trail: &'a Trail,
    place: usize,
    step: Step,
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (states, steps) = (self.trail.len() + 1, steps_to(self.trail, self.place));
            println!("after {states} states: {:?} behind {steps:?}", self.step);
        }
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    states: usize,
    steps: usize,
    /// Steps into another epoch, or another election, than are looked at.
    beyond: usize,
    /// States in which all are up and nothing goes on by itself.
    settled: usize,
}

fn is_beyond(state: &State, last_epoch: u32) -> bool {
    state.members.iter().any(|member| {
        let peer = member.peer.as_ref();
        let round = peer.map_or(0, |peer| peer.election.round().0);
        member.disk.record.accepted.0 > last_epoch || round > ROUNDS
    })
}

fn search(mut start: State, last_epoch: u32) -> Found {
    let mut found = Found::default();
    let mut trail = Trail::new();
    let mut seen = DetHashSet::default();
    seen.insert(start.number());
    let mut open = vec![(start, 0)];
    while let Some((state, place)) = open.pop() {
        found.states += 1;
        if state.is_at_rest() {
            let steps = steps_to(&trail, place);
            assert!(
                state.is_settled(),
                "nothing goes on behind {steps:?}\n{}",
                state.report()
            );
            found.settled += 1;
        }
        for step in state.steps() {
            let mut next = state.clone();
            let witness = Witness {
                trail: &trail,
                place,
                step,
            };
            next.take(step);
            drop(witness);
            found.steps += 1;
            if is_beyond(&next, last_epoch) {
                found.beyond += 1;
            } else if seen.insert(next.number()) {
                trail.push((step, place));
                open.push((next, trail.len()));
            }
        }
    }
    found
}

/// All lead, follow and serve, and nothing is on its way.
fn settled(budget: Budget) -> State {
    let mut state = State::new(false, Budget::default());
    loop {
        let steps = [state.restarts(), state.progress(), state.patience()];
        let Some(step) = steps.iter().flatten().next() else {
            break;
        };
        state.take(*step);
    }
    assert!(state.is_settled(), "{}", state.report());
    state.left = budget;
    state
}

/// From where all have settled, with what may still happen, on ways of which one may be slow.
fn every_order(budget: Budget, ways: &[Slow]) -> Found {
    let mut all = Found::default();
    for slow in ways {
        let mut start = settled(budget);
        start.slow = *slow;
        let Found {
            states,
            steps,
            beyond,
            settled,
        } = search(start, LAST_EPOCH);
        all.states += states;
        all.steps += steps;
        all.beyond += beyond;
        all.settled += settled;
    }
    all
}

// Who changes what a member does changes these numbers, and looks whether that was meant.

#[test]
fn two_crashes_one_change_of_epoch_and_two_transactions_lose_nothing_in_any_order() {
    let budget = Budget {
        proposals: 2,
        crashes: 2,
        ..Budget::default()
    };
    let due = Found {
        states: 47_890,
        steps: 114_512,
        beyond: 2392,
        settled: 695,
    };
    assert_eq!(every_order(budget, &[Slow::None]), due);
}

#[test]
fn packets_that_are_late_on_any_way_lose_nothing() {
    let budget = Budget {
        proposals: 1,
        crashes: 1,
        ..Budget::default()
    };
    let due = Found {
        states: 7815,
        steps: 17363,
        beyond: 9,
        settled: 146,
    };
    assert_eq!(every_order(budget, &WAYS), due);
}

#[test]
fn a_member_that_loses_its_disk_helps_nobody_to_lose_anything() {
    let budget = Budget {
        proposals: 1,
        crashes: 1,
        wipes: 1,
        ..Budget::default()
    };
    let due = Found {
        states: 807,
        steps: 1680,
        beyond: 0,
        settled: 28,
    };
    assert_eq!(every_order(budget, &[Slow::None]), due);
}
