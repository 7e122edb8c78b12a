//! A walk over all nodes as they are at one moment, in slices, while transactions are applied between
//! them: how a server whose files have rotted saves what it has in memory.
//!
//! Nodes are taken in the order of their places. One that is about to be changed or removed before its
//! turn is taken first, as it is; one that was created since the walk began is left out. What is kept for
//! that is in proportion to what was changed since the last slice, and to the places still ahead that
//! were changed since the walk began, a few bytes each. Who takes slices too slowly does not get the rest:
//! where the copies come to more than a bound, the walk is given up.

use super::Tree;
use super::creators::SessionHighWater;
use super::index::NodeId;
use super::node::Nodes;
use super::totals::Facts;
use super::walked::{Walk, WalkedNode};
use crate::types::{SessionId, Zxid};

/// What a walk does not go over, as it was when the walk began.
#[derive(Clone, Debug)]
pub struct WalkStart {
    /// Of the last transaction applied.
    pub last_zxid: Zxid,
    /// Over all nodes (docs/peer-protocol.md §3.5).
    pub digest: u64,
    /// What the nodes do not tell.
    pub facts: Facts,
    /// Live sessions with the timeout of their createSession, ms; sorted.
    pub sessions: Vec<(SessionId, i32)>,
    /// The largest ids of sessions ever created.
    pub session_high_water: SessionHighWater,
}

impl Tree {
    /// Begins a walk over the nodes as they are now; one that is under way ends. It keeps at most
    /// `copies_bytes` of nodes that are changed between two slices.
    ///
    /// Steps: the sessions, and those of [`Tree::facts`].
    pub fn begin_walk(&mut self, copies_bytes: usize) -> WalkStart {
        self.nodes.walk = Some(Box::new(Walk {
            end: self.nodes.places(),
            taken_bytes_max: copies_bytes,
            ..Walk::default()
        }));
        WalkStart {
            last_zxid: self.last_zxid(),
            digest: self.digest(),
            facts: self.facts(),
            sessions: self.sessions().collect(),
            session_high_water: self.session_high_water.clone(),
        }
    }

    /// What was changed since the last slice, as it was before, and nodes from the next `places` places;
    /// `None` if there is no walk, it is through, or it was given up. Each node comes once, in no particular
    /// order. That of totals may come with an older text than the one in [`WalkStart::facts`].
    ///
    /// Steps: the places, each with the names of its path, and what was changed.
    pub fn walk_slice(&mut self, places: u32) -> Option<Vec<WalkedNode>> {
        if self.is_walk_given_up() {
            return None;
        }
        let mut walk = self.nodes.walk.take()?;
        let mut nodes = std::mem::take(&mut walk.taken);
        walk.taken_bytes = 0;
        let behind = walk.next.saturating_add(places).min(walk.end);
        let is_through = nodes.is_empty() && walk.next == walk.end;
        for id in walk.next..behind {
            if !walk.settled.remove(&id) {
                nodes.extend(self.nodes.walked(id));
            }
        }
        walk.next = behind;
        if is_through {
            return None;
        }
        self.nodes.walk = Some(walk);
        Some(nodes)
    }

    /// Whether more was changed between two slices than the walk may keep: it gives nothing any more.
    pub fn is_walk_given_up(&self) -> bool {
        self.nodes
            .walk
            .as_ref()
            .is_some_and(|walk| walk.is_given_up)
    }

    /// Ends the walk, if there is one.
    pub fn end_walk(&mut self) {
        self.nodes.walk = None;
    }
}

impl Nodes {
    /// Before a node is changed or removed.
    pub(super) fn before_change(&mut self, id: NodeId) {
        if self.walk.is_some() {
            self.take_first(id);
        }
    }

    #[cold]
    fn take_first(&mut self, id: NodeId) {
        if let Some(walk) = &mut self.walk
            && walk.settle(id)
        {
            let node = self.walked(id);
            let walk = self.walk.as_mut().expect("just seen");
            node.into_iter().for_each(|node| walk.take(node));
        }
    }

    /// Before a node is put at a place.
    pub(super) fn before_creation(&mut self, id: NodeId) {
        if let Some(walk) = &mut self.walk {
            walk.settle(id);
        }
    }

    fn walked(&self, id: NodeId) -> Option<WalkedNode> {
        let node = self.try_at(id)?;
        Some(WalkedNode {
            path: self.path(id).into(),
            data: node.shared_data(),
            acl: node.acl().clone(),
            stored: node.stored(),
        })
    }
}

#[cfg(test)]
impl Tree {
    /// Places and nodes that the walk keeps because they were changed.
    pub(crate) fn walk_keeps(&self) -> usize {
        let walk = self.nodes.walk.as_ref();
        walk.map_or(0, |walk| walk.settled.len() + walk.taken.len())
    }
}
