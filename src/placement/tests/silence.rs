//! What lies in a socket and is not read is a sign of life.

use super::*;

impl World {
    fn sessions(&self) -> usize {
        self.member().tree.sessions().count()
    }
}

#[test]
fn bytes_behind_a_read_that_leaves_no_room_keep_their_session_alive() {
    let get = get_data("/a");
    // Each request is read whole, and nothing behind it.
    let mut world = World::with(Budgets {
        read_max: get.len(),
        ..Budgets::DEFAULT
    });
    let id = world.client();
    world.send(id, &create_with("/a", &vec![7; 500_000]));
    world.settle();
    let kernel = world.net.open.get_mut(&id).expect("open");
    kernel.window = 0;
    // The second reply waits until the first has left, and the third request for the second reply.
    world.send(id, &get.repeat(3));
    world.settle();
    assert_eq!(world.net.open[&id].inbound.len(), get.len());
    for _ in 0..90 {
        world.net.open.get_mut(&id).expect("open").window = 1000;
        world.core.socket_event(id, false, true, false);
        world.tick(500);
        assert_eq!(world.net.open[&id].inbound.len(), get.len());
    }
    assert_eq!(world.sessions(), 1, "four times its timeout");
    // Its client takes the replies, and is silent from then on.
    world.net.open.get_mut(&id).expect("open").window = usize::MAX;
    world.core.socket_event(id, false, true, false);
    world.settle();
    assert!(world.replies(id) > 3 * 500_000);
    (0..40).for_each(|_| world.tick(500));
    assert_eq!(world.sessions(), 0);
    world.assert_empty();
}

#[test]
fn bytes_that_nobody_has_read_when_their_connection_ends_keep_its_session_alive() {
    for sends in [true, false] {
        let mut world = World::new();
        let id = world.client();
        // The reply stays, and nothing else moves: the connection ends after the session's timeout, before
        // the session.
        world.net.open.get_mut(&id).expect("open").window = 0;
        world.send(id, &ping());
        world.settle();
        while world.net.open.contains_key(&id) {
            if sends && let Some(kernel) = world.net.open.get_mut(&id) {
                // The kernel reports it behind the turn that ends the connection.
                kernel.inbound.clear();
                kernel.inbound.extend(ping());
            }
            world.tick(500);
        }
        assert_eq!(world.sessions(), 1);
        (0..16).for_each(|_| world.tick(500));
        assert_eq!(world.sessions(), usize::from(sends), "8 of 10 s later");
        (0..16).for_each(|_| world.tick(500));
        assert_eq!(world.sessions(), 0);
        world.assert_empty();
    }
}

#[test]
fn nobody_expires_whose_bytes_wait_while_the_kernel_has_not_told_of_every_socket() {
    let mut world = World::new();
    let id = world.client();
    // What said that the bytes are there was lost, and their socket is not watched again yet.
    world.net.is_behind = true;
    let kernel = world.net.open.get_mut(&id).expect("open");
    kernel.inbound.extend(ping());
    (0..60).for_each(|_| world.tick(500));
    assert_eq!(world.sessions(), 1, "three times its timeout");
    world.net.is_behind = false;
    world.core.socket_event(id, true, false, false);
    (0..16).for_each(|_| world.tick(500));
    assert_eq!(world.sessions(), 1, "8 of 10 s later");
    assert!(world.replies(id) > 0);
    (0..16).for_each(|_| world.tick(500));
    assert_eq!(world.sessions(), 0);
    world.assert_empty();
}

#[test]
fn nobody_expires_while_a_connection_waits_that_was_handed_over() {
    let mut world = World::new();
    world.client();
    // Its client may have connected anew: another core has accepted that, and this one was not told of it yet.
    world.net.handed_over = 2;
    (0..60).for_each(|_| world.tick(500));
    assert_eq!(world.sessions(), 1, "three times its timeout");
    world.connect();
    (0..60).for_each(|_| world.tick(500));
    assert_eq!(world.sessions(), 1, "the other one waits");
    // Those who are handed over without end come behind it.
    for _ in 0..60 {
        for _ in 0..2 {
            world.connect();
        }
        world.tick(500);
    }
    assert_eq!(world.sessions(), 0);
}

#[test]
fn nobody_expires_once_no_input_is_taken() {
    let mut world = World::new();
    world.client();
    world.core.stop();
    (0..60).for_each(|_| world.tick(500));
    assert_eq!(world.sessions(), 1);
    // The same where one core orders for others.
    for stops in [false, true] {
        let (mut core, mut shards, _, mut now) = ordering_core(8, Budgets::DEFAULT);
        if stops {
            core.stop();
        }
        for _ in 0..60 {
            now.tick = now.tick.after(500);
            let report = ShardRequest::Touched {
                shard: ShardId(0),
                watermark: now.tick,
                made: now.tick,
                sessions: Vec::new(),
            };
            shards[0].requests.push(report).expect("there is room");
            core.orderer.member.tick(now).expect("no fault");
            core.turn(now, &mut |_| {}, &mut |_| {}).expect("no fault");
        }
        let closing = core.orderer.member.pipeline.closing().count();
        assert_eq!(closing, usize::from(!stops));
    }
}
