//! Whoever has bytes in a socket is read in the end, however much the others ask for: what
//! `placement::intake` promises, in numbers.

use std::collections::BTreeMap;

/// Looks at one connection until it is served, at most: those in which it pays what it owes, and one.
const LOOKS_MAX: u32 = 17;
/// Connections served for each look at a busy one: those who ask for little, and it.
const RUN_MAX: u32 = 17;

/// How often every other connection of a core was read since one was reported to be readable.
#[derive(Default)]
pub(in crate::sim) struct Turns {
    waiting: BTreeMap<(u16, usize), BTreeMap<usize, u32>>,
    /// Connections may wait for memory of the shard, which is given out in an order of its own.
    pub(in crate::sim) waits_for_memory: bool,
}

impl Turns {
    /// A core was told that bytes of a connection wait, of which nothing else is under way.
    pub(in crate::sim) fn waits(&mut self, core: u16, connection: usize) {
        if !self.waits_for_memory {
            self.waiting.entry((core, connection)).or_default();
        }
    }

    /// A core has read so many bytes.
    pub(in crate::sim) fn read(
        &mut self,
        core: u16,
        connection: usize,
        bytes: usize,
    ) -> Result<(), String> {
        self.waiting.remove(&(core, connection));
        if bytes == 0 {
            return Ok(());
        }
        for (&(_, waits), others) in self.waiting.range_mut((core, 0)..=(core, usize::MAX)) {
            let reads = others.entry(connection).or_default();
            *reads += 1;
            let reads = *reads;
            // Each pass over the busy ones looks at each of them once.
            if reads > LOOKS_MAX * RUN_MAX * (others.len() as u32 + 1) {
                return Err(format!(
                    "core {core} read connection {connection} {reads} times while {waits} had bytes"
                ));
            }
        }
        Ok(())
    }

    /// A connection has ended, or is in no state to be read for reasons of its own.
    pub(in crate::sim) fn gone(&mut self, core: u16, connection: usize) {
        self.waiting.remove(&(core, connection));
    }

    /// The process is gone.
    pub(super) fn recovered(&mut self) {
        self.waiting.clear();
    }
}
