//! The edge of the inline placement: sockets on one side, the shard on the other, one executor.
//!
//! One task reads each connection and feeds the bytes to the shard; one task makes the turns. A
//! read only marks that a turn is due, so everything that the kernel had ready is read before the
//! turn runs: that is the batch. A turn ends with one write per connection that has output.
//!
//! What bounds what: a connection whose output stands above its limit, or whose shard is out of
//! credits, is not read (its peer meets TCP's own back-pressure). What the kernel did not take is
//! held once per connection, and no further output is taken from the shard before it is gone: there
//! it counts, and the shard closes a connection that does not drain.

use super::fourletter;
use super::state::Shared;
use crate::rt::listener::Listener;
use crate::rt::socket::{Reader, Socket, Writer};
use crate::rt::{self, Event};
use crate::shard::Peer;
use crate::shard::edge::{FirstBytes, first_bytes};
use crate::types::ConnId;
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// Smallest and largest read buffer of a connection, bytes: idle connections stay small, busy ones
/// read everything that the kernel has at once.
const READ_MIN: usize = 512;
const READ_MAX: usize = 64 << 10;

/// What the turn needs of an open connection.
pub struct Wire {
    /// The socket's writing end.
    pub writer: Writer,
    /// A task is waiting for the kernel to take more.
    pub draining: Cell<bool>,
    /// Close when everything is handed over.
    pub closing: Cell<bool>,
    /// Wakes the reading task: input may be wanted again.
    pub resume: Event,
}

/// Accepts connections until the executor ends.
pub async fn accept(shared: Rc<Shared>, listener: Listener) {
    loop {
        let (socket, peer) = listener.accept().await;
        if shared.is_stopping() || !shared.admit(peer.ip()) {
            socket.abort();
            continue;
        }
        let shared = shared.clone();
        rt::spawn(async move {
            connection(&shared, socket, peer).await;
            shared.leave(peer.ip());
        });
    }
}

/// One connection from its first byte to its end.
async fn connection(shared: &Rc<Shared>, socket: Socket, peer: SocketAddr) {
    let Socket { mut reader, writer } = socket;
    let mut first = [0u8; READ_MIN];
    let mut have = 0;
    let opening = loop {
        match first_bytes(&first[..have]) {
            FirstBytes::NeedMore => {}
            other => break other,
        }
        match reader.read(&mut first[have..]).await {
            Ok(n) if n > 0 => have += n,
            _ => return,
        }
    };
    match opening {
        FirstBytes::FourLetter(word) => {
            if let Some(text) = fourletter::answer(shared, word, peer) {
                let _ = writer.send_all(text.as_bytes()).await;
            }
        }
        FirstBytes::Interrupt | FirstBytes::NeedMore => {}
        FirstBytes::Frame => {
            let wire = Rc::new(Wire {
                writer,
                draining: Cell::new(false),
                closing: Cell::new(false),
                resume: Event::default(),
            });
            let peer = Peer {
                address: java_text(peer.ip()),
                port: peer.port(),
            };
            let conn = shared.open(&wire, peer);
            shared.receive(conn, &first[..have]);
            read(shared, &wire, conn, &mut reader).await;
            shared.closed(conn);
        }
    }
}

/// Reads until the peer, the socket or the shard ends it.
async fn read(shared: &Rc<Shared>, wire: &Wire, conn: ConnId, reader: &mut Reader) {
    let mut buffer = vec![0u8; READ_MIN];
    loop {
        while !shared.wants_input(conn) {
            wire.resume.wait().await;
            if wire.closing.get() && !wire.draining.get() {
                return;
            }
        }
        match reader.read(&mut buffer).await {
            Ok(n) if n > 0 => {
                shared.receive(conn, &buffer[..n]);
                if n == buffer.len() && n < READ_MAX {
                    buffer.resize(n * 4, 0);
                } else if n * 16 < buffer.len() && buffer.len() > READ_MIN {
                    buffer = vec![0u8; READ_MIN];
                }
            }
            _ => return,
        }
    }
}

/// Hands a turn's output to the kernel without waiting; what it does not take is left to a task,
/// and `drained` is called when that has gone.
pub fn send(wire: &Rc<Wire>, bytes: Vec<u8>, close: bool, drained: impl FnOnce() + 'static) {
    wire.closing.set(close);
    let sent = match wire.writer.send_now(&bytes) {
        Ok(n) => n,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
        // The reading task sees the same end.
        Err(_) => bytes.len(),
    };
    if sent == bytes.len() {
        finish(wire);
        return;
    }
    wire.draining.set(true);
    let wire = wire.clone();
    rt::spawn(async move {
        if wire.writer.send_all(&bytes[sent..]).await.is_err() {
            wire.writer.shutdown();
        }
        wire.draining.set(false);
        finish(&wire);
        drained();
    });
}

fn finish(wire: &Wire) {
    if wire.closing.get() {
        wire.writer.shutdown();
    }
    wire.resume.notify();
}

/// The text of an address as the `ip` scheme shows it: IPv6 in eight groups, none left out.
pub fn java_text(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let groups: Vec<String> = ip.segments().iter().map(|g| format!("{g:x}")).collect();
            groups.join(":")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_does() {
        assert_eq!(java_text("127.0.0.1".parse().unwrap()), "127.0.0.1");
        assert_eq!(java_text("::1".parse().unwrap()), "0:0:0:0:0:0:0:1");
        assert_eq!(java_text("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1");
    }
}
