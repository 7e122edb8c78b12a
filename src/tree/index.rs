//! Where the node at a path is: its number, by the hash of the path. In many small tables, so that one that
//! grows moves a small part of all numbers, and nobody waits for the rest.

use super::hash::PathHash;
use super::node::NodeId;
use hashbrown::HashTable;

/// With a million nodes a table that grows moves four thousand.
const TABLES: usize = 256;

/// Numbers of nodes.
#[derive(Clone, Debug)]
pub(super) struct Index {
    tables: Box<[HashTable<NodeId>; TABLES]>,
    len: usize,
    /// What all tables have allocated.
    bytes: usize,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            tables: Box::new(std::array::from_fn(|_| HashTable::new())),
            len: 0,
            bytes: 0,
        }
    }
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are allocated.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn find(
        &self,
        hash: PathHash,
        mut is_it: impl FnMut(NodeId) -> bool,
    ) -> Option<NodeId> {
        let table = &self.tables[hash.part(TABLES)];
        table.find(hash.spread(), |&id| is_it(id)).copied()
    }

    /// Adds a number that is not there. `hash_of`: of one that is there.
    ///
    /// Steps: one, or if the table grows the numbers in it, a 256th of all.
    pub(super) fn insert(
        &mut self,
        hash: PathHash,
        id: NodeId,
        hash_of: impl Fn(NodeId) -> PathHash,
    ) {
        let table = &mut self.tables[hash.part(TABLES)];
        let before = table.allocation_size();
        table.insert_unique(hash.spread(), id, |&id| hash_of(id).spread());
        self.bytes += table.allocation_size() - before;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, hash: PathHash, id: NodeId) {
        let table = &mut self.tables[hash.part(TABLES)];
        if let Ok(entry) = table.find_entry(hash.spread(), |&found| found == id) {
            entry.remove();
            self.len -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::hash::PathHasher;
    use std::cell::Cell;

    #[test]
    fn what_was_inserted_is_found_until_it_is_removed_and_no_insertion_moves_much_of_the_rest() {
        let hasher = PathHasher::default();
        let hashes: Vec<PathHash> = (0..100_000)
            .map(|n| hasher.hash(&format!("/p/{n}")))
            .collect();
        let hash_of = |id: NodeId| hashes[id as usize];
        let mut index = Index::default();
        let mut most = 0;
        for (id, &hash) in (0..).zip(&hashes) {
            let moved = Cell::new(0);
            index.insert(hash, id, |id| {
                moved.set(moved.get() + 1);
                hash_of(id)
            });
            most = most.max(moved.get());
        }
        assert!((1..hashes.len() / 128).contains(&most), "{most} are moved");
        assert_eq!(index.len(), hashes.len());
        let allocated = |index: &Index| {
            index
                .tables
                .iter()
                .map(HashTable::allocation_size)
                .sum::<usize>()
        };
        assert_eq!(index.bytes(), allocated(&index));
        for id in (0..100_000).step_by(3) {
            index.remove(hash_of(id), id);
            index.remove(hash_of(id), id);
        }
        for id in 0..100_000 {
            let due = (id % 3 != 0).then_some(id);
            assert_eq!(index.find(hash_of(id), |found| found == id), due);
        }
        assert_eq!((index.len(), index.bytes()), (66_666, allocated(&index)));
    }
}
