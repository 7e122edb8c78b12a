//! Watches from outside: who gets which event, and before what (docs/protocol.md §4).

use super::stand_in::*;
use crate::types::Zxid;

/// A change of `/p/n`, and the events (type, path) for each kind of watch, in order of
/// [`WATCHES`].
struct Row {
    name: &'static str,
    /// `/p/n` exists before.
    exists: bool,
    change: fn() -> Vec<u8>,
    events: [&'static [(i32, &'static str)]; 3],
}

/// data or exists on the node, child on the node, child on the parent.
const WATCHES: [(i32, i32, &str); 3] = [(4, 3, "/p/n"), (8, 8, "/p/n"), (8, 8, "/p")];

/// The rows of docs/protocol.md §4.3, standard watches.
fn rows() -> [Row; 6] {
    [
        Row {
            name: "create",
            exists: false,
            change: || create(9, "/p/n"),
            events: [&[(1, "/p/n")], &[], &[(4, "/p")]],
        },
        Row {
            name: "setData",
            exists: true,
            change: || set_data(9, "/p/n", b"x"),
            events: [&[(3, "/p/n")], &[], &[]],
        },
        Row {
            name: "delete",
            exists: true,
            change: || delete(9, "/p/n"),
            events: [&[(2, "/p/n")], &[(2, "/p/n")], &[(4, "/p")]],
        },
        Row {
            name: "setACL",
            exists: true,
            change: || {
                request(9, 7, |out| {
                    put_path_and_open_acl(out, "/p/n");
                    out.extend((-1i32).to_be_bytes());
                })
            },
            events: [&[], &[], &[]],
        },
        Row {
            name: "failed write",
            exists: true,
            change: || create(9, "/p/n"),
            events: [&[], &[], &[]],
        },
        Row {
            name: "failed multi",
            exists: true,
            change: || {
                request(9, 14, |out| {
                    out.extend([0, 0, 0, 2, 0, 255, 255, 255, 255]);
                    out.extend(&delete(0, "/p/n")[12..]);
                    out.extend([0, 0, 0, 2, 0, 255, 255, 255, 255]);
                    out.extend(&delete(0, "/none")[12..]);
                    out.extend([255, 255, 255, 255, 1, 255, 255, 255, 255]);
                })
            },
            events: [&[], &[], &[]],
        },
    ]
}

fn put_path_and_open_acl(out: &mut Vec<u8>, path: &str) {
    let create = create(0, path);
    let path_bytes = 4 + path.len();
    out.extend(&create[12..12 + path_bytes]);
    // Behind the empty data: the list.
    out.extend(&create[12 + path_bytes + 4..create.len() - 4]);
}

fn expected(events: &[(i32, &str)], zxid: i64) -> Vec<Said> {
    events
        .iter()
        .map(|(kind, path)| Said::Event(zxid, *kind, (*path).to_owned()))
        .collect()
}

#[test]
fn trigger_table_for_the_same_and_for_another_session() {
    for row in rows() {
        for (column, (op, op_absent, path)) in WATCHES.into_iter().enumerate() {
            for same in [true, false] {
                let case = format!("{}, watch {column}, same {same}", row.name);
                let mut world = World::new();
                let watcher = world.client();
                let writer = if same { watcher } else { world.client() };
                world.send(watcher, &create(1, "/p"));
                if row.exists {
                    world.send(watcher, &create(2, "/p/n"));
                }
                let op = if row.exists || path == "/p" {
                    op
                } else {
                    op_absent
                };
                world.send(watcher, &read(3, op, path, true));
                world.frames(watcher);
                let watches = world.shard.stats().watches.total;

                world.send(writer, &(row.change)());
                let zxid = world.tree.last_zxid().0;
                let events = expected(row.events[column], zxid);
                let mut got = said(&world.frames(watcher));
                if same {
                    // The reply comes behind the events.
                    assert!(
                        matches!(got.pop(), Some(Said::Reply(9, z, _)) if z == zxid),
                        "{case}"
                    );
                }
                assert_eq!(got, events, "{case}");

                let left = watches - usize::from(!events.is_empty());
                assert_eq!(world.shard.stats().watches.total, left, "one-shot: {case}");
            }
        }
    }
}

#[test]
fn a_delete_tells_a_connection_once_and_uses_up_both_watches() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &[create(1, "/p"), create(2, "/p/n")].concat());
    for (op, path) in [(4, "/p/n"), (3, "/p/n"), (12, "/p/n"), (8, "/p")] {
        world.send(conn, &read(3, op, path, true));
    }
    world.frames(conn);
    assert_eq!(
        world.shard.stats().watches.total,
        3,
        "exists and getData are one entry"
    );
    world.send(conn, &delete(4, "/p/n"));
    assert_eq!(
        said(&world.frames(conn)),
        [
            Said::Event(4, 2, "/p/n".into()),
            Said::Event(4, 4, "/p".into()),
            Said::Reply(4, 4, 0)
        ]
    );
    assert_eq!(world.shard.stats().watches.total, 0);
}

#[test]
fn which_reads_leave_a_watch() {
    let mut world = World::new();
    let (owner, conn) = (world.client(), world.client());
    let secret = [("digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")];
    world.send(owner, &create_acl(1, "/secret", b"", 0, &secret));
    let table = [
        (3, "/none", -101, 1),
        (4, "/none", -101, 0),
        (8, "/none", -101, 0),
        (12, "/none", -101, 0),
        (3, "/secret", -102, 0),
        (4, "/secret", -102, 0),
        (8, "/secret", -102, 0),
        (3, "/", 0, 1),
        (4, "/zookeeper", 0, 1),
        (12, "/", 0, 1),
    ];
    let mut watches = 0;
    for (op, path, error, added) in table {
        world.send(conn, &read(1, op, path, true));
        assert_eq!(
            said(&world.frames(conn)),
            [Said::Reply(1, 3, error)],
            "{op} {path}"
        );
        watches += added;
        assert_eq!(world.shard.stats().watches.total, watches, "{op} {path}");
    }
}

#[test]
fn an_event_comes_before_the_read_that_its_write_frees() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &[create(1, "/w"), read(2, 4, "/w", true)].concat());
    world.frames(conn);
    world.prompt = false;
    world.send(
        conn,
        &[set_data(3, "/w", b"x"), read(4, 4, "/w", true)].concat(),
    );
    world.send(
        conn,
        &[set_data(5, "/w", b"y"), read(6, 4, "/w", false)].concat(),
    );
    world.commit(2);
    assert_eq!(
        said(&world.frames(conn)),
        [
            Said::Event(3, 3, "/w".into()),
            Said::Reply(3, 3, 0),
            Said::Reply(4, 3, 0),
            Said::Event(4, 3, "/w".into()),
            Said::Reply(5, 4, 0),
            Said::Reply(6, 4, 0)
        ]
    );
}

#[test]
fn events_of_a_multi_come_in_its_order_before_its_reply() {
    let mut world = World::new();
    let conn = world.client();
    for (op, path) in [(3, "/a"), (3, "/b"), (8, "/")] {
        world.send(conn, &read(1, op, path, true));
    }
    world.frames(conn);
    world.send(
        conn,
        &request(2, 14, |out| {
            for path in ["/b", "/a"] {
                out.extend([0, 0, 0, 1, 0, 255, 255, 255, 255]);
                put_create(out, path, b"", 0, &[("world", "anyone")]);
            }
            out.extend([255, 255, 255, 255, 1, 255, 255, 255, 255]);
        }),
    );
    assert_eq!(
        said(&world.frames(conn)),
        [
            Said::Event(2, 1, "/b".into()),
            Said::Event(2, 4, "/".into()),
            Said::Event(2, 1, "/a".into()),
            Said::Reply(2, 2, 0)
        ]
    );
}

#[test]
fn an_event_that_its_receiver_may_not_read_is_dropped_and_its_watch_used_up() {
    let mut world = World::new();
    let (writer, blind, bob) = (world.client(), world.client(), world.client());
    world.send(bob, &auth(1, "digest", b"bob:pw"));
    for conn in [blind, bob] {
        world.send(conn, &read(2, 3, "/secret", true));
        world.frames(conn);
    }
    let secret = [("digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")];
    world.send(writer, &create_acl(1, "/secret", b"", 0, &secret));
    assert_eq!(
        said(&world.frames(bob)),
        [Said::Event(4, 1, "/secret".into())]
    );
    assert_eq!(said(&world.frames(blind)), []);
    assert_eq!(world.shard.stats().watches.total, 0);
}

#[test]
fn events_cost_the_entries_of_a_list_and_the_identities_of_each_watcher_and_not_their_product() {
    const WATCHERS: usize = 40;
    const ENTRIES: usize = 1_000;
    const USERS: usize = 64;
    let mut world = World::new();
    let writer = world.client();
    let watchers: Vec<_> = (0..WATCHERS).map(|_| world.client()).collect();
    for (nth, &conn) in watchers.iter().enumerate() {
        let users = (0..USERS).flat_map(|n| auth(1, "digest", format!("w{nth}-{n}:p").as_bytes()));
        world.send(conn, &users.collect::<Vec<u8>>());
        world.send(conn, &read(2, 3, "/secret", true));
        world.frames(conn);
    }
    let ids: Vec<String> = (0..ENTRIES).map(|n| format!("u{n}:h")).collect();
    let list: Vec<(&str, &str)> = ids.iter().map(|id| ("digest", &**id)).collect();
    world.send(writer, &create_acl(1, "/secret", b"", 0, &list));
    for conn in watchers {
        assert_eq!(said(&world.frames(conn)), [], "nobody may read it");
    }
    assert_eq!(world.shard.stats().watches.total, 0);
    // The event pays for the first entry; the address of a connection is an identity too.
    let due = WATCHERS + (ENTRIES - 1) + WATCHERS * (USERS + 1);
    assert_eq!(world.event_steps, due);
}

#[test]
fn set_watches_catches_up_and_watches_the_rest() {
    let mut world = World::new();
    let (conn, writer) = (world.client(), world.client());
    // zxids 3 to 8
    for path in ["/same", "/changed", "/gone", "/kids", "/kidless"] {
        world.send(writer, &create(1, path));
    }
    world.send(writer, &create(1, "/kidless/k"));
    let seen = Zxid(8);
    world.send(writer, &set_data(2, "/changed", b"x"));
    world.send(writer, &delete(3, "/gone"));
    world.send(writer, &create(4, "/kids/k"));
    world.send(writer, &delete(5, "/kidless/k"));
    world.send(
        conn,
        &set_watches(
            -8,
            seen,
            &["/same", "/changed", "/gone"],
            &["/absent", "/same"],
            &["/same", "/kids", "/kidless", "/gone"],
        ),
    );
    let event = |kind, path: &str| Said::Event(-1, kind, path.into());
    assert_eq!(
        said(&world.frames(conn)),
        [
            event(3, "/changed"),
            event(2, "/gone"),
            event(1, "/same"),
            event(4, "/kids"),
            event(4, "/kidless"),
            event(2, "/gone"),
            Said::Reply(-8, 12, 0)
        ]
    );
    // Data on /same, exists on /absent, child on /same.
    assert_eq!(world.shard.stats().watches.total, 3);
    world.send(
        writer,
        &[create(6, "/absent"), create(7, "/same/k")].concat(),
    );
    world.send(writer, &set_data(8, "/same", b"x"));
    assert_eq!(
        said(&world.frames(conn)),
        [
            Said::Event(13, 1, "/absent".into()),
            Said::Event(14, 4, "/same".into()),
            Said::Event(15, 3, "/same".into())
        ]
    );
}

#[test]
fn watches_end_with_their_connection() {
    let mut world = World::new();
    let (conn, other) = (world.client(), world.client());
    for c in [conn, other] {
        world.send(c, &[read(1, 3, "/a", true), read(2, 8, "/", true)].concat());
    }
    assert_eq!(world.shard.stats().watches.connections, 2);
    world.shard.closed(conn, world.now);
    let watches = world.shard.stats().watches;
    assert_eq!(
        (
            watches.connections,
            watches.paths,
            watches.data,
            watches.total
        ),
        (1, 1, 1, 2)
    );
}

#[test]
fn what_a_connection_watches_is_listed_up_to_a_bound() {
    use crate::shard::{WATCHES_LISTED_MAX, Watched};
    let mut world = World::new();
    let (one, other) = (world.client(), world.client());
    let sessions: Vec<_> = world
        .shard
        .connections()
        .map(|c| c.session.unwrap().session)
        .collect();
    for (conn, path) in [(one, "/b"), (one, "/a"), (one, "/a"), (other, "/a")] {
        world.send(conn, &read(2, 3, path, true));
    }
    // A child watch is in the other table.
    world.send(other, &read(3, 8, "/", true));
    let listed = |world: &World| -> Vec<Watched> {
        let slots = 0..world.shard.slots();
        slots
            .filter_map(|slot| world.shard.watched_at(slot))
            .collect()
    };
    let of = |session, paths: &[&str]| Watched {
        session,
        paths: Some(paths.iter().map(|&path| path.into()).collect()),
    };
    let due = [of(sessions[0], &["/a", "/b"]), of(sessions[1], &["/a"])];
    assert_eq!(listed(&world), due);
    let rest: Vec<usize> = (2..WATCHES_LISTED_MAX).collect();
    for some in rest.chunks(100) {
        let reads = some.iter().map(|n| read(4, 3, &format!("/{n}"), true));
        world.send(one, &reads.collect::<Vec<_>>().concat());
        world.frames(one);
    }
    let paths = listed(&world)[0].paths.as_ref().map(Vec::len);
    assert_eq!(paths, Some(WATCHES_LISTED_MAX));
    world.send(one, &read(5, 3, "/one-more", true));
    assert_eq!(listed(&world)[0].paths, None);
    assert_eq!(listed(&world)[1], due[1]);
    world.shard.closed(one, world.now);
    assert_eq!(listed(&world), due[1..]);
}
