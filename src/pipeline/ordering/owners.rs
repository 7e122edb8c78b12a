//! The owner table of who orders and serves: its sessions, the attachments of its own shards, and how far is known
//! what arrived in their sockets. Sessions and attachments have a row for each session, from its createSession to its
//! closeSession; what changes both, or asks both, is here.

use super::super::attachments::{Claim, Release};
use super::sessions::Holder;
use super::{Common, Ordering};
use crate::log::storage::Storage;
use crate::messages::{Notice, Origin};
use crate::types::{Generation, SessionId, ShardId, Tick, Zxid};

/// What the table says of a request's session and attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The attachment is the current one.
    Current,
    /// closeSession is prepared, or about to be.
    Closing,
    /// No such session.
    Unknown,
    /// The session has been taken away from this attachment.
    Stale,
}

impl Ordering {
    /// A session whose createSession is prepared next, owned by the connection that asked. If
    /// that dies before the commit the session lives until it expires.
    pub(super) fn open<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        session: SessionId,
        origin: Origin,
        timeout_ms: i32,
        now: Tick,
    ) -> Generation {
        let opened = common.journal.next_zxid();
        let holder = Holder::Shard(origin.shard);
        (self.sessions).insert(session, holder, timeout_ms, opened, now);
        common.attachments.open(session, origin.shard, opened)
    }

    /// Whether a request of this attachment may be ordered.
    pub(super) fn standing<S: Storage>(
        &self,
        common: &Common<S>,
        session: SessionId,
        generation: Generation,
    ) -> Standing {
        match common.attachments.is_current(session, generation) {
            None => Standing::Unknown,
            Some(false) => Standing::Stale,
            Some(true) if self.sessions.is_closing(session) => Standing::Closing,
            Some(true) => Standing::Current,
        }
    }

    /// A connection presents a session. One whose createSession is not committed does not exist for
    /// anybody but its creator.
    pub(super) fn reattach<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        claim: Claim,
        session: SessionId,
        now: Tick,
    ) {
        let mut said = Vec::new();
        let cursors = common.journal.cursors();
        let attachments = &mut common.attachments;
        if !self.sessions.may_move(session, cursors.committed) {
            let Claim { origin, .. } = claim;
            said.push((origin.shard, Notice::Dead(origin)));
        } else if attachments.reattach(claim, session, cursors.prepared, now, &mut said) {
            self.moved(session, claim, cursors.prepared, now);
        } else {
            self.sessions.heard(session, now);
        }
        self.say(common, said);
    }

    fn moved(&mut self, session: SessionId, to: Claim, prepared: Zxid, now: Tick) {
        let holder = Holder::Shard(to.origin.shard);
        (self.sessions).moved(session, holder, to.timeout_ms, prepared, now);
    }

    /// The old shard confirms that nothing of an attachment executes any more.
    pub(super) fn released<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        shard: ShardId,
        session: SessionId,
        generation: Generation,
        now: Tick,
    ) {
        let mut said = Vec::new();
        let is_closing = self.sessions.is_closing(session);
        let prepared = common.journal.cursors().prepared;
        let attachment = (shard, session, generation);
        let attachments = &mut common.attachments;
        match attachments.released(attachment, is_closing) {
            Release::Stale => {}
            Release::LetGo => {
                // What the shard heard and has not reported any more counts as heard now.
                self.sessions.let_go(session, shard);
                self.sessions.heard(session, now);
            }
            Release::Free(claim) => {
                attachments.attach(claim, session, prepared, &mut said);
                self.moved(session, claim, prepared, now);
            }
        }
        self.say(common, said);
    }

    /// A batch of touches; everything that lay in the shard's sockets at `watermark` is among them,
    /// and what came until the report was `made`. A deadline counted from then is never early;
    /// after a pause the watermark may lie far back.
    pub(super) fn touched<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        shard: ShardId,
        watermark: Tick,
        made: Tick,
        sessions: &[SessionId],
    ) {
        for &session in sessions {
            self.sessions.heard(session, made);
        }
        common.arrivals.reported(shard, watermark);
    }

    /// A session that has to expire: the clock has passed its deadline, and so has what is known
    /// of the bytes that arrived, until where a touch may be on its way (`arrivals` says where).
    pub(super) fn due<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        now: Tick,
    ) -> Option<SessionId> {
        let arrivals = &mut common.arrivals;
        if arrivals.is_resuming(now) {
            return None;
        }
        let nobody = std::iter::once((Holder::Nobody, arrivals.everywhere()));
        let shards = arrivals.at_shards().map(|(s, w)| (Holder::Shard(s), w));
        let learners = self.learners.known().map(|(l, w)| (Holder::Learner(l), w));
        self.sessions.due(now, nobody.chain(shards).chain(learners))
    }
}
