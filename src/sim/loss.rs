//! The operator who has no backup: gives up what a store has lost with the code that `ringkeeper accept-loss`
//! runs, and what is promised then.
//!
//! | Moment | Demanded |
//! |---|---|
//! | a look at the store | nothing has changed, and it can be given up |
//! | a look at the directories of two stores | nothing has changed, and it says that there are two |
//! | what stays | a beginning of the history: at least what the newest whole snapshot and the records behind it hold without a hole, at most where what can be read leads to |
//! | cut off by a crash or a call that fails | a start is refused, and the command goes on to the same end; where it finds everything done, it makes that durable |
//! | accepted | every segment and snapshot that was there is there still, under one name or another |
//! | afterwards | the store starts, twice, without help, with the state that stays; its zxids are of an epoch that nobody has seen |
//!
//! Everything else that is checked goes on: clients come back, sessions that stay live, those that are lost
//! are dead, and nothing gets a number that a client knows.

use super::base::{Base, DISK, Event, SEGMENT};
use super::checks::{Checks, Refusal};
use super::config::machine_config;
use super::disk::SimStorage;
use super::failing::{self, Work};
use super::host::{Accepting, Host, snap_is_full};
use super::machine::Machine;
use super::network::Network;
use super::outcome::Fault;
use crate::log::LogConfig;
use crate::member::StartError;
use crate::snapshot::SnapError;
use crate::snapshot::loss::{self, Found, Loss};
use crate::types::Zxid;

/// One operator in so many has no backup.
const NO_BACKUP_ONE_IN: u32 = 3;
/// After so many µs the operator tries again.
const AGAIN_US: u64 = 100_000;

impl Host {
    /// A start was refused, and nothing else failed.
    pub(super) fn refused(
        &mut self,
        refusal: &StartError,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let shown = checks.shown();
        let disks = (&base.data, &base.disk);
        match checks.rot.refused(disks, shown, &mut base.counters) {
            Refusal::Groundless => {
                let what = checks.rot.what();
                Err(format!("refused to start: {refusal} ({what})"))
            }
            Refusal::Reasoned if checks.rot.is_of_two_stores() => {
                self.look_at_two_stores(base, network, checks)
            }
            Refusal::Reasoned if has_no_backup(refusal, base) => {
                self.begin_accepting(base, network, checks)
            }
            Refusal::Reasoned => {
                checks.rot.mend();
                self.boot(base, network, checks)
            }
        }
    }

    /// The operator is told that the directories are of two stores, and names the right ones.
    fn look_at_two_stores(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let disks = (&base.data, &base.disk);
        let before = checks.rot.image(disks);
        let looked = loss::look(disks.0, disks.1);
        if base.disk.crashed() {
            return self.die(base, network, checks);
        }
        let what = checks.rot.what();
        match looked {
            Err(SnapError::TwoStores(_)) if before == checks.rot.image(disks) => {
                base.counters.faults.count(Fault::LossOfTwoStores);
            }
            Err(e) => {
                return Err(format!(
                    "directories of two stores are not named: {e} ({what})"
                ));
            }
            Ok(Found::Lost(lost)) => {
                let kept = lost.kept;
                return Err(format!(
                    "of two stores one is given up behind {kept}: {what}"
                ));
            }
            Ok(_) => return Err(format!("of two stores one is whole: {what}")),
        }
        checks.rot.mend();
        self.boot(base, network, checks)
    }

    /// The operator looks, and decides.
    fn begin_accepting(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let looked = loss::look(&base.data, &base.disk);
        if base.disk.crashed() {
            return self.die(base, network, checks);
        }
        let what = checks.rot.what().to_owned();
        let lost = match looked {
            Ok(Found::Lost(lost)) => lost,
            Ok(_) => return Err(format!("refused to start, and nothing is lost: {what}")),
            Err(e) => return Err(format!("a loss that nobody can accept: {e} ({what})")),
        };
        let (kept, behind) = (lost.kept, lost.behind);
        let (least, most) = checks.rot.stays((&base.data, &base.disk));
        if !(least..=most).contains(&kept) {
            return Err(format!(
                "{kept} is to stay, whole is {least}, and {most} can be read: {what}"
            ));
        }
        let used = checks.truth.last().max(checks.truth.shown());
        if behind.counter() != 0 || behind.epoch() <= used.max(kept).epoch() {
            return Err(format!("goes on behind {behind}, and {used} was used"));
        }
        base.note(format!("accepts the loss behind {kept}").as_bytes());
        let disks = (&base.data, &base.disk);
        self.accepting = Some(Accepting {
            kept,
            behind,
            wall: base.now().wall,
            unseen: checks.rot.entries(disks, checks.truth.last(), kept),
            contents: contents(disks, SimStorage::is_durable),
        });
        self.run_the_command(Some(*lost), base, network, checks)
    }

    /// The operator runs the command again.
    pub(super) fn go_on_accepting(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let Accepting { kept, behind, .. } = self.accepting.as_ref().expect("it was begun");
        let (kept, behind) = (*kept, *behind);
        let looked = loss::look(&base.data, &base.disk);
        if base.disk.crashed() {
            return self.die(base, network, checks);
        }
        match looked {
            // Perhaps in the page cache only.
            Ok(Found::Whole(zxid)) if zxid == behind => {
                self.run_the_command(None, base, network, checks)
            }
            Ok(Found::Lost(lost)) if (lost.kept, lost.behind) == (kept, behind) => {
                let config = machine_config(base);
                let disks = (base.data.clone(), base.disk.clone());
                if start(config, (&disks.0, &disks.1), base).is_ok() {
                    return Err("started while a loss was being accepted".into());
                }
                self.run_the_command(Some(*lost), base, network, checks)
            }
            // A snapshot that was taken away is there again: the machine has crashed before that was durable.
            Ok(Found::Lost(lost)) if lost.kept > kept && lost.behind == behind => {
                self.accepting = None;
                self.begin_accepting(base, network, checks)
            }
            Ok(Found::Lost(lost)) => Err(format!(
                "{kept} was to stay, and the next zxid be behind {behind}: now {} and {}",
                lost.kept, lost.behind
            )),
            Ok(Found::Whole(zxid)) => Err(format!("{kept} was to stay, and {zxid} is whole")),
            Ok(Found::Nothing) => Err(format!("{kept} was to stay, and nothing is there")),
            Err(e) => Err(format!("a loss that was being accepted can't be: {e}")),
        }
    }

    /// The steps of the command, in which the machine may crash, and calls may fail. `None`: it finds everything
    /// done, and makes sure of it.
    fn run_the_command(
        &mut self,
        lost: Option<Loss<SimStorage>>,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        if !base.calm && base.rng.bool() {
            let soon = base.disk.effects() + base.rng.u64(0..40);
            base.disk.crash_at(Some(soon));
        }
        let mut identities = fastrand::Rng::with_seed(base.rng.u64(..));
        let log = LogConfig {
            segment_bytes: SEGMENT,
        };
        let wall = base.now().wall;
        let accepting = self.accepting.as_mut().expect("it was begun");
        accepting.wall = accepting.wall.min(wall);
        failing::arm(base, Work::Accept);
        let identities = Box::new(move || identities.u128(..));
        let outcome = match lost {
            Some(lost) => lost.accept(log, identities, wall),
            None => loss::settle(&base.data, &base.disk),
        };
        let failed = failing::disarm(base, Work::Accept);
        let again = match outcome {
            Ok(()) if !base.disk.crashed() => {
                starts_twice(self.accepting.as_ref().expect("it was begun").behind, base)?;
                return self.accepted(base, network, checks);
            }
            _ if base.disk.crashed() => {
                base.counters.faults.count(Fault::LossCutOff);
                return self.die(base, network, checks);
            }
            Err(e) if failed.is_empty() && !(base.lacks_room() && snap_is_full(&e)) => Err(e),
            _ => Ok(()),
        };
        again.map_err(|e: SnapError| format!("the loss could not be accepted: {e}"))?;
        base.counters.faults.count(Fault::LossCutOff);
        base.disks().for_each(SimStorage::disarm);
        base.at(AGAIN_US, Event::Restart);
        Ok(())
    }

    /// The loss is accepted: everybody goes on with what stays.
    fn accepted(
        &mut self,
        base: &mut Base,
        network: &mut Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        base.disks().for_each(SimStorage::disarm);
        let Accepting {
            kept,
            behind,
            wall,
            unseen,
            contents: before,
        } = self.accepting.take().expect("it was begun");
        let mut now = contents((&base.data, &base.disk), |_, _| true);
        for content in before {
            let Some(at) = now.iter().position(|left| *left == content) else {
                let len = content.len();
                return Err(format!("a file of {len} bytes went with the loss"));
            };
            now.swap_remove(at);
        }
        for entry in &unseen {
            checks.truth.apply(entry)?;
        }
        if checks.truth.last() < kept {
            let last = checks.truth.last();
            return Err(format!("{kept} is to stay, and {last} is the last one"));
        }
        base.counters.faults.count(Fault::LossAccepted);
        checks.gives_up(kept, behind, wall);
        network.forget_what_is_under_way();
        self.sealed = None;
        self.boot(base, network, checks)
    }
}

fn has_no_backup(refusal: &StartError, base: &mut Base) -> bool {
    let is_loss = matches!(refusal, StartError::Unreadable(refusal) if refusal.is_loss());
    is_loss && !base.options.tears_destroy && base.rng.u32(0..NO_BACKUP_ONE_IN) == 0
}

/// What segments and snapshots hold, those that were set aside, too, if they are wanted.
fn contents(
    (data, log): (&SimStorage, &SimStorage),
    is_wanted: impl Fn(&SimStorage, &str) -> bool,
) -> Vec<Vec<u8>> {
    let is_kept = |name: &String| {
        let kinds = ["log.", "snap.", "lost."];
        kinds.iter().any(|kind| name.starts_with(kind))
    };
    let of = |disk: &SimStorage| {
        let names = disk.names().into_iter().filter(is_kept);
        let names = names.filter(|name| is_wanted(disk, name));
        names
            .filter_map(|name| disk.content(&name))
            .collect::<Vec<_>>()
    };
    match data.is(log) {
        true => of(log),
        false => [of(data), of(log)].concat(),
    }
}

fn start(
    config: super::machine::MachineConfig,
    (data, log): (&SimStorage, &SimStorage),
    base: &mut Base,
) -> Result<Machine, StartError> {
    let mut identities = fastrand::Rng::with_seed(base.rng.u64(..));
    let identities = Box::new(move || identities.u128(..));
    Machine::start(
        config,
        data,
        log,
        identities,
        (base.now(), base.now()),
        &mut |_| {},
    )
}

/// On copies of the disks, after a power cut: the store starts at `behind`, and once more behind a kill.
fn starts_twice(behind: Zxid, base: &mut Base) -> Result<(), String> {
    let log = base.disk.after_power_cut(&mut base.rng.fork());
    let data = match base.profile.has_two_disks {
        true => base.data.after_power_cut(&mut base.rng.fork()),
        false => log.clone(),
    };
    for disk in [&data, &log] {
        disk.set_capacity(DISK);
    }
    for nth in ["first", "second"] {
        let config = machine_config(base);
        let machine = start(config, (&data, &log), base)
            .map_err(|e| format!("the {nth} start behind an accepted loss needs help: {e}"))?;
        let zxid = machine.tree().last_zxid();
        if zxid != behind {
            return Err(format!(
                "the store goes on behind {behind}, started at {zxid}"
            ));
        }
    }
    Ok(())
}
