//! Four-letter words that list connections or sessions: their texts grow with what clients have made,
//! and whoever asked may leave them unread.
//!
//! One list is gathered at a time, and it is sent when there is room for its text among those that are
//! not read yet. So all texts together take [`UNSENT_MAX`] bytes, or as much as the one text that is
//! longer, which is hardly more than [`LIST_MAX`]; beside them there is what one list is gathered from, a pointer for
//! each path.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes of lists that wait to be read, all together.
pub const UNSENT_MAX: usize = 32 << 20;

/// Bytes of paths in a list, at most: a longer one is not answered. Watches of one path, and the tree, share it in
/// memory; a list does not.
pub const LIST_MAX: usize = 256 << 20;

const _: () = assert!(UNSENT_MAX < LIST_MAX);

/// Which lists there are in memory.
#[derive(Debug, Default)]
pub struct Lists(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_gathering: bool,
    /// Bytes of texts that are not read yet.
    unsent: usize,
    /// Of each task that waits, once, and of those that have given up since the last change.
    waiting: Vec<Waker>,
}

/// The right to gather a list, given back when dropped.
#[derive(Debug)]
pub struct Gathering<'a>(&'a Lists);

/// Room for a text that is not read yet, given back when dropped.
#[derive(Debug)]
pub struct Unsent<'a> {
    lists: &'a Lists,
    bytes: usize,
}

impl Lists {
    /// Waits until no other list is gathered. Bound the time by dropping the future.
    pub async fn gather(&self) -> Gathering<'_> {
        self.wait_for(State::begin_gathering).await;
        Gathering(self)
    }

    /// Waits until there is room for a text of so many bytes; nothing else is gathered before. Bound
    /// the time by dropping the future.
    pub async fn keep(&self, bytes: usize, _gathered: Gathering<'_>) -> Unsent<'_> {
        self.wait_for(|state| state.take_room(bytes)).await;
        Unsent { lists: self, bytes }
    }

    async fn wait_for(&self, mut attempt: impl FnMut(&mut State) -> bool) {
        poll_fn(|context| {
            let mut state = self.state();
            if attempt(&mut state) {
                return Poll::Ready(());
            }
            state.wake_at_the_next_change(context);
            Poll::Pending
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panics ends the process, so nothing is ever left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, what: impl FnOnce(&mut State)) {
        let mut state = self.state();
        what(&mut state);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn begin_gathering(&mut self) -> bool {
        !std::mem::replace(&mut self.is_gathering, true)
    }

    /// A text of any length fits if it is the only one.
    fn take_room(&mut self, bytes: usize) -> bool {
        let fits = self.unsent == 0 || self.unsent.saturating_add(bytes) <= UNSENT_MAX;
        if fits {
            self.unsent += bytes;
        }
        fits
    }

    fn wake_at_the_next_change(&mut self, context: &Context<'_>) {
        let waker = context.waker();
        if !self.waiting.iter().any(|other| other.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.give_back(|state| state.is_gathering = false);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.lists.give_back(|state| state.unsent -= self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>, waker: &Waker) -> Option<T> {
        match future.poll(&mut Context::from_waker(waker)) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    /// What the future gives at once; it is given up otherwise.
    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        poll(pin!(future), Waker::noop())
    }

    #[test]
    fn one_list_is_gathered_at_a_time_and_the_texts_that_wait_have_a_bound_in_bytes() {
        let lists = Lists::default();
        let keep = |bytes| {
            let gathering = at_once(lists.gather()).expect("no other list is gathered");
            assert!(at_once(lists.gather()).is_none(), "one at a time");
            at_once(lists.keep(bytes, gathering))
        };
        let mut texts: Vec<Unsent<'_>> = std::iter::from_fn(|| keep(UNSENT_MAX / 4)).collect();
        assert_eq!(texts.len(), 4);
        assert!(keep(1).is_none());
        texts.pop();
        assert!(keep(UNSENT_MAX / 4 + 1).is_none());
        assert!(keep(UNSENT_MAX / 4).is_some());
        texts.clear();
        let long = keep(2 * UNSENT_MAX).expect("it is the only one");
        assert!(keep(1).is_none());
        drop(long);
        assert_eq!(lists.state().unsent, 0);
    }

    #[test]
    fn a_list_that_has_no_room_holds_up_the_next_one_until_a_text_is_read() {
        let lists = Lists::default();
        let gathering = at_once(lists.gather()).unwrap();
        let unread = at_once(lists.keep(UNSENT_MAX, gathering)).unwrap();
        let gathering = at_once(lists.gather()).unwrap();
        let mut made = pin!(lists.keep(1, gathering));
        assert!(poll(made.as_mut(), Waker::noop()).is_none());
        assert!(at_once(lists.gather()).is_none());
        drop(unread);
        let kept = poll(made.as_mut(), Waker::noop());
        assert!(kept.is_some() && at_once(lists.gather()).is_some());
    }

    #[test]
    fn who_waits_is_woken_once_by_each_change_however_often_it_has_looked() {
        let lists = Lists::default();
        let first = at_once(lists.gather()).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut waits = pin!(lists.gather());
        for _ in 0..3 {
            assert!(poll(waits.as_mut(), &waker).is_none());
        }
        assert_eq!(lists.state().waiting.len(), 1);
        drop(first);
        assert_eq!(woken.0.load(Relaxed), 1);
        assert!(poll(waits.as_mut(), &waker).is_some());
        assert_eq!(woken.0.load(Relaxed), 1, "nobody waits any more");
    }
}
