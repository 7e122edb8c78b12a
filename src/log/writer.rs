//! The writing end of the log.
//!
//! Records are gathered in a buffer. A *ticket* ([`SyncTicket`]) takes the buffer along: it is what has to be
//! written and synced before the records count as durable, and while it is out the next batch gathers in
//! another buffer. There is no timer on this path.
//!
//! **Nothing here waits for the device.** A write goes to the page cache, and yet waits in the kernel while the
//! device is slow: for the journal of the file system, for pages that are on their way to the device, for room
//! for dirty pages. So who appends, rolls or seals only gathers, and the driver decides where the bytes of a
//! ticket are written (`placement/group_commit.rs`). One ticket is out at a time, which keeps the order of the
//! writes; what a ticket has not brought back yet lies at or above what is durable, and nobody reads there.
//!
//! **Memory.** Buffers are pieces of [`PIECE`] and a record, and nothing larger is ever copied into a larger one.
//! What is gathered for a segment is at most the segment. A roll leaves the buffer of the segment
//! that it closes to the next ticket; spares that are ready and buffers that wait so come to [`SPARES_AHEAD`]
//! together at most. So at most [`SPARES_AHEAD`] and one segments gather, and as many are in a ticket. The requests
//! that all of this comes from have a bound of their own, as a rule a smaller one. [`PIECES_KEPT`] pieces of a ticket
//! that has come back are gathered in again: new memory costs more than what is written into it. An idle log keeps
//! none of them, and [`BUFFER_KEPT`] of each buffer.
//!
//! **Whole pages.** Zeroes behind a batch reach to the end of its last 4 KiB page; the next batch
//! begins right behind the last record and overwrites them. So a page is entered with a write that
//! covers all of it, and the kernel need not read it from the device first, inside the write, when
//! it is not in the page cache any more. Positions do not change. Nothing that is durable is written
//! again: what the zeroes replace are zeroes, or records of another identity, and a torn page of
//! them reads like a torn batch.
//!
//! **Roll.** A record that does not fit any more (room for three seals is kept: one for the batch
//! before, one for the last, one that closes) ends the segment: a seal is gathered for it, and the header of the
//! spare is the first that is gathered for the next one. The next ticket writes and syncs the old file, then the
//! new one, gives the new one its name, and syncs the directory; before that nothing in the new one is
//! acknowledged. So a segment that has its name has its header. After a crash before, it is a spare: its identity
//! is drawn anew, and its records are none.
//!
//! **Seals** carry `durable_to` and nothing else, and never stand in a page with what they vouch for: a
//! filler takes the rest of that page, so that one sector that rots can't take both. One is written when an acknowledged batch has not
//! been covered by a later record for [`SEAL_DELAY_MS`], on roll, and on close. The sync of a seal
//! exposes nothing new, so a seal never arms another.
//!
//! **Spares and the full disk.** Up to [`SPARES_AHEAD`] segments are kept ready ahead, made one
//! after the other; the last of them waits for a retired segment, if there is one that somebody may still read.
//!
//! | Spares | Record | growing write | shrinking (deletes and errors of clients) | reserve (sessions) |
//! |---|---|---|---|---|
//! | one ready or more | fits the segment | yes | yes | yes |
//! | one ready or more | does not fit | yes, after a roll | yes, after a roll | yes, after a roll |
//! | none ready, one being made | fits | yes | yes | yes |
//! | none ready, one being made | does not fit | wait | wait | wait |
//! | none ready, the last try met a full disk | leaves a quarter of the segment | **full** | yes | yes: what is left of the segment is the reserve |
//! | none ready, the last try met a full disk | fits | full | **full** | yes |
//! | none ready, the last try met a full disk | does not fit | full | full | full |
//!
//! Spares are ordered at a roll, so the reserve is nearly a whole segment. Its last quarter is for
//! sessions alone: a client may delete what does not exist for ever, and each try is a record. A try that met a full
//! disk is made again after [`RETRY_MS`], and the disk counts as full until a spare was made: growing
//! writes do not use up the reserve between two tries. Service resumes by itself. Want of descriptors or
//! memory while a spare is created, or a retired segment opened, counts as a full disk: what counts is the
//! table of `verdict`.

mod adoption;

pub use adoption::AdoptionError;

use super::durable::{Adoption, Durable, HistoryId, LogEnd};
use super::lease::{Lease, Leases};
use super::record::{HEADER, Head, Identity, Kind, Seed, StoreId, size};
use super::runs::Runs;
use super::segment::{self, HEADER_BLOCK, SegmentHeader};
use super::storage::{File, Storage};
use super::verdict::{Call, Verdict, verdict};
use crate::constants::SEAL_DELAY_MS;
use crate::types::{Position, Tick, Zxid};
use std::collections::VecDeque;
use std::io;

/// A full disk is asked for a spare again after this long, ms.
pub const RETRY_MS: u64 = 1000;
/// Retired segments that wait to be used again; more are removed.
const RECYCLE_MAX: usize = 4;
/// Spares that are kept ready, and closed segments at most whose last records wait for a ticket.
pub(super) const SPARES_AHEAD: usize = 2;
/// A buffer with so many bytes takes no more, another one goes on: to make a large one larger copies it, and takes as
/// much memory again, up to 64 MiB at once while the device hangs.
pub(super) const PIECE: usize = 4 << 20;
/// Pieces that wait to be gathered in, at most.
pub(super) const PIECES_KEPT: usize = 16;
/// What an idle log keeps of each of its buffers, bytes; a burst may have made them as large as a segment.
const BUFFER_KEPT: usize = 1 << 20;
/// On a full disk, one part in so many of the segment is kept for sessions.
const SESSIONS_PART: u64 = 4;
/// Of the page cache, bytes.
pub(super) const PAGE: u64 = 4096;
/// A seal, and the filler before it, at most.
const SEAL: u64 = size(0) as u64 + PAGE + HEADER as u64;
static ZEROES: [u8; PAGE as usize] = [0; PAGE as usize];
/// What an archive may add to the entry that `room_for` is told of, bytes.
const ARCHIVE_SLACK: usize = 160;

/// Gives 128 random bits for each new segment.
pub type Identities = Box<dyn FnMut() -> u128 + Send>;

/// What the operator may choose.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Preallocated size of a segment, rounded up to whole pages of 4 KiB; at least twice the
    /// largest record.
    pub segment_bytes: u64,
}

impl LogConfig {
    pub(super) fn in_whole_pages(self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes.next_multiple_of(PAGE),
        }
    }
}

/// How a record counts when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It makes the state larger.
    Growing,
    /// A client asks for it, and it can only make the state smaller, or changes nothing.
    Shrinking,
    /// It opens, closes or expires a session, or deletes what the session owns.
    Reserve,
}

/// Whether a record can be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Now.
    Yes,
    /// After the next [`Log::spare_made`].
    Wait,
    /// Not until the disk has room.
    Full,
}

/// What makes a batch durable; one ticket is out at a time.
#[derive(Debug)]
pub struct SyncTicket<S: Storage> {
    storage: S,
    /// Pieces, and for closed segments; nearly always none, and then nothing is allocated. A file is synced behind
    /// each of its pieces: the last sync is the one that counts.
    full: Vec<Gathered<S::File>>,
    current: Gathered<S::File>,
    /// Segments begun since the last ticket.
    begun: Vec<Naming>,
    end: LogEnd,
    history: HistoryId,
    bytes: u64,
    /// A write has failed already.
    failed: Option<io::Error>,
}

/// What was gathered for a segment, and where in its file it goes.
#[derive(Debug)]
struct Gathered<F> {
    file: F,
    offset: u64,
    bytes: Bytes,
}

/// How far the bytes have come.
#[derive(Debug)]
enum Bytes {
    Unwritten(Vec<u8>),
    /// Somebody writes them elsewhere, and has not come back.
    Taken,
    /// Written, or none.
    Written(Vec<u8>),
}

impl<F: File> Gathered<F> {
    fn is_written(&self) -> bool {
        matches!(self.bytes, Bytes::Written(_))
    }

    /// The memory of what was written.
    fn into_buffer(self) -> Vec<u8> {
        match self.bytes {
            Bytes::Written(buffer) => buffer,
            Bytes::Unwritten(_) | Bytes::Taken => Vec::new(),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if let Bytes::Unwritten(bytes) = &mut self.bytes {
            self.file.write_at(self.offset, bytes)?;
            self.bytes = Bytes::Written(std::mem::take(bytes));
        }
        Ok(())
    }
}

/// A write to make elsewhere, all of it.
#[derive(Debug)]
pub struct Unwritten<F> {
    /// The file.
    pub file: F,
    /// Where in it.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// A segment begun in a spare.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The file's name.
    pub spare: String,
    /// The name that it gets.
    pub segment: String,
}

/// One step towards durability.
#[derive(Debug)]
pub enum SyncTask<'a, F> {
    /// fdatasync, behind the write of what was gathered for the file, if it was not made before
    /// ([`SyncTicket::take_unwritten`]).
    File(&'a F),
    /// [`Storage::rename`].
    Name(&'a Naming),
    /// [`Storage::sync_dir`].
    Directory,
}

/// A ticket that was worked off.
#[derive(Debug)]
pub struct SyncOutcome {
    end: LogEnd,
    history: HistoryId,
    result: io::Result<()>,
    /// Of the segment that is written, to gather in again.
    buffer: Vec<u8>,
    /// Pieces, for the same.
    pieces: Vec<Vec<u8>>,
}

impl<S: Storage> SyncTicket<S> {
    /// What to do, in this order, all of it. Nothing behind a write that has failed: a segment without its header
    /// must not get its name.
    pub fn tasks(&self) -> impl Iterator<Item = SyncTask<'_, S::File>> {
        let files = self.gathered().map(|gathered| &gathered.file);
        let names = self.begun.iter().map(SyncTask::Name);
        let directory = (!self.begun.is_empty()).then_some(SyncTask::Directory);
        let tasks = files.map(SyncTask::File).chain(names).chain(directory);
        tasks.take_while(|_| self.failed.is_none())
    }

    fn gathered(&self) -> impl Iterator<Item = &Gathered<S::File>> {
        self.full.iter().chain([&self.current])
    }

    /// Where to do it.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Whether at most so many bytes were appended since the last ticket, to one segment.
    pub fn is_small(&self, bytes_max: u64) -> bool {
        self.bytes <= bytes_max && self.begun.is_empty()
    }

    /// Whether nothing is left to write.
    pub fn is_written(&self) -> bool {
        self.gathered().all(Gathered::is_written)
    }

    /// Writes here and now whatever was not written; that may block while the device is slow. An error is the
    /// ticket's, which nothing makes a success any more.
    pub fn write_now(&mut self) {
        if self.failed.is_none() {
            let mut gathered = self.full.iter_mut().chain([&mut self.current]);
            self.failed = gathered.try_for_each(Gathered::write).err();
        }
    }

    /// What is to be written before the file of this task of [`SyncTicket::tasks`] is synced, for who writes it
    /// elsewhere and gives the bytes back to [`SyncTicket::written`]. `None`: there is nothing, or there was an
    /// error before.
    pub fn take_unwritten(&mut self, task: usize) -> Option<Unwritten<S::File>> {
        let mut gathered = self.full.iter_mut().chain([&mut self.current]);
        let Gathered {
            file,
            offset,
            bytes,
        } = gathered.nth(task).filter(|_| self.failed.is_none())?;
        if !matches!(bytes, Bytes::Unwritten(_)) {
            return None;
        }
        match std::mem::replace(bytes, Bytes::Taken) {
            Bytes::Unwritten(bytes) => Some(Unwritten {
                file: file.clone(),
                offset: *offset,
                bytes,
            }),
            Bytes::Taken | Bytes::Written(_) => unreachable!("just seen"),
        }
    }

    /// All of what [`SyncTicket::take_unwritten`] gave for this task was written.
    ///
    /// # Panics
    /// Nothing was taken.
    pub fn written(&mut self, task: usize, bytes: Vec<u8>) {
        let mut gathered = self.full.iter_mut().chain([&mut self.current]);
        let taken = gathered.nth(task).expect("the task of a file");
        assert!(matches!(taken.bytes, Bytes::Taken), "nobody has taken them");
        taken.bytes = Bytes::Written(bytes);
    }

    /// The first `done` of [`SyncTicket::tasks`] were done, and `result` is what the last one has said.
    ///
    /// # Panics
    /// A success that leaves out a task or a write: nothing may count as durable.
    pub fn done(self, done: usize, result: io::Result<()>) -> SyncOutcome {
        let all = self.tasks().count();
        assert!(result.is_err() || done == all, "{done} of {all} tasks");
        let is_written = self.failed.is_some() || self.is_written();
        assert!(result.is_err() || is_written, "records were not written");
        let pieces = self.full.into_iter().map(Gathered::into_buffer);
        SyncOutcome {
            end: self.end,
            history: self.history,
            result: self.failed.map_or(result, Err),
            buffer: self.current.into_buffer(),
            pieces: pieces.filter(|piece| piece.capacity() >= PIECE).collect(),
        }
    }

    /// Does everything here and now, blocking.
    pub fn run(mut self) -> SyncOutcome {
        self.write_now();
        let mut done = 0;
        let result = self.tasks().try_for_each(|task| {
            done += 1;
            match task {
                SyncTask::File(file) => file.sync(),
                SyncTask::Name(name) => self.storage.rename(&name.spare, &name.segment),
                SyncTask::Directory => self.storage.sync_dir(),
            }
        });
        self.done(done, result)
    }
}

/// A spare segment to make, on a thread that may block.
#[derive(Clone, Debug)]
pub struct SpareJob {
    name: String,
    bytes: u64,
    /// A retired segment to use again: its stale bytes have another identity and stay.
    recycle: Option<String>,
}

/// What came of an order.
#[derive(Debug)]
pub struct SpareResult<S: Storage> {
    name: String,
    file: Result<S::File, NoSpare>,
    /// What is free beside it, bytes; where that is not known: as much as there can be.
    room_left: u64,
}

/// Why there is no spare.
#[derive(Debug)]
enum NoSpare {
    /// There was no room; what was begun is undone.
    Shortage {
        reason: io::Error,
        /// The retired segment that was to be used again: it is where it was.
        recycle: Option<String>,
    },
    /// Nothing is known about the file.
    Failed(io::Error),
}

impl<S: Storage> SpareResult<S> {
    /// Why there was no room for it.
    pub fn shortage(&self) -> Option<&io::Error> {
        match &self.file {
            Err(NoSpare::Shortage { reason, .. }) => Some(reason),
            _ => None,
        }
    }
}

impl SpareJob {
    /// Whether a retired segment is used again.
    pub fn recycles(&self) -> bool {
        self.recycle.is_some()
    }

    /// Makes the file durable under its name. Slow: zeroes a whole segment.
    pub fn fulfil<S: Storage>(self, storage: &S) -> SpareResult<S> {
        let SpareJob {
            name,
            bytes,
            recycle,
        } = self;
        let file = match obtain(storage, recycle.as_deref(), &name, bytes) {
            Ok(file) => made_durable(storage, &name, file),
            Err((call, reason)) => Err(match verdict(call, &reason) {
                Verdict::Later => NoSpare::Shortage { reason, recycle },
                _ => NoSpare::Failed(reason),
            }),
        };
        SpareResult {
            name,
            file,
            room_left: storage.room().unwrap_or(u64::MAX),
        }
    }
}

/// A file under the name of a spare: a retired segment if there is one, else a new one. Which call
/// has failed, and how.
fn obtain<S: Storage>(
    storage: &S,
    recycle: Option<&str>,
    name: &str,
    bytes: u64,
) -> Result<S::File, (Call, io::Error)> {
    let has_room = has_room_to_write(storage, bytes);
    has_room.map_err(|reason| (Call::CreateSpare, reason))?;
    if let Some(old) = recycle {
        match reuse(storage, old, name, bytes) {
            Ok(Some(file)) => return Ok(file),
            Ok(None) => {}
            Err(reason) if verdict(Call::TakeRetired, &reason) == Verdict::Done => {}
            Err(reason) => return Err((Call::TakeRetired, reason)),
        }
    }
    let created = storage.create(name, bytes);
    created.map_err(|reason| (Call::CreateSpare, reason))
}

/// On a copy-on-write file system: whether what is written into the segments that may be written before
/// the next spare is made finds room.
fn has_room_to_write<S: Storage>(storage: &S, bytes: u64) -> io::Result<()> {
    // The spare itself, those that are ready, and the one that is written.
    let needed = bytes * (SPARES_AHEAD as u64 + 2);
    match storage.overwrites_in_place() || storage.room()? >= needed {
        true => Ok(()),
        false => Err(io::ErrorKind::StorageFull.into()),
    }
}

/// Nobody has used the file yet: if it can't be made durable for want of room, it is thrown away.
fn made_durable<S: Storage>(storage: &S, name: &str, file: S::File) -> Result<S::File, NoSpare> {
    if let Err(reason) = file.sync() {
        // File systems that allocate late say so here.
        let is_thrown_away = verdict(Call::SyncSpare, &reason) == Verdict::Anew;
        if !is_thrown_away {
            return Err(NoSpare::Failed(reason));
        }
        // Or each further try would leave another file. A start takes it for a spare if it can't be
        // removed.
        let _ = storage.remove(name);
        let recycle = None;
        return Err(NoSpare::Shortage { reason, recycle });
    }
    match storage.sync_dir() {
        Ok(()) => Ok(file),
        Err(reason) => Err(NoSpare::Failed(reason)),
    }
}

/// Gives a retired segment the name of a spare; `None`: it has another size, and is removed.
fn reuse<S: Storage>(
    storage: &S,
    old: &str,
    name: &str,
    bytes: u64,
) -> io::Result<Option<S::File>> {
    // Opened before it is renamed: there may be no descriptor left.
    let file = storage.open(old)?;
    if file.len()? != bytes {
        return storage.remove(old).map(|()| None);
    }
    storage.rename(old, name).map(|()| Some(file))
}

/// A file that can become a segment.
#[derive(Debug)]
pub(super) struct Spare<F> {
    pub(super) name: String,
    pub(super) file: F,
}

/// Whether a spare is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Making {
    No,
    UnderWay,
    /// The last try met a full disk; it is made again at this tick, `None`: the next tick says when.
    Later(Option<Tick>),
}

/// Where a log was closed; all of it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Behind its last seal.
    pub end: LogEnd,
    /// Base of its last segment.
    pub newest: Position,
}

/// A segment that is not written any more.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) name: String,
    /// The last zxid in it or before it.
    pub(super) last_zxid: Zxid,
}

/// Figures for `mntr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Transactions appended.
    pub records: u64,
    /// Bytes appended.
    pub bytes: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Seals appended.
    pub seals: u64,
    /// Segments begun.
    pub rolls: u64,
}

/// The end of a log at which records are appended.
pub struct Log<S: Storage> {
    storage: S,
    config: LogConfig,
    identities: Identities,
    store: StoreId,
    closed: VecDeque<Closed>,
    leases: Leases,
    /// Retired, oldest first, still on disk under their names.
    recyclable: VecDeque<Closed>,
    header: SegmentHeader,
    /// Of the header's identity.
    seed: Seed,
    file: S::File,
    name: String,
    /// What is gathered for the file, and where in it that begins. Bounded by a segment.
    buffer: Vec<u8>,
    buffer_at: u64,
    /// The buffer of the last ticket, empty.
    idle: Vec<u8>,
    /// Pieces of tickets that have come back, empty.
    pieces: Vec<Vec<u8>>,
    /// Behind the last record, and the last transaction that counts: what a bracket that is open has brought does not.
    end: LogEnd,
    durable: Position,
    /// What takes no more since the last ticket: pieces, and what was gathered for segments that were closed.
    full: Vec<Gathered<S::File>>,
    /// Segments that are still spares by name, the current one last.
    unnamed: Vec<Naming>,
    /// Segments that get their names from the ticket that is out.
    naming: usize,
    in_flight: bool,
    /// The last transaction that is durable.
    durable_zxid: Zxid,
    /// Of this history.
    durable_history: HistoryId,
    /// What was durable when that one became so.
    exposed: Position,
    /// All up to here is committed, as far as the log was told.
    committed: Zxid,
    /// `None`: the log is a standalone server's.
    history: Option<Box<History>>,
    /// `durable_to` of the last record appended.
    recorded: Position,
    exposed_since: Option<Tick>,
    /// Oldest first.
    ready: VecDeque<Spare<S::File>>,
    making: Making,
    /// The last try to make a spare met a full disk.
    disk_full: bool,
    /// Bytes that were free behind the last try to make a spare.
    room_left: u64,
    next_spare: u64,
    counters: LogCounters,
    poisoned: bool,
}

/// What a member's log knows of its records.
struct History {
    runs: Runs,
    id: HistoryId,
    /// Its closing fence is appended; whether that is durable, nobody has asked yet.
    closed: Option<Adoption>,
}

/// What recovery hands over.
pub(super) struct Start<S: Storage> {
    pub(super) storage: S,
    pub(super) config: LogConfig,
    pub(super) identities: Identities,
    pub(super) store: StoreId,
    pub(super) closed: VecDeque<Closed>,
    /// Names of spare files that were found.
    pub(super) spares: Vec<String>,
    pub(super) end: LogEnd,
    /// Of a member.
    pub(super) history: Option<Runs>,
}

impl<S: Storage> Log<S> {
    /// Begins a fresh segment at the end of a recovered log, in which everything is durable, and
    /// says so in a seal. Blocks.
    pub(super) fn start(start: Start<S>) -> io::Result<Log<S>> {
        let Start {
            storage,
            config,
            mut identities,
            store,
            closed,
            spares,
            end,
            history,
        } = start;
        let next_spare = spares
            .iter()
            .filter_map(|n| segment::parse_spare(n))
            .max()
            .map_or(0, |n| n + 1);
        let mut ready = VecDeque::new();
        for name in spares {
            let file = storage.open(&name)?;
            if ready.len() <= SPARES_AHEAD && file.len()? == config.segment_bytes {
                // If the sync of its length has failed once, the kernel takes it for clean: written
                // again, it is made durable by the sync that makes it a segment.
                file.write_at(config.segment_bytes - PAGE, &ZEROES)?;
                ready.push_back(Spare { name, file });
            } else {
                storage.remove(&name)?;
            }
        }
        let Spare { name, file } = match ready.pop_front() {
            Some(spare) => spare,
            None => {
                let name = segment::spare_name(next_spare);
                let file = storage.create(&name, config.segment_bytes)?;
                Spare { name, file }
            }
        };
        let header = SegmentHeader {
            identity: Identity(identities()),
            base: end.position,
            bytes: config.segment_bytes,
            store: Some(store),
        };
        let segment = segment::name(header.base);
        let mut log = Log {
            storage,
            config,
            identities,
            store,
            closed,
            leases: Leases::behind(history.as_ref().map_or(Zxid::ZERO, Runs::beginning)),
            recyclable: VecDeque::new(),
            name: segment.clone(),
            seed: header.identity.seed(),
            header,
            file,
            buffer: header.encode(),
            buffer_at: 0,
            idle: Vec::new(),
            pieces: Vec::new(),
            durable: end.position,
            full: Vec::new(),
            unnamed: vec![Naming {
                spare: name,
                segment,
            }],
            naming: 0,
            in_flight: false,
            durable_zxid: end.zxid,
            durable_history: HistoryId::default(),
            exposed: end.position,
            // What is durable at a server that stands alone is decided.
            committed: history.as_ref().map_or(end.zxid, Runs::committed),
            history: history.map(History::new),
            recorded: Position(0),
            exposed_since: None,
            ready,
            making: Making::No,
            disk_full: false,
            room_left: u64::MAX,
            next_spare: next_spare + 1,
            counters: LogCounters::default(),
            poisoned: false,
            end,
        };
        // The seal is in the file when it gets its name: it may take the place of a segment that
        // held nothing but such a seal, and what that one said must not be unsaid for a moment. A bracket that
        // was found open is void from then on.
        log.append_void();
        log.append_seal();
        log.sync_now()?;
        Ok(log)
    }

    /// Whether a record with `payload` bytes of entry can be appended.
    pub fn room_for(&self, need: Need, payload: usize) -> Room {
        if !self.ready.is_empty() {
            return Room::Yes;
        }
        let payload = payload + ARCHIVE_SLACK;
        if !self.disk_full {
            return match self.fits(payload) {
                true => Room::Yes,
                false => Room::Wait,
            };
        }
        let for_sessions = (self.header.bytes / SESSIONS_PART) as usize;
        let is_served = match need {
            Need::Growing => false,
            Need::Shrinking => self.fits(payload + for_sessions),
            Need::Reserve => self.fits(payload),
        };
        match is_served {
            true => Room::Yes,
            false => Room::Full,
        }
    }

    /// Appends a transaction; rolls if it does not fit. The caller has asked for room.
    ///
    /// # Errors
    /// As [`Log::append_in_place`].
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) -> io::Result<Position> {
        let write = |out: &mut Vec<u8>| out.extend_from_slice(payload);
        self.append_in_place(zxid, payload.len(), write)
    }

    /// Appends a transaction whose payload of `len` bytes `write` appends to a buffer, right where the
    /// record is gathered; rolls first if it does not fit. The caller has asked for room.
    ///
    /// # Errors
    /// `InvalidInput`: no segment holds so much, or, at a member, a [`Contradiction`](super::Contradiction); nothing
    /// was gathered, and the log goes on. The log has failed before.
    ///
    /// # Panics
    /// `write` has appended more or fewer bytes.
    pub fn append_in_place(
        &mut self,
        zxid: Zxid,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<Position> {
        if self.history.is_some() {
            return self.append_to_history(zxid, len, write);
        }
        assert!(zxid > self.end.zxid, "zxids only grow");
        self.make_way(len)?;
        self.end.zxid = zxid;
        Ok(self.gather(Kind::Txn, zxid, len, write))
    }

    /// What is appended next, with so many bytes of payload, fits the segment that is written.
    #[inline(always)] // On the way of each write.
    fn make_way(&mut self, len: usize) -> io::Result<()> {
        self.check_alive()?;
        if !self.fits(len) {
            if needed(HEADER_BLOCK as u64, len) > self.config.segment_bytes {
                let what = format!("a segment holds no transaction of {len} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            self.roll();
        }
        Ok(())
    }

    #[inline(always)] // As above.
    fn gather(
        &mut self,
        kind: Kind,
        zxid: Zxid,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Position {
        self.push(kind, zxid, len, write);
        self.counters.records += 1;
        if self.buffer.len() >= PIECE {
            if self.idle.capacity() < PIECE
                && let Some(piece) = self.pieces.pop()
            {
                self.idle = piece;
            }
            self.idle.reserve_exact(self.buffer.len() + PAGE as usize);
            let piece = self.take_gathered();
            self.full.push(piece);
        }
        self.end.position
    }

    /// Whether something is not durable and no sync is in flight.
    pub fn is_sync_due(&self) -> bool {
        !self.in_flight && self.end.position != self.durable && !self.poisoned
    }

    /// Begins a sync if something is not durable and none is in flight.
    pub fn begin_sync(&mut self) -> Option<SyncTicket<S>> {
        if !self.is_sync_due() {
            return None;
        }
        self.in_flight = true;
        Some(self.ticket())
    }

    fn ticket(&mut self) -> SyncTicket<S> {
        self.naming = self.unnamed.len();
        SyncTicket {
            storage: self.storage.clone(),
            full: std::mem::take(&mut self.full),
            current: self.take_gathered(),
            begun: std::mem::take(&mut self.unnamed),
            end: self.end,
            history: self.history_id(),
            bytes: self.unsynced_bytes(),
            failed: None,
        }
    }

    /// Whether a segment was begun since the last ticket.
    pub fn has_rolled(&self) -> bool {
        !self.unnamed.is_empty()
    }

    /// Bytes appended that are not durable.
    pub fn unsynced_bytes(&self) -> u64 {
        self.end.position.0 - self.durable.0
    }

    /// A ticket has come back: the only place where anything becomes durable.
    ///
    /// # Errors
    /// The sync's: nothing is known about the files any more, the process must stop.
    pub fn synced(&mut self, outcome: SyncOutcome) -> io::Result<Durable<LogEnd>> {
        self.check_alive()?;
        assert!(self.in_flight, "one ticket at a time");
        self.in_flight = false;
        if let Err(e) = outcome.result {
            self.poisoned = true;
            return Err(e);
        }
        self.take_back(outcome.buffer, outcome.pieces);
        self.counters.syncs += 1;
        self.naming = 0;
        let durable = Durable::of_history(outcome.end, outcome.history);
        self.durable = durable.position();
        let now = (durable.zxid(), durable.history());
        if now != (self.durable_zxid, self.durable_history) {
            (self.durable_zxid, self.durable_history) = now;
            self.exposed = self.durable;
        }
        Ok(durable)
    }

    /// What is durable, for who asks without a sync: at a start, or when there was nothing to sync.
    pub fn proof(&self) -> Durable<LogEnd> {
        Durable::of_history(self.durable_end(), self.durable_history)
    }

    /// Everything up to here is committed, for ever. Each record says so from now on.
    ///
    /// # Panics
    /// It is not in the log.
    pub fn committed(&mut self, zxid: Zxid) {
        assert!(zxid <= self.end.zxid, "what is committed is in the log");
        self.committed = self.committed.max(zxid);
        if let Some(history) = &mut self.history {
            history.runs.commit(zxid);
        }
    }

    /// Timers: the seal after the last batch, and the retry of a spare.
    ///
    /// # Errors
    /// None today; the signature leaves room for a roll.
    pub fn tick(&mut self, now: Tick) -> io::Result<()> {
        self.check_alive()?;
        if let Making::Later(retry_at) = &mut self.making {
            let at = *retry_at.get_or_insert(now.after(RETRY_MS));
            if now >= at {
                self.making = Making::No;
            }
        }
        if self.exposed <= self.recorded {
            self.exposed_since = None;
            return Ok(());
        }
        let since = *self.exposed_since.get_or_insert(now);
        if now >= since.after(SEAL_DELAY_MS) {
            self.give_memory_back();
            self.append_seal();
        }
        Ok(())
    }

    /// An order for the next spare, if one is due: a retired segment is used again if there is one.
    pub fn poll_spare(&mut self) -> Option<SpareJob> {
        let order = self.order_spare()?;
        Some(SpareJob {
            recycle: self.recycle(),
            ..order
        })
    }

    /// As [`Log::poll_spare`], for a time at which somebody reads the log: retired segments stay. If there are
    /// some, the last spare but one is not replaced by a new file: that would have to be zeroed, and a retired
    /// segment be removed for it, while others want the device.
    pub fn poll_new_spare(&mut self) -> Option<SpareJob> {
        let waits = !self.recyclable.is_empty() && !self.ready.is_empty();
        (!waits).then(|| self.order_spare()).flatten()
    }

    fn order_spare(&mut self) -> Option<SpareJob> {
        // Each spare may become a segment before the ticket that is out comes back: what is gathered for those
        // that a roll has closed is in memory.
        if self.making != Making::No || self.ready.len() + self.unnamed.len() >= SPARES_AHEAD {
            return None;
        }
        self.making = Making::UnderWay;
        self.next_spare += 1;
        Some(SpareJob {
            name: segment::spare_name(self.next_spare - 1),
            bytes: self.config.segment_bytes,
            recycle: None,
        })
    }

    /// The spare is there, or could not be made.
    ///
    /// # Errors
    /// What the table of `verdict` does not let be tried again: the process must stop.
    pub fn spare_made(&mut self, result: SpareResult<S>) -> io::Result<()> {
        self.room_left = result.room_left;
        match result.file {
            Ok(file) => {
                let name = result.name;
                self.ready.push_back(Spare { name, file });
                self.making = Making::No;
                self.disk_full = false;
            }
            Err(NoSpare::Shortage { recycle, .. }) => {
                self.making = Making::Later(None);
                self.disk_full = true;
                if let Some(name) = recycle {
                    self.recyclable.push_front(Closed {
                        name,
                        last_zxid: Zxid::ZERO,
                    });
                }
            }
            Err(NoSpare::Failed(e)) => {
                self.poisoned = true;
                return Err(e);
            }
        }
        Ok(())
    }

    /// Whether growing writes are refused: no spare is ready, and the disk has no room for one.
    pub fn is_full(&self) -> bool {
        self.disk_full && self.ready.is_empty()
    }

    /// What closed segments take at most.
    pub fn closed_bytes(&self) -> u64 {
        self.closed.len() as u64 * self.config.segment_bytes
    }

    /// Whether the disk has no room for so many bytes beside the next segments, as far as the last try to make a spare
    /// has shown.
    pub fn lacks_room(&self, bytes: u64) -> bool {
        let segments = SPARES_AHEAD as u64 * self.config.segment_bytes;
        self.is_full() || self.room_left < bytes.saturating_add(segments)
    }

    /// Closed segments whose transactions are all at or below `zxid` are not needed any more: a few
    /// are kept for recycling, the names of the others are for the caller to remove, on the thread
    /// that fulfils spare orders: oldest first, or a crash would leave a gap in the log. What a lease is held of stays.
    pub fn retire(&mut self, zxid: Zxid) -> Vec<String> {
        let mut remove = Vec::new();
        let zxid = self.leases.free(zxid);
        // What begins where a segment ends has its name before the segment goes: without any name
        // the log would count as lost.
        let unnamed = self.unnamed.len() + self.naming;
        let is_covered = |oldest: &Closed| oldest.last_zxid <= zxid;
        while self.closed.len() > unnamed && self.closed.front().is_some_and(is_covered) {
            let oldest = self.closed.pop_front().expect("just seen");
            self.leases.retired(oldest.last_zxid);
            self.recyclable.push_back(oldest);
            if self.recyclable.len() > RECYCLE_MAX {
                remove.extend(self.recyclable.pop_front().map(|oldest| oldest.name));
            }
        }
        self.forget_retired();
        remove
    }

    /// Keeps what stands behind `after` for somebody who reads it. `None`: some of it may be gone already, or
    /// [`LEASES_MAX`](super::LEASES_MAX) are held.
    pub fn lease(&mut self, after: Zxid) -> Option<Lease> {
        self.leases.lease(after)
    }

    /// Writes everything, makes it durable, and says so: the end of a clean stop. Blocks.
    ///
    /// # Errors
    /// Nothing is known about the files any more.
    pub fn close(mut self) -> io::Result<Closing> {
        self.check_alive()?;
        assert!(!self.in_flight, "the last ticket has come back");
        self.sync_now()?;
        self.append_seal();
        self.sync_now()?;
        Ok(Closing {
            end: self.end,
            newest: self.header.base,
        })
    }

    /// Pieces that wait to be gathered in.
    #[cfg(test)]
    pub(super) fn pieces_kept(&self) -> usize {
        self.pieces.len()
    }

    /// Bytes in the buffer that gathers.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// End of what was appended, and its last zxid.
    pub fn end(&self) -> LogEnd {
        self.end
    }

    /// Base of the segment that is written.
    pub fn newest(&self) -> Position {
        self.header.base
    }

    /// End of what is durable, and the last transaction before it.
    pub fn durable_end(&self) -> LogEnd {
        LogEnd {
            position: self.durable,
            zxid: self.durable_zxid,
        }
    }

    /// End of what is durable.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Figures.
    pub fn counters(&self) -> LogCounters {
        self.counters
    }

    /// Segments on disk, the current one included.
    pub fn segments(&self) -> usize {
        self.closed.len() + 1
    }

    /// The oldest retired segment.
    fn recycle(&mut self) -> Option<String> {
        Some(self.recyclable.pop_front()?.name)
    }

    fn check_alive(&self) -> io::Result<()> {
        match self.poisoned {
            true => Err(io::Error::other("the log has failed before")),
            false => Ok(()),
        }
    }

    fn fits(&self, payload: usize) -> bool {
        needed(self.header.offset(self.end.position), payload) <= self.header.bytes
    }

    fn push(&mut self, kind: Kind, zxid: Zxid, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let head = Head {
            kind,
            zxid,
            position: self.end.position,
            durable_to: self.durable,
            committed_to: self.committed,
        };
        let end = head.position.plus(size(len) as u64);
        let offset = self.header.offset(end);
        assert!(offset <= self.header.bytes, "a segment never grows");
        head.append(self.seed, len, write, &mut self.buffer);
        self.end.position = end;
        self.recorded = self.durable;
        self.exposed_since = None;
        self.counters.bytes += size(len) as u64;
    }

    fn append_seal(&mut self) {
        self.fill_page();
        self.push(Kind::Seal, self.greatest(), 0, |_| {});
        self.counters.seals += 1;
    }

    /// What is appended next stands in a page of its own.
    fn fill_page(&mut self) {
        let used = self.header.offset(self.end.position) % PAGE;
        if used == 0 {
            return;
        }
        // A record has a header at least.
        let left = (PAGE - used) as usize;
        let filler = match left.checked_sub(HEADER) {
            Some(payload) => payload,
            None => left + PAGE as usize - HEADER,
        };
        self.push(Kind::Filler, self.greatest(), filler, |out| {
            out.extend_from_slice(&ZEROES[..filler]);
        });
    }

    /// What was gathered for the segment that is written, and zeroes behind it to the end of its last page. What
    /// is appended next gathers in the other buffer.
    fn take_gathered(&mut self) -> Gathered<S::File> {
        let other = std::mem::take(&mut self.idle);
        let mut bytes = std::mem::replace(&mut self.buffer, other);
        let offset = self.buffer_at;
        self.buffer_at += bytes.len() as u64;
        let padded = self.buffer_at.next_multiple_of(PAGE).min(self.header.bytes);
        let is_nothing = bytes.is_empty();
        if !is_nothing {
            bytes.resize((padded - offset) as usize, 0);
        }
        Gathered {
            file: self.file.clone(),
            offset,
            bytes: match is_nothing {
                true => Bytes::Written(bytes),
                false => Bytes::Unwritten(bytes),
            },
        }
    }

    /// A ticket's buffer gathers again, and so do its pieces. Behind one without any, a piece is given back: what a
    /// burst has made is not kept for ever.
    fn take_back(&mut self, mut buffer: Vec<u8>, mut pieces: Vec<Vec<u8>>) {
        buffer.clear();
        self.idle = buffer;
        if pieces.is_empty() {
            self.pieces.pop();
            return;
        }
        pieces.truncate(PIECES_KEPT - self.pieces.len());
        pieces.iter_mut().for_each(Vec::clear);
        self.pieces.append(&mut pieces);
    }

    /// Nothing is gathered, and no ticket is out.
    fn give_memory_back(&mut self) {
        self.pieces = Vec::new();
        for buffer in [&mut self.buffer, &mut self.idle] {
            if buffer.capacity() > BUFFER_KEPT {
                buffer.shrink_to(BUFFER_KEPT);
            }
        }
    }

    fn sync_now(&mut self) -> io::Result<()> {
        let SyncOutcome {
            end,
            result,
            buffer,
            pieces,
            ..
        } = self.ticket().run();
        result?;
        self.take_back(buffer, pieces);
        self.naming = 0;
        self.durable = end.position;
        Ok(())
    }

    fn roll(&mut self) {
        self.append_seal();
        let Some(Spare { name, file }) = self.ready.pop_front() else {
            panic!("append without asking for room");
        };
        let header = SegmentHeader {
            identity: Identity((self.identities)()),
            base: self.end.position,
            bytes: self.config.segment_bytes,
            store: Some(self.store),
        };
        let segment = segment::name(header.base);
        self.unnamed.push(Naming {
            spare: name,
            segment: segment.clone(),
        });
        let old = self.take_gathered();
        self.full.push(old);
        self.closed.push_back(Closed {
            name: std::mem::replace(&mut self.name, segment),
            last_zxid: self.greatest(),
        });
        self.file = file;
        self.buffer.extend(header.encode());
        self.buffer_at = 0;
        self.header = header;
        self.seed = header.identity.seed();
        self.counters.rolls += 1;
    }
}

/// Where the segment must not end before, if such a payload is appended at `offset`: three seals follow.
fn needed(offset: u64, payload: usize) -> u64 {
    offset + size(payload) as u64 + 3 * SEAL
}
