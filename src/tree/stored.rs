//! What is stored of a node beside its data, and its digest.

use crate::txn::Stat;
use crate::types::{SessionId, Zxid};

/// Owner value of a container (docs/protocol.md §3.5).
pub(super) const CONTAINER_OWNER: i64 = i64::MIN;
/// Top byte of a TTL node's owner (docs/protocol.md §3.6).
pub(super) const TTL_OWNER: i64 = 0xff << 56;

/// Whether a stored owner is a session, rather than nobody, a container or a TTL.
pub(super) fn is_session(owner: i64) -> bool {
    owner != 0 && owner != CONTAINER_OWNER && owner & TTL_OWNER != TTL_OWNER
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
    pub(super) fn reported(&self, children: i32, data_length: i32) -> Stat {
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
            data_length,
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
pub(super) fn prefix_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(if path == "/" { b"" } else { path.as_bytes() });
    crc.update(data.unwrap_or_default());
    crc.finalize()
}

/// The session of an ephemeral.
pub(super) fn owner_session(stored: &NodeStat) -> Option<SessionId> {
    is_session(stored.owner).then_some(SessionId(stored.owner))
}
