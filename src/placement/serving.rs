//! One core that serves clients: the turn that server and simulator both drive.
//!
//! A turn, in this order:
//!
//! 1. what is committed is applied;
//! 2. timers;
//! 3. clients, each within its slice, all of them within the turn's budget ([`Budgets`]): new
//!    connections, then whoever stands in the queues of `intake`;
//! 4. what they asked for is handed to whoever orders;
//! 5. output goes to the kernel: of each connection what is little, and then, of those who have much, in
//!    turn, as much as the turn's budget allows. To hand a megabyte over takes the kernel most of a
//!    millisecond, for which everybody else would wait.
//!
//! Applying and ordering have budgets of their own, counted in steps: an operation of a transaction, 512
//! bytes of its data, a path of a closeSession, an event that is handed out, an entry or an identity that is
//! compared for events, some names on the way to a deep quota. What is committed and not applied is not seen yet.
//!
//! Completions of the disk and of background work come before a turn: the driver feeds them to the
//! member. The kernel keeps a client's bytes until it is that client's turn: nothing is read that has
//! no room.
//!
//! A socket goes through these stages, and every way in which it can end passes
//! [`ServingCore::release`]:
//!
//! | Stage | Entered | Ends with |
//! |---|---|---|
//! | first bytes | accepted | four bytes that say what it is; the deadline; the other end |
//! | client | the bytes are a frame's length | the shard ends the connection; the other end closes; the kernel reports an error |
//! | closing | the shard has ended the connection with bytes left | the kernel has taken them; the deadline; an error |
//! | (handed over) | the bytes are a four-letter word | whoever answers it |

use super::intake::{Budgets, Intake, LOOKS_OF_AN_END, Look, Next, Queues, Standing};
use super::outlet::{Outlet, OutletAction, OutletEvent};
use super::served::Served;
use super::sockets::{Accepted, Read, SocketId, Sockets, Wrote};
use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::messages::ToShards;
use crate::pipeline::Fatal;
use crate::proto::first_bytes::{FirstBytes, first_bytes};
use crate::shard::ClientAddress;
use crate::types::{ConnId, DetHashMap, Now, Tick};
use std::collections::VecDeque;

/// How long a connection may take to say what it wants, ms.
const FIRST_BYTES_MS: u64 = 10_000;
/// Generations fit 24 bits: a driver packs slot and generation into one word of the kernel interface.
const GENERATION_MAX: u32 = 0xff_ffff;
/// Slow readers that are asked for in one turn.
const ASKS_PER_TURN: usize = 64;
/// Bytes that are read from a connection before it has said what it is.
const FIRST_READ: usize = 512;

#[derive(Debug)]
enum Stage {
    /// Fewer than four bytes so far.
    First(Vec<u8>, ClientAddress),
    Client(ConnId),
    Closing(ConnId),
}

impl Stage {
    /// The shard's connection.
    fn conn(&self) -> Option<ConnId> {
        match *self {
            Stage::First(..) => None,
            Stage::Client(conn) | Stage::Closing(conn) => Some(conn),
        }
    }
}

/// One socket.
#[derive(Debug)]
struct Record {
    stage: Stage,
    outlet: Outlet,
    /// The kernel may have bytes, or the end.
    readable: bool,
    /// The other end has closed its direction: after the bytes comes the end.
    ended: bool,
    /// Whose turn it is.
    standing: Standing,
    /// The shard has more output than the outlet could take.
    more_output: bool,
    /// In the list of those whose kernel holds all that it can.
    slow: bool,
    /// In the queue of those who have much output.
    large: bool,
    /// The deadline of its first bytes has passed: the next look at it is the last.
    overdue: bool,
}

/// Slots of sockets.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<(u32, Option<Record>)>,
    free: Vec<u32>,
}

impl Table {
    /// The id that the next socket gets.
    fn next_id(&self) -> SocketId {
        match self.free.last() {
            Some(&slot) => SocketId {
                slot,
                generation: self.slots[slot as usize].0,
            },
            None => SocketId {
                slot: self.slots.len() as u32,
                generation: 0,
            },
        }
    }

    fn insert(&mut self, record: Record) -> SocketId {
        let id = self.next_id();
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize].1 = Some(record),
            None => self.slots.push((0, Some(record))),
        }
        id
    }

    fn get(&self, id: SocketId) -> Option<&Record> {
        let (generation, record) = self.slots.get(id.slot as usize)?;
        record.as_ref().filter(|_| *generation == id.generation)
    }

    fn get_mut(&mut self, id: SocketId) -> Option<&mut Record> {
        let (generation, record) = self.slots.get_mut(id.slot as usize)?;
        record.as_mut().filter(|_| *generation == id.generation)
    }

    fn remove(&mut self, id: SocketId) -> Option<Record> {
        let (generation, record) = self.slots.get_mut(id.slot as usize)?;
        if *generation != id.generation {
            return None;
        }
        let record = record.take()?;
        *generation = (*generation + 1) & GENERATION_MAX;
        self.free.push(id.slot);
        Some(record)
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Every socket, in order of slot.
    fn all(&self) -> impl Iterator<Item = &Record> {
        self.slots.iter().filter_map(|(_, record)| record.as_ref())
    }
}

/// What the sockets of a core hold together, beside what the shard holds for their connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Open sockets.
    pub sockets: usize,
    /// Connections of the shard that have a socket.
    pub connections: usize,
    /// Their kernel holds all that it can.
    pub slow: usize,
    /// They wait for their turn with much output.
    pub large: usize,
    /// They stand in a queue of the intake.
    pub queues: Queues,
}

/// What a turn leaves to its driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turned {
    /// There is more to do at once: make another turn before waiting.
    pub again: bool,
    /// Something was executed for a client that waits for no write: it would wait for a sync.
    pub served_others: bool,
    /// Requests were handed up: the ordering core should look.
    pub wake_ordering: bool,
}

/// A core that serves; see the table of the module for the life of its sockets.
pub struct ServingCore<S: Storage> {
    /// The shard and its tree.
    pub served: Served<S>,
    budgets: Budgets,
    table: Table,
    by_conn: DetHashMap<ConnId, SocketId>,
    intake: Intake,
    /// Sockets that can be written again, or whose shard had more output than they could take.
    writable: VecDeque<SocketId>,
    /// Sockets with more output than goes at once, each once: they take turns.
    large: VecDeque<SocketId>,
    /// Sockets whose kernel did not take everything, each once, and what it held when it was last
    /// asked, bytes.
    slow: VecDeque<(SocketId, usize)>,
    /// How many of them are to be asked in this round.
    asks_due: usize,
    /// By when a socket must have said what it is.
    first_bytes: VecDeque<(Tick, SocketId)>,
    /// By when a closing socket must have taken the rest.
    closings: VecDeque<(Tick, SocketId)>,
    closing_ms: u64,
    /// The listening socket may have connections.
    listener_ready: bool,
    /// Somebody waits at the listening socket for whom no descriptor or memory is left.
    exhausted: bool,
    /// When the turn before this one began: whatever came before is known to the kernel's report.
    last_turn: Tick,
    stopping: bool,
    buffer: Vec<u8>,
    /// An empty buffer for the output of the next connection whose output is taken.
    spare: Vec<u8>,
    /// Requests executed up to the last turn for clients that waited for no write.
    others: u64,
}

impl<S: Storage> ServingCore<S> {
    /// `closing_ms`: how long a connection that is closing may take for its last bytes.
    pub fn new(served: Served<S>, budgets: Budgets, closing_ms: u64, now: Now) -> ServingCore<S> {
        ServingCore {
            served,
            table: Table::default(),
            by_conn: DetHashMap::default(),
            intake: Intake::default(),
            writable: VecDeque::new(),
            large: VecDeque::new(),
            slow: VecDeque::new(),
            asks_due: 0,
            first_bytes: VecDeque::new(),
            closings: VecDeque::new(),
            closing_ms,
            listener_ready: false,
            exhausted: false,
            last_turn: now.tick,
            stopping: false,
            others: 0,
            spare: Vec::new(),
            buffer: vec![0; budgets.read_max.max(FIRST_READ)],
            budgets,
        }
    }

    // ---- what the driver reports ----

    /// The listening socket may have connections.
    pub fn listener_ready(&mut self) {
        self.listener_ready = true;
    }

    /// A connection that was accepted, here or by somebody else.
    pub fn adopt(&mut self, address: ClientAddress, now: Now) -> SocketId {
        let id = self.table.insert(Record {
            stage: Stage::First(Vec::new(), address),
            outlet: Outlet::default(),
            readable: true,
            ended: false,
            standing: Standing::default(),
            more_output: false,
            slow: false,
            large: false,
            overdue: false,
        });
        self.ask(id);
        self.intake.accepted();
        let until = now.tick.after(FIRST_BYTES_MS);
        self.first_bytes.push_back((until, id));
        id
    }

    /// What the kernel says of a socket; late news of one that is gone are nothing.
    pub fn socket_event(&mut self, id: SocketId, readable: bool, writable: bool, ended: bool) {
        let Some(record) = self.table.get_mut(id) else {
            return;
        };
        record.ended |= ended;
        if readable || ended {
            record.readable = true;
            self.intake.ask(id, &mut record.standing);
        }
        if (writable || ended) && !record.outlet.is_idle() {
            self.writable.push_back(id);
        }
    }

    /// No more input is taken from now on.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.served.stop();
    }

    /// Whether every request that was taken has been handed to whoever orders.
    pub fn has_handed_up(&self) -> bool {
        self.stopping && self.served.has_handed_up()
    }

    /// Open sockets.
    pub fn sockets(&self) -> usize {
        self.table.len()
    }

    /// What the sockets hold, as it is kept step by step.
    pub fn counted(&self) -> Places {
        let is_open = |id| self.table.get(id).is_some();
        let slow = self.slow.iter().filter(|(id, _)| is_open(*id));
        let large = self.large.iter().filter(|id| is_open(**id));
        Places {
            sockets: self.table.len(),
            connections: self.by_conn.len(),
            slow: slow.count(),
            large: large.count(),
            queues: self.intake.counted(is_open),
        }
    }

    /// The same, from what each socket is now. Where the two differ after a turn, something that a socket held was
    /// given back twice, or never.
    pub fn recounted(&self) -> Places {
        let mut sum = Places::default();
        for record in self.table.all() {
            sum.sockets += 1;
            sum.connections += usize::from(record.stage.conn().is_some());
            sum.slow += usize::from(record.slow);
            sum.large += usize::from(record.large);
            sum.queues.recount(&record.standing);
        }
        sum
    }

    /// Connections of the shard that have no socket any more: there are none.
    pub fn lost_connections(&self) -> usize {
        let shard = self.served.shard();
        shard.held() - self.by_conn.keys().filter(|conn| shard.has(**conn)).count()
    }

    /// Whether more output than goes at once waits for its turn.
    pub fn has_large_output(&self) -> bool {
        !self.large.is_empty()
    }

    // ---- the turn ----

    /// Whether a turn would do anything; if not, the driver may wait for the kernel.
    pub fn has_work(&mut self) -> bool {
        let clients = !self.intake.is_empty() || self.listener_ready;
        self.served.has_mail()
            || !self.writable.is_empty()
            || self.has_large_output()
            || (clients && !self.stopping && self.served.may_execute())
    }

    /// One turn. `tick`: timers are due. `observe` sees what is applied inline, in order.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn turn(
        &mut self,
        tick: bool,
        now: Now,
        sockets: &mut impl Sockets,
        observe: &mut impl FnMut(&ToShards),
    ) -> Result<Turned, Fatal> {
        let mut turned = Turned::default();
        let (mut apply, mut order) = (self.budgets.apply, self.budgets.order);
        self.served.apply(&mut apply, now, observe)?;
        if tick {
            self.served.tick(now)?;
            self.enforce_deadlines(now, sockets);
        }
        if self.served.shard().round_is_due(now) && sockets.has_told_all() {
            let waiting = sockets.waiting_max() + sockets.handed_over();
            self.intake.want_round(self.last_turn, waiting);
        }
        self.last_turn = now.tick;
        self.clients(now, sockets);
        turned.again |= self.ask_slow_readers(sockets);
        turned.again |= self.served.reap(&mut self.budgets.reap.clone());
        turned.wake_ordering = self.served.hand_up(&mut order, &mut apply, now, observe)?;
        self.outputs(now, sockets);
        self.large_outputs(now, sockets);
        self.queue_ready();
        turned.again |= self.has_work();
        let others = self.served.shard().served_others();
        turned.served_others = others != std::mem::replace(&mut self.others, others);
        Ok(turned)
    }

    /// What a sync that ran on this core made durable is applied and answered, with no look at the
    /// sockets in between.
    ///
    /// # Errors
    /// As [`ServingCore::turn`].
    pub fn answer(
        &mut self,
        now: Now,
        sockets: &mut impl Sockets,
        observe: &mut impl FnMut(&ToShards),
    ) -> Result<(), Fatal> {
        let mut apply = self.budgets.apply;
        self.served.apply(&mut apply, now, observe)?;
        self.outputs(now, sockets);
        self.queue_ready();
        Ok(())
    }

    /// Something of another core, or of the member, waits for a turn.
    pub fn has_mail(&self) -> bool {
        self.served.has_mail()
    }

    /// Connections that can go on take their places.
    fn queue_ready(&mut self) {
        while let Some(conn) = self.served.poll_ready() {
            if let Some(&id) = self.by_conn.get(&conn) {
                self.ask(id);
            }
        }
    }

    /// A socket has something to do.
    fn ask(&mut self, id: SocketId) {
        if let Some(record) = self.table.get_mut(id) {
            self.intake.ask(id, &mut record.standing);
        }
    }

    fn clients(&mut self, now: Now, sockets: &mut impl Sockets) {
        if self.stopping {
            return;
        }
        self.accept(now, sockets);
        self.queue_ready();
        let (mut turn, mut looks) = (self.budgets.turn, self.budgets.looks);
        while looks > 0 && !turn.is_spent() && self.served.may_execute() {
            match self.intake.pop() {
                None => break,
                Some(Next::Round(watermark)) => {
                    let mut slice = self.budgets.slice;
                    match self
                        .served
                        .report(watermark, !self.exhausted, &mut slice, now)
                    {
                        true => self.asks_due = self.slow.len(),
                        false => self.intake.go_on_with_round(watermark),
                    }
                    turn.spend_part(self.budgets.slice, slice);
                }
                Some(Next::Socket(id)) => {
                    // A look costs something too, whatever it brings.
                    turn.spend_steps(1);
                    self.look(id, &mut turn, now, sockets);
                    looks = looks.saturating_sub(match self.table.get(id) {
                        Some(_) => 1,
                        None => LOOKS_OF_AN_END,
                    });
                }
            }
        }
    }

    /// Looks at a connection whose turn it is.
    fn look(&mut self, id: SocketId, turn: &mut Budget, now: Now, sockets: &mut impl Sockets) {
        let slice = self.budgets.slice;
        let Some(record) = self.table.get_mut(id) else {
            return;
        };
        match self.intake.look(&mut record.standing, slice) {
            Look::Serve(allowed) => {
                let mut left = allowed;
                self.visit(id, &mut left, now, sockets);
                turn.spend_part(allowed, left);
                self.queue_ready();
                let Some(record) = self.table.get_mut(id) else {
                    return;
                };
                record.standing.served(left, slice);
            }
            Look::Pays => {
                if let (Stage::Client(conn), true) = (&record.stage, record.readable) {
                    self.served.heard(*conn);
                }
            }
            Look::Rests => {}
        }
        if let Some(record) = self.table.get_mut(id) {
            self.intake.looked(id, &mut record.standing);
        }
    }

    fn accept(&mut self, now: Now, sockets: &mut impl Sockets) {
        for _ in 0..self.budgets.accepts {
            if !self.listener_ready {
                break;
            }
            match sockets.accept(self.table.next_id()) {
                Accepted::Connection(address) => {
                    self.adopt(address, now);
                }
                Accepted::Dropped => self.intake.accepted(),
                accepted @ (Accepted::Nobody | Accepted::Exhausted) => {
                    self.listener_ready = false;
                    self.exhausted = accepted == Accepted::Exhausted;
                }
            }
        }
        let nobody_waits = !self.listener_ready && sockets.handed_over() == 0;
        self.intake.mark_round(nobody_waits);
    }

    /// One connection's slice: what it had left over, then one read.
    fn visit(&mut self, id: SocketId, slice: &mut Budget, now: Now, sockets: &mut impl Sockets) {
        let Some(record) = self.table.get_mut(id) else {
            return;
        };
        match record.stage {
            Stage::First(..) => self.read_first(id, slice, now, sockets),
            Stage::Client(conn) => {
                self.served.advance(conn, slice, now);
                if !slice.is_spent() {
                    self.read(id, conn, slice, now, sockets);
                } else if record.readable {
                    self.served.heard(conn);
                }
                let Some(record) = self.table.get_mut(id) else {
                    return;
                };
                record.standing.lacks(self.served.shard().lacks(conn));
                if record.readable {
                    // Nobody comes back to bytes for which there is no room now before there is some.
                    if self.served.shard().may_read(conn) > 0 {
                        self.intake.ask(id, &mut record.standing);
                    }
                    self.served.heard(conn);
                }
            }
            // Only the last bytes matter; an error shows when they are written.
            Stage::Closing(_) => {}
        }
    }

    fn read(
        &mut self,
        id: SocketId,
        conn: ConnId,
        slice: &mut Budget,
        now: Now,
        sockets: &mut impl Sockets,
    ) {
        let Some(record) = self.table.get_mut(id).filter(|record| record.readable) else {
            return;
        };
        let room = self.served.shard().may_read(conn);
        if room == 0 {
            self.served.heard(conn);
            return;
        }
        let most = self.budgets.read_max;
        let room = room.min(self.intake.read_max(&record.standing, most));
        let read = sockets.read(id, &mut self.buffer[..room]);
        record.readable = match read {
            Read::More(_) => true,
            Read::All(_) | Read::Nothing => record.ended,
            Read::End => false,
        };
        match read {
            Read::More(n) | Read::All(n) => {
                let buffer = std::mem::take(&mut self.buffer);
                self.receive(conn, &buffer[..n], slice, now);
                self.buffer = buffer;
                slice.spend_bytes(n);
            }
            Read::Nothing if record.ended => self.release(id, now, sockets),
            Read::Nothing => self.served.nothing_waits(conn),
            Read::End => self.release(id, now, sockets),
        }
    }

    /// Bytes that were just read. They are executed later if other cores have shown something newer
    /// since the queue was looked at.
    fn receive(&mut self, conn: ConnId, bytes: &[u8], slice: &mut Budget, now: Now) {
        if self.served.may_execute() {
            self.served.receive(conn, bytes, slice, now);
        } else {
            let mut nothing = Budget::new(0, 0, 0);
            self.served.receive(conn, bytes, &mut nothing, now);
        }
    }

    fn read_first(
        &mut self,
        id: SocketId,
        slice: &mut Budget,
        now: Now,
        sockets: &mut impl Sockets,
    ) {
        let read = sockets.read(id, &mut self.buffer[..FIRST_READ]);
        let (Read::More(n) | Read::All(n)) = read else {
            let record = self.table.get_mut(id).expect("just visited");
            record.readable = false;
            if read == Read::End || record.ended || record.overdue {
                self.release(id, now, sockets);
            }
            return;
        };
        let record = self.table.get_mut(id).expect("just visited");
        record.readable = record.ended || matches!(read, Read::More(_));
        let Stage::First(bytes, address) = &mut record.stage else {
            return;
        };
        bytes.extend_from_slice(&self.buffer[..n]);
        match first_bytes(bytes) {
            FirstBytes::NeedMore if record.overdue => self.release(id, now, sockets),
            FirstBytes::NeedMore if record.readable => self.ask(id),
            FirstBytes::NeedMore => {}
            FirstBytes::FourLetter(word) => {
                let behind = bytes.split_off(word.len());
                self.table.remove(id);
                sockets.word(id, word, &behind);
            }
            FirstBytes::Frame => {
                let bytes = std::mem::take(bytes);
                let conn = self.served.accept(address.clone(), now);
                record.stage = Stage::Client(conn);
                if record.readable {
                    self.intake.ask(id, &mut record.standing);
                }
                self.by_conn.insert(conn, id);
                self.receive(conn, &bytes, slice, now);
            }
        }
    }

    /// The end of a socket, whatever the reason: the one place that gives back what it held.
    fn release(&mut self, id: SocketId, now: Now, sockets: &mut impl Sockets) {
        if let Some(record) = self.table.remove(id) {
            if let Some(conn) = record.stage.conn() {
                self.by_conn.remove(&conn);
                self.served.closed(conn, now);
            }
            sockets.close(id);
        }
    }

    fn enforce_deadlines(&mut self, now: Now, sockets: &mut impl Sockets) {
        while let Some(&(until, id)) = self.first_bytes.front()
            && until <= now.tick
        {
            self.first_bytes.pop_front();
            if let Some(record) = self.table.get_mut(id)
                && matches!(record.stage, Stage::First(..))
            {
                // What came while the process stood still lies in the socket: one more look.
                (record.overdue, record.readable) = (true, true);
                self.intake.ask(id, &mut record.standing);
            }
        }
        while let Some(&(until, id)) = self.closings.front()
            && until <= now.tick
        {
            self.closings.pop_front();
            // The other end may have taken bytes while the process stood still: one more try.
            self.write_up_to(id, usize::MAX, now, sockets);
            self.drive(id, OutletEvent::Overdue, now, sockets);
        }
    }

    // ---- output ----

    fn outputs(&mut self, now: Now, sockets: &mut impl Sockets) {
        for _ in 0..self.writable.len() {
            let id = self.writable.pop_front().expect("counted");
            let Some(record) = self.table.get_mut(id) else {
                continue;
            };
            if record.outlet.is_idle() {
                self.fetch(id, now, sockets);
            } else {
                self.write(id, now, sockets);
            }
        }
        while let Some(conn) = self.served.poll_dirty() {
            if let Some(&id) = self.by_conn.get(&conn) {
                self.fetch(id, now, sockets);
            }
        }
    }

    /// Those who have much output, in turn, within the turn's budget.
    fn large_outputs(&mut self, now: Now, sockets: &mut impl Sockets) {
        let mut left = self.budgets.output;
        for _ in 0..self.large.len() {
            if left == 0 {
                break;
            }
            let id = self.large.pop_front().expect("counted");
            if let Some(record) = self.table.get_mut(id) {
                record.large = false;
                left -= self.write_up_to(id, left, now, sockets);
            }
        }
    }

    /// Takes what the shard has for a connection, unless the kernel has not taken the last of it.
    fn fetch(&mut self, id: SocketId, now: Now, sockets: &mut impl Sockets) {
        let Some(record) = self.table.get_mut(id) else {
            return;
        };
        let Some(conn) = record.stage.conn() else {
            return;
        };
        record.more_output = false;
        if self.served.shard().is_discarded(conn) {
            self.drive(id, OutletEvent::Discard, now, sockets);
            return;
        }
        if !record.outlet.is_idle() {
            record.more_output = true;
            return;
        }
        let spare = std::mem::take(&mut self.spare);
        let output = self.served.fetch_output(conn, spare, now);
        if output.close {
            record.stage = Stage::Closing(conn);
            let until = now.tick.after(self.closing_ms);
            self.drive(id, OutletEvent::OfferLast(output.bytes), now, sockets);
            if self.table.get_mut(id).is_some() {
                self.closings.push_back((until, id));
            }
        } else if !output.bytes.is_empty() {
            self.drive(id, OutletEvent::Offer(output.bytes), now, sockets);
        }
    }

    /// Once in each round, whether those whose kernel can hold no more take anything of it: a kernel
    /// with megabytes of room reports that it can take more only when a third of that has left. True
    /// if more are to be asked.
    fn ask_slow_readers(&mut self, sockets: &mut impl Sockets) -> bool {
        for _ in 0..self.asks_due.min(ASKS_PER_TURN) {
            self.asks_due -= 1;
            let Some((id, before)) = self.slow.pop_front() else {
                break;
            };
            let Some(record) = self.table.get_mut(id) else {
                continue;
            };
            if record.outlet.is_idle() {
                record.slow = false;
                continue;
            }
            let held = sockets.unacknowledged(id);
            if let (true, Some(conn)) = (held != before, record.stage.conn()) {
                self.served.progressed(conn, before.saturating_sub(held));
            }
            self.slow.push_back((id, held));
        }
        self.asks_due > 0
    }

    /// One event of an outlet, and what follows from it.
    fn drive(&mut self, id: SocketId, event: OutletEvent, now: Now, sockets: &mut impl Sockets) {
        let Some(record) = self.table.get_mut(id) else {
            return;
        };
        match record.outlet.step(event) {
            OutletAction::Nothing => {}
            OutletAction::Wait => {
                if !std::mem::replace(&mut record.slow, true) {
                    self.slow.push_back((id, 0));
                }
            }
            OutletAction::Write => self.write(id, now, sockets),
            OutletAction::GoOn => self.wait_for_turn(id),
            OutletAction::Fetch => {
                self.spare = record.outlet.take_spare();
                if std::mem::take(&mut record.more_output) {
                    self.writable.push_back(id);
                }
            }
            OutletAction::Close => {
                self.look_once_more(id, sockets);
                self.release(id, now, sockets);
            }
        }
    }

    /// What lies in a socket that is about to be closed, and was not looked at, is a sign of life all the same: the
    /// watermark will say that everything up to now is known.
    fn look_once_more(&mut self, id: SocketId, sockets: &mut impl Sockets) {
        let record = self.table.get_mut(id);
        if let Some(conn) = record.and_then(|record| record.stage.conn())
            && self.served.shard().lives_by_its_bytes(conn)
            && let Read::More(_) | Read::All(_) = sockets.read(id, &mut self.buffer[..1])
        {
            self.served.heard(conn);
        }
    }

    /// Hands what an outlet holds to the kernel, at once or in its turn.
    fn write(&mut self, id: SocketId, now: Now, sockets: &mut impl Sockets) {
        let Some(record) = self.table.get_mut(id) else {
            return;
        };
        if record.outlet.rest().len() <= self.budgets.output_at_once {
            self.write_up_to(id, usize::MAX, now, sockets);
        } else {
            self.wait_for_turn(id);
        }
    }

    /// A connection with much output has its turn behind the others.
    fn wait_for_turn(&mut self, id: SocketId) {
        if let Some(record) = self.table.get_mut(id)
            && !std::mem::replace(&mut record.large, true)
        {
            self.large.push_back(id);
        }
    }

    /// Hands at most `most` bytes of what an outlet holds to the kernel; how many it took.
    fn write_up_to(
        &mut self,
        id: SocketId,
        most: usize,
        now: Now,
        sockets: &mut impl Sockets,
    ) -> usize {
        let Some(record) = self.table.get_mut(id) else {
            return 0;
        };
        let rest = record.outlet.rest();
        if rest.is_empty() {
            return 0;
        }
        let offered = rest.len().min(most);
        let is_piece = offered < rest.len();
        let (taken, event) = match sockets.write(id, &rest[..offered]) {
            Wrote::Bytes(n) if n == offered && is_piece => (n, OutletEvent::WrotePiece(n)),
            Wrote::Bytes(n) => (n, OutletEvent::Wrote(n)),
            Wrote::Nothing => (0, OutletEvent::Refused),
            Wrote::Gone => (0, OutletEvent::Gone),
        };
        if let (1.., Some(conn)) = (taken, record.stage.conn()) {
            self.served.sent(conn, taken);
        }
        self.drive(id, event, now, sockets);
        taken
    }
}
