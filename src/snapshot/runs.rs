//! Patches that are too many for the memory: sorted runs in one file beside the snapshot, merged again as
//! they are read.
//!
//! ```text
//! file   = run*
//! run    = record*                                             sorted by key
//! record = length u32 ‖ crc32c u32 ‖ key buf ‖ patch           little-endian, then Jute
//! ```
//!
//! Where a run ends is known to who has written it: the file is of no use to anybody else, and is removed
//! when its owner has gone, or at the next start. A younger run holds later transactions, so patches of one
//! key are joined in the order of their runs. At most [`FAN_IN`] runs are read at a time: before there are
//! more, the youngest are merged into one, and none with them that is longer than they are together. So a
//! patch is written a few times, however many runs there are; the file keeps what was merged.

use super::error::SnapError;
use crate::log::snapshot_file::SCRATCH;
use crate::log::storage::{File, Storage};
use crate::log::{Appender, Pieces};
use crate::tree::{Key, Patch};
use crate::txn::jute::{JuteError, Put, Reader};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, btree_map};
use std::io;
use std::ops::Range;

/// Most runs that are read at a time.
pub(super) const FAN_IN: usize = 32;
/// What is read at once of a run, bytes, unless a record is longer.
const PIECE: u64 = 64 << 10;
/// Records are written together in about so many bytes.
const BATCH: usize = 256 << 10;
/// Before the key: length, checksum.
const FRAME: usize = 8;

/// Where runs are in their file, between two who work on them.
#[derive(Debug, Default)]
pub(super) struct RunParts {
    bytes: u64,
    runs: Vec<Range<u64>>,
}

/// Runs of patches, oldest first. Nothing is on the disk as long as there is none.
pub(super) struct Runs<S: Storage> {
    storage: S,
    file: Option<Appender<S::File>>,
    runs: Vec<Range<u64>>,
}

impl<S: Storage> Drop for Runs<S> {
    fn drop(&mut self) {
        // What somebody has open is not freed in pieces.
        if self.file.take().is_some() {
            // The next start removes it.
            let _ = self.storage.remove(SCRATCH);
        }
    }
}

impl<S: Storage> Runs<S> {
    /// None; they will be in this directory.
    pub(super) fn new(storage: &S) -> Runs<S> {
        Runs {
            storage: storage.clone(),
            file: None,
            runs: Vec::new(),
        }
    }

    /// As [`Runs::into_parts`] gave them away.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn resume(storage: &S, parts: RunParts) -> io::Result<Runs<S>> {
        let mut resumed = Runs::new(storage);
        if !parts.runs.is_empty() {
            resumed.file = Some(Appender::new(storage.open(SCRATCH)?, parts.bytes));
            resumed.runs = parts.runs;
        }
        Ok(resumed)
    }

    /// What is to be known to go on with the file, which stays.
    pub(super) fn into_parts(mut self) -> RunParts {
        let bytes = self.file.take().map_or(0, |file| file.len());
        let runs = std::mem::take(&mut self.runs);
        RunParts { bytes, runs }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Adds a run of later patches than all before, sorted.
    ///
    /// # Errors
    /// [`SnapError`].
    pub(super) fn add(
        &mut self,
        patches: impl IntoIterator<Item = (Key, Patch)>,
    ) -> Result<(), SnapError> {
        if self.runs.len() == FAN_IN {
            let youngest = self.youngest();
            let mut merged = self.merge(&self.runs[youngest..], BTreeMap::new())?;
            let run = self.write(|| merged.next())?;
            self.runs.truncate(youngest);
            self.runs.push(run);
        }
        let mut patches = patches.into_iter();
        let run = self.write(|| Ok(patches.next()))?;
        self.runs.push(run);
        Ok(())
    }

    /// The first of the runs that are merged: at least two, and as many as are no longer than those behind
    /// them together.
    fn youngest(&self) -> usize {
        let len = |run: &Range<u64>| run.end - run.start;
        let mut first = self.runs.len().saturating_sub(2);
        let mut bytes: u64 = self.runs[first..].iter().map(len).sum();
        while let Some(before) = first.checked_sub(1)
            && len(&self.runs[before]) <= bytes
        {
            bytes += len(&self.runs[before]);
            first = before;
        }
        first
    }

    fn write(
        &mut self,
        mut next: impl FnMut() -> Result<Option<(Key, Patch)>, SnapError>,
    ) -> Result<Range<u64>, SnapError> {
        if self.file.is_none() {
            self.file = Some(Appender::new(self.storage.create(SCRATCH, 0)?, 0));
        }
        let file = self.file.as_mut().expect("it was made");
        let begin = file.len();
        let mut batch = Vec::with_capacity(2 * BATCH);
        while let Some((key, patch)) = next()? {
            put_record(&mut batch, &key, &patch);
            if batch.len() >= BATCH {
                file.append(&batch)?;
                batch.clear();
            }
        }
        file.append(&batch)?;
        Ok(begin..file.len())
    }

    /// The patches of all runs, and of what is in memory, which is later than all of them: sorted, one for
    /// each key.
    ///
    /// # Errors
    /// [`SnapError`].
    pub(super) fn merged(&self, latest: BTreeMap<Key, Patch>) -> Result<Merged<S>, SnapError> {
        self.merge(&self.runs, latest)
    }

    fn merge(
        &self,
        runs: &[Range<u64>],
        latest: BTreeMap<Key, Patch>,
    ) -> Result<Merged<S>, SnapError> {
        let mut sources = Vec::new();
        if let Some(file) = &self.file {
            for run in runs {
                sources.push(Source::Run(RunReader {
                    pieces: Pieces::of_size(file.file().clone(), PIECE)?,
                    rest: run.clone(),
                }));
            }
        }
        sources.push(Source::Memory(latest.into_iter()));
        let mut merged = Merged {
            heads: BinaryHeap::with_capacity(sources.len()),
            sources,
        };
        (0..merged.sources.len()).try_for_each(|source| merged.refill(source))?;
        Ok(merged)
    }
}

fn put_record(batch: &mut Vec<u8>, key: &[u8], patch: &Patch) {
    let begin = batch.len();
    batch.extend([0; FRAME]);
    batch.put_buf(Some(key));
    patch.encode_into(batch);
    let content = &batch[begin + FRAME..];
    let length = u32::try_from(content.len()).expect("a patch is a few frames long");
    let crc = crc32c::crc32c(content);
    batch[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    batch[begin + 4..begin + FRAME].copy_from_slice(&crc.to_le_bytes());
}

/// Several sorted sources as one.
pub(super) struct Merged<S: Storage> {
    sources: Vec<Source<S::File>>,
    /// The next patch of each source that has one.
    heads: BinaryHeap<Reverse<Head>>,
}

enum Source<F: File> {
    Run(RunReader<F>),
    Memory(btree_map::IntoIter<Key, Patch>),
}

/// Ordered by its key, and for equal keys by its source, the oldest first.
struct Head {
    key: Key,
    source: usize,
    patch: Patch,
}

impl Head {
    fn order(&self) -> (&[u8], usize) {
        (&self.key, self.source)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl<S: Storage> Merged<S> {
    /// The next patch.
    ///
    /// # Errors
    /// [`SnapError`].
    pub(super) fn next(&mut self) -> Result<Option<(Key, Patch)>, SnapError> {
        let Some((key, mut patch)) = self.pop()? else {
            return Ok(None);
        };
        while self.heads.peek().is_some_and(|head| head.0.key == key) {
            if let Some((_, later)) = self.pop()? {
                patch = patch.then(later)?;
            }
        }
        Ok(Some((key, patch)))
    }

    fn pop(&mut self) -> Result<Option<(Key, Patch)>, SnapError> {
        let Some(Reverse(Head { key, source, patch })) = self.heads.pop() else {
            return Ok(None);
        };
        self.refill(source)?;
        Ok(Some((key, patch)))
    }

    fn refill(&mut self, source: usize) -> Result<(), SnapError> {
        let next = match &mut self.sources[source] {
            Source::Run(run) => run.next()?,
            Source::Memory(patches) => patches.next(),
        };
        if let Some((key, patch)) = next {
            self.heads.push(Reverse(Head { key, source, patch }));
        }
        Ok(())
    }
}

/// Reads one run.
struct RunReader<F: File> {
    pieces: Pieces<F>,
    rest: Range<u64>,
}

impl<F: File> RunReader<F> {
    fn next(&mut self) -> io::Result<Option<(Key, Patch)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (length, crc) = {
            let frame = self
                .pieces
                .get(self.rest.start, FRAME)?
                .ok_or_else(damaged)?;
            let number = |at: usize| {
                let bytes = frame[at..at + 4].try_into().expect("four bytes");
                u32::from_le_bytes(bytes)
            };
            (number(0) as usize, number(4))
        };
        let content = self.pieces.get(self.rest.start + FRAME as u64, length)?;
        let content = content.ok_or_else(damaged)?;
        if crc32c::crc32c(content) != crc {
            return Err(damaged());
        }
        self.rest.start += (FRAME + length) as u64;
        read_record(content).map(Some).map_err(|_| damaged())
    }
}

fn read_record(content: &[u8]) -> Result<(Key, Patch), JuteError> {
    let mut r = Reader::new(content);
    let key = r.buf()?.ok_or(JuteError::Null)?.into();
    Ok((key, Patch::decode(&mut r)?))
}

fn damaged() -> io::Error {
    let what = format!("{SCRATCH} is not as it was written");
    io::Error::new(io::ErrorKind::InvalidData, what)
}
