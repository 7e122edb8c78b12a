//! Who reads the log behind some place, and so keeps what is there: a retired segment is used again, and a reader
//! would meet other records in it.

use crate::types::Zxid;
use std::sync::{Arc, Weak};

/// At most so many readers hold one; a further reader is told to come again.
pub const LEASES_MAX: usize = 256;

/// As long as this is held, everything behind its place stays in the log. It may be given to another thread, and ends
/// with whoever holds it.
#[derive(Debug)]
#[must_use]
pub struct Lease {
    _held: Arc<()>,
}

/// The leases of a log.
#[derive(Debug)]
pub(super) struct Leases {
    held: Vec<(Zxid, Weak<()>)>,
    /// What stood behind an earlier place may be gone, or is not known to this process.
    retired: Zxid,
}

impl Leases {
    /// Of a log that was read from there on.
    pub(super) fn behind(retired: Zxid) -> Leases {
        Leases {
            held: Vec::new(),
            retired,
        }
    }

    /// Of what stands behind `after`; `None`: some of that may be gone, or there are too many.
    pub(super) fn lease(&mut self, after: Zxid) -> Option<Lease> {
        self.forget_dropped();
        if after < self.retired || self.held.len() >= LEASES_MAX {
            return None;
        }
        let held = Arc::new(());
        self.held.push((after, Arc::downgrade(&held)));
        Some(Lease { _held: held })
    }

    /// Up to where nothing is held of what is to be retired up to `zxid`.
    pub(super) fn free(&mut self, zxid: Zxid) -> Zxid {
        self.forget_dropped();
        let held = self.held.iter().map(|(after, _)| *after);
        held.chain([zxid]).min().unwrap_or(zxid)
    }

    /// A segment is retired of which this is the last transaction, or which ends behind it.
    pub(super) fn retired(&mut self, last: Zxid) {
        self.retired = self.retired.max(last);
    }

    fn forget_dropped(&mut self) {
        self.held.retain(|(_, lease)| lease.strong_count() > 0);
    }
}
