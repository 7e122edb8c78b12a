//! Whether a receiver sleeps, or is about to: a sender who finds it awake need not wake it. `tests/loom` goes through
//! the orders in which the two can act.

use super::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use super::atomic::{AtomicBool, fence};

/// The receiver sleeps, or is about to.
#[derive(Default)]
pub(super) struct Parked(AtomicBool);

impl Parked {
    /// The receiver is about to look at its queues for the last time before it sleeps.
    pub(super) fn park(&self) {
        self.0.store(true, Relaxed);
        // It is visible before the queues are looked at again; pairs with `Parked::wakes`.
        fence(SeqCst);
    }

    /// The receiver is awake.
    pub(super) fn unpark(&self) {
        self.0.store(false, Relaxed);
    }

    /// Something was pushed: whether the receiver is to be woken. A fence if it is awake.
    pub(super) fn wakes(&self) -> bool {
        // The push is visible before this is read; pairs with the fence in `Parked::park`.
        fence(SeqCst);
        self.0.load(Relaxed) && self.0.swap(false, AcqRel)
    }
}
