//! Session ids that never repeat (docs/protocol.md §5.1).

use crate::types::{SessionId, WallMs};

/// What the ids that this server makes have in their top byte.
pub(super) const CREATOR: u8 = SessionId::STANDALONE;

/// Allocates session ids.
#[derive(Debug)]
pub(super) struct SessionIds {
    /// Largest number given to a session by this process, including those whose transaction is not
    /// applied yet.
    last: i64,
}

impl SessionIds {
    /// Nothing allocated yet.
    pub(super) fn new() -> SessionIds {
        SessionIds { last: -1 }
    }

    /// A fresh id. The clock makes ids differ between servers that lost their data; that they
    /// never repeat here rests on the other two: `high_water`, the largest id of this creator that the
    /// replicated state has ever seen (it survives restarts, closed sessions and purged logs), and the
    /// largest one handed out since. An id that was handed out and lost in a crash before its
    /// transaction was durable has been shown to nobody.
    ///
    /// Never 0 nor `i64::MIN`, because of the creator in the top byte.
    pub(super) fn allocate(&mut self, high_water: Option<SessionId>, wall: WallMs) -> SessionId {
        let clock = SessionId::number_at(wall);
        let used = self.last.max(high_water.map_or(-1, SessionId::number));
        assert!(used < SessionId::NUMBER_MAX, "session ids are exhausted");
        self.last = clock.max(used + 1);
        SessionId::of(CREATOR, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_of_the_first_id() {
        let id = SessionIds::new().allocate(None, WallMs(0x12_3456_789a_bcde));
        assert_eq!(id, SessionId(0x0156_789a_bcde_0000));
    }

    proptest! {
        /// Clocks jump anywhere, the process restarts now and then (`last` is lost, the high
        /// water of what became durable is not): no id comes twice.
        #[test]
        fn ids_never_repeat(steps in proptest::collection::vec((any::<i64>(), any::<bool>(), any::<bool>()), 1..200)) {
            let mut ids = SessionIds::new();
            let (mut high_water, mut durable) = (None, None);
            let mut shown = std::collections::BTreeSet::new();
            for (wall, restart, sync) in steps {
                let id = ids.allocate(high_water, WallMs(wall));
                prop_assert_eq!(id.creator(), CREATOR);
                high_water = high_water.max(Some(id));
                if sync {
                    durable = high_water;
                    prop_assert!(shown.insert(id));
                }
                if restart {
                    ids = SessionIds::new();
                    high_water = durable;
                }
            }
        }
    }
}
