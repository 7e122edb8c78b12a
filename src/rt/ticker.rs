//! A periodic timer that costs nothing between its ticks.
//!
//! While any timer of glommio's own waits, the executor arms it in the kernel before each time it
//! parks and takes it back when it wakes: two more system calls and two reprogrammings of the
//! hardware's timer for each request of a lone client.

use glommio::io::BufferedFile;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

/// See the module; made inside the executor that waits.
pub struct Ticker {
    timer: BufferedFile,
}

impl Ticker {
    /// The first tick comes after `every`.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new(every: Duration) -> io::Result<Ticker> {
        let every = libc::timespec {
            tv_sec: every.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(every.subsec_nanos()),
        };
        let schedule = libc::itimerspec {
            it_interval: every,
            it_value: every,
        };
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the schedule lives on the stack; no old one is asked for.
        let set = unsafe {
            libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const schedule, std::ptr::null_mut())
        };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is open and is handed over.
        let timer = unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) };
        Ok(Ticker { timer })
    }

    /// The next tick. Those that were missed come as one. Not to be cancelled and called again.
    pub async fn tick(&self) {
        self.timer
            .read_at(0, 8)
            .await
            .expect("a timerfd can be read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_ticks_and_what_was_missed_is_one_tick() {
        crate::rt::run(None, async {
            let began = Instant::now();
            let ticker = Ticker::new(Duration::from_millis(10)).unwrap();
            ticker.tick().await;
            ticker.tick().await;
            assert!(began.elapsed() >= Duration::from_millis(20));
            std::thread::sleep(Duration::from_millis(45));
            let late = Instant::now();
            for _ in 0..3 {
                ticker.tick().await;
            }
            // Between the last two lies a whole period.
            assert!(late.elapsed() >= Duration::from_millis(10));
        })
        .unwrap();
    }
}
