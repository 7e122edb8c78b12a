//! What a request must become, in the state before it (docs/protocol.md §2.5, §3): the model's own validation,
//! which knows nothing of the transaction that the server has made of it.
//!
//! A draft lays changes over the newest state of the truth: those of a multi see one another, and are forgotten
//! together.

use super::draw::TTLS_END;
use super::identity::Who;
use super::names::{has_shape, is_legal};
use super::op::{Kind, Op};
use super::truth::{Change, Effects, Node, Truth, WatchKind, parent};
use crate::txn::{Acl, CreateTxn, Data, Entry, Txn, TxnHeader};
use crate::types::{ErrorCode, OpCode, SessionId};
use std::sync::Arc;

/// What nobody can delete.
const PROTECTED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// Changes over the newest state.
pub(super) struct Draft<'a> {
    pub(super) truth: &'a Truth,
    pub(super) header: &'a TxnHeader,
    pub(super) effects: Effects,
}

type Made = Result<(OpCode, Txn), ErrorCode>;

fn require(condition: bool, otherwise: ErrorCode) -> Result<(), ErrorCode> {
    if condition { Ok(()) } else { Err(otherwise) }
}

/// What setData, setACL and check look at first.
fn legal(path: &str) -> Result<(), ErrorCode> {
    require(is_legal(path), ErrorCode::BAD_ARGUMENTS)
}

fn matches(version: i32, asked: i32) -> Result<(), ErrorCode> {
    require(asked == -1 || asked == version, ErrorCode::BAD_VERSION)
}

pub(super) fn bytes(data: &Data) -> i64 {
    data.as_ref().map_or(0, |data| data.len() as i64)
}

impl<'a> Draft<'a> {
    /// For the transaction that follows the truth's last one, and of which this is the header.
    pub(super) fn new(truth: &'a Truth, header: &'a TxnHeader) -> Draft<'a> {
        Draft {
            truth,
            header,
            effects: Effects::default(),
        }
    }

    /// The node after everything so far.
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        match self.effects.nodes.get(path) {
            Some(node) => node.as_ref(),
            None => self.truth.now(path),
        }
    }

    pub(super) fn put(&mut self, path: &Arc<str>, node: Option<Node>) {
        self.effects.nodes.insert(path.clone(), node);
    }

    /// What the request must become. What `done` says counts only where the protocol leaves it open: totals of
    /// quotas are those of what was applied.
    pub(super) fn request(&mut self, op: &Op, who: &Who, done: &Txn) -> (OpCode, Txn) {
        let made = match op {
            Op::Multi(ops) => return self.multi(ops, who, done),
            Op::Close => self.lives().map(|()| {
                let paths = Some(self.close(self.header.session));
                (OpCode::CLOSE_SESSION, Txn::CloseSession { paths })
            }),
            op => self.one(op, who, done),
        };
        made.unwrap_or_else(|code| (OpCode::ERROR, Txn::Error { code }))
    }

    fn multi(&mut self, ops: &[Op], who: &Who, done: &Txn) -> (OpCode, Txn) {
        let error = |code| (OpCode::ERROR, Txn::Error { code });
        let nothing = Txn::Multi(Vec::new());
        let mut made = Vec::new();
        for (n, op) in ops.iter().enumerate() {
            let done = match done {
                Txn::Multi(done) => done.get(n).map_or(&nothing, |(_, txn)| txn),
                _ => &nothing,
            };
            match self.one(op, who, done) {
                Ok(one) => made.push(one),
                Err(code) => {
                    made.push(error(code));
                    made.resize(ops.len(), error(ErrorCode::RUNTIME_INCONSISTENCY));
                    self.effects = Effects::default();
                    break;
                }
            }
        }
        (OpCode::MULTI, Txn::Multi(made))
    }

    /// One operation, each check in its order.
    fn one(&mut self, op: &Op, who: &Who, done: &Txn) -> Made {
        match op {
            Op::Create { .. } => self.create(op, who, done),
            Op::Delete { path, version } => self.delete(path, *version, who),
            Op::SetData {
                path,
                data,
                version,
            } => {
                self.lives()?;
                legal(path)?;
                let mut node = self.get(path).ok_or(ErrorCode::NO_NODE)?.clone();
                require(who.may(Acl::WRITE, &node.acl), ErrorCode::NO_AUTH)?;
                let longer = bytes(data) - bytes(&node.data);
                require(
                    !self.is_over(path, (0, longer), done),
                    ErrorCode::QUOTA_EXCEEDED,
                )?;
                matches(node.version, *version)?;
                node.data = data.clone();
                node.version += 1;
                (node.mzxid, node.mtime) = (self.header.zxid, self.header.time.0);
                let (version, acl) = (node.version, node.acl.clone());
                self.effects.results.push(Some(node.clone()));
                self.put(path, Some(node));
                self.notice(path, WatchKind::Data, 3, &acl);
                self.account(path, (0, longer));
                let txn = Txn::SetData {
                    path: path.clone(),
                    data: data.clone(),
                    version,
                };
                Ok((OpCode::SET_DATA, txn))
            }
            Op::SetAcl { path, acl, version } => {
                self.lives()?;
                legal(path)?;
                let acl = who.stored(acl).ok_or(ErrorCode::INVALID_ACL)?;
                let mut node = self.get(path).ok_or(ErrorCode::NO_NODE)?.clone();
                require(who.may(Acl::ADMIN, &node.acl), ErrorCode::NO_AUTH)?;
                matches(node.aversion, *version)?;
                node.acl = acl.clone();
                node.aversion += 1;
                let txn = Txn::SetAcl {
                    path: path.clone(),
                    acl,
                    version: node.aversion,
                };
                self.effects.results.push(Some(node.clone()));
                self.put(path, Some(node));
                Ok((OpCode::SET_ACL, txn))
            }
            Op::Check { path, version } => {
                self.lives()?;
                legal(path)?;
                let node = self.get(path).ok_or(ErrorCode::NO_NODE)?;
                require(who.may(Acl::READ, &node.acl), ErrorCode::NO_AUTH)?;
                matches(node.version, *version)?;
                self.effects.results.push(None);
                let (path, version) = (path.clone(), *version);
                Ok((OpCode::CHECK, Txn::Check { path, version }))
            }
            Op::Reconfig => Err(ErrorCode::RECONFIG_DISABLED),
            _ => Err(ErrorCode::MARSHALLING),
        }
    }

    fn create(&mut self, op: &Op, who: &Who, done: &Txn) -> Made {
        let Op::Create {
            path,
            data,
            kind,
            sequential,
            acl,
            ..
        } = op
        else {
            unreachable!("a create")
        };
        let TxnHeader {
            zxid,
            session,
            time,
            ..
        } = *self.header;
        if let Kind::Ttl(ttl_ms) = kind {
            require((1..TTLS_END).contains(ttl_ms), ErrorCode::BAD_ARGUMENTS)?;
        }
        self.lives()?;
        require(has_shape(path), ErrorCode::BAD_ARGUMENTS)?;
        let acl = who.stored(acl).ok_or(ErrorCode::INVALID_ACL)?;
        let above: Arc<str> = parent(path).into();
        let mut up = self.get(&above).ok_or(ErrorCode::NO_NODE)?.clone();
        require(who.may(Acl::CREATE, &up.acl), ErrorCode::NO_AUTH)?;
        let path: Arc<str> = match sequential {
            true => format!("{path}{:010}", up.creates).into(),
            false => path.clone(),
        };
        legal(&path)?;
        require(self.get(&path).is_none(), ErrorCode::NODE_EXISTS)?;
        let is_ephemeral = up.owner != SessionId::NONE;
        require(!is_ephemeral, ErrorCode::NO_CHILDREN_FOR_EPHEMERALS)?;
        require(
            !self.is_over(&path, (1, bytes(data)), done),
            ErrorCode::QUOTA_EXCEEDED,
        )?;
        up.creates += 1;
        up.children += 1;
        up.pzxid = zxid;
        let parent_cversion = up.creates;
        let above_acl = up.acl.clone();
        self.put(&above, Some(up));
        let ephemeral = *kind == Kind::Ephemeral;
        let node = Node {
            data: data.clone(),
            acl: acl.clone(),
            version: 0,
            aversion: 0,
            creates: 0,
            children: 0,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            owner: if ephemeral { session } else { SessionId::NONE },
            kind: *kind,
            ctime: time.0,
            mtime: time.0,
        };
        self.effects.results.push(Some(node.clone()));
        self.put(&path, Some(node));
        self.notice(&path, WatchKind::Data, 1, &acl);
        self.notice(&above, WatchKind::Child, 4, &above_acl);
        self.count_new(&path);
        self.account(&path, (1, bytes(data)));
        let ttl_ms = match kind {
            Kind::Ttl(ttl_ms) => *ttl_ms,
            _ => 0,
        };
        let txn = CreateTxn {
            path,
            data: data.clone(),
            acl,
            ephemeral,
            parent_cversion,
            ttl_ms,
        };
        Ok((op.code(), Txn::Create(txn)))
    }

    fn delete(&mut self, path: &Arc<str>, version: i32, who: &Who) -> Made {
        self.lives()?;
        let may_be = has_shape(path) && !PROTECTED.contains(&&**path);
        require(may_be, ErrorCode::BAD_ARGUMENTS)?;
        let up = self.get(parent(path)).ok_or(ErrorCode::NO_NODE)?;
        require(who.may(Acl::DELETE, &up.acl), ErrorCode::NO_AUTH)?;
        let node = self.get(path).ok_or(ErrorCode::NO_NODE)?;
        matches(node.version, version)?;
        require(node.children == 0, ErrorCode::NOT_EMPTY)?;
        self.remove(path).expect("it is there, without children");
        self.effects.results.push(None);
        Ok((OpCode::DELETE, Txn::Delete { path: path.clone() }))
    }

    fn lives(&self) -> Result<(), ErrorCode> {
        let lives = self.truth.lives(self.header.session);
        require(lives, ErrorCode::SESSION_EXPIRED)
    }

    /// Takes a node away, whoever has asked for it.
    fn remove(&mut self, path: &Arc<str>) -> Result<(), String> {
        let node = self.get(path).ok_or("delete of a missing node")?.clone();
        if node.children != 0 {
            return Err("delete of a node with children".into());
        }
        let above: Arc<str> = parent(path).into();
        let mut up = self.get(&above).ok_or("delete without a parent")?.clone();
        up.children -= 1;
        up.pzxid = self.header.zxid;
        let above_acl = up.acl.clone();
        self.put(path, None);
        self.put(&above, Some(up));
        self.notice(path, WatchKind::Data, 2, &node.acl);
        self.notice(path, WatchKind::Child, 2, &node.acl);
        self.notice(&above, WatchKind::Child, 4, &above_acl);
        self.account(path, (-1, -bytes(&node.data)));
        Ok(())
    }

    /// The ephemerals of a session go: those that the list names.
    fn close(&mut self, session: SessionId) -> Vec<Arc<str>> {
        let owned = self.truth.owned(session);
        for path in &owned {
            self.remove(path).expect("an ephemeral has no children");
        }
        owned
    }

    fn notice(&mut self, path: &Arc<str>, kind: WatchKind, event: i32, acl: &Arc<[Acl]>) {
        self.effects.changes.push(Change {
            path: path.clone(),
            kind,
            event,
            acl: acl.clone(),
        });
    }

    /// A transaction that no client has asked for.
    pub(super) fn own(&mut self, entry: &Entry) -> Result<(), String> {
        let (header, txn) = (&entry.header, &entry.txn);
        match txn {
            Txn::CreateSession { .. } => Ok(()),
            Txn::CloseSession { paths } => {
                let (listed, owned) = (paths, self.close(header.session));
                match listed.as_ref() == Some(&owned) {
                    true => Ok(()),
                    false => Err(format!("the session owns {owned:?}")),
                }
            }
            _ if header.session != SessionId::NONE => Err("nobody has asked for it".into()),
            Txn::Delete { path } if header.op == OpCode::DELETE_CONTAINER => {
                let node = self.get(path).ok_or("a missing node was due")?;
                match self.truth.is_due(node, header.time.0) {
                    true => self.remove(path),
                    false => Err(format!("not due at {}: {node:?}", header.time)),
                }
            }
            Txn::Multi(deletes) => self.deletes_ahead(deletes),
            _ => Err("nobody has asked for it".into()),
        }
    }

    /// Some of the ephemerals of one session go ahead of its end, and nothing else.
    fn deletes_ahead(&mut self, deletes: &[(OpCode, Txn)]) -> Result<(), String> {
        let whose = self.truth.whose(deletes);
        let session = whose.ok_or("deletes of the server that are not of one live session")?;
        for (_, txn) in deletes {
            let Txn::Delete { path } = txn else {
                return Err(format!("no delete of an ephemeral: {txn:?}"));
            };
            let owner = self.get(path).map(|node| node.owner);
            if owner != Some(session) {
                return Err(format!("{path} is not of session {session}"));
            }
            self.remove(path)?;
        }
        Ok(())
    }
}
