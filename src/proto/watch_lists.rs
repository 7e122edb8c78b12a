//! The lists of a setWatches or setWatches2 (docs/protocol.md §4.6): kept as the bytes that came, so that a
//! path costs something only when its turn comes.

use crate::txn::jute::{JuteError, Reader, text};
use std::borrow::Cow;

/// Which of the lists a path is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchList {
    /// Data watches on nodes that were there.
    Data,
    /// Data watches on nodes that were not there.
    Exist,
    /// Child watches.
    Child,
    /// Persistent watches.
    Persistent,
    /// Recursive watches.
    Recursive,
}

impl WatchList {
    /// Of a persistent or recursive watch any string is the path, and so is null: no node is looked up.
    fn takes_null(self) -> bool {
        matches!(self, WatchList::Persistent | WatchList::Recursive)
    }
}

const LISTS: [WatchList; WatchLists::SET_WATCHES2] = [
    WatchList::Data,
    WatchList::Exist,
    WatchList::Child,
    WatchList::Persistent,
    WatchList::Recursive,
];

/// Lists of paths whose lengths have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchLists {
    /// Each list: the number of its paths, then the paths.
    bytes: Box<[u8]>,
    lists: usize,
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
    /// The lists of a setWatches: data, exist, child.
    pub const SET_WATCHES: usize = 3;
    /// The lists of a setWatches2: those, persistent, recursive.
    pub const SET_WATCHES2: usize = 5;

    /// Takes so many lists off a record. Only lengths are looked at, and nothing is allocated for a path.
    ///
    /// # Errors
    /// A list is null, or a path of one that looks nodes up, or a length does not fit.
    pub fn read(r: &mut Reader<'_>, lists: usize) -> Result<WatchLists, JuteError> {
        let all = r.rest();
        let mut paths = 0;
        for list in &LISTS[..lists] {
            let n = length(r)?;
            for _ in 0..n {
                if r.buf()?.is_none() && !list.takes_null() {
                    return Err(JuteError::Null);
                }
            }
            paths += n;
        }
        let len = all.len() - r.rest().len();
        Ok(WatchLists {
            bytes: all[..len].into(),
            lists,
            paths,
        })
    }

    /// Paths in all lists.
    pub fn paths(&self) -> usize {
        self.paths
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The path behind `cursor`, which moves behind it; malformed UTF-8 becomes U+FFFD, and null is no
    /// path. `None` at the end.
    pub fn next(&self, cursor: &mut WatchCursor) -> Option<(WatchList, Option<Cow<'_, str>>)> {
        const CHECKED: &str = "the lengths have been checked";
        let mut r = Reader::new(&self.bytes[cursor.at..]);
        while cursor.left == 0 {
            if cursor.begun == self.lists {
                return None;
            }
            cursor.left = length(&mut r).expect(CHECKED);
            cursor.begun += 1;
        }
        let path = r.buf().expect(CHECKED);
        cursor.left -= 1;
        cursor.at = self.bytes.len() - r.rest().len();
        let path = path.map(text);
        Some((LISTS[cursor.begun - 1], path))
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

    fn lists(of: &[&[&str]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for list in of {
            bytes.put_len(list.len());
            list.iter().for_each(|path| bytes.put_str(path));
        }
        bytes
    }

    #[test]
    fn paths_come_in_the_order_of_the_lists_and_what_follows_is_left() {
        let of: [&[&[&str]]; 5] = [
            &[&["/a", ""], &[], &["/b", "/a"]],
            &[&[], &["/e"], &[]],
            &[&[], &[], &[]],
            &[&["/a"], &[], &[], &["/p", "/a"], &["/r"]],
            &[&[], &[], &[], &[], &["/r", ""]],
        ];
        for of in of {
            let mut bytes = lists(of);
            bytes.push(7);
            let mut r = Reader::new(&bytes);
            let lists = WatchLists::read(&mut r, of.len()).unwrap();
            assert_eq!(r.rest(), [7]);
            assert_eq!(lists.bytes(), bytes.len() - 1);
            let mut cursor = WatchCursor::default();
            let mut got = Vec::new();
            while let Some((list, path)) = lists.next(&mut cursor) {
                got.push((list, path.unwrap().into_owned()));
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
        let whole = lists(&[&["/a"], &["/b"], &["/c"], &["/p"], &["/r"]]);
        // A list takes ten bytes here.
        for (lists, end) in [(3, 30), (5, 50)] {
            for len in 0..end {
                let cut = WatchLists::read(&mut Reader::new(&whole[..len]), lists);
                assert!(cut.is_err(), "{lists} {len}");
            }
            let read = |at: usize, n: i32| {
                let mut bytes = whole.clone();
                bytes[at..at + 4].copy_from_slice(&n.to_be_bytes());
                WatchLists::read(&mut Reader::new(&bytes), lists).map(|lists| lists.paths())
            };
            assert_eq!(read(0, 1), Ok(lists));
            for list in (0..end).step_by(10) {
                assert_eq!(read(list, -1), Err(JuteError::Null), "a list");
                assert_eq!(read(list, -2), Err(JuteError::Length(-2)));
                assert_eq!(read(list + 4, i32::MAX), Err(JuteError::Length(i32::MAX)));
                assert!(read(list, i32::MAX).is_err());
            }
            for path in [4, 14, 24] {
                assert_eq!(read(path, -1), Err(JuteError::Null), "a path");
            }
        }
    }

    #[test]
    fn null_is_a_path_of_a_watch_that_looks_no_node_up() {
        let mut bytes = lists(&[&[], &[], &[]]);
        for _ in 0..2 {
            bytes.put_len(2);
            bytes.put_buf(None);
            bytes.put_str("/a");
        }
        let lists = WatchLists::read(&mut Reader::new(&bytes), 5).unwrap();
        let mut cursor = WatchCursor::default();
        let mut next = || lists.next(&mut cursor).unwrap();
        for list in [WatchList::Persistent, WatchList::Recursive] {
            assert_eq!(next(), (list, None));
            assert_eq!(next(), (list, Some("/a".into())));
        }
    }
}
