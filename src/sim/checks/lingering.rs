//! A connection that its client has ended, of which the server has read everything, ends soon: it is not kept until
//! its session's timeout.

use std::collections::BTreeMap;

/// Such a connection may stay for so long, µs, and for so many ticks of its core.
const LINGERS_MAX: (u64, u32) = (300_000, 25);

/// Connections that have been over since (µs), and for so many ticks; by core and port.
#[derive(Default)]
pub(in crate::sim) struct Lingering(BTreeMap<(u16, u16), (u64, u32)>);

impl Lingering {
    /// Nobody is connected.
    pub(super) fn recovered(&mut self) {
        self.0.clear();
    }

    /// A tick of a core ends; `over` are the ports of its connections that are over.
    pub(in crate::sim) fn tick_ends(
        &mut self,
        core: u16,
        over: impl Iterator<Item = u16>,
        now_us: u64,
    ) -> Result<(), String> {
        let before = self.0.clone();
        self.0.retain(|(of, _), _| *of != core);
        for port in over {
            let (since, ticks) = before.get(&(core, port)).copied().unwrap_or((now_us, 0));
            if now_us - since > LINGERS_MAX.0 && ticks > LINGERS_MAX.1 {
                return Err(format!(
                    "core {core} keeps connection {port}, which has been over since {since} us"
                ));
            }
            self.0.insert((core, port), (since, ticks + 1));
        }
        Ok(())
    }
}
