//! What a store says of itself outside its log: who it is, and how far its log is known to be durable.
//! A log can't show that its own end is missing; a witness beside it can.
//!
//! Two files, `witness.data` in the directory of the snapshots and `witness.log` in that of the log, hold
//! the same. Each has two slots in blocks of their own, which begin alike; the one that says less is written next, a
//! damaged one first: so a write that is torn destroys nothing. A slot of another store is never written over.
//!
//! ```text
//! file = slot 0, 4096 bytes ‖ slot 1, 4096 bytes                               little-endian
//!  0       8        12      16      32         40       48         56      64       72
//!  ┌───────┬────────┬───────┬───────┬──────────┬────────┬──────────┬───────┬────────┬─····
//!  │ magic │ format │ flags │ store │ sequence │ newest │ durable  │ zxid  │ native │
//!  │  8 B  │  u32   │  u32  │ 16 B  │   u64    │  u64   │   u64    │  i64  │  u64   │
//!  └───────┴────────┴───────┴───────┴──────────┴────────┴──────────┴───────┴────────┴─····
//!
//!  72     80       88    96      104     128   136        140       144            152        156
//!  ┌──────┬────────┬─────┬───────┬───────┬─────┬──────────┬─────────┬──────────────┬──────────┬─····
//!  │ kept │ behind │ cut │ begin │  0    │ sid │ accepted │ current │ ids reserved │ standing │
//!  │ i64  │  i64   │ u64 │  u64  │       │ u64 │   u32    │   u32   │     u64      │   u32    │
//!  └──────┴────────┴─────┴───────┴───────┴─────┴──────────┴─────────┴──────────────┴──────────┴─····
//!
//!  156      160             4092     4096
//!  ┌────────┬────────····───┬────────┐
//!  │ length │ configuration │ crc32c │
//!  │  u32   │ text, zeroes  │  u32   │
//!  └────────┴────────····───┴────────┘
//! flags: 1 = the log was closed there, nothing was appended since
//!        2 = a loss is being accepted; 72 to 104 count
//!        4 = a member of an ensemble; 128 to 4092 count
//! ```
//!
//! Bytes 72 to 104 say how far an operator's command has got that gives up what is lost: the last
//! transaction that stays, the zxid behind which the store goes on, the base from which on segments are
//! set aside, and the one with which the log begins anew. No start takes such a store for whole.
//!
//! Bytes 128 to 4092 say what a member of an ensemble promises before it speaks (`member_record`): its id, the epochs
//! that it has accepted and that it is in, the last session id that it has set aside for itself, its standing (1 whole,
//! 2 fresh, 3 maimed), and the last configuration that it has seen. Each slot that a member writes has them, whatever
//! it is written for, so that the newest slot is the newest of both. A standalone server writes zeroes there, and
//! refuses a slot whose flag says that they count. A flag that is not listed here is of a newer version.
//!
//! | Files found | Log and snapshots | What is done |
//! |---|---|---|
//! | one valid slot or more, of one store | any | the slot with the highest sequence counts; a file without one is made anew |
//! | valid slots of two stores | any | refuse: the directories do not belong together |
//! | no valid slot | none | a store is made |
//! | no valid slot | all of format 1 | the store is converted: the witness is its marker |
//! | no valid slot | any of format 2 | refuse |
//! | the newest slot says that a loss is being accepted | any | refuse: the command is to be run again |
//! | any slot is a member's | any | refuse; what a member does with what it finds: `standing` |
//! | a slot of a newer format, or with flags that are not known | any | refuse, naming the format |
//!
//! A witness is written before the first segment of a store, then at each start before anything is served,
//! after a roll, after a snapshot, every [`RENEWAL_MS`] under writes, and at a clean stop. What was acknowledged
//! since the last time is what a lost end of the log can still take along unseen.

use super::durable::LogEnd;
use super::error::RecoveryError;
use super::member_record::{self, MemberRecord};
use super::record::{StoreId, u32_at, u64_at};
use super::storage::{File, Storage};
use super::{segment, snapshot_file};
use crate::types::{Position, ServerId, Zxid};
use std::io;

/// Under writes the witness is at most this old, and the time that writing it takes, ms.
pub const RENEWAL_MS: u64 = 2_000;
/// The format that this server writes, and the newest it reads.
pub const FORMAT: u32 = 2;

pub(super) const MAGIC: [u8; 8] = *b"RKWITNES";
pub(super) const SLOT: usize = 4096;
const CRC_AT: usize = SLOT - 4;
const CLOSED: u32 = 1;
const ACCEPTING: u32 = 2;
const MEMBER: u32 = 4;
const FLAGS: u32 = CLOSED | ACCEPTING | MEMBER;
pub(super) const IN_DATA: &str = "witness.data";
pub(super) const IN_LOG: &str = "witness.log";

const _: () = assert!(member_record::END == CRC_AT);

/// What is known of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Who it is.
    pub store: StoreId,
    /// Counts what was written; each write adds one.
    pub sequence: u64,
    /// Base of the newest segment.
    pub newest: Position,
    /// Everything in the log up to here is durable.
    pub durable: LogEnd,
    /// Segments from this base on have format 2; those before may be of the store before it was converted.
    pub native: Position,
    /// The log ends at `durable`.
    pub is_closed: bool,
    /// What of the store is lost is being given up.
    pub accepting: Option<Accepting>,
}

/// How what a store has lost is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepting {
    /// The last transaction that stays.
    pub kept: Zxid,
    /// The store goes on behind this: above every zxid that is known to have been used.
    pub behind: Zxid,
    /// Segments that begin here or later, and before `begin`, are set aside.
    pub cut: Position,
    /// Where the log begins anew.
    pub begin: Position,
}

impl Witness {
    /// Of a store in which nothing is yet.
    pub fn first(store: StoreId, native: Position) -> Witness {
        Witness {
            store,
            sequence: 0,
            newest: Position(0),
            durable: LogEnd::default(),
            native,
            is_closed: false,
            accepting: None,
        }
    }

    /// The next one, of a log that goes on.
    pub fn renewed(&self, durable: LogEnd, newest: Position) -> Witness {
        Witness {
            sequence: self.sequence + 1,
            newest,
            durable,
            is_closed: false,
            accepting: None,
            ..*self
        }
    }

    /// The next one, of a store in which nothing but this has changed.
    pub fn accepting(&self, accepting: Accepting) -> Witness {
        Witness {
            sequence: self.sequence + 1,
            is_closed: false,
            accepting: Some(accepting),
            ..*self
        }
    }

    /// The same, of a log to which nothing is appended any more.
    pub fn closed(self) -> Witness {
        Witness {
            is_closed: true,
            ..self
        }
    }

    #[cfg(test)]
    fn encode(&self) -> Vec<u8> {
        Content::from(*self).encode()
    }
}

/// What a slot holds: the witness, and a member's record beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Of the store.
    pub witness: Witness,
    /// `None`: a standalone server's.
    pub member: Option<MemberRecord>,
}

impl From<Witness> for Content {
    fn from(witness: Witness) -> Content {
        Content {
            witness,
            member: None,
        }
    }
}

impl Content {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Content { witness, member } = self;
        let mut slot = Vec::with_capacity(SLOT);
        slot.extend(MAGIC);
        slot.extend(FORMAT.to_le_bytes());
        let closed = if witness.is_closed { CLOSED } else { 0 };
        let accepting = witness.accepting.map_or(0, |_| ACCEPTING);
        let of_member = member.as_ref().map_or(0, |_| MEMBER);
        slot.extend((closed | accepting | of_member).to_le_bytes());
        slot.extend(witness.store.0.to_le_bytes());
        slot.extend(witness.sequence.to_le_bytes());
        slot.extend(witness.newest.0.to_le_bytes());
        slot.extend(witness.durable.position.0.to_le_bytes());
        slot.extend(witness.durable.zxid.0.to_le_bytes());
        slot.extend(witness.native.0.to_le_bytes());
        if let Some(accepting) = witness.accepting {
            slot.extend(accepting.kept.0.to_le_bytes());
            slot.extend(accepting.behind.0.to_le_bytes());
            slot.extend(accepting.cut.0.to_le_bytes());
            slot.extend(accepting.begin.0.to_le_bytes());
        }
        slot.resize(CRC_AT, 0);
        if let Some(member) = member {
            member.write_into(&mut slot);
        }
        let crc = crc32c::crc32c(&slot);
        slot.extend(crc.to_le_bytes());
        slot
    }

    /// What `reader` takes of the slot at `offset` of a file; `None`: torn, or damaged.
    ///
    /// # Errors
    /// [`RecoveryError::Newer`], [`RecoveryError::Member`].
    pub(super) fn decode(
        slot: &[u8],
        file: &str,
        offset: u64,
        reader: Reader,
    ) -> Result<Option<Content>, RecoveryError> {
        let is_whole = slot.len() == SLOT
            && slot[..8] == MAGIC
            && u32_at(slot, CRC_AT) == crc32c::crc32c(&slot[..CRC_AT]);
        if !is_whole {
            return Ok(None);
        }
        let (format, flags) = (u32_at(slot, 8), u32_at(slot, 12));
        let newer = || RecoveryError::Newer {
            file: file.to_owned(),
            format: format.max(FORMAT + 1),
        };
        if format > FORMAT || flags & !FLAGS != 0 {
            return Err(newer());
        }
        let member = match (flags & MEMBER != 0, reader) {
            (false, _) => None,
            (true, Reader::Standalone) => {
                let file = file.to_owned();
                return Err(RecoveryError::Member { file, offset });
            }
            (true, Reader::Any) => Some(MemberRecord::read_from(slot).ok_or_else(newer)?),
        };
        let accepting = || Accepting {
            kept: Zxid(u64_at(slot, 72) as i64),
            behind: Zxid(u64_at(slot, 80) as i64),
            cut: Position(u64_at(slot, 88)),
            begin: Position(u64_at(slot, 96)),
        };
        let store = slot[16..32].try_into().expect("sixteen bytes");
        let witness = Witness {
            store: StoreId(u128::from_le_bytes(store)),
            sequence: u64_at(slot, 32),
            newest: Position(u64_at(slot, 40)),
            durable: LogEnd {
                position: Position(u64_at(slot, 48)),
                zxid: Zxid(u64_at(slot, 56) as i64),
            },
            native: Position(u64_at(slot, 64)),
            is_closed: flags & CLOSED != 0,
            accepting: (flags & ACCEPTING != 0).then(accepting),
        };
        Ok(Some(Content { witness, member }))
    }
}

/// Whose slots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A standalone server's.
    Standalone,
    /// A member's, too.
    Any,
}

/// What the two files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This, and what is wrong with one of the files.
    Witness(Witness, Option<String>),
    /// Nothing, and there is nothing that they could speak of.
    NewStore,
    /// Nothing, and everything is of format 1.
    Format1,
}

/// Looks for the witness of the store whose snapshots are in `data`, and whose log is in `log`.
///
/// # Errors
/// [`RecoveryError`]: the rows of the table that refuse.
pub fn find<S: Storage>(data: &S, log: &S) -> Result<Found, RecoveryError> {
    let mut failed = None;
    let found = [
        slots(data, IN_DATA, &mut failed)?,
        slots(log, IN_LOG, &mut failed)?,
    ];
    let valid = found.iter().flatten().flatten();
    let Some(newest) = valid.clone().max_by_key(|witness| witness.sequence) else {
        // What can't be read may say that there was a log.
        return failed.map_or_else(|| without(data, log), |error| Err(error.into()));
    };
    if valid.clone().any(|witness| witness.store != newest.store) {
        return Err(of_two_stores(&found));
    }
    if let Some(Accepting { kept, .. }) = newest.accepting {
        return Err(RecoveryError::Accepting { kept });
    }
    let bad = [IN_DATA, IN_LOG]
        .iter()
        .zip(&found)
        .find(|(_, slots)| slots.as_ref().is_none_or(Vec::is_empty));
    let bad = bad.map(|(name, slots)| match slots {
        None => format!("{name} is not there"),
        Some(_) => format!("{name} is damaged"),
    });
    Ok(Found::Witness(*newest, bad))
}

/// The slots of both files name one store.
///
/// # Errors
/// [`RecoveryError::Foreign`].
pub(super) fn of_one_store(found: &[Option<Vec<Witness>>; 2]) -> Result<(), RecoveryError> {
    let mut stores = found
        .iter()
        .flatten()
        .flatten()
        .map(|witness| witness.store);
    let first = stores.next();
    match stores.any(|store| Some(store) != first) {
        true => Err(of_two_stores(found)),
        false => Ok(()),
    }
}

/// The slots name two stores: says which file is to be looked at. One whose own slots differ comes first, because the
/// other file may be sound, or missing.
fn of_two_stores(found: &[Option<Vec<Witness>>; 2]) -> RecoveryError {
    let differs = |slots: &Option<Vec<Witness>>| {
        let mut stores = slots.iter().flatten().map(|witness| witness.store);
        let first = stores.next();
        stores.any(|store| Some(store) != first)
    };
    let (file, whose) = match found.each_ref().map(differs) {
        [true, _] => (IN_DATA, "one store alone"),
        [false, true] => (IN_LOG, "one store alone"),
        [false, false] => (IN_LOG, "the store in dataDir"),
    };
    RecoveryError::Foreign {
        file: file.to_owned(),
        whose,
    }
}

/// What the two files of a store say that may be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    /// The newest that they say of the store.
    pub newest: Option<Witness>,
    /// Names of the files, in `dataDir` and in `dataLogDir`, that are there and say nothing of it.
    pub useless: [Option<&'static str>; 2],
}

/// What can be read of the witness, whoever's it is: the valid slots of the file in `dataDir`, and of that in
/// `dataLogDir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots([Option<Vec<Witness>>; 2]);

impl Slots {
    /// The stores that the slots of each file name, newest first, each once, and that file's name.
    pub fn stores(&self) -> [(Vec<StoreId>, &'static str); 2] {
        let stores = |nth: usize| {
            let mut slots: Vec<&Witness> = self.0[nth].iter().flatten().collect();
            slots.sort_by_key(|witness| core::cmp::Reverse(witness.sequence));
            let mut stores: Vec<StoreId> = slots.iter().map(|witness| witness.store).collect();
            stores.dedup();
            (stores, [IN_DATA, IN_LOG][nth])
        };
        [stores(0), stores(1)]
    }

    /// What they say of one store.
    pub fn of(self, store: Option<StoreId>) -> Readable {
        let own = self.0.map(|slots| {
            slots.map(|mut slots| {
                slots.retain(|witness| Some(witness.store) == store);
                slots
            })
        });
        let useless = |nth: usize| {
            let is_useless = own[nth].as_ref().is_some_and(Vec::is_empty);
            is_useless.then_some([IN_DATA, IN_LOG][nth])
        };
        Readable {
            newest: own.iter().filter_map(newest).max_by_key(|w| w.sequence),
            useless: [useless(0), useless(1)],
        }
    }
}

fn newest(slots: &Option<Vec<Witness>>) -> Option<Witness> {
    let slots = slots.iter().flatten();
    slots.max_by_key(|witness| witness.sequence).copied()
}

/// Reads what can be read of the witness.
///
/// # Errors
/// [`RecoveryError::Newer`], [`RecoveryError::Member`], or the operating system's.
pub fn read<S: Storage>(data: &S, log: &S) -> Result<Slots, RecoveryError> {
    let mut failed = None;
    Ok(Slots([
        slots(data, IN_DATA, &mut failed)?,
        slots(log, IN_LOG, &mut failed)?,
    ]))
}

/// The valid slots of one file; `None`: there is no file. `failed`: why a slot could not be read.
fn slots<S: Storage>(
    storage: &S,
    name: &str,
    failed: &mut Option<io::Error>,
) -> Result<Option<Vec<Witness>>, RecoveryError> {
    let contents = contents(storage, name, Reader::Standalone, failed)?;
    let witnesses = |slots: [Option<Content>; 2]| {
        let valid = slots.into_iter().flatten();
        valid.map(|content| content.witness).collect()
    };
    Ok(contents.map(witnesses))
}

/// What `reader` takes of the two slots of one file; `None`: there is no file, or the slot is not valid. `failed`: why a
/// slot could not be read.
pub(super) fn contents<S: Storage>(
    storage: &S,
    name: &str,
    reader: Reader,
    failed: &mut Option<io::Error>,
) -> Result<Option<[Option<Content>; 2]>, RecoveryError> {
    let file = match storage.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut contents = [None, None];
    for (nth, content) in contents.iter_mut().enumerate() {
        let (mut slot, offset) = (vec![0; SLOT], (nth * SLOT) as u64);
        // A slot that can't be read is a slot that is damaged: that is what the others are for.
        match file.read_at(offset, &mut slot) {
            Ok(read) => *content = Content::decode(&slot[..read], name, offset, reader)?,
            Err(error) => {
                *failed = Some(io::Error::new(error.kind(), format!("{name}: {error}")));
            }
        }
    }
    Ok(Some(contents))
}

/// No slot is valid.
pub(super) fn without<S: Storage>(data: &S, log: &S) -> Result<Found, RecoveryError> {
    let missing = |file: &str| RecoveryError::NoWitness {
        file: file.to_owned(),
        names: format!("{IN_DATA} and {IN_LOG}"),
    };
    let is_first = |format: Option<u32>| format.is_none_or(|format| format == 1);
    let mut is_empty = true;
    for name in log.list()? {
        if segment::parse_name(&name).is_some() {
            is_empty = false;
            if !is_first(segment::format(log, &name)?) {
                return Err(missing(&name));
            }
        }
    }
    for zxid in snapshot_file::list(data)? {
        is_empty = false;
        if !is_first(snapshot_file::format(data, zxid)?) {
            return Err(missing(&snapshot_file::name(zxid)));
        }
    }
    Ok(if is_empty {
        Found::NewStore
    } else {
        Found::Format1
    })
}

/// Writes the witness of a standalone server into both files and makes it durable; a file that is not there is made.
/// Blocks.
///
/// # Errors
/// The operating system's, also where it can't be read whose a file is. Or a slot of a file is not this store's, or of a kind that this server does not write:
/// the inner error is a [`RecoveryError`] that names the file, and nothing was written.
pub fn write<S: Storage>(data: &S, log: &S, witness: &Witness) -> io::Result<()> {
    write_content(data, log, &Content::from(*witness), ANY)
}

/// Every sequence number is proven.
pub(super) const ANY: u64 = u64::MAX;

/// As [`write`], of a slot with whatever belongs into it. Slots whose sequence number is above `proven` may stand in the
/// page cache alone: they are written over before one that is durable.
///
/// The second file is not touched before the first is durable, so a crash leaves one of them alone. A member's file with a
/// slot that says nothing is the first, and no such slot is left in it: the other file stands as it is until then.
pub(super) fn write_content<S: Storage>(
    data: &S,
    log: &S,
    content: &Content,
    proven: u64,
) -> io::Result<()> {
    let in_data = Place::look(data, IN_DATA, content)?;
    let in_log = Place::look(log, IN_LOG, content)?;
    let mends_log = in_data.is_complete() && !in_log.is_complete();
    let (first, second) = match mends_log && content.member.is_some() {
        true => (in_log, in_data),
        false => (in_data, in_log),
    };
    first.write(content, proven)?;
    second.write(content, proven)
}

/// Makes durable what can be read of both files: whoever wrote it may have been killed before he synced it. It is written
/// again, because after a failed sync the kernel takes for clean what the device may not have. Blocks.
///
/// # Errors
/// The operating system's.
pub(super) fn settle<S: Storage>(data: &S, log: &S) -> io::Result<()> {
    for (storage, name) in [(data, IN_DATA), (log, IN_LOG)] {
        let file = match storage.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for offset in [0, SLOT as u64] {
            let mut slot = vec![0; SLOT];
            let Ok(read) = file.read_at(offset, &mut slot) else {
                continue;
            };
            let content = Content::decode(&slot[..read], name, offset, Reader::Any);
            if content.map_err(io::Error::other)?.is_some() {
                file.write_at(offset, &slot)?;
            }
        }
        file.sync()?;
        storage.sync_dir()?;
    }
    Ok(())
}

/// One of the two files, to be written.
struct Place<'a, S: Storage> {
    storage: &'a S,
    name: &'static str,
    /// The file and what was read of its slots; `None`: it is not there.
    found: Option<(S::File, [Slot; 2])>,
}

impl<S: Storage> Place<'_, S> {
    fn look<'a>(storage: &'a S, name: &'static str, content: &Content) -> io::Result<Place<'a, S>> {
        let found = match storage.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => {
                let file = file?;
                let slots = [
                    read_slot(&file, name, content, 0)?,
                    read_slot(&file, name, content, 1)?,
                ];
                if let [Slot::Unreadable(error), Slot::Unreadable(_)] = &slots {
                    return Err(io::Error::new(error.kind(), format!("{name}: {error}")));
                }
                Some((file, slots))
            }
        };
        Ok(Place {
            storage,
            name,
            found,
        })
    }

    fn is_complete(&self) -> bool {
        matches!(&self.found, Some((_, [Slot::Own(_), Slot::Own(_)])))
    }

    fn write(self, content: &Content, proven: u64) -> io::Result<()> {
        let Place { storage, name, .. } = self;
        let is_new = self.found.is_none();
        let (file, slots) = match self.found {
            None => (storage.create(name, 2 * SLOT as u64)?, vec![0, 1]),
            Some((file, slots)) => {
                // Whoever made the file may not have come to the end: as long as the slots are alike its name may be
                // one that a power cut takes along, and no call that comes later would make it durable.
                if !matches!(slots, [Slot::Own(a), Slot::Own(b)] if a != b) {
                    storage.sync_dir()?;
                }
                let says_nothing = !slots.iter().any(|slot| matches!(slot, Slot::Own(_)));
                let slots = match says_nothing && content.member.is_some() {
                    true => vec![0, 1],
                    false => vec![worse(&slots, content.witness.sequence, proven)],
                };
                (file, slots)
            }
        };
        for slot in slots {
            file.write_at((slot * SLOT) as u64, &content.encode())?;
        }
        file.sync()?;
        match is_new {
            true => storage.sync_dir(),
            false => Ok(()),
        }
    }
}

/// What was read of a slot.
enum Slot {
    /// The store's, with this sequence number.
    Own(u64),
    /// Nothing that is valid.
    Nothing,
    /// Perhaps another store's, where the other slot does not show that the file is this one's.
    Unreadable(io::Error),
}

fn read_slot<F: File>(file: &F, name: &str, own: &Content, nth: usize) -> io::Result<Slot> {
    let (mut slot, offset) = (vec![0; SLOT], (nth * SLOT) as u64);
    let read = match file.read_at(offset, &mut slot) {
        Err(error) => return Ok(Slot::Unreadable(error)),
        Ok(read) => read,
    };
    let reader = match own.member {
        None => Reader::Standalone,
        Some(_) => Reader::Any,
    };
    let found = Content::decode(&slot[..read], name, offset, reader).map_err(io::Error::other)?;
    let Some(found) = found else {
        return Ok(Slot::Nothing);
    };
    let refusal = match (&found.member, &own.member) {
        _ if found.witness.store != own.witness.store => RecoveryError::Foreign {
            file: name.to_owned(),
            whose: "the store that is written",
        },
        (Some(found), Some(own)) if found.sid() != own.sid() => {
            other_member(name, offset, found.sid(), own.sid())
        }
        _ => return Ok(Slot::Own(found.witness.sequence)),
    };
    Err(io::Error::other(refusal))
}

pub(super) fn other_member(file: &str, offset: u64, sid: ServerId, own: ServerId) -> RecoveryError {
    RecoveryError::OtherMember {
        file: file.to_owned(),
        offset,
        sid,
        own,
    }
}

/// The slot that is written over. A write that is torn leaves the other one, so that is the one that says more: a file
/// may have missed writes that the other file has, and the sequence number alone does not tell its slots apart. What
/// stands there already is written again in its place, and so is what was written in vain. Of two that say as much it
/// is the turn of one.
fn worse(slots: &[Slot; 2], sequence: u64, proven: u64) -> usize {
    let is_own = slots.iter().any(|slot| matches!(slot, Slot::Own(_)));
    let worth = |slot: &Slot| match slot {
        Slot::Nothing => (0, 0),
        Slot::Unreadable(_) if is_own => (0, 0),
        Slot::Unreadable(_) => (1, 0),
        Slot::Own(again) if *again == sequence || *again > proven => (1, 0),
        Slot::Own(other) => (2, *other),
    };
    let turn = (sequence % 2) as usize;
    match worth(&slots[turn]) <= worth(&slots[1 - turn]) {
        true => turn,
        false => 1 - turn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::disk::{Failing, SeamCall, SimStorage};

    fn witness(sequence: u64) -> Witness {
        Witness {
            store: StoreId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            sequence,
            newest: Position(0x2000),
            durable: LogEnd {
                position: Position(0x2340),
                zxid: Zxid(0x1_0000_0007),
            },
            native: Position(0x1000),
            is_closed: true,
            accepting: None,
        }
    }

    fn disk() -> SimStorage {
        SimStorage::new(1 << 20)
    }

    #[test]
    fn golden_slot_v2() {
        let slot = witness(5).encode();
        let golden = include_bytes!("../../tests/fixtures/log/v2-witness.bin");
        assert_eq!(slot[..72], golden[..72]);
        assert_eq!(slot[CRC_AT..], golden[72..]);
        assert_eq!(
            Content::decode(&slot, IN_DATA, 0, Reader::Any).unwrap(),
            Some(witness(5).into())
        );
        for at in (0..72).chain([2000, CRC_AT, SLOT - 1]) {
            let mut bad = slot.clone();
            bad[at] ^= 1;
            assert_eq!(
                Content::decode(&bad, IN_DATA, 0, Reader::Any).unwrap(),
                None,
                "byte {at}"
            );
        }
    }

    #[test]
    fn a_witness_that_can_not_be_read_is_no_sign_of_a_new_store() {
        let disk = disk();
        write(&disk, &disk, &witness(5)).unwrap();
        let name_slots = || {
            [IN_DATA, IN_LOG]
                .into_iter()
                .flat_map(|name| [(name, 0), (name, SLOT)])
        };
        name_slots().for_each(|(name, at)| disk.break_sector(name, at));
        let Err(RecoveryError::Io(error)) = find(&disk, &disk) else {
            panic!("an empty directory is begun in");
        };
        assert!(error.to_string().contains(IN_LOG), "{error}");
        disk.mend_sectors();
        assert!(matches!(find(&disk, &disk), Ok(Found::Witness(_, None))));
    }

    #[test]
    fn golden_slot_of_a_loss_that_is_being_accepted() {
        let accepting = Accepting {
            kept: Zxid(0x1_0000_0003),
            behind: Zxid(0x2_0000_0000),
            cut: Position(0x1800),
            begin: Position(0x9000),
        };
        let slot = witness(5).accepting(accepting).encode();
        assert_eq!(slot[12..16], [2, 0, 0, 0]);
        let golden = [
            [3, 0, 0, 0, 1, 0, 0, 0],
            [0, 0, 0, 0, 2, 0, 0, 0],
            [0, 0x18, 0, 0, 0, 0, 0, 0],
            [0, 0x90, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(slot[72..104], *golden.as_flattened());
        let read = Content::decode(&slot, IN_DATA, 0, Reader::Any)
            .unwrap()
            .unwrap()
            .witness;
        assert_eq!(read, witness(5).accepting(accepting));
        let disk = disk();
        write(&disk, &disk, &read).unwrap();
        let found = find(&disk, &disk);
        assert!(matches!(found, Err(RecoveryError::Accepting { kept }) if kept == accepting.kept));
        let next = read.renewed(read.durable, read.newest);
        write(&disk, &disk, &next).unwrap();
        assert_eq!(find(&disk, &disk).unwrap(), Found::Witness(next, None));
    }

    /// What a start says of a store in one of whose slots a byte was changed, with a checksum that fits.
    fn with_byte(at: usize, byte: u8) -> RecoveryError {
        let disk = disk();
        write(&disk, &disk, &witness(1)).unwrap();
        let mut slot = witness(2).encode();
        slot[at] = byte;
        let crc = crc32c::crc32c(&slot[..CRC_AT]);
        slot[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        disk.open(IN_LOG).unwrap().write_at(0, &slot).unwrap();
        find(&disk, &disk).unwrap_err()
    }

    #[test]
    fn a_newer_format_and_a_members_slot_are_named() {
        let newer = |error| match error {
            RecoveryError::Newer { file, format } => (file, format),
            other => panic!("{other}"),
        };
        assert_eq!(newer(with_byte(8, 9)), (IN_LOG.to_owned(), 9));
        assert_eq!(newer(with_byte(12, 8)), (IN_LOG.to_owned(), FORMAT + 1));
        let member = with_byte(12, MEMBER as u8);
        assert!(matches!(member, RecoveryError::Member { .. }), "{member}");
    }

    #[test]
    fn of_two_stores_each_file_counts_for_its_own_and_says_nothing_of_the_other() {
        let (data, log) = (disk(), disk());
        write(&data, &disk(), &witness(3)).unwrap();
        let other = Witness {
            store: StoreId(1),
            ..witness(9)
        };
        write(&disk(), &log, &other).unwrap();
        let before = Witness {
            sequence: 8,
            ..other
        };
        write(&disk(), &log, &before).unwrap();
        let found = read(&data, &log).unwrap();
        let own = witness(3).store;
        assert_eq!(
            found.stores(),
            [(vec![own], IN_DATA), (vec![other.store], IN_LOG)]
        );
        let readable = found.clone().of(Some(own));
        assert_eq!(readable.newest, Some(witness(3)));
        assert_eq!(readable.useless, [None, Some(IN_LOG)]);
        let readable = found.clone().of(Some(other.store));
        assert_eq!(readable.newest, Some(other));
        assert_eq!(readable.useless, [Some(IN_DATA), None]);
        let readable = found.of(None);
        assert_eq!(readable.newest, None);
        assert_eq!(readable.useless, [Some(IN_DATA), Some(IN_LOG)]);
    }

    #[test]
    fn a_write_that_is_cut_off_at_any_place_leaves_the_one_before_it() {
        for effects in 0..7 {
            for seed in 0..40 {
                let disk = disk();
                write(&disk, &disk, &witness(1)).unwrap();
                disk.crash_at(Some(disk.effects() + effects));
                let written = write(&disk, &disk, &witness(2)).is_ok();
                disk.restart(&mut fastrand::Rng::with_seed(seed), true);
                let Found::Witness(found, None) = find(&disk, &disk).unwrap() else {
                    panic!("a file is damaged");
                };
                let least = if written { 2 } else { 1 };
                assert!((least..=2).contains(&found.sequence), "{effects} {seed}");
                assert_eq!(found, witness(found.sequence));
            }
        }
    }

    #[test]
    fn however_often_writes_of_a_file_fail_a_slot_of_it_can_be_read() {
        const EIO: i32 = 5;
        for failing in [0, 1] {
            let disks = [disk(), disk()];
            write(&disks[0], &disks[1], &witness(1)).unwrap();
            write(&disks[0], &disks[1], &witness(2)).unwrap();
            for sequence in 3..6 {
                disks[failing].set_failing(Some(Failing {
                    calls: &[SeamCall::Write],
                    code: EIO,
                    after: 0,
                    times: 1,
                }));
                assert!(write(&disks[0], &disks[1], &witness(sequence)).is_err());
                disks[failing].set_failing(None);
                let own = witness(1).store;
                let found = read(&disks[0], &disks[1]).unwrap().stores();
                let named = found.map(|(stores, _)| stores);
                assert_eq!(named, [[own], [own]], "after {sequence}");
            }
            write(&disks[0], &disks[1], &witness(6)).unwrap();
            assert_eq!(
                find(&disks[0], &disks[1]).unwrap(),
                Found::Witness(witness(6), None)
            );
        }
    }

    #[test]
    fn a_file_of_which_the_making_failed_at_any_call_has_a_durable_name_once_it_is_written() {
        const EIO: i32 = 5;
        let calls: [&[SeamCall]; 4] = [
            &[SeamCall::Create],
            &[SeamCall::Write],
            &[SeamCall::Sync],
            &[SeamCall::SyncDir],
        ];
        for calls in calls {
            for (after, times) in [(0, 1), (0, 2), (1, 1)] {
                for failing in [0, 1] {
                    let disks = [disk(), disk()];
                    disks[failing].set_failing(Some(Failing {
                        calls,
                        code: EIO,
                        after,
                        times,
                    }));
                    let done = |sequence| write(&disks[0], &disks[1], &witness(sequence)).is_ok();
                    let last = (1..9).find(|sequence| done(*sequence));
                    let last = last.expect("it fails twice at most");
                    for disk in &disks {
                        disk.restart(&mut fastrand::Rng::with_seed(last), true);
                    }
                    let found = find(&disks[0], &disks[1]).unwrap();
                    let due = Found::Witness(witness(last), None);
                    assert_eq!(found, due, "{calls:?} {after} {times} {failing}");
                }
            }
        }
    }

    #[test]
    fn one_file_is_enough_and_none_is_a_new_store() {
        for (gone, left) in [(IN_DATA, IN_LOG), (IN_LOG, IN_DATA)] {
            let disk = disk();
            assert_eq!(find(&disk, &disk).unwrap(), Found::NewStore);
            write(&disk, &disk, &witness(1)).unwrap();
            write(&disk, &disk, &witness(2)).unwrap();
            assert_eq!(
                find(&disk, &disk).unwrap(),
                Found::Witness(witness(2), None)
            );
            disk.remove(gone).unwrap();
            let bad = format!("{gone} is not there");
            assert_eq!(
                find(&disk, &disk).unwrap(),
                Found::Witness(witness(2), Some(bad))
            );
            let file = disk.open(left).unwrap();
            file.write_at(0, &[0; SLOT]).unwrap();
            assert!(
                matches!(find(&disk, &disk), Ok(Found::Witness(found, _)) if found == witness(1))
            );
        }
    }

    #[test]
    fn directories_of_two_stores_are_not_served_together() {
        let (data, log) = (disk(), disk());
        write(&data, &log, &witness(3)).unwrap();
        let other = Witness {
            store: StoreId(1),
            ..witness(9)
        };
        let its_log = disk();
        write(&disk(), &its_log, &other).unwrap();
        assert!(matches!(
            find(&data, &its_log),
            Err(RecoveryError::Foreign { .. })
        ));
    }

    /// What the slots of a file say, in order.
    fn sequences(disk: &SimStorage, name: &'static str) -> [Option<u64>; 2] {
        let place = Place::look(disk, name, &witness(0).into()).unwrap();
        place.found.expect("it is there").1.map(|slot| match slot {
            Slot::Own(sequence) => Some(sequence),
            Slot::Nothing | Slot::Unreadable(_) => None,
        })
    }

    #[test]
    fn a_file_that_has_missed_writes_keeps_its_newest_slot() {
        let (data, log) = (disk(), disk());
        write(&data, &log, &witness(1)).unwrap();
        write(&data, &log, &witness(2)).unwrap();
        assert_eq!(sequences(&log, IN_LOG), [Some(2), Some(1)]);
        // Any number of writes that came into the other file alone.
        for next in [4, 7, 8, 10, 11] {
            let newest = sequences(&log, IN_LOG).into_iter().max().unwrap();
            write(&disk(), &log, &witness(next)).unwrap();
            let left = sequences(&log, IN_LOG);
            assert!(
                left.contains(&newest) && left.contains(&Some(next)),
                "{left:?}"
            );
        }
    }

    #[test]
    fn a_slot_that_says_nothing_is_written_first_and_what_is_written_again_stays_in_its_place() {
        let table = [
            ([None, None], 9, 1),
            ([Some(8), None], 9, 1),
            ([None, Some(8)], 9, 0),
            ([Some(7), Some(8)], 9, 0),
            ([Some(8), Some(7)], 9, 1),
            ([Some(8), Some(8)], 9, 1),
            ([Some(8), Some(9)], 9, 1),
            ([Some(9), Some(8)], 9, 0),
            ([Some(9), None], 9, 1),
        ];
        for (said, sequence, slot) in table {
            let slots = said.map(|said| said.map_or(Slot::Nothing, Slot::Own));
            assert_eq!(worse(&slots, sequence, ANY), slot, "{said:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_the_stores_own_is_named_and_neither_file_is_written() {
        let other = Witness {
            store: StoreId(1),
            ..witness(9)
        };
        let mut member = witness(9).encode();
        member[12] = MEMBER as u8;
        let crc = crc32c::crc32c(&member[..CRC_AT]);
        member[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        for slot in [other.encode(), member] {
            for name in [IN_DATA, IN_LOG] {
                for at in [0, SLOT as u64] {
                    let disk = disk();
                    write(&disk, &disk, &witness(1)).unwrap();
                    disk.open(name).unwrap().write_at(at, &slot).unwrap();
                    let before = [IN_DATA, IN_LOG].map(|name| disk.content(name));
                    let error = write(&disk, &disk, &witness(2)).unwrap_err();
                    let refusal = error.downcast::<RecoveryError>().unwrap();
                    assert!(refusal.to_string().starts_with(name), "{refusal}");
                    assert_eq!([IN_DATA, IN_LOG].map(|name| disk.content(name)), before);
                }
            }
        }
    }

    #[test]
    fn a_file_of_which_nothing_shows_that_it_is_the_stores_is_not_written_over_while_it_can_not_be_read()
     {
        let other = Witness {
            store: StoreId(1),
            ..witness(9)
        };
        for name in [IN_DATA, IN_LOG] {
            let disk = disk();
            write(&disk, &disk, &witness(1)).unwrap();
            let file = disk.open(name).unwrap();
            for slot in [0, SLOT as u64] {
                file.write_at(slot, &other.encode()).unwrap();
                disk.break_sector(name, slot as usize);
            }
            let error = write(&disk, &disk, &witness(2)).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
            disk.mend_sectors();
            let slots = slots(&disk, name, &mut None).unwrap().unwrap();
            assert_eq!(slots, [other, other]);
        }
    }

    #[test]
    fn beside_a_slot_that_can_not_be_read_the_one_that_says_nothing_is_written() {
        for (slot, broken) in [(0, SLOT), (SLOT, 0)] {
            for sequence in [2, 3] {
                let disk = disk();
                write(&disk, &disk, &witness(1)).unwrap();
                let file = disk.open(IN_DATA).unwrap();
                file.write_at(slot as u64, &[7; SLOT]).unwrap();
                disk.break_sector(IN_DATA, broken);
                write(&disk, &disk, &witness(sequence)).unwrap();
                disk.mend_sectors();
                let slots = slots(&disk, IN_DATA, &mut None).unwrap().unwrap();
                assert_eq!(slots[slot / SLOT], witness(sequence));
                assert_eq!(slots[broken / SLOT], witness(1));
            }
        }
    }

    #[test]
    fn a_slot_that_can_not_be_read_is_written_over_where_the_other_one_is_the_stores() {
        for slot in [0, SLOT] {
            let disk = disk();
            write(&disk, &disk, &witness(1)).unwrap();
            write(&disk, &disk, &witness(2)).unwrap();
            disk.break_sector(IN_DATA, slot);
            write(&disk, &disk, &witness(3)).unwrap();
            disk.mend_sectors();
            let slots = slots(&disk, IN_DATA, &mut None).unwrap().unwrap();
            assert_eq!(slots[slot / SLOT].sequence, 3);
        }
    }

    #[test]
    fn a_file_whose_slots_name_two_stores_is_the_one_that_is_named() {
        let other = Witness {
            store: StoreId(1),
            ..witness(2)
        };
        for (bad, sound) in [(IN_DATA, IN_LOG), (IN_LOG, IN_DATA)] {
            for is_alone in [false, true] {
                let disk = disk();
                write(&disk, &disk, &witness(3)).unwrap();
                disk.open(bad)
                    .unwrap()
                    .write_at(0, &other.encode())
                    .unwrap();
                if is_alone {
                    disk.remove(sound).unwrap();
                }
                let RecoveryError::Foreign { file, .. } = find(&disk, &disk).unwrap_err() else {
                    panic!("{bad} {is_alone}");
                };
                assert_eq!(file, bad, "{is_alone}");
            }
        }
    }
}
