//! Files: appended by `pwrite`, read through memory maps, made durable by fdatasync.
//!
//! Stores into a mapped page stall behind every sync, so nothing is ever written through a map.

use super::{freeing, pace};
use crate::log::storage::{File, Storage};
use memmap2::Mmap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Zeroes are written in pieces of this size, each of which the device has before the next one is written: a sync of
/// the log waits for one of them at most, and not for a whole segment.
const ZERO_PIECE: usize = 256 << 10;

/// What an unhurried reader or writer asks of the device at once. A sync of the log may wait for one: of
/// 256 KiB each they made every hundredth write take two and a half times as long.
const UNHURRIED_PIECE: usize = 64 << 10;

fn cannot_write_out(error: i32) -> bool {
    [libc::ENOSYS, libc::EINVAL, libc::EOPNOTSUPP].contains(&error)
}

/// A directory of native files.
#[derive(Clone, Debug)]
pub struct FsStorage {
    path: Arc<PathBuf>,
    /// Kept open: syncing a name must not fail for want of a descriptor.
    directory: Arc<fs::File>,
    overwrites_in_place: bool,
    /// What is freed the device is told at once.
    discards_at_once: bool,
    is_unhurried: bool,
}

/// An open file.
#[derive(Clone, Debug)]
pub struct FsFile {
    file: Arc<fs::File>,
    is_unhurried: bool,
}

impl FsStorage {
    /// Opens a directory, making it if it is not there.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(path: &Path) -> io::Result<FsStorage> {
        fs::create_dir_all(path)?;
        Ok(FsStorage {
            path: Arc::new(path.to_owned()),
            directory: Arc::new(fs::File::open(path)?),
            overwrites_in_place: !super::probe::filesystem(path)?.0.copies_on_write(),
            discards_at_once: super::probe::discards_at_once(path),
            is_unhurried: false,
        })
    }

    /// The same directory for whoever reads and writes at length while others sync the log on the same
    /// device. Files opened here are read without read-ahead: a device that serves one request after the
    /// other has a sync wait until all that was read ahead is there, 8 MiB on some machines. And a reader or
    /// writer goes on in pieces of [`UNHURRIED_PIECE`], and rests behind each ([`pace`]), so that a third of
    /// the device's time at most is spent on these files, and of a processor's on what is made of them.
    #[must_use]
    pub fn unhurried(&self) -> FsStorage {
        FsStorage {
            is_unhurried: true,
            ..self.clone()
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all files in it.
    pub fn bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&*self.path) else {
            return 0;
        };
        entries
            .flatten()
            .filter_map(|e| e.metadata().ok())
            .map(|m| m.len())
            .sum()
    }

    /// What a call that changes a directory begins with: the kernel locks it, and others may want to change it.
    fn changes(&self) -> &FsStorage {
        if self.is_unhurried {
            pace::be_nice();
        }
        self
    }

    fn file(&self, name: &str, options: &fs::OpenOptions) -> io::Result<FsFile> {
        let file = FsFile {
            file: Arc::new(options.open(self.path.join(name))?),
            is_unhurried: self.is_unhurried,
        };
        if self.is_unhurried {
            file.read_nothing_ahead();
        }
        Ok(file)
    }
}

impl Storage for FsStorage {
    type File = FsFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&*self.path)? {
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

    fn create(&self, name: &str, len: u64) -> io::Result<FsFile> {
        let mut options = fs::OpenOptions::new();
        let file = self.changes().file(
            name,
            options.read(true).write(true).create(true).truncate(true),
        )?;
        let made = file.allocate(len);
        if made.is_err() {
            let _ = self.remove(name);
        }
        made.map(|()| file)
    }

    fn open(&self, name: &str) -> io::Result<FsFile> {
        self.file(name, fs::OpenOptions::new().read(true).write(true))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let path = &self.changes().path;
        fs::rename(path.join(from), path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.changes().path.join(name);
        match self.discards_at_once {
            true => freeing::remove(&path, self.is_unhurried),
            false => fs::remove_file(path),
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.changes().directory.sync_all()
    }

    fn room(&self) -> io::Result<u64> {
        super::probe::filesystem(&self.path).map(|(_, room)| room)
    }

    fn overwrites_in_place(&self) -> bool {
        self.overwrites_in_place
    }
}

impl FsFile {
    /// Hands dirty pages to the device without waiting for it. Only the sync that follows says how
    /// it went.
    pub(super) fn begin_writeback(&self) {
        // SAFETY: the call takes no pointer; the descriptor is open.
        unsafe {
            libc::sync_file_range(self.file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE);
        }
    }

    /// For this open file alone. Where it is refused the kernel goes on reading ahead.
    fn read_nothing_ahead(&self) {
        // SAFETY: the call takes no pointer; the descriptor is open.
        unsafe {
            libc::posix_fadvise(self.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM);
        }
    }

    /// What of so many bytes is asked of the device at once.
    fn piece(&self, bytes: usize) -> usize {
        match self.is_unhurried {
            true => bytes.min(UNHURRIED_PIECE),
            false => bytes,
        }
    }

    /// What a call that the journal of the file system has to record begins with: others may wait for that.
    fn commits(&self) {
        if self.is_unhurried {
            pace::be_nice();
        }
    }

    /// Behind a piece of work that began then.
    fn rest(&self, begun: Instant) {
        if self.is_unhurried {
            pace::rest(begun);
        }
    }

    /// Hands dirty pages to the device and waits until it has them.
    fn write_back(&self, from: u64, to: u64) -> io::Result<()> {
        let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        let (offset, bytes) = (from as libc::off64_t, (to - from) as libc::off64_t);
        // SAFETY: the call takes no pointer; the descriptor is open.
        match unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, bytes, flags) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// [`FsFile::write_back`]; whether the file system can. Where it can't, the sync at the end writes all of it.
    fn write_back_if_it_can(&self, from: u64, to: u64) -> io::Result<bool> {
        match self.write_back(from, to) {
            Err(error) if error.raw_os_error().is_some_and(cannot_write_out) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Makes what was written durable, on the calling thread (fdatasync).
    ///
    /// # Errors
    /// Nothing is known about the file's content any more.
    pub fn sync_now(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reserves the blocks, then writes real zeroes: unwritten extents make every later sync pay.
    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        // SAFETY: the call takes no pointer; the descriptor is open.
        let failed = unsafe { libc::posix_fallocate(self.file.as_raw_fd(), 0, len as libc::off_t) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        let zeroes = vec![0; ZERO_PIECE.min(len as usize)];
        let mut at = 0;
        while at < len {
            let piece = zeroes.len().min((len - at) as usize);
            self.file.write_all_at(&zeroes[..piece], at)?;
            let end = at + piece as u64;
            self.write_back_if_it_can(at, end)?;
            at = end;
        }
        Ok(())
    }
}

impl AsRawFd for FsStorage {
    fn as_raw_fd(&self) -> RawFd {
        self.directory.as_raw_fd()
    }
}

impl AsRawFd for FsFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl File for FsFile {
    type View = Mmap;

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            let begun = Instant::now();
            let piece = self.piece(into.len() - read);
            let into = &mut into[read..read + piece];
            match self.file.read_at(into, offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.rest(begun);
        }
        Ok(read)
    }

    fn view(&self, len: u64) -> io::Result<Mmap> {
        let len = len.min(self.len()?) as usize;
        // SAFETY: the directory is locked against other servers, and this one neither writes nor cuts
        // off what is durable in a segment that somebody reads: jobs that take segments away are never
        // beside one that maps them (`member::jobs`). A failing device raises SIGBUS, which ends the
        // process (`signals`).
        unsafe { memmap2::MmapOptions::new().len(len).map(&*self.file) }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.commits();
        self.file.set_len(len)
    }

    /// An fdatasync would commit the journal of the file system each time, for which syncs of the log wait.
    fn write_out(&self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let begun = Instant::now();
            let end = at + self.piece((to - at) as usize) as u64;
            if !self.write_back_if_it_can(at, end)? {
                break;
            }
            self.rest(begun);
            at = end;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.commits();
        self.sync_now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_knows_the_errors_of_this_system_by_their_numbers() {
        use crate::log::verdict::Failure::{self, Broken, Denied, Full, Missing, Scarce};
        let rows: [(Failure, &[i32]); 5] = [
            (Full, &[libc::ENOSPC, libc::EDQUOT]),
            (Scarce, &[libc::ENOMEM, libc::ENFILE, libc::EMFILE]),
            (Missing, &[libc::ENOENT]),
            (Denied, &[libc::EPERM, libc::EACCES, libc::EROFS]),
            (Broken, &[libc::EIO, libc::EBADF]),
        ];
        for (failure, codes) in rows {
            for &code in codes {
                let error = io::Error::from_raw_os_error(code);
                assert_eq!(Failure::of(&error), failure, "{code}");
            }
        }
    }

    #[test]
    fn files_are_made_written_mapped_synced_and_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::open(&dir.path().join("ringkeeper-1")).unwrap();
        let file = storage.create("a", 100_000).unwrap();
        file.write_at(5000, b"hello").unwrap();
        assert_eq!(&file.view(50_000).unwrap()[4999..5006], b"\0hello\0");
        let mut read = [0; 7];
        assert_eq!(file.read_at(4999, &mut read).unwrap(), 7);
        assert_eq!(&read, b"\0hello\0");
        file.write_out(0, 100_000).unwrap();
        file.truncate(5002).unwrap();
        assert_eq!(file.read_at(4999, &mut read).unwrap(), 3);
        storage.rename("a", "b").unwrap();
        storage.sync_dir().unwrap();
        assert_eq!(storage.list().unwrap(), ["b"]);
        file.sync_now().unwrap();
    }

    /// On a thread of its own, whose class is changed where that is allowed.
    #[test]
    fn who_does_not_hurry_is_not_idle_where_the_kernel_holds_what_others_may_want() {
        fn each_is_made_by_niceness() {
            let dir = tempfile::tempdir().unwrap();
            let storage = FsStorage::open(dir.path()).unwrap().unhurried();
            let file = storage.create("a", 0).unwrap();
            let steps: [(&str, &dyn Fn() -> io::Result<()>); 7] = [
                ("create", &|| storage.create("b", 0).map(drop)),
                ("rename", &|| storage.rename("b", "c")),
                ("sync_dir", &|| storage.sync_dir()),
                ("remove", &|| storage.remove("c")),
                ("truncate", &|| file.truncate(5)),
                ("sync", &|| file.sync()),
                ("write_at", &|| file.write_at(0, b"hello")),
            ];
            for (what, step) in steps {
                let may = pace::be_idle();
                step().unwrap();
                assert_eq!(pace::is_idle(), may && what == "write_at", "{what}");
            }
        }
        let thread = std::thread::spawn(each_is_made_by_niceness);
        thread.join().unwrap();
    }

    #[test]
    fn who_does_not_hurry_rests_behind_each_piece_and_others_never() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::open(dir.path()).unwrap();
        let content = [7; 3 * UNHURRIED_PIECE];
        for (storage, due) in [(storage.clone(), 0), (storage.unhurried(), 3)] {
            let file = storage.create("a", 0).unwrap();
            file.write_at(0, &content).unwrap();
            let before = pace::rests();
            file.write_out(0, content.len() as u64).unwrap();
            assert_eq!(pace::rests() - before, due);
            let before = pace::rests();
            let mut read = content;
            file.read_at(0, &mut read).unwrap();
            assert_eq!(pace::rests() - before, due);
        }
    }

    /// Pages of a file that are in memory.
    fn resident(file: &FsFile, bytes: usize) -> usize {
        let map = file.view(bytes as u64).unwrap();
        let mut pages = vec![0u8; bytes.div_ceil(4096)];
        // SAFETY: the map has so many bytes, and one byte is written for each page of 4 KiB or more.
        let failed = unsafe { libc::mincore(map.as_ptr() as *mut _, bytes, pages.as_mut_ptr()) };
        assert_eq!(failed, 0);
        pages.iter().filter(|page| *page & 1 == 1).count()
    }

    #[test]
    fn who_does_not_hurry_reads_nothing_ahead() {
        const BYTES: usize = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::open(dir.path()).unwrap();
        let file = storage.create("a", BYTES as u64).unwrap();
        file.sync().unwrap();
        let read = |storage: &FsStorage| {
            let forget = || {
                // SAFETY: the call takes no pointer; the descriptor is open.
                unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
                resident(&file, BYTES)
            };
            // A page that another processor is about to file away stays at first.
            let before = (0..100).map(|_| forget()).find(|pages| *pages == 0);
            let opened = storage.open("a").unwrap();
            for page in 0..4 {
                opened.read_at(4096 * page, &mut [0; 4096]).unwrap();
            }
            (before, resident(&file, BYTES))
        };
        let (before, ahead) = read(&storage);
        // Elsewhere files lie in memory (tmpfs), or nothing is read ahead for anybody.
        if before == Some(0) && ahead > 4 {
            assert_eq!(read(&storage.unhurried()), (Some(0), 4));
        }
    }

    #[test]
    fn who_does_not_hurry_reads_and_writes_the_same_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::open(dir.path()).unwrap().unhurried();
        let content: Vec<u8> = (0..300_001u32).map(|n| (n * 31) as u8).collect();
        let file = storage.create("a", 0).unwrap();
        file.write_at(0, &content).unwrap();
        file.write_out(0, 300_001).unwrap();
        for file in [file, storage.open("a").unwrap()] {
            let mut read = vec![0; 299_000];
            assert_eq!(file.read_at(500, &mut read).unwrap(), 299_000);
            assert_eq!(read, content[500..299_500]);
            assert_eq!(file.read_at(100_000, &mut read).unwrap(), 200_001);
            assert_eq!(read[..200_001], content[100_000..]);
            assert_eq!(file.read_at(300_001, &mut read).unwrap(), 0);
        }
    }
}
