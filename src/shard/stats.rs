//! What `cons`, `stat`, `srvr` and `mntr` show of connections; plain values, text is made by the
//! server (docs/protocol.md §8.2).

use super::endings::EndCounts;
use super::watches::WatchCounts;
use crate::types::{ConnId, ErrorCode, Now, OpCode, SessionId, Tick, WallMs, Xid, Zxid};
use std::sync::Arc;

/// Watches of one connection that are listed, at most: a list of them is made in one go, like whatever
/// clients may cost in a turn.
pub const WATCHES_LISTED_MAX: usize = 65_536;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// Textual address as the `ip` scheme shows it: IPv6 in eight groups (docs/protocol.md §6.3).
    pub address: String,
    /// Port.
    pub port: u16,
}

/// Latencies of replies since the last reset, ms. The minimum is 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Replies.
    pub count: u64,
    /// Of all replies together.
    pub sum_ms: u64,
    /// Shortest.
    pub min_ms: u64,
    /// Longest.
    pub max_ms: u64,
}

impl Latency {
    /// One more reply.
    pub(super) fn add(&mut self, ms: u64) {
        self.min_ms = if self.count == 0 {
            ms
        } else {
            self.min_ms.min(ms)
        };
        self.max_ms = self.max_ms.max(ms);
        self.sum_ms += ms;
        self.count += 1;
    }

    /// Average, ms.
    pub fn average_ms(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum_ms as f64 / self.count as f64
    }

    /// Takes in what another shard counted.
    pub fn merge(&mut self, other: &Latency) {
        if other.count == 0 {
            return;
        }
        self.min_ms = if self.count == 0 {
            other.min_ms
        } else {
            self.min_ms.min(other.min_ms)
        };
        self.max_ms = self.max_ms.max(other.max_ms);
        self.sum_ms += other.sum_ms;
        self.count += other.count;
    }
}

/// The session part of a `cons` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStats {
    /// Its session.
    pub session: SessionId,
    /// Negotiated, ms.
    pub timeout_ms: i32,
}

/// One line of `cons` or `stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnStats {
    /// The connection.
    pub conn: ConnId,
    /// The other end.
    pub peer: ClientAddress,
    /// Whether its input is read now; else the interest set in the brackets has no read bit.
    pub reading: bool,
    /// Whether it has output that the driver has not taken.
    pub writing: bool,
    /// Requests not answered yet.
    pub queued: usize,
    /// Frames received.
    pub received: u64,
    /// Frames sent: replies, events, the connect response.
    pub sent: u64,
    /// Only after the handshake.
    pub session: Option<SessionStats>,
    /// `lop`; `null` before the first reply, `NA` after a failed write or a reset.
    pub last_op: &'static str,
    /// When it connected.
    pub established: WallMs,
    /// `lcxid`: last xid that was not negative; 0 before the first reply, `None` behind a reset.
    pub last_xid: Option<Xid>,
    /// `lzxid` of the last reply; 0 before the first, −1 behind a reset.
    pub last_zxid: Zxid,
    /// `lresp`: monotonic, ms; 0 before the first.
    pub last_response_ms: u64,
    /// `llat`, ms.
    pub last_latency_ms: u64,
    /// The others.
    pub latency: Latency,
    /// When its last bytes came.
    pub heard: Tick,
}

/// What one connection watches in the data table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The session of the connection.
    pub session: SessionId,
    /// In no order; `None` if there are more than [`WATCHES_LISTED_MAX`].
    pub paths: Option<Vec<Arc<str>>>,
}

/// Sums over a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Frames received since the last reset.
    pub received: u64,
    /// Frames sent since the last reset.
    pub sent: u64,
    /// Since the last reset.
    pub latency: Latency,
    /// Requests not answered yet.
    pub outstanding: usize,
    /// Writes handed up whose outcome has not come.
    pub in_flight: usize,
    /// Connections that are not closing, handshakes included.
    pub connections: usize,
    /// Watches.
    pub watches: WatchCounts,
    /// Requests received and not answered, bytes in memory.
    pub request_bytes: usize,
    /// Output that no kernel has taken, bytes.
    pub output_bytes: usize,
    /// Watches, bytes as estimated.
    pub watch_bytes: usize,
    /// Connections that have ended since the start, and why.
    pub ends: EndCounts,
}

/// How often the counters of all connections were reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resets(u64);

impl Resets {
    /// The counters of every connection begin anew. However many there are, nothing of them is touched here: each
    /// finds that what it has counted is from before.
    pub(super) fn one_more(&mut self) {
        self.0 += 1;
    }
}

/// Counters that nobody sees or goes on with who does not know of the last reset.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    counters: Counters,
    since: Resets,
}

impl Counted {
    /// Of a new connection.
    pub(super) fn new(established: WallMs, since: Resets) -> Counted {
        let counters = Counters::new(established);
        Counted { counters, since }
    }

    /// To be counted on.
    pub(super) fn since(&mut self, last: Resets) -> &mut Counters {
        if self.since != last {
            *self = Counted {
                counters: Counters::after_reset(self.counters.established),
                since: last,
            };
        }
        &mut self.counters
    }

    /// To be seen.
    pub(super) fn seen(&self, last: Resets) -> Counters {
        match self.since == last {
            true => self.counters.clone(),
            false => Counters::after_reset(self.counters.established),
        }
    }
}

/// What one connection counts.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    pub(super) established: WallMs,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) last_op: &'static str,
    pub(super) last_xid: Option<Xid>,
    pub(super) last_zxid: Zxid,
    pub(super) last_response_ms: u64,
    pub(super) last_latency_ms: u64,
    pub(super) latency: Latency,
}

impl Counters {
    /// As Apache's of a connection that was not answered yet: of one that has come back to its session, until its first
    /// request.
    pub(super) fn new(established: WallMs) -> Counters {
        Counters {
            last_op: "null",
            last_xid: Some(Xid(0)),
            last_zxid: Zxid::ZERO,
            ..Counters::after_reset(established)
        }
    }

    /// As Apache's `crst` leaves them.
    pub(super) fn after_reset(established: WallMs) -> Counters {
        Counters {
            established,
            received: 0,
            sent: 0,
            last_op: "NA",
            last_xid: None,
            last_zxid: Zxid(-1),
            last_response_ms: 0,
            last_latency_ms: 0,
            latency: Latency::default(),
        }
    }

    /// A reply has been made; gives its latency, ms.
    pub(super) fn replied(
        &mut self,
        op: &'static str,
        xid: Xid,
        zxid: Zxid,
        received_us: u64,
        now: Now,
    ) -> u64 {
        let ms = now.micros.saturating_sub(received_us) / 1000;
        self.last_op = op;
        if xid.0 >= 0 {
            self.last_xid = Some(xid);
        }
        self.last_zxid = zxid;
        self.last_response_ms = now.tick.0;
        self.last_latency_ms = ms;
        self.latency.add(ms);
        ms
    }
}

/// `lop` of a reply (docs/protocol.md §1.5).
pub(super) fn op_name(op: OpCode, error: ErrorCode, write: bool) -> &'static str {
    if write && error != ErrorCode::OK {
        return "NA";
    }
    match op {
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => "CREA",
        OpCode::DELETE | OpCode::DELETE_CONTAINER => "DELE",
        OpCode::EXISTS => "EXIS",
        OpCode::GET_DATA => "GETD",
        OpCode::SET_DATA => "SETD",
        OpCode::GET_ACL => "GETA",
        OpCode::SET_ACL => "SETA",
        OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => "GETC",
        OpCode::SYNC => "SYNC",
        OpCode::PING => "PING",
        OpCode::CHECK => "CHEC",
        OpCode::MULTI => "MULT",
        OpCode::MULTI_READ => "MLTR",
        OpCode::RECONFIG => "RECO",
        OpCode::SET_WATCHES => "SETW",
        OpCode::GET_EPHEMERALS => "GETE",
        OpCode::GET_ALL_CHILDREN_NUMBER => "GETACN",
        OpCode::WHO_AM_I => "HOMI",
        OpCode::SET_WATCHES2 => "STW2",
        OpCode::ADD_WATCH => "ADDW",
        OpCode::CHECK_WATCHES => "CHKW",
        OpCode::REMOVE_WATCHES => "REMW",
        OpCode::CREATE_SESSION => "SESS",
        OpCode::CLOSE_SESSION => "CLOS",
        _ => "NA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_merge_as_if_counted_together() {
        let (mut a, mut b, mut both) = (Latency::default(), Latency::default(), Latency::default());
        for (i, ms) in [7, 3, 9, 4].into_iter().enumerate() {
            if i % 2 == 0 {
                a.add(ms)
            } else {
                b.add(ms)
            }
            both.add(ms);
        }
        a.merge(&b);
        a.merge(&Latency::default());
        assert_eq!(a, both);
        assert_eq!((a.min_ms, a.max_ms, a.average_ms()), (3, 9, 5.75));
    }
}
