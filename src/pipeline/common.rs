//! What a member has in every role: its journal, what its shards are told, the attachments of its connections, how
//! far is known what arrived in their sockets, and what is counted for the operator.
//!
//! Who orders, and whether anybody does, is not known here: a role works on these parts.

use super::arrivals::Arrivals;
use super::attachments::Attachments;
use super::between::ForPeers;
use super::config::PipelineConfig;
use super::counters::Counters;
use super::fatal::Fatal;
use super::ids::SessionIds;
use super::journal::Journal;
use super::numbers::Numbers;
use super::outcomes::Outcomes;
use crate::log::Log;
use crate::log::storage::Storage;
use crate::messages::{Notice, Origin, ShardRequest};
use crate::tree::Tree;
use crate::txn::{Entry, Txn};
use crate::types::{Now, SessionId, ShardId, Zxid};
use crate::zab::{SYNCS_MAX, SyncId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The parts of a member that no role is without.
pub(super) struct Common<S: Storage> {
    pub(super) journal: Journal<S>,
    pub(super) outcomes: Outcomes,
    pub(super) attachments: Attachments,
    pub(super) arrivals: Arrivals,
    pub(super) counters: Counters,
    pub(super) ids: SessionIds,
    pub(super) numbers: Numbers,
    /// What is wanted of other members.
    pub(super) wishes: VecDeque<ForPeers>,
    /// Syncs of this member's clients that the others are asked for.
    pub(super) syncs: BTreeMap<SyncId, Origin>,
    /// The last of them.
    last_sync: SyncId,
    /// What who leads has ordered and not proposed; `None`: there is nobody to propose it to.
    pub(super) proposals: Option<VecDeque<Proposal>>,
    /// By shard: so many confirmations are owed that it has ended all connections. Until then what it sends is of before.
    suspended: Vec<u32>,
}

/// A transaction for others, as it is serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its place in the order.
    pub zxid: Zxid,
    /// Serialised.
    pub entry: Vec<u8>,
}

impl<S: Storage> Common<S> {
    /// Over a recovered tree. The log of a standalone server has nothing beyond `tree.last_zxid()`. Nobody serves its
    /// sessions yet.
    pub(super) fn new(config: &PipelineConfig, log: Log<S>, tree: &Tree) -> Common<S> {
        Common {
            journal: Journal::new(log, tree.last_zxid(), config.ring),
            outcomes: Outcomes::default(),
            attachments: unattached(config, tree),
            arrivals: Arrivals::new(config.shards, config.tick_time_ms),
            counters: Counters::default(),
            ids: SessionIds::new(config.creator),
            numbers: Numbers::new(config.creator),
            wishes: VecDeque::new(),
            syncs: BTreeMap::new(),
            last_sync: SyncId(0),
            proposals: None,
            suspended: vec![0; usize::from(config.shards)],
        }
    }

    /// This member serves from here on, all that is committed being applied: nobody has any of the sessions.
    pub(super) fn begin_role(&mut self, config: &PipelineConfig, tree: &Tree, leads: bool) {
        self.attachments = unattached(config, tree);
        self.proposals = leads.then(VecDeque::new);
    }

    /// What was told and is not applied makes sessions, and ends them, before the tree knows.
    pub(super) fn know_told(&mut self) {
        let Common {
            journal,
            attachments,
            ..
        } = self;
        for (slot, _) in journal.in_flight().filter(|(_, is_told)| *is_told) {
            let session = slot.entry.header.session;
            match slot.entry.txn {
                Txn::CreateSession { .. } if !attachments.is_known(session) => {
                    attachments.restore(session);
                }
                Txn::CloseSession { .. } => attachments.remove(session),
                _ => {}
            }
        }
    }

    /// The role has ended: nothing that it has begun comes to its end here. What is appended stays in the log.
    pub(super) fn end_role(&mut self, config: &PipelineConfig) {
        self.attachments = Attachments::new(config.tick_time_ms);
        self.proposals = None;
        self.wishes.clear();
        self.syncs.clear();
        self.journal.hold(false);
        self.journal.disown();
        let shards = (0..).map(ShardId).take(self.suspended.len());
        self.outcomes.suspend(shards);
        self.suspended.iter_mut().for_each(|owed| *owed += 1);
    }

    /// Whether what a shard sends is of a role that has ended.
    pub(super) fn is_suspended(&self, shard: ShardId) -> bool {
        self.suspended[usize::from(shard.0)] > 0
    }

    /// Takes what a shard sends when nobody orders, or what is of a role that has ended.
    pub(super) fn turn_away(&mut self, up: ShardRequest, now: Now) {
        let shard = up.shard();
        self.arrivals.see_clock(now.tick);
        self.arrivals.sent(shard);
        match up {
            ShardRequest::Suspended { shard } => {
                let owed = &mut self.suspended[usize::from(shard.0)];
                *owed = owed.saturating_sub(1);
            }
            ShardRequest::Touched {
                shard, watermark, ..
            } => self.arrivals.reported(shard, watermark.min(now.tick)),
            ShardRequest::Released { .. } => {}
            ShardRequest::NewSession { origin, .. }
            | ShardRequest::Reattach { origin, .. }
            | ShardRequest::Sync { origin, .. }
            | ShardRequest::Write { origin, .. } => {
                if !self.is_suspended(shard) {
                    self.counters.given_up += 1;
                    let close = Notice::Close(origin.conn);
                    self.outcomes.turn_away(shard, close);
                }
            }
        }
    }

    /// A client of this member syncs. As many may wait as the protocol keeps; one more ends.
    pub(super) fn sync(&mut self, origin: Origin, session: SessionId) {
        if self.syncs.len() >= SYNCS_MAX {
            self.counters.given_up += 1;
            self.outcomes.tell(origin.shard, Notice::Close(origin.conn));
            return;
        }
        self.last_sync.0 += 1;
        let id = self.last_sync;
        self.syncs.insert(id, origin);
        self.wishes.push_back(ForPeers::Sync { id, session });
    }

    /// The tree has applied a committed transaction, and nothing after it.
    ///
    /// # Errors
    /// [`Fatal::DigestMismatch`].
    pub(super) fn applied(
        &mut self,
        tree: &Tree,
        zxid: Zxid,
        now: Now,
    ) -> Result<Arc<Entry>, Fatal> {
        let entry = self.journal.applied(zxid, now.micros).entry;
        tree.verify(&entry)?;
        if let Txn::CloseSession { .. } = entry.txn {
            self.attachments.remove(entry.header.session);
        }
        Ok(entry)
    }
}

/// All sessions of a tree, which nobody serves.
fn unattached(config: &PipelineConfig, tree: &Tree) -> Attachments {
    let mut attachments = Attachments::new(config.tick_time_ms);
    for (session, _) in tree.sessions() {
        attachments.restore(session);
    }
    attachments
}
