//! A member's turn: what it applies, what it wants, and its work on the disk.

use super::event::{Event, Life, Work};
use super::node::{Promise, Reading};
use super::truth::hash;
use super::world::World;
use crate::budget::Budget;
use crate::log::Receiving;
use crate::log::snapshot_file::{self, SnapshotError};
use crate::member::{Done, Member, MemberDone, SeatEffect};
use crate::messages::{Committed, ToShards};
use crate::proto::peer::{Address, Hello};
use crate::sim::disk::SimStorage;
use crate::tree::Tree;
use crate::types::{ServerId, Tick, Zxid};
use crate::zab::{Duty, Effect, Peer};

/// Longest time that anything takes in the calm, µs.
const CALM_WORK_US: u64 = 1_000;

impl World {
    /// Tells a member's part in the protocol something, and does what follows.
    pub(super) fn tell<R>(
        &mut self,
        sid: ServerId,
        what: impl FnOnce(&mut Peer, Tick) -> R,
    ) -> Option<R> {
        let told = self.call(sid, |member, now| {
            member.tell_peer(now, |peer| what(peer, now.tick))
        });
        self.drive(sid);
        told.flatten()
    }

    /// What is committed is applied, and what the member wants is done, until there is nothing more.
    pub(super) fn drive(&mut self, sid: ServerId) {
        loop {
            let mut budget = Budget::UNLIMITED;
            let advanced = self.call(sid, |member, now| member.advance(&mut budget, now));
            if advanced.is_none() {
                return;
            }
            self.is_installed(sid);
            let mut told = None;
            let hear = |tree: &Tree, down: ToShards, _| told = Some((down, tree.digest()));
            let is_any = self.call(sid, |member, now| member.tell(&mut budget, now, hear));
            let Some(is_any) = is_any else {
                return;
            };
            let mut moved = is_any.is_some();
            match told {
                Some((ToShards::Txn(txn), digest)) => self.applied(sid, &txn, digest),
                Some((ToShards::Notice(_, notice), _)) => self.notified(sid, &notice),
                None => {}
            }
            while self.violation.is_none()
                && let Some(effect) = self.node(sid).member.as_mut().and_then(|m| m.poll_seat())
            {
                moved = true;
                self.do_effect(sid, effect);
            }
            if !moved || self.violation.is_some() {
                break;
            }
        }
        self.is_accounted_for(sid);
        self.begin_work(sid);
        self.pump_soon(sid);
    }

    /// The tree may be a leader's now.
    fn is_installed(&mut self, sid: ServerId) {
        let node = &self.nodes[&sid];
        let Some(member) = &node.member else {
            return;
        };
        let (at, digest, last) = (member.tree.last_zxid(), member.tree.digest(), node.last);
        if at == last {
            return;
        }
        self.counts.installed += 1;
        let is_at = match at > last {
            true => self.truth.is_at(at, digest),
            false => Err(format!("goes back from {last} to {at}")),
        };
        self.must(sid, is_at);
        self.node(sid).last = at;
    }

    fn applied(&mut self, sid: ServerId, txn: &Committed, digest: u64) {
        let header = txn.entry.header;
        let (last, entry) = (self.nodes[&sid].last, hash(&txn.entry));
        let applied = self.truth.applies(last, header.zxid, entry);
        let Some(is_new) = self.must(sid, applied) else {
            return;
        };
        let is_at = self.truth.is_at(header.zxid, digest);
        self.must(sid, is_at);
        self.node(sid).last = header.zxid;
        self.transcript.note(self.now_us, &entry[..8]);
        self.counts.applied += 1;
        self.counts.committed += u64::from(is_new);
        if is_new {
            self.is_committed(&header);
        }
        self.answered(sid, txn);
    }

    /// What it counts is what it has, and what it holds of what is committed it must not lose any more.
    fn is_accounted_for(&mut self, sid: ServerId) {
        let node = self.nodes.get_mut(&sid).expect("a member");
        let Some(member) = &node.member else {
            return;
        };
        let cursors = member.pipeline.cursors();
        self.counts.ahead_of_disk += u64::from(cursors.applied > cursors.durable);
        node.held = node.held.max(self.truth.upto(cursors.durable));
        if member.pipeline.counted() != member.pipeline.recounted() {
            self.broken(format!("{sid} counts otherwise than it has"));
        }
    }

    // Its disks.

    fn begin_work(&mut self, sid: ServerId) {
        let Some(member) = &mut self.node(sid).member else {
            return;
        };
        let mut begun = Vec::new();
        begun.extend(member.poll_sync().map(|ticket| Work::Sync(ticket, None)));
        if let Some(ticket) = member.poll_record() {
            begun.push(Work::Record(ticket, Promise::of(member)));
        }
        begun.extend(std::iter::from_fn(|| member.poll_job()).map(Work::Job));
        let life = self.life(sid);
        for work in begun {
            let work = match work {
                Work::Sync(ticket, _) if self.rng.bool() => {
                    let then = self.rng.u64(0..=self.profile.disk_us);
                    Work::Write(ticket, then)
                }
                work => work,
            };
            let takes = match &work {
                Work::Job(_) => self.profile.job_us,
                _ => self.profile.disk_us,
            };
            let slow = self.nodes[&sid].slow_until.saturating_sub(self.now_us);
            let takes = match self.is_calm {
                true => takes.min(CALM_WORK_US),
                false => takes,
            };
            let takes = self.rng.u64(0..=takes) + self.rng.u64(0..=slow);
            self.after(takes, Event::Work(life, work));
        }
    }

    /// Something that was begun comes back.
    pub(super) fn finish(&mut self, (sid, life): Life, work: Work) {
        if !self.is_alive((sid, life)) {
            return;
        }
        let (data, log) = (self.nodes[&sid].data.clone(), self.nodes[&sid].log.clone());
        match work {
            Work::Write(mut ticket, then) => {
                ticket.write_now();
                let began = ticket.is_written().then(|| log.sync_begins());
                self.after(then, Event::Work((sid, life), Work::Sync(ticket, began)));
                return;
            }
            Work::Sync(ticket, began) => {
                log.set_sync_began(began);
                let outcome = ticket.run();
                log.set_sync_began(None);
                if self.survives(sid) {
                    self.call(sid, |member, now| member.synced(outcome, now));
                }
            }
            Work::Record(ticket, promise) => {
                let outcome = ticket.run(&data, &log);
                if self.survives(sid) {
                    let is_durable = outcome.is_durable();
                    let written =
                        |member: &mut Member<SimStorage>, now| member.record_written(outcome, now);
                    if self.call(sid, written).is_some() && is_durable {
                        self.promised(sid, promise);
                    }
                }
            }
            Work::Job(job) => {
                let done = job.run(&data, &log);
                if self.survives(sid) {
                    match &done {
                        Done::OfMember(MemberDone::ReadBack { .. }) => self.counts.read_back += 1,
                        Done::OfMember(MemberDone::ReadFor {
                            packets: Ok(packets),
                            ..
                        }) if !packets.is_empty() => {
                            self.counts.diffs_from_disk += 1;
                        }
                        _ => {}
                    }
                    self.call(sid, |member, _| member.job_done(done));
                }
            }
        }
        self.drive(sid);
    }

    /// False: it has died of what it was doing on its disks.
    pub(super) fn survives(&mut self, sid: ServerId) -> bool {
        if !self.node(sid).log.crashed() {
            return self.is_up(sid);
        }
        self.counts.cuts_at_an_effect += 1;
        let death = self.node(sid).death;
        self.die(sid, death);
        false
    }

    // What it wants.

    fn do_effect(&mut self, sid: ServerId, effect: SeatEffect) {
        match effect {
            SeatEffect::SendSnapshot { link, zxid } => self.send_snapshot(sid, link, zxid),
            SeatEffect::Peer(effect) => self.do_peer(sid, effect),
        }
    }

    fn send_snapshot(&mut self, sid: ServerId, link: crate::zab::LinkId, zxid: Zxid) {
        let data = self.nodes[&sid].data.clone();
        let mut body = Vec::new();
        let take = |chunk: &[u8]| {
            body.extend_from_slice(chunk);
            Ok::<(), SnapshotError>(())
        };
        let read = snapshot_file::read(&data, zxid, None, take);
        if !self.survives(sid) {
            return;
        }
        if let Err(error) = read {
            if !self.node(sid).look_for_failures() {
                self.broken(format!("{sid} can't send the snapshot of {zxid}: {error}"));
            }
            return self.hang_up(sid, link);
        }
        let compared = self.truth.compare(&data, zxid);
        self.must(sid, compared);
        let length = (body.len() as u64).to_be_bytes();
        self.send(sid, link, [&length[..], &body].concat());
    }

    fn do_peer(&mut self, sid: ServerId, effect: Effect) {
        let life = self.life(sid);
        let delay = self.profile.delay_us;
        match effect {
            Effect::Dial { to, .. } => self.within(delay, Event::Dial(life, to, None)),
            Effect::DialLeader { role, leader } => {
                self.within(delay, Event::Dial(life, leader, Some(role)));
            }
            Effect::SayHello(link) => {
                let address = Address::new("10.0.0.1", 3888).expect("an address");
                let hello = Hello::encode(sid, &[address], false).expect("a short address");
                self.send(sid, link, hello);
            }
            Effect::Notify(link) => {
                if let Some((wire, at)) = self.wire_of(sid, link) {
                    wire.ends[at].wants_to_say = true;
                }
            }
            Effect::Listen(listens) => self.node(sid).listens = listens,
            Effect::Send(link, bytes) => self.send(sid, link, bytes),
            Effect::Close(link, _) => self.hang_up(sid, link),
            Effect::ReadSnapshot { link, zxid } => self.begin_reading(sid, link, zxid),
            Effect::Serve(_, duty) => self.serves(sid, duty),
            Effect::StopServing(_) => self.stops_serving(sid),
            Effect::Left(..) => self.counts.left += 1,
            Effect::Synced(_) | Effect::Revalidated { .. } => {}
            other => self.broken(format!("{sid} wants {other:?}")),
        }
    }

    fn serves(&mut self, sid: ServerId, duty: Duty) {
        self.node(sid).serves = true;
        match duty {
            Duty::Leader(epoch) => {
                self.counts.leaders += 1;
                let leads = self.truth.leads(epoch, sid);
                self.must(sid, leads);
            }
            Duty::Follower | Duty::Observer => self.counts.learners += 1,
        }
    }

    fn begin_reading(&mut self, sid: ServerId, link: crate::zab::LinkId, zxid: Zxid) {
        let node = self.node(sid);
        let Some(member) = &node.member else {
            return;
        };
        match Receiving::create(&node.data, zxid, member.store()) {
            Ok(receiving) => {
                node.reading = Some(Reading {
                    link,
                    left: None,
                    receiving,
                });
            }
            // Without room for it nothing is gone on with.
            Err(_) if self.survives(sid) => self.hang_up(sid, link),
            Err(_) => {}
        }
    }
}
