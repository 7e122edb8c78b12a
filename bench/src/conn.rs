//! Bytes in and out of a non-blocking socket, for the generator and the stub alike.

use crate::failure::Failure;
use crate::sys::Poller;
use crate::wire;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// What a thread reads into; connections keep only what was cut off.
pub const SCRATCH_BYTES: usize = 256 << 10;

/// How a read went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// This many bytes are in the scratch buffer.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The other side has closed, or the connection is broken.
    End,
}

/// Reads what is there, once: epoll tells if there is more.
pub fn receive(stream: &mut TcpStream, scratch: &mut [u8]) -> Got {
    match stream.read(scratch) {
        Ok(0) => Got::End,
        Ok(n) => Got::Bytes(n),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Got::Nothing
        }
        Err(_) => Got::End,
    }
}

/// The start of a frame whose rest has not come yet.
#[derive(Default)]
pub struct Inbound {
    carry: Vec<u8>,
}

impl Inbound {
    /// Hands each frame's payload that is now whole to `each`.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.carry.is_empty() {
            let used = wire::split(bytes, each)?;
            self.carry.extend_from_slice(&bytes[used..]);
        } else {
            self.carry.extend_from_slice(bytes);
            let used = wire::split(&self.carry, each)?;
            self.carry.drain(..used);
        }
        Ok(())
    }
}

/// Bytes that wait for room in the socket.
#[derive(Default)]
pub struct Outbound {
    /// To append frames to.
    pub buffer: Vec<u8>,
    written: usize,
    watched: bool,
}

impl Outbound {
    /// Whether something waits.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Writes what fits and asks the poller for the rest, if there is one.
    pub fn flush(&mut self, stream: &mut TcpStream, poller: &Poller, token: u64) -> io::Result<()> {
        while self.written < self.buffer.len() {
            match stream.write(&self.buffer[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let rest = self.written < self.buffer.len();
        if !rest {
            self.buffer.clear();
            self.written = 0;
        }
        if rest != self.watched {
            poller.change(&*stream, token, rest)?;
            self.watched = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_they_were_cut() {
        let mut stream = Vec::new();
        for xid in 1..=3 {
            wire::get_data(&mut stream, xid, "/a/b", false);
        }
        for cut in 1..stream.len() {
            let mut inbound = Inbound::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                inbound
                    .feed(piece, |payload| {
                        seen.push(payload.to_vec());
                        Ok(())
                    })
                    .unwrap();
            }
            let xids: Vec<u8> = seen.iter().map(|payload| payload[3]).collect();
            assert_eq!(xids, [1, 2, 3], "cut every {cut} bytes");
        }
    }
}
