//! The files of a store: what reads one alone, and what a start makes of a store whose files are not as they
//! were left.
//!
//! The first byte chooses. Below [`DECODERS`], one decoder sees bytes of the input's own, or a template that
//! the input edits; else a small store is damaged, and started, and given up where it is refused. Then:
//!
//! - nothing panics, and no read asks for more than the file has;
//! - a start refuses, or serves the state behind one of the transactions that were written, no other;
//! - that state is no older than what any whole slot of a witness, snapshot or record still shows, and what
//!   the name of any snapshot says;
//! - the store that was started, or whose loss was accepted, goes on: it takes a transaction, makes a snapshot,
//!   and starts again with both.
//!
//! Where checksums were made anew by the input, anything may stand in the files: then nothing may panic.

#![no_main]

#[path = "../src/damage.rs"]
mod damage;
#[path = "../src/memory.rs"]
mod memory;
#[path = "../src/script.rs"]
mod script;
#[path = "../src/stores.rs"]
mod stores;

use damage::{Damaged, reseal, reseal_record};
use libfuzzer_sys::fuzz_target;
use memory::Memory;
use ringkeeper::log::fence::{FENCE, Fence};
use ringkeeper::log::inspect::{self, FileKind, Seen};
use ringkeeper::log::record::{Identity, Kind, Record};
use ringkeeper::log::segment::SegmentHeader;
use ringkeeper::log::snapshot_file::{self, SnapshotError, SnapshotWriter};
use ringkeeper::log::storage::{File, Storage};
use ringkeeper::log::{Part, StoreId, segment, witness};
use ringkeeper::snapshot::loss::{self, Found};
use ringkeeper::snapshot::{self, Recovered, SnapError, Walked};
use ringkeeper::tree::{BodyReader, Tree};
use ringkeeper::txn::{Entry, Txn, record};
use ringkeeper::types::{OpCode, Position, SessionId, Zxid};
use script::Script;
use std::cell::OnceCell;
use stores::{
    CONFIG, LATER, Store, append, append_bytes, entry, identities, order, raised, sealed,
};

/// First bytes up to this one choose a decoder, modulo their number; the others a damaged store.
const DECODERS: u8 = 0x60;
const IDENTITY: Identity = Identity(77);

/// What is made once.
struct Made {
    stores: Vec<Store>,
    foreign: Store,
}

thread_local! {
    static MADE: OnceCell<Made> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    MADE.with(|made| {
        let made = made.get_or_init(|| Made {
            stores: stores::all(),
            foreign: stores::foreign(),
        });
        let mut script = Script(input);
        match script.byte() {
            which @ ..DECODERS => decode(which, made, &mut script),
            _ => start_damaged(made, &mut script),
        }
    });
});

fn decode(which: u8, made: &Made, script: &mut Script<'_>) {
    let store = &made.stores[script.below(made.stores.len())];
    match which % 10 {
        0 => witness_file(store, script),
        1 => segment_file(store, script),
        2 => fence(script),
        3 => one_record(script),
        4 => archive(store, script),
        5 => drop(body(store, script)),
        6 => snapshot_of(store, script),
        7 => start_with_body(store, script),
        8 => start_with_payloads(store, script),
        _ => walk(store, script),
    }
}

/// The content of a file of the store whose name begins so, if it has any.
fn template(store: &Store, prefix: &str) -> Vec<u8> {
    let files = store.files.data.iter().chain(&store.files.log);
    let found = files.filter(|(name, _)| name.starts_with(prefix)).last();
    found.map_or(Vec::new(), |(_, bytes)| bytes.clone())
}

/// Bytes of the input's own, or the template that it edits; in both cases with checksums, if it wants some.
fn content(template: &[u8], script: &mut Script<'_>, name: &str) -> Vec<u8> {
    let is_forged = script.byte() % 2 == 1;
    let mut bytes = script.bytes(template);
    if is_forged {
        reseal(name, &mut bytes);
    }
    bytes
}

fn with_file(name: &str, bytes: Vec<u8>) -> Memory {
    Memory::of(&[(name.to_owned(), bytes)].into())
}

fn witness_file(store: &Store, script: &mut Script<'_>) {
    let name = "witness.data";
    let disk = with_file(name, content(&template(store, name), script, name));
    let none = Memory::default();
    drop(witness::find(&disk, &none));
    drop(witness::read(&disk, &none));
    look_at(&disk);
}

fn segment_file(store: &Store, script: &mut Script<'_>) {
    let name = segment::name(Position(0));
    let bytes = content(&template(store, "log."), script, &name);
    let base = SegmentHeader::decode(&bytes).map_or(Position(0), |header| header.base);
    let name = segment::name(base);
    let disk = with_file(&name, bytes);
    drop(segment::format(&disk, &name));
    look_at(&disk);
    drop(snapshot::recover(&Memory::default(), &disk, &mut |_| {}));
    read_parts(&disk, Zxid::ZERO, base);
}

fn fence(script: &mut Script<'_>) {
    let bytes = script.take(FENCE + 1);
    if let Some(fence) = Fence::decode(bytes) {
        assert_eq!(fence.encode(), bytes);
    }
}

fn one_record(script: &mut Script<'_>) {
    let whole = Record {
        kind: Kind::Txn,
        zxid: Zxid(7),
        position: Position(4096),
        durable_to: Position(4000),
        committed_to: Zxid(6),
        payload: b"a payload",
    };
    let mut bytes = Vec::new();
    whole.encode_into(IDENTITY, &mut bytes);
    let is_forged = script.byte() % 2 == 1;
    let mut bytes = script.bytes(&bytes);
    let position = Position(4096);
    let length = Record::payload_len(position, &bytes).unwrap_or(0);
    if is_forged && bytes.len() >= 48 + length {
        let seed = crc32c::crc32c(&IDENTITY.0.to_le_bytes());
        reseal_record(seed, &mut bytes[..48 + length]);
    }
    if let Ok(record) = Record::decode(IDENTITY, position, &bytes) {
        let mut again = Vec::new();
        record.encode_into(IDENTITY, &mut again);
        let again = Record::decode(IDENTITY, position, &again).map(|again| again.payload.to_vec());
        assert_eq!(again.as_deref(), Ok(record.payload));
    }
}

fn archive(store: &Store, script: &mut Script<'_>) {
    let which = script.below(store.entries.len());
    let mut whole = Vec::new();
    record::Payload::of(&store.entries[which]).write_into(&mut whole);
    look_into(&script.bytes(&whole));
}

/// A payload, read in place and decoded.
fn look_into(payload: &[u8]) {
    // In a segment payloads are aligned.
    let mut buffer = vec![0; payload.len() + 16];
    let from = buffer.as_ptr().align_offset(16);
    buffer[from..from + payload.len()].copy_from_slice(payload);
    let Ok(found) = record::access(&buffer[from..from + payload.len()]) else {
        return;
    };
    let _ = (found.header(), found.path(), found.data());
    let Ok(entry) = found.decode() else {
        return;
    };
    assert_eq!(entry.encode().len(), entry.encoded_len());
    assert_eq!(Entry::decode(&entry.encode()).ok(), Some(entry));
}

fn body_of(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(()) = tree.write_body(&mut |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<(), std::convert::Infallible>(())
    });
    bytes
}

/// The tree of a body, which is the same however it was cut.
fn body(store: &Store, script: &mut Script<'_>) -> Option<(Tree, Vec<u8>)> {
    let (nth, piece) = (script.below(store.trees.len()), script.byte());
    let body = script.bytes(&body_of(&store.trees[nth]));
    let read = |piece: usize| -> Option<Tree> {
        let mut reader = BodyReader::default();
        for piece in body.chunks(piece) {
            reader.push(piece).ok()?;
        }
        reader.finish().ok()
    };
    let tree = read(usize::from(piece) + 1);
    let whole = read(body.len().max(1));
    assert_eq!(tree.as_ref().map(body_of), whole.as_ref().map(body_of));
    let tree = tree?;
    let written = body_of(&tree);
    let mut reader = BodyReader::default();
    reader.push(&written).expect("it was just written");
    let again = reader.finish().expect("it was just written");
    assert_eq!(body_of(&again), written);
    Some((tree, body))
}

fn snapshot_of(store: &Store, script: &mut Script<'_>) {
    let bytes = content(&template(store, "snap."), script, "snap.");
    let named = bytes.get(16..24).and_then(|zxid| zxid.try_into().ok());
    let zxid = Zxid(named.map_or(0, i64::from_le_bytes));
    let disk = with_file(&snapshot_file::name(zxid), bytes);
    drop(snapshot_file::format(&disk, zxid));
    drop(snapshot_file::store(&disk, zxid));
    let mut reader = BodyReader::default();
    let read = snapshot_file::read(&disk, zxid, None, |chunk| {
        let _ = reader.push(chunk);
        Ok::<(), SnapshotError>(())
    });
    drop(read);
    look_at(&disk);
    drop(snapshot::recover(&disk, &Memory::default(), &mut |_| {}));
}

/// A whole snapshot of a body that somebody has made up, and the merge of it.
fn start_with_body(store: &Store, script: &mut Script<'_>) {
    let Some((tree, body)) = body(store, script) else {
        return;
    };
    let (data, log, zxid) = (Memory::default(), Memory::default(), tree.last_zxid());
    if zxid < Zxid::ZERO {
        return;
    }
    let store = StoreId(5);
    let mut file = SnapshotWriter::create(&data, zxid, store).expect("no fault");
    file.push(&body).expect("no fault");
    file.finish().expect("no fault");
    let order = snapshot::Order {
        zxid,
        store,
        room_needed: 0,
        memory: stores::MEMORY,
    };
    if let Ok(made) = snapshot::make(&data, &log, order, &tree.facts()) {
        assert_eq!(made.written.root, snapshot::root(&tree));
    }
}

/// A log of payloads that somebody has made up.
fn start_with_payloads(store: &Store, script: &mut Script<'_>) {
    let (data, directory) = (Memory::default(), Memory::default());
    let recovered = snapshot::recover(&data, &directory, &mut |_| {}).expect("an empty disk");
    let opened = recovered.open(&data, &directory, CONFIG, identities(600));
    let (tree, mut log, witness) = opened.expect("an empty disk");
    let mut zxid = tree.last_zxid();
    for nth in 0..8 {
        if script.is_over() {
            break;
        }
        let known = &store.entries[script.below(store.entries.len())];
        let mut entry = known.clone();
        zxid = zxid.next();
        entry.header.zxid = zxid;
        entry.digest = entry.digest.filter(|_| nth % 2 == 1);
        let mut encoded = entry.encode();
        for _ in 0..script.below(4) {
            let at = script.place(encoded.len());
            encoded[at] ^= script.byte();
        }
        let entry = Entry::decode(&encoded).unwrap_or(entry);
        let payload = record::Payload::verbatim(&entry, &encoded);
        append_bytes(&mut log, &directory, zxid, payload.len(), |out| {
            payload.write_into(out)
        });
    }
    let durable = log.durable();
    log.close().expect("no fault");
    look_at(&directory);
    read_parts(&directory, Zxid::ZERO, durable);
    let Ok(recovered) = snapshot::recover(&data, &directory, &mut |_| {}) else {
        return;
    };
    let made = snapshot::make(
        &data,
        &directory,
        order(zxid, &witness),
        &recovered.tree.facts(),
    );
    match made {
        Ok(made) => assert_eq!(made.written.root, snapshot::root(&recovered.tree)),
        Err(SnapError::Contradiction(_) | SnapError::Digest(_)) => {}
        Err(other) => panic!("{other}"),
    }
}

/// A snapshot out of memory, the batches of which change on their way through the disk.
fn walk(store: &Store, script: &mut Script<'_>) {
    let disk = Memory::default();
    let mut tree = store.trees[store.trees.len() - 1].clone();
    let due = snapshot::root(&tree);
    let order = snapshot::Order {
        zxid: tree.last_zxid(),
        store: StoreId(5),
        room_needed: 0,
        memory: stores::MEMORY,
    };
    let mut walked = Walked::new(tree.begin_walk(1 << 20));
    let mut is_changed = false;
    while let Some(nodes) = tree.walk_slice(2) {
        walked = match walked.add(&disk, nodes, order) {
            Ok(walked) => walked,
            Err(_) if is_changed => return,
            Err(error) => panic!("{error}"),
        };
        is_changed |= change_runs(&disk, script);
    }
    match walked.finish(&disk, order) {
        // What was written again may be what was there.
        Ok(written) => assert!(is_changed || written.root == due),
        Err(_) if is_changed => {}
        Err(error) => panic!("{error}"),
    }
    let names = disk.list().expect("no fault");
    assert!(
        !names.iter().any(|name| name.starts_with("tmp.")),
        "{names:?}"
    );
}

fn change_runs(disk: &Memory, script: &mut Script<'_>) -> bool {
    let is_changed = script.byte() % 4 == 3;
    if is_changed && let Ok(file) = disk.open(snapshot_file::SCRATCH) {
        let len = file.len().expect("no fault") as usize;
        let mut bytes = vec![0; len];
        file.read_at(0, &mut bytes).expect("no fault");
        let at = script.place(len);
        bytes[at] ^= script.byte();
        reseal_runs(&mut bytes);
        file.write_at(0, &bytes).expect("no fault");
    }
    is_changed
}

fn reseal_runs(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(length) = bytes
        .get(at..at + 4)
        .and_then(|length| length.try_into().ok())
    {
        let end = at + 8 + u32::from_le_bytes(length) as usize;
        let Some(content) = bytes.get(at + 8..end) else {
            break;
        };
        let crc = crc32c::crc32c(content);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// What `rk inspect` does.
fn look_at(disk: &Memory) {
    for (name, bytes) in disk.files() {
        let Ok(Some(kind)) = inspect::kind(disk, &name) else {
            continue;
        };
        let mut sink = |at: u64, seen: Seen<'_>| match seen {
            Seen::Record { record, .. } => {
                assert!(at as usize + 48 + record.payload.len() <= bytes.len());
                look_into(record.payload);
                let _ = Fence::decode(record.payload);
            }
            Seen::Zeroes { to } | Seen::Rest { to } | Seen::Damage { to, .. } => {
                assert!(to >= at, "{name}: {at}..{to}");
            }
            _ => {}
        };
        let looked = match kind {
            FileKind::Segment => inspect::segment(disk, &name, None, &mut sink),
            FileKind::Snapshot => inspect::snapshot(disk, &name, &mut sink),
            FileKind::Witness => inspect::witness(disk, &name, &mut sink),
        };
        looked.expect("it can be opened");
    }
}

/// What a shard that catches up is given: some of what was asked for, in order.
fn read_parts(log: &Memory, after: Zxid, durable: Position) -> Vec<Entry> {
    let mut found = Vec::new();
    for mapped_to in [None, Some(durable)] {
        let part = Part {
            after,
            upto: Zxid(i64::MAX),
            bytes: u64::MAX,
            mapped_to,
        };
        if let Ok(entries) = snapshot::read_log(log, part) {
            found.extend(entries.iter().map(|entry| Entry::clone(entry)));
        }
    }
    found
}

fn start_damaged(made: &Made, script: &mut Script<'_>) {
    let store = &made.stores[script.below(made.stores.len())];
    let damaged = Damaged::new(store, &made.foreign, script);
    look_at(&damaged.data);
    look_at(&damaged.log);
    let found = read_parts(
        &damaged.log,
        Zxid(i64::from(script.byte() % 24)),
        Position(40_000),
    );
    if !damaged.is_forged && !damaged.is_mixed {
        for entry in found {
            assert_eq!(entry, store.entries[entry.header.zxid.0 as usize - 1]);
        }
    }
    match snapshot::recover(&damaged.data, &damaged.log, &mut |_| {}) {
        Ok(recovered) => {
            if !damaged.is_forged {
                judge(made, store, &damaged, &recovered);
            }
            go_on(&damaged, recovered);
        }
        Err(refusal) => {
            let is_foul = matches!(
                refusal,
                SnapError::Digest(_) | SnapError::Record { .. } | SnapError::Contradiction(_)
            );
            assert!(
                !is_foul || damaged.is_forged || damaged.is_mixed,
                "{refusal}"
            );
            give_up(made, store, &damaged, refusal.is_loss());
        }
    }
}

/// Whether a state is that behind a transaction of the store.
fn is_of(store: &Store, tree: &Tree) -> bool {
    let due = store.state(tree.last_zxid());
    due.is_some_and(|due| snapshot::root(due) == snapshot::root(tree))
}

/// A start has found this state.
fn judge(made: &Made, store: &Store, damaged: &Damaged, found: &Recovered<Memory>) {
    let (tree, zxid) = (&found.tree, found.tree.last_zxid());
    if damaged.is_mixed {
        let is_one = is_of(store, tree) || is_of(&made.foreign, tree);
        return assert!(is_one, "{zxid} is a state of neither store");
    }
    assert!(
        is_of(store, tree),
        "{zxid} is no state that the store was in"
    );
    for voucher in &store.vouchers {
        let keeps = |range| damaged.keeps(store, voucher.is_in_log, &voucher.file, range);
        if voucher.zxid > zxid && voucher.ranges.iter().all(keeps) {
            let (due, file, ranges) = (voucher.zxid, &voucher.file, &voucher.ranges);
            panic!("served {zxid}, though {file} shows {due} in {ranges:?}");
        }
    }
    for named in snapshot_file::list(&damaged.data).expect("no fault") {
        let name = snapshot_file::name(named);
        let is_there = damaged.files.data.contains_key(&name);
        assert!(named <= zxid || !is_there, "served {zxid} beside {name}");
    }
}

/// The store takes a transaction, makes a snapshot, and starts again.
fn go_on(damaged: &Damaged, recovered: Recovered<Memory>) {
    let (data, directory) = (&damaged.data, &damaged.log);
    let is_sound = !damaged.is_forged && damaged.is_readable();
    let opened = recovered.open(data, directory, CONFIG, identities(700));
    let (tree, mut log, witness) = match opened {
        Ok(opened) => opened,
        Err(error) if !is_sound => return drop(error),
        Err(error) => panic!("{error}"),
    };
    if tree.last_zxid() < Zxid::ZERO || tree.last_zxid().next() <= tree.last_zxid() {
        return;
    }
    let timeout_ms = 9;
    let open = Txn::CreateSession { timeout_ms };
    let zxid = tree.last_zxid().next();
    let opens = entry(zxid, SessionId::of(1, 99), OpCode::CREATE_SESSION, open);
    let (opens, tree) = sealed(opens, &tree);
    append(&mut log, directory, &opens);
    let closing = log.close().expect("no fault");
    let last = witness.renewed(closing.end, closing.newest).closed();
    witness::write(data, directory, &last).expect("no fault");
    let made = snapshot::make(data, directory, order(zxid, &witness), &tree.facts());
    if is_sound && let Ok(made) = &made {
        assert_eq!(made.written.root, snapshot::root(&tree), "of {zxid}");
    }
    match snapshot::recover(data, directory, &mut |_| {}) {
        Ok(again) => {
            let is_same = snapshot::root(&again.tree) == snapshot::root(&tree);
            assert!(
                is_same || !is_sound,
                "{} is not {zxid}",
                again.tree.last_zxid()
            );
        }
        Err(error) => assert!(!is_sound, "{error}"),
    }
}

/// Nobody has a backup.
fn give_up(made: &Made, store: &Store, damaged: &Damaged, is_loss: bool) {
    let (data, log) = (&damaged.data, &damaged.log);
    let lost = match loss::look(data, log) {
        Ok(Found::Lost(lost)) => lost,
        Ok(_) => panic!("refused, and then not"),
        Err(error) => return assert!(!is_loss || !error.is_loss(), "{error}"),
    };
    let (kept, behind) = (lost.kept, lost.behind);
    let is_sound = !damaged.is_forged && damaged.is_readable();
    match lost.accept(CONFIG, identities(800), LATER) {
        Ok(()) => {}
        Err(error) => return assert!(!is_sound, "{error}"),
    }
    let again = snapshot::recover(data, log, &mut |_| {});
    let again = match again {
        Ok(again) => again,
        Err(error) => return assert!(!is_sound, "{error}"),
    };
    if is_sound {
        assert_eq!(again.tree.last_zxid(), behind);
        let stores: &[&Store] = match damaged.is_mixed {
            true => &[store, &made.foreign],
            false => &[store],
        };
        let root = snapshot::root(&again.tree);
        let spent = again.tree.session_high_water(SessionId::STANDALONE);
        let spent = spent.expect("ids that nobody knows of are spent");
        let is_kept = |store: &&Store| {
            let kept = store.state(kept);
            kept.is_some_and(|kept| {
                let known = kept.session_high_water(SessionId::STANDALONE);
                known < Some(spent) && snapshot::root(&raised(kept, behind, spent)) == root
            })
        };
        assert!(
            stores.iter().any(is_kept),
            "{kept} is no state that the store was in"
        );
    }
    go_on(damaged, again);
}
