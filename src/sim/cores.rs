//! What the driver of one core keeps, and what the core learns at its look: reports of the kernel, and
//! letters of other cores.

use super::base::{Base, TICK_MS};
use super::checks::Checks;
use super::disk::SimStorage;
use super::network::{Edge, Kernel, Network};
use super::sockets::{KernelSockets, address};
use crate::log::SyncOutcome;
use crate::member::{Done, Member};
use crate::messages::ToShards;
use crate::pipeline::Fatal;
use crate::placement::{Served, ServingCore};
use crate::types::{Now, Zxid};
use std::collections::VecDeque;

/// What a core finds at its next look besides its kernel.
pub(super) enum Letter {
    /// A connection that somebody else has accepted.
    Connection(usize),
    Synced {
        outcome: SyncOutcome,
        here: bool,
    },
    Done(Done<SimStorage>),
}

/// What the driver of one core keeps.
#[derive(Default)]
pub(super) struct Core {
    /// When the next turn comes, µs.
    pub(super) due_at: Option<u64>,
    /// Until when it is held still, µs.
    pub(super) held_until: u64,
    /// A sync runs on it.
    pub(super) is_syncing: bool,
    /// It has made its last turn.
    pub(super) has_ended: bool,
    pub(super) letters: VecDeque<Letter>,
    /// When the turn before began, µs.
    pub(super) last_turn: u64,
    /// How many turns it has made.
    pub(super) turns: u64,
    pub(super) next_tick: u64,
    /// No descriptor was left: the core tries again at its next tick.
    pub(super) exhausted: bool,
    /// At the ordering core: the listening socket may have connections.
    pub(super) listener_ready: bool,
    /// Connections that it has ended.
    pub(super) ended: u64,
    /// What was watched there behind its last turn, bytes.
    pub(super) watch_bytes: usize,
    /// The state that it showed then.
    pub(super) shown: Zxid,
}

/// Whether a core learns of something: always of what came before its last turn began, mostly of
/// what came since.
pub(super) fn is_reported(at_us: &mut Option<u64>, last_turn: u64, base: &mut Base) -> bool {
    let reported = at_us.is_some_and(|at| at <= last_turn || base.rng.u32(0..4) > 0);
    if reported {
        *at_us = None;
    }
    reported
}

/// Turns of a core in which completions are lost, one in so many, and for how long it is told of nothing then, µs: less
/// than the two tickTimes for which sessions wait after a pause (`pipeline/arrivals.rs`).
const LOST_ONE_IN: u32 = 3_000;
const BEHIND_US: u64 = TICK_MS * 1000;

/// A wait of the core begins: whether its kernel tells it of anything. Now and then the kernel loses completions.
pub(super) fn tells(kernel: &mut Kernel, base: &mut Base) -> bool {
    if !base.calm && !base.options.short && base.rng.u32(0..LOST_ONE_IN) == 0 {
        base.counters.completions_lost += 1;
        kernel.behind_until = base.now_us + base.rng.u64(1..BEHIND_US);
    }
    kernel.has_told_all = !kernel.is_behind(base.now_us);
    kernel.has_told_all
}

/// A core that serves learns what its kernel has for it.
pub(super) fn look(
    core: u16,
    own: &mut Core,
    tick: bool,
    serving: &mut ServingCore<SimStorage>,
    base: &mut Base,
    network: &mut Network,
    checks: &mut Checks,
) {
    let kernel = &mut network.kernels[usize::from(core)];
    let is_told = tells(kernel, base);
    let is_tried_again = tick && std::mem::take(&mut own.exhausted);
    if is_tried_again || is_told && is_reported(&mut kernel.listener, own.last_turn, base) {
        serving.listener_ready();
    }
    if !is_told {
        return;
    }
    let mut later = Vec::new();
    for edge in std::mem::take(&mut kernel.edges) {
        // A newer edge of a socket does not come before an older one.
        let behind = later.iter().any(|of: &Edge| of.socket == edge.socket);
        if behind || !is_reported(&mut Some(edge.at_us), own.last_turn, base) {
            later.push(edge);
            continue;
        }
        serving.socket_event(edge.socket, edge.readable, edge.writable, edge.ended);
        let of = &network.connections[edge.connection];
        if edge.readable && of.lone && of.has_request() && of.is_idle() {
            checks.turns.waits(core, edge.connection);
        }
    }
    network.kernels[usize::from(core)].edges = later;
}

/// A letter at a core that serves.
pub(super) fn read_letter(
    letter: Letter,
    serving: &mut ServingCore<SimStorage>,
    sockets: &mut KernelSockets<'_>,
    observe: &mut impl FnMut(&ToShards),
    now: Now,
) -> Result<(), Fatal> {
    match letter {
        Letter::Connection(connection) => {
            let id = serving.adopt(address(connection, sockets.network), now);
            let now_us = sockets.base.now_us;
            sockets.network.open(connection, sockets.core, id, now_us);
        }
        Letter::Synced { outcome, here } => {
            inline(serving).synced(outcome, now)?;
            if here {
                serving.answer(now, sockets, observe)?;
            }
        }
        Letter::Done(done) => {
            inline(serving).job_done(done)?;
        }
    }
    Ok(())
}

fn inline(core: &mut ServingCore<SimStorage>) -> &mut Member<SimStorage> {
    match &mut core.served {
        Served::Inline(inline) => &mut inline.member,
        Served::Replica(_) => unreachable!("a replica orders nothing"),
    }
}
