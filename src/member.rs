//! What orders and keeps: the pipeline over its tree, and the schedule of snapshots. Both placements
//! have one; the shards are what differs.
//!
//! A server that stands alone is started ([`Member::start`]). A member of an ensemble joins it ([`Member::join`]): it has
//! a seat beside (`seat`, and `seated` for whoever drives its connections).
//!
//! What goes in: requests, ticks, completions. What comes out: transactions to show, syncs to make,
//! and jobs that block for long (`jobs`).

mod due;
mod jobs;
mod joined;
mod of_member;
mod queue;
mod saving;
mod schedule;
mod seat;
mod seated;
mod sending;
mod transfer;
mod witnessing;

#[cfg(test)]
mod tests;

pub use jobs::{CatchUp, Done, Job, JobNews, LogRead, SnapshotMade};
pub use joined::{Joined, Outward};
pub use of_member::{LearnerOrder, MemberDone, MemberJob, Naming};
pub use queue::JobQueue;
pub use seat::{SeatConfig, SeatEffect};
pub use transfer::{Transfer, Transferred};

use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::log::{Durable, Epochs, Identities, Keeper, LogConfig, SpareResult, SyncOutcome};
use crate::log::{SyncTicket, WitnessOutcome, WitnessTicket, Written};
use crate::messages::{ShardRequest, ToShards};
use crate::pipeline::{Fatal, Pipeline, PipelineConfig};
use crate::snapshot::{self, Rebuild, Recovered, SnapError};
use crate::tree::{Applied, Tree};
use crate::types::{Now, Zxid};
use due::{LogLength, Retry, Schedule};
use jobs::Jobs;
use saving::Saving;
use seat::Seat;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use witnessing::Witnessing;

/// What the operator may choose.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Of the pipeline.
    pub pipeline: PipelineConfig,
    /// Of the log.
    pub log: LogConfig,
    /// `snapCount`: transactions between snapshots, at least.
    pub snapshot_records: u64,
    /// How many whole snapshots are kept; `None`: all of them, and the whole log.
    pub snapshots_kept: Option<usize>,
    /// Most bytes of memory for what has changed since the last snapshot, while one is made.
    pub snapshot_memory: usize,
}

/// What start-up found, for its summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last transaction.
    pub zxid: Zxid,
    /// The snapshot that was read.
    pub snapshot: Option<Zxid>,
    /// Damage that was found and costs nothing now, and what was done.
    pub warnings: Vec<String>,
    /// Transactions replayed from the log.
    pub replayed: u64,
    /// A batch that had not been acknowledged was torn off the log's end.
    pub torn: bool,
    /// Live sessions.
    pub sessions: usize,
}

/// What a start has found, of a server that stands alone or of a member.
struct Found {
    summary: Summary,
    /// Bytes of the snapshot that was read.
    last_bytes: u64,
    behind: LogLength,
}

impl Found {
    fn of<S: Storage>(recovered: &Recovered<S>) -> Found {
        let (snapshot, replayed) = (recovered.snapshot, recovered.replayed);
        let summary = Summary {
            zxid: recovered.tree.last_zxid(),
            snapshot: snapshot.map(|(zxid, _)| zxid),
            warnings: recovered.warnings(),
            replayed,
            torn: recovered.scan.is_torn(),
            sessions: recovered.tree.sessions().len(),
        };
        Found {
            summary,
            last_bytes: snapshot.map_or(0, |(_, bytes)| bytes),
            behind: LogLength {
                records: replayed,
                bytes: recovered.scan.bytes(),
                segments: recovered.scan.segments() as u64,
            },
        }
    }
}

/// Why the state could not be recovered.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing was changed; the operator decides.
    #[error(transparent)]
    Unreadable(#[from] SnapError),
    /// The log can't be opened for writing.
    #[error("the log can't be begun: {0}")]
    Io(#[from] io::Error),
}

/// The tree that transactions are validated against, and the machine that orders them.
pub struct Member<S: Storage> {
    /// Everything committed that was fetched is applied to it.
    pub tree: Tree,
    /// Order, log, owners.
    pub pipeline: Pipeline<S>,
    snapshots: Schedule,
    /// Older snapshots that could not be removed.
    purges: Retry,
    snapshots_kept: Option<usize>,
    snapshot_memory: usize,
    /// Snapshots that are known to be whole; no more than are kept.
    verified: BTreeSet<Zxid>,
    /// The snapshot that is made out of memory.
    saving: Option<Saving>,
    snapshots_saved: u64,
    witness: Witnessing,
    /// Of snapshots, and of the log.
    directories: (S, S),
    jobs: Jobs,
    /// `None`: the server stands alone.
    seat: Option<Box<Seat>>,
    /// Jobs of the seat that were run, for the next turn.
    done: VecDeque<MemberDone>,
    /// A snapshot was made since the last turn.
    has_new_snapshot: bool,
}

impl<S: Storage> Member<S> {
    /// Recovers the state, whose tree `rebuild` makes, and begins to write. Blocks.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: MemberConfig,
        data: &S,
        log: &S,
        identities: Identities,
        now: Now,
        rebuild: &mut dyn Rebuild,
    ) -> Result<(Member<S>, Summary), StartError> {
        let recovered = snapshot::recover_with(data, log, rebuild)?;
        let (found, directories) = (Found::of(&recovered), (data.clone(), log.clone()));
        let (tree, log, witness) = recovered.open(data, log, config.log, identities)?;
        let pipeline = Pipeline::new(config.pipeline.clone(), log, &tree, now);
        let keeper = Keeper::standalone(witness);
        let member = Member::assemble(&config, directories, &found, (tree, pipeline, keeper));
        Ok((member, found.summary))
    }

    fn assemble(
        config: &MemberConfig,
        directories: (S, S),
        found: &Found,
        (tree, pipeline, keeper): (Tree, Pipeline<S>, Keeper),
    ) -> Member<S> {
        let is_damaged = !found.summary.warnings.is_empty();
        let (records_min, segment_bytes) = (config.snapshot_records, config.log.segment_bytes);
        let (last_bytes, behind) = (found.last_bytes, found.behind);
        Member {
            pipeline,
            snapshots: Schedule::new(records_min, segment_bytes, last_bytes, behind, is_damaged),
            purges: Retry::default(),
            snapshots_kept: config.snapshots_kept,
            snapshot_memory: config.snapshot_memory,
            verified: found.summary.snapshot.into_iter().collect(),
            saving: None,
            snapshots_saved: 0,
            witness: Witnessing::new(keeper),
            directories,
            jobs: Jobs::default(),
            seat: None,
            done: VecDeque::new(),
            has_new_snapshot: false,
            tree,
        }
    }

    /// Takes what a shard asks for; ordering it is paid for by `budget`.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn request(
        &mut self,
        up: ShardRequest,
        budget: &mut Budget,
        now: Now,
    ) -> Result<(), Fatal> {
        self.pipeline.request(&self.tree, up, budget, now)?;
        self.settle(now)
    }

    /// Goes on with what waits to be ordered, within `budget`. Once a turn, before what shards ask for.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn advance(&mut self, budget: &mut Budget, now: Now) -> Result<(), Fatal> {
        self.pipeline.advance(&self.tree, budget, now)?;
        if let Some(saving) = &mut self.saving {
            saving.advance(&mut self.tree, budget);
        }
        self.take_done(now)?;
        self.settle(now)
    }

    /// Whether [`Member::advance`] or [`Member::tell`] would do anything.
    pub fn has_work(&self) -> bool {
        let saves = self.saving.as_ref().is_some_and(Saving::has_work);
        let is_any_done = !self.done.is_empty() || self.has_new_snapshot || self.has_seat_news();
        saves || is_any_done || self.pipeline.has_work() || self.pipeline.has_messages()
    }

    /// Gives `tell` the next thing to tell the shards, in one order; a transaction is applied here first,
    /// and comes with the tree behind it and with what it did. What `tell` gives; nothing if there is
    /// nothing to tell, or `budget` is spent.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn tell<T>(
        &mut self,
        budget: &mut Budget,
        now: Now,
        tell: impl FnOnce(&Tree, ToShards, Option<Applied>) -> T,
    ) -> Result<Option<T>, Fatal> {
        if budget.is_spent() {
            return Ok(None);
        }
        let Some(down) = self.pipeline.poll_message() else {
            return Ok(None);
        };
        budget.spend_steps(down.steps());
        let applied = match &down {
            ToShards::Txn(txn) => {
                let applied = self.tree.apply(&txn.entry);
                budget.spend_steps(self.tree.take_quota_steps());
                self.pipeline.applied(&self.tree, txn, now)?;
                Some(applied)
            }
            ToShards::Notice(..) => None,
        };
        Ok(Some(tell(&self.tree, down, applied)))
    }

    /// Timers; sessions that are due expire in the next [`Member::advance`].
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn tick(&mut self, now: Now) -> Result<(), Fatal> {
        self.jobs.pauses = false;
        self.snapshots.tick(now.tick);
        self.purges.tick(now.tick);
        self.witness.tick(now.tick);
        self.pipeline.tick(now)
    }

    /// Whose files they are.
    pub fn store(&self) -> crate::log::StoreId {
        self.witness.store()
    }

    /// Transactions in the log since the start.
    pub fn records(&self) -> u64 {
        self.pipeline.log().counters().records
    }

    /// Whether a segment of the log was begun since the last sync.
    pub fn has_rolled(&self) -> bool {
        self.pipeline.log().has_rolled()
    }

    /// Bytes in the log that are not durable.
    pub fn unsynced_bytes(&self) -> u64 {
        self.pipeline.log().unsynced_bytes()
    }

    /// Whether [`Member::poll_sync`] has one.
    pub fn is_sync_due(&self) -> bool {
        self.pipeline.log().is_sync_due()
    }

    /// A sync to make, at most one at a time.
    pub fn poll_sync(&mut self) -> Option<SyncTicket<S>> {
        self.pipeline.poll_sync()
    }

    /// A sync that [`Member::poll_sync`] gave out has ended. If it succeeded, all transactions that it
    /// covers are committed.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn synced(&mut self, outcome: SyncOutcome, now: Now) -> Result<(), Fatal> {
        let proof = self.pipeline.synced(outcome, now)?;
        self.tell_synced(&proof, now)
    }

    /// Where a member of an ensemble asks for what its record is to say.
    ///
    /// # Panics
    /// On use, of a standalone server's: it has no record.
    pub fn keeper(&mut self) -> &mut Keeper {
        self.witness.keeper()
    }

    /// The record of a member of an ensemble to write, or its witness to renew, at most one at a time. Beside the core,
    /// and behind no job; a standalone server's witness is renewed by a job.
    pub fn poll_record(&mut self) -> Option<WitnessTicket> {
        self.witness.poll_record(self.pipeline.log())
    }

    /// What [`Member::poll_record`] gave out was written: what is promised from now on. Nothing is while there is no
    /// room for it, and an operator hears of that.
    ///
    /// # Errors
    /// As [`Member::request`]: nothing is known about the files any more.
    pub fn recorded(
        &mut self,
        outcome: WitnessOutcome,
    ) -> Result<(Option<Durable<Epochs>>, JobNews), Fatal> {
        let (promised, shortage) = match self.witness.written(outcome)? {
            Written::Durable(promised) => (promised, None),
            Written::Short(error) => (None, Some(error.to_string())),
        };
        let news = self.jobs.attempted("the witness to be written", shortage);
        Ok((promised, news))
    }

    /// A spare segment is ready, or could not be made: requests that waited for room are ordered, or
    /// refused, in the next [`Member::advance`].
    ///
    /// # Errors
    /// As [`Member::request`].
    fn spare_made(&mut self, result: SpareResult<S>) -> Result<(), Fatal> {
        self.pipeline.spare_made(result)
    }

    /// The zxid of a snapshot that should be made now: everything up to it is applied and durable. In an ensemble others
    /// may have decided over what is not durable here.
    fn poll_snapshot(&mut self) -> Option<Zxid> {
        let appended = self.pipeline.log().counters().into();
        let makes_room = self.snapshot_makes_room();
        let cursors = self.pipeline.cursors();
        let is_state = cursors.applied <= cursors.durable && !self.pipeline.is_awaiting();
        if !self.has_new_snapshot && self.seat.as_ref().is_some_and(|seat| seat.wants_snapshot()) {
            self.snapshots.hurry();
        }
        (is_state && self.snapshots.is_due(appended, makes_room)).then_some(cursors.applied)
    }

    /// Whether the log's disk lacks room that snapshots make: segments go when as many as are kept stand behind them.
    /// The first one has to read all of them, while the log goes on.
    fn snapshot_makes_room(&self) -> bool {
        let Some(kept) = self.snapshots_kept.filter(|_| !self.jobs.keeps_log()) else {
            return false;
        };
        let (log, one) = (self.pipeline.log(), self.snapshot_room());
        let closed = log.closed_bytes();
        closed > one.saturating_mul(kept as u64) && log.lacks_room(closed)
    }

    /// What should be free before a snapshot is begun, bytes.
    fn snapshot_room(&self) -> u64 {
        let like_the_last = self.snapshots.room_needed();
        like_the_last.max(self.tree.body_bytes_least())
    }

    /// The end of a clean stop: no sync is under way any more; seals the log, and writes down where.
    /// Jobs that are under way may go on, and count for nothing. Blocks.
    ///
    /// # Errors
    /// Nothing is known about the log's last bytes.
    pub fn close(self) -> io::Result<()> {
        let closing = self.pipeline.into_log().close()?;
        let (data, log) = &self.directories;
        match self.witness.closing(closing, self.jobs.witnesses) {
            Some(ticket) => ticket.run(data, log).into_result(),
            None => Ok(()),
        }
    }
}
