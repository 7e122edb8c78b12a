//! One connection: unparsed input, the FIFO of requests, unsent output, and what it counts.
//! Decides nothing about other connections; [`super::Shard`] does.

use super::stats::{ClientAddress, Counters};
use crate::messages::Stamps;
use crate::proto::{Frame, ReadRequest, split_frame};
use crate::txn::Credentials;
use crate::types::{ConnId, ErrorCode, Generation, Now, OpCode, SessionId, Tick, Xid, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No whole ConnectRequest yet.
    Fresh,
    /// The pipeline has been asked for a session; frames behind the ConnectRequest wait.
    Connecting(Connecting),
    /// Serves its session.
    Attached(Attachment),
    /// Only what is left of the output matters. The driver closes the socket when that is
    /// written, or at once, and then calls `closed`.
    Ended {
        /// Nothing more may leave.
        discard: bool,
    },
}

/// A handshake that waits for the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connecting {
    /// Negotiated, ms.
    pub(super) timeout_ms: i32,
    /// The request had the readOnly byte, so the response has it too.
    pub(super) with_read_only: bool,
    /// When the ConnectRequest came, µs.
    pub(super) received: u64,
    /// Granted, but the replica must reach the state first that the grant is based on.
    pub(super) granted: Option<Attachment>,
}

/// A session served by a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    /// Negotiated by this connection, ms.
    pub(super) timeout_ms: i32,
}

/// One entry of the FIFO.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) xid: Xid,
    pub(super) op: OpCode,
    /// When its bytes came, µs.
    pub(super) received: u64,
    /// As of its place in the stream (client.md §6.2).
    pub(super) credentials: Credentials,
    pub(super) step: Step,
}

/// What is to be done when a request is at the head of its FIFO.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Wait for the outcome from the pipeline.
    Write,
    /// Execute on the replica.
    Read(ReadRequest),
    /// Answer.
    Ping,
    /// Wait until the replica has reached what is committed when this gets to the head.
    Sync {
        path: Option<Arc<str>>,
        /// Set at the head.
        target: Option<Zxid>,
    },
    /// Decided when it was parsed.
    Answer {
        error: ErrorCode,
        /// `None`: last applied.
        zxid: Option<Zxid>,
        /// Close the connection behind it.
        close: bool,
    },
}

/// Times of a reply that the driver has not taken, for the histograms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timing {
    /// Of a read: when its request came, µs.
    Read(u64),
    /// Of a write: its stages, and when the replica had applied it, µs.
    Write(Stamps, u64),
}

/// A frame's length is negative or beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadLength;

/// Received bytes that are not parsed yet. Grows with what arrives, never by an announced length.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Input::default();
    }

    /// Takes the next whole frame's payload.
    pub(super) fn next(&mut self, frame_max: usize) -> Result<Option<&[u8]>, BadLength> {
        const RETAINED: usize = 64 << 10;
        if self.is_empty() {
            self.start = 0;
            self.bytes.clear();
            self.bytes.shrink_to(RETAINED);
            return Ok(None);
        }
        match split_frame(&self.bytes[self.start..], frame_max) {
            Frame::Partial => Ok(None),
            Frame::Oversized => Err(BadLength),
            Frame::Whole(payload, used) => {
                self.start += used;
                Ok(Some(payload))
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) peer: ClientAddress,
    pub(super) phase: Phase,
    pub(super) input: Input,
    /// When the newest bytes came, µs.
    pub(super) received_at: u64,
    /// What follows in the input is not for us: behind closeSession, an unknown operation or a
    /// failed auth.
    pub(super) deaf: bool,
    pub(super) credentials: Credentials,
    pub(super) fifo: VecDeque<Pending>,
    /// Sequence of the FIFO's head. Sequence 0 is the handshake.
    pub(super) first_sequence: u64,
    /// FIFO entries whose outcome the pipeline owes.
    pub(super) unanswered_writes: usize,
    /// sync requests in the FIFO.
    pub(super) syncs: usize,
    pub(super) output: Vec<u8>,
    /// Length of the output when it was looked at last.
    accounted: usize,
    /// Bytes appended while the output was full already.
    pub(super) excess: usize,
    pub(super) unsent: Vec<Timing>,
    /// In the shard's list of connections that the driver must look at.
    pub(super) dirty: bool,
    /// In the shard's list of connections that wait for credits.
    pub(super) stalled: bool,
    /// What `wants_input` said last.
    pub(super) reading: bool,
    /// The batch in which its session was touched last.
    pub(super) touched_batch: u64,
    /// For the handshake timeout.
    pub(super) accepted: Tick,
    /// Housekeeping rounds since bytes moved in either direction.
    pub(super) quiet_rounds: u64,
    /// Housekeeping rounds since the driver took output, while there was some.
    pub(super) undrained_rounds: u64,
    pub(super) counters: Counters,
}

impl Connection {
    pub(super) fn new(
        id: ConnId,
        peer: ClientAddress,
        credentials: Credentials,
        now: Now,
    ) -> Connection {
        Connection {
            id,
            peer,
            phase: Phase::Fresh,
            input: Input::default(),
            received_at: now.micros,
            deaf: false,
            credentials,
            fifo: VecDeque::new(),
            first_sequence: 1,
            unanswered_writes: 0,
            syncs: 0,
            output: Vec::new(),
            accounted: 0,
            excess: 0,
            unsent: Vec::new(),
            dirty: false,
            stalled: false,
            reading: true,
            touched_batch: 0,
            accepted: now.tick,
            quiet_rounds: 0,
            undrained_rounds: 0,
            counters: Counters::new(now.wall),
        }
    }

    /// Its session, once the connect response has been made.
    pub(super) fn attachment(&self) -> Option<Attachment> {
        match self.phase {
            Phase::Attached(attachment) => Some(attachment),
            _ => None,
        }
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Sequence of the next request.
    pub(super) fn next_sequence(&self) -> u64 {
        self.first_sequence + self.fifo.len() as u64
    }

    /// Counts what has just been appended. A single reply may be of any size: only what comes on
    /// top of a full output is in excess.
    pub(super) fn account_output(&mut self, output_max: usize) {
        if self.accounted > output_max {
            self.excess += self.output.len() - self.accounted;
        }
        self.accounted = self.output.len();
    }

    /// Empties the output.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        (self.accounted, self.excess) = (0, 0);
        std::mem::take(&mut self.output)
    }

    /// Takes the head of the FIFO.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let pending = self.fifo.pop_front()?;
        self.first_sequence += 1;
        self.syncs -= usize::from(matches!(pending.step, Step::Sync { .. }));
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let stream = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01z";
        for chunk in 1..stream.len() {
            let mut input = Input::default();
            let mut frames = Vec::new();
            for bytes in stream.chunks(chunk) {
                input.push(bytes);
                while let Some(frame) = input.next(3).unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            assert_eq!(
                frames,
                [b"abc".to_vec(), vec![], b"z".to_vec()],
                "chunks of {chunk}"
            );
            assert!(input.is_empty());
        }
    }

    #[test]
    fn the_limit_itself_is_accepted_and_nothing_is_allocated_for_an_announced_length() {
        let length = |n: i32| {
            let mut input = Input::default();
            input.push(&n.to_be_bytes());
            input.next(1000).map(|frame| frame.map(<[u8]>::len))
        };
        assert_eq!(length(1000), Ok(None));
        assert_eq!(length(0), Ok(Some(0)));
        for bad in [1001, i32::MAX, -1, i32::MIN] {
            assert_eq!(length(bad), Err(BadLength), "{bad}");
        }
        let mut input = Input::default();
        input.push(&1_000_000i32.to_be_bytes());
        assert_eq!(input.next(1_000_000), Ok(None));
        assert!(input.bytes.capacity() < 1000);
    }
}
