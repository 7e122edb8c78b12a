//! A clean stop: the operator asks for it, the cores drain, the log is sealed.

use super::base::{Base, Event};
use super::checks::Checks;
use super::failing::{self, Work};
use super::host::Host;
use super::network::{Kernel, Network};
use crate::placement::DrainStep;
use std::io;

/// Turns of the core that orders in a drain that nothing disturbs, without those beside a sync or a spare segment
/// that requests wait for, because however long that takes, each piece that comes from a socket meanwhile is a turn;
/// and without those that hand over pieces of output, which may be as small as a byte.
const DRAIN_TURNS_MAX: u32 = 300;

/// Of a file of the witness: two slots.
const WITNESS_BYTES: usize = 8192;

impl Host {
    /// The operator asks the process to stop, if there is one.
    pub(super) fn ask_to_stop(&mut self, base: &mut Base, checks: &mut Checks) {
        if self.member.is_none() || std::mem::replace(&mut self.is_asked_to_stop, true) {
            return;
        }
        base.counters.stops += 1;
        base.note(b"asked to stop");
        checks.rot.stops(base.now_us);
        self.drain_turns = 0;
        let held = self.cores.iter().any(|core| core.held_until > base.now_us);
        self.drain_is_disturbed = held;
        self.turn_soon(self.ordering(), base);
    }

    /// The drain's step behind a turn of a core.
    pub(super) fn drain(
        &mut self,
        core: u16,
        again: bool,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let ordering = self.ordering();
        let member = self.member.as_mut().expect("its own event");
        if core != ordering {
            let n = usize::from(core);
            let (drain, serving) = (&member.drain, &member.serving[n]);
            let step = member.shard_drains[n].after_turn(drain, serving, again);
            self.cores[n].has_ended = step.ended;
            if step.wake_ordering {
                self.turn_soon(ordering, base);
            }
            return Ok(());
        }
        let hands_over = member.serving.iter().any(|core| core.has_large_output());
        let lacks_room = self.spares_out > 0 && member.member().pipeline.waiting() > 0;
        let is_beside = member.syncs.is_syncing() || lacks_room || hands_over;
        let waits = self.is_asked_to_stop && !is_beside;
        self.drain_turns += u32::from(waits);
        // Whoever waits for the disk, or for what is tried again.
        let is_behind = |kernel: &Kernel| kernel.is_behind(base.now_us);
        self.drain_is_disturbed |= self.disk_hangs_until > base.now_us
            || !base.short.is_empty()
            || network.kernels.iter().any(is_behind);
        match member.drain_step(again, self.is_asked_to_stop, base.now()) {
            DrainStep::Stay => self.drain_is_bounded(),
            DrainStep::Next { .. } => {
                (0..=ordering).for_each(|core| self.turn_soon(core, base));
                Ok(())
            }
            DrainStep::Seal => self.seal(base, network, checks),
        }
    }

    fn drain_is_bounded(&self) -> Result<(), String> {
        match self.drain_turns > DRAIN_TURNS_MAX && !self.drain_is_disturbed {
            true => Err("a drain that nothing disturbs does not end".into()),
            false => Ok(()),
        }
    }

    /// The end of a drain: everything that was committed is behind a seal, whatever happens to the
    /// power from here on.
    fn seal(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        self.process_ends_drained(base)?;
        let member = self.member.as_ref().expect("its own event");
        let end = member.member().pipeline.log().end().zxid;
        self.count_what_was_done(base);
        let grows = witness_grows(base);
        failing::arm(base, Work::Sync);
        let closed = self.member.take().expect("just seen").close();
        failing::disarm(base, Work::Sync);
        match closed {
            Ok(()) => {}
            Err(_) if base.disk.crashed() || base.may_die() => {
                return self.die(base, network, checks);
            }
            // As where the witness is renewed.
            Err(_) if checks.rot.is_of_two_stores() => return self.die(base, network, checks),
            Err(e) if grows && e.kind() == io::ErrorKind::StorageFull => {
                return self.die(base, network, checks);
            }
            Err(e) => return Err(format!("the log can't be sealed: {e}")),
        }
        base.counters.drains += 1;
        base.note(format!("sealed {end}").as_bytes());
        self.process_is_gone(base);
        self.sealed = Some(end);
        network.process_died(base);
        checks.rot.died(base.now_us);
        checks.rot.closed(end);
        let power_cut = base.rng.bool();
        base.disks_restart(power_cut);
        if base.rng.u32(0..4) == 0 && !base.profile.is_restless {
            checks.damage(base, false)?;
        }
        let delay = base.restart_delay();
        base.at(delay, Event::Restart);
        Ok(())
    }

    fn process_ends_drained(&self, base: &mut Base) -> Result<(), String> {
        let member = self.member.as_ref().expect("its own event");
        let overdue = member.ordering_drain.overdue();
        base.counters.drains_overdue += u64::from(overdue);
        if overdue > 0 && !self.drain_is_disturbed && member.is_patient {
            return Err(format!(
                "{overdue} stages of a drain that nothing disturbs were overdue"
            ));
        }
        member.is_drained().map_err(|e| format!("drained: {e}"))
    }
}

/// Whether a file of the witness was cut or is missing: to be written whole it needs room, which a full disk has not.
fn witness_grows(base: &Base) -> bool {
    let files = [(&base.data, "witness.data"), (&base.disk, "witness.log")];
    let bytes = files.map(|(disk, name)| disk.content(name).map_or(0, |content| content.len()));
    bytes.into_iter().any(|bytes| bytes < WITNESS_BYTES)
}
