//! The io_uring of a data core: says which sockets are ready, that another thread has rung, that
//! a sync is over; and waits for that.
//!
//! Of sockets the ring carries readiness only. Bytes are received and sent with system calls when the turn
//! decides: bytes that nobody has asked for yet stay in the kernel's buffers, where the sender's
//! flow control bounds them, and there is no pool of receive buffers that one client could empty.
//!
//! A completion can be late, and the kernel may end a poll request of its own accord. Both are
//! dealt with here: see [`Ring::forget`] and [`Ring::poll`].

use super::bell::Bell;
use super::net::{Listener, Socket};
use super::storage::{FsFile, FsStorage};
pub use super::watches::Key;
use super::watches::{Owner, State, Ticket, Watches};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Requests handed to the kernel at once; more go with the next waits, which do not sleep then.
const SUBMISSIONS: u32 = 256;
/// Completions that the kernel keeps without allocating memory for them, and without ending polls.
const COMPLETIONS: u32 = 4096;
/// Completions of one watch that the kernel can have ready: of its poll request, and of a cancel.
const COMPLETIONS_OF_A_WATCH: usize = 2;
/// Bytes that one request writes to a file at most; the kernel takes 2 GiB.
const WRITE_MAX: usize = 1 << 30;

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

/// What has happened. Readiness is an edge: true means "try until `WouldBlock`, or until a call has
/// moved less than it was asked to", and it is said again only after that. It may be said once too
/// often, never too rarely.
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
    /// What [`Ring::begin_sync`], [`Ring::begin_write`], [`Ring::begin_rename`] or
    /// [`Ring::begin_directory_sync`] has begun is over.
    Synced {
        /// The kernel's answer: after an error nothing is known about the file's content or name.
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

/// What a step towards durability needs until it is over.
#[expect(dead_code, reason = "most of it is kept, not read")]
enum Held {
    /// A write, with a sync behind it.
    Write(Write),
    File(FsFile),
    Names(FsStorage, [CString; 2]),
    Directory(FsStorage),
}

/// A write that the kernel makes beside the core.
struct Write {
    file: FsFile,
    offset: u64,
    bytes: Vec<u8>,
    /// Of the bytes, so many are written.
    done: usize,
}

/// An io_uring that belongs to the thread which has made it.
pub struct Ring {
    uring: IoUring,
    mode: Mode,
    bell: Arc<Bell>,
    watches: Watches,
    listener: Option<Ticket>,
    /// For the next wait: at most two requests for each watch, and a sync.
    unsent: VecDeque<squeue::Entry>,
    /// What the step towards durability needs that is under way.
    held: Option<Held>,
    /// What the step needs whose completion was lost: it may not have been submitted yet.
    lost_step: Option<Held>,
    /// What was written by the step that has ended.
    written: Option<Vec<u8>>,
    /// Bytes that one request writes at most.
    write_max: usize,
    /// Tells a late completion from that of the step which is under way.
    syncs: u64,
    /// Completions that were there when the last wait ended and were not looked at yet.
    unseen: usize,
    /// The oldest of them: taken out of the queue to make room, at most as many as the watches can have and
    /// one queue more.
    gathered: VecDeque<cqueue::Entry>,
    /// Completions that the kernel has lost for want of memory, as far as they were made good.
    lost: u32,
    /// The kernel was asked for everything when the last wait ended.
    has_told_all: bool,
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
            held: None,
            lost_step: None,
            written: None,
            write_max: WRITE_MAX,
            syncs: 0,
            unseen: 0,
            gathered: VecDeque::new(),
            lost: 0,
            has_told_all: false,
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

    /// Reports on a port of several from now on, as on a socket: readable means that a connection may wait. To be
    /// forgotten like one.
    ///
    /// # Panics
    /// As [`Ring::watch`].
    pub fn watch_port(&mut self, port: &Listener, key: Key) {
        assert!(key.0 < 1 << 56, "{key:?} has more than 56 bits");
        self.begin_watch(Owner::Socket(key), port.as_raw_fd());
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

    /// Begins an fdatasync, which a thread of the kernel's runs. The sync begins with the next
    /// [`Ring::wait`] or [`Ring::submit`]. `few`: the device gets the pages at once, before that thread,
    /// whose wake-up takes as long as the write, asks for the flush; many would fill the device's queue,
    /// and this thread would wait for room there.
    ///
    /// # Panics
    /// A sync, a rename or a sync of a directory is under way.
    pub fn begin_sync(&mut self, file: &FsFile, few: bool) {
        if few {
            file.begin_writeback();
        }
        let sync = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC);
        self.begin(sync.build(), Held::File(file.clone()));
    }

    /// Begins to write all of `bytes` at `offset`, and to make the file durable behind that, as
    /// [`Ring::begin_sync`]; both are reported together, as a sync is. This thread waits for neither: the kernel
    /// does not even try whether the write could be made at once. [`Ring::take_written`] gives the bytes back.
    ///
    /// The sync is a request of its own, which follows when this thread has heard of the end of the write: the
    /// kernel would drop a linked one if the write were short.
    ///
    /// # Panics
    /// As [`Ring::begin_sync`].
    pub fn begin_write(&mut self, file: FsFile, offset: u64, bytes: Vec<u8>) {
        self.go_on_writing(Write {
            file,
            offset,
            bytes,
            done: 0,
        });
    }

    /// What [`Ring::begin_write`] was given, once it has ended without an error.
    pub fn take_written(&mut self) -> Option<Vec<u8>> {
        self.written.take()
    }

    fn go_on_writing(&mut self, write: Write) {
        let rest = &write.bytes[write.done..];
        let len = rest.len().min(self.write_max) as u32;
        let request = opcode::Write::new(Fd(write.file.as_raw_fd()), rest.as_ptr(), len)
            .offset(write.offset + write.done as u64)
            .build()
            .flags(squeue::Flags::ASYNC);
        self.begin(request, Held::Write(write));
    }

    /// Begins a rename, as [`Ring::begin_sync`]; it is reported as a sync is.
    ///
    /// # Panics
    /// As [`Ring::begin_sync`]; a name with a zero byte.
    pub fn begin_rename(&mut self, storage: &FsStorage, from: &str, to: &str) {
        let names = [from, to].map(|name| CString::new(name).expect("no zero byte"));
        let directory = Fd(storage.as_raw_fd());
        let [from, to] = names.each_ref().map(|name| name.as_ptr());
        let rename = opcode::RenameAt::new(directory, from, directory, to);
        self.begin(rename.build(), Held::Names(storage.clone(), names));
    }

    /// Begins to make names durable (fsync of the directory), as [`Ring::begin_sync`].
    ///
    /// # Panics
    /// As [`Ring::begin_sync`].
    pub fn begin_directory_sync(&mut self, storage: &FsStorage) {
        let sync = opcode::Fsync::new(Fd(storage.as_raw_fd()));
        self.begin(sync.build(), Held::Directory(storage.clone()));
    }

    fn begin(&mut self, step: squeue::Entry, held: Held) {
        assert!(self.held.is_none(), "one step is under way already");
        self.syncs += 1;
        let step = step.user_data(SYNC << 56 | low(self.syncs));
        // SAFETY: `held`, then `lost_step`, keep the descriptors open, and names and bytes where they are, until
        // the completion, or as long as the ring. Behind the ring the kernel reads no names; bytes that it may
        // still read are never freed (`drop`).
        if unsafe { self.uring.submission().push(&step) }.is_err() {
            self.unsent.push_front(step);
        }
        self.held = Some(held);
    }

    /// Whether the end of a sync was not reported yet.
    pub fn is_syncing(&self) -> bool {
        self.held.is_some()
    }

    /// Hands what was asked for to the kernel, as far as there is room, without waiting.
    pub fn submit(&mut self) {
        self.fill_submissions();
        let outcome = self.uring.submit();
        self.judge(outcome);
    }

    /// Hands what was asked for to the kernel, then waits for a completion, for the bell or for
    /// `timeout` (`None`: for ever; zero: only looks), and gathers all that the kernel knows by then. May
    /// return early with nothing to report.
    ///
    /// `nothing_to_do` is asked after the bell was told that the thread parks; if it answers false
    /// the call only looks. It must see everything that is pushed before the bell is rung.
    pub fn wait(&mut self, timeout: Option<Duration>, mut nothing_to_do: impl FnMut() -> bool) {
        let is_there = !self.first.is_empty() || !self.gathered.is_empty();
        let parks = timeout != Some(Duration::ZERO) && !is_there;
        if parks {
            self.bell.park();
        }
        let sleeps = parks && nothing_to_do();
        let outcome = self.enter(sleeps, timeout);
        if parks {
            self.bell.unpark();
        }
        self.judge(outcome);
        self.gather();
        let completions = self.uring.completion();
        let (there, lost) = (completions.len(), completions.overflow());
        drop(completions);
        self.unseen = self.gathered.len() + there;
        if lost != self.lost {
            self.lost = lost;
            self.begin_anew();
        }
        self.has_told_all = self.unsent.is_empty() && self.uring.submission().is_empty();
    }

    /// Whether what the last [`Ring::wait`] has gathered is everything that had happened when it began. It is not
    /// while requests are left for a later one: a socket that is not watched yet, or not again behind lost
    /// completions, may have been ready for long.
    pub fn has_told_all(&self) -> bool {
        self.has_told_all
    }

    /// Enters the kernel until it has said all that it knew when the wait ended: one call runs twenty completions
    /// in mode `Deferred` (since Linux 6.14), in the order in which they came, and there is room for a queue of
    /// them. Whoever it has not spoken of for as many completions as there can be was not ready then.
    fn gather(&mut self) {
        let most = COMPLETIONS_OF_A_WATCH * self.watches.len() + 1;
        let mut gathered = 0;
        loop {
            let submissions = self.uring.submission();
            let knows_more = submissions.taskrun() || submissions.cq_overflow();
            drop(submissions);
            if !knows_more || gathered > most {
                return;
            }
            let before = self.gathered.len();
            self.gathered.extend(self.uring.completion());
            // A call that brings nothing counts too.
            gathered += 1 + self.gathered.len() - before;
            let outcome = self.enter(false, None);
            self.judge(outcome);
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
            let gathered = self.gathered.pop_front();
            let completion = gathered.or_else(|| self.uring.completion().next())?;
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
            SYNC if low(data) == low(self.syncs) => {
                let held = self.held.take()?;
                let result = match result {
                    0.. => Ok(result as usize),
                    _ => Err(io::Error::from_raw_os_error(-result)),
                };
                self.step_ended(held, result)
            }
            _ => None,
        }
    }

    /// The kernel has made a step, or a part of a write: goes on with the rest, then with the sync.
    fn step_ended(&mut self, held: Held, result: io::Result<usize>) -> Option<Happened> {
        let Held::Write(mut write) = held else {
            let result = result.map(drop);
            if result.is_err() {
                self.written = None;
            }
            return Some(Happened::Synced { result });
        };
        match result {
            Ok(0) => {
                let result = Err(io::ErrorKind::WriteZero.into());
                return Some(Happened::Synced { result });
            }
            Ok(bytes) => write.done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Some(Happened::Synced { result: Err(error) }),
        }
        if write.done < write.bytes.len() {
            self.go_on_writing(write);
        } else {
            self.written = Some(write.bytes);
            self.begin_sync(&write.file, false);
        }
        // The thread may have much to do before it waits.
        self.submit();
        None
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
        self.unsent
            .push_back(poll.build().user_data(WATCH << 56 | ticket.bits()));
    }

    fn end_watch(&mut self, ticket: Ticket) {
        if self.watches.forget(ticket) {
            self.cancel(ticket);
        }
    }

    /// Not by POLL_REMOVE: that leaves a poll request alone which is about to report.
    fn cancel(&mut self, ticket: Ticket) {
        let cancel = opcode::AsyncCancel::new(WATCH << 56 | ticket.bits());
        self.unsent
            .push_back(cancel.build().user_data(CANCEL << 56 | ticket.bits()));
    }

    /// Completions were lost: which ones is not known. Every poll request is replaced by a new one,
    /// which reports what its socket is ready for; a sync that was under way counts as failed. That takes as many
    /// waits as the requests fill queues.
    fn begin_anew(&mut self) {
        self.has_told_all = false;
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
        if let Some(held) = self.held.take() {
            self.lost_step = Some(held);
            let result = Err(io::Error::other(
                "the kernel had no memory left to report the end of a sync",
            ));
            self.first.push_back(Happened::Synced { result });
        }
    }

    /// Moves requests into the submission queue, but never more than there is room for their
    /// completions: a multishot poll whose completion finds no room ends. Armed again at once, with
    /// a socket that is always writable, it would find no room again, and so on for ever.
    fn fill_submissions(&mut self) {
        let completions = self.uring.completion();
        let room = completions.capacity() - completions.len();
        drop(completions);
        let mut submissions = self.uring.submission();
        if submissions.cq_overflow() {
            return;
        }
        // A cancel has two completions: its own, and the last one of the poll request.
        for _ in 0..room / 2 {
            let Some(entry) = self.unsent.front() else {
                return;
            };
            // SAFETY: polls and cancels point to no memory, and `begin` has said it of the others. A
            // poll's descriptor is open, or was closed after its watch was forgotten: then the kernel
            // answers EBADF or watches a stranger, until it comes to the cancel that follows; both are
            // dropped unseen.
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

impl Drop for Ring {
    /// The kernel may go on writing when the ring is gone.
    fn drop(&mut self) {
        for held in [self.held.take(), self.lost_step.take()] {
            if let Some(Held::Write(write)) = held {
                std::mem::forget(write.bytes);
            }
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
                .setup_coop_taskrun()
                .setup_taskrun_flag(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::storage::Storage;
    use crate::rt::net::{self, Accepted};
    use crate::rt::storage::FsStorage;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::SeqCst;

    /// Long enough for everything that these tests wait for, so that a failure ends.
    const LONG: Option<Duration> = Some(Duration::from_secs(20));
    const LOOK: Option<Duration> = Some(Duration::ZERO);
    const BOTH: [Features; 2] = [Features::Auto, Features::Plain];

    fn ring(features: Features) -> Ring {
        Ring::new(features, Bell::new().unwrap()).unwrap()
    }

    /// A watched end of a connection, and a client at the other.
    fn connection() -> (Socket, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        (Socket::from(OwnedFd::from(server)), client)
    }

    /// Everything that has happened.
    fn look(ring: &mut Ring) -> Vec<Happened> {
        ring.wait(LOOK, || true);
        std::iter::from_fn(|| ring.poll()).collect()
    }

    /// Waits until something has happened that is wanted.
    fn wait_for(ring: &mut Ring, mut wanted: impl FnMut(&Happened) -> bool) {
        for _ in 0..1000 {
            ring.wait(LONG, || true);
            let mut found = false;
            while let Some(happened) = ring.poll() {
                found |= wanted(&happened);
            }
            if found {
                return;
            }
        }
        panic!("it has not happened");
    }

    fn is_readable(happened: &Happened, wanted: u64) -> bool {
        matches!(happened, Happened::Socket { key, readable: true, .. } if *key == Key(wanted))
    }

    /// The keys that are readable, and those that are writable, in order and once each.
    fn keys(happened: &[Happened]) -> (Vec<u64>, Vec<u64>) {
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for happened in happened {
            let Happened::Socket {
                key,
                readable,
                writable,
                ..
            } = happened
            else {
                continue;
            };
            readers.extend(readable.then_some(key.0));
            writers.extend(writable.then_some(key.0));
        }
        for keys in [&mut readers, &mut writers] {
            keys.sort_unstable();
            keys.dedup();
        }
        (readers, writers)
    }

    #[test]
    fn the_newest_mode_is_used_unless_only_old_features_are_allowed() {
        assert_eq!(ring(Features::Plain).mode(), Mode::Plain);
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        let expected = match version {
            (0..=4, _) | (5, 0..=18) => Mode::Plain,
            (5, _) | (6, 0) => Mode::Cooperative,
            _ => Mode::Deferred,
        };
        assert_eq!(ring(Features::Auto).mode(), expected);
    }

    #[test]
    fn readiness_is_said_once_for_each_time_that_it_begins() {
        for features in BOTH {
            let (mut ring, (socket, mut client)) = (ring(features), connection());
            ring.watch(&socket, Key(7));
            assert_eq!(keys(&look(&mut ring)), (vec![], vec![7]));
            assert!(look(&mut ring).is_empty());
            for round in 0..100 {
                client.write_all(b"hello").unwrap();
                wait_for(&mut ring, |happened| is_readable(happened, 7));
                assert!(look(&mut ring).is_empty());
                assert_eq!(socket.receive(&mut [0; 9]).unwrap(), 5);
                if round % 2 == 0 {
                    continue; // less than was asked for: there is no more
                }
                let nothing = socket.receive(&mut [0; 9]).unwrap_err();
                assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            }
        }
    }

    #[test]
    fn a_full_socket_becomes_writable_when_its_peer_has_read() {
        for features in BOTH {
            let (mut ring, (socket, mut client)) = (ring(features), connection());
            ring.watch(&socket, Key(7));
            look(&mut ring);
            let mut sent = 0;
            loop {
                match socket.send(&[1; 1 << 16]) {
                    Ok(n) => sent += n,
                    Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            let (_, writers) = keys(&look(&mut ring));
            assert!(writers.is_empty());
            let reader = std::thread::spawn(move || {
                client.read_exact(&mut vec![0; sent]).unwrap();
                client
            });
            wait_for(&mut ring, |happened| {
                matches!(
                    happened,
                    Happened::Socket {
                        writable: true,
                        ended: false,
                        ..
                    }
                )
            });
            reader.join().unwrap();
            socket.send(b"more").unwrap();
        }
    }

    #[test]
    fn the_end_of_a_peer_is_said() {
        for features in BOTH {
            for reset in [false, true] {
                let (mut ring, (socket, client)) = (ring(features), connection());
                ring.watch(&socket, Key(7));
                look(&mut ring);
                if reset {
                    Socket::from(OwnedFd::from(client)).reset_on_close();
                } else {
                    client.shutdown(std::net::Shutdown::Write).unwrap();
                }
                wait_for(&mut ring, |happened| {
                    matches!(
                        happened,
                        Happened::Socket {
                            readable: true,
                            ended: true,
                            ..
                        }
                    )
                });
                match socket.receive(&mut [0]) {
                    Ok(n) => assert_eq!((n, reset), (0, false)),
                    Err(e) => {
                        assert_eq!((e.kind(), reset), (io::ErrorKind::ConnectionReset, true));
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_said_of_a_forgotten_socket_though_its_completions_were_there() {
        for features in BOTH {
            let mut ring = ring(features);
            let (old, mut old_client) = connection();
            let (new, mut new_client) = connection();
            ring.watch(&old, Key(7));
            look(&mut ring);
            old_client.write_all(b"late").unwrap();
            ring.wait(LONG, || true); // the completion is there, and nobody has looked at it
            ring.forget(Key(7));
            // The new socket has the same key and the same descriptor.
            // SAFETY: the call takes no pointer; both descriptors are open and are this test's own.
            unsafe { libc::dup2(new.as_raw_fd(), old.as_raw_fd()) };
            let again = old;
            ring.watch(&again, Key(7));
            old_client.write_all(b"later").unwrap_or_default();
            let mut seen = look(&mut ring);
            seen.extend(look(&mut ring));
            assert_eq!(keys(&seen), (vec![], vec![7]));
            new_client.write_all(b"now").unwrap();
            wait_for(&mut ring, |happened| is_readable(happened, 7));
            let mut bytes = [0; 9];
            assert_eq!(again.receive(&mut bytes).unwrap(), 3);
            assert_eq!(&bytes[..3], b"now");
        }
    }

    #[test]
    fn a_forgotten_socket_is_closed_in_order_or_reset_and_its_slot_comes_back() {
        for features in BOTH {
            let mut ring = ring(features);
            for round in 0..1_000 {
                let (socket, mut client) = connection();
                ring.watch(&socket, Key(7));
                if round % 3 == 0 {
                    look(&mut ring);
                }
                let reset = round % 2 == 0;
                socket.send(b"bye").unwrap();
                if reset {
                    socket.reset_on_close();
                }
                ring.forget(Key(7));
                drop(socket);
                assert!(keys(&look(&mut ring)).1.is_empty());
                let mut said = String::new();
                match client.read_to_string(&mut said) {
                    Ok(_) => assert!(said == "bye" && !reset),
                    Err(e) => assert!(reset && e.kind() == io::ErrorKind::ConnectionReset),
                }
                look(&mut ring);
                assert_eq!(ring.watches.len(), 1, "only the doorbell's is left");
            }
        }
    }

    #[test]
    fn ten_thousand_sockets_ready_at_once_are_all_reported_through_a_small_queue() {
        const SOCKETS: u64 = 10_000;
        crate::rt::probe::open_files();
        for features in BOTH {
            let bell = Bell::new().unwrap();
            let mut ring = Ring::with_sizes(features, bell, 8, 16).unwrap();
            let names: Vec<_> = (0..SOCKETS).map(|_| abstract_name()).collect();
            let bind = |name| Socket::from(OwnedFd::from(UnixDatagram::bind_addr(name).unwrap()));
            let watched: Vec<Socket> = names.iter().map(bind).collect();
            for (key, socket) in (0..).zip(&watched) {
                ring.watch(socket, Key(key));
            }
            let all: Vec<u64> = (0..SOCKETS).collect();
            let seen = look_until_quiet(&mut ring, 1);
            assert_eq!(keys(&seen), (vec![], all.clone()));
            for some in names.chunks(100) {
                let sender = UnixDatagram::unbound().unwrap(); // what one may have under way is bounded
                for name in some {
                    sender.send_to_addr(b"x", name).unwrap();
                }
            }
            let seen = look_until_quiet(&mut ring, 20);
            assert_eq!(keys(&seen).0, all);
            assert_eq!(ring.lost, 0);
            for key in all {
                ring.forget(Key(key));
            }
            look_until_quiet(&mut ring, 20);
            assert_eq!(ring.watches.len(), 1);
        }
    }

    /// Everything that has happened, through a queue that does not hold it all at once, and so much
    /// after each wait.
    fn look_until_quiet(ring: &mut Ring, budget: usize) -> Vec<Happened> {
        let (mut all, mut quiet) = (Vec::new(), 0);
        while quiet < 10 {
            ring.wait(LOOK, || true);
            quiet = if ring.unseen > 0 { 0 } else { quiet + 1 };
            all.extend(std::iter::from_fn(|| ring.poll()).take(budget));
        }
        all
    }

    fn abstract_name() -> std::os::unix::net::SocketAddr {
        use std::os::linux::net::SocketAddrExt;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "ringkeeper {} {}",
            std::process::id(),
            NEXT.fetch_add(1, SeqCst)
        );
        std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap()
    }

    /// Watched sockets with the keys from 0, whose clients have all sent since the last look.
    fn crowd(ring: &mut Ring, size: u64) -> Vec<(Socket, TcpStream)> {
        let mut crowd: Vec<_> = (0..size).map(|_| connection()).collect();
        for (key, (socket, _)) in (0..).zip(&crowd) {
            ring.watch(socket, Key(key));
        }
        look_until_quiet(ring, usize::MAX);
        for (_, client) in &mut crowd {
            client.write_all(b"x").unwrap();
        }
        crowd
    }

    #[test]
    fn one_wait_gathers_what_many_sockets_have_received() {
        for features in BOTH {
            for completions in [32, COMPLETIONS] {
                let bell = Bell::new().unwrap();
                let mut ring = Ring::with_sizes(features, bell, 16, completions).unwrap();
                let _crowd = crowd(&mut ring, 300);
                let (readers, _) = keys(&look(&mut ring));
                assert_eq!(readers.len(), 300, "{features:?}, {completions}");
            }
        }
    }

    #[test]
    fn lost_completions_are_made_good_by_asking_anew() {
        for features in BOTH {
            let mut ring = ring(features);
            let (first, mut client) = connection();
            let (second, _second_client) = connection();
            ring.watch(&first, Key(1));
            ring.watch(&second, Key(2));
            look(&mut ring);
            client.write_all(b"lost").unwrap();
            ring.forget(Key(2));
            ring.wait(LONG, || true);
            ring.unseen = 0;
            ring.gathered.clear();
            // What the kernel would have reported is thrown away.
            while ring.uring.completion().next().is_some() {}
            ring.begin_anew();
            let mut seen = look(&mut ring);
            seen.extend(look(&mut ring));
            assert_eq!(keys(&seen), (vec![1], vec![1]));
            assert_eq!(ring.watches.len(), 2);
            ring.forget(Key(1));
            look(&mut ring);
            look(&mut ring);
            assert_eq!(ring.watches.len(), 1);
        }
    }

    #[test]
    fn behind_lost_completions_not_everything_is_told_before_every_socket_is_watched_again() {
        const SOCKETS: u64 = 300;
        for features in BOTH {
            let bell = Bell::new().unwrap();
            let mut ring = Ring::with_sizes(features, bell, 16, 32).unwrap();
            let _crowd = crowd(&mut ring, SOCKETS);
            assert!(ring.has_told_all());
            ring.wait(LONG, || true);
            ring.unseen = 0;
            ring.gathered.clear();
            while ring.uring.completion().next().is_some() {}
            ring.begin_anew();
            let (mut seen, mut waits) = (Vec::new(), 0);
            while !ring.has_told_all() {
                seen.extend(look(&mut ring));
                waits += 1;
                assert!(waits < 10_000, "{features:?}");
            }
            assert_eq!(keys(&seen).0, (0..SOCKETS).collect::<Vec<_>>());
            assert!(waits > 1, "{features:?}");
        }
    }

    #[test]
    fn a_doorbell_and_a_listener_whose_poll_the_kernel_has_ended_are_watched_again() {
        for features in BOTH {
            let bell = Bell::new().unwrap();
            let mut ring = Ring::new(features, bell.clone()).unwrap();
            let bound = net::bind("127.0.0.1:0".parse().unwrap(), 8).unwrap();
            let address = bound.address().unwrap();
            let listener = bound.listen().unwrap();
            ring.watch_listener(&listener);
            look(&mut ring);
            for (ticket, _) in ring.watches.all() {
                ring.cancel(ticket);
            }
            look(&mut ring);
            look(&mut ring);
            let _client = TcpStream::connect(address).unwrap();
            wait_for(&mut ring, |happened| matches!(happened, Happened::Listener));
            bell.park();
            bell.ring();
            wait_for(&mut ring, |happened| matches!(happened, Happened::Doorbell));
            ring.forget_listener();
            look(&mut ring);
            look(&mut ring);
            assert_eq!(ring.watches.len(), 1);
        }
    }

    #[test]
    fn a_socket_that_the_kernel_will_not_watch_is_reported_as_ended() {
        for features in BOTH {
            let mut ring = ring(features);
            let no_file = libc::O_PATH; // a descriptor that can only be named
            let root = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(no_file)
                .open("/");
            let socket = Socket::from(OwnedFd::from(root.unwrap()));
            ring.watch(&socket, Key(7));
            wait_for(&mut ring, |happened| {
                matches!(
                    happened,
                    Happened::Socket {
                        key: Key(7),
                        ended: true,
                        ..
                    }
                )
            });
            ring.forget(Key(7));
            assert_eq!(ring.watches.len(), 1);
        }
    }

    #[test]
    fn waiting_accepts_connections_until_nobody_is_left() {
        for features in BOTH {
            let mut ring = ring(features);
            let bound = net::bind("127.0.0.1:0".parse().unwrap(), 8).unwrap();
            let address = bound.address().unwrap();
            let listener = bound.listen().unwrap();
            ring.watch_listener(&listener);
            for _ in 0..3 {
                let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address)).collect();
                wait_for(&mut ring, |happened| matches!(happened, Happened::Listener));
                for client in clients {
                    let Accepted::Connection(_, peer) = listener.accept() else {
                        panic!("a connection waits");
                    };
                    assert_eq!(peer, client.unwrap().local_addr().unwrap());
                }
                assert!(matches!(listener.accept(), Accepted::Nobody));
                look(&mut ring);
            }
        }
    }

    #[test]
    fn the_end_of_a_dial_is_reported_and_its_outcome_known() {
        for features in BOTH {
            let mut ring = ring(features);
            let bound = net::bind("127.0.0.1:0".parse().unwrap(), 8).unwrap();
            let address = bound.address().unwrap();
            for listens in [false, true] {
                let _listener = listens.then(|| {
                    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                    let address = listener.local_addr().unwrap();
                    (listener, address)
                });
                let address = _listener.as_ref().map_or(address, |(_, address)| *address);
                let socket = Socket::dial(address).unwrap();
                ring.watch(&socket, Key(7));
                wait_for(&mut ring, |happened| {
                    matches!(happened, Happened::Socket { writable: true, .. })
                });
                match socket.dial_outcome() {
                    Ok(()) => assert!(listens && socket.peer().unwrap() == address),
                    Err(e) => assert!(!listens && e.kind() == io::ErrorKind::ConnectionRefused),
                }
                ring.forget(Key(7));
            }
        }
    }

    #[test]
    fn a_sync_is_reported_with_its_result() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::open(dir.path()).unwrap();
        let good = storage.create("a", 10_000).unwrap();
        let bad = storage.open("/dev/null").unwrap(); // can't be synced
        for features in BOTH {
            let mut ring = ring(features);
            for (file, works) in [(&good, true), (&bad, false), (&good, true)] {
                assert!(!ring.is_syncing());
                ring.begin_sync(file, works);
                assert!(ring.is_syncing());
                wait_for(&mut ring, |happened| match happened {
                    Happened::Synced { result } => {
                        assert_eq!(result.is_ok(), works);
                        true
                    }
                    _ => false,
                });
            }
        }
    }

    /// The end of what the ring was told to begin.
    fn ended(ring: &mut Ring) -> io::Result<()> {
        let mut said = None;
        assert!(ring.is_syncing());
        while said.is_none() {
            ring.wait(LONG, || true);
            while let Some(happened) = ring.poll() {
                if let Happened::Synced { result } = happened {
                    assert!(said.replace(result).is_none(), "said once");
                }
            }
        }
        assert!(!ring.is_syncing());
        said.expect("just said")
    }

    #[test]
    fn a_write_beside_the_core_is_made_as_a_whole_however_much_the_kernel_takes_at_once() {
        use crate::log::storage::File;
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::open(dir.path()).unwrap();
        let file = storage.create("a", 30_000).unwrap();
        let content: Vec<u8> = (0..20_000u32).map(|n| (n * 7) as u8).collect();
        for features in BOTH {
            for write_max in [WRITE_MAX, 20_000, 19_999, 3_000] {
                let mut ring = ring(features);
                ring.write_max = write_max;
                file.write_at(0, &[0; 30_000]).unwrap();
                ring.begin_write(file.clone(), 4096, content.clone());
                ended(&mut ring).unwrap();
                assert_eq!(ring.take_written().as_ref(), Some(&content), "given back");
                assert!(ring.take_written().is_none());
                let mut read = vec![1; 30_000];
                assert_eq!(file.read_at(0, &mut read).unwrap(), 30_000);
                assert_eq!(read[4096..24_096], content);
                assert!(read[..4096].iter().chain(&read[24_096..]).all(|&b| b == 0));
                ring.begin_sync(&file, true);
                ended(&mut ring).unwrap();
                assert!(ring.take_written().is_none());
            }
        }
    }

    #[test]
    fn an_error_of_a_write_or_of_the_sync_behind_it_is_said_and_nothing_counts_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::open(dir.path()).unwrap();
        let full = storage.open("/dev/full").unwrap(); // takes no byte
        let null = storage.open("/dev/null").unwrap(); // can't be synced
        for features in BOTH {
            let mut ring = ring(features);
            for (file, error) in [(&full, libc::ENOSPC), (&null, libc::EINVAL)] {
                ring.begin_write(file.clone(), 0, vec![1; 5000]);
                let said = ended(&mut ring).unwrap_err();
                assert_eq!(said.raw_os_error(), Some(error));
                assert!(ring.take_written().is_none());
            }
        }
    }

    #[test]
    fn a_ring_that_ends_before_its_write_leaves_the_bytes_to_the_kernel() {
        use crate::log::storage::File;
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::open(dir.path()).unwrap();
        for features in BOTH {
            let file = storage.create("a", 1 << 20).unwrap();
            let mut ring = ring(features);
            ring.begin_write(file.clone(), 0, vec![7; 1 << 20]);
            ring.submit();
            drop(ring);
            let mut read = vec![0; 1 << 20];
            file.read_at(0, &mut read).unwrap();
            assert!(read.iter().all(|&b| b == 7 || b == 0), "no other's bytes");
        }
    }

    #[test]
    fn a_file_gets_its_name_and_the_directory_is_synced() {
        for features in BOTH {
            let dir = tempfile::tempdir().unwrap();
            let storage = FsStorage::open(dir.path()).unwrap();
            storage.create("spare", 10_000).unwrap();
            let mut ring = ring(features);
            let mut outcome = |begin: &dyn Fn(&mut Ring)| {
                let mut said = None;
                begin(&mut ring);
                assert!(ring.is_syncing());
                wait_for(&mut ring, |happened| match happened {
                    Happened::Synced { result } => {
                        said = Some(result.as_ref().map_err(io::Error::kind).copied());
                        true
                    }
                    _ => false,
                });
                said.unwrap()
            };
            outcome(&|ring| ring.begin_rename(&storage, "spare", "segment")).unwrap();
            outcome(&|ring| ring.begin_directory_sync(&storage)).unwrap();
            assert_eq!(storage.list().unwrap(), ["segment"]);
            let again = outcome(&|ring| ring.begin_rename(&storage, "spare", "segment"));
            assert_eq!(again, Err(io::ErrorKind::NotFound));
        }
    }

    #[test]
    fn a_wait_ends_with_its_time_or_at_once_if_there_is_something_to_do() {
        for features in BOTH {
            let mut ring = ring(features);
            ring.wait(Some(Duration::from_millis(1)), || true);
            ring.wait(None, || false);
            let mut asked = 0;
            let mut ask = || {
                asked += 1;
                true
            };
            ring.wait(LOOK, &mut ask);
            assert_eq!(asked, 0);
            assert!(ring.poll().is_none());
        }
    }

    #[test]
    fn no_ring_of_the_bell_is_lost_in_either_direction() {
        const HOPS: u64 = 100_000;
        for features in BOTH {
            let (there, back) = (Bell::new().unwrap(), Bell::new().unwrap());
            let (sent, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (t, b, s, a) = (there.clone(), back.clone(), sent.clone(), answered.clone());
            let echo = std::thread::spawn(move || {
                let mut ring = Ring::new(features, t).unwrap();
                for hop in 1..=HOPS {
                    wait_until(&mut ring, || s.load(SeqCst) >= hop);
                    a.store(hop, SeqCst);
                    b.ring();
                }
            });
            let mut ring = Ring::new(features, back).unwrap();
            for hop in 1..=HOPS {
                sent.store(hop, SeqCst);
                there.ring();
                wait_until(&mut ring, || answered.load(SeqCst) >= hop);
            }
            echo.join().unwrap();
        }
    }

    #[test]
    fn a_ring_that_falls_into_the_moment_of_parking_is_not_lost() {
        const HOPS: u64 = 100_000;
        for features in BOTH {
            let bell = Bell::new().unwrap();
            let (sent, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (b, s, a) = (bell.clone(), sent.clone(), answered.clone());
            let echo = std::thread::spawn(move || {
                let mut ring = Ring::new(features, b).unwrap();
                for hop in 1..=HOPS {
                    wait_until(&mut ring, || s.load(SeqCst) >= hop);
                    a.store(hop, SeqCst);
                }
            });
            let mut random = fastrand::Rng::with_seed(7);
            let mut spins = 0u64;
            for hop in 1..=HOPS {
                sent.store(hop, SeqCst);
                bell.ring();
                // Awake, so that the next ring comes when the other thread is about to park.
                while answered.load(SeqCst) < hop {
                    spins += 1;
                    if spins.is_multiple_of(1000) {
                        std::thread::yield_now();
                    }
                }
                for _ in 0..random.u32(..100) {
                    std::hint::spin_loop();
                }
            }
            echo.join().unwrap();
        }
    }

    /// Sleeps without a limit: a lost ring is a test that does not end.
    fn wait_until(ring: &mut Ring, done: impl Fn() -> bool) {
        while !done() {
            ring.wait(None, || !done());
            while ring.poll().is_some() {}
        }
    }

    #[test]
    fn rings_from_many_threads_at_random_times_all_arrive() {
        const THREADS: u64 = 4;
        const MESSAGES: u64 = 5_000;
        for features in BOTH {
            let bell = Bell::new().unwrap();
            let mut ring = Ring::new(features, bell.clone()).unwrap();
            let sent = Arc::new(AtomicU64::new(0));
            let threads: Vec<_> = (0..THREADS)
                .map(|seed| {
                    let (bell, sent) = (bell.clone(), sent.clone());
                    let mut random = fastrand::Rng::with_seed(seed);
                    std::thread::spawn(move || {
                        for _ in 0..MESSAGES {
                            sent.fetch_add(1, SeqCst);
                            bell.ring();
                            if random.u8(..) == 0 {
                                std::thread::sleep(Duration::from_micros(random.u64(..200)));
                            }
                        }
                    })
                })
                .collect();
            let mut seen = 0;
            while seen < THREADS * MESSAGES {
                ring.wait(None, || sent.load(SeqCst) == seen);
                while ring.poll().is_some() {}
                seen = sent.load(SeqCst);
            }
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }
}
