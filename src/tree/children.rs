//! The children of a node, in the order in which they are listed.

/// Children that take no memory of their own.
const FEW_MAX: usize = 3;

/// Numbers of nodes. A child is found by its place, which it knows.
#[derive(Clone, Debug)]
pub(super) enum Children {
    Few { len: u32, ids: [u32; FEW_MAX] },
    Many(Vec<u32>),
}

const _: () = assert!(size_of::<Children>() == 24);

impl Default for Children {
    fn default() -> Children {
        Children::Few {
            len: 0,
            ids: [0; FEW_MAX],
        }
    }
}

impl Children {
    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Children::Few { len, ids } => &ids[..*len as usize],
            Children::Many(ids) => ids,
        }
    }

    /// Adds a child behind the others; its place.
    pub(super) fn push(&mut self, id: u32) -> u32 {
        match self {
            Children::Few { len, ids } if (*len as usize) < FEW_MAX => {
                ids[*len as usize] = id;
                *len += 1;
                *len - 1
            }
            Children::Few { ids, .. } => {
                let mut many = Vec::with_capacity(FEW_MAX + 1);
                many.extend_from_slice(ids);
                many.push(id);
                *self = Children::Many(many);
                FEW_MAX as u32
            }
            Children::Many(many) => {
                many.push(id);
                many.len() as u32 - 1
            }
        }
    }

    /// Takes the child at a place away; the last one takes its place and is given, unless it was the
    /// last one itself.
    pub(super) fn swap_remove(&mut self, place: u32) -> Option<u32> {
        let at = place as usize;
        match self {
            Children::Few { len, ids } => {
                let last = *len as usize - 1;
                ids[at] = ids[last];
                *len -= 1;
            }
            Children::Many(many) => {
                many.swap_remove(at);
                if many.is_empty() {
                    *self = Children::default();
                }
            }
        }
        self.as_slice().get(at).copied()
    }

    /// Bytes of a list beside the node, 0 for none.
    pub(super) fn allocated(&self) -> usize {
        match self {
            Children::Few { .. } => 0,
            Children::Many(ids) => ids.capacity() * size_of::<u32>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The order is visible to clients: it is that of a list from which an element is taken by moving
        /// the last one into its place.
        #[test]
        fn few_and_many_are_in_the_order_of_a_list(steps in proptest::collection::vec(0..12u32, 0..60)) {
            let (mut children, mut list) = (Children::default(), Vec::new());
            for (nth, step) in steps.into_iter().enumerate() {
                let id = nth as u32;
                if (step as usize) < list.len() {
                    list.swap_remove(step as usize);
                    let moved = children.swap_remove(step);
                    prop_assert_eq!(moved, list.get(step as usize).copied());
                } else {
                    list.push(id);
                    prop_assert_eq!(children.push(id) as usize, list.len() - 1);
                }
                prop_assert_eq!(children.as_slice(), &list[..]);
            }
        }
    }

    #[test]
    fn a_node_that_has_had_many_children_keeps_no_list_for_none() {
        let mut children = Children::default();
        (0..1000).for_each(|id| assert_eq!(children.push(id), id));
        assert!(children.allocated() >= 4000);
        (1..1000).for_each(|_| assert!(children.swap_remove(0).is_some()));
        assert_eq!(children.swap_remove(0), None);
        assert_eq!((children.as_slice(), children.allocated()), (&[][..], 0));
    }
}
