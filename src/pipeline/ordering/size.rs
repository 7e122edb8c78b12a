//! Upper bounds of what a request's transaction takes, known before it takes a zxid: whether
//! there is room in the log is asked, and answered, before anything is ordered.

use crate::txn::{AuthId, CreateRequest, RawAcl, Txn, WriteRequest};
use std::sync::Arc;

/// Header, digest and the fixed parts of any body (docs/peer-protocol.md §3.1).
pub(in crate::pipeline) const ENTRY_FIXED: usize = 32 + 12 + 64;
/// Type and length of one operation inside a multi. With it no operation takes more of an entry than twice what it
/// takes of a frame, unless `auth` makes many entries of one: a multi that comes in a frame is ordered.
const OP_FIXED: usize = 8;
/// Of a create: `ephemeral`, the parent's counter, the time to live.
const CREATE_FIXED: usize = 1 + 4 + 8;
/// A version.
const VERSION: usize = 4;
/// What `%010d` of an i32 adds to a sequential name.
const SUFFIX: usize = 11;

/// Largest serialised entry that `request` can become, bytes. closeSession's list is not counted.
pub(in crate::pipeline) fn entry_bytes_max(request: &WriteRequest, who: &[AuthId]) -> usize {
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
        }) => {
            let named = text(path) + SUFFIX + bytes(data.as_deref());
            named + list(acl.as_deref(), expanded) + CREATE_FIXED
        }
        WriteRequest::Delete { path, .. } => text(path),
        WriteRequest::SetData { path, data, .. } => {
            nullable(path) + bytes(data.as_deref()) + VERSION
        }
        WriteRequest::SetAcl { path, acl, .. } => {
            nullable(path) + list(acl.as_deref(), expanded) + VERSION
        }
        WriteRequest::Check { path, .. } => nullable(path) + VERSION,
        WriteRequest::Multi(ops) => ops.iter().map(|op| OP_FIXED + body(op, expanded)).sum(),
        WriteRequest::Reconfig
        | WriteRequest::CreateSession { .. }
        | WriteRequest::CloseSession => 0,
    }
}

/// Characters above U+FFFF take 4 bytes here and 6 on the wire (docs/protocol.md §1.2).
fn text(s: &str) -> usize {
    let beyond = s.bytes().filter(|byte| *byte >= 0xf0).count();
    4 + s.len() + 2 * beyond
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
    use crate::budget::Budget;
    use crate::constants::{ENTRY_MAX, JUTE_MAXBUFFER};
    use crate::tree::{Overlay, PrepareContext, Rules, SessionState, Tree};
    use crate::txn::Acl;
    use crate::types::{OpCode, SessionId, WallMs, Zxid};
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Requests that Apache orders, each as long as a frame may be.
    #[test]
    fn a_multi_that_fills_a_frame_is_ordered_however_small_its_operations_are() {
        let check = |path: &str| WriteRequest::Check {
            path: Some(path.into()),
            version: -1,
        };
        let delete = |path: &str| WriteRequest::Delete {
            path: path.into(),
            version: -1,
        };
        let set = |path: &str| WriteRequest::SetData {
            path: Some(path.into()),
            data: None,
            version: -1,
        };
        let create = |path: &str| {
            let entry = RawAcl {
                perms: Acl::ALL,
                scheme: Some("ip".into()),
                id: Some("::".into()),
            };
            WriteRequest::Create(CreateRequest {
                op: OpCode::CREATE,
                path: path.into(),
                data: None,
                acl: Some(vec![entry]),
                flags: 0,
                ttl_ms: 0,
            })
        };
        // With what an operation takes of the frame beside its path.
        type Kind<'a> = (&'a dyn Fn(&str) -> WriteRequest, usize);
        let kinds: [Kind; 4] = [(&check, 17), (&delete, 17), (&set, 21), (&create, 25 + 16)];
        for (kind, fixed) in kinds {
            for len in [1, 2, 5, 10, 30, 100, 1000] {
                let path = format!("/{}", "n".repeat(len - 1));
                let operations = JUTE_MAXBUFFER / (fixed + len);
                let multi = WriteRequest::Multi(vec![kind(&path); operations]);
                let bytes = entry_bytes_max(&multi, &[]);
                assert!(bytes <= ENTRY_MAX, "{len}: {bytes}");
            }
        }
    }

    fn any_request() -> impl Strategy<Value = WriteRequest> {
        let path = "/|/a{0,9}|/zookeeper/quota|/[é\u{1f600}\u{ffff}]{0,9}|";
        let data = || proptest::option::of("[a-z]{0,20}");
        let data = move || data().prop_map(|text| text.map(|text| text.into_bytes().into()));
        let schemes = vec!["world", "auth", "digest", "ip", "x"];
        let ids = "anyone|u:[h\u{1f600}]{0,9}|1[.]2[.]3[.]4";
        let entry = (any::<i32>(), select(schemes), ids);
        let entry = entry.prop_map(|(perms, scheme, id)| RawAcl {
            perms,
            scheme: Some(scheme.into()),
            id: Some(id.into()),
        });
        let acl = proptest::collection::vec(entry, 0..4);
        let ops = vec![
            OpCode::CREATE,
            OpCode::CREATE2,
            OpCode::CREATE_CONTAINER,
            OpCode::CREATE_TTL,
        ];
        let create = (select(ops), path, data(), acl.clone(), -1..8i32);
        let create = create.prop_map(|(op, path, data, acl, flags)| {
            let (path, acl, ttl_ms) = (path.into(), Some(acl), 5);
            WriteRequest::Create(CreateRequest {
                op,
                path,
                data,
                acl,
                flags,
                ttl_ms,
            })
        });
        let set = (path, data(), -1..2i32).prop_map(|(path, data, version)| {
            let path = Some(path.into());
            WriteRequest::SetData {
                path,
                data,
                version,
            }
        });
        let delete = path.prop_map(|path| WriteRequest::Delete {
            path: path.into(),
            version: -1,
        });
        let check = path.prop_map(|path| WriteRequest::Check {
            path: Some(path.into()),
            version: -1,
        });
        let set_acl = (path, acl).prop_map(|(path, acl)| WriteRequest::SetAcl {
            path: Some(path.into()),
            acl: Some(acl),
            version: -1,
        });
        let one = || prop_oneof![create.clone(), set.clone(), delete.clone(), check.clone()];
        let multi = proptest::collection::vec(one(), 0..9).prop_map(WriteRequest::Multi);
        prop_oneof![one(), set_acl, multi]
    }

    proptest! {
        #[test]
        fn no_transaction_is_longer_than_its_request_said(requests in proptest::collection::vec(any_request(), 1..12)) {
            let mut tree = Tree::new();
            let mut overlay = Overlay::new(&tree);
            let id = |scheme: &str, id: &str| AuthId { scheme: scheme.into(), id: id.into() };
            let who = [id("digest", "a:h"), id("digest", "\u{1f600}:h"), id("ip", "1.2.3.4")];
            let rules = Rules { extended_types: true, ..Rules::default() };
            for (nth, request) in requests.iter().enumerate() {
                let context = PrepareContext {
                    zxid: Zxid(nth as i64 + 1),
                    time: WallMs(1),
                    session: SessionId(1),
                    cxid: 1,
                    session_state: SessionState::Live,
                    credentials: &who,
                    rules: &rules,
                };
                let entry = overlay.prepare(&tree, &context, request, &mut Budget::UNLIMITED.clone()).entry;
                let most = entry_bytes_max(request, &who);
                prop_assert!(entry.encoded_len() <= most, "{} {most} {request:?}", entry.encoded_len());
                tree.apply(&entry);
                overlay.forget(context.zxid);
            }
        }
    }

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
