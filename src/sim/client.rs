//! A simulated client: sends a seeded mix of requests, reads the replies, and checks what only a
//! client can see (order of replies, own writes, watches before newer data).

use super::catch_up::{Came, CatchUp, Left};
use super::identity::{Who, address};
use super::lasting::Lasting;
use super::op::{List, Op};
use super::replies::{Answer, Pending};
use super::truth::{Trigger, Truth, WatchKind};
use super::wire::{Reply, Wire, check};
use crate::shard::Why;
use crate::txn::Acl;
use crate::types::{ErrorCode, OpCode, SessionId, Zxid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Types of requests, of operations inside multis, and what each was answered.
    pub outcomes: Vec<(OpCode, ErrorCode)>,
    /// Types of events.
    pub told: Vec<i32>,
}

/// A standard watch of the connection.
#[derive(Clone, Copy, Debug)]
struct Standard {
    /// The state in which it was left.
    since: Zxid,
    /// It is there. If not, it is there or is not: what a setWatches has done leaves both open.
    is_sure: bool,
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
    /// The standard watches, per kind and path.
    watches: [BTreeMap<Arc<str>, Standard>; 2],
    lasting: Lasting,
    /// Watches of earlier connections that no setWatches has set again.
    lost: BTreeSet<(WatchKind, Arc<str>)>,
    /// The newest state that was seen before the connection.
    lost_at: Zxid,
    /// Events since the setWatches is the oldest request without a reply.
    came: Vec<Came>,
    closing: bool,
    /// An auth that fails is on its way: nothing behind it is executed.
    is_refused: bool,
    /// What the connection will end for.
    offence: Option<Why>,
    /// Without an identity of scheme digest nothing is executed.
    pub(super) must_authenticate: bool,
    /// What a ConnectRequest has asked for, and the timeout must become, ms.
    asked_ms: i32,
    /// By all that was sent on the connection.
    who: Arc<Who>,
    /// By all that was answered.
    confirmed: Arc<Who>,
    /// For every transaction behind the last reply.
    sure: Arc<Who>,
    /// The connection has begun, and nothing was sent on it.
    pub(super) is_fresh: bool,
    /// A write has succeeded since that was last asked for.
    pub(super) has_written: bool,
    /// Connections in a row that ended before all watches of earlier ones were set again.
    unlucky: u32,
}

/// Connections that may end before the watches of earlier ones are set again, until the client does without: a shard
/// that has room for fewer watches ends each of them.
const UNLUCKY_MAX: u32 = 3;

/// Bytes of one request, and what the truth must know of it.
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    pub(super) xid: i32,
    pub(super) who: Arc<Who>,
    /// What it will be answered without being executed; 0 if it will be.
    pub(super) due: ErrorCode,
}

/// The lists of a request, if it is a setWatches.
fn setting(request: Option<&Pending>) -> &[(List, Arc<str>)] {
    match request.map(|request| &request.op) {
        Some(Op::SetWatches { items, .. }) => items,
        _ => &[],
    }
}

/// The entries in the tables of watches that a request may leave, and whether each is of a recursive watch.
fn entries_of(op: &Op) -> Vec<(WatchKind, &Arc<str>, bool)> {
    use WatchKind::{Child, Data};
    let lasts = |path, is_recursive| match is_recursive {
        true => vec![(Data, path, true)],
        false => vec![(Data, path, false), (Child, path, false)],
    };
    match op {
        Op::Read {
            path, watch: true, ..
        } => vec![(Data, path, false)],
        Op::Children {
            path, watch: true, ..
        } => vec![(Child, path, false)],
        Op::AddWatch { path, recursive } => lasts(path, *recursive),
        Op::SetWatches { items, .. } => {
            let each = items.iter().map(|(list, path)| match list.lasts() {
                Some(is_recursive) => lasts(path, is_recursive),
                None => vec![(list.kind(), path, false)],
            });
            each.flatten().collect()
        }
        _ => Vec::new(),
    }
}

impl Client {
    /// A client that has never connected.
    pub fn new(id: usize) -> Client {
        let who = Arc::new(Who::at(address(Some(id))));
        Client {
            id,
            is_refused: false,
            offence: None,
            must_authenticate: false,
            asked_ms: 0,
            who: who.clone(),
            confirmed: who.clone(),
            sure: who,
            is_fresh: false,
            has_written: false,
            unlucky: 0,
            phase: Phase::Offline,
            session: SessionId::NONE,
            password: vec![0; 16],
            timeout_ms: 0,
            last_zxid: Zxid::ZERO,
            first_xid: 1,
            next_xid: 1,
            pending: VecDeque::new(),
            input: Vec::new(),
            watches: Default::default(),
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

    /// Sends what the server ends a connection for.
    pub(super) fn gives_offence(&mut self) {
        self.is_refused = true;
        self.offence.get_or_insert(Why::FrameLength);
    }

    /// Whether an auth that fails, or a frame that is too long, is on its way.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// What was sent that ends the connection.
    pub(super) fn offence(&self) -> Option<Why> {
        self.offence
    }

    /// Whether anything that is sent now would not be executed.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.closing || self.is_refused
    }

    /// Begins a connection: the bytes of the handshake. `due_ms`: what the timeout must become.
    pub(super) fn connect(&mut self, timeout_ms: i32, due_ms: i32) -> Vec<u8> {
        self.phase = Phase::Connecting;
        self.asked_ms = due_ms;
        (self.is_refused, self.offence) = (false, None);
        self.is_fresh = true;
        self.who = Arc::new(Who::at(address(Some(self.id))));
        (self.confirmed, self.sure) = (self.who.clone(), self.who.clone());
        self.first_xid = self.next_xid;
        self.forget_pending();
        self.input.clear();
        self.came.clear();
        let watches = std::mem::take(&mut self.watches);
        for (kind, paths) in [WatchKind::Data, WatchKind::Child].into_iter().zip(watches) {
            self.lost.extend(paths.into_keys().map(|path| (kind, path)));
        }
        self.lost_at = self.last_zxid;
        self.lasting.connect(self.last_zxid);
        self.closing = false;
        let mut wire = Wire::default();
        // Nobody looks at the version of the protocol.
        wire.i32([0, 0, 1, -1][self.next_xid as usize % 4])
            .i64(self.last_zxid.0)
            .i32(timeout_ms)
            .i64(self.session.0);
        // Who asks for a new session has no password: clients send zeroes, or none; or what they like.
        let password = match self.next_xid % 5 {
            _ if self.session != SessionId::NONE => Some(&self.password[..]),
            0 | 1 => None,
            2 => Some(&b""[..]),
            3 => Some(&b"whatever that may be"[..]),
            _ => Some(&self.password[..]),
        };
        wire.buf(password);
        if !self.is_old() {
            // A server that can write serves those who would do without, too.
            wire.byte(u8::from(self.next_xid % 3 == 0));
        }
        wire.frame()
    }

    /// It knows nothing of readOnly, neither in its ConnectRequest nor in the answer.
    fn is_old(&self) -> bool {
        self.id % 3 == 2
    }

    /// The connection is gone; what was outstanding stays unknown.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Offline;
        self.forget_pending();
    }

    /// Bytes that the requests under way may add to what the connection watches, as the server estimates them. What is
    /// there for sure adds nothing.
    pub(super) fn watches_under_way(&self, truth: &Truth) -> usize {
        const FIXED: usize = 200;
        const RECURSIVE: usize = 250;
        let ops = || self.pending.iter().map(|pending| &pending.op);
        let standing: BTreeSet<_> = ops().flat_map(entries_of).collect();
        let is_removed = |path: &Arc<str>| {
            ops().any(
                |op| matches!(op, Op::CheckWatches { path: of, remove: true, .. } if of == path),
            )
        };
        let is_there = |kind: WatchKind, path: &Arc<str>| {
            let standard = self.watches[kind as usize].get(path);
            let waits =
                |of: &Standard| of.is_sure && truth.first_trigger(path, kind, of.since).is_none();
            let lasts =
                self.lasting.has(path, 4) || kind == WatchKind::Data && self.lasting.has(path, 5);
            !is_removed(path) && (lasts || standard.is_some_and(waits))
        };
        let mut bytes = 0;
        for (kind, path, is_recursive) in standing {
            if !is_there(kind, path) {
                bytes += FIXED + path.len();
            }
            if is_recursive && (is_removed(path) || !self.lasting.has(path, 5)) {
                bytes += RECURSIVE;
            }
        }
        bytes
    }

    /// A setWatches is under way.
    fn is_setting(&self) -> bool {
        let sets = |pending: &Pending| matches!(pending.op, Op::SetWatches { .. });
        self.pending.iter().any(sets)
    }

    /// Nothing under way is answered any more: a setWatches has to be sent again.
    fn forget_pending(&mut self) {
        self.unlucky += u32::from(self.is_setting());
        for pending in self.pending.drain(..) {
            if let Op::SetWatches { items, .. } = pending.op {
                self.lasting.lose(&items);
                let standard = items.into_iter().filter(|(list, _)| list.lasts().is_none());
                self.lost
                    .extend(standard.map(|(list, path)| (list.kind(), path)));
            }
        }
        if self.unlucky > UNLUCKY_MAX {
            self.unlucky = 0;
            self.lost.clear();
            self.lasting.forget_lost();
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

    /// Sends one request. The reply must show `seen` at least; a connection may have so many identities.
    pub(super) fn send(&mut self, op: Op, seen: Zxid, identities_max: usize) -> Sent {
        let xid = op.reserved_xid().unwrap_or_else(|| {
            self.next_xid += 1;
            self.next_xid - 1
        });
        let mut due = ErrorCode::OK;
        if let Op::Auth { scheme, data } = &op {
            match self.who.auth(*scheme, *data, identities_max) {
                Ok(who) => self.who = Arc::new(who),
                Err(_) => {
                    (self.is_refused, due) = (true, ErrorCode::AUTH_FAILED);
                    self.offence.get_or_insert(Why::AuthFailed);
                }
            }
        } else if self.must_authenticate && !self.who.is_authenticated() {
            (self.is_refused, due) = (true, ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH);
            self.offence.get_or_insert(Why::NotAdmitted);
        }
        self.closing |= op == Op::Close && due == ErrorCode::OK;
        let mut wire = Wire::default();
        wire.i32(xid).i32(op.code().0).op(&op);
        if self.next_xid % 16 == 7 && !matches!(op, Op::Unparsable { .. }) {
            // What stands behind a request in its frame means nothing.
            wire.i64(i64::MAX).byte(0);
        }
        let who = self.who.clone();
        self.pending.push_back(Pending {
            xid,
            op,
            who: who.clone(),
            seen,
            due,
        });
        Sent {
            bytes: wire.frame(),
            xid,
            who,
            due,
        }
    }

    /// The bytes of a request behind what ends the connection: nobody knows of it, so that a reply or a transaction of it
    /// is one too many.
    pub(super) fn send_in_vain(&mut self, op: &Op) -> Vec<u8> {
        let xid = op.reserved_xid().unwrap_or(self.next_xid);
        self.next_xid += 1;
        let mut wire = Wire::default();
        wire.i32(xid).i32(op.code().0).op(op);
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
        if xid == -1 {
            heard.zxid = heard.zxid.max(zxid);
            heard.events += 1;
            return self.event(zxid, reply, truth, heard);
        }
        heard.replies += 1;
        let pending = self
            .pending
            .pop_front()
            .ok_or_else(|| format!("reply {xid} to nothing"))?;
        check(pending.xid == xid, || {
            format!("reply {xid} where {} was due", pending.xid)
        })?;
        heard.outcomes.push((pending.op.code(), err));
        if matches!(pending.op, Op::Auth { .. }) || pending.due != ErrorCode::OK {
            check((zxid, err) == (Zxid::ZERO, pending.due), || {
                format!(
                    "{:?}: {err:?} at {zxid}, due was {:?}",
                    pending.op, pending.due
                )
            })?;
            self.confirmed = pending.who;
            return reply.ends();
        }
        heard.zxid = heard.zxid.max(zxid);
        self.answered(&pending, (zxid, err), reply, truth, heard)?;
        self.sure = self.confirmed.clone();
        Ok(())
    }

    /// A reply that shows a state.
    fn answered(
        &mut self,
        pending: &Pending,
        (zxid, err): (Zxid, ErrorCode),
        reply: &mut Reply<'_>,
        truth: &Truth,
        heard: &mut Heard,
    ) -> Result<(), String> {
        check(zxid >= self.last_zxid, || {
            format!("reply at {zxid} after {}", self.last_zxid)
        })?;
        check(zxid >= pending.seen, || {
            format!(
                "{:?} was answered at {zxid}, and must show {}",
                pending.op, pending.seen
            )
        })?;
        check(zxid <= truth.last(), || {
            format!("reply at {zxid}, nothing after {} exists", truth.last())
        })?;
        let before = std::mem::replace(&mut self.last_zxid, zxid);
        self.watches_before(before, zxid, truth)?;
        let whose = (&*self.sure, &*self.who);
        self.lasting
            .before(zxid, setting(Some(pending)), whose, truth)?;
        if err == ErrorCode::SYSTEM_ERROR {
            heard.refused += 1;
            return check(pending.op.is_write(), || "SYSTEMERROR for a read".into());
        }
        if let Op::SetWatches { seen, items } = &pending.op {
            check(err == ErrorCode::OK, || format!("{err:?}"))?;
            reply.ends()?;
            let from = before.max(pending.seen);
            return self.caught_up(*seen, items, from, zxid, truth);
        }
        self.outcome(pending, (zxid, err), reply, truth, heard)
            .map_err(|e| format!("{:?} of {:?} at {zxid}: {e}", pending.op, pending.who))
    }

    fn outcome(
        &mut self,
        pending: &Pending,
        (zxid, err): (Zxid, ErrorCode),
        reply: &mut Reply<'_>,
        truth: &Truth,
        heard: &mut Heard,
    ) -> Result<(), String> {
        match &pending.op {
            Op::AddWatch { .. } => {
                check((err, reply.i32()?) == (ErrorCode::OK, 0), || {
                    format!("{err:?}")
                })?;
                reply.ends()?;
            }
            Op::CheckWatches { .. } => reply.ends()?,
            _ => {
                let mut answer = Answer {
                    truth,
                    session: self.session,
                    zxid,
                    err,
                    body: reply,
                    inside: Vec::new(),
                };
                answer.check(pending)?;
                heard.outcomes.append(&mut answer.inside);
            }
        }
        self.has_written |= pending.op.is_write() && err == ErrorCode::OK;
        self.has_watched(&pending.op, zxid, err)
    }

    fn connected(&mut self, reply: &mut Reply<'_>, heard: &mut Heard) -> Result<(), String> {
        let (_, timeout) = (reply.i32()?, reply.i32()?);
        let session = SessionId(reply.i64()?);
        let password = reply.buf()?.ok_or("null password")?.to_vec();
        if !self.is_old() {
            check(reply.byte()? == 0, || "a read-only server".into())?;
        }
        reply.ends()?;
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
        check(timeout == self.asked_ms, || {
            format!("a timeout of {timeout} ms, due were {} ms", self.asked_ms)
        })?;
        (self.session, self.password, self.timeout_ms) = (session, password, timeout);
        self.phase = Phase::Online;
        heard.attached = true;
        Ok(())
    }

    /// Events that were due behind `before`, up to `zxid`, must have come before this reply (docs/protocol.md §4.5).
    /// A watch whose event this client may not read is used up all the same (§4.4).
    fn watches_before(&mut self, before: Zxid, zxid: Zxid, truth: &Truth) -> Result<(), String> {
        for (at, change) in truth.noticed(before, zxid) {
            let watches = &mut self.watches[change.kind as usize];
            let watch = watches.get(&change.path).copied();
            let Some(Standard { since, is_sure }) = watch.filter(|watch| watch.since < at) else {
                continue;
            };
            check(!is_sure || !self.sure.may(Acl::READ, &change.acl), || {
                format!("a reply at {zxid} came before {change:?} of {at}, left at {since}")
            })?;
            watches.remove(&change.path);
        }
        Ok(())
    }

    fn event(
        &mut self,
        zxid: Zxid,
        reply: &mut Reply<'_>,
        truth: &Truth,
        heard: &mut Heard,
    ) -> Result<(), String> {
        let (event, state, path) = (reply.i32()?, reply.i32()?, reply.text()?);
        reply.ends()?;
        heard.told.push(event);
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
        let mut matched = self
            .lasting
            .came((zxid, path, event), items, &self.who, truth);
        for kind in kinds {
            let watches = &mut self.watches[*kind as usize];
            let Some(watch) = watches.get(path) else {
                continue;
            };
            let fired = truth.first_trigger(path, *kind, watch.since);
            let is_it = |fired: &Trigger| {
                (fired.zxid, fired.event) == (zxid, event) && self.who.may(Acl::READ, &fired.acl)
            };
            if fired.is_some_and(is_it) {
                watches.remove(path);
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
        if self.lost.is_empty() && !self.lasting.has_lost() && !self.is_setting() {
            self.unlucky = 0;
        }
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
            who: &self.sure,
        };
        let left = catch_up.left().ok_or_else(|| {
            format!("setWatches {items:?} of {seen}, worked off from {from} to {to}: {came:?}")
        })?;
        for ((list, path), left) in items.iter().zip(left) {
            if left != Left::Nothing {
                self.watches_from(list.kind(), path, to, left == Left::Watch);
            }
        }
        Ok(())
    }

    /// There is a standard watch now, or may be.
    fn watches_from(&mut self, kind: WatchKind, path: &Arc<str>, since: Zxid, is_sure: bool) {
        let watches = &mut self.watches[kind as usize];
        let new = Standard { since, is_sure };
        let watch = watches.entry(path.clone()).or_insert(new);
        watch.is_sure |= is_sure;
    }

    /// A request other than a setWatches or auth is answered as it had to be: the watch that it leaves, or takes.
    fn has_watched(&mut self, op: &Op, zxid: Zxid, err: ErrorCode) -> Result<(), String> {
        let (path, kind) = match (op, err) {
            (Op::AddWatch { path, recursive }, _) => {
                self.lasting.add(path, *recursive, zxid);
                return Ok(());
            }
            (Op::CheckWatches { path, of, remove }, _) => {
                return self.check_watches(path, *of, *remove, err);
            }
            (
                Op::Read {
                    path,
                    watch,
                    exists,
                },
                ErrorCode::OK | ErrorCode::NO_NODE,
            ) if *watch && (*exists || err == ErrorCode::OK) => (path, WatchKind::Data),
            (
                Op::Children {
                    path, watch: true, ..
                },
                ErrorCode::OK,
            ) => (path, WatchKind::Child),
            _ => return Ok(()),
        };
        self.watches_from(kind, path, zxid, true);
        Ok(())
    }

    /// A checkWatches or removeWatches was answered: the client knows what it watches, or learns it.
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
        let mut perhaps = Vec::new();
        let mut there = self.lasting.has(path, of);
        let each = [WatchKind::Data, WatchKind::Child].into_iter();
        for (kind, watches) in each.zip(&mut self.watches) {
            match watches.get_mut(path).filter(|_| kinds.contains(&kind)) {
                Some(watch) if !watch.is_sure => perhaps.push(watch),
                watch => there |= watch.is_some(),
            }
        }
        let due = match there {
            true => ErrorCode::OK,
            false => ErrorCode::NO_WATCHER,
        };
        let may_be = err == ErrorCode::OK && !perhaps.is_empty();
        check(err == due || may_be, || format!("{err:?}, due was {due:?}"))?;
        if let ([watch], true, false) = (&mut perhaps[..], may_be, there) {
            watch.is_sure = true;
        }
        if remove || err == ErrorCode::NO_WATCHER {
            self.lasting.remove(path, of);
            for kind in kinds {
                self.watches[*kind as usize].remove(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::op::Kind;
    use super::*;

    const OK: i32 = ErrorCode::OK.0;
    const NO_WATCHER: i32 = ErrorCode::NO_WATCHER.0;

    /// `/a` is made by 1 and deleted by 2, and the client may not read it; it is made again by 3, and deleted by 4, and
    /// everybody may.
    fn history() -> Truth {
        let mut truth = Truth::new(Zxid::ZERO);
        for perms in [Acl::WRITE, Acl::ALL] {
            let anyone = Acl {
                perms,
                scheme: "world".into(),
                id: "anyone".into(),
            };
            let create = Op::Create {
                path: "/a".into(),
                data: None,
                kind: Kind::Plain,
                sequential: false,
                acl: [anyone].into(),
                with_stat: false,
            };
            let delete = Op::Delete {
                path: "/a".into(),
                version: -1,
            };
            truth.done(0, create);
            truth.done(0, delete);
        }
        truth
    }

    /// A client that hears on.
    struct Hearing(Client, Truth);

    impl Hearing {
        /// It waits for `/a` to be made.
        fn after(op: Op, zxid: i64, err: ErrorCode) -> Hearing {
            let mut client = Client::new(0);
            client.phase = Phase::Online;
            let mut hearing = Hearing(client, history());
            assert_eq!(hearing.asks(op, zxid, err.0), Ok(()));
            hearing
        }

        /// The watch that the second making of `/a` would fire may be used up by the first.
        fn perhaps() -> Hearing {
            let items = vec![(List::Exist, "/a".into())];
            let seen = Zxid::ZERO;
            Hearing::after(Op::SetWatches { seen, items }, 2, ErrorCode::OK)
        }

        /// The watch that the second making of `/a` fires is there.
        fn sure() -> Hearing {
            let read = Op::Read {
                path: "/a".into(),
                watch: true,
                exists: true,
            };
            Hearing::after(read, 2, ErrorCode::NO_NODE)
        }

        /// A request and its reply.
        fn asks(&mut self, op: Op, zxid: i64, err: i32) -> Result<(), String> {
            let xid = self.0.send(op, Zxid::ZERO, 9).xid;
            self.is_answered(xid, zxid, err)
        }

        /// The reply to the oldest request.
        fn is_answered(&mut self, xid: i32, zxid: i64, err: i32) -> Result<(), String> {
            let mut wire = Wire::default();
            wire.i32(xid).i64(zxid).i32(err);
            self.0.receive(&wire.frame(), &self.1).map(|_| ())
        }

        fn checks(&mut self, remove: bool, err: i32) -> Result<(), String> {
            let path = "/a".into();
            self.asks(
                Op::CheckWatches {
                    path,
                    of: 2,
                    remove,
                },
                2,
                err,
            )
        }

        /// That `/a` was made again.
        fn is_told(&mut self) -> Result<(), String> {
            let mut wire = Wire::default();
            wire.i32(-1).i64(3).i32(0);
            wire.i32(1).i32(3).buf(Some(b"/a"));
            self.0.receive(&wire.frame(), &self.1).map(|_| ())
        }

        /// A reply shows that `/a` was made again.
        fn sees(&mut self) -> Result<(), String> {
            self.asks(Op::Ping, 3, OK)
        }
    }

    #[test]
    fn a_watch_that_is_there_for_sure_fires_once() {
        let mut told = Hearing::sure();
        told.is_told().unwrap();
        told.is_told().unwrap_err();
        Hearing::sure().sees().unwrap_err();
        Hearing::sure().checks(false, NO_WATCHER).unwrap_err();
    }

    #[test]
    fn a_watch_that_is_there_perhaps_fires_once_or_never() {
        let mut told = Hearing::perhaps();
        told.is_told().unwrap();
        told.is_told().unwrap_err();
        let mut silent = Hearing::perhaps();
        silent.sees().unwrap();
        silent.is_told().unwrap_err();
    }

    #[test]
    fn what_a_client_hears_of_a_watch_settles_whether_it_is_there() {
        let mut there = Hearing::perhaps();
        there.checks(false, OK).unwrap();
        there.checks(false, NO_WATCHER).unwrap_err();
        let mut there = Hearing::perhaps();
        there.checks(false, OK).unwrap();
        there.sees().unwrap_err();
        for (remove, err) in [(true, OK), (true, NO_WATCHER), (false, NO_WATCHER)] {
            let mut gone = Hearing::perhaps();
            gone.checks(remove, err).unwrap();
            gone.is_told().unwrap_err();
        }
        // A read leaves it again.
        let mut left = Hearing::perhaps();
        let (path, watch, exists) = ("/a".into(), true, true);
        let read = Op::Read {
            path,
            watch,
            exists,
        };
        left.asks(read, 2, ErrorCode::NO_NODE.0).unwrap();
        left.sees().unwrap_err();
    }

    #[test]
    fn a_client_whose_watches_fit_in_part_does_without_the_rest_in_the_end() {
        let mut hearing = Hearing::sure();
        let read = Op::Read {
            path: "/b".into(),
            watch: true,
            exists: true,
        };
        hearing.asks(read, 2, ErrorCode::NO_NODE.0).unwrap();
        let connect = |client: &mut Client| {
            client.connect(1000, 1000);
            client.phase = Phase::Online;
        };
        for _ in 0..=UNLUCKY_MAX {
            connect(&mut hearing.0);
            let first = hearing.0.set_again(1, true).unwrap();
            let second = hearing.0.set_again(1, true).unwrap();
            let xid = hearing.0.send(first, Zxid::ZERO, 9).xid;
            // There is no room for it.
            hearing.0.send(second, Zxid::ZERO, 9);
            hearing.is_answered(xid, 2, OK).unwrap();
            hearing.0.disconnected();
        }
        connect(&mut hearing.0);
        assert!(hearing.0.set_again(1, true).is_some());
        assert_eq!(hearing.0.set_again(1, true), None);
    }
}
