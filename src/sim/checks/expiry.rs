//! A session expires only after a silence of its timeout.

use super::super::base::TICK_MS;
use crate::types::SessionId;
use std::collections::{BTreeMap, VecDeque};

/// How long a re-attachment may wait in a shard that is held still, µs.
const ASKED_FOR_US: u64 = 4_000_000;
/// Times that are remembered for each session.
const HEARD_MAX: usize = 64;

#[derive(Default)]
pub(in crate::sim) struct Expiry {
    /// When each session was heard of, µs, latest last, and its timeout at that moment, ms.
    heard_at: BTreeMap<SessionId, VecDeque<(u64, i32)>>,
    /// Timeouts that re-attachments asked for, and when, µs: one may be granted although its
    /// connection is lost before the answer, also after a later one that another shard was quicker
    /// with.
    asked: BTreeMap<SessionId, Vec<(u64, i32)>>,
}

impl Expiry {
    /// Nobody is known after a start.
    pub(super) fn recovered(&mut self) {
        self.heard_at.clear();
    }

    /// The server has something of the session.
    pub(in crate::sim) fn heard(&mut self, session: SessionId, timeout_ms: i32, now_us: u64) {
        let times = self.heard_at.entry(session).or_default();
        times.push_back((now_us, timeout_ms));
        if times.len() > HEARD_MAX {
            times.pop_front();
        }
    }

    /// A ConnectRequest that presents the session has reached the server.
    pub(in crate::sim) fn asked(&mut self, session: SessionId, timeout_ms: i32, now_us: u64) {
        let asked = self.asked.entry(session).or_default();
        asked.push((now_us, timeout_ms));
    }

    /// The session expires, and so it was decided at `decided`. What arrives behind the decision
    /// does not undo it, nor what arrived behind the deadline and shortly before the decision.
    pub(super) fn observe(&self, session: SessionId, decided: u64) -> Result<(), String> {
        let Some(heard) = self.heard_at.get(&session) else {
            return Ok(());
        };
        let times: Vec<_> = heard.iter().filter(|(at, _)| *at <= decided).collect();
        let asked = self.asked.get(&session).into_iter().flatten();
        let recent = asked.filter(|(at, _)| at + ASKED_FOR_US > decided);
        let asked = recent.map(|(_, timeout_ms)| *timeout_ms);
        let silent = (0..times.len()).any(|i| {
            let (at, timeout_ms) = *times[i];
            let next = times.get(i + 1).map_or(decided, |(next, _)| *next);
            let timeout_ms = asked.clone().fold(timeout_ms, i32::min);
            next + 2 * TICK_MS * 1000 >= decided && next - at >= timeout_ms as u64 * 1000
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
