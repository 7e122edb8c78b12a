//! How a request comes into the order, or is turned away.
//!
//! What happens to it, first match wins:
//!
//! | Case | zxid | Outcome |
//! |---|---|---|
//! | new session or re-attach while `PENDING_MAX` requests have no outcome | none | `Notice::Close` |
//! | others wait for room in the log, or a multi is half prepared | – | waits behind them: nothing overtakes |
//! | write, the session's attachment is another | none | `Notice::Close` |
//! | write, its closeSession waits for deletes that make its list shorter | – | waits for it |
//! | write, session closing or unknown | one | error transaction −112 |
//! | write whose transaction could pass `entry_bytes_max` | one | error transaction −5 |
//! | no room in the log, even after waiting for a spare segment | none | `Notice::Refused` |
//! | write, new session | one | committed transaction |
//! | sync, of a member of an ensemble | none | asked of the others; `Notice::Synced` |
//! | re-attach, session unknown or closing | none | `Notice::Dead` |
//! | re-attach, nobody holds the session | none | `Notice::Attached` |
//! | re-attach, somebody holds it | none | `Notice::Detach` to the old shard; then, when that confirms, `Attached`; when it is silent for a tickTime, or a newer one comes, `Close` |
//!
//! What other members pass on waits in the same line; `passed_on` has the outcomes.

use super::super::attachments::Claim;
use super::super::between::{ForPeers, Forwarded};
use super::asked::{Asked, Preparing};
use super::owners::Standing;
use super::wanted::{Asker, Wanted};
use super::{Common, Fatal, Ordering, Step, memory, order_error, size};
use crate::log::storage::Storage;
use crate::log::{Need, Room};
use crate::messages::{Notice, Origin, ShardRequest, Stamps};
use crate::tree::SessionState;
use crate::txn::WriteRequest;
use crate::types::{ErrorCode, Generation, Xid};

/// What became of a request that was looked at.
enum Admitted {
    /// It has its place in the order, or its notice.
    Done,
    /// It waits for a session that closes.
    Behind,
    /// There will be room when a spare segment is made: give it again then.
    Wait(Wanted),
}

impl Ordering {
    /// Takes what a shard sends. It is ordered at once, however little of the budget is left, unless
    /// requests wait before it; but a multi only as far as the budget allows.
    ///
    /// # Errors
    /// [`Fatal`]: stop.
    pub(in crate::pipeline) fn request<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        up: ShardRequest,
    ) -> Result<(), Fatal> {
        let now = step.now;
        self.see_clock(common, now);
        common.arrivals.sent(up.shard());
        step.budget.spend_steps(1);
        match up {
            ShardRequest::Touched {
                shard,
                watermark,
                made,
                sessions,
            } => {
                // The clocks of two cores are read at different moments.
                let (watermark, made) = (watermark.min(now.tick), made.min(now.tick));
                self.touched(common, shard, watermark, made, &sessions);
                Ok(())
            }
            // Never behind waiting requests: those of the attachment that ended came before its
            // re-attach, so they are through, or after it, so they are stale.
            ShardRequest::Released {
                shard,
                session,
                generation,
            } => {
                self.released(common, shard, session, generation, now.tick);
                Ok(())
            }
            ShardRequest::NewSession { origin, .. } | ShardRequest::Reattach { origin, .. }
                if common.outcomes.is_full() =>
            {
                common.counters.given_up += 1;
                let close = Notice::Close(origin.conn);
                common.outcomes.turn_away(origin.shard, close);
                Ok(())
            }
            // All that came before it on its connection is answered: what waits here is of others.
            ShardRequest::Sync { origin, session } => {
                common.outcomes.owe();
                common.sync(origin, session);
                Ok(())
            }
            // It was told of nothing here.
            ShardRequest::Suspended { .. } => Ok(()),
            up => {
                common.outcomes.owe();
                let up = Wanted::Shard(up);
                if self.preparing.is_some() || !self.intake.is_empty() {
                    self.intake.push_back(up);
                    return Ok(());
                }
                self.take_in(common, step, up)
            }
        }
    }

    /// Orders the oldest request that has no place in the order, or keeps it until there is room: no
    /// request overtakes another.
    pub(super) fn take_in<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        up: Wanted,
    ) -> Result<(), Fatal> {
        let of_learner = match &up {
            Wanted::Shard(_) => None,
            Wanted::Learner(forwarded) => Some((forwarded.link, forwarded.bytes())),
            Wanted::Revalidate { link, .. } => Some((*link, 0)),
        };
        // Nobody waits for it any more.
        if of_learner.is_some_and(|(link, _)| !self.is_there(link)) {
            return Ok(());
        }
        match self.admit(common, step, up)? {
            Admitted::Done => {
                if let Some((link, bytes)) = of_learner {
                    self.learners.is_through(link, bytes);
                }
            }
            Admitted::Behind => {}
            Admitted::Wait(up) => {
                self.intake.push_front(up);
                self.waits_for_room = true;
            }
        }
        Ok(())
    }

    fn admit<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        up: Wanted,
    ) -> Result<Admitted, Fatal> {
        match up {
            Wanted::Learner(forwarded) if forwarded.opens().is_some() => {
                self.admit_opening(common, step, forwarded)
            }
            Wanted::Shard(ShardRequest::Write { .. }) | Wanted::Learner(_) => {
                self.admit_write(common, step, up)
            }
            Wanted::Shard(ShardRequest::NewSession {
                origin,
                timeout_ms,
                stamps,
            }) => match common.journal.room_for(Need::Reserve, size::ENTRY_FIXED) {
                Room::Wait => Ok(Admitted::Wait(up)),
                Room::Full => Ok(self.refuse(common, origin)),
                Room::Yes => self.new_session(common, step, origin, timeout_ms, stamps),
            },
            Wanted::Shard(ShardRequest::Reattach {
                origin,
                session,
                timeout_ms,
            }) => {
                if let Some(close) = self.closes.of(session) {
                    close.behind.push_back(up);
                    return Ok(Admitted::Behind);
                }
                let claim = Claim { origin, timeout_ms };
                self.reattach(common, claim, session, step.now.tick);
                Ok(Admitted::Done)
            }
            Wanted::Revalidate {
                link,
                session,
                timeout_ms,
            } => {
                if let Some(close) = self.closes.of(session) {
                    close.behind.push_back(up);
                    return Ok(Admitted::Behind);
                }
                self.revalidate_there(common, link, session, timeout_ms, step.now.tick);
                Ok(Admitted::Done)
            }
            Wanted::Shard(
                ShardRequest::Released { .. }
                | ShardRequest::Sync { .. }
                | ShardRequest::Touched { .. }
                | ShardRequest::Suspended { .. },
            ) => {
                unreachable!("these never wait")
            }
        }
    }

    fn admit_write<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        up: Wanted,
    ) -> Result<Admitted, Fatal> {
        let Some(write) = up.write() else {
            return self.admit_unreadable(common, step, up);
        };
        let (session, request) = (write.session, write.request);
        let standing = match write.asker {
            Asker::Shard(_, generation) => self.standing(common, session, generation),
            Asker::Learner(link) => self.standing_there(link, session),
        };
        let state = match (standing, write.asker) {
            (Standing::Stale, Asker::Shard(origin, _)) => {
                common.counters.stale += 1;
                self.say(common, vec![(origin.shard, Notice::Close(origin.conn))]);
                return Ok(Admitted::Done);
            }
            (Standing::Current, _) => SessionState::Live,
            (Standing::Closing | Standing::Unknown | Standing::Stale, _) => SessionState::Closing,
        };
        if let Some(close) = self.closes.of(session) {
            close.behind.push_back(up);
            return Ok(Admitted::Behind);
        }
        let mut bytes = size::entry_bytes_max(request, write.credentials);
        let is_close = matches!(request, WriteRequest::CloseSession);
        let failed = match standing {
            Standing::Current if bytes > self.config.entry_bytes_max => {
                Some(ErrorCode::MARSHALLING)
            }
            Standing::Current => None,
            Standing::Stale => Some(ErrorCode::SESSION_MOVED),
            // `prepare` knows no failing closeSession.
            _ if is_close || bytes > self.config.entry_bytes_max => {
                Some(ErrorCode::SESSION_EXPIRED)
            }
            _ => None,
        };
        if is_close && failed.is_none() {
            bytes = self.close_bytes(step.tree, session);
        }
        let asked = Asked::of(&write, state);
        let need = need(state, request);
        let is_full = need == Need::Growing
            && self.config.memory.is_full(step.tree)
            && memory::may_grow(step.tree, request);
        let room = match is_full {
            true => Room::Full,
            false => common.journal.room_for(need, bytes),
        };
        match (room, write.asker) {
            (Room::Wait, _) => return Ok(Admitted::Wait(up)),
            (Room::Full, Asker::Shard(origin, _)) => return Ok(self.refuse(common, origin)),
            (Room::Full, Asker::Learner(link)) => {
                return match self.refuse_there(common, link, &asked, step.now)? {
                    true => Ok(Admitted::Done),
                    false => Ok(Admitted::Wait(up)),
                };
            }
            (Room::Yes, _) => {}
        }
        if is_close && failed.is_none() {
            let origin = write.asker.origin();
            self.close(common, step, session, write.xid, origin, write.stamps)?;
            return Ok(Admitted::Done);
        }
        if failed.is_none()
            && let WriteRequest::Multi(ops) = request
        {
            let multi = self.overlay.begin_multi(ops.len());
            let half = Preparing {
                up,
                state,
                time: step.now.wall,
                multi,
            };
            self.go_on_preparing(common, step, half)?;
            return Ok(Admitted::Done);
        }
        match failed {
            Some(code) => order_error(common, &asked, code, step.now)?,
            None => self.order(common, step, asked)?,
        };
        Ok(Admitted::Done)
    }

    /// What a learner has passed on and can't be read takes a zxid all the same: somebody waits for it.
    fn admit_unreadable<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        up: Wanted,
    ) -> Result<Admitted, Fatal> {
        let Wanted::Learner(ref forwarded) = up else {
            unreachable!("shards read what they hand up");
        };
        let (link, code) = (forwarded.link, ErrorCode::MARSHALLING);
        let asked = Asked {
            session: forwarded.session,
            state: SessionState::Closing,
            xid: forwarded.number,
            request: &WriteRequest::Reconfig,
            credentials: &[],
            origin: None,
            generation: Generation(0),
            stamps: Stamps::default(),
        };
        match common.journal.room_for(Need::Reserve, size::ENTRY_FIXED) {
            Room::Wait => return Ok(Admitted::Wait(up)),
            Room::Full => drop(self.refuse_there(common, link, &asked, step.now)?),
            Room::Yes => drop(order_error(common, &asked, code, step.now)?),
        }
        Ok(Admitted::Done)
    }

    /// A learner's client wants a session, whose id the learner has made.
    fn admit_opening<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        forwarded: Forwarded,
    ) -> Result<Admitted, Fatal> {
        let timeout_ms = forwarded.opens().expect("the caller looked");
        let (link, session) = (forwarded.link, forwarded.session);
        match common.journal.room_for(Need::Reserve, size::ENTRY_FIXED) {
            Room::Wait => return Ok(Admitted::Wait(Wanted::Learner(forwarded))),
            Room::Full => {
                common.wishes.push_back(ForPeers::HangUp(link));
                self.gone(link, step.now);
            }
            Room::Yes => {
                let whose = (link, session, forwarded.number);
                self.open_there(common, step, whose, timeout_ms)?;
            }
        }
        Ok(Admitted::Done)
    }

    fn new_session<S: Storage>(
        &mut self,
        common: &mut Common<S>,
        step: &mut Step<'_>,
        origin: Origin,
        timeout_ms: i32,
        stamps: Stamps,
    ) -> Result<Admitted, Fatal> {
        let is_used = |id| self.sessions.is_known(id);
        let high_water = step.tree.session_high_water(common.ids.creator());
        let session = (common.ids).allocate(high_water, step.now.wall, is_used);
        let generation = self.open(common, session, origin, timeout_ms, step.now.tick);
        let asked = Asked {
            session,
            state: SessionState::Live,
            xid: Xid(0),
            request: &WriteRequest::CreateSession { timeout_ms },
            credentials: &[],
            origin: Some(origin),
            generation,
            stamps,
        };
        self.order(common, step, asked)?;
        Ok(Admitted::Done)
    }

    fn refuse<S: Storage>(&mut self, common: &mut Common<S>, origin: Origin) -> Admitted {
        common.counters.refused += 1;
        self.say(common, vec![(origin.shard, Notice::Refused(origin))]);
        Admitted::Done
    }
}

/// How a client's write counts when the disk is full. What a session that is closing asks for becomes an
/// error transaction.
fn need(state: SessionState, request: &WriteRequest) -> Need {
    match (state, request) {
        (SessionState::Closing, _) | (_, WriteRequest::Delete { .. }) => Need::Shrinking,
        (_, WriteRequest::CreateSession { .. } | WriteRequest::CloseSession) => Need::Reserve,
        _ => Need::Growing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::CreateRequest;
    use crate::types::OpCode;

    #[test]
    fn what_a_closing_session_asks_for_uses_the_reserve_as_a_delete_does() {
        use WriteRequest::{CloseSession, Create, CreateSession, Delete};
        let create = Create(CreateRequest {
            op: OpCode::CREATE,
            path: "/a".into(),
            data: None,
            acl: None,
            flags: 0,
            ttl_ms: 0,
        });
        let delete = Delete {
            path: "/a".into(),
            version: -1,
        };
        let timeout_ms = 5_000;
        for (request, live) in [
            (create, Need::Growing),
            (delete, Need::Shrinking),
            (CreateSession { timeout_ms }, Need::Reserve),
            (CloseSession, Need::Reserve),
        ] {
            assert_eq!(need(SessionState::Live, &request), live);
            assert_eq!(need(SessionState::Closing, &request), Need::Shrinking);
        }
    }
}
