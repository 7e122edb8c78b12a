//! A dial to one server: its addresses, one after the other.

use super::bounds::{DIAL_ADDRESSES_MAX, DIAL_MS_MIN};
use crate::proto::peer::Address;
use crate::types::{ServerId, Tick};
use crate::zab::RoleId;
use std::collections::VecDeque;

/// For what a server is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Its election port.
    Election(ServerId),
    /// Its quorum port, by a learner in this role.
    Leader(RoleId),
}

#[derive(Debug)]
pub(super) struct Dial {
    pub purpose: Purpose,
    /// Not tried yet.
    addresses: VecDeque<Address>,
    /// For each of them, ms.
    each_ms: u64,
    /// For the one that is being tried.
    pub until: Tick,
}

impl Dial {
    /// First where the server says that it listens, then where the configuration says; no address twice. All of them
    /// share the time of one connection attempt.
    pub fn new(
        purpose: Purpose,
        announced: Vec<Address>,
        configured: &[Address],
        within_ms: u64,
    ) -> Dial {
        let mut addresses: VecDeque<Address> = VecDeque::new();
        let kept = DIAL_ADDRESSES_MAX.saturating_sub(configured.len().min(DIAL_ADDRESSES_MAX / 2));
        let announced = announced.into_iter().take(kept);
        for address in announced.chain(configured.iter().cloned()) {
            let has_room = addresses.len() < DIAL_ADDRESSES_MAX;
            if has_room && !addresses.contains(&address) {
                addresses.push_back(address);
            }
        }
        let n = addresses.len().max(1) as u64;
        Dial {
            purpose,
            addresses,
            each_ms: (within_ms / n).max(DIAL_MS_MIN.min(within_ms)),
            until: Tick(0),
        }
    }

    /// The next address, which has its time from now on.
    pub fn next(&mut self, now: Tick) -> Option<Address> {
        self.until = now.after(self.each_ms);
        self.addresses.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> Address {
        Address::new(&format!("h{n}"), 1).unwrap()
    }

    #[test]
    fn the_announced_addresses_come_first_and_the_configured_ones_always_fit() {
        let all = |announced: usize, configured: &[Address]| {
            let announced = (0..announced).map(address).collect();
            let mut dial = Dial::new(Purpose::Leader(RoleId(1)), announced, configured, 5000);
            let tried = std::iter::from_fn(|| dial.next(Tick(10))).collect::<Vec<_>>();
            (tried, dial.until.0 - 10)
        };
        assert_eq!(all(0, &[]), (vec![], 5000));
        assert_eq!(all(1, &[address(0)]), (vec![address(0)], 5000));
        let two = vec![address(0), address(7)];
        assert_eq!(all(1, &[address(7)]), (two, 2500));
        let (tried, each_ms) = all(500, &[address(777)]);
        assert_eq!((tried.len(), each_ms), (DIAL_ADDRESSES_MAX, DIAL_MS_MIN));
        assert_eq!(tried.last(), Some(&address(777)));
    }
}
