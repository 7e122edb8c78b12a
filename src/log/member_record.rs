//! What a member of an ensemble promises before it speaks. It stands in each slot of its store's witness, whose
//! layout `witness` draws.

use super::durable::{Adoption, Durable, Epochs};
use super::record::{u32_at, u64_at};
use crate::types::{Epoch, ServerId, SessionId};
use std::sync::Arc;

/// Where the record begins in a slot.
pub(super) const BEGIN: usize = 128;
/// Where its text ends, and the record with it.
pub(super) const END: usize = 4092;
const SID: usize = 128;
const ACCEPTED: usize = 136;
const CURRENT: usize = 140;
const IDS: usize = 144;
const STANDING: usize = 152;
const LENGTH: usize = 156;
const TEXT: usize = 160;

/// The longest configuration that a record holds, bytes.
pub const CONFIGURATION_BYTES_MAX: usize = END - TEXT;

const _: () = assert!(SID == BEGIN && ACCEPTED == SID + 8 && CURRENT == ACCEPTED + 4);
const _: () = assert!(IDS == CURRENT + 4 && STANDING == IDS + 8 && LENGTH == STANDING + 4);
const _: () = assert!(TEXT == LENGTH + 4 && CONFIGURATION_BYTES_MAX == 3932);

/// Whether a member has forgotten anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing.
    Whole,
    /// It knows of nothing: it is new, or its disks were wiped, and nobody can tell. It counts in no set.
    Fresh,
    /// Something that was durable is missing. It counts in no set, and no ensemble is taken for a new one because
    /// of it.
    Maimed,
}

impl Standing {
    /// Zero is none: bytes that nobody has written are no standing.
    const fn number(self) -> u32 {
        match self {
            Standing::Whole => 1,
            Standing::Fresh => 2,
            Standing::Maimed => 3,
        }
    }

    const ALL: [Standing; 3] = [Standing::Whole, Standing::Fresh, Standing::Maimed];
}

/// The configuration is longer than a record holds; nothing of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a configuration of {0} bytes is longer than a member's record holds ({CONFIGURATION_BYTES_MAX} bytes)"
)]
pub struct ConfigurationTooLong(pub usize);

/// What a member has promised, and what it must not forget. Outside the log nobody changes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    sid: ServerId,
    epochs: (Epoch, Epoch),
    standing: Standing,
    ids_reserved: SessionId,
    configuration: Arc<[u8]>,
}

impl MemberRecord {
    /// Of a member that has promised nothing.
    pub(super) fn new(sid: ServerId, standing: Standing) -> MemberRecord {
        MemberRecord {
            sid,
            epochs: (Epoch(0), Epoch(0)),
            standing,
            ids_reserved: SessionId::NONE,
            configuration: Arc::from([]),
        }
    }

    /// The same promises, by one that may have given others, too.
    pub(super) fn maimed(self) -> MemberRecord {
        MemberRecord {
            standing: Standing::Maimed,
            ..self
        }
    }

    /// Whose it is.
    pub fn sid(&self) -> ServerId {
        self.sid
    }

    /// No leader of an older epoch is followed.
    pub fn accepted(&self) -> Epoch {
        self.epochs.0
    }

    /// Of the leader whose history is held.
    pub fn current(&self) -> Epoch {
        self.epochs.1
    }

    /// Whether it has forgotten anything.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Ids up to here may have been given to sessions; a start begins behind.
    pub fn ids_reserved(&self) -> SessionId {
        self.ids_reserved
    }

    /// Text of the last seen configuration; empty: none.
    pub fn configuration(&self) -> &Arc<[u8]> {
        &self.configuration
    }

    pub(super) fn epochs(&self) -> Epochs {
        Epochs {
            accepted: self.accepted(),
            current: self.current(),
            is_whole: self.standing == Standing::Whole,
        }
    }

    /// No leader of an epoch before this is followed from now on.
    pub(super) fn accept(&mut self, epoch: Epoch) {
        let accepted = &mut self.epochs.0;
        assert!(epoch >= *accepted, "a promise is taken back");
        *accepted = epoch;
    }

    /// The history of this epoch's leader is held: only a proof that it is durable says so.
    pub(super) fn adopt(&mut self, history: &Durable<Adoption>) {
        let (accepted, current) = &mut self.epochs;
        let epoch = history.epoch();
        assert!(epoch >= *current, "an older history is held");
        assert!(epoch <= *accepted, "the epoch was not promised");
        *current = epoch;
    }

    pub(super) fn become_whole(&mut self) {
        self.standing = Standing::Whole;
    }

    pub(super) fn reserve_ids(&mut self, upto: SessionId) {
        let is_ahead =
            self.ids_reserved == SessionId::NONE || upto.number() >= self.ids_reserved.number();
        assert!(is_ahead, "ids that may have been given are free again");
        self.ids_reserved = upto;
    }

    pub(super) fn see(&mut self, configuration: &[u8]) -> Result<(), ConfigurationTooLong> {
        if configuration.len() > CONFIGURATION_BYTES_MAX {
            return Err(ConfigurationTooLong(configuration.len()));
        }
        self.configuration = configuration.into();
        Ok(())
    }

    /// Writes the record where it belongs in a slot, behind whose first bytes there are zeroes.
    pub(super) fn write_into(&self, slot: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| slot[at..at + bytes.len()].copy_from_slice(bytes);
        put(SID, &self.sid.0.to_le_bytes());
        put(ACCEPTED, &self.accepted().0.to_le_bytes());
        put(CURRENT, &self.current().0.to_le_bytes());
        put(IDS, &self.ids_reserved.0.to_le_bytes());
        put(STANDING, &self.standing.number().to_le_bytes());
        put(LENGTH, &(self.configuration.len() as u32).to_le_bytes());
        put(TEXT, &self.configuration);
    }

    /// Reads it out of a slot that has passed its checksum; `None`: no version that is known writes such bytes.
    pub(super) fn read_from(slot: &[u8]) -> Option<MemberRecord> {
        let number = u32_at(slot, STANDING);
        let mut standings = Standing::ALL.into_iter();
        let standing = standings.find(|standing| standing.number() == number);
        let epochs = (Epoch(u32_at(slot, ACCEPTED)), Epoch(u32_at(slot, CURRENT)));
        let length = u32_at(slot, LENGTH) as usize;
        if length > CONFIGURATION_BYTES_MAX || epochs.1 > epochs.0 {
            return None;
        }
        Some(MemberRecord {
            sid: ServerId(u64_at(slot, SID) as i64),
            epochs,
            standing: standing?,
            ids_reserved: SessionId(u64_at(slot, IDS) as i64),
            configuration: slot[TEXT..TEXT + length].into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogEnd;
    use proptest::prelude::*;

    const SLOT: usize = END + 4;

    fn adoption(epoch: u32) -> Durable<Adoption> {
        Durable::played(Adoption {
            epoch: Epoch(epoch),
            end: LogEnd::default(),
        })
    }

    fn slot(record: &MemberRecord) -> Vec<u8> {
        let mut slot = vec![0; SLOT];
        record.write_into(&mut slot);
        slot
    }

    #[test]
    fn golden_bytes_of_a_record() {
        let mut record = MemberRecord::new(ServerId(0x0102), Standing::Fresh);
        record.accept(Epoch(7));
        record.adopt(&adoption(6));
        record.reserve_ids(SessionId(0x0211_2233_4455_6677));
        record.see(b"server.1=a").unwrap();
        let golden = [
            [0x02, 0x01, 0, 0, 0, 0, 0, 0],
            [7, 0, 0, 0, 6, 0, 0, 0],
            [0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x02],
            [2, 0, 0, 0, 10, 0, 0, 0],
            *b"server.1",
            [b'=', b'a', 0, 0, 0, 0, 0, 0],
        ];
        let written = slot(&record);
        assert_eq!(written[BEGIN..BEGIN + 48], *golden.as_flattened());
        assert!(written[..BEGIN].iter().all(|byte| *byte == 0));
        assert!(written[BEGIN + 48..].iter().all(|byte| *byte == 0));
        for (standing, number) in [
            (Standing::Whole, 1),
            (Standing::Fresh, 2),
            (Standing::Maimed, 3),
        ] {
            let record = MemberRecord::new(ServerId(1), standing);
            assert_eq!(slot(&record)[STANDING..STANDING + 4], [number, 0, 0, 0]);
        }
    }

    #[test]
    fn a_configuration_that_is_too_long_is_an_error_and_the_longest_one_fits() {
        let mut record = MemberRecord::new(ServerId(1), Standing::Fresh);
        record.see(&[b'x'; CONFIGURATION_BYTES_MAX]).unwrap();
        let before = record.clone();
        let longer = [b'y'; CONFIGURATION_BYTES_MAX + 1];
        assert_eq!(
            record.see(&longer),
            Err(ConfigurationTooLong(CONFIGURATION_BYTES_MAX + 1))
        );
        assert_eq!(record, before);
        assert_eq!(MemberRecord::read_from(&slot(&record)), Some(record));
    }

    #[test]
    fn bytes_that_no_known_version_writes_are_no_record() {
        let mut record = MemberRecord::new(ServerId(1), Standing::Whole);
        record.accept(Epoch(3));
        let sound = slot(&record);
        for (at, byte) in [
            (STANDING, 0),
            (STANDING, 4),
            (CURRENT, 4),
            (LENGTH + 1, 0x10),
        ] {
            let mut slot = sound.clone();
            slot[at] = byte;
            assert_eq!(MemberRecord::read_from(&slot), None, "{at}");
        }
        let nothing = MemberRecord::read_from(&[0; SLOT]);
        assert_eq!(nothing, None, "nothing is no promise of epoch 0");
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            sid in any::<i64>(),
            accepted in any::<u32>(),
            below in any::<u32>(),
            ids in any::<i64>(),
            which in 0..3usize,
            text in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut record = MemberRecord::new(ServerId(sid), Standing::ALL[which]);
            record.accept(Epoch(accepted));
            record.adopt(&adoption(accepted.min(below)));
            record.reserve_ids(SessionId(ids));
            record.see(&text).unwrap();
            prop_assert_eq!(MemberRecord::read_from(&slot(&record)), Some(record));
        }
    }
}
