//! The Stat of a node as clients see it.

use super::jute::Put;
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
    /// Appends the 68 bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.put_i64(self.czxid.0);
        out.put_i64(self.mzxid.0);
        out.put_i64(self.ctime);
        out.put_i64(self.mtime);
        out.put_i32(self.version);
        out.put_i32(self.cversion);
        out.put_i32(self.aversion);
        out.put_i64(self.ephemeral_owner);
        out.put_i32(self.data_length);
        out.put_i32(self.num_children);
        out.put_i64(self.pzxid.0);
    }
}
