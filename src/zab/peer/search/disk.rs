//! A member's disk: what is durable, and what was appended since, of which a crash keeps any part from the front.

use crate::log::{Adoption, Durable, Epochs, LogEnd};
use crate::types::{Epoch, Position, Zxid};
use crate::zab::peer::ensemble::disk::{Txn, end};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Open(Vec<Txn>),
    Entry(Txn),
    Close(Epoch),
    /// The open synchronisation is void.
    Void,
}

/// What a log holds up to a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    pub history: Vec<Txn>,
    open: Option<Vec<Txn>>,
    pub adopted: Option<(Epoch, LogEnd)>,
    /// Of this process; they stand for places in the log, which are compared with those of adoptions only.
    adoptions: u64,
}

impl View {
    fn play(&mut self, op: &Op) {
        match op {
            Op::Open(base) => {
                assert!(self.open.is_none(), "a synchronisation within another");
                self.open = Some(base.clone());
            }
            Op::Entry(txn) => self.open.as_mut().unwrap_or(&mut self.history).push(*txn),
            Op::Close(epoch) => {
                self.history = self.open.take().expect("an open synchronisation");
                self.adoptions += 1;
                self.adopted = Some((*epoch, self.end()));
            }
            Op::Void => self.open = None,
        }
    }

    fn end(&self) -> LogEnd {
        LogEnd {
            position: Position(self.adoptions),
            zxid: end(&self.history),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    pub durable: View,
    /// With what is not durable yet.
    pub logged: View,
    pub pending: Vec<Op>,
    pub record: Epochs,
    pub writing: Option<Epochs>,
    /// Known to this process; nothing durable says it.
    pub committed: Zxid,
}

impl Disk {
    pub fn whole() -> Disk {
        let mut disk = Disk::default();
        disk.record.is_whole = true;
        disk
    }

    pub fn push(&mut self, op: Op) {
        self.logged.play(&op);
        self.pending.push(op);
    }

    pub fn log_end(&self) -> Durable<LogEnd> {
        Durable::played(self.durable.end())
    }

    /// A sync ends that covers all that was appended; with the synchronisation that became durable with it.
    pub fn sync(&mut self) -> Option<Durable<Adoption>> {
        let before = self.durable.adopted;
        for op in self.pending.drain(..) {
            self.durable.play(&op);
        }
        let adopted = self
            .durable
            .adopted
            .filter(|_| self.durable.adopted != before);
        adopted.map(|(epoch, end)| Durable::played(Adoption { epoch, end }))
    }

    pub fn flush(&mut self) {
        if self.logged.open.is_some() {
            self.push(Op::Void);
        }
        self.sync();
    }

    /// The record is written; `None`: there was nothing to write.
    pub fn write(&mut self) -> Option<Epochs> {
        let writing = self.writing.take()?;
        let Epochs {
            accepted,
            current,
            is_whole,
        } = self.record;
        assert!(writing.accepted >= accepted && writing.current >= current);
        assert!(writing.is_whole >= is_whole && writing.current <= writing.accepted);
        self.record = writing;
        Some(writing)
    }

    /// The process ends; so much of what was appended is on the disk, and the record that was being written or not.
    pub fn crash(&mut self, kept: usize, is_written: bool) {
        for op in self.pending.drain(..).take(kept) {
            self.durable.play(&op);
        }
        self.durable.open = None;
        // Places in the log are compared within one process only.
        self.durable.adoptions = 0;
        if let Some((_, end)) = &mut self.durable.adopted {
            end.position = Position(0);
        }
        self.logged = self.durable.clone();
        if is_written {
            self.write();
        }
        self.writing = None;
        self.committed = Zxid::ZERO;
    }
}
