//! Bytes between a client and the server, built and read field by field (docs/protocol.md §1): the simulator
//! shares nothing with `proto`.

use super::op::{Kind, List, Op};
use super::truth::Node;
use crate::txn::Acl;
use crate::types::OpCode;

/// Bytes of a request.
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

    fn text(&mut self, v: &str) -> &mut Wire {
        self.buf(Some(v.as_bytes()))
    }

    fn acl(&mut self, acl: &[Acl]) -> &mut Wire {
        self.i32(acl.len() as i32);
        for entry in acl {
            self.i32(entry.perms).text(&entry.scheme).text(&entry.id);
        }
        self
    }

    pub(super) fn frame(self) -> Vec<u8> {
        let mut framed = (self.0.len() as u32).to_be_bytes().to_vec();
        framed.extend(self.0);
        framed
    }

    fn list(&mut self, ops: &[Op], null_at: Option<usize>) -> &mut Wire {
        for (n, op) in ops.iter().enumerate() {
            self.i32(op.code_in_a_list().0).byte(0).i32(-1);
            match null_at == Some(n) {
                true => self.buf(None).byte(0),
                false => self.op(op),
            };
        }
        self.i32(-1).byte(1).i32(-1)
    }

    fn mode(&mut self, kind: Kind, sequential: bool) -> &mut Wire {
        match (kind, sequential) {
            (Kind::Plain, sequential) => self.i32(i32::from(sequential) << 1),
            (Kind::Ephemeral, sequential) => self.i32(1 | i32::from(sequential) << 1),
            (Kind::Container, false) => self.i32(4),
            // The type of the request says that it is a container.
            (Kind::Container, true) => self.i32(2),
            (Kind::Ttl(ttl_ms), false) => self.i32(5).i64(ttl_ms),
            (Kind::Ttl(ttl_ms), true) => self.i32(6).i64(ttl_ms),
        }
    }

    /// The body of a request.
    pub(super) fn op(&mut self, op: &Op) -> &mut Wire {
        match op {
            Op::Create {
                path,
                data,
                kind,
                sequential,
                acl,
                ..
            } => {
                self.text(path).buf(data.as_deref()).acl(acl);
                self.mode(*kind, *sequential)
            }
            Op::Delete { path, version } | Op::Check { path, version } => {
                self.text(path).i32(*version)
            }
            Op::SetData {
                path,
                data,
                version,
            } => self.text(path).buf(data.as_deref()).i32(*version),
            Op::SetAcl { path, acl, version } => self.text(path).acl(acl).i32(*version),
            Op::Reconfig => self.text("server.1=a").buf(None).buf(None).i64(-1),
            Op::Multi(ops) => self.list(ops, None),
            Op::MultiRead { ops, null_at } => self.list(ops, *null_at),
            Op::Read { path, watch, .. } | Op::Children { path, watch, .. } => {
                self.text(path).byte(u8::from(*watch))
            }
            Op::GetAcl { path } | Op::Below { path } => self.text(path),
            Op::Ephemerals { prefix } => self.text(prefix),
            Op::SetWatches { seen, items } => {
                self.i64(seen.0);
                let lasts = op.code() == OpCode::SET_WATCHES2;
                for list in &List::ALL[..if lasts { 5 } else { 3 }] {
                    let paths = items.iter().filter(|(of, _)| of == list);
                    self.i32(paths.clone().count() as i32);
                    for (_, path) in paths {
                        self.text(path);
                    }
                }
                self
            }
            Op::AddWatch { path, recursive } => self.text(path).i32(i32::from(*recursive)),
            Op::CheckWatches { path, of, .. } => self.text(path).i32(*of),
            Op::Auth { scheme, data } => self.i32(0).buf(scheme.map(str::as_bytes)).buf(*data),
            Op::Unparsable { of, len } => match *of {
                OpCode::SET_DATA => self.text("/n1").i32(*len).i32(-1),
                OpCode::MULTI | OpCode::MULTI_READ => {
                    self.i32(OpCode::EXISTS.0).byte(0).i32(-1);
                    self.text("/n1").byte(0).list(&[], None)
                }
                OpCode::ADD_WATCH | OpCode::REMOVE_WATCHES => self.text("/n1").i32(*len),
                _ => self.i32(*len).i32(-1).i32(-1),
            },
            Op::Sync => self.text("/"),
            Op::WhoAmI | Op::Ping | Op::Close => self,
        }
    }
}

/// A cursor over a reply; a reply that is too short is a violation.
pub(super) struct Reply<'a>(pub(super) &'a [u8]);

impl<'a> Reply<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(n).ok_or("reply too short")?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn i32(&mut self) -> Result<i32, String> {
        let bytes = self.take(4)?.try_into().expect("four bytes");
        Ok(i32::from_be_bytes(bytes))
    }

    pub(super) fn i64(&mut self) -> Result<i64, String> {
        let bytes = self.take(8)?.try_into().expect("eight bytes");
        Ok(i64::from_be_bytes(bytes))
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn buf(&mut self) -> Result<Option<&'a [u8]>, String> {
        match self.i32()? {
            -1 => Ok(None),
            n if n >= 0 => Ok(Some(self.take(n as usize)?)),
            n => Err(format!("length {n}")),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.buf()?.ok_or("null string")?).map_err(|e| e.to_string())
    }

    pub(super) fn texts(&mut self) -> Result<Vec<&'a str>, String> {
        (0..self.i32()?).map(|_| self.text()).collect()
    }

    pub(super) fn acl(&mut self) -> Result<Vec<Acl>, String> {
        let entry = |reply: &mut Reply<'a>| {
            Ok::<_, String>(Acl {
                perms: reply.i32()?,
                scheme: reply.text()?.into(),
                id: reply.text()?.into(),
            })
        };
        (0..self.i32()?).map(|_| entry(self)).collect()
    }

    /// Nothing follows.
    pub(super) fn ends(&self) -> Result<(), String> {
        check(self.0.is_empty(), || format!("{:?} behind it", self.0))
    }
}

/// A Stat, field by field in the order of the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    czxid: i64,
    mzxid: i64,
    ctime: i64,
    mtime: i64,
    version: i32,
    cversion: i32,
    aversion: i32,
    owner: i64,
    data_length: i32,
    children: i32,
    pzxid: i64,
}

impl Seen {
    pub(super) fn read(reply: &mut Reply<'_>) -> Result<Seen, String> {
        Ok(Seen {
            czxid: reply.i64()?,
            mzxid: reply.i64()?,
            ctime: reply.i64()?,
            mtime: reply.i64()?,
            version: reply.i32()?,
            cversion: reply.i32()?,
            aversion: reply.i32()?,
            owner: reply.i64()?,
            data_length: reply.i32()?,
            children: reply.i32()?,
            pzxid: reply.i64()?,
        })
    }

    pub(super) fn of(node: &Node) -> Seen {
        Seen {
            czxid: node.czxid.0,
            mzxid: node.mzxid.0,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: node.creates * 2 - node.children,
            aversion: node.aversion,
            owner: node.owner.0,
            data_length: node.data.as_ref().map_or(0, |data| data.len() as i32),
            children: node.children,
            pzxid: node.pzxid.0,
        }
    }

    /// The next one is that of the node.
    pub(super) fn is_of(reply: &mut Reply<'_>, node: &Node) -> Result<(), String> {
        let (seen, due) = (Seen::read(reply)?, Seen::of(node));
        check(seen == due, || format!("{seen:?}, due was {due:?}"))
    }
}

pub(super) fn check(what: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if what { Ok(()) } else { Err(why()) }
}
