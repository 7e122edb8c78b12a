//! Tickets: what the log has gathered goes to the disk in them, and in nothing else.

use super::*;
use crate::constants::SEAL_DELAY_MS;
use crate::log::writer::{PIECE, PIECES_KEPT, SPARES_AHEAD};

#[test]
#[should_panic(expected = "3 of 4 tasks")]
fn a_success_that_leaves_out_a_task_makes_nothing_durable() {
    let (disk, mut log) = fresh();
    roll(&mut log, &disk);
    let ticket = log.begin_sync().expect("something to sync");
    let _ = log.synced(ticket.done(3, Ok(())));
}

#[test]
fn who_begins_a_segment_asks_the_disk_for_nothing() {
    let (disk, mut log) = fresh();
    sync_if_due(&mut log);
    let named = segments(&disk);
    let (_, [before, after]) = roll(&mut log, &disk);
    assert_eq!(after, before, "what was gathered waits for the ticket");
    assert_eq!(segments(&disk), named, "it has its old name");
    assert!(log.has_rolled());
    let ticket = log.begin_sync().unwrap();
    let tasks: Vec<&str> = (ticket.tasks())
        .map(|task| match task {
            SyncTask::File(_) => "file",
            SyncTask::Name(_) => "name",
            SyncTask::Directory => "directory",
        })
        .collect();
    assert_eq!(tasks, ["file", "file", "name", "directory"]);
    assert_eq!(disk.effects(), after, "nor has the ticket written anything");
    log.synced(ticket.run()).unwrap();
    assert_eq!(segments(&disk).len(), named.len() + 1);
    assert!(!log.has_rolled());
}

#[test]
#[should_panic(expected = "records were not written")]
fn a_success_whose_records_were_not_written_makes_nothing_durable() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 10);
    let ticket = log.begin_sync().expect("something to sync");
    let _ = log.synced(ticket.done(1, Ok(())));
}

#[test]
#[should_panic(expected = "records were not written")]
fn a_success_whose_writer_has_not_come_back_makes_nothing_durable() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 10);
    let mut ticket = log.begin_sync().expect("something to sync");
    assert!(ticket.take_unwritten(0).is_some());
    // Nobody takes them for having been written.
    ticket.write_now();
    assert!(ticket.take_unwritten(0).is_none());
    let _ = log.synced(ticket.done(1, Ok(())));
}

/// Who drives a ticket has each task made by somebody else, as the server does beside the core.
fn work_off(mut ticket: SyncTicket<SimStorage>) -> SyncOutcome {
    let mut done = 0;
    loop {
        let mut ended = Ok(());
        if let Some(Unwritten {
            file,
            offset,
            bytes,
        }) = ticket.take_unwritten(done)
        {
            ended = file.write_at(offset, &bytes);
            if ended.is_ok() {
                ticket.written(done, bytes);
            }
        }
        let storage = ticket.storage();
        let Some(task) = ticket.tasks().nth(done) else {
            break;
        };
        let ended = ended.and_then(|()| match task {
            SyncTask::File(file) => file.sync(),
            SyncTask::Name(name) => storage.rename(&name.spare, &name.segment),
            SyncTask::Directory => storage.sync_dir(),
        });
        done += 1;
        if ended.is_err() {
            return ticket.done(done, ended);
        }
    }
    ticket.done(done, Ok(()))
}

/// In each of the ways in which drivers do it.
const WAYS: [fn(SyncTicket<SimStorage>) -> SyncOutcome; 2] = [SyncTicket::run, work_off];

#[test]
fn a_log_asks_the_disk_for_nothing_but_in_its_tickets() {
    for way in WAYS {
        let (disk, mut log) = fresh();
        for round in 0..20 {
            while let Some(order) = log.poll_spare() {
                log.spare_made(order.fulfil(&disk)).unwrap();
            }
            let before = disk.effects();
            let rolls = log.counters().rolls;
            while log.counters().rolls == rolls {
                let zxid = log.end().zxid.next();
                log.append(zxid, &[7; 3000]).unwrap();
            }
            log.tick(Tick(1000 * round)).unwrap();
            let ticket = log.begin_sync().expect("it is due");
            assert!(!ticket.is_written());
            assert_eq!(disk.effects(), before);
            log.synced(way(ticket)).unwrap();
            // Two writes, two syncs, a name, and the directory.
            assert_eq!(disk.effects(), before + 6);
        }
    }
}

#[test]
fn the_seal_of_an_idle_log_travels_in_a_ticket() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 10);
    sync(&mut log);
    let before = (disk.effects(), log.counters().seals);
    for ms in [0, 100] {
        log.tick(Tick(ms)).unwrap();
    }
    assert_eq!((disk.effects(), log.counters().seals - 1), before);
    let ticket = log.begin_sync().expect("the seal");
    log.synced(ticket.run()).unwrap();
    assert_eq!(disk.effects(), before.0 + 2, "a write and a sync");
    log.close().unwrap();
    assert_eq!(zxids(&disk), [1]);
}

/// The record of which a part is written is none after a restart, and those before it are all there.
#[test]
fn a_write_of_a_ticket_that_fails_ends_the_log_and_nothing_else_is_written() {
    for way in WAYS {
        for (rolls, after) in [(false, 0), (true, 0), (true, 1)] {
            for power_cut in [false, true] {
                let (disk, mut log) = fresh();
                append(&mut log, &disk, 1, 1000);
                sync(&mut log);
                if rolls {
                    roll(&mut log, &disk);
                } else {
                    append(&mut log, &disk, 2, 1000);
                }
                let last = log.end().zxid.0;
                let ticket = log.begin_sync().unwrap();
                disk.set_failing(Some(Failing {
                    calls: &[SeamCall::Write],
                    code: EIO,
                    after,
                    times: u32::MAX,
                }));
                let error = log.synced(way(ticket)).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(EIO));
                assert_eq!(disk.take_failed().len(), 1, "no write is tried again");
                assert!(log.begin_sync().is_none());
                assert!(log.append(Zxid(last + 1), b"x").is_err());
                assert!(log.close().is_err());
                disk.restart(&mut fastrand::Rng::with_seed(1), power_cut);
                let found = zxids(&disk);
                assert!((1..=last).contains(&(found.len() as i64)), "{found:?}");
            }
        }
    }
}

#[test]
fn what_gathers_while_a_ticket_is_out_is_durable_with_the_next_one_and_not_before() {
    for way in WAYS {
        for rolls in [0, 1, 2] {
            let (disk, mut log) = fresh();
            while let Some(order) = log.poll_spare() {
                log.spare_made(order.fulfil(&disk)).unwrap();
            }
            append(&mut log, &disk, 1, 1000);
            let first = log.begin_sync().unwrap();
            let mut zxid = 1;
            while log.counters().rolls < rolls || zxid < 3 {
                zxid += 1;
                log.append(Zxid(zxid), &[7; 3000]).unwrap();
            }
            assert!(log.begin_sync().is_none(), "one ticket at a time");
            assert_eq!(log.synced(way(first)).unwrap().zxid(), Zxid(1));
            let cut = disk.after_power_cut(&mut fastrand::Rng::with_seed(rolls));
            assert_eq!(zxids(&cut), [1], "nothing else was written");
            let second = log.begin_sync().unwrap();
            assert_eq!(second.tasks().count() as u64, 1 + 2 * rolls + rolls.min(1));
            assert_eq!(log.synced(way(second)).unwrap().zxid(), Zxid(zxid));
            let cut = disk.after_power_cut(&mut fastrand::Rng::with_seed(rolls));
            assert_eq!(zxids(&cut), (1..=zxid).collect::<Vec<_>>());
        }
    }
}

/// Whatever of a ticket was done before: what was acknowledged is there, and the log goes on.
#[test]
fn a_crash_between_the_writes_and_the_syncs_of_a_ticket_loses_nothing_that_was_acknowledged() {
    let mut lost = 0;
    for way in WAYS {
        for rolls in [false, true] {
            for effects in 0..if rolls { 7 } else { 3 } {
                for seed in 0..20 {
                    let (disk, mut log) = fresh();
                    append(&mut log, &disk, 1, 700);
                    sync(&mut log);
                    let last = match rolls {
                        true => roll(&mut log, &disk).0,
                        false => {
                            append(&mut log, &disk, 2, 700);
                            2
                        }
                    };
                    disk.crash_at(Some(disk.effects() + effects));
                    let ticket = log.begin_sync().expect("it is due");
                    let is_durable = log.synced(way(ticket)).is_ok();
                    assert_eq!(is_durable, !disk.crashed());
                    drop(log);
                    disk.restart(&mut fastrand::Rng::with_seed(seed), true);
                    let (mut log, found) = open(&disk, 100).unwrap();
                    let at_least = if is_durable { last } else { 1 };
                    let found = found.len() as i64;
                    assert!((at_least..=last).contains(&found), "{effects} {seed}");
                    lost += u32::from(found < last);
                    append(&mut log, &disk, found + 1, 3000);
                    sync(&mut log);
                    drop(log);
                    assert_eq!(zxids(&disk).len() as i64, found + 1);
                }
            }
        }
    }
    assert!(lost > 100, "{lost}");
}

/// Spares are made as fast as they are ordered.
#[test]
fn while_a_ticket_is_out_so_many_segments_gather_and_no_more() {
    let (disk, mut log) = fresh();
    append(&mut log, &disk, 1, 10);
    let mut ticket = log.begin_sync();
    for _ in 0..5 {
        let rolls = log.counters().rolls;
        let mut zxid = log.end().zxid.0;
        loop {
            while let Some(order) = log.poll_spare() {
                log.spare_made(order.fulfil(&disk)).unwrap();
            }
            match log.room_for(Need::Growing, 3000) {
                Room::Yes => zxid += 1,
                Room::Wait => break,
                Room::Full => panic!("the disk has room"),
            }
            log.append(Zxid(zxid), &[7; 3000]).unwrap();
        }
        let most = SPARES_AHEAD as u64;
        assert_eq!(log.counters().rolls - rolls, most);
        let gathered = log.end().position.0 - log.durable().0;
        assert!(gathered <= 2 * (most + 1) * SEGMENT, "{gathered}");
        let outcome = ticket.take().expect("one is out").run();
        log.synced(outcome).unwrap();
        ticket = log.begin_sync();
    }
}

/// What gathers while a ticket is out is in several buffers, written one after the other and read as one.
#[test]
fn much_that_gathers_is_written_in_pieces_and_read_as_one() {
    let disk = SimStorage::new(256 << 20);
    let config = LogConfig {
        segment_bytes: 32 << 20,
    };
    let scan = Scan::new(&disk).unwrap();
    let mut log = scan
        .open(config, identities(1), StoreId(1), Zxid::ZERO)
        .unwrap();
    sync_if_due(&mut log);
    let records = 5 * PIECE / (1 << 20);
    for zxid in 1..=records as i64 {
        log.append(Zxid(zxid), &[zxid as u8; 1 << 20]).unwrap();
        assert!(log.buffered() < PIECE + (1 << 20));
    }
    let mut ticket = log.begin_sync().unwrap();
    let tasks = ticket.tasks().count();
    assert!((5..=6).contains(&tasks), "{tasks}");
    // Each where the one before it ends, but for zeroes to the end of its page.
    let mut end = None;
    for task in 0..tasks {
        let Some(write) = ticket.take_unwritten(task) else {
            continue;
        };
        assert!(
            end.is_none_or(|end: u64| end - write.offset < 4096),
            "no gap"
        );
        end = Some(write.offset + write.bytes.len() as u64);
        write.file.write_at(write.offset, &write.bytes).unwrap();
        ticket.written(task, write.bytes);
    }
    log.synced(ticket.run()).unwrap();
    assert_eq!(zxids(&disk), (1..=records as i64).collect::<Vec<_>>());
}

/// New memory costs more than what is written into it; an idle log keeps none.
#[test]
fn pieces_of_a_ticket_are_gathered_in_again_and_given_back_bit_by_bit_or_by_an_idle_log() {
    let disk = SimStorage::new(1 << 30);
    let config = LogConfig {
        segment_bytes: 256 << 20,
    };
    let scan = Scan::new(&disk).unwrap();
    let mut log = scan
        .open(config, identities(1), StoreId(1), Zxid::ZERO)
        .unwrap();
    let mut zxid = 0;
    let mut gather = |log: &mut Log<SimStorage>, bytes: usize| {
        for _ in 0..bytes.div_ceil(1 << 20) {
            zxid += 1;
            log.append(Zxid(zxid), &[7; 1 << 20]).unwrap();
        }
        let kept = log.pieces_kept();
        let outcome = log.begin_sync().unwrap().run();
        log.synced(outcome).unwrap();
        (kept, log.pieces_kept())
    };
    assert_eq!(gather(&mut log, 6 * PIECE).0, 0);
    let kept = log.pieces_kept();
    assert!((4..=6).contains(&kept), "{kept}");
    let (waiting, back) = gather(&mut log, 3 * PIECE);
    assert!(waiting < kept, "{waiting} of {kept} were not needed");
    assert!(back <= kept + 1, "{back}: the buffer that gathered is one");
    assert_eq!(gather(&mut log, 1), (back, back - 1), "one less");
    gather(&mut log, (PIECES_KEPT + 8) * (PIECE + (1 << 20)));
    assert_eq!(log.pieces_kept(), PIECES_KEPT);
    log.tick(Tick(1_000)).unwrap();
    log.tick(Tick(1_000 + SEAL_DELAY_MS)).unwrap();
    assert_eq!(log.pieces_kept(), 0);
}
