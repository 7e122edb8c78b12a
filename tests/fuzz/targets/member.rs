//! A whole member, inline, on a disk in memory: what several clients can do with their bytes.
//!
//! The input is a script of steps: a byte that says what and who, a byte of length, and that many
//! bytes. Frames get their length, requests their header, and a handshake its session from the
//! script's driver, so that few inputs are wasted on what the decoders refuse; a `RAW` step sends
//! bytes as they are.

#![no_main]

#[path = "../src/driver.rs"]
mod driver;
#[path = "../src/memory.rs"]
#[allow(dead_code)]
mod memory;

use driver::{CLIENTS, Driver};
use libfuzzer_sys::fuzz_target;

/// Steps of one script; more only make it slow.
const STEPS_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let mut driver = Driver::new();
    let mut script = input;
    for _ in 0..STEPS_MAX {
        let [what, length, rest @ ..] = script else {
            break;
        };
        // Lengths above 64 in steps, up to 16 KiB: large frames from short scripts.
        let length = match usize::from(*length) {
            length @ 0..64 => length,
            length => (length - 63) * 84,
        };
        let (bytes, rest) = rest.split_at(length.min(rest.len()));
        script = rest;
        let client = usize::from(what >> 4) % CLIENTS;
        match what & 0xf {
            0 => driver.receive(client, bytes),
            1 => driver.receive(client, &framed(bytes)),
            2..=5 => driver.request(client, bytes),
            6 => driver.multiple(client, bytes),
            7 => driver.fill(client, bytes),
            8 => driver.connect(client, client),
            9 => driver.connect(
                client,
                bytes.first().map_or(0, |b| usize::from(*b) % CLIENTS),
            ),
            10 => driver.hang_up(client),
            11 => driver.pass(u64::from(bytes.first().copied().unwrap_or(1)) * 100),
            12 => driver.synchronise(),
            13 => driver.repeat(client, bytes),
            14 => driver.stall(client),
            _ => driver.settle(),
        }
    }
    driver.settle();
    driver.pass(60_000);
    driver.settle();
});

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
    frame.extend(bytes);
    frame
}
