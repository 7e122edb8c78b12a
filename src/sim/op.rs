//! Requests of simulated clients, and how they are drawn.

use crate::txn::{Data, Txn};
use crate::types::{OpCode, Zxid};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Longest TTL that clients ask for, ms.
pub(super) const TTL_MAX_MS: i64 = 400;

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
    /// create, createContainer, createTTL.
    Create {
        /// Path; a prefix if sequential.
        path: Arc<str>,
        /// Payload.
        data: Data,
        /// Of the node.
        kind: Kind,
        /// Its name ends with a number.
        sequential: bool,
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
    /// multi of the three above.
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
    /// getChildren2.
    Children {
        /// Path.
        path: Arc<str>,
        /// Leave a watch.
        watch: bool,
    },
    /// multiRead of getData and getChildren.
    MultiRead(Vec<Op>),
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
            Op::Create { kind, .. } => match kind {
                Kind::Plain | Kind::Ephemeral => OpCode::CREATE,
                Kind::Container => OpCode::CREATE_CONTAINER,
                Kind::Ttl(_) => OpCode::CREATE_TTL,
            },
            Op::Delete { .. } => OpCode::DELETE,
            Op::SetData { .. } => OpCode::SET_DATA,
            Op::Multi(_) => OpCode::MULTI,
            Op::Read { exists: true, .. } => OpCode::EXISTS,
            Op::Read { exists: false, .. } => OpCode::GET_DATA,
            Op::Children { .. } => OpCode::GET_CHILDREN2,
            Op::MultiRead(_) => OpCode::MULTI_READ,
            Op::SetWatches { items, .. } => {
                match items.iter().any(|(list, _)| list.lasts().is_some()) {
                    true => OpCode::SET_WATCHES2,
                    false => OpCode::SET_WATCHES,
                }
            }
            Op::AddWatch { .. } => OpCode::ADD_WATCH,
            Op::CheckWatches { remove: true, .. } => OpCode::REMOVE_WATCHES,
            Op::CheckWatches { remove: false, .. } => OpCode::CHECK_WATCHES,
            Op::Sync => OpCode::SYNC,
            Op::Ping => OpCode::PING,
            Op::Close => OpCode::CLOSE_SESSION,
        }
    }

    /// The type of its result in a multi, and the one that says whether the reply to a create has a Stat.
    pub fn result_code(&self) -> OpCode {
        match self.code() {
            OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => OpCode::CREATE2,
            code => code,
        }
    }

    /// Whether that is what the request must have become, if it has not failed.
    pub fn became(&self, code: OpCode, txn: &Txn) -> bool {
        let is_same = match (self, txn) {
            (
                Op::Create {
                    path, data, kind, ..
                },
                Txn::Create(create),
            ) => {
                let ttl_ms = match kind {
                    Kind::Ttl(ttl_ms) => *ttl_ms,
                    _ => 0,
                };
                let is_ephemeral = *kind == Kind::Ephemeral;
                create.path.starts_with(&**path)
                    && (data, ttl_ms) == (&create.data, create.ttl_ms)
                    && is_ephemeral == create.ephemeral
            }
            (Op::Delete { path, .. }, Txn::Delete { path: gone }) => path == gone,
            (
                Op::SetData { path, data, .. },
                Txn::SetData {
                    path: at,
                    data: now,
                    ..
                },
            ) => (path, data) == (at, now),
            (Op::Multi(ops), Txn::Multi(txns)) => ops.len() == txns.len(),
            (Op::Close, Txn::CloseSession { .. }) => true,
            _ => false,
        };
        is_same && code == self.code()
    }

    /// Whether the request becomes a transaction.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Op::Create { .. } | Op::Delete { .. } | Op::SetData { .. } | Op::Multi(_) | Op::Close
        )
    }
}

/// A seeded request of client `id` in a world of few paths, so that clients meet.
pub fn random_op(rng: &mut fastrand::Rng, id: usize) -> Op {
    match rng.u32(0..108) {
        0..55 => random_write(rng, id),
        55..62 => Op::Multi(
            (0..rng.usize(0..5))
                .map(|_| random_write(rng, id))
                .collect(),
        ),
        62..80 => Op::Read {
            path: random_path(rng),
            exists: rng.bool(),
            watch: rng.bool(),
        },
        80..90 => Op::Children {
            path: random_parent(rng),
            watch: rng.bool(),
        },
        90..94 => random_multi_read(rng),
        94..97 => Op::Sync,
        97..100 => Op::Ping,
        100..104 => Op::AddWatch {
            path: random_watched(rng),
            recursive: rng.bool(),
        },
        _ => Op::CheckWatches {
            path: random_watched(rng),
            of: rng.i32(1..6),
            remove: rng.bool(),
        },
    }
}

/// A seeded getData or exists.
pub fn random_read(rng: &mut fastrand::Rng) -> Op {
    Op::Read {
        path: random_path(rng),
        exists: rng.bool(),
        watch: rng.u32(0..8) == 0,
    }
}

/// A seeded multiRead, mostly of lists of children. Watches inside are ignored.
fn random_multi_read(rng: &mut fastrand::Rng) -> Op {
    let op = |rng: &mut fastrand::Rng| match rng.u32(0..3) {
        0 => Op::Read {
            path: random_path(rng),
            exists: false,
            watch: rng.bool(),
        },
        _ => Op::Children {
            path: random_parent(rng),
            watch: rng.bool(),
        },
    };
    Op::MultiRead((0..rng.usize(0..6)).map(|_| op(rng)).collect())
}

/// A few seeded paths for a setWatches.
pub fn random_items(rng: &mut fastrand::Rng) -> BTreeSet<(List, Arc<str>)> {
    let item = |rng: &mut fastrand::Rng| match rng.u32(0..8) {
        0..2 => (List::Data, random_path(rng)),
        2..4 => (List::Exist, random_path(rng)),
        4..6 => (List::Child, random_parent(rng)),
        6 => (List::Persistent, random_watched(rng)),
        _ => (List::Recursive, random_watched(rng)),
    };
    (0..rng.usize(0..6)).map(|_| item(rng)).collect()
}

fn random_watched(rng: &mut fastrand::Rng) -> Arc<str> {
    match rng.bool() {
        true => random_parent(rng),
        false => random_path(rng),
    }
}

fn random_parent(rng: &mut fastrand::Rng) -> Arc<str> {
    match rng.u32(0..6) {
        0 => "/".into(),
        n => format!("/n{}", n % 4).into(),
    }
}

fn random_path(rng: &mut fastrand::Rng) -> Arc<str> {
    match rng.u32(0..3) {
        0 => format!("/n{}", rng.u32(0..4)).into(),
        _ => format!("/n{}/c{}", rng.u32(0..4), rng.u32(0..3)).into(),
    }
}

fn random_data(rng: &mut fastrand::Rng) -> Data {
    match rng.u32(0..12) {
        0 => None,
        1 => Some(Arc::from([])),
        2 => Some(vec![rng.u8(..); rng.usize(1000..6000)].into()),
        _ => Some((0..rng.usize(1..40)).map(|_| rng.u8(..)).collect()),
    }
}

fn random_kind(rng: &mut fastrand::Rng) -> Kind {
    match rng.u32(0..6) {
        0 => Kind::Container,
        1 => Kind::Ttl(rng.i64(1..=TTL_MAX_MS)),
        _ => Kind::Plain,
    }
}

fn random_write(rng: &mut fastrand::Rng, id: usize) -> Op {
    let version = if rng.u32(0..4) == 0 {
        rng.i32(0..3)
    } else {
        -1
    };
    match rng.u32(0..10) {
        0..3 => Op::Create {
            path: random_path(rng),
            data: random_data(rng),
            kind: random_kind(rng),
            sequential: false,
        },
        3 => {
            let path = format!("/n{}/e{id}", rng.u32(0..4)).into();
            Op::Create {
                path,
                data: random_data(rng),
                kind: Kind::Ephemeral,
                sequential: rng.bool(),
            }
        }
        4 => {
            let path = format!("/n{}/s-", rng.u32(0..4)).into();
            Op::Create {
                path,
                data: random_data(rng),
                kind: match rng.bool() {
                    true => Kind::Ephemeral,
                    false => random_kind(rng),
                },
                sequential: true,
            }
        }
        5..8 => Op::SetData {
            path: random_path(rng),
            data: random_data(rng),
            version,
        },
        _ => Op::Delete {
            path: random_path(rng),
            version,
        },
    }
}
