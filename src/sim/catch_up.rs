//! What a setWatches may have done, against the history: each path is worked off in some state, these
//! states follow one another, and each path gets what docs/protocol.md §4.6 says of its state: an event
//! at once, or a watch that every later change fires, exactly once.
//!
//! The client knows neither the states nor which paths left a watch in silence, so the check looks for all
//! states that explain everything that came. Where some of them leave a path a watch and others do not, the client
//! cannot know which it is.

use super::identity::Who;
use super::op::List;
use super::truth::{Trigger, Truth, WatchKind};
use crate::txn::Acl;
use crate::types::Zxid;
use std::collections::BTreeMap;
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

/// What a path of a setWatches has left, as far as the client can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// No watch, or one that is used up.
    Nothing,
    /// A watch in some explanations, and none in others.
    Perhaps,
    /// A watch.
    Watch,
}

/// How far an explanation has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stage {
    /// Paths that are worked off.
    items: usize,
    /// The last of them was worked off in this state.
    from: Zxid,
    /// Events in front of the first that may still say what was missed.
    heard: usize,
    /// Per event.
    explained: Vec<bool>,
}

/// All explanations, as far as they are known.
struct Search {
    /// Whether one goes on from a stage to the end.
    known: BTreeMap<Stage, bool>,
    /// Per path: whether one leaves nothing, and whether one leaves a watch.
    left: Vec<[bool; 2]>,
}

impl CatchUp<'_> {
    /// What each path has left; `None`: nothing explains what came, and what did not.
    pub(super) fn left(&self) -> Option<Vec<Left>> {
        let first = Stage {
            items: 0,
            from: self.from,
            heard: 0,
            explained: self.came.iter().map(|came| came.explained).collect(),
        };
        let mut search = Search {
            known: BTreeMap::new(),
            left: vec![[false; 2]; self.items.len()],
        };
        let left = |[nothing, watch]: [bool; 2]| match (nothing, watch) {
            (true, true) => Left::Perhaps,
            (_, true) => Left::Watch,
            _ => Left::Nothing,
        };
        let found = self.explains(first, &mut search);
        found.then(|| search.left.into_iter().map(left).collect())
    }

    /// Whether the paths behind the first ones, worked off in the state of the stage and later ones, explain the rest.
    /// Every explanation is looked at, so that the search knows all that a path may have left.
    fn explains(&self, stage: Stage, search: &mut Search) -> bool {
        if let Some(known) = search.known.get(&stage) {
            return *known;
        }
        let at = stage.items;
        let mut found = at == self.items.len()
            && self.missed_behind(stage.heard).is_none()
            && stage.explained.iter().all(|explained| *explained);
        for (next, watched) in self.steps(&stage) {
            if self.explains(next, search) {
                search.left[at][usize::from(watched)] = true;
                found = true;
            }
        }
        search.known.insert(stage, found);
        found
    }

    /// What the next path may come to, and whether it has a watch then.
    fn steps(&self, stage: &Stage) -> Vec<(Stage, bool)> {
        let Some((list, path)) = self.items.get(stage.items) else {
            return Vec::new();
        };
        let missed = self.missed_behind(stage.heard);
        let (from_missed, to_missed) = match missed {
            Some(n) if self.came[n].path == *path => {
                (stage.from.max(self.before(n)), self.behind(n))
            }
            _ => (stage.from, Zxid::ZERO),
        };
        let mut states = self.truth.changes(path, stage.from, self.to);
        states.extend([stage.from, from_missed]);
        states.sort_unstable();
        states.dedup();
        let mut steps = Vec::new();
        for state in states {
            let mut next = Stage {
                items: stage.items + 1,
                from: state,
                ..stage.clone()
            };
            match (list.missed(self.truth, path, self.seen, state), missed) {
                (Some(event), Some(n))
                    if (from_missed..=to_missed).contains(&state)
                        && self.came[n].event == event =>
                {
                    next.heard = n + 1;
                    next.explained[n] = true;
                    steps.push((next, false));
                }
                (Some(_), _) => {}
                (None, _) => steps.extend(self.registers(*list, path, next)),
            }
        }
        steps
    }

    /// The path leaves a watch in the state of `next`: what that comes to, and whether the watch is still there at the
    /// end. `None`: it would have fired, and the client was not told.
    fn registers(&self, list: List, path: &Arc<str>, mut next: Stage) -> Option<(Stage, bool)> {
        let fires = self.truth.first_trigger(path, list.kind(), next.from);
        let Some(fires) = fires.filter(|trigger| trigger.zxid <= self.to) else {
            return Some((next, true));
        };
        match self.position(path, fires) {
            Some(n) => next.explained[n] = true,
            // The watch is used up in silence.
            None if !self.who.may(Acl::READ, &fires.acl) => {}
            None => return None,
        }
        Some((next, false))
    }

    /// The next event that says what was missed.
    fn missed_behind(&self, heard: usize) -> Option<usize> {
        (heard..self.came.len()).find(|&n| self.came[n].zxid.is_none())
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
        let create = |path: &str| create(path, anyone(Acl::ALL));
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

    fn create(path: &str, acl: Acl) -> Op {
        Op::Create {
            path: path.into(),
            data: None,
            kind: Kind::Plain,
            sequential: false,
            acl: [acl].into(),
            with_stat: false,
        }
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
    fn left(seen: i64, came: &[(&str, i64, i32)]) -> Option<Vec<Left>> {
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
        .left()
    }

    #[test]
    fn each_path_is_explained_by_one_state_and_the_states_follow_one_another() {
        let gone = Some(vec![Left::Nothing; 2]);
        assert_eq!(left(1, &[("/a", 2, 3), ("/b", 3, 1)]), gone);
        assert_eq!(left(1, &[("/a", 2, 3), ("/b", 0, 1)]), gone);
        assert_eq!(left(1, &[("/a", 0, 3), ("/b", 0, 1)]), gone);
        assert_eq!(left(2, &[("/b", 3, 1), ("/a", 4, 3)]), gone);
        let alive = Some(vec![Left::Watch, Left::Nothing]);
        assert_eq!(left(4, &[("/b", 0, 1)]), alive);
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
            assert_eq!(left(1, came), None, "{came:?}");
        }
        // The path behind was worked off before `/b` was there, so this one was, too.
        let early = [("/a", 0, 3), ("/b", 3, 1)];
        assert!(left(1, &early).is_some());
        assert_eq!(left(2, &early), None);
    }

    /// `/a`, which `acl` protects, is made by 1 and deleted by 2; what an exist item of it leaves for somebody who may
    /// be told of that, or not, between the states 0 and `to`. `told`: an earlier watch has told of 1.
    fn left_of_what_came_and_went(acl: Acl, told: bool, to: i64) -> Option<Vec<Left>> {
        let mut truth = Truth::new(Zxid::ZERO);
        let delete = Op::Delete {
            path: "/a".into(),
            version: -1,
        };
        truth.done(0, create("/a", acl));
        truth.done(0, delete);
        let came = [Came {
            path: "/a".into(),
            zxid: Some(Zxid(1)),
            event: 1,
            explained: true,
        }];
        CatchUp {
            truth: &truth,
            seen: Zxid::ZERO,
            items: &[(List::Exist, "/a".into())],
            came: &came[..usize::from(told)],
            from: Zxid::ZERO,
            to: Zxid(to),
            who: &Who::at("127.0.0.1"),
        }
        .left()
    }

    #[test]
    fn what_explanations_leave_differently_is_there_perhaps() {
        let (open, hidden) = (anyone(Acl::ALL), anyone(Acl::WRITE));
        for (acl, told, to, due) in [
            // Worked off at first, it has fired in silence; in the end, it has not fired.
            (&hidden, false, 2, Some(Left::Perhaps)),
            (&hidden, false, 1, Some(Left::Nothing)),
            (&hidden, false, 0, Some(Left::Watch)),
            // Worked off at first, it would have told.
            (&open, false, 2, Some(Left::Watch)),
            (&open, false, 1, None),
            // Worked off at first, it has told together with the earlier one.
            (&open, true, 2, Some(Left::Perhaps)),
            (&open, true, 1, Some(Left::Nothing)),
        ] {
            let left = left_of_what_came_and_went(acl.clone(), told, to);
            let case = (acl, told, to);
            assert_eq!(left, due.map(|due| vec![due]), "{case:?}");
        }
    }
}
