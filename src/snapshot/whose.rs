//! Which store the files of two directories belong to, after a start has refused them. An operator who gives up a
//! loss must not get another store in place of the own one because one of the two directories is the wrong one.
//!
//! | Stores that are named (by the two witness files, by headers of snapshots and of segments) | Which one is taken |
//! |---|---|
//! | the witness files, or the slots of one of them, name two | none |
//! | they name one, of which each directory that names any holds a file | that one: what names another is a single file that was mixed up |
//! | they name one, and a directory names others alone | none |
//! | they name none, and one store is named in both directories, or in the one that names any | that one |
//! | they name none, and several or none are | none |
//! | nothing names any | a store of format 1 |
//!
//! Where none is taken, [`SnapError::TwoStores`] names a file of each.

use super::SnapError;
use super::error::Named;
use crate::log::recover;
use crate::log::snapshot_file;
use crate::log::storage::Storage;
use crate::log::verdict::Failure;
use crate::log::witness::Slots;
use crate::log::{StoreId, segment};
use crate::types::Position;
use std::io;

/// Which store it is; `None`: all of it has format 1.
///
/// # Errors
/// [`SnapError::TwoStores`], or the operating system's.
pub(super) fn whose<S: Storage>(
    data: &S,
    log: &S,
    witnesses: &Slots,
) -> Result<Option<StoreId>, SnapError> {
    let [of_data, of_log] = witnesses.stores();
    let in_data = named_in_data(data, &of_data)?;
    let in_log = named_in_log(log, &of_log)?;
    // What a directory's witness names comes first.
    let by_data = in_data.iter().take(of_data.0.len());
    let by_log = in_log.iter().take(of_log.0.len());
    let mut by_witnesses = by_data.chain(by_log);
    let first = by_witnesses.next();
    let other = by_witnesses.find(|other| first.is_some_and(|first| first.store != other.store));
    if let (Some(first), Some(other)) = (first, other) {
        return Err(two_stores(first, other));
    }
    let witnessed = first.map(|named| named.store);
    let is_in = |named: &[Named], store| named.iter().any(|other| other.store == store);
    let is_possible = |named: &&Named| {
        let directories = [&in_data, &in_log];
        let mut naming = directories.iter().filter(|named| !named.is_empty());
        witnessed.is_none_or(|store| store == named.store)
            && naming.all(|directory| is_in(directory, named.store))
    };
    let all = if in_data.is_empty() {
        &in_log
    } else {
        &in_data
    };
    let possible: Vec<&Named> = all.iter().filter(is_possible).collect();
    match (possible.as_slice(), in_data.first(), in_log.first()) {
        ([one], ..) => Ok(Some(one.store)),
        (&[one, other, ..], ..) | (&[], Some(one), Some(other)) => Err(two_stores(one, other)),
        ([], ..) => Ok(None),
    }
}

fn two_stores(one: &Named, other: &Named) -> SnapError {
    SnapError::TwoStores(Box::new([one.clone(), other.clone()]))
}

/// The stores that the witness and the snapshots in `dataDir` name, newest first, each once.
fn named_in_data<S: Storage>(
    data: &S,
    (stores, file): &(Vec<StoreId>, &'static str),
) -> Result<Vec<Named>, SnapError> {
    let mut named = Vec::new();
    for &store in stores {
        note(&mut named, "dataDir", store, (*file).to_owned());
    }
    for zxid in snapshot_file::list(data)? {
        if let Some(store) = said(snapshot_file::store(data, zxid))?.flatten() {
            note(&mut named, "dataDir", store, snapshot_file::name(zxid));
        }
    }
    Ok(named)
}

/// The stores that the witness and the segments in `dataLogDir` name, newest first, each once.
fn named_in_log<S: Storage>(
    log: &S,
    (stores, file): &(Vec<StoreId>, &'static str),
) -> Result<Vec<Named>, SnapError> {
    let mut named = Vec::new();
    for &store in stores {
        note(&mut named, "dataLogDir", store, (*file).to_owned());
    }
    let segments = recover::segments_between(log, Position(0), Position(u64::MAX))?;
    for name in segments.into_iter().rev() {
        if let Some(Ok(header)) = said(segment::header(log, &name))?
            && let Some(store) = header.store
        {
            note(&mut named, "dataLogDir", store, name);
        }
    }
    Ok(named)
}

/// What can't be read says nothing. What this process is short of says nothing about the file, which may be read
/// the next time.
fn said<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if matches!(Failure::of(&error), Failure::Full | Failure::Scarce) => Err(error),
        read => Ok(read.ok()),
    }
}

fn note(named: &mut Vec<Named>, directory: &'static str, store: StoreId, file: String) {
    if named.iter().all(|known| known.store != store) {
        named.push(Named {
            store,
            directory,
            file,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::loss::look;
    use super::super::{create_store, recover};
    use super::*;
    use crate::log::{LogConfig, witness};
    use crate::sim::disk::{Failing, SeamCall, SimStorage};
    use crate::tree::Tree;

    /// `dataDir` and `dataLogDir`.
    type Directories = (SimStorage, SimStorage);

    fn store(id: u128) -> Directories {
        let (data, log) = (SimStorage::new(4 << 20), SimStorage::new(4 << 20));
        let config = LogConfig {
            segment_bytes: 64 << 10,
        };
        let mut next = id;
        let identities = Box::new(move || {
            next += 1;
            next - 1
        });
        create_store(&data, &log, &Tree::new(), config, identities).unwrap();
        (data, log)
    }

    const SNAPSHOT: &str = "snap.0000000000000000";
    const SEGMENT: &str = "log.0000000000000000";

    fn found((data, log): &Directories) -> Result<Option<StoreId>, SnapError> {
        whose(data, log, &witness::read(data, log).unwrap())
    }

    #[test]
    fn of_directories_of_two_stores_neither_is_given_up_and_both_are_named() {
        let (own, other) = (store(0xa1), store(0xb2));
        let pairs = [
            ((own.0.clone(), other.1.clone()), ["a1", "b2"]),
            ((other.0, own.1), ["b2", "a1"]),
        ];
        for ((data, log), [first, second]) in pairs {
            assert!(recover(&data, &log, &mut |_| {}).is_err_and(|e| e.is_loss()));
            let content = |disk: &SimStorage| {
                disk.names()
                    .into_iter()
                    .map(|name| disk.content(&name))
                    .collect()
            };
            let images = || -> [Vec<_>; 2] { [&data, &log].map(content) };
            let before = images();
            let refusal = look(&data, &log).map(drop).unwrap_err();
            assert!(matches!(refusal, SnapError::TwoStores(_)), "{refusal}");
            assert!(!refusal.is_loss());
            let sentence = refusal.to_string();
            for part in [
                format!("witness.data in dataDir is of store {:0>32}", first),
                format!("witness.log in dataLogDir of store {:0>32}", second),
            ] {
                assert!(sentence.contains(&part), "{sentence}");
            }
            assert_eq!(images(), before);
        }
    }

    #[test]
    fn a_file_that_cant_be_opened_says_nothing_and_want_of_descriptors_says_nothing_of_files() {
        const EACCES: i32 = 13;
        const EMFILE: i32 = 24;
        let own = store(0xa1);
        let witnesses = witness::read(&own.0, &own.1).unwrap();
        let opened = |code| {
            own.0.set_failing(Some(Failing {
                calls: &[SeamCall::Open],
                code,
                after: 0,
                times: 1,
            }));
            let found = whose(&own.0, &own.1, &witnesses);
            own.0.set_failing(None);
            found
        };
        assert_eq!(opened(EACCES).unwrap(), Some(StoreId(0xa1)));
        assert!(matches!(opened(EMFILE), Err(SnapError::Io(_))));
    }

    #[test]
    fn without_its_witness_a_directory_is_of_the_store_that_its_other_files_name() {
        let (own, other) = (store(0xa1), store(0xb2));
        let mixed = (other.0, own.1);
        mixed.1.take_away(|name| name == "witness.log");
        let refusal = found(&mixed).unwrap_err().to_string();
        assert!(refusal.contains("log.0000000000000000 in dataLogDir"));
        mixed.0.take_away(|name| name == "witness.data");
        let refusal = found(&mixed).unwrap_err().to_string();
        assert!(refusal.contains("snap.0000000000000000 in dataDir"));
        mixed.0.take_away(|_| true);
        assert_eq!(found(&mixed).unwrap(), Some(StoreId(0xa1)));
        mixed.1.take_away(|_| true);
        assert_eq!(found(&mixed).unwrap(), None);
    }

    #[test]
    fn single_files_of_another_store_beside_own_ones_do_not_make_it_the_own_one() {
        for (name, witness) in [(SNAPSHOT, "witness.data"), (SEGMENT, "witness.log")] {
            let (own, other) = (store(0xa1), store(0xb2));
            let (from, to) = match name {
                SNAPSHOT => (&other.0, &own.0),
                _ => (&other.1, &own.1),
            };
            to.put(name, from.content(name).unwrap());
            assert_eq!(found(&own).unwrap(), Some(StoreId(0xa1)), "{name}");
            // Nothing in the directory is its own any more.
            to.take_away(|name| name == witness);
            let refusal = found(&own).unwrap_err();
            assert!(matches!(refusal, SnapError::TwoStores(_)), "{refusal}");
        }
    }

    #[test]
    fn a_witness_file_of_another_store_is_nobodys_but_for_the_operator_to_judge() {
        for name in ["witness.data", "witness.log"] {
            let (own, other) = (store(0xa1), store(0xb2));
            let (from, to) = match name {
                "witness.data" => (&other.0, &own.0),
                _ => (&other.1, &own.1),
            };
            to.put(name, from.content(name).unwrap());
            let refusal = found(&own).unwrap_err();
            assert!(matches!(refusal, SnapError::TwoStores(_)), "{refusal}");
            to.take_away(|other| other == name);
            assert_eq!(found(&own).unwrap(), Some(StoreId(0xa1)), "{name}");
        }
    }

    #[test]
    fn a_witness_file_that_names_two_stores_is_as_two_that_name_one_each() {
        const SLOT: usize = 4096;
        for (name, directory) in [("witness.data", "dataDir"), ("witness.log", "dataLogDir")] {
            for of_other in [0..SLOT, SLOT..2 * SLOT] {
                let (own, other) = (store(0xa1), store(0xb2));
                let (from, to) = match name {
                    "witness.data" => (&other.0, &own.0),
                    _ => (&other.1, &own.1),
                };
                let mut slots = to.content(name).unwrap();
                slots[of_other.clone()].copy_from_slice(&from.content(name).unwrap()[of_other]);
                to.put(name, slots);
                let SnapError::TwoStores(named) = found(&own).unwrap_err() else {
                    panic!("{name}");
                };
                assert!(named.iter().any(|one| one.store == StoreId(0xb2)));
                assert!(named.iter().any(|one| one.directory == directory));
                assert_ne!(named[0].store, named[1].store);
            }
        }
    }

    #[test]
    fn of_two_stores_in_both_directories_nobody_takes_one_without_a_witness() {
        let (own, other) = (store(0xa1), store(0xb2));
        let moved = "log.0000000000010000";
        own.1.put(moved, other.1.content(SEGMENT).unwrap());
        own.0.take_away(|name| name == "witness.data");
        assert_eq!(found(&own).unwrap(), Some(StoreId(0xa1)));
        own.0.take_away(|_| true);
        assert_eq!(found(&own).unwrap(), Some(StoreId(0xa1)));
        own.1.take_away(|name| name == "witness.log");
        let refusal = found(&own).unwrap_err();
        let SnapError::TwoStores(named) = refusal else {
            panic!("{refusal}");
        };
        assert_eq!([&named[0].file, &named[1].file], [moved, SEGMENT]);
    }
}
