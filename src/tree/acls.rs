//! Access control lists, each kept once.

use super::allocated::{allocation, shared};
use super::slab::Slab;
use crate::txn::Acl;
use crate::types::DetHashMap;
use std::sync::Arc;

/// A table with fewer lists than an eighth of its places gives places back.
const SPARSE: usize = 8;

/// Lists by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Acls {
    /// Each with how many nodes have it.
    lists: Slab<(Arc<[Acl]>, u32)>,
    ids: DetHashMap<Arc<[Acl]>, u32>,
    /// The list that was asked for last: many nodes have the same one.
    last: u32,
    /// Of all lists, without the tables that they are in.
    bytes: usize,
}

/// What a list takes in memory, with its entries' texts.
fn bytes_of(acl: &[Acl]) -> usize {
    let texts = acl.iter().flat_map(|entry| [&entry.scheme, &entry.id]);
    shared(size_of_val(acl)) + texts.map(|text| shared(text.len())).sum::<usize>()
}

impl Acls {
    pub(super) fn intern(&mut self, acl: &Arc<[Acl]>) -> u32 {
        if let Some((list, count)) = self.lists.get_mut(self.last)
            && list == acl
        {
            *count += 1;
            return self.last;
        }
        self.last = match self.ids.get(acl) {
            Some(&id) => {
                self.lists.get_mut(id).expect("a named list").1 += 1;
                id
            }
            None => {
                self.bytes += bytes_of(acl);
                let id = self.lists.insert((acl.clone(), 1));
                self.ids.insert(acl.clone(), id);
                id
            }
        };
        self.last
    }

    pub(super) fn release(&mut self, id: u32) {
        let (list, count) = self.lists.get_mut(id).expect("a list in use");
        *count -= 1;
        if *count == 0 {
            self.bytes -= bytes_of(list);
            self.ids.remove(list);
            self.lists.remove(id);
            if self.ids.len() < self.ids.capacity() / SPARSE {
                self.ids.shrink_to(2 * self.ids.len());
            }
        }
    }

    pub(super) fn get(&self, id: u32) -> &Arc<[Acl]> {
        &self.lists.get(id).expect("a list in use").0
    }

    /// What the lists take in memory, as if no text were shared.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.tables_bytes()
    }

    fn tables_bytes(&self) -> usize {
        self.lists.bytes() + allocation(self.ids.allocation_size())
    }

    /// [`Acls::bytes`], list by list.
    pub(super) fn recounted(&self) -> usize {
        let lists = self.lists.iter().map(|(acl, _)| bytes_of(acl));
        lists.sum::<usize>() + self.tables_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_one_number_and_a_number_without_nodes_is_given_again() {
        let list = |perms| -> Arc<[Acl]> { Arc::from([Acl::world(perms)]) };
        let mut acls = Acls::default();
        let ids = [1, 2, 1, 1, 2].map(|perms| acls.intern(&list(perms)));
        assert_eq!(ids, [0, 1, 0, 0, 1]);
        (0..2).for_each(|_| acls.release(1));
        assert_eq!(acls.intern(&list(3)), 1);
        assert_eq!((acls.get(0), acls.get(1)), (&list(1), &list(3)));
        // The list that was asked for last has gone, and its number with it.
        acls.release(1);
        assert_eq!(acls.intern(&list(4)), 1);
        assert_eq!(acls.intern(&list(1)), 0);
    }
}
