//! How a member of the simulator is set up: every bound is drawn, small ones too, and what has a
//! unit of work in it from one on.

use super::base::{Base, Profile, SEGMENT, TICK_MS};
use super::identity::SUPER;
use super::machine::{MachineConfig, PATIENCE_ENOUGH_MS};
use crate::budget::Budget;
use crate::log::LogConfig;
use crate::member::MemberConfig;
use crate::pipeline::PipelineConfig;
use crate::placement::{Budgets, RingLimits, SyncPolicy};
use crate::shard::{AuthRules, ShardConfig};
use crate::tree::Rules;
use crate::types::ShardId;

pub(super) const TIMEOUT_MIN_MS: i32 = 2 * TICK_MS as i32;
pub(super) const TIMEOUT_MAX_MS: i32 = 20 * TICK_MS as i32;

/// How long a handshake may take, ms.
pub(super) const HANDSHAKE_MS: u64 = 10_000;

/// Longest frame where bounds are small, bytes: more than any client of the simulator sends.
pub(super) const FRAME_MAX: usize = 64 << 10;

/// A connection with such a share of the memory waits for nobody's, bytes.
pub(super) const SHARE_ENOUGH: usize = FRAME_MAX;

/// The longest answer to a ConnectRequest, bytes. It goes at once: from when the server answers its session is
/// silent, and the checks know only when the first byte has left.
const CONNECT_RESPONSE: usize = 41;

/// What may be read of a connection before it has said what it is, bytes.
const FIRST_READ: usize = 512;

/// Between 1 and `max`, each magnitude as likely as the others.
pub(super) fn magnitude(rng: &mut fastrand::Rng, max: u32) -> u32 {
    let top = 1 << rng.u32(0..=max.ilog2());
    rng.u32(1..=top)
}

/// The same for bytes and other sizes.
pub(super) fn size(rng: &mut fastrand::Rng, max: u32) -> usize {
    magnitude(rng, max) as usize
}

fn budget(rng: &mut fastrand::Rng, like: (u32, u32, u32)) -> Budget {
    let (requests, bytes, steps) = like;
    Budget::new(
        magnitude(rng, requests),
        magnitude(rng, bytes),
        magnitude(rng, steps),
    )
}

fn budgets(rng: &mut fastrand::Rng) -> Budgets {
    if rng.bool() {
        return Budgets::DEFAULT;
    }
    Budgets {
        turn: budget(rng, (1024, 1 << 20, 1 << 16)),
        slice: budget(rng, (128, 64 << 10, 1 << 13)),
        read_max: size(rng, 64 << 10),
        accepts: size(rng, 64),
        looks: Budgets::DEFAULT.looks,
        reap: budget(rng, (1024, 1 << 20, 1 << 12)),
        apply: Budget::steps(magnitude(rng, 1 << 11)),
        order: Budget::steps(magnitude(rng, 1 << 11)),
        requests: size(rng, 1024),
        output_at_once: CONNECT_RESPONSE + size(rng, 128 << 10),
        output: size(rng, 256 << 10),
    }
}

/// A list takes many turns.
fn short_turns(rng: &mut fastrand::Rng) -> Budgets {
    let steps = rng.u32(2..8);
    Budgets {
        turn: Budget::new(64, 64 << 10, 4 * steps),
        slice: Budget::new(16, 16 << 10, steps),
        ..Budgets::DEFAULT
    }
}

/// The bounds of a shard, in the proportions that the server keeps to: the longest frame, and one
/// output that is full, have room beside those of another connection.
fn bounded(shard: ShardConfig, rng: &mut fastrand::Rng) -> ShardConfig {
    if rng.bool() {
        return shard;
    }
    let output_max = FRAME_MAX + size(rng, 4 * FRAME_MAX as u32);
    let frame_max = rng.usize(FRAME_MAX / 2..=FRAME_MAX);
    ShardConfig {
        frame_max,
        reply_bytes_max: ShardConfig::reply_bytes_for(frame_max),
        fifo_max: size(rng, 1000),
        output_max,
        output_excess_max: 4 * output_max,
        // What a connection says first is read before the shard knows of it.
        connection_share: FIRST_READ + size(rng, FRAME_MAX as u32),
        // With shards each has a part.
        request_bytes_max: FRAME_MAX / 2 + size(rng, 4 * FRAME_MAX as u32),
        output_bytes_max: output_max / 2 + size(rng, 4 * FRAME_MAX as u32),
        watch_bytes_max: 1000 + size(rng, FRAME_MAX as u32),
        // Mostly enough for those that a client has.
        identities_max: match rng.u32(0..8) {
            0 => rng.usize(1..4),
            _ => size(rng, 1000).max(8),
        },
        ..shard
    }
}

pub(super) fn machine_config(base: &mut Base) -> MachineConfig {
    let rng = &mut base.rng;
    let shards = base.options.shards;
    let mut pipeline = PipelineConfig {
        tick_time_ms: TICK_MS,
        shards: shards.max(1),
        close_paths_max: rng.usize(1..6),
        close_deletes_max: size(rng, 256),
        reaper: base.profile.reaper,
        ..PipelineConfig::new(Rules {
            extended_types: true,
            enforce_quota: base.profile.enforces_quotas,
            ..Rules::default()
        })
    };
    if rng.u32(0..4) == 0 {
        pipeline.close_bytes_max = rng.usize(150..300);
    }
    let shard = ShardConfig {
        tick_time_ms: TICK_MS,
        session_timeout_min_ms: TIMEOUT_MIN_MS,
        session_timeout_max_ms: TIMEOUT_MAX_MS,
        in_flight_max: rng.usize(1..60),
        handshake_timeout_ms: HANDSHAKE_MS,
        auth: AuthRules {
            super_digest: Some(SUPER.1.into()),
            required_schemes: match base.profile.must_authenticate {
                true => ["digest".into()].into(),
                false => [].into(),
            },
            ..AuthRules::default()
        },
        ..ShardConfig::new(ShardId(0))
    };
    let Profile {
        has_lister,
        has_many_lists,
        ..
    } = base.profile;
    let mut shard = match has_lister || has_many_lists {
        true => shard,
        false => bounded(shard, rng),
    };
    if base.profile.must_authenticate {
        // One beside the address at least.
        shard.identities_max = shard.identities_max.max(2);
    }
    (base.identities_max, base.frame_max) = (shard.identities_max, shard.frame_max);
    base.watch_bytes_max = shard.watch_bytes_max;
    let member = MemberConfig {
        pipeline,
        log: LogConfig {
            segment_bytes: SEGMENT,
        },
        // Mostly several within the life of a process.
        snapshot_records: match rng.u32(0..3) {
            // Each is long.
            _ if has_many_lists => rng.u64(60..200),
            0 => rng.u64(30..400),
            _ => rng.u64(5..60),
        },
        snapshots_kept: Some(rng.usize(1..=3)),
        snapshot_memory: size(rng, 1 << 16),
    };
    let limits = RingLimits {
        entries: rng.u64(1..40),
        bytes: rng.u64(10_000..100_000),
        abreast_bytes: rng.u64(500..50_000),
        catch_up_bytes: rng.u64(200..20_000),
        ..RingLimits::DEFAULT
    };
    let policy = match rng.u32(0..4) {
        0 => SyncPolicy::Always,
        1 => SyncPolicy::Never,
        n => SyncPolicy::Auto { is_prompt: n == 2 },
    };
    let patience_ms = match rng.bool() {
        true => PATIENCE_ENOUGH_MS,
        false => u64::from(magnitude(rng, 1024)),
    };
    let mut budgets = budgets(rng);
    if base.crowded {
        budgets.accepts = rng.usize(1..3);
    }
    let mut limits = limits;
    if has_many_lists {
        (budgets, limits) = (Budgets::DEFAULT, RingLimits::DEFAULT);
    }
    if has_lister {
        budgets = short_turns(rng);
        limits = RingLimits::DEFAULT;
    }
    MachineConfig {
        member,
        shard,
        shards,
        limits,
        budgets,
        slots: (size(rng, limits.slots() as u32), size(rng, 64)),
        closing_ms: rng.u64(100..2_000),
        policy,
        patience_ms,
    }
}
