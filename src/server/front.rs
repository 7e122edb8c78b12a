//! A core that serves: connections on one side, a shard on the other. Inline it also orders.
//!
//! The tasks of one executor share it. One task borrows at a time, and none across a wait.

use super::edge::{self, Wire};
use super::fourletter::{CommitPart, FrontPart};
use super::jobs::{Jobs, Orders, Todo};
use super::process::Process;
use super::shards::Seat;
use crate::log::snapshot_file::Written;
use crate::member::Member;
use crate::placement::Inline;
use crate::rt::socket::Writer;
use crate::rt::storage::FsStorage;
use crate::rt::{Event, Ticker};
use crate::shard::{ClientAddress, Output, Shard};
use crate::tree::Tree;
use crate::types::{ConnId, DetHashMap, Now, Tick, Zxid};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// How long a connection may take to say what it wants, and to take a four-letter answer, ms.
const FIRST_BYTES_MS: u64 = 10_000;

/// What the shard works on.
pub enum Side {
    /// The tree of the core that orders, which is this one.
    Inline(Box<Inline<FsStorage>>),
    /// A tree of its own.
    Replica(Box<Seat>),
}

impl Side {
    /// The state that is shown.
    pub fn tree(&self) -> &Tree {
        match self {
            Side::Inline(inline) => &inline.member.tree,
            Side::Replica(seat) => seat.replica.tree(),
        }
    }

    /// Connections and their counters.
    pub fn shard(&self) -> &Shard {
        match self {
            Side::Inline(inline) => &inline.shard,
            Side::Replica(seat) => seat.replica.shard(),
        }
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        match self {
            Side::Inline(inline) => inline.shard.poll_dirty(),
            Side::Replica(seat) => seat.replica.poll_dirty(),
        }
    }

    fn take_output(&mut self, conn: ConnId, now: Now) -> Output {
        match self {
            Side::Inline(inline) => inline.shard.take_output(&inline.member.tree, conn, now),
            Side::Replica(seat) => seat.replica.take_output(conn, now),
        }
    }
}

/// By when it must be done, whom it ends otherwise, and whether it is done.
type Handshake = (Tick, Writer, Rc<Cell<bool>>);

/// See the module.
pub struct Front {
    /// Of the process.
    pub process: Arc<Process>,
    side: RefCell<Option<Side>>,
    wires: RefCell<DetHashMap<ConnId, Rc<Wire>>>,
    /// Connections whose output was held up, to be looked at in the next turn.
    again: RefCell<VecDeque<ConnId>>,
    /// Who must have done something by when, earliest first.
    handshakes: RefCell<VecDeque<Handshake>>,
    drains: RefCell<VecDeque<(Tick, Rc<Wire>)>>,
    due: Event,
    /// Of the inline placement.
    jobs: Option<Jobs>,
}

impl Front {
    /// Around a shard; `jobs` if it orders too.
    pub fn new(process: Arc<Process>, side: Side, jobs: Option<Jobs>) -> Rc<Front> {
        Rc::new(Front {
            process,
            side: RefCell::new(Some(side)),
            wires: RefCell::default(),
            again: RefCell::default(),
            handshakes: RefCell::default(),
            drains: RefCell::default(),
            due: Event::default(),
            jobs,
        })
    }

    /// Runs `work`; `None` once the server has stopped.
    pub fn with_side<T>(&self, work: impl FnOnce(&mut Side) -> T) -> Option<T> {
        self.side.borrow_mut().as_mut().map(work)
    }

    // ---- the edge ----

    /// The reading end of a fresh connection must come to something in time; set the flag when it
    /// has.
    pub fn expect_first_bytes(&self, writer: &Writer) -> Rc<Cell<bool>> {
        let done = Rc::new(Cell::new(false));
        let until = self.process.now().tick.after(FIRST_BYTES_MS);
        self.handshakes
            .borrow_mut()
            .push_back((until, writer.clone(), done.clone()));
        done
    }

    /// A connection that is closing has this long to take the rest.
    pub fn expect_drained(&self, wire: &Rc<Wire>) {
        let patience = self.process.config.session_timeout_max_ms.max(0) as u64;
        let until = self.process.now().tick.after(patience);
        self.drains.borrow_mut().push_back((until, wire.clone()));
    }

    /// Ends connections that have not done in time what they must.
    fn enforce_deadlines(&self, now: Tick) {
        let mut handshakes = self.handshakes.borrow_mut();
        while handshakes
            .front()
            .is_some_and(|(until, _, done)| *until <= now || done.get())
        {
            let (_, writer, done) = handshakes.pop_front().expect("just seen");
            if !done.get() {
                writer.shutdown();
            }
        }
        let mut drains = self.drains.borrow_mut();
        while drains.front().is_some_and(|(until, _)| *until <= now) {
            let (_, wire) = drains.pop_front().expect("just seen");
            if wire.draining.get() {
                wire.writer.shutdown();
            }
        }
    }

    /// A connection that speaks the client protocol; `None` if the server has stopped.
    pub fn open(&self, wire: &Rc<Wire>, peer: ClientAddress) -> Option<ConnId> {
        let now = self.process.now();
        let conn = self.with_side(|side| match side {
            Side::Inline(inline) => inline.shard.accept(peer, now),
            Side::Replica(seat) => seat.replica.accept(peer, now),
        })?;
        self.wires.borrow_mut().insert(conn, wire.clone());
        Some(conn)
    }

    /// Bytes from a client.
    pub fn receive(&self, conn: ConnId, bytes: &[u8]) {
        let now = self.process.now();
        self.with_side(|side| match side {
            Side::Inline(inline) => inline.shard.receive(&inline.member.tree, conn, bytes, now),
            Side::Replica(seat) => seat.replica.receive(conn, bytes, now),
        });
        self.due.notify();
    }

    /// Whether to read.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        let wants = |side: &mut Side| match side {
            Side::Inline(inline) => inline.shard.wants_input(conn),
            Side::Replica(seat) => seat.replica.wants_input(conn),
        };
        !self.process.is_stopping() && self.with_side(wants).unwrap_or(false)
    }

    /// The connection is gone.
    pub fn closed(&self, conn: ConnId) {
        let now = self.process.now();
        self.wires.borrow_mut().remove(&conn);
        self.with_side(|side| match side {
            Side::Inline(inline) => inline.shard.closed(conn, now),
            Side::Replica(seat) => seat.replica.closed(conn, now),
        });
        self.due.notify();
    }

    // ---- the turn ----

    /// Makes turns as long as the executor runs.
    pub async fn turns(self: Rc<Front>) {
        loop {
            self.due.wait().await;
            self.turn();
        }
    }

    /// Feeds the timers.
    pub async fn ticks(self: Rc<Front>, ticker: Ticker) {
        loop {
            ticker.tick().await;
            let now = self.process.now();
            let outcome = self.with_side(|side| match side {
                Side::Inline(inline) => inline.tick(now),
                Side::Replica(seat) => {
                    seat.replica.tick(now);
                    Ok(())
                }
            });
            self.process.check(outcome.unwrap_or(Ok(())));
            self.enforce_deadlines(now.tick);
            self.due.notify();
        }
    }

    /// One turn: everything that can move moves, then what it left to do is begun.
    pub fn turn(self: &Rc<Front>) {
        let now = self.process.now();
        let mut todo = None;
        let mut outputs = Vec::new();
        let mut resume_all = false;
        let outcome = self.with_side(|side| {
            match side {
                Side::Inline(inline) => {
                    inline.turn(now, &mut |_| {})?;
                    let jobs = self.jobs.as_ref().expect("inline");
                    todo = Some(Todo::of(&mut inline.member, jobs, now));
                }
                Side::Replica(seat) => resume_all = seat.turn(now)?,
            }
            self.collect_outputs(side, &mut outputs);
            Ok(())
        });
        self.process.check(outcome.unwrap_or(Ok(())));
        // From here on tasks may run: nothing is borrowed.
        if let Some(todo) = todo {
            todo.begin(self);
        }
        for (wire, conn, output) in outputs {
            edge::send(self, &wire, conn, output);
        }
        if resume_all {
            let wires: Vec<_> = self.wires.borrow().values().cloned().collect();
            wires.iter().for_each(|wire| wire.resume.notify());
        }
    }

    /// At most one output of each connection, and none of one that the kernel is still working at.
    fn collect_outputs(&self, side: &mut Side, outputs: &mut Vec<(Rc<Wire>, ConnId, Output)>) {
        let now = self.process.now();
        let wires = &mut *self.wires.borrow_mut();
        let mut again = std::mem::take(&mut *self.again.borrow_mut());
        while let Some(conn) = again.pop_front().or_else(|| side.poll_dirty()) {
            let Some(wire) = wires.get(&conn) else {
                continue;
            };
            let discarded = side.shard().is_discarded(conn);
            if wire.draining.get() && !discarded {
                // Looked at again when it has drained.
                wire.held_up.set(true);
                continue;
            }
            let output = side.take_output(conn, now);
            if output.bytes.is_empty() && !output.close {
                wire.resume.notify();
                continue;
            }
            wire.draining.set(true);
            let wire = if output.close {
                wires.remove(&conn).expect("just seen")
            } else {
                wire.clone()
            };
            outputs.push((wire, conn, output));
        }
    }

    /// The kernel has taken what it was given of a connection.
    pub fn drained(&self, wire: &Wire, conn: ConnId) {
        wire.draining.set(false);
        if wire.held_up.take() {
            self.again.borrow_mut().push_back(conn);
            self.due.notify();
        }
    }

    // ---- what is shown of it ----

    /// This core's part of the four-letter words.
    pub fn part(&self) -> Option<FrontPart> {
        self.with_side(|side| FrontPart::of(side.shard()))
    }

    /// The part of the core that orders, if it is this one.
    pub fn commit_part(&self) -> Option<CommitPart> {
        self.with_side(|side| match side {
            Side::Inline(inline) => Some(CommitPart::of(&inline.member)),
            Side::Replica(_) => None,
        })?
    }

    /// Clients can connect from now on (inline).
    pub fn begin_serving(&self) {
        let now = self.process.now();
        self.with(|member| member.pipeline.begin_serving(now));
        self.due.notify();
    }

    /// Something that was taken has no outcome yet (inline).
    pub fn is_busy(&self) -> bool {
        self.with(|member| !member.pipeline.is_idle())
            .unwrap_or(false)
    }

    /// Asks for a turn.
    pub fn due_now(&self) {
        self.due.notify();
    }

    /// Waits until the sync that is under way has ended (inline).
    pub async fn syncs_ended(&self) {
        self.jobs().synced().await;
    }

    /// Takes the side out: the end.
    pub fn take(&self) -> Option<Side> {
        self.side.borrow_mut().take()
    }
}

impl Orders for Front {
    fn with<T>(&self, work: impl FnOnce(&mut Member<FsStorage>) -> T) -> Option<T> {
        self.with_side(|side| match side {
            Side::Inline(inline) => Some(work(&mut inline.member)),
            Side::Replica(_) => None,
        })?
    }

    fn snapshot_made(&self, made: Option<&Written>, unneeded: Option<Zxid>) -> Vec<String> {
        self.with(|member| member.snapshot_made(made, unneeded))
            .unwrap_or_default()
    }

    fn due(&self) -> &Event {
        &self.due
    }

    fn jobs(&self) -> &Jobs {
        self.jobs.as_ref().expect("inline")
    }
}
