//! The one who writes the witness of a store while its server runs, and a member's record with it.
//!
//! | Write | Due | What it carries |
//! |---|---|---|
//! | of a record | a promise, a history, a standing, ids or a configuration is to be kept | the record as it is to be, and how far the log is durable by then |
//! | a renewal | the log has grown for [`RENEWAL_MS`](super::witness::RENEWAL_MS), or rolled | how far the log is durable, and the record as it was asked for last |
//!
//! **One write is out at a time**, each with a higher sequence number than all before, and each carries all that a slot
//! holds. So the newest slot is the newest of both, and neither kind can bring back an older state of the other. Two at a
//! time could not be told apart after a crash: a file has two slots, and the one that is durable must stand.
//!
//! **A record goes first.** While one is wanted no renewal begins, and none is due behind it. What was wanted while a
//! write is out goes with the next one. A member's renewals take the way of its records, not that of the jobs behind
//! which a spare is made: so a record waits for one write of the two files at most, which waits for nothing but the
//! devices that the record itself has to wait for.
//!
//! **Nothing is promised before both files are durable.** The ticket writes them, one after the other; its outcome comes
//! back to [`Keeper::written`], and only that makes a `Durable<Epochs>`. Changes are asked for one by one, and
//! currentEpoch by the proof of the history alone:
//!
//! ```compile_fail
//! use ringkeeper::{log::Keeper, types::Epoch};
//! fn before_the_history_is_durable(keeper: &mut Keeper, epoch: Epoch) {
//!     keeper.adopt(epoch);
//! }
//! ```
//! ```compile_fail
//! use ringkeeper::log::{Adoption, Keeper};
//! fn before_the_history_is_durable(keeper: &mut Keeper, closed: &Adoption) {
//!     keeper.adopt(closed);
//! }
//! ```
//!
//! **A write that fails** promises nothing. A shortage (`verdict`, the row of `WriteWitness`): a record is written again
//! from the next tick on, a renewal when it is due again, with another sequence number, and in each file over what was
//! written in vain. Anything else ends the process: one of the files may have the record, a start takes it for what it
//! says, and that is more than was promised, never less.

use super::durable::{Adoption, Durable, Epochs, LogEnd};
use super::member_record::{ConfigurationTooLong, MemberRecord};
use super::record::StoreId;
use super::storage::Storage;
use super::verdict::{Call, Verdict, verdict};
use super::witness::{self, Content, Witness};
use crate::types::{Epoch, Position, SessionId};
use std::io;

/// Writes the witness of one store.
#[derive(Debug)]
pub struct Keeper {
    /// The last one written, or tried.
    last: Witness,
    /// Slots up to this sequence number are durable.
    proven: u64,
    /// The record as it is to be; `None`: the store is a standalone server's.
    member: Option<MemberRecord>,
    /// The record was changed since it was given out.
    is_wanted: bool,
    /// A ticket has not come back.
    is_out: bool,
    /// A record has met a shortage: it is not tried before the next tick.
    pauses: bool,
    /// Nothing is known about the files any more.
    has_failed: bool,
}

/// A write of both files. It may be made beside the core.
#[derive(Debug)]
pub struct WitnessTicket {
    content: Content,
    proven: u64,
    is_record: bool,
}

/// A ticket that was worked off.
#[derive(Debug)]
pub struct WitnessOutcome {
    content: Content,
    is_record: bool,
    result: io::Result<()>,
}

/// What came of a write.
#[derive(Debug)]
pub enum Written {
    /// It is durable in both files; a member's promises with it.
    Durable(Option<Durable<Epochs>>),
    /// There was no room, or a want of descriptors or memory: nothing new is promised, and it is tried again.
    Short(io::Error),
}

impl WitnessTicket {
    /// Writes both files, whose snapshots are in `data` and whose log is in `log`. Blocks.
    pub fn run<S: Storage>(self, data: &S, log: &S) -> WitnessOutcome {
        WitnessOutcome {
            result: witness::write_content(data, log, &self.content, self.proven),
            content: self.content,
            is_record: self.is_record,
        }
    }
}

impl WitnessOutcome {
    /// What was written, or was to be.
    pub fn witness(&self) -> &Witness {
        &self.content.witness
    }

    /// Whether it is durable.
    pub fn is_durable(&self) -> bool {
        self.result.is_ok()
    }

    /// Whether it is durable, for one behind which nothing is written.
    ///
    /// # Errors
    /// The write's.
    pub fn into_result(self) -> io::Result<()> {
        self.result
    }
}

impl Keeper {
    /// Of a standalone server whose witness is written.
    pub fn standalone(last: Witness) -> Keeper {
        Keeper {
            proven: last.sequence,
            last,
            member: None,
            is_wanted: false,
            is_out: false,
            pauses: false,
            has_failed: false,
        }
    }

    /// Of a member that starts: makes durable what both files hold, and writes what it begins with into them. Blocks.
    ///
    /// # Errors
    /// The operating system's: nothing is promised, and the member does not start.
    pub(super) fn begin<S: Storage>(
        data: &S,
        log: &S,
        first: Witness,
        member: MemberRecord,
    ) -> io::Result<(Keeper, Durable<Epochs>)> {
        witness::settle(data, log)?;
        let epochs = member.epochs();
        let content = Content {
            witness: first,
            member: Some(member),
        };
        witness::write_content(data, log, &content, witness::ANY)?;
        let keeper = Keeper {
            member: content.member,
            ..Keeper::standalone(first)
        };
        Ok((keeper, Durable::mint(epochs)))
    }

    /// Whose store it is.
    pub fn store(&self) -> StoreId {
        self.last.store
    }

    /// The last one that was written, or tried.
    pub fn last(&self) -> &Witness {
        &self.last
    }

    /// The record as it was asked for last, durable or not; `None`: a standalone server has none.
    pub fn member(&self) -> Option<&MemberRecord> {
        self.member.as_ref()
    }

    /// No leader of an epoch before this is to be followed any more. Promised is it with the `Durable` that says so.
    ///
    /// # Panics
    /// A newer epoch is accepted, or a standalone server promises.
    pub fn accept(&mut self, epoch: Epoch) {
        self.change().accept(epoch);
    }

    /// The history of this leader is to be the one that is held.
    ///
    /// # Panics
    /// A newer one is held, its epoch was not accepted, or it is a standalone server's.
    pub fn adopt(&mut self, history: &Durable<Adoption>) {
        self.change().adopt(history);
    }

    /// This member has forgotten nothing any more: a leader that was active without it has brought it up to date, or the
    /// operator says that there was nothing to forget.
    ///
    /// # Panics
    /// It is a standalone server.
    pub fn become_whole(&mut self) {
        self.change().become_whole();
    }

    /// Ids up to here may be given to sessions, once it is durable.
    ///
    /// # Panics
    /// More are reserved, or a standalone server reserves.
    pub fn reserve_ids(&mut self, upto: SessionId) {
        self.change().reserve_ids(upto);
    }

    /// This configuration is the last one seen.
    ///
    /// # Errors
    /// [`ConfigurationTooLong`]: the record is what it was.
    ///
    /// # Panics
    /// It is a standalone server.
    pub fn see(&mut self, configuration: &[u8]) -> Result<(), ConfigurationTooLong> {
        let mut changed = self.member.clone().expect("a member's record");
        changed.see(configuration)?;
        *self.change() = changed;
        Ok(())
    }

    fn change(&mut self) -> &mut MemberRecord {
        self.is_wanted = true;
        self.member.as_mut().expect("a member's record")
    }

    /// Timers.
    pub fn tick(&mut self) {
        self.pauses = false;
    }

    /// Whether [`Keeper::poll_record`] has one.
    pub fn is_record_due(&self) -> bool {
        self.is_wanted && self.may_write() && !self.pauses
    }

    /// The record to write, if it was changed; the log is durable up to here, and its newest segment begins there.
    pub fn poll_record(&mut self, durable: LogEnd, newest: Position) -> Option<WitnessTicket> {
        if !self.is_record_due() {
            return None;
        }
        self.is_wanted = false;
        Some(self.ticket(durable, newest, true))
    }

    /// Whether [`Keeper::renewal`] has one.
    pub fn may_renew(&self) -> bool {
        self.may_write() && !self.is_wanted
    }

    /// The next one of a log that goes on, if no other write is out or wanted.
    pub fn renewal(&mut self, durable: LogEnd, newest: Position) -> Option<WitnessTicket> {
        self.may_renew()
            .then(|| self.ticket(durable, newest, false))
    }

    fn may_write(&self) -> bool {
        !self.is_out && !self.has_failed
    }

    fn ticket(&mut self, durable: LogEnd, newest: Position, is_record: bool) -> WitnessTicket {
        self.is_out = true;
        WitnessTicket {
            content: Content {
                witness: self.last.renewed(durable, newest),
                member: self.member.clone(),
            },
            proven: self.proven(),
            is_record,
        }
    }

    /// A standalone server's slots all count as proven: a start reads whichever is the newest.
    fn proven(&self) -> u64 {
        match self.member {
            Some(_) => self.proven,
            None => witness::ANY,
        }
    }

    /// A ticket has come back: the only place where what a member promises becomes durable.
    ///
    /// # Errors
    /// Nothing is known about the files any more: the process must stop.
    ///
    /// # Panics
    /// None is out.
    pub fn written(&mut self, outcome: WitnessOutcome) -> io::Result<Written> {
        assert!(self.is_out, "one ticket at a time");
        self.is_out = false;
        let Content { witness, member } = outcome.content;
        match outcome.result {
            Ok(()) => {
                (self.last, self.proven) = (witness, witness.sequence);
                let epochs = member.map(|member| Durable::mint(member.epochs()));
                Ok(Written::Durable(epochs))
            }
            Err(error) if verdict(Call::WriteWitness, &error) == Verdict::Later => {
                // One of the files may have it: no other one gets its number.
                (self.last.newest, self.last.sequence) = (witness.newest, witness.sequence);
                self.is_wanted |= outcome.is_record;
                self.pauses |= outcome.is_record;
                Ok(Written::Short(error))
            }
            Err(error) => {
                self.has_failed = true;
                Err(error)
            }
        }
    }

    /// The last one of all, of a log that is closed there. `None`: the write that is out must not meet another one, so
    /// the newest of those that are there counts. `beside`: a standalone server's may.
    pub fn closing(&self, end: LogEnd, newest: Position, beside: bool) -> Option<WitnessTicket> {
        if self.member.is_some() && (self.is_out || self.has_failed) {
            return None;
        }
        let mut last = self.last;
        // Not into the slot to which a job may be writing the next one.
        last.sequence += u64::from(beside);
        Some(WitnessTicket {
            content: Content {
                witness: last.renewed(end, newest).closed(),
                member: self.member.clone(),
            },
            proven: self.proven(),
            is_record: false,
        })
    }
}
