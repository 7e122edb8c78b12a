//! The events of one transaction (docs/protocol.md §4.3 to §4.5), delivered in slices: persistent and recursive
//! watches fire for each change of a transaction, so there can be watchers times changes of them.
//!
//! While they are delivered the tree has the transaction already. So nothing executes for clients meanwhile, and
//! nothing else is applied: an event leaves before any reply that reflects its transaction. Output goes to the
//! kernel between two slices, and what clients send stays where it is.

use super::endings::{Ending, Why};
use super::slab::Slab;
use super::state::ShardState;
use super::watches::Event;
use crate::budget::Budget;
use crate::messages::Committed;
use crate::proto::reply;
use crate::tree::{Applied, Readers};
use crate::types::ConnId;

/// Answers about who may read a node that are kept while the events of one transaction are delivered.
const ANSWERS_MAX: usize = 1 << 16;

/// A transaction that is applied, and how far its events have come.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) txn: Committed,
    pub(super) applied: Applied,
    /// Changes whose watches have fired.
    fired: usize,
    /// Who is told of the last of them, and whether of its parent.
    told: std::vec::IntoIter<(ConnId, bool)>,
    readers: Readers,
    /// What the readers have cost and was paid for.
    paid: usize,
    /// Bytes of all events so far.
    bytes: usize,
    /// The event of a change, and which: the next watcher's is mostly the same.
    encoded: Vec<u8>,
    encoded_for: Option<(usize, bool)>,
}

impl Delivery {
    pub(super) fn of(txn: Committed, applied: Applied) -> Delivery {
        Delivery {
            txn,
            applied,
            fired: 0,
            told: Vec::new().into_iter(),
            readers: Readers::default(),
            paid: 0,
            bytes: 0,
            encoded: Vec::new(),
            encoded_for: None,
        }
    }

    /// Steps of comparing since the last call. When more answers than may be kept are there, all are forgotten.
    fn take_compared(&mut self) -> usize {
        let compared = self.readers.steps();
        let steps = compared - std::mem::replace(&mut self.paid, compared);
        if self.readers.answers() > ANSWERS_MAX {
            (self.readers, self.paid) = (Readers::default(), 0);
        }
        steps
    }

    /// Nobody is left to be told.
    fn has_ended(&self) -> bool {
        self.told.len() == 0 && self.fired == self.applied.changes.len()
    }

    /// Goes on with the events of a transaction until `budget` is spent, at least by one: each is appended to the
    /// output of a connection that watches, if it may read the node (docs/protocol.md §4.4). True when there are no
    /// more.
    ///
    /// Steps: watches fired, paths and watches looked up above the nodes, entries and identities compared. The
    /// watches of one path fire together.
    ///
    /// What is kept is the watchers of one change, output and [`ANSWERS_MAX`] answers about who may read. When the
    /// events come to as much as all output may, who holds more than a share of it ends with its next event.
    /// Watches that fire for a connection that has ended are paid for by freeing as many.
    pub(super) fn go_on(
        &mut self,
        conns: &mut Slab,
        core: &mut ShardState,
        budget: &mut Budget,
    ) -> bool {
        while !self.has_ended() {
            if self.told.len() == 0 {
                let mut told = Vec::new();
                let change = &self.applied.changes[self.fired];
                let watches = &mut core.watches;
                let steps = watches.trigger(change, |conn, of_parent| told.push((conn, of_parent)));
                budget.spend_steps(steps);
                self.fired += 1;
                self.told = told.into_iter();
            }
            if let Some((conn, of_parent)) = self.told.next() {
                self.tell(conns, core, (conn, of_parent));
                budget.spend_steps(1 + self.take_compared());
            }
            if budget.is_spent() {
                break;
            }
        }
        self.has_ended()
    }

    /// Delivers the event of the change whose watches have fired last to one who watches.
    fn tell(&mut self, conns: &mut Slab, core: &mut ShardState, (conn, of_parent): (ConnId, bool)) {
        let Some(c) = conns.get_mut(conn).filter(|c| !c.ended()) else {
            core.watches.reap();
            return;
        };
        let at = self.fired - 1;
        let event = Event::of(&self.applied.changes[at], of_parent);
        let readers = &mut self.readers;
        let readable = event
            .acl
            .is_none_or(|acl| readers.allow(acl, &c.credentials));
        if !readable {
            return;
        }
        if self.encoded_for != Some((at, of_parent)) {
            self.encoded_for = Some((at, of_parent));
            self.encoded.clear();
            let zxid = self.applied.zxid;
            reply::event(&mut self.encoded, event.kind, zxid, event.path);
        }
        self.bytes += self.encoded.len();
        let too_much = self.bytes > core.config.output_bytes_max;
        if too_much && c.output_bytes() > core.config.connection_share {
            core.end(c, Ending::Discard, Why::EventsInExcess);
            return;
        }
        c.output.extend_from_slice(&self.encoded);
        core.appended(c, 1);
    }
}
