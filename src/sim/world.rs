//! One simulated machine with its member, its network and its clients, on virtual time: whose event
//! it is, and the life of a run.

use super::base::{Base, Event, TICK_MS};
use super::checks::{COVERED_AFTER_US, Checks};
use super::config::{TIMEOUT_MAX_MS, size};
use super::draw::TTL_MAX_MS;
use super::faults;
use super::host::Host;
use super::network::Network;
use super::operations::Operations;
use super::outcome::{Fault, Options, Outcome};
use crate::pipeline::ReaperConfig;
use crate::types::Zxid;

/// How long after its timeout a silent session may still be there, ms: its deadline is a multiple of a
/// tickTime, sessions heard of and watermarks are reported every half of one, closeSession is committed.
const EXPIRY_TAKES_MS: u64 = 10 * TICK_MS;

/// How long the delete of a container or TTL node may take beside its due time, ms: ticks, a restart, syncs.
const REAPING_TAKES_MS: u64 = 20 * TICK_MS;

struct World {
    base: Base,
    host: Host,
    network: Network,
    operations: Operations,
    checks: Checks,
}

/// Runs one seed to its end, or to the first broken promise.
pub fn run(options: Options) -> Outcome {
    let mut world = World::new(options);
    let violation = world.live().err();
    let base = &world.base;
    let violation = violation.filter(|_| !base.is_over);
    let mut counters = base.counters;
    counters.disk = base.disk.faults();
    if base.profile.has_two_disks {
        counters.disk.add(base.data.faults());
    }
    let (first, last) = (world.host.start.epoch(), world.checks.truth.last().epoch());
    // Behind an accepted loss there is another epoch, too.
    let jumps = counters.faults.of(Fault::LossAccepted) > 0;
    counters.rollovers = u64::from(last > first && !jumps);
    let ms = base.now_us / 1000;
    let (outcomes, told) = (base.outcomes.clone(), base.told.clone());
    Outcome {
        hash: base.transcript.finish(),
        effects: base.disk.effects(),
        virtual_ms: ms,
        counters,
        outcomes,
        told,
        violation: violation.map(|v| format!("at {ms} ms: {v}")),
    }
}

impl World {
    fn new(options: Options) -> World {
        let mut rng = fastrand::Rng::with_seed(options.seed);
        let start = match rng.u32(0..8) {
            0 => Zxid::new(rng.u32(0..9), Zxid::COUNTER_MAX - rng.u32(1..150)),
            _ => Zxid::ZERO,
        };
        let clients = match options.short {
            true => 2,
            false => rng.usize(2..7),
        };
        let firehose = !options.short && rng.u32(0..5) == 0;
        let buffers_max = match rng.bool() {
            true => 1 << 20,
            false => size(&mut rng, 64 << 10),
        };
        let cores = match options.shards {
            0 => 1,
            shards => shards + 1,
        };
        let base = Base::new(rng, options);
        let buffers = match base.profile.has_lister || base.profile.has_many_lists {
            true => 1 << 16..=1 << 20,
            false => 1..=buffers_max,
        };
        World {
            checks: Checks::new(start, &base.profile),
            operations: Operations::new(clients, firehose, &base.profile),
            base,
            host: Host::new(options.shards, start),
            network: Network::new(cores, buffers),
        }
    }

    /// The whole life: work under faults, a calm phase in which everything must be answered, the
    /// end of all sessions, of all containers and TTL nodes that are due, a clean stop and a last start.
    fn live(&mut self) -> Result<(), String> {
        self.host.prepare_disk(&self.base);
        self.base.disk.crash_at(self.base.options.crash_at);
        self.boot()?;
        self.operations.begin(&mut self.base);
        let busy_ms = match self.base.options.short {
            true => 400,
            false if self.base.profile.has_lister => 1_000,
            false if self.base.profile.has_many_lists => 1_200,
            false => self.base.rng.u64(800..3000),
        };
        faults::begin(&mut self.base);
        self.run_until(busy_ms * 1000)?;
        self.calm_down()?;
        self.end_sessions()?;
        self.what_is_due_goes()?;
        self.stop_and_start()
    }

    fn boot(&mut self) -> Result<(), String> {
        let World {
            base,
            host,
            network,
            checks,
            ..
        } = self;
        host.boot(base, network, checks)
    }

    fn run_until(&mut self, end_us: u64) -> Result<(), String> {
        while let Some(event) = self.base.next_event(end_us) {
            self.step(event)?;
        }
        Ok(())
    }

    fn run_for(&mut self, time_us: u64) -> Result<(), String> {
        self.run_until(self.base.now_us + time_us)
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        let World {
            base,
            host,
            network,
            operations,
            checks,
        } = self;
        match event {
            Event::ToServer { connection, bytes } => {
                let came = network.receive(connection, &bytes, base.now_us);
                let stalled = host.was_stalled;
                operations.reached_server(connection, came, base.now_us, stalled, network, checks);
            }
            Event::Window { connection } => {
                let came = network.fill_window(connection, base.now_us);
                let stalled = host.was_stalled;
                operations.reached_server(connection, came, base.now_us, stalled, network, checks);
            }
            Event::ToClient { connection } => match network.reach_client(connection, base) {
                Some(bytes) if bytes.is_empty() => operations.close_at_client(connection, network),
                Some(bytes) => {
                    operations.reach_client(connection, &bytes, base, network, checks)?;
                }
                None => {}
            },
            Event::ClosedByClient { connection, reset } => {
                if reset {
                    checks.expiry.left(connection);
                }
                network.closed_by_client(connection, reset, base.now_us);
            }
            Event::Step { client } => {
                let (listens, truth) = (host.member.is_some(), &mut checks.truth);
                operations.step(client, listens, base, network, truth);
                operations.is_answered(client, base)?;
            }
            Event::Stop if base.calm => {}
            Event::Stop => host.ask_to_stop(base, checks),
            Event::Fault => faults::strike(base, host, checks)?,
            Event::Clock {
                wall_ms,
                every_us,
                until_us,
            } => faults::set_clock_again(base, wall_ms, every_us, until_us),
            Event::Room => faults::make_room(base),
            Event::Restart => host.boot(base, network, checks)?,
            event => {
                host.step(event, base, network, checks)?;
                let ends = std::mem::take(&mut host.ends);
                for ended in &ends {
                    ended.had_a_reason(&ends, base, network, operations, checks)?;
                }
            }
        }
        host.wake(base, network);
        Ok(())
    }

    fn calm_down(&mut self) -> Result<(), String> {
        faults::calm_down(&mut self.base, &mut self.host);
        self.operations.calm_down(&mut self.base, &mut self.network);
        for _ in 0..200 {
            self.run_for(50_000)?;
            let hangs = self.host.has_sync_that_hangs(&self.base);
            if self.host.member.is_some() && !self.operations.is_waiting() && !hangs {
                return Ok(());
            }
        }
        Err(format!(
            "not live: 10 s after the last fault clients wait for replies {:?}",
            self.operations.waiting()
        ))
    }

    /// Everybody falls silent; every session must be gone soon after its timeout, which counts from the moment
    /// at which the server has read the last byte that was under way, and its ephemerals with it.
    fn end_sessions(&mut self) -> Result<(), String> {
        self.operations.fall_silent();
        let mut silent_since = self.base.now_us;
        loop {
            let before = self.base.incarnation;
            let end = silent_since + (TIMEOUT_MAX_MS as u64 + EXPIRY_TAKES_MS) * 1000;
            while self.base.now_us < end && self.base.incarnation == before {
                self.run_until(end.min(self.base.now_us + TICK_MS * 1000))?;
                // The rest of a large request comes as the window lets it, and is read as budgets let it.
                self.nobody_outlives(silent_since.max(self.network.last_read_us), before)?;
            }
            let member = self.host.member.as_ref();
            let is_empty = member.map(|member| member.tree().sessions().len() == 0);
            silent_since = match is_empty {
                Some(true) if self.base.incarnation == before => {
                    return self.host.compare_tree(&mut self.checks);
                }
                Some(_) if self.base.incarnation == before => self.network.last_read_us,
                // After a restart every session has its full timeout again.
                _ => self.base.now_us,
            };
        }
    }

    /// Nobody has a session whose timeout has passed since the clients fell silent, unless the process was
    /// started since `incarnation`.
    fn nobody_outlives(&self, silent_since: u64, incarnation: u32) -> Result<(), String> {
        let Some(member) = &self.host.member else {
            return Ok(());
        };
        if self.base.incarnation != incarnation {
            return Ok(());
        }
        let silent_ms = self.base.now_us.saturating_sub(silent_since) / 1000;
        let expiry = &self.checks.expiry;
        let left = member.tree().sessions();
        let mut timeouts = left.map(|(id, created)| (id, expiry.timeout_max(id).max(created)));
        match timeouts.find(|(_, timeout_ms)| silent_ms >= *timeout_ms as u64 + EXPIRY_TAKES_MS) {
            Some((id, timeout_ms)) => Err(format!(
                "session {id} (timeout {timeout_ms} ms) is there after a silence of {silent_ms} ms"
            )),
            None => Ok(()),
        }
    }

    /// The wall clock is set right, and nobody asks for anything: whatever is a container or a TTL node, and has
    /// no children, or only such, is gone soon after it is due.
    fn what_is_due_goes(&mut self) -> Result<(), String> {
        self.base.wall_offset = 0;
        let ReaperConfig {
            check_interval_ms,
            per_minute_max,
            never_used_ms,
        } = self.base.profile.reaper;
        let due_ms = TTL_MAX_MS.max(never_used_ms) as u64;
        let nodes = self.checks.truth.paths().count() as u64;
        let pace_ms = 60_000 / per_minute_max;
        // Each look finds the parents of what the one before has deleted; no path has more than three nodes.
        let enough_ms = due_ms + 4 * check_interval_ms + nodes * pace_ms + REAPING_TAKES_MS;
        let (mut end, mut incarnation) = (0, None);
        loop {
            if incarnation != Some(self.base.incarnation) {
                incarnation = Some(self.base.incarnation);
                end = self.base.now_us + enough_ms * 1000;
            }
            let left = self.checks.truth.goes_at_last().next();
            let Some((path, node)) = left else {
                return self.host.compare_tree(&mut self.checks);
            };
            if self.base.now_us >= end {
                return Err(format!("{path} is due and stays: {node:?}"));
            }
            self.run_for(TICK_MS * 1000)?;
        }
    }

    /// A clean stop, or idleness and a power cut; either way everything is known to be durable, so
    /// a flipped bit must be noticed wherever it is.
    fn stop_and_start(&mut self) -> Result<(), String> {
        if self.base.rng.bool() {
            self.run_for(COVERED_AFTER_US + 50_000)?;
        }
        self.replicas_become_equal()?;
        self.everybody_leaves()?;
        let last = self.checks.truth.last();
        let losses = self.base.counters.faults.of(Fault::LossAccepted);
        if self.checks.rot.is_idle(self.base.now_us) && self.base.rng.bool() {
            let (base, checks) = (&mut self.base, &mut self.checks);
            self.host.power_off(last, base, &mut self.network, checks)?;
            self.boot()?;
        } else {
            self.drain()?;
        }
        // Or behind what an operator has left of it since.
        let last = match self.base.counters.faults.of(Fault::LossAccepted) > losses {
            true => self.checks.truth.last(),
            false => last,
        };
        match self.host.member.as_ref() {
            Some(member) if member.tree().last_zxid() == last => {
                self.host.compare_tree(&mut self.checks)
            }
            Some(member) => Err(format!(
                "stopped at {last}, started at {}",
                member.tree().last_zxid()
            )),
            None => Err("did not start after it was stopped".into()),
        }
    }

    /// The operator stops the process, and starts it again.
    fn drain(&mut self) -> Result<(), String> {
        let before = self.base.incarnation;
        self.host.ask_to_stop(&mut self.base, &mut self.checks);
        for _ in 0..300 {
            if self.base.incarnation != before && self.host.member.is_some() {
                break;
            }
            self.run_for(10_000)?;
        }
        match self.base.incarnation == before {
            true => Err("3 s after it was asked to the process has not stopped".into()),
            false => Ok(()),
        }
    }

    /// Every way in which a connection can end has given back what it had.
    fn everybody_leaves(&mut self) -> Result<(), String> {
        self.operations.leave(&mut self.base, &mut self.network);
        self.host.wake(&mut self.base, &mut self.network);
        for _ in 0..20 {
            if self.host.is_empty(&self.network).is_ok() {
                break;
            }
            self.run_for(50_000)?;
        }
        self.host.is_empty(&self.network)
    }

    /// Whoever was held still or detached is soon where the others are.
    fn replicas_become_equal(&mut self) -> Result<(), String> {
        let equal = |host: &Host| {
            let member = host.member.as_ref().ok_or("no member to stop")?;
            member.replicas_are_equal()
        };
        for _ in 0..20 {
            if equal(&self.host).is_ok() {
                break;
            }
            self.run_for(50_000)?;
        }
        equal(&self.host)
    }
}
