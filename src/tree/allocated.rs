//! What allocations take, as glibc's `malloc` rounds them: eight bytes beside each, in steps of 16, at
//! least 32.

use std::sync::Arc;

/// What an allocation of `bytes` takes; nothing for none.
pub(super) fn allocation(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => (bytes + 8).next_multiple_of(16).max(32),
    }
}

/// What an `Arc` of `bytes` takes, which has counters in front.
pub(super) fn shared(bytes: usize) -> usize {
    allocation(16 + bytes)
}

/// What data of so many bytes takes; empty data and null take nothing.
pub(super) fn payload(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        bytes => shared(bytes),
    }
}

/// What a path takes in the list of a session's ephemerals.
pub(super) fn listed(path: &str) -> usize {
    size_of::<Arc<str>>() + shared(path.len())
}
