//! By which a member knows the transactions again that its clients have asked its leader for.
//!
//! Not by their xids, which clients use again, on another connection and at another member. A number has the member's own
//! in its top byte, as session ids have, and a count below; it begins anywhere, by the clock, so that what an earlier
//! process has asked for is not taken for what this one asks for.

use crate::types::{WallMs, Xid};

/// The numbers of a process.
#[derive(Debug)]
pub(super) struct Numbers {
    creator: u8,
    last: Option<u32>,
}

impl Numbers {
    /// So many there are before the first one comes again.
    const COUNT: u32 = 1 << 24;

    pub(super) fn new(creator: u8) -> Numbers {
        Numbers {
            creator,
            last: None,
        }
    }

    /// The next one, for which `is_used` does not hold. Fewer than [`Numbers::COUNT`] are in use.
    pub(super) fn next(&mut self, wall: WallMs, is_used: impl Fn(Xid) -> bool) -> Xid {
        loop {
            let last = self.last.unwrap_or(wall.0 as u32);
            // What the server itself asks for has a 0.
            let next = match (last + 1) % Numbers::COUNT {
                0 => 1,
                next => next,
            };
            self.last = Some(next);
            let number = Xid((u32::from(self.creator) << 24 | next) as i32);
            if !is_used(number) {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_members_own_and_pass_over_those_that_are_in_use() {
        let mut numbers = Numbers::new(200);
        let at_the_end = WallMs(0x1234_00ff_fffe);
        let all: Vec<i32> = (0..3)
            .map(|_| numbers.next(at_the_end, |_| false).0)
            .collect();
        let own = |n: u32| (200 << 24 | n) as i32;
        assert_eq!(all, [own(0xff_ffff), own(1), own(2)]);
        assert_eq!(numbers.next(at_the_end, |xid| xid.0 == own(3)).0, own(4));
    }
}
