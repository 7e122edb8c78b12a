//! Reads of one connection on one replica, and the watches that they leave. A watch is registered
//! in the step in which its read executes, so that no change falls between (client.md §4.5).

use super::watches::{Kind, Watches};
use crate::proto::ReadRequest;
use crate::proto::reply::{self, EventType, ReplyHeader};
use crate::tree::Tree;
use crate::txn::AuthId;
use crate::txn::jute::Put;
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

/// Appends the body of one read; nothing that counts when it fails.
fn put_found(
    out: &mut Vec<u8>,
    tree: &Tree,
    who: &[AuthId],
    read: &ReadRequest,
) -> Result<(), ErrorCode> {
    match read {
        ReadRequest::Exists { path, .. } => tree.exists(path, who)?.encode_into(out),
        ReadRequest::GetData { path, .. } => {
            let (data, stat) = tree.get_data(path, who)?;
            out.put_buf(data.as_deref());
            stat.encode_into(out);
        }
        ReadRequest::GetAcl { path } => {
            let (acl, stat) = tree.get_acl(path, who)?;
            reply::put_acl(out, &acl, &stat);
        }
        ReadRequest::GetChildren {
            path, with_stat, ..
        } => {
            let (names, stat) = tree.children(path, who)?;
            reply::put_names(out, names);
            if *with_stat {
                stat.encode_into(out);
            }
        }
        ReadRequest::MultiRead { .. } | ReadRequest::SetWatches { .. } => {
            unreachable!("these are not single reads")
        }
    }
    Ok(())
}

/// Type of a successful result of multiRead (client.md §1.6).
fn multi_read_type(op: &ReadRequest) -> OpCode {
    match op {
        ReadRequest::GetData { .. } => OpCode::GET_DATA,
        _ => OpCode::GET_CHILDREN,
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
        let start = self.out.len();
        let (tree, who) = (self.tree, self.credentials);
        let mut found = Ok(());
        self.reply(ErrorCode::OK, |out| found = put_found(out, tree, who, read));
        self.leave_watch(read, found.err());
        let Err(error) = found else {
            return ErrorCode::OK;
        };
        self.out.truncate(start);
        self.reply(error, |_| {});
        error
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

    /// Each operation stands for itself; watch flags inside are ignored (client.md §3.8).
    fn multi_read(&mut self, ops: &[ReadRequest], unsupported: bool) -> (ErrorCode, u64) {
        let error = match unsupported {
            true => ErrorCode::MARSHALLING,
            false => ErrorCode::OK,
        };
        let (tree, who) = (self.tree, self.credentials);
        self.reply(error, |out| {
            for op in ops {
                let start = out.len();
                reply::put_multi_result(out, multi_read_type(op));
                if let Err(error) = put_found(out, tree, who, op) {
                    out.truncate(start);
                    reply::put_multi_error(out, error);
                }
            }
            reply::put_multi_end(out);
        });
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
