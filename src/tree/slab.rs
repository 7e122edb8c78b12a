//! Elements by number, without a pointer or an allocation for each.

/// Places that are allocated, and given back, together: a power of two, so that a number is split by bits.
const CHUNK: usize = 1 << 8;

/// A place in a chunk. Free ones are a list, each with the next one.
#[derive(Clone, Debug)]
pub(super) enum Place<T> {
    Taken(T),
    Free { next: u16 },
}

/// Of a length that the compiler knows: the place in a chunk needs no check of its own.
type Places<T> = Box<[Place<T>; CHUNK]>;

/// All free, the first one first.
fn places<T>() -> Places<T> {
    let free = (1..=CHUNK as u16).map(|next| Place::Free { next });
    let Ok(places) = <Places<T>>::try_from(free.collect::<Box<[_]>>()) else {
        unreachable!("a chunk has so many places")
    };
    places
}

/// The free places of a chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Vacancy {
    /// The place of the next element, [`CHUNK`] if every place has one.
    next: u16,
    /// Places with an element.
    taken: u16,
    /// Places that have had an element since the chunk was allocated.
    used: u16,
}

impl Vacancy {
    fn is_full(self) -> bool {
        usize::from(self.next) == CHUNK
    }
}

/// Numbers are four bytes where they are kept; one that is free is given again. Places lie in chunks: to
/// grow moves no element, and a chunk of which all elements are gone takes no memory.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    /// `None` is void: it takes no memory.
    chunks: Vec<Option<Places<T>>>,
    /// Of each chunk.
    vacancies: Vec<Vacancy>,
    /// Chunks with room for an element; the last one is used next, and is not void. Another one that has become
    /// void stays here until it is the last.
    open: Vec<u32>,
    /// Void chunks which are not in `open`.
    void: Vec<u32>,
    /// Places that have had an element since their chunk was allocated.
    used: usize,
    /// Places with an element.
    taken: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            vacancies: Vec::new(),
            open: Vec::new(),
            void: Vec::new(),
            used: 0,
            taken: 0,
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
        let last = self.vacancies.last().map_or(0, |last| match last.used {
            0 => CHUNK,
            used => used.into(),
        });
        (whole + last) as u32
    }

    /// The number that the next element will have.
    pub(super) fn next(&self) -> u32 {
        let chunk = self.open.last().or(self.void.last());
        let chunk = chunk.map_or(self.chunks.len(), |&chunk| chunk as usize);
        let vacancy = self.vacancies.get(chunk).copied().unwrap_or_default();
        let id = chunk * CHUNK + usize::from(vacancy.next);
        // So many elements would take more memory than any machine has.
        let id = u32::try_from(id).expect("four bytes number what fits memory");
        assert_ne!(id, Self::NONE, "four bytes number what fits memory");
        id
    }

    pub(super) fn insert(&mut self, element: T) -> u32 {
        let id = self.next();
        let (at, place) = split(id);
        if self.open.is_empty() {
            self.open_chunk();
        }
        let vacancy = &mut self.vacancies[at];
        let places = self.chunks[at].as_mut().expect("an open chunk");
        let Place::Free { next } = places[place] else {
            unreachable!("a place in the list of free ones")
        };
        places[place] = Place::Taken(element);
        vacancy.next = next;
        vacancy.taken += 1;
        self.taken += 1;
        if vacancy.used < vacancy.taken {
            vacancy.used += 1;
            self.used += 1;
        }
        if vacancy.is_full() {
            self.open.pop();
            self.set_void_aside();
        }
        id
    }

    /// Allocates a void chunk, or one more.
    #[cold]
    fn open_chunk(&mut self) {
        let at = self.void.pop().unwrap_or_else(|| {
            self.chunks.push(None);
            self.vacancies.push(Vacancy::default());
            self.chunks.len() as u32 - 1
        });
        self.chunks[at as usize] = Some(places());
        self.open.push(at);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let (at, place) = split(id);
        let chunk = self.chunks.get_mut(at)?;
        let place_of = &mut chunk.as_mut()?[place];
        if matches!(place_of, Place::Free { .. }) {
            return None;
        }
        let vacancy = &mut self.vacancies[at];
        let next = vacancy.next;
        let Place::Taken(element) = std::mem::replace(place_of, Place::Free { next }) else {
            unreachable!("just seen")
        };
        if vacancy.is_full() {
            self.open.push(at as u32);
        }
        vacancy.next = place as u16;
        vacancy.taken -= 1;
        self.taken -= 1;
        if vacancy.taken == 0 {
            self.used -= usize::from(vacancy.used);
            *vacancy = Vacancy::default();
            *chunk = None;
            self.set_void_aside();
        }
        Some(element)
    }

    /// Chunks that take no memory are used when no other has room: so few are used.
    fn set_void_aside(&mut self) {
        while let Some(&chunk) = self.open.last()
            && self.chunks[chunk as usize].is_none()
        {
            self.open.pop();
            self.void.push(chunk);
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        let (at, place) = split(id);
        match &self.chunks.get(at)?.as_deref()?[place] {
            Place::Taken(element) => Some(element),
            Place::Free { .. } => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (at, place) = split(id);
        match &mut self.chunks.get_mut(at)?.as_deref_mut()?[place] {
            Place::Taken(element) => Some(element),
            Place::Free { .. } => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let places = self.chunks.iter().flatten().flat_map(|chunk| chunk.iter());
        places.filter_map(|place| match place {
            Place::Taken(element) => Some(element),
            Place::Free { .. } => None,
        })
    }

    /// Bytes of places whose elements are gone.
    pub(super) fn spare_bytes(&self) -> usize {
        (self.used - self.taken) * size_of::<Place<T>>()
    }

    /// Bytes that are in use, with those of places that are free again.
    pub(super) fn bytes(&self) -> usize {
        self.used * size_of::<Place<T>>()
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
        let of_all = |part: fn(&Vacancy) -> u16| {
            let parts = slab.vacancies.iter().map(part);
            parts.map(usize::from).sum::<usize>()
        };
        assert_eq!(of_all(|chunk| chunk.taken), model.len());
        assert_eq!(slab.taken, model.len());
        assert_eq!(of_all(|chunk| chunk.used), slab.used);
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
        let count = 40 * CHUNK as u32;
        for n in 0..count {
            slab.insert(n);
        }
        let full = slab.bytes();
        // One element stays, and holds the places of one chunk.
        for id in (0..count).filter(|&id| id != 5000) {
            slab.remove(id);
        }
        assert_eq!(slab.bytes(), full / 40);
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
