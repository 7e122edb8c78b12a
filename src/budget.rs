//! How much work one connection, or one phase of a turn, may do before somebody else's turn comes.
//!
//! A budget is counted in requests, bytes and steps, never in time, so that the simulator and the
//! server stop at the same place. One request may overdraw it: a budget says when to stop. Requests
//! that may be long (setWatches, getChildren, multiRead) stop in the middle and go on later.

/// What is left of an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    requests: i64,
    bytes: i64,
    steps: i64,
}

impl Budget {
    /// A budget that is never spent.
    pub const UNLIMITED: Budget = Budget {
        requests: i64::MAX,
        bytes: i64::MAX,
        steps: i64::MAX,
    };

    /// `requests` executed, `bytes` taken in or written out, `steps` of the work that a request causes
    /// beyond its bytes: nodes visited, entries of an ACL compared, watches registered.
    pub const fn new(requests: u32, bytes: u32, steps: u32) -> Budget {
        Budget {
            requests: requests as i64,
            bytes: bytes as i64,
            steps: steps as i64,
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

    /// Whether any of the three is used up: stop before the next request.
    pub fn is_spent(&self) -> bool {
        self.requests <= 0 || self.bytes <= 0 || self.steps <= 0
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
