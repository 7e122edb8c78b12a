//! What allocations take, as mimalloc's classes of sizes round them: steps of 16 bytes up to 64, then four
//! between two powers of two.

use std::sync::Arc;

/// What an allocation of `bytes` takes; nothing for none.
pub(super) fn allocation(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=64 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(bytes.next_power_of_two() / 8),
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

/// What an entry of a B-tree takes: ids that ascend leave its nodes half full.
pub(super) fn sorted<T>() -> usize {
    2 * size_of::<T>()
}

/// What a path takes in the list of a session's ephemerals.
pub(super) fn listed(path: &str) -> usize {
    sorted::<Arc<str>>() + shared(path.len())
}
