//! Whose turn it is: the order in which a serving core looks at its connections.
//!
//! Who asks for little does not wait for those who ask for much: deficit round robin with a queue of
//! its own for the sparse (after RFC 8290 §4, with requests, bytes and steps for packets). Two queues,
//! and every connection stands at most once in one of them:
//!
//! | Queue | Who stands there |
//! |---|---|
//! | sparse | who had nothing to do and owed nothing, and now has something to do |
//! | busy | who had more to do than its slice allowed, owes something, or has begun a long frame |
//!
//! The sparse come first, and after [`SPARSE_RUN`] of them one of the busy, so nobody starves. Each
//! look at a connection allows it one slice. For a request that costs more it saves several, up to
//! [`SLICES_KEPT`]; what a request then costs beyond is owed, and its next slices pay: so a thousand
//! readers of large nodes hold up the others for a thousand slices, not for a thousand large nodes.
//!
//! While many stand in the sparse queue, the first look at each of them reads a part of a full read only
//! ([`Intake::read_max`]): of ten thousand who all begin a long request at once, each is known to ask for much
//! after [`SPARSE_READ_MIN`] bytes, and who pings does not wait for ten thousand full reads. Who has begun a
//! frame and lacks more of it than that stays among the busy, also when its socket is empty for a moment: else the
//! ten thousand would be sparse again with every piece that their kernels bring.
//!
//! A *round* is a mark in both queues: when it has come to the front of both, every connection that had
//! bytes in its socket when the round began has been read once, or is known to have something to do,
//! so its session has been heard of. That is what the watermark of a report means, whatever the load.

use super::sockets::{SocketId, Waiting};
use crate::budget::Budget;
use crate::types::Tick;
use std::collections::VecDeque;

/// How much of each kind of work fits into a turn. The simulator draws them small.
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
    /// Connections looked at in one turn, whatever they bring: a look is a system call at least. One that ends costs
    /// as much as [`LOOKS_OF_AN_END`].
    pub looks: usize,
    /// Work left behind by connections that have ended.
    pub reap: Budget,
    /// What is committed, applied in one turn: an operation of a transaction, 512 bytes of its data, a path of a
    /// closeSession, a notice, an event that is handed out, and each entry and identity compared for events are
    /// a step each.
    pub apply: Budget,
    /// What is ordered in one turn: an operation, 512 bytes of its data, a path of a closeSession and a message of a
    /// shard are a step each. Less than is applied, so that what a long sync has piled up grows no further.
    pub order: Budget,
    /// Requests of one shard that the ordering core takes in one turn.
    pub requests: usize,
    /// Output of one connection that goes to the kernel whole, whatever the others have, bytes.
    pub output_at_once: usize,
    /// Bytes that go to the kernel in one turn of all that have more output than that.
    pub output: usize,
}

impl Budgets {
    /// Some tens of microseconds for a slice, about a millisecond for each phase of a turn. The kernel takes
    /// 256 KiB in less than 0.2 ms; what a slice brings goes at once.
    pub const DEFAULT: Budgets = Budgets {
        turn: Budget::new(384, 512 << 10, 1 << 16),
        slice: Budget::new(128, 64 << 10, 1 << 13),
        read_max: 64 << 10,
        accepts: 64,
        looks: 512,
        reap: Budget::new(1024, 1 << 20, 1 << 12),
        apply: Budget::steps(1 << 11),
        order: Budget::steps(1 << 10),
        requests: 1024,
        output_at_once: 128 << 10,
        output: 256 << 10,
    };
}

/// An entry of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This socket.
    Socket(SocketId),
    /// Everything that lay in any socket at this moment has been looked at.
    Round(Tick),
}

/// Sparse connections looked at in a row while a busy one waits.
const SPARSE_RUN: u32 = 16;
/// So many sparse connections may be read as much as fits at once; more share what those may.
const SPARSE_FULL_READS: usize = 8;
/// But each of them is read so much, bytes: more than those send who ask for little.
const SPARSE_READ_MIN: usize = 4 << 10;
/// What the end of a connection costs, in looks: some system calls, and what it held is given back.
pub const LOOKS_OF_AN_END: usize = 4;
/// Most slices that a connection saves for one request, or owes for one.
const SLICES_KEPT: u32 = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In no queue.
    #[default]
    Out,
    Sparse,
    Busy,
}

/// Where one connection stands; kept beside its socket.
#[derive(Debug)]
pub struct Standing {
    place: Place,
    /// It has something to do.
    asks: bool,
    /// What it has saved for its next request, or owes for the last one.
    kept: Budget,
    /// It has begun a frame of which more is to come than a sparse connection may always be read.
    is_midway: bool,
}

impl Default for Standing {
    fn default() -> Standing {
        Standing {
            place: Place::Out,
            asks: false,
            kept: Budget::NOTHING,
            is_midway: false,
        }
    }
}

/// What a look at a connection is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is served, and may spend this.
    Serve(Budget),
    /// Its slice pays what it owes.
    Pays,
    /// It has nothing to do.
    Rests,
}

/// How many connections stand in each queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Of those who ask for little.
    pub sparse: usize,
    /// Of those who ask for much.
    pub busy: usize,
}

impl Queues {
    /// One more connection, as it is noted beside its socket.
    pub fn recount(&mut self, standing: &Standing) {
        self.sparse += usize::from(standing.place == Place::Sparse);
        self.busy += usize::from(standing.place == Place::Busy);
    }
}

impl Standing {
    /// The connection was served; this is left of what it was allowed.
    pub fn served(&mut self, left: Budget, slice: Budget) {
        self.kept = left.kept(slice, SLICES_KEPT);
    }

    /// The connection was visited; so many bytes of a frame that it has begun are still to come.
    pub fn lacks(&mut self, bytes: usize) {
        self.is_midway = bytes > SPARSE_READ_MIN;
    }
}

/// The two queues.
#[derive(Debug, Default)]
pub struct Intake {
    sparse: VecDeque<Next>,
    busy: VecDeque<Next>,
    /// Sparse connections that came first since a busy one did.
    run: u32,
    /// A round that waits until whoever waits in the listening socket has been accepted.
    wanted: Waiting,
    /// Queues that hold the mark of a round.
    marks: u32,
}

impl Intake {
    /// A connection has something to do.
    pub fn ask(&mut self, id: SocketId, standing: &mut Standing) {
        standing.asks = true;
        if standing.place == Place::Out {
            let (place, queue) = match standing.is_midway {
                true => (Place::Busy, &mut self.busy),
                false => (Place::Sparse, &mut self.sparse),
            };
            standing.place = place;
            queue.push_back(Next::Socket(id));
        }
    }

    /// What comes next. A socket that is still open is looked at, and then given to [`Intake::looked`].
    pub fn pop(&mut self) -> Option<Next> {
        loop {
            let busy_first = self.run >= SPARSE_RUN;
            let (first, second) = match busy_first {
                true => (&mut self.busy, &mut self.sparse),
                false => (&mut self.sparse, &mut self.busy),
            };
            let next = first.pop_front().or_else(|| second.pop_front())?;
            if let Next::Round(_) = next {
                self.marks -= 1;
                if self.marks > 0 {
                    continue;
                }
            }
            return Some(next);
        }
    }

    /// A look at the connection that came begins.
    pub fn look(&mut self, standing: &mut Standing, slice: Budget) -> Look {
        let allowed = slice.with_kept(standing.kept, SLICES_KEPT);
        let look = match standing.asks {
            true if allowed.is_spent() => Look::Pays,
            true => Look::Serve(allowed),
            false => Look::Rests,
        };
        match look {
            Look::Serve(_) => standing.asks = false,
            Look::Pays | Look::Rests => standing.kept = allowed.kept(slice, SLICES_KEPT),
        }
        // Who only pays there makes way for the next of the busy.
        self.run = match (standing.place, look) {
            (Place::Busy, Look::Serve(_)) => 0,
            (Place::Busy, _) => self.run,
            (Place::Sparse | Place::Out, _) => self.run.saturating_add(1),
        };
        look
    }

    /// How many bytes may be read at once from the connection that is looked at, where nobody may be read more
    /// than `most`.
    pub fn read_max(&self, standing: &Standing, most: usize) -> usize {
        match standing.place {
            Place::Busy => most,
            Place::Sparse | Place::Out => {
                let crowd = self.sparse.len().max(1);
                let part = most.saturating_mul(SPARSE_FULL_READS) / crowd;
                part.max(SPARSE_READ_MIN).min(most)
            }
        }
    }

    /// A look at a connection is over.
    pub fn looked(&mut self, id: SocketId, standing: &mut Standing) {
        if standing.asks || standing.kept.owes() {
            standing.place = Place::Busy;
            self.busy.push_back(Next::Socket(id));
        } else {
            standing.place = Place::Out;
        }
    }

    /// Begins a round for what lay in any socket, the listening one included, at `watermark`, unless
    /// one is under way. `waiting_max`: so many connections wait to be accepted, at most.
    pub fn want_round(&mut self, watermark: Tick, waiting_max: usize) {
        if self.marks == 0 {
            self.wanted.begin(watermark, waiting_max);
        }
    }

    /// A connection was accepted, and stands in a queue, or was turned away.
    pub fn accepted(&mut self) {
        self.wanted.accepted();
    }

    /// Marks the round that is wanted, if whoever waited in the listening socket when it began has been
    /// accepted. `nobody_waits`: nobody does, or there is no room for those who do.
    pub fn mark_round(&mut self, nobody_waits: bool) {
        if let Some(watermark) = self.wanted.take_accepted(nobody_waits) {
            self.marks = 2;
            self.sparse.push_back(Next::Round(watermark));
            self.busy.push_back(Next::Round(watermark));
        }
    }

    /// A round whose mark came to the front has more to do than a slice: the rest comes behind
    /// everybody who is busy.
    pub fn go_on_with_round(&mut self, watermark: Tick) {
        self.marks = 1;
        self.busy.push_back(Next::Round(watermark));
    }

    /// Entries of each queue, of the sockets that are open.
    pub fn counted(&self, is_open: impl Fn(SocketId) -> bool) -> Queues {
        let count = |queue: &VecDeque<Next>| {
            let open = |next: &&Next| matches!(next, Next::Socket(id) if is_open(*id));
            queue.iter().filter(open).count()
        };
        Queues {
            sparse: count(&self.sparse),
            busy: count(&self.busy),
        }
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.sparse.is_empty() && self.busy.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn socket(slot: u32) -> SocketId {
        SocketId {
            slot,
            generation: 0,
        }
    }

    const SLICE: Budget = Budget::new(10, 1000, 100);

    /// Connections by slot.
    #[derive(Default)]
    struct World {
        intake: Intake,
        standings: BTreeMap<u32, Standing>,
    }

    impl World {
        fn ask(&mut self, slot: u32) {
            let standing = self.standings.entry(slot).or_default();
            self.intake.ask(socket(slot), standing);
        }

        /// Looks at who comes next; `serve`: what the connection spends, and whether it asks again.
        fn look(&mut self, serve: &mut impl FnMut(u32, &mut Budget) -> bool) -> Option<Next> {
            let next = self.intake.pop()?;
            if let Next::Socket(id) = next {
                let standing = self.standings.get_mut(&id.slot).expect("asked once");
                if let Look::Serve(mut left) = self.intake.look(standing, SLICE) {
                    let again = serve(id.slot, &mut left);
                    standing.served(left, SLICE);
                    if again {
                        self.intake.ask(id, standing);
                    }
                }
                self.intake.looked(id, standing);
            }
            Some(next)
        }

        /// The order in which the connections are served in so many looks; `cost` in bytes, of those
        /// who always ask again.
        fn served(&mut self, looks: usize, cost: impl Fn(u32) -> Option<usize>) -> Vec<u32> {
            let mut order = Vec::new();
            for _ in 0..looks {
                let looked = self.look(&mut |slot, left| {
                    order.push(slot);
                    left.spend_bytes(cost(slot).unwrap_or(1));
                    cost(slot).is_some()
                });
                if looked.is_none() {
                    break;
                }
            }
            order
        }
    }

    #[test]
    fn who_asks_for_little_comes_before_all_who_ask_for_much() {
        let mut world = World::default();
        (1..=100).for_each(|slot| world.ask(slot));
        let always = |slot| (slot <= 100).then_some(1000);
        assert_eq!(world.served(150, always).len(), 150);
        world.ask(101);
        assert_eq!(world.served(1, always), [101]);
    }

    #[test]
    fn nobody_starves_behind_those_who_ask_for_little_without_end() {
        let mut world = World::default();
        world.ask(0);
        let mut order = world.served(2, |_| Some(1000));
        for slot in 1..1000 {
            // One asks again whenever it was served, the others are new.
            for slot in [1, slot, slot + 10_000] {
                world.ask(slot);
            }
            order.extend(world.served(1, |slot| (slot == 0).then_some(1000)));
        }
        let gaps = order.split(|&slot| slot == 0).map(<[u32]>::len);
        assert_eq!(gaps.max(), Some(SPARSE_RUN as usize));
    }

    #[test]
    fn large_requests_are_paid_with_later_slices() {
        let mut world = World::default();
        (1..=2).for_each(|slot| world.ask(slot));
        // One request of the first costs ten slices.
        let order = world.served(400, |slot| Some(if slot == 1 { 10_000 } else { 1000 }));
        let first = order.iter().filter(|&&slot| slot == 1).count();
        assert!((18..=22).contains(&first), "{first} of {}", order.len());
    }

    #[test]
    fn who_has_begun_a_long_frame_stays_behind_who_asks_for_little() {
        let mut world = World::default();
        (1..=200).for_each(|slot| world.ask(slot));
        // Everything that lay in their sockets is read, and much is to come.
        world.served(200, |_| None);
        assert!(world.intake.is_empty());
        for slot in 1..=100 {
            let standing = world.standings.get_mut(&slot).expect("it has asked");
            standing.lacks(SPARSE_READ_MIN + 1);
        }
        for slot in 101..=200 {
            let standing = world.standings.get_mut(&slot).expect("it has asked");
            standing.lacks(SPARSE_READ_MIN);
        }
        (1..=200).for_each(|slot| world.ask(slot));
        let order = world.served(100, |_| None);
        let long = order.iter().filter(|&&slot| slot <= 100).count();
        // One behind each run of the others, the first of which may have ended.
        let runs = 100 / (SPARSE_RUN as usize + 1);
        assert!((runs..=runs + 1).contains(&long), "{long} of {runs}");
        world.served(200, |_| None);
        // All of it has come.
        world.standings.get_mut(&1).expect("it is there").lacks(0);
        (1..=2).rev().for_each(|slot| world.ask(slot));
        assert_eq!(world.served(2, |_| None), [1, 2]);
    }

    #[test]
    fn a_debt_has_a_bound_and_is_paid_by_who_rests_too() {
        let mut world = World::default();
        (1..=2).for_each(|slot| world.ask(slot));
        let once = world.served(2, |slot| (slot == 2).then_some(1_000_000));
        assert_eq!(once, [1, 2]);
        let looks = (1..100).take_while(|_| world.served(1, |_| Some(1)).is_empty());
        assert_eq!(looks.count(), SLICES_KEPT as usize);
        let mut world = World::default();
        world.ask(1);
        world.look(&mut |_, left| {
            left.spend_bytes(3500);
            false
        });
        let looks = std::iter::from_fn(|| world.look(&mut |_, _| panic!("it does not ask")));
        assert_eq!(looks.count(), 3);
        assert!(world.intake.is_empty());
    }

    #[test]
    fn who_pays_a_debt_takes_no_turn_of_the_busy() {
        let mut world = World::default();
        (0..=8).for_each(|slot| world.ask(slot));
        // One asks whenever it was served, eight owe as much as anybody may.
        for _ in 0..=8 {
            world.look(&mut |slot, left| {
                left.spend_bytes(if slot == 0 { 1000 } else { 1_000_000 });
                slot == 0
            });
        }
        let mut order = Vec::new();
        for slot in 1000..3000 {
            world.ask(slot);
            order.extend(world.served(1, |slot| (slot == 0).then_some(1000)));
        }
        let gaps = order.split(|&slot| slot == 0).map(<[u32]>::len);
        assert_eq!(gaps.max(), Some(SPARSE_RUN as usize));
    }

    #[test]
    fn a_round_ends_behind_everybody_who_stood_in_either_queue() {
        let mut world = World::default();
        world.ask(1);
        world.served(1, |_| Some(1000));
        world.ask(2);
        world.intake.want_round(Tick(5), 0);
        world.ask(3);
        world.intake.mark_round(true);
        world.ask(4);
        world.intake.want_round(Tick(6), 0);
        world.intake.mark_round(true);
        let looks = std::iter::from_fn(|| world.look(&mut |_, _| false));
        let order: Vec<Next> = looks.collect();
        let at = |next| order.iter().position(|&n| n == next).expect("it comes");
        let round = at(Next::Round(Tick(5)));
        for slot in 1..=3 {
            assert!(at(Next::Socket(socket(slot))) < round, "{order:?}");
        }
        assert!(!order.contains(&Next::Round(Tick(6))), "one at a time");
        world.ask(5);
        world.intake.go_on_with_round(Tick(5));
        world.intake.want_round(Tick(6), 0);
        world.intake.mark_round(true);
        let looks = std::iter::from_fn(|| world.look(&mut |_, _| false));
        let order: Vec<Next> = looks.collect();
        let expected = [Next::Socket(socket(5)), Next::Round(Tick(5))];
        assert_eq!(order, expected, "a round that goes on is still the one");
        world.intake.want_round(Tick(7), 0);
        world.intake.mark_round(true);
        assert_eq!(world.intake.pop(), Some(Next::Round(Tick(7))));
    }
}
