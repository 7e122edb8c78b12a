//! Digests of the tree behind some of its transactions: operators compare servers by them
//! (docs/protocol.md §8.2, `hash`).

use crate::types::Zxid;
use std::collections::VecDeque;

/// Of every so many zxids one is remembered.
const EVERY: i64 = 128;
/// So many are remembered, the newest.
pub const DIGESTS_MAX: usize = 1024;

/// The newest digests, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct DigestLog(VecDeque<(Zxid, u64)>);

impl DigestLog {
    /// A transaction was applied, and this is the digest behind it.
    pub(super) fn record(&mut self, zxid: Zxid, digest: u64) {
        if zxid.0 % EVERY != 0 {
            return;
        }
        if self.0.len() == DIGESTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((zxid, digest));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Zxid, u64)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_128_zxids_is_remembered_and_the_newest_1024() {
        let mut log = DigestLog::default();
        for zxid in 1..=128 * 1026 {
            log.record(Zxid(zxid), zxid as u64);
        }
        let kept: Vec<(Zxid, u64)> = log.iter().collect();
        assert_eq!(kept.len(), DIGESTS_MAX);
        assert_eq!(kept[0], (Zxid(3 * 128), 3 * 128));
        assert_eq!(kept.last(), Some(&(Zxid(1026 * 128), 1026 * 128)));
    }
}
