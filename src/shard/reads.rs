//! Reads of one connection on one replica, and the watches that they leave. A watch is registered
//! in the step in which its read executes, so that no change falls between (client.md §4.5).

use super::watches::{Kind, Watches};
use crate::proto::ReadRequest;
use crate::proto::reply::{self, EventType, ReplyHeader};
use crate::tree::{Stat, Tree};
use crate::txn::jute::Put;
use crate::txn::{Acl, AuthId, Data};
use crate::types::{ConnId, ErrorCode, OpCode, Xid, Zxid};
use std::sync::Arc;

/// Who reads, and where the answer goes.
pub(super) struct Reader<'a> {
    pub(super) tree: &'a Tree,
    pub(super) watches: &'a mut Watches,
    pub(super) conn: ConnId,
    pub(super) credentials: &'a [AuthId],
    pub(super) xid: Xid,
    pub(super) out: &'a mut Vec<u8>,
}

/// What one read found.
enum Found {
    Stat(Stat),
    Data(Data, Stat),
    Acl(Vec<Acl>, Stat),
    Names(Vec<Arc<str>>, Option<Stat>),
}

impl Found {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Found::Stat(stat) => stat.encode_into(out),
            Found::Data(data, stat) => {
                out.put_buf(data.as_deref());
                stat.encode_into(out);
            }
            Found::Acl(acl, stat) => reply::put_acl(out, acl, stat),
            Found::Names(names, stat) => {
                reply::put_names(out, names.iter().map(|name| &**name));
                if let Some(stat) = stat {
                    stat.encode_into(out);
                }
            }
        }
    }
}

impl Reader<'_> {
    /// Answers; gives the error, and the number of events that went out before the reply.
    pub(super) fn execute(&mut self, read: &ReadRequest) -> (ErrorCode, u64) {
        match read {
            ReadRequest::MultiRead { ops, unsupported } => self.multi_read(ops, *unsupported),
            ReadRequest::SetWatches {
                relative_zxid,
                data,
                exist,
                child,
            } => {
                let events = self.set_watches(*relative_zxid, data, exist, child);
                self.reply(ErrorCode::OK, |_| {});
                (ErrorCode::OK, events)
            }
            _ => (self.single(read), 0),
        }
    }

    fn single(&mut self, read: &ReadRequest) -> ErrorCode {
        let found = self.look_up(read);
        self.leave_watch(read, found.as_ref().err().copied());
        match found {
            Ok(found) => {
                self.reply(ErrorCode::OK, |out| found.put(out));
                ErrorCode::OK
            }
            Err(error) => {
                self.reply(error, |_| {});
                error
            }
        }
    }

    /// `exists` on an absent node is the only failed read that leaves a watch (client.md §2.5).
    fn leave_watch(&mut self, read: &ReadRequest, error: Option<ErrorCode>) {
        match (read, error) {
            (ReadRequest::Exists { path, watch: true }, None | Some(ErrorCode::NO_NODE))
            | (ReadRequest::GetData { path, watch: true }, None) => {
                self.watches.add(Kind::Data, path, self.conn);
            }
            (
                ReadRequest::GetChildren {
                    path, watch: true, ..
                },
                None,
            ) => {
                self.watches.add(Kind::Child, path, self.conn);
            }
            _ => {}
        }
    }

    fn look_up(&self, read: &ReadRequest) -> Result<Found, ErrorCode> {
        let (tree, who) = (self.tree, self.credentials);
        Ok(match read {
            ReadRequest::Exists { path, .. } => Found::Stat(tree.exists(path, who)?),
            ReadRequest::GetData { path, .. } => {
                let (data, stat) = tree.get_data(path, who)?;
                Found::Data(data, stat)
            }
            ReadRequest::GetAcl { path } => {
                let (acl, stat) = tree.get_acl(path, who)?;
                Found::Acl(acl, stat)
            }
            ReadRequest::GetChildren {
                path, with_stat, ..
            } => {
                let (names, stat) = tree.children(path, who)?;
                Found::Names(names, with_stat.then_some(stat))
            }
            ReadRequest::MultiRead { .. } | ReadRequest::SetWatches { .. } => {
                unreachable!("these are not single reads")
            }
        })
    }

    /// Each operation stands for itself; watch flags inside are ignored (client.md §3.8).
    fn multi_read(&mut self, ops: &[ReadRequest], unsupported: bool) -> (ErrorCode, u64) {
        let mut body = Vec::new();
        for op in ops {
            match self.look_up(op) {
                Ok(found) => {
                    let code = match found {
                        Found::Data(..) => OpCode::GET_DATA,
                        _ => OpCode::GET_CHILDREN,
                    };
                    reply::put_multi_result(&mut body, code);
                    found.put(&mut body);
                }
                Err(error) => reply::put_multi_error(&mut body, error),
            }
        }
        reply::put_multi_end(&mut body);
        let error = match unsupported {
            true => ErrorCode::MARSHALLING,
            false => ErrorCode::OK,
        };
        self.reply(error, |out| out.extend_from_slice(&body));
        (error, 0)
    }

    /// Catches up with what the client missed, and watches the rest (client.md §4.6). The events
    /// are not filtered by ACL.
    fn set_watches(
        &mut self,
        seen: Zxid,
        data: &[Arc<str>],
        exist: &[Arc<str>],
        child: &[Arc<str>],
    ) -> u64 {
        let mut events = 0;
        let mut settle = |path: &Arc<str>, kind: Kind, missed: Option<EventType>| match missed {
            Some(event) => {
                reply::event(self.out, event, reply::CATCH_UP, path);
                events += 1;
            }
            None => self.watches.add(kind, path, self.conn),
        };
        for path in data {
            let missed = match self.tree.stat(path) {
                None => Some(EventType::Deleted),
                Some(stat) => (stat.mzxid > seen).then_some(EventType::DataChanged),
            };
            settle(path, Kind::Data, missed);
        }
        for path in exist {
            let missed = self.tree.stat(path).map(|_| EventType::Created);
            settle(path, Kind::Data, missed);
        }
        for path in child {
            let missed = match self.tree.stat(path) {
                None => Some(EventType::Deleted),
                Some(stat) => (stat.pzxid > seen).then_some(EventType::ChildrenChanged),
            };
            settle(path, Kind::Child, missed);
        }
        events
    }

    fn reply(&mut self, error: ErrorCode, body: impl FnOnce(&mut Vec<u8>)) {
        let header = ReplyHeader {
            xid: self.xid,
            zxid: self.tree.last_zxid(),
            err: error,
        };
        reply::with_body(self.out, header, body);
    }
}
