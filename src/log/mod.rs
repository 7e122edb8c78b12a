//! The log: record format, segments, recovery, snapshot files.

pub mod storage;
