//! What the process's allocator does with memory that was freed.

use std::ffi::{c_int, c_long};
use std::time::Duration;

/// How long freed memory is kept for allocations to come before the kernel gets it back. mimalloc's own
/// second is too long here: buffers of a megabyte that thousands of connections use one after the other
/// would be in memory all at once. None at all would have the kernel take and give pages in each turn.
pub const KEPT_FOR: Duration = Duration::from_millis(10);

/// mimalloc's `mi_option_purge_delay`, ms.
const PURGE_DELAY: c_int = 15;

/// Has mimalloc, if the process allocates by it, keep freed memory no longer than [`KEPT_FOR`]; to be called
/// before there are other threads. `MIMALLOC_PURGE_DELAY` in the environment takes precedence.
pub fn give_back_early() {
    // SAFETY: the call stores one number in mimalloc's table of options.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT_FOR.as_millis() as c_long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_the_environment_calls_purge_delay() {
        // SAFETY: the call reads one number; a process reads its environment when it first asks for one.
        let ask = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(
            ask(),
            1000,
            "mimalloc's own is a second, which no other option has"
        );
        give_back_early();
        assert_eq!(ask(), 10);
    }
}
