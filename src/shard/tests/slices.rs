//! Requests that are worked off in slices: what others get meanwhile, what the reply says, and what is
//! left of a connection that ends in between.

use super::fairness::sent;
use super::stand_in::*;
use crate::budget::Budget;
use crate::messages::{Notice, ShardRequest};
use crate::txn::{Acl, CreateTxn, Entry, Txn, TxnHeader};
use crate::types::{ConnId, Generation, OpCode, SessionId, Tick, WallMs, Zxid};

/// A slice of so many steps.
pub(super) fn steps(n: u32) -> Budget {
    Budget::new(u32::MAX, u32::MAX, n)
}

/// Slices from the smallest to one that is enough.
pub(super) const STEPS: [u32; 7] = [1, 2, 5, 9, 50, 300, 100_000];

fn names(n: usize, prefix: &str) -> Vec<String> {
    (0..n).map(|n| format!("{prefix}{n}")).collect()
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

/// Turns until nobody is ready; how many there were.
pub(super) fn finish(world: &mut World) -> usize {
    std::iter::from_fn(|| world.one_turn()).count()
}

/// The frames of a connection, when nobody's turn comes.
pub(super) fn output(world: &mut World, conn: ConnId) -> Vec<Vec<u8>> {
    let output = world.shard.fetch_output(conn, Vec::new(), world.now);
    assert!(!output.close, "closed");
    world.shard.sent(conn, output.bytes.len());
    split(&output.bytes)
}

fn event(zxid: i64, kind: i32, path: &str) -> Said {
    Said::Event(zxid, kind, path.into())
}

#[test]
fn between_two_slices_of_a_set_watches_another_connection_is_served() {
    let mut world = World::new();
    let (many, calm) = (world.client(), world.client());
    let paths = names(1000, "/w");
    world.slice = steps(100);
    world.receive(many, &set_watches(-8, Zxid(0), &[], &refs(&paths), &[]));
    let mut pings = 0;
    while sent(&world, many) == 0 {
        world.receive(calm, &ping());
        pings += 1;
        assert_eq!(sent(&world, calm), pings, "answered before the setWatches");
        assert_eq!(world.one_turn(), Some(many));
    }
    // A path takes four steps.
    assert_eq!(pings, 1000 * 4 / 100);
    assert_eq!(world.shard.stats().watches.total, 1000);
    assert_eq!(said(&output(&mut world, many)), [Said::Reply(-8, 2, 0)]);
}

#[test]
fn a_set_watches2_is_worked_off_in_slices_and_none_of_its_watches_is_lost() {
    let paths = names(100, "/w");
    let (some, others) = paths.split_at(40);
    let (some, others) = (refs(some), refs(others));
    let lists: [&[&str]; 5] = [&[], &some, &[], &others, &some];
    for slice in STEPS {
        let mut world = World::new();
        let (conn, writer) = (world.client(), world.client());
        world.slice = steps(slice);
        world.receive(conn, &set_watches2(-8, Zxid(0), lists));
        assert_eq!(sent(&world, conn) == 0, slice < 140 * 4, "{slice}");
        finish(&mut world);
        assert_eq!(said(&output(&mut world, conn)), [Said::Reply(-8, 2, 0)]);
        // A persistent one is in two tables.
        assert_eq!(world.shard.stats().watches.total, 40 + 2 * 60);
        for (path, zxid) in paths.iter().zip(3..) {
            world.write(writer, &create(1, path));
            let told = said(&output(&mut world, conn));
            assert_eq!(told, [event(zxid, 1, path)], "{slice}");
        }
    }
}

#[test]
fn what_is_applied_between_two_slices_is_told_once_for_each_path() {
    for slice in STEPS {
        let mut world = World::new();
        let (conn, writer) = (world.client(), world.client());
        let open = [create(1, "/early"), create(2, "/late")].concat();
        world.send(writer, &open);
        world.frames(writer);
        let fill = names(50, "/w");
        let mut exist = vec!["/new-early"];
        exist.extend(refs(&fill));
        exist.push("/new-late");
        // Seen: everything so far.
        world.slice = steps(slice);
        world.receive(
            conn,
            &set_watches(-8, world.tree.last_zxid(), &["/early"], &exist, &["/late"]),
        );
        let halfway = world.shard.stats().watches.total < 53;
        assert_eq!(halfway, slice < 212, "{slice}");
        for path in ["/new-early", "/new-late", "/late/child"] {
            world.write(writer, &create(3, path));
        }
        world.write(writer, &set_data(4, "/early", b"x"));
        finish(&mut world);
        let told = said(&output(&mut world, conn));
        let reply = told.len() - 1;
        if halfway {
            assert_eq!(told[reply], Said::Reply(-8, 8, 0), "{slice}");
        }
        let mut events: Vec<(i32, &str)> = told
            .iter()
            .filter_map(|said| match said {
                Said::Event(_, kind, path) => Some((*kind, &**path)),
                Said::Reply(..) => None,
            })
            .collect();
        events.sort_unstable();
        let due = [
            (1, "/new-early"),
            (1, "/new-late"),
            (3, "/early"),
            (4, "/late"),
        ];
        assert_eq!(events, due, "{slice}");
        assert_eq!(world.shard.stats().watches.total, 50);
        if slice == 50 {
            // What was registered hears of its transaction, the rest of the newer state.
            let due = [
                event(5, 1, "/new-early"),
                event(8, 3, "/early"),
                event(-1, 1, "/new-late"),
                event(-1, 4, "/late"),
            ];
            assert_eq!(told[..reply], due);
        }
    }
}

#[test]
fn nothing_behind_a_set_watches_overtakes_it() {
    for slice in STEPS {
        let mut world = World::new();
        let conn = world.client();
        let paths = names(20, "/w");
        world.slice = steps(slice);
        let requests = [
            create(1, "/before"),
            set_watches(-8, Zxid(0), &[], &refs(&paths), &[]),
            ping(),
            create(2, "/w3"),
            read(3, 3, "/w3", false),
        ];
        world.send(conn, &requests.concat());
        let due = [
            Said::Reply(1, 2, 0),
            Said::Reply(-8, 2, 0),
            Said::Reply(-2, 2, 0),
            event(3, 1, "/w3"),
            Said::Reply(2, 3, 0),
            Said::Reply(3, 3, 0),
        ];
        assert_eq!(said(&world.frames(conn)), due, "{slice}");
    }
}

#[test]
fn a_connection_that_ends_halfway_through_gives_back_all() {
    let paths = names(100, "/w");
    for slice in [1, 7, 100] {
        for request in [
            set_watches(-8, Zxid(0), &[], &refs(&paths), &[]),
            read(3, 8, "/kids", true),
        ] {
            let (mut world, _, ends) = with_children(200);
            world.slice = steps(slice);
            world.receive(ends, &request);
            assert_eq!(sent(&world, ends), 0, "halfway");
            assert!(world.shard.stats().request_bytes > 0);
            world.shard.closed(ends, world.now);
            world.advance();
            while world.shard.reap(&mut Budget::new(1, 1, 10)) {}
            let stats = world.shard.stats();
            assert_eq!((stats.request_bytes, stats.output_bytes), (0, 0));
            assert_eq!((stats.watch_bytes, stats.watches.total), (0, 0));
            assert_eq!(stats.connections, 1);
        }
    }
}

/// A world with a node of `n` children, and a connection that lists them.
fn with_children(n: usize) -> (World, ConnId, ConnId) {
    let mut world = World::new();
    let (writer, lister) = (world.client(), world.client());
    world.send(writer, &create(1, "/kids"));
    for name in names(n, "/kids/") {
        world.write(writer, &create(2, &name));
    }
    output(&mut world, writer);
    (world, writer, lister)
}

fn multi_read(xid: i32, ops: &[(i32, &str)]) -> Vec<u8> {
    use crate::txn::jute::Put;
    request(xid, 22, |out| {
        for (op, path) in ops {
            out.put_i32(*op);
            out.put_bool(false);
            out.put_i32(-1);
            out.put_str(path);
            out.put_bool(false);
        }
        put_multi_end(out);
    })
}

/// A getChildren, a getChildren2, and a multiRead of lists and data.
fn long_reads() -> [Vec<u8>; 3] {
    let ops = [
        (8, "/kids"),
        (4, "/kids"),
        (4, "/none"),
        (8, "/none"),
        (8, "/"),
        (8, "/kids/1"),
    ];
    [
        read(3, 8, "/kids", true),
        read(3, 12, "/kids", true),
        multi_read(3, &ops.repeat(9)),
    ]
}

#[test]
fn a_reply_that_is_made_in_slices_is_the_same_and_others_are_served_meanwhile() {
    for request in long_reads() {
        let (mut world, _, lister) = with_children(300);
        world.receive(lister, &request);
        let [whole] = &output(&mut world, lister)[..] else {
            panic!("one reply");
        };
        for slice in STEPS {
            let (mut world, calm, lister) = with_children(300);
            world.slice = steps(slice);
            world.receive(lister, &request);
            let mut pings = 0;
            while sent(&world, lister) == 0 {
                world.receive(calm, &ping());
                pings += 1;
                assert_eq!(output(&mut world, calm).len(), 1);
                assert_eq!(world.one_turn(), Some(lister));
            }
            assert!(pings >= 300 / slice as usize, "{slice}: {pings}");
            assert_eq!(
                output(&mut world, lister),
                std::slice::from_ref(whole),
                "{slice}"
            );
            let stats = world.shard.stats();
            assert_eq!((stats.request_bytes, stats.output_bytes), (0, 0));
        }
    }
}

#[test]
fn a_list_begins_again_when_its_node_has_changed_and_only_then() {
    let (mut world, writer, lister) = with_children(100);
    world.slice = steps(30);
    // As long as something else changes, four slices are enough.
    world.receive(lister, &read(3, 8, "/kids", true));
    for n in 0..3 {
        world.write(writer, &create(4, &format!("/other{n}")));
        assert_eq!(sent(&world, lister), 0);
        world.one_turn();
    }
    assert_eq!(said(&output(&mut world, lister)), [Said::Reply(3, 106, 0)]);
    // If its own children change, the third attempt is in one piece, on the state that it finds.
    let mut changes = 0;
    world.receive(lister, &read(4, 8, "/kids", false));
    // The first list, the event of its watch, and the second list.
    while sent(&world, lister) < 3 {
        world.write(writer, &create(5, &format!("/kids/new{changes}")));
        changes += 1;
        world.one_turn();
    }
    assert_eq!(changes, 3);
    let frames = output(&mut world, lister);
    let [changed, list] = &frames[..] else {
        panic!("an event and a reply");
    };
    assert_eq!(
        said(std::slice::from_ref(changed)),
        [event(107, 4, "/kids")]
    );
    assert_eq!(list[4..12], world.tree.last_zxid().0.to_be_bytes());
    assert_eq!(list[16..20], 103i32.to_be_bytes());
}

#[test]
fn a_list_whose_node_goes_or_is_closed_meanwhile_is_an_error() {
    let set_acl = request(6, 7, |out| {
        use crate::txn::jute::Put;
        out.put_str("/kids");
        out.put_len(1);
        out.put_i32(31);
        out.put_str("digest");
        out.put_str("u:h");
        out.put_i32(-1);
    });
    let (mut world, writer, lister) = with_children(100);
    world.slice = steps(30);
    world.receive(lister, &read(3, 8, "/kids", true));
    world.write(writer, &set_acl);
    finish(&mut world);
    assert_eq!(
        said(&output(&mut world, lister)),
        [Said::Reply(3, 104, -102)]
    );

    let (mut world, writer, lister) = with_children(3);
    world.slice = steps(2);
    world.receive(lister, &read(3, 8, "/kids", true));
    assert_eq!(sent(&world, lister), 0);
    for path in ["/kids/0", "/kids/1", "/kids/2", "/kids"] {
        world.write(writer, &delete(6, path));
    }
    finish(&mut world);
    assert_eq!(
        said(&output(&mut world, lister)),
        [Said::Reply(3, 10, -101)]
    );
    assert_eq!(world.shard.stats().watches.total, 0);
}

#[test]
fn a_list_begins_again_also_when_the_creation_counter_of_its_node_has_stuck() {
    let (mut world, _, lister) = with_children(20);
    let grow = |world: &mut World, path: &str| {
        let header = TxnHeader {
            session: SessionId(0x0100_000d_6217_0000),
            cxid: 0,
            zxid: world.tree.last_zxid().next(),
            time: WallMs(0),
            op: OpCode::CREATE,
        };
        let txn = Txn::Create(CreateTxn {
            path: path.into(),
            data: None,
            acl: [Acl::world(Acl::ALL)].into(),
            ephemeral: false,
            parent_cversion: i32::MAX,
            ttl_ms: 0,
        });
        let digest = None;
        world.tree.apply(&Entry {
            header,
            txn,
            digest,
        });
    };
    grow(&mut world, "/kids/last");
    world.slice = steps(12);
    world.receive(lister, &read(3, 8, "/kids", false));
    let before = world.tree.stat("/kids").unwrap().pzxid;
    grow(&mut world, "/kids/more");
    assert_eq!(world.tree.stat("/kids").unwrap().pzxid, before, "stuck");
    finish(&mut world);
    let [list] = &output(&mut world, lister)[..] else {
        panic!("one reply");
    };
    assert_eq!(list[16..20], 22i32.to_be_bytes());
    assert!(list.ends_with(b"\0\0\0\x04more"));
}

#[test]
fn a_multi_read_is_one_state_of_the_tree_whatever_is_applied_between_its_slices() {
    let request = multi_read(3, &[(4, "/a"); 40]);
    for (writes, due) in [(1, 1), (2, 2), (3, 3), (9, 3)] {
        let mut world = World::new();
        let (writer, reader) = (world.client(), world.client());
        world.send(
            writer,
            &create_acl(1, "/a", b"0", 0, &[("world", "anyone")]),
        );
        world.frames(writer);
        world.slice = steps(8);
        world.receive(reader, &request);
        let mut written = 0;
        while sent(&world, reader) == 0 {
            if written < writes {
                written += 1;
                world.write(writer, &set_data(2, "/a", written.to_string().as_bytes()));
            }
            world.one_turn();
        }
        assert_eq!(written, due);
        let [reply] = &output(&mut world, reader)[..] else {
            panic!("one reply");
        };
        assert_eq!(reply[4..12], world.tree.last_zxid().0.to_be_bytes());
        // Each result: nine bytes of header, the data, a Stat.
        let results: Vec<&[u8]> = reply[16..].chunks_exact(9 + 5 + 68).collect();
        assert_eq!(results.len(), 40);
        for result in results {
            assert_eq!(result, results_of(&reply[16..]), "one state");
            assert_eq!(result[13], written.to_string().as_bytes()[0]);
        }
    }
}

fn results_of(body: &[u8]) -> &[u8] {
    &body[..9 + 5 + 68]
}

#[test]
fn what_is_drafted_counts_against_the_output_of_all() {
    let (mut world, _, lister) = with_children(300);
    let other = world.client();
    world.slice = steps(10);
    world.receive(lister, &read(3, 8, "/kids", false));
    assert!(world.shard.promised_output() > 300);
    world.shard.closed(lister, world.now);
    assert_eq!(world.shard.promised_output(), 0);
    world.receive(other, &read(3, 8, "/kids", false));
    assert!(world.shard.promised_output() > 300);
    finish(&mut world);
    assert_eq!(world.shard.promised_output(), 0);
}

#[test]
fn room_for_what_is_drafted_is_given_back_however_its_connection_ends() {
    type End = fn(&mut World, ConnId, SessionId);
    let ends: [(&str, End); 5] = [
        ("the client closes", |world, conn, _| {
            world.shard.closed(conn, world.now)
        }),
        ("the session is elsewhere", |world, _, session| {
            let generation = Generation(1);
            let detach = Notice::Detach {
                session,
                generation,
            };
            world.shard.notice(&world.tree, detach, world.now);
        }),
        ("it is turned away", |world, conn, _| {
            (world.shard).notice(&world.tree, Notice::Close(conn), world.now);
        }),
        ("the session expires", |world, _, session| {
            world.expire_unheard(session)
        }),
        ("it takes none of its output", |world, _, _| {
            for _ in 0..2 {
                let mut budget = Budget::UNLIMITED;
                let watermark = world.now.tick;
                assert!(world.shard.report(watermark, &mut budget, world.now));
                world.now.tick.0 += 100_000;
            }
        }),
    ];
    let reads: [(&str, Vec<u8>); 3] = [
        ("names", read(3, 8, "/kids", false)),
        (
            "several lists",
            multi_read(3, &[(8, "/kids"), (8, "/kids")]),
        ),
        ("a write behind it", {
            let list = read(3, 8, "/kids", false);
            [list, set_data(4, "/kids", b"x")].concat()
        }),
    ];
    for (what, end) in ends {
        for (of, read) in &reads {
            let (mut world, _, lister) = with_children(300);
            // The writer's is the first one.
            let session = SessionId(world.session.0 - 1);
            world.receive(lister, &ping());
            world.slice = steps(10);
            world.receive(lister, read);
            assert!(world.shard.promised_output() > 300, "{what}, {of}");
            end(&mut world, lister, session);
            assert_eq!(world.shard.promised_output(), 0, "{what}, {of}");
            world.check();
            let output = (world.shard).fetch_output(lister, Vec::new(), world.now);
            assert!(output.close || !world.shard.has(lister), "{what}, {of}");
            world.check();
        }
    }
}

/// One slice of a round: whether it has ended, and what went up.
fn round(world: &mut World, watermark: u64, slice: u32) -> (bool, Vec<(Tick, Vec<SessionId>)>) {
    let mut budget = steps(slice);
    let ended = world.shard.report(Tick(watermark), &mut budget, world.now);
    let mut reports = Vec::new();
    while let Some(up) = world.shard.poll_request(world.now) {
        if let ShardRequest::Touched {
            watermark,
            sessions,
            ..
        } = up
        {
            reports.push((watermark, sessions));
        }
    }
    (ended, reports)
}

#[test]
fn a_round_in_slices_reports_each_session_once_and_the_watermark_last() {
    let mut world = World::new();
    let clients: Vec<ConnId> = (0..40).map(|_| world.client()).collect();
    while !round(&mut world, 1, 1_000_000).0 {}
    for slice in [1, 10, 33, 64, 400, 1_000_000] {
        for &conn in &clients[..20] {
            world.receive(conn, &ping());
        }
        let mut reports = Vec::new();
        let mut slices = 0;
        loop {
            let (ended, some) = round(&mut world, 5_000, slice);
            slices += 1;
            reports.extend(some);
            if reports.len() == 1 && !ended {
                // Heard again while the report goes up: that is for the next one.
                world.receive(clients[0], &ping());
            }
            if ended {
                break;
            }
        }
        let again = reports.len() > 1;
        assert!(
            slices >= (40 * 5 + 20 * 32) / (slice as usize + 32),
            "{slice}: {slices}"
        );
        let (last, others) = reports.split_last().unwrap();
        assert_eq!(last.0, Tick(5_000));
        assert!(others.iter().all(|(watermark, _)| *watermark == Tick(0)));
        let mut sessions: Vec<SessionId> = reports.into_iter().flat_map(|(_, s)| s).collect();
        let all = sessions.len();
        sessions.sort_unstable();
        sessions.dedup();
        assert_eq!((all, sessions.len()), (20, 20), "{slice}");
        let (ended, next) = round(&mut world, 6_000, 1_000_000);
        let next: Vec<SessionId> = next.into_iter().flat_map(|(_, s)| s).collect();
        assert!(ended);
        assert_eq!(next.len(), usize::from(again), "{slice}");
    }
}
