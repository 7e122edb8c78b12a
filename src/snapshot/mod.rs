//! Snapshots of the tree, and the start-up that reads them: newest whole snapshot, then the log.
//!
//! A snapshot of zxid z is made from the snapshot before it and the log in between, as a merge of two
//! streams ([`merge`]), on a thread of its own: no data core and no live tree takes part.

mod error;
mod foreign;
pub mod loss;
mod merge;
mod rebuild;
mod runs;
mod walked;
mod whose;

#[cfg(test)]
mod tests;

pub use error::{Named, ReadLogError, SnapError};
pub use foreign::{Foreign, ForeignError};
pub use merge::{CHANGES_BYTES_MAX, Order};
pub use rebuild::{Rebuild, Rebuilding};
pub use walked::Walked;

use crate::log::read_part;
use crate::log::received;
use crate::log::record::Record;
use crate::log::recover;
use crate::log::snapshot_file::{self, Root, SnapshotError, SnapshotWriter, Written};
use crate::log::standing::{self, Evidence};
use crate::log::storage::Storage;
use crate::log::verdict::{Call, Verdict, verdict};
use crate::log::witness::{self, Witness};
use crate::log::{
    Cursor, Durable, Epochs, Identities, Keeper, Known, Log, LogConfig, Part, RecoveryError, Runs,
    Scan, StoreId, Stretch,
};
use crate::tree::{BodyError, Facts, Tree};
use crate::txn::Entry;
use crate::txn::record;
use crate::types::{Position, ServerId, Zxid};
use merge::{decode, require_room};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

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
    /// What a member's log holds behind the tree, from the first to the last: nobody has said that it is committed, and
    /// it is not applied.
    pub suffix: Option<(Zxid, Zxid)>,
    /// What the store says of itself; `None`: it is new, or has format 1.
    witness: Option<Witness>,
    /// What is wrong with one of its files.
    bad_witness: Option<String>,
    /// What it says of a member; `None`: a standalone server starts.
    member: Option<Evidence>,
}

/// What a member of an ensemble begins with.
pub struct BegunMember<S: Storage> {
    /// The state after the last transaction that is known to be committed.
    pub tree: Tree,
    /// The log, which goes on behind all that it holds.
    pub log: Log<S>,
    /// What of that is not applied, from the first to the last.
    pub suffix: Option<(Zxid, Zxid)>,
    /// Who writes the witness from now on.
    pub keeper: Keeper,
    /// What the member has promised, as both files say.
    pub record: Durable<Epochs>,
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
        let witness = self.settle(&mut identities)?;
        witness::write(data, log, &witness)?;
        let applied = self.tree.last_zxid();
        let log = (self.scan).begin_log(config, identities, witness.store, applied)?;
        Ok((self.tree, log, witness))
    }

    /// As [`Recovered::open`], of a member that [`recover_member`] has found. Its record goes into both files with the
    /// witness.
    ///
    /// # Errors
    /// The operating system's.
    ///
    /// # Panics
    /// It was recovered as a standalone server.
    pub fn open_member(
        self,
        data: &S,
        log: &S,
        config: LogConfig,
        mut identities: Identities,
    ) -> io::Result<BegunMember<S>> {
        let witness = self.settle(&mut identities)?;
        let applied = self.tree.last_zxid();
        let evidence = self.member.expect("recovered as a member");
        let has_history = applied > Zxid::ZERO || self.suffix.is_some();
        let (keeper, record) = evidence.begin(data, log, witness, has_history)?;
        let log = (self.scan).begin_log(config, identities, witness.store, applied)?;
        Ok(BegunMember {
            tree: self.tree,
            log,
            suffix: self.suffix,
            keeper,
            record,
        })
    }

    /// Makes durable what was read. What the witness is to say then.
    fn settle(&self, identities: &mut Identities) -> io::Result<Witness> {
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
        Ok(witness.renewed(durable, durable.position))
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
    recover_with(data, log, &mut Rebuilding::new(observe))
}

/// As [`recover`]; the tree is made by `rebuild`.
///
/// # Errors
/// [`SnapError`].
pub fn recover_with<S: Storage>(
    data: &S,
    log: &S,
    rebuild: &mut dyn Rebuild,
) -> Result<Recovered<S>, SnapError> {
    snapshot_file::remove_temporary(data)?;
    let (witness, bad_witness) = match witness::find(data, log)? {
        witness::Found::Witness(witness, bad) => (Some(witness), bad),
        witness::Found::NewStore | witness::Found::Format1 => (None, None),
    };
    recover_behind(witness, bad_witness, data, log, rebuild)
}

/// As [`recover_with`], of the store of member `sid` of an ensemble: `log::standing` says what is refused. What counts is
/// what the log's brackets leave, and of that what is known to be committed is applied; the rest stays on disk. A
/// snapshot is of use only if the history that the log tells has been there.
///
/// # Errors
/// [`SnapError`].
pub fn recover_member<S: Storage>(
    data: &S,
    log: &S,
    sid: ServerId,
    rebuild: &mut dyn Rebuild,
) -> Result<Recovered<S>, SnapError> {
    snapshot_file::remove_temporary(data)?;
    let evidence = standing::find(data, log, sid)?;
    let witness = evidence.witness;
    settle_received(data, log, witness)?;
    let store = witness.map(|witness| witness.store);
    let (snapshot, unreadable) = newest_readable(data, store, rebuild)?;
    let after = snapshot.map_or(Zxid::ZERO, |(zxid, _)| zxid);
    let scan = Scan::of_member(log, &Known { after, witness }).map_err(SnapError::from);
    let scan = scan.and_then(|mut scan| {
        if evidence.is_standalones() {
            scan.decide_all();
        }
        follows_snapshot(&scan, after, newest_named(&unreadable)).map(|()| scan)
    });
    let (scan, unreadable) = unless_denied(scan, unreadable)?;
    let (mut replayed, mut suffix) = (0, None);
    if let Some(history) = scan.history() {
        let (upto, bytes) = (history.committed(), u64::MAX);
        let mut last = after;
        Cursor::new(after).read(log, history, Stretch { upto, bytes }, |record| {
            replayed += 1;
            apply(&mut last, &record, rebuild)
        })?;
        let rest = history.first_behind(last);
        suffix = rest.map(|first| (first, history.end()));
    }
    Ok(Recovered {
        tree: rebuild.tree()?,
        scan,
        snapshot,
        unreadable,
        replayed,
        suffix,
        witness,
        bad_witness: evidence.bad.clone(),
        member: Some(evidence),
    })
}

/// Gives a snapshot that a leader has sent its name if the history continues it, and removes it if not. A log that is
/// refused says nothing of it, and it stays where it is.
fn settle_received<S: Storage>(
    data: &S,
    log: &S,
    witness: Option<Witness>,
) -> Result<(), SnapError> {
    let received = received::list(data)?;
    if received.is_empty() {
        return Ok(());
    }
    // The bracket that continues it stands behind the newest one of the member's own.
    let after = snapshot_file::list(data)?.first().copied();
    let after = after.unwrap_or(Zxid::ZERO);
    match Scan::of_member(log, &Known { after, witness }) {
        Ok(scan) => {
            let continued = scan.history().and_then(Runs::snapshot);
            Ok(received::settle(data, &received, continued)?)
        }
        Err(_) => Ok(()),
    }
}

/// Whether a member's history goes on from this snapshot, and as far as the names of others show that it went.
fn follows_snapshot<S: Storage>(
    scan: &Scan<S>,
    after: Zxid,
    named: Option<Zxid>,
) -> Result<(), SnapError> {
    let Some(history) = scan.history() else {
        return Ok(());
    };
    let end = history.end();
    if let Some(known) = named.max(Some(after)).filter(|known| *known > end) {
        let lost: RecoveryError = scan.ends_before(known, snapshot_file::name(known));
        return Err(lost.into());
    }
    match history.contains(after) {
        true => Ok(()),
        // What lies between, if anything does, counts for nothing.
        false => Err(SnapError::Gap {
            snapshot: after,
            log: (history.origin().filter(|origin| *origin > after))
                .or(history.first_behind(after))
                .unwrap_or(end),
        }),
    }
}

/// Recovers what the witness says that there is.
fn recover_behind<S: Storage>(
    witness: Option<Witness>,
    bad_witness: Option<String>,
    data: &S,
    log: &S,
    rebuild: &mut dyn Rebuild,
) -> Result<Recovered<S>, SnapError> {
    let store = witness.map(|witness| witness.store);
    let (snapshot, unreadable) = newest_readable(data, store, rebuild)?;
    let after = snapshot.map_or(Zxid::ZERO, |(zxid, _)| zxid);
    let (mut applied, mut replayed) = (after, 0);
    let scan = Scan::read(log, &Known { after, witness }, |record| {
        replayed += 1;
        replay(&mut applied, &record, rebuild)
    });
    // An error of the tree comes before one of the log: it is about what stands before that in the log.
    let tree = rebuild.tree()?;
    let named = newest_named(&unreadable).filter(|named| *named > applied);
    let scan = scan.and_then(|scan| {
        let shown = |by: Zxid| scan.ends_before(by, snapshot_file::name(by)).into();
        match (snapshot, scan.end().map(|end| end.zxid)) {
            (Some((known, _)), end) if end < Some(known) => Err(shown(known)),
            // Of what the log had to tell, only seals are left, and the snapshot before them is gone.
            (_, Some(log)) if log > applied => Err(SnapError::Gap {
                snapshot: applied,
                log,
            }),
            _ => match named {
                Some(known) => Err(shown(known)),
                None => Ok(scan),
            },
        }
    });
    let (scan, unreadable) = unless_denied(scan, unreadable)?;
    Ok(Recovered {
        tree,
        scan,
        snapshot,
        unreadable,
        replayed,
        suffix: None,
        witness,
        bad_witness,
        member: None,
    })
}

/// A log that is not refused, and why snapshots could not be read.
fn unless_denied<S: Storage>(
    scan: Result<Scan<S>, SnapError>,
    unreadable: Unreadable,
) -> Result<(Scan<S>, Vec<String>), SnapError> {
    match scan {
        Ok(scan) => {
            let reasons = unreadable.iter().map(|(_, reason)| reason.to_string());
            Ok((scan, reasons.collect()))
        }
        // What seems to be lost may be in it.
        Err(refusal) if refusal.is_loss() => Err(denied(unreadable).unwrap_or(refusal)),
        Err(refusal) => Err(refusal),
    }
}

/// The first of these snapshots that may not be opened, so that nothing is known of it.
fn denied(unreadable: Unreadable) -> Option<SnapError> {
    let is_denied = |e: &SnapError| matches!(e, SnapError::File(SnapshotError::Denied { .. }));
    unreadable
        .into_iter()
        .map(|(_, reason)| reason)
        .find(is_denied)
}

/// The newest state that the names of these snapshots show to have been there: a file gets its name when
/// all of it is durable. One of another store says nothing.
fn newest_named(unreadable: &Unreadable) -> Option<Zxid> {
    let is_own = |e: &SnapError| !matches!(e, SnapError::File(SnapshotError::Foreign { .. }));
    let own = unreadable.iter().filter(|(_, reason)| is_own(reason));
    own.map(|(named, _)| *named).max()
}

/// Snapshots that can't be read, and why.
type Unreadable = Vec<(Zxid, SnapError)>;

/// Which snapshot was read, if there is a whole one, and the length of its body.
type Newest = (Option<(Zxid, u64)>, Unreadable);

/// Has the tree of the newest whole snapshot made; an empty one if there is none.
fn newest_readable<S: Storage>(
    data: &S,
    store: Option<StoreId>,
    rebuild: &mut dyn Rebuild,
) -> Result<Newest, SnapError> {
    let mut unreadable = Vec::new();
    for zxid in snapshot_file::list(data)? {
        match read(data, zxid, store, rebuild) {
            Ok(written) => return Ok((Some((zxid, written.bytes)), unreadable)),
            Err(e) if is_newer(&e) || !is_about_the_file(&e) => return Err(e),
            Err(e) => unreadable.push((zxid, e)),
        }
    }
    rebuild.begin();
    Ok((None, unreadable))
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
    rebuild: &mut dyn Rebuild,
) -> Result<Written, SnapError> {
    rebuild.begin();
    let written = match snapshot_file::read(data, zxid, store, |chunk| rebuild.body(chunk)) {
        // What came before the damage may be of a newer version, and `rebuild` may not have looked at it yet.
        Err(damage @ SnapError::File(_)) => {
            return Err(rebuild.body_ends().err().filter(is_newer).unwrap_or(damage));
        }
        read => read?,
    };
    match rebuild.body_ends()? {
        last if last == zxid => Ok(written),
        _ => Err(BodyError::Content("it is of another zxid than the file").into()),
    }
}

/// Has a transaction applied, which must be the next one behind `last`.
fn replay(last: &mut Zxid, found: &Record<'_>, rebuild: &mut dyn Rebuild) -> Result<(), SnapError> {
    let zxid = found.zxid;
    if zxid != last.next() {
        return Err(SnapError::Gap {
            snapshot: *last,
            log: zxid,
        });
    }
    apply(last, found, rebuild)
}

/// Has a transaction applied that is the next one.
fn apply(last: &mut Zxid, found: &Record<'_>, rebuild: &mut dyn Rebuild) -> Result<(), SnapError> {
    let zxid = found.zxid;
    let entry = decode(found).map_err(|source| SnapError::Record { zxid, source })?;
    *last = zxid;
    rebuild.apply(entry, found.payload.len())
}

/// A snapshot that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// What was written.
    pub written: Written,
    /// The snapshot before, which was read to its end; `None`: it was made of the whole log.
    pub base: Option<Zxid>,
}

/// Makes a snapshot out of the one before and the log, if there is room; what is in neither comes from
/// memory. Blocks for long.
///
/// # Errors
/// [`SnapError`]; nothing is left. [`SnapError::Contradiction`] for the log of another server that does not
/// fit a merge: only whoever has the state in memory can save it.
pub fn make<S: Storage>(data: &S, log: &S, order: Order, facts: &Facts) -> Result<Made, SnapError> {
    make_of(data, log, None, order, facts)
}

/// As [`make`]; of a member's log with this history.
///
/// # Errors
/// As [`make`].
pub fn make_of<S: Storage>(
    data: &S,
    log: &S,
    history: Option<&Runs>,
    order: Order,
    facts: &Facts,
) -> Result<Made, SnapError> {
    require_room(data, order)?;
    merge_newest((data, log), history, order, facts)
}

/// Merges the newest snapshot that can be read to its end with the log behind it; if none can be, a fresh
/// tree with the whole log.
fn merge_newest<S: Storage>(
    dirs: (&S, &S),
    history: Option<&Runs>,
    order: Order,
    facts: &Facts,
) -> Result<Made, SnapError> {
    let mut unreadable = None;
    for base in snapshot_file::list(dirs.0)? {
        let is_of_another = history.is_some_and(|history| !history.contains(base));
        if base > order.zxid || is_of_another {
            continue;
        }
        match merge::merge(dirs, history, Some(base), order, facts) {
            Err(e) if is_newer(&e) => return Err(e),
            Err(e @ (SnapError::File(_) | SnapError::Body(_))) => {
                unreadable.get_or_insert(e);
            }
            result => {
                let base = Some(base);
                return result.map(|written| Made { written, base });
            }
        }
    }
    let base = None;
    match (merge::merge(dirs, history, base, order, facts), unreadable) {
        // What is missing in the log would be in the snapshot.
        (Err(SnapError::Gap { .. }), Some(unreadable)) => Err(unreadable),
        (result, _) => result.map(|written| Made { written, base }),
    }
}

fn is_newer(error: &SnapError) -> bool {
    matches!(
        error,
        SnapError::File(SnapshotError::Newer { .. }) | SnapError::Body(BodyError::Newer(_))
    )
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
    if !entries.is_empty() || after >= upto {
        return Ok(entries);
    }
    match recover::begins_behind(log, part)? {
        true => Err(ReadLogError::Gap {
            after,
            found: upto.next(),
        }),
        false => Err(ReadLogError::Short { last, upto }),
    }
}

/// A part of a member's history that counts, each transaction with the end of its record; `cursor` goes on behind it.
/// Blocks.
///
/// # Errors
/// [`ReadLogError`].
pub fn read_history<S: Storage>(
    log: &S,
    cursor: &mut Cursor,
    history: &Runs,
    stretch: Stretch,
) -> Result<Vec<(Arc<Entry>, Position)>, ReadLogError> {
    let mut entries = Vec::new();
    cursor.read(log, history, stretch, |record| {
        let zxid = record.zxid;
        let entry = decode(&record).map_err(|source| ReadLogError::Record { zxid, source })?;
        entries.push((Arc::new(entry), record.end()));
        Ok::<(), ReadLogError>(())
    })?;
    Ok(entries)
}

/// The same, each transaction as it is serialised. Blocks.
///
/// # Errors
/// [`ReadLogError`].
pub fn read_entries<S: Storage>(
    log: &S,
    cursor: &mut Cursor,
    history: &Runs,
    stretch: Stretch,
    mut take: impl FnMut(Zxid, &[u8]),
) -> Result<(), ReadLogError> {
    cursor.read(log, history, stretch, |found| {
        let zxid = found.zxid;
        let record = record::access(found.payload);
        let record = record.map_err(|source| ReadLogError::Record { zxid, source })?;
        take(zxid, &record.entry);
        Ok(())
    })
}

/// The tree of a snapshot of this store. Blocks for long.
///
/// # Errors
/// [`SnapError`].
pub fn load<S: Storage>(data: &S, zxid: Zxid, store: StoreId) -> Result<Tree, SnapError> {
    let mut rebuild = Rebuilding::new(|_| {});
    read(data, zxid, Some(store), &mut rebuild)?;
    rebuild.tree()
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

/// What came of a purge.
#[derive(Debug)]
pub struct Purged {
    /// The zxid of the oldest snapshot of those that are kept, up to which the log is not needed any more,
    /// if there are as many.
    pub unneeded: Option<Zxid>,
    /// Snapshots that are known to be whole.
    pub verified: BTreeSet<Zxid>,
    /// Whether all that was to go is gone.
    pub result: io::Result<()>,
}

/// Removes all that is older than the `retain` newest snapshots that are whole; what can't be removed is
/// left. One that is not among `verified` is read to its end, and is then. Blocks.
pub fn purge<S: Storage>(
    data: &S,
    store: StoreId,
    retain: usize,
    verified: BTreeSet<Zxid>,
) -> Purged {
    let (whole, older) = match newest_whole(data, store, retain.max(1), &verified) {
        Ok(found) => found,
        Err(error) => {
            let (unneeded, result) = (None, Err(error));
            return Purged {
                unneeded,
                verified,
                result,
            };
        }
    };
    Purged {
        unneeded: whole.get(retain.max(1) - 1).copied(),
        result: remove_snapshots(data, older),
        verified: whole.into_iter().collect(),
    }
}

/// So many snapshots that are whole, newest first, and all that are older.
fn newest_whole<S: Storage>(
    data: &S,
    store: StoreId,
    retain: usize,
    verified: &BTreeSet<Zxid>,
) -> io::Result<(Vec<Zxid>, Vec<Zxid>)> {
    let (mut whole, mut older) = (Vec::new(), Vec::new());
    for zxid in snapshot_file::list(data)? {
        if whole.len() == retain {
            older.push(zxid);
        } else if verified.contains(&zxid) || is_whole(data, zxid, store)? {
            whole.push(zxid);
        }
    }
    Ok((whole, older))
}

/// One that can't be removed keeps no other.
fn remove_snapshots<S: Storage>(data: &S, zxids: Vec<Zxid>) -> io::Result<()> {
    let mut result = Ok(());
    for &zxid in &zxids {
        match data.remove(&snapshot_file::name(zxid)) {
            Err(error) if verdict(Call::PurgeSnapshot, &error) == Verdict::Done => {}
            removed => result = result.and(removed),
        }
    }
    if !zxids.is_empty() {
        result = result.and(data.sync_dir());
    }
    result
}

/// Reads a snapshot to its end.
fn is_whole<S: Storage>(data: &S, zxid: Zxid, store: StoreId) -> io::Result<bool> {
    match snapshot_file::read(data, zxid, Some(store), |_| Ok::<(), SnapshotError>(())) {
        Ok(_) => Ok(true),
        Err(SnapshotError::Io(error)) if verdict(Call::ReadSnapshot, &error) == Verdict::Ends => {
            Err(error)
        }
        Err(_) => Ok(false),
    }
}
