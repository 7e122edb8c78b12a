//! What is stored of a node beside its data, and its digest.

use crate::txn::Stat;
use crate::types::{SessionId, Zxid};
use std::sync::LazyLock;

/// Owner value of a container (docs/protocol.md §3.5).
pub(super) const CONTAINER_OWNER: i64 = i64::MIN;
/// Top byte of a TTL node's owner (docs/protocol.md §3.6).
pub(super) const TTL_OWNER: i64 = 0xff << 56;
/// Largest TTL, ms: the low 40 bits of a TTL node's owner. The 16 bits above them are 0.
pub(super) const TTL_MAX: i64 = (1 << 40) - 1;

/// Whether a stored owner is a session, rather than nobody, a container or a TTL.
pub(super) fn is_session(owner: i64) -> bool {
    owner != 0 && owner != CONTAINER_OWNER && owner & TTL_OWNER != TTL_OWNER
}

/// The TTL in a stored owner, ms; `None` where the owner is another one, or an extended one of a kind that
/// no server makes.
pub(super) fn ttl_ms(owner: i64) -> Option<i64> {
    let is_ttl = owner & !TTL_MAX == TTL_OWNER;
    is_ttl
        .then_some(owner & TTL_MAX)
        .filter(|ttl_ms| *ttl_ms > 0)
}

/// Whether a stored owner is that of a container or of a TTL node: the server deletes such a node itself.
pub(super) fn is_reaped(owner: i64) -> bool {
    owner == CONTAINER_OWNER || ttl_ms(owner).is_some()
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
    /// Of a node that nobody has changed, without an owner and children.
    pub(super) fn plain(czxid: Zxid, ctime: i64) -> NodeStat {
        NodeStat {
            czxid,
            mzxid: czxid,
            pzxid: czxid,
            ctime,
            mtime: ctime,
            ..NodeStat::default()
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        *self == NodeStat::plain(self.czxid, self.ctime)
    }

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

    /// As in the digest (docs/peer-protocol.md §3.5).
    fn bytes(&self) -> [u8; STAT_BYTES] {
        let mut bytes = [0; STAT_BYTES];
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
        bytes
    }

    /// What of each field differs, bit by bit.
    fn difference(&self, other: &NodeStat) -> NodeStat {
        NodeStat {
            czxid: Zxid(self.czxid.0 ^ other.czxid.0),
            mzxid: Zxid(self.mzxid.0 ^ other.mzxid.0),
            pzxid: Zxid(self.pzxid.0 ^ other.pzxid.0),
            ctime: self.ctime ^ other.ctime,
            mtime: self.mtime ^ other.mtime,
            version: self.version ^ other.version,
            cversion: self.cversion ^ other.cversion,
            aversion: self.aversion ^ other.aversion,
            owner: self.owner ^ other.owner,
        }
    }
}

/// Of a stat in the digest.
const STAT_BYTES: usize = 60;

/// Bytes of path, data and stat up to which they are copied to one place: one run over the copy costs less
/// than one over each.
const JOINED_MAX: usize = 256;

/// The digest of a node (docs/peer-protocol.md §3.5): the CRC-32 over path, data and stat.
pub(super) fn digest(path: &str, data: Option<&[u8]>, stored: &NodeStat) -> u32 {
    let path = if path == "/" { b"" } else { path.as_bytes() };
    let (data, stat) = (data.unwrap_or_default(), stored.bytes());
    if path.len() + data.len() + STAT_BYTES <= JOINED_MAX {
        return joined_digest(path, data, &stat);
    }
    let mut crc = crc_from_start();
    crc.update(path);
    crc.update(data);
    crc.update(&stat);
    crc.finalize()
}

fn joined_digest(path: &[u8], data: &[u8], stat: &[u8; STAT_BYTES]) -> u32 {
    let mut joined = [0; JOINED_MAX];
    let (at_data, at_stat) = (path.len(), path.len() + data.len());
    let end = at_stat + STAT_BYTES;
    joined[..at_data].copy_from_slice(path);
    joined[at_data..at_stat].copy_from_slice(data);
    joined[at_stat..end].copy_from_slice(stat);
    let mut crc = crc_from_start();
    crc.update(&joined[..end]);
    crc.finalize()
}

/// Copied, because each new one asks what the processor can do.
fn crc_from_start() -> crc32fast::Hasher {
    static START: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);
    START.clone()
}

/// As [`crc_from_start`], begun at a state of zero.
fn crc_from_zero() -> crc32fast::Hasher {
    static ZERO: LazyLock<crc32fast::Hasher> =
        LazyLock::new(|| crc32fast::Hasher::new_with_initial(!0));
    ZERO.clone()
}

/// The digest of a node of which the stat has changed and nothing else.
///
/// A CRC is linear: those of two contents of one length differ by that of their difference, begun at a
/// state of zero. The difference of path and data is zero, and zeros do not change such a state.
pub(super) fn restated(digest: u32, before: &NodeStat, after: &NodeStat) -> u32 {
    // Four more zeros make it whole blocks for the instructions that compute it.
    let mut difference = [0; STAT_BYTES + 4];
    difference[4..].copy_from_slice(&before.difference(after).bytes());
    let mut crc = crc_from_zero();
    crc.update(&difference);
    digest ^ !crc.finalize()
}

/// The session of an ephemeral.
pub(super) fn owner_session(stored: &NodeStat) -> Option<SessionId> {
    is_session(stored.owner).then_some(SessionId(stored.owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_stat() -> impl Strategy<Value = NodeStat> {
        let ids = (any::<i64>(), any::<i64>(), any::<i64>());
        let times = (any::<i64>(), any::<i64>());
        let versions = (any::<i32>(), any::<i32>(), any::<i32>());
        (ids, times, versions, any::<i64>()).prop_map(|(ids, times, versions, owner)| NodeStat {
            czxid: Zxid(ids.0),
            mzxid: Zxid(ids.1),
            pzxid: Zxid(ids.2),
            ctime: times.0,
            mtime: times.1,
            version: versions.0,
            cversion: versions.1,
            aversion: versions.2,
            owner,
        })
    }

    #[test]
    fn an_owner_is_a_session_a_container_or_a_ttl() {
        for (owner, session, reaped, ttl) in [
            (0, false, false, None),
            (1, true, false, None),
            (0x0100_000d_6217_0000, true, false, None),
            (i64::MAX, true, false, None),
            (CONTAINER_OWNER, false, true, None),
            // An id of server 128.
            (CONTAINER_OWNER + 1, true, false, None),
            (TTL_OWNER, false, false, None),
            (TTL_OWNER | 1, false, true, Some(1)),
            (TTL_OWNER | TTL_MAX, false, true, Some(TTL_MAX)),
            // The reserved bits say that it is something else.
            (TTL_OWNER | (1 << 40) | 5, false, false, None),
            (-1, false, false, None),
        ] {
            let found = (is_session(owner), is_reaped(owner), ttl_ms(owner));
            assert_eq!(found, (session, reaped, ttl), "{owner:#x}");
        }
        assert_eq!(TTL_MAX, 1_099_511_627_775);
    }

    proptest! {
        #[test]
        fn a_digest_is_kept_up_without_path_and_data(
            path in "(/[a-z]{1,12}){1,4}|/",
            data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            (before, after) in (any_stat(), any_stat()),
        ) {
            let due = digest(&path, data.as_deref(), &after);
            let own = if path == "/" { "" } else { &path };
            let parts = [own.as_bytes(), data.as_deref().unwrap_or_default(), &after.bytes()];
            prop_assert_eq!(crc32fast::hash(&parts.concat()), due);
            let old = digest(&path, data.as_deref(), &before);
            prop_assert_eq!(restated(old, &before, &after), due);
            prop_assert_eq!(restated(old, &before, &before), old);
        }
    }
}
