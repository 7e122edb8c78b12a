//! A member ends right behind one effect, and comes back: for every effect of three short runs, once with what was
//! durable only, and once with all that was asked for.

use super::state::{Budget, Rest, State, Step};

/// What is done in a run.
#[derive(Clone, Copy, Debug)]
enum Act {
    Start(usize),
    /// All that goes on by itself, until those who were started have settled.
    Calm,
    /// So many steps of it.
    Steps(usize),
    Propose,
    /// The leader ends, with all that it has appended.
    Fail,
    /// Whoever is down comes back.
    Return,
}

use Act::*;

/// A new ensemble: all find out that it is, one is elected, and writes.
const FOUNDED: &[Act] = &[Start(0), Start(1), Start(2), Calm, Propose, Propose, Calm];
/// Two elect and write, the third comes late; its leader ends with a write that nobody else has, and is cut when it
/// comes back.
const CUT: &[Act] = &[
    Start(0),
    Start(2),
    Calm,
    Propose,
    Calm,
    Start(1),
    Calm,
    Propose,
    Fail,
    Steps(40),
    Propose,
    Steps(6),
    Return,
    Calm,
    Propose,
    Calm,
];
/// The leader ends with a write that one other has acknowledged.
const KEPT: &[Act] = &[
    Start(0),
    Start(1),
    Start(2),
    Calm,
    Propose,
    Propose,
    Steps(5),
    Fail,
    Calm,
    Return,
    Propose,
    Calm,
];

#[derive(Clone)]
pub struct Run {
    pub state: State,
    script: &'static [Act],
    at: usize,
    /// Of the act.
    steps: usize,
    turn: usize,
    is_started: [bool; 3],
}

impl Run {
    pub fn all() -> [Run; 3] {
        [FOUNDED, CUT, KEPT].map(Run::new)
    }

    fn new(script: &'static [Act]) -> Run {
        let budget = Budget {
            proposals: u8::MAX,
            crashes: u8::MAX,
            timeouts: u8::MAX,
            ..Budget::default()
        };
        Run {
            state: State::new(std::ptr::eq(script, FOUNDED), budget),
            script,
            at: 0,
            steps: 0,
            turn: 0,
            is_started: [false; 3],
        }
    }

    fn is_down(&self, n: usize) -> bool {
        self.state.members[n].peer.is_none()
    }

    /// What goes on by itself: each in its turn.
    fn calm(&mut self) -> Option<Step> {
        self.turn += 1;
        let progress = self.state.progress();
        if !progress.is_empty() {
            return Some(progress[self.turn % progress.len()]);
        }
        let down = (0..3).find(|n| self.is_started[*n] && self.is_down(*n));
        if let Some(n) = down {
            return Some(Step::Restart(n));
        }
        if self.state.is_settled() {
            return None;
        }
        let mut waiting = self.state.waiting();
        waiting.sort();
        let next = waiting.get(self.turn % waiting.len().max(1));
        next.map(|n| Step::TimeOut(*n))
    }

    /// What happens next.
    pub fn next(&mut self) -> Option<Step> {
        loop {
            let act = *self.script.get(self.at)?;
            let step = match act {
                Start(n) => {
                    self.is_started[n] = true;
                    self.is_down(n).then_some(Step::Restart(n))
                }
                Calm | Steps(_) => {
                    self.steps += 1;
                    let is_over = matches!(act, Steps(most) if self.steps > most);
                    if let Some(step) = self.calm().filter(|_| !is_over) {
                        return Some(step);
                    }
                    self.steps = 0;
                    None
                }
                Propose => self.state.proposals().first().copied(),
                Return => {
                    self.is_started = [true; 3];
                    None
                }
                Fail => {
                    let leader = self.state.leader();
                    leader.map(|n| {
                        self.is_started[n] = false;
                        Step::Crash(n, usize::MAX, false)
                    })
                }
            };
            self.at += 1;
            if step.is_some() {
                return step;
            }
        }
    }

    /// To its end: all lead or follow, and hold the same.
    fn finish(mut self, what: &str) {
        for _ in 0..2000 {
            let Some(step) = self.next() else {
                let is_up = (0..3).all(|n| !self.is_down(n));
                let is_settled = is_up && self.state.is_settled();
                assert!(is_settled, "{what}\n{}", self.state.report());
                return;
            };
            self.state.take(step);
        }
        panic!("{what}: nothing comes to an end\n{}", self.state.report());
    }
}

/// How many effects there are.
fn crash_at_every_effect(script: &'static [Act]) -> u32 {
    let mut run = Run::new(script);
    loop {
        let before = run.clone();
        let Some(step) = run.next() else {
            break;
        };
        let after = run.clone();
        run.state.take(step);
        let effects = run.state.effects - before.state.effects;
        for n in 1..=effects {
            for rest in [Rest::Least, Rest::Most] {
                let mut crashed = after.clone();
                crashed.state.fuse = Some((n, rest));
                crashed.state.take(step);
                let at = before.state.effects + n;
                crashed.finish(&format!(
                    "{script:?}, ended at effect {at}, {step:?}: {rest:?}"
                ));
            }
        }
    }
    let effects = run.state.effects;
    run.finish("nothing has ended");
    effects
}

#[test]
fn a_crash_at_every_effect_of_three_short_elections_loses_nothing() {
    let effects = [FOUNDED, CUT, KEPT].map(crash_at_every_effect);
    println!("{effects:?} effects");
    assert!(effects.iter().all(|effects| *effects >= 80), "{effects:?}");
}
