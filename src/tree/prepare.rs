//! Validation of a request against the tree overlaid with what is ordered and not yet applied, and
//! the making of its transaction (docs/protocol.md §2.5, docs/peer-protocol.md §3.3).
//!
//! The order of the checks is part of the protocol: each function below reads like its row there.

use super::Tree;
use super::access::{ACL_ENTRIES_MAX, Checks};
use super::apply::new_node;
use super::hash::{PathHash, PathHasher};
use super::path::{has_shape, in_digest, is_protected, is_valid, parent_path};
use super::quota::OverQuota;
use super::reaped::Due;
use super::stored::{NodeStat, TTL_MAX, digest, is_session, owner_session, restated};
use crate::budget::Budget;
use crate::txn::{
    Acl, AuthId, CreateRequest, CreateTxn, Data, Entry, RawAcl, Txn, TxnDigest, TxnHeader,
    WriteRequest,
};
use crate::types::{DetHashMap, DetHashSet, ErrorCode, OpCode, SessionId, WallMs, Zxid};
use hashbrown::hash_table::{self, HashTable};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Switches that the operator sets.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `extendedTypesEnabled`: TTL nodes; off answers −6.
    pub extended_types: bool,
    /// Entries of an access control list, as sent and as stored; more answer −114.
    pub acl_entries_max: usize,
    /// `enforceQuota`: what would exceed a hard limit answers −125.
    pub enforce_quota: bool,
    /// `reconfigEnabled`: off answers −123, on −6, because the server runs alone.
    pub reconfig_enabled: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            extended_types: false,
            acl_entries_max: ACL_ENTRIES_MAX,
            enforce_quota: false,
            reconfig_enabled: false,
        }
    }
}

/// Whether the requester's session may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It may.
    Live,
    /// closeSession has been ordered, or the session is unknown: −112.
    Closing,
}

/// What a transaction gets from outside.
#[derive(Clone, Copy, Debug)]
pub struct PrepareContext<'a> {
    /// Its place in the order.
    pub zxid: Zxid,
    /// Wall clock.
    pub time: WallMs,
    /// Requester.
    pub session: SessionId,
    /// The request's xid.
    pub cxid: i32,
    /// Of the requester.
    pub session_state: SessionState,
    /// Of the requester's connection.
    pub credentials: &'a [AuthId],
    /// Switches.
    pub rules: &'a Rules,
}

/// A transaction that is ready for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The transaction: an error transaction if the request failed.
    pub entry: Entry,
    /// Why it failed; for a multi that of its failing operation.
    pub error: Option<ErrorCode>,
}

/// How far the validation of a multi has come, and what it has made so far.
#[derive(Debug)]
pub struct MultiPreparation {
    txns: Vec<(OpCode, Txn)>,
    /// Of the operation that has failed.
    error: Option<ErrorCode>,
    /// The digest before the first operation.
    digest: u64,
    checks: Checks,
}

/// A node as it will be when everything ordered so far is applied.
#[derive(Clone, Debug)]
struct Shadow {
    stored: NodeStat,
    digest: u32,
    acl: Arc<[Acl]>,
    children: i32,
    /// Bytes of data.
    data: usize,
}

impl Shadow {
    /// Changes the stat and nothing else.
    fn restat(&mut self, change: impl FnOnce(&mut NodeStat)) {
        let before = self.stored;
        change(&mut self.stored);
        self.digest = restated(self.digest, &before, &self.stored);
    }
}

/// The latest pending record of a path; `None` is a deleted node.
type Pending = (Zxid, Option<Shadow>);

/// A path with its hash.
#[derive(Clone, Debug)]
struct Key {
    path: Arc<str>,
    hash: PathHash,
}

impl Key {
    fn is_of(&self, path: &str, hash: PathHash) -> bool {
        self.hash == hash && *self.path == *path
    }
}

/// Pending changes over a tree.
#[derive(Debug)]
pub struct Overlay {
    pending: HashTable<(Key, Pending)>,
    hasher: PathHasher,
    /// Those of the pending paths at which a session will have an ephemeral, by that session.
    ephemerals: DetHashMap<SessionId, DetHashSet<Arc<str>>>,
    /// What was touched, in order of zxid, so that `forget` needs no scan.
    touched: VecDeque<(Zxid, Key)>,
    /// The tree's digest after everything ordered so far.
    digest: u64,
    /// While a multi is validated: what its changes replaced, newest last, one for each of its entries in
    /// `touched`.
    undo: Option<Vec<(Key, Option<Pending>)>>,
    /// The tree has applied everything up to here.
    forgotten: Zxid,
    over_quota: Option<OverQuota>,
}

type Checked<T> = Result<T, ErrorCode>;

impl Overlay {
    /// Nothing pending.
    pub fn new(tree: &Tree) -> Overlay {
        Overlay {
            pending: HashTable::new(),
            hasher: PathHasher::default(),
            ephemerals: DetHashMap::default(),
            touched: VecDeque::new(),
            digest: tree.digest(),
            undo: None,
            forgotten: tree.last_zxid(),
            over_quota: None,
        }
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether an ephemeral that a session has in the tree is still its own after everything
    /// ordered so far: nobody has deleted it, or deleted it and created another one.
    pub fn is_still_owned(&self, path: &str, session: SessionId) -> bool {
        match self.pending_at(path, self.hasher.hash(path)) {
            Some((_, (_, shadow))) => shadow
                .as_ref()
                .is_some_and(|shadow| shadow.stored.owner == session.0),
            None => true,
        }
    }

    /// The tree has applied everything up to `upto`. May come while a multi is validated.
    pub fn forget(&mut self, upto: Zxid) {
        self.forgotten = upto;
        while self.touched.front().is_some_and(|(zxid, _)| *zxid <= upto) {
            let (_, key) = self.touched.pop_front().expect("just seen");
            let latest = self.pending_at(&key.path, key.hash);
            if latest.is_some_and(|(_, (zxid, _))| *zxid <= upto) {
                self.replace(key, None);
            }
        }
    }

    fn pending_at(&self, path: &str, hash: PathHash) -> Option<&(Key, Pending)> {
        self.pending
            .find(hash.spread(), |(key, _)| key.is_of(path, hash))
    }

    /// Paths that are pending, and those of them at which a session will have an ephemeral, by the index.
    pub fn counted(&self) -> (usize, usize) {
        let indexed = self.ephemerals.values().map(DetHashSet::len);
        (self.pending.len(), indexed.sum())
    }

    /// The same, from what is touched by transactions that are not applied.
    pub fn recounted(&self) -> (usize, usize) {
        let touched = self.touched.iter().map(|(_, key)| &*key.path);
        let touched: BTreeSet<&str> = touched.collect();
        let is_indexed = |(key, (_, shadow)): &&(Key, Pending)| {
            let owner = shadow.as_ref().and_then(|node| owner_session(&node.stored));
            let own = owner.and_then(|session| self.ephemerals.get(&session));
            own.is_some_and(|own| own.contains(&key.path))
        };
        let owned = self.pending.iter().filter(is_indexed).count();
        (touched.len(), owned)
    }

    /// A path that is to be pending.
    fn key(&self, path: &str, hash: PathHash) -> Key {
        match self.pending_at(path, hash) {
            Some((key, _)) => key.clone(),
            None => Key {
                path: path.into(),
                hash,
            },
        }
    }

    /// Replaces the pending record of a path, `None` where there is none, and gives the one before:
    /// the only place that does, because it keeps the index of ephemerals.
    fn replace(&mut self, key: Key, pending: Option<Pending>) -> Option<Pending> {
        let owner = owner_of(&pending);
        let hash = key.hash;
        let is_it = |(own, _): &(Key, Pending)| own.is_of(&key.path, hash);
        let found = (self.pending).entry(hash.spread(), is_it, |(key, _)| key.hash.spread());
        let before = match (found, pending) {
            (hash_table::Entry::Occupied(mut found), Some(pending)) => {
                Some(std::mem::replace(&mut found.get_mut().1, pending))
            }
            (hash_table::Entry::Occupied(found), None) => Some(found.remove().0.1),
            (hash_table::Entry::Vacant(place), Some(pending)) => {
                place.insert((key.clone(), pending));
                None
            }
            (hash_table::Entry::Vacant(_), None) => None,
        };
        let owner_before = owner_of(&before);
        if owner_before == owner {
            return before;
        }
        if let Some(session) = owner_before
            && let Some(own) = self.ephemerals.get_mut(&session)
        {
            own.remove(&key.path);
            if own.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
        if let Some(session) = owner {
            let own = self.ephemerals.entry(session).or_default();
            own.insert(key.path);
        }
        before
    }

    /// Makes the transaction of a request at once, however little of `budget` is left; a failed one
    /// leaves nothing pending.
    pub fn prepare(
        &mut self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        request: &WriteRequest,
        budget: &mut Budget,
    ) -> Prepared {
        if let WriteRequest::Multi(ops) = request {
            let mut multi = self.begin_multi(ops.len());
            let mut unlimited = Budget::UNLIMITED;
            let done = self.prepare_multi(tree, context, ops, &mut multi, &mut unlimited);
            assert!(done, "nothing stops it");
            budget.spend_part(Budget::UNLIMITED, unlimited);
            return self.finish_multi(context, multi);
        }
        assert!(self.undo.is_none(), "nothing overtakes a multi");
        let mut checks = Checks::default();
        let prepared = match self.one(tree, context, request, &mut checks) {
            Ok((op, txn)) => self.prepared(context, op, txn, None),
            Err(code) => self.prepared(context, OpCode::ERROR, Txn::Error { code }, Some(code)),
        };
        budget.spend_steps(prepared.entry.txn.steps() + checks.take_steps());
        prepared
    }

    /// Makes the transaction that deletes a container or a TTL node, if it will still be there, without children
    /// and due, after everything ordered so far (docs/protocol.md §2.5, deleteContainer). No permission is asked
    /// for: nobody but the server itself may ask for this.
    pub fn prepare_reaping(
        &mut self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        path: &Arc<str>,
        due: &Due,
    ) -> Option<Prepared> {
        assert!(self.undo.is_none(), "nothing overtakes a multi");
        let hash = self.hasher.hash(path);
        let node = self.get(tree, path, hash)?;
        if !due.is(&node.stored, node.children) {
            return None;
        }
        let above = parent_path(path)?;
        let above_hash = self.hasher.hash(above);
        let parent = self.get(tree, above, above_hash)?;
        let above = self.key(above, above_hash);
        let path = path.clone();
        let key = Key {
            path: path.clone(),
            hash,
        };
        self.gone(context.zxid, (above, Some(parent)), (key, Some(node)));
        let txn = Txn::Delete { path };
        Some(self.prepared(context, OpCode::DELETE_CONTAINER, txn, None))
    }

    fn prepared(
        &self,
        context: &PrepareContext<'_>,
        op: OpCode,
        txn: Txn,
        error: Option<ErrorCode>,
    ) -> Prepared {
        let PrepareContext {
            session,
            cxid,
            zxid,
            time,
            ..
        } = *context;
        let header = TxnHeader {
            session,
            cxid,
            zxid,
            time,
            op,
        };
        let digest = TxnDigest {
            version: TxnDigest::VERSION,
            tree: self.digest,
        };
        let digest = (op != OpCode::ERROR).then_some(digest);
        Prepared {
            entry: Entry {
                header,
                txn,
                digest,
            },
            error,
        }
    }

    /// Begins a multi of so many operations. Nothing else is prepared until it is finished.
    pub fn begin_multi(&mut self, operations: usize) -> MultiPreparation {
        assert!(self.undo.is_none(), "one multi at a time");
        self.undo = Some(Vec::new());
        MultiPreparation {
            txns: Vec::with_capacity(operations),
            error: None,
            digest: self.digest,
            checks: Checks::default(),
        }
    }

    /// Validates operations from where the preparation stands, for what [`Txn::steps`] says of each and a step
    /// of `budget` for each entry of an access control list that it compares, or takes back what those before a
    /// failed one have done. True when there is nothing left to do. Every call is
    /// given the same context and operations.
    ///
    /// Each operation sees those before it; when one fails, none has happened (docs/protocol.md §3.7).
    pub fn prepare_multi(
        &mut self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        ops: &[WriteRequest],
        multi: &mut MultiPreparation,
        budget: &mut Budget,
    ) -> bool {
        while multi.error.is_none()
            && let Some(request) = ops.get(multi.txns.len())
        {
            if budget.is_spent() {
                return false;
            }
            let done = self.one(tree, context, request, &mut multi.checks);
            let (op, txn) = done.unwrap_or_else(|code| {
                multi.error = Some(code);
                (OpCode::ERROR, Txn::Error { code })
            });
            budget.spend_steps(txn.steps() + multi.checks.take_steps());
            multi.txns.push((op, txn));
        }
        multi.error.is_none() || self.roll_back(multi, ops.len(), budget)
    }

    fn roll_back(
        &mut self,
        multi: &mut MultiPreparation,
        operations: usize,
        budget: &mut Budget,
    ) -> bool {
        while self.undo.as_ref().is_some_and(|undo| !undo.is_empty()) {
            if budget.is_spent() {
                return false;
            }
            budget.spend_steps(1);
            let undo = self.undo.as_mut().expect("a multi is validated");
            let (key, before) = undo.pop().expect("not empty");
            self.touched.pop_back();
            // What the tree has is not pending any more.
            let before = before.filter(|(zxid, _)| *zxid > self.forgotten);
            self.replace(key, before);
        }
        self.digest = multi.digest;
        let behind = Txn::Error {
            code: ErrorCode::RUNTIME_INCONSISTENCY,
        };
        multi.txns.resize(operations, (OpCode::ERROR, behind));
        true
    }

    /// The transaction of a multi with which [`Overlay::prepare_multi`] is through.
    pub fn finish_multi(
        &mut self,
        context: &PrepareContext<'_>,
        multi: MultiPreparation,
    ) -> Prepared {
        self.undo = None;
        let txn = Txn::Multi(multi.txns);
        self.prepared(context, OpCode::MULTI, txn, multi.error)
    }

    fn one(
        &mut self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        request: &WriteRequest,
        checks: &mut Checks,
    ) -> Checked<(OpCode, Txn)> {
        match request {
            WriteRequest::Create(create) => self.create(tree, context, create, checks),
            WriteRequest::Delete { path, version } => self
                .delete(tree, context, path, *version, checks)
                .map(|txn| (OpCode::DELETE, txn)),
            WriteRequest::SetData {
                path,
                data,
                version,
            } => self
                .set_data(tree, context, path.as_ref(), data, *version, checks)
                .map(|txn| (OpCode::SET_DATA, txn)),
            WriteRequest::SetAcl { path, acl, version } => self
                .set_acl(
                    tree,
                    context,
                    path.as_ref(),
                    acl.as_deref(),
                    *version,
                    checks,
                )
                .map(|txn| (OpCode::SET_ACL, txn)),
            WriteRequest::Check { path, version } => self
                .check(tree, context, path.as_ref(), *version, checks)
                .map(|txn| (OpCode::CHECK, txn)),
            WriteRequest::Reconfig => {
                require(context.rules.reconfig_enabled, ErrorCode::RECONFIG_DISABLED)?;
                live(context)?;
                Err(ErrorCode::UNIMPLEMENTED)
            }
            WriteRequest::CreateSession { timeout_ms } => Ok((
                OpCode::CREATE_SESSION,
                Txn::CreateSession {
                    timeout_ms: *timeout_ms,
                },
            )),
            WriteRequest::CloseSession => {
                Ok((OpCode::CLOSE_SESSION, self.close_session(tree, context)))
            }
            WriteRequest::Multi(_) => Err(ErrorCode::MARSHALLING),
        }
    }

    fn create(
        &mut self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        request: &CreateRequest,
        checks: &mut Checks,
    ) -> Checked<(OpCode, Txn)> {
        let (op, mode) = create_mode(request, context.rules)?;
        live(context)?;
        let asked = &request.path;
        require(has_shape(asked), ErrorCode::BAD_ARGUMENTS)?;
        let (acl, rules) = (request.acl.as_deref(), context.rules);
        let acl = checks.normalise(acl, context.credentials, rules.acl_entries_max);
        let acl = acl.ok_or(ErrorCode::INVALID_ACL)?;
        let above = parent_path(asked).expect("its shape was checked");
        let above_hash = self.hasher.hash(above);
        let mut parent = (self.get(tree, above, above_hash)).ok_or(ErrorCode::NO_NODE)?;
        require(
            checks.allow(&parent.acl, Acl::CREATE, context.credentials),
            ErrorCode::NO_AUTH,
        )?;
        let path: Arc<str> = match mode.sequential {
            true => format!("{asked}{:010}", parent.stored.cversion).into(),
            false => asked.clone(),
        };
        require(is_valid(&path), ErrorCode::BAD_ARGUMENTS)?;
        let hash = self.hasher.hash(&path);
        require(
            self.get(tree, &path, hash).is_none(),
            ErrorCode::NODE_EXISTS,
        )?;
        require(
            !is_session(parent.stored.owner),
            ErrorCode::NO_CHILDREN_FOR_EPHEMERALS,
        )?;
        let data_len = request.data.as_ref().map_or(0, |data| data.len());
        self.check_quota(tree, context.rules, &path, (1, data_len as i64), checks)?;

        let parent_digest = parent.digest;
        // Only ever raised, as where it is applied: at its end the counter sticks, and pzxid with it.
        let cversion = parent.stored.cversion.saturating_add(1);
        if cversion > parent.stored.cversion {
            parent.restat(|stored| {
                stored.cversion = cversion;
                stored.pzxid = context.zxid;
            });
        }
        parent.children += 1;
        let txn = CreateTxn {
            path: path.clone(),
            data: request.data.clone(),
            acl: acl.clone(),
            ephemeral: mode.ephemeral,
            parent_cversion: parent.stored.cversion,
            ttl_ms: request.ttl_ms,
        };
        let PrepareContext {
            session,
            cxid,
            zxid,
            time,
            ..
        } = *context;
        let header = TxnHeader {
            session,
            cxid,
            zxid,
            time,
            op,
        };
        let stored = new_node(&header, op, &txn);
        let shadow = Shadow {
            stored,
            digest: digest(&path, txn.data.as_deref(), &stored),
            acl,
            children: 0,
            data: data_len,
        };
        let above = self.key(above, above_hash);
        self.put(context.zxid, above, parent_digest, Some(parent));
        self.put(context.zxid, Key { path, hash }, 0, Some(shadow));
        Ok((op, Txn::Create(txn)))
    }

    fn delete(
        &mut self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        path: &Arc<str>,
        version: i32,
        checks: &mut Checks,
    ) -> Checked<Txn> {
        live(context)?;
        require(
            has_shape(path) && !is_protected(path),
            ErrorCode::BAD_ARGUMENTS,
        )?;
        let above = parent_path(path).expect("its shape was checked");
        let above_hash = self.hasher.hash(above);
        let parent = (self.get(tree, above, above_hash)).ok_or(ErrorCode::NO_NODE)?;
        require(
            checks.allow(&parent.acl, Acl::DELETE, context.credentials),
            ErrorCode::NO_AUTH,
        )?;
        let hash = self.hasher.hash(path);
        let node = self.get(tree, path, hash).ok_or(ErrorCode::NO_NODE)?;
        next_version(node.stored.version, version)?;
        require(node.children == 0, ErrorCode::NOT_EMPTY)?;
        let above = self.key(above, above_hash);
        let path = path.clone();
        let key = Key {
            path: path.clone(),
            hash,
        };
        self.gone(context.zxid, (above, Some(parent)), (key, Some(node)));
        Ok(Txn::Delete { path })
    }

    fn set_data(
        &mut self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        path: Option<&Arc<str>>,
        data: &Data,
        version: i32,
        checks: &mut Checks,
    ) -> Checked<Txn> {
        let (path, hash, mut node) = self.existing(tree, context, path)?;
        require(
            checks.allow(&node.acl, Acl::WRITE, context.credentials),
            ErrorCode::NO_AUTH,
        )?;
        let data_len = data.as_ref().map_or(0, |data| data.len());
        let longer = data_len as i64 - node.data as i64;
        self.check_quota(tree, context.rules, path, (0, longer), checks)?;
        let version = next_version(node.stored.version, version)?;
        let before = node.digest;
        node.data = data_len;
        node.stored.version = version;
        node.stored.mzxid = context.zxid;
        node.stored.mtime = context.time.0;
        node.digest = digest(path, data.as_deref(), &node.stored);
        let path = path.clone();
        let key = Key {
            path: path.clone(),
            hash,
        };
        self.put(context.zxid, key, before, Some(node));
        Ok(Txn::SetData {
            path,
            data: data.clone(),
            version,
        })
    }

    fn set_acl(
        &mut self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        path: Option<&Arc<str>>,
        acl: Option<&[RawAcl]>,
        version: i32,
        checks: &mut Checks,
    ) -> Checked<Txn> {
        live(context)?;
        let path = path
            .filter(|p| is_valid(p))
            .ok_or(ErrorCode::BAD_ARGUMENTS)?;
        let acl = checks
            .normalise(acl, context.credentials, context.rules.acl_entries_max)
            .ok_or(ErrorCode::INVALID_ACL)?;
        let hash = self.hasher.hash(path);
        let mut node = self.get(tree, path, hash).ok_or(ErrorCode::NO_NODE)?;
        require(
            checks.allow(&node.acl, Acl::ADMIN, context.credentials),
            ErrorCode::NO_AUTH,
        )?;
        let version = next_version(node.stored.aversion, version)?;
        let before = node.digest;
        node.restat(|stored| stored.aversion = version);
        node.acl = acl.clone();
        let path = path.clone();
        let key = Key {
            path: path.clone(),
            hash,
        };
        self.put(context.zxid, key, before, Some(node));
        Ok(Txn::SetAcl { path, acl, version })
    }

    fn check(
        &self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        path: Option<&Arc<str>>,
        version: i32,
        checks: &mut Checks,
    ) -> Checked<Txn> {
        let (path, _, node) = self.existing(tree, context, path)?;
        require(
            checks.allow(&node.acl, Acl::READ, context.credentials),
            ErrorCode::NO_AUTH,
        )?;
        next_version(node.stored.version, version)?;
        Ok(Txn::Check {
            path: path.clone(),
            version,
        })
    }

    /// The first three rows of setData and check.
    fn existing<'p>(
        &self,
        tree: &Tree,
        context: &PrepareContext<'_>,
        path: Option<&'p Arc<str>>,
    ) -> Checked<(&'p Arc<str>, PathHash, Shadow)> {
        live(context)?;
        let path = path
            .filter(|p| is_valid(p))
            .ok_or(ErrorCode::BAD_ARGUMENTS)?;
        let hash = self.hasher.hash(path);
        let node = self.get(tree, path, hash).ok_or(ErrorCode::NO_NODE)?;
        Ok((path, hash, node))
    }

    /// Against what is applied, as Apache does; a soft limit is only remembered.
    fn check_quota(
        &mut self,
        tree: &Tree,
        rules: &Rules,
        path: &str,
        (nodes, bytes): (i64, i64),
        checks: &mut Checks,
    ) -> Checked<()> {
        if !rules.enforce_quota {
            return Ok(());
        }
        let (over, steps) = tree.check_quota(path, nodes, bytes);
        checks.add_steps(steps);
        let Some(over) = over else {
            return Ok(());
        };
        let is_hard = over.is_hard;
        self.over_quota = Some(over);
        require(!is_hard, ErrorCode::QUOTA_EXCEEDED)
    }

    /// The limit of a quota that was exceeded last, if any was since the last call.
    pub fn take_over_quota(&mut self) -> Option<OverQuota> {
        self.over_quota.take()
    }

    /// The list is what the session will own when everything before is applied.
    fn close_session(&mut self, tree: &Tree, context: &PrepareContext<'_>) -> Txn {
        let paths = self.owned(tree, context.session);
        for path in &paths {
            let above = parent_path(path).expect("a node has a parent");
            let (above_hash, hash) = (self.hasher.hash(above), self.hasher.hash(path));
            let parent = self.get(tree, above, above_hash);
            let node = self.get(tree, path, hash);
            let path = path.clone();
            let above = self.key(above, above_hash);
            self.gone(context.zxid, (above, parent), (Key { path, hash }, node));
        }
        Txn::CloseSession {
            paths: Some(paths.into_iter().collect()),
        }
    }

    /// A session's ephemerals after everything ordered so far: those in the tree, without pending
    /// deletes, with pending creates.
    ///
    /// Steps: what the session has in the tree and pending, however much others have pending.
    fn owned(&self, tree: &Tree, session: SessionId) -> BTreeSet<Arc<str>> {
        let kept = tree.ephemerals(session);
        let kept = kept.filter(|path| self.is_still_owned(path, session));
        let pending = self.ephemerals.get(&session).into_iter().flatten();
        kept.chain(pending).cloned().collect()
    }

    /// The state of a node after everything ordered so far.
    fn get(&self, tree: &Tree, path: &str, hash: PathHash) -> Option<Shadow> {
        if let Some((_, (_, shadow))) = self.pending_at(path, hash) {
            return shadow.clone();
        }
        let (_, node) = tree.nodes.get_hashed(path, hash)?;
        Some(Shadow {
            stored: node.stored(),
            digest: node.digest(),
            acl: node.acl().clone(),
            children: node.child_count(),
            data: node.data_len(),
        })
    }

    /// Takes a node away and tells its parent; each is given as it is so far.
    fn gone(
        &mut self,
        zxid: Zxid,
        (above, parent): (Key, Option<Shadow>),
        (key, node): (Key, Option<Shadow>),
    ) {
        if let Some(mut parent) = parent {
            let before = parent.digest;
            parent.restat(|stored| stored.pzxid = zxid);
            parent.children -= 1;
            self.put(zxid, above, before, Some(parent));
        }
        let before = node.map_or(0, |node| node.digest);
        self.put(zxid, key, before, None);
    }

    /// The only place that changes what is pending: keeps the digest, and what a multi needs to
    /// undo. `before` is the digest of the node so far, 0 if there is none.
    fn put(&mut self, zxid: Zxid, key: Key, before: u32, shadow: Option<Shadow>) {
        if in_digest(&key.path) {
            let after = shadow.as_ref().map_or(0, |shadow| shadow.digest);
            let without = self.digest.wrapping_sub(u64::from(before));
            self.digest = without.wrapping_add(u64::from(after));
        }
        let before = self.replace(key.clone(), Some((zxid, shadow)));
        if let Some(undo) = &mut self.undo {
            undo.push((key.clone(), before));
        }
        self.touched.push_back((zxid, key));
    }
}

/// The session that will have an ephemeral where this is pending.
fn owner_of(pending: &Option<Pending>) -> Option<SessionId> {
    let (_, shadow) = pending.as_ref()?;
    owner_session(&shadow.as_ref()?.stored)
}

/// What the flags of a create ask for.
struct Mode {
    ephemeral: bool,
    sequential: bool,
}

/// Rows 1 to 3 of create, and the mismatch table of docs/protocol.md §1.5: the type of the transaction
/// and what the flags mean. TTL requests whose flags and TTL contradict each other are refused, whether TTLs
/// are switched on or not: a transaction of type 21 must have a TTL that can be applied.
fn create_mode(request: &CreateRequest, rules: &Rules) -> Checked<(OpCode, Mode)> {
    let flags = request.flags;
    require((0..=6).contains(&flags), ErrorCode::BAD_ARGUMENTS)?;
    let (with_ttl, asks_for_ttl) = (matches!(flags, 5 | 6), request.op == OpCode::CREATE_TTL);
    require(!with_ttl || rules.extended_types, ErrorCode::UNIMPLEMENTED)?;
    let fits = !with_ttl || (1..=TTL_MAX).contains(&request.ttl_ms);
    require(fits && with_ttl == asks_for_ttl, ErrorCode::BAD_ARGUMENTS)?;
    let container = request.op == OpCode::CREATE_CONTAINER;
    let mode = Mode {
        ephemeral: matches!(flags, 1 | 3) && !container,
        sequential: matches!(flags, 2 | 3 | 6),
    };
    Ok((request.op, mode))
}

fn live(context: &PrepareContext<'_>) -> Checked<()> {
    require(
        context.session_state == SessionState::Live,
        ErrorCode::SESSION_EXPIRED,
    )
}

fn require(condition: bool, otherwise: ErrorCode) -> Checked<()> {
    if condition { Ok(()) } else { Err(otherwise) }
}

/// −1 matches any version; 3.9 lets the counter pass through −1.
fn next_version(current: i32, expected: i32) -> Checked<i32> {
    require(
        expected == -1 || expected == current,
        ErrorCode::BAD_VERSION,
    )?;
    Ok(current.wrapping_add(1))
}

#[cfg(test)]
impl Overlay {
    /// Digest after everything ordered so far.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// A session's ephemerals after everything ordered so far, and the same found by a walk over all
    /// that is pending.
    pub(super) fn owned_and_model(&self, tree: &Tree, session: SessionId) -> [Vec<Arc<str>>; 2] {
        let mut paths: BTreeSet<Arc<str>> = tree.ephemerals(session).cloned().collect();
        for (key, (_, shadow)) in &self.pending {
            match shadow {
                Some(shadow) if shadow.stored.owner == session.0 => {
                    paths.insert(key.path.clone());
                }
                _ => drop(paths.remove(&key.path)),
            }
        }
        [self.owned(tree, session), paths].map(Vec::from_iter)
    }

    /// How many pending paths the index of ephemerals has, by session.
    pub(super) fn pending_ephemerals(&self) -> std::collections::BTreeMap<SessionId, usize> {
        let ephemerals = self.ephemerals.iter();
        ephemerals
            .map(|(session, own)| (*session, own.len()))
            .collect()
    }

    /// What is pending, sorted: paths, the transactions that touched them last, and whether a node is there.
    pub(super) fn pending_paths(&self) -> Vec<(Arc<str>, Zxid, bool)> {
        let pending = self.pending.iter();
        let mut paths: Vec<_> = pending
            .map(|(key, (zxid, shadow))| (key.path.clone(), *zxid, shadow.is_some()))
            .collect();
        paths.sort();
        paths
    }
}
