//! Executors for what may wait or block: snapshots, spare segments, cold files, four-letter words.
//! None of it runs on a data core.
//!
//! An executor is one thread with a glommio executor in it. It has queues with shares, which take
//! two kinds of work from any thread: *jobs*, which may block and run one after the other, and
//! *tasks*, which are asynchronous and run at the same time. What a queue takes is bounded; the
//! caller keeps the work that it refuses.
//!
//! The shares of jobs are counted here and not by glommio: a queue of glommio's that sleeps loses
//! its claim, and after each job the executor has to sleep for a moment so that I/O is looked at.

#![allow(unused)]

use super::bell::{Bell, Ear};
use super::threads::{abort_on_panic, set_nice};
use super::{Event, turn};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Jobs of a queue that may wait, without the one that runs.
pub const WAITING_MAX: usize = 64;
/// Tasks of a queue that may be there at once.
pub const TASKS_MAX: usize = 256;
/// Longest time for which glommio's parking bug could delay a task.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// What is read and thrown away at the end of a connection, bytes.
const DRAIN_MAX: usize = 1 << 20;

type Job = Box<dyn FnOnce() + Send>;
type Task = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A queue of an executor.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// For glommio's statistics.
    pub name: &'static str,
    /// Share of the executor's time, against the other queues', at least 1.
    pub shares: usize,
}

/// The queue takes nothing more now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much background work waits")]
pub struct Full;

/// The sender's end of an executor, for any thread. The executor lives as long as the process:
/// glommio loses descriptors and tasks when one ends.
pub struct Executor {
    queues: Vec<Sender>,
    bell: Arc<Bell>,
    /// Pieces of work that were ever sent, so that a parked executor sees that there is one.
    sent: Arc<AtomicUsize>,
}

struct Sender {
    jobs: SyncSender<Job>,
    tasks: SyncSender<Task>,
    waiting: Arc<AtomicUsize>,
    present: Arc<AtomicUsize>,
}

struct Intake {
    jobs: Receiver<Job>,
    tasks: Receiver<Task>,
    waiting: Arc<AtomicUsize>,
    present: Arc<AtomicUsize>,
}

/// A place in a bounded count, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>, max: usize) -> Result<Place, Full> {
        let more = |n| (n < max).then_some(n + 1);
        match count.fetch_update(AcqRel, Relaxed, more) {
            Ok(_) => Ok(Place(count.clone())),
            Err(_) => Err(Full),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

impl Executor {
    /// Starts the thread, with a name of at most 15 bytes and a niceness of its own. A panic in its
    /// work ends the process.
    ///
    /// # Errors
    /// No thread, no descriptor, or io_uring is refused.
    pub fn start(name: &str, nice: i32, queues: &[Queue]) -> io::Result<Executor> {
        let _ = (name, nice, queues);
        todo!()
    }

    /// Runs a job, which may block, behind the jobs that its queue has already taken.
    ///
    /// # Errors
    /// [`Full`]: [`WAITING_MAX`] jobs wait there; the job is dropped.
    pub fn run(&self, queue: usize, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        let _ = (queue, job);
        todo!()
    }

    /// Starts a task, which must not block.
    ///
    /// # Errors
    /// [`Full`]: [`TASKS_MAX`] tasks of that queue are there; the task is dropped.
    pub fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        queue: usize,
        task: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), Full> {
        let _ = (queue, task);
        todo!()
    }
}

/// Waits, inside a task.
pub async fn sleep(time: Duration) {
    super::sleep(time).await;
}

/// Waits for a future at most so long, inside a task. `None` if it was not done; it is dropped then.
pub async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let done = async { Some(future.await) };
    let late = async {
        sleep(time).await;
        None
    };
    futures_lite::future::or(done, late).await
}

/// A connection inside a task.
pub struct Stream(TcpStream);

impl Stream {
    /// A connection of a data core's, which its ring has forgotten.
    pub fn adopt(fd: OwnedFd) -> Stream {
        // SAFETY: the descriptor is a connected socket and is handed over.
        Stream(unsafe { TcpStream::from_raw_fd(fd.into_raw_fd()) })
    }

    /// Hands over all bytes, waiting for the peer as long as that takes: bound it by [`within`].
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Ends the sending direction, after the bytes that were handed over.
    pub async fn shutdown(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write).await;
    }

    /// Reads and throws away until the peer has ended its direction, for at most `time` and a
    /// mebibyte: a connection that is closed with bytes unread is reset, which can overtake the last
    /// bytes sent.
    pub async fn drain(&mut self, time: Duration) {
        let drain = async {
            let (mut buffer, mut read) = ([0; 4096], 0);
            while read < DRAIN_MAX {
                match self.0.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => read += n,
                }
            }
        };
        within(time, drain).await;
    }
}
