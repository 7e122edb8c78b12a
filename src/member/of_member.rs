//! Jobs that only a member of an ensemble has.
//!
//! | Job | Due when | Queue | Its outcome |
//! |---|---|---|---|
//! | `ReadBack` | something is committed and on disk alone, and there is room for it in memory | `Reads` | it is applied; shortage: tried again; failed: fatal |
//! | `ReadFor` | a learner has taken what it was sent, and lacks more | `Reads` | it is sent; shortage: tried again; failed: the learner's connection ends |
//! | `Name` | the adoption of a received snapshot is durable, or was given up | `Snapshots` | it is one of the member's own, or gone; failed: fatal, a start does it again |
//! | `Install` | a snapshot that was received is committed, and the tree is behind it | `Snapshots` | it is the tree; shortage: tried again; failed: the role ends |

use super::queue::JobQueue;
use crate::log::storage::Storage;
use crate::log::{Adoption, Cursor, Durable, Lease, Received, Runs, StoreId, Stretch};
use crate::pipeline::{LagOrder, ReadBack};
use crate::proto::peer::ToLearner;
use crate::snapshot::{self, ReadLogError, SnapError};
use crate::tree::Tree;
use crate::types::Zxid;
use crate::zab::LinkId;
use std::io;

/// Something to do where blocking is allowed, at a member of an ensemble.
#[derive(Debug)]
pub enum MemberJob {
    /// Read what is committed and on disk alone.
    ReadBack(LagOrder),
    /// Read what a learner is sent.
    ReadFor(LearnerOrder),
    /// Give a received snapshot its name, or remove it.
    Name(Naming),
    /// Make the tree of a snapshot.
    Install {
        /// Of which state.
        zxid: Zxid,
        /// Whose it is.
        store: StoreId,
    },
}

/// A part of the log that a learner needs.
#[derive(Debug)]
pub struct LearnerOrder {
    /// Its connection.
    pub link: LinkId,
    /// Behind what.
    pub cursor: Cursor,
    /// The history that counts.
    pub history: Runs,
    /// How far.
    pub stretch: Stretch,
    /// Nothing of it goes meanwhile.
    pub lease: Lease,
}

/// A received snapshot, and the proof that the history continues it; without one it was given up.
#[derive(Debug)]
pub struct Naming {
    /// The snapshot.
    pub received: Received,
    /// The proof.
    pub proof: Option<Durable<Adoption>>,
}

/// A job of a member that was run.
pub enum MemberDone {
    /// Of [`MemberJob::ReadBack`].
    ReadBack {
        /// Where it began.
        after: Zxid,
        /// What was read.
        read: Result<ReadBack, ReadLogError>,
    },
    /// Of [`MemberJob::ReadFor`].
    ReadFor {
        /// The learner's connection.
        link: LinkId,
        /// Where it goes on: behind what is in the packets.
        cursor: Cursor,
        /// Kept.
        lease: Lease,
        /// PROPOSALs and COMMITs.
        packets: Result<Vec<u8>, ReadLogError>,
    },
    /// Of [`MemberJob::Name`].
    Named {
        /// Of which state.
        zxid: Zxid,
        /// Given back.
        proof: Option<Durable<Adoption>>,
        /// Whether it has its name, or is gone.
        result: io::Result<()>,
    },
    /// Of [`MemberJob::Install`].
    Installed {
        /// Of which state.
        zxid: Zxid,
        /// The tree.
        tree: Result<Box<Tree>, SnapError>,
    },
}

impl MemberJob {
    /// Where it is run.
    pub fn queue(&self) -> JobQueue {
        match self {
            MemberJob::ReadBack(_) | MemberJob::ReadFor(_) => JobQueue::Reads,
            MemberJob::Name(_) | MemberJob::Install { .. } => JobQueue::Snapshots,
        }
    }

    /// Runs it. Blocks.
    pub fn run<S: Storage>(self, data: &S, log: &S) -> MemberDone {
        match self {
            MemberJob::ReadBack(order) => read_back(log, order),
            MemberJob::ReadFor(order) => read_for(log, order),
            MemberJob::Name(naming) => name(data, naming),
            MemberJob::Install { zxid, store } => MemberDone::Installed {
                zxid,
                tree: snapshot::load(data, zxid, store).map(Box::new),
            },
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

fn read_for<S: Storage>(log: &S, order: LearnerOrder) -> MemberDone {
    let LearnerOrder {
        link,
        mut cursor,
        history,
        stretch,
        lease,
    } = order;
    let (before, mut packets) = (cursor, Vec::new());
    let read = snapshot::read_entries(log, &mut cursor, &history, stretch, |zxid, entry| {
        ToLearner::Proposal { zxid, entry }.encode_into(&mut packets);
        ToLearner::Commit(zxid).encode_into(&mut packets);
    });
    MemberDone::ReadFor {
        link,
        // What was read before an error is not sent, and is read again.
        cursor: if read.is_ok() { cursor } else { before },
        lease,
        packets: read.map(|()| packets),
    }
}

fn name<S: Storage>(data: &S, naming: Naming) -> MemberDone {
    let Naming { received, proof } = naming;
    let zxid = received.zxid();
    let result = match &proof {
        Some(proof) => received.install(data, proof),
        None => received.discard(data),
    };
    MemberDone::Named {
        zxid,
        proof,
        result,
    }
}
