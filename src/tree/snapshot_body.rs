//! The body of a snapshot, identical bytes for equal state however
//! the state was reached, so two servers, or a server and its restored backup, are compared by
//! comparing snapshots.
//!
//! ```text
//! body    = version i32 (3) ‖ lastZxid i64
//!           ‖ n i32 ‖ n × highest session i64                           sorted by creator
//!           ‖ session* ‖ 0 u8                                           sorted by id
//!           ‖ node* ‖ −1 i32                                            sorted by path bytes
//!           ‖ nodes i64 ‖ treeDigest i64
//! session = 1 u8 ‖ id i64 ‖ timeout i32
//! node    = path str ‖ data buf ‖ acl i32 [‖ vec<ACL>] ‖ stored
//! stored  = czxid mzxid pzxid ctime mtime i64 ‖ version cversion aversion i32 ‖ owner i64
//! ```
//!
//! How many nodes there are stands at the end: who merges two streams into this one knows it then. The
//! creator of a session is its id's top byte; of each creator there is the highest id ever made.
//!
//! ACL lists are numbered by first use; a number that has not been seen is followed by its list,
//! so one pass writes and one pass reads. Numbers are given as long as the lists that have one come to
//! no more than [`LISTS_BYTES_MAX`]; any other list has the number −1, and follows each time. A parent's
//! path is a prefix of its children's, so byte order has it before them. Integers are big-endian, strings
//! and buffers as in Jute.
//!
//! The data of a node with the totals of a quota is what clients see. In a body of version 2, which is still read and
//! has the same layout, it may be what a client has set at the beginning: the totals of all registered paths are
//! counted again when such a body ends.
//!
//! Version 1, of which the same is true, begins differently, and numbers every list:
//!
//! ```text
//! body    = version i32 (1) ‖ lastZxid i64 ‖ highest session i64, 0: none
//!           ‖ n i32 ‖ n × (session i64 ‖ timeout i32) ‖ n i64 ‖ n × node ‖ treeDigest i64
//! ```

use super::Tree;
use super::creators::SessionHighWater;
use super::digests::DigestLog;
use super::node::{Nodes, ROOT};
use super::path::{in_digest, stored_below};
use super::quota::Quotas;
use super::stored::{NodeStat, digest, owner_session};
use crate::txn::Acl;
use crate::txn::jute::{JuteError, Put, Reader};
use crate::types::{DetHashMap, SessionId, Zxid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the body's layout.
pub const BODY_VERSION: i32 = 3;
/// From this version on, sessions and nodes are ended by marks, and some lists have no number.
const MARKED: i32 = 2;
/// From this version on, totals of quotas are as clients see them.
const WITH_TOTALS: i32 = 3;
/// Most bytes of the ACL lists that have a number in a body, each counted with [`LIST_OVERHEAD`]: what a
/// reader and a writer must remember.
pub(crate) const LISTS_BYTES_MAX: usize = 1 << 20;
const LIST_OVERHEAD: usize = 64;
/// Number of a list that has none.
const UNNUMBERED: i32 = -1;
/// In place of the length of a path: there are no more nodes.
const END_OF_NODES: i32 = -1;
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

/// A node of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyNode<'a> {
    pub(crate) path: &'a str,
    /// `None` is null.
    pub(crate) data: Option<&'a [u8]>,
    /// Serialised.
    pub(crate) acl: &'a [u8],
    pub(crate) stat: NodeStat,
}

impl BodyNode<'_> {
    /// What the node adds to the tree's digest (docs/peer-protocol.md §3.5).
    pub(crate) fn digest(&self) -> u64 {
        match in_digest(self.path) {
            true => digest(self.path, self.data, &self.stat).into(),
            false => 0,
        }
    }
}

/// Makes a body of what is put into it, in order: sessions, then nodes.
pub(crate) struct BodyWriter {
    out: Vec<u8>,
    lists: NumberedLists,
    nodes: i64,
}

impl BodyWriter {
    pub(crate) fn new(last_zxid: Zxid, high_water: &SessionHighWater) -> BodyWriter {
        let mut out = Vec::with_capacity(2 * PIECE);
        out.put_i32(BODY_VERSION);
        out.put_i64(last_zxid.0);
        let ids = high_water.ids();
        out.put_len(ids.len());
        ids.for_each(|id| out.put_i64(id.0));
        BodyWriter {
            out,
            lists: NumberedLists::default(),
            nodes: 0,
        }
    }

    pub(crate) fn put_session(&mut self, id: SessionId, timeout_ms: i32) {
        self.out.put_bool(true);
        self.out.put_i64(id.0);
        self.out.put_i32(timeout_ms);
    }

    pub(crate) fn put_node(&mut self, node: &BodyNode<'_>) {
        if self.nodes == 0 {
            self.out.put_bool(false);
        }
        self.nodes += 1;
        self.out.put_str(node.path);
        self.out.put_buf(node.data);
        self.lists.put(node.acl, &mut self.out);
        put_stat(&mut self.out, &node.stat);
    }

    /// Hands over what has been made, if it has come to a piece.
    ///
    /// # Errors
    /// What `sink` fails with.
    pub(crate) fn drain<E>(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.out.len() < PIECE {
            return Ok(());
        }
        sink(&self.out)?;
        self.out.clear();
        // One node may have been many pieces long.
        self.out.shrink_to(2 * PIECE);
        Ok(())
    }

    /// Ends the body: a tree has a root at least.
    ///
    /// # Errors
    /// What `sink` fails with.
    pub(crate) fn finish<E>(
        mut self,
        digest: u64,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.out.put_i32(END_OF_NODES);
        self.out.put_i64(self.nodes);
        self.out.put_i64(digest as i64);
        sink(&self.out)
    }
}

pub(super) fn put_stat(out: &mut Vec<u8>, stat: &NodeStat) {
    for value in [
        stat.czxid.0,
        stat.mzxid.0,
        stat.pzxid.0,
        stat.ctime,
        stat.mtime,
    ] {
        out.put_i64(value);
    }
    for value in [stat.version, stat.cversion, stat.aversion] {
        out.put_i32(value);
    }
    out.put_i64(stat.owner);
}

pub(super) fn read_stat(r: &mut Reader<'_>) -> Result<NodeStat, JuteError> {
    Ok(NodeStat {
        czxid: Zxid(r.i64()?),
        mzxid: Zxid(r.i64()?),
        pzxid: Zxid(r.i64()?),
        ctime: r.i64()?,
        mtime: r.i64()?,
        version: r.i32()?,
        cversion: r.i32()?,
        aversion: r.i32()?,
        owner: r.i64()?,
    })
}

/// The lists of a body that have numbers, as its writer knows them.
#[derive(Default)]
struct NumberedLists {
    numbers: DetHashMap<Box<[u8]>, i32>,
    bytes: usize,
    /// The list that came last, and its number: the next node mostly has the same one.
    last: (Box<[u8]>, i32),
}

impl NumberedLists {
    fn put(&mut self, list: &[u8], out: &mut Vec<u8>) {
        if !self.numbers.is_empty() && *list == *self.last.0 {
            return out.put_i32(self.last.1);
        }
        let known = self.numbers.get(list).copied();
        let number = known.unwrap_or_else(|| self.number(list));
        out.put_i32(number);
        if known.is_none() {
            out.extend_from_slice(list);
        }
        if number != UNNUMBERED {
            self.last = (list.into(), number);
        }
    }

    fn number(&mut self, list: &[u8]) -> i32 {
        let bytes = self.bytes + list.len() + LIST_OVERHEAD;
        if bytes > LISTS_BYTES_MAX {
            return UNNUMBERED;
        }
        self.bytes = bytes;
        let number = self.numbers.len() as i32;
        self.numbers.insert(list.into(), number);
        number
    }
}

/// Bytes of a node in a body beside its path and its data, at least.
const NODE_BYTES: u64 = 72;

impl Tree {
    /// How long the body is at least, bytes.
    pub fn body_bytes_least(&self) -> u64 {
        self.approximate_data_size() + NODE_BYTES * self.nodes.len() as u64
    }

    /// Writes the body, piece by piece.
    ///
    /// # Errors
    /// What `sink` fails with.
    pub fn write_body<E>(&self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut body = BodyWriter::new(self.last_zxid, &self.session_high_water);
        for (id, timeout_ms) in self.sessions() {
            body.put_session(id, timeout_ms);
            body.drain(sink)?;
        }
        let mut list = (None, Vec::new());
        self.nodes.in_order(|path, node| {
            if list.0 != Some(node.acl_id()) {
                list.0 = Some(node.acl_id());
                list.1.clear();
                list.1.put_acls(node.acl());
            }
            let path = std::str::from_utf8(path).expect("names are cut at slashes");
            body.put_node(&BodyNode {
                path,
                data: node.showing(self.quotas.shown(path)).data(),
                acl: &list.1,
                stat: node.stored(),
            });
            body.drain(sink)
        })?;
        body.finish(self.digest(), sink)
    }
}

/// What a body consists of, in its order.
#[derive(Debug)]
pub(crate) enum BodyItem<'a> {
    Head {
        version: i32,
        last_zxid: Zxid,
        high_water: SessionHighWater,
    },
    Session(SessionId, i32),
    /// With the number of its list.
    Node(BodyNode<'a>, Option<usize>),
    /// With the tree's digest.
    End(u64),
}

/// Takes a body apart, which comes piece by piece, cut anywhere. Remembers its numbered lists, and what
/// is cut off.
#[derive(Debug, Default)]
pub(crate) struct BodyParser {
    buffer: Vec<u8>,
    part: BodyPart,
    lists: Vec<Box<[u8]>>,
    nodes: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BodyPart {
    #[default]
    Head,
    /// Version 1: so many are left.
    Sessions(Option<i32>),
    /// Version 1: so many are left.
    Nodes(Option<i64>),
    Digest,
    Done,
}

impl BodyParser {
    /// Takes the next piece; `take` gets each item that is whole.
    ///
    /// # Errors
    /// [`BodyError`], or what `take` fails with; the parser is of no use afterwards.
    pub(crate) fn push<E: From<BodyError>>(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(BodyItem<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.buffer.extend_from_slice(piece);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        while self.part != BodyPart::Done {
            // A field that is cut off here is read again when more has come.
            let mut reader = Reader::new(rest);
            match self.step(&mut reader) {
                Ok(Some(item)) => take(item)?,
                Ok(None) => {}
                Err(BodyError::Jute(JuteError::Short | JuteError::Length(0..))) => break,
                Err(e) => return Err(e.into()),
            }
            rest = reader.rest();
        }
        let used = buffer.len() - rest.len();
        buffer.drain(..used);
        if buffer.len() < PIECE {
            // One node may have been many pieces long.
            buffer.shrink_to(2 * PIECE);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Everything has come.
    ///
    /// # Errors
    /// [`BodyError::Content`] if the body ends early, or goes on behind its end.
    pub(crate) fn finish(&self) -> Result<(), BodyError> {
        match self.part {
            BodyPart::Done if self.buffer.is_empty() => Ok(()),
            BodyPart::Done => Err(BodyError::Content("there are bytes behind the end")),
            _ => Err(BodyError::Content("it ends early")),
        }
    }

    /// The next item; `None` at the end of a part. Nothing has changed if what is there is too short.
    fn step<'a, 'b: 'a>(
        &'a mut self,
        r: &mut Reader<'b>,
    ) -> Result<Option<BodyItem<'a>>, BodyError> {
        match self.part {
            BodyPart::Head => self.head(r).map(Some),
            BodyPart::Sessions(Some(0)) => {
                let nodes = r.i64()?;
                if nodes < 1 {
                    return Err(BodyError::Content("there is no root"));
                }
                self.part = BodyPart::Nodes(Some(nodes));
                Ok(None)
            }
            BodyPart::Sessions(None) if !r.bool()? => {
                self.part = BodyPart::Nodes(None);
                Ok(None)
            }
            BodyPart::Sessions(left) => {
                let session = BodyItem::Session(SessionId(r.i64()?), r.i32()?);
                self.part = BodyPart::Sessions(left.map(|left| left - 1));
                Ok(Some(session))
            }
            BodyPart::Nodes(Some(0)) => {
                self.part = BodyPart::Digest;
                Ok(None)
            }
            BodyPart::Nodes(left) => self.node(r, left),
            BodyPart::Digest => {
                let digest = r.i64()? as u64;
                self.part = BodyPart::Done;
                Ok(Some(BodyItem::End(digest)))
            }
            BodyPart::Done => Ok(None),
        }
    }

    fn head(&mut self, r: &mut Reader<'_>) -> Result<BodyItem<'static>, BodyError> {
        let version = r.i32()?;
        if version > BODY_VERSION {
            return Err(BodyError::Newer(version));
        }
        let last_zxid = Zxid(r.i64()?);
        let (high_water, sessions) = if version < MARKED {
            let highest = Some(SessionId(r.i64()?)).filter(|id| *id != SessionId::NONE);
            let sessions = r.i32()?;
            if sessions < 0 {
                return Err(BodyError::Content("there is no list of sessions"));
            }
            (highest.into_iter().collect(), Some(sessions))
        } else {
            let ids = r.vec(|r| r.i64().map(SessionId))?.ok_or(JuteError::Null)?;
            (ids.into_iter().collect(), None)
        };
        self.part = BodyPart::Sessions(sessions);
        Ok(BodyItem::Head {
            version,
            last_zxid,
            high_water,
        })
    }

    fn node<'a, 'b: 'a>(
        &'a mut self,
        r: &mut Reader<'b>,
        left: Option<i64>,
    ) -> Result<Option<BodyItem<'a>>, BodyError> {
        let Some(path) = r.buf()? else {
            return match left {
                None if r.i64()? == self.nodes => {
                    self.part = BodyPart::Digest;
                    Ok(None)
                }
                None => Err(BodyError::Content("the number of nodes is another")),
                Some(_) => Err(BodyError::Jute(JuteError::Null)),
            };
        };
        let data = r.buf()?;
        let number = r.i32()?;
        let (number, follows) = match usize::try_from(number) {
            Ok(n) if n < self.lists.len() => (Some(n), None),
            Ok(n) if n == self.lists.len() => (Some(n), Some(skip_acls(r)?)),
            Err(_) if number == UNNUMBERED && left.is_none() => (None, Some(skip_acls(r)?)),
            _ => return Err(BodyError::Content("an ACL list has no number")),
        };
        let stat = read_stat(r)?;
        let path = std::str::from_utf8(path);
        let path = path.map_err(|_| BodyError::Content("a path is no text"))?;
        // Everything of the node is here: from now on it counts.
        self.nodes += 1;
        self.part = BodyPart::Nodes(left.map(|left| left - 1));
        let acl: &'a [u8] = match (number, follows) {
            (Some(n), list) => {
                self.lists.extend(list.map(Box::from));
                &self.lists[n]
            }
            (None, list) => list.unwrap_or_default(),
        };
        let node = BodyNode {
            path,
            data,
            acl,
            stat,
        };
        Ok(Some(BodyItem::Node(node, number)))
    }
}

/// The bytes of a list, the texts of which are texts: who decodes it and who copies it then write the same.
fn skip_acls<'b>(r: &mut Reader<'b>) -> Result<&'b [u8], BodyError> {
    let begin = r.rest();
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    let entry = |r: &mut Reader<'_>| {
        r.i32()?;
        let (scheme, id) = r.buf()?.zip(r.buf()?).ok_or(JuteError::Null)?;
        Ok(is_text(scheme) && is_text(id))
    };
    let entries = r.vec(entry)?.ok_or(JuteError::Null)?;
    match entries.contains(&false) {
        false => Ok(&begin[..begin.len() - r.rest().len()]),
        true => Err(BodyError::Content("an ACL is no text")),
    }
}

/// Takes a body piece by piece, cut anywhere, and makes the tree.
#[derive(Debug, Default)]
pub struct BodyReader {
    parser: BodyParser,
    maker: Maker,
}

impl BodyReader {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`BodyError`]; the reader is of no use afterwards.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        let BodyReader { parser, maker } = self;
        parser.push(piece, |item| maker.take(item))
    }

    /// The tree, when everything has come.
    ///
    /// # Errors
    /// [`BodyError::Content`] if the body ends early, goes on behind its end, or has another
    /// digest than it says.
    pub fn finish(self) -> Result<Tree, BodyError> {
        self.parser.finish()?;
        let root = self.maker.tree.filter(|_| self.maker.has_root);
        root.ok_or(BodyError::Content("there is no root"))
    }
}

/// A tree that is made of the items of a body.
#[derive(Debug, Default)]
struct Maker {
    tree: Option<Tree>,
    /// The data of nodes of totals is as clients see it.
    has_totals: bool,
    has_root: bool,
    lists: Vec<Arc<[Acl]>>,
}

impl Maker {
    fn take(&mut self, item: BodyItem<'_>) -> Result<(), BodyError> {
        if let BodyItem::Head {
            version,
            last_zxid,
            high_water,
        } = item
        {
            self.has_totals = version >= WITH_TOTALS;
            self.tree = Some(Tree {
                nodes: Nodes::new(),
                ephemerals: BTreeMap::new(),
                sessions: BTreeMap::new(),
                session_high_water: high_water,
                quotas: Quotas::default(),
                last_zxid,
                digests: DigestLog::default(),
            });
            return Ok(());
        }
        let Some(tree) = &mut self.tree else {
            return Err(BodyError::Content("there is no head"));
        };
        match item {
            BodyItem::Head { .. } => {}
            BodyItem::Session(id, timeout_ms) => {
                tree.sessions.insert(id, timeout_ms);
            }
            BodyItem::Node(node, number) => {
                let known = number.and_then(|number| self.lists.get(number));
                let acl = match known {
                    Some(list) => list.clone(),
                    None => decode_acls(node.acl)?,
                };
                if known.is_none() && number.is_some() {
                    self.lists.push(acl.clone());
                }
                match self.has_root {
                    true => add_node(tree, &node, &acl)?,
                    false => set_root(tree, &node, &acl)?,
                }
                self.has_root = true;
                tree.quota_found(node.path, node.data);
            }
            BodyItem::End(digest) if digest == tree.digest() => {
                if !self.has_totals {
                    tree.count_all_again();
                }
                // Nobody waits for what a start has done.
                tree.take_quota_steps();
            }
            BodyItem::End(_) => return Err(BodyError::Content("the digest is another")),
        }
        Ok(())
    }
}

fn decode_acls(list: &[u8]) -> Result<Arc<[Acl]>, BodyError> {
    let list = Reader::new(list).vec(|r| r.acl())?;
    Ok(list.unwrap_or_default().into())
}

fn set_root(tree: &mut Tree, node: &BodyNode<'_>, acl: &Arc<[Acl]>) -> Result<(), BodyError> {
    if node.path != "/" {
        return Err(BodyError::Content("the root does not come first"));
    }
    let data = node.data.map(Arc::from);
    tree.nodes.set_acl(ROOT, acl);
    tree.nodes
        .set_data(ROOT, "/", data, |stored| *stored = node.stat);
    Ok(())
}

fn add_node(tree: &mut Tree, node: &BodyNode<'_>, acl: &Arc<[Acl]>) -> Result<(), BodyError> {
    let BodyNode {
        path, data, stat, ..
    } = *node;
    let parent = stored_below(path).and_then(|p| tree.nodes.find(p));
    let parent = parent.ok_or(BodyError::Content("a node comes before its parent"))?;
    let Err(hash) = tree.nodes.locate(path) else {
        return Err(BodyError::Content("a node comes twice"));
    };
    let data = data.map(Arc::from);
    tree.nodes.add(parent, (path, hash), data, acl, stat);
    if let Some(owner) = owner_session(&stat) {
        let zxid = tree.last_zxid;
        let own = tree.ephemerals.entry(owner).or_default();
        own.insert(path.into(), zxid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_it_is_said_to_be_at_least_and_without_lists_little_longer() {
        let mut tree = Tree::new();
        let acl: Arc<[Acl]> = Arc::from([Acl::world(Acl::ALL)]);
        for (nth, data) in [None, Some(0), Some(7), Some(3000)].into_iter().enumerate() {
            let path = format!("/node-{nth}");
            let hash = tree.nodes.locate(&path).unwrap_err();
            let data = data.map(|len| vec![7; len].into());
            let stored = NodeStat::default();
            tree.nodes.add(ROOT, (&path, hash), data, &acl, stored);
        }
        let mut bytes = 0;
        let Ok(()) = tree.write_body(&mut |piece: &[u8]| {
            bytes += piece.len() as u64;
            Ok::<(), std::convert::Infallible>(())
        });
        let least = tree.body_bytes_least();
        assert!((least..least + 200).contains(&bytes), "{least} {bytes}");
    }

    #[test]
    fn lists_are_numbered_within_a_bound_and_those_beyond_it_are_written_each_time() {
        let mut lists = NumberedLists::default();
        let long = |n: u8| [n].repeat(LISTS_BYTES_MAX / 3);
        let number = |lists: &mut NumberedLists, list: &[u8]| {
            let mut out = Vec::new();
            lists.put(list, &mut out);
            let number = Reader::new(&out).i32().unwrap();
            (number, out.len() > 4)
        };
        let numbers = |lists: &mut NumberedLists| [1, 2, 3, 1].map(|n| number(lists, &long(n)));
        let first = [(0, true), (1, true), (-1, true), (0, false)];
        assert_eq!(numbers(&mut lists), first);
        let again = [(0, false), (1, false), (-1, true), (0, false)];
        assert_eq!(numbers(&mut lists), again);
        let neighbours = [3, 3].map(|n| number(&mut lists, &long(n)));
        assert_eq!(neighbours, [(-1, true), (-1, true)]);
        // A shorter one still has room.
        assert_eq!(number(&mut lists, b"short"), (2, true));
        assert!(lists.bytes <= LISTS_BYTES_MAX);
    }
}
