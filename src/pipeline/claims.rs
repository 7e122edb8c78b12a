//! Connections of a learner that have presented a session and wait for what the leader says of it. One waits for a
//! session at most: the newest.

use super::attachments::Claim;
use crate::types::{SessionId, Tick};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
struct Row {
    /// Who waits, and until when.
    waiter: Option<(Claim, Tick)>,
    /// So many times it was asked; the last answer is the waiter's, those before are of who is gone.
    unanswered: usize,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Claims {
    rows: BTreeMap<SessionId, Row>,
    give_ups: BTreeSet<(Tick, SessionId)>,
    unanswered: usize,
}

impl Claims {
    /// The leader is asked for this one. Who waited before does not any more.
    pub(super) fn ask(&mut self, session: SessionId, claim: Claim, until: Tick) -> Option<Claim> {
        let before = self.dismiss(session);
        let row = self.rows.entry(session).or_default();
        row.waiter = Some((claim, until));
        row.unanswered += 1;
        self.give_ups.insert((until, session));
        self.unanswered += 1;
        before
    }

    /// The leader has answered. Who waited for that answer.
    pub(super) fn answered(&mut self, session: SessionId) -> Option<Claim> {
        let row = self.rows.get_mut(&session)?;
        row.unanswered -= 1;
        self.unanswered -= 1;
        if row.unanswered > 0 {
            return None;
        }
        let waiter = self.dismiss(session);
        self.rows.remove(&session);
        waiter
    }

    /// Nobody waits for it any more. Who did.
    pub(super) fn dismiss(&mut self, session: SessionId) -> Option<Claim> {
        let (claim, until) = self.rows.get_mut(&session)?.waiter.take()?;
        self.give_ups.remove(&(until, session));
        Some(claim)
    }

    /// One who has waited for too long.
    pub(super) fn give_up(&mut self, now: Tick) -> Option<Claim> {
        let &(until, session) = self.give_ups.first()?;
        (until <= now).then(|| self.dismiss(session))?
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.give_ups.len()
    }

    /// Answers that are on their way.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Those who wait, from each row.
    pub(super) fn recounted(&self) -> usize {
        let rows = self.rows.values();
        rows.filter(|row| row.waiter.is_some()).count()
    }
}
