//! Whole members in an ensemble: pipeline, log, tree and protocol over disks in memory, with bytes through the codecs
//! and connections that break. What is checked at every step: all members apply one sequence without a gap, each tree
//! has the digest of its state, and at the end all hold all of it.

mod clients;
mod forwarding;
mod links;
mod world;

use proptest::prelude::*;
use world::{Faults, Seen, World};

fn calm() -> World {
    let mut w = World::new(1, 3, Faults::default());
    w.start_all();
    w.calm();
    w
}

#[test]
fn three_members_elect_and_hold_what_is_written() {
    let mut w = calm();
    for _ in 0..50 {
        w.write();
    }
    w.calm();
    assert!(w.sequence() > 50, "{}", w.sequence());
}

#[test]
fn when_the_leader_is_killed_the_others_go_on_and_it_comes_back_with_what_it_lacks() {
    let mut w = calm();
    (0..20).for_each(|_| w.write());
    w.calm();
    for _ in 0..4 {
        let leader = w.leader().unwrap();
        w.kill(leader);
        w.run(1500);
        assert!(w.leader().is_some_and(|other| other != leader));
        (0..20).for_each(|_| w.write());
        w.calm();
    }
    assert!(w.seen.diffs > 0, "{:?}", w.seen);
    assert_eq!(w.seen.snaps, 0, "nobody lacks more than the log has");
}

#[test]
fn what_a_leader_has_appended_alone_is_taken_back_and_never_shown() {
    let mut w = calm();
    (0..5).for_each(|_| w.write());
    w.calm();
    let leader = w.leader().unwrap();
    let before = w.sequence();
    w.isolate(Some(leader));
    for _ in 0..9 {
        w.write_at(leader);
        w.drive(leader);
    }
    w.run(2000);
    assert!(w.leader().is_some_and(|other| other != leader));
    (0..5).for_each(|_| w.write());
    w.isolate(None);
    w.calm();
    assert!(w.seen.truncs > 0, "{:?}", w.seen);
    assert!(w.sequence() > before);
}

#[test]
fn a_member_that_was_wiped_is_sent_a_snapshot_and_what_follows() {
    let mut w = calm();
    (0..40).for_each(|_| w.write());
    w.calm();
    let follower = w.follower().unwrap();
    w.kill(follower);
    w.wipe(follower);
    (0..40).for_each(|_| w.write());
    w.run(50);
    w.calm();
    assert!(w.seen.snaps > 0, "{:?}", w.seen);
    assert!(w.is_whole(follower), "it counts again");
    // It begins with the snapshot and what came behind it.
    w.kill(follower);
    w.calm();
}

#[test]
fn a_member_that_lacks_more_than_the_log_has_is_sent_a_snapshot() {
    let mut w = calm();
    (0..10).for_each(|_| w.write());
    w.calm();
    let follower = w.follower().unwrap();
    w.kill(follower);
    for _ in 0..400 {
        w.write();
        w.run(3);
    }
    w.calm();
    assert!(w.seen.snaps > 0, "{:?}", w.seen);
}

#[test]
fn a_follower_may_apply_before_its_own_disk_has_synced() {
    let mut w = calm();
    let follower = w.follower().unwrap();
    w.hold_syncs(follower, true);
    for _ in 0..10 {
        w.write();
        w.run(20);
    }
    assert!(w.seen.ahead_of_disk > 0, "{:?}", w.seen);
    w.hold_syncs(follower, false);
    w.calm();
}

#[test]
fn without_room_in_the_log_a_follower_waits_and_reads_nothing_more() {
    let mut w = calm();
    let follower = w.follower().unwrap();
    w.fill_disk(follower, true);
    for _ in 0..600 {
        w.write();
        w.run(2);
        if !w.takes_packets(follower) {
            break;
        }
    }
    assert!(!w.takes_packets(follower));
    let before = w.sequence();
    (0..20).for_each(|_| w.write());
    w.run(300);
    assert!(w.sequence() > before, "the others go on");
    assert!(!w.takes_packets(follower));
    w.fill_disk(follower, false);
    w.calm();
}

fn any_faults() -> impl Strategy<Value = Faults> {
    let rate = |rates: [f64; 3]| (0..3usize).prop_map(move |n| rates[n]);
    (
        rate([0.0, 0.002, 0.01]),
        rate([0.0, 0.0005, 0.003]),
        rate([0.0, 0.0002, 0.001]),
        rate([0.0, 0.0005, 0.002]),
        rate([0.0, 0.0005, 0.002]),
        rate([0.0, 0.002, 0.01]),
        any::<bool>(),
    )
        .prop_map(
            |(breaks, crashes, wipes, partitions, full, slow, power)| Faults {
                breaks,
                crashes,
                wipes,
                partitions,
                full,
                slow,
                power,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_breaks_all_members_come_to_hold_one_history(
        seed in any::<u64>(), voters in prop_oneof![Just(3i64), Just(3), Just(5)], faults in any_faults(),
    ) {
        let mut w = World::new(seed, voters, faults);
        w.start_all();
        w.run(4000);
        w.end_faults();
        w.calm();
    }
}

#[test]
fn runs_meet_everything_that_they_are_there_for() {
    let faults = Faults {
        breaks: 0.004,
        crashes: 0.0015,
        wipes: 0.0005,
        partitions: 0.001,
        full: 0.0005,
        slow: 0.003,
        power: true,
    };
    let mut all = Seen::default();
    for seed in 0..12 {
        let mut w = World::new(seed, 3, faults);
        w.start_all();
        w.run(5000);
        w.end_faults();
        w.calm();
        all.add(&w.seen);
    }
    let least = all.too_rare();
    assert!(least.is_empty(), "{least:?} of {all:?}");
}
