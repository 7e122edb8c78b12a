//! The last segment of a path.

/// Bytes that take no memory beside the node: a sequential node of a common recipe fits
/// (`member_0000000001` has 17).
pub(super) const SHORT_MAX: usize = 21;

/// The name of a node, UTF-8 as it is in the path; with what comes before it in the path if the whole
/// path is short. A node is then compared with a path at once instead of name by name.
#[derive(Clone, Debug)]
pub(super) enum Name {
    /// The name begins at `start`. If that is not 0, `bytes` is the whole path.
    Short {
        len: u8,
        start: u8,
        bytes: [u8; SHORT_MAX],
    },
    /// The name alone.
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Name>() == 24);

impl Name {
    /// Of the node at a path, which begins with a slash.
    pub(super) fn of(path: &str) -> Name {
        let start = name_start(path);
        let (kept, start) = match path.len() {
            0..=SHORT_MAX => (path.as_bytes(), start),
            _ => (&path.as_bytes()[start..], 0),
        };
        if kept.len() > SHORT_MAX {
            return Name::Long(kept.into());
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..kept.len()].copy_from_slice(kept);
        Name::Short {
            len: kept.len() as u8,
            start: start as u8,
            bytes,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Short { len, start, bytes } => &bytes[usize::from(*start)..usize::from(*len)],
            Name::Long(bytes) => bytes,
        }
    }

    /// The whole path, if it is here.
    pub(super) fn path(&self) -> Option<&[u8]> {
        match self {
            Name::Short { start: 0, .. } | Name::Long(_) => None,
            Name::Short { len, bytes, .. } => Some(&bytes[..usize::from(*len)]),
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

/// Where the last segment of a path begins.
pub(super) fn name_start(path: &str) -> usize {
    // Names are short: a search that begins with whole words costs more.
    let slash = path.bytes().rposition(|byte| byte == b'/');
    slash.map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_kept_and_only_long_ones_are_allocated() {
        for above in ["", "/a", "/above-of-16-byte", "/above/of/some/more/bytes"] {
            for len in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 1000] {
                let text: String = "é-abc".chars().cycle().take(len).collect();
                let path = format!("{above}/{text}");
                let name = Name::of(&path);
                assert_eq!(name.as_bytes(), text.as_bytes(), "{path:?}");
                let whole = (path.len() <= SHORT_MAX).then_some(path.as_bytes());
                assert_eq!(name.path(), whole, "{path:?}");
                let fits = text.len() <= SHORT_MAX;
                let due = if fits { 0 } else { text.len() };
                assert_eq!(name.allocated(), due, "{path:?}");
            }
        }
    }
}
