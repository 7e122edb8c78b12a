//! What the cores of a process share, in every order in which two of them can act on it: [`progress`], what one asks
//! of the other ([`asking`]), and how one that sleeps is woken ([`parked`]). The files are those of the server; the
//! atomics below them are loom's.
//!
//! `cargo test --release --manifest-path tests/loom/Cargo.toml`
#![allow(dead_code)]

/// In the place of `core::sync::atomic`.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
}

/// In the place of the server's.
mod types {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Zxid(pub i64);
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ShardId(pub u16);
}

#[path = "../../../src/placement/asking.rs"]
mod asking;
#[path = "../../../src/rt/parked.rs"]
mod parked;
#[path = "../../../src/placement/progress.rs"]
mod progress;

#[cfg(test)]
mod tests {
    use super::asking::{Asking, RoomSigns};
    use super::parked::Parked;
    use super::progress::Progress;
    use super::types::{ShardId, Zxid};
    use loom::sync::atomic::AtomicI64;
    use loom::sync::atomic::Ordering::{Acquire, Release};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;
    use rtrb::RingBuffer;

    /// An eventfd: a ring that came while nobody slept is not lost.
    #[derive(Default)]
    struct Bell {
        parked: Parked,
        rung: Mutex<bool>,
        rings: Condvar,
    }

    impl Bell {
        fn ring(&self) {
            if self.parked.wakes() {
                *self.rung.lock().unwrap() = true;
                self.rings.notify_one();
            }
        }

        /// Sleeps unless `may_sleep` says otherwise at the last look.
        fn wait(&self, may_sleep: impl FnOnce() -> bool) {
            self.parked.park();
            if may_sleep() {
                let mut rung = self.rung.lock().unwrap();
                while !*rung {
                    rung = self.rings.wait(rung).unwrap();
                }
                *rung = false;
            }
            self.parked.unpark();
        }
    }

    fn model(threads_switch: usize, of: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(threads_switch);
        builder.check(of);
    }

    /// Through a ring for `capacity`, `requests` come in their order, and nobody sleeps for ever.
    fn requests_come(capacity: usize, requests: u32) {
        let (give, mut take) = RingBuffer::new(capacity);
        let bells = Arc::new([Bell::default(), Bell::default()]);
        let shards = bells.clone();
        let shard = thread::spawn(move || {
            let [own, ordering] = &*shards;
            let mut asking = Asking::new(give);
            let mut next = 0..requests;
            loop {
                if asking.send_all(|| next.next()) {
                    ordering.ring();
                }
                if asking.is_through() {
                    break;
                }
                own.wait(|| !asking.has_room_again());
            }
        });
        let [shard_bell, own] = &*bells;
        let mut signs = RoomSigns::default();
        let mut came = 0;
        while came < requests {
            while let Some(request) = take.pop() {
                assert_eq!(request, came, "in their order");
                came += 1;
                if signs.took(capacity) {
                    shard_bell.ring();
                }
            }
            if came < requests {
                own.wait(|| take.is_empty());
            }
        }
        shard.join().unwrap();
    }

    #[test]
    fn whoever_finds_the_ring_full_is_woken_when_there_is_room() {
        for (capacity, requests) in [(1, 3), (2, 4), (3, 5)] {
            model(3, move || requests_come(capacity, requests));
        }
    }

    #[test]
    fn what_a_client_was_shown_is_known_to_whoever_serves_it_next() {
        model(3, || {
            let progress = Arc::new(Progress::new(2, Zxid(1)));
            let shown = Arc::new(AtomicI64::new(0));
            let shards: Vec<_> = [5, 3]
                .into_iter()
                .map(|state| {
                    let (progress, shown) = (progress.clone(), shown.clone());
                    thread::spawn(move || {
                        progress.raise_answered(Zxid(state));
                        // The bytes leave.
                        shown.fetch_max(state, Release);
                    })
                })
                .collect();
            // The client has them, and asks another core.
            let seen = shown.load(Acquire);
            assert!(progress.answered() >= Zxid(seen));
            for shard in shards {
                shard.join().unwrap();
            }
            assert_eq!(progress.answered(), Zxid(5));
        });
    }

    #[test]
    fn entries_that_were_taken_have_their_bytes_with_them() {
        model(3, || {
            let progress = Arc::new(Progress::new(1, Zxid(0)));
            let own = progress.clone();
            let shard = thread::spawn(move || {
                own.took(ShardId(0), Zxid(1), 1, 10);
                own.took(ShardId(0), Zxid(2), 1, 10);
            });
            let taken = progress.taken(ShardId(0));
            assert!(taken.bytes >= 10 * taken.entries);
            assert!(progress.seen(ShardId(0)) >= Zxid(taken.entries as i64));
            shard.join().unwrap();
        });
    }
}
