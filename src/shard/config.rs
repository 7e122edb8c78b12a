//! What the operator may choose of a shard, and what follows from it.

use super::auth::AuthRules;
use crate::constants;
use crate::types::ShardId;

/// Settings and bounds of one shard. The bounds in bytes are this shard's part of the process's.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which shard this is.
    pub id: ShardId,
    /// It is a member's of an ensemble: what is committed elsewhere is not known here.
    pub is_member: bool,
    /// tickTime, ms: touches are reported, and timeouts looked at, every half of it.
    pub tick_time_ms: u64,
    /// Lower bound of negotiated timeouts, ms.
    pub session_timeout_min_ms: i32,
    /// Upper bound of negotiated timeouts, ms.
    pub session_timeout_max_ms: i32,
    /// `jute.maxbuffer`, bytes; the bound itself is accepted.
    pub frame_max: usize,
    /// Writes of this shard without an outcome: this shard's part of `globalOutstandingLimit`.
    /// Beyond it a connection that has none of them may still hand up one.
    pub in_flight_max: usize,
    /// Unanswered requests of one connection.
    pub fifo_max: usize,
    /// Output of one connection that the kernel has not taken, above which the connection is not
    /// read and its reads wait, bytes.
    pub output_max: usize,
    /// What may be appended to a full output that the driver was offered and could not send, before
    /// the connection is closed, bytes. Only what can't wait is: events, outcomes, and reads that
    /// were sent between two writes that are both under way, because a read must not see its
    /// session's later write.
    pub output_excess_max: usize,
    /// How long a handshake may take, ms.
    pub handshake_timeout_ms: u64,
    /// What one connection may hold of requests, and of output, whatever the others hold, bytes. A read with a
    /// longer reply waits until no more than this of its connection's output is unsent.
    pub connection_share: usize,
    /// Requests received and not answered, beyond the shares of the connections, bytes.
    pub request_bytes_max: usize,
    /// Output that no kernel has taken, beyond the shares of the connections, bytes.
    pub output_bytes_max: usize,
    /// Watches, bytes as estimated.
    pub watch_bytes_max: usize,
    /// Identities of one connection.
    pub identities_max: usize,
    /// Who is super, and who is turned away.
    pub auth: AuthRules,
    /// The longest reply, bytes; a longer one becomes an error reply (−5).
    pub reply_bytes_max: usize,
}

impl ShardConfig {
    /// The defaults of Apache, and our bounds.
    pub fn new(id: ShardId) -> ShardConfig {
        ShardConfig {
            id,
            is_member: false,
            tick_time_ms: 2000,
            session_timeout_min_ms: 4000,
            session_timeout_max_ms: 40_000,
            frame_max: constants::JUTE_MAXBUFFER,
            in_flight_max: constants::OUTSTANDING_MAX,
            fifo_max: constants::OUTSTANDING_MAX,
            output_max: constants::OUTPUT_MAX,
            output_excess_max: 4 * constants::OUTPUT_MAX,
            handshake_timeout_ms: constants::HANDSHAKE_TIMEOUT_MS,
            connection_share: constants::CONNECTION_SHARE,
            request_bytes_max: constants::REQUEST_BYTES_MAX,
            output_bytes_max: constants::OUTPUT_BYTES_MAX,
            watch_bytes_max: constants::WATCH_BYTES_MAX,
            identities_max: constants::IDENTITIES_MAX,
            auth: AuthRules::default(),
            reply_bytes_max: constants::REPLY_BYTES_MAX,
        }
    }

    /// The bound of one reply that goes with a `jute.maxbuffer`, bytes: every write's reply fits.
    pub fn reply_bytes_for(frame_max: usize) -> usize {
        let length_max = i32::MAX as usize;
        constants::REPLY_BYTES_MAX
            .max(frame_max.saturating_mul(4))
            .min(length_max)
    }

    /// Output above which nothing is added to what must execute in one step, bytes.
    pub(super) fn output_low_mark(&self) -> usize {
        self.output_max / 4
    }
}
