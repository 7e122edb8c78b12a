//! What `envi` says of the process and its machine (docs/protocol.md §8.2): the keys of Apache's server, with
//! `<NA>` for what belongs to a JVM.

use std::fs::{metadata, read_to_string};
use std::os::unix::fs::MetadataExt;

/// What Java writes where it knows nothing.
const NOT_THERE: &str = "<NA>";

/// Keys and values, in Apache's order. `version`: what clients take for the server's; `memory_max`: what the
/// process may take, bytes. Looks into files.
pub fn rows(version: &str, memory_max: u64) -> Vec<(&'static str, String)> {
    let users = read_to_string("/etc/passwd").unwrap_or_default();
    let uid = metadata("/proc/self").map(|found| found.uid());
    let (name, home) = uid.ok().and_then(|uid| user(&users, uid)).unzip();
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let taken = resident(&status);
    let folder = std::env::current_dir().map(|folder| folder.display().to_string());
    let known = |value: Option<String>| value.unwrap_or_else(|| NOT_THERE.to_owned());
    let kernel = |name: &str| {
        let text = read_to_string(format!("/proc/sys/kernel/{name}"));
        known(text.ok().map(|text| text.trim().to_owned()))
    };
    let mebibytes = |bytes: u64| format!("{}MB", bytes >> 20);
    vec![
        ("zookeeper.version", version.to_owned()),
        ("host.name", kernel("hostname")),
        ("java.version", NOT_THERE.to_owned()),
        ("java.vendor", NOT_THERE.to_owned()),
        ("java.home", NOT_THERE.to_owned()),
        ("java.class.path", NOT_THERE.to_owned()),
        ("java.library.path", NOT_THERE.to_owned()),
        ("java.io.tmpdir", NOT_THERE.to_owned()),
        ("java.compiler", NOT_THERE.to_owned()),
        ("os.name", kernel("ostype")),
        ("os.arch", architecture(std::env::consts::ARCH).to_owned()),
        ("os.version", kernel("osrelease")),
        ("user.name", known(name)),
        ("user.home", known(home)),
        ("user.dir", known(folder.ok())),
        (
            "os.memory.free",
            mebibytes(memory_max.saturating_sub(taken)),
        ),
        ("os.memory.max", mebibytes(memory_max)),
        ("os.memory.total", mebibytes(taken)),
    ]
}

/// Java's name of an architecture.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        other => other,
    }
}

/// Name and home of a user, from the text of the file of users.
fn user(users: &str, uid: u32) -> Option<(String, String)> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, _, _, home, ..] = fields[..] else {
            return None;
        };
        (id.parse() == Ok(uid)).then(|| (name.to_owned(), home.to_owned()))
    })
}

/// Memory that a process has taken, bytes, from its status.
fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_apaches_in_its_order() {
        let rows = rows("3.9.5-x", 1 << 30);
        let keys: Vec<&str> = rows.iter().map(|(key, _)| *key).collect();
        let due = "zookeeper.version host.name java.version java.vendor java.home java.class.path \
                   java.library.path java.io.tmpdir java.compiler os.name os.arch os.version user.name user.home \
                   user.dir os.memory.free os.memory.max os.memory.total";
        assert_eq!(keys, due.split_whitespace().collect::<Vec<_>>());
        assert!(
            rows.iter()
                .all(|(_, value)| !value.is_empty() && !value.contains('\n'))
        );
        assert_eq!(rows[16].1, "1024MB");
    }

    #[test]
    fn users_and_memory_are_found_in_their_files() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nzk:x:998:998::/var/lib/zk:/bin/false\n";
        assert_eq!(user(users, 998), Some(("zk".into(), "/var/lib/zk".into())));
        assert_eq!(user(users, 5), None);
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t   2048 kB\n"), 2 << 20);
        assert_eq!(resident(""), 0);
        assert_eq!(
            (architecture("x86_64"), architecture("aarch64")),
            ("amd64", "aarch64")
        );
    }
}
