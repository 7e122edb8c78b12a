//! Order on one connection: replies, reads behind writes, bounds, and bytes that are no requests.

use super::stand_in::*;
use crate::types::{ConnId, Zxid};
use proptest::prelude::*;

/// Deterministic choices.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn replies(world: &mut World, conn: ConnId) -> Vec<Said> {
    said(&world.frames(conn))
}

#[test]
fn a_read_waits_for_the_own_write() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    world.send(
        conn,
        &[create(1, "/a"), read(2, 3, "/a", false), ping()].concat(),
    );
    assert_eq!(replies(&mut world, conn), []);
    world.commit(1);
    assert_eq!(
        replies(&mut world, conn),
        [
            Said::Reply(1, 2, 0),
            Said::Reply(2, 2, 0),
            Said::Reply(-2, 2, 0)
        ]
    );
}

#[test]
fn a_read_sees_its_place_between_two_own_writes() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    let requests = [
        create(1, "/a"),
        read(2, 3, "/a", false),
        delete(3, "/a"),
        read(4, 3, "/a", false),
    ];
    world.send(conn, &requests.concat());
    world.commit(2);
    assert_eq!(
        replies(&mut world, conn),
        [
            Said::Reply(1, 2, 0),
            Said::Reply(2, 2, 0),
            Said::Reply(3, 3, 0),
            Said::Reply(4, 3, -101)
        ]
    );
}

#[test]
fn a_read_does_not_wait_for_the_writes_of_others() {
    let mut world = World::new();
    let (writer, reader) = (world.client(), world.client());
    world.prompt = false;
    world.send(writer, &create(1, "/a"));
    world.send(reader, &read(1, 3, "/a", false));
    assert_eq!(replies(&mut world, reader), [Said::Reply(1, 2, -101)]);
    world.commit(1);
    world.send(reader, &read(2, 3, "/a", false));
    assert_eq!(replies(&mut world, reader), [Said::Reply(2, 3, 0)]);
}

#[test]
fn a_failed_write_answers_with_the_zxid_that_it_took() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &[delete(1, "/none"), create(2, "/a")].concat());
    assert_eq!(
        replies(&mut world, conn),
        [Said::Reply(1, 2, -101), Said::Reply(2, 3, 0)]
    );
}

#[test]
fn a_refused_write_answers_in_its_place_with_the_last_applied_zxid() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    world.send(conn, &create(1, "/a"));
    world.full = true;
    world.send(conn, &[create(2, "/b"), read(3, 3, "/a", false)].concat());
    world.prompt = true;
    world.turn();
    assert_eq!(
        replies(&mut world, conn),
        [
            Said::Reply(1, 2, 0),
            Said::Reply(2, 2, -1),
            Said::Reply(3, 2, 0)
        ]
    );
    assert_eq!(world.shard.stats().in_flight, 0);
}

#[test]
fn malformed_requests_answer_in_order_and_take_no_zxid() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    let requests = [
        create(1, "/a"),
        request(2, 1, |out| out.extend([0, 0, 0, 99, b'/'])),
        request(3, 4, |_| {}),
        create(4, "/b"),
    ];
    world.send(conn, &requests.concat());
    world.prompt = true;
    world.turn();
    assert_eq!(
        replies(&mut world, conn),
        [
            Said::Reply(1, 2, 0),
            Said::Reply(2, 2, -5),
            Said::Reply(3, 2, -5),
            Said::Reply(4, 3, 0)
        ]
    );
}

#[test]
fn an_unknown_operation_answers_in_order_and_ends_the_connection() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    world.send(
        conn,
        &[create(1, "/a"), request(2, 999, |_| {}), create(3, "/b")].concat(),
    );
    assert_eq!(replies(&mut world, conn), []);
    world.prompt = true;
    world.turn();
    let (bytes, closed) = world.take(conn);
    assert_eq!(
        said(&split(&bytes)),
        [Said::Reply(1, 2, 0), Said::Reply(2, -1, -6)]
    );
    assert!(closed);
    assert_eq!(
        world.tree.last_zxid(),
        Zxid(2),
        "nothing behind it was executed"
    );
}

#[test]
fn auth_takes_effect_for_what_follows_it_and_answers_in_order() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    let mine = [("digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")];
    let requests = [
        create_acl(1, "/mine", b"", 0, &mine),
        read(2, 4, "/mine", false),
        set_data(3, "/mine", b"x"),
        auth(-4, "digest", b"bob:pw"),
        read(4, 4, "/mine", false),
        set_data(5, "/mine", b"x"),
    ];
    world.send(conn, &requests.concat());
    assert_eq!(replies(&mut world, conn), [], "auth does not overtake");
    world.prompt = true;
    world.turn();
    assert_eq!(
        replies(&mut world, conn),
        [
            Said::Reply(1, 2, 0),
            Said::Reply(2, 2, -102),
            Said::Reply(3, 3, -102),
            Said::Reply(-4, 0, 0),
            Said::Reply(4, 3, 0),
            Said::Reply(5, 4, 0)
        ]
    );
}

#[test]
fn a_failed_auth_answers_and_ends_the_connection() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &[auth(7, "sasl", b"x"), create(8, "/a")].concat());
    let (bytes, closed) = world.take(conn);
    assert_eq!(
        (said(&split(&bytes)), closed),
        (vec![Said::Reply(7, 0, -115)], true)
    );
    assert!(world.tree.stat("/a").is_none());
}

#[test]
fn sync_waits_for_what_was_committed_and_keeps_its_place() {
    let mut world = World::new();
    let (conn, other) = (world.client(), world.client());
    world.prompt = false;
    world.send(other, &create(1, "/o"));
    // Committed elsewhere, not yet applied here.
    world.shard.raise_committed(Zxid(3));
    world.send(
        conn,
        &[sync(1), read(2, 3, "/o", false), create(3, "/p")].concat(),
    );
    assert_eq!(replies(&mut world, conn), []);
    world.prompt = true;
    world.commit(1);
    world.turn();
    assert_eq!(
        replies(&mut world, conn),
        [
            Said::Reply(1, 3, 0),
            Said::Reply(2, 3, 0),
            Said::Reply(3, 4, 0)
        ]
    );
}

#[test]
fn a_members_sync_is_asked_for_at_the_head_and_answered_with_what_was_told_by_then() {
    let mut world = World::with(|config| config.is_member = true);
    let (conn, other) = (world.client(), world.client());
    world.prompt = false;
    world.send(other, &create(1, "/o"));
    let behind = [sync(2), read(3, 3, "/o", false), create(4, "/p")];
    world.send(conn, &[create(1, "/a"), behind.concat()].concat());
    assert_eq!(replies(&mut world, conn), []);
    world.commit(2);
    // Nothing is answered before the pipeline has.
    assert_eq!(replies(&mut world, conn), [Said::Reply(1, 4, 0)]);
    world.prompt = true;
    world.turn();
    assert_eq!(
        replies(&mut world, conn),
        [
            Said::Reply(2, 4, 0),
            Said::Reply(3, 4, 0),
            Said::Reply(4, 5, 0)
        ]
    );
}

#[test]
fn a_thousand_pipelined_requests_answer_in_order() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let mut world = World::with(|config| {
            // Every other time each bound is met again and again.
            if seed % 2 == 1 {
                (config.fifo_max, config.in_flight_max, config.output_max) = (7, 5, 600);
            }
        });
        let (conn, other) = (world.client(), world.client());
        world.prompt = false;
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for xid in 1..=1000 {
            let path = format!("/{}", dice.roll(5));
            expected.push(xid);
            stream.extend(match dice.roll(10) {
                0 | 1 => create(xid, &path),
                2 => delete(xid, &path),
                3 => set_data(xid, &path, b"x"),
                4 => read(xid, 4, &path, true),
                5 => read(xid, 12, "/", true),
                6 => sync(xid),
                7 => auth(xid, "digest", b"u:p"),
                8 => request(xid, 4, |_| {}),
                _ => {
                    *expected.last_mut().unwrap() = -2;
                    ping()
                }
            });
        }
        let mut got = Vec::new();
        let mut newest = 0;
        let mut rest = &stream[..];
        while got.len() < expected.len() {
            let (now, later) = rest.split_at(rest.len().min(dice.roll(2000) as usize));
            rest = later;
            world.send(conn, now);
            if dice.roll(3) == 0 {
                world.send(other, &set_data(1, "/1", b"y"));
            }
            world.commit(dice.roll(20) as usize);
            for frame in replies(&mut world, conn) {
                let (Said::Reply(_, zxid, _) | Said::Event(zxid, ..)) = frame;
                assert!(
                    zxid == 0 || zxid >= newest,
                    "seed {seed}: {zxid} after {newest}"
                );
                newest = newest.max(zxid);
                if let Said::Reply(xid, ..) = frame {
                    got.push(xid);
                }
            }
        }
        assert_eq!(got, expected, "seed {seed}");
    }
}

#[test]
fn a_full_fifo_is_not_read_and_goes_on_when_there_is_room() {
    let mut world = World::with(|config| config.fifo_max = 3);
    let conn = world.client();
    world.prompt = false;
    let creates: Vec<u8> = (1..=8)
        .flat_map(|xid| create(xid, &format!("/{xid}")))
        .collect();
    world.send(conn, &creates);
    assert_eq!(world.logged.len(), 3);
    assert!(world.shard.may_read(conn) == 0);
    world.commit(1);
    assert_eq!(world.logged.len(), 3);
    for _ in 0..7 {
        world.commit(1);
    }
    assert_eq!(replies(&mut world, conn).len(), 8);
    assert!(world.shard.may_read(conn) > 0);
}

#[test]
fn credits_are_shared_and_come_back() {
    let mut world = World::with(|config| config.in_flight_max = 4);
    let (greedy, modest, gone) = (world.client(), world.client(), world.client());
    world.prompt = false;
    let creates: Vec<u8> = (1..=9)
        .flat_map(|xid| create(xid, &format!("/{xid}")))
        .collect();
    world.send(gone, &create(1, "/g"));
    world.send(greedy, &creates);
    assert_eq!(world.logged.len(), 4);
    assert!(world.shard.may_read(greedy) == 0);
    // Who has nothing under way may always have one request under way.
    world.send(modest, &[create(1, "/m"), create(2, "/n")].concat());
    assert_eq!(world.logged.len(), 5);
    // A connection that ends still owes its outcome.
    world.shard.closed(gone, world.now);
    assert_eq!(world.shard.stats().in_flight, 5);
    let mut most = 0;
    while !world.logged.is_empty() {
        world.commit(1);
        most = most.max(world.shard.stats().in_flight);
    }
    assert!(most <= 5, "{most}");
    assert_eq!(world.shard.stats().in_flight, 0);
    assert_eq!(replies(&mut world, greedy).len(), 9);
    assert_eq!(replies(&mut world, modest).len(), 2);
    assert!(world.shard.may_read(greedy) > 0 && world.shard.may_read(modest) > 0);
}

#[test]
fn the_driver_hears_once_of_output_and_of_input_wanted_again() {
    let mut world = World::with(|config| config.fifo_max = 1);
    let (conn, other) = (world.client(), world.client());
    while world.shard.poll_dirty().is_some() {}
    world.prompt = false;
    world.send(other, &ping());
    world.send(other, &ping());
    world.send(conn, &[create(1, "/a"), create(2, "/b")].concat());
    assert_eq!(world.shard.poll_dirty(), Some(other));
    assert_eq!(world.shard.poll_dirty(), None);
    world.commit(1);
    assert_eq!(world.shard.poll_dirty(), Some(conn));
    world.take(conn);
    assert_eq!(world.shard.poll_dirty(), None);
    world.commit(1);
    assert_eq!(world.shard.poll_dirty(), Some(conn));
    assert!(world.shard.may_read(conn) > 0);
}

#[test]
fn a_credit_goes_to_who_waits_before_who_has_just_used_one() {
    let mut world = World::with(|config| config.in_flight_max = 2);
    let (greedy, modest) = (world.client(), world.client());
    world.prompt = false;
    let creates = |name: char| -> Vec<u8> {
        (1..=6)
            .flat_map(|xid| create(xid, &format!("/{name}{xid}")))
            .collect()
    };
    world.send(greedy, &creates('g'));
    world.send(modest, &creates('m'));
    assert_eq!(world.shard.may_read(modest), 0, "its second write waits");
    let mut order = Vec::new();
    while !world.logged.is_empty() {
        world.commit(1);
        for (name, conn) in [('g', greedy), ('m', modest)] {
            order.extend(replies(&mut world, conn).iter().map(|_| name));
        }
    }
    // In turns, although one of them was first with everything that it had.
    let order: String = order.into_iter().collect();
    assert_eq!(order, "ggmgmgmgmgmm");
    assert_eq!(world.shard.stats().in_flight, 0);
    assert!(world.shard.may_read(modest) > 0);
}

#[test]
fn a_credit_that_a_connection_with_a_full_output_does_not_use_goes_to_the_next() {
    let mut world = World::with(|config| {
        config.in_flight_max = 2;
        config.output_max = 8000;
    });
    let (full, next, other) = (world.client(), world.client(), world.client());
    world.send(other, &create(1, "/n"));
    world.prompt = false;
    world.send(other, &set_data(2, "/n", &[7; 20_000]));
    let requests = [create(1, "/a"), read(2, 4, "/n", false), create(3, "/b")];
    world.send(full, &requests.concat());
    world.send(next, &[create(1, "/c"), create(2, "/d")].concat());
    assert_eq!(world.logged.len(), 3, "the second writes of two wait");
    // The node has grown: the read fills the output, and the write behind it can't be handed up.
    world.commit(2);
    assert_eq!(world.shard.may_read(full), 0);
    assert_eq!(
        world.logged.len(),
        2,
        "both writes of the next are under way"
    );
}

fn world_with_a_big_node() -> (World, ConnId) {
    let mut world = World::with(|config| {
        config.output_max = 10_000;
        config.output_excess_max = 40_000;
    });
    let conn = world.client();
    world.send(
        conn,
        &create_acl(1, "/big", &[7; 4000], 0, &[("world", "anyone")]),
    );
    world.frames(conn);
    (world, conn)
}

#[test]
fn output_that_nobody_takes_stops_input_and_reads() {
    let (mut world, conn) = world_with_a_big_node();
    let reads: Vec<u8> = (2..=21)
        .flat_map(|xid| read(xid, 4, "/big", false))
        .collect();
    world.send(conn, &reads);
    assert!(world.shard.may_read(conn) == 0);
    let mut got = Vec::new();
    while got.len() < 20 {
        let (bytes, closed) = world.take(conn);
        assert!(!closed && bytes.len() <= 10_000 + 4100, "{}", bytes.len());
        got.extend(said(&split(&bytes)));
    }
    let expected: Vec<Said> = (2..=21).map(|xid| Said::Reply(xid, 2, 0)).collect();
    assert_eq!(got, expected);
    assert!(world.shard.may_read(conn) > 0);
}

#[test]
fn a_read_with_a_large_reply_waits_until_the_output_before_it_has_left() {
    let mut world = World::with(|config| config.connection_share = 1000);
    let conn = world.client();
    let big = create_acl(1, "/big", &[7; 4000], 0, &[("world", "anyone")]);
    world.send(conn, &big);
    world.frames(conn);
    let small = |xid| read(xid, 3, "/", false);
    let large = |xid| read(xid, 4, "/big", false);
    let requests = [
        small(2),
        large(3),
        small(4),
        large(5),
        small(6),
        large(7),
        create(8, "/c"),
    ];
    world.send(conn, &requests.concat());
    for (xids, may_read) in [(&[2, 3, 4][..], false), (&[5, 6], false), (&[7, 8], true)] {
        assert_eq!(world.shard.may_read(conn) > 0, may_read, "{xids:?}");
        let (bytes, closed) = world.take(conn);
        assert!(!closed);
        let answered = said(&split(&bytes));
        let xid = |said: &Said| match said {
            Said::Reply(xid, ..) => *xid,
            Said::Event(..) => panic!("nobody watches"),
        };
        assert_eq!(answered.iter().map(xid).collect::<Vec<_>>(), xids);
    }
}

#[test]
fn reads_between_two_own_writes_under_way_see_the_state_between_them() {
    let (mut world, conn) = world_with_a_big_node();
    world.prompt = false;
    let stream = [
        create(2, "/a"),
        read(3, 3, "/b", false),
        read(4, 3, "/a", false),
        create(5, "/b"),
        read(6, 3, "/b", false),
    ];
    world.send(conn, &stream.concat());
    assert_eq!(world.logged.len(), 2, "both are under way");
    // The driver applies both before anybody's turn comes.
    world.commit(2);
    assert_eq!(
        replies(&mut world, conn),
        [
            Said::Reply(2, 3, 0),
            Said::Reply(3, 3, -101),
            Said::Reply(4, 3, 0),
            Said::Reply(5, 4, 0),
            Said::Reply(6, 4, 0)
        ]
    );
}

#[test]
fn a_write_waits_for_large_reads_before_it_and_every_reply_comes() {
    let mut world = World::new();
    let conn = world.client();
    let data = vec![7; 900_000];
    let big = create_acl(1, "/big", &data, 0, &[("world", "anyone")]);
    world.send(conn, &big);
    world.frames(conn);
    world.prompt = false;
    let mut stream = set_data(2, "/big", &data);
    for xid in 3..28 {
        stream.extend(read(xid, 4, "/big", false));
    }
    stream.extend(set_data(28, "/big", b"later"));
    world.send(conn, &stream);
    assert_eq!(world.logged.len(), 1, "the second write waits");
    world.prompt = true;
    let mut got = Vec::new();
    for _ in 0..27 {
        world.turn();
        let (bytes, closed) = world.take(conn);
        assert!(!closed && bytes.len() < 6 << 20, "{}", bytes.len());
        got.extend(said(&split(&bytes)));
    }
    let mut expected: Vec<Said> = (2..28).map(|xid| Said::Reply(xid, 3, 0)).collect();
    expected.push(Said::Reply(28, 4, 0));
    assert_eq!(got, expected);
}

#[test]
fn a_write_waits_when_many_reads_are_before_it() {
    use crate::constants::READS_AHEAD_MAX;
    for (reads, handed_up) in [(READS_AHEAD_MAX, 2), (READS_AHEAD_MAX + 1, 1)] {
        let mut world = World::new();
        let conn = world.client();
        world.prompt = false;
        let mut stream = create(1, "/a");
        for xid in 0..reads as i32 {
            stream.extend(read(xid + 2, 3, "/a", false));
        }
        stream.extend(create(100, "/b"));
        world.send(conn, &stream);
        assert_eq!(world.logged.len(), handed_up, "{reads}");
        world.prompt = true;
        world.turn();
        assert_eq!(replies(&mut world, conn).len(), reads + 2);
    }
}

#[test]
fn what_comes_on_top_of_a_full_output_that_was_offered_ends_the_connection() {
    for offered in [false, true] {
        let (mut world, conn) = world_with_a_big_node();
        let other = world.client();
        let path = |n: i32| format!("/{n}{}", "n".repeat(7000));
        for n in 1..=7 {
            world.send(conn, &read(n, 3, &path(n), true));
        }
        world.frames(conn);
        // More than 10,000 bytes, and then events of 49,000 when 40,000 are allowed.
        for xid in 11..=13 {
            world.send(conn, &read(xid, 4, "/big", false));
        }
        while offered && world.shard.poll_dirty().is_some() {}
        for n in 1..=7 {
            world.send(other, &create(n, &path(n)));
            world.frames(other);
        }
        assert_eq!(world.shard.is_discarded(conn), offered);
        assert!(!world.shard.is_discarded(other));
    }
}

#[test]
fn a_single_reply_may_be_of_any_size() {
    let mut world = World::with(|config| {
        config.output_max = 100;
        config.output_excess_max = 100;
    });
    let conn = world.client();
    let big = create_acl(1, "/big", &[7; 4000], 0, &[("world", "anyone")]);
    world.send(conn, &big);
    assert_eq!(replies(&mut world, conn), [Said::Reply(1, 2, 0)]);
    world.send(
        conn,
        &[read(2, 4, "/big", true), set_data(3, "/big", b"")].concat(),
    );
    let (bytes, closed) = world.take(conn);
    assert!(!closed);
    // The setData has to wait until there is room.
    assert_eq!(said(&split(&bytes)), [Said::Reply(2, 2, 0)]);
    let rest = said(&world.frames(conn));
    assert_eq!(
        rest,
        [Said::Event(3, 3, "/big".into()), Said::Reply(3, 3, 0)]
    );
}

#[test]
fn a_length_beyond_the_limit_closes_the_connection() {
    for (bytes, answers) in [
        (vec![0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7], "a header cut short"),
        (
            0x10_0000i32.to_be_bytes().to_vec(),
            "one beyond jute.maxbuffer",
        ),
        ((-1i32).to_be_bytes().to_vec(), "negative"),
    ] {
        let mut world = World::new();
        let conn = world.client();
        world.send(conn, &[ping(), bytes].concat());
        let (bytes, closed) = world.take(conn);
        assert_eq!(said(&split(&bytes)).len(), 1, "{answers}");
        assert!(closed, "{answers}");
    }
}

/// Requests, well formed and not, with the xid that each is answered with.
fn any_request() -> impl Strategy<Value = (i32, Vec<u8>)> {
    (
        1..i32::MAX,
        prop_oneof![
            Just(1),
            Just(2),
            Just(3),
            Just(4),
            Just(5),
            Just(6),
            Just(7),
            Just(8),
            Just(9),
            Just(12),
            Just(14),
            Just(15),
            Just(16),
            Just(22),
            Just(101),
            Just(103),
            Just(104),
            Just(107),
        ],
        any::<Vec<u8>>(),
    )
        .prop_map(|(xid, op, body)| (xid, request(xid, op, |out| out.extend(body))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_panic(chunks in proptest::collection::vec(any::<Vec<u8>>(), 0..8), attached in any::<bool>()) {
        let mut world = World::new();
        let conn = if attached { world.client() } else { world.accept() };
        for chunk in chunks {
            world.send(conn, &chunk);
        }
        world.take(conn);
    }

    #[test]
    fn garbage_bodies_answer_in_order(requests in proptest::collection::vec(any_request(), 0..30), chunk in 1usize..50) {
        let mut world = World::new();
        let conn = world.client();
        let stream: Vec<u8> = requests.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        for bytes in stream.chunks(chunk) {
            world.send(conn, bytes);
        }
        let replied: Vec<i32> = replies(&mut world, conn)
            .into_iter()
            .filter_map(|said| match said {
                Said::Reply(xid, ..) => Some(xid),
                Said::Event(..) => None,
            })
            .collect();
        let asked: Vec<i32> = requests.iter().map(|(xid, _)| *xid).collect();
        prop_assert_eq!(replied, asked);
    }
}

#[test]
fn the_replies_owed_for_writes_fit_the_output() {
    let mut world = World::with(|config| config.output_max = 8 << 10);
    let conn = world.client();
    world.prompt = false;
    // Each is taken for up to 3,400 bytes of reply.
    let multi = |xid| {
        request(xid, 14, |out| {
            for n in 0..20 {
                put_multi_delete(out, &format!("/absent{n}"));
            }
            put_multi_end(out);
        })
    };
    let requests: Vec<u8> = (1..=10).flat_map(multi).collect();
    world.send(conn, &requests);
    assert_eq!(world.shard.stats().in_flight, 2);
    for n in 1..=10 {
        world.commit(1);
        assert_eq!(replies(&mut world, conn).len(), 1, "the outcome of {n}");
    }
    assert_eq!(world.shard.stats().in_flight, 0);
}
