//! What reaches a data core from other threads, outside the order of transactions: sockets that were
//! accepted for it, questions, background work that is done.
//!
//! | Letter | At most |
//! |---|---|
//! | socket | as many as the process may have connections |
//! | question | as many as four-letter words are answered at once |
//! | done | one for each queue of background work |
//! | recorded, transferred | one record, one snapshot read and one kept at a time |

use super::process::Process;
use super::report::{OrderingReport, Report, ServingReport};
use crate::log::WitnessOutcome;
use crate::member::{Done, Transferred};
use crate::rt::background;
use crate::rt::bell::Bell;
use crate::rt::net::Socket;
use crate::rt::storage::FsStorage;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a core may take to answer a question, ms: a core that was stopped must not hold up the
/// words of the others.
const ANSWER_MS: u64 = 1000;
/// How often the one who asks looks whether everybody has answered.
const LOOK: Duration = Duration::from_micros(500);

/// Something for a data core.
pub enum Letter {
    /// A connection to serve.
    Socket(Socket, SocketAddr),
    /// A question to answer.
    Question(Arc<Question>),
    /// Background work that is done.
    Done(Done<FsStorage>),
    /// A member's record was written.
    Recorded(Box<WitnessOutcome>),
    /// A piece of a snapshot of an ensemble was read or kept.
    Transferred(Transferred<FsStorage>),
}

/// Where threads leave letters for one data core.
pub struct Mailbox {
    letters: Mutex<VecDeque<Letter>>,
    /// Letters in it, so that an empty mailbox costs a load.
    count: AtomicUsize,
    /// Connections among them.
    connections: AtomicUsize,
    /// Wakes the core.
    pub bell: Arc<Bell>,
    /// Sockets that were handed to the core and are open.
    pub sockets: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panics ends the process, so nothing is ever left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    /// Empty.
    ///
    /// # Errors
    /// No descriptor is left for the bell.
    pub fn new() -> io::Result<Arc<Mailbox>> {
        Ok(Arc::new(Mailbox {
            letters: Mutex::default(),
            count: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            bell: Bell::new()?,
            sockets: AtomicUsize::new(0),
        }))
    }

    /// Leaves a letter and wakes the core.
    pub fn send(&self, letter: Letter) {
        if let Letter::Socket(..) = letter {
            self.connections.fetch_add(1, Release);
        }
        lock(&self.letters).push_back(letter);
        self.count.fetch_add(1, Release);
        self.bell.ring();
    }

    /// The next letter.
    pub fn take(&self) -> Option<Letter> {
        if self.is_empty() {
            return None;
        }
        let letter = lock(&self.letters).pop_front()?;
        self.count.fetch_sub(1, Relaxed);
        if let Letter::Socket(..) = letter {
            self.connections.fetch_sub(1, Relaxed);
        }
        Some(letter)
    }

    /// Connections among the letters; none is missing that was sent before.
    pub fn connections(&self) -> usize {
        self.connections.load(Acquire)
    }

    /// Whether there is no letter.
    pub fn is_empty(&self) -> bool {
        self.count.load(Acquire) == 0
    }
}

/// What a question asks for beside the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A line for each connection.
    pub connections: bool,
    /// Sessions, when they expire, and their ephemerals.
    pub sessions: bool,
    /// Who watches what in the data table.
    pub watches: bool,
    /// Digests of the tree.
    pub digests: bool,
    /// What is to begin anew; it does, also when nobody waits for the answer any more.
    pub reset: Option<Reset>,
}

/// Counters that begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Of the server: packets, latencies, stages, what `mntr` shows of the pipeline.
    Server,
    /// Of each connection.
    Connections,
}

impl Asked {
    /// Whether the answer grows with what clients have made.
    pub fn is_list(self) -> bool {
        self.connections || self.sessions || self.watches
    }
}

/// A question to every data core.
pub struct Question {
    /// What is asked.
    pub asked: Asked,
    /// What was answered so far; `None` once nobody waits for answers any more, so that a core which
    /// answers late holds no memory.
    report: Mutex<Option<Report>>,
    answers: AtomicUsize,
}

impl Question {
    /// A serving core's answer.
    pub fn answer_serving(&self, part: ServingReport) {
        if let Some(report) = &mut *lock(&self.report) {
            report.serving.push(part);
        }
    }

    /// The ordering core's answer.
    pub fn answer_ordering(&self, part: OrderingReport) {
        if let Some(report) = &mut *lock(&self.report) {
            report.ordering = Some(part);
        }
    }

    /// Whether nobody waits for answers any more.
    pub fn is_abandoned(&self) -> bool {
        lock(&self.report).is_none()
    }

    /// A core has said all that it says.
    pub fn answered(&self) {
        self.answers.fetch_add(1, Release);
    }
}

/// Who waits for the answers to a question; dropped, it abandons the question.
pub struct Asker {
    /// The question.
    pub question: Arc<Question>,
}

impl Asker {
    /// With a question that nobody has answered.
    pub fn new(asked: Asked) -> Asker {
        let question = Question {
            asked,
            report: Mutex::new(Some(Report::default())),
            answers: AtomicUsize::new(0),
        };
        Asker {
            question: Arc::new(question),
        }
    }

    /// Waits no longer; the answers that have come.
    fn end(&self) -> Report {
        lock(&self.question.report).take().unwrap_or_default()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The mailboxes of all data cores.
pub struct Mailboxes {
    /// Of the core that orders; inline it serves too.
    pub ordering: Arc<Mailbox>,
    /// Of the shards, in their order.
    pub shards: Vec<Arc<Mailbox>>,
}

impl Mailboxes {
    /// For so many shards.
    ///
    /// # Errors
    /// As [`Mailbox::new`].
    pub fn new(shards: u16) -> io::Result<Mailboxes> {
        Ok(Mailboxes {
            ordering: Mailbox::new()?,
            shards: (0..shards)
                .map(|_| Mailbox::new())
                .collect::<io::Result<_>>()?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.shards.iter().chain([&self.ordering])
    }

    /// Wakes every core.
    pub fn ring_all(&self) {
        self.all().for_each(|mailbox| mailbox.bell.ring());
    }

    /// Gives a connection to the shard that has the fewest.
    pub fn hand_over(&self, socket: Socket, peer: SocketAddr) {
        let load = |mailbox: &&Arc<Mailbox>| mailbox.sockets.load(Relaxed);
        let least = self
            .shards
            .iter()
            .min_by_key(load)
            .expect("there are shards");
        least.sockets.fetch_add(1, Relaxed);
        least.send(Letter::Socket(socket, peer));
    }

    /// Asks every core, and waits for the answers that come in time; dropped, it abandons the question.
    /// Runs on an executor for what may wait.
    pub async fn ask(&self, asked: Asked, process: &Process) -> Report {
        let asker = Asker::new(asked);
        let question = &asker.question;
        let cores = self.all().count();
        for mailbox in self.all() {
            mailbox.send(Letter::Question(question.clone()));
        }
        let until = process.now().tick.after(ANSWER_MS);
        while question.answers.load(Acquire) < cores && process.now().tick < until {
            background::sleep(LOOK).await;
        }
        asker.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{Shard, ShardConfig};
    use crate::tree::Tree;
    use crate::types::ShardId;

    #[test]
    fn an_answer_that_nobody_waits_for_is_not_kept() {
        let answer = || {
            let shard = Shard::new(ShardConfig::new(ShardId(0)));
            ServingReport::of(&shard, &Tree::new())
        };
        for answers_in_time in [0, 1, 2] {
            let asker = Asker::new(Asked::default());
            let question = asker.question.clone();
            for _ in 0..answers_in_time {
                question.answer_serving(answer());
            }
            assert!(!question.is_abandoned());
            assert_eq!(asker.end().serving.len(), answers_in_time);
            question.answer_serving(answer());
            assert!(question.is_abandoned() && lock(&question.report).is_none());
        }
        let asker = Asker::new(Asked::default());
        let question = asker.question.clone();
        question.answer_serving(answer());
        drop(asker);
        assert!(question.is_abandoned(), "the asker has given up");
    }
}
