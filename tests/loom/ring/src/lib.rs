//! A bounded ring with one writer and one reader, with the memory orderings of rtrb: the writer publishes by storing
//! the tail, the reader by storing the head.

use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::{Arc, Mutex};

/// What both ends share.
pub struct RingBuffer<T> {
    slots: Vec<Mutex<Option<T>>>,
    head: AtomicUsize,
    tail: AtomicUsize,
}

/// The writer's end.
pub struct Producer<T>(Arc<RingBuffer<T>>);

/// The reader's end.
pub struct Consumer<T>(Arc<RingBuffer<T>>);

/// Why nothing was pushed.
#[derive(Debug)]
pub enum PushError<T> {
    /// There is no room.
    Full(T),
}

impl<T> RingBuffer<T> {
    /// For so many.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let ring = Arc::new(RingBuffer {
            slots: (0..capacity).map(|_| Mutex::new(None)).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        });
        (Producer(ring.clone()), Consumer(ring))
    }

    /// How many there may be.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }
}

impl<T> Producer<T> {
    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        let ring = &self.0;
        ring.tail.load(Relaxed) - ring.head.load(Acquire) == ring.capacity()
    }

    /// Puts one in.
    pub fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.is_full() {
            return Err(PushError::Full(value));
        }
        let tail = self.0.tail.load(Relaxed);
        let mut slot = self.0.slots[tail % self.0.capacity()].lock().unwrap();
        assert!(slot.replace(value).is_none(), "it was taken");
        drop(slot);
        self.0.tail.store(tail + 1, Release);
        Ok(())
    }
}

impl<T> Consumer<T> {
    /// What both ends share.
    pub fn buffer(&self) -> &RingBuffer<T> {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.head.load(Relaxed) == self.0.tail.load(Acquire)
    }

    /// Takes one out.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let head = self.0.head.load(Relaxed);
        let value = self.0.slots[head % self.0.capacity()]
            .lock()
            .unwrap()
            .take();
        self.0.head.store(head + 1, Release);
        value
    }
}
