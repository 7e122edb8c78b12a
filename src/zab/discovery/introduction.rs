//! The learner's side. What LEADERINFO with an epoch does:
//!
//! | The epoch | What |
//! |---|---|
//! | above acceptedEpoch | promised, durably; then ACKEPOCH(last, currentEpoch) |
//! | acceptedEpoch | ACKEPOCH(last, −1): the promise is kept, and counts once |
//! | below acceptedEpoch | the role ends (I-1) |
//!
//! Until it has come a ping is ignored, and any other packet ends the role; one that comes while the promise is on
//! its way to the disk is out of place too.
//!
//! A member that can't go on from its history (its log refuses a cut, a digest does not agree) asks for a snapshot by
//! offering none. It does so only towards a leader that it has promised its epoch before, where its word does not
//! count: a leader that is being made must hear of every history.

use crate::log::{Durable, Epochs};
use crate::proto::peer::{LearnerInfo, ToLeader, ToLearner, Vote};
use crate::types::{Epoch, ServerId, Tick, Zxid};
use crate::zab::election::Offer;
use crate::zab::sync::Stream;
use crate::zab::verdict::{Leave, Patience};

/// Who introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Newcomer {
    /// This server.
    pub sid: ServerId,
    /// It follows without a vote.
    pub is_observer: bool,
    /// Version of its committed configuration.
    pub config_version: Zxid,
    /// What it has, as it last voted.
    pub offer: Offer,
    /// What it knows to be committed. A leader that lacks it is not followed.
    pub committed: Zxid,
    /// It can't go on from its history.
    pub wants_snapshot: bool,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IntroductionEffect {
    /// Make acceptedEpoch this, durably, then tell [`Introduction::promised`].
    Promise(Epoch),
    /// Send, and go on with the stream that follows.
    Go(ToLeader<'static>, Box<Stream>),
}

/// A learner until its leader begins to synchronise it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Introduction {
    who: Newcomer,
    accepted: Epoch,
    patience: Patience,
    heard: Tick,
    promising: Option<Epoch>,
}

impl Introduction {
    /// The leader's port is connected. What is sent first comes with it.
    pub fn begin(
        who: Newcomer,
        record: &Durable<Epochs>,
        patience: Patience,
        now: Tick,
    ) -> (Introduction, ToLeader<'static>) {
        let accepted = record.accepted();
        let introduction = Introduction {
            who,
            accepted,
            patience,
            heard: now,
            promising: None,
        };
        let info = LearnerInfo {
            sid: who.sid,
            config_version: Some(who.config_version),
            capabilities: None,
        };
        let packet = ToLeader::Info {
            is_observer: who.is_observer,
            accepted,
            info,
        };
        (introduction, packet)
    }

    /// A packet has come.
    pub fn packet(
        &mut self,
        packet: &ToLearner<'_>,
        now: Tick,
    ) -> Result<Option<IntroductionEffect>, Leave> {
        self.heard = now;
        match (*packet, self.promising) {
            (ToLearner::Ping(_), _) => Ok(None),
            (ToLearner::LeaderInfo { epoch, .. }, None) if epoch > self.accepted => {
                self.promising = Some(epoch);
                Ok(Some(IntroductionEffect::Promise(epoch)))
            }
            (ToLearner::LeaderInfo { epoch, .. }, None) if epoch == self.accepted => {
                Ok(Some(self.go(epoch, None, now)))
            }
            (ToLearner::LeaderInfo { epoch, .. }, None) => Err(Leave::OldEpoch {
                offered: epoch,
                accepted: self.accepted,
            }),
            _ => Err(Leave::Unexpected(packet.kind())),
        }
    }

    /// The own record is durable. Only with it does ACKEPOCH leave (I-1): what is logged, or on its way, is no promise.
    ///
    /// ```compile_fail
    /// use ringkeeper::{log::Epochs, types::Tick, zab::Introduction};
    /// fn before_it_is_durable(learner: &mut Introduction, record: &Epochs) {
    ///     learner.promised(record, Tick(0));
    /// }
    /// ```
    pub fn promised(&mut self, record: &Durable<Epochs>, now: Tick) -> Option<IntroductionEffect> {
        let epoch = self.promising.filter(|epoch| *epoch == record.accepted())?;
        let (current, _) = self.who.offer.whole().unwrap_or_default();
        Some(self.go(epoch, Some(current), now))
    }

    /// Time passes.
    pub fn tick(&mut self, now: Tick) -> Result<(), Leave> {
        let is_promising = self.promising.is_some();
        match !is_promising && now >= self.heard.after(self.patience.init_ms) {
            true => Err(Leave::Silent),
            false => Ok(()),
        }
    }

    /// `current` is what is told of currentEpoch: nothing, if the epoch was accepted before.
    fn go(&mut self, epoch: Epoch, current: Option<Epoch>, now: Tick) -> IntroductionEffect {
        let asks = self.who.wants_snapshot && current.is_none();
        let whole = self.who.offer.whole();
        let base = whole.map(|(_, end)| end).filter(|_| !asks);
        let packet = ToLeader::AckEpoch {
            last: base.unwrap_or(Vote::NO_HISTORY),
            current,
        };
        let Newcomer {
            is_observer,
            committed,
            ..
        } = self.who;
        let stream = Stream::begin(
            epoch,
            is_observer,
            whole.is_some(),
            base,
            committed,
            self.patience,
            now,
        );
        IntroductionEffect::Go(packet, Box::new(stream))
    }
}
