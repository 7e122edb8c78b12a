//! What a core that serves sees of the network: the simulator's side of the seam below the turn.

use super::base::{Awaited, Base};
use super::checks::Checks;
use super::identity;
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
pub(super) fn address(connection: usize, network: &Network) -> ClientAddress {
    let client = network.connections[connection].client;
    ClientAddress {
        address: identity::address(client).into(),
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

    /// Notes the moment at which a ConnectResponse began to leave: it is the server's sign of life for the
    /// session, and how long the kernel takes for the rest of it is none.
    fn answered(&mut self, connection: usize, bytes: &[u8]) {
        let of = &mut self.network.connections[connection];
        if of.answered {
            return;
        }
        if of.head.is_empty() {
            of.answer_began = self.base.now_us;
        }
        let missing = 20 - of.head.len();
        of.head.extend(&bytes[..missing.min(bytes.len())]);
        if of.head.len() < 20 {
            return;
        }
        of.answered = true;
        let timeout = i32::from_be_bytes(of.head[8..12].try_into().expect("four bytes"));
        let session = i64::from_be_bytes(of.head[12..20].try_into().expect("eight bytes"));
        if timeout > 0 && of.is_intruder {
            let session = SessionId(session);
            let granted = format!("session {session} was given for a wrong password");
            return self.violated(Err(granted));
        }
        if timeout > 0 {
            of.session = SessionId(session);
            let (session, first_xid, began) = (of.session, of.first_xid, of.answer_began);
            let attachment = &mut self.checks.attachment;
            attachment.attached(session, connection, first_xid);
            let expiry = &mut self.checks.expiry;
            expiry.answered(session, timeout, self.core, began);
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
                Accepted::Connection(address(connection, self.network))
            }
        }
    }

    fn waiting_max(&self) -> usize {
        self.network.backlog.len()
    }

    fn handed_over(&self) -> usize {
        // A core reads all its letters before it makes a turn.
        0
    }

    fn has_told_all(&self) -> bool {
        self.network.kernels[usize::from(self.core)].has_told_all
    }

    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> Read {
        let Some(connection) = self.connection(id, "reads") else {
            return Read::End;
        };
        let read = self.network.read(connection, buffer, self.base);
        let bytes = read.unwrap_or(0);
        if bytes > 0 {
            let of = &self.network.connections[connection];
            self.base.has_read_handshake |= of.client.is_some() && !of.answered;
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
        let of = &self.network.connections[connection];
        // A closeSession that a full disk refuses ends its connection, and the session may go on elsewhere; what was
        // said before still leaves.
        let is_short = self.base.refusals > 0 || self.base.short.contains(&Awaited::Spare);
        if !(of.ends_itself || of.closes && is_short) {
            let answers = self.checks.attachment.answers(of.session, connection);
            self.violated(answers);
        }
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
                self.checks.shown.handed_over(connection, &bytes[..n]);
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

    fn word(&mut self, id: SocketId, _word: [u8; 4], _behind: &[u8]) {
        self.base.counters.words += 1;
        self.close(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Options;
    use super::*;
    use crate::types::Zxid;

    const SESSION: SessionId = SessionId(0x0100_0000_0000_0001);
    const TIMEOUT_MS: i32 = 200;

    /// A ConnectResponse (docs/protocol.md §1.2).
    fn response() -> Vec<u8> {
        let mut bytes = 36_i32.to_be_bytes().to_vec();
        bytes.extend(0_i32.to_be_bytes());
        bytes.extend(TIMEOUT_MS.to_be_bytes());
        bytes.extend(SESSION.0.to_be_bytes());
        bytes.extend(16_i32.to_be_bytes());
        bytes.extend([7; 16]);
        bytes
    }

    /// Sends the answer to a connection whose buffers hold one byte, and returns when the first byte and the
    /// last one left, µs.
    fn answer_byte_by_byte(base: &mut Base, checks: &mut Checks) -> (u64, u64) {
        let mut network = Network::new(1, 1..=1);
        let connection = network.connect(None, 1, None, base);
        let id = SocketId {
            slot: 0,
            generation: 0,
        };
        network.accept();
        network.open(connection, 0, id, base.now_us);
        let began = base.now_us;
        for byte in response() {
            base.now_us += 10_000;
            network.reach_client(connection, base);
            let mut sockets = KernelSockets {
                core: 0,
                base,
                network: &mut network,
                checks,
                exhausted: false,
                violation: Ok(()),
            };
            assert_eq!(sockets.write(id, &[byte]), Wrote::Bytes(1));
        }
        (began + 10_000, base.now_us)
    }

    #[test]
    fn a_session_is_silent_from_the_first_byte_of_its_answer_on_however_slowly_the_rest_leaves() {
        let options = Options {
            seed: 1,
            crash_at: None,
            short: true,
            shards: 0,
            tears_destroy: false,
        };
        let mut base = Base::new(fastrand::Rng::with_seed(1), options);
        let mut checks = Checks::new(Zxid::ZERO, &base.profile);
        let (first, last) = answer_byte_by_byte(&mut base, &mut checks);
        let timeout_us = TIMEOUT_MS as u64 * 1000;
        assert!(last < first + 2 * timeout_us && last > first + timeout_us);
        assert!(
            checks
                .expiry
                .observe(SESSION, first + timeout_us - 1)
                .is_err()
        );
        assert_eq!(checks.expiry.observe(SESSION, first + timeout_us), Ok(()));
        assert_eq!(
            checks.expiry.observe(SESSION, last + timeout_us / 2),
            Ok(())
        );
    }
}
