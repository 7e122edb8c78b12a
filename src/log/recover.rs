//! Reading the log back: what is whole, what is torn, what is corrupt.
//!
//! Pages of one unsynced batch reach the disk in any order, so after a power cut a bad record
//! followed by valid ones is ordinary. What tells it from corruption is D, the largest `durable_to`
//! of all valid records: everything below D had been synced when that record was written.
//!
//! | Case | Found | Cause | What is done |
//! |---|---|---|---|
//! | A clean end | zeroes, or nothing, behind the last record | stop, or a crash between batches | go on there |
//! | B torn tail | a bad record, nothing valid behind it, at or above D | crash during a batch | zero from there |
//! | C torn batch | a bad record at or above D, valid ones behind it | power cut, pages reordered | zero from there, the valid ones too; later segments go |
//! | D stale bytes | records of another identity behind the last record | recycled segment | as A: they are no records |
//! | E corrupt | a bad record below D | rot, or somebody wrote there | refuse |
//! | F missing | the next segment does not begin where this one ends, below D | a file was removed | refuse |
//! | G missing, torn | the same at or above D | power cut before the roll was synced | later segments go |
//! | H bad header | a segment without a readable header | rot: it is synced before the file gets its name | refuse |
//! | I renamed | the header's base is not the name's | somebody renamed or copied | refuse |
//! | J newer | a whole header or record of a newer format | downgrade | refuse, naming the format |
//! | K disorder | zxids do not grow | rot that hit crc and all; a bug | refuse |
//! | L lost end | D lies behind the last segment | a file was removed | refuse |
//!
//! Nothing is acknowledged behind a bad record at or above D but what a flipped bit hit within the
//! seal's delay: in that window the two can't be told apart.
//!
//! Zeroing is synced, and torn segments are gone, *before* the first new record: a record of the
//! torn batch that survived must never come back behind new ones.

use super::durable::LogEnd;
use super::record::{self, ALIGN, Bad, Kind, Record};
use super::segment::{self, BadHeader, HEADER_BLOCK, SegmentHeader};
use super::storage::{File, Storage};
use super::writer::{Closed, Identities, Log, LogConfig, Start};
use crate::types::{Position, Zxid};
use std::io;

/// Why the log can't be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Cases E, F, H, I, K, L.
    #[error(
        "the log is corrupt: {what} in {file} at byte {offset}; what was acknowledged up to there \
         can't be trusted to be complete, so the server does not start: restore the file from a \
         backup, or move the whole data directory away and start empty"
    )]
    Corrupt {
        /// Name of the file.
        file: String,
        /// Offset in the file, bytes.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// Case J.
    #[error(
        "{file} has log format {format}, this server reads up to {}: start the newer version",
        record::FORMAT
    )]
    Newer {
        /// Name of the file.
        file: String,
        /// What it says.
        format: u32,
    },
    /// The operating system failed.
    #[error("the log can't be read: {0}")]
    Io(#[from] io::Error),
}

/// One segment as it was found.
struct Found<F: File> {
    name: String,
    file: F,
    view: F::View,
    header: SegmentHeader,
    /// Where the run of valid records from the base ends.
    end: Position,
    /// The last transaction of that run; `None` if it has none.
    last_zxid: Option<Zxid>,
    /// Valid records lie behind `end`.
    valid_behind: bool,
}

impl<F: File> Found<F> {
    fn record(&self, position: Position) -> Result<Record<'_>, Bad> {
        let bytes = self
            .view
            .get(self.header.offset(position) as usize..)
            .unwrap_or_default();
        Record::decode(self.header.identity, position, bytes)
    }

    fn corrupt(&self, at: Position, what: &'static str) -> RecoveryError {
        RecoveryError::Corrupt {
            file: self.name.clone(),
            offset: self.header.offset(at),
            what,
        }
    }

    /// Writes zeroes over what is not zero behind `end`.
    fn zero_behind(&self, end: Position) -> io::Result<()> {
        let mut offset = self.header.offset(end) as usize;
        while offset < self.view.len() {
            let block = (offset + 1)
                .next_multiple_of(HEADER_BLOCK)
                .min(self.view.len());
            if self.view[offset..block].iter().any(|&byte| byte != 0) {
                self.file
                    .write_at(offset as u64, &vec![0; block - offset])?;
            }
            offset = block;
        }
        Ok(())
    }

    /// Where the file's bytes end, as a position.
    fn limit(&self) -> Position {
        self.header
            .base
            .plus((self.view.len() - HEADER_BLOCK) as u64)
    }
}

/// Which part of a log is read while somebody else is writing it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// From the segment that holds what follows this.
    pub after: Zxid,
    /// No further than this, below which everything is durable. Behind it bytes change while they
    /// are read, so nothing there is judged.
    pub upto: Zxid,
    /// No further than so many bytes of payloads behind `after`, and one record.
    pub bytes: u64,
}

impl Part {
    fn read(&mut self, kind: Kind, zxid: Zxid, bytes: u64) {
        if kind == Kind::Txn && zxid > self.after {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn is_whole<F: File>(&self, found: &Found<F>) -> bool {
        self.bytes == 0 || found.last_zxid >= Some(self.upto)
    }
}

/// A whole log, read and judged; nothing has been changed yet.
pub struct Scan<S: Storage> {
    storage: S,
    segments: Vec<Found<S::File>>,
    spares: Vec<String>,
    /// The good part ends in this segment; later ones are torn.
    last_good: usize,
    durable_to: Position,
    committed_to: Zxid,
}

impl<S: Storage> Scan<S> {
    /// Reads all segments and finds where the good part ends.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn new(storage: &S) -> Result<Scan<S>, RecoveryError> {
        let mut scan = Scan::read_all(storage, None)?;
        scan.judge()?;
        Ok(scan)
    }

    /// Reads a part of a log that somebody else is writing. The result must not be opened.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn live(storage: &S, part: Part) -> Result<Scan<S>, RecoveryError> {
        let mut scan = Scan::read_all(storage, Some(part))?;
        scan.last_good = scan.segments.len().saturating_sub(1);
        Ok(scan)
    }

    /// How many segments were read.
    #[cfg(test)]
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    fn read_all(storage: &S, mut part: Option<Part>) -> Result<Scan<S>, RecoveryError> {
        let names = storage.list()?;
        let mut bases: Vec<_> = names
            .iter()
            .filter_map(|n| Some((segment::parse_name(n)?, n)))
            .collect();
        bases.sort();
        let mut scan = Scan {
            storage: storage.clone(),
            segments: Vec::new(),
            spares: names
                .iter()
                .filter(|n| segment::parse_spare(n).is_some())
                .cloned()
                .collect(),
            last_good: 0,
            durable_to: Position(0),
            committed_to: Zxid::ZERO,
        };
        if let Some(part) = &part {
            bases.drain(..unneeded(storage, &bases, part.after)?);
        }
        for (nth, &(base, name)) in bases.iter().enumerate() {
            let next = bases.get(nth + 1).map(|&(base, _)| base);
            let found = scan.read_segment(name, base, next, part.as_mut())?;
            let whole = part.as_ref().is_some_and(|part| part.is_whole(&found));
            scan.segments.push(found);
            if whole {
                break;
            }
        }
        Ok(scan)
    }

    fn read_segment(
        &mut self,
        name: &str,
        base: Position,
        next: Option<Position>,
        part: Option<&mut Part>,
    ) -> Result<Found<S::File>, RecoveryError> {
        let file = self.storage.open(name)?;
        let view = file.view()?;
        let corrupt = |what| RecoveryError::Corrupt {
            file: name.to_owned(),
            offset: 0,
            what,
        };
        let header = SegmentHeader::decode(&view).map_err(|bad| match bad {
            BadHeader::NoHeader => corrupt("a damaged segment header"),
            BadHeader::Newer(format) => RecoveryError::Newer {
                file: name.to_owned(),
                format,
            },
        })?;
        if header.base != base {
            return Err(corrupt("a segment that belongs under another name"));
        }
        let name = name.to_owned();
        let mut found = Found {
            name,
            file,
            view,
            header,
            end: base,
            last_zxid: None,
            valid_behind: false,
        };
        self.read_records(&mut found, next, part)?;
        Ok(found)
    }

    /// Walks the run of valid records, then looks for valid ones behind a bad one: those count for
    /// D and for nothing else. The run ends where the `next` segment begins: what stands behind was
    /// torn off by the recovery that began that one, whether or not its zeroes are on the medium.
    fn read_records(
        &mut self,
        found: &mut Found<S::File>,
        next: Option<Position>,
        mut part: Option<&mut Part>,
    ) -> Result<(), RecoveryError> {
        let limit = found.limit();
        let mut at = found.header.base;
        let mut in_run = true;
        while at < limit {
            in_run &= next != Some(at);
            let record = match found.record(at) {
                Ok(record) => record,
                Err(Bad::Newer(format)) => {
                    return Err(RecoveryError::Newer {
                        file: found.name.clone(),
                        format: format.into(),
                    });
                }
                Err(Bad::NoRecord) if part.is_some() => break,
                Err(Bad::NoRecord) => {
                    in_run = false;
                    at = at.plus(ALIGN as u64);
                    continue;
                }
            };
            self.durable_to = self.durable_to.max(record.durable_to);
            self.committed_to = self.committed_to.max(record.committed_to);
            let bytes = record.payload.len() as u64;
            at = record.end();
            if !in_run {
                found.valid_behind = true;
            } else {
                let (kind, zxid) = (record.kind, record.zxid);
                if kind == Kind::Txn {
                    if found.last_zxid.is_some_and(|last| zxid <= last) {
                        return Err(found.corrupt(found.end, "a transaction out of order"));
                    }
                    found.last_zxid = Some(zxid);
                }
                found.end = at;
                if let Some(part) = part.as_deref_mut() {
                    part.read(kind, zxid, bytes);
                    if part.is_whole(found) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares the first bad place with D.
    fn judge(&mut self) -> Result<(), RecoveryError> {
        let Some(last) = self.segments.len().checked_sub(1) else {
            return Ok(());
        };
        let bad = (0..last).find(|&i| self.segments[i].end != self.segments[i + 1].header.base);
        self.last_good = bad.unwrap_or(last);
        let found = &self.segments[self.last_good];
        if found.end < self.durable_to {
            let what = match (found.valid_behind, self.last_good == last) {
                (true, _) => "a damaged record with valid ones behind it",
                (false, true) => "an end before what had been made durable",
                (false, false) => "a damaged record, or a segment is missing behind it,",
            };
            return Err(found.corrupt(found.end, what));
        }
        let mut before: Option<Zxid> = None;
        for found in &self.segments[..=self.last_good] {
            let first = self.transactions_of(found).next().map(|record| record.zxid);
            if first.is_some_and(|first| before.is_some_and(|before| first <= before)) {
                return Err(found.corrupt(found.header.base, "a transaction out of order"));
            }
            before = found.last_zxid.or(before);
        }
        Ok(())
    }

    fn transactions_of<'a>(
        &'a self,
        found: &'a Found<S::File>,
    ) -> impl Iterator<Item = Record<'a>> + 'a {
        let mut at = found.header.base;
        std::iter::from_fn(move || {
            let record =
                (at < found.end).then(|| found.record(at).expect("it was valid before"))?;
            at = record.end();
            Some(record)
        })
        .filter(|record| record.kind == Kind::Txn)
    }

    /// The good transactions behind `after`, in order, read in place.
    pub fn transactions(&self, after: Zxid) -> impl Iterator<Item = Record<'_>> + '_ {
        let good = self.segments.get(..=self.last_good).unwrap_or_default();
        good.iter()
            .filter(move |found| found.last_zxid.is_some_and(|last| last > after))
            .flat_map(|found| self.transactions_of(found))
            .filter(move |record| record.zxid > after)
    }

    /// Where the good part ends; `None` if there is no segment.
    pub fn end(&self) -> Option<LogEnd> {
        let good = self
            .segments
            .get(..=self.last_good)
            .filter(|good| !good.is_empty())?;
        let zxid = good
            .iter()
            .rev()
            .find_map(|found| found.last_zxid)
            .unwrap_or(Zxid::ZERO);
        Some(LogEnd {
            position: good.last()?.end,
            zxid,
        })
    }

    /// Everything up to here was committed when it was written.
    pub fn committed_to(&self) -> Zxid {
        self.committed_to
    }

    /// Whether anything was torn off, for the start-up summary.
    pub fn is_torn(&self) -> bool {
        self.last_good + 1 < self.segments.len() || self.segments.iter().any(|f| f.valid_behind)
    }

    /// Where a record is: the file's name, and the offset of its first byte.
    pub fn place(&self, record: &Record<'_>) -> Option<(&str, u64)> {
        let holds = |found: &&Found<S::File>| {
            found.header.base <= record.position && record.position < found.end
        };
        let found = self.segments.iter().find(holds)?;
        Some((&found.name, found.header.offset(record.position)))
    }

    /// Makes what was read durable and the torn rest vanish, then begins a fresh segment. `applied`
    /// is the last zxid of the recovered state, which a snapshot may have brought further than the
    /// log. Blocks.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(
        self,
        config: LogConfig,
        identities: Identities,
        applied: Zxid,
    ) -> io::Result<Log<S>> {
        let config = config.in_whole_pages();
        let end = self.resume_at();
        self.clear_tail(end.position)?;
        let mut closed = std::collections::VecDeque::new();
        let mut last_zxid = Zxid::ZERO;
        for found in self.segments.into_iter().take(self.last_good + 1) {
            last_zxid = found.last_zxid.unwrap_or(last_zxid);
            let reusable = found.view.len() as u64 == config.segment_bytes;
            if found.header.base < end.position {
                closed.push_back(Closed {
                    name: found.name,
                    last_zxid,
                    reusable,
                });
            }
        }
        Log::start(Start {
            storage: self.storage,
            config,
            identities,
            closed,
            spares: self.spares,
            end: LogEnd {
                zxid: end.zxid.max(applied),
                ..end
            },
        })
    }

    /// Where the fresh segment begins: segments at the end that hold no transaction are left out,
    /// or every start would leave one.
    fn resume_at(&self) -> LogEnd {
        let end = self.end().unwrap_or_default();
        let good = self.segments.iter().take(self.last_good + 1);
        let empty = good.rev().take_while(|found| found.last_zxid.is_none());
        LogEnd {
            position: empty.last().map_or(end.position, |found| found.header.base),
            ..end
        }
    }

    /// Zeroes what lies behind the end, removes the segments behind it, and syncs all that, and the
    /// records that only the page cache may hold: those are written again first, because after a
    /// failed sync the kernel takes them for clean and a further sync does nothing.
    fn clear_tail(&self, end: Position) -> io::Result<()> {
        let behind = |found: &&Found<S::File>| found.header.base >= end;
        let kept = self.segments.iter().filter(|found| !behind(found));
        for found in kept {
            let good = found.end.min(end);
            if good > self.durable_to {
                let from = found.header.offset(found.header.base.max(self.durable_to));
                let again = found.view[from as usize..found.header.offset(good) as usize].to_vec();
                found.file.write_at(from, &again)?;
            }
            found.zero_behind(good)?;
            if good > self.durable_to || good == end {
                found.file.sync()?;
            }
        }
        // Newest first: no gap, wherever this is interrupted. The fresh segment takes the place of
        // the one that begins at the end.
        for torn in self.segments.iter().rev().filter(behind) {
            if torn.header.base > end {
                self.storage.remove(&torn.name)?;
            }
        }
        self.storage.sync_dir()
    }
}

/// How many of the oldest segments hold nothing behind `after`: those before one whose first
/// transaction is not behind it.
fn unneeded<S: Storage>(
    storage: &S,
    bases: &[(Position, &String)],
    after: Zxid,
) -> Result<usize, RecoveryError> {
    for (nth, (_, name)) in bases.iter().enumerate().rev() {
        let view = storage.open(name)?.view()?;
        let Ok(header) = SegmentHeader::decode(&view) else {
            return Ok(0); // said when it is read
        };
        let mut at = header.base;
        while let Some(bytes) = view.get(header.offset(at) as usize..)
            && let Ok(record) = Record::decode(header.identity, at, bytes)
        {
            if record.kind == Kind::Txn {
                if record.zxid <= after {
                    return Ok(nth);
                }
                break;
            }
            at = record.end();
        }
    }
    Ok(0)
}
