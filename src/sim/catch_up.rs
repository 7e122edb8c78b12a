//! What a setWatches may have done, against the history: each path is worked off in some state, these
//! states follow one another, and each path gets what docs/protocol.md §4.6 says of its state: an event
//! at once, or a watch that every later change fires, exactly once.
//!
//! The client knows neither the states nor which paths left a watch in silence, so the check looks for
//! states that explain everything that came.

use super::identity::Who;
use super::op::List;
use super::truth::{Trigger, Truth, WatchKind};
use crate::txn::Acl;
use crate::types::Zxid;
use std::sync::Arc;

impl List {
    /// The standard watch that a path of the list leaves.
    pub(super) fn kind(self) -> WatchKind {
        match self {
            List::Data | List::Exist => WatchKind::Data,
            List::Child => WatchKind::Child,
            List::Persistent | List::Recursive => unreachable!("`lasting` checks these"),
        }
    }

    /// The event of a path that is worked off after `zxid`; `None`: it leaves a watch.
    fn missed(self, truth: &Truth, path: &str, seen: Zxid, zxid: Zxid) -> Option<i32> {
        match (self, truth.node_at(path, zxid)) {
            (List::Exist, node) => node.map(|_| 1),
            (_, None) => Some(2),
            (List::Data, Some(node)) => (node.mzxid > seen).then_some(3),
            (_, Some(node)) => (node.pzxid > seen).then_some(4),
        }
    }
}

/// An event that came while a setWatches was the oldest request without a reply.
#[derive(Clone, Debug)]
pub(super) struct Came {
    pub(super) path: Arc<str>,
    /// Of the transaction; `None`: the event says what was missed.
    pub(super) zxid: Option<Zxid>,
    pub(super) event: i32,
    /// A watch from before the request explains it.
    pub(super) explained: bool,
}

/// A setWatches with everything that came for it.
pub(super) struct CatchUp<'a> {
    pub(super) truth: &'a Truth,
    /// The relativeZxid of the request.
    pub(super) seen: Zxid,
    pub(super) items: &'a [(List, Arc<str>)],
    pub(super) came: &'a [Came],
    /// The first path was worked off in this state or a later one.
    pub(super) from: Zxid,
    /// The reply is of this state.
    pub(super) to: Zxid,
    /// Who was told for sure: an event that this one may not read need not come.
    pub(super) who: &'a Who,
}

impl CatchUp<'_> {
    /// The paths that have a watch now; `None`: nothing explains what came, and what did not.
    pub(super) fn watched(&self) -> Option<Vec<bool>> {
        let mut explained: Vec<bool> = self.came.iter().map(|came| came.explained).collect();
        let mut watched = Vec::new();
        let found = self.explains(self.from, 0, &mut explained, &mut watched);
        found.then_some(watched)
    }

    /// Whether the items behind those in `watched`, worked off in the state `from` and later ones, explain
    /// the events behind the first `heard`.
    fn explains(
        &self,
        from: Zxid,
        heard: usize,
        explained: &mut Vec<bool>,
        watched: &mut Vec<bool>,
    ) -> bool {
        let missed = (heard..self.came.len()).find(|&n| self.came[n].zxid.is_none());
        let Some((list, path)) = self.items.get(watched.len()) else {
            return missed.is_none() && explained.iter().all(|explained| *explained);
        };
        let (from_missed, to_missed) = match missed {
            Some(n) if self.came[n].path == *path => (from.max(self.before(n)), self.behind(n)),
            _ => (from, Zxid::ZERO),
        };
        let mut states = self.truth.changes(path, from, self.to);
        states.extend([from, from_missed]);
        states.sort_unstable();
        states.dedup();
        for state in states {
            match (list.missed(self.truth, path, self.seen, state), missed) {
                (Some(event), Some(n))
                    if (from_missed..=to_missed).contains(&state)
                        && self.came[n].event == event =>
                {
                    watched.push(false);
                    explained[n] = true;
                    if self.explains(state, n + 1, explained, watched) {
                        return true;
                    }
                    explained[n] = false;
                    watched.pop();
                }
                (Some(_), _) => {}
                (None, _) => {
                    if self.registers(*list, path, state, heard, explained, watched) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Whether it explains everything that the path leaves a watch in this state.
    fn registers(
        &self,
        list: List,
        path: &Arc<str>,
        state: Zxid,
        heard: usize,
        explained: &mut Vec<bool>,
        watched: &mut Vec<bool>,
    ) -> bool {
        let fires = self.truth.first_trigger(path, list.kind(), state);
        let Some(fires) = fires.filter(|trigger| trigger.zxid <= self.to) else {
            watched.push(true);
            let found = self.explains(state, heard, explained, watched);
            if !found {
                watched.pop();
            }
            return found;
        };
        let Some(n) = self.position(path, fires) else {
            // The watch is used up in silence.
            watched.push(false);
            let found = !self.who.may(Acl::READ, &fires.acl)
                && self.explains(state, heard, explained, watched);
            if !found {
                watched.pop();
            }
            return found;
        };
        let before = std::mem::replace(&mut explained[n], true);
        watched.push(false);
        let found = self.explains(state, heard, explained, watched);
        if !found {
            explained[n] = before;
            watched.pop();
        }
        found
    }

    fn position(&self, path: &Arc<str>, fires: &Trigger) -> Option<usize> {
        let told = (path, Some(fires.zxid), fires.event);
        let same = |came: &Came| (&came.path, came.zxid, came.event) == told;
        self.came.iter().position(same)
    }

    /// The state that an event in front of the `n`th shows.
    fn before(&self, n: usize) -> Zxid {
        let shown = self.came[..n].iter().rev().find_map(|came| came.zxid);
        shown.unwrap_or(Zxid::ZERO)
    }

    /// The last state before the one that an event behind the `n`th shows.
    fn behind(&self, n: usize) -> Zxid {
        let shown = self.came[n..].iter().find_map(|came| came.zxid);
        shown.map_or(self.to, |zxid| Zxid(zxid.0 - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::op::{Kind, Op};

    /// `/a` is made by 1, changed by 2 and by 4; `/b` is made by 3.
    fn history() -> Truth {
        let mut truth = Truth::new(Zxid::ZERO);
        let create = |path: &str| Op::Create {
            path: path.into(),
            data: None,
            kind: Kind::Plain,
            sequential: false,
            acl: [anyone(Acl::ALL)].into(),
            with_stat: false,
        };
        let change = || Op::SetData {
            path: "/a".into(),
            data: None,
            version: -1,
        };
        for op in [create("/a"), change(), create("/b"), change()] {
            truth.done(0, op);
        }
        truth
    }

    fn anyone(perms: i32) -> Acl {
        Acl {
            perms,
            scheme: "world".into(),
            id: "anyone".into(),
        }
    }

    /// A request that has seen `seen`, is worked off between the states 1 and 4, and for which this
    /// comes: path, zxid, or 0 for what was missed, and event.
    fn watched(seen: i64, came: &[(&str, i64, i32)]) -> Option<Vec<bool>> {
        let came: Vec<Came> = came
            .iter()
            .map(|&(path, zxid, event)| Came {
                path: path.into(),
                zxid: (zxid > 0).then_some(Zxid(zxid)),
                event,
                explained: false,
            })
            .collect();
        CatchUp {
            truth: &history(),
            seen: Zxid(seen),
            items: &[(List::Data, "/a".into()), (List::Exist, "/b".into())],
            came: &came,
            from: Zxid(1),
            to: Zxid(4),
            who: &Who::at("127.0.0.1"),
        }
        .watched()
    }

    #[test]
    fn each_path_is_explained_by_one_state_and_the_states_follow_one_another() {
        let gone = Some(vec![false, false]);
        assert_eq!(watched(1, &[("/a", 2, 3), ("/b", 3, 1)]), gone);
        assert_eq!(watched(1, &[("/a", 2, 3), ("/b", 0, 1)]), gone);
        assert_eq!(watched(1, &[("/a", 0, 3), ("/b", 0, 1)]), gone);
        assert_eq!(watched(2, &[("/b", 3, 1), ("/a", 4, 3)]), gone);
        let alive = Some(vec![true, false]);
        assert_eq!(watched(4, &[("/b", 0, 1)]), alive);
    }

    #[test]
    fn what_is_lost_repeated_or_out_of_its_place_is_explained_by_nothing() {
        let wrong: [&[_]; 6] = [
            &[("/a", 0, 3)],
            &[("/b", 0, 1)],
            &[("/a", 0, 3), ("/a", 0, 3), ("/b", 0, 1)],
            &[("/a", 2, 3), ("/a", 4, 3), ("/b", 0, 1)],
            &[("/b", 0, 1), ("/a", 0, 3)],
            &[("/a", 0, 2), ("/b", 0, 1)],
        ];
        for came in wrong {
            assert_eq!(watched(1, came), None, "{came:?}");
        }
        // The path behind was worked off before `/b` was there, so this one was, too.
        let early = [("/a", 0, 3), ("/b", 3, 1)];
        assert!(watched(1, &early).is_some());
        assert_eq!(watched(2, &early), None);
    }
}
