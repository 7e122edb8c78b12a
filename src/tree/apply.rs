//! Applying a transaction: total and idempotent (docs/peer-protocol.md §3.4, §3.6). What fails leaves nothing
//! and is only reported to the requester.

use super::index::NodeId;
use super::path::{parent_path, stored_below};
use super::stored::{CONTAINER_OWNER, NodeStat, TTL_OWNER, owner_session};
use super::{Applied, Change, ChangeKind, OpResult, Tree};
use crate::txn::{CreateTxn, Entry, Txn, TxnHeader};
use crate::types::{ErrorCode, OpCode, SessionId, Zxid};
use std::sync::Arc;

impl Tree {
    /// Applies one transaction.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        let TxnHeader {
            session, zxid, op, ..
        } = entry.header;
        let mut changes = Some(Vec::new());
        let result = self.apply_txn(&entry.header, op, &entry.txn, &mut changes);
        self.reached(zxid);
        Applied {
            zxid,
            session,
            result,
            changes: changes.unwrap_or_default(),
        }
    }

    /// As [`Tree::apply`], where nobody watches or waits for a reply.
    pub fn replay(&mut self, entry: &Entry) {
        let TxnHeader { zxid, op, .. } = entry.header;
        self.apply_txn(&entry.header, op, &entry.txn, &mut None);
        self.reached(zxid);
        self.take_quota_steps();
    }

    /// A transaction is applied whole.
    fn reached(&mut self, zxid: Zxid) {
        if zxid > self.last_zxid {
            self.last_zxid = zxid;
            self.digests.record(zxid, self.nodes.digest);
        }
    }

    fn apply_txn(
        &mut self,
        header: &TxnHeader,
        op: OpCode,
        txn: &Txn,
        changes: &mut Option<Vec<Change>>,
    ) -> OpResult {
        let done = match txn {
            Txn::Create(create) => self.apply_create(header, op, create, changes),
            Txn::Delete { path } => self
                .apply_delete(header.zxid, path, changes)
                .map(|()| OpResult::Delete),
            Txn::SetData {
                path,
                data,
                version,
            } => match self.nodes.find(path) {
                None => Err(ErrorCode::NO_NODE),
                Some(id) => {
                    note(changes, || Change {
                        kind: ChangeKind::DataChanged,
                        path: path.clone(),
                        acl: self.nodes.at(id).acl().clone(),
                        parent_acl: None,
                    });
                    let before = self.nodes.at(id).data_len();
                    self.nodes.set_data(id, path, data.clone(), |stored| {
                        stored.version = *version;
                        stored.mzxid = header.zxid;
                        stored.mtime = header.time.0;
                    });
                    let stat = self.nodes.at(id).stat();
                    let bytes = data.as_ref().map_or(0, |data| data.len());
                    self.quota_set(path, data.as_deref(), bytes as i64 - before as i64);
                    Ok(OpResult::SetData(stat))
                }
            },
            Txn::SetAcl { path, acl, version } => match self.nodes.find(path) {
                None => Err(ErrorCode::NO_NODE),
                Some(id) => {
                    self.nodes.set_acl(id, acl);
                    self.nodes
                        .restat(id, path, |stored| stored.aversion = *version);
                    Ok(OpResult::SetAcl(self.nodes.at(id).stat()))
                }
            },
            Txn::Check { .. } => Ok(OpResult::Check),
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, *timeout_ms);
                self.session_high_water.raise(header.session);
                Ok(OpResult::CreateSession {
                    timeout_ms: *timeout_ms,
                })
            }
            Txn::CloseSession { paths } => {
                self.close_session(header, paths.as_deref().unwrap_or_default(), changes);
                Ok(OpResult::CloseSession)
            }
            Txn::Error { code } => Err(*code),
            Txn::Multi(ops) => Ok(OpResult::Multi(self.apply_multi(header, ops, changes))),
        };
        done.unwrap_or_else(OpResult::Error)
    }

    /// All or nothing was decided when it was made: with an error inside it only reports.
    fn apply_multi(
        &mut self,
        header: &TxnHeader,
        ops: &[(OpCode, Txn)],
        changes: &mut Option<Vec<Change>>,
    ) -> Vec<OpResult> {
        if ops.iter().any(|(_, txn)| matches!(txn, Txn::Error { .. })) {
            let code = |txn: &Txn| match txn {
                Txn::Error { code } => *code,
                _ => ErrorCode::OK,
            };
            return ops
                .iter()
                .map(|(_, txn)| OpResult::Error(code(txn)))
                .collect();
        }
        ops.iter()
            .map(|(op, txn)| self.apply_txn(header, *op, txn, changes))
            .collect()
    }

    fn apply_create(
        &mut self,
        header: &TxnHeader,
        op: OpCode,
        create: &CreateTxn,
        changes: &mut Option<Vec<Change>>,
    ) -> Result<OpResult, ErrorCode> {
        let CreateTxn {
            path, data, acl, ..
        } = create;
        let above = stored_below(path).ok_or(ErrorCode::NO_NODE)?;
        let (parent, found) = self.nodes.locate_node(above).ok_or(ErrorCode::NO_NODE)?;
        let hash = match self.nodes.locate(path) {
            Err(hash) => hash,
            Ok(id) => {
                self.nodes.set_acl(id, acl);
                if op == OpCode::CREATE {
                    self.raise_parent(parent, above, header.zxid, create.parent_cversion);
                }
                return Err(ErrorCode::NODE_EXISTS);
            }
        };
        let cversion = match create.parent_cversion {
            -1 => found.cversion().wrapping_add(1),
            given => given,
        };
        note(changes, || Change {
            kind: ChangeKind::Created,
            path: path.clone(),
            acl: acl.clone(),
            parent_acl: Some(found.acl().clone()),
        });
        self.raise_parent(parent, above, header.zxid, cversion);
        let stored = new_node(header, op, create);
        self.nodes
            .add(parent, (path, hash), data.clone(), acl, stored);
        if let Some(owner) = owner_session(&stored) {
            self.ephemerals
                .entry(owner)
                .or_default()
                .insert(path.clone(), header.zxid);
        }
        let data_len = data.as_ref().map_or(0, |data| data.len());
        self.quota_created(path, data.as_deref());
        Ok(OpResult::Create {
            op,
            path: path.clone(),
            stat: stored.reported(0, data_len as i32),
        })
    }

    /// cversion and pzxid are only ever raised, so that replay over a newer parent converges.
    fn raise_parent(&mut self, parent: NodeId, path: &str, zxid: Zxid, cversion: i32) {
        if cversion > self.nodes.at(parent).cversion() {
            self.nodes.restat(parent, path, |stored| {
                stored.cversion = cversion;
                stored.pzxid = zxid;
            });
        }
    }

    fn apply_delete(
        &mut self,
        zxid: Zxid,
        path: &Arc<str>,
        changes: &mut Option<Vec<Change>>,
    ) -> Result<(), ErrorCode> {
        let above = parent_path(path).ok_or(ErrorCode::NO_NODE)?;
        let parent = self.nodes.find(above).ok_or(ErrorCode::NO_NODE)?;
        self.nodes.restat(parent, above, |stored| {
            stored.pzxid = stored.pzxid.max(zxid)
        });
        let id = self
            .nodes
            .find(path)
            .filter(|&id| id != parent)
            .ok_or(ErrorCode::NO_NODE)?;
        note(changes, || Change {
            kind: ChangeKind::Deleted,
            path: path.clone(),
            acl: self.nodes.at(id).acl().clone(),
            parent_acl: Some(self.nodes.at(parent).acl().clone()),
        });
        let data_len = self.nodes.at(id).data_len();
        let (ephemerals, quotas) = (&mut self.ephemerals, &mut self.quotas);
        self.nodes.remove(id, path, &mut |path, stored| {
            quotas.node_gone(path);
            let Some(owner) = owner_session(stored) else {
                return;
            };
            if let Some(paths) = ephemerals.get_mut(&owner) {
                paths.remove(path, zxid);
                if paths.paths.is_empty() {
                    ephemerals.remove(&owner);
                }
            }
        });
        self.account(path, -1, -(data_len as i64));
        Ok(())
    }

    /// The list first, then, as a safety net for logs of other servers, what remains here.
    fn close_session(
        &mut self,
        header: &TxnHeader,
        listed: &[Arc<str>],
        changes: &mut Option<Vec<Change>>,
    ) {
        for path in listed {
            let _ = self.apply_delete(header.zxid, path, changes);
        }
        let left: Vec<Arc<str>> = self.ephemerals(header.session).cloned().collect();
        for path in &left {
            let _ = self.apply_delete(header.zxid, path, changes);
        }
        self.sessions.remove(&header.session);
    }
}

/// Adds a change if somebody asks for them.
fn note(changes: &mut Option<Vec<Change>>, change: impl FnOnce() -> Change) {
    if let Some(changes) = changes {
        changes.push(change());
    }
}

/// The stat of a new node; its owner follows from the transaction, not from a request's flags.
pub(super) fn new_node(header: &TxnHeader, op: OpCode, create: &CreateTxn) -> NodeStat {
    let owner = match op {
        OpCode::CREATE_CONTAINER => CONTAINER_OWNER,
        OpCode::CREATE_TTL => TTL_OWNER | create.ttl_ms,
        _ if create.ephemeral => header.session.0,
        _ => SessionId::NONE.0,
    };
    NodeStat {
        czxid: header.zxid,
        mzxid: header.zxid,
        pzxid: header.zxid,
        ctime: header.time.0,
        mtime: header.time.0,
        version: 0,
        cversion: 0,
        aversion: 0,
        owner,
    }
}
