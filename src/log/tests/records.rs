//! A member's record: what is found of it at a start, whatever has become of the two files, and who writes it.

use super::*;
use crate::log::standing::{self, Evidence};
use crate::log::witness::{self, ANY, Content, IN_DATA, IN_LOG, SLOT, write_content};
use crate::log::{Adoption, Epochs, Keeper, MemberRecord, Standing, Witness, Written};
use crate::types::{Epoch, ServerId, SessionId};
use fastrand::Rng;

const SID: ServerId = ServerId(2);
const FILES: [&str; 2] = [IN_DATA, IN_LOG];

/// The two directories, on disks of one machine.
struct Store {
    data: SimStorage,
    log: SimStorage,
}

impl Store {
    fn new() -> Store {
        let data = SimStorage::new(1 << 20);
        let log = data.beside(1 << 20);
        Store { data, log }
    }

    fn disks(&self) -> [&SimStorage; 2] {
        [&self.data, &self.log]
    }

    /// With both files as they are after the records 8 and 9 were written.
    fn whole() -> Store {
        let store = Store::new();
        for n in [8, 9] {
            write_content(&store.data, &store.log, &content(n, Standing::Whole), ANY).unwrap();
        }
        store
    }

    fn put(&self, nth: usize, bytes: Vec<u8>) {
        self.disks()[nth].put(FILES[nth], bytes);
    }

    fn bytes(&self, nth: usize) -> Vec<u8> {
        self.disks()[nth].content(FILES[nth]).unwrap()
    }

    /// A segment, so that the store is none in which nothing is.
    fn with_segment(self) -> Store {
        let header = segment::SegmentHeader {
            identity: crate::log::record::Identity(5),
            base: Position(0),
            bytes: SEGMENT,
            store: Some(STORE),
        };
        self.log.put(&segment::name(Position(0)), header.encode());
        self
    }

    fn find(&self) -> Result<Evidence, RecoveryError> {
        standing::find(&self.data, &self.log, SID)
    }

    fn restart(&self, seed: u64, power_cut: bool) {
        let mut rng = Rng::with_seed(seed);
        for disk in self.disks() {
            disk.restart(&mut rng, power_cut);
        }
    }
}

/// As it was after so many epochs.
fn record(n: u32, standing: Standing) -> MemberRecord {
    record_of(SID, n, standing)
}

fn record_of(sid: ServerId, n: u32, standing: Standing) -> MemberRecord {
    let mut record = MemberRecord::new(sid, standing);
    record.accept(Epoch(n));
    record.adopt(&adoption(n));
    record.see(format!("version={n}").as_bytes()).unwrap();
    record
}

fn adoption(epoch: u32) -> Durable<Adoption> {
    Durable::played(Adoption {
        epoch: Epoch(epoch),
        end: LogEnd::default(),
    })
}

fn witness_of(n: u32) -> Witness {
    Witness {
        sequence: n.into(),
        ..Witness::first(STORE, Position(0))
    }
}

fn content(n: u32, standing: Standing) -> Content {
    Content {
        witness: witness_of(n),
        member: Some(record(n, standing)),
    }
}

fn damaged(slot: &Content) -> Vec<u8> {
    let mut slot = slot.encode();
    slot[2000] ^= 1;
    slot
}

// The recovery table.

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum File {
    /// The newest slot and the one before.
    Whole,
    /// It has missed the last write.
    Older,
    /// The newest slot; the one before is damaged.
    NewestLeft,
    /// The newest slot is damaged; the one before is left.
    OlderLeft,
    /// Both are damaged.
    Damaged,
    Missing,
}

impl File {
    const ALL: [File; 6] = [
        File::Whole,
        File::Older,
        File::NewestLeft,
        File::OlderLeft,
        File::Damaged,
        File::Missing,
    ];

    /// Of slots 7, 8 and 9.
    fn bytes(self, [before, older, newest]: &[Content; 3]) -> Option<Vec<u8>> {
        let slots = match self {
            File::Whole => [older.encode(), newest.encode()],
            File::Older => [older.encode(), before.encode()],
            File::NewestLeft => [damaged(older), newest.encode()],
            File::OlderLeft => [older.encode(), damaged(newest)],
            File::Damaged => [damaged(older), damaged(newest)],
            File::Missing => return None,
        };
        Some(slots.concat())
    }
}

/// The record that counts, by its number: `!` it is doubtful whether there was a newer one. 0: none can be read.
/// Rows: the file in dataDir; columns: that in dataLogDir; both in the order of `File::ALL`.
const TABLE: [[&str; 6]; 6] = [
    // whole  older  newest left  older left  damaged  missing
    ["9", "9", "9", "9", "9", "9"],
    ["9", "8", "9", "8", "8", "8"],
    ["9", "9", "9!", "9!", "9!", "9!"],
    ["9", "8", "9!", "8!", "8!", "8!"],
    ["9", "8", "9!", "8!", "0", "0"],
    ["9", "8", "9!", "8!", "0", "0"],
];

/// Each row of the table, with and without a log: the file, what counts, and what was found.
fn each_case(
    slots: &[Content; 3],
    mut check: impl FnMut(&str, &str, bool, Result<Evidence, RecoveryError>),
) {
    for (in_data, row) in File::ALL.into_iter().zip(TABLE) {
        for (in_log, counts) in File::ALL.into_iter().zip(row) {
            for has_log in [true, false] {
                let store = Store::new();
                for (nth, file) in [in_data, in_log].into_iter().enumerate() {
                    if let Some(bytes) = file.bytes(slots) {
                        store.put(nth, bytes);
                    }
                }
                let store = if has_log { store.with_segment() } else { store };
                let case = format!("{in_data:?}, {in_log:?}, log: {has_log}");
                check(&case, counts, has_log, store.find());
            }
        }
    }
}

#[test]
fn the_recovery_table_of_a_members_record_row_by_row() {
    let slots = [7, 8, 9].map(|n| content(n, Standing::Whole));
    each_case(&slots, |case, counts, has_log, found| {
        let due = match (counts, has_log) {
            ("9", _) => record(9, Standing::Whole),
            ("8", _) => record(8, Standing::Whole),
            ("9!", _) => record(9, Standing::Maimed),
            ("8!", _) => record(8, Standing::Maimed),
            (_, true) => MemberRecord::new(SID, Standing::Maimed),
            (_, false) => MemberRecord::new(SID, Standing::Fresh),
        };
        let found = found.unwrap();
        assert_eq!(found.conclude(has_log), due, "{case}");
        let hurt = ["Left", "Damaged", "Missing"];
        let is_hurt = hurt.iter().any(|what| case.contains(what));
        let says_nothing = counts == "0" && !has_log;
        assert_eq!(found.bad.is_some(), is_hurt && !says_nothing, "{case}");
    });
}

#[test]
fn of_a_member_that_was_fresh_nothing_is_missed_as_long_as_it_has_no_history() {
    let slots = [7, 8, 9].map(|n| content(n, Standing::Fresh));
    each_case(&slots, |case, counts, has_log, found| {
        let found = found.unwrap();
        let (n, standing) = match (counts, has_log) {
            ("9" | "8", _) => (counts, Standing::Fresh),
            ("9!" | "8!", true) => (&counts[..1], Standing::Maimed),
            ("9!" | "8!", false) => (&counts[..1], Standing::Fresh),
            (_, true) => ("0", Standing::Maimed),
            (_, false) => ("0", Standing::Fresh),
        };
        let found = found.conclude(has_log);
        assert_eq!(
            (found.standing(), found.accepted().to_string()),
            (standing, n.to_owned()),
            "{case}"
        );
    });
}

#[test]
fn a_standalone_servers_store_counts_like_a_wiped_one_and_maimed_with_a_history() {
    let slots = [7, 8, 9].map(|n| Content::from(witness_of(n)));
    each_case(&slots, |case, _, has_log, found| {
        let found = found.unwrap();
        let due = if has_log {
            Standing::Maimed
        } else {
            Standing::Fresh
        };
        assert_eq!(
            found.conclude(has_log),
            MemberRecord::new(SID, due),
            "{case}"
        );
    });
    // The first record has come into one file, and was promised by nobody.
    let store = Store::whole();
    store.put(
        1,
        [witness_of(7), witness_of(8)]
            .map(|w| Content::from(w).encode())
            .concat(),
    );
    assert_eq!(
        store.find().unwrap().conclude(true),
        record(9, Standing::Whole)
    );
    // A standalone server's slot behind a member's is no work of ours.
    let slots = [content(8, Standing::Whole), witness_of(9).into()];
    for nth in [0, 1] {
        store.put(nth, slots.each_ref().map(Content::encode).concat());
    }
    assert_eq!(
        store.find().unwrap().conclude(true),
        record(8, Standing::Maimed)
    );
}

#[test]
fn a_start_that_may_not_go_on_is_refused_with_file_byte_and_what_to_do() {
    let store = Store::whole();
    let own = store.find().unwrap();
    assert_eq!(own.conclude(true), record(9, Standing::Whole));
    let Err(alone) = witness::find(&store.data, &store.log) else {
        panic!("a standalone server starts on a member's log");
    };
    let said = alone.to_string();
    assert!(said.starts_with("witness.data is of a member"), "{said}");
    assert!(
        said.contains("at byte 0") && said.contains("its ensemble's configuration"),
        "{said}"
    );
    let Err(other) = standing::find(&store.data, &store.log, ServerId(3)) else {
        panic!("another member starts on it");
    };
    let said = other.to_string();
    assert!(said.starts_with("witness.data is of server 2"), "{said}");
    assert!(
        said.contains("this is server 3") && said.contains("correct myid"),
        "{said}"
    );
    assert!(!other.is_loss() && !alone.is_loss());
    // One slot of another member is enough, wherever it stands.
    for (nth, at) in [(0, 0), (0, SLOT), (1, 0), (1, SLOT)] {
        let store = Store::whole();
        let mut bytes = store.bytes(nth);
        let foreign = Content {
            witness: witness_of(3),
            member: Some(record_of(ServerId(7), 3, Standing::Whole)),
        };
        bytes[at..at + SLOT].copy_from_slice(&foreign.encode());
        store.put(nth, bytes);
        let Err(RecoveryError::OtherMember {
            file,
            offset,
            sid,
            own,
        }) = store.find()
        else {
            panic!("{nth} {at}");
        };
        assert_eq!(
            (file.as_str(), offset, sid, own),
            (FILES[nth], at as u64, ServerId(7), SID)
        );
    }
}

#[test]
fn a_standalone_server_is_refused_by_any_slot_of_a_member() {
    for (nth, at) in [(0, 0), (0, SLOT), (1, 0), (1, SLOT)] {
        let store = Store::new();
        for n in [8, 9] {
            witness::write(&store.data, &store.log, &witness_of(n)).unwrap();
        }
        let mut bytes = store.bytes(nth);
        bytes[at..at + SLOT].copy_from_slice(&content(4, Standing::Fresh).encode());
        store.put(nth, bytes);
        let Err(RecoveryError::Member { file, offset }) = witness::find(&store.data, &store.log)
        else {
            panic!("{nth} {at}");
        };
        assert_eq!((file.as_str(), offset), (FILES[nth], at as u64));
        let refused = witness::write(&store.data, &store.log, &witness_of(10)).unwrap_err();
        assert!(
            refused.to_string().contains(&format!("at byte {at}")),
            "{refused}"
        );
    }
}

#[test]
fn without_any_slot_the_store_is_the_one_that_its_segments_name_and_of_two_none() {
    let store = Store::new().with_segment();
    let found = store.find().unwrap();
    assert_eq!(
        found.witness,
        Some(Witness::first(STORE, Position(u64::MAX)))
    );
    let (mut keeper, begun) = start(&store).unwrap();
    assert_eq!((begun.accepted(), begun.is_whole()), (Epoch(0), false));
    keeper.accept(Epoch(3));
    keep(&mut keeper, &store, 1);
    assert_eq!(store.find().unwrap().conclude(true).accepted(), Epoch(3));
    let store = Store::new().with_segment();
    let other = segment::SegmentHeader {
        identity: crate::log::record::Identity(6),
        base: Position(SEGMENT),
        bytes: SEGMENT,
        store: Some(StoreId(1)),
    };
    (store.log).put(&segment::name(other.base), other.encode());
    assert!(matches!(store.find(), Err(RecoveryError::NoWitness { .. })));
}

// Damage.

/// Whether a slot is left that was written.
fn is_readable(store: &Store) -> bool {
    let written = [8, 9].map(|n| content(n, Standing::Whole).encode());
    let has_one = |nth: usize| {
        let bytes = store.bytes(nth);
        bytes
            .chunks(SLOT)
            .any(|slot| written.iter().any(|w| w == slot))
    };
    has_one(0) || has_one(1)
}

/// The record is the one that was promised, or the member counts like a wiped one and keeps what can be read.
fn judge(store: &Store, is_one_file: bool, what: &str) {
    let found = store.find().expect(what).conclude(true);
    if is_one_file || found.standing() == Standing::Whole {
        assert_eq!(found, record(9, Standing::Whole), "{what}");
    } else {
        let least = if is_readable(store) { 8 } else { 0 };
        assert_eq!(found.standing(), Standing::Maimed, "{what}");
        assert!(found.accepted() >= Epoch(least), "{what}");
    }
}

#[test]
fn a_byte_that_is_flipped_in_one_file_costs_nothing_and_in_both_no_promise_is_taken_for_another() {
    let store = Store::whole().with_segment();
    for at in 0..2 * SLOT {
        let flip = [1 << (at % 8)];
        for nth in [0, 1] {
            let disk = store.disks()[nth];
            disk.spoil(FILES[nth], at, &flip);
            judge(&store, true, &format!("byte {at} of {}", FILES[nth]));
            disk.spoil(FILES[nth], at, &flip);
        }
        for spoils in [true, false] {
            for (disk, name) in store.disks().into_iter().zip(FILES) {
                disk.spoil(name, at, &flip);
            }
            if spoils {
                let found = store.find().unwrap().conclude(true);
                let left = if at / SLOT == 1 { 8 } else { 9 };
                assert_eq!(found, record(left, Standing::Maimed), "byte {at} of both");
            }
        }
    }
}

#[test]
fn a_byte_that_is_flipped_in_the_only_file_is_noticed() {
    for nth in [0, 1] {
        let store = Store::whole().with_segment();
        store.disks()[1 - nth].remove(FILES[1 - nth]).unwrap();
        assert_eq!(
            store.find().unwrap().conclude(true),
            record(9, Standing::Whole)
        );
        for at in 0..2 * SLOT {
            let flip = [1 << (at % 8)];
            store.disks()[nth].spoil(FILES[nth], at, &flip);
            let found = store.find().unwrap().conclude(true);
            assert_eq!(found.standing(), Standing::Maimed, "byte {at}");
            assert!(found.accepted() >= Epoch(8), "byte {at}");
            store.disks()[nth].spoil(FILES[nth], at, &flip);
        }
    }
}

#[test]
fn files_that_are_cut_or_swapped_are_refused_or_cost_nothing_or_count_as_wiped() {
    let whole = Store::whole();
    let lengths = (0..2 * SLOT)
        .step_by(61)
        .chain([SLOT - 1, SLOT, SLOT + 1, 2 * SLOT - 1]);
    for len in lengths {
        for cut in [&[0][..], &[1], &[0, 1]] {
            let store = Store::whole().with_segment();
            for &nth in cut {
                store.put(nth, whole.bytes(nth)[..len].to_vec());
            }
            judge(
                &store,
                cut.len() == 1,
                &format!("{cut:?} cut to {len} bytes"),
            );
        }
    }
    // The files for each other, and the slots of a file.
    let store = Store::whole().with_segment();
    store.put(0, whole.bytes(1));
    store.put(1, whole.bytes(0));
    judge(&store, true, "files");
    for nth in [0, 1] {
        let mut bytes = whole.bytes(nth);
        bytes.rotate_left(SLOT);
        store.put(nth, bytes);
        judge(&store, true, "slots");
    }
    // One of another store, whichever.
    for nth in [0, 1] {
        let mut other = content(20, Standing::Whole);
        other.witness.store = StoreId(1);
        let store = Store::whole().with_segment();
        store.put(nth, [other.encode(), other.encode()].concat());
        assert!(
            matches!(store.find(), Err(RecoveryError::Foreign { .. })),
            "{nth}"
        );
    }
}

#[test]
fn a_file_that_can_not_be_read_is_a_damaged_one_and_want_of_memory_no_sign_of_anything() {
    let store = Store::whole().with_segment();
    for nth in [0, 1] {
        for at in [0, SLOT] {
            store.disks()[nth].break_sector(FILES[nth], at);
            judge(&store, true, "a sector");
            store.disks()[nth].mend_sectors();
        }
    }
    for (disk, name) in store.disks().into_iter().zip(FILES) {
        disk.break_sector(name, 0);
        disk.break_sector(name, SLOT);
    }
    assert!(matches!(store.find(), Err(RecoveryError::Io(_))));
    store.data.mend_sectors();
    store.log.mend_sectors();
    // ENOMEM, once, wherever it comes.
    for nth in [0, 1] {
        for (calls, after) in [
            (SeamCall::Open, 0),
            (SeamCall::Read, 0),
            (SeamCall::Read, 1),
        ] {
            let at = SeamCall::ALL
                .iter()
                .position(|other| *other == calls)
                .unwrap();
            const CALLS: &[SeamCall] = &SeamCall::ALL;
            store.disks()[nth].set_failing(Some(Failing {
                calls: &CALLS[at..=at],
                code: 12,
                after,
                times: 1,
            }));
            assert!(
                matches!(store.find(), Err(RecoveryError::Io(_))),
                "{nth} {calls:?} {after}"
            );
            store.disks()[nth].set_failing(None);
        }
    }
}

// Who writes it.

/// Starts a member on what is there: what it begins with, and its proof.
fn start(store: &Store) -> std::io::Result<(Keeper, Durable<Epochs>)> {
    let evidence = store.find().map_err(std::io::Error::other)?;
    let witness = evidence
        .witness
        .unwrap_or(Witness::first(STORE, Position(0)));
    let durable = witness.durable;
    let witness = witness.renewed(durable, witness.newest);
    evidence.begin(&store.data, &store.log, witness, false)
}

fn end(n: u64) -> LogEnd {
    LogEnd {
        position: Position(16 * n),
        zxid: Zxid(n as i64),
    }
}

fn epochs(written: Written) -> Durable<Epochs> {
    match written {
        Written::Durable(Some(epochs)) => epochs,
        other => panic!("{other:?}"),
    }
}

/// Writes the record that is wanted.
fn keep(keeper: &mut Keeper, store: &Store, log: u64) -> Durable<Epochs> {
    let ticket = keeper
        .poll_record(end(log), Position(0))
        .expect("it is wanted");
    epochs(keeper.written(ticket.run(&store.data, &store.log)).unwrap())
}

#[test]
fn a_new_member_is_fresh_and_what_it_promises_is_found_again() {
    let store = Store::new();
    let (mut keeper, begun) = start(&store).unwrap();
    assert_eq!(
        (begun.accepted(), begun.current(), begun.is_whole()),
        (Epoch(0), Epoch(0), false)
    );
    assert!(
        keeper.poll_record(end(0), Position(0)).is_none(),
        "nothing has changed"
    );
    keeper.accept(Epoch(4));
    assert_eq!(keep(&mut keeper, &store, 1).accepted(), Epoch(4));
    keeper.adopt(&adoption(4));
    keeper.see(b"server.2=b").unwrap();
    keeper.reserve_ids(SessionId::of(2, 1 << 38));
    let kept = keep(&mut keeper, &store, 2);
    assert_eq!((kept.current(), kept.is_whole()), (Epoch(4), false));
    keeper.become_whole();
    assert!(keep(&mut keeper, &store, 3).is_whole());
    store.restart(1, true);
    let (keeper, begun) = start(&store).unwrap();
    assert_eq!(
        (begun.accepted(), begun.current(), begun.is_whole()),
        (Epoch(4), Epoch(4), true)
    );
    let record = keeper.member().unwrap();
    assert_eq!(record.configuration()[..], *b"server.2=b");
    assert_eq!(record.ids_reserved(), SessionId::of(2, 1 << 38));
    assert_eq!(
        keeper.last().durable,
        end(3),
        "the log's end has come along"
    );
}

#[test]
fn of_a_record_and_a_renewal_one_is_out_at_a_time_and_the_record_goes_first() {
    let store = Store::new();
    let (mut keeper, _) = start(&store).unwrap();
    let renewal = keeper.renewal(end(1), Position(0)).unwrap();
    keeper.accept(Epoch(1));
    assert!(
        keeper.poll_record(end(1), Position(0)).is_none(),
        "the other one is out"
    );
    assert!(keeper.renewal(end(1), Position(0)).is_none());
    keeper
        .written(renewal.run(&store.data, &store.log))
        .unwrap();
    assert!(
        keeper.renewal(end(2), Position(0)).is_none(),
        "a record is wanted"
    );
    let ticket = keeper.poll_record(end(2), Position(0)).unwrap();
    // What is promised meanwhile is not yet kept when the ticket comes back.
    keeper.accept(Epoch(2));
    let kept = epochs(keeper.written(ticket.run(&store.data, &store.log)).unwrap());
    assert_eq!(kept.accepted(), Epoch(1));
    assert_eq!(keep(&mut keeper, &store, 2).accepted(), Epoch(2));
    // A renewal carries the record, and a record the log's end.
    let renewal = keeper.renewal(end(3), Position(0)).unwrap();
    keeper
        .written(renewal.run(&store.data, &store.log))
        .unwrap();
    let found = store.find().unwrap();
    assert_eq!(found.conclude(true).accepted(), Epoch(2));
    assert_eq!(found.witness.unwrap().durable, end(3));
}

#[test]
#[should_panic(expected = "one ticket at a time")]
fn an_outcome_that_nobody_waits_for_makes_nothing_durable() {
    let store = Store::new();
    let (mut keeper, _) = start(&store).unwrap();
    keeper.accept(Epoch(1));
    let late = keeper.poll_record(end(1), Position(0)).unwrap();
    let (mut keeper, _) = start(&store).unwrap();
    let _ = keeper.written(late.run(&store.data, &store.log));
}

#[test]
#[should_panic(expected = "the epoch was not promised")]
fn a_history_of_an_epoch_that_was_not_accepted_is_not_held() {
    let (mut keeper, _) = start(&Store::new()).unwrap();
    keeper.accept(Epoch(1));
    keeper.adopt(&adoption(2));
}

#[test]
#[should_panic(expected = "a promise is taken back")]
fn an_older_epoch_is_not_accepted() {
    let (mut keeper, _) = start(&Store::new()).unwrap();
    keeper.accept(Epoch(2));
    keeper.accept(Epoch(1));
}

#[test]
#[should_panic(expected = "a member's record")]
fn a_standalone_server_promises_nothing() {
    Keeper::standalone(witness_of(1)).accept(Epoch(1));
}

#[test]
fn a_standalone_servers_renewals_leave_the_bytes_that_they_always_left() {
    let (ours, before) = (Store::new(), Store::new());
    let first = witness_of(1);
    let mut keeper = Keeper::standalone(first);
    let mut last = first;
    for store in [&ours, &before] {
        witness::write(&store.data, &store.log, &first).unwrap();
    }
    for n in 1..5 {
        let ticket = keeper.renewal(end(n), Position(n)).unwrap();
        let written = keeper.written(ticket.run(&ours.data, &ours.log)).unwrap();
        assert!(matches!(written, Written::Durable(None)));
        last = last.renewed(end(n), Position(n));
        witness::write(&before.data, &before.log, &last).unwrap();
    }
    let closing = keeper.closing(end(5), Position(5), true).unwrap();
    closing.run(&ours.data, &ours.log).into_result().unwrap();
    last.sequence += 1;
    let last = last.renewed(end(5), Position(5)).closed();
    witness::write(&before.data, &before.log, &last).unwrap();
    for nth in [0, 1] {
        assert_eq!(ours.bytes(nth), before.bytes(nth));
    }
}

#[test]
fn a_member_that_stops_while_a_write_is_out_leaves_its_files_to_it() {
    let store = Store::new();
    let (mut keeper, _) = start(&store).unwrap();
    let renewal = keeper.renewal(end(1), Position(0)).unwrap();
    assert!(keeper.closing(end(2), Position(0), false).is_none());
    keeper
        .written(renewal.run(&store.data, &store.log))
        .unwrap();
    let closing = keeper.closing(end(2), Position(0), false).unwrap();
    closing.run(&store.data, &store.log).into_result().unwrap();
    assert!(store.find().unwrap().witness.unwrap().is_closed);
}

/// ENOSPC, EMFILE, ENOMEM, and EIO, EACCES.
const SHORT: [i32; 3] = [28, 24, 12];
const BROKEN: [i32; 2] = [5, 13];

/// Lets one call of a directory fail.
fn fail(store: &Store, nth: usize, call: usize, code: i32, after: u32) {
    const CALLS: &[SeamCall] = &[SeamCall::Open, SeamCall::Write, SeamCall::Sync];
    store.disks()[nth].set_failing(Some(Failing {
        calls: &CALLS[call..=call],
        code,
        after,
        times: 1,
    }));
}

#[test]
fn a_record_that_finds_no_room_promises_nothing_and_is_written_again_and_a_broken_file_ends_the_process()
 {
    for nth in [0, 1] {
        for call in 0..3 {
            for code in SHORT.into_iter().chain(BROKEN) {
                let case = format!("{} {call} {code}", FILES[nth]);
                let store = Store::new();
                let (mut keeper, _) = start(&store).unwrap();
                keeper.accept(Epoch(1));
                keep(&mut keeper, &store, 1);
                keeper.accept(Epoch(2));
                let ticket = keeper.poll_record(end(2), Position(0)).unwrap();
                fail(&store, nth, call, code, 0);
                let written = keeper.written(ticket.run(&store.data, &store.log));
                store.disks()[nth].set_failing(None);
                if BROKEN.contains(&code) {
                    assert!(written.is_err(), "{case}");
                    assert!(!keeper.is_record_due() && !keeper.may_renew(), "{case}");
                    keeper.tick();
                    assert!(keeper.poll_record(end(2), Position(0)).is_none(), "{case}");
                } else {
                    assert!(matches!(written, Ok(Written::Short(_))), "{case}");
                    assert!(keeper.poll_record(end(2), Position(0)).is_none(), "{case}");
                    assert!(keeper.renewal(end(2), Position(0)).is_none(), "{case}");
                }
                for seed in 0..8 {
                    let cut = Store {
                        data: store.data.after_power_cut(&mut Rng::with_seed(seed)),
                        log: store.log.after_power_cut(&mut Rng::with_seed(seed + 99)),
                    };
                    let found = cut.find().unwrap().conclude(true);
                    assert!((1..=2).contains(&found.accepted().0), "{case}");
                    assert_eq!(
                        found.standing(),
                        Standing::Fresh,
                        "{case}: a file is complete"
                    );
                }
                if SHORT.contains(&code) {
                    keeper.tick();
                    let kept = keep(&mut keeper, &store, 2);
                    assert_eq!(kept.accepted(), Epoch(2), "{case}");
                    store.restart(7, true);
                    let found = store.find().unwrap().conclude(true);
                    assert_eq!(
                        (found.accepted(), found.standing()),
                        (Epoch(2), Standing::Fresh)
                    );
                }
            }
        }
    }
}

#[test]
fn what_was_written_in_vain_is_written_over_before_what_is_durable() {
    let slots = |n: u32| content(n, Standing::Whole);
    for nth in [0, 1] {
        let store = Store::whole();
        fail(&store, nth, 2, 28, 0);
        assert!(write_content(&store.data, &store.log, &slots(10), 9).is_err());
        store.disks()[nth].set_failing(None);
        write_content(&store.data, &store.log, &slots(11), 9).unwrap();
        let bytes = store.bytes(nth);
        assert_eq!(bytes[..SLOT], slots(11).encode(), "10 stood there");
        assert_eq!(bytes[SLOT..], slots(9).encode(), "it is durable");
    }
}

#[test]
fn a_crash_of_the_write_that_mends_a_damaged_file_leaves_the_other_one() {
    let slots = |n: u32| content(n, Standing::Whole);
    let damages = |store: &Store, nth: usize, damage: usize| match damage {
        0 | 1 => drop(store.disks()[nth].spoil(FILES[nth], damage * SLOT + 50, &[1])),
        2 => store.put(nth, vec![0; 2 * SLOT]),
        3 => store.put(nth, vec![9; 100]),
        _ => store.disks()[nth].remove(FILES[nth]).unwrap(),
    };
    for (nth, damage) in (0..2).flat_map(|nth| (0..5).map(move |damage| (nth, damage))) {
        for (effects, seed) in (0..9).flat_map(|at| (0..20).map(move |seed| (at, seed))) {
            let store = Store::whole();
            damages(&store, nth, damage);
            store.data.crash_at(Some(store.data.effects() + effects));
            let written = write_content(&store.data, &store.log, &slots(10), ANY).is_ok();
            store.restart(seed, true);
            let found = store.find().unwrap().conclude(true);
            let case = format!("{nth} {damage} {effects} {seed}");
            assert_eq!(found.standing(), Standing::Whole, "{case}");
            let least = if written { 10 } else { 9 };
            assert!((least..=10).contains(&found.accepted().0), "{case}");
            if written {
                assert_eq!(
                    store.find().unwrap().bad,
                    None,
                    "{case}: both are whole again"
                );
            }
        }
    }
}

/// What a member does that is killed at any effect: what it was promised last, and what it had asked for.
fn live(store: &Store, rng: &mut Rng) -> (u32, u32, u64) {
    let (mut promised, mut asked, mut witnessed) = (0, 0, 0);
    let Ok((mut keeper, begun)) = start(store) else {
        return (promised, asked, witnessed);
    };
    promised = begun.accepted().0;
    asked = promised;
    witnessed = keeper.last().durable.zxid.0 as u64;
    for _ in 0..rng.u32(1..8) {
        let log = witnessed + rng.u64(0..3);
        if rng.bool() {
            asked = keeper.member().unwrap().accepted().0 + 1;
            keeper.accept(Epoch(asked));
        }
        let ticket = match rng.bool() {
            true => keeper.poll_record(end(log), Position(0)),
            false => keeper.renewal(end(log), Position(0)),
        };
        let Some(ticket) = ticket else { continue };
        match keeper.written(ticket.run(&store.data, &store.log)) {
            Ok(Written::Durable(Some(epochs))) => {
                assert!(epochs.accepted().0 >= promised, "a promise is taken back");
                (promised, witnessed) = (epochs.accepted().0, log);
            }
            Ok(Written::Short(_)) => keeper.tick(),
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
    }
    (promised, asked, witnessed)
}

#[test]
fn neither_a_renewal_nor_a_record_brings_back_an_older_state_of_the_other_wherever_a_crash_comes() {
    let mut crashes = 0;
    for seed in 0..3_000 {
        let mut rng = Rng::with_seed(seed);
        let store = Store::new();
        let (mut promised, mut most, mut witnessed) = (0, 0, 0);
        for _ in 0..rng.u32(2..6) {
            store
                .data
                .crash_at(Some(store.data.effects() + rng.u64(0..40)));
            let (kept, asked, log) = live(&store, &mut rng);
            crashes += u32::from(store.data.crashed());
            let power_cut = rng.u8(0..4) > 0;
            store.restart(rng.u64(..), power_cut);
            (promised, witnessed) = (kept.max(promised), log.max(witnessed));
            most = asked.max(most);
            let Ok(found) = store.find() else {
                panic!("{seed}: it is refused");
            };
            let record = found.conclude(false);
            assert!(
                record.accepted().0 >= promised,
                "{seed}: a promise is forgotten"
            );
            assert!(
                record.accepted().0 <= most,
                "{seed}: nobody has asked for it"
            );
            assert_eq!(record.standing(), Standing::Fresh, "{seed}");
            if promised > 0 {
                assert_eq!(
                    found.conclude(true).standing(),
                    Standing::Fresh,
                    "{seed}: a file is complete"
                );
            }
            let durable = found
                .witness
                .map_or(0, |witness| witness.durable.zxid.0 as u64);
            assert!(durable >= witnessed, "{seed}: the log's end goes back");
        }
    }
    assert!(crashes > 3_000, "{crashes}");
}

#[test]
fn golden_slot_of_a_member() {
    let slot = Content {
        witness: witness_of(5),
        member: Some(record_of(ServerId(3), 2, Standing::Maimed)),
    }
    .encode();
    let mut alone = Content::from(witness_of(5)).encode();
    assert!(alone[104..SLOT - 4].iter().all(|byte| *byte == 0));
    assert_eq!(slot[12..16], [4, 0, 0, 0]);
    assert_eq!(alone[12..16], [0; 4]);
    alone[12] = 4;
    assert_eq!(
        slot[..128],
        alone[..128],
        "what is the store's stands where it stood"
    );
    let golden = [
        [3, 0, 0, 0, 0, 0, 0, 0],
        [2, 0, 0, 0, 2, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [3, 0, 0, 0, 9, 0, 0, 0],
        *b"version=",
        [b'2', 0, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(slot[128..176], *golden.as_flattened());
    assert!(slot[176..SLOT - 4].iter().all(|byte| *byte == 0));
    assert_eq!(
        slot[SLOT - 4..],
        crc32c::crc32c(&slot[..SLOT - 4]).to_le_bytes()
    );
}
