//! Who removes a file holds it open no more: else it is freed at once, and not in pieces (`rt::freeing`).

use super::super::runs::Runs;
use crate::log::storage::{File, Storage};
use crate::sim::disk::SimStorage;
use crate::tree::{Patch, session_key};
use crate::types::SessionId;
use std::io;
use std::rc::Rc;

/// A disk that counts the open files.
#[derive(Clone)]
struct Counting {
    disk: SimStorage,
    open: Rc<()>,
}

/// One of them.
#[derive(Clone)]
struct Open {
    file: <SimStorage as Storage>::File,
    _one: Rc<()>,
}

impl Counting {
    fn new() -> Counting {
        Counting {
            disk: SimStorage::new(1 << 30),
            open: Rc::default(),
        }
    }

    fn counted(&self, file: <SimStorage as Storage>::File) -> Open {
        Open {
            file,
            _one: self.open.clone(),
        }
    }
}

impl Storage for Counting {
    type File = Open;

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Open> {
        Ok(self.counted(self.disk.create(name, len)?))
    }

    fn open(&self, name: &str) -> io::Result<Open> {
        Ok(self.counted(self.disk.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        // This disk, and the one that whoever removes has of it.
        assert_eq!(Rc::strong_count(&self.open), 2, "{name} is open");
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn room(&self) -> io::Result<u64> {
        self.disk.room()
    }
}

impl File for Open {
    type View = <<SimStorage as Storage>::File as File>::View;

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, into)
    }

    fn view(&self, len: u64) -> io::Result<Self::View> {
        self.file.view(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

#[test]
fn runs_are_removed_when_nobody_has_them_open() {
    let disk = Counting::new();
    let mut runs = Runs::new(&disk);
    for nth in 0..3 {
        let key = session_key(SessionId(nth)).into();
        runs.add([(key, Patch::Session(Some(nth as i32)))]).unwrap();
    }
    let mut merged = runs.merged(Default::default()).unwrap();
    while merged.next().unwrap().is_some() {}
    drop(merged);
    assert_eq!(disk.list().unwrap().len(), 1);
    drop(runs);
    assert_eq!(disk.list().unwrap(), [""; 0]);
}
