//! The listening socket. It is made here and not by glommio, whose listener sets SO_REUSEPORT: a
//! second server on the same port would start silently.

use super::socket::Socket;
use glommio::net::TcpListener;
use socket2::{Domain, Protocol, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

/// Pause after a failed accept: without it a full descriptor table would take the whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound port.
pub struct Bound(socket2::Socket);

/// A port being listened on, inside an executor.
pub struct Listener(TcpListener);

/// Binds and listens; connections are queued from now on.
///
/// # Errors
/// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, as the operating system says.
pub fn bind(address: SocketAddr, backlog: i32) -> io::Result<Bound> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(Bound(socket))
}

impl Bound {
    /// The address, with the port that the kernel chose for 0.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("not an internet address"))
    }

    /// Moves the socket into the executor of this thread.
    pub fn into_listener(self) -> Listener {
        // SAFETY: the descriptor is a listening socket and is handed over.
        Listener(unsafe { TcpListener::from_raw_fd(self.0.into_raw_fd()) })
    }
}

impl Listener {
    /// The next connection. Errors (no descriptor left, a peer that has gone) are waited out.
    pub async fn accept(&self) -> (Socket, SocketAddr) {
        loop {
            let accepted = self.0.accept().await;
            if let Ok(stream) = accepted
                && let Ok(peer) = stream.peer_addr()
                && let Ok(socket) = Socket::new(stream)
            {
                return (socket, peer);
            }
            super::sleep(ACCEPT_PAUSE).await;
        }
    }
}
