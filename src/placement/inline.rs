//! The inline placement: one shard over the pipeline's own tree, as one pure object.
//!
//! The order inside a turn keeps the promises of order to clients (docs/protocol.md §4.5, §5.5) and never
//! lets a reply overtake its sync:
//!
//! 1. committed transactions are applied one by one: tree, pipeline (digest, overlay), then shard
//!    (events, the origin's reply, the reads that it frees);
//! 2. what the shard asks for goes to the pipeline, which appends it to the log;
//! 3. only then a sync begins, for everything appended so far.

use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::member::Member;
use crate::messages::ToShards;
use crate::pipeline::Fatal;
use crate::shard::{Shard, ShardConfig};
use crate::types::Now;

/// One tree, and the two state machines around it.
pub struct Inline<S: Storage> {
    /// Order, log, and the tree that both read.
    pub member: Member<S>,
    /// Connections, watches.
    pub shard: Shard,
}

impl<S: Storage> Inline<S> {
    /// Around what start-up has recovered.
    pub fn new(member: Member<S>, shard: ShardConfig) -> Inline<S> {
        let shard = Shard::new(shard);
        Inline { member, shard }
    }

    /// Applies what is committed, transaction by transaction with its events, within `budget`; true if there was
    /// anything. Where the events of one are more than fit, it goes on with them in the next call, and with nothing
    /// else: clients, who have waited for the last of them, come before the next transaction. `observe` sees
    /// each transaction right after the tree has applied it, and each notice, in their order.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn apply(
        &mut self,
        budget: &mut Budget,
        now: Now,
        observe: &mut impl FnMut(&ToShards),
    ) -> Result<bool, Fatal> {
        let Inline { member, shard } = self;
        let was_delivering = shard.is_delivering();
        let mut moved = false;
        while !budget.is_spent() {
            if !shard.is_delivering() {
                if was_delivering {
                    break;
                }
                let told = member.tell(budget, now, |tree, down, applied| {
                    observe(&down);
                    match (down, applied) {
                        (ToShards::Txn(txn), Some(applied)) => shard.committed(tree, txn, applied),
                        (ToShards::Notice(_, notice), _) => shard.notice(tree, notice, now),
                        (ToShards::Txn(_), None) => unreachable!("a transaction was applied"),
                    }
                })?;
                if told.is_none() {
                    break;
                }
            }
            moved = true;
            shard.deliver(&member.tree, budget, now);
        }
        Ok(moved)
    }

    /// Orders what waits and what the shard asks for, within `order`, and applies what that decides
    /// without a sync, within `apply`.
    ///
    /// # Errors
    /// As [`Inline::apply`].
    pub fn hand_up(
        &mut self,
        order: &mut Budget,
        apply: &mut Budget,
        now: Now,
        observe: &mut impl FnMut(&ToShards),
    ) -> Result<(), Fatal> {
        loop {
            self.member.advance(order, now)?;
            let mut moved = false;
            while !order.is_spent()
                && let Some(up) = self.shard.poll_request(now)
            {
                moved = true;
                self.member.request(up, order, now)?;
            }
            if !self.apply(apply, now, observe)? && !moved {
                return Ok(());
            }
        }
    }

    /// A budget has ended before the work did.
    pub fn has_work(&self) -> bool {
        self.member.has_work() || self.shard.has_requests() || self.shard.is_delivering()
    }
}
