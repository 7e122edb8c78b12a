//! Requests that have no place in the order yet.

use super::wanted::Wanted;
use crate::types::{DetHashMap, SessionId};
use std::collections::VecDeque;

/// They wait for room in the log or for the next turn, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    requests: VecDeque<Wanted>,
    /// How many of them each session has sent. To ask for one must not cost a look at all: many may be due to expire.
    senders: DetHashMap<SessionId, usize>,
}

impl Waiting {
    /// A request comes behind all others.
    pub(super) fn push_back(&mut self, up: Wanted) {
        self.count(&up);
        self.requests.push_back(up);
    }

    /// A request comes, or comes back, before all others.
    pub(super) fn push_front(&mut self, up: Wanted) {
        self.count(&up);
        self.requests.push_front(up);
    }

    fn count(&mut self, up: &Wanted) {
        if let Some(session) = up.sender() {
            *self.senders.entry(session).or_default() += 1;
        }
    }

    /// The oldest one.
    pub(super) fn pop_front(&mut self) -> Option<Wanted> {
        let up = self.requests.pop_front()?;
        if let Some(session) = up.sender() {
            let left = self.senders.get_mut(&session).expect("it was counted");
            *left -= 1;
            if *left == 0 {
                self.senders.remove(&session);
            }
        }
        Some(up)
    }

    /// Whether one of them is a session's.
    pub(super) fn has_sent(&self, session: SessionId) -> bool {
        self.senders.contains_key(&session)
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Those that shards of this member have sent.
    pub(super) fn owed(&self) -> usize {
        self.requests.iter().filter(|up| up.is_owed()).count()
    }

    /// Those that sessions have sent.
    pub(super) fn sent(&self) -> usize {
        self.senders.values().sum()
    }

    /// The same, from each request.
    pub(super) fn sent_recounted(&self) -> usize {
        let senders = self.requests.iter().filter_map(Wanted::sender);
        senders.filter(|sender| self.has_sent(*sender)).count()
    }
}
