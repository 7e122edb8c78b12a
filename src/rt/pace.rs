//! How a thread goes on that works at length beside threads that others wait for: it rests behind each piece of
//! its work, and takes of a processor what nobody else wants, as long as that is enough.

use super::clock;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a rest is, in times of what the piece before it took of device and processor.
const REST: u32 = 2;
/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(100);
/// How often the thread's class is looked at.
const LOOK: Duration = Duration::from_secs(1);

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

/// What a thread has got since its class was looked at last.
#[derive(Debug)]
struct Pace {
    class: Class,
    /// When its class was looked at; `None` before the first rest.
    looked: Option<Instant>,
    /// When it went on behind its last rest.
    rested: Instant,
    /// What it had used of a processor then.
    used: Duration,
    /// How long it has waited for a processor since its class was looked at.
    waited: Duration,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            class: Class::Nice,
            looked: None,
            rested: Instant::now(),
            used: clock::thread_cpu(),
            waited: Duration::ZERO,
        }
    }

    /// What a piece of work has taken that ends now, the last part of which, at the device, has taken `device`.
    fn work(&mut self, device: Duration, used: Duration, since_rest: Duration) -> Duration {
        let cpu = used.saturating_sub(self.used);
        self.used = used;
        self.waited += since_rest.saturating_sub(cpu + device);
        cpu + device
    }

    /// The class for the time to come: idle unless the thread has waited for most of the time.
    fn look(&mut self, since: Duration) -> Class {
        match std::mem::take(&mut self.waited) > since / 2 {
            true => Class::Nice,
            false => Class::Idle,
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
        let work = pace.work(device, clock::thread_cpu(), pace.rested.elapsed());
        let since = pace.looked.map_or(LOOK, |looked| looked.elapsed());
        if since >= LOOK {
            let class = pace.look(since);
            if class != pace.class && may_come_back() && class.is_set() {
                pace.class = class;
            }
            pace.looked = Some(Instant::now());
        }
        work
    });
    std::thread::sleep((rest * REST).min(REST_MAX));
    PACE.with_borrow_mut(|pace| {
        pace.iter_mut()
            .for_each(|pace| pace.rested = Instant::now())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_piece_has_taken_what_it_used_and_the_rest_of_the_time_it_has_waited() {
        let mut pace = Pace::new();
        let used = pace.used;
        assert_eq!(pace.work(ms(3), used + ms(2), ms(10)), ms(5));
        assert_eq!(pace.waited, ms(5));
        assert_eq!(pace.work(ms(3), used + ms(6), ms(1)), ms(7));
        assert_eq!(
            pace.waited,
            ms(5),
            "the device's time may be the processor's too"
        );
    }

    #[test]
    fn who_has_waited_for_most_of_the_time_is_nice_and_else_idle() {
        let mut pace = Pace::new();
        for (waited, class) in [(400, Class::Idle), (700, Class::Nice), (0, Class::Idle)] {
            pace.waited = ms(waited);
            assert_eq!(pace.look(ms(1000)), class);
            assert_eq!(pace.waited, ms(0), "a look begins anew");
        }
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
