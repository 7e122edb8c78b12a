//! The runtime: the only place that names io_uring, glommio, sockets, eventfds, affinity and mapped
//! files. It knows nothing of the protocol.
//!
//! A data core is a thread of its own ([`threads::data_core`]) with one io_uring ([`ring`]), whose
//! loop its caller drives. Everything that may wait or block runs on executors in threads of their
//! own ([`background`]), which no data core waits for.

pub mod background;
pub mod bell;
pub mod clock;
mod freeing;
pub mod lock;
pub mod memory;
pub mod net;
mod pace;
mod parked;
pub mod probe;
pub mod ring;
pub mod signals;
pub mod storage;
pub mod threads;
mod watches;

/// What a sleeper and its wakers share: `tests/loom` has others in their place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
}
