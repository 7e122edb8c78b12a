//! How much work one connection, or one phase of a turn, may do before somebody else's turn comes.
//!
//! A budget is counted in requests, bytes and steps, never in time, so that the simulator and the
//! server stop at the same place. Most budgets may be overdrawn by one request: they say when to stop.
//! One that [`Budget::saves`] does not begin a request that costs more than is left; what is left is then
//! kept for later. Requests that may be long (setWatches, getChildren, multiRead) stop in the middle and
//! go on later.

/// What is left of an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    requests: i64,
    bytes: i64,
    steps: i64,
    /// Nothing is begun that costs more than is left.
    saves: bool,
    /// Something was not begun for that reason.
    short: bool,
}

impl Budget {
    /// A budget that is never spent.
    pub const UNLIMITED: Budget = Budget {
        requests: i64::MAX,
        bytes: i64::MAX,
        steps: i64::MAX,
        saves: false,
        short: false,
    };

    /// Nothing is left, and nothing is owed.
    pub const NOTHING: Budget = Budget::new(0, 0, 0);

    /// `requests` executed, `bytes` taken in or written out, `steps` of the work that a request causes
    /// beyond its bytes: nodes visited, entries of an ACL compared, watches registered.
    pub const fn new(requests: u32, bytes: u32, steps: u32) -> Budget {
        Budget {
            requests: requests as i64,
            bytes: bytes as i64,
            steps: steps as i64,
            saves: false,
            short: false,
        }
    }

    /// `steps`, and nothing else counts.
    pub const fn steps(steps: u32) -> Budget {
        Budget {
            steps: steps as i64,
            ..Budget::UNLIMITED
        }
    }

    /// One request was executed.
    pub fn spend_request(&mut self) {
        self.requests -= 1;
    }

    /// Bytes were taken in or written out.
    pub fn spend_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub_unsigned(bytes as u64);
    }

    /// Steps were made.
    pub fn spend_steps(&mut self, steps: usize) {
        self.steps = self.steps.saturating_sub_unsigned(steps as u64);
    }

    /// Whether so many steps are left.
    pub fn has_steps(&self, steps: usize) -> bool {
        i64::try_from(steps).is_ok_and(|steps| steps <= self.steps)
    }

    /// Whether any of the three is used up, or too little for the next request: stop before it.
    pub fn is_spent(&self) -> bool {
        self.short || self.requests <= 0 || self.bytes <= 0 || self.steps <= 0
    }

    /// Whether a request that costs more than is left must not begin.
    pub fn saves(&self) -> bool {
        self.saves
    }

    /// Whether a request that will cost this much may begin; if not, the budget is spent, and what is
    /// left of it is kept for that request.
    pub fn affords(&mut self, bytes: usize, steps: usize) -> bool {
        let left = |of: i64| usize::try_from(of).unwrap_or(0);
        self.short = self.saves && (bytes > left(self.bytes) || steps > left(self.steps));
        !self.short
    }

    /// A slice for one connection, with what it has `kept` of those before: a budget that saves until it
    /// is as large as so many slices.
    pub fn with_kept(self, kept: Budget, slices_max: u32) -> Budget {
        let most = |of: i64| of.saturating_mul(i64::from(slices_max));
        let bytes = self.bytes.saturating_add(kept.bytes);
        let steps = self.steps.saturating_add(kept.steps);
        Budget {
            requests: self.requests.saturating_add(kept.requests),
            bytes,
            steps,
            saves: bytes < most(self.bytes) && steps < most(self.steps),
            short: false,
        }
    }

    /// What a connection keeps for its next slice: what it owes, at most so many slices; and if
    /// it saves, what is left.
    pub fn kept(self, slice: Budget, slices_max: u32) -> Budget {
        let keep = |of: i64, slice: i64| {
            let most = slice.saturating_mul(i64::from(slices_max));
            of.clamp(-most, if self.short { most } else { 0 })
        };
        Budget {
            requests: self.requests.min(0).max(-slice.requests),
            bytes: keep(self.bytes, slice.bytes),
            steps: keep(self.steps, slice.steps),
            ..Budget::NOTHING
        }
    }

    /// Whether no more than so many steps too many were made.
    #[cfg(test)]
    pub fn has_steps_within(&self, overdrawn: i64) -> bool {
        self.steps >= -overdrawn
    }

    /// Steps made of what was [`Budget::UNLIMITED`].
    #[cfg(test)]
    pub fn spent_of_unlimited(&self) -> usize {
        (i64::MAX - self.steps) as usize
    }

    /// Whether something is owed.
    pub fn owes(&self) -> bool {
        self.requests < 0 || self.bytes < 0 || self.steps < 0
    }

    /// Takes the difference between what `part` was at first and what is left of it out of this
    /// budget: a slice of it that was given to one connection.
    pub fn spend_part(&mut self, at_first: Budget, part: Budget) {
        self.requests -= at_first.requests - part.requests;
        self.bytes -= at_first.bytes - part.bytes;
        self.steps -= at_first.steps - part.steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_three_ends_it() {
        for (spend, due) in [
            (Budget::spend_request as fn(&mut Budget), true),
            (|b: &mut Budget| b.spend_bytes(1), false),
            (|b: &mut Budget| b.spend_bytes(10), true),
            (|b: &mut Budget| b.spend_steps(99), false),
            (|b: &mut Budget| b.spend_steps(usize::MAX), true),
        ] {
            let mut budget = Budget::new(1, 10, 100);
            assert!(!budget.is_spent());
            spend(&mut budget);
            assert_eq!(budget.is_spent(), due);
        }
    }

    #[test]
    fn who_saves_begins_nothing_that_costs_more_than_is_left_until_there_is_enough() {
        let slice = Budget::new(1, 10, 10);
        let mut kept = Budget::NOTHING;
        for looks in 1.. {
            let mut allowed = slice.with_kept(kept, 4);
            if allowed.affords(25, 1) {
                assert_eq!(looks, 3);
                allowed.spend_bytes(25);
                assert!(!allowed.kept(slice, 4).owes());
                break;
            }
            assert!(allowed.is_spent());
            kept = allowed.kept(slice, 4);
        }
    }

    #[test]
    fn what_costs_more_than_may_be_saved_begins_at_last_and_is_owed_up_to_a_bound() {
        let slice = Budget::new(1, 10, 10);
        let mut kept = Budget::NOTHING;
        let looks = (1..).find(|_| {
            let mut allowed = slice.with_kept(kept, 4);
            let begins = allowed.affords(1000, 1);
            if begins {
                allowed.spend_bytes(1000);
            }
            kept = allowed.kept(slice, 4);
            begins
        });
        assert_eq!(looks, Some(4));
        let looks = (1..).find(|_| {
            let allowed = slice.with_kept(kept, 4);
            kept = allowed.kept(slice, 4);
            !allowed.is_spent()
        });
        assert_eq!(looks, Some(5), "four slices are owed");
    }

    #[test]
    fn a_slice_is_taken_out_of_the_whole() {
        let slice = Budget::new(2, 100, 100);
        let mut whole = Budget::new(3, 1000, 1000);
        for due in [false, true] {
            let mut part = slice;
            part.spend_request();
            part.spend_request();
            whole.spend_part(slice, part);
            assert_eq!(whole.is_spent(), due);
        }
    }
}
