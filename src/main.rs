//! The server's entry point.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ringkeeper::rt::clock;
use std::io::IsTerminal;

fn main() {
    // So that no client can compute names that collide in a hash map.
    ringkeeper::types::set_hash_seed(clock::random() as u64);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    std::process::exit(ringkeeper::server::main().code());
}
