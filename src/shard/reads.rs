//! Reads of one connection on one replica, and the watches that they leave, look for and remove. A watch is registered
//! in the step in which its read executes, so that no change falls between (docs/protocol.md §4.5).

use super::auth;
use super::watches::{Kind, Watches, WatchesFull};
use crate::proto::reply::{self, ReplyHeader, ReplyTooLong};
use crate::proto::{ReadRequest, WatchMode};
use crate::tree::{Size, Tree};
use crate::txn::AuthId;
use crate::txn::jute::Put;
use crate::types::{ConnId, ErrorCode, OpCode, SessionId, Xid};

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

/// Operations of a multiRead that are looked at to say what it will cost.
const ESTIMATED_MAX: usize = 1024;

/// Steps of an operation on watches: an entry in each of two maps, in two tables.
const WATCH_STEPS: usize = 4;

/// Bytes of the output that are owed for a write at least.
pub(super) const OWED_MIN: usize = 128;

/// What the writes that a session has under way before a read may make of what the read finds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnWrites {
    /// Bytes that a node's data may have then.
    pub(super) data: usize,
    /// Bytes that a list may have more: [`OWED_MIN`] and the path of each create.
    pub(super) listed: usize,
}

/// What a read will cost on the tree as it is, behind such writes of its own session.
pub(super) fn estimate(tree: &Tree, read: &ReadRequest, own: OwnWrites) -> Cost {
    let single = |path: &str, bytes: &dyn Fn(Size) -> usize| {
        let size = tree.size(path);
        Cost {
            bytes: bytes(size) + REPLY_FIXED,
            steps: 1 + size.acl,
        }
    };
    match read {
        ReadRequest::Exists { path, .. } => single(path, &|_| 0),
        ReadRequest::GetData { path, .. } => single(path, &|size| size.data.max(own.data)),
        ReadRequest::GetAcl { path } => single(path, &|_| tree.acl_bytes(path)),
        ReadRequest::GetChildren { path, .. } => {
            single(path, &|size| 4 * size.children + size.names + own.listed)
        }
        ReadRequest::AddWatch { .. }
        | ReadRequest::CheckWatches { .. }
        | ReadRequest::RemoveWatches { .. } => Cost {
            bytes: REPLY_FIXED,
            steps: WATCH_STEPS,
        },
        ReadRequest::GetAllChildrenNumber { path } => single(path, &|_| 0),
        // As if the prefix were that of all.
        ReadRequest::GetEphemerals { session, .. } => {
            let (paths, bytes) = tree.ephemeral_size(*session);
            Cost {
                bytes: 4 * paths + bytes + own.listed + REPLY_FIXED,
                steps: 1 + paths + own.listed / OWED_MIN,
            }
        }
        ReadRequest::WhoAmI { who } => Cost {
            bytes: who.iter().map(info_len).sum::<usize>() + REPLY_FIXED,
            steps: who.len(),
        },
        // To look at more operations than this is work of its own: they cost as much as any may.
        ReadRequest::MultiRead { ops, .. } if ops.len() > ESTIMATED_MAX => Cost {
            bytes: usize::MAX / 4096,
            steps: 0,
        },
        ReadRequest::MultiRead { ops, .. } => {
            let mut cost = Cost::default();
            for op in ops {
                cost.add(estimate(tree, op, own));
            }
            cost
        }
    }
}

/// The most that an identity takes in the reply to whoAmI, bytes.
fn info_len(id: &AuthId) -> usize {
    8 + id.scheme.len() + id.id.len()
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
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
pub(super) fn put_found(
    out: &mut Vec<u8>,
    tree: &Tree,
    who: &[AuthId],
    read: &ReadRequest,
    len_max: usize,
    steps: &mut usize,
) -> Result<(), Missing> {
    let room = len_max.saturating_sub(out.len());
    match read {
        ReadRequest::GetEphemerals { session, prefix } => {
            return put_ephemerals(out, tree, (*session, &**prefix), len_max, steps);
        }
        ReadRequest::WhoAmI { who } => {
            *steps += who.len();
            let shown = who.iter().filter(|id| auth::is_shown(id));
            reply::put_client_infos(out, shown);
            return fits(out, len_max);
        }
        _ => {}
    }
    let (ReadRequest::Exists { path, .. }
    | ReadRequest::GetData { path, .. }
    | ReadRequest::GetAcl { path }
    | ReadRequest::GetAllChildrenNumber { path }
    | ReadRequest::GetChildren { path, .. }) = read
    else {
        unreachable!("not a read of one node")
    };
    let found = tree.find(path);
    let size = found.map_or_else(Size::default, |found| found.size());
    *steps += 1 + size.acl;
    match read {
        ReadRequest::GetData { .. } => {
            let (data, stat) = found.ok_or(ErrorCode::NO_NODE)?.get_data(who)?;
            if size.data > room {
                return Err(Missing::TooMuch);
            }
            // At once for all that follows: to grow for the last bytes copies those before them.
            out.reserve(size.data + REPLY_FIXED);
            out.put_buf(data);
            stat.encode_into(out);
        }
        ReadRequest::GetAcl { .. } => {
            let (acl, stat) = tree.get_acl(path, who)?;
            *steps += acl.len();
            reply::put_acl(out, &acl, &stat);
        }
        ReadRequest::GetChildren { with_stat, .. } => {
            let (names, stat) = found.ok_or(ErrorCode::NO_NODE)?.children(who)?;
            *steps += names.len().min(room / 4);
            reply::put_names(out, names, size.names, len_max)?;
            if *with_stat {
                stat.encode_into(out);
            }
        }
        ReadRequest::GetAllChildrenNumber { .. } => {
            let found = found.ok_or(ErrorCode::NO_NODE)?;
            // Under its empty name the root counts itself.
            let below = found.descendants(who)? + u32::from(path.is_empty());
            out.put_i32(below as i32);
        }
        _ => match found {
            Some(found) => found.stat(who)?.encode_into(out),
            None => return Err(Tree::absent(path).into()),
        },
    }
    fits(out, len_max)
}

fn fits(out: &[u8], len_max: usize) -> Result<(), Missing> {
    match out.len() > len_max {
        true => Err(Missing::TooMuch),
        false => Ok(()),
    }
}

/// Appends the paths of a session's ephemerals that begin with a prefix.
fn put_ephemerals(
    out: &mut Vec<u8>,
    tree: &Tree,
    (session, prefix): (SessionId, &str),
    len_max: usize,
    steps: &mut usize,
) -> Result<(), Missing> {
    let at = out.len();
    out.put_len(0);
    let mut listed = 0;
    for path in tree.ephemerals_from(session, prefix, None) {
        out.put_str(path);
        listed += 1;
        *steps += 1;
        fits(out, len_max)?;
    }
    reply::set_len(out, at, listed);
    fits(out, len_max)
}

/// Type of a successful result of multiRead (docs/protocol.md §1.6).
pub(super) fn multi_read_type(op: &ReadRequest) -> OpCode {
    match op {
        ReadRequest::GetData { .. } => OpCode::GET_DATA,
        _ => OpCode::GET_CHILDREN,
    }
}

impl Reader<'_> {
    /// Answers a read other than multiRead; gives the error.
    ///
    /// # Errors
    /// There is no memory for its watch: the connection is to be closed.
    pub(super) fn single(&mut self, read: &ReadRequest) -> Result<ErrorCode, WatchesFull> {
        if let Some(error) = self.on_watches(read)? {
            return Ok(error);
        }
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

    /// Answers an operation on watches; gives the error. The tree does not matter to it. `None` for any
    /// other read.
    fn on_watches(&mut self, read: &ReadRequest) -> Result<Option<ErrorCode>, WatchesFull> {
        let (watches, conn) = (&mut *self.watches, self.conn);
        let found = match read {
            ReadRequest::AddWatch { path, mode } => {
                let kind = match mode {
                    WatchMode::Persistent => Kind::Persistent,
                    WatchMode::Recursive => Kind::Recursive,
                };
                watches.add(kind, path.as_deref(), conn)?;
                true
            }
            ReadRequest::CheckWatches { path, of } => watches.has(*of, path.as_deref(), conn),
            ReadRequest::RemoveWatches { path, of } => watches.remove(*of, path.as_deref(), conn),
            _ => return Ok(None),
        };
        self.cost.steps += WATCH_STEPS;
        let start = self.out.len();
        let error = match found {
            true => ErrorCode::OK,
            false => ErrorCode::NO_WATCHER,
        };
        let header = self.header(error);
        match read {
            ReadRequest::AddWatch { .. } => reply::watch_added(self.out, header),
            _ => reply::header_only(self.out, header),
        }
        self.cost.bytes += self.out.len() - start;
        Ok(Some(error))
    }

    /// `exists` on an absent node is the only failed read that leaves a watch (docs/protocol.md §2.5).
    pub(super) fn leave_watch(
        &mut self,
        read: &ReadRequest,
        error: ErrorCode,
    ) -> Result<(), WatchesFull> {
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
        self.watches.add(kind, Some(path), self.conn)
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
        let header = self.header(error);
        let steps = &mut self.cost.steps;
        let framed = reply::with_body(self.out, header, |out| {
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

    /// A header of the state as it is.
    pub(super) fn header(&self, err: ErrorCode) -> ReplyHeader {
        ReplyHeader {
            xid: self.xid,
            zxid: self.tree.last_zxid(),
            err,
        }
    }

    /// Appends a reply without a body; gives its code.
    pub(super) fn fail(&mut self, error: ErrorCode) -> ErrorCode {
        let header = self.header(error);
        reply::header_only(self.out, header);
        error
    }
}
