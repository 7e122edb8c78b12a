//! Transactions: header and bodies, Apache's serialised entry (docs/peer-protocol.md §3.1–3.2), and the
//! requests that `tree::prepare` turns into them.

pub mod acl;
pub mod entry;
pub mod jute;
pub mod record;
pub mod request;
pub mod stat;

#[cfg(test)]
pub(crate) mod golden;

pub use acl::{Acl, AuthId, Credentials};
pub use entry::{CreateTxn, Entry, Txn, TxnDigest, TxnHeader};
pub use request::{CreateRequest, RawAcl, WriteRequest};
pub use stat::Stat;

use std::sync::Arc;

/// A znode's payload: `None` is null, which differs from empty (docs/protocol.md §1.2). Immutable,
/// counted, shared between trees, requests and transactions.
pub type Data = Option<Arc<[u8]>>;
