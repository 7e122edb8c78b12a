//! Upper bounds of what a request's transaction takes, known before it takes a zxid: whether
//! there is room in the log is asked, and answered, before anything is ordered.

use crate::txn::{AuthId, CreateRequest, RawAcl, Txn, WriteRequest};
use std::sync::Arc;

/// Header, digest and the fixed parts of any body (docs/peer-protocol.md §3.1).
pub(in crate::pipeline) const ENTRY_FIXED: usize = 32 + 12 + 64;
/// Type and length of one operation inside a multi, and the fixed parts of its body.
const OP_FIXED: usize = 8 + 40;
/// What `%010d` of an i32 adds to a sequential name.
const SUFFIX: usize = 11;

/// Largest serialised entry that `request` can become, bytes. closeSession's list is not counted.
pub(super) fn entry_bytes_max(request: &WriteRequest, who: &[AuthId]) -> usize {
    // What each `auth` entry of a list becomes: an entry for each identity of the caller.
    let ids = who.iter();
    let expanded = ids.map(|id| 4 + text(&id.scheme) + text(&id.id)).sum();
    ENTRY_FIXED + body(request, expanded)
}

/// `expanded`: what an `auth` entry of a list takes, bytes.
fn body(request: &WriteRequest, expanded: usize) -> usize {
    match request {
        WriteRequest::Create(CreateRequest {
            path, data, acl, ..
        }) => text(path) + SUFFIX + bytes(data.as_deref()) + list(acl.as_deref(), expanded),
        WriteRequest::Delete { path, .. } => text(path),
        WriteRequest::SetData { path, data, .. } => nullable(path) + bytes(data.as_deref()),
        WriteRequest::SetAcl { path, acl, .. } => nullable(path) + list(acl.as_deref(), expanded),
        WriteRequest::Check { path, .. } => nullable(path),
        WriteRequest::Multi(ops) => ops.iter().map(|op| OP_FIXED + body(op, expanded)).sum(),
        WriteRequest::Reconfig
        | WriteRequest::CreateSession { .. }
        | WriteRequest::CloseSession => 0,
    }
}

/// Characters above U+FFFF take 4 bytes here and 6 on the wire (docs/protocol.md §1.2).
fn text(s: &str) -> usize {
    4 + s.len() + s.len() / 2
}

fn nullable(s: &Option<Arc<str>>) -> usize {
    s.as_deref().map_or(4, text)
}

fn bytes(data: Option<&[u8]>) -> usize {
    4 + data.map_or(0, <[u8]>::len)
}

fn list(acl: Option<&[RawAcl]>, expanded: usize) -> usize {
    let entry = |acl: &RawAcl| match acl.scheme.as_deref() {
        Some("auth") => expanded,
        _ => 4 + nullable(&acl.scheme) + nullable(&acl.id),
    };
    4 + acl.unwrap_or(&[]).iter().map(entry).sum::<usize>()
}

/// Length of the list of paths in a closeSession.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ListSize {
    pub(super) paths: usize,
    /// Serialised.
    pub(super) bytes: usize,
}

impl ListSize {
    /// Of `paths` paths of so many bytes together.
    pub(super) fn of(paths: usize, path_bytes: usize) -> ListSize {
        ListSize {
            paths,
            bytes: 4 * paths + path_bytes,
        }
    }

    pub(super) fn plus(self, other: ListSize) -> ListSize {
        ListSize {
            paths: self.paths + other.paths,
            bytes: self.bytes + other.bytes,
        }
    }

    /// `None` if the other one is longer.
    pub(super) fn minus(self, other: ListSize) -> Option<ListSize> {
        Some(ListSize {
            paths: self.paths.checked_sub(other.paths)?,
            bytes: self.bytes.checked_sub(other.bytes)?,
        })
    }
}

/// What the ephemerals that a transaction creates add to the list of a later closeSession.
pub(super) fn list_size(txn: &Txn) -> ListSize {
    match txn {
        Txn::Create(create) if create.ephemeral => ListSize::of(1, create.path.len()),
        Txn::Multi(ops) => ops
            .iter()
            .map(|(_, op)| list_size(op))
            .fold(ListSize::default(), ListSize::plus),
        _ => ListSize::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::Acl;
    use crate::types::OpCode;

    #[test]
    fn auth_entries_count_once_per_identity() {
        let who: Vec<AuthId> = (0..10)
            .map(|i| AuthId {
                scheme: "digest".into(),
                id: format!("user{i}:0123456789012345678901234567").into(),
            })
            .collect();
        let create = |scheme: &str| {
            WriteRequest::Create(CreateRequest {
                op: OpCode::CREATE,
                path: "/a".into(),
                data: None,
                acl: Some(vec![RawAcl {
                    perms: Acl::ALL,
                    scheme: Some(scheme.into()),
                    id: Some("".into()),
                }]),
                flags: 0,
                ttl_ms: 0,
            })
        };
        let plain = entry_bytes_max(&create("world"), &who);
        assert!(entry_bytes_max(&create("auth"), &who) >= plain + 10 * 34 - 16);
    }
}
