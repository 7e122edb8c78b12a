//! Reads, with their checks in the order of docs/protocol.md §2.5. The empty string addresses the root.

use super::access::mask;
use super::node::Znode;
use super::{Stat, Tree};
use crate::txn::{Acl, AuthId};
use crate::types::ErrorCode;

/// How much there is to read of a node, so that a reader knows what a reply will cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of data.
    pub data: usize,
    /// Children.
    pub children: usize,
    /// Bytes of the children's names.
    pub names: usize,
    /// Steps of a check of the access control list: its entries, and more where ids are long; 1 if the first one
    /// lets everybody in.
    pub acl: usize,
}

/// A node that was looked up once, for all that a read asks of it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a>(Znode<'a>);

impl<'a> Found<'a> {
    /// How much there is to read of it.
    pub fn size(&self) -> Size {
        let Found(node) = self;
        Size {
            data: node.data_len(),
            children: node.child_count() as usize,
            names: node.names(),
            acl: node.compared(Acl::READ),
        }
    }

    /// getData; `None` is null.
    ///
    /// # Errors
    /// NOAUTH.
    pub fn get_data(&self, who: &[AuthId]) -> Result<(Option<&'a [u8]>, Stat), ErrorCode> {
        let node = self.readable(who)?;
        Ok((node.data(), node.stat()))
    }

    /// exists.
    ///
    /// # Errors
    /// NOAUTH.
    pub fn stat(&self, who: &[AuthId]) -> Result<Stat, ErrorCode> {
        self.readable(who).map(|node| node.stat())
    }

    /// getChildren: names, which are UTF-8, in no particular order.
    ///
    /// # Errors
    /// NOAUTH.
    pub fn children(
        &self,
        who: &[AuthId],
    ) -> Result<(impl ExactSizeIterator<Item = &'a [u8]> + use<'a>, Stat), ErrorCode> {
        let node = self.readable(who)?;
        Ok((node.children_from(0), node.stat()))
    }

    /// getAllChildrenNumber: nodes below it.
    ///
    /// # Errors
    /// NOAUTH.
    pub fn descendants(&self, who: &[AuthId]) -> Result<u32, ErrorCode> {
        self.readable(who).map(|node| node.descendants())
    }

    fn readable(&self, who: &[AuthId]) -> Result<Znode<'a>, ErrorCode> {
        let Found(node) = self;
        match node.allows(Acl::READ, who) {
            true => Ok(*node),
            false => Err(ErrorCode::NO_AUTH),
        }
    }
}

impl Tree {
    /// Looks a node up.
    pub fn find(&self, path: &str) -> Option<Found<'_>> {
        self.lookup(path).map(Found)
    }

    /// How much there is to read of a node; nothing if it does not exist.
    pub fn size(&self, path: &str) -> Size {
        let found = self.find(path);
        found.map_or_else(Size::default, |found| found.size())
    }

    /// Bytes of a node's access control list in a reply; 0 if the node does not exist.
    ///
    /// Steps: the entries.
    pub fn acl_bytes(&self, path: &str) -> usize {
        let acl = self.lookup(path).map(|node| node.acl());
        let entries = acl.into_iter().flat_map(|acl| acl.iter());
        entries
            .map(|entry| 12 + entry.scheme.len() + entry.id.len())
            .sum()
    }

    fn lookup(&self, path: &str) -> Option<Znode<'_>> {
        let node = self.nodes.get(if path.is_empty() { "/" } else { path })?;
        Some(node.showing(self.quotas.shown(path)))
    }

    fn readable(&self, path: &str, perm: i32, who: &[AuthId]) -> Result<Znode<'_>, ErrorCode> {
        let node = self.lookup(path).ok_or(ErrorCode::NO_NODE)?;
        match node.allows(perm, who) {
            true => Ok(node),
            false => Err(ErrorCode::NO_AUTH),
        }
    }

    /// A node's Stat, without any check.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        self.lookup(path).map(|node| node.stat())
    }

    /// exists.
    ///
    /// # Errors
    /// BADARGUMENTS for a NUL, NONODE, NOAUTH.
    pub fn exists(&self, path: &str, who: &[AuthId]) -> Result<Stat, ErrorCode> {
        self.find(path).ok_or_else(|| Self::absent(path))?.stat(who)
    }

    /// What exists says of a path where there is no node: BADARGUMENTS for a NUL, which no path of a node
    /// has, otherwise NONODE.
    pub fn absent(path: &str) -> ErrorCode {
        match path.contains('\0') {
            true => ErrorCode::BAD_ARGUMENTS,
            false => ErrorCode::NO_NODE,
        }
    }

    /// getData; `None` is null.
    ///
    /// # Errors
    /// NONODE, NOAUTH.
    pub fn get_data(&self, path: &str, who: &[AuthId]) -> Result<(Option<&[u8]>, Stat), ErrorCode> {
        self.find(path).ok_or(ErrorCode::NO_NODE)?.get_data(who)
    }

    /// getChildren: names, which are UTF-8, in no particular order.
    ///
    /// # Errors
    /// NONODE, NOAUTH.
    pub fn children<'a>(
        &'a self,
        path: &str,
        who: &[AuthId],
    ) -> Result<(impl ExactSizeIterator<Item = &'a [u8]> + use<'a>, Stat), ErrorCode> {
        self.find(path).ok_or(ErrorCode::NO_NODE)?.children(who)
    }

    /// Names of a node's children without the first `from`, without any check; none if the node does not
    /// exist. They and their order stay the same as long as the node's pzxid and their number do.
    pub fn child_names(&self, path: &str, from: usize) -> impl Iterator<Item = &[u8]> {
        let node = self.lookup(path);
        let children = node.map(|node| node.children_from(from));
        children.into_iter().flatten()
    }

    /// getACL; digests are masked for a caller without ADMIN.
    ///
    /// # Errors
    /// NONODE, NOAUTH.
    pub fn get_acl(&self, path: &str, who: &[AuthId]) -> Result<(Vec<Acl>, Stat), ErrorCode> {
        let node = self.readable(path, Acl::READ | Acl::ADMIN, who)?;
        let acl = node.acl();
        let seen = if node.allows(Acl::ADMIN, who) {
            acl.to_vec()
        } else {
            mask(acl)
        };
        Ok((seen, node.stat()))
    }
}
