//! Where the node at a path is, or the access control list that equals another: its number, by the hash of the path
//! or of the list. In many small tables, so that one that grows moves a small part of all numbers, and nobody waits
//! for the rest. The hashes are kept beside the numbers: what grows looks at no node and no list, of which each is in
//! another line of the cache.

use super::allocated::allocation;
use super::hash::PathHash;
use hashbrown::HashTable;

/// Number of a node.
pub(super) type NodeId = u32;

/// With a million nodes a table that grows moves four thousand.
const TABLES: usize = 256;

/// A table with fewer numbers than an eighth of its places gives places back.
const SPARSE: usize = 8;

type Table = HashTable<(PathHash, NodeId)>;

fn bytes_of(table: &Table) -> usize {
    allocation(table.allocation_size())
}

/// Numbers of nodes.
#[derive(Clone, Debug)]
pub(super) struct Index {
    tables: Box<[Table; TABLES]>,
    len: usize,
    /// What all tables have allocated, as the allocator rounds it.
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

    /// Bytes that are allocated for numbers.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that an empty one takes.
    pub(super) fn bytes_empty() -> usize {
        allocation(size_of::<[Table; TABLES]>())
    }

    /// The number with this hash for which `is_it` gives something, and that.
    pub(super) fn find<R>(
        &self,
        hash: PathHash,
        mut is_it: impl FnMut(NodeId) -> Option<R>,
    ) -> Option<(NodeId, R)> {
        // A search that looks at no node is short, and nearly always it is the one.
        let table = &self.tables[hash.part(TABLES)];
        let &(_, id) = table.find(hash.spread(), |&(of, _)| of == hash)?;
        match is_it(id) {
            Some(found) => Some((id, found)),
            None => self.find_behind(hash, is_it),
        }
    }

    /// [`Index::find`] where the first number with the hash is not the one: others may have the same hash.
    #[cold]
    fn find_behind<R>(
        &self,
        hash: PathHash,
        mut is_it: impl FnMut(NodeId) -> Option<R>,
    ) -> Option<(NodeId, R)> {
        let mut found = None;
        let table = &self.tables[hash.part(TABLES)];
        table.find(hash.spread(), |&(of, id)| {
            found = (of == hash).then(|| is_it(id)).flatten().map(|r| (id, r));
            found.is_some()
        });
        found
    }

    /// Adds a number that is not there.
    ///
    /// Steps: one, or if the table grows the numbers in it, a 256th of all.
    pub(super) fn insert(&mut self, hash: PathHash, id: NodeId) {
        let table = &mut self.tables[hash.part(TABLES)];
        let before = bytes_of(table);
        table.insert_unique(hash.spread(), (hash, id), |(hash, _)| hash.spread());
        self.bytes = self.bytes - before + bytes_of(table);
        self.len += 1;
    }

    /// Takes a number away, if it is there.
    ///
    /// Steps: one; if the table gives places back, the numbers that are left in it, fewer than an eighth of its
    /// places.
    pub(super) fn remove(&mut self, hash: PathHash, id: NodeId) {
        let table = &mut self.tables[hash.part(TABLES)];
        if let Ok(entry) = table.find_entry(hash.spread(), |&(_, found)| found == id) {
            entry.remove();
            self.len -= 1;
            if table.len() < table.capacity() / SPARSE {
                let before = bytes_of(table);
                table.shrink_to(2 * table.len(), |(hash, _)| hash.spread());
                self.bytes = self.bytes - before + bytes_of(table);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::hash::PathHasher;

    fn find(index: &Index, hash: PathHash, id: NodeId) -> Option<NodeId> {
        let found = index.find(hash, |found| (found == id).then_some(()));
        found.map(|(found, ())| found)
    }

    #[test]
    fn numbers_with_one_hash_are_found_each() {
        let hash = PathHasher::default().hash("/a");
        let mut index = Index::default();
        (0..20).for_each(|id| index.insert(hash, id));
        index.remove(hash, 7);
        for id in 0..21 {
            let due = (id < 20 && id != 7).then_some(id);
            assert_eq!(find(&index, hash, id), due);
        }
    }

    #[test]
    fn what_was_inserted_is_found_until_it_is_removed_and_each_table_holds_its_part() {
        let hasher = PathHasher::default();
        let hash_of = |id: NodeId| hasher.hash(&format!("/p/{id}"));
        let mut index = Index::default();
        (0..100_000).for_each(|id| index.insert(hash_of(id), id));
        assert_eq!(index.len(), 100_000);
        let allocated = |index: &Index| index.tables.iter().map(bytes_of).sum::<usize>();
        assert_eq!(index.bytes(), allocated(&index));
        let fullest = index.tables.iter().map(HashTable::len).max();
        assert!(fullest < Some(2 * 100_000 / TABLES), "{fullest:?}");
        for id in (0..100_000).step_by(3) {
            index.remove(hash_of(id), id);
            index.remove(hash_of(id), id);
        }
        for id in 0..100_000 {
            let due = (id % 3 != 0).then_some(id);
            assert_eq!(find(&index, hash_of(id), id), due);
            assert_eq!(index.find(hash_of(id), |_| None::<()>), None);
        }
        assert_eq!((index.len(), index.bytes()), (66_666, allocated(&index)));
        let full = index.bytes();
        for id in (0..100_000).filter(|id| id % 100 != 1) {
            index.remove(hash_of(id), id);
        }
        assert_eq!(index.bytes(), allocated(&index));
        assert!(index.bytes() < full / 10, "places are given back");
        for id in 0..100_000 {
            let due = (id % 100 == 1 && id % 3 != 0).then_some(id);
            assert_eq!(find(&index, hash_of(id), id), due);
            index.remove(hash_of(id), id);
        }
        assert_eq!((index.len(), index.bytes()), (0, allocated(&index)));
        assert!(index.bytes() <= 128 * TABLES, "{}", index.bytes());
    }
}
