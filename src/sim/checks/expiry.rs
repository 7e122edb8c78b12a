//! A session expires only after a silence of its timeout.
//!
//! A decision to expire may come long after the silence: the core that orders is held up by a sync, or
//! there is no room in the log. What came in the meantime saves the session if the core has been told
//! of it. It has been told of everything that lay in a socket at the watermark (`pipeline/arrivals.rs`),
//! so a silence counts only if it is younger than everything below the watermark with which the turn of
//! the decision began.

use super::super::disk::SimStorage;
use crate::pipeline::Pipeline;
use crate::shard::Rounds;
use crate::types::{SessionId, ShardId, Tick};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long a re-attachment may wait in a shard that is held still, µs.
const ASKED_FOR_US: u64 = 4_000_000;

/// Where a sign of life is until the core that orders is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum At {
    /// It comes from there.
    Ordering,
    /// In a socket of the core.
    Shard(u16),
    /// In a connection that no core has taken.
    Backlog,
}

/// A session was heard of.
#[derive(Clone, Copy)]
struct Heard {
    us: u64,
    /// Of the session at that moment, ms.
    timeout_ms: i32,
    at: At,
    /// It is the server's own answer to a ConnectRequest.
    is_answer: bool,
}

/// What the core that orders has been told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    shards: Vec<(ShardId, Tick)>,
    everywhere: Tick,
    /// Up to when the sessions are known that each shard has heard of: those that it answered itself are among them,
    /// whenever that was.
    gathered: Vec<(u16, Tick)>,
}

impl Told {
    fn of(&self, heard: &Heard) -> bool {
        let watermark = match heard.at {
            At::Ordering => return true,
            At::Shard(n) => {
                let own = self.shards.iter().find(|(shard, _)| shard.0 == n);
                own.map_or(Tick(0), |(_, watermark)| *watermark)
            }
            At::Backlog => self.everywhere,
        };
        let answers = |&&(shard, _): &&(u16, Tick)| heard.is_answer && heard.at == At::Shard(shard);
        let gathered = self.gathered.iter().find(answers);
        heard.us <= watermark.0 * 1000
            || gathered.is_some_and(|(_, until)| heard.us < until.0 * 1000)
    }
}

#[derive(Default)]
pub(in crate::sim) struct Expiry {
    /// When each session was heard of, latest last.
    heard: BTreeMap<SessionId, Vec<Heard>>,
    /// Timeouts that re-attachments asked for, and when, µs: one may be granted although its
    /// connection is lost before the answer, also after a later one that another shard was quicker
    /// with.
    asked: BTreeMap<SessionId, Vec<(u64, i32)>>,
    /// Connections with bytes that wait in the kernel: whose they are, and since when, µs.
    waiting: BTreeMap<usize, (SessionId, u64)>,
    /// Those of them that wait for a session.
    attaching: BTreeSet<usize>,
    /// What the core that orders had been told when a turn ended at this moment, µs, where that has
    /// changed.
    told: Vec<(u64, Told)>,
    /// How each session's end was decided: the ephemerals may go first.
    closing: BTreeMap<SessionId, Decision>,
    /// Reports that each shard has made and that the core that orders was not told of yet: up to when what came is
    /// known, and whom it had heard of.
    reports: BTreeMap<u16, VecDeque<Rounds>>,
    /// The watermark of the last one.
    made: BTreeMap<u16, Tick>,
    /// The last ones that it was told of.
    gathered: BTreeMap<u16, Tick>,
}

/// A session's end.
struct Decision {
    /// The turn, µs.
    us: u64,
    /// When the ConnectRequests came that present the session and were not read whole, µs. Where a core reads a few
    /// bytes in a turn, nobody knows yet whose they are, although their connections were read from.
    unread: Vec<u64>,
    /// Since when a request of the session lay in a core's input, and was not executed, µs.
    parked: Option<u64>,
}

impl Expiry {
    /// Nobody is known after a start.
    pub(super) fn recovered(&mut self) {
        self.heard.clear();
        self.told.clear();
        self.closing.clear();
        self.waiting.clear();
        self.attaching.clear();
        self.reports.clear();
        self.made.clear();
        self.gathered.clear();
    }

    /// A shard has made this report last. Of two with one watermark the core that orders may have taken the first alone.
    pub(in crate::sim) fn reported(&mut self, core: u16, rounds: Rounds) {
        let reports = self.reports.entry(core).or_default();
        if self.made.insert(core, rounds.watermark) != Some(rounds.watermark) {
            reports.push_back(rounds);
        }
    }

    /// Whether the core that orders knows of what came into a socket of a core then.
    pub(in crate::sim) fn is_told(&self, core: u16, us: u64) -> bool {
        let told = self.told.last().map(|(_, told)| &told.shards);
        let mut shards = told.into_iter().flatten();
        shards.any(|(shard, until)| shard.0 == core && us <= until.0 * 1000)
    }

    /// Bytes have reached the kernel, where they wait.
    pub(in crate::sim) fn waits(&mut self, connection: usize, session: SessionId, now_us: u64) {
        self.waiting.entry(connection).or_insert((session, now_us));
    }

    /// A ConnectRequest that presents the session has reached the kernel, where it waits.
    pub(in crate::sim) fn waits_to_attach(
        &mut self,
        connection: usize,
        session: SessionId,
        timeout_ms: i32,
        at: At,
        now_us: u64,
    ) {
        // Until it is granted, the session keeps the timeout that it has.
        let last = self.heard.get(&session).and_then(|heard| heard.last());
        let known = last.map_or(i32::MAX, |heard| heard.timeout_ms);
        self.heard(session, timeout_ms.min(known), at, now_us);
        self.waits(connection, session, now_us);
        self.attaching.insert(connection);
    }

    /// A shard is held still, and must not keep sessions alive that it does not serve.
    pub(in crate::sim) fn stalled(&mut self) {
        for connection in std::mem::take(&mut self.attaching) {
            self.waiting.remove(&connection);
        }
    }

    /// A turn of the core that orders ends, and it has been told this.
    pub(in crate::sim) fn ordering_was_told(
        &mut self,
        pipeline: &Pipeline<SimStorage>,
        parked_since: &dyn Fn(SessionId) -> Option<u64>,
        now_us: u64,
    ) {
        for session in pipeline.closing() {
            self.closing.entry(session).or_insert_with(|| {
                let attaching = self.attaching.iter();
                let waiting = attaching.filter_map(|connection| self.waiting.get(connection));
                let unread = waiting.filter(|(whose, _)| *whose == session);
                Decision {
                    us: now_us,
                    unread: unread.map(|(_, since)| *since).collect(),
                    parked: parked_since(session),
                }
            });
        }
        let (everywhere, shards) = pipeline.known_arrivals();
        let shards: Vec<(ShardId, Tick)> = shards.collect();
        for (shard, watermark) in &shards {
            let reports = self.reports.entry(shard.0).or_default();
            while let Some(report) = reports
                .front()
                .filter(|report| report.watermark <= *watermark)
            {
                self.gathered.insert(shard.0, report.gathered);
                reports.pop_front();
            }
        }
        let told = Told {
            shards,
            everywhere,
            gathered: self.gathered.iter().map(|(n, at)| (*n, *at)).collect(),
        };
        if self.told.last().is_none_or(|(_, last)| *last != told) {
            self.told.push((now_us, told));
        }
    }

    /// Who was heard of since the start.
    pub(in crate::sim) fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.heard.keys().copied()
    }

    /// Everything on a connection was read: its silence counts from when the last of it came.
    pub(in crate::sim) fn nothing_waits(&mut self, connection: usize) {
        self.waiting.remove(&connection);
        self.attaching.remove(&connection);
    }

    /// What waits on a connection counts no more: its client has left it, or has reset it.
    pub(in crate::sim) fn left(&mut self, connection: usize) {
        let Some((session, since)) = self.waiting.remove(&connection) else {
            return;
        };
        if let Some(heard) = self.heard.get_mut(&session) {
            heard.retain(|heard| heard.us < since);
        }
    }

    /// The server has something of the session since `us`, or has begun to answer it then.
    pub(in crate::sim) fn heard(&mut self, session: SessionId, timeout_ms: i32, at: At, us: u64) {
        self.insert(session, timeout_ms, at, us, false);
    }

    /// A core that serves has begun to answer the ConnectRequest of the session at `us`: whatever it reports
    /// afterwards says so.
    pub(in crate::sim) fn answered(
        &mut self,
        session: SessionId,
        timeout_ms: i32,
        core: u16,
        us: u64,
    ) {
        self.insert(session, timeout_ms, At::Shard(core), us, true);
    }

    fn insert(&mut self, session: SessionId, timeout_ms: i32, at: At, us: u64, is_answer: bool) {
        let heard = self.heard.entry(session).or_default();
        let behind = heard.partition_point(|heard| heard.us <= us);
        let new = Heard {
            us,
            timeout_ms,
            at,
            is_answer,
        };
        heard.insert(behind, new);
    }

    /// The shortest timeout that a session may have had lately, ms.
    pub(in crate::sim) fn timeout_min(&self, session: SessionId, now_us: u64) -> i32 {
        let heard = self.heard.get(&session).into_iter().flatten();
        let asked = self.asked.get(&session).into_iter().flatten();
        let recent = asked.filter(|(at, _)| at + ASKED_FOR_US > now_us);
        let timeouts = heard.map(|heard| heard.timeout_ms);
        timeouts.chain(recent.map(|(_, ms)| *ms)).min().unwrap_or(0)
    }

    /// A ConnectRequest that presents the session has reached the server.
    pub(in crate::sim) fn asked(&mut self, session: SessionId, timeout_ms: i32, now_us: u64) {
        let asked = self.asked.entry(session).or_default();
        asked.push((now_us, timeout_ms));
    }

    /// The longest timeout that a session may have, as far as its clients were granted one or have asked, ms.
    pub(in crate::sim) fn timeout_max(&self, session: SessionId) -> i32 {
        let heard = self.heard.get(&session).into_iter().flatten();
        let asked = self.asked.get(&session).into_iter().flatten();
        let granted = heard.map(|heard| heard.timeout_ms);
        granted
            .chain(asked.map(|(_, timeout_ms)| *timeout_ms))
            .max()
            .unwrap_or(0)
    }

    /// The session expires by a transaction that was ordered at `ordered`. What arrives behind the
    /// decision does not undo it, nor what arrived behind the deadline if the core that orders was not told.
    pub(in crate::sim) fn observe(&self, session: SessionId, ordered: u64) -> Result<(), String> {
        let decision = self.closing.get(&session);
        let decided = decision.map_or(ordered, |decision| ordered.min(decision.us));
        let is_unread =
            |heard: &Heard| decision.is_some_and(|decision| decision.unread.contains(&heard.us));
        let Some(heard) = self.heard.get(&session) else {
            return Ok(());
        };
        let waiting = self.waiting.values();
        let since = waiting.filter(|(whose, _)| *whose == session);
        // From then on nobody was silent.
        let parked = decision.and_then(|decision| decision.parked);
        let since = since.map(|(_, since)| *since).chain(parked);
        let since = since.min().unwrap_or(u64::MAX);
        let known = decided.min(since);
        let heard = &heard[..heard.partition_point(|heard| heard.us <= known)];
        let turns = self.told.partition_point(|(us, _)| *us < decided);
        let told = self.told[..turns].last();
        let is_told =
            |heard: &Heard| told.is_some_and(|(_, told)| told.of(heard)) && !is_unread(heard);
        let asked = self.asked.get(&session).into_iter().flatten();
        let recent = asked.filter(|(at, _)| at + ASKED_FOR_US > decided);
        let asked = recent.map(|(_, timeout_ms)| *timeout_ms);
        let newest_told = heard.iter().rposition(is_told).unwrap_or(0);
        let silent = (newest_told..heard.len()).any(|i| {
            let next = heard.get(i + 1).map_or(known, |next| next.us);
            let timeout_ms = asked.clone().fold(heard[i].timeout_ms, i32::min);
            next - heard[i].us >= timeout_ms as u64 * 1000
        });
        match heard.last() {
            Some(last) if !silent => Err(format!(
                "session {session} expired {} ms after it was heard of, its timeout is {} ms",
                (decided - last.us) / 1000,
                last.timeout_ms
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(7);
    const TIMEOUT_MS: i32 = 200;

    fn told(watermark: u64, gathered: u64) -> Told {
        Told {
            shards: vec![(ShardId(0), Tick(watermark))],
            everywhere: Tick(0),
            gathered: vec![(0, Tick(gathered))],
        }
    }

    /// The session is made at 0 and answered at 1,000 ms, because its shard was held still; it expires at 1,100 ms,
    /// when the core that orders knows of this.
    fn expires_behind_its_answer(told: Told) -> Result<(), String> {
        let mut expiry = Expiry::default();
        expiry.heard(SESSION, TIMEOUT_MS, At::Ordering, 0);
        expiry.answered(SESSION, TIMEOUT_MS, 0, 1_000_000);
        expiry.told.push((1_050_000, told));
        expiry.observe(SESSION, 1_100_000)
    }

    #[test]
    fn a_report_that_was_gathered_behind_an_answer_says_that_the_session_lives() {
        assert_eq!(expires_behind_its_answer(told(900, 999)), Ok(()));
        assert!(expires_behind_its_answer(told(900, 1_001)).is_err());
        assert!(expires_behind_its_answer(told(1_000, 999)).is_err());
    }

    #[test]
    fn of_two_reports_with_one_watermark_the_first_counts() {
        let mut expiry = Expiry::default();
        for gathered in [10, 80] {
            let rounds = Rounds {
                looked: Tick(gathered),
                watermark: Tick(5),
                gathered: Tick(gathered),
            };
            expiry.reported(0, rounds);
            expiry.reported(0, rounds);
        }
        let gathered = expiry.reports[&0].iter().map(|report| report.gathered);
        assert_eq!(gathered.collect::<Vec<_>>(), [Tick(10)]);
    }

    #[test]
    fn nobody_expires_whose_request_lies_in_the_input_of_a_core() {
        for (parked, may_expire) in [(None, true), (Some(150_000), false), (Some(250_000), true)] {
            let mut expiry = Expiry::default();
            expiry.heard(SESSION, TIMEOUT_MS, At::Ordering, 0);
            let decision = Decision {
                us: 400_000,
                unread: Vec::new(),
                parked,
            };
            expiry.closing.insert(SESSION, decision);
            let expired = expiry.observe(SESSION, 400_000);
            assert_eq!(expired.is_ok(), may_expire, "{parked:?}: {expired:?}");
        }
    }
}
