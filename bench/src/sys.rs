//! The calls that the standard library does not have. The only module with unsafe code; every
//! function here is safe to call.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// As given to [`Poller::add`].
    pub token: u64,
    /// There is something to read, an end or an error.
    pub readable: bool,
    /// There is room to write, or an error.
    pub writable: bool,
}

/// Level-triggered epoll.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

impl Poller {
    /// With nothing in it.
    pub fn new() -> io::Result<Poller> {
        // SAFETY: no pointers are passed; the result is checked before it becomes an owned descriptor.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Poller {
            // SAFETY: the kernel has just made this descriptor and nobody else knows of it.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX],
        })
    }

    /// Reading is always of interest, writing on request.
    pub fn add(&self, fd: impl AsFd, token: u64, writing: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, writing)
    }

    /// Changes whether writing is of interest.
    pub fn change(&self, fd: impl AsFd, token: u64, writing: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, writing)
    }

    /// A descriptor that is about to be closed, or not to be looked at any more.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, false)
    }

    fn control(&self, what: i32, fd: impl AsFd, token: u64, writing: bool) -> io::Result<()> {
        let interest = if writing {
            libc::EPOLLIN | libc::EPOLLOUT
        } else {
            libc::EPOLLIN
        };
        let mut event = libc::epoll_event {
            events: interest as u32,
            u64: token,
        };
        let (epoll, fd) = (self.epoll.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: both descriptors are open for the length of the call, and the kernel only reads
        // the event, which lives on our stack.
        check(unsafe { libc::epoll_ctl(epoll, what, fd, &mut event) })?;
        Ok(())
    }

    /// Waits for at most `timeout` (`None`: until something happens) and leaves what is ready in
    /// `ready`. To the nanosecond, which an open loop needs.
    pub fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs() as libc::time_t,
            tv_nsec: t.subsec_nanos().into(),
        });
        let pointer = timeout
            .as_ref()
            .map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the buffer has room for EVENTS_MAX events, `pointer` is null or points to a
        // timespec that outlives the call, and a null signal mask is allowed whatever its size.
        let found = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX as libc::c_int,
                pointer,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if found < 0 {
            let e = io::Error::last_os_error();
            return match e.kind() {
                io::ErrorKind::Interrupted => Ok(()),
                _ => Err(e),
            };
        }
        ready.extend(self.events[..found as usize].iter().map(|event| {
            let bits = event.events as i32;
            let broken = bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
            Ready {
                token: event.u64,
                readable: broken || bits & libc::EPOLLIN != 0,
                writable: broken || bits & libc::EPOLLOUT != 0,
            }
        }));
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        fine => Ok(fine),
    }
}

/// Lifts the limit of open files to what it may be lifted to, for us and our children; returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes into a whole rlimit on our stack.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads a whole rlimit from our stack.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}

/// Has the kernel write all that it keeps for files to their disks, and waits.
pub fn sync_disks() {
    // SAFETY: takes nothing and returns nothing.
    unsafe { libc::sync() };
}

/// Timers of this thread fire when they are due and not up to 50 µs later.
pub fn exact_timers() {
    // SAFETY: takes numbers only. It can't fail with a positive slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

/// Lets the calling thread run before every ordinary one whenever it has something to do. Needs a
/// privilege; says whether it was granted.
pub fn run_first() -> bool {
    // SAFETY: sched_param is plain numbers, for which zeroes are valid.
    let mut lowest: libc::sched_param = unsafe { std::mem::zeroed() };
    lowest.sched_priority = 1;
    // SAFETY: the kernel reads a whole sched_param from our stack; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) == 0 }
}

/// CPU time of the calling thread, ns.
pub fn thread_cpu_ns() -> u64 {
    cpu_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this process, ns.
pub fn process_cpu_ns() -> u64 {
    cpu_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes into a whole timespec on our stack; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Ticks per second of the CPU times in /proc.
pub fn ticks_per_second() -> u64 {
    // SAFETY: takes a number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|&t| t > 0).unwrap_or(100)
}

/// Lets `connect` choose the port of a socket that is bound to an address: every address of
/// loopback then has its own range of ports.
pub fn port_when_connecting(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the kernel reads one int from our stack.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Asks a child of ours to end (SIGTERM).
pub fn ask_to_end(child: &std::process::Child) {
    // SAFETY: takes numbers. The child has not been waited for while we hold it, so the id is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
}

/// Has the kernel end this process when the one that started it ends.
pub fn end_with_parent() {
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) };
}

/// Makes the child that is to be started from `command` end when we do.
pub fn ends_with_us(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only `prctl` is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            end_with_parent();
            Ok(())
        })
    }
}
