//! Path rules (docs/protocol.md §2.2), evaluated on UTF-16 code units as the reference does.

use super::name::name_start;

/// The light check that create and delete make first: a slash somewhere, no NUL.
pub(super) fn has_shape(path: &str) -> bool {
    path.contains('/') && !path.contains('\0')
}

/// The full validation. Characters above U+FFFF are surrogate pairs in UTF-16, hence illegal.
pub(super) fn is_valid(path: &str) -> bool {
    let Some(below) = path.strip_prefix('/') else {
        return false;
    };
    let mut segments = below.as_bytes().split(|byte| *byte == b'/');
    path == "/"
        || segments.all(|segment| !matches!(segment, b"" | b"." | b"..")) && has_legal_text(below)
}

fn has_legal_text(text: &str) -> bool {
    match text.is_ascii() {
        // Without a way out of the loop it is compiled to instructions that take many bytes at once.
        true => !(text.bytes()).fold(false, |found, byte| found | byte.is_ascii_control()),
        false => !text.chars().any(is_illegal),
    }
}

fn is_illegal(c: char) -> bool {
    matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// The parent's path: `/` for `/a` and for `/` itself; `None` without a slash.
pub(super) fn parent_path(path: &str) -> Option<&str> {
    match name_start(path) {
        0 => None,
        1 => Some("/"),
        start => Some(&path[..start - 1]),
    }
}

/// The path of the node below which a node of this path can be stored; `None` for one that is no way
/// down from the root, as `//a` is none.
pub(super) fn stored_below(path: &str) -> Option<&str> {
    parent_path(path).filter(|above| *above != "/" || !path.starts_with("//"))
}

/// Whether the path counts in the tree's digest.
pub(super) fn in_digest(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// The four nodes that can't be deleted (docs/protocol.md §2.3).
pub(super) fn is_protected(path: &str) -> bool {
    matches!(
        path,
        "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_of_the_specification() {
        let valid = [
            "/",
            "/a",
            "/a/b",
            "/...",
            "/.a",
            "/a.",
            "/a..",
            "/ ",
            "/\u{a0}",
            "/\u{f900}",
            "/\u{ffef}",
            "/é",
        ];
        for path in valid {
            assert!(is_valid(path), "{path:?}");
        }
        let invalid = [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/..",
            "/\0",
            "/\u{1}",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{fffd}",
            "/\u{ffff}",
            "/\u{1f600}",
        ];
        for path in invalid {
            assert!(!is_valid(path), "{path:?}");
        }
    }

    proptest! {
        /// ASCII is looked at byte by byte, other text character by character.
        #[test]
        fn text_is_legal_if_each_of_its_characters_is(text in "[ -~\\PC\u{0}-\u{a0}]{0,40}|[ -~]{0,30}[\u{0}-\u{7f}]?[ -~]{0,30}") {
            prop_assert_eq!(has_legal_text(&text), !text.chars().any(is_illegal));
        }
    }
}
