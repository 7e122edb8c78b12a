//! What the shard keeps count of for all connections together, and the same counted anew, connection by
//! connection. Between two calls of [`Shard`] the two are equal; where they are not, something that a
//! connection held was given back twice, or never.

use super::Shard;
use super::connection::{Connection, Phase, Step};
use super::memory::Amounts;
use crate::types::ConnId;
use std::collections::VecDeque;

/// What all connections of a shard hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Connections that have not ended.
    pub open: usize,
    /// Requests in their FIFOs.
    pub queued: usize,
    /// Memory for requests.
    pub requests: Amounts,
    /// Memory for output.
    pub outputs: Amounts,
    /// Writes without an outcome, those of connections that are gone included.
    pub in_flight: usize,
    /// Credits given to connections that waited, and not used yet.
    pub given: usize,
    /// Sessions that are served.
    pub attached: usize,
    /// Watches of connections that have not ended.
    pub watches: usize,
    /// Bytes of all watches.
    pub watch_bytes: usize,
    /// Connections that stand in a queue of the shard.
    pub standing: Standing,
    /// What each connection counts of its own FIFO.
    pub fifos: Fifos,
}

/// How many connections stand in each queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The driver must look at their output.
    pub dirty: usize,
    /// They can go on.
    pub ready: usize,
    /// They wait for a credit.
    pub stalled: usize,
    /// Their input waits for memory.
    pub for_memory: usize,
    /// Their next reply waits for room in the output.
    pub for_output: usize,
}

/// Sums over the FIFOs of all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fifos {
    /// Bytes in memory.
    pub weight: usize,
    /// Entries that are no writes.
    pub reads: usize,
    /// What their execution is expected to cost.
    pub ahead: usize,
    /// Of that, what the replies to writes take.
    pub owed: usize,
    /// Entries whose outcome the pipeline owes.
    pub writes: usize,
    /// sync and setWatches.
    pub barriers: usize,
}

impl Fifos {
    /// As the connection keeps them.
    fn count(&mut self, c: &Connection) {
        self.weight += c.fifo_weight;
        self.reads += c.reads;
        self.ahead += c.ahead;
        self.owed += c.owed;
        self.writes += c.unanswered_writes;
        self.barriers += c.barriers;
    }

    /// As its entries are.
    fn recount(&mut self, c: &Connection) {
        for pending in &c.fifo {
            self.weight += pending.weight;
            self.ahead += pending.ahead;
            match pending.step {
                Step::Write => {
                    self.writes += 1;
                    self.owed += pending.ahead;
                }
                Step::Sync { .. } | Step::SetWatches(_) => {
                    self.reads += 1;
                    self.barriers += 1;
                }
                _ => self.reads += 1,
            }
        }
    }
}

/// Bytes of requests that a connection has a use for.
fn request_bytes(c: &Connection) -> usize {
    match c.has_requests() {
        true => c.request_bytes(),
        false => 0,
    }
}

/// Room in the output that a connection has a use for: a reply is to be made.
fn promised(c: &Connection) -> usize {
    let head = c.fifo.front().map(|head| &head.step);
    match head {
        Some(Step::Read(_) | Step::SetWatches(_)) if !c.ended() => c.promised,
        _ => 0,
    }
}

impl Shard {
    /// What all connections hold, as it is kept step by step.
    pub fn counted(&self) -> Held {
        let core = &self.core;
        let known = |queue: &VecDeque<ConnId>| queue.iter().filter(|id| self.has(**id)).count();
        // Who has ended leaves its place in this one when it comes to the front.
        let waits = |id: &&ConnId| self.conns.get(**id).is_some_and(|c| !c.ended());
        let mut fifos = Fifos::default();
        self.conns.all().for_each(|c| fifos.count(c));
        Held {
            open: core.open,
            queued: core.queued,
            requests: core.requests.counted(),
            outputs: core.outputs.counted(),
            in_flight: core.credits.in_flight(),
            given: core.credits.given(),
            attached: core.attachments.len(),
            watches: core.watches.counts().total,
            watch_bytes: core.watches.bytes(),
            standing: Standing {
                dirty: known(&core.dirty),
                ready: known(&core.ready),
                stalled: known(core.credits.stalled()),
                for_memory: known(&core.memory_queue),
                for_output: core.output_queue.iter().filter(waits).count(),
            },
            fifos,
        }
    }

    /// The same, from what each connection is now.
    ///
    /// Steps: connections, entries of their FIFOs, watches.
    pub fn recounted(&self) -> Held {
        let core = &self.core;
        let is_open = |id| self.conns.get(id).is_some_and(|c| !c.ended());
        let (watches, watch_bytes) = core.watches.recounted(is_open);
        let orphans = || core.credits.orphans();
        let requests = self.conns.all().map(request_bytes);
        let requests = requests.chain(orphans().map(|(_, bytes)| bytes));
        let outputs = self.conns.all().map(Connection::output_bytes);
        let mut sum = Held {
            requests: core.requests.recounted(requests, 0),
            outputs: (core.outputs).recounted(outputs, self.conns.all().map(promised).sum()),
            in_flight: orphans().map(|(writes, _)| writes).sum(),
            watches,
            watch_bytes,
            ..Held::default()
        };
        for c in self.conns.all() {
            let is_open = !c.ended();
            let session = match c.phase {
                Phase::Attached(attachment) => Some(attachment.session),
                Phase::Connecting(connecting) => connecting.granted.map(|own| own.session),
                Phase::Fresh | Phase::Ended { .. } => None,
            };
            let serves = session.is_some_and(|own| core.attachments.get(own) == Some(c.id));
            sum.open += usize::from(is_open);
            sum.attached += usize::from(serves);
            sum.queued += c.fifo.len();
            sum.in_flight += c.unanswered_writes;
            sum.given += usize::from(is_open && c.has_credit);
            sum.standing.dirty += usize::from(c.dirty);
            sum.standing.ready += usize::from(c.ready);
            sum.standing.stalled += usize::from(c.stalled);
            sum.standing.for_memory += usize::from(c.waits_for_memory);
            sum.standing.for_output += usize::from(is_open && c.waits_for_output.is_some());
            sum.fifos.recount(c);
        }
        sum
    }
}
