//! The payload of a log record: an rkyv archive of a small index and Apache's entry
//! bytes verbatim. The log treats it as opaque; proposals and diffs are sent from the entry slice.
//!
//! Archived types are one module per version and never edited once released: a newer layout is a
//! new module, and the record header's format version says which one a record has. rkyv's own
//! validation misses most bit flips, so the log checks its crc before anything here is looked at.
//!
//! ```text
//! payload = entry ‖ zeroes to 8 ‖ index, 72 bytes, with the distance back to the entry      v1
//! ```
//!
//! So an entry is written first and once, by its own encoder, in the buffer from which the log writes.

use super::entry::{Entry, EntryError, HEADER_BYTES, Txn};
use super::jute::Reader;
use crate::types::{OpCode, SessionId, WallMs, Zxid};
use rkyv::api::serialize_using;
use rkyv::rancor::{Error as RkyvError, Strategy};
use rkyv::ser::{Positional, Writer};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Place, Serialize};
use std::convert::Infallible;

/// Format 1.
pub mod v1 {
    use rkyv::{Archive, Deserialize, Serialize};

    /// Index and entry. Offsets count from the entry's first byte; a length of −1 is null or absent.
    #[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
    pub struct Record {
        /// Place in the order.
        pub zxid: i64,
        /// Session that asked.
        pub session: i64,
        /// Wall clock, ms.
        pub time: i64,
        /// Tree digest after the transaction; 0 if there is none.
        pub digest: u64,
        /// The request's xid.
        pub cxid: i32,
        /// Type.
        pub op: i32,
        /// Version of the digest; 0 if there is none.
        pub digest_version: i32,
        /// Where the path's bytes begin, for types whose body begins with a path.
        pub path_at: u32,
        /// Length of the path, or −1.
        pub path_len: i32,
        /// Where the data's bytes begin.
        pub data_at: u32,
        /// Length of the data, or −1.
        pub data_len: i32,
        /// Apache's serialised entry, unknown tail included.
        pub entry: Vec<u8>,
    }

    const _: () = assert!(size_of::<ArchivedRecord>() == 72);
    const _: () = assert!(align_of::<ArchivedRecord>() == 8);
}

/// Why a record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not an archived record.
    #[error("log record: {0}")]
    Archive(#[from] RkyvError),
    /// The entry inside is none.
    #[error("log record: {0}")]
    Entry(#[from] EntryError),
    /// The entry inside is another transaction than the record says.
    #[error("log record: the entry in it is of {0}")]
    Other(Zxid),
}

/// A record's payload that is not written yet: its length is known before, and it is written once, where
/// it is to stand. The bytes are those of `rkyv::to_bytes` of a [`v1::Record`].
#[derive(Debug)]
pub struct Payload<'a>(Root<'a>);

/// What archives as a [`v1::Record`] and holds no entry of its own.
#[derive(Archive, Serialize, Debug)]
#[rkyv(as = v1::ArchivedRecord, serialize_bounds(EntryBytes<'a>: Serialize<__S>))]
struct Root<'a> {
    zxid: i64,
    session: i64,
    time: i64,
    digest: u64,
    cxid: i32,
    op: i32,
    digest_version: i32,
    path_at: u32,
    path_len: i32,
    data_at: u32,
    data_len: i32,
    #[rkyv(omit_bounds)]
    entry: EntryBytes<'a>,
}

/// An entry's bytes, and how many they are.
#[derive(Debug)]
enum EntryBytes<'a> {
    /// They are made where they are to stand.
    Made(&'a Entry, usize),
    Arrived(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// Of a transaction that this server made.
    pub fn of(entry: &'a Entry) -> Payload<'a> {
        let len = entry.encoded_len();
        Payload::new(entry, made_spans(&entry.txn), EntryBytes::Made(entry, len))
    }

    /// Of a transaction with the bytes that arrived; `entry` is what they say.
    pub fn verbatim(entry: &Entry, bytes: &'a [u8]) -> Payload<'a> {
        let spans = spans(entry.header.op, bytes);
        Payload::new(entry, spans, EntryBytes::Arrived(bytes))
    }

    fn new(entry: &Entry, spans: (Span, Span), bytes: EntryBytes<'a>) -> Payload<'a> {
        let (path, data) = spans;
        let header = entry.header;
        Payload(Root {
            zxid: header.zxid.0,
            session: header.session.0,
            time: header.time.0,
            digest: entry.digest.map_or(0, |d| d.tree),
            cxid: header.cxid,
            op: header.op.0,
            digest_version: entry.digest.map_or(0, |d| d.version),
            path_at: path.0,
            path_len: path.1,
            data_at: data.0,
            data_len: data.1,
            entry: bytes,
        })
    }

    /// Bytes that [`Payload::write_into`] appends.
    #[expect(clippy::len_without_is_empty, reason = "there is always an index")]
    pub fn len(&self) -> usize {
        let entry = self.0.entry.len();
        entry.next_multiple_of(align_of::<v1::ArchivedRecord>()) + size_of::<v1::ArchivedRecord>()
    }

    /// Appends the payload.
    pub fn write_into(&self, out: &mut Vec<u8>) {
        let base = out.len();
        let mut archive = Archiver { out, base };
        let Ok(_) = serialize_using::<_, Infallible>(&self.0, &mut archive);
    }
}

/// Where rkyv writes: behind what a buffer holds. Positions count from there, so that an archive does not
/// depend on what is before it.
struct Archiver<'a> {
    out: &'a mut Vec<u8>,
    base: usize,
}

impl Positional for Archiver<'_> {
    fn pos(&self) -> usize {
        self.out.len() - self.base
    }
}

impl Writer<Infallible> for Archiver<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

impl EntryBytes<'_> {
    fn len(&self) -> usize {
        match self {
            EntryBytes::Made(_, len) => *len,
            EntryBytes::Arrived(bytes) => bytes.len(),
        }
    }
}

impl Archive for EntryBytes<'_> {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<ArchivedVec<u8>>) {
        ArchivedVec::resolve_from_len(self.len(), resolver, out);
    }
}

impl Serialize<Strategy<Archiver<'_>, Infallible>> for EntryBytes<'_> {
    fn serialize(
        &self,
        archive: &mut Strategy<Archiver<'_>, Infallible>,
    ) -> Result<VecResolver, Infallible> {
        let at = archive.pos();
        match self {
            EntryBytes::Made(entry, _) => entry.encode_into(archive.out),
            EntryBytes::Arrived(bytes) => archive.out.extend_from_slice(bytes),
        }
        debug_assert_eq!(archive.pos() - at, self.len());
        Ok(VecResolver::from_pos(at))
    }
}

/// (offset, length) of bytes inside the entry; a length of −1 is null or absent.
type Span = (u32, i32);

const NONE: Span = (0, -1);

/// Path and data of a transaction that is still to be serialised.
fn made_spans(txn: &Txn) -> (Span, Span) {
    let (path, data) = match txn {
        Txn::Create(create) => (&create.path, create.data.as_deref()),
        Txn::SetData { path, data, .. } => (path, data.as_deref()),
        Txn::Delete { path } | Txn::SetAcl { path, .. } => (path, None),
        _ => return (NONE, NONE),
    };
    let path_at = HEADER_BYTES + 4;
    let data_at = path_at + path.len() + 4;
    (
        (path_at as u32, path.len() as i32),
        data.map_or(NONE, |data| (data_at as u32, data.len() as i32)),
    )
}

/// Path and data of a serialised transaction.
fn spans(op: OpCode, bytes: &[u8]) -> (Span, Span) {
    let has_data = matches!(
        op,
        OpCode::CREATE
            | OpCode::CREATE2
            | OpCode::CREATE_CONTAINER
            | OpCode::CREATE_TTL
            | OpCode::SET_DATA
            | OpCode::RECONFIG
    );
    let has_path = has_data
        || matches!(
            op,
            OpCode::DELETE | OpCode::DELETE_CONTAINER | OpCode::SET_ACL
        );
    let Some(body) = bytes.get(HEADER_BYTES..).filter(|_| has_path) else {
        return (NONE, NONE);
    };
    let mut r = Reader::new(body);
    let span = |r: &mut Reader<'_>| match r.buf() {
        Ok(Some(slice)) => {
            let end = bytes.len() - r.rest().len();
            ((end - slice.len()) as u32, slice.len() as i32)
        }
        _ => NONE,
    };
    let path = span(&mut r);
    (path, if has_data { span(&mut r) } else { NONE })
}

/// Reads a record in place, validated. `bytes` must be 8-aligned, as payloads in a segment are.
///
/// # Errors
/// [`RecordError::Archive`].
pub fn access(bytes: &[u8]) -> Result<&v1::ArchivedRecord, RecordError> {
    Ok(rkyv::access::<v1::ArchivedRecord, RkyvError>(bytes)?)
}

impl v1::ArchivedRecord {
    /// The transaction, decoded.
    ///
    /// # Errors
    /// [`RecordError::Entry`].
    pub fn decode(&self) -> Result<Entry, RecordError> {
        Ok(Entry::decode(&self.entry)?)
    }

    /// The index' header fields: (session, cxid, zxid, time, type).
    pub fn header(&self) -> super::TxnHeader {
        super::TxnHeader {
            session: SessionId(self.session.to_native()),
            cxid: self.cxid.to_native(),
            zxid: Zxid(self.zxid.to_native()),
            time: WallMs(self.time.to_native()),
            op: OpCode(self.op.to_native()),
        }
    }

    /// Path bytes, for the types whose body begins with one.
    pub fn path(&self) -> Option<&[u8]> {
        slice(
            &self.entry,
            self.path_at.to_native(),
            self.path_len.to_native(),
        )
    }

    /// Data bytes, if there are any and they are not null.
    pub fn data(&self) -> Option<&[u8]> {
        slice(
            &self.entry,
            self.data_at.to_native(),
            self.data_len.to_native(),
        )
    }
}

fn slice(entry: &[u8], at: u32, len: i32) -> Option<&[u8]> {
    let at = at as usize;
    entry.get(at..at + usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::{any_entry, entries};
    use proptest::prelude::*;
    use rkyv::util::AlignedVec;

    fn archive(payload: &Payload<'_>) -> AlignedVec {
        let mut out = Vec::new();
        payload.write_into(&mut out);
        assert_eq!(out.len(), payload.len());
        let mut aligned = AlignedVec::new();
        aligned.extend_from_slice(&out);
        aligned
    }

    /// As rkyv archives the whole record.
    fn copied(entry: &Entry, bytes: Vec<u8>) -> AlignedVec {
        let (path, data) = spans(entry.header.op, &bytes);
        let record = v1::Record {
            zxid: entry.header.zxid.0,
            session: entry.header.session.0,
            time: entry.header.time.0,
            digest: entry.digest.map_or(0, |d| d.tree),
            cxid: entry.header.cxid,
            op: entry.header.op.0,
            digest_version: entry.digest.map_or(0, |d| d.version),
            path_at: path.0,
            path_len: path.1,
            data_at: data.0,
            data_len: data.1,
            entry: bytes,
        };
        rkyv::to_bytes::<RkyvError>(&record).unwrap()
    }

    #[test]
    fn the_entry_is_kept_verbatim_with_an_unknown_tail() {
        for bytes in entries() {
            let entry = Entry::decode(&bytes).unwrap();
            let mut tailed = bytes.clone();
            tailed.extend([7; 5]);
            let archived = archive(&Payload::verbatim(&entry, &tailed));
            let record = access(&archived).unwrap();
            assert_eq!(&record.entry[..], tailed);
            assert_eq!(record.decode().unwrap(), entry);
            assert_eq!(record.header(), entry.header);
        }
    }

    #[test]
    fn the_index_points_at_path_and_data() {
        let create = Entry::decode(&entries()[3]).unwrap();
        let archived = archive(&Payload::of(&create));
        let record = access(&archived).unwrap();
        assert_eq!(record.path(), Some(&b"/a"[..]));
        assert_eq!(record.data(), Some(&b"hello"[..]));
        let close = entries().pop().unwrap();
        let archived = archive(&Payload::of(&Entry::decode(&close).unwrap()));
        assert_eq!(access(&archived).unwrap().path(), None);
    }

    #[test]
    fn golden_record_v1() {
        let archived = archive(&Payload::of(&Entry::decode(&entries()[3]).unwrap()));
        let fixture = include_bytes!("../../tests/fixtures/record/v1-create.bin");
        assert_eq!(archived.as_slice(), fixture);
    }

    proptest! {
        #[test]
        fn a_payload_written_in_place_is_the_archive_of_its_record(
            entry in any_entry(),
            tail in any::<Vec<u8>>(),
            before in any::<Vec<u8>>(),
        ) {
            let mut bytes = entry.encode();
            prop_assert_eq!(entry.encoded_len(), bytes.len());
            let mut out = before.clone();
            Payload::of(&entry).write_into(&mut out);
            prop_assert_eq!(&out[..before.len()], &before);
            let expected = copied(&entry, bytes.clone());
            prop_assert_eq!(&out[before.len()..], expected.as_slice());
            bytes.extend(tail);
            let arrived = archive(&Payload::verbatim(&entry, &bytes));
            let record = access(&arrived).unwrap();
            prop_assert_eq!(&record.entry[..], bytes.as_slice());
            let expected = copied(&entry, bytes);
            prop_assert_eq!(arrived.as_slice(), expected.as_slice());
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let mut aligned = AlignedVec::<16>::new();
            aligned.extend_from_slice(&bytes);
            if let Ok(record) = access(&aligned) {
                let _ = (record.decode(), record.path(), record.data());
            }
            let _ = Entry::decode(&bytes);
        }
    }
}
