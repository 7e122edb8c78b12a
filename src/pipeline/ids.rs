//! Session ids that never repeat (docs/protocol.md §5.1).

use crate::types::{SessionId, WallMs};

/// Allocates session ids.
#[derive(Debug)]
pub(super) struct SessionIds {
    /// What the ids that this server makes have in their top byte.
    creator: u8,
    /// Last number given to a session by this process, including those whose transaction is not applied
    /// yet; `None`: there was none.
    last: Option<i64>,
    /// This process has given the largest number: smaller ones follow.
    has_wrapped: bool,
}

impl SessionIds {
    /// Nothing allocated yet.
    pub(super) fn new(creator: u8) -> SessionIds {
        SessionIds {
            creator,
            last: None,
            has_wrapped: false,
        }
    }

    /// Who makes them.
    pub(super) fn creator(&self) -> u8 {
        self.creator
    }

    /// A fresh id. The clock makes ids differ between servers that lost their data; that they
    /// never repeat here rests on the other two: `high_water`, the largest id of this creator that the
    /// replicated state has ever seen (it survives restarts, closed sessions and purged logs), and the
    /// largest one handed out since. An id that was handed out and lost in a crash before its
    /// transaction was durable has been shown to nobody.
    ///
    /// The clock's 40 bits begin anew every 35 years, next in 2039. Numbers go on above the largest one
    /// as long as there are any; behind the last one they are Apache's: those of the clock, and of a
    /// count from there on. What then keeps an id from coming twice is the clock, over restarts alone;
    /// one for which `is_used` holds, because there is such a session, is passed over.
    ///
    /// Never 0 nor `i64::MIN`, because of the creator in the top byte.
    pub(super) fn allocate(
        &mut self,
        high_water: Option<SessionId>,
        wall: WallMs,
        is_used: impl Fn(SessionId) -> bool,
    ) -> SessionId {
        let clock = SessionId::number_at(wall);
        let mut number = match self.last.max(high_water.map(SessionId::number)) {
            None => clock,
            Some(used) if used < SessionId::NUMBER_MAX && !self.has_wrapped => clock.max(used + 1),
            Some(_) => self.behind_the_last(clock),
        };
        while is_used(SessionId::of(self.creator, number)) {
            number = after(number);
        }
        self.last = Some(number);
        SessionId::of(self.creator, number)
    }

    /// The clock's number, or the one after the last if the clock has not come that far, both modulo 2^56.
    fn behind_the_last(&mut self, clock: i64) -> i64 {
        self.has_wrapped = true;
        let next = self.last.map_or(clock, after);
        let is_ahead = (clock - next) & SessionId::NUMBER_MAX <= SessionId::NUMBER_MAX / 2;
        if is_ahead { clock } else { next }
    }
}

/// The number that follows, modulo 2^56.
fn after(number: i64) -> i64 {
    (number + 1) & SessionId::NUMBER_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATOR: u8 = SessionId::STANDALONE;

    /// The bits of the wall clock that an id holds.
    const CLOCK_MASK: i64 = 0xff_ffff_ffff;
    use proptest::prelude::*;

    #[test]
    fn layout_of_the_first_id() {
        let id = SessionIds::new(CREATOR).allocate(None, WallMs(0x12_3456_789a_bcde), |_| false);
        assert_eq!(id, SessionId(0x0156_789a_bcde_0000));
    }

    #[test]
    fn when_the_clock_has_begun_anew_and_all_numbers_are_given_the_clock_goes_on() {
        let mut ids = SessionIds::new(CREATOR);
        let last = WallMs(CLOCK_MASK);
        let before = ids.allocate(None, last, |_| false);
        assert_eq!(before, SessionId(0x01ff_ffff_ffff_0000));
        // The numbers that are left go first, whatever the clock says.
        let begun_anew = WallMs(CLOCK_MASK + 1);
        for n in 1..0x1_0000 {
            let id = ids.allocate(Some(before), begun_anew, |_| false);
            assert_eq!(id.0, before.0 + n);
        }
        let largest = Some(SessionId::of(CREATOR, SessionId::NUMBER_MAX));
        for n in 0..3 {
            // The largest one's transaction may not have been applied yet.
            let high_water = [Some(before), largest][n as usize % 2];
            let id = ids.allocate(high_water, begun_anew, |_| false);
            assert_eq!(id, SessionId(0x0100_0000_0000_0000 + n));
        }
        let later = WallMs(CLOCK_MASK + 1 + 0x1234);
        let id = ids.allocate(largest, later, |_| false);
        assert_eq!(id, SessionId(0x0100_0000_1234_0000));
        // Set back, or standing still at its end: the count goes on.
        for (wall, n) in [(begun_anew, 1), (last, 2)] {
            let id = ids.allocate(largest, wall, |_| false);
            assert_eq!(id, SessionId(0x0100_0000_1234_0000 + n));
        }
        // After a restart only the clock knows, and sessions that are there keep their ids.
        let used = SessionId(0x0100_0000_1234_0000);
        let id = SessionIds::new(CREATOR).allocate(largest, later, |id| id == used);
        assert_eq!(id.0, used.0 + 1);
    }

    proptest! {
        /// Clocks jump anywhere, the process restarts now and then (`last` is lost, the high
        /// water of what became durable is not): no id comes twice.
        #[test]
        fn ids_never_repeat(steps in proptest::collection::vec((any::<i64>(), any::<bool>(), any::<bool>()), 1..200)) {
            let mut ids = SessionIds::new(CREATOR);
            let (mut high_water, mut durable) = (None, None);
            let mut shown = std::collections::BTreeSet::new();
            for (wall, restart, sync) in steps {
                let id = ids.allocate(high_water, WallMs(wall), |_| false);
                prop_assert_eq!(id.creator(), CREATOR);
                high_water = high_water.max(Some(id));
                if sync {
                    durable = high_water;
                    prop_assert!(shown.insert(id));
                }
                if restart {
                    ids = SessionIds::new(CREATOR);
                    high_water = durable;
                }
            }
        }
    }
}
