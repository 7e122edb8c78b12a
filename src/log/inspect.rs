//! What stands in a file of a store, piece by piece, for an operator who looks. Nothing is changed,
//! nothing is judged by what stands in other files, and behind damage the reading goes on: also in a
//! file because of which a start is refused.

use super::error::RecoveryError;
use super::member_record::{self, MemberRecord};
use super::pieces::Pieces;
use super::record::{ALIGN, Bad, HEADER, Identity, Record, size};
use super::segment::{self, BadHeader, HEADER_BLOCK, SegmentHeader};
use super::snapshot_file::{self, Root, SnapshotError, SnapshotHeader};
use super::storage::{File, Storage};
use super::witness::{self, Content, Reader, Witness};
use crate::types::Position;
use std::io;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A segment of the log, or what waits to become one.
    Segment,
    /// A snapshot.
    Snapshot,
    /// A witness.
    Witness,
}

/// One thing in a file; it begins at the offset that comes with it.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The header of a segment.
    Segment(SegmentHeader),
    /// A record of that segment.
    Record {
        /// The record.
        record: Record<'a>,
        /// Its checksum was compared: that needs the segment's header.
        is_checked: bool,
    },
    /// A whole record, or file, of a format that this version does not know.
    Newer {
        /// What it says.
        format: u32,
    },
    /// The header of a snapshot.
    Snapshot(SnapshotHeader),
    /// A piece of the snapshot's body that passes its checksum.
    Chunk {
        /// Length.
        bytes: usize,
    },
    /// The footer of a snapshot.
    Root {
        /// Length of the body.
        bytes: u64,
        /// Identity.
        root: Root,
    },
    /// A slot of a witness.
    Witness(Witness),
    /// What a member of an ensemble promises, in that slot.
    Member(MemberRecord),
    /// Nothing but zeroes.
    Zeroes {
        /// Where they end.
        to: u64,
    },
    /// Behind the last record: what was torn, or stood in the file before it became this segment.
    Rest {
        /// Where the file, or what was asked for, ends.
        to: u64,
    },
    /// Not what has to be there.
    Damage {
        /// What follows begins here.
        to: u64,
        /// What is missing.
        what: &'static str,
    },
    /// The device can't read it.
    Unreadable {
        /// What follows begins here.
        to: u64,
        /// What the device says.
        error: io::Error,
    },
}

/// Takes one thing after the other.
pub type Sink<'a> = dyn FnMut(u64, Seen<'_>) + 'a;

/// What a file is by its first bytes; if those are damaged, by its name.
///
/// # Errors
/// The file can't be opened.
pub fn kind<S: Storage>(storage: &S, name: &str) -> io::Result<Option<FileKind>> {
    let mut magic = [0; 8];
    let file = storage.open(name)?;
    // What can't be read stays zero.
    let _ = file.read_at(0, &mut magic);
    let by_magic = match magic {
        segment::MAGIC => Some(FileKind::Segment),
        snapshot_file::MAGIC => Some(FileKind::Snapshot),
        witness::MAGIC => Some(FileKind::Witness),
        _ => None,
    };
    let prefixes = [
        ("log.", FileKind::Segment),
        ("spare.", FileKind::Segment),
        ("snap.", FileKind::Snapshot),
        ("witness.", FileKind::Witness),
    ];
    let by_name = || prefixes.iter().find(|(prefix, _)| name.starts_with(prefix));
    Ok(by_magic.or_else(|| by_name().map(|&(_, kind)| kind)))
}

/// Everything in a segment, up to the position `until`. Where its header is damaged, records are known by
/// their places only.
///
/// # Errors
/// The file can't be opened.
pub fn segment<S: Storage>(
    storage: &S,
    name: &str,
    until: Option<Position>,
    sink: &mut Sink<'_>,
) -> io::Result<()> {
    let mut pieces = Pieces::read(storage.open(name)?)?;
    let header = segment_header(&mut pieces, sink);
    let named = segment::parse_name(name).unwrap_or_default();
    let place = Place {
        identity: header.map(|header| header.identity),
        base: header.map_or(named, |header| header.base),
    };
    let until = until.map_or(u64::MAX, |until| place.offset(until));
    let limit = until.min(pieces.len());
    let (mut at, mut hole) = (HEADER_BLOCK as u64, None);
    while at < limit {
        let end = match place.look(&mut pieces, at) {
            Look::Seen(seen, end) => {
                if let Some(Hole { from, .. }) = hole.take() {
                    let what = "no record, and others behind it";
                    sink(from, Seen::Damage { to: at, what });
                }
                sink(at, seen);
                end
            }
            Look::Nothing { is_zero } => {
                let from = at;
                hole.get_or_insert(Hole {
                    from,
                    is_zero: true,
                })
                .is_zero &= is_zero;
                at + ALIGN as u64
            }
            Look::Unreadable(error) => {
                let to = (at + SECTOR) / SECTOR * SECTOR;
                hole.get_or_insert(Hole {
                    from: at,
                    is_zero: false,
                });
                sink(at, Seen::Unreadable { to, error });
                to
            }
        };
        at = end;
    }
    match hole {
        Some(Hole { from, is_zero }) if is_zero => sink(from, Seen::Zeroes { to: limit }),
        Some(Hole { from, .. }) => sink(from, Seen::Rest { to: limit }),
        None => {}
    }
    Ok(())
}

/// What is unreadable is looked at again behind so many bytes.
const SECTOR: u64 = 512;

/// Bytes that are no record.
struct Hole {
    from: u64,
    is_zero: bool,
}

/// What stands at a place of a segment, and where that ends.
enum Look<'a> {
    Seen(Seen<'a>, u64),
    Nothing { is_zero: bool },
    Unreadable(io::Error),
}

/// What a record of a segment has to know.
struct Place {
    /// `None`: the header is damaged.
    identity: Option<Identity>,
    base: Position,
}

impl Place {
    fn offset(&self, position: Position) -> u64 {
        HEADER_BLOCK as u64 + position.0.saturating_sub(self.base.0)
    }

    fn look<'a, F: File>(&self, pieces: &'a mut Pieces<F>, at: u64) -> Look<'a> {
        let position = self.base.plus(at - HEADER_BLOCK as u64);
        let left = pieces.len() - at;
        let payload = match pieces.get(at, HEADER.min(left as usize)) {
            Ok(head) => head.and_then(|head| Record::payload_len(position, head)),
            Err(error) => return Look::Unreadable(error),
        };
        let whole = payload.map_or(0, |payload| (HEADER + payload) as u64);
        let bytes = match whole {
            0 => ALIGN as u64,
            whole => whole,
        };
        let bytes = match pieces.get(at, bytes.min(left) as usize) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => return Look::Unreadable(error),
        };
        let is_zero = bytes.iter().all(|byte| *byte == 0);
        let end = at + size(payload.unwrap_or(0)) as u64;
        let decoded = match self.identity {
            Some(identity) => Record::decode(identity, position, bytes),
            None => Record::parse(position, bytes),
        };
        match decoded {
            Ok(record) => {
                let is_checked = self.identity.is_some();
                Look::Seen(Seen::Record { record, is_checked }, end)
            }
            Err(Bad::Newer(format)) => {
                let format = format.into();
                Look::Seen(Seen::Newer { format }, end)
            }
            Err(Bad::NoRecord) => Look::Nothing { is_zero },
        }
    }
}

fn segment_header<F: File>(pieces: &mut Pieces<F>, sink: &mut Sink<'_>) -> Option<SegmentHeader> {
    let to = HEADER_BLOCK as u64;
    let block = match pieces.get(0, HEADER_BLOCK) {
        Ok(block) => block.unwrap_or_default(),
        Err(error) => {
            sink(0, Seen::Unreadable { to, error });
            return None;
        }
    };
    match SegmentHeader::decode(block) {
        Ok(header) => {
            sink(0, Seen::Segment(header));
            Some(header)
        }
        Err(BadHeader::Newer(format)) => {
            sink(0, Seen::Newer { format });
            None
        }
        Err(BadHeader::NoHeader) => {
            let what = "no segment header: the records are not checked";
            sink(0, Seen::Damage { to, what });
            None
        }
    }
}

/// Everything in a snapshot. Behind a damaged chunk the next one is looked for where the damaged one says
/// that it ends.
///
/// # Errors
/// The file can't be opened.
pub fn snapshot<S: Storage>(storage: &S, name: &str, sink: &mut Sink<'_>) -> io::Result<()> {
    let mut pieces = Pieces::read(storage.open(name)?)?;
    let len = pieces.len();
    let header = match snapshot_file::header(&mut pieces, name) {
        Ok(header) => header,
        Err(error) => {
            failed(error, 0, len, sink);
            return Ok(());
        }
    };
    sink(0, Seen::Snapshot(header));
    let (mut at, mut bytes, mut hash) = (header.bytes() as u64, 0, blake3::Hasher::new());
    loop {
        let before = at;
        match snapshot_file::read_chunk(&mut pieces, name, at) {
            Ok(Some(chunk)) => {
                hash.update(chunk);
                bytes += chunk.len() as u64;
                at += 8 + chunk.len() as u64;
                let bytes = chunk.len();
                sink(before, Seen::Chunk { bytes });
            }
            Ok(None) => break,
            Err(error) => {
                let next = snapshot_file::behind_chunk(&mut pieces, at);
                failed(error, at, next.unwrap_or(len), sink);
                match next {
                    Some(next) => at = next,
                    None => return Ok(()),
                }
            }
        }
    }
    let at = at + 4;
    match snapshot_file::footer(&mut pieces, name, at) {
        Ok((said, root)) => {
            sink(at, Seen::Root { bytes: said, root });
            if said != bytes || root != *hash.finalize().as_bytes() {
                let what = "a footer that does not fit the body";
                sink(at, Seen::Damage { to: len, what });
            }
        }
        Err(error) => failed(error, at, len, sink),
    }
    Ok(())
}

fn failed(error: SnapshotError, at: u64, to: u64, sink: &mut Sink<'_>) {
    match error {
        SnapshotError::Damaged { offset, what, .. } => sink(offset, Seen::Damage { to, what }),
        SnapshotError::Newer { format, .. } => sink(at, Seen::Newer { format }),
        SnapshotError::Io(error) | SnapshotError::Denied { source: error, .. } => {
            sink(at, Seen::Unreadable { to, error })
        }
        SnapshotError::Foreign { .. } => unreachable!("nobody has asked whose it is"),
    }
}

/// The two slots of a witness.
///
/// # Errors
/// The file can't be opened.
pub fn witness<S: Storage>(storage: &S, name: &str, sink: &mut Sink<'_>) -> io::Result<()> {
    let file = storage.open(name)?;
    for nth in 0..2 {
        let at = nth * witness::SLOT as u64;
        let to = at + witness::SLOT as u64;
        let mut slot = vec![0; witness::SLOT];
        let read = match file.read_at(at, &mut slot) {
            Ok(read) => read,
            Err(error) => {
                sink(at, Seen::Unreadable { to, error });
                continue;
            }
        };
        let seen = match Content::decode(&slot[..read], name, at, Reader::Any) {
            Ok(Some(Content { witness, member })) => {
                sink(at, Seen::Witness(witness));
                if let Some(member) = member {
                    sink(at + member_record::BEGIN as u64, Seen::Member(member));
                }
                continue;
            }
            // Only a store that was never written to again has one.
            Ok(None) if read == slot.len() && slot.iter().all(|byte| *byte == 0) => {
                Seen::Zeroes { to }
            }
            Ok(None) => Seen::Damage {
                to,
                what: "a torn or damaged slot",
            },
            Err(RecoveryError::Newer { format, .. }) => Seen::Newer { format },
            Err(_) => Seen::Damage {
                to,
                what: "a slot that no server of this version takes",
            },
        };
        sink(at, seen);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::{Kind, StoreId};
    use crate::log::{Identities, Known, LogConfig, LogEnd, RecoveryError, Scan, Standing};
    use crate::sim::disk::SimStorage;
    use crate::types::{ServerId, Zxid};

    const STORE: StoreId = StoreId(9);

    /// A segment with records 1 to 4 of 100 bytes, each in a page of its own or behind the one before, and
    /// the offsets of these records.
    fn written() -> (SimStorage, String, Vec<u64>) {
        let disk = SimStorage::new(8 << 20);
        let identities: Identities = Box::new(|| 5);
        let scan = Scan::read(&disk, &Known::default(), |_| Ok::<(), RecoveryError>(())).unwrap();
        let config = LogConfig {
            segment_bytes: 64 << 10,
        };
        let mut log = scan.open(config, identities, STORE, Zxid::ZERO).unwrap();
        let mut offsets = Vec::new();
        for zxid in 1..=4 {
            offsets.push(HEADER_BLOCK as u64 + log.end().position.0);
            log.append(Zxid(zxid), &[zxid as u8; 100]).unwrap();
            let ticket = log.begin_sync().unwrap();
            log.synced(ticket.run()).unwrap();
        }
        (disk, segment::name(Position(0)), offsets)
    }

    /// Transactions as (offset, zxid, checked), everything else by its name and both its ends.
    fn seen(disk: &SimStorage, name: &str, until: Option<Position>) -> Vec<String> {
        let mut all = Vec::new();
        let mut sink = |at: u64, seen: Seen<'_>| {
            all.push(match seen {
                Seen::Segment(header) => format!("{at} segment {:?}", header.store),
                Seen::Record { record, is_checked } if record.kind == Kind::Txn => {
                    format!("{at} {} {is_checked}", record.zxid.0)
                }
                Seen::Record { .. } => return,
                Seen::Zeroes { to } => format!("{at} zeroes {to}"),
                Seen::Rest { to } => format!("{at} rest {to}"),
                Seen::Damage { to, .. } => format!("{at} damage {to}"),
                other => format!("{at} {other:?}"),
            });
        };
        segment(disk, name, until, &mut sink).unwrap();
        all
    }

    fn flip(disk: &SimStorage, name: &str, at: u64) {
        let file = disk.open(name).unwrap();
        let mut byte = [0];
        file.read_at(at, &mut byte).unwrap();
        file.write_at(at, &[byte[0] ^ 1]).unwrap();
    }

    #[test]
    fn every_record_of_a_whole_segment_is_seen_in_its_place() {
        let (disk, name, offsets) = written();
        let mut expected = vec![format!("0 segment {:?}", Some(STORE))];
        let records = offsets.iter().zip(1..);
        expected.extend(records.map(|(at, zxid)| format!("{at} {zxid} true")));
        let end = offsets[3] + size(100) as u64;
        expected.push(format!("{end} zeroes 65536"));
        assert_eq!(seen(&disk, &name, None), expected);
    }

    #[test]
    fn behind_a_damaged_record_the_others_are_seen() {
        let (disk, name, offsets) = written();
        flip(&disk, &name, offsets[1] + 60);
        let seen = seen(&disk, &name, None);
        assert_eq!(seen[2], format!("{} damage {}", offsets[1], offsets[2]));
        assert_eq!(seen[3], format!("{} 3 true", offsets[2]));
    }

    #[test]
    fn behind_a_damaged_header_records_are_seen_and_not_checked() {
        let (disk, name, offsets) = written();
        flip(&disk, &name, 20);
        let seen = seen(&disk, &name, None);
        assert_eq!(seen[0], "0 damage 4096");
        assert_eq!(seen[1], format!("{} 1 false", offsets[0]));
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn what_follows_the_last_record_is_no_damage() {
        let (disk, name, offsets) = written();
        flip(&disk, &name, offsets[3] + 60);
        let all = seen(&disk, &name, None);
        assert_eq!(all[4], format!("{} rest 65536", offsets[3]));
        let until = Position(offsets[2] - HEADER_BLOCK as u64);
        let some = seen(&disk, &name, Some(until));
        assert_eq!(some, all[..3]);
    }

    #[test]
    fn a_members_slot_shows_its_record_too() {
        let disk = SimStorage::new(1 << 20);
        let record = MemberRecord::new(ServerId(9), Standing::Maimed);
        let content = Content {
            witness: Witness::first(STORE, Position(0)),
            member: Some(record.clone()),
        };
        witness::write_content(&disk, &disk, &content, witness::ANY).unwrap();
        let mut seen = Vec::new();
        let mut sink = |at: u64, what: Seen<'_>| match what {
            Seen::Witness(witness) => assert_eq!((at % 4096, witness), (0, content.witness)),
            Seen::Member(member) => seen.push((at, member)),
            other => panic!("{other:?}"),
        };
        witness(&disk, "witness.data", &mut sink).unwrap();
        assert_eq!(seen, [(128, record.clone()), (4096 + 128, record)]);
    }

    #[test]
    fn a_witness_shows_both_slots_and_which_of_them_is_damaged() {
        let disk = SimStorage::new(1 << 20);
        let first = Witness::first(STORE, Position(0));
        let second = first.renewed(LogEnd::default(), Position(0));
        witness::write(&disk, &disk, &first).unwrap();
        let slots = || {
            let mut slots = Vec::new();
            let mut sink = |at: u64, seen: Seen<'_>| {
                slots.push(match seen {
                    Seen::Witness(witness) => (at, Some(witness)),
                    Seen::Zeroes { .. } => (at, None),
                    other => panic!("{at} {other:?}"),
                });
            };
            witness(&disk, "witness.log", &mut sink).unwrap();
            slots
        };
        assert_eq!(slots(), [(0, Some(first)), (4096, Some(first))]);
        witness::write(&disk, &disk, &second).unwrap();
        assert_eq!(slots(), [(0, Some(first)), (4096, Some(second))]);
        flip(&disk, "witness.log", 4100);
        let mut damaged = Vec::new();
        let mut sink = |at: u64, seen: Seen<'_>| {
            if let Seen::Damage { to, .. } = seen {
                damaged.push((at, to));
            }
        };
        witness(&disk, "witness.log", &mut sink).unwrap();
        assert_eq!(damaged, [(4096, 8192)]);
        assert_eq!(
            kind(&disk, "witness.data").unwrap(),
            Some(FileKind::Witness)
        );
    }

    #[test]
    fn behind_a_damaged_chunk_of_a_snapshot_the_next_ones_are_seen() {
        let disk = SimStorage::new(8 << 20);
        let mut writer = snapshot_file::SnapshotWriter::create(&disk, Zxid(7), STORE).unwrap();
        for piece in 0..3u8 {
            writer.push(&[piece; snapshot_file::CHUNK]).unwrap();
        }
        let written = writer.finish().unwrap();
        let name = snapshot_file::name(Zxid(7));
        let look = || {
            let (mut chunks, mut roots, mut damage) = (Vec::new(), Vec::new(), Vec::new());
            let mut sink = |at: u64, seen: Seen<'_>| match seen {
                Seen::Snapshot(header) => assert_eq!(header.store, Some(STORE)),
                Seen::Chunk { .. } => chunks.push(at),
                Seen::Root { root, .. } => roots.push(root),
                Seen::Damage { .. } => damage.push(at),
                other => panic!("{at} {other:?}"),
            };
            snapshot(&disk, &name, &mut sink).unwrap();
            (chunks, roots, damage)
        };
        let (chunks, roots, damage) = look();
        assert_eq!((chunks.len(), damage.len()), (3, 0));
        assert_eq!(roots, [written.root]);
        flip(&disk, &name, chunks[1] + 100);
        let (left, roots, damage) = look();
        assert_eq!(left, [chunks[0], chunks[2]]);
        assert_eq!(roots, [written.root]);
        assert_eq!(damage[0], chunks[1]);
        assert_eq!(damage.len(), 2, "the root does not fit what is left");
    }
}
