//! The state machine: znodes, ACLs, ephemerals, the replicated session table, digest.
//!
//! `prepare` validates a request against the tree overlaid with pending changes and makes the
//! transaction; `apply` is total and idempotent; reads never change anything. The inline placement
//! has one tree, which the driver passes to pipeline and shard as an argument.

mod access;
mod acls;
mod allocated;
mod apply;
mod changes;
mod children;
mod creators;
mod digests;
mod footprint;
mod hash;
mod index;
mod name;
mod node;
mod path;
mod prepare;
mod quota;
mod read;
mod readers;
mod reaped;
mod slab;
mod snapshot_body;
mod stored;
mod totals;
mod verify;
mod walk;
mod walked;

#[cfg(test)]
mod tests;

pub use access::{ACL_ENTRIES_MAX, DigestAlgorithm, digest_id};
pub use changes::Contradiction;
pub(crate) use changes::{Changes, Key, Patch, session_key};
pub use creators::SessionHighWater;
pub use digests::DIGESTS_MAX;
pub use footprint::Footprint;
pub use prepare::{MultiPreparation, Overlay, PrepareContext, Prepared, Rules, SessionState};
pub use quota::OverQuota;
pub use read::{Found, Size};
pub use readers::Readers;
pub use reaped::{Due, Look, ReapCursor};
pub use snapshot_body::{BODY_VERSION, BodyError, BodyReader};
pub(crate) use snapshot_body::{BodyItem, BodyNode, BodyParser, BodyWriter};
pub use totals::Facts;
pub use verify::DigestMismatch;
pub use walk::WalkStart;
pub use walked::WalkedNode;

pub use crate::txn::Stat;

use crate::txn::Acl;
use crate::types::{ErrorCode, OpCode, SessionId, Zxid};
use digests::DigestLog;
use index::NodeId;
use node::{Nodes, ROOT, open_acl};
use quota::Quotas;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
pub(crate) use stored::NodeStat;

/// Outcome of one operation, for its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The create family.
    Create {
        /// Type of the transaction: decides whether the Stat is sent (docs/protocol.md §1.6).
        op: OpCode,
        /// Final path.
        path: Arc<str>,
        /// Of the new node.
        stat: Stat,
    },
    /// delete, deleteContainer.
    Delete,
    /// setData.
    SetData(Stat),
    /// setACL.
    SetAcl(Stat),
    /// check.
    Check,
    /// createSession.
    CreateSession {
        /// ms.
        timeout_ms: i32,
    },
    /// closeSession.
    CloseSession,
    /// multi, one per operation; a failed one has `Error` everywhere (code 0 before the failing
    /// operation, −2 after it).
    Multi(Vec<OpResult>),
    /// Failed.
    Error(ErrorCode),
}

/// One change of one node, for the watches (docs/protocol.md §4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened to the node.
    pub kind: ChangeKind,
    /// The node.
    pub path: Arc<str>,
    /// Created: the ACL in the transaction; deleted and changed: the node's before the change.
    pub acl: Arc<[Acl]>,
    /// Created and deleted: the parent's ACL, for the event of type 4.
    pub parent_acl: Option<Arc<[Acl]>>,
}

/// Kind of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Event 1 on the node, 4 on the parent.
    Created,
    /// Event 2 on the node, 4 on the parent.
    Deleted,
    /// Event 3 on the node.
    DataChanged,
}

/// What applying one transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The transaction's.
    pub zxid: Zxid,
    /// The transaction's session.
    pub session: SessionId,
    /// For the reply.
    pub result: OpResult,
    /// In the order in which events go out.
    pub changes: Vec<Change>,
}

/// Ephemerals of one session.
#[derive(Clone, Debug, Default)]
struct Ephemerals {
    paths: BTreeSet<Arc<str>>,
    /// Of all paths together.
    bytes: usize,
    /// By which transaction the paths were changed last.
    changed: Zxid,
}

impl Ephemerals {
    fn insert(&mut self, path: Arc<str>, zxid: Zxid) {
        self.changed = zxid;
        let bytes = path.len();
        if self.paths.insert(path) {
            self.bytes += bytes;
        }
    }

    fn remove(&mut self, path: &str, zxid: Zxid) {
        self.changed = zxid;
        if self.paths.remove(path) {
            self.bytes -= path.len();
        }
    }
}

/// A replica of the whole state. A clone shares payloads and ACL lists.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Nodes,
    /// Ephemerals of each session that has any, sorted.
    ephemerals: BTreeMap<SessionId, Ephemerals>,
    /// Live sessions with the timeout of their createSession, ms.
    sessions: BTreeMap<SessionId, i32>,
    session_high_water: SessionHighWater,
    quotas: Quotas,
    last_zxid: Zxid,
    digests: DigestLog,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// A fresh database: `/`, `/zookeeper`, and below it `quota` and `config` (docs/protocol.md §2.3).
    pub fn new() -> Tree {
        let mut nodes = Nodes::new();
        let mut add = |parent: NodeId, path: &str, acl: &Arc<[Acl]>, stored| {
            let hash = nodes.locate(path).expect_err("the tree is new");
            nodes.add(parent, (path, hash), Some(Arc::from([])), acl, stored)
        };
        let reserved = NodeStat::default();
        let zookeeper = add(ROOT, "/zookeeper", &open_acl(), reserved);
        add(zookeeper, "/zookeeper/quota", &open_acl(), reserved);
        let read_only: Arc<[Acl]> = Arc::from([Acl::world(Acl::READ)]);
        let config = NodeStat {
            aversion: -1,
            ..reserved
        };
        add(zookeeper, "/zookeeper/config", &read_only, config);
        Tree {
            nodes,
            ephemerals: BTreeMap::new(),
            sessions: BTreeMap::new(),
            session_high_water: SessionHighWater::default(),
            quotas: Quotas::default(),
            last_zxid: Zxid::ZERO,
            digests: DigestLog::default(),
        }
    }

    /// Zxid of the last transaction applied.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// Digest over all nodes (docs/peer-protocol.md §3.5).
    pub fn digest(&self) -> u64 {
        self.nodes.digest
    }

    /// Digests behind one of 128 transactions, since the snapshot that was read at the start; at most
    /// [`DIGESTS_MAX`], the oldest first.
    pub fn digests(&self) -> impl Iterator<Item = (Zxid, u64)> {
        self.digests.iter()
    }

    /// Nodes as Apache counts them: the root twice (docs/protocol.md §2.3).
    pub fn node_count(&self) -> usize {
        self.nodes.len() + 1
    }

    /// Ephemeral nodes.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(|own| own.paths.len()).sum()
    }

    /// Characters of the paths and bytes of the data of all nodes.
    pub fn approximate_data_size(&self) -> u64 {
        self.nodes.bytes
    }

    /// Live sessions with the timeout of their createSession, ms; sorted.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, i32)> {
        self.sessions
            .iter()
            .map(|(&id, &timeout_ms)| (id, timeout_ms))
    }

    /// Those of [`Tree::sessions`] behind a session.
    pub fn sessions_after(
        &self,
        session: Option<SessionId>,
    ) -> impl Iterator<Item = (SessionId, i32)> {
        let from = session.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.sessions.range((from, Bound::Unbounded));
        behind.map(|(&id, &timeout_ms)| (id, timeout_ms))
    }

    /// Timeout of a live session's createSession, ms.
    pub fn session_timeout(&self, id: SessionId) -> Option<i32> {
        self.sessions.get(&id).copied()
    }

    /// The largest id of a session that the server with this number ever made.
    pub fn session_high_water(&self, creator: u8) -> Option<SessionId> {
        self.session_high_water.of(creator)
    }

    /// Takes notice of an id that a server has given to a session, and that no transaction shows.
    pub fn session_id_is_spent(&mut self, id: SessionId) {
        self.session_high_water.raise(id);
    }

    /// Paths of a session's ephemerals, sorted.
    pub fn ephemerals(&self, id: SessionId) -> impl Iterator<Item = &Arc<str>> {
        self.ephemerals_after(id, None)
    }

    /// Those of [`Tree::ephemerals`] behind a path.
    pub fn ephemerals_after<'a>(
        &'a self,
        id: SessionId,
        path: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let from = path.map_or(Bound::Unbounded, Bound::Excluded);
        let own = self.ephemerals.get(&id);
        let behind = own.map(|own| own.paths.range::<str, _>((from, Bound::Unbounded)));
        behind.into_iter().flatten()
    }

    /// Those of [`Tree::ephemerals`] that begin with `prefix`, behind a path if one is given.
    ///
    /// Steps: the paths that it gives, each with its bytes.
    pub fn ephemerals_from<'a>(
        &'a self,
        id: SessionId,
        prefix: &'a str,
        behind: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let from = behind.map_or(Bound::Included(prefix), Bound::Excluded);
        let own = self.ephemerals.get(&id);
        let paths = own.map(|own| own.paths.range::<str, _>((from, Bound::Unbounded)));
        let begins = move |path: &&Arc<str>| path.starts_with(prefix);
        paths.into_iter().flatten().take_while(begins)
    }

    /// As long as this is the same, [`Tree::ephemerals`] is the same: the zxid of the last transaction that
    /// changed it, and how many there are.
    pub fn ephemerals_state(&self, id: SessionId) -> (Zxid, usize) {
        let own = self.ephemerals.get(&id);
        own.map_or((Zxid::ZERO, 0), |own| (own.changed, own.paths.len()))
    }

    /// How many ephemerals a session has, and the bytes of their paths together.
    pub fn ephemeral_size(&self, id: SessionId) -> (usize, usize) {
        let own = self.ephemerals.get(&id);
        own.map_or((0, 0), |own| (own.paths.len(), own.bytes))
    }
}
