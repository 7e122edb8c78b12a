//! The packets of the quorum port (docs/peer-protocol.md §2.1), one after the other without a frame around them:
//!
//! ```text
//! packet   = type i32 ‖ zxid i64 ‖ data buf ‖ authinfo vec<Id>      20 bytes at least
//! Id       = scheme str ‖ id str
//! ```

use crate::txn::jute::{Put, text};
use crate::txn::{AuthId, Credentials};
use crate::types::Zxid;
use std::fmt;
use std::sync::Arc;

/// The smallest packet, bytes: neither data nor identities.
pub const PACKET_MIN: usize = 20;
/// The smallest identity, bytes: two nulls.
const ID_MIN: usize = 8;

/// What a packet is. Numbers that are not listed are kept: who is past its handshake ignores them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketType(pub i32);

macro_rules! packet_types {
    ($($name:ident = $number:literal;)*) => {
        #[allow(missing_docs)]
        impl PacketType {
            $(pub const $name: PacketType = PacketType($number);)*

            /// Apache's name, or `None`.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

packet_types! {
    REQUEST = 1;
    PROPOSAL = 2;
    ACK = 3;
    COMMIT = 4;
    PING = 5;
    REVALIDATE = 6;
    SYNC = 7;
    INFORM = 8;
    COMMITANDACTIVATE = 9;
    NEWLEADER = 10;
    FOLLOWERINFO = 11;
    UPTODATE = 12;
    DIFF = 13;
    TRUNC = 14;
    SNAP = 15;
    OBSERVERINFO = 16;
    LEADERINFO = 17;
    ACKEPOCH = 18;
    INFORMANDACTIVATE = 19;
}

impl fmt::Debug for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "PacketType({})", self.0),
        }
    }
}

/// One packet, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: PacketType,
    /// Its meaning depends on `kind`.
    pub zxid: Zxid,
    /// `None` is null, which differs from empty.
    pub data: Option<&'a [u8]>,
    /// `None` but in a REQUEST.
    pub ids: Option<Ids<'a>>,
}

/// The identities of the client that a request comes from, as they are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ids<'a> {
    count: usize,
    /// Whole and within the bound: [`split`] has looked.
    bytes: &'a [u8],
}

impl<'a> Ids<'a> {
    /// Of a client, written into `bytes`, which are empty.
    pub fn of(who: &[AuthId], bytes: &'a mut Vec<u8>) -> Ids<'a> {
        for id in who {
            bytes.put_str(&id.scheme);
            bytes.put_str(&id.id);
        }
        Ids {
            count: who.len(),
            bytes,
        }
    }

    /// Those that have both strings, as a connection's identities are kept.
    pub fn credentials(self) -> Credentials {
        let text = |bytes: &[u8]| Arc::from(&*text(bytes));
        let ids = self.iter().filter_map(|(scheme, id)| {
            Some(AuthId {
                scheme: text(scheme?),
                id: text(id?),
            })
        });
        let mut ids: Vec<AuthId> = ids.collect();
        ids.sort();
        ids.dedup();
        ids.into()
    }

    /// Scheme and id of each.
    pub fn iter(self) -> impl Iterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>)> {
        let mut cursor = Cursor::new(self.bytes);
        (0..self.count).map_while(move |_| {
            let scheme = cursor.buf(usize::MAX).ok()?;
            Some((scheme, cursor.buf(usize::MAX).ok()?))
        })
    }

    /// How many.
    pub fn len(self) -> usize {
        self.count
    }

    /// None at all, which is not null.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }
}

/// What stands at the beginning of a connection's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// It is not whole before there are so many bytes; it may need more still.
    Partial {
        /// Bytes of input, those that are there included.
        at_least: usize,
    },
    /// One packet, and how many bytes of input it took.
    Whole(Packet<'a>, usize),
}

/// Why the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A length or count below −1.
    #[error("a length of {0}")]
    Length(i32),
    /// Data, or all identities together, beyond the bound.
    #[error("{0} bytes are more than a packet may hold")]
    TooLong(usize),
}

/// Splits the first packet off. `max` bounds the data, and all identities together: `jute.maxbuffer` and its extra
/// size (docs/peer-protocol.md §0.1). A packet is refused before the bytes are there that would pass it, so that no
/// more than 20 + 2 · `max` bytes are ever gathered for one.
pub fn split(input: &[u8], max: usize) -> Result<Split<'_>, PacketError> {
    let mut cursor = Cursor::new(input);
    match packet(&mut cursor, max) {
        Ok(packet) => Ok(Split::Whole(packet, cursor.at)),
        Err(Stop::Short { at_least }) => Ok(Split::Partial {
            at_least: at_least.max(PACKET_MIN),
        }),
        Err(Stop::Bad(error)) => Err(error),
    }
}

fn packet<'a>(cursor: &mut Cursor<'a>, max: usize) -> Result<Packet<'a>, Stop> {
    let kind = PacketType(cursor.i32()?);
    let zxid = Zxid(i64::from_be_bytes(cursor.array()?));
    let data = cursor.buf(max)?;
    let ids = match cursor.len()? {
        None => None,
        Some(count) => Some(ids(cursor, count, max)?),
    };
    Ok(Packet {
        kind,
        zxid,
        data,
        ids,
    })
}

fn ids<'a>(cursor: &mut Cursor<'a>, count: usize, max: usize) -> Result<Ids<'a>, Stop> {
    if count > max / ID_MIN {
        return Err(Stop::Bad(PacketError::TooLong(count * ID_MIN)));
    }
    let start = cursor.at;
    cursor.expect(count * ID_MIN)?;
    for strings_left in (1..=2 * count).rev() {
        // Each string that is left takes its length at least.
        let used = cursor.at - start + 4 * strings_left;
        cursor.buf(max.saturating_sub(used))?;
    }
    Ok(Ids {
        count,
        bytes: &cursor.input[start..cursor.at],
    })
}

/// Why reading stops.
enum Stop {
    Short { at_least: usize },
    Bad(PacketError),
}

struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(input: &'a [u8]) -> Cursor<'a> {
        Cursor { input, at: 0 }
    }

    /// So many more bytes must be there.
    fn expect(&self, bytes: usize) -> Result<(), Stop> {
        let at_least = self.at + bytes;
        if at_least > self.input.len() {
            return Err(Stop::Short { at_least });
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.expect(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.input[self.at..self.at + N]);
        self.at += N;
        Ok(bytes)
    }

    fn i32(&mut self) -> Result<i32, Stop> {
        self.array().map(i32::from_be_bytes)
    }

    /// `None` is null.
    fn len(&mut self) -> Result<Option<usize>, Stop> {
        match self.i32()? {
            -1 => Ok(None),
            len => usize::try_from(len)
                .map(Some)
                .map_err(|_| Stop::Bad(PacketError::Length(len))),
        }
    }

    fn buf(&mut self, max: usize) -> Result<Option<&'a [u8]>, Stop> {
        let Some(len) = self.len()? else {
            return Ok(None);
        };
        if len > max {
            return Err(Stop::Bad(PacketError::TooLong(len)));
        }
        self.expect(len)?;
        let bytes = &self.input[self.at..self.at + len];
        self.at += len;
        Ok(Some(bytes))
    }
}

impl Packet<'_> {
    /// Appends the bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        head(out, self.kind, self.zxid);
        out.put_buf(self.data);
        match self.ids {
            None => out.put_i32(-1),
            Some(ids) => {
                out.put_len(ids.count);
                out.extend_from_slice(ids.bytes);
            }
        }
    }
}

/// Appends a packet whose data `body` writes, without identities.
pub(super) fn put_with(
    out: &mut Vec<u8>,
    kind: PacketType,
    zxid: Zxid,
    body: impl FnOnce(&mut Vec<u8>),
) {
    head(out, kind, zxid);
    out.put_sized(body);
    out.put_i32(-1);
}

/// Appends a packet without data and identities.
pub(super) fn put_bare(out: &mut Vec<u8>, kind: PacketType, zxid: Zxid) {
    head(out, kind, zxid);
    out.put_i32(-1);
    out.put_i32(-1);
}

/// Appends type and zxid.
pub(super) fn head(out: &mut Vec<u8>, kind: PacketType, zxid: Zxid) {
    out.put_i32(kind.0);
    out.put_i64(zxid.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::hex;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    const MAX: usize = 64;

    fn partial(at_least: usize) -> Result<Split<'static>, PacketError> {
        Ok(Split::Partial { at_least })
    }

    #[test]
    fn lengths_are_judged_before_their_bytes_are_there() {
        let head = "00000002 0000000100000004";
        for (rest, due) in [
            ("", partial(20)),
            ("ffffffff", partial(20)),
            ("00000040", partial(80)),
            ("00000041", Err(PacketError::TooLong(65))),
            ("7fffffff", Err(PacketError::TooLong(i32::MAX as usize))),
            ("fffffffe", Err(PacketError::Length(-2))),
            ("00000001 07", partial(21)),
            // Identities: the least that so many take is asked for at once.
            ("ffffffff 00000008", partial(84)),
            ("ffffffff 00000009", Err(PacketError::TooLong(72))),
            (
                "ffffffff 7fffffff",
                Err(PacketError::TooLong(8 * i32::MAX as usize)),
            ),
            ("ffffffff fffffffe", Err(PacketError::Length(-2))),
            // One of two strings too long for both together.
            ("ffffffff 00000001 00000038 00000000", partial(80)),
            (
                "ffffffff 00000001 0000003d 00000000",
                Err(PacketError::TooLong(61)),
            ),
        ] {
            assert_eq!(split(&hex(&format!("{head}{rest}")), MAX), due, "{rest}");
        }
    }

    #[test]
    fn identities_are_bounded_together() {
        let mut bytes = hex("00000001 ffffffffffffffff ffffffff 00000002");
        for len in [12, 12, 12, 12] {
            bytes.put_buf(Some(&vec![b'a'; len]));
        }
        assert!(
            matches!(split(&bytes, MAX), Ok(Split::Whole(packet, _)) if packet.ids.unwrap().len() == 2)
        );
        assert_eq!(split(&bytes, MAX - 1), Err(PacketError::TooLong(12)));
    }

    #[test]
    fn a_packet_is_whole_with_its_last_byte_and_not_before() {
        let whole = hex(
            "00000001 ffffffffffffffff 00000002 0708 00000002 00000002 6970 ffffffff ffffffff 00000000",
        );
        for len in 0..whole.len() {
            match split(&whole[..len], MAX) {
                Ok(Split::Partial { at_least }) => {
                    assert!(len < at_least && at_least <= whole.len())
                }
                other => panic!("{len}: {other:?}"),
            }
        }
        let Ok(Split::Whole(packet, used)) = split(&whole, MAX) else {
            panic!("whole");
        };
        assert_eq!(used, whole.len());
        assert_eq!(packet.kind, PacketType::REQUEST);
        let ids: Vec<_> = packet.ids.unwrap().iter().collect();
        assert_eq!(ids, [(Some(&b"ip"[..]), None), (None, Some(&b""[..]))]);
        let mut out = Vec::new();
        packet.encode_into(&mut out);
        assert_eq!(out, whole);
    }

    #[test]
    fn types_have_apaches_numbers_and_names() {
        assert_eq!(format!("{:?}", PacketType(10)), "NEWLEADER");
        assert_eq!(format!("{:?}", PacketType(20)), "PacketType(20)");
        let named = (0..30).filter(|number| PacketType(*number).name().is_some());
        assert!(named.eq(1..=19));
    }

    proptest! {
        // Also cut anywhere, as a socket may give it.
        #[test]
        fn what_is_sent_is_read(
            kind in any::<i32>(),
            zxid in any::<i64>(),
            data in option::of(any::<Vec<u8>>()),
            ids in option::of(vec((option::of("[a-z]{0,9}"), option::of("[a-z]{0,9}")), 0..4)),
            behind in any::<Vec<u8>>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut sent = Vec::new();
            head(&mut sent, PacketType(kind), Zxid(zxid));
            sent.put_buf(data.as_deref());
            match &ids {
                None => sent.put_i32(-1),
                Some(ids) => {
                    sent.put_len(ids.len());
                    for text in ids.iter().flat_map(|(scheme, id)| [scheme, id]) {
                        sent.put_buf(text.as_deref().map(str::as_bytes));
                    }
                }
            }
            let len = sent.len();
            let cut = &sent[..cut.index(len)];
            let is_partial = matches!(split(cut, 1 << 20), Ok(Split::Partial { at_least }) if at_least <= len);
            prop_assert!(is_partial);
            let mut input = sent.clone();
            input.extend(behind);
            let Ok(Split::Whole(packet, used)) = split(&input, 1 << 20) else { panic!("whole") };
            prop_assert_eq!(used, len);
            prop_assert_eq!((packet.kind.0, packet.zxid.0, packet.data), (kind, zxid, data.as_deref()));
            prop_assert_eq!(packet.ids.map(|read| read.iter().count()), ids.map(|ids| ids.len()));
            let mut again = Vec::new();
            packet.encode_into(&mut again);
            prop_assert_eq!(again, sent);
        }

        #[test]
        fn no_bytes_panic_and_none_ask_for_more_than_the_bound(bytes in any_input(), max in 0..200usize) {
            match split(&bytes, max) {
                Ok(Split::Partial { at_least }) => {
                    prop_assert!(bytes.len() < at_least && at_least <= PACKET_MIN + 2 * max, "{at_least}");
                }
                Ok(Split::Whole(packet, used)) => {
                    prop_assert!(used <= bytes.len() && used <= PACKET_MIN + 2 * max);
                    if let Some(ids) = packet.ids {
                        prop_assert_eq!(ids.iter().count(), ids.len());
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// Small numbers in the places of lengths are what gets far.
    fn any_input() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![3 => 0..20i32, 1 => Just(-1), 1 => any::<i32>()];
        let numbers = vec(number, 0..20);
        numbers.prop_map(|numbers| numbers.iter().flat_map(|n| n.to_be_bytes()).collect())
    }
}
