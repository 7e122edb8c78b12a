//! Executing the FIFO of a connection, in order, within a budget.

use super::connection::{Attachment, Connection, Pending, Phase, Step, Timing};
use super::endings::{Ending, Why};
use super::intake::{Intake, is_write};
use super::reads::{self, Cost, OwnWrites, Reader};
use super::replies;
use super::slices::{Draft, Slice};
use super::state::ShardState;
use super::stats::op_name;
use crate::budget::Budget;
use crate::messages::{Origin, ShardRequest};
use crate::proto::ReadRequest;
use crate::proto::reply::{self, ReplyHeader};
use crate::tree::{Applied, Tree};
use crate::txn::jute::Put;
use crate::types::{ErrorCode, Now, OpCode, Xid, Zxid};

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
    /// of other sessions are under way. When the output is full it waits, and one with a large reply
    /// until the output before it has left. A request that has just been `parsed` belongs to the
    /// budget that paid for its bytes.
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
                Step::Sync {
                    is_asked,
                    target: None,
                    ..
                } if self.config.is_member => {
                    if !std::mem::replace(is_asked, true) {
                        self.ask_for_sync(c);
                    }
                    return Stop::Waits;
                }
                Step::Sync { target, .. } => {
                    let target = *target.get_or_insert(self.committed.max(tree.last_zxid()));
                    if tree.last_zxid() < target {
                        self.waiters.insert((target, c.id));
                        return Stop::Waits;
                    }
                }
                Step::Read(_) | Step::SetWatches(_) => {}
                Step::Ping | Step::Token | Step::Answer { .. } => {}
            }
            c.is_next_large = self.is_next_large(c, tree);
            if self.is_full(c) || !self.has_output_room(c, tree) {
                return Stop::Waits;
            }
            if budget.is_spent() && !std::mem::take(&mut parsed) {
                return Stop::Spent;
            }
            if budget.saves() && !self.is_affordable(c, tree, budget) {
                return Stop::Spent;
            }
            if !self.work_off(c, tree, budget) {
                return match c.ended() {
                    true => Stop::Waits,
                    false => Stop::Spent,
                };
            }
            let pending = c.pop().expect("there is a head");
            self.answer(c, pending, tree, budget, now);
        }
        Stop::Waits
    }

    /// The sync at the head is for the pipeline first: others may have committed what is not known here.
    fn ask_for_sync(&mut self, c: &Connection) {
        let Phase::Attached(Attachment { session, .. }) = c.phase else {
            return;
        };
        self.up.push_back(ShardRequest::Sync {
            origin: Origin {
                shard: self.config.id,
                conn: c.id,
                sequence: c.first_sequence,
            },
            session,
        });
    }

    /// Everything is told that was committed when a connection's sync came to its leader.
    pub(super) fn synced(&mut self, c: &mut Connection, sequence: u64, tree: &Tree) {
        let is_it = c.first_sequence == sequence;
        if let Some(Step::Sync { target, .. }) = c.fifo.front_mut().map(|head| &mut head.step)
            && is_it
        {
            *target = Some(self.committed.max(tree.last_zxid()));
        }
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
                self.end(c, Ending::Discard, Why::OutputInExcess);
                return;
            }
            let pending = c.pop().expect("there is a head");
            self.answer(c, pending, tree, &mut budget, now);
        }
    }

    /// Whether the head is a read whose reply is longer than a share, of which nothing is made yet, behind
    /// more output than a share: made now, the reply would only lie in memory until that has left.
    fn is_next_large(&self, c: &Connection, tree: &Tree) -> bool {
        let share = self.config.connection_share;
        if c.backlog() <= share || c.draft.is_some() || c.promised > 0 {
            return false;
        }
        match c.fifo.front().map(|head| &head.step) {
            Some(Step::Read(read)) => self.reply_estimate(tree, read) > share,
            _ => false,
        }
    }

    /// Whether the budget is enough for a read at the head that is not worked off in slices.
    fn is_affordable(&self, c: &Connection, tree: &Tree, budget: &mut Budget) -> bool {
        match c.fifo.front().map(|head| &head.step) {
            Some(Step::Read(
                read @ (ReadRequest::GetData { .. }
                | ReadRequest::GetAcl { .. }
                | ReadRequest::WhoAmI { .. }),
            )) => {
                let Cost { bytes, steps } = reads::estimate(tree, read, OwnWrites::default());
                budget.affords(bytes, steps)
            }
            _ => true,
        }
    }

    /// Goes on with the request at the head, if it is one that is worked off in slices, at least by one
    /// element. False if there is more to do when the connection's turn comes again, or if the
    /// connection has ended.
    fn work_off(&mut self, c: &mut Connection, tree: &Tree, budget: &mut Budget) -> bool {
        match c.fifo.front().map(|head| &head.step) {
            Some(Step::SetWatches(_)) => self.set_watches(c, tree, budget),
            Some(Step::Read(
                ReadRequest::GetChildren { .. }
                | ReadRequest::GetEphemerals { .. }
                | ReadRequest::MultiRead { .. },
            )) => self.draft(c, tree, budget),
            _ => true,
        }
    }

    fn set_watches(&mut self, c: &mut Connection, tree: &Tree, budget: &mut Budget) -> bool {
        let Some(Step::SetWatches(request)) = c.fifo.front_mut().map(|head| &mut head.step) else {
            return true;
        };
        let (events, slice) = request.go_on(&mut self.watches, c.id, tree, &mut c.output, budget);
        if events > 0 {
            self.appended(c, events);
        }
        if slice.is_err() {
            // Its watches would not fit: it is the one that ends.
            self.end(c, Ending::Discard, Why::NoRoomForWatch);
        }
        slice == Ok(Slice::Whole) && !c.ended()
    }

    fn draft(&mut self, c: &mut Connection, tree: &Tree, budget: &mut Budget) -> bool {
        let Some(Step::Read(read)) = c.fifo.front().map(|head| &head.step) else {
            return true;
        };
        if c.draft.is_none() {
            let Some(draft) = Draft::begin(tree, &c.credentials, read, budget) else {
                return true;
            };
            c.draft = Some(Box::new(draft));
            if c.promised == 0 {
                // What is drafted is in nobody's output yet: this is where it counts.
                c.promised = self.reply_estimate(tree, read).max(1);
                self.outputs.promise(c.promised);
            }
        }
        let draft = c.draft.as_mut().expect("just made");
        let reply_max = self.config.reply_bytes_max;
        match draft.go_on(tree, &c.credentials, read, reply_max, budget) {
            Slice::Whole => true,
            Slice::More => false,
            Slice::Abandoned => {
                c.draft = None;
                true
            }
        }
    }

    /// Whether the shard's output has room for the reply at the head. If not, the connection
    /// waits, and is woken in its turn.
    fn has_output_room(&mut self, c: &mut Connection, tree: &Tree) -> bool {
        let Some(head) = c.fifo.front() else {
            return true;
        };
        if !matches!(head.step, Step::Read(_) | Step::SetWatches(_)) || c.promised > 0 {
            return true;
        }
        if c.waits_for_output.is_some() {
            return false;
        }
        let nobody_waits = self.output_queue.is_empty();
        if nobody_waits && !self.outputs.is_tight(self.config.reply_bytes_max) {
            return true;
        }
        let bytes = match &head.step {
            Step::Read(read) => self.reply_estimate(tree, read),
            Step::SetWatches(request) => request.events_max().min(self.config.reply_bytes_max),
            _ => return true,
        };
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
        let bytes = reads::estimate(tree, read, OwnWrites::default()).bytes;
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
        let mut ending = None;
        let draft = c.draft.take();
        match &pending.step {
            Step::Write => unreachable!("answered by its outcome"),
            Step::Read(read) => {
                let is_multi = matches!(read, ReadRequest::MultiRead { .. });
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
                let answered = match draft {
                    Some(draft) => draft.finish(&mut reader, read),
                    None if is_multi => {
                        Draft::in_one_piece(&reader, read, budget).finish(&mut reader, read)
                    }
                    None => reader.single(read),
                };
                match answered {
                    Ok(error) => header.err = error,
                    // Its watch would not fit: it is the one that ends.
                    Err(_) => ending = Some((Ending::Discard, Why::NoRoomForWatch)),
                }
                cost = reader.cost;
            }
            Step::SetWatches(request) => {
                assert!(request.is_done(), "worked off at the head");
                reply::header_only(&mut c.output, header);
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
            Step::Token => {
                header.zxid = Zxid::ZERO;
                let _ = reply::with_body(&mut c.output, header, |out| out.put_buf(None));
            }
            Step::Answer { error, zxid, ends } => {
                header.err = *error;
                header.zxid = zxid.unwrap_or(header.zxid);
                ending = ends.map(|why| (Ending::Flush, why));
                reply::header_only(&mut c.output, header);
            }
        }
        self.drop_promise(c);
        self.totals.others += u64::from(c.unanswered_writes == 0);
        budget.spend_request();
        budget.spend_bytes(match &pending.step {
            // Counted where it was made.
            Step::Read(_) => cost.bytes,
            _ => c.output.len() - start,
        });
        budget.spend_steps(cost.steps);
        let read = matches!(pending.step, Step::Read(_) | Step::SetWatches(_));
        let timing = read.then_some(Timing::Read(pending.received));
        self.replied(c, &pending, header, timing, 1, now);
        if let Some((ending, why)) = ending {
            self.end(c, ending, why);
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
            self.end(c, Ending::Flush, Why::Asked);
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
            self.end(c, Ending::Flush, Why::Asked);
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
        let is_for_the_connection = matches!(pending.op, OpCode::AUTH | OpCode::SASL)
            || header.err == ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH;
        if !is_for_the_connection {
            let op = op_name(pending.op, header.err, is_write(pending.op));
            let ms = c.counters.since(self.resets).replied(
                op,
                pending.xid,
                header.zxid,
                pending.received,
                now,
            );
            self.totals.latency.add(ms);
        }
        if let Some(timing) = timing {
            self.keep_time(c, timing, now);
        }
        self.appended(c, frames);
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
