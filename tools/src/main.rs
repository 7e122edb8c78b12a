//! Operator's tool.
fn main() {}
