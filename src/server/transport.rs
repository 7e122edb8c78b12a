//! How a client's bytes travel. Everything above sees the protocol's bytes only: a transport that
//! encrypts will decrypt in `read` and encrypt in `write`, and keep what it has not handed over.

use crate::placement::{Read, Wrote};
use crate::rt::net::Socket;
use std::io;

/// A client's connection.
pub enum Transport {
    /// As the bytes are.
    Plain(Socket),
}

impl Transport {
    /// The descriptor below.
    pub fn socket(&self) -> &Socket {
        match self {
            Transport::Plain(socket) => socket,
        }
    }

    /// The descriptor, for somebody else to serve.
    pub fn into_socket(self) -> Socket {
        match self {
            Transport::Plain(socket) => socket,
        }
    }

    /// Takes what has come.
    ///
    /// One exception to "a short read was all": the kernel ends a read before an urgent byte (MSG_OOB),
    /// with SO_OOBINLINE too, and what follows is taken with the next bytes that come. No client of the
    /// protocol sends urgent bytes, who does delays its own requests only, and to ask once more would
    /// cost everybody a system call for each read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Read {
        let Transport::Plain(socket) = self;
        match socket.receive(buffer) {
            Ok(0) => Read::End,
            Ok(n) if n == buffer.len() => Read::More(n),
            Ok(n) => Read::All(n),
            Err(e) if is_for_now(&e) => Read::Nothing,
            Err(_) => Read::End,
        }
    }

    /// Hands bytes over. After an error that is not for now nothing is known about what has left, so
    /// the connection is over: a stream with a hole must not stay open.
    pub fn write(&mut self, bytes: &[u8]) -> Wrote {
        let Transport::Plain(socket) = self;
        match socket.send(bytes) {
            Ok(n) => Wrote::Bytes(n),
            Err(e) if is_for_now(&e) => Wrote::Nothing,
            Err(_) => Wrote::Gone,
        }
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    fn pair() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let socket = Socket::from(OwnedFd::from(server));
        (Transport::Plain(socket), client)
    }

    #[test]
    fn a_full_buffer_says_that_there_may_be_more() {
        let (mut transport, mut client) = pair();
        client.write_all(b"12345").unwrap();
        let mut buffer = [0; 3];
        let mut read = || loop {
            match transport.read(&mut buffer) {
                Read::Nothing => std::thread::yield_now(),
                read => return read,
            }
        };
        assert_eq!(read(), Read::More(3));
        assert_eq!(read(), Read::All(2));
        drop(client);
        assert_eq!(read(), Read::End);
    }

    #[test]
    fn a_peer_that_does_not_read_is_waited_for_and_one_that_is_gone_is_not() {
        let (mut transport, client) = pair();
        let bytes = vec![7; 1 << 20];
        while transport.write(&bytes) != Wrote::Nothing {}
        drop(client);
        while transport.write(&bytes) == Wrote::Nothing {}
        assert_eq!(transport.write(&bytes), Wrote::Gone);
    }
}
