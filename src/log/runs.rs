//! The history of a member of an ensemble, as it stands in its log: runs of transactions, between which there is what
//! does not count.
//!
//! Nothing in a log is ever cut out. What a leader replaces stays where it is, and a bracket of fences says what counts
//! instead (`fence`). So the history is a list of *runs*: transactions of one epoch without a gap, records of one piece
//! of the log. It is computed from the records alone, in their order:
//!
//! | Record | No bracket is open | One is open |
//! |---|---|---|
//! | transaction, outside | it follows the end, or is the first of the last closed bracket's epoch: it counts | refused |
//! | transaction, within | refused | it follows what the bracket has, its epoch is not above the bracket's: it is set aside |
//! | opened | its base is in the history, drops nothing committed, and no epoch goes back: it is open | refused |
//! | closed | refused | of the same epoch, and it drops nothing committed: what lies behind the base is dropped, what was set aside counts |
//! | void | refused | of the same epoch: what was set aside is dropped |
//! | seal, filler | nothing | nothing |
//!
//! **No gap hides behind a change of epoch.** Within a run each zxid is the one before and 1. Outside of a bracket the
//! next epoch begins only behind a closed bracket of that epoch, which names the place that it continues; within one,
//! the leader whose history it is vouches for the order, and an epoch begins with counter 1. A log in which no bracket
//! was closed yet is a standalone server's, whose counter rolls over into the next epoch.
//!
//! **A reader may begin in the middle**, because older segments are gone or not needed. What stands before the first
//! record is then not known: a bracket that was opened there continues what is not known, and whoever knows the snapshot
//! from which the log is read says where the history begins ([`Runs::anchor`]).

use super::fence::{Base, Fence};
use super::record::{Kind, Record};
use crate::types::{Epoch, Position, Zxid};

/// Transactions of one epoch, one behind the other, all of which count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: Zxid,
    /// The last of them that counts; records of others may follow.
    pub last: Zxid,
    /// Where the record of the first one begins.
    pub position: Position,
}

/// Why records are no history, or may not be appended to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Contradiction {
    /// A synchronisation within another one.
    #[error("a synchronisation is open")]
    Nested,
    /// The end of a synchronisation that was not begun.
    #[error("no synchronisation is open")]
    NotOpen,
    /// The end of another one.
    #[error("the synchronisation that is open is of epoch {open}, not of epoch {found}")]
    OtherEpoch {
        /// Of the one that is open.
        open: Epoch,
        /// Of its end.
        found: Epoch,
    },
    /// The history is that of a later leader, or was.
    #[error("epoch {epoch} goes back behind epoch {last}")]
    OldEpoch {
        /// Of the leader.
        epoch: Epoch,
        /// Of the history.
        last: Epoch,
    },
    /// There is nothing that the synchronisation could continue.
    #[error("{0} is not in the history")]
    NoBase(Zxid),
    /// What is committed would be dropped.
    #[error("a history that ends at {end} lacks what is committed up to {committed}")]
    Forgets {
        /// Of the other history.
        end: Zxid,
        /// Of this one.
        committed: Zxid,
    },
    /// Something is missing in between.
    #[error("{zxid} does not follow {after}")]
    Gap {
        /// The last transaction, or that of the base.
        after: Zxid,
        /// The next one.
        zxid: Zxid,
    },
    /// A transaction that says that it is within a synchronisation where none is open, or outside of one that is.
    #[error("{0} is on the other side of a fence than it says")]
    Misplaced(Zxid),
    /// More is said to be committed than there is.
    #[error("{0} is committed and not in the history")]
    Uncommitted(Zxid),
    /// A fence that no known version writes.
    #[error("a fence that is none")]
    NoFence,
}

impl Contradiction {
    /// For a place in a file.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Contradiction::Nested => "a synchronisation within another one",
            Contradiction::NotOpen => "the end of a synchronisation without its beginning",
            Contradiction::OtherEpoch { .. } => "the end of another synchronisation",
            Contradiction::OldEpoch { .. } => "a synchronisation of an older epoch",
            Contradiction::NoBase(_) => "a synchronisation that continues what is not there",
            Contradiction::Forgets { .. } => "a synchronisation that drops what is committed",
            Contradiction::Gap { .. } => "a transaction out of order",
            Contradiction::Misplaced(_) => "a transaction on the wrong side of a fence",
            Contradiction::Uncommitted(_) => "a record that knows of more than is there",
            Contradiction::NoFence => "a fence that is none",
        }
    }
}

/// The history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// What comes before the first run; `None`: not known.
    origin: Option<Zxid>,
    /// Nothing that counts, or that a bracket may continue, comes before that.
    is_rooted: bool,
    /// In order.
    runs: Vec<Run>,
    open: Option<Open>,
    /// Of the last bracket that was closed, as far as the log was read.
    epoch: Option<Epoch>,
    /// The base of the last closed bracket that continues a snapshot, as far as the log was read.
    snapshot: Option<Zxid>,
    committed: Zxid,
    /// A fence was read since the last transaction.
    is_fenced: bool,
}

/// A bracket that is open. What it began with is `None` if the log was read from within it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Open {
    epoch: Option<Epoch>,
    base: Option<Base>,
    runs: Vec<Run>,
}

impl Base {
    /// Of the state that is continued.
    pub fn zxid(&self) -> Zxid {
        match *self {
            Base::Log(zxid) | Base::Snap(zxid) => zxid,
        }
    }
}

impl Open {
    fn end(&self) -> Option<Zxid> {
        let last = self.runs.last().map(|run| run.last);
        last.or(self.base.map(|base| base.zxid()))
    }
}

/// Adds a transaction that belongs there; `anew`: to no run that is there.
fn add(runs: &mut Vec<Run>, anew: bool, zxid: Zxid, position: Position) {
    match runs.last_mut() {
        Some(run) if !anew && zxid.is_next_of(run.last) => run.last = zxid,
        _ => runs.push(Run {
            first: zxid,
            last: zxid,
            position,
        }),
    }
}

impl Runs {
    /// The end of the history: the last transaction that counts; 0 if none is known.
    pub fn end(&self) -> Zxid {
        self.known_end().unwrap_or(Zxid::ZERO)
    }

    /// What is known to be committed of it.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// In order. A run's records follow each other in the log from its position on, with nothing but seals and fillers
    /// in between, up to its last transaction.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Behind which state the first run comes; `None`: that is not known.
    pub fn origin(&self) -> Option<Zxid> {
        self.origin
    }

    /// The first place at which the history is known to have been.
    pub(super) fn beginning(&self) -> Zxid {
        let first = self.runs.first().map(|run| run.first);
        self.origin.or(first).unwrap_or(Zxid::ZERO)
    }

    /// Of the last bracket that was closed, as far as the log was read.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The last snapshot of a leader that the history continues, as far as the log was read.
    pub fn snapshot(&self) -> Option<Zxid> {
        self.snapshot
    }

    /// A synchronisation is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the history has been at this place.
    pub fn contains(&self, zxid: Zxid) -> bool {
        let nth = self.runs.partition_point(|run| run.last < zxid);
        let within = self.runs.get(nth).is_some_and(|run| run.first <= zxid);
        within || self.origin == Some(zxid)
    }

    /// The first transaction behind this.
    pub fn first_behind(&self, after: Zxid) -> Option<Zxid> {
        let run = self.runs.iter().find(|run| run.last > after)?;
        match run.first > after {
            true => Some(run.first),
            false => Some(Zxid(after.0 + 1)),
        }
    }

    /// The greatest zxid of the history and of what was set aside: no record so far has more to say.
    pub(super) fn greatest(&self) -> Zxid {
        let aside = self.open.as_ref().and_then(Open::end);
        self.end().max(aside.unwrap_or(Zxid::ZERO))
    }

    /// The log was read from this state on: what is known of it is all, if it follows.
    pub(super) fn anchor(&mut self, after: Zxid) {
        let first = self.runs.first();
        if self.origin.is_none() && first.is_none_or(|run| run.first == after.next()) {
            self.origin = Some(after);
        }
        if self.contains(after) {
            self.committed = self.committed.max(after);
        }
        self.is_rooted = true;
    }

    /// What can't be read before this place is not needed: reading begins anew.
    pub(super) fn begin_anew(&mut self) {
        *self = Runs {
            committed: self.committed,
            ..Runs::default()
        };
    }

    /// The next record of a log.
    ///
    /// # Errors
    /// [`Contradiction`]; nothing has changed.
    pub(super) fn read(&mut self, record: &Record<'_>) -> Result<(), Contradiction> {
        // It knows of what was there before it.
        let committed = record.committed_to;
        if self.known_end().is_some_and(|end| end < committed) {
            return Err(Contradiction::Uncommitted(committed));
        }
        match record.kind {
            Kind::Seal | Kind::Filler => {}
            Kind::Txn | Kind::Adopted => {
                if record.kind == Kind::Adopted && self.is_untouched() {
                    self.open = Some(Open::default());
                }
                if self.place(record.zxid)? != record.kind {
                    return Err(Contradiction::Misplaced(record.zxid));
                }
                self.appended(record.zxid, record.position);
            }
            Kind::Fence => {
                let fence = Fence::decode(record.payload).ok_or(Contradiction::NoFence)?;
                self.fence(fence, committed)?;
            }
        }
        self.committed = self.committed.max(committed);
        // Outside of a bracket what is no transaction names the last one.
        if self.open.is_none() && self.known_end().is_none() {
            self.origin = Some(record.zxid);
        }
        Ok(())
    }

    fn fence(&mut self, fence: Fence, committed: Zxid) -> Result<(), Contradiction> {
        let before = self.committed;
        self.committed = before.max(committed);
        let is_untouched = self.is_untouched();
        let done = match fence {
            Fence::Opened { epoch, base } => {
                self.open_behind(epoch, base, self.is_before_all(base))
            }
            // The beginning lies before what is read.
            Fence::Closed { epoch } if is_untouched => {
                self.epoch = Some(epoch);
                Ok(())
            }
            Fence::Void { .. } if is_untouched => Ok(()),
            Fence::Closed { epoch } => self.close(epoch),
            Fence::Void { epoch } => self.void(epoch),
        };
        if done.is_err() {
            self.committed = before;
        }
        done
    }

    /// Up to here it is committed.
    ///
    /// # Panics
    /// It does not go so far.
    pub(super) fn commit(&mut self, zxid: Zxid) {
        assert!(zxid <= self.end(), "what is committed is there");
        self.committed = self.committed.max(zxid);
    }

    /// Of which kind the record of a transaction is to be that is appended next.
    ///
    /// # Errors
    /// [`Contradiction::Gap`]: it can't be.
    pub(super) fn place(&self, zxid: Zxid) -> Result<Kind, Contradiction> {
        let (after, is_due, kind) = match &self.open {
            Some(open) => {
                let after = open.end();
                let is_due = open.epoch.is_none_or(|epoch| zxid.epoch() <= epoch.0)
                    && after.is_none_or(|after| zxid.can_follow(after));
                (after, is_due, Kind::Adopted)
            }
            None => {
                let after = self.known_end();
                let is_due = match self.epoch {
                    Some(epoch) => {
                        zxid.epoch() == epoch.0 && after.is_none_or(|after| zxid.can_follow(after))
                    }
                    None => after.is_none_or(|after| zxid == after.next()),
                };
                (after, is_due, Kind::Txn)
            }
        };
        match is_due {
            true => Ok(kind),
            false => Err(Contradiction::Gap {
                after: after.unwrap_or(Zxid::ZERO),
                zxid,
            }),
        }
    }

    /// A transaction for which there was a place has its record here.
    pub(super) fn appended(&mut self, zxid: Zxid, position: Position) {
        match &mut self.open {
            Some(open) => add(&mut open.runs, false, zxid, position),
            None => {
                add(&mut self.runs, self.is_fenced, zxid, position);
                self.is_fenced = false;
            }
        }
    }

    /// A synchronisation begins. Nothing is dropped by that.
    ///
    /// # Errors
    /// As [`Runs::may_open`]; nothing has changed.
    pub(super) fn open(&mut self, epoch: Epoch, base: Base) -> Result<(), Contradiction> {
        self.open_behind(epoch, base, false)
    }

    /// Whether a synchronisation may begin.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub(super) fn may_open(&self, epoch: Epoch, base: Base) -> Result<(), Contradiction> {
        self.may_open_behind(epoch, base, false)
    }

    fn open_behind(
        &mut self,
        epoch: Epoch,
        base: Base,
        is_held: bool,
    ) -> Result<(), Contradiction> {
        self.may_open_behind(epoch, base, is_held)?;
        self.open = Some(Open {
            epoch: Some(epoch),
            base: Some(base),
            runs: Vec::new(),
        });
        Ok(())
    }

    /// `is_held`: the history has been there, before what is read of it.
    fn may_open_behind(
        &self,
        epoch: Epoch,
        base: Base,
        is_held: bool,
    ) -> Result<(), Contradiction> {
        if self.open.is_some() {
            return Err(Contradiction::Nested);
        }
        let last = self.epoch.max(Some(Epoch(base.zxid().epoch())));
        if let Some(last) = last.filter(|last| *last > epoch) {
            return Err(Contradiction::OldEpoch { epoch, last });
        }
        if let Base::Log(zxid) = base {
            self.keeps(zxid)?;
            if !is_held && !self.contains(zxid) {
                return Err(Contradiction::NoBase(zxid));
            }
        }
        Ok(())
    }

    /// Whether the synchronisation that is open may end as it is.
    ///
    /// # Errors
    /// [`Contradiction`].
    pub(super) fn may_close(&self, epoch: Epoch) -> Result<(), Contradiction> {
        let end = self.opened(epoch)?.end();
        end.map_or(Ok(()), |end| self.keeps(end))
    }

    /// A synchronisation ends: what it has brought takes the place of what lies behind its base.
    ///
    /// # Errors
    /// As [`Runs::may_close`]; nothing has changed.
    pub(super) fn close(&mut self, epoch: Epoch) -> Result<(), Contradiction> {
        self.may_close(epoch)?;
        let Open { base, runs, .. } = self.open.take().unwrap_or_default();
        match base {
            Some(Base::Log(zxid)) => self.drop_behind(zxid),
            Some(Base::Snap(zxid)) => {
                (self.origin, self.runs) = (Some(zxid), Vec::new());
                (self.is_rooted, self.snapshot) = (true, Some(zxid));
            }
            None => (self.origin, self.runs) = (None, Vec::new()),
        }
        self.runs.extend(runs);
        (self.epoch, self.is_fenced) = (Some(epoch), true);
        Ok(())
    }

    /// A synchronisation is given up.
    ///
    /// # Errors
    /// [`Contradiction`]; nothing has changed.
    pub(super) fn void(&mut self, epoch: Epoch) -> Result<(), Contradiction> {
        self.opened(epoch)?;
        (self.open, self.is_fenced) = (None, true);
        Ok(())
    }

    /// Of the synchronisation that is open; `None`: there is none, or its beginning was not read.
    pub(super) fn open_epoch(&self) -> Option<Epoch> {
        self.open.as_ref()?.epoch
    }

    /// What is before this place is not in the log any more.
    pub(super) fn forget_before(&mut self, position: Position) {
        let ends_before = |two: &&[Run]| two[1].position <= position;
        let gone = self.runs.windows(2).take_while(ends_before).count();
        if let Some(last) = self.runs.drain(..gone).next_back() {
            self.origin = Some(last.last);
        }
    }

    fn known_end(&self) -> Option<Zxid> {
        self.runs.last().map(|run| run.last).or(self.origin)
    }

    /// Nothing was read that says where the history is.
    fn is_untouched(&self) -> bool {
        self.known_end().is_none() && self.open.is_none() && self.epoch.is_none()
    }

    /// Whether this is a place before all that was read: who wrote the log knew it.
    fn is_before_all(&self, base: Base) -> bool {
        let first = self.runs.first().map(|run| run.first);
        let known = self.origin.or(first);
        !self.is_rooted && known.is_none_or(|known| base.zxid() < known)
    }

    fn opened(&self, epoch: Epoch) -> Result<&Open, Contradiction> {
        let open = self.open.as_ref().ok_or(Contradiction::NotOpen)?;
        match open.epoch {
            Some(other) if other != epoch => Err(Contradiction::OtherEpoch {
                open: other,
                found: epoch,
            }),
            _ => Ok(open),
        }
    }

    /// A history that ends here has all that is committed.
    fn keeps(&self, end: Zxid) -> Result<(), Contradiction> {
        match end < self.committed {
            true => Err(Contradiction::Forgets {
                end,
                committed: self.committed,
            }),
            false => Ok(()),
        }
    }

    fn drop_behind(&mut self, zxid: Zxid) {
        let kept = self.runs.partition_point(|run| run.first <= zxid);
        self.runs.truncate(kept);
        match self.runs.last_mut() {
            Some(run) => run.last = run.last.min(zxid),
            None => self.origin = Some(zxid),
        }
    }
}
