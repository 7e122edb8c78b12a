//! Executors for what may wait or block: snapshots, spare segments, cold files, four-letter words.
//! None of it runs on a data core.
//!
//! An executor is one thread with a glommio executor in it. It has queues with shares, which take
//! two kinds of work from any thread: *jobs*, which may block and run one after the other, and
//! *tasks*, which are asynchronous and run at the same time. What a queue takes is bounded, and
//! handing work over never waits.
//!
//! Between tasks glommio counts the shares. Between jobs they are counted here: after each job the
//! executor has to sleep for a moment, because only then does it look at I/O, and a queue of
//! glommio's that sleeps loses its claim.

use super::bell::Bell;
use super::pace;
use super::threads::{abort_on_panic, be_nicer};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Jobs of a queue that may wait, without the one that runs.
pub const WAITING_MAX: usize = 64;
/// Tasks of a queue that may be there at once.
pub const TASKS_MAX: usize = 256;
/// Longest time for which glommio's parking bug could delay a task.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Registered memory of a ring; glommio's default of 10 MiB buys nothing here.
const IO_MEMORY: usize = 64 << 10;
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
    jobs: SyncSender<(Place, Job)>,
    tasks: SyncSender<(Place, Task)>,
    waiting: Arc<AtomicUsize>,
    present: Arc<AtomicUsize>,
}

struct Intake {
    queue: Queue,
    jobs: Receiver<(Place, Job)>,
    tasks: Receiver<(Place, Task)>,
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

fn channels(queue: Queue) -> (Sender, Intake) {
    let (jobs, jobs_taken) = sync_channel(WAITING_MAX);
    let (tasks, tasks_taken) = sync_channel(TASKS_MAX);
    let sender = Sender {
        jobs,
        tasks,
        waiting: Arc::default(),
        present: Arc::default(),
    };
    let intake = Intake {
        queue,
        jobs: jobs_taken,
        tasks: tasks_taken,
    };
    (sender, intake)
}

impl Executor {
    /// Starts the thread, with a name of at most 15 bytes and nicer than the calling thread by so much. A
    /// panic in its work ends the process.
    ///
    /// # Errors
    /// No thread, no descriptor, or io_uring is refused.
    pub fn start(name: &str, nice: u8, queues: &[Queue]) -> io::Result<Executor> {
        let (queues, intakes) = queues.iter().copied().map(channels).unzip();
        let (bell, sent) = (Bell::new()?, Arc::new(AtomicUsize::new(0)));
        let (executor_bell, executor_sent) = (bell.clone(), sent.clone());
        let (tell, told) = sync_channel(1);
        let work = move || {
            be_nicer(nice);
            let executor = LocalExecutorBuilder::new(Placement::Unbound)
                // A short one can park an executor with runnable tasks.
                .preempt_timer(Duration::from_secs(3600))
                .io_memory(IO_MEMORY)
                .make()
                .map_err(|e| io::Error::other(e.to_string()));
            let executor = match executor {
                Ok(executor) => executor,
                Err(error) => return drop(tell.send(Err(error))),
            };
            executor.run(async {
                let ear = Ear::new(executor_bell);
                match ear {
                    Ok(ear) => {
                        let _ = tell.send(Ok(()));
                        serve(intakes, ear, &executor_sent).await;
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
        };
        std::thread::Builder::new()
            .name(name.into())
            .spawn(|| abort_on_panic(work))?;
        told.recv()
            .unwrap_or_else(|_| Err(io::Error::other("the executor has ended at once")))?;
        Ok(Executor { queues, bell, sent })
    }

    /// Runs a job, which may block, behind the jobs that its queue has already taken.
    ///
    /// # Errors
    /// [`Full`]: [`WAITING_MAX`] jobs wait there; the job is dropped.
    pub fn run(&self, queue: usize, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        let queue = &self.queues[queue];
        let place = Place::take(&queue.waiting, WAITING_MAX)?;
        self.hand_over(&queue.jobs, (place, Box::new(job)))
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
        let queue = &self.queues[queue];
        let place = Place::take(&queue.present, TASKS_MAX)?;
        self.hand_over(&queue.tasks, (place, Box::new(|| Box::pin(task()))))
    }

    /// The channel has room for every place that can be taken.
    fn hand_over<T>(&self, channel: &SyncSender<T>, work: T) -> Result<(), Full> {
        channel.try_send(work).map_err(|_| Full)?;
        self.sent.fetch_add(1, Release);
        self.bell.ring();
        Ok(())
    }
}

/// Takes what is sent: starts the tasks, and says to the worker that there are jobs.
async fn serve(intakes: Vec<Intake>, mut ear: Ear, sent: &AtomicUsize) {
    let mut tasks = Vec::new();
    let mut jobs = Vec::new();
    for Intake {
        queue,
        jobs: job,
        tasks: task,
    } in intakes
    {
        let shares = Shares::Static(queue.shares.max(1));
        let handle =
            glommio::executor().create_task_queue(shares, Latency::NotImportant, queue.name);
        tasks.push((task, handle));
        jobs.push((job, queue.shares));
    }
    let arrived = Rc::new(Event::default());
    glommio::spawn_local(work_off(Jobs::new(jobs), arrived.clone())).detach();
    let heartbeat = async {
        loop {
            sleep(HEARTBEAT).await;
        }
    };
    glommio::spawn_local(heartbeat).detach();
    let mut seen = 0;
    loop {
        ear.wait(|| sent.load(Acquire) != seen).await;
        seen = sent.load(Acquire);
        for (tasks, handle) in &tasks {
            for (place, task) in tasks.try_iter() {
                start(place, task, *handle);
            }
        }
        arrived.notify();
    }
}

fn start(place: Place, task: Task, queue: TaskQueueHandle) {
    let run = async move {
        task().await;
        drop(place);
    };
    glommio::spawn_local_into(run, queue)
        .expect("the queue was made by this executor and is never removed")
        .detach();
}

async fn work_off(mut jobs: Jobs, arrived: Rc<Event>) {
    loop {
        let Some((queue, place, job)) = jobs.next() else {
            arrived.wait().await;
            continue;
        };
        drop(place);
        let began = Instant::now();
        job();
        pace::end();
        jobs.shares.charge(queue, began.elapsed());
        // Tasks get their turn, and I/O is looked at.
        turn().await;
    }
}

/// The jobs of all queues.
struct Jobs {
    taken: Vec<Receiver<(Place, Job)>>,
    /// The first of each queue; it still counts as waiting.
    heads: Vec<Option<(Place, Job)>>,
    shares: SharesUsed,
}

impl Jobs {
    fn new(queues: Vec<(Receiver<(Place, Job)>, usize)>) -> Jobs {
        let (taken, shares): (Vec<_>, Vec<_>) = queues.into_iter().unzip();
        Jobs {
            heads: taken.iter().map(|_| None).collect(),
            taken,
            shares: SharesUsed::new(&shares),
        }
    }

    fn next(&mut self) -> Option<(usize, Place, Job)> {
        for (queue, head) in self.heads.iter_mut().enumerate() {
            if head.is_none() {
                *head = self.taken[queue].try_recv().ok();
            }
        }
        let ready: Vec<bool> = self.heads.iter().map(Option::is_some).collect();
        let queue = self.shares.choose(&ready)?;
        let (place, job) = self.heads[queue].take()?;
        Some((queue, place, job))
    }
}

/// Which queue's turn it is: that which has used the least time for its shares. A queue that was
/// empty saves nothing up.
struct SharesUsed {
    shares: Vec<usize>,
    /// Nanoseconds by shares.
    used: Vec<u128>,
    was_ready: Vec<bool>,
    /// The least that a queue with work had used when one was chosen last.
    floor: u128,
}

impl SharesUsed {
    fn new(shares: &[usize]) -> SharesUsed {
        SharesUsed {
            shares: shares.iter().map(|shares| (*shares).max(1)).collect(),
            used: vec![0; shares.len()],
            was_ready: vec![false; shares.len()],
            floor: 0,
        }
    }

    fn choose(&mut self, ready: &[bool]) -> Option<usize> {
        for (queue, used) in self.used.iter_mut().enumerate() {
            if ready[queue] && !self.was_ready[queue] {
                *used = self.floor.max(*used);
            }
        }
        self.was_ready.copy_from_slice(ready);
        let queues = (0..ready.len()).filter(|queue| ready[*queue]);
        let chosen = queues.min_by_key(|queue| self.used[*queue])?;
        self.floor = self.used[chosen];
        Some(chosen)
    }

    fn charge(&mut self, queue: usize, time: Duration) {
        self.used[queue] += (time.as_nanos() << 10) / self.shares[queue] as u128;
    }
}

/// The receiver's end of a [`Bell`], inside an executor, for one waiting task at a time. No waker of
/// glommio's ever leaves its own thread: wake-ups from others overflow a counter after 32,767 clones.
struct Ear {
    bell: Arc<Bell>,
    waiter: Rc<Cell<Option<Waker>>>,
    _reader: glommio::Task<()>,
}

impl Ear {
    /// Begins to listen.
    ///
    /// # Errors
    /// No file descriptor is left.
    fn new(bell: Arc<Bell>) -> std::io::Result<Ear> {
        // SAFETY: the bell keeps its descriptor open while it is duplicated.
        let fd = unsafe { BorrowedFd::borrow_raw(bell.fd()) };
        let fd = fd.try_clone_to_owned()?.into_raw_fd();
        // SAFETY: the descriptor was just duplicated and is handed over.
        let file = unsafe { BufferedFile::from_raw_fd(fd) };
        let waiter = Rc::new(Cell::new(None::<Waker>));
        let wake = waiter.clone();
        // Only this task reads: a cancelled read could swallow a ring meant for the next one.
        let _reader = glommio::spawn_local(async move {
            loop {
                file.read_at(0, 8).await.expect("an eventfd can be read");
                if let Some(waker) = wake.take() {
                    waker.wake();
                }
            }
        });
        Ok(Ear {
            bell,
            waiter,
            _reader,
        })
    }

    /// Returns when `ready` says so ("some queue is not empty"); true if it had to wait, so that
    /// I/O was looked at meanwhile. May be cancelled.
    async fn wait(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        let mut waited = false;
        poll_fn(|cx| {
            if ready() {
                return Poll::Ready(waited);
            }
            waited = true;
            self.waiter.set(Some(cx.waker().clone()));
            self.bell.park();
            if !ready() {
                return Poll::Pending;
            }
            self.bell.unpark();
            Poll::Ready(false)
        })
        .await
    }
}

/// One task waits, another one says when. A notice before the wait is kept.
#[derive(Default)]
struct Event {
    set: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Event {
    /// Lets the waiter go on.
    fn notify(&self) {
        self.set.set(true);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    /// Waits for a notice and consumes it.
    async fn wait(&self) {
        poll_fn(|cx| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            self.waiter.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Lets other tasks run and looks at I/O, which glommio's own yields do not.
async fn turn() {
    sleep(Duration::from_micros(1)).await;
}

/// Waits, inside a task.
pub async fn sleep(time: Duration) {
    glommio::timer::sleep(time).await;
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

    /// Reads what comes next, at most what the buffer holds; 0 at the end. Bound the time by [`within`].
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as Client};
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::channel;

    fn executor(queues: usize) -> Executor {
        let queue = Queue {
            name: "test",
            shares: 100,
        };
        Executor::start("test", 0, &vec![queue; queues]).unwrap()
    }

    /// A client, and the server's end of its connection.
    fn connection() -> (Client, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, server.into())
    }

    #[test]
    fn jobs_of_a_queue_run_in_order_and_so_many_may_wait() {
        let executor = executor(2);
        let (release, held) = channel::<()>();
        let (began, begun) = channel();
        let (done, order) = channel();
        let hold = move || {
            began.send(()).unwrap();
            held.recv().unwrap();
        };
        executor.run(0, hold).unwrap();
        begun.recv().unwrap();
        for job in 0..WAITING_MAX {
            let done = done.clone();
            executor.run(0, move || done.send(job).unwrap()).unwrap();
        }
        assert_eq!(executor.run(0, || {}), Err(Full));
        assert_eq!(executor.run(1, || {}), Ok(()));
        release.send(()).unwrap();
        let all: Vec<usize> = order.iter().take(WAITING_MAX).collect();
        assert!(all.is_sorted());
        // The places are given back.
        let again = done.clone();
        executor.run(0, move || again.send(0).unwrap()).unwrap();
        order.recv().unwrap();
    }

    #[test]
    fn work_from_several_threads_is_done_while_the_executor_falls_asleep_and_wakes() {
        const THREADS: usize = 3;
        const JOBS: usize = 2_000;
        let executor = executor(1);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let (done, answered) = channel();
                    for job in 0..JOBS {
                        let done = done.clone();
                        let sent = match job % 2 {
                            0 => executor.run(0, move || done.send(job).unwrap()),
                            _ => executor.spawn(0, move || async move {
                                done.send(job).unwrap();
                            }),
                        };
                        sent.unwrap();
                        assert_eq!(answered.recv(), Ok(job));
                    }
                });
            }
        });
    }

    #[test]
    fn a_job_begins_as_nice_as_the_thread_was_started_whatever_the_one_before_did() {
        let executor = executor(1);
        let (done, found) = channel();
        for idle in [true, false, true] {
            let done = done.clone();
            let look = move || {
                let before = pace::is_idle();
                let _ = idle && pace::be_idle();
                done.send(before).unwrap();
            };
            executor.run(0, look).unwrap();
        }
        assert!(found.iter().take(3).eq([false; 3]));
    }

    #[test]
    fn tasks_run_at_the_same_time_and_so_many_may_be_there() {
        let executor = executor(1);
        let open = Arc::new(AtomicBool::new(false));
        let (done, ended) = channel();
        for _ in 0..TASKS_MAX {
            let (open, done) = (open.clone(), done.clone());
            let wait = move || async move {
                while !open.load(Acquire) {
                    sleep(Duration::from_millis(1)).await;
                }
                done.send(()).unwrap();
            };
            executor.spawn(0, wait).unwrap();
        }
        assert_eq!(executor.spawn(0, || async {}), Err(Full));
        open.store(true, Release);
        assert_eq!(ended.iter().take(TASKS_MAX).count(), TASKS_MAX);
        // A place is given back after its task has ended.
        let last = || executor.spawn(0, || async {});
        while last() == Err(Full) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_thread_has_its_name_and_is_nicer_than_the_one_that_starts_it() {
        fn nice() -> i32 {
            // SAFETY: the call takes no pointer; 0 is this thread for getpriority on Linux.
            unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
        }
        for own in [0, 4] {
            let start = move || {
                crate::rt::threads::be_nicer(own);
                let queue = Queue {
                    name: "q",
                    shares: 1,
                };
                let executor = Executor::start("snapshots", 7, &[queue]).unwrap();
                let (done, found) = channel();
                let look = move || {
                    let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
                    done.send((name, nice())).unwrap();
                };
                executor.run(0, look).unwrap();
                let (name, of_executor) = found.recv().unwrap();
                assert_eq!(name, "snapshots\n");
                assert_eq!(of_executor, (nice() + 7).min(19), "the last there is");
            };
            std::thread::spawn(start).join().unwrap();
        }
    }

    #[test]
    fn queues_get_time_by_their_shares_and_an_empty_one_saves_nothing_up() {
        let mut shares = SharesUsed::new(&[300, 100]);
        let mut runs = |ready: [bool; 2], turns: usize| {
            let mut runs = [0; 2];
            for _ in 0..turns {
                let queue = shares.choose(&ready).unwrap();
                shares.charge(queue, Duration::from_millis(2));
                runs[queue] += 1;
            }
            runs
        };
        assert_eq!(runs([true, true], 400), [300, 100]);
        assert_eq!(runs([true, false], 1000), [1000, 0]);
        let [first, second] = runs([true, true], 400);
        assert!((299..=301).contains(&first), "{first} and {second}");
        assert_eq!(shares.choose(&[false, false]), None);
    }

    #[test]
    fn a_stream_waits_for_a_slow_peer_and_is_given_up_in_time() {
        const LEN: usize = 16 << 20;
        let executor = executor(1);
        let (mut reads, fd) = connection();
        let write = move || async move {
            let mut stream = Stream::adopt(fd);
            stream.write_all(&vec![7; LEN]).await.unwrap();
            stream.shutdown().await;
            stream.drain(Duration::from_secs(10)).await;
        };
        executor.spawn(0, write).unwrap();
        let (_silent, fd) = connection();
        let (done, given_up) = channel();
        let write = move || async move {
            let mut stream = Stream::adopt(fd);
            let bytes = vec![7; LEN];
            let wrote = within(Duration::from_millis(20), stream.write_all(&bytes)).await;
            done.send(wrote.is_none()).unwrap();
        };
        executor.spawn(0, write).unwrap();
        assert_eq!(given_up.recv(), Ok(true));
        let mut all = Vec::new();
        assert_eq!(reads.read_to_end(&mut all).unwrap(), LEN);
    }

    #[test]
    fn a_drained_stream_ends_in_order_though_bytes_were_left_unread() {
        let executor = executor(1);
        let (mut client, fd) = connection();
        client.write_all(&[1; 100_000]).unwrap();
        let (done, closed) = channel();
        let answer = move || async move {
            let mut stream = Stream::adopt(fd);
            stream.write_all(b"imok").await.unwrap();
            stream.shutdown().await;
            stream.drain(Duration::from_secs(10)).await;
            drop(stream);
            done.send(()).unwrap();
        };
        executor.spawn(0, answer).unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "imok");
        // A stream that is not drained is gone by then.
        let early = closed.recv_timeout(Duration::from_millis(100));
        assert!(early.is_err());
        client.shutdown(std::net::Shutdown::Write).unwrap();
        closed.recv().unwrap();
        assert!(client.take_error().unwrap().is_none());
    }
}
