//! The repository that holds this program, and where in it things go.

use crate::failure::{Context, Failure};
use crate::machine;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// The script that fetches Apache's jars, below the repository.
const FETCH: &str = "bench/fetch-apache";
/// Where it puts them.
const APACHE_HOME: &str = "tests/.work/apache-3.9.5";
/// Where the servers' directories are made.
const SCRATCH: &str = "tests/.work/bench";
/// Where results go.
const RUNS: &str = "bench/runs";

/// The repository that we are in, or that this program was built in.
fn root() -> Option<PathBuf> {
    let upwards = |from: PathBuf| {
        from.ancestors()
            .find(|dir| dir.join(FETCH).is_file())
            .map(Path::to_owned)
    };
    [std::env::current_dir(), std::env::current_exe()]
        .into_iter()
        .filter_map(Result::ok)
        .find_map(upwards)
}

/// What was given, or a path below the repository.
fn below(given: Option<&Path>, path: &str, flag: &str) -> Result<PathBuf, Failure> {
    given
        .map(Path::to_owned)
        .or_else(|| root().map(|root| root.join(path)))
        .ok_or_else(|| {
            Failure::Usage(format!(
                "not called from within the repository: give {flag}"
            ))
        })
}

/// The directory for the servers' directories; it is made.
pub fn scratch(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let dir = below(given, SCRATCH, "--dir")?;
    fs::create_dir_all(&dir).context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

/// Where Apache's jars are: as given, or fetched into the repository.
pub fn apache_home(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let home = below(given, APACHE_HOME, "--apache-home")?;
    let Some(root) = root().filter(|_| given.is_none()) else {
        return Ok(home);
    };
    let status = Command::new("python3")
        .arg(root.join(FETCH))
        .arg(&home)
        .stdout(Stdio::null())
        .status()
        .context(|| format!("starting {FETCH}"))?;
    match status.success() {
        true => Ok(home),
        false => Err(Failure::Usage(format!(
            "{FETCH} has failed, as it says above; or give --apache-home"
        ))),
    }
}

/// A directory for results that does not exist yet: the day, and a name that says nothing of whose
/// machine it is. `prefix` tells kinds of results apart.
pub fn fresh_results(given: Option<&Path>, prefix: &str) -> Result<PathBuf, Failure> {
    let runs = below(given, RUNS, "--out")?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = machine::cpus().len();
    let name = format!(
        "{prefix}{}-{cpus}cpu-linux{}",
        today(),
        machine::version(&release)
    );
    let mut dir = runs.join(&name);
    let mut number = 1;
    while dir.exists() {
        number += 1;
        dir = runs.join(format!("{name}-{number}"));
    }
    Ok(dir)
}

/// The day in UTC, as 2026-01-31.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let (year, month, day) = civil(since.map_or(0, |since| since.as_secs() / 86_400));
    format!("{year}-{month:02}-{day:02}")
}

/// The date that lies so many days behind 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let rows = [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_453, (2025, 12, 31)),
        ];
        for (days, date) in rows {
            assert_eq!(civil(days), date, "{days}");
        }
    }
}
