//! Reads of one connection on one replica, and the watches that they leave. A watch is registered
//! in the step in which its read executes, so that no change falls between (docs/protocol.md §4.5).

use super::watches::{Kind, Watches, WatchesFull};
use crate::constants::READ_STEPS_MAX;
use crate::proto::ReadRequest;
use crate::proto::reply::{self, EventType, ReplyHeader, ReplyTooLong};
use crate::tree::{Size, Tree};
use crate::txn::AuthId;
use crate::txn::jute::Put;
use crate::types::{ConnId, ErrorCode, OpCode, Xid, Zxid};
use std::sync::Arc;

/// Who reads, where the answer goes, and what it has cost.
pub(super) struct Reader<'a> {
    pub(super) tree: &'a Tree,
    pub(super) watches: &'a mut Watches,
    pub(super) conn: ConnId,
    pub(super) credentials: &'a [AuthId],
    pub(super) xid: Xid,
    pub(super) out: &'a mut Vec<u8>,
    /// The longest reply, bytes.
    pub(super) reply_max: usize,
    pub(super) cost: Cost,
}

/// What a read does, or is expected to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Bytes of replies and events written, also of those that were taken back.
    pub(super) bytes: usize,
    /// Entries of access control lists compared, children listed, watches set, nodes looked up.
    pub(super) steps: usize,
}

impl Cost {
    fn add(&mut self, other: Cost) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.steps = self.steps.saturating_add(other.steps);
    }
}

/// Of a reply: its header, a Stat, and lengths.
const REPLY_FIXED: usize = 120;

/// What a read will cost on the tree as it is; of data at least `data_min` bytes are expected.
pub(super) fn estimate(tree: &Tree, read: &ReadRequest, data_min: usize) -> Cost {
    let single = |path: &str, bytes: &dyn Fn(Size) -> usize| {
        let size = tree.size(path);
        Cost {
            bytes: bytes(size) + REPLY_FIXED,
            steps: 1 + size.acl,
        }
    };
    match read {
        ReadRequest::Exists { path, .. } => single(path, &|_| 0),
        ReadRequest::GetData { path, .. } => single(path, &|size| size.data.max(data_min)),
        ReadRequest::GetAcl { path } => single(path, &|_| tree.acl_bytes(path)),
        ReadRequest::GetChildren { path, .. } => {
            single(path, &|size| 4 * size.children + size.names)
        }
        ReadRequest::MultiRead { ops, .. } => {
            let mut cost = Cost::default();
            for op in ops {
                cost.add(estimate(tree, op, data_min));
            }
            cost
        }
        ReadRequest::SetWatches {
            data, exist, child, ..
        } => {
            let paths = || [data, exist, child].into_iter().flatten();
            Cost {
                bytes: paths().map(|path| path.len() + 40).sum::<usize>() + REPLY_FIXED,
                steps: 2 * paths().count(),
            }
        }
    }
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The tree refuses.
    Refused(ErrorCode),
    /// The reply would be longer, or take more steps, than any may.
    TooMuch,
}

impl From<ErrorCode> for Missing {
    fn from(code: ErrorCode) -> Missing {
        Missing::Refused(code)
    }
}

impl From<ReplyTooLong> for Missing {
    fn from(_: ReplyTooLong) -> Missing {
        Missing::TooMuch
    }
}

/// Appends the body of one read as long as `out` has at most `len_max` bytes; nothing that counts
/// when it fails.
fn put_found(
    out: &mut Vec<u8>,
    tree: &Tree,
    who: &[AuthId],
    read: &ReadRequest,
    len_max: usize,
    steps: &mut usize,
) -> Result<(), Missing> {
    let room = len_max.saturating_sub(out.len());
    let (ReadRequest::Exists { path, .. }
    | ReadRequest::GetData { path, .. }
    | ReadRequest::GetAcl { path }
    | ReadRequest::GetChildren { path, .. }) = read
    else {
        unreachable!("not a single read")
    };
    let size = tree.size(path);
    *steps += 1 + size.acl;
    match read {
        ReadRequest::GetData { .. } => {
            let (data, stat) = tree.get_data(path, who)?;
            if size.data > room {
                return Err(Missing::TooMuch);
            }
            out.put_buf(data.as_deref());
            stat.encode_into(out);
        }
        ReadRequest::GetAcl { .. } => {
            let (acl, stat) = tree.get_acl(path, who)?;
            *steps += acl.len();
            reply::put_acl(out, &acl, &stat);
        }
        ReadRequest::GetChildren { with_stat, .. } => {
            let (names, stat) = tree.children(path, who)?;
            *steps += names.len().min(room / 4);
            reply::put_names(out, names, len_max)?;
            if *with_stat {
                stat.encode_into(out);
            }
        }
        _ => tree.exists(path, who)?.encode_into(out),
    }
    match out.len() > len_max {
        true => Err(Missing::TooMuch),
        false => Ok(()),
    }
}

/// Type of a successful result of multiRead (docs/protocol.md §1.6).
fn multi_read_type(op: &ReadRequest) -> OpCode {
    match op {
        ReadRequest::GetData { .. } => OpCode::GET_DATA,
        _ => OpCode::GET_CHILDREN,
    }
}

impl Reader<'_> {
    /// Answers; gives the error, and the number of events that went out before the reply.
    ///
    /// # Errors
    /// There is no memory for its watches: the connection is to be closed.
    pub(super) fn execute(&mut self, read: &ReadRequest) -> Result<(ErrorCode, u64), WatchesFull> {
        match read {
            ReadRequest::MultiRead { ops, unsupported } => {
                Ok((self.multi_read(ops, *unsupported), 0))
            }
            ReadRequest::SetWatches {
                relative_zxid,
                data,
                exist,
                child,
            } => {
                let start = self.out.len();
                let events = self.set_watches(*relative_zxid, data, exist, child)?;
                self.cost.bytes += self.out.len() - start;
                Ok((self.fail(ErrorCode::OK), events))
            }
            _ => Ok((self.single(read)?, 0)),
        }
    }

    fn single(&mut self, read: &ReadRequest) -> Result<ErrorCode, WatchesFull> {
        let (tree, who, len_max) = (self.tree, self.credentials, self.len_max());
        let found = self.reply(ErrorCode::OK, |out, steps| {
            put_found(out, tree, who, read, len_max, steps)
        });
        let error = match found {
            Ok(()) => ErrorCode::OK,
            Err(Missing::Refused(code)) => self.fail(code),
            Err(Missing::TooMuch) => return Ok(self.fail(ErrorCode::MARSHALLING)),
        };
        self.leave_watch(read, error)?;
        Ok(error)
    }

    /// `exists` on an absent node is the only failed read that leaves a watch (docs/protocol.md §2.5).
    fn leave_watch(&mut self, read: &ReadRequest, error: ErrorCode) -> Result<(), WatchesFull> {
        let (kind, path) = match (read, error) {
            (ReadRequest::Exists { path, watch: true }, ErrorCode::OK | ErrorCode::NO_NODE)
            | (ReadRequest::GetData { path, watch: true }, ErrorCode::OK) => (Kind::Data, path),
            (
                ReadRequest::GetChildren {
                    path, watch: true, ..
                },
                ErrorCode::OK,
            ) => (Kind::Child, path),
            _ => return Ok(()),
        };
        self.cost.steps += 1;
        self.watches.add(kind, path, self.conn)
    }

    /// Each operation stands for itself; watch flags inside are ignored (docs/protocol.md §3.8). When
    /// there is more than a reply may hold, or more than a request may ask for, all of it fails.
    fn multi_read(&mut self, ops: &[ReadRequest], unsupported: bool) -> ErrorCode {
        let error = match unsupported {
            true => ErrorCode::MARSHALLING,
            false => ErrorCode::OK,
        };
        let (tree, who, len_max) = (self.tree, self.credentials, self.len_max());
        let found = self.reply(error, |out, steps| {
            for op in ops {
                let start = out.len();
                reply::put_multi_result(out, multi_read_type(op));
                match put_found(out, tree, who, op, len_max, steps) {
                    Ok(()) => {}
                    Err(Missing::Refused(error)) => {
                        out.truncate(start);
                        reply::put_multi_error(out, error);
                    }
                    Err(Missing::TooMuch) => return Err(Missing::TooMuch),
                }
                if *steps > READ_STEPS_MAX || out.len() > len_max {
                    return Err(Missing::TooMuch);
                }
            }
            reply::put_multi_end(out);
            Ok(())
        });
        match found {
            Ok(()) => error,
            Err(_) => self.fail(ErrorCode::MARSHALLING),
        }
    }

    /// Catches up with what the client missed, and watches the rest (docs/protocol.md §4.6). The events
    /// are not filtered by ACL.
    fn set_watches(
        &mut self,
        seen: Zxid,
        data: &[Arc<str>],
        exist: &[Arc<str>],
        child: &[Arc<str>],
    ) -> Result<u64, WatchesFull> {
        let mut events = 0;
        let mut settle = |path: &Arc<str>, kind: Kind, missed: Option<EventType>| {
            self.cost.steps += 2;
            if let Some(event) = missed {
                reply::event(self.out, event, reply::CATCH_UP, path);
                events += 1;
                return Ok(());
            }
            self.watches.add(kind, path, self.conn)
        };
        for path in data {
            let missed = match self.tree.stat(path) {
                None => Some(EventType::Deleted),
                Some(stat) => (stat.mzxid > seen).then_some(EventType::DataChanged),
            };
            settle(path, Kind::Data, missed)?;
        }
        for path in exist {
            let missed = self.tree.stat(path).map(|_| EventType::Created);
            settle(path, Kind::Data, missed)?;
        }
        for path in child {
            let missed = match self.tree.stat(path) {
                None => Some(EventType::Deleted),
                Some(stat) => (stat.pzxid > seen).then_some(EventType::ChildrenChanged),
            };
            settle(path, Kind::Child, missed)?;
        }
        Ok(events)
    }

    /// The length of the output with the longest reply.
    fn len_max(&self) -> usize {
        self.out.len().saturating_add(self.reply_max)
    }

    /// Appends a reply, or nothing if its body fails.
    fn reply(
        &mut self,
        error: ErrorCode,
        body: impl FnOnce(&mut Vec<u8>, &mut usize) -> Result<(), Missing>,
    ) -> Result<(), Missing> {
        let start = self.out.len();
        let mut written = Ok(());
        let mut built = start;
        let steps = &mut self.cost.steps;
        let framed = reply::with_body(self.out, header(self.tree, self.xid, error), |out| {
            written = body(out, steps);
            built = out.len();
        });
        self.cost.bytes += built.saturating_sub(start);
        let written = framed.map_err(Missing::from).and(written);
        if written.is_err() {
            self.out.truncate(start);
        }
        written
    }

    /// Appends a reply without a body; gives its code.
    fn fail(&mut self, error: ErrorCode) -> ErrorCode {
        reply::header_only(self.out, header(self.tree, self.xid, error));
        error
    }
}

fn header(tree: &Tree, xid: Xid, err: ErrorCode) -> ReplyHeader {
    ReplyHeader {
        xid,
        zxid: tree.last_zxid(),
        err,
    }
}
