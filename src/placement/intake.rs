//! Whose turn it is: the order in which a serving core looks at its connections.
//!
//! One queue, in which every connection stands at most once. A connection that has more to do than
//! its slice goes to the end. A *round* is a mark in that queue: when it comes to the front, every
//! connection that had bytes in its socket when the round began has been read once, so its session
//! has been heard of. That is what the watermark of a report means, whatever the load.

use super::sockets::SocketId;
use crate::budget::Budget;
use crate::types::Tick;
use std::collections::VecDeque;

/// How much of a turn belongs to clients. The simulator draws them small.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// All connections together, between two looks at completions, timers and other cores.
    pub turn: Budget,
    /// One connection, before the next one's turn.
    pub slice: Budget,
    /// Most bytes that are read from a socket at once.
    pub read_max: usize,
    /// Connections accepted in one turn.
    pub accepts: usize,
    /// Work left behind by connections that have ended.
    pub reap: Budget,
    /// Batches of committed transactions that a replica applies in one turn.
    pub batches: usize,
    /// Requests of one shard that the ordering core takes in one turn.
    pub requests: usize,
}

impl Budgets {
    /// Some tens of microseconds for a slice, about a millisecond for a turn.
    pub const DEFAULT: Budgets = Budgets {
        turn: Budget::new(1024, 1 << 20, 1 << 16),
        slice: Budget::new(128, 64 << 10, 1 << 13),
        read_max: 64 << 10,
        accepts: 64,
        reap: Budget::new(1024, 1 << 20, 1 << 12),
        batches: 16,
        requests: 1024,
    };
}

/// An entry of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This socket.
    Socket(SocketId),
    /// Everything that lay in any socket at this moment has been looked at.
    Round(Tick),
}

/// The queue.
#[derive(Debug, Default)]
pub struct Intake {
    queue: VecDeque<Next>,
    /// A round that waits until the listening socket has been emptied.
    wanted: Option<Tick>,
    /// A round's mark is in the queue.
    marked: bool,
}

impl Intake {
    /// Puts a socket at the end; the caller keeps it from standing there twice.
    pub fn push(&mut self, id: SocketId) {
        self.queue.push_back(Next::Socket(id));
    }

    /// What comes next.
    pub fn pop(&mut self) -> Option<Next> {
        let next = self.queue.pop_front()?;
        self.marked &= !matches!(next, Next::Round(_));
        Some(next)
    }

    /// Begins a round for what lay in any socket, the listening one included, at `watermark`, unless
    /// one is under way.
    pub fn want_round(&mut self, watermark: Tick) {
        if !self.marked && self.wanted.is_none() {
            self.wanted = Some(watermark);
        }
    }

    /// Whoever waited in the listening socket when the round began has been accepted, and stands in
    /// the queue.
    pub fn listener_emptied(&mut self) {
        if let Some(watermark) = self.wanted.take() {
            self.marked = true;
            self.queue.push_back(Next::Round(watermark));
        }
    }

    /// A round whose mark came to the front has more to do than a slice: the rest comes behind
    /// everybody who stands in the queue.
    pub fn go_on_with_round(&mut self, watermark: Tick) {
        self.marked = true;
        self.queue.push_back(Next::Round(watermark));
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(slot: u32) -> SocketId {
        SocketId {
            slot,
            generation: 0,
        }
    }

    #[test]
    fn a_round_ends_behind_everybody_who_stood_before_it() {
        let mut intake = Intake::default();
        intake.push(socket(1));
        intake.want_round(Tick(5));
        intake.push(socket(2));
        intake.listener_emptied();
        intake.push(socket(3));
        intake.want_round(Tick(6));
        intake.listener_emptied();
        let order: Vec<Next> = std::iter::from_fn(|| intake.pop()).collect();
        let expected = [
            Next::Socket(socket(1)),
            Next::Socket(socket(2)),
            Next::Round(Tick(5)),
            Next::Socket(socket(3)),
        ];
        assert_eq!(order, expected, "one round at a time");
        intake.push(socket(4));
        intake.go_on_with_round(Tick(5));
        intake.want_round(Tick(6));
        intake.listener_emptied();
        let order: Vec<Next> = std::iter::from_fn(|| intake.pop()).collect();
        let expected = [Next::Socket(socket(4)), Next::Round(Tick(5))];
        assert_eq!(order, expected, "a round that goes on is still the one");
        intake.want_round(Tick(7));
        intake.listener_emptied();
        assert_eq!(intake.pop(), Some(Next::Round(Tick(7))));
    }
}
