//! Requests through a bounded ring between two cores: who finds it full keeps one and may sleep, and is woken when
//! there is room. `tests/loom` goes through the orders in which the two ends can act.

/// The end of the core that asks.
pub(super) struct Asking<T> {
    ring: rtrb::Producer<T>,
    /// A request that found the ring full.
    unsent: Option<T>,
}

impl<T> Asking<T> {
    /// Into a ring.
    pub(super) fn new(ring: rtrb::Producer<T>) -> Asking<T> {
        Asking { ring, unsent: None }
    }

    /// Puts requests into the ring as long as there are some, and room. Whether there was one.
    pub(super) fn send_all(&mut self, mut next: impl FnMut() -> Option<T>) -> bool {
        let mut any = false;
        while let Some(request) = self.unsent.take().or_else(&mut next) {
            match self.ring.push(request) {
                Ok(()) => any = true,
                Err(rtrb::PushError::Full(request)) => {
                    self.unsent = Some(request);
                    break;
                }
            }
        }
        any
    }

    /// Whether there is room again for a request that had none.
    pub(super) fn has_room_again(&self) -> bool {
        self.unsent.is_some() && !self.ring.is_full()
    }

    /// Whether no request waits for room.
    pub(super) fn is_through(&self) -> bool {
        self.unsent.is_none()
    }
}

/// When the core that takes requests says that there is room.
#[derive(Debug, Default)]
pub(super) struct RoomSigns {
    /// Requests taken since it was last said.
    taken: usize,
}

impl RoomSigns {
    /// A request was taken out of a ring for so many. Whether the other core may wait for room, and is to be woken:
    /// that is so once for as many requests as the ring holds, because a core that found it full has so many in it.
    /// To look whether it is full would miss a core that fills it and goes to sleep in between.
    pub(super) fn took(&mut self, capacity: usize) -> bool {
        self.taken += 1;
        let may_wait = self.taken >= capacity;
        if may_wait {
            self.taken = 0;
        }
        may_wait
    }
}
