//! Quotas (docs/protocol.md §7): which paths have one, and what their nodes say, as numbers.
//!
//! A quota on the path P is made of two ordinary nodes, `/zookeeper/quota` + P + `/zookeeper_limits` and
//! `/zookeeper_stats`. The first one registers P while it is there; `totals` keeps the second one.
//!
//! A text is read once, when a client has written it. The text of totals is written when somebody looks at it: until
//! then the data of its node is an older text of the same length, so that whatever counts bytes is right without it.

use super::allocated::{payload, shared};
use crate::txn::jute;
use crate::types::DetHashMap;
use core::fmt::{self, Write};
use core::hash::Hash;
use hashbrown::Equivalent;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

pub(super) const QUOTAS: &str = "/zookeeper/quota";
pub(super) const LIMITS: &str = "zookeeper_limits";
pub(super) const STATS: &str = "zookeeper_stats";

/// Bytes of a text of limits or totals that is read; a longer one is taken for one that is malformed. Anybody may
/// write it, and what else is in a text of totals is kept with them; two totals and two limits need half of this.
pub(super) const TEXT_MAX: usize = 256;

/// Names on the way to a quota that are looked up for one step.
pub(super) const NAMES_PER_STEP: usize = 32;

/// A table is made smaller when it has room for more than so many times what it holds.
const ROOM: usize = 4;

/// The path whose quota the node `name` belongs to: empty for the root, or beginning with a slash.
pub(super) fn path_of<'p>(node: &'p str, name: &str) -> Option<&'p str> {
    let path = node.strip_prefix(QUOTAS)?.strip_suffix(name)?;
    let path = path.strip_suffix('/')?;
    (path.is_empty() || path.starts_with('/')).then_some(path)
}

/// The names of a path; Apache leaves out those that are blank.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let names = path.split('/');
    names.filter(|name| name.contains(|c: char| c > ' '))
}

/// A name on the way to a registered path.
#[derive(Clone, Debug)]
struct Name {
    parent: u32,
    name: Arc<str>,
    /// Names below it.
    below: u32,
    /// Nodes of limits that register it: names that are blank are left out, so several may.
    holders: u32,
    /// Of a registered path: the path.
    quota: Option<Arc<str>>,
}

/// The root of the names, which is none itself.
const TOP: u32 = 0;

/// A name below a name.
type Place = (u32, Arc<str>);

/// A place that is looked up.
#[derive(Hash)]
struct Asked<'a>(u32, &'a str);

impl Equivalent<Place> for Asked<'_> {
    fn equivalent(&self, (parent, name): &Place) -> bool {
        (self.0, self.1) == (*parent, &**name)
    }
}

/// The registered paths, and the limits and totals of all. What is registered depends on the nodes that there are,
/// and not on the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Quotas {
    places: DetHashMap<Place, u32>,
    names: DetHashMap<u32, Name>,
    /// The number of the last name.
    last: u32,
    /// Of each path with a node of limits; `None`: its text can't be read.
    limits: DetHashMap<Arc<str>, Option<Limits>>,
    /// Of each path with a node of totals, where they are in `kept`.
    totals: DetHashMap<Arc<str>, u32>,
    kept: Pages,
    /// Bytes beside the tables and the pages: names, paths, texts.
    beside: usize,
    /// Work that was not paid for yet.
    steps: usize,
}

/// The quota that a path is under, if there is one.
pub(super) struct Over<'a> {
    pub(super) quota: Option<&'a Arc<str>>,
    /// What the search has cost beyond the step of the operation itself.
    pub(super) steps: usize,
}

/// What came of adding to totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// There is no node for them, or its text has the length that its data has.
    Done,
    /// The node needs another text, because the length changes.
    OtherLength,
    /// They can't be read.
    Unreadable,
}

impl Quotas {
    /// Whether no path is registered.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Bytes of memory, without the pages that only a snapshot holds.
    pub(super) fn bytes(&self) -> usize {
        self.places.allocation_size()
            + self.names.allocation_size()
            + self.limits.allocation_size()
            + self.totals.allocation_size()
            + self.kept.bytes()
            + self.beside
    }

    /// Registers a path; the root can't be.
    ///
    /// Steps: its names.
    fn add(&mut self, path: &str) {
        self.steps += names(path).count() / NAMES_PER_STEP;
        let mut at = TOP;
        for name in names(path) {
            let found = self.places.get(&Asked(at, name)).copied();
            at = found.unwrap_or_else(|| self.add_name(at, name));
        }
        let Some(last) = self.names.get_mut(&at) else {
            return;
        };
        last.holders += 1;
        if last.quota.is_none() {
            let path: String = names(path).flat_map(|name| ["/", name]).collect();
            self.beside += shared(path.len());
            last.quota = Some(path.into());
        }
    }

    fn add_name(&mut self, parent: u32, name: &str) -> u32 {
        // A number is used again only when all others were: there are fewer names than nodes.
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != TOP && !self.names.contains_key(&self.last) {
                break;
            }
        }
        let (at, name) = (self.last, Arc::<str>::from(name));
        self.beside += shared(name.len());
        self.places.insert((parent, name.clone()), at);
        if let Some(above) = self.names.get_mut(&parent) {
            above.below += 1;
        }
        let name = Name {
            parent,
            name,
            below: 0,
            holders: 0,
            quota: None,
        };
        self.names.insert(at, name);
        at
    }

    /// Takes a path away when nothing else registers it, with the names that lead to no other.
    ///
    /// Steps: its names.
    fn remove(&mut self, path: &str) {
        self.steps += names(path).count() / NAMES_PER_STEP;
        let mut at = TOP;
        for name in names(path) {
            let Some(found) = self.places.get(&Asked(at, name)) else {
                return;
            };
            at = *found;
        }
        let Some(last) = self.names.get_mut(&at) else {
            return;
        };
        last.holders = last.holders.saturating_sub(1);
        if last.holders > 0 {
            return;
        }
        let path = last.quota.take();
        self.beside -= path.map_or(0, |path| shared(path.len()));
        while let Some(Name {
            below: 0,
            quota: None,
            parent,
            name,
            ..
        }) = self.names.get(&at)
        {
            let (parent, name) = (*parent, name.clone());
            self.names.remove(&at);
            self.places.remove(&Asked(parent, &name));
            self.beside -= shared(name.len());
            at = parent;
            if let Some(above) = self.names.get_mut(&at) {
                above.below -= 1;
            }
        }
        give_back(&mut self.names);
        give_back(&mut self.places);
    }

    /// The deepest registered path at or above a path.
    ///
    /// Steps: [`Over::steps`], one for so many names of the path ([`NAMES_PER_STEP`]), as far as quotas go down.
    pub(super) fn over(&self, path: &str) -> Over<'_> {
        let (mut at, mut deepest, mut looked_up) = (TOP, None, 0);
        let below = if self.is_empty() { "" } else { path };
        for name in names(below) {
            looked_up += 1;
            let Some(found) = self.places.get(&Asked(at, name)) else {
                break;
            };
            at = *found;
            let quota = self.names.get(found).and_then(|name| name.quota.as_ref());
            deepest = quota.or(deepest);
        }
        Over {
            quota: deepest,
            steps: looked_up / NAMES_PER_STEP,
        }
    }

    /// Work was done for which the step of the operation itself does not pay.
    pub(super) fn spend(&mut self, steps: usize) {
        self.steps += steps;
    }

    /// What was spent since the last call.
    pub(super) fn take_steps(&mut self) -> usize {
        std::mem::take(&mut self.steps)
    }

    /// All registered paths, sorted.
    pub(super) fn registered(&self) -> Vec<Arc<str>> {
        let paths = self.names.values().filter_map(|name| name.quota.clone());
        let mut paths: Vec<Arc<str>> = paths.collect();
        paths.sort();
        paths
    }

    /// A node of limits has been created, with this text; it registers the path.
    pub(super) fn limit(&mut self, path: &str, text: Option<&[u8]>) {
        self.add(path);
        self.beside += shared(path.len());
        self.limits.insert(path.into(), Limits::parse(text));
    }

    /// The text of a node of limits has been replaced.
    pub(super) fn limit_again(&mut self, path: &str, text: Option<&[u8]>) {
        if let Some(limits) = self.limits.get_mut(path) {
            *limits = Limits::parse(text);
        }
    }

    /// A node has been deleted.
    pub(super) fn node_gone(&mut self, node: &str) {
        if let Some(of) = path_of(node, LIMITS) {
            self.unlimit(of);
        }
        if let Some(of) = path_of(node, STATS) {
            self.untrack(of);
        }
    }

    /// A node of limits has been deleted.
    fn unlimit(&mut self, path: &str) {
        if self.limits.remove(path).is_some() {
            self.beside -= shared(path.len());
            give_back(&mut self.limits);
            self.remove(path);
        }
    }

    /// The limits of a registered path; `None`: there are none that can be read.
    pub(super) fn limits(&self, path: &str) -> Option<Limits> {
        self.limits.get(path).copied().flatten()
    }

    /// There is a node of totals, with this text.
    pub(super) fn track(&mut self, path: &str, text: Option<&[u8]>) {
        let len = text.map_or(0, <[u8]>::len);
        let read = Totals::parse(text).map(|totals| Read {
            is_own: text == Some(totals.text().as_bytes()),
            totals,
            len,
            shown: None,
        });
        let at = self.totals.get(path).copied().unwrap_or_else(|| {
            let path = Arc::<str>::from(path);
            self.beside += shared(path.len());
            let at = self.kept.push(Kept::new(path.clone()));
            self.totals.insert(path, at);
            at
        });
        self.change(at, |kept| kept.read = read);
    }

    /// A node of totals has been deleted.
    fn untrack(&mut self, path: &str) {
        let Some(at) = self.totals.remove(path) else {
            return;
        };
        let (gone, moved) = self.kept.swap_remove(at);
        self.beside -= shared(path.len()) + gone.beside();
        if let Some(moved) = moved
            && let Some(place) = self.totals.get_mut(&moved)
        {
            *place = at;
        }
        give_back(&mut self.totals);
    }

    /// The totals of a path, where it has a node for them; `Some(None)`: their text can't be read.
    pub(super) fn totals(&self, path: &str) -> Option<Option<&Totals>> {
        let kept = self.kept.get(*self.totals.get(path)?);
        Some(kept.read.as_ref().map(|read| &read.totals))
    }

    /// Adds to the totals of a path. What else is in a text that would become too long is forgotten.
    pub(super) fn add_to(&mut self, path: &str, nodes: i64, bytes: i64) -> Added {
        let Some(&at) = self.totals.get(path) else {
            return Added::Done;
        };
        match &self.kept.get(at).read {
            None => return Added::Unreadable,
            Some(read) if read.is_own && (nodes, bytes) == (0, 0) => return Added::Done,
            Some(_) => {}
        }
        self.change(at, |kept| {
            let Some(read) = &mut kept.read else {
                return Added::Unreadable;
            };
            let totals = &mut read.totals;
            totals.count = totals.count.wrapping_add(nodes);
            totals.bytes = totals.bytes.wrapping_add(bytes);
            if totals.len() > TEXT_MAX {
                // It could not be read again.
                totals.rest = Arc::default();
            }
            (read.is_own, read.shown) = (true, Some(OnceLock::new()));
            match read.totals.len() == read.len {
                true => Added::Done,
                false => Added::OtherLength,
            }
        })
    }

    /// Replaces the totals of a path, whatever they were; its node needs their text.
    pub(super) fn replace(&mut self, path: &str, count: i64, bytes: i64) {
        if let Some(&at) = self.totals.get(path) {
            self.change(at, |kept| {
                kept.read = Some(Read {
                    totals: Totals::new(count, bytes),
                    is_own: true,
                    len: 0,
                    shown: None,
                });
            });
        }
    }

    /// The text of the totals of a path, which their node gets now.
    pub(super) fn write(&mut self, path: &str) -> Option<Arc<[u8]>> {
        let at = *self.totals.get(path)?;
        self.change(at, |kept| {
            let read = kept.read.as_mut()?;
            let text = read.totals.text().into_bytes();
            (read.is_own, read.len, read.shown) = (true, text.len(), None);
            Some(text.into())
        })
    }

    /// Changes what is kept of a path, and counts what it takes.
    fn change<T>(&mut self, at: u32, change: impl FnOnce(&mut Kept) -> T) -> T {
        let kept = self.kept.get_mut(at);
        let before = kept.beside();
        let done = change(kept);
        self.beside = self.beside + kept.beside() - before;
        done
    }

    /// The text that a node shows, where its data is an older one.
    ///
    /// Steps: one; the text is made for the first who looks.
    pub(super) fn shown(&self, node: &str) -> Option<&Arc<[u8]>> {
        if self.totals.is_empty() {
            return None;
        }
        let kept = self.kept.get(*self.totals.get(path_of(node, STATS)?)?);
        let read = kept.read.as_ref()?;
        let shown = read.shown.as_ref()?;
        Some(shown.get_or_init(|| read.totals.text().into_bytes().into()))
    }

    /// All totals as they are now.
    ///
    /// Steps: one for each page, and one for each that changes as long as this is held.
    pub(super) fn all_totals(&self) -> Pages {
        self.kept.clone()
    }
}

/// Gives back the room that a table has held.
fn give_back<K: Eq + Hash, V>(table: &mut DetHashMap<K, V>) {
    if table.capacity() > ROOM * table.len() {
        table.shrink_to(2 * table.len());
    }
}

/// What is kept of a path with a node of totals.
#[derive(Clone, Debug)]
struct Kept {
    path: Arc<str>,
    /// `None`: the text can't be read.
    read: Option<Read>,
}

/// Totals that were read once.
#[derive(Clone, Debug)]
struct Read {
    totals: Totals,
    /// The node shows the text that is written of them, and not another one of a client's that says the same.
    is_own: bool,
    /// Bytes of the data of their node.
    len: usize,
    /// The data is an older text: this is the right one, once somebody has looked.
    shown: Option<OnceLock<Arc<[u8]>>>,
}

impl Kept {
    fn new(path: Arc<str>) -> Kept {
        Kept { path, read: None }
    }

    /// Bytes beside the pages and the path, as if somebody had looked.
    fn beside(&self) -> usize {
        let read = self.read.as_ref();
        read.map_or(0, |read| {
            payload(read.totals.rest.len()) + payload(read.len)
        })
    }
}

/// What is kept together, and copied together.
const PAGE: usize = 64;
type Page = [Option<Kept>; PAGE];

/// What is kept of all paths, by number, without a hole. A copy takes one counter for each page; a page that changes
/// while a copy has it is copied then.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: Vec<Arc<Page>>,
    len: usize,
}

fn split(at: u32) -> (usize, usize) {
    (at as usize / PAGE, at as usize % PAGE)
}

impl Pages {
    fn get(&self, at: u32) -> &Kept {
        let (page, place) = split(at);
        let kept = self.pages[page][place].as_ref();
        kept.expect("a number that was given")
    }

    fn get_mut(&mut self, at: u32) -> &mut Kept {
        let (page, place) = split(at);
        let kept = Arc::make_mut(&mut self.pages[page])[place].as_mut();
        kept.expect("a number that was given")
    }

    /// Returns its number.
    fn push(&mut self, kept: Kept) -> u32 {
        // Each is of a node of its own, and nodes are numbered by four bytes.
        let at = self.len as u32;
        let (page, place) = split(at);
        if page == self.pages.len() {
            self.pages.push(Arc::new([const { None }; PAGE]));
        }
        Arc::make_mut(&mut self.pages[page])[place] = Some(kept);
        self.len += 1;
        at
    }

    /// Takes one away; the last one gets its number. Returns the path of that, if it is another.
    fn swap_remove(&mut self, at: u32) -> (Kept, Option<Arc<str>>) {
        self.len -= 1;
        let (page, place) = split(self.len as u32);
        let last = Arc::make_mut(&mut self.pages[page])[place].take();
        let last = last.expect("there is one at each number");
        if place == 0 {
            self.pages.pop();
        }
        if at as usize == self.len {
            return (last, None);
        }
        let moved = last.path.clone();
        let gone = std::mem::replace(self.get_mut(at), last);
        (gone, Some(moved))
    }

    fn bytes(&self) -> usize {
        self.pages.len() * shared(size_of::<Page>())
    }

    /// The texts of those whose text is written of the totals, by the path: what else a node shows, a client has set.
    ///
    /// Steps: all.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        let all = self.pages.iter().flat_map(|page| page.iter().flatten());
        all.filter_map(|kept| {
            let read = kept.read.as_ref().filter(|read| read.is_own)?;
            Some((&*kept.path, read.totals.text()))
        })
    }
}

/// The totals of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) count: i64,
    pub(super) bytes: i64,
    /// What else a client has written into them, as it is in the text.
    rest: Arc<str>,
}

impl Totals {
    fn new(count: i64, bytes: i64) -> Totals {
        let rest = Arc::default();
        Totals { count, bytes, rest }
    }

    fn parse(text: Option<&[u8]>) -> Option<Totals> {
        let track = Track::parse(text)?;
        let mut rest = String::new();
        let is_total = |name: &&String| matches!(name.as_str(), "count" | "bytes");
        let others = track.0.iter().filter(|(name, _)| !is_total(name));
        for (nth, (name, value)) in others.enumerate() {
            let mark = if nth == 0 { "=" } else { "" };
            write!(rest, "{mark};{name}={value}").expect("a string takes all");
        }
        Some(Totals {
            count: track.get("count"),
            bytes: track.get("bytes"),
            rest: rest.into(),
        })
    }

    /// The two totals first, and what older servers can't read behind a further `=`.
    fn text(&self) -> String {
        let Totals { count, bytes, rest } = self;
        format!("count={count},bytes={bytes}{rest}")
    }

    /// Bytes of the text.
    fn len(&self) -> usize {
        const NAMES: usize = "count=,bytes=".len();
        NAMES + digits(self.count) + digits(self.bytes) + self.rest.len()
    }
}

/// Bytes of a number, with its sign.
fn digits(number: i64) -> usize {
    let digits = number.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(number < 0)
}

/// The limits of a quota; one below 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) count: i64,
    pub(super) bytes: i64,
    pub(super) count_hard: i64,
    pub(super) bytes_hard: i64,
}

impl Limits {
    fn parse(text: Option<&[u8]>) -> Option<Limits> {
        let track = Track::parse(text)?;
        Some(Limits {
            count: track.get("count"),
            bytes: track.get("bytes"),
            count_hard: track.get("countHardLimit"),
            bytes_hard: track.get("byteHardLimit"),
        })
    }
}

/// A text of limits or totals: numbers by name, as `count=4,bytes=5=;byteHardLimit=10;countHardLimit=10`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Track(BTreeMap<String, i64>);

impl Track {
    /// What a text says; `None` if it is malformed or null, or too long. Java's `split` drops what is empty at the end.
    fn parse(text: Option<&[u8]>) -> Option<Track> {
        let text = text.filter(|text| text.len() <= TEXT_MAX)?;
        let text = jute::text(text);
        let is_comma = |c: char| matches!(c, ',' | ';');
        let text = text.trim_end_matches(is_comma);
        let mut track = Track::default();
        // What is before a comma at the beginning is a pair without a name.
        let (first, rest) = text.split_once(is_comma).unwrap_or((text, ""));
        let rest = rest.split(is_comma).filter(|pair| !pair.is_empty());
        for pair in std::iter::once(first).chain(rest) {
            if text.is_empty() {
                break;
            }
            let mut parts = pair.trim_end_matches('=').split('=');
            let (name, value) = (parts.next()?, parts.next()?);
            let value = match value {
                "" => -1,
                value => value.parse().ok()?,
            };
            track.0.insert(name.to_owned(), value);
        }
        Some(track)
    }

    /// −1 where the text does not say.
    fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(-1)
    }
}

/// A limit that a request exceeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverQuota {
    /// The path that has the quota.
    pub path: Arc<str>,
    /// What is counted.
    pub what: &'static str,
    /// What the total would be.
    pub then: i64,
    /// What it may be.
    pub limit: i64,
    /// Whether the request is refused.
    pub is_hard: bool,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OverQuota {
            path,
            what,
            then,
            limit,
            is_hard,
        } = self;
        let kind = if *is_hard { "hard" } else { "soft" };
        write!(
            f,
            "the quota of {path} is exceeded: {what} {then}, {kind} limit {limit}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn parse(text: &str) -> Option<Vec<(String, i64)>> {
        Some(Track::parse(Some(text.as_bytes()))?.0.into_iter().collect())
    }

    /// What Java's parser makes of a text: read off `StatsTrack` of 3.9.5.
    #[test]
    fn texts_are_read_as_apache_reads_them() {
        for (text, due) in [
            ("", Some(&[][..])),
            (",;,", Some(&[])),
            ("count=4,bytes=5", Some(&[("bytes", 5), ("count", 4)])),
            (
                "count=4,bytes=5=;byteHardLimit=7;countHardLimit=-1",
                Some(&[
                    ("byteHardLimit", 7),
                    ("bytes", 5),
                    ("count", 4),
                    ("countHardLimit", -1),
                ]),
            ),
            ("count=1;;,count=2,", Some(&[("count", 2)])),
            ("count==1", Some(&[("count", -1)])),
            ("count=+3=4", Some(&[("count", 3)])),
            ("=5", Some(&[("", 5)])),
            ("count=", None),
            ("count", None),
            ("=", None),
            (",count=1", None),
            ("count=x", None),
            ("count= 1", None),
            ("count=9223372036854775808", None),
        ] {
            let due = due.map(|due| {
                let owned = due.iter().map(|(name, value)| ((*name).to_owned(), *value));
                owned.collect::<Vec<_>>()
            });
            assert_eq!(parse(text), due, "{text:?}");
        }
        assert_eq!(Track::parse(None), None);
    }

    #[test]
    fn texts_are_written_with_the_totals_first() {
        for (text, due) in [
            ("", "count=-1,bytes=-1"),
            ("bytes=5,count=4", "count=4,bytes=5"),
            ("z=1;a=2;count=3", "count=3,bytes=-1=;a=2;z=1"),
        ] {
            let totals = Totals::parse(Some(text.as_bytes())).unwrap();
            let written = totals.text();
            assert_eq!((written.as_str(), totals.len()), (due, due.len()));
            assert!(parse(&written).is_some());
        }
    }

    #[test]
    fn a_text_that_is_read_has_a_bound() {
        let text = |len: usize| format!("{}=1", "k".repeat(len - 2));
        assert!(parse(&text(TEXT_MAX)).is_some());
        assert!(parse(&text(TEXT_MAX + 1)).is_none());
    }

    #[test]
    fn nodes_of_quotas_are_those_below_the_quota_node() {
        for (node, due) in [
            ("/zookeeper/quota/a/zookeeper_limits", Some("/a")),
            ("/zookeeper/quota/a/b/zookeeper_limits", Some("/a/b")),
            ("/zookeeper/quota/zookeeper_limits", Some("")),
            ("/zookeeper/quotas/zookeeper_limits", None),
            ("/zookeeper/zookeeper_limits", None),
            ("/zookeeper/quota/a/x-zookeeper_limits", None),
            ("/zookeeper/quota/a/zookeeper_limits/b", None),
            ("/zookeeper/quota/a/zookeeper_stats", None),
            ("/a/zookeeper_limits", None),
        ] {
            assert_eq!(path_of(node, LIMITS), due, "{node}");
        }
    }

    fn any_path() -> impl Strategy<Value = String> {
        let name = proptest::sample::select(vec!["a", "b", "ab", " "]);
        let names = proptest::collection::vec(name, 0..4);
        names.prop_map(|names| names.iter().flat_map(|name| ["/", name]).collect())
    }

    proptest! {
        #[test]
        fn the_deepest_of_all_registered_paths_counts(
            steps in proptest::collection::vec((any_path(), any::<bool>()), 0..20),
            probes in proptest::collection::vec(any_path(), 1..8),
        ) {
            let (mut quotas, mut nodes) = (Quotas::default(), BTreeSet::new());
            for (path, add) in steps {
                // A node is created once, and deleted once.
                match add {
                    true if nodes.insert(path.clone()) => quotas.limit(&path, None),
                    false if nodes.remove(&path) => quotas.unlimit(&path),
                    _ => continue,
                }
                let names = |path: &String| names(path).map(str::to_owned).collect::<Vec<String>>();
                let mut model: BTreeSet<_> = nodes.iter().map(names).collect();
                model.remove(&Vec::new());
                for probe in &probes {
                    let own: Vec<String> = super::names(probe).map(str::to_owned).collect();
                    let above = model.iter().filter(|path| own.starts_with(path));
                    let due = above.max_by_key(|path| path.len());
                    let due = due.map(|names| format!("/{}", names.join("/")));
                    let found = quotas.over(probe).quota;
                    prop_assert_eq!(found.map(|path| path.to_string()), due);
                }
                prop_assert_eq!(quotas.is_empty(), model.is_empty());
                prop_assert_eq!(quotas.bytes() == 0, nodes.is_empty());
                let registered = quotas.names.values().filter(|name| name.quota.is_some());
                prop_assert_eq!(registered.count(), model.len());
            }
        }

        /// Paths come and go, so that numbers move, and what was copied stays as it was.
        #[test]
        fn totals_are_of_their_own_path_and_a_copy_does_not_change(
            steps in proptest::collection::vec((0..3 * PAGE, 0..4u32), 0..600),
            copies in proptest::collection::vec(0..600usize, 0..4),
        ) {
            let (mut quotas, mut model, mut copied) = (Quotas::default(), BTreeMap::new(), Vec::new());
            let texts = |pages: &Pages| {
                let texts = pages.texts().map(|(path, text)| (path.to_owned(), text));
                texts.collect::<BTreeMap<String, String>>()
            };
            for (nth, (path, kind)) in steps.into_iter().enumerate() {
                let path = format!("/{path}");
                match kind {
                    0 => {
                        quotas.untrack(&path);
                        model.remove(&path);
                    }
                    1 => {
                        quotas.track(&path, Some(b"count=1,bytes=2"));
                        model.insert(path, (1, 2));
                    }
                    _ => {
                        quotas.add_to(&path, 1, 10);
                        if let Some((count, bytes)) = model.get_mut(&path) {
                            (*count, *bytes) = (*count + 1, *bytes + 10);
                        }
                    }
                }
                if copies.contains(&nth) {
                    copied.push((quotas.all_totals(), model.clone()));
                }
                prop_assert_eq!(quotas.bytes() == 0, model.is_empty());
            }
            copied.push((quotas.all_totals(), model));
            for (pages, model) in &copied {
                let due = model.iter().map(|(path, (count, bytes))| {
                    (path.clone(), format!("count={count},bytes={bytes}"))
                });
                prop_assert_eq!(texts(pages), due.collect::<BTreeMap<_, _>>());
                prop_assert_eq!(pages.pages.len(), model.len().div_ceil(PAGE));
            }
        }

        #[test]
        fn no_text_panics(text in "[a-z0-9=,;+-]{0,30}|\\PC{0,12}", more in any::<i64>()) {
            let Some(mut totals) = Totals::parse(Some(text.as_bytes())) else {
                return Ok(());
            };
            totals.count = totals.count.wrapping_add(more);
            let written = totals.text();
            prop_assert_eq!(written.len(), totals.len());
            if written.len() <= TEXT_MAX {
                prop_assert_eq!(Totals::parse(Some(written.as_bytes())), Some(totals));
            }
        }
    }
}
