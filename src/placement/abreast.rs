//! For how long the core that orders waits for a replica that falls behind the others.
//!
//! What one shard has shown, another must have applied before it serves anybody. Where data cores share
//! processors, one shard may be given none for a while, and its clients then wait until it has caught up: with
//! multis of 1,000 operations up to half a second. So while a replica has more than [`RingLimits::abreast_bytes`]
//! before it, the core that orders takes no further requests, for [`PATIENCE_US`] at most: the replica gets the
//! processor that ordering would take, and has less to catch up with.
//!
//! | What the replica has before it | No further requests are taken |
//! |---|---|
//! | at most `abreast_bytes` | no |
//! | more, for less than [`PATIENCE_US`] | yes |
//! | more, for longer: it is held still, or too slow | no, until it was within the bound again |
//! | it is detached | no |
//!
//! A shard that is held still holds up the others once, for [`PATIENCE_US`] and a tick.
//!
//! [`RingLimits::abreast_bytes`]: super::RingLimits::abreast_bytes

/// A replica is waited for no longer than this, µs.
const PATIENCE_US: u64 = 20_000;

/// How one replica keeps up.
#[derive(Debug, Default)]
pub(super) struct Abreast {
    /// Since when it has had more before it than it should have, µs.
    behind_since: Option<u64>,
}

impl Abreast {
    /// Whether to wait for a replica that is behind, or not.
    pub(super) fn waits(&mut self, is_behind: bool, now: u64) -> bool {
        if !is_behind {
            self.behind_since = None;
            return false;
        }
        let since = *self.behind_since.get_or_insert(now);
        now < since + PATIENCE_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_waited_for_until_it_is_abreast_or_patience_ends() {
        let mut replica = Abreast::default();
        let end = 100 + PATIENCE_US;
        for (is_behind, now, waits) in [
            (false, 50, false),
            (true, 100, true),
            (true, end - 1, true),
            (false, end - 1, false),
            (true, end, true),
            (true, end + PATIENCE_US - 1, true),
            (true, end + PATIENCE_US, false),
            (true, end + 10 * PATIENCE_US, false),
            (false, end + 10 * PATIENCE_US, false),
            (true, end + 11 * PATIENCE_US, true),
        ] {
            assert_eq!(replica.waits(is_behind, now), waits, "{now}");
        }
    }
}
