//! Jobs that only a member of an ensemble has.
//!
//! | Job | Due when | Queue | Its outcome |
//! |---|---|---|---|
//! | `ReadBack` | something is committed and on disk alone, and there is room for it in memory | `Reads` | it is applied; shortage: tried again; failed: fatal |

use super::queue::JobQueue;
use crate::log::storage::Storage;
use crate::pipeline::{LagOrder, ReadBack};
use crate::snapshot::{self, ReadLogError};
use crate::types::Zxid;

/// Something to do where blocking is allowed, at a member of an ensemble.
#[derive(Debug)]
pub enum MemberJob {
    /// Read what is committed and on disk alone.
    ReadBack(LagOrder),
}

/// A job of a member that was run.
#[derive(Debug)]
pub enum MemberDone {
    /// Of [`MemberJob::ReadBack`].
    ReadBack {
        /// Where it began.
        after: Zxid,
        /// What was read.
        read: Result<ReadBack, ReadLogError>,
    },
}

impl MemberJob {
    /// Where it is run.
    pub fn queue(&self) -> JobQueue {
        match self {
            MemberJob::ReadBack(_) => JobQueue::Reads,
        }
    }

    /// Runs it. Blocks.
    pub fn run<S: Storage>(self, _data: &S, log: &S) -> MemberDone {
        match self {
            MemberJob::ReadBack(order) => read_back(log, order),
        }
    }
}

fn read_back<S: Storage>(log: &S, order: LagOrder) -> MemberDone {
    let LagOrder {
        mut cursor,
        history,
        stretch,
        lease,
    } = order;
    let after = cursor.after();
    let entries = snapshot::read_history(log, &mut cursor, &history, stretch);
    drop(lease);
    let read = entries.map(|entries| ReadBack {
        after,
        cursor,
        entries,
    });
    MemberDone::ReadBack { after, read }
}
