//! Where the time of a write goes: one HdrHistogram per stage (design.md §6).
