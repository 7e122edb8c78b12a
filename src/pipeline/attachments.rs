//! Which shard of this member serves a session, and under which attachment (docs/protocol.md §5.4). Every member has
//! such a table, of its own connections; that a session is alive, and until when, is known to who orders
//! (`sessions`).
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

use super::outcomes::Said;
use crate::messages::{Notice, Origin};
use crate::types::{DetHashMap, Generation, SessionId, ShardId, Tick, Zxid};
use std::collections::BTreeSet;

/// A connection that wants a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) origin: Origin,
    /// Newly negotiated.
    pub(super) timeout_ms: i32,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    claim: Claim,
    give_up: Tick,
}

#[derive(Clone, Copy, Debug)]
enum Bond {
    Nobody,
    Held {
        shard: ShardId,
        /// The connection is answered behind this.
        behind: Zxid,
    },
    Releasing {
        from: ShardId,
        revoked: Generation,
        /// The shard is told behind this.
        behind: Zxid,
        waiter: Option<Waiter>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Attachment {
    bond: Bond,
    /// Of the current attachment, or of the one that follows a revoked one.
    generation: Generation,
}

/// What the confirmation of a shard has changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Release {
    /// Nothing: of an attachment that nobody waits for any more.
    Stale,
    /// Nobody has the session now.
    LetGo,
    /// Nobody has the session, and this one has waited for it.
    Free(Claim),
}

/// The attachments of a member.
#[derive(Debug)]
pub(super) struct Attachments {
    table: DetHashMap<SessionId, Attachment>,
    /// When a waiter's patience ends.
    give_ups: BTreeSet<(Tick, SessionId)>,
    patience_ms: u64,
}

impl Attachments {
    /// None. `patience_ms` is how long a connection waits for the shard that has its session.
    pub(super) fn new(patience_ms: u64) -> Attachments {
        Attachments {
            table: DetHashMap::default(),
            give_ups: BTreeSet::new(),
            patience_ms,
        }
    }

    /// A session that no connection has presented yet.
    pub(super) fn restore(&mut self, session: SessionId) {
        self.insert(session, Bond::Nobody, Generation(0));
    }

    /// A session whose createSession is being prepared as `opened`, for the connection that asked.
    pub(super) fn open(&mut self, session: SessionId, shard: ShardId, opened: Zxid) -> Generation {
        let first = Generation(1);
        let behind = opened;
        self.insert(session, Bond::Held { shard, behind }, first);
        first
    }

    fn insert(&mut self, session: SessionId, bond: Bond, generation: Generation) {
        let attachment = Attachment { bond, generation };
        let before = self.table.insert(session, attachment);
        assert!(before.is_none(), "session {session} is attached twice");
    }

    /// Whether nobody here has the session, nor waits for it, nor is about to lose it.
    pub(super) fn is_free(&self, session: SessionId) -> bool {
        let attachment = self.table.get(&session);
        attachment.is_none_or(|attachment| matches!(attachment.bond, Bond::Nobody))
    }

    /// Whether there is such a session.
    pub(super) fn is_known(&self, session: SessionId) -> bool {
        self.table.contains_key(&session)
    }

    /// The session is another member's: from now on nothing of its attachment here is accepted, and who waits for it
    /// has come too early.
    pub(super) fn take_away(&mut self, session: SessionId, prepared: Zxid, say: &mut Vec<Said>) {
        let Some(attachment) = self.table.get_mut(&session) else {
            return;
        };
        match &mut attachment.bond {
            Bond::Nobody => {}
            Bond::Held { shard, .. } => {
                let (from, revoked) = (*shard, attachment.generation);
                attachment.generation.0 += 1;
                attachment.bond = Bond::Releasing {
                    from,
                    revoked,
                    behind: prepared,
                    waiter: None,
                };
                let detach = Notice::Detach {
                    session,
                    generation: revoked,
                };
                say.push((from, detach));
            }
            Bond::Releasing { waiter, .. } => {
                let waiter = waiter.take();
                self.dismiss(waiter, session, say);
            }
        }
    }

    /// Whether an attachment is the current one; `None`: there is no such session. The only place that compares
    /// generations.
    pub(super) fn is_current(&self, session: SessionId, generation: Generation) -> Option<bool> {
        let attachment = self.table.get(&session)?;
        Some(attachment.generation == generation)
    }

    /// A connection presents a session that there is. Whether it has it at once; otherwise it waits. What is said
    /// takes its place behind `prepared`.
    pub(super) fn reattach(
        &mut self,
        claim: Claim,
        session: SessionId,
        prepared: Zxid,
        now: Tick,
        say: &mut Vec<Said>,
    ) -> bool {
        let give_up = now.after(self.patience_ms);
        let waiter = Waiter { claim, give_up };
        let attachment = (self.table.get_mut(&session)).expect("the session exists");
        match attachment.bond {
            Bond::Nobody => {
                attachment.generation.0 += 1;
                self.attach(claim, session, prepared, say);
                return true;
            }
            Bond::Held { shard, .. } => {
                let revoked = attachment.generation;
                attachment.generation.0 += 1;
                attachment.bond = Bond::Releasing {
                    from: shard,
                    revoked,
                    behind: prepared,
                    waiter: Some(waiter),
                };
                self.give_ups.insert((give_up, session));
                let detach = Notice::Detach {
                    session,
                    generation: revoked,
                };
                say.push((shard, detach));
            }
            Bond::Releasing {
                waiter: ref mut waits,
                ..
            } => {
                // The newest wins. The old shard has been told already, and a notice is not lost.
                let earlier = waits.replace(waiter);
                self.give_ups.insert((give_up, session));
                self.dismiss(earlier, session, say);
            }
        }
        false
    }

    /// The old shard confirms that nothing of an attachment executes any more. Who waits for a session that is
    /// closing goes on waiting: its closeSession is not prepared yet, and when it is, `dead` answers.
    pub(super) fn released(
        &mut self,
        (shard, session, generation): (ShardId, SessionId, Generation),
        is_closing: bool,
    ) -> Release {
        let Some(attachment) = self.table.get_mut(&session) else {
            return Release::Stale;
        };
        let Bond::Releasing {
            from,
            revoked,
            waiter,
            ..
        } = attachment.bond
        else {
            return Release::Stale;
        };
        if (from, revoked) != (shard, generation) {
            return Release::Stale;
        }
        match waiter {
            None => {
                attachment.bond = Bond::Nobody;
                Release::LetGo
            }
            Some(_) if is_closing => Release::Stale,
            Some(waiter) => {
                self.give_ups.remove(&(waiter.give_up, session));
                attachment.bond = Bond::Nobody;
                Release::Free(waiter.claim)
            }
        }
    }

    /// A connection has the session, which nobody had. What is said takes its place behind `behind`.
    pub(super) fn attach(
        &mut self,
        to: Claim,
        session: SessionId,
        behind: Zxid,
        say: &mut Vec<Said>,
    ) {
        let shard = to.origin.shard;
        let attachment = (self.table.get_mut(&session)).expect("the session exists");
        attachment.bond = Bond::Held { shard, behind };
        let attached = Notice::Attached {
            origin: to.origin,
            session,
            generation: attachment.generation,
            timeout_ms: to.timeout_ms,
            // Filled in when the notice takes its place behind the transactions before it.
            committed: Zxid::ZERO,
        };
        say.push((shard, attached));
    }

    fn dismiss(&mut self, waiter: Option<Waiter>, session: SessionId, say: &mut Vec<Said>) {
        if let Some(waiter) = waiter {
            // A newer waiter may have the same moment, and then the entry is its own.
            let newest = match self.table[&session].bond {
                Bond::Releasing { waiter, .. } => waiter.map(|w| w.give_up),
                _ => None,
            };
            if newest != Some(waiter.give_up) {
                self.give_ups.remove(&(waiter.give_up, session));
            }
            let Claim { origin, .. } = waiter.claim;
            say.push((origin.shard, Notice::Close(origin.conn)));
        }
    }

    /// The shard that has a session is told to let it go: from now on it is waited for.
    pub(super) fn told(&mut self, session: SessionId, now: Tick) {
        let bond = (self.table.get_mut(&session)).map(|attachment| &mut attachment.bond);
        if let Some(Bond::Releasing { waiter, .. }) = bond
            && let Some(waiter) = waiter
        {
            self.give_ups.remove(&(waiter.give_up, session));
            waiter.give_up = now.after(self.patience_ms);
            self.give_ups.insert((waiter.give_up, session));
        }
    }

    /// Closes the connections that have waited too long for an old shard, which must have been told: while the
    /// disk hangs, everybody waits. They are never answered "dead": the session lives.
    pub(super) fn give_up(&mut self, committed: Zxid, now: Tick, say: &mut Vec<Said>) {
        while let Some(&(at, session)) = self.give_ups.first() {
            if at > now {
                return;
            }
            self.give_ups.pop_first();
            let attachment = (self.table.get_mut(&session)).expect("a waiter has a session");
            let Bond::Releasing { behind, waiter, .. } = &mut attachment.bond else {
                unreachable!("only a releasing session has a waiter");
            };
            if *behind > committed {
                let later = now.after(self.patience_ms);
                let waiter = waiter.as_mut();
                waiter.expect("give_ups has one entry per waiter").give_up = later;
                self.give_ups.insert((later, session));
                continue;
            }
            let waiter = waiter.take().expect("give_ups has one entry per waiter");
            let Claim { origin, .. } = waiter.claim;
            say.push((origin.shard, Notice::Close(origin.conn)));
        }
    }

    /// The closeSession is prepared: who waits for the session learns, behind it, that it is dead.
    pub(super) fn dead(&mut self, session: SessionId, say: &mut Vec<Said>) {
        let attachment = (self.table.get_mut(&session)).expect("the session exists");
        if let Bond::Releasing { waiter, .. } = &mut attachment.bond
            && let Some(waiter) = waiter.take()
        {
            self.give_ups.remove(&(waiter.give_up, session));
            let Claim { origin, .. } = waiter.claim;
            say.push((origin.shard, Notice::Dead(origin)));
        }
    }

    /// The closeSession is committed. Who waits for the session, to learn behind it that it is dead.
    pub(super) fn end(&mut self, session: SessionId) -> Option<Claim> {
        let Bond::Releasing { waiter, .. } = self.table.remove(&session)?.bond else {
            return None;
        };
        let Waiter { claim, give_up } = waiter?;
        self.give_ups.remove(&(give_up, session));
        Some(claim)
    }

    /// The closeSession is applied. Tolerates a session that is not there.
    pub(super) fn remove(&mut self, session: SessionId) {
        self.table.remove(&session);
    }

    /// Whether a connection waits for the answer to its ConnectRequest because that stands behind what is not
    /// applied, or the word to the shard that has the session does. However many wait, it takes one look.
    pub(super) fn is_unanswered(&self, session: SessionId, applied: Zxid) -> bool {
        match self.table.get(&session).map(|attachment| attachment.bond) {
            Some(Bond::Held { behind, .. }) => behind > applied,
            Some(Bond::Releasing { behind, waiter, .. }) => waiter.is_some() && behind > applied,
            Some(Bond::Nobody) | None => false,
        }
    }

    /// Connections that wait for a session which another one holds.
    pub(super) fn waiters(&self) -> usize {
        self.give_ups.len()
    }

    /// The same, from each attachment.
    pub(super) fn waiters_recounted(&self) -> usize {
        let waiting = self.table.iter().filter(|(session, attachment)| {
            let Bond::Releasing { waiter, .. } = attachment.bond else {
                return false;
            };
            waiter.is_some_and(|waiter| self.give_ups.contains(&(waiter.give_up, **session)))
        });
        waiting.count()
    }
}
