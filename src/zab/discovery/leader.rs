//! The leader's side. What a packet of a learner does:
//!
//! | Packet | From whom | gathering | own promise on its way | offered | established |
//! |---|---|---|---|---|---|
//! | introduction | anybody new | may raise the epoch; a voter counts | waits | LEADERINFO | LEADERINFO |
//! | introduction | who has said one | dropped | dropped | dropped | dropped |
//! | ACKEPOCH | who got LEADERINFO | – | – | below | synchronised |
//! | ACKEPOCH | anybody else | dropped | dropped | dropped | dropped |
//! | any other | anybody | dropped | dropped | dropped | dropped |
//!
//! | ACKEPOCH while offered | What |
//! |---|---|
//! | without currentEpoch: promised on an earlier connection | waits; does not count |
//! | without history: wiped or maimed | waits; does not count |
//! | (currentEpoch, last) above the leader's | dropped; if no quorum is left without those, the role ends |
//! | else, of a voter | counts; waits |
//! | else | waits |
//!
//! A promise outlives the connection that it came on: who has promised can't promise again, and is not asked to.
//! After the epoch is established nobody is compared: a quorum has promised, so what a latecomer has beyond the
//! leader's history was never committed.

use crate::log::{Durable, Epochs};
use crate::proto::peer::{LearnerInfo, ToLeader, ToLearner};
use crate::types::{Epoch, ServerId, Tick, Zxid};
use crate::zab::bounds::LEARNERS_MAX;
use crate::zab::election::Offer;
use crate::zab::learner::Learner;
use crate::zab::links::LinkId;
use crate::zab::tally::{Pair, Tally};
use crate::zab::verdict::{Dropped, Leave, Patience};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DiscoveryEffect {
    /// Make acceptedEpoch this, durably, then tell [`Discovery::promised`].
    Promise(Epoch),
    /// Send.
    Send(LinkId, ToLearner<'static>),
    /// A quorum has promised. The leader takes over its own history as the one of this epoch.
    Established(Epoch),
    /// Bring a learner to the leader's history, from what is durable there.
    Synchronise {
        /// Its connection, which is no concern of discovery any more.
        link: LinkId,
        /// Who.
        learner: Learner,
        /// What is durable there; below 0: nothing, or nothing that it would go on from.
        last: Zxid,
    },
    /// Close.
    Drop(LinkId, Dropped),
}

/// A leader's discovery, for as long as it leads: it goes on for those who come late.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Discovery {
    me: ServerId,
    pair: Pair,
    /// currentEpoch and end of the leader's own history.
    own: (Epoch, Zxid),
    patience: Patience,
    phase: Phase,
    learners: BTreeMap<LinkId, Caller>,
    /// Voters whose history is newer.
    ahead: BTreeSet<ServerId>,
    /// Of the phase.
    deadline: Tick,
    out: VecDeque<DiscoveryEffect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Gathering { epoch: Epoch, introduced: Tally },
    Promising(Epoch),
    Offered { epoch: Epoch, promised: Tally },
    Established(Epoch),
}

/// A connection until its learner is to be synchronised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Caller {
    until: Tick,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Silent,
    /// It has introduced itself; `has_offer`: LEADERINFO was sent.
    Introduced {
        sid: ServerId,
        is_observer: bool,
        has_offer: bool,
    },
    /// ACKEPOCH has come.
    Promised {
        learner: Learner,
        last: Zxid,
    },
}

impl Caller {
    fn sid(&self) -> Option<ServerId> {
        match &self.stage {
            Stage::Silent => None,
            Stage::Introduced { sid, .. } => Some(*sid),
            Stage::Promised { learner, .. } => Some(learner.sid),
        }
    }
}

impl Discovery {
    /// This server has been elected. `record` and `offer` are what it had when it last voted.
    pub fn begin(
        me: ServerId,
        offer: Offer,
        record: &Durable<Epochs>,
        pair: &Pair,
        patience: Patience,
        now: Tick,
    ) -> Result<Discovery, Leave> {
        let own = offer.whole().ok_or(Leave::NoHistory)?;
        let mut introduced = Tally::of(pair);
        introduced.ack(me);
        let epoch = above(record.accepted()).ok_or(Leave::UsedUp(record.accepted()))?;
        let mut discovery = Discovery {
            me,
            pair: pair.clone(),
            own,
            patience,
            phase: Phase::Gathering { epoch, introduced },
            learners: BTreeMap::new(),
            ahead: BTreeSet::new(),
            deadline: now.after(patience.init_ms),
            out: VecDeque::new(),
        };
        discovery.freeze(now);
        Ok(discovery)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<DiscoveryEffect> {
        self.out.pop_front()
    }

    /// Other configurations are live; the epoch was promised by quorums of those before. Learners that know of
    /// these may come.
    pub fn configure(&mut self, pair: &Pair) {
        self.pair = pair.clone();
    }

    /// The epoch that a quorum has promised.
    pub fn established(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Established(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// A learner has connected.
    pub fn connected(&mut self, link: LinkId, now: Tick) {
        if self.learners.len() >= LEARNERS_MAX {
            self.out
                .push_back(DiscoveryEffect::Drop(link, Dropped::TooMany));
            return;
        }
        let caller = Caller {
            until: now.after(self.patience.init_ms),
            stage: Stage::Silent,
        };
        self.learners.insert(link, caller);
    }

    /// A connection is gone.
    pub fn closed(&mut self, link: LinkId) {
        self.learners.remove(&link);
    }

    /// A packet has come; of a connection that is not known here it means nothing.
    pub fn packet(&mut self, link: LinkId, packet: &ToLeader<'_>, now: Tick) -> Result<(), Leave> {
        let Some(caller) = self.learners.get(&link) else {
            return Ok(());
        };
        match (&caller.stage, packet) {
            (
                Stage::Silent,
                ToLeader::Info {
                    is_observer,
                    accepted,
                    info,
                },
            ) => match self.introduce(link, *is_observer, *accepted, info) {
                Ok(()) => self.freeze(now),
                Err(why) => self.drop(link, why),
            },
            (
                Stage::Introduced {
                    sid,
                    is_observer,
                    has_offer: true,
                },
                ToLeader::AckEpoch { last, current },
            ) => {
                let learner = Learner {
                    sid: *sid,
                    is_observer: *is_observer,
                    is_whole: *last >= Zxid::ZERO,
                };
                self.promise(link, learner, *last, *current)?;
            }
            (_, packet) => self.drop(link, Dropped::Unexpected(packet.kind())),
        }
        Ok(())
    }

    /// The own record is durable. Only with it does LEADERINFO leave (I-1).
    pub fn promised(&mut self, record: &Durable<Epochs>, now: Tick) {
        let Phase::Promising(epoch) = self.phase else {
            return;
        };
        if record.accepted() != epoch {
            return;
        }
        let mut promised = Tally::of(&self.pair);
        promised.ack(self.me);
        self.phase = Phase::Offered { epoch, promised };
        self.deadline = now.after(self.patience.init_ms);
        for (link, caller) in &mut self.learners {
            if let Stage::Introduced { has_offer, .. } = &mut caller.stage {
                *has_offer = true;
                self.out.push_back(offer(*link, epoch));
            }
        }
        self.establish();
    }

    /// Time passes.
    pub fn tick(&mut self, now: Tick) -> Result<(), Leave> {
        let is_over = now >= self.deadline;
        match self.phase {
            Phase::Gathering { .. } if is_over => return Err(Leave::NotIntroduced),
            Phase::Offered { epoch, .. } if is_over => return Err(Leave::NotPromised(epoch)),
            // The own disk has as long as it takes: a driver ends the process for one that has failed.
            _ => {}
        }
        // Before the epoch is established a learner waits for others, not they for it.
        let may_wait = self.established().is_none();
        let is_late = |caller: &Caller| match &caller.stage {
            Stage::Silent => now >= caller.until,
            Stage::Introduced { .. } => !may_wait && now >= caller.until,
            Stage::Promised { .. } => false,
        };
        let late = self.learners.iter().filter(|(_, caller)| is_late(caller));
        let late: Vec<LinkId> = late.map(|(link, _)| *link).collect();
        for link in late {
            self.drop(link, Dropped::Silent);
        }
        Ok(())
    }

    fn introduce(
        &mut self,
        link: LinkId,
        is_observer: bool,
        accepted: Epoch,
        info: &LearnerInfo,
    ) -> Result<(), Dropped> {
        let sid = info.sid;
        if sid == self.me {
            return Err(Dropped::OwnId);
        }
        let newer = |version: &Zxid| *version > self.pair.committed().version();
        if let Some(version) = info.config_version.filter(newer) {
            return Err(Dropped::Configuration(version));
        }
        let next = above(accepted).ok_or(Dropped::LastEpoch(accepted))?;
        let older = self.learners.iter().find(|(_, one)| one.sid() == Some(sid));
        if let Some(older) = older.map(|(link, _)| *link) {
            self.drop(older, Dropped::Replaced);
        }
        let has_offer = match &mut self.phase {
            Phase::Gathering { epoch, introduced } => {
                *epoch = next.max(*epoch);
                if !is_observer {
                    introduced.ack(sid);
                }
                None
            }
            Phase::Promising(_) => None,
            Phase::Offered { epoch, .. } | Phase::Established(epoch) => Some(*epoch),
        };
        if let Some(epoch) = has_offer {
            self.out.push_back(offer(link, epoch));
        }
        if let Some(caller) = self.learners.get_mut(&link) {
            caller.stage = Stage::Introduced {
                sid,
                is_observer,
                has_offer: has_offer.is_some(),
            };
        }
        Ok(())
    }

    /// A quorum has come: the epoch stands.
    fn freeze(&mut self, now: Tick) {
        if let Phase::Gathering { epoch, introduced } = &self.phase
            && introduced.is_decided()
        {
            let epoch = *epoch;
            self.phase = Phase::Promising(epoch);
            self.deadline = now.after(self.patience.init_ms);
            self.out.push_back(DiscoveryEffect::Promise(epoch));
        }
    }

    fn promise(
        &mut self,
        link: LinkId,
        learner: Learner,
        last: Zxid,
        current: Option<Epoch>,
    ) -> Result<(), Leave> {
        if let (Phase::Offered { promised, .. }, Some(epoch), true) =
            (&mut self.phase, current, learner.is_whole)
        {
            if (epoch, last) > self.own {
                self.drop(link, Dropped::Ahead { epoch, zxid: last });
                return self.give_way(learner.sid);
            }
            if !learner.is_observer {
                promised.ack(learner.sid);
            }
        }
        if let Some(caller) = self.learners.get_mut(&link) {
            caller.stage = Stage::Promised { learner, last };
        }
        self.establish();
        if self.established().is_some() {
            self.synchronise(link);
        }
        Ok(())
    }

    /// A voter is ahead. While others may make a quorum the leader goes on, because that one may be out of their
    /// reach, or without weight; what it has and a quorum lacks was never committed.
    fn give_way(&mut self, ahead: ServerId) -> Result<(), Leave> {
        self.ahead.insert(ahead);
        let mut others = Tally::of(&self.pair);
        for voter in self.pair.voters().difference(&self.ahead) {
            others.ack(*voter);
        }
        match others.is_decided() {
            true => Ok(()),
            false => Err(Leave::Behind(ahead)),
        }
    }

    fn establish(&mut self) {
        if let Phase::Offered { epoch, promised } = &self.phase
            && promised.is_decided()
        {
            let epoch = *epoch;
            self.phase = Phase::Established(epoch);
            self.out.push_back(DiscoveryEffect::Established(epoch));
            let links: Vec<LinkId> = self.learners.keys().copied().collect();
            for link in links {
                self.synchronise(link);
            }
        }
    }

    fn synchronise(&mut self, link: LinkId) {
        if let Some(Stage::Promised { learner, last }) =
            self.learners.get(&link).map(|caller| &caller.stage)
        {
            let (learner, last) = (*learner, *last);
            self.out.push_back(DiscoveryEffect::Synchronise {
                link,
                learner,
                last,
            });
            self.learners.remove(&link);
        }
    }

    fn drop(&mut self, link: LinkId, why: Dropped) {
        self.learners.remove(&link);
        self.out.push_back(DiscoveryEffect::Drop(link, why));
    }
}

fn offer(link: LinkId, epoch: Epoch) -> DiscoveryEffect {
    let packet = ToLearner::LeaderInfo {
        epoch,
        capabilities: None,
    };
    DiscoveryEffect::Send(link, packet)
}

fn above(epoch: Epoch) -> Option<Epoch> {
    (epoch.0 < Zxid::EPOCH_MAX).then(|| Epoch(epoch.0 + 1))
}
