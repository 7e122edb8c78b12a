//! A segment: one preallocated file of records.
//!
//! ```text
//!  0       8        12     16         32     40      48       52         4096
//!  ┌───────┬────────┬──────┬──────────┬──────┬───────┬────────┬───···────┬─────────┬─────────┬──
//!  │ magic │ format │  0   │ identity │ base │ bytes │ crc32c │  zeroes  │ record  │ record  │
//!  │  8 B  │  u32   │ u32  │   16 B   │ u64  │  u64  │  u32   │          │         │         │
//!  └───────┴────────┴──────┴──────────┴──────┴───────┴────────┴───···────┴─────────┴─────────┴──
//! ```
//!
//! The header has a block of its own, so that no torn record can touch it; it is synced before the
//! file gets its name. Logical position of a record = base + (file offset − 4096). Names:
//! `log.<base, 16 hex digits>`; a file that waits to become one is `spare.<number>`, its content
//! means nothing: fresh ones are zero, recycled ones hold records of another identity.

use super::record::{Identity, u32_at, u64_at};
use crate::types::Position;

/// Bytes before the first record.
pub const HEADER_BLOCK: usize = 4096;
const MAGIC: [u8; 8] = *b"RKSEGMNT";
/// The format that this server writes, and the newest it reads.
pub const FORMAT: u32 = 1;
const CRC_AT: usize = 48;

/// Header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Mixed into every record's crc.
    pub identity: Identity,
    /// Logical position of the first record.
    pub base: Position,
    /// Preallocated size of the file.
    pub bytes: u64,
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
        let mut block = Vec::with_capacity(HEADER_BLOCK);
        block.extend(MAGIC);
        block.extend(FORMAT.to_le_bytes());
        block.extend([0; 4]);
        block.extend(self.identity.0.to_le_bytes());
        block.extend(self.base.0.to_le_bytes());
        block.extend(self.bytes.to_le_bytes());
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
        if block[..8] != MAGIC || u32_at(block, CRC_AT) != crc32c::crc32c(&block[..CRC_AT]) {
            return Err(BadHeader::NoHeader);
        }
        match u32_at(block, 8) {
            format if format > FORMAT => Err(BadHeader::Newer(format)),
            _ => Ok(SegmentHeader {
                identity: Identity(u128::from_le_bytes(
                    block[16..32].try_into().expect("sixteen bytes"),
                )),
                base: Position(u64_at(block, 32)),
                bytes: u64_at(block, 40),
            }),
        }
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

/// The name of a spare file.
pub fn spare_name(number: u64) -> String {
    format!("spare.{number}")
}

/// The number in a spare's name.
pub fn parse_spare(name: &str) -> Option<u64> {
    name.strip_prefix("spare.")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_segment_header_v1() {
        let header = SegmentHeader {
            identity: Identity(7 << 100),
            base: Position(0x1234_5670),
            bytes: 64 << 20,
        };
        let block = header.encode();
        assert_eq!(
            &block[..64],
            include_bytes!("../../tests/fixtures/log/v1-segment.bin")
        );
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        assert_eq!(header.offset(Position(0x1234_5680)), 4096 + 16);
        for at in 0..CRC_AT + 4 {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert_eq!(
                SegmentHeader::decode(&bad),
                Err(BadHeader::NoHeader),
                "byte {at}"
            );
        }
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(parse_name(&name(Position(0xabc))), Some(Position(0xabc)));
        assert_eq!(parse_name("log.1"), None);
        assert_eq!(parse_spare(&spare_name(12)), Some(12));
    }
}
