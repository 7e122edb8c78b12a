//! A snapshot that a leader sends, from its first byte until it is a state of this member's own history.
//!
//! | File | Is there | What a start makes of it |
//! |---|---|---|
//! | `tmp.snap.in` | while it comes | removes it |
//! | `snap.in.<zxid>` | durable, and no state of the history yet | if a closed bracket continues it: gives it its name; if none does: removes it |
//! | `snap.<zxid>` | the bracket that continues it is durable | a snapshot like those of its own |
//!
//! It has a name of its own until the history continues it, because a snapshot that has its name is where a start
//! begins: one that the leader took back, or that ends below what this member has acknowledged and only gets back with
//! what follows in the bracket, would make the member forget (`fence`, `writer/adoption`). The order is held by the
//! types: only [`Receiving::finish`] makes a [`Received`], when the file is durable; only with one is a bracket opened
//! that continues a snapshot; and only with the proof that the bracket is durable does the file get its name.

use super::durable::{Adoption, Durable};
use super::record::StoreId;
use super::snapshot_file::{self, RECEIVING, SnapshotWriter, Written};
use super::storage::Storage;
use crate::types::Zxid;
use std::io;

const PREFIX: &str = "snap.in.";

fn name(zxid: Zxid) -> String {
    format!("{PREFIX}{:016x}", zxid.0)
}

/// The received snapshots of a directory that have no name of their own yet, newest first.
///
/// # Errors
/// The listing's.
pub fn list<S: Storage>(data: &S) -> io::Result<Vec<Zxid>> {
    let parse = |name: &String| {
        let digits = name.strip_prefix(PREFIX)?;
        let zxid = i64::from_str_radix(digits, 16).ok().map(Zxid)?;
        (self::name(zxid) == *name).then_some(zxid)
    };
    let mut found: Vec<_> = data.list()?.iter().filter_map(parse).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// A start gives these snapshots their name, or removes them: `continued` is the one that the history continues.
///
/// # Errors
/// The operating system's.
pub fn settle<S: Storage>(data: &S, received: &[Zxid], continued: Option<Zxid>) -> io::Result<()> {
    for &zxid in received {
        match continued == Some(zxid) {
            true => data.rename(&name(zxid), &snapshot_file::name(zxid))?,
            false => data.remove(&name(zxid))?,
        }
    }
    data.sync_dir()
}

/// One that comes, in the order of its bytes.
pub struct Receiving<S: Storage> {
    writer: SnapshotWriter<S>,
    zxid: Zxid,
}

impl<S: Storage> Receiving<S> {
    /// Of the state behind `zxid`; it becomes this store's. One that came before and was not finished is gone.
    ///
    /// # Errors
    /// The operating system's, `StorageFull` among them.
    pub fn create(data: &S, zxid: Zxid, store: StoreId) -> io::Result<Receiving<S>> {
        let writer = SnapshotWriter::under(RECEIVING, data, zxid, store)?;
        Ok(Receiving { writer, zxid })
    }

    /// Adds bytes of the body.
    ///
    /// # Errors
    /// The operating system's.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.push(bytes)
    }

    /// All of it has come: makes it durable, beside the member's own snapshots.
    ///
    /// # Errors
    /// The operating system's; the file is thrown away.
    pub fn finish(self) -> io::Result<(Received, Written)> {
        let Receiving { writer, zxid } = self;
        let written = writer.finish_as(&name(zxid))?;
        Ok((Received { zxid }, written))
    }
}

/// One that is durable, and no state of the history yet. One that is dropped is removed by the next start, unless the
/// history continues it.
#[derive(Debug)]
pub struct Received {
    zxid: Zxid,
}

impl Received {
    /// The last transaction of its state.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// The history continues it: it gets its name.
    ///
    /// # Errors
    /// The operating system's. The next start tries again.
    ///
    /// # Panics
    /// The proof is that of a history which ends before it.
    pub fn install<S: Storage>(self, data: &S, proof: &Durable<Adoption>) -> io::Result<()> {
        assert!(proof.zxid() >= self.zxid, "the history continues it");
        settle(data, &[self.zxid], Some(self.zxid))
    }

    /// The synchronisation was given up.
    ///
    /// # Errors
    /// The operating system's. The next start tries again.
    pub fn discard<S: Storage>(self, data: &S) -> io::Result<()> {
        settle(data, &[self.zxid], None)
    }
}
