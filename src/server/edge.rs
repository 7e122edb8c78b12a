//! The edge of the inline placement: sockets on one side, [`Inline`] on the other, in one executor.
//!
//! One task reads each connection and feeds the bytes to the shard; one task makes the turns. A
//! read only marks that a turn is due, so everything that the kernel had ready is read before the
//! turn runs: that is the batch. A turn ends with one write per connection that has output.
//!
//! What bounds what: a connection whose output stands above `OUTPUT_MAX`, or whose shard is out of
//! credits, is not read (its peer meets TCP's own back-pressure); the output that the kernel did not
//! take stays in one buffer per connection, and the shard closes a connection that does not drain.

use super::fourletter;
use super::state::Shared;
use crate::rt::{self, socket::Socket};
use crate::shard::Peer;
use crate::types::ConnId;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

/// Smallest and largest read buffer of a connection, bytes: idle connections stay small, busy ones
/// read everything that the kernel has at once.
const READ_MIN: usize = 512;
const READ_MAX: usize = 64 << 10;

/// What the turn needs of an open connection.
pub struct Wire {
    /// The socket; shared by the reading task and the turn.
    pub socket: Socket,
    /// Bytes that the kernel did not take yet.
    pub unsent: RefCell<Vec<u8>>,
    /// A task is waiting for the socket to take them.
    pub draining: Cell<bool>,
    /// Close when `unsent` is empty.
    pub closing: Cell<bool>,
    /// Wakes the reading task when input is wanted again.
    pub resume: rt::Event,
}

/// Accepts connections until told to stop.
pub async fn accept(shared: Rc<Shared>, listener: rt::listener::Listener) {
    loop {
        let (socket, peer) = listener.accept().await;
        if shared.stopping.get() {
            return;
        }
        if !shared.admit(peer.ip()) {
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
    let mut first = [0u8; READ_MIN];
    let mut have = 0;
    while have < 4 {
        match socket.read(&mut first[have..]).await {
            Ok(n) if n > 0 => have += n,
            _ => return,
        }
    }
    if let Some(word) = fourletter::Word::parse(&first[..4]) {
        let text = fourletter::answer(shared, word, peer);
        let _ = socket.write_all(text.as_bytes()).await;
        socket.shutdown();
        return;
    }
    let wire = Rc::new(Wire {
        socket,
        unsent: RefCell::default(),
        draining: Cell::new(false),
        closing: Cell::new(false),
        resume: rt::Event::default(),
    });
    let conn = shared.open(&wire, Peer { address: peer.ip().to_string(), port: peer.port() });
    shared.receive(conn, &first[..have]);
    read(shared, &wire, conn).await;
    shared.closed(conn);
}

/// Reads until the peer, the socket or the shard ends it.
async fn read(shared: &Rc<Shared>, wire: &Wire, conn: ConnId) {
    let mut buffer = vec![0u8; READ_MIN];
    loop {
        while !shared.wants_input(conn) {
            if shared.is_gone(conn) {
                return;
            }
            wire.resume.wait().await;
        }
        match wire.socket.read(&mut buffer).await {
            Ok(n) if n > 0 => {
                shared.receive(conn, &buffer[..n]);
                if n == buffer.len() && n < READ_MAX {
                    buffer.resize(n * 4, 0);
                } else if n * 8 < buffer.len() && buffer.len() > READ_MIN {
                    buffer = vec![0u8; READ_MIN];
                }
            }
            _ => return,
        }
        if shared.is_gone(conn) {
            return;
        }
    }
}

/// Hands bytes to the kernel without waiting; what it does not take is left to a task.
pub fn send(wire: &Rc<Wire>, bytes: &[u8], close: bool, on_drained: impl FnOnce() + 'static) {
    wire.closing.set(wire.closing.get() || close);
    if wire.draining.get() {
        wire.unsent.borrow_mut().extend_from_slice(bytes);
        return;
    }
    let sent = match wire.socket.send_now(bytes) {
        Ok(n) => n,
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => 0,
        Err(_) => {
            wire.socket.shutdown();
            return;
        }
    };
    if sent == bytes.len() {
        if wire.closing.get() {
            wire.socket.shutdown();
        }
        return;
    }
    wire.unsent.borrow_mut().extend_from_slice(&bytes[sent..]);
    wire.draining.set(true);
    let wire = wire.clone();
    rt::spawn(async move {
        drain(&wire).await;
        on_drained();
    });
}

async fn drain(wire: &Wire) {
    loop {
        let batch = std::mem::take(&mut *wire.unsent.borrow_mut());
        if batch.is_empty() {
            break;
        }
        if wire.socket.write_all(&batch).await.is_err() {
            wire.socket.shutdown();
            break;
        }
    }
    wire.draining.set(false);
    if wire.closing.get() {
        wire.socket.shutdown();
    }
}
