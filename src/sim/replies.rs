//! Replies, byte by byte, against the truth at their zxid.

use super::identity::Who;
use super::op::Op;
use super::truth::{Node, Truth};
use super::wire::{Reply, Seen, check};
use crate::txn::{Acl, Txn};
use crate::types::{ErrorCode, OpCode, SessionId, Zxid};
use std::sync::Arc;

/// A request without a reply.
pub(super) struct Pending {
    pub(super) xid: i32,
    pub(super) op: Op,
    /// Who asks, by all that was sent before.
    pub(super) who: Arc<Who>,
    /// The newest state that the reply must show at least: what any client had been shown when this was sent,
    /// and of a sync whatever was committed.
    pub(super) seen: Zxid,
    /// What auth must answer; 0 for the others.
    pub(super) due: ErrorCode,
}

/// A reply behind its header.
pub(super) struct Answer<'a, 'r> {
    pub(super) truth: &'a Truth,
    pub(super) session: SessionId,
    pub(super) zxid: Zxid,
    pub(super) err: ErrorCode,
    pub(super) body: &'a mut Reply<'r>,
    /// Outcomes of the operations inside.
    pub(super) inside: Vec<(OpCode, ErrorCode)>,
}

type Checked = Result<(), String>;

/// The code of a read for which a permission is asked.
fn code_of(node: Option<&Node>, perms: i32, who: &Who) -> ErrorCode {
    match node {
        None => ErrorCode::NO_NODE,
        Some(node) if !who.may(perms, &node.acl) => ErrorCode::NO_AUTH,
        Some(_) => ErrorCode::OK,
    }
}

/// To a read the empty path is the root.
fn read_at(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

impl Answer<'_, '_> {
    /// The body, to its end.
    pub(super) fn check(&mut self, pending: &Pending) -> Checked {
        match pending.op.is_write() {
            true => self.write(pending)?,
            false => self.read(&pending.op, &pending.who)?,
        }
        self.body.ends()
    }

    // ---- writes ----

    /// The transaction is what its request had to become (`truth`), and the reply says so.
    fn write(&mut self, pending: &Pending) -> Checked {
        let entry = self.truth.entry(self.zxid);
        let entry = entry.ok_or("no transaction has this zxid")?;
        let header = &entry.header;
        let mine = (header.session, header.cxid) == (self.session, pending.xid);
        check(mine, || {
            format!("answered with another's transaction {header:?}")
        })?;
        let results = self.truth.results(self.zxid);
        match (&entry.txn, &pending.op) {
            (Txn::Error { code }, _) => self.is_code(*code),
            (Txn::Multi(done), Op::Multi(ops)) => {
                self.is_code(ErrorCode::OK)?;
                self.multi(ops, done, results)
            }
            (txn, op) => {
                self.is_code(ErrorCode::OK)?;
                self.result(op, txn, results.first().and_then(Option::as_ref))
            }
        }
    }

    fn is_code(&self, due: ErrorCode) -> Checked {
        let err = self.err;
        check(err == due, || format!("answered {err:?}, due was {due:?}"))
    }

    /// What a write answers that has succeeded.
    fn result(&mut self, op: &Op, txn: &Txn, node: Option<&Node>) -> Checked {
        let with_stat = match (op, txn) {
            (Op::Create { .. }, Txn::Create(create)) => {
                let made = self.body.text()?;
                let due = &*create.path;
                check(made == due, || format!("created {made}, due was {due}"))?;
                op.code() != OpCode::CREATE
            }
            (Op::SetData { .. } | Op::SetAcl { .. }, _) => true,
            _ => false,
        };
        match node {
            Some(node) if with_stat => Seen::is_of(self.body, node),
            None if with_stat => Err("the model knows no node".into()),
            _ => Ok(()),
        }
    }

    fn multi(&mut self, ops: &[Op], done: &[(OpCode, Txn)], results: &[Option<Node>]) -> Checked {
        let failed = done.iter().any(|(_, txn)| matches!(txn, Txn::Error { .. }));
        for (n, (op, (_, txn))) in ops.iter().zip(done).enumerate() {
            let head = (self.body.i32()?, self.body.byte()?, self.body.i32()?);
            let code = match txn {
                Txn::Error { code } => *code,
                _ => ErrorCode::OK,
            };
            self.inside.push((op.code(), code));
            if failed {
                let (head, again) = (head, self.body.i32()?);
                check((head, again) == ((-1, 0, code.0), code.0), || {
                    format!("result {head:?} {again}, due was {code:?}")
                })?;
                continue;
            }
            check(head == (op.result_code().0, 0, 0), || {
                format!("result {head:?} for {op:?}")
            })?;
            let node = results.get(n).and_then(Option::as_ref);
            self.result(op, txn, node)?;
        }
        self.end_of_results()
    }

    fn end_of_results(&mut self) -> Checked {
        let end = (self.body.i32()?, self.body.byte()?, self.body.i32()?);
        check(end == (-1, 1, -1), || {
            format!("{end:?} at the end of the results")
        })
    }

    // ---- reads ----

    fn read(&mut self, op: &Op, who: &Who) -> Checked {
        let (truth, zxid) = (self.truth, self.zxid);
        match op {
            Op::Read { path, exists, .. } if *exists && path.contains('\0') => {
                self.is_code(ErrorCode::BAD_ARGUMENTS)
            }
            Op::Read { path, exists, .. } => {
                let path = read_at(path);
                let code = code_of(truth.node_at(path, zxid), Acl::READ, who);
                self.is_code(code)?;
                match code {
                    ErrorCode::OK => self.node(path, !exists),
                    _ => Ok(()),
                }
            }
            Op::Children {
                path, with_stat, ..
            } => {
                let path = read_at(path);
                let node = truth.node_at(path, zxid);
                let code = code_of(node, Acl::READ, who);
                self.is_code(code)?;
                let Some(node) = node.filter(|_| code == ErrorCode::OK) else {
                    return Ok(());
                };
                self.names(path)?;
                match with_stat {
                    true => Seen::is_of(self.body, node),
                    false => Ok(()),
                }
            }
            Op::MultiRead { ops, null_at } => self.multi_read(ops, *null_at, who),
            Op::GetAcl { path } => {
                let node = truth.node_at(read_at(path), zxid);
                let code = code_of(node, Acl::READ | Acl::ADMIN, who);
                self.is_code(code)?;
                let Some(node) = node.filter(|_| code == ErrorCode::OK) else {
                    return Ok(());
                };
                let (list, due) = (self.body.acl()?, who.sees(&node.acl));
                check(list == due, || format!("list {list:?}, due was {due:?}"))?;
                Seen::is_of(self.body, node)
            }
            Op::Below { path } => {
                // By its empty name the root counts itself.
                let itself = i32::from(path.is_empty());
                let path = read_at(path);
                let code = code_of(truth.node_at(path, zxid), Acl::READ, who);
                self.is_code(code)?;
                if code != ErrorCode::OK {
                    return Ok(());
                }
                let (number, due) = (self.body.i32()?, truth.below_at(path, zxid) + itself);
                check(number == due, || format!("{number} nodes, due were {due}"))
            }
            Op::Ephemerals { prefix } => {
                self.is_code(ErrorCode::OK)?;
                let is_blank = prefix.chars().all(|c| c <= ' ');
                let prefix = if is_blank || &**prefix == "/" {
                    ""
                } else {
                    &**prefix
                };
                let mut paths = self.body.texts()?;
                paths.sort_unstable();
                let mut due = truth.owned_at(self.session, zxid);
                due.retain(|path| path.starts_with(prefix));
                let due: Vec<&str> = due.into_iter().map(|path| &**path).collect();
                check(paths == due, || format!("{paths:?}, due were {due:?}"))
            }
            Op::WhoAmI => {
                self.is_code(ErrorCode::OK)?;
                let shown =
                    (0..self.body.i32()?).map(|_| Ok((self.body.text()?, self.body.text()?)));
                let mut shown = shown.collect::<Result<Vec<_>, String>>()?;
                shown.sort_unstable();
                let due = who.shown();
                check(shown == due, || format!("{shown:?}, due were {due:?}"))
            }
            Op::Unparsable { .. } => self.is_code(ErrorCode::MARSHALLING),
            Op::Sync => {
                self.is_code(ErrorCode::OK)?;
                let path = self.body.text()?;
                check(path == "/", || format!("sync of {path}"))
            }
            _ => self.is_code(ErrorCode::OK),
        }
    }

    /// Data, if they are asked for, and a Stat.
    fn node(&mut self, path: &str, with_data: bool) -> Checked {
        let data = match with_data {
            true => Some(self.body.buf()?),
            false => None,
        };
        let seen = Seen::read(self.body)?;
        let node = self.truth.node_at(path, self.zxid);
        let is_it = |node: &Node| {
            seen == Seen::of(node) && data.is_none_or(|data| data == node.data.as_deref())
        };
        check(node.is_some_and(is_it), || {
            format!("{path}: {data:?} {seen:?}, truth {node:?}")
        })
    }

    /// A list of names against the children.
    fn names(&mut self, path: &str) -> Checked {
        let mut names = self.body.texts()?;
        names.sort_unstable();
        let due = self.truth.children_at(path, self.zxid);
        check(names == due, || {
            format!("children {names:?}, truth {due:?}")
        })
    }

    /// All results of a multiRead are of one state. A null path ends them, and is what the whole answers.
    fn multi_read(&mut self, ops: &[Op], null_at: Option<usize>, who: &Who) -> Checked {
        self.is_code(null_at.map_or(ErrorCode::OK, |_| ErrorCode::MARSHALLING))?;
        for op in &ops[..null_at.unwrap_or(ops.len())] {
            let (Op::Read { path, .. } | Op::Children { path, .. }) = op else {
                unreachable!("a multiRead reads")
            };
            let head = (self.body.i32()?, self.body.byte()?, self.body.i32()?);
            let node = self.truth.node_at(path, self.zxid);
            let code = code_of(node, Acl::READ, who);
            self.inside.push((op.code_in_a_list(), code));
            if code != ErrorCode::OK {
                let again = self.body.i32()?;
                check((head, again) == ((-1, 0, code.0), code.0), || {
                    format!("result {head:?} {again} for {path}, due was {code:?}")
                })?;
                continue;
            }
            check(head == (op.code_in_a_list().0, 0, 0), || {
                format!("result {head:?} for {op:?}")
            })?;
            match op {
                Op::Children { .. } => self.names(path)?,
                _ => self.node(path, true)?,
            }
        }
        self.end_of_results()
    }
}
