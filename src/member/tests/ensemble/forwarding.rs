//! What clients ask of any member (invariants I-6, I-14, I-15, I-16, I-20, I-28 of peer.md where they concern clients).

use super::clients::{Counts, What};
use super::world::{Faults, World};
use crate::types::ServerId;
use proptest::prelude::*;

const TIMEOUT_MS: i32 = 2000;

/// Three members, and a client of each that is let in; the leader's first.
fn with_clients() -> (World, [ServerId; 3]) {
    let mut w = World::new(1, 3, Faults::default());
    w.start_all();
    w.calm();
    let leader = w.leader().unwrap();
    let others: Vec<ServerId> = (1..=3).map(ServerId).filter(|sid| *sid != leader).collect();
    let members = [leader, others[0], others[1]];
    for (n, sid) in members.into_iter().enumerate() {
        let id = w.clients.add(TIMEOUT_MS);
        assert_eq!(id, n);
        w.come(id, sid);
        w.until("let in", |w| w.clients.is_let_in(id));
    }
    (w, members)
}

fn create(n: u64) -> What {
    let ephemeral = false;
    What::Create { n, ephemeral }
}

fn ephemeral(n: u64) -> What {
    let ephemeral = true;
    What::Create { n, ephemeral }
}

fn all_idle(w: &World) -> bool {
    (0..w.clients.all.len()).all(|id| w.clients.is_idle(id))
}

#[test]
fn a_client_of_a_follower_writes_in_its_order_and_knows_its_outcomes() {
    let (mut w, _) = with_clients();
    let creators: Vec<u8> = (0..3)
        .map(|id| w.clients.all[id].session.unwrap().creator())
        .collect();
    let leader = w.leader().unwrap().0 as u8;
    assert_eq!(creators[0], leader);
    assert_ne!(creators[1], creators[2], "ids of who makes them");
    for n in 0..40 {
        for id in 0..3 {
            w.ask_for(id, |n| match n % 4 {
                0 => ephemeral(n),
                1 => What::Multi { n },
                _ => create(n),
            });
        }
        if n % 5 == 0 {
            w.run(25);
        }
    }
    w.until("answered", all_idle);
    assert!(w.clients.counts.acked >= 30, "{:?}", w.clients.counts);
    assert!(w.clients.counts.acked_at_followers >= 20);
    w.calm();
}

#[test]
fn a_sync_at_any_member_is_behind_what_was_acknowledged_at_another() {
    let (mut w, _) = with_clients();
    for round in 0..30 {
        w.ask_for(round % 3, create);
        w.until("answered", all_idle);
        for id in 0..3 {
            w.ask_for(id, |_| What::Sync(Default::default()));
        }
        w.until("answered", all_idle);
    }
    assert_eq!(w.clients.counts.synced, 90);
}

#[test]
fn a_session_moves_between_members_and_reads_what_it_wrote() {
    let (mut w, members) = with_clients();
    for round in 0..30 {
        for id in 0..3 {
            for _ in 0..4 {
                w.ask_for(id, create);
            }
            // Without a word, and whatever is under way.
            w.come(id, members[(id + round) % 3]);
        }
        w.until("let in", |w| (0..3).all(|id| w.clients.is_let_in(id)));
    }
    w.until("answered", all_idle);
    assert!(w.clients.counts.moved >= 90, "{:?}", w.clients.counts);
    assert!(w.clients.counts.lost > 0 && w.clients.counts.dead == 0);
    w.calm();
}

#[test]
fn who_is_heard_of_at_a_follower_lives_and_who_is_not_expires_with_its_ephemerals() {
    let (mut w, _) = with_clients();
    (0..3).for_each(|id| w.ask_for(id, ephemeral));
    w.until("answered", all_idle);
    w.run(3 * TIMEOUT_MS as usize);
    assert!(all_idle(&w), "all are heard of");
    w.clients.all[1].is_silent = true;
    w.run(TIMEOUT_MS as usize - 200);
    assert!(w.clients.is_let_in(1), "not early");
    w.until("expired", |w| w.clients.all[1].session.is_none());
    assert!(w.clients.is_idle(0) && w.clients.is_idle(2));
    w.calm();
}

#[test]
fn when_a_follower_dies_its_clients_move_or_expire() {
    let (mut w, members) = with_clients();
    (0..3).for_each(|id| w.ask_for(id, ephemeral));
    w.until("answered", all_idle);
    let [_, follower, other] = members;
    let id = w.clients.add(TIMEOUT_MS);
    w.come(id, follower);
    w.until("let in", |w| w.clients.is_let_in(id));
    w.ask_for(id, ephemeral);
    w.until("answered", all_idle);
    w.kill(follower);
    w.run(TIMEOUT_MS as usize / 2);
    w.come(id, other);
    w.until("let in", |w| w.clients.is_let_in(id));
    let session = w.clients.all[1].session.unwrap();
    w.until("expired", |w| !w.has_session(session));
    assert!(w.clients.is_let_in(id));
    // It comes back, and is told so.
    w.come(1, other);
    w.until("told", |w| w.clients.counts.dead == 1);
    w.calm();
}

#[test]
fn when_the_leader_dies_what_was_acknowledged_survives_and_nothing_executes_twice() {
    let (mut w, members) = with_clients();
    for _ in 0..5 {
        for id in 0..3 {
            (0..5).for_each(|_| w.ask_for(id, create));
        }
        w.run(4);
        let leader = w.leader().unwrap();
        w.kill(leader);
        w.run(300);
        w.calm();
        for (id, sid) in members.into_iter().enumerate() {
            w.come(id, sid);
            w.until("let in", |w| w.clients.is_let_in(id));
        }
    }
    assert!(w.clients.counts.lost > 0);
    assert_eq!(w.clients.counts.dead, 0, "all got their full timeout");
    w.calm();
}

#[test]
fn a_client_that_closes_at_a_follower_is_gone_everywhere() {
    let (mut w, _) = with_clients();
    (0..3).for_each(|id| w.ask_for(id, ephemeral));
    w.until("answered", all_idle);
    let session = w.clients.all[1].session.unwrap();
    w.ask_for(1, |_| What::Close);
    w.until("closed", |w| w.clients.counts.closed == 1);
    w.calm();
    assert!(!w.has_session(session));
}

/// With clients everywhere, and whatever breaks.
fn run(seed: u64, voters: i64, faults: Faults) -> Counts {
    let mut w = World::new(seed, voters, faults);
    for n in 0..8 {
        w.clients.add([600, 1500, 1 << 30][n % 3]);
    }
    w.start_all();
    w.acts = true;
    w.run(4000);
    w.end_faults();
    w.calm();
    w.clients.counts.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_breaks_clients_at_all_members_are_told_the_truth(
        seed in any::<u64>(),
        voters in prop_oneof![Just(3i64), Just(3), Just(5)],
        faults in super::any_faults(),
    ) {
        run(seed, voters, faults);
    }
}

#[test]
fn runs_with_clients_meet_everything_that_they_are_there_for() {
    let faults = Faults {
        breaks: 0.002,
        crashes: 0.0005,
        partitions: 0.0005,
        slow: 0.002,
        power: true,
        ..Faults::default()
    };
    let mut all = Counts::default();
    for seed in 0..12 {
        all.add(&run(seed, 3, faults));
    }
    let Counts {
        acked,
        acked_at_followers,
        opened,
        moved,
        dead,
        synced,
        closed,
        lost,
        ..
    } = all;
    let met = [
        acked >= 1000,
        acked_at_followers >= 500,
        opened >= 50,
        moved >= 200,
        dead >= 2,
        synced >= 100,
        closed >= 5,
        lost >= 50,
    ];
    assert!(met.iter().all(|met| *met), "{all:?}");
}
