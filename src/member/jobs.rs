//! Work of a member that blocks for long, as a machine without I/O: what is due, in which order, and
//! what follows from the outcome. A driver fetches jobs with [`Member::poll_job`], runs each where
//! it may block ([`Job::run`]), and reports it with [`Member::job_done`].
//!
//! | Job | Due when | Queue | Not beside | Its outcome |
//! |---|---|---|---|---|
//! | `Remove` | a snapshot has made segments unneeded | `Spares` | `ReadLog` | shortage: what is left is removed later; failed: fatal, a segment that stays where newer ones go would be a gap |
//! | `Spare` | fewer spares are ready than are kept ahead | `Spares` | – | shortage: tried again later; failed: fatal |
//! | `Witness` | a segment was begun, a snapshot was made, or writes go on for as long as the witness may be old | `Witnesses` | – | shortage: tried again later; failed: fatal, like a sync of the log |
//! | `Snapshot` | the log since the last one is long enough | `Snapshots` | `Remove`, a `Spare` that recycles | made: older ones are purged by the same job, and segments are removed; shortage: tried again on time; failed: a `Save` |
//! | `Purge` | older snapshots could not be removed behind the last one | `Snapshots` | `Remove`, a `Spare` that recycles | purged: segments are removed; failed: tried again on time |
//! | `Save` | a snapshot could not be made of the files, and not for a shortage: then the tree that serves is written, batch by batch | `Snapshots` | `Remove`, a `Spare` that recycles | the last one's: as `Snapshot`'s |
//! | `ReadLog` | a replica is detached and has taken what it had | `Reads` | `Remove`, a `Spare` that recycles | the replica's; shortage: the replica asks again later; failed: fatal |
//!
//! A member of an ensemble has others beside them (`of_member`). A *shortage* is a full disk, or want of descriptors or memory (`log::verdict`). Spares are then tried
//! again after the log's `RETRY_MS`, removing and reading from the next tick on. An operator hears of the
//! first of a row, each of them is counted. A purge that fails, for whatever reason, takes nothing back of the
//! snapshot before it; an operator hears of the first of a row of those, too.
//!
//! A queue has one job under way at most, and a queue never waits for another: a spare is made
//! beside a snapshot, and beside a witness, which waits for the device of the snapshots, too. Jobs that read segments are never beside jobs that take segments away: while
//! one reads, spares are made of new files and `Remove` waits; while segments are taken away,
//! nothing begins to read. `Remove` goes first on its queue, because the segments that are recycled
//! later are newer than those that are removed, and a crash in between must not leave a gap. A
//! `Witness` is a standalone server's: the witness of a member of an ensemble is written with its record
//! ([`Member::poll_record`]), which waits for no job.

use super::of_member::{MemberDone, MemberJob};
use super::queue::JobQueue;
use crate::log::snapshot_file::Written;
use crate::log::storage::Storage;
use crate::log::verdict::{Call, Verdict, verdict};
use crate::log::{Part, Runs, SpareJob, SpareResult, StoreId};
use crate::log::{WitnessOutcome, WitnessTicket};
use crate::snapshot::{self, Made, Purged, ReadLogError, SnapError, Walked};
use crate::tree::{Facts, WalkedNode};
use crate::txn::Entry;
use crate::types::{Position, ShardId, Zxid};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// A part of the log that a replica needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// For whom.
    pub shard: ShardId,
    /// What the replica has.
    pub after: Zxid,
    /// The last transaction to read; everything up to it is durable.
    pub upto: Zxid,
    /// Everything in the log below is durable.
    pub durable: Position,
    /// No more transactions once those read come to so many bytes.
    pub bytes_max: u64,
}

impl CatchUp {
    fn part(&self) -> Part {
        Part {
            after: self.after,
            upto: self.upto,
            bytes: self.bytes_max,
            mapped_to: Some(self.durable),
        }
    }
}

/// Something to do where blocking is allowed.
#[derive(Debug)]
pub enum Job {
    /// Make a spare segment.
    Spare(SpareJob),
    /// Make a snapshot.
    Snapshot {
        /// Of what; everything up to it is applied.
        order: snapshot::Order,
        /// What is known of that state in memory.
        facts: Facts,
        /// What counts in a member's log.
        history: Option<Box<Runs>>,
        /// Afterwards remove what is older than so many snapshots that are whole.
        purge: Option<usize>,
        /// Those that are known to be whole.
        verified: BTreeSet<Zxid>,
    },
    /// Remove older snapshots, which could not be removed before.
    Purge {
        /// Whose they are.
        store: StoreId,
        /// So many that are whole stay.
        retain: usize,
        /// Those that are known to be whole.
        verified: BTreeSet<Zxid>,
    },
    /// Write a part of the state out of memory.
    Save(Box<Save>),
    /// Write down how far the log is durable.
    Witness(Box<WitnessTicket>),
    /// Remove these segments, oldest first.
    Remove(Vec<String>),
    /// Read a part of the log for a replica.
    ReadLog(CatchUp),
    /// Of a member of an ensemble.
    OfMember(Box<MemberJob>),
}

/// A part of a snapshot out of memory.
#[derive(Debug)]
pub struct Save {
    /// What has been written before.
    pub(super) walked: Walked,
    pub(super) nodes: Vec<WalkedNode>,
    pub(super) order: snapshot::Order,
    /// The snapshot is made of this and all before.
    pub(super) is_last: bool,
    /// No snapshot is made of it; what has been written is removed.
    pub(super) is_given_up: bool,
    pub(super) purge: Option<usize>,
    pub(super) verified: BTreeSet<Zxid>,
}

impl Save {
    fn run<S: Storage>(self, data: &S) -> Done<S> {
        let zxid = self.order.zxid;
        let added = match self.is_given_up {
            true => Err(self.walked.give_up(data)),
            false => self.walked.add(data, self.nodes, self.order),
        };
        match added {
            Ok(walked) if !self.is_last => Done::Saved(walked),
            Ok(walked) => {
                let written = walked.finish(data, self.order);
                let made = written.map(|written| Made {
                    written,
                    base: None,
                });
                let made =
                    made.map(|made| and_purged(data, self.order, made, self.purge, self.verified));
                Done::Snapshot { zxid, made }
            }
            Err(error) => Done::Snapshot {
                zxid,
                made: Err(error),
            },
        }
    }
}

/// A job that was run.
pub enum Done<S: Storage> {
    /// Of [`Job::Spare`].
    Spare(SpareResult<S>),
    /// Of a [`Job::Save`] that was not the last one.
    Saved(Walked),
    /// Of [`Job::Snapshot`], and of the last [`Job::Save`] or one that failed.
    Snapshot {
        /// Of this state.
        zxid: Zxid,
        /// The snapshot, and what follows from it.
        made: Result<SnapshotMade, SnapError>,
    },
    /// Of [`Job::Purge`].
    Purged(Purged),
    /// Of [`Job::Witness`].
    Witness(Box<WitnessOutcome>),
    /// Of [`Job::Remove`].
    Removed {
        /// What was not removed, oldest first.
        left: Vec<String>,
        /// Whether all of it was.
        result: io::Result<()>,
    },
    /// Of [`Job::ReadLog`].
    LogRead(LogRead),
    /// Of [`Job::OfMember`].
    OfMember(MemberDone),
}

/// What follows from a snapshot that was made.
#[derive(Debug)]
pub struct SnapshotMade {
    /// What was written.
    pub written: Written,
    /// What came of the purge behind it.
    pub purged: Purged,
}

/// What was read for a replica.
#[derive(Debug)]
pub struct LogRead {
    /// What was asked for.
    pub order: CatchUp,
    /// From its beginning; it may end early.
    pub entries: Result<Vec<Arc<Entry>>, ReadLogError>,
}

impl LogRead {
    /// Whether the log does not reach back that far any more.
    pub fn is_gone(&self) -> bool {
        matches!(self.entries, Err(ReadLogError::Gap { .. }))
    }

    /// Why there was no room to read it.
    pub fn shortage(&self) -> Option<&io::Error> {
        self.entries.as_ref().err().and_then(ReadLogError::shortage)
    }
}

/// What a job's outcome leaves to do or to say.
#[derive(Debug)]
pub enum JobNews {
    /// Nothing.
    None,
    /// For the operator.
    SnapshotMade {
        /// Of this state.
        zxid: Zxid,
        /// What was written.
        written: Written,
        /// Why older ones could not be removed, the first time of a row.
        unpurged: Option<io::Error>,
    },
    /// For the operator: the first of a row of purges that failed; it is tried again.
    Unpurged(io::Error),
    /// For the operator: it could not be made of the files, and is made out of memory.
    SnapshotOutOfMemory {
        /// Of this state.
        zxid: Zxid,
        /// Why.
        reason: SnapError,
    },
    /// For the operator; it is tried again.
    SnapshotFailed {
        /// Of this state.
        zxid: Zxid,
        /// Why.
        reason: SnapError,
    },
    /// For the operator: the first of a row of shortages; it is tried again.
    Shortage {
        /// What was to be done.
        what: &'static str,
        /// Why it could not be.
        reason: String,
    },
    /// For the replica.
    LogRead(LogRead),
}

impl Job {
    /// Where it is run.
    pub fn queue(&self) -> JobQueue {
        match self {
            Job::Spare(_) | Job::Remove(_) => JobQueue::Spares,
            Job::Witness(_) => JobQueue::Witnesses,
            Job::Snapshot { .. } | Job::Purge { .. } | Job::Save(_) => JobQueue::Snapshots,
            Job::ReadLog(_) => JobQueue::Reads,
            Job::OfMember(job) => job.queue(),
        }
    }

    /// Whether it may take its time, so that writes are not held up. A part of a snapshot out of memory may not:
    /// until all parts are written no file has the state, and of what clients change meanwhile only so much is kept.
    pub fn may_rest(&self) -> bool {
        matches!(self, Job::Snapshot { .. } | Job::Purge { .. })
    }

    /// Whether it takes segments away from the log.
    fn takes_segments(&self) -> bool {
        match self {
            Job::Spare(order) => order.recycles(),
            Job::Remove(_) => true,
            Job::Snapshot { .. }
            | Job::Purge { .. }
            | Job::Save(_)
            | Job::Witness(_)
            | Job::ReadLog(_)
            | Job::OfMember(_) => false,
        }
    }

    /// Runs it: snapshots are in `data`, segments in `log`. Blocks.
    pub fn run<S: Storage>(self, data: &S, log: &S) -> Done<S> {
        match self {
            Job::Spare(order) => Done::Spare(order.fulfil(log)),
            Job::Snapshot {
                order,
                facts,
                history,
                purge,
                verified,
            } => Done::Snapshot {
                zxid: order.zxid,
                made: snapshot::make_of(data, log, history.as_deref(), order, &facts)
                    .map(|made| and_purged(data, order, made, purge, verified)),
            },
            Job::Purge {
                store,
                retain,
                verified,
            } => Done::Purged(snapshot::purge(data, store, retain, verified)),
            Job::Save(save) => save.run(data),
            Job::Witness(ticket) => Done::Witness(Box::new(ticket.run(data, log))),
            Job::Remove(names) => remove_all(log, names),
            Job::ReadLog(order) => Done::LogRead(LogRead {
                entries: snapshot::read_log(log, order.part()),
                order,
            }),
            Job::OfMember(job) => Done::OfMember(job.run(data, log)),
        }
    }
}

fn and_purged<S: Storage>(
    data: &S,
    order: snapshot::Order,
    Made { written, base }: Made,
    purge: Option<usize>,
    mut verified: BTreeSet<Zxid>,
) -> SnapshotMade {
    // What is newer than the base could not be read, or nothing could.
    verified.retain(|&zxid| Some(zxid) <= base);
    verified.extend(base.into_iter().chain([order.zxid]));
    let purged = match purge {
        Some(retain) => snapshot::purge(data, order.store, retain, verified),
        None => Purged {
            unneeded: None,
            verified: BTreeSet::new(),
            result: Ok(()),
        },
    };
    SnapshotMade { written, purged }
}

/// Oldest first: a crash in between must not leave a gap.
fn remove_all<S: Storage>(log: &S, mut names: Vec<String>) -> Done<S> {
    let mut result = Ok(());
    let mut removed = 0;
    while result.is_ok() && removed < names.len() {
        result = match log.remove(&names[removed]) {
            Err(error) if verdict(Call::RemoveSegment, &error) == Verdict::Done => Ok(()),
            removed => removed,
        };
        removed += usize::from(result.is_ok());
    }
    names.drain(..removed);
    Done::Removed {
        left: names,
        result: result.and_then(|()| log.sync_dir()),
    }
}

/// What is under way, and what waits.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// On [`JobQueue::Spares`].
    pub(super) spares: bool,
    /// On [`JobQueue::Witnesses`].
    pub(super) witnesses: bool,
    /// On [`JobQueue::Snapshots`].
    pub(super) snapshots: bool,
    /// On [`JobQueue::Reads`].
    pub(super) reads: bool,
    /// The one on [`JobQueue::Spares`] takes segments away.
    pub(super) taking: bool,
    /// Segments to remove, oldest first.
    pub(super) remove: Vec<String>,
    /// What follows this is needed, though no snapshot needs it.
    pub(super) keep_after: Option<Zxid>,
    /// A removal or a read has met a shortage: neither begins before the next tick.
    pub(super) pauses: bool,
    /// Shortages met since the start.
    pub(super) shortages: u64,
    /// What met one the last time that it was tried.
    short: BTreeSet<&'static str>,
}

impl Jobs {
    pub(super) fn may_read(&self) -> bool {
        !self.taking && self.remove.is_empty() && !self.pauses
    }

    /// What is to be said of an attempt at `what`, which has met a shortage or none.
    pub(super) fn attempted(&mut self, what: &'static str, shortage: Option<String>) -> JobNews {
        let Some(reason) = shortage else {
            self.short.remove(what);
            return JobNews::None;
        };
        self.shortages += 1;
        match self.short.insert(what) {
            true => JobNews::Shortage { what, reason },
            false => JobNews::None,
        }
    }

    /// Whether what no snapshot needs is kept for somebody else.
    pub(super) fn keeps_log(&self) -> bool {
        self.keep_after.is_some()
    }

    pub(super) fn is_read(&self) -> bool {
        self.snapshots || self.reads
    }

    pub(super) fn under_way(&mut self, queue: JobQueue) -> &mut bool {
        match queue {
            JobQueue::Spares => &mut self.spares,
            JobQueue::Witnesses => &mut self.witnesses,
            JobQueue::Snapshots => &mut self.snapshots,
            JobQueue::Reads => &mut self.reads,
        }
    }

    pub(super) fn begin(&mut self, job: Job) -> Job {
        let before = std::mem::replace(self.under_way(job.queue()), true);
        assert!(!before, "one job of a queue at a time");
        self.taking |= job.takes_segments();
        job
    }
}
