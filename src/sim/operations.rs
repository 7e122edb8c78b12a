//! What the clients do: connect, ask, fall silent, hang up, come back elsewhere.

use super::base::{Base, Event, TICK_MS};
use super::checks::{At, Checks};
use super::client::{Client, Phase};
use super::config::{TIMEOUT_MAX_MS, TIMEOUT_MIN_MS};
use super::network::{Came, Network, Place};
use super::op::{Op, random_items, random_op, random_read};
use crate::types::Zxid;

/// Strangers who stand before a client in a crowd.
const CROWD_MAX: u32 = 100;
/// Requests under way of a client that sends as fast as it can.
const FLOOD_MAX: usize = 200;

/// The clients.
pub(super) struct Operations {
    clients: Vec<Client>,
    /// The connection that each client uses.
    current: Vec<Option<usize>>,
    silent_until: Vec<u64>,
    /// The newest state shown to any client.
    shown: Zxid,
    /// The client that sends as fast as it can, if there is one.
    firehose: Option<usize>,
}

impl Operations {
    pub(super) fn new(clients: usize, firehose: bool) -> Operations {
        Operations {
            clients: (0..clients).map(Client::new).collect(),
            current: vec![None; clients],
            silent_until: vec![0; clients],
            shown: Zxid::ZERO,
            firehose: firehose.then_some(0),
        }
    }

    pub(super) fn begin(&self, base: &mut Base) {
        for client in 0..self.clients.len() {
            let delay = base.rng.u64(0..20_000);
            base.at(delay, Event::Step { client });
        }
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.clients
            .iter()
            .any(|c| c.outstanding() > 0 || c.phase == Phase::Connecting)
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
        base.counters.events += u64::from(heard.events);
        base.counters.refused += u64::from(heard.refused);
        if base.counters.refused > base.refusals {
            return Err(format!("client {id} was refused, and the server did not"));
        }
        self.shown = self.shown.max(heard.zxid);
        checks.truth.reveal(heard.zxid);
        if heard.attached {
            let created = checks.truth.session(client.session);
            let (created, _) = created.ok_or("attached to a session that was never created")?;
            checks.truth.reveal(created);
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
        base: &mut Base,
        network: &mut Network,
        listens: bool,
    ) {
        let delay = match base.calm {
            true => 20_000,
            false if self.firehose == Some(id) => base.rng.u64(200..2_000),
            false => base.rng.u64(500..12_000),
        };
        base.at(delay, Event::Step { client: id });
        if self.silent_until[id] > base.now_us {
            return;
        }
        if listens && !base.calm && base.rng.u32(0..200) == 0 {
            stranger(base, network);
        }
        match self.clients[id].phase {
            Phase::Offline if listens => self.connect(id, base, network),
            Phase::Offline => {}
            Phase::Connecting => {
                if base.rng.u32(0..60) == 0 {
                    self.hang_up(id, base, network);
                }
            }
            Phase::Online if base.calm => {
                if self.clients[id].outstanding() == 0 {
                    self.request(id, Op::Ping, base, network);
                }
            }
            Phase::Online if self.firehose == Some(id) => self.flood(id, base, network),
            Phase::Online => self.work(id, base, network, listens),
        }
    }

    fn work(&mut self, id: usize, base: &mut Base, network: &mut Network, listens: bool) {
        match base.rng.u32(0..1000) {
            0..8 => self.hang_up(id, base, network),
            8..16 if listens => self.move_elsewhere(id, base, network),
            16..22 => self.request(id, Op::Close, base, network),
            22..30 => self.silent_until[id] = base.now_us + base.rng.u64(0..3_000_000),
            30..36 => self.read_later(id, base, network),
            _ if self.clients[id].is_closing() => {}
            36..136 => self.set_watches(id, base, network),
            136..176 if base.crowded => self.stay_away(id, base, network),
            _ => {
                for _ in 0..base.rng.u32(0..4) {
                    if self.clients[id].outstanding() < 12 {
                        let op = random_op(&mut base.rng, id);
                        self.request(id, op, base, network);
                    }
                }
            }
        }
    }

    /// The client sets the watches again that it had on earlier connections, or some others.
    fn set_watches(&mut self, id: usize, base: &mut Base, network: &mut Network) {
        let client = &mut self.clients[id];
        let again = client.set_again(base.rng.usize(1..8), base.rng.bool());
        let op = match again {
            Some(again) => again,
            None if base.rng.u32(0..8) > 0 => return,
            None => Op::SetWatches {
                seen: Zxid(base.rng.i64(0..=client.last_zxid.0)),
                items: random_items(&mut base.rng).into_iter().collect(),
            },
        };
        self.request(id, op, base, network);
    }

    /// The client sends as fast as it can, and reads when it likes to.
    fn flood(&mut self, id: usize, base: &mut Base, network: &mut Network) {
        for _ in 0..base.rng.u32(1..32) {
            if self.clients[id].outstanding() >= FLOOD_MAX {
                break;
            }
            let op = match base.rng.u32(0..20) {
                0..12 => Op::Ping,
                12..19 => random_read(&mut base.rng),
                _ => random_op(&mut base.rng, id),
            };
            self.request(id, op, base, network);
        }
        if base.rng.u32(0..100) == 0 {
            self.read_later(id, base, network);
        }
    }

    /// The client reads nothing for a while.
    fn read_later(&self, id: usize, base: &mut Base, network: &mut Network) {
        if let Some(connection) = self.current[id] {
            let until = base.now_us + base.rng.u64(0..400_000);
            network.connections[connection].reads_again_at = until;
        }
    }

    /// The client opens a second connection and forgets the first, requests under way.
    fn move_elsewhere(&mut self, id: usize, base: &mut Base, network: &mut Network) {
        base.counters.steals += 1;
        for _ in 0..base.rng.u32(1..4) {
            let op = random_op(&mut base.rng, id);
            self.request(id, op, base, network);
        }
        let old = self.current[id];
        self.connect(id, base, network);
        if let Some(old) = old {
            self.keep_asking(old, base, network);
        }
    }

    fn request(&mut self, id: usize, op: Op, base: &mut Base, network: &mut Network) {
        let Some(connection) = self.current[id] else {
            return;
        };
        let client = &mut self.clients[id];
        if client.is_closing() {
            return;
        }
        network.connections[connection].lone = client.outstanding() == 0;
        let bytes = client.send(op, self.shown);
        network.send_to_server(connection, bytes, base);
    }

    fn connect(&mut self, id: usize, base: &mut Base, network: &mut Network) {
        if base.crowded && !base.calm {
            for _ in 0..base.rng.u32(0..CROWD_MAX) {
                stranger(base, network);
            }
        }
        let timeout = base.rng.i32(100..2_500);
        let client = &mut self.clients[id];
        let asks = (
            client.session,
            timeout.clamp(TIMEOUT_MIN_MS, TIMEOUT_MAX_MS),
        );
        let bytes = client.connect(timeout);
        let connection = network.connect(Some(id), client.first_xid, Some(asks), base);
        self.current[id] = Some(connection);
        network.send_to_server(connection, bytes, base);
    }

    /// Somebody goes on reading on a connection whose session moves away.
    fn keep_asking(&self, connection: usize, base: &mut Base, network: &mut Network) {
        let mut nobody = Client::new(self.clients.len());
        for _ in 0..base.rng.u32(0..6) {
            let read = Op::Read {
                path: "/".into(),
                exists: true,
                watch: false,
            };
            let bytes = nobody.send(read, Zxid::ZERO);
            base.counters.stale_requests += 1;
            network.trail_to_server(connection, bytes, base);
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
            if network.connections[connection].place != Place::Gone {
                network.close_by_client(connection, false, base);
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
