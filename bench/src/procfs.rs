//! What the kernel says about processes and the machine.

use crate::sys;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Figures at an instant; two of them make a measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// On the run's clock.
    pub at_ns: u64,
    /// User and system time of the servers with all their threads.
    pub servers_us: Option<u64>,
    /// The same of this process.
    pub own_us: u64,
    /// What all CPUs did but idling and waiting for devices.
    pub busy_us: u64,
    /// What a hypervisor kept from us.
    pub stolen_us: u64,
}

/// Takes a sample. A server that has no entry (any more) makes the servers' time unknown.
pub fn sample(at_ns: u64, pids: &[u32]) -> Sample {
    let servers = pids.iter().map(|&pid| cpu_us(pid)).sum::<Option<u64>>();
    let (busy_us, stolen_us) = machine_us().unwrap_or_default();
    Sample {
        at_ns,
        servers_us: servers.filter(|_| !pids.is_empty()),
        own_us: sys::process_cpu_ns() / 1000,
        busy_us,
        stolen_us,
    }
}

/// The share of all CPUs that was used between two samples by neither this process nor the servers,
/// whose time is `servers_us`.
pub fn others(begin: &Sample, end: &Sample, servers_us: u64) -> f64 {
    let ours_us = servers_us + end.own_us.saturating_sub(begin.own_us);
    let all_us = end.busy_us.saturating_sub(begin.busy_us);
    share(begin, end, all_us.saturating_sub(ours_us))
}

/// CPU time as a share of what all CPUs have between two samples.
pub fn share(begin: &Sample, end: &Sample, us: u64) -> f64 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let window_us = end.at_ns.saturating_sub(begin.at_ns) as f64 / 1e3;
    us as f64 / (window_us * cpus).max(1.0)
}

/// How long the calling thread has been ready without a CPU; 0 if the kernel doesn't tell.
pub fn thread_waited_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = text.split_whitespace().nth(1);
    waited.and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn ticks_us(ticks: u64) -> u64 {
    ticks * 1_000_000 / sys::ticks_per_second()
}

fn cpu_us(pid: u32) -> Option<u64> {
    stat_cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(ticks_us)
}

/// utime + stime. The command's name stands in brackets and may contain anything.
fn stat_cpu_ticks(stat: &str) -> Option<u64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = behind_name.split_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

/// What a hypervisor has kept from this machine since boot, µs of one CPU.
pub fn stolen_us() -> u64 {
    machine_us().unwrap_or_default().1
}

/// (busy, stolen) since boot.
fn machine_us() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    cpu_line(text.lines().next()?).map(|(busy, stolen)| (ticks_us(busy), ticks_us(stolen)))
}

/// `cpu user nice system idle iowait irq softirq steal …`
fn cpu_line(line: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = line
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq, steal))
}

/// Memory of processes, KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub rss_kib: u64,
    /// Of it, what is no page of a file.
    pub anon_kib: u64,
    /// Most that was ever resident, or since [`forget_peak`].
    pub peak_kib: u64,
}

/// Summed over the processes; `None` if one of them has no entry.
pub fn memory(pids: &[u32]) -> Option<Memory> {
    let mut sum = Memory {
        rss_kib: 0,
        anon_kib: 0,
        peak_kib: 0,
    };
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        sum.rss_kib += status_kib(&status, "VmRSS:")?;
        sum.anon_kib += status_kib(&status, "RssAnon:")?;
        sum.peak_kib += status_kib(&status, "VmHWM:")?;
    }
    (!pids.is_empty()).then_some(sum)
}

fn status_kib(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Lets the peak start again from what is resident now. Best effort: it is our own process or root's.
pub fn forget_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Flushes of its cache that the block device below a path has made since boot, whoever asked.
/// `None` where the filesystem has no device of its own.
pub fn device_flushes(path: &Path) -> Option<u64> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // Flushes are counted for the whole disk.
    let disk = if block.join("partition").exists() {
        fs::canonicalize(block).ok()?.parent()?.to_owned()
    } else {
        block
    };
    flushes(&fs::read_to_string(disk.join("stat")).ok()?)
}

/// Seventeen fields since Linux 5.5, the 16th of which counts flushes.
fn flushes(stat: &str) -> Option<u64> {
    stat.split_whitespace().nth(15)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_and_blanks_do_not_shift_the_fields() {
        let stat = "12 (a) b) c) S 1 12 12 0 -1 4194560 1 2 3 4 70 30 0 0 20 0 3 0 99";
        assert_eq!(stat_cpu_ticks(stat), Some(100));
        assert_eq!(stat_cpu_ticks("12 (a) S 1"), None);
    }

    #[test]
    fn idling_is_not_busy() {
        assert_eq!(cpu_line("cpu  1 2 3 1000 500 4 5 6 0 0"), Some((15, 6)));
        assert_eq!(cpu_line("cpu0 1 2 3 4 5 6 7 8"), None);
    }

    #[test]
    fn flushes_are_the_sixteenth_field() {
        let stat = " 1 2 3 4 5 6 7 8 0 10 11 12 13 14 15 4749952 386285\n";
        assert_eq!(flushes(stat), Some(4_749_952));
        assert_eq!(flushes("1 2 3 4 5 6 7 8 9 10 11"), None, "before Linux 5.5");
    }

    #[test]
    fn we_are_a_process_ourselves() {
        let own = [std::process::id()];
        let memory = memory(&own).unwrap();
        assert!(memory.peak_kib >= memory.rss_kib && memory.rss_kib > 0);
        assert!(memory.rss_kib > memory.anon_kib && memory.anon_kib > 0);
        assert!(sample(0, &own).servers_us.is_some());
        assert!(sample(0, &[]).servers_us.is_none());
    }
}
