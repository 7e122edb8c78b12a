//! The client protocol on the wire: framing, handshake, requests, replies, events
//! (client.md §1). Bytes in, values out, and back; no state.

pub mod reply;
pub mod request;

pub use request::{ConnectRequest, ReadRequest, Request};
