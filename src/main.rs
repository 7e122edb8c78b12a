//! The server's entry point.

use std::io::{IsTerminal, Read};

/// Random bits of the kernel, so that no client can compute names that collide in a hash map.
fn random_bits() -> std::io::Result<u64> {
    let mut bits = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bits)?;
    Ok(u64::from_ne_bytes(bits))
}

fn main() {
    // Without /dev/urandom the fixed seed serves: slower under attack, never wrong.
    if let Ok(bits) = random_bits() {
        ringkeeper::types::set_hash_seed(bits);
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    std::process::exit(ringkeeper::server::main().code());
}
