//! From bytes to entries of the FIFO: which frame may be parsed, what a write is handed up with,
//! and how much memory the input of a connection may take.

use super::auth;
use super::connection::{Attachment, Connection, Grant, Next, Pending, Phase, Step};
use super::endings::{Ending, Why};
use super::reads::{self, OwnWrites};
use super::slices::SetWatches;
use super::state::ShardState;
use crate::budget::Budget;
use crate::constants::READS_AHEAD_MAX;
use crate::messages::{Origin, ShardRequest, Stamps};
use crate::proto::request::RequestHeader;
use crate::proto::{ConnectRequest, ReadRequest, Request, WatchCursor};
use crate::tree::Tree;
use crate::txn::WriteRequest;
use crate::types::{ErrorCode, OpCode, SessionId, Xid, Zxid};
use std::sync::Arc;

/// What a request takes in memory beside its own bytes: an entry of the FIFO, one of the pipeline.
const REQUEST_FIXED: usize = 256;

/// How many times its frame a decoded list may take: an operation of 17 bytes is a value of 80, in
/// a vector that is up to half empty.
const DECODED_MAX: usize = 12;

/// What became of the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// It is in the FIFO, or was the ConnectRequest, or ended the connection.
    Taken,
    /// There is none, or it waits for something that wakes the connection when it comes.
    Waits,
}

fn op_of(payload: &[u8]) -> Option<OpCode> {
    let op = payload.get(4..)?.first_chunk()?;
    Some(OpCode(i32::from_be_bytes(*op)))
}

fn is_create(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL
    )
}

/// Whether a request of this type becomes a transaction, if it can be parsed.
pub(super) fn is_write(op: OpCode) -> bool {
    let is_other = matches!(
        op,
        OpCode::DELETE
            | OpCode::SET_DATA
            | OpCode::SET_ACL
            | OpCode::RECONFIG
            | OpCode::MULTI
            | OpCode::CLOSE_SESSION
    );
    is_create(op) || is_other
}

/// The length of a string or buffer that stands at `at`.
fn length_at(payload: &[u8], at: usize) -> Option<usize> {
    let length = payload.get(at..)?.first_chunk()?;
    usize::try_from(i32::from_be_bytes(*length)).ok()
}

/// The most that the reply to a write takes, bytes, as far as the first bytes of its frame tell. An
/// operation of a multi asks for 17 bytes at least and is answered with 77 at most and its path.
fn outcome_max(payload: &[u8]) -> usize {
    const FIXED: usize = 128;
    match op_of(payload) {
        Some(OpCode::MULTI) => FIXED + 6 * payload.len(),
        Some(op) if is_create(op) => FIXED + length_at(payload, 8).unwrap_or(0),
        _ => FIXED,
    }
}

/// The most that a frame of `len` bytes takes in memory when it is decoded, as far as its first
/// bytes tell: one that does not say what it is may be a list.
fn decoded_max(len: usize, payload: &[u8]) -> usize {
    let list = match op_of(payload) {
        None | Some(OpCode::MULTI | OpCode::MULTI_READ | OpCode::SET_ACL) => len,
        Some(op) if is_create(op) => {
            let data = length_at(payload, 8).and_then(|path| length_at(payload, 12 + path));
            len.saturating_sub(data.unwrap_or(0))
        }
        _ => 0,
    };
    len + (DECODED_MAX - 1) * list + REQUEST_FIXED
}

/// What a write takes in memory, bytes, beside its frame's.
fn decoded(request: &WriteRequest) -> usize {
    let acl = |acl: &Option<Vec<_>>| acl.as_ref().map_or(0, |acl| 96 * acl.len());
    match request {
        WriteRequest::Create(create) => acl(&create.acl),
        WriteRequest::SetAcl { acl: list, .. } => acl(list),
        WriteRequest::Multi(ops) => ops.iter().map(|op| 96 + decoded(op)).sum(),
        _ => 0,
    }
}

/// What the reply to a write takes of the output, bytes.
fn owed(request: &WriteRequest) -> usize {
    const FIXED: usize = reads::OWED_MIN;
    match request {
        WriteRequest::Create(create) => FIXED + create.path.len(),
        WriteRequest::Multi(ops) => FIXED + ops.iter().map(owed).sum::<usize>(),
        _ => FIXED,
    }
}

impl ShardState {
    /// Takes the next frame from the input, if it may be taken now. The only place that holds a
    /// connection back; whatever it waits for wakes the connection when it comes.
    pub(super) fn take_frame(
        &mut self,
        c: &mut Connection,
        tree: &Tree,
        budget: &mut Budget,
    ) -> Intake {
        let frame_max = self.config.frame_max;
        match c.input.next(frame_max) {
            Ok(Some(frame)) => {
                // The frame is decoded before anything else touches the input.
                let len = frame.len();
                budget.spend_bytes(4 + len);
                budget.spend_steps(1);
                c.counters.since(self.resets).received += 1;
                self.totals.received += 1;
                match c.phase {
                    Phase::Fresh => match ConnectRequest::decode(frame) {
                        Some(request) => self.connect(c, request, tree),
                        None => self.end(c, Ending::Discard, Why::NoHandshake),
                    },
                    Phase::Attached(attachment) => match Request::decode(frame) {
                        Some((header, request)) => {
                            self.enqueue(c, attachment, header, request, len, tree, budget);
                        }
                        None => self.end(c, Ending::Flush, Why::Malformed),
                    },
                    Phase::Connecting(_) | Phase::Ended { .. } => unreachable!("not taken now"),
                }
                c.grant = None;
                self.count_requests(c);
                Intake::Taken
            }
            Ok(None) => Intake::Waits,
            Err(_) => {
                self.end(c, Ending::Flush, Why::FrameLength);
                Intake::Taken
            }
        }
    }

    /// Whether there is a frame, and it may be taken now.
    pub(super) fn may_take_frame(&mut self, c: &mut Connection) -> bool {
        if c.deaf || !self.has_room(c) {
            return false;
        }
        let payload = match c.input.peek(self.config.frame_max) {
            Next::Empty | Next::Partial(_) => return false,
            Next::Bad => return true,
            Next::Whole(payload) => payload,
        };
        if !self.may_queue(c, payload) {
            return false;
        }
        let outcome = outcome_max(payload);
        match (c.phase, op_of(payload)) {
            (Phase::Attached(_), Some(OpCode::AUTH)) => c.fifo.is_empty(),
            (Phase::Attached(_), Some(op)) if is_write(op) => {
                self.keeps_order(c)
                    && self.has_room_for_outcome(c, outcome)
                    && self.credits.may_hand_up(c)
            }
            _ => true,
        }
    }

    /// Whether there is memory for a further entry of the FIFO. If not, the connection goes on when
    /// an entry of its own has been answered. While somebody waits for memory there is none beyond the
    /// share: who waits until nobody else holds any would starve behind those who always hold some.
    fn may_queue(&self, c: &Connection, payload: &[u8]) -> bool {
        let bytes = c.request_bytes();
        let decoded = bytes - payload.len() + decoded_max(payload.len(), payload);
        let is_shared = decoded <= self.config.connection_share;
        c.fifo.is_empty()
            || ((is_shared || self.memory_queue.is_empty())
                && self.requests.has_room(bytes, bytes + REQUEST_FIXED, false))
    }

    fn has_room(&self, c: &Connection) -> bool {
        match c.phase {
            Phase::Connecting(_) | Phase::Ended { .. } => false,
            // A sync that waits for the replica, and a setWatches that is worked off in slices, must
            // not be overtaken by a write of their own session: what stands between would see it.
            Phase::Fresh | Phase::Attached(_) => {
                !self.is_full(c) && c.fifo.len() < self.config.fifo_max && c.barriers == 0
            }
        }
    }

    /// Whether a write may be handed up as far as the reads before it are concerned. They must not
    /// see it: so they execute in one step when the outcome of the write before them comes, and
    /// have to fit that step and the output. Reads without a write before them execute first.
    fn keeps_order(&self, c: &Connection) -> bool {
        let behind_a_write = c
            .fifo
            .front()
            .is_some_and(|head| matches!(head.step, Step::Write));
        let fits = || c.ahead + c.backlog() <= self.config.output_low_mark();
        c.reads == 0 || (behind_a_write && c.reads <= READS_AHEAD_MAX && fits())
    }

    /// Whether the reply to one more write fits the output beside what is owed already: outcomes
    /// can't wait for room when they come. The first write always may, and each outcome lets the
    /// connection go on.
    fn has_room_for_outcome(&self, c: &Connection, outcome: usize) -> bool {
        c.unanswered_writes == 0 || c.ahead + c.backlog() + outcome <= self.config.output_max
    }

    /// A parsed request takes its place in the FIFO.
    #[expect(clippy::too_many_arguments, reason = "one request, and where it goes")]
    fn enqueue(
        &mut self,
        c: &mut Connection,
        attachment: Attachment,
        header: RequestHeader,
        request: Request,
        len: usize,
        tree: &Tree,
        budget: &mut Budget,
    ) {
        let RequestHeader { xid, op } = header;
        let is_auth = matches!(request, Request::Auth { .. } | Request::Sasl);
        let is_turned_away = !is_auth && !c.is_admitted;
        if !is_auth && !is_turned_away {
            self.liveness.touch(c, attachment.session);
        }
        let mut weight = len + REQUEST_FIXED;
        let mut ahead = 0;
        let step = match of_the_connection(request, attachment.session, c) {
            _ if is_turned_away => {
                c.deaf = true;
                Step::Answer {
                    error: ErrorCode::SESSION_CLOSED_REQUIRE_SASL_AUTH,
                    zxid: Some(Zxid::ZERO),
                    ends: Some(Why::NotAdmitted),
                }
            }
            Request::Write(request) => {
                budget.spend_request();
                weight += decoded(&request);
                ahead = owed(&request);
                self.hand_up(c, attachment, xid, request);
                Step::Write
            }
            Request::Read(read) => {
                if !c.fifo.is_empty() {
                    // A step takes about as long as 16 bytes of a reply.
                    let own = OwnWrites {
                        data: c.largest_write,
                        listed: c.owed,
                    };
                    let cost = reads::estimate(tree, &read, own);
                    ahead = cost.bytes.saturating_add(cost.steps.saturating_mul(16));
                }
                weight = decoded_weight(&read, weight);
                Step::Read(read)
            }
            Request::SetWatches {
                relative_zxid,
                lists,
            } => {
                weight += lists.bytes();
                Step::SetWatches(SetWatches {
                    seen: relative_zxid,
                    lists,
                    cursor: WatchCursor::default(),
                })
            }
            Request::Ping => Step::Ping,
            Request::Sasl => Step::Token,
            Request::GetEphemerals(_) | Request::WhoAmI => unreachable!("reads by now"),
            Request::Sync(path) => Step::Sync {
                path,
                is_asked: false,
                target: None,
            },
            Request::Auth { scheme, auth } => {
                budget.spend_steps(c.credentials.len());
                self.authenticate(c, scheme.as_deref(), auth)
            }
            Request::Malformed => Step::Answer {
                error: ErrorCode::MARSHALLING,
                zxid: None,
                ends: None,
            },
            Request::Unknown => {
                c.deaf = true;
                Step::Answer {
                    error: ErrorCode::UNIMPLEMENTED,
                    zxid: Some(Zxid(-1)),
                    ends: Some(Why::UnknownRequest),
                }
            }
        };
        c.push(Pending {
            xid,
            op,
            received: c.received_at,
            weight,
            // A reply without a body counts too, or the FIFO would have no end.
            ahead: ahead.min(usize::MAX / 4096),
            step,
        });
    }

    fn hand_up(
        &mut self,
        c: &mut Connection,
        attachment: Attachment,
        xid: Xid,
        request: WriteRequest,
    ) {
        if request == WriteRequest::CloseSession {
            c.deaf = true;
        }
        self.credits.take(c);
        self.up.push_back(ShardRequest::Write {
            origin: Origin {
                shard: self.config.id,
                conn: c.id,
                sequence: c.next_sequence(),
            },
            session: attachment.session,
            generation: attachment.generation,
            xid,
            request,
            credentials: Arc::clone(&c.credentials),
            stamps: Stamps {
                received: c.received_at,
                ..Stamps::default()
            },
        });
    }

    /// The credentials change when the FIFO is empty, so that one list serves all requests of the
    /// connection.
    fn authenticate(
        &mut self,
        c: &mut Connection,
        scheme: Option<&str>,
        data: Option<Vec<u8>>,
    ) -> Step {
        let rules = &self.config.auth;
        let added = rules.add(
            &c.credentials,
            &c.peer.address,
            scheme,
            data.as_deref(),
            self.config.identities_max,
        );
        let error = match added {
            Ok(credentials) => {
                c.is_admitted = rules.admit(&credentials);
                c.credentials = credentials;
                ErrorCode::OK
            }
            Err(auth::AuthFailed) => {
                c.deaf = true;
                ErrorCode::AUTH_FAILED
            }
        };
        Step::Answer {
            error,
            zxid: Some(Zxid::ZERO),
            ends: (error != ErrorCode::OK).then_some(Why::AuthFailed),
        }
    }

    /// What the input of a connection needs beyond its share, if it needs more.
    fn wanted(&self, c: &Connection) -> Option<Grant> {
        if c.ended() || c.deaf || self.is_full(c) || self.may_read(c) > 0 {
            return None;
        }
        let share = self.config.connection_share;
        match c.input.peek(self.config.frame_max) {
            Next::Whole(_) | Next::Bad => None,
            Next::Partial(Some(len)) if len > share => Some(Grant {
                input_max: len,
                weight: decoded_max(len, &c.input.bytes()[4..]),
            }),
            // Not more than a share: behind small requests the beginning of a large one may lie, and who
            // waits for memory for that one must hold none that others wait for.
            Next::Empty | Next::Partial(_) => Some(Grant {
                input_max: share,
                weight: share,
            }),
        }
    }

    /// Gives the input of a connection the memory that it needs beyond its share, if there is
    /// some. False if it has to wait.
    pub(super) fn grant_memory(&mut self, c: &mut Connection) -> bool {
        let Some(grant) = self.wanted(c) else {
            return true;
        };
        let (now, then) = (c.counted.0, c.fifo_weight + grant.weight.max(c.input.len()));
        if !self.requests.has_room(now, then, c.fifo.is_empty()) {
            return false;
        }
        c.grant = Some(grant);
        self.count_requests(c);
        true
    }

    /// Brings what is held and counted of a connection up to date, and asks for memory for its input.
    pub(super) fn settle(&mut self, c: &mut Connection) {
        c.release();
        let share = self.config.connection_share;
        let large =
            matches!(c.input.peek(self.config.frame_max), Next::Partial(Some(len)) if len > share);
        let wants = self.wanted(c).is_some();
        if wants || (!large && self.room_in_share(c) > 0) {
            c.grant = None;
        }
        self.count_requests(c);
        if !c.waits_for_memory && wants {
            let first = self.memory_queue.is_empty();
            if !(first && self.grant_memory(c)) {
                c.waits_for_memory = true;
                self.memory_queue.push_back(c.id);
            }
        }
    }
}

/// A request that asks about its own session or connection, as a read that names it.
fn of_the_connection(request: Request, session: SessionId, c: &Connection) -> Request {
    match request {
        Request::GetEphemerals(prefix) => {
            let prefix = prefix.unwrap_or_default();
            // Blank is whatever Java's trim takes away.
            let prefix = match prefix.trim_matches(|c: char| c <= ' ') {
                "" | "/" => Arc::default(),
                _ => prefix,
            };
            Request::Read(ReadRequest::GetEphemerals { session, prefix })
        }
        Request::WhoAmI => {
            let who = Arc::clone(&c.credentials);
            Request::Read(ReadRequest::WhoAmI { who })
        }
        request => request,
    }
}

/// What a queued read takes in memory, bytes.
fn decoded_weight(read: &ReadRequest, weight: usize) -> usize {
    match read {
        ReadRequest::MultiRead { ops, .. } => weight + 160 * ops.len(),
        _ => weight,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::hex;

    /// A body that every write can be read from, and whose path has two bytes.
    const BODY: &str = "00000002 2f61 ffffffff 00000000 00000000 0000000000000001";

    #[test]
    fn what_becomes_a_transaction_is_known_by_the_first_bytes_of_its_frame() {
        let mut writes = 0;
        for op in -11..200 {
            let mut payload = 1i32.to_be_bytes().to_vec();
            payload.extend(i32::to_be_bytes(op));
            payload.extend(hex(BODY));
            let (_, request) = Request::decode(&payload).unwrap();
            let known = op_of(&payload).is_some_and(is_write);
            assert_eq!(matches!(request, Request::Write(_)), known, "{op}");
            writes += u32::from(known);
            if let Request::Write(request @ WriteRequest::Create(_)) = request {
                assert_eq!(outcome_max(&payload), owed(&request), "{op}");
                assert!(decoded_max(payload.len(), &payload) >= 4 * payload.len());
            }
        }
        assert_eq!(writes, 10);
    }
}
