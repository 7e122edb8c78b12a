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
/// How often it is looked at whether the thread gets on,
const LOOK: Duration = Duration::from_millis(100);
/// and how long it does not rest if it did not.
const CROWDED: Duration = Duration::from_secs(1);

/// What a thread gets of a processor that others want too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// By its niceness (SCHED_OTHER). A thread that wakes waits until the slice of the one that runs is over,
    /// some milliseconds, however nice that is.
    Nice,
    /// Hardly anything (SCHED_IDLE): whoever wakes goes on at once. On a processor that others keep busy such a
    /// thread gets nowhere.
    Idle,
}

impl Class {
    fn is_set(self) -> bool {
        let policy = match self {
            Class::Nice => libc::SCHED_OTHER,
            Class::Idle => libc::SCHED_IDLE,
        };
        // SAFETY: all zeroes are parameters; one set of them is read; 0 is this thread.
        unsafe {
            let none = std::mem::zeroed::<libc::sched_param>();
            libc::sched_setscheduler(0, policy, &raw const none) == 0
        }
    }
}

/// Whether a thread that has become idle may become nice again: not every process may.
fn may_come_back() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let come_and_go = || Class::Idle.is_set() && Class::Nice.is_set();
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
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut numbers = text.split_ascii_whitespace();
        let mut next = || Some(Duration::from_nanos(numbers.next()?.parse().ok()?));
        Some(Share {
            ran: next()?,
            waited: next()?,
        })
    }
}

/// How a thread gets on.
#[derive(Debug)]
struct Pace {
    class: Class,
    /// It has waited for a processor for longer than it had one.
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
            is_crowded: false,
            looked: None,
            share: None,
            used: clock::thread_cpu(),
        }
    }

    /// Whether it has waited for longer than it ran since the last look; where the kernel does not say, it is
    /// nice, and rests.
    fn look(&mut self, share: Option<Share>) {
        let before = std::mem::replace(&mut self.share, share);
        self.is_crowded = before.zip(share).is_some_and(|(before, now)| {
            now.waited.saturating_sub(before.waited) > now.ran.saturating_sub(before.ran)
        });
        let class = match self.is_crowded || share.is_none() {
            true => Class::Nice,
            false => Class::Idle,
        };
        if class != self.class && may_come_back() && class.is_set() {
            self.class = class;
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

/// Rests, behind a piece of work the last part of which, at the device, began then.
pub(super) fn rest(begun: Instant) {
    let device = begun.elapsed();
    let rest = PACE.with_borrow_mut(|pace| {
        let pace = pace.get_or_insert_with(Pace::new);
        let since = pace.looked.map_or(LOOK, |looked| looked.elapsed());
        if since >= if pace.is_crowded { CROWDED } else { LOOK } {
            pace.look(Share::of_this_thread());
            pace.looked = Some(Instant::now());
        }
        pace.rest(device, clock::thread_cpu())
    });
    std::thread::sleep(rest);
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
    fn who_has_waited_for_longer_than_it_ran_does_not_rest_and_others_do() {
        let look = || {
            let mut pace = Pace::new();
            let used = pace.used;
            let shares = [(9, 50), (14, 54), (18, 59), (22, 62)].map(|(ran, waited)| {
                let (ran, waited) = (ms(ran), ms(waited));
                Some(Share { ran, waited })
            });
            let found = shares.into_iter().chain([None]).map(|share| {
                pace.look(share);
                pace.rest(ms(3), used)
            });
            assert!(found.eq([6, 6, 0, 6, 6].map(ms)));
            assert_eq!(pace.class, Class::Nice, "the kernel did not say");
        };
        // Not the thread of the tests, whose class is changed where that is allowed.
        std::thread::spawn(look).join().unwrap();
    }

    #[test]
    fn the_kernel_says_how_long_a_thread_ran() {
        let before = Share::of_this_thread().expect("a kernel with scheduling statistics");
        let begun = clock::thread_cpu();
        while clock::thread_cpu() < begun + ms(30) {}
        let after = Share::of_this_thread().expect("it said so before");
        assert!(after.ran > before.ran && after.waited >= before.waited);
    }

    #[test]
    fn a_class_is_that_of_the_thread_alone() {
        // SAFETY: the call takes no pointer; 0 is this thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        let other = std::thread::spawn(move || (Class::Idle.is_set(), policy()));
        assert_eq!(other.join().unwrap(), (true, libc::SCHED_IDLE));
        assert_eq!(policy(), before);
    }
}
