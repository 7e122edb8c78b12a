//! Where a snapshot ends that a leader sends behind its SNAP packet (docs/peer-protocol.md §2.8): the bytes have no
//! frame around them, so their lengths are followed to the end. What they mean is looked at by who keeps them.
//!
//! ```text
//! n i32 ‖ n × ( session i64 ‖ timeout i32 )
//! m i32 ‖ m × ( aclId i64 ‖ k i32 ‖ k × ( perms i32 ‖ scheme str ‖ id str ) )
//! ( path str ‖ data buf ‖ aclId i64 ‖ 60 bytes )*           "" first; no other path has one character
//! "/" str ‖ "BenWasHere" str
//! ```
//!
//! Between servers of ours it is the body of the snapshot's file, as it is stored, behind a head that no other form
//! begins with:
//!
//! ```text
//! NATIVE i32, below 0 ‖ length of the body u64 ‖ body
//! ```

/// The last string.
const SIGNATURE: &[u8] = b"BenWasHere";
/// What the native form begins with.
const NATIVE: i32 = 0xd24b_534e_u32 as i32;
/// Bytes before the body in the native form.
pub const NATIVE_HEAD: usize = 12;
/// Bytes of a session with its timeout.
const SESSION: u64 = 12;
/// Bytes of a node behind its data: the number of its ACL, and what is kept of its Stat.
const NODE: u64 = 8 + 60;

/// What a snapshot in the native form begins with.
pub fn native_head(body_bytes: u64) -> [u8; NATIVE_HEAD] {
    let mut head = [0; NATIVE_HEAD];
    head[..4].copy_from_slice(&NATIVE.to_be_bytes());
    head[4..].copy_from_slice(&body_bytes.to_be_bytes());
    head
}

/// Why the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A length or count below −1, or below 0 where there is no null.
    #[error("a length of {0} in a snapshot")]
    Length(i32),
    /// A string or data beyond the bound of a packet's.
    #[error("a snapshot with {0} bytes in one field")]
    TooLong(u32),
    /// A snapshot of nothing.
    #[error("a snapshot without a body")]
    Empty,
    /// The end is no end.
    #[error("a snapshot without its signature")]
    Signature,
}

/// What the next number, or the next byte, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Sessions,
    /// Of the native form's body; then, with the first half of it.
    Length,
    LengthLow(u32),
    /// It ends with what is skipped.
    Body,
    Lists,
    /// So many lists are left, this one included.
    List(u32),
    /// Of the list, so many entries are left; then so many lists.
    Scheme(u32, u32),
    Id(u32, u32),
    Path,
    Data,
    /// The one character of a path.
    Slash,
    SignatureLength,
    /// So many bytes of it have come.
    Signature(usize),
}

/// Follows a snapshot to its end.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    field: Field,
    /// Before the field.
    skip: u64,
    /// Of a number, as far as it has come.
    number: u32,
    digits: u8,
    /// Bytes in one field.
    max: usize,
}

impl Scan {
    pub fn new(max: usize) -> Scan {
        Scan {
            field: Field::Sessions,
            skip: 0,
            number: 0,
            digits: 0,
            max,
        }
    }

    /// The next bytes. Where the snapshot ends in them, how many are its own.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Option<usize>, SnapshotError> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.skip > 0 {
                let left = (bytes.len() - at) as u64;
                let skipped = self.skip.min(left);
                self.skip -= skipped;
                at += skipped as usize;
                if self.skip == 0 && self.field == Field::Body {
                    return Ok(Some(at));
                }
                continue;
            }
            at += 1;
            match self.field {
                Field::Slash if *byte == b'/' => self.field = Field::SignatureLength,
                Field::Slash => return Err(SnapshotError::Signature),
                Field::Signature(n) if *byte == SIGNATURE[n] => {
                    if n + 1 == SIGNATURE.len() {
                        return Ok(Some(at));
                    }
                    self.field = Field::Signature(n + 1);
                }
                Field::Signature(_) => return Err(SnapshotError::Signature),
                _ => self.digit(*byte)?,
            }
        }
        Ok(None)
    }

    fn digit(&mut self, byte: u8) -> Result<(), SnapshotError> {
        self.number = self.number << 8 | u32::from(byte);
        self.digits += 1;
        if self.digits < 4 {
            return Ok(());
        }
        let number = self.number as i32;
        (self.number, self.digits) = (0, 0);
        self.number(number)
    }

    fn number(&mut self, number: i32) -> Result<(), SnapshotError> {
        match self.field {
            Field::Sessions if number == NATIVE => self.field = Field::Length,
            Field::Length => self.field = Field::LengthLow(number as u32),
            Field::LengthLow(high) => {
                self.skip = u64::from(high) << 32 | u64::from(number as u32);
                self.field = Field::Body;
                if self.skip == 0 {
                    return Err(SnapshotError::Empty);
                }
            }
            Field::Sessions => {
                self.skip = SESSION * u64::from(count(number)?);
                self.field = Field::Lists;
            }
            Field::Lists => self.lists(count(number)?),
            Field::List(lists) => self.entries(count(number.max(0))?, lists),
            Field::Scheme(entries, lists) => {
                self.skip = self.length(number)?;
                self.field = Field::Id(entries, lists);
            }
            Field::Id(entries, lists) => {
                let length = self.length(number)?;
                self.entries(entries - 1, lists);
                self.skip += length;
            }
            Field::Path if number == 1 => self.field = Field::Slash,
            Field::Path => {
                self.skip = self.length(number)?;
                self.field = Field::Data;
            }
            Field::Data => {
                self.skip = self.length(number)? + NODE;
                self.field = Field::Path;
            }
            Field::SignatureLength if number as usize == SIGNATURE.len() => {
                self.field = Field::Signature(0);
            }
            Field::SignatureLength => return Err(SnapshotError::Signature),
            // They are read byte by byte.
            Field::Slash | Field::Signature(_) => {}
            // It is skipped.
            Field::Body => {}
        }
        Ok(())
    }

    /// So many lists follow; each begins with its number.
    fn lists(&mut self, lists: u32) {
        (self.skip, self.field) = match lists {
            0 => (0, Field::Path),
            _ => (8, Field::List(lists)),
        };
    }

    /// So many entries of the list follow, each with its permissions first; then `lists` less one.
    fn entries(&mut self, entries: u32, lists: u32) {
        match entries {
            0 => self.lists(lists - 1),
            _ => (self.skip, self.field) = (4, Field::Scheme(entries, lists)),
        }
    }

    fn length(&self, number: i32) -> Result<u64, SnapshotError> {
        match number {
            -1 => Ok(0),
            _ => match count(number)? {
                length if length as usize <= self.max => Ok(u64::from(length)),
                length => Err(SnapshotError::TooLong(length)),
            },
        }
    }
}

fn count(number: i32) -> Result<u32, SnapshotError> {
    u32::try_from(number).map_err(|_| SnapshotError::Length(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::golden::hex;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Two sessions, two lists (one of two entries), the root and a node.
    fn whole() -> Vec<u8> {
        let stat = "00".repeat(60);
        hex(&format!(
            "00000002 0100000000000001 00002710 0100000000000002 00002710 \
             00000002 0000000000000001 00000002 0000001f 00000005 776f726c64 00000006 616e796f6e65 \
             00000001 00000002 6970 ffffffff 0000000000000002 00000000 \
             00000000 ffffffff ffffffffffffffff {stat} \
             00000002 2f61 00000001 78 0000000000000001 {stat} \
             00000001 2f 0000000a 42656e57617348657265"
        ))
    }

    #[test]
    fn it_ends_with_its_signature_however_it_is_cut() {
        let bytes = whole();
        for cut in 0..bytes.len() {
            let mut scan = Scan::new(64);
            assert_eq!(scan.follow(&bytes[..cut]), Ok(None), "{cut}");
            let mut rest = bytes[cut..].to_vec();
            rest.extend(b"a packet");
            assert_eq!(scan.follow(&rest), Ok(Some(bytes.len() - cut)), "{cut}");
        }
        // Nothing but the root, as Apache's server sends it.
        let stat = "00".repeat(60);
        let least = hex(&format!(
            "00000000 00000000 00000000 ffffffff ffffffffffffffff {stat} 00000001 2f 0000000a 42656e57617348657265"
        ));
        assert_eq!(Scan::new(64).follow(&least), Ok(Some(least.len())));
    }

    #[test]
    fn the_native_form_ends_with_its_body_however_it_is_cut() {
        let mut bytes = native_head(300).to_vec();
        bytes.extend([0xff; 300]);
        for cut in 0..bytes.len() {
            let mut scan = Scan::new(64);
            assert_eq!(scan.follow(&bytes[..cut]), Ok(None), "{cut}");
            let mut rest = bytes[cut..].to_vec();
            rest.extend(b"a packet");
            assert_eq!(scan.follow(&rest), Ok(Some(bytes.len() - cut)), "{cut}");
        }
        let empty = Scan::new(64).follow(&native_head(0));
        assert_eq!(empty, Err(SnapshotError::Empty));
    }

    #[test]
    fn what_is_no_snapshot_ends_the_connection() {
        let end = "00000000 00000000";
        for (bytes, due) in [
            ("fffffffe", SnapshotError::Length(-2)),
            ("00000000 ffffffff", SnapshotError::Length(-1)),
            (&format!("{end} 00000041"), SnapshotError::TooLong(65)),
            (&format!("{end} 00000001 61"), SnapshotError::Signature),
            (
                &format!("{end} 00000001 2f 0000000b"),
                SnapshotError::Signature,
            ),
            (
                &format!("{end} 00000001 2f 0000000a 4343"),
                SnapshotError::Signature,
            ),
        ] {
            assert_eq!(Scan::new(64).follow(&hex(bytes)), Err(due), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(numbers in vec(prop_oneof![-2..20i32, any::<i32>()], 0..40), cut in 1..9usize) {
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
            let mut scan = Scan::new(64);
            for piece in bytes.chunks(cut) {
                match scan.follow(piece) {
                    Ok(None) => {}
                    Ok(Some(n)) => { prop_assert!(n <= piece.len()); break }
                    Err(_) => break,
                }
            }
        }
    }
}
