//! A transaction between prepare and apply, as it is kept in memory.

use crate::messages::{Origin, Stamps};
use crate::txn::Entry;
use crate::types::{Generation, Position, Zxid};
use std::sync::Arc;

/// A transaction between prepare and apply.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The end of its record in the log.
    pub(super) end: Position,
    pub(super) entry: Arc<Entry>,
    pub(super) origin: Option<Origin>,
    pub(super) generation: Generation,
    pub(super) stamps: Stamps,
}

impl Slot {
    pub(super) fn zxid(&self) -> Zxid {
        self.entry.header.zxid
    }
}
