//! A learner that serves (docs/peer-protocol.md §2.11–2.13): what its leader sends, and what it answers.
//!
//! | Packet | follower | observer |
//! |---|---|---|
//! | PROPOSAL | follows the last one: to the log; acknowledged when it is durable | to the log |
//! | COMMIT, COMMITANDACTIVATE | of the oldest that is not committed: [`Decided`] | the same |
//! | INFORM, INFORMANDACTIVATE | ends | PROPOSAL and COMMIT in one |
//! | PING | answered, with the sessions heard of | the same |
//! | REVALIDATE | for who has asked; for nobody: – | the same |
//! | SYNC | for the oldest sync that was passed on; for none: – | the same |
//! | DIFF, TRUNC, SNAP, NEWLEADER, UPTODATE, LEADERINFO | ends | ends |
//! | unknown | – | – |
//!
//! *Ends* is the end of the role. Proposals that are not committed are a FIFO without entries: the zxids of an epoch
//! have no gaps, so two of them say what waits. An entry belongs to the log from the moment it has come.
//!
//! Each proposal is acknowledged by a packet of its own, also when it has been committed since: Apache's leader looks
//! the exact zxid up, and closes the connection of a learner that leaves one out (N1).

#[cfg(test)]
mod tests;

use crate::log::{Durable, LogEnd};
use crate::proto::peer::learner::Touched;
use crate::proto::peer::{ToLeader, ToLearner};
use crate::types::{Epoch, Position, ServerId, SessionId, Tick, Zxid};
use crate::zab::bounds::{REVALIDATIONS_MAX, SYNCS_MAX, TOUCHED_MAX, TOUCHES_PER_PING};
use crate::zab::decided::Decided;
use crate::zab::verdict::{Leave, Patience};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A sync that was passed on, as the driver numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SyncId(pub u64);

/// What the driver must do, in this order: what a client is told rests on what was committed before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FollowEffect {
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
    patience: Patience,
    heard: Tick,
    /// Sessions heard of: timeouts, and who is reported first.
    touched: BTreeMap<SessionId, i32>,
    report: VecDeque<SessionId>,
    revalidations: VecDeque<SessionId>,
    syncs: VecDeque<SyncId>,
    out: VecDeque<FollowEffect>,
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
            patience,
            heard: now,
            touched: BTreeMap::new(),
            report: VecDeque::new(),
            revalidations: VecDeque::new(),
            syncs: VecDeque::new(),
            out: VecDeque::new(),
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
            ToLearner::Ping(zxid) => self.answer(zxid),
            ToLearner::Revalidate { session, is_valid } => self.revalidated(session, is_valid),
            ToLearner::Sync => {
                let oldest = self.syncs.pop_front();
                self.out.extend(oldest.map(FollowEffect::Synced));
            }
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
        let upto = end.zxid().min(self.last);
        let mut bytes = Vec::new();
        while self.acknowledged < upto {
            self.acknowledged = self.behind(self.acknowledged);
            ToLeader::Ack(self.acknowledged).encode_into(&mut bytes);
        }
        self.send(bytes);
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
        self.syncs.push_back(sync);
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
