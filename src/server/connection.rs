//! The sockets of one data core: what a turn sees of them, over descriptors and the core's io_uring.

use super::address::java_text;
use super::mailbox::{Mailbox, Mailboxes};
use super::process::Process;
use super::transport::Transport;
use super::words::{self, Said};
use crate::placement::{Accepted, Read, SocketId, Sockets, Wrote};
use crate::rt::background::Executor;
use crate::rt::net::{self, Listener, Socket};
use crate::rt::ring::{Key, Ring};
use crate::shard::ClientAddress;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// One client's connection.
struct Client {
    transport: Transport,
    peer: SocketAddr,
}

/// Every socket of a data core, by its slot, and the ring that watches them.
pub struct ClientSockets {
    /// Says which sockets are ready.
    pub ring: Ring,
    clients: Vec<Option<(SocketId, Client)>>,
    /// Inline, and at the ordering core, which hands what it accepts to the shards.
    listener: Option<Listener>,
    /// No descriptor or memory was left for the last connection that waited.
    pub exhausted: bool,
    process: Arc<Process>,
    /// Where four-letter words are answered.
    words: Arc<Executor>,
    mailboxes: Arc<Mailboxes>,
    /// Of this core, if the sockets handed to it are counted.
    own: Option<Arc<Mailbox>>,
}

impl ClientSockets {
    /// Without connections; `listener` if this core accepts.
    pub fn new(
        mut ring: Ring,
        listener: Option<Listener>,
        process: Arc<Process>,
        words: Arc<Executor>,
        mailboxes: Arc<Mailboxes>,
        own: Option<Arc<Mailbox>>,
    ) -> ClientSockets {
        if let Some(listener) = &listener {
            ring.watch_listener(listener);
        }
        ClientSockets {
            ring,
            clients: Vec::new(),
            listener,
            exhausted: false,
            process,
            words,
            mailboxes,
            own,
        }
    }

    /// Closes the listening socket: nobody can connect any more.
    pub fn stop_listening(&mut self) {
        if self.listener.is_some() {
            self.ring.forget_listener();
            self.listener = None;
        }
    }

    /// Takes a connection over that is known as `id`.
    pub fn insert(&mut self, id: SocketId, socket: Socket, peer: SocketAddr) {
        self.ring.watch(&socket, key(id));
        let slot = id.slot as usize;
        if slot >= self.clients.len() {
            self.clients.resize_with(slot + 1, || None);
        }
        let transport = Transport::Plain(socket);
        let before = self.clients[slot].replace((id, Client { transport, peer }));
        assert!(before.is_none(), "a slot is empty when it is used again");
    }

    /// A connection that waits at the listening socket and is within the limits; one that is not is
    /// reset.
    pub fn accept_admitted(&mut self) -> Admitted {
        let Some(listener) = &self.listener else {
            return Admitted::Nobody;
        };
        match listener.accept() {
            net::Accepted::Connection(socket, peer) if self.process.admit(peer.ip()) => {
                Admitted::Connection(socket, peer)
            }
            net::Accepted::Connection(socket, _) => {
                socket.reset_on_close();
                Admitted::Dropped
            }
            net::Accepted::Gone => Admitted::Dropped,
            net::Accepted::Nobody => Admitted::Nobody,
            net::Accepted::Exhausted => {
                self.exhausted = true;
                Admitted::Exhausted
            }
        }
    }

    fn client(&mut self, id: SocketId) -> Option<&mut Client> {
        match self.clients.get_mut(id.slot as usize)? {
            Some((its, client)) if *its == id => Some(client),
            _ => None,
        }
    }

    fn take(&mut self, id: SocketId) -> Option<Client> {
        self.client(id)?;
        self.ring.forget(key(id));
        let (_, client) = self.clients[id.slot as usize].take()?;
        if let Some(own) = &self.own {
            own.sockets.fetch_sub(1, Relaxed);
        }
        Some(client)
    }
}

/// What [`ClientSockets::accept_admitted`] gave.
pub enum Admitted {
    /// A connection, which is counted.
    Connection(Socket, SocketAddr),
    /// One that was turned away or had gone.
    Dropped,
    /// Nobody waits.
    Nobody,
    /// No descriptor or memory is left.
    Exhausted,
}

/// A client's address as the shard shows it.
pub fn client_address(peer: SocketAddr) -> ClientAddress {
    ClientAddress {
        address: java_text(peer.ip()),
        port: peer.port(),
    }
}

/// A socket's name at the ring: generations of sockets have 24 bits.
fn key(id: SocketId) -> Key {
    Key(u64::from(id.generation) << 32 | u64::from(id.slot))
}

/// The socket that the ring names.
pub fn socket_id(key: Key) -> SocketId {
    SocketId {
        slot: key.0 as u32,
        generation: (key.0 >> 32) as u32,
    }
}

impl Sockets for ClientSockets {
    fn accept(&mut self, id: SocketId) -> Accepted {
        match self.accept_admitted() {
            Admitted::Connection(socket, peer) => {
                self.insert(id, socket, peer);
                Accepted::Connection(client_address(peer))
            }
            Admitted::Dropped => Accepted::Dropped,
            Admitted::Nobody => Accepted::Nobody,
            Admitted::Exhausted => Accepted::Exhausted,
        }
    }

    fn waiting_max(&self) -> usize {
        self.listener.as_ref().map_or(0, Listener::waiting_max)
    }

    fn handed_over(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.connections())
    }

    fn has_told_all(&self) -> bool {
        self.ring.has_told_all()
    }

    fn read(&mut self, id: SocketId, buffer: &mut [u8]) -> Read {
        self.client(id)
            .map_or(Read::End, |client| client.transport.read(buffer))
    }

    fn write(&mut self, id: SocketId, bytes: &[u8]) -> Wrote {
        self.client(id)
            .map_or(Wrote::Gone, |client| client.transport.write(bytes))
    }

    fn unacknowledged(&mut self, id: SocketId) -> usize {
        self.client(id)
            .map_or(0, |client| client.transport.socket().unacknowledged())
    }

    fn close(&mut self, id: SocketId) {
        if let Some(client) = self.take(id) {
            // The ring holds the kernel's file for a moment longer; the peer is told now.
            client.transport.socket().shutdown();
            self.process.leave(client.peer.ip());
        }
    }

    fn word(&mut self, id: SocketId, word: [u8; 4], behind: &[u8]) {
        let Some(Client { transport, peer }) = self.take(id) else {
            return;
        };
        let (process, mailboxes) = (self.process.clone(), self.mailboxes.clone());
        let fd = transport.into_socket().into_fd();
        let said = Said::new(word, behind, peer);
        let task = move || async move {
            words::serve(fd, said, &process, &mailboxes).await;
            process.leave_word(peer.ip());
            process.leave_process();
        };
        let is_within = self.process.admit_word(peer.ip());
        let is_taken = is_within && self.words.spawn(0, task).is_ok();
        if is_within && !is_taken {
            self.process.leave_word(peer.ip());
        }
        if !is_taken {
            // Too many words at once: this one closes without an answer.
            self.process.leave(peer.ip());
        }
    }
}
