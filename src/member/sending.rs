//! What a leader sends to a learner before the learner gets what everybody gets (docs/peer-protocol.md §2.6).
//!
//! ```text
//!   Synchronise ─► DIFF, TRUNC ──────────────────────────────► pieces of the log ─► attached
//!        └───────► [a snapshot is made] ─► SNAP, its bytes ──────┘   behind the base
//! ```
//!
//! A piece is read when the connection has taken the one before, one piece at a time for all learners, as far as it is
//! committed and durable here. When there is no more of it, the learner is attached behind it; where the leader keeps
//! what follows only behind a later place, more is read first.

use super::of_member::LearnerOrder;
use crate::log::{Cursor, Lease, Runs, Stretch};
use crate::types::Zxid;
use crate::zab::{History, LinkId};
use std::collections::BTreeMap;

/// So many bytes of entries are read for a learner at a time, or one that is longer.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

/// One learner.
#[derive(Debug)]
enum Stage {
    /// A snapshot for it is being made.
    Snapshotless,
    /// The driver sends the bytes of a snapshot.
    Snapshot(Cursor, Lease),
    /// The connection takes a piece.
    Full(Cursor, Lease),
    /// The next piece may be read.
    Ready(Cursor, Lease),
    /// It is being read.
    Reading,
}

/// All that are being brought up to date.
#[derive(Debug, Default)]
pub(super) struct Sendings(BTreeMap<LinkId, Stage>);

impl Sendings {
    /// The learner has what is up to `base`, or is about to: what follows is sent.
    pub(super) fn begin(&mut self, link: LinkId, base: Zxid, lease: Lease) {
        self.0.insert(link, Stage::Ready(Cursor::new(base), lease));
    }

    /// It is sent this snapshot first.
    pub(super) fn begin_with_snapshot(&mut self, link: LinkId, zxid: Zxid, lease: Lease) {
        let stage = Stage::Snapshot(Cursor::new(zxid), lease);
        self.0.insert(link, stage);
    }

    /// It needs a snapshot, and there is none.
    pub(super) fn await_snapshot(&mut self, link: LinkId) {
        self.0.insert(link, Stage::Snapshotless);
    }

    /// Who needs a snapshot where there was none.
    pub(super) fn take_snapshotless(&mut self) -> Vec<LinkId> {
        let is_so = |stage: &Stage| matches!(stage, Stage::Snapshotless);
        let links = self.0.iter().filter(|(_, stage)| is_so(stage));
        let links: Vec<LinkId> = links.map(|(link, _)| *link).collect();
        self.0.retain(|_, stage| !is_so(stage));
        links
    }

    /// Whether anybody does.
    pub(super) fn want_snapshot(&self) -> bool {
        let mut stages = self.0.values();
        stages.any(|stage| matches!(stage, Stage::Snapshotless))
    }

    /// The connection has taken what it was given: the snapshot, or a piece.
    pub(super) fn taken(&mut self, link: LinkId) {
        if let Some(stage) = self.0.remove(&link) {
            let stage = match stage {
                Stage::Snapshot(cursor, lease) | Stage::Full(cursor, lease) => {
                    Stage::Ready(cursor, lease)
                }
                other => other,
            };
            self.0.insert(link, stage);
        }
    }

    /// The connection is gone, or the learner is attached.
    pub(super) fn end(&mut self, link: LinkId) {
        self.0.remove(&link);
    }

    /// The role has ended.
    pub(super) fn end_all(&mut self) {
        self.0.clear();
    }

    /// Whose next piece may be read, and behind what.
    pub(super) fn ready(&self) -> impl Iterator<Item = (LinkId, Zxid)> {
        self.0.iter().filter_map(|(link, stage)| match stage {
            Stage::Ready(cursor, _) => Some((*link, cursor.after())),
            _ => None,
        })
    }

    /// The next piece of a learner whose turn it is, up to `upto`.
    pub(super) fn read(
        &mut self,
        link: LinkId,
        upto: Zxid,
        history: &Runs,
    ) -> Option<LearnerOrder> {
        let stage = self.0.get_mut(&link)?;
        match std::mem::replace(stage, Stage::Reading) {
            Stage::Ready(cursor, lease) => Some(LearnerOrder {
                link,
                cursor,
                history: history.clone(),
                stretch: Stretch {
                    upto,
                    bytes: PIECE_BYTES,
                },
                lease,
            }),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// It was read. Whether anybody wants it.
    pub(super) fn was_read(&mut self, link: LinkId, cursor: Cursor, lease: Lease) -> bool {
        match self.0.get_mut(&link) {
            Some(stage @ Stage::Reading) => {
                *stage = Stage::Full(cursor, lease);
                true
            }
            _ => false,
        }
    }
}

/// A history up to what is committed, as [`decide`](crate::zab::decide) needs it.
pub(super) fn committed_history(runs: &Runs, committed: Zxid) -> History {
    let first = runs.runs().first().map(|run| run.first);
    let mut history = History::new(runs.origin().or(first).unwrap_or_default());
    for run in runs.runs() {
        if run.first <= committed {
            history.extend(run.last.min(committed));
        }
    }
    history
}
