//! The promises that are checked, each with its own memory of what it has seen.
//!
//! | File | Promise |
//! |---|---|
//! | `truth` | transactions follow one another without a gap, each is what its request had to become, and what was shown is never lost |
//! | `times` | a transaction has the time of its order |
//! | `owner` | only the connection that holds a session writes for it |
//! | `attachment` | a connection whose session has moved is neither answered nor obeyed |
//! | `expiry` | nobody expires who is heard of |
//! | `overdue` | nobody lives on who is not heard of |
//! | `shown` | none: what clients can have seen |
//! | `rot` | a start is refused where something is lost, and nowhere else |
//! | `kept` | a snapshot that is kept takes the place of newer ones |
//! | `bodies` | snapshots of one zxid are equal |
//! | `tree` | the member's tree is the model's |
//! | `turns` | nobody is read twice while somebody else waits |
//! | `given_back` | what connections and requests have held is given back |
//! | `reaping` | containers and TTL nodes are deleted no faster than they may be |

mod attachment;
mod bodies;
mod expiry;
mod given_back;
mod kept;
mod lingering;
mod overdue;
mod owner;
mod reaping;
mod rot;
mod shown;
mod times;
mod tree;
mod turns;

pub(super) use expiry::At;
pub(super) use given_back::{by_connections, by_replicas, by_requests};
pub(super) use kept::SnapshotsBefore;
pub(super) use rot::{COVERED_AFTER_US, Refusal};
pub(super) use tree::compare;

use super::base::{Base, Profile};
use super::outcome::Counters;
use super::truth::Truth;
use crate::messages::{Committed, ToShards};
use crate::txn::Txn;
use crate::types::{OpCode, WallMs, Zxid};
use attachment::Attachment;
use bodies::Bodies;
use expiry::Expiry;
use lingering::Lingering;
use overdue::Overdue;
use owner::Owner;
use reaping::Reaping;
use rot::Rot;
use shown::Shown;
use times::Times;
use turns::Turns;

/// All of them.
pub(super) struct Checks {
    pub(super) truth: Truth,
    owner: Owner,
    pub(super) attachment: Attachment,
    pub(super) expiry: Expiry,
    pub(super) overdue: Overdue,
    pub(super) lingering: Lingering,
    pub(super) rot: Rot,
    pub(super) shown: Shown,
    pub(super) bodies: Bodies,
    pub(super) turns: Turns,
    pub(super) times: Times,
    reaping: Reaping,
    /// Paths of one closeSession, at most.
    pub(super) close_paths_max: usize,
    /// Wall clock at each createSession, ms.
    pub(super) sessions_made: Vec<i64>,
}

impl Checks {
    /// For a history that begins behind `start`.
    pub(super) fn new(start: Zxid, profile: &Profile) -> Checks {
        let reaper = profile.reaper;
        let mut truth = Truth::new(start);
        truth.never_used_ms = reaper.never_used_ms;
        truth.enforces_quotas = profile.enforces_quotas;
        Checks {
            truth,
            owner: Owner::default(),
            attachment: Attachment::default(),
            expiry: Expiry::default(),
            overdue: Overdue::default(),
            lingering: Lingering::default(),
            rot: Rot::new(start),
            shown: Shown::default(),
            bodies: Bodies::default(),
            turns: Turns::default(),
            times: Times::default(),
            reaping: Reaping::new(reaper),
            close_paths_max: 0,
            sessions_made: Vec::new(),
        }
    }

    /// Files are damaged behind the back of the process, if there is one.
    pub(super) fn damage(&mut self, base: &mut Base, is_running: bool) -> Result<(), String> {
        if base.was_torn_apart() {
            return Ok(());
        }
        let shown = self.shown();
        let disks = (&base.data, &base.disk);
        let (rng, counters) = (&mut base.rng, &mut base.counters);
        (self.rot).strike(disks, shown, is_running, rng, counters)
    }

    /// The newest transaction that a client was shown, or can have been.
    pub(super) fn shown(&mut self) -> Zxid {
        self.shown.newest(&self.truth).max(self.truth.shown())
    }

    /// What lies behind `kept` is lost, and the history goes on behind `behind`. The clock stood at `wall` or later
    /// while that was accepted.
    pub(super) fn gives_up(&mut self, kept: Zxid, behind: Zxid, wall: WallMs) {
        self.truth.gives_up(kept, behind, wall);
        self.rot.gives_up(behind);
        self.shown.recovered();
    }

    /// The member came back with its last transaction at `recovered`.
    pub(super) fn recovered(&mut self, recovered: Zxid) -> Result<(), String> {
        self.rot.recovered(recovered);
        self.truth.recovered(recovered)?;
        self.truth.applied = Zxid::ZERO;
        self.shown.recovered();
        self.bodies.recovered(recovered);
        self.expiry.recovered();
        self.overdue.recovered();
        self.lingering.recovered();
        self.owner.recovered();
        self.turns.recovered();
        self.times.recovered();
        self.reaping.recovered();
        Ok(())
    }

    /// What the core that orders has said, in its order.
    pub(super) fn observe(
        &mut self,
        said: &ToShards,
        now_us: u64,
        counters: &mut Counters,
    ) -> Result<(), String> {
        self.owner.observe(said)?;
        match said {
            ToShards::Txn(txn) => self.applied(txn, now_us, counters),
            ToShards::Notice(..) => Ok(()),
        }
    }

    fn applied(
        &mut self,
        txn: &Committed,
        now_us: u64,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let entry = &txn.entry;
        counters.txns += 1;
        self.truth.applied = self.times.applied_before(&txn.stamps);
        self.truth.apply(entry)?;
        self.times.observe(entry, &txn.stamps)?;
        self.rot.applied(entry.header.zxid, now_us);
        self.attachment.observe(entry)?;
        if matches!(entry.txn, Txn::CreateSession { .. }) {
            self.sessions_made.push(entry.header.time.0);
        }
        if let Txn::CloseSession { paths: Some(paths) } = &entry.txn
            && paths.len() > self.close_paths_max
        {
            let (n, most) = (paths.len(), self.close_paths_max);
            return Err(format!("a closeSession of {n} paths, of {most} at most"));
        }
        if entry.header.op == OpCode::DELETE_CONTAINER {
            counters.reaped += 1;
            self.reaping.observe(txn.stamps.ordered)?;
        }
        if matches!(entry.txn, Txn::CloseSession { .. }) && txn.origin.is_none() {
            counters.expiries += 1;
            self.expiry
                .observe(entry.header.session, txn.stamps.ordered)?;
        }
        Ok(())
    }
}
