//! The files of one crate, and which of them names what of which.

use crate::tokens::{Code, Kind, Named};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

/// Imports through imports end somewhere; a path that is still not found after so many is nobody's.
const HOPS: usize = 16;

/// A module: the names of the modules around it, its own last. The crate's root is empty.
pub type Module = Vec<String>;

/// The production code of one crate.
pub struct House {
    /// By path below the crate's source folder.
    pub files: BTreeMap<PathBuf, Room>,
    modules: BTreeMap<Module, PathBuf>,
    /// Files that `#[cfg(test)] mod …;` declares, and what those declare.
    pub for_tests: BTreeSet<PathBuf>,
}

/// One file.
pub struct Room {
    pub module: Module,
    pub code: Arc<Code>,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An item of this crate, in the module that defines it (none: the module itself is named).
    Here {
        module: Module,
        item: Option<String>,
    },
    /// A path into another crate, its own name first.
    Elsewhere(Vec<String>),
}

/// An import: the file that names something, the line, and what it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: PathBuf,
    pub line: usize,
    pub to: PathBuf,
    pub what: String,
}

/// A text's code; each text is parsed once.
fn parsed(text: &str) -> Arc<Code> {
    static PARSED: LazyLock<Mutex<BTreeMap<String, Arc<Code>>>> = LazyLock::new(Mutex::default);
    if let Some(code) = PARSED.lock().unwrap().get(text) {
        return Arc::clone(code);
    }
    let code = Arc::new(Code::of(text));
    PARSED
        .lock()
        .unwrap()
        .insert(text.to_owned(), Arc::clone(&code));
    code
}

impl House {
    /// The modules that `root` declares, and those that they declare.
    ///
    /// # Panics
    /// If a declared file is missing.
    pub fn new(texts: &BTreeMap<PathBuf, String>, root: &str) -> Self {
        let mut house = Self {
            files: BTreeMap::new(),
            modules: BTreeMap::new(),
            for_tests: BTreeSet::new(),
        };
        house.add(texts, Path::new(root), Vec::new(), false);
        house
    }

    fn add(
        &mut self,
        texts: &BTreeMap<PathBuf, String>,
        file: &Path,
        module: Module,
        for_tests: bool,
    ) {
        let text = texts
            .get(file)
            .unwrap_or_else(|| panic!("{} is missing", file.display()));
        let code = parsed(text);
        let folder = file.parent().unwrap();
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let below = match stem {
            "lib" | "main" | "mod" => folder.to_owned(),
            stem => folder.join(stem),
        };
        for declared in &code.modules {
            let name = [
                &module[..],
                &declared.inside,
                std::slice::from_ref(&declared.name),
            ]
            .concat();
            if declared.inline {
                if !declared.for_tests && !for_tests {
                    self.modules.insert(name, file.to_owned());
                }
                continue;
            }
            let folder = declared
                .inside
                .iter()
                .fold(below.clone(), |folder, part| folder.join(part));
            let flat = folder.join(format!("{}.rs", declared.name));
            let nested = folder.join(&declared.name).join("mod.rs");
            let place = if texts.contains_key(&flat) {
                flat
            } else {
                nested
            };
            self.add(texts, &place, name, for_tests || declared.for_tests);
        }
        if for_tests {
            self.for_tests.insert(file.to_owned());
        } else {
            self.modules.insert(module.clone(), file.to_owned());
            self.files.insert(file.to_owned(), Room { module, code });
        }
    }

    /// What a path leads to from where it stands; none for a local name, a variable or a prelude's.
    pub fn target(&self, room: &Room, named: &Named) -> Option<Target> {
        let module = [&room.module[..], &named.inside].concat();
        // An import does not bind the name that it begins with.
        let importing = matches!(named.kind, Kind::Import { .. });
        self.follow(&module, &named.segments, importing, HOPS)
    }

    fn follow(
        &self,
        module: &[String],
        segments: &[String],
        importing: bool,
        hops: usize,
    ) -> Option<Target> {
        let hops = hops.checked_sub(1)?;
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => self.enter(&[], rest, hops),
            "self" => self.enter(module, rest, hops),
            "super" => self.enter(&module[..module.len().checked_sub(1)?], rest, hops),
            "Self" => None,
            name => {
                let mut child = module.to_vec();
                child.push(first.clone());
                if self.modules.contains_key(&child) {
                    return self.enter(module, segments, hops);
                }
                let bound = self
                    .bound(module, name)
                    .filter(|path| !importing || path[0] != *first);
                if let Some(path) = bound {
                    return self.follow(module, &[path, rest].concat(), true, hops);
                }
                if self.declares(module, name) {
                    return (!module.is_empty()).then(|| Target::Here {
                        module: module.to_vec(),
                        item: Some(first.clone()),
                    });
                }
                // A single word in small letters is a variable more often than a function.
                let word = rest.is_empty() && !name.starts_with(char::is_uppercase);
                for glob in self.globs(module) {
                    if let Some(Target::Here { module, item: None }) =
                        self.follow(module, glob, true, hops)
                        && !word
                        && self.knows(&module, name)
                    {
                        return self.enter(&module, segments, hops);
                    }
                }
                let crate_like = name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                (crate_like && !rest.is_empty() || importing)
                    .then(|| Target::Elsewhere(segments.to_vec()))
            }
        }
    }

    /// Follows names down from a module, through what that module imports.
    fn enter(&self, module: &[String], names: &[String], hops: usize) -> Option<Target> {
        let mut module = module.to_vec();
        for (n, name) in names.iter().enumerate() {
            if name == "super" {
                module.pop()?;
                continue;
            }
            let mut child = module.clone();
            child.push(name.clone());
            if self.modules.contains_key(&child) {
                module = child;
                continue;
            }
            let hops = hops.checked_sub(1)?;
            if !self.declares(&module, name) {
                if let Some(path) = self.bound(&module, name) {
                    return self.follow(&module, &[path, &names[n + 1..]].concat(), true, hops);
                }
                for glob in self.globs(&module) {
                    if let Some(Target::Here { module, item: None }) =
                        self.follow(&module, glob, true, hops)
                        && self.declares(&module, name)
                    {
                        return Some(Target::Here {
                            module,
                            item: Some(name.clone()),
                        });
                    }
                }
            }
            return Some(Target::Here {
                module,
                item: Some(name.clone()),
            });
        }
        Some(Target::Here { module, item: None })
    }

    /// The part of its file's code that a module is.
    fn code(&self, module: &[String]) -> Option<(&Code, Module)> {
        let room = &self.files[self.modules.get(module)?];
        Some((&room.code, module[room.module.len()..].to_vec()))
    }

    fn bound(&self, module: &[String], name: &str) -> Option<&[String]> {
        let (code, inside) = self.code(module)?;
        Some(code.bound.get(&inside)?.get(name)?)
    }

    fn globs(&self, module: &[String]) -> &[Vec<String>] {
        let globs = self
            .code(module)
            .and_then(|(code, inside)| code.globs.get(&inside));
        globs.map_or(&[], |globs| globs)
    }

    fn declares(&self, module: &[String], name: &str) -> bool {
        let items = self
            .code(module)
            .and_then(|(code, inside)| code.items.get(&inside));
        items.is_some_and(|items| items.contains(name))
    }

    /// Whether a module has something of this name: a module, an import or an item.
    fn knows(&self, module: &[String], name: &str) -> bool {
        let child = [module, &[name.to_owned()]].concat();
        self.modules.contains_key(&child)
            || self.bound(module, name).is_some()
            || self.declares(module, name)
    }

    /// What every file names of the other files.
    ///
    /// A `mod` item is no import. Nor is `pub use child::Thing` in a hub that does not name `Thing`
    /// itself: who takes `Thing` from the hub depends on the child alone. A name that a child takes
    /// from its hub's own code is one, and so is a glob.
    pub fn imports(&self) -> Vec<Import> {
        let mut found = Vec::new();
        for (file, room) in &self.files {
            for named in &room.code.named {
                let passed_on = matches!(named.kind, Kind::Import { public: true, .. });
                let glob = matches!(named.kind, Kind::Import { binds: None, .. });
                let Some(Target::Here { module, item }) = self.target(room, named) else {
                    continue;
                };
                if passed_on || (item.is_none() && !glob) {
                    continue;
                }
                let to = &self.modules[&module];
                if to != file {
                    found.push(Import {
                        from: file.clone(),
                        line: named.line,
                        to: to.clone(),
                        what: named.segments.join("::") + if glob { "::*" } else { "" },
                    });
                }
            }
        }
        found
    }

    /// Sets of files that import each other, directly or around a corner: none, in a house in order.
    pub fn circles(&self) -> Vec<BTreeSet<PathBuf>> {
        let mut next: BTreeMap<&PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for file in self.files.keys() {
            next.insert(file, BTreeSet::new());
        }
        for import in self.imports() {
            next.get_mut(&import.from).unwrap().insert(import.to);
        }
        let reached = |from: &PathBuf| {
            let mut seen = BTreeSet::new();
            let mut open: Vec<&PathBuf> = next[from].iter().collect();
            while let Some(file) = open.pop() {
                if seen.insert(file.clone()) {
                    open.extend(&next[file]);
                }
            }
            seen
        };
        let reach: BTreeMap<&PathBuf, BTreeSet<PathBuf>> =
            next.keys().map(|file| (*file, reached(file))).collect();
        let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
        for (file, seen) in &reach {
            if !seen.contains(*file) || circles.iter().any(|circle| circle.contains(*file)) {
                continue;
            }
            let circle = seen
                .iter()
                .filter(|other| reach[other].contains(*file))
                .cloned()
                .collect();
            circles.push(circle);
        }
        circles
    }

    /// What a file names of other crates, in full: line, path. Globs end in `*`.
    pub fn foreign(&self, room: &Room) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        for named in &room.code.named {
            match self.target(room, named) {
                Some(Target::Elsewhere(mut path)) => {
                    if matches!(named.kind, Kind::Import { binds: None, .. }) {
                        path.push("*".to_owned());
                    }
                    found.push((named.line, path));
                }
                // A macro of the standard library's.
                None if named.segments.len() == 1 => {
                    found.push((named.line, named.segments.clone()))
                }
                _ => {}
            }
        }
        found
    }
}
