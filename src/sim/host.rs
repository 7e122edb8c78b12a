//! The machine that the member runs on: starts, turns of its cores, the helper thread, deaths.
//!
//! A crash happens at an *effect boundary*: before a write, a sync, a change of a name, or before
//! bytes are handed to the network. What the member does in the rest of its turn reaches nobody.

use super::base::{Awaited, Base, Event, SEGMENT, TICK_MS, WALL};
use super::checks::{self, At, Checks};
use super::config::{SHARE_ENOUGH, machine_config};
use super::cores::{Core, Letter, is_reported, look, read_letter, tells};
use super::disk::{SeamCall, SimStorage};
use super::ends::Ended;
use super::failing::{self, Work};
use super::machine::Machine;
use super::network::{Connection, Network};
use super::outcome::Fault;
use super::sockets::KernelSockets;
use crate::log::snapshot_file::SnapshotError;
use crate::log::storage::{File, Storage};
use crate::log::{
    Known, LogConfig, Need, RecoveryError, Room, Scan, SyncOutcome, SyncTask, SyncTicket, Unwritten,
};
use crate::member::{Done, Job, SnapshotMade, StartError};
use crate::messages::ToShards;
use crate::pipeline::Fatal;
use crate::placement::{ServingCore, SyncPlace, SyncStep, Turned};
use crate::shard::Held;
use crate::snapshot::{self, SnapError};
use crate::tree::Tree;
use crate::txn::{Entry, Txn, TxnHeader};
use crate::types::{ErrorCode, OpCode, Position, SessionId, Tick, WallMs, Zxid};
use std::io;
use std::sync::Arc;

/// How often a core that has nothing to do looks at its timers, µs.
const TICK_US: u64 = 10_000;
/// How long a crowded core may take to its next turn, µs.
const CROWDED_TURN_US: u64 = 10_000;
/// How long requests may wait for a spare that nobody makes, µs: what is due at a tick, and once more.
const IN_VAIN_MAX_US: u64 = 3 * TICK_MS * 1000;
/// One process in so many is crowded.
const CROWDED_ONE_IN: u32 = 32;
/// Segments that a store has at most where restarts are all that happens: those of three snapshots.
const SEGMENTS_ENOUGH: usize = 60;
/// After a try that has failed another spare is begun within this time, µs, in which no core is held still: the
/// server waits for a second and a tick.
const SPARE_AGAIN_US: u64 = 1_150_000;
/// While a longer sync runs, µs, the log may have no place for another spare.
const LONG_SYNC_US: u64 = 5_000;
/// Connections that the ordering core accepts in one turn.
const ACCEPTS: usize = 8;
/// Behind one turn in so many, and behind every tick, what is kept count of is counted anew.
const COUNTED_ONE_IN: u64 = 4;

/// The member, if it runs, and what its cores have before them. Cores that serve come first; with
/// shards the last one orders.
pub(super) struct Host {
    pub(super) member: Option<Machine>,
    /// Where the history begins.
    pub(super) start: Zxid,
    pub(super) cores: Vec<Core>,
    /// Whether most syncs of the device are fast enough to run on the core that orders.
    pub(super) has_fast_disk: bool,
    /// No sync ends before this, µs.
    pub(super) disk_hangs_until: u64,
    /// Until when a sync takes that has begun while the disk hung, µs: it does not end earlier because the
    /// disk hangs no more.
    sync_hangs_until: u64,
    /// The operator wants the process to stop.
    pub(super) is_asked_to_stop: bool,
    /// Turns of the core that orders since then.
    pub(super) drain_turns: u32,
    /// A core was held still, or the disk, since then.
    pub(super) drain_is_disturbed: bool,
    /// Where the log of the last process ended, if it was sealed.
    pub(super) sealed: Option<Zxid>,
    /// When the last process ended.
    gone_us: u64,
    /// A shard was held still while others went on, or lacked what it had not been given, since the start.
    pub(super) was_stalled: bool,
    /// Spares that are being made.
    pub(super) spares_out: u32,
    /// When the core that orders had its last turn, and how long requests have waited by then without a spare, µs.
    looked_at_us: u64,
    waited_in_vain_us: u64,
    /// Writes that the process has refused.
    refused_writes: u64,
    /// By then a spare that could not be made is tried again, µs.
    spare_is_due: u64,
    /// The last sync ends then, µs.
    sync_until: u64,
    /// Connections that the process has ended since this was last looked at.
    pub(super) ends: Vec<Ended>,
    /// A loss that the operator has begun to accept.
    pub(super) accepting: Option<Accepting>,
}

/// A loss that is being accepted.
pub(super) struct Accepting {
    /// The last transaction that stays.
    pub(super) kept: Zxid,
    /// The store goes on behind this.
    pub(super) behind: Zxid,
    /// The earliest clock of the runs of the command.
    pub(super) wall: WallMs,
    /// Behind what the model knew: transactions that nobody was shown, and that stay.
    pub(super) unseen: Vec<Arc<Entry>>,
    /// What the segments and snapshots held that were durable.
    pub(super) contents: Vec<Vec<u8>>,
}

impl Host {
    pub(super) fn new(shards: u16, start: Zxid) -> Host {
        let cores = if shards == 0 { 1 } else { shards + 1 };
        Host {
            member: None,
            start,
            cores: (0..cores).map(|_| Core::default()).collect(),
            has_fast_disk: false,
            disk_hangs_until: 0,
            sync_hangs_until: 0,
            is_asked_to_stop: false,
            drain_turns: 0,
            drain_is_disturbed: false,
            sealed: None,
            gone_us: 0,
            was_stalled: false,
            spares_out: 0,
            looked_at_us: 0,
            waited_in_vain_us: 0,
            refused_writes: 0,
            spare_is_due: 0,
            sync_until: 0,
            ends: Vec::new(),
            accepting: None,
        }
    }

    /// The core that orders, which also accepts.
    pub(super) fn ordering(&self) -> u16 {
        self.cores.len() as u16 - 1
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
        let log = LogConfig {
            segment_bytes: SEGMENT,
        };
        let mut identity = 0;
        let identities = Box::new(move || {
            identity += 1;
            identity
        });
        snapshot::create_store(&base.data, &base.disk, &tree, log, identities)
            .expect("an empty disk takes a store");
    }

    /// Starts the member; whoever must die or wait instead has been seen to.
    pub(super) fn boot(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let now = base.now();
        // What failed in the process before is no reason of this one's.
        base.may_die();
        if self.accepting.is_some() {
            return self.go_on_accepting(base, network, checks);
        }
        self.has_fast_disk = base.rng.bool();
        let may_crowd = base.options.shards == 0 && !base.options.short;
        base.crowded =
            may_crowd && !base.profile.has_lister && base.rng.u32(0..CROWDED_ONE_IN) == 0;
        let config = machine_config(base);
        checks.close_paths_max = config.member.pipeline.close_paths_max;
        checks.turns.waits_for_memory = config.shard.connection_share < SHARE_ENOUGH;
        let kept = config.member.snapshots_kept;
        checks.rot.kept.keeps(kept.expect("some are purged"));
        // It may have begun as soon as the process before had ended.
        let took_us = match base.rng.bool() {
            true => base.rng.u64(0..=base.now_us - self.gone_us),
            false => 0,
        };
        let began = base.ago(took_us);
        let mut identities = fastrand::Rng::with_seed(base.rng.u64(..));
        let mut replayed = Vec::new();
        let before = checks.rot.image((&base.data, &base.disk));
        failing::arm(base, Work::Start);
        let started = Machine::start(
            config,
            &base.data,
            &base.disk,
            Box::new(move || identities.u128(..)),
            (began, now),
            &mut |entry: &Entry| replayed.push(Arc::new(entry.clone())),
        );
        let failed = failing::disarm(base, Work::Start);
        match started {
            Ok(member) => {
                self.survived(&failed)?;
                let is_blind = failed
                    .iter()
                    .any(|call| matches!(call, SeamCall::Open | SeamCall::Read));
                checks.rot.looked(is_blind);
                let is_sound =
                    failed.is_empty() && !base.options.tears_destroy && !checks.rot.is_damaged();
                let mut warnings = member.summary.warnings.iter();
                if let Some(older) = warnings.find(|warning| warning.contains("older snapshot"))
                    && is_sound
                {
                    return Err(format!("nothing was damaged, and {older}"));
                }
                self.started(member, &replayed, base, checks)
            }
            Err(_) if base.disk.crashed() => {
                base.counters.crashes_in_recovery += 1;
                self.die(base, network, checks)
            }
            Err(e)
                if !failed.is_empty() && failed.iter().all(|call| *call == SeamCall::Truncate) =>
            {
                // What a closed segment does not use stays where it is.
                Err(format!(
                    "refused to start because nothing could be given back: {e}"
                ))
            }
            Err(_) if !failed.is_empty() => {
                base.counters.faults.count(Fault::StartFailed);
                self.die(base, network, checks)
            }
            Err(e) if base.lacks_room() && is_full(&e) => {
                self.sealed = None;
                base.at(100_000, Event::Restart);
                Ok(())
            }
            Err(_) if base.was_torn_apart() => base.ends_by_a_tear(Fault::TearRefused),
            Err(e) => {
                let disks = (&base.data, &base.disk);
                if before != checks.rot.image(disks) {
                    return Err(format!("refused to start, and changed something: {e}"));
                }
                self.refused(&e, base, network, checks)
            }
        }
    }

    /// A start that has succeeded although these calls failed could do without them.
    fn survived(&self, failed: &[SeamCall]) -> Result<(), String> {
        use SeamCall::{Len, Open, Read, Truncate};
        let is_needed = |call: &&SeamCall| !matches!(call, Open | Len | Read | Truncate);
        match failed.iter().find(is_needed) {
            Some(call) => Err(format!("started although {call:?} had failed")),
            None => Ok(()),
        }
    }

    fn started(
        &mut self,
        member: Machine,
        replayed: &[Arc<Entry>],
        base: &mut Base,
        checks: &mut Checks,
    ) -> Result<(), String> {
        base.may_die();
        let recovered = member.tree().last_zxid();
        if recovered < checks.truth.shown() && base.was_torn_apart() {
            checks.truth.lost_behind(recovered);
            checks.recovered(recovered)?;
            checks.truth.is_replaying = true;
            for entry in replayed {
                checks.truth.apply(entry)?;
            }
            checks::compare(member.tree(), &checks.truth)?;
            return base.ends_by_a_tear(Fault::TearLost);
        }
        base.destroyed = base.sectors_destroyed();
        let is_damaged = checks.rot.is_damaged();
        checks.rot.started(recovered, &mut base.counters)?;
        checks.rot.of_store(member.member().store());
        if base.incarnation > 0 {
            base.counters.faults.count(Fault::Restart);
        }
        base.note(format!("boot {recovered}").as_bytes());
        checks.recovered(recovered)?;
        checks.truth.is_replaying = true;
        for entry in replayed {
            checks.truth.apply(entry)?;
        }
        checks.truth.is_replaying = false;
        // Until it re-attaches a session has the timeout of its createSession (docs/protocol.md §5.2).
        for (session, timeout_ms) in member.tree().sessions() {
            let expiry = &mut checks.expiry;
            expiry.heard(session, timeout_ms, At::Ordering, base.now_us);
        }
        if let Some(sealed) = self.sealed.take()
            && (member.summary.torn && !is_damaged || recovered != sealed)
        {
            let torn = member.summary.torn;
            return Err(format!(
                "sealed at {sealed}, started at {recovered}, torn: {torn}"
            ));
        }
        let end = member.member().pipeline.log().end().position;
        let snapshot = member.summary.snapshot.unwrap_or_default();
        self.member = Some(member);
        self.compare_tree(checks)?;
        survives_a_power_cut(end, snapshot, is_damaged, base)?;
        is_compact(base, is_damaged)?;
        if checks.rot.has_a_sound_log() {
            self.older_snapshots_serve(base, checks)?;
        }
        for core in 0..self.cores.len() as u16 {
            self.turn_soon(core, base);
        }
        Ok(())
    }

    /// The process is gone, from a crash of the machine or an error that it must not survive.
    pub(super) fn die(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        self.process_is_gone(base);
        self.sealed = None;
        let power_cut = base.rng.u32(0..10) < 7;
        base.counters.power_cuts += u64::from(power_cut);
        base.counters.kills += u64::from(!power_cut);
        base.note(if power_cut { b"power cut" } else { b"kill" });
        base.disks_restart(power_cut);
        checks.rot.died(base.now_us);
        let may_rot = !(base.options.short || base.profile.is_restless);
        if may_rot && base.rng.u32(0..5) == 0 {
            checks.damage(base, false)?;
        }
        network.process_died(base);
        if !base.options.short && !base.calm && base.rng.u32(0..5) == 0 {
            // Once more, while it recovers.
            let soon = base.disk.effects() + base.rng.u64(0..12);
            base.disk.crash_at(Some(soon));
        }
        let delay = base.restart_delay();
        base.at(delay, Event::Restart);
        Ok(())
    }

    pub(super) fn process_is_gone(&mut self, base: &mut Base) {
        self.count_what_was_done(base);
        self.member = None;
        self.gone_us = base.now_us;
        base.incarnation += 1;
        self.cores.fill_with(Core::default);
        (self.sync_hangs_until, self.sync_until) = (0, 0);
        self.is_asked_to_stop = false;
        self.was_stalled = false;
        (self.spares_out, self.waited_in_vain_us) = (0, 0);
        self.refused_writes = 0;
        base.short.clear();
        self.ends.clear();
        base.holds_next = None;
    }

    /// A power cut of an idle member, everything of which is known to be durable.
    pub(super) fn power_off(
        &mut self,
        last: Zxid,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        self.process_is_gone(base);
        network.process_died(base);
        checks.rot.stopped(last);
        base.disks_restart(true);
        match base.rng.bool() {
            true => checks.damage(base, false),
            false => Ok(()),
        }
    }

    // ---- deaths by error ----

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
            Ok(()) => Ok(()),
            Err(e) if base.may_die() => {
                base.note(e.as_bytes());
                self.die(base, network, checks)
            }
            Err(e) => Err(format!("the member stopped itself: {e}")),
        }
    }

    /// Counts what the syncs and the feeds of a member did, before it is gone.
    pub(super) fn count_what_was_done(&self, base: &mut Base) {
        let Some(member) = &self.member else { return };
        let syncs = member.syncs.counters();
        base.counters.syncs_here += syncs.here;
        base.counters.syncs_beside += syncs.beside;
        base.counters.writes_beside += syncs.written_beside;
        for feed in member.feed_counters() {
            base.counters.detached += feed.detached;
            base.counters.rejoined += feed.rejoined;
        }
    }

    // ---- what is asked of it ----

    pub(super) fn compare_tree(&self, checks: &mut Checks) -> Result<(), String> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        checks::compare(member.tree(), &checks.truth)?;
        self.remember_body(checks)
    }

    /// Now and then: a start would find the same without the newest snapshots.
    fn older_snapshots_serve(&self, base: &mut Base, checks: &Checks) -> Result<(), String> {
        let one_in = match base.profile.is_restless {
            true => 64,
            false => 4,
        };
        let (Some(member), 0) = (&self.member, base.rng.u32(0..one_in)) else {
            return Ok(());
        };
        let (disks, kept) = ((&base.data, &base.disk), &checks.rot.kept);
        if kept.takes_the_place(disks, member.tree(), &mut base.rng)? {
            base.counters.faults.count(Fault::WithoutNewest);
        }
        Ok(())
    }

    fn remember_body(&self, checks: &mut Checks) -> Result<(), String> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        let root = snapshot::root(member.tree());
        checks.bodies.observe(member.tree().last_zxid(), root)
    }

    /// A core is held still for a time, and the others are not.
    pub(super) fn stall(&mut self, core: usize, until_us: u64, now_us: u64) {
        self.was_stalled = true;
        self.hold(core, until_us, now_us);
    }

    fn hold(&mut self, core: usize, until_us: u64, now_us: u64) {
        self.drain_is_disturbed = true;
        let held = &mut self.cores[core].held_until;
        *held = until_us.max(*held);
        self.spare_is_due += until_us.saturating_sub(now_us);
    }

    /// A spare could not be made.
    fn is_short_of_spares(&mut self, now_us: u64) {
        let held_until = self.cores[usize::from(self.ordering())].held_until;
        let from = now_us.max(held_until).max(self.sync_until);
        self.spare_is_due = from + SPARE_AGAIN_US;
    }

    /// All cores are held still for a time, as when the process is stopped.
    pub(super) fn pause(&mut self, until_us: u64, now_us: u64) {
        (0..self.cores.len()).for_each(|core| self.hold(core, until_us, now_us));
    }

    /// Whether a sync hangs that has begun while the disk did.
    pub(super) fn has_sync_that_hangs(&self, base: &Base) -> bool {
        self.sync_hangs_until > base.now_us
    }

    /// Nobody is held still any more.
    pub(super) fn calm_down(&mut self, base: &mut Base) {
        self.disk_hangs_until = 0;
        for core in 0..self.cores.len() as u16 {
            let own = &mut self.cores[usize::from(core)];
            own.held_until = 0;
            own.due_at = None;
            if self.member.is_some() {
                self.turn_soon(core, base);
            }
        }
    }

    /// Sockets of every core, and writes that are under way: nothing is left when nobody is there.
    pub(super) fn is_empty(&self, network: &Network) -> Result<(), String> {
        let member = self.member.as_ref().ok_or("no member")?;
        for (n, core) in (0..).zip(&member.serving) {
            let (known, open) = (core.sockets(), network.sockets(n));
            let held = core.served.shard().counted();
            if (known, open, held) != (0, 0, Held::default()) {
                return Err(format!(
                    "nobody is connected, and core {n} has {known} sockets, its kernel {open}, \
                     its shard holds {held:?}"
                ));
            }
        }
        match member.in_flight() {
            0 => Ok(()),
            n => Err(format!(
                "{n} credits were not given back: nothing is under way"
            )),
        }
    }

    // ---- when a core makes a turn ----

    pub(super) fn turn_soon(&mut self, core: u16, base: &mut Base) {
        let most = match base.crowded && !base.calm {
            true => CROWDED_TURN_US,
            false => 200,
        };
        let delay = base.rng.u64(1..most);
        self.turn_in(core, delay, base);
    }

    /// A turn in so many µs, unless one comes earlier.
    fn turn_in(&mut self, core: u16, delay_us: u64, base: &mut Base) {
        let own = &mut self.cores[usize::from(core)];
        let at = (base.now_us + delay_us).max(own.held_until);
        if own.due_at.is_none_or(|due| due > at) {
            own.due_at = Some(at);
            base.at_time(at, Event::Turn(core));
        }
    }

    /// Cores to which the kernel has reported something make a turn.
    pub(super) fn wake(&mut self, base: &mut Base, network: &mut Network) {
        for core in 0..self.cores.len() as u16 {
            if network.wakes(core) && self.member.is_some() {
                self.turn_soon(core, base);
            }
        }
    }

    fn tell(&mut self, core: u16, letter: Letter, base: &mut Base) {
        self.cores[usize::from(core)].letters.push_back(letter);
        self.turn_soon(core, base);
    }

    // ---- what happens inside the process ----

    pub(super) fn step(
        &mut self,
        event: Event,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let ordering = self.ordering();
        match event {
            Event::Turn(core) => return self.turn(core, base, network, checks),
            Event::Write {
                mut ticket,
                then_us,
            } => {
                failing::arm(base, Work::Sync);
                ticket.write_now();
                failing::disarm(base, Work::Sync);
                base.note(b"written");
                let event = Event::Sync {
                    ticket,
                    here: false,
                    began: Some(base.disk.sync_begins()),
                };
                base.at(then_us, event);
            }
            Event::Sync {
                ticket,
                here,
                began,
            } => {
                failing::arm(base, Work::Sync);
                base.disk.set_sync_began(began);
                let outcome = work_off(ticket);
                base.disk.set_sync_began(None);
                failing::disarm(base, Work::Sync);
                base.note(b"synced");
                if here {
                    let member = self.member.as_mut().expect("its own event");
                    member.syncs.ended(base.now());
                    self.cores[usize::from(ordering)].is_syncing = false;
                }
                self.tell(ordering, Letter::Synced { outcome, here }, base);
            }
            Event::Job(job) => {
                let work = Work::of(&job);
                let makes = matches!(job, Job::Snapshot { .. }) && checks.rot.is_damaged();
                let before = makes.then(|| checks::SnapshotsBefore::on(&base.data));
                failing::arm(base, work);
                let done = job.run(&base.data, &base.disk);
                let failed = failing::disarm(base, work);
                failing::ended(base, &done);
                let was_spare = matches!(done, Done::Spare(_));
                self.spares_out = self.spares_out.saturating_sub(u32::from(was_spare));
                let is_damaged = checks.rot.is_damaged();
                if let Done::Snapshot { zxid, made: Err(_) } = &done {
                    checks.rot.kept.cut_off(*zxid);
                }
                match &done {
                    Done::Snapshot {
                        zxid,
                        made: Ok(SnapshotMade { written, .. }),
                    } => {
                        base.counters.snapshots += 1;
                        checks.bodies.observe(*zxid, written.root)?;
                        checks.rot.witnessed(*zxid);
                        checks.rot.kept.made(*zxid);
                        if let Some(before) = before.filter(|_| !base.disk.crashed()) {
                            checks.rot.kept.purged_behind(*zxid, &before, &base.data)?;
                        }
                    }
                    Done::Snapshot { zxid, made: Err(e) }
                        if !(base.disk.crashed()
                            || !failed.is_empty()
                            || is_damaged
                            || base.lacks_room() && snap_is_full(e)) =>
                    {
                        return Err(format!("no snapshot of {zxid}: {e}"));
                    }
                    Done::Purged(_) => checks.rot.kept.purged(),
                    Done::Spare(spare) if spare.shortage().is_some() => {
                        self.is_short_of_spares(base.now_us);
                        if failed.is_empty() && !base.lacks_room() {
                            return Err("a spare finds no room, and there is enough".into());
                        }
                    }
                    Done::Witness(written) if written.is_durable() => {
                        checks.rot.witnessed(written.witness().durable.zxid);
                    }
                    // Started on files of two stores that it could not read; now it has read one of them.
                    Done::Witness(_) if checks.rot.is_of_two_stores() => {
                        base.may_die = true;
                    }
                    Done::LogRead(read) => {
                        // A shard can't do without what has rotted.
                        base.may_die |= is_damaged && read.entries.is_err();
                        // Until it has read all of the log that it lacks it stands where it is.
                        self.was_stalled = true;
                        checks.expiry.stalled();
                    }
                    _ => {}
                }
                self.tell(ordering, Letter::Done(done), base);
            }
            _ => unreachable!("an event of the process"),
        }
        self.after_member(Ok(()), base, network, checks)
    }

    fn turn(
        &mut self,
        core: u16,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let own = &mut self.cores[usize::from(core)];
        if own.due_at != Some(base.now_us) {
            return Ok(());
        }
        own.due_at = None;
        if own.is_syncing || own.has_ended {
            return Ok(());
        }
        if own.held_until > base.now_us {
            self.turn_in(core, 0, base);
            return Ok(());
        }
        let tick = own.next_tick <= base.now_us;
        if tick {
            own.next_tick = base.now_us + TICK_US;
        }
        checks.times.turn(base.now_us, base.wall_offset);
        let mut said = Vec::new();
        let (outcome, mut violation) = if base.options.shards > 0 && core == self.ordering() {
            (self.order(tick, &mut said, base, network), Ok(()))
        } else {
            self.serve(core, tick, &mut said, base, network, checks)
        };
        let own = &mut self.cores[usize::from(core)];
        own.last_turn = base.now_us;
        own.turns += 1;
        let is_counted = tick || own.turns.is_multiple_of(COUNTED_ONE_IN);
        let member = self.member.as_ref().expect("its own event");
        // Only what was not waited for may be said to shards that need not listen any more.
        let is_late = |down: &ToShards| {
            matches!(down, ToShards::Txn(_)) || member.ordering_drain.overdue() == 0
        };
        if member.drain.is_decided() && said.iter().any(is_late) {
            return Err(format!("behind the barrier of the drain: {said:?}"));
        }
        for down in &said {
            checks.observe(down, base.now_us, &mut base.counters)?;
        }
        checks.attachment.turn_is_over();
        if core == self.ordering() {
            let pipeline = &member.member().pipeline;
            let serving = &member.serving;
            let parked = |session| parked_since(session, serving, network);
            (checks.expiry).ordering_was_told(pipeline, &parked, base.now_us);
            let sessions = checks.expiry.sessions();
            // From then on nobody expires.
            if !self.is_asked_to_stop {
                let nobody_is = (checks.overdue).turn_ends(pipeline, sessions, base.now_us);
                violation = violation.and(nobody_is);
            }
            let last = checks.truth.last();
            checks.times.turn_ended(base.now_us, last);
        }
        violation?;
        self.refuses_for_a_reason(base)?;
        if core == self.ordering() {
            self.waits_for_a_spare(base)?;
        }
        self.collect_ends(core, base, network, checks)?;
        let has_read_handshake = std::mem::take(&mut base.has_read_handshake);
        if has_read_handshake && let Some(takes) = base.holds_next.take() {
            checks.expiry.stalled();
            self.stall(usize::from(core), base.now_us + takes, base.now_us);
        }
        if is_counted {
            self.counts_what_is_held(core)?;
        }
        // Who stops reads nothing any more, whose replica has to catch up nothing yet, and a crowded core little.
        let reads = !(self.is_asked_to_stop || self.was_stalled || base.crowded);
        if tick && reads {
            self.lets_go(core, base.now_us, network, checks)?;
        }
        if outcome.is_err() || base.disk.crashed() {
            let outcome = outcome.map(drop).map_err(|e| e.to_string());
            return self.after_member(outcome, base, network, checks);
        }
        let mut again = outcome.unwrap_or(false);
        if again || !network.kernels[usize::from(core)].edges.is_empty() {
            self.turn_soon(core, base);
        }
        let next_tick = self.cores[usize::from(core)].next_tick;
        self.turn_in(core, next_tick.saturating_sub(base.now_us), base);
        if core == self.ordering() {
            again |= self.begin_sync(again, base);
            self.begin_jobs(base);
            if base.rng.u32(0..50) == 0 {
                self.remember_body(checks)?;
            }
        }
        if base.disk.crashed() {
            return self.after_member(Ok(()), base, network, checks);
        }
        self.drain(core, again, base, network, checks)
    }

    /// What was held is given back: behind a turn, however it has ended.
    fn counts_what_is_held(&self, core: u16) -> Result<(), String> {
        let member = self.member.as_ref().expect("it made a turn");
        if let Some(serving) = member.serving.get(usize::from(core)) {
            checks::by_connections(serving).map_err(|e| format!("core {core}: {e}"))?;
        }
        if core != self.ordering() {
            return Ok(());
        }
        if let Some(ordering) = &member.ordering {
            checks::by_replicas(&ordering.orderer)?;
        }
        checks::by_requests(&member.member().pipeline)
    }

    /// Connections that are over end, where the server would read.
    fn lets_go(
        &self,
        core: u16,
        now_us: u64,
        network: &Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let member = self.member.as_ref().expect("it made a turn");
        let Some(serving) = member.serving.get(usize::from(core)) else {
            return Ok(());
        };
        let reading = serving.served.shard().connections().filter(|c| c.reading);
        let ports = reading.map(|c| c.peer.port);
        let over = ports.filter(|port| {
            let of = network.connections.get(usize::from(*port));
            of.is_some_and(Connection::is_over)
        });
        checks.lingering.tick_ends(core, over, now_us)
    }

    /// Writes are refused only while there is no spare because the last one could not be made, and no longer than
    /// until it is time to have tried again.
    fn refuses_for_a_reason(&mut self, base: &mut Base) -> Result<(), String> {
        let member = self.member.as_ref().expect("it made a turn");
        let refused = member.member().pipeline.counters().refused;
        let newly = refused - std::mem::replace(&mut self.refused_writes, refused);
        base.refusals += newly;
        let is_overdue = base.now_us > self.spare_is_due + base.profile.spare_us;
        match newly > 0 {
            true if !base.short.contains(&Awaited::Spare) => {
                Err(format!("{newly} writes were refused, and spares are made"))
            }
            true if is_overdue => Err(format!(
                "{newly} writes were refused, and no spare is tried again"
            )),
            _ => Ok(()),
        }
    }

    /// The connections that a core has ended in its turn, with what was known then.
    fn collect_ends(
        &mut self,
        core: u16,
        base: &mut Base,
        network: &Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let member = self.member.as_mut().expect("it made a turn");
        let Some(serving) = member.serving.get_mut(usize::from(core)) else {
            return Ok(());
        };
        let own = &mut self.cores[usize::from(core)];
        let shard = serving.served.shard_mut();
        let rounds = shard.rounds();
        checks.expiry.reported(core, rounds);
        let before = own.ended;
        while let Some(end) = shard.poll_end() {
            own.ended += 1;
            base.counters.ends.count(end.why);
            self.ends
                .extend(Ended::of(core, &end, rounds, own, network));
        }
        let stats = shard.stats();
        own.watch_bytes = stats.watch_bytes;
        own.shown = serving.served.tree().last_zxid();
        match own.ended == before || stats.ends.total() == own.ended {
            true => Ok(()),
            false => Err(format!(
                "{} connections have ended, and {} were counted",
                own.ended,
                stats.ends.total()
            )),
        }
    }

    /// A core that serves; inline it orders too. True if there is more to do at once.
    fn serve(
        &mut self,
        core: u16,
        tick: bool,
        said: &mut Vec<ToShards>,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> (Result<bool, Fatal>, Result<(), String>) {
        let now = base.now();
        let own = &mut self.cores[usize::from(core)];
        let member = self.member.as_mut().expect("its own event");
        let (serving, syncs) = (&mut member.serving[usize::from(core)], &mut member.syncs);
        member.shard_drains[usize::from(core)].before_turn(&member.drain, serving);
        look(core, own, tick, serving, base, network, checks);
        let mut sockets = KernelSockets {
            core,
            base,
            network,
            checks,
            exhausted: false,
            violation: Ok(()),
        };
        let mut observe = |down: &ToShards| said.push(down.clone());
        let letters = std::mem::take(&mut own.letters);
        let turn = || -> Result<Turned, Fatal> {
            for letter in letters {
                if matches!(letter, Letter::Synced { here: false, .. }) {
                    syncs.ended(now);
                }
                read_letter(letter, serving, &mut sockets, &mut observe, now)?;
            }
            let turned = serving.turn(tick, now, &mut sockets, &mut observe)?;
            if turned.served_others {
                syncs.served_others(now);
            }
            Ok(turned)
        };
        let turned = turn();
        let (exhausted, violation) = (sockets.exhausted, sockets.violation);
        own.exhausted |= exhausted;
        if turned.as_ref().is_ok_and(|turned| turned.wake_ordering) {
            self.turn_soon(self.ordering(), base);
        }
        (turned.map(|turned| turned.again), violation)
    }

    /// The core that orders for shards, and accepts for them. True if there is more to do at once.
    fn order(
        &mut self,
        tick: bool,
        said: &mut Vec<ToShards>,
        base: &mut Base,
        network: &mut Network,
    ) -> Result<bool, Fatal> {
        let mut woken = Vec::new();
        let accepted = self.accept(tick, base, network);
        let letters = std::mem::take(&mut self.cores.last_mut().expect("it orders").letters);
        let member = self.member.as_mut().expect("its own event");
        let core = member.ordering.as_mut().expect("with shards");
        let now = base.now();
        let turn = || -> Result<bool, Fatal> {
            for letter in letters {
                match letter {
                    Letter::Synced { outcome, here } => {
                        if !here {
                            member.syncs.ended(now);
                        }
                        core.orderer.member.synced(outcome, now)?;
                    }
                    Letter::Done(done) => drop(core.orderer.job_done(done)?),
                    Letter::Connection(_) => unreachable!("this core serves nobody"),
                }
            }
            if let Some(until) = accepted {
                let pipeline = &mut core.orderer.member.pipeline;
                pipeline.accepted_until(until, now.tick);
            }
            if tick {
                core.orderer.member.tick(now)?;
            }
            let mut observe = |down: &ToShards| said.push(down.clone());
            core.turn(now, &mut observe, &mut |shard| woken.push(shard.0))
        };
        let again = turn();
        for shard in woken {
            self.turn_soon(shard, base);
        }
        Ok(again? || self.cores.last().expect("it orders").listener_ready)
    }

    /// Hands who waits in the backlog to the shards. Once nobody does: whoever had come by the
    /// returned moment was handed over.
    fn accept(&mut self, tick: bool, base: &mut Base, network: &mut Network) -> Option<Tick> {
        let ordering = self.ordering();
        let own = &mut self.cores[usize::from(ordering)];
        let kernel = &mut network.kernels[usize::from(ordering)];
        own.listener_ready |= tick && std::mem::take(&mut own.exhausted);
        let is_told = tells(kernel, base);
        own.listener_ready |= is_told && is_reported(&mut kernel.listener, own.last_turn, base);
        // Nobody listens any more once input has ended.
        let listens = self
            .member
            .as_ref()
            .is_some_and(|member| !member.drain.is_asked());
        own.listener_ready &= listens;
        let last_turn = own.last_turn;
        for _ in 0..ACCEPTS {
            let own = &mut self.cores[usize::from(ordering)];
            if !own.listener_ready {
                break;
            }
            if !base.calm && !network.backlog.is_empty() && base.rng.u32(0..60) == 0 {
                base.counters.exhausted += 1;
                (own.exhausted, own.listener_ready) = (true, false);
                break;
            }
            match network.accept() {
                None => own.listener_ready = false,
                Some(Err(())) => {}
                Some(Ok(connection)) => {
                    let shard = base.rng.u16(0..ordering);
                    self.tell(shard, Letter::Connection(connection), base);
                }
            }
        }
        let own = &self.cores[usize::from(ordering)];
        let nobody_waits = !own.listener_ready && !own.exhausted && is_told;
        nobody_waits.then_some(Tick(last_turn / 1000))
    }

    // ---- the disk, and what runs beside the cores ----

    /// Begins a sync if one is due, on the core that orders or beside it. True if the core should look
    /// at its sockets again before.
    fn begin_sync(&mut self, input_waits: bool, base: &mut Base) -> bool {
        let ordering = self.ordering();
        let member = self.member.as_mut().expect("its own event");
        failing::arm(base, Work::Sync);
        let step = member.begin_sync(input_waits, base.now());
        failing::disarm(base, Work::Sync);
        let (ticket, place) = match step {
            SyncStep::Nothing => return false,
            SyncStep::LookAgain => {
                let delay = base.rng.u64(1..20);
                self.turn_in(ordering, delay, base);
                return true;
            }
            SyncStep::Begin(ticket, place) => (ticket, place),
        };
        let takes = match base.rng.u32(0..400) {
            _ if base.profile.has_lister => base.rng.u64(60..1_000),
            0 => base.rng.u64(5_000..120_000),
            1..10 if !self.has_fast_disk => base.rng.u64(5_000..120_000),
            _ if self.has_fast_disk => base.rng.u64(60..450),
            _ => base.rng.u64(60..2_000),
        };
        let hangs = self.disk_hangs_until.saturating_sub(base.now_us);
        let here = place == SyncPlace::Here;
        self.cores[usize::from(ordering)].is_syncing = here;
        if hangs > takes {
            self.sync_hangs_until = base.now_us + hangs;
        }
        let takes = takes.max(hangs);
        self.sync_until = base.now_us + takes;
        if takes > LONG_SYNC_US {
            self.spare_is_due += takes;
        }
        // On the core a ticket is written, unless a write has failed.
        if here || ticket.is_written() || base.rng.bool() {
            let began = ticket.is_written().then(|| base.disk.sync_begins());
            let event = Event::Sync {
                ticket,
                here,
                began,
            };
            base.at(takes, event);
        } else {
            let then_us = base.rng.u64(0..=takes);
            base.at(takes - then_us, Event::Write { ticket, then_us });
        }
        false
    }

    /// Begins what is due: of each queue one job at a time, as the member sees to.
    fn begin_jobs(&mut self, base: &mut Base) {
        let member = self.member.as_mut().expect("its own event");
        loop {
            let job = match &mut member.ordering {
                Some(core) => core.orderer.poll_job(),
                None => member.member_mut().poll_job(),
            };
            let Some(job) = job else { break };
            let takes = match &job {
                Job::Snapshot { .. } | Job::Purge { .. } | Job::Save(_) => {
                    base.rng.u64(1_000..base.profile.snapshot_us)
                }
                Job::Remove(_) | Job::Witness(_) => 100,
                Job::Spare(_) => base.rng.u64(100..base.profile.spare_us),
                Job::ReadLog(_) => base.rng.u64(500..30_000),
                Job::OfMember(_) => unreachable!("the server stands alone"),
            };
            self.spares_out += u32::from(matches!(job, Job::Spare(_)));
            base.at(takes, Event::Job(job));
        }
    }

    /// Who waits for room in the log waits for a spare that is being made, whatever else is under way.
    fn waits_for_a_spare(&mut self, base: &Base) -> Result<(), String> {
        let pipeline = &self
            .member
            .as_ref()
            .expect("it made a turn")
            .member()
            .pipeline;
        let needs =
            pipeline.waiting() > 0 && pipeline.log().room_for(Need::Growing, 0) == Room::Wait;
        let since = std::mem::replace(&mut self.looked_at_us, base.now_us);
        if !needs || self.spares_out > 0 {
            self.waited_in_vain_us = 0;
            return Ok(());
        }
        // A pause is not the server's.
        self.waited_in_vain_us += (base.now_us - since).min(TICK_MS * 1000);
        match self.waited_in_vain_us > IN_VAIN_MAX_US {
            true => Err("requests wait for a spare segment, and none is being made".into()),
            false => Ok(()),
        }
    }
}

/// All of a ticket, in the order of a driver that has the kernel make each task beside the core.
fn work_off(mut ticket: SyncTicket<SimStorage>) -> SyncOutcome {
    let mut done = 0;
    loop {
        if let Some(unwritten) = ticket.take_unwritten(done) {
            let Unwritten {
                file,
                offset,
                bytes,
            } = unwritten;
            if let Err(error) = file.write_at(offset, &bytes) {
                return ticket.done(done + 1, Err(error));
            }
            ticket.written(done, bytes);
        }
        let storage = ticket.storage();
        let ended = ticket.tasks().nth(done).map(|task| match task {
            SyncTask::File(file) => file.sync(),
            SyncTask::Name(name) => storage.rename(&name.spare, &name.segment),
            SyncTask::Directory => storage.sync_dir(),
        });
        done += usize::from(ended.is_some());
        match ended {
            None => return ticket.done(done, Ok(())),
            Some(Err(error)) => return ticket.done(done, Err(error)),
            Some(Ok(())) => {}
        }
    }
}

/// What recovery read is durable, and behind what it tore off the log goes on, before anything new is
/// appended: a second recovery, after a power cut right now, finds a whole log with the same end.
fn survives_a_power_cut(
    end: Position,
    snapshot: Zxid,
    is_damaged: bool,
    base: &mut Base,
) -> Result<(), String> {
    let copy = base.disk.after_power_cut(&mut base.rng.fork());
    let known = Known {
        after: snapshot,
        witness: None,
    };
    let scan = Scan::read(&copy, &known, |_| Ok::<(), RecoveryError>(()));
    let scan = scan.map_err(|e| format!("power cut after recovery: {e}"))?;
    let found = scan.end().map(|end| end.position);
    if scan.is_torn() && !is_damaged || found != Some(end) {
        return Err(format!(
            "power cut after recovery: the log ended at {end:?}, now at {found:?}, torn: {}",
            scan.is_torn()
        ));
    }
    Ok(())
}

/// Since when a request of a session lies in the input of a core and is not executed, µs.
fn parked_since(
    session: SessionId,
    serving: &[ServingCore<SimStorage>],
    network: &Network,
) -> Option<u64> {
    let shards = serving.iter().map(|core| core.served.shard());
    let connections = shards.flat_map(|shard| shard.connections());
    let own = connections.filter(|c| c.session.as_ref().is_some_and(|own| own.session == session));
    let since = own.filter_map(|c| {
        let of = network.connections.get(usize::from(c.peer.port))?;
        of.parked_since(c.received)
    });
    since.min()
}

/// However often it was started, a store has so many files.
fn is_compact(base: &Base, is_damaged: bool) -> Result<(), String> {
    let names = base.disk.names();
    let segments = names.iter().filter(|name| name.starts_with("log.")).count();
    match base.profile.is_restless && !is_damaged && segments > SEGMENTS_ENOUGH {
        true => Err(format!("{segments} segments after so many starts")),
        false => Ok(()),
    }
}

fn is_full(error: &StartError) -> bool {
    match error {
        StartError::Io(e) => e.kind() == io::ErrorKind::StorageFull,
        StartError::Unreadable(e) => snap_is_full(e),
    }
}

pub(super) fn snap_is_full(error: &SnapError) -> bool {
    match error {
        SnapError::Io(e) | SnapError::File(SnapshotError::Io(e)) => {
            e.kind() == io::ErrorKind::StorageFull
        }
        SnapError::NoRoom { .. } => true,
        _ => false,
    }
}
