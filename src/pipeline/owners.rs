//! The owner table: which shard serves a session, under which attachment, and until when it
//! lives without being heard of (docs/protocol.md §5.2–5.4).
//!
//! A session's attachment, and what moves it:
//!
//! ```text
//!            reattach                      reattach by another connection
//!   Nobody ───────────► Held{shard} ───────────────────────────────► Releasing{from, waiter}
//!      ▲                     ▲                                          │   │    ▲
//!      │                     └──── released, somebody waits ◄───────────┘   │    │ silence, or a
//!      └───────────────────────── released, nobody waits ◄──────────────────┘    │ newer waiter:
//!                                                                            close the waiter
//! ```
//!
//! The generation goes up when an attachment is taken away, so from that moment on nothing that
//! the old connection sent is accepted, whether its shard answers or not.

use super::arrivals::Arrivals;
use super::size::ListSize;
use crate::messages::{Notice, Origin};
use crate::types::{DetHashMap, Generation, SessionId, ShardId, Tick, Zxid};
use std::collections::BTreeSet;

/// A notice and the shard that it is for.
pub(super) type Said = (ShardId, Notice);

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

#[derive(Clone, Copy, Debug)]
struct Waiter {
    origin: Origin,
    timeout_ms: i32,
    give_up: Tick,
}

#[derive(Clone, Copy, Debug)]
enum Attachment {
    Nobody,
    Held {
        shard: ShardId,
    },
    Releasing {
        from: ShardId,
        revoked: Generation,
        waiter: Option<Waiter>,
    },
}

#[derive(Debug)]
struct Owner {
    attachment: Attachment,
    /// Of the current attachment, or of the one that follows a revoked one.
    generation: Generation,
    /// Of the current connection; at first of the createSession.
    timeout_ms: i32,
    /// A multiple of tickTime.
    deadline: Tick,
    closing: bool,
    /// The createSession's zxid: before it is committed nobody else may know the session.
    opened: Zxid,
    /// Upper bound of what creates in flight add to the closeSession's list.
    list_in_flight: ListSize,
}

/// Whose watermark decides over a session's expiry; `None`: nobody serves it, and all decide.
type Holder = Option<ShardId>;

impl Owner {
    fn holder(&self) -> Holder {
        match self.attachment {
            Attachment::Nobody => None,
            Attachment::Held { shard } => Some(shard),
            Attachment::Releasing { from, .. } => Some(from),
        }
    }
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

/// The owner table.
#[derive(Debug)]
pub(super) struct Owners {
    table: DetHashMap<SessionId, Owner>,
    /// Sessions that are not closing, by what decides over their expiry.
    deadlines: BTreeSet<(Holder, Tick, SessionId)>,
    /// How far what arrived is known.
    arrivals: Arrivals,
    /// When a waiter's patience ends.
    give_ups: BTreeSet<(Tick, SessionId)>,
    tick_time_ms: u64,
}

impl Owners {
    /// An empty table. `tick_time_ms` is the width of an expiry bucket and a waiter's patience;
    /// `shards` is how many report.
    pub(super) fn new(tick_time_ms: u64, shards: u16) -> Owners {
        assert!(tick_time_ms > 0, "tickTime is positive");
        Owners {
            table: DetHashMap::default(),
            deadlines: BTreeSet::new(),
            arrivals: Arrivals::new(shards, tick_time_ms),
            give_ups: BTreeSet::new(),
            tick_time_ms,
        }
    }

    /// A session found at start-up: it gets its full timeout (docs/protocol.md §5.2).
    pub(super) fn restore(&mut self, session: SessionId, timeout_ms: i32, now: Tick) {
        self.insert(
            session,
            Attachment::Nobody,
            Generation(0),
            timeout_ms,
            Zxid::ZERO,
            now,
        );
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
        let held = Attachment::Held {
            shard: origin.shard,
        };
        self.insert(session, held, Generation(1), timeout_ms, opened, now);
        Generation(1)
    }

    fn insert(
        &mut self,
        session: SessionId,
        attachment: Attachment,
        generation: Generation,
        timeout_ms: i32,
        opened: Zxid,
        now: Tick,
    ) {
        let owner = Owner {
            attachment,
            generation,
            timeout_ms,
            deadline: self.deadline(now, timeout_ms),
            closing: false,
            opened,
            list_in_flight: ListSize::default(),
        };
        self.deadlines
            .insert((owner.holder(), owner.deadline, session));
        let before = self.table.insert(session, owner);
        assert!(before.is_none(), "session {session} exists twice");
    }

    /// The end of the bucket in which a session heard of at `heard` expires, strictly later than
    /// `heard + timeout`.
    fn deadline(&self, heard: Tick, timeout_ms: i32) -> Tick {
        let at = heard.0 + u64::try_from(timeout_ms).unwrap_or(0);
        Tick((at / self.tick_time_ms + 1) * self.tick_time_ms)
    }

    /// Whether a request of this attachment may be ordered. The only place that compares
    /// generations.
    pub(super) fn standing(&self, session: SessionId, generation: Generation) -> Standing {
        match self.table.get(&session) {
            None => Standing::Unknown,
            Some(owner) if owner.generation != generation => Standing::Stale,
            Some(owner) if owner.closing => Standing::Closing,
            Some(_) => Standing::Current,
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
        let give_up = now.after(self.tick_time_ms);
        let waiter = Waiter {
            origin,
            timeout_ms,
            give_up,
        };
        let Some(owner) = self
            .table
            .get_mut(&session)
            .filter(|owner| !owner.closing && owner.opened <= committed)
        else {
            say.push((origin.shard, Notice::Dead(origin)));
            return;
        };
        match owner.attachment {
            Attachment::Nobody => {
                owner.generation.0 += 1;
                self.attach(waiter, session, now, say);
            }
            Attachment::Held { shard } => {
                let revoked = owner.generation;
                owner.generation.0 += 1;
                owner.attachment = Attachment::Releasing {
                    from: shard,
                    revoked,
                    waiter: Some(waiter),
                };
                self.give_ups.insert((give_up, session));
                let detach = Notice::Detach {
                    session,
                    generation: revoked,
                };
                say.push((shard, detach));
                self.heard(session, now);
            }
            Attachment::Releasing { ref mut waiter, .. } => {
                // The newest wins. The old shard has been told already, and a notice is not lost.
                let earlier = waiter.replace(Waiter {
                    origin,
                    timeout_ms,
                    give_up,
                });
                self.give_ups.insert((give_up, session));
                self.dismiss(earlier, session, say);
                self.heard(session, now);
            }
        }
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
        let Some(owner) = self.table.get_mut(&session) else {
            return;
        };
        let Attachment::Releasing {
            from,
            revoked,
            waiter,
        } = owner.attachment
        else {
            return;
        };
        if (from, revoked) != (shard, generation) {
            return;
        }
        if let Some(waiter) = waiter {
            if owner.closing {
                // The closeSession is not prepared yet: when it is, `dead` answers the waiter.
                return;
            }
            self.give_ups.remove(&(waiter.give_up, session));
            self.attach(waiter, session, now, say);
        } else {
            // What the shard heard and has not reported any more counts as heard now.
            self.change(session, |owner| owner.attachment = Attachment::Nobody);
            self.heard(session, now);
        }
    }

    fn attach(&mut self, to: Waiter, session: SessionId, now: Tick, say: &mut Vec<Said>) {
        let deadline = self.deadline(now, to.timeout_ms);
        let shard = to.origin.shard;
        let generation = self.change(session, |owner| {
            owner.attachment = Attachment::Held { shard };
            owner.timeout_ms = to.timeout_ms;
            owner.deadline = deadline;
            owner.generation
        });
        let attached = Notice::Attached {
            origin: to.origin,
            session,
            generation,
            timeout_ms: to.timeout_ms,
            // Filled in when the notice takes its place behind the transactions before it.
            committed: Zxid::ZERO,
        };
        say.push((shard, attached));
    }

    fn dismiss(&mut self, waiter: Option<Waiter>, session: SessionId, say: &mut Vec<Said>) {
        if let Some(waiter) = waiter {
            // A newer waiter may have the same moment, and then the entry is its own.
            let newest = match self.table[&session].attachment {
                Attachment::Releasing { waiter, .. } => waiter.map(|w| w.give_up),
                _ => None,
            };
            if newest != Some(waiter.give_up) {
                self.give_ups.remove(&(waiter.give_up, session));
            }
            let close = Notice::Close(waiter.origin.conn);
            say.push((waiter.origin.shard, close));
        }
    }

    /// Closes the connections that have waited too long for an old shard. They are never
    /// answered "dead": the session lives.
    pub(super) fn give_up(&mut self, now: Tick, say: &mut Vec<Said>) {
        while let Some(&(at, session)) = self.give_ups.first() {
            if at > now {
                return;
            }
            self.give_ups.pop_first();
            let owner = self
                .table
                .get_mut(&session)
                .expect("a waiter has a session");
            let Attachment::Releasing { waiter, .. } = &mut owner.attachment else {
                unreachable!("only a releasing session has a waiter");
            };
            let waiter = waiter.take().expect("give_ups has one entry per waiter");
            let close = Notice::Close(waiter.origin.conn);
            say.push((waiter.origin.shard, close));
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
            self.heard(session, made);
        }
        self.arrivals.reported(shard, watermark);
    }

    /// Every connection that waited to be accepted at `until` has been handed to a shard; it is
    /// `now`.
    pub(super) fn accepted(&mut self, until: Tick, now: Tick) {
        self.arrivals.accepted(until, now);
    }

    /// Something happens at `now`.
    pub(super) fn see_clock(&mut self, now: Tick) {
        self.arrivals.see_clock(now);
    }

    /// A shard has sent something; the clock was seen.
    pub(super) fn sent(&mut self, shard: ShardId) {
        self.arrivals.sent(shard);
    }

    /// As if every session had just been heard of.
    pub(super) fn hear_all(&mut self, at: Tick) {
        let all: Vec<SessionId> = self.table.keys().copied().collect();
        all.into_iter().for_each(|session| self.heard(session, at));
    }

    /// Puts a deadline off; never brings it forward (only an attachment does, with its timeout).
    pub(super) fn heard(&mut self, session: SessionId, at: Tick) {
        let Some(owner) = self.table.get(&session) else {
            return;
        };
        let deadline = self.deadline(at, owner.timeout_ms);
        if deadline > owner.deadline && !owner.closing {
            self.change(session, |owner| owner.deadline = deadline);
        }
    }

    /// Changes an owner and keeps the deadlines in step.
    fn change<R>(&mut self, session: SessionId, change: impl FnOnce(&mut Owner) -> R) -> R {
        let owner = self.table.get_mut(&session).expect("the session exists");
        self.deadlines
            .remove(&(owner.holder(), owner.deadline, session));
        let result = change(owner);
        if !owner.closing {
            self.deadlines
                .insert((owner.holder(), owner.deadline, session));
        }
        result
    }

    /// Up to where everything that arrived is known: anywhere, and at each shard.
    pub(super) fn known_arrivals(&self) -> (Tick, impl Iterator<Item = (ShardId, Tick)> + '_) {
        (self.arrivals.everywhere(), self.arrivals.at_shards())
    }

    /// Sessions that are marked as closing.
    pub(super) fn closing(&self) -> impl Iterator<Item = SessionId> + '_ {
        let closing = self.table.iter().filter(|(_, owner)| owner.closing);
        closing.map(|(&session, _)| session)
    }

    /// A session that has to expire: the clock has passed its deadline, and so has what is known
    /// of the bytes that arrived, until where a touch may be on its way (`arrivals` says where).
    pub(super) fn due(&mut self, now: Tick) -> Option<SessionId> {
        if self.arrivals.is_resuming(now) {
            return None;
        }
        let nobody = std::iter::once((None, self.arrivals.everywhere()));
        let shards = self.arrivals.at_shards().map(|(s, w)| (Some(s), w));
        nobody.chain(shards).find_map(|(holder, passed)| {
            let from = (holder, Tick(0), SessionId(i64::MIN));
            let to = (holder, passed.min(now), SessionId(i64::MAX));
            self.deadlines
                .range(from..=to)
                .next()
                .map(|&(_, _, session)| session)
        })
    }

    /// From now on nothing of the session is accepted.
    pub(super) fn mark_closing(&mut self, session: SessionId) {
        self.change(session, |owner| {
            assert!(!owner.closing, "a session closes once");
            owner.closing = true;
        });
    }

    /// The closeSession is prepared: who waits for the session learns, behind it, that it is dead.
    pub(super) fn dead(&mut self, session: SessionId, say: &mut Vec<Said>) {
        let owner = self.table.get_mut(&session).expect("the session exists");
        if let Attachment::Releasing { waiter, .. } = &mut owner.attachment
            && let Some(waiter) = waiter.take()
        {
            self.give_ups.remove(&(waiter.give_up, session));
            say.push((waiter.origin.shard, Notice::Dead(waiter.origin)));
        }
    }

    /// The closeSession is applied. Tolerates a session that is not there.
    pub(super) fn remove(&mut self, session: SessionId) {
        if let Some(owner) = self.table.remove(&session) {
            assert!(owner.closing, "only a closing session goes");
        }
    }

    /// A transaction that is prepared adds ephemerals to the closeSession's list.
    pub(super) fn list_grows(&mut self, session: SessionId, by: ListSize) {
        if let Some(owner) = self.table.get_mut(&session) {
            owner.list_in_flight = owner.list_in_flight.plus(by);
        }
    }

    /// That transaction is applied: the tree knows its ephemerals.
    pub(super) fn list_is_applied(&mut self, session: SessionId, of: ListSize) {
        if let Some(owner) = self.table.get_mut(&session) {
            let left = owner.list_in_flight.minus(of);
            owner.list_in_flight = left.expect("what was added is taken once");
        }
    }

    /// Upper bound of what transactions in flight add to the closeSession's list.
    pub(super) fn list_in_flight(&self, session: SessionId) -> ListSize {
        let owner = self.table.get(&session);
        owner.map_or(ListSize::default(), |owner| owner.list_in_flight)
    }

    /// What is kept beside the owners.
    pub(super) fn counted(&self) -> OwnersCount {
        let lists = self.table.values().map(|owner| owner.list_in_flight);
        OwnersCount {
            deadlines: self.deadlines.len(),
            waiters: self.give_ups.len(),
            list_in_flight: lists.fold(ListSize::default(), ListSize::plus).paths,
        }
    }

    /// The same, from each owner; `listed`: sessions and what transactions in flight add to their lists.
    pub(super) fn recounted(
        &self,
        listed: impl Iterator<Item = (SessionId, ListSize)>,
    ) -> OwnersCount {
        let listed = listed.filter(|(session, _)| self.is_known(*session));
        let mut sum = OwnersCount {
            list_in_flight: listed.map(|(_, list)| list.paths).sum(),
            ..OwnersCount::default()
        };
        for (session, owner) in &self.table {
            let deadline = (owner.holder(), owner.deadline, *session);
            sum.deadlines += usize::from(!owner.closing && self.deadlines.contains(&deadline));
            if let Attachment::Releasing {
                waiter: Some(waiter),
                ..
            } = owner.attachment
            {
                let waits = self.give_ups.contains(&(waiter.give_up, *session));
                sum.waiters += usize::from(waits);
            }
        }
        sum
    }

    /// Of a session that is not closing.
    pub(super) fn deadline_of(&self, session: SessionId) -> Option<Tick> {
        let owner = self.table.get(&session).filter(|owner| !owner.closing)?;
        Some(owner.deadline)
    }

    /// Whether there is a session with this id, a closing one included.
    pub(super) fn is_known(&self, session: SessionId) -> bool {
        self.table.contains_key(&session)
    }

    /// Number of sessions, closing ones included.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}
