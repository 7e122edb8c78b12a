//! Stores that something is missing of, given up with the command for it.

use super::*;
use crate::log::storage::{File, Storage};
use crate::snapshot::loss::{Found, Loss, UNSEEN_MAX, look, settle};
use crate::types::SessionId;
use std::collections::BTreeMap;

const PAGE: usize = 4096;

/// A store with a snapshot and several segments behind it, and what its tree was behind each transaction
/// that is not in the snapshot.
struct Store {
    disk: SimStorage,
    digests: BTreeMap<Zxid, Option<u64>>,
    snapshot: Zxid,
    last: Zxid,
}

impl Store {
    fn new() -> Store {
        let mut w = World::new(30);
        w.run_all();
        while !w.run_all().contains(&"snapshot") {
            w.fill_segments(1);
        }
        w.fill_segments(2);
        let World { disk, member, .. } = w;
        let last = member.tree.last_zxid();
        member.close().unwrap();
        let mut digests = BTreeMap::new();
        let found = snapshot::recover(&disk, &disk, &mut |entry| {
            let digest = entry.digest.map(|digest| digest.tree);
            digests.insert(entry.header.zxid, digest);
        });
        let (snapshot, _) = found.unwrap().snapshot.unwrap();
        assert!(digests.len() >= 10, "{} behind {snapshot}", digests.len());
        assert!(!digests.contains_key(&snapshot));
        let store = Store {
            disk,
            digests,
            snapshot,
            last,
        };
        assert!(store.names("log.").len() > 3);
        store
    }

    /// The same on another disk.
    fn copy(&self) -> Store {
        Store {
            disk: self.disk.after_power_cut(&mut fastrand::Rng::with_seed(0)),
            digests: self.digests.clone(),
            ..*self
        }
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let mut names = self.disk.list().unwrap();
        names.retain(|name| name.starts_with(prefix));
        names
    }

    fn content(&self, name: &str) -> Vec<u8> {
        self.disk
            .open(name)
            .unwrap()
            .view(u64::MAX)
            .unwrap()
            .to_vec()
    }

    /// Names and contents, without those of spares and witnesses.
    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let named = |name: &String| name.contains("log.0") || name.contains("snap.");
        let names = self.disk.list().unwrap().into_iter().filter(named);
        names
            .map(|name| (name.clone(), self.content(&name)))
            .collect()
    }

    fn refusal(&self) -> String {
        match start_member(&self.disk, 30) {
            Err(refusal) => refusal.to_string(),
            Ok(member) => panic!("started at {}", member.tree.last_zxid()),
        }
    }

    fn lost(&self) -> Loss<SimStorage> {
        match look(&self.disk, &self.disk).unwrap() {
            Found::Lost(lost) => *lost,
            Found::Whole(zxid) => panic!("whole up to {zxid}"),
            Found::Nothing => panic!("no store"),
        }
    }
}

fn accept(lost: Loss<SimStorage>, seed: u64) -> Result<(), SnapError> {
    let mut identity = u128::from(seed) << 64;
    let config = LogConfig {
        segment_bytes: SEGMENT,
    };
    let identities = Box::new(move || {
        identity += 1;
        identity
    });
    lost.accept(config, identities, START.wall)
}

/// What may happen to a store, and which of its transactions stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    NewestSegmentIsGone,
    SegmentIsGone,
    LogIsGone,
    Rot,
    RotInAHeader,
    Short,
    SectorCanNotBeRead,
    WitnessIsGone,
    WitnessIsGoneAndTheNewestSegment,
    SnapshotRots,
    /// Nothing else shows that zxids of that epoch were used.
    NewestSegmentIsGoneAndASnapshotOfALaterEpochRots,
}

const DAMAGES: [Damage; 10] = [
    Damage::NewestSegmentIsGone,
    Damage::SegmentIsGone,
    Damage::LogIsGone,
    Damage::Rot,
    Damage::RotInAHeader,
    Damage::Short,
    Damage::SectorCanNotBeRead,
    Damage::WitnessIsGone,
    Damage::WitnessIsGoneAndTheNewestSegment,
    Damage::SnapshotRots,
];

fn damage(store: &Store, damage: Damage) {
    let Store { disk, .. } = store;
    let segments = store.names("log.");
    let [.., second, newest] = segments.as_slice() else {
        panic!("{segments:?}");
    };
    let witnesses = || {
        for name in store.names("witness.") {
            disk.open(&name)
                .unwrap()
                .write_at(0, &[0; 2 * PAGE])
                .unwrap();
            disk.open(&name).unwrap().sync().unwrap();
        }
    };
    match damage {
        Damage::NewestSegmentIsGone => disk.remove(newest).unwrap(),
        Damage::SegmentIsGone => disk.remove(second).unwrap(),
        Damage::LogIsGone => {
            for name in segments.iter().chain(&store.names("witness.log")) {
                disk.remove(name).unwrap();
            }
        }
        Damage::Rot => drop(disk.spoil(second, 5 * PAGE, &[2])),
        Damage::RotInAHeader => drop(disk.spoil(second, 20, &[2])),
        Damage::Short => {
            let file = disk.open(newest).unwrap();
            file.truncate(2 * PAGE as u64).unwrap();
            file.sync().unwrap();
        }
        Damage::SectorCanNotBeRead => disk.break_sector(second, 5 * PAGE),
        Damage::WitnessIsGone => witnesses(),
        Damage::WitnessIsGoneAndTheNewestSegment => {
            witnesses();
            disk.remove(newest).unwrap();
        }
        Damage::SnapshotRots => {
            let snapshots = store.names("snap.");
            disk.spoil(snapshots.last().unwrap(), 60, &[2]);
        }
        Damage::NewestSegmentIsGoneAndASnapshotOfALaterEpochRots => {
            disk.remove(newest).unwrap();
            let name = crate::log::snapshot_file::name(Zxid::new(5, 1));
            disk.create(&name, 100).unwrap().sync().unwrap();
        }
    }
    disk.sync_dir().unwrap();
}

#[test]
fn what_is_lost_is_shown_given_up_and_nothing_is_removed() {
    for kind in DAMAGES {
        let store = Store::new();
        damage(&store, kind);
        let refusal = store.refusal();
        assert!(refusal.contains("accept-loss"), "{kind:?}: {refusal}");
        store.disk.mend_sectors();
        let before = store.contents();
        if kind == Damage::SectorCanNotBeRead {
            damage(&store, kind);
        }
        let lost = store.lost();
        let (kept, behind) = (lost.kept, lost.behind);
        match kind {
            Damage::LogIsGone => assert_eq!((kept, lost.has_log), (store.snapshot, false)),
            Damage::SnapshotRots => assert_eq!(kept, Zxid::ZERO),
            Damage::WitnessIsGone => assert_eq!(kept, store.last),
            _ => assert!(
                kept > store.snapshot && kept < store.last,
                "{kind:?}: {kept}"
            ),
        }
        let has_witness = !matches!(
            kind,
            Damage::WitnessIsGone | Damage::WitnessIsGoneAndTheNewestSegment
        );
        assert_eq!(lost.has_witness, has_witness, "{kind:?}");
        if has_witness {
            assert_eq!(lost.known, Some(store.last), "{kind:?}");
        }
        assert!(behind > store.last && behind.counter() == 0, "{kind:?}");
        accept(lost, 7).unwrap();
        store.disk.mend_sectors();
        // Whatever it is called now.
        let mut after: Vec<Vec<u8>> = store.contents().into_values().collect();
        for (name, content) in before {
            let at = after.iter().position(|left| *left == content);
            after.remove(at.unwrap_or_else(|| panic!("{kind:?}: {name} is gone")));
        }
        assert!(matches!(
            look(&store.disk, &store.disk),
            Ok(Found::Whole(zxid)) if zxid == behind
        ));
        let member = start_member(&store.disk, 30).unwrap();
        assert_eq!(member.tree.last_zxid(), behind, "{kind:?}");
        if let Some(Some(digest)) = store.digests.get(&kept) {
            assert_eq!(member.tree.digest(), *digest, "{kind:?}");
        }
    }
}

#[test]
fn a_look_changes_nothing() {
    for kind in DAMAGES {
        let store = Store::new();
        damage(&store, kind);
        let before = store.disk.effects();
        drop(store.lost());
        assert_eq!(store.disk.effects(), before, "{kind:?}");
    }
}

#[test]
fn the_store_goes_on_behind_every_zxid_that_was_used_and_stays_whole() {
    let store = Store::new();
    damage(&store, Damage::NewestSegmentIsGone);
    let lost = store.lost();
    let behind = lost.behind;
    accept(lost, 7).unwrap();
    for restart in 0..3 {
        let mut member = start_member(&store.disk, 30).unwrap();
        let open = ShardRequest::NewSession {
            origin: Origin {
                shard: ShardId(0),
                conn: ConnId {
                    slot: 0,
                    generation: 0,
                },
                sequence: restart,
            },
            timeout_ms: 60_000,
            stamps: Stamps::default(),
        };
        let mut budget = Budget::UNLIMITED;
        member.request(open, &mut budget, START).unwrap();
        while let Some(ticket) = member.poll_sync() {
            member.synced(ticket.run(), START).unwrap();
        }
        member.advance(&mut budget, START).unwrap();
        let mut tell = || member.tell(&mut budget, START, |_, _, _| ());
        while tell().unwrap().is_some() {}
        let expected = Zxid(behind.0 + restart as i64 + 1);
        assert_eq!(member.tree.last_zxid(), expected);
        member.close().unwrap();
    }
}

#[test]
fn no_session_id_is_given_again_that_a_client_may_know_whatever_the_clock_says() {
    let store = Store::new();
    damage(&store, Damage::NewestSegmentIsGone);
    accept(store.lost(), 7).unwrap();
    for _ in 0..2 {
        let member = start_member(&store.disk, 30).unwrap();
        let spent = member.tree.session_high_water(SessionId::STANDALONE);
        let given = SessionId::number_at(START.wall);
        assert!(spent.unwrap().number() >= given + UNSEEN_MAX);
        member.close().unwrap();
    }
}

#[test]
fn what_a_command_that_was_cut_off_has_left_is_durable_when_the_next_one_has_ended() {
    let made = Store::new();
    damage(&made, Damage::NewestSegmentIsGone);
    let (mut ended, mut found_whole) = (0, 0);
    for effects in 0.. {
        // Snapshots are in one directory, the log in another one.
        let (data, log) = (made.copy().disk, made.copy().disk);
        let lost = || match look(&data, &log).unwrap() {
            Found::Lost(lost) => Some(*lost),
            _ => None,
        };
        let first = lost().unwrap();
        let behind = first.behind;
        data.crash_at(Some(data.effects() + effects));
        if accept(first, 7).is_ok() {
            break;
        }
        data.restart(&mut fastrand::Rng::with_seed(effects), false);
        match lost() {
            Some(second) => accept(second, 8).unwrap(),
            None => {
                found_whole += 1;
                settle(&data, &log).unwrap();
            }
        }
        ended += 1;
        for seed in 0..8 {
            let cut = |disk: &SimStorage| disk.after_power_cut(&mut fastrand::Rng::with_seed(seed));
            let found = look(&cut(&data), &cut(&log)).unwrap();
            assert!(
                matches!(found, Found::Whole(zxid) if zxid == behind),
                "cut off at effect {effects}, power cut {seed}"
            );
        }
    }
    assert!(ended > 5 && found_whole > 0, "{ended} {found_whole}");
}

#[test]
fn a_command_that_is_cut_off_at_any_place_can_be_run_again_and_no_start_takes_the_rest_for_whole() {
    let kinds = [
        Damage::NewestSegmentIsGone,
        Damage::Rot,
        Damage::WitnessIsGone,
        Damage::SnapshotRots,
        Damage::NewestSegmentIsGoneAndASnapshotOfALaterEpochRots,
    ];
    for kind in kinds {
        let made = Store::new();
        damage(&made, kind);
        for power_cut in [false, true] {
            let mut refused = 0;
            for effects in 0.. {
                let store = made.copy();
                let lost = store.lost();
                let (kept, behind) = (lost.kept, lost.behind);
                let disk = &store.disk;
                disk.crash_at(Some(disk.effects() + effects));
                let is_done = accept(lost, 7).is_ok();
                disk.restart(&mut fastrand::Rng::with_seed(effects), power_cut);
                let at = format!("{kind:?}, cut off at effect {effects}, power cut: {power_cut}");
                match start_member(disk, 30) {
                    Ok(member) => assert_eq!(member.tree.last_zxid(), behind, "{at}"),
                    Err(error) => {
                        assert!(!is_done, "{at}: {error}");
                        refused += 1;
                        let lost = store.lost();
                        assert_eq!((lost.kept, lost.behind), (kept, behind), "{at}");
                        accept(lost, 8).unwrap();
                        let member = start_member(disk, 30).unwrap();
                        assert_eq!(member.tree.last_zxid(), behind, "{at}");
                    }
                }
                if is_done {
                    break;
                }
            }
            assert!(refused > 10, "{kind:?}: {refused}");
        }
    }
}
