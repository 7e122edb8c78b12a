//! The Stat of a node as clients see it.

use crate::types::Zxid;

/// What clients see of a node, 68 bytes on the wire in this order (docs/protocol.md §1.5, §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Zxid of the create.
    pub czxid: Zxid,
    /// Zxid of the last setData.
    pub mzxid: Zxid,
    /// Wall clock of the create, ms.
    pub ctime: i64,
    /// Wall clock of the last setData, ms.
    pub mtime: i64,
    /// Number of setData.
    pub version: i32,
    /// 2 × creates of children − children now.
    pub cversion: i32,
    /// Number of setACL.
    pub aversion: i32,
    /// Session of an ephemeral, 0 for everything else.
    pub ephemeral_owner: i64,
    /// Length of the payload, 0 for null.
    pub data_length: i32,
    /// Children now.
    pub num_children: i32,
    /// Zxid of the last create or delete of a child.
    pub pzxid: Zxid,
}

impl Stat {
    /// Bytes on the wire.
    pub const BYTES: usize = 68;

    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; Stat::BYTES] {
        let mut bytes = [0; Stat::BYTES];
        bytes[..8].copy_from_slice(&self.czxid.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.mzxid.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.ctime.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.mtime.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.version.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.cversion.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.aversion.to_be_bytes());
        bytes[44..52].copy_from_slice(&self.ephemeral_owner.to_be_bytes());
        bytes[52..56].copy_from_slice(&self.data_length.to_be_bytes());
        bytes[56..60].copy_from_slice(&self.num_children.to_be_bytes());
        bytes[60..].copy_from_slice(&self.pzxid.0.to_be_bytes());
        bytes
    }

    /// Appends the bytes on the wire.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.encode());
    }
}
