//! Which poll request of a ring belongs to whom.
//!
//! A slot is given to a watch and comes back when the kernel has said its last word on the poll
//! request. Every completion names the slot and its generation, so that one which arrives after
//! its slot was given away again is told apart and dropped.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// Names a watched socket; chosen by who watches, below 2^56.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Hash, Ord, PartialOrd)]
pub struct Key(pub u64);

/// Bits of a generation: a slot has to be given away 2^24 times while one completion is under way
/// before that completion could be taken for another's.
const GENERATION_BITS: u32 = 24;

/// Who is told of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Socket(Key),
    Listener,
    Doorbell,
}

/// One poll request, as it stands in the `user_data` of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    slot: u32,
    generation: u32,
}

impl Ticket {
    /// The lower 56 bits of a `user_data`.
    pub(super) fn bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From the lower 56 bits of a `user_data`.
    pub(super) fn from_bits(bits: u64) -> Ticket {
        Ticket {
            slot: bits as u32,
            generation: (bits >> 32) as u32 & ((1 << GENERATION_BITS) - 1),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody's.
    Free,
    /// The kernel watches.
    Armed,
    /// The kernel has refused to watch; nothing is under way.
    Refused,
    /// The owner is gone; the kernel's last word is awaited.
    Forgotten,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) owner: Owner,
    pub(super) fd: RawFd,
    pub(super) state: State,
    generation: u32,
}

/// All watches of one ring: one per watched descriptor, and one per forgotten descriptor until the
/// kernel has let go of it.
#[derive(Default)]
pub(super) struct Watches {
    slots: Vec<Watch>,
    free: Vec<u32>,
    sockets: BTreeMap<Key, u32>,
}

impl Watches {
    /// A slot for a poll request that is about to be armed.
    pub(super) fn add(&mut self, owner: Owner, fd: RawFd) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Watch {
                owner,
                fd,
                state: State::Free,
                generation: 0,
            });
            (self.slots.len() - 1) as u32
        });
        if let Owner::Socket(key) = owner {
            let before = self.sockets.insert(key, slot);
            assert!(before.is_none(), "{key:?} is watched already");
        }
        let watch = &mut self.slots[slot as usize];
        (watch.owner, watch.fd, watch.state) = (owner, fd, State::Armed);
        Ticket {
            slot,
            generation: watch.generation,
        }
    }

    /// What a completion is about; `None` if its slot was given back since.
    pub(super) fn get(&mut self, ticket: Ticket) -> Option<&mut Watch> {
        self.slots
            .get_mut(ticket.slot as usize)
            .filter(|watch| watch.generation == ticket.generation && watch.state != State::Free)
    }

    /// The poll request of a socket.
    pub(super) fn of_socket(&self, key: Key) -> Option<Ticket> {
        self.sockets.get(&key).map(|slot| self.ticket(*slot))
    }

    /// The owner is gone. True if the kernel still has to be told.
    pub(super) fn forget(&mut self, ticket: Ticket) -> bool {
        let Some(watch) = self.get(ticket) else {
            return false;
        };
        let was = std::mem::replace(&mut watch.state, State::Forgotten);
        if let (Owner::Socket(key), true) = (watch.owner, was != State::Forgotten) {
            self.sockets.remove(&key);
        }
        if was == State::Refused {
            self.release(ticket);
        }
        was == State::Armed
    }

    /// The kernel will say nothing more: the slot can be given away again.
    pub(super) fn release(&mut self, ticket: Ticket) {
        let watch = &mut self.slots[ticket.slot as usize];
        watch.state = State::Free;
        watch.generation = (watch.generation + 1) % (1 << GENERATION_BITS);
        self.free.push(ticket.slot);
    }

    /// Every poll request that is not known to have ended.
    pub(super) fn all(&self) -> Vec<(Ticket, Watch)> {
        (0..self.slots.len() as u32)
            .map(|slot| (self.ticket(slot), self.slots[slot as usize]))
            .filter(|(_, watch)| matches!(watch.state, State::Armed | State::Forgotten))
            .collect()
    }

    /// Slots that are not free.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn ticket(&self, slot: u32) -> Ticket {
        Ticket {
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_given_away_again_does_not_answer_to_its_old_ticket() {
        let mut watches = Watches::default();
        let first = watches.add(Owner::Socket(Key(7)), 3);
        assert_eq!(Ticket::from_bits(first.bits() | 0xff << 56), first);
        assert!(watches.forget(first));
        assert!(!watches.forget(first));
        watches.release(first);
        let second = watches.add(Owner::Socket(Key(7)), 3);
        assert_ne!(first, second);
        assert!(watches.get(first).is_none());
        assert_eq!(watches.of_socket(Key(7)), Some(second));
        assert_eq!(watches.len(), 1);
    }

    #[test]
    fn a_key_can_be_watched_again_before_the_kernel_has_let_go_of_its_last_socket() {
        let mut watches = Watches::default();
        let first = watches.add(Owner::Socket(Key(7)), 3);
        watches.forget(first);
        let second = watches.add(Owner::Socket(Key(7)), 4);
        assert_eq!(watches.get(first).unwrap().state, State::Forgotten);
        watches.release(first);
        assert_eq!(watches.of_socket(Key(7)), Some(second));
        assert_eq!(watches.get(second).unwrap().state, State::Armed);
    }
}
