//! Looks names of servers up, each on a thread of its own: the system's resolver waits, for seconds where no name
//! server answers, and nobody else is to wait behind it. A name that can't be looked up has the addresses that it had
//! last.

use crate::rt::bell::Bell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lookups under way at a time. One more fails at once.
pub const LOOKUPS_MAX: usize = 64;
/// Names of which the last addresses are kept: every member's, and some that strangers have announced.
const KEPT_MAX: usize = 512;

#[derive(Default)]
struct State {
    under_way: usize,
    found: VecDeque<(u64, Vec<IpAddr>)>,
    last: BTreeMap<String, Vec<IpAddr>>,
}

/// Lookups for one core.
pub struct Names {
    state: Arc<Mutex<State>>,
    bell: Arc<Bell>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing is done under the lock that could panic half way.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    /// `bell` is rung when there is something to take.
    pub fn new(bell: Arc<Bell>) -> Names {
        Names {
            state: Arc::default(),
            bell,
        }
    }

    /// Looks a name up for the caller's number; [`Names::take`] gives what was found, and nothing that it was not.
    /// False: too many are under way.
    pub fn look_up(&self, number: u64, name: &str) -> bool {
        {
            let mut state = lock(&self.state);
            if state.under_way >= LOOKUPS_MAX {
                return false;
            }
            state.under_way += 1;
        }
        let (shared, bell, name) = (self.state.clone(), self.bell.clone(), name.to_owned());
        let work = move || {
            let found = (&name[..], 0).to_socket_addrs();
            let found: Vec<IpAddr> = found.map_or_else(
                |_| Vec::new(),
                |addresses| addresses.map(|address| address.ip()).collect(),
            );
            let mut state = lock(&shared);
            state.under_way -= 1;
            let found = state.or_last(name, found);
            state.found.push_back((number, found));
            drop(state);
            bell.ring();
        };
        let thread = std::thread::Builder::new().name("name".into());
        let is_started = thread.spawn(work).is_ok();
        if !is_started {
            lock(&self.state).under_way -= 1;
        }
        is_started
    }

    /// What was found for a number.
    pub fn take(&self) -> Option<(u64, Vec<IpAddr>)> {
        lock(&self.state).found.pop_front()
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        lock(&self.state).found.is_empty()
    }
}

impl State {
    fn or_last(&mut self, name: String, found: Vec<IpAddr>) -> Vec<IpAddr> {
        if found.is_empty() {
            return self.last.get(&name).cloned().unwrap_or_default();
        }
        if self.last.len() < KEPT_MAX || self.last.contains_key(&name) {
            self.last.insert(name, found.clone());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_name_is_looked_up_beside_and_keeps_its_last_addresses() {
        let names = Names::new(Bell::new().unwrap());
        assert!(names.look_up(7, "localhost"));
        let found = loop {
            match names.take() {
                Some(found) => break found,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        assert_eq!(found.0, 7);
        assert!(found.1.iter().all(IpAddr::is_loopback) && !found.1.is_empty());
        let mut state = lock(&names.state);
        assert_eq!(state.or_last("localhost".to_owned(), Vec::new()), found.1);
        state.under_way = LOOKUPS_MAX;
        drop(state);
        assert!(!names.look_up(8, "localhost"));
    }
}
