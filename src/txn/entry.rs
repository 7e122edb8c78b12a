//! One transaction as Apache serialises it (docs/peer-protocol.md §3.1–3.2):
//!
//! ```text
//! entry     = TxnHeader ‖ body ‖ [ TxnDigest ]
//! TxnHeader = clientId i64 ‖ cxid i32 ‖ zxid i64 ‖ time i64 ‖ type i32     32 bytes
//! TxnDigest = version i32 ‖ treeDigest i64                                 12 bytes
//! ```

use super::jute::{JuteError, Put, Reader, acls_len, buf_len, str_len};
use super::{Acl, Data};
use crate::types::{ErrorCode, OpCode, SessionId, WallMs, Zxid};
use std::sync::Arc;

/// Header of every transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// Session that asked for it; 0 for the server's own.
    pub session: SessionId,
    /// The request's xid.
    pub cxid: i32,
    /// Its place in the order.
    pub zxid: Zxid,
    /// Wall clock of the server that ordered it.
    pub time: WallMs,
    /// Type of the body.
    pub op: OpCode,
}

/// Body of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txn {
    /// Types 1, 15, 19, 21.
    Create(CreateTxn),
    /// Types 2 and 20.
    Delete {
        /// Node to delete.
        path: Arc<str>,
    },
    /// Types 5 and 16.
    SetData {
        /// Node to change.
        path: Arc<str>,
        /// New payload.
        data: Data,
        /// The *new* version.
        version: i32,
    },
    /// Type 7.
    SetAcl {
        /// Node to change.
        path: Arc<str>,
        /// New list, normalised.
        acl: Arc<[Acl]>,
        /// The *new* aversion.
        version: i32,
    },
    /// Type 13, inside multi only.
    Check {
        /// Node that was checked.
        path: Arc<str>,
        /// Version that was asked for.
        version: i32,
    },
    /// Type −10.
    CreateSession {
        /// Negotiated timeout, ms.
        timeout_ms: i32,
    },
    /// Type −11. `None`: the list is absent (3.5, or switched off).
    CloseSession {
        /// The session's ephemerals.
        paths: Option<Vec<Arc<str>>>,
    },
    /// Type −1: a write that failed.
    Error {
        /// Why.
        code: ErrorCode,
    },
    /// Type 14: (type, body) of each operation.
    Multi(Vec<(OpCode, Txn)>),
}

/// Bytes of data for which a transaction counts as a step: they are copied and summed up when it is made, and
/// summed up again and freed when it is applied.
pub const DATA_PER_STEP: usize = 512;

impl Txn {
    /// How much work the transaction is wherever it is made, applied or shown: one step for each operation
    /// of a multi and for each path of a closeSession, one at least, and one for each [`DATA_PER_STEP`] of data.
    pub fn steps(&self) -> usize {
        match self {
            Txn::Create(CreateTxn { data, .. }) | Txn::SetData { data, .. } => {
                1 + data.as_ref().map_or(0, |data| data.len() / DATA_PER_STEP)
            }
            Txn::Multi(ops) => ops.iter().map(|(_, txn)| txn.steps()).sum::<usize>().max(1),
            Txn::CloseSession { paths: Some(paths) } => 1 + paths.len(),
            _ => 1,
        }
    }
}

/// Body of the create family. The owner of the node follows from here (docs/peer-protocol.md §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTxn {
    /// Final path, sequence suffix included.
    pub path: Arc<str>,
    /// Payload.
    pub data: Data,
    /// Normalised list.
    pub acl: Arc<[Acl]>,
    /// Types 1 and 15: owned by the header's session.
    pub ephemeral: bool,
    /// The parent's stored cversion after this create; −1 in very old logs.
    pub parent_cversion: i32,
    /// Type 21: time to live, ms.
    pub ttl_ms: i64,
}

/// Digest of the whole tree after a transaction (docs/peer-protocol.md §3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnDigest {
    /// 2 today; compared only when equal.
    pub version: i32,
    /// Wrapping sum of the nodes' digests.
    pub tree: u64,
}

/// A whole transaction, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Header.
    pub header: TxnHeader,
    /// Body.
    pub txn: Txn,
    /// Absent for the error transaction of a failed single operation, and in old logs.
    pub digest: Option<TxnDigest>,
}

/// Why an entry can't be decoded. Content from a disk or a peer: the reader decides who recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The bytes do not follow the record's layout.
    #[error("transaction entry: {0}")]
    Jute(#[from] JuteError),
    /// A type outside docs/peer-protocol.md §0.4 at this place.
    #[error("transaction entry of unknown type {0:?}")]
    Type(OpCode),
}

/// Bytes of a [`TxnHeader`].
pub const HEADER_BYTES: usize = 32;
/// Bytes of a [`TxnDigest`].
pub const DIGEST_BYTES: usize = 12;

impl TxnHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.session.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.cxid.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.zxid.0.to_be_bytes());
        bytes[20..28].copy_from_slice(&self.time.0.to_be_bytes());
        bytes[28..].copy_from_slice(&self.op.0.to_be_bytes());
        bytes
    }
}

impl TxnDigest {
    /// The digest version that this server computes.
    pub const VERSION: i32 = 2;

    fn encode(&self) -> [u8; DIGEST_BYTES] {
        let mut bytes = [0; DIGEST_BYTES];
        bytes[..4].copy_from_slice(&self.version.to_be_bytes());
        bytes[4..].copy_from_slice(&self.tree.to_be_bytes());
        bytes
    }
}

impl Entry {
    /// Appends the serialised entry.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header.encode());
        self.txn.encode_into(self.header.op, out);
        if let Some(digest) = self.digest {
            out.extend_from_slice(&digest.encode());
        }
    }

    /// Bytes that [`Entry::encode_into`] appends.
    pub fn encoded_len(&self) -> usize {
        let digest = self.digest.map_or(0, |_| DIGEST_BYTES);
        HEADER_BYTES + self.txn.encoded_len(self.header.op) + digest
    }

    /// The serialised entry.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out
    }

    /// Reads an entry; bytes behind the digest are ignored, an absent digest is fine.
    ///
    /// # Errors
    /// [`EntryError`] for bytes that no version of Apache's server writes.
    pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
        let mut r = Reader::new(bytes);
        let header = TxnHeader {
            session: SessionId(r.i64()?),
            cxid: r.i32()?,
            zxid: Zxid(r.i64()?),
            time: WallMs(r.i64()?),
            op: OpCode(r.i32()?),
        };
        let txn = match header.op {
            OpCode::CHECK => return Err(EntryError::Type(header.op)),
            OpCode::MULTI => {
                let ops = r.vec(|r| Ok((OpCode(r.i32()?), r.buf()?.ok_or(JuteError::Null)?)))?;
                let ops = ops.ok_or(JuteError::Null)?;
                let ops = ops.into_iter().map(|(op, body)| match op {
                    OpCode::MULTI | OpCode::CREATE_SESSION | OpCode::CLOSE_SESSION => {
                        Err(EntryError::Type(op))
                    }
                    _ => Ok((op, Txn::decode(op, &mut Reader::new(body))?)),
                });
                Txn::Multi(ops.collect::<Result<_, _>>()?)
            }
            op => Txn::decode(op, &mut r)?,
        };
        let digest = match (r.i32(), r.i64()) {
            (Ok(version), Ok(tree)) => Some(TxnDigest {
                version,
                tree: tree as u64,
            }),
            _ => None,
        };
        Ok(Entry {
            header,
            txn,
            digest,
        })
    }
}

impl Txn {
    /// Appends the body for a header of type `op`.
    fn encode_into(&self, op: OpCode, out: &mut Vec<u8>) {
        match self {
            Txn::Create(create) => create.encode_into(op, out),
            Txn::Delete { path } => out.put_str(path),
            Txn::SetData {
                path,
                data,
                version,
            } => {
                out.put_str(path);
                out.put_buf(data.as_deref());
                out.put_i32(*version);
            }
            Txn::SetAcl { path, acl, version } => {
                out.put_str(path);
                out.put_acls(acl);
                out.put_i32(*version);
            }
            Txn::Check { path, version } => {
                out.put_str(path);
                out.put_i32(*version);
            }
            Txn::CreateSession { timeout_ms } => out.put_i32(*timeout_ms),
            Txn::CloseSession { paths: None } => {}
            Txn::CloseSession { paths: Some(paths) } => {
                out.put_len(paths.len());
                paths.iter().for_each(|path| out.put_str(path));
            }
            Txn::Error { code } => out.put_i32(code.0),
            Txn::Multi(ops) => {
                out.put_len(ops.len());
                for (op, txn) in ops {
                    out.put_i32(op.0);
                    out.put_sized(|out| txn.encode_into(*op, out));
                }
            }
        }
    }

    /// Bytes that the body takes under a header of type `op`.
    fn encoded_len(&self, op: OpCode) -> usize {
        match self {
            Txn::Create(create) => create.encoded_len(op),
            Txn::Delete { path } => str_len(path),
            Txn::SetData { path, data, .. } => str_len(path) + buf_len(data.as_deref()) + 4,
            Txn::SetAcl { path, acl, .. } => str_len(path) + acls_len(acl) + 4,
            Txn::Check { path, .. } => str_len(path) + 4,
            Txn::CreateSession { .. } | Txn::Error { .. } => 4,
            Txn::CloseSession { paths: None } => 0,
            Txn::CloseSession { paths: Some(paths) } => {
                4 + paths.iter().map(|path| str_len(path)).sum::<usize>()
            }
            Txn::Multi(ops) => {
                let part = |(op, txn): &(OpCode, Txn)| 8 + txn.encoded_len(*op);
                4 + ops.iter().map(part).sum::<usize>()
            }
        }
    }

    fn decode(op: OpCode, r: &mut Reader<'_>) -> Result<Txn, EntryError> {
        Ok(match op {
            OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
                Txn::Create(CreateTxn::decode(op, r)?)
            }
            OpCode::DELETE | OpCode::DELETE_CONTAINER => Txn::Delete {
                path: r.required_str()?,
            },
            OpCode::SET_DATA | OpCode::RECONFIG => Txn::SetData {
                path: r.required_str()?,
                data: r.data()?,
                version: r.i32()?,
            },
            OpCode::SET_ACL => Txn::SetAcl {
                path: r.required_str()?,
                acl: r.vec(|r| r.acl())?.unwrap_or_default().into(),
                version: r.i32()?,
            },
            OpCode::CHECK => Txn::Check {
                path: r.required_str()?,
                version: r.i32()?,
            },
            OpCode::CREATE_SESSION => Txn::CreateSession {
                timeout_ms: r.i32()?,
            },
            OpCode::CLOSE_SESSION => Txn::CloseSession {
                paths: close_session_paths(r)?,
            },
            OpCode::ERROR => Txn::Error {
                code: ErrorCode(r.i32()?),
            },
            op => return Err(EntryError::Type(op)),
        })
    }
}

/// The reader's rule of docs/peer-protocol.md §3.2 for what follows the header of a closeSession: nothing is no
/// list; 12 bytes that begin with 2 are a digest alone; else a list.
fn close_session_paths(r: &mut Reader<'_>) -> Result<Option<Vec<Arc<str>>>, EntryError> {
    let rest = r.rest();
    if rest.is_empty()
        || (rest.len() == DIGEST_BYTES && rest[..4] == TxnDigest::VERSION.to_be_bytes())
    {
        return Ok(None);
    }
    Ok(Some(r.vec(|r| r.required_str())?.ok_or(JuteError::Null)?))
}

impl CreateTxn {
    fn encode_into(&self, op: OpCode, out: &mut Vec<u8>) {
        out.put_str(&self.path);
        out.put_buf(self.data.as_deref());
        out.put_acls(&self.acl);
        if matches!(op, OpCode::CREATE | OpCode::CREATE2) {
            out.put_bool(self.ephemeral);
        }
        out.put_i32(self.parent_cversion);
        if op == OpCode::CREATE_TTL {
            out.put_i64(self.ttl_ms);
        }
    }

    fn encoded_len(&self, op: OpCode) -> usize {
        let ephemeral = usize::from(matches!(op, OpCode::CREATE | OpCode::CREATE2));
        let ttl = if op == OpCode::CREATE_TTL { 8 } else { 0 };
        let list = acls_len(&self.acl);
        str_len(&self.path) + buf_len(self.data.as_deref()) + list + ephemeral + 4 + ttl
    }

    fn decode(op: OpCode, r: &mut Reader<'_>) -> Result<CreateTxn, EntryError> {
        let path = r.required_str()?;
        let data = r.data()?;
        let acl = r.vec(|r| r.acl())?.unwrap_or_default().into();
        let plain = matches!(op, OpCode::CREATE | OpCode::CREATE2);
        let ephemeral = plain && r.bool()?;
        let parent_cversion = match r.i32() {
            Ok(version) => version,
            Err(_) if plain => -1, // very old logs end here
            Err(e) => return Err(e.into()),
        };
        let ttl_ms = if op == OpCode::CREATE_TTL {
            r.i64()?
        } else {
            0
        };
        Ok(CreateTxn {
            path,
            data,
            acl,
            ephemeral,
            parent_cversion,
            ttl_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::{entries, hex};

    #[test]
    fn golden_entries_are_read_and_written_to_the_byte() {
        for (nth, bytes) in entries().iter().enumerate() {
            let entry = Entry::decode(bytes).unwrap();
            assert_eq!(entry.header.zxid, Zxid::new(1, nth as u32 + 1));
            assert_eq!(&entry.encode(), bytes, "entry {:#x}", nth + 1);
            assert_eq!(entry.encoded_len(), bytes.len(), "entry {:#x}", nth + 1);
            let plain_error = matches!(entry.txn, Txn::Error { .. });
            assert_eq!(entry.digest.is_none(), plain_error);
        }
    }

    #[test]
    fn data_counts_as_steps_beside_the_operation_in_a_multi_too() {
        let set = |bytes: usize| Txn::SetData {
            path: "/a".into(),
            data: Some(vec![0; bytes].into()),
            version: 1,
        };
        let operation = |bytes| (OpCode::SET_DATA, set(bytes));
        assert_eq!(set(DATA_PER_STEP - 1).steps(), 1);
        assert_eq!(set(1_000_000).steps(), 1 + 1_000_000 / DATA_PER_STEP);
        let multi = Txn::Multi(vec![operation(0), operation(3 * DATA_PER_STEP)]);
        assert_eq!((multi.steps(), Txn::Multi(Vec::new()).steps()), (5, 1));
    }

    #[test]
    fn golden_bodies_say_what_the_specification_says() {
        let all: Vec<Entry> = entries()
            .iter()
            .map(|b| Entry::decode(b).unwrap())
            .collect();
        assert_eq!(all[0].txn, Txn::CreateSession { timeout_ms: 10_000 });
        let Txn::Create(b) = &all[4].txn else {
            panic!()
        };
        assert_eq!(
            (&*b.path, b.ephemeral, b.data.as_deref()),
            ("/a/b", true, Some(&[][..]))
        );
        let Txn::Create(c) = &all[5].txn else {
            panic!()
        };
        assert_eq!((&*c.path, c.data.as_deref()), ("/c", None));
        assert_eq!(
            all[8].txn,
            Txn::Error {
                code: ErrorCode::BAD_VERSION
            }
        );
        let Txn::Multi(failed) = &all[11].txn else {
            panic!()
        };
        assert_eq!(
            failed[1],
            (
                OpCode::ERROR,
                Txn::Error {
                    code: ErrorCode::BAD_VERSION
                }
            )
        );
        assert_eq!(
            failed[2].1,
            Txn::Error {
                code: ErrorCode::RUNTIME_INCONSISTENCY
            }
        );
        assert_eq!(
            all[17].txn,
            Txn::CloseSession {
                paths: Some(vec!["/a/b".into()])
            }
        );
    }

    /// The three cases of docs/peer-protocol.md §3.2, and very old creates.
    #[test]
    fn old_servers_entries_are_read() {
        let close = hex("01000010e2f300000000000e0000000100000012000001a1f878e84bfffffff5");
        let read = |tail: &str| {
            let mut bytes = close.clone();
            bytes.extend(hex(tail));
            let entry = Entry::decode(&bytes).unwrap();
            let Txn::CloseSession { paths } = entry.txn else {
                panic!()
            };
            (paths, entry.digest.map(|d| d.tree))
        };
        assert_eq!(read(""), (None, None));
        assert_eq!(read("000000020000000000000007"), (None, Some(7)));
        assert_eq!(read("00000000"), (Some(vec![]), None));
        assert_eq!(
            read("00000000000000020000000000000007"),
            (Some(vec![]), Some(7))
        );
        let mut create = entries()[3].clone();
        create.truncate(create.len() - DIGEST_BYTES - 4);
        let Txn::Create(old) = Entry::decode(&create).unwrap().txn else {
            panic!()
        };
        assert_eq!(old.parent_cversion, -1);
    }

    #[test]
    fn types_that_no_server_writes_are_refused() {
        for op in [13, 4, 99, 0] {
            let mut bytes = entries()[0].clone();
            bytes[28..32].copy_from_slice(&i32::to_be_bytes(op));
            assert!(
                matches!(Entry::decode(&bytes), Err(EntryError::Type(_))),
                "{op}"
            );
        }
    }
}
