//! A member's seat in its ensemble: its part in the protocol ([`Peer`]), and what that wants of the member's log, record,
//! tree and clients.
//!
//! What the protocol wants is done in its order, all of it before it is told of anything else:
//!
//! | Effect | Done by | Told |
//! |---|---|---|
//! | Open, Append, Adopt, Commit | the pipeline, one after the other; while the log has no room the rest waits | what is durable, by [`Seat::synced`] |
//! | Record | the keeper: currentEpoch with the proof of the adoption that was told | by [`Seat::recorded`] |
//! | Serve, StopServing | the pipeline takes up its role, or ends it | – |
//! | Flush | what is not committed of what waits is dropped, what is open is void, the rest is synced | with the proof of the whole log |
//! | Synchronise | decided here, read from the log beside the core ([`Sendings`]) | attached |
//! | Revalidated, Synced | the pipeline, behind the commits before them | – |
//! | connections, bytes, snapshots on the wire | the driver: [`Seat::poll`] | by the driver |
//!
//! What the pipeline wants of other members ([`ForPeers`]) is sent when it is settled what follows of an event.
//!
//! **Room.** A disk without room holds up what a leader has sent, and nobody else: elections go on, and what is not
//! appended is not acknowledged. Meanwhile the driver reads nothing of the leader ([`Seat::takes_packets`]).
//!
//! **What can't be taken over** (it is no transaction, or contradicts the log) ends the role. What the leader has
//! committed behind it is then not known to be committed here, and the next synchronisation brings a snapshot.

use super::of_member::{LearnerOrder, Naming};
use super::sending::{Sendings, committed_history};
use super::witnessing::Witnessing;
use crate::log::storage::Storage;
use crate::log::{Adoption, Cursor, Durable, Epochs, Lease, Log, LogEnd, Received};
use crate::pipeline::{Ending, Fatal, ForPeers, Forwarded, FromPeers, Pipeline};
use crate::proto::peer::packet::Ids;
use crate::proto::peer::{PeerState, ToLeader, ToLearner, learner};
use crate::proto::{decode_forwarded, encode_forwarded};
use crate::tree::Tree;
use crate::types::{Epoch, Now, OpCode, Xid, Zxid};
use crate::zab::{
    Base, Decided, Dropped, Duty, Effect, Heard, Learner, Leave, LinkId, Opening, Peer, RoleId,
    Settings, decide,
};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A leader orders no more when so few zxids of its epoch are left: it resigns, and the next leader has others.
const ZXIDS_KEPT: u32 = 1 << 20;

/// A member's place in its ensemble.
#[derive(Clone, Debug)]
pub struct SeatConfig {
    /// Who takes part, and with whom.
    pub settings: Settings,
    /// The operator says that what this member holds is whole: it is one of those with which the ensemble begins.
    pub is_founding: bool,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeatEffect {
    /// Of the protocol: connections, bytes, a snapshot to receive, who serves.
    Peer(Effect),
    /// Send the bytes of this snapshot of the member's, behind what was to be sent before; then
    /// [`Member::taken`](super::Member::taken).
    SendSnapshot {
        /// To whom.
        link: LinkId,
        /// Of which state.
        zxid: Zxid,
    },
}

/// Something for the log, in its order.
#[derive(Debug)]
enum Deed {
    Open(Base),
    Append(Zxid, Arc<[u8]>),
    Adopt(Epoch),
    Commit(Decided),
    /// Behind the commits before it.
    Tell(FromPeers),
}

/// The member's parts that a seat works on.
pub(super) struct Parts<'a, S: Storage> {
    pub(super) pipeline: &'a mut Pipeline<S>,
    pub(super) tree: &'a Tree,
    pub(super) witness: &'a mut Witnessing,
    /// Snapshots that are known to be whole.
    pub(super) verified: &'a BTreeSet<Zxid>,
    pub(super) now: Now,
}

/// A snapshot of a leader.
#[derive(Debug)]
enum Incoming {
    None,
    /// It is there; a synchronisation may have been opened that continues it.
    Received(Received),
    /// That synchronisation is closed, and will be durable.
    Adopted(Received),
}

/// A member's seat.
#[derive(Debug)]
pub(super) struct Seat {
    peer: Peer,
    deeds: VecDeque<Deed>,
    out: VecDeque<SeatEffect>,
    /// The last one that was told.
    adoption: Option<Durable<Adoption>>,
    incoming: Incoming,
    /// Snapshots to be named or removed.
    namings: VecDeque<Naming>,
    /// The one that is being named or removed.
    naming: Option<Zxid>,
    /// The tree can't be made of the snapshot that was received.
    is_unreadable: bool,
    /// Everything is to become durable, for this role's end.
    flush: Option<RoleId>,
    /// Something of the leader's was refused: nothing more of this role is done.
    is_refused: bool,
    /// Told.
    applied: Zxid,
    is_held: bool,
    sendings: Sendings,
    /// As what this member serves clients.
    duty: Option<Duty>,
}

impl Seat {
    pub(super) fn new(peer: Peer, applied: Zxid) -> Seat {
        Seat {
            peer,
            deeds: VecDeque::new(),
            out: VecDeque::new(),
            adoption: None,
            incoming: Incoming::None,
            namings: VecDeque::new(),
            naming: None,
            is_unreadable: false,
            flush: None,
            is_refused: false,
            applied,
            is_held: false,
            sendings: Sendings::default(),
            duty: None,
        }
    }

    /// The protocol, to look at.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// As what this member serves clients.
    pub(super) fn duty(&self) -> Option<Duty> {
        self.duty
    }

    /// The next thing that the driver is to do.
    pub(super) fn poll(&mut self) -> Option<SeatEffect> {
        self.out.pop_front()
    }

    /// Whether the protocol was not told that so much is applied.
    pub(super) fn is_behind(&self, applied: Zxid) -> bool {
        self.applied < applied
    }

    /// Whether what the leader sends is to be read. While the log has no room it is not.
    pub(super) fn takes_packets(&self) -> bool {
        self.deeds.is_empty()
    }

    // What happens.

    /// The protocol is told something, and what it wants is done.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn tell<S: Storage, R>(
        &mut self,
        parts: &mut Parts<'_, S>,
        what: impl FnOnce(&mut Peer) -> R,
    ) -> Result<R, Fatal> {
        let told = what(&mut self.peer);
        self.settle(parts)?;
        Ok(told)
    }

    /// A packet of a learner.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn learner_says<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
        packet: &ToLeader<'_>,
    ) -> Result<(), Fatal> {
        let now = parts.now;
        match self.peer.from_learner(link, packet, now.tick) {
            Heard::Nothing => {}
            Heard::Request(request) if request.op == OpCode::SYNC => {
                self.peer.sync_of(link, now.tick);
            }
            Heard::Request(request) => {
                let forwarded = forwarded(link, &request);
                parts.pipeline.forwarded(forwarded, now);
            }
            Heard::Revalidate {
                session,
                timeout_ms,
            } => parts.pipeline.revalidate(link, session, timeout_ms, now),
            Heard::Touched { touched, asked } => {
                let sessions = touched.iter().map(|(session, _)| session);
                parts.pipeline.touched_there(link, asked, sessions, now);
            }
        }
        self.settle(parts)
    }

    /// A packet of the leader.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn leader_says<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
        packet: &ToLearner<'_>,
    ) -> Result<(), Fatal> {
        if let ToLearner::Ping(_) = packet {
            parts.pipeline.is_asked(parts.now);
            while let Some((session, timeout_ms)) = parts.pipeline.poll_heard() {
                if !self.peer.touch(session, timeout_ms) {
                    parts.pipeline.not_named(session, timeout_ms);
                    break;
                }
            }
        }
        self.peer.from_leader(link, packet, parts.now.tick);
        self.settle(parts)
    }

    /// The bytes of the snapshot that was to be read have come, and are durable.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn snapshot_received<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
        received: Received,
    ) -> Result<(), Fatal> {
        self.give_up_incoming();
        let now = parts.now.tick;
        let zxid = received.zxid();
        if self.is_spoken_for(zxid) {
            // Whose file it is now nobody knows. The leader is asked again.
            let held = parts.pipeline.cursors().applied;
            self.refuse(held, Leave::Unusable(zxid), parts.now);
        } else if self.peer.leader() == Some(link) {
            self.incoming = Incoming::Received(received);
            self.peer.snapshot_received(link, now);
        } else {
            self.discard(received);
        }
        self.settle(parts)
    }

    /// The log is durable up to there.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn synced<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        proof: &Durable<LogEnd>,
    ) -> Result<(), Fatal> {
        if let Some(adoption) = parts.pipeline.poll_adoption() {
            self.adopted(parts, adoption);
        }
        self.peer.durable(proof, parts.now.tick);
        self.settle(parts)
    }

    /// A snapshot that the history continues gets its name before anybody is told.
    fn adopted<S: Storage>(&mut self, parts: &Parts<'_, S>, adoption: Durable<Adoption>) {
        match std::mem::replace(&mut self.incoming, Incoming::None) {
            Incoming::Adopted(received) => self.namings.push_back(Naming {
                received,
                proof: Some(adoption),
            }),
            other => {
                self.incoming = other;
                self.tell_adopted(parts, adoption);
            }
        }
    }

    fn tell_adopted<S: Storage>(&mut self, parts: &Parts<'_, S>, adoption: Durable<Adoption>) {
        self.peer.adopted(&adoption, parts.now.tick);
        self.adoption = Some(adoption);
    }

    /// The member's record is durable.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn recorded<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        record: Durable<Epochs>,
    ) -> Result<(), Fatal> {
        self.peer.recorded(record, parts.now.tick);
        self.settle(parts)
    }

    // Snapshots of a leader.

    /// A snapshot to name or to remove, one at a time.
    pub(super) fn poll_naming(&mut self) -> Option<Naming> {
        if self.naming.is_some() {
            return None;
        }
        let naming = self.namings.pop_front();
        self.naming = naming.as_ref().map(|naming| naming.received.zxid());
        naming
    }

    /// It has its name, or is gone.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn named<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        proof: Option<Durable<Adoption>>,
    ) -> Result<(), Fatal> {
        self.naming = None;
        if let Some(adoption) = proof {
            self.tell_adopted(parts, adoption);
        }
        self.settle(parts)
    }

    /// Whether the tree may be made of the snapshot that the pipeline waits for.
    pub(super) fn may_install(&self) -> bool {
        self.naming.is_none() && self.namings.is_empty() && !self.is_unreadable
    }

    /// It can't be.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn not_installed<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        zxid: Zxid,
    ) -> Result<(), Fatal> {
        self.is_unreadable = true;
        let held = parts.pipeline.cursors().applied;
        self.refuse(held, Leave::Unusable(zxid), parts.now);
        self.settle(parts)
    }

    /// Whether an earlier snapshot of this state, which had the same name, is being named or removed, or is to be named.
    /// One that was only to be removed is gone: the new one has taken its place.
    fn is_spoken_for(&mut self, zxid: Zxid) -> bool {
        let is_of = |naming: &Naming| naming.received.zxid() == zxid;
        self.namings
            .retain(|naming| naming.proof.is_some() || !is_of(naming));
        self.naming == Some(zxid) || self.namings.iter().any(is_of)
    }

    fn give_up_incoming(&mut self) {
        match std::mem::replace(&mut self.incoming, Incoming::None) {
            Incoming::None => {}
            Incoming::Received(received) => self.discard(received),
            adopted @ Incoming::Adopted(_) => self.incoming = adopted,
        }
    }

    fn discard(&mut self, received: Received) {
        self.namings.push_back(Naming {
            received,
            proof: None,
        });
    }

    // What learners are sent.

    /// A connection has taken what it was given.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn taken<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
    ) -> Result<(), Fatal> {
        self.sendings.taken(link);
        self.peer.streaming(link, parts.now.tick);
        self.settle(parts)
    }

    /// A connection is gone.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn link_closed<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
    ) -> Result<(), Fatal> {
        self.has_ended(parts, link);
        self.peer.closed(link, parts.now.tick);
        self.settle(parts)
    }

    fn has_ended<S: Storage>(&mut self, parts: &mut Parts<'_, S>, link: LinkId) {
        self.sendings.end(link);
        parts.pipeline.link_closed(link, parts.now);
    }

    /// Whether a snapshot is needed for a learner, and there is none.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.sendings.want_snapshot()
    }

    /// The next piece to read for a learner.
    pub(super) fn poll_read<S: Storage>(&mut self, pipeline: &Pipeline<S>) -> Option<LearnerOrder> {
        let upto = self.sendable(pipeline)?;
        let lacks = |(_, after): &(LinkId, Zxid)| *after < upto;
        let next = self.sendings.ready().find(lacks);
        let (link, _) = next?;
        let history = pipeline.log().history()?;
        self.sendings.read(link, upto, history)
    }

    /// It was read.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn was_read<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
        (cursor, lease): (Cursor, Lease),
        packets: Vec<u8>,
    ) -> Result<(), Fatal> {
        if self.sendings.was_read(link, cursor, lease) {
            self.send(link, packets);
        }
        self.settle(parts)
    }

    /// It could not be read, for want of something; it is read again.
    pub(super) fn not_read(&mut self, link: LinkId, cursor: Cursor, lease: Lease) {
        if self.sendings.was_read(link, cursor, lease) {
            self.sendings.taken(link);
        }
    }

    /// Nothing can be read for a learner: it comes again.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn hang_up<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
    ) -> Result<(), Fatal> {
        self.out
            .push_back(SeatEffect::Peer(Effect::Close(link, None)));
        self.link_closed(parts, link)
    }

    /// How far the own log may be sent: what is committed, and on disk for sure.
    fn sendable<S: Storage>(&self, pipeline: &Pipeline<S>) -> Option<Zxid> {
        let committed = self.peer.leading()?.committed();
        Some(committed.min(pipeline.cursors().durable))
    }

    fn synchronise<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
        learner: Learner,
        last: Zxid,
    ) {
        let Some(committed) = self.peer.leading().map(|leading| leading.committed()) else {
            return;
        };
        let Some(runs) = parts.pipeline.log().history() else {
            return;
        };
        let history = committed_history(runs, committed);
        // Who is not whole has nothing to go on from.
        let opening = decide(last, &history, !learner.is_whole);
        if let Opening::Diff { base } | Opening::Trunc { base } = opening
            && let Some(lease) = parts.pipeline.log_mut().lease(base)
        {
            let mut bytes = Vec::new();
            opening
                .packet(history.end(), Zxid::ZERO)
                .encode_into(&mut bytes);
            self.send(link, bytes);
            self.sendings.begin(link, base, lease);
            return;
        }
        self.send_snapshot(parts, link, committed);
    }

    /// The newest own snapshot that the history continues; where there is none, one is made first.
    fn send_snapshot<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        link: LinkId,
        committed: Zxid,
    ) {
        let log: &mut Log<S> = parts.pipeline.log_mut();
        let of_history = |zxid: &&Zxid| {
            **zxid <= committed
                && log
                    .history()
                    .is_some_and(|history| history.contains(**zxid))
        };
        let newest = parts.verified.iter().rev().find(of_history).copied();
        let leased = newest.and_then(|zxid| Some((zxid, log.lease(zxid)?)));
        let Some((zxid, lease)) = leased else {
            self.sendings.await_snapshot(link);
            return;
        };
        let mut bytes = Vec::new();
        ToLearner::Snap(zxid).encode_into(&mut bytes);
        self.send(link, bytes);
        self.out.push_back(SeatEffect::SendSnapshot { link, zxid });
        self.sendings.begin_with_snapshot(link, zxid, lease);
    }

    /// A snapshot was made: who waits for one gets it.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn snapshot_made<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
    ) -> Result<(), Fatal> {
        if let Some(committed) = self.peer.leading().map(|leading| leading.committed()) {
            for link in self.sendings.take_snapshotless() {
                self.send_snapshot(parts, link, committed);
            }
        }
        self.settle(parts)
    }

    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        let send = Effect::Send(link, bytes);
        self.out.push_back(SeatEffect::Peer(send));
    }

    // What the protocol wants.

    /// Does what is wanted, and tells what follows of it, until there is nothing more.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(super) fn settle<S: Storage>(&mut self, parts: &mut Parts<'_, S>) -> Result<(), Fatal> {
        loop {
            self.propose(parts);
            let mut moved = self.pass_on(parts);
            while let Some(effect) = self.peer.poll() {
                moved = true;
                self.take(parts, effect)?;
            }
            moved |= self.do_deeds(parts)?;
            moved |= self.tell_what_is(parts)?;
            if !moved {
                self.hold(parts);
                return Ok(());
            }
        }
    }

    /// What was ordered here is for the others too.
    fn propose<S: Storage>(&mut self, parts: &mut Parts<'_, S>) {
        while let Some(proposal) = parts.pipeline.poll_proposal() {
            let leads = self
                .peer
                .leading()
                .is_some_and(|leading| leading.is_active());
            if leads {
                let (zxid, entry) = (proposal.zxid, &proposal.entry);
                self.peer.propose(zxid, entry, parts.now.tick);
            }
        }
    }

    /// What the pipeline wants of other members. Whether it wanted anything.
    fn pass_on<S: Storage>(&mut self, parts: &mut Parts<'_, S>) -> bool {
        let now = parts.now.tick;
        let mut moved = false;
        while let Some(wish) = parts.pipeline.poll_wish() {
            moved = true;
            match wish {
                ForPeers::Request {
                    session,
                    number,
                    request,
                    credentials,
                } => {
                    let (mut body, mut ids) = (Vec::new(), Vec::new());
                    let op = encode_forwarded(&request, &mut body);
                    let is_of_session = op == OpCode::CREATE_SESSION || op == OpCode::CLOSE_SESSION;
                    let who = Ids::of(&credentials, &mut ids);
                    self.peer.forward(learner::Forwarded {
                        session,
                        cxid: number.0,
                        op,
                        body: &body,
                        ids: (!is_of_session).then_some(who),
                    });
                }
                ForPeers::Revalidate {
                    session,
                    timeout_ms,
                } => drop(self.peer.revalidate(session, timeout_ms, now)),
                ForPeers::Sync { id, session } => {
                    if self.peer.sync(id, now) {
                        self.peer.forward(learner::Forwarded::sync(session));
                    }
                }
                ForPeers::Revalidated {
                    link,
                    session,
                    is_valid,
                } => self.peer.revalidated(link, session, is_valid, now),
                ForPeers::HangUp(link) => {
                    let close = Effect::Close(link, Some(Dropped::TooManyAsked));
                    self.out.push_back(SeatEffect::Peer(close));
                    self.has_ended(parts, link);
                    self.peer.closed(link, now);
                }
            }
        }
        moved
    }

    /// Nothing is ordered while too much has no decision, or zxids come to their end.
    fn hold<S: Storage>(&mut self, parts: &mut Parts<'_, S>) {
        let leading = self.peer.leading();
        let may_order = leading.is_none_or(|leading| {
            let next = leading.next().map_or(Zxid::COUNTER_MAX, Zxid::counter);
            leading.has_room() && next < Zxid::COUNTER_MAX - ZXIDS_KEPT
        });
        if self.is_held == may_order {
            self.is_held = !may_order;
            parts.pipeline.hold(self.is_held);
        }
    }

    fn take<S: Storage>(&mut self, parts: &mut Parts<'_, S>, effect: Effect) -> Result<(), Fatal> {
        match effect {
            Effect::Open(base) => self.add(Deed::Open(base)),
            Effect::Append { zxid, entry } => self.add(Deed::Append(zxid, entry)),
            Effect::Adopt(epoch) => self.add(Deed::Adopt(epoch)),
            Effect::Commit(decided) => self.add(Deed::Commit(decided)),
            Effect::Record { epochs, config } => self.record(parts, epochs, config.as_deref()),
            Effect::Serve(_, duty) => {
                self.duty = Some(duty);
                match duty {
                    Duty::Leader(_) => parts.pipeline.lead(parts.tree, parts.now),
                    Duty::Follower | Duty::Observer => parts.pipeline.learn(parts.tree),
                }
                self.out.push_back(SeatEffect::Peer(effect));
            }
            Effect::StopServing(_) => {
                self.duty = None;
                parts.pipeline.end_role();
                self.is_held = false;
                self.out.push_back(SeatEffect::Peer(effect));
            }
            Effect::Flush(role) => self.begin_flush(role),
            Effect::Synchronise {
                link,
                learner,
                last,
            } => self.synchronise(parts, link, learner, last),
            // Configurations do not change yet.
            Effect::Activate(..) => {}
            Effect::Revalidated { session, is_valid } => {
                self.add(Deed::Tell(FromPeers::Revalidated { session, is_valid }));
            }
            Effect::Synced(id) => self.add(Deed::Tell(FromPeers::Synced(id))),
            Effect::Close(link, _) => {
                self.has_ended(parts, link);
                self.out.push_back(SeatEffect::Peer(effect));
            }
            _ => self.out.push_back(SeatEffect::Peer(effect)),
        }
        Ok(())
    }

    fn add(&mut self, deed: Deed) {
        if !self.is_refused {
            self.deeds.push_back(deed);
        }
    }

    /// Whatever of the role's is not committed need not become durable.
    fn begin_flush(&mut self, role: RoleId) {
        let is_commit = |deed: &Deed| matches!(deed, Deed::Commit(_));
        let kept = self.deeds.iter().rposition(is_commit);
        self.deeds.truncate(kept.map_or(0, |last| last + 1));
        self.flush = Some(role);
        self.is_refused = false;
        self.give_up_incoming();
        self.sendings.end_all();
    }

    fn record<S: Storage>(
        &mut self,
        parts: &mut Parts<'_, S>,
        epochs: Epochs,
        config: Option<&[u8]>,
    ) {
        let keeper = parts.witness.keeper();
        let record = keeper.member().expect("a member's record");
        let (accepted, current) = (record.accepted(), record.current());
        if epochs.accepted > accepted {
            keeper.accept(epochs.accepted);
        }
        if epochs.current > current {
            let is_this = |adoption: &&Durable<Adoption>| adoption.epoch() == epochs.current;
            let adoption = self.adoption.as_ref().filter(is_this);
            keeper.adopt(adoption.expect("the history of this epoch is durable"));
        }
        if epochs.is_whole {
            keeper.become_whole();
        }
        if let Some(config) = config
            && let Err(long) = keeper.see(config)
        {
            let why = Leave::LongConfiguration(long.0);
            let role = self.peer.role();
            self.peer.leave(role, why, parts.now.tick);
        }
    }

    /// Whether anything was done.
    fn do_deeds<S: Storage>(&mut self, parts: &mut Parts<'_, S>) -> Result<bool, Fatal> {
        let mut moved = false;
        while let Some(deed) = self.deeds.front() {
            let bytes = match deed {
                Deed::Open(_) | Deed::Adopt(_) => Log::<S>::FENCE,
                Deed::Append(_, entry) => entry.len(),
                Deed::Commit(_) | Deed::Tell(_) => 0,
            };
            if bytes > 0 && !parts.pipeline.has_room(bytes) {
                break;
            }
            moved = true;
            if let Some(deed) = self.deeds.pop_front()
                && let Err(ending) = self.do_deed(parts, deed)
            {
                match ending {
                    Ending::Process(fatal) => return Err(fatal),
                    Ending::Role(why) => {
                        let held = parts.pipeline.log().end().zxid;
                        self.refuse(held, why, parts.now);
                    }
                }
            }
        }
        Ok(moved)
    }

    fn refuse(&mut self, held: Zxid, why: Leave, now: Now) {
        self.deeds.clear();
        // The role's own end follows, if there is a role.
        self.is_refused = self.peer.doing() != PeerState::Looking;
        self.peer.refused(held, why, now.tick);
    }

    fn do_deed<S: Storage>(&mut self, parts: &mut Parts<'_, S>, deed: Deed) -> Result<(), Ending> {
        let pipeline = &mut parts.pipeline;
        match deed {
            Deed::Open(base) => {
                // The epoch that was promised last: a role accepts no other.
                let record = parts.witness.keeper().member();
                let epoch = record.expect("a member's record").accepted();
                match (base, &self.incoming) {
                    (Base::Log(zxid), _) => pipeline.open_adoption(epoch, zxid, None),
                    (Base::Snapshot(zxid), Incoming::Received(received))
                        if received.zxid() == zxid =>
                    {
                        pipeline.open_adoption(epoch, zxid, Some(received))
                    }
                    (Base::Snapshot(zxid), _) => Err(Ending::Role(Leave::Unusable(zxid))),
                }
            }
            Deed::Append(zxid, entry) => pipeline.accept(zxid, &entry, parts.now),
            Deed::Adopt(epoch) => {
                pipeline.close_adoption(epoch)?;
                self.incoming = match std::mem::replace(&mut self.incoming, Incoming::None) {
                    Incoming::Received(received) => {
                        self.is_unreadable = false;
                        Incoming::Adopted(received)
                    }
                    other => other,
                };
                Ok(())
            }
            Deed::Commit(decided) => {
                pipeline.commit(&decided, parts.now);
                Ok(())
            }
            Deed::Tell(answer) => {
                pipeline.answered(answer, parts.now);
                Ok(())
            }
        }
    }

    /// Tells what has come to pass. Whether anything was told.
    fn tell_what_is<S: Storage>(&mut self, parts: &mut Parts<'_, S>) -> Result<bool, Fatal> {
        let now = parts.now.tick;
        let mut moved = false;
        let applied = parts.pipeline.cursors().applied;
        if applied > self.applied {
            self.applied = applied;
            self.peer.applied(applied, now);
            moved = true;
        }
        if let Some(role) = self.flush
            && self.deeds.is_empty()
            && let Some(proof) = flushed(parts)?
        {
            self.flush = None;
            self.peer.flushed(role, proof, now);
            moved = true;
        }
        Ok(self.attach(parts) || moved)
    }

    /// Learners that lack nothing more of what may be sent are attached.
    fn attach<S: Storage>(&mut self, parts: &Parts<'_, S>) -> bool {
        let Some(upto) = self.sendable(parts.pipeline) else {
            return false;
        };
        let ready: Vec<(LinkId, Zxid)> = self.sendings.ready().collect();
        let mut moved = false;
        for (link, after) in ready.into_iter().filter(|(_, after)| *after >= upto) {
            if self.peer.attach(link, after, parts.now.tick).is_ok() {
                self.sendings.end(link);
                moved = true;
            }
        }
        moved
    }
}

/// A request of a learner's client, as the pipeline takes it.
fn forwarded(link: LinkId, request: &learner::Forwarded<'_>) -> Forwarded {
    Forwarded {
        link,
        session: request.session,
        number: Xid(request.cxid),
        request: decode_forwarded(request.op, request.body),
        credentials: request.ids.map_or_else(|| Arc::from([]), Ids::credentials),
    }
}

/// The proof of the whole log, what was open in it being void. `None`: a sync is to be made first.
fn flushed<S: Storage>(parts: &mut Parts<'_, S>) -> Result<Option<Durable<LogEnd>>, Fatal> {
    if parts.pipeline.is_adopting() {
        if !parts.pipeline.has_room(Log::<S>::FENCE) {
            return Ok(None);
        }
        parts.pipeline.void_adoption()?;
    }
    Ok(parts.pipeline.flushed())
}
