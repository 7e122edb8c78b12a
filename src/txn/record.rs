//! The archived log record: a small index and the entry bytes verbatim (design.md §4).
