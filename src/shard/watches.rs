//! Who watches what (docs/protocol.md §4).
//!
//! Two tables, data and child, keyed by path; in each, a connection has a set of modes per path.
//! Only standard (one-shot) watches can be set so far; the set leaves room for the others.

use crate::proto::reply::EventType;
use crate::tree::{Change, ChangeKind};
use crate::txn::Acl;
use crate::types::{ConnId, DetHashMap, DetHashSet};
use hashbrown::hash_map::EntryRef;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Which table a watch is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// getData, exists.
    Data,
    /// getChildren.
    Child,
}

/// Modes of one connection on one path of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Modes(u8);

impl Modes {
    /// Removed when it fires.
    const STANDARD: Modes = Modes(1);

    fn add(&mut self, mode: Modes) {
        self.0 |= mode.0;
    }

    fn remove(&mut self, mode: Modes) {
        self.0 &= !mode.0;
    }

    fn is_empty(self) -> bool {
        self.0 == 0
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
    by_path: DetHashMap<Arc<str>, Watchers>,
    by_conn: DetHashMap<ConnId, DetHashSet<Arc<str>>>,
    /// Watches of connections that have not ended.
    pairs: usize,
    /// Bytes of all watches, also of those that are not reaped.
    bytes: usize,
    /// Watches of connections that have ended, and which of them are reaped next.
    ended: VecDeque<(ConnId, hashbrown::hash_set::IntoIter<Arc<str>>)>,
}

/// What a watch takes in memory, bytes, roughly: an entry in each map, and the path.
fn weight(path: &str) -> usize {
    const FIXED: usize = 200;
    FIXED + path.len()
}

impl Table {
    /// Whether a connection has a watch on a path.
    fn has(&self, path: &str, conn: ConnId) -> bool {
        let paths = self.by_conn.get(&conn);
        paths.is_some_and(|paths| paths.contains(path))
    }

    fn add(&mut self, path: &str, conn: ConnId, mode: Modes) {
        let mut entry = match self.by_path.entry_ref(path) {
            EntryRef::Occupied(entry) => entry,
            EntryRef::Vacant(entry) => entry.insert_entry(Watchers::One(conn, Modes::default())),
        };
        let key = Arc::clone(entry.key());
        let modes = entry.get_mut().modes(conn);
        if modes.is_empty() {
            let paths = self.by_conn.entry(conn).or_default();
            assert!(paths.insert(key), "the maps differ");
            self.pairs += 1;
            self.bytes += weight(path);
        }
        modes.add(mode);
    }

    /// Takes the standard watches off a path; says who had one, in order of connection.
    /// Connections that have ended may be among them.
    fn fire(&mut self, path: &str) -> Vec<ConnId> {
        let Some(conns) = self.by_path.get_mut(path) else {
            return Vec::new();
        };
        let fired = conns.conns();
        conns.retain(|conn, modes| {
            modes.remove(Modes::STANDARD);
            if modes.is_empty() {
                self.bytes -= weight(path);
                if forget_path(&mut self.by_conn, *conn, path) {
                    self.pairs -= 1;
                }
            }
            !modes.is_empty()
        });
        if conns.is_empty() {
            self.by_path.remove(path);
        }
        fired
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
        let Some(path) = paths.next() else {
            self.ended.pop_front();
            return true;
        };
        // A watch that has fired meanwhile is gone already.
        if let Some(conns) = self.by_path.get_mut(&path)
            && conns.remove(*conn)
        {
            self.bytes -= weight(&path);
            if conns.is_empty() {
                self.by_path.remove(&path);
            }
        }
        true
    }
}

/// Whether the connection had the path, and has not ended.
fn forget_path(
    by_conn: &mut DetHashMap<ConnId, DetHashSet<Arc<str>>>,
    conn: ConnId,
    path: &str,
) -> bool {
    let Some(paths) = by_conn.get_mut(&conn) else {
        return false;
    };
    assert!(paths.remove(path), "the maps differ");
    if paths.is_empty() {
        by_conn.remove(&conn);
    }
    true
}

/// What `wchs` and `mntr` show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Connections with a watch in the data table.
    pub connections: usize,
    /// Paths in the data table.
    pub paths: usize,
    /// Watches in the data table.
    pub data: usize,
    /// Watches in both tables (`zk_watch_count`).
    pub total: usize,
}

/// An event to deliver, if its receiver may read the node whose list is `acl`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'a> {
    pub(super) kind: EventType,
    pub(super) path: &'a str,
    pub(super) acl: Option<&'a Arc<[Acl]>>,
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

    /// Leaves a one-shot watch. Setting it twice is one watch.
    pub(super) fn add(&mut self, kind: Kind, path: &str, conn: ConnId) -> Result<(), WatchesFull> {
        let full = self.bytes() + weight(path) > self.bytes_max;
        let table = match kind {
            Kind::Data => &mut self.data,
            Kind::Child => &mut self.child,
        };
        if full && !table.has(path, conn) {
            return Err(WatchesFull);
        }
        table.add(path, conn, Modes::STANDARD);
        Ok(())
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

    /// Fires what one change of one node triggers (docs/protocol.md §4.3): the data table for the node,
    /// on a delete the child table for it, with those already told left out, then the child table
    /// for the parent. Connections that have ended may be told too, until they are reaped.
    pub(super) fn trigger<'a>(
        &mut self,
        change: &'a Change,
        mut deliver: impl FnMut(ConnId, Event<'a>),
    ) {
        let path: &str = &change.path;
        let kind = match change.kind {
            ChangeKind::Created => EventType::Created,
            ChangeKind::Deleted => EventType::Deleted,
            ChangeKind::DataChanged => EventType::DataChanged,
        };
        let event = Event {
            kind,
            path,
            acl: Some(&change.acl),
        };
        let told = self.data.fire(path);
        for &conn in &told {
            deliver(conn, event);
        }
        if kind == EventType::Deleted {
            for conn in self.child.fire(path) {
                if told.binary_search(&conn).is_err() {
                    deliver(conn, event);
                }
            }
        }
        if kind != EventType::DataChanged
            && let Some(parent) = parent(path)
        {
            let event = Event {
                kind: EventType::ChildrenChanged,
                path: parent,
                acl: change.parent_acl.as_ref(),
            };
            for conn in self.child.fire(parent) {
                deliver(conn, event);
            }
        }
    }

    /// What a connection watches in the data table, in no order.
    pub(super) fn data_paths(&self, conn: ConnId) -> Option<&DetHashSet<Arc<str>>> {
        self.data.by_conn.get(&conn)
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

    /// One connection watches `watched` in the given tables; what does the change send it?
    fn row(watched: &[(Kind, &str)], kind: ChangeKind) -> (Vec<(EventType, String)>, usize) {
        let mut watches = Watches::new(1 << 20);
        for (table, path) in watched {
            watches.add(*table, path, conn(3)).unwrap();
        }
        let mut events = Vec::new();
        watches.trigger(&change(kind, "/p/n"), |to, event| {
            assert_eq!(to, conn(3));
            events.push((event.kind, event.path.to_owned()));
        });
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
            watches.add(Kind::Data, &path, conn(1)).unwrap();
        }
        watches.add(Kind::Data, &path, conn(2)).unwrap();
        watches.add(Kind::Data, "/b", conn(2)).unwrap();
        watches.add(Kind::Child, &path, conn(1)).unwrap();
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
                watches.add(Kind::Data, &path, conn(slot)).unwrap();
                watches.add(Kind::Child, "/", conn(slot)).unwrap();
            }
            watches.trigger(&change(ChangeKind::Created, &path), |_, _| {});
        }
        assert_eq!(watches.counts(), WatchCounts::default());
        assert!(watches.data.by_path.is_empty() && watches.child.by_path.is_empty());
        assert_eq!(watches.bytes(), 0);
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
                watches.add(Kind::Data, &path(name), conn(1)),
                Ok(()),
                "{name}"
            );
        }
        assert_eq!(
            watches.add(Kind::Data, &path("/d"), conn(1)),
            Err(WatchesFull)
        );
        assert_eq!(
            watches.add(Kind::Child, &path("/a"), conn(1)),
            Err(WatchesFull)
        );
        // One fires after its connection has ended, the others are reaped one at a time.
        watches.abandon(conn(1));
        assert_eq!(watches.counts().total, 0);
        assert_eq!(
            watches.add(Kind::Data, &path("/d"), conn(2)),
            Err(WatchesFull)
        );
        assert_eq!(watches.data.fire("/a"), [conn(1)]);
        assert_eq!(watches.add(Kind::Data, &path("/d"), conn(2)), Ok(()));
        assert_eq!(watches.bytes(), 3 * weight("/a"));
        while watches.reap() {}
        assert_eq!((watches.bytes(), watches.counts().total), (weight("/d"), 1));
    }
}
