//! The machine: what it is, and which of its CPUs a thread runs on.

use crate::failure::Failure;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Keeps the calling thread on a CPU; `None` leaves it free.
pub fn pin(cpu: Option<usize>) -> Result<(), Failure> {
    let Some(cpu) = cpu else {
        return Ok(());
    };
    match core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        true => Ok(()),
        false => Err(Failure::Usage(format!(
            "this thread can't be kept on CPU {cpu}: --pin takes one of {:?}, and there must be as \
             many from there on as --threads says",
            cpus()
        ))),
    }
}

/// The CPUs that we may use.
pub fn cpus() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.into_iter().map(|core| core.id).collect()
}

/// Where the load generator goes unless told: the last CPU, if there are several.
pub fn default_pin() -> Option<usize> {
    let cpus = cpus();
    (cpus.len() > 1).then(|| cpus.last().copied()).flatten()
}

/// What can be said without saying whose machine it is. `dir` is where data goes.
pub fn facts(dir: &Path) -> Value {
    let first = |path: &str, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpus": cpus().len(),
        "cpu": first("/proc/cpuinfo", "model name"),
        "memory": first("/proc/meminfo", "MemTotal"),
        "kernel": version(&kernel),
        "filesystem": filesystem(dir),
    })
}

/// The numbers of a kernel's name, without what its builder appended.
pub fn version(release: &str) -> &str {
    let end = release.find(|c: char| c != '.' && !c.is_ascii_digit());
    release[..end.unwrap_or(release.len())].trim_end_matches('.')
}

/// The type of the filesystem that holds a directory.
fn filesystem(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn kernels_have_numbers() {
        assert_eq!(super::version("6.18.44-of-somebody\n"), "6.18.44");
        assert_eq!(super::version("6.1.\n"), "6.1");
    }
}
