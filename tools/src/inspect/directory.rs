//! A directory that is only read.

use ringkeeper::log::storage::{File, Storage};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory whose files are opened for reading.
#[derive(Clone)]
pub struct Directory(Arc<PathBuf>);

/// A file opened for reading.
#[derive(Clone)]
pub struct ReadFile(Arc<fs::File>);

impl Directory {
    pub fn new(path: &Path) -> Directory {
        let here = path.as_os_str().is_empty();
        let path = if here { Path::new(".") } else { path };
        Directory(Arc::new(path.to_owned()))
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Storage for Directory {
    type File = ReadFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&*self.0)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<ReadFile> {
        Ok(ReadFile(Arc::new(fs::File::open(self.0.join(name))?)))
    }

    fn create(&self, _name: &str, _len: u64) -> io::Result<ReadFile> {
        read_only()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        read_only()
    }

    fn sync_dir(&self) -> io::Result<()> {
        read_only()
    }

    fn room(&self) -> io::Result<u64> {
        Ok(0)
    }
}

impl File for ReadFile {
    type View = Vec<u8>;

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        read_only()
    }

    fn view(&self, _len: u64) -> io::Result<Vec<u8>> {
        read_only()
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        read_only()
    }

    fn sync(&self) -> io::Result<()> {
        read_only()
    }
}
