//! The body of a snapshot, identical bytes for equal state however
//! the state was reached, so two servers, or a server and its restored backup, are compared by
//! comparing snapshots.
//!
//! ```text
//! body    = version i32 (1) ‖ lastZxid i64 ‖ sessionHighWater i64
//!           ‖ n i32 ‖ n × (session i64 ‖ timeout i32)                   sorted by id
//!           ‖ n i64 ‖ n × node                                          sorted by path bytes
//!           ‖ treeDigest i64
//! node    = path str ‖ data buf ‖ acl i32 [‖ vec<ACL>] ‖ stored
//! stored  = czxid mzxid pzxid ctime mtime i64 ‖ version cversion aversion i32 ‖ owner i64
//! ```
//!
//! ACL lists are numbered by first use; a number that has not been seen is followed by its list,
//! so one pass writes and one pass reads. A parent's path is a prefix of its children's, so byte
//! order has it before them. Integers are big-endian, strings and buffers as in Jute.

use super::Tree;
use super::node::{Nodes, ROOT, Znode};
use super::path::stored_below;
use super::stored::{NodeStat, owner_session};
use crate::txn::Acl;
use crate::txn::jute::{JuteError, Put, Reader};
use crate::types::{SessionId, Zxid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the body's layout.
pub const BODY_VERSION: i32 = 1;
/// The writer hands over pieces of about this size, bytes.
const PIECE: usize = 64 << 10;

/// Why a body can't be read. The reader falls back to an older snapshot.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The layout is broken.
    #[error("snapshot body: {0}")]
    Jute(#[from] JuteError),
    /// Made by a newer version.
    #[error("snapshot body has layout version {0}, this server reads up to {BODY_VERSION}")]
    Newer(i32),
    /// The content contradicts itself.
    #[error("snapshot body: {0}")]
    Content(&'static str),
}

impl Tree {
    /// Writes the body, piece by piece.
    ///
    /// # Errors
    /// What `sink` fails with.
    pub fn write_body<E>(&self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut out = Vec::with_capacity(2 * PIECE);
        out.put_i32(BODY_VERSION);
        out.put_i64(self.last_zxid.0);
        out.put_i64(self.session_high_water);
        out.put_len(self.sessions.len());
        for (id, timeout_ms) in self.sessions() {
            out.put_i64(id.0);
            out.put_i32(timeout_ms);
        }
        out.put_i64(self.nodes.len() as i64);
        let mut numbers = BTreeMap::new();
        self.nodes.in_order(|path, node| {
            put_node(&mut out, path, node, &mut numbers);
            if out.len() >= PIECE {
                sink(&out)?;
                out.clear();
            }
            Ok(())
        })?;
        out.put_i64(self.digest() as i64);
        sink(&out)
    }
}

fn put_node(out: &mut Vec<u8>, path: &[u8], node: Znode<'_>, numbers: &mut BTreeMap<u32, i32>) {
    out.put_buf(Some(path));
    out.put_buf(node.data());
    let next = numbers.len() as i32;
    let number = *numbers.entry(node.acl_id()).or_insert(next);
    out.put_i32(number);
    if number == next {
        out.put_acls(node.acl());
    }
    let stored = node.stored();
    for value in [
        stored.czxid.0,
        stored.mzxid.0,
        stored.pzxid.0,
        stored.ctime,
        stored.mtime,
    ] {
        out.put_i64(value);
    }
    for value in [stored.version, stored.cversion, stored.aversion] {
        out.put_i32(value);
    }
    out.put_i64(stored.owner);
}

/// Takes a body piece by piece, cut anywhere, and makes the tree.
#[derive(Debug, Default)]
pub struct BodyReader {
    buffer: Vec<u8>,
    state: State,
    lists: Vec<Arc<[Acl]>>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Nodes {
        tree: Box<Tree>,
        left: i64,
        root_seen: bool,
    },
    Done(Box<Tree>),
}

impl BodyReader {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`BodyError`]; the reader is of no use afterwards.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        self.buffer.extend_from_slice(piece);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        loop {
            // A field that is cut off here is read again when more has come.
            let mut reader = Reader::new(rest);
            match self.step(&mut reader) {
                Ok(true) => rest = reader.rest(),
                Ok(false) => break,
                Err(BodyError::Jute(JuteError::Short | JuteError::Length(0..))) => break,
                Err(e) => return Err(e),
            }
        }
        self.buffer = rest.to_vec();
        Ok(())
    }

    /// The tree, when everything has come.
    ///
    /// # Errors
    /// [`BodyError::Content`] if the body ends early, goes on behind its end, or has another
    /// digest than it says.
    pub fn finish(self) -> Result<Tree, BodyError> {
        match self.state {
            State::Done(tree) if self.buffer.is_empty() => Ok(*tree),
            State::Done(_) => Err(BodyError::Content("there are bytes behind the end")),
            _ => Err(BodyError::Content("it ends early")),
        }
    }

    fn step(&mut self, r: &mut Reader<'_>) -> Result<bool, BodyError> {
        match &mut self.state {
            State::Head => {
                let (tree, left) = read_head(r)?;
                self.state = State::Nodes {
                    tree: Box::new(tree),
                    left,
                    root_seen: false,
                };
            }
            State::Nodes { tree, left: 0, .. } => {
                let digest = r.i64()? as u64;
                if digest != tree.digest() {
                    return Err(BodyError::Content("the digest is another"));
                }
                self.state = State::Done(std::mem::take(tree));
            }
            State::Nodes {
                tree,
                left,
                root_seen,
            } => {
                read_node(r, &mut self.lists, tree, root_seen)?;
                *left -= 1;
            }
            State::Done(_) => return Ok(false),
        }
        Ok(true)
    }
}

fn read_head(r: &mut Reader<'_>) -> Result<(Tree, i64), BodyError> {
    let version = r.i32()?;
    if version > BODY_VERSION {
        return Err(BodyError::Newer(version));
    }
    let (last_zxid, session_high_water) = (Zxid(r.i64()?), r.i64()?);
    let sessions = r
        .vec(|r| Ok((SessionId(r.i64()?), r.i32()?)))?
        .ok_or(JuteError::Null)?;
    let count = r.i64()?;
    if count < 1 {
        return Err(BodyError::Content("there is no root"));
    }
    let tree = Tree {
        nodes: Nodes::new(),
        ephemerals: BTreeMap::new(),
        sessions: sessions.into_iter().collect(),
        session_high_water,
        last_zxid,
    };
    Ok((tree, count))
}

fn read_node(
    r: &mut Reader<'_>,
    lists: &mut Vec<Arc<[Acl]>>,
    tree: &mut Tree,
    root_seen: &mut bool,
) -> Result<(), BodyError> {
    let (path, data) = (r.required_str()?, r.data()?);
    let number = r.i32()?;
    let fresh: Option<Arc<[Acl]>> = match usize::try_from(number) {
        Ok(n) if n < lists.len() => None,
        Ok(n) if n == lists.len() => Some(r.vec(|r| r.acl())?.unwrap_or_default().into()),
        _ => return Err(BodyError::Content("an ACL list has no number")),
    };
    let (czxid, mzxid, pzxid) = (Zxid(r.i64()?), Zxid(r.i64()?), Zxid(r.i64()?));
    let (ctime, mtime) = (r.i64()?, r.i64()?);
    let (version, cversion, aversion, owner) = (r.i32()?, r.i32()?, r.i32()?, r.i64()?);
    // Everything of the node is here: from now on it counts.
    lists.extend(fresh);
    let acl = &lists[number as usize];
    let stored = NodeStat {
        czxid,
        mzxid,
        pzxid,
        ctime,
        mtime,
        version,
        cversion,
        aversion,
        owner,
    };
    if !*root_seen {
        *root_seen = true;
        if *path != *"/" {
            return Err(BodyError::Content("the root does not come first"));
        }
        tree.nodes.set_acl(ROOT, acl);
        tree.nodes.set_data(ROOT, "/", data, |own| *own = stored);
        return Ok(());
    }
    let parent = stored_below(&path).and_then(|p| tree.nodes.find(p));
    let parent = parent.ok_or(BodyError::Content("a node comes before its parent"))?;
    let Err(hash) = tree.nodes.locate(&path) else {
        return Err(BodyError::Content("a node comes twice"));
    };
    tree.nodes.add(parent, (&path, hash), data, acl, stored);
    if let Some(owner) = owner_session(&stored) {
        tree.ephemerals.entry(owner).or_default().insert(path);
    }
    Ok(())
}
