//! Where background work runs: executors of glommio's, one thread each, none of them a data core.
//!
//! | Executor | Work | Nicer than the data cores by |
//! |---|---|---|
//! | `spares` | segments for the log, never behind a snapshot: writes may wait for them | 0 |
//! | `witness` | the witness, or a member's record, on the device of the log and on that of the snapshots | 0 |
//! | `snapshots` | snapshots, which rest behind each piece and take what nobody else wants of a processor (`rt::pace`), but for those out of memory; where that is too little, or the process may not come back from it | 10: a tenth of what a data core gets on the same processor. With less a snapshot never ends while clients write as fast as they can, and the log grows; and a thread that holds a lock of the file system, and gets no time at all, would hold up the log |
//! | `reads` | parts of the log for shards that catch up: clients wait for them; what goes to other members and comes from them; once, behind the start, a look at the disk | 0 |
//! | `words` | four-letter words | 0 |

use super::mailbox::{Letter, Mailbox};
use super::process::Process;
use crate::log::WitnessTicket;
use crate::member::{Job, JobNews, JobQueue, Transfer};
use crate::rt::background::{Executor, Queue};
use crate::rt::probe;
use crate::rt::storage::FsStorage;
use std::io;
use std::sync::Arc;

/// Says what came of a job, if an operator should know.
pub fn tell(news: &JobNews) {
    match news {
        JobNews::None | JobNews::LogRead(_) => {}
        JobNews::SnapshotMade {
            zxid,
            written,
            unpurged,
        } => {
            tracing::info!("snapshot of {zxid} made: {} bytes", written.bytes);
            if let Some(reason) = unpurged {
                tell_unpurged(reason);
            }
        }
        JobNews::Unpurged(reason) => tell_unpurged(reason),
        JobNews::Shortage { what, reason } => {
            tracing::warn!("no room for {what}, tried again until there is: {reason}");
        }
        JobNews::SnapshotOutOfMemory { zxid, reason } => {
            tracing::warn!(
                "no snapshot can be made of the files, one of {zxid} is made out of memory: {reason}"
            );
        }
        JobNews::SnapshotFailed { zxid, reason } => {
            tracing::warn!("no snapshot of {zxid}, tried again later: {reason}");
        }
    }
}

fn tell_unpurged(reason: &io::Error) {
    tracing::warn!("older snapshots can't be removed, tried again later: {reason}");
}

/// Runs something; what came of it is left in the mailbox.
fn leave(
    executor: &Executor,
    mailbox: &Arc<Mailbox>,
    run: impl FnOnce() -> Letter + Send + 'static,
) {
    let mailbox = mailbox.clone();
    let taken = executor.run(0, move || mailbox.send(run()));
    assert!(taken.is_ok(), "one job of a queue at a time");
}

/// The executors.
pub struct Background {
    spares: Executor,
    witness: Executor,
    snapshots: Executor,
    reads: Executor,
    /// Where four-letter words are answered.
    pub words: Arc<Executor>,
}

impl Background {
    /// Starts the threads.
    ///
    /// # Errors
    /// No thread, no descriptor, or io_uring is refused.
    pub fn start() -> io::Result<Background> {
        let one = |name: &'static str, nice| {
            let queue = Queue { name, shares: 1 };
            Executor::start(name, nice, &[queue])
        };
        Ok(Background {
            spares: one("spares", 0)?,
            witness: one("witness", 0)?,
            snapshots: one("snapshots", 10)?,
            reads: one("reads", 0)?,
            words: Arc::new(one("words", 0)?),
        })
    }

    /// Measures what appending and syncing costs on the log's disk, and says it. Nobody waits for that.
    pub fn look_at_disk(&self, process: &Arc<Process>) {
        let process = process.clone();
        let look = move || match probe::durability(process.log.path()) {
            Ok(found) => tracing::info!("durability {found}"),
            Err(error) => tracing::warn!("durability could not be measured: {error}"),
        };
        // The queue is empty at the start; a look that finds no place is none.
        let _ = self.reads.run(0, look);
    }

    /// Runs a job; what came of it is left in the mailbox.
    pub fn submit(&self, job: Job, process: &Arc<Process>, mailbox: &Arc<Mailbox>) {
        let (data, log) = (process.data.clone(), process.log.clone());
        let (data, log) = match job.may_rest() {
            true => (data.unhurried(), log.unhurried()),
            false => (data, log),
        };
        let executor = match job.queue() {
            JobQueue::Spares => &self.spares,
            JobQueue::Witnesses => &self.witness,
            JobQueue::Snapshots => &self.snapshots,
            JobQueue::Reads => &self.reads,
        };
        leave(executor, mailbox, move || {
            Letter::Done(job.run::<FsStorage>(&data, &log))
        });
    }

    /// Writes the record of a member of an ensemble.
    pub fn record(&self, ticket: WitnessTicket, process: &Arc<Process>, mailbox: &Arc<Mailbox>) {
        let (data, log) = (process.data.clone(), process.log.clone());
        leave(&self.witness, mailbox, move || {
            Letter::Recorded(Box::new(ticket.run(&data, &log)))
        });
    }

    /// Reads or keeps a piece of a snapshot that goes to another server, or comes from one.
    pub fn transfer(
        &self,
        transfer: Transfer<FsStorage>,
        process: &Arc<Process>,
        mailbox: &Arc<Mailbox>,
    ) {
        let data = process.data.clone();
        leave(&self.reads, mailbox, move || {
            Letter::Transferred(transfer.run(&data))
        });
    }
}
