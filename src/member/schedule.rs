//! Which job of a member is due, and what follows from the outcome of one: the table of `jobs`.

use super::Member;
use super::jobs::{CatchUp, Done, Job, JobNews, LogRead, SnapshotMade};
use super::of_member::MemberDone;
use super::saving::Saving;
use crate::log::RecoveryError;
use crate::log::storage::Storage;
use crate::log::verdict::{Call, Verdict, verdict};
use crate::pipeline::{Fatal, ReadBack};
use crate::snapshot::{self, Purged, ReadLogError, SnapError};
use crate::types::Zxid;
use std::io;

impl<S: Storage> Member<S> {
    /// The next job, if one is due.
    pub fn poll_job(&mut self) -> Option<Job> {
        let job = self.poll_files().or_else(|| self.poll_witness());
        let job = job.or_else(|| self.poll_history());
        let job = job.or_else(|| self.poll_state())?;
        Some(self.jobs.begin(job))
    }

    fn read_back(
        &mut self,
        after: Zxid,
        read: Result<ReadBack, ReadLogError>,
    ) -> Result<JobNews, Fatal> {
        self.jobs.reads = false;
        let shortage = match read {
            Ok(read) => {
                self.pipeline.read_back(read);
                None
            }
            // The history has changed meanwhile.
            Err(ReadLogError::Log(RecoveryError::Replaced { .. })) => {
                self.pipeline.not_read_back(after);
                None
            }
            Err(error) => match error.shortage() {
                Some(shortage) => {
                    let shortage = shortage.to_string();
                    self.pipeline.not_read_back(after);
                    self.jobs.pauses = true;
                    Some(shortage)
                }
                None => return Err(Fatal::History(error.to_string())),
            },
        };
        Ok(self
            .jobs
            .attempted("the log to be read for the tree", shortage))
    }

    fn poll_state(&mut self) -> Option<Job> {
        if self.jobs.snapshots {
            return None;
        }
        if let Some(job) = self.poll_incoming() {
            return Some(job);
        }
        let order = self.order_of(self.pipeline.cursors().applied);
        if let Some(saving) = &mut self.saving {
            return saving.poll(&self.tree, order, self.snapshots_kept, &self.verified);
        }
        if !self.jobs.may_read() {
            return None;
        }
        self.poll_purge().or_else(|| {
            let zxid = self.poll_snapshot()?;
            assert_eq!(
                zxid,
                self.tree.last_zxid(),
                "what is in memory is of this state"
            );
            Some(Job::Snapshot {
                order: self.order_of(zxid),
                facts: self.tree.facts(),
                history: self.pipeline.log().history().cloned().map(Box::new),
                purge: self.snapshots_kept,
                verified: self.verified.clone(),
            })
        })
    }

    fn poll_purge(&self) -> Option<Job> {
        let retain = self.snapshots_kept.filter(|_| self.purges.is_due())?;
        Some(Job::Purge {
            store: self.witness.store(),
            retain,
            verified: self.verified.clone(),
        })
    }

    fn order_of(&self, zxid: Zxid) -> snapshot::Order {
        snapshot::Order {
            zxid,
            store: self.witness.store(),
            room_needed: self.snapshot_room(),
            memory: self.snapshot_memory,
        }
    }

    fn poll_files(&mut self) -> Option<Job> {
        if self.jobs.spares {
            return None;
        }
        if !self.jobs.remove.is_empty() && !self.jobs.is_read() && !self.jobs.pauses {
            return Some(Job::Remove(std::mem::take(&mut self.jobs.remove)));
        }
        let may_recycle = self.jobs.remove.is_empty() && !self.jobs.is_read();
        let log = self.pipeline.log_mut();
        let order = match may_recycle {
            true => log.poll_spare(),
            false => log.poll_new_spare(),
        };
        order.map(Job::Spare)
    }

    fn poll_witness(&mut self) -> Option<Job> {
        if self.jobs.witnesses {
            return None;
        }
        let ticket = self.witness.renew(self.pipeline.log());
        ticket.map(|ticket| Job::Witness(Box::new(ticket)))
    }

    /// Whether [`Member::begin_read`] may be called.
    pub fn may_read(&self) -> bool {
        !self.jobs.reads && self.jobs.may_read()
    }

    /// The job that reads a part of the log for a replica.
    pub fn begin_read(&mut self, order: CatchUp) -> Job {
        assert!(self.may_read(), "nobody takes segments away meanwhile");
        self.jobs.begin(Job::ReadLog(order))
    }

    /// From now on segments are kept that hold transactions behind `zxid`; `None`: those that
    /// snapshots need.
    pub fn keep_log_after(&mut self, zxid: Option<Zxid>) {
        self.jobs.keep_after = zxid;
    }

    /// A job was run.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn job_done(&mut self, done: Done<S>) -> Result<JobNews, Fatal> {
        match done {
            Done::Spare(result) => {
                self.jobs.spares = false;
                self.jobs.taking = false;
                let shortage = result.shortage().map(io::Error::to_string);
                self.spare_made(result)?;
                Ok(self.jobs.attempted("a segment to be made ahead", shortage))
            }
            Done::Witness(outcome) => {
                self.jobs.witnesses = false;
                let (_, news) = self.recorded(*outcome)?;
                Ok(news)
            }
            Done::Removed { left, result } => {
                self.jobs.spares = false;
                self.jobs.taking = false;
                self.removed(left, result)
            }
            Done::Saved(walked) => {
                self.jobs.snapshots = false;
                match &mut self.saving {
                    Some(saving) => saving.written(walked),
                    // Its tree was replaced meanwhile.
                    None => self.snapshots.made(None),
                }
                Ok(JobNews::None)
            }
            Done::Snapshot { zxid, made } => {
                self.jobs.snapshots = false;
                Ok(self.snapshot_ended(zxid, made))
            }
            Done::Purged(purged) => {
                self.jobs.snapshots = false;
                Ok(self.purged(purged).map_or(JobNews::None, JobNews::Unpurged))
            }
            Done::LogRead(read) => {
                self.jobs.reads = false;
                self.jobs.pauses |= read.shortage().is_some();
                Ok(JobNews::LogRead(read))
            }
            Done::OfMember(MemberDone::ReadBack { after, read }) => self.read_back(after, read),
            Done::OfMember(done) => {
                let reads = matches!(done, MemberDone::ReadFor { .. });
                match reads {
                    true => self.jobs.reads = false,
                    false => self.jobs.snapshots = false,
                }
                let shortage = match &done {
                    MemberDone::ReadFor { packets, .. } => packets.as_ref().err(),
                    _ => None,
                };
                self.jobs.pauses |= shortage.is_some_and(|error| error.shortage().is_some());
                self.done.push_back(done);
                Ok(JobNews::None)
            }
        }
    }

    /// What an operator is told of a read, whose outcome the replica has been given.
    pub fn log_read(&mut self, read: &LogRead) -> JobNews {
        let shortage = read.shortage().map(io::Error::to_string);
        self.jobs
            .attempted("the log to be read for a shard", shortage)
    }

    /// Attempts of background work that met a full disk, or want of descriptors or memory, and are made
    /// again.
    pub fn shortages(&self) -> u64 {
        self.jobs.shortages
    }

    /// Snapshots that were made out of memory, because the files could not give one.
    pub fn snapshots_saved(&self) -> u64 {
        self.snapshots_saved
    }

    fn removed(&mut self, left: Vec<String>, result: io::Result<()>) -> Result<JobNews, Fatal> {
        let shortage = match result {
            Ok(()) => None,
            Err(error) => {
                let call = match left.is_empty() {
                    true => Call::SyncNames,
                    false => Call::RemoveSegment,
                };
                if verdict(call, &error) != Verdict::Later {
                    return Err(error.into());
                }
                self.jobs.pauses = true;
                Some(error.to_string())
            }
        };
        // What follows from a snapshot that has ended meanwhile is newer.
        self.jobs.remove.splice(0..0, left);
        Ok(self.jobs.attempted("segments to be removed", shortage))
    }

    fn snapshot_ended(&mut self, zxid: Zxid, made: Result<SnapshotMade, SnapError>) -> JobNews {
        let was_saved = self.saving.take().is_some();
        if was_saved {
            self.tree.end_walk();
            self.snapshots_saved += u64::from(made.is_ok());
        }
        match made {
            Ok(SnapshotMade { written, purged }) => {
                self.snapshots.made(Some(written.bytes));
                self.has_new_snapshot = self.seat.is_some();
                self.witness.renew_soon();
                let unpurged = self.purged(purged);
                JobNews::SnapshotMade {
                    zxid,
                    written,
                    unpurged,
                }
            }
            Err(reason) if !was_saved && reason.is_rot() => {
                let saving = Saving::begin(&mut self.tree, self.snapshot_memory);
                self.saving = Some(saving);
                let zxid = self.tree.last_zxid();
                JobNews::SnapshotOutOfMemory { zxid, reason }
            }
            Err(reason) => {
                self.snapshots.made(None);
                JobNews::SnapshotFailed { zxid, reason }
            }
        }
    }

    /// Segments that no snapshot needs any more are to be removed. Why not all older snapshots could be, if
    /// an operator has not been told yet.
    fn purged(&mut self, purged: Purged) -> Option<io::Error> {
        let Purged {
            unneeded,
            verified,
            result,
        } = purged;
        self.verified = verified;
        if let Some(unneeded) = unneeded {
            let unneeded = self.jobs.keep_after.map_or(unneeded, |k| k.min(unneeded));
            let retired = self.pipeline.log_mut().retire(unneeded);
            self.jobs.remove.extend(retired);
        }
        match result {
            Ok(()) => {
                self.purges.succeeded();
                None
            }
            Err(reason) => self.purges.failed().then_some(reason),
        }
    }
}
