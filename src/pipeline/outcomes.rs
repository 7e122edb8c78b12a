//! What a member's shards are told, in one order: committed transactions, and notices behind the transactions that
//! were prepared before them; and how many requests are still owed an outcome.
//!
//! Every member has them, whatever its role. Why something is said is not known here, nor what a session is; only
//! what has been committed, and that a request has one outcome.

use super::slot::Slot;
use crate::messages::{Committed, Notice, ToShards};
use crate::types::{ShardId, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// Requests without an outcome, or with one that waits for what is in flight, above which handshakes
/// are turned away. Writes need no such bound:
/// shards hold credits for them, and give every attached connection one more; but connections that
/// come and go while the disk hangs could bring handshakes without end.
pub(super) const PENDING_MAX: usize = 65_536;

/// A notice and the shard that it is for.
pub(super) type Said = (ShardId, Notice);

/// A notice behind the transactions prepared before it.
#[derive(Debug)]
struct Held {
    after: Zxid,
    shard: ShardId,
    notice: Notice,
}

/// What was said and is not fetched yet.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// In order of `after`.
    held: VecDeque<Held>,
    /// Committed, or said, and not fetched yet.
    down: VecDeque<ToShards>,
    /// Requests without an outcome.
    outstanding: usize,
}

impl Outcomes {
    /// A request that is owed an outcome has come.
    pub(super) fn owe(&mut self) {
        self.outstanding += 1;
    }

    /// Whether handshakes are turned away.
    pub(super) fn is_full(&self) -> bool {
        self.outstanding >= PENDING_MAX
    }

    /// Answers a request that was never owed an outcome, at once. Not behind what is in flight: while the disk hangs,
    /// those who are turned away would fill the memory. The connection has asked for nothing else.
    pub(super) fn turn_away(&mut self, shard: ShardId, notice: Notice) {
        self.down.push_back(ToShards::Notice(shard, notice));
    }

    /// Says something at once that waits for nothing in flight; where it is an outcome, it is owed.
    pub(super) fn tell(&mut self, shard: ShardId, notice: Notice) {
        self.outstanding -= usize::from(is_outcome(&notice));
        self.down.push_back(ToShards::Notice(shard, notice));
    }

    /// No outcome that is owed comes any more: the role that owed them has ended. The shards learn it behind what is
    /// committed so far.
    pub(super) fn suspend(&mut self, shards: impl Iterator<Item = ShardId>) {
        self.held.clear();
        self.outstanding = 0;
        self.down
            .extend(shards.map(|shard| ToShards::Notice(shard, Notice::Suspend)));
    }

    /// Puts notices behind everything prepared so far, which is up to `prepared`. Until that is committed, and
    /// [released](Outcomes::release), what they answer counts as outstanding, so they are bounded with the requests.
    pub(super) fn say(&mut self, prepared: Zxid, said: Vec<Said>) {
        for (shard, notice) in said {
            self.held.push_back(Held {
                after: prepared,
                shard,
                notice,
            });
        }
    }

    /// A transaction is committed. What waits for it is released next.
    pub(super) fn commit(&mut self, slot: &Slot) {
        self.outstanding -= usize::from(slot.origin.is_some());
        self.down.push_back(ToShards::Txn(Committed {
            origin: slot.origin,
            entry: Arc::clone(&slot.entry),
            generation: slot.generation,
            stamps: slot.stamps,
        }));
    }

    /// Lets go of the notices that wait for nothing later than `committed`; `told` gets each of them.
    pub(super) fn release(&mut self, committed: Zxid, mut told: impl FnMut(&Notice)) {
        while let Some(held) = self.held.front()
            && held.after <= committed
        {
            let mut held = self.held.pop_front().expect("just seen");
            self.outstanding -= usize::from(is_outcome(&held.notice));
            if let Notice::Attached {
                committed: place, ..
            } = &mut held.notice
            {
                *place = committed;
            }
            told(&held.notice);
            self.down
                .push_back(ToShards::Notice(held.shard, held.notice));
        }
    }

    /// The next thing to tell.
    pub(super) fn poll(&mut self) -> Option<ToShards> {
        self.down.pop_front()
    }

    /// Whether there is something to tell.
    pub(super) fn has_messages(&self) -> bool {
        !self.down.is_empty()
    }

    /// Requests without an outcome.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Those of them whose outcome is a notice that waits.
    pub(super) fn held(&self) -> usize {
        let outcomes = self.held.iter().filter(|held| is_outcome(&held.notice));
        outcomes.count()
    }
}

/// Whether a notice is the one outcome of one request.
fn is_outcome(notice: &Notice) -> bool {
    match notice {
        Notice::Refused(_) | Notice::Attached { .. } | Notice::Dead(_) | Notice::Close(_) => true,
        Notice::Synced(_) => true,
        Notice::Detach { .. } | Notice::Suspend => false,
    }
}
