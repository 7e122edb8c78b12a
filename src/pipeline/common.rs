//! What a member has in every role: its journal, what its shards are told, the attachments of its connections, how
//! far is known what arrived in their sockets, and what is counted for the operator.
//!
//! Who orders, and whether anybody does, is not known here: a role works on these parts.

use super::arrivals::Arrivals;
use super::attachments::Attachments;
use super::config::PipelineConfig;
use super::counters::Counters;
use super::fatal::Fatal;
use super::journal::Journal;
use super::outcomes::Outcomes;
use crate::log::Log;
use crate::log::storage::Storage;
use crate::tree::Tree;
use crate::txn::{Entry, Txn};
use crate::types::{Now, Zxid};
use std::sync::Arc;

/// The parts of a member that no role is without.
pub(super) struct Common<S: Storage> {
    pub(super) journal: Journal<S>,
    pub(super) outcomes: Outcomes,
    pub(super) attachments: Attachments,
    pub(super) arrivals: Arrivals,
    pub(super) counters: Counters,
}

impl<S: Storage> Common<S> {
    /// Over a recovered tree. `log` has nothing beyond `tree.last_zxid()`. Nobody serves its sessions yet.
    pub(super) fn new(config: &PipelineConfig, log: Log<S>, tree: &Tree) -> Common<S> {
        let mut attachments = Attachments::new(config.tick_time_ms);
        for (session, _) in tree.sessions() {
            attachments.restore(session);
        }
        Common {
            journal: Journal::new(log, tree.last_zxid()),
            outcomes: Outcomes::default(),
            attachments,
            arrivals: Arrivals::new(config.shards, config.tick_time_ms),
            counters: Counters::default(),
        }
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
