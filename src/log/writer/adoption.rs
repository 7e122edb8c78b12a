//! How a member takes over the history of its leader: one bracket in the log (`fence` has the layout, `runs` what it
//! makes of the history).
//!
//! ```text
//! open_adoption ──► append … ──► close_adoption ──► the sync that covers the closing fence ──► poll_adoption
//!       └──────────────┴────────── void_adoption, or a crash: the old history
//! ```
//!
//! | Until | A crash leaves | What is durable is told of |
//! |---|---|---|
//! | the closing fence is appended | the old history | the old history |
//! | it is durable | the old one or the new one | the old history |
//! | from then on | the new one | the new history |
//!
//! Nothing is written again or cut off: what the bracket replaces stays where it is, and so do the positions of all
//! records. A torn record within the bracket ends the good part of the log before the closing fence, so a closed bracket
//! has all that it holds. A fence asks for room as a transaction does; a disk without room ends the synchronisation and
//! leaves the history as it is.
//!
//! **What is refused leaves no trace**: it is known before a segment is begun for it. A segment always begins with what
//! it was begun for, and so tells what stands before it; a seal at its beginning would hide a bracket that is open.
//!
//! **The proof.** Only [`Log::poll_adoption`] makes a `Durable<Adoption>`, once for each bracket, when a sync has covered
//! its closing fence; only with it is currentEpoch written (`keeper`). A closed bracket raises the number of the history,
//! and a `Durable<LogEnd>` with an earlier number proves nothing about what is there since.

use super::{History, Log};
use crate::log::durable::{Adoption, Durable, HistoryId};
use crate::log::fence::{Base, FENCE, Fence};
use crate::log::received::Received;
use crate::log::record::Kind;
use crate::log::runs::{Contradiction, Runs};
use crate::log::segment;
use crate::log::storage::Storage;
use crate::types::{Epoch, Position, Zxid};
use std::io;

/// Why a synchronisation is not begun, or not closed. The history is what it was.
#[derive(Debug, thiserror::Error)]
pub enum AdoptionError {
    /// It contradicts what the log holds.
    #[error(transparent)]
    Refused(#[from] Contradiction),
    /// The log has failed before.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl History {
    pub(super) fn new(runs: Runs) -> Box<History> {
        Box::new(History {
            runs,
            id: HistoryId::default(),
            closed: None,
        })
    }
}

impl<S: Storage> Log<S> {
    /// Payload of each of the two or three records of a synchronisation, for [`Log::room_for`].
    pub const FENCE: usize = FENCE;

    /// The history that counts; `None`: the log is a standalone server's.
    pub fn history(&self) -> Option<&Runs> {
        Some(&self.history.as_ref()?.runs)
    }

    /// A synchronisation begins: what is appended next continues the history behind `base`, and counts when it is closed.
    /// The caller has asked for room.
    ///
    /// # Errors
    /// [`AdoptionError`].
    ///
    /// # Panics
    /// The log is a standalone server's.
    pub fn open_adoption(&mut self, epoch: Epoch, base: Zxid) -> Result<(), AdoptionError> {
        self.open_bracket(epoch, Base::Log(base))
    }

    /// As [`Log::open_adoption`]; what is appended next continues a snapshot that the leader has sent.
    ///
    /// # Errors
    /// [`AdoptionError`].
    ///
    /// # Panics
    /// The log is a standalone server's.
    pub fn open_adoption_of(
        &mut self,
        epoch: Epoch,
        snapshot: &Received,
    ) -> Result<(), AdoptionError> {
        self.open_bracket(epoch, Base::Snap(snapshot.zxid()))
    }

    pub(in crate::log) fn open_bracket(
        &mut self,
        epoch: Epoch,
        base: Base,
    ) -> Result<(), AdoptionError> {
        self.check_alive()?;
        self.runs().may_open(epoch, base)?;
        self.make_way(FENCE)?;
        self.runs().open(epoch, base)?;
        self.push_fence(Fence::Opened { epoch, base });
        Ok(())
    }

    /// The synchronisation ends: it counts from the sync on that covers this. The caller has asked for room.
    ///
    /// # Errors
    /// [`AdoptionError`]; it stays open.
    ///
    /// # Panics
    /// The log is a standalone server's.
    pub fn close_adoption(&mut self, epoch: Epoch) -> Result<(), AdoptionError> {
        self.check_alive()?;
        self.runs().may_close(epoch)?;
        self.make_way(FENCE)?;
        self.runs().close(epoch)?;
        self.end.zxid = self.runs().end();
        self.push_fence(Fence::Closed { epoch });
        let end = self.end;
        let history = self.history.as_mut().expect("a member's log");
        history.id.0 += 1;
        history.closed = Some(Adoption { epoch, end });
        Ok(())
    }

    /// The synchronisation that is open is given up, if there is one. The caller has asked for room; without any it may
    /// stay open, for the next start to void it.
    ///
    /// # Errors
    /// The log has failed before.
    pub fn void_adoption(&mut self) -> io::Result<()> {
        self.check_alive()?;
        if self.history().is_some_and(Runs::is_open) {
            self.make_way(FENCE)?;
            self.append_void();
        }
        Ok(())
    }

    /// The proof of the synchronisation that was closed last, once it is durable.
    pub fn poll_adoption(&mut self) -> Option<Durable<Adoption>> {
        let durable = self.durable;
        let history = self.history.as_mut()?;
        let is_durable = |closed: &mut Adoption| closed.end.position <= durable;
        let adoption = history.closed.take_if(is_durable)?;
        Some(Durable::of_history(adoption, history.id))
    }

    /// Voids what is open; the fence fits.
    pub(super) fn append_void(&mut self) {
        let Some(history) = &mut self.history else {
            return;
        };
        // One whose beginning was not read has nothing that could count.
        let epoch = history.runs.open_epoch().unwrap_or_default();
        if history.runs.void(epoch).is_ok() {
            self.push_fence(Fence::Void { epoch });
        }
    }

    /// As [`Log::append_in_place`], at a member.
    #[cold]
    pub(super) fn append_to_history(
        &mut self,
        zxid: Zxid,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<Position> {
        let invalid = |refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal);
        let kind = self.runs().place(zxid).map_err(invalid)?;
        let rolls = self.counters.rolls;
        self.make_way(len)?;
        if self.counters.rolls > rolls
            && let Some(last) = self.closed.back_mut()
        {
            // Its fences say what this one follows, and are needed as long as this one is not in a snapshot.
            last.last_zxid = last.last_zxid.max(Zxid(zxid.0 - 1));
        }
        let position = self.end.position;
        if kind == Kind::Txn {
            self.end.zxid = zxid;
        }
        self.gather(kind, zxid, len, write);
        self.runs().appended(zxid, position);
        Ok(self.end.position)
    }

    /// The history need not be known further back than the log goes.
    pub(super) fn forget_retired(&mut self) {
        let oldest = self
            .closed
            .front()
            .map_or(&self.name, |oldest| &oldest.name);
        let base = segment::parse_name(oldest).unwrap_or_default();
        if let Some(history) = &mut self.history {
            history.runs.forget_before(base);
        }
    }

    /// What a record without a transaction says: of a bracket that is open, what would be the end of either history, so
    /// that nothing above it stands before the record, whatever becomes of the bracket.
    pub(super) fn greatest(&self) -> Zxid {
        match &self.history {
            Some(history) => history.runs.greatest(),
            None => self.end.zxid,
        }
    }

    /// The number of the history that is appended to. What is proven of an earlier one is no proof any more.
    pub fn history_id(&self) -> HistoryId {
        let history = self.history.as_ref();
        history.map_or(HistoryId::default(), |history| history.id)
    }

    fn runs(&mut self) -> &mut Runs {
        &mut self.history.as_mut().expect("a member's log").runs
    }

    /// Behind the change of the history of which it tells.
    fn push_fence(&mut self, fence: Fence) {
        let (payload, greatest) = (fence.encode(), self.greatest());
        let write = |out: &mut Vec<u8>| out.extend_from_slice(&payload);
        self.push(Kind::Fence, greatest, FENCE, write);
    }
}
