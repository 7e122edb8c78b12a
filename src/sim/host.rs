//! The machine that the member runs on: starts, turns of its cores, the helper thread, deaths.
//!
//! A crash happens at an *effect boundary*: before a write, a sync, a change of a name, or before
//! bytes are handed to the network. What the member does in the rest of its turn reaches nobody.

use super::base::{Base, Event, TICK_MS, WALL};
use super::checks::{self, Checks};
use super::machine::{Machine, MachineConfig};
use super::network::{Connection, Network};
use crate::log::snapshot_file::SnapshotError;
use crate::log::storage::Storage;
use crate::log::{LogConfig, RecoveryError, Scan, SpareJob};
use crate::member::{MemberConfig, StartError};
use crate::messages::ToShards;
use crate::pipeline::PipelineConfig;
use crate::placement::{CatchUp, RingLimits};
use crate::shard::ShardConfig;
use crate::snapshot::{self, SnapError};
use crate::tree::{Rules, Tree};
use crate::txn::{Entry, Txn, TxnHeader};
use crate::types::{ErrorCode, Now, OpCode, Position, SessionId, ShardId, WallMs, Zxid};
use std::io;
use std::sync::Arc;

pub(super) const TIMEOUT_MIN_MS: i32 = 2 * TICK_MS as i32;
pub(super) const TIMEOUT_MAX_MS: i32 = 20 * TICK_MS as i32;
/// Size of a segment of the log, bytes.
pub(super) const SEGMENT: u64 = 64 << 10;
/// What a catch-up reads at once, bytes.
const READ_MAX: u64 = 20_000;

/// What the kernel has for a shard.
pub(super) enum Arrived {
    Bytes(Vec<u8>),
    End,
}

impl Machine {
    fn arrive(&mut self, to: &mut Connection, arrived: Arrived, now: Now) {
        match (arrived, to.conn) {
            (_, None) => {}
            (Arrived::Bytes(bytes), Some(conn)) => self.receive(to.shard, conn, &bytes, now),
            (Arrived::End, Some(conn)) => {
                to.conn = None;
                self.closed(to.shard, conn, now);
            }
        }
    }
}

/// The member, if it runs, and what its cores have before them.
pub(super) struct Host {
    pub(super) member: Option<Machine>,
    /// Where the history begins.
    pub(super) start: Zxid,
    /// Until when each shard is held still, µs; what reaches it meanwhile waits in the kernel.
    held_until: Vec<u64>,
    kernel: Vec<Vec<(usize, Arrived)>>,
    shard_due: Vec<bool>,
    turn_due: bool,
    helper_free_us: u64,
}

impl Host {
    pub(super) fn new(shards: u16, start: Zxid) -> Host {
        Host {
            member: None,
            start,
            held_until: vec![0; usize::from(shards)],
            kernel: (0..shards).map(|_| Vec::new()).collect(),
            shard_due: vec![false; usize::from(shards)],
            turn_due: false,
            helper_free_us: 0,
        }
    }

    // ---- starts and deaths ----

    /// A disk as the operator finds it: empty, or with a snapshot shortly before a rollover.
    pub(super) fn prepare_disk(&self, base: &Base) {
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
        snapshot::write(&base.disk, &tree).expect("an empty disk takes a snapshot");
    }

    /// Starts the member; whoever must die or wait instead has been seen to.
    pub(super) fn boot(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let now = base.now();
        let config = machine_config(base);
        let mut identities = fastrand::Rng::with_seed(base.rng.u64(..));
        let mut replayed = Vec::new();
        let started = Machine::start(
            config,
            &base.disk,
            &base.disk,
            Box::new(move || identities.u128(..)),
            now,
            &mut |entry: &Entry| replayed.push(Arc::new(entry.clone())),
        );
        match started {
            Ok(member) => self.started(member, &replayed, base, checks),
            Err(_) if base.disk.crashed() => {
                base.counters.crashes_in_recovery += 1;
                self.die(base, network, checks)
            }
            Err(_) if base.sync_has_failed() => self.die(base, network, checks),
            Err(e) if base.was_full && is_full(&e) => {
                base.at(100_000, Event::Restart);
                Ok(())
            }
            Err(e) if is_corrupt(&e) && checks.rot.mend(&base.disk) => {
                base.counters.rot_noticed += 1;
                self.boot(base, network, checks)
            }
            Err(e) => Err(format!("refused to start: {e}")),
        }
    }

    fn started(
        &mut self,
        member: Machine,
        replayed: &[Arc<Entry>],
        base: &mut Base,
        checks: &mut Checks,
    ) -> Result<(), String> {
        checks.rot.started()?;
        let recovered = member.tree().last_zxid();
        base.note(format!("boot {recovered}").as_bytes());
        checks.recovered(recovered)?;
        for entry in replayed {
            checks.truth.apply(entry)?;
        }
        // Until it re-attaches a session has the timeout of its createSession (docs/protocol.md §5.2).
        for (session, timeout_ms) in member.tree().sessions() {
            checks.expiry.heard(session, timeout_ms, base.now_us);
        }
        let end = member.member().pipeline.log().end().position;
        self.member = Some(member);
        self.compare_tree(checks)?;
        survives_a_power_cut(end, base)?;
        base.at(10_000, Event::Tick);
        for shard in 0..base.options.shards {
            base.at(10_000, Event::ShardTick(shard));
        }
        self.turn_soon(base);
        Ok(())
    }

    /// The process is gone, from a crash of the machine or an error that it must not survive.
    pub(super) fn die(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        self.count_feeds(base);
        self.member = None;
        base.incarnation += 1;
        self.turn_due = false;
        self.shard_due.fill(false);
        self.held_until.fill(0);
        self.kernel.iter_mut().for_each(Vec::clear);
        self.helper_free_us = 0;
        let power_cut = base.rng.u32(0..10) < 7;
        base.counters.power_cuts += u64::from(power_cut);
        base.counters.kills += u64::from(!power_cut);
        base.note(if power_cut { b"power cut" } else { b"kill" });
        base.disk.restart(&mut base.rng, power_cut);
        checks.rot.died(base.now_us);
        if !base.options.short && base.rng.u32(0..8) == 0 {
            checks.rot.flip(&base.disk, &mut base.rng)?;
        }
        network.process_died(base);
        if !base.options.short && !base.calm && base.rng.u32(0..5) == 0 {
            // Once more, while it recovers.
            let soon = base.disk.effects() + base.rng.u64(0..12);
            base.disk.crash_at(Some(soon));
        }
        let delay = base.rng.u64(2_000..300_000);
        base.at(delay, Event::Restart);
        Ok(())
    }

    /// A clean stop, or, of an idle member, a power cut.
    pub(super) fn stop(&mut self, idle: bool, base: &mut Base) -> Result<(), String> {
        self.count_feeds(base);
        let member = self.member.take().ok_or("no member to stop")?;
        if !(idle && base.rng.bool()) {
            match member.close() {
                Err(e) if !base.disk.crashed() => return Err(format!("clean stop failed: {e}")),
                _ => {}
            }
        }
        base.incarnation += 1;
        Ok(())
    }

    /// After every call into the member: is the machine still there, must the process stop?
    pub(super) fn after_member(
        &mut self,
        outcome: Result<(), String>,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        if base.disk.crashed() {
            return self.die(base, network, checks);
        }
        match outcome {
            Ok(()) => {
                self.turn_soon(base);
                Ok(())
            }
            Err(e) if base.sync_has_failed() => {
                base.note(e.as_bytes());
                self.die(base, network, checks)
            }
            Err(e) => Err(format!("the member stopped itself: {e}")),
        }
    }

    /// Counts what the feeds of a member did, before it is gone.
    fn count_feeds(&self, base: &mut Base) {
        let Some(member) = &self.member else { return };
        for feed in member.feed_counters() {
            base.counters.detached += feed.detached;
            base.counters.rejoined += feed.rejoined;
        }
    }

    // ---- what is asked of it ----

    fn running(&mut self) -> &mut Machine {
        self.member.as_mut().expect("its own event")
    }

    pub(super) fn compare_tree(&self, checks: &mut Checks) -> Result<(), String> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        checks::compare(member.tree(), &checks.truth)?;
        self.remember_body(checks)
    }

    fn remember_body(&self, checks: &mut Checks) -> Result<(), String> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        let root = snapshot::root(member.tree());
        checks.bodies.observe(member.tree().last_zxid(), root)
    }

    /// A shard is held still for a time.
    pub(super) fn hold(&mut self, shard: usize, until_us: u64) {
        self.held_until[shard] = until_us.max(self.held_until[shard]);
    }

    /// Nobody is held still any more.
    pub(super) fn calm_down(&mut self, base: &mut Base) {
        self.held_until.fill(0);
        self.shard_due.fill(false);
        if self.member.is_some() {
            (0..base.options.shards).for_each(|shard| self.shard_soon(shard, base));
        }
    }

    fn is_held(&self, shard: u16, base: &Base) -> bool {
        self.held_until[usize::from(shard)] > base.now_us
    }

    /// Inline the member reads at once; a shard reads at its next turn.
    pub(super) fn arrive(
        &mut self,
        connection: usize,
        arrived: Arrived,
        base: &mut Base,
        network: &mut Network,
    ) {
        let to = &mut network.connections[connection];
        let shard = to.shard;
        if base.options.shards > 0 {
            self.kernel[usize::from(shard)].push((connection, arrived));
        } else if let Some(member) = &mut self.member {
            member.arrive(to, arrived, base.now());
        }
        if self.member.is_some() {
            self.shard_soon(shard, base);
        }
    }

    // ---- turns ----

    fn turn_soon(&mut self, base: &mut Base) {
        if !self.turn_due {
            self.turn_due = true;
            let delay = base.rng.u64(1..200);
            base.at(delay, Event::Turn);
        }
    }

    fn shard_soon(&mut self, shard: u16, base: &mut Base) {
        if base.options.shards == 0 {
            self.turn_soon(base);
        } else if !std::mem::replace(&mut self.shard_due[usize::from(shard)], true) {
            let free = self.held_until[usize::from(shard)].saturating_sub(base.now_us);
            let delay = free + base.rng.u64(1..200);
            base.at(delay, Event::ShardTurn(shard));
        }
    }

    /// What happens inside the process.
    pub(super) fn step(
        &mut self,
        event: Event,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let now = base.now();
        let outcome = match event {
            Event::Turn => {
                self.turn_due = false;
                return self.turn(base, network, checks);
            }
            Event::ShardTurn(shard) => return self.shard_turn(shard, base, network, checks),
            Event::ShardTick(shard) => {
                base.at(10_000, Event::ShardTick(shard));
                if !self.is_held(shard, base) {
                    self.running().shard_tick(shard, now);
                    self.shard_soon(shard, base);
                }
                return Ok(());
            }
            Event::Tick => {
                let ticked = self.running().tick(now);
                base.at(10_000, Event::Tick);
                ticked.map_err(|e| e.to_string())
            }
            Event::CatchUp(order) => self.catch_up(order, base),
            Event::Synced(ticket) => {
                let done = ticket.run();
                base.note(b"synced");
                let outcome = self.running().member_mut().synced(done, now);
                outcome.map_err(|e| e.to_string())
            }
            Event::Spare(order) => self.spare(order, base),
            Event::Snapshot(zxid) => return self.snapshot(zxid, base, network, checks),
            Event::Remove(names) => {
                for name in names {
                    let _ = base.disk.remove(&name);
                }
                let _ = base.disk.sync_dir();
                Ok(())
            }
            _ => unreachable!("an event of the process"),
        };
        self.after_member(outcome, base, network, checks)
    }

    fn turn(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let mut said: Vec<ToShards> = Vec::new();
        let outcome = self
            .running()
            .turn(base.now(), &mut |down| said.push(down.clone()));
        for down in &said {
            checks.observe(down, base.now_us, &mut base.counters)?;
        }
        if outcome.is_err() || base.disk.crashed() {
            return self.after_member(outcome.map_err(|e| e.to_string()), base, network, checks);
        }
        self.begin_syncs(base);
        if base.disk.crashed() {
            return self.die(base, network, checks);
        }
        self.begin_jobs(base);
        for shard in 0..base.options.shards {
            if self.running().has_mail(shard) {
                self.shard_soon(shard, base);
            }
        }
        if base.rng.u32(0..50) == 0 {
            self.remember_body(checks)?;
        }
        self.outputs(base, network, checks)
    }

    fn begin_syncs(&mut self, base: &mut Base) {
        while let Some(ticket) = self.running().member_mut().poll_sync() {
            let slow = base.rng.u32(0..40) == 0;
            let delay = match slow {
                true => base.rng.u64(5_000..120_000),
                false => base.rng.u64(60..2_000),
            };
            base.at(delay, Event::Synced(ticket));
        }
    }

    fn begin_jobs(&mut self, base: &mut Base) {
        while let Some(order) = self.running().member_mut().poll_spare() {
            let takes = base.rng.u64(500..30_000);
            self.by_helper(takes, Event::Spare(order), base);
        }
        if let Some(zxid) = self.running().member_mut().poll_snapshot() {
            let takes = base.rng.u64(1_000..50_000);
            self.by_helper(takes, Event::Snapshot(zxid), base);
        }
        if let Some(order) = self.running().poll_catch_up() {
            let takes = base.rng.u64(500..30_000);
            self.by_helper(takes, Event::CatchUp(order), base);
        }
    }

    /// What a shard's core does: takes batches, then what waited in the kernel, asks, speaks.
    fn shard_turn(
        &mut self,
        shard: u16,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        self.shard_due[usize::from(shard)] = false;
        if self.is_held(shard, base) {
            self.shard_soon(shard, base);
            return Ok(());
        }
        let now = base.now();
        let arrived = std::mem::take(&mut self.kernel[usize::from(shard)]);
        let member = self.running();
        member
            .shard_batches(shard, now)
            .map_err(|e| e.to_string())?;
        for (connection, arrived) in arrived {
            member.arrive(&mut network.connections[connection], arrived, now);
        }
        if member.shard_turn(shard, now) {
            self.turn_soon(base);
        }
        self.outputs(base, network, checks)
    }

    fn outputs(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        for shard in 0..base.options.shards.max(1) {
            if base.options.shards == 0 || !self.is_held(shard, base) {
                self.outputs_of(shard, base, network, checks)?;
            }
        }
        Ok(())
    }

    fn outputs_of(
        &mut self,
        shard: u16,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        while let Some(member) = &mut self.member {
            let Some((conn, output)) = member.poll_output(shard, base.now()) else {
                break;
            };
            let of = |c: &Connection| c.shard == shard && c.conn == Some(conn);
            let Some(connection) = network.connections.iter().rposition(of) else {
                continue;
            };
            if !output.bytes.is_empty() {
                let session = network.connections[connection].session;
                checks.attachment.answers(session, connection)?;
                if !base.disk.outside_effect() {
                    return self.die(base, network, checks);
                }
                base.note(&output.bytes);
                answered(connection, &output.bytes, base.now_us, network, checks);
                network.send_to_client(connection, output.bytes, base);
            }
            if output.close {
                network.close_by_server(connection, base);
            }
        }
        Ok(())
    }

    // ---- the helper thread ----

    /// The helper thread works off its jobs one after the other.
    fn by_helper(&mut self, takes_us: u64, event: Event, base: &mut Base) {
        self.helper_free_us = self.helper_free_us.max(base.now_us) + takes_us;
        base.at_time(self.helper_free_us, event);
    }

    fn catch_up(&mut self, order: CatchUp, base: &Base) -> Result<(), String> {
        let log = snapshot::read_log(&base.disk, order.after, order.upto, READ_MAX);
        let log = log.map_err(|e| format!("no catch-up of {order:?}: {e}"))?;
        self.running().caught_up(order, log);
        Ok(())
    }

    fn spare(&mut self, order: SpareJob, base: &Base) -> Result<(), String> {
        let made = order.fulfil(&base.disk);
        let outcome = self.running().member_mut().spare_made(made, base.now());
        outcome.map_err(|e| e.to_string())
    }

    /// Makes a snapshot, purges older ones, removes segments.
    fn snapshot(
        &mut self,
        zxid: Zxid,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let made = snapshot::make(&base.disk, &base.disk, zxid);
        let purged = made.as_ref().ok().map(|_| snapshot::purge(&base.disk, 3));
        let unneeded = purged.and_then(Result::ok).flatten();
        let remove = self.running().snapshot_made(made.as_ref().ok(), unneeded);
        if !remove.is_empty() {
            self.by_helper(100, Event::Remove(remove), base);
        }
        match made {
            Ok(written) => {
                base.counters.snapshots += 1;
                checks.bodies.observe(zxid, written.root)?;
            }
            Err(_) if base.sync_has_failed() => return self.die(base, network, checks),
            Err(e) if !(base.disk.crashed() || base.was_full && snap_is_full(&e)) => {
                return Err(format!("no snapshot of {zxid}: {e}"));
            }
            Err(_) => {}
        }
        self.after_member(Ok(()), base, network, checks)
    }
}

fn machine_config(base: &mut Base) -> MachineConfig {
    let pipeline = PipelineConfig {
        tick_time_ms: TICK_MS,
        ..PipelineConfig::new(Rules::default())
    };
    let shard = ShardConfig {
        tick_time_ms: TICK_MS,
        session_timeout_min_ms: TIMEOUT_MIN_MS,
        session_timeout_max_ms: TIMEOUT_MAX_MS,
        in_flight_max: base.rng.usize(2..60),
        ..ShardConfig::new(ShardId(0))
    };
    let member = MemberConfig {
        pipeline,
        log: LogConfig {
            segment_bytes: SEGMENT,
        },
        snapshot_records: base.rng.u64(30..400),
    };
    MachineConfig {
        member,
        shard,
        shards: base.options.shards,
        limits: RingLimits {
            entries: base.rng.u64(4..80),
            bytes: base.rng.u64(10_000..100_000),
        },
    }
}

/// What recovery read is durable and what it tore off is gone, before anything new is appended: a
/// second recovery, after a power cut right now, finds a whole log with the same end.
fn survives_a_power_cut(end: Position, base: &mut Base) -> Result<(), String> {
    let copy = base.disk.after_power_cut(&mut base.rng.fork());
    let scan = Scan::new(&copy).map_err(|e| format!("power cut after recovery: {e}"))?;
    let found = scan.end().map(|end| end.position);
    // Zeroes that a failed sync has lost can't be told from zeroes on the medium.
    let torn = scan.is_torn() && base.disk.faults().sync_errors == 0;
    if torn || found != Some(end) {
        return Err(format!(
            "power cut after recovery: the log ended at {end:?}, now at {found:?}, torn: {}",
            scan.is_torn()
        ));
    }
    Ok(())
}

/// Notes the moment at which a ConnectResponse left.
fn answered(
    connection: usize,
    bytes: &[u8],
    now_us: u64,
    network: &mut Network,
    checks: &mut Checks,
) {
    let of = &mut network.connections[connection];
    if of.answered || bytes.len() < 20 {
        return;
    }
    of.answered = true;
    let timeout = i32::from_be_bytes(bytes[8..12].try_into().expect("four bytes"));
    let session = i64::from_be_bytes(bytes[12..20].try_into().expect("eight bytes"));
    if timeout > 0 {
        of.session = SessionId(session);
        checks
            .attachment
            .attached(of.session, connection, of.first_xid);
        checks.expiry.heard(of.session, timeout, now_us);
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
