//! What is found of a member's record at a start, and how the member stands.
//!
//! The witness is written one file after the other, the second not before the first is durable, and in each file over the
//! slot that says less; a damaged file is the first. So
//! - what was promised is in both files;
//! - a file both of whose slots can be read lacks nothing that it ever held as its newest: it is *complete*, and knows all
//!   that was promised;
//! - a crash leaves a complete file, and so does damage that hits one file, whatever it is, and a crash of the write that
//!   mends it.
//!
//! In a file with one slot the other one may have been newer. If no file is complete, a promise may be forgotten, and
//! nobody can tell: what can be read is then the least that was promised, and the member counts like a wiped one.
//!
//! | Case | The files | Cause | The log has transactions | It has none |
//! |---|---|---|---|---|
//! | A | one is complete, the newest slot of both is a member's | an ordinary stop or crash; one file is lost or damaged | that record | that record |
//! | B | one is complete, the newest slot of both is a standalone server's | a standalone server becomes a member | maimed | fresh |
//! | C | slots, and none is complete | both files are lost or damaged | maimed, the readable promises kept | the same; fresh if all that can be read is fresh or a standalone server's |
//! | D | no slot, nothing else | new; or all is wiped | – | fresh |
//! | E | no slot, a store of format 1 | a standalone server's, never a member's | maimed | fresh |
//! | F | no slot, segments or snapshots that name one store | both files are lost | maimed | fresh |
//! | G | no slot, segments or snapshots that name two stores, or of format 2 and none | the same, and directories were mixed up or damaged | refused | refused |
//! | H | slots of two stores | directories were mixed up | refused | refused |
//! | I | a slot of another member | another `myid`, another directory | refused, with file and byte | the same |
//! | J | the newest slot says that a loss is being accepted | the command was cut off | refused | refused |
//! | K | a slot of a newer format | downgrade | refused | refused |
//! | L | nothing valid, and a file that can't be read | rot | refused | refused |
//!
//! Case B is maimed though nothing was lost: a history that no ensemble has agreed on counts in no set of one. Whoever
//! brings one along says so himself.
//!
//! A start makes durable what it has found, and then puts the record into both files, before anything is promised or a
//! client is served.

use super::durable::{Durable, Epochs};
use super::error::RecoveryError;
use super::keeper::Keeper;
use super::member_record::{MemberRecord, Standing};
use super::record::StoreId;
use super::storage::Storage;
use super::verdict::Failure;
use super::witness::{self, Content, IN_DATA, IN_LOG, Reader, SLOT, Witness};
use super::{segment, snapshot_file};
use crate::types::{Position, ServerId};
use std::collections::BTreeSet;
use std::io;

/// What the files say of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The newest that is known of the store; `None`: it is new, or has format 1.
    pub witness: Option<Witness>,
    /// What is wrong with one of the files.
    pub bad: Option<String>,
    sid: ServerId,
    found: Found,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Case A.
    Record(MemberRecord),
    /// Cases B, D, E.
    Nothing,
    /// Cases C and F; no more than this can be read.
    Doubtful(Option<MemberRecord>),
}

impl Evidence {
    /// Whether the store is a standalone server's, or new: whatever its log holds was decided when it was durable.
    pub fn is_standalones(&self) -> bool {
        self.found == Found::Nothing
    }

    /// The record as the member begins with it. `has_history`: its log or its snapshots hold transactions.
    pub fn conclude(&self, has_history: bool) -> MemberRecord {
        let nothing = |standing| MemberRecord::new(self.sid, standing);
        match (&self.found, has_history) {
            (Found::Record(record), _) => record.clone(),
            (Found::Nothing | Found::Doubtful(None), true) => nothing(Standing::Maimed),
            (Found::Nothing | Found::Doubtful(None), false) => nothing(Standing::Fresh),
            (Found::Doubtful(Some(least)), false) if least.standing() == Standing::Fresh => {
                least.clone()
            }
            (Found::Doubtful(Some(least)), _) => least.clone().maimed(),
        }
    }
}

impl Evidence {
    /// Puts the record into both files, with the witness of a store that was recovered: what is promised from now on.
    /// Blocks.
    ///
    /// # Errors
    /// The operating system's: nothing is promised, and the member does not start.
    pub fn begin<S: Storage>(
        self,
        data: &S,
        log: &S,
        witness: Witness,
        has_history: bool,
    ) -> io::Result<(Keeper, Durable<Epochs>)> {
        Keeper::begin(data, log, witness, self.conclude(has_history))
    }
}

/// Looks for the record of member `sid` in a store whose snapshots are in `data`, and whose log is in `log`. Changes
/// nothing.
///
/// # Errors
/// [`RecoveryError`]: the rows of the table that refuse.
pub fn find<S: Storage>(data: &S, log: &S, sid: ServerId) -> Result<Evidence, RecoveryError> {
    let mut failed = None;
    let files = [
        witness::contents(data, IN_DATA, Reader::Any, &mut failed)?,
        witness::contents(log, IN_LOG, Reader::Any, &mut failed)?,
    ];
    if let Some(error) = &failed
        && matches!(Failure::of(error), Failure::Full | Failure::Scarce)
    {
        return Err(io::Error::new(error.kind(), error.to_string()).into());
    }
    let valid = || files.iter().flatten().flatten().flatten();
    let Some(newest) = valid().max_by_key(|content| content.witness.sequence) else {
        // What can't be read may say that there was a log.
        return match failed {
            Some(error) => Err(error.into()),
            None => without(data, log, sid, bad(&files)),
        };
    };
    let stores = |file: &Option<Slots>| {
        let slots = file.as_ref()?.iter().flatten();
        Some(slots.map(|content| content.witness).collect::<Vec<_>>())
    };
    witness::of_one_store(&files.each_ref().map(stores))?;
    of_one_member(&files, sid)?;
    if let Some(accepting) = newest.witness.accepting {
        let kept = accepting.kept;
        return Err(RecoveryError::Accepting { kept });
    }
    let recorded = valid().filter(|content| content.member.is_some());
    let recorded = recorded.max_by_key(|content| content.witness.sequence);
    let recorded = recorded.and_then(|content| content.member.clone());
    let found = match (
        files.iter().flatten().any(is_complete),
        &newest.member,
        recorded,
    ) {
        (true, Some(record), _) => Found::Record(record.clone()),
        (true, None, None) => Found::Nothing,
        // A member's slot is never followed by a standalone server's: that was put there.
        (_, _, least) => Found::Doubtful(least),
    };
    Ok(Evidence {
        witness: Some(newest.witness),
        bad: bad(&files),
        sid,
        found,
    })
}

/// No slot is valid.
fn without<S: Storage>(
    data: &S,
    log: &S,
    sid: ServerId,
    bad: Option<String>,
) -> Result<Evidence, RecoveryError> {
    let evidence = |witness: Option<Witness>, bad, found| Evidence {
        witness,
        bad,
        sid,
        found,
    };
    match witness::without(data, log) {
        Ok(_) => Ok(evidence(None, None, Found::Nothing)),
        Err(lost @ RecoveryError::NoWitness { .. }) => match only_store(data, log)? {
            // For the store's id alone: all segments of format 1 may be its own.
            Some(store) => {
                let witness = Witness::first(store, Position(u64::MAX));
                Ok(evidence(Some(witness), bad, Found::Doubtful(None)))
            }
            None => Err(lost),
        },
        Err(refusal) => Err(refusal),
    }
}

/// The store that the segments and the snapshots name, if all that name one name the same.
fn only_store<S: Storage>(data: &S, log: &S) -> io::Result<Option<StoreId>> {
    let mut stores = BTreeSet::new();
    for name in log.list()? {
        if segment::parse_name(&name).is_some()
            && let Ok(header) = segment::header(log, &name)?
        {
            stores.extend(header.store.map(|store| store.0));
        }
    }
    for zxid in snapshot_file::list(data)? {
        let store = snapshot_file::store(data, zxid)?;
        stores.extend(store.map(|store| store.0));
    }
    let only = stores.pop_first().filter(|_| stores.is_empty());
    Ok(only.map(StoreId))
}

/// The slots of a file that are valid.
type Slots = [Option<Content>; 2];
/// The file in `dataDir`, and that in `dataLogDir`.
type Files = [Option<Slots>; 2];

fn is_complete(slots: &Slots) -> bool {
    slots.iter().all(Option::is_some)
}

/// For an operator: which of the files is not as it should be.
fn bad(files: &Files) -> Option<String> {
    let says = |(name, file): (&str, &Option<Slots>)| match file {
        None => Some(format!("{name} is not there")),
        Some(slots) if !is_complete(slots) => Some(format!("{name} is damaged")),
        Some(_) => None,
    };
    let bad: Vec<String> = [IN_DATA, IN_LOG]
        .into_iter()
        .zip(files)
        .filter_map(says)
        .collect();
    (!bad.is_empty()).then(|| bad.join(", "))
}

fn of_one_member(files: &Files, own: ServerId) -> Result<(), RecoveryError> {
    for (name, file) in [IN_DATA, IN_LOG].into_iter().zip(files) {
        for (nth, content) in (0..).zip(file.iter().flatten()) {
            let member = content.as_ref().and_then(|content| content.member.as_ref());
            if let Some(member) = member.filter(|member| member.sid() != own) {
                let offset = nth * SLOT as u64;
                return Err(witness::other_member(name, offset, member.sid(), own));
            }
        }
    }
    Ok(())
}
