//! What a leader knows of the members that follow it, and what it does with what they pass on
//! (docs/peer-protocol.md §2.13).
//!
//! | A learner passes on | Answer |
//! |---|---|
//! | createSession of an id that is not known | the transaction: the session is that learner's |
//! | createSession of a known one | error transaction −112 |
//! | a write of a session that is closing or unknown | error transaction −112 |
//! | a write of a session that another member, or nobody, has | error transaction −118: another has moved the session meanwhile |
//! | a write that can't be read, or is too long | error transaction −5 |
//! | a write for which there is no room | error transaction −1; without room for that, its connection ends |
//! | REVALIDATE of a session that lives | yes, behind all that was ordered before: the session is that learner's |
//! | REVALIDATE of another one | no, behind the same |
//! | a sync | the protocol's own: it waits for nothing that has no place in the order |
//!
//! It is worked off in the order in which it came, with what the own shards ask for. What a learner has passed on and has
//! no place in the order when its connection ends has none any more. A session belongs to a connection, not to a member:
//! who comes again presents its sessions again. Touches make nobody an owner.
//!
//! **Expiry.** The answer to a ping names everybody that may have been heard of a tickTime before, so a session of a
//! learner expires when the learner has answered a ping that was sent a tickTime behind the deadline.

use super::super::between::{ForPeers, Forwarded};
use super::owners::Standing;
use super::sessions::Holder;
use super::wanted::Wanted;
use super::{Asked, Common, Fatal, Ordering, Step, order_error, size};
use crate::log::storage::Storage;
use crate::log::{Need, Room};
use crate::messages::{Notice, Stamps};
use crate::tree::SessionState;
use crate::txn::WriteRequest;
use crate::types::{ErrorCode, Generation, Now, SessionId, Tick, Xid};
use crate::zab::{LinkId, SyncId};

impl Ordering {
    /// A learner has passed a request on. It is looked at with the next [`Ordering::advance`].
    pub(in crate::pipeline) fn forwarded<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        forwarded: Forwarded,
        now: Now,
    ) {
        let (link, bytes) = (forwarded.link, forwarded.bytes());
        self.has_come(common, Wanted::Learner(forwarded), (link, bytes), now);
    }

    /// A client has come to a learner with a session of another member.
    pub(in crate::pipeline) fn revalidate<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        (link, session, timeout_ms): (LinkId, SessionId, i32),
        now: Now,
    ) {
        let wanted = Wanted::Revalidate {
            link,
            session,
            timeout_ms,
        };
        self.has_come(common, wanted, (link, 0), now);
    }

    fn has_come<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        wanted: Wanted,
        (link, bytes): (LinkId, usize),
        now: Now,
    ) {
        self.see_clock(common, now);
        match self.learners.has_come(link, bytes) {
            true => self.intake.push_back(wanted),
            false => {
                common.wishes.push_back(ForPeers::HangUp(link));
                self.gone(link, now);
            }
        }
    }

    /// A learner names sessions that it has heard of, in its answer to a ping that was sent at `asked`.
    pub(in crate::pipeline) fn touched_there<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        (link, asked): (LinkId, Tick),
        sessions: impl Iterator<Item = SessionId>,
        now: Now,
    ) {
        self.see_clock(common, now);
        let mut named = 0;
        for session in sessions {
            named += 1;
            self.sessions.heard(session, now.tick);
        }
        let known = Tick(asked.0.saturating_sub(self.config.tick_time_ms));
        self.learners.has_named(link, named, known);
    }

    /// A learner's connection has ended.
    pub(in crate::pipeline) fn gone(&mut self, link: LinkId, now: Now) {
        if self.learners.remove(link) {
            self.sessions.orphan(link, now.tick);
        }
    }

    /// Bytes of learners' requests that have no place in the order.
    pub(in crate::pipeline) fn unordered_bytes(&self) -> usize {
        self.learners.unordered_bytes()
    }

    /// Whether a connection that has passed something on is there still.
    pub(super) fn is_there(&self, link: LinkId) -> bool {
        self.learners.is_there(link)
    }

    /// Whether a request that a learner has passed on may be ordered.
    pub(super) fn standing_there(&self, link: LinkId, session: SessionId) -> Standing {
        match self.sessions.holder(session) {
            None => Standing::Unknown,
            Some(_) if self.sessions.is_closing(session) => Standing::Closing,
            Some(Holder::Learner(holder)) if holder == link => Standing::Current,
            Some(_) => Standing::Stale,
        }
    }

    /// Orders the createSession of a learner's client, for which there is room.
    pub(super) fn open_there<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        (link, session, number): (LinkId, SessionId, Xid),
        timeout_ms: i32,
    ) -> Result<(), Fatal> {
        let asked = Asked {
            session,
            state: SessionState::Live,
            xid: number,
            request: &WriteRequest::CreateSession { timeout_ms },
            credentials: &[],
            origin: None,
            generation: Generation(0),
            stamps: Stamps::default(),
        };
        // Nobody's may be made: a 0 is no session, and the other one marks containers.
        let is_none = session == SessionId::NONE || session.0 == i64::MIN;
        if is_none || self.sessions.is_known(session) || common.attachments.is_known(session) {
            order_error(common, &asked, ErrorCode::SESSION_EXPIRED, step.now)?;
            return Ok(());
        }
        let opened = common.journal.next_zxid();
        let holder = Holder::Learner(link);
        (self.sessions).insert(session, holder, timeout_ms, opened, step.now.tick);
        common.attachments.restore(session);
        self.order(common, step, asked).map(drop)
    }

    /// What a learner asks of a session is answered behind all that is ordered.
    pub(super) fn revalidate_there<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        link: LinkId,
        session: SessionId,
        timeout_ms: i32,
        now: Tick,
    ) {
        let cursors = common.journal.cursors();
        let is_valid = self.sessions.may_move(session, cursors.committed);
        if is_valid {
            let mut said = Vec::new();
            common
                .attachments
                .take_away(session, cursors.prepared, &mut said);
            common.counters.given_up += said
                .iter()
                .filter(|(_, notice)| matches!(notice, Notice::Close(_)))
                .count() as u64;
            let holder = Holder::Learner(link);
            (self.sessions).moved(session, holder, timeout_ms, cursors.prepared, now);
            self.say(common, said);
        }
        common.wishes.push_back(ForPeers::Revalidated {
            link,
            session,
            is_valid,
        });
    }

    /// Without room for a write of a learner's client, it becomes an error; without room for that, the learner has to
    /// come again. False: there will be room.
    pub(super) fn refuse_there<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        link: LinkId,
        asked: &Asked<'_>,
        now: Now,
    ) -> Result<bool, Fatal> {
        common.counters.refused += 1;
        match common.journal.room_for(Need::Reserve, size::ENTRY_FIXED) {
            Room::Yes => {
                order_error(common, asked, ErrorCode::SYSTEM_ERROR, now)?;
            }
            Room::Wait => return Ok(false),
            Room::Full => {
                common.wishes.push_back(ForPeers::HangUp(link));
                self.gone(link, now);
            }
        }
        Ok(true)
    }

    /// A sync that this member has asked for is done.
    pub(in crate::pipeline) fn synced<S: Storage>(&mut self, common: &mut Common<S>, id: SyncId) {
        if let Some(origin) = common.syncs.remove(&id) {
            common.outcomes.tell(origin.shard, Notice::Synced(origin));
        }
    }
}
