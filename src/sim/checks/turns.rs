//! Whoever has bytes in a socket is read before anybody else is read twice.

use std::collections::BTreeMap;

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
            if *reads > 1 {
                return Err(format!(
                    "core {core} read connection {connection} twice while {waits} had bytes"
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
