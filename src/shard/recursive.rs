//! Recursive watches by path, for the changes below it (docs/protocol.md §4.1).
//!
//! A change of `/a/b/c` concerns the recursive watches on `/a/b`, `/a` and `/` too. The hash of each of
//! these paths is made from that of the path above it and one more name, so that all of them together cost
//! the length of the changed path, and a step each. Hashing each from its beginning would cost the square of
//! the length, and a path may be as long as a frame.

use crate::types::{ConnId, HashState};
use core::hash::{BuildHasher, Hasher};
use hashbrown::HashTable;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Who watches what is below which path. No watch takes more of it than [`Recursive::WEIGHT`].
#[derive(Debug, Default)]
pub(super) struct Recursive {
    paths: HashTable<Entry>,
    hash: HashState,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    path: Arc<str>,
    conns: BTreeSet<ConnId>,
}

impl Entry {
    fn is(&self, hash: u64, path: &str) -> bool {
        self.hash == hash && *self.path == *path
    }
}

impl Recursive {
    /// What one watch takes in memory, bytes, roughly: an entry and a node of its set. The path is shared.
    pub(super) const WEIGHT: usize = 250;

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    pub(super) fn add(&mut self, path: &Arc<str>, conn: ConnId) {
        let hash = self.hash_of(path);
        match self.paths.find_mut(hash, |entry| entry.is(hash, path)) {
            Some(entry) => {
                entry.conns.insert(conn);
            }
            None => {
                let entry = Entry {
                    hash,
                    path: Arc::clone(path),
                    conns: BTreeSet::from([conn]),
                };
                self.paths.insert_unique(hash, entry, |entry| entry.hash);
            }
        }
    }

    pub(super) fn remove(&mut self, path: &str, conn: ConnId) {
        let hash = self.hash_of(path);
        let found = self.paths.find_entry(hash, |entry| entry.is(hash, path));
        if let Ok(mut entry) = found {
            entry.get_mut().conns.remove(&conn);
            if entry.get().conns.is_empty() {
                let _ = entry.remove();
            }
        }
    }

    /// Adds to `told` who watches what is below any path above the node `path`. Gives the steps: the
    /// paths above, and the watches on them.
    pub(super) fn tell(&self, path: &str, told: &mut BTreeSet<ConnId>) -> usize {
        if self.is_empty() || path.len() <= 1 {
            return 0;
        }
        let mut steps = self.look("/", self.hash_of("/"), told);
        let mut hasher = self.hash.build_hasher();
        let mut from = 0;
        for (at, _) in path.match_indices('/').skip(1) {
            hasher.write(&path.as_bytes()[from..at]);
            from = at;
            steps += self.look(&path[..at], hasher.finish(), told);
        }
        steps
    }

    /// Paths are compared only where somebody may be told who is not yet: all comparisons of a change
    /// are of no more bytes than its events have.
    fn look(&self, path: &str, hash: u64, told: &mut BTreeSet<ConnId>) -> usize {
        let mut steps = 1;
        let found = self
            .paths
            .iter_hash(hash)
            .filter(|entry| entry.hash == hash);
        for entry in found {
            steps += entry.conns.len();
            let is_news = entry.conns.iter().any(|conn| !told.contains(conn));
            if is_news && *entry.path == *path {
                told.extend(&entry.conns);
            }
        }
        steps
    }

    /// The hash of a path, name by name.
    fn hash_of(&self, path: &str) -> u64 {
        let mut hasher = self.hash.build_hasher();
        let mut from = 0;
        for (at, _) in path.match_indices('/').skip(1) {
            hasher.write(&path.as_bytes()[from..at]);
            from = at;
        }
        hasher.write(&path.as_bytes()[from..]);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 1,
        }
    }

    fn told(recursive: &Recursive, path: &str) -> (Vec<u32>, usize) {
        let mut told = BTreeSet::new();
        let steps = recursive.tell(path, &mut told);
        (told.into_iter().map(|conn| conn.slot).collect(), steps)
    }

    #[test]
    fn who_watches_above_is_told_and_who_watches_the_path_itself_or_beside_it_is_not() {
        let mut recursive = Recursive::default();
        assert_eq!(
            told(&recursive, "/a/b/c"),
            (vec![], 0),
            "nothing to look up"
        );
        let watched = [
            "/", "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/", "/a/bc", "/b", "", "a",
        ];
        for (slot, path) in watched.into_iter().enumerate() {
            recursive.add(&path.into(), conn(slot as u32));
        }
        assert_eq!(told(&recursive, "/a/b/c"), (vec![0, 1, 2], 6));
        assert_eq!(told(&recursive, "/a/b"), (vec![0, 1], 4));
        assert_eq!(told(&recursive, "/a"), (vec![0], 2));
        assert_eq!(told(&recursive, "/"), (vec![], 0));
        assert_eq!(
            told(&recursive, "/x/y"),
            (vec![0], 3),
            "two paths, one watch"
        );
        for (slot, path) in watched.into_iter().enumerate() {
            recursive.remove(path, conn(slot as u32));
        }
        assert!(recursive.is_empty());
    }

    #[test]
    fn a_path_stays_until_its_last_watch_is_removed() {
        let mut recursive = Recursive::default();
        let path: Arc<str> = "/a".into();
        for slot in [2, 1, 2] {
            recursive.add(&path, conn(slot));
        }
        assert_eq!(told(&recursive, "/a/b"), (vec![1, 2], 4));
        recursive.remove("/a", conn(2));
        recursive.remove("/a", conn(3));
        recursive.remove("/b", conn(1));
        assert_eq!(told(&recursive, "/a/b"), (vec![1], 3));
        recursive.remove("/a", conn(1));
        assert!(recursive.is_empty());
    }

    #[test]
    fn a_path_of_half_a_million_names_costs_a_step_for_each() {
        let mut recursive = Recursive::default();
        let deep = "/a".repeat(500_000);
        recursive.add(&deep.as_str().into(), conn(1));
        recursive.add(&"/a/a/a".into(), conn(2));
        assert_eq!(told(&recursive, &deep), (vec![2], 500_000 + 1));
        assert_eq!(told(&recursive, &(deep + "/b")), (vec![1, 2], 500_001 + 2));
    }
}
