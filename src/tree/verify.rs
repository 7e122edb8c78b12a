//! What preparing promised must be what applying made.

use super::Tree;
use crate::txn::{Entry, TxnDigest};
use crate::types::Zxid;

/// Applying a transaction made another tree than preparing it had promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tree's digest after zxid {zxid} is {found:#x}, the transaction says {expected:#x}")]
pub struct DigestMismatch {
    /// The transaction.
    pub zxid: Zxid,
    /// Computed when it was prepared.
    pub expected: u64,
    /// Computed when it was applied.
    pub found: u64,
}

impl Tree {
    /// Compares the tree with the digest in the transaction that was applied last. The transaction
    /// carries the digest of the tree after it, over everything prepared before it, so it holds
    /// exactly while nothing later is applied. A digest of another version is not compared.
    ///
    /// # Errors
    /// [`DigestMismatch`].
    pub fn verify(&self, entry: &Entry) -> Result<(), DigestMismatch> {
        match entry.digest {
            Some(TxnDigest {
                version: TxnDigest::VERSION,
                tree: expected,
            }) if expected != self.digest() => Err(DigestMismatch {
                zxid: entry.header.zxid,
                expected,
                found: self.digest(),
            }),
            _ => Ok(()),
        }
    }
}
