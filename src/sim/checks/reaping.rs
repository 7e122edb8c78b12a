//! Containers and TTL nodes are deleted at the pace that the operator has chosen. Whether one was due is asked by
//! the model of the truth.

use crate::pipeline::ReaperConfig;

/// How much a tick that came late may make up for, and how late a turn may follow its tick, µs.
const LATE_US: u64 = 150_000;

#[derive(Default)]
pub(super) struct Reaping {
    /// From one delete to the next one.
    pace_us: u64,
    /// What the deletes so far have taken, less the time that has passed.
    taken_us: u64,
    last_us: u64,
}

impl Reaping {
    pub(super) fn new(config: ReaperConfig) -> Reaping {
        Reaping {
            pace_us: 60_000_000 / config.per_minute_max,
            ..Reaping::default()
        }
    }

    /// A process begins anew.
    pub(super) fn recovered(&mut self) {
        self.taken_us = 0;
    }

    /// A delete was ordered at that moment.
    pub(super) fn observe(&mut self, ordered_us: u64) -> Result<(), String> {
        let passed = ordered_us.saturating_sub(self.last_us);
        self.last_us = ordered_us;
        self.taken_us = self.taken_us.saturating_sub(passed) + self.pace_us;
        match self.taken_us <= self.pace_us + LATE_US {
            true => Ok(()),
            false => Err(format!(
                "containers and TTL nodes go faster than one in {} ms",
                self.pace_us / 1000
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_over_any_time() {
        let config = ReaperConfig {
            per_minute_max: 600,
            ..ReaperConfig::default()
        };
        let mut even = Reaping::new(config);
        assert!((0..100).all(|n| even.observe(n * 100_000).is_ok()));
        let mut fast = Reaping::new(config);
        let kept = (0..100).take_while(|n| fast.observe(n * 90_000).is_ok());
        assert!((10..30).contains(&kept.count()));
        let mut burst = Reaping::new(config);
        assert!(burst.observe(0).is_ok() && burst.observe(0).is_ok());
        assert!(burst.observe(0).is_err());
        burst.recovered();
        assert!(burst.observe(0).is_ok());
    }
}
