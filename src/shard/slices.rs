//! Requests whose work may be long, worked off in slices at the head of their FIFO: setWatches, and
//! the replies to getChildren, getEphemerals and multiRead. Between two slices other connections have their turns and
//! transactions are applied.
//!
//! **setWatches** and setWatches2 register path by path. What is applied between two slices concerns each
//! path once: a path that is registered already gets its event from the transaction, and a path that is not
//! is compared with the newer state when its turn comes, as if the whole request had come later; for
//! persistent and recursive watches nothing is compared. The events leave before the reply, whose zxid is
//! that of the last slice.
//!
//! **A reply that lists much** is one state of the tree all the same. A [`Draft`] holds what is listed so
//! far, outside the connection's output, and begins again when what it lists has changed: the children
//! of the node for getChildren, the ephemerals of the session for getEphemerals, anything in the tree for
//! multiRead. After [`RESTARTS_MAX`] restarts the
//! reply is made in one piece, so that whoever writes all the time keeps nobody from reading;
//! [`REPLY_BYTES_MAX`](crate::constants::REPLY_BYTES_MAX) and, for a multiRead, [`READ_STEPS_MAX`] bound
//! that piece.

use super::reads::{Missing, Reader, multi_read_type, put_found};
use super::watches::{Kind, Watches, WatchesFull};
use crate::budget::Budget;
use crate::constants::READ_STEPS_MAX;
use crate::proto::reply::{self, EventType};
use crate::proto::{ReadRequest, WatchCursor, WatchList, WatchLists};
use crate::tree::Tree;
use crate::txn::AuthId;
use crate::txn::jute::Put;
use crate::types::{ConnId, ErrorCode, OpCode, SessionId, Zxid};
use std::sync::Arc;

/// How often a reply that is made in slices begins again because what it lists has changed.
pub(super) const RESTARTS_MAX: u32 = 2;

/// Steps of one path of a setWatches: a look into the tree and an entry in each of two maps, or such entries
/// in two tables.
const STEPS_PER_WATCH: usize = 4;

/// A setWatches, and how far it has come.
#[derive(Clone, Debug)]
pub(super) struct SetWatches {
    /// The client's lastZxidSeen.
    pub(super) seen: Zxid,
    pub(super) lists: WatchLists,
    pub(super) cursor: WatchCursor,
}

/// What became of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    /// The work is done.
    Whole,
    /// The budget is spent before the end.
    More,
    /// What is there so far is worth nothing: the reply is to be made in one piece.
    Abandoned,
}

/// A reply that is made in slices.
#[derive(Debug)]
pub(super) struct Draft {
    /// The frame so far. Its length and its header are put in at the end.
    frame: Vec<u8>,
    /// Operations of the request that are answered in it; a getChildren is one operation.
    ops: usize,
    /// Children of the next operation that are in it, if it lists children and has been begun.
    children: Option<usize>,
    /// The last of a session's ephemerals that is in it.
    behind: Option<Arc<str>>,
    /// What is listed is that of this state.
    state: State,
    /// Steps so far, against [`READ_STEPS_MAX`] of a multiRead.
    steps: usize,
    restarts: u32,
    /// There is more to list than a reply may hold, or than a request may ask for.
    too_much: bool,
}

/// Bytes of a frame's length and of the header.
const HEADER: usize = 20;

/// The operations of a read.
fn ops_of(read: &ReadRequest) -> &[ReadRequest] {
    match read {
        ReadRequest::MultiRead { ops, .. } => ops,
        _ => std::slice::from_ref(read),
    }
}

/// As long as this is the same, what a reply lists is the same: a zxid, and a number of children.
type State = (Zxid, i32);

/// `None` if there is nothing to list.
///
/// For getChildren: every delete raises the node's pzxid, and so does every create, unless the node's
/// creation counter has stuck at its end; then there is one child more.
fn state_of(tree: &Tree, read: &ReadRequest) -> Option<State> {
    match read {
        ReadRequest::GetChildren { path, .. } => {
            tree.stat(path).map(|stat| (stat.pzxid, stat.num_children))
        }
        ReadRequest::GetEphemerals { session, .. } => {
            let (changed, paths) = tree.ephemerals_state(*session);
            Some((changed, paths as i32))
        }
        _ => Some((tree.last_zxid(), 0)),
    }
}

impl Draft {
    /// For a reply that would not fit what is left of `budget`; `None` if it is to be made in one
    /// piece.
    pub(super) fn begin(
        tree: &Tree,
        who: &[AuthId],
        read: &ReadRequest,
        budget: &mut Budget,
    ) -> Option<Draft> {
        match read {
            ReadRequest::GetChildren { path, .. } => {
                let size = tree.size(path);
                if budget.has_steps(size.acl + size.children) {
                    return None;
                }
                budget.spend_steps(1 + size.acl);
                let _readable = tree.children(path, who).ok()?;
            }
            ReadRequest::GetEphemerals { session, .. } => {
                if budget.has_steps(1 + tree.ephemeral_size(*session).0) {
                    return None;
                }
            }
            ReadRequest::MultiRead { .. } => {}
            _ => return None,
        }
        Some(Draft::new(state_of(tree, read)?))
    }

    fn new(state: State) -> Draft {
        Draft {
            frame: vec![0; HEADER],
            ops: 0,
            children: None,
            behind: None,
            state,
            steps: 0,
            restarts: 0,
            too_much: false,
        }
    }

    /// The whole reply.
    pub(super) fn in_one_piece(
        reader: &Reader<'_>,
        read: &ReadRequest,
        budget: &mut Budget,
    ) -> Draft {
        let mut draft = Draft::new((reader.tree.last_zxid(), 0));
        let mut unlimited = Budget::UNLIMITED;
        let (tree, who) = (reader.tree, reader.credentials);
        let slice = draft.list(tree, who, read, reader.reply_max, &mut unlimited);
        assert_eq!(slice, Slice::Whole, "nothing ends it early");
        budget.spend_part(Budget::UNLIMITED, unlimited);
        draft
    }

    /// Goes on until `budget` is spent, at least by one element.
    pub(super) fn go_on(
        &mut self,
        tree: &Tree,
        who: &[AuthId],
        read: &ReadRequest,
        reply_max: usize,
        budget: &mut Budget,
    ) -> Slice {
        let state = state_of(tree, read);
        if state != Some(self.state) {
            let restarts = self.restarts + 1;
            let Some(state) = state.filter(|_| restarts <= RESTARTS_MAX) else {
                return Slice::Abandoned;
            };
            *self = Draft {
                restarts,
                ..Draft::new(state)
            };
        }
        let slice = self.list(tree, who, read, reply_max, budget);
        // Only the children are known to be those of `state`: the list of who may read them is not.
        if let (Slice::Whole, ReadRequest::GetChildren { path, .. }) = (slice, read) {
            budget.spend_steps(1 + tree.size(path).acl);
            if tree.children(path, who).is_err() {
                return Slice::Abandoned;
            }
        }
        slice
    }

    fn list(
        &mut self,
        tree: &Tree,
        who: &[AuthId],
        read: &ReadRequest,
        reply_max: usize,
        budget: &mut Budget,
    ) -> Slice {
        let is_multi = matches!(read, ReadRequest::MultiRead { .. });
        while let Some(op) = ops_of(read).get(self.ops) {
            let fits = match (op, self.children) {
                (ReadRequest::GetEphemerals { session, prefix }, _) => {
                    self.put_ephemerals(tree, (*session, &**prefix), reply_max, budget)
                }
                (ReadRequest::GetChildren { path, .. }, Some(from)) => {
                    self.put_names(tree, path, from, reply_max, budget)
                }
                (ReadRequest::GetChildren { path, .. }, None) if is_multi => {
                    self.begin_result(tree, who, path, reply_max, budget)
                }
                (ReadRequest::GetChildren { path, .. }, None) => {
                    self.begin_names(tree.size(path).children, reply_max)
                }
                _ => self.put_result(tree, who, op, reply_max, budget),
            };
            let too_many = is_multi && self.steps > READ_STEPS_MAX;
            if fits.is_err() || too_many || self.frame.len() > reply_max {
                self.frame = Vec::new();
                self.too_much = true;
                return Slice::Whole;
            }
            if budget.is_spent() && self.ops < ops_of(read).len() {
                return Slice::More;
            }
        }
        Slice::Whole
    }

    /// The head of a list of so many names.
    fn begin_names(&mut self, names: usize, reply_max: usize) -> Result<(), Missing> {
        if self.frame.len().saturating_add(4 * names) > reply_max {
            return Err(Missing::TooMuch);
        }
        self.frame.put_len(names);
        self.children = Some(0);
        Ok(())
    }

    /// The head of a result that lists children. They count, all of them, before the first is listed.
    fn begin_result(
        &mut self,
        tree: &Tree,
        who: &[AuthId],
        path: &str,
        reply_max: usize,
        budget: &mut Budget,
    ) -> Result<(), Missing> {
        let size = tree.size(path);
        budget.spend_steps(1 + size.acl);
        self.steps += 1 + size.acl;
        match tree.children(path, who) {
            Err(error) => {
                reply::put_multi_error(&mut self.frame, error);
                self.ops += 1;
                Ok(())
            }
            Ok(_) if self.steps + size.children > READ_STEPS_MAX => Err(Missing::TooMuch),
            Ok(_) => {
                self.steps += size.children;
                reply::put_multi_result(&mut self.frame, OpCode::GET_CHILDREN);
                self.begin_names(size.children, reply_max)
            }
        }
    }

    /// Names behind the first `from`, until the budget is spent.
    fn put_names(
        &mut self,
        tree: &Tree,
        path: &str,
        from: usize,
        reply_max: usize,
        budget: &mut Budget,
    ) -> Result<(), Missing> {
        let mut listed = from;
        let mut names = tree.child_names(path, from);
        loop {
            let Some(name) = names.next() else {
                self.children = None;
                self.ops += 1;
                return Ok(());
            };
            self.frame.put_buf(Some(name));
            listed += 1;
            budget.spend_steps(1);
            budget.spend_bytes(4 + name.len());
            if self.frame.len() > reply_max {
                return Err(Missing::TooMuch);
            }
            if budget.is_spent() {
                self.children = Some(listed);
                return Ok(());
            }
        }
    }

    /// Ephemerals behind those that are in it, until the budget is spent; their number, when there are no more.
    fn put_ephemerals(
        &mut self,
        tree: &Tree,
        (session, prefix): (SessionId, &str),
        reply_max: usize,
        budget: &mut Budget,
    ) -> Result<(), Missing> {
        let mut listed = self.children.unwrap_or_else(|| {
            self.frame.put_len(0);
            0
        });
        for path in tree.ephemerals_from(session, prefix, self.behind.as_deref()) {
            self.frame.put_str(path);
            listed += 1;
            budget.spend_steps(1);
            budget.spend_bytes(4 + path.len());
            if self.frame.len() > reply_max {
                return Err(Missing::TooMuch);
            }
            if budget.is_spent() {
                self.children = Some(listed);
                self.behind = Some(Arc::clone(path));
                return Ok(());
            }
        }
        reply::set_len(&mut self.frame, HEADER, listed);
        self.ops += 1;
        Ok(())
    }

    /// The result of an operation of a multiRead that lists no children.
    fn put_result(
        &mut self,
        tree: &Tree,
        who: &[AuthId],
        op: &ReadRequest,
        reply_max: usize,
        budget: &mut Budget,
    ) -> Result<(), Missing> {
        let (start, steps) = (self.frame.len(), self.steps);
        reply::put_multi_result(&mut self.frame, multi_read_type(op));
        let found = put_found(&mut self.frame, tree, who, op, reply_max, &mut self.steps);
        budget.spend_steps(self.steps - steps);
        budget.spend_bytes(self.frame.len() - start);
        match found {
            Ok(()) => {}
            Err(Missing::Refused(error)) => {
                self.frame.truncate(start);
                reply::put_multi_error(&mut self.frame, error);
            }
            Err(Missing::TooMuch) => return Err(Missing::TooMuch),
        }
        self.ops += 1;
        Ok(())
    }

    /// Puts the reply behind what is in the reader's output; gives its error.
    ///
    /// # Errors
    /// There is no memory for its watch: the connection is to be closed.
    pub(super) fn finish(
        mut self,
        reader: &mut Reader<'_>,
        read: &ReadRequest,
    ) -> Result<ErrorCode, WatchesFull> {
        let mut header = reader.header(ErrorCode::OK);
        match read {
            _ if self.too_much => {}
            ReadRequest::MultiRead { is_cut, .. } => {
                if *is_cut {
                    header.err = ErrorCode::MARSHALLING;
                }
                reply::put_multi_end(&mut self.frame);
            }
            ReadRequest::GetChildren {
                path,
                with_stat: true,
                ..
            } => {
                let stat = reader
                    .tree
                    .stat(path)
                    .expect("its children are those of the state");
                stat.encode_into(&mut self.frame);
            }
            _ => {}
        }
        let fits = !self.too_much && reply::put_header(&mut self.frame, header).is_ok();
        let error = match fits {
            true => header.err,
            false => return Ok(reader.fail(ErrorCode::MARSHALLING)),
        };
        match reader.out.is_empty() {
            true => *reader.out = self.frame,
            false => reader.out.extend_from_slice(&self.frame),
        }
        reader.leave_watch(read, error)?;
        Ok(error)
    }
}

impl SetWatches {
    /// The most that its events take of the output, bytes.
    pub(super) fn events_max(&self) -> usize {
        const EVENT: usize = 40;
        self.lists.bytes() + EVENT * self.lists.paths()
    }

    /// Whether every path has been worked off.
    pub(super) fn is_done(&self) -> bool {
        self.lists.next(&mut self.cursor.clone()).is_none()
    }

    /// Catches up with what the client missed and watches the rest (docs/protocol.md §4.6), until
    /// `budget` is spent, at least for one path. Says how many events it appended to `out`. The events
    /// are not filtered by ACL.
    pub(super) fn go_on(
        &mut self,
        watches: &mut Watches,
        conn: ConnId,
        tree: &Tree,
        out: &mut Vec<u8>,
        budget: &mut Budget,
    ) -> (u64, Result<Slice, WatchesFull>) {
        let mut events = 0;
        while let Some((list, path)) = self.lists.next(&mut self.cursor) {
            let start = out.len();
            let (path, named) = (path.as_deref(), path.as_deref().unwrap_or_default());
            match self.missed(tree, list, named) {
                Some(event) => {
                    reply::event(out, event, reply::CATCH_UP, named);
                    events += 1;
                }
                None => {
                    let kind = match list {
                        WatchList::Data | WatchList::Exist => Kind::Data,
                        WatchList::Child => Kind::Child,
                        WatchList::Persistent => Kind::Persistent,
                        WatchList::Recursive => Kind::Recursive,
                    };
                    if let Err(full) = watches.add(kind, path, conn) {
                        return (events, Err(full));
                    }
                }
            }
            budget.spend_steps(STEPS_PER_WATCH);
            budget.spend_bytes(named.len() + out.len() - start);
            if budget.is_spent() {
                return (events, Ok(Slice::More));
            }
        }
        (events, Ok(Slice::Whole))
    }

    /// What happened to a path since the client saw it last. Of persistent and recursive watches nothing
    /// is made up for.
    fn missed(&self, tree: &Tree, list: WatchList, path: &str) -> Option<EventType> {
        if matches!(list, WatchList::Persistent | WatchList::Recursive) {
            return None;
        }
        match (list, tree.stat(path)) {
            (WatchList::Exist, found) => found.map(|_| EventType::Created),
            (_, None) => Some(EventType::Deleted),
            (WatchList::Data, Some(stat)) => {
                (stat.mzxid > self.seen).then_some(EventType::DataChanged)
            }
            (_, Some(stat)) => (stat.pzxid > self.seen).then_some(EventType::ChildrenChanged),
        }
    }
}
