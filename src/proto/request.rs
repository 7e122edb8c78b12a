//! What a client sends, decoded.

use super::watch_lists::WatchLists;
use crate::txn::jute::{JuteError, Reader};
use crate::txn::{CreateRequest, Credentials, WriteRequest};
use crate::types::{OpCode, SessionId, Xid, Zxid};
use std::sync::Arc;

/// First frame of a connection (docs/protocol.md §1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Highest zxid the client saw.
    pub last_zxid_seen: Zxid,
    /// Requested timeout, ms.
    pub timeout_ms: i32,
    /// 0 = new session.
    pub session: SessionId,
    /// 16 bytes, or anything for a new session.
    pub password: Vec<u8>,
    /// `None`: the byte was absent, so the response must not carry it either.
    pub read_only: Option<bool>,
}

/// A request behind its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Goes through the pipeline, closeSession included.
    Write(WriteRequest),
    /// Answered from the replica.
    Read(ReadRequest),
    /// setWatches, setWatches2.
    SetWatches {
        /// The client's lastZxidSeen.
        relative_zxid: Zxid,
        /// Paths of data, exists and child watches, of persistent and recursive ones.
        lists: WatchLists,
    },
    /// ping.
    Ping,
    /// sync; the path is echoed, null too.
    Sync(Option<Arc<str>>),
    /// auth.
    Auth {
        /// Null fails.
        scheme: Option<Arc<str>>,
        /// Scheme's own data, null allowed.
        auth: Option<Vec<u8>>,
    },
    /// sasl, with whatever token.
    Sasl,
    /// getEphemerals: what the paths begin with; null is all.
    GetEphemerals(Option<Arc<str>>),
    /// whoAmI.
    WhoAmI,
    /// An operation this server does not have: −6 with zxid −1, then close.
    Unknown,
    /// A known operation whose body can't be parsed: −5.
    Malformed,
}

/// Requests that one replica answers from its own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRequest {
    /// exists.
    Exists {
        /// Node.
        path: Arc<str>,
        /// Leave a watch.
        watch: bool,
    },
    /// getData.
    GetData {
        /// Node.
        path: Arc<str>,
        /// Leave a watch.
        watch: bool,
    },
    /// getACL.
    GetAcl {
        /// Node.
        path: Arc<str>,
    },
    /// getChildren, getChildren2.
    GetChildren {
        /// Node.
        path: Arc<str>,
        /// Leave a watch.
        watch: bool,
        /// getChildren2: the Stat follows.
        with_stat: bool,
    },
    /// getAllChildrenNumber.
    GetAllChildrenNumber {
        /// Node.
        path: Arc<str>,
    },
    /// getEphemerals.
    GetEphemerals {
        /// Whose.
        session: SessionId,
        /// What the paths begin with.
        prefix: Arc<str>,
    },
    /// whoAmI.
    WhoAmI {
        /// The credentials of the connection.
        who: Credentials,
    },
    /// multiRead.
    MultiRead {
        /// GetData and GetChildren only; their watch flags are ignored.
        ops: Vec<ReadRequest>,
        /// What follows `ops` can't be executed, a path that is null or an operation that writes: −5 with the
        /// results so far.
        is_cut: bool,
    },
    /// addWatch.
    AddWatch {
        /// Any string, or null: the node need not be there, nor be readable.
        path: Option<Arc<str>>,
        /// What it covers.
        mode: WatchMode,
    },
    /// checkWatches.
    CheckWatches {
        /// As addWatch had it.
        path: Option<Arc<str>>,
        /// Which ones.
        of: WatchType,
    },
    /// removeWatches.
    RemoveWatches {
        /// As addWatch had it.
        path: Option<Arc<str>>,
        /// Which ones.
        of: WatchType,
    },
}

/// What a watch covers that does not end when it fires (docs/protocol.md §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// The node and its children, as a data and a child watch do.
    Persistent,
    /// The node and everything below it.
    Recursive,
}

/// Which watches on a path are meant (docs/protocol.md §4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchType {
    /// Standard child watches.
    Child,
    /// Standard data watches.
    Data,
    /// All.
    Any,
    /// Persistent ones.
    Persistent,
    /// Recursive ones.
    Recursive,
}

impl WatchMode {
    fn of(mode: i32) -> Option<WatchMode> {
        match mode {
            0 => Some(WatchMode::Persistent),
            1 => Some(WatchMode::Recursive),
            _ => None,
        }
    }
}

impl WatchType {
    fn of(number: i32) -> Option<WatchType> {
        match number {
            1 => Some(WatchType::Child),
            2 => Some(WatchType::Data),
            3 => Some(WatchType::Any),
            4 => Some(WatchType::Persistent),
            5 => Some(WatchType::Recursive),
            _ => None,
        }
    }
}

impl ConnectRequest {
    /// Reads the first frame's payload. `None`: not a handshake, close.
    pub fn decode(payload: &[u8]) -> Option<ConnectRequest> {
        let mut r = Reader::new(payload);
        let _protocol_version = r.i32().ok()?;
        Some(ConnectRequest {
            last_zxid_seen: Zxid(r.i64().ok()?),
            timeout_ms: r.i32().ok()?,
            session: SessionId(r.i64().ok()?),
            password: r.buf().ok()?.unwrap_or_default().to_vec(),
            read_only: r.bool().ok(),
        })
    }
}

/// Header of every request behind the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Echoed.
    pub xid: Xid,
    /// What is asked for.
    pub op: OpCode,
}

impl Request {
    /// Reads one frame's payload. `None`: shorter than a header (docs/protocol.md §1.1), or a sasl without a
    /// token, close.
    pub fn decode(payload: &[u8]) -> Option<(RequestHeader, Request)> {
        let mut r = Reader::new(payload);
        let header = RequestHeader {
            xid: Xid(r.i32().ok()?),
            op: OpCode(r.i32().ok()?),
        };
        let request = match header.op {
            OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
                create(header.op, &mut r).map(Request::Write)
            }
            OpCode::DELETE => delete(&mut r).map(Request::Write),
            OpCode::SET_DATA => set_data(&mut r).map(Request::Write),
            OpCode::SET_ACL => set_acl(&mut r).map(Request::Write),
            OpCode::MULTI => multi(&mut r).map(Request::Write),
            OpCode::CLOSE_SESSION => Ok(Request::Write(WriteRequest::CloseSession)),
            OpCode::EXISTS | OpCode::GET_DATA | OpCode::GET_ACL => {
                read(header.op, &mut r).map(Request::Read)
            }
            OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => {
                read(header.op, &mut r).map(Request::Read)
            }
            OpCode::MULTI_READ => multi_read(&mut r).map(Request::Read),
            OpCode::SET_WATCHES => set_watches(WatchLists::SET_WATCHES, &mut r),
            OpCode::SET_WATCHES2 => set_watches(WatchLists::SET_WATCHES2, &mut r),
            OpCode::ADD_WATCH | OpCode::CHECK_WATCHES | OpCode::REMOVE_WATCHES => {
                watches(header.op, &mut r).map(Request::Read)
            }
            OpCode::RECONFIG => reconfig(&mut r).map(Request::Write),
            OpCode::GET_ALL_CHILDREN_NUMBER => r
                .required_str()
                .map(|path| Request::Read(ReadRequest::GetAllChildrenNumber { path })),
            OpCode::GET_EPHEMERALS => r.str().map(Request::GetEphemerals),
            OpCode::WHO_AM_I => Ok(Request::WhoAmI),
            OpCode::SASL => {
                let _token = r.buf().ok()??;
                Ok(Request::Sasl)
            }
            OpCode::SYNC => r.str().map(Request::Sync),
            OpCode::AUTH => auth(&mut r),
            OpCode::PING => Ok(Request::Ping),
            _ => Ok(Request::Unknown),
        };
        Some((header, request.unwrap_or(Request::Malformed)))
    }
}

type Decoded<T> = Result<T, JuteError>;

pub(super) fn create(op: OpCode, r: &mut Reader<'_>) -> Decoded<WriteRequest> {
    Ok(WriteRequest::Create(CreateRequest {
        op,
        path: r.required_str()?,
        data: r.data()?,
        acl: r.vec(|r| r.raw_acl())?,
        flags: r.i32()?,
        ttl_ms: if op == OpCode::CREATE_TTL {
            r.i64()?
        } else {
            0
        },
    }))
}

pub(super) fn delete(r: &mut Reader<'_>) -> Decoded<WriteRequest> {
    Ok(WriteRequest::Delete {
        path: r.required_str()?,
        version: r.i32()?,
    })
}

pub(super) fn set_data(r: &mut Reader<'_>) -> Decoded<WriteRequest> {
    Ok(WriteRequest::SetData {
        path: r.str()?,
        data: r.data()?,
        version: r.i32()?,
    })
}

pub(super) fn set_acl(r: &mut Reader<'_>) -> Decoded<WriteRequest> {
    Ok(WriteRequest::SetAcl {
        path: r.str()?,
        acl: r.vec(|r| r.raw_acl())?,
        version: r.i32()?,
    })
}

pub(super) fn reconfig(r: &mut Reader<'_>) -> Decoded<WriteRequest> {
    let (_joining, _leaving, _members) = (r.buf()?, r.buf()?, r.buf()?);
    let _version = r.i64()?;
    Ok(WriteRequest::Reconfig)
}

/// `Some(type)` of the next operation, `None` at the terminator. Only `done` of a header decides.
fn multi_header(r: &mut Reader<'_>) -> Decoded<Option<OpCode>> {
    let (op, done, _err) = (OpCode(r.i32()?), r.bool()?, r.i32()?);
    Ok((!done).then_some(op))
}

/// multi (docs/protocol.md §1.6, §3.7): whatever Apache answers −5 for as a whole is an error here: types
/// that are not allowed, flags that fit no mode, TTL flags without type 21, a null ACL vector, a null path. Of a
/// createTTL it answers flags that fit no mode, and a null vector, for the operation alone.
pub(super) fn multi(r: &mut Reader<'_>) -> Decoded<WriteRequest> {
    let mut ops = Vec::new();
    while let Some(op) = multi_header(r)? {
        ops.push(multi_write(op, r)?);
    }
    Ok(WriteRequest::Multi(ops))
}

/// One operation of a multi.
fn multi_write(op: OpCode, r: &mut Reader<'_>) -> Decoded<WriteRequest> {
    match op {
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
            let mut request = create(op, r)?;
            if let WriteRequest::Create(create) = &mut request {
                check_multi_create(create)?;
            }
            Ok(request)
        }
        OpCode::DELETE => delete(r),
        OpCode::SET_DATA => {
            let request = set_data(r)?;
            match request {
                WriteRequest::SetData { path: None, .. } => Err(JuteError::Null),
                request => Ok(request),
            }
        }
        OpCode::CHECK => Ok(WriteRequest::Check {
            path: Some(r.required_str()?),
            version: r.i32()?,
        }),
        op => Err(JuteError::Length(op.0)),
    }
}

fn check_multi_create(create: &mut CreateRequest) -> Decoded<()> {
    let asks_for_ttl = create.op == OpCode::CREATE_TTL;
    match create.flags {
        0..=3 => {}
        4 => (create.op, create.ttl_ms) = (OpCode::CREATE_CONTAINER, 0),
        _ if asks_for_ttl => {}
        flags => return Err(JuteError::Length(flags)),
    }
    match create.acl {
        None if !asks_for_ttl => Err(JuteError::Null),
        _ => Ok(()),
    }
}

fn read(op: OpCode, r: &mut Reader<'_>) -> Decoded<ReadRequest> {
    let path = r.required_str()?;
    if op == OpCode::GET_ACL {
        return Ok(ReadRequest::GetAcl { path });
    }
    let watch = r.bool()?;
    Ok(match op {
        OpCode::EXISTS => ReadRequest::Exists { path, watch },
        OpCode::GET_DATA => ReadRequest::GetData { path, watch },
        _ => ReadRequest::GetChildren {
            path,
            watch,
            with_stat: op == OpCode::GET_CHILDREN2,
        },
    })
}

/// multiRead (docs/protocol.md §3.8). The whole record is parsed first: other types than those of a multi, and
/// reads beside writes, are an error. Writes alone parse, and then the first of them can't be executed; a null
/// path can't be either.
fn multi_read(r: &mut Reader<'_>) -> Decoded<ReadRequest> {
    let mut ops = Vec::new();
    let (mut reads, mut writes, mut is_cut) = (false, false, false);
    while let Some(op) = multi_header(r)? {
        match op {
            OpCode::GET_DATA | OpCode::GET_CHILDREN => {
                reads = true;
                match (r.str()?, r.bool()?) {
                    (None, _) => is_cut = true,
                    (Some(_), _) if is_cut => {}
                    (Some(path), watch) if op == OpCode::GET_DATA => {
                        ops.push(ReadRequest::GetData { path, watch });
                    }
                    (Some(path), watch) => ops.push(ReadRequest::GetChildren {
                        path,
                        watch,
                        with_stat: false,
                    }),
                }
            }
            op => {
                skip_write(op, r)?;
                (writes, is_cut) = (true, true);
            }
        }
        if reads && writes {
            return Err(JuteError::Length(op.0));
        }
    }
    Ok(ReadRequest::MultiRead { ops, is_cut })
}

/// Reads over an operation of a multi that a multiRead can't execute.
fn skip_write(op: OpCode, r: &mut Reader<'_>) -> Decoded<()> {
    let _path = r.buf()?;
    match op {
        OpCode::DELETE | OpCode::CHECK => {}
        OpCode::SET_DATA => drop(r.buf()?),
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => {
            let _data = r.buf()?;
            r.vec(|r| r.raw_acl())?.ok_or(JuteError::Null)?;
        }
        op => return Err(JuteError::Length(op.0)),
    }
    // A version, or the flags.
    let number = r.i32()?;
    match op {
        OpCode::CREATE_TTL => r.i64().map(drop),
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER
            if !(0..=4).contains(&number) =>
        {
            Err(JuteError::Length(number))
        }
        _ => Ok(()),
    }
}

fn set_watches(lists: usize, r: &mut Reader<'_>) -> Decoded<Request> {
    Ok(Request::SetWatches {
        relative_zxid: Zxid(r.i64()?),
        lists: WatchLists::read(r, lists)?,
    })
}

/// addWatch, checkWatches, removeWatches. A mode or a type that does not exist is −5 too.
fn watches(op: OpCode, r: &mut Reader<'_>) -> Decoded<ReadRequest> {
    let (path, number) = (r.str()?, r.i32()?);
    let unknown = JuteError::Length(number);
    Ok(match op {
        OpCode::ADD_WATCH => ReadRequest::AddWatch {
            path,
            mode: WatchMode::of(number).ok_or(unknown)?,
        },
        OpCode::CHECK_WATCHES => ReadRequest::CheckWatches {
            path,
            of: WatchType::of(number).ok_or(unknown)?,
        },
        _ => ReadRequest::RemoveWatches {
            path,
            of: WatchType::of(number).ok_or(unknown)?,
        },
    })
}

fn auth(r: &mut Reader<'_>) -> Decoded<Request> {
    let _type = r.i32()?;
    Ok(Request::Auth {
        scheme: r.str()?,
        auth: r.buf()?.map(<[u8]>::to_vec),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::RawAcl;
    use crate::txn::golden::hex;
    use proptest::prelude::*;

    fn payload(text: &str) -> Vec<u8> {
        let bytes = hex(text);
        let crate::proto::Frame::Whole(payload, used) = crate::proto::split_frame(&bytes, 1 << 20)
        else {
            panic!("not one frame")
        };
        assert_eq!(used, bytes.len());
        payload.to_vec()
    }

    #[test]
    fn golden_connect_with_and_without_the_read_only_byte() {
        let with = payload(
            "0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010
             00000000000000000000000000000000 00",
        );
        let mut request = ConnectRequest::decode(&with).unwrap();
        assert_eq!(
            (request.timeout_ms, request.read_only),
            (10_000, Some(false))
        );
        assert_eq!(
            (request.session, request.password.len()),
            (SessionId::NONE, 16)
        );
        request.read_only = None;
        assert_eq!(ConnectRequest::decode(&with[..44]), Some(request));
        assert_eq!(ConnectRequest::decode(&with[..20]), None);
    }

    #[test]
    fn golden_create() {
        let bytes = payload(
            "00000036 00000001 00000001 00000002 2f74 00000005 68656c6c6f
             00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000",
        );
        let (header, request) = Request::decode(&bytes).unwrap();
        assert_eq!(
            header,
            RequestHeader {
                xid: Xid(1),
                op: OpCode::CREATE
            }
        );
        let anyone = RawAcl {
            perms: 31,
            scheme: Some("world".into()),
            id: Some("anyone".into()),
        };
        assert_eq!(
            request,
            Request::Write(WriteRequest::Create(CreateRequest {
                op: OpCode::CREATE,
                path: "/t".into(),
                data: Some((*b"hello").into()),
                acl: Some(vec![anyone]),
                flags: 0,
                ttl_ms: 0,
            }))
        );
    }

    #[test]
    fn golden_get_data_ping_auth_close_and_unknown() {
        let (header, request) = Request::decode(&payload(
            "00000012 00000003 00000004 00000005 2f6e6f6e65 01",
        ))
        .unwrap();
        assert_eq!(header.xid, Xid(3));
        let path: std::sync::Arc<str> = "/none".into();
        assert_eq!(
            request,
            Request::Read(ReadRequest::GetData { path, watch: true })
        );
        let ping = Request::decode(&payload("00000008 fffffffe 0000000b")).unwrap();
        assert_eq!((ping.0.xid, ping.1), (Xid(-2), Request::Ping));
        let auth = "0000001d fffffffc 00000064 00000000 00000006 646967657374 00000003 753a70";
        let (_, auth) = Request::decode(&payload(auth)).unwrap();
        assert_eq!(
            auth,
            Request::Auth {
                scheme: Some("digest".into()),
                auth: Some(b"u:p".to_vec())
            }
        );
        let (_, close) = Request::decode(&payload("00000008 00000001 fffffff5")).unwrap();
        assert_eq!(close, Request::Write(WriteRequest::CloseSession));
        let (_, unknown) = Request::decode(&payload("00000008 00000001 000003e7")).unwrap();
        assert_eq!(unknown, Request::Unknown);
    }

    /// docs/protocol.md §1.2, "null where a value is required"; docs/protocol.md §1.5 for what is unknown here.
    #[test]
    fn nulls_and_unknown_operations() {
        let ask = |op: i32, body: &str| {
            let mut bytes = hex("00000001");
            bytes.extend(op.to_be_bytes());
            bytes.extend(hex(body));
            Request::decode(&bytes).unwrap().1
        };
        for (op, body) in [
            (1, "ffffffff 00000000 ffffffff 00000000"),
            (2, "ffffffff 00000000"),
            (3, "ffffffff 00"),
            (4, "ffffffff 00"),
            (6, "ffffffff"),
            (8, "ffffffff 00"),
            (12, "ffffffff 00"),
            (15, "ffffffff 00000000 ffffffff 00000000"),
            (19, "ffffffff 00000000 ffffffff 00000000"),
            (21, "ffffffff 00000000 ffffffff 00000005 0000000000000001"),
            // A createTTL without a TTL.
            (21, "00000002 2f61 00000000 00000000 00000005"),
            (104, "ffffffff"),
            (16, "ffffffff ffffffff ffffffff"),
            (103, ""),
            (101, "0000000000000000 ffffffff 00000000 00000000"),
            (
                105,
                "0000000000000000 00000000 00000000 00000000 00000000 ffffffff",
            ),
        ] {
            assert_eq!(ask(op, body), Request::Malformed, "{op}");
        }
        let set = WriteRequest::SetData {
            path: None,
            data: None,
            version: 0,
        };
        assert_eq!(ask(5, "ffffffff ffffffff 00000000"), Request::Write(set));
        assert_eq!(ask(9, "ffffffff"), Request::Sync(None));
        assert_eq!(ask(103, "ffffffff"), Request::GetEphemerals(None));
        let reconfig = "ffffffff ffffffff ffffffff ffffffffffffffff";
        assert_eq!(ask(16, reconfig), Request::Write(WriteRequest::Reconfig));
        assert_eq!(ask(107, ""), Request::WhoAmI);
        assert_eq!(ask(102, "00000000"), Request::Sasl);
        for op in [-10, -1, 0, 10, 13, 20, 23, 99, 108] {
            assert_eq!(ask(op, ""), Request::Unknown, "{op}");
        }
    }

    /// The connection of a sasl without a token is closed, as that of a frame without a header is.
    #[test]
    fn a_sasl_without_a_token_is_no_request() {
        for body in ["", "ffffffff", "fffffffe", "00000001"] {
            let bytes = hex(&format!("00000001 00000066 {body}"));
            assert_eq!(Request::decode(&bytes), None, "{body}");
        }
    }

    /// docs/protocol.md §2.5, §4.7: every string is a path, null too; modes and types have an end.
    #[test]
    fn operations_on_watches_take_any_path_and_known_numbers() {
        let ask = |op: i32, path: &str, number: i32| {
            let mut bytes = hex("00000001");
            bytes.extend(op.to_be_bytes());
            bytes.extend(hex(path));
            bytes.extend(number.to_be_bytes());
            Request::decode(&bytes).unwrap().1
        };
        let (w, null, odd) = ("00000002 2f77", "ffffffff", "00000003 782f00");
        let path = |text: &str| -> Option<Arc<str>> { Some(text.into()) };
        for (wire, path) in [(w, path("/w")), (null, None), (odd, path("x/\0"))] {
            let modes = [WatchMode::Persistent, WatchMode::Recursive];
            for (number, mode) in (0..).zip(modes) {
                let path = path.clone();
                let due = Request::Read(ReadRequest::AddWatch { path, mode });
                assert_eq!(ask(106, wire, number), due);
            }
            let types = [
                WatchType::Child,
                WatchType::Data,
                WatchType::Any,
                WatchType::Persistent,
                WatchType::Recursive,
            ];
            for (number, of) in (1..).zip(types) {
                let (to_check, path) = (path.clone(), path.clone());
                let due = Request::Read(ReadRequest::CheckWatches { path: to_check, of });
                assert_eq!(ask(17, wire, number), due);
                let due = Request::Read(ReadRequest::RemoveWatches { path, of });
                assert_eq!(ask(18, wire, number), due);
            }
        }
        for (op, numbers) in [
            (106, [-1, 2, i32::MIN, i32::MAX]),
            (17, [0, 6, -1, 7]),
            (18, [0, 6, -1, 7]),
        ] {
            for number in numbers {
                assert_eq!(ask(op, w, number), Request::Malformed, "{op} {number}");
            }
            for cut in ["00000003 2f77", "7fffffff", "fffffffe"] {
                assert_eq!(ask(op, cut, 0), Request::Malformed, "{op} {cut}");
            }
        }
    }

    #[test]
    fn golden_operations_on_watches() {
        let (header, add) = Request::decode(&payload(
            "00000012 00000005 0000006a 00000002 2f77 00000001",
        ))
        .unwrap();
        assert_eq!((header.xid, header.op), (Xid(5), OpCode::ADD_WATCH));
        let path: Option<Arc<str>> = Some("/w".into());
        let mode = WatchMode::Recursive;
        let due = ReadRequest::AddWatch {
            path: path.clone(),
            mode,
        };
        assert_eq!(add, Request::Read(due));
        let (_, remove) = Request::decode(&payload(
            "00000012 00000006 00000012 00000002 2f77 00000003",
        ))
        .unwrap();
        let of = WatchType::Any;
        assert_eq!(
            remove,
            Request::Read(ReadRequest::RemoveWatches { path, of })
        );
        let (header, set) = Request::decode(&payload(
            "00000030 fffffff8 00000069 0000000000000119 00000000 00000000 00000000
             00000001 00000002 2f77 00000001 00000002 2f78",
        ))
        .unwrap();
        assert_eq!((header.xid, header.op), (Xid(-8), OpCode::SET_WATCHES2));
        let Request::SetWatches {
            relative_zxid,
            lists,
        } = set
        else {
            panic!("{set:?}")
        };
        assert_eq!((relative_zxid, lists.paths()), (Zxid(0x119), 2));
    }

    #[test]
    fn a_multi_is_malformed_as_a_whole() {
        let ask = |body: &str| {
            let mut bytes = hex("000000010000000e");
            bytes.extend(hex(body));
            Request::decode(&bytes).unwrap().1
        };
        let end = "ffffffff 01 ffffffff";
        assert_eq!(ask(end), Request::Write(WriteRequest::Multi(vec![])));
        assert_eq!(ask(""), Request::Malformed); // no terminator
        for op in ["00000007", "00000004", "0000000e", "00000009"] {
            assert_eq!(
                ask(&format!("{op} 00 ffffffff {end}")),
                Request::Malformed,
                "{op}"
            );
        }
        let create = |flags: &str, acl: &str| {
            ask(&format!(
                "00000001 00 ffffffff 00000002 2f61 ffffffff {acl} {flags} {end}"
            ))
        };
        assert!(matches!(create("00000000", "00000000"), Request::Write(_)));
        assert_eq!(create("00000000", "ffffffff"), Request::Malformed);
        assert_eq!(create("00000005", "00000000"), Request::Malformed);
        assert_eq!(create("00000007", "00000000"), Request::Malformed);
        // A createTTL has its answer for itself, whatever its flags and its list are.
        let with_ttl = |flags: i32, acl: &str| {
            let body = format!("00000002 2f61 ffffffff {acl} {flags:08x} 0000000000000007");
            match ask(&format!("00000015 00 ffffffff {body} {end}")) {
                Request::Write(WriteRequest::Multi(ops)) => match &ops[..] {
                    [WriteRequest::Create(create)] => (create.op, create.flags, create.ttl_ms),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        };
        for (flags, op, ttl_ms) in [
            (0, OpCode::CREATE_TTL, 7),
            (4, OpCode::CREATE_CONTAINER, 0),
            (5, OpCode::CREATE_TTL, 7),
            (7, OpCode::CREATE_TTL, 7),
        ] {
            for acl in ["00000000", "ffffffff"] {
                assert_eq!(with_ttl(flags, acl), (op, flags, ttl_ms));
            }
        }
    }

    #[test]
    fn golden_create_container_and_create_ttl() {
        let acl = "00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65";
        let container = format!("00000031 00000002 00000013 00000002 2f63 ffffffff {acl} 00000004");
        let (header, request) = Request::decode(&payload(&container)).unwrap();
        assert_eq!((header.xid, header.op), (Xid(2), OpCode::CREATE_CONTAINER));
        let Request::Write(WriteRequest::Create(create)) = request else {
            panic!("{request:?}")
        };
        let due = (OpCode::CREATE_CONTAINER, 4, 0, None);
        let CreateRequest {
            op, flags, ttl_ms, ..
        } = create;
        assert_eq!((op, flags, ttl_ms, create.data), due);
        let ttl = format!(
            "0000003b 00000003 00000015 00000002 2f74 00000002 6869 {acl} 00000006 000000ffffffffff"
        );
        let (header, request) = Request::decode(&payload(&ttl)).unwrap();
        assert_eq!((header.xid, header.op), (Xid(3), OpCode::CREATE_TTL));
        let Request::Write(WriteRequest::Create(create)) = request else {
            panic!("{request:?}")
        };
        let due = (OpCode::CREATE_TTL, 6, 1_099_511_627_775);
        assert_eq!((create.op, create.flags, create.ttl_ms), due);
        assert_eq!(
            (&*create.path, create.data.as_deref()),
            ("/t", Some(&b"hi"[..]))
        );
    }

    /// Row 9 of the comparison with Apache.
    #[test]
    fn a_null_path_makes_all_of_a_multi_malformed() {
        let end = "ffffffff 01 ffffffff";
        for op in [
            "00000001 00 ffffffff ffffffff 00000000 00000000 00000000",
            "00000002 00 ffffffff ffffffff ffffffff",
            "00000005 00 ffffffff ffffffff ffffffff ffffffff",
            "0000000d 00 ffffffff ffffffff ffffffff",
        ] {
            let bytes = hex(&format!("00000001 0000000e {op} {end}"));
            let (_, request) = Request::decode(&bytes).unwrap();
            assert_eq!(request, Request::Malformed, "{op}");
        }
    }

    /// Rows 11 and 12 of the comparison with Apache: what is in the list, and whether it ends behind that with −5.
    #[test]
    fn a_multi_read_parses_as_a_whole_or_not_at_all() {
        const DATA: &str = "00000004 00 ffffffff 00000002 2f61 01";
        const LIST: &str = "00000008 00 ffffffff 00000002 2f61 00";
        const NULL: &str = "00000004 00 ffffffff ffffffff 00";
        const DELETE: &str = "00000002 00 ffffffff ffffffff ffffffff";
        const CHECK: &str = "0000000d 00 ffffffff 00000002 2f61 ffffffff";
        const SET: &str = "00000005 00 ffffffff 00000002 2f61 ffffffff ffffffff";
        const CREATE: &str = "00000001 00 ffffffff 00000002 2f61 ffffffff 00000000 00000000";
        const TTL: &str =
            "00000015 00 ffffffff 00000002 2f61 ffffffff 00000000 00000005 0000000000000001";
        const FLAGS: &str = "00000001 00 ffffffff 00000002 2f61 ffffffff 00000000 00000007";
        const EXISTS: &str = "00000003 00 ffffffff 00000002 2f61 00";
        const END: &str = "ffffffff 01 ffffffff";
        let parse = |ops: &[&str]| {
            let bytes = hex(&format!("00000001 00000016 {}", ops.join(" ")));
            match Request::decode(&bytes).unwrap().1 {
                Request::Read(ReadRequest::MultiRead { ops, is_cut }) => Some((ops.len(), is_cut)),
                Request::Malformed => None,
                other => panic!("{other:?}"),
            }
        };
        for (ops, due) in [
            (&[END][..], Some((0, false))),
            (&[DATA, LIST, END], Some((2, false))),
            (&[DATA, LIST], None),
            (&[NULL, END], Some((0, true))),
            (&[DATA, NULL, LIST, END], Some((1, true))),
            (&[DATA, NULL, EXISTS, END], None),
            (&[DATA, NULL], None),
            (&[CREATE, DELETE, SET, CHECK, TTL, END], Some((0, true))),
            (&[CHECK, END, DATA], Some((0, true))),
            (&[CHECK], None),
            (&[FLAGS, END], None),
            (&[DATA, CHECK, END], None),
            (&[CHECK, DATA, END], None),
            (&[EXISTS, END], None),
            (&[DATA, EXISTS, END], None),
        ] {
            assert_eq!(parse(ops), due, "{ops:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(op in -11i32..108, body in any::<Vec<u8>>()) {
            let mut bytes = 1i32.to_be_bytes().to_vec();
            bytes.extend(op.to_be_bytes());
            bytes.extend(body);
            prop_assert!(Request::decode(&bytes).is_some() || op == OpCode::SASL.0);
            ConnectRequest::decode(&bytes);
        }
    }
}
