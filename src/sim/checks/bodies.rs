//! Snapshot bytes are equal for equal zxid, whoever makes them.

use crate::types::Zxid;
use std::collections::BTreeMap;

#[derive(Default)]
pub(in crate::sim) struct Bodies(BTreeMap<Zxid, [u8; 32]>);

impl Bodies {
    /// What was lost may come again with another content.
    pub(super) fn recovered(&mut self, recovered: Zxid) {
        self.0.retain(|zxid, _| *zxid <= recovered);
    }

    /// A snapshot of `zxid` has this root.
    pub(in crate::sim) fn observe(&mut self, zxid: Zxid, root: [u8; 32]) -> Result<(), String> {
        match self.0.insert(zxid, root) {
            Some(before) if before != root => Err(format!("two different snapshots of {zxid}")),
            _ => Ok(()),
        }
    }
}
