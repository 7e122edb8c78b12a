//! What happens to files behind the server's back: bits, sectors and pages that rot or can't be read,
//! files that are gone, cut, or another store's. Knows by itself what stands where, so that it can say what
//! is lost.

use super::disk::{Held, SimStorage, Spoiled};
use super::outcome::Fault;
use crate::log::record::{ALIGN, HEADER, Kind, Record, StoreId};
use crate::log::segment::{self, HEADER_BLOCK, SegmentHeader};
use crate::log::snapshot_file::{self, SnapshotError};
use crate::txn::Entry;
use crate::txn::record::access;
use crate::types::{Position, Zxid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SECTOR: usize = 512;
const PAGE: usize = 4096;
/// What the names of snapshots begin with.
const SNAPSHOT: &str = "snap.";
/// The two files of the witness.
const WITNESSES: [&str; 2] = ["witness.data", "witness.log"];
/// Slots of the witness.
const SLOTS: usize = 2;

/// The directories of a store, and what is known of it.
pub(super) struct Store<'a> {
    pub(super) data: &'a SimStorage,
    pub(super) log: &'a SimStorage,
    pub(super) id: StoreId,
    /// Where its history begins.
    pub(super) start: Zxid,
    /// A client was shown this, or may be, or it is covered: if it is not there any more, something is lost.
    pub(super) known: Zxid,
    /// A durable record or seal elsewhere covers everything up to here.
    pub(super) covered: Zxid,
    /// The witness, or a snapshot, shows that the log went as far.
    pub(super) witnessed: Zxid,
    /// The newest record has no seal behind it yet, and a seal stands in a page of its own.
    pub(super) is_open: bool,
}

/// A record where it stands.
struct Place {
    offset: usize,
    len: usize,
    kind: Kind,
    zxid: Zxid,
}

/// A segment, and all records in it that can be read.
struct Segment {
    name: String,
    base: Position,
    /// Bytes of the file.
    len: usize,
    places: Vec<Place>,
}

enum Undo {
    Bytes(SimStorage, Spoiled),
    Sectors(SimStorage),
    Names(SimStorage, Held),
}

/// Something that was damaged.
pub(super) struct Damage {
    /// For messages.
    pub(super) what: String,
    /// The start must be refused although nothing is lost: the store's files do not belong together.
    pub(super) is_odd: bool,
    /// One directory is another store's.
    pub(super) is_of_two_stores: bool,
    /// What was damaged can't be told from what is needed.
    pub(super) is_doubtful: bool,
    /// The start that looks at files of two stores could not read all of them.
    pub(super) is_blind: bool,
    /// A process has run with them since.
    pub(super) was_run_on: bool,
    /// Which bytes of a file rotted, and where those end that are written only once.
    place: (String, usize, usize, usize),
    undo: Undo,
}

impl Damage {
    /// Whether older rot, of which nothing was needed, may be needed without what was damaged: a snapshot, or
    /// the directory of the snapshots.
    pub(super) fn uncovers(&self) -> bool {
        match &self.undo {
            Undo::Bytes(..) | Undo::Sectors(_) => self.place.0.starts_with(SNAPSHOT),
            Undo::Names(disk, held) => disk.lacks(held, SNAPSHOT),
        }
    }

    /// The snapshot, if it is one and nothing else.
    pub(super) fn snapshot(&self) -> Option<Zxid> {
        zxid_of(&self.place.0)
    }

    /// Whether nothing was being written to the bytes that rotted, and nothing will be soon.
    fn is_settled(&self) -> bool {
        match &self.undo {
            Undo::Bytes(disk, _) | Undo::Sectors(disk) => {
                let (name, begin, end, last) = &self.place;
                disk.is_settled(name, *begin, *end) && end <= last
            }
            Undo::Names(..) => true,
        }
    }

    /// The operator restores what was damaged from a backup.
    pub(super) fn mend(self) {
        match self.undo {
            Undo::Bytes(disk, spoiled) => disk.mend(&spoiled),
            Undo::Sectors(disk) => disk.mend_sectors(),
            Undo::Names(disk, held) if self.was_run_on => disk.give_back_beside(held),
            Undo::Names(disk, held) => disk.give_back(held),
        }
    }
}

impl Store<'_> {
    /// Names and contents of everything there is, but for what a start may remove.
    pub(super) fn image(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let both = [self.data, self.log];
        let names = both.iter().flat_map(|disk| {
            let names = disk.names();
            names.into_iter().map(move |name| (*disk, name))
        });
        let stays = |(_, name): &(&SimStorage, String)| !name.starts_with("tmp.");
        let pairs = names.filter(stays);
        let mut image: Vec<_> = pairs
            .map(|(disk, name)| (disk.content(&name), name))
            .collect();
        image.sort();
        image
            .into_iter()
            .map(|(content, name)| (name, content))
            .collect()
    }

    /// The segments of this store, oldest first; one whose header can't be read has no places.
    fn segments(&self) -> Vec<Segment> {
        let named = |name: String| Some((segment::parse_name(&name)?, name));
        let bases: Vec<_> = self.log.names().into_iter().filter_map(named).collect();
        let mut segments = Vec::new();
        for (nth, (base, name)) in bases.iter().enumerate() {
            let content = self.log.content(name).unwrap_or_default();
            let next = bases.get(nth + 1).map_or(Position(u64::MAX), |next| next.0);
            let header = SegmentHeader::decode(&content).ok();
            let owned = |header: &SegmentHeader| {
                header.base == *base && header.store.is_none_or(|store| store == self.id)
            };
            let header = header.filter(owned);
            segments.push(Segment {
                name: name.clone(),
                base: *base,
                len: content.len(),
                places: header.map_or(Vec::new(), |header| places(&header, &content, next)),
            });
        }
        segments
    }

    /// Snapshots that can be read whole, newest first.
    pub(super) fn snapshots(&self) -> Vec<Zxid> {
        let names = self.data.names();
        let is_whole = |zxid: &Zxid| {
            let ignore = |_: &[u8]| Ok::<(), SnapshotError>(());
            snapshot_file::read(self.data, *zxid, Some(self.id), ignore).is_ok()
        };
        let mut whole: Vec<Zxid> = names
            .iter()
            .filter_map(|name| zxid_of(name))
            .filter(is_whole)
            .collect();
        whole.sort_by(|a, b| b.cmp(a));
        whole
    }

    /// The last transaction to which what can be read leads.
    pub(super) fn reach(&self) -> Zxid {
        let segments = self.segments();
        let places = segments.iter().flat_map(|segment| &segment.places);
        let txns = places.filter(|place| place.kind == Kind::Txn);
        let txns: BTreeSet<Zxid> = txns.map(|place| place.zxid).collect();
        let mut begins = self.snapshots();
        if self.start == Zxid::ZERO {
            begins.push(Zxid::ZERO);
        }
        let reach = |mut zxid: Zxid| {
            while txns.contains(&zxid.next()) {
                zxid = zxid.next();
            }
            zxid
        };
        begins
            .into_iter()
            .map(reach)
            .max()
            .unwrap_or(Zxid(i64::MIN))
    }

    /// The last transaction up to which the newest whole snapshot, and the records behind it, stand one behind
    /// the other, with nothing unreadable between them but what was no transaction.
    pub(super) fn whole_to(&self) -> Zxid {
        let newest = self.snapshots().first().copied();
        let mut zxid = newest.unwrap_or(Zxid::ZERO);
        // Behind the last record that counts.
        let mut end = None;
        for segment in self.segments() {
            if end.is_some_and(|end| end != segment.base) {
                return zxid;
            }
            for place in &segment.places {
                let begin = segment.base.plus((place.offset - HEADER_BLOCK) as u64);
                let is_next = place.kind == Kind::Txn && place.zxid == zxid.next();
                let is_gap = end.is_some_and(|end| end != begin);
                if !is_next && (is_gap || place.kind == Kind::Txn) && place.zxid > zxid {
                    return zxid;
                }
                if is_next {
                    zxid = place.zxid;
                } else if end.is_none() {
                    continue;
                }
                end = Some(begin.plus(place.len as u64));
            }
        }
        zxid
    }

    /// The transactions behind `after`, up to `upto`, as they stand in the log.
    pub(super) fn entries(&self, after: Zxid, upto: Zxid) -> Vec<Arc<Entry>> {
        let mut entries = BTreeMap::new();
        for segment in self.segments() {
            let content = self.log.content(&segment.name).unwrap_or_default();
            let Ok(header) = SegmentHeader::decode(&content) else {
                continue;
            };
            let wanted = segment.places.iter().filter(|place| {
                place.kind == Kind::Txn && place.zxid > after && place.zxid <= upto
            });
            for place in wanted {
                let at = header.base.plus((place.offset - HEADER_BLOCK) as u64);
                let record = Record::decode(header.identity, at, &content[place.offset..]);
                let record = record.expect("it was read before");
                let entry = access(record.payload).and_then(|record| record.decode());
                entries.insert(place.zxid, Arc::new(entry.expect("its checksum is right")));
            }
        }
        entries.into_values().collect()
    }

    /// Whether something is lost that was there.
    pub(super) fn is_lost(&self) -> bool {
        self.reach() < self.known
    }

    /// Damages something, unless what would be lost is what nothing vouches for yet: then nothing shows
    /// that it was there, and no start can be asked to notice. `is_running`: files stay where they are.
    pub(super) fn strike(
        &self,
        is_running: bool,
        rng: &mut fastrand::Rng,
    ) -> Option<(Vec<Fault>, Damage)> {
        // What is durable while the process runs may be shown in the next moment.
        let known = match is_running {
            true => self.known.max(self.reach()),
            false => self.known,
        };
        let (mut faults, damage) = match rng.u32(0..if is_running { 8 } else { 17 }) {
            0..5 => self.rot_in_log(rng)?,
            5 | 6 => self.rot_in_snapshot(rng)?,
            7 => self.rot_in_witness(rng)?,
            8..11 => self.segment_goes(rng)?,
            11 | 12 => self.snapshot_goes(rng)?,
            13 | 14 => self.witness_goes(rng)?,
            _ => self.directory_goes(rng)?,
        };
        let reach = self.reach();
        // What goes with its file takes along what stands behind it.
        let vouched = match damage.undo {
            Undo::Names(..) => self.witnessed,
            Undo::Bytes(..) | Undo::Sectors(_) if self.is_open && self.takes_the_end(&damage) => {
                self.witnessed
            }
            Undo::Bytes(..) | Undo::Sectors(_) => self.covered,
        };
        if reach < known && reach >= vouched {
            damage.mend();
            return None;
        }
        // What is being written is not what rots.
        if is_running && !damage.is_settled() {
            damage.mend();
            return None;
        }
        if is_running {
            faults.push(Fault::WhileRunning);
        }
        Some((faults, damage))
    }

    /// Whether nothing can be read in the log behind what was damaged: its page held all that covered it.
    fn takes_the_end(&self, damage: &Damage) -> bool {
        let (name, begin, ..) = &damage.place;
        let segments = self.segments();
        let behind = segments.iter().skip_while(|segment| segment.name != *name);
        behind.enumerate().all(|(nth, segment)| {
            let mut places = segment.places.iter();
            places.all(|place| nth == 0 && place.offset < *begin)
        })
    }

    // ---- rot ----

    fn rot_in_log(&self, rng: &mut fastrand::Rng) -> Option<(Vec<Fault>, Damage)> {
        let segments = self.segments();
        let newest = self.snapshots().first().copied().unwrap_or(Zxid::ZERO);
        let (at, offset, fault) = self.place_in_log(&segments, newest, rng)?;
        let segment = &segments[at];
        let (first, begin) = first_needed(&segments, newest);
        let (range, mut damage, extent) = spoil(self.log, &segment.name, offset, rng)?;
        let is_before = at < first || at == first && range.1 <= begin && range.0 >= HEADER_BLOCK;
        // What is no transaction is missed by nobody but the segment behind it, unless the device can't read it, or it
        // is what says where a log begins.
        let overlaps = |place: &Place| place.offset < range.1 && range.0 < place.offset + place.len;
        let is_spared = matches!(damage.undo, Undo::Bytes(..))
            && at + 1 == segments.len()
            && (segment.places.first()).is_some_and(|first| range.0 >= first.offset + first.len)
            && !(segment.places.iter()).any(|p| p.kind == Kind::Txn && overlaps(p));
        damage.is_doubtful = !(is_before || is_spared);
        if at + 1 == segments.len() {
            let last = segment.places.last();
            damage.place.3 = last.map_or(0, |last| last.offset + last.len);
        }
        let mut faults = vec![fault, extent];
        if is_before {
            faults.push(Fault::RotNotNeeded);
        }
        Some((faults, damage))
    }

    /// Which segment, which byte of it, and what stands there.
    fn place_in_log(
        &self,
        segments: &[Segment],
        newest: Zxid,
        rng: &mut fastrand::Rng,
    ) -> Option<(usize, usize, Fault)> {
        if segments.is_empty() {
            return None;
        }
        let all = || {
            let numbered = segments.iter().enumerate();
            numbered.flat_map(|(nth, segment)| segment.places.iter().map(move |p| (nth, p)))
        };
        let is_txn = |place: &Place| place.kind == Kind::Txn && place.zxid <= self.covered;
        let (wanted, fault): (Vec<_>, _) = match rng.u32(0..5) {
            0 | 1 => {
                let needed = |&(_, p): &(usize, &Place)| is_txn(p) && p.zxid > newest;
                (all().filter(needed).collect(), Fault::RotInRecord)
            }
            2 => (
                all().filter(|&(_, p)| is_txn(p)).collect(),
                Fault::RotInRecord,
            ),
            3 => {
                let is_seal = |&(_, p): &(usize, &Place)| p.kind == Kind::Seal;
                (all().filter(is_seal).collect(), Fault::RotInSeal)
            }
            _ => {
                let at = rng.usize(0..segments.len());
                return Some((at, rng.usize(0..68), Fault::RotInHeader));
            }
        };
        // Now and then the newest of them: behind it least is left that vouches for it.
        let &(at, place) = match rng.bool() {
            true => wanted.last()?,
            false => rng.choice(&wanted)?,
        };
        Some((at, place.offset + rng.usize(0..place.len), fault))
    }

    fn rot_in_snapshot(&self, rng: &mut fastrand::Rng) -> Option<(Vec<Fault>, Damage)> {
        let snapshots: Vec<String> = named(self.data, SNAPSHOT);
        let name = match rng.bool() {
            true => snapshots.last()?,
            false => rng.choice(&snapshots)?,
        };
        let len = self.data.content(name)?.len();
        let (_, damage, extent) = spoil(self.data, name, rng.usize(0..len.max(1)), rng)?;
        Some((vec![Fault::RotInSnapshot, extent], damage))
    }

    /// One of the two files says what the other does.
    fn rot_in_witness(&self, rng: &mut fastrand::Rng) -> Option<(Vec<Fault>, Damage)> {
        let which = rng.usize(0..WITNESSES.len());
        let disk = [self.data, self.log][which];
        let name = WITNESSES[which];
        let offset = rng.usize(0..SLOTS) * PAGE + rng.usize(0..PAGE);
        let (_, damage, extent) = spoil(disk, name, offset, rng)?;
        Some((vec![Fault::RotInWitness, extent], damage))
    }

    // ---- files ----

    /// A segment is not there, is cut, or is another store's.
    fn segment_goes(&self, rng: &mut fastrand::Rng) -> Option<(Vec<Fault>, Damage)> {
        let segments = self.segments();
        let at = match rng.bool() {
            true => segments.len().checked_sub(1)?,
            false => rng.usize(0..segments.len().max(1)),
        };
        let segment = segments.get(at)?;
        let newest = self.snapshots().first().copied().unwrap_or(Zxid::ZERO);
        let (first, _) = first_needed(&segments, newest);
        let name = &segment.name;
        let content = self.log.content(name)?;
        let held = self.log.take_away(|other| other == name);
        let fault = match rng.u32(0..3) {
            0 => Fault::SegmentMissing,
            1 => {
                self.log
                    .put(name, content[..rng.usize(0..content.len().max(1))].to_vec());
                Fault::SegmentCut
            }
            _ => {
                self.log.put(name, foreign(&content));
                Fault::SegmentForeign
            }
        };
        let damage = Damage {
            what: format!("{fault:?}: {name} of {} bytes", segment.len),
            is_odd: false,
            is_of_two_stores: false,
            is_doubtful: at >= first,
            is_blind: false,
            was_run_on: false,
            place: (name.clone(), 0, 0, 0),
            undo: Undo::Names(self.log.clone(), held),
        };
        Some((vec![fault], damage))
    }

    fn snapshot_goes(&self, rng: &mut fastrand::Rng) -> Option<(Vec<Fault>, Damage)> {
        let snapshots = named(self.data, SNAPSHOT);
        let name = rng.choice(&snapshots)?;
        let content = self.data.content(name)?;
        let held = self.data.take_away(|other| other == name);
        let fault = match rng.bool() {
            true => Fault::SnapshotMissing,
            false => {
                let len = rng.usize(0..content.len().max(1));
                self.data.put(name, content[..len].to_vec());
                Fault::SnapshotCut
            }
        };
        let undo = Undo::Names(self.data.clone(), held);
        Some((vec![fault], gone(fault, name, undo)))
    }

    /// One of the two files is gone or cut, or both are gone.
    fn witness_goes(&self, rng: &mut fastrand::Rng) -> Option<(Vec<Fault>, Damage)> {
        let which = rng.usize(0..WITNESSES.len());
        let disk = [self.data, self.log][which];
        let name = WITNESSES[which];
        let content = disk.content(name)?;
        if self.data.is(self.log) && rng.bool() {
            let held = disk.take_away(|name| WITNESSES.contains(&name));
            let fault = Fault::WitnessesMissing;
            let undo = Undo::Names(disk.clone(), held);
            let is_odd = true;
            let damage = Damage {
                is_odd,
                ..gone(fault, "both", undo)
            };
            return Some((vec![fault], damage));
        }
        let held = disk.take_away(|other| other == name);
        let fault = match rng.bool() {
            true => Fault::WitnessMissing,
            false => {
                disk.put(name, content[..rng.usize(0..PAGE)].to_vec());
                Fault::WitnessCut
            }
        };
        let undo = Undo::Names(disk.clone(), held);
        Some((vec![fault], gone(fault, name, undo)))
    }

    /// One of the two directories is not mounted, or another store's is.
    fn directory_goes(&self, rng: &mut fastrand::Rng) -> Option<(Vec<Fault>, Damage)> {
        if self.data.is(self.log) {
            return None;
        }
        let (disk, name) = match rng.bool() {
            true => (self.data, "dataDir"),
            false => (self.log, "dataLogDir"),
        };
        let contents: Vec<_> = disk.names().into_iter().collect();
        let contents = contents.into_iter().map(|name| (disk.content(&name), name));
        let contents: Vec<_> = contents.collect();
        let held = disk.take_away(|_| true);
        let fault = match rng.bool() {
            true => Fault::DirectoryMissing,
            false => {
                for (content, name) in contents {
                    disk.put(&name, foreign(&content.unwrap_or_default()));
                }
                Fault::DirectoryForeign
            }
        };
        let damage = Damage {
            what: format!("{fault:?}: {name}"),
            is_odd: fault == Fault::DirectoryForeign,
            is_of_two_stores: fault == Fault::DirectoryForeign,
            is_doubtful: disk.is(self.log),
            is_blind: false,
            was_run_on: false,
            place: (String::new(), 0, 0, 0),
            undo: Undo::Names(disk.clone(), held),
        };
        Some((vec![fault], damage))
    }
}

/// Of which state a snapshot of that name is.
fn zxid_of(name: &str) -> Option<Zxid> {
    let digits = name.strip_prefix(SNAPSHOT)?;
    i64::from_str_radix(digits, 16).ok().map(Zxid)
}

fn gone(fault: Fault, name: &str, undo: Undo) -> Damage {
    Damage {
        what: format!("{fault:?}: {name}"),
        is_odd: false,
        is_of_two_stores: false,
        is_doubtful: false,
        is_blind: false,
        was_run_on: false,
        place: (name.to_owned(), 0, 0, 0),
        undo,
    }
}

fn named(disk: &SimStorage, prefix: &str) -> Vec<String> {
    let names = disk.names().into_iter();
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Every record that can be read, wherever it stands, before the next segment begins.
fn places(header: &SegmentHeader, content: &[u8], next: Position) -> Vec<Place> {
    let mut places = Vec::new();
    let mut offset = HEADER_BLOCK;
    while offset + HEADER <= content.len() {
        let at = header.base.plus((offset - HEADER_BLOCK) as u64);
        if at >= next {
            break;
        }
        match Record::decode(header.identity, at, &content[offset..]) {
            Ok(record) => {
                let len = (record.end().0 - at.0) as usize;
                places.push(Place {
                    offset,
                    len,
                    kind: record.kind,
                    zxid: record.zxid,
                });
                offset += len;
            }
            Err(_) => offset += ALIGN,
        }
    }
    places
}

/// The segment, and the byte in it, before which nothing follows the newest whole snapshot; if nothing
/// does, the last record.
fn first_needed(segments: &[Segment], newest: Zxid) -> (usize, usize) {
    for (nth, segment) in segments.iter().enumerate() {
        let needed = |place: &&Place| place.kind == Kind::Txn && place.zxid > newest;
        if let Some(place) = segment.places.iter().find(needed) {
            return (nth, place.offset);
        }
    }
    let last = segments.len().saturating_sub(1);
    let place = segments.get(last).and_then(|last| last.places.last());
    (last, place.map_or(0, |place| place.offset))
}

/// A bit, a sector or a page around `offset` rots, or can't be read any more: which bytes. `None`: the file ends
/// before, because it was cut, or because a crash has left less of it than was preallocated.
fn spoil(
    disk: &SimStorage,
    name: &str,
    offset: usize,
    rng: &mut fastrand::Rng,
) -> Option<((usize, usize), Damage, Fault)> {
    if offset >= disk.content(name)?.len() {
        return None;
    }
    let (begin, len, fault) = match rng.u32(0..4) {
        0 => (offset, 1, Fault::RotOfBit),
        1 => (offset / SECTOR * SECTOR, SECTOR, Fault::RotOfSector),
        2 => (offset / PAGE * PAGE, PAGE, Fault::RotOfPage),
        _ => (offset / SECTOR * SECTOR, SECTOR, Fault::Unreadable),
    };
    let undo = match fault {
        Fault::Unreadable => {
            disk.break_sector(name, begin);
            Undo::Sectors(disk.clone())
        }
        _ => {
            let with: Vec<u8> = match len {
                1 => vec![1 << rng.u32(0..8)],
                _ => zeroes_or_noise(disk, name, begin, len, rng),
            };
            Undo::Bytes(disk.clone(), disk.spoil(name, begin, &with))
        }
    };
    let what = format!("{fault:?}: {name} from byte {begin}, {len} bytes");
    let damage = Damage {
        what,
        is_odd: false,
        is_of_two_stores: false,
        is_doubtful: false,
        is_blind: false,
        was_run_on: false,
        place: (name.to_owned(), begin, begin + len, usize::MAX),
        undo,
    };
    Some(((begin, begin + len), damage, fault))
}

/// What is to be combined with the bytes of a file so that zeroes stand there, or anything.
fn zeroes_or_noise(
    disk: &SimStorage,
    name: &str,
    begin: usize,
    len: usize,
    rng: &mut fastrand::Rng,
) -> Vec<u8> {
    let mut with = vec![0; len];
    if rng.bool() {
        let content = disk.content(name).unwrap_or_default();
        let end = (begin + len).min(content.len());
        with[..end - begin].copy_from_slice(&content[begin..end]);
    } else {
        rng.fill(&mut with);
    }
    with
}

/// The same file of another store, which is whole.
fn foreign(content: &[u8]) -> Vec<u8> {
    const OTHER: StoreId = StoreId(0x0bad);
    let mut other = content.to_vec();
    if let Ok(header) = SegmentHeader::decode(content) {
        let store = Some(OTHER);
        let header = SegmentHeader { store, ..header };
        other[..HEADER_BLOCK].copy_from_slice(&header.encode());
        return other;
    }
    // In the slots of a witness, and in the header of a snapshot, the store stands at known places.
    let id = OTHER.0.to_le_bytes();
    if content.starts_with(b"RKWITNES") || content.len() == SLOTS * PAGE {
        for slot in other.chunks_exact_mut(PAGE) {
            slot[16..32].copy_from_slice(&id);
            let crc = crc32c::crc32c(&slot[..PAGE - 4]);
            slot[PAGE - 4..].copy_from_slice(&crc.to_le_bytes());
        }
    } else if content.starts_with(b"RKSNAPSH") && content.len() >= 44 {
        // Of a shorter one nobody can tell whose it is.
        other[24..40].copy_from_slice(&id);
        let crc = crc32c::crc32c(&other[..40]);
        other[40..44].copy_from_slice(&crc.to_le_bytes());
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Known, Log, LogConfig, RecoveryError, Scan};
    use crate::types::Tick;

    const ID: StoreId = StoreId(77);

    fn log() -> (SimStorage, Log<SimStorage>) {
        let disk = SimStorage::new(64 << 20);
        let config = LogConfig {
            segment_bytes: 64 << 10,
        };
        let scan = Scan::new(&disk).unwrap();
        let log = scan.open(config, Box::new(|| 1), ID, Zxid::ZERO).unwrap();
        (disk, log)
    }

    fn sync(log: &mut Log<SimStorage>) {
        let ticket = log.begin_sync().expect("something to sync");
        log.synced(ticket.run()).unwrap();
    }

    /// Appends transactions, of which nobody is told yet.
    fn append(log: &mut Log<SimStorage>, zxids: std::ops::RangeInclusive<i64>) {
        for zxid in zxids {
            log.append(Zxid(zxid), &[7; 100]).unwrap();
        }
    }

    /// Batches of one, and a seal that comes in one batch with the next two.
    fn seal_in_a_batch() -> (SimStorage, Log<SimStorage>) {
        let (disk, mut log) = log();
        for zxid in 1..=3 {
            append(&mut log, zxid..=zxid);
            sync(&mut log);
        }
        log.tick(Tick(0)).unwrap();
        log.tick(Tick(100)).unwrap();
        append(&mut log, 4..=5);
        sync(&mut log);
        (disk, log)
    }

    /// What a start finds, if it is not refused.
    fn recovered(disk: &SimStorage) -> Option<Zxid> {
        let mut last = Zxid::ZERO;
        let read = Scan::read(disk, &Known::default(), |record| {
            last = record.zxid;
            Ok::<(), RecoveryError>(())
        });
        read.is_ok().then_some(last)
    }

    fn store(disk: &SimStorage, known: i64, covered: i64, witnessed: i64) -> Store<'_> {
        Store {
            data: disk,
            log: disk,
            id: ID,
            start: Zxid::ZERO,
            known: Zxid(known),
            covered: Zxid(covered),
            witnessed: Zxid(witnessed),
            is_open: true,
        }
    }

    /// A bit of the newest seal rots.
    fn rot_in_newest_seal(disk: &SimStorage) -> Damage {
        let segments = store(disk, 0, 0, 0).segments();
        let places = segments.iter().flat_map(|segment| &segment.places);
        let mut seals = places.filter(|place| place.kind == Kind::Seal);
        let at = seals.next_back().expect("there is one").offset;
        let name = &segments[0].name;
        for seed in 0.. {
            let mut rng = fastrand::Rng::with_seed(seed);
            match spoil(disk, name, at, &mut rng) {
                Some((_, damage, Fault::RotOfBit)) => return damage,
                Some((_, damage, _)) => damage.mend(),
                None => panic!("the file ends before its seal"),
            }
        }
        unreachable!("one of the seeds damages a bit")
    }

    #[test]
    fn a_seal_that_rots_costs_nothing_where_the_next_transaction_follows() {
        let (disk, mut log) = seal_in_a_batch();
        rot_in_newest_seal(&disk);
        assert_eq!(recovered(&disk), Some(Zxid(5)));
        assert_eq!(store(&disk, 5, 3, 0).whole_to(), Zxid(5));
        append(&mut log, 6..=6);
        sync(&mut log);
        assert_eq!(recovered(&disk), Some(Zxid(6)));
    }

    /// The least to which a start comes that is not refused, after each of many damages.
    fn least_after(known: i64, covered: i64, is_running: bool) -> Option<Zxid> {
        let after = |seed| {
            let (disk, _) = seal_in_a_batch();
            let mut rng = fastrand::Rng::with_seed(seed);
            store(&disk, known, covered, 0).strike(is_running, &mut rng)?;
            recovered(&disk)
        };
        (0..2000).filter_map(after).min()
    }

    #[test]
    fn what_a_start_can_not_notice_is_not_damaged_unless_there_was_the_time_to_vouch_for_it() {
        assert_eq!(least_after(5, 3, false), Some(Zxid(5)));
        assert_eq!(least_after(5, 5, false), Some(Zxid(3)));
    }

    #[test]
    fn while_the_process_runs_nothing_rots_that_may_be_shown_in_the_next_moment_and_goes_unseen() {
        assert_eq!(least_after(3, 3, false), Some(Zxid(3)));
        assert_eq!(least_after(3, 3, true), Some(Zxid(5)));
    }

    #[test]
    fn nothing_rots_where_a_file_has_no_bytes() {
        let disk = SimStorage::new(1 << 20);
        disk.put("witness.log", vec![7; PAGE]);
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            for behind in [PAGE, PAGE + 700] {
                assert!(spoil(&disk, "witness.log", behind, &mut rng).is_none());
            }
            assert!(spoil(&disk, "witness.log", PAGE - 1, &mut rng).is_some());
        }
    }
}
