//! A leader with its epoch (docs/peer-protocol.md §2.7, §2.10–2.13): first its history, then transactions.
//!
//! ```text
//! Adopt ─► adopted ─► Record ─► recorded ─┐
//!                                         ├─ a quorum holds the history ─► Activate ─► serve ─► active: propose, commit
//! admit ─► attach ─► ACK of NEWLEADER ────┘                                           UPTODATE to each that has
//! ```
//!
//! What a packet of a learner does:
//!
//! | Packet | before NEWLEADER has left | offered | acknowledged | up to date |
//! |---|---|---|---|---|
//! | ACK(epoch, 0) | dropped | holds the history: counts | – | – |
//! | ACK(z), of what was sent | dropped, if z was not sent | noted | noted | counts |
//! | ACK(z), committed, or of another epoch | – | – | – | – |
//! | ACK(z), not sent | dropped | dropped | dropped | dropped |
//! | PING | – | – | – | of the oldest unanswered: heard of, confirms; any other: dropped |
//! | REQUEST, REVALIDATE | dropped | dropped | dropped | handed on |
//! | introduction, ACKEPOCH | dropped | dropped | dropped | dropped |
//! | unknown | – | – | – | – |
//!
//! An observer's ACKs mean nothing but that it holds the history. A learner without a whole history counts when the
//! leader is active, and not for making it so.
//!
//! **Who has acknowledged** a transaction is not kept with the transaction. Each connection has a cursor, because a
//! learner logs in order, and the oldest transaction is committed when the cursors behind it are quorums of the
//! configurations under which it was proposed. A cursor ends with its connection: when a learner comes back, what it
//! had acknowledged may be cut from its log and sent again, so it counts when it acknowledges it again. (Apache keeps
//! who has acknowledged, and a transaction may be committed by a server that no longer holds it.)
//!
//! **Confirmed.** A sync is answered when everything is committed that was proposed before it came, and a quorum has
//! answered a ping that was sent since. Whoever answers had promised no other leader its epoch by then; so there was
//! none that could have acknowledged a write which this leader lacks. One round of pings is under way at a time for
//! syncs, and serves all that came before it began. (Apache's leader answers without asking, R9.)

mod learners;
mod queue;

#[cfg(test)]
mod tests;

use super::bounds::{
    HELD_MAX, LEARNERS_MAX, PINGS_MAX, PROPOSED_BYTES_MAX, QUEUE_BYTES_MAX, RESIGN_AT,
    TAIL_BYTES_MAX,
};
use super::decided::Decided;
use super::follow::SyncId;
use super::learner::Learner;
use super::links::LinkId;
use super::tally::{Pair, Tally};
use super::verdict::{Dropped, Leave, Patience};
use crate::log::{Adoption, Durable, Epochs, LogEnd};
use crate::proto::peer::learner::{Forwarded, Touched};
use crate::proto::peer::{ToLeader, ToLearner};
use crate::types::{Epoch, Position, ServerId, SessionId, Tick, Zxid};
use learners::{Connected, Held, Ping, Stage, Told};
use queue::{Item, Proposal};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BroadcastEffect {
    /// Take the own history over as the one of this epoch, durably: a synchronisation in the log without anything in
    /// it. Then [`Broadcast::adopted`].
    Adopt(Epoch),
    /// Make currentEpoch this, durably; then [`Broadcast::recorded`].
    Record(Epoch),
    /// A quorum holds the history: it is committed. Apply it, then [`Broadcast::serve`].
    Activate(Decided),
    /// Commit. What is not durable here may be applied all the same.
    Commit(Decided),
    /// A sync of the leader's own clients.
    Synced(SyncId),
    /// Close.
    Drop(LinkId, Dropped),
}

/// What of a learner's packet is for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Nothing.
    Nothing,
    /// A request to order.
    Request(Forwarded<'a>),
    /// A client has come there with this session; for [`Broadcast::revalidated`].
    Revalidate {
        /// Which.
        session: SessionId,
        /// Negotiated, ms.
        timeout_ms: i32,
    },
    /// Sessions that were heard of there.
    Touched {
        /// Which.
        touched: Touched<'a>,
        /// When the ping was sent that this answers.
        asked: Tick,
    },
}

/// The learner can't get what everybody gets yet: the leader keeps no more than what is behind this. The driver sends it
/// what is before that, from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotYet(pub Zxid);

/// Who waits for a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client of the leader.
    Own(SyncId),
    /// A learner has passed it on.
    Learner(LinkId),
}

/// A leader whose epoch is promised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broadcast {
    me: ServerId,
    epoch: Epoch,
    pair: Pair,
    patience: Patience,
    phase: Phase,
    /// Text of the last seen configuration.
    config: Arc<[u8]>,
    /// Of the log, behind the history of the epoch.
    position: Option<Position>,
    /// The last transaction that was proposed, or the history's.
    proposed: Zxid,
    /// The last that is committed; before activation, the history's.
    committed: Zxid,
    /// Everything up to here is durable here.
    own: Zxid,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Committed transactions behind `tail_from`.
    tail: VecDeque<Proposal>,
    tail_from: Zxid,
    tail_bytes: usize,
    learners: BTreeMap<LinkId, Connected>,
    held: VecDeque<Held>,
    /// Of pings: the last that was sent, the last that a quorum has answered, and the last that a sync waits for.
    round: u64,
    confirmed: u64,
    wanted: u64,
    next_ping: Tick,
    /// Since when a quorum is missing.
    lacking: Option<Tick>,
    out: VecDeque<BroadcastEffect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Who holds the history.
    Synchronising {
        holders: Tally,
        until: Tick,
    },
    /// A quorum does.
    Activating,
    Active,
}

/// A proposal without a decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    proposal: Proposal,
    /// What was live when it was proposed.
    pair: Pair,
}

impl Broadcast {
    /// A quorum has promised `epoch`. `history` is the end of the own one, with which this server went into discovery.
    pub fn begin(
        me: ServerId,
        epoch: Epoch,
        history: Zxid,
        pair: &Pair,
        config: &[u8],
        patience: Patience,
        now: Tick,
    ) -> Broadcast {
        Broadcast {
            me,
            epoch,
            pair: pair.clone(),
            patience,
            phase: Phase::Synchronising {
                holders: Tally::of(pair),
                until: now.after(patience.init_ms),
            },
            config: config.into(),
            position: None,
            proposed: history,
            committed: history,
            own: history,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            tail: VecDeque::new(),
            tail_from: history,
            tail_bytes: 0,
            learners: BTreeMap::new(),
            held: VecDeque::new(),
            round: 0,
            confirmed: 0,
            wanted: 0,
            next_ping: now,
            lacking: None,
            out: VecDeque::from([BroadcastEffect::Adopt(epoch)]),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<BroadcastEffect> {
        self.out.pop_front()
    }

    /// Whether transactions may be proposed.
    pub fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// What is committed; before activation the end of the history, which will be.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// The zxid of the next proposal. `None`: there is none left, and the role ends.
    pub fn next(&self) -> Option<Zxid> {
        match self.proposed.epoch() == self.epoch.0 {
            true if self.proposed.counter() >= Zxid::COUNTER_MAX => None,
            true => Some(Zxid(self.proposed.0 + 1)),
            false => Some(Zxid::new(self.epoch.0, 1)),
        }
    }

    /// Whether one more may be proposed: what has no decision is bounded.
    pub fn has_room(&self) -> bool {
        self.waiting_bytes < PROPOSED_BYTES_MAX
    }

    // Before activation.

    /// The own history is durable as the one of this epoch.
    pub fn adopted(&mut self, history: &Durable<Adoption>) {
        let is_this = history.epoch() == self.epoch && history.zxid() == self.own;
        if is_this && self.position.is_none() {
            self.position = Some(history.position());
            self.out.push_back(BroadcastEffect::Record(self.epoch));
        }
    }

    /// The own record is durable. Only with it does the leader count among those that hold the history (I-3).
    pub fn recorded(&mut self, record: &Durable<Epochs>) {
        if record.current() == self.epoch && self.position.is_some() {
            self.holds(self.me);
        }
    }

    /// What was activated is applied, and this server is ready to serve.
    pub fn serve(&mut self, now: Tick) {
        if self.phase != Phase::Activating {
            return;
        }
        self.phase = Phase::Active;
        let holders = self.learners.iter();
        let holders = holders.filter(|(_, learner)| learner.stage == Stage::Acknowledged);
        let holders: Vec<LinkId> = holders.map(|(link, _)| *link).collect();
        for link in holders {
            self.up_to_date(link, now);
        }
    }

    // Learners come and go.

    /// The synchronisation of a learner begins. An older connection of the same server ends, before it is decided what
    /// this one is sent: what was acknowledged there may be cut here.
    pub fn admit(&mut self, link: LinkId, learner: Learner, now: Tick) {
        let mut others = self.learners.iter();
        let older = others.find(|(_, other)| other.learner.sid == learner.sid);
        if let Some(older) = older.map(|(link, _)| *link) {
            self.drop(older, Dropped::Replaced);
        }
        if self.learners.len() >= LEARNERS_MAX {
            self.drop(link, Dropped::TooMany);
            return;
        }
        let deadline = self.first_deadline(now);
        self.learners
            .insert(link, Connected::new(learner, deadline));
    }

    /// The connection takes what it is synchronised with.
    pub fn streaming(&mut self, link: LinkId, now: Tick) {
        let deadline = self.first_deadline(now);
        if let Some(learner) = self.learners.get_mut(&link)
            && learner.stage == Stage::Streaming
        {
            learner.deadline = deadline;
        }
    }

    /// Everything up to `base`, which is committed, was put into the connection. In one step the learner is given what
    /// is committed behind it, what is proposed, and NEWLEADER; from here on it gets what everybody gets (I-13).
    pub fn attach(&mut self, link: LinkId, base: Zxid, now: Tick) -> Result<(), NotYet> {
        if base < self.tail_from {
            return Err(NotYet(self.tail_from));
        }
        assert!(base <= self.committed, "sent what is not committed");
        let deadline = self.first_deadline(now);
        let Some(learner) = self.learners.get_mut(&link) else {
            return Ok(());
        };
        if learner.is_attached() {
            return Ok(());
        }
        learner.deadline = deadline;
        learner.sent = base;
        learner.acknowledged = base;
        for proposal in self.tail.iter().filter(|proposal| proposal.zxid > base) {
            learner.queue.push(Item::Proposal(proposal.clone()));
            learner.queue.push(Item::Commit(proposal.zxid));
        }
        if learner.votes() {
            for waiting in &self.waiting {
                learner.queue.push(Item::Proposal(waiting.proposal.clone()));
            }
        }
        let mut packet = Vec::new();
        let config = Some(&self.config[..]).filter(|config| !config.is_empty());
        let zxid = Zxid::new(self.epoch.0, 0);
        ToLearner::NewLeader { zxid, config }.encode_into(&mut packet);
        learner.queue.push(Item::NewLeader(packet));
        learner.stage = Stage::Attached;
        Ok(())
    }

    /// A connection is gone.
    pub fn closed(&mut self, link: LinkId) {
        self.learners.remove(&link);
    }

    /// Appends what a connection is to send next: `max` bytes of packets, or one that is longer.
    pub fn fetch(&mut self, link: LinkId, max: usize, now: Tick, out: &mut Vec<u8>) {
        let until = now.after(self.patience.sync_ms);
        if let Some(learner) = self.learners.get_mut(&link) {
            learner.fetch(max, out);
            learner.wait_for_acknowledgement(until);
        }
    }

    // Packets, and what becomes durable.

    /// A packet has come: the table above.
    pub fn packet<'a>(&mut self, link: LinkId, packet: &ToLeader<'a>, now: Tick) -> Heard<'a> {
        let Some(learner) = self.learners.get_mut(&link) else {
            return Heard::Nothing;
        };
        let is_up_to_date = learner.stage == Stage::UpToDate;
        if is_up_to_date {
            learner.deadline = now.after(self.patience.sync_ms);
        }
        match *packet {
            ToLeader::Ack(zxid) if zxid == Zxid::new(self.epoch.0, 0) => {
                self.history_acknowledged(link, now);
            }
            ToLeader::Ack(zxid) => self.acknowledged(link, zxid, now),
            ToLeader::Ping { zxid, touched } if is_up_to_date => {
                let asked = self.ping_answered(link, zxid, now);
                return asked.map_or(Heard::Nothing, |asked| Heard::Touched { touched, asked });
            }
            ToLeader::Ping { .. } | ToLeader::Other(_) => {}
            ToLeader::Request(request) if is_up_to_date => return Heard::Request(request),
            ToLeader::Revalidate {
                session,
                timeout_ms,
            } if is_up_to_date => {
                return Heard::Revalidate {
                    session,
                    timeout_ms,
                };
            }
            _ => self.drop(link, Dropped::Unexpected(packet.kind())),
        }
        Heard::Nothing
    }

    /// The own log is durable up to here. What was durable before the history of this epoch was proves nothing.
    pub fn durable(&mut self, end: &Durable<LogEnd>) {
        let is_of_epoch = self
            .position
            .is_some_and(|position| end.position() >= position);
        if is_of_epoch {
            self.own = end.zxid().min(self.proposed).max(self.own);
            self.commit();
        }
    }

    // What the leader does.

    /// From here on proposals, and the leader's standing, are decided by these configurations.
    pub fn configure(&mut self, pair: &Pair) {
        self.pair = pair.clone();
    }

    /// Proposes a transaction: the next zxid, while there is room.
    pub fn propose(&mut self, zxid: Zxid, entry: &[u8]) {
        assert!(self.is_active(), "a proposal before activation");
        assert_eq!(Some(zxid), self.next(), "a proposal out of order");
        let proposal = Proposal::new(zxid, entry);
        self.proposed = zxid;
        self.waiting_bytes += proposal.bytes();
        self.waiting.push_back(Waiting {
            proposal: proposal.clone(),
            pair: self.pair.clone(),
        });
        let followers = |learner: &Connected| learner.votes();
        self.send_all(followers, |_| Item::Proposal(proposal.clone()));
    }

    /// A sync that comes behind everything that was proposed. False: too many wait; for a learner this has closed its
    /// connection.
    pub fn sync(&mut self, asker: Asker, now: Tick) -> bool {
        let (what, link) = match asker {
            Asker::Own(sync) => (Told::Own(sync), None),
            Asker::Learner(link) => (Told::Sync, Some(link)),
        };
        let round = self.round + 1;
        let is_held = self.hold(link, what, round);
        self.wanted = round;
        self.ask_for_confirmation(now);
        self.release();
        is_held
    }

    /// Whether a session lives; told to the learner behind everything that was ordered before.
    pub fn revalidated(&mut self, link: LinkId, session: SessionId, is_valid: bool) {
        let what = Told::Revalidated { session, is_valid };
        self.hold(Some(link), what, 0);
        self.release();
    }

    /// Time passes. After a pause of the process, what has come meanwhile is handled first.
    pub fn tick(&mut self, now: Tick) -> Result<(), Leave> {
        if let Phase::Synchronising { until, .. } = &self.phase
            && now >= *until
        {
            return Err(Leave::NotAcknowledged(self.epoch));
        }
        let late = self.learners.iter().filter_map(|(link, learner)| {
            let silent = (now >= learner.deadline).then_some(Dropped::Silent);
            let overdue = learner.due.filter(|(_, until)| now >= *until);
            let overdue = overdue.map(|(zxid, _)| Dropped::Unacknowledged(zxid));
            Some((*link, silent.or(overdue)?))
        });
        for (link, why) in late.collect::<Vec<_>>() {
            self.drop(link, why);
        }
        self.keep_standing(now)?;
        if now >= self.next_ping {
            self.ping_all(now);
            self.release();
        }
        Ok(())
    }

    fn keep_standing(&mut self, now: Tick) -> Result<(), Leave> {
        if !self.is_active() {
            return Ok(());
        }
        let is_quorum = self.is_quorum_with(|_| true);
        // A learner that comes back in the meantime may be on its way.
        let since = *self.lacking.get_or_insert(now);
        if is_quorum {
            self.lacking = None;
        } else if now >= since.after(self.patience.ping_ms) {
            return Err(Leave::NotHeard);
        }
        let is_near_end =
            self.proposed.epoch() == self.epoch.0 && self.proposed.counter() >= RESIGN_AT;
        let is_over = is_near_end && self.waiting.is_empty() || self.next().is_none();
        match is_over {
            true => Err(Leave::UsedUp(self.epoch)),
            false => Ok(()),
        }
    }

    /// Whether the leader and the learners that are so make quorums of the live configurations.
    fn is_quorum_with(&self, is_so: impl Fn(&Connected) -> bool) -> bool {
        self.quorum(&self.pair, true, is_so)
    }

    fn quorum(&self, pair: &Pair, with_own: bool, is_so: impl Fn(&Connected) -> bool) -> bool {
        let mut tally = Tally::of(pair);
        if with_own {
            tally.ack(self.me);
        }
        let voters = self.learners.values().filter(|learner| learner.votes());
        for learner in voters.filter(|learner| is_so(learner)) {
            tally.ack(learner.learner.sid);
        }
        tally.is_decided()
    }

    fn history_acknowledged(&mut self, link: LinkId, now: Tick) {
        let Some(learner) = self.learners.get_mut(&link) else {
            return;
        };
        match learner.stage {
            Stage::Streaming | Stage::Attached => {
                let zxid = Zxid::new(self.epoch.0, 0);
                self.drop(link, Dropped::NotSent(zxid));
            }
            Stage::Offered => {
                learner.stage = Stage::Acknowledged;
                let Learner {
                    sid,
                    is_observer,
                    is_whole,
                } = learner.learner;
                if self.is_active() {
                    self.up_to_date(link, now);
                } else if is_whole && !is_observer {
                    self.holds(sid);
                }
            }
            Stage::Acknowledged | Stage::UpToDate => {}
        }
    }

    fn holds(&mut self, server: ServerId) {
        if let Phase::Synchronising { holders, .. } = &mut self.phase {
            holders.ack(server);
            if holders.is_decided() {
                self.phase = Phase::Activating;
                let history = Decided::up_to(self.committed);
                self.out.push_back(BroadcastEffect::Activate(history));
            }
        }
    }

    fn up_to_date(&mut self, link: LinkId, now: Tick) {
        let until = now.after(self.patience.sync_ms);
        if let Some(learner) = self.learners.get_mut(&link) {
            learner.stage = Stage::UpToDate;
            learner.deadline = until;
            learner.queue.push(Item::other(&ToLearner::UpToDate));
            learner.wait_for_acknowledgement(until);
        }
        // It may have acknowledged something before (docs/peer-protocol.md §2.9).
        self.commit();
    }

    fn acknowledged(&mut self, link: LinkId, zxid: Zxid, now: Tick) {
        let until = now.after(self.patience.sync_ms);
        let Some(learner) = self.learners.get_mut(&link) else {
            return;
        };
        // Some of Apache's learners acknowledge what they were synchronised with.
        let is_old = zxid <= self.committed || zxid.epoch() != self.epoch.0;
        if learner.learner.is_observer || is_old && zxid > learner.sent {
            return;
        }
        if zxid > learner.sent {
            self.drop(link, Dropped::NotSent(zxid));
            return;
        }
        learner.acknowledged = learner.acknowledged.max(zxid);
        if learner.due.is_some_and(|(due, _)| due <= zxid) {
            learner.due = None;
        }
        learner.wait_for_acknowledgement(until);
        if !is_old {
            self.commit();
        }
    }

    /// In order: each by those who have acknowledged it, under the configurations of its proposal.
    fn commit(&mut self) {
        let before = self.committed;
        while let Some(Waiting { proposal, pair }) = self.waiting.front() {
            let zxid = proposal.zxid;
            if !self.quorum(pair, self.own >= zxid, |learner| learner.counts(zxid)) {
                break;
            }
            let Some(Waiting { proposal, .. }) = self.waiting.pop_front() else {
                break;
            };
            self.waiting_bytes -= proposal.bytes();
            self.committed = zxid;
            let item = |learner: &Connected| match learner.learner.is_observer {
                true => Item::Inform(proposal.clone()),
                false => Item::Commit(zxid),
            };
            self.send_all(|_| true, item);
            self.keep(proposal);
        }
        if self.committed > before {
            let decided = Decided::up_to(self.committed);
            self.out.push_back(BroadcastEffect::Commit(decided));
            self.release();
        }
    }

    fn keep(&mut self, proposal: Proposal) {
        self.tail_bytes += proposal.bytes();
        self.tail.push_back(proposal);
        while self.tail_bytes > TAIL_BYTES_MAX {
            let Some(oldest) = self.tail.pop_front() else {
                break;
            };
            self.tail_bytes -= oldest.bytes();
            self.tail_from = oldest.zxid;
        }
    }

    /// To each learner that is attached. Who has too much waiting is dropped, and never a packet.
    fn send_all(
        &mut self,
        is_meant: impl Fn(&Connected) -> bool,
        item: impl Fn(&Connected) -> Item,
    ) {
        let mut slow = Vec::new();
        for (link, learner) in &mut self.learners {
            if learner.is_attached() && is_meant(learner) {
                let item = item(learner);
                learner.queue.push(item);
                if learner.queue.bytes() > QUEUE_BYTES_MAX {
                    slow.push(*link);
                }
            }
        }
        for link in slow {
            self.drop(link, Dropped::Slow);
        }
    }

    // Pings, and what waits for them.

    fn ping_all(&mut self, now: Tick) {
        self.next_ping = now.after(self.patience.ping_ms);
        self.round += 1;
        let (zxid, round) = (self.proposed, self.round);
        for learner in self.learners.values_mut() {
            let is_asked = learner.stage == Stage::UpToDate;
            if !learner.is_attached() || learner.pings.len() >= PINGS_MAX {
                continue;
            }
            learner.queue.push(Item::other(&ToLearner::Ping(zxid)));
            if is_asked {
                learner.pings.push_back(Ping {
                    zxid,
                    round,
                    sent: now,
                });
            }
        }
        self.count_confirmations();
    }

    /// When it was asked. `None`: it was not asked that, and is gone.
    fn ping_answered(&mut self, link: LinkId, zxid: Zxid, now: Tick) -> Option<Tick> {
        let learner = self.learners.get_mut(&link)?;
        match learner.pings.pop_front() {
            Some(ping) if ping.zxid == zxid => {
                learner.answered = ping.round;
                self.count_confirmations();
                self.ask_for_confirmation(now);
                self.release();
                Some(ping.sent)
            }
            _ => {
                self.drop(link, Dropped::NotAsked(zxid));
                None
            }
        }
    }

    fn count_confirmations(&mut self) {
        while self.confirmed < self.round {
            let next = self.confirmed + 1;
            if !self.is_quorum_with(|learner| learner.answered >= next) {
                break;
            }
            self.confirmed = next;
        }
    }

    /// A sync waits for a round that has not begun. It begins when the one under way has been answered, or with time.
    fn ask_for_confirmation(&mut self, now: Tick) {
        if self.confirmed == self.round && self.wanted > self.round {
            self.ping_all(now);
        }
    }

    fn hold(&mut self, link: Option<LinkId>, what: Told, round: u64) -> bool {
        let held = match link {
            None => &mut self.held,
            Some(link) => match self.learners.get_mut(&link) {
                Some(learner) => &mut learner.held,
                None => return false,
            },
        };
        if held.len() >= HELD_MAX {
            if let Some(link) = link {
                self.drop(link, Dropped::TooManyAsked);
            }
            return false;
        }
        held.push_back(Held {
            what,
            behind: self.proposed,
            round,
        });
        true
    }

    /// Tells what may be told, behind the commits that it waited for.
    fn release(&mut self) {
        let (committed, confirmed) = (self.committed, self.confirmed);
        while let Some(held) = next_told(&mut self.held, committed, confirmed) {
            if let Told::Own(sync) = held.what {
                self.out.push_back(BroadcastEffect::Synced(sync));
            }
        }
        let mut slow = Vec::new();
        for (link, learner) in &mut self.learners {
            while let Some(held) = next_told(&mut learner.held, committed, confirmed) {
                let packet = match held.what {
                    Told::Sync | Told::Own(_) => ToLearner::Sync,
                    Told::Revalidated { session, is_valid } => {
                        ToLearner::Revalidate { session, is_valid }
                    }
                };
                learner.queue.push(Item::other(&packet));
            }
            if learner.queue.bytes() > QUEUE_BYTES_MAX {
                slow.push(*link);
            }
        }
        for link in slow {
            self.drop(link, Dropped::Slow);
        }
    }

    fn first_deadline(&self, now: Tick) -> Tick {
        now.after(self.patience.init_ms + self.patience.sync_ms)
    }

    fn drop(&mut self, link: LinkId, why: Dropped) {
        self.learners.remove(&link);
        self.out.push_back(BroadcastEffect::Drop(link, why));
    }
}

/// The oldest, if it may be told.
fn next_told(held: &mut VecDeque<Held>, committed: Zxid, confirmed: u64) -> Option<Held> {
    let oldest = held.front()?;
    let may = oldest.behind <= committed && oldest.round <= confirmed;
    may.then(|| held.pop_front())?
}
