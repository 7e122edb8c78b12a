//! How a thread goes on that works at length beside threads that others wait for: it rests behind each piece of
//! its work, and takes of a processor what nobody else wants. Where that is too little, because others keep the
//! processors busy, it goes on by its niceness, without a rest: what it makes is needed the sooner.

use super::clock;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a rest is, in times of what the piece before it took of device and processor.
const REST: u32 = 2;
/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(100);
/// So many times as long as it ran a thread has waited for a processor if others keep the processors busy: it gets on
/// half as fast then as with its rests alone. Less is the share of an idle thread beside others who want little.
const WAITED: u32 = 1 + REST;
/// How often it is looked at whether the thread gets on,
const LOOK: Duration = Duration::from_millis(100);
/// and how long it does not rest if it did not.
const CROWDED: Duration = Duration::from_secs(1);

/// What a thread gets of a processor that others want too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// By its niceness, under the policy that the process was given. A thread that wakes waits until the slice
    /// of the one that runs is over, some milliseconds, however nice that is.
    Nice,
    /// Hardly anything (SCHED_IDLE): whoever wakes goes on at once. On a processor that others keep busy such a
    /// thread gets nowhere.
    Idle,
}

/// A policy of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy(libc::c_int);

impl Policy {
    fn of_this_thread() -> Policy {
        // SAFETY: the call takes no pointer; 0 is this thread.
        Policy(unsafe { libc::sched_getscheduler(0) })
    }
}

impl Class {
    /// For this thread, whose policy was `own` before.
    fn is_set(self, own: Policy) -> bool {
        let policy = match self {
            Class::Nice => own.0,
            Class::Idle => libc::SCHED_IDLE,
        };
        // SAFETY: all zeroes are parameters; one set of them is read; 0 is this thread.
        unsafe {
            let none = std::mem::zeroed::<libc::sched_param>();
            libc::sched_setscheduler(0, policy, &raw const none) == 0
        }
    }
}

/// Whether a thread that has become idle may become nice again: not every process may, and none gets back to a
/// policy that has priorities (SCHED_RR). A thread that was idle from the beginning has nowhere to come back to.
fn may_come_back(own: Policy) -> bool {
    if own.0 == libc::SCHED_IDLE {
        return false;
    }
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let come_and_go = move || Class::Idle.is_set(own) && Class::Nice.is_set(own);
        let tried = std::thread::Builder::new().spawn(come_and_go);
        tried.is_ok_and(|tried| tried.join().unwrap_or(false))
    })
}

/// How long a thread had a processor, and how long it waited for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    ran: Duration,
    waited: Duration,
}

impl Share {
    /// Of this thread since it began; `None`: the kernel does not say.
    fn of_this_thread() -> Option<Share> {
        Share::of(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    fn of(text: &str) -> Option<Share> {
        let mut numbers = text.split_ascii_whitespace();
        let mut next = || Some(Duration::from_nanos(numbers.next()?.parse().ok()?));
        let share = Share {
            ran: next()?,
            waited: next()?,
        };
        // What a kernel says that counts nothing: taken for a share, it would mean that nobody ever waits.
        (share != Share::default()).then_some(share)
    }
}

/// How a thread gets on.
#[derive(Debug)]
struct Pace {
    class: Class,
    /// What the thread was started with, and comes back to: the policy that the operator has given the process. If
    /// that is SCHED_IDLE, a background thread under SCHED_OTHER would run before the data cores.
    own: Policy,
    /// It has waited for a processor for more than [`WAITED`] times as long as it had one.
    is_crowded: bool,
    /// When that was looked at; `None` before the first rest.
    looked: Option<Instant>,
    /// What it had got then.
    share: Option<Share>,
    /// What it had used of a processor at its last rest.
    used: Duration,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            class: Class::Nice,
            own: Policy::of_this_thread(),
            is_crowded: false,
            looked: None,
            share: None,
            used: clock::thread_cpu(),
        }
    }

    /// Whether it has mostly waited since the last look; where the kernel does not say, it is nice, and rests.
    fn look(&mut self, share: Option<Share>) {
        let before = std::mem::replace(&mut self.share, share);
        self.is_crowded = before.zip(share).is_some_and(|(before, now)| {
            now.waited.saturating_sub(before.waited) > now.ran.saturating_sub(before.ran) * WAITED
        });
        let class = match self.is_crowded || share.is_none() {
            true => Class::Nice,
            false => Class::Idle,
        };
        self.go_on_as(class);
    }

    /// Changes the class, if that is allowed.
    fn go_on_as(&mut self, class: Class) {
        if class != self.class && may_come_back(self.own) && class.is_set(self.own) {
            self.class = class;
        }
    }

    /// How long it holds what was found at a look.
    fn holds(&self) -> Duration {
        match self.is_crowded {
            true => CROWDED,
            false => LOOK,
        }
    }

    /// How long to rest behind a piece of work, of which `device` was at the device.
    fn rest(&mut self, device: Duration, used: Duration) -> Duration {
        let work = device + used.saturating_sub(std::mem::replace(&mut self.used, used));
        match self.is_crowded {
            true => Duration::ZERO,
            false => (work * REST).min(REST_MAX),
        }
    }
}

thread_local! {
    static PACE: RefCell<Option<Pace>> = const { RefCell::new(None) };
}

/// Before a call under which the kernel holds what other threads may wait for, such as a lock on a directory or a
/// part of a file system's journal: the thread is nice until it is next looked at how it gets on. An idle thread that
/// loses its processor within such a call may keep the lock for a second where others keep the processors busy.
pub(super) fn be_nice() {
    PACE.with_borrow_mut(|pace| {
        if let Some(pace) = pace {
            pace.go_on_as(Class::Nice);
        }
    });
}

/// Behind a job: the next one on this thread begins as nice as the thread was started, and is looked at anew.
pub(super) fn end() {
    be_nice();
    PACE.take();
}

/// Rests, behind a piece of work the last part of which, at the device, began then.
pub(super) fn rest(begun: Instant) {
    #[cfg(test)]
    RESTS.set(RESTS.get() + 1);
    let device = begun.elapsed();
    let rest = PACE.with_borrow_mut(|pace| {
        let pace = pace.get_or_insert_with(Pace::new);
        let since = pace.looked.map(|looked| looked.elapsed());
        if since.is_none_or(|since| since >= pace.holds()) {
            pace.look(Share::of_this_thread());
            pace.looked = Some(Instant::now());
        }
        pace.rest(device, clock::thread_cpu())
    });
    std::thread::sleep(rest);
}

/// Has this thread become idle as a rest may have it, if it may come back; whether it is.
#[cfg(test)]
pub(super) fn be_idle() -> bool {
    let mut pace = Pace::new();
    pace.look(Some(Share::default()));
    let is_idle = pace.class == Class::Idle;
    PACE.set(Some(pace));
    is_idle
}

#[cfg(test)]
thread_local! {
    static RESTS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How often this thread has rested.
#[cfg(test)]
pub(super) fn rests() -> usize {
    RESTS.get()
}

/// Whether this thread is idle.
#[cfg(test)]
pub(super) fn is_idle() -> bool {
    // SAFETY: the call takes no pointer; 0 is this thread.
    unsafe { libc::sched_getscheduler(0) == libc::SCHED_IDLE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_rest_follows_from_what_a_piece_took_of_device_and_processor() {
        let mut pace = Pace::new();
        let used = pace.used;
        assert_eq!(pace.rest(ms(3), used + ms(2)), ms(10));
        assert_eq!(pace.rest(ms(3), used + ms(6)), ms(14));
        assert_eq!(pace.rest(ms(800), used + ms(6)), REST_MAX);
    }

    #[test]
    fn who_has_waited_for_three_times_as_long_as_it_ran_does_not_rest_and_others_do() {
        let look = || {
            let mut pace = Pace::new();
            let used = pace.used;
            let shares = [(9, 50), (14, 65), (18, 78), (22, 90)].map(|(ran, waited)| {
                let (ran, waited) = (ms(ran), ms(waited));
                Some(Share { ran, waited })
            });
            let found = shares.into_iter().chain([None]).map(|share| {
                pace.look(share);
                (pace.rest(ms(3), used), pace.holds())
            });
            let due = [(6, 100), (6, 100), (0, 1000), (6, 100), (6, 100)];
            assert!(found.eq(due.map(|(rest, holds)| (ms(rest), ms(holds)))));
            assert_eq!(pace.class, Class::Nice, "the kernel did not say");
        };
        // Not the thread of the tests, whose class is changed where that is allowed.
        std::thread::spawn(look).join().unwrap();
    }

    #[test]
    fn the_kernel_says_how_long_a_thread_ran() {
        let begun = clock::thread_cpu();
        let run_to = |ran: u64| while clock::thread_cpu() < begun + ms(ran) {};
        // A thread that has just begun may not have been counted yet.
        run_to(30);
        let before = Share::of_this_thread().expect("a kernel with scheduling statistics");
        run_to(60);
        let after = Share::of_this_thread().expect("it said so before");
        assert!(after.ran > before.ran && after.waited >= before.waited);
    }

    #[test]
    fn a_kernel_that_counts_nothing_does_not_say() {
        let (ran, waited) = (Duration::from_nanos(5), Duration::from_nanos(7));
        assert_eq!(Share::of("5 7 1\n"), Some(Share { ran, waited }));
        for text in ["0 0 0\n", "", "5", "a b c"] {
            assert_eq!(Share::of(text), None, "{text:?}");
        }
    }

    fn policy() -> libc::c_int {
        Policy::of_this_thread().0
    }

    /// On a thread of its own, whose class is changed where that is allowed.
    fn on_a_thread(run: fn()) {
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn a_class_is_that_of_the_thread_alone() {
        let before = policy();
        let own = Policy(libc::SCHED_OTHER);
        let other = std::thread::spawn(move || (Class::Idle.is_set(own), policy()));
        assert_eq!(other.join().unwrap(), (true, libc::SCHED_IDLE));
        assert_eq!(policy(), before);
    }

    #[test]
    fn who_becomes_nice_again_has_the_policy_that_it_was_given() {
        on_a_thread(|| {
            assert!(Class::Nice.is_set(Policy(libc::SCHED_BATCH)));
            let mut pace = Pace::new();
            pace.look(Some(Share::default()));
            let may = may_come_back(Policy(libc::SCHED_BATCH));
            assert_eq!(policy() == libc::SCHED_IDLE, may);
            pace.look(None);
            assert_eq!((policy(), pace.class), (libc::SCHED_BATCH, Class::Nice));
        });
    }

    #[test]
    fn a_process_that_was_made_idle_as_a_whole_stays_so_on_each_of_its_threads() {
        on_a_thread(|| {
            assert!(Class::Idle.is_set(Policy(libc::SCHED_OTHER)));
            let mut pace = Pace::new();
            for share in [Some(Share::default()), None] {
                pace.look(share);
                assert_eq!(policy(), libc::SCHED_IDLE);
            }
        });
    }

    #[test]
    fn what_others_may_wait_for_is_never_done_idle_and_neither_is_the_next_job() {
        on_a_thread(|| {
            let may = may_come_back(Policy(libc::SCHED_OTHER));
            for leave in [be_nice, end] {
                assert_eq!((be_idle(), is_idle()), (may, may));
                leave();
                assert_eq!(policy(), libc::SCHED_OTHER);
            }
            assert!(PACE.with_borrow(Option::is_none), "nothing is left of it");
        });
    }
}
