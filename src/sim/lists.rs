//! Access control lists without end: more bytes of different ones than a snapshot gives numbers to (1 MiB), and
//! neighbours beyond that which share one.

use super::op::{Kind, Op};
use crate::txn::Acl;
use std::sync::Arc;

/// Bytes of the id of a list that one node has: as many as fit the frames of clients.
const ALONE: usize = 27 << 10;
/// The same where two nodes that are made together share it.
const SHARED: usize = 13 << 10;
/// Nodes that have a list alone: together they have more than 1 MiB, a few that could not be made aside.
const LONERS: u32 = 48;
/// Pairs that share one; in the order of paths they stand behind all others.
const PAIRS: u32 = 12;
/// One request in so many is for these nodes, as long as they are not made.
const FILLS_ONE_IN: u32 = 2;
/// The same behind that.
const CHANGES_ONE_IN: u32 = 64;

/// How far the clients have come.
#[derive(Default)]
pub(super) struct Lists {
    asked: u32,
}

/// A list that everybody has every right by, and that no other number has.
fn list(n: u32, len: usize) -> Arc<[Acl]> {
    let entry = |perms, scheme: &str, id: &str| Acl {
        perms,
        scheme: scheme.into(),
        id: id.into(),
    };
    let long = format!("u{n}:{}", "x".repeat(len));
    [
        entry(Acl::ALL, "world", "anyone"),
        entry(Acl::READ, "digest", &long),
    ]
    .into()
}

fn path(n: u32, which: usize) -> Arc<str> {
    match n < LONERS {
        true => format!("/a{n}").into(),
        false => format!("/z{n}{}", ["", "-"][which]).into(),
    }
}

fn create(path: Arc<str>, acl: &Arc<[Acl]>) -> Op {
    Op::Create {
        path,
        data: None,
        kind: Kind::Plain,
        sequential: false,
        acl: acl.clone(),
        with_stat: false,
    }
}

impl Lists {
    /// The next request that concerns such lists, if it is its turn.
    pub(super) fn random_op(&mut self, rng: &mut fastrand::Rng) -> Option<Op> {
        let all = LONERS + PAIRS;
        if self.asked < all {
            if rng.u32(0..FILLS_ONE_IN) > 0 {
                return None;
            }
            let n = self.asked;
            self.asked += 1;
            return Some(match n < LONERS {
                true => create(path(n, 0), &list(n, ALONE)),
                false => {
                    let shared = list(n, SHARED);
                    Op::Multi([0, 1].map(|which| create(path(n, which), &shared)).into())
                }
            });
        }
        if rng.u32(0..CHANGES_ONE_IN) > 0 {
            return None;
        }
        let path = path(rng.u32(0..all), rng.usize(0..2));
        Some(match rng.u32(0..3) {
            0 => Op::GetAcl { path },
            1 => Op::Delete { path, version: -1 },
            _ => Op::SetAcl {
                path,
                acl: list(rng.u32(0..all), SHARED),
                version: -1,
            },
        })
    }
}
