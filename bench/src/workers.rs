//! The threads that generate a run's load.

use crate::failure::Failure;
use crate::machine;
use crate::plan::Plan;
use std::thread;

/// Runs `work` for each share of the load on a thread of its own, thread `n` on the `n`th CPU from the
/// plan's, and waits for all of them. Returns what they return, in the order of the shares, or the first
/// failure among them.
pub fn each_on_a_thread<Share: Send, Done: Send>(
    plan: &Plan,
    shares: impl IntoIterator<Item = Share>,
    work: impl Fn(usize, Share) -> Result<Done, Failure> + Sync,
) -> Result<Vec<Done>, Failure> {
    let work = &work;
    let results: Vec<Result<Done, Failure>> = thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .enumerate()
            .map(|(number, share)| {
                scope.spawn(move || {
                    machine::pin(plan.pin.map(|cpu| cpu + number))?;
                    work(number, share)
                })
            })
            .collect();
        let lost = || Failure::Protocol("a worker thread panicked".into());
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(lost())))
            .collect()
    });
    results.into_iter().collect()
}
