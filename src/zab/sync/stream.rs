//! What a learner does with the stream of its leader, from ACKEPOCH until it serves (docs/peer-protocol.md §2.9).
//!
//! ```text
//!   base ──── DIFF, TRUNC ─────────────► history ─── NEWLEADER ──► closing ─► recording ─► acknowledged ─── UPTODATE ──► serving
//!     └── SNAP ──► snapshot ── received ────┘                    the history    currentEpoch
//!                                                                is durable      is durable: ACK
//! ```
//!
//! | Packet | base | snapshot | history | closing, recording | acknowledged |
//! |---|---|---|---|---|---|
//! | DIFF, TRUNC, SNAP | begins | ends | ends | ends | ends |
//! | PROPOSAL | ends | ends | checked, waits | checked, waits | checked, waits |
//! | COMMIT, COMMITANDACTIVATE | ends | ends | of the oldest that waits: to the log | of the oldest: noted | of the oldest: noted |
//! | INFORM, INFORMANDACTIVATE, at an observer | ends | ends | both | both | both |
//! | the same, at a follower | ends | ends | ends | ends | ends |
//! | NEWLEADER | ends | ends | closes | ends | ends |
//! | UPTODATE | ends | ends | ends | ends | serves |
//! | PING, SYNC, REVALIDATE | – | – | – | – | – |
//! | LEADERINFO | ends | ends | ends | ends | ends |
//! | unknown | ends | ends | – | – | – |
//!
//! *Ends* is the end of the role. A packet that comes here is never answered: a leader knows that its pings are not
//! before UPTODATE.
//!
//! **Nothing is committed before UPTODATE.** A COMMIT in the stream is the claim of a leader that may never become
//! active: if it does not, another leader's history counts, which need not have the transaction. What was received is
//! the history of the epoch when a quorum holds it, and UPTODATE says that one does. What a COMMIT does here is to
//! say what belongs to that history, and so is logged and durable before it is acknowledged; what only waits is not.
//!
//! **Order** (I-2, I-3): the history is durable ([`Stream::adopted`] takes the proof of it), then currentEpoch is
//! ([`Stream::recorded`] takes that), then the ACK of NEWLEADER leaves.

use crate::log::{Adoption, Durable, Epochs};
use crate::proto::peer::packet::PacketType;
use crate::proto::peer::{ToLeader, ToLearner};
use crate::types::{Epoch, Position, ServerId, Tick, Zxid};
use crate::zab::bounds::{ITEM_BYTES, PENDING_BYTES_MAX};
use crate::zab::decided::Decided;
use crate::zab::follow::{Follow, Joined};
use crate::zab::verdict::{Leave, Patience};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a synchronisation puts its history upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// The own log up to here. If it has never been at this place, the driver leaves, and asks for a snapshot.
    Log(Zxid),
    /// The snapshot of this state that was received.
    Snapshot(Zxid),
}

/// What the driver must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StreamEffect {
    /// Read the bytes of a snapshot from the connection; then [`StreamEvent::SnapshotReceived`].
    ReadSnapshot(Zxid),
    /// Open a synchronisation in the log. Until it is closed nothing that is there is replaced.
    Open(Base),
    /// Append.
    Append {
        /// Of the entry.
        zxid: Zxid,
        /// As it was received.
        entry: Arc<[u8]>,
    },
    /// Close the synchronisation and sync; then [`Stream::adopted`].
    Close(Epoch),
    /// Make currentEpoch this, and the last seen configuration, durably; then [`Stream::recorded`]. A member that is
    /// not whole is not so yet: the leader may never become active.
    Record {
        /// currentEpoch.
        epoch: Epoch,
        /// Text of the last seen configuration.
        config: Option<Arc<[u8]>>,
    },
    /// Send.
    Send(ToLeader<'static>),
    /// Commit. What is not durable yet may be applied all the same.
    Commit(Decided),
    /// The configuration of this transaction is committed with it, and names who is to lead.
    Activate(Zxid, ServerId),
    /// Go on with this, and serve when all of the above is applied.
    Serve(Follow),
}

/// What happens to a learner beside packets and what becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamEvent {
    /// All of the snapshot is there.
    SnapshotReceived,
    /// Bytes have come that are no packet yet.
    Heard,
    /// Time passes.
    Tick,
}

/// A learner while it is synchronised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    epoch: Epoch,
    is_observer: bool,
    is_whole: bool,
    /// What is durable here, if it can be gone on from.
    own: Option<Zxid>,
    committed: Zxid,
    patience: Patience,
    heard: Tick,
    phase: Phase,
    /// The last transaction received; `None` behind a snapshot, of which the sender may repeat the end.
    last: Option<Zxid>,
    /// Of the history to be adopted.
    end: Zxid,
    pending: VecDeque<Proposal>,
    pending_bytes: usize,
    /// So many of the first that wait are committed when the history is.
    noted: usize,
    out: VecDeque<StreamEffect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Base,
    Snapshot(Zxid),
    History,
    Closing(Option<Arc<[u8]>>),
    Recording(Position),
    Acknowledged(Position),
    Serving,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Proposal {
    zxid: Zxid,
    entry: Arc<[u8]>,
    /// Who is to lead when it is committed.
    leader: Option<ServerId>,
}

impl Stream {
    /// ACKEPOCH leaves now. `own` is what it offers: `None` if there is nothing to go on from, be the member whole or
    /// not. `committed` is what it knows to be.
    pub fn begin(
        epoch: Epoch,
        is_observer: bool,
        is_whole: bool,
        own: Option<Zxid>,
        committed: Zxid,
        patience: Patience,
        now: Tick,
    ) -> Stream {
        Stream {
            epoch,
            is_observer,
            is_whole,
            own,
            committed,
            patience,
            heard: now,
            phase: Phase::Base,
            last: None,
            end: Zxid::ZERO,
            pending: VecDeque::new(),
            pending_bytes: 0,
            noted: 0,
            out: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<StreamEffect> {
        self.out.pop_front()
    }

    /// Something has happened.
    pub fn handle(&mut self, event: StreamEvent, now: Tick) -> Result<(), Leave> {
        match (event, &self.phase) {
            (StreamEvent::SnapshotReceived, Phase::Snapshot(zxid)) => {
                let zxid = *zxid;
                self.open(Base::Snapshot(zxid), zxid, None);
            }
            (StreamEvent::SnapshotReceived, _) => {}
            (StreamEvent::Heard, _) => self.heard = now,
            // The leader says nothing while it waits for a quorum of others.
            (StreamEvent::Tick, _) if now >= self.heard.after(self.patience.init_ms) => {
                return Err(Leave::Silent);
            }
            (StreamEvent::Tick, _) => {}
        }
        Ok(())
    }

    /// A packet has come: the table above.
    pub fn packet(&mut self, packet: &ToLearner<'_>, now: Tick) -> Result<(), Leave> {
        self.heard = now;
        let unexpected = Err(Leave::Unexpected(packet.kind()));
        match (*packet, &self.phase) {
            (ToLearner::Ping(_) | ToLearner::Sync | ToLearner::Revalidate { .. }, _) => Ok(()),
            (_, Phase::Serving) => unexpected,
            (ToLearner::Diff(_) | ToLearner::Trunc(_) | ToLearner::Snap(_), Phase::Base) => {
                self.base(packet)
            }
            (_, Phase::Base | Phase::Snapshot(_)) => unexpected,
            (ToLearner::Proposal { zxid, entry }, _) => self.propose(zxid, entry, None),
            (ToLearner::Commit(zxid), _) => self.commit(zxid, None),
            (ToLearner::CommitAndActivate { zxid, leader }, _) => self.commit(zxid, Some(leader)),
            (ToLearner::Inform { zxid, entry }, _) if self.is_observer => {
                self.propose(zxid, entry, None)?;
                self.commit(zxid, None)
            }
            (
                ToLearner::InformAndActivate {
                    zxid,
                    leader,
                    entry,
                },
                _,
            ) if self.is_observer => {
                self.propose(zxid, entry, None)?;
                self.commit(zxid, Some(leader))
            }
            (ToLearner::NewLeader { zxid, config }, Phase::History) => self.close(zxid, config),
            (ToLearner::UpToDate, Phase::Acknowledged(position)) => {
                let position = *position;
                self.serve(position);
                Ok(())
            }
            (ToLearner::Other(_), _) => Ok(()),
            _ => unexpected,
        }
    }

    /// The synchronisation is closed, durably. Only with it is currentEpoch written (I-2):
    ///
    /// ```compile_fail
    /// use ringkeeper::{log::Adoption, zab::Stream};
    /// fn before_it_is_durable(learner: &mut Stream, history: &Adoption) {
    ///     learner.adopted(history);
    /// }
    /// ```
    pub fn adopted(&mut self, history: &Durable<Adoption>) {
        let is_this = history.epoch() == self.epoch && history.zxid() == self.end;
        if let Phase::Closing(config) = &mut self.phase
            && is_this
        {
            let config = config.take();
            self.phase = Phase::Recording(history.position());
            let epoch = self.epoch;
            self.out.push_back(StreamEffect::Record { epoch, config });
        }
    }

    /// The own record is durable. Only with it does the ACK of NEWLEADER leave (I-3).
    pub fn recorded(&mut self, record: &Durable<Epochs>) {
        if let Phase::Recording(position) = self.phase
            && record.current() == self.epoch
        {
            self.phase = Phase::Acknowledged(position);
            self.acknowledge();
        }
    }

    fn base(&mut self, packet: &ToLearner<'_>) -> Result<(), Leave> {
        let no_base = Leave::NoBase(packet.kind());
        match *packet {
            // What it names says where the leader is; what it means is that the learner's history goes on.
            ToLearner::Diff(_) => {
                let own = self.own.ok_or(no_base)?;
                self.open(Base::Log(own), own, Some(own));
            }
            ToLearner::Trunc(zxid) => {
                let own = self.own.ok_or(no_base)?;
                if zxid > own || zxid < Zxid::ZERO {
                    return Err(no_base);
                }
                self.keeps(zxid)?;
                self.open(Base::Log(zxid), zxid, Some(zxid));
            }
            ToLearner::Snap(zxid) if zxid < Zxid::ZERO => return Err(no_base),
            ToLearner::Snap(zxid) => {
                self.phase = Phase::Snapshot(zxid);
                self.out.push_back(StreamEffect::ReadSnapshot(zxid));
            }
            _ => return Err(Leave::Unexpected(packet.kind())),
        }
        Ok(())
    }

    /// The history ends at `end` until something follows; `last`: what follows must follow this.
    fn open(&mut self, base: Base, end: Zxid, last: Option<Zxid>) {
        self.phase = Phase::History;
        self.end = end;
        self.last = last;
        self.out.push_back(StreamEffect::Open(base));
    }

    /// A history that ends here has all that this member knows to be committed. TRUNC is refused at once, a snapshot
    /// with what follows it at its end.
    fn keeps(&self, end: Zxid) -> Result<(), Leave> {
        match end < self.committed {
            true => Err(Leave::Forgets {
                end,
                committed: self.committed,
            }),
            false => Ok(()),
        }
    }

    fn propose(&mut self, zxid: Zxid, entry: &[u8], leader: Option<ServerId>) -> Result<(), Leave> {
        let after = self.last.unwrap_or(self.end);
        let is_repeated = self.last.is_none() && zxid > Zxid::ZERO && zxid <= self.end;
        let is_next = is_repeated || zxid.can_follow(after);
        if !is_next || zxid.epoch() > self.epoch.0 {
            return Err(Leave::Gap { after, zxid });
        }
        let bytes = self.pending_bytes + entry.len() + ITEM_BYTES;
        if bytes > PENDING_BYTES_MAX {
            return Err(Leave::TooMuch);
        }
        self.pending_bytes = bytes;
        self.last = Some(zxid);
        let entry = Arc::from(entry);
        self.pending.push_back(Proposal {
            zxid,
            entry,
            leader,
        });
        Ok(())
    }

    fn commit(&mut self, zxid: Zxid, leader: Option<ServerId>) -> Result<(), Leave> {
        let proposal = self.pending.get_mut(self.noted);
        let Some(proposal) = proposal.filter(|proposal| proposal.zxid == zxid) else {
            return Err(Leave::Commit(zxid));
        };
        proposal.leader = leader;
        self.noted += 1;
        if matches!(self.phase, Phase::History) {
            self.take_over();
        }
        Ok(())
    }

    /// The oldest that waits belongs to the history.
    fn take_over(&mut self) {
        let Some(Proposal {
            zxid,
            entry,
            leader,
        }) = self.pending.pop_front()
        else {
            return;
        };
        self.noted -= 1;
        self.pending_bytes -= entry.len() + ITEM_BYTES;
        // A snapshot holds what the sender repeats of its end.
        if zxid > self.end {
            self.end = zxid;
            self.out.push_back(StreamEffect::Append { zxid, entry });
        }
        if let Some(leader) = leader {
            self.out.push_back(StreamEffect::Activate(zxid, leader));
        }
    }

    fn close(&mut self, zxid: Zxid, config: Option<&[u8]>) -> Result<(), Leave> {
        if zxid != Zxid::new(self.epoch.0, 0) {
            return Err(Leave::Unexpected(PacketType::NEWLEADER));
        }
        // What waits was proposed by this leader: what it has of other epochs is its history.
        let belongs = |zxid: Zxid| zxid.epoch() == self.epoch.0 && zxid > self.end;
        let stray = |proposal: &&Proposal| !belongs(proposal.zxid);
        if let Some(proposal) = self.pending.iter().find(stray) {
            return Err(Leave::Gap {
                after: self.end,
                zxid: proposal.zxid,
            });
        }
        // What is repeated of a snapshot is repeated up to its end.
        if let Some(last) = self.last.filter(|last| *last < self.end) {
            return Err(Leave::Gap {
                after: last,
                zxid: self.end,
            });
        }
        self.keeps(self.end)?;
        self.phase = Phase::Closing(config.map(Arc::from));
        self.out.push_back(StreamEffect::Close(self.epoch));
        Ok(())
    }

    fn acknowledge(&mut self) {
        let packet = ToLeader::Ack(Zxid::new(self.epoch.0, 0));
        self.out.push_back(StreamEffect::Send(packet));
    }

    /// A quorum holds the history: it is committed, with what was noted since.
    fn serve(&mut self, position: Position) {
        self.phase = Phase::Serving;
        // As Apache's learners do; it says that this one is there.
        self.acknowledge();
        let mut last = self.end;
        let mut committed = self.end;
        self.out
            .push_back(StreamEffect::Commit(Decided::up_to(self.end)));
        let mut leaders = Vec::new();
        for (n, proposal) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let Proposal {
                zxid,
                entry,
                leader,
            } = proposal;
            if n < self.noted {
                committed = zxid;
                leaders.extend(leader.map(|leader| (zxid, leader)));
            }
            if zxid > self.end {
                last = zxid;
                self.out.push_back(StreamEffect::Append { zxid, entry });
            }
        }
        self.pending_bytes = 0;
        if committed > self.end {
            self.out
                .push_back(StreamEffect::Commit(Decided::up_to(committed)));
        }
        for (zxid, leader) in leaders {
            self.out.push_back(StreamEffect::Activate(zxid, leader));
        }
        let joined = Joined {
            epoch: self.epoch,
            is_observer: self.is_observer,
            is_whole: self.is_whole,
            position,
            history: self.end,
            committed: committed.max(self.end),
            last,
        };
        let follow = Follow::begin(joined, self.patience, self.heard);
        self.out.push_back(StreamEffect::Serve(follow));
    }
}
