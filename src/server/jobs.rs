//! What the core that orders has others do: syncs by the kernel, segments and snapshots by the
//! helper thread, which works off its jobs in order.

use super::process::Process;
use crate::log::snapshot_file::Written;
use crate::log::storage::Storage;
use crate::log::{SpareJob, SyncTicket};
use crate::member::Member;
use crate::pipeline::Fatal;
use crate::placement::{GroupCommit, SyncPlace, SyncPolicy};
use crate::rt::storage::{FsFile, FsStorage, Syncer};
use crate::rt::threads::{Helper, Priority};
use crate::rt::{self, Event};
use crate::snapshot::{self, SnapError};
use crate::types::{Now, Zxid};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Whoever has the commit core: the inline placement, or the core that orders for the shards.
pub trait Orders: 'static {
    /// Runs `work` on it; `None` once the log is sealed.
    fn with<T>(&self, work: impl FnOnce(&mut Member<FsStorage>) -> T) -> Option<T>;
    /// As [`Member::snapshot_made`].
    fn snapshot_made(&self, made: Option<&Written>, unneeded: Option<Zxid>) -> Vec<String>;
    /// A turn is due.
    fn due(&self) -> &Event;
    /// See [`Jobs`].
    fn jobs(&self) -> &Jobs;
}

/// See the module.
pub struct Jobs {
    /// Of the process.
    pub process: Arc<Process>,
    helper: Helper,
    syncer: RefCell<Option<Syncer>>,
    syncing: Cell<bool>,
    gather: RefCell<GroupCommit>,
}

/// What a turn leaves to do once nothing is borrowed any more.
#[derive(Default)]
pub struct Todo {
    sync: Option<SyncTicket<FsFile>>,
    /// A sync is due, and waits for another look at the sockets.
    gathers: bool,
    spare: Option<SpareJob>,
    snapshot: Option<Zxid>,
}

impl Todo {
    /// What is due after a turn.
    pub fn of(member: &mut Member<FsStorage>, jobs: &Jobs, now: Now) -> Todo {
        let (records, now) = (member.records(), now.micros);
        let mut gather = jobs.gather.borrow_mut();
        let gathers = gather.waits(records, now) && member.is_sync_due();
        let sync = if gathers { None } else { member.poll_sync() };
        if sync.is_some() {
            gather.began(SyncPlace::Beside, records, now);
        }
        Todo {
            sync,
            gathers,
            spare: member.poll_spare(),
            snapshot: member.poll_snapshot(),
        }
    }

    /// Begins it. Tasks run inside this call: nothing may be borrowed.
    pub fn begin<O: Orders>(self, owner: &Rc<O>) {
        if let Some(ticket) = self.sync {
            rt::spawn(sync(owner.clone(), ticket));
        }
        if self.gathers {
            rt::spawn(look_again(owner.clone()));
        }
        if let Some(order) = self.spare {
            rt::spawn(make_spare(owner.clone(), order));
        }
        if let Some(zxid) = self.snapshot {
            rt::spawn(make_snapshot(owner.clone(), zxid));
        }
    }
}

impl Jobs {
    /// Called inside the executor.
    ///
    /// # Errors
    /// The helper thread can't start.
    pub fn new(process: Arc<Process>) -> io::Result<Jobs> {
        Ok(Jobs {
            process,
            helper: Helper::start("helper", Priority::Low)?,
            syncer: RefCell::new(Some(Syncer::default())),
            syncing: Cell::new(false),
            gather: RefCell::new(GroupCommit::new(SyncPolicy::Never, false)),
        })
    }

    /// Waits until the sync that is under way has ended.
    pub async fn synced(&self) {
        while self.syncing.get() {
            rt::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn look_again<O: Orders>(owner: Rc<O>) {
    rt::turn().await;
    owner.due().notify();
}

async fn sync<O: Orders>(owner: Rc<O>, ticket: SyncTicket<FsFile>) {
    let jobs = owner.jobs();
    jobs.syncing.set(true);
    let mut syncer = jobs.syncer.take().expect("one ticket at a time");
    let mut result = Ok(());
    for file in ticket.files() {
        result = result.and(syncer.sync(file).await);
    }
    jobs.syncer.replace(Some(syncer));
    jobs.syncing.set(false);
    let now = jobs.process.now();
    jobs.gather.borrow_mut().ended(now.micros);
    let outcome = owner.with(|member| member.synced(ticket.done(result), now));
    jobs.process.check(outcome.unwrap_or(Ok(())));
    owner.due().notify();
}

async fn make_spare<O: Orders>(owner: Rc<O>, order: SpareJob) {
    let jobs = owner.jobs();
    let storage = jobs.process.log.clone();
    let made = jobs.helper.run(move || order.fulfil(&storage)).await;
    let now = jobs.process.now();
    let outcome = owner.with(|member| member.spare_made(made, now));
    jobs.process.check(outcome.unwrap_or(Ok(())));
    owner.due().notify();
}

/// Makes a snapshot and removes what it makes unneeded.
async fn make_snapshot<O: Orders>(owner: Rc<O>, zxid: Zxid) {
    let jobs = owner.jobs();
    let process = jobs.process.clone();
    let (data, log) = (process.data.clone(), process.log.clone());
    let (purge, retain) = (process.config.purge, process.config.snap_retain);
    let began = process.now().tick;
    let job = move || {
        let made = snapshot::make(&data, &log, zxid)?;
        let unneeded = if purge {
            snapshot::purge(&data, retain)?
        } else {
            None
        };
        Ok::<_, SnapError>((made, unneeded))
    };
    let outcome = jobs.helper.run(job).await;
    let (made, unneeded) = match &outcome {
        Ok((made, unneeded)) => {
            let took = process.now().tick.0 - began.0;
            tracing::info!("snapshot of {zxid} made: {} bytes in {took} ms", made.bytes);
            (Some(made), *unneeded)
        }
        Err(e) => {
            tracing::warn!("no snapshot of {zxid}, tried again later: {e}");
            (None, None)
        }
    };
    let remove = owner.snapshot_made(made, unneeded);
    let log = process.log.clone();
    let removed = jobs.helper.run(move || remove_all(&log, &remove)).await;
    // A segment that stays where newer ones go would look like a gap at the next start.
    process.check(removed.map_err(Fatal::from));
}

/// Oldest first: a crash in between must not leave a gap.
fn remove_all(log: &FsStorage, names: &[String]) -> io::Result<()> {
    names.iter().try_for_each(|name| log.remove(name))?;
    if names.is_empty() {
        Ok(())
    } else {
        log.sync_dir()
    }
}
