//! When the witness of the store is renewed.

use crate::log::storage::Storage;
use crate::log::witness::RENEWAL_MS;
use crate::log::{
    Closing, Keeper, Log, LogEnd, Standing, StoreId, WitnessOutcome, WitnessTicket, Written,
};
use crate::types::{Position, Tick};
use std::io;

/// Renews the witness while the log grows.
#[derive(Debug)]
pub(super) struct Witnessing {
    keeper: Keeper,
    /// When the last one was written, or the write after it was tried; `None`: the next tick says when.
    since: Option<Tick>,
    is_due: bool,
}

impl Witnessing {
    pub(super) fn new(keeper: Keeper) -> Witnessing {
        Witnessing {
            keeper,
            since: None,
            is_due: false,
        }
    }

    pub(super) fn store(&self) -> StoreId {
        self.keeper.store()
    }

    /// Timers.
    pub(super) fn tick(&mut self, now: Tick) {
        self.keeper.tick();
        let since = *self.since.get_or_insert(now);
        if now >= since.after(RENEWAL_MS) {
            self.renew_soon();
        }
    }

    /// What is durable by then is written down at the next occasion.
    pub(super) fn renew_soon(&mut self) {
        self.is_due = true;
    }

    /// Whether [`Witnessing::renew`] has something to write: a standalone server's is due, and the log has grown.
    pub(super) fn is_due<S: Storage>(&self, log: &Log<S>) -> bool {
        self.keeper.member().is_none() && self.has_grown(log)
    }

    fn has_grown<S: Storage>(&self, log: &Log<S>) -> bool {
        let durable = log.durable_end();
        let last = self.keeper.last();
        let has_rolled = log.newest() != last.newest && log.newest() <= durable.position;
        let has_grown = durable.zxid > last.durable.zxid;
        has_rolled || self.is_due && has_grown
    }

    /// What to write, if it is due.
    pub(super) fn renew<S: Storage>(&mut self, log: &Log<S>) -> Option<WitnessTicket> {
        if !self.is_due(log) {
            return None;
        }
        let (durable, newest) = reached(log);
        self.keeper.renewal(durable, newest)
    }

    /// What a member has to write: its record before anything else. Behind no job that others wait for.
    pub(super) fn poll_record<S: Storage>(&mut self, log: &Log<S>) -> Option<WitnessTicket> {
        self.keeper.member()?;
        let (durable, newest) = reached(log);
        let record = self.keeper.poll_record(durable, newest);
        if record.is_some() || !self.has_grown(log) {
            return record;
        }
        self.keeper.renewal(durable, newest)
    }

    /// Who writes.
    pub(super) fn keeper(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    /// What the record of a member is to say of it; `None`: the server stands alone.
    pub(super) fn standing(&self) -> Option<Standing> {
        Some(self.keeper.member()?.standing())
    }

    /// It was written, or found no room.
    ///
    /// # Errors
    /// As [`Keeper::written`].
    pub(super) fn written(&mut self, outcome: WitnessOutcome) -> io::Result<Written> {
        let written = self.keeper.written(outcome)?;
        (self.is_due, self.since) = (false, None);
        Ok(written)
    }

    /// What to write at the end of a clean stop. `beside`: a job may be writing another one.
    pub(super) fn closing(&self, closing: Closing, beside: bool) -> Option<WitnessTicket> {
        let Closing { end, newest } = closing;
        self.keeper.closing(end, newest, beside)
    }
}

/// How far the log is durable, and where the newest segment of that begins.
fn reached<S: Storage>(log: &Log<S>) -> (LogEnd, Position) {
    let durable = log.durable_end();
    (durable, log.newest().min(durable.position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::standing;
    use crate::log::witness::{self, Found};
    use crate::log::{Identities, LogConfig, Need, Room, Witness};
    use crate::sim::disk::{Failing, SeamCall, SimStorage};
    use crate::snapshot::{BegunMember, Rebuilding, recover_member};
    use crate::types::{Epoch, ServerId, Zxid};

    #[test]
    fn no_other_witness_gets_the_number_of_one_that_found_no_room() {
        let disk = SimStorage::new(1 << 20);
        let first = Witness::first(StoreId(7), Position(0));
        witness::write(&disk, &disk, &first).unwrap();
        let mut witnessing = Witnessing::new(Keeper::standalone(first));
        let keeper = &mut witnessing.keeper;
        let failed = keeper.renewal(LogEnd::default(), Position(9)).unwrap();
        disk.set_failing(Some(Failing {
            calls: &[SeamCall::Sync],
            code: 28,
            after: 1,
            times: 1,
        }));
        let failed = failed.run(&disk, &disk);
        let sequence = failed.witness().sequence;
        let written = witnessing.written(failed).unwrap();
        assert!(matches!(written, Written::Short(_)));
        let keeper = &mut witnessing.keeper;
        let next = keeper.renewal(LogEnd::default(), Position(9)).unwrap();
        let next = next.run(&disk, &disk);
        assert!(next.is_durable() && next.witness().sequence > sequence);
        let found = witness::find(&disk, &disk).unwrap();
        assert_eq!(found, Found::Witness(*next.witness(), None));
    }

    fn append(log: &mut Log<SimStorage>, disk: &SimStorage, zxid: i64) {
        while log.room_for(Need::Growing, 9) == Room::Wait {
            let order = log.poll_spare().expect("a spare is wanted");
            log.spare_made(order.fulfil(disk)).unwrap();
        }
        log.append(Zxid(zxid), b"something").unwrap();
        let ticket = log.begin_sync().expect("something to sync");
        log.synced(ticket.run()).unwrap();
    }

    #[test]
    fn a_members_renewals_take_the_way_of_its_records_and_behind_a_record_none_is_due() {
        let (disk, sid) = (SimStorage::new(64 << 20), ServerId(2));
        let identities = || -> Identities {
            let mut identity = 5;
            Box::new(move || {
                identity += 1;
                identity
            })
        };
        let config = LogConfig {
            segment_bytes: 64 << 10,
        };
        let rebuild = &mut Rebuilding::new(|_| {});
        let recovered = recover_member(&disk, &disk, sid, rebuild).unwrap();
        let begun = recovered.open_member(&disk, &disk, config, identities());
        let BegunMember {
            mut log, keeper, ..
        } = begun.unwrap();
        let mut witnessing = Witnessing::new(keeper);
        witnessing.tick(Tick(0));
        append(&mut log, &disk, 1);
        assert!(witnessing.poll_record(&log).is_none(), "it is young");
        witnessing.tick(Tick(RENEWAL_MS));
        assert!(!witnessing.is_due(&log) && witnessing.renew(&log).is_none());
        witnessing.keeper().accept(Epoch(1));
        let record = witnessing.poll_record(&log).unwrap();
        assert!(witnessing.poll_record(&log).is_none(), "one is out");
        match witnessing.written(record.run(&disk, &disk)).unwrap() {
            Written::Durable(Some(promised)) => assert_eq!(promised.accepted(), Epoch(1)),
            other => panic!("{other:?}"),
        }
        let of_log = || standing::find(&disk, &disk, sid).unwrap().witness;
        let of_log = || of_log().unwrap().durable.zxid;
        assert_eq!(of_log(), Zxid(1));
        assert!(
            witnessing.poll_record(&log).is_none(),
            "the record has said it"
        );
        append(&mut log, &disk, 2);
        witnessing.tick(Tick(2 * RENEWAL_MS));
        witnessing.tick(Tick(3 * RENEWAL_MS));
        let renewal = witnessing.poll_record(&log).unwrap();
        witnessing.written(renewal.run(&disk, &disk)).unwrap();
        assert_eq!(of_log(), Zxid(2));
    }
}
