//! What is looked at before anything starts. The facts come from `rt::probe`; here is what follows
//! from them: a row each, in the order in which they are met, and the first failure ends the start.

use super::exit::Exit;
use crate::config::Config;
use crate::log::{segment, snapshot_file};
use crate::rt::lock::{DirectoryLock, LockError};
use crate::rt::net::{self, Bound};
use crate::rt::probe::{self, Filesystem, InodeWrites, Uring};
use crate::rt::storage::FsStorage;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The folder of native files below `dataDir` and `dataLogDir`.
pub const NATIVE: &str = "ringkeeper-1";
/// The folder of Apache's files.
const APACHE: &str = "version-2";
/// What glommio asks for before it makes an executor, bytes.
const LOCKED_MEMORY_MIN: u64 = 512 << 10;
/// Fewer open files than this are too few to serve anybody.
const OPEN_FILES_WARN: u64 = 1024;
/// How long a port in use is waited for, and between two looks: the kernel tears an io_uring down
/// some milliseconds after its process has ended, and a restarted server meets its predecessor's
/// socket.
const PORT_WAIT: Duration = Duration::from_secs(2);
const PORT_PAUSE: Duration = Duration::from_millis(5);
/// Wall clocks before 2020 were never set, ms.
const WALL_MIN_MS: i64 = 1_577_836_800_000;

/// What the start-up checks hand over.
pub struct Ready {
    /// Held as long as the server runs.
    pub locks: Vec<DirectoryLock>,
    /// Native files of `dataDir`.
    pub data: FsStorage,
    /// Native files of `dataLogDir`.
    pub log: FsStorage,
    /// The client port.
    pub bound: Bound,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Good,
    /// The server runs; the operator should know.
    Warn,
    /// The server does not start.
    Fail(Exit),
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found; in a failure one sentence that also says what to do.
    pub text: String,
}

fn good(name: &'static str, text: impl Into<String>) -> Row {
    Row {
        name,
        status: Status::Good,
        text: text.into(),
    }
}

fn warn(name: &'static str, text: impl Into<String>) -> Row {
    Row {
        name,
        status: Status::Warn,
        text: text.into(),
    }
}

/// The sentence: what was found, then the exit code's advice.
fn fail(name: &'static str, exit: Exit, found: impl std::fmt::Display) -> Row {
    let (_, action) = exit.explanation();
    Row {
        name,
        status: Status::Fail(exit),
        text: format!("{found}: {action}"),
    }
}

fn io_uring(found: Uring) -> Row {
    let name = "io_uring";
    match found {
        Uring::Works => good(name, "works"),
        Uring::Missing => fail(
            name,
            Exit::NoUring,
            "this kernel has no io_uring (5.15 or newer is needed)",
        ),
        Uring::Sysctl => fail(
            name,
            Exit::NoUring,
            "io_uring is disabled by kernel.io_uring_disabled",
        ),
        Uring::Forbidden => fail(
            name,
            Exit::NoUring,
            "io_uring is forbidden to this process, as by Docker's default seccomp profile",
        ),
    }
}

fn locked_memory(bytes: u64) -> Row {
    let name = "locked memory";
    match bytes {
        0..LOCKED_MEMORY_MIN => fail(
            name,
            Exit::LockedMemory,
            format!(
                "only {} KiB of memory may be locked, {} KiB are needed",
                bytes >> 10,
                LOCKED_MEMORY_MIN >> 10
            ),
        ),
        u64::MAX => good(name, "no limit"),
        _ => good(name, format!("{} KiB", bytes >> 10)),
    }
}

fn open_files(limit: u64) -> Row {
    match limit {
        0..OPEN_FILES_WARN => warn(
            "open files",
            format!(
                "only {limit} files may be open, which bounds the connections: raise `ulimit -n`"
            ),
        ),
        _ => good("open files", limit.to_string()),
    }
}

fn writable(name: &'static str, path: &Path, found: &io::Result<()>) -> Row {
    match found {
        Ok(()) => good(name, path.display().to_string()),
        Err(e) => {
            let exit = match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::DiskFull,
                _ => Exit::NotWritable,
            };
            fail(
                name,
                exit,
                format!("{} can't be written ({e})", path.display()),
            )
        }
    }
}

/// What may lie on a filesystem: the log, or snapshots, for which the log is given up.
#[derive(Clone, Copy)]
enum Holds {
    Log {
        segment_bytes: u64,
        /// A segment was made ahead: no room for another is needed to start.
        has_spare: bool,
    },
    Snapshots,
}

fn filesystem(found: &io::Result<(Filesystem, u64)>, holds: Holds, allow_volatile: bool) -> Row {
    let (name, what) = match holds {
        Holds::Log { .. } => ("log filesystem", "the log"),
        Holds::Snapshots => ("snapshot filesystem", "snapshots"),
    };
    let (kind, free) = match found {
        Ok(found) => found,
        Err(e) => {
            let found = format!("the filesystem of {what} can't be looked at ({e})");
            return fail(name, Exit::NotWritable, found);
        }
    };
    let (text, volatile, doubtful) = match kind {
        Filesystem::Disk(kind @ ("btrfs" | "zfs")) => (
            format!("{kind}, which copies what is written again and may find no room for it"),
            false,
            true,
        ),
        Filesystem::Disk(kind) => ((*kind).to_owned(), false, false),
        Filesystem::Tmpfs => (
            "tmpfs, which a restart of the machine empties".to_owned(),
            true,
            false,
        ),
        Filesystem::Network(kind) => (format!("{kind}, which another machine serves"), true, false),
        Filesystem::Fuse => (
            "FUSE: a process decides what a sync means".to_owned(),
            false,
            true,
        ),
        Filesystem::Other(magic) => (format!("of an unknown kind ({magic:#x})"), false, true),
    };
    if volatile && !allow_volatile {
        let found = format!("the filesystem of {what} is {text}");
        return fail(name, Exit::VolatileLog, found);
    }
    if let Holds::Log {
        segment_bytes,
        has_spare: false,
    } = holds
        && *free < 2 * segment_bytes
    {
        let found = format!("only {} MiB are free for the log", free >> 20);
        return fail(name, Exit::DiskFull, found);
    }
    let text = format!("{text}, {} MiB free", free >> 20);
    match volatile || doubtful {
        true => warn(name, text),
        false => good(name, text),
    }
}

/// Apache's files, where none of ours are: never come up empty beside somebody's data.
fn apache_data(directory: &Path) -> Row {
    let name = "Apache's data";
    let theirs = directory.join(APACHE);
    let has_data = std::fs::read_dir(&theirs).is_ok_and(|dir| {
        dir.flatten().any(|entry| {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            file.starts_with("snapshot.") || file.starts_with("log.")
        })
    });
    match has_data && !directory.join(NATIVE).exists() {
        true => fail(
            name,
            Exit::ApacheData,
            format!("{} holds data of Apache ZooKeeper", theirs.display()),
        ),
        false => good(name, "none that would be hidden"),
    }
}

fn lock(directory: &Path, locks: &mut Vec<DirectoryLock>) -> Row {
    let name = "lock";
    match DirectoryLock::take(directory) {
        Ok(lock) => {
            locks.push(lock);
            good(name, directory.display().to_string())
        }
        Err(LockError::Held(holder)) => fail(
            name,
            Exit::Locked,
            format!("{} is in use by {holder}", directory.display()),
        ),
        Err(LockError::Io(e)) => fail(
            name,
            Exit::NotWritable,
            format!("{} can't be locked ({e})", directory.display()),
        ),
    }
}

fn port(config: &Config, bound: &mut Option<Bound>) -> Row {
    let (name, address) = ("port", config.client_endpoint());
    let backlog = if config.backlog > 0 {
        config.backlog
    } else {
        4096
    };
    let until = Instant::now() + PORT_WAIT;
    let bind = || match &config.client_interface {
        None => net::bind(config.client_address, backlog),
        Some(interface) => {
            let scoped = net::on_interface(config.client_address, interface)?;
            net::bind(scoped, backlog)
        }
    };
    let mut outcome = bind();
    while outcome
        .as_ref()
        .is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse)
        && Instant::now() < until
    {
        std::thread::sleep(PORT_PAUSE);
        outcome = bind();
    }
    match outcome {
        Ok(socket) => {
            *bound = Some(socket);
            good(name, address)
        }
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            fail(name, Exit::PortInUse, format!("{address} is in use"))
        }
        Err(e) => fail(
            name,
            Exit::CannotListen,
            format!("{address} can't be listened on ({e})"),
        ),
    }
}

/// Without a journal ext4 writes a changed time stamp inside fdatasync: up to one sync in each tick of
/// the kernel takes another write of the device.
fn inode_writes(found: InodeWrites) -> Row {
    let name = "syncs of the log";
    match found {
        InodeWrites::InFdatasync => warn(
            name,
            "the log's file system has no journal and writes inodes inside fdatasync, which makes up to \
             a tenth of lone writes slower by a device write: mount it with lazytime, or use a journal",
        ),
        InodeWrites::Elsewhere => good(name, "write no inode"),
        InodeWrites::Unknown => good(name, "not known whether they write inodes"),
    }
}

fn clock(wall_ms: i64) -> Row {
    match wall_ms {
        ..WALL_MIN_MS => fail("clock", Exit::Clock, "the wall clock is before 2020"),
        _ => good("clock", "plausible"),
    }
}

/// The native directories of a store, and nobody else's as long as the locks are held.
pub struct Directories {
    /// Held as long as somebody reads or changes the store.
    pub locks: Vec<DirectoryLock>,
    /// Native files of `dataDir`.
    pub data: FsStorage,
    /// Native files of `dataLogDir`.
    pub log: FsStorage,
}

/// Takes the directories of a store without starting a server; `None`: `dataDir` holds none. A native folder
/// that is missing below `dataLogDir` is made, as a start makes it.
///
/// # Errors
/// The row that ends a start.
pub fn take_directories(config: &Config) -> Result<Option<Directories>, Row> {
    let native = [&config.data_dir, &config.data_log_dir].map(|path| path.join(NATIVE));
    let [data, log] = &native;
    if !data.is_dir() {
        return Ok(None);
    }
    let names = ["dataDir", "dataLogDir"];
    let mut locks = Vec::new();
    for (name, path) in names.into_iter().zip(&native) {
        passed(writable(name, path, &probe::writable(path)))?;
        if locks.is_empty() || !probe::are_one(data, log) {
            passed(lock(path, &mut locks))?;
        }
    }
    let open = |name, path: &Path| {
        let failed = |e| writable(name, path, &Err(e));
        FsStorage::open(path).map_err(failed)
    };
    Ok(Some(Directories {
        locks,
        data: open(names[0], data)?,
        log: open(names[1], log)?,
    }))
}

/// A row that ends a start is an error.
fn passed(row: Row) -> Result<(), Row> {
    match row.status {
        Status::Fail(_) => Err(row),
        Status::Good | Status::Warn => Ok(()),
    }
}

/// The rows so far, and what they have taken.
struct Checks {
    rows: Vec<Row>,
    keep_going: bool,
}

impl Checks {
    /// Adds a row; false if the start ends here.
    fn add(&mut self, row: Row) -> bool {
        let failed = matches!(row.status, Status::Fail(_));
        self.rows.push(row);
        !failed || self.keep_going
    }
}

/// Looks at everything, or up to the first failure unless `keep_going`. All rows, and what the
/// server starts with if none failed.
pub fn look(config: &Config, keep_going: bool) -> (Vec<Row>, Option<Ready>) {
    let mut checks = Checks {
        rows: Vec::new(),
        keep_going,
    };
    let mut locks = Vec::new();
    let mut bound = None;
    let complete = look_at_all(config, &mut checks, &mut locks, &mut bound).is_some();
    let failed = checks
        .rows
        .iter()
        .any(|row| matches!(row.status, Status::Fail(_)));
    let storage = |dir: &Path| FsStorage::open(&dir.join(NATIVE)).ok();
    let ready = (complete && !failed).then(|| {
        let warnings = checks.rows.iter().filter(|row| row.status == Status::Warn);
        Some(Ready {
            warnings: warnings
                .map(|row| format!("{}: {}", row.name, row.text))
                .collect(),
            locks,
            data: storage(&config.data_dir)?,
            log: storage(&config.data_log_dir)?,
            bound: bound?,
        })
    });
    (checks.rows, ready.flatten())
}

fn look_at_all(
    config: &Config,
    checks: &mut Checks,
    locks: &mut Vec<DirectoryLock>,
    bound: &mut Option<Bound>,
) -> Option<()> {
    let mut add = |row| checks.add(row).then_some(());
    add(io_uring(probe::io_uring()))?;
    add(locked_memory(probe::locked_memory(LOCKED_MEMORY_MIN)))?;
    add(open_files(probe::open_files()))?;
    let (data, log) = (&config.data_dir, &config.data_log_dir);
    let separate = data != log;
    // Before anything of ours is made beside Apache's files.
    add(apache_data(data))?;
    if separate {
        add(apache_data(log))?;
    }
    add(writable(
        "dataDir",
        data,
        &probe::writable(&data.join(NATIVE)),
    ))?;
    if separate {
        add(writable(
            "dataLogDir",
            log,
            &probe::writable(&log.join(NATIVE)),
        ))?;
    }
    let (native_data, native_log) = (data.join(NATIVE), log.join(NATIVE));
    // Two names may lead to one directory.
    let separate = separate && !probe::are_one(&native_data, &native_log);
    add(lock(&native_data, locks))?;
    // A snapshot that was interrupted is what may fill the disk. Without the lock it may be one that
    // another server is making.
    if !locks.is_empty()
        && let Ok(storage) = FsStorage::open(&native_data)
    {
        let _ = snapshot_file::remove_temporary(&storage);
    }
    if separate {
        add(lock(&native_log, locks))?;
    }
    let has_spare = FsStorage::open(&native_log)
        .is_ok_and(|log| segment::has_spare(&log, config.segment_bytes));
    let holds = Holds::Log {
        segment_bytes: config.segment_bytes,
        has_spare,
    };
    let allow = config.allow_volatile_log;
    add(filesystem(&probe::filesystem(&native_log), holds, allow))?;
    if separate {
        let found = probe::filesystem(&native_data);
        add(filesystem(&found, Holds::Snapshots, allow))?;
    }
    add(inode_writes(probe::inode_writes_in_fdatasync(&native_log)))?;
    add(port(config, bound))?;
    add(clock(crate::rt::clock::wall().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Holds = Holds::Log {
        segment_bytes: 1 << 26,
        has_spare: false,
    };

    fn status(row: Row) -> (Status, String) {
        (row.status, row.text)
    }

    #[test]
    fn every_failure_is_one_sentence_with_advice() {
        let gone = || io::Result::<()>::Err(io::ErrorKind::PermissionDenied.into());
        let full = || io::Result::<()>::Err(io::ErrorKind::StorageFull.into());
        let rows = [
            (io_uring(Uring::Missing), Exit::NoUring),
            (io_uring(Uring::Sysctl), Exit::NoUring),
            (io_uring(Uring::Forbidden), Exit::NoUring),
            (locked_memory(64 << 10), Exit::LockedMemory),
            (
                writable("dataDir", Path::new("/x"), &gone()),
                Exit::NotWritable,
            ),
            (
                filesystem(&Ok((Filesystem::Tmpfs, 1 << 40)), LOG, false),
                Exit::VolatileLog,
            ),
            (
                filesystem(&Ok((Filesystem::Tmpfs, 1 << 40)), Holds::Snapshots, false),
                Exit::VolatileLog,
            ),
            (
                writable("dataDir", Path::new("/x"), &full()),
                Exit::DiskFull,
            ),
            (
                filesystem(&Ok((Filesystem::Network("nfs"), 1 << 40)), LOG, false),
                Exit::VolatileLog,
            ),
            (
                filesystem(&Ok((Filesystem::Disk("ext4"), 1 << 20)), LOG, false),
                Exit::DiskFull,
            ),
            (clock(0), Exit::Clock),
        ];
        for (row, exit) in rows {
            assert_eq!(row.status, Status::Fail(exit), "{row:?}");
            assert!(
                row.text.contains(": ") && !row.text.contains('\n'),
                "{row:?}"
            );
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        assert_eq!(status(io_uring(Uring::Works)).0, Status::Good);
        assert_eq!(
            status(locked_memory(u64::MAX)),
            (Status::Good, "no limit".into())
        );
        assert_eq!(status(open_files(256)).0, Status::Warn);
        assert_eq!(
            filesystem(&Ok((Filesystem::Tmpfs, 1 << 40)), LOG, true).status,
            Status::Warn
        );
        let has_spare = Holds::Log {
            segment_bytes: 1 << 26,
            has_spare: true,
        };
        let full = Ok((Filesystem::Disk("xfs"), 0));
        assert_eq!(filesystem(&full, has_spare, false).status, Status::Good);
        let full = filesystem(&full, Holds::Snapshots, false);
        assert_eq!(full.status, Status::Good, "reads are served");
        for doubtful in [Filesystem::Fuse, Filesystem::Other(1)] {
            let found = filesystem(&Ok((doubtful, 1 << 40)), LOG, false);
            assert_eq!(found.status, Status::Warn, "{doubtful:?}");
        }
    }

    #[test]
    fn apaches_data_is_never_hidden() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(apache_data(dir.path()).status, Status::Good);
        std::fs::create_dir(dir.path().join(APACHE)).unwrap();
        assert_eq!(apache_data(dir.path()).status, Status::Good, "empty");
        std::fs::write(dir.path().join(APACHE).join("snapshot.0"), "x").unwrap();
        assert_eq!(
            apache_data(dir.path()).status,
            Status::Fail(Exit::ApacheData)
        );
        std::fs::create_dir(dir.path().join(NATIVE)).unwrap();
        assert_eq!(
            apache_data(dir.path()).status,
            Status::Good,
            "ours is there too"
        );
    }

    #[test]
    fn one_directory_under_two_names_is_locked_once_and_held_against_others() {
        let dir = tempfile::tempdir().unwrap();
        let [data, log] = ["data", "log"].map(|name| dir.path().join(name));
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &log).unwrap();
        let embedded = crate::config::embedded(dir.path(), &[]);
        let config = Config {
            data_dir: data,
            data_log_dir: log,
            client_address: "127.0.0.1:0".parse().unwrap(),
            allow_volatile_log: true,
            ..embedded.accepted().unwrap().config
        };
        let failures = |rows: &[Row]| -> Vec<String> {
            let failed = rows
                .iter()
                .filter(|row| matches!(row.status, Status::Fail(_)));
            failed.map(|row| row.text.clone()).collect()
        };
        let (rows, ready) = look(&config, true);
        assert_eq!(failures(&rows), [""; 0]);
        let held = ready.unwrap();
        let (rows, second) = look(&config, true);
        assert!(second.is_none() && failures(&rows)[0].contains("is in use by"));
        assert!(take_directories(&config).is_err());
        drop(held);
        assert_eq!(take_directories(&config).unwrap().unwrap().locks.len(), 1);
    }

    #[test]
    fn a_look_beside_a_running_server_leaves_the_snapshot_that_it_is_making() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = crate::config::embedded(dir.path(), &[]);
        let config = Config {
            client_address: "127.0.0.1:0".parse().unwrap(),
            ..embedded.accepted().unwrap().config
        };
        let native = config.data_dir.join(NATIVE);
        probe::writable(&native).unwrap();
        let unfinished = native.join("tmp.snap");
        for (is_running, is_left) in [(true, true), (false, false)] {
            let lock = is_running.then(|| DirectoryLock::take(&native).unwrap());
            std::fs::write(&unfinished, b"x").unwrap();
            look(&config, true);
            assert_eq!(unfinished.exists(), is_left, "running: {is_running}");
            drop(lock);
        }
    }
}
