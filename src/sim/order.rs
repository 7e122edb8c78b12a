//! How the truth takes the next transaction: `draft` says what its request had to become.

use super::draft::Draft;
use super::identity::Who;
use super::op::Op;
use super::quota;
use super::truth::{Effects, Trigger, Truth};
use crate::txn::{Entry, Txn, TxnHeader};
use crate::types::{OpCode, SessionId, Zxid};
use std::sync::Arc;

impl Truth {
    /// Takes the next transaction, or checks one that is known already.
    pub fn apply(&mut self, entry: &Arc<Entry>) -> Result<(), String> {
        let zxid = entry.header.zxid;
        if zxid <= self.last {
            return match self.entries.get(&zxid) {
                Some(known) if **known == **entry => Ok(()),
                Some(known) => Err(format!("{zxid} changed: was {known:?}, is {entry:?}")),
                None => Err(format!(
                    "{zxid} appeared before the last transaction {}",
                    self.last
                )),
            };
        }
        if zxid != self.last.next() {
            return Err(format!(
                "gap in the order: {} is followed by {zxid}",
                self.last
            ));
        }
        self.executes_once(entry)?;
        let effects = self.effects(entry);
        let effects =
            effects.map_err(|e| format!("{zxid} {:?} {:?}: {e}", entry.header, entry.txn))?;
        self.last = zxid;
        self.entries.insert(zxid, entry.clone());
        self.take(zxid, effects);
        Ok(())
    }

    /// A client sends a request.
    pub(super) fn asks(&mut self, session: SessionId, xid: i32, op: &Op, who: &Arc<Who>) {
        if op.is_write() {
            let request = (op.clone(), who.clone());
            self.requests.insert((session, xid), request);
        }
    }

    /// What a transaction does; it must be what its request had to become.
    fn effects(&mut self, entry: &Entry) -> Result<Effects, String> {
        let header = &entry.header;
        self.changes_sessions(header, &entry.txn)?;
        let mut draft = Draft::new(self, header);
        if header.cxid <= 0 {
            draft.own(entry)?;
        } else {
            let request = self.requests.get(&(header.session, header.cxid));
            let (op, who) = request.ok_or("nobody has asked for it")?;
            let due = draft.request(op, who, &entry.txn);
            if (due.0, &due.1) != (header.op, &entry.txn) {
                return Err(format!("{op:?} of {who:?} had to become {due:?}"));
            }
        }
        let effects = draft.effects;
        let is_ahead = header.session == SessionId::NONE && header.op == OpCode::MULTI;
        // Behind a start whoever was about to end lives on.
        if is_ahead
            && !self.is_replaying
            && let Txn::Multi(deletes) = &entry.txn
        {
            let whose = self.whose(deletes);
            self.ending.extend(whose);
        }
        let changes = !effects.nodes.is_empty() && header.op != OpCode::CLOSE_SESSION;
        match changes && self.ending.contains(&header.session) {
            true => Err("its session is about to end".into()),
            false => Ok(effects),
        }
    }

    /// Sessions that are made and that end.
    fn changes_sessions(&mut self, header: &TxnHeader, txn: &Txn) -> Result<(), String> {
        let (zxid, session) = (header.zxid, header.session);
        match txn {
            Txn::CreateSession { .. } if self.lost_sessions.contains(&session) => Err(format!(
                "session id {session} used again, a client knows it as its own"
            )),
            Txn::CreateSession { .. } => match self.sessions.insert(session, (zxid, None)) {
                None => Ok(()),
                Some(before) => Err(format!("session id {session} used again, first {before:?}")),
            },
            Txn::CloseSession { .. } if !self.lives(session) => {
                Err(format!("closeSession of {session}, which does not live"))
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, zxid: Zxid, effects: Effects) {
        let entry = &self.entries[&zxid];
        if let (Txn::CloseSession { .. }, session) = (&entry.txn, entry.header.session)
            && let Some((_, closed)) = self.sessions.get_mut(&session)
        {
            *closed = Some(zxid);
        }
        for (path, node) in effects.nodes {
            self.has_quotas |= quota::has_totals(&path);
            self.put(&path, zxid, node);
        }
        for change in &effects.changes {
            let of_kind = &mut self.triggers[change.kind as usize];
            let all = of_kind.entry(change.path.clone()).or_default();
            all.push(Trigger {
                zxid,
                event: change.event,
                acl: change.acl.clone(),
            });
        }
        if !effects.changes.is_empty() {
            self.noticed.insert(zxid, effects.changes);
        }
        self.results.insert(zxid, effects.results);
    }

    /// No request becomes two transactions: clients never use an xid again.
    fn executes_once(&mut self, entry: &Entry) -> Result<(), String> {
        let header = &entry.header;
        if header.cxid <= 0 {
            return Ok(());
        }
        match self
            .executed
            .insert((header.session, header.cxid), header.zxid)
        {
            None => Ok(()),
            Some(before) => Err(format!(
                "request {} of session {} was executed twice: {before} and {}",
                header.cxid, header.session, header.zxid
            )),
        }
    }
}

#[cfg(test)]
impl Truth {
    /// A client asks for this at a moment of the wall clock, and what it must become happens.
    pub(super) fn done(&mut self, time: i64, op: Op) {
        let (session, who) = (SessionId(1), Arc::new(Who::at("127.0.0.1")));
        self.sessions.entry(session).or_insert((Zxid::ZERO, None));
        let cxid = 1 + self.requests.len() as i32;
        self.asks(session, cxid, &op, &who);
        let mut header = TxnHeader {
            session,
            cxid,
            zxid: self.last.next(),
            time: crate::types::WallMs(time),
            op: op.code(),
        };
        let nothing = Txn::Multi(Vec::new());
        let (op, txn) = Draft::new(self, &header).request(&op, &who, &nothing);
        header.op = op;
        let entry = Entry {
            header,
            txn,
            digest: None,
        };
        self.apply(&Arc::new(entry)).expect("what it must become");
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::op::Kind;
    use crate::snapshot::loss::UNSEEN_MAX;
    use crate::txn::Acl;
    use crate::types::WallMs;

    fn create(truth: &mut Truth, time: i64, path: &str, kind: Kind) {
        let anyone = Acl {
            perms: Acl::ALL,
            scheme: "world".into(),
            id: "anyone".into(),
        };
        let create = Op::Create {
            path: path.into(),
            data: None,
            kind,
            sequential: false,
            acl: [anyone].into(),
            with_stat: false,
        };
        truth.done(time, create);
    }

    /// The server deletes a node by itself.
    fn reap(truth: &mut Truth, time: i64, path: &str) -> Result<(), String> {
        let header = TxnHeader {
            session: SessionId::NONE,
            cxid: 0,
            zxid: truth.last().next(),
            time: WallMs(time),
            op: OpCode::DELETE_CONTAINER,
        };
        let txn = Txn::Delete { path: path.into() };
        truth.apply(&Arc::new(Entry {
            header,
            txn,
            digest: None,
        }))
    }

    #[test]
    fn the_server_may_delete_what_is_due_and_nothing_else() {
        // When and to what it may be done by the server itself.
        for (time, path, is_due) in [
            (100, "/plain", false),
            (100, "/never-used", false),
            (100, "/used", true),
            (100, "/has-a-child", false),
            (100, "/ttl", false),
            (101, "/ttl", true),
            (100, "/renewed", false),
            (151, "/renewed", true),
            (1000, "/ttl-with-a-child", false),
            (1000, "/missing", false),
        ] {
            let mut truth = Truth::new(Zxid::ZERO);
            for (path, kind) in [
                ("/plain", Kind::Plain),
                ("/never-used", Kind::Container),
                ("/used", Kind::Container),
                ("/used/x", Kind::Plain),
                ("/has-a-child", Kind::Container),
                ("/has-a-child/x", Kind::Plain),
                ("/ttl", Kind::Ttl(100)),
                ("/renewed", Kind::Ttl(100)),
                ("/ttl-with-a-child", Kind::Ttl(100)),
                ("/ttl-with-a-child/x", Kind::Plain),
            ] {
                create(&mut truth, 0, path, kind);
            }
            let delete = Op::Delete {
                path: "/used/x".into(),
                version: -1,
            };
            truth.done(10, delete);
            let set = Op::SetData {
                path: "/renewed".into(),
                data: None,
                version: 0,
            };
            truth.done(50, set);
            let left = truth.goes_at_last().map(|(path, _)| &**path);
            assert_eq!(left.collect::<Vec<_>>(), ["/renewed", "/ttl", "/used"]);
            let done = reap(&mut truth, time, path);
            assert_eq!(done.is_ok(), is_due, "{path} at {time}: {done:?}");
        }
    }

    #[test]
    fn a_container_that_was_never_used_is_due_when_it_is_old_enough() {
        for (never_used_ms, time, is_due) in [(0, 1000, false), (50, 50, false), (50, 51, true)] {
            let mut truth = Truth::new(Zxid::ZERO);
            truth.never_used_ms = never_used_ms;
            create(&mut truth, 0, "/c", Kind::Container);
            let done = reap(&mut truth, time, "/c");
            assert_eq!(done.is_ok(), is_due, "{done:?}");
        }
    }

    #[test]
    fn a_transaction_that_is_not_what_its_request_had_to_become_is_a_violation() {
        let (session, who) = (SessionId(1), Arc::new(Who::at("127.0.0.1")));
        let set = Op::SetData {
            path: "/a".into(),
            data: None,
            version: -1,
        };
        let entry = |cxid, version| Entry {
            header: TxnHeader {
                session,
                cxid,
                zxid: Zxid(2),
                time: WallMs(5),
                op: OpCode::SET_DATA,
            },
            txn: Txn::SetData {
                path: "/a".into(),
                data: None,
                version,
            },
            digest: None,
        };
        for (cxid, version, is_right) in [(7, 1, true), (7, 2, false), (8, 1, false)] {
            let mut truth = Truth::new(Zxid::ZERO);
            create(&mut truth, 0, "/a", Kind::Plain);
            truth.asks(session, 7, &set, &who);
            let done = truth.apply(&Arc::new(entry(cxid, version)));
            assert_eq!(done.is_ok(), is_right, "{done:?}");
        }
    }

    const MADE: i64 = 1_790_000_000_000;
    /// What [`UNSEEN_MAX`] ids are of the clock, ms.
    const UNSEEN_MS: i64 = UNSEEN_MAX >> 16;

    fn id(wall: i64) -> SessionId {
        SessionId::of(SessionId::STANDALONE, SessionId::number_at(WallMs(wall)))
    }

    fn make(truth: &mut Truth, session: SessionId) -> Result<(), String> {
        let header = TxnHeader {
            session,
            cxid: 0,
            zxid: truth.last().next(),
            time: WallMs(MADE),
            op: OpCode::CREATE_SESSION,
        };
        truth.apply(&Arc::new(Entry {
            header,
            txn: Txn::CreateSession { timeout_ms: 1_000 },
            digest: None,
        }))
    }

    /// Whether the id of a session that was lost at `MADE` may be given again, where the session that stays was
    /// made at `stays`, and the loss accepted at `accepted`.
    fn may_come_again(stays: i64, accepted: i64) -> bool {
        let mut truth = Truth::new(Zxid::ZERO);
        make(&mut truth, id(stays)).unwrap();
        let kept = truth.last();
        make(&mut truth, id(MADE)).unwrap();
        truth.gives_up(kept, Zxid::new(1, 0), WallMs(accepted));
        make(&mut truth, id(MADE)).is_ok()
    }

    #[test]
    fn a_lost_session_id_comes_again_only_where_the_clock_was_set_back_too_far_to_be_seen() {
        let back = MADE - UNSEEN_MS;
        assert!(!may_come_again(MADE - 9_000, MADE + 1_000));
        assert!(!may_come_again(MADE - 9_000, back));
        assert!(!may_come_again(back, MADE - 40_000));
        assert!(may_come_again(back - 1, back - 1));
    }

    #[test]
    fn what_an_accepted_loss_has_spent_stays_spent_at_the_next_one() {
        let mut truth = Truth::new(Zxid::ZERO);
        truth.gives_up(Zxid::ZERO, Zxid::new(1, 0), WallMs(MADE));
        make(&mut truth, id(MADE + 2 * UNSEEN_MS)).unwrap();
        truth.gives_up(Zxid::new(1, 0), Zxid::new(2, 0), WallMs(MADE - 40_000));
        assert!(make(&mut truth, id(MADE + 2 * UNSEEN_MS)).is_err());
    }
}
