//! What the tree takes in memory: a count, not a measurement.

use super::Tree;
use super::allocated::{allocation, listed, payload, sorted};
use super::node::Nodes;
use super::stored::is_reaped;
use crate::types::SessionId;

/// What a session takes that has ephemerals, beside their paths: its entry among such sessions, and the first node
/// of its own list, which has eleven places.
const OWNER: usize = 256;

/// What a container or TTL node takes in the list of those: six of eleven places of a node of 64 bytes are used,
/// and there are nodes above.
const REAPED: usize = 16;

/// Bytes, without what is free in vectors that grow, and as the allocator rounds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Znodes.
    pub znodes: usize,
    /// What every znode has.
    pub nodes: usize,
    /// Of znodes that were changed, or have an owner, children, or null for data.
    pub extras: usize,
    /// Of znodes that have had children, with their lists.
    pub branches: usize,
    /// Names that do not fit their nodes.
    pub names: usize,
    /// Data; replicas share it.
    pub payloads: usize,
    /// The index of paths.
    pub index: usize,
    /// The paths of ephemerals, once more, and the lists that they are in.
    pub ephemerals: usize,
    /// The list of containers and TTL nodes.
    pub reaped: usize,
    /// Access control lists, each once, with the tables that they are in.
    pub acls: usize,
    /// The session table.
    pub sessions: usize,
    /// The names of paths with a quota.
    pub quotas: usize,
}

impl Footprint {
    /// All together.
    pub fn total(&self) -> usize {
        self.nodes
            + self.extras
            + self.branches
            + self.names
            + self.payloads
            + self.index
            + self.ephemerals
            + self.reaped
            + self.acls
            + self.sessions
            + self.quotas
    }
}

impl Tree {
    /// What the tree takes in memory, bytes: [`Footprint::total`], kept up with each change.
    pub fn bytes(&self) -> usize {
        self.nodes.taken() + self.sessions_bytes() + self.owners_bytes() + self.quotas.bytes()
    }

    /// Of [`Tree::bytes`], places of nodes that are free: new nodes take these first.
    pub fn spare_bytes(&self) -> usize {
        self.nodes.spare_bytes()
    }

    /// Of [`Tree::bytes`], what the trees of a process share: [`Footprint::payloads`], kept up with each change.
    pub fn payload_bytes(&self) -> usize {
        self.nodes.payloads
    }

    /// [`Tree::bytes`] by what it is for, counted node by node.
    pub fn footprint(&self) -> Footprint {
        let paths = self.ephemerals.values().flat_map(|own| own.paths.iter());
        Footprint {
            ephemerals: self.owners_bytes() + paths.map(|path| listed(path)).sum::<usize>(),
            sessions: self.sessions_bytes(),
            quotas: self.quotas.bytes(),
            ..self.nodes.footprint()
        }
    }

    fn sessions_bytes(&self) -> usize {
        self.sessions.len() * sorted::<(SessionId, i32)>()
    }

    fn owners_bytes(&self) -> usize {
        self.ephemerals.len() * OWNER
    }
}

impl Nodes {
    /// Without the session table.
    fn taken(&self) -> usize {
        self.slab_bytes()
            + self.extras_bytes()
            + self.index_bytes()
            + self.acls_bytes()
            + self.reaped.len() * REAPED
            + self.beside
    }

    fn footprint(&self) -> Footprint {
        let mut found = Footprint {
            znodes: self.len(),
            nodes: self.slab_bytes(),
            extras: self.extras_bytes(),
            index: self.index_bytes(),
            acls: self.acls_recounted(),
            ..Footprint::default()
        };
        for node in self.iter() {
            found.names += allocation(node.name_allocated());
            found.payloads += payload(node.data_len());
            found.branches += node.branch_bytes();
            found.reaped += usize::from(is_reaped(node.stored().owner)) * REAPED;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::stored::NodeStat;
    use crate::txn::{Acl, Data};
    use crate::types::Zxid;
    use std::sync::Arc;

    const CREATED: NodeStat = NodeStat {
        czxid: Zxid(1),
        mzxid: Zxid(1),
        pzxid: Zxid(1),
        ctime: 1,
        mtime: 1,
        version: 0,
        cversion: 0,
        aversion: 0,
        owner: 0,
    };

    /// A tree with `znodes` below `/p`, and what they take on average beside the index.
    fn below(znodes: usize, prefix: &str, data: &Data, stored: NodeStat) -> (Tree, usize) {
        let mut tree = Tree::new();
        let acl: Arc<[Acl]> = Arc::from([Acl::world(Acl::ALL)]);
        let mut add = |above: &str, path: &str| {
            let parent = tree.nodes.find(above).unwrap();
            let hash = tree.nodes.locate(path).unwrap_err();
            let at = (path, hash);
            tree.nodes.add(parent, at, data.clone(), &acl, stored);
        };
        add("/", "/p");
        (0..znodes).for_each(|nth| add("/p", &format!("/p/{prefix}{nth:08}")));
        let found = tree.footprint();
        let beside = found.total() - found.index;
        (tree, beside / znodes)
    }

    /// The table in docs/performance.md.
    #[test]
    fn a_znode_costs_so_many_bytes() {
        let data = |len| -> Data { Some(vec![7; len].into()) };
        let changed = NodeStat {
            version: 1,
            ..CREATED
        };
        let cost = |prefix, data, stored| below(14_000, prefix, &data, stored).1;
        // 80 for the node, 4 in the parent's list.
        assert_eq!(cost("n", data(0), CREATED), 84);
        assert_eq!(cost("n", data(100), CREATED), 84 + 128);
        assert_eq!(cost("n", data(100), changed), 84 + 128 + 56);
        assert_eq!(cost("n", None, CREATED), 84 + 56);
        let long = "a-name-of-thirty-two-letters";
        assert_eq!(cost(long, data(0), CREATED), 84 + 48);
        // Eight and a tag for each place, ten with what the allocator adds; what grows by doubling is half full
        // at least, and 7/8 at most.
        for znodes in [14_000, 20_000, 28_000] {
            let index = below(znodes, "n", &None, CREATED).0.footprint().index;
            assert!(
                (114 * znodes..240 * znodes).contains(&(10 * index)),
                "{index}"
            );
        }
    }

    #[test]
    fn what_is_deleted_takes_no_payload_and_no_list() {
        let (mut tree, _) = below(1000, "n", &Some(vec![7; 100].into()), CREATED);
        assert_eq!(tree.footprint().znodes, 1000 + 5);
        assert_eq!(tree.footprint().payloads, 1001 * 128);
        for nth in 0..1000 {
            let path = format!("/p/n{nth:08}");
            let id = tree.nodes.find(&path).unwrap();
            assert_eq!(tree.bytes(), tree.footprint().total());
            tree.nodes.remove(id, &path, &mut |_, _| {});
        }
        let left = tree.footprint();
        assert_eq!((left.znodes, left.payloads), (5, 128));
        assert_eq!(tree.bytes(), left.total());
        let fresh = Tree::new().footprint();
        assert_eq!(left.branches, fresh.branches + 48, "of /p, without a list");
    }
}
