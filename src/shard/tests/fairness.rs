//! Budgets: what a connection executes when its turn comes, and whose turn is next.

use super::stand_in::*;
use crate::budget::Budget;
use crate::types::{ConnId, Zxid};

fn pings(n: usize) -> Vec<u8> {
    ping().repeat(n)
}

/// A slice of `n` requests.
fn requests(n: u32) -> Budget {
    Budget::new(n, u32::MAX, u32::MAX)
}

/// Replies in the output, which nobody takes.
pub(super) fn sent(world: &World, conn: ConnId) -> u64 {
    let line = world.shard.connections().find(|line| line.conn == conn);
    line.expect("it serves").sent - 1
}

#[test]
fn between_two_slices_of_a_firehose_the_others_are_served() {
    let mut world = World::new();
    let (firehose, calm) = (world.client(), world.client());
    world.slice = requests(10);
    world.receive(firehose, &pings(100));
    assert_eq!(sent(&world, firehose), 10, "the slice of the read");
    world.receive(calm, &ping());
    assert_eq!(sent(&world, calm), 1, "nobody is before it");
    // Its further requests take turns with those of the other one.
    world.receive(calm, &pings(25));
    let mut turns = Vec::new();
    while let Some(conn) = world.one_turn() {
        turns.push(conn);
    }
    let expected = [firehose, calm, firehose, calm];
    assert_eq!(turns[..4], expected);
    assert_eq!(turns.len(), 11, "{turns:?}");
    assert_eq!((sent(&world, firehose), sent(&world, calm)), (100, 26));
    assert_eq!(world.shard.poll_ready(), None, "nothing is left");
}

#[test]
fn a_slice_ends_by_bytes_and_by_steps_too() {
    let big = |world: &mut World, conn| {
        let entries: Vec<(String, String)> = (0..100)
            .map(|i| ("digest".to_owned(), format!("u:{i}")))
            .collect();
        let acl: Vec<(&str, &str)> = entries.iter().map(|(s, i)| (&**s, &**i)).collect();
        world.send(conn, &create_acl(1, "/acl", b"", 0, &acl));
        world.send(
            conn,
            &create_acl(2, "/big", &[7; 1000], 0, &[("world", "anyone")]),
        );
        world.frames(conn);
    };
    for (slice, path, due) in [
        (Budget::new(1000, 5000, 100_000), "/big", 5),
        (Budget::new(1000, 1 << 20, 300), "/acl", 3),
        (Budget::new(7, 1 << 20, 100_000), "/big", 7),
        (Budget::new(1, 1, 1), "/big", 1),
    ] {
        let mut world = World::new();
        let conn = world.client();
        big(&mut world, conn);
        let before = sent(&world, conn);
        world.slice = slice;
        let reads: Vec<u8> = (1..=20).flat_map(|xid| read(xid, 4, path, false)).collect();
        world.receive(conn, &reads);
        assert_eq!(sent(&world, conn) - before, due, "{slice:?}");
        // Each further slice goes as far, one request overdrawing it.
        assert_eq!(world.one_turn(), Some(conn));
        assert_eq!(sent(&world, conn) - before, 2 * due, "{slice:?}");
    }
}

#[test]
fn an_outcome_makes_ready_and_executes_nothing_that_can_wait() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    let reads: Vec<u8> = (2..=500)
        .flat_map(|xid| read(xid, 3, "/a", false))
        .collect();
    world.send(conn, &[create(1, "/a"), reads].concat());
    assert_eq!(sent(&world, conn), 0);
    world.apply(1);
    assert_eq!(sent(&world, conn), 1, "the reply of the write");
    world.slice = requests(100);
    for round in 1..=4 {
        assert_eq!(world.one_turn(), Some(conn));
        assert_eq!(sent(&world, conn), 1 + 100 * round);
    }
}

#[test]
fn every_connection_that_is_ready_is_given_once() {
    let mut world = World::new();
    let conns: Vec<ConnId> = (0..5).map(|_| world.client()).collect();
    world.slice = requests(1);
    for _ in 0..2 {
        for &conn in &conns {
            world.receive(conn, &pings(3));
        }
    }
    let mut given = Vec::new();
    while let Some(conn) = world.shard.poll_ready() {
        given.push(conn);
    }
    assert_eq!(given, conns);
}

#[test]
fn a_session_whose_bytes_wait_in_the_kernel_is_alive() {
    let mut world = World::new();
    let (held, silent) = (world.client(), world.client());
    for _ in 0..30 {
        world.shard.heard(held);
        world.advance_ms(1000);
    }
    assert!(world.take(silent).1);
    assert!(!world.take(held).1);
    let reported = |world: &World, session| {
        let batches = world.touched.iter();
        batches
            .filter(|(_, sessions)| sessions.contains(&session))
            .count()
    };
    let first = crate::types::SessionId(0x0100_000d_6217_0000);
    assert!(reported(&world, first) >= 29);
    assert_eq!(world.touched.len(), 30, "no round is skipped");
}

#[test]
fn a_slow_reader_whose_kernel_takes_a_byte_now_and_then_is_not_cut() {
    let mut world = World::new();
    let (slow, stuck) = (world.client(), world.client());
    let data = vec![7; 500_000];
    world.send(
        slow,
        &create_acl(1, "/big", &data, 0, &[("world", "anyone")]),
    );
    world.frames(slow);
    for conn in [slow, stuck] {
        world.send(conn, &read(2, 4, "/big", false));
        world.shard.fetch_output(conn, Vec::new(), world.now);
    }
    for round in 0..60 {
        // The sessions live: only what the kernel takes differs.
        for conn in [slow, stuck] {
            world.shard.heard(conn);
            world.send(conn, &ping());
        }
        if round % 8 == 0 {
            world.shard.sent(slow, 1);
        }
        world.advance_ms(1000);
    }
    assert!(world.shard.is_discarded(stuck));
    assert!(!world.shard.is_discarded(slow));
}

#[test]
fn a_connection_that_ends_is_forgotten_when_the_kernel_has_its_last_byte() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &close(1));
    let output = world.shard.fetch_output(conn, Vec::new(), world.now);
    assert!(output.close && !output.reset && !output.bytes.is_empty());
    assert_eq!(world.shard.stats().output_bytes, output.bytes.len());
    world.shard.sent(conn, output.bytes.len());
    assert_eq!(world.shard.stats().output_bytes, 0);
    // The slot is free again.
    assert_eq!(world.accept().slot, conn.slot);
    let gone = world.shard.fetch_output(conn, Vec::new(), world.now);
    assert_eq!(gone, crate::shard::Output::default());
}

#[test]
fn watches_of_a_connection_that_has_ended_fire_for_nobody_and_are_freed_in_slices() {
    let mut world = World::new();
    let (gone, other) = (world.client(), world.client());
    let paths: Vec<String> = (0..100).map(|n| format!("/w{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(|path| &**path).collect();
    world.send(gone, &set_watches(-8, Zxid(0), &[], &paths, &[]));
    world.shard.closed(gone, world.now);
    let stats = world.shard.stats();
    assert_eq!(stats.watches.total, 0);
    assert!(stats.watch_bytes > 0);
    // The slot is used again; the event of the old connection is not the new one's.
    let new = world.client();
    assert_eq!(new.slot, gone.slot);
    world.send(other, &create(1, "/w7"));
    assert_eq!(world.frames(new).len(), 0);
    let mut slices = 1;
    while world.shard.reap(&mut Budget::new(1, 1, 10)) {
        slices += 1;
    }
    assert!((10..=12).contains(&slices), "{slices}");
    assert_eq!(world.shard.stats().watch_bytes, 0);
}
