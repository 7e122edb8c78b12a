//! A disk in memory.

use ringkeeper::log::storage::{File, Storage};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;

/// Most bytes of a file that are asked for at once, beyond those that it has: a page and a window's
/// alignment.
const BEYOND: usize = 8 << 10;

/// A directory in memory.
#[derive(Clone, Default)]
pub struct Memory(Rc<RefCell<BTreeMap<String, Bytes>>>);

/// A file of it.
#[derive(Clone, Default)]
pub struct Bytes(Rc<RefCell<Content>>);

/// What a file is.
#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// Can't be read.
    broken: Vec<Range<u64>>,
}

impl Memory {
    /// With these files.
    pub fn of(files: &BTreeMap<String, Vec<u8>>) -> Memory {
        let file = |bytes: &Vec<u8>| {
            let (bytes, broken) = (bytes.clone(), Vec::new());
            Bytes(Rc::new(RefCell::new(Content { bytes, broken })))
        };
        let files = files
            .iter()
            .map(|(name, bytes)| (name.clone(), file(bytes)));
        Memory(Rc::new(RefCell::new(files.collect())))
    }

    /// Its files.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.0.borrow();
        let content = |file: &Bytes| file.0.borrow().bytes.clone();
        let files = files.iter();
        files
            .map(|(name, file)| (name.clone(), content(file)))
            .collect()
    }

    /// Bytes of a file can't be read from now on.
    pub fn break_range(&self, name: &str, range: Range<u64>) {
        if let Some(file) = self.0.borrow().get(name) {
            file.0.borrow_mut().broken.push(range);
        }
    }
}

impl Storage for Memory {
    type File = Bytes;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Bytes> {
        let bytes = vec![0; len as usize];
        let file = Bytes(Rc::new(RefCell::new(Content {
            bytes,
            broken: Vec::new(),
        })));
        self.0.borrow_mut().insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Bytes> {
        self.0
            .borrow()
            .get(name)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self
            .0
            .borrow_mut()
            .remove(from)
            .ok_or(io::ErrorKind::NotFound)?;
        self.0.borrow_mut().insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0
            .borrow_mut()
            .remove(name)
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn room(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl File for Bytes {
    type View = Vec<u8>;

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.borrow().bytes.len() as u64)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (file, from) = (&mut self.0.borrow_mut().bytes, offset as usize);
        let end = from + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[from..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let file = self.0.borrow();
        let (end, len) = (offset + into.len() as u64, file.bytes.len());
        assert!(into.len() <= len + BEYOND, "{} bytes of {len}", into.len());
        if file.broken.iter().any(|b| b.start < end && offset < b.end) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let found = file.bytes.get(offset as usize..).unwrap_or_default();
        let bytes = found.len().min(into.len());
        into[..bytes].copy_from_slice(&found[..bytes]);
        Ok(bytes)
    }

    fn view(&self, len: u64) -> io::Result<Vec<u8>> {
        let file = &self.0.borrow().bytes;
        Ok(file[..file.len().min(len as usize)].to_vec())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.borrow_mut().bytes.truncate(len as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Of Linux.
const EIO: i32 = 5;
