//! The architecture, held against the source: the dependency table of `ARCHITECTURE.md` (the only
//! copy), what pure modules may not name, circles of imports between files, and words that comments
//! may not use. Every production line of every file is read; what is compiled for tests only is not.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

#[path = "architecture/house.rs"]
mod house;
#[path = "architecture/tokens.rs"]
mod tokens;

use house::{House, Import, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a pure module must not name: operating system, clock, randomness, threads, hidden order.
const IMPURE: &[&str] = &[
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "std::collections::hash_set",
    "std::env",
    "std::fs",
    "std::hash::RandomState",
    "std::io::Stderr",
    "std::io::Stdin",
    "std::io::Stdout",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "foldhash::fast::RandomState",
    "foldhash::quality::RandomState",
    "hashbrown::DefaultHashBuilder",
    "dbg",
    "eprint",
    "eprintln",
    "print",
    "println",
    "thread_local",
];
/// Modules that may. Their crates are the optional dependencies of `Cargo.toml`.
const IMPURE_MODULES: &[&str] = &["rt", "server"];
/// The module of all `unsafe`, and of the crates behind the kernel's rings.
const UNSAFE_MODULE: &str = "rt";
const UNSAFE_CRATES: &[&str] = &["glommio", "io_uring"];

/// Circles of imports that are not yet dissolved, by source folder. Shrinks, never grows.
const CIRCLES: &[(&str, &[&str])] = &[];

/// Comments that are left to mend. Shrink, never grow.
const SEE_THE_MODULE: usize = 0;
const CITES_OUTSIDE: usize = 0;

/// Source folders with the roots of the crates that lie in them.
const CRATES: &[(&str, &str)] = &[
    ("src", "lib.rs"),
    ("src", "main.rs"),
    ("bench/src", "lib.rs"),
    ("bench/src", "main.rs"),
    ("tools/src", "main.rs"),
];

type Texts = BTreeMap<PathBuf, String>;

fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files of a folder, by path below it.
fn texts(folder: &str) -> Texts {
    fn read(root: &Path, folder: &Path, into: &mut Texts) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(root, &path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                into.insert(path.strip_prefix(root).unwrap().to_owned(), text);
            }
        }
    }
    let root = repo().join(folder);
    let mut found = Texts::new();
    read(&root, &root, &mut found);
    found
}

fn library() -> House {
    House::new(&texts("src"), "lib.rs")
}

/// The library with lines added behind a file's text.
fn library_with(file: &str, lines: &str) -> House {
    let mut texts = texts("src");
    *texts
        .get_mut(Path::new(file))
        .expect("a file of the library") += lines;
    House::new(&texts, "lib.rs")
}

/// A hub: a file that declares its tests above its own code.
fn hub(top: &str) -> String {
    let hub = texts("src").into_iter().find(|(path, text)| {
        let declared = text.find("#[cfg(test)]\nmod tests;");
        path.starts_with(top)
            && path.ends_with("mod.rs")
            && declared.is_some_and(|at| text[at..].contains("\nuse crate::"))
    });
    hub.expect("a hub with tests above its code")
        .0
        .to_str()
        .unwrap()
        .to_owned()
}

/// Module to what it may use, from the table.
fn table() -> Table {
    let text = std::fs::read_to_string(repo().join("ARCHITECTURE.md")).unwrap();
    let mut table = BTreeMap::new();
    let rows = text
        .lines()
        .skip_while(|line| *line != "## Modules")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"));
    for line in rows {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, _, uses] = cells.as_slice() else {
            panic!("not three cells: {line}");
        };
        let uses: BTreeSet<String> = uses
            .split(", ")
            .map(|name| name.trim().trim_matches('`').to_owned())
            .filter(|name| name != "—")
            .collect();
        for name in names.split(", ") {
            table.insert(
                name.trim().trim_matches(['`', '/']).to_owned(),
                uses.clone(),
            );
        }
    }
    table
}

type Table = BTreeMap<String, BTreeSet<String>>;

/// Uses of a module that the table does not allow, in one file.
fn breaches(house: &House, path: &Path, table: &Table) -> Vec<String> {
    let room = &house.files[path];
    let Some(own) = room.module.first() else {
        return Vec::new();
    };
    let Some(allowed) = table.get(own) else {
        return vec![format!("{own} is not in the table")];
    };
    let mut wrong = Vec::new();
    for named in &room.code.named {
        // What another module passes on belongs to that module.
        let written = (named.segments[0] == "crate")
            .then(|| named.segments.get(1).cloned())
            .flatten();
        let used = written.or_else(|| match house.target(room, named)? {
            // A variable may have a module's name.
            Target::Here { item: None, .. } if named.segments.len() == 1 => None,
            Target::Here { module, .. } => module.first().cloned(),
            Target::Elsewhere(_) => None,
        });
        if let Some(used) = used.filter(|used| used != own && !allowed.contains(used)) {
            wrong.push(format!("{}:{} uses {used}", path.display(), named.line));
        }
    }
    wrong
}

/// The crates that the pure build does without.
fn optional() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(repo().join("Cargo.toml")).unwrap();
    let optional = manifest
        .lines()
        .filter(|line| line.contains("optional = true"));
    let names: BTreeSet<String> = optional
        .map(|line| line.split(' ').next().unwrap().replace('-', "_"))
        .collect();
    assert!(names.contains("libc"), "{names:?}");
    names
}

/// What a file names of the operating system's although its module is pure.
fn impurities(house: &House, path: &Path, optional: &BTreeSet<String>) -> Vec<String> {
    let room = &house.files[path];
    if room
        .module
        .first()
        .is_none_or(|module| IMPURE_MODULES.contains(&module.as_str()))
    {
        return Vec::new();
    }
    let within = |outer: &str, inner: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let mut wrong = Vec::new();
    for (line, named) in house.foreign(room) {
        let text = named.join("::").replacen("core::", "std::", 1);
        let impure = IMPURE.iter().any(|name| match text.strip_suffix("::*") {
            Some(glob) => within(name, glob) || within(glob, name),
            None => within(name, &text),
        });
        // Renamed as a whole it could hide anything.
        if impure || text == "std" || optional.contains(&named[0]) {
            wrong.push(format!("{}:{line} names {text}", path.display()));
        }
    }
    wrong
}

/// Each circle of each crate, with the imports that make it.
fn circles() -> Vec<(String, BTreeSet<String>, Vec<Import>)> {
    let mut found = Vec::new();
    for (folder, root) in CRATES {
        let house = House::new(&texts(folder), root);
        for circle in house.circles() {
            let within =
                |import: &Import| circle.contains(&import.from) && circle.contains(&import.to);
            let mut imports: Vec<Import> = house.imports().into_iter().filter(within).collect();
            // One of each pair of files is enough to begin with.
            imports.sort_by(|a, b| (&a.from, &a.to, a.line).cmp(&(&b.from, &b.to, b.line)));
            imports.dedup_by(|next, last| (&next.from, &next.to) == (&last.from, &last.to));
            let names = circle
                .iter()
                .map(|path| path.to_str().unwrap().to_owned())
                .collect();
            found.push(((*folder).to_owned(), names, imports));
        }
    }
    found
}

fn listed_circles() -> Vec<(String, BTreeSet<String>)> {
    let set = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect();
    CIRCLES
        .iter()
        .map(|(folder, files)| ((*folder).to_owned(), set(files)))
        .collect()
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let (house, table) = (library(), table());
    let wrong: Vec<String> = house
        .files
        .keys()
        .flat_map(|path| breaches(&house, path, &table))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_names_what_exists_and_has_no_cycle() {
    let table = table();
    let house = library();
    let present: BTreeSet<String> = house
        .files
        .values()
        .filter_map(|room| room.module.first().cloned())
        .collect();
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
    let (house, optional) = (library(), optional());
    let wrong: Vec<String> = house
        .files
        .keys()
        .flat_map(|path| impurities(&house, path, &optional))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_and_the_kernels_rings_live_in_rt_only() {
    let house = library();
    let mut wrong = Vec::new();
    let outside = |module: &[String]| module.first().is_none_or(|module| module != UNSAFE_MODULE);
    for (path, room) in house.files.iter().filter(|(_, room)| outside(&room.module)) {
        wrong.extend(
            room.code
                .unsafe_lines
                .iter()
                .map(|line| format!("{}:{line} is unsafe", path.display())),
        );
        let foreign = house.foreign(room);
        let rings = foreign
            .iter()
            .filter(|(_, named)| UNSAFE_CRATES.contains(&named[0].as_str()));
        wrong.extend(
            rings.map(|(line, named)| format!("{}:{line} names {}", path.display(), named[0])),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let inside = |room: &house::Room| !outside(&room.module) && !room.code.unsafe_lines.is_empty();
    assert!(
        house.files.values().any(inside),
        "the keyword is not seen at all"
    );
}

#[test]
fn every_file_is_part_of_a_crate_or_of_its_tests() {
    for folder in CRATES
        .iter()
        .map(|(folder, _)| folder)
        .collect::<BTreeSet<_>>()
    {
        let texts = texts(folder);
        let mut orphans: BTreeSet<&PathBuf> = texts.keys().collect();
        for (_, root) in CRATES.iter().filter(|(of, _)| of == folder) {
            let house = House::new(&texts, root);
            orphans.retain(|path| {
                !house.files.contains_key(*path) && !house.for_tests.contains(*path)
            });
        }
        assert!(orphans.is_empty(), "{folder}: nothing declares {orphans:?}");
    }
}

#[test]
fn files_import_in_no_circle_but_the_listed_ones() {
    let listed = listed_circles();
    let mut new = 0;
    for (folder, circle, imports) in circles() {
        if !listed.contains(&(folder.clone(), circle.clone())) {
            println!("{folder}: {circle:?}");
            for Import {
                from,
                line,
                to,
                what,
            } in imports
            {
                println!(
                    "    {}:{line} takes {what} from {}",
                    from.display(),
                    to.display()
                );
            }
            new += 1;
        }
    }
    assert_eq!(new, 0, "circles of imports");
}

#[test]
fn every_listed_circle_is_still_there() {
    let found: Vec<_> = circles()
        .into_iter()
        .map(|(folder, circle, _)| (folder, circle))
        .collect();
    for listed in listed_circles() {
        assert!(
            found.contains(&listed),
            "mended, so take it from CIRCLES: {listed:?}"
        );
    }
}

/// How often the sources, tests included, have such a line.
fn lines(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["src", "bench/src", "tools/src"] {
        for (path, text) in texts(folder) {
            let numbered = text.lines().enumerate().filter(|(_, line)| wanted(line));
            found.extend(numbered.map(|(n, _)| format!("{folder}/{}:{}", path.display(), n + 1)));
        }
    }
    found
}

#[track_caller]
fn shrinks(name: &str, left: usize, found: &[String]) {
    assert!(
        found.len() <= left,
        "{} more than {name}: {found:#?}",
        found.len() - left
    );
    assert!(found.len() == left, "mended: set {name} to {}", found.len());
}

#[test]
fn no_comment_sends_the_reader_to_the_module() {
    let found = lines(|line| matches!(line.trim(), "/// See the module." | "//! See the module."));
    shrinks("SEE_THE_MODULE", SEE_THE_MODULE, &found);
}

#[test]
fn no_comment_cites_a_file_that_is_not_in_the_repository() {
    let outside = ["client.md", "peer.md", "design.md"];
    let found = lines(|line| {
        let words = line.split(|c: char| !(c.is_alphanumeric() || "._-".contains(c)));
        words.into_iter().any(|word| outside.contains(&word))
    });
    shrinks("CITES_OUTSIDE", CITES_OUTSIDE, &found);
}

// The table of bounds in ARCHITECTURE.md.

/// Rows of the table: what, bound, at the bound, test.
fn bounds() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(repo().join("ARCHITECTURE.md")).unwrap();
    let (_, behind) = text.split_once("## Bounds").expect("the section");
    let (section, _) = behind.split_once("\n## ").expect("it ends");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.skip(1)
        .map(|row| {
            let cells = row.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// What stands in back quotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_bound_has_its_constant_or_key_and_its_test() {
    let rust: String = texts("src").into_values().collect();
    let kazoo: String = ["test_bounds.py", "test_wire.py"]
        .map(|file| std::fs::read_to_string(repo().join("tests/kazoo").join(file)).unwrap())
        .concat();
    let rows = bounds();
    assert!(rows.len() > 25, "{} rows", rows.len());
    for row in rows {
        let [what, bound, _, test] = &row[..] else {
            panic!("four cells: {row:?}");
        };
        for name in quoted(bound) {
            let name = name.split("::").next().unwrap();
            assert!(rust.contains(name), "{what}: nothing is called {name}");
        }
        let [test] = quoted(test)[..] else {
            panic!("{what}: one test");
        };
        let function = format!("fn {test}(");
        let known = rust.contains(&function) || kazoo.contains(&format!("def {test}("));
        assert!(known, "{what}: there is no test {test}");
    }
}

// The gate itself: what it must see, planted.

#[test]
fn a_use_of_the_server_behind_a_hubs_test_module_is_seen() {
    for hub in ["pipeline", "shard", "tree"].map(hub) {
        for planted in [
            "use crate::server;",
            "use crate::{types::Zxid as Planted, server::{cli, run}};",
            "fn planted() { let _ = crate::server::main(); }",
            "fn planted() { assert!(super::server::main().code() == 0); }",
        ] {
            let house = library_with(&hub, &format!("\n{planted}\n"));
            let wrong = breaches(&house, Path::new(&hub), &table());
            let lines = texts("src")[Path::new(&hub)].lines().count();
            let said = wrong.iter().all(|w| {
                w.starts_with(&format!("{hub}:{}", lines + 2)) && w.ends_with("uses server")
            });
            assert!(!wrong.is_empty() && said, "{planted} in {hub}: {wrong:?}");
        }
    }
}

#[test]
fn a_use_of_the_operating_system_is_seen_however_it_is_written() {
    for planted in [
        "use std::{fs, io};",
        "use std::{io::{self, Write}, time::{Duration, Instant}};",
        "use std::time as planted; fn at() { planted::SystemTime::now(); }",
        "use std::time::{self}; fn at() { time::Instant::now(); }",
        "use std::time::*;",
        "use std::collections::HashMap;",
        "use std::*;",
        "use std as planted;",
        "use ::std::thread;",
        "fn at() { ::std::thread::yield_now() }",
        "fn at() -> Option<std::net::TcpStream> { None }",
        "fn at() { assert_eq!(std::process::id(), 1); }",
        "thread_local! { static PLANTED: u8 = 0; }",
        "fn at() { println!(); }",
        "use glommio::LocalExecutor;",
        "use socket2 as planted;",
        "#[cfg(not(test))] use std::fs;",
        "#[cfg(any(test, feature = \"server\"))] fn at() { std::fs::read(\"\").unwrap(); }",
    ] {
        for file in [hub("tree"), "types.rs".to_owned()] {
            let house = library_with(&file, &format!("\n{planted}\n"));
            let wrong = impurities(&house, Path::new(&file), &optional());
            assert!(!wrong.is_empty(), "{planted} in {file}");
        }
    }
}

#[test]
fn what_is_compiled_for_tests_only_is_left_out() {
    for planted in [
        "#[cfg(test)] mod planted { use std::fs; use crate::server; }",
        "#[cfg(test)] use std::{fs, io};",
        "#[cfg(test)] #[allow(unused)] pub(crate) fn planted() -> Vec<u8> { std::fs::read(\"x\").unwrap() }",
        "#[cfg(all(test, feature = \"server\"))] impl std::net::ToSocketAddrs for Planted { fn x() { crate::server::main(); } }",
        "#[cfg(test)] const PLANTED: fn() -> std::process::ExitCode = { crate::server::main };",
        "#[cfg(test)] const fn planted() { std::process::abort() }",
        "struct Planted { #[cfg(test)] a: Result<std::fs::File, std::process::Child>, b: u8 }",
        "fn planted() { #[cfg(test)] let x = std::fs::read(\"x\"); #[cfg(test)] { std::thread::yield_now(); } }",
        "fn planted() { match 1 { #[cfg(test)] 1 => std::process::abort(), _ => {} } }",
        "#[test] fn planted() { std::thread::yield_now(); }",
        "/// Not `std::fs`, nor [`crate::server`].\nconst PLANTED: &str = \"std::fs crate::server\"; // std::fs",
        "fn planted<'fs>(fs: &'fs str) { let server = fs; server.println(); }",
    ] {
        let house = library_with("types.rs", &format!("\n{planted}\n"));
        assert_eq!(
            breaches(&house, Path::new("types.rs"), &table()),
            [""; 0],
            "{planted}"
        );
        assert_eq!(
            impurities(&house, Path::new("types.rs"), &optional()),
            [""; 0],
            "{planted}"
        );
    }
}

#[test]
fn what_follows_an_item_for_tests_is_read() {
    for before in [
        "#[cfg(test)] mod planted;",
        "#[cfg(test)] use std::{fs, io};",
        "#[cfg(test)] fn planted() -> [u8; 2] { [1, 2] }",
        "#[cfg(test)] impl Planted { fn x() {} }",
        "#[cfg(test)] const PLANTED: Planted = Planted { x: 1 };",
        "#[cfg(test)] struct Planted(u8);",
    ] {
        let mut texts = texts("src");
        *texts.get_mut(Path::new("types.rs")).unwrap() += &format!("\n{before} use crate::log;\n");
        texts.insert("types/planted.rs".into(), "use std::fs;".into());
        let house = House::new(&texts, "lib.rs");
        assert_eq!(
            impurities(&house, Path::new("types.rs"), &optional()),
            [""; 0],
            "{before}"
        );
        assert_eq!(
            breaches(&house, Path::new("types.rs"), &table()).len(),
            1,
            "{before}"
        );
    }
}

/// The circles of a crate of a few files.
fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let texts = files
        .iter()
        .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
        .collect();
    let names = |circle: BTreeSet<PathBuf>| {
        circle
            .iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .collect()
    };
    House::new(&texts, "lib.rs")
        .circles()
        .into_iter()
        .map(names)
        .collect()
}

#[test]
fn a_circle_of_imports_is_seen_however_it_is_written() {
    const HUB: &str = "pub mod a; pub mod b; pub struct Config;";
    for (a, b, hub, circle) in [
        (
            "use super::b::B; pub struct A;",
            "use crate::hub::a::A; pub struct B;",
            HUB,
            "ab",
        ),
        (
            "fn x() { super::b::y() }",
            "pub fn y() { crate::hub::a::z() }",
            HUB,
            "ab",
        ),
        (
            "use crate::hub::{b::{self, y as z}, Config};",
            "use super::*; pub fn y() { a::x() }",
            HUB,
            "ab",
        ),
        // The hub names its child, the child takes from the hub.
        (
            "use super::Config; pub struct A;",
            "",
            "pub mod a; pub mod b; pub struct Config { a: a::A }",
            "ah",
        ),
        (
            "use super::*; pub struct A;",
            "",
            "pub mod a; pub mod b; use a::A; pub struct Config;",
            "ah",
        ),
        (
            "use super::*; pub struct A;",
            "",
            "pub mod a; pub mod b; pub use a::A; fn x(_: A) {}",
            "ah",
        ),
        // Around a corner, and through what the hub passes on.
        (
            "use crate::hub::B; pub struct A;",
            "use super::a::A; pub struct B;",
            "pub mod a; pub mod b; pub use b::B;",
            "ab",
        ),
        (
            "use crate::hub::B; pub struct A;",
            "use super::a::A; pub struct B;",
            "pub mod a; pub mod b; pub use b::*;",
            "ab",
        ),
    ] {
        let found = circles_of(&[
            ("lib.rs", "mod hub;"),
            ("hub/mod.rs", hub),
            ("hub/a.rs", a),
            ("hub/b.rs", b),
        ]);
        let files: Vec<&str> = circle
            .chars()
            .map(|c| ["hub/a.rs", "hub/b.rs", "hub/mod.rs"]["abh".find(c).unwrap()])
            .collect();
        assert_eq!(found, [files], "{a} | {b} | {hub}");
    }
}

#[test]
fn what_a_hub_only_declares_or_passes_on_is_no_circle() {
    for (a, b, hub) in [
        (
            "use super::Config; pub struct A;",
            "",
            "pub mod a; pub mod b; pub struct Config;",
        ),
        (
            "use super::*; pub struct A;",
            "",
            "pub mod a; pub mod b; pub use a::A; pub struct Config;",
        ),
        (
            "use super::B; pub struct A;",
            "pub struct B;",
            "pub mod a; pub mod b; pub use b::B; use a::A; struct C(A);",
        ),
        (
            "use super::b::B;",
            "pub struct B; #[cfg(test)] mod tests { use super::super::a::A; }",
            "pub mod a; pub mod b;",
        ),
        (
            "fn a() { let b = 1; b.a(); Self::b(); }",
            "use super::a;",
            "pub mod a; pub mod b;",
        ),
        (
            "use super::b::Command;",
            "use std::process::Command; fn a() { Command::a() }",
            "pub mod a; pub mod b;",
        ),
    ] {
        let found = circles_of(&[
            ("lib.rs", "mod hub;"),
            ("hub/mod.rs", hub),
            ("hub/a.rs", a),
            ("hub/b.rs", b),
        ]);
        assert!(found.is_empty(), "{a} | {b} | {hub}: {found:?}");
    }
}
