//! Jute encoding (client.md §1.2).
