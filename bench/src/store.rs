//! Data directories that are made once and copied for each run, and the page cache before one.

use crate::failure::{Context, Failure};
use crate::{servers, sys};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lies beside a data directory that was made to the end, and says what it holds.
const FACTS: &str = "complete.json";
/// Below the data directory of ours.
const NATIVE: &str = "ringkeeper-1";

/// A data directory that nobody serves.
pub struct Store {
    /// With the data directory, as a server's has it.
    pub dir: PathBuf,
    /// What whoever made it says of it.
    pub facts: Value,
}

impl Store {
    /// One that was made before, or is made now by `make` in a directory of a server's and described.
    pub fn kept(
        dir: &Path,
        make: impl FnOnce(&Path) -> Result<Value, Failure>,
    ) -> Result<Store, Failure> {
        let path = dir.join(FACTS);
        let known = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let facts = match known {
            Some(facts) => facts,
            None => {
                remove(dir)?;
                let facts = make(dir)?;
                fs::write(&path, facts.to_string())
                    .context(|| format!("writing {}", path.display()))?;
                facts
            }
        };
        Ok(Store {
            dir: dir.to_owned(),
            facts,
        })
    }

    /// A fact that is a number.
    pub fn number(&self, name: &str) -> Result<i64, Failure> {
        let number = self.facts[name].as_i64();
        number.ok_or_else(|| {
            let dir = self.dir.display();
            Failure::Usage(format!(
                "{dir} is of another rkbench: remove it, and begin again"
            ))
        })
    }

    /// Copies the data to the directory of a server that is to be started.
    pub fn copy_to(&self, dir: &Path) -> Result<(), Failure> {
        let (from, to) = (servers::data_dir(&self.dir), servers::data_dir(dir));
        copy(&from, &to).context(|| format!("copying to {}", to.display()))
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Removes a directory; one that is not there is fine.
pub fn remove(dir: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Writes back and forgets what the kernel keeps of files. Says whether it may: it is root's.
pub fn forget_files() -> bool {
    sys::sync_disks();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Snapshots of ours in a server's directory: bytes by zxid.
pub fn snapshots(dir: &Path) -> BTreeMap<i64, u64> {
    let files = fs::read_dir(servers::data_dir(dir).join(NATIVE));
    let of_file = |file: fs::DirEntry| {
        let zxid = snapshot_zxid(file.file_name().to_str()?)?;
        Some((zxid, file.metadata().ok()?.len()))
    };
    let files = files.into_iter().flatten().filter_map(Result::ok);
    files.filter_map(of_file).collect()
}

/// The zxid of `snap.<16 hex digits>`.
fn snapshot_zxid(name: &str) -> Option<i64> {
    let digits = name.strip_prefix("snap.").filter(|hex| hex.len() == 16)?;
    i64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn snapshots_are_known_by_their_names() {
        assert_eq!(snapshot_zxid("snap.000000000000002a"), Some(42));
        for name in [
            "snap.2a",
            "tmp.snap",
            "log.000000000000002a",
            "snap.00000000000000zz",
        ] {
            assert_eq!(snapshot_zxid(name), None, "{name}");
        }
    }

    #[test]
    fn a_store_is_made_once_and_anew_if_it_was_not_finished() {
        let dir = std::env::temp_dir().join(format!("rkbench-store-{}", std::process::id()));
        let make = |bytes: &'static [u8]| {
            move |dir: &Path| {
                let native = servers::data_dir(dir).join(NATIVE);
                fs::create_dir_all(&native).unwrap();
                fs::write(native.join("snap.0000000000000007"), bytes).unwrap();
                Ok(json!({"znodes": 5}))
            }
        };
        let broken = Store::kept(&dir, |dir| {
            fs::create_dir_all(dir.join("data/half")).unwrap();
            Err(Failure::Stalled(1))
        });
        assert!(broken.is_err());
        let store = Store::kept(&dir, make(b"abc")).unwrap();
        assert!(!dir.join("data/half").exists(), "what was not finished");
        let again = Store::kept(&dir, |_| panic!("it is there")).unwrap();
        assert_eq!(
            (again.number("znodes").unwrap(), &again.facts),
            (5, &store.facts)
        );
        assert!(again.number("nothing").is_err());
        let copied = dir.join("copied");
        again.copy_to(&copied).unwrap();
        assert_eq!(snapshots(&copied), BTreeMap::from([(7, 3)]));
        remove(&dir).unwrap();
        remove(&dir).unwrap();
    }
}
