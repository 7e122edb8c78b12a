//! The requests that a learner passes on to its leader (docs/peer-protocol.md §2.13): opcode and body, as a client
//! sends them, both ways. What is read and written again is read as the same.

use super::request::{create, delete, multi, reconfig, set_acl, set_data};
use crate::txn::jute::{Put, Reader};
use crate::txn::{CreateRequest, RawAcl, WriteRequest};
use crate::types::OpCode;

/// The terminator of a multi is a header with this type and error.
const END: i32 = -1;

/// Appends the body of a request; gives its opcode.
pub fn encode_forwarded(request: &WriteRequest, out: &mut Vec<u8>) -> OpCode {
    match request {
        WriteRequest::Create(create) => put_create(create, create.op, out),
        WriteRequest::Delete { path, version } => {
            out.put_str(path);
            out.put_i32(*version);
            OpCode::DELETE
        }
        WriteRequest::SetData {
            path,
            data,
            version,
        } => {
            put_text(path.as_deref(), out);
            out.put_buf(data.as_deref());
            out.put_i32(*version);
            OpCode::SET_DATA
        }
        WriteRequest::SetAcl { path, acl, version } => {
            put_text(path.as_deref(), out);
            put_acl(acl.as_deref(), out);
            out.put_i32(*version);
            OpCode::SET_ACL
        }
        WriteRequest::Check { path, version } => {
            put_text(path.as_deref(), out);
            out.put_i32(*version);
            OpCode::CHECK
        }
        WriteRequest::Reconfig => {
            // Refused, whatever it asks for.
            (0..3).for_each(|_| out.put_buf(None));
            out.put_i64(-1);
            OpCode::RECONFIG
        }
        WriteRequest::Multi(ops) => {
            for request in ops {
                let at = out.len();
                put_head(OpCode(END), false, out);
                let op = match request {
                    // Within a multi a createTTL alone may have a null list; its flags have made it a container's.
                    WriteRequest::Create(create) if create.acl.is_none() => {
                        put_create(create, OpCode::CREATE_TTL, out)
                    }
                    request => encode_forwarded(request, out),
                };
                out[at..at + 4].copy_from_slice(&op.0.to_be_bytes());
            }
            put_head(OpCode(END), true, out);
            OpCode::MULTI
        }
        WriteRequest::CreateSession { timeout_ms } => {
            out.put_i32(*timeout_ms);
            OpCode::CREATE_SESSION
        }
        WriteRequest::CloseSession => OpCode::CLOSE_SESSION,
    }
}

/// A create under this opcode, which its flags may overrule.
fn put_create(create: &CreateRequest, op: OpCode, out: &mut Vec<u8>) -> OpCode {
    out.put_str(&create.path);
    out.put_buf(create.data.as_deref());
    put_acl(create.acl.as_deref(), out);
    out.put_i32(create.flags);
    if op == OpCode::CREATE_TTL {
        out.put_i64(create.ttl_ms);
    }
    op
}

fn put_head(op: OpCode, is_end: bool, out: &mut Vec<u8>) {
    out.put_i32(op.0);
    out.put_bool(is_end);
    out.put_i32(END);
}

fn put_text(text: Option<&str>, out: &mut Vec<u8>) {
    out.put_buf(text.map(str::as_bytes));
}

fn put_acl(acl: Option<&[RawAcl]>, out: &mut Vec<u8>) {
    let Some(acl) = acl else {
        return out.put_i32(-1);
    };
    out.put_len(acl.len());
    for entry in acl {
        out.put_i32(entry.perms);
        put_text(entry.scheme.as_deref(), out);
        put_text(entry.id.as_deref(), out);
    }
}

/// Reads the body of a request that a learner may pass on. `None`: it can't be read, or must not come from a client: the
/// delete of a container that is due, a check that stands alone.
pub fn decode_forwarded(op: OpCode, body: &[u8]) -> Option<WriteRequest> {
    let mut r = Reader::new(body);
    match op {
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
            create(op, &mut r)
        }
        OpCode::DELETE => delete(&mut r),
        OpCode::SET_DATA => set_data(&mut r),
        OpCode::SET_ACL => set_acl(&mut r),
        OpCode::MULTI => multi(&mut r),
        OpCode::RECONFIG => reconfig(&mut r),
        OpCode::CREATE_SESSION => r
            .i32()
            .map(|timeout_ms| WriteRequest::CreateSession { timeout_ms }),
        OpCode::CLOSE_SESSION => Ok(WriteRequest::CloseSession),
        _ => return None,
    }
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Request;
    use crate::types::Xid;
    use proptest::option;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn text() -> impl Strategy<Value = Option<Arc<str>>> {
        option::of("(/[a-zé\u{1f600}]{0,3}){0,3}".prop_map(Arc::from))
    }

    fn data() -> impl Strategy<Value = crate::txn::Data> {
        option::of(proptest::collection::vec(any::<u8>(), 0..9).prop_map(Arc::from))
    }

    fn acl() -> impl Strategy<Value = Option<Vec<RawAcl>>> {
        let entry = (any::<i32>(), text(), text()).prop_map(|(perms, scheme, id)| RawAcl {
            perms,
            scheme,
            id,
        });
        option::of(proptest::collection::vec(entry, 0..3))
    }

    fn creates() -> impl Strategy<Value = WriteRequest> {
        let op = prop_oneof![
            Just(OpCode::CREATE),
            Just(OpCode::CREATE2),
            Just(OpCode::CREATE_CONTAINER),
            Just(OpCode::CREATE_TTL),
        ];
        (op, text(), data(), acl(), -1..7i32, any::<i64>()).prop_map(
            |(op, path, data, acl, flags, ttl_ms)| {
                let ttl_ms = if op == OpCode::CREATE_TTL { ttl_ms } else { 0 };
                WriteRequest::Create(CreateRequest {
                    op,
                    path: path.unwrap_or_default(),
                    data,
                    acl,
                    flags,
                    ttl_ms,
                })
            },
        )
    }

    fn others() -> impl Strategy<Value = WriteRequest> {
        prop_oneof![
            (text(), any::<i32>()).prop_map(|(path, version)| WriteRequest::Delete {
                path: path.unwrap_or_default(),
                version,
            }),
            (text(), data(), any::<i32>()).prop_map(|(path, data, version)| {
                WriteRequest::SetData {
                    path,
                    data,
                    version,
                }
            }),
            (text(), any::<i32>())
                .prop_map(|(path, version)| WriteRequest::Check { path, version }),
            (text(), acl(), any::<i32>())
                .prop_map(|(path, acl, version)| { WriteRequest::SetAcl { path, acl, version } }),
            Just(WriteRequest::Reconfig),
            Just(WriteRequest::CloseSession),
            any::<i32>().prop_map(|timeout_ms| WriteRequest::CreateSession { timeout_ms }),
        ]
    }

    fn any_request() -> impl Strategy<Value = WriteRequest> {
        let one = || prop_oneof![creates(), others()];
        prop_oneof![
            one(),
            proptest::collection::vec(one(), 0..5).prop_map(WriteRequest::Multi),
        ]
    }

    fn again(request: &WriteRequest) -> Option<WriteRequest> {
        let mut body = Vec::new();
        let op = encode_forwarded(request, &mut body);
        decode_forwarded(op, &body)
    }

    proptest! {
        /// Whatever a client can ask for comes to its leader as it was.
        #[test]
        fn what_was_read_is_written_so_that_it_is_read_as_the_same(request in any_request()) {
            let mut frame = Vec::new();
            frame.put_i32(1);
            frame.put_i32(0);
            let op = encode_forwarded(&request, &mut frame);
            frame[4..8].copy_from_slice(&op.0.to_be_bytes());
            let read = Request::decode(&frame);
            match read {
                Some((header, Request::Write(read))) => {
                    prop_assert_eq!(header.xid, Xid(1));
                    prop_assert_eq!(again(&read), Some(read));
                }
                // Only who makes sessions asks for them.
                _ if op == OpCode::CREATE_SESSION => prop_assert_eq!(again(&request), Some(request)),
                _ => {}
            }
        }

        #[test]
        fn any_bytes_are_a_request_or_none(op in -12..30i32, body: Vec<u8>) {
            decode_forwarded(OpCode(op), &body);
        }
    }

    #[test]
    fn what_no_client_may_ask_for_is_none() {
        let body = b"\0\0\0\x02/a\xff\xff\xff\xff";
        for op in [OpCode::DELETE_CONTAINER, OpCode::CHECK, OpCode::ERROR] {
            assert_eq!(decode_forwarded(op, body), None, "{op:?}");
        }
        assert!(decode_forwarded(OpCode::DELETE, body).is_some());
    }

    #[test]
    fn golden_bodies_of_a_multi_and_a_new_session() {
        let delete = WriteRequest::Delete {
            path: "/a".into(),
            version: 3,
        };
        let mut out = Vec::new();
        let op = encode_forwarded(&WriteRequest::Multi(vec![delete]), &mut out);
        let due = crate::txn::golden::hex(
            "00000002 00 ffffffff  00000002 2f61 00000003  ffffffff 01 ffffffff",
        );
        assert_eq!((op, out), (OpCode::MULTI, due));
        let (mut out, timeout_ms) = (Vec::new(), 30_000);
        let op = encode_forwarded(&WriteRequest::CreateSession { timeout_ms }, &mut out);
        assert_eq!(op, OpCode::CREATE_SESSION);
        assert_eq!(out, crate::txn::golden::hex("00007530"));
    }
}
