//! What must have happened: the order of transactions as the member applied it, and a plain model
//! of the tree that can be asked for the state at any zxid.
//!
//! The model shares no code with `tree`. It is fed by the transactions that the member applies
//! (or replays after a crash, `order`), and knows what every client has asked for.

use super::identity::Who;
use super::op::{Kind, Op};
use crate::snapshot::loss::UNSEEN_MAX;
use crate::txn::{Acl, Data, Entry, Txn};
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

/// What a transaction changes.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) nodes: BTreeMap<Arc<str>, Option<Node>>,
    /// What watches notice, in order.
    pub(super) changes: Vec<Change>,
    /// The node behind each operation, before its totals are counted: what the reply shows.
    pub(super) results: Vec<Option<Node>>,
}

#[derive(Clone)]
pub(super) struct Version {
    zxid: Zxid,
    node: Option<Node>,
}

/// Order of transactions and the states that follow from it.
#[derive(Default)]
pub struct Truth {
    pub(super) entries: BTreeMap<Zxid, Arc<Entry>>,
    pub(super) nodes: BTreeMap<Arc<str>, Vec<Version>>,
    /// Where each session has ever had an ephemeral.
    pub(super) ephemerals: BTreeMap<SessionId, BTreeSet<Arc<str>>>,
    /// Per kind and path: the events that a watch would have seen, by zxid.
    pub(super) triggers: [BTreeMap<Arc<str>, Vec<Trigger>>; 2],
    /// The same by zxid, in order.
    pub(super) noticed: BTreeMap<Zxid, Vec<Change>>,
    /// The node behind each operation.
    pub(super) results: BTreeMap<Zxid, Vec<Option<Node>>>,
    pub(super) sessions: BTreeMap<SessionId, (Zxid, Option<Zxid>)>,
    /// What clients have asked for that becomes a transaction, by session and xid, and who they were.
    pub(super) requests: BTreeMap<(SessionId, i32), (Op, Arc<Who>)>,
    /// Sessions of which the server has deleted ephemerals ahead of their end.
    pub(super) ending: BTreeSet<SessionId>,
    /// There are totals of quotas, or were.
    pub(super) has_quotas: bool,
    /// A hard limit refuses.
    pub(super) enforces_quotas: bool,
    /// What is replayed was ordered by another process, by totals that are not known any more.
    pub(super) is_replaying: bool,
    /// Applied when the next transaction's request was looked at, or later than that.
    pub(super) applied: Zxid,
    /// The transaction that each request became, by session and xid.
    pub(super) executed: BTreeMap<(SessionId, i32), Zxid>,
    /// Sessions that clients know, and that went with a loss: those whose ids must not be given again.
    pub(super) lost_sessions: BTreeSet<SessionId>,
    /// A container that has never had a child goes when it is older than this, ms; 0: it stays.
    pub(super) never_used_ms: i64,
    /// The numbers up to which session ids counted as given when a loss was accepted, by the zxid behind which the
    /// history went on.
    pub(super) spent: BTreeMap<Zxid, i64>,
    pub(super) last: Zxid,
    pub(super) revealed: Zxid,
}

/// The version after all transactions up to and including `zxid`.
fn at(versions: &[Version], zxid: Zxid) -> Option<&Node> {
    let after = versions.partition_point(|v| v.zxid <= zxid);
    versions[..after].last()?.node.as_ref()
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

    /// When the session was created and, perhaps, closed.
    pub fn session(&self, id: SessionId) -> Option<(Zxid, Option<Zxid>)> {
        self.sessions.get(&id).copied()
    }

    /// The node after all transactions up to and including `zxid`.
    pub fn node_at(&self, path: &str, zxid: Zxid) -> Option<&Node> {
        at(self.nodes.get(path)?, zxid)
    }

    /// Names of the children after `zxid`, sorted.
    pub fn children_at(&self, path: &str, zxid: Zxid) -> Vec<&str> {
        let from = match path {
            "/" => 1,
            path => path.len() + 1,
        };
        let below = self.known_below(path);
        let children = below.filter(|(path, _)| !path[from..].contains('/'));
        let there = children.filter(|(_, versions)| at(versions, zxid).is_some());
        there.map(|(path, _)| &path[from..]).collect()
    }

    /// Nodes below a path after `zxid`.
    pub(super) fn below_at(&self, path: &str, zxid: Zxid) -> i32 {
        let below = self.known_below(path);
        below
            .filter(|(_, versions)| at(versions, zxid).is_some())
            .count() as i32
    }

    /// The nodes at or below a path after `zxid`, sorted.
    pub(super) fn at_and_below(&self, path: &str, zxid: Zxid) -> impl Iterator<Item = &Node> {
        let below = self.known_below(path);
        let below = below.filter_map(move |(_, versions)| at(versions, zxid));
        self.node_at(path, zxid).into_iter().chain(below)
    }

    /// Every path below this one that has ever been there, sorted.
    fn known_below(&self, path: &str) -> impl Iterator<Item = (&Arc<str>, &[Version])> {
        let prefix = match path {
            "/" => "/".to_owned(),
            path => format!("{path}/"),
        };
        let behind = (Bound::Excluded(prefix.as_str()), Bound::Unbounded);
        let known = self.nodes.range::<str, _>(behind);
        known
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, versions)| (path, versions.as_slice()))
    }

    /// The ephemerals that a session had after `zxid`, sorted.
    pub(super) fn owned_at(&self, session: SessionId, zxid: Zxid) -> Vec<&Arc<str>> {
        let is_its = |path: &&Arc<str>| {
            let node = self.node_at(path, zxid);
            node.is_some_and(|node| node.owner == session)
        };
        let ever = self.ephemerals.get(&session).into_iter().flatten();
        ever.filter(is_its).collect()
    }

    /// Every path that exists after the last transaction.
    pub fn paths(&self) -> impl Iterator<Item = (&Arc<str>, &Node)> {
        self.nodes
            .iter()
            .filter_map(|(p, v)| Some((p, v.last()?.node.as_ref()?)))
    }

    /// The first event after `since` that a watch of this kind on this path must see.
    pub fn first_trigger(&self, path: &str, kind: WatchKind, since: Zxid) -> Option<&Trigger> {
        let all = self.triggers[kind as usize].get(path)?;
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

    pub(super) fn forget_behind(&mut self, recovered: Zxid) {
        self.entries.retain(|z, _| *z <= recovered);
        for versions in self.nodes.values_mut() {
            versions.retain(|v| v.zxid <= recovered);
        }
        self.nodes.retain(|_, v| !v.is_empty());
        for events in self.triggers.iter_mut().flat_map(BTreeMap::values_mut) {
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

    /// The sessions that are there after the last transaction, with the timeouts of their createSessions, sorted.
    pub(super) fn living(&self) -> impl Iterator<Item = (SessionId, i32)> + '_ {
        let living = self
            .sessions
            .iter()
            .filter(|(_, (_, closed))| closed.is_none());
        living.filter_map(|(session, (made, _))| match self.entries.get(made)?.txn {
            Txn::CreateSession { timeout_ms } => Some((*session, timeout_ms)),
            _ => None,
        })
    }

    /// The ephemerals that a session has after the last transaction, sorted.
    pub(super) fn owned(&self, session: SessionId) -> Vec<Arc<str>> {
        let own = self.owned_at(session, self.last);
        own.into_iter().cloned().collect()
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

    pub(super) fn now(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)?.last()?.node.as_ref()
    }

    pub(super) fn put(&mut self, path: &str, zxid: Zxid, node: Option<Node>) {
        let owner = node.as_ref().map_or(SessionId::NONE, |node| node.owner);
        if owner != SessionId::NONE {
            let own = self.ephemerals.entry(owner).or_default();
            if !own.contains(path) {
                own.insert(path.into());
            }
        }
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
