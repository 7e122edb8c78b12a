//! What must have happened: the order of transactions as the member applied it, and a plain model
//! of the tree that can be asked for the state at any zxid.
//!
//! The model shares no code with `tree`. It is fed by the transactions that the member applies
//! (or replays after a crash), and knows what every client has asked for: `draft` says what a request must
//! become in the state before it, and the transaction must be that.

use super::draft::{Draft, Effects};
use super::identity::Who;
use super::op::{Kind, Op};
use super::quota;
use crate::snapshot::loss::UNSEEN_MAX;
use crate::txn::{Acl, Data, Entry, Txn, TxnHeader};
use crate::types::{OpCode, SessionId, WallMs, Zxid};
use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node at some zxid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Payload.
    pub data: Data,
    /// Who may do what.
    pub acl: Arc<[Acl]>,
    /// Number of setData.
    pub version: i32,
    /// Number of setACL.
    pub aversion: i32,
    /// Children created so far.
    pub creates: i32,
    /// Children now.
    pub children: i32,
    /// Zxid of the create.
    pub czxid: Zxid,
    /// Zxid of the last setData.
    pub mzxid: Zxid,
    /// Zxid of the last create or delete of a child.
    pub pzxid: Zxid,
    /// Session of an ephemeral, or 0.
    pub owner: SessionId,
    /// What makes it go.
    pub kind: Kind,
    /// Wall clock of the create, ms.
    pub ctime: i64,
    /// The same, or of the last setData.
    pub mtime: i64,
}

/// Kinds of change that a one-shot watch notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchKind {
    /// Left by getData and exists: the node is created, changed or deleted.
    Data,
    /// Left by getChildren: the node is deleted, or a child is created or deleted.
    Child,
}

/// When a watch fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The transaction.
    pub zxid: Zxid,
    /// The type of the event.
    pub event: i32,
    /// Whoever may read this is told.
    pub acl: Arc<[Acl]>,
}

/// What a watch notices of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of the node.
    pub path: Arc<str>,
    /// Of the watch.
    pub kind: WatchKind,
    /// The type of the event.
    pub event: i32,
    /// Whoever may read this is told.
    pub acl: Arc<[Acl]>,
}

#[derive(Clone)]
struct Version {
    zxid: Zxid,
    node: Option<Node>,
}

/// States of a node that clients may have been shown, and that are different after a start.
const FORMER_MAX: usize = 8;

/// Order of transactions and the states that follow from it.
#[derive(Default)]
pub struct Truth {
    entries: BTreeMap<Zxid, Arc<Entry>>,
    nodes: BTreeMap<Arc<str>, Vec<Version>>,
    /// Per (path, kind): the events that a watch would have seen, by zxid.
    triggers: BTreeMap<(Arc<str>, WatchKind), Vec<Trigger>>,
    /// The same by zxid, in order.
    noticed: BTreeMap<Zxid, Vec<Change>>,
    /// The node behind each operation.
    results: BTreeMap<Zxid, Vec<Option<Node>>>,
    sessions: BTreeMap<SessionId, (Zxid, Option<Zxid>)>,
    /// What clients have asked for that becomes a transaction, by session and xid, and who they were.
    requests: BTreeMap<(SessionId, i32), (Op, Arc<Who>)>,
    /// Sessions of which the server has deleted ephemerals ahead of their end.
    ending: BTreeSet<SessionId>,
    /// What nodes with totals were before these were counted again, latest last.
    former: BTreeMap<Arc<str>, Vec<Vec<Version>>>,
    has_quotas: bool,
    /// Transactions are taken a second time, because totals were counted again.
    again: bool,
    /// A hard limit refuses.
    pub(super) enforces_quotas: bool,
    /// What is replayed was ordered by another process, by totals that are not known any more.
    pub(super) is_replaying: bool,
    /// Applied when the next transaction's request was looked at, or later than that.
    pub(super) applied: Zxid,
    /// The transaction that each request became, by session and xid.
    executed: BTreeMap<(SessionId, i32), Zxid>,
    /// Sessions that clients know, and that went with a loss: those whose ids must not be given again.
    lost_sessions: BTreeSet<SessionId>,
    /// A container that has never had a child goes when it is older than this, ms; 0: it stays.
    pub(super) never_used_ms: i64,
    /// The numbers up to which session ids counted as given when a loss was accepted, by the zxid behind which the
    /// history went on.
    spent: BTreeMap<Zxid, i64>,
    start: Zxid,
    last: Zxid,
    revealed: Zxid,
}

/// The parent's path; the root is its own.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

impl Truth {
    /// A truth that begins at a given zxid with the fresh tree (docs/protocol.md §2.3; the reserved nodes were
    /// attached without counting).
    pub fn new(start: Zxid) -> Truth {
        let mut truth = Truth {
            start,
            last: start,
            revealed: start,
            ..Truth::default()
        };
        let anyone = |perms| Acl {
            perms,
            scheme: "world".into(),
            id: "anyone".into(),
        };
        for (path, children, aversion, perms) in [
            ("/", 1, 0, Acl::ALL),
            ("/zookeeper", 2, 0, Acl::ALL),
            ("/zookeeper/quota", 0, 0, Acl::ALL),
            ("/zookeeper/config", 0, -1, Acl::READ),
        ] {
            let node = Node {
                data: Some(Arc::from([])),
                acl: [anyone(perms)].into(),
                version: 0,
                aversion,
                creates: 0,
                children,
                czxid: Zxid::ZERO,
                mzxid: Zxid::ZERO,
                pzxid: Zxid::ZERO,
                owner: SessionId::NONE,
                kind: Kind::Plain,
                ctime: 0,
                mtime: 0,
            };
            truth.put(path, Zxid::ZERO, Some(node));
        }
        truth
    }

    /// The last transaction.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// The newest transaction that a client was shown.
    pub fn shown(&self) -> Zxid {
        self.revealed
    }

    /// What follows is lost, and there was nobody who could have kept it.
    pub fn lost_behind(&mut self, zxid: Zxid) {
        self.revealed = self.revealed.min(zxid);
    }

    /// The operator has given up what follows `kept`: the history goes on behind `behind`. The clock stood at
    /// `wall` when it was the earliest while that was done.
    ///
    /// **Premise**, as `snapshot::loss` has it: the id of a lost session is at most [`UNSEEN_MAX`] behind the last
    /// one that stays or behind what the clock gives, whichever is greater. Where the clock was set back further
    /// between the making of the session and the acceptance, nothing shows the store that the id was given,
    /// and it may be given again.
    pub fn gives_up(&mut self, kept: Zxid, behind: Zxid, wall: WallMs) {
        let lost = self.sessions.iter().filter(|(_, (made, _))| *made > kept);
        self.lost_sessions.extend(lost.map(|(session, _)| *session));
        self.forget_behind(kept);
        let stay = self.sessions.keys().map(|session| session.number());
        let stay = stay.chain(self.spent.values().copied()).max().unwrap_or(0);
        let spent = stay.max(SessionId::number_at(wall)) + UNSEEN_MAX;
        self.spent.insert(behind, spent);
        self.lost_sessions
            .retain(|session| session.number() <= spent);
        (self.last, self.revealed) = (behind, behind);
    }

    /// A client has been shown this zxid: it must never disappear.
    pub fn reveal(&mut self, zxid: Zxid) {
        self.revealed = self.revealed.max(zxid);
    }

    /// The transaction with this zxid.
    pub fn entry(&self, zxid: Zxid) -> Option<&Arc<Entry>> {
        self.entries.get(&zxid)
    }

    /// Whether there are totals of quotas, or were.
    pub(super) fn has_quotas(&self) -> bool {
        self.has_quotas
    }

    /// When the session was created and, perhaps, closed.
    pub fn session(&self, id: SessionId) -> Option<(Zxid, Option<Zxid>)> {
        self.sessions.get(&id).copied()
    }

    /// The node after all transactions up to and including `zxid`.
    pub fn node_at(&self, path: &str, zxid: Zxid) -> Option<&Node> {
        let versions = self.nodes.get(path)?;
        let after = versions.partition_point(|v| v.zxid <= zxid);
        versions[..after].last()?.node.as_ref()
    }

    /// The node as clients may have been shown it at `zxid`: more than one where its totals were counted again
    /// by a later start.
    pub(super) fn nodes_at(&self, path: &str, zxid: Zxid) -> impl Iterator<Item = &Node> {
        let former = self.former.get(path).into_iter().flatten();
        let former = former.filter_map(move |versions| {
            let after = versions.partition_point(|v| v.zxid <= zxid);
            versions[..after].last()?.node.as_ref()
        });
        self.node_at(path, zxid).into_iter().chain(former)
    }

    /// Names of the children after `zxid`, sorted.
    pub fn children_at(&self, path: &str, zxid: Zxid) -> Vec<&str> {
        let prefix = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        self.nodes
            .range::<str, _>((
                std::ops::Bound::Excluded(prefix.as_str()),
                std::ops::Bound::Unbounded,
            ))
            .take_while(|(p, _)| p.starts_with(&prefix))
            .filter(|(p, _)| !p[prefix.len()..].contains('/'))
            .filter(|(p, _)| self.node_at(p, zxid).is_some())
            .map(|(p, _)| &p[prefix.len()..])
            .collect()
    }

    /// Nodes below a path after `zxid`.
    pub(super) fn below_at(&self, path: &str, zxid: Zxid) -> i32 {
        let prefix = if path == "/" { "" } else { path };
        let is_below = |below: &&Arc<str>| {
            let rest = below.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
        };
        let below = self.nodes.keys().filter(is_below);
        below
            .filter(|below| self.node_at(below, zxid).is_some())
            .count() as i32
    }

    /// The ephemerals that a session had after `zxid`, sorted.
    pub(super) fn owned_at(&self, session: SessionId, zxid: Zxid) -> Vec<&str> {
        let is_its = |path: &&Arc<str>| {
            let node = self.node_at(path, zxid);
            node.is_some_and(|node| node.owner == session)
        };
        let own = self.nodes.keys().filter(is_its);
        own.map(|path| &**path).collect()
    }

    /// Every path that exists after the last transaction.
    pub fn paths(&self) -> impl Iterator<Item = (&Arc<str>, &Node)> {
        self.nodes
            .iter()
            .filter_map(|(p, v)| Some((p, v.last()?.node.as_ref()?)))
    }

    /// The first event after `since` that a watch of this kind on this path must see.
    pub fn first_trigger(&self, path: &str, kind: WatchKind, since: Zxid) -> Option<&Trigger> {
        let all = self.triggers.get(&(Arc::from(path), kind))?;
        all.get(all.partition_point(|trigger| trigger.zxid <= since))
    }

    /// What watches notice of the transactions behind `after`, up to `to`.
    pub fn noticed(&self, after: Zxid, to: Zxid) -> impl Iterator<Item = (Zxid, &Change)> {
        let range = (Bound::Excluded(after), Bound::Included(to.max(after)));
        let txns = (after < to).then(|| self.noticed.range(range));
        txns.into_iter().flatten().flat_map(|(zxid, noticed)| {
            let noticed = noticed.iter();
            noticed.map(|change| (*zxid, change))
        })
    }

    /// The transactions behind `after`, up to `to`, that changed the node or its children.
    pub fn changes(&self, path: &str, after: Zxid, to: Zxid) -> Vec<Zxid> {
        let versions = self.nodes.get(path).map_or(&[][..], Vec::as_slice);
        let begin = versions.partition_point(|v| v.zxid <= after);
        let end = versions.partition_point(|v| v.zxid <= to);
        versions[begin..end.max(begin)]
            .iter()
            .map(|v| v.zxid)
            .collect()
    }

    /// The member came back with its last transaction at `recovered`: what is behind it is lost,
    /// which is fine if no client has seen it.
    pub fn recovered(&mut self, recovered: Zxid) -> Result<(), String> {
        if recovered < self.revealed {
            return Err(format!(
                "acknowledged state lost: {} was shown to a client, recovery ended at {recovered}",
                self.revealed
            ));
        }
        self.forget_behind(recovered);
        // Whoever was about to end lives on.
        self.ending.clear();
        Ok(())
    }

    /// The tree was read from a snapshot, and what follows in the log was applied to it: the totals of quotas are
    /// those that were counted then (docs/protocol.md §7.1). `None`: the log alone was read.
    pub(super) fn started_from(&mut self, snapshot: Option<Zxid>) -> Result<(), String> {
        self.is_replaying = true;
        let from = snapshot.unwrap_or(self.start);
        if !self.has_quotas || from > self.last {
            return Ok(());
        }
        for (path, versions) in self
            .nodes
            .iter()
            .filter(|(path, _)| quota::has_totals(path))
        {
            let former = self.former.entry(path.clone()).or_default();
            former.push(versions.clone());
            let most = former.len().saturating_sub(FORMER_MAX);
            former.drain(..most);
        }
        let later = self.entries.split_off(&Zxid(from.0 + 1));
        let (last, spent) = (self.last, self.spent.clone());
        self.forget_behind(from);
        self.spent = spent;
        if snapshot.is_some() {
            for (path, node) in self.counted_again() {
                self.put(&path, from, Some(node));
            }
        }
        self.again = true;
        let done = later.values().try_for_each(|entry| self.apply(entry));
        self.again = false;
        self.last = last;
        done.map_err(|e| format!("totals counted again at {from}: {e}"))
    }

    fn forget_behind(&mut self, recovered: Zxid) {
        self.entries.retain(|z, _| *z <= recovered);
        for versions in self.nodes.values_mut() {
            versions.retain(|v| v.zxid <= recovered);
        }
        self.nodes.retain(|_, v| !v.is_empty());
        for events in self.triggers.values_mut() {
            events.retain(|trigger| trigger.zxid <= recovered);
        }
        self.noticed.retain(|z, _| *z <= recovered);
        self.results.retain(|z, _| *z <= recovered);
        self.sessions
            .retain(|_, (created, _)| *created <= recovered);
        self.executed.retain(|_, zxid| *zxid <= recovered);
        self.spent.retain(|zxid, _| *zxid <= recovered);
        for (_, closed) in self.sessions.values_mut() {
            *closed = closed.filter(|z| *z <= recovered);
        }
        self.last = self.last.min(recovered);
    }

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
        if zxid != self.last.next() && !self.again {
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
        if is_ahead && let Txn::Multi(deletes) = &entry.txn {
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
            let key = (change.path.clone(), change.kind);
            self.triggers.entry(key).or_default().push(Trigger {
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

    /// Whether the server may delete a node at a moment of the wall clock (docs/protocol.md §3.5, §3.6).
    pub(super) fn is_due(&self, node: &Node, wall_ms: i64) -> bool {
        let age_ms = wall_ms - node.mtime;
        let is_left_over = self.never_used_ms > 0 && age_ms > self.never_used_ms;
        node.children == 0
            && match node.kind {
                Kind::Plain | Kind::Ephemeral => false,
                Kind::Container => node.creates > 0 || is_left_over,
                Kind::Ttl(ttl_ms) => age_ms > ttl_ms,
            }
    }

    /// What will be due sooner or later if nothing else happens.
    pub fn goes_at_last(&self) -> impl Iterator<Item = (&Arc<str>, &Node)> {
        self.paths()
            .filter(|(_, node)| self.is_due(node, i64::MAX / 2))
    }

    /// The node behind each operation of a transaction.
    pub(super) fn results(&self, zxid: Zxid) -> &[Option<Node>] {
        self.results.get(&zxid).map_or(&[], Vec::as_slice)
    }

    /// Whether a session is there after the last transaction.
    pub(super) fn lives(&self, session: SessionId) -> bool {
        matches!(self.sessions.get(&session), Some((_, None)))
    }

    /// The ephemerals that a session has after the last transaction, sorted.
    pub(super) fn owned(&self, session: SessionId) -> Vec<Arc<str>> {
        let own = self.paths().filter(|(_, node)| node.owner == session);
        own.map(|(path, _)| path.clone()).collect()
    }

    /// The live session whose ephemeral is the first to be deleted.
    pub(super) fn whose(&self, deletes: &[(OpCode, Txn)]) -> Option<SessionId> {
        let (_, Txn::Delete { path }) = deletes.first()? else {
            return None;
        };
        let owner = self.now(path)?.owner;
        Some(owner).filter(|owner| self.lives(*owner))
    }

    /// A state, and each later one up to `to`.
    pub(super) fn states(&self, from: Zxid, to: Zxid) -> impl Iterator<Item = Zxid> {
        let range = (Bound::Excluded(from), Bound::Included(to.max(from)));
        let later = (from < to).then(|| self.entries.range(range));
        let later = later.into_iter().flatten().map(|(zxid, _)| *zxid);
        std::iter::once(from).chain(later)
    }

    /// Every path that has ever been there.
    pub(super) fn known_paths(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(|path| &**path)
    }

    pub(super) fn now(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)?.last()?.node.as_ref()
    }

    fn put(&mut self, path: &str, zxid: Zxid, node: Option<Node>) {
        let versions = match self.nodes.get_mut(path) {
            Some(versions) => versions,
            None => self.nodes.entry(path.into()).or_default(),
        };
        match versions.last_mut() {
            Some(last) if last.zxid == zxid => last.node = node,
            _ => versions.push(Version { zxid, node }),
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
            time: WallMs(time),
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
