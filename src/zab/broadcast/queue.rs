//! What waits to be sent to one learner, in order. Entries are counted, not copied: all learners and the leader's tail
//! share one PROPOSAL.

use crate::proto::peer::ToLearner;
use crate::proto::peer::packet::PacketType;
use crate::types::Zxid;
use crate::zab::bounds::ITEM_BYTES;
use std::collections::VecDeque;
use std::sync::Arc;

/// A PROPOSAL as it is sent, encoded once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proposal {
    pub zxid: Zxid,
    packet: Arc<[u8]>,
}

impl Proposal {
    pub fn new(zxid: Zxid, entry: &[u8]) -> Proposal {
        let mut packet = Vec::with_capacity(entry.len() + 24);
        ToLearner::Proposal { zxid, entry }.encode_into(&mut packet);
        Proposal {
            zxid,
            packet: packet.into(),
        }
    }

    pub fn bytes(&self) -> usize {
        self.packet.len() + ITEM_BYTES
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Item {
    Proposal(Proposal),
    /// The same packet, of another type: what an observer gets for a PROPOSAL and its COMMIT.
    Inform(Proposal),
    Commit(Zxid),
    NewLeader(Vec<u8>),
    Other(Vec<u8>),
}

impl Item {
    pub fn other(packet: &ToLearner<'_>) -> Item {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        Item::Other(bytes)
    }

    fn bytes(&self) -> usize {
        match self {
            Item::Proposal(proposal) | Item::Inform(proposal) => proposal.bytes(),
            Item::Commit(_) => ITEM_BYTES,
            Item::NewLeader(bytes) | Item::Other(bytes) => bytes.len() + ITEM_BYTES,
        }
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Item::Proposal(proposal) => out.extend_from_slice(&proposal.packet),
            Item::Inform(proposal) => {
                out.extend_from_slice(&PacketType::INFORM.0.to_be_bytes());
                out.extend_from_slice(&proposal.packet[4..]);
            }
            Item::Commit(zxid) => ToLearner::Commit(*zxid).encode_into(out),
            Item::NewLeader(bytes) | Item::Other(bytes) => out.extend_from_slice(bytes),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Queue {
    pub fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.bytes();
        Some(item)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
