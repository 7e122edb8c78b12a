//! Requests of simulated clients.

use crate::txn::{Acl, Data};
use crate::types::{OpCode, Zxid};
use std::sync::Arc;

/// A list of a setWatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Watches left on nodes that existed.
    Data,
    /// Watches left on nodes that did not exist.
    Exist,
    /// Watches of children.
    Child,
    /// Persistent watches.
    Persistent,
    /// Recursive watches.
    Recursive,
}

impl List {
    /// In the order of the request.
    pub const ALL: [List; 5] = [
        List::Data,
        List::Exist,
        List::Child,
        List::Persistent,
        List::Recursive,
    ];

    /// Whether the watches are recursive, if they are of those that last.
    pub fn lasts(self) -> Option<bool> {
        match self {
            List::Data | List::Exist | List::Child => None,
            List::Persistent => Some(false),
            List::Recursive => Some(true),
        }
    }
}

/// Kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It stays until it is deleted.
    Plain,
    /// It goes with the session.
    Ephemeral,
    /// It goes when it has lost its last child.
    Container,
    /// It goes so many ms after its last change.
    Ttl(i64),
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// create, create2, createContainer, createTTL.
    Create {
        /// Path; a prefix if sequential.
        path: Arc<str>,
        /// Payload.
        data: Data,
        /// Of the node.
        kind: Kind,
        /// Its name ends with a number.
        sequential: bool,
        /// Who may do what, as sent.
        acl: Arc<[Acl]>,
        /// create2 instead of create; the others answer a Stat always.
        with_stat: bool,
    },
    /// delete.
    Delete {
        /// Path.
        path: Arc<str>,
        /// Expected version.
        version: i32,
    },
    /// setData.
    SetData {
        /// Path.
        path: Arc<str>,
        /// Payload.
        data: Data,
        /// Expected version.
        version: i32,
    },
    /// setACL.
    SetAcl {
        /// Path.
        path: Arc<str>,
        /// As sent.
        acl: Arc<[Acl]>,
        /// Expected version of the list.
        version: i32,
    },
    /// check, in a multi.
    Check {
        /// Path.
        path: Arc<str>,
        /// Expected version.
        version: i32,
    },
    /// reconfig, which is refused.
    Reconfig,
    /// multi of creates, deletes, setData and check.
    Multi(Vec<Op>),
    /// getData, or exists.
    Read {
        /// Path.
        path: Arc<str>,
        /// exists instead of getData.
        exists: bool,
        /// Leave a watch.
        watch: bool,
    },
    /// getChildren2, or getChildren.
    Children {
        /// Path.
        path: Arc<str>,
        /// Leave a watch.
        watch: bool,
        /// getChildren2.
        with_stat: bool,
    },
    /// getACL.
    GetAcl {
        /// Path.
        path: Arc<str>,
    },
    /// getAllChildrenNumber.
    Below {
        /// Path.
        path: Arc<str>,
    },
    /// getEphemerals.
    Ephemerals {
        /// What the paths begin with.
        prefix: Arc<str>,
    },
    /// whoAmI.
    WhoAmI,
    /// multiRead of getData and getChildren.
    MultiRead {
        /// Them.
        ops: Vec<Op>,
        /// The path of this one is null.
        null_at: Option<usize>,
    },
    /// setWatches, or setWatches2 if there are watches that last.
    SetWatches {
        /// relativeZxid.
        seen: Zxid,
        /// Paths in the order of the lists: data, exist, child, persistent, recursive.
        items: Vec<(List, Arc<str>)>,
    },
    /// addWatch.
    AddWatch {
        /// Path.
        path: Arc<str>,
        /// Mode 1 instead of 0.
        recursive: bool,
    },
    /// checkWatches, or removeWatches.
    CheckWatches {
        /// Path.
        path: Arc<str>,
        /// Type, 1 to 5.
        of: i32,
        /// removeWatches instead of checkWatches.
        remove: bool,
    },
    /// auth.
    Auth {
        /// Of the identity, or null.
        scheme: Option<&'static str>,
        /// The scheme's own, or null.
        data: Option<&'static [u8]>,
    },
    /// A request that can't be parsed, for a number in it that is negative, or for its type.
    Unparsable {
        /// Type.
        of: OpCode,
        /// The number: a length, a mode or a type of watches.
        len: i32,
    },
    /// sync.
    Sync,
    /// ping.
    Ping,
    /// closeSession.
    Close,
}

impl Op {
    /// The type in the request's header.
    pub fn code(&self) -> OpCode {
        match self {
            Op::Create {
                kind, with_stat, ..
            } => match kind {
                Kind::Plain | Kind::Ephemeral if *with_stat => OpCode::CREATE2,
                Kind::Plain | Kind::Ephemeral => OpCode::CREATE,
                Kind::Container => OpCode::CREATE_CONTAINER,
                Kind::Ttl(_) => OpCode::CREATE_TTL,
            },
            Op::Delete { .. } => OpCode::DELETE,
            Op::SetData { .. } => OpCode::SET_DATA,
            Op::SetAcl { .. } => OpCode::SET_ACL,
            Op::Check { .. } => OpCode::CHECK,
            Op::Reconfig => OpCode::RECONFIG,
            Op::Multi(_) => OpCode::MULTI,
            Op::Read { exists: true, .. } => OpCode::EXISTS,
            Op::Read { exists: false, .. } => OpCode::GET_DATA,
            Op::Children {
                with_stat: true, ..
            } => OpCode::GET_CHILDREN2,
            Op::Children {
                with_stat: false, ..
            } => OpCode::GET_CHILDREN,
            Op::GetAcl { .. } => OpCode::GET_ACL,
            Op::Below { .. } => OpCode::GET_ALL_CHILDREN_NUMBER,
            Op::Ephemerals { .. } => OpCode::GET_EPHEMERALS,
            Op::WhoAmI => OpCode::WHO_AM_I,
            Op::MultiRead { .. } => OpCode::MULTI_READ,
            Op::SetWatches { items, .. } => {
                match items.iter().any(|(list, _)| list.lasts().is_some()) {
                    true => OpCode::SET_WATCHES2,
                    false => OpCode::SET_WATCHES,
                }
            }
            Op::AddWatch { .. } => OpCode::ADD_WATCH,
            Op::CheckWatches { remove: true, .. } => OpCode::REMOVE_WATCHES,
            Op::CheckWatches { remove: false, .. } => OpCode::CHECK_WATCHES,
            Op::Auth { .. } => OpCode::AUTH,
            Op::Unparsable { of, .. } => *of,
            Op::Sync => OpCode::SYNC,
            Op::Ping => OpCode::PING,
            Op::Close => OpCode::CLOSE_SESSION,
        }
    }

    /// The type in a multi or a multiRead. There the flags alone say that a node is a container: a client may give
    /// any type of a create without TTL.
    pub(super) fn code_in_a_list(&self) -> OpCode {
        match self {
            Op::Children { .. } => OpCode::GET_CHILDREN,
            Op::Create {
                path,
                kind: Kind::Container,
                sequential: false,
                ..
            } => {
                let any = path.bytes().map(usize::from).sum::<usize>();
                [OpCode::CREATE, OpCode::CREATE2, OpCode::CREATE_CONTAINER][any % 3]
            }
            _ => self.code(),
        }
    }

    /// The type of its result in a multi, and the one that says whether the reply to a create has a Stat.
    pub(super) fn result_code(&self) -> OpCode {
        match self.code() {
            OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => OpCode::CREATE2,
            code => code,
        }
    }

    /// The xid, where the client does not count it.
    pub(super) fn reserved_xid(&self) -> Option<i32> {
        match self {
            Op::Ping => Some(-2),
            Op::Auth { .. } => Some(-4),
            Op::SetWatches { .. } => Some(-8),
            _ => None,
        }
    }

    /// Whether the request becomes a transaction.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Op::Create { .. }
                | Op::Delete { .. }
                | Op::SetData { .. }
                | Op::SetAcl { .. }
                | Op::Reconfig
                | Op::Multi(_)
                | Op::Close
        )
    }
}
