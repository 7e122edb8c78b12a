//! The core that orders for shards on other cores: the turn that server and simulator both drive.
//!
//! A turn, in this order: what waits to be ordered, then what the shards ask for, unless a replica is waited
//! for (`abreast`), each within its share and all within the turn's budget; what is committed, applied within a budget and put into one batch for
//! every shard. Completions of the disk and timers come before a turn.

use super::intake::Budgets;
use super::orderer::Orderer;
use super::port::OrderingRings;
use crate::log::storage::Storage;
use crate::messages::ToShards;
use crate::pipeline::Fatal;
use crate::types::{Now, ShardId};

/// The member, and the rings to its shards.
pub struct OrderingCore<S: Storage> {
    /// Order, log, feeds.
    pub orderer: Orderer<S>,
    rings: Vec<OrderingRings>,
    budgets: Budgets,
    /// The shard that is asked first in the next turn: the one behind the last that was asked.
    first: usize,
    /// A replica is waited for: nobody is asked.
    waits: bool,
}

impl<S: Storage> OrderingCore<S> {
    /// Around a member and the rings to its shards.
    pub fn new(
        orderer: Orderer<S>,
        rings: Vec<OrderingRings>,
        budgets: Budgets,
    ) -> OrderingCore<S> {
        OrderingCore {
            orderer,
            rings,
            budgets,
            first: 0,
            waits: false,
        }
    }

    /// Whether a shard has asked for something that can be taken, or has room again for a batch that had none,
    /// or a turn has ended with its budget.
    pub fn has_mail(&self) -> bool {
        let takes = !self.waits || self.orderer.is_abreast();
        let waits = |(shard, rings): (ShardId, &OrderingRings)| {
            let batch = self.orderer.has_batch(shard) && !rings.batches.is_full();
            batch || (takes && !rings.requests.is_empty())
        };
        self.orderer.member.has_work() || (0..).map(ShardId).zip(&self.rings).any(waits)
    }

    /// Everything that the shards have asked for has its outcome, or waits for another shard to release
    /// a session.
    pub(super) fn is_idle(&self) -> bool {
        let is_asked = self.rings.iter().any(|rings| !rings.requests.is_empty());
        self.orderer.member.pipeline.is_idle() && !is_asked && !self.has_mail()
    }

    /// Every request has its outcome, a re-attach that waits for another shard too, and every outcome was
    /// given to the shard that it is for.
    pub(super) fn has_given_all(&self) -> bool {
        let decided = self.orderer.member.pipeline.outstanding() == 0;
        let shards = (0..self.rings.len() as u16).map(ShardId);
        let given = |shard| !self.orderer.has_batch(shard);
        decided && self.orderer.all_attached() && shards.into_iter().all(given)
    }

    /// No core takes input any more: nobody expires who is not heard.
    pub fn stop(&mut self) {
        self.orderer.member.pipeline.stop_expiring();
    }

    /// One turn; `wake` is called for each shard that was given something, or whose requests have room
    /// again. True if there is more to do at once.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn turn(
        &mut self,
        now: Now,
        observe: &mut impl FnMut(&ToShards),
        wake: &mut impl FnMut(ShardId),
    ) -> Result<bool, Fatal> {
        self.take_requests(now, wake)?;
        self.orderer
            .turn(&mut self.budgets.apply.clone(), now, observe)?;
        for (shard, rings) in (0..).map(ShardId).zip(&mut self.rings) {
            let mut gave = false;
            while !rings.batches.is_full()
                && let Some(batch) = self.orderer.poll_batch(shard)
            {
                let pushed = rings.batches.push(batch);
                assert!(pushed.is_ok(), "there was room");
                gave = true;
            }
            if gave {
                wake(shard);
            }
        }
        Ok(self.has_mail())
    }

    /// Orders what the shards ask for, within the turn's budget. A shard that is asked is given at least
    /// one request's work, and the next turn begins behind it.
    fn take_requests(&mut self, now: Now, wake: &mut impl FnMut(ShardId)) -> Result<(), Fatal> {
        let mut budget = self.budgets.order;
        self.orderer.member.advance(&mut budget, now)?;
        self.waits = self.orderer.waits_for_a_replica(now);
        if self.waits || budget.is_spent() {
            return Ok(());
        }
        let shards = self.rings.len();
        let first = self.first;
        for n in 0..shards {
            let shard = (first + n) % shards;
            self.first = (shard + 1) % shards;
            for _ in 0..self.budgets.requests {
                if budget.is_spent() {
                    break;
                }
                let Some((request, may_wait)) = self.rings[shard].take_request() else {
                    break;
                };
                if may_wait {
                    wake(ShardId(shard as u16));
                }
                self.orderer.request(request, &mut budget, now)?;
            }
            if budget.is_spent() {
                return Ok(());
            }
        }
        self.first = (first + 1) % shards.max(1);
        Ok(())
    }
}
