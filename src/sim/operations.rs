//! What the clients do: connect, ask, fall silent, hang up, come back elsewhere.

use super::base::{Base, Event, Profile, TICK_MS};
use super::checks::{At, Checks};
use super::client::{Client, Phase};
use super::config::{FRAME_MAX, TIMEOUT_MAX_MS, TIMEOUT_MIN_MS, size};
use super::draw::{
    change_root, heavier, random_items, random_large, random_long_read,
    random_long_read_of_the_root, random_op, random_read, recreate, sure_write,
};
use super::identity::USERS;
use super::lists::Lists;
use super::names::random_path;
use super::network::{Came, Frame, Network, Pace, Place};
use super::op::Op;
use super::outcome::Fault;
use super::truth::Truth;
use super::wire::Wire;
use crate::shard::Why;
use crate::types::{ErrorCode, OpCode, SessionId, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// Strangers who stand before a client in a crowd.
const CROWD_MAX: u32 = 100;
/// Requests under way of a client that sends as fast as it can.
const FLOOD_MAX: usize = 200;
/// Transactions with several creates each by which a list of the children of the root gets long.
const FILLS: u32 = 14;
/// Whoever asks has a reply within this time, where nothing fails, µs: many times what syncs and turns take.
const ANSWERED_US: u64 = 1_000_000;
/// The same of one that reads slowly.
const TRICKLE_MAX: usize = 120;
/// Of so many requests one deletes or creates an ephemeral that is or was somebody's.
const RECREATES_ONE_IN: u32 = 64;
/// Such paths that are remembered: what is created anew is deleted again, and the other way round.
const RECREATED_MAX: usize = 8;
/// Ephemerals of a session that closes which others, and it itself, may ask for at that moment.
const SNATCHED_MAX: usize = 16;

/// The clients.
pub(super) struct Operations {
    clients: Vec<Client>,
    /// The connection that each client uses.
    current: Vec<Option<usize>>,
    silent_until: Vec<u64>,
    /// Since when each client has had requests without a reply, and got none, µs.
    waits_since: Vec<u64>,
    /// How often the root was filled.
    fills: u32,
    /// Who waits for long to be let in.
    patient: Vec<bool>,
    /// The newest state shown to any client.
    shown: Zxid,
    /// The client that sends as fast as it can, if there is one.
    firehose: Option<usize>,
    /// Where there are lists without end.
    lists: Option<Lists>,
    /// Ephemerals that somebody was about to delete or to create anew, the last ones.
    recreated: VecDeque<Arc<str>>,
}

impl Operations {
    pub(super) fn new(clients: usize, firehose: bool, profile: &Profile) -> Operations {
        let client = |id| {
            let mut client = Client::new(id);
            client.must_authenticate = profile.must_authenticate;
            client
        };
        Operations {
            clients: (0..clients).map(client).collect(),
            current: vec![None; clients],
            silent_until: vec![0; clients],
            waits_since: vec![0; clients],
            fills: 0,
            patient: vec![false; clients],
            shown: Zxid::ZERO,
            firehose: firehose.then_some(0),
            lists: profile.has_many_lists.then(Lists::default),
            recreated: VecDeque::new(),
        }
    }

    pub(super) fn begin(&self, base: &mut Base) {
        for client in 0..self.clients.len() {
            let delay = base.rng.u64(0..20_000);
            base.at(delay, Event::Step { client });
        }
    }

    /// The last fault is over: a write of everybody must succeed again. Who read slowly gives up what it has asked
    /// for: behind small buffers that is more than leaves within the time that the calm has.
    pub(super) fn calm_down(&mut self, base: &mut Base, network: &mut Network) {
        for id in 0..self.clients.len() {
            let current = self.current[id];
            if let Some(connection) = current.filter(|of| network.connections[*of].was_slow()) {
                self.clients[id].disconnected();
                self.current[id] = None;
                network.close_by_client(connection, true, base);
            }
        }
        self.silent_until.fill(0);
        for client in &mut self.clients {
            client.has_written = false;
        }
    }

    /// Whether somebody waits for an answer, or has not written since the last fault.
    pub(super) fn is_waiting(&self) -> bool {
        let waits =
            |c: &Client| c.outstanding() > 0 || c.phase == Phase::Connecting || !c.has_written;
        self.clients.iter().any(waits)
    }

    /// Who waits for how many answers.
    pub(super) fn waiting(&self) -> Vec<(usize, Phase, usize)> {
        let clients = self.clients.iter();
        clients.map(|c| (c.id, c.phase, c.outstanding())).collect()
    }

    /// Nobody says anything any more.
    pub(super) fn fall_silent(&mut self) {
        self.silent_until.fill(u64::MAX);
    }

    // ---- what arrives ----

    /// Something of a client may have reached the server's kernel. `stalled`: a shard was held
    /// still, and must not keep sessions alive that it does not serve.
    pub(super) fn reached_server(
        &mut self,
        connection: usize,
        came: Came,
        now_us: u64,
        stalled: bool,
        network: &mut Network,
        checks: &mut Checks,
    ) {
        let of = &mut network.connections[connection];
        let Some(id) = of.client else { return };
        let (client, expiry) = (&self.clients[id], &mut checks.expiry);
        let at = match of.place {
            Place::Open(core, _) => At::Shard(core),
            _ => At::Backlog,
        };
        if came == Came::Request
            && let Some((session, timeout_ms)) = of.asks.take()
        {
            expiry.asked(session, timeout_ms, now_us);
            if !stalled {
                expiry.waits_to_attach(connection, session, timeout_ms, at, now_us);
            }
        }
        let counts = came != Came::Nothing && of.answered && !client.is_closing();
        if counts && self.current[id] == Some(connection) {
            expiry.heard(client.session, client.timeout_ms, at, now_us);
            expiry.waits(connection, client.session, now_us);
        }
    }

    /// Bytes of the server reach a client, which checks them.
    pub(super) fn reach_client(
        &mut self,
        connection: usize,
        bytes: &[u8],
        base: &mut Base,
        network: &Network,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let of = &network.connections[connection];
        let Some(id) = of.client.filter(|_| of.heard) else {
            return Ok(());
        };
        if self.current[id] != Some(connection) {
            return Ok(());
        }
        let client = &mut self.clients[id];
        let session = client.session;
        let heard = client
            .receive(bytes, &checks.truth)
            .map_err(|e| format!("client {id}: {e}"))?;
        base.counters.replies += u64::from(heard.replies);
        if heard.replies > 0 {
            self.waits_since[id] = base.now_us;
        }
        base.counters.events += u64::from(heard.events);
        base.counters.refused += u64::from(heard.refused);
        base.heard(&heard);
        if base.counters.refused > base.refusals {
            return Err(format!("client {id} was refused, and the server did not"));
        }
        self.shown = self.shown.max(heard.zxid);
        checks.truth.reveal(heard.zxid);
        if heard.attached {
            let created = checks.truth.session(client.session);
            let (created, _) = created.ok_or("attached to a session that was never created")?;
            checks.truth.reveal(created);
            // Clients ping when a third of their timeout is over.
            if !base.calm && !base.profile.has_lister && base.rng.u32(0..3) == 0 {
                let timeout_us = client.timeout_ms.max(0) as u64 * 1000;
                self.silent_until[id] = base.now_us + base.rng.u64(0..=timeout_us * 2 / 3);
            }
        }
        if heard.dead {
            if let Some((_, None)) = checks.truth.session(session) {
                return Err(format!(
                    "client {id}: live session {session} was answered dead"
                ));
            }
            client.forget_session();
        }
        Ok(())
    }

    /// The server's end of a connection reaches its client.
    pub(super) fn close_at_client(&mut self, connection: usize, network: &mut Network) {
        let of = &mut network.connections[connection];
        of.heard = false;
        let Some(id) = of.client else { return };
        if self.current[id] == Some(connection) {
            self.current[id] = None;
            let client = &mut self.clients[id];
            if client.is_closing() && client.outstanding() == 0 {
                client.forget_session();
            }
            client.disconnected();
        }
    }

    // ---- what they do ----

    pub(super) fn step(
        &mut self,
        id: usize,
        listens: bool,
        base: &mut Base,
        network: &mut Network,
        truth: &mut Truth,
    ) {
        let delay = match base.calm {
            true => 20_000,
            false if base.profile.has_lister && id > 0 => base.rng.u64(300..1_500),
            false if self.firehose == Some(id) => base.rng.u64(200..2_000),
            false => base.rng.u64(500..12_000),
        };
        base.at(delay, Event::Step { client: id });
        if self.clients[id].phase != Phase::Online || self.clients[id].outstanding() == 0 {
            self.waits_since[id] = base.now_us;
        }
        if self.silent_until[id] > base.now_us {
            return;
        }
        if listens && !base.calm && !base.profile.has_lister && base.rng.u32(0..200) == 0 {
            match base.rng.u32(0..4) {
                0 => self.intrude(base, network),
                _ => stranger(base, network),
            }
        }
        match self.clients[id].phase {
            Phase::Offline if listens => self.connect(id, base, network, truth),
            Phase::Offline => {}
            Phase::Connecting => {
                let one_in = match self.patient[id] {
                    true => 2_000,
                    false => 60,
                };
                if base.rng.u32(0..one_in) == 0 {
                    self.hang_up(id, base, network);
                }
            }
            Phase::Online if self.clients[id].is_fresh => self.greet(id, base, network, truth),
            Phase::Online if base.calm => {
                let client = &self.clients[id];
                if client.outstanding() == 0 {
                    let op = match client.has_written {
                        true => Op::Ping,
                        false => sure_write(),
                    };
                    self.request(id, op, base, network, truth);
                }
            }
            Phase::Online if base.profile.has_lister && id == 0 => {
                self.list(id, base, network, truth)
            }
            Phase::Online if base.profile.has_lister => self.change(id, base, network, truth),
            Phase::Online if self.firehose == Some(id) => self.flood(id, base, network, truth),
            Phase::Online if self.is_slow(id, base, network) => {
                self.trickle(id, base, network, truth)
            }
            Phase::Online => self.work(id, listens, base, network, truth),
        }
    }

    /// Where nothing fails, and there is room for everything, whoever asks is answered soon.
    pub(super) fn is_answered(&self, id: usize, base: &Base) -> Result<(), String> {
        let waits_us = base.now_us - self.waits_since[id];
        match base.profile.has_lister && !base.calm && waits_us > ANSWERED_US {
            true => Err(format!(
                "client {id} got no reply for {} ms, {} requests wait",
                waits_us / 1000,
                self.clients[id].outstanding()
            )),
            false => Ok(()),
        }
    }

    /// One client lists much again and again, and pings as clients do.
    fn list(&mut self, id: usize, base: &mut Base, network: &mut Network, truth: &mut Truth) {
        let op = match self.clients[id].outstanding() {
            0 => random_long_read_of_the_root(&mut base.rng),
            _ if base.rng.u32(0..8) == 0 => Op::Ping,
            _ => return,
        };
        self.request(id, op, base, network, truth);
    }

    /// The others change the children of the root.
    fn change(&mut self, id: usize, base: &mut Base, network: &mut Network, truth: &mut Truth) {
        if self.clients[id].outstanding() < 4 {
            self.fills += u32::from(self.fills < FILLS);
            let op = change_root(&mut base.rng, id, self.fills < FILLS);
            self.request(id, op, base, network, truth);
        }
    }

    fn work(
        &mut self,
        id: usize,
        listens: bool,
        base: &mut Base,
        network: &mut Network,
        truth: &mut Truth,
    ) {
        match base.rng.u32(0..1000) {
            0..8 => self.hang_up(id, base, network),
            8..16 if listens => self.move_elsewhere(id, base, network, truth),
            16..22 => self.close_session(id, base, network, truth),
            22..30 => self.silent_until[id] = base.now_us + base.rng.u64(0..3_000_000),
            30..36 => self.read_later(id, base, network),
            86..92 => self.read_slowly(id, base, network),
            _ if self.clients[id].is_at_its_end() => {}
            36..86 => self.set_watches(id, base, network, truth),
            92..96 => self.send_too_much(id, base, network),
            96..99 => self.begin_anew(id, base, network),
            136..176 if base.crowded => self.stay_away(id, base, network),
            _ => {
                let room = 12_usize.saturating_sub(self.clients[id].outstanding());
                let most = base.rng.usize(0..4).min(room);
                let ops: Vec<Op> = (0..most).map(|_| self.draw(id, base, truth)).collect();
                match base.rng.bool() {
                    // Several frames that the server may read at once.
                    true => self.requests(id, ops, base, network, truth),
                    false => {
                        for op in ops {
                            self.request(id, op, base, network, truth);
                        }
                    }
                }
            }
        }
    }

    fn draw(&mut self, id: usize, base: &mut Base, truth: &Truth) -> Op {
        if base.rng.u32(0..RECREATES_ONE_IN) == 0
            && let Some(path) = self.ephemeral_of_somebody(base, truth)
        {
            return recreate(&mut base.rng, &path);
        }
        if let Some(lists) = &mut self.lists
            && let Some(op) = lists.random_op(&mut base.rng)
        {
            return op;
        }
        if base.is_filled && base.rng.bool() {
            // What is allowed while the disk is full.
            return Op::Delete {
                path: random_path(&mut base.rng),
                version: -1,
            };
        }
        let quotas = base.profile.has_quotas;
        let op = random_op(&mut base.rng, id, quotas);
        match base.profile.has_slow_spares() {
            true => heavier(op, &mut base.rng),
            false => op,
        }
    }

    /// An ephemeral that somebody has, or that was deleted or created anew lately.
    fn ephemeral_of_somebody(&mut self, base: &mut Base, truth: &Truth) -> Option<Arc<str>> {
        if base.rng.bool() && !self.recreated.is_empty() {
            return base.rng.choice(&self.recreated).cloned();
        }
        let session = base.rng.choice(&self.clients)?.session;
        let path = base.rng.choice(truth.owned(session))?;
        self.recreated.push_back(path.clone());
        if self.recreated.len() > RECREATED_MAX {
            self.recreated.pop_front();
        }
        Some(path)
    }

    /// The client closes its session. Now and then some of its ephemerals are deleted and created anew by requests
    /// that are under way at that moment: its own, or those of others.
    fn close_session(
        &mut self,
        id: usize,
        base: &mut Base,
        network: &mut Network,
        truth: &mut Truth,
    ) {
        let mut own = Vec::new();
        if base.rng.bool() {
            let owned = truth.owned(self.clients[id].session);
            for path in owned.iter().take(SNATCHED_MAX) {
                let by = base.rng.usize(0..2 * self.clients.len());
                let Some(client) = self.clients.get(by) else {
                    continue;
                };
                let op = recreate(&mut base.rng, path);
                if by == id {
                    own.push(op);
                } else if client.phase == Phase::Online && !client.is_fresh {
                    self.request(by, op, base, network, truth);
                }
            }
        }
        own.push(Op::Close);
        if base.rng.u32(0..3) == 0 {
            // What comes behind it is not executed, and not answered.
            for _ in 0..base.rng.u32(1..4) {
                own.push(self.draw(id, base, truth));
            }
        }
        self.requests(id, own, base, network, truth);
    }

    /// What a client says first on a connection: who it is, and all that it has watched.
    fn greet(&mut self, id: usize, base: &mut Base, network: &mut Network, truth: &mut Truth) {
        let client = &mut self.clients[id];
        client.is_fresh = false;
        let mut ops = Vec::new();
        let must = client.must_authenticate;
        let identifies = match must {
            // Now and then too late, or by what does not do.
            true => base.calm || base.rng.u32(0..12) > 0,
            false => !id.is_multiple_of(3) && !base.calm && base.rng.u32(0..4) > 0,
        };
        if must && !base.calm && base.rng.u32(0..8) == 0 {
            ops.push(Op::Auth {
                scheme: Some("ip"),
                data: [None, Some(&b""[..])][base.rng.usize(0..2)],
            });
        }
        if identifies {
            let user = match base.rng.u32(0..16) {
                0 => 2,
                _ => (id + 2) % 3 % 2,
            };
            ops.push(Op::Auth {
                scheme: Some("digest"),
                data: Some(USERS[user].0),
            });
        }
        while let Some(again) = client.set_again(base.rng.usize(1..8), base.rng.bool()) {
            ops.push(again);
        }
        // The server does not count auth as a sign of life.
        ops.push(Op::Ping);
        self.requests(id, ops, base, network, truth);
    }

    /// The client sets watches again that it may not have had.
    fn set_watches(
        &mut self,
        id: usize,
        base: &mut Base,
        network: &mut Network,
        truth: &mut Truth,
    ) {
        if base.rng.u32(0..4) > 0 {
            return;
        }
        let op = Op::SetWatches {
            seen: Zxid(base.rng.i64(0..=self.clients[id].last_zxid.0)),
            items: random_items(&mut base.rng).into_iter().collect(),
        };
        self.request(id, op, base, network, truth);
    }

    /// The client sends as fast as it can, and reads when it likes to.
    fn flood(&mut self, id: usize, base: &mut Base, network: &mut Network, truth: &mut Truth) {
        for _ in 0..base.rng.u32(1..32) {
            if self.clients[id].outstanding() >= FLOOD_MAX {
                break;
            }
            let op = match base.rng.u32(0..20) {
                0..12 => Op::Ping,
                12..19 => random_read(&mut base.rng),
                _ => self.draw(id, base, truth),
            };
            self.request(id, op, base, network, truth);
        }
        if base.rng.u32(0..100) == 0 {
            self.read_later(id, base, network);
        }
    }

    /// The client reads nothing for a while.
    fn read_later(&self, id: usize, base: &mut Base, network: &mut Network) {
        if let Some(connection) = self.current[id] {
            // Now and then for longer than its session would live.
            let most = match base.rng.u32(0..8) {
                0 => 2_500_000,
                _ => 400_000,
            };
            let until = base.now_us + base.rng.u64(0..most);
            network.connections[connection].reads_again_at = until;
        }
    }

    /// The client takes its replies piece by piece for a while, mostly for longer than its session would live without
    /// a sign of life.
    fn read_slowly(&self, id: usize, base: &mut Base, network: &mut Network) {
        let Some(connection) = self.current[id] else {
            return;
        };
        let pace = Pace {
            until_us: base.now_us + base.rng.u64(100_000..3_000_000),
            gap_us: base.rng.u64(2_000..60_000),
            piece: size(&mut base.rng, 2048),
        };
        let send_buffer = size(&mut base.rng, 4096);
        network.connections[connection].reads_slowly(pace, send_buffer);
        base.counters.slow_readers += 1;
    }

    fn is_slow(&self, id: usize, base: &Base, network: &Network) -> bool {
        let connection = self.current[id].map(|connection| &network.connections[connection]);
        !base.calm && connection.is_some_and(|of| of.is_slow(base.now_us))
    }

    /// A client that reads slowly asks for much. Every other one does so all the while, and pings; the others ask for
    /// all at once, and say nothing more until they have every reply.
    fn trickle(&mut self, id: usize, base: &mut Base, network: &mut Network, truth: &mut Truth) {
        let client = &self.clients[id];
        if client.is_at_its_end() {
            return;
        }
        let room = TRICKLE_MAX.saturating_sub(client.outstanding());
        let most = match id.is_multiple_of(2) {
            true => base.rng.usize(0..16).min(room),
            false if client.outstanding() == 0 => TRICKLE_MAX,
            false => 0,
        };
        let mut ops = Vec::new();
        for _ in 0..most {
            ops.push(match base.rng.u32(0..8) {
                0 => random_long_read(&mut base.rng),
                1 => self.draw(id, base, truth),
                _ => random_large(&mut base.rng, id),
            });
        }
        if id.is_multiple_of(2) && base.rng.u32(0..8) == 0 {
            ops.push(Op::Ping);
        }
        self.requests(id, ops, base, network, truth);
    }

    /// Bytes that the requests under way at a core may add to what is watched there, as the server estimates them.
    pub(super) fn watches_under_way(
        &self,
        core: u16,
        ended: &[usize],
        network: &Network,
        truth: &Truth,
    ) -> usize {
        let mut bytes = 0;
        for (connection, of) in network.connections.iter().enumerate() {
            let is_there = matches!(of.place, Place::Open(at, _) if at == core);
            if !is_there && !ended.contains(&connection) {
                continue;
            }
            let Some(id) = of.client else { continue };
            if self.current[id] != Some(connection) {
                // Nobody knows what became of its requests.
                return usize::MAX;
            }
            bytes += self.clients[id].watches_under_way(truth);
        }
        bytes
    }

    /// The client opens a second connection and forgets the first, requests under way.
    fn move_elsewhere(
        &mut self,
        id: usize,
        base: &mut Base,
        network: &mut Network,
        truth: &mut Truth,
    ) {
        base.counters.steals += 1;
        let reads = base.rng.bool();
        for _ in 0..base.rng.u32(1..4) {
            let op = match reads {
                true => random_long_read(&mut base.rng),
                false => self.draw(id, base, truth),
            };
            self.request(id, op, base, network, truth);
        }
        let old = self.current[id];
        self.connect(id, base, network, truth);
        if let Some(old) = old {
            self.keep_asking(old, base, network);
        }
    }

    fn request(
        &mut self,
        id: usize,
        op: Op,
        base: &mut Base,
        network: &mut Network,
        truth: &mut Truth,
    ) {
        self.requests(id, vec![op], base, network, truth);
    }

    /// Requests whose frames leave together.
    fn requests(
        &mut self,
        id: usize,
        ops: Vec<Op>,
        base: &mut Base,
        network: &mut Network,
        truth: &mut Truth,
    ) {
        let Some(connection) = self.current[id] else {
            return;
        };
        let client = &mut self.clients[id];
        let is_lone = ops.len() == 1 && client.outstanding() == 0 && client.phase == Phase::Online;
        let mut frames = Vec::new();
        for op in ops {
            if client.is_at_its_end() {
                frames.push(Frame {
                    bytes: client.send_in_vain(&op),
                    is_sign_of_life: false,
                });
                continue;
            }
            let shows = match op {
                // What is committed now is shown behind it.
                Op::Sync => self.shown.max(truth.last()),
                _ => self.shown,
            };
            let is_auth = matches!(op, Op::Auth { .. });
            let sent = client.send(op.clone(), shows, base.identities_max);
            let is_executed = sent.due == ErrorCode::OK;
            if is_executed {
                truth.asks(client.session, sent.xid, &op, &sent.who);
            } else {
                let before = frames.iter().map(|frame| frame.bytes.len() as u64);
                network.connections[connection].offends_behind(before.sum());
            }
            frames.push(Frame {
                bytes: sent.bytes,
                is_sign_of_life: is_executed && !is_auth,
            });
        }
        network.connections[connection].lone = is_lone;
        network.connections[connection].ends_itself |= client.is_refused();
        if let Some(why) = client.offence() {
            network.connections[connection]
                .known
                .offence
                .get_or_insert(why);
        }
        network.connections[connection].closes |= client.is_closing();
        network.send_frames(connection, frames, base);
    }

    /// Whether somebody else has the same session. Two losses were given up, the second with what was known of the
    /// first, and the clock stood: what was given to somebody then may come again. Whoever finds that out begins anew.
    fn shares_session(&self, id: usize) -> bool {
        let session = self.clients[id].session;
        let others = self.clients.iter().filter(|other| other.id != id);
        session != SessionId::NONE && others.map(|other| other.session).any(|of| of == session)
    }

    fn connect(&mut self, id: usize, base: &mut Base, network: &mut Network, truth: &mut Truth) {
        if base.crowded && !base.calm {
            for _ in 0..base.rng.u32(0..CROWD_MAX) {
                stranger(base, network);
            }
        }
        let losses = base.counters.faults.of(Fault::LossAccepted);
        if base.calm && losses > 1 && self.shares_session(id) {
            self.clients[id].forget_session();
        }
        let timeout = match base.rng.u32(0..20) {
            0 => base.rng.i32(-5..200),
            1 => [i32::MIN, TIMEOUT_MIN_MS, TIMEOUT_MAX_MS, i32::MAX][base.rng.usize(0..4)],
            _ => base.rng.i32(100..2_500),
        };
        let client = &mut self.clients[id];
        let due = timeout.clamp(TIMEOUT_MIN_MS, TIMEOUT_MAX_MS);
        let asks = (client.session, due);
        let bytes = client.connect(timeout, due);
        let presents = Some((client.session, client.last_zxid));
        let connection = network.connect(Some(id), client.first_xid, Some(asks), base);
        network.connections[connection].known.presents = presents;
        self.patient[id] = base.rng.u32(0..3) == 0;
        self.current[id] = Some(connection);
        network.send_to_server(connection, bytes, base);
        // Clients do not wait for the response.
        if self.clients[id].session != SessionId::NONE && base.rng.bool() {
            self.greet(id, base, network, truth);
        }
    }

    /// Somebody presents the session of another, with a password that is not its own, and wants to close it.
    fn intrude(&self, base: &mut Base, network: &mut Network) {
        let of = base.rng.choice(&self.clients).expect("there are some");
        let mut password = of.password.clone();
        if of.session == SessionId::NONE {
            return;
        }
        match base.rng.u32(0..4) {
            0 => password.clear(),
            1 => password.fill(0),
            2 => drop(password.pop()),
            _ => password[base.rng.usize(0..16)] ^= 1 << base.rng.u32(0..8),
        }
        base.counters.intruders += 1;
        let connection = network.connect(None, 0, None, base);
        network.connections[connection].is_intruder = true;
        network.connections[connection].known.presents = Some((of.session, Zxid::ZERO));
        let mut wire = Wire::default();
        wire.i32(0).i64(0).i32(1000).i64(of.session.0);
        wire.buf(Some(&password)).byte(0);
        let mut close = Wire::default();
        close.i32(1).i32(OpCode::CLOSE_SESSION.0);
        for bytes in [wire.frame(), close.frame()] {
            network.send_to_server(connection, bytes, base);
        }
        network.close_by_client(connection, false, base);
    }

    /// A write in a frame that is longer than the server takes: it is not executed, and ends the connection.
    fn send_too_much(&mut self, id: usize, base: &mut Base, network: &mut Network) {
        let Some(connection) = self.current[id].filter(|_| base.frame_max <= FRAME_MAX) else {
            return;
        };
        let much = base.frame_max + base.rng.usize(0..1000);
        let mut wire = Wire::default();
        wire.i32(1).i32(OpCode::SET_DATA.0);
        wire.op(&Op::SetData {
            path: "/n0".into(),
            data: Some(vec![0; much].into()),
            version: -1,
        });
        base.counters.frames_too_long += 1;
        self.clients[id].gives_offence();
        network.send_too_much(connection, wire.frame(), base);
    }

    /// Somebody goes on reading on a connection whose session moves away.
    fn keep_asking(&self, connection: usize, base: &mut Base, network: &mut Network) {
        let mut nobody = Client::new(self.clients.len());
        if base.profile.must_authenticate {
            let offence = &mut network.connections[connection].known.offence;
            offence.get_or_insert(Why::NotAdmitted);
        }
        for _ in 0..base.rng.u32(0..6) {
            let read = Op::Read {
                path: "/".into(),
                exists: true,
                watch: false,
            };
            let sent = nobody.send(read, Zxid::ZERO, 1);
            base.counters.stale_requests += 1;
            network.trail_to_server(connection, sent.bytes, base);
        }
        if base.rng.bool() {
            network.close_by_client(connection, false, base);
        }
    }

    fn hang_up(&mut self, id: usize, base: &mut Base, network: &mut Network) {
        base.counters.disconnects += 1;
        self.clients[id].disconnected();
        if let Some(connection) = self.current[id].take() {
            let reset = base.rng.u32(0..4) == 0;
            base.counters.resets += u64::from(reset);
            network.close_by_client(connection, reset, base);
        }
    }

    /// The client's process dies, and its kernel resets what it had; the next one knows nothing of its session.
    fn begin_anew(&mut self, id: usize, base: &mut Base, network: &mut Network) {
        base.counters.resets += 1;
        self.clients[id].disconnected();
        self.clients[id].forget_session();
        if let Some(connection) = self.current[id].take() {
            network.close_by_client(connection, true, base);
        }
    }

    /// The client comes back shortly before its session expires, or behind that.
    fn stay_away(&mut self, id: usize, base: &mut Base, network: &mut Network) {
        let timeout_us = self.clients[id].timeout_ms.max(0) as u64 * 1000;
        self.hang_up(id, base, network);
        self.silent_until[id] =
            base.now_us + base.rng.u64(timeout_us / 2..timeout_us + TICK_MS * 1000);
    }

    /// Everybody hangs up.
    pub(super) fn leave(&mut self, base: &mut Base, network: &mut Network) {
        self.current.fill(None);
        for connection in 0..network.connections.len() {
            let of = &network.connections[connection];
            if of.place != Place::Gone {
                // What somebody has asked for who read slowly leaves in no time that one would wait for.
                let reset = of.was_slow();
                network.close_by_client(connection, reset, base);
            }
        }
    }
}

/// Somebody connects who speaks no ZooKeeper, or says nothing.
fn stranger(base: &mut Base, network: &mut Network) {
    let connection = network.connect(None, 0, None, base);
    let said: &[u8] = match base.rng.u32(0..6) {
        0 => b"ruok",
        1 => b"sr",
        2 => b"\xff\xf4\xff\xfd\x06",
        3 => b"\0\0\0\0",
        4 => b"\x7f\xff\xff\xff",
        _ => b"",
    };
    if !said.is_empty() {
        network.send_to_server(connection, said.to_vec(), base);
    }
    if base.rng.bool() {
        network.close_by_client(connection, base.rng.bool(), base);
    }
}
