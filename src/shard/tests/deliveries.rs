//! The events of one transaction in slices: nothing that reflects it is seen before the last of them.

use super::stand_in::*;
use crate::budget::Budget;
use crate::types::ConnId;

const SECRET: &[(&str, &str)] = &[("digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")];

fn add_watch(xid: i32, path: &str, mode: i32) -> Vec<u8> {
    request(xid, 106, |out| {
        out.extend((path.len() as i32).to_be_bytes());
        out.extend(path.as_bytes());
        out.extend(mode.to_be_bytes());
    })
}

/// A multi that sets the data of a node so many times.
fn sets(xid: i32, path: &str, times: usize) -> Vec<u8> {
    request(xid, 14, |out| {
        for _ in 0..times {
            out.extend([0, 0, 0, 5, 0, 255, 255, 255, 255]);
            out.extend(&set_data(0, path, b"x")[12..]);
        }
        put_multi_end(out);
    })
}

/// Bob, who may read `/s`, and so many others who may not; all watch it for ever, by turns in both modes.
fn watched(others: usize) -> (World, ConnId, Vec<ConnId>) {
    let mut world = World::new();
    let bob = world.client();
    world.send(bob, &auth(1, "digest", b"bob:pw"));
    world.send(bob, &create_acl(2, "/s", b"", 0, SECRET));
    let others: Vec<ConnId> = (0..others).map(|_| world.client()).collect();
    for (nth, conn) in others.iter().chain([&bob]).enumerate() {
        world.send(*conn, &add_watch(3, "/s", nth as i32 % 2));
        world.frames(*conn);
    }
    world.prompt = false;
    (world, bob, others)
}

#[test]
fn firings_for_those_who_may_not_read_are_worked_off_in_slices_of_bounded_length() {
    const OTHERS: usize = 30;
    const SETS: usize = 50;
    let (mut world, bob, others) = watched(OTHERS);
    let zxid = world.zxid.0;
    world.send(bob, &sets(4, "/s", SETS));
    world.apply_without_events();
    let mut slices = 0;
    while world.shard.is_delivering() {
        world.deliver(100);
        slices += 1;
    }
    let firings = SETS * (OTHERS + 1);
    assert!(
        slices >= firings / 100,
        "{slices} slices for {firings} firings"
    );
    let mut due = vec![Said::Event(zxid, 3, "/s".into()); SETS];
    due.push(Said::Reply(4, zxid, 0));
    assert_eq!(said(&world.frames(bob)), due);
    for conn in others {
        assert_eq!(said(&world.frames(conn)), []);
    }
}

#[test]
fn nobody_reads_what_a_transaction_made_before_the_last_of_its_events() {
    let (mut world, bob, others) = watched(3);
    let reader = world.client();
    world.prompt = false;
    world.send(bob, &sets(4, "/s", 3));
    world.apply_without_events();
    let mut events = 0;
    while world.shard.is_delivering() {
        world.deliver(1);
        // What is sent meanwhile waits, whoever sends it.
        if events == 0 {
            world.receive(bob, &read(5, 3, "/s", false));
            world.receive(others[0], &ping());
            world.receive(reader, &read(6, 3, "/", false));
        }
        if world.shard.is_delivering() {
            events += world.frames_of(bob).len();
            assert!(world.frames_of(reader).is_empty() && world.frames_of(others[0]).is_empty());
        }
    }
    assert!(events > 0, "some have left before the last");
    world.advance();
    let of_bob = said(&world.frames(bob));
    let (reply, read) = (&of_bob[of_bob.len() - 2], &of_bob[of_bob.len() - 1]);
    assert!(matches!(reply, Said::Reply(4, _, 0)) && matches!(read, Said::Reply(5, _, 0)));
    assert_eq!(events + of_bob.len() - 2, 3, "each event once");
    assert_eq!(world.frames(reader).len(), 1);
    assert_eq!(world.frames(others[0]).len(), 1);
}

#[test]
fn who_ends_while_events_are_delivered_gets_no_more_and_holds_up_nobody() {
    let (mut world, bob, others) = watched(4);
    world.send(others[0], &sets(4, "/s", 2));
    // A transaction of somebody who may not write it: nothing fires.
    world.apply_without_events();
    world.deliver(1);
    assert!(!world.shard.is_delivering());
    world.send(bob, &sets(4, "/s", 2));
    world.apply_without_events();
    world.deliver(1);
    for conn in [others[1], others[3], bob] {
        world.shard.closed(conn, world.now);
    }
    while world.shard.is_delivering() {
        world.deliver(1);
    }
    while world.shard.reap(&mut Budget::steps(100)) {}
    assert_eq!(world.shard.stats().watches.connections, 2);
}
