//! Access control lists, each kept once.

use super::access::{is_anyone, is_open, steps};
use super::allocated::{allocation, shared};
use super::hash::{PathHash, PathHasher};
use super::index::Index;
use super::slab::Slab;
use crate::txn::Acl;
use hashbrown::HashTable;
use std::sync::Arc;

/// So many lists at most are in one table: to move them takes no time that anybody notices.
const FEW_MAX: usize = 1024;

/// A table with fewer lists than an eighth of its places gives places back.
const SPARSE: usize = 8;

/// Lists by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Acls {
    lists: Slab<Listed>,
    ids: Ids,
    hasher: PathHasher,
    /// The list that was asked for last: many nodes have the same one.
    last: u32,
    /// Of all lists, without the tables that they are in.
    bytes: usize,
}

/// Numbers of lists by their hashes. There may be as many as nodes: what grows looks at no list, and moves a small part
/// of all.
#[derive(Clone, Debug, Default)]
struct Ids {
    few: HashTable<(PathHash, u32)>,
    /// All, once there were more than a few.
    many: Option<Index>,
}

impl Ids {
    fn find(&self, hash: PathHash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        if let Some(many) = &self.many {
            let found = many.find(hash, |id| is_it(id).then_some(()));
            return found.map(|(id, ())| id);
        }
        let is_it = |&(of, id): &(PathHash, u32)| of == hash && is_it(id);
        self.few.find(hash.spread(), is_it).map(|&(_, id)| id)
    }

    fn insert(&mut self, hash: PathHash, id: u32) {
        if self.many.is_none() && self.few.len() == FEW_MAX {
            let mut many = Index::default();
            let few = std::mem::take(&mut self.few);
            few.into_iter().for_each(|(hash, id)| many.insert(hash, id));
            self.many = Some(many);
        }
        match &mut self.many {
            Some(many) => many.insert(hash, id),
            None => {
                let spread = |(hash, _): &(PathHash, u32)| hash.spread();
                self.few.insert_unique(hash.spread(), (hash, id), spread);
            }
        }
    }

    fn remove(&mut self, hash: PathHash, id: u32) {
        if let Some(many) = &mut self.many {
            return many.remove(hash, id);
        }
        if let Ok(found) = self.few.find_entry(hash.spread(), |&(_, of)| of == id) {
            found.remove();
        }
        if self.few.len() < self.few.capacity() / SPARSE {
            let least = 2 * self.few.len();
            self.few.shrink_to(least, |(hash, _)| hash.spread());
        }
    }

    fn bytes(&self) -> usize {
        let many = self.many.as_ref();
        let many = many.map_or(0, |many| many.bytes() + Index::bytes_empty());
        allocation(self.few.allocation_size()) + many
    }
}

/// A list in use.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) acl: Arc<[Acl]>,
    /// Nodes that have it.
    nodes: u32,
    /// What it grants to everybody.
    pub(super) anyone: i32,
    /// To compare all of it.
    steps: usize,
}

impl Listed {
    fn new(acl: &Arc<[Acl]>) -> Listed {
        let open = acl.iter().filter(|entry| is_anyone(entry));
        Listed {
            acl: acl.clone(),
            nodes: 1,
            anyone: open.fold(0, |perms, entry| perms | entry.perms),
            steps: steps(acl),
        }
    }

    /// What a check for `perm` may cost, in steps.
    pub(super) fn compared(&self, perm: i32) -> usize {
        match is_open(&self.acl, perm) {
            true => 1,
            false => self.steps,
        }
    }
}

/// What a list takes in memory, with its entries' texts.
fn bytes_of(acl: &[Acl]) -> usize {
    let texts = acl.iter().flat_map(|entry| [&entry.scheme, &entry.id]);
    shared(size_of_val(acl)) + texts.map(|text| shared(text.len())).sum::<usize>()
}

impl Acls {
    pub(super) fn intern(&mut self, acl: &Arc<[Acl]>) -> u32 {
        if let Some(last) = self.lists.get_mut(self.last)
            && (Arc::ptr_eq(&last.acl, acl) || last.acl == *acl)
        {
            last.nodes += 1;
            return self.last;
        }
        let hash = self.hasher.hash_list(acl);
        let lists = &self.lists;
        let is_it = |id| lists.get(id).is_some_and(|list| list.acl == *acl);
        self.last = match self.ids.find(hash, is_it) {
            Some(id) => {
                self.lists.get_mut(id).expect("a named list").nodes += 1;
                id
            }
            None => {
                self.bytes += bytes_of(acl);
                let id = self.lists.insert(Listed::new(acl));
                self.ids.insert(hash, id);
                id
            }
        };
        self.last
    }

    pub(super) fn release(&mut self, id: u32) {
        let list = self.lists.get_mut(id).expect("a list in use");
        list.nodes -= 1;
        if list.nodes == 0 {
            self.bytes -= bytes_of(&list.acl);
            self.ids.remove(self.hasher.hash_list(&list.acl), id);
            self.lists.remove(id);
        }
    }

    pub(super) fn get(&self, id: u32) -> &Arc<[Acl]> {
        &self.listed(id).acl
    }

    pub(super) fn listed(&self, id: u32) -> &Listed {
        self.lists.get(id).expect("a list in use")
    }

    /// What the lists take in memory, as if no text were shared.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.tables_bytes()
    }

    fn tables_bytes(&self) -> usize {
        self.lists.bytes() + self.ids.bytes()
    }

    /// [`Acls::bytes`], list by list.
    pub(super) fn recounted(&self) -> usize {
        let lists = self.lists.iter().map(|list| bytes_of(&list.acl));
        lists.sum::<usize>() + self.tables_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::access::allow;

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

    #[test]
    fn of_many_lists_no_new_one_and_none_that_goes_moves_more_than_a_small_part_of_the_others() {
        const LISTS: u32 = 200_000;
        let list = |nth: u32| -> Arc<[Acl]> {
            Arc::from([Acl {
                perms: 31,
                scheme: "digest".into(),
                id: format!("user-{nth}").into(),
            }])
        };
        let (mut acls, mut longest) = (Acls::default(), 0);
        let mut tables = acls.ids.bytes();
        let mut moved = |acls: &Acls| {
            let before = std::mem::replace(&mut tables, acls.ids.bytes());
            longest = longest.max(tables.abs_diff(before));
        };
        for nth in 0..LISTS {
            assert_eq!(acls.intern(&list(nth)), nth);
            moved(&acls);
        }
        let all = acls.ids.bytes();
        assert_eq!(acls.intern(&list(7)), 7);
        for nth in (0..LISTS).filter(|nth| nth % 2 == 0) {
            acls.release(nth);
            moved(&acls);
        }
        assert_eq!(acls.intern(&list(9)), 9);
        assert!(longest < all / 50, "{longest} of {all}");
        assert_eq!(acls.bytes(), acls.recounted());
    }

    #[test]
    fn what_a_list_grants_to_everybody_is_what_it_grants_to_nobody_in_particular() {
        let entry = |perms, scheme: &str, id: &str| Acl {
            perms,
            scheme: scheme.into(),
            id: id.into(),
        };
        let lists: [&[Acl]; 6] = [
            &[entry(1, "world", "anyone")],
            &[entry(31, "digest", "a:b"), entry(1, "world", "anyone")],
            &[entry(2, "world", "anyone"), entry(16, "world", "anyone")],
            &[entry(0, "world", "anyone")],
            &[entry(31, "ip", "127.0.0.1")],
            &[entry(31, "world", "somebody"), entry(31, "auth", "anyone")],
        ];
        let mut acls = Acls::default();
        // The second time numbers of lists are given again, to other lists.
        for list in lists.iter().chain(lists.iter().rev()) {
            let id = acls.intern(&Arc::from(*list));
            for perm in (0..5).map(|bit| 1 << bit).chain([1 | 16]) {
                let due = allow(list, perm, &[]);
                assert_eq!(acls.listed(id).anyone & perm != 0, due, "{list:?} {perm}");
            }
            acls.release(id);
        }
    }
}
