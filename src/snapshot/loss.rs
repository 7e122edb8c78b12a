//! What a refused store has lost, and how an operator gives it up.
//!
//! A store that something is missing of is refused, because nothing but a backup brings back what was
//! acknowledged. Who has none says by name what stays: the last transaction up to which the newest
//! readable snapshot and the log behind it are whole, *kept*. The store is then made a snapshot of that state
//! and an empty log.
//!
//! **No zxid is used twice.** Clients have seen zxids behind `kept`, and no file says how many: the
//! witness is up to two seconds old, or gone too. If the store went on at `kept` + 1, another transaction
//! would get a zxid that a client knows, and that client would take an old state for one it has seen. So
//! the store goes on in a later epoch than any that may have been used: behind (e + 1, 0), where e is the epoch
//! of the highest zxid that the witness, a snapshot's name or any readable record shows, with [`UNSEEN_MAX`]
//! more transactions added. Nobody's `lastZxidSeen` lies above that, so every client comes back; it is shown a
//! state that is older than the one it has seen, under a zxid that is newer.
//!
//! **No session id is used twice**, for the same reason: a client that presents the session that it has lost
//! must not be given another's. The state that stays counts as if [`UNSEEN_MAX`] more sessions had been made,
//! behind the last one that it knows and behind what the clock gives while the loss is accepted. (A clock that
//! was set back in between is not seen.)
//!
//! **The jump has no mark in the log.** Recovery goes on only at the next zxid, and what precedes
//! (e + 1, 1) is (e + 1, 0): the snapshot of the kept state carries that zxid, although no transaction has it.
//! No other snapshot can be continued with what follows; if that one rots before there is another, the
//! store is refused again, by the gap.
//!
//! | Step | What | A start after a crash behind it |
//! |---|---|---|
//! | 1 | witness files that say nothing of this store are set aside | is refused, as before |
//! | 2 | the witness says that the loss is being accepted, up to which zxid, and how | is refused, and names the command |
//! | 3 | snapshots that can't be read are set aside | the same |
//! | 4 | the snapshot of the kept state is written | the same |
//! | 5 | segments that hold anything else than what stays are set aside, newest first | the same |
//! | 6 | the log begins anew, behind every byte that there was | the same |
//! | 7 | the witness says where | serves |
//!
//! Each step is durable before the next. The command can be run again after a crash anywhere: up to step 4 it
//! finds what it found before, because nothing that it reads has changed; from then on the witness says
//! what is left to do. Where only the process ended, or a call failed, in step 7, the store can be whole in the
//! page cache alone: the command that is run again then makes that durable ([`settle`]). To set aside is to rename
//! within the directory, to `lost.<n>.<name>` with an `n` that no file there has. Nothing is removed, and nothing is
//! written into a file that was there, but for the witness.

use super::whose::whose;
use super::{Rebuild, Rebuilding, SnapError, denied, newest_readable, replay, write};
use crate::log::recover::{self, begin_at};
use crate::log::snapshot_file;
use crate::log::storage::Storage;
use crate::log::witness::{self, Accepting, Readable, Witness};
use crate::log::{Identities, Known, LogConfig, LogEnd, Scan, StoreId};
use crate::tree::Tree;
use crate::txn::{Entry, Txn, TxnHeader};
use crate::types::{ErrorCode, OpCode, Position, SessionId, WallMs, Zxid};
use std::io;

/// Transactions that a server may have acknowledged and no file shows, at most: those of the seconds between
/// two witnesses, with a margin of hours.
pub const UNSEEN_MAX: i64 = 1 << 28;

/// What a look at a store has found.
pub enum Found<S: Storage> {
    /// Nothing of a store.
    Nothing,
    /// A store that is not refused; its last transaction.
    Whole(Zxid),
    /// One that is refused for a loss.
    Lost(Box<Loss<S>>),
}

/// What a store has lost, and what stays.
pub struct Loss<S: Storage> {
    /// Why a start refuses.
    pub refusal: SnapError,
    /// The last transaction that stays.
    pub kept: Zxid,
    /// The last one of which anything is known, if it does not stay.
    pub known: Option<Zxid>,
    /// The snapshot of which the state that stays is made.
    pub snapshot: Option<Zxid>,
    /// Transactions of the log that stay.
    pub replayed: u64,
    /// Whether `dataLogDir` holds any segment of the store.
    pub has_log: bool,
    /// Whether there was a witness, so that it is known how far the log went.
    pub has_witness: bool,
    /// Files that are set aside.
    pub aside: Vec<String>,
    /// The store goes on behind this.
    pub behind: Zxid,
    rest: Rest,
    store: Option<StoreId>,
    witnesses: Readable,
    directories: (S, S),
}

/// What there is to do.
enum Rest {
    /// All of it, with this state.
    All {
        tree: Box<Tree>,
        snapshots: Vec<String>,
        cut: Option<Position>,
    },
    /// What follows the snapshot of the kept state.
    Log(Accepting),
}

/// Looks at a store as a start would, and changes nothing but the left-over of an interrupted snapshot.
///
/// # Errors
/// [`SnapError`]: it is refused for something that nobody can give up.
pub fn look<S: Storage>(data: &S, log: &S) -> Result<Found<S>, SnapError> {
    let refusal = match super::recover(data, log, &mut |_| {}) {
        Ok(found) if found.witness.is_none() && !found.scan.is_there() => {
            let is_empty = found.snapshot.is_none();
            return Ok(match is_empty {
                true => Found::Nothing,
                false => Found::Whole(found.tree.last_zxid()),
            });
        }
        Ok(found) => return Ok(Found::Whole(found.tree.last_zxid())),
        Err(refusal) => refusal,
    };
    if !refusal.is_loss() {
        return Err(refusal);
    }
    let slots = witness::read(data, log)?;
    let store = whose(data, log, &slots)?;
    let witnesses = slots.of(store);
    let begun = witnesses.newest.and_then(|newest| newest.accepting);
    if let Some(accepting) = begun
        && is_whole(data, accepting.behind, store)
    {
        return resume(refusal, accepting, store, witnesses, data, log);
    }
    survey(refusal, store, witnesses, data, log)
}

/// Whether the snapshot of `zxid` is there, and can be read to its end.
fn is_whole<S: Storage>(data: &S, zxid: Zxid, store: Option<StoreId>) -> bool {
    super::read(data, zxid, store, &mut Rebuilding::new(|_| {})).is_ok()
}

/// The state that stays, and what does not.
fn survey<S: Storage>(
    refusal: SnapError,
    store: Option<StoreId>,
    witnesses: Readable,
    data: &S,
    log: &S,
) -> Result<Found<S>, SnapError> {
    let mut rebuild = Rebuilding::new(|_| {});
    let (snapshot, unreadable) = newest_readable(data, store, &mut rebuild)?;
    if let Some(denied) = denied(unreadable) {
        return Err(denied);
    }
    let snapshot = snapshot.map(|(zxid, _)| zxid);
    let mut kept = snapshot.unwrap_or(Zxid::ZERO);
    let known = Known {
        after: kept,
        witness: witnesses.newest.or_else(|| {
            // For the store's id alone: all segments of format 1 may be its own.
            store.map(|store| Witness::first(store, Position(u64::MAX)))
        }),
    };
    let (mut replayed, mut has_gap) = (0, false);
    let (scan, unsound) = Scan::survey(log, &known, |record| {
        if has_gap {
            return Ok(());
        }
        match replay(&mut kept, &record, &mut rebuild) {
            Ok(()) => replayed += 1,
            Err(SnapError::Gap { .. }) => has_gap = true,
            Err(error) => return Err(error),
        }
        Ok::<(), SnapError>(())
    })?;
    if let Some(unsound) = unsound.filter(|unsound| !unsound.is_loss()) {
        return Err(unsound.into());
    }
    let tree = rebuild.tree()?;
    let newer = |zxid: &Zxid| snapshot.is_none_or(|read| *zxid > read);
    let mut unreadable = snapshot_file::list(data)?;
    unreadable.retain(newer);
    let (cut, segments) = scan.unusable(kept, &known)?;
    let highest = highest(&scan, &segments, &unreadable, &witnesses, &known, data)?.max(kept);
    let behind = next_epoch(highest)?;
    // Cut off before: what showed a higher one may have been set aside since.
    let begun = witnesses.newest.and_then(|newest| newest.accepting);
    let behind = begun.map_or(behind, |begun| begun.behind.max(behind));
    let snapshots: Vec<String> = unreadable.into_iter().map(snapshot_file::name).collect();
    let files = witnesses.useless.iter().flatten().map(|&s| s.to_owned());
    Ok(Found::Lost(Box::new(Loss {
        refusal,
        kept,
        known: Some(highest).filter(|&highest| highest > kept),
        snapshot,
        replayed,
        has_log: scan.is_there(),
        has_witness: witnesses.newest.is_some(),
        aside: files.chain(snapshots.clone()).chain(segments).collect(),
        behind,
        rest: Rest::All {
            tree: Box::new(tree),
            snapshots,
            cut,
        },
        store,
        witnesses,
        directories: (data.clone(), log.clone()),
    })))
}

/// Before the first transaction of an epoch in which no zxid was used, where `highest` is the last one that
/// is known to be.
///
/// # Errors
/// [`SnapError::LastEpoch`].
fn next_epoch(highest: Zxid) -> Result<Zxid, SnapError> {
    let unseen = highest.0.checked_add(UNSEEN_MAX).map(Zxid);
    let next = unseen.and_then(|unseen| unseen.epoch().checked_add(1));
    match next.filter(|next| *next <= Zxid::EPOCH_MAX) {
        Some(next) => Ok(Zxid::new(next, 0)),
        None => Err(SnapError::LastEpoch(highest)),
    }
}

/// The highest zxid of which any file of the store shows that it was used.
fn highest<S: Storage>(
    scan: &Scan<S>,
    segments: &[String],
    unreadable: &[Zxid],
    witnesses: &Readable,
    known: &Known,
    data: &S,
) -> Result<Zxid, SnapError> {
    let store = known.witness.map(|witness| witness.store);
    let mut highest = scan.newest_in(segments, known);
    for &zxid in unreadable {
        // The name of a snapshot is as good as its content, if it is not another store's.
        let written_by = snapshot_file::store(data, zxid)?;
        if written_by.is_none() || store.is_none() || written_by == store {
            highest = highest.max(zxid);
        }
    }
    let witnessed = witnesses.newest.map(|newest| newest.durable.zxid);
    Ok(highest.max(witnessed.unwrap_or_default()))
}

/// A command that was cut off behind the snapshot of the kept state goes on as it has begun.
fn resume<S: Storage>(
    refusal: SnapError,
    accepting: Accepting,
    store: Option<StoreId>,
    witnesses: Readable,
    data: &S,
    log: &S,
) -> Result<Found<S>, SnapError> {
    let segments = recover::segments_between(log, accepting.cut, accepting.begin)?;
    let files = witnesses.useless.iter().flatten().map(|&s| s.to_owned());
    Ok(Found::Lost(Box::new(Loss {
        refusal,
        kept: accepting.kept,
        known: None,
        snapshot: Some(accepting.behind),
        replayed: 0,
        has_log: true,
        has_witness: true,
        aside: files.chain(segments).collect(),
        behind: accepting.behind,
        rest: Rest::Log(accepting),
        store,
        witnesses,
        directories: (data.clone(), log.clone()),
    })))
}

impl<S: Storage> Loss<S> {
    /// Gives up what is lost: the steps of the table. It is `now`. Blocks.
    ///
    /// # Errors
    /// The operating system's. The store is refused as before, and this can be done again.
    pub fn accept(
        self,
        config: LogConfig,
        mut identities: Identities,
        now: WallMs,
    ) -> Result<(), SnapError> {
        let (data, log) = &self.directories;
        let [in_data, in_log] = self.witnesses.useless.map(|name| {
            let name = name.map(str::to_owned);
            name.into_iter().collect::<Vec<_>>()
        });
        set_aside(data, &in_data)?;
        set_aside(log, &in_log)?;
        let store = self.store.unwrap_or_else(|| StoreId(identities()));
        let newest = self.witnesses.newest;
        let (accepting, witness) = match self.rest {
            Rest::Log(accepting) => {
                // The snapshot was found under its name, which a command that was cut off may not have synced.
                data.sync_dir()?;
                (accepting, newest)
            }
            Rest::All {
                tree,
                snapshots,
                cut,
            } => {
                let begin = recover::behind_all(log, newest.as_ref(), config.segment_bytes)?;
                let accepting = Accepting {
                    kept: self.kept,
                    behind: self.behind,
                    cut: cut.unwrap_or(begin),
                    begin,
                };
                let before = newest.unwrap_or_else(|| Witness::first(store, begin));
                let witness = before.accepting(accepting);
                witness::write(data, log, &witness)?;
                set_aside(data, &snapshots)?;
                write(data, &raised(*tree, self.behind, now), store)?;
                (accepting, Some(witness))
            }
        };
        let mut segments = recover::segments_between(log, accepting.cut, accepting.begin)?;
        segments.reverse();
        set_aside(log, &segments)?;
        let end = LogEnd {
            position: accepting.begin,
            zxid: accepting.behind,
        };
        let begun = begin_at(log, config, identities, store, end)?;
        let witness = witness.unwrap_or_else(|| Witness::first(store, accepting.begin));
        let witness = witness.renewed(begun.durable_end(), begun.newest());
        Ok(witness::write(data, log, &witness)?)
    }
}

/// Makes durable what a store that is whole says of itself: the command that accepted its loss may have been cut
/// off behind its last write, and a power cut would then take that back. Writes the newest slot of the witness
/// once more, as and where it stands, so that the slot before stays what it is. Blocks.
///
/// # Errors
/// The operating system's. This can be done again.
pub fn settle<S: Storage>(data: &S, log: &S) -> Result<(), SnapError> {
    match witness::find(data, log)? {
        witness::Found::Witness(newest, _) => Ok(witness::write(data, log, &newest)?),
        witness::Found::NewStore | witness::Found::Format1 => Ok(()),
    }
}

/// The same state at a later zxid, and with session ids spent that clients may know: what transactions make of
/// it that change nothing else.
fn raised(mut tree: Tree, zxid: Zxid, now: WallMs) -> Tree {
    let seen = tree.session_high_water(SessionId::STANDALONE);
    tree.session_id_is_spent(spent(seen, now));
    let header = TxnHeader {
        session: SessionId::NONE,
        cxid: 0,
        zxid,
        time: WallMs(0),
        op: OpCode::ERROR,
    };
    tree.apply(&Entry {
        header,
        txn: Txn::Error {
            code: ErrorCode::OK,
        },
        digest: None,
    });
    tree
}

/// An id that is not below any that was given to a session: `seen` is the last one that is known, and it is
/// `now`. Half of what is left stays for new sessions, however little that is.
fn spent(seen: Option<SessionId>, now: WallMs) -> SessionId {
    let seen = seen.map_or(0, SessionId::number);
    let number = seen.max(SessionId::number_at(now));
    let left = SessionId::NUMBER_MAX - number;
    SessionId::of(SessionId::STANDALONE, number + UNSEEN_MAX.min(left / 2))
}

/// Renames files within their directory, one after the other, each durably.
fn set_aside<S: Storage>(storage: &S, names: &[String]) -> io::Result<()> {
    for name in names {
        let taken = storage.list()?.into_iter().filter_map(|name| number(&name));
        let number = taken.max().map_or(1, |newest| newest + 1);
        storage.rename(name, &format!("{LOST}{number}.{name}"))?;
        storage.sync_dir()?;
    }
    Ok(())
}

/// What the names of files that were set aside begin with.
const LOST: &str = "lost.";

/// The number in such a name.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix(LOST)?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_zxid_that_may_have_been_used_unseen_comes_again() {
        let next = |epoch, counter| next_epoch(Zxid::new(epoch, counter)).unwrap();
        assert_eq!(next(0, 0), Zxid::new(1, 0));
        assert_eq!(next(0, 0x1234), Zxid::new(1, 0));
        assert_eq!(next(7, 0), Zxid::new(8, 0));
        // The counter may have rolled over since.
        assert_eq!(next(7, 0xf000_0000), Zxid::new(9, 0));
        assert_eq!(next(7, Zxid::COUNTER_MAX), Zxid::new(9, 0));
        assert_eq!(next(7, 3).next(), Zxid::new(8, 1));
    }

    #[test]
    fn no_session_id_that_may_have_been_given_unseen_comes_again() {
        let id = |number| SessionId::of(SessionId::STANDALONE, number);
        let clock = SessionId::number_at(WallMs(1_790_000_000_000));
        let table = [
            (None, 0, UNSEEN_MAX),
            (Some(id(7)), 0, 7 + UNSEEN_MAX),
            (Some(id(7)), clock, clock + UNSEEN_MAX),
            // The clock was set back before.
            (Some(id(clock)), 1 << 16, clock + UNSEEN_MAX),
            (
                Some(id(SessionId::NUMBER_MAX - 10)),
                0,
                SessionId::NUMBER_MAX - 5,
            ),
        ];
        for (seen, clock, expected) in table {
            assert_eq!(spent(seen, WallMs(clock >> 16)), id(expected), "{seen:?}");
        }
    }

    #[test]
    fn behind_the_largest_epoch_there_is_none_in_which_a_store_could_go_on() {
        let largest = Zxid::EPOCH_MAX;
        let last = next_epoch(Zxid::new(largest - 1, 0)).unwrap();
        assert_eq!(last, Zxid::new(largest, 0));
        for used in [
            Zxid::new(largest - 1, Zxid::COUNTER_MAX),
            Zxid::new(largest, 0),
            Zxid(i64::MAX),
        ] {
            let refused = next_epoch(used).unwrap_err();
            assert!(matches!(refused, SnapError::LastEpoch(known) if known == used));
            let sentence = refused.to_string();
            assert!(sentence.contains(&used.to_string()), "{sentence}");
        }
    }

    #[test]
    fn only_names_of_files_that_were_set_aside_have_a_number() {
        assert_eq!(number("lost.12.log.0000000000000000"), Some(12));
        for name in ["lost.x.log", "log.0000000000000012", "lost", "lost."] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
