//! From a checked machine to a served port, and back.
//!
//! The order of start-up, and why: the directories are locked before anything in
//! them is read; the state is recovered and the log begun before the port is listened on, so that
//! nobody meets a server that does not serve; sessions get their full timeouts at that moment. What syncs
//! cost on the disk is measured behind that, in the background: a slow disk is where a start has to be fast.

use super::background::Background;
use super::connection::ClientSockets;
use super::disk::Disk;
use super::exit::{self, Exit};
use super::mailbox::{Mailbox, Mailboxes};
use super::order::OrderingLoop;
use super::peers::{self, PeerSockets, Ports};
use super::preflight::Ready;
use super::process::Process;
use super::rebuild::Beside;
use super::serve::ServingLoop;
use crate::config::{Config, DigestAlgorithm, Ensemble, InlineSync, Resolved, RingFeatures};
use crate::log::LogConfig;
use crate::member::{Joined, Member, MemberConfig, SeatConfig, StartError};
use crate::peers::{Addresses, Peers};
use crate::pipeline::{Fatal, PipelineConfig, ReaperConfig, TreeMemory};
use crate::placement::{
    Budgets, Drain, Inline, Orderer, OrderingCore, Progress, Replica, ReplicaPort, ReplicaRings,
    RingLimits, Served, ServingCore, SyncPolicy, rings,
};
use crate::proto::peer::Address;
use crate::rt::clock::{self, Clock};
use crate::rt::net::{Bound, Listener};
use crate::rt::ring::{Features, Ring};
use crate::rt::signals::{self, Stop};
use crate::rt::storage::FsStorage;
use crate::rt::{probe, threads};
use crate::shard::{AuthRules, ShardConfig};
use crate::snapshot::CHANGES_BYTES_MAX;
use crate::tree::{self, Rules};
use crate::types::ShardId;
use crate::zab::Settings;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long a stop waits for what is under way, ms.
const DRAIN_MS: u64 = 5000;

/// Requests between a shard and the core that orders. What does not fit waits in the shard, where
/// it is bounded by credits.
const REQUESTS_MAX: usize = 1024;

/// Why the server stopped, if nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state could not be recovered.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The executor or a thread could not start.
    #[error("the server can't start: {0}")]
    Runtime(String),
    /// Another process has begun to listen since the start-up checks.
    #[error("the client port is in use ({0}): stop the other server, or set another clientPort")]
    PortInUse(io::Error),
    /// A port for other servers can't be bound.
    #[error(
        "{0}, a port for other servers, can't be bound ({1}): stop who uses it, or correct the server's own line"
    )]
    PeerPort(String, io::Error),
    /// The log could not be sealed at the end.
    #[error("the log could not be sealed at the end: {0}; the next start recovers it")]
    Seal(io::Error),
}

impl From<&RunError> for Exit {
    fn from(error: &RunError) -> Exit {
        match error {
            RunError::Start(StartError::Unreadable(e)) => exit::of_snap(e),
            RunError::Start(StartError::Io(e)) => exit::of_io(e),
            RunError::Runtime(_) => Exit::Unexpected,
            RunError::PortInUse(_) => Exit::PortInUse,
            RunError::PeerPort(_, e) if e.kind() == io::ErrorKind::AddrInUse => Exit::PortInUse,
            RunError::PeerPort(..) => Exit::CannotListen,
            RunError::Seal(e) => exit::of_io(e),
        }
    }
}

/// Serves until a signal asks to stop; a second signal ends the process at once. `ensemble`: the one of which the server
/// is a member, or it stands alone. `on_fatal` ends the process when nothing may be said any more.
///
/// # Errors
/// [`RunError`].
pub fn run(
    resolved: Resolved,
    ensemble: Option<Ensemble>,
    ready: Ready,
    on_fatal: fn(&Fatal) -> !,
) -> Result<(), RunError> {
    let runtime = |e: io::Error| RunError::Runtime(e.to_string());
    let clock = Clock::default();
    for warning in resolved.warnings.iter().chain(&ready.warnings) {
        tracing::warn!("{warning}");
    }
    let Ready {
        locks,
        data,
        log,
        bound,
        ..
    } = ready;
    let config = resolved.config;
    let placement = place(&config, ensemble.is_some());
    let ports = ensemble.as_ref().map(bind_ports).transpose()?;
    let mut beside = Beside::start().map_err(runtime)?;
    let mut chosen = member_config(&config, placement.shards);
    let identities = Box::new(clock::random);
    let (member, summary) = match &ensemble {
        None => Member::start(chosen, &data, &log, identities, clock.now(), &mut beside)?,
        Some(ensemble) => {
            let settings = ensemble.settings.clone();
            chosen.pipeline.creator = settings.candidate.sid.0 as u8;
            let seat = SeatConfig {
                settings,
                is_founding: false,
            };
            let directories = (&data, &log);
            let now = clock.now();
            Member::join(chosen, seat, directories, identities, now, &mut beside)?
        }
    };
    beside.end();
    let configured = config.client_address.port();
    let client_port = bound.address().map_or(configured, |address| address.port());
    let process = Process::new(
        config,
        client_port,
        (
            placement.shards,
            ensemble
                .as_ref()
                .map_or(0, |ensemble| ensemble.network.servers.len()),
        ),
        summary,
        (data, log),
        clock,
        on_fatal,
    );
    let process = Arc::new(process);
    let mailboxes = Arc::new(Mailboxes::new(placement.shards).map_err(runtime)?);
    let stop = signals::watch(mailboxes.ordering.bell.clone()).map_err(runtime)?;
    let background = Background::start().map_err(runtime)?;
    say_what_started(&process, &placement, &bound);
    let cores = Cores {
        process,
        mailboxes,
        background: Arc::new(background),
        placement,
    };
    let listener = bound.listen().map_err(listening)?;
    cores.background.look_at_disk(&cores.process);
    // Behind the end of the cores a background thread may still rename and remove files: nobody else gets the
    // directories before the process has ended.
    std::mem::forget(locks);
    if let Some(ensemble) = &ensemble {
        tracing::info!("{}", ensemble.describe());
    }
    cores.run(member, ensemble.zip(ports), listener, &stop)?;
    tracing::info!("stopped, the log is sealed");
    Ok(())
}

/// The ports for other servers, before anything is read: one that is taken is found at once.
fn bind_ports(ensemble: &Ensemble) -> Result<Ports, RunError> {
    let Addresses { quorum, election } = &ensemble.listens;
    let bind = |addresses: &[Address]| {
        peers::bind(addresses, ensemble.bind_attempts).map_err(|error| {
            let list: Vec<String> = addresses.iter().map(Address::to_string).collect();
            RunError::PeerPort(list.join(", "), error)
        })
    };
    Ok(Ports {
        election: bind(election)?,
        quorum: bind(quorum)?,
    })
}

fn listening(error: io::Error) -> RunError {
    match error.kind() {
        io::ErrorKind::AddrInUse => RunError::PortInUse(error),
        _ => RunError::Runtime(error.to_string()),
    }
}

/// Which cores there are, and on which CPUs.
struct Placement {
    /// Shards on cores of their own; 0: one core serves and orders.
    shards: u16,
    /// CPUs of the core that orders, then of the shards; `None`: not pinned.
    cpus: Option<Vec<usize>>,
}

impl Placement {
    fn cpu(&self, core: usize) -> Option<usize> {
        self.cpus.as_ref().map(|cpus| cpus[core])
    }

    /// For the start-up summary.
    fn text(&self) -> String {
        let pinned = match &self.cpus {
            Some(cpus) => format!(", on CPUs {:?}", &cpus[..=usize::from(self.shards)]),
            None => ", not pinned".to_owned(),
        };
        match self.shards {
            0 => format!("inline{pinned},"),
            n => format!("one core that orders and {n} that serve{pinned},"),
        }
    }
}

/// What the threads of the data cores share.
struct Cores {
    process: Arc<Process>,
    mailboxes: Arc<Mailboxes>,
    background: Arc<Background>,
    placement: Placement,
}

impl Cores {
    /// Starts the data cores, serves, drains.
    fn run(
        self,
        mut member: Member<FsStorage>,
        ensemble: Option<(Ensemble, Ports)>,
        listener: Listener,
        stop: &Arc<Stop>,
    ) -> Result<(), RunError> {
        let failed = |e: io::Error| RunError::Runtime(e.to_string());
        let drain = Arc::new(Drain::new(self.placement.shards));
        let own = Arc::new(self);
        let (rings, shards) = own.start_shards(&member, &drain).map_err(failed)?;
        let (cores, stop) = (own.clone(), stop.clone());
        let order = move || -> Result<(), RunError> {
            let mailbox = cores.mailboxes.ordering.clone();
            let mut sockets = cores
                .sockets(&mailbox, Some(listener), None)
                .map_err(failed)?;
            let ensemble = ensemble.map(|ensemble| peer_sockets(ensemble, &mailbox, &mut sockets));
            let peers = ensemble.transpose().map_err(failed)?;
            let policy = match cores.process.config.inline_sync {
                // Nobody's sign of life waits for this disk.
                _ if peers.is_some() => SyncPolicy::Never,
                InlineSync::Auto => SyncPolicy::Auto {
                    is_prompt: threads::has_short_slices(),
                },
                InlineSync::Always => SyncPolicy::Always,
                InlineSync::Never => SyncPolicy::Never,
            };
            let disk = Disk::new(policy, rings.is_none());
            member.pipeline.begin_serving(cores.process.now());
            let background = &cores.background;
            let sealed = match rings {
                None => {
                    let shard = ShardConfig {
                        is_member: peers.is_some(),
                        ..shard_config(&cores.process.config, ShardId(0), 1)
                    };
                    let served = Served::Inline(Box::new(Inline::new(member, shard)));
                    let core = cores.serving_core(served);
                    let process = cores.process.clone();
                    let serving = ServingLoop::new(core, sockets, peers, mailbox, process);
                    serving.run_inline(disk, background, &stop, DRAIN_MS)
                }
                Some((rings, progress)) => {
                    let shards = cores.placement.shards;
                    let limits = RingLimits {
                        log_bytes: cores.process.config.detached_log_bytes,
                        ..RingLimits::DEFAULT
                    };
                    let orderer = Orderer::new(member, limits, progress, shards);
                    let core = OrderingCore::new(orderer, rings, Budgets::DEFAULT);
                    let (mailboxes, process) = (cores.mailboxes.clone(), cores.process.clone());
                    let ordering = OrderingLoop::new(core, sockets, mailboxes, process, disk);
                    ordering.run(background, &drain, &stop, DRAIN_MS)
                }
            };
            sealed.map_err(RunError::Seal)
        };
        let ordering = threads::data_core("order", own.placement.cpu(0), order).map_err(failed)?;
        let outcome = ordering.join().expect("a panic ends the process");
        if outcome.is_ok() {
            // A shard that is held still does not keep the process from ending.
            shards
                .into_iter()
                .filter(|shard| shard.is_finished())
                .for_each(|shard| {
                    let _ = shard.join();
                });
        }
        outcome
    }

    /// Starts the shards; the ordering core's ends of their rings.
    #[allow(clippy::type_complexity)]
    fn start_shards(
        self: &Arc<Cores>,
        member: &Member<FsStorage>,
        drain: &Arc<Drain>,
    ) -> io::Result<(
        Option<(Vec<crate::placement::OrderingRings>, Arc<Progress>)>,
        Vec<std::thread::JoinHandle<()>>,
    )> {
        let shards = self.placement.shards;
        if shards == 0 {
            return Ok((None, Vec::new()));
        }
        let progress = Progress::new(usize::from(shards), member.tree.last_zxid());
        let progress = Arc::new(progress);
        let (mut ends, mut threads) = (Vec::new(), Vec::new());
        for n in 0..shards {
            let (end, rings) = rings(RingLimits::DEFAULT.slots(), REQUESTS_MAX);
            ends.push(end);
            let config = shard_config(&self.process.config, ShardId(n), shards);
            let replica = Replica::new(config, member.tree.clone(), progress.clone());
            let (cores, drain) = (self.clone(), drain.clone());
            let serve = move || cores.serve_shard(replica, rings, &drain);
            let cpu = self.placement.cpu(usize::from(n) + 1);
            threads.push(threads::data_core(&format!("shard-{n}"), cpu, serve)?);
        }
        Ok((Some((ends, progress)), threads))
    }

    /// The life of a shard's thread.
    fn serve_shard(&self, replica: Replica, rings: ReplicaRings, drain: &Drain) {
        let shard = replica.id();
        let mailbox = self.mailboxes.shards[usize::from(shard.0)].clone();
        let sockets = self.sockets(&mailbox, None, Some(mailbox.clone()));
        let sockets = sockets.map_err(|e| Fatal::Shard(format!("shard {shard}: {e}")));
        let sockets = self.process.check(sockets);
        let served = Served::Replica(Box::new(ReplicaPort::new(replica, rings)));
        let core = self.serving_core(served);
        let serving = ServingLoop::new(core, sockets, None, mailbox, self.process.clone());
        serving.run_replica(&self.mailboxes, drain);
    }

    fn serving_core(&self, served: Served<FsStorage>) -> ServingCore<FsStorage> {
        let closing_ms = self.process.config.session_timeout_max_ms.max(0) as u64;
        ServingCore::new(served, Budgets::DEFAULT, closing_ms, self.process.now())
    }

    /// The ring and the sockets of the calling thread's core.
    fn sockets(
        &self,
        mailbox: &Arc<Mailbox>,
        listener: Option<Listener>,
        own: Option<Arc<Mailbox>>,
    ) -> io::Result<ClientSockets> {
        let features = match self.process.config.ring {
            RingFeatures::Auto => Features::Auto,
            RingFeatures::Plain => Features::Plain,
        };
        let ring = Ring::new(features, mailbox.bell.clone()).map_err(io::Error::other)?;
        Ok(ClientSockets::new(
            ring,
            listener,
            self.process.clone(),
            self.background.words.clone(),
            self.mailboxes.clone(),
            own,
        ))
    }
}

/// The connections of a member of an ensemble, on the core that orders.
fn peer_sockets(
    (ensemble, ports): (Ensemble, Ports),
    mailbox: &Arc<Mailbox>,
    sockets: &mut ClientSockets,
) -> io::Result<Box<PeerSockets<FsStorage>>> {
    let Settings {
        candidate,
        patience,
        ..
    } = ensemble.settings;
    let joined = Joined::new(Peers::new(candidate.sid, patience, ensemble.network));
    let (bell, sync) = (
        mailbox.bell.clone(),
        Duration::from_millis(patience.sync_ms),
    );
    PeerSockets::new(joined, ports, bell, sync, &mut sockets.ring).map(Box::new)
}

/// A shard's part of what the process may use.
fn shard_config(config: &Config, id: ShardId, shards: u16) -> ShardConfig {
    let part = |whole: usize| whole / usize::from(shards);
    ShardConfig {
        in_flight_max: part(config.outstanding_max).max(1),
        request_bytes_max: part(config.request_bytes_max),
        output_bytes_max: part(config.output_bytes_max),
        watch_bytes_max: part(config.watch_bytes_max),
        identities_max: config.identities_max,
        auth: AuthRules {
            digest_algorithm: digest_algorithm(config.digest_algorithm),
            super_digest: config.super_digest.as_deref().map(Arc::from),
            skip_acl: config.skip_acl,
            required_schemes: (config.required_schemes.iter())
                .map(|scheme| Arc::from(&**scheme))
                .collect(),
        },
        reply_bytes_max: ShardConfig::reply_bytes_for(config.jute_maxbuffer),
        tick_time_ms: config.tick_time_ms,
        session_timeout_min_ms: config.session_timeout_min_ms,
        session_timeout_max_ms: config.session_timeout_max_ms,
        frame_max: config.jute_maxbuffer,
        ..ShardConfig::new(id)
    }
}

fn digest_algorithm(configured: DigestAlgorithm) -> tree::DigestAlgorithm {
    match configured {
        DigestAlgorithm::Sha1 => tree::DigestAlgorithm::Sha1,
        DigestAlgorithm::Sha224 => tree::DigestAlgorithm::Sha224,
        DigestAlgorithm::Sha256 => tree::DigestAlgorithm::Sha256,
        DigestAlgorithm::Sha384 => tree::DigestAlgorithm::Sha384,
        DigestAlgorithm::Sha512 => tree::DigestAlgorithm::Sha512,
        DigestAlgorithm::Sha512_224 => tree::DigestAlgorithm::Sha512_224,
        DigestAlgorithm::Sha512_256 => tree::DigestAlgorithm::Sha512_256,
    }
}

/// What the bounds of requests, output and watches leave of the process' memory, and at least half of it,
/// is for the trees.
fn tree_memory(config: &Config, shards: u16) -> TreeMemory {
    let process = config.memory_max(probe::memory());
    let bounds = [
        config.request_bytes_max,
        config.output_bytes_max,
        config.watch_bytes_max,
    ];
    let others = bounds
        .iter()
        .fold(0, |sum: u64, bytes| sum.saturating_add(*bytes as u64));
    TreeMemory {
        bytes_max: process.saturating_sub(others).max(process / 2),
        replicas: u64::from(shards),
    }
}

fn member_config(config: &Config, shards: u16) -> MemberConfig {
    let pipeline = PipelineConfig {
        memory: tree_memory(config, shards),
        tick_time_ms: config.tick_time_ms,
        close_bytes_max: config.jute_maxbuffer,
        entry_bytes_max: 2 * config.jute_maxbuffer,
        shards: shards.max(1),
        reaper: ReaperConfig {
            check_interval_ms: config.container_check_ms,
            per_minute_max: config.containers_per_minute,
            never_used_ms: config.container_never_used_ms,
        },
        ..PipelineConfig::new(Rules {
            extended_types: config.extended_types,
            acl_entries_max: config.acl_entries_max,
            enforce_quota: config.enforce_quota,
            reconfig_enabled: config.reconfig_enabled,
        })
    };
    MemberConfig {
        pipeline,
        log: LogConfig {
            segment_bytes: config.segment_bytes,
        },
        snapshot_records: config.snap_count,
        snapshots_kept: config.purge.then_some(config.snap_retain),
        snapshot_memory: CHANGES_BYTES_MAX,
    }
}

/// One core does everything on a machine of up to 2 cores. From 3 cores on, one core orders writes and
/// min(cores − 1, 4) cores serve: each of them repeats the work of applying, so more of them make
/// writes dearer. Cores are pinned if the process may use only a part of the machine, or if the
/// operator says so.
fn place(config: &Config, is_member: bool) -> Placement {
    let cpus = probe::affinity();
    let cores = cpus.len().min(probe::cpu_quota().unwrap_or(usize::MAX));
    let by_machine = if cores < 3 { 0 } else { (cores - 1).min(4) };
    let mut shards = config.shards.unwrap_or(by_machine as u16);
    if is_member && shards > 0 {
        tracing::info!("a member of an ensemble runs inline: one core orders and serves");
        shards = 0;
    }
    let needed = usize::from(shards) + 1;
    let pin = config.pin.unwrap_or(cpus.len() < probe::online());
    let enough = cpus.len() >= needed;
    if pin && !enough && shards > 0 {
        tracing::warn!(
            "{needed} cores are wanted and {} may be used: nothing is pinned; set a smaller shards=",
            cpus.len()
        );
    }
    Placement {
        shards,
        cpus: (pin && enough && shards > 0).then_some(cpus),
    }
}

/// One summary, so that an operator sees at once what runs where.
fn say_what_started(process: &Process, placement: &Placement, bound: &Bound) {
    let Process {
        config,
        summary,
        data,
        log,
        ..
    } = process;
    let address = bound
        .address()
        .map_or_else(|e| e.to_string(), |a| a.to_string());
    let snapshot = summary
        .snapshot
        .map_or("none".to_owned(), |zxid| zxid.to_string());
    let limit = match config.max_client_connections {
        0 => "no limit".to_owned(),
        n => n.to_string(),
    };
    let cores = probe::affinity()
        .len()
        .min(probe::cpu_quota().unwrap_or(usize::MAX));
    for warning in &summary.warnings {
        tracing::warn!("{warning}; a snapshot is made at once");
    }
    if summary.torn {
        tracing::info!("the log ended in a batch that was never acknowledged; it was removed");
    }
    tracing::info!(
        "ringkeeper {} serves clients on {address}\n  \
         data       {}\n  \
         log        {}\n  \
         recovered  zxid {}, snapshot {snapshot}, {} transactions replayed, {} sessions\n  \
         placement  {} on {cores} usable cores\n  \
         limits     {limit} connections per address, {} open files, frames up to {} bytes\n  \
         sessions   tickTime {} ms, timeouts {} to {} ms",
        env!("CARGO_PKG_VERSION"),
        data.path().display(),
        log.path().display(),
        summary.zxid,
        summary.replayed,
        summary.sessions,
        placement.text(),
        probe::open_files(),
        config.jute_maxbuffer,
        config.tick_time_ms,
        config.session_timeout_min_ms,
        config.session_timeout_max_ms,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_are_more_than_any_memory_leave_the_trees_half_of_it() {
        // Together one more than there are numbers of bytes, and half a gigabyte.
        let text = "dataDir=/d\nclientPort=2181\nringkeeper.memoryMax=8g\n\
                    ringkeeper.requestBytesMax=17179869183g\nringkeeper.outputBytesMax=1g\n";
        let config = crate::config::from_file(text, &[])
            .accepted()
            .unwrap()
            .config;
        assert_eq!(tree_memory(&config, 0).bytes_max, 4 << 30);
    }

    #[test]
    fn a_tree_for_each_shard_is_counted_beside_that_of_the_core_that_orders_and_inline_none() {
        let text = "dataDir=/var/lib/zookeeper\nclientPort=2181\n";
        let config = crate::config::from_file(text, &[])
            .accepted()
            .unwrap()
            .config;
        for shards in [0, 1, 4] {
            let memory = tree_memory(&config, shards);
            assert_eq!(memory.replicas, u64::from(shards));
        }
    }
}
