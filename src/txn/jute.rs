//! Jute encoding (docs/protocol.md §1.2): big-endian integers, length-prefixed buffers and strings, −1 for
//! null. Lengths are checked against what is there before anything is allocated.

use super::{Acl, Data, RawAcl};
use std::borrow::Cow;
use std::sync::Arc;

/// Why bytes can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JuteError {
    /// The bytes end inside a field.
    #[error("the record ends inside a field")]
    Short,
    /// A length below −1 or beyond the end.
    #[error("a length of {0} does not fit")]
    Length(i32),
    /// Null where a value is required.
    #[error("null where a value is required")]
    Null,
}

/// Bytes as the text that Java's decoder makes of them: each malformed part is one U+FFFD. The parts are those of the
/// standard library, but for the bytes of a surrogate: two or three of them are one part to Java.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => marked(bytes).into(),
    }
}

fn marked(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    // Bytes of what may be a surrogate that have the mark of the first one.
    let mut begun = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.valid().is_empty() {
            begun = 0;
        }
        begun = match (begun, chunk.invalid()) {
            (_, []) => 0,
            (1, [0xa0..=0xbf]) => 2,
            (2, [0x80..=0xbf]) => 0,
            (_, malformed) => {
                text.push(char::REPLACEMENT_CHARACTER);
                usize::from(malformed == [0xed])
            }
        };
    }
    text
}

/// A cursor over one record.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], JuteError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(JuteError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// `i32`.
    pub fn i32(&mut self) -> Result<i32, JuteError> {
        self.take().map(i32::from_be_bytes)
    }

    /// `i64`.
    pub fn i64(&mut self) -> Result<i64, JuteError> {
        self.take().map(i64::from_be_bytes)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, JuteError> {
        self.take::<1>().map(|[b]| b)
    }

    /// `bool`: anything but 0 is true.
    pub fn bool(&mut self) -> Result<bool, JuteError> {
        self.u8().map(|b| b != 0)
    }

    /// `buf`, borrowed; `None` is null.
    pub fn buf(&mut self) -> Result<Option<&'a [u8]>, JuteError> {
        let len = self.i32()?;
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| JuteError::Length(len))?;
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(JuteError::Length(len as i32))?;
        self.rest = rest;
        Ok(Some(head))
    }

    /// `buf` as a counted payload.
    pub fn data(&mut self) -> Result<Data, JuteError> {
        Ok(self.buf()?.map(Arc::from))
    }

    /// `str`; malformed UTF-8 becomes U+FFFD, which path validation refuses.
    pub fn str(&mut self) -> Result<Option<Arc<str>>, JuteError> {
        Ok(self.buf()?.map(|bytes| match text(bytes) {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }))
    }

    /// A string that may not be null.
    pub fn required_str(&mut self) -> Result<Arc<str>, JuteError> {
        self.str()?.ok_or(JuteError::Null)
    }

    /// `vec<T>`; `None` is null. Nothing is allocated ahead of the elements.
    pub fn vec<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, JuteError>,
    ) -> Result<Option<Vec<T>>, JuteError> {
        match self.i32()? {
            -1 => Ok(None),
            n if n < 0 => Err(JuteError::Length(n)),
            n => {
                let mut items = Vec::new();
                for _ in 0..n {
                    items.push(element(self)?);
                }
                Ok(Some(items))
            }
        }
    }

    /// An ACL entry as a client sends it.
    pub fn raw_acl(&mut self) -> Result<RawAcl, JuteError> {
        Ok(RawAcl {
            perms: self.i32()?,
            scheme: self.str()?,
            id: self.str()?,
        })
    }

    /// An ACL entry of a transaction, where nothing is null.
    pub fn acl(&mut self) -> Result<Acl, JuteError> {
        Ok(Acl {
            perms: self.i32()?,
            scheme: self.required_str()?,
            id: self.required_str()?,
        })
    }
}

/// Bytes that [`Put::put_str`] appends.
pub fn str_len(v: &str) -> usize {
    4 + v.len()
}

/// Bytes that [`Put::put_buf`] appends.
pub fn buf_len(v: Option<&[u8]>) -> usize {
    4 + v.map_or(0, <[u8]>::len)
}

/// Bytes that [`Put::put_acls`] appends.
pub fn acls_len(acl: &[Acl]) -> usize {
    let entry = |acl: &Acl| 4 + str_len(&acl.scheme) + str_len(&acl.id);
    4 + acl.iter().map(entry).sum::<usize>()
}

/// The writing side, on any byte vector.
pub trait Put {
    /// `i32`.
    fn put_i32(&mut self, v: i32);
    /// `i64`.
    fn put_i64(&mut self, v: i64);
    /// `bool`.
    fn put_bool(&mut self, v: bool);
    /// `buf`; `None` is null.
    fn put_buf(&mut self, v: Option<&[u8]>);
    /// `str`, never null.
    fn put_str(&mut self, v: &str);
    /// `buf` of what `body` appends.
    fn put_sized(&mut self, body: impl FnOnce(&mut Self));
    /// Length of a vector.
    fn put_len(&mut self, n: usize);
    /// `vec<ACL>`.
    fn put_acls(&mut self, acl: &[Acl]);
}

fn jute_len(n: usize) -> i32 {
    i32::try_from(n).expect("lengths are bounded by the frame")
}

impl Put for Vec<u8> {
    fn put_i32(&mut self, v: i32) {
        self.extend_from_slice(&v.to_be_bytes());
    }

    fn put_i64(&mut self, v: i64) {
        self.extend_from_slice(&v.to_be_bytes());
    }

    fn put_bool(&mut self, v: bool) {
        self.push(u8::from(v));
    }

    fn put_buf(&mut self, v: Option<&[u8]>) {
        match v {
            None => self.put_i32(-1),
            Some(bytes) => {
                self.put_len(bytes.len());
                self.extend_from_slice(bytes);
            }
        }
    }

    fn put_str(&mut self, v: &str) {
        self.put_buf(Some(v.as_bytes()));
    }

    fn put_sized(&mut self, body: impl FnOnce(&mut Self)) {
        let at = self.len();
        self.put_i32(0);
        body(self);
        let len = jute_len(self.len() - at - 4);
        self[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }

    fn put_len(&mut self, n: usize) {
        self.put_i32(jute_len(n));
    }

    fn put_acls(&mut self, acl: &[Acl]) {
        self.put_len(acl.len());
        for entry in acl {
            self.put_i32(entry.perms);
            self.put_str(&entry.scheme);
            self.put_str(&entry.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_is_never_believed() {
        let huge = [0x7f, 0xff, 0xff, 0xff, 1, 2];
        assert_eq!(Reader::new(&huge).buf(), Err(JuteError::Length(i32::MAX)));
        assert_eq!(Reader::new(&huge).vec(|r| r.i64()), Err(JuteError::Short));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xfe]).buf(),
            Err(JuteError::Length(-2))
        );
        assert_eq!(Reader::new(&[0xff; 4]).buf(), Ok(None));
    }

    /// What the decoder of Java 17 makes of them.
    #[test]
    fn of_malformed_utf_8_each_part_is_marked_once() {
        let table: [(&[u8], &str); 16] = [
            (b"/a", "/a"),
            (b"\xc3\xa9\xf0\x9f\x98\x80", "\u{e9}\u{1f600}"),
            (b"a\xffb", "a\u{fffd}b"),
            (b"\xc0\x80", "\u{fffd}\u{fffd}"),
            (b"\xe2\x82b", "\u{fffd}b"),
            (b"\xf1\x80\x80b", "\u{fffd}b"),
            (b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            // A surrogate, two of them, and parts of one.
            (b"a\xed\xa0\x80b", "a\u{fffd}b"),
            (b"\xed\xa0\xbd\xed\xb8\x80", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0b", "\u{fffd}b"),
            (b"\xed\xa0", "\u{fffd}"),
            (b"\xed", "\u{fffd}"),
            (b"\xed\xa0\x80\x80", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0\xed\xbf\xbf", "\u{fffd}\u{fffd}"),
            (b"\xed\xedb\xa0", "\u{fffd}\u{fffd}b\u{fffd}"),
            // What comes before the surrogates.
            (b"\xed\x9f\xbf", "\u{d7ff}"),
        ];
        for (bytes, due) in table {
            assert_eq!(text(bytes), due, "{bytes:x?}");
            let mut encoded = Vec::new();
            encoded.put_buf(Some(bytes));
            assert_eq!(&*Reader::new(&encoded).required_str().unwrap(), due);
        }
    }

    proptest! {
        #[test]
        fn only_surrogates_are_marked_otherwise_than_by_the_standard_library(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let surrogate = |pair: &[u8]| pair[0] == 0xed && pair[1] >= 0xa0;
            if !bytes.windows(2).any(surrogate) {
                prop_assert_eq!(text(&bytes), String::from_utf8_lossy(&bytes));
            }
        }

        #[test]
        fn what_is_written_is_read(a in any::<i32>(), b in any::<i64>(), s in ".*", d in proptest::option::of(any::<Vec<u8>>())) {
            let mut bytes = Vec::new();
            bytes.put_i32(a);
            bytes.put_i64(b);
            bytes.put_str(&s);
            bytes.put_buf(d.as_deref());
            bytes.put_bool(true);
            let before = bytes.len();
            bytes.put_sized(|bytes| bytes.put_str(&s));
            prop_assert_eq!(bytes.len() - before, 4 + str_len(&s));
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.i32(), Ok(a));
            prop_assert_eq!(r.i64(), Ok(b));
            prop_assert_eq!(&*r.required_str().unwrap(), s.as_str());
            prop_assert_eq!(r.buf().unwrap(), d.as_deref());
            prop_assert_eq!(r.bool(), Ok(true));
            let inner = r.buf().unwrap().unwrap();
            prop_assert_eq!(&*Reader::new(inner).required_str().unwrap(), s.as_str());
            prop_assert!(r.rest().is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let mut r = Reader::new(&bytes);
            while r.vec(|r| r.acl()).is_ok() && !r.rest().is_empty() {}
            let _ = r.data();
        }
    }
}
