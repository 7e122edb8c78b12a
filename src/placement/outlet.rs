//! What becomes of one connection's output between the shard that made it and the kernel.
//!
//! | State | `Offer` | `OfferLast` | `Wrote` all | `Wrote` a part, `Refused` | `WrotePiece` | `Gone` | `Discard` | `Overdue` |
//! |---|---|---|---|---|---|---|---|---|
//! | idle | backlogged: write | closing: write | idle | idle | idle | ended: close | ended: close | idle |
//! | backlogged | – | – | idle: fetch | backlogged: wait | backlogged: go on | ended: close | ended: close | backlogged |
//! | closing | – | – | ended: close | closing: wait | closing: go on | ended: close | ended: close | ended: close |
//! | ended | ended | ended | ended | ended | ended | ended | ended | ended |
//!
//! Output is taken from the shard only while the outlet is idle, so what the kernel has not taken is
//! held once for each connection, and what stays in the shard counts there. A connection that
//! backlogs for too long is the shard's to end; one that is closing has until a deadline.

/// Bytes of a buffer that is used again for output: most replies fit.
const SPARE_MAX: usize = 1 << 10;

/// What happens to an outlet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutletEvent {
    /// Bytes to hand to the kernel; only to an idle outlet.
    Offer(Vec<u8>),
    /// The last bytes of the connection, which closes behind them; only to an idle outlet.
    OfferLast(Vec<u8>),
    /// The kernel took this many bytes. If some are left, it takes no more now.
    Wrote(usize),
    /// The kernel took this many bytes, which were all that it was offered, and others are left.
    WrotePiece(usize),
    /// The kernel takes nothing now.
    Refused,
    /// The kernel says that the connection is no more.
    Gone,
    /// The connection ends without a further byte.
    Discard,
    /// The deadline of a closing connection has passed.
    Overdue,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutletAction {
    /// Nothing.
    Nothing,
    /// Offer [`Outlet::rest`] to the kernel, and say what became of it.
    Write,
    /// Offer more when there is a budget for it: the kernel can take it.
    GoOn,
    /// Wait until the kernel can take more.
    Wait,
    /// Look whether the shard has more.
    Fetch,
    /// Close the socket; nothing follows.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Backlogged,
    Closing,
    Ended,
}

/// The output of one connection that the shard has given away and the kernel has not taken.
#[derive(Debug)]
pub struct Outlet {
    state: State,
    bytes: Vec<u8>,
    written: usize,
}

impl Default for Outlet {
    fn default() -> Outlet {
        Outlet {
            state: State::Idle,
            bytes: Vec::new(),
            written: 0,
        }
    }
}

impl Outlet {
    /// Whether output may be offered.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// What the kernel has not taken.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// One event; the table of the module.
    pub fn step(&mut self, event: OutletEvent) -> OutletAction {
        use OutletEvent::{Discard, Gone, Offer, OfferLast, Overdue, Refused, Wrote, WrotePiece};
        match (self.state, event) {
            (State::Ended, _) => OutletAction::Nothing,
            (_, Gone | Discard) | (State::Closing, Overdue) => self.end(),
            (State::Idle, Offer(bytes)) => self.begin(State::Backlogged, bytes),
            (State::Idle, OfferLast(bytes)) if bytes.is_empty() => self.end(),
            (State::Idle, OfferLast(bytes)) => self.begin(State::Closing, bytes),
            (State::Backlogged | State::Closing, Offer(_) | OfferLast(_)) => {
                unreachable!("output is taken from the shard while the outlet is idle")
            }
            (State::Backlogged | State::Closing, Wrote(bytes)) => self.wrote(bytes),
            (State::Backlogged | State::Closing, WrotePiece(bytes)) => self.wrote_piece(bytes),
            (State::Backlogged | State::Closing, Refused) => OutletAction::Wait,
            (State::Idle, Wrote(_) | WrotePiece(_) | Refused | Overdue)
            | (State::Backlogged, Overdue) => OutletAction::Nothing,
        }
    }

    fn begin(&mut self, state: State, bytes: Vec<u8>) -> OutletAction {
        (self.state, self.bytes, self.written) = (state, bytes, 0);
        OutletAction::Write
    }

    fn wrote(&mut self, bytes: usize) -> OutletAction {
        self.written += bytes;
        assert!(self.written <= self.bytes.len(), "more than was offered");
        if self.written < self.bytes.len() {
            return OutletAction::Wait;
        }
        if self.state == State::Closing {
            return self.end();
        }
        (self.state, self.written) = (State::Idle, 0);
        self.bytes.clear();
        OutletAction::Fetch
    }

    fn wrote_piece(&mut self, bytes: usize) -> OutletAction {
        self.written += bytes;
        assert!(
            self.written < self.bytes.len(),
            "a piece has others behind it"
        );
        OutletAction::GoOn
    }

    /// The buffer of output that the kernel has taken whole, for further output. A large one is freed
    /// instead: who was sent much once need not keep it.
    pub fn take_spare(&mut self) -> Vec<u8> {
        assert!(self.is_idle(), "the buffer is in use");
        match std::mem::take(&mut self.bytes) {
            bytes if bytes.capacity() <= SPARE_MAX => bytes,
            _ => Vec::new(),
        }
    }

    fn end(&mut self) -> OutletAction {
        *self = Outlet::default();
        self.state = State::Ended;
        OutletAction::Close
    }
}

#[cfg(test)]
mod tests {
    use super::OutletAction::{Close, Fetch, GoOn, Nothing, Wait, Write};
    use super::OutletEvent::{
        Discard, Gone, Offer, OfferLast, Overdue, Refused, Wrote, WrotePiece,
    };
    use super::*;

    fn outlet(state: State) -> Outlet {
        let mut outlet = Outlet::default();
        match state {
            State::Idle => {}
            State::Backlogged => drop(outlet.step(Offer(b"four".to_vec()))),
            State::Closing => drop(outlet.step(OfferLast(b"four".to_vec()))),
            State::Ended => drop(outlet.step(Discard)),
        }
        assert_eq!(outlet.state, state);
        outlet
    }

    #[test]
    fn every_state_meets_every_event() {
        use State::{Backlogged, Closing, Ended, Idle};
        let bytes = || b"more".to_vec();
        let table = [
            (Idle, Offer(bytes()), Backlogged, Write),
            (Idle, OfferLast(bytes()), Closing, Write),
            (Idle, OfferLast(Vec::new()), Ended, Close),
            (Idle, Wrote(0), Idle, Nothing),
            (Idle, WrotePiece(0), Idle, Nothing),
            (Idle, Refused, Idle, Nothing),
            (Idle, Gone, Ended, Close),
            (Idle, Discard, Ended, Close),
            (Idle, Overdue, Idle, Nothing),
            (Backlogged, Wrote(4), Idle, Fetch),
            (Backlogged, Wrote(1), Backlogged, Wait),
            (Backlogged, WrotePiece(1), Backlogged, GoOn),
            (Backlogged, Refused, Backlogged, Wait),
            (Backlogged, Gone, Ended, Close),
            (Backlogged, Discard, Ended, Close),
            (Backlogged, Overdue, Backlogged, Nothing),
            (Closing, Wrote(4), Ended, Close),
            (Closing, Wrote(1), Closing, Wait),
            (Closing, WrotePiece(1), Closing, GoOn),
            (Closing, Refused, Closing, Wait),
            (Closing, Gone, Ended, Close),
            (Closing, Discard, Ended, Close),
            (Closing, Overdue, Ended, Close),
            (Ended, Offer(bytes()), Ended, Nothing),
            (Ended, OfferLast(bytes()), Ended, Nothing),
            (Ended, Wrote(4), Ended, Nothing),
            (Ended, WrotePiece(4), Ended, Nothing),
            (Ended, Refused, Ended, Nothing),
            (Ended, Gone, Ended, Nothing),
            (Ended, Discard, Ended, Nothing),
            (Ended, Overdue, Ended, Nothing),
        ];
        for (state, event, then, action) in table {
            let mut outlet = outlet(state);
            assert_eq!(outlet.step(event.clone()), action, "{state:?} {event:?}");
            assert_eq!(outlet.state, then, "{state:?} {event:?}");
            assert_eq!(
                outlet.state == Idle || outlet.state == Ended,
                outlet.rest().is_empty()
            );
        }
    }

    #[test]
    fn a_buffer_is_used_again_unless_it_is_large_or_its_bytes_are_not_taken() {
        for (capacity, kept) in [(1, true), (SPARE_MAX, true), (SPARE_MAX + 1, false)] {
            let mut outlet = Outlet::default();
            let mut bytes = Vec::with_capacity(capacity);
            bytes.push(7);
            outlet.step(Offer(bytes));
            assert_eq!(outlet.step(Wrote(1)), Fetch);
            let spare = outlet.take_spare();
            assert!(spare.is_empty(), "what was sent is not sent again");
            assert_eq!(spare.capacity() >= capacity, kept);
            assert_eq!(outlet.take_spare().capacity(), 0, "it is given once");
        }
    }

    #[test]
    #[should_panic(expected = "the buffer is in use")]
    fn a_buffer_with_unsent_bytes_stays() {
        outlet(State::Backlogged).take_spare();
    }

    #[test]
    fn a_part_that_was_taken_is_not_offered_again() {
        let mut outlet = outlet(State::Backlogged);
        for (event, rest) in [
            (Wrote(1), &b"our"[..]),
            (WrotePiece(2), b"r"),
            (Wrote(1), b""),
        ] {
            outlet.step(event);
            assert_eq!(outlet.rest(), rest);
        }
        assert!(outlet.is_idle());
    }
}
