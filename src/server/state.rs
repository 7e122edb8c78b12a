//! What the tasks of the executor share. One task borrows it at a time, and none across a wait.

use super::edge::{self, Wire};
use crate::config::Config;
use crate::inline::{Inline, Summary};
use crate::log::SyncTicket;
use crate::pipeline::Fatal;
use crate::rt::clock::Clock;
use crate::rt::storage::{FsFile, FsStorage, Syncer};
use crate::rt::threads::Helper;
use crate::rt::{self, Event};
use crate::shard::Peer;
use crate::snap::{self, SnapError};
use crate::types::{ConnId, DetHashMap, Now, Zxid};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

/// See the module.
pub struct Shared {
    /// What the operator chose.
    pub config: Config,
    /// What start-up found.
    pub summary: Summary,
    /// Snapshots.
    pub data: FsStorage,
    /// Log segments.
    pub log: FsStorage,
    pub(super) inline: RefCell<Option<Inline<FsStorage>>>,
    wires: RefCell<DetHashMap<ConnId, Rc<Wire>>>,
    per_address: RefCell<BTreeMap<IpAddr, u32>>,
    clock: Clock,
    due: Event,
    stopping: Cell<bool>,
    helper: Helper,
    syncer: RefCell<Option<Syncer>>,
    on_fatal: fn(&Fatal) -> !,
    /// Packets of four-letter words, which count as received.
    pub(super) words: Cell<u64>,
}

/// What a turn leaves to do once nothing is borrowed any more.
#[derive(Default)]
struct Todo {
    sync: Option<SyncTicket<FsFile>>,
    spare: Option<crate::log::SpareOrder>,
    snapshot: Option<Zxid>,
    outputs: Vec<(Rc<Wire>, ConnId, Vec<u8>, bool)>,
}

impl Shared {
    /// Around a member that has just started. `on_fatal` ends the process.
    ///
    /// # Errors
    /// The helper thread can't start.
    pub fn new(
        config: Config,
        member: (Inline<FsStorage>, Summary),
        (data, log): (FsStorage, FsStorage),
        clock: Clock,
        on_fatal: fn(&Fatal) -> !,
    ) -> io::Result<Rc<Shared>> {
        let (inline, summary) = member;
        Ok(Rc::new(Shared {
            config,
            summary,
            data,
            log,
            inline: RefCell::new(Some(inline)),
            wires: RefCell::default(),
            per_address: RefCell::default(),
            clock,
            due: Event::default(),
            stopping: Cell::new(false),
            helper: Helper::start("helper")?,
            syncer: RefCell::new(Some(Syncer::default())),
            on_fatal,
            words: Cell::new(0),
        }))
    }

    /// All clocks.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inline<FsStorage>) -> T) -> Option<T> {
        self.inline.borrow_mut().as_mut().map(work)
    }

    fn check(&self, outcome: Option<Result<(), Fatal>>) {
        if let Some(Err(fatal)) = outcome {
            (self.on_fatal)(&fatal);
        }
    }

    // ---- the edge ----

    /// Whether one more connection of this address is within its limit; counts it if so.
    pub fn admit(&self, ip: IpAddr) -> bool {
        let max = self.config.max_client_connections;
        let mut open = self.per_address.borrow_mut();
        let count = open.entry(ip).or_default();
        let admitted = max == 0 || *count < max;
        *count += u32::from(admitted);
        admitted
    }

    /// A counted connection has ended.
    pub fn leave(&self, ip: IpAddr) {
        let mut open = self.per_address.borrow_mut();
        if let Some(count) = open.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&ip);
            }
        }
    }

    /// Connections, four-letter words included.
    pub fn connections(&self) -> u32 {
        self.per_address.borrow().values().sum()
    }

    /// A connection that speaks the client protocol.
    pub fn open(&self, wire: &Rc<Wire>, peer: Peer) -> ConnId {
        let now = self.now();
        let conn = self
            .with(|inline| inline.shard.accept(peer, now))
            .unwrap_or(ConnId {
                slot: u32::MAX,
                generation: 0,
            });
        self.wires.borrow_mut().insert(conn, wire.clone());
        conn
    }

    /// Bytes from a client.
    pub fn receive(&self, conn: ConnId, bytes: &[u8]) {
        let now = self.now();
        self.with(|inline| inline.shard.receive(&inline.tree, conn, bytes, now));
        self.due.notify();
    }

    /// Whether to read.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        !self.stopping.get()
            && self
                .with(|inline| inline.shard.wants_input(conn))
                .unwrap_or(false)
    }

    /// The connection is gone.
    pub fn closed(&self, conn: ConnId) {
        let now = self.now();
        self.wires.borrow_mut().remove(&conn);
        self.with(|inline| inline.shard.closed(conn, now));
        self.due.notify();
    }

    // ---- the turn ----

    /// Makes turns as long as the executor runs.
    pub async fn turns(self: Rc<Shared>) {
        loop {
            self.due.wait().await;
            self.turn();
        }
    }

    /// Feeds the timers.
    pub async fn ticks(self: Rc<Shared>) {
        let every = (self.config.tick_time_ms / 4).clamp(5, 50);
        loop {
            rt::sleep(std::time::Duration::from_millis(every)).await;
            let now = self.now();
            self.check(self.with(|inline| inline.tick(now)));
            self.due.notify();
        }
    }

    /// One turn: everything that can move moves, then what it left to do is begun.
    pub fn turn(self: &Rc<Shared>) {
        let now = self.now();
        let mut todo = Todo::default();
        self.check(self.with(|inline| {
            inline.turn(now, &mut |_, _| {})?;
            todo.sync = inline.pipeline.poll_sync();
            todo.spare = inline.pipeline.poll_spare();
            todo.snapshot = inline.poll_snapshot();
            self.collect_outputs(inline, &mut todo);
            Ok(())
        }));
        // From here on tasks may run: nothing is borrowed.
        if let Some(ticket) = todo.sync {
            rt::spawn(self.clone().sync(ticket));
        }
        for (wire, conn, bytes, close) in todo.outputs {
            let shared = self.clone();
            edge::send(&wire, bytes, close, move || shared.drained(conn));
        }
        if let Some(order) = todo.spare {
            rt::spawn(self.clone().make_spare(order));
        }
        if let Some(zxid) = todo.snapshot {
            rt::spawn(self.clone().make_snapshot(zxid));
        }
    }

    fn collect_outputs(&self, inline: &mut Inline<FsStorage>, todo: &mut Todo) {
        let now = self.now();
        let mut wires = self.wires.borrow_mut();
        while let Some(conn) = inline.shard.poll_dirty() {
            let Some(wire) = wires.get(&conn) else {
                continue;
            };
            if wire.draining.get() {
                continue; // taken when it has drained
            }
            let output = inline.shard.take_output(&inline.tree, conn, now);
            let wire = if output.close {
                wires.remove(&conn).expect("just seen")
            } else {
                wire.clone()
            };
            if output.bytes.is_empty() && !output.close {
                wire.resume.notify();
            } else {
                todo.outputs.push((wire, conn, output.bytes, output.close));
            }
        }
    }

    /// The kernel has taken what was held; there may be more.
    fn drained(self: &Rc<Shared>, conn: ConnId) {
        let now = self.now();
        let output = self.with(|inline| inline.shard.take_output(&inline.tree, conn, now));
        let wire = self.wires.borrow().get(&conn).cloned();
        if let (Some(output), Some(wire)) = (output, wire) {
            if output.close {
                self.wires.borrow_mut().remove(&conn);
            }
            let shared = self.clone();
            edge::send(&wire, output.bytes, output.close, move || {
                shared.drained(conn)
            });
        }
        self.due.notify();
    }

    // ---- completions ----

    async fn sync(self: Rc<Shared>, ticket: SyncTicket<FsFile>) {
        let mut syncer = self.syncer.take().expect("one ticket at a time");
        let mut result = Ok(());
        for file in ticket.files() {
            result = result.and(syncer.sync(file).await);
        }
        self.syncer.replace(Some(syncer));
        let now = self.now();
        self.check(self.with(|inline| inline.synced(ticket.done(result), now)));
        self.due.notify();
    }

    async fn make_spare(self: Rc<Shared>, order: crate::log::SpareOrder) {
        let storage = self.log.clone();
        let made = self.helper.run(move || order.fulfil(&storage)).await;
        let now = self.now();
        self.check(self.with(|inline| inline.spare_made(made, now)));
        self.due.notify();
    }

    /// Makes a snapshot and removes what it makes unneeded, all on the helper thread.
    async fn make_snapshot(self: Rc<Shared>, zxid: Zxid) {
        let (data, log) = (self.data.clone(), self.log.clone());
        let (purge, retain) = (self.config.purge, self.config.snap_retain);
        let began = self.now().tick;
        let job = move || {
            let made = snap::make(&data, &log, zxid)?;
            let unneeded = if purge {
                snap::purge(&data, retain)?
            } else {
                None
            };
            Ok::<_, SnapError>((made, unneeded))
        };
        let outcome = self.helper.run(job).await;
        let (made, unneeded) = match &outcome {
            Ok((made, unneeded)) => {
                let took = self.now().tick.0 - began.0;
                tracing::info!("snapshot of {zxid} made: {} bytes in {took} ms", made.bytes);
                (Some(made), *unneeded)
            }
            Err(e) => {
                tracing::warn!("no snapshot of {zxid}, tried again later: {e}");
                (None, None)
            }
        };
        let remove = self
            .with(|inline| inline.snapshot_made(made, unneeded))
            .unwrap_or_default();
        let log = self.log.clone();
        let removed = self.helper.run(move || remove_all(&log, &remove)).await;
        if let Err(e) = removed {
            tracing::warn!("a log segment could not be removed: {e}");
        }
    }

    // ---- the end ----

    /// Whether the server is draining.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Takes no more input, waits (for `patience_ms` at most) until what was taken is answered, and
    /// seals the log.
    ///
    /// # Errors
    /// The log could not be sealed.
    pub async fn drain(self: Rc<Shared>, patience_ms: u64) -> io::Result<()> {
        self.stopping.set(true);
        let until = self.now().tick.after(patience_ms);
        let busy = |inline: &mut Inline<FsStorage>| !inline.pipeline.is_idle();
        while self.with(busy).unwrap_or(false) && self.now().tick < until {
            self.due.notify();
            rt::sleep(std::time::Duration::from_millis(1)).await;
        }
        self.turn();
        while self.syncer.borrow().is_none() {
            rt::sleep(std::time::Duration::from_millis(1)).await;
        }
        let inline = self.inline.take();
        inline.map_or(Ok(()), Inline::close)
    }
}

/// Oldest first: a crash in between must not leave a gap.
fn remove_all(log: &FsStorage, names: &[String]) -> io::Result<()> {
    use crate::log::storage::Storage;
    names.iter().try_for_each(|name| log.remove(name))?;
    if names.is_empty() {
        Ok(())
    } else {
        log.sync_dir()
    }
}
