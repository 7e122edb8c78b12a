//! The edge: sockets on one side, a shard on the other, one executor.
//!
//! One task reads each connection and feeds the bytes to the shard; one task makes the turns. A
//! read only marks that a turn is due, so everything that the kernel had ready is read before the
//! turn runs: that is the batch. A turn ends with one write per connection that has output.
//!
//! What bounds what: a connection whose output stands above its limit, or whose shard is out of
//! credits, is not read (its peer meets TCP's own back-pressure). What the kernel did not take is
//! held once per connection, and no further output is taken from the shard before it is gone: there
//! it counts, and the shard closes a connection that does not drain. A connection that does not say
//! in time what it wants, or does not take its last bytes in time, is ended.

use super::fourletter;
use super::front::Front;
use crate::proto::first_bytes::{FirstBytes, first_bytes};
use crate::rt::listener::Listener;
use crate::rt::socket::{Reader, Socket, Writer};
use crate::rt::{self, Event};
use crate::shard::{ClientAddress, Output};
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
    /// Output was taken from the shard, and the kernel has not taken all of it.
    pub draining: Cell<bool>,
    /// There was more meanwhile.
    pub held_up: Cell<bool>,
    /// Close when everything is handed over.
    pub closing: Cell<bool>,
    /// Wakes the reading task: input may be wanted again.
    pub resume: Event,
}

/// Accepts connections until the executor ends.
pub async fn accept(front: Rc<Front>, listener: Listener) {
    loop {
        let (socket, peer) = listener.accept().await;
        if front.process.is_stopping() || !front.process.admit(peer.ip()) {
            socket.abort();
            continue;
        }
        serve(&front, socket, peer);
    }
}

/// Serves a connection that was admitted.
pub fn serve(front: &Rc<Front>, socket: Socket, peer: SocketAddr) {
    serve_and(front, socket, peer, || {});
}

/// The same; `gone` is called when it has ended.
pub fn serve_and(
    front: &Rc<Front>,
    socket: Socket,
    peer: SocketAddr,
    gone: impl FnOnce() + 'static,
) {
    let front = front.clone();
    rt::spawn(async move {
        connection(&front, socket, peer).await;
        front.process.leave(peer.ip());
        gone();
    });
}

/// One connection from its first byte to its end.
async fn connection(front: &Rc<Front>, socket: Socket, peer: SocketAddr) {
    let Socket { mut reader, writer } = socket;
    let mut first = [0u8; READ_MIN];
    let mut have = 0;
    let in_time = front.expect_first_bytes(&writer);
    let opening = loop {
        match first_bytes(&first[..have]) {
            FirstBytes::NeedMore => {}
            other => break other,
        }
        match reader.read(&mut first[have..]).await {
            Ok(n) if n > 0 => have += n,
            _ => break FirstBytes::Interrupt,
        }
    };
    match opening {
        FirstBytes::FourLetter(word) => {
            if let Some(text) = fourletter::answer(front, word, peer).await {
                let _ = writer.send_all(text.as_bytes()).await;
            }
        }
        FirstBytes::Interrupt | FirstBytes::NeedMore => {}
        FirstBytes::Frame => {
            in_time.set(true);
            let wire = Rc::new(Wire {
                writer,
                draining: Cell::new(false),
                held_up: Cell::new(false),
                closing: Cell::new(false),
                resume: Event::default(),
            });
            let peer = ClientAddress {
                address: java_text(peer.ip()),
                port: peer.port(),
            };
            if let Some(conn) = front.open(&wire, peer) {
                front.receive(conn, &first[..have]);
                read(front, &wire, conn, &mut reader).await;
                front.closed(conn);
            }
        }
    }
    in_time.set(true);
}

/// Reads until the peer, the socket or the shard ends it.
async fn read(front: &Rc<Front>, wire: &Wire, conn: ConnId, reader: &mut Reader) {
    let mut buffer = vec![0u8; READ_MIN];
    loop {
        while !front.wants_input(conn) {
            wire.resume.wait().await;
            if wire.closing.get() && !wire.draining.get() {
                return;
            }
        }
        match reader.read(&mut buffer).await {
            Ok(n) if n > 0 => {
                front.receive(conn, &buffer[..n]);
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

/// Hands a turn's output to the kernel without waiting; what it does not take is left to a task.
/// The wire is marked as draining; one output is under way at a time.
pub fn send(front: &Rc<Front>, wire: &Rc<Wire>, conn: ConnId, output: Output) {
    wire.closing.set(output.close);
    if output.reset {
        // Whoever still waits for the kernel on this connection sees its end.
        wire.writer.shutdown();
        wire.resume.notify();
        return;
    }
    let bytes = output.bytes;
    let sent = match wire.writer.send_now(&bytes) {
        Ok(n) => n,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
        // The reading task sees the same end.
        Err(_) => bytes.len(),
    };
    if sent == bytes.len() {
        finish(front, wire, conn);
        return;
    }
    if output.close {
        front.expect_drained(wire);
    }
    let (front, wire) = (front.clone(), wire.clone());
    rt::spawn(async move {
        if wire.writer.send_all(&bytes[sent..]).await.is_err() {
            wire.writer.shutdown();
        }
        finish(&front, &wire, conn);
    });
}

fn finish(front: &Front, wire: &Wire, conn: ConnId) {
    front.drained(wire, conn);
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
