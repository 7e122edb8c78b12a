//! Elements by number, without a pointer or an allocation for each. In blocks, so that none is ever moved
//! to a larger place.

/// Elements of a block: with nodes of 80 bytes, and extras of 56, the allocator gives away nothing.
const BLOCK: usize = 1024;

/// Numbers are four bytes where they are kept; one that is free is given again.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    /// All are full but the last one.
    blocks: Vec<Vec<Option<T>>>,
    /// Places in all blocks.
    places: u32,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            blocks: Vec::new(),
            places: 0,
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// A number that no element ever has.
    pub(super) const NONE: u32 = u32::MAX;

    /// Behind the highest number that was ever given.
    pub(super) fn places(&self) -> u32 {
        self.places
    }

    /// The number that the next element will have.
    pub(super) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.places)
    }

    pub(super) fn insert(&mut self, element: T) -> u32 {
        if let Some(id) = self.free.pop() {
            *self.place_mut(id).expect("a free place") = Some(element);
            return id;
        }
        let id = self.places;
        // So many elements would take more memory than any machine has.
        assert_ne!(id, Self::NONE, "four bytes number what fits memory");
        if (id as usize).is_multiple_of(BLOCK) {
            // The first one grows with a tree that may stay small.
            let room = if id == 0 { 0 } else { BLOCK };
            self.blocks.push(Vec::with_capacity(room));
        }
        let block = self.blocks.last_mut().expect("one with room");
        if block.len() == block.capacity() {
            block.reserve_exact(block.len().clamp(4, BLOCK - block.len()));
        }
        block.push(Some(element));
        self.places += 1;
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let element = self.place_mut(id)?.take()?;
        self.free.push(id);
        Some(element)
    }

    fn place_mut(&mut self, id: u32) -> Option<&mut Option<T>> {
        let block = self.blocks.get_mut(id as usize / BLOCK)?;
        block.get_mut(id as usize % BLOCK)
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        let block = self.blocks.get(id as usize / BLOCK)?;
        block.get(id as usize % BLOCK)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.place_mut(id)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().flatten()
    }

    /// Bytes that are in use, with those of places that are free.
    pub(super) fn bytes(&self) -> usize {
        self.places as usize * size_of::<Option<T>>() + self.free.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_free_is_given_again_and_an_element_keeps_its_own() {
        let mut slab = Slab::default();
        let mut insert = |n| {
            let next = slab.next();
            assert_eq!(slab.insert(n), next);
            next
        };
        let ids: Vec<u32> = (0..4).map(&mut insert).collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        assert_eq!((slab.remove(1), slab.remove(1)), (Some(1), None));
        assert_eq!((slab.insert(9), slab.insert(8)), (1, 4));
        assert_eq!(slab.iter().copied().collect::<Vec<_>>(), [0, 9, 2, 3, 8]);
        assert_eq!(slab.get(Slab::<i32>::NONE), None);
    }

    #[test]
    fn an_element_stays_where_it_is_once_the_first_block_is_full() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..5000).map(|n| slab.insert(n)).collect();
        assert_eq!(ids, Vec::from_iter(0..5000));
        let at = |slab: &Slab<i32>| {
            ids.iter()
                .map(|&id| slab.get(id).map(std::ptr::from_ref))
                .collect::<Vec<_>>()
        };
        let before = at(&slab);
        (5000..50_000).for_each(|n| assert_eq!(slab.insert(n), n as u32));
        assert!(slab.blocks.iter().all(|block| block.capacity() == BLOCK));
        assert_eq!(before, at(&slab));
        assert!(slab.iter().copied().eq(0..50_000));
    }
}
