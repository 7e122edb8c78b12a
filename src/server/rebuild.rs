//! The tree of a start, made on a thread of its own beside the one that reads and decodes.

use crate::snapshot::{Rebuild, Rebuilding, SnapError};
use crate::tree::Tree;
use crate::txn::Entry;
use crate::types::Zxid;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

/// Transactions that are handed over at once,
const BATCH: usize = 256;
/// and bytes of them, unless one has more.
const BATCH_BYTES: usize = 1 << 20;
/// Pieces of work that wait: batches, or chunks of a snapshot. Whoever reads waits with the next one.
const WAITING_MAX: usize = 4;

const UNASKED: &str = "an answer that was not asked for";

fn queue() -> (SyncSender<Work>, Receiver<Work>) {
    mpsc::sync_channel(WAITING_MAX)
}

/// Has the tree made on another thread, a few pieces behind what is read.
pub struct Beside {
    work: SyncSender<Work>,
    /// At most [`WAITING_MAX`] and two: a piece has one answer at most, and all that are there are taken before the
    /// next piece is handed over.
    answers: Receiver<Answer>,
    /// Transactions that are not handed over yet.
    batch: Vec<Entry>,
    batch_bytes: usize,
    thread: JoinHandle<()>,
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
    /// Instead of the answer to a piece, or to a piece that has none. Pieces of body and log that follow are
    /// dropped without an answer until the next `Begin`.
    Failed(SnapError),
    /// Transactions that were applied, to be dropped by the thread that has decoded them: memory is given back
    /// at less cost where it was taken, and the thread that makes the tree has less to do.
    Applied(Vec<Entry>),
}

impl Beside {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start() -> io::Result<Beside> {
        let (work, pieces) = queue();
        let (answer, answers) = mpsc::channel();
        let make = move || {
            let mut maker = Maker::new();
            for work in pieces {
                if let Some(given) = maker.take(work) {
                    // Where nobody takes the answer any more, the start has failed elsewhere.
                    let _ = answer.send(given);
                }
            }
        };
        Ok(Beside {
            work,
            answers,
            batch: Vec::new(),
            batch_bytes: 0,
            thread: thread::Builder::new().name("tree".into()).spawn(make)?,
        })
    }

    /// Waits until the thread has ended: a signal for the process may go to any thread that does not block it.
    pub fn end(self) {
        drop(self.work);
        self.thread.join().expect("a panic ends the process");
    }

    fn give(&mut self, work: Work) -> Result<(), SnapError> {
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::Failed(error) => return Err(error),
                Answer::Applied(batch) => drop(batch),
                Answer::Begun | Answer::Body(_) | Answer::Tree(_) => unreachable!("{UNASKED}"),
            }
        }
        self.hand_over(work);
        Ok(())
    }

    fn hand_over(&mut self, work: Work) {
        self.work.send(work).expect("the thread ends behind this");
    }

    fn answer(&mut self) -> Answer {
        let mut answers = self.answers.iter();
        let answer = answers.find(|answer| !matches!(answer, Answer::Applied(_)));
        answer.expect("the thread ends behind this")
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
        self.batch_bytes = 0;
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
            _ => unreachable!("{UNASKED}"),
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
            _ => unreachable!("{UNASKED}"),
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
            Work::Apply(batch) => self.apply(batch).map(Some),
        };
        done.unwrap_or_else(|error| {
            self.has_failed = true;
            Some(Answer::Failed(error))
        })
    }

    fn apply(&mut self, batch: Vec<Entry>) -> Result<Answer, SnapError> {
        for entry in &batch {
            self.rebuilding.replay(entry)?;
        }
        Ok(Answer::Applied(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot;
    use crate::txn::{CreateTxn, Txn, TxnDigest, TxnHeader};
    use crate::types::{OpCode, SessionId, WallMs};

    fn create(number: i64) -> Entry {
        Entry {
            header: TxnHeader {
                session: SessionId(0),
                cxid: 0,
                zxid: Zxid(number),
                time: WallMs(0),
                op: OpCode::CREATE,
            },
            txn: Txn::Create(CreateTxn {
                path: format!("/node-{number}").into(),
                data: Some(number.to_be_bytes().as_slice().into()),
                acl: Vec::new().into(),
                ephemeral: false,
                parent_cversion: number as i32,
                ttl_ms: 0,
            }),
            digest: None,
        }
    }

    fn body(tree: &Tree) -> Vec<u8> {
        let mut body = Vec::new();
        let Ok(()) = tree.write_body(&mut |piece: &[u8]| {
            body.extend_from_slice(piece);
            Ok::<(), std::convert::Infallible>(())
        });
        body
    }

    /// The tree of `base`, 40 bytes at a time, and of what follows it.
    fn made(rebuild: &mut dyn Rebuild, base: &Tree, behind: &[i64]) -> Result<Tree, SnapError> {
        rebuild.begin();
        for piece in body(base).chunks(40) {
            rebuild.body(piece)?;
        }
        assert_eq!(rebuild.body_ends()?, base.last_zxid());
        for &number in behind {
            rebuild.apply(create(number), 100)?;
        }
        rebuild.tree()
    }

    #[test]
    fn the_tree_is_the_one_that_is_made_at_once() {
        let mut beside = Beside::start().unwrap();
        let mut base = Tree::new();
        for number in 1..500 {
            base.apply(&create(number));
        }
        for count in [0, 1, BATCH as i64, 10 * BATCH as i64 + 7] {
            let behind: Vec<i64> = (500..500 + count).collect();
            let expected = made(&mut Rebuilding::new(|_| {}), &base, &behind).unwrap();
            let found = made(&mut beside, &base, &behind).unwrap();
            assert_eq!(snapshot::root(&found), snapshot::root(&expected), "{count}");
        }
    }

    #[test]
    fn a_body_that_breaks_anywhere_is_an_error_once_and_the_next_one_is_read() {
        let mut base = Tree::new();
        (1..500).for_each(|number| drop(base.apply(&create(number))));
        let whole = body(&base);
        let mut beside = Beside::start().unwrap();
        for at in [0, 200, whole.len() - 9, whole.len() - 1] {
            beside.begin();
            let mut broken = whole.clone();
            broken[at] ^= 0x55;
            let read = broken.chunks(64).try_for_each(|piece| beside.body(piece));
            let ends = read.and_then(|()| beside.body_ends());
            assert!(matches!(ends, Err(SnapError::Body(_))), "{at}: {ends:?}");
            let found = made(&mut beside, &base, &[500]).unwrap();
            assert_eq!(found.last_zxid(), Zxid(500));
        }
    }

    #[test]
    fn who_gives_up_a_body_reads_another_whatever_was_wrong_with_the_first() {
        let mut beside = Beside::start().unwrap();
        for _ in 0..50 {
            beside.begin();
            // Whether the error is seen here depends on which thread is faster.
            let _ = beside.body(&[0x7f; 64]);
            let found = made(&mut beside, &Tree::new(), &[1, 2]).unwrap();
            assert_eq!(found.last_zxid(), Zxid(2));
        }
    }

    #[test]
    fn another_digest_than_a_transaction_says_is_an_error_wherever_it_stands() {
        for wrong in [1, 2, BATCH as i64, 5 * BATCH as i64, 6 * BATCH as i64] {
            let mut beside = Beside::start().unwrap();
            beside.begin();
            let applied = (1..=6 * BATCH as i64).try_for_each(|number| {
                let mut entry = create(number);
                let digest = TxnDigest {
                    version: TxnDigest::VERSION,
                    tree: 1,
                };
                entry.digest = (number == wrong).then_some(digest);
                beside.apply(entry, 100)
            });
            let error = applied.and_then(|()| beside.tree()).err();
            let Some(SnapError::Digest(mismatch)) = error else {
                panic!("{wrong}: {error:?}");
            };
            assert_eq!(mismatch.zxid, Zxid(wrong));
        }
    }

    #[test]
    fn what_waits_is_bounded_in_pieces_transactions_and_bytes() {
        let (work, _pieces) = queue();
        let fits = (0..100).take_while(|_| work.try_send(Work::BodyEnds).is_ok());
        assert_eq!(fits.count(), WAITING_MAX);
        let mut beside = Beside::start().unwrap();
        beside.begin();
        let mut longest = 0;
        for number in 1..=3 * BATCH as i64 {
            beside.apply(create(number), 0).unwrap();
            longest = longest.max(beside.batch.len());
        }
        assert_eq!((longest, beside.batch.len()), (BATCH - 1, 0));
        let number = 3 * BATCH as i64 + 1;
        beside.apply(create(number), BATCH_BYTES - 1).unwrap();
        assert_eq!(beside.batch.len(), 1);
        beside.apply(create(number + 1), 1).unwrap();
        assert_eq!((beside.batch.len(), beside.batch_bytes), (0, 0));
        beside.apply(create(number + 2), BATCH_BYTES).unwrap();
        assert_eq!(beside.batch.len(), 0);
        assert_eq!(beside.tree().unwrap().last_zxid(), Zxid(number + 2));
    }
}
