//! A learner that serves (docs/peer-protocol.md §2.11–2.13): what its leader sends, and what it answers.
//!
//! | Packet | follower | observer |
//! |---|---|---|
//! | PROPOSAL | follows the last one: to the log; acknowledged when it is durable | to the log |
//! | COMMIT, COMMITANDACTIVATE | of the oldest that is not committed: [`Decided`] | the same |
//! | INFORM, INFORMANDACTIVATE | ends | PROPOSAL and COMMIT in one |
//! | PING | answered, with the sessions heard of; not yet, where this member is not whole | the same |
//! | REVALIDATE | for who has asked; for nobody: – | the same |
//! | SYNC | for the oldest sync that was passed on; for none: – | the same |
//! | DIFF, TRUNC, SNAP, NEWLEADER, UPTODATE, LEADERINFO | ends | ends |
//! | unknown | – | – |
//!
//! *Ends* is the end of the role. Proposals that are not committed are a FIFO without entries: the zxids of an epoch
//! have no gaps, so two of them say what waits. An entry belongs to the log from the moment it has come.
//!
//! **A learner that is not whole** has forgotten what it promised and acknowledged, maybe to a newer leader than the
//! one that it has come to. So it answers no ping and acknowledges no transaction until a sync of its own has been
//! answered: by then a quorum without it has said, since it came, that it has promised no newer epoch, and one of
//! each quorum that it was part of is among those. It acknowledges when its record says that it is whole.
//!
//! Each proposal is acknowledged by a packet of its own, also when it has been committed since: Apache's leader looks
//! the exact zxid up, and closes the connection of a learner that leaves one out (N1).

#[cfg(test)]
mod tests;

use crate::log::{Durable, Epochs, LogEnd};
use crate::proto::peer::learner::Touched;
use crate::proto::peer::{ToLeader, ToLearner};
use crate::types::{Epoch, Position, ServerId, SessionId, Tick, Zxid};
use crate::zab::bounds::{PINGS_MAX, REVALIDATIONS_MAX, SYNCS_MAX, TOUCHED_MAX, TOUCHES_PER_PING};
use crate::zab::decided::Decided;
use crate::zab::verdict::{Leave, Patience};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A sync that was passed on, as the driver numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncId(pub u64);

/// What the driver must do, in this order: what a client is told rests on what was committed before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FollowEffect {
    /// Pass a sync on to the leader, of no session and no client. It comes first, and only at a member that is not
    /// whole.
    Sync,
    /// Make this member a whole one in its record, durably; then [`Follow::recorded`].
    BecomeWhole,
    /// Append.
    Append {
        /// Of the entry.
        zxid: Zxid,
        /// As it was received.
        entry: Arc<[u8]>,
    },
    /// Commit. What is not durable yet may be applied all the same.
    Commit(Decided),
    /// The configuration of this transaction is committed with it, and names who is to lead.
    Activate(Zxid, ServerId),
    /// Send these bytes.
    Send(Vec<u8>),
    /// What the leader says of a session that has come from another member.
    Revalidated {
        /// Which.
        session: SessionId,
        /// It lives, and is this member's.
        is_valid: bool,
    },
    /// Everything that was acknowledged to anybody before the sync was passed on is committed.
    Synced(SyncId),
}

/// Where a learner is when it begins to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Joined {
    pub epoch: Epoch,
    pub is_observer: bool,
    /// It came with a history.
    pub is_whole: bool,
    /// Of the log, behind the history of the epoch.
    pub position: Position,
    /// The end of that history, which was acknowledged as a whole.
    pub history: Zxid,
    pub committed: Zxid,
    /// The last proposal that has come.
    pub last: Zxid,
}

/// A learner that serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Follow {
    epoch: Epoch,
    is_observer: bool,
    position: Position,
    last: Zxid,
    committed: Zxid,
    acknowledged: Zxid,
    /// Everything up to here is durable.
    durable: Zxid,
    standing: Standing,
    patience: Patience,
    heard: Tick,
    /// Sessions heard of: timeouts, and who is reported first.
    touched: BTreeMap<SessionId, i32>,
    report: VecDeque<SessionId>,
    revalidations: VecDeque<SessionId>,
    /// `None`: the own one.
    syncs: VecDeque<Option<SyncId>>,
    out: VecDeque<FollowEffect>,
}

/// Whether this member may say something that counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// It has forgotten what it said, and keeps the pings that it was asked.
    Forgetful(VecDeque<Zxid>),
    /// Nobody has a newer epoch. This is not durable yet.
    Current,
    Whole,
}

impl Follow {
    pub(super) fn begin(joined: Joined, patience: Patience, now: Tick) -> Follow {
        Follow {
            epoch: joined.epoch,
            is_observer: joined.is_observer,
            position: joined.position,
            last: joined.last,
            committed: joined.committed,
            acknowledged: joined.history,
            durable: joined.history,
            standing: match joined.is_whole {
                true => Standing::Whole,
                false => Standing::Forgetful(VecDeque::new()),
            },
            patience,
            heard: now,
            touched: BTreeMap::new(),
            report: VecDeque::new(),
            revalidations: VecDeque::new(),
            syncs: VecDeque::from_iter((!joined.is_whole).then_some(None)),
            out: VecDeque::from_iter((!joined.is_whole).then_some(FollowEffect::Sync)),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<FollowEffect> {
        self.out.pop_front()
    }

    /// The last transaction that is committed.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// A packet has come: the table above.
    pub fn packet(&mut self, packet: &ToLearner<'_>, now: Tick) -> Result<(), Leave> {
        self.heard = now;
        match *packet {
            ToLearner::Proposal { zxid, entry } => self.propose(zxid, entry)?,
            ToLearner::Commit(zxid) => self.commit(zxid)?,
            ToLearner::CommitAndActivate { zxid, leader } => {
                self.commit(zxid)?;
                self.out.push_back(FollowEffect::Activate(zxid, leader));
            }
            ToLearner::Inform { zxid, entry } if self.is_observer => {
                self.inform(zxid, entry)?;
            }
            ToLearner::InformAndActivate {
                zxid,
                leader,
                entry,
            } if self.is_observer => {
                self.inform(zxid, entry)?;
                self.out.push_back(FollowEffect::Activate(zxid, leader));
            }
            ToLearner::Ping(zxid) => match &mut self.standing {
                // A leader of ours asks no more of who does not answer.
                Standing::Forgetful(asked) if asked.len() >= PINGS_MAX => {}
                Standing::Forgetful(asked) => asked.push_back(zxid),
                Standing::Current | Standing::Whole => self.answer(zxid),
            },
            ToLearner::Revalidate { session, is_valid } => self.revalidated(session, is_valid),
            ToLearner::Sync => match self.syncs.pop_front() {
                Some(Some(sync)) => self.out.push_back(FollowEffect::Synced(sync)),
                Some(None) => self.is_current(),
                None => {}
            },
            ToLearner::Other(_) => {}
            _ => return Err(Leave::Unexpected(packet.kind())),
        }
        Ok(())
    }

    /// The log is durable up to here. Only with it do acknowledgements leave (I-5):
    ///
    /// ```compile_fail
    /// use ringkeeper::{log::LogEnd, zab::Follow};
    /// fn before_it_is_durable(learner: &mut Follow, logged: &LogEnd) {
    ///     learner.durable(logged);
    /// }
    /// ```
    ///
    /// What was durable before the history of this epoch was proves nothing about it.
    pub fn durable(&mut self, end: &Durable<LogEnd>) {
        if end.position() < self.position || self.is_observer {
            return;
        }
        self.durable = end.zxid().min(self.last).max(self.durable);
        self.acknowledge();
    }

    /// The own record is durable. What a member acknowledges before it says that it is whole would be forgotten with
    /// a crash.
    pub fn recorded(&mut self, record: &Durable<Epochs>) {
        if self.standing == Standing::Current && record.is_whole() {
            self.standing = Standing::Whole;
            self.acknowledge();
        }
    }

    /// A session of this member was heard of. False: as many wait as may be; it has to be named again.
    pub fn touch(&mut self, session: SessionId, timeout_ms: i32) -> bool {
        if let Some(timeout) = self.touched.get_mut(&session) {
            *timeout = timeout_ms;
            return true;
        }
        if self.touched.len() >= TOUCHED_MAX {
            return false;
        }
        self.touched.insert(session, timeout_ms);
        self.report.push_back(session);
        true
    }

    /// A client has come with a session of another member. False: as many wait as may be; its connection closes.
    pub fn revalidate(&mut self, session: SessionId, timeout_ms: i32) -> bool {
        if self.revalidations.len() >= REVALIDATIONS_MAX {
            return false;
        }
        self.revalidations.push_back(session);
        let mut bytes = Vec::new();
        let packet = ToLeader::Revalidate {
            session,
            timeout_ms,
        };
        packet.encode_into(&mut bytes);
        self.send(bytes);
        true
    }

    /// A sync is passed on now; the driver sends the request, behind all that was passed on before. False: as many wait
    /// as may be; it must not be passed on.
    pub fn sync(&mut self, sync: SyncId) -> bool {
        if self.syncs.len() >= SYNCS_MAX {
            return false;
        }
        self.syncs.push_back(Some(sync));
        true
    }

    /// Time passes. After a pause of the process, what has come meanwhile is handled first.
    pub fn tick(&mut self, now: Tick) -> Result<(), Leave> {
        match now >= self.heard.after(self.patience.sync_ms) {
            true => Err(Leave::Silent),
            false => Ok(()),
        }
    }

    /// What follows in this epoch, behind the history or within it.
    fn behind(&self, zxid: Zxid) -> Zxid {
        match zxid.epoch() == self.epoch.0 {
            true => Zxid(zxid.0 + 1),
            false => Zxid::new(self.epoch.0, 1),
        }
    }

    fn acknowledge(&mut self) {
        let mut bytes = Vec::new();
        while self.standing == Standing::Whole && self.acknowledged < self.durable {
            self.acknowledged = self.behind(self.acknowledged);
            ToLeader::Ack(self.acknowledged).encode_into(&mut bytes);
        }
        self.send(bytes);
    }

    fn propose(&mut self, zxid: Zxid, entry: &[u8]) -> Result<(), Leave> {
        if zxid != self.behind(self.last) || zxid.counter() > Zxid::COUNTER_MAX {
            let after = self.last;
            return Err(Leave::Gap { after, zxid });
        }
        self.last = zxid;
        let entry = Arc::from(entry);
        self.out.push_back(FollowEffect::Append { zxid, entry });
        Ok(())
    }

    fn commit(&mut self, zxid: Zxid) -> Result<(), Leave> {
        if zxid != self.behind(self.committed) || zxid > self.last {
            return Err(Leave::Commit(zxid));
        }
        self.committed = zxid;
        self.out
            .push_back(FollowEffect::Commit(Decided::up_to(zxid)));
        Ok(())
    }

    fn inform(&mut self, zxid: Zxid, entry: &[u8]) -> Result<(), Leave> {
        self.propose(zxid, entry)?;
        self.commit(zxid)
    }

    /// A quorum without this member has answered its leader since it came.
    fn is_current(&mut self) {
        if let Standing::Forgetful(asked) = std::mem::replace(&mut self.standing, Standing::Current)
        {
            self.out.push_back(FollowEffect::BecomeWhole);
            asked.into_iter().for_each(|zxid| self.answer(zxid));
        }
    }

    fn answer(&mut self, zxid: Zxid) {
        let mut data = Vec::new();
        for session in self.report.drain(..TOUCHES_PER_PING.min(self.report.len())) {
            if let Some(timeout_ms) = self.touched.remove(&session) {
                Touched::put(&mut data, session, timeout_ms);
            }
        }
        if let Ok(touched) = Touched::of(&data) {
            let mut bytes = Vec::new();
            ToLeader::Ping { zxid, touched }.encode_into(&mut bytes);
            self.send(bytes);
        }
    }

    fn revalidated(&mut self, session: SessionId, is_valid: bool) {
        let asked = self
            .revalidations
            .iter()
            .position(|asked| *asked == session);
        if let Some(asked) = asked {
            self.revalidations.remove(asked);
            self.out
                .push_back(FollowEffect::Revalidated { session, is_valid });
        }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.out.push_back(FollowEffect::Send(bytes));
        }
    }
}
