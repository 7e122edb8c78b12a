//! Who watches what (docs/protocol.md §4).
//!
//! Two tables, data and child, keyed by path; in each, a connection has a set of modes per path. A
//! recursive watch is in the data table, under its own path; `recursive` finds those above a change.

use super::recursive::Recursive;
use crate::proto::WatchType;
use crate::proto::reply::EventType;
use crate::tree::{Change, ChangeKind};
use crate::txn::Acl;
use crate::types::{ConnId, DetHashMap, DetHashSet};
use hashbrown::Equivalent;
use hashbrown::hash_map::EntryRef;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a watch waits for, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// getData, exists: one change of the node.
    Data,
    /// getChildren: one change of its children, or its end.
    Child,
    /// addWatch: both, until it is removed.
    Persistent,
    /// addWatch: the node and everything below it, until it is removed.
    Recursive,
}

impl Kind {
    /// The modes in the data table and in the child table.
    fn modes(self) -> (Modes, Modes) {
        match self {
            Kind::Data => (Modes::STANDARD, Modes::NONE),
            Kind::Child => (Modes::NONE, Modes::STANDARD),
            Kind::Persistent => (Modes::PERSISTENT, Modes::PERSISTENT),
            Kind::Recursive => (Modes::RECURSIVE, Modes::NONE),
        }
    }
}

/// The modes in the data table and in the child table that a type is about.
fn modes_of(of: WatchType) -> (Modes, Modes) {
    match of {
        WatchType::Child => Kind::Child.modes(),
        WatchType::Data => Kind::Data.modes(),
        WatchType::Any => (Modes::ALL, Modes::ALL),
        WatchType::Persistent => Kind::Persistent.modes(),
        WatchType::Recursive => Kind::Recursive.modes(),
    }
}

/// Modes of one connection on one path of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Modes(u8);

impl Modes {
    const NONE: Modes = Modes(0);
    /// Removed when it fires.
    const STANDARD: Modes = Modes(1);
    const PERSISTENT: Modes = Modes(2);
    /// In the data table only.
    const RECURSIVE: Modes = Modes(4);
    const ALL: Modes = Modes(7);

    fn add(&mut self, modes: Modes) {
        self.0 |= modes.0;
    }

    fn remove(&mut self, modes: Modes) {
        self.0 &= !modes.0;
    }

    /// Whether one of `modes` is among them.
    fn has(self, modes: Modes) -> bool {
        self.0 & modes.0 != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Where a watch is: any string that a request can hold, or null, which addWatch takes too.
type Path = Option<Arc<str>>;

/// A path that is looked up.
#[derive(Debug, Hash)]
struct Asked<'a>(Option<&'a str>);

impl Equivalent<Path> for Asked<'_> {
    fn equivalent(&self, path: &Path) -> bool {
        self.0 == path.as_deref()
    }
}

impl From<&Asked<'_>> for Path {
    fn from(asked: &Asked<'_>) -> Path {
        asked.0.map(Arc::from)
    }
}

/// Who watches a path. Most paths have one watcher, which takes no memory beside its entry.
#[derive(Debug)]
enum Watchers {
    One(ConnId, Modes),
    Any(BTreeMap<ConnId, Modes>),
}

impl Watchers {
    /// The modes of a connection; none of them if it is new.
    fn modes(&mut self, conn: ConnId) -> &mut Modes {
        if let Watchers::One(first, modes) = *self
            && first != conn
        {
            *self = Watchers::Any(BTreeMap::from([(first, modes)]));
        }
        match self {
            Watchers::One(_, modes) => modes,
            Watchers::Any(conns) => conns.entry(conn).or_default(),
        }
    }

    /// The modes that a connection has.
    fn get(&self, conn: ConnId) -> Modes {
        match self {
            Watchers::One(first, modes) if *first == conn => *modes,
            Watchers::One(..) => Modes::NONE,
            Watchers::Any(conns) => conns.get(&conn).copied().unwrap_or_default(),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Watchers::Any(conns) if conns.is_empty())
    }

    /// In order.
    fn conns(&self) -> Vec<ConnId> {
        match self {
            Watchers::One(conn, _) => vec![*conn],
            Watchers::Any(conns) => conns.keys().copied().collect(),
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&ConnId, &mut Modes) -> bool) {
        match self {
            Watchers::One(conn, modes) => {
                if !keep(conn, modes) {
                    *self = Watchers::Any(BTreeMap::new());
                }
            }
            Watchers::Any(conns) => conns.retain(keep),
        }
    }

    /// With their modes, in order.
    fn each(&self, mut see: impl FnMut(ConnId, Modes)) {
        match self {
            Watchers::One(conn, modes) => see(*conn, *modes),
            Watchers::Any(conns) => conns.iter().for_each(|(conn, modes)| see(*conn, *modes)),
        }
    }

    /// Whether the connection was there.
    fn remove(&mut self, conn: ConnId) -> bool {
        match self {
            Watchers::One(first, _) if *first == conn => {
                *self = Watchers::Any(BTreeMap::new());
                true
            }
            Watchers::One(..) => false,
            Watchers::Any(conns) => conns.remove(&conn).is_some(),
        }
    }
}

/// One table. The two maps hold the same pairs: by path to fire, by connection to forget. What a
/// connection that has ended watched is in `by_path` and in `ended` until it is reaped.
#[derive(Debug, Default)]
struct Table {
    by_path: DetHashMap<Path, Watchers>,
    /// As Apache counts them: who has had a watch stays when it has fired, and goes when it is removed.
    by_conn: DetHashMap<ConnId, DetHashSet<Path>>,
    /// The recursive watches of `by_path`, for the changes below them.
    recursive: Recursive,
    /// Watches of connections that have not ended.
    pairs: usize,
    /// Bytes of all watches, also of those that are not reaped.
    bytes: usize,
    /// Watches of connections that have ended, and which of them are reaped next.
    ended: VecDeque<(ConnId, hashbrown::hash_set::IntoIter<Path>)>,
}

/// What a watch takes in memory, bytes, roughly: an entry in each map, and the path. A recursive one
/// takes [`Recursive::WEIGHT`] more.
fn weight(path: &str) -> usize {
    const FIXED: usize = 200;
    FIXED + path.len()
}

/// A connection's set of paths is made smaller when it has room for more than so many times what it holds.
const ROOM: usize = 4;

impl Table {
    /// What a connection has on a path.
    fn modes(&self, path: Option<&str>, conn: ConnId) -> Modes {
        let watchers = self.by_path.get(&Asked(path));
        watchers.map_or(Modes::NONE, |watchers| watchers.get(conn))
    }

    /// What a watch would take in memory, bytes, beside what is there: 0 if it is there.
    fn cost(&self, path: Option<&str>, conn: ConnId, modes: Modes) -> usize {
        let had = self.modes(path, conn);
        let is_new = had.is_empty() && !modes.is_empty();
        let entry = if is_new {
            weight(path.unwrap_or_default())
        } else {
            0
        };
        let is_recursive = modes.has(Modes::RECURSIVE) && !had.has(Modes::RECURSIVE);
        entry + if is_recursive { Recursive::WEIGHT } else { 0 }
    }

    fn add(&mut self, path: Option<&str>, conn: ConnId, added: Modes) {
        if added.is_empty() {
            return;
        }
        let asked = Asked(path);
        let mut entry = match self.by_path.entry_ref(&asked) {
            EntryRef::Occupied(entry) => entry,
            EntryRef::Vacant(entry) => entry.insert_entry(Watchers::One(conn, Modes::default())),
        };
        let key = entry.key().clone();
        let modes = entry.get_mut().modes(conn);
        if added.has(Modes::RECURSIVE) && !modes.has(Modes::RECURSIVE) {
            if let Some(path) = &key {
                self.recursive.add(path, conn);
            }
            self.bytes += Recursive::WEIGHT;
        }
        if modes.is_empty() {
            let paths = self.by_conn.entry(conn).or_default();
            assert!(paths.insert(key), "the maps differ");
            self.pairs += 1;
            self.bytes += weight(path.unwrap_or_default());
        }
        modes.add(added);
    }

    /// Takes modes away from a connection that has not ended. False if it has none of them.
    fn remove(&mut self, path: Option<&str>, conn: ConnId, removed: Modes) -> bool {
        let Some(watchers) = self.by_path.get_mut(&Asked(path)) else {
            return false;
        };
        let had = watchers.get(conn);
        if !had.has(removed) {
            return false;
        }
        let modes = watchers.modes(conn);
        modes.remove(removed);
        if modes.is_empty() {
            watchers.remove(conn);
            if watchers.is_empty() {
                self.by_path.remove(&Asked(path));
            }
            let paths = self.by_conn.get_mut(&conn).expect("the maps differ");
            take_out(paths, &Asked(path));
            if paths.is_empty() {
                self.by_conn.remove(&conn);
            }
            self.pairs -= 1;
            self.bytes -= weight(path.unwrap_or_default());
        }
        if had.has(Modes::RECURSIVE) && removed.has(Modes::RECURSIVE) {
            self.forget_recursive(path, conn);
        }
        true
    }

    fn forget_recursive(&mut self, path: Option<&str>, conn: ConnId) {
        if let Some(path) = path {
            self.recursive.remove(path, conn);
        }
        self.bytes -= Recursive::WEIGHT;
    }

    /// Who watches a path, in order of connection; the standard watches are taken off it. Connections
    /// that have ended may be among them.
    fn fire(&mut self, path: &str) -> Vec<ConnId> {
        let asked = Asked(Some(path));
        let Some(conns) = self.by_path.get_mut(&asked) else {
            return Vec::new();
        };
        let fired = conns.conns();
        conns.retain(|conn, modes| {
            modes.remove(Modes::STANDARD);
            if modes.is_empty() {
                self.bytes -= weight(path);
                if forget_path(&mut self.by_conn, *conn, &asked) {
                    self.pairs -= 1;
                }
            }
            !modes.is_empty()
        });
        if conns.is_empty() {
            self.by_path.remove(&asked);
        }
        fired
    }

    /// The same, with who watches what is below a path above; each connection once. And the steps of
    /// looking there.
    fn fire_from_above(&mut self, path: &str) -> (Vec<ConnId>, usize) {
        let fired = self.fire(path);
        if self.recursive.is_empty() {
            return (fired, 0);
        }
        let mut told: BTreeSet<ConnId> = fired.into_iter().collect();
        let steps = self.recursive.tell(path, &mut told);
        (told.into_iter().collect(), steps)
    }

    /// Watches of connections that have not ended, and bytes of all watches, counted path by path.
    fn recounted(&self, is_open: impl Fn(ConnId) -> bool) -> (usize, usize) {
        let (mut pairs, mut bytes) = (0, 0);
        for (path, watchers) in &self.by_path {
            watchers.each(|conn, modes| {
                pairs += usize::from(is_open(conn));
                bytes += weight(path.as_deref().unwrap_or_default());
                if modes.has(Modes::RECURSIVE) {
                    bytes += Recursive::WEIGHT;
                }
            });
        }
        (pairs, bytes)
    }

    /// A connection ends: its watches count no more, and are freed by [`Table::reap`].
    fn abandon(&mut self, conn: ConnId) {
        if let Some(paths) = self.by_conn.remove(&conn) {
            self.pairs -= paths.len();
            self.ended.push_back((conn, paths.into_iter()));
        }
    }

    /// Frees the next watch of a connection that has ended. False if there is none.
    fn reap(&mut self) -> bool {
        let Some((conn, paths)) = self.ended.front_mut() else {
            return false;
        };
        let conn = *conn;
        let Some(path) = paths.next() else {
            self.ended.pop_front();
            return true;
        };
        let asked = Asked(path.as_deref());
        // A watch that has fired meanwhile is gone already.
        if let Some(conns) = self.by_path.get_mut(&asked) {
            let had = conns.get(conn);
            if conns.remove(conn) {
                self.bytes -= weight(asked.0.unwrap_or_default());
                if conns.is_empty() {
                    self.by_path.remove(&asked);
                }
                if had.has(Modes::RECURSIVE) {
                    self.forget_recursive(asked.0, conn);
                }
            }
        }
        true
    }
}

/// Whether the connection had the path, and has not ended.
fn forget_path(
    by_conn: &mut DetHashMap<ConnId, DetHashSet<Path>>,
    conn: ConnId,
    path: &Asked<'_>,
) -> bool {
    let Some(paths) = by_conn.get_mut(&conn) else {
        return false;
    };
    take_out(paths, path);
    true
}

/// Takes a path out of a connection's. What is left has at most four times its room: a set keeps the room of all
/// that it has held, and what is counted as free again has to be free.
fn take_out(paths: &mut DetHashSet<Path>, path: &Asked<'_>) {
    assert!(paths.remove(path), "the maps differ");
    if paths.capacity() > ROOM * paths.len() {
        paths.shrink_to(2 * paths.len());
    }
}

/// What `wchs` and `mntr` show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Connections in the data table, also those whose watches have all fired.
    pub connections: usize,
    /// Paths in the data table.
    pub paths: usize,
    /// Watches in the data table; a connection has one for each path, whatever its modes.
    pub data: usize,
    /// Watches in both tables (`zk_watch_count`): a persistent one counts in each.
    pub total: usize,
}

/// An event to deliver, if its receiver may read the node whose list is `acl`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'a> {
    pub(super) kind: EventType,
    pub(super) path: &'a str,
    pub(super) acl: Option<&'a Arc<[Acl]>>,
}

impl<'a> Event<'a> {
    /// Of a change: for those who watch the node, or for those who watch its parent's children.
    pub(super) fn of(change: &'a Change, of_parent: bool) -> Event<'a> {
        if of_parent {
            return Event {
                kind: EventType::ChildrenChanged,
                path: parent(&change.path)
                    .expect("only the root has no parent, and nobody creates or deletes it"),
                acl: change.parent_acl.as_ref(),
            };
        }
        let kind = match change.kind {
            ChangeKind::Created => EventType::Created,
            ChangeKind::Deleted => EventType::Deleted,
            ChangeKind::DataChanged => EventType::DataChanged,
        };
        Event {
            kind,
            path: &change.path,
            acl: Some(&change.acl),
        }
    }
}

/// There is no memory for a further watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchesFull;

/// All watches of a shard.
#[derive(Debug)]
pub(super) struct Watches {
    bytes_max: usize,
    data: Table,
    child: Table,
}

impl Watches {
    /// Watches of at most `bytes_max`, as estimated.
    pub(super) fn new(bytes_max: usize) -> Watches {
        Watches {
            bytes_max,
            data: Table::default(),
            child: Table::default(),
        }
    }

    /// Leaves a watch. Setting it twice is one watch; those of other kinds on the path stay.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        path: Option<&str>,
        conn: ConnId,
    ) -> Result<(), WatchesFull> {
        let (data, child) = kind.modes();
        let most = 2 * weight(path.unwrap_or_default()) + Recursive::WEIGHT;
        if self.bytes() + most > self.bytes_max {
            // Near the bound it matters what is there already.
            let added = self.data.cost(path, conn, data) + self.child.cost(path, conn, child);
            if added > 0 && self.bytes() + added > self.bytes_max {
                return Err(WatchesFull);
            }
        }
        self.data.add(path, conn, data);
        self.child.add(path, conn, child);
        Ok(())
    }

    /// Whether a connection has such a watch on exactly this path.
    pub(super) fn has(&self, of: WatchType, path: Option<&str>, conn: ConnId) -> bool {
        let (data, child) = modes_of(of);
        self.data.modes(path, conn).has(data) || self.child.modes(path, conn).has(child)
    }

    /// Takes such watches of a connection off exactly this path. False if there are none.
    pub(super) fn remove(&mut self, of: WatchType, path: Option<&str>, conn: ConnId) -> bool {
        let (data, child) = modes_of(of);
        let of_data = self.data.remove(path, conn, data);
        let of_child = self.child.remove(path, conn, child);
        of_data || of_child
    }

    /// A connection has ended. What it watches fires for nobody, counts no more except in
    /// [`Watches::bytes`], and is freed by [`Watches::reap`].
    pub(super) fn abandon(&mut self, conn: ConnId) {
        self.data.abandon(conn);
        self.child.abandon(conn);
    }

    /// Frees the next watch of a connection that has ended. False if there is none.
    pub(super) fn reap(&mut self) -> bool {
        self.data.reap() || self.child.reap()
    }

    /// Memory, as estimated, also of what is not reaped.
    pub(super) fn bytes(&self) -> usize {
        self.data.bytes + self.child.bytes
    }

    /// Fires what one change of one node triggers (docs/protocol.md §4.3): the data table for the node
    /// and the recursive watches above it, on a delete the child table for the node, with those already
    /// told left out, then the child table for the parent. `deliver` is given who is told, and whether of the
    /// parent ([`Event::of`]). Connections that have ended may be told too, until they are reaped. Gives the steps of
    /// looking above the node; there are none without recursive watches.
    pub(super) fn trigger(
        &mut self,
        change: &Change,
        mut deliver: impl FnMut(ConnId, bool),
    ) -> usize {
        let path: &str = &change.path;
        let (told, steps) = self.data.fire_from_above(path);
        for &conn in &told {
            deliver(conn, false);
        }
        if change.kind == ChangeKind::Deleted {
            for conn in self.child.fire(path) {
                if told.binary_search(&conn).is_err() {
                    deliver(conn, false);
                }
            }
        }
        if change.kind != ChangeKind::DataChanged
            && let Some(parent) = parent(path)
        {
            for conn in self.child.fire(parent) {
                deliver(conn, true);
            }
        }
        steps
    }

    /// What a connection watches in the data table, in no order; a null path has no text.
    pub(super) fn data_paths(&self, conn: ConnId) -> Option<&DetHashSet<Option<Arc<str>>>> {
        self.data.by_conn.get(&conn)
    }

    /// Watches of connections that have not ended, and bytes of all watches, counted path by path.
    pub(super) fn recounted(&self, is_open: impl Fn(ConnId) -> bool) -> (usize, usize) {
        let (data, data_bytes) = self.data.recounted(&is_open);
        let (children, child_bytes) = self.child.recounted(&is_open);
        (data + children, data_bytes + child_bytes)
    }

    /// For the four-letter words.
    pub(super) fn counts(&self) -> WatchCounts {
        WatchCounts {
            connections: self.data.by_conn.len(),
            paths: self.data.by_path.len(),
            data: self.data.pairs,
            total: self.data.pairs + self.child.pairs,
        }
    }
}

/// `/` for a top-level node, `None` for the root itself.
fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        at => Some(&path[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn conn(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 1,
        }
    }

    fn change(kind: ChangeKind, path: &str) -> Change {
        let acl: Arc<[Acl]> = Arc::new([Acl::world(Acl::ALL)]);
        Change {
            kind,
            path: path.into(),
            acl: Arc::clone(&acl),
            parent_acl: (kind != ChangeKind::DataChanged).then_some(acl),
        }
    }

    /// Watches, change, events, number of watches left.
    type Row<'a> = (
        &'a [(Kind, &'a str)],
        ChangeKind,
        &'a [(EventType, &'a str)],
        usize,
    );

    /// Who is told what of a change.
    fn tell<'a>(watches: &mut Watches, change: &'a Change) -> Vec<(ConnId, Event<'a>)> {
        let mut told = Vec::new();
        watches.trigger(change, |conn, of_parent| {
            told.push((conn, Event::of(change, of_parent)))
        });
        told
    }

    /// One connection watches `watched` in the given tables; what does the change send it?
    fn row(watched: &[(Kind, &str)], kind: ChangeKind) -> (Vec<(EventType, String)>, usize) {
        let mut watches = Watches::new(1 << 20);
        for (table, path) in watched {
            watches.add(*table, Some(path), conn(3)).unwrap();
        }
        let mut events = Vec::new();
        for (to, event) in tell(&mut watches, &change(kind, "/p/n")) {
            assert_eq!(to, conn(3));
            events.push((event.kind, event.path.to_owned()));
        }
        (events, watches.counts().total)
    }

    #[test]
    fn trigger_table_for_standard_watches() {
        use ChangeKind as C;
        use EventType as E;
        let (data, child, above) = (
            (Kind::Data, "/p/n"),
            (Kind::Child, "/p/n"),
            (Kind::Child, "/p"),
        );
        let told = |list: &[(EventType, &str)]| -> Vec<(EventType, String)> {
            list.iter().map(|(e, p)| (*e, (*p).to_owned())).collect()
        };
        let rows: [Row; 12] = [
            (&[data], C::Created, &[(E::Created, "/p/n")], 0),
            (&[child], C::Created, &[], 1),
            (&[above], C::Created, &[(E::ChildrenChanged, "/p")], 0),
            (&[data], C::DataChanged, &[(E::DataChanged, "/p/n")], 0),
            (&[child], C::DataChanged, &[], 1),
            (&[above], C::DataChanged, &[], 1),
            (&[data], C::Deleted, &[(E::Deleted, "/p/n")], 0),
            (&[child], C::Deleted, &[(E::Deleted, "/p/n")], 0),
            (&[above], C::Deleted, &[(E::ChildrenChanged, "/p")], 0),
            (&[data, child], C::Deleted, &[(E::Deleted, "/p/n")], 0),
            (
                &[data, child, above],
                C::Deleted,
                &[(E::Deleted, "/p/n"), (E::ChildrenChanged, "/p")],
                0,
            ),
            (
                &[(Kind::Data, "/p"), (Kind::Child, "/")],
                C::Created,
                &[],
                2,
            ),
        ];
        for (watched, kind, events, left) in rows {
            let got = row(watched, kind);
            assert_eq!(got, (told(events), left), "{watched:?} {kind:?}");
        }
    }

    #[test]
    fn trigger_table_for_persistent_and_recursive_watches() {
        use ChangeKind as C;
        use EventType as E;
        let (lasting, above) = ((Kind::Persistent, "/p/n"), (Kind::Persistent, "/p"));
        let recursive = |path| (Kind::Recursive, path);
        let told = |list: &[(EventType, &str)]| -> Vec<(EventType, String)> {
            list.iter().map(|(e, p)| (*e, (*p).to_owned())).collect()
        };
        let created: &[_] = &[(E::Created, "/p/n")];
        let changed: &[_] = &[(E::DataChanged, "/p/n")];
        let deleted: &[_] = &[(E::Deleted, "/p/n")];
        let children = (E::ChildrenChanged, "/p");
        let both_above = [
            [(E::Created, "/p/n"), children],
            [(E::Deleted, "/p/n"), children],
        ];
        // A persistent watch is in two tables.
        let (here, there) = ([lasting], [above]);
        let own: [Row; 6] = [
            (&here, C::Created, created, 2),
            (&here, C::DataChanged, changed, 2),
            (&here, C::Deleted, deleted, 2),
            (&there, C::DataChanged, &[], 2),
            (&there, C::Created, &both_above[0][1..], 2),
            (&there, C::Deleted, &both_above[1][1..], 2),
        ];
        let mut rows = own.to_vec();
        let with_recursive = [above, recursive("/p")];
        for (kind, events) in [C::Created, C::Deleted].into_iter().zip(&both_above) {
            rows.push((&with_recursive, kind, events, 2));
        }
        let covering = ["/p/n", "/p", "/"].map(|path| [recursive(path)]);
        for watched in &covering {
            for (kind, events) in [
                (C::Created, created),
                (C::DataChanged, changed),
                (C::Deleted, deleted),
            ] {
                rows.push((watched, kind, events, 1));
            }
        }
        let beside = ["/p/", "/p/nn", "/p/n/m", "/x", ""].map(|path| [recursive(path)]);
        for watched in &beside {
            rows.push((watched, C::Created, &[], 1));
        }
        // All that there is: one event for the node, one for its parent, and what is one-shot is used up.
        let all = [
            (Kind::Data, "/p/n"),
            (Kind::Child, "/p/n"),
            (Kind::Child, "/p"),
            lasting,
            above,
            recursive("/"),
            recursive("/p"),
            recursive("/p/n"),
        ];
        rows.push((&all, C::Deleted, &both_above[1], 5));
        for (watched, kind, events, left) in rows {
            let got = row(watched, kind);
            assert_eq!(got, (told(events), left), "{watched:?} {kind:?}");
        }
    }

    #[test]
    fn kinds_on_one_path_are_added_and_each_type_removes_its_own() {
        use WatchType as T;
        let all = [T::Child, T::Data, T::Any, T::Persistent, T::Recursive];
        let kinds = [Kind::Data, Kind::Child, Kind::Persistent, Kind::Recursive];
        let has = |watches: &Watches, path| all.map(|of| watches.has(of, path, conn(1)));
        for path in [Some("/a"), Some(""), None] {
            let mut watches = Watches::new(1 << 20);
            assert_eq!(has(&watches, path), [false; 5]);
            let mut due = [false; 5];
            for (kind, at) in kinds.into_iter().zip([1, 0, 3, 4]) {
                watches.add(kind, path, conn(1)).unwrap();
                (due[at], due[2]) = (true, true);
                assert_eq!(has(&watches, path), due, "{kind:?}");
                assert_eq!(has(&watches, Some("/b")), [false; 5]);
                assert!(!watches.has(T::Any, path, conn(2)));
            }
            assert_eq!((watches.counts().data, watches.counts().total), (1, 2));
            let full = watches.bytes();
            assert!(!watches.remove(T::Any, path, conn(2)));
            assert!(!watches.remove(T::Any, Some("/b"), conn(1)));
            // One after the other, and all of them at once.
            for (at, of) in [
                (0, T::Child),
                (3, T::Persistent),
                (1, T::Data),
                (4, T::Recursive),
            ] {
                assert!(watches.remove(of, path, conn(1)), "{of:?}");
                assert!(!watches.remove(of, path, conn(1)), "{of:?}");
                due[at] = false;
                due[2] = at != 4;
                assert_eq!(has(&watches, path), due, "{of:?}");
            }
            assert_eq!(
                (watches.bytes(), watches.counts()),
                (0, WatchCounts::default())
            );
            for kind in kinds {
                watches.add(kind, path, conn(1)).unwrap();
            }
            assert_eq!(watches.bytes(), full);
            assert!(watches.remove(T::Any, path, conn(1)));
            assert_eq!(
                (watches.bytes(), watches.counts()),
                (0, WatchCounts::default())
            );
            assert!(watches.data.recursive.is_empty());
        }
    }

    #[test]
    fn looking_above_costs_the_depth_of_the_path_and_nothing_without_recursive_watches() {
        let mut watches = Watches::new(1 << 20);
        let deep = change(ChangeKind::DataChanged, &"/n".repeat(1_000));
        for slot in 0..50 {
            for kind in [Kind::Data, Kind::Child, Kind::Persistent] {
                watches.add(kind, Some("/n"), conn(slot)).unwrap();
            }
        }
        assert_eq!(watches.trigger(&deep, |_, _| panic!("nobody")), 0);
        watches.add(Kind::Recursive, Some("/n/n"), conn(1)).unwrap();
        watches.add(Kind::Recursive, Some("/x"), conn(2)).unwrap();
        let mut told = Vec::new();
        // The root and 999 names, and one watch.
        assert_eq!(watches.trigger(&deep, |conn, _| told.push(conn)), 1_000 + 1);
        assert_eq!(told, [conn(1)]);
        assert!(watches.remove(WatchType::Any, Some("/n/n"), conn(1)));
        assert!(watches.remove(WatchType::Any, Some("/x"), conn(2)));
        assert_eq!(watches.trigger(&deep, |_, _| panic!("nobody")), 0);
    }

    #[test]
    fn recursive_watches_count_against_the_bound_and_are_freed() {
        let one = weight("/a") + Recursive::WEIGHT;
        let mut watches = Watches::new(2 * one + weight("/a"));
        watches.add(Kind::Recursive, Some("/a"), conn(1)).unwrap();
        watches.add(Kind::Recursive, Some("/a"), conn(2)).unwrap();
        assert_eq!(watches.bytes(), 2 * one);
        for (kind, to, fits) in [
            (Kind::Recursive, conn(3), false),
            (Kind::Recursive, conn(2), true),
            // One of its two entries would fit: it is refused as a whole.
            (Kind::Persistent, conn(3), false),
            // The entry in the data table is there.
            (Kind::Persistent, conn(2), true),
            (Kind::Data, conn(2), true),
            (Kind::Data, conn(3), false),
        ] {
            let added = watches.add(kind, Some("/a"), to);
            assert_eq!(added.is_ok(), fits, "{kind:?} {to:?}");
        }
        assert_eq!(watches.counts().total, 3);
        assert_eq!(watches.bytes(), watches.bytes_max);
        watches.abandon(conn(1));
        let below = change(ChangeKind::Created, "/a/b");
        let told = tell(&mut watches, &below).into_iter();
        let told: Vec<_> = told.map(|(conn, event)| (conn.slot, event.kind)).collect();
        // Ended, and not reaped: its shard tells it nothing.
        let (created, children) = (EventType::Created, EventType::ChildrenChanged);
        assert_eq!(told, [(1, created), (2, created), (2, children)]);
        watches.abandon(conn(2));
        while watches.reap() {}
        assert_eq!(
            (watches.bytes(), watches.counts()),
            (0, WatchCounts::default())
        );
        assert!(watches.data.recursive.is_empty());
    }

    /// One watch of the model: connection, path, whether it is in the child table, mode.
    type Watch = (u32, Option<&'static str>, bool, Modes);

    /// What docs/protocol.md §4 says, over a list of watches.
    #[derive(Default)]
    struct Model {
        watches: Vec<Watch>,
        /// Who counts as a connection that watches.
        counted: Vec<u32>,
    }

    impl Model {
        fn add(&mut self, kind: Kind, path: Option<&'static str>, conn: u32) {
            let entries: &[_] = match kind {
                Kind::Data => &[(false, Modes::STANDARD)],
                Kind::Child => &[(true, Modes::STANDARD)],
                Kind::Persistent => &[(false, Modes::PERSISTENT), (true, Modes::PERSISTENT)],
                Kind::Recursive => &[(false, Modes::RECURSIVE)],
            };
            for &(child, mode) in entries {
                let watch = (conn, path, child, mode);
                if !self.watches.contains(&watch) {
                    self.watches.push(watch);
                }
                if !child && !self.counted.contains(&conn) {
                    self.counted.push(conn);
                }
            }
        }

        fn is_meant(of: WatchType, child: bool, mode: Modes) -> bool {
            match of {
                WatchType::Child => child && mode == Modes::STANDARD,
                WatchType::Data => !child && mode == Modes::STANDARD,
                WatchType::Any => true,
                WatchType::Persistent => mode == Modes::PERSISTENT,
                WatchType::Recursive => mode == Modes::RECURSIVE,
            }
        }

        fn remove(&mut self, of: WatchType, path: Option<&'static str>, conn: u32) -> bool {
            let before = self.watches.clone();
            self.watches.retain(|&(c, at, child, mode)| {
                !((c, at) == (conn, path) && Model::is_meant(of, child, mode))
            });
            let of_data = |watches: &[Watch]| watches.iter().any(|w| w.0 == conn && !w.2);
            if of_data(&before) && !of_data(&self.watches) {
                self.counted.retain(|counted| *counted != conn);
            }
            before.len() > self.watches.len()
        }

        /// Who watches a path in a table; standard watches end.
        fn fire(&mut self, path: &str, child: bool) -> Vec<u32> {
            let is_here = |w: &Watch| w.1 == Some(path) && w.2 == child;
            let fired = self.watches.iter().filter(|w| is_here(w));
            let fired: Vec<u32> = fired.map(|w| w.0).collect();
            self.watches
                .retain(|w| !(is_here(w) && w.3 == Modes::STANDARD));
            fired
        }

        fn trigger(&mut self, kind: ChangeKind, path: &str) -> Vec<(u32, i32, String)> {
            let mut told = self.fire(path, false);
            let is_below = |above: &str| {
                path != "/" && (above == "/" || path.starts_with(&format!("{above}/")))
            };
            let above = self.watches.iter().filter(|w| {
                w.3 == Modes::RECURSIVE && w.1.is_some_and(|at| !at.is_empty() && is_below(at))
            });
            told.extend(above.map(|w| w.0));
            let (number, deleted) = match kind {
                ChangeKind::Created => (1, false),
                ChangeKind::Deleted => (2, true),
                ChangeKind::DataChanged => (3, false),
            };
            if deleted {
                told.extend(self.fire(path, true));
            }
            let unique = |mut conns: Vec<u32>| {
                conns.sort_unstable();
                conns.dedup();
                conns
            };
            let node = unique(told).into_iter();
            let mut events: Vec<_> = node.map(|conn| (conn, number, path.to_owned())).collect();
            if number != 3 && path != "/" {
                let (parent, _) = path.rsplit_once('/').unwrap();
                let parent = if parent.is_empty() { "/" } else { parent };
                let children = unique(self.fire(parent, true)).into_iter();
                events.extend(children.map(|conn| (conn, 4, parent.to_owned())));
            }
            events.sort_unstable();
            events
        }

        fn counts(&self) -> WatchCounts {
            let of = |child: bool| {
                let here = self.watches.iter().filter(move |w| w.2 == child);
                here.map(|w| (w.1, w.0)).collect::<BTreeSet<_>>()
            };
            let (data, children) = (of(false), of(true));
            let paths: BTreeSet<_> = data.iter().map(|(path, _)| path).collect();
            WatchCounts {
                connections: self.counted.len(),
                paths: paths.len(),
                data: data.len(),
                total: data.len() + children.len(),
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Add(Kind, Option<&'static str>, u32),
        Remove(WatchType, Option<&'static str>, u32),
        Trigger(ChangeKind, &'static str),
        End(u32),
        Reap,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        const PATHS: &[Option<&str>] = &[
            None,
            Some(""),
            Some("/"),
            Some("/a"),
            Some("/a/"),
            Some("/a/b"),
            Some("/a/b/c"),
            Some("/a/bb"),
            Some("/ab"),
            Some("a"),
        ];
        const NODES: &[&str] = &["/", "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/bb", "/ab"];
        const KINDS: &[Kind] = &[Kind::Data, Kind::Child, Kind::Persistent, Kind::Recursive];
        const TYPES: &[WatchType] = &[
            WatchType::Child,
            WatchType::Data,
            WatchType::Any,
            WatchType::Persistent,
            WatchType::Recursive,
        ];
        const CHANGES: &[ChangeKind] = &[
            ChangeKind::Created,
            ChangeKind::Deleted,
            ChangeKind::DataChanged,
        ];
        let (kind, of, change) = (select(KINDS), select(TYPES), select(CHANGES));
        prop_oneof![
            6 => (kind, select(PATHS), 0u32..4).prop_map(|(kind, path, c)| Step::Add(kind, path, c)),
            2 => (of, select(PATHS), 0u32..4).prop_map(|(of, path, c)| Step::Remove(of, path, c)),
            4 => (change, select(NODES)).prop_map(|(kind, path)| Step::Trigger(kind, path)),
            1 => (0u32..4).prop_map(Step::End),
            1 => Just(Step::Reap),
        ]
    }

    proptest! {
        #[test]
        fn watches_are_those_of_the_model(steps in proptest::collection::vec(any_step(), 0..80)) {
            let mut watches = Watches::new(1 << 20);
            let mut model = Model::default();
            // A connection that ends is followed by another in its place.
            let mut generations = [1u32; 4];
            let of_slot = |slot: u32, generations: &[u32; 4]| ConnId {
                slot,
                generation: generations[slot as usize],
            };
            for step in steps {
                match step {
                    Step::Add(kind, path, slot) => {
                        watches.add(kind, path, of_slot(slot, &generations)).unwrap();
                        model.add(kind, path, slot);
                    }
                    Step::Remove(of, path, slot) => {
                        let conn = of_slot(slot, &generations);
                        let there = watches.has(of, path, conn);
                        let due = model.remove(of, path, slot);
                        prop_assert_eq!((there, watches.remove(of, path, conn)), (due, due));
                    }
                    Step::Trigger(kind, path) => {
                        let change = change(kind, path);
                        let mut events = Vec::new();
                        for (conn, event) in tell(&mut watches, &change) {
                            if conn == of_slot(conn.slot, &generations) {
                                events.push((conn.slot, event.kind as i32, event.path.to_owned()));
                            }
                        }
                        events.sort_unstable();
                        prop_assert_eq!(events, model.trigger(kind, path));
                    }
                    Step::End(slot) => {
                        watches.abandon(of_slot(slot, &generations));
                        generations[slot as usize] += 1;
                        model.watches.retain(|w| w.0 != slot);
                        model.counted.retain(|counted| *counted != slot);
                    }
                    Step::Reap => {
                        watches.reap();
                    }
                }
                let (counts, due) = (watches.counts(), model.counts());
                let same = |c: WatchCounts| (c.connections, c.data, c.total);
                prop_assert_eq!(same(counts), same(due), "{:?}", step);
            }
            while watches.reap() {}
            prop_assert_eq!(watches.counts(), model.counts());
            for slot in 0..4 {
                watches.abandon(of_slot(slot, &generations));
            }
            while watches.reap() {}
            prop_assert_eq!((watches.bytes(), watches.counts()), (0, WatchCounts::default()));
            prop_assert!(watches.data.recursive.is_empty());
        }
    }

    #[test]
    fn the_parent_of_a_top_level_node_is_the_root() {
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/a/b/c"), Some("/a/b"));
        assert_eq!(parent("/"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn a_watch_set_twice_is_one_and_a_forgotten_connection_leaves_nothing() {
        let mut watches = Watches::new(1 << 20);
        let path: Arc<str> = "/a".into();
        for _ in 0..2 {
            watches.add(Kind::Data, Some(&path), conn(1)).unwrap();
        }
        watches.add(Kind::Data, Some(&path), conn(2)).unwrap();
        watches.add(Kind::Data, Some("/b"), conn(2)).unwrap();
        watches.add(Kind::Child, Some(&path), conn(1)).unwrap();
        let counts = WatchCounts {
            connections: 2,
            paths: 2,
            data: 3,
            total: 4,
        };
        assert_eq!(watches.counts(), counts);
        watches.abandon(conn(1));
        while watches.reap() {}
        let counts = WatchCounts {
            connections: 1,
            paths: 2,
            data: 2,
            total: 2,
        };
        assert_eq!(watches.counts(), counts);
        watches.abandon(conn(2));
        while watches.reap() {}
        assert_eq!(
            (watches.counts(), watches.bytes()),
            (WatchCounts::default(), 0)
        );
        assert!(watches.data.by_path.is_empty() && watches.child.by_path.is_empty());
    }

    #[test]
    fn a_path_whose_watches_have_fired_takes_no_memory() {
        let mut watches = Watches::new(1 << 20);
        for n in 0..100 {
            let path = format!("/n{n}");
            for slot in 0..n % 3 + 1 {
                watches.add(Kind::Data, Some(&path), conn(slot)).unwrap();
                watches.add(Kind::Child, Some("/"), conn(slot)).unwrap();
            }
            watches.trigger(&change(ChangeKind::Created, &path), |_, _| {});
        }
        // Only Apache's count of connections remembers them, until they end.
        let counts = WatchCounts {
            connections: 3,
            ..WatchCounts::default()
        };
        assert_eq!(watches.counts(), counts);
        assert!(watches.data.by_path.is_empty() && watches.child.by_path.is_empty());
        assert!(
            watches
                .data
                .by_conn
                .values()
                .all(|paths| paths.capacity() == 0)
        );
        assert_eq!(watches.bytes(), 0);
        (0..3).for_each(|slot| watches.abandon(conn(slot)));
        while watches.reap() {}
        assert_eq!(watches.counts(), WatchCounts::default());
    }

    #[test]
    fn a_connection_that_keeps_one_of_many_watches_keeps_no_room_for_the_others() {
        const MANY: usize = 10_000;
        let mut watches = Watches::new(64 << 20);
        let path = |n: usize| format!("/n{n}");
        for n in 0..MANY {
            watches.add(Kind::Data, Some(&path(n)), conn(0)).unwrap();
            watches
                .add(Kind::Persistent, Some(&path(n)), conn(1))
                .unwrap();
        }
        for n in 1..MANY {
            watches.trigger(&change(ChangeKind::DataChanged, &path(n)), |_, _| {});
            assert!(watches.remove(WatchType::Persistent, Some(&path(n)), conn(1)));
        }
        for slot in 0..2 {
            let paths = &watches.data.by_conn[&conn(slot)];
            assert_eq!(paths.len(), 1);
            assert!(paths.capacity() < 16, "{}", paths.capacity());
        }
    }

    #[test]
    fn a_path_may_have_one_watcher_then_many_then_none() {
        let mut watchers = Watchers::One(conn(3), Modes::STANDARD);
        assert!(!watchers.modes(conn(3)).is_empty());
        assert!(!watchers.remove(conn(1)));
        for slot in [1, 5, 2] {
            assert!(watchers.modes(conn(slot)).is_empty());
        }
        assert_eq!(watchers.conns(), [conn(1), conn(2), conn(3), conn(5)]);
        assert!(watchers.remove(conn(3)) && !watchers.remove(conn(3)));
        watchers.retain(|of, _| *of == conn(2));
        assert_eq!(watchers.conns(), [conn(2)]);
        assert!(watchers.remove(conn(2)) && watchers.is_empty());
        let mut one = Watchers::One(conn(3), Modes::STANDARD);
        one.retain(|_, _| true);
        assert!(!one.is_empty() && one.remove(conn(3)) && one.is_empty());
    }

    #[test]
    fn the_bound_counts_each_watch_once_and_frees_what_is_reaped() {
        let mut watches = Watches::new(3 * weight("/a"));
        let path = |text: &str| Arc::<str>::from(text);
        for name in ["/a", "/b", "/c", "/a"] {
            assert_eq!(
                watches.add(Kind::Data, Some(&path(name)), conn(1)),
                Ok(()),
                "{name}"
            );
        }
        assert_eq!(
            watches.add(Kind::Data, Some(&path("/d")), conn(1)),
            Err(WatchesFull)
        );
        assert_eq!(
            watches.add(Kind::Child, Some(&path("/a")), conn(1)),
            Err(WatchesFull)
        );
        // One fires after its connection has ended, the others are reaped one at a time.
        watches.abandon(conn(1));
        assert_eq!(watches.counts().total, 0);
        assert_eq!(
            watches.add(Kind::Data, Some(&path("/d")), conn(2)),
            Err(WatchesFull)
        );
        assert_eq!(watches.data.fire("/a"), [conn(1)]);
        assert_eq!(watches.add(Kind::Data, Some(&path("/d")), conn(2)), Ok(()));
        assert_eq!(watches.bytes(), 3 * weight("/a"));
        while watches.reap() {}
        assert_eq!((watches.bytes(), watches.counts().total), (weight("/d"), 1));
    }
}
