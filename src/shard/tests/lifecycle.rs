//! Handshakes, re-attachment, closing, expiry, timeouts, touches, figures.

use super::stand_in::*;
use crate::budget::Budget;
use crate::messages::{Notice, ShardRequest};
use crate::proto::session::password;
use crate::shard::Why;
use crate::types::{ConnId, Generation, SessionId, Tick, Xid, Zxid};

const FIRST: SessionId = SessionId(0x0100_000d_6217_0000);

fn reattach(session: SessionId) -> Vec<u8> {
    connect(Zxid(0), 10_000, session, &password(session))
}

/// Timeout and session of a connect response.
fn response(frame: &[u8]) -> (i32, i64) {
    (
        i32::from_be_bytes(frame[4..8].try_into().unwrap()),
        i64::from_be_bytes(frame[8..16].try_into().unwrap()),
    )
}

#[test]
fn timeouts_are_clamped() {
    for (asked, given) in [(0, 4000), (-5, 4000), (4001, 4001), (i32::MAX, 40_000)] {
        let mut world = World::new();
        let conn = world.accept();
        world.send(conn, &connect(Zxid(0), asked, SessionId(0), &[]));
        assert_eq!(response(&world.frames(conn)[0]), (given, FIRST.0));
        assert_eq!(world.tree.session_timeout(FIRST), Some(given));
    }
}

#[test]
fn a_client_that_has_seen_more_is_closed_without_reply() {
    let mut world = World::new();
    world.client();
    for session in [SessionId(0), FIRST] {
        for ahead in [0, 1] {
            let seen = Zxid(world.tree.last_zxid().0 + ahead);
            let conn = world.accept();
            world.send(conn, &connect(seen, 10_000, session, &password(session)));
            let (bytes, closed) = world.take(conn);
            assert_eq!(
                (bytes.is_empty(), closed),
                (ahead == 1, ahead == 1),
                "{session} {ahead}"
            );
        }
    }
    // What is committed counts, also when the replica is behind.
    world.shard.raise_committed(Zxid(100));
    let conn = world.accept();
    world.send(conn, &connect(Zxid(100), 10_000, SessionId(0), &[]));
    assert!(!world.take(conn).1);
}

#[test]
fn frames_behind_the_connect_request_are_executed_after_the_response() {
    let mut world = World::new();
    world.prompt = false;
    let conn = world.accept();
    let stream = [
        connect(Zxid(0), 10_000, SessionId(0), &[]),
        auth(-4, "digest", b"u:p"),
        create(1, "/a"),
        read(2, 3, "/a", false),
    ]
    .concat();
    let (head, tail) = stream.split_at(stream.len() - 3);
    world.send(conn, head);
    assert!(
        world.shard.may_read(conn) == 0,
        "the handshake is under way"
    );
    assert_eq!(world.take(conn), (vec![], false));
    world.commit(1);
    assert!(world.shard.may_read(conn) > 0);
    world.prompt = true;
    world.send(conn, tail);
    let frames = world.frames(conn);
    assert_eq!(response(&frames[0]), (10_000, FIRST.0));
    assert_eq!(
        said(&frames[1..]),
        [
            Said::Reply(-4, 0, 0),
            Said::Reply(1, 2, 0),
            Said::Reply(2, 2, 0)
        ]
    );
}

#[test]
fn nothing_of_the_old_connection_executes_after_a_reattach() {
    let mut world = World::new();
    let old = world.client();
    world.send(old, &read(1, 3, "/late", true));
    world.frames(old);
    world.prompt = false;
    world.send(
        old,
        &[create(2, "/early"), read(3, 3, "/early", false)].concat(),
    );

    let new = world.accept();
    world.send(new, &reattach(FIRST));
    // The pipeline said Detach behind what was prepared: with that committed, all is done.
    world.prompt = true;
    world.turn();
    assert_eq!(world.released, [(FIRST, Generation(1))]);
    assert_eq!(response(&world.frames(new)[0]), (10_000, FIRST.0));
    assert_eq!(world.shard.stats().watches.total, 0, "watches do not move");

    let written = world.tree.last_zxid();
    world.send(old, &create(4, "/late"));
    assert_eq!(world.take(old), (vec![], true));
    assert_eq!(world.tree.last_zxid(), written);
    world.send(new, &create(1, "/new"));
    assert_eq!(said(&world.frames(new)), [Said::Reply(1, written.0 + 1, 0)]);
    assert_eq!(world.shard.stats().in_flight, 0);
}

#[test]
fn a_write_that_the_pipeline_has_not_seen_yet_is_stale_after_a_reattach() {
    let mut world = World::new();
    let old = world.client();
    let new = world.accept();
    let before = world.tree.last_zxid();
    // The re-attach reaches the pipeline first, then a write of the old connection, before the
    // shard has heard of the Detach.
    world.receive(new, &reattach(FIRST));
    world.receive(old, &create(1, "/stale"));
    assert_eq!(world.shard.stats().in_flight, 1);
    world.turn();
    assert_eq!(world.take(old), (vec![], true));
    assert_eq!(response(&world.frames(new)[0]), (10_000, FIRST.0));
    assert_eq!(world.tree.last_zxid(), before);
    assert_eq!(world.shard.stats().in_flight, 0);
}

#[test]
fn a_wrong_password_does_not_disturb_the_session() {
    let mut world = World::new();
    let conn = world.client();
    let thief = world.accept();
    world.send(thief, &connect(Zxid(0), 10_000, FIRST, &[1; 16]));
    let (bytes, closed) = world.take(thief);
    assert_eq!((response(&split(&bytes)[0]), closed), ((0, 0), true));
    assert_eq!(world.reattaches, 0);
    world.send(conn, &create(1, "/a"));
    assert_eq!(said(&world.frames(conn)), [Said::Reply(1, 2, 0)]);
}

#[test]
fn a_detach_of_what_is_gone_is_confirmed() {
    let mut world = World::new();
    let old = world.client();
    world.shard.closed(old, world.now);
    let new = world.accept();
    world.send(new, &reattach(FIRST));
    assert_eq!(world.released.len(), 1);
    assert_eq!(response(&world.frames(new)[0]), (10_000, FIRST.0));
}

#[test]
fn a_grant_waits_until_the_replica_has_reached_its_state() {
    use crate::messages::{Notice, Origin};
    use crate::types::ShardId;
    let mut world = World::new();
    let (writer, conn) = (world.client(), world.accept());
    world.prompt = false;
    world.send(writer, &create(1, "/a"));
    // Granted by hand, on the state that the write makes.
    world.receive(conn, &reattach(SessionId(5)));
    assert!(world.shard.poll_request(world.now).is_some());
    let origin = Origin {
        shard: ShardId(0),
        conn,
        sequence: 0,
    };
    let attached = Notice::Attached {
        origin,
        session: SessionId(5),
        generation: Generation(3),
        timeout_ms: 5000,
        committed: Zxid(2),
    };
    world.shard.notice(&world.tree, attached, world.now);
    assert_eq!(world.take(conn), (vec![], false));
    world.commit(1);
    assert_eq!(response(&world.frames(conn)[0]), (5000, 5));
}

#[test]
fn closing_fires_the_own_watches_before_the_reply_and_ends_the_connection() {
    let mut world = World::new();
    let (conn, other) = (world.client(), world.client());
    world.send(conn, &create_acl(1, "/e", b"", 1, &[("world", "anyone")]));
    for c in [conn, other] {
        world.send(c, &read(2, 3, "/e", true));
        world.frames(c);
    }
    world.prompt = false;
    world.send(conn, &[close(3), ping(), create(4, "/never")].concat());
    world.prompt = true;
    world.turn();
    let (bytes, closed) = world.take(conn);
    let event = Said::Event(4, 2, "/e".into());
    assert_eq!(
        (said(&split(&bytes)), closed),
        (vec![event.clone(), Said::Reply(3, 4, 0)], true)
    );
    assert_eq!(said(&world.frames(other)), [event]);
    assert!(world.tree.stat("/never").is_none());
    assert_eq!(world.shard.stats().connections, 1);
}

#[test]
fn expiry_closes_without_a_further_byte_and_tells_the_others() {
    let mut world = World::new();
    let (conn, other) = (world.client(), world.client());
    world.send(conn, &create_acl(1, "/e", b"", 1, &[("world", "anyone")]));
    for c in [conn, other] {
        world.send(c, &read(2, 3, "/e", true));
        world.frames(c);
    }
    world.send(conn, &ping());
    world.expire(FIRST);
    assert_eq!(world.take(conn), (vec![], true));
    assert_eq!(said(&world.frames(other)), [Said::Event(4, 2, "/e".into())]);
}

#[test]
fn requests_of_a_connection_that_breaks_are_executed() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    world.send(conn, &create(1, "/a"));
    world.shard.closed(conn, world.now);
    // Its slot is used again at once: nothing of the old outcome reaches the new connection.
    let next = world.accept();
    assert_eq!(next.slot, conn.slot);
    world.prompt = true;
    world.turn();
    assert!(world.tree.stat("/a").is_some());
    assert_eq!(world.take(next), (vec![], false));
}

#[test]
fn touches_are_reported_once_per_batch_and_the_watermark_always_moves() {
    let mut world = World::with(|config| config.tick_time_ms = 2000);
    let conn = world.client();
    for _ in 0..3 {
        world.send(conn, &ping());
    }
    world.advance_ms(1);
    world.touched.clear();
    world.send(conn, &[ping(), ping()].concat());
    world.send(conn, &auth(1, "digest", b"u:p"));
    for _ in 0..4 {
        world.advance_ms(500);
    }
    let times: Vec<u64> = world.touched.iter().map(|(tick, _)| tick.0).collect();
    assert_eq!(times.len(), 2);
    assert!(times.iter().all(|t| *t <= world.now.tick.0) && times[1] - times[0] >= 1000);
    assert_eq!(world.touched[0].1, [FIRST]);
    assert_eq!(world.touched[1].1, []);
    // auth alone is no sign of life.
    world.touched.clear();
    world.send(conn, &auth(2, "digest", b"u:p"));
    world.advance_ms(500);
    world.advance_ms(500);
    assert_eq!(world.touched.len(), 1);
    assert_eq!(world.touched[0].1, []);
}

#[test]
fn no_report_follows_one_that_waits_and_the_next_one_has_everybody() {
    let mut world = World::with(|config| config.tick_time_ms = 2000);
    let conn = world.client();
    let report = |world: &mut World, watermark| {
        world.now.tick = Tick(watermark);
        let mut budget = Budget::UNLIMITED;
        assert!(world.shard.report(Tick(watermark), &mut budget, world.now));
    };
    let taken = |world: &mut World| {
        let ups = std::iter::from_fn(|| world.shard.poll_request(world.now));
        let reports = ups.filter_map(|up| match up {
            ShardRequest::Touched {
                watermark,
                sessions,
                ..
            } => Some((watermark, sessions)),
            _ => None,
        });
        reports.collect::<Vec<_>>()
    };
    taken(&mut world);
    // Whoever orders takes nothing for long.
    for watermark in 10_000..10_100 {
        world.shard.heard(conn);
        report(&mut world, watermark);
    }
    assert_eq!(taken(&mut world), [(Tick(10_000), vec![FIRST])]);
    report(&mut world, 10_100);
    assert_eq!(taken(&mut world), [(Tick(10_100), vec![FIRST])]);
}

#[test]
fn no_report_follows_one_of_which_a_part_waits() {
    let mut world = World::with(|config| config.tick_time_ms = 2000);
    let conns = [world.client(), world.client(), world.client()];
    while world.shard.poll_request(world.now).is_some() {}
    conns.into_iter().for_each(|conn| world.shard.heard(conn));
    world.now.tick = Tick(10_000);
    let mut slices = 1;
    while !(world.shard).report(Tick(10_000), &mut Budget::steps(32), world.now) {
        slices += 1;
    }
    assert_eq!(slices, 3, "a part for each session");
    let part = |world: &mut World| match world.shard.poll_request(world.now) {
        Some(ShardRequest::Touched { watermark, .. }) => watermark,
        other => panic!("{other:?}"),
    };
    assert_eq!(part(&mut world), Tick(0));
    world.now.tick = Tick(12_000);
    let mut budget = Budget::UNLIMITED;
    assert!(world.shard.report(Tick(12_000), &mut budget, world.now));
    assert_eq!(part(&mut world), Tick(0));
    assert_eq!(part(&mut world), Tick(10_000));
    assert!(!world.shard.has_requests());
}

#[test]
fn sessions_whose_requests_we_hold_back_are_touched() {
    let mut world = World::with(|config| config.fifo_max = 1);
    let conn = world.client();
    world.prompt = false;
    world.send(conn, &[create(1, "/a"), ping()].concat());
    for _ in 0..30 {
        world.advance_ms(500);
    }
    let with: Vec<Tick> = world
        .touched
        .iter()
        .filter(|(_, sessions)| sessions == &[FIRST])
        .map(|(tick, _)| *tick)
        .collect();
    assert!(with.len() >= 10, "{with:?}");
}

/// Rounds of half a tickTime until the connection is closed, at most `n`.
fn rounds_until_closed(world: &mut World, conn: ConnId, n: u64) -> Option<u64> {
    (1..=n).find(|_| {
        world.advance_ms(1000);
        world.take(conn).1
    })
}

#[test]
fn a_handshake_that_does_not_come_ends() {
    let mut world = World::new();
    let conn = world.accept();
    world.send(conn, &[0, 0, 0, 45, 0]);
    let rounds = rounds_until_closed(&mut world, conn, 30).expect("closed");
    assert!((10..=12).contains(&rounds), "{rounds}");
}

#[test]
fn a_silent_connection_ends_after_its_timeout_and_a_lively_one_does_not() {
    let mut world = World::new();
    let (silent, lively) = (world.client(), world.client());
    let mut closed_after = None;
    for round in 1..=30 {
        world.advance_ms(1000);
        world.send(lively, &ping());
        assert!(!world.take(lively).1);
        if closed_after.is_none() && world.take(silent).1 {
            closed_after = Some(round);
        }
    }
    assert!(matches!(closed_after, Some(10..=13)), "{closed_after:?}");
}

#[test]
fn a_silent_connection_ends_however_short_a_tick_time_is() {
    for tick_time_ms in [1, 4, 8] {
        let mut world = World::with(|config| config.tick_time_ms = tick_time_ms);
        let conn = world.client();
        for _ in 0..60_000 / 5 {
            let last_turn = world.now.tick;
            world.now.tick = last_turn.after(5);
            let mut budget = Budget::UNLIMITED;
            assert!(world.shard.report(last_turn, &mut budget, world.now));
            while world.shard.poll_request(world.now).is_some() {}
        }
        assert!(world.take(conn).1, "{tick_time_ms}");
    }
}

#[test]
fn behind_a_pause_nobody_is_cut_before_what_came_in_it_was_read() {
    let mut world = World::new();
    let (silent, lively) = (world.client(), world.client());
    for _ in 0..11 {
        world.advance_ms(1000);
    }
    // One round more, and both were silent for their timeout; but the process stood still before it, and
    // the round is for what came before that.
    let before = world.now.tick;
    world.now.tick = before.after(60_000);
    assert!(world.shard.round_is_due(world.now));
    let mut budget = Budget::UNLIMITED;
    assert!(world.shard.report(before, &mut budget, world.now));
    assert!(!world.take(silent).1);
    world.send(lively, &ping());
    world.advance_ms(1000);
    assert!(!world.take(lively).1);
    assert!(world.take(silent).1);
}

#[test]
fn who_is_silent_is_cut_although_every_round_comes_late() {
    let mut world = World::new();
    let (silent, lively, fresh) = (world.client(), world.client(), world.accept());
    world.send(fresh, &[0, 0, 0, 45, 0]);
    for _ in 0..30 {
        // A round takes longer than half a tickTime: many are busy.
        let watermark = world.now.tick;
        world.now.tick = watermark.after(3_000);
        world.send(lively, &ping());
        assert!(!world.take(lively).1);
        let mut budget = Budget::UNLIMITED;
        assert!(world.shard.report(watermark, &mut budget, world.now));
    }
    assert!(!world.take(lively).1);
    assert!(world.take(silent).1);
    assert!(world.take(fresh).1);
}

#[test]
fn output_that_nobody_takes_ends_the_connection() {
    let mut world = World::new();
    let conn = world.client();
    for _ in 0..30 {
        world.send(conn, &ping());
        world.advance_ms(1000);
    }
    assert_eq!(world.take(conn), (vec![], true));
}

#[test]
fn figures_of_connections_and_of_the_shard() {
    let mut world = World::new();
    let conn = world.client();
    world.prompt = false;
    world.send(conn, &[create(5, "/a"), read(6, 3, "/a", true)].concat());
    world.send(conn, &create(7, "/a"));
    let line = world.shard.connections().next().unwrap();
    assert_eq!(
        (line.queued, line.received, line.sent, line.last_op),
        (3, 4, 1, "SESS")
    );
    world.now.micros += 3000;
    world.commit(1);
    let line = world.shard.connections().next().unwrap();
    assert_eq!(line.last_op, "EXIS");
    assert_eq!(
        (line.latency.count, line.latency.min_ms, line.latency.max_ms),
        (3, 0, 3)
    );
    assert_eq!(line.last_xid.unwrap().0, 6);
    assert_eq!(line.last_zxid, Zxid(2));
    world.commit(1);
    let line = world.shard.connections().next().unwrap();
    assert_eq!(
        (line.last_op, line.last_zxid),
        ("NA", Zxid(3)),
        "a failed write"
    );
    let session = line.session.unwrap();
    assert_eq!((session.session, session.timeout_ms), (FIRST, 10_000));
    let stats = world.shard.stats();
    assert_eq!((stats.received, stats.sent, stats.connections), (4, 4, 1));
    assert_eq!((stats.outstanding, stats.watches.total), (0, 1));
    world.shard.reset_stats();
    world.shard.reset_connection_stats();
    assert_eq!(world.shard.stats().received, 0);
    let line = world.shard.connections().next().unwrap();
    assert_eq!(
        (line.received, line.last_op, line.last_zxid),
        (0, "NA", Zxid(-1))
    );
    // What comes behind a reset counts, for those that it has met and for those that are new.
    let later = world.client();
    world.send(later, &read(2, 3, "/a", false));
    world.send(conn, &ping());
    let seen: Vec<_> = world
        .shard
        .connections()
        .map(|c| (c.received, c.sent))
        .collect();
    assert_eq!(seen, [(1, 1), (2, 2)]);
    world.shard.reset_connection_stats();
    world.shard.reset_connection_stats();
    let seen: Vec<_> = world
        .shard
        .connections()
        .map(|c| (c.received, c.sent))
        .collect();
    assert_eq!(seen, [(0, 0), (0, 0)]);
}

#[test]
fn of_a_session_that_has_come_back_nothing_is_shown_as_answered_before_its_first_request() {
    let mut world = World::new();
    world.client();
    let new = world.accept();
    world.send(new, &reattach(FIRST));
    let shown = |world: &World| {
        let line = world.shard.connections().next().unwrap();
        (line.last_op, line.last_xid, line.last_zxid)
    };
    assert_eq!(shown(&world), ("null", Some(Xid(0)), Zxid(0)));
    world.send(new, &read(7, 3, "/a", false));
    assert_eq!(shown(&world), ("EXIS", Some(Xid(7)), Zxid(1)));
    world.shard.reset_connection_stats();
    assert_eq!(shown(&world), ("NA", None, Zxid(-1)));
}

#[test]
fn what_cannot_be_parsed_is_shown_as_a_failed_write_or_as_a_read() {
    let mut world = World::new();
    let conn = world.client();
    for (op, name) in [
        (1, "NA"),
        (2, "NA"),
        (5, "NA"),
        (7, "NA"),
        (14, "NA"),
        (3, "EXIS"),
        (9, "SYNC"),
        (22, "MLTR"),
        (101, "SETW"),
    ] {
        world.send(conn, &request(op, op, |_| {}));
        let line = world.shard.connections().next().unwrap();
        assert_eq!((line.last_op, line.last_xid), (name, Some(Xid(op))));
    }
}

#[test]
fn a_reply_ends_when_the_driver_takes_it() {
    use crate::stages::Stage;
    let mut world = World::new();
    let conn = world.client();
    world.shard.reset_stats();
    world.prompt = false;
    world.send(
        conn,
        &[create(1, "/a"), read(2, 3, "/a", false), ping()].concat(),
    );
    world.now.micros += 1000;
    world.commit(1);
    world.now.micros += 50;
    assert_eq!(world.shard.stages().summary(Stage::Write).count, 0);
    world.frames(conn);
    let summary = |stage| {
        let summary = world.shard.stages().summary(stage);
        (summary.count, summary.max)
    };
    assert_eq!(summary(Stage::Reply), (1, 50));
    // Two digits are kept.
    for stage in [Stage::Write, Stage::Read] {
        let (count, max) = summary(stage);
        assert!(count == 1 && (1050..1060).contains(&max), "{stage:?} {max}");
    }
}

#[test]
fn what_lies_in_the_socket_of_a_connection_that_the_shard_has_ended_is_a_sign_of_life() {
    let mut world = World::new();
    let conn = world.client();
    // Nobody takes the reply.
    world.send(conn, &ping());
    while !world.shard.is_discarded(conn) {
        world.advance_ms(500);
    }
    world.touched.clear();
    world.advance_ms(1000);
    assert!(world.shard.lives_by_its_bytes(conn));
    world.shard.heard(conn);
    world.advance_ms(1000);
    let heard: Vec<_> = world.touched.iter().map(|(_, heard)| &heard[..]).collect();
    assert_eq!(heard, [&[][..], &[FIRST]]);
}

#[test]
fn what_lies_in_the_socket_of_a_connection_that_has_lost_its_session_is_none() {
    let mut world = World::new();
    let (old, new) = (world.client(), world.accept());
    world.send(new, &reattach(FIRST));
    world.advance_ms(1000);
    world.touched.clear();
    assert!(!world.shard.lives_by_its_bytes(old));
    world.shard.heard(old);
    world.advance_ms(1000);
    assert_eq!(world.touched.len(), 1);
    assert!(world.touched[0].1.is_empty());
}

#[test]
fn what_lies_in_the_socket_of_a_connection_whose_session_has_ended_is_none() {
    let mut world = World::new();
    let conn = world.client();
    world.advance_ms(1000);
    world.touched.clear();
    world.expire(FIRST);
    assert!(world.shard.is_discarded(conn));
    assert!(!world.shard.lives_by_its_bytes(conn));
    world.shard.heard(conn);
    world.advance_ms(1000);
    assert_eq!(world.touched.len(), 1);
    assert!(world.touched[0].1.is_empty());
}

#[test]
fn a_connection_that_the_shard_has_ended_loses_its_session_when_that_has_moved() {
    let mut world = World::new();
    let conn = world.client();
    world.send(conn, &ping());
    while !world.shard.is_discarded(conn) {
        world.advance_ms(500);
    }
    assert!(world.shard.lives_by_its_bytes(conn));
    let stale = Notice::Close(conn);
    world.shard.notice(&world.tree, stale, world.now);
    assert!(!world.shard.lives_by_its_bytes(conn));
}

/// Why connections have ended since this was last asked.
fn ends(world: &mut World) -> Vec<(ConnId, Why)> {
    let ends = std::iter::from_fn(|| world.shard.poll_end());
    ends.map(|end| (end.conn, end.why)).collect()
}

#[test]
fn every_end_is_told_once_with_the_reason_that_came_first_and_counted() {
    let mut world = World::new();
    for (bytes, why) in [
        (&[0, 0, 0, 0][..], Why::NoHandshake),
        (&[0x7f, 0, 0, 0], Why::FrameLength),
    ] {
        let conn = world.accept();
        world.send(conn, bytes);
        assert_eq!(ends(&mut world), [(conn, why)]);
    }
    for (bytes, why) in [
        (&[0, 0, 0, 1, 7][..], Why::Malformed),
        (&[0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 3, 9], Why::UnknownRequest),
        (&[0x80, 0, 0, 0], Why::FrameLength),
    ] {
        let conn = world.client();
        world.send(conn, bytes);
        assert_eq!(ends(&mut world), [(conn, why)]);
        // Whatever follows is no other end.
        world.shard.closed(conn, world.now);
        assert_eq!(ends(&mut world), []);
    }
    let stats = world.shard.stats().ends;
    assert_eq!((stats.of(Why::FrameLength), stats.total()), (2, 5));
}

#[test]
fn who_says_nothing_and_who_takes_nothing_end_for_reasons_of_their_own() {
    let mut world = World::new();
    let (fresh, silent, idle) = (world.accept(), world.client(), world.client());
    world.send(fresh, &[0, 0, 0, 45, 0]);
    for _ in 0..30 {
        world.send(idle, &ping());
        world.advance_ms(1000);
        world.take(silent);
    }
    let mut told = ends(&mut world);
    told.sort_unstable_by_key(|(conn, _)| conn.slot);
    let due = [
        (fresh, Why::HandshakeTooLate),
        (silent, Why::Idle),
        (idle, Why::TakesNothing),
    ];
    assert_eq!(told, due);
}

#[test]
fn a_report_says_of_when_it_is() {
    let mut world = World::new();
    world.client();
    world.now.tick = world.now.tick.after(5_000);
    let (watermark, now) = (Tick(world.now.tick.0 - 7), world.now.tick);
    let mut budget = Budget::UNLIMITED;
    assert!(world.shard.report(watermark, &mut budget, world.now));
    let rounds = world.shard.rounds();
    assert_eq!(
        (rounds.watermark, rounds.gathered, rounds.looked),
        (watermark, now, now)
    );
    // While it waits to be taken no other one is made.
    world.now.tick = now.after(5_000);
    assert!(world.shard.report(now, &mut budget, world.now));
    let later = world.shard.rounds();
    assert_eq!(
        (later.watermark, later.gathered, later.looked),
        (watermark, now, world.now.tick)
    );
}

#[test]
fn a_member_without_a_part_ends_every_connection_and_owes_no_outcome_any_more() {
    let mut world = World::with(|config| config.in_flight_max = 3);
    let conns = [world.client(), world.client(), world.client()];
    let fresh = world.accept();
    world.prompt = false;
    for conn in conns {
        world.send(conn, &[create(1, "/a"), read(2, 3, "/a", true)].concat());
    }
    world.shard.closed(conns[2], world.now);
    assert_eq!(world.shard.stats().in_flight, 3);
    // None of the writes is ever committed.
    world.logged.clear();
    world.say(Notice::Suspend);
    world.commit(1);
    world.hand_up();
    assert_eq!(world.suspended, 1);
    for conn in [conns[0], conns[1], fresh] {
        assert_eq!(world.take(conn), (Vec::new(), true));
        assert!(!world.shard.has(conn));
    }
    let stats = world.shard.stats();
    assert_eq!((stats.in_flight, stats.connections), (0, 0));
    assert_eq!((stats.request_bytes, stats.output_bytes), (0, 0));
    assert_eq!(stats.ends.of(Why::NoLeader), 3);
    // Whoever comes then is served as ever.
    world.prompt = true;
    let conn = world.client();
    world.send(conn, &create(1, "/b"));
    assert_eq!(world.frames(conn).len(), 1);
}
