//! How requests are drawn.

use super::identity::{SUPER, USERS, V6};
use super::names::{random_illegal, random_parent, random_path, random_rare, random_top};
use super::op::{Kind, List, Op};
use crate::txn::{Acl, Data};
use crate::types::OpCode;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Longest TTL that clients ask for, ms.
pub(super) const TTL_MAX_MS: i64 = 400;

/// No TTL is as long as that, ms.
pub(super) const TTLS_END: i64 = 1 << 40;

/// Paths that get a quota.
const WITH_QUOTA: [&str; 6] = ["/n0", "/n1", "/n1/c0", "/n1/c0/d0", "/n1-c", "/n1/c0-d"];

/// A seeded request of a client.
pub(super) fn random_op(rng: &mut fastrand::Rng, id: usize, quotas: bool) -> Op {
    match rng.u32(0..128) {
        0 => match rng.bool() {
            true => illegal_write(rng),
            false => illegal_read(rng),
        },
        1..55 => random_write(rng, id),
        55..64 => random_multi(rng, id),
        64..80 => Op::Read {
            path: random_path(rng),
            exists: rng.bool(),
            watch: rng.bool(),
        },
        80..90 => Op::Children {
            path: random_parent(rng),
            watch: rng.bool(),
            with_stat: rng.u32(0..3) > 0,
        },
        90..94 => random_multi_read(rng),
        94..97 => Op::Sync,
        97..100 => Op::Ping,
        100..104 => Op::AddWatch {
            path: random_watched(rng),
            recursive: rng.bool(),
        },
        104..108 => Op::CheckWatches {
            path: random_watched(rng),
            of: rng.i32(1..6),
            remove: rng.bool(),
        },
        108..113 => random_set_acl(rng),
        113..117 => Op::GetAcl {
            path: match rng.u32(0..6) {
                0 => random_oldest(rng),
                _ => random_watched(rng),
            },
        },
        117..119 => Op::Below {
            path: random_watched(rng),
        },
        119..121 => Op::Ephemerals {
            prefix: random_prefix(rng),
        },
        121 if rng.bool() => unparsable(rng),
        121 => Op::WhoAmI,
        122 => random_auth(rng),
        123 if rng.u32(0..4) == 0 => Op::Reconfig,
        _ if quotas => random_quota(rng),
        _ => random_write(rng, id),
    }
}

/// A request that is answered without being looked at: a length in it is negative, or null where null is nothing; a
/// list has operations that don't belong there; a kind of watch is none.
fn unparsable(rng: &mut fastrand::Rng) -> Op {
    const OF: [OpCode; 13] = [
        OpCode::SET_DATA,
        OpCode::CREATE,
        OpCode::CREATE2,
        OpCode::DELETE,
        OpCode::EXISTS,
        OpCode::GET_DATA,
        OpCode::GET_ACL,
        OpCode::GET_CHILDREN,
        OpCode::GET_CHILDREN2,
        OpCode::MULTI,
        OpCode::MULTI_READ,
        OpCode::ADD_WATCH,
        OpCode::REMOVE_WATCHES,
    ];
    let of = OF[rng.usize(0..OF.len())];
    let len = match rng.bool() {
        true if of != OpCode::SET_DATA => -1,
        _ => rng.i32(i32::MIN..-1),
    };
    Op::Unparsable { of, len }
}

/// A write of a path that nobody can make a node of.
fn illegal_write(rng: &mut fastrand::Rng) -> Op {
    let (path, version) = (random_illegal(rng), random_version(rng));
    match rng.u32(0..6) {
        0 => random_create(rng, |_| path.clone(), false),
        1 => random_create(rng, |_| path.clone(), true),
        2 => Op::Delete { path, version },
        3 => Op::SetData {
            path,
            data: random_data(rng),
            version,
        },
        // Everybody may make nodes below the root: without that nobody's last write would succeed.
        4 if *path == *"/" => Op::SetAcl {
            path,
            acl: open(),
            version,
        },
        4 => Op::SetAcl {
            path,
            acl: random_acl(rng),
            version,
        },
        _ => Op::Multi(vec![Op::Check { path, version }]),
    }
}

/// A read of one.
fn illegal_read(rng: &mut fastrand::Rng) -> Op {
    let (path, watch) = (random_illegal(rng), false);
    match rng.u32(0..5) {
        0 => Op::Below { path },
        1 => Op::GetAcl { path },
        2 => Op::Children {
            path,
            watch,
            with_stat: rng.bool(),
        },
        _ => Op::Read {
            path,
            exists: rng.bool(),
            watch,
        },
    }
}

/// A seeded getData or exists.
pub(super) fn random_read(rng: &mut fastrand::Rng) -> Op {
    Op::Read {
        path: random_path(rng),
        exists: rng.bool(),
        watch: rng.u32(0..8) == 0,
    }
}

/// A write that succeeds whatever the others have done, as long as its session lives.
pub(super) fn sure_write() -> Op {
    Op::Create {
        path: "/w".into(),
        data: None,
        kind: Kind::Plain,
        sequential: true,
        acl: open(),
        with_stat: true,
    }
}

/// A read that lists much, and is answered in several turns where slices are small.
pub(super) fn random_long_read(rng: &mut fastrand::Rng) -> Op {
    match rng.u32(0..3) {
        0 => Op::Children {
            path: "/".into(),
            watch: rng.bool(),
            with_stat: rng.bool(),
        },
        _ => random_multi_read(rng),
    }
}

/// A read of a node of client `id` that has much data, or a write that gives it some.
pub(super) fn random_large(rng: &mut fastrand::Rng, id: usize) -> Op {
    let path: Arc<str> = format!("/l{id}").into();
    match rng.u32(0..16) {
        0 => Op::Create {
            path,
            data: long_data(rng),
            kind: Kind::Plain,
            sequential: false,
            acl: open(),
            with_stat: false,
        },
        1 => Op::SetData {
            path,
            data: long_data(rng),
            version: -1,
        },
        _ => Op::Read {
            path,
            exists: false,
            watch: false,
        },
    }
}

/// A list of the root, alone or twice.
pub(super) fn random_long_read_of_the_root(rng: &mut fastrand::Rng) -> Op {
    let list = |with_stat| Op::Children {
        path: "/".into(),
        watch: false,
        with_stat,
    };
    match rng.bool() {
        true => list(rng.bool()),
        false => Op::MultiRead {
            ops: vec![list(false); rng.usize(1..3)],
            null_at: None,
        },
    }
}

/// Children of the root come and go; first they become more.
pub(super) fn change_root(rng: &mut fastrand::Rng, id: usize, few: bool) -> Op {
    let path: Arc<str> = format!("/x{id}-{}", rng.u32(0..4)).into();
    match (few, rng.bool()) {
        (true, _) => Op::Multi(vec![sure_write(); 8]),
        (false, true) => Op::Create {
            path,
            data: None,
            kind: Kind::Plain,
            sequential: false,
            acl: open(),
            with_stat: false,
        },
        (false, false) => Op::Delete { path, version: -1 },
    }
}

/// A node is deleted and created anew, mostly in one transaction; as an ephemeral of whoever asks, or as a node
/// that stays.
pub(super) fn recreate(rng: &mut fastrand::Rng, path: &Arc<str>) -> Op {
    let delete = || Op::Delete {
        path: path.clone(),
        version: -1,
    };
    let create = |rng: &mut fastrand::Rng| Op::Create {
        path: path.clone(),
        data: random_data(rng),
        kind: match rng.bool() {
            true => Kind::Ephemeral,
            false => random_kind(rng),
        },
        sequential: false,
        acl: random_acl(rng),
        with_stat: rng.bool(),
    };
    match rng.u32(0..12) {
        0..2 => delete(),
        2 => create(rng),
        3 => Op::Multi(vec![delete(), create(rng), delete()]),
        4 => Op::Multi(vec![delete(), create(rng), delete(), create(rng)]),
        // It fails, and leaves everything as it was.
        5 => Op::Multi(vec![delete(), create(rng), create(rng)]),
        _ => Op::Multi(vec![delete(), create(rng)]),
    }
}

/// A few seeded paths for a setWatches.
pub(super) fn random_items(rng: &mut fastrand::Rng) -> BTreeSet<(List, Arc<str>)> {
    let item = |rng: &mut fastrand::Rng| match rng.u32(0..8) {
        0..2 => (List::Data, random_path(rng)),
        2..4 => (List::Exist, random_path(rng)),
        4..6 => (List::Child, random_parent(rng)),
        6 => (List::Persistent, random_watched(rng)),
        _ => (List::Recursive, random_watched(rng)),
    };
    (0..rng.usize(0..6)).map(|_| item(rng)).collect()
}

/// Mostly an identity; rarely one that the server refuses, and ends the connection for.
fn random_auth(rng: &mut fastrand::Rng) -> Op {
    let (scheme, data): (_, Option<&[u8]>) = match rng.u32(0..20) {
        0 => (Some("world"), Some(b"anyone")),
        1 => (Some("nobody"), Some(b"")),
        2 => (Some("ip"), [None, Some(&b"x"[..])][rng.usize(0..2)]),
        3 => (Some("digest"), Some(SUPER.0)),
        4 => (Some("digest"), None),
        5 => ([None, Some("")][rng.usize(0..2)], Some(USERS[0].0)),
        6..8 => (Some("digest"), Some(USERS[3].0)),
        8 => (Some("digest"), Some(USERS[4].0)),
        n => (Some("digest"), Some(USERS[n as usize % 3].0)),
    };
    Op::Auth { scheme, data }
}

fn entry(perms: i32, scheme: &str, id: &str) -> Acl {
    Acl {
        perms,
        scheme: scheme.into(),
        id: id.into(),
    }
}

fn open() -> Arc<[Acl]> {
    [entry(Acl::ALL, "world", "anyone")].into()
}

/// Mostly open to everybody.
fn random_acl(rng: &mut fastrand::Rng) -> Arc<[Acl]> {
    let anyone = |perms| entry(perms, "world", "anyone");
    match rng.u32(0..73) {
        0..52 => open(),
        52 => [entry(Acl::ALL, "auth", "")].into(),
        53 => [entry(Acl::ALL, "digest", USERS[0].1), anyone(Acl::READ)].into(),
        54 => [anyone(Acl::ALL & !Acl::READ), entry(Acl::ALL, "auth", "")].into(),
        55 => [
            entry(Acl::ALL, "digest", USERS[1].1),
            entry(Acl::READ | Acl::CREATE, "digest", USERS[0].1),
        ]
        .into(),
        56 => [
            entry(rng.i32(0..32), "ip", "10.1.0.0/16"),
            anyone(Acl::ADMIN),
        ]
        .into(),
        57 => [entry(Acl::ALL, "ip", "127.0.0.1"), anyone(rng.i32(0..32))].into(),
        58 => [anyone(rng.i32(1..32))].into(),
        59 => [anyone(Acl::READ), anyone(Acl::READ), anyone(Acl::ALL)].into(),
        60 => [entry(Acl::ALL, "digest", "no-colon")].into(),
        61 => [entry(Acl::ALL, "nobody", "x"), anyone(Acl::ALL)].into(),
        62 => [entry(Acl::ALL, "world", "somebody")].into(),
        63 => [].into(),
        64 => [entry(Acl::ALL, "ip", "2001:db8::/32"), anyone(Acl::ADMIN)].into(),
        // Bits that mean nothing are kept.
        65 => [anyone(-1)].into(),
        66 => [anyone(i32::MAX - Acl::ALL), anyone(Acl::ALL)].into(),
        67 => [entry(Acl::ALL, "", ""), anyone(Acl::ALL)].into(),
        68 => [
            entry(Acl::ALL, "digest", "\u{e9}:\u{fffd}"),
            anyone(Acl::ALL),
        ]
        .into(),
        69 => [entry(Acl::ALL, "digest", USERS[3].1), anyone(Acl::ALL)].into(),
        _ => long_acl(rng),
    }
}

/// More than are looked at one by one, some of them repeated.
fn long_acl(rng: &mut fastrand::Rng) -> Arc<[Acl]> {
    let entries = (0..rng.usize(6..24)).map(|_| match rng.u32(0..6) {
        0 => entry(rng.i32(0..32), "digest", USERS[0].1),
        1 => entry(rng.i32(0..32), "digest", USERS[1].1),
        2 => entry(rng.i32(0..32), "ip", V6),
        3 => entry(rng.i32(0..32), "ip", "10.1.2.3"),
        4 => entry(Acl::ALL, "ip", "10.1.2.0/24"),
        _ => entry(Acl::ADMIN, "auth", ""),
    });
    // Who made it may go on there.
    let anyone = entry(Acl::DELETE, "world", "anyone");
    [anyone].into_iter().chain(entries).collect()
}

/// Now and then of a node that has been there from the beginning: whoever comes may create, delete and set the list
/// there afterwards, or nobody would go on.
fn random_set_acl(rng: &mut fastrand::Rng) -> Op {
    let (path, acl) = match rng.u32(0..6) {
        0 => (random_oldest(rng), lenient_acl(rng)),
        _ => (random_path(rng), random_acl(rng)),
    };
    Op::SetAcl {
        path,
        acl,
        version: random_version(rng),
    }
}

fn lenient_acl(rng: &mut fastrand::Rng) -> Arc<[Acl]> {
    let needed = Acl::CREATE | Acl::DELETE | Acl::ADMIN;
    let anyone = entry(needed | rng.i32(0..32), "world", "anyone");
    match rng.u32(0..4) {
        0 => open(),
        1 => [entry(rng.i32(1..32), "ip", "10.1.0.0/16"), anyone].into(),
        2 => [anyone, entry(Acl::ALL, "digest", USERS[0].1)].into(),
        _ => [anyone].into(),
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
            with_stat: false,
        },
    };
    let ops: Vec<Op> = (0..rng.usize(0..6)).map(|_| op(rng)).collect();
    let null_at = match rng.u32(0..16) {
        0 if !ops.is_empty() => Some(rng.usize(0..ops.len())),
        _ => None,
    };
    Op::MultiRead { ops, null_at }
}

/// Writes and checks. A parent and its child now and then, so that one sees the other.
fn random_multi(rng: &mut fastrand::Rng, id: usize) -> Op {
    match rng.u32(0..24) {
        0..4 => return nested_multi(rng),
        4..6 => return many_ephemerals(rng),
        _ => {}
    }
    let op = |rng: &mut fastrand::Rng| match rng.u32(0..4) {
        0 => Op::Check {
            path: match rng.u32(0..24) {
                0 => random_illegal(rng),
                _ => random_path(rng),
            },
            version: random_version(rng),
        },
        _ => random_write(rng, id),
    };
    Op::Multi((0..rng.usize(0..5)).map(|_| op(rng)).collect())
}

/// More ephemerals than a closeSession may list where that is bounded.
fn many_ephemerals(rng: &mut fastrand::Rng) -> Op {
    let path: Arc<str> = match rng.u32(0..8) {
        0..4 => format!("/{}/s-", random_top(rng)).into(),
        _ => "/s-".into(),
    };
    let create = || Op::Create {
        path: path.clone(),
        data: None,
        kind: Kind::Ephemeral,
        sequential: true,
        acl: open(),
        with_stat: false,
    };
    Op::Multi((0..rng.usize(2..8)).map(|_| create()).collect())
}

fn nested_multi(rng: &mut fastrand::Rng) -> Op {
    let parent: Arc<str> = format!("/{}", random_top(rng)).into();
    let child: Arc<str> = format!("{parent}/c{}", rng.u32(0..3)).into();
    let create = |path: &Arc<str>, rng: &mut fastrand::Rng| Op::Create {
        path: path.clone(),
        data: random_data(rng),
        kind: random_kind(rng),
        sequential: false,
        acl: random_acl(rng),
        with_stat: rng.bool(),
    };
    let delete = |path: &Arc<str>| Op::Delete {
        path: path.clone(),
        version: -1,
    };
    let set = |path: &Arc<str>, rng: &mut fastrand::Rng| Op::SetData {
        path: path.clone(),
        data: random_data(rng),
        version: -1,
    };
    Op::Multi(match rng.u32(0..4) {
        0 => vec![create(&parent, rng), create(&child, rng), set(&parent, rng)],
        1 => vec![create(&child, rng), set(&child, rng), delete(&child)],
        2 => vec![delete(&child), create(&child, rng), set(&child, rng)],
        _ => vec![delete(&child), delete(&parent), create(&parent, rng)],
    })
}

/// What concerns a quota. The two nodes of one are made, and deleted, together: what becomes of totals that
/// nobody keeps is not told by the protocol.
fn random_quota(rng: &mut fastrand::Rng) -> Op {
    let of = WITH_QUOTA[rng.usize(0..WITH_QUOTA.len())];
    let quota: Arc<str> = format!("/zookeeper/quota{of}").into();
    let limits: Arc<str> = format!("{quota}/zookeeper_limits").into();
    let stats: Arc<str> = format!("{quota}/zookeeper_stats").into();
    let create = |path: &Arc<str>, data: Data| Op::Create {
        path: path.clone(),
        data,
        kind: Kind::Plain,
        sequential: false,
        acl: open(),
        with_stat: false,
    };
    let set = |path: Arc<str>, data: Data| Op::SetData {
        path,
        data,
        version: -1,
    };
    let delete = |path: Arc<str>| Op::Delete { path, version: -1 };
    match rng.u32(0..16) {
        0..5 => create(&quota, None),
        5..9 => Op::Multi(vec![
            create(&limits, random_limits(rng)),
            create(&stats, Some(Arc::from(*b"count=9,bytes=9"))),
        ]),
        9 => Op::Multi(vec![delete(stats), delete(limits)]),
        10 => set(limits, random_limits(rng)),
        11 => match rng.u32(0..3) {
            0 => set(stats, Some(Arc::from(*b"nonsense"))),
            1 => set(stats, None),
            _ => set(stats, Some(Arc::from(*b"count=2,bytes=70=;kept=5"))),
        },
        _ => Op::Read {
            path: stats,
            exists: rng.u32(0..3) == 0,
            watch: rng.bool(),
        },
    }
}

fn random_limits(rng: &mut fastrand::Rng) -> Data {
    let text = match rng.u32(0..8) {
        0 => "count=3,bytes=50".to_owned(),
        1 => "limits nothing".to_owned(),
        2 => format!("count=-1,bytes=-1=;countHardLimit={}", rng.u32(1..8)),
        3..5 => format!("count=2,bytes=9=;byteHardLimit={}", rng.u32(0..9000)),
        _ => {
            let (nodes, bytes) = (rng.u32(1..8), rng.u32(10..9000));
            format!("count=-1,bytes=-1=;byteHardLimit={bytes};countHardLimit={nodes}")
        }
    };
    Some(text.as_bytes().into())
}

fn random_watched(rng: &mut fastrand::Rng) -> Arc<str> {
    match rng.bool() {
        true => random_parent(rng),
        false => random_path(rng),
    }
}

fn random_prefix(rng: &mut fastrand::Rng) -> Arc<str> {
    match rng.u32(0..9) {
        0..2 => "".into(),
        2..4 => "/".into(),
        4..6 => "/n".into(),
        6 => " \u{1}".into(),
        _ => random_path(rng),
    }
}

fn random_data(rng: &mut fastrand::Rng) -> Data {
    match rng.u32(0..12) {
        0 => None,
        1 => Some(Arc::from([])),
        2 => long_data(rng),
        _ => Some((0..rng.usize(1..40)).map(|_| rng.u8(..)).collect()),
    }
}

fn long_data(rng: &mut fastrand::Rng) -> Data {
    Some(vec![rng.u8(..); rng.usize(1000..6000)].into())
}

/// The same request, every other time with so much data that a few dozen of them fill a segment.
pub(super) fn heavier(mut op: Op, rng: &mut fastrand::Rng) -> Op {
    if let Op::Create { data, .. } | Op::SetData { data, .. } = &mut op
        && rng.bool()
    {
        *data = long_data(rng);
    }
    op
}

fn random_kind(rng: &mut fastrand::Rng) -> Kind {
    match rng.u32(0..6) {
        0 => Kind::Container,
        1 => Kind::Ttl(match rng.u32(0..24) {
            0 => [0, -1, i64::MIN, TTLS_END][rng.usize(0..4)],
            _ => rng.i64(1..=TTL_MAX_MS),
        }),
        _ => Kind::Plain,
    }
}

fn random_version(rng: &mut fastrand::Rng) -> i32 {
    match rng.u32(0..40) {
        0 => [i32::MIN, -2, i32::MAX][rng.usize(0..3)],
        1..9 => rng.i32(0..4),
        _ => -1,
    }
}

/// A create, setData or delete of client `id`.
fn random_write(rng: &mut fastrand::Rng, id: usize) -> Op {
    let version = random_version(rng);
    match rng.u32(0..10) {
        0..3 => random_create(rng, random_path, false),
        3 => {
            let sequential = rng.bool();
            let path = match rng.u32(0..12) {
                0 => random_rare(rng),
                _ => format!("/{}/e{id}", random_top(rng)).into(),
            };
            Op::Create {
                path,
                data: random_data(rng),
                kind: Kind::Ephemeral,
                sequential,
                acl: random_acl(rng),
                with_stat: rng.bool(),
            }
        }
        4 => {
            let path = |rng: &mut fastrand::Rng| match rng.u32(0..16) {
                0 => "/".into(),
                1 => format!("/{}/", random_top(rng)).into(),
                _ => format!("/{}/s-", random_top(rng)).into(),
            };
            random_create(rng, path, true)
        }
        5..8 => Op::SetData {
            path: random_written(rng),
            data: random_data(rng),
            version,
        },
        _ => Op::Delete {
            path: random_written(rng),
            version,
        },
    }
}

fn random_create(
    rng: &mut fastrand::Rng,
    path: impl Fn(&mut fastrand::Rng) -> Arc<str>,
    sequential: bool,
) -> Op {
    Op::Create {
        path: path(rng),
        data: random_data(rng),
        kind: match sequential && rng.bool() {
            true => Kind::Ephemeral,
            false => random_kind(rng),
        },
        sequential,
        acl: random_acl(rng),
        with_stat: rng.bool(),
    }
}

/// A node that has been there from the beginning, mostly the root.
fn random_oldest(rng: &mut fastrand::Rng) -> Arc<str> {
    match rng.u32(0..6) {
        0 => "/zookeeper".into(),
        1 => "/zookeeper/config".into(),
        2 => "/zookeeper/quota".into(),
        _ => "/".into(),
    }
}

/// Rarely an ephemeral, or a node that has been there from the beginning.
fn random_written(rng: &mut fastrand::Rng) -> Arc<str> {
    match rng.u32(0..100) {
        0..2 => random_oldest(rng),
        // An ephemeral, of whomever.
        2..11 => format!("/{}/e{}", random_top(rng), rng.u32(0..6)).into(),
        11 => random_rare(rng),
        _ => random_path(rng),
    }
}
