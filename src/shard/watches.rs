//! Who watches what (client.md §4).
//!
//! Two tables, data and child, keyed by path; in each, a connection has a set of modes per path.
//! Only standard (one-shot) watches can be set so far; the set leaves room for the others.

use crate::proto::reply::EventType;
use crate::tree::{Change, ChangeKind};
use crate::txn::Acl;
use crate::types::{ConnId, DetHashMap, DetHashSet};
use std::collections::BTreeMap;
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

/// One table. The two maps hold the same pairs: by path to fire, by connection to forget.
#[derive(Debug, Default)]
struct Table {
    by_path: DetHashMap<Arc<str>, BTreeMap<ConnId, Modes>>,
    by_conn: DetHashMap<ConnId, DetHashSet<Arc<str>>>,
    pairs: usize,
}

impl Table {
    fn add(&mut self, path: &Arc<str>, conn: ConnId, mode: Modes) {
        let modes = self
            .by_path
            .entry(Arc::clone(path))
            .or_default()
            .entry(conn)
            .or_default();
        if modes.is_empty() {
            let paths = self.by_conn.entry(conn).or_default();
            assert!(paths.insert(Arc::clone(path)), "the maps differ");
            self.pairs += 1;
        }
        modes.add(mode);
    }

    /// Takes the standard watches off a path; says who had one, in order of connection.
    fn fire(&mut self, path: &str) -> Vec<ConnId> {
        let Some(conns) = self.by_path.get_mut(path) else {
            return Vec::new();
        };
        let fired: Vec<ConnId> = conns.keys().copied().collect();
        conns.retain(|conn, modes| {
            modes.remove(Modes::STANDARD);
            if modes.is_empty() {
                forget_path(&mut self.by_conn, *conn, path);
                self.pairs -= 1;
            }
            !modes.is_empty()
        });
        if conns.is_empty() {
            self.by_path.remove(path);
        }
        fired
    }

    fn forget(&mut self, conn: ConnId) {
        for path in self.by_conn.remove(&conn).unwrap_or_default() {
            let conns = self.by_path.get_mut(&path).expect("the maps differ");
            assert!(conns.remove(&conn).is_some(), "the maps differ");
            if conns.is_empty() {
                self.by_path.remove(&path);
            }
            self.pairs -= 1;
        }
    }
}

fn forget_path(by_conn: &mut DetHashMap<ConnId, DetHashSet<Arc<str>>>, conn: ConnId, path: &str) {
    let paths = by_conn.get_mut(&conn).expect("the maps differ");
    assert!(paths.remove(path), "the maps differ");
    if paths.is_empty() {
        by_conn.remove(&conn);
    }
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

/// All watches of a shard.
#[derive(Debug, Default)]
pub(super) struct Watches {
    data: Table,
    child: Table,
}

impl Watches {
    /// Leaves a one-shot watch. Setting it twice is one watch.
    pub(super) fn add(&mut self, kind: Kind, path: &Arc<str>, conn: ConnId) {
        match kind {
            Kind::Data => self.data.add(path, conn, Modes::STANDARD),
            Kind::Child => self.child.add(path, conn, Modes::STANDARD),
        }
    }

    /// Takes away everything that a connection watches.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.data.forget(conn);
        self.child.forget(conn);
    }

    /// Fires what one change of one node triggers (client.md §4.3): the data table for the node,
    /// on a delete the child table for it, with those already told left out, then the child table
    /// for the parent.
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
        let mut watches = Watches::default();
        for (table, path) in watched {
            watches.add(*table, &Arc::from(*path), conn(3));
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
        let mut watches = Watches::default();
        let path: Arc<str> = "/a".into();
        for _ in 0..2 {
            watches.add(Kind::Data, &path, conn(1));
        }
        watches.add(Kind::Data, &path, conn(2));
        watches.add(Kind::Data, &Arc::from("/b"), conn(2));
        watches.add(Kind::Child, &path, conn(1));
        let counts = WatchCounts {
            connections: 2,
            paths: 2,
            data: 3,
            total: 4,
        };
        assert_eq!(watches.counts(), counts);
        watches.forget(conn(1));
        let counts = WatchCounts {
            connections: 1,
            paths: 2,
            data: 2,
            total: 2,
        };
        assert_eq!(watches.counts(), counts);
        watches.forget(conn(2));
        assert_eq!(watches.counts(), WatchCounts::default());
        assert!(watches.data.by_path.is_empty() && watches.child.by_path.is_empty());
    }
}
