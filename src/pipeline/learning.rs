//! What only who follows has: the requests of its clients, on their way to its leader and back.
//!
//! | A shard asks for | Done | Outcome |
//! |---|---|---|
//! | a write, the session's attachment is another | – | `Close` |
//! | a write | passed on with a number of this member's | the transaction with that number; with error −118 `Close`: another member has the session |
//! | a new session | its id is made here; passed on | the createSession; an error: `Close` |
//! | a session that another connection of this member has | `Detach` to that one's shard, as who orders does | as the next, or `Close` when that is silent |
//! | a session that no connection here has | the leader is asked | yes: `Attached`; no, or closed since: `Dead`; no word for the session's timeout, or a newer one has come: `Close` |
//! | a sync | passed on | `Synced` |
//!
//! **Order.** Requests are passed on in the order in which they came, and the leader's answers come on the same
//! connection as its commits. An answer is taken when everything that is committed by then was told, so that a client that
//! is let in reads all that it wrote elsewhere. Requests of one session have one order everywhere; those of others may be
//! overtaken by the leader's slow closes, so an outcome is found by its number.
//!
//! **Bounds.** What is under way is bounded in requests and bytes; the rest waits here, no more of it than shards have
//! credits, and `PENDING_MAX` handshakes. What is under way when the role ends has no outcome: the shards are suspended.
//!
//! **Touches.** The answer to a ping names who was heard of, and everybody whom a shard serves that has not reported for
//! a tickTime: what lies in its sockets is not known.

use super::attachments::{Attachments, Claim, Release};
use super::between::{ForPeers, FromPeers, request_bytes};
use super::claims::Claims;
use super::common::Common;
use super::counters::Counters;
use super::slot::Slot;
use super::step::Step;
use crate::log::storage::Storage;
use crate::messages::{Notice, Origin, ShardRequest, Stamps};
use crate::tree::Tree;
use crate::txn::{Txn, WriteRequest};
use crate::types::{DetHashMap, ErrorCode, Now, SessionId, ShardId, Tick, Xid, Zxid};
use crate::zab::REVALIDATIONS_MAX;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Bytes of requests that a member has passed on and that have no outcome, or one that is longer: what a leader does not take of its learner is bounded, too.
pub(super) const UNDER_WAY_BYTES_MAX: usize = 4 << 20;

/// A request that the leader has.
#[derive(Debug)]
struct UnderWay {
    origin: Origin,
    session: SessionId,
    /// It is a createSession, with this timeout.
    opens: Option<i32>,
    bytes: usize,
    stamps: Stamps,
}

/// A session that a connection of this member has.
#[derive(Clone, Copy, Debug)]
struct Here {
    shard: ShardId,
    timeout_ms: i32,
}

/// The requests of a learner's clients.
#[derive(Debug)]
pub(super) struct Learning {
    /// Writes and new sessions that are not passed on yet.
    waiting: VecDeque<ShardRequest>,
    under_way: DetHashMap<Xid, UnderWay>,
    bytes: usize,
    claims: Claims,
    /// What the leader has said, behind what was committed by then.
    answers: VecDeque<(Zxid, FromPeers)>,
    here: DetHashMap<SessionId, Here>,
    /// To be named to the leader, with their timeouts.
    heard: BTreeMap<SessionId, i32>,
    under_way_max: usize,
    tick_time_ms: u64,
}

impl Learning {
    /// Nobody has asked for anything.
    pub(super) fn new(under_way_max: usize, tick_time_ms: u64) -> Learning {
        Learning {
            waiting: VecDeque::new(),
            under_way: DetHashMap::default(),
            bytes: 0,
            claims: Claims::default(),
            answers: VecDeque::new(),
            here: DetHashMap::default(),
            heard: BTreeMap::new(),
            under_way_max,
            tick_time_ms,
        }
    }

    /// Takes what a shard sends.
    pub(super) fn request<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        up: ShardRequest,
    ) {
        let now = step.now;
        common.arrivals.see_clock(now.tick);
        common.arrivals.sent(up.shard());
        step.budget.spend_steps(1);
        match up {
            ShardRequest::Touched {
                shard,
                watermark,
                sessions,
                ..
            } => {
                sessions.iter().for_each(|session| self.touch(*session));
                common.arrivals.reported(shard, watermark.min(now.tick));
            }
            ShardRequest::Released {
                shard,
                session,
                generation,
            } => match (common.attachments).released((shard, session, generation), false) {
                Release::Stale | Release::LetGo => {}
                Release::Free(claim) => self.ask(common, claim, session, now.tick),
            },
            ShardRequest::NewSession { origin, .. } | ShardRequest::Reattach { origin, .. }
                if common.outcomes.is_full() =>
            {
                common.counters.given_up += 1;
                let close = Notice::Close(origin.conn);
                common.outcomes.turn_away(origin.shard, close);
            }
            ShardRequest::Reattach {
                origin,
                session,
                timeout_ms,
            } => {
                common.outcomes.owe();
                let claim = Claim { origin, timeout_ms };
                self.reattach(common, claim, session, now.tick);
            }
            ShardRequest::Sync { origin, session } => {
                common.outcomes.owe();
                common.sync(origin, session);
            }
            ShardRequest::Write { .. } | ShardRequest::NewSession { .. } => {
                common.outcomes.owe();
                match self.waiting.is_empty() && self.has_room() {
                    true => self.pass_on(common, step.tree, up, now),
                    false => self.waiting.push_back(up),
                }
            }
            // It was told of nothing here.
            ShardRequest::Suspended { .. } => {}
        }
    }

    fn has_room(&self) -> bool {
        self.under_way.len() < self.under_way_max && self.bytes < UNDER_WAY_BYTES_MAX
    }

    /// Whether [`Learning::advance`] would do anything.
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty() && self.has_room()
    }

    /// Passes on what waits, as far as there is room.
    pub(super) fn advance<S: Storage>(&mut self, common: &mut Common<S>, step: &mut Step<'_>) {
        while self.has_work() && !step.budget.is_spent() {
            step.budget.spend_steps(1);
            if let Some(up) = self.waiting.pop_front() {
                self.pass_on(common, step.tree, up, step.now);
            }
        }
    }

    fn pass_on<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        tree: &Tree,
        up: ShardRequest,
        now: Now,
    ) {
        match up {
            ShardRequest::Write {
                origin,
                session,
                generation,
                request,
                credentials,
                stamps,
                ..
            } => {
                if common.attachments.is_current(session, generation) == Some(false) {
                    common.counters.stale += 1;
                    tell(common, origin, Notice::Close(origin.conn));
                    return;
                }
                let bytes = request_bytes(&request, &credentials);
                let under_way = UnderWay {
                    origin,
                    session,
                    opens: None,
                    bytes,
                    stamps,
                };
                let number = self.number(common, under_way, now);
                common.wishes.push_back(ForPeers::Request {
                    session,
                    number,
                    request,
                    credentials,
                });
            }
            ShardRequest::NewSession {
                origin,
                timeout_ms,
                stamps,
            } => {
                let high_water = tree.session_high_water(common.ids.creator());
                let is_used = |id| common.attachments.is_known(id);
                let session = (common.ids).allocate(high_water, now.wall, is_used);
                let request = WriteRequest::CreateSession { timeout_ms };
                let under_way = UnderWay {
                    origin,
                    session,
                    opens: Some(timeout_ms),
                    bytes: 0,
                    stamps,
                };
                let number = self.number(common, under_way, now);
                common.wishes.push_back(ForPeers::Request {
                    session,
                    number,
                    request,
                    credentials: Arc::from([]),
                });
            }
            _ => unreachable!("nothing else waits"),
        }
    }

    fn number<S: Storage>(&mut self, common: &mut Common<S>, under_way: UnderWay, now: Now) -> Xid {
        let is_used = |number| self.under_way.contains_key(&number);
        let number = common.numbers.next(now.wall, is_used);
        self.bytes += under_way.bytes;
        self.under_way.insert(number, under_way);
        number
    }

    // Sessions.

    fn reattach<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        claim: Claim,
        session: SessionId,
        now: Tick,
    ) {
        if common.attachments.is_free(session) {
            return self.ask(common, claim, session, now);
        }
        let told = common.journal.cursors().told;
        let mut said = Vec::new();
        (common.attachments).reattach(claim, session, told, now, &mut said);
        say(common, said, now);
    }

    /// Nobody here has the session: the leader is asked, behind all that was passed on.
    fn ask<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        claim: Claim,
        session: SessionId,
        now: Tick,
    ) {
        let before = match self.claims.unanswered() < REVALIDATIONS_MAX {
            true => {
                let timeout_ms = claim.timeout_ms;
                let patience = u64::try_from(timeout_ms).unwrap_or(0);
                common.wishes.push_back(ForPeers::Revalidate {
                    session,
                    timeout_ms,
                });
                self.claims.ask(session, claim, now.after(patience))
            }
            false => Some(claim),
        };
        if let Some(Claim { origin, .. }) = before {
            common.counters.given_up += 1;
            tell(common, origin, Notice::Close(origin.conn));
        }
    }

    /// The leader has said something. It counts when all that was committed by now was told.
    pub(super) fn answered<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        answer: FromPeers,
        now: Tick,
    ) {
        let committed = common.journal.cursors().committed;
        self.answers.push_back((committed, answer));
        self.take_answers(common, now);
    }

    fn take_answers<S: Storage>(&mut self, common: &mut Common<S>, now: Tick) {
        let told = common.journal.cursors().told;
        while let Some(&(behind, answer)) = self.answers.front()
            && behind <= told
        {
            self.answers.pop_front();
            match answer {
                FromPeers::Synced(id) => {
                    if let Some(origin) = common.syncs.remove(&id) {
                        tell(common, origin, Notice::Synced(origin));
                    }
                }
                FromPeers::Revalidated { session, is_valid } => {
                    if let Some(claim) = self.claims.answered(session) {
                        self.let_in(common, claim, session, is_valid, now);
                    }
                }
            }
        }
    }

    fn let_in<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        claim: Claim,
        session: SessionId,
        is_valid: bool,
        now: Tick,
    ) {
        let Claim { origin, timeout_ms } = claim;
        if !is_valid || !common.attachments.is_known(session) {
            return tell(common, origin, Notice::Dead(origin));
        }
        let told = common.journal.cursors().told;
        let mut said = Vec::new();
        if (common.attachments).reattach(claim, session, told, now, &mut said) {
            let shard = origin.shard;
            self.here.insert(session, Here { shard, timeout_ms });
            self.touch(session);
        }
        say(common, said, now);
    }

    // Outcomes.

    /// A transaction is told next. If a client of this member has asked for it, the slot says so from now on; gives
    /// what is said behind it.
    pub(super) fn outcome(
        &mut self,
        attachments: &mut Attachments,
        counters: &mut Counters,
        slot: &mut Slot,
    ) -> Vec<(Origin, Notice)> {
        let header = slot.entry.header;
        let (number, session) = (Xid(header.cxid), header.session);
        let mut said = Vec::new();
        let asked = self.under_way.get(&number);
        let is_asked = asked.is_some_and(|asked| {
            let opens = matches!(slot.entry.txn, Txn::CreateSession { .. });
            let fails = matches!(slot.entry.txn, Txn::Error { .. });
            asked.session == session && (fails || opens == asked.opens.is_some())
        });
        if is_asked && let Some(asked) = self.under_way.remove(&number) {
            let UnderWay { origin, stamps, .. } = asked;
            self.bytes -= asked.bytes;
            slot.origin = Some(origin);
            slot.stamps.received = stamps.received;
            match (asked.opens, &slot.entry.txn) {
                (Some(timeout_ms), Txn::CreateSession { .. }) => {
                    let (shard, opened) = (origin.shard, slot.zxid());
                    if !attachments.is_known(session) {
                        slot.generation = attachments.open(session, shard, opened);
                        self.here.insert(session, Here { shard, timeout_ms });
                        self.touch(session);
                    }
                }
                (Some(_), _) => {
                    counters.given_up += 1;
                    slot.origin = None;
                    said.push((origin, Notice::Close(origin.conn)));
                }
                (None, Txn::Error { code }) if *code == ErrorCode::SESSION_MOVED => {
                    counters.stale += 1;
                    slot.origin = None;
                    said.push((origin, Notice::Close(origin.conn)));
                }
                (None, _) => {}
            }
        }
        match slot.entry.txn {
            Txn::CreateSession { .. } if !attachments.is_known(session) => {
                attachments.restore(session);
            }
            Txn::CloseSession { .. } => {
                let dead = |claim: Claim| (claim.origin, Notice::Dead(claim.origin));
                said.extend(self.claims.dismiss(session).map(dead));
                said.extend(attachments.end(session).map(dead));
                self.here.remove(&session);
                self.heard.remove(&session);
            }
            _ => {}
        }
        said
    }

    /// Something was told, and what follows it was said.
    pub(super) fn told<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        said: Vec<(Origin, Notice)>,
        now: Tick,
    ) {
        for (origin, notice) in said {
            tell(common, origin, notice);
        }
        self.take_answers(common, now);
    }

    // Time, and the leader's pings.

    /// Who has waited for too long goes.
    pub(super) fn tick<S: Storage>(&mut self, common: &mut Common<S>, now: Tick) {
        let mut said = Vec::new();
        let told = common.journal.cursors().told;
        (common.attachments).give_up(told, now, &mut said);
        common.counters.given_up += said.len() as u64;
        say(common, said, now);
        while let Some(Claim { origin, .. }) = self.claims.give_up(now) {
            common.counters.given_up += 1;
            tell(common, origin, Notice::Close(origin.conn));
        }
    }

    fn touch(&mut self, session: SessionId) {
        if let Some(here) = self.here.get(&session) {
            self.heard.insert(session, here.timeout_ms);
        }
    }

    /// The leader's ping is answered next.
    pub(super) fn is_asked<S: Storage>(&mut self, common: &mut Common<S>, now: Tick) {
        let patience = self.tick_time_ms;
        let is_late = |shard: ShardId| common.arrivals.at_shard(shard).after(patience) < now;
        for (session, here) in &self.here {
            if is_late(here.shard) {
                self.heard.insert(*session, here.timeout_ms);
            }
        }
    }

    /// The next session to name to the leader, with its timeout.
    pub(super) fn poll_heard(&mut self) -> Option<(SessionId, i32)> {
        self.heard.pop_first()
    }

    /// It has to be named again.
    pub(super) fn not_named(&mut self, session: SessionId, timeout_ms: i32) {
        self.heard.insert(session, timeout_ms);
    }

    // For inspection.

    /// Requests that are not passed on yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that the leader has.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Connections that wait for the leader's word on their session.
    pub(super) fn claims(&self) -> usize {
        self.claims.len()
    }

    /// The same, from each session.
    pub(super) fn claims_recounted(&self) -> usize {
        self.claims.recounted()
    }
}

/// Says something at once: what it follows was told.
fn tell<S: Storage>(common: &mut Common<S>, origin: Origin, notice: Notice) {
    common.outcomes.tell(origin.shard, notice);
}

fn say<S: Storage>(common: &mut Common<S>, said: Vec<super::outcomes::Said>, now: Tick) {
    let told = common.journal.cursors().told;
    for (shard, mut notice) in said {
        match &mut notice {
            Notice::Attached { committed, .. } => {
                *committed = told;
                common.counters.reattached += 1;
            }
            Notice::Detach { session, .. } => common.attachments.told(*session, now),
            _ => {}
        }
        common.outcomes.tell(shard, notice);
    }
}
