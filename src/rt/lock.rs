//! Keeps two processes off one directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Held as long as the process lives; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
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
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                return Err(LockError::Held(format!("process {}", holder.trim())));
            }
            Err(TryLockError::Error(e)) => return Err(e.into()),
        }
        // For the message of whoever comes second; a full disk takes it not always.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DirectoryLock { _file: file })
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
}
