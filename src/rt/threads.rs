//! Threads: data cores, and one beside the executor, for what blocks and may take long: segments, snapshots, purge.

use super::bell::{Bell, Ear};
use super::{Event, spawn};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Starts a data core: a thread with a name of at most 15 bytes, on one CPU if one is given. A panic
/// there ends the process, also where panics unwind: the other threads must not go on without it.
///
/// # Errors
/// No thread, or the CPU is not one of the machine's or not allowed to this process.
pub fn data_core<T: Send + 'static>(
    name: &str,
    cpu: Option<usize>,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let thread = std::thread::Builder::new().name(name.into());
    let run = move || abort_on_panic(run);
    let Some(cpu) = cpu else {
        return thread.spawn(run);
    };
    // A thread inherits the CPUs of the thread that starts it.
    let before = affinity()?;
    set_affinity(&only(cpu)?)?;
    let started = thread.spawn(run);
    set_affinity(&before)?;
    started
}

/// Runs; a panic ends the process.
pub(super) fn abort_on_panic<T>(run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| std::process::abort())
}

fn only(cpu: usize) -> io::Result<libc::cpu_set_t> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an empty set is all zeroes, and the index is within it.
    unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::CPU_SET(cpu, &mut set);
        Ok(set)
    }
}

/// The CPUs that this thread may run on.
fn affinity() -> io::Result<libc::cpu_set_t> {
    // SAFETY: a set of the size given is written; 0 is this thread.
    unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        match libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) {
            0 => Ok(set),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: a set of the size given is read; 0 is this thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(set), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

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
    set_nice(10);
}

/// Sets the priority of this thread alone; a negative one is not allowed to everybody and is then
/// left out.
pub(super) fn set_nice(nice: i32) {
    // SAFETY: the call takes no pointer; 0 is this thread for setpriority on Linux.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
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

    #[test]
    fn a_data_core_has_its_name_and_its_cpu_and_the_thread_that_starts_it_keeps_its_own() {
        let cpus = crate::rt::probe::affinity();
        let cpu = *cpus.last().unwrap();
        let look = || {
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            (name, crate::rt::probe::affinity())
        };
        let pinned = data_core("core-1", Some(cpu), look).unwrap();
        assert_eq!(pinned.join().unwrap(), ("core-1\n".to_owned(), vec![cpu]));
        let free = data_core("core-2", None, look).unwrap();
        assert_eq!(free.join().unwrap(), ("core-2\n".to_owned(), cpus.clone()));
        assert_eq!(crate::rt::probe::affinity(), cpus);
        assert!(data_core("core-3", Some(1 << 20), || ()).is_err());
        assert!(data_core("core-4", Some(1023), || ()).is_err());
        assert_eq!(crate::rt::probe::affinity(), cpus);
    }

    /// Runs itself in a second process, where the panic happens.
    #[test]
    fn a_panic_of_a_data_core_ends_the_process() {
        use std::os::unix::process::ExitStatusExt;
        const ROLE: &str = "RINGKEEPER_TEST_PANICS";
        if std::env::var_os(ROLE).is_some() {
            let core = data_core("core", None, || panic!("as the test wants")).unwrap();
            let _: Result<(), _> = core.join();
            return;
        }
        let name = "rt::threads::tests::a_panic_of_a_data_core_ends_the_process";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(ROLE, "1")
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(libc::SIGABRT));
    }
}
