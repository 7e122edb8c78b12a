//! A thread beside the executor, for what blocks and may take long: segments, snapshots, purge.

use super::bell::{Bell, Ear};
use super::{Event, spawn};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Jobs that may wait; the server never has more than a handful.
const QUEUE_MAX: usize = 64;

type Answer = Box<dyn Any + Send>;
type Job = Box<dyn FnOnce() -> Answer + Send>;
type Waiting = BTreeMap<u64, Box<dyn FnOnce(Answer)>>;

/// When a helper gets a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// As the executors do: somebody waits for it.
    Normal,
    /// After the executors.
    Low,
}

/// Works off jobs one after the other. Its answers come back into the executor
/// that made it through a queue and a bell.
pub struct Helper {
    jobs: SyncSender<(u64, Job)>,
    next: Cell<u64>,
    waiting: Rc<RefCell<Waiting>>,
}

impl Helper {
    /// Starts the thread; called inside an executor.
    ///
    /// # Errors
    /// No thread, or no descriptor for the bell.
    pub fn start(name: &str, priority: Priority) -> io::Result<Helper> {
        let (jobs, todo) = sync_channel::<(u64, Job)>(QUEUE_MAX);
        let (done, answers) = sync_channel::<(u64, Answer)>(QUEUE_MAX);
        let bell = Bell::new()?;
        let ear = Ear::new(bell.clone())?;
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                if priority == Priority::Low {
                    lower_priority();
                }
                while let Ok((id, job)) = todo.recv() {
                    if done.send((id, job())).is_err() {
                        return;
                    }
                    bell.ring();
                }
            })?;
        let waiting = Rc::new(RefCell::new(Waiting::new()));
        spawn(pump(ear, answers, waiting.clone()));
        Ok(Helper {
            jobs,
            next: Cell::new(0),
            waiting,
        })
    }

    /// Runs a job; its answer is the future's. Jobs run in the order of the calls.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let id = self.next.replace(self.next.get() + 1);
        let slot: Rc<(Event, Cell<Option<T>>)> = Rc::default();
        let fill = slot.clone();
        let deliver = Box::new(move |answer: Answer| {
            fill.1.set(answer.downcast().ok().map(|answer| *answer));
            fill.0.notify();
        });
        self.waiting.borrow_mut().insert(id, deliver);
        let job: Job = Box::new(move || Box::new(job()));
        assert!(
            self.jobs.try_send((id, job)).is_ok(),
            "the helper thread is there and keeps up"
        );
        slot.0.wait().await;
        slot.1.take().expect("the answer has the job's type")
    }
}

async fn pump(mut ear: Ear, answers: Receiver<(u64, Answer)>, waiting: Rc<RefCell<Waiting>>) {
    let mut next = None;
    loop {
        ear.wait(|| {
            next = next.take().or_else(|| answers.try_recv().ok());
            next.is_some()
        })
        .await;
        if let Some((id, answer)) = next.take() {
            let deliver = waiting
                .borrow_mut()
                .remove(&id)
                .expect("a job that was asked for");
            deliver(answer);
        }
    }
}

/// Snapshots must not take the serving core's time.
fn lower_priority() {
    // SAFETY: the calls take no pointer; 0 is this thread for setpriority on Linux.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_in_order() {
        let sum = crate::rt::run(None, async {
            let helper = Helper::start("test", Priority::Low).unwrap();
            let mut sum = 0;
            for i in 0..100u64 {
                sum += helper.run(move || i).await;
            }
            sum
        });
        assert_eq!(sum.unwrap(), 4950);
    }
}
