//! What whoever waits for a long comparison sees of it.

use std::time::{Duration, Instant};

/// Turns that were planned and are done.
pub struct Progress {
    turns: usize,
    done: usize,
    begun: Instant,
}

impl Progress {
    /// Of so many turns.
    pub fn new(turns: usize) -> Progress {
        eprintln!("{turns} turns to take");
        Progress {
            turns,
            done: 0,
            begun: Instant::now(),
        }
    }

    /// A turn begins.
    pub fn begin(&self, what: &str) {
        eprint!("[{}/{}] {what}: ", self.done + 1, self.turns);
    }

    /// A turn is over; says what came of it, and how long the rest may take.
    pub fn end(&mut self, what: &str) {
        self.done += 1;
        let left = remaining(self.begun.elapsed(), self.done, self.turns);
        eprintln!("{what} (about {} min left)", left.as_secs().div_ceil(60));
    }
}

/// How long the other turns take if they are like those that are done.
fn remaining(elapsed: Duration, done: usize, turns: usize) -> Duration {
    elapsed.mul_f64(turns.saturating_sub(done) as f64 / done.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_taken_to_be_like_what_is_done() {
        let seconds = |done, turns| remaining(Duration::from_secs(60), done, turns).as_secs();
        assert_eq!((seconds(2, 6), seconds(6, 6), seconds(7, 6)), (120, 0, 0));
    }
}
