//! The paths that clients use, in a world of few, so that clients meet; and the model's own idea of which of all paths
//! are legal (docs/protocol.md §2.2).

use std::sync::Arc;

/// Nodes below the root that seldom are used. Most go on behind another's name with a byte below that of the slash:
/// what is below the other then stands behind them in the order of whole paths.
const RARE: [&str; 7] = [
    "n1-c",
    "n1.a",
    "n1!x",
    "n0 ",
    "n2\u{e9}\u{ffef}",
    "n",
    // Longer than what is kept of a name in most places.
    "n3_which_is_longer_than_any_other_and_tells_nobody_anything_beside_that_and_goes_on_and_on_for_a_while",
];

/// The same of their children.
const RARE_BELOW: [&str; 4] = ["c0-d", "c0.", "c1!", "c2\u{fb01}"];

/// Paths that nobody can make a node of, and some that only a sequential node is made of.
const ILLEGAL: [&str; 22] = [
    "",
    "/",
    "n1",
    "c0/d0",
    "/n1/",
    "//",
    "//n1",
    "/n1//c0",
    "/.",
    "/..",
    "/n1/.",
    "/n1/../n2",
    "/n1/c\u{1}",
    "/\u{1f}",
    "/n1\u{7f}",
    "/n1/\u{9f}",
    "/n1/\u{e000}",
    "/\u{f8ff}",
    "/n1/\u{fff0}",
    "/\u{1f600}",
    "/n1\0",
    "/n1/c0\0",
];

/// The name of a node below the root.
pub(super) fn random_top(rng: &mut fastrand::Rng) -> String {
    match rng.usize(0..6 * RARE.len()) {
        n if n < RARE.len() => RARE[n].to_owned(),
        _ => format!("n{}", rng.u32(0..4)),
    }
}

/// The path of a node below the root that seldom is used.
pub(super) fn random_rare(rng: &mut fastrand::Rng) -> Arc<str> {
    format!("/{}", RARE[rng.usize(0..RARE.len())]).into()
}

/// The root, or a node below it.
pub(super) fn random_parent(rng: &mut fastrand::Rng) -> Arc<str> {
    match rng.u32(0..6) {
        0 => "/".into(),
        _ => format!("/{}", random_top(rng)).into(),
    }
}

/// A node below the root, or mostly one below that.
pub(super) fn random_path(rng: &mut fastrand::Rng) -> Arc<str> {
    let top = random_top(rng);
    if rng.u32(0..3) == 0 {
        return format!("/{top}").into();
    }
    match rng.usize(0..40) {
        n if n < RARE_BELOW.len() => format!("/{top}/{}", RARE_BELOW[n]).into(),
        _ => format!("/{top}/c{}", rng.u32(0..3)).into(),
    }
}

pub(super) fn random_illegal(rng: &mut fastrand::Rng) -> Arc<str> {
    ILLEGAL[rng.usize(0..ILLEGAL.len())].into()
}

/// What create and delete look at first.
pub(super) fn has_shape(path: &str) -> bool {
    path.contains('/') && !path.contains('\0')
}

/// The full check.
pub(super) fn is_legal(path: &str) -> bool {
    let is_name = |name: &str| !["", ".", ".."].contains(&name);
    let units =
        |unit: u16| !matches!(unit, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff) && unit < 0xfff0;
    let below = path.strip_prefix('/');
    path == "/"
        || below.is_some_and(|below| below.split('/').all(is_name))
            && path.encode_utf16().all(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_are_all_that_are_used_and_no_others() {
        let sequential = |path: &str| format!("{path}0000000001");
        for path in ILLEGAL {
            assert!(path == "/" || !is_legal(path), "{path:?}");
        }
        assert!(is_legal(&sequential("/n1/")) && !is_legal(&sequential("//")));
        for name in RARE.into_iter().chain(RARE_BELOW) {
            assert!(is_legal(&format!("/{name}")), "{name}");
        }
        for (path, due) in [("", false), ("a/b", true), ("ab", false), ("/a\0", false)] {
            assert_eq!(has_shape(path), due, "{path:?}");
        }
    }
}
