//! Every order in which things can happen to three members, within bounds: packets arrive one by one, logs and records
//! become durable, connections end, members crash and come back. The members are [`Peer`](super::Peer)s, whole, from
//! their elections on; sockets and disks are the model's.

mod canon;
mod disk;
mod every_effect;
mod mutated;
mod state;

use crate::types::DetHashSet;
use state::{Budget, State, Step};
use std::rc::Rc;

/// The steps that have led to a state.
#[derive(Clone)]
struct Trail(Option<Rc<(Step, Trail)>>);

/// Says how a step was come to that fails.
struct Witness<'a> {
    trail: &'a Trail,
    step: Step,
    states: usize,
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut steps = vec![self.step];
            let mut trail = self.trail;
            while let Some(before) = &trail.0 {
                steps.push(before.0);
                trail = &before.1;
            }
            steps.reverse();
            println!("after {} states, by {steps:?}", self.states);
        }
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    states: usize,
    steps: usize,
    /// Steps into an epoch beyond the last that is looked at.
    beyond: usize,
    /// States from which nothing leads on.
    ends: usize,
}

fn search(mut start: State, last_epoch: u32) -> Found {
    let mut found = Found {
        states: 1,
        steps: 0,
        beyond: 0,
        ends: 0,
    };
    let mut seen = DetHashSet::default();
    seen.insert(start.number());
    let mut open = vec![(start, Trail(None))];
    while let Some((state, trail)) = open.pop() {
        let mut goes_on = false;
        for step in state.steps() {
            let mut next = state.clone();
            let witness = Witness { trail: &trail, step, states: found.states };
            next.take(step);
            drop(witness);
            found.steps += 1;
            let accepted = next.members.iter().map(|member| member.disk.record.accepted.0);
            if accepted.max() > Some(last_epoch) {
                found.beyond += 1;
                goes_on = true;
            } else if seen.insert(next.number()) {
                found.states += 1;
                goes_on = true;
                open.push((next, Trail(Some(Rc::new((step, trail.clone()))))));
            }
        }
        found.ends += usize::from(!goes_on);
        if found.states > limit() { panic!("{found:?} {}", open.len()); }
    }
    found
}

/// All lead, follow and serve, and nothing is on its way.
fn settled(budget: Budget) -> State {
    let mut state = State::new(false, Budget::default());
    let mut steps = state.restarts();
    while let Some(step) = steps.first() {
        state.take(*step);
        steps = state.restarts();
        steps.extend(state.progress());
        if steps.is_empty() && !state.is_settled() {
            steps = state.patience();
        }
    }
    assert!(state.is_settled(), "{}", state.report());
    state.left = budget;
    state
}

fn limit() -> usize { std::env::var("L").map_or(100_000, |n| n.parse().unwrap()) }

#[test]
fn every_order() {
    let get = |name: &str, or: u8| std::env::var(name).map_or(or, |n| n.parse().unwrap());
    let budget = Budget {
        proposals: get("P", 1),
        crashes: get("C", 1),
        wipes: get("W", 0),
        timeouts: get("T", 0),
        rumours: get("R", 0),
    };
    let found = search(settled(budget), get("E", 2).into());
    panic!("{found:?}");
}
