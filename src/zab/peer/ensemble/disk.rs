//! A member's disk: a log with synchronisations in it, of which any prefix may be durable, and a record that is written
//! whole or not.

use crate::log::{Adoption, Durable, Epochs, LogEnd};
use crate::types::{Epoch, Position, Zxid};
use fastrand::Rng;

/// One transaction; the second number is unlike that of any other.
pub type Txn = (Zxid, i64);

/// As it is in a packet.
pub fn entry((zxid, tag): Txn) -> Vec<u8> {
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(zxid.0.to_be_bytes());
    bytes.extend([0; 12]);
    bytes
}

pub fn txn(zxid: Zxid, entry: &[u8]) -> Txn {
    let tag = entry.first_chunk().copied().unwrap_or_default();
    (zxid, i64::from_be_bytes(tag))
}

pub fn end(history: &[Txn]) -> Zxid {
    history.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid)
}

/// A history up to a place.
pub fn upto(history: &[Txn], end: Zxid) -> &[Txn] {
    let within = history.iter().take_while(|(zxid, _)| *zxid <= end);
    &history[..within.count()]
}

#[derive(Clone, Debug)]
enum Op {
    Open(Vec<Txn>),
    Entry(Txn),
    Close(Epoch),
    /// The open synchronisation is void.
    Void,
}

/// What a log holds up to a place.
#[derive(Clone, Debug, Default)]
struct View {
    history: Vec<Txn>,
    open: Option<Vec<Txn>>,
    adopted: Option<(Epoch, LogEnd)>,
}

impl View {
    fn play(&mut self, op: &Op, behind: u64) {
        match op {
            Op::Open(base) => {
                assert!(self.open.is_none(), "a synchronisation within another");
                self.open = Some(base.clone());
            }
            Op::Entry(txn) => self.open.as_mut().unwrap_or(&mut self.history).push(*txn),
            Op::Close(epoch) => {
                self.history = self.open.take().expect("an open synchronisation");
                let at = LogEnd {
                    position: Position(behind),
                    zxid: end(&self.history),
                };
                self.adopted = Some((*epoch, at));
            }
            Op::Void => self.open = None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    ops: Vec<Op>,
    /// Of all that was appended.
    logged: View,
    /// So many are durable, and what they hold.
    synced: usize,
    durable: View,
    pub record: Epochs,
    pub writing: Option<Epochs>,
    pub committed: Zxid,
    committed_on_disk: Zxid,
}

impl Disk {
    pub fn whole() -> Disk {
        let mut disk = Disk::default();
        disk.record.is_whole = true;
        disk
    }

    fn push(&mut self, op: Op) {
        self.logged.play(&op, self.ops.len() as u64 + 1);
        self.ops.push(op);
    }

    pub fn open(&mut self, base: Vec<Txn>) {
        self.push(Op::Open(base));
    }

    pub fn append(&mut self, txn: Txn) {
        self.push(Op::Entry(txn));
    }

    pub fn close(&mut self, epoch: Epoch) {
        self.push(Op::Close(epoch));
    }

    /// What a synchronisation that is not closed has brought does not count.
    pub fn history(&self) -> &[Txn] {
        &self.logged.history
    }

    pub fn durable(&self) -> &[Txn] {
        &self.durable.history
    }

    pub fn log_end(&self) -> Durable<LogEnd> {
        Durable::played(LogEnd {
            position: Position(self.synced as u64),
            zxid: end(self.durable()),
        })
    }

    /// The newest synchronisation that is durable.
    pub fn adoption(&self) -> Option<Durable<Adoption>> {
        let (epoch, end) = self.durable.adopted?;
        Some(Durable::played(Adoption { epoch, end }))
    }

    /// A sync ends that has covered some of what was appended.
    pub fn sync(&mut self, rng: &mut Rng) {
        self.sync_to(rng.usize(self.synced..=self.ops.len()));
    }

    fn sync_to(&mut self, ops: usize) {
        for n in self.synced..ops {
            self.durable.play(&self.ops[n], n as u64 + 1);
        }
        self.synced = ops;
        let known = self.committed.min(end(self.durable()));
        self.committed_on_disk = self.committed_on_disk.max(known);
    }

    pub fn flush(&mut self) {
        if self.logged.open.is_some() {
            self.push(Op::Void);
        }
        self.sync_to(self.ops.len());
    }

    pub fn crash(&mut self, rng: &mut Rng) {
        let left = rng.usize(self.synced..=self.ops.len());
        self.ops.truncate(left);
        self.sync_to(left);
        self.logged = self.durable.clone();
        if self.logged.open.is_some() {
            self.flush();
        }
        if let Some(writing) = self.writing.take()
            && rng.bool()
        {
            self.write(writing);
        }
        self.committed = self.committed_on_disk;
    }

    pub fn write(&mut self, record: Epochs) {
        assert!(record.accepted >= self.record.accepted && record.current >= self.record.current);
        assert!(record.is_whole >= self.record.is_whole && record.current <= record.accepted);
        self.record = record;
    }
}
