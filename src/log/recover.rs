//! Reading the log back: what is whole, what is torn, what is corrupt.
//!
//! Pages of one unsynced batch reach the disk in any order, so after a power cut a bad record
//! followed by valid ones is ordinary. What tells it from corruption is D, the largest `durable_to`
//! of all valid records: everything below D had been synced when that record was written.
//!
//! | Case | Found | Cause | What is done |
//! |---|---|---|---|
//! | A clean end | zeroes, or nothing, behind the last record | stop, or a crash between batches | go on there |
//! | B torn tail | a bad record, nothing valid behind it, at or above D | crash during a batch | go on there, in a new segment |
//! | C torn batch | a bad record at or above D, valid ones behind it | power cut, pages reordered | the same; later segments go |
//! | D stale bytes | records of another identity behind the last record | recycled segment | as A: they are no records |
//! | E corrupt | a bad record below D | rot, or somebody wrote there | refuse |
//! | F missing | the next segment does not begin where this one ends, below D | a file was removed | refuse |
//! | G missing, torn | the same at or above D | power cut before the roll was synced | later segments go |
//! | H bad header | a segment without a readable header | rot: it is synced before the file gets its name | refuse |
//! | I renamed | the header's base is not the name's | somebody renamed or copied | refuse |
//! | J newer | a whole header or record of a newer format | downgrade | refuse, naming the format |
//! | K disorder | zxids do not grow | rot that hit crc and all; a bug | refuse |
//! | L lost end | D lies behind the last segment; or the witness, or a snapshot, knows of later transactions | a file was removed or cut, a directory is not mounted, sectors are lost | refuse |
//! | M rot, not needed | a bad record, and behind it one that shows that it was no transaction, or one that the snapshot covers | rot; power cut, pages reordered | go on behind it; a snapshot is made at once |
//! | N short | the file of the last segment is shorter than its header says | a file was cut | refuse |
//! | O unreadable | the device can't read where a record may be needed | rot | refuse |
//! | P foreign | a segment of another store than the witness | directories were mixed up | refuse |
//! | Q fenced | a fence | the log of a member of an ensemble | refuse |
//!
//! A member's log ([`Scan::of_member`]) holds brackets (`fence`), and what it says is judged by the same rows, but for
//! these. None of its transactions is handed over before all of it was judged: what stands behind may drop it.
//!
//! | Case | Found | Cause | What is done |
//! |---|---|---|---|
//! | Q1 closed | a bracket with its closing fence | a synchronisation | what it holds counts in place of what lies behind its base |
//! | Q2 open | one that nothing has ended, whole or torn, its end at or above D | a crash, or the leader was left | it counts for nothing; a void fence stands in the next segment before anything else |
//! | Q3 void | one with a void fence | the same, before an earlier start | it counts for nothing |
//! | Q4 contradiction | fences or transactions that no member writes in this order (`runs`), a bracket that drops what is committed among them | rot that hit crc and all; a bug | refuse, as in case K |
//! | M' | a bad record, and behind it a transaction outside of a bracket that the snapshot covers | rot | go on behind it |
//! | M'' | a bad record, and anything else behind it, below D; an end before what the witness knows | rot: it may have been a fence | refuse, as in cases E and L |
//!
//! What is refused for a loss (all but J and Q) an operator can give up: `ringkeeper accept-loss`
//! ([`Scan::survey`] and `snapshot::loss`).
//!
//! D and the witness together leave a window: what was acknowledged since the witness was written and
//! is vouched for by no later record that can be read. There rot can't be told from a torn batch.
//!
//! Only what follows the newest whole snapshot is read, one segment open at a time, and none further
//! than the base of the next one. A torn rest stays where it is, or is cut off with what its segment
//! does not use: the next segment begins where the good part ends, and behind that place nobody looks.
//! Torn segments are gone *before* the first new record: a record of the torn batch that survived must
//! never come back behind new ones.

use super::durable::LogEnd;
use super::error::RecoveryError;
use super::pieces::Pieces;
use super::record::{ALIGN, Bad, HEADER, Kind, Record, StoreId};
use super::runs::{Contradiction, Runs};
use super::segment::{self, BadHeader, HEADER_BLOCK, SegmentHeader};
use super::storage::{File, Storage};
use super::verdict::Failure;
use super::witness::Witness;
use super::writer::{Closed, Identities, Log, LogConfig, PAGE, Start};
use crate::types::{Position, Zxid};
use std::collections::VecDeque;
use std::io;

/// Reads the records of one segment.
pub(super) struct Reader<F: File> {
    name: String,
    pub(super) header: SegmentHeader,
    pieces: Pieces<F>,
}

impl<F: File> Reader<F> {
    /// Reads the header. `intact` is for the message.
    pub(super) fn open(
        name: &str,
        base: Position,
        mut pieces: Pieces<F>,
        intact: Zxid,
    ) -> Result<Reader<F>, RecoveryError> {
        let corrupt = |what| RecoveryError::Corrupt {
            file: name.to_owned(),
            offset: 0,
            what,
            intact,
        };
        let block = pieces
            .get(0, HEADER_BLOCK)
            .map_err(|source| unreadable(name, 0, source, intact))?;
        let header = SegmentHeader::decode(block.unwrap_or_default()).map_err(|bad| match bad {
            BadHeader::NoHeader => corrupt("a damaged segment header"),
            BadHeader::Newer(format) => RecoveryError::Newer {
                file: name.to_owned(),
                format,
            },
        })?;
        if header.base != base {
            return Err(corrupt("a segment that belongs under another name"));
        }
        Ok(Reader {
            name: name.to_owned(),
            header,
            pieces,
        })
    }

    /// The record that begins at `at`; `None`: there is none. `intact` is for the message.
    pub(super) fn record(
        &mut self,
        at: Position,
        intact: Zxid,
    ) -> Result<Option<Record<'_>>, RecoveryError> {
        let Reader {
            name,
            header,
            pieces,
        } = self;
        let offset = header.offset(at);
        let failed = |source| unreadable(name, offset, source, intact);
        let payload = match pieces.get(offset, HEADER).map_err(failed)? {
            Some(head) => Record::payload_len(at, head),
            None => None,
        };
        let Some(payload) = payload else {
            return Ok(None);
        };
        let Some(bytes) = pieces.get(offset, HEADER + payload).map_err(failed)? else {
            return Ok(None);
        };
        match Record::decode(header.identity, at, bytes) {
            Ok(record) => Ok(Some(record)),
            Err(Bad::NoRecord) => Ok(None),
            Err(Bad::Newer(format)) => Err(RecoveryError::Newer {
                file: name.clone(),
                format: format.into(),
            }),
        }
    }

    /// Where the file's bytes end, as a position.
    pub(super) fn limit(&self) -> Position {
        let bytes = self.pieces.len().saturating_sub(HEADER_BLOCK as u64);
        self.header.base.plus(bytes)
    }

    /// The first place behind `at` that lies in another sector of the file.
    fn next_sector(&self, at: Position) -> Position {
        at.plus(SECTOR - self.header.offset(at) % SECTOR)
    }
}

/// What this process is short of says nothing about the file, and is no loss.
fn unreadable(name: &str, offset: u64, source: io::Error, intact: Zxid) -> RecoveryError {
    match Failure::of(&source) {
        Failure::Full | Failure::Scarce => RecoveryError::Io(source),
        Failure::Missing | Failure::Denied | Failure::Broken => RecoveryError::Unreadable {
            file: name.to_owned(),
            offset,
            source,
            intact,
        },
    }
}

/// One segment as it was found.
struct Found {
    name: String,
    header: SegmentHeader,
    /// Bytes of the file.
    len: u64,
    /// Where the run of valid records from the base ends.
    end: Position,
    /// The last transaction of that run; `None` if it has none.
    last_zxid: Option<Zxid>,
    /// The last transaction in that run or before it, as its last record says.
    zxid: Option<Zxid>,
    /// What the first record is, and its transaction.
    first: Option<(Kind, Zxid)>,
    /// That run has a fence.
    has_fence: bool,
    /// Valid records lie behind `end`.
    valid_behind: bool,
    /// Why what lies at `end` can't be read.
    unreadable: Option<RecoveryError>,
    /// What lies at `end` can't be read.
    is_damaged: bool,
}

impl Found {
    fn corrupt(&self, at: Position, what: &'static str, intact: Zxid) -> RecoveryError {
        RecoveryError::Corrupt {
            file: self.name.clone(),
            offset: self.header.offset(at),
            what,
            intact,
        }
    }
}

/// Names of the segments in a directory, oldest first.
pub(super) fn segments<S: Storage>(storage: &S) -> io::Result<Vec<(Position, String)>> {
    let named = |name: String| Some((segment::parse_name(&name)?, name));
    let mut bases: Vec<_> = storage.list()?.into_iter().filter_map(named).collect();
    bases.sort();
    Ok(bases)
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
    /// Bytes below are durable: those of the newest segment are read through a map. `None`: nothing is.
    pub mapped_to: Option<Position>,
}

/// Reads a part of a log that somebody else is writing, each transaction behind `after` in order. How
/// many segments were read.
///
/// # Errors
/// [`RecoveryError`], or what `sink` fails with.
pub fn read_part<S: Storage, E: From<RecoveryError>>(
    storage: &S,
    mut part: Part,
    mut sink: impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<usize, E> {
    let bases = segments(storage).map_err(RecoveryError::from)?;
    let first = first_needed(storage, &bases, part.after, |_| true)?;
    let mut last = part.after;
    for (nth, (base, name)) in bases.iter().enumerate().skip(first) {
        let next = bases.get(nth + 1).map(|&(base, _)| base);
        let file = storage.open(name).map_err(RecoveryError::from)?;
        let pieces = match (part.mapped_to, next) {
            (Some(to), None) => {
                Pieces::mapped(&file, HEADER_BLOCK as u64 + to.0.saturating_sub(base.0))
            }
            _ => Pieces::read(file),
        };
        let mut reader = Reader::open(name, *base, pieces.map_err(RecoveryError::from)?, last)?;
        let (mut at, mut damaged) = (*base, None);
        let limit = next.unwrap_or(reader.limit()).min(reader.limit());
        while at < limit {
            let record = match reader.record(at, last) {
                Ok(Some(record)) => record,
                // Perhaps it is not needed: the next record shows.
                Ok(None) => {
                    damaged.get_or_insert(at);
                    at = at.plus(ALIGN as u64);
                    continue;
                }
                Err(RecoveryError::Unreadable { .. }) => {
                    damaged.get_or_insert(at);
                    at = reader.next_sector(at);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if damaged.is_some() && !record.is_first_needed(last) {
                break;
            }
            // What of it counts only who knows the history can tell.
            if record.kind.is_members() {
                let (file, offset) = (name.clone(), reader.header.offset(at));
                return Err(E::from(RecoveryError::Member { file, offset }));
            }
            damaged = None;
            at = record.end();
            if record.kind != Kind::Txn || record.zxid <= part.after {
                continue;
            }
            if record.zxid > part.upto {
                return Ok(nth + 1 - first);
            }
            last = record.zxid;
            part.bytes = part.bytes.saturating_sub(record.payload.len() as u64);
            sink(record)?;
            if part.bytes == 0 || last == part.upto {
                return Ok(nth + 1 - first);
            }
        }
        let at = damaged.unwrap_or(at);
        if next.is_some_and(|next| next != at) {
            return Err(E::from(RecoveryError::Corrupt {
                file: name.clone(),
                offset: reader.header.offset(at),
                what: "a damaged record",
                intact: last,
            }));
        }
    }
    Ok(bases.len() - first)
}

/// Whether what is left of the log begins behind this part: nothing of it was read, and nothing is there.
///
/// # Errors
/// The operating system's.
pub fn begins_behind<S: Storage>(storage: &S, part: Part) -> Result<bool, RecoveryError> {
    let bases = segments(storage)?;
    let Some((oldest, _)) = bases.first() else {
        return Ok(false);
    };
    // Where the record at its base is damaged, it may be the one that is asked for.
    let reaches_back = |_: &SegmentHeader, first: Record<'_>| {
        first.position > *oldest || first.is_first_needed(part.after)
    };
    Ok(match first_record(storage, &bases, reaches_back)? {
        Some(reaches_back) => !reaches_back,
        // Nothing in it is durable yet.
        None => part.mapped_to.is_some_and(|durable| *oldest >= durable),
    })
}

/// The newest segment of the store before which nothing behind `after` can lie. Of each only the first record
/// that can be read is looked at: where the one at the base is damaged, a later one still shows that nothing
/// before it is needed. Behind a loss that was accepted the log begins anew, and older segments do not go as far
/// as its base: a start that took them for needed would refuse.
fn first_needed<S: Storage>(
    storage: &S,
    bases: &[(Position, String)],
    after: Zxid,
    owns: impl Fn(&SegmentHeader) -> bool,
) -> Result<usize, RecoveryError> {
    let is_needed =
        |header: &SegmentHeader, first: Record<'_>| owns(header) && first.is_first_needed(after);
    for nth in (0..bases.len()).rev() {
        if first_record(storage, &bases[nth..], is_needed)? == Some(true) {
            return Ok(nth);
        }
    }
    Ok(0)
}

/// What `look` says of the first record that can be read in the first of these segments; `None`: none can be read
/// before the next segment begins. Damage before that record is no error here: who reads the segment, because it
/// is needed, finds it again. A segment of which nothing can be read is read to its end.
fn first_record<S: Storage, T>(
    storage: &S,
    bases: &[(Position, String)],
    look: impl Fn(&SegmentHeader, Record<'_>) -> T,
) -> Result<Option<T>, RecoveryError> {
    let Some((base, name)) = bases.first() else {
        return Ok(None);
    };
    let pieces = Pieces::of_size(storage.open(name)?, FIRST_PIECE)?;
    let Ok(mut reader) = Reader::open(name, *base, pieces, Zxid::ZERO) else {
        return Ok(None);
    };
    let header = reader.header;
    let next = bases.get(1).map_or(reader.limit(), |next| next.0);
    let (limit, mut at) = (next.min(reader.limit()), *base);
    while at < limit {
        at = match reader.record(at, Zxid::ZERO) {
            Ok(Some(first)) => return Ok(Some(look(&header, first))),
            Ok(None) => at.plus(ALIGN as u64),
            Err(RecoveryError::Unreadable { .. }) => reader.next_sector(at),
            Err(_) => break,
        };
    }
    Ok(None)
}

/// What is known before the log is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Transactions up to here are in a snapshot.
    pub after: Zxid,
    /// What the store says of itself; `None`: nothing, because it has format 1, or is new.
    pub witness: Option<Witness>,
}

impl Known {
    /// Whether a segment is one of the store's.
    fn owns(&self, header: &SegmentHeader) -> bool {
        let Some(witness) = self.witness else {
            return true;
        };
        match header.store {
            Some(store) => store == witness.store,
            None => header.base < witness.native,
        }
    }
}

/// A log that was read and judged; nothing has been changed yet.
pub struct Scan<S: Storage> {
    storage: S,
    /// Not needed and not read, oldest first.
    older: VecDeque<Closed>,
    segments: Vec<Found>,
    spares: Vec<String>,
    /// The good part ends in this segment; later ones are torn.
    last_good: usize,
    durable_to: Position,
    committed_to: Zxid,
    /// Damage that costs nothing, for the operator.
    rotten: Vec<String>,
    /// `None`: it is read as a standalone server's.
    history: Option<Runs>,
}

impl<S: Storage> Scan<S> {
    /// Reads what follows the snapshot in the log, one segment open at a time, and hands each transaction
    /// behind it to `sink`, in order and without a gap in positions; then judges where the good part
    /// ends. What `sink` made of them counts only if this returns.
    ///
    /// # Errors
    /// [`RecoveryError`], or what `sink` fails with.
    pub fn read<E: From<RecoveryError>>(
        storage: &S,
        known: &Known,
        mut sink: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Scan<S>, E> {
        let (scan, refusal) = Scan::survey(storage, known, &mut sink)?;
        match refusal {
            None => Ok(scan),
            Some(refusal) => Err(refusal.into()),
        }
    }

    /// Reads the log of a member of an ensemble, and judges it. Its transactions are read afterwards, those that count
    /// (`Cursor`).
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn of_member(storage: &S, known: &Known) -> Result<Scan<S>, RecoveryError> {
        let (mut scan, bases) = Scan::begin(storage, known)?;
        scan.history = Some(Runs::default());
        let walked = scan.walk(&bases, known, &mut |_| Ok::<(), RecoveryError>(()));
        walked.map_err(|stop| match stop {
            Stop::Refused(refusal) | Stop::Sink(refusal) => refusal,
        })?;
        if let Some(history) = &mut scan.history {
            history.anchor(known.after);
            scan.committed_to = history.committed();
        }
        scan.judge(known)?;
        Ok(scan)
    }

    /// A standalone server has written the log: all of it is decided, if no fence says otherwise.
    pub fn decide_all(&mut self) {
        if let Some(history) = self.history.as_mut().filter(|h| h.epoch().is_none()) {
            history.commit(history.end());
            self.committed_to = history.committed();
        }
    }

    /// The history of a member, as its log tells it.
    pub fn history(&self) -> Option<&Runs> {
        self.history.as_ref()
    }

    /// As [`Scan::read`], of a log that may be refused: what can be used of it, and why it is refused. What
    /// was handed to `sink` is whole, follows the snapshot without a gap in positions, and counts.
    ///
    /// # Errors
    /// The operating system's for the directory, or what `sink` fails with.
    pub fn survey<E: From<RecoveryError>>(
        storage: &S,
        known: &Known,
        mut sink: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(Scan<S>, Option<RecoveryError>), E> {
        let (mut scan, bases) = Scan::begin(storage, known)?;
        let refusal = match scan.walk(&bases, known, &mut sink) {
            Ok(()) => scan.judge(known).err(),
            Err(Stop::Refused(refusal)) => Some(refusal),
            Err(Stop::Sink(error)) => return Err(error),
        };
        Ok((scan, refusal))
    }

    /// Reads all segments that are needed.
    fn walk<E>(
        &mut self,
        bases: &[(Position, String)],
        known: &Known,
        sink: &mut impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let mut last = known.after;
        let mut is_whole = true;
        for (nth, (base, name)) in bases.iter().enumerate() {
            let next = bases.get(nth + 1).map(|&(base, _)| base);
            let mut walk = Walk {
                known,
                next,
                last,
                yields: is_whole,
            };
            let found = self.read_segment(name, *base, &mut walk, sink)?;
            last = walk.last;
            is_whole &= next == Some(found.end);
            self.segments.push(found);
        }
        Ok(())
    }

    /// As [`Scan::read`], for who wants none of the transactions.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn new(storage: &S) -> Result<Scan<S>, RecoveryError> {
        Scan::read(storage, &Known::default(), |_| Ok(()))
    }

    /// Finds which segments are needed.
    #[allow(clippy::type_complexity)]
    fn begin(
        storage: &S,
        known: &Known,
    ) -> Result<(Scan<S>, Vec<(Position, String)>), RecoveryError> {
        let after = known.after;
        let mut bases = segments(storage)?;
        let names = storage.list()?;
        let is_spare = |name: &String| segment::parse_spare(name).is_some();
        let needed = first_needed(storage, &bases, after, |header| known.owns(header))?;
        let last_before = |_: &SegmentHeader, first: Record<'_>| match first.kind {
            Kind::Txn => Some(Zxid(first.zxid.0 - 1)),
            Kind::Seal | Kind::Fence | Kind::Filler => Some(first.zxid),
            // It does not say what stands before its bracket.
            Kind::Adopted => None,
        };
        let (mut older, mut last_zxid) = (VecDeque::new(), after);
        for nth in (0..needed).rev() {
            let next = first_record(storage, &bases[nth + 1..=needed], last_before)?;
            last_zxid = next.flatten().unwrap_or(last_zxid);
            let name = bases[nth].1.clone();
            older.push_front(Closed { name, last_zxid });
        }
        bases.drain(..needed);
        let scan = Scan {
            storage: storage.clone(),
            older,
            segments: Vec::new(),
            spares: names.into_iter().filter(is_spare).collect(),
            last_good: 0,
            durable_to: Position(0),
            committed_to: Zxid::ZERO,
            rotten: Vec::new(),
            history: None,
        };
        Ok((scan, bases))
    }

    /// Walks the run of valid records, then looks for valid ones behind a bad one: those count for
    /// D and for nothing else. The run ends where the next segment begins: what stands behind was
    /// torn off by the recovery that began that one.
    fn read_segment<E>(
        &mut self,
        name: &str,
        base: Position,
        walk: &mut Walk<'_>,
        sink: &mut impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Found, Stop<E>> {
        let pieces = self.storage.open(name).and_then(Pieces::read);
        let pieces = pieces.map_err(RecoveryError::from)?;
        let mut reader = Reader::open(name, base, pieces, walk.last)?;
        let mut found = Found {
            name: name.to_owned(),
            header: reader.header,
            len: reader.pieces.len(),
            end: base,
            last_zxid: None,
            zxid: None,
            first: None,
            has_fence: false,
            valid_behind: false,
            unreadable: None,
            is_damaged: false,
        };
        if !walk.known.owns(&found.header) {
            let file = found.name;
            let whose = "this store";
            return Err(RecoveryError::Foreign { file, whose }.into());
        }
        // From format 2 on a segment has its name after everything before it was synced: what is missing
        // before it was never a torn batch, though no record says so yet.
        if found.header.store.is_some() {
            self.durable_to = self.durable_to.max(base);
        }
        let limit = walk.next.unwrap_or(reader.limit()).min(reader.limit());
        let (mut at, mut in_run) = (base, true);
        while at < limit {
            let record = match reader.record(at, walk.last) {
                Ok(Some(record)) if record.kind.is_members() && self.history.is_none() => {
                    let (file, offset) = (found.name, found.header.offset(at));
                    return Err(RecoveryError::Member { file, offset }.into());
                }
                Ok(Some(record)) => record,
                Err(error @ RecoveryError::Unreadable { .. }) => {
                    if in_run {
                        found.unreadable = Some(error);
                    }
                    found.is_damaged |= in_run;
                    in_run = false;
                    at = reader.next_sector(at);
                    continue;
                }
                Err(error) => return Err(error.into()),
                // Nothing was appended behind the place where the log was closed. It is never a base:
                // there begins what was appended since a witness that is older than the log.
                Ok(None) if walk.closed_at() == Some(at) && at > base && in_run => break,
                Ok(None) => {
                    in_run = false;
                    at = at.plus(ALIGN as u64);
                    continue;
                }
            };
            self.durable_to = self.durable_to.max(record.durable_to);
            self.committed_to = self.committed_to.max(record.committed_to);
            let position = at;
            at = record.end();
            let whole_to = match walk.yields {
                true => walk.last,
                false => walk.known.after,
            };
            let is_needed_from_here = match &self.history {
                None => record.is_first_needed(whole_to),
                // What is missing may have been a fence.
                Some(_) => {
                    let after = walk.known.after;
                    record.kind == Kind::Txn && record.is_first_needed(after)
                }
            };
            if !in_run && is_needed_from_here {
                self.history.iter_mut().for_each(Runs::begin_anew);
                let offset = found.header.offset(found.end);
                let place = format!("{name} is damaged at byte {offset}, where nothing is needed");
                self.note_rot(place);
                (in_run, found.unreadable, found.is_damaged) = (true, None, false);
            }
            if !in_run {
                found.valid_behind = true;
                continue;
            }
            found.zxid = Some(record.zxid);
            found.first = found.first.or(Some((record.kind, record.zxid)));
            if let Some(history) = &mut self.history {
                found.has_fence |= record.kind == Kind::Fence;
                if record.kind.is_transaction() {
                    found.last_zxid = found.last_zxid.max(Some(record.zxid));
                }
                if walk.yields {
                    let read = history.read(&record);
                    let refused = |contradiction: Contradiction| {
                        found.corrupt(position, contradiction.what(), walk.last)
                    };
                    read.map_err(refused)?;
                    walk.last = history.end();
                }
                found.end = at;
                continue;
            }
            if record.kind == Kind::Txn {
                let zxid = record.zxid;
                if found.last_zxid.is_some_and(|last| zxid <= last) {
                    let what = "a transaction out of order";
                    return Err(found.corrupt(position, what, walk.last).into());
                }
                found.last_zxid = Some(zxid);
                if walk.yields && zxid > walk.known.after {
                    if zxid <= walk.last {
                        let what = "a transaction out of order";
                        return Err(found.corrupt(position, what, walk.last).into());
                    }
                    sink(record).map_err(Stop::Sink)?;
                    walk.last = zxid;
                }
            }
            found.end = at;
        }
        Ok(found)
    }

    /// Compares the first bad place with D, and the end with what the witness knows.
    fn judge(&mut self, known: &Known) -> Result<(), RecoveryError> {
        let witnessed = known.witness.map(|witness| witness.durable);
        let witnessed = witnessed.unwrap_or_default();
        let Some(last) = self.segments.len().checked_sub(1) else {
            return match witnessed.position > Position(0) {
                true => Err(self.ends_before(witnessed.zxid, WITNESS.to_owned())),
                false => Ok(()),
            };
        };
        let bad = (0..last).find(|&i| self.segments[i].end != self.segments[i + 1].header.base);
        self.last_good = bad.unwrap_or(last);
        let end = self.end().unwrap_or_default();
        let intact = end.zxid.max(known.after);
        let found = &mut self.segments[self.last_good];
        if let Some(error) = found.unreadable.take() {
            return Err(error);
        }
        let found = &self.segments[self.last_good];
        if found.end < self.durable_to {
            let what = match (found.valid_behind, self.last_good == last) {
                (true, _) => "a damaged record with valid ones behind it",
                (false, true) => "an end before what had been made durable",
                (false, false) => "a damaged record, or a segment is missing behind it,",
            };
            return Err(found.corrupt(found.end, what, intact));
        }
        // What is missing may have been a fence.
        if self.history.is_some() && found.end < witnessed.position {
            return Err(self.ends_before(witnessed.zxid, WITNESS.to_owned()));
        }
        if found.len < found.header.bytes {
            let what = "an end before that of the segment, whose last part is missing,";
            return Err(found.corrupt(found.end, what, intact));
        }
        if found.end < witnessed.position {
            if witnessed.zxid > intact {
                return Err(self.ends_before(witnessed.zxid, WITNESS.to_owned()));
            }
            let (name, offset) = (&found.name, found.header.offset(found.end));
            let place = format!("{name} is damaged at byte {offset}, where no transaction was");
            self.note_rot(place);
        }
        Ok(())
    }

    /// One place says what there is to do; each record of a segment may be one.
    fn note_rot(&mut self, place: String) {
        if self.rotten.len() < ROTTEN_MAX {
            self.rotten.push(place);
        }
    }

    /// Where the good part ends; `None` if there is no segment.
    pub fn end(&self) -> Option<LogEnd> {
        let good = self
            .segments
            .get(..=self.last_good)
            .filter(|good| !good.is_empty())?;
        let older = self.older.back().map(|older| older.last_zxid);
        let zxid = good
            .iter()
            .rev()
            .find_map(|found| found.zxid)
            .or(older)
            .unwrap_or(Zxid::ZERO);
        let zxid = self.history.as_ref().map_or(zxid, Runs::end);
        Some(LogEnd {
            position: good.last()?.end,
            zxid,
        })
    }

    /// Why a log is refused that does not go as far as `by` shows.
    pub fn ends_before(&self, known: Zxid, by: String) -> RecoveryError {
        let last = self.segments.get(self.last_good);
        let end = last.map(|found| {
            let zxid = self.end().unwrap_or_default().zxid;
            (zxid, (found.name.clone(), found.header.offset(found.end)))
        });
        RecoveryError::Lost { end, known, by }
    }

    /// Names of the segments that hold anything but whole transactions up to `kept`, and of all behind the
    /// first of them, oldest first, with the base of that one: what a store that ends at `kept` has no use
    /// for.
    ///
    /// # Errors
    /// The listing's.
    pub fn unusable(
        &self,
        kept: Zxid,
        known: &Known,
    ) -> io::Result<(Option<Position>, Vec<String>)> {
        let mut bases = segments(&self.storage)?;
        let witnessed = known.witness.map(|witness| witness.durable.position);
        let older = self.older.len();
        let is_usable = |nth: usize| {
            let found = self.segments.get(nth);
            let next = bases.get(older + nth + 1).map(|(base, _)| *base);
            found.is_some_and(|found| {
                let ends_well = match next {
                    Some(next) => found.end == next,
                    None => found.end >= witnessed.unwrap_or_default().max(self.durable_to),
                };
                let is_short = found.len < found.header.bytes && next.is_none();
                let holds_more = found.last_zxid.is_some_and(|last| last > kept);
                ends_well && !holds_more && !found.is_damaged && !found.valid_behind && !is_short
            })
        };
        let needed = 0..bases.len().saturating_sub(older);
        let usable = needed.take_while(|&nth| is_usable(nth)).count();
        let unusable = bases.split_off(older + usable);
        let first = unusable.first().map(|(base, _)| *base);
        Ok((first, unusable.into_iter().map(|(_, name)| name).collect()))
    }

    /// The last transaction of which anything can be read in these segments; what can't be read is passed
    /// over.
    pub fn newest_in(&self, names: &[String], known: &Known) -> Zxid {
        let newest = |name: &String| self.newest_in_one(name, known);
        names.iter().filter_map(newest).max().unwrap_or(Zxid::ZERO)
    }

    fn newest_in_one(&self, name: &str, known: &Known) -> Option<Zxid> {
        let base = segment::parse_name(name)?;
        let pieces = Pieces::read(self.storage.open(name).ok()?).ok()?;
        let mut reader = Reader::open(name, base, pieces, Zxid::ZERO).ok()?;
        let limit = reader.limit();
        let (mut at, mut newest) = (base, None);
        while known.owns(&reader.header) && at < limit {
            let next = reader.next_sector(at);
            at = match reader.record(at, Zxid::ZERO) {
                Ok(Some(record)) => {
                    newest = newest.max(Some(record.zxid));
                    record.end()
                }
                Ok(None) => at.plus(ALIGN as u64),
                Err(_) => next,
            };
        }
        newest
    }

    /// Whether there is any segment of the store.
    pub fn is_there(&self) -> bool {
        !(self.segments.is_empty() && self.older.is_empty())
    }

    /// Everything up to here was committed when it was written.
    pub fn committed_to(&self) -> Zxid {
        self.committed_to
    }

    /// Whether anything was torn off, for the start-up summary.
    pub fn is_torn(&self) -> bool {
        self.last_good + 1 < self.segments.len() || self.segments.iter().any(|f| f.valid_behind)
    }

    /// Damage that was found and costs nothing: the first [`ROTTEN_MAX`] places.
    pub fn rotten(&self) -> &[String] {
        &self.rotten
    }

    /// Bytes of the records that were read.
    pub fn bytes(&self) -> u64 {
        let used = |found: &Found| found.end.0 - found.header.base.0;
        self.segments.iter().map(used).sum()
    }

    /// Segments that were read.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Where a record is: the file's name, and the offset of its first byte.
    pub fn place(&self, position: Position) -> Option<(&str, u64)> {
        let holds = |found: &&Found| found.header.base <= position && position < found.end;
        let found = self.segments.iter().find(holds)?;
        Some((&found.name, found.header.offset(position)))
    }

    /// [`Scan::settle`], then [`Scan::begin_log`].
    ///
    /// # Errors
    /// The operating system's.
    #[cfg(test)]
    pub fn open(
        self,
        config: LogConfig,
        identities: Identities,
        store: StoreId,
        applied: Zxid,
    ) -> io::Result<Log<S>> {
        self.settle()?;
        self.begin_log(config, identities, store, applied)
    }

    /// Begins a fresh segment behind what was settled. `applied` is the last zxid of the recovered state.
    /// Blocks.
    ///
    /// # Errors
    /// The operating system's.
    pub fn begin_log(
        self,
        config: LogConfig,
        identities: Identities,
        store: StoreId,
        applied: Zxid,
    ) -> io::Result<Log<S>> {
        let config = config.in_whole_pages();
        let end = self.resume_at();
        let kept = |found: &&Found| found.header.base < end.position;
        let kept: Vec<&Found> = self.segments.iter().filter(kept).collect();
        let mut closed = self.older.clone();
        let mut last_zxid = closed.back().map_or(Zxid::ZERO, |older| older.last_zxid);
        for (nth, found) in kept.iter().enumerate() {
            last_zxid = found.last_zxid.unwrap_or(last_zxid);
            if self.history.is_some() {
                last_zxid = self.last_needed(nth).max(last_zxid);
            }
            closed.push_back(Closed {
                name: found.name.clone(),
                last_zxid,
            });
        }
        let log = Log::start(Start {
            storage: self.storage.clone(),
            config,
            identities,
            store,
            closed,
            spares: self.spares.clone(),
            end: LogEnd {
                zxid: end.zxid.max(applied),
                ..end
            },
            history: self.history.clone(),
        })?;
        // Not before the next segment is there: a last one that is shorter than its header says is
        // refused.
        for found in kept {
            // What can't be given back is only lost room.
            let _ = self.trim(found, end.position);
        }
        Ok(log)
    }

    /// With which transaction in a snapshot this segment of a member is not needed any more: its fences say what a
    /// transaction follows with which the next segment begins, and no transaction up to the greatest so far may be
    /// one that only this segment has.
    fn last_needed(&self, nth: usize) -> Zxid {
        let greatest = self.segments[..=nth]
            .iter()
            .filter_map(|found| found.last_zxid);
        let next = self.segments.get(nth + 1).and_then(|next| next.first);
        let before = match next {
            Some((Kind::Txn | Kind::Adopted, zxid)) => Some(Zxid(zxid.0 - 1)),
            _ => None,
        };
        greatest.chain(before).max().unwrap_or(Zxid::ZERO)
    }

    /// Where the fresh segment begins: segments at the end that hold no transaction are left out,
    /// or every start would leave one.
    fn resume_at(&self) -> LogEnd {
        let end = self.end().unwrap_or_default();
        let good = self.segments.iter().take(self.last_good + 1);
        let is_empty = |found: &&Found| found.last_zxid.is_none() && !found.has_fence;
        let empty = good.rev().take_while(is_empty);
        LogEnd {
            position: empty.last().map_or(end.position, |found| found.header.base),
            ..end
        }
    }

    /// Makes what was read durable, and removes the torn segments behind it: where the log will go on.
    /// Records that only the page cache may hold are written again first, because after a failed sync the
    /// kernel takes them for clean and a further sync does nothing. What is torn within the last segment
    /// stays: it lies behind the base of the next one, where nobody looks. Blocks.
    ///
    /// # Errors
    /// The operating system's.
    pub fn settle(&self) -> io::Result<LogEnd> {
        let resume = self.resume_at();
        let end = resume.position;
        for found in &self.segments {
            let good = found.end.min(end);
            let from = found.header.base.max(self.durable_to);
            if found.header.base < end && good > from {
                let file = self.storage.open(&found.name)?;
                write_again(&file, found.header.offset(from), found.header.offset(good))?;
                file.sync()?;
            }
        }
        // Newest first: no gap, wherever this is interrupted. The fresh segment takes the place of
        // the one that begins at the end.
        for torn in self.segments.iter().rev() {
            if torn.header.base > end {
                self.storage.remove(&torn.name)?;
            }
        }
        self.storage.sync_dir()?;
        Ok(resume)
    }

    /// Gives back what a segment that is not written any more does not use.
    fn trim(&self, found: &Found, end: Position) -> io::Result<()> {
        let used = found.header.offset(found.end.min(end));
        let used = used.next_multiple_of(PAGE);
        if used + found.header.bytes / TRIM_PART > found.len {
            return Ok(());
        }
        self.storage.open(&found.name)?.truncate(used)
    }
}

/// Behind every byte that the files of a directory, or the witness, show to have been in the log.
///
/// # Errors
/// The operating system's.
pub fn behind_all<S: Storage>(
    storage: &S,
    witness: Option<&Witness>,
    segment_bytes: u64,
) -> io::Result<Position> {
    let known = witness.map(|witness| {
        let newest = witness.newest.0.saturating_add(segment_bytes);
        Position(newest).max(witness.durable.position)
    });
    let mut behind = known.unwrap_or_default();
    for (base, name) in segments(storage)? {
        let end = base.0.saturating_add(storage.open(&name)?.len()?);
        behind = behind.max(Position(end));
    }
    let page = behind.0.checked_next_multiple_of(PAGE).map(Position);
    page.ok_or_else(|| io::Error::other("no position is left behind what the files show"))
}

/// Names of the segments that begin at `from` or later, and before `to`, oldest first.
///
/// # Errors
/// The listing's.
pub fn segments_between<S: Storage>(
    storage: &S,
    from: Position,
    to: Position,
) -> io::Result<Vec<String>> {
    let mut bases = segments(storage)?;
    bases.retain(|(base, _)| (from..to).contains(base));
    Ok(bases.into_iter().map(|(_, name)| name).collect())
}

/// Begins a log anew at `end`, behind all segments that there are, which count for nothing. Blocks.
///
/// # Errors
/// The operating system's.
pub fn begin_at<S: Storage>(
    storage: &S,
    config: LogConfig,
    identities: Identities,
    store: StoreId,
    end: LogEnd,
) -> io::Result<Log<S>> {
    let is_spare = |name: &String| segment::parse_spare(name).is_some();
    Log::start(Start {
        storage: storage.clone(),
        config: config.in_whole_pages(),
        identities,
        store,
        closed: VecDeque::new(),
        spares: storage.list()?.into_iter().filter(is_spare).collect(),
        end,
        history: None,
    })
}

/// A segment that uses all but less than one part in so many stays as it is, and can be used again.
const TRIM_PART: u64 = 4;

/// Why a walk over a log has ended early.
enum Stop<E> {
    /// The log is refused.
    Refused(RecoveryError),
    /// The sink has failed.
    Sink(E),
}

impl<E> From<RecoveryError> for Stop<E> {
    fn from(refusal: RecoveryError) -> Stop<E> {
        Stop::Refused(refusal)
    }
}

/// What [`Scan::read_segment`] is told, and says.
struct Walk<'a> {
    known: &'a Known,
    /// Where the next segment begins.
    next: Option<Position>,
    /// The last transaction handed over.
    last: Zxid,
    /// Transactions are handed over: nothing is missing before.
    yields: bool,
}

impl Walk<'_> {
    /// Where the log was closed the last time that the witness was written.
    fn closed_at(&self) -> Option<Position> {
        let witness = self.known.witness.filter(|witness| witness.is_closed);
        witness.map(|witness| witness.durable.position)
    }
}

/// Places of damage that an operator is told of.
pub const ROTTEN_MAX: usize = 16;

/// For messages.
const WITNESS: &str = "the witness beside it";

fn write_again<F: File>(file: &F, from: u64, to: u64) -> io::Result<()> {
    let mut pieces = Pieces::read(file.clone())?;
    let mut at = from;
    while at < to {
        let bytes = (to - at).min(PIECE) as usize;
        let again = pieces.get(at, bytes)?;
        let again = again.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec();
        file.write_at(at, &again)?;
        at += bytes as u64;
    }
    Ok(())
}

/// The least that a device can fail to read, bytes.
const SECTOR: u64 = 512;
/// What is read of a segment to see how it begins, bytes.
const FIRST_PIECE: u64 = 8 << 10;
/// What is written again at once, bytes.
const PIECE: u64 = 256 << 10;
