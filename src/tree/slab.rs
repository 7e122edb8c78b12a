//! Elements by number, without a pointer or an allocation for each.

/// Places that are allocated, and given back, together.
const CHUNK: usize = 1 << 10;

/// Some places, which are allocated as they are used.
#[derive(Clone, Debug)]
struct Chunk<T> {
    places: Vec<Option<T>>,
    /// Places without an element, the next one to use last.
    free: Vec<u16>,
}

impl<T> Chunk<T> {
    fn with_room_for(places: usize) -> Chunk<T> {
        Chunk {
            places: Vec::with_capacity(places),
            free: Vec::new(),
        }
    }

    /// The place of the next element; `None` if every place has one.
    fn next(&self) -> Option<usize> {
        let fresh = self.places.len();
        let free = self.free.last().map(|&place| usize::from(place));
        free.or((fresh < CHUNK).then_some(fresh))
    }

    /// No place is allocated.
    fn is_void(&self) -> bool {
        self.places.is_empty()
    }
}

/// Numbers are four bytes where they are kept; one that is free is given again. Places lie in chunks: to
/// grow moves no element, and a chunk of which all elements are gone takes no memory.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with room for an element, the next one to use last. None of them is void but those behind
    /// which another one was opened.
    open: Vec<u32>,
    /// Chunks of which no place is allocated, and which are not in `open`.
    void: Vec<u32>,
    /// Places that are allocated.
    allocated: usize,
    /// Those of them that have no element.
    free: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            open: Vec::new(),
            void: Vec::new(),
            allocated: 0,
            free: 0,
        }
    }
}

fn split(id: u32) -> (usize, usize) {
    (id as usize / CHUNK, id as usize % CHUNK)
}

impl<T> Slab<T> {
    /// A number that no element ever has.
    pub(super) const NONE: u32 = u32::MAX;

    /// Behind the highest number that was ever given.
    pub(super) fn places(&self) -> u32 {
        let whole = self.chunks.len().saturating_sub(1) * CHUNK;
        let last = self.chunks.last().map_or(0, |chunk| match chunk.is_void() {
            true => CHUNK,
            false => chunk.places.len(),
        });
        (whole + last) as u32
    }

    /// The number that the next element will have.
    pub(super) fn next(&self) -> u32 {
        let chunk = self.open.last().or(self.void.last());
        let chunk = chunk.map_or(self.chunks.len(), |&chunk| chunk as usize);
        let place = self.chunks.get(chunk).map_or(Some(0), Chunk::next);
        let id = chunk * CHUNK + place.expect("an open chunk has room");
        // So many elements would take more memory than any machine has.
        let id = u32::try_from(id).expect("four bytes number what fits memory");
        assert_ne!(id, Self::NONE, "four bytes number what fits memory");
        id
    }

    pub(super) fn insert(&mut self, element: T) -> u32 {
        let id = self.next();
        let (at, place) = split(id);
        if self.open.is_empty() {
            if self.void.pop().is_none() {
                // The first one grows with a tree that may stay small.
                let room = if self.chunks.is_empty() { 0 } else { CHUNK };
                self.chunks.push(Chunk::with_room_for(room));
            }
            self.open.push(at as u32);
        }
        let chunk = &mut self.chunks[at];
        match chunk.free.pop() {
            Some(_) => {
                chunk.places[place] = Some(element);
                self.free -= 1;
            }
            None => {
                chunk.places.push(Some(element));
                self.allocated += 1;
            }
        }
        if chunk.next().is_none() {
            self.open.pop();
            self.set_void_aside();
        }
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let (at, place) = split(id);
        let chunk = self.chunks.get_mut(at)?;
        let was_full = chunk.next().is_none();
        let element = chunk.places.get_mut(place)?.take()?;
        chunk.free.push(place as u16);
        self.free += 1;
        if was_full {
            self.open.push(at as u32);
        }
        if chunk.free.len() == chunk.places.len() {
            self.allocated -= chunk.places.len();
            self.free -= chunk.free.len();
            *chunk = Chunk::with_room_for(0);
            self.set_void_aside();
        }
        Some(element)
    }

    /// Chunks that take no memory are used when no other has room: so few are used.
    fn set_void_aside(&mut self) {
        while let Some(&chunk) = self.open.last()
            && self.chunks[chunk as usize].is_void()
        {
            self.open.pop();
            self.void.push(chunk);
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        let (at, place) = split(id);
        self.chunks.get(at)?.places.get(place)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (at, place) = split(id);
        self.chunks.get_mut(at)?.places.get_mut(place)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.places.iter().flatten())
    }

    /// Bytes of places that are free.
    pub(super) fn spare_bytes(&self) -> usize {
        self.free * size_of::<Option<T>>()
    }

    /// Bytes that are in use, with those of places that are free.
    pub(super) fn bytes(&self) -> usize {
        self.allocated * size_of::<Option<T>>() + self.free * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

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

    /// Against a map, in phases that grow and shrink.
    #[test]
    fn whatever_comes_and_goes_each_element_is_found_by_its_number_alone() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut slab, mut model) = (Slab::default(), BTreeMap::new());
        for round in 0..40_000 {
            let grows = round / 8_000 % 2 == 0;
            if model.is_empty() || rng.u8(0..10) < if grows { 9 } else { 1 } {
                let id = slab.next();
                assert_eq!(slab.insert(round), id);
                assert_eq!(model.insert(id, round), None, "{id} is taken");
                assert!(id < slab.places());
            } else {
                let nth = rng.usize(..model.len().min(50));
                let id = *model.keys().nth(nth).expect("so many");
                assert_eq!(slab.remove(id), model.remove(&id));
            }
        }
        let found: Vec<i32> = slab.iter().copied().collect();
        assert_eq!(found, model.values().copied().collect::<Vec<_>>());
        assert!((0..slab.places()).all(|id| slab.get(id) == model.get(&id)));
        let allocated = slab.chunks.iter().map(|chunk| chunk.places.len()).sum();
        assert_eq!(
            (slab.allocated, slab.free),
            (allocated, allocated - model.len())
        );
    }

    #[test]
    fn a_chunk_that_takes_no_memory_is_not_used_while_another_has_room() {
        let mut slab = Slab::default();
        let first_of = |chunk: u32| chunk * CHUNK as u32;
        for n in 0..first_of(4) {
            slab.insert(n);
        }
        for chunk in [3, 2, 1] {
            slab.remove(first_of(chunk));
        }
        for id in first_of(2)..first_of(3) {
            slab.remove(id);
        }
        let given = [0; 3].map(|n| slab.insert(n));
        assert_eq!(given, [first_of(1), first_of(3), first_of(2)]);
    }

    #[test]
    fn what_is_gone_takes_no_memory_and_its_numbers_are_given_again() {
        let mut slab = Slab::default();
        let count = 10 * CHUNK as u32;
        for n in 0..count {
            slab.insert(n);
        }
        let full = slab.bytes();
        // One element stays, and holds the places of one chunk.
        for id in (0..count).filter(|&id| id != 5000) {
            slab.remove(id);
        }
        assert!(slab.bytes() <= full / 10 + 2 * CHUNK, "{}", slab.bytes());
        assert_eq!(slab.get(5000), Some(&5000));
        for n in 1..count {
            slab.insert(n);
        }
        assert_eq!((slab.bytes(), slab.places()), (full, count));
        for id in 0..count {
            slab.remove(id);
        }
        assert_eq!(slab.bytes(), 0);
    }
}
