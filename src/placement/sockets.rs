//! What a serving core needs of the network: the seam below the turn. The server implements it over
//! descriptors and an io_uring, the simulator over queues.

use crate::shard::ClientAddress;
use crate::types::Tick;

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
    /// Connections that wait to be accepted, at most.
    fn waiting_max(&self) -> usize;
    /// Connections that another core has accepted for this one, and that it was not told of yet.
    fn handed_over(&self) -> usize;
    /// Whether the core has been told of everything that lay in any socket, the listening one included, when its last
    /// turn began.
    fn has_told_all(&self) -> bool;
    /// Takes bytes that wait in the kernel.
    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> Read;
    /// Hands bytes to the kernel.
    fn write(&mut self, id: SocketId, bytes: &[u8]) -> Wrote;
    /// Bytes handed to the kernel that the other end has not acknowledged.
    fn unacknowledged(&mut self, id: SocketId) -> usize;
    /// The connection is over: descriptor and counts are given back.
    fn close(&mut self, id: SocketId);
    /// The connection said a four-letter word, and `behind` it what came with it: somebody else answers
    /// it, and gives it back.
    fn word(&mut self, id: SocketId, word: [u8; 4], behind: &[u8]);
}

/// Those who waited in a listening socket at some moment, or had been handed to this core by the one that accepts.
/// They are given in the order in which they came: so all of those are accepted when nobody waits, or when as many
/// were accepted since as can have waited. Who connects without end can't put that off.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The moment, and how many are still to be accepted at most.
    since: Option<(Tick, usize)>,
}

impl Waiting {
    /// Those who wait at `since`, at most so many; unless others are still to be accepted.
    pub fn begin(&mut self, since: Tick, at_most: usize) {
        self.since.get_or_insert((since, at_most));
    }

    /// One who waited was accepted, or turned away.
    pub fn accepted(&mut self) {
        if let Some((_, left)) = &mut self.since {
            *left = left.saturating_sub(1);
        }
    }

    /// The moment, once, when all who waited then were accepted. `nobody_waits`: neither they nor others.
    pub fn take_accepted(&mut self, nobody_waits: bool) -> Option<Tick> {
        let are_accepted = |&mut (_, left): &mut (Tick, usize)| nobody_waits || left == 0;
        self.since.take_if(are_accepted).map(|(since, _)| since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_waited_are_accepted_when_as_many_were_as_waited_or_when_nobody_waits() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.take_accepted(true), None, "nobody asks");
        waiting.begin(Tick(5), 2);
        waiting.accepted();
        waiting.begin(Tick(6), 9);
        assert_eq!(waiting.take_accepted(false), None, "one is left");
        waiting.accepted();
        waiting.accepted();
        assert_eq!(waiting.take_accepted(false), Some(Tick(5)));
        assert_eq!(waiting.take_accepted(true), None, "it is said once");
        waiting.begin(Tick(7), 2);
        assert_eq!(waiting.take_accepted(true), Some(Tick(7)));
    }
}
