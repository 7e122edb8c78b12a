//! stub until pipe lands
use super::Member;
use crate::log::snapshot_file::Written;
use crate::log::storage::Storage;
use crate::log::{SpareJob, SpareResult};
use crate::pipeline::Fatal;
use crate::snapshot::{self, SnapError};
use crate::txn::Entry;
use crate::types::{Now, ShardId, Zxid};
use std::sync::Arc;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobQueue {
    Spares,
    Snapshots,
    Reads,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLog {
    pub shard: ShardId,
    pub after: Zxid,
    pub upto: Zxid,
    pub bytes: u64,
}
#[derive(Debug)]
pub enum Job {
    Spare(SpareJob),
    Snapshot { zxid: Zxid, purge: Option<usize> },
    Remove(Vec<String>),
    ReadLog(ReadLog),
}
pub enum Done<S: Storage> {
    Spare(SpareResult<S>),
    Snapshot(Zxid, Result<(Written, Option<Zxid>), SnapError>),
    Removed(std::io::Result<()>),
    Read(ReadLog, Result<Vec<Arc<Entry>>, SnapError>),
}
#[derive(Debug)]
pub enum JobNews {
    Nothing,
    Snapshot(Zxid, u64),
    NoSnapshot(Zxid, String),
}
impl Job {
    pub fn queue(&self) -> JobQueue {
        match self {
            Job::Spare(_) => JobQueue::Spares,
            Job::ReadLog(_) => JobQueue::Reads,
            _ => JobQueue::Snapshots,
        }
    }
    pub fn run<S: Storage>(self, data: &S, log: &S) -> Done<S> {
        match self {
            Job::Spare(job) => Done::Spare(job.fulfil(log)),
            Job::Snapshot { zxid, purge } => Done::Snapshot(
                zxid,
                (|| {
                    let made = snapshot::make(data, log, zxid)?;
                    let unneeded = match purge {
                        Some(n) => snapshot::purge(data, n)?,
                        None => None,
                    };
                    Ok((made, unneeded))
                })(),
            ),
            Job::Remove(names) => Done::Removed((|| {
                names.iter().try_for_each(|name| log.remove(name))?;
                if names.is_empty() {
                    Ok(())
                } else {
                    log.sync_dir()
                }
            })()),
            Job::ReadLog(r) => Done::Read(r, snapshot::read_log(log, r.after, r.upto, r.bytes)),
        }
    }
}
impl<S: Storage> Member<S> {
    pub fn poll_job(&mut self) -> Option<Job> {
        if let Some(job) = self.poll_spare() {
            return Some(Job::Spare(job));
        }
        if self.snapshotting {
            return None;
        }
        if let Some(names) = self.remove.take() {
            self.snapshotting = true;
            return Some(Job::Remove(names));
        }
        let zxid = self.poll_snapshot()?;
        self.snapshotting = true;
        Some(Job::Snapshot {
            zxid,
            purge: Some(3),
        })
    }
    pub fn job_done(&mut self, done: Done<S>, now: Now) -> Result<JobNews, Fatal> {
        match done {
            Done::Spare(s) => {
                self.spare_made(s, now)?;
                Ok(JobNews::Nothing)
            }
            Done::Snapshot(zxid, Ok((made, unneeded))) => {
                self.snapshotting = false;
                let names = self.snapshot_made(Some(&made), unneeded);
                if !names.is_empty() {
                    self.remove = Some(names);
                }
                Ok(JobNews::Snapshot(zxid, made.bytes))
            }
            Done::Snapshot(zxid, Err(e)) => {
                self.snapshotting = false;
                self.snapshot_made(None, None);
                Ok(JobNews::NoSnapshot(zxid, e.to_string()))
            }
            Done::Removed(r) => {
                self.snapshotting = false;
                r?;
                Ok(JobNews::Nothing)
            }
            Done::Read(..) => unreachable!(),
        }
    }
}
