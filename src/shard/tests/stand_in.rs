//! A pipeline in forty lines: prepares with the real overlay, commits at once or on demand, and
//! lets the test choose session ids, zxids and times. And a client that builds frames by hand.

use crate::budget::Budget;
use crate::messages::{Committed, Notice, Origin, ShardRequest, Stamps, ToShards};
use crate::shard::{ClientAddress, Shard, ShardConfig};
use crate::tree::{Overlay, PrepareContext, Rules, SessionState, Tree};
use crate::txn::jute::Put;
use crate::txn::{AuthId, WriteRequest};
use crate::types::{ConnId, Generation, Now, SessionId, ShardId, Tick, WallMs, Xid, Zxid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(super) struct World {
    pub(super) tree: Tree,
    pub(super) shard: Shard,
    overlay: Overlay,
    pub(super) rules: Rules,
    pub(super) now: Now,
    /// What a connection may execute when its turn comes.
    pub(super) slice: Budget,
    /// Of the next transaction.
    pub(super) zxid: Zxid,
    /// Of the next new session.
    pub(super) session: SessionId,
    generations: BTreeMap<SessionId, Generation>,
    waiting: BTreeMap<SessionId, (Origin, i32)>,
    /// Prepared, not committed.
    pub(super) logged: VecDeque<ToShards>,
    /// Commit at once.
    pub(super) prompt: bool,
    /// Refuse writes, as a full disk does.
    pub(super) full: bool,
    /// What the shard reported.
    pub(super) touched: Vec<(Tick, Vec<SessionId>)>,
    /// Detach confirmations, with whether the connection was still served at that moment.
    pub(super) released: Vec<(SessionId, Generation)>,
    /// Times that all connections were ended.
    pub(super) suspended: usize,
    /// Re-attaches that arrived.
    pub(super) reattaches: usize,
    /// What the events of the last transaction cost.
    pub(super) event_steps: usize,
}

fn is_served_when_full(request: &WriteRequest) -> bool {
    use WriteRequest::{CloseSession, CreateSession, Delete};
    matches!(request, CreateSession { .. } | CloseSession | Delete { .. })
}

impl World {
    pub(super) fn new() -> World {
        World::with(|_| {})
    }

    pub(super) fn with(tune: impl FnOnce(&mut ShardConfig)) -> World {
        let mut config = ShardConfig::new(ShardId(0));
        tune(&mut config);
        let tree = Tree::new();
        World {
            overlay: Overlay::new(&tree),
            tree,
            shard: Shard::new(config),
            rules: Rules::default(),
            now: Now {
                tick: Tick(1_000),
                micros: 1_000_000,
                wall: WallMs(1_700_000_000_000),
            },
            slice: Budget::UNLIMITED,
            zxid: Zxid(1),
            session: SessionId(0x0100_000d_6217_0000),
            generations: BTreeMap::new(),
            waiting: BTreeMap::new(),
            logged: VecDeque::new(),
            prompt: true,
            full: false,
            touched: Vec::new(),
            released: Vec::new(),
            suspended: 0,
            reattaches: 0,
            event_steps: 0,
        }
    }

    pub(super) fn accept(&mut self) -> ConnId {
        let peer = ClientAddress {
            address: "127.0.0.1".into(),
            port: 50_780,
        };
        self.shard.accept(peer, self.now)
    }

    /// Bytes arrive; everything moves that can.
    pub(super) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.receive(conn, bytes);
        self.turn();
    }

    /// Bytes arrive, and what the slice allows executes; nothing else moves.
    pub(super) fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut slice = self.slice;
        self.shard
            .receive_within(&self.tree, conn, bytes, &mut slice, self.now);
        self.check();
    }

    /// Every connection that is ready gets a slice, and again, until none is.
    pub(super) fn advance(&mut self) {
        while let Some(conn) = self.shard.poll_ready() {
            let mut slice = self.slice;
            self.shard.advance(&self.tree, conn, &mut slice, self.now);
        }
    }

    /// Takes what a connection was sent, and whether it was closed.
    pub(super) fn take(&mut self, conn: ConnId) -> (Vec<u8>, bool) {
        let output = self.shard.fetch_output(conn, Vec::new(), self.now);
        self.shard.sent(conn, output.bytes.len());
        self.turn();
        (output.bytes, output.close)
    }

    /// Frames of a connection that stays open.
    pub(super) fn frames(&mut self, conn: ConnId) -> Vec<Vec<u8>> {
        let (bytes, closed) = self.take(conn);
        assert!(!closed, "closed");
        split(&bytes)
    }

    /// The same, and nobody's turn comes.
    pub(super) fn frames_of(&mut self, conn: ConnId) -> Vec<Vec<u8>> {
        let output = self.shard.fetch_output(conn, Vec::new(), self.now);
        self.shard.sent(conn, output.bytes.len());
        assert!(!output.close, "closed");
        split(&output.bytes)
    }

    /// A connection with a session of its own; its connect response is taken.
    pub(super) fn client(&mut self) -> ConnId {
        self.client_with_timeout(10_000)
    }

    /// The same, with a session that lasts for so many milliseconds of silence.
    pub(super) fn client_with_timeout(&mut self, timeout_ms: i32) -> ConnId {
        let prompt = std::mem::replace(&mut self.prompt, true);
        let conn = self.accept();
        self.send(conn, &connect(Zxid(0), timeout_ms, SessionId(0), &[0; 16]));
        let frames = self.frames(conn);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0][4..8], timeout_ms.to_be_bytes());
        self.prompt = prompt;
        conn
    }

    /// Memory for a connection's requests: bytes of input, entries of the queue.
    pub(super) fn memory(&mut self, conn: ConnId) -> (usize, usize) {
        self.shard.conns.get_mut(conn).unwrap().memory()
    }

    pub(super) fn advance_ms(&mut self, ms: u64) {
        self.now.tick.0 += ms;
        self.now.micros += ms * 1000;
        if self.shard.round_is_due(self.now) {
            let mut slice = self.slice;
            while !self.shard.report(self.now.tick, &mut slice, self.now) {
                slice = self.slice;
            }
        }
        self.turn();
    }

    /// The next connection that is ready gets its slice.
    pub(super) fn one_turn(&mut self) -> Option<ConnId> {
        let conn = self.shard.poll_ready()?;
        let mut slice = self.slice;
        self.shard.advance(&self.tree, conn, &mut slice, self.now);
        self.check();
        Some(conn)
    }

    /// A write arrives and is committed at once, and nobody's turn comes.
    pub(super) fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut slice = Budget::UNLIMITED;
        self.shard
            .receive_within(&self.tree, conn, bytes, &mut slice, self.now);
        while let Some(up) = self.shard.poll_request(self.now) {
            self.request(up);
        }
        self.apply(self.logged.len());
    }

    /// Notices and requests until nothing moves; transactions too if `prompt`.
    pub(super) fn turn(&mut self) {
        loop {
            self.advance();
            while let Some(up) = self.shard.poll_request(self.now) {
                self.request(up);
            }
            match self.logged.front() {
                Some(ToShards::Notice(..)) => self.commit(1),
                Some(ToShards::Txn(_)) if self.prompt => self.commit(1),
                _ => break,
            }
        }
        self.check();
    }

    /// What all connections hold together is what each of them holds.
    pub(super) fn check(&self) {
        assert_eq!(self.shard.counted(), self.shard.recounted());
    }

    /// The next `n` of what is logged become committed, and everything moves that can.
    pub(super) fn commit(&mut self, n: usize) {
        self.apply(n);
        self.advance();
        while let Some(up) = self.shard.poll_request(self.now) {
            self.request(up);
        }
    }

    /// The next `n` of what is logged become committed; nobody's turn comes.
    pub(super) fn apply(&mut self, n: usize) {
        for _ in 0..n {
            match self.logged.pop_front() {
                Some(ToShards::Txn(txn)) => {
                    let applied = self.tree.apply(&txn.entry);
                    self.overlay.forget(applied.zxid);
                    self.shard.committed(&self.tree, txn, applied);
                    let mut budget = Budget::UNLIMITED;
                    self.shard.deliver(&self.tree, &mut budget, self.now);
                    self.event_steps = budget.spent_of_unlimited();
                }
                Some(ToShards::Notice(_, notice)) => {
                    self.shard.notice(&self.tree, notice, self.now)
                }
                None => break,
            }
        }
        self.check();
    }

    /// The next transaction is applied, and none of its events is delivered.
    pub(super) fn apply_without_events(&mut self) {
        let Some(ToShards::Txn(txn)) = self.logged.pop_front() else {
            panic!("a transaction is next");
        };
        let applied = self.tree.apply(&txn.entry);
        self.overlay.forget(applied.zxid);
        self.shard.committed(&self.tree, txn, applied);
    }

    /// Goes on with the events of the last transaction by so many steps.
    pub(super) fn deliver(&mut self, steps: u32) {
        let mut budget = Budget::steps(steps);
        self.shard.deliver(&self.tree, &mut budget, self.now);
        // A list is compared at once, and the watches of one path fire together.
        assert!(budget.has_steps_within(100), "{budget:?}");
    }

    /// What connections have asked for goes to the pipeline, and nobody's turn comes.
    pub(super) fn hand_up(&mut self) {
        while let Some(up) = self.shard.poll_request(self.now) {
            self.request(up);
        }
    }

    /// The server's own closeSession, behind all that is logged; nobody's turn comes.
    pub(super) fn expire_unheard(&mut self, session: SessionId) {
        let (request, stamps) = (WriteRequest::CloseSession, Stamps::default());
        self.prepare(None, session, Xid(0), &request, &[], stamps);
        self.apply(self.logged.len());
    }

    /// The server's own closeSession.
    pub(super) fn expire(&mut self, session: SessionId) {
        let stamps = Stamps::default();
        self.prepare(
            None,
            session,
            Xid(0),
            &WriteRequest::CloseSession,
            &[],
            stamps,
        );
        self.turn();
    }

    fn request(&mut self, up: ShardRequest) {
        match up {
            ShardRequest::Write {
                origin,
                session,
                generation,
                xid,
                request,
                credentials,
                stamps,
            } => {
                assert!(stamps.received > 0);
                if self.generations.get(&session) != Some(&generation) {
                    self.say(Notice::Close(origin.conn));
                } else if self.full && !is_served_when_full(&request) {
                    self.say(Notice::Refused(origin));
                } else {
                    self.prepare(Some(origin), session, xid, &request, &credentials, stamps);
                }
            }
            ShardRequest::NewSession {
                origin,
                timeout_ms,
                stamps,
            } => {
                let session = self.session;
                self.session.0 += 1;
                self.generations.insert(session, Generation(1));
                let request = WriteRequest::CreateSession { timeout_ms };
                self.prepare(Some(origin), session, Xid(0), &request, &[], stamps);
            }
            ShardRequest::Reattach {
                origin,
                session,
                timeout_ms,
            } => {
                self.reattaches += 1;
                if self.tree.session_timeout(session).is_none() {
                    return self.say(Notice::Dead(origin));
                }
                let generation = self.generations[&session];
                self.generations
                    .insert(session, Generation(generation.0 + 1));
                self.waiting.insert(session, (origin, timeout_ms));
                self.say(Notice::Detach {
                    session,
                    generation,
                });
            }
            ShardRequest::Released {
                session,
                generation,
                ..
            } => {
                self.released.push((session, generation));
                let (origin, timeout_ms) = self.waiting.remove(&session).expect("asked for");
                self.say(Notice::Attached {
                    origin,
                    session,
                    generation: self.generations[&session],
                    timeout_ms,
                    committed: self.tree.last_zxid(),
                });
            }
            ShardRequest::Touched {
                watermark,
                sessions,
                ..
            } => self.touched.push((watermark, sessions)),
            ShardRequest::Sync { origin, .. } => self.say(Notice::Synced(origin)),
            ShardRequest::Suspended { .. } => self.suspended += 1,
        }
    }

    pub(super) fn say(&mut self, notice: Notice) {
        self.logged.push_back(ToShards::Notice(ShardId(0), notice));
    }

    fn prepare(
        &mut self,
        origin: Option<Origin>,
        session: SessionId,
        xid: Xid,
        request: &WriteRequest,
        credentials: &[AuthId],
        stamps: Stamps,
    ) {
        let context = PrepareContext {
            zxid: self.zxid,
            time: self.now.wall,
            session,
            cxid: xid.0,
            session_state: SessionState::Live,
            credentials,
            rules: &self.rules,
        };
        let mut budget = Budget::UNLIMITED;
        let prepared = (self.overlay).prepare(&self.tree, &context, request, &mut budget);
        self.zxid = self.zxid.next();
        self.logged.push_back(ToShards::Txn(Committed {
            origin,
            entry: Arc::new(prepared.entry),
            generation: self.generations.get(&session).copied().unwrap_or_default(),
            stamps,
        }));
    }
}

/// One frame.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_buf(Some(payload));
    out
}

/// Payloads.
pub(super) fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (payload, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(payload.to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame");
    frames
}

pub(super) fn connect(seen: Zxid, timeout_ms: i32, session: SessionId, password: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i32(0);
    out.put_i64(seen.0);
    out.put_i32(timeout_ms);
    out.put_i64(session.0);
    out.put_buf(Some(password));
    out.put_bool(false);
    frame(&out)
}

/// A request: header, then what `body` puts.
pub(super) fn request(xid: i32, op: i32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i32(xid);
    out.put_i32(op);
    body(&mut out);
    frame(&out)
}

pub(super) fn create(xid: i32, path: &str) -> Vec<u8> {
    create_acl(xid, path, b"", 0, &[("world", "anyone")])
}

pub(super) fn create_acl(
    xid: i32,
    path: &str,
    data: &[u8],
    flags: i32,
    acl: &[(&str, &str)],
) -> Vec<u8> {
    request(xid, 1, |out| put_create(out, path, data, flags, acl))
}

pub(super) fn put_create(
    out: &mut Vec<u8>,
    path: &str,
    data: &[u8],
    flags: i32,
    acl: &[(&str, &str)],
) {
    out.put_str(path);
    out.put_buf(Some(data));
    out.put_len(acl.len());
    for (scheme, id) in acl {
        out.put_i32(31);
        out.put_str(scheme);
        out.put_str(id);
    }
    out.put_i32(flags);
}

pub(super) fn set_data(xid: i32, path: &str, data: &[u8]) -> Vec<u8> {
    request(xid, 5, |out| {
        out.put_str(path);
        out.put_buf(Some(data));
        out.put_i32(-1);
    })
}

pub(super) fn delete(xid: i32, path: &str) -> Vec<u8> {
    request(xid, 2, |out| {
        out.put_str(path);
        out.put_i32(-1);
    })
}

/// exists 3, getData 4, getChildren 8, getChildren2 12.
pub(super) fn put_multi_delete(out: &mut Vec<u8>, path: &str) {
    out.put_i32(2);
    out.put_bool(false);
    out.put_i32(-1);
    out.put_str(path);
    out.put_i32(-1);
}

pub(super) fn put_multi_end(out: &mut Vec<u8>) {
    out.put_i32(-1);
    out.put_bool(true);
    out.put_i32(-1);
}

pub(super) fn read(xid: i32, op: i32, path: &str, watch: bool) -> Vec<u8> {
    request(xid, op, |out| {
        out.put_str(path);
        out.put_bool(watch);
    })
}

pub(super) fn ping() -> Vec<u8> {
    request(-2, 11, |_| {})
}

pub(super) fn sync(xid: i32) -> Vec<u8> {
    request(xid, 9, |out| out.put_str("/"))
}

pub(super) fn close(xid: i32) -> Vec<u8> {
    request(xid, -11, |_| {})
}

pub(super) fn auth(xid: i32, scheme: &str, data: &[u8]) -> Vec<u8> {
    request(xid, 100, |out| {
        out.put_i32(0);
        out.put_str(scheme);
        out.put_buf(Some(data));
    })
}

pub(super) fn set_watches(
    xid: i32,
    seen: Zxid,
    data: &[&str],
    exist: &[&str],
    child: &[&str],
) -> Vec<u8> {
    request(xid, 101, |out| {
        out.put_i64(seen.0);
        for list in [data, exist, child] {
            out.put_len(list.len());
            for path in list {
                out.put_str(path);
            }
        }
    })
}

/// Of setWatches2: data, exist, child, persistent, recursive.
pub(super) fn set_watches2(xid: i32, seen: Zxid, lists: [&[&str]; 5]) -> Vec<u8> {
    request(xid, 105, |out| {
        out.put_i64(seen.0);
        for list in lists {
            out.put_len(list.len());
            list.iter().for_each(|path| out.put_str(path));
        }
    })
}

/// addWatch 106 with a mode (0 persistent, 1 recursive), checkWatches 17 and removeWatches 18 with a type.
pub(super) fn on_watches<'p>(
    xid: i32,
    op: i32,
    path: impl Into<Option<&'p str>>,
    number: i32,
) -> Vec<u8> {
    let path = path.into();
    request(xid, op, |out| {
        out.put_buf(path.map(str::as_bytes));
        out.put_i32(number);
    })
}

/// A multi of setData.
pub(super) fn multi_set(xid: i32, paths: &[&str]) -> Vec<u8> {
    request(xid, 14, |out| {
        for path in paths {
            out.put_i32(5);
            out.put_bool(false);
            out.put_i32(-1);
            out.put_str(path);
            out.put_buf(None);
            out.put_i32(-1);
        }
        put_multi_end(out);
    })
}

/// What a frame says, as far as tests look: a reply's (xid, zxid, error), or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Reply(i32, i64, i32),
    Event(i64, i32, String),
}

pub(super) fn said(frames: &[Vec<u8>]) -> Vec<Said> {
    frames.iter().map(|frame| one(frame)).collect()
}

fn one(frame: &[u8]) -> Said {
    let i32_at = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    let zxid = i64::from_be_bytes(frame[4..12].try_into().unwrap());
    if i32_at(0) == -1 {
        assert_eq!(i32_at(20), 3, "SyncConnected");
        let path = String::from_utf8(frame[28..].to_vec()).unwrap();
        return Said::Event(zxid, i32_at(16), path);
    }
    Said::Reply(i32_at(0), zxid, i32_at(12))
}
