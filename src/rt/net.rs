//! TCP sockets of a data core: every call returns at once, and the [`Ring`](super::ring::Ring) says
//! when to try again.

use socket2::{Domain, Protocol, SockAddr, Type};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A connection, or one that is being made. Dropping it closes it, unless a ring still watches it:
/// forget it there first.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// A bound port. Nobody can connect yet.
#[derive(Debug)]
pub struct Bound {
    socket: socket2::Socket,
    backlog: i32,
}

/// A port being listened on.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    backlog: i32,
}

/// Processors that add a connection at the same time to those that wait, at most: each of them may have seen
/// that there is room for one.
const PROCESSORS: usize = 1024;

/// What an attempt to accept brought.
#[derive(Debug)]
pub enum Accepted {
    /// A connection and its peer.
    Connection(Socket, SocketAddr),
    /// No connection waits; the ring says when to try again.
    Nobody,
    /// The connection was gone again; another one may wait.
    Gone,
    /// No descriptor or memory is left: the connection still waits, and trying again at once would
    /// fail again. The ring does not say when to try again.
    Exhausted,
}

/// Binds. Connections are refused until [`Bound::listen`]. The unspecified address, of either family,
/// is all interfaces and both families, if the machine has IPv6: so Java binds it.
///
/// SO_REUSEPORT is not set: with it a second server on the same port would start silently.
///
/// # Errors
/// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, as the operating system says.
pub fn bind(address: SocketAddr, backlog: i32) -> io::Result<Bound> {
    if !address.ip().is_unspecified() {
        return bind_exactly(address, backlog);
    }
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
    match bind_exactly(everywhere, backlog) {
        Err(error) if address.is_ipv4() && has_no_ipv6(&error) => bind_exactly(address, backlog),
        bound => bound,
    }
}

/// The same address on the interface of this name.
///
/// # Errors
/// `NotFound`: no interface of this name has an address of IPv6. Or the operating system's.
pub fn on_interface(address: SocketAddr, name: &str) -> io::Result<SocketAddr> {
    let addresses = std::fs::read_to_string("/proc/self/net/if_inet6")?;
    let number = number_of(name, &addresses).ok_or_else(|| {
        let what = format!("no interface {name} has an address of IPv6");
        io::Error::new(io::ErrorKind::NotFound, what)
    })?;
    Ok(match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(mut address) => {
            address.set_scope_id(number);
            address.into()
        }
    })
}

/// The number of an interface, from the kernel's list of addresses: address, number, length of the prefix, scope and
/// flags in hexadecimal, and the name.
fn number_of(name: &str, addresses: &str) -> Option<u32> {
    addresses.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let number = fields.nth(1)?;
        let is_it = fields.nth(3) == Some(name);
        is_it.then(|| u32::from_str_radix(number, 16).ok())?
    })
}

/// Whether `::` was refused because IPv6 is not built in or is switched off.
fn has_no_ipv6(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_exactly(address: SocketAddr, backlog: i32) -> io::Result<Bound> {
    let socket = stream_socket(address)?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(Bound { socket, backlog })
}

/// Not blocking, closed in children, and sends small pieces at once. Accepted connections inherit
/// the last of these from their listener, and get the others from accept4.
fn stream_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

impl Bound {
    /// The address, with the port that the kernel chose for 0.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        internet_address(&self.socket.local_addr()?)
    }

    /// Listens.
    ///
    /// # Errors
    /// `AddrInUse` if another process has begun to listen meanwhile.
    pub fn listen(self) -> io::Result<Listener> {
        self.socket.listen(self.backlog)?;
        Ok(Listener {
            socket: self.socket.into(),
            backlog: self.backlog.min(backlog_max()),
        })
    }
}

/// What the kernel makes of a larger backlog.
fn backlog_max() -> i32 {
    let said = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    said.trim().parse().unwrap_or(i32::MAX)
}

fn internet_address(address: &SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("not an internet address"))
}

impl Listener {
    /// Connections that wait to be accepted at the same time, at most.
    pub fn waiting_max(&self) -> usize {
        usize::try_from(self.backlog).unwrap_or(0) + PROCESSORS
    }

    /// The next connection that waits.
    pub fn accept(&self) -> Accepted {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket2 passes storage for an address of any family and its size. The descriptor
        // is fresh when the call has succeeded, and nobody else's.
        let accepted = unsafe {
            SockAddr::try_init(|storage, size| {
                let fd = libc::accept4(self.socket.as_raw_fd(), storage.cast(), size, flags);
                match fd {
                    0.. => Ok(OwnedFd::from_raw_fd(fd)),
                    _ => Err(io::Error::last_os_error()),
                }
            })
        };
        match accepted {
            Ok((fd, peer)) => match peer.as_socket() {
                // An IPv4 client of a socket for both families is known by its IPv4 address.
                Some(peer) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    Accepted::Connection(Socket(fd), peer)
                }
                None => Accepted::Gone,
            },
            Err(error) => refusal(error.raw_os_error().unwrap_or(0)),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What an error of accept4 means. Errors of the connection itself are passed on by accept4; an
/// error that is not known is not tried again at once.
fn refusal(code: i32) -> Accepted {
    match code {
        libc::EAGAIN => Accepted::Nobody,
        libc::ECONNABORTED | libc::ECONNRESET | libc::EINTR | libc::EPERM | libc::EPROTO => {
            Accepted::Gone
        }
        libc::ENETDOWN
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::ENONET
        | libc::ENOPROTOOPT
        | libc::EOPNOTSUPP
        | libc::ETIMEDOUT => Accepted::Gone,
        _ => Accepted::Exhausted,
    }
}

impl Socket {
    /// Begins to connect. The ring says "writable" when that is decided, and
    /// [`Socket::dial_outcome`] how.
    ///
    /// # Errors
    /// The address can't be reached, or no descriptor is left.
    pub fn dial(address: SocketAddr) -> io::Result<Socket> {
        let socket = stream_socket(address)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Socket(socket.into())),
        }
    }

    /// How [`Socket::dial`] went.
    ///
    /// # Errors
    /// `WouldBlock` while that is not decided; anything else: there is no connection.
    pub fn dial_outcome(&self) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.0);
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            outcome => outcome.map(drop),
        }
    }

    /// Receives what the kernel has, at most a buffer full. 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; anything else: the connection is gone.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (at, len) = (buffer.as_mut_ptr(), buffer.len());
        let (fd, flags) = (self.0.as_raw_fd(), libc::MSG_DONTWAIT);
        let nobody = std::ptr::null_mut::<libc::c_void>();
        // Not through `recv`, which the C library makes a point of cancellation: two atomic
        // operations around each call, and nobody here cancels threads.
        // SAFETY: `buffer` is writable for its length; the descriptor is open; no address is asked for.
        let n = unsafe { libc::syscall(libc::SYS_recvfrom, fd, at, len, flags, nobody, nobody) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// Hands bytes to the kernel: as many as it takes.
    ///
    /// # Errors
    /// `WouldBlock` if it takes none. Anything else, also want of memory: the connection is to be
    /// ended, because the stream must not go on behind a gap.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let (at, len) = (bytes.as_ptr(), bytes.len());
        let (fd, nobody) = (self.0.as_raw_fd(), std::ptr::null::<libc::c_void>());
        // Not through `send`, for the reason given in `receive`.
        // SAFETY: `bytes` is readable for its length; the descriptor is open; no address is given.
        let n = unsafe { libc::syscall(libc::SYS_sendto, fd, at, len, flags, nobody, 0) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// Bytes in the kernel's send queue that the other end has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one int, to a place that outlives the call; the descriptor is open.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        match done {
            0 => usize::try_from(bytes).unwrap_or(0),
            // No stream: nothing is under way.
            _ => 0,
        }
    }

    /// Lets the kernel end a connection whose other end is not there any more: after so long without a sign of life,
    /// also where nothing is sent. In seconds, at least one.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn keep_alive(&self, patience: Duration) -> io::Result<()> {
        let seconds = i32::try_from(patience.as_secs()).unwrap_or(i32::MAX).max(1);
        let ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // The first probe after half of the time, then three more.
        self.set_option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, (seconds / 2).max(1))?;
        self.set_option(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, (seconds / 6).max(1))?;
        self.set_option(libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3)?;
        self.set_option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ms)?;
        self.set_option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)
    }

    fn set_option(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        let (at, len) = ((&raw const value).cast(), size_of::<i32>() as u32);
        // SAFETY: the kernel reads one int, which outlives the call; the descriptor is open.
        match unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, at, len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Ends both directions, after the bytes that were handed to the kernel.
    pub fn shutdown(&self) {
        let _ = socket2::SockRef::from(&self.0).shutdown(std::net::Shutdown::Both);
    }

    /// Ends the sending direction, after the bytes that were handed to the kernel.
    pub fn shutdown_write(&self) {
        let _ = socket2::SockRef::from(&self.0).shutdown(std::net::Shutdown::Write);
    }

    /// Makes the close a reset, which overtakes bytes that were not delivered yet.
    pub fn reset_on_close(&self) {
        let _ = socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }

    /// The other end.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        internet_address(&socket2::SockRef::from(&self.0).peer_addr()?)
    }

    /// The descriptor, for another thread.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// For tests, and for a descriptor that was a [`Socket`] before.
impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Socket {
        Socket(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn anywhere() -> Bound {
        bind("127.0.0.1:0".parse().unwrap(), 8).unwrap()
    }

    #[test]
    fn a_port_is_bound_once_and_refuses_before_it_listens() {
        let bound = anywhere();
        let address = bound.address().unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = bound.listen().unwrap();
        let second = bind(address, 8).and_then(|bound| bound.listen());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let _client = TcpStream::connect(address).unwrap();
        drop(listener);
        bind(address, 8).unwrap().listen().unwrap();
    }

    #[test]
    fn no_more_wait_than_the_kernel_lets_wait() {
        let allowed = usize::try_from(backlog_max()).unwrap();
        for (backlog, waiting) in [(8, 8), (i32::MAX, allowed)] {
            let bound = bind("127.0.0.1:0".parse().unwrap(), backlog).unwrap();
            assert_eq!(bound.listen().unwrap().waiting_max(), waiting + PROCESSORS);
        }
        assert!(allowed < 1 << 20, "{allowed}");
    }

    #[test]
    fn an_interface_has_the_number_that_the_kernel_lists() {
        let listed = "fe80000000000000fc1234fffe560001 0a 40 20 80     eth0\n\
                      00000000000000000000000000000001 01 80 10 80       lo\n";
        let found = ["eth0", "lo", "eth", "80"].map(|name| number_of(name, listed));
        assert_eq!(found, [Some(10), Some(1), None, None]);
        let address = "[fe80::1]:7".parse().unwrap();
        assert!(on_interface(address, "no such").is_err());
    }

    #[test]
    fn accepted_and_dialled_sockets_do_not_block_or_delay_and_are_closed_in_children() {
        let bound = anywhere();
        let address = bound.address().unwrap();
        let listener = bound.listen().unwrap();
        let dialled = Socket::dial(address).unwrap();
        let Accepted::Connection(accepted, peer) = listener.accept() else {
            panic!("a connection waits");
        };
        assert_eq!(peer, accepted.peer().unwrap());
        for socket in [&dialled, &accepted] {
            let fd = socket.as_raw_fd();
            // SAFETY: the calls take no pointer.
            let (status, flags) = unsafe {
                (
                    libc::fcntl(fd, libc::F_GETFL),
                    libc::fcntl(fd, libc::F_GETFD),
                )
            };
            assert_ne!(status & libc::O_NONBLOCK, 0);
            assert_ne!(flags & libc::FD_CLOEXEC, 0);
            assert!(socket2::SockRef::from(&socket.0).tcp_nodelay().unwrap());
        }
    }

    #[test]
    fn a_dial_to_nobody_is_undecided_then_refused() {
        let bound = anywhere();
        let address = bound.address().unwrap();
        let outcome = Socket::dial(address).and_then(|socket| {
            loop {
                match socket.dial_outcome() {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                    outcome => return outcome,
                }
            }
        });
        assert_eq!(
            outcome.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }

    #[test]
    fn the_unspecified_address_of_either_family_is_both_families() {
        for unspecified in ["0.0.0.0:0", "[::]:0"] {
            let bound = bind(unspecified.parse().unwrap(), 8).unwrap();
            let port = bound.address().unwrap().port();
            let listener = bound.listen().unwrap();
            for ip in ["127.0.0.1", "::1"] {
                let client = TcpStream::connect((ip, port)).unwrap();
                let Accepted::Connection(_, peer) = listener.accept() else {
                    panic!("a connection waits");
                };
                assert_eq!(peer, client.local_addr().unwrap());
            }
        }
        let bound = bind("[::1]:0".parse().unwrap(), 8).unwrap();
        let port = bound.address().unwrap().port();
        let _listener = bound.listen().unwrap();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }

    #[test]
    fn a_machine_without_ipv6_serves_ipv4() {
        for code in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
            assert!(has_no_ipv6(&io::Error::from_raw_os_error(code)));
        }
        assert!(!has_no_ipv6(&io::Error::from_raw_os_error(
            libc::EADDRINUSE
        )));
    }

    #[test]
    fn refusals_say_whether_to_try_again() {
        assert!(matches!(refusal(libc::EAGAIN), Accepted::Nobody));
        for code in [
            libc::ECONNABORTED,
            libc::EINTR,
            libc::EPERM,
            libc::EHOSTUNREACH,
        ] {
            assert!(matches!(refusal(code), Accepted::Gone), "{code}");
        }
        for code in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EBADF,
            0,
        ] {
            assert!(matches!(refusal(code), Accepted::Exhausted), "{code}");
        }
    }
}
