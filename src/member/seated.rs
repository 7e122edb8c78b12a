//! A member of an ensemble, for whoever drives its connections: what it is told, and what it wants.

use super::jobs::{Job, JobNews};
use super::of_member::{MemberDone, MemberJob};
use super::seat::{Parts, Seat, SeatConfig, SeatEffect};
use super::{Found, Member, MemberConfig, StartError, Summary};
use crate::log::storage::Storage;
use crate::log::{
    Durable, Epochs, Identities, Keeper, Log, LogEnd, Received, Standing, WitnessOutcome, Written,
};
use crate::pipeline::{Fatal, Pipeline};
use crate::proto::peer::{ToLeader, ToLearner};
use crate::snapshot::{self, BegunMember, Rebuild, SnapError};
use crate::tree::Tree;
use crate::types::{Now, Zxid};
use crate::zab::{Beginning, Duty, LinkId, Offer, Peer};
use std::io;

impl<S: Storage> Member<S> {
    /// As [`Member::start`], of a member of an ensemble: it looks for a leader. What its log holds behind what is known to
    /// be committed is not applied before the ensemble decides over it. Blocks.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn join(
        config: MemberConfig,
        seat: SeatConfig,
        (data, log): (&S, &S),
        identities: Identities,
        now: Now,
        rebuild: &mut dyn Rebuild,
    ) -> Result<(Member<S>, Summary), StartError> {
        let SeatConfig {
            settings,
            is_founding,
        } = seat;
        let sid = settings.candidate.sid;
        let recovered = snapshot::recover_member(data, log, sid, rebuild)?;
        let (found, directories) = (Found::of(&recovered), (data.clone(), log.clone()));
        let begun = recovered.open_member(data, log, config.log, identities)?;
        let BegunMember {
            tree,
            log,
            mut keeper,
            mut record,
            ..
        } = begun;
        if is_founding {
            record = found_with(&mut keeper, &log, &directories)?;
        }
        let is_fresh = keeper
            .member()
            .is_some_and(|member| member.standing() == Standing::Fresh);
        let beginning = Beginning {
            record,
            end: log.proof(),
            nothing: match is_fresh {
                true => Offer::FRESH,
                false => Offer::MAIMED,
            },
            committed: tree.last_zxid(),
        };
        let peer = Peer::begin(settings, beginning, now.tick);
        let pipeline = Pipeline::of_member(config.pipeline.clone(), log, &tree);
        let seat = Seat::new(peer, tree.last_zxid());
        let mut member = Member::assemble(&config, directories, &found, (tree, pipeline, keeper));
        member.seat = Some(Box::new(seat));
        Ok((member, found.summary))
    }

    /// The protocol, to look at; `None`: the server stands alone.
    pub fn peer(&self) -> Option<&Peer> {
        self.seat.as_deref().map(Seat::peer)
    }

    /// As what it serves clients; `None`: it serves none, or the server stands alone.
    pub fn duty(&self) -> Option<Duty> {
        self.seat.as_deref().and_then(Seat::duty)
    }

    /// Whether this member has forgotten anything; `None`: the server stands alone.
    pub fn standing(&self) -> Option<Standing> {
        self.witness.standing()
    }

    /// What the driver is to do for the ensemble, in this order.
    pub fn poll_seat(&mut self) -> Option<SeatEffect> {
        self.seat.as_mut()?.poll()
    }

    /// Whether bytes of the leader are to be read. While the log has no room they are not.
    pub fn takes_packets(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| seat.takes_packets())
    }

    /// Tells the protocol of something: a connection, a message of an election. `None`: the server stands alone.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn tell_peer<R>(
        &mut self,
        now: Now,
        what: impl FnOnce(&mut Peer) -> R,
    ) -> Result<Option<R>, Fatal> {
        self.seated(now, |seat, parts| seat.tell(parts, what))
    }

    /// A packet of the leader has come.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn from_leader(
        &mut self,
        link: LinkId,
        packet: &ToLearner<'_>,
        now: Now,
    ) -> Result<(), Fatal> {
        self.seated(now, |seat, parts| seat.leader_says(parts, link, packet))
            .map(drop)
    }

    /// A packet of a learner has come.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn from_learner(
        &mut self,
        link: LinkId,
        packet: &ToLeader<'_>,
        now: Now,
    ) -> Result<(), Fatal> {
        self.seated(now, |seat, parts| seat.learner_says(parts, link, packet))
            .map(drop)
    }

    /// The snapshot that was to be read from a connection has come, and is durable beside the member's own.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn snapshot_received(
        &mut self,
        link: LinkId,
        received: Received,
        now: Now,
    ) -> Result<(), Fatal> {
        self.seated(now, |seat, parts| {
            seat.snapshot_received(parts, link, received)
        })
        .map(drop)
    }

    /// A learner's connection has taken what it was given: a piece, or a snapshot.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn taken(&mut self, link: LinkId, now: Now) -> Result<(), Fatal> {
        self.seated(now, |seat, parts| seat.taken(parts, link))
            .map(drop)
    }

    /// A connection of either port is gone, whoever has closed it.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn link_closed(&mut self, link: LinkId, now: Now) -> Result<(), Fatal> {
        self.seated(now, |seat, parts| seat.link_closed(parts, link))
            .map(drop)
    }

    /// What [`Member::poll_record`] gave out was written.
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn record_written(&mut self, outcome: WitnessOutcome, now: Now) -> Result<JobNews, Fatal> {
        let (record, news) = self.recorded(outcome)?;
        if let Some(record) = record {
            self.seated(now, |seat, parts| seat.recorded(parts, record))?;
        }
        Ok(news)
    }

    /// What follows from what was done is done, too.
    pub(super) fn settle(&mut self, now: Now) -> Result<(), Fatal> {
        match self.seat {
            None => Ok(()),
            Some(_) => self.seated(now, |seat, parts| seat.settle(parts)).map(drop),
        }
    }

    /// Whether something is to be told that has come to pass without an event.
    pub(super) fn has_seat_news(&self) -> bool {
        let applied = || self.pipeline.cursors().applied;
        self.seat
            .as_ref()
            .is_some_and(|seat| seat.is_behind(applied()))
    }

    /// Time passes for the protocol, behind what has come from others by then ([`Member::tick`] comes later).
    ///
    /// # Errors
    /// As [`Member::request`].
    pub fn tick_seat(&mut self, now: Now) -> Result<(), Fatal> {
        self.tell_peer(now, |peer| peer.tick(now.tick)).map(drop)
    }

    pub(super) fn tell_synced(&mut self, proof: &Durable<LogEnd>, now: Now) -> Result<(), Fatal> {
        match self.seat {
            None => Ok(()),
            Some(_) => (self.seated(now, |seat, parts| seat.synced(parts, proof))).map(drop),
        }
    }

    fn seated<R>(
        &mut self,
        now: Now,
        what: impl FnOnce(&mut Seat, &mut Parts<'_, S>) -> Result<R, Fatal>,
    ) -> Result<Option<R>, Fatal> {
        let Some(seat) = &mut self.seat else {
            return Ok(None);
        };
        let mut parts = Parts {
            pipeline: &mut self.pipeline,
            tree: &self.tree,
            witness: &mut self.witness,
            verified: &self.verified,
            now,
        };
        what(seat, &mut parts).map(Some)
    }

    // Its jobs.

    /// What is committed and on disk alone, and what learners lack.
    pub(super) fn poll_history(&mut self) -> Option<Job> {
        if self.seat.is_none() || !self.may_read() {
            return None;
        }
        let read_back = self.pipeline.poll_lag().map(MemberJob::ReadBack);
        let seat = self.seat.as_mut()?;
        let job = read_back.or_else(|| seat.poll_read(&self.pipeline).map(MemberJob::ReadFor))?;
        Some(Job::OfMember(Box::new(job)))
    }

    /// Snapshots of leaders. No other job of theirs is under way.
    pub(super) fn poll_incoming(&mut self) -> Option<Job> {
        let seat = self.seat.as_mut()?;
        let naming = seat.poll_naming().map(MemberJob::Name);
        let job = naming.or_else(|| {
            let zxid = self.pipeline.awaited().filter(|_| seat.may_install())?;
            let store = self.witness.store();
            (!self.jobs.pauses).then_some(MemberJob::Install { zxid, store })
        })?;
        Some(Job::OfMember(Box::new(job)))
    }

    /// What jobs have brought since the last turn.
    pub(super) fn take_done(&mut self, now: Now) -> Result<(), Fatal> {
        while let Some(done) = self.done.pop_front() {
            match done {
                MemberDone::ReadBack { .. } => unreachable!("taken when it came"),
                MemberDone::ReadFor {
                    link,
                    cursor,
                    lease,
                    packets,
                } => match packets {
                    Ok(packets) => drop(self.seated(now, |seat, parts| {
                        seat.was_read(parts, link, (cursor, lease), packets)
                    })?),
                    Err(error) if error.shortage().is_some() => {
                        if let Some(seat) = &mut self.seat {
                            seat.not_read(link, cursor, lease);
                        }
                    }
                    Err(_) => drop(self.seated(now, |seat, parts| seat.hang_up(parts, link))?),
                },
                MemberDone::Named {
                    zxid,
                    proof,
                    result,
                } => {
                    match (&proof, result) {
                        (Some(_), Err(error)) => {
                            let what = format!("the snapshot of {zxid} gets no name: {error}");
                            return Err(Fatal::History(what));
                        }
                        (Some(_), Ok(())) => drop(self.verified.insert(zxid)),
                        // What is left of it the next start removes.
                        (None, _) => {}
                    }
                    self.seated(now, |seat, parts| seat.named(parts, proof))?;
                }
                MemberDone::Installed { zxid, tree } => self.install(zxid, tree, now)?,
            }
        }
        if std::mem::take(&mut self.has_new_snapshot) {
            self.seated(now, |seat, parts| seat.snapshot_made(parts))?;
        }
        Ok(())
    }

    /// The tree is the leader's from here on.
    fn install(
        &mut self,
        zxid: Zxid,
        tree: Result<Box<Tree>, SnapError>,
        now: Now,
    ) -> Result<(), Fatal> {
        // The history may have changed again.
        if self.pipeline.awaited() != Some(zxid) {
            return Ok(());
        }
        match tree {
            Ok(tree) => {
                // What was being written of the old one has no end.
                if self.saving.take().is_some() {
                    self.snapshots.made(None);
                }
                self.tree = *tree;
                self.pipeline.installed(zxid);
                self.settle(now)
            }
            Err(SnapError::Io(_)) => {
                self.jobs.pauses = true;
                Ok(())
            }
            Err(_) => self
                .seated(now, |seat, parts| seat.not_installed(parts, zxid))
                .map(drop),
        }
    }
}

/// The operator says that this member has forgotten nothing. Blocks.
fn found_with<S: Storage>(
    keeper: &mut Keeper,
    log: &Log<S>,
    (data, logs): &(S, S),
) -> io::Result<Durable<Epochs>> {
    keeper.become_whole();
    let durable = log.durable_end();
    let newest = log.newest().min(durable.position);
    let ticket = keeper.poll_record(durable, newest);
    let outcome = ticket.expect("it was just asked for").run(data, logs);
    match keeper.written(outcome)? {
        Written::Durable(Some(record)) => Ok(record),
        Written::Durable(None) => unreachable!("a member's record"),
        Written::Short(error) => Err(error),
    }
}
