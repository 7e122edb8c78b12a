//! The log on a simulated disk: every case of the recovery table, and random lives.

mod adoption;
mod records;
mod runs;
mod shortage;
mod tickets;

use super::segment::HEADER_BLOCK;
use super::storage::{File, Storage};
use super::*;
use crate::sim::disk::{Failing, SeamCall, SimStorage};
use crate::types::{Position, Tick, Zxid};
use proptest::prelude::*;

const SEGMENT: u64 = 64 << 10;
const CONFIG: LogConfig = LogConfig {
    segment_bytes: SEGMENT,
};

const STORE: StoreId = StoreId(77);

fn identities(mut seed: u128) -> Identities {
    Box::new(move || {
        seed += 1;
        seed
    })
}

type Found = Vec<(Zxid, Vec<u8>)>;

fn open(disk: &SimStorage, seed: u128) -> Result<(Log<SimStorage>, Found), RecoveryError> {
    let mut found = Vec::new();
    let scan = Scan::read(disk, &Known::default(), |r| {
        found.push((r.zxid, r.payload.to_vec()));
        Ok::<(), RecoveryError>(())
    })?;
    Ok((
        scan.open(CONFIG, identities(seed), STORE, Zxid::ZERO)?,
        found,
    ))
}

fn fresh() -> (SimStorage, Log<SimStorage>) {
    let disk = SimStorage::new(64 << 20);
    let log = open(&disk, 1).unwrap().0;
    (disk, log)
}

fn sync(log: &mut Log<SimStorage>) -> Durable<LogEnd> {
    let ticket = log.begin_sync().expect("something to sync");
    log.synced(ticket.run()).unwrap()
}

fn sync_if_due(log: &mut Log<SimStorage>) {
    if let Some(ticket) = log.begin_sync() {
        log.synced(ticket.run()).unwrap();
    }
}

fn append(log: &mut Log<SimStorage>, disk: &SimStorage, zxid: i64, len: usize) {
    while log.room_for(Need::Growing, len) == Room::Wait {
        let order = log.poll_spare().expect("a spare is wanted");
        log.spare_made(order.fulfil(disk)).unwrap();
    }
    assert_eq!(log.room_for(Need::Growing, len), Room::Yes);
    log.append(Zxid(zxid), &vec![zxid as u8; len]).unwrap();
}

/// Records 1 to `n` of 1,000 bytes, each synced, the last one idle long enough for a seal.
fn sealed(n: i64) -> (SimStorage, Vec<Position>) {
    let (disk, mut log) = fresh();
    let mut ends = vec![log.end().position];
    for zxid in 1..=n {
        append(&mut log, &disk, zxid, 1000);
        ends.push(sync(&mut log).position());
    }
    log.tick(Tick(0)).unwrap();
    log.tick(Tick(100)).unwrap();
    sync(&mut log);
    (disk, ends)
}

fn flip(disk: &SimStorage, name: &str, offset: u64) {
    let file = disk.open(name).unwrap();
    let byte = file.view(u64::MAX).unwrap()[offset as usize] ^ 0x10;
    file.write_at(offset, &[byte]).unwrap();
}

fn zxids(disk: &SimStorage) -> Vec<i64> {
    open(disk, 99)
        .unwrap()
        .1
        .into_iter()
        .map(|(z, _)| z.0)
        .collect()
}

fn refusal(disk: &SimStorage) -> (String, &'static str) {
    match open(disk, 99) {
        Err(RecoveryError::Corrupt { file, what, .. }) => (file, what),
        Err(other) => panic!("{other}"),
        Ok((_, found)) => panic!("started with {} records", found.len()),
    }
}

fn segments(disk: &SimStorage) -> Vec<String> {
    disk.list()
        .unwrap()
        .into_iter()
        .filter(|n| n.starts_with("log."))
        .collect()
}

fn offset(position: Position) -> u64 {
    position.0 + HEADER_BLOCK as u64
}

#[test]
fn case_a_clean_end() {
    let (disk, _) = sealed(3);
    assert_eq!(zxids(&disk), [1, 2, 3]);
    assert_eq!(zxids(&disk), [1, 2, 3], "and again, over the fresh segment");
}

#[test]
fn a_part_of_a_live_log_is_read_no_further_than_asked() {
    let (disk, mut log) = fresh();
    for zxid in 1..=200 {
        append(&mut log, &disk, zxid, 1000);
        if zxid % 50 == 0 {
            sync(&mut log);
        }
    }
    assert!(segments(&disk).len() > 3);
    let read = |after: i64, upto: i64, bytes: u64| {
        let part = Part {
            after: Zxid(after),
            upto: Zxid(upto),
            bytes,
            mapped_to: Some(log.durable()),
        };
        let mut found = Vec::new();
        let segments = read_part(&disk, part, |r| {
            found.push(r.zxid.0);
            Ok::<(), RecoveryError>(())
        });
        (found, segments.unwrap())
    };
    assert_eq!(read(3, 200, 5_000), (vec![4, 5, 6, 7, 8], 1));
    let (across, of) = read(40, 200, 20_000);
    assert_eq!((across, of), ((41..=60).collect(), 2));
    assert_eq!(read(0, 7, u64::MAX).0, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn cases_b_and_c_a_torn_batch_goes_as_a_whole_and_never_returns() {
    for valid_behind in [false, true] {
        let (disk, mut log) = fresh();
        append(&mut log, &disk, 1, 1000);
        let end = sync(&mut log).position();
        append(&mut log, &disk, 2, 1000);
        append(&mut log, &disk, 3, 1000);
        sync(&mut log);
        drop(log);
        let name = segments(&disk).remove(0);
        if valid_behind {
            flip(&disk, &name, offset(end) + 60);
        } else {
            disk.open(&name)
                .unwrap()
                .write_at(offset(end) + 60, &[0; 8000])
                .unwrap();
        }
        let scan = Scan::new(&disk).unwrap();
        assert_eq!(
            (scan.is_torn(), scan.end().unwrap().zxid),
            (valid_behind, Zxid(1))
        );
        let (mut log, found) = open(&disk, 7).unwrap();
        assert_eq!(found.len(), 1);
        append(&mut log, &disk, 2, 10);
        sync(&mut log);
        drop(log);
        assert_eq!(zxids(&disk), [1, 2]);
        let cut = disk.open(&name).unwrap().len().unwrap();
        assert_eq!(cut, offset(end).next_multiple_of(4096));
    }
}

#[test]
fn case_d_stale_bytes_of_a_recycled_segment_are_no_records() {
    let (disk, mut log) = fresh();
    let mut zxid = 0;
    while log.counters().rolls < 6 {
        zxid += 1;
        append(&mut log, &disk, zxid, 3000);
        sync(&mut log);
        for name in log.retire(Zxid(zxid - 1)) {
            disk.remove(&name).unwrap();
        }
    }
    append(&mut log, &disk, zxid + 1, 3000);
    let end = sync(&mut log).position();
    let name = segments(&disk).pop().unwrap();
    let behind = HEADER_BLOCK as u64 + end.0 - segment::parse_name(&name).unwrap().0;
    let bytes = disk.open(&name).unwrap().view(u64::MAX).unwrap();
    assert!(
        bytes[behind as usize..].iter().any(|&b| b != 0),
        "stale bytes are there"
    );
    drop(log);
    assert_eq!(zxids(&disk).last(), Some(&(zxid + 1)));
}

/// A log that writes to a recycled segment, and the last zxid.
fn in_a_recycled_segment() -> (SimStorage, Log<SimStorage>, i64) {
    let (disk, mut log) = fresh();
    let mut zxid = 0;
    while log.counters().rolls < 8 {
        zxid += 1;
        append(&mut log, &disk, zxid, 3000);
        sync(&mut log);
        for name in log.retire(Zxid(zxid - 1)) {
            disk.remove(&name).unwrap();
        }
    }
    (disk, log, zxid)
}

#[test]
fn a_batch_is_padded_to_the_end_of_its_page_and_the_next_one_begins_right_behind_it() {
    let (disk, mut log, mut zxid) = in_a_recycled_segment();
    let name = segments(&disk).pop().unwrap();
    let base = segment::parse_name(&name).unwrap();
    for len in [10, 5000, 1, 4096 - 2 * 48, 4096 - 48, 0, 9000] {
        zxid += 1;
        let before = log.end().position;
        append(&mut log, &disk, zxid, len);
        let end = sync(&mut log).position();
        assert_eq!(end, before.plus(record::size(len) as u64));
        let end = HEADER_BLOCK + (end.0 - base.0) as usize;
        let page = end.next_multiple_of(4096);
        let bytes = disk.open(&name).unwrap().view(u64::MAX).unwrap();
        assert!(bytes[end..page].iter().all(|&b| b == 0), "{len}");
        assert!(bytes[page..].iter().any(|&b| b != 0), "stale bytes follow");
    }
    drop(log);
    assert_eq!(zxids(&disk).last(), Some(&zxid));
}

#[test]
fn a_torn_batch_and_its_padding_cost_no_durable_record_in_a_recycled_segment() {
    let mut outcomes = [0; 4];
    for seed in 0..300 {
        let (disk, mut log, last) = in_a_recycled_segment();
        append(&mut log, &disk, last + 1, 700);
        sync(&mut log);
        // Begins within the page of durable records, and ends in another one.
        for zxid in last + 2..=last + 4 {
            append(&mut log, &disk, zxid, 2000);
        }
        let mut ticket = log.begin_sync().unwrap();
        ticket.write_now();
        drop((ticket, log));
        disk.restart(&mut fastrand::Rng::with_seed(seed), true);
        let found = zxids(&disk);
        let kept = found.last().unwrap() - (last + 1);
        assert!((0..=3).contains(&kept), "seed {seed}: {found:?}");
        assert!(found.windows(2).all(|w| w[1] == w[0] + 1), "seed {seed}");
        outcomes[kept as usize] += 1;
    }
    assert!(outcomes.iter().all(|&n| n > 0), "{outcomes:?}");
}

#[test]
fn segments_are_whole_pages_whatever_size_was_asked_for() {
    let disk = SimStorage::new(64 << 20);
    let config = LogConfig {
        segment_bytes: SEGMENT + 1000,
    };
    let scan = Scan::new(&disk).unwrap();
    drop(scan.open(config, identities(1), STORE, Zxid::ZERO).unwrap());
    let file = disk.open(&segments(&disk)[0]).unwrap();
    assert_eq!(file.len().unwrap(), SEGMENT + 4096);
}

#[test]
fn two_spares_are_kept_ahead_and_survive_a_restart() {
    let spares = |disk: &SimStorage| {
        let names = disk.list().unwrap();
        names.iter().filter(|n| n.starts_with("spare.")).count()
    };
    let (disk, mut log) = fresh();
    for made in 0..2 {
        assert_eq!(spares(&disk), made);
        let order = log.poll_spare().unwrap();
        assert!(log.poll_spare().is_none(), "one is made at a time");
        log.spare_made(order.fulfil(&disk)).unwrap();
    }
    assert!(log.poll_spare().is_none(), "two are enough");
    drop(log);
    let (mut log, _) = open(&disk, 50).unwrap();
    assert_eq!(spares(&disk), 1, "the other one is the fresh segment");
    assert!(log.poll_spare().is_some());
    assert!(log.poll_spare().is_none());
}

#[test]
fn a_rotten_seal_at_the_end_of_a_segment_takes_no_acknowledged_record_of_the_next_one_along() {
    let (disk, mut log) = fresh();
    let (zxid, _) = roll(&mut log, &disk);
    let begun = log.newest();
    // Nothing is appended behind the batch that has begun the segment, so no record vouches for it.
    assert_eq!(sync(&mut log).zxid(), Zxid(zxid));
    drop(log);
    let first = segments(&disk).remove(0);
    let end_of_seal = offset(begun);
    flip(&disk, &first, end_of_seal - 20);
    assert_eq!(refusal(&disk).0, first);
    flip(&disk, &first, end_of_seal - 20);
    assert_eq!(zxids(&disk).last(), Some(&zxid));
}

#[test]
fn case_e_a_bad_record_below_d_is_corruption() {
    let (disk, ends) = sealed(4);
    for (nth, end) in ends.iter().take(4).enumerate() {
        let at = offset(*end) + 100;
        flip(&disk, &segments(&disk)[0], at);
        let (_, what) = refusal(&disk);
        assert_eq!(
            what, "a damaged record with valid ones behind it",
            "record {nth}"
        );
        flip(&disk, &segments(&disk)[0], at);
    }
    assert_eq!(zxids(&disk), [1, 2, 3, 4]);
}

#[test]
fn cases_f_g_and_l_missing_segments() {
    let (disk, mut log) = fresh();
    let mut zxid = 0;
    while log.segments() < 3 {
        zxid += 1;
        append(&mut log, &disk, zxid, 3000);
        sync(&mut log);
    }
    let names = segments(&disk);
    let unsealed_tail = zxid;
    disk.rename(&names[1], "elsewhere").unwrap();
    assert_eq!(
        refusal(&disk).1,
        "a damaged record, or a segment is missing behind it,"
    );
    disk.rename("elsewhere", &names[1]).unwrap();
    log.close().unwrap();
    assert_eq!(zxids(&disk).last(), Some(&unsealed_tail));
    // The stop's seal lay in the last segment, and the next start's seal refers to its end.
    disk.remove(&names[2]).unwrap();
    assert_eq!(
        refusal(&disk).1,
        "a damaged record, or a segment is missing behind it,"
    );
    for later in &segments(&disk)[2..] {
        disk.remove(later).unwrap();
    }
    // With nothing behind that says how far it went, the end can't be told from a torn one.
    assert!(zxids(&disk).len() < zxid as usize);
}

/// What a start says of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It starts, with all that there was.
    Whole,
    /// It starts without the last transaction: nothing shows that it was durable.
    Torn,
    /// It starts without the last segment: nothing shows that there was one.
    Unseen,
    Corrupt,
    Lost,
    Newer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The last transaction of the last segment.
    Last,
    /// The last transaction of a segment that another one follows.
    Followed,
    /// The same, and the segment that followed is not there.
    NextIsGone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Valid,
    Bad,
    Newer,
}

/// A log of three segments, and where the last transactions of the second and of the third begin.
fn three_segments() -> (SimStorage, Witness, [(String, u64); 2], [i64; 2]) {
    let (disk, mut log) = fresh();
    let (mut zxid, mut places) = (0, Vec::new());
    let mut in_the_last = 0;
    while in_the_last < 3 {
        zxid += 1;
        let rolls = log.counters().rolls;
        append(&mut log, &disk, zxid, 3000);
        if log.counters().rolls > rolls || places.is_empty() {
            places.push((0, 0));
        }
        let begins = log.end().position.0 - record::size(3000) as u64;
        *places.last_mut().unwrap() = (begins - log.newest().0 + HEADER_BLOCK as u64, zxid);
        sync(&mut log);
        in_the_last += u32::from(log.counters().rolls == 2);
    }
    let witness = Witness::first(STORE, Position(0)).renewed(log.durable_end(), log.newest());
    let names = segments(&disk);
    let [second, third] = [1, 2].map(|nth| ((names[nth].clone(), places[nth].0), places[nth].1));
    (disk, witness, [second.0, third.0], [second.1, third.1])
}

fn verdict(disk: &SimStorage, witness: Witness, last: [i64; 2]) -> Verdict {
    let mut newest = 0;
    let known = Known {
        after: Zxid::ZERO,
        witness: Some(witness),
    };
    let scan = Scan::read(disk, &known, |record| {
        assert_eq!(record.zxid.0, newest + 1, "no gap");
        newest = record.zxid.0;
        Ok::<(), RecoveryError>(())
    });
    match scan {
        Ok(_) if newest == last[1] => Verdict::Whole,
        Ok(_) if newest == last[1] - 1 => Verdict::Torn,
        Ok(_) if newest == last[0] => Verdict::Unseen,
        Ok(_) => panic!("ends at {newest}"),
        Err(RecoveryError::Corrupt { .. }) => Verdict::Corrupt,
        Err(RecoveryError::Lost { .. }) => Verdict::Lost,
        Err(RecoveryError::Newer { .. }) => Verdict::Newer,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_recovery_table_row_by_row() {
    use {Condition::*, Place::*, Verdict::*};
    // (place, condition, whether the witness knows it to be durable, what is done)
    let rows = [
        (Last, Valid, true, Whole),
        (Last, Valid, false, Whole),
        (Last, Bad, true, Lost),
        (Last, Bad, false, Torn),
        (Last, Condition::Newer, true, Verdict::Newer),
        (Last, Condition::Newer, false, Verdict::Newer),
        (Followed, Valid, true, Whole),
        (Followed, Valid, false, Whole),
        (Followed, Bad, true, Corrupt),
        (Followed, Bad, false, Corrupt),
        (Followed, Condition::Newer, true, Verdict::Newer),
        (Followed, Condition::Newer, false, Verdict::Newer),
        (NextIsGone, Valid, true, Lost),
        (NextIsGone, Valid, false, Unseen),
        // The seal that ended the segment shows it.
        (NextIsGone, Bad, true, Corrupt),
        (NextIsGone, Bad, false, Corrupt),
        (NextIsGone, Condition::Newer, true, Verdict::Newer),
        (NextIsGone, Condition::Newer, false, Verdict::Newer),
    ];
    for (place, condition, known, expected) in rows {
        let (disk, mut witness, [second, third], last) = three_segments();
        let (name, offset) = if place == Last { &third } else { &second };
        match condition {
            Valid => {}
            Bad => flip(&disk, name, offset + 100),
            Condition::Newer => make_newer(&disk, name, *offset),
        }
        if place == NextIsGone {
            disk.remove(&third.0).unwrap();
        }
        if !known {
            witness.durable = LogEnd::default();
        }
        let found = verdict(&disk, witness, last);
        assert_eq!(found, expected, "{place:?} {condition:?} {known}");
    }
}

/// Gives the record at `offset` a format that this server does not know.
fn make_newer(disk: &SimStorage, name: &str, offset: u64) {
    let file = disk.open(name).unwrap();
    let bytes = file.view(u64::MAX).unwrap();
    let identity = segment::SegmentHeader::decode(&bytes).unwrap().identity;
    let mut record = bytes[offset as usize..][..record::size(3000)].to_vec();
    record[9] = 9;
    let crc = crc32c::crc32c(&identity.0.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &record[4..record::HEADER + 3000]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    file.write_at(offset, &record).unwrap();
}

#[test]
fn a_log_that_is_not_there_is_lost_if_the_witness_has_seen_one() {
    let (disk, witness, ..) = three_segments();
    for name in segments(&disk) {
        disk.remove(&name).unwrap();
    }
    let known = |witness| Known {
        after: Zxid::ZERO,
        witness,
    };
    let read = |witness| Scan::read(&disk, &known(witness), |_| Ok::<(), RecoveryError>(()));
    assert!(matches!(
        read(Some(witness)),
        Err(RecoveryError::Lost { end: None, .. })
    ));
    assert!(read(Some(Witness::first(STORE, Position(0)))).is_ok());
    assert!(read(None).is_ok());
}

#[test]
fn a_segment_of_another_store_is_foreign_and_one_of_format_1_only_before_the_conversion_is_not() {
    let (disk, witness, ..) = three_segments();
    let read = |witness: Witness| {
        let known = Known {
            after: Zxid::ZERO,
            witness: Some(witness),
        };
        Scan::read(&disk, &known, |_| Ok::<(), RecoveryError>(()))
    };
    let other = Witness {
        store: StoreId(1),
        ..witness
    };
    assert!(matches!(read(other), Err(RecoveryError::Foreign { .. })));
    assert!(read(witness).is_ok());
    let name = segments(&disk).remove(0);
    let file = disk.open(&name).unwrap();
    let header = segment::SegmentHeader::decode(&file.view(u64::MAX).unwrap()).unwrap();
    let first = segment::SegmentHeader {
        store: None,
        ..header
    };
    file.write_at(0, &first.encode()).unwrap();
    assert!(matches!(read(witness), Err(RecoveryError::Foreign { .. })));
    let converted = Witness {
        native: Position(1),
        ..witness
    };
    assert!(read(converted).is_ok());
}

/// The unit in which disks lose data is a sector, or a page of their own.
#[test]
fn a_page_that_is_lost_at_the_end_never_takes_the_seal_along() {
    for n in 1..40 {
        let (disk, mut log) = fresh();
        for zxid in 1..=n {
            append(&mut log, &disk, zxid, 97 * n as usize % 1000);
            sync(&mut log);
        }
        log.tick(Tick(0)).unwrap();
        log.tick(Tick(100)).unwrap();
        sync(&mut log);
        let end = log.end().position;
        drop(log);
        let name = segments(&disk).remove(0);
        let seal = offset(end) - record::HEADER as u64;
        assert_eq!(seal % 4096, 0, "in a page of its own");
        // The page with the last transaction.
        let file = disk.open(&name).unwrap();
        file.write_at(seal - 4096, &[0; 4096]).unwrap();
        let Err(RecoveryError::Corrupt { .. }) = open(&disk, 9).map(drop) else {
            panic!("{n}: a transaction is gone");
        };
    }
}

#[test]
fn rot_that_the_snapshot_covers_is_a_warning_and_what_follows_it_is_read() {
    let (disk, ends) = sealed(6);
    let name = segments(&disk).remove(0);
    for (nth, end) in ends.iter().take(6).enumerate() {
        flip(&disk, &name, offset(*end) + 100);
        for after in 0..=6 {
            let known = Known {
                after: Zxid(after),
                witness: None,
            };
            let mut found = Vec::new();
            let scan = Scan::read(&disk, &known, |record| {
                found.push(record.zxid.0);
                Ok::<(), RecoveryError>(())
            });
            let is_covered = (nth as i64) < after;
            assert_eq!(scan.is_ok(), is_covered, "record {} of {after}", nth + 1);
            if let Ok(scan) = scan {
                assert_eq!(found, (after + 1..=6).collect::<Vec<_>>());
                assert_eq!(scan.rotten().len(), 1);
            }
            let part = Part {
                after: Zxid(after),
                upto: Zxid(6),
                bytes: u64::MAX,
                mapped_to: None,
            };
            let mut live = Vec::new();
            let read = read_part(&disk, part, |record| {
                live.push(record.zxid.0);
                Ok::<(), RecoveryError>(())
            });
            let expected = if is_covered {
                after + 1..=6
            } else {
                after + 1..=nth as i64
            };
            if after < 6 {
                assert_eq!(live, expected.collect::<Vec<_>>(), "{} {after}", nth + 1);
            }
            drop(read);
        }
        flip(&disk, &name, offset(*end) + 100);
    }
}

/// A power cut may tear the filler of a batch and leave the seal behind it, and what is appended after that start
/// follows the seal: no snapshot shows the way past the place, and none is needed.
#[test]
fn a_filler_that_is_torn_or_rots_costs_nothing_whatever_snapshot_there_is() {
    let (disk, ends) = sealed(6);
    let name = segments(&disk).remove(0);
    let filler = offset(ends[6]);
    flip(&disk, &name, filler + 2);
    let covered = Known {
        after: Zxid(6),
        witness: None,
    };
    let scan = Scan::read(&disk, &covered, |_| Ok::<(), RecoveryError>(())).unwrap();
    let mut log = scan.open(CONFIG, identities(30), STORE, Zxid(6)).unwrap();
    append(&mut log, &disk, 7, 1000);
    sync(&mut log);
    drop(log);
    for after in 0..=7 {
        let known = Known {
            after: Zxid(after),
            witness: None,
        };
        let mut found = Vec::new();
        let scan = Scan::read(&disk, &known, |record| {
            found.push(record.zxid.0);
            Ok::<(), RecoveryError>(())
        });
        let due: Vec<i64> = (after + 1..=7).collect();
        assert_eq!(found, due);
        assert!(scan.unwrap().rotten().len() <= 1);
        let part = Part {
            after: Zxid(after),
            upto: Zxid(7),
            bytes: u64::MAX,
            mapped_to: None,
        };
        let mut live = Vec::new();
        read_part(&disk, part, |record| {
            live.push(record.zxid.0);
            Ok::<(), RecoveryError>(())
        })
        .unwrap();
        assert_eq!(live, due);
    }
}

/// A log that was begun anew behind `behind`, far from its first segment: a seal, and four transactions. The
/// name of the new segment.
fn begun_anew(behind: Zxid) -> (SimStorage, String) {
    let (disk, _) = sealed(3);
    let end = LogEnd {
        position: Position(1 << 20),
        zxid: behind,
    };
    let mut log = recover::begin_at(&disk, CONFIG, identities(7), STORE, end).unwrap();
    for zxid in 1..=4 {
        append(&mut log, &disk, behind.0 + zxid, 1000);
        sync(&mut log);
    }
    drop(log);
    let name = segments(&disk).pop().unwrap();
    (disk, name)
}

/// Counters of the transactions behind `after` that a start reads, and those that are read beside a server.
fn read_behind(disk: &SimStorage, after: Zxid) -> [Option<Vec<u32>>; 2] {
    let known = Known {
        after,
        witness: None,
    };
    let mut found = Vec::new();
    let scan = Scan::read(disk, &known, |record| {
        found.push(record.zxid.counter());
        Ok::<(), RecoveryError>(())
    });
    let part = Part {
        after,
        upto: Zxid::new(1, 4),
        bytes: u64::MAX,
        mapped_to: None,
    };
    let mut live = Vec::new();
    let part = read_part(disk, part, |record| {
        live.push(record.zxid.counter());
        Ok::<(), RecoveryError>(())
    });
    [scan.is_ok().then_some(found), part.is_ok().then_some(live)]
}

#[test]
fn where_a_log_was_begun_anew_rot_in_its_first_record_makes_no_older_segment_needed() {
    let behind = Zxid::new(1, 0);
    let (disk, name) = begun_anew(behind);
    let all = || Some(vec![1, 2, 3, 4]);
    assert_eq!(read_behind(&disk, behind), [all(), all()]);
    let seal = HEADER_BLOCK as u64 + 30;
    flip(&disk, &name, seal);
    assert_eq!(read_behind(&disk, behind), [all(), all()]);
    flip(&disk, &name, seal);
    // The sector holds the seal and the head of the first transaction.
    disk.break_sector(&name, HEADER_BLOCK);
    assert_eq!(read_behind(&disk, behind)[0], None);
    let later = || Some(vec![2, 3, 4]);
    assert_eq!(read_behind(&disk, behind.next()), [later(), later()]);
}

#[test]
fn a_sector_that_can_not_be_read_is_refused_with_its_place_where_it_is_needed_and_nowhere_else() {
    let (disk, ends) = sealed(6);
    let name = segments(&disk).remove(0);
    for (nth, end) in ends.iter().take(6).enumerate() {
        let sector = offset(*end).next_multiple_of(512);
        disk.break_sector(&name, sector as usize);
        for after in 0..=6 {
            let known = Known {
                after: Zxid(after),
                witness: None,
            };
            let scan = Scan::read(&disk, &known, |_| Ok::<(), RecoveryError>(()));
            match scan {
                // A sector may hold the end of one record and the header of the next.
                Ok(_) => assert!(nth as i64 <= after, "{nth} of {after}"),
                Err(RecoveryError::Unreadable {
                    file,
                    offset,
                    intact,
                    ..
                }) => {
                    assert!(nth as i64 + 1 >= after, "{nth} of {after}");
                    assert_eq!(file, name);
                    assert!(offset.abs_diff(sector) < 1100, "{offset} of {sector}");
                    assert!(intact >= Zxid(after.min(nth as i64)));
                }
                Err(other) => panic!("{other}"),
            }
        }
        disk.mend_sectors();
    }
    assert_eq!(zxids(&disk).len(), 6);
}

#[test]
fn a_read_for_which_no_memory_is_left_is_no_loss_and_says_nothing_about_the_file() {
    let (disk, _) = sealed(6);
    let mut refused = 0;
    for after in 0..20 {
        disk.set_failing(Some(Failing {
            calls: &[SeamCall::Read],
            code: SHORTAGES[0],
            after,
            times: u32::MAX,
        }));
        match Scan::read(&disk, &Known::default(), |_| Ok::<(), RecoveryError>(())) {
            Ok(scan) => assert_eq!(scan.rotten(), [""; 0]),
            Err(RecoveryError::Io(error)) => {
                assert_eq!(error.raw_os_error(), Some(SHORTAGES[0]));
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!((2..20).contains(&refused), "{refused}");
}

#[test]
fn segments_that_the_snapshot_covers_are_not_read() {
    let (disk, mut log) = fresh();
    let mut zxid = 0;
    while log.counters().rolls < 6 {
        zxid += 1;
        append(&mut log, &disk, zxid, 3000);
        sync(&mut log);
    }
    drop(log);
    let names = segments(&disk);
    for (nth, name) in names.iter().enumerate().take(5) {
        // The header of one, and a record of the others.
        flip(&disk, name, if nth == 2 { 20 } else { 5000 });
    }
    let known = Known {
        after: Zxid(zxid - 1),
        witness: None,
    };
    let scan = Scan::read(&disk, &known, |_| Ok::<(), RecoveryError>(())).unwrap();
    assert!(scan.segments() <= 2, "{} segments", scan.segments());
    assert_eq!(scan.end().unwrap().zxid, Zxid(zxid));
}

#[test]
fn restarts_cost_what_they_have_written() {
    let disk = SimStorage::new(64 << 20);
    for nth in 1..=100 {
        let (mut log, found) = open(&disk, 1000 * nth as u128).unwrap();
        assert_eq!(found.len() as i64, nth - 1);
        append(&mut log, &disk, nth, 100);
        sync(&mut log);
    }
    let bytes: u64 = segments(&disk)
        .iter()
        .map(|name| disk.open(name).unwrap().len().unwrap())
        .sum();
    // A header, a page with the seal and the record: not a whole segment.
    assert!(bytes <= 100 * 3 * 4096 + SEGMENT, "{bytes}");
}

/// A witness that was restored from a backup says less than the log, and takes nothing from it.
#[test]
fn what_follows_the_place_where_a_log_was_closed_is_read() {
    let (disk, witness, _, last) = three_segments();
    let mut zxid = 0;
    let mut places = Vec::new();
    Scan::read(&disk, &Known::default(), |record| {
        zxid = record.zxid.0;
        places.push((record.end(), record.zxid));
        Ok::<(), RecoveryError>(())
    })
    .unwrap();
    assert_eq!(zxid, last[1]);
    for (position, zxid) in places {
        let stale = Witness {
            durable: LogEnd { position, zxid },
            is_closed: true,
            ..witness
        };
        assert_eq!(verdict(&disk, stale, last), Verdict::Whole, "{zxid}");
    }
}

#[test]
fn an_operator_is_told_of_so_many_places_of_rot_and_no_more() {
    let (disk, ends) = sealed(40);
    let name = segments(&disk).remove(0);
    for end in ends.iter().take(40).step_by(2) {
        flip(&disk, &name, offset(*end) + 60);
    }
    let known = Known {
        after: Zxid(40),
        witness: None,
    };
    let scan = Scan::read(&disk, &known, |_| Ok::<(), RecoveryError>(())).unwrap();
    assert_eq!(scan.rotten().len(), recover::ROTTEN_MAX);
    assert_eq!(scan.end().unwrap().zxid, Zxid(40));
}

/// A place where a log was closed is the base of the next segment, too.
#[test]
fn a_segment_that_begins_where_the_log_was_closed_is_judged_as_any_other() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 1000);
    let closing = log.close().unwrap();
    let closed = Witness::first(STORE, Position(0));
    let closed = closed.renewed(closing.end, closing.newest).closed();
    let (mut log, _) = open(&disk, 20).unwrap();
    for zxid in 2..=4 {
        append(&mut log, &disk, zxid, 1000);
        sync(&mut log);
    }
    drop(log);
    let name = segment::name(closing.end.position);
    let base_record = HEADER_BLOCK as u64 + 20;
    flip(&disk, &name, base_record);
    let known = Known {
        after: Zxid::ZERO,
        witness: Some(closed),
    };
    let mut found = Vec::new();
    let read = Scan::read(&disk, &known, |record| {
        found.push(record.zxid.0);
        Ok::<(), RecoveryError>(())
    });
    // It was no transaction.
    assert_eq!(read.unwrap().rotten().len(), 1);
    assert_eq!(found, [1, 2, 3, 4]);
    let first_txn = base_record + record::HEADER as u64;
    flip(&disk, &name, first_txn);
    let read = Scan::read(&disk, &known, |_| Ok::<(), RecoveryError>(()));
    assert!(matches!(read, Err(RecoveryError::Corrupt { .. })));
}

#[test]
fn a_file_that_was_cut_is_refused_and_a_segment_that_a_start_has_cut_is_not() {
    let (disk, _) = sealed(3);
    let name = segments(&disk).remove(0);
    disk.open(&name).unwrap().truncate(SEGMENT - 4096).unwrap();
    assert_eq!(
        refusal(&disk).1,
        "an end before that of the segment, whose last part is missing,"
    );
    let (disk, _) = sealed(3);
    for _ in 0..3 {
        assert_eq!(zxids(&disk), [1, 2, 3]);
    }
}

#[test]
fn cases_h_i_and_j_headers() {
    let (disk, _) = sealed(1);
    let name = segments(&disk).remove(0);
    flip(&disk, &name, 20);
    assert_eq!(refusal(&disk).1, "a damaged segment header");
    flip(&disk, &name, 20);
    disk.rename(&name, &segment::name(Position(16))).unwrap();
    assert_eq!(
        refusal(&disk).1,
        "a segment that belongs under another name"
    );
    disk.rename(&segment::name(Position(16)), &name).unwrap();
    let file = disk.open(&name).unwrap();
    let mut header = file.view(u64::MAX).unwrap()[..68].to_vec();
    header[8] = 9;
    let crc = crc32c::crc32c(&header[..64]);
    header[64..].copy_from_slice(&crc.to_le_bytes());
    file.write_at(0, &header).unwrap();
    let Err(RecoveryError::Newer { format: 9, .. }) = open(&disk, 9).map(drop) else {
        panic!()
    };
}

#[test]
fn case_q_a_log_with_a_fence_is_a_members() {
    use super::fence::{Base, Fence};
    use super::record::{Kind, Record};
    let (disk, ends) = sealed(3);
    let name = segments(&disk).remove(0);
    let block = disk.open(&name).unwrap().view(4096).unwrap().to_vec();
    let identity = segment::SegmentHeader::decode(&block).unwrap().identity;
    let end = Scan::new(&disk).unwrap().end().unwrap();
    assert!(end.position > *ends.last().unwrap());
    let payload = Fence::Opened {
        epoch: crate::types::Epoch(7),
        base: Base::Log(Zxid(2)),
    };
    let mut record = Vec::new();
    Record {
        kind: Kind::Fence,
        zxid: end.zxid,
        position: end.position,
        durable_to: end.position,
        committed_to: end.zxid,
        payload: &payload.encode(),
    }
    .encode_into(identity, &mut record);
    let file = disk.open(&name).unwrap();
    file.write_at(offset(end.position), &record).unwrap();
    let Err(refusal @ RecoveryError::Member { .. }) = open(&disk, 9).map(drop) else {
        panic!("it is not refused");
    };
    assert!(!refusal.is_loss());
    let said = refusal.to_string();
    assert!(
        said.contains("ensemble") && !said.contains("accept-loss"),
        "{said}"
    );
}

#[test]
fn a_full_disk_keeps_a_reserve_and_service_resumes() {
    let disk = SimStorage::new(3 * SEGMENT);
    let (mut log, _) = open(&disk, 1).unwrap();
    disk.set_capacity(disk.used());
    let order = log.poll_spare().unwrap();
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert!(log.is_full());
    assert_eq!(log.room_for(Need::Growing, 10), Room::Full);
    assert_eq!(log.room_for(Need::Reserve, 10), Room::Yes);
    assert_eq!(log.room_for(Need::Reserve, SEGMENT as usize), Room::Full);
    disk.set_capacity(3 * SEGMENT);
    log.tick(Tick(0)).unwrap();
    assert!(log.poll_spare().is_none(), "not before the retry is due");
    log.tick(Tick(1000)).unwrap();
    let order = log.poll_spare().unwrap();
    assert_eq!(log.room_for(Need::Growing, 10), Room::Full, "not yet");
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert_eq!(log.room_for(Need::Growing, 10), Room::Yes);
    assert_eq!(log.room_for(Need::Shrinking, 10), Room::Yes);
    // A second spare that finds no room does not matter while one is ready.
    disk.set_capacity(disk.used());
    let order = log.poll_spare().unwrap();
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert!(!log.is_full());
    let whole = SEGMENT as usize - 20_000;
    assert_eq!(log.room_for(Need::Growing, whole), Room::Yes);
    log.append(Zxid(1), &vec![1; whole]).unwrap();
    log.append(Zxid(2), &vec![1; 20_000]).unwrap();
    assert!(log.is_full());
    assert_eq!(log.room_for(Need::Growing, 10), Room::Full);
    assert_eq!(log.room_for(Need::Reserve, 10), Room::Yes);
}

/// ENOMEM, ENFILE and EMFILE of Linux.
const SHORTAGES: [i32; 3] = [12, 23, 24];

#[test]
fn a_spare_for_which_no_descriptor_or_memory_is_left_is_tried_again_later() {
    for code in SHORTAGES {
        let disk = SimStorage::new(8 * SEGMENT);
        let (mut log, _) = open(&disk, 1).unwrap();
        disk.set_shortage(Some((0, code)));
        for ms in [0, 1000] {
            log.tick(Tick(ms)).unwrap();
            let order = log.poll_spare().expect("due");
            let made = order.fulfil(&disk);
            assert_eq!(made.shortage().unwrap().raw_os_error(), Some(code));
            log.spare_made(made).unwrap();
            assert!(log.is_full());
            assert_eq!(log.room_for(Need::Growing, 10), Room::Full);
            log.tick(Tick(ms)).unwrap();
            assert!(log.poll_spare().is_none(), "not at once");
        }
        disk.set_shortage(None);
        log.tick(Tick(2000)).unwrap();
        let order = log.poll_spare().unwrap();
        log.spare_made(order.fulfil(&disk)).unwrap();
        assert_eq!(log.room_for(Need::Growing, 10), Room::Yes);
    }
}

#[test]
fn a_disk_that_has_room_again_is_not_full_when_both_spares_are_used_up_at_once() {
    let (disk, mut log) = fresh();
    fail_once(&disk, &[SeamCall::Create], FULL[0]);
    let order = log.poll_spare().unwrap();
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert!(log.is_full());
    for ms in [0, 1000] {
        log.tick(Tick(ms)).unwrap();
    }
    while let Some(order) = log.poll_spare() {
        log.spare_made(order.fulfil(&disk)).unwrap();
    }
    let whole = SEGMENT as usize - 20_000;
    for zxid in 1..=3 {
        log.append(Zxid(zxid), &vec![1; whole]).unwrap();
    }
    assert_eq!(log.room_for(Need::Growing, 10), Room::Yes);
    assert_eq!(log.room_for(Need::Growing, whole), Room::Wait);
    assert!(!log.is_full());
}

#[test]
fn a_retired_segment_that_can_not_be_opened_now_is_used_again_later() {
    let (disk, mut log) = fresh();
    let whole = SEGMENT as usize - 20_000;
    for zxid in 1..=3 {
        append(&mut log, &disk, zxid, whole);
    }
    sync(&mut log);
    assert!(log.retire(Zxid(2)).is_empty());
    let names = disk.list().unwrap();
    let order = log.poll_spare().unwrap();
    assert!(order.recycles());
    disk.set_shortage(Some((0, SHORTAGES[2])));
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert_eq!(disk.list().unwrap(), names, "nothing was renamed");
    disk.set_shortage(None);
    log.tick(Tick(0)).unwrap();
    log.tick(Tick(1000)).unwrap();
    let order = log.poll_spare().unwrap();
    assert!(order.recycles());
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert_eq!(disk.list().unwrap().len(), names.len());
}

#[test]
fn a_transaction_that_no_segment_holds_is_refused_and_the_log_goes_on() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 100);
    let end = log.end();
    let refused = log.append(Zxid(2), &vec![2; SEGMENT as usize]);
    assert_eq!(
        refused.unwrap_err().kind(),
        std::io::ErrorKind::InvalidInput
    );
    assert_eq!(log.end(), end);
    append(&mut log, &disk, 2, 100);
    sync(&mut log);
    assert_eq!(zxids(&disk), [1, 2]);
}

#[test]
fn a_failed_sync_of_a_spare_ends_the_log() {
    let (disk, mut log) = fresh();
    let order = log.poll_spare().unwrap();
    disk.fail_next_sync();
    assert!(log.spare_made(order.fulfil(&disk)).is_err());
    assert!(log.append(Zxid(1), b"x").is_err());
}

#[test]
fn a_spare_whose_sync_finds_no_room_leaves_nothing() {
    let (disk, mut log) = fresh();
    let names = disk.list().unwrap();
    for retry in 0..3 {
        let order = log.poll_spare().unwrap();
        disk.fill_at_next_sync();
        log.spare_made(order.fulfil(&disk)).unwrap();
        assert_eq!(disk.list().unwrap(), names);
        for ms in [0, 1000] {
            log.tick(Tick(2000 * retry + ms)).unwrap();
        }
    }
}

/// ENOSPC and EDQUOT of Linux.
const FULL: [i32; 2] = [28, 122];
/// EIO of Linux.
const EIO: i32 = 5;

fn fail_once(disk: &SimStorage, calls: &'static [SeamCall], code: i32) {
    disk.set_failing(Some(Failing {
        calls,
        code,
        after: 0,
        times: 1,
    }));
}

#[test]
fn a_recycle_whose_rename_finds_no_room_forgets_nothing() {
    for code in FULL {
        let (disk, mut log) = fresh();
        let whole = SEGMENT as usize - 20_000;
        for zxid in 1..=3 {
            append(&mut log, &disk, zxid, whole);
        }
        sync(&mut log);
        assert!(log.retire(Zxid(2)).is_empty());
        let names = disk.list().unwrap();
        for ms in [0, 1000, 2000, 3000] {
            log.tick(Tick(ms)).unwrap();
            let Some(order) = log.poll_spare() else {
                continue;
            };
            assert!(order.recycles());
            fail_once(&disk, &[SeamCall::Rename], code);
            log.spare_made(order.fulfil(&disk)).unwrap();
            assert_eq!(disk.list().unwrap(), names, "{code}");
        }
        log.tick(Tick(9000)).unwrap();
        log.tick(Tick(10_000)).unwrap();
        let order = log.poll_spare().unwrap();
        log.spare_made(order.fulfil(&disk)).unwrap();
        log.close().unwrap();
        assert_eq!(zxids(&disk).last(), Some(&3), "no gap");
    }
}

#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    for code in FULL {
        let (disk, mut log) = fresh();
        let order = log.poll_spare().unwrap();
        fail_once(&disk, &[SeamCall::Create], code);
        log.spare_made(order.fulfil(&disk)).unwrap();
        assert!(log.is_full());
        assert_eq!(log.room_for(Need::Growing, 10), Room::Full);
        assert_eq!(log.room_for(Need::Reserve, 10), Room::Yes);
    }
}

#[test]
fn a_directory_that_can_not_be_synced_for_a_spare_ends_the_log() {
    for code in [EIO, FULL[0], FULL[1]] {
        let (disk, mut log) = fresh();
        let order = log.poll_spare().unwrap();
        fail_once(&disk, &[SeamCall::SyncDir], code);
        assert!(log.spare_made(order.fulfil(&disk)).is_err(), "{code}");
        assert!(log.append(Zxid(1), b"x").is_err());
    }
}

#[test]
fn any_call_of_a_ticket_that_fails_ends_the_log() {
    let calls: [&[SeamCall]; 4] = [
        &[SeamCall::Write],
        &[SeamCall::Sync],
        &[SeamCall::Rename],
        &[SeamCall::SyncDir],
    ];
    for (nth, calls) in calls.into_iter().enumerate() {
        for code in [EIO, FULL[0], FULL[1]] {
            let (disk, mut log) = fresh();
            if nth < 2 {
                append(&mut log, &disk, 1, 10);
            } else {
                roll(&mut log, &disk);
            }
            fail_once(&disk, calls, code);
            let ticket = log.begin_sync().unwrap();
            assert!(log.synced(ticket.run()).is_err(), "{calls:?} {code}");
            assert!(log.begin_sync().is_none());
        }
    }
}

#[test]
fn where_writes_copy_the_disk_counts_as_full_before_an_append_finds_no_room() {
    let disk = SimStorage::new(12 * SEGMENT);
    disk.set_copies_on_write(true);
    let (mut log, _) = open(&disk, 1).unwrap();
    let mut zxid = 0;
    loop {
        while let Some(order) = log.poll_spare() {
            log.spare_made(order.fulfil(&disk)).unwrap();
        }
        match log.room_for(Need::Growing, 10_000) {
            Room::Yes => {}
            Room::Wait => panic!("no spare is being made"),
            Room::Full => break,
        }
        zxid += 1;
        log.append(Zxid(zxid), &[7; 10_000]).unwrap();
        if zxid % 5 == 0 {
            sync(&mut log);
        }
    }
    assert!(log.segments() > 5 && log.is_full());
    // Sessions go on to the end of the segment, and find room.
    while log.room_for(Need::Reserve, 100) == Room::Yes {
        zxid += 1;
        log.append(Zxid(zxid), &[1; 100]).unwrap();
    }
    sync(&mut log);
    drop(log);
    disk.set_capacity(64 << 20);
    assert_eq!(zxids(&disk).last(), Some(&zxid));
}

#[test]
fn the_last_quarter_of_the_reserve_is_for_sessions() {
    let disk = SimStorage::new(3 * SEGMENT);
    let (mut log, _) = open(&disk, 1).unwrap();
    let mut zxid = 0;
    let mut fill = |log: &mut Log<SimStorage>, need: Need| {
        let mut bytes = 0;
        while log.room_for(need, 100) == Room::Yes {
            zxid += 1;
            log.append(Zxid(zxid), &[1; 100]).unwrap();
            bytes += 100;
        }
        bytes
    };
    disk.set_capacity(disk.used());
    let order = log.poll_spare().unwrap();
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert_eq!(fill(&mut log, Need::Growing), 0);
    assert!(fill(&mut log, Need::Shrinking) > 0);
    assert_eq!(log.room_for(Need::Shrinking, 100), Room::Full);
    let for_sessions = fill(&mut log, Need::Reserve);
    // Records have headers, and some room is kept for seals.
    let quarter = SEGMENT / 4;
    assert!(
        (quarter / 2..=quarter).contains(&for_sessions),
        "{for_sessions}"
    );
    assert_eq!(log.room_for(Need::Reserve, 100), Room::Full);
}

#[test]
fn a_failed_sync_ends_the_log() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 10);
    disk.fail_next_sync();
    let ticket = log.begin_sync().unwrap();
    assert!(log.synced(ticket.run()).is_err());
    assert!(log.append(Zxid(2), b"x").is_err());
    assert!(log.begin_sync().is_none());
}

/// Records until a segment is begun: two spares are there, so that the last record makes none. The last
/// zxid, and what the disk has been asked for until the record that begins it, and with it.
fn roll(log: &mut Log<SimStorage>, disk: &SimStorage) -> (i64, [u64; 2]) {
    while let Some(order) = log.poll_spare() {
        log.spare_made(order.fulfil(disk)).unwrap();
    }
    let rolls = log.counters().rolls;
    let mut zxid = log.end().zxid.0;
    loop {
        zxid += 1;
        let before = disk.effects();
        log.append(Zxid(zxid), &[7; 3000]).unwrap();
        if log.counters().rolls > rolls {
            return (zxid, [before, disk.effects()]);
        }
    }
}

/// A log without any name would count as lost.
#[test]
fn a_segment_is_not_retired_before_the_one_behind_it_has_its_name() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 10);
    sync(&mut log);
    let (last, _) = roll(&mut log, &disk);
    let recycles = |log: &mut Log<SimStorage>| {
        let order = log.poll_spare();
        order.is_some_and(|order| {
            let recycles = order.recycles();
            log.spare_made(order.fulfil(&disk)).unwrap();
            recycles
        })
    };
    assert!(log.retire(Zxid(last)).is_empty());
    assert!(!recycles(&mut log), "nothing is retired");
    let ticket = log.begin_sync().unwrap();
    let needed = log.segments();
    assert!(log.retire(Zxid(last)).is_empty());
    assert_eq!(log.segments(), needed, "the ticket may be cut off");
    let outcome = ticket.run();
    log.synced(outcome).unwrap();
    let before = segments(&disk).len();
    roll(&mut log, &disk);
    sync(&mut log);
    assert!(log.retire(Zxid(last - 1)).is_empty());
    assert!(recycles(&mut log), "now it is");
    assert_eq!(segments(&disk).len(), before);
}

#[test]
fn the_last_spare_waits_for_a_retired_segment_that_somebody_may_still_read() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 10);
    sync(&mut log);
    let (last, _) = roll(&mut log, &disk);
    sync(&mut log);
    let order = log.poll_new_spare().expect("nothing is retired");
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert!(log.poll_new_spare().is_none(), "two are ready");
    assert!(log.retire(Zxid(last - 1)).is_empty());
    let roll_alone = |log: &mut Log<SimStorage>| {
        let rolls = log.counters().rolls;
        while log.counters().rolls == rolls {
            let zxid = log.end().zxid.next();
            log.append(zxid, &[7; 3000]).unwrap();
        }
        sync(log);
    };
    roll_alone(&mut log);
    assert!(log.poll_new_spare().is_none(), "one is ready, one retired");
    roll_alone(&mut log);
    let order = log.poll_new_spare().expect("none is ready");
    assert!(!order.recycles(), "somebody may read it");
    log.spare_made(order.fulfil(&disk)).unwrap();
    assert!(log.poll_spare().expect("nobody reads").recycles());
}

/// Whatever of it was done before: what was acknowledged is there, and the log goes on.
#[test]
fn a_crash_within_the_ticket_of_a_roll_loses_nothing_that_was_acknowledged() {
    for power_cut in [false, true] {
        for effects in 0..8 {
            for seed in 0..20 {
                let (disk, mut log) = fresh();
                append(&mut log, &disk, 1, 10);
                sync(&mut log);
                let (last, _) = roll(&mut log, &disk);
                disk.crash_at(Some(disk.effects() + effects));
                let outcome = log.begin_sync().map(|ticket| ticket.run());
                let is_durable = outcome.is_some_and(|outcome| log.synced(outcome).is_ok());
                drop(log);
                disk.restart(&mut fastrand::Rng::with_seed(seed), power_cut);
                let (mut log, found) = open(&disk, 100).unwrap();
                let at_least = if is_durable { last } else { 1 };
                assert!(log.end().zxid.0 >= at_least, "{effects} {seed}");
                assert!(found.len() as i64 >= at_least);
                let next = log.end().zxid.0 + 1;
                append(&mut log, &disk, next, 3000);
                sync(&mut log);
                drop(log);
                assert_eq!(open(&disk, 200).unwrap().1.len() as i64, next);
            }
        }
    }
}

#[test]
fn an_idle_log_writes_one_seal_and_no_more() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 10);
    sync(&mut log);
    let before = log.counters().seals;
    for ms in 0..1000 {
        log.tick(Tick(ms)).unwrap();
        if let Some(ticket) = log.begin_sync() {
            log.synced(ticket.run()).unwrap();
        }
    }
    assert_eq!(log.counters().seals, before + 1);
}

#[test]
fn a_snapshot_is_whole_or_refused() {
    use snapshot_file::{SnapshotError, SnapshotWriter, list, read};
    let disk = SimStorage::new(64 << 20);
    let body: Vec<u8> = (0..200_000u32).map(|i| (i * 7) as u8).collect();
    let mut writer = SnapshotWriter::create(&disk, Zxid(5), STORE).unwrap();
    body.chunks(777)
        .for_each(|piece| writer.push(piece).unwrap());
    assert_eq!(list(&disk).unwrap(), []);
    let written = writer.finish().unwrap();
    assert_eq!(list(&disk).unwrap(), [Zxid(5)]);
    let mut again = Vec::new();
    let found = read(&disk, Zxid(5), Some(STORE), |chunk| {
        again.extend_from_slice(chunk);
        Ok::<(), SnapshotError>(())
    });
    assert_eq!((found.unwrap(), again == body), (written, true));
    let name = snapshot_file::name(Zxid(5));
    let len = disk.open(&name).unwrap().view(u64::MAX).unwrap().len() as u64;
    let unused = |at: u64| (12..16).contains(&at) || (44..48).contains(&at);
    for at in (0..len)
        .step_by(997)
        .chain(0..56)
        .chain(len - 50..len)
        .filter(|&at| !unused(at))
    {
        flip(&disk, &name, at);
        assert!(
            read(&disk, Zxid(5), Some(STORE), |_| Ok::<(), SnapshotError>(())).is_err(),
            "byte {at}"
        );
        flip(&disk, &name, at);
    }
}

/// Seed 48796 of the simulator: the second one was thrown away when the directory could not be synced, and the log that
/// led to its state was gone for the first one.
#[test]
fn a_snapshot_that_takes_the_place_of_one_of_the_same_state_never_leaves_none() {
    use snapshot_file::{SnapshotError, SnapshotWriter, list, read};
    let is_whole =
        |disk: &SimStorage| read(disk, Zxid(5), Some(STORE), |_| Ok::<(), SnapshotError>(()));
    for code in [EIO, FULL[0], FULL[1]] {
        let disk = SimStorage::new(64 << 20);
        let make = || {
            let mut writer = SnapshotWriter::create(&disk, Zxid(5), STORE).unwrap();
            writer.push(&[7; 100_000]).unwrap();
            writer.finish()
        };
        fail_once(&disk, &[SeamCall::SyncDir], code);
        assert!(make().is_err());
        assert_eq!(list(&disk).unwrap(), [], "nothing had that name");
        make().unwrap();
        fail_once(&disk, &[SeamCall::SyncDir], code);
        assert!(make().is_err());
        assert!(is_whole(&disk).is_ok(), "{code}");
        for seed in 0..10 {
            let cut = disk.after_power_cut(&mut fastrand::Rng::with_seed(seed));
            assert!(is_whole(&cut).is_ok(), "{code}, cut {seed}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
    Tick,
    Spare,
    Retire,
    Crash { power_cut: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5000usize).prop_map(Step::Append),
        4 => Just(Step::Sync),
        2 => Just(Step::Tick),
        2 => Just(Step::Spare),
        1 => Just(Step::Retire),
        1 => any::<bool>().prop_map(|power_cut| Step::Crash { power_cut }),
    ];
    proptest::collection::vec(step, 1..150)
}

proptest! {
    /// Whatever happens, what comes back is a prefix of what was appended, and holds everything
    /// that was acknowledged.
    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_else_appears(steps in steps(), seed in any::<u64>()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = SimStorage::new(64 << 20);
        let mut log = open(&disk, 1).unwrap().0;
        let mut appended: Vec<Vec<u8>> = Vec::new();
        let (mut acknowledged, mut retired, mut tick, mut start) = (0usize, 0usize, 0u64, 1u128);
        for step in steps {
            match step {
                Step::Append(len) => {
                    if log.room_for(Need::Growing, len) == Room::Yes {
                        let zxid = appended.len() as i64 + 1;
                        appended.push((0..len).map(|_| rng.u8(..)).collect());
                        log.append(Zxid(zxid), appended.last().unwrap()).unwrap();
                    }
                }
                Step::Sync => if let Some(ticket) = log.begin_sync() {
                    acknowledged = log.synced(ticket.run()).unwrap().zxid().0 as usize;
                },
                Step::Tick => {
                    tick += 60;
                    log.tick(Tick(tick)).unwrap();
                }
                Step::Spare => if let Some(order) = log.poll_spare() {
                    log.spare_made(order.fulfil(&disk)).unwrap();
                },
                Step::Retire => {
                    retired = acknowledged / 2;
                    for name in log.retire(Zxid(retired as i64)) {
                        disk.remove(&name).unwrap();
                    }
                }
                Step::Crash { power_cut } => {
                    drop(log);
                    disk.restart(&mut rng, power_cut);
                    start += 1000;
                    let (again, found) = open(&disk, start).unwrap();
                    log = again;
                    let first = found.first().map_or(appended.len() + 1, |(z, _)| z.0 as usize);
                    prop_assert!(first <= retired + 1 || found.is_empty() && retired >= acknowledged);
                    for (nth, (zxid, payload)) in found.iter().enumerate() {
                        prop_assert_eq!(zxid.0 as usize, first + nth);
                        prop_assert_eq!(payload, &appended[first + nth - 1]);
                    }
                    let last = found.last().map_or(retired, |(z, _)| z.0 as usize);
                    prop_assert!(last >= acknowledged, "{} acknowledged, {} found", acknowledged, last);
                    appended.truncate(last);
                    acknowledged = last;
                }
            }
        }
    }
}
