//! The loop of a core that serves clients: look at the kernel, make a turn, wait.
//!
//! The order within a turn is [`ServingCore`]'s. Here is what surrounds it: completions of the disk
//! and of background work are fed first, letters of other threads next; behind the turn come syncs,
//! background work and a piece of whatever was asked by four-letter words.

use super::background::{Background, tell};
use super::connection::{ClientSockets, client_address, socket_id};
use super::disk::{Disk, Driven};
use super::mailbox::{Letter, Mailbox, Mailboxes, Question, Reset};
use super::peers::PeerSockets;
use super::process::{Mode, Process};
use super::report::{
    OrderingReport, ServingReport, describe_deadlines, describe_sessions, describe_watches,
};
use crate::log::WitnessOutcome;
use crate::member::{Done, Member, Transferred};
use crate::pipeline::Fatal;
use crate::placement::{
    Drain, DrainFacts, DrainStep, OrderingDrain, Served, ServingCore, ShardDrain, SyncCounters,
};
use crate::rt::ring::Happened;
use crate::rt::signals::Stop;
use crate::rt::storage::FsStorage;
use crate::types::{Now, SessionId, Tick};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Letters that are read in one turn.
const LETTERS_PER_TURN: usize = 256;
/// Connections, sessions and ephemerals, or watches that are described in one turn. The watches of one
/// connection are described together.
pub(super) const DESCRIBED_PER_TURN: usize = 256;

/// A data core that serves.
pub struct ServingLoop {
    core: ServingCore<FsStorage>,
    sockets: ClientSockets,
    mailbox: Arc<Mailbox>,
    process: Arc<Process>,
    /// Of a member of an ensemble: its connections to the others.
    peers: Option<Box<PeerSockets<FsStorage>>>,
    /// Questions of four-letter words, the first one half answered.
    questions: VecDeque<Answer>,
    /// What syncs took is to be forgotten.
    forgets_times: bool,
    next_tick: Tick,
    /// When the last turn began; the only reading of the clock for it.
    tick: Tick,
    /// There is more to do at once.
    again: bool,
}

/// An answer that is made in pieces.
struct Answer {
    question: Arc<Question>,
    report: Option<ServingReport>,
    /// Slots of connections that were looked at.
    described: usize,
    /// Those whose watches were.
    watched: usize,
    /// Of a core that orders too: when sessions expire, and how far that list is.
    deadlines: Vec<(SessionId, Tick)>,
    last: Option<SessionId>,
}

impl Answer {
    /// To a question, not begun.
    fn to(question: Arc<Question>) -> Answer {
        Answer {
            question,
            report: None,
            described: 0,
            watched: 0,
            deadlines: Vec::new(),
            last: None,
        }
    }
}

/// The answer to the oldest question that somebody waits for; those before it are dropped.
fn oldest_awaited(questions: &mut VecDeque<Answer>) -> Option<&mut Answer> {
    let is_abandoned = |answer: &Answer| answer.question.is_abandoned();
    while questions.front().is_some_and(is_abandoned) {
        questions.pop_front();
    }
    questions.front_mut()
}

/// What a look at the kernel and the mailbox brought for the core that orders.
struct Looked {
    now: Now,
    tick: bool,
    synced: Option<io::Result<()>>,
    letters: Letters,
}

/// What other threads have left for a core that orders.
#[derive(Default)]
struct Letters {
    done: Vec<Done<FsStorage>>,
    recorded: Vec<WitnessOutcome>,
    transferred: Vec<Transferred<FsStorage>>,
}

impl ServingLoop {
    /// Around a core and its sockets; `peers`: those of a member of an ensemble, if the core orders too.
    pub fn new(
        core: ServingCore<FsStorage>,
        sockets: ClientSockets,
        peers: Option<Box<PeerSockets<FsStorage>>>,
        mailbox: Arc<Mailbox>,
        process: Arc<Process>,
    ) -> ServingLoop {
        ServingLoop {
            core,
            sockets,
            peers,
            mailbox,
            questions: VecDeque::new(),
            forgets_times: false,
            next_tick: process.now().tick,
            tick: process.now().tick,
            process,
            again: true,
        }
    }

    /// Waits for the kernel, for another thread or for the next tick, if there is nothing to do;
    /// takes what came.
    fn look(&mut self) -> Looked {
        let timeout = match self.again || !self.mailbox.is_empty() {
            true => Duration::ZERO,
            false => {
                let peers = self.peers.as_ref().map(|peers| peers.deadline());
                let due = peers.map_or(self.next_tick, |due| due.min(self.next_tick));
                Duration::from_millis(due.0.saturating_sub(self.tick.0))
            }
        };
        let (mailbox, core, peers) = (&self.mailbox, &self.core, &self.peers);
        self.sockets.ring.wait(Some(timeout), || {
            let has_mail = peers.as_ref().is_some_and(|peers| peers.has_mail());
            mailbox.is_empty() && !core.has_mail() && !has_mail
        });
        let mut synced = None;
        while let Some(happened) = self.sockets.ring.poll() {
            match happened {
                Happened::Socket {
                    key,
                    readable,
                    writable,
                    ended,
                } => {
                    let peers = self.peers.as_mut();
                    let is_theirs =
                        peers.is_some_and(|peers| peers.happened(key, readable || ended, writable));
                    if !is_theirs {
                        self.core
                            .socket_event(socket_id(key), readable, writable, ended);
                    }
                }
                Happened::Listener => self.core.listener_ready(),
                Happened::Doorbell => {}
                Happened::Synced { result } => synced = Some(result),
            }
        }
        let now = self.process.now();
        self.tick = now.tick;
        let tick = now.tick >= self.next_tick;
        if tick {
            self.next_tick = now.tick.after(self.process.tick_ms());
            if std::mem::take(&mut self.sockets.exhausted) {
                self.core.listener_ready();
            }
        }
        let letters = self.read_letters(now);
        Looked {
            now,
            tick,
            synced,
            letters,
        }
    }

    fn read_letters(&mut self, now: Now) -> Letters {
        let mut letters = Letters::default();
        for _ in 0..LETTERS_PER_TURN {
            let Some(letter) = self.mailbox.take() else {
                break;
            };
            match letter {
                Letter::Socket(socket, peer) => {
                    let id = self.core.adopt(client_address(peer), now);
                    self.sockets.insert(id, socket, peer);
                }
                Letter::Question(question) => {
                    self.reset(question.asked.reset);
                    self.questions.push_back(Answer::to(question));
                }
                Letter::Done(done) => letters.done.push(done),
                Letter::Recorded(outcome) => letters.recorded.push(*outcome),
                Letter::Transferred(done) => letters.transferred.push(done),
            }
        }
        letters
    }

    fn reset(&mut self, what: Option<Reset>) {
        match what {
            None => {}
            Some(Reset::Connections) => self.core.served.shard_mut().reset_connection_stats(),
            Some(Reset::Server) => {
                self.forgets_times = true;
                self.core.served.shard_mut().reset_stats();
                if let Served::Inline(inline) = &mut self.core.served {
                    inline.member.pipeline.reset_stats();
                }
            }
        }
    }

    /// Goes on with the oldest question that somebody waits for: one piece in each turn. True if there
    /// is more.
    /// `syncs`: where they ran, if this core orders too.
    fn answer_questions(&mut self, syncs: SyncCounters) -> bool {
        let Some(answer) = oldest_awaited(&mut self.questions) else {
            return false;
        };
        if !self.core.served.may_show() {
            return false;
        }
        let Answer {
            question,
            report,
            described,
            watched,
            deadlines,
            last,
        } = answer;
        let (shard, tree) = (self.core.served.shard(), self.core.served.tree());
        let report = report.get_or_insert_with(|| ServingReport::of(shard, tree));
        if question.asked.digests {
            report.digests = tree.digests().collect();
        }
        if question.asked.connections {
            let piece = *described..shard.slots().min(*described + DESCRIBED_PER_TURN);
            *described = piece.end;
            report.connections.extend(shard.connections_in(piece));
            if *described < shard.slots() {
                return true;
            }
        }
        if question.asked.sessions
            && describe_sessions(tree, &mut report.sessions, DESCRIBED_PER_TURN)
        {
            return true;
        }
        if question.asked.watches {
            let slots = *watched..shard.slots();
            let left = describe_watches(shard, slots, &mut report.watched, DESCRIBED_PER_TURN);
            *watched = left.start;
            if !left.is_empty() {
                return true;
            }
        }
        if question.asked.sessions
            && let Served::Inline(inline) = &self.core.served
            && describe_deadlines(&inline.member, last, deadlines, DESCRIBED_PER_TURN)
        {
            return true;
        }
        let Answer {
            question,
            report,
            deadlines,
            ..
        } = self.questions.pop_front().expect("just seen");
        question.answer_serving(report.expect("just made"));
        if let Served::Inline(inline) = &self.core.served {
            question.answer_ordering(OrderingReport {
                deadlines,
                ..OrderingReport::of(&inline.member, syncs)
            });
        }
        question.answered();
        !self.questions.is_empty()
    }

    /// Tells of the connections that have ended, and why.
    fn tell_ends(&mut self) {
        while let Some(end) = self.core.served.shard_mut().poll_end() {
            tracing::debug!(
                "connection of {}:{} ended, session {}: {}",
                end.peer.address,
                end.peer.port,
                end.session.unwrap_or(SessionId::NONE),
                end.why.name()
            );
        }
    }

    // ---- a core that serves beside one that orders ----

    /// Serves until everything is flushed after a stop was asked for.
    pub fn run_replica(mut self, mailboxes: &Mailboxes, drain: &Drain) {
        let mut own = ShardDrain::default();
        loop {
            let Looked { now, tick, .. } = self.look();
            own.before_turn(drain, &mut self.core);
            let turned = self.core.turn(tick, now, &mut self.sockets, &mut |_| {});
            let turned = self.process.check(turned);
            self.tell_ends();
            if turned.wake_ordering {
                mailboxes.ordering.bell.ring();
            }
            self.again = turned.again | self.answer_questions(SyncCounters::default());
            let step = own.after_turn(drain, &self.core, self.again);
            if step.wake_ordering {
                mailboxes.ordering.bell.ring();
            }
            if step.ended {
                return;
            }
        }
    }

    // ---- a core that serves and orders ----

    fn member(core: &mut ServingCore<FsStorage>) -> &mut Member<FsStorage> {
        match &mut core.served {
            Served::Inline(inline) => &mut inline.member,
            Served::Replica(_) => unreachable!("a replica orders nothing"),
        }
    }

    /// Serves until a stop is asked for, then drains (the stages of [`OrderingDrain`]), each stage for
    /// at most `drain_ms`; seals the log.
    ///
    /// # Errors
    /// The log can't be sealed.
    pub fn run_inline(
        mut self,
        mut disk: Disk,
        background: &Background,
        stop: &Stop,
        drain_ms: u64,
    ) -> io::Result<()> {
        let (drain, mut own) = (Drain::new(0), OrderingDrain::new(drain_ms));
        loop {
            let looked = self.look();
            let outcome = self.inline_turn(looked, &mut disk, background, own.may_sync());
            self.process.check(outcome);
            let (syncing, asked) = (disk.is_syncing(), stop.is_asked());
            let facts = DrainFacts::inline(&self.core, self.again, syncing, asked);
            match own.after_turn(&drain, facts, self.tick) {
                DrainStep::Stay => {}
                DrainStep::Next { input_ends } => {
                    if input_ends {
                        tracing::info!("stopping: no more input, waiting for what is under way");
                        self.process.begin_stopping();
                        self.core.stop();
                        self.sockets.stop_listening();
                    }
                    self.again = true;
                }
                DrainStep::Seal => break,
            }
        }
        match self.core.served {
            Served::Inline(inline) => inline.member.close(),
            Served::Replica(_) => unreachable!("a replica orders nothing"),
        }
    }

    fn inline_turn(
        &mut self,
        looked: Looked,
        disk: &mut Disk,
        background: &Background,
        may_sync: bool,
    ) -> Result<(), Fatal> {
        let now = looked.now;
        if std::mem::take(&mut self.forgets_times) {
            disk.group.reset_times();
        }
        let member = ServingLoop::member(&mut self.core);
        if let Some(result) = looked.synced {
            disk.synced(result, member, &mut self.sockets.ring, now)?;
        }
        for done in looked.letters.done {
            let news = member.job_done(done)?;
            tell(&news);
        }
        for outcome in looked.letters.recorded {
            tell(&member.record_written(outcome, now)?);
        }
        if let Some(peers) = &mut self.peers {
            for done in looked.letters.transferred {
                peers.transferred(done, member, now)?;
            }
            peers.begin_turn(member, &mut self.sockets.ring, now)?;
        }
        if looked.tick
            && let Some(over) = member.pipeline.take_over_quota()
        {
            tracing::warn!("{over}");
        }
        let turned = self
            .core
            .turn(looked.tick, now, &mut self.sockets, &mut |_| {})?;
        if turned.served_others {
            disk.group.served_others(now);
        }
        self.tell_ends();
        let member = ServingLoop::member(&mut self.core);
        let mut has_more = false;
        if let Some(peers) = &mut self.peers {
            has_more = peers.end_turn(member, &mut self.sockets.ring, now)?;
            self.process.set_mode(Mode::of_member(member.duty()));
        }
        let driven = match may_sync {
            true => {
                let ring = &mut self.sockets.ring;
                disk.drive(member, ring, &self.process, turned.again, now)?
            }
            false => Driven::Nothing,
        };
        while let Some(job) = member.poll_job() {
            background.submit(job, &self.process, &self.mailbox);
        }
        if let Some(peers) = &mut self.peers {
            if let Some(ticket) = member.poll_record() {
                background.record(ticket, &self.process, &self.mailbox);
            }
            while let Some(transfer) = peers.poll_transfer() {
                background.transfer(transfer, &self.process, &self.mailbox);
            }
        }
        if driven == Driven::Synced {
            let now = self.process.now();
            self.core.answer(now, &mut self.sockets, &mut |_| {})?;
        }
        self.again = turned.again
            | (driven == Driven::LookAgain)
            | self.answer_questions(disk.group.counters());
        self.again |= has_more | self.core.has_work();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::mailbox::{Asked, Asker};

    #[test]
    fn a_question_whose_asker_has_gone_is_dropped_with_its_half_made_answer() {
        let mut askers: Vec<Asker> = (0..4).map(|_| Asker::new(Asked::default())).collect();
        let asked = askers.iter().map(|asker| asker.question.clone());
        let mut questions: VecDeque<Answer> = asked.map(Answer::to).collect();
        askers.remove(2);
        assert!(oldest_awaited(&mut questions).is_some());
        assert_eq!(questions.len(), 4, "somebody waits for the first");
        askers.drain(..2);
        let left = oldest_awaited(&mut questions).expect("somebody waits for the last");
        assert!(Arc::ptr_eq(&left.question, &askers[0].question));
        assert_eq!(questions.len(), 1);
        askers.clear();
        assert!(oldest_awaited(&mut questions).is_none() && questions.is_empty());
    }
}
