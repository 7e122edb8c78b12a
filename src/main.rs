//! The server's entry point.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ringkeeper::rt::{clock, memory};
use std::io::IsTerminal;

// An allocation and its end take a third of the instructions that the C library's take.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    memory::give_back_early();
    // So that no client can compute names that collide in a hash map.
    ringkeeper::types::set_hash_seed(clock::random() as u64);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // Otherwise a line that can't be written, because nobody reads the pipe any more or the disk is
        // full, is reported by a macro that panics for the same reason.
        .log_internal_errors(false)
        .init();
    std::process::exit(ringkeeper::server::main().code());
}
