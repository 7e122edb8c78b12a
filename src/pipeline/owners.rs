//! The owner table of a server that orders for itself: its sessions, the attachments of its own shards, and how far
//! is known what arrived in their sockets. Both tables have a row for each session, from its createSession to its
//! closeSession; a session moves in both at once.

use super::arrivals::Arrivals;
use super::attachments::{Attachments, Claim, Release};
use super::outcomes::Said;
use super::sessions::Sessions;
use super::size::ListSize;
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

/// What sessions hold beside their entries in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnersCount {
    /// Deadlines of sessions that are not closing.
    pub deadlines: usize,
    /// Connections that wait for a session which another one holds.
    pub waiters: usize,
    /// Ephemerals that transactions in flight add to the lists of closeSessions.
    pub list_in_flight: usize,
}

/// The owner table. What concerns one part alone is asked of that part.
#[derive(Debug)]
pub(super) struct Owners {
    pub(super) sessions: Sessions,
    pub(super) attachments: Attachments,
    /// How far what arrived is known.
    pub(super) arrivals: Arrivals,
}

impl Owners {
    /// An empty table. `tick_time_ms` is the width of an expiry bucket and a waiter's patience;
    /// `shards` is how many report.
    pub(super) fn new(tick_time_ms: u64, shards: u16) -> Owners {
        Owners {
            sessions: Sessions::new(tick_time_ms),
            attachments: Attachments::new(tick_time_ms),
            arrivals: Arrivals::new(shards, tick_time_ms),
        }
    }

    /// A session found at start-up: it gets its full timeout (docs/protocol.md §5.2).
    pub(super) fn restore(&mut self, session: SessionId, timeout_ms: i32, now: Tick) {
        (self.sessions).insert(session, None, timeout_ms, Zxid::ZERO, now);
        self.attachments.restore(session);
    }

    /// A session whose createSession is being prepared, owned by the connection that asked. If
    /// that dies before the commit the session lives until it expires.
    pub(super) fn open(
        &mut self,
        session: SessionId,
        origin: Origin,
        timeout_ms: i32,
        opened: Zxid,
        now: Tick,
    ) -> Generation {
        let holder = Some(origin.shard);
        (self.sessions).insert(session, holder, timeout_ms, opened, now);
        self.attachments.open(session, origin.shard)
    }

    /// Whether a request of this attachment may be ordered.
    pub(super) fn standing(&self, session: SessionId, generation: Generation) -> Standing {
        match self.attachments.is_current(session, generation) {
            None => Standing::Unknown,
            Some(false) => Standing::Stale,
            Some(true) if self.sessions.is_closing(session) => Standing::Closing,
            Some(true) => Standing::Current,
        }
    }

    /// A connection presents a session. `committed`: a session whose createSession is later than
    /// that does not exist for anybody but its creator.
    pub(super) fn reattach(
        &mut self,
        origin: Origin,
        session: SessionId,
        timeout_ms: i32,
        committed: Zxid,
        now: Tick,
        say: &mut Vec<Said>,
    ) {
        if !self.sessions.may_move(session, committed) {
            say.push((origin.shard, Notice::Dead(origin)));
            return;
        }
        let claim = Claim { origin, timeout_ms };
        if self.attachments.reattach(claim, session, now, say) {
            self.moved(session, claim, now);
        } else {
            self.sessions.heard(session, now);
        }
    }

    fn moved(&mut self, session: SessionId, to: Claim, now: Tick) {
        let holder = Some(to.origin.shard);
        (self.sessions).moved(session, holder, to.timeout_ms, now);
    }

    /// The old shard confirms that nothing of an attachment executes any more.
    pub(super) fn released(
        &mut self,
        shard: ShardId,
        session: SessionId,
        generation: Generation,
        now: Tick,
        say: &mut Vec<Said>,
    ) {
        let is_closing = self.sessions.is_closing(session);
        let released = (self.attachments).released(shard, session, generation, is_closing, say);
        match released {
            Release::Stale => {}
            Release::LetGo => {
                // What the shard heard and has not reported any more counts as heard now.
                self.sessions.let_go(session);
                self.sessions.heard(session, now);
            }
            Release::Attached(claim) => self.moved(session, claim, now),
        }
    }

    /// A batch of touches; everything that lay in the shard's sockets at `watermark` is among them,
    /// and what came until the report was `made`. A deadline counted from then is never early;
    /// after a pause the watermark may lie far back.
    pub(super) fn touched(
        &mut self,
        shard: ShardId,
        watermark: Tick,
        made: Tick,
        sessions: &[SessionId],
    ) {
        for &session in sessions {
            self.sessions.heard(session, made);
        }
        self.arrivals.reported(shard, watermark);
    }

    /// Up to where everything that arrived is known: anywhere, and at each shard.
    pub(super) fn known_arrivals(&self) -> (Tick, impl Iterator<Item = (ShardId, Tick)> + '_) {
        (self.arrivals.everywhere(), self.arrivals.at_shards())
    }

    /// A session that has to expire: the clock has passed its deadline, and so has what is known
    /// of the bytes that arrived, until where a touch may be on its way (`arrivals` says where).
    pub(super) fn due(&mut self, now: Tick) -> Option<SessionId> {
        if self.arrivals.is_resuming(now) {
            return None;
        }
        let nobody = std::iter::once((None, self.arrivals.everywhere()));
        let shards = self.arrivals.at_shards().map(|(s, w)| (Some(s), w));
        self.sessions.due(now, nobody.chain(shards))
    }

    /// The closeSession is applied. Tolerates a session that is not there.
    pub(super) fn remove(&mut self, session: SessionId) {
        self.sessions.remove(session);
        self.attachments.remove(session);
    }

    /// What is kept beside the tables.
    pub(super) fn counted(&self) -> OwnersCount {
        OwnersCount {
            deadlines: self.sessions.deadlines(),
            waiters: self.attachments.waiters(),
            list_in_flight: self.sessions.lists_in_flight().paths,
        }
    }

    /// The same, from each row; `listed`: sessions and what transactions in flight add to their lists.
    pub(super) fn recounted(
        &self,
        listed: impl Iterator<Item = (SessionId, ListSize)>,
    ) -> OwnersCount {
        let listed = listed.filter(|(session, _)| self.sessions.is_known(*session));
        OwnersCount {
            deadlines: self.sessions.deadlines_recounted(),
            waiters: self.attachments.waiters_recounted(),
            list_in_flight: listed.map(|(_, list)| list.paths).sum(),
        }
    }
}
