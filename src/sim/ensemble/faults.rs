//! What goes wrong, and when. A seed has some kinds of faults, each as often as it has drawn.

use super::event::Event;
use super::kinds::{Kind, Mend};
use super::node::{DISK, Death};
use super::world::World;
use crate::sim::disk::{Failing, SeamCall};
use crate::types::ServerId;

/// Calls that may fail.
const CALLS: [&[SeamCall]; 5] = [
    &[SeamCall::Write],
    &[SeamCall::Sync],
    &[SeamCall::Create, SeamCall::Rename, SeamCall::SyncDir],
    &[
        SeamCall::Open,
        SeamCall::Read,
        SeamCall::View,
        SeamCall::Len,
    ],
    &SeamCall::ALL,
];
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EMFILE: i32 = 24;

impl World {
    pub(super) fn fault(&mut self) {
        if self.is_calm {
            return;
        }
        let next = self.profile.fault_us;
        self.within(next, Event::Fault);
        let Some(kind) = self.rng.choice(&self.profile.faults).copied() else {
            return;
        };
        let sid = self.victim();
        self.strike(kind, sid);
    }

    /// Two members are in the midst of a synchronisation: now and then something goes wrong with one of them.
    pub(super) fn tempt(&mut self, pair: [ServerId; 2]) {
        if self.is_calm || self.rng.u32(0..100) >= self.profile.strikes {
            return;
        }
        let sid = pair[self.rng.usize(0..2)];
        if let Some(kind) = self.rng.choice(&self.profile.faults).copied() {
            let soon = 4 * self.profile.delay_us + self.profile.disk_us;
            self.within(soon, Event::Strike(kind, sid));
        }
    }

    pub(super) fn strike(&mut self, kind: Kind, sid: ServerId) {
        if self.is_calm {
            return;
        }
        let long = *self
            .rng
            .choice(&[30_000, 300_000, 1_500_000])
            .expect("not empty");
        let long = self.rng.u64(0..=long);
        match kind {
            Kind::Kill => self.die(sid, Death::Kill),
            Kind::PowerCut => self.die(sid, Death::PowerCut),
            Kind::KillAtEffect => self.die_soon(sid, Death::Kill),
            Kind::PowerCutAtEffect => self.die_soon(sid, Death::PowerCut),
            Kind::Blackout => {
                self.counts.blackouts += 1;
                for sid in self.sids() {
                    self.die(sid, Death::PowerCut);
                }
            }
            Kind::Pause => {
                self.counts.pauses += 1;
                self.node(sid).paused_until = self.now_us + long;
            }
            Kind::Wipe => self.wipe(sid),
            Kind::LoseRecordCopy => self.lose_record_copy(sid),
            Kind::Full => {
                self.counts.full_disks += 1;
                for disk in self.node(sid).disks() {
                    disk.set_capacity(disk.used());
                }
                self.after(long, Event::Mend(sid, Mend::Room));
            }
            Kind::Slow => {
                self.counts.slow_disks += 1;
                self.node(sid).slow_until = self.now_us + long;
            }
            Kind::Failing => self.fail_calls(sid, long),
            Kind::Clock => {
                self.counts.clock_steps += 1;
                self.node(sid).wall_offset = self.rng.i64(-100_000..100_000);
            }
            Kind::Break => {
                let wires: Vec<u64> = self.wires.keys().copied().collect();
                if let Some(&wire) = self.rng.choice(&wires) {
                    self.snap(wire);
                }
            }
            Kind::Isolate | Kind::OneWay | Kind::Pair | Kind::Split => {
                self.part(kind, sid);
                self.after(long, Event::Mend(sid, Mend::Network));
            }
        }
    }

    /// Who leads is hit as often as the others together.
    fn victim(&mut self) -> ServerId {
        let sids = self.sids();
        let any = *self.rng.choice(&sids).expect("there are members");
        match self.leader() {
            Some(leader) if self.rng.bool() => leader,
            _ => any,
        }
    }

    /// It ends before one of the next things that it does.
    fn die_soon(&mut self, sid: ServerId, death: Death) {
        let few = *self.rng.choice(&[3, 10, 60]).expect("not empty");
        let effects = self.rng.u64(0..few);
        let node = self.node(sid);
        node.death = death;
        node.log.crash_at(Some(node.log.effects() + effects));
    }

    /// Those who lack what they had, and are not known to have it again.
    fn lacking(&self) -> usize {
        let voters = self.profile.voters.iter();
        let lacks = |sid: &&ServerId| {
            let node = &self.nodes[*sid];
            !node.promise.is_whole
        };
        voters.filter(lacks).count()
    }

    fn wipe(&mut self, sid: ServerId) {
        let is_voter = self.profile.voters.contains(&sid);
        let lacks = !self.nodes[&sid].promise.is_whole;
        let is_founding = self.nodes.values().any(|node| node.is_founding);
        if is_founding || is_voter && !lacks && self.lacking() >= self.profile.may_lack() {
            return;
        }
        self.die(sid, Death::Kill);
        let profile = self.profile.clone();
        self.node(sid).wipe(&profile);
        self.counts.wipes += 1;
    }

    /// While it is down. Where power may fail, the other file may lack a slot, too.
    fn lose_record_copy(&mut self, sid: ServerId) {
        if self.profile.faults.iter().any(|kind| kind.cuts_power()) {
            return;
        }
        self.die(sid, Death::Kill);
        let mut rng = self.rng.fork();
        let is_lost = self.node(sid).lose_record_copy(&mut rng);
        self.counts.record_copies_lost += u64::from(is_lost);
    }

    fn fail_calls(&mut self, sid: ServerId, long: u64) {
        self.counts.failing_calls += 1;
        let failing = Failing {
            calls: self.rng.choice(&CALLS).expect("not empty"),
            code: *self.rng.choice(&[EIO, ENOSPC, EMFILE]).expect("not empty"),
            after: self.rng.u32(0..20),
            times: self.rng.u32(1..4),
        };
        let disks = self.node(sid).disks();
        self.rng
            .choice(&disks)
            .expect("there is one")
            .set_failing(Some(failing));
        self.after(long, Event::Mend(sid, Mend::Calls));
    }

    fn part(&mut self, kind: Kind, sid: ServerId) {
        let others: Vec<ServerId> = self
            .sids()
            .into_iter()
            .filter(|other| *other != sid)
            .collect();
        let Some(&other) = self.rng.choice(&others) else {
            return;
        };
        let is_out = self.rng.bool();
        match kind {
            Kind::Isolate => {
                self.counts.isolations += 1;
                for other in others {
                    self.blocked.extend([(sid, other), (other, sid)]);
                }
            }
            Kind::OneWay => {
                self.counts.one_way_partitions += 1;
                let all = self.rng.bool();
                for other in others.into_iter().filter(|this| all || *this == other) {
                    self.blocked.insert(match is_out {
                        true => (sid, other),
                        false => (other, sid),
                    });
                }
            }
            Kind::Pair => {
                self.counts.pair_partitions += 1;
                self.blocked.extend([(sid, other), (other, sid)]);
            }
            _ => {
                self.counts.splits += 1;
                let (mut here, mut there) = (vec![sid], Vec::new());
                for other in others {
                    match self.rng.bool() {
                        true => here.push(other),
                        false => there.push(other),
                    }
                }
                for one in &here {
                    for two in &there {
                        self.blocked.extend([(*one, *two), (*two, *one)]);
                    }
                }
            }
        }
    }

    pub(super) fn mend(&mut self, sid: ServerId, mend: Mend) {
        match mend {
            Mend::Room => {
                for disk in self.node(sid).disks() {
                    disk.set_capacity(DISK);
                }
            }
            Mend::Calls => {
                for disk in self.node(sid).disks() {
                    disk.set_failing(None);
                }
            }
            Mend::Network => self.blocked.clear(),
        }
    }

    /// From here on nothing fails.
    pub(super) fn end_faults(&mut self) {
        self.is_calm = true;
        self.blocked.clear();
        let now_us = self.now_us;
        for sid in self.sids() {
            self.mend(sid, Mend::Room);
            let node = self.node(sid);
            node.paused_until = now_us;
            node.slow_until = 0;
            for disk in node.disks() {
                node.is_hurt |= !disk.take_failed().is_empty();
                disk.disarm();
            }
            if !self.is_up(sid) {
                self.within(100_000, Event::Start(sid));
            }
        }
    }
}
