//! How much a leader and its learners keep for each other at most. What is dropped at a bound is a connection or a
//! request, never a packet.

use super::links::PEERS_MAX;
use crate::types::Zxid;

/// Connections of learners at a time: as on the election port. One more closes at once.
pub const LEARNERS_MAX: usize = PEERS_MAX;
/// Proposals that a learner keeps before UPTODATE, bytes. Beyond, it leaves, and asks for a snapshot.
pub const PENDING_BYTES_MAX: usize = 32 << 20;
/// What is kept for each thing in a queue beside its bytes.
pub const ITEM_BYTES: usize = 64;
/// What waits to be sent to one learner, bytes. Beyond, its connection closes, and it synchronises again.
pub const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Proposals without a decision, bytes. Beyond, nothing is proposed.
pub const PROPOSED_BYTES_MAX: usize = 16 << 20;
/// Committed transactions that a leader keeps for learners that are about to catch up, bytes. The oldest go first,
/// and are read from the log.
pub const TAIL_BYTES_MAX: usize = 8 << 20;
/// Pings to one learner that it has not answered. Beyond, it is not asked again.
pub const PINGS_MAX: usize = 16;
/// Syncs and answers that wait at the leader until something is committed, for each learner and for its own clients.
/// Who asks for one more loses its connection.
pub const HELD_MAX: usize = 65_536;
/// Sessions that a learner has heard of and not reported. One more is not taken, and has to be named again.
pub const TOUCHED_MAX: usize = 1 << 20;
/// Sessions in one answer to a ping; the others wait for the next.
pub const TOUCHES_PER_PING: usize = 65_536;
/// Sessions of which a learner has asked whether they live. One more is refused.
pub const REVALIDATIONS_MAX: usize = 65_536;
/// Syncs that a learner has passed on. One more is refused.
pub const SYNCS_MAX: usize = 65_536;
/// A leader resigns at this counter when nothing is on its way, so that it need not when clients wait.
pub const RESIGN_AT: u32 = 0xf000_0000;

// A learner that has just been attached is no slow one.
const _: () = assert!(PROPOSED_BYTES_MAX + 2 * TAIL_BYTES_MAX <= QUEUE_BYTES_MAX);
// What one leader has on its way fits into one learner.
const _: () = assert!(PROPOSED_BYTES_MAX <= PENDING_BYTES_MAX);
const _: () = assert!(12 * TOUCHES_PER_PING <= JUTE_LEAST);
const _: () = assert!(RESIGN_AT < Zxid::COUNTER_MAX);

/// No reader of a packet takes less, bytes.
const JUTE_LEAST: usize = 0xf_ffff;
