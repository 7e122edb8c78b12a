//! Requests that are made at a member that follows: at that member, and at its leader.

use super::roles::member;
use super::*;
use crate::pipeline::learning::UNDER_WAY_BYTES_MAX;
use crate::pipeline::ordering::UNORDERED_BYTES_MAX;
use crate::zab::LinkId;

const LINK: LinkId = LinkId(7);
const OTHER: LinkId = LinkId(8);

fn closes() -> WriteRequest {
    WriteRequest::CloseSession
}

impl World {
    /// A follower, to whose leader nothing was passed on yet; so much may be under way.
    fn following(passed_on_max: usize) -> World {
        let config = PipelineConfig {
            passed_on_max,
            ..config()
        };
        let mut w = member(&SimStorage::new(64 << 20), Tree::new(), config);
        w.settle();
        w.adopt(1, Zxid::ZERO, &[]);
        w.pipeline.learn(&w.tree);
        w
    }

    /// A leader of nobody yet.
    fn leading() -> World {
        let mut w = member(&SimStorage::new(64 << 20), Tree::new(), config());
        w.settle();
        w.lead(1);
        w
    }

    fn wishes(&mut self) -> Vec<ForPeers> {
        std::iter::from_fn(|| self.pipeline.poll_wish()).collect()
    }

    /// The session and number of the one request that is passed on.
    fn passed_on(&mut self) -> (SessionId, Xid) {
        let wishes = self.wishes();
        let [
            ForPeers::Request {
                session, number, ..
            },
        ] = wishes[..]
        else {
            panic!("{wishes:?}");
        };
        (session, number)
    }

    /// The leader has ordered this, and it is committed.
    fn ordered(&mut self, session: SessionId, number: Xid, txn: Txn) {
        self.accepted_entry(session, number, txn);
        self.commit(self.pipeline.cursors().prepared);
    }

    fn accepted_entry(&mut self, session: SessionId, number: Xid, txn: Txn) {
        let prepared = self.pipeline.cursors().prepared;
        let zxid = match prepared.epoch() {
            1 => prepared.next(),
            _ => Zxid::new(1, 1),
        };
        let op = match txn {
            Txn::CreateSession { .. } => OpCode::CREATE_SESSION,
            Txn::CloseSession { .. } => OpCode::CLOSE_SESSION,
            _ => OpCode::ERROR,
        };
        let header = TxnHeader {
            session,
            cxid: number.0,
            zxid,
            time: WallMs(1),
            op,
        };
        let digest = None;
        let entry = Entry {
            header,
            txn,
            digest,
        };
        self.pipeline
            .accept(zxid, &entry.encode(), self.now)
            .unwrap();
    }

    fn errs(&mut self, session: SessionId, number: Xid, code: ErrorCode) {
        self.ordered(session, number, Txn::Error { code });
    }

    fn answered(&mut self, session: SessionId, is_valid: bool) {
        let answer = FromPeers::Revalidated { session, is_valid };
        self.pipeline.answered(answer, self.now);
        self.pump();
    }

    /// A session of connection `slot` of a follower.
    fn session_there(&mut self, slot: u32, timeout_ms: i32) -> SessionId {
        self.connect(S0, slot, timeout_ms);
        let (session, number) = self.passed_on();
        self.ordered(session, number, Txn::CreateSession { timeout_ms });
        self.take();
        session
    }

    fn balanced(&self) {
        assert_eq!(self.pipeline.counted(), self.pipeline.recounted());
    }

    /// A learner passes this on.
    fn forward(
        &mut self,
        link: LinkId,
        session: SessionId,
        number: i32,
        request: Option<WriteRequest>,
    ) {
        let forwarded = Forwarded {
            link,
            session,
            number: Xid(number),
            request,
            credentials: Arc::from([]),
        };
        self.pipeline.forwarded(forwarded, self.now);
        self.pump();
    }

    /// What was ordered since, and is committed by this: number and what became of it.
    fn orders(&mut self) -> Vec<String> {
        let proposals = self.proposals();
        let words = proposals.iter().map(|proposal| {
            let entry = Entry::decode(&proposal.entry).unwrap();
            let what = match entry.txn {
                Txn::Error { code } => format!("{code:?}"),
                _ => entry.header.op.name().unwrap().to_owned(),
            };
            format!("{} {what}", entry.header.cxid)
        });
        let words = words.collect();
        if let Some(last) = proposals.last() {
            self.settle();
            self.commit(last.zxid);
            self.take();
        }
        words
    }

    fn opened_there(&mut self, link: LinkId, n: i64, timeout_ms: i32) -> SessionId {
        let session = SessionId::of(9, n);
        self.forward(
            link,
            session,
            77,
            Some(WriteRequest::CreateSession { timeout_ms }),
        );
        assert_eq!(self.orders(), ["77 createSession"]);
        session
    }

    fn pinged(&mut self, link: LinkId, asked: u64, sessions: &[SessionId]) {
        let sessions = sessions.iter().copied();
        self.pipeline
            .touched_there(link, Tick(asked), sessions, self.now);
    }
}

// At the member that follows.

#[test]
fn an_outcome_is_known_by_the_members_own_number_and_not_by_a_clients() {
    let mut w = World::following(10);
    let s = w.session_there(1, 10_000);
    assert_eq!(s.creator(), config().creator);
    w.write(1, s, create("/a", false, 1));
    let (session, number) = w.passed_on();
    assert_eq!(session, s);
    assert_ne!(number, Xid(1), "the client's");
    // Of the client's number, of another session with that number, of another member's for the session.
    w.errs(s, Xid(1), ErrorCode::NO_NODE);
    w.errs(SessionId(5), number, ErrorCode::NO_NODE);
    w.errs(s, Xid(number.0 ^ 1 << 24), ErrorCode::NO_NODE);
    let said = w.take();
    assert!(
        said.iter().all(|said| said.ends_with("to nobody")),
        "{said:?}"
    );
    assert_eq!(w.pipeline.outstanding(), 1);
    w.errs(s, number, ErrorCode::NODE_EXISTS);
    assert!(w.take()[0].ends_with("to 1.1"));
    assert_eq!(w.pipeline.outstanding(), 0);
    // Once.
    w.errs(s, number, ErrorCode::NODE_EXISTS);
    assert!(w.take()[0].ends_with("to nobody"));
    w.balanced();
}

#[test]
fn what_a_follower_has_passed_on_is_bounded_and_the_rest_waits_in_order() {
    let mut w = World::following(2);
    let s = w.session_there(1, 10_000);
    for n in 0..4 {
        w.write(1, s, create(&format!("/{n}"), false, 1));
    }
    let numbers: Vec<Xid> = w.wishes().iter().map(number_of).collect();
    assert_eq!((numbers.len(), w.pipeline.waiting()), (2, 2));
    assert!(!w.pipeline.has_work());
    w.balanced();
    w.errs(s, numbers[0], ErrorCode::NO_NODE);
    assert_eq!((w.wishes().len(), w.pipeline.waiting()), (1, 1));
    w.errs(s, numbers[1], ErrorCode::NO_NODE);
    assert_eq!((w.wishes().len(), w.pipeline.waiting()), (1, 0));
    w.balanced();
    // In bytes too.
    let mut w = World::following(100);
    let s = w.session_there(1, 10_000);
    for n in 0..6 {
        w.write(
            1,
            s,
            create(&format!("/{n}"), false, UNDER_WAY_BYTES_MAX / 4),
        );
    }
    assert_eq!(w.wishes().len(), 4);
    w.balanced();
}

fn number_of(wish: &ForPeers) -> Xid {
    match wish {
        ForPeers::Request { number, .. } => *number,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_that_the_leader_refuses_and_one_that_another_member_has_close_their_connection() {
    let mut w = World::following(10);
    w.connect(S0, 1, 10_000);
    let (session, number) = w.passed_on();
    w.errs(session, number, ErrorCode::SESSION_EXPIRED);
    assert_eq!(w.take()[1], "s0: close 1");
    let s = w.session_there(2, 10_000);
    w.write(2, s, create("/a", false, 1));
    let (_, number) = w.passed_on();
    w.errs(s, number, ErrorCode::SESSION_MOVED);
    assert_eq!(w.take()[1], "s0: close 2");
    assert_eq!(w.pipeline.outstanding(), 0);
    w.balanced();
}

#[test]
fn who_presents_a_session_is_let_in_by_the_leader_behind_what_it_has_committed() {
    let mut w = World::following(10);
    let s = SessionId::of(2, 5);
    let timeout_ms = 9000;
    w.reattach(S0, 1, s, timeout_ms);
    let session = s;
    let asked = ForPeers::Revalidate {
        session,
        timeout_ms,
    };
    assert_eq!(w.wishes(), [asked]);
    // Its createSession has come and is not committed: the answer stands behind the commit.
    w.accepted_entry(s, Xid(0), Txn::CreateSession { timeout_ms });
    assert!(w.take().is_empty());
    w.commit(Zxid::new(1, 1));
    w.answered(s, true);
    let said = w.take();
    assert!(
        said[1].starts_with("s0: attached 1 generation 1 9000 ms"),
        "{said:?}"
    );
    w.balanced();
    // Again at this member: the old connection goes first, and then the leader is asked.
    w.reattach(S0, 2, s, timeout_ms);
    assert_eq!(
        (w.take(), w.wishes().len()),
        (vec!["s0: detach 1".into()], 0)
    );
    w.released(S0, s, 1);
    assert_eq!(w.wishes().len(), 1);
    w.balanced();
    // A newer one: only the last answer counts, and it is the newest's.
    w.reattach(S0, 3, s, timeout_ms);
    assert_eq!(
        (w.take(), w.wishes().len()),
        (vec!["s0: close 2".into()], 1)
    );
    w.answered(s, true);
    assert!(w.take().is_empty());
    w.answered(s, true);
    assert!(w.take()[0].starts_with("s0: attached 3"));
    // What the old attachments ask for goes nowhere.
    w.write_as(1, 1, s, create("/a", false, 1));
    assert_eq!(
        (w.take(), w.wishes().len()),
        (vec!["s0: close 1".into()], 0)
    );
    w.balanced();
}

#[test]
fn a_session_that_was_told_of_before_the_role_and_is_applied_later_is_known() {
    let mut w = World::following(10);
    w.pipeline.end_role();
    let (s, timeout_ms) = (SessionId::of(2, 5), 9000);
    w.accepted_entry(s, Xid(0), Txn::CreateSession { timeout_ms });
    let end = LogEnd {
        position: Default::default(),
        zxid: Zxid::new(1, 1),
    };
    let decided = Decided::alone(&Durable::played(end));
    w.pipeline.commit(&decided, w.now);
    w.pipeline.learn(&w.tree);
    w.pump();
    w.suspended(S0);
    w.take();
    w.reattach(S0, 1, s, timeout_ms);
    w.answered(s, true);
    assert!(w.take()[0].starts_with("s0: attached 1"));
}

#[test]
fn a_session_that_is_not_valid_or_has_closed_since_is_dead() {
    let mut w = World::following(10);
    let (s, t) = (SessionId::of(2, 5), w.session_there(1, 10_000));
    w.reattach(S0, 2, s, 9000);
    w.answered(s, false);
    assert_eq!(w.take(), ["s0: dead 2"]);
    w.reattach(S0, 3, t, 9000);
    w.released(S0, t, 1);
    w.take();
    let paths = Some(Vec::new());
    w.ordered(t, Xid(0), Txn::CloseSession { paths });
    assert_eq!(w.take()[1], "s0: dead 3");
    w.answered(t, true);
    assert!(w.take().is_empty());
    assert_eq!(w.pipeline.outstanding(), 0);
    w.balanced();
}

#[test]
fn who_waits_for_the_leaders_word_does_so_for_its_timeout() {
    let mut w = World::following(10);
    w.reattach(S0, 1, SessionId(5), 3000);
    w.tick(2999);
    assert!(w.take().is_empty());
    w.tick(3000);
    assert_eq!(w.take(), ["s0: close 1"]);
    // The answer that comes after all is not the next one's.
    w.reattach(S0, 2, SessionId(5), 3000);
    w.answered(SessionId(5), false);
    assert!(w.take().is_empty());
    w.answered(SessionId(5), false);
    assert_eq!(w.take(), ["s0: dead 2"]);
    w.balanced();
}

#[test]
fn a_sync_is_answered_when_what_is_committed_was_told() {
    let mut w = World::following(10);
    let session = w.session_there(1, 10_000);
    let origin = w.origin(S0, 1, 5);
    w.up(ShardRequest::Sync { origin, session });
    let wishes = w.wishes();
    let [ForPeers::Sync { id, .. }] = wishes[..] else {
        panic!("{wishes:?}");
    };
    w.balanced();
    w.pipeline.answered(FromPeers::Synced(id), w.now);
    w.pump();
    assert_eq!(w.take(), ["s0: synced 1.5"]);
    w.balanced();
}

#[test]
fn what_is_under_way_when_the_role_ends_has_no_outcome() {
    let mut w = World::following(1);
    let s = w.session_there(1, 10_000);
    w.write(1, s, create("/a", false, 1));
    w.write(1, s, create("/b", false, 1));
    let (_, number) = w.passed_on();
    w.reattach(S0, 2, SessionId(5), 3000);
    let origin = w.origin(S0, 1, 5);
    w.up(ShardRequest::Sync { origin, session: s });
    // The transaction has come: a later role may find it committed.
    let code = ErrorCode::NO_NODE;
    w.accepted_entry(s, number, Txn::Error { code });
    w.pipeline.end_role();
    w.pump();
    assert_eq!(w.take(), ["s0: suspend"]);
    assert_eq!((w.pipeline.outstanding(), w.wishes().len()), (0, 0));
    w.commit(w.pipeline.cursors().prepared);
    assert!(w.take()[0].ends_with("to nobody"));
    let answer = FromPeers::Revalidated {
        session: SessionId(5),
        is_valid: true,
    };
    w.pipeline.answered(answer, w.now);
    assert!(w.take().is_empty());
}

#[test]
fn the_answer_to_a_ping_names_who_was_heard_of_and_whom_a_shard_may_have_heard_that_is_held_still()
{
    let mut w = World::following(10);
    let (s, t) = (w.session_there(1, 9000), w.session_there(2, 8000));
    let names = |w: &mut World| {
        w.pipeline.is_asked(w.now);
        let heard = std::iter::from_fn(|| w.pipeline.poll_heard());
        heard.collect::<Vec<_>>()
    };
    w.tick(500);
    let all = [(s, 9000), (t, 8000)];
    assert_eq!(names(&mut w), all, "each once");
    w.tick(1000);
    w.touched(S0, 1000, &[t]);
    assert_eq!(names(&mut w), [(t, 8000)]);
    w.tick(2000);
    assert_eq!(names(&mut w), [], "it has reported");
    w.tick(2001);
    assert_eq!(names(&mut w), all, "and not for a tickTime");
    // Of others nothing is known here.
    w.touched(S0, 2001, &[SessionId(5)]);
    assert_eq!(names(&mut w), []);
}

// At the leader.

#[test]
fn what_a_learner_passes_on_is_ordered_for_the_sessions_that_it_has_and_for_no_other() {
    let mut w = World::leading();
    let s = w.opened_there(LINK, 1, 10_000);
    w.forward(LINK, s, 1, Some(create("/a", false, 1)));
    // Another one's, one that is not known, one that can't be read, and a session that is there already.
    w.forward(OTHER, s, 2, Some(create("/b", false, 1)));
    w.forward(LINK, SessionId(5), 3, Some(create("/c", false, 1)));
    w.forward(LINK, s, 4, None);
    let opens = Some(WriteRequest::CreateSession { timeout_ms: 1 });
    w.forward(LINK, s, 5, opens.clone());
    w.forward(LINK, SessionId::NONE, 6, opens);
    w.forward(LINK, s, 7, Some(closes()));
    w.forward(LINK, s, 8, Some(create("/d", false, 1)));
    assert_eq!(
        w.orders(),
        [
            "1 create",
            "2 SESSIONMOVED(-118)",
            "3 SESSIONEXPIRED(-112)",
            "4 MARSHALLINGERROR(-5)",
            "5 SESSIONEXPIRED(-112)",
            "6 SESSIONEXPIRED(-112)",
            "7 closeSession",
            "8 SESSIONEXPIRED(-112)",
        ]
    );
    assert_eq!(w.pipeline.unordered_bytes(), 0);
    w.balanced();
}

#[test]
fn a_session_belongs_to_one_member_at_a_time_and_a_touch_makes_no_owner() {
    let mut w = World::leading();
    w.connect(S0, 1, 10_000);
    assert_eq!(w.orders(), ["0 createSession"]);
    let s = *w.sessions.last().unwrap();
    // The client has gone to a learner, behind a write of its.
    w.write(1, s, create("/a", false, 1));
    w.pipeline.revalidate(LINK, s, 7000, w.now);
    w.write(1, s, create("/b", false, 1));
    w.pump();
    let is_valid = true;
    let valid = |link| ForPeers::Revalidated {
        link,
        session: s,
        is_valid,
    };
    assert_eq!(w.wishes(), [valid(LINK)]);
    assert_eq!(w.proposals().len(), 1, "what comes late is refused");
    w.settle();
    w.commit(w.pipeline.cursors().prepared);
    assert_eq!(w.take()[1..], ["s0: detach 1", "s0: close 1"]);
    // The connection that is gone has nothing to give.
    w.released(S0, s, 1);
    w.forward(LINK, s, 1, Some(create("/c", false, 1)));
    // On to the next; the one before is heard, and asks in vain.
    w.pipeline.revalidate(OTHER, s, 7000, w.now);
    w.pump();
    assert_eq!(w.wishes(), [valid(OTHER)]);
    w.pinged(LINK, 0, &[s]);
    w.forward(LINK, s, 2, Some(create("/d", false, 1)));
    w.forward(OTHER, s, 3, Some(create("/e", false, 1)));
    assert_eq!(w.orders(), ["1 create", "2 SESSIONMOVED(-118)", "3 create"]);
    // Home again.
    w.reattach(S0, 2, s, 10_000);
    assert!(w.take()[0].starts_with("s0: attached 2 generation 3"));
    w.forward(OTHER, s, 4, Some(create("/f", false, 1)));
    assert_eq!(w.orders(), ["4 SESSIONMOVED(-118)"]);
    w.pipeline.revalidate(LINK, SessionId(5), 7000, w.now);
    w.pump();
    let dead = ForPeers::Revalidated {
        link: LINK,
        session: SessionId(5),
        is_valid: false,
    };
    assert_eq!(w.wishes(), [dead]);
    w.balanced();
}

#[test]
fn when_a_learner_is_gone_what_it_has_passed_on_is_nobodys() {
    let mut w = World::leading();
    let s = w.opened_there(LINK, 1, 10_000);
    w.pipeline.hold(true);
    w.forward(LINK, s, 1, Some(create("/a", false, 1)));
    w.pipeline.revalidate(LINK, s, 10_000, w.now);
    assert!(w.pipeline.unordered_bytes() > 0);
    w.pipeline.link_closed(LINK, w.now);
    w.pipeline.hold(false);
    w.pump();
    assert_eq!((w.proposals().len(), w.wishes().len()), (0, 0));
    // Who comes again with another connection presents its sessions again.
    w.forward(OTHER, s, 2, Some(create("/a", false, 1)));
    assert_eq!(w.orders(), ["2 SESSIONMOVED(-118)"]);
    w.balanced();
}

#[test]
fn a_learner_that_passes_on_more_than_there_is_room_for_loses_its_connection() {
    let mut w = World::leading();
    let s = w.opened_there(LINK, 1, 10_000);
    let t = w.opened_there(OTHER, 2, 10_000);
    w.pipeline.hold(true);
    w.forward(OTHER, t, 1, Some(create("/b", false, 1)));
    let one = 1 << 20;
    for n in 0..UNORDERED_BYTES_MAX / one {
        assert_eq!(w.wishes(), []);
        w.forward(LINK, s, n as i32, Some(create("/a", false, one)));
        assert!(w.pipeline.unordered_bytes() <= UNORDERED_BYTES_MAX + 2 * one);
    }
    assert_eq!(w.wishes(), [ForPeers::HangUp(LINK)]);
    w.pipeline.hold(false);
    w.pump();
    assert_eq!(w.orders(), ["1 create"], "the other one's");
}

#[test]
fn a_learners_session_expires_when_a_ping_a_tick_time_behind_its_deadline_has_named_others() {
    let mut w = World::leading();
    let (s, t) = (w.opened_there(LINK, 1, 3000), w.opened_there(LINK, 2, 3000));
    w.tick(500);
    w.pinged(LINK, 400, &[s, t]);
    // Whatever the clock says.
    for tick in [4000, 8000] {
        w.tick(tick);
        assert_eq!(w.orders(), [""; 0]);
    }
    let deadline = w.pipeline.deadline(s).unwrap().0;
    w.pinged(LINK, deadline + TICK_TIME - 1, &[t]);
    w.tick(8100);
    assert_eq!(
        w.orders(),
        [""; 0],
        "the learner may not have known by then"
    );
    w.pinged(LINK, deadline + TICK_TIME, &[]);
    w.tick(8200);
    assert_eq!(w.orders(), ["0 closeSession"]);
    assert!(w.pipeline.deadline(t).is_some());
    // With its connection nobody has it any more: it has its timeout to come again.
    w.pipeline.link_closed(LINK, w.now);
    w.tick(8200 + 2500);
    for _ in 0..3 {
        w.accepted();
        w.tick(w.now.tick.0 + 10);
        w.touched(S0, w.now.tick.0, &[]);
    }
    assert_eq!(w.orders(), [""; 0]);
    w.tick(8200 + 5000);
    for _ in 0..3 {
        w.accepted();
        w.tick(w.now.tick.0 + 10);
        w.touched(S0, w.now.tick.0, &[]);
    }
    w.tick(w.now.tick.0 + 10);
    assert_eq!(w.orders(), ["0 closeSession"]);
    w.balanced();
}
