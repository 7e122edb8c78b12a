//! Snapshots of the tree, and the start-up that reads them: newest whole snapshot, then the log.
//!
//! A snapshot of zxid z is made from the snapshot before it and the log in between, on a thread of
//! its own: no executor and no live tree takes part. This first cut replays into a scratch tree,
//! which costs the memory of a second tree while it runs.

use crate::log::record::Record;
use crate::log::snapshot_file::{self, Root, SnapshotError, SnapshotWriter, Written};
use crate::log::storage::Storage;
use crate::log::verdict::{Call, Verdict, verdict};
use crate::log::witness::{self, Witness};
use crate::log::{
    Identities, Known, Log, LogConfig, Part, RecoveryError, Scan, StoreId, read_part,
};
use crate::tree::{BodyError, BodyReader, DigestMismatch, Tree};
use crate::txn::Entry;
use crate::txn::record::{self, RecordError};
use crate::types::{Position, Zxid};
use std::io;
use std::sync::Arc;

/// Why no tree could be recovered, or no snapshot made.
#[derive(Debug, thiserror::Error)]
pub enum SnapError {
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// The file is damaged, or can't be read or written.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The file is whole, its content is not.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A record passes its checksum and is none.
    #[error(
        "the log's record of {zxid} can't be read: {source}; report this, and restore a backup"
    )]
    Record {
        /// The transaction.
        zxid: Zxid,
        /// Why.
        source: RecordError,
    },
    /// Transactions between the snapshot and the log are missing.
    #[error(
        "transactions are missing: the newest readable snapshot ends at {snapshot}, the log goes on \
         at {log}; restore the missing snapshot or log files from a backup"
    )]
    Gap {
        /// Where the snapshot ends.
        snapshot: Zxid,
        /// Where the log begins.
        log: Zxid,
    },
    /// Replay made another tree than there was.
    #[error("{0}: keep the data directory, report this, and restore a backup")]
    Digest(#[from] DigestMismatch),
    /// The log does not reach the zxid that a snapshot was asked for.
    #[error("the log ends at {0}, before the snapshot that was asked for")]
    Short(Zxid),
    /// A snapshot would fill the disk.
    #[error("{free} bytes are free below dataDir, {needed} are wanted before a snapshot is begun")]
    NoRoom {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
}

/// Why a part of the log of a running server can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// A file of the log is damaged, or can't be read.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// A record passes its checksum and is none.
    #[error("the log's record of {zxid} can't be read: {source}")]
    Record {
        /// The transaction.
        zxid: Zxid,
        /// Why.
        source: RecordError,
    },
    /// The segment with the next transaction is not there any more.
    #[error("the transactions between {after} and {found} are not in the log any more")]
    Gap {
        /// The last transaction read, or the one before the first.
        after: Zxid,
        /// The next one that the log holds.
        found: Zxid,
    },
    /// What was known to be durable is not in the log.
    #[error("the log ends at {last}, {upto} was durable")]
    Short {
        /// The last transaction in the log, or the one before the part that was asked for.
        last: Zxid,
        /// What was asked for.
        upto: Zxid,
    },
}

/// What start-up found.
pub struct Recovered<S: Storage> {
    /// The state after the last good transaction.
    pub tree: Tree,
    /// The log, ready to be opened.
    pub scan: Scan<S>,
    /// The snapshot that was read, and the length of its body.
    pub snapshot: Option<(Zxid, u64)>,
    /// Newer snapshots that could not be read, and why.
    pub unreadable: Vec<String>,
    /// Transactions replayed.
    pub replayed: u64,
    /// What the store says of itself; `None`: it is new, or has format 1.
    witness: Option<Witness>,
    /// What is wrong with one of its files.
    bad_witness: Option<String>,
}

impl<S: Storage> Recovered<S> {
    /// What was found damaged and costs nothing now, and what was done.
    pub fn warnings(&self) -> Vec<String> {
        let older = |e: &String| format!("an older snapshot was used: {e}");
        let unreadable = self.unreadable.iter().map(older);
        let rotten = self.scan.rotten().iter().cloned();
        unreadable
            .chain(rotten)
            .chain(self.bad_witness.clone())
            .collect()
    }

    /// Begins to write where recovery ended. The witness goes first, and says no more than what the
    /// files hold at each moment of this.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(
        self,
        data: &S,
        log: &S,
        config: LogConfig,
        mut identities: Identities,
    ) -> io::Result<(Tree, Log<S>, Witness)> {
        let durable = self.scan.settle()?;
        // The log goes on at the base of a segment that holds nothing: until the fresh one takes its
        // place, one of format 1 begins there.
        let native = match self.scan.end() {
            Some(_) => durable.position.plus(1),
            None => Position(0),
        };
        let witness = self
            .witness
            .unwrap_or_else(|| Witness::first(StoreId(identities()), native));
        let witness = witness.renewed(durable, durable.position);
        witness::write(data, log, &witness)?;
        let applied = self.tree.last_zxid();
        let log = (self.scan).begin_log(config, identities, witness.store, applied)?;
        Ok((self.tree, log, witness))
    }
}

/// Recovers the state from the snapshots in `data` and the segments in `log`. `observe` sees each
/// transaction that is replayed. Changes nothing but the left-over of an interrupted snapshot.
///
/// # Errors
/// [`SnapError`].
pub fn recover<S: Storage>(
    data: &S,
    log: &S,
    observe: &mut dyn FnMut(&Entry),
) -> Result<Recovered<S>, SnapError> {
    snapshot_file::remove_temporary(data)?;
    let (witness, bad_witness) = match witness::find(data, log)? {
        witness::Found::Witness(witness, bad) => (Some(witness), bad),
        witness::Found::NewStore | witness::Found::Format1 => (None, None),
    };
    let store = witness.map(|witness| witness.store);
    let (mut tree, snapshot, unreadable) = newest_readable(data, None, store)?;
    let mut replayed = 0;
    let known = Known {
        after: tree.last_zxid(),
        witness,
    };
    let scan = Scan::read(log, &known, |record| {
        replayed += 1;
        replay(&mut tree, &record, observe)
    })?;
    if let Some((known, _)) = snapshot
        && scan.end().map(|end| end.zxid) < Some(known)
    {
        return Err(scan.ends_before(known, snapshot_file::name(known)).into());
    }
    Ok(Recovered {
        tree,
        scan,
        snapshot,
        unreadable,
        replayed,
        witness,
        bad_witness,
    })
}

type Newest = (Tree, Option<(Zxid, u64)>, Vec<String>);

/// The newest whole snapshot not behind `upto`; a fresh tree if there is none.
fn newest_readable<S: Storage>(
    data: &S,
    upto: Option<Zxid>,
    store: Option<StoreId>,
) -> Result<Newest, SnapError> {
    let mut unreadable = Vec::new();
    for zxid in snapshot_file::list(data)? {
        if upto.is_some_and(|upto| zxid > upto) {
            continue;
        }
        match read(data, zxid, store) {
            Ok((tree, written)) => return Ok((tree, Some((zxid, written.bytes)), unreadable)),
            Err(
                e @ (SnapError::File(SnapshotError::Newer { .. })
                | SnapError::Body(BodyError::Newer(_))),
            ) => {
                return Err(e);
            }
            Err(e) if !is_about_the_file(&e) => return Err(e),
            Err(e) => unreadable.push(e.to_string()),
        }
    }
    Ok((Tree::new(), None, unreadable))
}

/// Whether a snapshot can't be read for a reason that an older one does not share.
fn is_about_the_file(error: &SnapError) -> bool {
    match error {
        SnapError::File(SnapshotError::Io(error)) => {
            verdict(Call::ReadSnapshot, error) == Verdict::Older
        }
        _ => true,
    }
}

fn read<S: Storage>(
    data: &S,
    zxid: Zxid,
    store: Option<StoreId>,
) -> Result<(Tree, Written), SnapError> {
    let mut reader = BodyReader::default();
    let written = snapshot_file::read(data, zxid, store, |chunk| {
        reader.push(chunk).map_err(SnapError::from)
    })?;
    Ok((reader.finish()?, written))
}

/// Applies the transaction that follows the tree's last one; its digest is compared.
fn replay(
    tree: &mut Tree,
    found: &Record<'_>,
    observe: &mut dyn FnMut(&Entry),
) -> Result<(), SnapError> {
    let zxid = found.zxid;
    if zxid != tree.last_zxid().next() {
        return Err(SnapError::Gap {
            snapshot: tree.last_zxid(),
            log: zxid,
        });
    }
    let entry = decode(found).map_err(|source| SnapError::Record { zxid, source })?;
    tree.apply(&entry);
    tree.verify(&entry)?;
    observe(&entry);
    Ok(())
}

fn decode(found: &Record<'_>) -> Result<Entry, RecordError> {
    record::access(found.payload).and_then(|record| record.decode())
}

/// Makes the snapshot of `zxid`, up to which everything in the log is durable, if so many bytes are
/// free. Blocks for long.
///
/// # Errors
/// [`SnapError`]; nothing is left.
pub fn make<S: Storage>(
    data: &S,
    log: &S,
    zxid: Zxid,
    store: StoreId,
    room_needed: u64,
) -> Result<Written, SnapError> {
    let free = data.room()?;
    if free < room_needed {
        let needed = room_needed;
        return Err(SnapError::NoRoom { needed, free });
    }
    let (mut tree, ..) = newest_readable(data, Some(zxid), Some(store))?;
    let part = Part {
        after: tree.last_zxid(),
        upto: zxid,
        bytes: u64::MAX,
        mapped_to: None,
    };
    if tree.last_zxid() < zxid {
        read_part(log, part, |record| replay(&mut tree, &record, &mut |_| {}))?;
    }
    if tree.last_zxid() != zxid {
        return Err(SnapError::Short(tree.last_zxid()));
    }
    write(data, &tree, store)
}

/// The transactions of a part of a log that somebody else is writing; fewer if they come to more than
/// its bytes. Blocks.
///
/// # Errors
/// [`ReadLogError`]; [`ReadLogError::Gap`] if the log does not reach back that far.
pub fn read_log<S: Storage>(log: &S, part: Part) -> Result<Vec<Arc<Entry>>, ReadLogError> {
    let Part { after, upto, .. } = part;
    let mut entries = Vec::new();
    let mut last = after;
    read_part(log, part, |record| {
        let zxid = record.zxid;
        if zxid != last.next() {
            return Err(ReadLogError::Gap {
                after: last,
                found: zxid,
            });
        }
        let entry = decode(&record).map_err(|source| ReadLogError::Record { zxid, source })?;
        entries.push(Arc::new(entry));
        last = zxid;
        Ok(())
    })?;
    if entries.is_empty() && after < upto {
        return Err(ReadLogError::Short { last, upto });
    }
    Ok(entries)
}

/// Writes the tree's state as a snapshot of its last zxid.
///
/// # Errors
/// [`SnapError`].
pub fn write<S: Storage>(data: &S, tree: &Tree, store: StoreId) -> Result<Written, SnapError> {
    let mut writer = SnapshotWriter::create(data, tree.last_zxid(), store)?;
    tree.write_body(&mut |piece: &[u8]| writer.push(piece))?;
    Ok(writer.finish()?)
}

/// Makes a store of this state in empty directories: a snapshot, a log that goes on behind it, and the
/// witness. Blocks.
///
/// # Errors
/// [`SnapError`].
pub fn create_store<S: Storage>(
    data: &S,
    log: &S,
    tree: &Tree,
    config: LogConfig,
    mut identities: Identities,
) -> Result<(), SnapError> {
    let store = StoreId(identities());
    write(data, tree, store)?;
    let scan = Scan::new(log)?;
    let begun = scan.begin_log(config, identities, store, tree.last_zxid())?;
    let first = Witness::first(store, Position(0));
    let witness = first.renewed(begun.durable_end(), begun.newest());
    Ok(witness::write(data, log, &witness)?)
}

/// Identity that a snapshot of this state has.
pub fn root(tree: &Tree) -> Root {
    let mut hash = blake3::Hasher::new();
    let Ok(()) = tree.write_body(&mut |piece: &[u8]| {
        hash.update(piece);
        Ok::<(), std::convert::Infallible>(())
    });
    *hash.finalize().as_bytes()
}

/// Removes all but the `retain` newest snapshots: the zxid of the oldest one kept, up to which the
/// log is not needed any more. Blocks.
///
/// # Errors
/// The operating system's.
pub fn purge<S: Storage>(data: &S, retain: usize) -> io::Result<Option<Zxid>> {
    let snapshots = snapshot_file::list(data)?;
    let removed = snapshots.len() > retain;
    for zxid in snapshots.iter().skip(retain) {
        match data.remove(&snapshot_file::name(*zxid)) {
            Err(error) if verdict(Call::PurgeSnapshot, &error) == Verdict::Done => {}
            removed => removed?,
        }
    }
    if removed {
        data.sync_dir()?;
    }
    Ok(snapshots.get(retain.max(1) - 1).copied())
}
