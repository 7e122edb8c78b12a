//! What a core that serves sees of the network: the simulator's side of the seam below the turn.

use super::base::Base;
use super::checks::{At, Checks};
use super::network::Network;
use crate::placement::{Accepted, Read, SocketId, Sockets, Wrote};
use crate::shard::ClientAddress;
use crate::types::SessionId;

/// The sockets of one core during one turn.
pub(super) struct KernelSockets<'a> {
    pub(super) core: u16,
    pub(super) base: &'a mut Base,
    pub(super) network: &'a mut Network,
    pub(super) checks: &'a mut Checks,
    /// No descriptor was left for the last connection that waited.
    pub(super) exhausted: bool,
    /// The first promise that was broken.
    pub(super) violation: Result<(), String>,
}

/// Where a client seems to be.
pub(super) fn address(connection: usize) -> ClientAddress {
    ClientAddress {
        address: "127.0.0.1".into(),
        port: connection as u16,
    }
}

impl KernelSockets<'_> {
    fn violated(&mut self, outcome: Result<(), String>) {
        if self.violation.is_ok() {
            self.violation = outcome;
        }
    }

    /// The connection behind a socket, which must be open.
    fn connection(&mut self, id: SocketId, what: &str) -> Option<usize> {
        let found = self.network.socket(self.core, id);
        if found.is_none() {
            let core = self.core;
            self.violated(Err(format!("core {core} {what} {id:?}, which is not open")));
        }
        found
    }

    /// Notes the moment at which a ConnectResponse left.
    fn answered(&mut self, connection: usize, bytes: &[u8]) {
        let of = &mut self.network.connections[connection];
        if of.answered {
            return;
        }
        let missing = 20 - of.head.len();
        of.head.extend(&bytes[..missing.min(bytes.len())]);
        if of.head.len() < 20 {
            return;
        }
        of.answered = true;
        let timeout = i32::from_be_bytes(of.head[8..12].try_into().expect("four bytes"));
        let session = i64::from_be_bytes(of.head[12..20].try_into().expect("eight bytes"));
        if timeout > 0 {
            of.session = SessionId(session);
            let (session, first_xid) = (of.session, of.first_xid);
            let attachment = &mut self.checks.attachment;
            attachment.attached(session, connection, first_xid);
            self.checks
                .expiry
                .heard(session, timeout, At::Shard(self.core), self.base.now_us);
        }
    }
}

impl Sockets for KernelSockets<'_> {
    fn accept(&mut self, id: SocketId) -> Accepted {
        // Without descriptors the rounds go on, and who waits to be accepted may expire meanwhile.
        let may_fail = !self.base.calm && !self.base.crowded;
        if may_fail && !self.network.backlog.is_empty() && self.base.rng.u32(0..60) == 0 {
            self.base.counters.exhausted += 1;
            self.exhausted = true;
            return Accepted::Exhausted;
        }
        match self.network.accept() {
            None => Accepted::Nobody,
            Some(Err(())) => Accepted::Dropped,
            Some(Ok(connection)) => {
                let now_us = self.base.now_us;
                self.network.open(connection, self.core, id, now_us);
                Accepted::Connection(address(connection))
            }
        }
    }

    fn waiting_max(&self) -> usize {
        self.network.backlog.len()
    }

    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> Read {
        let Some(connection) = self.connection(id, "reads") else {
            return Read::End;
        };
        let read = self.network.read(connection, buffer, self.base);
        let bytes = read.unwrap_or(0);
        if bytes > 0 {
            self.network.last_read_us = self.base.now_us;
        }
        let turns = self.checks.turns.read(self.core, connection, bytes);
        self.violated(turns);
        if !self.network.connections[connection].has_bytes() {
            self.checks.expiry.nothing_waits(connection);
        }
        match read {
            None => Read::End,
            Some(0) => Read::Nothing,
            Some(n) if n == buffer.len() => Read::More(n),
            Some(n) => Read::All(n),
        }
    }

    fn write(&mut self, id: SocketId, bytes: &[u8]) -> Wrote {
        let Some(connection) = self.connection(id, "writes to") else {
            return Wrote::Gone;
        };
        let session = self.network.connections[connection].session;
        let answers = self.checks.attachment.answers(session, connection);
        self.violated(answers);
        if !self.base.disk.outside_effect() {
            return Wrote::Gone;
        }
        match self.network.write(connection, bytes, self.base) {
            None => Wrote::Gone,
            Some(0) => {
                self.base.counters.writes_refused += 1;
                Wrote::Nothing
            }
            Some(n) => {
                self.base.counters.writes_cut += u64::from(n < bytes.len());
                self.base.note(&bytes[..n]);
                self.answered(connection, &bytes[..n]);
                Wrote::Bytes(n)
            }
        }
    }

    fn unacknowledged(&mut self, id: SocketId) -> usize {
        let connection = self.connection(id, "asks for");
        connection.map_or(0, |of| self.network.unacknowledged(of))
    }

    fn close(&mut self, id: SocketId) {
        if let Some(connection) = self.connection(id, "closes") {
            self.checks.turns.gone(self.core, connection);
            self.checks.expiry.nothing_waits(connection);
            self.network.close(connection, self.base);
        }
    }

    fn word(&mut self, id: SocketId, _word: [u8; 4]) {
        self.base.counters.words += 1;
        self.close(id);
    }
}
