//! A learner, from the moment at which it was elected to follow.

use super::effect::RoleId;
use crate::log::{Adoption, Durable, Epochs, LogEnd};
use crate::proto::peer::ToLearner;
use crate::types::{ServerId, Tick, Zxid};
use crate::zab::discovery::{Introduction, IntroductionEffect};
use crate::zab::election::Offer;
use crate::zab::follow::Follow;
use crate::zab::links::LinkId;
use crate::zab::sync::{Stream, StreamEvent};
use crate::zab::verdict::{Leave, Patience};

/// A leader that does not listen yet is dialled so often. Who has been elected listens as soon as it knows.
pub const LEADER_DIALS: u32 = 12;
/// The first pause between two dials, ms; each is twice as long as the last.
pub const LEADER_DIAL_PAUSE_MS: u64 = 2;
/// The longest, ms (Apache's value, for each).
pub const LEADER_DIAL_PAUSE_MS_MAX: u64 = 100;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Learn {
    pub role: RoleId,
    pub leader: ServerId,
    /// With what this member went into the election.
    pub offer: Offer,
    pub is_observer: bool,
    /// No later than this something must have come of dialling.
    pub until: Tick,
    pub stage: Stage,
}

/// How far a learner is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Dialling(Dialling),
    Introduced(LinkId, Introduction),
    Synchronised(LinkId, Box<Stream>),
    /// It serves as soon as what was committed by then is applied, and has since where that is `None`.
    Following(LinkId, Box<Follow>, Option<Zxid>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dialling {
    /// So many dials have failed.
    pub failed: u32,
    /// When the next one is made; `None`: one is on its way.
    pub again: Option<Tick>,
}

impl Learn {
    pub fn begin(
        role: RoleId,
        leader: ServerId,
        offer: Offer,
        is_observer: bool,
        patience: Patience,
        now: Tick,
    ) -> Learn {
        let dialling = Dialling {
            failed: 0,
            again: None,
        };
        Learn {
            role,
            leader,
            offer,
            is_observer,
            until: now.after(patience.init_ms),
            stage: Stage::Dialling(dialling),
        }
    }

    /// Its connection to the leader.
    pub fn link(&self) -> Option<LinkId> {
        match &self.stage {
            Stage::Dialling(_) => None,
            Stage::Introduced(link, _)
            | Stage::Synchronised(link, _)
            | Stage::Following(link, ..) => Some(*link),
        }
    }

    pub fn is_serving(&self) -> bool {
        matches!(self.stage, Stage::Following(_, _, None))
    }

    /// A dial has failed: the next one waits, or there is none.
    pub fn dial_failed(&mut self, now: Tick) -> Result<(), Leave> {
        let Stage::Dialling(dialling) = &mut self.stage else {
            return Ok(());
        };
        if dialling.again.is_some() {
            return Ok(());
        }
        dialling.failed += 1;
        if dialling.failed >= LEADER_DIALS {
            return Err(Leave::Unreachable(self.leader));
        }
        let pause = LEADER_DIAL_PAUSE_MS << (dialling.failed - 1);
        dialling.again = Some(now.after(pause.min(LEADER_DIAL_PAUSE_MS_MAX)));
        Ok(())
    }

    /// Time passes. True: it is to be dialled now.
    pub fn tick(&mut self, now: Tick) -> Result<bool, Leave> {
        match &mut self.stage {
            Stage::Dialling(_) if now >= self.until => {
                return Err(Leave::Unreachable(self.leader));
            }
            Stage::Dialling(dialling) => {
                return Ok(dialling.again.take_if(|again| *again <= now).is_some());
            }
            Stage::Introduced(_, introduction) => introduction.tick(now)?,
            Stage::Synchronised(_, stream) => stream.handle(StreamEvent::Tick, now)?,
            Stage::Following(_, follow, _) => follow.tick(now)?,
        }
        Ok(false)
    }

    pub fn packet(
        &mut self,
        packet: &ToLearner<'_>,
        now: Tick,
    ) -> Result<Option<IntroductionEffect>, Leave> {
        match &mut self.stage {
            Stage::Dialling(_) => Ok(None),
            Stage::Introduced(_, introduction) => introduction.packet(packet, now),
            Stage::Synchronised(_, stream) => stream.packet(packet, now).map(|()| None),
            Stage::Following(_, follow, _) => follow.packet(packet, now).map(|()| None),
        }
    }

    pub fn event(&mut self, event: StreamEvent, now: Tick) -> Result<(), Leave> {
        match &mut self.stage {
            Stage::Synchronised(_, stream) => stream.handle(event, now),
            _ => Ok(()),
        }
    }

    pub fn recorded(&mut self, record: &Durable<Epochs>, now: Tick) -> Option<IntroductionEffect> {
        match &mut self.stage {
            Stage::Dialling(_) => None,
            Stage::Introduced(_, introduction) => introduction.promised(record, now),
            Stage::Synchronised(_, stream) => {
                stream.recorded(record);
                None
            }
            Stage::Following(_, follow, _) => {
                follow.recorded(record);
                None
            }
        }
    }

    pub fn adopted(&mut self, history: &Durable<Adoption>) {
        if let Stage::Synchronised(_, stream) = &mut self.stage {
            stream.adopted(history);
        }
    }

    pub fn durable(&mut self, end: &Durable<LogEnd>) {
        if let Stage::Following(_, follow, _) = &mut self.stage {
            follow.durable(end);
        }
    }
}
