//! Servers that are started here.
