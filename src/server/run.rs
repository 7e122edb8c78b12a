//! From a checked machine to a served port, and back.
//!
//! The order of start-up, and why (design.md §2): the directories are locked before anything in
//! them is read; the state is recovered and the log begun before the port is listened on, so that
//! nobody meets a server that does not serve; sessions get their full timeouts at that moment.

use super::edge;
use super::state::Shared;
use crate::config::{Config, Resolved};
use crate::inline::{Inline, InlineConfig, StartError};
use crate::log::LogConfig;
use crate::pipeline::{Fatal, PipelineConfig};
use crate::rt::bell::{Bell, Ear};
use crate::rt::clock::{self, Clock};
use crate::rt::listener::Bound;
use crate::rt::lock::DirectoryLock;
use crate::rt::storage::FsStorage;
use crate::rt::{self, probe, signals};
use crate::shard::ShardConfig;
use crate::tree::Rules;
use crate::types::ShardId;
use std::io;
use std::rc::Rc;

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
    let bell = Bell::new().map_err(runtime)?;
    let stop = signals::watch(bell.clone()).map_err(runtime)?;
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
    let member = Inline::start(
        inline_config(&config),
        &data,
        &log,
        Box::new(clock::random),
        clock.now(),
        &mut |_| {},
    )?;
    let outcome = rt::run(None, async move {
        let shared = Shared::new(config, member, (data, log), clock, on_fatal).map_err(runtime)?;
        say_what_started(&shared, &bound);
        rt::spawn(shared.clone().turns());
        rt::spawn(shared.clone().ticks());
        rt::spawn(edge::accept(shared.clone(), bound.into_listener()));
        let mut ear = Ear::new(bell).map_err(runtime)?;
        ear.wait(|| stop.is_asked()).await;
        tracing::info!("stopping: no more input, waiting for what is under way");
        shared.drain(DRAIN_MS).await.map_err(RunError::Seal)?;
        tracing::info!("stopped, the log is sealed");
        Ok(())
    });
    drop(locks);
    outcome.map_err(|e| RunError::Runtime(e.to_string()))?
}

fn inline_config(config: &Config) -> InlineConfig {
    let shard = ShardConfig {
        tick_time_ms: config.tick_time_ms,
        session_timeout_min_ms: config.session_timeout_min_ms,
        session_timeout_max_ms: config.session_timeout_max_ms,
        frame_max: config.jute_maxbuffer,
        ..ShardConfig::new(ShardId(0))
    };
    let pipeline = PipelineConfig {
        tick_time_ms: config.tick_time_ms,
        close_bytes_max: config.jute_maxbuffer,
        entry_bytes_max: 2 * config.jute_maxbuffer,
        ..PipelineConfig::new(Rules::default())
    };
    let log = LogConfig {
        segment_bytes: config.segment_bytes,
    };
    InlineConfig {
        pipeline,
        shard,
        log,
        snapshot_records: config.snap_count,
    }
}

/// One summary, so that an operator sees at once what runs where.
fn say_what_started(shared: &Rc<Shared>, bound: &Bound) {
    let Shared {
        config,
        summary,
        data,
        log,
        ..
    } = &**shared;
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
         placement  inline on {cores} usable cores\n  \
         limits     {limit} connections per address, {} open files, frames up to {} bytes\n  \
         sessions   tickTime {} ms, timeouts {} to {} ms\n  \
         durability {durability}",
        env!("CARGO_PKG_VERSION"),
        data.path().display(),
        log.path().display(),
        summary.zxid,
        summary.replayed,
        summary.sessions,
        probe::open_files(),
        config.jute_maxbuffer,
        config.tick_time_ms,
        config.session_timeout_min_ms,
        config.session_timeout_max_ms,
    );
}
