//! What a serving core serves from: the ordering member's own tree, or a replica.

use super::inline::Inline;
use super::port::ReplicaPort;
use crate::budget::Budget;
use crate::log::storage::Storage;
use crate::messages::ToShards;
use crate::pipeline::Fatal;
use crate::shard::{ClientAddress, Output, Shard};
use crate::tree::Tree;
use crate::types::{ConnId, Now, Tick};

/// A shard, and the tree that it answers from.
pub enum Served<S: Storage> {
    /// One core orders and serves.
    Inline(Box<Inline<S>>),
    /// This core serves, another one orders.
    Replica(Box<ReplicaPort>),
}

impl<S: Storage> Served<S> {
    /// The state that is shown.
    pub fn tree(&self) -> &Tree {
        match self {
            Served::Inline(inline) => &inline.member.tree,
            Served::Replica(port) => port.replica.tree(),
        }
    }

    /// Connections and their counters.
    pub fn shard(&self) -> &Shard {
        match self {
            Served::Inline(inline) => &inline.shard,
            Served::Replica(port) => port.replica.shard(),
        }
    }

    /// The same, to reset the counters.
    pub fn shard_mut(&mut self) -> &mut Shard {
        self.parts().0
    }

    fn parts(&mut self) -> (&mut Shard, &Tree) {
        match self {
            Served::Inline(inline) => (&mut inline.shard, &inline.member.tree),
            Served::Replica(port) => port.replica.parts(),
        }
    }

    /// Applies what is committed, within `budget`.
    ///
    /// # Errors
    /// [`Fatal`]: the process must stop at once; no output may leave any more.
    pub(super) fn apply(
        &mut self,
        budget: &mut Budget,
        now: Now,
        observe: &mut impl FnMut(&ToShards),
    ) -> Result<(), Fatal> {
        match self {
            Served::Inline(inline) => inline.apply(budget, now, observe).map(drop),
            Served::Replica(port) => port.take_batches(budget, now),
        }
    }

    /// Hands on what clients asked for: inline, as much as fits `order`, and with it goes what `apply` has
    /// left. True if the ordering core should be woken.
    ///
    /// # Errors
    /// As [`Served::apply`].
    pub(super) fn hand_up(
        &mut self,
        order: &mut Budget,
        apply: &mut Budget,
        now: Now,
        observe: &mut impl FnMut(&ToShards),
    ) -> Result<bool, Fatal> {
        match self {
            Served::Inline(inline) => inline.hand_up(order, apply, now, observe).map(|()| false),
            Served::Replica(port) => Ok(port.send_requests(now)),
        }
    }

    /// Whether what came from clients before this call may be executed now: the state is not older
    /// than what anybody was shown, and all of its events are out.
    pub(super) fn may_execute(&mut self) -> bool {
        match self {
            Served::Inline(inline) => !inline.shard.is_delivering(),
            Served::Replica(port) => port.replica.may_execute(),
        }
    }

    /// Nothing older than this core's state is shown by any core from here on; false while this
    /// core itself is behind what was shown.
    pub fn may_show(&mut self) -> bool {
        match self {
            Served::Inline(_) => true,
            Served::Replica(port) => {
                let may = port.replica.may_show();
                if may {
                    port.replica.publish_shown();
                }
                may
            }
        }
    }

    pub(super) fn accept(&mut self, address: ClientAddress, now: Now) -> ConnId {
        self.parts().0.accept(address, now)
    }

    pub(super) fn receive(&mut self, conn: ConnId, bytes: &[u8], budget: &mut Budget, now: Now) {
        let (shard, tree) = self.parts();
        shard.receive_within(tree, conn, bytes, budget, now);
    }

    pub(super) fn advance(&mut self, conn: ConnId, budget: &mut Budget, now: Now) {
        let (shard, tree) = self.parts();
        shard.advance(tree, conn, budget, now);
    }

    pub(super) fn closed(&mut self, conn: ConnId, now: Now) {
        self.parts().0.closed(conn, now);
    }

    pub(super) fn heard(&mut self, conn: ConnId) {
        self.parts().0.heard(conn);
    }

    /// Nothing of the connection waits in the kernel any more.
    pub(super) fn nothing_waits(&mut self, conn: ConnId) {
        self.parts().0.nothing_waits(conn);
    }

    /// The other end takes what the kernel holds for it.
    pub(super) fn progressed(&mut self, conn: ConnId, bytes: usize) {
        self.parts().0.progressed(conn, bytes);
    }

    pub(super) fn sent(&mut self, conn: ConnId, bytes: usize) {
        self.parts().0.sent(conn, bytes);
    }

    pub(super) fn reap(&mut self, budget: &mut Budget) -> bool {
        self.parts().0.reap(budget)
    }

    pub(super) fn poll_ready(&mut self) -> Option<ConnId> {
        self.parts().0.poll_ready()
    }

    pub(super) fn poll_dirty(&mut self) -> Option<ConnId> {
        self.parts().0.poll_dirty()
    }

    /// Takes a connection's output; with replicas, no core shows an older state from here on.
    pub(super) fn fetch_output(&mut self, conn: ConnId, spare: Vec<u8>, now: Now) -> Output {
        let output = self.parts().0.fetch_output(conn, spare, now);
        if let Served::Replica(port) = self
            && !output.bytes.is_empty()
        {
            port.replica.publish_shown();
        }
        output
    }

    /// Goes on with a round up to `watermark`; true when it has ended. `accepted`: whoever waited at the
    /// listening socket then has been accepted.
    pub(super) fn report(
        &mut self,
        watermark: Tick,
        accepted: bool,
        budget: &mut Budget,
        now: Now,
    ) -> bool {
        let ended = self.parts().0.report(watermark, budget, now);
        if let Served::Inline(inline) = self
            && ended
            && accepted
        {
            inline.member.pipeline.accepted_until(watermark, watermark);
        }
        ended
    }

    /// Timers of the member, if this core orders too.
    ///
    /// # Errors
    /// As [`Served::apply`].
    pub(super) fn tick(&mut self, now: Now) -> Result<(), Fatal> {
        match self {
            Served::Inline(inline) => inline.member.tick(now),
            Served::Replica(_) => Ok(()),
        }
    }

    /// Something of another core, or of the member, waits for a turn.
    pub(super) fn has_mail(&self) -> bool {
        match self {
            Served::Inline(inline) => inline.has_work(),
            Served::Replica(port) => port.has_mail(),
        }
    }

    /// No input is taken any more: nobody expires who is not heard, as far as this core orders.
    pub(super) fn stop(&mut self) {
        if let Served::Inline(inline) = self {
            inline.member.pipeline.stop_expiring();
        }
    }

    /// Everything that was taken has its outcome, as far as this core orders.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Served::Inline(inline) => inline.member.pipeline.is_idle(),
            Served::Replica(_) => true,
        }
    }

    /// What is committed is not applied yet, as far as this core orders.
    pub(super) fn has_committed(&self) -> bool {
        match self {
            Served::Inline(inline) => {
                inline.member.pipeline.has_messages() || inline.shard.is_delivering()
            }
            Served::Replica(_) => false,
        }
    }

    /// Every request of a client has been handed to whoever orders.
    pub(super) fn has_handed_up(&self) -> bool {
        match self {
            Served::Inline(_) => true,
            Served::Replica(port) => port.has_handed_up(),
        }
    }
}
