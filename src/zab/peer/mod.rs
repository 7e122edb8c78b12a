//! One member's part in its ensemble: its connections to the election ports of the others, its election, and the role
//! that comes of it, one after the other for as long as the process runs.
//!
//! ```text
//!              elected           a quorum has promised        a quorum holds it, applied
//!          ┌──────────► discovering ───────────► synchronising ───────────► leading ───────────┐
//!          │                                                                                   │
//!   looking┤                                                                                   ├──► ending ──► looking
//!          │                                                                                   │
//!          └──────────► dialling ──► introduced ──► synchronised ──► following ────────────────┘
//!              elected          connected        ACKEPOCH        UPTODATE      (from each of them)
//! ```
//!
//! What happens with each event. *Ends*: the role does. Elections and their connections go on in every role: a member
//! that comes late asks those who have settled.
//!
//! | Event | looking | discovering | synchronising, leading | dialling | introduced | synchronised | following | ending |
//! |---|---|---|---|---|---|---|---|---|
//! | a connection of an election port comes, goes, fails | [`Links`] | the same | the same | the same | the same | the same | the same | the same |
//! | a notification | counted | answered | answered | answered | answered | answered | answered | – |
//! | a learner connects | closed | [`Discovery`] | [`Discovery`] | closed | closed | closed | closed | closed |
//! | a packet of a learner | – | [`Discovery`] | that, [`Broadcast`] | – | – | – | – | – |
//! | a learner's connection is gone | – | forgotten | forgotten | – | – | – | – | – |
//! | the leader is connected, for this role | closed | closed | closed | introduces itself | closed | closed | closed | closed |
//! | the same, for an earlier role | closed | closed | closed | closed | closed | closed | closed | closed |
//! | a dial to the leader has failed, for this role | – | – | – | dials again, or ends | – | – | – | – |
//! | a packet of the leader | – | – | – | – | [`Introduction`] | [`Stream`] | [`Follow`] | – |
//! | the leader's connection is gone | – | – | – | – | ends | ends | ends | – |
//! | a snapshot is received | – | – | – | – | – | [`Stream`] | – | – |
//! | the record is durable | noted | [`Discovery`] | that, [`Broadcast`] | noted | [`Introduction`] | [`Stream`] | [`Follow`] | may look |
//! | a synchronisation is durable | – | – | [`Broadcast`] | – | – | [`Stream`] | – | – |
//! | the log is durable | – | – | [`Broadcast`] | – | – | – | [`Follow`] | – |
//! | applied | noted | noted | may serve | noted | noted | noted | may serve | may look |
//! | the log is flushed, for this role | – | – | – | – | – | – | – | may look |
//! | time passes | [`Election`] | [`Discovery`] | that, [`Broadcast`] | may dial, ends | [`Introduction`] | [`Stream`] | [`Follow`] | – |
//! | the driver can't go on | – | ends | ends | ends | ends | ends | ends | – |
//!
//! What comes for a connection that is closed, or of another role, finds nobody of that number and does nothing. What
//! becomes durable is a fact, and tells by itself which role it is for: by its epoch, or by its place in the log.
//!
//! **The end of a role** (I-20): no request is taken and the connections of clients end ([`Effect::StopServing`]);
//! the connections to other members close; what was appended is made durable ([`Effect::Flush`]), what was being
//! written of the record too; what was committed is applied. Only then does the member look again, with the end that
//! is durable by then; until then it says nothing in elections. So nothing that was begun in a role becomes true in
//! the next one behind its back.
//!
//! **A peer's bytes** end its connection or the role, never more: what they break is judged by the state machines of
//! the phase, and what they ask for is bounded there.

mod effect;
mod learn;

#[cfg(test)]
mod ensemble;
#[cfg(test)]
mod search;
#[cfg(test)]
mod tests;

pub use effect::{Duty, Effect, RoleId};
pub use learn::{LEADER_DIAL_PAUSE_MS, LEADER_DIAL_PAUSE_MS_MAX, LEADER_DIALS};

use super::bounds::LEARNERS_MAX;
use super::broadcast::{Asker, Broadcast, BroadcastEffect, Heard, NotYet};
use super::decided::Decided;
use super::discovery::{Discovery, DiscoveryEffect, Introduction, IntroductionEffect, Newcomer};
use super::election::{Candidate, Elected, Election, Offer, Outcome};
use super::follow::{FollowEffect, SyncId};
use super::links::{LinkEffect, LinkId, Links};
use super::sync::{Base, StreamEffect, StreamEvent};
use super::tally::Pair;
use super::verdict::{Dropped, Leave, Patience};
use crate::log::{Adoption, Durable, Epochs, LogEnd};
use crate::proto::peer::learner::Forwarded;
use crate::proto::peer::{Hello, Notification, PeerState, ToLeader, ToLearner};
use crate::types::{ServerId, SessionId, Tick, Zxid};
use learn::{Learn, Stage};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Who takes part, and with whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// This server.
    pub candidate: Candidate,
    /// How long is waited for others.
    pub patience: Patience,
    /// The configurations that are live.
    pub pair: Pair,
    /// Members that do not vote, of which it is known where to dial.
    pub observers: BTreeSet<ServerId>,
    /// Text of the committed configuration.
    pub config: Arc<[u8]>,
}

/// What a member has when its process starts.
#[derive(Debug)]
pub struct Beginning {
    /// Its record. That of a member which has lost something does not say that it is whole.
    pub record: Durable<Epochs>,
    /// The end of its log.
    pub end: Durable<LogEnd>,
    /// What it offers while it is not whole: [`Offer::FRESH`] or [`Offer::MAIMED`].
    pub nothing: Offer,
    /// What is known to be committed, and is applied.
    pub committed: Zxid,
}

/// One member's part in its ensemble.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    settings: Settings,
    nothing: Offer,
    /// As it was written last. Shared, because nobody takes a record back.
    record: Arc<Durable<Epochs>>,
    /// What was asked for and is not durable yet.
    writing: Option<Epochs>,
    committed: Zxid,
    applied: Zxid,
    /// The last synchronisation was not possible from the own history.
    wants_snapshot: bool,
    links: Links,
    election: Election,
    /// The last one that has begun.
    role: RoleId,
    state: State,
    out: VecDeque<Effect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// With what it went into the election.
    Looking(Offer),
    Leading(Box<Lead>),
    Learning(Box<Learn>),
    /// The role's log, when it is flushed.
    Ending(Option<Arc<Durable<LogEnd>>>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lead {
    /// All that it has accepted and not closed.
    links: BTreeSet<LinkId>,
    /// The end of the own history, with which this member was elected.
    history: Zxid,
    discovery: Discovery,
    broadcast: Option<Broadcast>,
    /// To be applied before it serves.
    activating: Option<Zxid>,
}

impl Lead {
    fn is_serving(&self) -> bool {
        self.broadcast.as_ref().is_some_and(Broadcast::is_active)
    }
}

impl Peer {
    /// A process starts. Its member looks for a leader.
    pub fn begin(settings: Settings, beginning: Beginning, now: Tick) -> Peer {
        let Beginning {
            record,
            end,
            nothing,
            committed,
        } = beginning;
        let offer = offer(&record, &end, nothing);
        let election = Election::begin(settings.candidate, offer, &settings.pair, now);
        let mut peer = Peer {
            links: Links::new(settings.candidate.sid),
            settings,
            nothing,
            record: Arc::new(record),
            writing: None,
            committed,
            applied: committed,
            wants_snapshot: false,
            election,
            role: RoleId::default(),
            state: State::Looking(offer),
            out: VecDeque::new(),
        };
        peer.pump(now);
        peer
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Effect> {
        self.out.pop_front()
    }

    /// What this member is doing.
    pub fn doing(&self) -> PeerState {
        match &self.state {
            State::Looking(_) | State::Ending(_) => PeerState::Looking,
            State::Leading(_) => PeerState::Leading,
            State::Learning(learn) if learn.is_observer => PeerState::Observing,
            State::Learning(_) => PeerState::Following,
        }
    }

    /// When [`Peer::tick`] is wanted next; beyond that, several times between two pings.
    pub fn deadline(&self) -> Option<Tick> {
        let dial = match &self.state {
            State::Learning(learn) => match &learn.stage {
                Stage::Dialling(dialling) => dialling.again,
                _ => None,
            },
            _ => None,
        };
        self.election.deadline().into_iter().chain(dial).min()
    }

    /// The last role that has begun.
    pub fn role(&self) -> RoleId {
        self.role
    }

    /// What is committed, as far as this member knows.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// The transactions of a leader: whether one may be proposed, and with which zxid.
    pub fn leading(&self) -> Option<&Broadcast> {
        match &self.state {
            State::Leading(lead) => lead.broadcast.as_ref(),
            _ => None,
        }
    }

    /// A learner's connection, on which its driver passes requests on while it serves.
    pub fn leader(&self) -> Option<LinkId> {
        match &self.state {
            State::Learning(learn) => learn.link(),
            _ => None,
        }
    }

    // The election port.

    /// A dial has come up.
    pub fn dialled(&mut self, to: ServerId, link: LinkId, now: Tick) {
        self.links.dialled(to, link);
        self.pump(now);
    }

    /// A dial has failed.
    pub fn dial_failed(&mut self, to: ServerId, now: Tick) {
        self.links.dial_failed(to);
        self.pump(now);
    }

    /// A connection that somebody has dialled has said who that is.
    pub fn accepted(&mut self, link: LinkId, hello: Hello, now: Tick) {
        let is_member = self.is_member(hello.sid);
        self.links.accepted(link, hello, is_member);
        self.pump(now);
    }

    /// Appends what a connection is to say next; false: nothing.
    pub fn notification(&mut self, link: LinkId, out: &mut Vec<u8>) -> bool {
        let said = self.links.take(link);
        said.is_some_and(|said| said.notification(&self.settings.config).encode_into(out))
    }

    /// A notification has come. Of a connection that is not a server's any more it means nothing.
    pub fn notified(&mut self, link: LinkId, notification: &Notification<'_>, now: Tick) {
        let Some(from) = self.links.peer(link) else {
            return;
        };
        let pair = &self.settings.pair;
        let outcome = self.election.heard(from, notification, pair, now);
        self.settle(outcome, now);
        self.pump(now);
    }

    // The quorum port.

    /// A learner has connected.
    pub fn learner_connected(&mut self, link: LinkId, now: Tick) {
        match &mut self.state {
            State::Leading(lead) if lead.links.len() < 2 * LEARNERS_MAX => {
                lead.links.insert(link);
                lead.discovery.connected(link, now);
            }
            State::Leading(_) => {
                let too_many = Some(Dropped::TooMany);
                self.out.push_back(Effect::Close(link, too_many));
            }
            _ => self.out.push_back(Effect::Close(link, None)),
        }
        self.pump(now);
    }

    /// A packet of a learner has come. What of it is for others is the driver's.
    pub fn from_learner<'a>(
        &mut self,
        link: LinkId,
        packet: &ToLeader<'a>,
        now: Tick,
    ) -> Heard<'a> {
        let State::Leading(lead) = &mut self.state else {
            return Heard::Nothing;
        };
        // Each of the two knows its own connections.
        let broadcast = lead.broadcast.as_mut();
        let heard = broadcast.map_or(Heard::Nothing, |broadcast| {
            broadcast.packet(link, packet, now)
        });
        if let Err(why) = lead.discovery.packet(link, packet, now) {
            self.end(why);
        }
        self.pump(now);
        heard
    }

    /// The dial of this role to its leader has come up.
    pub fn leader_dialled(&mut self, role: RoleId, link: LinkId, now: Tick) {
        match &self.state {
            State::Learning(learn)
                if learn.role == role && matches!(learn.stage, Stage::Dialling(_)) =>
            {
                self.introduce(link, now);
            }
            _ => self.out.push_back(Effect::Close(link, None)),
        }
        self.pump(now);
    }

    /// The dial of this role to its leader has failed.
    pub fn leader_dial_failed(&mut self, role: RoleId, now: Tick) {
        if let State::Learning(learn) = &mut self.state
            && learn.role == role
            && let Err(why) = learn.dial_failed(now)
        {
            self.end(why);
        }
        self.pump(now);
    }

    /// A packet of the leader has come.
    pub fn from_leader(&mut self, link: LinkId, packet: &ToLearner<'_>, now: Tick) {
        if let Some(learn) = self.learning_on(link) {
            match learn.packet(packet, now) {
                Ok(effect) => self.introduces(effect),
                Err(why) => self.end(why),
            }
        }
        self.pump(now);
    }

    /// Bytes of the leader have come that are no packet yet.
    pub fn heard(&mut self, link: LinkId, now: Tick) {
        self.stream(link, StreamEvent::Heard, now);
    }

    /// All of the snapshot is there.
    pub fn snapshot_received(&mut self, link: LinkId, now: Tick) {
        self.stream(link, StreamEvent::SnapshotReceived, now);
    }

    /// A connection of either port is gone, whoever has closed it.
    pub fn closed(&mut self, link: LinkId, now: Tick) {
        self.links.closed(link);
        match &mut self.state {
            State::Leading(lead) => {
                lead.links.remove(&link);
                lead.discovery.closed(link);
                if let Some(broadcast) = &mut lead.broadcast {
                    broadcast.closed(link);
                }
            }
            State::Learning(learn) if learn.link() == Some(link) => self.end(Leave::Lost),
            _ => {}
        }
        self.pump(now);
    }

    // What becomes durable, and what is applied.

    /// The member's record is durable.
    pub fn recorded(&mut self, record: Durable<Epochs>, now: Tick) {
        let is_asked = |asked: &mut Epochs| {
            let is_newer = record.accepted() >= asked.accepted && record.current() >= asked.current;
            is_newer && record.is_whole() >= asked.is_whole
        };
        self.writing.take_if(is_asked);
        self.record = Arc::new(record);
        let effect = match &mut self.state {
            State::Looking(_) | State::Ending(_) => None,
            State::Leading(lead) => {
                lead.discovery.promised(&self.record, now);
                if let Some(broadcast) = &mut lead.broadcast {
                    broadcast.recorded(&self.record);
                }
                None
            }
            State::Learning(learn) => learn.recorded(&self.record, now),
        };
        self.introduces(effect);
        self.look_again(now);
        self.pump(now);
    }

    /// A synchronisation is closed, durably.
    pub fn adopted(&mut self, history: &Durable<Adoption>, now: Tick) {
        match &mut self.state {
            State::Leading(lead) => {
                if let Some(broadcast) = &mut lead.broadcast {
                    broadcast.adopted(history);
                }
            }
            State::Learning(learn) => learn.adopted(history),
            State::Looking(_) | State::Ending(_) => {}
        }
        self.pump(now);
    }

    /// The log is durable up to here.
    pub fn durable(&mut self, end: &Durable<LogEnd>, now: Tick) {
        match &mut self.state {
            State::Leading(lead) => {
                if let Some(broadcast) = &mut lead.broadcast {
                    broadcast.durable(end);
                }
            }
            State::Learning(learn) => learn.durable(end),
            State::Looking(_) | State::Ending(_) => {}
        }
        self.pump(now);
    }

    /// All that the role has appended is durable. Only with it does the member vote again (I-4, I-20):
    ///
    /// ```compile_fail
    /// use ringkeeper::{log::LogEnd, types::Tick, zab::{Peer, RoleId}};
    /// fn before_it_is_durable(peer: &mut Peer, role: RoleId, logged: LogEnd) {
    ///     peer.flushed(role, logged, Tick(0));
    /// }
    /// ```
    pub fn flushed(&mut self, role: RoleId, end: Durable<LogEnd>, now: Tick) {
        if let State::Ending(flushed) = &mut self.state
            && role == self.role
        {
            *flushed = Some(Arc::new(end));
            self.look_again(now);
        }
        self.pump(now);
    }

    /// Everything up to here is applied.
    pub fn applied(&mut self, upto: Zxid, now: Tick) {
        self.applied = self.applied.max(upto);
        self.look_again(now);
        self.pump(now);
    }

    /// Time passes. After a pause of the process, what has come meanwhile is told first.
    pub fn tick(&mut self, now: Tick) {
        let outcome = self.election.tick(&self.settings.pair, now);
        self.settle(outcome, now);
        let ends = match &mut self.state {
            State::Looking(_) | State::Ending(_) => Ok(()),
            State::Leading(lead) => lead.discovery.tick(now).and_then(|()| {
                let broadcast = lead.broadcast.as_mut();
                broadcast.map_or(Ok(()), |broadcast| broadcast.tick(now))
            }),
            State::Learning(learn) => learn.tick(now).map(|is_due| {
                if is_due {
                    let (role, leader) = (learn.role, learn.leader);
                    self.out.push_back(Effect::DialLeader { role, leader });
                }
            }),
        };
        if let Err(why) = ends {
            self.end(why);
        }
        self.pump(now);
    }

    // What the driver asks for.

    /// The driver can't go on in this role: its log has never been where the leader says, a digest does not agree, an
    /// operator wants it.
    pub fn leave(&mut self, role: RoleId, why: Leave, now: Tick) {
        if role == self.role {
            self.end(why);
        }
        self.pump(now);
    }

    /// The driver could not take over what this member was sent: nothing behind `held` is here, whatever of it was
    /// committed since. It comes with a snapshot.
    pub fn refused(&mut self, held: Zxid, why: Leave, now: Tick) {
        self.committed = self.committed.min(held);
        self.wants_snapshot = true;
        self.end(why);
        self.look_again(now);
        self.pump(now);
    }

    /// Other configurations are live from here on. A leader whose epoch is not promised yet begins anew with them.
    pub fn configure(
        &mut self,
        pair: Pair,
        observers: BTreeSet<ServerId>,
        config: Arc<[u8]>,
        now: Tick,
    ) {
        self.settings.pair = pair;
        self.settings.observers = observers;
        self.settings.config = config;
        let pair = &self.settings.pair;
        if let State::Leading(lead) = &mut self.state {
            match &mut lead.broadcast {
                Some(broadcast) => {
                    lead.discovery.configure(pair);
                    broadcast.configure(pair);
                }
                None => self.end(Leave::Reconfigured),
            }
        }
        self.pump(now);
    }

    /// Leader: proposes a transaction, with the next zxid and while there is room. The driver appends it next.
    pub fn propose(&mut self, zxid: Zxid, entry: &[u8], now: Tick) {
        let broadcast = self.broadcast();
        broadcast.expect("a leader").propose(zxid, entry);
        self.pump(now);
    }

    /// A client of this member syncs; a learner's driver passes the request on, behind all before. False: too many wait.
    pub fn sync(&mut self, sync: SyncId, now: Tick) -> bool {
        let is_taken = match &mut self.state {
            State::Leading(lead) => lead
                .broadcast
                .as_mut()
                .is_some_and(|broadcast| broadcast.sync(Asker::Own(sync), now)),
            State::Learning(learn) => match &mut learn.stage {
                Stage::Following(_, follow, _) => follow.sync(sync),
                _ => false,
            },
            State::Looking(_) | State::Ending(_) => false,
        };
        self.pump(now);
        is_taken
    }

    /// Learner: passes a request of a client on, behind all before. False: there is nobody to pass it on to.
    pub fn forward(&mut self, request: Forwarded<'_>) -> bool {
        let link = match &self.state {
            State::Learning(learn) if matches!(learn.stage, Stage::Following(..)) => learn.link(),
            _ => None,
        };
        if let Some(link) = link {
            self.send_to_leader(link, &ToLeader::Request(request));
        }
        link.is_some()
    }

    /// Leader: a learner has passed a sync on.
    pub fn sync_of(&mut self, link: LinkId, now: Tick) {
        if let Some(broadcast) = self.broadcast() {
            broadcast.sync(Asker::Learner(link), now);
        }
        self.pump(now);
    }

    /// Leader: whether a session lives that a learner has asked for.
    pub fn revalidated(&mut self, link: LinkId, session: SessionId, is_valid: bool, now: Tick) {
        if let Some(broadcast) = self.broadcast() {
            broadcast.revalidated(link, session, is_valid);
        }
        self.pump(now);
    }

    /// Learner: a client has come with a session of another member. False: its connection closes.
    pub fn revalidate(&mut self, session: SessionId, timeout_ms: i32, now: Tick) -> bool {
        let is_taken = match &mut self.state {
            State::Learning(learn) => match &mut learn.stage {
                Stage::Following(_, follow, _) => follow.revalidate(session, timeout_ms),
                _ => false,
            },
            _ => false,
        };
        self.pump(now);
        is_taken
    }

    /// Learner: a session of this member was heard of. False: it has to be named again.
    pub fn touch(&mut self, session: SessionId, timeout_ms: i32) -> bool {
        match &mut self.state {
            State::Learning(learn) => match &mut learn.stage {
                Stage::Following(_, follow, _) => follow.touch(session, timeout_ms),
                _ => false,
            },
            _ => false,
        }
    }

    /// Leader: a learner's connection takes what it is synchronised with.
    pub fn streaming(&mut self, link: LinkId, now: Tick) {
        if let Some(broadcast) = self.broadcast() {
            broadcast.streaming(link, now);
        }
    }

    /// Leader: everything up to `base` was put into a learner's connection, and it gets what everybody gets from here
    /// on, unless the leader keeps no more than what is behind another place.
    pub fn attach(&mut self, link: LinkId, base: Zxid, now: Tick) -> Result<(), NotYet> {
        match self.broadcast() {
            Some(broadcast) => broadcast.attach(link, base, now),
            None => Ok(()),
        }
    }

    /// Leader: appends what a learner's connection is to send next, `max` bytes of packets or one that is longer.
    pub fn fetch(&mut self, link: LinkId, max: usize, now: Tick, out: &mut Vec<u8>) {
        if let Some(broadcast) = self.broadcast() {
            broadcast.fetch(link, max, now, out);
        }
    }

    // Inside.

    fn is_member(&self, server: ServerId) -> bool {
        self.settings.pair.is_voter(server) || self.settings.observers.contains(&server)
    }

    fn broadcast(&mut self) -> Option<&mut Broadcast> {
        match &mut self.state {
            State::Leading(lead) => lead.broadcast.as_mut(),
            _ => None,
        }
    }

    fn learning_on(&mut self, link: LinkId) -> Option<&mut Learn> {
        match &mut self.state {
            State::Learning(learn) if learn.link() == Some(link) => Some(learn),
            _ => None,
        }
    }

    fn stream(&mut self, link: LinkId, event: StreamEvent, now: Tick) {
        if let Some(learn) = self.learning_on(link)
            && let Err(why) = learn.event(event, now)
        {
            self.end(why);
        }
        self.pump(now);
    }

    fn write(&mut self, change: impl FnOnce(&mut Epochs), config: Option<Arc<[u8]>>) {
        let mut epochs = self.writing.unwrap_or(Epochs {
            accepted: self.record.accepted(),
            current: self.record.current(),
            is_whole: self.record.is_whole(),
        });
        change(&mut epochs);
        self.writing = Some(epochs);
        self.out.push_back(Effect::Record { epochs, config });
    }

    fn commit(&mut self, decided: Decided) {
        self.committed = self.committed.max(decided.zxid());
        self.out.push_back(Effect::Commit(decided));
    }

    fn send_to_learner(&mut self, link: LinkId, packet: &ToLearner<'_>) {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        self.out.push_back(Effect::Send(link, bytes));
    }

    fn send_to_leader(&mut self, link: LinkId, packet: &ToLeader<'_>) {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        self.out.push_back(Effect::Send(link, bytes));
    }

    // Roles begin and end.

    fn settle(&mut self, outcome: Option<Outcome>, now: Tick) {
        match outcome {
            None => {}
            Some(Outcome::Elected(elected)) => self.take_up(&elected, now),
            Some(Outcome::AllEmpty) => {
                // It has forgotten nothing, and says so before it offers its history of nothing.
                self.write(|epochs| epochs.is_whole = true, None);
                self.wind_down();
            }
        }
    }

    fn take_up(&mut self, elected: &Elected, now: Tick) {
        let State::Looking(offer) = self.state else {
            return;
        };
        self.role = RoleId(self.role.0 + 1);
        let (role, leader, patience) = (self.role, elected.vote.leader, self.settings.patience);
        let is_observer = match elected.state {
            PeerState::Leading => return self.lead(offer, now),
            PeerState::Observing => true,
            PeerState::Following | PeerState::Looking => false,
        };
        let learn = Learn::begin(role, leader, offer, is_observer, patience, now);
        self.state = State::Learning(Box::new(learn));
        self.out.push_back(Effect::DialLeader { role, leader });
    }

    fn lead(&mut self, offer: Offer, now: Tick) {
        let Settings {
            candidate,
            pair,
            patience,
            ..
        } = &self.settings;
        match Discovery::begin(candidate.sid, offer, &self.record, pair, *patience, now) {
            Ok(discovery) => {
                let (_, history) = offer.whole().unwrap_or_default();
                self.state = State::Leading(Box::new(Lead {
                    links: BTreeSet::new(),
                    history,
                    discovery,
                    broadcast: None,
                    activating: None,
                }));
                self.out.push_back(Effect::Listen(true));
            }
            Err(why) => {
                self.out.push_back(Effect::Left(self.role, why));
                self.wind_down();
            }
        }
    }

    /// The leader is connected.
    fn introduce(&mut self, link: LinkId, now: Tick) {
        let State::Learning(learn) = &mut self.state else {
            return;
        };
        let Settings {
            candidate,
            patience,
            pair,
            ..
        } = &self.settings;
        let who = Newcomer {
            sid: candidate.sid,
            is_observer: learn.is_observer,
            config_version: pair.committed().version(),
            offer: learn.offer,
            committed: self.committed,
            wants_snapshot: self.wants_snapshot,
        };
        let (introduction, packet) = Introduction::begin(who, &self.record, *patience, now);
        learn.stage = Stage::Introduced(link, introduction);
        self.send_to_leader(link, &packet);
    }

    fn end(&mut self, why: Leave) {
        let (links, is_serving, listens) = match &self.state {
            State::Looking(_) | State::Ending(_) => return,
            State::Leading(lead) => (lead.links.clone(), lead.is_serving(), true),
            State::Learning(learn) => {
                let links = learn.link().into_iter().collect();
                (links, learn.is_serving(), false)
            }
        };
        // From its own history it would come to the same end.
        let is_stuck = matches!(
            why,
            Leave::NoBase(_)
                | Leave::Forgets { .. }
                | Leave::TooMuch
                | Leave::Unusable(_)
                | Leave::Contradicts(_)
        );
        self.wants_snapshot |= is_stuck;
        if is_serving {
            self.out.push_back(Effect::StopServing(self.role));
        }
        self.out.push_back(Effect::Left(self.role, why));
        if listens {
            self.out.push_back(Effect::Listen(false));
        }
        let closes = links.into_iter().map(|link| Effect::Close(link, None));
        self.out.extend(closes);
        self.wind_down();
    }

    fn wind_down(&mut self) {
        self.election.leave();
        self.state = State::Ending(None);
        self.out.push_back(Effect::Flush(self.role));
    }

    /// The end of a role is over when everything that it has begun has come to its end.
    fn look_again(&mut self, now: Tick) {
        let State::Ending(Some(end)) = &self.state else {
            return;
        };
        if self.writing.is_some() || self.applied < self.committed {
            return;
        }
        let offer = offer(&self.record, end, self.nothing);
        self.state = State::Looking(offer);
        self.election.again(offer, &self.settings.pair, now);
    }

    // What the state machines of the phases want.

    fn pump(&mut self, now: Tick) {
        loop {
            self.may_serve(now);
            if let Some(effect) = self.links.poll() {
                self.do_link(effect, now);
                continue;
            }
            if let Some(said) = self.election.poll_send() {
                let (to, is_member) = (said.to, self.is_member(said.to));
                self.links.send(said, is_member);
                let link = self.links.link(to);
                self.out.extend(link.map(Effect::Notify));
                continue;
            }
            let is_done = match &self.state {
                State::Looking(_) | State::Ending(_) => false,
                State::Leading(_) => self.do_leader(now),
                State::Learning(_) => self.do_learner(),
            };
            if !is_done {
                return;
            }
        }
    }

    fn do_link(&mut self, effect: LinkEffect, now: Tick) {
        let pair = &self.settings.pair;
        match effect {
            LinkEffect::Dial { to, announced } => {
                self.out.push_back(Effect::Dial { to, announced });
            }
            LinkEffect::SayHello(link) => self.out.push_back(Effect::SayHello(link)),
            LinkEffect::Close(link) => self.out.push_back(Effect::Close(link, None)),
            LinkEffect::Connected(to) => {
                self.election.connected(to, pair);
                // Something may wait since before there was a connection.
                let link = self.links.link(to);
                self.out.extend(link.map(Effect::Notify));
            }
            LinkEffect::Unreachable(who) => {
                let outcome = self.election.unreachable(who, pair, now);
                self.settle(outcome, now);
            }
        }
    }

    /// What is committed is applied: the role serves.
    fn may_serve(&mut self, now: Tick) {
        let until = match &mut self.state {
            State::Leading(lead) => &mut lead.activating,
            State::Learning(learn) => match &mut learn.stage {
                Stage::Following(_, _, until) => until,
                _ => return,
            },
            _ => return,
        };
        if until.take_if(|upto| *upto <= self.applied).is_none() {
            return;
        }
        let duty = match &mut self.state {
            State::Learning(learn) if learn.is_observer => Duty::Observer,
            State::Learning(_) => Duty::Follower,
            State::Leading(lead) => {
                // A quorum of others may hold the history before the own record says so.
                let epoch = lead.discovery.established().unwrap_or_default();
                self.election.synchronised(epoch);
                if let Some(broadcast) = &mut lead.broadcast {
                    broadcast.serve(now);
                }
                Duty::Leader(epoch)
            }
            State::Looking(_) | State::Ending(_) => return,
        };
        self.out.push_back(Effect::Serve(self.role, duty));
    }

    fn do_leader(&mut self, now: Tick) -> bool {
        let State::Leading(lead) = &mut self.state else {
            return false;
        };
        if let Some(effect) = lead.discovery.poll() {
            self.do_discovery(effect, now);
            return true;
        }
        let effect = lead.broadcast.as_mut().and_then(Broadcast::poll);
        let is_any = effect.is_some();
        if let Some(effect) = effect {
            self.do_broadcast(effect);
        }
        is_any
    }

    fn do_discovery(&mut self, effect: DiscoveryEffect, now: Tick) {
        let State::Leading(lead) = &mut self.state else {
            return;
        };
        match effect {
            DiscoveryEffect::Promise(epoch) => self.write(|epochs| epochs.accepted = epoch, None),
            DiscoveryEffect::Send(link, packet) => self.send_to_learner(link, &packet),
            DiscoveryEffect::Established(epoch) => {
                let Settings {
                    candidate,
                    patience,
                    pair,
                    config,
                    ..
                } = &self.settings;
                let (me, history) = (candidate.sid, lead.history);
                let broadcast = Broadcast::begin(me, epoch, history, pair, config, *patience, now);
                lead.broadcast = Some(broadcast);
            }
            DiscoveryEffect::Synchronise {
                link,
                learner,
                last,
            } => {
                if let Some(broadcast) = &mut lead.broadcast {
                    broadcast.admit(link, learner, now);
                }
                self.out.push_back(Effect::Synchronise {
                    link,
                    learner,
                    last,
                });
            }
            DiscoveryEffect::Drop(link, why) => self.hang_up(link, why),
        }
    }

    fn do_broadcast(&mut self, effect: BroadcastEffect) {
        let State::Leading(lead) = &mut self.state else {
            return;
        };
        match effect {
            BroadcastEffect::Adopt(epoch) => {
                let base = Base::Log(lead.history);
                self.out.extend([Effect::Open(base), Effect::Adopt(epoch)]);
            }
            BroadcastEffect::Record(epoch) => self.write(|epochs| epochs.current = epoch, None),
            BroadcastEffect::Activate(decided) => {
                lead.activating = Some(decided.zxid());
                self.commit(decided);
            }
            BroadcastEffect::Commit(decided) => self.commit(decided),
            BroadcastEffect::Synced(sync) => self.out.push_back(Effect::Synced(sync)),
            BroadcastEffect::Drop(link, why) => self.hang_up(link, why),
        }
    }

    fn hang_up(&mut self, link: LinkId, why: Dropped) {
        if let State::Leading(lead) = &mut self.state {
            lead.links.remove(&link);
        }
        self.out.push_back(Effect::Close(link, Some(why)));
    }

    fn introduces(&mut self, effect: Option<IntroductionEffect>) {
        match effect {
            None => {}
            Some(IntroductionEffect::Promise(epoch)) => {
                self.write(|epochs| epochs.accepted = epoch, None);
            }
            Some(IntroductionEffect::Go(packet, stream)) => {
                if let State::Learning(learn) = &mut self.state
                    && let Some(link) = learn.link()
                {
                    learn.stage = Stage::Synchronised(link, stream);
                    self.send_to_leader(link, &packet);
                }
            }
        }
    }

    fn do_learner(&mut self) -> bool {
        let State::Learning(learn) = &mut self.state else {
            return false;
        };
        match &mut learn.stage {
            Stage::Dialling(_) | Stage::Introduced(..) => false,
            Stage::Synchronised(link, stream) => {
                let (link, effect) = (*link, stream.poll());
                let is_any = effect.is_some();
                if let Some(effect) = effect {
                    self.do_stream(link, effect);
                }
                is_any
            }
            Stage::Following(link, follow, _) => {
                let (link, effect) = (*link, follow.poll());
                let is_any = effect.is_some();
                if let Some(effect) = effect {
                    self.do_follow(link, effect);
                }
                is_any
            }
        }
    }

    fn do_stream(&mut self, link: LinkId, effect: StreamEffect) {
        let effect = match effect {
            StreamEffect::ReadSnapshot(zxid) => Effect::ReadSnapshot { link, zxid },
            StreamEffect::Open(base) => Effect::Open(base),
            StreamEffect::Append { zxid, entry } => Effect::Append { zxid, entry },
            StreamEffect::Close(epoch) => Effect::Adopt(epoch),
            StreamEffect::Record { epoch, config } => {
                return self.write(|epochs| epochs.current = epoch, config);
            }
            StreamEffect::Send(packet) => return self.send_to_leader(link, &packet),
            StreamEffect::Commit(decided) => return self.commit(decided),
            StreamEffect::Activate(zxid, leader) => Effect::Activate(zxid, leader),
            StreamEffect::Serve(follow) => {
                self.wants_snapshot = false;
                self.election.synchronised(self.record.current());
                let upto = self.committed;
                if let State::Learning(learn) = &mut self.state {
                    learn.stage = Stage::Following(link, Box::new(follow), Some(upto));
                }
                return;
            }
        };
        self.out.push_back(effect);
    }

    fn do_follow(&mut self, link: LinkId, effect: FollowEffect) {
        let effect = match effect {
            FollowEffect::Sync => {
                let request = Forwarded::sync(SessionId::NONE);
                return self.send_to_leader(link, &ToLeader::Request(request));
            }
            FollowEffect::BecomeWhole => {
                return self.write(|epochs| epochs.is_whole = true, None);
            }
            FollowEffect::Append { zxid, entry } => Effect::Append { zxid, entry },
            FollowEffect::Commit(decided) => return self.commit(decided),
            FollowEffect::Activate(zxid, leader) => Effect::Activate(zxid, leader),
            FollowEffect::Send(bytes) => Effect::Send(link, bytes),
            FollowEffect::Revalidated { session, is_valid } => {
                Effect::Revalidated { session, is_valid }
            }
            FollowEffect::Synced(sync) => Effect::Synced(sync),
        };
        self.out.push_back(effect);
    }
}

/// What a member has to offer by what is durable.
fn offer(record: &Durable<Epochs>, end: &Durable<LogEnd>, nothing: Offer) -> Offer {
    match record.is_whole() {
        true => Offer::of(record.current(), end),
        false => nothing,
    }
}
