//! Which sessions there are, and until when each lives without being heard of (docs/protocol.md §5.2–5.4). It is
//! the table of who orders: expiry and closing are decided here, and nowhere else.
//!
//! Which connection serves a session is not known here (`attachments` knows it for the connections of one member),
//! only which shard, or which other member: its [`Holder`].

use super::size::ListSize;
use crate::types::{DetHashMap, SessionId, ShardId, Tick, Zxid};
use crate::zab::LinkId;
use std::collections::BTreeSet;

/// Who serves a session. What is known of the holder's arrivals decides over the session's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// Nobody, and what is known of all shards here decides.
    Nobody,
    /// A shard of this member.
    Shard(ShardId),
    /// A member that follows this one, by this connection. No other's requests are ordered (I-28).
    Learner(LinkId),
}

#[derive(Debug)]
struct Session {
    holder: Holder,
    /// Of the current connection; at first of the createSession.
    timeout_ms: i32,
    /// A multiple of tickTime.
    deadline: Tick,
    closing: bool,
    /// The createSession's zxid: before it is committed nobody else may know the session.
    opened: Zxid,
    /// A learner's client is answered behind this.
    answered: Zxid,
    /// Upper bound of what creates in flight add to the closeSession's list.
    list_in_flight: ListSize,
}

/// The sessions, and when each expires.
#[derive(Debug)]
pub(in crate::pipeline) struct Sessions {
    table: DetHashMap<SessionId, Session>,
    /// Sessions that are not closing, by what decides over their expiry.
    deadlines: BTreeSet<(Holder, Tick, SessionId)>,
    tick_time_ms: u64,
}

impl Sessions {
    /// None. `tick_time_ms` is the width of an expiry bucket.
    pub(super) fn new(tick_time_ms: u64) -> Sessions {
        assert!(tick_time_ms > 0, "tickTime is positive");
        Sessions {
            table: DetHashMap::default(),
            deadlines: BTreeSet::new(),
            tick_time_ms,
        }
    }

    /// A session whose createSession is being prepared as `opened`, or that was found at start-up: it has its full
    /// timeout (docs/protocol.md §5.2).
    pub(super) fn insert(
        &mut self,
        session: SessionId,
        holder: Holder,
        timeout_ms: i32,
        opened: Zxid,
        now: Tick,
    ) {
        let row = Session {
            holder,
            timeout_ms,
            deadline: self.deadline(now, timeout_ms),
            closing: false,
            opened,
            answered: opened,
            list_in_flight: ListSize::default(),
        };
        self.deadlines.insert((row.holder, row.deadline, session));
        let before = self.table.insert(session, row);
        assert!(before.is_none(), "session {session} exists twice");
    }

    /// The end of the bucket in which a session heard of at `heard` expires, strictly later than
    /// `heard + timeout`.
    fn deadline(&self, heard: Tick, timeout_ms: i32) -> Tick {
        let at = heard.0 + u64::try_from(timeout_ms).unwrap_or(0);
        Tick((at / self.tick_time_ms + 1) * self.tick_time_ms)
    }

    /// Whether another connection may take the session: there is one, it is not closing, and its createSession is not
    /// later than `committed`. Before that it does not exist for anybody but its creator.
    pub(super) fn may_move(&self, session: SessionId, committed: Zxid) -> bool {
        let row = self.table.get(&session);
        row.is_some_and(|row| !row.closing && row.opened <= committed)
    }

    /// Another connection has the session, with a timeout of its own. It is answered behind `prepared`.
    pub(super) fn moved(
        &mut self,
        session: SessionId,
        to: Holder,
        timeout_ms: i32,
        prepared: Zxid,
        now: Tick,
    ) {
        let deadline = self.deadline(now, timeout_ms);
        self.change(session, |row| {
            row.holder = to;
            row.timeout_ms = timeout_ms;
            row.deadline = deadline;
            row.answered = prepared;
        });
    }

    /// A shard serves the session no more. Somebody else may by now.
    pub(super) fn let_go(&mut self, session: SessionId, shard: ShardId) {
        if self.holder(session) == Some(Holder::Shard(shard)) {
            self.change(session, |row| row.holder = Holder::Nobody);
        }
    }

    /// A learner is gone: nobody has its sessions. What it heard and has not reported any more counts as heard now.
    pub(super) fn orphan(&mut self, link: LinkId, now: Tick) {
        let holder = Holder::Learner(link);
        let from = (holder, Tick(0), SessionId(i64::MIN));
        let to = (holder, Tick(u64::MAX), SessionId(i64::MAX));
        let held = self.deadlines.range(from..=to);
        let held: Vec<SessionId> = held.map(|&(_, _, session)| session).collect();
        for session in held {
            self.change(session, |row| row.holder = Holder::Nobody);
            self.heard(session, now);
        }
    }

    /// Who serves it; `None`: there is no such session.
    pub(super) fn holder(&self, session: SessionId) -> Option<Holder> {
        self.table.get(&session).map(|row| row.holder)
    }

    /// Whether a learner's client waits for the answer to its ConnectRequest because that stands behind what is not
    /// applied.
    pub(super) fn is_unanswered(&self, session: SessionId, applied: Zxid) -> bool {
        let row = self.table.get(&session);
        row.is_some_and(|row| matches!(row.holder, Holder::Learner(_)) && row.answered > applied)
    }

    /// As if every session had just been heard of.
    pub(super) fn hear_all(&mut self, at: Tick) {
        let all: Vec<SessionId> = self.table.keys().copied().collect();
        all.into_iter().for_each(|session| self.heard(session, at));
    }

    /// Puts a deadline off; never brings it forward (only another connection does, with its timeout).
    pub(super) fn heard(&mut self, session: SessionId, at: Tick) {
        let Some(row) = self.table.get(&session) else {
            return;
        };
        let deadline = self.deadline(at, row.timeout_ms);
        if deadline > row.deadline && !row.closing {
            self.change(session, |row| row.deadline = deadline);
        }
    }

    /// Changes a session and keeps the deadlines in step.
    fn change(&mut self, session: SessionId, change: impl FnOnce(&mut Session)) {
        let row = self.table.get_mut(&session).expect("the session exists");
        self.deadlines.remove(&(row.holder, row.deadline, session));
        change(row);
        if !row.closing {
            self.deadlines.insert((row.holder, row.deadline, session));
        }
    }

    /// The session of the earliest deadline that the clock has passed, and so has what is known of the bytes that
    /// arrived: `known` says for each holder up to when.
    pub(super) fn due(
        &self,
        now: Tick,
        known: impl Iterator<Item = (Holder, Tick)>,
    ) -> Option<SessionId> {
        let first = known.filter_map(|(holder, passed)| {
            let from = (holder, Tick(0), SessionId(i64::MIN));
            let to = (holder, passed.min(now), SessionId(i64::MAX));
            let first = self.deadlines.range(from..=to).next();
            first.map(|&(_, deadline, session)| (deadline, session))
        });
        first.min().map(|(_, session)| session)
    }

    /// From now on nothing of the session is accepted.
    pub(super) fn mark_closing(&mut self, session: SessionId) {
        self.change(session, |row| {
            assert!(!row.closing, "a session closes once");
            row.closing = true;
        });
    }

    /// Whether its closeSession is prepared, or about to be.
    pub(super) fn is_closing(&self, session: SessionId) -> bool {
        self.table.get(&session).is_some_and(|row| row.closing)
    }

    /// Sessions that are marked as closing.
    pub(in crate::pipeline) fn closing(&self) -> impl Iterator<Item = SessionId> + '_ {
        let closing = self.table.iter().filter(|(_, row)| row.closing);
        closing.map(|(&session, _)| session)
    }

    /// The closeSession is applied. Tolerates a session that is not there.
    pub(super) fn remove(&mut self, session: SessionId) {
        if let Some(row) = self.table.remove(&session) {
            assert!(row.closing, "only a closing session goes");
        }
    }

    /// A transaction that is prepared adds ephemerals to the closeSession's list.
    pub(super) fn list_grows(&mut self, session: SessionId, by: ListSize) {
        if let Some(row) = self.table.get_mut(&session) {
            row.list_in_flight = row.list_in_flight.plus(by);
        }
    }

    /// That transaction is applied: the tree knows its ephemerals.
    pub(super) fn list_is_applied(&mut self, session: SessionId, of: ListSize) {
        if let Some(row) = self.table.get_mut(&session) {
            let left = row.list_in_flight.minus(of);
            row.list_in_flight = left.expect("what was added is taken once");
        }
    }

    /// Upper bound of what transactions in flight add to the closeSession's list.
    pub(super) fn list_in_flight(&self, session: SessionId) -> ListSize {
        let row = self.table.get(&session);
        row.map_or(ListSize::default(), |row| row.list_in_flight)
    }

    /// The same, of all sessions together.
    pub(super) fn lists_in_flight(&self) -> ListSize {
        let lists = self.table.values().map(|row| row.list_in_flight);
        lists.fold(ListSize::default(), ListSize::plus)
    }

    /// Deadlines that are kept.
    pub(super) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// Sessions that are not closing, and whose deadline is kept.
    pub(super) fn deadlines_recounted(&self) -> usize {
        let kept = self.table.iter().filter(|(session, row)| {
            let deadline = (row.holder, row.deadline, **session);
            !row.closing && self.deadlines.contains(&deadline)
        });
        kept.count()
    }

    /// Of a session that is not closing.
    pub(in crate::pipeline) fn deadline_of(&self, session: SessionId) -> Option<Tick> {
        let row = self.table.get(&session).filter(|row| !row.closing)?;
        Some(row.deadline)
    }

    /// Whether there is a session with this id, a closing one included.
    pub(super) fn is_known(&self, session: SessionId) -> bool {
        self.table.contains_key(&session)
    }

    /// Number of sessions, closing ones included.
    pub(in crate::pipeline) fn len(&self) -> usize {
        self.table.len()
    }
}
