//! Which sessions were heard of, and when the shard looks at all its connections.

use super::connection::{Connection, Phase, Silence};
use super::endings::Why;
use crate::types::{ConnId, Now, SessionId, Tick};

/// What a round over the connections decides about one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Stays,
    /// It goes on, and its session is alive although nothing was received: requests wait in the
    /// input or in the kernel because the shard holds them back.
    IsHeldBack(SessionId),
    /// It has exceeded a timeout.
    Ends(Why),
}

/// How far a round over the connections has come.
#[derive(Debug)]
pub(super) enum Round {
    /// Connections are looked at.
    Looking {
        /// The slot that comes next.
        slot: usize,
        /// Readers that made no progress, and for how many rounds. Each holds more than a share of
        /// output: so there are at most as many as shares fit `ringkeeper.outputBytesMax`.
        idle: Vec<(u64, ConnId)>,
    },
    /// Sessions that were heard of before the last connection was looked at are reported.
    Reporting(std::vec::IntoIter<SessionId>),
}

/// How far the rounds over the connections of a shard have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// When the last round had looked at every connection.
    pub looked: Tick,
    /// The watermark of the last whole report.
    pub watermark: Tick,
    /// It names the sessions that were heard of up to this moment.
    pub gathered: Tick,
}

/// Sessions heard of, and the rounds.
#[derive(Debug)]
pub(super) struct Liveness {
    /// Half a tickTime, ms.
    half: u64,
    handshake_timeout_ms: u64,
    session_timeout_max_ms: i32,
    /// Sessions heard of since the last report, each once.
    touched: Vec<SessionId>,
    /// Counts the reports.
    batch: u64,
    /// When what the last of them says was gathered.
    gathered: Tick,
    next_round: Tick,
    /// The round that is under way.
    round: Option<Round>,
    /// Parts of reports that wait for the pipeline.
    untaken: usize,
    rounds: Rounds,
}

impl Liveness {
    pub(super) fn new(
        tick_time_ms: u64,
        handshake_timeout_ms: u64,
        session_timeout_max_ms: i32,
    ) -> Liveness {
        Liveness {
            half: (tick_time_ms / 2).max(1),
            handshake_timeout_ms,
            session_timeout_max_ms,
            touched: Vec::new(),
            batch: 1,
            gathered: Tick(0),
            next_round: Tick(0),
            round: None,
            untaken: 0,
            rounds: Rounds::default(),
        }
    }

    /// Rounds in so many milliseconds.
    pub(super) fn rounds_in(&self, ms: u64) -> u64 {
        ms / self.half
    }

    /// A session was heard of.
    pub(super) fn touch(&mut self, c: &mut Connection, session: SessionId) {
        if c.touched_batch != self.batch {
            c.touched_batch = self.batch;
            self.touched.push(session);
        }
    }

    /// Whether a round is due.
    pub(super) fn is_due(&self, now: Now) -> bool {
        now.tick >= self.next_round
    }

    /// The round that is under way, for its next slice; a new one if there is none.
    pub(super) fn take_round(&mut self, now: Now) -> Round {
        self.round.take().unwrap_or_else(|| {
            self.next_round = now.tick.after(self.half);
            Round::Looking {
                slot: 0,
                idle: Vec::new(),
            }
        })
    }

    /// The round is to be gone on with.
    pub(super) fn keep_round(&mut self, round: Round) {
        self.round = Some(round);
    }

    /// The sessions heard of since the last report. `None` while that one waits for the pipeline: what
    /// was heard is for a later report. So one report waits at most, and whoever orders, held up for
    /// long, learns soon behind it what is known now.
    pub(super) fn take_touched(&mut self, now: Now) -> Option<Vec<SessionId>> {
        self.rounds.looked = now.tick;
        if self.untaken > 0 {
            return None;
        }
        self.batch += 1;
        self.gathered = now.tick;
        Some(std::mem::take(&mut self.touched))
    }

    /// A part of a report waits for the pipeline; the last one with a watermark.
    pub(super) fn report_waits(&mut self, watermark: Option<Tick>) {
        self.untaken += 1;
        if let Some(watermark) = watermark {
            (self.rounds.watermark, self.rounds.gathered) = (watermark, self.gathered);
        }
    }

    /// The last rounds.
    pub(super) fn rounds(&self) -> Rounds {
        self.rounds
    }

    /// The pipeline, or the way to it, has taken a part of a report.
    pub(super) fn report_taken(&mut self) {
        self.untaken -= 1;
    }

    /// Counts one round for a connection, and decides. `held_back`: it has requests that wait for
    /// the shard. Everything that lay in its socket at `watermark` is known, so a timeout ends there: where
    /// that is long ago, behind a pause of the process, what came since may say that it is alive, and a later
    /// round decides.
    pub(super) fn round(
        &self,
        c: &mut Connection,
        held_back: bool,
        watermark: Tick,
        now: Now,
    ) -> Fate {
        match held_back {
            // Who is not read can't be heard.
            true => c.quiet = Silence::default(),
            false => c.quiet.count(now),
        }
        match c.backlog() {
            0 => c.undrained = Silence::default(),
            _ => c.undrained.count(now),
        }
        let handshake_until = c.accepted.after(self.handshake_timeout_ms);
        match c.phase {
            Phase::Fresh | Phase::Connecting(_) if watermark > handshake_until => {
                Fate::Ends(Why::HandshakeTooLate)
            }
            Phase::Fresh | Phase::Connecting(_) => Fate::Stays,
            Phase::Attached(attachment) => {
                let exceeds = |silence: Silence| silence.exceeds(attachment.timeout_ms, watermark);
                let idle = c.fifo.is_empty() && !held_back && exceeds(c.quiet);
                if exceeds(c.undrained) {
                    Fate::Ends(Why::TakesNothing)
                } else if idle {
                    Fate::Ends(Why::Idle)
                } else if held_back {
                    Fate::IsHeldBack(attachment.session)
                } else {
                    Fate::Stays
                }
            }
            Phase::Ended { .. } => {
                if c.undrained.exceeds(self.session_timeout_max_ms, watermark) {
                    Fate::Ends(Why::TakesNothing)
                } else {
                    Fate::Stays
                }
            }
        }
    }
}
