//! The last segment of a path.

/// Bytes of a name that take no memory beside the node: a sequential node of a common recipe fits
/// (`member_0000000001` has 17).
const SHORT_MAX: usize = 22;

/// UTF-8, as it is in the path.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Name>() == 24);

impl Name {
    pub(super) fn new(name: &str) -> Name {
        let name = name.as_bytes();
        if name.len() > SHORT_MAX {
            return Name::Long(name.into());
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..name.len()].copy_from_slice(name);
        Name::Short {
            len: name.len() as u8,
            bytes,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Short { len, bytes } => &bytes[..usize::from(*len)],
            Name::Long(bytes) => bytes,
        }
    }

    /// Bytes beside the node, 0 for none.
    pub(super) fn allocated(&self) -> usize {
        match self {
            Name::Short { .. } => 0,
            Name::Long(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_kept_and_only_long_ones_are_allocated() {
        for len in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 1000] {
            let text: String = "é-abc".chars().cycle().take(len).collect();
            let name = Name::new(&text);
            assert_eq!(name.as_bytes(), text.as_bytes());
            let due = if text.len() > SHORT_MAX {
                text.len()
            } else {
                0
            };
            assert_eq!(name.allocated(), due, "{text:?}");
        }
    }
}
