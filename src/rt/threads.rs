//! Threads: data cores, and what a thread is given before it works.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

/// How long a data core, or a thread of the kernel that works for it, runs at a stretch while others want its
/// processor, ns: the shortest that Linux gives (a kernel's own choice is 3 ms). Who has a shorter slice than the one
/// that runs goes on as soon as it wakes; so a data core waits for no thread of another process until that one's slice
/// is over, and a sync beside the core not for the core's. Over time each gets as much of the processor as before.
const SLICE_NS: u64 = 100_000;

/// Starts a data core: a thread with a name of at most 15 bytes, on one CPU if one is given, with short slices
/// where the scheduler gives them. A panic there ends the process, also where panics unwind: the other threads must
/// not go on without it.
///
/// # Errors
/// No thread, or the CPU is not one of the machine's or not allowed to this process.
pub fn data_core<T: Send + 'static>(
    name: &str,
    cpu: Option<usize>,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let thread = std::thread::Builder::new().name(name.into());
    let run = move || {
        ask_for_short_slices();
        abort_on_panic(run)
    };
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

/// What the scheduler does for this thread; `None`: it does not say.
fn scheduling() -> Option<libc::sched_attr> {
    const BYTES: u32 = size_of::<libc::sched_attr>() as u32;
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: the fields are numbers, for which zeroes are values; the kernel writes at most as many bytes as it is
    // told of.
    let (failed, found) = unsafe {
        let mut found = std::mem::zeroed::<libc::sched_attr>();
        let at = &raw mut found;
        (
            libc::syscall(libc::SYS_sched_getattr, this_thread, at, BYTES, no_flags),
            found,
        )
    };
    (failed == 0).then_some(found)
}

/// Only for a thread under the policy that threads have who were given none: whoever has given the process another
/// one knows better. A kernel that can't (before 6.12) lets it be.
fn ask_for_short_slices() {
    let Some(mut wanted) = scheduling().filter(|now| now.sched_policy == libc::SCHED_OTHER as u32)
    else {
        return;
    };
    wanted.sched_runtime = SLICE_NS;
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: as many bytes are read as the structure says that it has. If it fails, nothing has changed.
    unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            this_thread,
            &raw const wanted,
            no_flags,
        )
    };
}

/// Whether this thread, and those that the kernel starts for it, run for a short slice at a stretch.
pub fn has_short_slices() -> bool {
    scheduling().is_some_and(|now| {
        now.sched_policy == libc::SCHED_OTHER as u32 && now.sched_runtime == SLICE_NS
    })
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

/// Makes this thread alone so much nicer than the thread that started it, whatever niceness the process was
/// given: an absolute one would let it go before the data cores of a process that is nicer than that.
pub(super) fn be_nicer(by: u8) {
    // SAFETY: the calls take no pointer; 0 is this thread for both of them on Linux.
    unsafe {
        let own = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, own + i32::from(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// What the kernel makes of the question it says itself: a slice of so many ns, or, before Linux 6.12, none.
    #[test]
    fn a_data_core_has_short_slices_where_the_scheduler_gives_them_and_its_starter_keeps_its_own() {
        let before = scheduling().unwrap().sched_runtime;
        let core = data_core("core", None, || {
            (has_short_slices(), scheduling().unwrap().sched_runtime)
        });
        let (is_short, slice) = core.unwrap().join().unwrap();
        assert_eq!(is_short, slice != 0, "{slice} ns");
        assert!(!has_short_slices());
        assert_eq!(scheduling().unwrap().sched_runtime, before);
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
