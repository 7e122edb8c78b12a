//! When a sync that could begin should rather wait for a moment.
//!
//! Clients that wait for each answer come back together: a sync answers a handful of them, the
//! first to ask again finds the disk idle, and if its sync begins at once all the others wait for
//! that one and for their own. So after a sync that answered several, the next one waits while
//! looks at the sockets bring more of them, for as long as the sync took at most: whoever waits in
//! vain loses no more than by coming a moment later. There is no timer, and a lone client never
//! waits.

/// With more than these answered, handing out the answers fills the time of the next sync anyway.
const ANSWERED_MAX: u64 = 48;
/// Looks in a row that bring nobody: then those who are missing do something else.
const LOOKS_MAX: u32 = 3;

/// See the module. Counts of records are those of the log since its start; times are µs.
#[derive(Debug, Default)]
pub struct GroupCommit {
    /// When the last sync began, and what was in the log then.
    began: u64,
    begun: u64,
    /// Records that it made durable.
    batch: u64,
    /// Of those answered, who have not come back; nobody is waited for after `until`.
    expected: u64,
    until: u64,
    /// The log at the last look.
    seen: u64,
    /// Looks in a row that brought nobody.
    empty: u32,
}

/// stub
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPlace {
    /// h
    Here,
    /// b
    Beside,
}

impl GroupCommit {
    /// stub
    pub fn place(&mut self, _now: u64) -> SyncPlace {
        SyncPlace::Here
    }

    /// A sync begins for everything in the log.
    pub fn begins(&mut self, records: u64, now: u64) {
        self.batch = records - self.begun;
        (self.begun, self.began) = (records, now);
        self.expected = 0;
    }

    /// It has ended.
    pub fn ended(&mut self, now: u64) {
        self.expected = if self.batch <= ANSWERED_MAX {
            self.batch
        } else {
            0
        };
        self.until = now + (now - self.began);
        self.empty = 0;
    }

    /// A look at what came in; to be called in every turn. Whether a sync should wait for one more.
    pub fn waits(&mut self, records: u64, now: u64) -> bool {
        let came = records - std::mem::replace(&mut self.seen, records);
        self.expected = self.expected.saturating_sub(came);
        self.empty = if came > 0 { 0 } else { self.empty + 1 };
        self.expected > 0 && self.empty < LOOKS_MAX && now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a sync of 200 µs for `batch` records.
    fn after_a_sync(batch: u64) -> GroupCommit {
        let mut gather = GroupCommit::default();
        assert!(!gather.waits(batch, 0));
        gather.begins(batch, 0);
        gather.ended(200);
        gather
    }

    #[test]
    fn a_lone_client_never_waits() {
        let mut gather = after_a_sync(1);
        assert!(!gather.waits(2, 250));
    }

    #[test]
    fn it_waits_as_long_as_somebody_comes_back() {
        let mut gather = after_a_sync(4);
        assert!(gather.waits(5, 210));
        assert!(gather.waits(7, 230));
        assert!(!gather.waits(8, 240), "all are back");
    }

    #[test]
    fn some_looks_that_bring_nobody_are_enough() {
        let mut gather = after_a_sync(4);
        assert!(gather.waits(5, 210));
        assert!(gather.waits(5, 220) && gather.waits(5, 230));
        assert!(!gather.waits(5, 240));
    }

    #[test]
    fn it_waits_as_long_as_the_sync_took_and_not_for_crowds() {
        let mut gather = after_a_sync(4);
        assert!(gather.waits(5, 399));
        assert!(!gather.waits(6, 400));
        let mut gather = after_a_sync(ANSWERED_MAX + 1);
        assert!(!gather.waits(ANSWERED_MAX + 2, 210));
    }
}
