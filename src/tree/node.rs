//! How the tree is kept in memory.
//!
//! A node holds what every node has and what differs between most: its name, two numbers of its Stat,
//! its data. What only some have is in records beside it: an [`Extra`] once the node was changed, has
//! an owner or children, a [`Branch`] once it has had a child. Nodes and extras lie in slabs and know
//! each other by numbers of four bytes. ACL lists are kept once, and counted.
//!
//! A name is stored once, in its node. A node is found by the hash of its full path, and is the right
//! one if its name and those of the nodes above it make up the path: one search, however deep it lies.
//! The hash is kept, so that the index grows without a look at any path.
//!
//! The digest of a node is the crc over path and data, kept as `prefix_crc`, continued over the 60
//! bytes of its stat: changing a stat never reads the data.
//!
//! What a znode costs in bytes is counted in [`footprint`](super::footprint); docs/performance.md has the
//! table.

use super::acls::Acls;
use super::children::Children;
use super::name::Name;
use super::path::in_digest;
use super::slab::Slab;
use super::stored::{NodeStat, prefix_crc};
use crate::txn::{Acl, Data, Stat};
use crate::types::{HashState, Zxid};
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

pub(super) type NodeId = u32;
pub(super) const ROOT: NodeId = 0;

/// Hash of a full path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathHash(u32);

impl PathHash {
    /// For a table that takes the place from the low bits and seven more from the highest.
    fn spread(self) -> u64 {
        u64::from(self.0) | u64::from(self.0) << 32
    }
}

/// What every node has.
#[derive(Clone, Debug)]
struct Node {
    name: Name,
    /// `None` is empty, or null where the extra says so: neither takes memory.
    data: Option<Arc<[u8]>>,
    czxid: Zxid,
    ctime: i64,
    parent: NodeId,
    /// Index in the parent's children.
    place: u32,
    hash: PathHash,
    prefix_crc: u32,
    acl: u32,
    /// Number of the [`Extra`], or [`Slab::NONE`]: then the stat is that of [`plain`].
    extra: u32,
}

const _: () = assert!(size_of::<Option<Node>>() == 80);

/// What a node has that is not as it was created, or has an owner, children, or null for data.
#[derive(Clone, Debug, Default)]
struct Extra {
    mzxid: Zxid,
    pzxid: Zxid,
    mtime: i64,
    owner: i64,
    version: i32,
    cversion: i32,
    aversion: i32,
    /// The data is null.
    null: bool,
    branch: Option<Box<Branch>>,
}

const _: () = assert!(size_of::<Option<Extra>>() == 56);

/// What a node with children has.
#[derive(Clone, Debug, Default)]
struct Branch {
    children: Children,
    /// Bytes of the children's names.
    names: usize,
}

/// The stat of a node that nobody has changed, without an owner and children.
fn plain(czxid: Zxid, ctime: i64) -> NodeStat {
    NodeStat {
        czxid,
        mzxid: czxid,
        pzxid: czxid,
        ctime,
        mtime: ctime,
        ..NodeStat::default()
    }
}

impl Extra {
    fn set(&mut self, stored: &NodeStat) {
        self.mzxid = stored.mzxid;
        self.pzxid = stored.pzxid;
        self.mtime = stored.mtime;
        self.owner = stored.owner;
        self.version = stored.version;
        self.cversion = stored.cversion;
        self.aversion = stored.aversion;
    }
}

/// A node, to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Znode<'a> {
    nodes: &'a Nodes,
    node: &'a Node,
    extra: Option<&'a Extra>,
}

impl<'a> Znode<'a> {
    pub(super) fn data(&self) -> Option<&'a [u8]> {
        match (&self.node.data, self.extra) {
            (Some(data), _) => Some(data),
            (None, Some(extra)) if extra.null => None,
            (None, _) => Some(&[]),
        }
    }

    pub(super) fn data_len(&self) -> usize {
        self.node.data.as_ref().map_or(0, |data| data.len())
    }

    pub(super) fn stored(&self) -> NodeStat {
        let Some(extra) = self.extra else {
            return plain(self.node.czxid, self.node.ctime);
        };
        NodeStat {
            czxid: self.node.czxid,
            mzxid: extra.mzxid,
            pzxid: extra.pzxid,
            ctime: self.node.ctime,
            mtime: extra.mtime,
            version: extra.version,
            cversion: extra.cversion,
            aversion: extra.aversion,
            owner: extra.owner,
        }
    }

    pub(super) fn stat(&self) -> Stat {
        let children = self.child_count();
        self.stored().reported(children, self.data_len() as i32)
    }

    pub(super) fn prefix_crc(&self) -> u32 {
        self.node.prefix_crc
    }

    fn digest(&self) -> u64 {
        self.stored().digest(self.node.prefix_crc)
    }

    pub(super) fn acl(&self) -> &'a Arc<[Acl]> {
        self.nodes.acls.get(self.node.acl)
    }

    /// Equal for equal lists.
    pub(super) fn acl_id(&self) -> u32 {
        self.node.acl
    }

    fn branch(&self) -> Option<&'a Branch> {
        self.extra?.branch.as_deref()
    }

    fn child_ids(&self) -> &'a [NodeId] {
        let branch = self.branch();
        branch.map_or(&[], |branch| branch.children.as_slice())
    }

    pub(super) fn child_count(&self) -> i32 {
        self.child_ids().len() as i32
    }

    /// Bytes of the children's names.
    pub(super) fn names(&self) -> usize {
        self.branch().map_or(0, |branch| branch.names)
    }

    /// Bytes of a name that does not fit the node.
    pub(super) fn name_allocated(&self) -> usize {
        self.node.name.allocated()
    }

    /// Bytes of the branch, and of its list.
    pub(super) fn branch_allocated(&self) -> Option<(usize, usize)> {
        let branch = self.branch()?;
        Some((size_of::<Branch>(), branch.children.allocated()))
    }

    /// The names of the children without the first `from`.
    pub(super) fn children_from(
        &self,
        from: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let (nodes, ids) = (self.nodes, self.child_ids());
        let ids = ids.get(from..).unwrap_or_default();
        ids.iter().map(|&id| nodes.node(id).name.as_bytes())
    }
}

/// All nodes, their index, and the sums over them.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    slab: Slab<Node>,
    extras: Slab<Extra>,
    /// All but the root.
    index: HashTable<NodeId>,
    hasher: HashState,
    acls: Acls,
    /// Wrapping sum of the digests of all nodes that count.
    pub(super) digest: u64,
    /// Path and data bytes.
    pub(super) bytes: u64,
}

impl Nodes {
    /// Only a root.
    pub(super) fn new() -> Nodes {
        let mut nodes = Nodes {
            slab: Slab::default(),
            extras: Slab::default(),
            index: HashTable::new(),
            hasher: HashState::default(),
            acls: Acls::default(),
            digest: 0,
            bytes: 1,
        };
        let (data, acl) = (Some(Arc::from([])), open_acl());
        let hash = nodes.hash("/");
        let root = nodes.place("/", Name::new(""), hash, data, &acl, NodeStat::default());
        assert_eq!(root, ROOT);
        nodes
    }

    /// Nodes, the root once.
    pub(super) fn len(&self) -> usize {
        self.index.len() + 1
    }

    fn hash(&self, path: &str) -> PathHash {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path.as_bytes());
        let hash = hasher.finish();
        PathHash((hash ^ hash >> 32) as u32)
    }

    /// The node at a path; where there is none, the hash under which [`Nodes::add`] puts one there.
    pub(super) fn locate(&self, path: &str) -> Result<NodeId, PathHash> {
        let hash = self.hash(path);
        if path == "/" {
            return Ok(ROOT);
        }
        let found = (self.index).find(hash.spread(), |&id| self.is_at(id, hash, path.as_bytes()));
        found.copied().ok_or(hash)
    }

    pub(super) fn find(&self, path: &str) -> Option<NodeId> {
        self.locate(path).ok()
    }

    /// Whether a node's name and those above it make up the path.
    fn is_at(&self, id: NodeId, hash: PathHash, path: &[u8]) -> bool {
        let mut node = self.node(id);
        if node.hash != hash {
            return false;
        }
        let mut rest = path;
        loop {
            let above = rest.strip_suffix(node.name.as_bytes());
            let Some(above) = above.and_then(|above| above.strip_suffix(b"/")) else {
                return false;
            };
            if node.parent == ROOT {
                return above.is_empty();
            }
            rest = above;
            node = self.node(node.parent);
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<Znode<'_>> {
        self.find(path).map(|id| self.at(id))
    }

    fn node(&self, id: NodeId) -> &Node {
        self.slab.get(id).expect("an indexed node")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.slab.get_mut(id).expect("an indexed node")
    }

    pub(super) fn at(&self, id: NodeId) -> Znode<'_> {
        self.znode(self.node(id))
    }

    fn znode<'a>(&'a self, node: &'a Node) -> Znode<'a> {
        Znode {
            nodes: self,
            node,
            extra: self.extras.get(node.extra),
        }
    }

    /// In no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Znode<'_>> {
        self.slab.iter().map(|node| self.znode(node))
    }

    /// Bytes of what every node has.
    pub(super) fn slab_bytes(&self) -> usize {
        self.slab.bytes()
    }

    /// Bytes of what some nodes have.
    pub(super) fn extras_bytes(&self) -> usize {
        self.extras.bytes()
    }

    /// Bytes of the index.
    pub(super) fn index_bytes(&self) -> usize {
        self.index.allocation_size()
    }

    /// Calls `visit` with each node and its path, sorted by the bytes of the path.
    ///
    /// # Errors
    /// What `visit` fails with.
    pub(super) fn in_order<'a, E>(
        &'a self,
        mut visit: impl FnMut(&[u8], Znode<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        visit(b"/", self.at(ROOT))?;
        let mut path = Vec::new();
        // What is still to be listed below each node on the way, and the length of that node's path.
        let mut open = vec![(self.listing(ROOT), 0)];
        while let Some((listing, len)) = open.last_mut() {
            path.truncate(*len);
            let Some((id, part)) = listing.next() else {
                open.pop();
                continue;
            };
            path.push(b'/');
            path.extend_from_slice(self.node(id).name.as_bytes());
            match part {
                Part::Node => visit(&path, self.at(id))?,
                Part::Below => open.push((self.listing(id), path.len())),
            }
        }
        Ok(())
    }

    /// The children of a node, and what is below each, in the order of their paths' bytes. A node and
    /// what is below it need not be neighbours: `/a-b` is between `/a` and `/a/b`.
    fn listing(&self, id: NodeId) -> std::vec::IntoIter<(NodeId, Part)> {
        let mut parts = Vec::new();
        for &child in self.at(id).child_ids() {
            parts.push((child, Part::Node));
            if self.at(child).child_count() > 0 {
                parts.push((child, Part::Below));
            }
        }
        parts.sort_unstable_by(|&(a, a_part), &(b, b_part)| {
            let (a, b) = (self.node(a).name.as_bytes(), self.node(b).name.as_bytes());
            let (a_head, a_rest) = a.split_at(a.len().min(b.len()));
            let (b_head, b_rest) = b.split_at(a.len().min(b.len()));
            let tail = |rest: &[u8], part| rest.first().copied().or(Part::first_byte(part));
            let tails = || tail(a_rest, a_part).cmp(&tail(b_rest, b_part));
            a_head.cmp(b_head).then_with(tails)
        });
        parts.into_iter()
    }

    /// Adds a node below `parent`; the path, whose hash is given, must be free.
    pub(super) fn add(
        &mut self,
        parent: NodeId,
        (path, hash): (&str, PathHash),
        data: Data,
        acl: &Arc<[Acl]>,
        stored: NodeStat,
    ) -> NodeId {
        let name = &path[path.rfind('/').map_or(0, |at| at + 1)..];
        self.bytes += (path.len() + data.as_ref().map_or(0, |d| d.len())) as u64;
        let id = self.place(path, Name::new(name), hash, data, acl, stored);
        let extra = self.extra_mut(parent);
        let branch = extra.branch.get_or_insert_default();
        branch.names += name.len();
        let place = branch.children.push(id);
        let node = self.node_mut(id);
        (node.parent, node.place) = (parent, place);
        let Nodes { slab, index, .. } = self;
        index.insert_unique(hash.spread(), id, |&id| {
            slab.get(id).expect("an indexed node").hash.spread()
        });
        id
    }

    /// Puts a node into the slab, and into the digest.
    fn place(
        &mut self,
        path: &str,
        name: Name,
        hash: PathHash,
        data: Data,
        acl: &Arc<[Acl]>,
        stored: NodeStat,
    ) -> NodeId {
        let prefix_crc = prefix_crc(path, data.as_deref());
        if in_digest(path) {
            self.digest = self.digest.wrapping_add(stored.digest(prefix_crc));
        }
        let null = data.is_none();
        let id = self.slab.insert(Node {
            name,
            data: data.filter(|data| !data.is_empty()),
            czxid: stored.czxid,
            ctime: stored.ctime,
            parent: ROOT,
            place: 0,
            hash,
            prefix_crc,
            acl: self.acls.intern(acl),
            extra: Slab::<Extra>::NONE,
        });
        if null {
            self.extra_mut(id).null = true;
        }
        self.store(id, &stored);
        id
    }

    /// The extra of a node, made if it has none.
    fn extra_mut(&mut self, id: NodeId) -> &mut Extra {
        let node = self.slab.get_mut(id).expect("an indexed node");
        if node.extra == Slab::<Extra>::NONE {
            let mut extra = Extra::default();
            extra.set(&plain(node.czxid, node.ctime));
            node.extra = self.extras.insert(extra);
        }
        self.extras.get_mut(node.extra).expect("a node's extra")
    }

    /// Replaces the stat of a node, and nothing else.
    fn store(&mut self, id: NodeId, stored: &NodeStat) {
        let node = self.slab.get_mut(id).expect("an indexed node");
        (node.czxid, node.ctime) = (stored.czxid, stored.ctime);
        let is_plain = *stored == plain(stored.czxid, stored.ctime);
        if !is_plain || node.extra != Slab::<Extra>::NONE {
            self.extra_mut(id).set(stored);
        }
    }

    /// Removes a node and, which only the replay of a fuzzy snapshot can meet, what is below it
    /// (the log then creates again what is to stay: docs/peer-protocol.md §3.6). `removed` gets the path
    /// and the stat of each.
    pub(super) fn remove(
        &mut self,
        id: NodeId,
        path: &str,
        removed: &mut impl FnMut(&str, &NodeStat),
    ) {
        assert_ne!(id, ROOT, "the root stays");
        let mut below: Vec<(NodeId, String)> = Vec::new();
        loop {
            let (last, at) = below
                .last()
                .map_or((id, path), |(id, path)| (*id, path.as_str()));
            if let Some(&child) = self.at(last).child_ids().last() {
                let name = String::from_utf8_lossy(self.node(child).name.as_bytes());
                below.push((child, format!("{at}/{name}")));
                continue;
            }
            self.remove_leaf(last, at, removed);
            if below.pop().is_none() {
                return;
            }
        }
    }

    fn remove_leaf(&mut self, id: NodeId, path: &str, removed: &mut impl FnMut(&str, &NodeStat)) {
        let found = self.at(id);
        let stored = found.stored();
        if in_digest(path) {
            let digest = stored.digest(found.prefix_crc());
            self.digest = self.digest.wrapping_sub(digest);
        }
        let node = self.slab.remove(id).expect("an indexed node");
        self.extras.remove(node.extra);
        let above = self.extra_mut(node.parent).branch.as_mut();
        let above = above.expect("the parent has children");
        above.names -= node.name.as_bytes().len();
        if let Some(moved) = above.children.swap_remove(node.place) {
            self.node_mut(moved).place = node.place;
        }
        if let Ok(entry) = (self.index).find_entry(node.hash.spread(), |&found| found == id) {
            entry.remove();
        }
        self.bytes -= (path.len() + node.data.as_ref().map_or(0, |d| d.len())) as u64;
        self.acls.release(node.acl);
        removed(path, &stored);
    }

    /// Changes the stat of a node and keeps the digest.
    pub(super) fn restat(&mut self, id: NodeId, path: &str, change: impl FnOnce(&mut NodeStat)) {
        let found = self.at(id);
        let (crc, before) = (found.prefix_crc(), found.stored());
        let mut after = before;
        change(&mut after);
        if in_digest(path) {
            let (before, after) = (before.digest(crc), after.digest(crc));
            self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        }
        self.store(id, &after);
    }

    /// Replaces data and stat.
    pub(super) fn set_data(
        &mut self,
        id: NodeId,
        path: &str,
        data: Data,
        change: impl FnOnce(&mut NodeStat),
    ) {
        let found = self.at(id);
        let (before, mut stored) = (found.digest(), found.stored());
        self.bytes -= found.data_len() as u64;
        self.bytes += data.as_ref().map_or(0, |d| d.len()) as u64;
        change(&mut stored);
        let prefix_crc = prefix_crc(path, data.as_deref());
        if in_digest(path) {
            let after = stored.digest(prefix_crc);
            self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        }
        self.store(id, &stored);
        let null = data.is_none();
        let node = self.node_mut(id);
        node.prefix_crc = prefix_crc;
        node.data = data.filter(|data| !data.is_empty());
        if null || node.extra != Slab::<Extra>::NONE {
            self.extra_mut(id).null = null;
        }
    }

    /// Replaces the ACL list.
    pub(super) fn set_acl(&mut self, id: NodeId, acl: &Arc<[Acl]>) {
        let new = self.acls.intern(acl);
        let old = std::mem::replace(&mut self.node_mut(id).acl, new);
        self.acls.release(old);
    }

    /// The digest computed from scratch, for checks.
    #[cfg(test)]
    pub(super) fn recount(&self) -> u64 {
        let mut digest = 0u64;
        let Ok(()) = self.in_order(|path, node| {
            let path = std::str::from_utf8(path).unwrap();
            if in_digest(path) {
                let crc = prefix_crc(path, node.data());
                digest = digest.wrapping_add(node.stored().digest(crc));
            }
            Ok::<(), std::convert::Infallible>(())
        });
        digest
    }
}

/// A node, or what is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Node,
    Below,
}

impl Part {
    /// What follows the node's name in the paths of the part.
    fn first_byte(self) -> Option<u8> {
        (self == Part::Below).then_some(b'/')
    }
}

/// `world:anyone` with all permissions.
pub(super) fn open_acl() -> Arc<[Acl]> {
    Arc::from([Acl::world(Acl::ALL)])
}
