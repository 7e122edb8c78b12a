//! The io_uring of a data core: says which sockets are ready, that another thread has rung, that
//! a sync is over; and waits for that.
//!
//! The ring carries readiness only. Bytes are received and sent with system calls when the turn
//! decides: bytes that nobody has asked for yet stay in the kernel's buffers, where the sender's
//! flow control bounds them, and there is no pool of receive buffers that one client could empty.
//!
//! A completion can be late, and the kernel may end a poll request of its own accord. Both are
//! dealt with here: see [`Ring::forget`] and [`Ring::poll`].

use super::bell::Bell;
use super::net::{Listener, Socket};
use super::storage::FsFile;
use super::watches::{Owner, State, Ticket, Watches};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Requests handed to the kernel at once. More are handed over in several pieces.
const SUBMISSIONS: u32 = 256;
/// Completions that the kernel keeps without allocating memory for them.
const COMPLETIONS: u32 = 4096;

/// What a socket is watched for; POLLHUP and POLLERR are always reported.
const SOCKET: u32 = (libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP) as u32;
const INPUT: u32 = libc::POLLIN as u32;

/// What the upper 8 bits of a `user_data` say.
const WATCH: u64 = 1;
const CANCEL: u64 = 2;
const SYNC: u64 = 3;

/// Which kernel features a ring may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Features {
    /// What the kernel has.
    Auto,
    /// Nothing newer than Linux 5.15.
    Plain,
}

/// How the kernel runs the completions of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When the thread waits, and at no other time (Linux 6.1).
    Deferred,
    /// Whenever the thread enters the kernel; it is not interrupted (Linux 5.19).
    Cooperative,
    /// At once, by interrupting the thread.
    Plain,
}

/// Names a watched socket; chosen by who watches, below 2^56.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Hash, Ord, PartialOrd)]
pub struct Key(pub u64);

/// What has happened. Readiness is an edge: true means "try until `WouldBlock`", and it is said
/// again only after that. It may be said once too often, never too rarely.
#[derive(Debug)]
pub enum Happened {
    /// To a watched socket.
    Socket {
        /// Which one.
        key: Key,
        /// Bytes, or the end of the stream, or an error can be received.
        readable: bool,
        /// Bytes can be sent.
        writable: bool,
        /// The peer has ended its direction or both, or the connection has failed, or the kernel
        /// lacks the memory to watch it.
        ended: bool,
    },
    /// A connection may wait.
    Listener,
    /// The [`Bell`] was rung while the thread was parked.
    Doorbell,
    /// The sync begun by [`Ring::begin_sync`] is over.
    Synced {
        /// The kernel's answer: after an error nothing is known about the file's content.
        result: io::Result<()>,
    },
}

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel has refused it.
    #[error("an io_uring can't be set up: {0}")]
    SetUp(io::Error),
    /// The kernel is too old.
    #[error("the kernel's io_uring has no {0} (Linux 5.15 or newer is needed)")]
    Missing(&'static str),
}

/// An io_uring that belongs to the thread which has made it.
pub struct Ring {
    uring: IoUring,
    mode: Mode,
    bell: Arc<Bell>,
    watches: Watches,
    listener: Option<Ticket>,
    /// What did not fit into the submission queue: at most two requests for each watch and a sync.
    unsent: VecDeque<squeue::Entry>,
    /// The file is kept open until the sync is over.
    syncing: Option<FsFile>,
    /// Tells a late completion from that of the sync which is under way.
    syncs: u64,
    /// Completions that were there when the last wait ended and were not looked at yet.
    unseen: usize,
    /// Completions that the kernel has lost for want of memory, as far as they were made good.
    lost: u32,
    /// Reported before any completion.
    first: VecDeque<Happened>,
    /// A ring with one issuer must not leave its thread.
    thread: PhantomData<*const ()>,
}

impl Ring {
    /// Makes a ring for this thread, which answers to `bell`.
    ///
    /// # Errors
    /// [`RingError`].
    pub fn new(features: Features, bell: Arc<Bell>) -> Result<Ring, RingError> {
        Ring::with_sizes(features, bell, SUBMISSIONS, COMPLETIONS)
    }

    fn with_sizes(
        features: Features,
        bell: Arc<Bell>,
        submissions: u32,
        completions: u32,
    ) -> Result<Ring, RingError> {
        let (uring, mode) = set_up(features, submissions, completions)?;
        let mut ring = Ring {
            uring,
            mode,
            bell,
            watches: Watches::default(),
            listener: None,
            unsent: VecDeque::new(),
            syncing: None,
            syncs: 0,
            unseen: 0,
            lost: 0,
            first: VecDeque::new(),
            thread: PhantomData,
        };
        let fd = ring.bell.fd();
        ring.begin_watch(Owner::Doorbell, fd);
        Ok(ring)
    }

    /// What the kernel offers and `features` allow.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Reports on a socket from now on, at once if it is ready.
    ///
    /// # Panics
    /// The key is in use.
    pub fn watch(&mut self, socket: &Socket, key: Key) {
        assert!(key.0 < 1 << 56, "{key:?} has more than 56 bits");
        self.begin_watch(Owner::Socket(key), socket.as_raw_fd());
    }

    /// Reports nothing of this key from now on, also if completions are under way and if the key
    /// is used again. To be called before the socket is dropped; the kernel closes the connection
    /// in the next [`Ring::wait`], because the poll request holds on to the socket until then.
    pub fn forget(&mut self, key: Key) {
        if let Some(ticket) = self.watches.of_socket(key) {
            self.end_watch(ticket);
        }
    }

    /// Reports on a listening socket from now on.
    ///
    /// # Panics
    /// There is one already.
    pub fn watch_listener(&mut self, listener: &Listener) {
        assert!(self.listener.is_none(), "one listener is watched already");
        self.listener = Some(self.begin_watch(Owner::Listener, listener.as_raw_fd()));
    }

    /// Reports nothing of the listening socket from now on; as [`Ring::forget`].
    pub fn forget_listener(&mut self) {
        if let Some(ticket) = self.listener.take() {
            self.end_watch(ticket);
        }
    }

    /// Begins an fdatasync, which a thread of the kernel's runs. The device gets the pages at once,
    /// before that thread, whose wake-up takes as long as the write, asks for the flush. The sync
    /// begins with the next [`Ring::wait`] or [`Ring::submit`].
    ///
    /// # Panics
    /// One is under way.
    pub fn begin_sync(&mut self, file: &FsFile) {
        assert!(self.syncing.is_none(), "one sync is under way already");
        file.begin_writeback();
        self.syncs += 1;
        let sync = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC);
        self.push(sync.build().user_data(SYNC << 56 | low(self.syncs)));
        self.syncing = Some(file.clone());
    }

    /// Whether the end of a sync was not reported yet.
    pub fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Hands what was asked for to the kernel, without waiting.
    pub fn submit(&mut self) {
        self.fill_submissions();
        let outcome = self.uring.submit();
        self.judge(outcome);
    }

    /// Hands what was asked for to the kernel, then waits for a completion, for the bell or for
    /// `timeout` (`None`: for ever; zero: only looks). May return early with nothing to report.
    ///
    /// `nothing_to_do` is asked after the bell was told that the thread parks; if it answers false
    /// the call only looks. It must see everything that is pushed before the bell is rung.
    pub fn wait(&mut self, timeout: Option<Duration>, mut nothing_to_do: impl FnMut() -> bool) {
        let parks = timeout != Some(Duration::ZERO) && self.first.is_empty();
        if parks {
            self.bell.park();
        }
        let sleeps = parks && nothing_to_do();
        let outcome = self.enter(sleeps, timeout);
        if parks {
            self.bell.unpark();
        }
        self.judge(outcome);
        let completions = self.uring.completion();
        let (there, lost) = (completions.len(), completions.overflow());
        drop(completions);
        self.unseen = there;
        if lost != self.lost {
            self.lost = lost;
            self.begin_anew();
        }
    }

    /// What has happened up to the end of the last [`Ring::wait`], one after the other. A poll
    /// request that the kernel has ended is armed again here, and reports at once if its socket
    /// became ready meanwhile.
    pub fn poll(&mut self) -> Option<Happened> {
        loop {
            if let Some(happened) = self.first.pop_front() {
                return Some(happened);
            }
            self.unseen = self.unseen.checked_sub(1)?;
            let completion = self.uring.completion().next()?;
            if let Some(happened) = self.translate(&completion) {
                return Some(happened);
            }
        }
    }

    fn translate(&mut self, completion: &cqueue::Entry) -> Option<Happened> {
        let (data, result) = (completion.user_data(), completion.result());
        match data >> 56 {
            WATCH => {
                let more = cqueue::more(completion.flags());
                self.translate_watch(Ticket::from_bits(data), result, more)
            }
            CANCEL => {
                let ticket = Ticket::from_bits(data);
                let is_gone = result == -libc::ENOENT
                    && (self.watches.get(ticket)).is_some_and(|w| w.state == State::Forgotten);
                if is_gone {
                    self.watches.release(ticket);
                }
                None
            }
            SYNC if self.syncing.is_some() && low(data) == low(self.syncs) => {
                self.syncing = None;
                let result = match result {
                    0.. => Ok(()),
                    _ => Err(io::Error::from_raw_os_error(-result)),
                };
                Some(Happened::Synced { result })
            }
            _ => None,
        }
    }

    fn translate_watch(&mut self, ticket: Ticket, result: i32, more: bool) -> Option<Happened> {
        let watch = self.watches.get(ticket)?;
        if watch.state == State::Forgotten {
            if !more {
                self.watches.release(ticket);
            }
            return None;
        }
        let (owner, fd) = (watch.owner, watch.fd);
        if !more {
            match owner {
                // Its owner is told that it has ended, and forgets it.
                Owner::Socket(_) if result < 0 => watch.state = State::Refused,
                _ => self.arm(ticket, owner, fd),
            }
        }
        Some(match owner {
            Owner::Socket(key) => socket_happened(key, result),
            Owner::Listener => Happened::Listener,
            Owner::Doorbell => Happened::Doorbell,
        })
    }

    fn begin_watch(&mut self, owner: Owner, fd: RawFd) -> Ticket {
        let ticket = self.watches.add(owner, fd);
        self.arm(ticket, owner, fd);
        ticket
    }

    fn arm(&mut self, ticket: Ticket, owner: Owner, fd: RawFd) {
        let events = match owner {
            Owner::Socket(_) => SOCKET,
            Owner::Listener | Owner::Doorbell => INPUT,
        };
        let poll = opcode::PollAdd::new(Fd(fd), events).multi(true);
        self.push(poll.build().user_data(WATCH << 56 | ticket.bits()));
    }

    fn end_watch(&mut self, ticket: Ticket) {
        if self.watches.forget(ticket) {
            self.cancel(ticket);
        }
    }

    /// Not by POLL_REMOVE: that leaves a poll request alone which is about to report.
    fn cancel(&mut self, ticket: Ticket) {
        let cancel = opcode::AsyncCancel::new(WATCH << 56 | ticket.bits());
        self.push(cancel.build().user_data(CANCEL << 56 | ticket.bits()));
    }

    /// Completions were lost: which ones is not known. Every poll request is replaced by a new one,
    /// which reports what its socket is ready for; a sync that was under way counts as failed.
    fn begin_anew(&mut self) {
        for (ticket, watch) in self.watches.all() {
            if watch.state == State::Forgotten {
                self.cancel(ticket);
                continue;
            }
            self.end_watch(ticket);
            let fresh = self.begin_watch(watch.owner, watch.fd);
            if watch.owner == Owner::Listener {
                self.listener = Some(fresh);
            }
        }
        if self.syncing.take().is_some() {
            let result = Err(io::Error::other(
                "the kernel had no memory left to report the end of a sync",
            ));
            self.first.push_back(Happened::Synced { result });
        }
    }

    /// A full submission queue is handed over first; what still does not fit waits.
    fn push(&mut self, entry: squeue::Entry) {
        self.unsent.push_back(entry);
        self.fill_submissions();
        if !self.unsent.is_empty() {
            self.submit();
            self.fill_submissions();
        }
    }

    fn fill_submissions(&mut self) {
        let mut submissions = self.uring.submission();
        while let Some(entry) = self.unsent.front() {
            // SAFETY: polls, cancels and syncs point to no memory. The descriptors of polls and
            // syncs are the caller's and are open at this time, or the kernel answers EBADF; the
            // kernel takes a reference of its own when it takes the request.
            if unsafe { submissions.push(entry) }.is_err() {
                return;
            }
            self.unsent.pop_front();
        }
    }

    /// Enters the kernel, always with GETEVENTS: in mode `Deferred` no completion appears otherwise,
    /// and one that did not fit into the queue is moved there then.
    fn enter(&mut self, sleeps: bool, timeout: Option<Duration>) -> io::Result<usize> {
        self.fill_submissions();
        let wanted = u32::from(sleeps && self.unsent.is_empty());
        let time = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let (1, Some(time)) = (wanted, &time) {
            arguments = arguments.timespec(time);
        }
        let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        let to_submit = self.uring.submission().len() as u32;
        let submitter = self.uring.submitter();
        // SAFETY: the argument is the one that EXT_ARG announces, and it and its time live until
        // the call returns; as many requests are submitted as the queue holds.
        unsafe { submitter.enter(to_submit, wanted, flags.bits(), Some(&arguments)) }
    }

    /// Sorts the answers of the kernel: nothing has gone wrong; completions were lost; or the ring
    /// can't be used, which is our own fault.
    fn judge(&mut self, outcome: io::Result<usize>) {
        let Err(error) = outcome else { return };
        match error.raw_os_error() {
            // The time is over, or a signal came.
            Some(libc::ETIME | libc::EINTR) => {}
            // Completions have to be looked at first, or memory is short: the requests stay in
            // the queue for the next time.
            Some(libc::EBUSY | libc::EAGAIN) => {}
            Some(libc::EBADR) => self.begin_anew(),
            _ => panic!("io_uring_enter has failed: {error}"),
        }
    }
}

/// The 56 bits of a `user_data` below its kind.
fn low(data: u64) -> u64 {
    data & ((1 << 56) - 1)
}

fn socket_happened(key: Key, result: i32) -> Happened {
    let says = |flags: i16| result < 0 || result & i32::from(flags) != 0;
    let ended = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
    Happened::Socket {
        key,
        readable: says(libc::POLLIN | ended),
        writable: says(libc::POLLOUT | libc::POLLHUP | libc::POLLERR),
        ended: says(ended),
    }
}

/// The newest mode that kernel and `features` allow.
fn set_up(
    features: Features,
    submissions: u32,
    completions: u32,
) -> Result<(IoUring, Mode), RingError> {
    let modes: &[Mode] = match features {
        Features::Auto => &[Mode::Deferred, Mode::Cooperative, Mode::Plain],
        Features::Plain => &[Mode::Plain],
    };
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for mode in modes {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions);
        match mode {
            Mode::Deferred => builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_coop_taskrun(),
            Mode::Cooperative => builder.setup_coop_taskrun(),
            Mode::Plain => &mut builder,
        };
        match builder.build(submissions) {
            Ok(uring) => {
                let params = uring.params();
                let missing = [
                    (params.is_feature_nodrop(), "kept completions"),
                    (params.is_feature_ext_arg(), "wait with a timeout"),
                    // Came with multishot polls, which have no feature flag of their own.
                    (params.is_feature_resource_tagging(), "multishot poll"),
                ];
                return match missing.iter().find(|(has, _)| !has) {
                    Some((_, name)) => Err(RingError::Missing(name)),
                    None => Ok((uring, *mode)),
                };
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(RingError::SetUp(error)),
        }
    }
    Err(RingError::SetUp(refused))
}
