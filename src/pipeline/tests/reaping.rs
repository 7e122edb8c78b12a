//! Containers and TTL nodes that are due.

use super::*;
use crate::pipeline::ordering::{LOOKS_PER_TURN, REAPED_IN_FLIGHT_MAX};

const INTERVAL: u64 = 1000;
/// Deletes in a minute: one every 100 ms.
const PER_MINUTE: u64 = 600;

/// The first pass is at tick [`INTERVAL`].
fn world(per_minute_max: u64) -> (World, SessionId) {
    let rules = Rules {
        extended_types: true,
        ..Rules::default()
    };
    let config = PipelineConfig {
        tick_time_ms: TICK_TIME,
        reaper: ReaperConfig {
            check_interval_ms: INTERVAL,
            per_minute_max,
            never_used_ms: 0,
        },
        ..PipelineConfig::new(rules)
    };
    let mut w = World::with(config, Zxid::ZERO);
    w.pause_until(0);
    let session = w.session(1, 60_000);
    (w, session)
}

fn special(op: OpCode, path: &str, flags: i32, ttl_ms: i64) -> WriteRequest {
    let WriteRequest::Create(plain) = create(path, false, 1) else {
        unreachable!("a create");
    };
    WriteRequest::Create(CreateRequest {
        op,
        flags,
        ttl_ms,
        ..plain
    })
}

fn container(path: &str) -> WriteRequest {
    special(OpCode::CREATE_CONTAINER, path, 4, 0)
}

fn delete(path: &str) -> WriteRequest {
    WriteRequest::Delete {
        path: path.into(),
        version: -1,
    }
}

/// A container that has had a child.
fn used(w: &mut World, session: SessionId, path: &str) {
    let child = format!("{path}/x");
    for request in [container(path), create(&child, false, 1), delete(&child)] {
        w.write(1, session, request);
        w.settle();
    }
    w.take();
}

fn is_there(w: &World, path: &str) -> bool {
    w.tree.stat(path).is_some()
}

#[test]
fn golden_delete_container() {
    let (mut w, s) = world(PER_MINUTE);
    used(&mut w, s, "/c");
    w.now.wall = WallMs(0x1_a1f8_78e7);
    w.now.tick = Tick(INTERVAL);
    w.pipeline.tick(w.now).unwrap();
    w.advance();
    let ticket = w.pipeline.poll_sync().unwrap();
    w.pipeline.synced(ticket.run(), w.now).unwrap();
    let Some(ToShards::Txn(txn)) = w.pipeline.poll_message() else {
        panic!("nothing was committed");
    };
    assert_eq!((txn.origin, txn.generation), (None, Generation(0)));
    let bytes = txn.entry.encode();
    let (head, digest) = bytes.split_at(bytes.len() - 12);
    let due = "0000000000000000 00000000 0000000000000005 00000001a1f878e7 00000014 00000002 2f63";
    assert_eq!(head, crate::txn::golden::hex(due));
    assert_eq!(digest[..4], [0, 0, 0, 2]);
    w.tree.apply(&txn.entry);
    w.pipeline.applied(&w.tree, &txn, w.now).unwrap();
    assert!(!is_there(&w, "/c") && w.pipeline.is_idle());
    assert_eq!(w.pipeline.counters().reaped, 1);
}

#[test]
fn each_pass_takes_what_was_due_when_it_began() {
    let (mut w, s) = world(60_000);
    for path in ["/p", "/p/q"] {
        w.write(1, s, container(path));
    }
    used(&mut w, s, "/p/q/r");
    w.write(1, s, container("/never"));
    w.write(1, s, special(OpCode::CREATE_TTL, "/t", 5, 200));
    w.settle();
    w.take();
    w.pause_until(INTERVAL - 1);
    w.settle();
    assert_eq!(w.take(), [""; 0], "it is early");
    // The wall clock is behind by the TTL, at first.
    for (tick, wall, due) in [
        (INTERVAL, 1_000_200, "/p/q/r"),
        (2 * INTERVAL - 9, 1_000_201, ""),
        (2 * INTERVAL, 1_000_200, "/p/q"),
        (3 * INTERVAL, 1_000_201, "/p and /t"),
        (4 * INTERVAL, 1_000_900, ""),
    ] {
        w.now.wall = WallMs(wall);
        for late in 0..5 {
            w.pause_until(tick + 2 * late);
            w.settle();
            // Whoever has become empty, and old, behind the beginning of the pass waits for the next one.
            w.now.wall = WallMs(1_000_900);
        }
        let gone = due.split(" and ").filter(|path| !path.is_empty());
        let gone: Vec<&str> = gone.collect();
        assert_eq!(w.take().len(), gone.len(), "{due} at {tick}");
        assert!(
            gone.iter().all(|path| !is_there(&w, path)),
            "{due} at {tick}"
        );
    }
    assert!(is_there(&w, "/never"));
    assert_eq!(w.tree.reaped_count(), 1);
}

#[test]
fn deletes_are_spread_evenly_and_a_late_tick_makes_up_for_little() {
    let (mut w, s) = world(PER_MINUTE);
    for n in 0..30 {
        used(&mut w, s, &format!("/c{n}"));
    }
    let mut reaped = 0;
    for (tick, due) in [
        (1000, 1),
        (1050, 0),
        (1099, 0),
        (1100, 1),
        (1200, 1),
        (1299, 0),
        // Nine are missing by then.
        (2200, 2),
        (2210, 0),
        (2300, 1),
    ] {
        w.pause_until(tick);
        w.settle();
        let counted = w.pipeline.counters().reaped;
        assert_eq!(counted - reaped, due, "at {tick}");
        reaped = counted;
    }
    let most = |ms: u64| 1 + ms / 100;
    for tick in (2310..60_000).step_by(10) {
        w.pause_until(tick);
        w.settle();
        assert!(w.pipeline.counters().reaped <= most(tick - 1000));
    }
    assert_eq!(w.tree.reaped_count(), 0);
}

#[test]
fn no_more_deletes_are_in_flight_than_may_be() {
    let (mut w, s) = world(u64::MAX);
    let all = REAPED_IN_FLIGHT_MAX + 50;
    for n in 0..all {
        used(&mut w, s, &format!("/c{n}"));
    }
    w.pause_until(INTERVAL);
    for _ in 0..10 {
        w.advance();
    }
    let in_flight = |w: &World| {
        let cursors = w.pipeline.cursors();
        cursors.prepared.0 - cursors.applied.0
    };
    assert_eq!(in_flight(&w), REAPED_IN_FLIGHT_MAX as i64);
    assert!(!w.pipeline.has_work(), "nobody waits in a loop");
    w.settle();
    for _ in 0..10 {
        w.advance();
        w.settle();
    }
    assert_eq!((w.tree.reaped_count(), in_flight(&w)), (0, 0));
    assert_eq!(w.pipeline.counters().reaped, all as u64);
}

#[test]
fn a_pass_looks_at_so_many_in_a_turn_and_requests_have_their_turn_beside_it() {
    let (mut w, s) = world(PER_MINUTE);
    let all = 3 * LOOKS_PER_TURN + 1;
    for n in 0..all {
        w.write(1, s, container(&format!("/c{n}")));
        w.settle();
    }
    w.take();
    w.now.tick = Tick(INTERVAL);
    w.pipeline.tick(w.now).unwrap();
    for turn in 0..4 {
        assert!(w.pipeline.has_work(), "turn {turn}");
        let prepared = w.pipeline.cursors().prepared;
        let up = w.asked(1, 1, s, create(&format!("/n{turn}"), false, 1));
        w.advance_within(1000);
        w.up_within(1, up);
        assert_eq!(w.pipeline.cursors().prepared, prepared.next());
    }
    assert!(!w.pipeline.has_work());
    // A budget that is smaller ends it earlier.
    w.settle();
    w.now.tick = Tick(2 * INTERVAL);
    w.pipeline.tick(w.now).unwrap();
    w.advance_within(1);
    assert!(w.pipeline.has_work());
    while w.pipeline.has_work() {
        w.advance();
    }
    assert_eq!(w.pipeline.counters().reaped, 0);
}

#[test]
fn what_is_used_again_while_its_delete_waits_stays_and_takes_no_zxid() {
    let (mut w, s) = world(1);
    for path in ["/a", "/b", "/c"] {
        used(&mut w, s, path);
    }
    w.pause_until(INTERVAL);
    w.settle();
    assert_eq!(w.tree.reaped_count(), 2);
    let left: Vec<&str> = ["/a", "/b", "/c"]
        .into_iter()
        .filter(|path| is_there(&w, path))
        .collect();
    // Ordered, and not applied.
    w.write(1, s, create(&format!("{}/y", left[0]), false, 1));
    w.write(1, s, delete(left[1]));
    w.write(1, s, create(left[1], false, 1));
    w.take();
    w.pause_until(INTERVAL + 60_000);
    w.settle();
    assert_eq!(w.take().len(), 3, "what was asked for, and no more");
    assert!(left.iter().all(|path| is_there(&w, path)));
    assert_eq!(w.pipeline.counters().reaped, 1);
}

#[test]
fn nothing_is_deleted_beside_a_multi_that_is_prepared_in_slices() {
    let (mut w, s) = world(PER_MINUTE);
    used(&mut w, s, "/c");
    w.now.tick = Tick(INTERVAL);
    w.begin_multi(s, create("/c/y", false, 1));
    w.pipeline.tick(w.now).unwrap();
    while w.pipeline.waiting() > 0 {
        assert_eq!(w.pipeline.counters().reaped, 0);
        w.advance_within(1);
    }
    w.advance();
    w.settle();
    assert_eq!(w.pipeline.counters().reaped, 0, "it has a child again");
    assert!(is_there(&w, "/c/y"));
}

#[test]
fn a_full_disk_holds_deletes_up_and_nothing_waits_in_a_loop() {
    let (mut w, s) = world(PER_MINUTE);
    used(&mut w, s, "/c");
    w.disk.set_capacity(w.disk.used());
    for nth in 1..3 {
        while w.pipeline.counters().refused < nth {
            let more = create(&format!("/more{}", w.sequence), false, 8000);
            w.write(1, s, if nth == 1 { more } else { delete("/none") });
            w.settle();
        }
    }
    w.pause_until(INTERVAL);
    w.settle();
    assert!(is_there(&w, "/c") && !w.pipeline.has_work());
    w.disk.set_capacity(64 << 20);
    for tick in 1..20 {
        w.pause_until(INTERVAL + 100 * tick);
        w.settle();
    }
    assert!(!is_there(&w, "/c"));
}
