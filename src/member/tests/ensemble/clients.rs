//! Clients at all members, as their shards would serve them, and what each may be told.
//!
//! | Checked | When |
//! |---|---|
//! | an outcome is of the oldest request of its connection that has none, and of what that asked for | it comes |
//! | a member that lets a client in has applied all that the client has seen | it does |
//! | a sync is behind all that anybody had been acknowledged before it was asked for | it is answered |
//! | what was asked for on an older connection executes before the client is let in on a newer one, or never | at the end |
//! | a client's requests execute in their order, each once | at the end |
//! | what was acknowledged is there; ephemerals, as long as their session is | at the end, in all trees |

use super::super::*;
use crate::messages::{Committed, Notice};
use crate::txn::{AuthId, CreateRequest, RawAcl, Txn, WriteRequest};
use crate::types::{ErrorCode, OpCode, ServerId, SessionId, Zxid};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Requests of a client without an outcome.
const ASKED_MAX: usize = 5;
/// A client that is not let in for so long tries another member, ms.
const PATIENCE_MS: u64 = 400;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Create {
        n: u64,
        ephemeral: bool,
    },
    Multi {
        n: u64,
    },
    Close,
    /// Behind this.
    Sync(Zxid),
}

#[derive(Debug)]
pub struct At {
    pub sid: ServerId,
    pub slot: u32,
    pub attached: Option<Generation>,
    since: Tick,
    sequence: u64,
    asked: VecDeque<(u64, What)>,
}

#[derive(Debug)]
struct Acked {
    n: u64,
    zxid: Zxid,
    /// Of an ephemeral.
    session: Option<SessionId>,
}

#[derive(Debug)]
pub struct Client {
    pub session: Option<SessionId>,
    pub timeout_ms: i32,
    seen: Zxid,
    pub at: Option<At>,
    n: u64,
    acked: Vec<Acked>,
    /// It says nothing more.
    pub is_silent: bool,
}

/// All of them, and what is known of what they did.
#[derive(Debug, Default)]
pub struct Clients {
    pub all: Vec<Client>,
    /// Which request of which client each transaction is.
    executed: BTreeMap<Zxid, (usize, u64)>,
    /// Let in behind this: nothing executes behind it that was asked for before this request.
    floors: Vec<(usize, Zxid, u64)>,
    acknowledged: Zxid,
    slots: u32,
    pub counts: Counts,
}

#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub acked: usize,
    pub acked_at_followers: usize,
    pub opened: usize,
    pub moved: usize,
    pub dead: usize,
    pub synced: usize,
    pub closed: usize,
    pub failed: usize,
    pub lost: usize,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.acked += other.acked;
        self.acked_at_followers += other.acked_at_followers;
        self.opened += other.opened;
        self.moved += other.moved;
        self.dead += other.dead;
        self.synced += other.synced;
        self.closed += other.closed;
        self.failed += other.failed;
        self.lost += other.lost;
    }
}

fn path_of(client: usize, n: u64) -> String {
    format!("/c{client}-{n}-")
}

/// Whose request a created node is of.
fn request_of(path: &str) -> Option<(usize, u64)> {
    let (client, rest) = path.strip_prefix("/c")?.split_once('-')?;
    let (n, _) = rest.split_once('-')?;
    Some((client.parse().ok()?, n.parse().ok()?))
}

fn created_by(txn: &Txn) -> Option<(usize, u64)> {
    match txn {
        Txn::Create(create) => request_of(&create.path),
        Txn::Multi(ops) => ops.first().and_then(|(_, op)| created_by(op)),
        _ => None,
    }
}

fn create(path: String, flags: i32, bytes: usize) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op: OpCode::CREATE,
        path: path.into(),
        data: Some(vec![7; bytes].into()),
        acl: Some(vec![RawAcl {
            perms: 31,
            scheme: Some("world".into()),
            id: Some("anyone".into()),
        }]),
        flags,
        ttl_ms: 0,
    })
}

impl Clients {
    pub fn add(&mut self, timeout_ms: i32) -> usize {
        self.all.push(Client {
            session: None,
            timeout_ms,
            seen: Zxid::ZERO,
            at: None,
            n: 0,
            acked: Vec::new(),
            is_silent: false,
        });
        self.all.len() - 1
    }

    /// The client of a connection.
    fn on(&mut self, sid: ServerId, slot: u32) -> Option<(usize, &mut Client)> {
        let is_it = |at: &At| at.sid == sid && at.slot == slot;
        let mut all = self.all.iter_mut().enumerate();
        all.find(|(_, client)| client.at.as_ref().is_some_and(is_it))
    }

    /// A connection ends: whatever has no outcome has none for its client.
    fn end(&mut self, sid: ServerId, slot: u32) {
        if let Some((_, client)) = self.on(sid, slot) {
            let at = client.at.take().unwrap();
            self.counts.lost += at.asked.len();
        }
    }

    /// All connections to a member end.
    pub fn end_all(&mut self, sid: ServerId) {
        for client in &mut self.all {
            if let Some(at) = client.at.take_if(|at| at.sid == sid) {
                self.counts.lost += at.asked.len();
            }
        }
    }

    /// Comes to a member whose newest state is `last`. What it asks for.
    pub fn connect(
        &mut self,
        id: usize,
        sid: ServerId,
        last: Zxid,
        now: Tick,
    ) -> Option<ShardRequest> {
        let client = &mut self.all[id];
        // Who has seen more is closed without a reply.
        if client.seen > last {
            return None;
        }
        self.slots += 1;
        client.at = Some(At {
            sid,
            slot: self.slots,
            attached: None,
            since: now,
            sequence: 0,
            asked: VecDeque::new(),
        });
        let origin = origin(self.slots, 0);
        let timeout_ms = client.timeout_ms;
        Some(match client.session {
            Some(session) => ShardRequest::Reattach {
                origin,
                session,
                timeout_ms,
            },
            None => ShardRequest::NewSession {
                origin,
                timeout_ms,
                stamps: Stamps::default(),
            },
        })
    }

    /// It goes away, if it is there, without a word.
    pub fn leave(&mut self, id: usize) {
        if let Some(At { sid, slot, .. }) = self.all[id].at {
            self.end(sid, slot);
        }
    }

    pub fn is_let_in(&self, id: usize) -> bool {
        let at = self.all[id].at.as_ref();
        at.is_some_and(|at| at.attached.is_some())
    }

    pub fn is_idle(&self, id: usize) -> bool {
        let at = self.all[id].at.as_ref();
        at.is_some_and(|at| at.attached.is_some() && at.asked.is_empty())
    }

    pub fn has_waited_too_long(&self, id: usize, now: Tick) -> bool {
        let at = self.all[id].at.as_ref();
        at.is_some_and(|at| at.attached.is_none() && now >= at.since.after(PATIENCE_MS))
    }

    /// The request, where its connection takes one more.
    pub fn ask(
        &mut self,
        id: usize,
        what: impl FnOnce(u64) -> What,
        bytes: usize,
    ) -> Option<(ServerId, ShardRequest)> {
        let acknowledged = self.acknowledged;
        let client = &mut self.all[id];
        let session = client.session?;
        let at = client.at.as_mut()?;
        let generation = at.attached?;
        let is_barred = |(_, what): &(u64, What)| matches!(what, What::Close | What::Sync(_));
        if at.asked.len() >= ASKED_MAX || at.asked.iter().any(is_barred) {
            return None;
        }
        let mut what = what(client.n + 1);
        let is_first = at.asked.is_empty();
        at.sequence += 1;
        let origin = origin(at.slot, at.sequence);
        let request = match what {
            What::Create { n, ephemeral } => {
                client.n = n;
                create(path_of(id, n), 2 + i32::from(ephemeral), bytes)
            }
            What::Multi { n } => {
                client.n = n;
                let one = create(path_of(id, n), 2, bytes);
                let other = create(format!("/d{id}-{n}"), 0, 1);
                WriteRequest::Multi(vec![one, other])
            }
            What::Close => WriteRequest::CloseSession,
            What::Sync(_) => {
                // A shard asks when it is at the head.
                if !is_first {
                    at.sequence -= 1;
                    return None;
                }
                what = What::Sync(acknowledged);
                at.asked.push_back((at.sequence, what));
                return Some((at.sid, ShardRequest::Sync { origin, session }));
            }
        };
        at.asked.push_back((at.sequence, what));
        let up = ShardRequest::Write {
            origin,
            session,
            generation,
            // All clients use the same ones, again and again.
            xid: Xid(at.sequence as i32 % 3),
            request,
            credentials: Arc::from([AuthId {
                scheme: "ip".into(),
                id: "10.0.0.1".into(),
            }]),
            stamps: Stamps::default(),
        };
        Some((at.sid, up))
    }

    /// Sessions of a member that say that they are there.
    pub fn heard(&self, sid: ServerId) -> Vec<SessionId> {
        let here = self.all.iter().filter(|client| !client.is_silent);
        let here = here.filter(|client| {
            let at = client.at.as_ref();
            at.is_some_and(|at| at.sid == sid && at.attached.is_some())
        });
        here.filter_map(|client| client.session).collect()
    }

    /// A transaction is seen for the first time.
    pub fn is_new(&mut self, zxid: Zxid, txn: &Txn) {
        if let Some(request) = created_by(txn) {
            self.executed.insert(zxid, request);
        }
    }

    /// A member whose tree has come to `last` tells its shard something. What the shard answers.
    pub fn told(
        &mut self,
        sid: ServerId,
        down: &ToShards,
        last: Zxid,
        is_leader: bool,
    ) -> Option<ShardRequest> {
        let (shard, notice) = match down {
            ToShards::Txn(txn) => {
                if let Some(origin) = txn.origin.filter(|origin| origin.conn.slot > 0) {
                    self.outcome(sid, origin, txn, is_leader);
                }
                if let Txn::CloseSession { .. } = txn.entry.txn {
                    self.closed(sid, txn.entry.header.session);
                }
                return None;
            }
            ToShards::Notice(shard, notice) => (*shard, notice),
        };
        match notice {
            Notice::Attached {
                origin,
                session,
                generation,
                committed,
                ..
            } => {
                assert!(*committed <= last, "{sid} shows what it has not applied");
                if let Some((id, client)) = self.on(sid, origin.conn.slot) {
                    assert_eq!(client.session, Some(*session));
                    assert!(
                        client.seen <= last,
                        "{sid} is behind what a client has seen"
                    );
                    client.at.as_mut().unwrap().attached = Some(*generation);
                    let n = client.n + 1;
                    self.floors.push((id, last, n));
                    self.counts.moved += 1;
                }
            }
            Notice::Dead(origin) => {
                if let Some((_, client)) = self.on(sid, origin.conn.slot) {
                    (client.session, client.at) = (None, None);
                    self.counts.dead += 1;
                }
            }
            Notice::Close(conn) => self.end(sid, conn.slot),
            Notice::Refused(origin) => {
                if let Some((_, client)) = self.on(sid, origin.conn.slot) {
                    let at = client.at.as_mut().unwrap();
                    match origin.sequence {
                        0 => client.at = None,
                        sequence => {
                            assert_eq!(at.asked.pop_front().unwrap().0, sequence);
                            self.counts.failed += 1;
                        }
                    }
                }
            }
            Notice::Synced(origin) => {
                if let Some((_, client)) = self.on(sid, origin.conn.slot) {
                    let at = client.at.as_mut().unwrap();
                    let (sequence, what) = at.asked.pop_front().unwrap();
                    assert_eq!(sequence, origin.sequence);
                    let What::Sync(due) = what else {
                        panic!("{what:?} is no sync");
                    };
                    assert!(due <= last, "{sid} answers a sync of {due} at {last}");
                    client.seen = client.seen.max(last);
                    self.counts.synced += 1;
                }
            }
            Notice::Detach {
                session,
                generation,
            } => {
                for client in &mut self.all {
                    let is_old = |at: &mut At| {
                        at.sid == sid && at.attached.is_some_and(|attached| attached <= *generation)
                    };
                    if client.session == Some(*session) {
                        client.at.take_if(is_old);
                    }
                }
                return Some(ShardRequest::Released {
                    shard,
                    session: *session,
                    generation: *generation,
                });
            }
            Notice::Suspend => {
                self.end_all(sid);
                return Some(ShardRequest::Suspended { shard });
            }
        }
        None
    }

    fn outcome(&mut self, sid: ServerId, origin: Origin, txn: &Committed, is_leader: bool) {
        let header = txn.entry.header;
        let Some((id, client)) = self.on(sid, origin.conn.slot) else {
            return;
        };
        let at = client.at.as_mut().unwrap();
        if origin.sequence == 0 {
            assert!(matches!(txn.entry.txn, Txn::CreateSession { .. }));
            assert_eq!((client.session, at.attached), (None, None));
            client.session = Some(header.session);
            client.seen = header.zxid;
            at.attached = Some(txn.generation);
            self.counts.opened += 1;
            return;
        }
        let (sequence, what) = at.asked.pop_front().expect("an outcome of nothing");
        assert_eq!(
            sequence, origin.sequence,
            "{sid} {header:?}: outcomes in order"
        );
        assert_eq!(Some(header.session), client.session, "{sid} {header:?}");
        client.seen = header.zxid;
        if let Txn::Error { code } = txn.entry.txn {
            let may_be = [ErrorCode::SESSION_EXPIRED, ErrorCode::SYSTEM_ERROR];
            assert!(may_be.contains(&code), "{what:?}: {code:?}");
            self.counts.failed += 1;
            return;
        }
        let (n, session) = match what {
            What::Create { n, ephemeral } => (n, ephemeral.then_some(header.session)),
            What::Multi { n } => (n, None),
            What::Close => {
                assert!(matches!(txn.entry.txn, Txn::CloseSession { .. }));
                self.counts.closed += 1;
                return;
            }
            What::Sync(_) => panic!("a sync has no transaction"),
        };
        assert_eq!(
            created_by(&txn.entry.txn),
            Some((id, n)),
            "{sid} {header:?}: the outcome of another request"
        );
        let zxid = header.zxid;
        client.acked.push(Acked { n, zxid, session });
        self.acknowledged = self.acknowledged.max(zxid);
        self.counts.acked += 1;
        self.counts.acked_at_followers += usize::from(!is_leader);
    }

    /// A session is closed: its connection at this member ends.
    fn closed(&mut self, sid: ServerId, session: SessionId) {
        for client in &mut self.all {
            if client.session == Some(session) {
                let is_here = |at: &mut At| at.sid == sid && at.attached.is_some();
                if client.at.take_if(is_here).is_some() {
                    client.session = None;
                }
            }
        }
    }

    /// The whole history is known.
    pub fn check_history(&self) {
        let mut last = vec![0; self.all.len()];
        for (zxid, &(id, n)) in &self.executed {
            assert!(
                n > last[id],
                "{zxid}: client {id} executes {n} behind {}",
                last[id]
            );
            last[id] = n;
        }
        for &(id, at, floor) in &self.floors {
            let late = self.executed.range((Bound::Excluded(at), Bound::Unbounded));
            let late = late
                .into_iter()
                .find(|(_, (of, n))| *of == id && *n < floor);
            assert_eq!(late, None, "client {id} was let in at {at} behind {floor}");
        }
    }

    /// A tree with everything.
    pub fn check_tree(&self, tree: &Tree) {
        let mut there: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        for name in tree.child_names("/", 0) {
            let path = format!("/{}", std::str::from_utf8(name).unwrap());
            if let Some(request) = request_of(&path) {
                *there.entry(request).or_default() += 1;
            }
        }
        for (id, client) in self.all.iter().enumerate() {
            for acked in &client.acked {
                let lives = |session| tree.session_timeout(session).is_some();
                let due = usize::from(acked.session.is_none_or(lives));
                let is = there.remove(&(id, acked.n)).unwrap_or(0);
                let at = acked.zxid;
                assert_eq!(
                    is, due,
                    "client {id}, request {}, acknowledged at {at}",
                    acked.n
                );
            }
        }
        let twice = there.into_iter().find(|(_, nodes)| *nodes > 1);
        assert_eq!(twice, None, "executed twice");
    }
}

fn origin(slot: u32, sequence: u64) -> Origin {
    Origin {
        shard: ShardId(0),
        conn: ConnId {
            slot,
            generation: 1,
        },
        sequence,
    }
}
