//! Wakes a parked thread from another thread.
//!
//! One [`Bell`] per receiver, a data core or an executor, shared by all queues that lead to it.

use super::parked::Parked;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// The sender's end.
pub struct Bell {
    parked: Parked,
    fd: OwnedFd,
}

impl Bell {
    /// A bell that nobody listens to yet.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> std::io::Result<Arc<Bell>> {
        // SAFETY: eventfd takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Arc::new(Bell {
            parked: Parked::default(),
            fd,
        }))
    }

    /// What the receiver watches. A [`Ring`](super::ring::Ring) never reads it: each write is an
    /// edge of its own.
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The receiver is about to look at its queues for the last time before it sleeps.
    pub(super) fn park(&self) {
        self.parked.park();
    }

    /// The receiver is awake.
    pub(super) fn unpark(&self) {
        self.parked.unpark();
    }

    /// Called after a batch was pushed, from any thread. A fence if the receiver is awake.
    pub fn ring(&self) {
        if self.parked.wakes() {
            let one = 1u64;
            // SAFETY: eight readable bytes, and a descriptor that lives as long as `self`.
            let n = unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
            assert_eq!(
                n, 8,
                "an eventfd takes a write until 2^64 − 2 rings are unread"
            );
        }
    }
}
