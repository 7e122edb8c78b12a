//! Faults of disk, clock and cores, and when they come.

use super::base::{Base, DISK, Event, FailsForLong, SEGMENT};
use super::checks::Checks;
use super::failing::draw_calls;
use super::host::Host;
use super::outcome::Fault;

/// One fault in so many lasts longer than sessions do, and until it is over nothing else happens.
const LONG_ONE_IN: u32 = 6;
/// How long a core or a disk hangs at most, µs.
const LONG_US: u64 = 3_500_000;

/// The first fault comes in a while.
pub(super) fn begin(base: &mut Base) {
    if !base.options.short && !base.profile.has_lister {
        let delay = match base.profile.is_restless {
            true => base.rng.u64(1_000..12_000),
            false => base.rng.u64(50_000..700_000),
        };
        base.at(delay, Event::Fault);
    }
}

/// One fault, and the next one in a while.
pub(super) fn strike(base: &mut Base, host: &mut Host, checks: &mut Checks) -> Result<(), String> {
    if base.calm {
        return Ok(());
    }
    if base.profile.is_restless {
        begin(base);
        if host.member.is_none() {
            return Ok(());
        }
        match base.rng.u32(0..4) {
            0 => stop_soon(base, host, checks),
            _ => crash_soon(base),
        }
        return Ok(());
    }
    let delay = base.rng.u64(50_000..900_000);
    if base.rng.u32(0..LONG_ONE_IN) == 0 {
        let takes = base.rng.u64(500_000..LONG_US);
        match base.options.shards > 0 && base.rng.bool() {
            true => hold(base, host, checks, takes),
            false => hang(base, host, checks, takes),
        }
        base.at(takes + delay, Event::Fault);
        return Ok(());
    }
    base.at(delay, Event::Fault);
    if base.options.shards > 0 && base.rng.bool() {
        // Now and then for the time of several snapshots.
        let most = match base.rng.u32(0..4) {
            0 => LONG_US,
            _ => 1_500_000,
        };
        let takes = base.rng.u64(1_000..most);
        hold(base, host, checks, takes);
    }
    if base.rng.u32(0..4) == 0 {
        base.counters.pauses += 1;
        let until = base.now_us + base.rng.u64(1_000..3_000_000);
        host.pause(until, base.now_us);
        checks.rot.held(base.now_us, until);
    }
    if base.rng.u32(0..4) == 0 {
        stop_soon(base, host, checks);
    }
    if base.rng.u32(0..6) == 0 && host.member.is_some() {
        checks.damage(base, true)?;
    }
    // What is said of a shortage outlives no process.
    let first = match base.profile.has_slow_spares() {
        true => 3,
        false => 0,
    };
    match base.rng.u32(first..11) {
        0..5 => crash_soon(base),
        5 => base.next_sync_fails = true,
        6 => fill_disk(base),
        7..9 => fail_for_long(base),
        _ => set_clock_back(base, checks),
    }
    Ok(())
}

/// A shard is held still, or the one in which the next handshake begins.
fn hold(base: &mut Base, host: &mut Host, checks: &mut Checks, takes: u64) {
    base.counters.stalls += 1;
    let core = base.rng.usize(0..usize::from(base.options.shards));
    match base.rng.bool() {
        true => {
            checks.expiry.stalled();
            host.stall(core, base.now_us + takes, base.now_us);
        }
        false => base.holds_next = Some(takes),
    }
}

/// The disk of the log hangs.
fn hang(base: &mut Base, host: &mut Host, checks: &mut Checks, takes: u64) {
    host.disk_hangs_until = base.now_us + takes;
    checks.rot.held(base.now_us, host.disk_hangs_until);
}

/// The operator stops the process, now and then while the disk hangs.
fn stop_soon(base: &mut Base, host: &mut Host, checks: &mut Checks) {
    if base.rng.u32(0..3) == 0 && !base.profile.is_restless {
        let takes = base.rng.u64(10_000..2_000_000);
        hang(base, host, checks, takes);
    }
    let delay = base.rng.u64(0..50_000);
    base.at(delay, Event::Stop);
}

fn crash_soon(base: &mut Base) {
    let soon = base.disk.effects() + base.rng.u64(0..40);
    base.disk.crash_at(Some(soon));
}

fn fill_disk(base: &mut Base) {
    base.counters.full_disks += 1;
    base.is_filled = true;
    let most = base.profile.capacity;
    // What is set aside for writes into segments that are there, nobody else uses up.
    let set_aside = match base.profile.copies_on_write {
        true => 3 * SEGMENT,
        false => 0,
    };
    for disk in base.disks().cloned().collect::<Vec<_>>() {
        let room = disk.used() + set_aside + base.rng.u64(0..SEGMENT);
        disk.set_capacity(room.min(most));
    }
    let delay = match base.rng.u32(0..3) {
        // For longer than a segment of deletes lasts.
        0 => base.rng.u64(2_000_000..5_000_000),
        _ => base.rng.u64(50_000..2_000_000),
    };
    base.at(delay, Event::Room);
}

/// Calls of background work and of starts fail again and again for a while.
fn fail_for_long(base: &mut Base) {
    base.counters.faults.count(Fault::FailsForLong);
    let (calls, code) = draw_calls(&mut base.rng);
    let until_us = base.now_us + base.rng.u64(50_000..2_000_000);
    base.failing = Some(FailsForLong {
        calls,
        code,
        until_us,
    });
}

fn set_clock_back(base: &mut Base, checks: &Checks) {
    base.counters.clock_steps += 1;
    if let Some(&wall_ms) = base.rng.choice(&checks.sessions_made)
        && base.rng.u32(0..3) == 0
    {
        let every_us = base.rng.u64(500..3_000);
        let until_us = base.now_us + base.rng.u64(50_000..700_000);
        set_clock_again(base, wall_ms, every_us, until_us);
        return crash_soon(base);
    }
    let back = match base.rng.choice(&checks.sessions_made) {
        // To shortly before a session was made: what counts on the clock collides.
        Some(&made) if base.rng.bool() => (base.now().wall.0 - made).max(0) + base.rng.i64(0..40),
        _ => base.rng.i64(1..40_000_000_000),
    };
    base.wall_offset -= back;
    if base.rng.bool() {
        crash_soon(base);
    }
}

/// Somebody who is sure of the time sets the clock to it again and again, as two who disagree do: it all but stands, at
/// a moment at which a session was made, while the process dies and comes back.
pub(super) fn set_clock_again(base: &mut Base, wall_ms: i64, every_us: u64, until_us: u64) {
    if base.calm || base.now_us > until_us {
        return;
    }
    base.wall_offset += wall_ms - base.now().wall.0;
    let again = Event::Clock {
        wall_ms,
        every_us,
        until_us,
    };
    base.at(every_us, again);
}

/// The disk has room again, unless the store itself is what fills it.
pub(super) fn make_room(base: &mut Base) {
    base.is_filled = false;
    let capacity = match base.calm {
        true => DISK,
        false => base.profile.capacity,
    };
    base.disks().for_each(|disk| disk.set_capacity(capacity));
}

/// No fault is under way, and none comes any more but the crash that a run was told to have.
pub(super) fn calm_down(base: &mut Base, host: &mut Host) {
    base.calm = true;
    base.holds_next = None;
    host.calm_down(base);
    make_room(base);
    base.failing = None;
    base.next_sync_fails = false;
    if base.options.crash_at.is_none() {
        base.disks().for_each(|disk| disk.disarm());
    }
}
