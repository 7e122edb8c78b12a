//! A snapshot made of the one before it and of the transactions since, as a merge of two sorted streams.
//!
//! The log is read first: its transactions become patches, one for each path, in memory as long as they
//! come to no more than a bound ([`CHANGES_BYTES_MAX`]), else in sorted runs on disk. Then the snapshot
//! before is read once, from its beginning to its end, each node gets its patch, and the new snapshot is
//! written once. Memory is taken for the patches, for one node, for the numbered ACL lists, and for the totals of
//! quotas.
//!
//! Nothing is copied blindly: the digest of the tree is made anew of every node that is written, and must
//! be the one that the transactions carry, which come from the tree that serves. A snapshot that differs
//! never gets its name.

use super::error::SnapError;
use super::runs::{Merged, Runs};
use crate::log::record::Record;
use crate::log::snapshot_file::{self, SnapshotWriter, Written};
use crate::log::storage::Storage;
use crate::log::{Cursor, Part, Runs as History, StoreId, Stretch, read_part};
use crate::tree::{
    BODY_VERSION, BodyError, BodyItem, BodyNode, BodyParser, BodyWriter, Changes, Contradiction,
    DigestMismatch, Facts, Key, Patch, SessionHighWater, Tree, WalkStart, session_key,
};
use crate::txn::Entry;
use crate::txn::record::{self, RecordError};
use crate::types::{SessionId, Zxid};
use std::collections::BTreeMap;

/// Most bytes of memory for patches, beside those of one transaction.
pub const CHANGES_BYTES_MAX: usize = 48 << 20;

/// What a snapshot is made of, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Of this state; everything up to it is durable.
    pub zxid: Zxid,
    /// Whose it is.
    pub store: StoreId,
    /// Bytes that are to be free before it is begun.
    pub room_needed: u64,
    /// Most bytes of memory for what has changed since the snapshot before, beside those of one transaction.
    pub memory: usize,
}

/// Before each file, and each part of a file that a snapshot needs meanwhile.
pub(super) fn require_room<S: Storage>(data: &S, order: Order) -> Result<(), SnapError> {
    let (free, needed) = (data.room()?, order.room_needed);
    match free < needed {
        true => Err(SnapError::NoRoom { needed, free }),
        false => Ok(()),
    }
}

/// Merges a snapshot, or a fresh tree, with the log behind it. [`SnapError::File`] and [`SnapError::Body`]
/// are about the snapshot before.
///
/// # Errors
/// [`SnapError`]; nothing is left.
pub(super) fn merge<S: Storage>(
    (data, log): (&S, &S),
    history: Option<&History>,
    base: Option<Zxid>,
    order: Order,
    facts: &Facts,
) -> Result<Written, SnapError> {
    let mut runs = Runs::new(data);
    let mut changes = Changes::default();
    let after = base.unwrap_or(Zxid::ZERO);
    each_since(log, history, (after, order.zxid), |entry| {
        changes.add(entry)?;
        if changes.bytes() > order.memory {
            require_room(data, order)?;
            runs.add(changes.take_patches())?;
        }
        Ok(())
    })?;
    let patches = runs.merged(changes.take_patches())?;
    let file = SnapshotWriter::create(data, order.zxid, order.store)?;
    let mut join = Join::new(order.zxid, patches, file, facts);
    let mut parser = BodyParser::default();
    let mut take = |piece: &[u8]| parser.push(piece, |item| join.take(item, changes.high_water()));
    match base {
        Some(base) => snapshot_file::read(data, base, Some(order.store), take).map(|_| ())?,
        None => Tree::new().write_body(&mut take)?,
    }
    parser.finish()?;
    join.finish(&changes)
}

/// Makes a snapshot of patches alone, which are all of a tree that was walked over.
///
/// # Errors
/// [`SnapError`]; nothing is left.
pub(super) fn write_walked<S: Storage>(
    data: &S,
    order: Order,
    start: WalkStart,
    patches: Merged<S>,
) -> Result<Written, SnapError> {
    let file = SnapshotWriter::create(data, order.zxid, order.store)?;
    let mut join = Join::new(order.zxid, patches, file, &start.facts);
    join.is_walked = true;
    let none = Changes::default();
    let head = BodyItem::Head {
        version: BODY_VERSION,
        last_zxid: start.last_zxid,
        high_water: start.session_high_water,
    };
    join.take(head, none.high_water())?;
    join.take(BodyItem::End(start.digest), none.high_water())?;
    join.finish(&none)
}

/// Each transaction of the log from behind `after` up to `upto`, which is durable. Of a member's log, those that count.
pub(super) fn each_since<S: Storage>(
    log: &S,
    history: Option<&History>,
    (after, upto): (Zxid, Zxid),
    mut take: impl FnMut(&Entry) -> Result<(), SnapError>,
) -> Result<(), SnapError> {
    let mut last = after;
    if let Some(history) = history {
        let bytes = u64::MAX;
        Cursor::new(after).read(log, history, Stretch { upto, bytes }, |record| {
            let zxid = record.zxid;
            let entry = decode(&record).map_err(|source| SnapError::Record { zxid, source })?;
            last = zxid;
            take(&entry)
        })?;
        return match last == upto {
            true => Ok(()),
            false => Err(SnapError::Short(last)),
        };
    }
    let part = Part {
        after,
        upto,
        bytes: u64::MAX,
        mapped_to: None,
    };
    if after < upto {
        read_part(log, part, |record| {
            let zxid = record.zxid;
            if zxid != last.next() {
                let (snapshot, log) = (last, zxid);
                return Err(SnapError::Gap { snapshot, log });
            }
            let entry = decode(&record).map_err(|source| SnapError::Record { zxid, source })?;
            last = zxid;
            take(&entry)
        })?;
    }
    match last == upto {
        true => Ok(()),
        false => Err(SnapError::Short(last)),
    }
}

pub(super) fn decode(found: &Record<'_>) -> Result<Entry, RecordError> {
    let entry = record::access(found.payload)?.decode()?;
    match entry.header.zxid {
        zxid if zxid == found.zxid => Ok(entry),
        other => Err(RecordError::Other(other)),
    }
}

/// The new snapshot as it is written.
struct Join<S: Storage> {
    zxid: Zxid,
    patches: Merged<S>,
    /// The patch that was not used yet.
    next: Option<(Key, Patch)>,
    /// From the head of the snapshot before on.
    body: Option<BodyWriter>,
    file: SnapshotWriter<S>,
    /// Nodes that were written, and that there are to be.
    nodes: usize,
    nodes_due: usize,
    /// Of all nodes that were written.
    digest: u64,
    /// Of the snapshot before.
    digest_before: u64,
    /// The last key of the snapshot before.
    last: Vec<u8>,
    /// The patches are of all nodes, not of those that were created since the snapshot before.
    is_walked: bool,
    /// The data that is in no file: the totals of quotas, by the paths of their nodes.
    totals: BTreeMap<Box<str>, Box<[u8]>>,
    parents: Parents,
}

impl<S: Storage> Join<S> {
    fn new(zxid: Zxid, patches: Merged<S>, file: SnapshotWriter<S>, facts: &Facts) -> Join<S> {
        Join {
            zxid,
            patches,
            next: None,
            body: None,
            file,
            nodes: 0,
            nodes_due: facts.nodes,
            digest: 0,
            digest_before: 0,
            last: Vec::new(),
            is_walked: false,
            totals: facts.texts(),
            parents: Parents::default(),
        }
    }

    /// Takes the next item of the snapshot before. `high_water`: the highest ids of the sessions since.
    fn take(&mut self, item: BodyItem<'_>, high_water: &SessionHighWater) -> Result<(), SnapError> {
        match item {
            BodyItem::Head {
                high_water: before, ..
            } => {
                let highest = before.ids().chain(high_water.ids()).collect();
                self.body = Some(BodyWriter::new(self.zxid, &highest));
                self.next = self.patches.next()?;
                Ok(())
            }
            BodyItem::Session(id, timeout_ms) => {
                let timeout_ms = match self.patch_of(&session_key(id))? {
                    Some(Patch::Session(patched)) => patched,
                    Some(_) => return Err(Contradiction("a session is changed like a node").into()),
                    None => Some(timeout_ms),
                };
                self.put_session(id, timeout_ms)
            }
            BodyItem::Node(node, _) => match self.patch_of(node.path.as_bytes())? {
                None => self.put_node(Some(node), false),
                Some(patch) => {
                    let patched = patch.apply(node.path, Some(node))?;
                    self.put_node(patched, patch.replaces())
                }
            },
            BodyItem::End(digest) => {
                self.digest_before = digest;
                self.patches_before(None)
            }
        }
    }

    /// The patch of what comes next in the snapshot before; all before it are used.
    fn patch_of(&mut self, key: &[u8]) -> Result<Option<Patch>, SnapError> {
        if *key <= *self.last {
            return Err(BodyError::Content("it is not sorted").into());
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.patches_before(Some(key))?;
        let Some((_, patch)) = self.next.take_if(|(next, _)| **next == *key) else {
            return Ok(None);
        };
        self.next = self.patches.next()?;
        Ok(Some(patch))
    }

    /// What patches make of nothing, before a key, `None`: all that are left.
    fn patches_before(&mut self, key: Option<&[u8]>) -> Result<(), SnapError> {
        while let Some((next, patch)) = self
            .next
            .take_if(|(next, _)| key.is_none_or(|k| **next < *k))
        {
            if let Patch::Session(timeout_ms) = patch {
                self.put_session(session_of(&next)?, timeout_ms)?;
            } else {
                let path = std::str::from_utf8(&next);
                let path = path.map_err(|_| Contradiction("a path is no text"))?;
                let is_new = !self.is_walked;
                self.put_node(patch.apply(path, None)?, is_new)?;
            }
            self.next = self.patches.next()?;
        }
        Ok(())
    }

    fn body(&mut self) -> Result<&mut BodyWriter, BodyError> {
        let missing = BodyError::Content("there is no head");
        self.body.as_mut().ok_or(missing)
    }

    fn put_session(&mut self, id: SessionId, timeout_ms: Option<i32>) -> Result<(), SnapError> {
        let Some(timeout_ms) = timeout_ms else {
            return Ok(());
        };
        self.body()?.put_session(id, timeout_ms);
        self.drain()
    }

    /// `is_new`: the node was created since the snapshot before.
    fn put_node(&mut self, node: Option<BodyNode<'_>>, is_new: bool) -> Result<(), SnapError> {
        let Some(mut node) = node else {
            return Ok(());
        };
        let told = self.totals.remove(node.path);
        if let Some(text) = &told {
            node.data = Some(text);
        }
        self.parents.pass(&node, is_new)?;
        self.nodes += 1;
        self.digest = self.digest.wrapping_add(node.digest());
        self.body()?.put_node(&node);
        self.drain()
    }

    fn drain(&mut self) -> Result<(), SnapError> {
        let Join { body, file, .. } = self;
        match body {
            Some(body) => Ok(body.drain(&mut |piece: &[u8]| file.push(piece))?),
            None => Ok(()),
        }
    }

    /// Compares the digest and the number of nodes, and gives the snapshot its name. The digest leaves out what is
    /// below `/zookeeper`; the number does not.
    fn finish(self, changes: &Changes) -> Result<Written, SnapError> {
        if let Some((zxid, expected)) = changes.digest(self.digest_before)
            && expected != self.digest
        {
            return Err(SnapError::Digest(DigestMismatch {
                zxid: zxid.unwrap_or(self.zxid),
                expected,
                found: self.digest,
            }));
        }
        if self.nodes != self.nodes_due || !self.totals.is_empty() {
            return Err(Contradiction("there are other nodes than in memory").into());
        }
        let (body, mut file) = (self.body, self.file);
        let body = body.ok_or(BodyError::Content("there is no head"))?;
        body.finish(self.digest, &mut |piece: &[u8]| file.push(piece))?;
        Ok(file.finish()?)
    }
}

fn session_of(key: &[u8]) -> Result<SessionId, Contradiction> {
    let id = key.get(1..).and_then(|id| id.try_into().ok());
    let id = id.ok_or(Contradiction("a node is changed like a session"))?;
    Ok(SessionId(i64::from_be_bytes(id) ^ i64::MIN))
}

/// The nodes that may have children behind the last one, in the order of their paths' bytes. The path of
/// each begins with that of the one before, because between a path and those below it there are only
/// paths that begin with it.
#[derive(Debug, Default)]
struct Parents {
    /// Of the last node.
    path: Vec<u8>,
    /// The length of each path, and when the node was created, if that is later than the snapshot before.
    open: Vec<(usize, Option<Zxid>)>,
}

impl Parents {
    /// The next node must have its parent among these, and be no older than a parent that is new: it would
    /// have gone with the one before.
    fn pass(&mut self, node: &BodyNode<'_>, is_new: bool) -> Result<(), Contradiction> {
        let path = node.path.as_bytes();
        let same = self
            .path
            .iter()
            .zip(path)
            .take_while(|(a, b)| a == b)
            .count();
        // All are below the root, the path of which is the only one that ends with a slash.
        let is_open =
            |len: usize| len == 1 || len <= same && path.get(len).is_some_and(|b| *b <= b'/');
        while self.open.pop_if(|(len, _)| !is_open(*len)).is_some() {}
        if let Some(end) = path.iter().rposition(|byte| *byte == b'/')
            && path.len() > 1
        {
            let found = self.open.binary_search_by_key(&end.max(1), |(len, _)| *len);
            let missing = Contradiction("a node has no parent");
            let (_, since) = self.open[found.map_err(|_| missing)?];
            if since.is_some_and(|since| node.stat.czxid < since) {
                return Err(Contradiction("a node is older than its parent"));
            }
        }
        self.path.truncate(same);
        self.path.extend_from_slice(&path[same..]);
        self.open
            .push((path.len(), is_new.then_some(node.stat.czxid)));
        Ok(())
    }
}
