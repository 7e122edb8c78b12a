//! The dependency table of `ARCHITECTURE.md`, held against the source: it is the only copy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a pure module must not name: operating system, clock, randomness, threads, hidden order.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::os",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "HashMap::new",
    "RandomState",
    "thread_local!",
    "glommio",
    "libc::",
    "socket2",
    "memmap2",
    "tracing",
];
/// Modules that may.
const IMPURE_MODULES: &[&str] = &["rt", "server"];

struct Source {
    path: PathBuf,
    /// The top module that it belongs to.
    module: String,
    /// Without what is compiled for tests only, and without comments.
    code: String,
}

fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = repo().join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    let is_test = |path: &Path| path.components().any(|c| c.as_os_str() == "tests");
    paths
        .into_iter()
        .filter(|path| !is_test(path) && path.file_stem().unwrap() != "tests")
        .map(|path| {
            let relative = path.strip_prefix(&src).unwrap();
            let top = relative.iter().next().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let before_tests = text.split("#[cfg(test)]").next().unwrap();
            let code = before_tests
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .fold(String::new(), |code, line| code + line + "\n");
            Source {
                module: top.trim_end_matches(".rs").to_owned(),
                path: relative.to_owned(),
                code,
            }
        })
        .filter(|source| !["lib", "main"].contains(&source.module.as_str()))
        .collect()
}

/// Module to what it may use, from the table.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(repo().join("ARCHITECTURE.md")).unwrap();
    let mut table = BTreeMap::new();
    let rows = text
        .lines()
        .skip_while(|line| *line != "## Modules")
        .take_while(|line| *line != "## Invariants")
        .filter(|line| line.starts_with("| `"));
    for line in rows {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, _, uses] = cells.as_slice() else {
            continue;
        };
        let uses: BTreeSet<String> = uses
            .trim_matches('|')
            .split(", ")
            .map(|name| name.trim().trim_matches('`').to_owned())
            .filter(|name| name != "—")
            .collect();
        for name in names.split(", ") {
            table.insert(name.trim_matches(['`', '/']).to_owned(), uses.clone());
        }
    }
    table
}

/// The modules that a source names.
fn used(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap();
                found.extend(group.split(',').map(|part| name(part.trim())));
            }
            None => {
                found.insert(name(after));
            }
        }
    }
    found
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let table = table();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(allowed) = table.get(&source.module) else {
            wrong.push(format!("{} is not in the table", source.module));
            continue;
        };
        for name in used(&source.code) {
            if name != source.module && !allowed.contains(&name) {
                wrong.push(format!("{} uses {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_names_what_exists_and_has_no_cycle() {
    let table = table();
    let present: BTreeSet<String> = sources().into_iter().map(|s| s.module).collect();
    let listed: BTreeSet<String> = table.keys().cloned().collect();
    assert_eq!(listed, present);
    // Taking away what uses nothing that is left must end with nothing left.
    let mut left = table;
    while !left.is_empty() {
        let leaves: Vec<String> = left
            .iter()
            .filter(|(_, uses)| uses.iter().all(|name| !left.contains_key(name)))
            .map(|(name, _)| name.clone())
            .collect();
        assert!(!leaves.is_empty(), "a cycle among {:?}", left.keys());
        left.retain(|name, _| !leaves.contains(name));
    }
}

#[test]
fn pure_modules_name_no_operating_system() {
    let mut wrong = Vec::new();
    for source in sources() {
        if IMPURE_MODULES.contains(&source.module.as_str()) {
            continue;
        }
        for name in IMPURE.iter().filter(|name| source.code.contains(**name)) {
            wrong.push(format!("{} names {name}", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_and_glommio_live_in_rt_only() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module != "rt") {
        for name in ["unsafe ", "glommio"] {
            if source.code.contains(name) {
                wrong.push(format!("{} names {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
