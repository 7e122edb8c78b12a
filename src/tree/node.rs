//! How the tree is kept in memory.
//!
//! Nodes live in a slab and are found by the hash of their full path; a node knows its parent and
//! its place in the parent's child list, so nothing is searched and no path is built to go up.
//! ACL lists are interned and counted. The digest of a node is the crc over path and data, kept as
//! `prefix_crc`, continued over the 60 bytes of its stat: changing a stat never reads the data.

use crate::txn::{Acl, Data, Stat};
use crate::types::{DetHashMap, HashState, SessionId, Zxid};
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Owner value of a container (docs/protocol.md §3.5).
pub(super) const CONTAINER_OWNER: i64 = i64::MIN;
/// Top byte of a TTL node's owner (docs/protocol.md §3.6).
pub(super) const TTL_OWNER: i64 = 0xff << 56;

/// Whether a stored owner is a session, rather than nobody, a container or a TTL.
pub(super) fn is_session(owner: i64) -> bool {
    owner != 0 && owner != CONTAINER_OWNER && owner & TTL_OWNER != TTL_OWNER
}

/// The parent's path: `/` for `/a` and for `/` itself; `None` without a slash.
pub(super) fn parent_path(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 => Some("/"),
        at => Some(&path[..at]),
    }
}

/// What is stored of a node beside data, ACL and children (docs/peer-protocol.md §0.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeStat {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub pzxid: Zxid,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Number of creates below this node.
    pub cversion: i32,
    pub aversion: i32,
    pub owner: i64,
}

impl NodeStat {
    /// Reported to clients (docs/protocol.md §3.1).
    pub(super) fn reported(&self, children: i32, data: &Data) -> Stat {
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.cversion.wrapping_mul(2).wrapping_sub(children),
            aversion: self.aversion,
            ephemeral_owner: if is_session(self.owner) {
                self.owner
            } else {
                0
            },
            data_length: data.as_ref().map_or(0, |d| d.len() as i32),
            num_children: children,
            pzxid: self.pzxid,
        }
    }

    /// The node's digest (docs/peer-protocol.md §3.5), continued from the crc over path and data.
    pub(super) fn digest(&self, prefix_crc: u32) -> u64 {
        let mut bytes = [0u8; 60];
        let longs = [
            self.czxid.0,
            self.mzxid.0,
            self.pzxid.0,
            self.ctime,
            self.mtime,
        ];
        for (field, value) in bytes.chunks_exact_mut(8).zip(longs) {
            field.copy_from_slice(&value.to_be_bytes());
        }
        for (field, value) in
            bytes[40..52]
                .chunks_exact_mut(4)
                .zip([self.version, self.cversion, self.aversion])
        {
            field.copy_from_slice(&value.to_be_bytes());
        }
        bytes[52..].copy_from_slice(&self.owner.to_be_bytes());
        let mut crc = crc32fast::Hasher::new_with_initial(prefix_crc);
        crc.update(&bytes);
        u64::from(crc.finalize())
    }
}

/// The crc over path and data that [`NodeStat::digest`] continues.
pub(super) fn prefix_crc(path: &str, data: &Data) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(if path == "/" { b"" } else { path.as_bytes() });
    crc.update(data.as_deref().unwrap_or_default());
    crc.finalize()
}

/// Whether the path counts in the tree's digest.
pub(super) fn in_digest(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

pub(super) type NodeId = u32;
const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) path: Arc<str>,
    pub(crate) data: Data,
    pub(crate) stored: NodeStat,
    pub(super) acl: u32,
    pub(super) prefix_crc: u32,
    parent: NodeId,
    /// Index in the parent's `children`.
    place: u32,
    children: Vec<NodeId>,
    /// Bytes of the children's names.
    pub(super) names: usize,
}

impl Node {
    pub(super) fn child_count(&self) -> i32 {
        self.children.len() as i32
    }

    pub(super) fn stat(&self) -> Stat {
        self.stored.reported(self.child_count(), &self.data)
    }

    /// Last segment of the path.
    pub(super) fn name(&self) -> &str {
        name(&self.path)
    }
}

/// Last segment of a path.
fn name(path: &str) -> &str {
    &path[path.rfind('/').map_or(0, |at| at + 1)..]
}

/// ACL lists by number.
#[derive(Clone, Debug, Default)]
struct Acls {
    lists: Vec<Option<(Arc<[Acl]>, u32)>>,
    ids: DetHashMap<Arc<[Acl]>, u32>,
    free: Vec<u32>,
}

impl Acls {
    fn intern(&mut self, acl: &Arc<[Acl]>) -> u32 {
        if let Some(&id) = self.ids.get(acl) {
            self.lists[id as usize].as_mut().expect("a named list").1 += 1;
            return id;
        }
        let id = self.free.pop().unwrap_or(self.lists.len() as u32);
        if id as usize == self.lists.len() {
            self.lists.push(None);
        }
        self.lists[id as usize] = Some((acl.clone(), 1));
        self.ids.insert(acl.clone(), id);
        id
    }

    fn release(&mut self, id: u32) {
        let (list, count) = self.lists[id as usize].as_mut().expect("a list in use");
        *count -= 1;
        if *count == 0 {
            self.ids.remove(list);
            self.lists[id as usize] = None;
            self.free.push(id);
        }
    }

    fn get(&self, id: u32) -> &Arc<[Acl]> {
        &self.lists[id as usize].as_ref().expect("a list in use").0
    }
}

/// The slab, its index, and the sums over it.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    slab: Vec<Option<Node>>,
    free: Vec<NodeId>,
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
            slab: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: HashState::default(),
            acls: Acls::default(),
            digest: 0,
            bytes: 0,
        };
        let root = nodes.add(
            ROOT,
            "/".into(),
            Some(Arc::from([])),
            &open_acl(),
            NodeStat::default(),
        );
        assert_eq!(root, ROOT);
        nodes
    }

    /// Nodes, the root once.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&self, path: &str) -> Option<NodeId> {
        let hash = self.hasher.hash_one(path);
        self.index
            .find(hash, |&id| *self.node(id).path == *path)
            .copied()
    }

    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        self.find(path).map(|id| self.node(id))
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.slab[id as usize].as_ref().expect("an indexed node")
    }

    pub(super) fn acl(&self, node: &Node) -> &Arc<[Acl]> {
        self.acls.get(node.acl)
    }

    /// The children of a node without the first `from`.
    pub(super) fn children_from(
        &self,
        node: &Node,
        from: usize,
    ) -> impl ExactSizeIterator<Item = &Node> {
        let children = node.children.get(from..).unwrap_or_default();
        children.iter().map(|&id| self.node(id))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.slab.iter().flatten()
    }

    /// Adds a node below `parent`; the path must be free.
    pub(super) fn add(
        &mut self,
        parent: NodeId,
        path: Arc<str>,
        data: Data,
        acl: &Arc<[Acl]>,
        stored: NodeStat,
    ) -> NodeId {
        let id = self.free.pop().unwrap_or(self.slab.len() as NodeId);
        if id as usize == self.slab.len() {
            self.slab.push(None);
        }
        let place = match id {
            ROOT => 0,
            _ => {
                let above = self.slab[parent as usize].as_mut().expect("a parent");
                above.children.push(id);
                above.names += name(&path).len();
                above.children.len() as u32 - 1
            }
        };
        let prefix_crc = prefix_crc(&path, &data);
        self.bytes += (path.len() + data.as_ref().map_or(0, |d| d.len())) as u64;
        if in_digest(&path) {
            self.digest = self.digest.wrapping_add(stored.digest(prefix_crc));
        }
        let hash = self.hasher.hash_one(&*path);
        let acl = self.acls.intern(acl);
        let children = Vec::new();
        self.slab[id as usize] = Some(Node {
            path,
            data,
            stored,
            acl,
            prefix_crc,
            parent,
            place,
            children,
            names: 0,
        });
        let Nodes {
            slab,
            index,
            hasher,
            ..
        } = self;
        index.insert_unique(hash, id, |&id| {
            hasher.hash_one(&*slab[id as usize].as_ref().expect("an indexed node").path)
        });
        id
    }

    /// Removes a node and, which only the replay of a fuzzy snapshot can meet, what is below it
    /// (the log then creates again what is to stay: docs/peer-protocol.md §3.6).
    pub(super) fn remove(&mut self, id: NodeId, removed: &mut impl FnMut(&Node)) {
        assert_ne!(id, ROOT, "the root stays");
        while let Some(&child) = self.node(id).children.last() {
            self.remove(child, removed);
        }
        let node = self.slab[id as usize].take().expect("an indexed node");
        let above = self.slab[node.parent as usize].as_mut().expect("a parent");
        above.children.swap_remove(node.place as usize);
        above.names -= node.name().len();
        if let Some(&moved) = above.children.get(node.place as usize) {
            self.slab[moved as usize]
                .as_mut()
                .expect("an indexed node")
                .place = node.place;
        }
        let hash = self.hasher.hash_one(&*node.path);
        if let Ok(entry) = self.index.find_entry(hash, |&found| found == id) {
            entry.remove();
        }
        if in_digest(&node.path) {
            self.digest = self
                .digest
                .wrapping_sub(node.stored.digest(node.prefix_crc));
        }
        self.bytes -= (node.path.len() + node.data.as_ref().map_or(0, |d| d.len())) as u64;
        self.acls.release(node.acl);
        self.free.push(id);
        removed(&node);
    }

    /// Changes the stat of a node and keeps the digest.
    pub(super) fn restat(&mut self, id: NodeId, change: impl FnOnce(&mut NodeStat)) {
        let node = self.slab[id as usize].as_mut().expect("an indexed node");
        let before = node.stored.digest(node.prefix_crc);
        change(&mut node.stored);
        if in_digest(&node.path) {
            let after = node.stored.digest(node.prefix_crc);
            self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        }
    }

    /// Replaces data and stat.
    pub(super) fn set_data(&mut self, id: NodeId, data: Data, change: impl FnOnce(&mut NodeStat)) {
        let node = self.slab[id as usize].as_mut().expect("an indexed node");
        let before = node.stored.digest(node.prefix_crc);
        self.bytes -= node.data.as_ref().map_or(0, |d| d.len()) as u64;
        self.bytes += data.as_ref().map_or(0, |d| d.len()) as u64;
        node.prefix_crc = prefix_crc(&node.path, &data);
        node.data = data;
        change(&mut node.stored);
        if in_digest(&node.path) {
            let after = node.stored.digest(node.prefix_crc);
            self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        }
    }

    /// Replaces the ACL list.
    pub(super) fn set_acl(&mut self, id: NodeId, acl: &Arc<[Acl]>) {
        let new = self.acls.intern(acl);
        let node = self.slab[id as usize].as_mut().expect("an indexed node");
        let old = std::mem::replace(&mut node.acl, new);
        self.acls.release(old);
    }

    /// The digest computed from scratch, for checks.
    #[cfg(test)]
    pub(super) fn recount(&self) -> u64 {
        self.iter()
            .filter(|n| in_digest(&n.path))
            .map(|n| n.stored.digest(prefix_crc(&n.path, &n.data)))
            .fold(0, u64::wrapping_add)
    }
}

/// `world:anyone` with all permissions.
pub(super) fn open_acl() -> Arc<[Acl]> {
    Arc::from([Acl::world(Acl::ALL)])
}

/// The session of an ephemeral.
pub(super) fn owner_session(stored: &NodeStat) -> Option<SessionId> {
    is_session(stored.owner).then_some(SessionId(stored.owner))
}
