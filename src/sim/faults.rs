//! Faults of disk, clock and cores, and when they come.

use super::base::{Base, DISK, Event};
use super::checks::Checks;
use super::config::SEGMENT;
use super::host::Host;

/// The first fault comes in a while.
pub(super) fn begin(base: &mut Base) {
    if !base.options.short {
        let delay = base.rng.u64(50_000..700_000);
        base.at(delay, Event::Fault);
    }
}

/// One fault, and the next one in a while.
pub(super) fn strike(base: &mut Base, host: &mut Host, checks: &mut Checks) {
    if base.calm {
        return;
    }
    let delay = base.rng.u64(50_000..900_000);
    base.at(delay, Event::Fault);
    if base.options.shards > 0 && base.rng.bool() {
        base.counters.stalls += 1;
        let core = base.rng.usize(0..usize::from(base.options.shards));
        checks.expiry.stalled();
        host.stall(core, base.now_us + base.rng.u64(1_000..1_500_000));
    }
    if base.rng.u32(0..4) == 0 {
        base.counters.pauses += 1;
        let until = base.now_us + base.rng.u64(1_000..3_000_000);
        host.pause(until);
        checks.rot.held(base.now_us, until);
    }
    if base.rng.u32(0..4) == 0 {
        stop_soon(base, host, checks);
    }
    match base.rng.u32(0..10) {
        0..6 => crash_soon(base),
        6 => base.disk.fail_next_sync(),
        7 => fill_disk(base),
        8 => run_short(base),
        _ => set_clock_back(base, checks),
    }
}

/// The operator stops the process, now and then while the disk hangs.
fn stop_soon(base: &mut Base, host: &mut Host, checks: &mut Checks) {
    if base.rng.u32(0..3) == 0 {
        let until = base.now_us + base.rng.u64(10_000..2_000_000);
        host.disk_hangs_until = until;
        checks.rot.held(base.now_us, until);
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
    base.was_full = true;
    let room = base.disk.used() + base.rng.u64(0..SEGMENT);
    base.disk.set_capacity(room);
    let delay = base.rng.u64(50_000..2_000_000);
    base.at(delay, Event::Room);
}

/// Background work finds no descriptor or no memory for a while.
fn run_short(base: &mut Base) {
    base.counters.shortages += 1;
    base.was_full = true;
    base.short_until = base.now_us + base.rng.u64(50_000..2_000_000);
}

fn set_clock_back(base: &mut Base, checks: &Checks) {
    base.counters.clock_steps += 1;
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

/// The disk has room again.
pub(super) fn make_room(base: &Base) {
    base.disk.set_capacity(DISK);
}

/// No fault is under way, and none comes any more but the crash that a run was told to have.
pub(super) fn calm_down(base: &mut Base, host: &mut Host) {
    base.calm = true;
    host.calm_down(base);
    make_room(base);
    base.short_until = 0;
    if base.options.crash_at.is_none() {
        base.disk.disarm();
    }
}
