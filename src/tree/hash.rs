//! Hashes of paths, and of access control lists.

use crate::txn::Acl;
use crate::types::HashState;
use std::hash::{BuildHasher, Hasher};

/// Hash of a full path: computed once for each request and path, and kept where the path is. Or that of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathHash(u32);

impl PathHash {
    /// For a table that takes the place from the low bits and seven more from the highest.
    pub(super) fn spread(self) -> u64 {
        u64::from(self.0) | u64::from(self.0) << 32
    }

    /// Which of so many parts, a power of two up to 256, of bits that a table of up to 2¹⁷ places does not
    /// use.
    pub(super) fn part(self, parts: usize) -> usize {
        (self.0 >> 17) as usize & (parts - 1)
    }
}

/// Makes the hashes of paths; all of one process agree.
#[derive(Clone, Debug, Default)]
pub(super) struct PathHasher(HashState);

impl PathHasher {
    pub(super) fn hash(&self, path: &str) -> PathHash {
        let mut hasher = self.0.build_hasher();
        hasher.write(path.as_bytes());
        folded(hasher.finish())
    }

    /// Of a list. Steps: its entries.
    pub(super) fn hash_list(&self, list: &[Acl]) -> PathHash {
        folded(self.0.hash_one(list))
    }
}

fn folded(hash: u64) -> PathHash {
    PathHash((hash ^ hash >> 32) as u32)
}
