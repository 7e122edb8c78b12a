//! What a serving core needs of the network: the seam below the turn. The server implements it over
//! descriptors and an io_uring, the simulator over queues.

use crate::shard::ClientAddress;

/// Names one socket of a serving core; used again only with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    /// Slot in the core's table.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, and the kernel may have more.
    More(usize),
    /// So many bytes, and the kernel had no more.
    All(usize),
    /// None now.
    Nothing,
    /// The other end has closed, or the connection is gone.
    End,
}

/// What writing gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// None now; the core hears when some can be.
    Nothing,
    /// The connection is gone, or nothing is known about it any more.
    Gone,
}

/// What accepting gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// A connection, which has the offered id from now on.
    Connection(ClientAddress),
    /// One that was turned away, or had gone: there may be more.
    Dropped,
    /// Nobody waits.
    Nobody,
    /// No descriptor or memory is left: the core is told when to try again.
    Exhausted,
}

/// Sockets of clients, none of which ever blocks.
pub trait Sockets {
    /// Takes a waiting connection; it is known as `id` if there is one.
    fn accept(&mut self, id: SocketId) -> Accepted;
    /// Takes bytes that wait in the kernel.
    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> Read;
    /// Hands bytes to the kernel.
    fn write(&mut self, id: SocketId, bytes: &[u8]) -> Wrote;
    /// Bytes handed to the kernel that the other end has not acknowledged.
    fn unacknowledged(&mut self, id: SocketId) -> usize;
    /// The connection is over: descriptor and counts are given back.
    fn close(&mut self, id: SocketId);
    /// The connection said a four-letter word: somebody else answers it, and gives it back.
    fn word(&mut self, id: SocketId, word: [u8; 4]);
}
