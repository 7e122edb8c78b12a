//! How the tree is kept in memory.
//!
//! A node holds what every node has and what differs between most: its name, two numbers of its Stat,
//! its data. What only some have is in records beside it: an [`Extra`] once the node was changed, has
//! an owner or children, a [`Branch`] once it has had a child. Nodes and extras lie in slabs and know
//! each other by numbers of four bytes. ACL lists are kept once, and counted.
//!
//! A name is stored once, in its node. A node is found by the hash of its full path, and is the right
//! one if its name and those of the nodes above it make up the path: one search, however deep it lies.
//! The way up ends at the first node whose whole path is short enough to be stored beside its name. The
//! hash is kept, so that a node is removed without a look at any path.
//!
//! The digest of a node is kept too: changing a stat never reads the data.
//!
//! What a znode costs in bytes is counted in [`footprint`](super::footprint); docs/performance.md has the
//! table.

use super::access::allow;
use super::acls::Acls;
use super::allocated::{allocation, listed, payload};
use super::children::Children;
use super::hash::{PathHash, PathHasher};
use super::index::{Index, NodeId};
use super::name::Name;
use super::path::in_digest;
use super::slab::{Place, Slab};
use super::stored::{NodeStat, digest, is_reaped, is_session, restated};
use super::walked::Walk;
use crate::txn::{Acl, AuthId, Data, Stat};
use crate::types::Zxid;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const ROOT: NodeId = 0;

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
    /// docs/peer-protocol.md §3.5
    digest: u32,
    acl: u32,
    /// Number of the [`Extra`], or [`Slab::NONE`]: then the stat is [`NodeStat::plain`].
    extra: u32,
}

const _: () = assert!(size_of::<Place<Node>>() == 80);

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

const _: () = assert!(size_of::<Place<Extra>>() == 56);

/// What a node with children has.
#[derive(Clone, Debug, Default)]
struct Branch {
    children: Children,
    /// Bytes of the children's names.
    names: usize,
    /// Nodes below this one, children and all below them.
    below: u32,
    /// Bytes of their data.
    below_bytes: u64,
}

impl Branch {
    fn bytes(&self) -> usize {
        allocation(size_of::<Branch>()) + allocation(self.children.allocated())
    }
}

impl Extra {
    fn new(stored: &NodeStat, null: bool) -> Extra {
        let mut extra = Extra {
            null,
            ..Extra::default()
        };
        extra.set(stored);
        extra
    }

    fn branch_bytes(&self) -> usize {
        self.branch.as_deref().map_or(0, Branch::bytes)
    }

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

impl Node {
    fn stored(&self, extra: Option<&Extra>) -> NodeStat {
        let Some(extra) = extra else {
            return NodeStat::plain(self.czxid, self.ctime);
        };
        NodeStat {
            czxid: self.czxid,
            mzxid: extra.mzxid,
            pzxid: extra.pzxid,
            ctime: self.ctime,
            mtime: extra.mtime,
            version: extra.version,
            cversion: extra.cversion,
            aversion: extra.aversion,
            owner: extra.owner,
        }
    }

    /// Replaces the stat, and whether the data is null; nothing else.
    fn store(&mut self, extras: &mut Slab<Extra>, stored: &NodeStat, null: bool) {
        (self.czxid, self.ctime) = (stored.czxid, stored.ctime);
        match extras.get_mut(self.extra) {
            Some(extra) => {
                extra.set(stored);
                extra.null = null;
            }
            None if null || !stored.is_plain() => {
                self.extra = extras.insert(Extra::new(stored, null));
            }
            None => {}
        }
    }

    fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }
}

/// A node, to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Znode<'a> {
    nodes: &'a Nodes,
    node: &'a Node,
    extra: Option<&'a Extra>,
    /// What its data is, where the node holds an older text of the same length.
    shown: Option<&'a Arc<[u8]>>,
}

impl<'a> Znode<'a> {
    /// The same node, whose data is this.
    pub(super) fn showing(self, shown: Option<&'a Arc<[u8]>>) -> Znode<'a> {
        assert!(shown.is_none_or(|text| text.len() == self.data_len()));
        Znode { shown, ..self }
    }

    pub(super) fn data(&self) -> Option<&'a [u8]> {
        if let Some(shown) = self.shown {
            return Some(shown);
        }
        match (&self.node.data, self.extra) {
            (Some(data), _) => Some(data),
            (None, Some(extra)) if extra.null => None,
            (None, _) => Some(&[]),
        }
    }

    /// As [`Znode::data`], without a copy.
    pub(super) fn shared_data(&self) -> Data {
        match (self.shown.or(self.node.data.as_ref()), self.data()) {
            (Some(data), _) => Some(data.clone()),
            (None, data) => data.map(Arc::from),
        }
    }

    pub(super) fn data_len(&self) -> usize {
        self.node.data_len()
    }

    pub(super) fn stored(&self) -> NodeStat {
        self.node.stored(self.extra)
    }

    /// The cversion of [`Znode::stored`], without the rest of it.
    pub(super) fn cversion(&self) -> i32 {
        self.extra.map_or(0, |extra| extra.cversion)
    }

    pub(super) fn stat(&self) -> Stat {
        let children = self.child_count();
        self.stored().reported(children, self.data_len() as i32)
    }

    pub(super) fn digest(&self) -> u32 {
        self.node.digest
    }

    pub(super) fn acl(&self) -> &'a Arc<[Acl]> {
        self.nodes.acls.get(self.node.acl)
    }

    /// Whether the list grants at least one bit of `perm` to one of the identities, which are sorted, as
    /// [`allow`] says.
    pub(super) fn allows(&self, perm: i32, who: &[AuthId]) -> bool {
        let listed = self.nodes.acls.listed(self.node.acl);
        listed.anyone & perm != 0 || allow(&listed.acl, perm, who)
    }

    /// What a check for `perm` may cost, in steps.
    pub(super) fn compared(&self, perm: i32) -> usize {
        self.nodes.acls.listed(self.node.acl).compared(perm)
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

    /// Nodes below this one.
    pub(super) fn descendants(&self) -> u32 {
        self.branch().map_or(0, |branch| branch.below)
    }

    /// Nodes and bytes of data, its own and of all below it.
    pub(super) fn totals(&self) -> (u32, u64) {
        let below = self.branch().map_or(0, |branch| branch.below_bytes);
        (self.descendants() + 1, below + self.data_len() as u64)
    }

    /// Bytes of a name that does not fit the node.
    pub(super) fn name_allocated(&self) -> usize {
        self.node.name.allocated()
    }

    /// Bytes of the branch with its list, 0 for none.
    pub(super) fn branch_bytes(&self) -> usize {
        self.branch().map_or(0, Branch::bytes)
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
    index: Index,
    hasher: PathHasher,
    acls: Acls,
    /// Wrapping sum of the digests of all nodes that count.
    pub(super) digest: u64,
    /// Of all nodes, as [`counted`] has it.
    pub(super) bytes: u64,
    /// What is allocated beside slabs and index, as [`footprint`](super::footprint) counts it, bytes:
    /// long names, data, branches, and the paths of ephemerals once more.
    pub(super) beside: usize,
    /// Of that, what the data takes: the trees of a process share it.
    pub(super) payloads: usize,
    /// Containers and TTL nodes, which the server deletes itself: found without a walk.
    pub(super) reaped: BTreeSet<NodeId>,
    /// The one that is under way.
    pub(super) walk: Option<Box<Walk>>,
}

/// Characters of a node's path and bytes of its data, as Apache's server adds them up: to Java a path has as many
/// characters, because none of them is above U+FFFF.
fn counted(path: &str, data_len: usize) -> u64 {
    (path.chars().count() + data_len) as u64
}

impl Nodes {
    /// Only a root.
    pub(super) fn new() -> Nodes {
        let mut nodes = Nodes {
            slab: Slab::default(),
            extras: Slab::default(),
            index: Index::default(),
            hasher: PathHasher::default(),
            acls: Acls::default(),
            digest: 0,
            bytes: 1,
            beside: 0,
            payloads: 0,
            reaped: BTreeSet::new(),
            walk: None,
        };
        let (data, acl) = (Some(Arc::from([])), open_acl());
        let place = (ROOT, 0);
        let hash = nodes.hasher.hash("/");
        let name = Name::of("/");
        nodes.put(place, ("/", name, hash), data, &acl, NodeStat::default());
        nodes
    }

    /// Nodes, the root once.
    pub(super) fn len(&self) -> usize {
        self.index.len() + 1
    }

    /// The node at a path; where there is none, the hash under which [`Nodes::add`] puts one there.
    pub(super) fn locate(&self, path: &str) -> Result<NodeId, PathHash> {
        let hash = self.hasher.hash(path);
        self.find_hashed(path, hash).ok_or(hash)
    }

    /// The node at a path of which the hash is known.
    pub(super) fn find_hashed(&self, path: &str, hash: PathHash) -> Option<NodeId> {
        self.search(path, hash).map(|(id, _)| id)
    }

    /// As [`Nodes::find_hashed`], with the node.
    pub(super) fn get_hashed(&self, path: &str, hash: PathHash) -> Option<(NodeId, Znode<'_>)> {
        let (id, node) = self.search(path, hash)?;
        Some((id, self.znode(node)))
    }

    fn search(&self, path: &str, hash: PathHash) -> Option<(NodeId, &Node)> {
        if path == "/" {
            return Some((ROOT, self.node(ROOT)));
        }
        self.index.find(hash, |id| {
            let node = self.node(id);
            self.is_at(node, path.as_bytes()).then_some(node)
        })
    }

    pub(super) fn find(&self, path: &str) -> Option<NodeId> {
        self.find_hashed(path, self.hasher.hash(path))
    }

    /// Whether a node's name and those above it make up the path.
    fn is_at<'a>(&'a self, mut node: &'a Node, path: &[u8]) -> bool {
        let mut rest = path;
        loop {
            if let Some(whole) = node.name.path() {
                return rest == whole;
            }
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
        self.locate_node(path).map(|(_, node)| node)
    }

    /// The node at a path, with its number.
    pub(super) fn locate_node(&self, path: &str) -> Option<(NodeId, Znode<'_>)> {
        self.get_hashed(path, self.hasher.hash(path))
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

    /// `None` for a place without a node.
    pub(super) fn try_at(&self, id: NodeId) -> Option<Znode<'_>> {
        self.slab.get(id).map(|node| self.znode(node))
    }

    /// Places for nodes, with those that are free.
    pub(super) fn places(&self) -> NodeId {
        self.slab.places()
    }

    /// The path of a node.
    ///
    /// Steps: the names in it.
    pub(super) fn path(&self, id: NodeId) -> String {
        let mut names = Vec::new();
        let mut node = self.node(id);
        let above = loop {
            if let Some(whole) = node.name.path() {
                break whole;
            }
            names.push(node.name.as_bytes());
            if node.parent == ROOT {
                break b"";
            }
            node = self.node(node.parent);
        };
        let mut path = above.to_vec();
        for name in names.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        String::from_utf8(path).expect("a path was text")
    }

    fn znode<'a>(&'a self, node: &'a Node) -> Znode<'a> {
        Znode {
            nodes: self,
            node,
            extra: self.extras.get(node.extra),
            shown: None,
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

    /// Bytes of free places in both slabs, which new nodes take before others are made.
    pub(super) fn spare_bytes(&self) -> usize {
        self.slab.spare_bytes() + self.extras.spare_bytes()
    }

    /// Bytes of the access control lists.
    pub(super) fn acls_bytes(&self) -> usize {
        self.acls.bytes()
    }

    /// [`Nodes::acls_bytes`], list by list.
    pub(super) fn acls_recounted(&self) -> usize {
        self.acls.recounted()
    }

    /// Bytes of the index.
    pub(super) fn index_bytes(&self) -> usize {
        self.index.bytes()
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
        let data_len = data.as_ref().map_or(0, |data| data.len());
        self.bytes += counted(path, data_len);
        let name = Name::of(path);
        let id = self.slab.next();
        self.before_creation(id);
        let extra = self.extra_mut(parent);
        let before = extra.branch_bytes();
        let branch = extra.branch.get_or_insert_default();
        branch.names += name.as_bytes().len();
        let place = (parent, branch.children.push(id));
        let more = branch.bytes() - before;
        self.beside += more;
        self.put(place, (path, name, hash), data, acl, stored);
        self.index.insert(hash, id);
        self.count_below(parent, 1, data_len as i64);
        id
    }

    /// Counts nodes and bytes more or less below a node and all above it, which have children.
    ///
    /// Steps: the names in the node's path.
    fn count_below(&mut self, mut id: NodeId, nodes: i32, bytes: i64) {
        loop {
            let node = self.slab.get(id).expect("an indexed node");
            let (parent, extra) = (node.parent, self.extras.get_mut(node.extra));
            let branch = extra.and_then(|extra| extra.branch.as_mut());
            let branch = branch.expect("it has had a child");
            branch.below = branch.below.wrapping_add_signed(nodes);
            branch.below_bytes = branch.below_bytes.wrapping_add_signed(bytes);
            if id == ROOT {
                return;
            }
            id = parent;
        }
    }

    /// Puts a node into the slab, and into the digest.
    fn put(
        &mut self,
        (parent, place): (NodeId, u32),
        (path, name, hash): (&str, Name, PathHash),
        data: Data,
        acl: &Arc<[Acl]>,
        stored: NodeStat,
    ) {
        let digest = digest(path, data.as_deref(), &stored);
        if in_digest(path) {
            self.digest = self.digest.wrapping_add(u64::from(digest));
        }
        let null = data.is_none();
        let data_len = data.as_deref().map_or(0, <[u8]>::len);
        self.beside += beside(&name, data_len, path, &stored);
        self.payloads += payload(data_len);
        let mut node = Node {
            name,
            data: data.filter(|data| !data.is_empty()),
            czxid: stored.czxid,
            ctime: stored.ctime,
            parent,
            place,
            hash,
            digest,
            acl: self.acls.intern(acl),
            extra: Slab::<Extra>::NONE,
        };
        node.store(&mut self.extras, &stored, null);
        let id = self.slab.insert(node);
        if is_reaped(stored.owner) {
            self.reaped.insert(id);
        }
    }

    /// The extra of a node, made if it has none.
    fn extra_mut(&mut self, id: NodeId) -> &mut Extra {
        let node = self.slab.get_mut(id).expect("an indexed node");
        if node.extra == Slab::<Extra>::NONE {
            let stored = NodeStat::plain(node.czxid, node.ctime);
            node.extra = self.extras.insert(Extra::new(&stored, false));
        }
        self.extras.get_mut(node.extra).expect("a node's extra")
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
        self.before_change(id);
        let node = self.slab.remove(id).expect("an indexed node");
        let extra = self.extras.remove(node.extra);
        let stored = node.stored(extra.as_ref());
        if is_reaped(stored.owner) {
            self.reaped.remove(&id);
        }
        self.beside -= beside(&node.name, node.data_len(), path, &stored);
        self.payloads -= payload(node.data_len());
        self.beside -= extra.map_or(0, |extra| extra.branch_bytes());
        if in_digest(path) {
            self.digest = self.digest.wrapping_sub(u64::from(node.digest));
        }
        let above = self.extra_mut(node.parent).branch.as_mut();
        let above = above.expect("the parent has children");
        above.names -= node.name.as_bytes().len();
        let before = above.bytes();
        let moved = above.children.swap_remove(node.place);
        let less = before - above.bytes();
        self.beside -= less;
        if let Some(moved) = moved {
            self.node_mut(moved).place = node.place;
        }
        self.count_below(node.parent, -1, -(node.data_len() as i64));
        self.index.remove(node.hash, id);
        self.bytes -= counted(path, node.data_len());
        self.acls.release(node.acl);
        removed(path, &stored);
    }

    /// Changes the stat of a node and keeps the digest.
    pub(super) fn restat(&mut self, id: NodeId, path: &str, change: impl FnOnce(&mut NodeStat)) {
        self.before_change(id);
        let node = self.slab.get_mut(id).expect("an indexed node");
        let extra = self.extras.get(node.extra);
        let (before, null) = (node.stored(extra), extra.is_some_and(|extra| extra.null));
        let mut after = before;
        change(&mut after);
        let (old, new) = (node.digest, restated(node.digest, &before, &after));
        node.digest = new;
        node.store(&mut self.extras, &after, null);
        self.redigest(path, old, new);
    }

    /// Replaces data and stat.
    pub(super) fn set_data(
        &mut self,
        id: NodeId,
        path: &str,
        data: Data,
        change: impl FnOnce(&mut NodeStat),
    ) {
        self.before_change(id);
        let node = self.slab.get_mut(id).expect("an indexed node");
        let mut stored = node.stored(self.extras.get(node.extra));
        change(&mut stored);
        let (old, new) = (node.digest, digest(path, data.as_deref(), &stored));
        let (null, len_before) = (data.is_none(), node.data_len());
        node.digest = new;
        node.data = data.filter(|data| !data.is_empty());
        node.store(&mut self.extras, &stored, null);
        let len = node.data_len();
        let parent = node.parent;
        if len != len_before && id != ROOT {
            self.count_below(parent, 0, len as i64 - len_before as i64);
        }
        self.bytes = self.bytes - len_before as u64 + len as u64;
        self.beside = self.beside - payload(len_before) + payload(len);
        self.payloads = self.payloads - payload(len_before) + payload(len);
        self.redigest(path, old, new);
    }

    fn redigest(&mut self, path: &str, old: u32, new: u32) {
        if in_digest(path) {
            let without = self.digest.wrapping_sub(u64::from(old));
            self.digest = without.wrapping_add(u64::from(new));
        }
    }

    /// Replaces the ACL list.
    pub(super) fn set_acl(&mut self, id: NodeId, acl: &Arc<[Acl]>) {
        self.before_change(id);
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
                let of_node = super::stored::digest(path, node.data(), &node.stored());
                digest = digest.wrapping_add(u64::from(of_node));
            }
            Ok::<(), std::convert::Infallible>(())
        });
        digest
    }
}

/// What a node has allocated beside slabs and index, but for its branch.
fn beside(name: &Name, data: usize, path: &str, stored: &NodeStat) -> usize {
    let listed = match is_session(stored.owner) {
        true => listed(path),
        false => 0,
    };
    allocation(name.allocated()) + payload(data) + listed
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::name::SHORT_MAX;
    use proptest::prelude::*;

    /// Paths that are alike: segments of one letter and a few lengths around what fits a node.
    fn any_path() -> impl Strategy<Value = String> {
        let lengths = [1, 2, 9, 10, 11, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1];
        let segment = proptest::sample::select(lengths.to_vec());
        let segments = proptest::collection::vec((segment, any::<bool>()), 1..5);
        segments.prop_map(|segments| {
            let text = |&(len, other): &(usize, bool)| {
                format!("/{}", if other { "b" } else { "a" }.repeat(len))
            };
            segments.iter().map(text).collect()
        })
    }

    fn with(paths: &[String]) -> Nodes {
        let mut nodes = Nodes::new();
        for path in paths {
            let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
            for end in ends.chain([path.len()]) {
                let path = &path[..end];
                if let Err(hash) = nodes.locate(path) {
                    let parent = nodes.find(crate::tree::path::parent_path(path).unwrap());
                    let parent = parent.expect("a parent is added before");
                    let stored = NodeStat::default();
                    nodes.add(
                        parent,
                        (path, hash),
                        Some(Arc::from([])),
                        &open_acl(),
                        stored,
                    );
                }
            }
        }
        nodes
    }

    /// Below each node there are as many nodes as paths that begin with its own.
    fn assert_counted_below(nodes: &Nodes) {
        let mut paths = Vec::new();
        let Ok(()) = nodes.in_order(|path, node| {
            paths.push((path.to_vec(), node.totals(), node.data_len() as u64));
            Ok::<(), std::convert::Infallible>(())
        });
        for (path, totals, own) in &paths {
            let beginning = match &path[..] {
                b"/" => path.clone(),
                path => [path, b"/"].concat(),
            };
            let others = paths.iter().filter(|(other, ..)| other != path);
            let below: Vec<u64> = others
                .filter(|(other, ..)| other.starts_with(&beginning))
                .map(|(_, _, bytes)| *bytes)
                .collect();
            let due = (below.len() as u32 + 1, below.iter().sum::<u64>() + own);
            assert_eq!(*totals, due, "below {path:?}");
        }
    }

    proptest! {
        #[test]
        fn nodes_and_bytes_are_counted_below_each_node_above_them(
            paths in proptest::collection::vec(any_path(), 1..12),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), proptest::option::of(0..5usize)), 0..12),
        ) {
            let mut nodes = with(&paths);
            assert_counted_below(&nodes);
            for (index, len) in changes {
                let path = index.get(&paths);
                match (nodes.find(path), len) {
                    (None, _) => {}
                    (Some(id), None) => nodes.remove(id, path, &mut |_, _| {}),
                    (Some(id), Some(0)) => nodes.set_data(id, path, None, |_| {}),
                    (Some(id), Some(len)) => {
                        nodes.set_data(id, path, Some(vec![7; len].into()), |_| {});
                    }
                }
                assert_counted_below(&nodes);
            }
        }

        #[test]
        fn a_node_is_at_its_own_path_and_at_no_other(paths in proptest::collection::vec(any_path(), 1..12)) {
            let nodes = with(&paths);
            let mut probes: Vec<String> = (0..nodes.places()).map(|id| nodes.path(id)).collect();
            prop_assert!(paths.iter().all(|path| probes.contains(path)));
            for path in paths {
                probes.extend([path[1..].to_owned(), path.clone() + "/", format!("/{path}")]);
                probes.push(format!("a{path}"));
                probes.push(path.replacen("/a", "a/", 1));
            }
            for id in 1..nodes.places() {
                for probe in &probes {
                    let due = *probe == nodes.path(id);
                    prop_assert_eq!(nodes.is_at(nodes.node(id), probe.as_bytes()), due, "{:?}", probe);
                }
                prop_assert_eq!(nodes.find(&nodes.path(id)), Some(id));
            }
        }
    }
}
