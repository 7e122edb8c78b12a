//! Memory: each bound, at the bound, and who waits or ends there.

use super::stand_in::*;
use crate::budget::Budget;
use crate::shard::ShardConfig;
use crate::shard::connection::TIMINGS_MAX;
use crate::stages::Stage;
use crate::txn::jute::Put;
use crate::types::{ConnId, Zxid};

const OPEN: &[(&str, &str)] = &[("world", "anyone")];

/// Shares of 1,000 bytes, and pools of 100,000 beyond them.
fn small(config: &mut ShardConfig) {
    config.connection_share = 1_000;
    config.request_bytes_max = 100_000;
    config.output_bytes_max = 100_000;
    config.reply_bytes_max = 50_000;
}

/// Sends as much as may be read of `bytes`; gives what is left.
fn send_what_may_be_read<'a>(world: &mut World, conn: ConnId, mut bytes: &'a [u8]) -> &'a [u8] {
    loop {
        let n = world.shard.may_read(conn).min(bytes.len());
        if n == 0 {
            return bytes;
        }
        world.send(conn, &bytes[..n]);
        bytes = &bytes[n..];
    }
}

/// A reply of twenty bytes has times of fifty.
#[test]
fn of_replies_that_nobody_takes_few_times_are_kept_and_no_memory_when_they_are_taken() {
    const READS: usize = 20_000;
    let mut world = World::new();
    let conn = world.client();
    let reads = read(1, 3, "/none", false).repeat(READS);
    assert!(send_what_may_be_read(&mut world, conn, &reads).is_empty());
    let times = |world: &mut World| {
        let unsent = &world.shard.conns.get_mut(conn).unwrap().unsent;
        (unsent.len(), unsent.capacity())
    };
    assert_eq!(times(&mut world), (TIMINGS_MAX, TIMINGS_MAX));
    assert_eq!(world.frames(conn).len(), READS);
    assert_eq!(times(&mut world), (0, 0));
    let counted = world.shard.stages().summary(Stage::Read).count;
    assert_eq!(counted, READS as u64, "each is counted");
    world.send(conn, &reads[..reads.len() / READS]);
    world.frames(conn);
    assert!(
        matches!(times(&mut world), (0, 1..=16)),
        "a short list stays"
    );
}

/// A multi of `n` operations, which takes several times its bytes when it is decoded.
fn multi_of(n: usize) -> Vec<u8> {
    request(1, 14, |out| {
        for _ in 0..n {
            put_multi_delete(out, "/none/of/them");
        }
        put_multi_end(out);
    })
}

#[test]
fn a_large_frame_is_read_when_memory_for_all_of_it_is_there() {
    let mut world = World::with(small);
    let (a, b, calm) = (world.client(), world.client(), world.client());
    world.prompt = false;
    let write = set_data(1, "/zookeeper", &[7; 60_000]);
    // The first one is read, and its write is under way: 60,000 bytes.
    assert!(send_what_may_be_read(&mut world, a, &write).is_empty());
    assert_eq!(world.logged.len(), 1);
    let left = send_what_may_be_read(&mut world, b, &write);
    assert_eq!(left.len(), write.len() - 1_000, "its share is read");
    // Small requests of others are not held up.
    world.send(calm, &ping());
    assert_eq!(world.frames(calm).len(), 1);
    assert!(world.shard.stats().request_bytes < 100_000 + 3 * 1_000);
    // The outcome makes room: the rest may be read, in one piece.
    world.commit(1);
    assert_eq!(world.shard.may_read(b), left.len());
    assert!(send_what_may_be_read(&mut world, b, left).is_empty());
    assert_eq!(world.logged.len(), 1);
    world.commit(1);
    assert_eq!(world.shard.stats().request_bytes, 0);
}

#[test]
fn who_has_been_answered_holds_no_memory_for_what_it_sent() {
    let mut world = World::new();
    let write = set_data(1, "/zookeeper", &[7; 60_000]);
    let small: Vec<u8> = (2..100)
        .flat_map(|xid| set_data(xid, "/zookeeper", b""))
        .collect();
    // With nothing behind it, and with the beginning of a request that never comes.
    for rest in [0, 1, 20] {
        let conn = world.client();
        world.send(conn, &[&write[..], &small, &small[..rest]].concat());
        assert_eq!(world.frames(conn).len(), 99, "all are answered");
        let (bytes, entries) = world.memory(conn);
        assert!(
            bytes <= 1 << 10 && entries <= 16,
            "{bytes} bytes, {entries} entries"
        );
    }
}

#[test]
fn small_requests_beyond_the_share_wait_for_memory_too() {
    let mut world = World::with(small);
    world.prompt = false;
    let conns: Vec<ConnId> = (0..5).map(|_| world.client()).collect();
    world.prompt = false;
    let stream: Vec<u8> = (1..=1000)
        .flat_map(|xid| set_data(xid, "/zookeeper", b""))
        .collect();
    for &conn in &conns {
        let left = send_what_may_be_read(&mut world, conn, &stream);
        assert!(left.len() < stream.len(), "everybody has a share");
    }
    let bytes = world.shard.stats().request_bytes;
    // Pool and shares; a frame of each may be decoded beyond them.
    assert!((90_000..100_000 + 5 * 1_500).contains(&bytes), "{bytes}");
    assert!(conns.iter().any(|conn| world.shard.may_read(*conn) == 0));
    while !world.logged.is_empty() {
        world.commit(1);
    }
    for &conn in &conns {
        assert!(world.shard.may_read(conn) > 0);
        assert!(!world.frames(conn).is_empty());
    }
    assert!(world.shard.stats().request_bytes < 5 * 1_000);
}

#[test]
fn who_waits_for_memory_holds_none_beyond_its_share() {
    // The first request of `a` ends anywhere around the end of its share, and is under way while memory
    // for small requests lets in the beginning of a large one.
    for n in 800..1_000 {
        let mut world = World::with(small);
        let (a, b, c) = (world.client(), world.client(), world.client());
        world.prompt = false;
        let large = set_data(2, "/zookeeper", &[7; 60_000]);
        let first = set_data(1, "/zookeeper", &vec![7; n]);
        let stream = [&first[..], &large].concat();
        let multi = multi_of(2_000);
        assert!(send_what_may_be_read(&mut world, c, &large).is_empty());
        assert!(send_what_may_be_read(&mut world, a, &stream[..first.len() + 1]).is_empty());
        // Decoded it takes more than the bound: it waits until nobody else holds anything.
        let mut of_b = send_what_may_be_read(&mut world, b, &multi);
        assert!(!of_b.is_empty());
        let mut of_a = send_what_may_be_read(&mut world, a, &stream[first.len() + 1..]);
        while !world.logged.is_empty() {
            world.commit(1);
            of_b = send_what_may_be_read(&mut world, b, of_b);
            of_a = send_what_may_be_read(&mut world, a, of_a);
        }
        assert_eq!((of_a.len(), of_b.len()), (0, 0), "{n}");
    }
}

#[test]
fn memory_set_aside_for_a_frame_that_does_not_come_is_taken_back_when_others_wait() {
    let mut world = World::with(small);
    let (slow, next) = (world.client(), world.client());
    let write = set_data(1, "/zookeeper", &[7; 60_000]);
    world.send(slow, &write[..1_000]);
    assert_eq!(world.shard.may_read(slow), write.len() - 1_000);
    for _ in 0..5 {
        world.shard.heard(slow);
        world.advance_ms(1000);
    }
    assert!(!world.take(slow).1, "nobody waits");
    let left = send_what_may_be_read(&mut world, next, &write);
    assert!(!left.is_empty());
    // A share of bytes in time is progress, a byte now and then is none.
    let share = 1_000;
    let pieces: Vec<&[u8]> = write[1_000..1_000 + 4 * share].chunks(share).collect();
    for piece in pieces {
        world.send(slow, piece);
        world.advance_ms(1000);
    }
    assert!(!world.take(slow).1);
    // So is a byte of many that the kernel holds: then the server is slow, and not the client.
    let mut at = 1_000 + 4 * share;
    for _ in 0..8 {
        world.send(slow, &write[at..at + 1]);
        at += 1;
        world.shard.heard(slow);
        world.advance_ms(1000);
    }
    assert!(!world.take(slow).1);
    for at in at..at + 3 {
        world.send(slow, &write[at..at + 1]);
        assert_eq!(world.shard.may_read(next), 0);
        world.advance_ms(1000);
    }
    assert!(world.take(slow).1, "its memory goes to who waits");
    assert_eq!(world.shard.may_read(next), left.len());
}

#[test]
fn who_stands_still_for_less_than_a_quarter_of_its_timeout_keeps_its_connection_while_others_wait()
{
    // Rounds of a second.
    for (timeout_ms, rounds) in [
        (4_000, 3),
        (10_000, 3),
        (16_000, 5),
        (30_000, 8),
        (40_000, 11),
    ] {
        let mut world = World::with(small);
        let slow: Vec<ConnId> = (0..2)
            .map(|_| world.client_with_timeout(timeout_ms))
            .collect();
        let next = world.client();
        let write = set_data(1, "/zookeeper", &[7; 40_000]);
        for &conn in &slow {
            world.send(conn, &write[..2_000]);
        }
        let left = send_what_may_be_read(&mut world, next, &write).len();
        assert_eq!(world.shard.may_read(next), 0, "all memory is theirs");
        let mut ended = 0;
        for _ in 1..rounds {
            world.advance_ms(1000);
            ended += slow.iter().filter(|&&conn| world.take(conn).1).count();
        }
        assert_eq!(ended, 0, "{timeout_ms}");
        world.advance_ms(1000);
        assert!(slow.iter().all(|&conn| world.take(conn).1), "{timeout_ms}");
        assert_eq!(world.shard.may_read(next), left, "who waits has its turn");
    }
}

/// Clients that wait for memory to send `write`, behind as many who hold all of it and send nothing, for so
/// many rounds; then those are gone.
fn clients_not_read_for(
    world: &mut World,
    clients: usize,
    rounds: u64,
    write: &[u8],
) -> Vec<ConnId> {
    let conns =
        |world: &mut World| -> Vec<ConnId> { (0..clients).map(|_| world.client()).collect() };
    let (holders, held) = (conns(world), conns(world));
    for &conn in holders.iter().chain(&held) {
        world.send(conn, &write[..1_000]);
    }
    for round in 0..rounds {
        for &conn in &holders {
            // What waits in the kernel for them is no fault of theirs.
            world.shard.heard(conn);
            assert!(!world.take(conn).1, "round {round}");
        }
        world.advance_ms(1000);
        assert!(held.iter().all(|&conn| world.shard.may_read(conn) == 0));
    }
    for conn in holders {
        world.shard.closed(conn, world.now);
    }
    held
}

#[test]
fn who_was_not_read_for_longer_than_its_timeout_is_not_silent_since_then() {
    let mut world = World::with(small);
    let write = set_data(1, "/zookeeper", &[7; 90_000]);
    let held = clients_not_read_for(&mut world, 1, 12, &write)[0];
    for round in 0..9 {
        assert!(!world.take(held).1, "round {round}");
        world.advance_ms(1000);
    }
    world.advance_ms(3000);
    assert!(
        world.take(held).1,
        "silent for its timeout, while nobody held it back"
    );
}

#[test]
fn who_was_not_read_for_long_has_as_long_to_go_on() {
    let mut world = World::with(small);
    let write = set_data(1, "/zookeeper", &[7; 40_000]);
    let held = clients_not_read_for(&mut world, 2, 6, &write)[0];
    let next = world.client();
    world.send(next, &write[..1_000]);
    for round in 0..8 {
        assert!(!world.take(held).1, "round {round}");
        world.advance_ms(1000);
    }
    assert_eq!(
        send_what_may_be_read(&mut world, held, &write[1_000..]),
        b""
    );
    assert_eq!(world.frames(held).len(), 1);
}

#[test]
fn those_who_were_not_read_for_long_keep_half_of_the_memory_from_others_at_most() {
    let mut world = World::with(small);
    let write = set_data(1, "/zookeeper", &[7; 30_000]);
    let held = clients_not_read_for(&mut world, 3, 5, &write);
    let next = world.client();
    world.send(next, &write[..1_000]);
    world.advance_ms(1000);
    world.advance_ms(1000);
    assert_eq!(world.shard.may_read(next), 0);
    world.advance_ms(1000);
    let ended = held.iter().filter(|&&conn| world.take(conn).1).count();
    assert_eq!(
        ended, 2,
        "one of 30,000 bytes may keep what half of 100,000 has room for"
    );
    assert_eq!(world.shard.may_read(next), write.len() - 1_000);
}

#[test]
fn who_was_not_read_for_very_long_has_no_longer_than_its_kernel_pauses() {
    let mut world = World::with(small);
    let write = set_data(1, "/zookeeper", &[7; 40_000]);
    let held = clients_not_read_for(&mut world, 2, 300, &write);
    let next = world.client();
    // More than what those who were not read may keep leaves room for.
    let left =
        send_what_may_be_read(&mut world, next, &set_data(1, "/zookeeper", &[7; 80_000])).len();
    let mut rounds = 0;
    while world.shard.may_read(next) < left {
        for &conn in &held {
            // A byte in each round: it is not silent.
            world.send(conn, &[7]);
        }
        world.shard.heard(next);
        world.advance_ms(1000);
        rounds += 1;
        assert!(rounds < 300, "as long as it was not read itself");
    }
    assert_eq!(rounds, 120 + 3, "two minutes, and what everybody has");
}

#[test]
fn writes_of_connections_that_are_gone_hold_their_memory_until_their_outcome() {
    let mut world = World::with(small);
    let (gone, next) = (world.client(), world.client());
    world.prompt = false;
    let write = set_data(1, "/zookeeper", &[7; 60_000]);
    send_what_may_be_read(&mut world, gone, &write);
    world.shard.closed(gone, world.now);
    assert!(world.shard.stats().request_bytes > 60_000);
    assert!(!send_what_may_be_read(&mut world, next, &write).is_empty());
    world.commit(1);
    let bytes = world.shard.stats().request_bytes;
    assert!((60_000..61_000).contains(&bytes), "set aside for the next");
    world.shard.closed(next, world.now);
    assert_eq!(world.shard.stats().request_bytes, 0);
}

#[test]
fn a_frame_larger_than_the_bound_is_read_when_nobody_else_holds_anything() {
    let mut world = World::with(small);
    let conn = world.client();
    let write = set_data(1, "/zookeeper", &[7; 300_000]);
    assert!(send_what_may_be_read(&mut world, conn, &write).is_empty());
    assert_eq!(world.frames(conn).len(), 1);
}

/// Clients that have asked for a node of 30,000 bytes, with what each has fetched.
fn readers(world: &mut World, n: usize) -> Vec<(ConnId, usize)> {
    let writer = world.client();
    world.send(writer, &create_acl(1, "/big", &[7; 30_000], 0, OPEN));
    world.frames(writer);
    let conns: Vec<ConnId> = (0..n).map(|_| world.client()).collect();
    let fetch = |conn| {
        world.send(conn, &read(1, 4, "/big", false));
        let output = world.shard.fetch_output(conn, Vec::new(), world.now);
        (conn, output.bytes.len())
    };
    conns.into_iter().map(fetch).collect()
}

#[test]
fn large_replies_wait_for_room_while_everybody_makes_progress() {
    let mut world = World::with(small);
    let readers = readers(&mut world, 5);
    let replied: Vec<bool> = readers.iter().map(|(_, bytes)| *bytes > 0).collect();
    assert_eq!(replied, [true, true, true, false, false]);
    assert!(world.shard.stats().output_bytes < 100_000);
    for _ in 0..5 {
        for (conn, bytes) in &readers {
            world.shard.heard(*conn);
            world.shard.sent(*conn, usize::from(*bytes > 0));
        }
        world.advance_ms(1000);
    }
    // Who waits is served in order when there is room.
    let (first, bytes) = readers[0];
    world.shard.sent(first, bytes);
    world.turn();
    assert_eq!(world.frames(readers[3].0).len(), 1);
    assert_eq!(world.frames(readers[4].0).len(), 1);
    // A small reply never waits.
    world.send(first, &read(2, 3, "/big", false));
    assert_eq!(world.frames(first).len(), 1);
}

#[test]
fn room_promised_to_who_has_waited_is_given_back_when_its_connection_ends() {
    let mut world = World::with(small);
    let readers = readers(&mut world, 5);
    // Room for the fourth one's reply, which is not made yet.
    let (first, bytes) = readers[0];
    world.shard.sent(first, bytes);
    assert!(world.shard.promised_output() > 0);
    world.check();
    let (waits, next) = (readers[3].0, readers[4].0);
    world.shard.closed(waits, world.now);
    world.check();
    // It is the next one's.
    assert!((30_000..50_000).contains(&world.shard.promised_output()));
    world.turn();
    assert_eq!(world.shard.promised_output(), 0);
    assert_eq!(world.frames(next).len(), 1);
}

#[test]
fn at_the_bound_of_output_the_reader_without_progress_for_the_longest_ends() {
    let mut world = World::with(small);
    let readers = readers(&mut world, 4);
    let conns: Vec<ConnId> = readers.iter().map(|(conn, _)| *conn).collect();
    for round in 0..2 {
        for &conn in &conns {
            world.shard.heard(conn);
        }
        // The first one stops before the second one does; the third goes on.
        world.shard.sent(conns[2], 1);
        world.shard.sent(conns[1], usize::from(round == 0));
        world.advance_ms(1000);
    }
    let ended: Vec<bool> = conns
        .iter()
        .map(|conn| world.shard.is_discarded(*conn))
        .collect();
    assert_eq!(ended, [true, false, false, false]);
    world.turn();
    assert_eq!(world.frames(conns[3]).len(), 1, "who waited has its reply");
}

#[test]
fn readers_without_progress_make_room_also_while_a_report_waits() {
    let mut world = World::with(small);
    let readers = readers(&mut world, 4);
    for _ in 0..2 {
        // Whoever orders takes no report.
        world.now.tick.0 += 1_000;
        let mut budget = Budget::UNLIMITED;
        assert!(world.shard.report(world.now.tick, &mut budget, world.now));
    }
    let mut ended = readers
        .iter()
        .map(|(conn, _)| world.shard.is_discarded(*conn));
    assert!(ended.any(|ended| ended));
}

#[test]
fn who_sets_one_watch_too_many_ends_and_nobody_else() {
    let mut world = World::with(|config| config.watch_bytes_max = 202 * 10);
    let (greedy, modest) = (world.client(), world.client());
    let watch = |world: &mut World, conn, name: char| {
        world.send(conn, &read(1, 3, &format!("/{name}"), true));
    };
    watch(&mut world, modest, 'm');
    for name in 'a'..='i' {
        watch(&mut world, greedy, name);
    }
    assert_eq!(world.frames(greedy).len(), 9);
    watch(&mut world, greedy, 'a');
    assert_eq!(world.frames(greedy).len(), 1, "a watch that is there");
    watch(&mut world, greedy, 'j');
    assert!(world.take(greedy).1);
    assert_eq!(world.frames(modest).len(), 1);
    // setWatches stops at the bound, too.
    let paths: Vec<String> = (0..100).map(|n| format!("/{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(|path| &**path).collect();
    let other = world.client();
    world.send(other, &set_watches(-8, Zxid(0), &[], &paths, &[]));
    assert!(world.take(other).1);
    assert!(world.shard.stats().watch_bytes <= 202 * 10);
    assert_eq!(world.shard.stats().watches.total, 1);
}

#[test]
fn a_watch_of_any_kind_too_many_ends_its_connection() {
    for (kind, number) in [("persistent", 0), ("recursive", 1)] {
        let mut world = World::with(|config| config.watch_bytes_max = 2_000);
        let conn = world.client();
        let mut set = 0;
        let ended = loop {
            world.send(conn, &on_watches(1, 106, &*format!("/w{set}"), number));
            let (bytes, ended) = world.take(conn);
            if ended {
                break split(&bytes).is_empty();
            }
            set += 1;
        };
        // Two entries of 203 bytes each, or one and what the changes below it are looked up in.
        assert!(ended, "{kind}");
        assert_eq!(set, 4, "{kind}");
        while world.shard.reap(&mut Budget::new(1, 1, 10)) {}
        assert_eq!(world.shard.stats().watch_bytes, 0);
    }
    let paths: Vec<String> = (0..100).map(|n| format!("/{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(|path| &**path).collect();
    let lists: [[&[&str]; 5]; 2] = [[&[], &[], &[], &paths, &[]], [&[], &[], &[], &[], &paths]];
    for lists in lists {
        let mut world = World::with(|config| config.watch_bytes_max = 2_000);
        let conn = world.client();
        world.send(conn, &set_watches2(-8, Zxid(0), lists));
        assert!(world.take(conn).1);
        assert!(world.shard.stats().watch_bytes <= 2_000);
    }
}

#[test]
fn of_a_transaction_with_more_events_than_all_output_may_hold_who_holds_most_ends() {
    let mut world = World::with(|config| {
        config.output_bytes_max = 10_000;
        config.connection_share = 1_000;
    });
    let writer = world.client();
    world.send(writer, &[create(1, "/w"), create(2, "/rare")].concat());
    world.frames(writer);
    let greedy: Vec<_> = (0..3).map(|_| world.client()).collect();
    let modest = world.client();
    for &conn in &greedy {
        world.send(conn, &on_watches(3, 106, "/", 1));
        world.frames(conn);
    }
    world.send(modest, &on_watches(3, 106, "/rare", 0));
    world.frames(modest);
    // 34 bytes for each event: what all output may hold is told of before the last operation.
    let mut paths = vec!["/w"; 125];
    paths.push("/rare");
    world.send(writer, &multi_set(4, &paths));
    assert_eq!(world.frames(writer).len(), 1);
    assert_eq!(world.frames(modest).len(), 1);
    for conn in greedy {
        assert!(world.shard.is_discarded(conn));
    }
    // A connection alone may be told of as much, transaction after transaction.
    let mut world = World::with(|config| {
        config.output_bytes_max = 10_000;
        config.connection_share = 1_000;
    });
    let (writer, conn) = (world.client(), world.client());
    world.send(writer, &create(1, "/w"));
    world.send(conn, &on_watches(3, 106, "/", 1));
    world.frames(writer);
    world.frames(conn);
    for _ in 0..2 {
        world.send(writer, &multi_set(4, &["/w"; 125]));
        assert_eq!(world.frames(conn).len(), 125);
    }
}

#[test]
fn one_identity_too_many_fails_and_ends_the_connection() {
    let mut world = World::with(|config| config.identities_max = 10);
    let conn = world.client();
    let user = |n: i32| auth(n, "digest", format!("u{n}:p").as_bytes());
    let stream: Vec<u8> = (1..=9).flat_map(user).collect();
    world.send(conn, &[stream, user(9)].concat());
    assert_eq!(world.frames(conn).len(), 10);
    world.send(conn, &user(10));
    let (bytes, closed) = world.take(conn);
    assert_eq!(said(&split(&bytes)), [Said::Reply(10, 0, -115)]);
    assert!(closed);
}

/// A multiRead of `n` times the data of a node, or its children.
fn multi_read(xid: i32, op: i32, path: &str, n: usize) -> Vec<u8> {
    use crate::txn::jute::Put;
    request(xid, 22, |out| {
        for _ in 0..n {
            out.put_i32(op);
            out.put_bool(false);
            out.put_i32(-1);
            out.put_str(path);
            out.put_bool(false);
        }
        out.put_i32(-1);
        out.put_bool(true);
        out.put_i32(-1);
    })
}

#[test]
fn a_reply_that_is_too_long_becomes_an_error() {
    let mut world = World::with(small);
    let conn = world.client();
    world.send(conn, &create_acl(1, "/big", &[7; 30_000], 0, OPEN));
    world.send(conn, &create(2, "/all"));
    for xid in 3..103 {
        world.send(
            conn,
            &create(xid, &format!("/all/{}{xid}", "n".repeat(990))),
        );
    }
    world.send(conn, &create_acl(103, "/whole", &[7; 60_000], 0, OPEN));
    world.frames(conn);
    for (bytes, error) in [
        (multi_read(1, 4, "/big", 1), 0),
        (multi_read(1, 4, "/big", 2), -5),
        (multi_read(1, 8, "/all", 1), -5),
        (read(1, 4, "/whole", true), -5),
        (read(1, 8, "/all", true), -5),
        (read(1, 12, "/all", false), -5),
        (read(1, 12, "/", false), 0),
    ] {
        world.send(conn, &bytes);
        let frames = world.frames(conn);
        let Said::Reply(1, _, code) = said(&frames)[0] else {
            panic!("{frames:?}")
        };
        assert_eq!(code, error);
        assert!(error == 0 || frames[0].len() == 16);
    }
    assert_eq!(
        world.shard.stats().watches.total,
        0,
        "a failed read leaves none"
    );
}

#[test]
fn a_multi_read_of_35_kilobytes_that_asks_for_two_gigabytes_is_an_error() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &create_acl(1, "/big", &[7; 1_000_000], 0, OPEN));
    world.frames(conn);
    world.send(conn, &multi_read(2, 4, "/big", 2_200));
    assert_eq!(said(&world.frames(conn)), [Said::Reply(2, 2, -5)]);
    world.send(conn, &multi_read(3, 4, "/big", 16));
    assert_eq!(said(&world.frames(conn)), [Said::Reply(3, 2, 0)]);
}

#[test]
fn auth_waits_until_everything_before_it_is_answered() {
    // So one list of identities serves a connection, however many are in its stream.
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    let mine = [("digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")];
    world.send(
        conn,
        &[
            create_acl(1, "/mine", b"", 0, &mine),
            auth(-4, "digest", b"bob:pw"),
            read(2, 4, "/mine", false),
        ]
        .concat(),
    );
    assert_eq!(world.shard.stats().outstanding, 1);
    world.commit(1);
    let expected = [
        Said::Reply(1, 2, 0),
        Said::Reply(-4, 0, 0),
        Said::Reply(2, 2, 0),
    ];
    assert_eq!(said(&world.frames(conn)), expected);
}

/// Frames as they are sent one behind the other.
fn set_datas(xids: std::ops::RangeInclusive<i32>) -> Vec<u8> {
    xids.flat_map(|xid| set_data(xid, "/zookeeper", b""))
        .collect()
}

#[test]
fn who_waits_for_memory_with_bytes_in_the_kernel_is_not_cut_and_its_session_lives() {
    let mut world = World::with(small);
    let (a, b) = (world.client(), world.client());
    world.prompt = false;
    let write = set_data(1, "/zookeeper", &[7; 60_000]);
    assert!(send_what_may_be_read(&mut world, a, &write).is_empty());
    let left = send_what_may_be_read(&mut world, b, &write).len();
    assert!(left > 0);
    // The driver looks at the socket once; then it stays readable, and nothing new happens to it.
    world.shard.heard(b);
    world.touched.clear();
    for _ in 0..30 {
        world.advance_ms(1000);
    }
    assert!(!world.take(b).1, "three times the session's timeout");
    assert!(world.touched.iter().all(|(_, heard)| !heard.is_empty()));
    world.commit(1);
    assert_eq!(world.shard.may_read(b), left);
}

#[test]
fn who_has_a_full_queue_and_pings_in_the_kernel_is_heard_of_until_it_is_read_again() {
    let mut world = World::with(small);
    let (a, b) = (world.client(), world.client());
    world.prompt = false;
    let write = set_data(1, "/zookeeper", &[7; 90_000]);
    assert!(send_what_may_be_read(&mut world, a, &write).is_empty());
    // Whole frames, so that nothing of them is left in the input.
    let mut xid = 0;
    while world.shard.may_read(b) > 0 {
        xid += 1;
        world.send(b, &set_data(xid, "/zookeeper", b""));
    }
    world.shard.heard(b);
    world.touched.clear();
    for _ in 0..30 {
        world.advance_ms(1000);
        // Memory that the other one gives back for a moment is enough for one of the pings.
        if world.shard.may_read(b) > 0 {
            world.send(b, &ping());
            world.shard.heard(b);
        }
    }
    assert!(!world.touched.is_empty());
    assert!(world.touched.iter().all(|(_, heard)| !heard.is_empty()));
    world.commit(usize::try_from(xid).unwrap() + 1);
    assert!(world.shard.may_read(b) > 0);
}

#[test]
fn who_waits_for_replies_and_owes_no_frame_is_not_cut_when_others_wait_for_memory() {
    let mut world = World::with(small);
    let (calm, hog, next) = (world.client(), world.client(), world.client());
    world.prompt = false;
    // Small requests beyond the share: they were given memory for more of them.
    assert!(send_what_may_be_read(&mut world, calm, &set_datas(1..=20)).is_empty());
    let write = set_data(1, "/zookeeper", &[7; 80_000]);
    assert!(send_what_may_be_read(&mut world, hog, &write).is_empty());
    assert!(!send_what_may_be_read(&mut world, next, &write).is_empty());
    for _ in 0..8 {
        world.advance_ms(1000);
    }
    assert!(!world.shard.is_discarded(calm));
    while !world.logged.is_empty() {
        world.commit(1);
    }
    assert_eq!(world.frames(calm).len(), 20);
}

#[test]
fn who_does_not_read_its_replies_holds_no_memory_for_requests_that_others_wait_for() {
    let mut world = World::with(|config| {
        small(config);
        config.output_max = 40_000;
    });
    let (idle, next) = (world.client(), world.client());
    let write = set_data(1, "/zookeeper", &[7; 60_000]);
    world.send(next, &create_acl(1, "/big", &[7; 30_000], 0, OPEN));
    world.frames(next);
    world.prompt = false;
    let stream = [
        set_data(1, "/zookeeper", b""),
        read(2, 4, "/big", false),
        read(3, 4, "/big", false),
        write[..900].to_vec(),
    ];
    assert!(send_what_may_be_read(&mut world, idle, &stream.concat()).is_empty());
    assert!(
        world.shard.may_read(idle) > 50_000,
        "set aside for the rest"
    );
    let left = send_what_may_be_read(&mut world, next, &write);
    assert!(!left.is_empty());
    // The replies fill the output, and nobody takes it.
    world.commit(1);
    assert_eq!(world.shard.may_read(idle), 0);
    assert_eq!(world.shard.may_read(next), 0);
    world.advance_ms(1000);
    assert!(!world.shard.is_discarded(idle), "it has time to read");
    assert_eq!(world.shard.may_read(next), left.len());
}

/// `/all` with 100 children of names of 990 bytes, as far as there is room for the replies.
fn make_long_names(world: &mut World, writer: ConnId) {
    world.send(writer, &create(1, "/all"));
    for xid in 2..102 {
        let name = format!("/all/{}{xid}", "n".repeat(990));
        world.send(writer, &create(xid, &name));
    }
}

/// 64 times the children of `/all`, between two writes.
fn names_between_writes() -> Vec<u8> {
    let reads: Vec<u8> = (2..66)
        .flat_map(|xid| read(xid, 8, "/all", false))
        .collect();
    [set_datas(1..=1), reads, set_datas(66..=66)].concat()
}

#[test]
fn lists_of_long_names_between_two_writes_execute_before_the_second_one_is_handed_up() {
    let mut world = World::new();
    let (writer, conn) = (world.client(), world.client());
    make_long_names(&mut world, writer);
    world.prompt = false;
    world.send(conn, &names_between_writes());
    assert_eq!(
        world.logged.len(),
        1,
        "six megabytes are no step for an outcome"
    );
    world.commit(1);
    assert!(world.shard.stats().output_bytes < 5 << 20);
}

#[test]
fn what_a_session_lists_between_two_writes_is_estimated_with_its_own_creates_before() {
    let lists: [fn(i32) -> Vec<u8>; 2] = [
        |xid| read(xid, 8, "/all", false),
        |xid| request(xid, 103, |out| out.put_str("/all")),
    ];
    for list in lists {
        let mut world = World::new();
        let conn = world.client();
        world.prompt = false;
        let mut stream = create(1, "/all");
        for xid in 2..102 {
            let path = format!("/all/{}{xid}", "n".repeat(990));
            stream.extend(create_acl(xid, &path, b"", 1, OPEN));
        }
        stream.extend((102..166).flat_map(list));
        stream.extend(set_datas(166..=166));
        world.send(conn, &stream);
        assert_eq!(
            world.logged.len(),
            101,
            "six megabytes are no step for an outcome"
        );
    }
}

#[test]
fn reads_between_two_writes_that_have_become_too_large_end_their_connection() {
    let mut world = World::with(|config| {
        config.output_max = 100_000;
        config.output_excess_max = 100_000;
    });
    let (writer, conn) = (world.client(), world.client());
    world.prompt = false;
    make_long_names(&mut world, writer);
    // Nothing of the list is applied yet, so all of it looks short.
    world.send(conn, &names_between_writes());
    assert!(world.logged.len() > 50);
    while !world.logged.is_empty() {
        world.commit(1);
        assert!(world.shard.stats().output_bytes < 400_000);
    }
    assert!(world.take(conn).1);
}

/// Two clients: the output of the first is full of a reply that it has not taken, and `rest` is what it has sent
/// behind those requests; the second has a multi that waits for memory. What of the multi could not be sent yet is
/// the last result.
fn full_output_before(rest: &[u8]) -> (World, [ConnId; 2], Vec<u8>) {
    let mut world = World::with(|config| {
        small(config);
        config.output_max = 40_000;
        config.reply_bytes_max = 80_000;
    });
    let (slow, next) = (world.client(), world.client());
    world.send(next, &create_acl(1, "/big", &[7; 60_000], 0, OPEN));
    world.frames(next);
    world.prompt = false;
    let stream = [
        &set_data(1, "/zookeeper", b"")[..],
        &read(2, 4, "/big", false),
        rest,
    ];
    assert!(send_what_may_be_read(&mut world, slow, &stream.concat()).is_empty());
    // Decoded it takes more than the bound: it waits until nobody else holds anything.
    let multi = multi_of(2_000);
    let left = send_what_may_be_read(&mut world, next, &multi).to_vec();
    assert!(!left.is_empty());
    world.commit(1);
    (world, [slow, next], left)
}

#[test]
fn who_has_filled_its_output_and_begun_a_large_frame_waits_for_nobody_who_waits_for_it() {
    let write = set_data(4, "/zookeeper", &[7; 60_000]);
    let (mut world, [slow, next], of_next) = full_output_before(&write[..30_000]);
    assert_eq!(world.shard.may_read(slow), 0);
    // The replies are taken bit by bit.
    let output = world.shard.fetch_output(slow, Vec::new(), world.now);
    let mut unsent = output.bytes.len();
    while unsent > 0 {
        world.shard.heard(slow);
        world.shard.heard(next);
        world.advance_ms(1000);
        let n = unsent.min(10_000);
        world.shard.sent(slow, n);
        unsent -= n;
        world.turn();
    }
    let of_slow = send_what_may_be_read(&mut world, slow, &write[30_000..]);
    world.prompt = true;
    world.turn();
    let of_next = send_what_may_be_read(&mut world, next, &of_next);
    assert_eq!((of_slow.len(), of_next.len()), (0, 0));
}

#[test]
fn who_takes_replies_byte_by_byte_holds_no_memory_for_requests_that_others_wait_for() {
    let write = set_data(4, "/zookeeper", &[7; 60_000]);
    // The beginning of a large frame, and a request that is large when it is decoded.
    for rest in [&write[..30_000], &multi_read(4, 4, "/zookeeper", 150)] {
        // The bytes that are taken in each round, and the round in which the connection ends.
        for (taken, ends) in [(1, 3), (300, 3), (500, 17), (1_000, 17)] {
            let (mut world, [slow, next], _) = full_output_before(rest);
            let output = world.shard.fetch_output(slow, Vec::new(), world.now);
            assert!(output.bytes.len() > 50_000, "the reply fills the output");
            for round in 1..=ends {
                assert!(!world.shard.is_discarded(slow), "{taken}: {round}");
                assert_eq!(world.shard.may_read(next), 0);
                world.shard.sent(slow, taken);
                world.shard.heard(next);
                world.advance_ms(1000);
            }
            assert!(world.shard.is_discarded(slow), "{taken}");
            assert!(world.shard.may_read(next) > 0, "{taken}");
        }
    }
}

#[test]
fn memory_for_all_of_a_multi_is_set_aside_however_little_of_it_has_come() {
    let multi = multi_of(500);
    for n in 1..20 {
        let mut world = World::with(small);
        let conns: Vec<ConnId> = (0..10).map(|_| world.client()).collect();
        world.prompt = false;
        for &conn in &conns {
            // Their share is taken by what is under way, but for a few bytes.
            let used = 1_000 - n - 256 - set_data(1, "/zookeeper", b"").len() + 4;
            let write = set_data(1, "/zookeeper", &vec![7; used]);
            assert!(send_what_may_be_read(&mut world, conn, &write).is_empty());
            send_what_may_be_read(&mut world, conn, &multi);
        }
        let bytes = world.shard.stats().request_bytes;
        assert!(bytes <= 100_000 + 10 * 1_000, "{n}: {bytes}");
    }
}

#[test]
fn who_waits_for_memory_does_not_starve_behind_small_requests_of_others() {
    let mut world = World::with(small);
    let (a, b, c) = (world.client(), world.client(), world.client());
    let multi = multi_of(2_000);
    world.prompt = false;
    for conn in [a, b] {
        send_what_may_be_read(&mut world, conn, &set_datas(1..=20));
    }
    let mut of_c = send_what_may_be_read(&mut world, c, &multi);
    assert!(!of_c.is_empty());
    let mut rest: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    for round in 0..1_000 {
        for (conn, rest) in [a, b].into_iter().zip(&mut rest) {
            if rest.len() < 2_000 {
                rest.extend(set_datas(1..=20));
            }
            let left = send_what_may_be_read(&mut world, conn, rest).len();
            rest.drain(..rest.len() - left);
        }
        world.commit(1);
        world.frames(a);
        world.frames(b);
        of_c = send_what_may_be_read(&mut world, c, of_c);
        if of_c.is_empty() {
            return;
        }
        assert!(
            round < 500,
            "{} left, held {}",
            of_c.len(),
            world.shard.stats().request_bytes
        );
    }
}
