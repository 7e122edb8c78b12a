//! Elements by number, without a pointer or an allocation for each.

/// Numbers are four bytes where they are kept; one that is free is given again.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// A number that no element ever has.
    pub(super) const NONE: u32 = u32::MAX;

    /// Behind the highest number that was ever given.
    pub(super) fn places(&self) -> u32 {
        self.places.len() as u32
    }

    /// The number that the next element will have.
    pub(super) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.places())
    }

    pub(super) fn insert(&mut self, element: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.places[id as usize] = Some(element);
            return id;
        }
        // So many elements would take more memory than any machine has.
        let id = u32::try_from(self.places.len()).expect("four bytes number what fits memory");
        assert_ne!(id, Self::NONE, "four bytes number what fits memory");
        self.places.push(Some(element));
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let element = self.places.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(element)
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.places.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// Bytes that are in use, with those of places that are free.
    pub(super) fn bytes(&self) -> usize {
        self.places.len() * size_of::<Option<T>>() + self.free.len() * size_of::<u32>()
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
}
