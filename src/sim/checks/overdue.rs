//! Nobody lives on who is not heard of: load and full disks hold up no expiry, for whose record a part of the log is
//! kept.

use super::super::disk::SimStorage;
use crate::log::{Need, Room};
use crate::pipeline::Pipeline;
use crate::types::SessionId;

/// More than a closeSession of the simulator's takes, bytes.
const CLOSE_BYTES: usize = 8 << 10;
/// So long a session may be overdue, µs.
const OVERDUE_MAX_US: u64 = 400_000;
/// So much of the time between two turns of the core that orders counts, µs: the rest was a pause, and is not the
/// server's.
const TURN_MAX_US: u64 = 10_000;

/// A session that is overdue.
#[derive(Default)]
pub(in crate::sim) struct Overdue {
    /// Which, since when, and for how long, pauses left out, µs.
    found: Option<(SessionId, u64, u64)>,
    last_turn_us: u64,
}

impl Overdue {
    /// Nobody is.
    pub(super) fn recovered(&mut self) {
        self.found = None;
    }

    /// A turn of the core that orders ends.
    pub(in crate::sim) fn turn_ends(
        &mut self,
        pipeline: &Pipeline<SimStorage>,
        sessions: impl Iterator<Item = SessionId>,
        now_us: u64,
    ) -> Result<(), String> {
        let before = std::mem::replace(&mut self.last_turn_us, now_us);
        let Some(session) = overdue(pipeline, sessions) else {
            self.found = None;
            return Ok(());
        };
        let passed = (now_us - before).min(TURN_MAX_US);
        let (since, waited) = match self.found {
            Some((of, since, waited)) if of == session => (since, waited + passed),
            _ => (now_us, 0),
        };
        self.found = Some((session, since, waited));
        match waited > OVERDUE_MAX_US {
            true => Err(format!("session {session} is overdue since {since} us")),
            false => Ok(()),
        }
    }
}

/// The first session whose time is over, as whoever orders knows, although there is room for its end.
fn overdue(
    pipeline: &Pipeline<SimStorage>,
    mut sessions: impl Iterator<Item = SessionId>,
) -> Option<SessionId> {
    let has_room = pipeline.log().room_for(Need::Reserve, CLOSE_BYTES) == Room::Yes;
    if !has_room || pipeline.waiting() > 0 {
        return None;
    }
    let (everywhere, shards) = pipeline.known_arrivals();
    let known = shards.map(|(_, known)| known).fold(everywhere, Ord::min);
    sessions.find(|session| pipeline.deadline(*session).is_some_and(|at| at < known))
}
