//! A segment: one preallocated file of records.
//!
//! ```text
//!  0       8        12     16         32     40      48      64       68         4096
//!  ┌───────┬────────┬──────┬──────────┬──────┬───────┬───────┬────────┬───···────┬─────────┬─────────┬──
//!  │ magic │ format │  0   │ identity │ base │ bytes │ store │ crc32c │  zeroes  │ record  │ record  │
//!  │  8 B  │  u32   │ u32  │   16 B   │ u64  │  u64  │ 16 B  │  u32   │          │         │         │
//!  └───────┴────────┴──────┴──────────┴──────┴───────┴───────┴────────┴───···────┴─────────┴─────────┴──
//! ```
//!
//! Format 1 has no store, and its checksum where the store begins. The header has a block of its own, so
//! that no torn record can touch it; it is synced before the file gets its name. Logical position of a
//! record = base + (file offset − 4096). Names: `log.<base, 16 hex digits>`; a file that waits to become
//! one is `spare.<number>`, its content means nothing: fresh ones are zero, recycled ones hold records of
//! another identity.

use super::record::{Identity, StoreId, u32_at, u64_at};
use super::storage::{File, Storage};
use crate::types::Position;
use std::io;

/// Bytes before the first record.
pub const HEADER_BLOCK: usize = 4096;
pub(super) const MAGIC: [u8; 8] = *b"RKSEGMNT";
/// The format that this server writes, and the newest it reads.
pub const FORMAT: u32 = 2;
/// What the checksum of format 1 covers, bytes; it follows.
const CRC_AT_1: usize = 48;
/// What the checksum of later formats covers, bytes; it follows.
const CRC_AT: usize = 64;

/// Header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Mixed into every record's crc.
    pub identity: Identity,
    /// Logical position of the first record.
    pub base: Position,
    /// Preallocated size of the file.
    pub bytes: u64,
    /// Whose it is; `None`: it has format 1.
    pub store: Option<StoreId>,
}

/// Why a block is no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// Damaged.
    NoHeader,
    /// Whole, of a format that this server does not know.
    Newer(u32),
}

impl SegmentHeader {
    /// The whole block.
    pub fn encode(&self) -> Vec<u8> {
        let format: u32 = if self.store.is_some() { FORMAT } else { 1 };
        let mut block = Vec::with_capacity(HEADER_BLOCK);
        block.extend(MAGIC);
        block.extend(format.to_le_bytes());
        block.extend([0; 4]);
        block.extend(self.identity.0.to_le_bytes());
        block.extend(self.base.0.to_le_bytes());
        block.extend(self.bytes.to_le_bytes());
        block.extend(self.store.map_or(Vec::new(), |s| s.0.to_le_bytes().into()));
        let crc = crc32c::crc32c(&block);
        block.extend(crc.to_le_bytes());
        block.resize(HEADER_BLOCK, 0);
        block
    }

    /// Reads a block.
    ///
    /// # Errors
    /// [`BadHeader`].
    pub fn decode(block: &[u8]) -> Result<SegmentHeader, BadHeader> {
        let block = block.get(..HEADER_BLOCK).ok_or(BadHeader::NoHeader)?;
        let format = u32_at(block, 8);
        let covered = if format == 1 { CRC_AT_1 } else { CRC_AT };
        if block[..8] != MAGIC || u32_at(block, covered) != crc32c::crc32c(&block[..covered]) {
            return Err(BadHeader::NoHeader);
        }
        if format > FORMAT {
            return Err(BadHeader::Newer(format));
        }
        let u128_at =
            |at: usize| u128::from_le_bytes(block[at..at + 16].try_into().expect("sixteen bytes"));
        Ok(SegmentHeader {
            identity: Identity(u128_at(16)),
            base: Position(u64_at(block, 32)),
            bytes: u64_at(block, 40),
            store: (format > 1).then(|| StoreId(u128_at(48))),
        })
    }

    /// File offset of a logical position.
    pub fn offset(&self, position: Position) -> u64 {
        position.0 - self.base.0 + HEADER_BLOCK as u64
    }
}

/// The name of the segment that begins at `base`.
pub fn name(base: Position) -> String {
    format!("log.{:016x}", base.0)
}

/// The base in a segment's name.
pub fn parse_name(name: &str) -> Option<Position> {
    let digits = name
        .strip_prefix("log.")
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().map(Position)
}

/// The format of a segment; `None`: its header can't be read.
///
/// # Errors
/// The operating system's.
pub fn format<S: Storage>(storage: &S, name: &str) -> io::Result<Option<u32>> {
    let mut block = vec![0; HEADER_BLOCK];
    let read = storage.open(name)?.read_at(0, &mut block)?;
    Ok(match SegmentHeader::decode(&block[..read]) {
        Ok(header) => Some(if header.store.is_some() { FORMAT } else { 1 }),
        Err(BadHeader::Newer(format)) => Some(format),
        Err(BadHeader::NoHeader) => None,
    })
}

/// The name of a spare file.
pub fn spare_name(number: u64) -> String {
    format!("spare.{number}")
}

/// The number in a spare's name.
pub fn parse_spare(name: &str) -> Option<u64> {
    name.strip_prefix("spare.")?.parse().ok()
}

/// Whether a whole spare is there, so that a log can be begun without room on the device.
pub fn has_spare<S: Storage>(storage: &S, segment_bytes: u64) -> bool {
    let is_whole = |name: &String| {
        parse_spare(name).is_some()
            && storage
                .open(name)
                .and_then(|file| file.len())
                .is_ok_and(|len| len >= segment_bytes)
    };
    storage.list().is_ok_and(|names| names.iter().any(is_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_segment_headers() {
        let fixtures = [
            (
                &include_bytes!("../../tests/fixtures/log/v1-segment.bin")[..],
                None,
                CRC_AT_1,
            ),
            (
                &include_bytes!("../../tests/fixtures/log/v2-segment.bin")[..],
                Some(StoreId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
                CRC_AT,
            ),
        ];
        for (golden, store, covered) in fixtures {
            let header = SegmentHeader {
                identity: Identity(7 << 100),
                base: Position(0x1234_5670),
                bytes: 64 << 20,
                store,
            };
            let block = header.encode();
            assert_eq!(&block[..golden.len()], golden);
            assert_eq!(SegmentHeader::decode(&block), Ok(header));
            assert_eq!(header.offset(Position(0x1234_5680)), 4096 + 16);
            for at in 0..covered + 4 {
                let mut bad = block.clone();
                bad[at] ^= 1;
                let bad = SegmentHeader::decode(&bad);
                assert_eq!(bad, Err(BadHeader::NoHeader), "byte {at}");
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(parse_name(&name(Position(0xabc))), Some(Position(0xabc)));
        assert_eq!(parse_name("log.1"), None);
        assert_eq!(parse_spare(&spare_name(12)), Some(12));
    }
}
