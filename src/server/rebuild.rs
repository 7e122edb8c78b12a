//! The tree of a start, made on a thread of its own beside the one that reads and decodes.

use crate::snapshot::{Rebuild, Rebuilding, SnapError};
use crate::tree::Tree;
use crate::txn::Entry;
use crate::types::Zxid;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

/// Transactions that are handed over at once,
const BATCH: usize = 256;
/// and bytes of them, unless one has more.
const BATCH_BYTES: usize = 1 << 20;
/// Pieces of work that wait: batches, or chunks of a snapshot. Whoever reads waits with the next one.
const WAITING_MAX: usize = 4;

/// Makes the tree elsewhere, a few pieces behind what is read.
pub struct Beside {
    work: SyncSender<Work>,
    answers: Receiver<Answer>,
    batch: Vec<Entry>,
    batch_bytes: usize,
}

enum Work {
    Begin,
    Body(Vec<u8>),
    BodyEnds,
    Apply(Vec<Entry>),
    Tree,
}

enum Answer {
    /// To `Begin`.
    Begun,
    /// To `BodyEnds`.
    Body(Zxid),
    /// To `Tree`.
    Tree(Box<Tree>),
    /// Instead of an answer, or to what has none. What follows up to the next `Begin` is not looked at.
    Failed(SnapError),
}

impl Beside {
    /// Starts the thread, which ends when this is dropped.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start() -> io::Result<Beside> {
        let (work, pieces) = mpsc::sync_channel(WAITING_MAX);
        let (answer, answers) = mpsc::channel();
        let make = move || {
            let mut maker = Maker::new();
            for work in pieces {
                if let Some(given) = maker.take(work) {
                    // Nobody waits for it any more: the start has failed elsewhere.
                    let _ = answer.send(given);
                }
            }
        };
        thread::Builder::new().name("tree".into()).spawn(make)?;
        Ok(Beside {
            work,
            answers,
            batch: Vec::new(),
            batch_bytes: 0,
        })
    }

    fn give(&mut self, work: Work) -> Result<(), SnapError> {
        if let Ok(Answer::Failed(error)) = self.answers.try_recv() {
            return Err(error);
        }
        self.hand_over(work);
        Ok(())
    }

    fn hand_over(&mut self, work: Work) {
        self.work.send(work).expect("the thread ends behind this");
    }

    fn answer(&mut self) -> Answer {
        self.answers.recv().expect("the thread ends behind this")
    }

    fn flush(&mut self) -> Result<(), SnapError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.batch_bytes = 0;
        self.give(Work::Apply(batch))
    }
}

impl Rebuild for Beside {
    fn begin(&mut self) {
        self.batch.clear();
        self.hand_over(Work::Begin);
        // An error of what was made before may come first.
        while !matches!(self.answer(), Answer::Begun) {}
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), SnapError> {
        self.give(Work::Body(piece.to_vec()))
    }

    fn body_ends(&mut self) -> Result<Zxid, SnapError> {
        self.give(Work::BodyEnds)?;
        match self.answer() {
            Answer::Body(last) => Ok(last),
            Answer::Failed(error) => Err(error),
            Answer::Begun | Answer::Tree(_) => {
                unreachable!("answers come in the order of questions")
            }
        }
    }

    fn apply(&mut self, entry: Entry, bytes: usize) -> Result<(), SnapError> {
        self.batch.push(entry);
        self.batch_bytes += bytes;
        match self.batch.len() < BATCH && self.batch_bytes < BATCH_BYTES {
            true => Ok(()),
            false => self.flush(),
        }
    }

    fn tree(&mut self) -> Result<Tree, SnapError> {
        self.flush()?;
        self.hand_over(Work::Tree);
        match self.answer() {
            Answer::Tree(tree) => Ok(*tree),
            Answer::Failed(error) => Err(error),
            Answer::Begun | Answer::Body(_) => {
                unreachable!("answers come in the order of questions")
            }
        }
    }
}

/// What the thread has made.
struct Maker {
    rebuilding: Rebuilding<fn(&Entry)>,
    has_failed: bool,
}

impl Maker {
    fn new() -> Maker {
        Maker {
            rebuilding: Rebuilding::new(|_| {}),
            has_failed: false,
        }
    }

    /// The answer, if there is one.
    fn take(&mut self, work: Work) -> Option<Answer> {
        let done = match work {
            Work::Begin => {
                self.rebuilding.begin();
                self.has_failed = false;
                Ok(Some(Answer::Begun))
            }
            Work::Tree => self
                .rebuilding
                .tree()
                .map(|tree| Some(Answer::Tree(Box::new(tree)))),
            _ if self.has_failed => Ok(None),
            Work::Body(piece) => self.rebuilding.body(&piece).map(|()| None),
            Work::BodyEnds => self
                .rebuilding
                .body_ends()
                .map(|last| Some(Answer::Body(last))),
            Work::Apply(batch) => self.apply(batch).map(|()| None),
        };
        done.unwrap_or_else(|error| {
            self.has_failed = true;
            Some(Answer::Failed(error))
        })
    }

    fn apply(&mut self, batch: Vec<Entry>) -> Result<(), SnapError> {
        // Their bytes count where they wait.
        batch
            .into_iter()
            .try_for_each(|entry| self.rebuilding.apply(entry, 0))
    }
}
