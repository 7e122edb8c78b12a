//! Replies to writes: from what the tree did to the body that the client gets
//! (docs/protocol.md §1.5, §1.6).

use crate::proto::reply;
use crate::tree::OpResult;
use crate::txn::jute::Put;
use crate::types::{ErrorCode, OpCode};

/// The error in the header: a failed multi's is 0 (docs/protocol.md §3.7).
pub(super) fn header_error(result: &OpResult) -> ErrorCode {
    match result {
        OpResult::Error(code) => *code,
        _ => ErrorCode::OK,
    }
}

/// The body; nothing for an error.
pub(super) fn put_outcome(out: &mut Vec<u8>, result: &OpResult) {
    match result {
        OpResult::Create { op, path, stat } => {
            out.put_str(path);
            if *op != OpCode::CREATE {
                stat.encode_into(out);
            }
        }
        OpResult::SetData(stat) | OpResult::SetAcl(stat) => stat.encode_into(out),
        OpResult::Delete | OpResult::Check | OpResult::CloseSession | OpResult::Error(_) => {}
        OpResult::Multi(results) => {
            for result in results {
                put_result(out, result);
            }
            reply::put_multi_end(out);
        }
        OpResult::CreateSession { .. } => unreachable!("answered by the connect response"),
    }
}

/// One result of a multi. The create family but type 1 answers as type 15.
fn put_result(out: &mut Vec<u8>, result: &OpResult) {
    let op = match result {
        OpResult::Error(code) => return reply::put_multi_error(out, *code),
        OpResult::Create { op, .. } if *op == OpCode::CREATE => OpCode::CREATE,
        OpResult::Create { .. } => OpCode::CREATE2,
        OpResult::Delete => OpCode::DELETE,
        OpResult::SetData(_) => OpCode::SET_DATA,
        OpResult::Check => OpCode::CHECK,
        OpResult::SetAcl(_)
        | OpResult::CreateSession { .. }
        | OpResult::CloseSession
        | OpResult::Multi(_) => unreachable!("the decoder refuses these inside multi"),
    };
    reply::put_multi_result(out, op);
    put_outcome(out, result);
}
