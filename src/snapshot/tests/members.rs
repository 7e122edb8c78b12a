//! Stores of members of an ensemble: how they begin, and who may not begin on them.

use super::*;
use crate::log::received::{self, Received, Receiving};
use crate::log::{MemberRecord, RecoveryError, Standing};
use crate::types::Epoch;

const SID: ServerId = ServerId(3);

fn identities() -> Identities {
    let mut identity = 60;
    Box::new(move || {
        identity += 1;
        identity
    })
}

fn recover_as(disk: &SimStorage, sid: ServerId) -> Result<Recovered<SimStorage>, SnapError> {
    recover_member(disk, disk, sid, &mut Rebuilding::new(|_| {}))
}

fn begin(disk: &SimStorage) -> BegunMember<SimStorage> {
    let recovered = recover_as(disk, SID).unwrap();
    (recovered.open_member(disk, disk, CONFIG, identities())).unwrap()
}

fn accept(disk: &SimStorage, begun: &mut BegunMember<SimStorage>, epoch: u32) {
    begun.keeper.accept(Epoch(epoch));
    let (durable, newest) = (begun.log.durable_end(), begun.log.newest());
    let newest = newest.min(durable.position);
    let ticket = begun.keeper.poll_record(durable, newest).unwrap();
    begun.keeper.written(ticket.run(disk, disk)).unwrap();
}

fn standing(member: &BegunMember<SimStorage>) -> Standing {
    member.keeper.member().map(MemberRecord::standing).unwrap()
}

#[test]
fn a_member_begins_fresh_and_finds_its_promise_and_nobody_else_begins_on_its_store() {
    let disk = SimStorage::new(1 << 30);
    let mut member = begin(&disk);
    assert_eq!(
        (standing(&member), member.record.accepted()),
        (Standing::Fresh, Epoch(0))
    );
    accept(&disk, &mut member, 5);
    drop(member);
    for power_cut in [true, false] {
        disk.restart(&mut fastrand::Rng::with_seed(1), power_cut);
        let member = begin(&disk);
        assert_eq!(
            (standing(&member), member.record.accepted()),
            (Standing::Fresh, Epoch(5))
        );
    }
    let content = |name: &String| disk.content(name).unwrap();
    let before: Vec<_> = disk.names().iter().map(content).collect();
    let alone = recover(&disk, &disk, &mut |_| {}).map(drop);
    assert!(
        matches!(alone, Err(SnapError::Log(RecoveryError::Member { .. }))),
        "{alone:?}"
    );
    let given_up = loss::look(&disk, &disk).map(drop);
    assert!(
        matches!(given_up, Err(SnapError::Log(RecoveryError::Member { .. }))),
        "{given_up:?}"
    );
    let other = recover_as(&disk, ServerId(4)).map(drop);
    assert!(
        matches!(
            other,
            Err(SnapError::Log(RecoveryError::OtherMember { .. }))
        ),
        "{other:?}"
    );
    let after: Vec<_> = disk.names().iter().map(content).collect();
    assert_eq!(before, after, "nothing was changed");
}

#[test]
fn a_standalone_servers_store_begins_maimed_as_a_members_if_it_has_a_history() {
    for writes in [0, 3] {
        let mut w = World::new(Tree::new());
        (0..writes).for_each(|nth| grow(&mut w, 1, nth));
        let World {
            disk, log, tree, ..
        } = w;
        drop(log);
        let member = begin(&disk);
        let due = if writes > 0 {
            Standing::Maimed
        } else {
            Standing::Fresh
        };
        assert_eq!((standing(&member), member.record.is_whole()), (due, false));
        assert_eq!(member.tree.last_zxid(), tree.last_zxid());
        drop(member);
        let again = begin(&disk);
        assert_eq!(standing(&again), due);
    }
}

#[test]
fn a_member_whose_witnesses_are_damaged_or_gone_begins_maimed_and_stays_so() {
    let mut w = World::new(Tree::new());
    grow(&mut w, 3, 0);
    let World { disk, log, .. } = w;
    drop(log);
    let mut member = begin(&disk);
    accept(&disk, &mut member, 5);
    accept(&disk, &mut member, 6);
    drop(member);
    let newest = |name: &str| {
        let content = disk.content(name).unwrap();
        let sequence =
            |slot: usize| u64::from_le_bytes(content[slot + 32..slot + 40].try_into().unwrap());
        if sequence(0) > sequence(4096) {
            0
        } else {
            4096
        }
    };
    for name in ["witness.data", "witness.log"] {
        disk.spoil(name, newest(name) + 136, &[1]);
    }
    let found = recover_as(&disk, SID).unwrap();
    assert!(
        found
            .warnings()
            .join(" ")
            .contains("witness.data is damaged, witness.log is damaged")
    );
    let member = found
        .open_member(&disk, &disk, CONFIG, identities())
        .unwrap();
    assert_eq!(
        (standing(&member), member.record.accepted()),
        (Standing::Maimed, Epoch(5))
    );
    drop(member);
    for name in ["witness.data", "witness.log"] {
        disk.remove(name).unwrap();
    }
    for _ in 0..2 {
        let member = begin(&disk);
        let promised = member.record.accepted();
        assert_eq!((standing(&member), promised), (Standing::Maimed, Epoch(0)));
        assert!(member.tree.last_zxid() > Zxid::ZERO);
    }
}

#[test]
fn a_member_that_is_killed_at_any_effect_of_a_start_has_promised_what_it_had() {
    for seed in 0..60 {
        let disk = SimStorage::new(1 << 30);
        let mut member = begin(&disk);
        accept(&disk, &mut member, 5);
        drop(member);
        for effects in 0.. {
            disk.crash_at(Some(disk.effects() + effects));
            let begun = recover_as(&disk, SID).is_ok_and(|found| {
                found
                    .open_member(&disk, &disk, CONFIG, identities())
                    .is_ok()
            });
            disk.restart(&mut fastrand::Rng::with_seed(seed + effects), true);
            let member = begin(&disk);
            assert_eq!(
                (standing(&member), member.record.accepted()),
                (Standing::Fresh, Epoch(5))
            );
            if begun {
                break;
            }
        }
    }
}

// A history with brackets.

/// A member that writes: all that it appends is durable, and nothing committed.
fn writer(disk: &SimStorage, member: BegunMember<SimStorage>, next: Zxid) -> World {
    let BegunMember {
        tree, log, keeper, ..
    } = member;
    World {
        disk: disk.clone(),
        log,
        store: keeper.store(),
        overlay: Overlay::new(&tree),
        next,
        tree,
    }
}

/// The history goes on behind this, in the epoch of the next transaction.
fn adopt(w: &mut World, base: Zxid) {
    let epoch = Epoch(w.next.epoch());
    w.log.open_adoption(epoch, base).unwrap();
    w.log.close_adoption(epoch).unwrap();
}

/// A leader's tree: of this one, and transactions up to `zxid`.
fn ahead(tree: &Tree, zxid: Zxid) -> Tree {
    let mut tree = tree.clone();
    tree.replay(&Entry {
        header: TxnHeader {
            session: SessionId(1),
            cxid: 0,
            zxid,
            time: WallMs(1),
            op: OpCode::ERROR,
        },
        txn: Txn::Error {
            code: crate::types::ErrorCode::NO_NODE,
        },
        digest: None,
    });
    tree
}

/// The leader sends its tree.
fn receive(disk: &SimStorage, store: StoreId, tree: &Tree) -> io::Result<Received> {
    let mut receiving = Receiving::create(disk, tree.last_zxid(), store)?;
    tree.write_body(&mut |piece: &[u8]| receiving.push(piece))?;
    Ok(receiving.finish()?.0)
}

#[test]
fn a_member_applies_what_is_known_to_be_committed_and_what_counts_of_the_rest_stays_on_disk() {
    let z = Zxid::new;
    let disk = SimStorage::new(1 << 30);
    let member = begin(&disk);
    assert_eq!(member.suffix, None);
    let mut w = writer(&disk, member, z(1, 1));
    adopt(&mut w, Zxid::ZERO);
    grow(&mut w, 3, 0);
    let third = w.tree.last_zxid();
    w.log.committed(third);
    grow(&mut w, 4, 1);
    let (seventh, digest) = (w.tree.last_zxid(), w.tree.digest());
    drop(w);
    let found = recover_as(&disk, SID).unwrap();
    let kept = Some((third.next(), seventh));
    assert_eq!((found.tree.last_zxid(), found.suffix), (third, kept));
    assert_eq!(found.replayed, u64::from(third.counter()));
    // All of it counts if a leader says so, and the tree behind it is the one that there was.
    let member = found
        .open_member(&disk, &disk, CONFIG, identities())
        .unwrap();
    assert_eq!((member.suffix, member.log.end().zxid), (kept, seventh));
    let mut log = member.log;
    log.committed(seventh);
    log.close().unwrap();
    let found = recover_as(&disk, SID).unwrap();
    assert_eq!((found.tree.last_zxid(), found.suffix), (seventh, None));
    assert_eq!(found.tree.digest(), digest);
}

#[test]
fn what_a_leader_replaces_is_not_replayed_and_what_it_does_not_is() {
    let z = Zxid::new;
    for is_closed in [true, false] {
        let disk = SimStorage::new(1 << 30);
        let mut w = writer(&disk, begin(&disk), z(1, 1));
        adopt(&mut w, Zxid::ZERO);
        grow(&mut w, 3, 0);
        let third = w.tree.last_zxid();
        w.log.committed(third);
        grow(&mut w, 4, 1);
        let seventh = w.tree.last_zxid();
        drop(w);
        // Its tree is behind what it knows to be committed; another leader has gone on there.
        let mut w = writer(&disk, begin(&disk), z(2, 1));
        w.log.open_adoption(Epoch(2), third).unwrap();
        grow(&mut w, 2, 7);
        let (other, digest) = (w.tree.last_zxid(), w.tree.digest());
        assert_eq!(other.epoch(), 2);
        if is_closed {
            w.log.close_adoption(Epoch(2)).unwrap();
        }
        w.log.close().unwrap();
        let found = recover_as(&disk, SID).unwrap();
        let end = if is_closed { other } else { seventh };
        assert_eq!(found.tree.last_zxid(), third);
        assert_eq!(found.suffix.map(|suffix| suffix.1), Some(end));
        let mut log = (found.open_member(&disk, &disk, CONFIG, identities()))
            .unwrap()
            .log;
        log.committed(end);
        log.close().unwrap();
        let found = recover_as(&disk, SID).unwrap();
        assert_eq!((found.tree.last_zxid(), found.suffix), (end, None));
        assert_eq!(found.tree.digest() == digest, is_closed);
        // A standalone server would use the zxids again.
        let alone = recover(&disk, &disk, &mut |_| {}).map(drop);
        assert!(
            matches!(alone, Err(SnapError::Log(RecoveryError::Member { .. }))),
            "{alone:?}"
        );
    }
}

#[test]
fn a_snapshot_that_the_history_has_not_been_at_is_none_to_start_from() {
    let z = Zxid::new;
    let disk = SimStorage::new(1 << 30);
    let mut w = writer(&disk, begin(&disk), z(1, 1));
    adopt(&mut w, Zxid::ZERO);
    grow(&mut w, 3, 0);
    let own = w.tree.last_zxid();
    w.log.committed(own);
    write(&disk, &w.tree, w.store).unwrap();
    grow(&mut w, 4, 1);
    // What lies between is in the snapshot of the leader alone.
    w.next = z(2, 1);
    let tree = ahead(&w.tree, z(1, 90));
    let received = receive(&disk, w.store, &tree).unwrap();
    w.log.open_adoption_of(Epoch(2), &received).unwrap();
    w.log.close_adoption(Epoch(2)).unwrap();
    grow(&mut w, 1, 9);
    w.log.close().unwrap();
    received.discard(&disk).unwrap();
    let refused = recover_as(&disk, SID).map(drop);
    let Err(SnapError::Gap { snapshot, log }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((snapshot, log), (own, z(1, 90)));
    // It is there, under its name.
    write(&disk, &tree, member_store(&disk)).unwrap();
    let found = recover_as(&disk, SID).unwrap();
    assert_eq!(found.tree.last_zxid(), z(1, 90));
    assert_eq!(found.suffix.map(|suffix| suffix.0), Some(z(2, 1)));
}

// Snapshots of leaders.

/// What was done before a crash.
#[derive(Default)]
struct Taken {
    is_proven: bool,
    is_named: bool,
}

/// The member takes over a history that continues this tree.
fn take_over(
    disk: &SimStorage,
    w: &mut World,
    tree: &Tree,
    taken: &mut Taken,
) -> Result<(), Box<dyn std::error::Error>> {
    let received = receive(disk, w.store, tree)?;
    w.log.open_adoption_of(Epoch(2), &received)?;
    w.log.close_adoption(Epoch(2))?;
    let ticket = w.log.begin_sync().expect("two fences");
    w.log.synced(ticket.run())?;
    let proof = w.log.poll_adoption().expect("it is durable");
    taken.is_proven = true;
    received.install(disk, &proof)?;
    taken.is_named = true;
    Ok(())
}

#[test]
fn a_crash_at_every_effect_of_taking_over_a_snapshot_leaves_the_old_state_or_the_snapshots() {
    let z = Zxid::new;
    let mut seen = [0; 3];
    for (effect, seed) in (0..).flat_map(|effect| (0..6).map(move |seed| (effect, seed))) {
        let disk = SimStorage::new(1 << 30);
        let mut w = writer(&disk, begin(&disk), z(1, 1));
        adopt(&mut w, Zxid::ZERO);
        grow(&mut w, 3, 0);
        let third = w.tree.last_zxid();
        w.log.committed(third);
        write(&disk, &w.tree, w.store).unwrap();
        let tree = ahead(&w.tree, z(1, 90));
        grow(&mut w, 4, 1);
        let seventh = w.tree.last_zxid();
        let mut taken = Taken::default();
        disk.crash_at(Some(disk.effects() + effect));
        let is_done = take_over(&disk, &mut w, &tree, &mut taken).is_ok();
        drop(w);
        disk.crash_at(None);
        disk.restart(&mut fastrand::Rng::with_seed(seed), seed % 2 == 0);
        for _ in 0..2 {
            let found = recover_as(&disk, SID).unwrap();
            let is_new = found.tree.last_zxid() == z(1, 90);
            let suffix = (!is_new).then_some((third.next(), seventh));
            assert_eq!(found.suffix, suffix, "effect {effect} seed {seed}");
            assert!(is_new || !taken.is_proven, "effect {effect} seed {seed}");
            if is_new {
                assert_eq!(found.tree.digest(), tree.digest());
            } else {
                assert_eq!(found.tree.last_zxid(), third);
            }
            let is_left = |name: &String| name.contains(".in");
            assert_eq!(disk.names().into_iter().find(is_left), None);
            seen[usize::from(is_new) + usize::from(is_new && !taken.is_named)] += 1;
            drop(begin(&disk));
        }
        if is_done && seed == 5 {
            break;
        }
    }
    // The old one; the new one, named before the crash or by the start.
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

#[test]
fn a_snapshot_that_nothing_durable_continues_is_none() {
    let z = Zxid::new;
    for is_void in [true, false] {
        let disk = SimStorage::new(1 << 30);
        let mut w = writer(&disk, begin(&disk), z(1, 1));
        adopt(&mut w, Zxid::ZERO);
        grow(&mut w, 3, 0);
        let third = w.tree.last_zxid();
        w.log.committed(third);
        let received = receive(&disk, w.store, &ahead(&w.tree, z(1, 90))).unwrap();
        assert_eq!(received::list(&disk).unwrap(), [z(1, 90)]);
        w.log.open_adoption_of(Epoch(2), &received).unwrap();
        if is_void {
            w.log.void_adoption().unwrap();
        }
        w.log.close().unwrap();
        let found = recover_as(&disk, SID).unwrap();
        assert_eq!(found.tree.last_zxid(), third);
        assert_eq!(received::list(&disk).unwrap(), []);
    }
}

#[test]
fn a_log_that_is_refused_takes_no_received_snapshot_along() {
    let z = Zxid::new;
    let disk = SimStorage::new(1 << 30);
    let mut w = writer(&disk, begin(&disk), z(1, 1));
    adopt(&mut w, Zxid::ZERO);
    grow(&mut w, 3, 0);
    let tree = ahead(&w.tree, z(1, 90));
    let received = receive(&disk, w.store, &tree).unwrap();
    w.log.open_adoption_of(Epoch(2), &received).unwrap();
    w.log.close_adoption(Epoch(2)).unwrap();
    w.log.close().unwrap();
    let segment = disk
        .names()
        .into_iter()
        .find(|name| name.starts_with("log."));
    // Rot in the first record.
    disk.spoil(&segment.unwrap(), 4096 + 40, &[0xff; 8]);
    for _ in 0..2 {
        assert!(recover_as(&disk, SID).is_err());
        assert_eq!(received::list(&disk).unwrap(), [z(1, 90)]);
    }
}

fn member_store(disk: &SimStorage) -> StoreId {
    let evidence = standing::find(disk, disk, SID).unwrap();
    evidence.witness.unwrap().store
}
