//! Removes a file so that its blocks are free little by little.
//!
//! A file system that is mounted with `discard` tells its device what is free, and a device that serves one request
//! after the other does nothing else until it has taken note: of a gigabyte that is freed at once it took eight times
//! 22 ms, and no sync of the log ended meanwhile. A piece takes it no longer than other requests do, and syncs get
//! their turn between two.

use super::pace;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// What is freed at once, bytes.
const PIECE: u64 = 2 << 20;

/// Removes a file; who does not hurry rests behind each piece of it.
///
/// # Errors
/// The operating system's, if the name can't be removed. A file the blocks of which can't be freed in pieces is freed
/// at once.
pub(super) fn remove(path: &Path, is_unhurried: bool) -> io::Result<()> {
    // It may be that it can't be opened (EMFILE); it goes all the same.
    let file = fs::OpenOptions::new().write(true).open(path);
    fs::remove_file(path)?;
    if let Ok(file) = file
        && file.metadata().is_ok_and(|left| left.nlink() == 0)
        && is_held_by_nobody_else(&file)
    {
        // What is left of it goes with the descriptor.
        let _ = free(&file, is_unhurried);
    }
    Ok(())
}

/// Whether no other descriptor and no map of it is left, in no process: what a backup has begun to read, it shall
/// read to its end. The file has no name, so nobody can open it any more.
fn is_held_by_nobody_else(file: &fs::File) -> bool {
    let lease = |kind: libc::c_int| {
        // SAFETY: the call takes no pointer; the descriptor is open.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
    };
    lease(libc::F_WRLCK) && lease(libc::F_UNLCK)
}

fn free(file: &fs::File, is_unhurried: bool) -> io::Result<()> {
    let mut len = file.metadata()?.len();
    while len > PIECE {
        let begun = Instant::now();
        len -= PIECE;
        if is_unhurried {
            pace::be_nice();
        }
        file.set_len(len)?;
        // With a journal it is when this is committed that the device is told.
        file.sync_data()?;
        if is_unhurried {
            pace::rest(begun);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const PIECES: u64 = 4;

    fn file_in(directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("a");
        fs::write(&path, vec![7; (PIECES * PIECE) as usize]).unwrap();
        path
    }

    /// How often was rested.
    fn removed(path: &Path) -> usize {
        let before = pace::rests();
        remove(path, true).unwrap();
        assert!(!path.exists());
        pace::rests() - before
    }

    #[test]
    fn a_file_that_nobody_else_holds_is_freed_piece_by_piece() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(removed(&file_in(&directory)), PIECES as usize - 1);
    }

    #[test]
    fn who_has_the_file_by_another_name_or_has_it_open_or_mapped_keeps_all_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = file_in(&directory);
        let other = directory.path().join("b");
        fs::hard_link(&path, &other).unwrap();
        assert_eq!(removed(&path), 0);
        assert_eq!(fs::metadata(&other).unwrap().len(), PIECES * PIECE);

        let path = file_in(&directory);
        let reader = fs::File::open(&path).unwrap();
        assert_eq!(removed(&path), 0);
        assert_eq!(reader.metadata().unwrap().len(), PIECES * PIECE);

        let path = file_in(&directory);
        // SAFETY: nobody writes into the file, and what is tested is that nobody cuts it.
        let map = unsafe { memmap2::Mmap::map(&fs::File::open(&path).unwrap()).unwrap() };
        assert_eq!(removed(&path), 0);
        assert_eq!(map[map.len() - 1], 7);
    }

    #[test]
    fn what_is_not_there_can_not_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let failed = remove(&directory.path().join("a"), true).map_err(|error| error.kind());
        assert_eq!(failed, Err(io::ErrorKind::NotFound));
    }
}
