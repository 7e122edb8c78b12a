//! Proof that a transaction is committed.

use crate::log::{Durable, LogEnd};
use crate::types::Zxid;

/// Everything up to here is committed, for ever. A leader makes one when a quorum holds it durably
/// ([`Broadcast`](super::Broadcast)), a learner when its leader, which is active, says so ([`Stream`](super::Stream),
/// [`Follow`](super::Follow)), a standalone server when it is durable. Nothing else does:
///
/// ```compile_fail
/// let forged = ringkeeper::zab::Decided(ringkeeper::types::Zxid(1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decided(Zxid);

impl Decided {
    pub(super) fn up_to(zxid: Zxid) -> Decided {
        Decided(zxid)
    }

    /// A standalone server is a quorum of one: what its disk has is decided.
    pub fn alone(durable: &Durable<LogEnd>) -> Decided {
        Decided(durable.zxid())
    }

    /// This transaction and all before it.
    pub fn zxid(&self) -> Zxid {
        self.0
    }
}
