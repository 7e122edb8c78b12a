//! Frames of the protocol, both directions: what the generator sends and what the stub answers.
//!
//! Every message is `i32 len` and `len` bytes. A request is `xid i32, type i32` and a record, an
//! answer `xid i32, zxid i64, err i32` and a record; only the handshake has no header. Integers are
//! big-endian; strings and buffers are an `i32` length (−1 = null) and bytes.

use crate::failure::Failure;

/// Operation numbers.
pub mod op {
    #![allow(missing_docs)]
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const PING: i32 = 11;
    pub const MULTI: i32 = 14;
    pub const CLOSE: i32 = -11;
}

/// The xid of watch events.
pub const EVENT_XID: i32 = -1;
/// The xid of pings.
pub const PING_XID: i32 = -2;
/// A stat's length, bytes.
pub const STAT_BYTES: usize = 68;
/// What stands before each operation and each result of a multi, and at their end, bytes: type, done, err.
const MULTI_HEADER_BYTES: usize = 9;
/// What stands before a record in an answer, bytes: xid, zxid, err.
pub const REPLY_HEADER_BYTES: usize = 16;
/// Where a request's xid stands in its frame.
pub const XID_AT: usize = 4;
/// Longer frames are a mistake, of ours or the other side's.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Codes that the generator knows by name.
pub mod code {
    #![allow(missing_docs)]
    pub const CONNECTION_LOSS: i32 = -4;
    pub const UNIMPLEMENTED: i32 = -6;
    pub const NO_NODE: i32 = -101;
}

/// A code's name in the documentation of Apache's server.
pub fn code_name(code: i32) -> &'static str {
    match code {
        0 => "ok",
        -1 => "system error",
        -2 => "runtime inconsistency",
        -4 => "connection loss",
        -5 => "marshalling error",
        -6 => "unimplemented",
        -8 => "bad arguments",
        -101 => "no node",
        -102 => "no auth",
        -103 => "bad version",
        -110 => "node exists",
        -112 => "session expired",
        -114 => "invalid ACL",
        -118 => "session moved",
        -124 => "throttled",
        -125 => "quota exceeded",
        _ => "other",
    }
}

fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_i32(out, bytes.len() as i32);
    out.extend_from_slice(bytes);
}

fn request(out: &mut Vec<u8>, xid: i32, op: i32, write: impl FnOnce(&mut Vec<u8>)) {
    framed(out, |out| {
        put_i32(out, xid);
        put_i32(out, op);
        write(out);
    });
}

/// A new session with the given timeout, with the read-only byte.
pub fn connect(out: &mut Vec<u8>, timeout_ms: i32) {
    let none = Session {
        timeout_ms,
        id: 0,
        password: [0; 16],
    };
    reconnect(out, &none);
}

/// A session that had another connection.
pub fn reconnect(out: &mut Vec<u8>, session: &Session) {
    framed(out, |out| {
        put_i32(out, 0); // version
        put_i64(out, 0); // last zxid seen
        put_i32(out, session.timeout_ms);
        put_i64(out, session.id);
        put_bytes(out, &session.password);
        out.push(0); // read-only
    });
}

/// `getData`.
pub fn get_data(out: &mut Vec<u8>, xid: i32, path: &str, watch: bool) {
    request(out, xid, op::GET_DATA, |out| {
        put_bytes(out, path.as_bytes());
        out.push(watch.into());
    });
}

/// `setData` whatever the version.
pub fn set_data(out: &mut Vec<u8>, xid: i32, path: &str, data: &[u8]) {
    request(out, xid, op::SET_DATA, |out| set_body(out, path, data));
}

/// `multi` of the same `setData`, so many times.
pub fn multi_of_sets(out: &mut Vec<u8>, xid: i32, path: &str, data: &[u8], count: usize) {
    let operations = (0..count).map(|_| (path, data));
    multi(out, xid, op::SET_DATA, operations, set_body);
}

/// Length of the record that answers so many `setData` in a `multi`, all of which succeeded.
pub fn multi_of_sets_answer_bytes(count: usize) -> usize {
    count * (MULTI_HEADER_BYTES + STAT_BYTES) + MULTI_HEADER_BYTES
}

/// `multi` of one `setData` for each path and data.
pub fn multi_set(out: &mut Vec<u8>, xid: i32, nodes: &[(String, Vec<u8>)]) {
    let operations = nodes.iter().map(|(path, data)| (path.as_str(), &data[..]));
    multi(out, xid, op::SET_DATA, operations, set_body);
}

/// `multi` of one `create` for each path and data.
pub fn multi_create(out: &mut Vec<u8>, xid: i32, nodes: &[(String, Vec<u8>)]) {
    let operations = nodes.iter().map(|(path, data)| (path.as_str(), &data[..]));
    multi(out, xid, op::CREATE, operations, create_body);
}

fn multi<'a>(
    out: &mut Vec<u8>,
    xid: i32,
    kind: i32,
    operations: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: fn(&mut Vec<u8>, &str, &[u8]),
) {
    let header = |out: &mut Vec<u8>, op: i32, done: bool| {
        put_i32(out, op);
        out.push(done.into());
        put_i32(out, -1); // error
    };
    request(out, xid, op::MULTI, |out| {
        for (path, data) in operations {
            header(out, kind, false);
            body(out, path, data);
        }
        header(out, -1, true);
    });
}

fn set_body(out: &mut Vec<u8>, path: &str, data: &[u8]) {
    put_bytes(out, path.as_bytes());
    put_bytes(out, data);
    put_i32(out, -1); // any version
}

/// Of a persistent node that everybody may do everything with.
fn create_body(out: &mut Vec<u8>, path: &str, data: &[u8]) {
    put_bytes(out, path.as_bytes());
    put_bytes(out, data);
    put_i32(out, 1); // ACL entries
    put_i32(out, 31);
    put_bytes(out, b"world");
    put_bytes(out, b"anyone");
    put_i32(out, 0); // flags
}

/// `create` of a persistent node that everybody may do everything with.
pub fn create(out: &mut Vec<u8>, xid: i32, path: &str, data: &[u8]) {
    request(out, xid, op::CREATE, |out| create_body(out, path, data));
}

/// `delete` whatever the version.
pub fn delete(out: &mut Vec<u8>, xid: i32, path: &str) {
    request(out, xid, op::DELETE, |out| {
        put_bytes(out, path.as_bytes());
        put_i32(out, -1);
    });
}

/// A ping.
pub fn ping(out: &mut Vec<u8>) {
    request(out, PING_XID, op::PING, |_| {});
}

/// The end of the session.
pub fn close(out: &mut Vec<u8>, xid: i32) {
    request(out, xid, op::CLOSE, |_| {});
}

/// Where the path of a `create`, `getData` or `setData` starts in its frame.
pub const PATH_AT: usize = 4 + 8 + 4;

/// Gives a prepared request another xid.
pub fn patch_xid(frame: &mut [u8], xid: i32) {
    frame[XID_AT..XID_AT + 4].copy_from_slice(&xid.to_be_bytes());
}

/// Hands each whole frame's payload to `each`; returns how many bytes were used up.
pub fn split(
    bytes: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<usize, Failure> {
    let mut at = 0;
    while let Some(&len) = bytes[at..].first_chunk::<4>() {
        let len = i32::from_be_bytes(len);
        let len = usize::try_from(len)
            .ok()
            .filter(|&len| len <= FRAME_BYTES_MAX)
            .ok_or_else(|| Failure::Protocol(format!("a frame of {len} bytes")))?;
        let Some(payload) = bytes.get(at + 4..at + 4 + len) else {
            break;
        };
        each(payload)?;
        at += 4 + len;
    }
    Ok(at)
}

/// Takes a record apart.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    /// A byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    /// An integer.
    pub fn i32(&mut self) -> Option<i32> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(i32::from_be_bytes(*head))
    }

    /// A long integer.
    pub fn i64(&mut self) -> Option<i64> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(i64::from_be_bytes(*head))
    }

    /// A string or buffer; null is empty here.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        match self.i32()? {
            -1 => Some(&[]),
            len => self.take(usize::try_from(len).ok()?),
        }
    }
}

/// An answer or a watch event.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Of the request.
    pub xid: i32,
    /// The transaction.
    pub zxid: i64,
    /// 0 = fine.
    pub err: i32,
    /// The record.
    pub body: &'a [u8],
}

impl Reply<'_> {
    /// Takes a payload apart.
    pub fn parse(payload: &[u8]) -> Result<Reply<'_>, Failure> {
        let mut r = Reader(payload);
        let parse = |r: &mut Reader| Some((r.i32()?, r.i64()?, r.i32()?));
        let (xid, zxid, err) = parse(&mut r).ok_or_else(|| {
            Failure::Protocol(format!(
                "an answer of {} bytes has no header",
                payload.len()
            ))
        })?;
        Ok(Reply {
            xid,
            zxid,
            err,
            body: r.0,
        })
    }
}

/// The answer to a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// As negotiated.
    pub timeout_ms: i32,
    /// 0 = none.
    pub id: i64,
    /// Lets a client come back to it on another connection.
    pub password: [u8; 16],
}

impl Session {
    /// Takes the handshake's payload apart.
    pub fn parse(payload: &[u8]) -> Result<Session, Failure> {
        let parse = |mut r: Reader| {
            r.i32()?;
            let session = Session {
                timeout_ms: r.i32()?,
                id: r.i64()?,
                password: r.bytes()?.try_into().ok()?,
            };
            Some(session)
        };
        parse(Reader(payload))
            .filter(|session| session.timeout_ms > 0 && session.id != 0)
            .ok_or_else(|| {
                Failure::Protocol(format!(
                    "a handshake answer of {} bytes opens no session",
                    payload.len()
                ))
            })
    }
}

/// The stub's half: answers.
pub mod answer {
    use super::{EVENT_XID, framed, put_bytes, put_i32, put_i64};

    /// A new session.
    pub fn session(out: &mut Vec<u8>, timeout_ms: i32, id: i64, read_only_byte: bool) {
        framed(out, |out| {
            put_i32(out, 0);
            put_i32(out, timeout_ms);
            put_i64(out, id);
            put_bytes(out, &[7; 16]);
            if read_only_byte {
                out.push(0);
            }
        });
    }

    /// A header and a record that is written by the caller.
    pub fn reply(
        out: &mut Vec<u8>,
        xid: i32,
        zxid: i64,
        err: i32,
        record: impl FnOnce(&mut Vec<u8>),
    ) {
        framed(out, |out| {
            put_i32(out, xid);
            put_i64(out, zxid);
            put_i32(out, err);
            record(out);
        });
    }

    /// A node's data and its stat.
    pub fn data(out: &mut Vec<u8>, data: &[u8], zxid: i64) {
        put_bytes(out, data);
        stat(out, data.len(), zxid);
    }

    /// A node's stat.
    pub fn stat(out: &mut Vec<u8>, data_bytes: usize, zxid: i64) {
        for long in [zxid, zxid, 0, 0] {
            put_i64(out, long);
        }
        out.extend_from_slice(&[0; 12]); // version, cversion, aversion
        put_i64(out, 0); // owner
        put_i32(out, data_bytes as i32);
        put_i32(out, 0); // children
        put_i64(out, zxid);
    }

    /// A path.
    pub fn path(out: &mut Vec<u8>, path: &[u8]) {
        put_bytes(out, path);
    }

    /// A node's data has changed.
    pub fn data_changed(out: &mut Vec<u8>, zxid: i64, path: &[u8]) {
        reply(out, EVENT_XID, zxid, 0, |out| {
            put_i32(out, 3); // the data
            put_i32(out, 3); // connected
            put_bytes(out, path);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hex as the documents print it.
    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|b| !b.is_ascii_whitespace())
            .map(|b| (b as char).to_digit(16).unwrap() as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    fn built(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        build(&mut out);
        out
    }

    #[test]
    fn requests_are_the_golden_bytes() {
        let rows: Vec<(&str, Vec<u8>, &str)> = vec![
            (
                "connect, 10 s",
                built(|out| connect(out, 10_000)),
                "0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010
                 00000000000000000000000000000000 00",
            ),
            (
                "create",
                built(|out| create(out, 1, "/t", b"hello")),
                "00000036 00000001 00000001 00000002 2f74 00000005 68656c6c6f
                 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000",
            ),
            (
                "getData with watch",
                built(|out| get_data(out, 3, "/none", true)),
                "00000012 00000003 00000004 00000005 2f6e6f6e65 01",
            ),
            (
                "setData, any version",
                built(|out| set_data(out, 4, "/w", b"v")),
                "00000017 00000004 00000005 00000002 2f77 00000001 76 ffffffff",
            ),
            (
                "delete, any version",
                built(|out| delete(out, 5, "/w")),
                "00000012 00000005 00000002 00000002 2f77 ffffffff",
            ),
            (
                "multi of two setData",
                built(|out| multi_of_sets(out, 6, "/w", b"v", 2)),
                "00000041 00000006 0000000e
                 00000005 00 ffffffff 00000002 2f77 00000001 76 ffffffff
                 00000005 00 ffffffff 00000002 2f77 00000001 76 ffffffff
                 ffffffff 01 ffffffff",
            ),
            (
                "multi of two creates",
                built(|out| {
                    let node = |path: &str| (path.to_owned(), b"v".to_vec());
                    multi_create(out, 7, &[node("/a"), node("/b")]);
                }),
                "00000077 00000007 0000000e
                 00000001 00 ffffffff 00000002 2f61 00000001 76
                 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000
                 00000001 00 ffffffff 00000002 2f62 00000001 76
                 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000
                 ffffffff 01 ffffffff",
            ),
            ("ping", built(ping), "00000008 fffffffe 0000000b"),
            (
                "close",
                built(|out| close(out, 1)),
                "00000008 00000001 fffffff5",
            ),
        ];
        for (name, ours, golden) in rows {
            assert_eq!(ours, hex(golden), "{name}");
        }
    }

    #[test]
    fn answers_of_a_real_server_are_understood() {
        let session = hex("00000025 00000000 00002710 0100000d62170000 00000010
             7bd87f53ecdfe671512b0caa15806718 00");
        let opened = Session::parse(&session[4..]).unwrap();
        assert_eq!(
            (opened.timeout_ms, opened.id),
            (10_000, 0x0100_000d_6217_0000)
        );
        let dead = hex("00000025 00000000 00000000 0000000000000000 00000010
             00000000000000000000000000000000 00");
        assert!(Session::parse(&dead[4..]).is_err());

        let stream = hex(
            "0000001e ffffffff 0000000000000119 00000000 00000003 00000003 00000002 2f77
             00000010 00000003 0000000000000020 ffffff9b
             00000010 fffffffe",
        );
        let mut seen = Vec::new();
        let used = split(&stream, |payload| {
            let reply = Reply::parse(payload)?;
            seen.push((reply.xid, reply.zxid, reply.err, reply.body.len()));
            Ok(())
        });
        assert_eq!(used.unwrap(), stream.len() - 8, "the cut frame stays");
        assert_eq!(
            seen,
            [(EVENT_XID, 0x119, 0, 14), (3, 0x20, code::NO_NODE, 0)]
        );
    }

    #[test]
    fn the_stub_answers_with_the_golden_bytes() {
        assert_eq!(
            built(|out| answer::data_changed(out, 0x119, b"/w")),
            hex("0000001e ffffffff 0000000000000119 00000000 00000003 00000003 00000002 2f77")
        );
        assert_eq!(
            built(|out| answer::reply(out, PING_XID, 0x8d, 0, |_| {})),
            hex("00000010 fffffffe 000000000000008d 00000000")
        );
        let stat = built(|out| answer::stat(out, 5, 9));
        assert_eq!(stat.len(), STAT_BYTES);
        let with_byte = built(|out| answer::session(out, 10_000, 1, true));
        let without = built(|out| answer::session(out, 10_000, 1, false));
        assert_eq!((with_byte[3], without[3]), (0x25, 0x24));
    }

    #[test]
    fn lengths_that_can_not_be_end_the_parse() {
        for golden in ["ffffffff 00", "7fffffff 00"] {
            assert!(split(&hex(golden), |_| Ok(())).is_err(), "{golden}");
        }
        assert!(Reply::parse(&[0; 15]).is_err());
    }
}
