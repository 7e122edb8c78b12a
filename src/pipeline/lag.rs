//! What has its place in the order, is not applied, and stands in the log alone.
//!
//! | It comes from | Because |
//! |---|---|
//! | a start | what a member's log holds behind its tree may be long, and may never be committed |
//! | an adoption | what a leader has sent is not applied before it says that a quorum holds it |
//! | the bound of the ring | the tree is slower than the leader |
//!
//! It is read back in pieces, each when there is room in the ring. What is new waits behind it: the newest in memory, so
//! that a lag comes to an end while others write all the time; when that is too much, the oldest of it joins the lag.

use super::slot::Slot;
use crate::log::Cursor;
use crate::messages::Stamps;
use crate::txn::Entry;
use crate::types::{Generation, Position, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// A part of the log between the slots and the newest ones.
#[derive(Debug)]
pub(super) struct Lag {
    /// What follows this is to be read.
    cursor: Cursor,
    /// The last transaction of it.
    upto: Zxid,
    /// Behind it.
    newest: VecDeque<Slot>,
    /// A part is being read.
    is_read: bool,
}

/// A part of the lag that was read.
#[derive(Debug)]
pub struct ReadBack {
    /// Where reading began.
    pub after: Zxid,
    /// Where it goes on.
    pub cursor: Cursor,
    /// Each with the end of its record.
    pub entries: Vec<(Arc<Entry>, Position)>,
}

impl Lag {
    /// From behind `after` up to `upto`.
    pub(super) fn new(after: Zxid, upto: Zxid) -> Lag {
        Lag {
            cursor: Cursor::new(after),
            upto,
            newest: VecDeque::new(),
            is_read: false,
        }
    }

    pub(super) fn after(&self) -> Zxid {
        self.cursor.after()
    }

    pub(super) fn upto(&self) -> Zxid {
        self.upto
    }

    pub(super) fn is_empty(&self) -> bool {
        self.after() >= self.upto
    }

    pub(super) fn newest(&self) -> &VecDeque<Slot> {
        &self.newest
    }

    pub(super) fn newest_mut(&mut self) -> &mut VecDeque<Slot> {
        &mut self.newest
    }

    pub(super) fn into_newest(self) -> VecDeque<Slot> {
        self.newest
    }

    /// A transaction that comes behind it.
    pub(super) fn push(&mut self, slot: Slot) {
        assert!(self.newest.back().is_none_or(|last| last.end < slot.end));
        self.newest.push_back(slot);
    }

    /// Of what is behind it, records of so many bytes at most stay in memory.
    pub(super) fn bound(&mut self, bytes_max: u64) {
        while let (Some(first), Some(last)) = (self.newest.front(), self.newest.back())
            && last.end.0 - first.end.0 >= bytes_max
        {
            self.upto = first.zxid();
            self.newest.pop_front();
        }
    }

    /// A reader begins where the last one has ended. `None`: one is under way.
    pub(super) fn begin(&mut self) -> Option<Cursor> {
        let is_read = std::mem::replace(&mut self.is_read, true);
        (!is_read).then_some(self.cursor)
    }

    /// It has read nothing; it is asked again.
    pub(super) fn failed(&mut self, after: Zxid) {
        self.is_read &= after != self.after();
    }

    /// What a reader has brought, if the lag is still the one that it was sent to.
    pub(super) fn take(&mut self, read: ReadBack) -> impl Iterator<Item = Slot> + use<> {
        let is_next = self.is_read && read.after == self.after();
        let entries = match is_next {
            true => read.entries,
            false => Vec::new(),
        };
        if is_next {
            self.is_read = false;
            self.cursor = read.cursor;
        }
        entries.into_iter().map(|(entry, end)| Slot {
            end,
            entry,
            origin: None,
            generation: Generation(0),
            stamps: Stamps::default(),
        })
    }
}
