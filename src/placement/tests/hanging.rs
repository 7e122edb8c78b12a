//! A device that hangs holds up nobody but those who wait for it.

use super::*;
use crate::log::SyncTicket;

/// Turns until nothing is to be done at once, behind which no sync begins.
fn settle_without_sync(world: &mut World) {
    for _ in 0..10_000 {
        world.now.micros += 10;
        if !turn_without_sync(world).again {
            return;
        }
    }
    panic!("it never rests");
}

/// The sync that begins behind a turn.
fn begin(syncs: &mut Syncs, world: &mut World) -> Option<(SyncTicket<SimStorage>, SyncPlace)> {
    for _ in 0..100 {
        let now = world.now;
        match syncs.begin(inline(world), false, now) {
            SyncStep::Nothing => return None,
            SyncStep::LookAgain => world.now.micros += 1000,
            SyncStep::Begin(ticket, place) => return Some((ticket, place)),
        }
    }
    panic!("it looks and looks");
}

/// It comes back.
fn end(syncs: &mut Syncs, world: &mut World, ticket: SyncTicket<SimStorage>) {
    let (outcome, now) = (ticket.run(), world.now);
    syncs.ended(now);
    inline(world).synced(outcome, now).expect("no fault");
    settle_without_sync(world);
}

/// What is due beside the core is done.
fn do_jobs(world: &mut World, disk: &SimStorage) {
    while let Some(job) = inline(world).poll_job() {
        let done = job.run(disk, disk);
        inline(world).job_done(done).expect("no fault");
    }
}

#[test]
fn while_the_device_hangs_others_are_served_and_further_writes_gather() {
    static LARGE: [u8; 600_000] = [7; 600_000];
    let mut world = World::new();
    let (writer, other) = (world.client(), world.client());
    let mut syncs = Syncs::new(SyncPolicy::Auto { is_prompt: false }, true);
    let mut owed = 0;
    let mut write = |world: &mut World, n: usize| {
        let path = format!("/{n:04}");
        owed += 24 + path.len();
        world.send(writer, &create_with(&path, &LARGE));
        settle_without_sync(world);
        owed
    };
    let owed_first = (0..3).map(|n| write(&mut world, n)).max();
    let (ticket, place) = begin(&mut syncs, &mut world).expect("it is due");
    let disk = ticket.storage().clone();
    assert_eq!((place, ticket.is_written()), (SyncPlace::Beside, false));
    do_jobs(&mut world, &disk);
    let before = disk.effects();
    let rolls = |world: &World| world.member().pipeline.log().counters().rolls;
    let mut owed_all = 0;
    for n in 3..33 {
        owed_all = write(&mut world, n);
        world.send(other, &[ping(), get_data("/")].concat());
        settle_without_sync(&mut world);
        assert!(world.replies(other) > PONG, "a pong, and what was read");
        world.now.tick = world.now.tick.after(100);
        let ticked = world
            .core
            .turn(true, world.now, &mut world.net, &mut |_| {});
        ticked.expect("no fault");
        assert!(begin(&mut syncs, &mut world).is_none(), "one is out");
    }
    assert_eq!(rolls(&world), 2, "segments were begun meanwhile");
    assert_eq!(
        disk.effects(),
        before,
        "the core has asked the disk for nothing"
    );
    assert_eq!(world.replies(writer), 0);
    end(&mut syncs, &mut world, ticket);
    assert_eq!(Some(world.replies(writer)), owed_first);
    let (ticket, place) = begin(&mut syncs, &mut world).expect("it is due");
    assert_eq!((place, ticket.is_written()), (SyncPlace::Beside, false));
    assert_eq!(
        disk.effects(),
        before + 2,
        "the first ticket: a write and a sync"
    );
    end(&mut syncs, &mut world, ticket);
    assert_eq!(
        Some(world.replies(writer) + owed_first.unwrap_or(0)),
        Some(owed_all)
    );
    assert_eq!(syncs.counters().written_beside, 2);
}

#[test]
fn who_backs_off_from_a_stall_writes_nothing_on_the_core() {
    for (took_us, is_written) in [(1_999, true), (2_000, false)] {
        let mut world = World::new();
        let id = world.client();
        let mut syncs = Syncs::new(SyncPolicy::Never, true);
        for (path, is_written) in [("/a", true), ("/b", is_written)] {
            world.send(id, &create(path));
            settle_without_sync(&mut world);
            let (ticket, place) = begin(&mut syncs, &mut world).expect("it is due");
            assert_eq!(place, SyncPlace::Beside);
            assert_eq!(ticket.is_written(), is_written, "{path} {took_us}");
            world.now.micros += took_us;
            end(&mut syncs, &mut world, ticket);
            assert_eq!(world.replies(id), CREATED);
        }
    }
}
