//! Bytes that the connections of a shard hold, against a bound for all of them together.
//!
//! Each connection has a share that nobody takes from it. What it holds beyond the share comes out
//! of one pool: so the memory is bounded by the pool and the shares, and a connection with small
//! requests is never held up by one with large ones.

/// What is held beyond the shares.
#[derive(Debug)]
pub(super) struct Pool {
    /// Bound of what is held beyond the shares, bytes.
    max: usize,
    /// Share of one connection, bytes.
    share: usize,
    /// Held, the shares included, bytes.
    held: usize,
    /// Held beyond the shares, bytes.
    above: usize,
    /// Set aside for what comes, bytes.
    promised: usize,
}

/// What a pool counts, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Held, the shares included.
    pub held: usize,
    /// Held beyond the shares.
    pub above: usize,
    /// Set aside for what comes.
    pub promised: usize,
}

impl Pool {
    pub(super) fn new(max: usize, share: usize) -> Pool {
        Pool {
            max,
            share,
            held: 0,
            above: 0,
            promised: 0,
        }
    }

    fn above(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.share)
    }

    /// What one connection holds has changed.
    pub(super) fn change(&mut self, before: usize, after: usize) {
        self.held = self.held - before + after;
        self.above = self.above - self.above(before) + self.above(after);
    }

    /// Whether a connection that holds `now` may hold `then`. Within its share it always may; and
    /// beyond the bound if nobody else holds anything beyond a share, and nothing that it holds
    /// itself will make room (`stuck`).
    pub(super) fn has_room(&self, now: usize, then: usize, stuck: bool) -> bool {
        let more = self.above(then).saturating_sub(self.above(now));
        let used = self.above + self.promised;
        more == 0 || used + more <= self.max || (stuck && used == self.above(now))
    }

    /// Whether something of `bytes` might not find room.
    pub(super) fn is_tight(&self, bytes: usize) -> bool {
        self.above + self.promised + bytes > self.max
    }

    /// Whether more than the bound is held.
    pub(super) fn is_over(&self) -> bool {
        self.above > self.max
    }

    /// Whether so many bytes are more than half of the bound.
    pub(super) fn is_most(&self, bytes: usize) -> bool {
        bytes > self.max / 2
    }

    /// Sets room aside.
    pub(super) fn promise(&mut self, bytes: usize) {
        self.promised += bytes;
    }

    /// What was set aside is used, or not needed.
    pub(super) fn keep_promise(&mut self, bytes: usize) {
        self.promised -= bytes;
    }

    /// Set aside for what comes, bytes.
    #[cfg(test)]
    pub(super) fn promised(&self) -> usize {
        self.promised
    }

    /// Held, the shares included, bytes.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// All that is counted.
    pub(super) fn counted(&self) -> Amounts {
        Amounts {
            held: self.held,
            above: self.above,
            promised: self.promised,
        }
    }

    /// All that would be counted for connections that hold so much each, and were promised so much together.
    pub(super) fn recounted(&self, held: impl Iterator<Item = usize>, promised: usize) -> Amounts {
        let none = Amounts {
            promised,
            ..Amounts::default()
        };
        held.fold(none, |sum, bytes| Amounts {
            held: sum.held + bytes,
            above: sum.above + self.above(bytes),
            ..sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_for_what_is_held_beyond_the_shares() {
        let mut pool = Pool::new(100, 10);
        for _ in 0..1000 {
            pool.change(0, 10);
        }
        assert_eq!((pool.held(), pool.is_over()), (10_000, false));
        assert!(pool.has_room(10, 110, false), "all of it for one");
        pool.change(10, 70);
        assert!(pool.has_room(10, 50, true) && !pool.has_room(10, 51, true));
        assert!(pool.has_room(0, 10, false), "the share is never refused");
        pool.promise(1);
        assert!(!pool.has_room(10, 50, true));
        pool.keep_promise(1);
        pool.change(10, 51);
        assert!(pool.is_over());
        pool.change(51, 0);
        assert!(!pool.is_over());
    }

    #[test]
    fn who_is_stuck_alone_may_have_more_than_the_bound() {
        let mut pool = Pool::new(100, 10);
        assert!(pool.has_room(0, 1_000, true));
        pool.change(0, 60);
        assert!(pool.has_room(60, 1_000, true));
        assert!(!pool.has_room(60, 1_000, false), "its own will make room");
        assert!(!pool.has_room(0, 1_000, true), "another one may not");
        pool.promise(1);
        assert!(!pool.has_room(60, 1_000, true), "somebody else's comes");
    }
}
