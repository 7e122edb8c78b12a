//! The two ends of what passes between the ordering core and one shard: a bounded ring each way,
//! written by one core and read by the other. The simulator uses the same rings, as small as one.

use super::asking::{Asking, RoomSigns};
use super::feed::Batch;
use super::replica::Replica;
use crate::budget::Budget;
use crate::messages::ShardRequest;
use crate::pipeline::Fatal;
use crate::types::Now;
use std::sync::Arc;

/// A shard's end.
pub struct ReplicaPort {
    /// The shard and its tree.
    pub replica: Replica,
    batches: rtrb::Consumer<Arc<Batch>>,
    /// The batch whose first entries are taken, and how many of them.
    taking: Option<(Arc<Batch>, usize)>,
    /// Requests that find the ring full wait in the shard, bounded by its credits, connections and sessions.
    asking: Asking<ShardRequest>,
    /// The ordering core is to look: the ring of batches was full and is not any more, or it waits for this
    /// replica to take what it has.
    freed: bool,
}

/// A shard's ends of its rings.
pub struct ReplicaRings {
    pub(super) batches: rtrb::Consumer<Arc<Batch>>,
    pub(super) requests: rtrb::Producer<ShardRequest>,
}

/// The ordering core's ends of one shard's rings.
pub struct OrderingRings {
    pub(super) batches: rtrb::Producer<Arc<Batch>>,
    pub(super) requests: rtrb::Consumer<ShardRequest>,
    signs: RoomSigns,
}

impl OrderingRings {
    /// The next request, and whether the shard may wait for room and is to be woken.
    pub(super) fn take_request(&mut self) -> Option<(ShardRequest, bool)> {
        let request = self.requests.pop().ok()?;
        let may_wait = self.signs.took(self.requests.buffer().capacity());
        Some((request, may_wait))
    }
}

/// Rings for `batches` batches down and `requests` requests up.
pub fn rings(batches: usize, requests: usize) -> (OrderingRings, ReplicaRings) {
    let (give, batches) = rtrb::RingBuffer::new(batches);
    let (ask, requests) = rtrb::RingBuffer::new(requests);
    let ordering = OrderingRings {
        batches: give,
        requests,
        signs: RoomSigns::default(),
    };
    let replica = ReplicaRings {
        batches,
        requests: ask,
    };
    (ordering, replica)
}

impl ReplicaPort {
    /// Around a replica.
    pub fn new(replica: Replica, rings: ReplicaRings) -> ReplicaPort {
        ReplicaPort {
            replica,
            batches: rings.batches,
            asking: Asking::new(rings.requests),
            taking: None,
            freed: false,
        }
    }

    /// Applies what has come, entry by entry, within `budget`. Where the events of one are more than fit, it goes on
    /// with them in the next call, and with nothing else: clients, who have waited for the last of them, come before
    /// the next entry.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once.
    pub(super) fn take_batches(&mut self, budget: &mut Budget, now: Now) -> Result<(), Fatal> {
        let batches = &self.batches;
        self.freed |= batches.slots() == batches.buffer().capacity();
        let was_delivering = self.replica.shard().is_delivering();
        while !budget.is_spent() {
            if self.replica.shard().is_delivering() {
                self.replica.deliver(budget, now);
                continue;
            }
            if was_delivering {
                break;
            }
            let next = || self.batches.pop().ok().map(|batch| (batch, 0));
            let Some((batch, taken)) = self.taking.take().or_else(next) else {
                break;
            };
            self.replica.take(&batch.entries[taken], budget, now)?;
            if taken + 1 < batch.entries.len() {
                self.taking = Some((batch, taken + 1));
            } else {
                self.freed |= self.replica.took(&batch);
            }
        }
        Ok(())
    }

    /// Puts requests into the ring as long as there is room. True if the ordering core should look.
    pub(super) fn send_requests(&mut self, now: Now) -> bool {
        let freed = std::mem::take(&mut self.freed);
        let replica = &mut self.replica;
        self.asking.send_all(|| replica.poll_request(now)) || freed
    }

    /// Batches wait, or there is room again for a request that had none.
    pub(super) fn has_mail(&self) -> bool {
        let batches = self.taking.is_some() || !self.batches.is_empty();
        batches || self.replica.shard().is_delivering() || self.asking.has_room_again()
    }

    /// Whether every request is in the ring.
    pub(super) fn has_handed_up(&self) -> bool {
        self.asking.is_through() && !self.replica.shard().has_requests()
    }
}
