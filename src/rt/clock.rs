//! Time and chance, for everything that may not ask for them itself.

use crate::types::{Now, Tick, WallMs};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Counts from its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }
}

impl Clock {
    /// All three clocks.
    pub fn now(&self) -> Now {
        let micros = self.origin.elapsed().as_micros() as u64;
        Now {
            tick: Tick(micros / 1000),
            micros,
            wall: wall(),
        }
    }
}

/// Wall clock.
pub fn wall() -> WallMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallMs(since.as_millis() as i64)
}

/// What the calling thread has used of a processor.
pub(super) fn thread_cpu() -> Duration {
    // SAFETY: all zeroes are a time.
    let mut used = unsafe { std::mem::zeroed::<libc::timespec>() };
    // SAFETY: one writable time.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut used) };
    assert_eq!(failed, 0, "each thread has this clock");
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// 128 bits of the kernel's randomness.
pub fn random() -> u128 {
    let mut bytes = [0u8; 16];
    // SAFETY: sixteen writable bytes.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(n, 16, "the kernel gives small amounts of randomness whole");
    u128::from_le_bytes(bytes)
}
