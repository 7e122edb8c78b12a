//! One learner's connection at its leader, from the beginning of its synchronisation.

use super::queue::{Item, Queue};
use crate::types::{SessionId, Tick, Zxid};
use crate::zab::follow::SyncId;
use crate::zab::learner::Learner;
use std::collections::VecDeque;

/// How far a learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    /// It is sent what its leader decided; what is proposed meanwhile it gets later.
    Streaming,
    /// NEWLEADER waits in its queue, behind everything before it.
    Attached,
    /// NEWLEADER has left.
    Offered,
    /// It holds the history durably.
    Acknowledged,
    /// UPTODATE is in its queue, or was.
    UpToDate,
}

/// A ping that was not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ping {
    pub zxid: Zxid,
    pub round: u64,
    pub sent: Tick,
}

/// What is told when everything up to `behind` is committed, and a quorum has answered a ping of `round`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub what: Told,
    pub behind: Zxid,
    pub round: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Told {
    /// A learner's oldest sync is done.
    Sync,
    /// A sync of the leader's own is.
    Own(SyncId),
    /// Whether a session lives.
    Revalidated { session: SessionId, is_valid: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Connected {
    pub learner: Learner,
    pub stage: Stage,
    pub queue: Queue,
    /// The last proposal that has left, or what the synchronisation brought.
    pub sent: Zxid,
    /// Everything up to here is durable there.
    pub acknowledged: Zxid,
    /// What should have been acknowledged by when.
    pub due: Option<(Zxid, Tick)>,
    /// When it is given up unless it is heard of.
    pub deadline: Tick,
    pub pings: VecDeque<Ping>,
    /// The newest round that it has answered.
    pub answered: u64,
    pub held: VecDeque<Held>,
}

impl Connected {
    pub fn new(learner: Learner, deadline: Tick) -> Connected {
        Connected {
            learner,
            stage: Stage::Streaming,
            queue: Queue::default(),
            sent: Zxid::ZERO,
            acknowledged: Zxid::ZERO,
            due: None,
            deadline,
            pings: VecDeque::new(),
            answered: 0,
            held: VecDeque::new(),
        }
    }

    /// Whether it says anything about quorums.
    pub fn votes(&self) -> bool {
        !self.learner.is_observer
    }

    /// Whether what it acknowledges counts for commits.
    pub fn counts(&self, zxid: Zxid) -> bool {
        self.votes() && self.stage == Stage::UpToDate && self.acknowledged >= zxid
    }

    /// From NEWLEADER's place in the queue on it gets what everybody gets.
    pub fn is_attached(&self) -> bool {
        self.stage >= Stage::Attached
    }

    /// The oldest that was not acknowledged has until `until`, unless it is being waited for already.
    pub fn wait_for_acknowledgement(&mut self, until: Tick) {
        let is_waiting = self.due.is_some();
        if self.votes()
            && self.stage == Stage::UpToDate
            && self.acknowledged < self.sent
            && !is_waiting
        {
            self.due = Some((self.sent, until));
        }
    }

    /// The next items, `max` bytes of them or one that is longer.
    pub fn fetch(&mut self, max: usize, out: &mut Vec<u8>) {
        let start = out.len();
        while out.len() - start < max {
            let Some(item) = self.queue.pop() else {
                return;
            };
            item.encode_into(out);
            match item {
                Item::Proposal(proposal) => self.sent = self.sent.max(proposal.zxid),
                Item::NewLeader(_) => self.stage = self.stage.max(Stage::Offered),
                _ => {}
            }
        }
    }
}
