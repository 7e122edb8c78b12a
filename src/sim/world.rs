//! One simulated machine with its member, its network and its clients, on virtual time.
//!
//! A crash happens at an *effect boundary*: before a write, a sync, a change of a name, or before
//! bytes are handed to the network. What the member does in the rest of its turn reaches nobody.

use super::client::{Client, Op, Phase, random_op};
use super::disk::{DiskFaults, SimStorage};
use super::machine::{Machine, MachineConfig};
use super::truth::Truth;
use crate::log::record::HEADER;
use crate::log::snapshot_file::SnapshotError;
use crate::log::storage::Storage;
use crate::log::{LogConfig, RecoveryError, Scan, SyncTicket};
use crate::member::{Job, JobNews, MemberConfig, StartError};
use crate::messages::{Committed, Notice, ToShards};
use crate::pipeline::PipelineConfig;
use crate::placement::RingLimits;
use crate::shard::{ClientAddress, ShardConfig};
use crate::snapshot::{self, SnapError};
use crate::tree::{Rules, Tree};
use crate::txn::{Entry, Txn, TxnHeader};
use crate::types::{
    ConnId, ErrorCode, Now, OpCode, Position, SessionId, ShardId, Tick, WallMs, Zxid,
};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// tickTime of the simulated member, ms: small, so that sessions expire within a seed.
const TICK_MS: u64 = 100;
const TIMEOUT_MIN_MS: i32 = 2 * TICK_MS as i32;
const TIMEOUT_MAX_MS: i32 = 20 * TICK_MS as i32;
const SEGMENT: u64 = 64 << 10;
const DISK: u64 = 64 << 20;
/// After this long a durable batch is covered by a durable seal, µs: the seal's delay, a tick, the
/// slowest sync before it and its own.
const COVERED_AFTER_US: u64 = 500_000;
/// How long a re-attachment may wait in a shard that is held still, µs.
const ASKED_FOR_US: u64 = 4_000_000;
/// What a catch-up reads at once, bytes.
const READ_MAX: u64 = 20_000;
/// Wall clock at virtual time 0.
const WALL: i64 = 1_790_000_000_000;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Crash once, when the disk has counted this many effects; no other faults are injected.
    pub crash_at: Option<u64>,
    /// A short run without random faults, for a crash after every effect.
    pub short: bool,
    /// Serving shards; 0 = inline.
    pub shards: u16,
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Crashes that lost the page cache.
    pub power_cuts: u64,
    /// Crashes of the process alone.
    pub kills: u64,
    /// Crashes while recovering.
    pub crashes_in_recovery: u64,
    /// The wall clock was set back.
    pub clock_steps: u64,
    /// The disk was full for a while.
    pub full_disks: u64,
    /// Writes refused because of it.
    pub refused: u64,
    /// Seeds whose zxid counter rolled over.
    pub rollovers: u64,
    /// Connections cut by the network.
    pub disconnects: u64,
    /// Sessions re-attached while their old connection was open.
    pub steals: u64,
    /// Requests sent on a connection whose session has moved.
    pub stale_requests: u64,
    /// Bits that rotted in a synced and covered record, and were noticed.
    pub rot_noticed: u64,
    /// Shards held still.
    pub stalls: u64,
    /// Shards that fell too far behind and were detached.
    pub detached: u64,
    /// Shards that caught up from the log and came back.
    pub rejoined: u64,
    /// Sessions that expired.
    pub expiries: u64,
    /// Snapshots made.
    pub snapshots: u64,
    /// Replies checked.
    pub replies: u64,
    /// Watch events checked.
    pub events: u64,
    /// Transactions applied.
    pub txns: u64,
    /// What the disk did.
    pub disk: DiskFaults,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Hash over all events of the run.
    pub hash: String,
    /// Effects counted by the disk.
    pub effects: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// What happened.
    pub counters: Counters,
    /// The first promise that was broken.
    pub violation: Option<String>,
}

enum Event {
    Turn,
    Tick,
    /// A shard's own turn, its tick, and the end of a time in which it was held still.
    ShardTurn(u16),
    ShardTick(u16),
    /// The log is read for a shard that was detached.
    ToServer {
        link: usize,
        bytes: Vec<u8>,
        whole: bool,
    },
    ToClient {
        link: usize,
        bytes: Vec<u8>,
    },
    ClosedByServer {
        link: usize,
    },
    ClosedByClient {
        link: usize,
    },
    Synced(SyncTicket<<SimStorage as Storage>::File>),
    Job(Job),
    Step {
        client: usize,
    },
    Fault,
    Room,
    Restart,
}

impl Event {
    /// Events inside the process die with it.
    fn is_members(&self) -> bool {
        matches!(
            self,
            Event::Turn
                | Event::Tick
                | Event::ShardTurn(_)
                | Event::ShardTick(_)
                | Event::Synced(_)
                | Event::Job(_)
        )
    }
}

/// What the kernel has for a shard.
enum Arrived {
    Bytes(Vec<u8>),
    End,
}

struct Link {
    client: usize,
    /// The shard that serves it.
    shard: u16,
    conn: Option<ConnId>,
    /// The client still listens.
    heard: bool,
    /// The ConnectResponse was handed over.
    answered: bool,
    /// Whose connection it is, once it is answered.
    session: SessionId,
    /// The session that the ConnectRequest presents, and the timeout that it would get, ms.
    asks: Option<(SessionId, i32)>,
    first_xid: i32,
    to_server_at: u64,
    to_client_at: u64,
}

impl Machine {
    fn arrive(&mut self, link: &mut Link, arrived: Arrived, now: Now) {
        match (arrived, link.conn) {
            (_, None) => {}
            (Arrived::Bytes(bytes), Some(conn)) => self.receive(link.shard, conn, &bytes, now),
            (Arrived::End, Some(conn)) => {
                link.conn = None;
                self.closed(link.shard, conn, now);
            }
        }
    }
}

struct World {
    rng: fastrand::Rng,
    options: Options,
    now_us: u64,
    wall_offset: i64,
    queue: BTreeMap<(u64, u64), (u32, Event)>,
    sequence: u64,
    disk: SimStorage,
    member: Option<Machine>,
    /// Until when each shard is held still, µs; what reaches it meanwhile waits in the kernel.
    held_until: Vec<u64>,
    kernel: Vec<Vec<(usize, Arrived)>>,
    shard_due: Vec<bool>,
    incarnation: u32,
    turn_due: bool,
    links: Vec<Link>,
    clients: Vec<Client>,
    current: Vec<Option<usize>>,
    silent_until: Vec<u64>,
    truth: Truth,
    /// The newest state shown to any client.
    shown: Zxid,
    /// When each session was last heard of, µs, latest last, and its timeout at that moment, ms.
    heard_at: BTreeMap<SessionId, VecDeque<(u64, i32)>>,
    /// Timeouts that re-attachments asked for, and when, µs: one may be granted although its link
    /// is lost before the answer, also after a later one that another shard was quicker with.
    asked: BTreeMap<SessionId, Vec<(u64, i32)>>,
    /// Per session: the first xid of the connection that was last answered.
    attached_xid: BTreeMap<SessionId, i32>,
    bodies: BTreeMap<Zxid, [u8; 32]>,
    hash: blake3::Hasher,
    counters: Counters,
    calm: bool,
    was_full: bool,
    start: Zxid,
    /// Who may write for each session, if anybody; since the last start.
    owner: BTreeMap<SessionId, Option<(ShardId, ConnId)>>,
    /// The connection that was last answered for each session.
    attached_link: BTreeMap<SessionId, usize>,
    /// When the newest transactions were applied, µs.
    applied_at: VecDeque<(u64, Zxid)>,
    /// A later record or a seal covers everything up to here: rot there must be noticed.
    covered: Zxid,
    /// Wall clock at each createSession, ms.
    sessions_made: Vec<i64>,
    /// A flipped bit: file, offset, bit.
    rot: Option<(String, usize, u32)>,
}

/// Runs one seed to its end, or to the first broken promise.
pub fn run(options: Options) -> Outcome {
    let mut world = World::new(options);
    let violation = world.live().err();
    let mut counters = world.counters;
    counters.disk = world.disk.faults();
    counters.rollovers = u64::from(world.truth.last().epoch() > world.start.epoch());
    Outcome {
        hash: world.hash.finalize().to_hex()[..16].to_owned(),
        effects: world.disk.effects(),
        virtual_ms: world.now_us / 1000,
        counters,
        violation: violation.map(|v| format!("at {} ms: {v}", world.now_us / 1000)),
    }
}

impl World {
    fn new(options: Options) -> World {
        let mut rng = fastrand::Rng::with_seed(options.seed);
        let start = match rng.u32(0..8) {
            0 => Zxid::new(rng.u32(0..9), Zxid::COUNTER_MAX - rng.u32(1..150)),
            _ => Zxid::ZERO,
        };
        let clients = if options.short { 2 } else { rng.usize(2..7) };
        World {
            rng,
            options,
            now_us: 0,
            wall_offset: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            disk: SimStorage::new(DISK),
            member: None,
            held_until: vec![0; usize::from(options.shards)],
            kernel: (0..options.shards).map(|_| Vec::new()).collect(),
            shard_due: vec![false; usize::from(options.shards)],
            incarnation: 0,
            turn_due: false,
            links: Vec::new(),
            clients: (0..clients).map(Client::new).collect(),
            current: vec![None; clients],
            silent_until: vec![0; clients],
            truth: Truth::new(start),
            shown: Zxid::ZERO,
            heard_at: BTreeMap::new(),
            asked: BTreeMap::new(),
            attached_xid: BTreeMap::new(),
            bodies: BTreeMap::new(),
            hash: blake3::Hasher::new(),
            counters: Counters::default(),
            calm: false,
            was_full: false,
            start,
            owner: BTreeMap::new(),
            attached_link: BTreeMap::new(),
            applied_at: VecDeque::new(),
            covered: Zxid::ZERO,
            sessions_made: Vec::new(),
            rot: None,
        }
    }

    fn now(&self) -> Now {
        let ms = self.now_us / 1000;
        Now {
            tick: Tick(ms),
            micros: self.now_us,
            wall: WallMs(WALL + ms as i64 + self.wall_offset),
        }
    }

    fn at(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert(
            (self.now_us + delay_us, self.sequence),
            (self.incarnation, event),
        );
    }

    fn note(&mut self, what: &[u8]) {
        self.hash.update(&self.now_us.to_le_bytes());
        self.hash.update(&(what.len() as u32).to_le_bytes());
        self.hash.update(what);
    }

    /// The whole life: work under faults, a calm phase in which everything must be answered, the
    /// end of all sessions, a clean stop and a last start.
    fn live(&mut self) -> Result<(), String> {
        self.prepare_disk();
        self.disk.crash_at(self.options.crash_at);
        self.boot()?;
        for client in 0..self.clients.len() {
            let delay = self.rng.u64(0..20_000);
            self.at(delay, Event::Step { client });
        }
        let busy_ms = if self.options.short {
            400
        } else {
            self.rng.u64(800..3000)
        };
        if !self.options.short {
            let delay = self.rng.u64(50_000..700_000);
            self.at(delay, Event::Fault);
        }
        self.run_until(busy_ms * 1000)?;
        self.calm_down()?;
        self.end_sessions()?;
        self.stop_and_start()
    }

    fn run_until(&mut self, end_us: u64) -> Result<(), String> {
        while let Some((&(at, _), _)) = self.queue.first_key_value() {
            if at > end_us {
                break;
            }
            let ((at, _), (incarnation, event)) = self.queue.pop_first().expect("not empty");
            self.now_us = at;
            if !event.is_members() || incarnation == self.incarnation {
                self.step(event)?;
            }
        }
        self.now_us = end_us;
        Ok(())
    }

    fn calm_down(&mut self) -> Result<(), String> {
        self.calm = true;
        self.held_until.fill(0);
        self.shard_due.fill(false);
        if self.member.is_some() {
            (0..self.options.shards).for_each(|shard| self.shard_soon(shard));
        }
        self.disk.set_capacity(DISK);
        if self.options.crash_at.is_none() {
            self.disk.disarm();
        }
        for _ in 0..200 {
            self.run_until(self.now_us + 50_000)?;
            let waiting = self
                .clients
                .iter()
                .any(|c| c.outstanding() > 0 || c.phase == Phase::Connecting);
            if self.member.is_some() && !waiting {
                return Ok(());
            }
        }
        let stuck: Vec<_> = self
            .clients
            .iter()
            .map(|c| (c.id, c.phase, c.outstanding()))
            .collect();
        Err(format!(
            "not live: 10 s after the last fault clients wait for replies {stuck:?}"
        ))
    }

    /// Everybody falls silent; every session must be gone soon after, and its ephemerals with it.
    fn end_sessions(&mut self) -> Result<(), String> {
        self.silent_until.fill(u64::MAX);
        loop {
            let before = self.incarnation;
            self.run_until(self.now_us + (20 * TICK_MS + 10 * TICK_MS) * 1000)?;
            let left = self
                .member
                .as_ref()
                .and_then(|member| member.tree().sessions().next());
            match left {
                // After a restart every session has its full timeout again.
                _ if self.incarnation != before || self.member.is_none() => {}
                Some((id, timeout)) => {
                    return Err(format!(
                        "session {id} (timeout {timeout} ms) outlived its client"
                    ));
                }
                None => return self.compare_tree(),
            }
        }
    }

    /// A clean stop, or idleness and a power cut; either way everything is known to be durable, so
    /// a flipped bit must be noticed wherever it is.
    fn stop_and_start(&mut self) -> Result<(), String> {
        if self.rng.bool() {
            self.run_until(self.now_us + COVERED_AFTER_US + 50_000)?;
        }
        self.replicas_become_equal()?;
        let in_flight = self.member.as_ref().map_or(0, Machine::in_flight);
        if in_flight > 0 {
            return Err(format!(
                "{in_flight} credits were not given back: nothing is under way"
            ));
        }
        let last = self.truth.last();
        let idle = self
            .applied_at
            .back()
            .is_none_or(|&(at, _)| at + COVERED_AFTER_US < self.now_us);
        self.count_links();
        let member = self.member.take().ok_or("no member to stop")?;
        if !(idle && self.rng.bool()) {
            match member.close() {
                Err(e) if !self.disk.crashed() => return Err(format!("clean stop failed: {e}")),
                _ => {}
            }
        }
        self.covered = last;
        self.incarnation += 1;
        self.disk.restart(&mut self.rng, true);
        if self.rng.bool() {
            self.rot()?;
        }
        self.boot()?;
        match self.member.as_ref() {
            Some(member) if member.tree().last_zxid() == last => self.compare_tree(),
            Some(member) => Err(format!(
                "stopped at {last}, started at {}",
                member.tree().last_zxid()
            )),
            None => Err("did not start after it was stopped".into()),
        }
    }

    /// Whoever was held still or detached is soon where the others are.
    fn replicas_become_equal(&mut self) -> Result<(), String> {
        for _ in 0..20 {
            let member = self.member.as_ref().ok_or("no member to stop")?;
            if member.replicas_are_equal().is_ok() {
                break;
            }
            self.run_until(self.now_us + 50_000)?;
        }
        let member = self.member.as_ref().ok_or("no member to stop")?;
        member.replicas_are_equal()
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Turn => {
                self.turn_due = false;
                self.turn()
            }
            Event::Tick => {
                let now = self.now();
                let ticked = self.member.as_mut().expect("its own event").tick(now);
                self.at(10_000, Event::Tick);
                self.after_member(ticked.map_err(|e| e.to_string()))
            }
            Event::ShardTurn(shard) => self.shard_turn(shard),
            Event::ShardTick(shard) => {
                self.at(10_000, Event::ShardTick(shard));
                if !self.is_held(shard) {
                    let now = self.now();
                    let member = self.member.as_mut().expect("its own event");
                    member.shard_tick(shard, now);
                    self.shard_soon(shard);
                }
                Ok(())
            }
            Event::Synced(ticket) => {
                let now = self.now();
                let done = ticket.run();
                self.note(b"synced");
                let member = self.member.as_mut().expect("its own event");
                let outcome = member.member_mut().synced(done, now);
                self.after_member(outcome.map_err(|e| e.to_string()))
            }
            Event::Job(job) => self.job(job),
            Event::ToServer { link, bytes, whole } => self.reach_server(link, &bytes, whole),
            Event::ToClient { link, bytes } => self.reach_client(link, &bytes),
            Event::ClosedByServer { link } => {
                self.close_at_client(link);
                Ok(())
            }
            Event::ClosedByClient { link } => {
                self.arrive(link, Arrived::End);
                Ok(())
            }
            Event::Step { client } => self.client_step(client),
            Event::Fault => {
                self.fault();
                Ok(())
            }
            Event::Room => {
                self.disk.set_capacity(DISK);
                Ok(())
            }
            Event::Restart => self.boot(),
        }
    }

    // ---- the member ----

    /// A disk as the operator finds it: empty, or with a snapshot shortly before a rollover.
    fn prepare_disk(&mut self) {
        if self.start == Zxid::ZERO {
            return;
        }
        let mut tree = Tree::new();
        tree.apply(&Entry {
            header: TxnHeader {
                session: SessionId::NONE,
                cxid: 0,
                zxid: self.start,
                time: WallMs(WALL),
                op: OpCode::ERROR,
            },
            txn: Txn::Error {
                code: ErrorCode::NO_NODE,
            },
            digest: None,
        });
        snapshot::write(&self.disk, &tree).expect("an empty disk takes a snapshot");
    }

    fn member_config(&mut self) -> MachineConfig {
        let pipeline = PipelineConfig {
            tick_time_ms: TICK_MS,
            shards: self.options.shards.max(1),
            close_paths_max: 3,
            ..PipelineConfig::new(Rules::default())
        };
        let shard = ShardConfig {
            tick_time_ms: TICK_MS,
            session_timeout_min_ms: TIMEOUT_MIN_MS,
            session_timeout_max_ms: TIMEOUT_MAX_MS,
            in_flight_max: self.rng.usize(2..60),
            ..ShardConfig::new(ShardId(0))
        };
        let member = MemberConfig {
            pipeline,
            log: LogConfig {
                segment_bytes: SEGMENT,
            },
            snapshot_records: self.rng.u64(30..400),
            snapshots_kept: Some(3),
        };
        MachineConfig {
            member,
            shard,
            shards: self.options.shards,
            limits: RingLimits {
                entries: self.rng.u64(4..80),
                bytes: self.rng.u64(10_000..100_000),
                catch_up_bytes: READ_MAX,
            },
        }
    }

    fn boot(&mut self) -> Result<(), String> {
        let now = self.now();
        let config = self.member_config();
        let mut identities = fastrand::Rng::with_seed(self.rng.u64(..));
        let mut replayed = Vec::new();
        let started = Machine::start(
            config,
            &self.disk,
            &self.disk,
            Box::new(move || identities.u128(..)),
            now,
            &mut |entry: &Entry| replayed.push(Arc::new(entry.clone())),
        );
        let member = match started {
            Ok(member) => member,
            Err(_) if self.disk.crashed() => {
                self.counters.crashes_in_recovery += 1;
                return self.die();
            }
            Err(_) if self.sync_has_failed() => return self.die(),
            Err(e) if self.was_full && is_full(&e) => {
                self.at(100_000, Event::Restart);
                return Ok(());
            }
            Err(e) if is_corrupt(&e) && self.rot.is_some() => {
                // The operator restores the file from a backup.
                self.counters.rot_noticed += 1;
                let (name, offset, bit) = self.rot.take().expect("just seen");
                self.disk.flip(&name, offset, bit);
                return self.boot();
            }
            Err(e) => return Err(format!("refused to start: {e}")),
        };
        if let Some((name, offset, bit)) = self.rot.take() {
            return Err(format!(
                "started although bit {bit} of byte {offset} in {name} had rotted"
            ));
        }
        let recovered = member.tree().last_zxid();
        self.covered = recovered;
        self.applied_at.clear();
        self.note(format!("boot {recovered}").as_bytes());
        self.truth.recovered(recovered)?;
        self.bodies.retain(|z, _| *z <= recovered);
        for entry in &replayed {
            self.truth.apply(entry)?;
        }
        // Until it re-attaches a session has the timeout of its createSession (client.md §5.2).
        self.heard_at.clear();
        self.owner.clear();
        for (session, timeout_ms) in member.tree().sessions() {
            self.heard_at
                .insert(session, VecDeque::from([(self.now_us, timeout_ms)]));
        }
        let end = member.member().pipeline.log().end().position;
        self.member = Some(member);
        self.compare_tree()?;
        self.survives_a_power_cut(end)?;
        self.at(10_000, Event::Tick);
        for shard in 0..self.options.shards {
            self.at(10_000, Event::ShardTick(shard));
        }
        self.turn_soon();
        Ok(())
    }

    /// What recovery read is durable and what it tore off is gone, before anything new is appended:
    /// a second recovery, after a power cut right now, finds a whole log with the same end.
    fn survives_a_power_cut(&mut self, end: Position) -> Result<(), String> {
        let copy = self.disk.after_power_cut(&mut self.rng.fork());
        let scan = Scan::new(&copy).map_err(|e| format!("power cut after recovery: {e}"))?;
        let found = scan.end().map(|end| end.position);
        // Zeroes that a failed sync has lost can't be told from zeroes on the medium.
        let torn = scan.is_torn() && self.disk.faults().sync_errors == 0;
        if torn || found != Some(end) {
            return Err(format!(
                "power cut after recovery: the log ended at {end:?}, now at {found:?}, torn: {}",
                scan.is_torn()
            ));
        }
        Ok(())
    }

    /// Flips a bit in a record that a later one covers, now and then the newest of these.
    fn rot(&mut self) -> Result<(), String> {
        if self.rot.is_some() || self.disk.crashed() {
            return Ok(());
        }
        let scan = Scan::new(&self.disk).map_err(|e| format!("before any rot: {e}"))?;
        let covered: Vec<_> = scan
            .transactions(Zxid::ZERO)
            .filter(|record| record.zxid <= self.covered)
            .collect();
        if covered.is_empty() {
            return Ok(());
        }
        let chosen = match self.rng.bool() {
            true => covered.len() - 1,
            false => self.rng.usize(0..covered.len()),
        };
        let record = &covered[chosen];
        let (name, begin) = scan.place(record).expect("it was read from there");
        let within = self.rng.usize(0..HEADER + record.payload.len());
        let (name, offset, bit) = (name.to_owned(), begin as usize + within, self.rng.u32(0..8));
        self.disk.flip(&name, offset, bit);
        self.rot = Some((name, offset, bit));
        Ok(())
    }

    /// The process is gone, from a crash of the machine or an error that it must not survive.
    fn die(&mut self) -> Result<(), String> {
        self.count_links();
        self.member = None;
        self.incarnation += 1;
        self.turn_due = false;
        self.shard_due.fill(false);
        self.held_until.fill(0);
        self.kernel.iter_mut().for_each(Vec::clear);
        let power_cut = self.rng.u32(0..10) < 7;
        self.counters.power_cuts += u64::from(power_cut);
        self.counters.kills += u64::from(!power_cut);
        self.note(if power_cut { b"power cut" } else { b"kill" });
        self.disk.restart(&mut self.rng, power_cut);
        while let Some(&(at, zxid)) = self.applied_at.front()
            && at + COVERED_AFTER_US < self.now_us
        {
            self.covered = zxid;
            self.applied_at.pop_front();
        }
        // Whoever is dead seals nothing.
        self.applied_at.clear();
        if !self.options.short && self.rng.u32(0..8) == 0 {
            self.rot()?;
        }
        for link in 0..self.links.len() {
            if self.links[link].conn.take().is_some() {
                let at = self.links[link].to_client_at.max(self.now_us) - self.now_us;
                self.at(at, Event::ClosedByServer { link });
            }
        }
        if !self.options.short && !self.calm && self.rng.u32(0..5) == 0 {
            // Once more, while it recovers.
            let soon = self.disk.effects() + self.rng.u64(0..12);
            self.disk.crash_at(Some(soon));
        }
        let delay = self.rng.u64(2_000..300_000);
        self.at(delay, Event::Restart);
        Ok(())
    }

    /// After every call into the member: is the machine still there, must the process stop?
    fn after_member(&mut self, outcome: Result<(), String>) -> Result<(), String> {
        if self.disk.crashed() {
            return self.die();
        }
        match outcome {
            Ok(()) => {
                self.turn_soon();
                Ok(())
            }
            Err(e) if self.sync_has_failed() => {
                self.note(e.as_bytes());
                self.die()
            }
            Err(e) => Err(format!("the member stopped itself: {e}")),
        }
    }

    /// Whether a sync has failed since this was last asked: an error that a process must die of.
    fn sync_has_failed(&mut self) -> bool {
        let failed = self.disk.faults().sync_errors;
        std::mem::replace(&mut self.counters.disk.sync_errors, failed) < failed
    }

    fn turn_soon(&mut self) {
        if !self.turn_due {
            self.turn_due = true;
            let delay = self.rng.u64(1..200);
            self.at(delay, Event::Turn);
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        let now = self.now();
        let mut said: Vec<ToShards> = Vec::new();
        let member = self.member.as_mut().expect("its own event");
        let outcome = member.turn(now, &mut |down| said.push(down.clone()));
        for down in &said {
            self.check_owner(down)?;
            if let ToShards::Txn(txn) = down {
                self.check_applied(txn)?;
            }
        }
        if outcome.is_err() || self.disk.crashed() {
            return self.after_member(outcome.map_err(|e| e.to_string()));
        }
        while let Some(ticket) = self
            .member
            .as_mut()
            .and_then(|m| m.member_mut().poll_sync())
        {
            let slow = self.rng.u32(0..40) == 0;
            let delay = if slow {
                self.rng.u64(5_000..120_000)
            } else {
                self.rng.u64(60..2_000)
            };
            self.at(delay, Event::Synced(ticket));
        }
        if self.disk.crashed() {
            return self.die();
        }
        while let Some(job) = self.member.as_mut().and_then(Machine::poll_job) {
            let takes = match &job {
                Job::Spare(_) | Job::ReadLog(_) => self.rng.u64(500..30_000),
                Job::Snapshot { .. } => self.rng.u64(1_000..50_000),
                Job::Remove(_) => 100,
            };
            self.at(takes, Event::Job(job));
        }
        for shard in 0..self.options.shards {
            if self.member.as_ref().is_some_and(|m| m.has_mail(shard)) {
                self.shard_soon(shard);
            }
        }
        self.remember_body(None)?;
        self.outputs()
    }

    fn is_held(&self, shard: u16) -> bool {
        self.held_until[usize::from(shard)] > self.now_us
    }

    fn shard_soon(&mut self, shard: u16) {
        if self.options.shards == 0 {
            self.turn_soon();
        } else if !std::mem::replace(&mut self.shard_due[usize::from(shard)], true) {
            let free = self.held_until[usize::from(shard)].saturating_sub(self.now_us);
            let delay = free + self.rng.u64(1..200);
            self.at(delay, Event::ShardTurn(shard));
        }
    }

    /// What a shard's core does: takes batches, then what waited in the kernel, asks, speaks.
    fn shard_turn(&mut self, shard: u16) -> Result<(), String> {
        if self.is_held(shard) {
            self.shard_due[usize::from(shard)] = false;
            self.shard_soon(shard);
            return Ok(());
        }
        self.shard_due[usize::from(shard)] = false;
        let now = self.now();
        let member = self.member.as_mut().expect("its own event");
        member
            .shard_batches(shard, now)
            .map_err(|e| e.to_string())?;
        for (link, arrived) in std::mem::take(&mut self.kernel[usize::from(shard)]) {
            member.arrive(&mut self.links[link], arrived, now);
        }
        if member.shard_turn(shard, now) {
            self.turn_soon();
        }
        self.outputs()
    }

    /// Counts what the links of a member did, before it is gone.
    fn count_links(&mut self) {
        let Some(member) = &self.member else { return };
        for link in member.link_counters() {
            self.counters.detached += link.detached;
            self.counters.rejoined += link.rejoined;
        }
    }

    fn outputs(&mut self) -> Result<(), String> {
        let now = self.now();
        for shard in 0..self.options.shards.max(1) {
            if self.options.shards == 0 || !self.is_held(shard) {
                self.outputs_of(shard, now)?;
            }
        }
        Ok(())
    }

    fn outputs_of(&mut self, shard: u16, now: Now) -> Result<(), String> {
        while let Some(member) = &mut self.member {
            let Some((conn, output)) = member.poll_output(shard, now) else {
                break;
            };
            let of = |l: &Link| l.shard == shard && l.conn == Some(conn);
            let Some(link) = self.links.iter().rposition(of) else {
                continue;
            };
            if !output.bytes.is_empty() {
                self.not_detached(link)?;
                if !self.disk.outside_effect() {
                    return self.die();
                }
                self.note(&output.bytes);
                self.answered(link, &output.bytes);
                self.send_to_client(link, output.bytes);
            }
            if output.close {
                self.links[link].conn = None;
                let at = self.links[link].to_client_at.max(self.now_us) - self.now_us;
                self.at(at + 1, Event::ClosedByServer { link });
            }
        }
        Ok(())
    }

    /// Nothing of a connection is answered after its session has answered another one's
    /// ConnectRequest.
    fn not_detached(&self, link: usize) -> Result<(), String> {
        let session = self.links[link].session;
        match self.attached_link.get(&session) {
            Some(&newer) if newer > link => Err(format!(
                "connection {link} was answered after its session {session} had moved to {newer}"
            )),
            _ => Ok(()),
        }
    }

    /// Notes the moment at which a ConnectResponse left.
    fn answered(&mut self, link: usize, bytes: &[u8]) {
        if self.links[link].answered || bytes.len() < 20 {
            return;
        }
        self.links[link].answered = true;
        let timeout = i32::from_be_bytes(bytes[8..12].try_into().expect("four bytes"));
        let session = SessionId(i64::from_be_bytes(
            bytes[12..20].try_into().expect("eight bytes"),
        ));
        if timeout > 0 {
            self.links[link].session = session;
            self.attached_link.insert(session, link);
            self.attached_xid
                .insert(session, self.links[link].first_xid);
            self.heard(session, timeout);
        }
    }

    /// Only the connection to which a session is attached writes for it, in the order that all
    /// shards see: nothing between the moment at which it is taken away and the next attachment.
    fn check_owner(&mut self, down: &ToShards) -> Result<(), String> {
        match down {
            ToShards::Notice(_, Notice::Detach { session, .. }) => {
                self.owner.insert(*session, None);
            }
            ToShards::Notice(
                _,
                Notice::Attached {
                    session, origin, ..
                },
            ) => {
                self.owner
                    .insert(*session, Some((origin.shard, origin.conn)));
            }
            ToShards::Notice(..) => {}
            ToShards::Txn(txn) => {
                let Some(origin) = txn.origin else {
                    return Ok(());
                };
                let session = txn.entry.header.session;
                let writer = (origin.shard, origin.conn);
                match txn.entry.txn {
                    Txn::CreateSession { .. } => {
                        self.owner.insert(session, Some(writer));
                    }
                    Txn::Error { .. } => {}
                    _ if self.owner.get(&session).is_some_and(|o| *o != Some(writer)) => {
                        let zxid = txn.entry.header.zxid;
                        return Err(format!(
                            "{zxid} of session {session} came from {writer:?}, which does not hold it"
                        ));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn check_applied(&mut self, txn: &Committed) -> Result<(), String> {
        let entry = &txn.entry;
        let (session, cxid) = (entry.header.session, entry.header.cxid);
        self.counters.txns += 1;
        self.truth.apply(entry)?;
        self.applied_at.push_back((self.now_us, entry.header.zxid));
        if cxid > 0
            && self
                .attached_xid
                .get(&session)
                .is_some_and(|first| cxid < *first)
        {
            return Err(format!(
                "{} ({:?}, cxid {cxid}) came from a connection that its session had left",
                entry.header.zxid, entry.txn
            ));
        }
        if matches!(entry.txn, Txn::CreateSession { .. }) {
            self.sessions_made.push(entry.header.time.0);
        }
        if matches!(entry.txn, Txn::CloseSession { .. }) && txn.origin.is_none() {
            self.counters.expiries += 1;
            self.check_expiry(session, txn.stamps.ordered)?;
        }
        Ok(())
    }

    /// A session may only expire after a silence of its timeout. What arrives behind the decision
    /// does not undo it, nor what arrived behind the deadline and shortly before the decision.
    fn check_expiry(&self, session: SessionId, decided: u64) -> Result<(), String> {
        let Some(heard) = self.heard_at.get(&session) else {
            return Ok(());
        };
        let times: Vec<_> = heard.iter().filter(|(at, _)| *at <= decided).collect();
        let asked = self.asked.get(&session).into_iter().flatten();
        let recent = asked.filter(|(at, _)| at + ASKED_FOR_US > decided);
        let asked = recent.map(|(_, timeout_ms)| *timeout_ms);
        let silent = (0..times.len()).any(|i| {
            let (at, timeout_ms) = *times[i];
            let next = times.get(i + 1).map_or(decided, |(next, _)| *next);
            let timeout_ms = asked.clone().fold(timeout_ms, i32::min);
            next + 2 * TICK_MS * 1000 >= decided && next - at >= timeout_ms as u64 * 1000
        });
        match times.last() {
            Some((at, timeout_ms)) if !silent => Err(format!(
                "session {session} expired {} ms after it was heard of, its timeout is {timeout_ms} ms",
                (decided - at) / 1000
            )),
            _ => Ok(()),
        }
    }

    /// A thread that may block has run a job.
    fn job(&mut self, job: Job) -> Result<(), String> {
        let now = self.now();
        let done = job.run(&self.disk, &self.disk);
        let member = self.member.as_mut().expect("its own event");
        match member.job_done(done, now) {
            Ok(JobNews::SnapshotMade { zxid, written }) => {
                self.counters.snapshots += 1;
                self.same_body(zxid, written.root)?;
            }
            Ok(JobNews::SnapshotFailed { .. }) if self.sync_has_failed() => return self.die(),
            Ok(JobNews::SnapshotFailed { zxid, reason })
                if !(self.disk.crashed() || self.was_full && snap_is_full(&reason)) =>
            {
                return Err(format!("no snapshot of {zxid}: {reason}"));
            }
            Ok(_) => {}
            Err(e) => return self.after_member(Err(e.to_string())),
        }
        self.after_member(Ok(()))
    }

    /// Snapshot bytes are equal for equal zxid, whoever makes them.
    fn remember_body(&mut self, always: Option<()>) -> Result<(), String> {
        if always.is_none() && self.rng.u32(0..50) != 0 {
            return Ok(());
        }
        let Some(member) = &self.member else {
            return Ok(());
        };
        let root = snapshot::root(member.tree());
        self.same_body(member.tree().last_zxid(), root)
    }

    fn same_body(&mut self, zxid: Zxid, root: [u8; 32]) -> Result<(), String> {
        match self.bodies.insert(zxid, root) {
            Some(before) if before != root => Err(format!("two different snapshots of {zxid}")),
            _ => Ok(()),
        }
    }

    /// The member's whole tree against the model.
    fn compare_tree(&mut self) -> Result<(), String> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        let tree = member.tree();
        let zxid = self.truth.last();
        if tree.last_zxid() != zxid {
            return Err(format!("tree at {}, truth at {zxid}", tree.last_zxid()));
        }
        let mut nodes = 0;
        for (path, node) in self.truth.paths() {
            nodes += 1;
            let stat = tree
                .stat(path)
                .ok_or_else(|| format!("{path} is missing from the tree at {zxid}"))?;
            let (data, _) = tree
                .get_data(path, &[])
                .map_err(|e| format!("{path}: {e:?}"))?;
            let same =
                data == node.data && stat.version == node.version && stat.czxid == node.czxid;
            let same = same && stat.mzxid == node.mzxid && stat.ephemeral_owner == node.owner.0;
            if !same || (stat.num_children != node.children && path.as_ref() != "/") {
                return Err(format!("{path} at {zxid}: tree {stat:?}, truth {node:?}"));
            }
        }
        // The root counts twice; /zookeeper, quota and config are not in the model.
        if tree.node_count() != nodes + 4 {
            return Err(format!(
                "the tree has {} nodes, the truth {nodes} + 4",
                tree.node_count()
            ));
        }
        self.remember_body(Some(()))
    }

    // ---- the network ----

    fn latency(&mut self) -> u64 {
        if self.rng.u32(0..30) == 0 {
            self.rng.u64(200..900)
        } else {
            self.rng.u64(10..120)
        }
    }

    fn send_to_server(&mut self, link: usize, bytes: Vec<u8>) {
        let cut = if self.rng.u32(0..6) == 0 {
            self.rng.usize(0..bytes.len())
        } else {
            0
        };
        for part in [0..cut, cut..bytes.len()] {
            if part.is_empty() {
                continue;
            }
            let at = (self.now_us + self.latency()).max(self.links[link].to_server_at);
            self.links[link].to_server_at = at;
            let whole = part.end == bytes.len();
            let bytes = bytes[part].to_vec();
            self.at(at - self.now_us, Event::ToServer { link, bytes, whole });
        }
    }

    fn send_to_client(&mut self, link: usize, bytes: Vec<u8>) {
        let at = (self.now_us + self.latency()).max(self.links[link].to_client_at);
        self.links[link].to_client_at = at;
        self.at(at - self.now_us, Event::ToClient { link, bytes });
    }

    fn reach_server(&mut self, link: usize, bytes: &[u8], whole: bool) -> Result<(), String> {
        if self.member.is_none() || self.links[link].conn.is_none() {
            return Ok(());
        }
        let client = self.links[link].client;
        self.arrive(link, Arrived::Bytes(bytes.to_vec()));
        if let Some((session, timeout_ms)) = self.links[link].asks.take_if(|_| whole) {
            self.asked
                .entry(session)
                .or_default()
                .push((self.now_us, timeout_ms));
        }
        let session = self.clients[client].session;
        let counts = whole && self.links[link].answered && !self.clients[client].is_closing();
        if counts && self.current[client] == Some(link) {
            let timeout_ms = self.clients[client].timeout_ms;
            self.heard(session, timeout_ms);
        }
        self.after_member(Ok(()))
    }

    /// Inline the member reads at once; a shard reads at its next turn.
    fn arrive(&mut self, link: usize, arrived: Arrived) {
        let now = self.now();
        let shard = self.links[link].shard;
        if self.options.shards > 0 {
            self.kernel[usize::from(shard)].push((link, arrived));
        } else if let Some(member) = &mut self.member {
            member.arrive(&mut self.links[link], arrived, now);
        }
        if self.member.is_some() {
            self.shard_soon(shard);
        }
    }

    fn heard(&mut self, session: SessionId, timeout_ms: i32) {
        let times = self.heard_at.entry(session).or_default();
        times.push_back((self.now_us, timeout_ms));
        if times.len() > 64 {
            times.pop_front();
        }
    }

    fn reach_client(&mut self, link: usize, bytes: &[u8]) -> Result<(), String> {
        let id = self.links[link].client;
        if !self.links[link].heard || self.current[id] != Some(link) {
            return Ok(());
        }
        let client = &mut self.clients[id];
        let session = client.session;
        let heard = client
            .receive(bytes, &self.truth)
            .map_err(|e| format!("client {id}: {e}"))?;
        self.counters.replies += u64::from(heard.replies);
        self.counters.events += u64::from(heard.events);
        self.counters.refused += u64::from(heard.refused);
        if heard.refused > 0 && !self.was_full {
            return Err(format!(
                "client {id} was refused although the disk was never full"
            ));
        }
        self.shown = self.shown.max(heard.zxid);
        self.truth.reveal(heard.zxid);
        if heard.attached {
            let created = self.truth.session(self.clients[id].session);
            let (created, _) = created.ok_or("attached to a session that was never created")?;
            self.truth.reveal(created);
        }
        if heard.dead {
            if let Some((_, None)) = self.truth.session(session) {
                return Err(format!(
                    "client {id}: live session {session} was answered dead"
                ));
            }
            self.clients[id].forget_session();
        }
        Ok(())
    }

    fn close_at_client(&mut self, link: usize) {
        let id = self.links[link].client;
        self.links[link].heard = false;
        if self.current[id] == Some(link) {
            self.current[id] = None;
            if self.clients[id].is_closing() && self.clients[id].outstanding() == 0 {
                self.clients[id].forget_session();
            }
            self.clients[id].disconnected();
        }
    }

    // ---- the clients ----

    fn client_step(&mut self, id: usize) -> Result<(), String> {
        let delay = if self.calm {
            20_000
        } else {
            self.rng.u64(500..12_000)
        };
        self.at(delay, Event::Step { client: id });
        if self.silent_until[id] > self.now_us {
            return Ok(());
        }
        match self.clients[id].phase {
            Phase::Offline => self.connect(id),
            Phase::Connecting => {
                if self.rng.u32(0..60) == 0 {
                    self.drop_link(id);
                }
            }
            Phase::Online if self.calm => {
                if self.clients[id].outstanding() == 0 {
                    self.request(id, Op::Ping);
                }
            }
            Phase::Online => self.work(id),
        }
        Ok(())
    }

    fn work(&mut self, id: usize) {
        match self.rng.u32(0..1000) {
            0..8 => self.drop_link(id),
            8..16 => {
                // The client opens a second connection and forgets the first, requests under way.
                self.counters.steals += 1;
                for _ in 0..self.rng.u32(1..4) {
                    let op = random_op(&mut self.rng, id);
                    self.request(id, op);
                }
                let old = self.current[id];
                self.connect(id);
                if let Some(old) = old {
                    self.keep_asking(old);
                }
            }
            16..22 => self.request(id, Op::Close),
            22..30 => self.silent_until[id] = self.now_us + self.rng.u64(0..3_000_000),
            _ if self.clients[id].is_closing() => {}
            _ => {
                for _ in 0..self.rng.u32(0..4) {
                    if self.clients[id].outstanding() < 12 {
                        let op = random_op(&mut self.rng, id);
                        self.request(id, op);
                    }
                }
            }
        }
    }

    fn request(&mut self, id: usize, op: Op) {
        let Some(link) = self.current[id] else { return };
        if self.clients[id].is_closing() {
            return;
        }
        let bytes = self.clients[id].send(op, self.shown);
        self.send_to_server(link, bytes);
    }

    fn connect(&mut self, id: usize) {
        let now = self.now();
        let Some(member) = &mut self.member else {
            return;
        };
        let peer = ClientAddress {
            address: "127.0.0.1".into(),
            port: 40_000 + id as u16,
        };
        let shard = match self.options.shards {
            0 => 0,
            n => self.rng.u16(0..n),
        };
        let conn = member.accept(shard, peer, now);
        let timeout = self.rng.i32(100..2_500);
        let presented = self.clients[id].session;
        let bytes = self.clients[id].connect(timeout);
        let link = self.links.len();
        self.links.push(Link {
            client: id,
            shard,
            conn: Some(conn),
            heard: true,
            answered: false,
            session: SessionId::NONE,
            asks: Some((presented, timeout.clamp(TIMEOUT_MIN_MS, TIMEOUT_MAX_MS))),
            first_xid: self.clients[id].first_xid,
            to_server_at: 0,
            to_client_at: 0,
        });
        self.current[id] = Some(link);
        self.send_to_server(link, bytes);
    }

    /// Somebody goes on reading on a connection whose session moves away.
    fn keep_asking(&mut self, link: usize) {
        let mut nobody = Client::new(self.clients.len());
        for _ in 0..self.rng.u32(0..6) {
            let read = Op::Read {
                path: "/".into(),
                exists: true,
                watch: false,
            };
            let bytes = nobody.send(read, Zxid::ZERO);
            let at = self.links[link].to_server_at.max(self.now_us) + self.rng.u64(1..3_000);
            self.links[link].to_server_at = at;
            self.counters.stale_requests += 1;
            let whole = true;
            self.at(at - self.now_us, Event::ToServer { link, bytes, whole });
        }
    }

    fn drop_link(&mut self, id: usize) {
        self.counters.disconnects += 1;
        self.clients[id].disconnected();
        if let Some(link) = self.current[id].take() {
            self.links[link].heard = false;
            let at = self.links[link].to_server_at.max(self.now_us) - self.now_us;
            self.at(at + 1, Event::ClosedByClient { link });
        }
    }

    // ---- faults ----

    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let delay = self.rng.u64(50_000..900_000);
        self.at(delay, Event::Fault);
        if self.options.shards > 0 && self.rng.bool() {
            self.counters.stalls += 1;
            let shard = self.rng.usize(0..usize::from(self.options.shards));
            let until = self.now_us + self.rng.u64(1_000..1_500_000);
            self.held_until[shard] = until.max(self.held_until[shard]);
        }
        match self.rng.u32(0..10) {
            0..6 => {
                let soon = self.disk.effects() + self.rng.u64(0..40);
                self.disk.crash_at(Some(soon));
            }
            6 => self.disk.fail_next_sync(),
            7 => {
                self.counters.full_disks += 1;
                self.was_full = true;
                let room = self.disk.used() + self.rng.u64(0..SEGMENT);
                self.disk.set_capacity(room);
                let delay = self.rng.u64(50_000..2_000_000);
                self.at(delay, Event::Room);
            }
            _ => {
                self.counters.clock_steps += 1;
                self.wall_offset -= match self.rng.choice(&self.sessions_made) {
                    // To shortly before a session was made: what counts on the clock collides.
                    Some(&made) if self.rng.bool() => {
                        (self.now().wall.0 - made).max(0) + self.rng.i64(0..40)
                    }
                    _ => self.rng.i64(1..40_000_000_000),
                };
                if self.rng.bool() {
                    let soon = self.disk.effects() + self.rng.u64(0..40);
                    self.disk.crash_at(Some(soon));
                }
            }
        }
    }
}

fn is_full(error: &StartError) -> bool {
    match error {
        StartError::Io(e) => e.kind() == io::ErrorKind::StorageFull,
        StartError::Unreadable(e) => snap_is_full(e),
    }
}

fn is_corrupt(error: &StartError) -> bool {
    matches!(
        error,
        StartError::Unreadable(SnapError::Log(RecoveryError::Corrupt { .. }))
    )
}

fn snap_is_full(error: &SnapError) -> bool {
    match error {
        SnapError::Io(e) | SnapError::File(SnapshotError::Io(e)) => {
            e.kind() == io::ErrorKind::StorageFull
        }
        _ => false,
    }
}
