//! Reads the transactions of a member's log that count, as they are stored.

use super::error::RecoveryError;
use super::pieces::Pieces;
use super::record::Record;
use super::recover::{Reader, segments};
use super::runs::{Run, Runs};
use super::storage::Storage;
use crate::types::{Position, Zxid};

/// A place in the history, behind which reading goes on. It remembers where in the log that is, and finds it again
/// behind another adoption, as long as the history still contains it.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    after: Zxid,
    /// Where the record of `after` ends; 0 before anything was read.
    behind: Position,
}

/// Until where a cursor reads.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// This transaction is the last one. What is not durable yet may change while it is read, and is not asked for.
    pub upto: Zxid,
    /// No further than so many bytes of payloads, and one record.
    pub bytes: u64,
}

impl Cursor {
    /// Behind this state.
    pub fn new(after: Zxid) -> Cursor {
        Cursor {
            after,
            behind: Position(0),
        }
    }

    /// The last transaction that was read.
    pub fn after(&self) -> Zxid {
        self.after
    }

    /// Hands over the records behind the cursor, in order and without a gap, and goes on behind each. Blocks.
    ///
    /// # Errors
    /// [`RecoveryError`]: of the log, or [`RecoveryError::Replaced`] if the history has not been at this place, or is
    /// not any more; or what `sink` fails with. The cursor stands behind the last record that was handed over.
    pub fn read<S: Storage, E: From<RecoveryError>>(
        &mut self,
        storage: &S,
        history: &Runs,
        stretch: Stretch,
        mut sink: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !history.contains(self.after) {
            let zxid = self.after;
            return Err(RecoveryError::Replaced { zxid }.into());
        }
        let bases = segments(storage).map_err(RecoveryError::from)?;
        let mut left = Some(stretch.bytes);
        for run in history.runs() {
            let last = run.last.min(stretch.upto);
            if last > self.after && last >= run.first {
                self.read_run(storage, &bases, (run, last), &mut left, &mut sink)?;
            }
            if left.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Up to `last` of a run, while there are bytes left.
    fn read_run<S: Storage, E: From<RecoveryError>>(
        &mut self,
        storage: &S,
        bases: &[(Position, String)],
        (run, last): (&Run, Zxid),
        left: &mut Option<u64>,
        sink: &mut impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let from = run.position.max(self.behind);
        let is_cut = bases.first().is_none_or(|(base, _)| *base > from);
        let mut nth = bases.partition_point(|(base, _)| *base <= from);
        nth = nth.saturating_sub(1);
        while self.after < last {
            let Some((base, name)) = bases.get(nth) else {
                let zxid = self.after;
                return Err(RecoveryError::Replaced { zxid }.into());
            };
            nth += 1;
            let file = storage.open(name).map_err(RecoveryError::from)?;
            let pieces = Pieces::read(file).map_err(RecoveryError::from)?;
            let mut reader = Reader::open(name, *base, pieces, self.after)?;
            let header = reader.header;
            let next = bases.get(nth).map_or(reader.limit(), |(next, _)| *next);
            let limit = next.min(reader.limit());
            let mut at = from.max(*base);
            while at < limit && self.after < last {
                let corrupt = |what| RecoveryError::Corrupt {
                    file: name.clone(),
                    offset: header.offset(at),
                    what,
                    intact: self.after,
                };
                let record = reader.record(at, self.after)?;
                let record = record.ok_or_else(|| corrupt("a damaged record"))?;
                let (zxid, end) = (record.zxid, record.end());
                let is_read = !record.kind.is_transaction() || zxid <= self.after;
                if !is_read {
                    let due = run.first.max(Zxid(self.after.0 + 1));
                    if zxid > due && is_cut {
                        let zxid = self.after;
                        return Err(RecoveryError::Replaced { zxid }.into());
                    }
                    if zxid != due {
                        return Err(corrupt("a transaction out of order").into());
                    }
                    let bytes = record.payload.len() as u64;
                    sink(record)?;
                    (self.after, self.behind) = (zxid, end);
                    *left = left.and_then(|left| left.checked_sub(bytes));
                    *left = left.filter(|left| *left > 0);
                    if left.is_none() {
                        return Ok(());
                    }
                }
                at = end;
            }
        }
        Ok(())
    }
}
