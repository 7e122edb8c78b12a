//! Dials, bytes, and the ends of connections.
//!
//! What is on its way arrives in its order, cut anywhere, or never: then the connection has broken. Where nothing comes
//! through from one member to another, bytes wait for the end of that, as they do in a kernel that sends them again, and
//! nobody is told that a connection is gone. Of a process that has died the others hear; of a machine without power they
//! hear when it has some again, or much later.

use super::event::{Event, Life};
use super::node::Death;
use super::wire::{ACCEPTOR, DIALLER, Port, Wire};
use super::world::World;
use crate::proto::Frame;
use crate::proto::peer::notification;
use crate::proto::peer::packet::{Split, split};
use crate::proto::peer::{Hello, Notification, ToLeader, ToLearner};
use crate::types::ServerId;
use crate::zab::{LinkId, RoleId};

/// Longest packet.
const MAX: usize = 1 << 20;
/// A dial of which nobody hears fails after so long, µs.
const DIAL_US: u64 = 100_000;
/// What can't go on is tried again after so long, µs.
const AGAIN_US: u64 = 5_000;
/// Nobody is told for so long that a machine has no power, µs.
const DARK_US: u64 = 2_000_000;
/// Most bytes that a learner's connection is given at once.
const FETCH_MAX: usize = 16 << 10;

impl World {
    // Dials.

    fn is_blocked(&self, from: ServerId, to: ServerId) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(super) fn connect(&mut self, life: Life, to: ServerId, role: Option<RoleId>) {
        if !self.is_alive(life) {
            return;
        }
        let from = life.0;
        let delay = self.profile.delay_us;
        let target = &self.nodes[&to];
        let is_cut = self.is_blocked(from, to) || self.is_blocked(to, from) || target.is_dark;
        if is_cut {
            return self.after(DIAL_US, Event::DialFailed(life, to, role));
        }
        let listens = target.member.is_some() && (role.is_none() || target.listens);
        if !listens {
            return self.within(delay, Event::DialFailed(life, to, role));
        }
        let [mine, theirs] = [(); 2].map(|()| LinkId(self.number()));
        let (port, wire) = match role {
            None => (Port::Election, self.number()),
            Some(_) => (Port::Quorum, self.number()),
        };
        self.wires
            .insert(wire, Wire::new(port, (from, mine), (to, theirs)));
        self.places.insert(mine, (wire, DIALLER));
        self.places.insert(theirs, (wire, ACCEPTOR));
        let accepting = self.life(to);
        let odd = self.rng.u32(0..100) < self.profile.odd_dials;
        match odd {
            true if self.rng.bool() => {
                // Who has dialled has given up, and the other one does not know.
                self.counts.ghost_connections += 1;
                if let Some(wire) = self.wires.get_mut(&wire) {
                    wire.ends[DIALLER].is_closed = true;
                }
                self.after(delay, Event::DialFailed(life, to, role));
                self.within(delay, Event::Accepted(accepting, wire));
                self.within(DIAL_US + delay, Event::Gone(wire, ACCEPTOR));
            }
            true => {
                self.counts.late_connections += 1;
                self.within(delay, Event::Dialled(life, wire, role));
                self.within(DIAL_US + delay, Event::Accepted(accepting, wire));
            }
            false => {
                self.within(delay, Event::Dialled(life, wire, role));
                self.within(delay, Event::Accepted(accepting, wire));
            }
        }
    }

    pub(super) fn dial_failed(&mut self, life: Life, to: ServerId, role: Option<RoleId>) {
        if self.is_alive(life) {
            self.tell(life.0, |peer, now| match role {
                None => peer.dial_failed(to, now),
                Some(role) => peer.leader_dial_failed(role, now),
            });
        }
    }

    pub(super) fn dialled(&mut self, life: Life, wire: u64, role: Option<RoleId>) {
        let Some(known) = self
            .wires
            .get_mut(&wire)
            .filter(|_| self.nodes[&life.0].life == life.1)
        else {
            return;
        };
        let to = known.ends[ACCEPTOR].sid;
        let end = &mut known.ends[DIALLER];
        if end.is_closed {
            return self.dial_failed(life, to, role);
        }
        end.is_known = true;
        let link = end.link;
        self.tell(life.0, |peer, now| match role {
            None => peer.dialled(to, link, now),
            Some(role) => peer.leader_dialled(role, link, now),
        });
    }

    pub(super) fn accepted(&mut self, life: Life, wire: u64) {
        let listens = self.nodes[&life.0].listens;
        let Some(known) = self
            .wires
            .get_mut(&wire)
            .filter(|_| self.nodes[&life.0].life == life.1)
        else {
            return;
        };
        let port = known.port;
        let end = &mut known.ends[ACCEPTOR];
        if end.is_closed {
            return;
        }
        end.is_known = true;
        let link = end.link;
        match port {
            Port::Election => {}
            Port::Quorum if !listens => self.hang_up(life.0, link),
            Port::Quorum => {
                self.tell(life.0, |peer, now| peer.learner_connected(link, now));
            }
        }
    }

    // Ends.

    /// A member closes a connection, behind what it has sent.
    pub(super) fn hang_up(&mut self, sid: ServerId, link: LinkId) {
        let delay = self.profile.delay_us;
        if let Some((wire, at)) = self.wire_of(sid, link) {
            wire.ends[at].is_closed = true;
            let wire = self.places[&link].0;
            self.within(delay, Event::Gone(wire, 1 - at));
        }
        self.node(sid)
            .reading
            .take_if(|reading| reading.link == link);
        self.call(sid, |member, now| member.link_closed(link, now));
    }

    /// A connection breaks: what was on its way is lost.
    pub(super) fn snap(&mut self, wire: u64) {
        let delay = self.profile.delay_us;
        if let Some(known) = self.wires.get_mut(&wire) {
            known.is_broken = true;
            self.counts.breaks += 1;
            for at in [DIALLER, ACCEPTOR] {
                self.within(10 * delay, Event::Gone(wire, at));
            }
        }
    }

    /// The connections of a process that has died.
    pub(super) fn forget_connections(&mut self, sid: ServerId, death: Death) {
        let mut others = Vec::new();
        for (number, wire) in &mut self.wires {
            for at in [DIALLER, ACCEPTOR] {
                if wire.ends[at].sid == sid && !wire.ends[at].is_closed {
                    wire.ends[at].is_closed = true;
                    others.push((*number, 1 - at));
                }
            }
        }
        let longest = match death {
            Death::Kill => self.profile.delay_us,
            Death::PowerCut => DARK_US,
        };
        for (wire, at) in others {
            self.within(longest, Event::Gone(wire, at));
        }
    }

    pub(super) fn gone(&mut self, number: u64, at: usize) {
        let Some(wire) = self.wires.get(&number) else {
            return;
        };
        let (end, other) = (&wire.ends[at], &wire.ends[1 - at]);
        if end.is_closed {
            return;
        }
        let waits = !wire.is_broken && !wire.is_drained(at) && end.is_known;
        let is_unheard = !wire.is_broken && self.is_blocked(other.sid, end.sid);
        if waits || is_unheard || !end.is_known && self.is_up(end.sid) && !wire.is_broken {
            return self.after(AGAIN_US, Event::Gone(number, at));
        }
        let (sid, link, is_known) = (end.sid, end.link, end.is_known);
        let is_greeted = end.is_greeted || at == DIALLER || wire.port == Port::Quorum;
        if let Some(wire) = self.wires.get_mut(&number) {
            wire.ends[at].is_closed = true;
        }
        self.node(sid)
            .reading
            .take_if(|reading| reading.link == link);
        if is_known && is_greeted {
            self.call(sid, |member, now| member.link_closed(link, now));
            self.drive(sid);
        }
    }

    // Bytes.

    pub(super) fn wire_of(&mut self, sid: ServerId, link: LinkId) -> Option<(&mut Wire, usize)> {
        let (wire, at) = *self.places.get(&link)?;
        let wire = self.wires.get_mut(&wire)?;
        let end = &wire.ends[at];
        (end.sid == sid && !end.is_closed).then_some((wire, at))
    }

    pub(super) fn send(&mut self, sid: ServerId, link: LinkId, bytes: Vec<u8>) {
        // It may die between any two things that it says.
        let is_said = self.nodes[&sid].log.outside_effect();
        if !is_said {
            self.survives(sid);
            return;
        }
        let arrives = self.now_us + self.rng.u64(0..=self.profile.delay_us);
        let Some((wire, at)) = self.wire_of(sid, link) else {
            return;
        };
        wire.ends[at].is_untaken = true;
        let arrives = wire.send(at, bytes, arrives);
        if !wire.ends[1 - at].is_expected {
            wire.ends[1 - at].is_expected = true;
            let wire = self.places[&link].0;
            self.queue.at(arrives, Event::Arrive(wire, 1 - at));
        }
    }

    /// Its connections are soon asked for what they have to say.
    pub(super) fn pump_soon(&mut self, sid: ServerId) {
        let life = self.life(sid);
        let node = self.node(sid);
        if node.member.is_some() && !std::mem::replace(&mut node.is_pump_due, true) {
            let later = match self.rng.bool() {
                true => 0,
                false => self.profile.delay_us / 4,
            };
            self.within(later, Event::Pump(life));
        }
    }

    pub(super) fn pump(&mut self, life: Life) {
        if !self.is_alive(life) {
            return;
        }
        let sid = life.0;
        self.node(sid).is_pump_due = false;
        let mut to_do = Vec::new();
        for wire in self.wires.values_mut().filter(|wire| !wire.is_broken) {
            for at in [DIALLER, ACCEPTOR] {
                let has_room = wire.has_room(at);
                let end = &mut wire.ends[at];
                if end.sid != sid || end.is_closed || !end.is_known || !has_room {
                    continue;
                }
                match wire.port {
                    Port::Election if !std::mem::take(&mut end.wants_to_say) => {}
                    Port::Quorum if at == DIALLER => {}
                    port => to_do.push((port, end.link)),
                }
            }
        }
        for (port, link) in to_do {
            let mut bytes = Vec::new();
            let said = self.call(sid, |member, now| {
                member.tell_peer(now, |peer| match port {
                    Port::Quorum => peer.fetch(link, FETCH_MAX, now.tick, &mut bytes),
                    Port::Election => drop(peer.notification(link, &mut bytes)),
                })
            });
            if said.is_none() {
                return;
            }
            let is_any = !bytes.is_empty();
            if is_any {
                self.send(sid, link, bytes);
            }
            let taken = |end: &mut super::wire::End| std::mem::take(&mut end.is_untaken);
            let is_taken = self
                .wire_of(sid, link)
                .is_some_and(|(wire, at)| taken(&mut wire.ends[at]));
            if port == Port::Quorum && is_taken {
                self.call(sid, |member, now| member.taken(link, now));
            }
            if is_any || is_taken {
                self.drive(sid);
            }
        }
    }

    pub(super) fn arrive(&mut self, number: u64, at: usize) {
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        wire.ends[at].is_expected = false;
        let (sid, link, port) = (wire.ends[at].sid, wire.ends[at].link, wire.port);
        if wire.ends[at].is_closed || wire.is_broken {
            return;
        }
        let from = wire.ends[1 - at].sid;
        let (is_known, is_cut) = (wire.ends[at].is_known, self.is_blocked(from, sid));
        let member = self.nodes[&sid].member.as_ref();
        let takes = port == Port::Election
            || at == ACCEPTOR
            || member.is_some_and(|member| member.takes_packets());
        self.counts.held_for_room += u64::from(!takes);
        if !is_known || is_cut || !takes {
            return self.expect(number, at, AGAIN_US);
        }
        let now_us = self.now_us;
        let max = match self.rng.u32(0..4) {
            0 => self.rng.usize(1..=self.profile.read_max),
            _ => usize::MAX,
        };
        if let Some(wire) = self.wires.get_mut(&number) {
            wire.ends[at].take(now_us, max);
        }
        while self.violation.is_none() && self.read(sid, link) {}
        let next = self
            .wires
            .get(&number)
            .and_then(|wire| wire.ends[at].next_at());
        if let Some(next) = next {
            self.expect(number, at, next.saturating_sub(now_us));
        }
        // There is room again for what the other one has to say.
        self.pump_soon(from);
    }

    /// Bytes arrive in so long.
    fn expect(&mut self, number: u64, at: usize, later: u64) {
        if let Some(wire) = self.wires.get_mut(&number)
            && !std::mem::replace(&mut wire.ends[at].is_expected, true)
        {
            self.after(later, Event::Arrive(number, at));
        }
    }

    /// Reads one message, if there is a whole one.
    fn read(&mut self, sid: ServerId, link: LinkId) -> bool {
        let is_snapshot = self.nodes[&sid]
            .reading
            .as_ref()
            .is_some_and(|reading| reading.link == link);
        let Some((wire, at)) = self.wire_of(sid, link) else {
            return false;
        };
        let (port, bytes) = (wire.port, std::mem::take(&mut wire.ends[at].has));
        if bytes.is_empty() {
            return false;
        }
        let is_greeted = wire.ends[at].is_greeted;
        let used = match (port, at) {
            (Port::Election, ACCEPTOR) if !is_greeted => self.hello(sid, link, &bytes),
            (Port::Election, _) => self.notification(sid, link, &bytes),
            (Port::Quorum, _) if is_snapshot => self.snapshot(sid, link, &bytes),
            (Port::Quorum, DIALLER) => self.leader_says(sid, link, &bytes),
            (Port::Quorum, _) => self.learner_says(sid, link, &bytes),
        };
        if let Some((wire, at)) = self.wire_of(sid, link) {
            wire.ends[at].has = bytes[used..].to_vec();
        }
        used > 0
    }

    fn hello(&mut self, sid: ServerId, link: LinkId, bytes: &[u8]) -> usize {
        match Hello::split(bytes) {
            Ok(Some((hello, used))) => {
                if let Some((wire, at)) = self.wire_of(sid, link) {
                    wire.ends[at].is_greeted = true;
                }
                self.tell(sid, |peer, now| peer.accepted(link, hello, now));
                used
            }
            Ok(None) => 0,
            Err(error) => self.unreadable(sid, &error),
        }
    }

    fn notification(&mut self, sid: ServerId, link: LinkId, bytes: &[u8]) -> usize {
        match notification::split(bytes) {
            Frame::Whole(payload, used) => {
                match Notification::decode(payload) {
                    Ok(n) => drop(self.tell(sid, |peer, now| peer.notified(link, &n, now))),
                    Err(error) => drop(self.unreadable(sid, &error)),
                }
                used
            }
            _ => 0,
        }
    }

    fn leader_says(&mut self, sid: ServerId, link: LinkId, bytes: &[u8]) -> usize {
        let (packet, used) = match split(bytes, MAX) {
            Ok(Split::Whole(packet, used)) => (packet, used),
            Ok(_) => {
                self.tell(sid, |peer, now| peer.heard(link, now));
                return 0;
            }
            Err(error) => return self.unreadable(sid, &error),
        };
        let packet = match ToLearner::decode(&packet) {
            Ok(packet) => packet,
            Err(error) => return self.unreadable(sid, &error),
        };
        let is_current = self.wire_of(sid, link).is_some_and(|(wire, at)| {
            wire.ends[at].is_current |= matches!(packet, ToLearner::UpToDate);
            wire.ends[at].is_current
        });
        let is_step = matches!(
            packet,
            ToLearner::Diff(_)
                | ToLearner::Trunc(_)
                | ToLearner::Snap(_)
                | ToLearner::NewLeader { .. }
        );
        if is_step && let Some((wire, at)) = self.wire_of(sid, link) {
            let leader = wire.ends[1 - at].sid;
            self.tempt([sid, leader]);
        }
        match packet {
            ToLearner::Diff(_) => self.counts.diffs += 1,
            ToLearner::Trunc(_) => self.counts.truncs += 1,
            ToLearner::Snap(_) => self.counts.snaps += 1,
            ToLearner::Commit(_) if !is_current => self.counts.commits_before_uptodate += 1,
            _ => {}
        }
        self.call(sid, |member, now| member.from_leader(link, &packet, now));
        self.drive(sid);
        used
    }

    fn learner_says(&mut self, sid: ServerId, link: LinkId, bytes: &[u8]) -> usize {
        let (packet, used) = match split(bytes, MAX) {
            Ok(Split::Whole(packet, used)) => (packet, used),
            Ok(_) => return 0,
            Err(error) => return self.unreadable(sid, &error),
        };
        match ToLeader::decode(&packet) {
            Ok(packet) => {
                self.call(sid, |member, now| member.from_learner(link, &packet, now));
                self.drive(sid);
                used
            }
            Err(error) => self.unreadable(sid, &error),
        }
    }

    fn unreadable(&mut self, sid: ServerId, error: &dyn std::fmt::Display) -> usize {
        self.broken(format!("{sid} can't read what a member says: {error}"));
        0
    }

    /// A part of a snapshot: its length, then its body.
    fn snapshot(&mut self, sid: ServerId, link: LinkId, bytes: &[u8]) -> usize {
        let node = self.node(sid);
        let Some(reading) = &mut node.reading else {
            return 0;
        };
        let used = match reading.left {
            None => {
                let Some(length) = bytes.first_chunk() else {
                    return 0;
                };
                reading.left = Some(u64::from_be_bytes(*length));
                8
            }
            Some(left) => {
                let some = bytes.len().min(left as usize);
                let pushed = reading.receiving.push(&bytes[..some]);
                reading.left = Some(left - some as u64);
                if !self.survives(sid) {
                    return 0;
                }
                if pushed.is_err() {
                    self.hang_up(sid, link);
                    self.drive(sid);
                    return 0;
                }
                some
            }
        };
        self.tell(sid, |peer, now| peer.heard(link, now));
        if self.nodes[&sid]
            .reading
            .as_ref()
            .is_some_and(|reading| reading.left == Some(0))
        {
            self.is_read(sid, link);
        }
        used
    }

    /// All of a snapshot has come.
    fn is_read(&mut self, sid: ServerId, link: LinkId) {
        let Some(reading) = self.node(sid).reading.take() else {
            return;
        };
        let finished = reading.receiving.finish();
        if !self.survives(sid) {
            return;
        }
        match finished {
            Ok((received, _)) => {
                self.call(sid, |member, now| {
                    member.snapshot_received(link, received, now)
                });
            }
            // Without room for it nothing is gone on with.
            Err(_) => self.hang_up(sid, link),
        }
        self.drive(sid);
    }
}
