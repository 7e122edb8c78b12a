//! The loop of the core that orders for shards on other cores. It serves no client; it accepts
//! connections and hands each to the shard that has the fewest.

use super::background::{Background, tell};
use super::connection::{Admitted, ClientSockets};
use super::disk::{Disk, Driven};
use super::mailbox::{Letter, Mailboxes, Question, Reset};
use super::process::Process;
use super::report::{OrderingReport, describe_deadlines};
use super::serve::DESCRIBED_PER_TURN;
use crate::pipeline::Fatal;
use crate::placement::{
    Drain, DrainFacts, DrainStep, OrderingCore, OrderingDrain, Sockets, Waiting,
};
use crate::rt::ring::Happened;
use crate::rt::signals::Stop;
use crate::rt::storage::FsStorage;
use crate::types::{Now, SessionId, Tick};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// The data core that orders.
pub struct OrderingLoop {
    core: OrderingCore<FsStorage>,
    /// Only its listening socket is used.
    sockets: ClientSockets,
    mailboxes: Arc<Mailboxes>,
    process: Arc<Process>,
    disk: Disk,
    /// Questions of four-letter words, the first one half answered.
    questions: VecDeque<Answer>,
    next_tick: Tick,
    listener_ready: bool,
    /// Those who waited in the listening socket at a tick.
    waiting: Waiting,
    /// When the turn before this one began.
    last_turn: Tick,
    again: bool,
}

/// An answer that is made in pieces.
struct Answer {
    question: Arc<Question>,
    /// When sessions expire, and how far that list is.
    deadlines: Vec<(SessionId, Tick)>,
    last: Option<SessionId>,
}

impl OrderingLoop {
    /// Around the core.
    pub fn new(
        core: OrderingCore<FsStorage>,
        sockets: ClientSockets,
        mailboxes: Arc<Mailboxes>,
        process: Arc<Process>,
        disk: Disk,
    ) -> OrderingLoop {
        let tick = process.now().tick;
        OrderingLoop {
            core,
            sockets,
            mailboxes,
            process,
            disk,
            questions: VecDeque::new(),
            next_tick: tick,
            listener_ready: true,
            waiting: Waiting::default(),
            last_turn: tick,
            again: true,
        }
    }

    /// Orders until a stop is asked for, then drains (the steps of [`Drain`]), each step for at most
    /// `drain_ms`; seals the log.
    ///
    /// # Errors
    /// The log can't be sealed.
    pub fn run(
        mut self,
        background: &Background,
        drain: &Drain,
        stop: &Stop,
        drain_ms: u64,
    ) -> io::Result<()> {
        let mut own = OrderingDrain::new(drain_ms);
        loop {
            self.step(background, own.may_sync());
            let (syncing, asked) = (self.disk.is_syncing(), stop.is_asked());
            let facts = DrainFacts::ordering(&self.core, self.again, syncing, asked);
            match own.after_turn(drain, facts, self.last_turn) {
                DrainStep::Stay => {}
                DrainStep::Next { input_ends } => {
                    if input_ends {
                        tracing::info!("stopping: no more input, waiting for what is under way");
                        self.process.begin_stopping();
                        self.core.stop();
                        self.sockets.stop_listening();
                    }
                    self.mailboxes.ring_all();
                    self.again = true;
                }
                DrainStep::Seal => return self.core.orderer.member.close(),
            }
        }
    }

    /// Looks at the kernel and makes a turn; `may_sync`: a sync may begin behind it.
    fn step(&mut self, background: &Background, may_sync: bool) {
        let timeout = match self.again {
            true => Duration::ZERO,
            false => Duration::from_millis(self.next_tick.0.saturating_sub(self.last_turn.0)),
        };
        let (mailbox, core) = (&self.mailboxes.ordering, &self.core);
        self.sockets
            .ring
            .wait(Some(timeout), || mailbox.is_empty() && !core.has_mail());
        let mut synced = None;
        while let Some(happened) = self.sockets.ring.poll() {
            match happened {
                Happened::Listener => self.listener_ready = true,
                Happened::Synced { result } => synced = Some(result),
                Happened::Socket { .. } | Happened::Doorbell => {}
            }
        }
        let now = self.process.now();
        let outcome = self.turn(synced, now, background, may_sync);
        self.process.check(outcome);
    }

    fn turn(
        &mut self,
        synced: Option<io::Result<()>>,
        now: Now,
        background: &Background,
        may_sync: bool,
    ) -> Result<(), Fatal> {
        let orderer = &mut self.core.orderer;
        if let Some(result) = synced {
            let (member, ring) = (&mut orderer.member, &mut self.sockets.ring);
            self.disk.synced(result, member, ring, now)?;
        }
        while let Some(letter) = self.mailboxes.ordering.take() {
            match letter {
                Letter::Done(done) => tell(&orderer.job_done(done)?),
                Letter::Question(question) => {
                    if question.asked.reset == Some(Reset::Server) {
                        orderer.member.pipeline.reset_stats();
                        self.disk.group.reset_times();
                    }
                    self.questions.push_back(Answer {
                        question,
                        deadlines: Vec::new(),
                        last: None,
                    });
                }
                Letter::Socket(..) => unreachable!("this core serves nobody"),
                Letter::Recorded(_) | Letter::Transferred(_) => {
                    unreachable!("members of ensembles run inline")
                }
            }
        }
        let tick = now.tick >= self.next_tick;
        if tick {
            self.next_tick = now.tick.after(self.process.tick_ms());
            self.listener_ready |= std::mem::take(&mut self.sockets.exhausted);
            orderer.member.tick(now)?;
            if let Some(over) = orderer.member.pipeline.take_over_quota() {
                tracing::warn!("{over}");
            }
            if self.sockets.ring.has_told_all() {
                let waiting = self.sockets.waiting_max();
                self.waiting.begin(self.last_turn, waiting);
            }
        }
        self.accept();
        let nobody_waits = !self.listener_ready && !self.sockets.exhausted;
        if let Some(until) = self.waiting.take_accepted(nobody_waits) {
            // The clock is read again: what was handed over has come to the shards by then.
            let handed_over = self.process.now().tick;
            let pipeline = &mut self.core.orderer.member.pipeline;
            pipeline.accepted_until(until, handed_over);
        }
        self.last_turn = now.tick;
        self.again = self.turn_of_shards(now)?;
        let (member, ring) = (&mut self.core.orderer.member, &mut self.sockets.ring);
        let driven = match may_sync {
            true => self.disk.drive(member, ring, &self.process, false, now)?,
            false => Driven::Nothing,
        };
        match driven {
            Driven::Nothing => {}
            Driven::LookAgain => self.again = true,
            Driven::Synced => {
                let now = self.process.now();
                self.again |= self.turn_of_shards(now)?;
            }
        }
        while let Some(job) = self.core.orderer.poll_job() {
            background.submit(job, &self.process, &self.mailboxes.ordering);
        }
        self.again |= self.listener_ready | self.answer_questions();
        Ok(())
    }

    /// Goes on with the oldest question: one piece in each turn. True if there is more.
    fn answer_questions(&mut self) -> bool {
        let orderer = &self.core.orderer;
        let Some(Answer {
            question,
            deadlines,
            last,
        }) = self.questions.front_mut()
        else {
            return false;
        };
        let is_long = question.asked.sessions && !question.is_abandoned();
        if is_long && describe_deadlines(&orderer.member, last, deadlines, DESCRIBED_PER_TURN) {
            return true;
        }
        let Answer {
            question,
            deadlines,
            ..
        } = self.questions.pop_front().expect("just seen");
        question.answer_ordering(OrderingReport {
            deadlines,
            ..OrderingReport::with_shards(orderer, self.disk.group.counters())
        });
        question.answered();
        !self.questions.is_empty()
    }

    fn turn_of_shards(&mut self, now: Now) -> Result<bool, Fatal> {
        let shards = &self.mailboxes.shards;
        self.core.turn(now, &mut |_| {}, &mut |shard| {
            shards[usize::from(shard.0)].bell.ring();
        })
    }

    /// Hands who waits to the shards.
    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.listener_ready {
                break;
            }
            match self.sockets.accept_admitted() {
                Admitted::Connection(socket, peer) => {
                    self.mailboxes.hand_over(socket, peer);
                    self.waiting.accepted();
                }
                Admitted::Dropped => self.waiting.accepted(),
                Admitted::Nobody | Admitted::Exhausted => self.listener_ready = false,
            }
        }
    }
}
