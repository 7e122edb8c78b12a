//! A record of the log: a header of fixed layout, framed by hand, and an opaque payload.
//!
//! ```text
//!  0        4        8      9      10       16       24         32           40             48
//!  ┌────────┬────────┬──────┬──────┬────────┬────────┬──────────┬────────────┬──────────────┬─────────┐
//!  │ crc32c │ length │ kind │format│ zeroes │  zxid  │ position │ durable_to │ committed_to │ payload │
//!  │  u32   │  u32   │  u8  │  u8  │   6 B  │  i64   │   u64    │    u64     │     i64      │  + pad  │
//!  └────────┴────────┴──────┴──────┴────────┴────────┴──────────┴────────────┴──────────────┴─────────┘
//! ```
//!
//! Little-endian, 16-aligned: the payload is an archive that is read in place. The crc comes first
//! because it covers all the rest, and before it the segment's identity, which is stored nowhere in
//! a record: bytes of another segment, or bytes that a client stored, can't pass for a record.
//! `position` is the record's own logical place, so a record found by scanning proves where it is.
//! `length` counts the payload without its padding to 16.

use crate::types::{Position, Zxid};

/// Bytes of a header.
pub const HEADER: usize = 48;
/// Every record begins at a multiple of this.
pub const ALIGN: usize = 16;
/// The format that this server writes, and the newest it reads.
pub const FORMAT: u8 = 2;

const _: () = assert!(HEADER.is_multiple_of(ALIGN));

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Carries a transaction.
    Txn = 1,
    /// Carries nothing but `durable_to`: says that everything before was synced.
    Seal = 2,
    /// Marks a change of history; for ensembles. Carries a [`super::fence::Fence`].
    Fence = 3,
    /// Carries zeroes, up to the end of a page: what follows stands in another one. From format 2 on.
    Filler = 4,
    /// Carries a transaction within a bracket: whether it counts, the fences say. So whoever meets one, wherever
    /// reading begins, knows that it proves nothing about what stands before it. Members write it, from format 2 on.
    Adopted = 5,
}

impl Kind {
    /// Only the log of a member of an ensemble has it.
    pub fn is_members(self) -> bool {
        matches!(self, Kind::Fence | Kind::Adopted)
    }

    /// Whether it carries a transaction.
    pub fn is_transaction(self) -> bool {
        matches!(self, Kind::Txn | Kind::Adopted)
    }
}

/// A segment's 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(pub u128);

/// A store's 128 random bits, in each of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(pub u128);

/// Thirty-two hexadecimal digits.
impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A header and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub kind: Kind,
    /// The transaction's; in other kinds that of the last transaction before, and in an open bracket the greater one
    /// of the two histories.
    pub zxid: Zxid,
    /// Where it begins.
    pub position: Position,
    /// Everything below was synced when this was written.
    pub durable_to: Position,
    /// Everything up to here was committed when this was written.
    pub committed_to: Zxid,
    /// Opaque.
    pub payload: &'a [u8],
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Torn, stale, zero, or damaged.
    NoRecord,
    /// Whole, and of a format that this server does not know.
    Newer(u8),
}

/// Bytes that a record with this payload takes.
pub const fn size(payload: usize) -> usize {
    HEADER + payload.next_multiple_of(ALIGN)
}

impl Identity {
    /// With what the checksum of each record begins.
    pub(super) fn seed(self) -> Seed {
        Seed(crc32c::crc32c(&self.0.to_le_bytes()))
    }
}

/// The checksum of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

/// A record's header, for a payload that is not there yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) zxid: Zxid,
    pub(super) position: Position,
    pub(super) durable_to: Position,
    pub(super) committed_to: Zxid,
}

impl Head {
    /// Appends a record whose payload of `len` bytes `write` appends, in place.
    ///
    /// # Panics
    /// `write` has appended more or fewer; nothing of the record is left.
    pub(super) fn append(
        &self,
        seed: Seed,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.reserve(size(len));
        out.extend_from_slice(&self.encode(len));
        write(out);
        let end = start + HEADER + len;
        if out.len() != end {
            let written = out.len() - start;
            out.truncate(start);
            panic!("a record of {written} bytes, {} were to come", HEADER + len);
        }
        let crc = crc32c::crc32c_append(seed.0, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        out.resize(start + size(len), 0);
    }

    /// Without the checksum.
    fn encode(&self, len: usize) -> [u8; HEADER] {
        let length = u32::try_from(len).expect("a segment holds it");
        let mut header = [0; HEADER];
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8] = self.kind as u8;
        header[9] = FORMAT;
        header[16..24].copy_from_slice(&self.zxid.0.to_le_bytes());
        header[24..32].copy_from_slice(&self.position.0.to_le_bytes());
        header[32..40].copy_from_slice(&self.durable_to.0.to_le_bytes());
        header[40..].copy_from_slice(&self.committed_to.0.to_le_bytes());
        header
    }
}

impl<'a> Record<'a> {
    /// Appends the record.
    pub fn encode_into(&self, identity: Identity, out: &mut Vec<u8>) {
        let head = Head {
            kind: self.kind,
            zxid: self.zxid,
            position: self.position,
            durable_to: self.durable_to,
            committed_to: self.committed_to,
        };
        let write = |out: &mut Vec<u8>| out.extend_from_slice(self.payload);
        head.append(identity.seed(), self.payload.len(), write, out);
    }

    /// Bytes of payload that the record at `position` says it has, given at least its header; `None`: it
    /// is no record, or another's.
    pub fn payload_len(position: Position, header: &[u8]) -> Option<usize> {
        let header: &[u8; HEADER] = header.first_chunk()?;
        (u64_at(header, 24) == position.0).then(|| u32_at(header, 4) as usize)
    }

    /// Reads the record that begins at `bytes[0]`, which is the logical `position`. The position is
    /// compared first: it is what makes scanning for the next record cheap.
    ///
    /// # Errors
    /// [`Bad`].
    pub fn decode(
        identity: Identity,
        position: Position,
        bytes: &'a [u8],
    ) -> Result<Record<'a>, Bad> {
        let payload = Record::framed(position, bytes).ok_or(Bad::NoRecord)?;
        let end = HEADER + payload.len();
        if u32_at(bytes, 0) != checksum(identity, &bytes[4..end]) {
            return Err(Bad::NoRecord);
        }
        Record::parse(position, bytes)
    }

    /// The payload of what says that it is the record at `position`, as long as it says.
    fn framed(position: Position, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let length = Record::payload_len(position, bytes)?;
        bytes[HEADER..].get(..length)
    }

    /// As [`Record::decode`], without the checksum: for who has lost the identity.
    ///
    /// # Errors
    /// [`Bad`].
    pub(super) fn parse(position: Position, bytes: &'a [u8]) -> Result<Record<'a>, Bad> {
        let payload = Record::framed(position, bytes).ok_or(Bad::NoRecord)?;
        let header = &bytes[..HEADER];
        if header[9] > FORMAT {
            return Err(Bad::Newer(header[9]));
        }
        let kind = match header[8] {
            1 => Kind::Txn,
            2 => Kind::Seal,
            3 => Kind::Fence,
            4 => Kind::Filler,
            5 => Kind::Adopted,
            _ => return Err(Bad::NoRecord),
        };
        Ok(Record {
            kind,
            zxid: Zxid(u64_at(header, 16) as i64),
            position,
            durable_to: Position(u64_at(header, 32)),
            committed_to: Zxid(u64_at(header, 40) as i64),
            payload,
        })
    }

    /// Whether nothing behind `after` can lie before this record.
    pub fn is_first_needed(&self, after: Zxid) -> bool {
        match self.kind {
            Kind::Txn => self.zxid <= after.next(),
            Kind::Seal | Kind::Fence | Kind::Filler => self.zxid <= after,
            // If its bracket is void, what it would have replaced counts.
            Kind::Adopted => false,
        }
    }

    /// Where the next record begins.
    pub fn end(&self) -> Position {
        self.position.plus(size(self.payload.len()) as u64)
    }
}

fn checksum(identity: Identity, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(identity.seed().0, bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: Identity = Identity(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

    fn sample(payload: &[u8]) -> Record<'_> {
        Record {
            kind: Kind::Txn,
            zxid: Zxid(0x1_0000_0007),
            position: Position(4096),
            durable_to: Position(4000),
            committed_to: Zxid(0x1_0000_0005),
            payload,
        }
    }

    #[test]
    fn golden_records() {
        let first = include_bytes!("../../tests/fixtures/log/v1-record.bin");
        let read = Record::decode(IDENTITY, Position(4096), first);
        assert_eq!(read, Ok(sample(b"payload")));
        let mut bytes = Vec::new();
        sample(b"payload").encode_into(IDENTITY, &mut bytes);
        let second = include_bytes!("../../tests/fixtures/log/v2-record.bin");
        assert_eq!(bytes, second);
        assert_eq!(bytes.len(), 64);
        assert_eq!(&bytes[24..32], &4096u64.to_le_bytes());
    }

    #[test]
    fn a_newer_format_is_named_and_a_foreign_identity_is_no_record() {
        let mut bytes = Vec::new();
        sample(b"payload").encode_into(IDENTITY, &mut bytes);
        let read =
            |identity, position, bytes: &[u8]| Record::decode(identity, position, bytes).map(drop);
        assert_eq!(read(IDENTITY, Position(4096), &bytes), Ok(()));
        assert_eq!(
            read(Identity(1), Position(4096), &bytes),
            Err(Bad::NoRecord)
        );
        assert_eq!(read(IDENTITY, Position(0), &bytes), Err(Bad::NoRecord));
        assert_eq!(read(IDENTITY, Position(0), &[0; 4096]), Err(Bad::NoRecord));
        bytes[9] = 9;
        let crc = checksum(IDENTITY, &bytes[4..HEADER + 7]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read(IDENTITY, Position(4096), &bytes), Err(Bad::Newer(9)));
    }

    #[test]
    fn a_payload_of_another_length_than_announced_leaves_nothing_of_its_record() {
        let head = Head {
            kind: Kind::Txn,
            zxid: Zxid(1),
            position: Position(0),
            durable_to: Position(0),
            committed_to: Zxid(0),
        };
        for written in [0, 6, 8, 4000] {
            let mut out = b"before".to_vec();
            let append = std::panic::AssertUnwindSafe(|| {
                let write = |out: &mut Vec<u8>| out.resize(out.len() + written, 1);
                head.append(IDENTITY.seed(), 7, write, &mut out);
            });
            assert!(std::panic::catch_unwind(append).is_err(), "{written}");
            assert_eq!(out, b"before");
        }
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(payload in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut bytes = Vec::new();
            sample(&payload).encode_into(IDENTITY, &mut bytes);
            prop_assert_eq!(Record::decode(IDENTITY, Position(4096), &bytes), Ok(sample(&payload)));
            let at = at.index(HEADER + payload.len()); // the padding carries nothing
            bytes[at] ^= 1 << bit;
            prop_assert!(Record::decode(IDENTITY, Position(4096), &bytes).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            prop_assert!(Record::decode(IDENTITY, Position(0), &bytes).is_err());
        }
    }
}
