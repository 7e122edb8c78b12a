//! The lists of a setWatches (docs/protocol.md §4.6): kept as the bytes that came, so that a path costs
//! something only when its turn comes.

use crate::txn::jute::{JuteError, Reader};
use std::borrow::Cow;

/// Which of the three lists a path is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchList {
    /// Data watches on nodes that were there.
    Data,
    /// Data watches on nodes that were not there.
    Exist,
    /// Child watches.
    Child,
}

const LISTS: [WatchList; 3] = [WatchList::Data, WatchList::Exist, WatchList::Child];

/// Three lists of paths whose lengths have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchLists {
    /// Each list: the number of its paths, then the paths.
    bytes: Box<[u8]>,
    paths: usize,
}

/// How far the lists have been worked off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCursor {
    /// Lists that have been begun.
    begun: usize,
    /// Paths of the current list to come.
    left: usize,
    /// Offset of what comes, bytes.
    at: usize,
}

impl WatchLists {
    /// Takes three lists off a record. Only lengths are looked at, and nothing is allocated for a path.
    ///
    /// # Errors
    /// A list or a path is null, or its length does not fit.
    pub fn read(r: &mut Reader<'_>) -> Result<WatchLists, JuteError> {
        let all = r.rest();
        let mut paths = 0;
        for _ in LISTS {
            let n = length(r)?;
            for _ in 0..n {
                r.buf()?.ok_or(JuteError::Null)?;
            }
            paths += n;
        }
        let len = all.len() - r.rest().len();
        Ok(WatchLists {
            bytes: all[..len].into(),
            paths,
        })
    }

    /// Paths in all three lists.
    pub fn paths(&self) -> usize {
        self.paths
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The path behind `cursor`, which moves behind it; malformed UTF-8 becomes U+FFFD. `None` at the
    /// end.
    pub fn next(&self, cursor: &mut WatchCursor) -> Option<(WatchList, Cow<'_, str>)> {
        const CHECKED: &str = "the lengths have been checked";
        let mut r = Reader::new(&self.bytes[cursor.at..]);
        while cursor.left == 0 {
            if cursor.begun == LISTS.len() {
                return None;
            }
            cursor.left = length(&mut r).expect(CHECKED);
            cursor.begun += 1;
        }
        let path = r.buf().ok().flatten().expect(CHECKED);
        cursor.left -= 1;
        cursor.at = self.bytes.len() - r.rest().len();
        Some((LISTS[cursor.begun - 1], String::from_utf8_lossy(path)))
    }
}

/// The number of elements of a list that may not be null.
fn length(r: &mut Reader<'_>) -> Result<usize, JuteError> {
    match r.i32()? {
        -1 => Err(JuteError::Null),
        n => usize::try_from(n).map_err(|_| JuteError::Length(n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::jute::Put;

    fn lists(of: [&[&str]; 3]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for list in of {
            bytes.put_len(list.len());
            list.iter().for_each(|path| bytes.put_str(path));
        }
        bytes
    }

    #[test]
    fn paths_come_in_the_order_of_the_lists_and_what_follows_is_left() {
        for of in [
            [&["/a", ""][..], &[], &["/b", "/a"]],
            [&[], &["/e"], &[]],
            [&[], &[], &[]],
        ] {
            let mut bytes = lists(of);
            bytes.push(7);
            let mut r = Reader::new(&bytes);
            let lists = WatchLists::read(&mut r).unwrap();
            assert_eq!(r.rest(), [7]);
            assert_eq!(lists.bytes(), bytes.len() - 1);
            let mut cursor = WatchCursor::default();
            let mut got = Vec::new();
            while let Some((list, path)) = lists.next(&mut cursor) {
                got.push((list, path.into_owned()));
            }
            let due: Vec<(WatchList, String)> = LISTS
                .into_iter()
                .zip(of)
                .flat_map(|(list, paths)| paths.iter().map(move |path| (list, (*path).to_owned())))
                .collect();
            assert_eq!(got, due);
            assert_eq!(lists.paths(), due.len());
            assert_eq!(lists.next(&mut cursor), None, "the end stays the end");
        }
    }

    #[test]
    fn what_is_null_cut_or_too_long_is_refused_as_a_whole() {
        let whole = lists([&["/a"], &["/b"], &["/c"]]);
        for len in 0..whole.len() {
            assert!(
                WatchLists::read(&mut Reader::new(&whole[..len])).is_err(),
                "{len}"
            );
        }
        let read = |at: usize, n: i32| {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&n.to_be_bytes());
            WatchLists::read(&mut Reader::new(&bytes)).map(|lists| lists.paths())
        };
        assert_eq!(read(0, 1), Ok(3));
        assert_eq!(read(0, -1), Err(JuteError::Null), "a list");
        assert_eq!(read(4, -1), Err(JuteError::Null), "a path");
        assert_eq!(read(0, -2), Err(JuteError::Length(-2)));
        assert_eq!(read(4, i32::MAX), Err(JuteError::Length(i32::MAX)));
        assert!(read(0, i32::MAX).is_err());
    }
}
