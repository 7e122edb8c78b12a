//! The commit core's end of what goes down to one replica.
//!
//! | State | Entered when | What a new batch does |
//! |---|---|---|
//! | attached | at the start; the log in between was given | goes out, if the replica has taken enough; or detaches |
//! | detached | the replica has too much before it; the tail got too long; a part of the log was given | only what is for this replica alone is kept |
//! | catching up | a detached replica has taken all that it has; the log up to `upto` was asked for | is kept as the tail, and what is for this replica alone too, in case the tail is dropped |
//!
//! What the log does not tell (which connection a transaction answers, notices) is bounded by the
//! replica's credits, its connections and its sessions. Memory is bounded by the limits, twice: once
//! for what the replica has before it, once for the tail.

use crate::lane::{Committed, Down, Notice, Origin, Stamps};
use crate::txn::{Entry, Txn};
use crate::types::{Generation, ShardId, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// How far a replica may fall behind before it is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLimits {
    /// Transactions and notices.
    pub entries: u64,
    /// Their bytes in memory, roughly.
    pub bytes: u64,
}

impl RingLimits {
    /// design.md §10.
    pub const DEFAULT: RingLimits = RingLimits {
        entries: 65_536,
        bytes: 16 << 20,
    };
}

/// What the commit core said in one turn, shared by all replicas.
#[derive(Debug)]
pub struct Batch {
    /// In order; notices also of other shards.
    pub entries: Vec<Down>,
    /// Rough size in memory.
    pub bytes: u64,
}

impl Batch {
    pub(super) fn new(entries: Vec<Down>) -> Arc<Batch> {
        let bytes = entries.iter().map(weight).sum();
        Arc::new(Batch { entries, bytes })
    }
}

/// Of an entry in memory, bytes; what it holds on the heap is rounded up.
fn weight(down: &Down) -> u64 {
    const FIXED: u64 = 320;
    match down {
        Down::Txn(txn) => FIXED + heap(&txn.entry.txn),
        Down::Notice(..) => FIXED,
    }
}

fn heap(txn: &Txn) -> u64 {
    let data = |data: &Option<Arc<[u8]>>| data.as_ref().map_or(0, |data| data.len() as u64 + 16);
    match txn {
        Txn::Create(create) => create.path.len() as u64 + data(&create.data),
        Txn::SetData {
            path, data: new, ..
        } => path.len() as u64 + data(new),
        Txn::CloseSession { paths } => {
            let lengths = paths.iter().flatten().map(|path| path.len() as u64 + 32);
            lengths.sum()
        }
        Txn::Multi(parts) => parts.iter().map(|(_, part)| 64 + heap(part)).sum(),
        _ => 64,
    }
}

/// What the log does not tell a replica that catches up.
#[derive(Debug)]
enum Private {
    Outcome {
        zxid: Zxid,
        origin: Origin,
        generation: Generation,
        stamps: Stamps,
    },
    Notice {
        after: Zxid,
        notice: Notice,
    },
}

impl Private {
    fn place(&self) -> Zxid {
        match self {
            Private::Outcome { zxid, .. } => *zxid,
            Private::Notice { after, .. } => *after,
        }
    }
}

#[derive(Debug)]
enum State {
    Attached,
    Detached,
    CatchingUp {
        upto: Zxid,
        /// How many of `private` came before the tail began.
        before_tail: usize,
        tail: Vec<Arc<Batch>>,
        entries: u64,
        bytes: u64,
    },
}

/// For `mntr` and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Times that the replica was too far behind.
    pub detached: u64,
    /// Times that it was where the others are again.
    pub rejoined: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    shard: ShardId,
    limits: RingLimits,
    state: State,
    /// Ready to be handed over.
    out: VecDeque<Arc<Batch>>,
    /// Since the start.
    given: (u64, u64),
    /// The last transaction given.
    given_to: Zxid,
    private: VecDeque<Private>,
    counters: LinkCounters,
}

impl Link {
    /// To a replica that has reached `zxid`.
    pub(super) fn new(shard: ShardId, limits: RingLimits, zxid: Zxid) -> Link {
        Link {
            shard,
            limits,
            state: State::Attached,
            out: VecDeque::new(),
            given: (0, 0),
            given_to: zxid,
            private: VecDeque::new(),
            counters: LinkCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> LinkCounters {
        self.counters
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached)
    }

    /// The log is needed behind this.
    pub(super) fn given_to(&self) -> Zxid {
        self.given_to
    }

    /// A batch for every replica; `before` is the last transaction before it. `taken`: what this
    /// replica has taken since the start.
    pub(super) fn offer(&mut self, batch: &Arc<Batch>, before: Zxid, taken: (u64, u64)) {
        let n = batch.entries.len() as u64;
        match &mut self.state {
            State::Attached => {
                let entries = self.given.0 - taken.0 + n;
                let bytes = self.given.1 - taken.1 + batch.bytes;
                // A replica that has nothing before it takes a batch of any size.
                let fits = entries <= self.limits.entries && bytes <= self.limits.bytes;
                if fits || self.given.0 == taken.0 {
                    self.give(batch.clone());
                } else {
                    self.state = State::Detached;
                    self.counters.detached += 1;
                    self.keep_private(batch, before);
                }
            }
            State::Detached => self.keep_private(batch, before),
            State::CatchingUp {
                tail,
                entries,
                bytes,
                ..
            } => {
                *entries += n;
                *bytes += batch.bytes;
                tail.push(batch.clone());
                if *entries > self.limits.entries || *bytes > self.limits.bytes {
                    tail.clear();
                    (*entries, *bytes) = (u64::MAX / 2, 0);
                }
                self.keep_private(batch, before);
            }
        }
    }

    /// The next batch for the replica.
    pub(super) fn poll(&mut self) -> Option<Arc<Batch>> {
        self.out.pop_front()
    }

    /// Whether the log should be read for this replica now: it is detached, and has taken
    /// everything that it was given. Everything up to `upto` was offered.
    pub(super) fn begin_catch_up(&mut self, upto: Zxid, taken: (u64, u64)) -> Option<(Zxid, Zxid)> {
        if !matches!(self.state, State::Detached) || taken.0 != self.given.0 {
            return None;
        }
        self.state = State::CatchingUp {
            upto,
            before_tail: self.private.len(),
            tail: Vec::new(),
            entries: 0,
            bytes: 0,
        };
        Some((self.given_to, upto))
    }

    /// A run of the log, from where the replica is; it may end before what was asked for.
    pub(super) fn caught_up(&mut self, log: Vec<Arc<Entry>>) {
        let State::CatchingUp {
            upto,
            before_tail,
            tail,
            entries,
            ..
        } = std::mem::replace(&mut self.state, State::Detached)
        else {
            panic!("a run of the log that nobody asked for");
        };
        let reached = log.last().map_or(self.given_to, |e| e.header.zxid);
        let whole = reached == upto && entries <= self.limits.entries;
        let known = if whole {
            before_tail
        } else {
            self.private.len()
        };
        let batch = self.with_private(log, known, whole);
        if !batch.is_empty() {
            self.give(Batch::new(batch));
        }
        if whole {
            self.private.clear();
            self.state = State::Attached;
            self.counters.rejoined += 1;
            for batch in tail {
                self.give(batch);
            }
        }
    }

    /// The run of the log with the first `known` entries of what is for this replica alone, each in
    /// its place. What comes behind the last transaction of a run that is not the last one may be
    /// incomplete, and waits for the next.
    fn with_private(&mut self, log: Vec<Arc<Entry>>, known: usize, whole: bool) -> Vec<Down> {
        let later = self.private.split_off(known);
        let mut batch = Vec::with_capacity(log.len() + known);
        self.notices_after(self.given_to, &mut batch);
        let last = log.len();
        for (nth, entry) in (1..).zip(log) {
            let zxid = entry.header.zxid;
            let mut txn = Committed {
                origin: None,
                entry,
                generation: Generation(0),
                stamps: Stamps::default(),
            };
            if let Some(&Private::Outcome {
                zxid: its,
                origin,
                generation,
                stamps,
            }) = self.private.front()
                && its == zxid
            {
                (txn.origin, txn.generation, txn.stamps) = (Some(origin), generation, stamps);
                self.private.pop_front();
            }
            batch.push(Down::Txn(txn));
            if nth < last || whole {
                self.notices_after(zxid, &mut batch);
            }
        }
        assert!(self.private.is_empty() || !whole, "all of it has a place");
        self.private.extend(later);
        batch
    }

    fn notices_after(&mut self, zxid: Zxid, batch: &mut Vec<Down>) {
        while let Some(Private::Notice { after, .. }) = self.private.front()
            && *after <= zxid
            && let Some(Private::Notice { notice, .. }) = self.private.pop_front()
        {
            batch.push(Down::Notice(self.shard, notice));
        }
    }

    fn give(&mut self, batch: Arc<Batch>) {
        self.given.0 += batch.entries.len() as u64;
        self.given.1 += batch.bytes;
        let last = batch.entries.iter().rev().find_map(|down| match down {
            Down::Txn(txn) => Some(txn.entry.header.zxid),
            Down::Notice(..) => None,
        });
        self.given_to = last.unwrap_or(self.given_to);
        self.out.push_back(batch);
    }

    fn keep_private(&mut self, batch: &Batch, mut before: Zxid) {
        for down in &batch.entries {
            match down {
                Down::Txn(txn) => {
                    before = txn.entry.header.zxid;
                    if let Some(origin) = txn.origin.filter(|o| o.shard == self.shard) {
                        self.private.push_back(Private::Outcome {
                            zxid: before,
                            origin,
                            generation: txn.generation,
                            stamps: txn.stamps,
                        });
                    }
                }
                Down::Notice(shard, notice) if *shard == self.shard => {
                    self.private.push_back(Private::Notice {
                        after: before,
                        notice: notice.clone(),
                    });
                }
                Down::Notice(..) => {}
            }
        }
        debug_assert!(self.private.iter().is_sorted_by_key(Private::place));
    }
}
