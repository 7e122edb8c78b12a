//! A snapshot on disk: an opaque body in checksummed chunks, with a root hash as its identity.
//!
//! ```text
//! file   = header ‖ chunk* ‖ end ‖ footer                                     little-endian
//! header = magic 8 B ‖ format u32 ‖ 0 u32 ‖ zxid i64 ‖ store 16 B ‖ crc32c u32 ‖ 0 u32     48 bytes
//! chunk  = length u32 (1..=64 KiB) ‖ crc32c u32 ‖ bytes
//! end    = 0 u32
//! footer = body length u64 ‖ blake3 of the body 32 B ‖ crc32c u32             44 bytes
//! ```
//!
//! Format 1 has no store in its header, which has 32 bytes then.
//!
//! The length of the body is known at its end, so it stands there; a reader needs no second pass.
//! The root hash is over uncompressed bytes: members compare snapshots by it, however each stores
//! them. A file is written under a temporary name and gets its own, `snap.<zxid, 16 hex digits>`,
//! when all of it is durable: a file with that name is whole, or has rotted.

use super::appender::Appender;
use super::pieces::Pieces;
use super::record::{StoreId, u32_at, u64_at};
use super::storage::{File, Storage};
use super::verdict::Failure;
use crate::types::Zxid;
use std::io;

pub(super) const MAGIC: [u8; 8] = *b"RKSNAPSH";
/// The format that this server writes, and the newest it reads.
pub const FORMAT: u32 = 2;
/// Largest chunk, bytes.
pub const CHUNK: usize = 64 << 10;
const HEADER_1: usize = 32;
const HEADER: usize = 48;
const FOOTER: usize = 44;
const TEMPORARY: &str = "tmp.snap";
/// One that a leader sends, beside one that the member makes itself.
pub(super) const RECEIVING: &str = "tmp.snap.in";
/// What whoever makes a snapshot keeps beside it meanwhile.
pub const SCRATCH: &str = "tmp.runs";

/// Identity of a snapshot.
pub type Root = [u8; 32];

/// Why a file is no snapshot. The reader falls back to an older one.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Damaged.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// Name of the file.
        file: String,
        /// Offset, bytes.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// Made by a newer version.
    #[error(
        "{file} has snapshot format {format}, this server reads up to {FORMAT}: start the newer version"
    )]
    Newer {
        /// Name of the file.
        file: String,
        /// What it says.
        format: u32,
    },
    /// Of another store.
    #[error("{file} is not of this store")]
    Foreign {
        /// Name of the file.
        file: String,
    },
    /// It may not be opened, so nothing is known of it.
    #[error(
        "{file} can't be opened ({source}): give the user that runs the server the right to read and to \
         write it, then start again; nothing was changed"
    )]
    Denied {
        /// Name of the file.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The operating system failed.
    #[error("a snapshot can't be read or written: {0}")]
    Io(#[from] io::Error),
}

/// The name of a snapshot.
pub fn name(zxid: Zxid) -> String {
    format!("snap.{:016x}", zxid.0)
}

fn parse_name(name: &str) -> Option<Zxid> {
    let digits = name
        .strip_prefix("snap.")
        .filter(|digits| digits.len() == 16)?;
    i64::from_str_radix(digits, 16).ok().map(Zxid)
}

/// Snapshots of a directory, newest first.
///
/// # Errors
/// The listing's.
pub fn list<S: Storage>(storage: &S) -> io::Result<Vec<Zxid>> {
    let mut found: Vec<_> = storage
        .list()?
        .iter()
        .filter_map(|n| parse_name(n))
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Removes what an interrupted writer left.
///
/// # Errors
/// The operating system's.
pub fn remove_temporary<S: Storage>(storage: &S) -> io::Result<()> {
    let names = storage.list()?;
    let mut is_removed = false;
    for left in [TEMPORARY, SCRATCH, RECEIVING] {
        if names.iter().any(|name| name == left) {
            storage.remove(left)?;
            is_removed = true;
        }
    }
    match is_removed {
        true => storage.sync_dir(),
        false => Ok(()),
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Identity.
    pub root: Root,
    /// Length of the body.
    pub bytes: u64,
}

/// Writes one snapshot; nothing is visible under its name before [`SnapshotWriter::finish`].
pub struct SnapshotWriter<S: Storage> {
    storage: S,
    temporary: &'static str,
    file: Appender<S::File>,
    zxid: Zxid,
    chunk: Vec<u8>,
    hash: blake3::Hasher,
    bytes: u64,
    is_finished: bool,
}

/// A snapshot that was given up leaves nothing: on a full disk its bytes are what the log needs.
impl<S: Storage> Drop for SnapshotWriter<S> {
    fn drop(&mut self) {
        if !self.is_finished {
            // The next start removes it.
            let _ = self.storage.remove(self.temporary);
        }
    }
}

impl<S: Storage> SnapshotWriter<S> {
    /// Begins the snapshot of `zxid`, of this store.
    ///
    /// # Errors
    /// The operating system's, `StorageFull` among them.
    pub fn create(storage: &S, zxid: Zxid, store: StoreId) -> io::Result<SnapshotWriter<S>> {
        SnapshotWriter::under(TEMPORARY, storage, zxid, store)
    }

    /// As [`SnapshotWriter::create`], under another temporary name.
    pub(super) fn under(
        temporary: &'static str,
        storage: &S,
        zxid: Zxid,
        store: StoreId,
    ) -> io::Result<SnapshotWriter<S>> {
        let file = storage.create(temporary, 0)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(FORMAT.to_le_bytes());
        header.extend([0; 4]);
        header.extend(zxid.0.to_le_bytes());
        header.extend(store.0.to_le_bytes());
        let crc = crc32c::crc32c(&header);
        header.extend(crc.to_le_bytes());
        header.extend([0; 4]);
        let mut writer = SnapshotWriter {
            storage: storage.clone(),
            temporary,
            file: Appender::new(file, 0),
            zxid,
            chunk: Vec::with_capacity(CHUNK),
            hash: blake3::Hasher::new(),
            bytes: 0,
            is_finished: false,
        };
        writer.file.append(&header)?;
        Ok(writer)
    }

    /// Adds bytes of the body.
    ///
    /// # Errors
    /// The operating system's.
    pub fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(head);
            bytes = rest;
            if self.chunk.len() == CHUNK {
                self.write_chunk()?;
            }
        }
        Ok(())
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        let mut framed = Vec::with_capacity(8 + self.chunk.len());
        framed.extend((self.chunk.len() as u32).to_le_bytes());
        framed.extend(crc32c::crc32c(&self.chunk).to_le_bytes());
        framed.append(&mut self.chunk);
        self.file.append(&framed)
    }

    /// Makes the file durable, then gives it its name, then makes the name durable.
    ///
    /// # Errors
    /// The operating system's; the file is thrown away, unless it has taken the place of one of the same state, and the
    /// next try makes another one.
    pub fn finish(self) -> io::Result<Written> {
        let name = name(self.zxid);
        self.finish_as(&name)
    }

    /// As [`SnapshotWriter::finish`], under another name.
    pub(super) fn finish_as(mut self, name: &str) -> io::Result<Written> {
        if !self.chunk.is_empty() {
            self.write_chunk()?;
        }
        let root: Root = *self.hash.finalize().as_bytes();
        let mut end = vec![0; 4];
        end.extend(self.bytes.to_le_bytes());
        end.extend(root);
        let crc = crc32c::crc32c(&end[4..]);
        end.extend(crc.to_le_bytes());
        self.file.append(&end)?;
        self.file.file().sync()?;
        let takes_the_place = self.storage.list()?.iter().any(|there| there == name);
        self.storage.rename(self.temporary, name)?;
        self.is_finished = true;
        if let Err(error) = self.storage.sync_dir() {
            // Or the next purge would count it, whose name may be lost. One whose place it has taken is gone: then
            // it may be all that there is, and whichever of the two the name is of holds the same state.
            if !takes_the_place {
                let _ = self.storage.remove(name);
            }
            return Err(error);
        }
        Ok(Written {
            root,
            bytes: self.bytes,
        })
    }
}

/// The format of a snapshot; `None`: its header can't be read.
///
/// # Errors
/// The operating system's.
pub fn format<S: Storage>(storage: &S, zxid: Zxid) -> io::Result<Option<u32>> {
    let file = name(zxid);
    let mut pieces = Pieces::read(storage.open(&file)?)?;
    Ok(match read_header(&mut pieces, &file, zxid) {
        Ok(Some(_)) => Some(FORMAT),
        Ok(None) => Some(1),
        Err(SnapshotError::Newer { format, .. }) => Some(format),
        Err(_) => None,
    })
}

/// Whose a snapshot is; `None`: it has format 1, or its header can't be read.
///
/// # Errors
/// The operating system's.
pub fn store<S: Storage>(storage: &S, zxid: Zxid) -> io::Result<Option<StoreId>> {
    let file = name(zxid);
    let mut pieces = Pieces::read(storage.open(&file)?)?;
    Ok(read_header(&mut pieces, &file, zxid).ok().flatten())
}

/// Reads the snapshot of `zxid`, handing over each chunk after its check, and checks the whole at
/// the end: what `sink` made of the chunks counts only if this returns. `store`: whose it is.
///
/// # Errors
/// [`SnapshotError`], or what `sink` fails with.
pub fn read<S: Storage, E: From<SnapshotError>>(
    storage: &S,
    zxid: Zxid,
    store: Option<StoreId>,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Written, E> {
    let file = name(zxid);
    let opened = storage.open(&file).and_then(Pieces::read);
    let mut pieces = opened.map_err(|source| match Failure::of(&source) {
        Failure::Denied => SnapshotError::Denied {
            file: file.clone(),
            source,
        },
        _ => source.into(),
    })?;
    let written_by = read_header(&mut pieces, &file, zxid)?;
    let is_foreign = written_by.is_some_and(|by| store.is_some_and(|own| own != by));
    if is_foreign {
        return Err(SnapshotError::Foreign { file }.into());
    }
    let header = if written_by.is_some() {
        HEADER
    } else {
        HEADER_1
    };
    let (mut at, mut bytes) = (header as u64, 0);
    let mut hash = blake3::Hasher::new();
    while let Some(chunk) = read_chunk(&mut pieces, &file, at)? {
        hash.update(chunk);
        bytes += chunk.len() as u64;
        at += 8 + chunk.len() as u64;
        sink(chunk)?;
    }
    let root: Root = *hash.finalize().as_bytes();
    read_footer(&mut pieces, &file, at + 4, bytes, root)?;
    Ok(Written { root, bytes })
}

/// Reads the body of a snapshot part by part, each when it is wanted. What the parts were taken for counts only if the
/// last one comes.
pub struct BodyReader<S: Storage> {
    pieces: Pieces<S::File>,
    file: String,
    at: u64,
    /// Of the body.
    bytes: u64,
    taken: u64,
    hash: blake3::Hasher,
}

impl<S: Storage> BodyReader<S> {
    /// Of the snapshot of `zxid`.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open(storage: &S, zxid: Zxid) -> Result<BodyReader<S>, SnapshotError> {
        let file = name(zxid);
        let mut pieces = Pieces::read(storage.open(&file)?)?;
        let written_by = read_header(&mut pieces, &file, zxid)?;
        let header = if written_by.is_some() {
            HEADER
        } else {
            HEADER_1
        };
        let end = pieces.len().saturating_sub(FOOTER as u64);
        let (bytes, _) = footer(&mut pieces, &file, end)?;
        Ok(BodyReader {
            pieces,
            file,
            at: header as u64,
            bytes,
            taken: 0,
            hash: blake3::Hasher::new(),
        })
    }

    /// How long the body is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends so much of it, and up to a chunk more. Whether that was the last.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn take(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<bool, SnapshotError> {
        let until = out.len() + bytes;
        while out.len() < until {
            let Some(chunk) = read_chunk(&mut self.pieces, &self.file, self.at)? else {
                let root: Root = *self.hash.finalize().as_bytes();
                read_footer(&mut self.pieces, &self.file, self.at + 4, self.taken, root)?;
                return Ok(true);
            };
            self.hash.update(chunk);
            out.extend_from_slice(chunk);
            self.at += 8 + chunk.len() as u64;
            self.taken += chunk.len() as u64;
        }
        Ok(false)
    }
}

/// Header of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Of the file.
    pub format: u32,
    /// The last transaction of its state.
    pub zxid: Zxid,
    /// Whose it is; `None`: it has format 1.
    pub store: Option<StoreId>,
}

impl SnapshotHeader {
    /// How long it is.
    pub(super) fn bytes(&self) -> usize {
        if self.format == 1 { HEADER_1 } else { HEADER }
    }
}

/// Whose it is; `None`: it has format 1.
fn read_header<F: File>(
    pieces: &mut Pieces<F>,
    file: &str,
    zxid: Zxid,
) -> Result<Option<StoreId>, SnapshotError> {
    let header = header(pieces, file)?;
    if header.zxid != zxid {
        return Err(damaged(file, 16, "another snapshot's zxid"));
    }
    Ok(header.store)
}

/// The header of a snapshot.
pub(super) fn header<F: File>(
    pieces: &mut Pieces<F>,
    file: &str,
) -> Result<SnapshotHeader, SnapshotError> {
    let broken = || damaged(file, 0, "a damaged header");
    let start = pieces.get(0, 16)?.ok_or_else(broken)?;
    let format = u32_at(start, 8);
    let length = if format == 1 { HEADER_1 } else { HEADER };
    let header = pieces.get(0, length)?.ok_or_else(broken)?;
    let covered = length - 8;
    if header[..8] != MAGIC || u32_at(header, covered) != crc32c::crc32c(&header[..covered]) {
        return Err(broken());
    }
    if format > FORMAT {
        let file = file.to_owned();
        return Err(SnapshotError::Newer { file, format });
    }
    let store = || header[24..40].try_into().expect("sixteen bytes");
    Ok(SnapshotHeader {
        format,
        zxid: Zxid(u64_at(header, 16) as i64),
        store: (format > 1).then(|| StoreId(u128::from_le_bytes(store()))),
    })
}

/// Where the chunk that begins at `at` says that it ends; `None`: it says nothing that can be.
pub(super) fn behind_chunk<F: File>(pieces: &mut Pieces<F>, at: u64) -> Option<u64> {
    let length = u32_at(pieces.get(at, 4).ok()??, 0) as usize;
    let end = at + 8 + length as u64;
    ((1..=CHUNK).contains(&length) && end <= pieces.len()).then_some(end)
}

/// The chunk that begins at `at`; `None`: the chunks end there.
pub(super) fn read_chunk<'a, F: File>(
    pieces: &'a mut Pieces<F>,
    file: &str,
    at: u64,
) -> Result<Option<&'a [u8]>, SnapshotError> {
    let cut = || damaged(file, at, "the file ends early");
    let length = u32_at(pieces.get(at, 4)?.ok_or_else(cut)?, 0) as usize;
    if length == 0 {
        return Ok(None);
    }
    if length > CHUNK {
        return Err(damaged(file, at, "a chunk of an impossible length"));
    }
    let chunk = pieces.get(at, 8 + length)?.ok_or_else(cut)?;
    if crc32c::crc32c(&chunk[8..]) != u32_at(chunk, 4) {
        return Err(damaged(file, at, "a damaged chunk"));
    }
    Ok(Some(&chunk[8..]))
}

fn read_footer<F: File>(
    pieces: &mut Pieces<F>,
    file: &str,
    at: u64,
    bytes: u64,
    root: Root,
) -> Result<(), SnapshotError> {
    if footer(pieces, file, at)? != (bytes, root) {
        let what = "a footer that does not fit the body";
        return Err(damaged(file, at, what));
    }
    Ok(())
}

/// What the footer says of the body: its length, and its root.
pub(super) fn footer<F: File>(
    pieces: &mut Pieces<F>,
    file: &str,
    at: u64,
) -> Result<(u64, Root), SnapshotError> {
    let is_at_the_end = at + FOOTER as u64 == pieces.len();
    let footer = pieces.get(at, FOOTER)?.filter(|_| is_at_the_end);
    let footer = footer.ok_or_else(|| damaged(file, at, "no footer where the chunks end"))?;
    if u32_at(footer, 40) != crc32c::crc32c(&footer[..40]) {
        return Err(damaged(file, at, "a damaged footer"));
    }
    let root = footer[8..40].try_into().expect("32 bytes");
    Ok((u64_at(footer, 0), root))
}

fn damaged(file: &str, offset: u64, what: &'static str) -> SnapshotError {
    SnapshotError::Damaged {
        file: file.to_owned(),
        offset,
        what,
    }
}
