//! From a checked machine to a served port, and back.
//!
//! The order of start-up, and why (design.md §2): the directories are locked before anything in
//! them is read; the state is recovered and the log begun before the port is listened on, so that
//! nobody meets a server that does not serve; sessions get their full timeouts at that moment.

use super::edge;
use super::front::{Front, Side};
use super::jobs::Jobs;
use super::process::Process;
use super::shards::{self, Placement};
use crate::config::{Config, Resolved};
use crate::log::LogConfig;
use crate::member::{Member, MemberConfig, StartError};
use crate::pipeline::{Fatal, PipelineConfig};
use crate::placement::Inline;
use crate::rt::bell::{Bell, Ear};
use crate::rt::clock::{self, Clock};
use crate::rt::listener::Bound;
use crate::rt::lock::DirectoryLock;
use crate::rt::signals::{self, Stop};
use crate::rt::storage::FsStorage;
use crate::rt::{self, probe};
use crate::shard::ShardConfig;
use crate::tree::Rules;
use crate::types::ShardId;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// How long a stop waits for what is under way, ms.
const DRAIN_MS: u64 = 5000;

/// What the preflight hands over.
pub struct Ready {
    /// Held as long as the server runs.
    pub locks: Vec<DirectoryLock>,
    /// Native files of `dataDir`.
    pub data: FsStorage,
    /// Native files of `dataLogDir`.
    pub log: FsStorage,
    /// The client port.
    pub bound: Bound,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

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
    /// The log could not be sealed at the end.
    #[error("the log could not be sealed at the end: {0}; the next start recovers it")]
    Seal(io::Error),
}

/// Serves until a signal asks to stop; a second signal ends the process at once. `on_fatal` ends
/// the process when nothing may be said any more.
///
/// # Errors
/// [`RunError`].
pub fn run(resolved: Resolved, ready: Ready, on_fatal: fn(&Fatal) -> !) -> Result<(), RunError> {
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
    let (member, summary) = Member::start(
        commit_config(&config),
        &data,
        &log,
        Box::new(clock::random),
        clock.now(),
        &mut |_| {},
    )?;
    let shard = shard_config(&config);
    let placement = place(&config);
    let process = Process::new(config, summary, (data, log), clock, on_fatal);
    let process = Arc::new(process);
    let bell = Bell::new().map_err(runtime)?;
    let stop = signals::watch(bell.clone()).map_err(runtime)?;
    let outcome = if placement.shards == 0 {
        rt::run(None, inline(process, member, shard, bound, bell, stop))
            .map_err(|e| RunError::Runtime(e.to_string()))?
    } else {
        let summary = process.clone();
        let told = placement.clone();
        let serving = move |bound: &Bound| say_what_started(&summary, &told, bound);
        let stopped = async move {
            if let Ok(mut ear) = Ear::new(bell) {
                ear.wait(|| stop.is_asked()).await;
            }
            tracing::info!("stopping: no more input, waiting for what is under way");
        };
        shards::run(
            process,
            member,
            (&placement, &shard),
            bound,
            serving,
            stopped,
            DRAIN_MS,
        )
        .map_err(listening)
    };
    drop(locks);
    outcome?;
    tracing::info!("stopped, the log is sealed");
    Ok(())
}

fn listening(error: io::Error) -> RunError {
    match error.kind() {
        io::ErrorKind::AddrInUse => RunError::PortInUse(error),
        _ => RunError::Runtime(error.to_string()),
    }
}

/// The placement on one executor.
async fn inline(
    process: Arc<Process>,
    member: Member<FsStorage>,
    shard: ShardConfig,
    bound: Bound,
    bell: Arc<Bell>,
    stop: Arc<Stop>,
) -> Result<(), RunError> {
    let runtime = |e: io::Error| RunError::Runtime(e.to_string());
    let jobs = Jobs::new(process.clone()).map_err(runtime)?;
    let side = Side::Inline(Box::new(Inline::new(member, shard)));
    let front = Front::new(process.clone(), side, Some(jobs));
    let placement = Placement {
        shards: 0,
        cpus: None,
    };
    say_what_started(&process, &placement, &bound);
    front.begin_serving();
    rt::spawn(front.clone().turns());
    rt::spawn(front.clone().ticks(process.ticker().map_err(runtime)?));
    let listener = bound.listen().map_err(listening)?;
    rt::spawn(edge::accept(front.clone(), listener));
    let mut ear = Ear::new(bell).map_err(runtime)?;
    ear.wait(|| stop.is_asked()).await;
    tracing::info!("stopping: no more input, waiting for what is under way");
    drain(&front).await.map_err(RunError::Seal)
}

/// Takes no more input, waits until what was taken is answered, and seals the log.
async fn drain(front: &Rc<Front>) -> io::Result<()> {
    let process = &front.process;
    process.begin_stopping();
    let until = process.now().tick.after(DRAIN_MS);
    while front.is_busy() && process.now().tick < until {
        front.due_now();
        rt::sleep(std::time::Duration::from_millis(1)).await;
    }
    front.turn();
    front.syncs_ended().await;
    match front.take() {
        Some(Side::Inline(inline)) => inline.member.close(),
        _ => Ok(()),
    }
}

fn shard_config(config: &Config) -> ShardConfig {
    ShardConfig {
        tick_time_ms: config.tick_time_ms,
        session_timeout_min_ms: config.session_timeout_min_ms,
        session_timeout_max_ms: config.session_timeout_max_ms,
        frame_max: config.jute_maxbuffer,
        ..ShardConfig::new(ShardId(0))
    }
}

fn commit_config(config: &Config) -> MemberConfig {
    let pipeline = PipelineConfig {
        tick_time_ms: config.tick_time_ms,
        close_bytes_max: config.jute_maxbuffer,
        entry_bytes_max: 2 * config.jute_maxbuffer,
        shards: shards(config).max(1),
        ..PipelineConfig::new(Rules::default())
    };
    MemberConfig {
        pipeline,
        log: LogConfig {
            segment_bytes: config.segment_bytes,
        },
        snapshot_records: config.snap_count,
        snapshots_kept: config.purge.then_some(config.snap_retain),
    }
}

fn shards(config: &Config) -> u16 {
    let cpus = probe::affinity().len();
    let cores = cpus.min(probe::cpu_quota().unwrap_or(usize::MAX));
    let by_machine = if cores < 3 { 0 } else { (cores - 1).min(4) };
    config.shards.unwrap_or(by_machine as u16)
}

/// One executor up to 2 cores; from 3 on the core that orders has one of its own, and up to 4 serve
/// (design.md §2). Cores are pinned where only a part of the machine may be used, or if the operator
/// says so.
fn place(config: &Config) -> Placement {
    let cpus = probe::affinity();
    let shards = shards(config);
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
    let durability = probe::durability(log.path()).map_or_else(
        |e| e.to_string(),
        |d| {
            format!(
                "sync p50 {} µs, p99 {} µs; append during a sync p99 {} µs",
                d.sync_p50_us, d.sync_p99_us, d.append_p99_us
            )
        },
    );
    for unreadable in &summary.unreadable {
        tracing::warn!("an older snapshot was used: {unreadable}");
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
         sessions   tickTime {} ms, timeouts {} to {} ms\n  \
         durability {durability}",
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
