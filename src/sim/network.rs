//! Connections between clients and the member: bytes on their way, in order and late.

use super::base::{Base, Event};
use crate::types::{ConnId, SessionId};

/// One connection of a client.
pub(super) struct Connection {
    pub(super) client: usize,
    /// The shard that serves it.
    pub(super) shard: u16,
    pub(super) conn: Option<ConnId>,
    /// The client still listens.
    pub(super) heard: bool,
    /// The ConnectResponse was handed over.
    pub(super) answered: bool,
    /// Whose connection it is, once it is answered.
    pub(super) session: SessionId,
    /// The session that the ConnectRequest presents, and the timeout that it would get, ms.
    pub(super) asks: Option<(SessionId, i32)>,
    pub(super) first_xid: i32,
    to_server_at: u64,
    to_client_at: u64,
}

/// All connections of a run, the ended ones too.
#[derive(Default)]
pub(super) struct Network {
    pub(super) connections: Vec<Connection>,
}

impl Network {
    /// A connection of a client to a shard, on which nothing was sent.
    pub(super) fn connect(
        &mut self,
        client: usize,
        shard: u16,
        conn: ConnId,
        first_xid: i32,
        asks: (SessionId, i32),
    ) -> usize {
        self.connections.push(Connection {
            client,
            shard,
            conn: Some(conn),
            heard: true,
            answered: false,
            session: SessionId::NONE,
            asks: Some(asks),
            first_xid,
            to_server_at: 0,
            to_client_at: 0,
        });
        self.connections.len() - 1
    }

    /// Bytes of a client, now and then in two parts.
    pub(super) fn send_to_server(&mut self, connection: usize, bytes: Vec<u8>, base: &mut Base) {
        let cut = match base.rng.u32(0..6) {
            0 => base.rng.usize(0..bytes.len()),
            _ => 0,
        };
        for part in [0..cut, cut..bytes.len()] {
            if part.is_empty() {
                continue;
            }
            let way = &mut self.connections[connection].to_server_at;
            *way = (base.now_us + latency(base)).max(*way);
            let whole = part.end == bytes.len();
            let bytes = bytes[part].to_vec();
            base.at_time(
                *way,
                Event::ToServer {
                    connection,
                    bytes,
                    whole,
                },
            );
        }
    }

    /// A request that follows the last one on the connection by up to 3 ms.
    pub(super) fn trail_to_server(&mut self, connection: usize, bytes: Vec<u8>, base: &mut Base) {
        let way = &mut self.connections[connection].to_server_at;
        *way = (*way).max(base.now_us) + base.rng.u64(1..3_000);
        base.at_time(
            *way,
            Event::ToServer {
                connection,
                bytes,
                whole: true,
            },
        );
    }

    /// Bytes of the member.
    pub(super) fn send_to_client(&mut self, connection: usize, bytes: Vec<u8>, base: &mut Base) {
        let way = &mut self.connections[connection].to_client_at;
        *way = (base.now_us + latency(base)).max(*way);
        base.at_time(*way, Event::ToClient { connection, bytes });
    }

    /// The client hangs up, behind everything that it has sent.
    pub(super) fn close_by_client(&mut self, connection: usize, base: &mut Base) {
        self.connections[connection].heard = false;
        let at = self.connections[connection].to_server_at.max(base.now_us);
        base.at_time(at + 1, Event::ClosedByClient { connection });
    }

    /// The member has closed the connection, behind everything that it has sent.
    pub(super) fn close_by_server(&mut self, connection: usize, base: &mut Base) {
        self.connections[connection].conn = None;
        let at = self.connections[connection].to_client_at.max(base.now_us);
        base.at_time(at + 1, Event::ClosedByServer { connection });
    }

    /// The process is gone, and every connection with it.
    pub(super) fn process_died(&mut self, base: &mut Base) {
        for connection in 0..self.connections.len() {
            if self.connections[connection].conn.take().is_some() {
                let at = self.connections[connection].to_client_at;
                base.at_time(at, Event::ClosedByServer { connection });
            }
        }
    }
}

fn latency(base: &mut Base) -> u64 {
    match base.rng.u32(0..30) {
        0 => base.rng.u64(200..900),
        _ => base.rng.u64(10..120),
    }
}
