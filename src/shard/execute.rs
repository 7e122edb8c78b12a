//! Executing the FIFO of a connection, in order, within a budget.

use super::connection::{Connection, Pending, Step, Timing};
use super::intake::Intake;
use super::reads::{self, Cost, Reader};
use super::replies;
use super::state::{Ending, ShardState};
use super::stats::op_name;
use crate::budget::Budget;
use crate::messages::Origin;
use crate::proto::ReadRequest;
use crate::proto::reply::{self, ReplyHeader};
use crate::tree::{Applied, Tree};
use crate::txn::jute::Put;
use crate::types::{ErrorCode, Now, OpCode, Xid};

/// Where a run over the FIFO stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// There is nothing, or the head waits for something that wakes the connection when it comes.
    Waits,
    /// The budget is spent, and the head could execute.
    Spent,
}

impl ShardState {
    /// Executes and answers what is ready at the head of the FIFO, parses what may be parsed, and
    /// so on until nothing moves or the budget is spent; then the connection is ready again. The
    /// driver looks at what may be read of it afterwards, so that alone does not make it ready.
    pub(super) fn advance(
        &mut self,
        c: &mut Connection,
        tree: &Tree,
        budget: &mut Budget,
        now: Now,
    ) {
        let mut parsed = false;
        loop {
            let stop = self.drain(c, tree, budget, parsed, now);
            let more = stop == Stop::Spent || self.may_take_frame(c);
            if more && budget.is_spent() {
                self.mark_ready(c);
                break;
            }
            if !more || self.take_frame(c, tree, budget) == Intake::Waits {
                self.credits.give_back(c);
                break;
            }
            parsed = true;
        }
        self.settle(c);
        c.reading = self.may_read(c) > 0;
    }

    /// Works off the FIFO from its head, in order.
    ///
    /// A write at the head waits for its outcome: what is behind it, reads included, was sent
    /// after it and must see it. A read that gets to the head executes at once, whatever writes
    /// of other sessions are under way. When the output is full it waits. A request that has just
    /// been `parsed` belongs to the budget that paid for its bytes.
    fn drain(
        &mut self,
        c: &mut Connection,
        tree: &Tree,
        budget: &mut Budget,
        mut parsed: bool,
        now: Now,
    ) -> Stop {
        while let Some(head) = c.fifo.front_mut() {
            match &mut head.step {
                Step::Write => return Stop::Waits,
                Step::Sync { target, .. } => {
                    let target = *target.get_or_insert(self.committed.max(tree.last_zxid()));
                    if tree.last_zxid() < target {
                        self.waiters.insert((target, c.id));
                        return Stop::Waits;
                    }
                }
                Step::Read(_) | Step::Ping | Step::Answer { .. } => {}
            }
            if self.is_full(c) || !self.has_output_room(c, tree) {
                return Stop::Waits;
            }
            if budget.is_spent() && !std::mem::take(&mut parsed) {
                return Stop::Spent;
            }
            if budget.saves()
                && let Some(Step::Read(read)) = c.fifo.front().map(|head| &head.step)
            {
                let Cost { bytes, steps } = reads::estimate(tree, read, 0);
                if !budget.affords(bytes, steps) {
                    return Stop::Spent;
                }
            }
            let pending = c.pop().expect("there is a head");
            self.answer(c, pending, tree, budget, now);
        }
        Stop::Waits
    }

    /// Executes what stands between a write that has just got its outcome and the next write that
    /// is under way: it must not see that one, which the driver may apply next. How much that may
    /// be was decided when the next write was handed up (`keeps_order`), so no budget holds it up,
    /// nor a full output. Nodes can have become larger since then, by writes of other sessions: a
    /// connection whose output passes what may be in excess ends. Without a next write there is no
    /// hurry.
    pub(super) fn execute_between_writes(&mut self, c: &mut Connection, tree: &Tree, now: Now) {
        let mut budget = Budget::UNLIMITED;
        while c.unanswered_writes > 0
            && let Some(head) = c.fifo.front()
            && !matches!(head.step, Step::Write)
        {
            if c.backlog() > self.config.output_max + self.config.output_excess_max {
                self.end(c, Ending::Discard);
                return;
            }
            let pending = c.pop().expect("there is a head");
            self.answer(c, pending, tree, &mut budget, now);
        }
    }

    /// Whether the shard's output has room for the reply at the head. If not, the connection
    /// waits, and is woken in its turn.
    fn has_output_room(&mut self, c: &mut Connection, tree: &Tree) -> bool {
        let Some(Step::Read(read)) = c.fifo.front().map(|head| &head.step) else {
            return true;
        };
        if c.promised > 0 {
            return true;
        }
        if c.waits_for_output.is_some() {
            return false;
        }
        let nobody_waits = self.output_queue.is_empty();
        if nobody_waits && !self.outputs.is_tight(self.config.reply_bytes_max) {
            return true;
        }
        let bytes = self.reply_estimate(tree, read);
        let held = c.output_bytes();
        let then = held + bytes;
        let small = then <= self.config.connection_share;
        if small || (nobody_waits && self.outputs.has_room(held, then, held == 0)) {
            return true;
        }
        c.waits_for_output = Some(bytes);
        self.output_queue.push_back(c.id);
        false
    }

    fn reply_estimate(&self, tree: &Tree, read: &ReadRequest) -> usize {
        let bytes = reads::estimate(tree, read, 0).bytes;
        bytes.min(self.config.reply_bytes_max)
    }

    /// Answers a request that is at the head and is no write.
    fn answer(
        &mut self,
        c: &mut Connection,
        pending: Pending,
        tree: &Tree,
        budget: &mut Budget,
        now: Now,
    ) {
        let start = c.output.len();
        let mut header = ReplyHeader {
            xid: pending.xid,
            zxid: tree.last_zxid(),
            err: ErrorCode::OK,
        };
        let mut cost = Cost::default();
        let mut events = 0;
        let mut ending = None;
        match &pending.step {
            Step::Write => unreachable!("answered by its outcome"),
            Step::Read(read) => {
                let mut reader = Reader {
                    tree,
                    watches: &mut self.watches,
                    conn: c.id,
                    credentials: &c.credentials,
                    xid: pending.xid,
                    out: &mut c.output,
                    reply_max: self.config.reply_bytes_max,
                    cost,
                };
                match reader.execute(read) {
                    Ok(answered) => (header.err, events) = answered,
                    // Its watches would not fit: it is the one that ends.
                    Err(_) => ending = Some(Ending::Discard),
                }
                cost = reader.cost;
            }
            Step::Ping => {
                header.xid = Xid(-2);
                reply::header_only(&mut c.output, header);
            }
            Step::Sync { path, .. } => {
                let path = path.as_deref().map(str::as_bytes);
                // The path has come in a frame, so it fits one.
                let _ = reply::with_body(&mut c.output, header, |out| out.put_buf(path));
            }
            Step::Answer { error, zxid, close } => {
                header.err = *error;
                header.zxid = zxid.unwrap_or(header.zxid);
                ending = close.then_some(Ending::Flush);
                reply::header_only(&mut c.output, header);
            }
        }
        self.drop_promise(c);
        self.totals.others += u64::from(c.unanswered_writes == 0);
        budget.spend_request();
        budget.spend_bytes(cost.bytes.max(c.output.len() - start));
        budget.spend_steps(cost.steps);
        let read = matches!(pending.step, Step::Read(_));
        let timing = read.then_some(Timing::Read(pending.received));
        self.replied(c, &pending, header, timing, 1 + events, now);
        if let Some(ending) = ending {
            self.end(c, ending);
        }
    }

    /// Answers the write at the head with its outcome.
    pub(super) fn answer_write(
        &mut self,
        c: &mut Connection,
        origin: Origin,
        applied: &Applied,
        timing: Timing,
        now: Now,
    ) {
        let pending = take_write(c, origin);
        let mut header = ReplyHeader {
            xid: pending.xid,
            zxid: applied.zxid,
            err: replies::header_error(&applied.result),
        };
        let written = reply::with_body(&mut c.output, header, |out| {
            replies::put_outcome(out, &applied.result);
        });
        if written.is_err() {
            header.err = ErrorCode::MARSHALLING;
            reply::header_only(&mut c.output, header);
        }
        self.replied(c, &pending, header, Some(timing), 1, now);
        if pending.op == OpCode::CLOSE_SESSION {
            self.end(c, Ending::Flush);
        }
    }

    /// Answers the write at the head that took no zxid (docs/protocol.md §2.1).
    pub(super) fn answer_refused(
        &mut self,
        c: &mut Connection,
        origin: Origin,
        tree: &Tree,
        now: Now,
    ) {
        let pending = take_write(c, origin);
        let header = ReplyHeader {
            xid: pending.xid,
            zxid: tree.last_zxid(),
            err: ErrorCode::SYSTEM_ERROR,
        };
        reply::header_only(&mut c.output, header);
        self.replied(c, &pending, header, None, 1, now);
        if pending.op == OpCode::CLOSE_SESSION {
            self.end(c, Ending::Flush);
        }
    }

    /// Counts a reply whose bytes are in the output.
    fn replied(
        &mut self,
        c: &mut Connection,
        pending: &Pending,
        header: ReplyHeader,
        timing: Option<Timing>,
        frames: u64,
        now: Now,
    ) {
        if pending.op != OpCode::AUTH {
            let write = matches!(pending.step, Step::Write);
            let op = op_name(pending.op, header.err, write);
            let ms = c
                .counters
                .replied(op, pending.xid, header.zxid, pending.received, now);
            self.totals.latency.add(ms);
        }
        self.appended(c, timing, frames);
    }
}

/// Outcomes come in the order of the requests, and everything before a write has been answered
/// when its outcome comes: so it is for the head.
fn take_write(c: &mut Connection, origin: Origin) -> Pending {
    assert_eq!(
        c.first_sequence, origin.sequence,
        "an outcome that is not for the head"
    );
    let pending = c.pop().expect("the head is there");
    assert!(
        matches!(pending.step, Step::Write),
        "an outcome for what is no write"
    );
    pending
}
