//! What must have happened: the order of transactions as the member applied it, and a plain model
//! of the tree that can be asked for the state at any zxid.
//!
//! The model shares no code with `tree`. It is fed by the transactions that the member applies
//! (or replays after a crash) and checks each of them against its own idea of the state before.

use super::op::{Kind, Op};
use crate::snapshot::loss::UNSEEN_MAX;
use crate::txn::{CreateTxn, Data, Entry, Txn, TxnHeader};
use crate::types::{ErrorCode, OpCode, SessionId, WallMs, Zxid};
use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node at some zxid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Payload.
    pub data: Data,
    /// Number of setData.
    pub version: i32,
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
    /// Wall clock of the create, or of the last setData, ms.
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

/// When a watch fires: the transaction, and the type of the event.
pub type Trigger = (Zxid, i32);

struct Version {
    zxid: Zxid,
    node: Option<Node>,
}

/// Order of transactions and the states that follow from it.
#[derive(Default)]
pub struct Truth {
    entries: BTreeMap<Zxid, Arc<Entry>>,
    nodes: BTreeMap<Arc<str>, Vec<Version>>,
    /// Per (path, kind): the events that a watch would have seen, by zxid.
    triggers: BTreeMap<(Arc<str>, WatchKind), Vec<Trigger>>,
    /// The same by zxid, in order.
    noticed: BTreeMap<Zxid, Vec<(Arc<str>, WatchKind, i32)>>,
    sessions: BTreeMap<SessionId, (Zxid, Option<Zxid>)>,
    /// The transaction that each request became, by session and xid.
    executed: BTreeMap<(SessionId, i32), Zxid>,
    /// Sessions that clients know, and that went with a loss: those whose ids must not be given again.
    lost_sessions: BTreeSet<SessionId>,
    /// A container that has never had a child goes when it is older than this, ms; 0: it stays.
    pub(super) never_used_ms: i64,
    /// The numbers up to which session ids counted as given when a loss was accepted, by the zxid behind which the
    /// history went on.
    spent: BTreeMap<Zxid, i64>,
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
    /// A truth that begins at a given zxid with the fresh tree (its root counts the creates of
    /// nothing, as `/zookeeper` was attached without counting).
    pub fn new(start: Zxid) -> Truth {
        let mut truth = Truth {
            last: start,
            revealed: start,
            ..Truth::default()
        };
        let root = Node {
            data: Some(Arc::from([])),
            version: 0,
            creates: 0,
            children: 1,
            czxid: Zxid::ZERO,
            mzxid: Zxid::ZERO,
            pzxid: Zxid::ZERO,
            owner: SessionId::NONE,
            kind: Kind::Plain,
            mtime: 0,
        };
        truth.nodes.insert(
            "/".into(),
            vec![Version {
                zxid: Zxid::ZERO,
                node: Some(root),
            }],
        );
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

    /// Names of the children after `zxid`, sorted, without the reserved ones.
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

    /// Every path that exists after the last transaction.
    pub fn paths(&self) -> impl Iterator<Item = (&Arc<str>, &Node)> {
        self.nodes
            .iter()
            .filter_map(|(p, v)| Some((p, v.last()?.node.as_ref()?)))
    }

    /// The first event after `since` that a watch of this kind on this path must see.
    pub fn first_trigger(&self, path: &str, kind: WatchKind, since: Zxid) -> Option<Trigger> {
        let all = self.triggers.get(&(Arc::from(path), kind))?;
        all.get(all.partition_point(|(z, _)| *z <= since)).copied()
    }

    /// What watches notice of the transactions behind `after`, up to `to`: the transaction, the path and
    /// the kind of a watch, and the type of the event.
    pub fn noticed(
        &self,
        after: Zxid,
        to: Zxid,
    ) -> impl Iterator<Item = (Zxid, &Arc<str>, WatchKind, i32)> {
        let range = (Bound::Excluded(after), Bound::Included(to.max(after)));
        let txns = (after < to).then(|| self.noticed.range(range));
        txns.into_iter().flatten().flat_map(|(zxid, noticed)| {
            let noticed = noticed.iter();
            noticed.map(|(path, kind, event)| (*zxid, path, *kind, *event))
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
        Ok(())
    }

    fn forget_behind(&mut self, recovered: Zxid) {
        self.entries.retain(|z, _| *z <= recovered);
        for versions in self.nodes.values_mut() {
            versions.retain(|v| v.zxid <= recovered);
        }
        self.nodes.retain(|_, v| !v.is_empty());
        for events in self.triggers.values_mut() {
            events.retain(|(z, _)| *z <= recovered);
        }
        self.noticed.retain(|z, _| *z <= recovered);
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
        if zxid != self.last.next() {
            return Err(format!(
                "gap in the order: {} is followed by {zxid}",
                self.last
            ));
        }
        self.last = zxid;
        self.executes_once(entry)?;
        self.entries.insert(zxid, entry.clone());
        self.step(&entry.header, entry.header.op, &entry.txn)
            .map_err(|e| format!("{zxid} {:?}: {e}", entry.txn))
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

    fn step(&mut self, header: &TxnHeader, op: OpCode, txn: &Txn) -> Result<(), String> {
        let (zxid, session) = (header.zxid, header.session);
        match txn {
            Txn::Create(create) => self.create(header, op, create),
            Txn::Delete { path } if op == OpCode::DELETE_CONTAINER => {
                self.is_servers_own(header)?;
                let node = self.now(path).ok_or("a missing node was due")?;
                match self.is_due(node, header.time.0) {
                    true => self.delete(zxid, path),
                    false => Err(format!("not due at {}: {node:?}", header.time)),
                }
            }
            Txn::Delete { path } => self.delete(zxid, path),
            Txn::SetData {
                path,
                data,
                version,
            } => {
                let mut node = self.now(path).ok_or("setData of a missing node")?.clone();
                if *version != node.version.wrapping_add(1) {
                    return Err(format!("version {} is followed by {version}", node.version));
                }
                node.data = data.clone();
                node.version = *version;
                node.mzxid = zxid;
                node.mtime = header.time.0;
                self.put(path, zxid, Some(node));
                self.trigger(path, WatchKind::Data, zxid, 3);
                Ok(())
            }
            Txn::SetAcl { path, .. } | Txn::Check { path, .. } => self
                .now(path)
                .map(drop)
                .ok_or_else(|| "missing node".into()),
            Txn::CreateSession { .. } if self.lost_sessions.contains(&session) => Err(format!(
                "session id {session} used again, a client knows it as its own"
            )),
            Txn::CreateSession { .. } => match self.sessions.insert(session, (zxid, None)) {
                None => Ok(()),
                Some(before) => Err(format!("session id {session} used again, first {before:?}")),
            },
            Txn::CloseSession { paths } => {
                self.close(zxid, session, paths.as_deref().unwrap_or(&[]))
            }
            Txn::Error { .. } => Ok(()),
            Txn::Multi(ops) if ops.iter().any(|(_, t)| matches!(t, Txn::Error { .. })) => Ok(()),
            Txn::Multi(ops) => ops
                .iter()
                .try_for_each(|(op, txn)| self.step(header, *op, txn)),
        }
    }

    /// Nobody but the server deletes what is due.
    fn is_servers_own(&self, header: &TxnHeader) -> Result<(), String> {
        match (header.session, header.cxid) {
            (SessionId::NONE, 0) => Ok(()),
            (session, cxid) => Err(format!("request {cxid} of session {session}")),
        }
    }

    /// Whether the server may delete a node at a moment of the wall clock (docs/protocol.md §3.5, §3.6).
    fn is_due(&self, node: &Node, wall_ms: i64) -> bool {
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

    fn create(&mut self, header: &TxnHeader, op: OpCode, txn: &CreateTxn) -> Result<(), String> {
        let (zxid, session) = (header.zxid, header.session);
        if self.now(&txn.path).is_some() {
            return Err("create of an existing node".into());
        }
        let above = parent(&txn.path).to_owned();
        let mut up = self.now(&above).ok_or("create without a parent")?.clone();
        if up.owner != SessionId::NONE {
            return Err("create under an ephemeral".into());
        }
        if txn.ephemeral && !matches!(self.sessions.get(&session), Some((_, None))) {
            return Err("ephemeral of a session that does not live".into());
        }
        up.creates += 1;
        if up.creates != txn.parent_cversion {
            return Err(format!(
                "parent's cversion is {}, not {}",
                up.creates, txn.parent_cversion
            ));
        }
        up.children += 1;
        up.pzxid = zxid;
        self.put(&above, zxid, Some(up));
        let node = Node {
            data: txn.data.clone(),
            version: 0,
            creates: 0,
            children: 0,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            owner: if txn.ephemeral {
                session
            } else {
                SessionId::NONE
            },
            kind: match op {
                OpCode::CREATE_CONTAINER => Kind::Container,
                OpCode::CREATE_TTL => Kind::Ttl(txn.ttl_ms),
                _ if txn.ephemeral => Kind::Ephemeral,
                _ => Kind::Plain,
            },
            mtime: header.time.0,
        };
        self.put(&txn.path, zxid, Some(node));
        self.trigger(&txn.path, WatchKind::Data, zxid, 1);
        self.trigger(&above, WatchKind::Child, zxid, 4);
        Ok(())
    }

    fn delete(&mut self, zxid: Zxid, path: &Arc<str>) -> Result<(), String> {
        match self.now(path) {
            None => return Err("delete of a missing node".into()),
            Some(node) if node.children != 0 => return Err("delete of a node with children".into()),
            Some(_) => {}
        }
        self.put(path, zxid, None);
        let above = parent(path).to_owned();
        let mut up = self.now(&above).ok_or("delete without a parent")?.clone();
        up.children -= 1;
        up.pzxid = zxid;
        self.put(&above, zxid, Some(up));
        self.trigger(path, WatchKind::Data, zxid, 2);
        self.trigger(path, WatchKind::Child, zxid, 2);
        self.trigger(&above, WatchKind::Child, zxid, 4);
        Ok(())
    }

    fn close(&mut self, zxid: Zxid, session: SessionId, listed: &[Arc<str>]) -> Result<(), String> {
        let owned: Vec<Arc<str>> = self
            .paths()
            .filter(|(_, n)| n.owner == session)
            .map(|(p, _)| p.clone())
            .collect();
        let mut sorted = listed.to_vec();
        sorted.sort();
        if sorted != owned {
            return Err(format!(
                "closeSession lists {sorted:?}, the session owns {owned:?}"
            ));
        }
        for path in &owned {
            self.delete(zxid, path)?;
        }
        match self.sessions.get_mut(&session) {
            Some((_, closed @ None)) => *closed = Some(zxid),
            other => return Err(format!("closeSession of {session}: {other:?}")),
        }
        Ok(())
    }

    /// The outcome that a create, delete or setData of a client with open ACLs must have had, in
    /// the state before `zxid` (docs/protocol.md §2.5). `None`: not predicted.
    pub fn expected_error(&self, zxid: Zxid, op: &Op) -> Option<Option<ErrorCode>> {
        let before = Zxid(zxid.0 - 1);
        let at = |path: &str| self.node_at(path, before);
        Some(match op {
            Op::Create {
                path, sequential, ..
            } => {
                let up = at(parent(path));
                match up {
                    None => Some(ErrorCode::NO_NODE),
                    Some(up) => {
                        let name = if *sequential {
                            format!("{path}{:010}", up.creates)
                        } else {
                            path.to_string()
                        };
                        if at(&name).is_some() {
                            Some(ErrorCode::NODE_EXISTS)
                        } else if up.owner != SessionId::NONE {
                            Some(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS)
                        } else {
                            None
                        }
                    }
                }
            }
            Op::Delete { path, version } => match (at(parent(path)), at(path)) {
                (None, _) | (_, None) => Some(ErrorCode::NO_NODE),
                (_, Some(n)) if *version != -1 && n.version != *version => {
                    Some(ErrorCode::BAD_VERSION)
                }
                (_, Some(n)) if n.children != 0 => Some(ErrorCode::NOT_EMPTY),
                _ => None,
            },
            Op::SetData { path, version, .. } => match at(path) {
                None => Some(ErrorCode::NO_NODE),
                Some(n) if *version != -1 && n.version != *version => Some(ErrorCode::BAD_VERSION),
                _ => None,
            },
            _ => return None,
        })
    }

    fn now(&self, path: &str) -> Option<&Node> {
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

    fn trigger(&mut self, path: &str, kind: WatchKind, zxid: Zxid, event: i32) {
        self.triggers
            .entry((path.into(), kind))
            .or_default()
            .push((zxid, event));
        let noticed = self.noticed.entry(zxid).or_default();
        noticed.push((path.into(), kind, event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model, and the transactions that it was given.
    struct Model {
        truth: Truth,
        zxid: Zxid,
    }

    impl Model {
        fn new() -> Model {
            Model {
                truth: Truth::new(Zxid::ZERO),
                zxid: Zxid::ZERO,
            }
        }

        fn apply(&mut self, time: i64, op: OpCode, txn: Txn) -> Result<(), String> {
            self.zxid = self.zxid.next();
            let header = TxnHeader {
                session: SessionId::NONE,
                cxid: 0,
                zxid: self.zxid,
                time: WallMs(time),
                op,
            };
            let entry = Entry {
                header,
                txn,
                digest: None,
            };
            self.truth.apply(&Arc::new(entry))
        }

        fn create(&mut self, time: i64, op: OpCode, path: &str, ttl_ms: i64) {
            let up = self.truth.now(parent(path)).expect("its parent");
            let create = CreateTxn {
                path: path.into(),
                data: None,
                acl: Arc::from([]),
                ephemeral: false,
                parent_cversion: up.creates + 1,
                ttl_ms,
            };
            self.apply(time, op, Txn::Create(create)).unwrap();
        }

        fn delete(&mut self, time: i64, op: OpCode, path: &str) -> Result<(), String> {
            self.apply(time, op, Txn::Delete { path: path.into() })
        }
    }

    #[test]
    fn the_server_may_delete_what_is_due_and_nothing_else() {
        let reaps = OpCode::DELETE_CONTAINER;
        // What is done, when and to what it may be done by the server itself.
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
            let mut model = Model::new();
            let (create, container) = (OpCode::CREATE, OpCode::CREATE_CONTAINER);
            for (op, path, ttl_ms) in [
                (create, "/plain", 0),
                (container, "/never-used", 0),
                (container, "/used", 0),
                (create, "/used/x", 0),
                (container, "/has-a-child", 0),
                (create, "/has-a-child/x", 0),
                (OpCode::CREATE_TTL, "/ttl", 100),
                (OpCode::CREATE_TTL, "/renewed", 100),
                (OpCode::CREATE_TTL, "/ttl-with-a-child", 100),
                (create, "/ttl-with-a-child/x", 0),
            ] {
                model.create(0, op, path, ttl_ms);
            }
            model.delete(10, OpCode::DELETE, "/used/x").unwrap();
            let set = Txn::SetData {
                path: "/renewed".into(),
                data: None,
                version: 1,
            };
            model.apply(50, OpCode::SET_DATA, set).unwrap();
            let left: Vec<&str> = model
                .truth
                .goes_at_last()
                .map(|(path, _)| &**path)
                .collect();
            assert_eq!(left, ["/renewed", "/ttl", "/used"]);
            let done = model.delete(time, reaps, path);
            assert_eq!(done.is_ok(), is_due, "{path} at {time}: {done:?}");
        }
    }

    #[test]
    fn a_container_that_was_never_used_is_due_when_it_is_old_enough() {
        for (never_used_ms, time, is_due) in [(0, 1000, false), (50, 50, false), (50, 51, true)] {
            let mut model = Model::new();
            model.truth.never_used_ms = never_used_ms;
            model.create(0, OpCode::CREATE_CONTAINER, "/c", 0);
            let done = model.delete(time, OpCode::DELETE_CONTAINER, "/c");
            assert_eq!(done.is_ok(), is_due, "{done:?}");
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
