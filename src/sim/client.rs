//! A simulated client: sends a seeded mix of requests, reads the replies, and checks what only a
//! client can see (order of replies, own writes, watches before newer data).

use super::catch_up::{Came, CatchUp};
use super::lasting::Lasting;
use super::op::{Kind, List, Op};
use super::truth::{Truth, WatchKind, parent};
use crate::txn::Txn;
use crate::types::{ErrorCode, OpCode, SessionId, Zxid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

struct Pending {
    xid: i32,
    op: Op,
    /// The newest state that any client had been shown when this was sent.
    seen: Zxid,
}

/// Where a client is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No connection.
    Offline,
    /// ConnectRequest sent.
    Connecting,
    /// Attached.
    Online,
}

/// What the world must do after a client has read bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The highest zxid in the bytes.
    pub zxid: Zxid,
    /// A ConnectResponse established a session here.
    pub attached: bool,
    /// The server said that the session is dead.
    pub dead: bool,
    /// Replies to requests.
    pub replies: u32,
    /// Watch events.
    pub events: u32,
    /// Replies with SYSTEMERROR.
    pub refused: u32,
}

/// One client.
pub struct Client {
    /// Names its nodes.
    pub id: usize,
    /// State.
    pub phase: Phase,
    /// Current session, or 0.
    pub session: SessionId,
    /// Its password.
    pub password: Vec<u8>,
    /// Negotiated, ms.
    pub timeout_ms: i32,
    /// Highest zxid seen in a reply.
    pub last_zxid: Zxid,
    /// First xid of the current connection: xids are never used twice by a client, so the cxid of
    /// a transaction tells which connection sent it.
    pub first_xid: i32,
    next_xid: i32,
    pending: VecDeque<Pending>,
    input: Vec<u8>,
    watches: BTreeMap<(Arc<str>, WatchKind), Zxid>,
    lasting: Lasting,
    /// Watches of earlier connections that no setWatches has set again.
    lost: BTreeSet<(WatchKind, Arc<str>)>,
    /// The newest state that was seen before the connection.
    lost_at: Zxid,
    /// Events since the setWatches is the oldest request without a reply.
    came: Vec<Came>,
    closing: bool,
}

/// Bytes of a request, built field by field (docs/protocol.md §1.2).
#[derive(Default)]
pub(super) struct Wire(Vec<u8>);

impl Wire {
    pub(super) fn i32(&mut self, v: i32) -> &mut Wire {
        self.0.extend(v.to_be_bytes());
        self
    }
    pub(super) fn i64(&mut self, v: i64) -> &mut Wire {
        self.0.extend(v.to_be_bytes());
        self
    }
    pub(super) fn byte(&mut self, v: u8) -> &mut Wire {
        self.0.push(v);
        self
    }
    pub(super) fn buf(&mut self, v: Option<&[u8]>) -> &mut Wire {
        match v {
            None => self.i32(-1),
            Some(bytes) => {
                self.i32(bytes.len() as i32);
                self.0.extend(bytes);
                self
            }
        }
    }
    pub(super) fn frame(self) -> Vec<u8> {
        let mut framed = (self.0.len() as u32).to_be_bytes().to_vec();
        framed.extend(self.0);
        framed
    }
    fn op(&mut self, op: &Op) -> &mut Wire {
        match op {
            Op::Create {
                path,
                data,
                kind,
                sequential,
            } => {
                self.buf(Some(path.as_bytes())).buf(data.as_deref());
                self.i32(1).i32(31).buf(Some(b"world")).buf(Some(b"anyone"));
                match (kind, sequential) {
                    (Kind::Plain, sequential) => self.i32(i32::from(*sequential) << 1),
                    (Kind::Ephemeral, sequential) => self.i32(1 | i32::from(*sequential) << 1),
                    (Kind::Container, false) => self.i32(4),
                    // The type of the request says that it is a container.
                    (Kind::Container, true) => self.i32(2),
                    (Kind::Ttl(ttl_ms), false) => self.i32(5).i64(*ttl_ms),
                    (Kind::Ttl(ttl_ms), true) => self.i32(6).i64(*ttl_ms),
                }
            }
            Op::Delete { path, version } => self.buf(Some(path.as_bytes())).i32(*version),
            Op::SetData {
                path,
                data,
                version,
            } => self
                .buf(Some(path.as_bytes()))
                .buf(data.as_deref())
                .i32(*version),
            Op::Multi(ops) => {
                for op in ops {
                    self.i32(op.code().0).byte(0).i32(-1).op(op);
                }
                self.i32(-1).byte(1).i32(-1)
            }
            Op::Read { path, watch, .. } | Op::Children { path, watch } => {
                self.buf(Some(path.as_bytes())).byte(u8::from(*watch))
            }
            Op::MultiRead(ops) => {
                for op in ops {
                    self.i32(in_multi_read(op)).byte(0).i32(-1).op(op);
                }
                self.i32(-1).byte(1).i32(-1)
            }
            Op::SetWatches { seen, items } => {
                self.i64(seen.0);
                let lists = [
                    List::Data,
                    List::Exist,
                    List::Child,
                    List::Persistent,
                    List::Recursive,
                ];
                let lasts = op.code() == OpCode::SET_WATCHES2;
                for list in &lists[..if lasts { 5 } else { 3 }] {
                    let paths = items.iter().filter(|(of, _)| of == list);
                    self.i32(paths.clone().count() as i32);
                    for (_, path) in paths {
                        self.buf(Some(path.as_bytes()));
                    }
                }
                self
            }
            Op::AddWatch { path, recursive } => {
                self.buf(Some(path.as_bytes())).i32(i32::from(*recursive))
            }
            Op::CheckWatches { path, of, .. } => self.buf(Some(path.as_bytes())).i32(*of),
            Op::Sync => self.buf(Some(b"/")),
            Op::Ping | Op::Close => self,
        }
    }
}

/// A cursor over a reply; a reply that is too short is a violation.
struct Reply<'a>(&'a [u8]);

impl<'a> Reply<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(n).ok_or("reply too short")?;
        self.0 = rest;
        Ok(head)
    }
    fn i32(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(
            self.take(4)?.try_into().expect("four bytes"),
        ))
    }
    fn i64(&mut self) -> Result<i64, String> {
        Ok(i64::from_be_bytes(
            self.take(8)?.try_into().expect("eight bytes"),
        ))
    }
    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }
    fn buf(&mut self) -> Result<Option<&'a [u8]>, String> {
        match self.i32()? {
            -1 => Ok(None),
            n if n >= 0 => Ok(Some(self.take(n as usize)?)),
            n => Err(format!("length {n}")),
        }
    }
    fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.buf()?.ok_or("null string")?).map_err(|e| e.to_string())
    }
}

/// The fields of a Stat that the model knows.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    czxid: i64,
    mzxid: i64,
    version: i32,
    cversion: i32,
    owner: i64,
    data_length: i32,
    children: i32,
    pzxid: i64,
}

impl Seen {
    fn read(reply: &mut Reply<'_>) -> Result<Seen, String> {
        let (czxid, mzxid) = (reply.i64()?, reply.i64()?);
        let _times = (reply.i64()?, reply.i64()?);
        let (version, cversion, _aversion) = (reply.i32()?, reply.i32()?, reply.i32()?);
        let (owner, data_length, children) = (reply.i64()?, reply.i32()?, reply.i32()?);
        Ok(Seen {
            czxid,
            mzxid,
            version,
            cversion,
            owner,
            data_length,
            children,
            pzxid: reply.i64()?,
        })
    }

    fn of(node: &super::truth::Node) -> Seen {
        Seen {
            czxid: node.czxid.0,
            mzxid: node.mzxid.0,
            version: node.version,
            cversion: node.creates * 2 - node.children,
            owner: node.owner.0,
            data_length: node.data.as_ref().map_or(0, |d| d.len() as i32),
            children: node.children,
            pzxid: node.pzxid.0,
        }
    }
}

/// The lists of a request, if it is a setWatches.
fn setting(request: Option<&Pending>) -> &[(List, Arc<str>)] {
    match request.map(|request| &request.op) {
        Some(Op::SetWatches { items, .. }) => items,
        _ => &[],
    }
}

fn check(what: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if what { Ok(()) } else { Err(why()) }
}

/// Type of an operation of a multiRead: getData or getChildren.
fn in_multi_read(op: &Op) -> i32 {
    match op {
        Op::Children { .. } => 8,
        _ => 4,
    }
}

/// A list of names in a reply, against the children at `zxid`.
fn names(path: &str, zxid: Zxid, reply: &mut Reply<'_>, truth: &Truth) -> Result<(), String> {
    let names = (0..reply.i32()?).map(|_| reply.text());
    let mut names = names.collect::<Result<Vec<_>, _>>()?;
    names.retain(|n| *n != "zookeeper");
    names.sort_unstable();
    let due = truth.children_at(path, zxid);
    check(names == due, || {
        format!("children {names:?}, truth {due:?}")
    })
}

/// All results of a multiRead are of one state.
fn multi_read(
    ops: &[Op],
    zxid: Zxid,
    err: ErrorCode,
    reply: &mut Reply<'_>,
    truth: &Truth,
) -> Result<(), String> {
    check(err == ErrorCode::OK, || format!("{err:?}"))?;
    for op in ops {
        let (Op::Read { path, .. } | Op::Children { path, .. }) = op else {
            unreachable!("a multiRead reads")
        };
        let (kind, _, err) = (reply.i32()?, reply.byte()?, reply.i32()?);
        let Some(node) = truth.node_at(path, zxid) else {
            let no_node = ErrorCode::NO_NODE.0;
            check((kind, err, reply.i32()?) == (-1, no_node, no_node), || {
                format!("result {kind}/{err} for {path}, which is not there")
            })?;
            continue;
        };
        check((kind, err) == (in_multi_read(op), 0), || {
            format!("result {kind}/{err} for {op:?}")
        })?;
        if kind == 8 {
            names(path, zxid, reply, truth)?;
            continue;
        }
        let (data, seen) = (reply.buf()?, Seen::read(reply)?);
        check(
            data == node.data.as_deref() && seen == Seen::of(node),
            || format!("{path}: {data:?}, {seen:?}, truth {node:?}"),
        )?;
    }
    let end = (reply.i32()?, reply.byte()?, reply.i32()?);
    check(end == (-1, 1, -1), || "no end of the results".into())
}

impl Client {
    /// A client that has never connected.
    pub fn new(id: usize) -> Client {
        Client {
            id,
            phase: Phase::Offline,
            session: SessionId::NONE,
            password: vec![0; 16],
            timeout_ms: 0,
            last_zxid: Zxid::ZERO,
            first_xid: 1,
            next_xid: 1,
            pending: VecDeque::new(),
            input: Vec::new(),
            watches: BTreeMap::new(),
            lasting: Lasting::default(),
            lost: BTreeSet::new(),
            lost_at: Zxid::ZERO,
            came: Vec::new(),
            closing: false,
        }
    }

    /// Requests without a reply.
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// Whether a closeSession is on its way.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Begins a connection: the bytes of the handshake.
    pub fn connect(&mut self, timeout_ms: i32) -> Vec<u8> {
        self.phase = Phase::Connecting;
        self.first_xid = self.next_xid;
        self.forget_pending();
        self.input.clear();
        self.came.clear();
        let watches = std::mem::take(&mut self.watches).into_keys();
        self.lost.extend(watches.map(|(path, kind)| (kind, path)));
        self.lost_at = self.last_zxid;
        self.lasting.connect(self.last_zxid);
        self.closing = false;
        let mut wire = Wire::default();
        wire.i32(0)
            .i64(self.last_zxid.0)
            .i32(timeout_ms)
            .i64(self.session.0);
        wire.buf(Some(&self.password)).byte(0);
        wire.frame()
    }

    /// The connection is gone; what was outstanding stays unknown.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Offline;
        self.forget_pending();
    }

    /// Nothing under way is answered any more: a setWatches has to be sent again.
    fn forget_pending(&mut self) {
        for pending in self.pending.drain(..) {
            if let Op::SetWatches { items, .. } = pending.op {
                self.lasting.lose(&items);
                let standard = items.into_iter().filter(|(list, _)| list.lasts().is_none());
                self.lost
                    .extend(standard.map(|(list, path)| (list.kind(), path)));
            }
        }
    }

    /// Forgets the session.
    pub fn forget_session(&mut self) {
        self.session = SessionId::NONE;
        self.password = vec![0; 16];
    }

    /// A setWatches for some of the watches that earlier connections had; `exists`: data watches were
    /// left on nodes that did not exist.
    pub fn set_again(&mut self, most: usize, exists: bool) -> Option<Op> {
        let some: Vec<_> = self.lost.iter().take(most).cloned().collect();
        for lost in &some {
            self.lost.remove(lost);
        }
        let list = |kind| match kind {
            WatchKind::Child => List::Child,
            WatchKind::Data if exists => List::Exist,
            WatchKind::Data => List::Data,
        };
        let mut items: Vec<_> = some
            .into_iter()
            .map(|(kind, path)| (list(kind), path))
            .collect();
        items.extend(self.lasting.take_lost(most));
        let seen = self.lost_at;
        (!items.is_empty()).then_some(Op::SetWatches { seen, items })
    }

    /// Sends one request: its bytes.
    pub fn send(&mut self, op: Op, seen: Zxid) -> Vec<u8> {
        let xid = match op {
            Op::Ping => -2,
            _ => {
                self.next_xid += 1;
                self.next_xid - 1
            }
        };
        self.closing |= op == Op::Close;
        let mut wire = Wire::default();
        wire.i32(xid).i32(op.code().0).op(&op);
        self.pending.push_back(Pending { xid, op, seen });
        wire.frame()
    }

    /// Reads what arrived and checks it against the truth.
    pub fn receive(&mut self, bytes: &[u8], truth: &Truth) -> Result<Heard, String> {
        self.input.extend_from_slice(bytes);
        let mut heard = Heard::default();
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((head, tail)) = rest.split_at_checked(4) {
            let len = u32::from_be_bytes(head.try_into().expect("four bytes")) as usize;
            let Some((payload, tail)) = tail.split_at_checked(len) else {
                break;
            };
            rest = tail;
            self.message(&mut Reply(payload), truth, &mut heard)?;
        }
        self.input = rest.to_vec();
        Ok(heard)
    }

    fn message(
        &mut self,
        reply: &mut Reply<'_>,
        truth: &Truth,
        heard: &mut Heard,
    ) -> Result<(), String> {
        if self.phase == Phase::Connecting {
            return self.connected(reply, heard);
        }
        let (xid, zxid, err) = (reply.i32()?, Zxid(reply.i64()?), ErrorCode(reply.i32()?));
        heard.zxid = heard.zxid.max(zxid);
        if xid == -1 {
            heard.events += 1;
            return self.event(zxid, reply, truth);
        }
        heard.replies += 1;
        let pending = self
            .pending
            .pop_front()
            .ok_or_else(|| format!("reply {xid} to nothing"))?;
        check(pending.xid == xid, || {
            format!("reply {xid} where {} was due", pending.xid)
        })?;
        check(zxid >= self.last_zxid, || {
            format!("reply at {zxid} after {}", self.last_zxid)
        })?;
        check(zxid >= pending.seen, || {
            format!(
                "reply at {zxid} to a request sent after {} had been shown",
                pending.seen
            )
        })?;
        check(zxid <= truth.last(), || {
            format!("reply at {zxid}, nothing after {} exists", truth.last())
        })?;
        let before = std::mem::replace(&mut self.last_zxid, zxid);
        self.watches_before(zxid, truth)?;
        self.lasting.before(zxid, setting(Some(&pending)), truth)?;
        if err == ErrorCode::SYSTEM_ERROR {
            heard.refused += 1;
            return check(pending.op.is_write(), || "SYSTEMERROR for a read".into());
        }
        if let Op::SetWatches { seen, items } = &pending.op {
            check(err == ErrorCode::OK, || format!("{err:?}"))?;
            let from = before.max(pending.seen);
            return self.caught_up(*seen, items, from, zxid, truth);
        }
        self.outcome(&pending, zxid, err, reply, truth)
            .map_err(|e| format!("{:?} at {zxid}: {e}", pending.op))
    }

    fn connected(&mut self, reply: &mut Reply<'_>, heard: &mut Heard) -> Result<(), String> {
        let (_, timeout) = (reply.i32()?, reply.i32()?);
        let session = SessionId(reply.i64()?);
        let password = reply.buf()?.ok_or("null password")?.to_vec();
        if timeout <= 0 {
            check(session == SessionId::NONE && password == [0; 16], || {
                "half dead session".into()
            })?;
            check(self.session != SessionId::NONE, || {
                "a new session was answered dead".into()
            })?;
            heard.dead = true;
            return Ok(());
        }
        if self.session != SessionId::NONE {
            check(session == self.session && password == self.password, || {
                format!("asked for {}, attached to {session}", self.session)
            })?;
        }
        (self.session, self.password, self.timeout_ms) = (session, password, timeout);
        self.phase = Phase::Online;
        heard.attached = true;
        Ok(())
    }

    /// Events that were due up to `zxid` must have come before this reply (docs/protocol.md §4.5).
    fn watches_before(&self, zxid: Zxid, truth: &Truth) -> Result<(), String> {
        for ((path, kind), since) in &self.watches {
            if let Some((at, event)) = truth.first_trigger(path, *kind, *since)
                && at <= zxid
            {
                return Err(format!(
                    "a reply at {zxid} came before event {event} of {at} on {path} ({kind:?}, left at {since})"
                ));
            }
        }
        Ok(())
    }

    fn event(&mut self, zxid: Zxid, reply: &mut Reply<'_>, truth: &Truth) -> Result<(), String> {
        let (event, state, path) = (reply.i32()?, reply.i32()?, reply.text()?);
        check(state == 3, || format!("event state {state}"))?;
        let items = setting(self.pending.front());
        let oldest = self.pending.front();
        let setting = oldest.is_some_and(|oldest| matches!(oldest.op, Op::SetWatches { .. }));
        let mut came = Came {
            path: Arc::from(path),
            zxid: (zxid != Zxid(-1)).then_some(zxid),
            event,
            explained: false,
        };
        if came.zxid.is_none() {
            self.came.push(came);
            return check(setting, || {
                format!("event {event} on {path} says what was missed, and nobody has asked")
            });
        }
        check(zxid > self.last_zxid, || {
            format!("event of {zxid} after a reply at {}", self.last_zxid)
        })?;
        let kinds: &[WatchKind] = match event {
            1 | 3 => &[WatchKind::Data],
            2 => &[WatchKind::Data, WatchKind::Child],
            4 => &[WatchKind::Child],
            _ => return Err(format!("event type {event}")),
        };
        let mut matched = self.lasting.came((zxid, path, event), items, truth);
        for kind in kinds {
            let key = (Arc::from(path), *kind);
            let Some(since) = self.watches.get(&key) else {
                continue;
            };
            if truth.first_trigger(path, *kind, *since) == Some((zxid, event)) {
                self.watches.remove(&key);
                matched = true;
            }
        }
        if setting {
            came.explained = matched;
            self.came.push(came);
            return Ok(());
        }
        check(matched, || {
            format!("event {event} of {zxid} on {path}: no watch waits for it")
        })
    }

    /// A setWatches is answered.
    fn caught_up(
        &mut self,
        seen: Zxid,
        items: &[(List, Arc<str>)],
        from: Zxid,
        to: Zxid,
        truth: &Truth,
    ) -> Result<(), String> {
        let came = std::mem::take(&mut self.came);
        self.lasting.set(items, to);
        let standard = items.iter().filter(|(list, _)| list.lasts().is_none());
        let items: &[_] = &standard.cloned().collect::<Vec<_>>();
        let catch_up = CatchUp {
            truth,
            seen,
            items,
            came: &came,
            from,
            to,
        };
        let watched = catch_up.watched().ok_or_else(|| {
            format!("setWatches {items:?} of {seen}, worked off from {from} to {to}: {came:?}")
        })?;
        for ((list, path), watched) in items.iter().zip(watched) {
            if watched {
                self.watches
                    .entry((path.clone(), list.kind()))
                    .or_insert(to);
            }
        }
        Ok(())
    }

    fn outcome(
        &mut self,
        pending: &Pending,
        zxid: Zxid,
        err: ErrorCode,
        reply: &mut Reply<'_>,
        truth: &Truth,
    ) -> Result<(), String> {
        if pending.op.is_write() {
            let entry = truth.entry(zxid).ok_or("no transaction has this zxid")?;
            let mine = (entry.header.session, entry.header.cxid) == (self.session, pending.xid);
            check(mine, || {
                format!("answered with another's transaction {:?}", entry.header)
            })?;
            let (code, txn) = (entry.header.op, &entry.txn);
            let is_failed = matches!(txn, Txn::Error { .. });
            check(is_failed || pending.op.became(code, txn), || {
                format!("became {code:?} {txn:?}")
            })?;
            if let Some(expected) = truth.expected_error(zxid, &pending.op) {
                let expected = expected.unwrap_or(ErrorCode::OK);
                check(err == expected, || {
                    format!("answered {err:?}, the state before says {expected:?}")
                })?;
            }
        }
        match &pending.op {
            Op::Create {
                path, sequential, ..
            } if err == ErrorCode::OK => {
                let made = reply.text()?;
                let up = truth
                    .node_at(parent(path), Zxid(zxid.0 - 1))
                    .ok_or("no parent")?;
                let due = if *sequential {
                    format!("{path}{:010}", up.creates)
                } else {
                    path.to_string()
                };
                check(made == due, || format!("created {made}, due was {due}"))?;
                if pending.op.code() == OpCode::CREATE {
                    return Ok(());
                }
                let node = truth.node_at(made, zxid).ok_or("no node")?;
                let seen = Seen::read(reply)?;
                check(seen == Seen::of(node), || {
                    format!("{seen:?}, truth {node:?}")
                })
            }
            Op::SetData { path, .. } if err == ErrorCode::OK => {
                let node = truth.node_at(path, zxid).ok_or("no node")?;
                let seen = Seen::read(reply)?;
                check(seen == Seen::of(node), || {
                    format!("{seen:?}, truth {node:?}")
                })
            }
            Op::AddWatch { path, recursive } => {
                check((err, reply.i32()?) == (ErrorCode::OK, 0), || {
                    format!("{err:?}")
                })?;
                self.lasting.add(path, *recursive, zxid);
                Ok(())
            }
            Op::CheckWatches { path, of, remove } => self.check_watches(path, *of, *remove, err),
            Op::Multi(ops) => self.multi(ops, zxid, reply, truth),
            Op::MultiRead(ops) => multi_read(ops, zxid, err, reply, truth),
            Op::Read {
                path,
                exists,
                watch,
            } => self.read(path, *exists, *watch, zxid, err, reply, truth),
            Op::Children { path, watch } => {
                let node = truth.node_at(path, zxid);
                if err != ErrorCode::OK {
                    return check(err == ErrorCode::NO_NODE && node.is_none(), || {
                        format!("{err:?}, truth {node:?}")
                    });
                }
                let node = node.ok_or("children of a missing node")?;
                names(path, zxid, reply, truth)?;
                let seen = Seen::read(reply)?;
                check(path.as_ref() == "/" || seen == Seen::of(node), || {
                    format!("{seen:?}, truth {node:?}")
                })?;
                if *watch {
                    self.watches
                        .entry((path.clone(), WatchKind::Child))
                        .or_insert(zxid);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A checkWatches or removeWatches was answered: the client knows what it watches.
    fn check_watches(
        &mut self,
        path: &Arc<str>,
        of: i32,
        remove: bool,
        err: ErrorCode,
    ) -> Result<(), String> {
        let kinds: &[WatchKind] = match of {
            1 => &[WatchKind::Child],
            2 => &[WatchKind::Data],
            3 => &[WatchKind::Child, WatchKind::Data],
            _ => &[],
        };
        let mut standard = kinds.iter().map(|kind| (path.clone(), *kind));
        let there =
            self.lasting.has(path, of) || standard.any(|key| self.watches.contains_key(&key));
        let due = match there {
            true => ErrorCode::OK,
            false => ErrorCode::NO_WATCHER,
        };
        check(err == due, || format!("{err:?}, due was {due:?}"))?;
        if remove {
            self.lasting.remove(path, of);
            for kind in kinds {
                self.watches.remove(&(path.clone(), *kind));
            }
        }
        Ok(())
    }

    fn multi(
        &self,
        ops: &[Op],
        zxid: Zxid,
        reply: &mut Reply<'_>,
        truth: &Truth,
    ) -> Result<(), String> {
        let Txn::Multi(done) = &truth.entry(zxid).ok_or("no transaction")?.txn else {
            return Err("a multi became another transaction".into());
        };
        check(done.len() == ops.len(), || {
            format!("{} operations became {}", ops.len(), done.len())
        })?;
        let failed = done.iter().any(|(_, t)| matches!(t, Txn::Error { .. }));
        let mut before = true;
        for (op, (code, txn)) in ops.iter().zip(done) {
            let (kind, _, err) = (reply.i32()?, reply.byte()?, reply.i32()?);
            if failed {
                let due = match txn {
                    Txn::Error { code } => code.0,
                    _ => 0,
                };
                before &= due == 0;
                check((kind, err, reply.i32()?) == (-1, due, due), || {
                    format!("result {kind}/{err}, due {due}")
                })?;
                check(before || due != 0, || {
                    "an operation behind the failing one has no error".into()
                })?;
                continue;
            }
            check((kind, err) == (op.result_code().0, 0), || {
                format!("result {kind}/{err} for {op:?}")
            })?;
            check(op.became(*code, txn), || {
                format!("{op:?} became {code:?} {txn:?}")
            })?;
            match op {
                Op::Create { .. } => {
                    reply.text()?;
                    if op.code() != OpCode::CREATE {
                        Seen::read(reply)?;
                    }
                }
                Op::SetData { .. } => {
                    Seen::read(reply)?;
                }
                _ => {}
            }
        }
        check(
            (reply.i32()?, reply.byte()?, reply.i32()?) == (-1, 1, -1),
            || "no end of the results".into(),
        )
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one check, all of whose inputs are its own"
    )]
    fn read(
        &mut self,
        path: &Arc<str>,
        exists: bool,
        watch: bool,
        zxid: Zxid,
        err: ErrorCode,
        reply: &mut Reply<'_>,
        truth: &Truth,
    ) -> Result<(), String> {
        let node = truth.node_at(path, zxid);
        if err != ErrorCode::OK {
            check(err == ErrorCode::NO_NODE && node.is_none(), || {
                format!("{err:?}, truth {node:?}")
            })?;
        } else {
            let node = node.ok_or("found a missing node")?;
            if !exists {
                let data = reply.buf()?;
                check(data == node.data.as_deref(), || {
                    format!("data {data:?}, truth {node:?}")
                })?;
            }
            let seen = Seen::read(reply)?;
            check(path.as_ref() == "/" || seen == Seen::of(node), || {
                format!("{seen:?}, truth {node:?}")
            })?;
        }
        if watch && (exists || err == ErrorCode::OK) {
            self.watches
                .entry((path.clone(), WatchKind::Data))
                .or_insert(zxid);
        }
        Ok(())
    }
}
