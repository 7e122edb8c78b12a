//! The runtime: the only place that names glommio, io_uring, sockets, eventfds, affinity and mapped
//! files. It knows nothing of the protocol.
//!
//! What of glommio 0.9 works and what is a trap decides its shape: the preemption timer is an hour
//! (a short one can park an executor with runnable tasks), a heartbeat bounds that bug all the
//! same, pending `accept` and file operations are never polled again by a combinator, and nothing
//! on the data path uses its wakers or channels across threads.

pub mod background;
pub mod bell;
pub mod clock;
pub mod listener;
pub mod lock;
pub mod net;
pub mod probe;
pub mod ring;
mod ring_flags;
pub mod signals;
pub mod socket;
pub mod storage;
pub mod threads;
mod ticker;
mod watches;

use glommio::{GlommioError, LocalExecutorBuilder, Placement};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};
use std::time::Duration;

pub use ticker::Ticker;

/// Longest time for which glommio's parking bug could delay a task.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Registered memory of a ring; the default of 10 MiB buys nothing here.
const IO_MEMORY: usize = 64 << 10;

/// Why an executor did not run.
#[derive(Debug, thiserror::Error)]
#[error("the io_uring executor can't start: {0}")]
pub struct ExecutorError(String);

/// Runs `future` on an executor of this thread, pinned to a CPU if one is given.
///
/// # Errors
/// [`ExecutorError`]; the preflight has looked for the usual causes before.
pub fn run<T>(cpu: Option<usize>, future: impl Future<Output = T>) -> Result<T, ExecutorError> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .preempt_timer(Duration::from_secs(3600))
        .io_memory(IO_MEMORY)
        .make()
        .map_err(|e: GlommioError<()>| ExecutorError(e.to_string()))?;
    executor.run(async {
        let ticker = Ticker::new(HEARTBEAT).map_err(|e| ExecutorError(e.to_string()))?;
        let heartbeat = glommio::spawn_local(async move {
            loop {
                ticker.tick().await;
            }
        });
        let result = future.await;
        heartbeat.cancel().await;
        Ok(result)
    })
}

/// Starts a task of this executor that nobody waits for. It runs at once, inside this call, up to
/// its first wait: hold no borrow across it.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

/// Waits.
pub async fn sleep(time: Duration) {
    glommio::timer::sleep(time).await;
}

/// Lets other tasks run and polls I/O, which glommio's own yields do not.
pub async fn turn() {
    sleep(Duration::from_micros(1)).await;
}

/// One task of an executor waits, another one says when. A notice before the wait is kept.
#[derive(Default)]
pub struct Event {
    set: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Event {
    /// Lets the waiter go on.
    pub fn notify(&self) {
        self.set.set(true);
        if let Some(waker) = self.waiter.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits for a notice and consumes it.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
