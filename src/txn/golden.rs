//! The transactions of docs/peer-protocol.md §9.2, typed from the specification; shared by the tests of this
//! crate's modules.

use super::{Acl, CreateTxn, Data, Entry, Txn, TxnDigest, TxnHeader};
use crate::types::{ErrorCode, OpCode, SessionId, WallMs, Zxid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

/// Bytes of a hexadecimal text, white space ignored.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "an odd number of digits");
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Entries with bodies of every type, lists and payloads of any length, with and without a digest.
pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
    let header = any::<(i64, i32, i64, i64)>();
    let digest = option::of(any::<(i32, u64)>());
    (header, any_txn(), digest).prop_map(|(header, (op, txn), digest)| Entry {
        header: TxnHeader {
            session: SessionId(header.0),
            cxid: header.1,
            zxid: Zxid(header.2),
            time: WallMs(header.3),
            op,
        },
        txn,
        digest: digest.map(|(version, tree)| TxnDigest { version, tree }),
    })
}

fn any_txn() -> impl Strategy<Value = (OpCode, Txn)> {
    let sessions = prop_oneof![
        any::<i32>()
            .prop_map(|timeout_ms| { (OpCode::CREATE_SESSION, Txn::CreateSession { timeout_ms }) }),
        option::of(vec(any_path(), 0..4))
            .prop_map(|paths| (OpCode::CLOSE_SESSION, Txn::CloseSession { paths })),
    ];
    let multi = vec(any_operation(), 0..5).prop_map(|ops| (OpCode::MULTI, Txn::Multi(ops)));
    prop_oneof![4 => any_operation(), 1 => sessions, 1 => multi]
}

fn any_path() -> impl Strategy<Value = Arc<str>> {
    "/.{0,40}".prop_map(Arc::from)
}

fn any_data() -> impl Strategy<Value = Data> {
    option::of(vec(any::<u8>(), 0..300).prop_map(Arc::from))
}

fn any_acl() -> impl Strategy<Value = Arc<[Acl]>> {
    let entry = (any::<i32>(), ".{0,10}", ".{0,10}").prop_map(|(perms, scheme, id)| Acl {
        perms,
        scheme: scheme.into(),
        id: id.into(),
    });
    vec(entry, 0..4).prop_map(Arc::from)
}

/// What a multi may hold.
fn any_operation() -> impl Strategy<Value = (OpCode, Txn)> {
    let creates = [
        OpCode::CREATE,
        OpCode::CREATE2,
        OpCode::CREATE_CONTAINER,
        OpCode::CREATE_TTL,
    ];
    let fixed = any::<(bool, i32, i64)>();
    let create = (
        select(creates.to_vec()),
        any_path(),
        any_data(),
        any_acl(),
        fixed,
    );
    prop_oneof![
        create.prop_map(|(op, path, data, acl, fixed)| {
            let (ephemeral, parent_cversion, ttl_ms) = fixed;
            let create = CreateTxn {
                path,
                data,
                acl,
                ephemeral,
                parent_cversion,
                ttl_ms,
            };
            (op, Txn::Create(create))
        }),
        any_path().prop_map(|path| (OpCode::DELETE, Txn::Delete { path })),
        (any_path(), any_data(), any::<i32>()).prop_map(|(path, data, version)| {
            let set = Txn::SetData {
                path,
                data,
                version,
            };
            (OpCode::SET_DATA, set)
        }),
        (any_path(), any_acl(), any::<i32>()).prop_map(|(path, acl, version)| {
            (OpCode::SET_ACL, Txn::SetAcl { path, acl, version })
        }),
        any::<i32>().prop_map(|code| {
            let code = ErrorCode(code);
            (OpCode::ERROR, Txn::Error { code })
        }),
    ]
}

/// The entries in order of zxid, 0x100000001 to 0x100000012.
pub(crate) fn entries() -> Vec<Vec<u8>> {
    ENTRIES.iter().map(|text| hex(text)).collect()
}

/// Entries 2 and 3 are described, not printed, there: createSessions with the digest unchanged.
const ENTRIES: [&str; 18] = [
    "01000010e2f30000000000000000000100000001000001a1f878e7a8fffffff600002710000000020000000051c6d660",
    "03000010e2fb0000000000000000000100000002000001a1f878e7a8fffffff600002710000000020000000051c6d660",
    "04000010e3a70000000000000000000100000003000001a1f878e7a8fffffff600002710000000020000000051c6d660",
    "01000010e2f30000000000010000000100000004000001a1f878e7d500000001000000022f610000000568656c6c6f000000010000001f00000005776f726c6400000006616e796f6e650000000001000000020000000150b8cadb",
    "01000010e2f30000000000020000000100000005000001a1f878e7df0000000f000000042f612f6200000000000000010000001f00000005776f726c6400000006616e796f6e6501000000010000000200000002807910f6",
    "03000010e2fb0000000000010000000100000006000001a1f878e7e500000001000000022f63ffffffff000000010000001f00000005776f726c6400000006616e796f6e6500000000020000000200000002aa2df035",
    "04000010e3a70000000000010000000100000007000001a1f878e7ec00000001000000022f6f0000000178000000010000001f00000005776f726c6400000006616e796f6e6500000000030000000200000003c9af56cc",
    "01000010e2f30000000000030000000100000008000001a1f878e7f200000005000000022f61000000027732000000010000000200000002d650664b",
    "01000010e2f30000000000040000000100000009000001a1f878e7f8ffffffffffffff99",
    "01000010e2f3000000000005000000010000000a000001a1f878e80200000007000000022f6f000000010000000f00000005776f726c6400000006616e796f6e65000000010000000200000002c98b528c",
    "01000010e2f3000000000006000000010000000b000001a1f878e80a0000000e00000005000000010000002c000000032f6d310000000131000000010000001f00000005776f726c6400000006616e796f6e6500000000040000000f0000002c000000032f6d320000000132000000010000001f00000005776f726c6400000006616e796f6e6500000000050000000d0000000b000000032f6d31000000010000000500000010000000022f61000000027a7a000000020000000200000007000000032f6d3200000002000000045315ba90",
    "01000010e2f3000000000007000000010000000c000001a1f878e8220000000e00000003000000010000002c000000032f6d330000000131000000010000001f00000005776f726c6400000006616e796f6e650000000006ffffffff00000004ffffff99ffffffff00000004fffffffe00000002000000045315ba90",
    "01000010e2f3000000000008000000010000000d000001a1f878e82700000013000000052f636f6e7400000000000000010000001f00000005776f726c6400000006616e796f6e65000000060000000200000004a9ebab09",
    "01000010e2f3000000000009000000010000000e000001a1f878e82d000000010000000f2f612f732d3030303030303030303100000000000000010000001f00000005776f726c6400000006616e796f6e65000000000200000002000000056c7aab89",
    "01000010e2f300000000000a000000010000000f000001a1f878e834fffffffffffffffa",
    "01000010e2f300000000000c0000000100000010000001a1f878e84200000002000000022f630000000200000004cb9877f8",
    "01000010e2f300000000000d0000000100000011000001a1f878e84600000001000000032fc3a90000000175000000010000001f00000005776f726c6400000006616e796f6e6500000000070000000200000005e8508883",
    "01000010e2f300000000000e0000000100000012000001a1f878e84bfffffff500000001000000042f612f6200000002000000044328e116",
];
