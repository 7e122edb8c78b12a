//! Persistent and recursive watches of one connection, against the history: each change that one covers is
//! told once, whatever else covers it, and before any reply that reflects it.

use super::identity::Who;
use super::op::List;
use super::truth::{Change, Truth, WatchKind};
use crate::txn::Acl;
use crate::types::Zxid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Path, and whether the watch is recursive.
type Watch = (Arc<str>, bool);

/// A change as it is told: transaction, path, type of the event.
type Told = (Zxid, Arc<str>, i32);

/// What a client knows of its watches.
#[derive(Default)]
pub(super) struct Lasting {
    /// Each with the state in which it was set.
    watches: BTreeMap<Watch, Zxid>,
    /// Those of earlier connections that no setWatches2 has set again.
    lost: BTreeSet<Watch>,
    /// How often an event has come since the last reply.
    came: BTreeMap<Told, usize>,
    /// The state of the last reply.
    verified: Zxid,
}

/// Whether a watch covers a change that a standard watch of this kind on `path` would notice.
fn covers(watched: &str, recursive: bool, kind: WatchKind, path: &str) -> bool {
    let below = || {
        let rest = path.strip_prefix(watched);
        watched == "/" || rest.is_some_and(|rest| rest.starts_with('/'))
    };
    match kind {
        WatchKind::Data => path == watched || (recursive && below()),
        WatchKind::Child => path == watched && !recursive,
    }
}

/// The watches of a setWatches2 that last.
fn of_items(items: &[(List, Arc<str>)]) -> impl Iterator<Item = (&Arc<str>, bool)> {
    let items = items.iter();
    items.filter_map(|(list, path)| Some((path, list.lasts()?)))
}

fn kind_of(event: i32) -> WatchKind {
    match event {
        4 => WatchKind::Child,
        _ => WatchKind::Data,
    }
}

impl Lasting {
    /// A connection begins.
    pub(super) fn connect(&mut self, seen: Zxid) {
        let watches = std::mem::take(&mut self.watches).into_keys();
        self.lost.extend(watches);
        self.came.clear();
        self.verified = seen;
    }

    /// A setWatches2 was not answered.
    pub(super) fn lose(&mut self, items: &[(List, Arc<str>)]) {
        let items = of_items(items).map(|(path, recursive)| (path.clone(), recursive));
        self.lost.extend(items);
    }

    /// Whether some of earlier connections are not set again.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The client does without those of earlier connections.
    pub(super) fn forget_lost(&mut self) {
        self.lost.clear();
    }

    /// Some of the watches that earlier connections had.
    pub(super) fn take_lost(&mut self, most: usize) -> Vec<(List, Arc<str>)> {
        let some: Vec<Watch> = self.lost.iter().take(most).cloned().collect();
        let item = |(path, recursive): Watch| {
            self.lost.remove(&(path.clone(), recursive));
            let list = match recursive {
                true => List::Recursive,
                false => List::Persistent,
            };
            (list, path)
        };
        some.into_iter().map(item).collect()
    }

    /// An addWatch was answered in this state.
    pub(super) fn add(&mut self, path: &Arc<str>, recursive: bool, at: Zxid) {
        self.watches.entry((path.clone(), recursive)).or_insert(at);
    }

    /// A setWatches2 was answered in this state.
    pub(super) fn set(&mut self, items: &[(List, Arc<str>)], at: Zxid) {
        for (path, recursive) in of_items(items) {
            self.add(path, recursive, at);
        }
    }

    /// Whether there is one, of a type of checkWatches.
    pub(super) fn has(&self, path: &Arc<str>, of: i32) -> bool {
        let has = |recursive| self.watches.contains_key(&(path.clone(), recursive));
        match of {
            3 => has(false) || has(true),
            4 => has(false),
            5 => has(true),
            _ => false,
        }
    }

    /// They are removed.
    pub(super) fn remove(&mut self, path: &Arc<str>, of: i32) {
        self.watches.retain(|(watched, recursive), _| {
            let meant = of == 3 || of == if *recursive { 5 } else { 4 };
            watched != path || !meant
        });
    }

    /// An event has come; whether a watch explains it, of somebody who is at most `who`. `setting`: a setWatches
    /// with these lists is under way.
    pub(super) fn came(
        &mut self,
        told: (Zxid, &str, i32),
        setting: &[(List, Arc<str>)],
        who: &Who,
        truth: &Truth,
    ) -> bool {
        let (zxid, path, event) = told;
        let kind = kind_of(event);
        let mut watches = self.watches.iter();
        let is_due = watches.any(|((watched, recursive), since)| {
            *since < zxid && covers(watched, *recursive, kind, path)
        });
        let may_be =
            of_items(setting).any(|(watched, recursive)| covers(watched, recursive, kind, path));
        *self.came.entry((zxid, path.into(), event)).or_default() += 1;
        let mut happened = truth.noticed(Zxid(zxid.0 - 1), zxid);
        let is_it = |change: &Change| {
            (&*change.path, change.kind, change.event) == (path, kind, event)
                && who.may(Acl::READ, &change.acl)
        };
        (is_due || may_be) && happened.any(|(_, change)| is_it(change))
    }

    /// A reply of the state `zxid` came: what was due up to there has come, and nothing twice. `setting`: it
    /// is that of a setWatches with these lists, whose watches were set in some state before. Who was told is
    /// `sure` at least, and at most `who`.
    pub(super) fn before(
        &mut self,
        zxid: Zxid,
        setting: &[(List, Arc<str>)],
        (sure, who): (&Who, &Who),
        truth: &Truth,
    ) -> Result<(), String> {
        let since = std::mem::replace(&mut self.verified, zxid);
        if self.watches.is_empty() && of_items(setting).next().is_none() {
            self.came.clear();
            return Ok(());
        }
        // How often a watch must have told it, and how often it may have.
        let mut due: BTreeMap<Told, (usize, usize)> = BTreeMap::new();
        for (at, change) in truth.noticed(since, zxid) {
            let (path, kind, event) = (&change.path, change.kind, change.event);
            if kind != kind_of(event) {
                // The end of a node, which its data watches notice too.
                continue;
            }
            let mut watches = self.watches.iter();
            let must = watches.any(|((watched, recursive), since)| {
                *since < at && covers(watched, *recursive, kind, path)
            });
            let may = of_items(setting)
                .any(|(watched, recursive)| covers(watched, recursive, kind, path));
            if !must && !may {
                continue;
            }
            let reads = |who: &Who| who.may(Acl::READ, &change.acl);
            let (least, most) = due.entry((at, path.clone(), event)).or_default();
            *least += usize::from(must && reads(sure));
            *most += usize::from(reads(who));
        }
        let came = std::mem::take(&mut self.came);
        for (told, (least, most)) in due {
            let came = came.get(&told).copied().unwrap_or_default();
            // Whatever is due to a standard watch alone is no matter of these.
            if came < least || most > 0 && came > most {
                let (at, path, event) = told;
                return Err(format!(
                    "event {event} of {at} on {path} came {came} times before a reply at {zxid}, due were \
                     {least} to {most}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_watch_covers() {
        use WatchKind::{Child, Data};
        for (watched, recursive, kind, path, due) in [
            ("/a", false, Data, "/a", true),
            ("/a", false, Child, "/a", true),
            ("/a", false, Data, "/a/b", false),
            ("/a", true, Data, "/a", true),
            ("/a", true, Child, "/a", false),
            ("/a", true, Data, "/a/b/c", true),
            ("/a", true, Child, "/a/b", false),
            ("/a", true, Data, "/ab", false),
            ("/", true, Data, "/a", true),
            ("/", true, Data, "/", true),
            ("/", false, Child, "/", true),
            ("/", false, Data, "/a", false),
        ] {
            let case = (watched, recursive, kind, path);
            assert_eq!(covers(watched, recursive, kind, path), due, "{case:?}");
        }
    }
}
