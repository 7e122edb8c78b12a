//! Decoders and parsers alone: the first byte chooses which one sees the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringkeeper::config;
use ringkeeper::proto;
use ringkeeper::proto::request::{ConnectRequest, Request};
use ringkeeper::txn::Entry;

fuzz_target!(|input: &[u8]| {
    let Some((&which, rest)) = input.split_first() else {
        return;
    };
    match which % 5 {
        0 => drop(ConnectRequest::decode(rest)),
        1 => drop(Request::decode(rest)),
        2 => drop(Entry::decode(rest)),
        3 => frames(rest),
        _ => {
            let text = format!("dataDir=/data\n{}", String::from_utf8_lossy(rest));
            drop(config::from_file(&text, &[]));
        }
    }
});

/// Frames of a stream, each decoded as a request.
fn frames(mut stream: &[u8]) {
    while let proto::Frame::Whole(payload, taken) = proto::split_frame(stream, 1 << 16) {
        drop(Request::decode(payload));
        stream = &stream[taken..];
    }
}
