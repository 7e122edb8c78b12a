//! An accepted connection: an end that one task reads, and an end that the turn writes.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::rc::Rc;

/// Both ends of a fresh connection.
pub struct Socket {
    /// For the reading task.
    pub reader: Reader,
    /// For the turn.
    pub writer: Writer,
}

/// Reads; closes the connection when dropped.
pub struct Reader {
    stream: TcpStream,
    fd: Rc<Cell<Option<RawFd>>>,
}

/// Writes without waiting. Does not keep the connection open: when the reader is gone every write
/// fails, so a descriptor that was given to another connection is never touched.
#[derive(Clone)]
pub struct Writer {
    fd: Rc<Cell<Option<RawFd>>>,
}

impl Socket {
    /// A connection that another thread has accepted, for the executor of this one.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn adopt(stream: std::net::TcpStream) -> io::Result<Socket> {
        // SAFETY: the descriptor is a connected socket and is handed over.
        Socket::new(unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) })
    }

    /// Sets what glommio's accept leaves out.
    pub(super) fn new(stream: TcpStream) -> io::Result<Socket> {
        stream
            .set_nodelay(true)
            .map_err(|e| io::Error::other(e.to_string()))?;
        let fd = stream.as_raw_fd();
        // SAFETY: the descriptor is open, and the call takes no pointer.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = Rc::new(Cell::new(Some(fd)));
        Ok(Socket {
            reader: Reader {
                stream,
                fd: fd.clone(),
            },
            writer: Writer { fd },
        })
    }

    /// Ends the connection with a reset, before any byte.
    pub fn abort(self) {
        // Not shut down in good order first.
        self.reader.fd.set(None);
        reset_on_close(self.reader.stream.as_raw_fd());
    }
}

/// The same for a socket that no executor has yet.
pub fn abort(stream: std::net::TcpStream) {
    reset_on_close(stream.as_raw_fd());
}

fn reset_on_close(fd: RawFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: a valid linger of the size given; the caller has the descriptor open.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size,
        );
    }
}

impl Reader {
    /// Whatever the kernel has, at most a buffer full; waits for at least one byte. 0 is the end.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).await
    }
}

impl Drop for Reader {
    /// Ends the connection also for a writer that still waits for the peer on a duplicate.
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            // SAFETY: the descriptor is open until `stream` is dropped; the call takes no pointer.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        }
    }
}

impl Writer {
    fn fd(&self) -> io::Result<RawFd> {
        self.fd
            .get()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// Hands bytes to the kernel: as many as it takes at once.
    ///
    /// # Errors
    /// `WouldBlock` if it takes none; anything else: the connection is gone.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `bytes` is readable for its length; the descriptor is the connection's own.
        let n = unsafe { libc::send(self.fd()?, bytes.as_ptr().cast(), bytes.len(), flags) };
        if n < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(n as usize)
        }
    }

    /// Hands over all bytes, waiting for the peer as long as it takes: the slow way.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the call takes no pointer.
        let own = unsafe { libc::fcntl(self.fd()?, libc::F_DUPFD_CLOEXEC, 0) };
        if own < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just duplicated and is handed over.
        let mut stream = unsafe { TcpStream::from_raw_fd(own) };
        stream.write_all(bytes).await
    }

    /// Ends both directions after what was handed over; the reader then sees the end.
    pub fn shutdown(&self) {
        if let Ok(fd) = self.fd() {
            // SAFETY: the call takes no pointer.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        }
    }
}
