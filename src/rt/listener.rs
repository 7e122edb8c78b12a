//! The listening socket. It is made here and not by glommio, whose listener sets SO_REUSEPORT: a
//! second server on the same port would start silently.

use super::socket::Socket;
use glommio::GlommioError;
use glommio::net::TcpListener;
use socket2::{Domain, Protocol, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

/// Pause after a failed accept: without it a full descriptor table would take the whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound port. Nobody can connect yet.
pub struct Bound {
    socket: socket2::Socket,
    backlog: i32,
}

/// A port being listened on, inside an executor.
pub struct Listener(TcpListener);

/// Binds. Connections are refused until the server serves.
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
    Ok(Bound { socket, backlog })
}

impl Bound {
    /// The address, with the port that the kernel chose for 0.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("not an internet address"))
    }

    /// Listens, and moves the socket into the executor of this thread.
    ///
    /// # Errors
    /// `AddrInUse` if another process has begun to listen meanwhile.
    pub fn listen(self) -> io::Result<Listener> {
        self.socket.listen(self.backlog)?;
        // SAFETY: the descriptor is a listening socket and is handed over.
        Ok(Listener(unsafe {
            TcpListener::from_raw_fd(self.socket.into_raw_fd())
        }))
    }

    /// Listens, and accepts on a thread of its own: no serving core is woken for a connection that
    /// another one will serve. The thread ends with the process.
    ///
    /// # Errors
    /// As [`Bound::listen`]; no thread.
    pub fn accept_on_thread(
        self,
        mut hand_over: impl FnMut(std::net::TcpStream, SocketAddr) + Send + 'static,
    ) -> io::Result<()> {
        self.socket.listen(self.backlog)?;
        let listener = std::net::TcpListener::from(self.socket);
        let accept = move || {
            loop {
                match listener.accept() {
                    Ok((stream, peer)) => hand_over(stream, peer),
                    Err(e) if is_exhausted(&e) => std::thread::sleep(ACCEPT_PAUSE),
                    Err(_) => {}
                }
            }
        };
        std::thread::Builder::new()
            .name("accept".into())
            .spawn(accept)?;
        Ok(())
    }
}

/// Whether accepting again at once would fail again; a peer that has gone already is no reason to
/// wait.
fn is_exhausted(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error
        .raw_os_error()
        .is_none_or(|code| codes.contains(&code))
}

impl Listener {
    /// The next connection. Errors (no descriptor left, a peer that has gone) are waited out.
    pub async fn accept(&self) -> (Socket, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(stream) => {
                    if let Ok(peer) = stream.peer_addr()
                        && let Ok(socket) = Socket::new(stream)
                    {
                        return (socket, peer);
                    }
                }
                Err(GlommioError::IoError(e)) if !is_exhausted(&e) => {}
                Err(_) => super::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}
