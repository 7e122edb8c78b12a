//! The core that orders for shards on other cores: the turn that server and simulator both drive.
//!
//! A turn, in this order: what the shards ask for, each within its share; what is committed, applied
//! and put into one batch for every shard. Completions of the disk and timers come before a turn.

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
    requests: usize,
    /// The shard that is asked first in the next turn.
    first: usize,
}

impl<S: Storage> OrderingCore<S> {
    /// `requests`: how many of one shard's are taken in one turn.
    pub fn new(orderer: Orderer<S>, rings: Vec<OrderingRings>, requests: usize) -> OrderingCore<S> {
        OrderingCore {
            orderer,
            rings,
            requests,
            first: 0,
        }
    }

    /// Whether a shard has asked for something, or has room again for a batch that had none.
    pub fn has_mail(&self) -> bool {
        let waits = |(shard, rings): (ShardId, &OrderingRings)| {
            let batch = self.orderer.has_batch(shard) && !rings.batches.is_full();
            batch || !rings.requests.is_empty()
        };
        (0..).map(ShardId).zip(&self.rings).any(waits)
    }

    /// Everything that the shards have asked for has its outcome.
    pub(super) fn is_idle(&self) -> bool {
        self.orderer.member.pipeline.is_idle() && !self.has_mail()
    }

    /// Every outcome was given to the shard that it is for.
    pub(super) fn has_given_all(&self) -> bool {
        let shards = (0..self.rings.len() as u16).map(ShardId);
        let given = |shard| !self.orderer.has_batch(shard);
        self.orderer.all_attached() && shards.into_iter().all(given)
    }

    /// One turn; `wake` is called for each shard that was given something. True if there is more to
    /// do at once.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub fn turn(
        &mut self,
        now: Now,
        observe: &mut impl FnMut(&ToShards),
        wake: &mut impl FnMut(ShardId),
    ) -> Result<bool, Fatal> {
        let shards = self.rings.len();
        for n in 0..shards {
            let ring = &mut self.rings[(self.first + n) % shards].requests;
            for _ in 0..self.requests {
                let Ok(request) = ring.pop() else { break };
                self.orderer.request(request, now)?;
            }
        }
        self.first = (self.first + 1) % shards.max(1);
        self.orderer.turn(now, observe)?;
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
}
