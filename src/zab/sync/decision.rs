//! What a leader sends to a learner (docs/peer-protocol.md §2.6). p is what is durable at the learner, e its epoch, and
//! l(e) the leader's last transaction of e. A history has no gaps within an epoch, so nothing is searched for.
//!
//! | # | The learner's p | What | Followed by |
//! |---|---|---|---|
//! | 1 | below 0: nothing, or nothing to go on from; or a snapshot is forced | SNAP | what is behind the snapshot |
//! | 2 | the end of the leader's history | DIFF | nothing |
//! | 3 | in the leader's history, or 0, and its log holds all behind it | DIFF | what is behind p |
//! | 4 | e is in the history, p > l(e), and the log holds all behind l(e) | TRUNC to l(e) | what is behind l(e) |
//! | 5 | anything else | SNAP | what is behind the snapshot |
//!
//! Row 4 is right because one server leads an epoch, and whoever logged in e had the history before e: up to l(e) both
//! are the same. Without a transaction of e at the leader there is no such place *in* e. The learner holds the end of
//! the epoch before all the same, but possibly as a snapshot, and Apache's server cuts at the first record at or
//! behind the target: row 5. The same holds for p = (e, 0), which names no transaction.
//!
//! Apache cuts at the end of *its* history whatever the epoch of p, and sends what it finds in its log, of whichever
//! history (known failure O2, trap N14).

use crate::proto::peer::ToLearner;
use crate::types::Zxid;
use std::collections::BTreeMap;

/// How a synchronisation opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The learner keeps what it has.
    Diff,
    /// It keeps what it has up to here.
    Trunc,
    /// It takes a snapshot in place of what it has.
    Snap,
}

/// What a learner is sent before what it gets as everybody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opening {
    /// DIFF: all behind `base`, from the log.
    Diff {
        /// The learner's end.
        base: Zxid,
    },
    /// TRUNC to `base`, and all behind it, from the log.
    Trunc {
        /// Where both histories are the same.
        base: Zxid,
    },
    /// SNAP: the newest snapshot, and all behind it, from the log.
    Snap,
}

impl Opening {
    /// Its kind.
    pub fn cut(&self) -> Cut {
        match self {
            Opening::Diff { .. } => Cut::Diff,
            Opening::Trunc { .. } => Cut::Trunc,
            Opening::Snap => Cut::Snap,
        }
    }

    /// The first packet. `end` is where the leader's history ends now; `snapshot` is the zxid of the snapshot that is
    /// sent, and no part of any other opening.
    pub fn packet(&self, end: Zxid, snapshot: Zxid) -> ToLearner<'static> {
        match self {
            Opening::Diff { .. } => ToLearner::Diff(end),
            Opening::Trunc { base } => ToLearner::Trunc(*base),
            Opening::Snap => ToLearner::Snap(snapshot),
        }
    }
}

/// The committed history of a leader, as the synchronisations in its log tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// The last transaction of each epoch that has any.
    ends: BTreeMap<u32, Zxid>,
    /// The log holds everything behind this.
    log_from: Zxid,
}

impl History {
    /// Nothing yet; the log holds everything behind `log_from`. What a snapshot holds is named by its last transaction.
    pub fn new(log_from: Zxid) -> History {
        let mut history = History {
            ends: BTreeMap::new(),
            log_from,
        };
        history.extend(log_from);
        history
    }

    /// It goes on to here. Of one epoch only the last call matters.
    pub fn extend(&mut self, to: Zxid) {
        if to.counter() > 0 && to > self.end() {
            self.ends.insert(to.epoch(), to);
        }
    }

    /// Older segments of the log are gone.
    pub fn purged(&mut self, log_from: Zxid) {
        self.log_from = self.log_from.max(log_from);
    }

    /// The last transaction.
    pub fn end(&self) -> Zxid {
        let last = self.ends.last_key_value();
        last.map_or(Zxid::ZERO, |(_, end)| *end)
    }

    /// The last transaction of an epoch.
    fn end_of(&self, epoch: u32) -> Option<Zxid> {
        self.ends.get(&epoch).copied()
    }
}

/// The table above.
pub fn decide(p: Zxid, history: &History, is_snapshot_forced: bool) -> Opening {
    if p < Zxid::ZERO || is_snapshot_forced {
        return Opening::Snap;
    }
    if p == history.end() {
        return Opening::Diff { base: p };
    }
    let in_log = |base: Zxid| base >= history.log_from;
    match history.end_of(p.epoch()) {
        _ if p == Zxid::ZERO && in_log(p) => Opening::Diff { base: p },
        Some(end) if p.counter() > 0 && p <= end && in_log(p) => Opening::Diff { base: p },
        Some(end) if p > end && in_log(end) => Opening::Trunc { base: end },
        _ => Opening::Snap,
    }
}
