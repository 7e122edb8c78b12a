//! Wakes a parked executor from another thread.
//!
//! One [`Bell`] per receiving executor, shared by all queues that lead to it. No glommio waker ever
//! leaves its own thread: its foreign wake-ups overflow a counter after 32,767 clones.

use glommio::Task;
use glommio::io::BufferedFile;
use std::cell::Cell;
use std::future::poll_fn;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, fence};
use std::task::{Poll, Waker};

/// The sender's end.
pub struct Bell {
    parked: AtomicBool,
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
            parked: AtomicBool::new(false),
            fd,
        }))
    }

    /// What a ring watches. It is never read: each write is an edge of its own.
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The receiver is about to look at its queues for the last time before it sleeps.
    pub(super) fn park(&self) {
        self.parked.store(true, Relaxed);
        // `parked` is visible before the queues are looked at again; pairs with `Bell::ring`.
        fence(SeqCst);
    }

    /// The receiver is awake.
    pub(super) fn unpark(&self) {
        self.parked.store(false, Relaxed);
    }

    /// Called after a batch was pushed, from any thread. A fence if the receiver is awake.
    pub fn ring(&self) {
        // The push is visible before `parked` is read; pairs with the fence in `Bell::park`.
        fence(SeqCst);
        if self.parked.load(Relaxed) && self.parked.swap(false, AcqRel) {
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

/// The receiver's end; made inside the executor that waits, for one waiting task at a time.
pub struct Ear {
    bell: Arc<Bell>,
    waiter: Rc<Cell<Option<Waker>>>,
    _reader: Task<()>,
}

impl Ear {
    /// Begins to listen.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new(bell: Arc<Bell>) -> std::io::Result<Ear> {
        let fd = bell.fd.try_clone()?.into_raw_fd();
        // SAFETY: the descriptor was just duplicated and is handed over.
        let file = unsafe { BufferedFile::from_raw_fd(fd) };
        let waiter = Rc::new(Cell::new(None::<Waker>));
        let wake = waiter.clone();
        // Only this task reads: a cancelled read could swallow a ring meant for the next one.
        let _reader = glommio::spawn_local(async move {
            loop {
                file.read_at(0, 8).await.expect("an eventfd can be read");
                if let Some(waker) = wake.take() {
                    waker.wake();
                }
            }
        });
        Ok(Ear {
            bell,
            waiter,
            _reader,
        })
    }

    /// Returns when `ready` says so ("some queue is not empty"); true if it had to wait, so that
    /// I/O was looked at meanwhile. May be cancelled.
    pub async fn wait(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        let mut waited = false;
        poll_fn(|cx| {
            if ready() {
                return Poll::Ready(waited);
            }
            waited = true;
            self.waiter.set(Some(cx.waker().clone()));
            self.bell.park();
            if !ready() {
                return Poll::Pending;
            }
            self.bell.unpark();
            Poll::Ready(false)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn no_ring_is_lost_in_either_direction() {
        const HOPS: u64 = 5_000;
        let (there, back) = (Bell::new().unwrap(), Bell::new().unwrap());
        let (sent, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (t, b, s, a) = (there.clone(), back.clone(), sent.clone(), answered.clone());
        let echo = std::thread::spawn(move || {
            crate::rt::run(None, async move {
                let mut ear = Ear::new(t).unwrap();
                for hop in 1..=HOPS {
                    ear.wait(|| s.load(SeqCst) >= hop).await;
                    a.store(hop, SeqCst);
                    b.ring();
                }
            })
            .unwrap();
        });
        crate::rt::run(None, async move {
            let mut ear = Ear::new(back).unwrap();
            for hop in 1..=HOPS {
                sent.store(hop, SeqCst);
                there.ring();
                ear.wait(|| answered.load(SeqCst) >= hop).await;
            }
        })
        .unwrap();
        echo.join().unwrap();
    }
}
