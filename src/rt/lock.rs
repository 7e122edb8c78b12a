//! Keeps two processes off one directory. Both the directory itself and a file in it are locked: a file can be
//! removed by whoever takes it for the left-over of a server that has ended, and the next server would make another.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Held as long as the process lives; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _directory: File,
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it: its id, if it could be read.
    #[error("another process ({0}) uses the directory")]
    Held(String),
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl DirectoryLock {
    /// Takes the lock of a directory, without waiting.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(directory: &Path) -> Result<DirectoryLock, LockError> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("lock"))?;
        let directory = File::open(directory)?;
        let locks = [file.try_lock(), directory.try_lock()];
        if locks
            .iter()
            .any(|lock| matches!(lock, Err(TryLockError::WouldBlock)))
        {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            return Err(LockError::Held(holder_of(&holder)));
        }
        // Not every file system locks directories.
        let [locked, _] = locks;
        if let Err(TryLockError::Error(e)) = locked {
            return Err(e.into());
        }
        // For the message of whoever comes second; a full disk takes it not always.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DirectoryLock {
            _directory: directory,
            _file: file,
        })
    }
}

/// Who holds a lock, by what stands in its file.
fn holder_of(text: &str) -> String {
    match text.trim() {
        "" => "a process whose lock file was removed".to_owned(),
        id => format!("process {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(dir.path()).unwrap();
        let told = DirectoryLock::take(dir.path()).unwrap_err().to_string();
        assert!(told.contains(&std::process::id().to_string()), "{told}");
        drop(first);
        DirectoryLock::take(dir.path()).unwrap();
    }

    #[test]
    fn who_removes_the_file_of_a_lock_does_not_get_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(dir.path()).unwrap();
        for _ in 0..2 {
            std::fs::remove_file(dir.path().join("lock")).unwrap();
            let told = DirectoryLock::take(dir.path()).unwrap_err();
            assert!(matches!(told, LockError::Held(_)), "{told}");
        }
        drop(first);
        DirectoryLock::take(dir.path()).unwrap();
    }
}
