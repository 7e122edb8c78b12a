//! Time and chance, for everything that may not ask for them itself.

use crate::types::{Now, Tick, WallMs};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

/// 128 bits of the kernel's randomness.
pub fn random() -> u128 {
    let mut bytes = [0u8; 16];
    // SAFETY: sixteen writable bytes.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(n, 16, "the kernel gives small amounts of randomness whole");
    u128::from_le_bytes(bytes)
}
