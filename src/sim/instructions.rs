//! A member without faults that does a fixed amount of work: what an operation costs in user space,
//! to be counted by callgrind (`bench/instructions`).
//!
//! It has what the server does for an operation except the kernel: the turn, frames, shard, pipeline,
//! log, tree, rings, replicas.

use super::disk::SimStorage;
use super::machine::{Machine, MachineConfig};
use super::wire::Wire;
use crate::log::LogConfig;
use crate::member::MemberConfig;
use crate::pipeline::{Fatal, PipelineConfig};
use crate::placement::{Accepted, Budgets, Read, RingLimits, SocketId, Sockets, SyncPolicy, Wrote};
use crate::shard::{ClientAddress, ShardConfig};
use crate::snapshot::CHANGES_BYTES_MAX;
use crate::tree::Rules;
use crate::types::{Now, OpCode, ShardId, Tick, WallMs};
use std::collections::VecDeque;
use std::io;

const CONNECTIONS: usize = 16;
const WINDOW: usize = 16;

/// Children that a connection lists.
const CHILDREN: usize = 100;
/// Operations of a multi.
const MULTI: usize = 10;

/// What the operations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// getData.
    Get,
    /// setData.
    Set,
    /// getChildren of a node with 100 children.
    List,
    /// create.
    Create,
    /// create and delete, by turns.
    CreateDelete,
    /// multi of ten setData.
    Multi,
}

/// What is done, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Serving shards; 0 = inline.
    pub shards: u16,
    /// The operations.
    pub kind: Kind,
    /// How many, at least.
    pub operations: usize,
    /// Names in the path of the node that a connection works on or, where it creates or lists, below; one at
    /// least.
    pub depth: usize,
    /// Data of a node, bytes.
    pub data: usize,
}

/// The sockets of one core: what was sent is there at once, and what is written is gone at once.
#[derive(Default)]
struct Pipes {
    received: Vec<VecDeque<u8>>,
    /// Bytes of replies.
    answered: usize,
}

impl Sockets for Pipes {
    fn accept(&mut self, _id: SocketId) -> Accepted {
        Accepted::Nobody
    }

    fn waiting_max(&self) -> usize {
        0
    }

    fn handed_over(&self) -> usize {
        0
    }

    fn has_told_all(&self) -> bool {
        true
    }

    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> Read {
        let received = &mut self.received[id.slot as usize];
        let n = buffer.len().min(received.len());
        let (front, back) = received.as_slices();
        let first = front.len().min(n);
        buffer[..first].copy_from_slice(&front[..first]);
        buffer[first..n].copy_from_slice(&back[..n - first]);
        drop(received.drain(..n));
        match n {
            0 => Read::Nothing,
            n if n == buffer.len() => Read::More(n),
            n => Read::All(n),
        }
    }

    fn write(&mut self, _id: SocketId, bytes: &[u8]) -> Wrote {
        self.answered += bytes.len();
        Wrote::Bytes(bytes.len())
    }

    fn unacknowledged(&mut self, _id: SocketId) -> usize {
        0
    }

    fn close(&mut self, _id: SocketId) {}

    fn word(&mut self, _id: SocketId, _word: [u8; 4], _behind: &[u8]) {}
}

struct Member {
    machine: Machine,
    pipes: Vec<Pipes>,
    /// Core and socket of each connection.
    conns: Vec<(usize, SocketId)>,
    now: Now,
}

/// Does at least `operations`, 16 at a time on each of 16 connections that are spread over the
/// shards; the bytes of all replies.
///
/// # Errors
/// [`Fatal`], which a disk without faults does not bring about.
pub fn work(work: Work) -> Result<usize, Fatal> {
    let Work {
        kind, depth, data, ..
    } = work;
    let mut member = Member::start(work.shards)?;
    for at in 0..CONNECTIONS {
        member.ask(at, handshake())?;
    }
    for at in 0..CONNECTIONS {
        for above in 1..=depth.max(1) {
            member.ask(at, create(&path(at, above), data))?;
        }
        for nth in 0..if kind == Kind::List { CHILDREN } else { 0 } {
            member.ask(at, create(&child(at, depth, nth), data))?;
        }
    }
    let greeted = member.answered();
    let mut requests = vec![Vec::new(); CONNECTIONS];
    for round in 0..work.operations.div_ceil(CONNECTIONS * WINDOW) {
        for (at, requests) in requests.iter_mut().enumerate() {
            if round == 0 || matches!(kind, Kind::Create | Kind::CreateDelete) {
                *requests = window(work, at, round);
            }
            member.receive(at, requests);
        }
        member.settle()?;
    }
    Ok(member.answered() - greeted)
}

impl Member {
    fn start(shards: u16) -> Result<Member, Fatal> {
        let disk = SimStorage::new(1 << 40);
        let now = Now {
            tick: Tick(0),
            micros: 0,
            wall: WallMs(1_700_000_000_000),
        };
        let config = MachineConfig {
            member: MemberConfig {
                pipeline: PipelineConfig {
                    shards: shards.max(1),
                    ..PipelineConfig::new(Rules::default())
                },
                log: LogConfig {
                    segment_bytes: 64 << 20,
                },
                snapshot_records: u64::MAX / 4,
                snapshots_kept: None,
                snapshot_memory: CHANGES_BYTES_MAX,
            },
            shard: ShardConfig::new(ShardId(0)),
            shards,
            limits: RingLimits::DEFAULT,
            budgets: Budgets::DEFAULT,
            slots: (RingLimits::DEFAULT.slots(), 1024),
            closing_ms: 1000,
            policy: SyncPolicy::Never,
            patience_ms: 1000,
        };
        let mut identity = 1;
        let identities = Box::new(move || {
            identity += 1;
            identity
        });
        let started = Machine::start(config, &disk, &disk, identities, (now, now), &mut |_| {});
        let mut machine = started.map_err(|e| Fatal::from(io::Error::other(e.to_string())))?;
        let mut pipes: Vec<Pipes> = Vec::new();
        pipes.resize_with(machine.serving.len(), Pipes::default);
        let mut conns = Vec::new();
        for at in 0..CONNECTIONS {
            let core = at % machine.serving.len();
            let address = ClientAddress {
                address: "127.0.0.1".to_owned(),
                port: at as u16,
            };
            conns.push((core, machine.serving[core].adopt(address, now)));
            pipes[core].received.push(VecDeque::new());
        }
        let mut member = Member {
            machine,
            pipes,
            conns,
            now,
        };
        member.settle()?;
        Ok(member)
    }

    fn ask(&mut self, at: usize, bytes: Vec<u8>) -> Result<(), Fatal> {
        self.receive(at, &bytes);
        self.settle()
    }

    fn receive(&mut self, at: usize, bytes: &[u8]) {
        let (core, socket) = self.conns[at];
        self.pipes[core].received[socket.slot as usize].extend(bytes);
        self.machine.serving[core].socket_event(socket, true, false, false);
    }

    /// Bytes of all replies.
    fn answered(&self) -> usize {
        self.pipes.iter().map(|pipes| pipes.answered).sum()
    }

    /// Turns until nothing moves; every sync succeeds at once.
    fn settle(&mut self) -> Result<(), Fatal> {
        loop {
            self.now.micros += 10;
            let mut again = false;
            for (core, pipes) in self.machine.serving.iter_mut().zip(&mut self.pipes) {
                again |= core.turn(false, self.now, pipes, &mut |_| {})?.again;
            }
            if let Some(ordering) = &mut self.machine.ordering {
                again |= ordering.turn(self.now, &mut |_| {}, &mut |_| {})?;
            }
            let member = self.machine.member_mut();
            if let Some(ticket) = member.poll_sync() {
                member.synced(ticket.run(), self.now)?;
            } else if !again && !self.machine.serving.iter().any(|core| core.has_mail()) {
                return Ok(());
            }
        }
    }
}

/// The node of a connection, or one above it.
fn path(at: usize, depth: usize) -> String {
    format!("/price{at:02}{}", "/below".repeat(depth.max(1) - 1))
}

/// A node below that of a connection.
fn child(at: usize, depth: usize, nth: usize) -> String {
    format!("{}/n{nth:08}", path(at, depth))
}

fn handshake() -> Vec<u8> {
    let mut wire = Wire::default();
    wire.i32(0).i64(0).i32(30_000).i64(0).buf(Some(&[0; 16]));
    wire.byte(0);
    wire.frame()
}

fn create(path: &str, data: usize) -> Vec<u8> {
    let mut wire = Wire::default();
    wire.i32(1).i32(OpCode::CREATE.0);
    wire.buf(Some(path.as_bytes())).buf(Some(&vec![b'd'; data]));
    wire.i32(1).i32(31);
    wire.buf(Some(b"world")).buf(Some(b"anyone")).i32(0);
    wire.frame()
}

fn multi(path: &str, data: &[u8]) -> Vec<u8> {
    let mut wire = Wire::default();
    wire.i32(2).i32(OpCode::MULTI.0);
    for _ in 0..MULTI {
        wire.i32(OpCode::SET_DATA.0).byte(0).i32(-1);
        wire.buf(Some(path.as_bytes())).buf(Some(data)).i32(-1);
    }
    wire.i32(-1).byte(1).i32(-1);
    wire.frame()
}

fn delete(path: &str) -> Vec<u8> {
    let mut wire = Wire::default();
    wire.i32(2).i32(OpCode::DELETE.0);
    wire.buf(Some(path.as_bytes())).i32(-1);
    wire.frame()
}

/// What a connection sends in a round.
fn window(work: Work, at: usize, round: usize) -> Vec<u8> {
    let requests = round * WINDOW..(round + 1) * WINDOW;
    requests.flat_map(|nth| request(work, at, nth)).collect()
}

fn request(work: Work, at: usize, nth: usize) -> Vec<u8> {
    let Work {
        kind, depth, data, ..
    } = work;
    let mut wire = Wire::default();
    match kind {
        Kind::Get => {
            wire.i32(2).i32(OpCode::GET_DATA.0);
            wire.buf(Some(path(at, depth).as_bytes())).byte(0);
        }
        Kind::Set => {
            wire.i32(2).i32(OpCode::SET_DATA.0);
            wire.buf(Some(path(at, depth).as_bytes()));
            wire.buf(Some(&vec![b'd'; data])).i32(-1);
        }
        Kind::List => {
            wire.i32(2).i32(OpCode::GET_CHILDREN.0);
            wire.buf(Some(path(at, depth).as_bytes())).byte(0);
        }
        Kind::Create => return create(&child(at, depth, nth), data),
        Kind::CreateDelete if nth.is_multiple_of(2) => {
            return create(&child(at, depth, nth), data);
        }
        Kind::CreateDelete => return delete(&child(at, depth, nth - 1)),
        Kind::Multi => return multi(&path(at, depth), &vec![b'd'; data]),
    }
    wire.frame()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_answered() {
        // A header of 16 bytes and the frame's length, and behind them what the reply holds.
        let head = 4 + 16;
        let name = "/price00/below/n00000000".len();
        for shards in [0, 1, 3] {
            for (kind, body) in [
                (Kind::Set, 68),
                (Kind::Get, 4 + 100 + 68),
                (Kind::List, 4 + CHILDREN * (4 + 9)),
                (Kind::Create, 4 + name),
                (Kind::CreateDelete, (4 + name) / 2),
                (Kind::Multi, MULTI * (9 + 68) + 9),
            ] {
                let answered = work(Work {
                    shards,
                    kind,
                    operations: 256,
                    depth: 2,
                    data: 100,
                });
                let due = 256 * (head + body);
                assert_eq!(answered.unwrap(), due, "{kind:?}, {shards} shards");
            }
        }
    }
}
