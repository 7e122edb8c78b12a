//! What a client receives: every function appends whole frames to a connection's output.

use super::session::password;
use crate::txn::jute::Put;
use crate::txn::{Acl, AuthId, Stat};
use crate::types::{ErrorCode, OpCode, SessionId, Xid, Zxid};

/// A reply whose length no frame can have. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reply is longer than a frame can be")]
pub struct ReplyTooLong;

/// A frame with the header of a reply and a Stat, bytes: room for so much is made at once.
const FRAME_USUAL: usize = 4 + 16 + Stat::BYTES;

/// Appends one frame; `body` writes its payload.
fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), ReplyTooLong> {
    let start = out.len();
    out.reserve(FRAME_USUAL);
    out.put_i32(0);
    body(out);
    let Ok(len) = i32::try_from(out.len() - start - 4) else {
        out.truncate(start);
        return Err(ReplyTooLong);
    };
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

/// Appends one frame of a payload whose length is given.
fn fixed_frame(out: &mut Vec<u8>, len: i32, body: impl FnOnce(&mut Vec<u8>)) {
    out.put_i32(len);
    let start = out.len();
    body(out);
    debug_assert_eq!(out.len() - start, len as usize);
}

/// Header of every reply (docs/protocol.md §1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's.
    pub xid: Xid,
    /// State that the reply reflects.
    pub zxid: Zxid,
    /// Outcome; a reply with an error has no body.
    pub err: ErrorCode,
}

impl ReplyHeader {
    fn put(self, out: &mut Vec<u8>) {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.xid.0.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.zxid.0.to_be_bytes());
        bytes[12..].copy_from_slice(&self.err.0.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

/// ConnectResponse; the last byte is there only if the request had it.
pub fn connected(out: &mut Vec<u8>, session: SessionId, timeout_ms: i32, read_only_byte: bool) {
    connect_response(out, session, timeout_ms, &password(session), read_only_byte);
}

/// The answer for a session that is dead: no timeout, no id, a password of zeroes.
pub fn dead_session(out: &mut Vec<u8>, read_only_byte: bool) {
    connect_response(out, SessionId::NONE, 0, &[0; 16], read_only_byte);
}

fn connect_response(
    out: &mut Vec<u8>,
    session: SessionId,
    timeout_ms: i32,
    password: &[u8; 16],
    read_only_byte: bool,
) {
    fixed_frame(out, 36 + i32::from(read_only_byte), |out| {
        out.put_i32(0);
        out.put_i32(timeout_ms);
        out.put_i64(session.0);
        out.put_buf(Some(password));
        if read_only_byte {
            out.put_bool(false);
        }
    });
}

/// A reply without a body: errors, ping, auth, delete, closeSession, and of the operations on watches all
/// but addWatch.
pub fn header_only(out: &mut Vec<u8>, header: ReplyHeader) {
    fixed_frame(out, 16, |out| header.put(out));
}

/// The reply to addWatch: its body is a code, always 0.
pub fn watch_added(out: &mut Vec<u8>, header: ReplyHeader) {
    fixed_frame(out, 20, |out| {
        header.put(out);
        out.put_i32(0);
    });
}

/// A reply whose body `body` writes.
///
/// # Errors
/// The body is too long for a frame: answer an error instead.
pub fn with_body(
    out: &mut Vec<u8>,
    header: ReplyHeader,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), ReplyTooLong> {
    frame(out, |out| {
        header.put(out);
        body(out);
    })
}

/// Completes a frame of a reply that was made behind 20 bytes left free for its length and its header.
///
/// # Errors
/// The reply is too long for a frame.
pub fn put_header(frame: &mut [u8], header: ReplyHeader) -> Result<(), ReplyTooLong> {
    let len = i32::try_from(frame.len() - 4).map_err(|_| ReplyTooLong)?;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame[4..8].copy_from_slice(&header.xid.0.to_be_bytes());
    frame[8..16].copy_from_slice(&header.zxid.0.to_be_bytes());
    frame[16..20].copy_from_slice(&header.err.0.to_be_bytes());
    Ok(())
}

/// Appends a list of names, which have `bytes` bytes together, if `out` has at most `len_max` bytes with it.
///
/// # Errors
/// The list is too long; nothing was written.
///
/// # Panics
/// The names have more or fewer bytes.
pub fn put_names<'a>(
    out: &mut Vec<u8>,
    names: impl ExactSizeIterator<Item = &'a [u8]>,
    bytes: usize,
    len_max: usize,
) -> Result<(), ReplyTooLong> {
    let at = out.len();
    let lengths = names.len().saturating_add(1).saturating_mul(4);
    let end = at.saturating_add(lengths).saturating_add(bytes);
    if end > len_max {
        return Err(ReplyTooLong);
    }
    out.put_len(names.len());
    out.resize(end, 0);
    // A place that is there already: no name asks whether there is room.
    let mut rest = &mut out[at + 4..];
    for name in names {
        let (len, behind) = rest.split_at_mut(4);
        len.copy_from_slice(&(name.len() as u32).to_be_bytes());
        let (copy, behind) = behind.split_at_mut(name.len());
        copy.copy_from_slice(name);
        rest = behind;
    }
    assert!(
        rest.is_empty(),
        "names have the bytes that they were said to have"
    );
    Ok(())
}

/// Says how many elements a list has that begins at `at`, where a length was put before.
pub fn set_len(out: &mut [u8], at: usize, elements: usize) {
    out[at..at + 4].copy_from_slice(&(elements as u32).to_be_bytes());
}

/// Body of whoAmI: of a digest what is before its first colon, of an address all, and nothing of `super`, which
/// is the scheme of no provider.
pub fn put_client_infos<'a>(out: &mut Vec<u8>, who: impl Iterator<Item = &'a AuthId> + Clone) {
    out.put_len(who.clone().count());
    for AuthId { scheme, id } in who {
        out.put_str(scheme);
        out.put_str(match &**scheme {
            "digest" => id.split(':').next().unwrap_or_default(),
            "ip" => id,
            _ => "",
        });
    }
}

/// Body of getACL.
pub fn put_acl(out: &mut Vec<u8>, acl: &[Acl], stat: &Stat) {
    out.put_acls(acl);
    stat.encode_into(out);
}

/// Header of one result of a multi (docs/protocol.md §1.6).
pub fn put_multi_result(out: &mut Vec<u8>, op: OpCode) {
    out.put_i32(op.0);
    out.put_bool(false);
    out.put_i32(0);
}

/// A failed operation of a multi: header and body carry the same code.
pub fn put_multi_error(out: &mut Vec<u8>, code: ErrorCode) {
    out.put_i32(OpCode::ERROR.0);
    out.put_bool(false);
    out.put_i32(code.0);
    out.put_i32(code.0);
}

/// The end of a multi's results.
pub fn put_multi_end(out: &mut Vec<u8>) {
    out.put_i32(-1);
    out.put_bool(true);
    out.put_i32(-1);
}

/// Type of a watch event (docs/protocol.md §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum EventType {
    /// NodeCreated.
    Created = 1,
    /// NodeDeleted.
    Deleted = 2,
    /// NodeDataChanged.
    DataChanged = 3,
    /// NodeChildrenChanged.
    ChildrenChanged = 4,
}

/// The zxid of an event that setWatches catches up with.
pub const CATCH_UP: Zxid = Zxid(-1);

/// A watch event. Nothing for a path of 2 GiB, which no request can name.
pub fn event(out: &mut Vec<u8>, event: EventType, zxid: Zxid, path: &str) {
    const SYNC_CONNECTED: i32 = 3;
    let _ = frame(out, |out| {
        ReplyHeader {
            xid: Xid(-1),
            zxid,
            err: ErrorCode::OK,
        }
        .put(out);
        out.put_i32(event as i32);
        out.put_i32(SYNC_CONNECTED);
        out.put_str(path);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::hex;

    fn header(xid: i32, zxid: i64, err: i32) -> ReplyHeader {
        ReplyHeader {
            xid: Xid(xid),
            zxid: Zxid(zxid),
            err: ErrorCode(err),
        }
    }

    #[test]
    fn golden_connect_responses() {
        let mut out = Vec::new();
        connected(&mut out, SessionId(0x0100_000d_6217_0000), 10_000, true);
        dead_session(&mut out, true);
        assert_eq!(
            out,
            hex("00000025 00000000 00002710 0100000d62170000 00000010 7bd87f53ecdfe671512b0caa15806718 00
                 00000025 00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000 00")
        );
        out.clear();
        connected(&mut out, SessionId(0x0100_000d_6217_0000), 10_000, false);
        assert_eq!(
            out,
            hex(
                "00000024 00000000 00002710 0100000d62170000 00000010 7bd87f53ecdfe671512b0caa15806718"
            )
        );
    }

    #[test]
    fn golden_replies_and_events() {
        let mut out = Vec::new();
        with_body(&mut out, header(1, 0x20, 0), |out| out.put_str("/t")).unwrap();
        header_only(&mut out, header(3, 0x20, -101));
        event(&mut out, EventType::DataChanged, Zxid(0x119), "/w");
        event(&mut out, EventType::DataChanged, CATCH_UP, "/w");
        header_only(&mut out, header(-8, 0x147, 0));
        assert_eq!(
            out,
            hex("00000016 00000001 0000000000000020 00000000 00000002 2f74
                 00000010 00000003 0000000000000020 ffffff9b
                 0000001e ffffffff 0000000000000119 00000000 00000003 00000003 00000002 2f77
                 0000001e ffffffff ffffffffffffffff 00000000 00000003 00000003 00000002 2f77
                 00000010 fffffff8 0000000000000147 00000000")
        );
    }

    #[test]
    fn golden_failed_multi() {
        let mut out = Vec::new();
        with_body(&mut out, header(12, 0xf6, 0), |out| {
            for code in [0, -101, -2] {
                put_multi_error(out, ErrorCode(code));
            }
            put_multi_end(out);
        })
        .unwrap();
        assert_eq!(
            out[4..],
            hex("0000000c 00000000000000f6 00000000
                 ffffffff 00 00000000 00000000
                 ffffffff 00 ffffff9b ffffff9b
                 ffffffff 00 fffffffe fffffffe
                 ffffffff 01 ffffffff")
        );
    }

    #[test]
    fn golden_stat_of_a_fresh_root() {
        let mut out = Vec::new();
        Stat {
            cversion: -1,
            num_children: 1,
            ..Stat::default()
        }
        .encode_into(&mut out);
        assert_eq!(
            out,
            hex(
                "0000000000000000 0000000000000000 0000000000000000 0000000000000000
                 00000000 ffffffff 00000000 0000000000000000 00000000 00000001 0000000000000000"
            )
        );
    }

    #[test]
    fn names_are_written_if_there_is_room_for_all() {
        let names = [&b"one"[..], b"two"];
        let put = |len_max| {
            let mut out = vec![0; 10];
            let fits = put_names(&mut out, names.into_iter(), 6, len_max);
            (fits, out.split_off(10))
        };
        let list = hex("00000002 00000003 6f6e65 00000003 74776f");
        assert_eq!(put(28), (Ok(()), list));
        assert_eq!(put(27), (Err(ReplyTooLong), Vec::new()));
    }
}
