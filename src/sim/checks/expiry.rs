//! A session expires only after a silence of its timeout.

use super::super::base::TICK_MS;
use crate::types::SessionId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long a re-attachment may wait in a shard that is held still, µs.
const ASKED_FOR_US: u64 = 4_000_000;
/// Times that are remembered for each session, beside the newest.
const HEARD_MAX: usize = 64;

#[derive(Default)]
pub(in crate::sim) struct Expiry {
    /// When each session was heard of, µs, latest last, and its timeout at that moment, ms.
    heard_at: BTreeMap<SessionId, VecDeque<(u64, i32)>>,
    /// Timeouts that re-attachments asked for, and when, µs: one may be granted although its
    /// connection is lost before the answer, also after a later one that another shard was quicker
    /// with.
    asked: BTreeMap<SessionId, Vec<(u64, i32)>>,
    /// Requests that wait in the kernel, by connection: whose they are, and since when, µs.
    waiting: BTreeMap<usize, (SessionId, u64)>,
    /// Those of them that wait for a session.
    attaching: BTreeSet<usize>,
    /// When the core that orders was held up, µs.
    ordering_held: (u64, u64),
}

impl Expiry {
    /// Nobody is known after a start.
    pub(super) fn recovered(&mut self) {
        self.heard_at.clear();
        self.waiting.clear();
        self.attaching.clear();
    }

    /// A request has reached the kernel, where it waits.
    pub(in crate::sim) fn waits(&mut self, connection: usize, session: SessionId, now_us: u64) {
        self.waiting.entry(connection).or_insert((session, now_us));
    }

    /// A ConnectRequest that presents the session has reached the kernel, where it waits.
    pub(in crate::sim) fn waits_to_attach(
        &mut self,
        connection: usize,
        session: SessionId,
        timeout_ms: i32,
        now_us: u64,
    ) {
        // Until it is granted, the session keeps the timeout that it has.
        let last = self.heard_at.get(&session).and_then(VecDeque::back);
        let known = last.map_or(i32::MAX, |&(_, timeout_ms)| timeout_ms);
        self.heard(session, timeout_ms.min(known), now_us);
        self.waits(connection, session, now_us);
        self.attaching.insert(connection);
    }

    /// A shard is held still, and must not keep sessions alive that it does not serve.
    pub(in crate::sim) fn stalled(&mut self) {
        for connection in std::mem::take(&mut self.attaching) {
            self.waiting.remove(&connection);
        }
    }

    /// A pause, or a sync while shards on other cores go on, holds up the core that orders.
    pub(in crate::sim) fn ordering_is_held(&mut self, now_us: u64, until_us: u64) {
        let (from, until) = self.ordering_held;
        self.ordering_held = match now_us < until {
            true => (from, until.max(until_us)),
            false => (now_us, until_us),
        };
    }

    /// Every request on a connection was read: its silence counts from when the last one came.
    pub(in crate::sim) fn nothing_waits(&mut self, connection: usize) {
        self.waiting.remove(&connection);
        self.attaching.remove(&connection);
    }

    /// What waits on a connection counts no more: its client has left it, or has reset it.
    pub(in crate::sim) fn left(&mut self, connection: usize) {
        let Some((session, since)) = self.waiting.remove(&connection) else {
            return;
        };
        if let Some(times) = self.heard_at.get_mut(&session) {
            times.retain(|(at, _)| *at < since);
        }
    }

    /// The server has something of the session.
    pub(in crate::sim) fn heard(&mut self, session: SessionId, timeout_ms: i32, now_us: u64) {
        let times = self.heard_at.entry(session).or_default();
        times.push_back((now_us, timeout_ms));
        let long_past = |at: u64| at + 3 * TICK_MS * 1000 < now_us;
        while times.len() > HEARD_MAX && long_past(times[1].0) {
            times.pop_front();
        }
    }

    /// A ConnectRequest that presents the session has reached the server.
    pub(in crate::sim) fn asked(&mut self, session: SessionId, timeout_ms: i32, now_us: u64) {
        let asked = self.asked.entry(session).or_default();
        asked.push((now_us, timeout_ms));
    }

    /// The session expires, and so it was decided at `decided`. What arrives behind the decision
    /// does not undo it, nor what arrived behind the deadline and shortly before the decision, which
    /// comes late if the core that orders was held up.
    pub(super) fn observe(&self, session: SessionId, decided: u64) -> Result<(), String> {
        let Some(heard) = self.heard_at.get(&session) else {
            return Ok(());
        };
        let waiting = self.waiting.values();
        let since = waiting.filter(|(whose, _)| *whose == session);
        // From then on nobody was silent.
        let since = since.map(|(_, since)| *since).min().unwrap_or(u64::MAX);
        let known = decided.min(since);
        let times: Vec<_> = heard.iter().filter(|(at, _)| *at <= known).collect();
        let asked = self.asked.get(&session).into_iter().flatten();
        let recent = asked.filter(|(at, _)| at + ASKED_FOR_US > decided);
        let asked = recent.map(|(_, timeout_ms)| *timeout_ms);
        let (from, until) = self.ordering_held;
        let is_late = decided <= until + 4 * TICK_MS * 1000;
        let is_recent = |at: u64| at + 2 * TICK_MS * 1000 >= decided || is_late && at >= from;
        let silent = (0..times.len()).any(|i| {
            let (at, timeout_ms) = *times[i];
            let next = times.get(i + 1).map_or(known, |(next, _)| *next);
            let timeout_ms = asked.clone().fold(timeout_ms, i32::min);
            is_recent(next) && next - at >= timeout_ms as u64 * 1000
        });
        match times.last() {
            Some((at, timeout_ms)) if !silent => Err(format!(
                "session {session} expired {} ms after it was heard of, its timeout is {timeout_ms} ms",
                (decided - at) / 1000
            )),
            _ => Ok(()),
        }
    }
}
