//! The payload of a log record: an rkyv archive of a small index and Apache's entry
//! bytes verbatim. The log treats it as opaque; proposals and diffs are sent from the entry slice.
//!
//! Archived types are one module per version and never edited once released: a newer layout is a
//! new module, and the record header's format version says which one a record has. rkyv's own
//! validation misses most bit flips, so the log checks its crc before anything here is looked at.

use super::entry::{Entry, EntryError, HEADER_BYTES};
use super::jute::Reader;
use crate::types::{OpCode, SessionId, WallMs, Zxid};
use rkyv::rancor::Error as RkyvError;
use rkyv::util::AlignedVec;

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
}

/// Archives a transaction that this server made.
pub fn encode(entry: &Entry) -> AlignedVec {
    encode_verbatim(entry, entry.encode())
}

/// Archives a transaction with the bytes that arrived.
pub fn encode_verbatim(entry: &Entry, bytes: Vec<u8>) -> AlignedVec {
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
    rkyv::to_bytes::<RkyvError>(&record).expect("archiving into memory can't fail")
}

/// (offset, length) of path and data inside the entry.
fn spans(op: OpCode, bytes: &[u8]) -> ((u32, i32), (u32, i32)) {
    const NONE: (u32, i32) = (0, -1);
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
    use crate::txn::golden::entries;
    use proptest::prelude::*;

    #[test]
    fn the_entry_is_kept_verbatim_with_an_unknown_tail() {
        for bytes in entries() {
            let entry = Entry::decode(&bytes).unwrap();
            let mut tailed = bytes.clone();
            tailed.extend([7; 5]);
            let archived = encode_verbatim(&entry, tailed.clone());
            let record = access(&archived).unwrap();
            assert_eq!(&record.entry[..], tailed);
            assert_eq!(record.decode().unwrap(), entry);
            assert_eq!(record.header(), entry.header);
        }
    }

    #[test]
    fn the_index_points_at_path_and_data() {
        let create = Entry::decode(&entries()[3]).unwrap();
        let archived = encode(&create);
        let record = access(&archived).unwrap();
        assert_eq!(record.path(), Some(&b"/a"[..]));
        assert_eq!(record.data(), Some(&b"hello"[..]));
        let close = entries().pop().unwrap();
        let archived = encode(&Entry::decode(&close).unwrap());
        assert_eq!(access(&archived).unwrap().path(), None);
    }

    #[test]
    fn golden_record_v1() {
        let archived = encode(&Entry::decode(&entries()[3]).unwrap());
        let fixture = include_bytes!("../../tests/fixtures/record/v1-create.bin");
        assert_eq!(archived.as_slice(), fixture);
    }

    proptest! {
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
