//! The server's entry point.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::IsTerminal;

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    std::process::exit(ringkeeper::server::main().code());
}
