//! Facts about the machine for the start-up checks. No policy: `server::preflight` decides.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::mem::zeroed;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Whether io_uring can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uring {
    /// It can.
    Works,
    /// The kernel does not have it.
    Missing,
    /// `kernel.io_uring_disabled` forbids it.
    Sysctl,
    /// Something else does: a seccomp filter, as in Docker's default profile.
    Forbidden,
}

/// Sets up a tiny ring and drops it.
pub fn io_uring() -> Uring {
    let mut params = [0u64; 15]; // struct io_uring_params, 120 bytes
    // SAFETY: the parameters are writable and zero, as the call asks.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if fd >= 0 {
        // SAFETY: the descriptor was just made and is nobody else's.
        unsafe { libc::close(fd as i32) };
        return Uring::Works;
    }
    let disabled =
        std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOSYS) => Uring::Missing,
        _ if matches!(disabled.trim(), "1" | "2") => Uring::Sysctl,
        _ => Uring::Forbidden,
    }
}

/// Raises a limit as far as allowed towards `wanted`; what holds afterwards.
fn raise(resource: libc::__rlimit_resource_t, wanted: u64) -> u64 {
    // SAFETY: the limits live on the stack.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        libc::getrlimit(resource, &raw mut limit);
        if limit.rlim_cur < wanted {
            let hard = limit.rlim_max.max(wanted);
            let asked = libc::rlimit {
                rlim_cur: wanted.min(hard),
                rlim_max: hard,
            };
            if libc::setrlimit(resource, &raw const asked) != 0 {
                limit.rlim_cur = limit.rlim_max.min(wanted);
                libc::setrlimit(resource, &raw const limit);
            }
            libc::getrlimit(resource, &raw mut limit);
        }
        limit.rlim_cur
    }
}

/// Lockable memory, bytes, after raising it towards `wanted`.
pub fn locked_memory(wanted: u64) -> u64 {
    raise(libc::RLIMIT_MEMLOCK, wanted)
}

/// Open files, after raising the soft limit to the hard one.
pub fn open_files() -> u64 {
    // SAFETY: the limits live on the stack.
    let hard = unsafe {
        let mut limit: libc::rlimit = zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_max
    };
    raise(libc::RLIMIT_NOFILE, hard)
}

/// File descriptors in use.
pub fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64)
}

/// Kind of filesystem below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// Survives a power cut.
    Disk(&'static str),
    /// Memory.
    Tmpfs,
    /// A network filesystem.
    Network(&'static str),
    /// A process serves it, and says what a sync means.
    Fuse,
    /// Its magic number.
    Other(i64),
}

impl Filesystem {
    /// Whether each write takes room anew, also into bytes that were allocated before.
    pub fn copies_on_write(&self) -> bool {
        matches!(self, Filesystem::Disk("btrfs" | "zfs"))
    }
}

/// Filesystem and free bytes.
///
/// # Errors
/// The path does not exist.
pub fn filesystem(path: &Path) -> io::Result<(Filesystem, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a NUL-terminated path and a buffer on the stack.
    let found = unsafe {
        let mut found: libc::statfs = zeroed();
        if libc::statfs(path.as_ptr(), &raw mut found) != 0 {
            return Err(io::Error::last_os_error());
        }
        found
    };
    let kind = match found.f_type as i64 & 0xffff_ffff {
        0xef53 => Filesystem::Disk("ext4"),
        0x5846_5342 => Filesystem::Disk("xfs"),
        0x9123_683e => Filesystem::Disk("btrfs"),
        0x2fc1_2fc1 => Filesystem::Disk("zfs"),
        0x794c_7630 => Filesystem::Disk("overlay"),
        0x0102_1994 | 0x8584_58f6 => Filesystem::Tmpfs,
        0x6969 => Filesystem::Network("nfs"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => Filesystem::Network("cifs"),
        0x0102_1997 => Filesystem::Network("9p"),
        0x00c3_6400 => Filesystem::Network("ceph"),
        0x6a65_6a63 => Filesystem::Network("virtiofs"),
        0x6573_5546 => Filesystem::Fuse,
        other => Filesystem::Other(other),
    };
    Ok((kind, found.f_bavail as u64 * found.f_bsize as u64))
}

/// Makes the directory if it is not there, and a file in it, and removes that again. The file is empty:
/// a full disk is no reason not to start.
///
/// # Errors
/// Why that does not work.
pub fn writable(directory: &Path) -> io::Result<()> {
    make_durable_directory(directory)?;
    let probe = directory.join(".ringkeeper-probe");
    std::fs::File::create(&probe)?;
    std::fs::remove_file(&probe)
}

/// Whether what the process makes belongs to who owns the directory.
///
/// # Errors
/// The operating system's.
pub fn is_owned(directory: &Path) -> io::Result<bool> {
    // SAFETY: the call takes nothing and can't fail.
    let user = unsafe { libc::geteuid() };
    Ok(std::fs::metadata(directory)?.uid() == user)
}

/// Whether two paths lead to one directory; `false` if one of them leads to none.
pub fn are_one(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match (place(one), place(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Makes a directory and those above it that are missing; the name of each is durable.
fn make_durable_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().ok_or(io::ErrorKind::NotFound)?;
    if !parent.as_os_str().is_empty() {
        make_durable_directory(parent)?;
    }
    match std::fs::create_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }?;
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    std::fs::File::open(parent)?.sync_all()
}

/// CPUs of the machine.
pub fn online() -> usize {
    // SAFETY: the call takes no pointer.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1)
}

/// CPUs that this process may run on.
pub fn affinity() -> Vec<usize> {
    core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| core.id)
        .collect()
}

/// CPUs that the cgroup's quota allows, rounded up; `None` without a quota.
pub fn cpu_quota() -> Option<usize> {
    let group = cgroup()?;
    let quotas = of_groups(Path::new(CGROUPS), &group, "cpu.max", |text| {
        let (quota, period) = text.split_once(' ')?;
        let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
        Some(quota.div_ceil(period.max(1)).max(1))
    });
    quotas.min().map(|quota| quota as usize)
}

/// Memory that this process may use, bytes: the machine's, or what the cgroup or one above it allows if that
/// is less.
pub fn memory() -> u64 {
    // SAFETY: the calls take no pointer.
    let (pages, page) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    let machine = u64::try_from(pages).unwrap_or(0) * u64::try_from(page).unwrap_or(0);
    let group = cgroup().unwrap_or_default();
    let limits = of_groups(Path::new(CGROUPS), &group, "memory.max", |text| {
        text.parse().ok()
    });
    machine.min(limits.min().unwrap_or(u64::MAX))
}

/// Where cgroups (version 2) are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// This process' cgroup (version 2), below [`CGROUPS`].
fn cgroup() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(group.to_owned())
}

/// What a file says in a cgroup and in those above it, where there is one: a limit of each of them holds.
fn of_groups<T>(
    root: &Path,
    group: &str,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> impl Iterator<Item = T> {
    let groups = Path::new(group).ancestors();
    groups.filter_map(move |group| {
        let text = std::fs::read_to_string(root.join(group).join(name)).ok()?;
        parse(text.trim())
    })
}

/// What appending and syncing costs on the disk below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durability {
    /// Median of append and fdatasync of one small record, µs.
    pub sync_p50_us: u64,
    /// 99th percentile.
    pub sync_p99_us: u64,
    /// 99th percentile of an append while a sync is in flight, µs: large where the device demands
    /// stable pages.
    pub append_p99_us: u64,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sync p50 {} µs, p99 {} µs; append during a sync p99 {} µs",
            self.sync_p50_us, self.sync_p99_us, self.append_p99_us
        )
    }
}

/// How often something is synced, and for how long another sync is begun.
const SYNCS_MAX: usize = 200;
const SYNCS_UNTIL: Duration = Duration::from_millis(300);

/// Appends records of 200 bytes to a zeroed file: some with a sync each, some during syncs. Takes about a
/// tenth of a second on a good disk; on any other what three syncs take, and 600 ms.
///
/// # Errors
/// The operating system's.
pub fn durability(directory: &Path) -> io::Result<Durability> {
    const RECORD: [u8; 200] = [1; 200];
    let path = directory.join(".ringkeeper-durability");
    let file = std::fs::File::create(&path)?;
    let _ = std::fs::remove_file(&path);
    file.write_all_at(&[0; 1 << 20], 0)?;
    file.sync_all()?;
    let mut at = 0;
    let mut append = || {
        let began = Instant::now();
        file.write_all_at(&RECORD, at % (1 << 19))?;
        at += RECORD.len() as u64;
        io::Result::Ok(began.elapsed().as_micros() as u64)
    };
    let began = Instant::now();
    let mut syncs = Vec::new();
    while syncs.len() < SYNCS_MAX && began.elapsed() < SYNCS_UNTIL {
        let one = Instant::now();
        append()?;
        file.sync_data()?;
        syncs.push(one.elapsed().as_micros() as u64);
    }
    let busy = std::sync::atomic::AtomicBool::new(true);
    let appends = std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            for _ in 0..SYNCS_MAX / 4 {
                if began.elapsed() < SYNCS_UNTIL {
                    let _ = file.sync_data();
                }
            }
            busy.store(false, std::sync::atomic::Ordering::Relaxed);
        });
        let mut appends = Vec::new();
        while busy.load(std::sync::atomic::Ordering::Relaxed) && appends.len() < 100_000 {
            appends.push(append()?);
        }
        io::Result::Ok(appends)
    })?;
    let quantile = |mut all: Vec<u64>, percent: usize| {
        all.sort_unstable();
        all.get(all.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    Ok(Durability {
        sync_p50_us: quantile(syncs.clone(), 50),
        sync_p99_us: quantile(syncs, 99),
        append_p99_us: quantile(appends, 99),
    })
}

/// Whether a file system writes a file's inode, for its time stamps alone, inside fdatasync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InodeWrites {
    /// It does: ext2, ext3 or ext4 without a journal and without `lazytime`. A sync that falls into
    /// a new tick of the clock costs a second write.
    InFdatasync,
    /// It does not.
    Elsewhere,
    /// Not known.
    Unknown,
}

/// Looks at the file system below a path.
pub fn inode_writes_in_fdatasync(path: &Path) -> InodeWrites {
    match filesystem(path) {
        Ok((Filesystem::Disk("ext4"), _)) => {}
        Ok((Filesystem::Disk("xfs"), _)) => return InodeWrites::Elsewhere,
        _ => return InodeWrites::Unknown,
    }
    let Some(device) = device(path) else {
        return InodeWrites::Unknown;
    };
    if is_mounted_with("lazytime", &mounts(), &device) {
        return InodeWrites::Elsewhere;
    }
    let options = std::fs::read_link(Path::new("/sys/dev/block").join(&device))
        .ok()
        .and_then(|link| Some(Path::new("/proc/fs/ext4").join(link.file_name()?)))
        .and_then(|folder| std::fs::read_to_string(folder.join("options")).ok());
    match options {
        Some(options) if has_journal(&options) => InodeWrites::Elsewhere,
        Some(_) => InodeWrites::InFdatasync,
        None => InodeWrites::Unknown,
    }
}

/// Whether the file system below a path tells its device at once what it does not use any more (mount option
/// `discard`). What is freed together is told together, and some devices do nothing else meanwhile.
pub(super) fn discards_at_once(path: &Path) -> bool {
    device(path).is_some_and(|device| is_mounted_with("discard", &mounts(), &device))
}

/// The device below a path, as in `8:1`.
fn device(path: &Path) -> Option<String> {
    let device = std::fs::metadata(path).ok()?.dev();
    Some(format!("{}:{}", libc::major(device), libc::minor(device)))
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// Whether the file system of a device is mounted with an option.
fn is_mounted_with(option: &str, mounts: &str, device: &str) -> bool {
    mounts.lines().any(|line| {
        let (mount, filesystem) = line.split_once(" - ").unwrap_or((line, ""));
        let options = filesystem.rsplit(' ').next().unwrap_or_default();
        mount.split(' ').nth(2) == Some(device) && options.split(',').any(|o| o == option)
    })
}

/// Whether the options that ext4 has in force name a mode of its journal, which they do if and only
/// if there is a journal, be it on a device of its own.
fn has_journal(options: &str) -> bool {
    options.lines().any(|option| option.starts_with("data="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_and_options_of_a_mount_are_recognised() {
        assert!(has_journal("rw\nbarrier\ndata=ordered\ncommit=5\n"));
        assert!(!has_journal("rw\nbarrier\nnodelalloc\ncommit=5\n"));
        let mounts = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
            31 27 8:1 / /log rw,relatime shared:4 - ext4 /dev/sda1 rw,lazytime,stripe=8\n";
        assert!(is_mounted_with("lazytime", mounts, "8:1"));
        assert!(!is_mounted_with("lazytime", mounts, "254:0"));
        assert!(is_mounted_with("discard", mounts, "254:0"));
        assert!(!is_mounted_with("lazytime", mounts, "8:17"));
    }

    #[test]
    fn limits_of_the_groups_above_hold_too() {
        let root = tempfile::tempdir().unwrap();
        for (group, limit) in [("", "900"), ("a", "400"), ("a/b", "max"), ("a/b/c", "700")] {
            let group = root.path().join(group);
            std::fs::create_dir_all(&group).unwrap();
            std::fs::write(group.join("memory.max"), format!("{limit}\n")).unwrap();
        }
        let least = |group| {
            let number = |text: &str| text.parse::<u64>().ok();
            of_groups(root.path(), group, "memory.max", number).min()
        };
        let found = ["a/b/c", "a/b", "a", "", "d"].map(least);
        assert_eq!(found, [400, 400, 400, 900, 900].map(Some));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let writes = inode_writes_in_fdatasync(Path::new("/proc"));
        assert_eq!(writes, InodeWrites::Unknown);
        let writes = inode_writes_in_fdatasync(Path::new("/not there"));
        assert_eq!(writes, InodeWrites::Unknown);
    }
}
