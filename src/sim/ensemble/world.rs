//! The life of a run: members start and die, events are given to whose they are, and at the end nothing fails.

use super::event::{Event, Life, Queue};
use super::node::{self, DISK, Death, Node, Promise, WALL};
use super::outcome::{Counts, EnsembleOptions, EnsembleOutcome};
use super::profile::Profile;
use super::truth::{Truth, hash};
use super::wire::Wire;
use crate::member::Member;
use crate::pipeline::Fatal;
use crate::proto::peer::PeerState;
use crate::sim::disk::SimStorage;
use crate::sim::transcript::Transcript;
use crate::snapshot::Rebuilding;
use crate::types::{Now, ServerId, Tick, WallMs, Zxid};
use crate::zab::LinkId;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Time between two ticks of a process, µs.
pub(super) const TICK_US: u64 = 10_000;
/// Within so much of calm all hold one history, µs.
const CALM_US: u64 = 30_000_000;
/// Whoever is out after so long is looked at, µs.
const PATIENCE_US: u64 = 4_000_000;
/// All hold it for so long, µs.
const STILL_US: u64 = 100_000;
/// Writes that must succeed in the calm.
const CALM_WRITES: u64 = 2;

/// The run of a seed.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now_us: u64,
    pub(super) queue: Queue,
    pub(super) transcript: Transcript,
    pub(super) profile: Profile,
    pub(super) nodes: BTreeMap<ServerId, Node>,
    pub(super) wires: BTreeMap<u64, Wire>,
    pub(super) places: BTreeMap<LinkId, (u64, usize)>,
    /// From whom nothing comes to whom.
    pub(super) blocked: BTreeSet<(ServerId, ServerId)>,
    pub(super) next: u64,
    pub(super) truth: Truth,
    /// Writes whose member has lost its role before their outcome.
    pub(super) orphans: BTreeSet<i32>,
    /// Writes that came behind the end of a role.
    pub(super) late: BTreeSet<i32>,
    pub(super) counts: Counts,
    pub(super) is_calm: bool,
    pub(super) violation: Option<String>,
}

/// Runs a seed.
pub fn run(options: EnsembleOptions) -> EnsembleOutcome {
    let mut world = World::new(options);
    world.live();
    let World {
        mut counts,
        transcript,
        violation,
        now_us,
        ..
    } = world;
    counts.near_rollover = u64::from(world.profile.start > Zxid::ZERO);
    counts.with_observers = u64::from(!world.profile.observers.is_empty());
    EnsembleOutcome {
        hash: transcript.finish(),
        virtual_ms: now_us / 1000,
        counts,
        violation,
    }
}

impl World {
    fn new(options: EnsembleOptions) -> World {
        let mut rng = Rng::with_seed(options.seed);
        let profile = Profile::draw(&mut rng, options.members);
        let nodes = profile.members().map(|sid| {
            let node = Node::new(sid, &profile);
            node::prepare(&node.data, &node.log, &profile, sid);
            (sid, node)
        });
        World {
            nodes: nodes.collect(),
            rng,
            now_us: 0,
            queue: Queue::default(),
            transcript: Transcript::new(),
            wires: BTreeMap::new(),
            places: BTreeMap::new(),
            blocked: BTreeSet::new(),
            next: 0,
            truth: Truth::new(profile.start, node::first_tree(profile.start).digest()),
            orphans: BTreeSet::new(),
            late: BTreeSet::new(),
            counts: Counts::default(),
            is_calm: false,
            violation: None,
            profile,
        }
    }

    // What everything uses.

    pub(super) fn broken(&mut self, what: String) {
        let at = self.now_us;
        self.violation
            .get_or_insert_with(|| format!("at {at} µs: {what}"));
    }

    /// Something must hold of a member.
    pub(super) fn must<T>(&mut self, sid: ServerId, what: Result<T, String>) -> Option<T> {
        match what {
            Ok(fine) => Some(fine),
            Err(why) => {
                self.broken(format!("{sid} {why}"));
                None
            }
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn node(&mut self, sid: ServerId) -> &mut Node {
        self.nodes.get_mut(&sid).expect("a member")
    }

    pub(super) fn now_of(&self, sid: ServerId) -> Now {
        let ms = self.now_us / 1000;
        Now {
            tick: Tick(ms),
            micros: self.now_us,
            wall: WallMs(WALL + ms as i64 + self.nodes[&sid].wall_offset),
        }
    }

    pub(super) fn after(&mut self, us: u64, event: Event) {
        self.queue.at(self.now_us + us, event);
    }

    /// Up to so much later.
    pub(super) fn within(&mut self, us: u64, event: Event) {
        let later = self.rng.u64(0..=us);
        self.after(later, event);
    }

    pub(super) fn is_up(&self, sid: ServerId) -> bool {
        self.nodes[&sid].member.is_some()
    }

    pub(super) fn is_alive(&self, (sid, life): Life) -> bool {
        let node = &self.nodes[&sid];
        node.member.is_some() && node.life == life
    }

    pub(super) fn life(&self, sid: ServerId) -> Life {
        (sid, self.nodes[&sid].life)
    }

    pub(super) fn sids(&self) -> Vec<ServerId> {
        self.nodes.keys().copied().collect()
    }

    /// Calls a member. `None`: it is down, or has died of it.
    pub(super) fn call<R>(
        &mut self,
        sid: ServerId,
        what: impl FnOnce(&mut Member<SimStorage>, Now) -> Result<R, Fatal>,
    ) -> Option<R> {
        let now = self.now_of(sid);
        let member = self.node(sid).member.as_mut()?;
        let result = what(member, now);
        if self.node(sid).log.crashed() {
            let death = self.node(sid).death;
            self.counts.cuts_at_an_effect += 1;
            self.die(sid, death);
            return None;
        }
        match result {
            Ok(fine) => Some(fine),
            Err(fatal) => {
                if self.node(sid).look_for_failures() {
                    self.counts.ended_by_failures += 1;
                    self.die(sid, Death::Kill);
                } else {
                    self.broken(format!("{sid} ends: {fatal}"));
                }
                None
            }
        }
    }

    // Starts and deaths.

    pub(super) fn die(&mut self, sid: ServerId, death: Death) {
        let mut rng = self.rng.fork();
        let is_calm = self.is_calm;
        let (down_us, life) = (self.profile.down_us, self.number());
        let node = self.node(sid);
        if node.member.take().is_none() && !node.log.crashed() {
            return;
        }
        for disk in node.disks() {
            disk.restart(&mut rng, death == Death::PowerCut);
        }
        node.life = life;
        node.is_dark = death == Death::PowerCut;
        (node.listens, node.serves, node.is_hurt) = (false, false, false);
        (node.reading, node.session) = (None, None);
        (node.unconfirmed, node.is_pump_due) = (0, false);
        node.paused_until = 0;
        let asked: Vec<i32> = std::mem::take(&mut node.asked).into_values().collect();
        self.orphans.extend(asked);
        match death {
            Death::Kill => self.counts.kills += 1,
            Death::PowerCut => self.counts.power_cuts += 1,
        }
        self.forget_connections(sid, death);
        let down = self.rng.u64(
            0..=match is_calm {
                true => 100_000,
                false => down_us,
            },
        );
        self.after(down, Event::Start(sid));
    }

    fn start(&mut self, sid: ServerId) {
        if self.is_up(sid) {
            return;
        }
        // An operator makes room first.
        for disk in self.node(sid).disks() {
            disk.set_capacity(DISK);
        }
        let now = self.now_of(sid);
        let life = self.number();
        let (mut rng, profile) = (self.rng.fork(), &self.profile);
        let config = node::member_config(profile, sid, &mut rng);
        let seat = node::seat_config(profile, sid, self.nodes[&sid].is_founding);
        let node = self.nodes.get_mut(&sid).expect("a member");
        let mut identity: u128 = (u128::from(life) << 64) + u128::from(sid.0 as u64);
        let identities = Box::new(move || {
            identity += 1 << 32;
            identity
        });
        let mut replayed = Vec::new();
        let rebuild = &mut Rebuilding::new(|entry| replayed.push((entry.header.zxid, hash(entry))));
        let dirs = (&node.data, &node.log);
        let started = Member::join(config, seat, dirs, identities, now, rebuild);
        let (node, counts) = (
            self.nodes.get_mut(&sid).expect("a member"),
            &mut self.counts,
        );
        if node.log.crashed() {
            counts.cuts_in_recovery += 1;
            counts.cuts_at_an_effect += 1;
            let death = node.death;
            return self.die(sid, death);
        }
        let member = match started {
            Ok((member, _)) => member,
            Err(_) if node.look_for_failures() => {
                node.is_hurt = false;
                counts.starts_failed += 1;
                return self.after(50_000, Event::Start(sid));
            }
            Err(error) => return self.broken(format!("{sid} does not start: {error}")),
        };
        self.counts.starts += 1;
        self.began(sid, life, member, &replayed);
    }

    /// It holds what it must, and goes on from there.
    fn began(
        &mut self,
        sid: ServerId,
        life: u64,
        mut member: Member<SimStorage>,
        replayed: &[(Zxid, [u8; 32])],
    ) {
        let (last, digest) = (member.tree.last_zxid(), member.tree.digest());
        let end = member.pipeline.log().end().zxid.max(last);
        let promise = Promise::of(&mut member);
        let node = self.node(sid);
        node.is_founding = false;
        (node.life, node.is_dark) = (life, false);
        node.last = last;
        node.member = Some(Box::new(member));
        let (had, held) = (std::mem::replace(&mut node.promise, promise), node.held);
        if promise.breaks(&had) {
            self.broken(format!(
                "{sid} starts with {promise:?}, and had promised {had:?}"
            ));
        }
        if end < held {
            self.broken(format!(
                "{sid} starts with {end}, and held {held} durably, which is committed"
            ));
        }
        // What it has replayed it takes for committed.
        let before = replayed.first().map(|(first, _)| *first);
        let mut from = match before {
            Some(first) => self.truth.upto(Zxid(first.0 - 1)),
            None => last,
        };
        for (zxid, entry) in replayed {
            let applied = self.truth.applies(from, *zxid, *entry);
            let applied = applied.map_err(|why| format!("starts, and {why}"));
            self.must(sid, applied);
            from = *zxid;
        }
        let is_at = self.truth.is_at(last, digest);
        self.must(sid, is_at.map_err(|why| format!("starts, and {why}")));
        self.within(TICK_US, Event::Tick((sid, life)));
        self.drive(sid);
    }

    // Whose event it is.

    /// Whose process it concerns.
    fn owner(&self, event: &Event) -> Option<ServerId> {
        match event {
            Event::Tick((sid, _))
            | Event::Work((sid, _), _)
            | Event::Pump((sid, _))
            | Event::DialFailed((sid, _), ..)
            | Event::Dialled((sid, _), ..)
            | Event::Accepted((sid, _), _)
            | Event::Confirm((sid, _)) => Some(*sid),
            Event::Arrive(wire, at) | Event::Gone(wire, at) => {
                self.wires.get(wire).map(|wire| wire.ends[*at].sid)
            }
            _ => None,
        }
    }

    fn step(&mut self) -> bool {
        let Some((us, event)) = self.queue.pop() else {
            return false;
        };
        self.now_us = us;
        if let Some(sid) = self.owner(&event)
            && self.nodes[&sid].paused_until > us
        {
            let until = self.nodes[&sid].paused_until;
            self.queue.at(until, event);
            return true;
        }
        let (number, whose) = event.number();
        let mut noted = [0; 9];
        noted[0] = number;
        noted[1..].copy_from_slice(&whose.to_le_bytes());
        self.transcript.note(us, &noted);
        self.happens(event);
        true
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Tick(life) => self.tick(life),
            Event::Work(life, work) => self.finish(life, work),
            Event::Pump(life) => self.pump(life),
            Event::Dial(life, to, role) => self.connect(life, to, role),
            Event::DialFailed(life, to, role) => self.dial_failed(life, to, role),
            Event::Dialled(life, wire, role) => self.dialled(life, wire, role),
            Event::Accepted(life, wire) => self.accepted(life, wire),
            Event::Arrive(wire, at) => self.arrive(wire, at),
            Event::Gone(wire, at) => self.gone(wire, at),
            Event::Write => self.write_somewhere(),
            Event::Confirm(life) => self.confirm(life),
            Event::Fault => self.fault(),
            Event::Strike(kind, sid) => self.strike(kind, sid),
            Event::Mend(sid, mend) => self.mend(sid, mend),
            Event::Start(sid) => self.start(sid),
        }
    }

    fn tick(&mut self, (sid, life): Life) {
        if !self.is_alive((sid, life)) {
            return;
        }
        self.after(TICK_US, Event::Tick((sid, life)));
        self.call(sid, |member, now| {
            member.tick(now)?;
            member.tick_seat(now)
        });
        self.report_touched(sid);
        self.drive(sid);
        self.wires
            .retain(|_, wire| !wire.ends.iter().all(|end| end.is_closed));
        let wires = &self.wires;
        self.places.retain(|_, (wire, _)| wires.contains_key(wire));
    }

    // The life of a run.

    fn live(&mut self) {
        for sid in self.sids() {
            self.within(50_000, Event::Start(sid));
        }
        self.within(100_000, Event::Write);
        self.within(500_000, Event::Fault);
        while self.violation.is_none() && self.now_us < self.profile.busy_us && self.step() {}
        if self.violation.is_none() {
            self.calm();
        }
        if self.violation.is_none() {
            self.compare_all();
        }
        for node in self.nodes.values() {
            for disk in node.disks() {
                let faults = disk.faults();
                self.counts.sectors_lost += faults.sectors_lost;
                self.counts.sectors_torn += faults.sectors_torn;
                self.counts.names_lost += faults.names_lost;
                self.counts.refused_for_room += faults.full;
                self.counts.calls_failed += faults.calls_failed;
            }
        }
    }

    /// Nothing fails any more, and within a time all hold one history, to which writes are added.
    fn calm(&mut self) {
        self.end_faults();
        let until = self.now_us + CALM_US;
        let (mut since, mut look) = (self.now_us, self.now_us + PATIENCE_US);
        let enough = self.counts.acknowledged + CALM_WRITES;
        while self.counts.acknowledged < enough || self.now_us < since + STILL_US {
            if self.violation.is_some() {
                return;
            }
            if self.now_us > until || !self.step() {
                let report = self.report();
                return self.broken(format!("nothing comes to an end: {report}"));
            }
            if !self.is_settled() {
                since = self.now_us;
                if self.now_us > look {
                    look = self.now_us + PATIENCE_US;
                    self.let_in();
                }
            } else if self.counts.acknowledged < enough && self.now_us > since + STILL_US / 2 {
                let leaders = self.leaders();
                let ready = leaders.iter().find(|sid| self.nodes[sid].unconfirmed == 0);
                if let Some(&leader) = ready {
                    self.write_at(leader);
                    since = self.now_us;
                }
            }
        }
        let leaders = self.leaders();
        if leaders.len() != 1 {
            self.broken(format!("in the calm {leaders:?} lead"));
        }
    }

    /// Who has promised a newer epoch, of a leader that has failed, joins no leader of an older one: it is out until the
    /// next election. The operator brings that about.
    fn let_in(&mut self) {
        let Some(leader) = self.leader() else {
            return;
        };
        let promised = self.nodes[&leader].promise.accepted;
        if self
            .nodes
            .values()
            .any(|node| node.promise.accepted > promised)
        {
            self.counts.kept_out_by_a_promise += 1;
            self.die(leader, Death::Kill);
        }
    }

    pub(super) fn leaders(&self) -> Vec<ServerId> {
        let leads = |(sid, node): (&ServerId, &Node)| {
            let peer = node.member.as_ref().and_then(|member| member.peer())?;
            (node.serves && peer.doing() == PeerState::Leading).then_some(*sid)
        };
        self.nodes.iter().filter_map(leads).collect()
    }

    /// The one with the newest epoch.
    pub(super) fn leader(&self) -> Option<ServerId> {
        let newest = |sid: &ServerId| {
            let peer = self.nodes[sid]
                .member
                .as_ref()
                .and_then(|member| member.peer());
            peer.and_then(|peer| peer.leading())
                .and_then(|leading| leading.next())
        };
        self.leaders().into_iter().max_by_key(newest)
    }

    fn is_settled(&self) -> bool {
        let last = self.truth.last();
        let holds_all = |node: &Node| {
            node.serves
                && node.member.as_ref().is_some_and(|member| {
                    let cursors = member.pipeline.cursors();
                    cursors.applied == last && cursors.durable == last && cursors.prepared == last
                })
        };
        self.nodes.values().all(holds_all) && self.leaders().len() == 1
    }

    fn report(&self) -> String {
        let one = |(sid, node): (&ServerId, &Node)| {
            let member = node.member.as_ref();
            let doing = member.and_then(|m| m.peer()).map(|peer| peer.doing());
            let cursors = member.map(|member| member.pipeline.cursors());
            let (serves, standing) = (node.serves, node.standing());
            let promise = node.promise;
            format!("{sid}: {doing:?} {standing:?} {promise:?}, serves {serves}, {cursors:?}")
        };
        let nodes: Vec<String> = self.nodes.iter().map(one).collect();
        format!("{}; the last is {}", nodes.join("; "), self.truth.last())
    }

    /// All trees and snapshots are the same.
    fn compare_all(&mut self) {
        for sid in self.sids() {
            let Some(member) = &self.nodes[&sid].member else {
                continue;
            };
            let (at, digest, body) = {
                let tree = &member.tree;
                (tree.last_zxid(), tree.digest(), crate::snapshot::root(tree))
            };
            let is_at = self.truth.is_at(at, digest);
            self.must(sid, is_at);
            let has_body = self.truth.has_body(at, body);
            self.must(sid, has_body);
            let data = self.nodes[&sid].data.clone();
            for zxid in crate::log::snapshot_file::list(&data).unwrap_or_default() {
                let compared = self.truth.compare(&data, zxid);
                let is_compared = self.must(sid, compared).unwrap_or(false);
                self.counts.snapshots_compared += u64::from(is_compared);
            }
        }
    }

    /// What was promised is durable.
    pub(super) fn promised(&mut self, sid: ServerId, promise: Promise) {
        let node = self.node(sid);
        node.records += 1;
        let had = std::mem::replace(&mut node.promise, promise);
        self.counts.whole_again += u64::from(promise.is_whole && !had.is_whole);
        if promise.breaks(&had) {
            self.broken(format!("{sid} takes {had:?} back for {promise:?}"));
        }
    }
}
